"""Networks side by side: one box a layer and aligned by size, or one stripe a layer to see how deep they are."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from matplotlib.figure import Figure
from torch import nn

from cnncourse import cost
from cnncourse.diagrams.boxes import Box, graph, side_of
from cnncourse.diagrams.canvas import INK, MEANING, MUTED, Canvas
from cnncourse.diagrams.wiring import END, Branches, Woven, count_boxes, series
from cnncourse.errors import ParameterError


@dataclass
class Cell:
    row: int
    lane: float  # -0.5 .. 0.5 across the column
    share: float  # of the column's width
    box: Box


class Column:
    """One network as rows of boxes and arcs between them."""

    def __init__(self, model: nn.Module, input_shape: tuple[int, ...]):
        self.costs = cost.table(model, input_shape)
        self.boxes = graph(self.costs)
        self.cells: list[Cell] = []
        self.arcs: list[tuple[int, int, bool]] = []  # from above this row to below that row; dashed
        self.rows = self.place(series(self.boxes), 0, 0.0, 1.0)
        self.sides = [1] * self.rows
        for cell in reversed(self.cells):
            self.sides[cell.row] = side_of(cell.box.shape)
        self.depth = len({cell.row for cell in self.cells if cell.box.kind != "pool"})

    def place(self, items: list, row: int, lane: float, share: float) -> int:
        for item in items:
            if isinstance(item, Branches):
                join = self.boxes[item.join].kind if item.join != END else "end"
                if join == "add":
                    after = self.place(max(item.paths, key=count_boxes), row, lane, share)
                    if after > row:
                        self.arcs.append((row, after - 1, not item.straight))
                    row = after
                else:
                    part = share / len(item.paths)
                    middle = (len(item.paths) - 1) / 2
                    row = max(
                        self.place(path, row, lane + (i - middle) * part, part)
                        for i, path in enumerate(item.paths)
                    )
            else:
                for n in item.boxes if isinstance(item, Woven) else [item]:
                    if self.boxes[n].kind in ("conv", "fc", "pool"):
                        self.cells.append(Cell(row, lane, share, self.boxes[n]))
                        row += 1
        return row


def _named(networks: Iterable, where: str) -> list[tuple[str, Column]]:
    named = [(title, Column(model, shape)) for title, model, shape in networks]
    if not named:
        raise ParameterError(
            "(title, model, input_shape) once or more",
            "none",
            where=where,
            remedy="pass a list of them",
        )
    return named


def columns(
    networks: Iterable[tuple[str, nn.Module, tuple[int, ...]]], *, points: float = 11
) -> Figure:
    """Networks side by side, one box a layer, aligned by the size of their feature maps; shortcuts are arcs.

    >>> diagrams.columns([("VGG-19", models.vgg19(), (3, 224, 224)), ("ResNet-34", models.resnet34(), (3, 224, 224))])

    A dashed arc is a shortcut that changes the shape. Under each title: weight layers on the longest way and
    multiply-adds. Raises what `cost.table` raises for a module or shape that do not fit.
    """
    named = _named(networks, "diagrams.columns")
    sides = sorted({side for _, column in named for side in column.sides}, reverse=True)
    canvas = Canvas(points)
    height, gap, between = points * 1.28 / 72, 0.045, 0.12
    top, y = {}, 0.22 + 3.6 * canvas.line()
    for side in sides:
        top[side] = y
        y += max(column.sides.count(side) for _, column in named) * (height + gap) + between
    bottom = y
    margin = max(canvas.width(f"{side}×{side}") for side in sides) + 0.25
    x = margin
    for title, column in named:
        heads = [
            title,
            f"{column.depth} weight layers",
            f"{column.costs.multiply_adds / 1e9:.1f} G multiply-adds",
        ]
        wide = max((canvas.width(cell.box.text) + 0.2) / cell.share for cell in column.cells)
        wide = max(wide, canvas.width(title, bold=True), *map(canvas.width, heads[1:]))
        centre = x + wide / 2
        for i, text in enumerate(heads):
            canvas.text(
                centre,
                0.12 + (i + 0.5) * canvas.line() * 1.1,
                text,
                fontweight="normal" if i else "bold",
                color=MUTED if i else INK,
            )
        used: dict[int, int] = {}
        at: list[float] = []
        for side in column.sides:
            at.append(top[side] + used.get(side, 0) * (height + gap))
            used[side] = used.get(side, 0) + 1
        for cell in column.cells:
            w = wide * cell.share - (0.06 if cell.share < 1 else 0)
            canvas.box(
                centre + cell.lane * wide, at[cell.row], w, height, cell.box.kind, linewidth=0.8
            )
            canvas.text(centre + cell.lane * wide, at[cell.row] + height / 2, cell.box.text)
        for above, below in zip(at, at[1:], strict=False):
            canvas.path(
                [(centre, above + height), (centre, below)],
                arrow=below - above > 2 * height,
                width=1.0,
            )
        edge = centre + wide / 2
        for first, last, dashed in column.arcs:
            start, end = at[first] - gap / 2, at[last] + height + gap / 2
            canvas.path(
                [
                    (edge - 0.02, start),
                    (edge + 0.26, start),
                    (edge + 0.26, end),
                    (edge - 0.02, end),
                ],
                dashed=dashed,
                bend=0.2,
            )
        x = edge + (0.57 if column.arcs else 0.25)
    for side in sides:
        canvas.text(
            margin - 0.12, top[side] + height / 2, f"{side}×{side}", ha="right", color=MUTED
        )
        rule = top[side] - between / 2 - gap / 2
        canvas.path(
            [(0.05, rule), (x - 0.1, rule)], arrow=False, colour="0.85", width=0.8, zorder=1
        )
    return canvas.show(0.0, 0.0, x, bottom, None)


def depths(
    networks: Iterable[tuple[str, nn.Module, tuple[int, ...]]], *, points: float = 12
) -> Figure:
    """How deep networks are: one strip a network, one stripe a layer from left to right, as high as its feature maps.

    >>> diagrams.depths([("AlexNet", models.alexnet(), (3, 224, 224)), ("VGG-19", models.vgg19(), (3, 224, 224))])

    The height of a stripe grows with the root of the side of its maps; the layers of branches stand above each other.
    Raises what `cost.table` raises for a module or shape that do not fit.
    """
    named = _named(networks, "diagrams.depths")
    canvas = Canvas(points)
    heads = [(title, f"{column.depth} weight layers") for title, column in named]
    margin = 0.3 + max(
        max(canvas.width(a, bold=True), canvas.width(b, canvas.small)) for a, b in heads
    )
    pitch = min(0.12, 6.2 / max(column.rows for _, column in named))
    largest = max(max(column.sides) for _, column in named)
    tall, y = 0.72, 0.15
    for (title, column), (_, layers) in zip(named, heads, strict=True):
        middle = y + tall / 2
        canvas.text(0.12, middle - canvas.line() / 2, title, ha="left", fontweight="bold")
        canvas.text(
            0.12, middle + canvas.line() / 2, layers, ha="left", fontsize=canvas.small, color=MUTED
        )
        for cell in column.cells:
            h = max(tall * math.sqrt(column.sides[cell.row] / largest), 0.16)
            part = h * cell.share - (0.012 if cell.share < 1 else 0)
            _, edge = canvas.shades(cell.box.kind)
            x = margin + (cell.row + 0.5) * pitch
            canvas.box(
                x,
                middle + cell.lane * h - part / 2,
                0.78 * pitch,
                part,
                cell.box.kind,
                facecolor=edge,
                edgecolor="none",
            )
        y += tall + 0.16
    y += 0.1
    kinds = {cell.box.kind for _, column in named for cell in column.cells}
    right = canvas.legend(margin, y, [m for m in MEANING if m[0] in kinds], solid=True)
    right = max(right, margin + pitch * max(column.rows for _, column in named))
    return canvas.show(0.0, 0.0, right + 0.15, y + 0.22, None)
