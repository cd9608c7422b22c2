"""Is this machine ready for the course? One line for each thing that can be missing, with what to do about it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from cnncourse import machine, paths

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
GET_BROWSER = (
    "`apt install chromium` (Debian), `snap install chromium` (Ubuntu), `dnf install chromium` (Fedora), "
    "or Google Chrome, its program on PATH"
)
INSTALL = "make figures installs what requirements.lock names"


def main() -> int:
    """Print one line for each check; 1 if something necessary is missing, else 0.

    "ok": fine. "note": works without; says what is lost. "FIX": the course does not run; says what to do.
    """
    necessary = 0
    for title, look in CHECKS:
        for state, found in look():
            necessary += state == "FIX"
            print(f"{state:4}  {title}: {found}")
    print("ready" if not necessary else f"{necessary} things to fix, see FIX above")
    return int(bool(necessary))


def _python() -> Iterator[tuple[str, str]]:
    found = ".".join(map(str, sys.version_info[:3]))
    inside = Path(sys.prefix) == paths.root() / ".venv"
    yield ("ok", found + (" in .venv" if inside else f" in {sys.prefix}"))


def _versions() -> Iterator[tuple[str, str]]:
    lock = paths.root() / "requirements.lock"
    if not lock.is_file():
        yield "note", "there is no requirements.lock to compare with"
        return
    try:
        locked = locked_versions(lock.read_text())
        wanted = metadata.requires("cnncourse") or []
    except (ImportError, metadata.PackageNotFoundError) as error:
        yield "FIX", f"this Python lacks the course's packages ({error}); {INSTALL}"
        return
    needed = {re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0].lower() for line in wanted
              if "extra ==" not in line}  # fmt: skip
    other = []
    for name in sorted(needed & set(locked)):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield "FIX", f"{name} is not installed; {INSTALL}"
            continue
        if version.partition("+")[0] not in locked[name]:
            other.append(f"{name} {version} (locked {' or '.join(sorted(locked[name]))})")
    if other:
        yield "note", f"{', '.join(other)}; figures may differ in bytes, {INSTALL}"
    else:
        yield (
            "ok",
            f"the {len(needed & set(locked))} direct dependencies are those of requirements.lock",
        )


def locked_versions(lock: str) -> dict[str, set[str]]:
    """Name to the versions that a lock file allows on this Python (more than one where markers choose).

    >>> locked_versions("numpy==2.4.6 \\\\\\n    --hash=...")
    {'numpy': {'2.4.6'}}
    """
    from packaging.requirements import Requirement

    found: dict[str, set[str]] = {}
    for line in re.findall(r"^[A-Za-z0-9][^\\\n]*", lock, flags=re.MULTILINE):
        wanted = Requirement(line.strip())
        if wanted.marker is None or wanted.marker.evaluate():
            found.setdefault(wanted.name.lower(), set()).update(
                part.version for part in wanted.specifier
            )
    return found


def _torch() -> Iterator[tuple[str, str]]:
    try:
        import torch
        import torchvision

        boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [5, 5, 6, 6]])
        kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
        works = kept.tolist() == [0, 2]
    except (
        ImportError,
        RuntimeError,
        AttributeError,
    ) as error:  # what a pair that does not match raises
        yield (
            "FIX",
            f"they do not work together ({str(error).splitlines()[0][:90]}); install both from one place; {INSTALL}",
        )
        return
    pair = f"torch {torch.__version__} with torchvision {torchvision.__version__}"
    yield (
        ("ok", f"{pair} work together")
        if works
        else ("FIX", f"{pair}: nms gives {kept.tolist()}; {INSTALL}")
    )
    if torch.cuda.is_available():
        name, memory = (
            torch.cuda.get_device_name(),
            torch.cuda.get_device_properties(0).total_memory / 2**30,
        )
        yield "ok", f"GPU {name}, {memory:.0f} GiB: make figures PRESET=full uses it"
    else:
        yield "note", "no GPU: the default parameters need none, PRESET=full does"


def _threads() -> Iterator[tuple[str, str]]:
    asked = os.environ.get("CNNCOURSE_THREADS")
    said = (
        f"CNNCOURSE_THREADS={asked}"
        if asked
        else "1 thread a lesson (CNNCOURSE_THREADS is not set)"
    )
    if asked and not (asked.isdigit() and 0 < int(asked)):
        yield "FIX", f"CNNCOURSE_THREADS={asked!r} is no number of threads; unset it or set it to 1"
        return
    yield (
        "ok",
        f"{machine.cores()} cores; {said}; as many lessons run at a time as there are cores, JOBS=1: one",
    )


def _data() -> Iterator[tuple[str, str]]:
    try:
        from cnncourse import data
    except (ImportError, OSError, RuntimeError) as error:
        yield "FIX", f"cnncourse.data cannot be imported: {error}"
        return
    yield "ok", "digits and photos come with scikit-learn and scikit-image"
    for name in ("mnist", "fashion_mnist", "cifar10"):
        try:
            images = data.load(name, train=False)
            yield "ok", f"{name}: {len(images)} test images"
        except (OSError, ValueError) as error:
            yield (
                "note",
                f"{name} is not there ({' '.join(str(getattr(error, 'remedy', error)).split())})",
            )


def _weights() -> Iterator[tuple[str, str]]:
    try:
        from cnncourse.models import efficientnet_lite, mtcnn
    except (ImportError, OSError, RuntimeError) as error:
        yield "FIX", " ".join(str(error).split())
        return
    reads = {
        "EfficientNet-Lite0 (ImageNet)": efficientnet_lite.weights,
        "MTCNN (faces)": lambda: [mtcnn.weights(name) for name in mtcnn.FILES],
    }
    for name, read in reads.items():
        try:
            read()
            yield "ok", f"{name}: they come with a package of theirs"
        except (OSError, RuntimeError) as error:
            yield "FIX", " ".join(str(error).split())


def browser() -> str | None:
    """The program of a Chromium on this machine; None where there is none."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def _browser() -> Iterator[tuple[str, str]]:
    if found := browser():
        yield "ok", f"{found}: the PDF of the slides, and the tests in a browser"
    else:
        yield (
            "note",
            f"none of {', '.join(BROWSERS)}: make slides gives HTML and no PDF, and the tests of site, slides "
            f"and sliders in a browser are skipped; {GET_BROWSER}",
        )


