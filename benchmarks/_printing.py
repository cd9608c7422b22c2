"""The tables that benchmarks print and store: Markdown, a row at a time where each takes a while."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def head(columns: Sequence[str]) -> str:
    """The first two lines; all columns but the first stand right."""
    return f"{row(columns)}\n|---|{'---:|' * (len(columns) - 1)}"


def row(cells: Iterable[object]) -> str:
    """One line; a float is written with three decimals.

    >>> row(["resnet18", 0.98765, "1.2 ms"])
    '| resnet18 | 0.988 | 1.2 ms |'
    """
    texts = (f"{cell:,.3f}" if isinstance(cell, float) else str(cell) for cell in cells)
    return f"|{'|'.join(f' {text} ' if text else ' ' for text in texts)}|"


def table(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    return "\n".join([head(columns), *map(row, rows)])
