"""Diagrams of real networks: every box, number and arrow comes from a trace of the module, none is typed in.

`draw` shows one module at four levels of detail, `beside` and `columns` set several next to each other, `depths`
compares how deep they are. One unit of a drawing is one inch: letters keep their size, whatever stands around them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path
from torch import nn

from cnncourse import cost
from cnncourse.errors import ParameterError, nearest
from cnncourse.figures import COLOUR

LEVELS = ("block", "stage", "network", "graph")
# kind of a box -> colour and how much of it is white
FILL = {
    "conv": (COLOUR["input"], 0.78),
    "block": (COLOUR["input"], 0.78),
    "fc": (COLOUR["output"], 0.68),
    "pool": (COLOUR["weight"], 0.64),
    "concat": (COLOUR["fourth"], 0.80),
    "add": (COLOUR["fourth"], 0.80),
    "norm": (COLOUR["muted"], 0.75),
    "other": (COLOUR["muted"], 0.75),
    "input": (COLOUR["muted"], 0.88),
}
INK, MUTED = COLOUR["ink"], "0.38"
CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")  # they hold blocks and are none
SHORT = {
    "BatchNorm1d": "BN",
    "BatchNorm2d": "BN",
    "BatchNorm3d": "BN",
    "batch_norm": "BN",
    "LayerNorm": "LN",
    "LayerNorm2d": "LN",
    "GroupNorm": "GN",
    "LocalResponseNorm": "LRN",
    "local_response_norm": "LRN",
    "TowerNorm": "LRN",
    "relu": "ReLU",
    "Dropout": "dropout",
    "dropout": "dropout",
    "mul": "scale",
    "div": "scale",
    "truediv": "scale",
    "PaddedShortcut": "zero padding",
}


# --- from the trace to boxes ----------------------------------------------------------------------------------------


@dataclass
class Box:
    """One box: what it says, how it looks, what comes out of it, and which boxes it reads."""

    words: list[str]  # "3×3 conv", "64", "/2"
    kind: str
    shape: tuple
    inputs: list[int]
    name: str = ""
    extras: list[str] = field(default_factory=list)  # what follows at once: BN, ReLU
    parameters: int = 0
    groups: int = 1
    multiply_adds: int = 0

    @property
    def text(self) -> str:
        return ", ".join(self.words)

    @property
    def look(self) -> tuple:
        """What two boxes share when one can stand for both."""
        return self.text, self.kind, self.shape, tuple(self.extras), self.parameters


INPUT = -1


def _graph(costs: cost.Table) -> dict[int, Box]:
    """The boxes of a table by number; `INPUT` is the image.

    Views and the addition of a number vanish; a normalisation or activation joins the layer before it, unless
    somebody else reads that layer.
    """
    rows = [(i, row) for i, row in enumerate(costs.rows) if not row.note]
    readers: dict[int, set[int]] = {}
    for i, row in rows:
        for j in row.inputs:
            readers.setdefault(j, set()).add(i)
    boxes: dict[int, Box] = {INPUT: Box(["input"], "input", costs.input_shape, [])}
    holder: dict[int, int] = {INPUT: INPUT}  # row -> the box that holds it
    for i, row in rows:
        sources = list(dict.fromkeys(holder[j] for j in row.inputs if j in holder))
        if not sources:
            continue  # made from parameters alone: not part of the flow
        source = sources[0]
        alone = len(sources) == 1
        quiet = (
            not row.multiply_adds
            and row.kernel is None
            and (
                row.output_shape == boxes[source].shape
                or row.kind in SHORT
                and row.kind != "PaddedShortcut"
            )
        )
        unread = all(
            len(readers[j]) == 1 for j in row.inputs
        )  # another reader would seem to read this row's output
        constant = (
            row.kind in ("add", "radd", "iadd", "sub") and not row.parameters
        )  # sum([x]) is 0 + x
        if alone and (row.is_view or constant or quiet and unread and source != INPUT):
            holder[i] = source
            boxes[source].parameters += row.parameters
            if not row.is_view and not constant and not row.kind.startswith("Adaptive"):
                boxes[source].extras.append(SHORT.get(row.kind, row.kind))
        else:
            holder[i] = i
            kind, words = _kind(row), _words(row)
            boxes[i] = Box(
                words,
                kind,
                row.output_shape,
                sources,
                row.name,
                [],
                row.parameters,
                row.groups,
                row.multiply_adds,
            )
    return boxes


def _kind(row: cost.Row) -> str:
    name = row.kind.lower()
    if "conv" in name:
        return "conv"
    if "pool" in name or "subsampling" in name or name in ("mean", "amax"):
        return "pool"
    if "linear" in name or row.multiply_adds and row.kernel is None:
        return "fc"
    if name in ("cat", "concat", "concatenate", "stack"):
        return "concat"
    if name in ("add", "iadd", "mul", "imul", "sub"):
        return "add"
    return "norm" if "norm" in name or row.parameters else "other"


def _words(row: cost.Row) -> list[str]:
    kind = _kind(row)
    kernel = "×".join(map(str, row.kernel)) if row.kernel else ""
    stride = [f"/{row.stride[0]}"] if row.stride and max(row.stride) > 1 else []
    if kind == "conv" and kernel:
        word = "transposed conv" if "transpose" in row.kind.lower() else "conv"
        groups = [f"{row.groups} groups"] if row.groups > 1 else []
        return [f"{kernel} {word}", str(row.output_shape[0]), *stride, *groups]
    if kind == "pool":
        word = "max pool" if "max" in row.kind.lower() else "average pool"
        return [f"{kernel} {word}".strip(), *stride]
    if kind == "fc" and "linear" in row.kind.lower():
        return [f"fc {row.output_shape[-1]}"]
    if kind == "concat":
        return ["concatenate"]
    if kind == "add":
        return [{"mul": "×", "imul": "×", "sub": "−"}.get(row.kind.lower(), "+")]
    return [SHORT.get(row.kind, row.kind)]


def _owner(name: str, classes: dict[str, str]) -> str | None:
    """The outermost block that holds a layer, or None for a layer of the network itself."""
    parts = name.split(".")
    paths = [".".join(parts[:n]) for n in range(1, len(parts))]
    return next(
        (path for path in paths if classes.get(path, CONTAINERS[0]) not in CONTAINERS), None
    )


def _merged(boxes: dict[int, Box], classes: dict[str, str]) -> dict[int, Box]:
    """The same network with one box for a block of layers; a block of a single layer stays that layer."""
    owners = {n: _owner(box.name, classes) for n, box in boxes.items()}
    count: dict[str | None, int] = {}
    for owner in owners.values():
        count[owner] = count.get(owner, 0) + 1
    first: dict[str, int] = {}
    holder: dict[int, int] = {}
    merged: dict[int, Box] = {}
    for n, box in boxes.items():
        owner = owners[n]
        sources = list(dict.fromkeys(holder[j] for j in box.inputs))
        if owner is None or count[owner] == 1:
            holder[n] = n
            merged[n] = replace(box, inputs=sources)
            continue
        holder[n] = first.setdefault(owner, n)
        block = merged.setdefault(holder[n], Box([classes[owner]], "block", box.shape, [], owner))
        block.inputs += [j for j in sources if j != holder[n] and j not in block.inputs]
        block.shape = box.shape
        block.parameters += box.parameters
        block.multiply_adds += box.multiply_adds
    return merged


def _size(shape: tuple) -> str:
    if shape and isinstance(shape[0], tuple):
        return ", ".join(map(_size, shape))
    return "×".join(map(str, shape))


def _side(shape: tuple) -> int:
    """Height of the feature maps, 1 for vectors."""
    return shape[-1] if len(shape) > 1 and isinstance(shape[-1], int) else 1


# --- from boxes to a series of boxes and branches -------------------------------------------------------------------


@dataclass
class Branches:
    """What lies between a split and the box that joins it; `straight`: some data goes around everything."""

    paths: list[list]
    straight: bool
    join: int  # the number of the joining box, or `END`


@dataclass
class Woven:
    """Boxes whose arrows are no nest of branches (a dense block): one below the other, arrows around them."""

    boxes: list[int]
    join: int


@dataclass
class Repeat:
    items: list
    times: int


END = 1 << 30


def _series(boxes: dict[int, Box]) -> list:
    """The boxes as a nest of series and branches, in which every arrow has its place."""
    order = sorted(boxes)
    after: dict[int, list[int]] = {n: [] for n in order}
    for n in order:
        for j in boxes[n].inputs:
            after[j].append(n)
    for n in order:
        after[n] = after[n] or [END]

    def walk(n: int, end: int, region: set[int]) -> list:
        """What lies between n and end, inside the region."""
        follows = {m: [k for k in after[m] if k in region or k == end] for m in region}
        follows[n] = [
            k for k in after[n] if k in region
        ]  # a straight way to the end belongs to the split at n
        meets = _meets(n, end, follows)
        items: list = []
        while n != end:
            if len(follows[n]) > 1 or meets[n] != follows[n][0]:
                items.append(split(n, meets[n], follows))
            n = meets[n]
            if n != end:
                items.append(n)
        return items

    def split(n: int, meet: int, follows: dict[int, list[int]]) -> Branches:
        inside, stack = set(), list(follows[n])
        while stack:
            m = stack.pop()
            if m != meet and m not in inside:
                inside.add(m)
                stack += follows[m]
        parts: list[set[int]] = []  # what hangs together without n and the join
        for m in sorted(inside):
            mine = {m, *(j for j in boxes[m].inputs if j in inside)}
            touching = [part for part in parts if part & mine]
            parts = [part for part in parts if not part & mine] + [mine.union(*touching)]
        paths = []
        for part in sorted(parts, key=min):
            begins = {m: [k for k in follows[m] if k in part or k == meet] for m in part} | {
                n: [k for k in follows[n] if k in part]
            }
            nested = len(begins[n]) == 1 or _meets(n, meet, begins)[n] != meet
            closed = all(set(boxes[m].inputs) <= part | {n} for m in part)
            paths.append(walk(n, meet, part) if nested and closed else [Woven(sorted(part), meet)])
        return Branches(paths, meet in follows[n], meet)

    return walk(INPUT, END, set(order) - {INPUT})


def _meets(start: int, end: int, follows: dict[int, list[int]]) -> dict[int, int]:
    """For each box the next box that all ways from it to the end pass (its immediate post-dominator)."""
    numbers = sorted(m for m in follows if m >= start)
    position = {m: i for i, m in enumerate([*numbers, end])}
    passes = {end: 1 << position[end]}  # bit sets
    meets = {}
    for m in reversed(numbers):
        common = -1
        for k in follows[m]:
            common &= passes.get(k, 0)
        passes[m] = common | 1 << position[m]
        later = common & ~((1 << position[m] + 1) - 1)
        meets[m] = [*numbers, end][(later & -later).bit_length() - 1]
    return meets


def _look(item: object, boxes: dict[int, Box]) -> tuple:
    if isinstance(item, Branches):
        return tuple(tuple(_look(i, boxes) for i in path) for path in item.paths), item.straight
    if isinstance(item, Repeat):
        return item.times, tuple(_look(i, boxes) for i in item.items)
    return tuple(boxes[n].look for n in item.boxes) if isinstance(item, Woven) else boxes[item].look


def _boxes(items: object) -> int:
    """How many boxes a nest holds."""
    if isinstance(items, Branches):
        return sum(map(_boxes, items.paths))
    if isinstance(items, Repeat):
        return items.times * _boxes(items.items)
    if isinstance(items, Woven):
        return len(items.boxes)
    return sum(map(_boxes, items)) if isinstance(items, list) else 1


def _fold(items: list, boxes: dict[int, Box]) -> list:
    """Runs of equal items become one `Repeat`; the shortest period that repeats wins."""
    for item in items:
        if isinstance(item, Branches):
            item.paths = [_fold(path, boxes) for path in item.paths]
    looks, folded, i = [_look(item, boxes) for item in items], [], 0
    while i < len(items):
        best, times = 0, 1
        for period in range(1, (len(items) - i) // 2 + 1):
            count = 1
            while looks[i + count * period : i + (count + 1) * period] == looks[i : i + period]:
                count += 1
            if count > 1 and not isinstance(items[i + period - 1], Branches):
                best, times = period, count
                break
        if times > 1:
            folded.append(Repeat(items[i : i + best], times))
            i += best * times
        else:
            folded.append(items[i])
            i += 1
    return folded


# --- the canvas -----------------------------------------------------------------------------------------------------


class _Canvas:
    """Collects what is to be drawn in inches, y downwards; `turned` swaps x and y of all that is added."""

    def __init__(self, points: float):
        self.points = points
        self.small = 0.92 * points
        self.turned = False
        self.patches: list = []
        self.texts: list[tuple] = []
        self._measure = FigureCanvasAgg(Figure(dpi=72)).get_renderer()
        self._font = FontProperties(family=matplotlib.rcParams["font.family"])

    def width(self, text: str, points: float | None = None, *, bold: bool = False) -> float:
        font = self._font.copy()
        font.set_size(points or self.points)
        font.set_weight("bold" if bold else "normal")
        return (
            self._measure.get_text_width_height_descent(text, font, False)[0] / 72 if text else 0.0
        )

    def line(self, points: float | None = None) -> float:
        """The height of a line of text."""
        return (points or self.points) * 1.35 / 72

    def shades(self, kind: str) -> tuple:
        """Fill and edge of a box."""
        name, white = FILL.get(kind, FILL["other"])
        return tuple(white + (1 - white) * c for c in to_rgb(name)), to_rgb(name)

    def box(self, x: float, y: float, w: float, h: float, kind: str, **look) -> None:
        """A box from its top centre."""
        face, edge = self.shades(kind)
        left, top, w, h = (y, x - w / 2, h, w) if self.turned else (x - w / 2, y, w, h)
        r = min(0.06, h / 4, w / 4)
        look = {"facecolor": face, "edgecolor": edge, "linewidth": 1.1, "zorder": 3, **look}
        self.patches.append(
            FancyBboxPatch(
                (left + r, top + r), w - 2 * r, h - 2 * r, boxstyle=f"round,pad={r}", **look
            )
        )

    def circle(self, x: float, y: float, r: float, kind: str) -> None:
        face, edge = self.shades(kind)
        self.patches.append(
            Circle(
                (y, x) if self.turned else (x, y),
                r,
                facecolor=face,
                edgecolor=edge,
                linewidth=1.1,
                zorder=3,
            )
        )

    def polygon(
        self, points: list[tuple[float, float]], colour: tuple, edge: tuple, zorder: float
    ) -> None:
        self.patches.append(
            Polygon(
                points,
                closed=True,
                facecolor=colour,
                edgecolor=edge,
                linewidth=1.0,
                zorder=zorder,
                joinstyle="round",
            )
        )

    def text(self, x: float, y: float, text: str, **look) -> None:
        look = {
            "ha": "center",
            "va": "center",
            "fontsize": self.points,
            "color": INK,
            "zorder": 5,
            **look,
        }
        self.texts.append((x, y, text, look))

    def path(
        self,
        points: Sequence[tuple[float, float]],
        *,
        arrow: bool = True,
        colour: str = MUTED,
        dashed: bool = False,
        width: float = 1.3,
        bend: float = 0.09,
        zorder: float = 2,
    ) -> None:
        """A line with rounded corners, and an arrow head at its end."""
        points = [p for i, p in enumerate(points) if i == 0 or p != points[i - 1]]
        if len(points) < 2:
            return
        if self.turned:
            points = [(y, x) for x, y in points]
        (x0, y0), (x1, y1) = points[-2:]
        length = max(math.hypot(x1 - x0, y1 - y0), 1e-9)
        ux, uy = (x1 - x0) / length, (y1 - y0) / length
        head = min(0.09 if width > 1 else 0.06, length) if arrow else 0
        verts, codes = [points[0]], [Path.MOVETO]
        for before, corner, behind in zip(points, points[1:-1], points[2:], strict=False):
            near = []
            for far in (before, behind):
                reach = math.hypot(far[0] - corner[0], far[1] - corner[1])
                r = min(bend, reach / 2)
                near.append(
                    tuple(c + (f - c) * r / reach for c, f in zip(corner, far, strict=True))
                )
            verts += [near[0], corner, near[1]]
            codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
        verts.append((x1 - ux * head, y1 - uy * head))
        codes.append(Path.LINETO)
        self.patches.append(
            PathPatch(
                Path(verts, codes),
                facecolor="none",
                edgecolor=colour,
                linewidth=width,
                linestyle=(0, (3, 2)) if dashed else "-",
                zorder=zorder,
                capstyle="butt",
            )
        )
        if arrow:
            tip = [
                (x1, y1),
                (x1 - ux * head - uy * head / 2, y1 - uy * head + ux * head / 2),
                (x1 - ux * head + uy * head / 2, y1 - uy * head - ux * head / 2),
                (x1, y1),
            ]
            self.patches.append(
                PathPatch(Path(tip), facecolor=colour, edgecolor="none", zorder=zorder)
            )

    def title(self, x: float, y: float, text: str) -> None:
        self.text(x, y, text, fontsize=1.1 * self.points, fontweight="bold")

    def title_width(self, text: str | None) -> float:
        return self.width(text or "", 1.1 * self.points, bold=True)

    def legend(
        self, left: float, y: float, kinds: Iterable[tuple[str, str]], *, solid: bool = False
    ) -> float:
        """Small boxes with their meaning in one line from `left`; returns where the line ends."""
        for kind, word in kinds:
            face, edge = self.shades(kind)
            self.box(left + 0.08, y - 0.08, 0.16, 0.16, kind, facecolor=edge if solid else face)
            self.text(left + 0.24, y, word, ha="left", fontsize=self.small)
            left += 0.24 + self.width(word, self.small) + 0.3
        return left - 0.3

    def show(self, left: float, top: float, right: float, bottom: float, ax: Axes | None) -> Figure:
        """Everything drawn: on a figure of just this size, or fitted into given axes."""
        if ax is None:
            fig = plt.figure(figsize=(right - left, bottom - top))
            fig.set_layout_engine("none")  # the drawing is laid out already
            ax = fig.add_axes((0, 0, 1, 1))
            scale = 1.0
        else:
            fig = ax.figure
            inches = ax.get_window_extent().transformed(fig.dpi_scale_trans.inverted())
            scale = min(1.0, inches.width / (right - left), inches.height / (bottom - top))
        ax.set_xlim(left, right)
        ax.set_ylim(bottom, top)
        ax.set_aspect("equal")
        ax.set_axis_off()
        for patch in self.patches:
            patch.set_linewidth(patch.get_linewidth() * scale)
            ax.add_patch(patch)
        for x, y, text, look in self.texts:
            ax.text(x, y, text, **{**look, "fontsize": look["fontsize"] * scale})
        return fig


# --- from top to bottom ---------------------------------------------------------------------------------------------


class _Down:
    """Measures and places a nest of boxes from top to bottom; `tiny` boxes have no text."""

    def __init__(
        self, boxes: dict[int, Box], canvas: _Canvas, *, tiny: bool = False, costs: bool = False
    ):
        self.boxes, self.canvas, self.tiny, self.costs = boxes, canvas, tiny, costs
        self.joined = {j for box in boxes.values() if box.kind == "concat" for j in box.inputs}
        self.gap = (
            0.075 if tiny else 0.20
        )  # between boxes; a shape beside the arrow takes a line of text more
        self.side = (
            0.05 if tiny else 0.28
        )  # between branches, and between a branch and a line around it
        self.stroke = 0.7 if tiny else 1.3
        self.at: dict[int, tuple[float, float]] = {}  # box -> centre and top
        self.pending: list | None = None

    # sizes: (left of the axis, right of it, height)

    def texts(self, n: int) -> list[tuple[str, float]]:
        box = self.boxes[n]
        if box.kind == "add":
            return [(box.words[0], 1.25 * self.canvas.points)]
        extras = [(", ".join(box.extras), self.canvas.small)] if box.extras else []
        if self.costs and box.multiply_adds:
            extras.append((f"{box.multiply_adds / 1e6:,.1f} M multiply-adds", self.canvas.small))
        return [(box.text, self.canvas.points), *extras]

    def extent(self, n: int) -> tuple[float, float]:
        if self.tiny:
            return (0.10, 0.10) if self.boxes[n].kind == "add" else (0.17, 0.12)
        if self.boxes[n].kind == "add":
            return 0.32, 0.32
        texts = self.texts(n)
        return max(self.canvas.width(t, p) for t, p in texts) + 0.26, sum(
            self.canvas.line(p) for _, p in texts
        ) + 0.14

    def label(self, n: int) -> str:
        """The shape to write below a box: where it changed, and before a concatenation."""
        box = self.boxes[n]
        changed = {self.boxes[j].shape for j in box.inputs} != {box.shape} or n in self.joined
        return _size(box.shape) if changed and not self.tiny else ""

    def below(self, n: int) -> float:
        return self.gap + (self.canvas.line(self.canvas.small) if self.label(n) else 0.0)

    def around(self, item: Woven) -> list[tuple[int, int]]:
        """The arrows of woven boxes that do not lead to the next box; the first box gets its arrow from above."""
        pairs = list(zip(item.boxes, item.boxes[1:], strict=False))
        arrows = [(j, n) for n in item.boxes[1:] for j in self.boxes[n].inputs]
        last = self.boxes[item.join].inputs if item.join in self.boxes else []
        ends = [(j, item.join) for j in item.boxes[:-1] if j in last]
        return [arrow for arrow in [*arrows, *ends] if arrow not in pairs]

    def measure(self, item: object) -> tuple[float, float, float]:
        if isinstance(item, list):
            sizes = [self.measure(i) for i in item] or [(0.05, 0.05, self.gap)]
            return max(s[0] for s in sizes), max(s[1] for s in sizes), sum(s[2] for s in sizes)
        if isinstance(item, Repeat):
            left, right, height = self.measure(item.items)
            return (
                left + 0.12,
                right + 0.26 + self.canvas.width(f"×{item.times}", bold=True),
                height + 0.16,
            )
        if isinstance(item, Woven):
            left, right, height = self.measure(item.boxes)
            return (
                left,
                right + 0.5 * self.side * (len(self.around(item)) + 1) + (0 if self.tiny else 0.16),
                height,
            )
        if isinstance(item, Branches):
            paths = [self.measure(path) for path in item.paths]
            height = max(p[2] for p in paths) + self.gap
            main = self.main(item)
            if main is None:
                total = sum(p[0] + p[1] for p in paths) + self.side * (len(paths) - 1)
                return total / 2, total / 2, height
            edge = self.beside(item, main, paths)
            edge += sum(p[0] + p[1] + self.side for i, p in enumerate(paths) if i != main)
            joins = item.join != END and self.boxes[item.join].kind == "concat"
            edge += (self.side if item.straight else 0) + (0.16 if joins and not self.tiny else 0)
            return paths[main][0], max(paths[main][1], edge), height
        w, h = self.extent(item)
        words = (
            ", ".join(self.boxes[item].extras)
            if self.boxes[item].kind == "add" and not self.tiny
            else ""
        )
        left = w / 2 + (self.canvas.width(words, self.canvas.small) + 0.08 if words else 0)
        label = self.canvas.width(self.label(item), self.canvas.small)
        return left, max(w / 2, 0.1 + label if label else 0), h + self.below(item)

    def main(self, item: Branches) -> int | None:
        """The branch that stays on the axis; None: all branches are equal and stand around it."""
        joins = self.boxes[item.join].kind if item.join != END else "end"
        if len(item.paths) > 1 and joins == "concat" and not item.straight:
            return None
        return max(range(len(item.paths)), key=lambda i: (_boxes(item.paths[i]), -i))

    def beside(self, item: Branches, main: int, sizes: list[tuple[float, float, float]]) -> float:
        """How far the main branch reaches to the right where other branches stand beside it."""
        if item.join != END:
            return sizes[main][1]
        reach, y = 0.0, 0.0
        tall = max((size[2] for i, size in enumerate(sizes) if i != main), default=0.0) + self.gap
        for part in item.paths[main]:
            if y < tall:
                _, right, height = self.measure(part)
                reach, y = max(reach, right), y + height
        return reach

    # places

    def place(self, items: list, x: float, y: float, start: list) -> tuple[float, list]:
        """Draw a series below y, from the line `start`; returns where it ends and the line that leaves it.

        Lines that leave branches are left in `pending` when the series ends with them.
        """
        waiting: list | None = None  # lines that come from branches
        for item in items:
            if isinstance(item, Repeat):
                y, start = self.repeat(item, x, y, start)
            elif isinstance(item, Branches):
                y, waiting = self.branches(item, x, y, start)
            elif isinstance(item, Woven):
                y, waiting = self.woven(item, x, y, start)
            else:
                y, start = self.one(item, x, y, start, waiting)
                waiting = None
        self.pending = waiting
        return y, start

    def repeat(self, item: Repeat, x: float, y: float, start: list) -> tuple[float, list]:
        left, right, _ = self.measure(item.items)
        end, line = self.place(item.items, x, y + 0.08, start)
        frame = end - self.gap * 0.6
        centre, w = x + (right - left) / 2, left + right + 0.24
        self.canvas.box(
            centre,
            y - 0.06,
            w,
            frame - y + 0.06,
            "other",
            facecolor="none",
            edgecolor="0.55",
            linestyle=(0, (4, 3)),
            zorder=1,
        )
        self.canvas.text(
            centre + w / 2 + 0.07, (y + frame) / 2, f"×{item.times}", ha="left", fontweight="bold"
        )
        return end + 0.08, line

    def one(
        self, n: int, x: float, y: float, start: list, waiting: list | None
    ) -> tuple[float, list]:
        box, (w, h) = self.boxes[n], self.extent(n)
        centre = x  # of the text
        self.at[n] = (x, y)
        if waiting is None:
            self.line([*start, (x, y)])
        elif box.kind == "concat":
            ends = [line[-1][0] for line in waiting]
            lo, hi = min(*ends, x - w / 2), max(*ends, x + w / 2)
            margin = 0.03 if self.tiny else 0.14
            lo, hi = lo - margin * (lo in ends), hi + margin * (hi in ends)
            for line in waiting:
                self.line([*line, (line[-1][0], y)])
            self.canvas.box((lo + hi) / 2, y, hi - lo, h, "concat", **self.look())
            centre = (lo + hi) / 2
        else:
            for line in waiting:
                away = line[-1][0] - x
                if abs(away) < 1e-6:
                    self.line([*line, (x, y)])
                else:
                    self.line(
                        [
                            *line,
                            (line[-1][0], y + h / 2),
                            (x + math.copysign(w / 2, away), y + h / 2),
                        ]
                    )
        if box.kind == "add":
            self.canvas.circle(x, y + h / 2, w / 2, "add")
        elif not (waiting and box.kind == "concat"):
            self.canvas.box(x, y, w, h, box.kind, **self.look())
        if not self.tiny:
            self.write(n, x, y, centre)
        return y + h + self.below(n), [(x, y + h)]

    def write(self, n: int, x: float, y: float, centre: float) -> None:
        (w, h), texts = self.extent(n), self.texts(n)
        top = y + (h - sum(self.canvas.line(p) for _, p in texts)) / 2
        for text, points in texts:
            self.canvas.text(centre, top + self.canvas.line(points) / 2, text, fontsize=points)
            top += self.canvas.line(points)
        if self.boxes[n].kind == "add" and self.boxes[n].extras:
            self.canvas.text(
                x - w / 2 - 0.06,
                y + h / 2,
                ", ".join(self.boxes[n].extras),
                fontsize=self.canvas.small,
                ha="right",
            )
        if self.label(n):
            self.canvas.text(
                x + 0.07,
                y + h + 0.05 + self.canvas.line() / 2,
                self.label(n),
                ha="left",
                color=MUTED,
                fontsize=self.canvas.small,
            )

    def branches(
        self, item: Branches, x: float, y: float, start: list
    ) -> tuple[float, list | None]:
        sizes = [self.measure(path) for path in item.paths]
        left, _, height = self.measure(item)
        main = self.main(item)
        centres = [x] * len(sizes)
        edge = x - left if main is None else x + self.beside(item, main, sizes)
        for i, (l_i, r_i, _) in enumerate(sizes):
            if i != main:
                edge += self.side if main is not None or i else 0
                centres[i] = edge + l_i
                edge += l_i + r_i
        turn = y - self.gap * 0.55  # the height at which lines leave the trunk
        lines = []
        for path, centre in zip(item.paths, centres, strict=True):
            begin = start if abs(centre - x) < 1e-6 else [*start, (x, turn), (centre, turn)]
            _, out = self.place(path, centre, y + self.gap * 0.7, begin)
            lines.extend([out] if self.pending is None else self.pending)
        if item.straight:
            around = edge + self.side
            lines.append([*start, (x, turn), (around, turn), (around, y + height - self.gap)])
        if item.join == END:
            for line in lines:
                self.line([*line, (line[-1][0], line[-1][1] + self.gap)])
            return y + height, []
        return y + height, lines

    def woven(self, item: Woven, x: float, y: float, start: list) -> tuple[float, list]:
        turn, line, before = y - self.gap * 0.55, start, None
        for n in item.boxes:
            connected = before is None or before in self.boxes[n].inputs
            y, line = self.one(n, x, y, line if connected else [], None)
            before = n
        lines = [line]
        edge = x + self.measure(item.boxes)[1]
        for i, (j, n) in enumerate(self.around(item)):
            lane = edge + 0.5 * self.side * (i + 1)
            if j in item.boxes:
                out = self.at[j][1] + 0.7 * self.extent(j)[1]
                begin = [(x + self.extent(j)[0] / 2, out), (lane, out)]
            else:
                begin = [*start, (start[-1][0], turn), (lane, turn)]
            if n == item.join:
                lines.append([*begin, (lane, y - self.gap / 2)])
            else:
                into = self.at[n][1] + 0.3 * self.extent(n)[1]
                self.line([*begin, (lane, into), (x + self.extent(n)[0] / 2, into)])
        return y, lines

    def line(self, points: list) -> None:
        self.canvas.path(points, width=self.stroke, bend=0.03 if self.tiny else 0.09)

    def look(self) -> dict:
        return {"linewidth": 0.7} if self.tiny else {}


def _tower(
    canvas: _Canvas, boxes: dict[int, Box], x: float, title: str | None, fold: bool, costs: bool
) -> tuple:
    """One diagram from top to bottom with its input above; x is its left edge. Returns (right edge, bottom)."""
    down, items, y = _Down(boxes, canvas, costs=costs), _series(boxes), 0.1
    items = _fold(items, boxes) if fold else items
    left, right, _ = down.measure(items)
    shape = _size(boxes[INPUT].shape)
    half = canvas.width(shape, canvas.small) / 2
    left, right = max(left, half), max(right, half)
    spare = max(canvas.title_width(title) - left - right, 0) / 2
    axis = x + spare + left
    if title:
        canvas.title(x + spare + (left + right) / 2, y + 0.12, title)
        y += 0.36
    canvas.text(axis, y + canvas.line() / 2, shape, color=MUTED, fontsize=canvas.small)
    y += canvas.line()
    top = (
        y + down.gap + (0 if isinstance(items[0], Branches) else 0.7 * down.gap)
    )  # first boxes at one height
    end, out = down.place(items, axis, top, [(axis, y)])
    if down.pending is None:
        canvas.path([*out, (out[-1][0], end + 0.08)])
    return axis + right + spare, end + 0.1


# --- draw: one module -----------------------------------------------------------------------------------------------


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
    boxes, canvas = _graph(table), _Canvas(points)
    if level == "graph":
        return _map(canvas, boxes, table.classes, title, ax)
    if level != "block":
        boxes = _merged(boxes, table.classes)
    if level == "network":
        return _volumes(canvas, boxes, title, fold, ax)
    right, bottom = _tower(canvas, boxes, 0.12, title, fold, costs)
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
    canvas = _Canvas(points)
    right, bottom = 0.12 - 0.45, 0.0
    for title, model, input_shape in parts:
        table = cost.table(model, input_shape)
        boxes = _graph(table) if level == "block" else _merged(_graph(table), table.classes)
        right, low = _tower(canvas, boxes, right + 0.45, title, fold, costs)
        bottom = max(bottom, low)
    return canvas.show(0.0, 0.0, right + 0.12, bottom + 0.06, None)


MEANING = (
    ("conv", "convolution"),
    ("pool", "pooling"),
    ("fc", "fully connected"),
    ("concat", "join"),
    ("norm", "normalisation"),
    ("other", "other"),
)


def _map(
    canvas: _Canvas,
    boxes: dict[int, Box],
    classes: dict[str, str],
    title: str | None,
    ax: Axes | None,
) -> Figure:
    """Every layer as a small box from left to right, the names of blocks above them, a legend below."""
    down = _Down(boxes, canvas, tiny=True)
    items = _series(boxes)
    up, low, length = down.measure(items)
    top = 0.12 + (0.36 if title else 0) + canvas.line()
    canvas.turned = True
    down.place(items, top + up + 0.1, 0.2, [(top + up + 0.1, 0.1)])
    canvas.turned = False
    spans: dict[str, list[float]] = {}
    for n, (_, x) in down.at.items():
        owner = _owner(boxes[n].name, classes)
        if owner:
            spans.setdefault(owner, []).extend((x, x + down.extent(n)[1]))
    trunk = top + up + 0.1
    alike: dict[str, list[str]] = {}
    for owner in spans:
        alike.setdefault(classes[owner], []).append(owner)
    end = -1.0
    for owner, xs in sorted(spans.items(), key=lambda span: min(span[1])):
        names = alike[classes[owner]]
        word = owner
        if len(names) > 1:  # inception3a, inception3b -> 3a, 3b
            same = len(_common(names))
            word = owner[same:]
        half = canvas.width(word, canvas.small) / 2
        middle = (min(xs) + max(xs)) / 2
        members = [n for n in down.at if _owner(boxes[n].name, classes) == owner]
        if (
            word
            and len(xs) > 2
            and middle - half > end + 0.04
            and any(down.at[n][0] < trunk + 0.1 for n in members)
        ):
            canvas.text(
                middle, top - canvas.line() / 2 + 0.04, word, fontsize=canvas.small, color=MUTED
            )
            end = middle + half
    y = trunk + low + 0.28
    kinds = {box.kind for box in boxes.values()}
    right = max(
        length + 0.35,
        canvas.legend(
            0.15, y, [m for m in MEANING if m[0] in kinds or m[0] == "concat" and "add" in kinds]
        )
        + 0.15,
    )
    if title:
        canvas.title(right / 2, 0.24, title)
    return canvas.show(0.0, 0.0, max(right, canvas.title_width(title) + 0.2), y + 0.2, ax)


def _common(names: list[str]) -> str:
    """What all names begin with."""
    first, last = min(names), max(names)
    n = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[:n].rstrip("0123456789")


# --- the network as volumes -----------------------------------------------------------------------------------------


@dataclass
class _Volume:
    words: list[str]
    shape: tuple
    kind: str
    groups: int
    times: int = 1


def _trunk(items: list, boxes: dict[int, Box]) -> list[int]:
    """The boxes on the main way through a nest: joins, but no branches; of ends the longest."""
    way = []
    for item in items:
        if isinstance(item, Branches):
            if item.join == END:
                way += _trunk(max(item.paths, key=_boxes), boxes)
        elif isinstance(item, Repeat):
            way += _trunk(item.items, boxes) * item.times
        elif not isinstance(item, Woven):
            way.append(item)
    return way


def _volumes(
    canvas: _Canvas, boxes: dict[int, Box], title: str | None, fold: bool, ax: Axes | None
) -> Figure:
    volumes = [_Volume(["input"], boxes[INPUT].shape, "input", 1)]
    towers = max((box.groups for box in boxes.values() if box.groups <= 4), default=1)
    pooled = None  # the side to which the last volume was pooled
    for n in _trunk(_series(boxes), boxes):
        box, last = boxes[n], volumes[-1]
        word = ", ".join([box.words[0], *(w for w in box.words[1:] if w.startswith("/"))])
        same = (
            box.kind == last.kind
            and _side(last.shape) == _side(box.shape)
            and box.words[0] == last.words[0]
        )
        if box.kind in ("pool", "norm", "other") and len(volumes) > 1:
            last.words.append(word)
            pooled = _side(box.shape)
        elif (
            fold
            and towers == 1
            and same
            and pooled is None
            and (box.kind == "block" or last.shape == box.shape)
        ):
            last.times, last.shape = last.times + 1, box.shape
        else:
            pooled = None
            volumes.append(
                _Volume(["fc" if box.kind == "fc" else word], box.shape, box.kind, box.groups)
            )
    side = max(_side(v.shape) for v in volumes)
    tall, slant = 1.5, 0.32  # inches of the largest side; how far depth moves to the right and up

    def extent(v: _Volume, share: int) -> tuple[float, float, float]:
        channels = v.shape[0] / share if v.shape else 1
        if _side(v.shape) == 1:
            return 0.13, 0.022 * math.sqrt(channels), 0.08
        h = tall * math.sqrt(_side(v.shape) / side)
        return 0.07 + 0.0175 * math.sqrt(channels), h, slant * h

    def shares(i: int) -> int:
        return towers if 0 < i < len(volumes) - 1 else 1

    texts = [
        [
            _size(v.shape),
            *(f"{v.words[0]} ×{v.times}" if v.times > 1 else v.words[0],),
            *v.words[1:],
        ]
        for v in volumes
    ]
    room = (
        max(
            extent(v, shares(i))[1] + extent(v, shares(i))[2]
            for i, v in enumerate(volumes)
            if towers == 1 or 0 < i
        )
        if towers > 1
        else 0.0
    )
    head = 0.12 + (0.36 if title else 0)
    heights = [extent(v, shares(i)) for i, v in enumerate(volumes)]
    middle = head + (
        max(h + d for _, h, d in heights) / 2 if towers == 1 else (towers * room + 0.25) / 2
    )
    middle = max(middle, head + (heights[0][1] + heights[0][2]) / 2)
    lanes = [middle + (k - (towers - 1) / 2) * (room + 0.25) for k in range(towers)]
    x, ports = 0.15, []  # where arrows start and end: [(left, right, y)] for each tower
    for i, (v, text) in enumerate(zip(volumes, texts, strict=True)):
        w, h, d = heights[i]
        wide = max(w + d, max(canvas.width(t, canvas.small) for t in text))
        left = x + (wide - w - d) / 2
        here = []
        for y in lanes if shares(i) > 1 else [middle]:
            y = y + d / 4
            face, edge = canvas.shades(v.kind)
            dark = tuple(0.82 * c + 0.18 * e for c, e in zip(face, edge, strict=True))
            corners = [
                (left, y - h / 2),
                (left + w, y - h / 2),
                (left + w, y + h / 2),
                (left, y + h / 2),
            ]
            top = [corners[0], (left + d, y - h / 2 - d), (left + w + d, y - h / 2 - d), corners[1]]
            end = [
                corners[1],
                (left + w + d, y - h / 2 - d),
                (left + w + d, y + h / 2 - d),
                corners[2],
            ]
            for part, colour in ((top, face), (end, dark), (corners, face)):
                canvas.polygon(part, colour, edge, 3)
            here.append((left - 0.04, left + w + d / 2 + 0.02, y - d / 4))
        ports.append(here)
        x += wide + 0.3
    bottom = (
        max(
            middle + max(h + d for _, h, d in heights) / 2 if towers == 1 else lanes[-1] + room / 2,
            0,
        )
        + 0.12
    )
    bottom = max(bottom, middle + (heights[0][1] + heights[0][2]) / 2 + 0.12)
    for i in range(1, len(volumes)):
        for a, start in enumerate(ports[i - 1]):
            for b, end in enumerate(ports[i]):
                apart = len(ports[i - 1]) > 1 and len(ports[i]) > 1 and volumes[i].groups > 1
                if not apart or a == b:
                    canvas.path([(start[1], start[2]), (end[0], end[2])], width=1.1, zorder=4)
    for (_, right, _), i, text in zip(
        (p[0] for p in ports), range(len(volumes)), texts, strict=True
    ):
        w, _, d = heights[i]
        centre = right - 0.02 - w / 2
        for k, line in enumerate(text):
            canvas.text(
                centre,
                bottom + (k + 0.5) * canvas.line(canvas.small),
                line,
                fontsize=canvas.small,
                color=INK if k else MUTED,
            )
    low = bottom + max(map(len, texts)) * canvas.line(canvas.small)
    right = max(x - 0.15, canvas.title_width(title) + 0.2)
    if title:
        canvas.title(right / 2, 0.24, title)
    return canvas.show(0.0, 0.0, right, low + 0.08, ax)


# --- networks side by side ------------------------------------------------------------------------------------------


@dataclass
class _Cell:
    row: int
    lane: float  # -0.5 .. 0.5 across the column
    share: float  # of the column's width
    box: Box


class _Column:
    """One network as rows of boxes and arcs between them."""

    def __init__(self, model: nn.Module, input_shape: tuple[int, ...]):
        self.costs = cost.table(model, input_shape)
        self.boxes = _graph(self.costs)
        self.cells: list[_Cell] = []
        self.arcs: list[tuple[int, int, bool]] = []  # from above this row to below that row; dashed
        self.rows = self.place(_series(self.boxes), 0, 0.0, 1.0)
        self.sides = [1] * self.rows
        for cell in reversed(self.cells):
            self.sides[cell.row] = _side(cell.box.shape)
        self.depth = len({cell.row for cell in self.cells if cell.box.kind != "pool"})

    def place(self, items: list, row: int, lane: float, share: float) -> int:
        for item in items:
            if isinstance(item, Branches):
                join = self.boxes[item.join].kind if item.join != END else "end"
                if join == "add":
                    after = self.place(max(item.paths, key=_boxes), row, lane, share)
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
                        self.cells.append(_Cell(row, lane, share, self.boxes[n]))
                        row += 1
        return row


def _named(networks: Iterable, where: str) -> list[tuple[str, _Column]]:
    named = [(title, _Column(model, shape)) for title, model, shape in networks]
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
    canvas = _Canvas(points)
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
    canvas = _Canvas(points)
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