def _git() -> Iterator[tuple[str, str]]:
    state = machine.commit()
    if state["commit"] is None:
        yield "note", "not a repository: provenance records no commit; use git clone"
        return
    asked = subprocess.run(
        ["git", "status", "--porcelain"],
        cwd=paths.root(),
        capture_output=True,
        text=True,
        check=True,
    )
    files = len(asked.stdout.splitlines())
    words = "clean" if not files else f"{files} files differ from it: records say so"
    yield ("note" if files else "ok", f"commit {str(state['commit'])[:10]}, {words}")


def _folders() -> Iterator[tuple[str, str]]:
    free = shutil.disk_usage(paths.root()).free / 2**30
    if not os.access(paths.root(), os.W_OK):
        yield "FIX", f"{paths.root()} cannot be written: make a clone of your own"
    elif free < 1:
        yield "FIX", f"{free:.1f} GiB free: make room for at least 1"
    else:
        yield "ok", f"{free:.0f} GiB free"
    yield "ok", f"{len(paths.lessons())} lessons"


CHECKS: tuple[tuple[str, Callable[[], Iterator[tuple[str, str]]]], ...] = (
    ("python", _python),
    ("versions", _versions),
    ("torch", _torch),
    ("processor", _threads),
    ("data", _data),
    ("weights", _weights),
    ("browser", _browser),
    ("git", _git),
    ("folder", _folders),
)
