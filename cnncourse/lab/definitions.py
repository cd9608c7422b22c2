"""The functions that a lesson writes out, as a module: its `imports` and `define` cells run, its experiments do not.

They are read from the text twin rather than the notebook: the text is what one edits, a test holds the two equal, and
its lines are real lines of a file, so that a traceback or ``inspect.getsource`` shows them and an editor opens them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

from cnncourse.errors import LessonError, nearest
from cnncourse.lab.lesson import Lesson

RUN = ("imports", "define")


class Definitions(ModuleType):
    """What a lesson defines; asking for a name that it does not define names the nearest."""

    def __getattr__(self, name: str):
        names = [known for known in vars(self) if not known.startswith("_")]
        remedy = nearest(name, names) if names else "it has no cells tagged define"
        raise AttributeError(f"{self.__name__} defines no {name!r}: {remedy}")


def definitions(lesson: str | int) -> ModuleType:
    """The functions and classes of a lesson's cells tagged ``define``, without running its experiments.

    >>> definitions("04").output_size(7, kernel_size=3, stride=2)
    3

    Cells tagged ``imports`` run first, as they stand before them; nothing else runs, so a define cell may use imports
    and earlier define cells only. Each call reads the text anew.
    Raises `ParameterError` for a lesson that is not there, `LessonError` naming the cell that raised.
    """
    text = Lesson.find(lesson).text
    if not text.exists():
        raise LessonError(
            f"the text of the lesson, {text.name}",
            "no such file",
            where=text.parent,
            remedy="run `python -m cnncourse sync`: the notebook creates it",
        )
    return from_text(text)


def from_text(path: Path) -> ModuleType:
    """The definitions in the text of any lesson, such as one that is still being written."""
    module = Definitions(f"cnncourse.lab.lesson_{path.stem[:2]}", f"Definitions of {path.stem}.")
    module.__file__ = str(path)
    before = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module  # where inspect, pickle and dataclasses look a class up
    try:
        for number, line, source in _cells(path):
            _run(source, number, line, path, module)
    except BaseException:
        sys.modules.pop(module.__name__)
        if before is not None:
            sys.modules[module.__name__] = before
        raise
    return module


def _cells(path: Path) -> list[tuple[int, int, str]]:
    """Number of the cell, line where its source starts, and source, of the cells that are to run."""
    from cnncourse.lab import (
        pairing,
    )  # jupytext takes a second to import: only who reads a text pays

    content = path.read_text(encoding="utf-8")
    lines, cursor, found = content.split("\n"), 0, []
    for number, cell in enumerate(pairing.read_text(path).cells, start=1):
        if cell.cell_type != "code" or not set(RUN) & set(cell.metadata.get("tags", [])):
            continue
        source = cell.source.split("\n")
        cursor = next(
            (at for at in range(cursor, len(lines)) if lines[at : at + len(source)] == source),
            cursor,
        )
        found.append((number, cursor + 1, cell.source))
        cursor += len(source)
    return found


def _run(source: str, number: int, line: int, path: Path, module: ModuleType) -> None:
    try:
        exec(compile("\n" * (line - 1) + source, str(path), "exec"), vars(module))
    except Exception as error:
        first = next((text for text in source.splitlines() if text.strip()), "")
        remedy = "let it use only imports and earlier cells tagged define, no parameters or results"
        raise LessonError(
            "imports and define cells that run by themselves",
            f"{type(error).__name__}: {error}",
            where=f"{path.name}, cell {number} from line {line}: {first}",
            remedy=remedy,
        ) from error
