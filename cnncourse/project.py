"""Where the course lies on disk: its lessons, its ledger, and files that appear whole or not at all."""

from __future__ import annotations

import os
import subprocess
import tempfile
from functools import cache
from importlib import metadata
from pathlib import Path

import yaml

from cnncourse.errors import ParameterError, nearest


def root() -> Path:
    """The folder that holds notebooks/, figures/ and cnncourse/: the working tree, or CNNCOURSE_ROOT when set."""
    own = os.environ.get("CNNCOURSE_ROOT")
    return Path(own).resolve() if own else Path(__file__).resolve().parents[1]


def build() -> Path:
    """The ignored folder for executed copies, reports and scratch figures."""
    return root() / "build"


def lessons() -> dict[str, Path]:
    """Number to notebook, of the lessons that are written: ``{"01": .../01_knn-and-cross-validation.ipynb}``."""
    return {
        path.name[:2]: path for path in sorted((root() / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    }


def lesson(name: str | int) -> Path:
    """The notebook of a lesson, from its number, slug, file name or path.

    >>> lesson("4").name
    '04_convolution-arithmetic.ipynb'

    Raises `ParameterError` for a lesson that is not there, naming the nearest.
    """
    known = lessons()
    stem = Path(str(name)).stem
    if stem.isdigit() and stem.zfill(2) in known:
        return known[stem.zfill(2)]
    for path in known.values():
        if stem in (path.stem, path.stem[3:]):
            return path
    choices = [*known, *(path.stem for path in known.values())]
    raise ParameterError(
        "the number or name of a lesson",
        repr(str(name)),
        where="notebooks/",
        remedy=nearest(stem, choices),
    )


def cores() -> int:
    """Processor cores that this process may use (a container or `taskset` may allow fewer than the machine has)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def commit() -> dict[str, object]:
    """The commit of the working tree and whether files differ from it; None and None outside a repository."""

    def git(*words: str) -> str:
        asked = subprocess.run(
            ["git", *words], cwd=root(), capture_output=True, text=True, check=True
        )
        return asked.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "changed": None}


def versions(*packages: str) -> dict[str, str]:
    """Package to its installed version, found without importing it: ``versions("torch") == {"torch": "2.14.1"}``."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


@cache
def ledger() -> dict[str, dict]:
    """Ledger id to its item: kind, statement, check, verdict, correction and the lesson (`notebook`) that holds it."""
    loader = getattr(
        yaml, "CSafeLoader", yaml.SafeLoader
    )  # the C parser is ten times faster where it is built
    items = yaml.load((root() / "notebooks" / "ledger.yaml").read_text(), Loader=loader)
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
