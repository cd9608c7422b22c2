"""A lesson as the workshop sees it: where its two files lie, its cells, its parameters, its presets."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cnncourse import paths
from cnncourse.errors import LessonError, ParameterError, nearest
from cnncourse.parameters import Parameter, parse

if TYPE_CHECKING:  # `doctor` reads this module on a Python that has nothing yet
    from nbformat import NotebookNode


@dataclass(frozen=True, eq=False)
class Cell:
    """A cell with what is asked about it."""

    number: int  # from 1, over all cells, as in the text twin
    node: NotebookNode

    @property
    def source(self) -> str:
        return self.node.source

    @property
    def tags(self) -> list[str]:
        return self.node.metadata.get("tags", [])

    @property
    def is_code(self) -> bool:
        return self.node.cell_type == "code"

    @property
    def is_folded(self) -> bool:
        return "fold" in self.tags

    @property
    def outputs(self) -> list:
        return self.node.get("outputs", [])

    @cached_property
    def tree(self) -> ast.Module | None:
        """The syntax tree of its code; None for what is not plain Python."""
        try:
            return ast.parse(self.source)
        except SyntaxError:
            return None

    def __str__(self) -> str:
        first = next((line for line in self.source.splitlines() if line.strip()), "empty")
        return f"cell {self.number} ({first.strip()[:50]})"


@dataclass(frozen=True)
class Lesson:
    """One lesson; nothing of it is read before it is asked for.

    >>> Lesson.find("4").parameters["width"].default
    10
    """

    notebook: Path  # its place, also where only the text is there so far

    @classmethod
    def find(cls, name: str | int | Path, folder: Path | None = None) -> Lesson:
        """The lesson with this number, slug, file name or path; `ParameterError` names the nearest otherwise."""
        return cls(paths.lesson(name, folder))

    @classmethod
    def some(
        cls, names: Iterable[str | int | Path] = (), folder: Path | None = None
    ) -> list[Lesson]:
        """The lessons with these names, in the order of their numbers and each once; none means all there are."""
        places = {paths.lesson(name, folder) for name in names} or {
            (folder or paths.notebooks()) / f"{slug}.ipynb" for slug in paths.slugs(folder)
        }
        return [cls(place) for place in sorted(places)]

    @property
    def slug(self) -> str:
        """``"04_convolution-arithmetic"``."""
        return self.notebook.stem

    @property
    def number(self) -> str:
        return self.slug[:2]

    @property
    def text(self) -> Path:
        """Where its text twin lies."""
        return self.notebook.parent / "text" / f"{self.slug}.py"

    @cached_property
    def content(self) -> NotebookNode:
        """Its sources without outputs, of the notebook or the text, whichever changed since the last sync."""
        from cnncourse.lab import pairing  # jupytext takes a second to import

        return pairing.current(self.notebook)

    @cached_property
    def cells(self) -> list[Cell]:
        return [Cell(number, node) for number, node in enumerate(self.content.cells, start=1)]

    def stored(self) -> Path:
        """Its notebook, for whoever reads what a run left there; `LessonError` for a lesson that was never stored."""
        if not self.notebook.is_file():
            raise LessonError(
                "a stored lesson",
                f"{self.slug}, which has a text only",
                where=paths.shown(self.text),
                remedy=f"python -m cnncourse store {self.number}",
            )
        return self.notebook

    @cached_property
    def stored_cells(self) -> list[Cell]:
        """Its cells with their outputs, as they are stored; `LessonError` for a lesson that was never stored."""
        from cnncourse.lab import pairing  # jupytext takes a second to import

        nodes = pairing.read_notebook(self.stored()).cells
        return [Cell(number, node) for number, node in enumerate(nodes, start=1)]

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """Name to `Parameter`, as its parameters cell states them; {} where there is none."""
        tagged = [cell for cell in self.cells if "parameters" in cell.tags]
        return parse(tagged[0].source, where=f"parameters cell of {self.slug}") if tagged else {}

    @property
    def title(self) -> str:
        """Its first heading, ``"04 · Convolution arithmetic"``; else its slug."""
        if self.text.is_file():
            heading = re.search(r"^# # (.+)", self.text.read_text(encoding="utf-8"), re.MULTILINE)
        else:
            sources = (cell.source for cell in self.cells if not cell.is_code)
            heading = re.search(r"^# (.+)", "\n".join(sources), re.MULTILINE)
        return heading[1].strip() if heading else self.slug

    @property
    def digest(self) -> str:
        """SHA-256 of what it says: kinds, sources and tags of its cells."""
        said = [(cell.node.cell_type, cell.source, cell.tags) for cell in self.cells]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def preset(self, name: str) -> dict[str, object]:
        """What a preset of notebooks/presets/ gives to it, as texts that `Parameter.value` reads; "default": nothing.

        Raises `ParameterError` for a preset that is not there.
        """
        if name == "default":
            return {}
        folder = self.notebook.parent / "presets"
        known = {path.stem: path for path in folder.glob("*.yaml")}
        if name not in known:
            raise ParameterError(
                "the name of a preset",
                repr(name),
                where="notebooks/presets",
                remedy=nearest(name, ["default", *known]),
            )
        import yaml

        every = yaml.load(known[name].read_text(), Loader=yaml.BaseLoader) or {}
        return dict(every.get(self.number) or {})

    def parameter(self, name: str, *, where: str) -> Parameter:
        """Its parameter of this name; raises `ParameterError`, with the nearest name, where it has none."""
        if name in self.parameters:
            return self.parameters[name]
        raise ParameterError(
            f"a parameter of lesson {self.slug}",
            repr(name),
            where=where,
            remedy=nearest(name, self.parameters),
        )

    def settings(self, given: dict[str, object], preset: str = "default") -> dict[str, object]:
        """Only the parameters that differ from its own: the preset's first, then what was given, all checked.

        Raises `ParameterError` for an unknown name, a value of another type or out of range, before anything runs.
        """
        chosen = {}
        sources = [(f"notebooks/presets/{preset}.yaml", self.preset(preset)), ("-p", given)]
        for where, values in sources:
            for name, value in values.items():
                place = f"{where} of lesson {self.slug}"
                chosen[name] = self.parameter(name, where=where).value(value, where=place)
        return chosen

    def effective(self, given: dict[str, object], preset: str = "default") -> dict[str, object]:
        """Every parameter with the value that it has in a run: its own, the preset's or the given one."""
        own = {name: parameter.default for name, parameter in self.parameters.items()}
        return own | self.settings(given, preset)
