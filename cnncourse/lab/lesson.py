"""A lesson as the workshop sees it: its cells."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property

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
