"""Diagrams of real networks: every box, number and arrow comes from a trace of the module, none is typed in.

`draw` shows one module at four levels of detail, `beside` and `columns` set several next to each other, `depths`
compares how deep they are. One unit of a drawing is one inch: letters keep their size, whatever stands around them.
"""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from cnncourse import cost
from cnncourse.diagrams.boxes import graph, merged
from cnncourse.diagrams.canvas import Canvas
from cnncourse.diagrams.maps import coloured_map
from cnncourse.diagrams.side_by_side import columns, depths
from cnncourse.diagrams.towers import tower
from cnncourse.diagrams.volumes import volumes_of
from cnncourse.errors import ParameterError, nearest

__all__ = ["LEVELS", "beside", "columns", "depths", "draw"]

LEVELS = ("block", "stage", "network", "graph")


def draw(
    model: nn.Module,
    input_shape: tuple[int, ...],
    *,
    level: str = "block",
    title: str | None = None,
    ax: Axes | None = None,
    fold: bool = True,
    costs: bool = False,
    training: bool = False,
    points: float = 11,
) -> Figure:
    """A diagram of `model` for an input of (C, H, W), on a figure of its own size or fitted into `ax`.

    >>> diagrams.draw(models.resnet.BasicBlock(64, 64), (64, 56, 56), title="residual block")
    >>> diagrams.draw(models.alexnet_2012(), (3, 227, 227), level="network")  # volumes, in two towers

    level: "block" shows every layer from top to bottom, "stage" one box for a block of layers, "network" the
    feature maps as volumes from left to right (height and depth grow with the root of the side, thickness with the
    channels), "graph" every layer as a small coloured box without text. Runs of equal parts are folded into one with
    their number; ``fold=False`` shows them all. ``costs=True`` writes multiply-adds into the boxes of the first two
    levels, ``training=True`` includes auxiliary heads. `points`: size of letters.
    Raises `ParameterError` for an unknown level and what `cost.table` raises for a module or shape that do not fit.
    """
    if level not in LEVELS:
        raise ParameterError(
            "a level of detail",
            repr(level),
            where="argument level of diagrams.draw",
            remedy=nearest(str(level), LEVELS),
        )
    table = cost.table(model, input_shape, training=training)
    boxes, canvas = graph(table), Canvas(points)
    if level == "graph":
        return coloured_map(canvas, boxes, table.classes, title, ax)
    if level != "block":
        boxes = merged(boxes, table.classes)
    if level == "network":
        return volumes_of(canvas, boxes, title, fold, ax)
    right, bottom = tower(canvas, boxes, 0.12, title, fold, costs)
    return canvas.show(0.0, 0.0, right + 0.12, bottom + 0.06, ax)


def beside(
    parts: Iterable[tuple[str, nn.Module, tuple[int, ...]]],
    *,
    level: str = "block",
    fold: bool = False,
    costs: bool = False,
    points: float = 11,
) -> Figure:
    """Several modules next to each other on one figure, each drawn as by `draw` with its title.

    >>> diagrams.beside([("plain", plain_block, (64, 56, 56)), ("residual", residual_block, (64, 56, 56))])

    level: "block" or "stage". Raises `ParameterError` for no module or another level, and what `cost.table` raises.
    """
    parts = list(parts)
    if not parts or level not in LEVELS[:2]:
        raise ParameterError(
            "(title, model, input_shape) once or more, at level 'block' or 'stage'",
            f"{len(parts)} of them at level {level!r}",
            where="diagrams.beside",
            remedy="pass at least one, and draw other levels one by one",
        )
    canvas = Canvas(points)
    right, bottom = 0.12 - 0.45, 0.0
    for title, model, input_shape in parts:
        table = cost.table(model, input_shape)
        boxes = graph(table) if level == "block" else merged(graph(table), table.classes)
        right, low = tower(canvas, boxes, right + 0.45, title, fold, costs)
        bottom = max(bottom, low)
    return canvas.show(0.0, 0.0, right + 0.12, bottom + 0.06, None)
