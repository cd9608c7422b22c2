"""Where the course lies on disk: its folders, its ledger, and files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

from cnncourse.errors import ParameterError, nearest


def root() -> Path:
    """The folder that holds notebooks/, figures/ and cnncourse/: the working tree, or CNNCOURSE_ROOT when set."""
    own = os.environ.get("CNNCOURSE_ROOT")
    return Path(own).resolve() if own else Path(__file__).resolve().parents[1]


def notebooks() -> Path:
    """The folder of the lessons."""
    return root() / "notebooks"


def build() -> Path:
    """The ignored folder for executed copies, reports and scratch figures."""
    return root() / "build"


def lessons() -> dict[str, Path]:
    """Number to notebook, of the lessons that are stored: ``{"01": .../01_knn-and-cross-validation.ipynb}``."""
    return {path.name[:2]: path for path in sorted(notebooks().glob("[0-9][0-9]_*.ipynb"))}


def slugs(folder: Path | None = None) -> list[str]:
    """The lessons of a folder (default: notebooks/) that have a notebook or a text, ``["04_convolution-..."]``."""
    folder = folder or notebooks()
    pattern = "[0-9][0-9]_*"
    files = (*folder.glob(f"{pattern}.ipynb"), *(folder / "text").glob(f"{pattern}.py"))
    return sorted({path.stem for path in files})


def lesson(name: str | int | Path, folder: Path | None = None) -> Path:
    """The place of a lesson's notebook, from its number, slug, file name or path; it may have a text only so far.

    >>> lesson("4").name
    '04_convolution-arithmetic.ipynb'

    Raises `ParameterError` for a lesson that is not there, naming the nearest.
    """
    folder = folder or notebooks()
    known = slugs(folder)
    word = Path(str(name)).name.removesuffix(".ipynb").removesuffix(".py")
    number = word.zfill(2) if word.isdecimal() else word
    for slug in known:
        if number in (slug, slug[:2], slug[3:]):
            return folder / f"{slug}.ipynb"
    raise ParameterError(
        "the number or name of a lesson",
        repr(str(name)),
        where=f"{folder.name}/",
        remedy=_written(number, known) or nearest(word, [slug[:2] for slug in known] + known),
    )


def _written(number: str, known: list[str]) -> str:
    """The clause for a lesson that is planned and not written yet; empty for any other name."""
    try:
        planned = {item["notebook"] for item in ledger().values()} - set(known)
    except (OSError, ImportError, KeyError, TypeError):
        return ""
    for slug in planned:
        if number in (slug, slug[:2], slug[3:]):
            return f"{slug} is planned and not written yet; choose one of {', '.join(known)}"
    return ""


def shown(path: Path) -> str:
    """A path as a message shows it: from the current folder if it lies below, else whole."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def resolved(path: str | Path) -> Path:
    """A path as its user meant it: a relative one starts where the course was called, CNNCOURSE_CWD."""
    return Path(os.environ.get("CNNCOURSE_CWD") or os.curdir) / Path(path).expanduser()


@cache
def ledger() -> dict[str, dict]:
    """Ledger id to its item: kind, statement, check, verdict, correction and the lesson (`notebook`) that holds it."""
    import yaml  # here: `doctor` reads this module on a Python that has nothing yet

    fast = getattr(
        yaml, "CSafeLoader", yaml.SafeLoader
    )  # in C, where it is built: ten times faster
    items = yaml.load((notebooks() / "ledger.yaml").read_text(), Loader=fast)
    return {item["id"]: item for item in items}


def write(path: Path, content: str | bytes) -> Path:
    """Write a file whole or not at all: to a temporary name in the same folder, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
