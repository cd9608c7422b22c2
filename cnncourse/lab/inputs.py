"""What the figures of a lesson are made from, as a digest: its cells, preset, style, versions, and what it imports."""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from cnncourse import paths
from cnncourse.lab import execute
from cnncourse.lab.gallery import sha256
from cnncourse.lab.lesson import Lesson

PACKAGE = Path(__file__).resolve().parents[1]


class State:
    """What the last successful run of every lesson was made from; kept in build/, so a fresh clone runs everything."""

    def __init__(self, target: Path, preset: str):
        self.file = paths.build() / "figures" / f"{folder_name(target)}.state.json"
        self.preset = preset
        try:
            self.known = json.loads(self.file.read_text()) if self.file.exists() else {}
        except ValueError:
            self.known = {}  # a cache: without it everything runs
        self.current: dict[str, str] = {}

    def inputs(self, lesson: str) -> str:
        """A digest of all that the figures of a lesson are made from: source, parameters, package, versions, style."""
        if lesson not in self.current:
            found = Lesson.find(lesson)
            style = os.environ.get("CNNCOURSE_STYLE")
            files = [paths.root() / "requirements.lock", *([Path(style)] if style else [])]
            said = [found.digest, found.preset(self.preset), package_digest(found), execute.versions(),
                    *(sha256(file) for file in files)]  # fmt: skip
            self.current[lesson] = hashlib.sha256(
                json.dumps(said, default=str).encode()
            ).hexdigest()
        return self.current[lesson]

    def done(self, lesson: str) -> str | None:
        return self.known.get(lesson, {}).get("inputs")

    def seconds(self, lesson: str) -> float:
        return self.known.get(lesson, {}).get(
            "seconds", float("inf")
        )  # never seen: it may be long, so it comes first

    def finish(self, lesson: str, seconds: float) -> None:
        self.known[lesson] = {"inputs": self.inputs(lesson), "seconds": round(seconds, 1)}
        paths.write(self.file, json.dumps(self.known, indent=1, sort_keys=True) + "\n")


def folder_name(target: Path) -> str:
    """How a folder of figures is called in build/."""
    return "published" if target == paths.root() / "figures" else target.name


def package_digest(lesson: Lesson) -> str:
    """A digest of the modules of the course that a lesson imports, and those that they import."""
    digest = hashlib.sha256()
    for path in modules(lesson):
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {sha256(path)}\n".encode())
    return digest.hexdigest()


def modules(lesson: Lesson) -> list[Path]:
    """The files of the course that a lesson imports, directly or through others; its exercises too.

    >>> [path.name for path in modules(Lesson.find("01")) if path.parent.name == "exercises"]
    ['__init__.py', 'lesson_01.py', 'predictions.py']
    """
    waiting = [name for cell in lesson.cells if cell.tree for name in _imports(cell.tree)]
    found: set[Path] = set()
    while waiting:
        for path in _files(waiting.pop()):
            if path in found:
                continue
            found.add(path)
            waiting += imports_of(path)
            if path == PACKAGE / "exercises" / "__init__.py":  # it imports them by their number
                waiting.append(f"cnncourse.exercises.lesson_{lesson.number}")
    return sorted(found)


@cache
def imports_of(path: Path) -> tuple[str, ...]:
    """The modules that a file of the course imports, in functions too: ``("cnncourse.errors", ...)``."""
    return tuple(_imports(ast.parse(path.read_text(encoding="utf-8"))))


def _imports(tree: ast.AST) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def _files(name: str) -> list[Path]:
    """The files that ``import cnncourse.models.resnet`` reads: of the module, and of the packages around it."""
    first, *parts = name.split(".")
    if first != "cnncourse":
        return []
    files, place = [PACKAGE / "__init__.py"], PACKAGE
    for part in parts:
        place = place / part
        if place.with_suffix(".py").is_file():
            files.append(place.with_suffix(".py"))
        elif (place / "__init__.py").is_file():
            files.append(place / "__init__.py")
        else:
            break  # a name within the module
    return files
