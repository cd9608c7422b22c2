"""Diagrams of real networks: every box, number and arrow comes from a trace of the module, none is typed in.

`draw` shows one module from top to bottom with branches, shortcuts and repeats; `columns` sets networks side by side.
One unit of the drawing is one inch, so letters keep their size and never overlap what is beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch
from matplotlib.path import Path
from torch import nn

from cnncourse import cost
from cnncourse.errors import ParameterError, nearest

# kind of a box -> colour (a name of the style's cycle) and how much of it is white
FILL = {"conv": ("C0", 0.78), "fc": ("C2", 0.70), "pool": ("C1", 0.66), "concat": ("C3", 0.80), "add": ("C3", 0.80),
        "block": ("C0", 0.78), "norm": ("0.5", 0.75), "other": ("0.5", 0.75)}
INK, MUTED = "0.13", "0.40"
LEVELS = ("block", "stage", "network")
CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")
SHORT = {"BatchNorm1d": "BN", "BatchNorm2d": "BN", "BatchNorm3d": "BN", "LocalResponseNorm": "LRN", "LayerNorm": "LN",
         "LayerNorm2d": "LN", "GroupNorm": "GN", "relu": "ReLU", "local_response_norm": "LRN", "batch_norm": "BN"}


# --- from the trace to boxes ----------------------------------------------------------------------------------------


@dataclass
class Box:
    """One box: what it says, how it looks, what comes out of it, and which boxes it reads."""

    lines: list[str]
    kind: str
    shape: tuple
    inputs: list[int]
    name: str = ""
    extras: list[str] = field(default_factory=list)  # what follows at once: BN, ReLU
    parameters: int = 0
    multiply_adds: int = 0

    @property
    def look(self) -> tuple:
        """What two boxes share when one can stand for both."""
        return tuple(self.lines), self.kind, self.shape, tuple(self.extras), self.parameters


INPUT = -1


def _graph(costs: cost.Table, level: str) -> dict[int, Box]:
    """The boxes of a table by number; `INPUT` is the image. Views vanish, normalisation and activation join their layer."""
    rows = [row for row in costs.rows if not row.note]
    owner = _owners(costs, level)
    target: dict[int, int] = {INPUT: INPUT}  # row -> the box that holds it
    consumers: dict[int, set[int]] = {}
    for i, row in enumerate(rows):
        for j in row.inputs:
            consumers.setdefault(j, set()).add(i)
    boxes: dict[int, Box] = {INPUT: Box(["input"], "input", costs.input_shape, [])}
    groups: dict[str, int] = {}
    for i, row in enumerate(rows):
        sources = list(dict.fromkeys(target[j] for j in row.inputs))
        single = sources[0] if len(sources) == 1 else None
        if owner[i] is not None:
            if owner[i] not in groups:
                groups[owner[i]] = i
                boxes[i] = Box([costs.classes.get(owner[i], owner[i])], "block", row.output_shape, [], owner[i])
            target[i] = groups[owner[i]]
            box = boxes[target[i]]
            box.inputs += [j for j in sources if j != target[i] and j not in box.inputs]
            box.shape = row.output_shape
            box.parameters += row.parameters
            box.multiply_adds += row.multiply_adds
        elif not row.inputs:
            target[i] = INPUT  # made from parameters alone: not part of the flow
            continue
        elif single is not None and (row.is_view or not row.multiply_adds and row.kernel is None and _quiet(row, boxes, single)
                                     and (single != INPUT or row.is_view) and (row.is_view or _only(rows, row, consumers))):
            target[i] = single
            box = boxes[single]
            box.shape = box.shape if row.is_view or single == INPUT else row.output_shape
            word = SHORT.get(row.kind, row.kind)
            if not row.is_view and not row.kind.startswith("Adaptive"):
                box.extras.append(word)
            box.parameters += row.parameters
        else:
            target[i] = i
            boxes[i] = Box(_lines(row), _kind(row), row.output_shape, sources, row.name, [], row.parameters, row.multiply_adds)
    return boxes


def _quiet(row: cost.Row, boxes: dict[int, Box], source: int) -> bool:
    return row.output_shape == boxes[source].shape


def _only(rows: list[cost.Row], row: cost.Row, consumers: dict[int, set[int]]) -> bool:
    """Whether nobody else reads what this row reads; else the other reader would seem to read this row's output."""
    return all(len(consumers[j]) == 1 for j in row.inputs)


def _owners(costs: cost.Table, level: str) -> list[str | None]:
    """For each row the block that swallows it at this level, or None for a box of its own."""
    rows = [row for row in costs.rows if not row.note]
    if level == "block":
        return [None] * len(rows)
    owners = []
    for row in rows:
        parts = row.name.split(".")
        paths = [".".join(parts[:n]) for n in range(1, len(parts))]
        owners.append(next((p for p in paths if costs.classes.get(p, CONTAINERS[0]) not in CONTAINERS), None))
    return owners


def _kind(row: cost.Row) -> str:
    name = row.kind.lower()
    if "conv" in name:
        return "conv"
    if "pool" in name or name in ("mean", "amax"):
        return "pool"
    if "linear" in name or row.multiply_adds and row.kernel is None:
        return "fc"
    if name in ("cat", "concat", "concatenate", "stack"):
        return "concat"
    if name in ("add", "iadd", "mul", "imul", "sub"):
        return "add"
    if "norm" in name or row.parameters:
        return "norm"
    return "other"


def _lines(row: cost.Row) -> list[str]:
    kind = _kind(row)
    stride = f", /{row.stride[0]}" if row.stride and max(row.stride) > 1 else ""
    kernel = "×".join(map(str, row.kernel)) if row.kernel else ""
    if kind == "conv" and row.kernel:
        word = "transposed conv" if "transpose" in row.kind.lower() else "conv"
        groups = f", {row.groups} groups" if row.groups > 1 else ""
        return [f"{kernel} {word}, {row.output_shape[0]}{stride}{groups}"]
    if kind == "pool":
        word = "max pool" if "max" in row.kind.lower() else "average pool"
        return [f"{kernel} {word}{stride}" if kernel else word]
    if kind == "fc" and "linear" in row.kind.lower():
        return [f"fc {row.output_shape[-1]}"]
    if kind == "concat":
        return ["concatenate"]
    if kind == "add":
        return [{"mul": "×", "imul": "×", "sub": "−"}.get(row.kind.lower(), "+")]
    return [SHORT.get(row.kind, row.kind)]


def _size(shape: tuple) -> str:
    if shape and isinstance(shape[0], tuple):
        return ", ".join(map(_size, shape))
    return "×".join(map(str, shape))


# --- from boxes to a series of boxes and branches -------------------------------------------------------------------


@dataclass
class Branches:
    """What lies between a split and the box that joins it; `straight`: some data goes around everything."""

    paths: list[list]
    straight: bool
    join: int  # the number of the joining box, or `END`


@dataclass
class Repeat:
    items: list
    times: int


END = 1 << 30


def _series(boxes: dict[int, Box]) -> list:
    """The boxes as a nest of series and branches, in which every arrow has its place."""
    order = sorted(boxes)
    after: dict[int, list[int]] = {n: [] for n in [*order, END]}
    for n in order:
        for j in boxes[n].inputs:
            after[j].append(n)
    for n in order:
        if not after[n]:
            after[n].append(END)
    position = {n: i for i, n in enumerate([*order, END])}
    passes: dict[int, int] = {END: 1 << position[END]}  # bit set: all boxes that every way to the end passes
    for n in reversed(order):
        common = -1
        for m in after[n]:
            common &= passes[m]
        passes[n] = common | 1 << position[n]
    numbers = [*order, END]

    def join(n: int) -> int:
        later = passes[n] >> (position[n] + 1)
        return numbers[position[n] + 1 + (later & -later).bit_length() - 1]

    def walk(n: int, end: int) -> list:
        items: list = []
        while True:
            follows = after[n]
            if len(follows) == 1:
                if follows[0] == end:
                    return items
                items.append(follows[0])
                n = follows[0]
                continue
            meet = join(n)
            items.append(split(n, meet))
            if meet == end:
                return items
            items.append(meet)
            n = meet

    def split(n: int, meet: int) -> Branches:
        inside, stack = set(), [m for m in after[n] if m != meet]
        while stack:
            m = stack.pop()
            if m not in inside and m != meet:
                inside.add(m)
                stack += after[m]
        parts: list[set[int]] = []
        for m in sorted(inside, key=position.get):
            mine = {m, *(j for j in boxes[m].inputs if j in inside)}
            touching = [p for p in parts if p & mine]
            parts = [p for p in parts if not p & mine] + [mine.union(*touching)]
        parts.sort(key=lambda p: min(position[m] for m in p))
        paths = []
        for part in parts:
            entries = [m for m in after[n] if m in part]
            first = min(part, key=position.get)
            if len(set(entries)) == 1 and all(set(boxes[m].inputs) <= part | {n} for m in part):
                paths.append([first, *walk(first, meet)])
            else:
                paths.append(sorted(part, key=position.get))  # woven: drawn as a chain with arcs
        return Branches(paths, meet in after[n], meet)

    return walk(INPUT, END)


def _look(item: object, boxes: dict[int, Box]) -> tuple:
    if isinstance(item, Branches):
        return tuple(tuple(_look(i, boxes) for i in path) for path in item.paths), item.straight
    if isinstance(item, Repeat):
        return item.times, tuple(_look(i, boxes) for i in item.items)
    return boxes[item].look


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
            while looks[i + count * period:i + (count + 1) * period] == looks[i:i + period]:
                count += 1
            if count > 1 and not isinstance(items[i + period - 1], Branches):
                best, times = period, count
                break
        if times > 1:
            folded.append(Repeat(items[i:i + best], times))
            i += best * times
        else:
            folded.append(items[i])
            i += 1
    return folded


# --- the canvas -----------------------------------------------------------------------------------------------------


class _Canvas:
    """Collects what is to be drawn in inches, y downwards, and knows how large it became."""

    def __init__(self, points: float):
        self.points = points
        self.patches: list = []
        self.texts: list[tuple] = []
        self._measure = FigureCanvasAgg(Figure(dpi=72)).get_renderer()
        self._font = matplotlib.font_manager.FontProperties(family=matplotlib.rcParams["font.family"])

    def width(self, text: str, points: float | None = None) -> float:
        font = self._font.copy()
        font.set_size(points or self.points)
        return max((self._measure.get_text_width_height_descent(line, font, False)[0] for line in text.split("\n")), default=0) / 72

    @property
    def line(self) -> float:
        """The height of a line of text."""
        return self.points * 1.3 / 72

    def box(self, x: float, y: float, w: float, h: float, kind: str, **look) -> None:
        name, white = FILL.get(kind, FILL["other"])
        face = tuple(white + (1 - white) * c for c in to_rgb(name))
        r = min(0.06, h / 4)
        self.patches.append(lambda: FancyBboxPatch((x - w / 2 + r, y + r), w - 2 * r, h - 2 * r, boxstyle=f"round,pad={r}",
                                                   **{"facecolor": face, "edgecolor": to_rgb(name), "linewidth": 1.1, "zorder": 3, **look}))

    def circle(self, x: float, y: float, r: float, kind: str) -> None:
        name, white = FILL[kind]
        face = tuple(white + (1 - white) * c for c in to_rgb(name))
        self.patches.append(lambda: Circle((x, y), r, facecolor=face, edgecolor=to_rgb(name), linewidth=1.1, zorder=3))

    def text(self, x: float, y: float, text: str, **look) -> None:
        self.texts.append((x, y, text, {"ha": "center", "va": "center", "fontsize": self.points, "color": INK, "zorder": 5, **look}))

    def path(self, points: Sequence[tuple[float, float]], *, arrow: bool = True, colour: str = MUTED, dashed: bool = False,
             width: float = 1.3, bend: float = 0.09) -> None:
        """A line with rounded corners, and an arrow head at its end."""
        points = [p for i, p in enumerate(points) if i == 0 or p != points[i - 1]]
        if len(points) < 2:
            return
        (x0, y0), (x1, y1) = points[-2:]
        length = max(abs(x1 - x0) + abs(y1 - y0), 1e-9)
        ux, uy = (x1 - x0) / length, (y1 - y0) / length
        head = min(0.09, length) if arrow else 0
        verts, codes = [points[0]], [Path.MOVETO]
        for before, corner, behind in zip(points, points[1:-1], points[2:], strict=False):
            for far in (before, behind):
                reach = abs(far[0] - corner[0]) + abs(far[1] - corner[1])
                r = min(bend, reach / 2)
                near = tuple(c + (f - c) * r / reach for c, f in zip(corner, far, strict=True))
                if far is before:
                    verts += [near, corner]
                    codes += [Path.LINETO, Path.CURVE3]
                else:
                    verts.append(near)
                    codes.append(Path.CURVE3)
        verts.append((x1 - ux * head, y1 - uy * head))
        codes.append(Path.LINETO)
        self.patches.append(lambda: PathPatch(Path(verts, codes), facecolor="none", edgecolor=colour, linewidth=width,
                                              linestyle=(0, (3, 2)) if dashed else "-", zorder=2, capstyle="butt"))
        if arrow:
            half = 0.045
            tip = [(x1, y1), (x1 - ux * head - uy * half, y1 - uy * head + ux * half),
                   (x1 - ux * head + uy * half, y1 - uy * head - ux * half), (x1, y1)]
            self.patches.append(lambda: PathPatch(Path(tip), facecolor=colour, edgecolor="none", zorder=2))

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
            patch = patch()
            patch.set_linewidth(patch.get_linewidth() * scale)
            ax.add_patch(patch)
        for x, y, text, look in self.texts:
            ax.text(x, y, text, **{**look, "fontsize": look["fontsize"] * scale})
        return fig


# --- draw: one module from top to bottom ----------------------------------------------------------------------------


GAP = 0.20  # between boxes; with a shape written beside the arrow, a line of text more
SIDE = 0.28  # between branches, and between a branch and the line that goes around it


class _Down:
    """Measures and places a nest of boxes from top to bottom."""

    def __init__(self, boxes: dict[int, Box], canvas: _Canvas):
        self.boxes, self.canvas = boxes, canvas
        self.narrow = 0.9 * canvas.points  # of the small letters
        self.bottom: dict[int, tuple[float, float]] = {}  # where the arrow out of a box starts

    # sizes: (left, right, height) around the axis of an item

    def texts(self, n: int) -> list[tuple[str, float]]:
        box = self.boxes[n]
        small = [", ".join(box.extras)] if box.extras else []
        if box.kind == "add":
            return [(box.lines[0], 1.25 * self.canvas.points)]
        return [(line, self.canvas.points) for line in box.lines] + [(line, self.narrow) for line in small]

    def extent(self, n: int) -> tuple[float, float]:
        if self.boxes[n].kind == "add":
            return 0.32, 0.32
        texts = self.texts(n)
        return (max(self.canvas.width(t, p) for t, p in texts) + 0.26,
                sum(p * 1.35 / 72 for _, p in texts) + 0.14)

    def label(self, n: int) -> str:
        """The shape to write below a box: where it changed, and after a join."""
        box = self.boxes[n]
        before = {self.boxes[j].shape for j in box.inputs}
        return _size(box.shape) if n == INPUT or before != {box.shape} else ""

    def below(self, n: int) -> float:
        return GAP + (self.canvas.line if self.label(n) else 0.0)

    def measure(self, item: object) -> tuple[float, float, float]:
        if isinstance(item, list):
            sizes = [self.measure(i) for i in item] or [(0.05, 0.05, GAP)]
            return max(s[0] for s in sizes), max(s[1] for s in sizes), sum(s[2] for s in sizes)
        if isinstance(item, Repeat):
            left, right, height = self.measure(item.items)
            return left + 0.12, right + 0.12 + self.canvas.width(f"×{item.times}") + 0.08, height + 0.16
        if isinstance(item, Branches):
            paths = [self.measure(path) for path in item.paths]
            height = max(p[2] for p in paths) + GAP
            main = self.main(item)
            if main is None:
                total = sum(p[0] + p[1] for p in paths) + SIDE * (len(paths) - 1)
                return total / 2, total / 2, height
            others = sum(p[0] + p[1] + SIDE for i, p in enumerate(paths) if i != main)
            return paths[main][0], paths[main][1] + others + (SIDE if item.straight else 0), height
        w, h = self.extent(item)
        return w / 2, max(w / 2, 0.1 + self.canvas.width(self.label(item), self.narrow)), h + self.below(item)

    def main(self, item: Branches) -> int | None:
        """The branch that stays on the axis; None: all branches are equal and stand around it."""
        joins = self.boxes[item.join].kind if item.join != END else "end"
        if len(item.paths) > 1 and joins == "concat" and not item.straight:
            return None
        return max(range(len(item.paths)), key=lambda i: (_boxes(item.paths[i]), -i))

    # places

    def place(self, items: list, x: float, y: float, start: list) -> tuple[float, list]:
        """Draw a series below y; returns where it ends and where the arrow out of its last box starts."""
        waiting: list[list[tuple[float, float]]] | None = None  # lines that come from branches
        for item in items:
            if isinstance(item, Repeat):
                left, right, height = self.measure(item)
                times = f"×{item.times}"
                inner_left, inner_right, _ = self.measure(item.items)
                y_in = y + 0.08
                y_out, start = self.place(item.items, x, y_in, start)
                y_frame = y_out - GAP * 0.6
                w = inner_left + inner_right + 0.24
                cx = x + (inner_right - inner_left) / 2
                self.canvas.box(cx, y - 0.06, w, y_frame - y + 0.06, "other", facecolor="none", edgecolor="0.55",
                                linestyle=(0, (4, 3)), zorder=1)
                self.canvas.text(cx + w / 2 + 0.06, (y + y_frame) / 2, times, ha="left", fontweight="bold")
                y = y_out + 0.08
            elif isinstance(item, Branches):
                y, waiting = self.branches(item, x, y, start)
            else:
                y, start = self.one(item, x, y, start, waiting)
                waiting = None
        self.pending = waiting
        return y, start

    def one(self, n: int, x: float, y: float, start: list, waiting: list[list] | None) -> tuple[float, list]:
        box, (w, h) = self.boxes[n], self.extent(n)
        if waiting is None:
            self.canvas.path([*start, (x, y)])
        elif box.kind == "concat":
            span = [p[-1][0] for p in waiting]
            lo, hi = min([*span, x - w / 2]), max([*span, x + w / 2])
            lo, hi = lo - 0.12 * (lo in span), hi + 0.12 * (hi in span)
            for line in waiting:
                self.canvas.path([*line, (line[-1][0], y)])
            self.canvas.box((lo + hi) / 2, y, hi - lo, h, "concat")
        else:
            for line in waiting:
                if abs(line[-1][0] - x) < 1e-6:
                    self.canvas.path([*line, (x, y)])
                else:
                    side = x + w / 2 if line[-1][0] > x else x - w / 2
                    self.canvas.path([*line, (line[-1][0], y + h / 2), (side, y + h / 2)])
        if box.kind == "add":
            self.canvas.circle(x, y + h / 2, w / 2, "add")
        elif not (waiting and box.kind == "concat"):
            self.canvas.box(x, y, w, h, box.kind)
        texts = self.texts(n)
        top = y + (h - sum(p * 1.35 / 72 for _, p in texts)) / 2
        for text, points in texts:
            self.canvas.text(x, top + points * 1.35 / 144, text, fontsize=points)
            top += points * 1.35 / 72
        if box.kind == "add" and box.extras:
            self.canvas.text(x - w / 2 - 0.06, y + h / 2, ", ".join(box.extras), fontsize=self.narrow, ha="right")
        y_out = y + h + self.below(n)
        if self.label(n):
            self.canvas.text(x + 0.07, y + h + 0.06 + self.canvas.line / 2, self.label(n), ha="left", color=MUTED, fontsize=self.narrow)
        return y_out, [(x, y + h)]

    def branches(self, item: Branches, x: float, y: float, start: list) -> tuple[float, list]:
        sizes = [self.measure(path) for path in item.paths]
        main = self.main(item)
        height = max(s[2] for s in sizes) + GAP
        if main is None:
            left = x - (sum(s[0] + s[1] for s in sizes) + SIDE * (len(sizes) - 1)) / 2
            centres = []
            for s in sizes:
                centres.append(left + s[0])
                left += s[0] + s[1] + SIDE
        else:
            right, centres = x + sizes[main][1], [x] * len(sizes)
            for i, s in enumerate(sizes):
                if i != main:
                    centres[i] = right + SIDE + s[0]
                    right += SIDE + s[0] + s[1]
        turn = y - GAP * 0.55  # the height at which lines leave the trunk
        lines = []
        for path, centre in zip(item.paths, centres, strict=True):
            top = y + GAP * 0.6
            begin = start if abs(centre - x) < 1e-6 else [*start, (x, turn), (centre, turn)]
            _, out = self.place(path, centre, top + 0.02, begin)
            lines.extend(self.pending or [out])
        if item.straight:
            side = x + self.measure(item)[1]
            if main is not None:
                side = (right if len(sizes) > 1 else x + sizes[main][1]) + SIDE
            lines.append([*start, (x, turn), (side, turn), (side, y + height - GAP)])
        if item.join == END:
            for line in lines:
                self.canvas.path([*line, (line[-1][0], line[-1][1] + GAP)])
            return y + height, None
        return y + height, lines


def _boxes(items: object) -> int:
    if isinstance(items, Branches):
        return sum(map(_boxes, items.paths))
    if isinstance(items, Repeat):
        return items.times * _boxes(items.items)
    return sum(map(_boxes, items)) if isinstance(items, list) else 1


def draw(model: nn.Module, input_shape: tuple[int, ...], *, level: str = "block", title: str | None = None,
         ax: Axes | None = None, fold: bool = True, points: float = 11) -> Figure:
    """A diagram of `model` for an input of (C, H, W), from top to bottom, on a figure of its own or on `ax`.

    >>> diagrams.draw(models.resnet.BasicBlock(64, 64), (64, 56, 56), title="residual block")

    level: "block" shows every layer, "stage" one box for a block of layers. Runs of equal
    parts are folded into one with their number (``fold=False`` draws them all). `points` is the size of the letters.
    Raises `ParameterError` for an unknown level and what `cost.table` raises for a module or shape that do not fit.
    """
    if level not in LEVELS:
        raise ParameterError("a level of detail", repr(level), where="argument level of diagrams.draw", remedy=nearest(str(level), LEVELS))
    boxes = _graph(cost.table(model, input_shape), level)
    items = _series(boxes)
    items = _fold(items, boxes) if fold else items
    canvas = _Canvas(points)
    down = _Down(boxes, canvas)
    left, right, height = down.measure(items)
    y = 0.12
    if title:
        canvas.text(0, y + 0.1, title, fontsize=1.15 * points, fontweight="bold")
        half = canvas.width(title, 1.25 * points) / 2 + 0.05
        left, right, y = max(left, half), max(right, half), y + 0.34
    shape = _size(boxes[INPUT].shape)
    canvas.text(0, y + canvas.line / 2, shape, color=MUTED, fontsize=down.narrow)
    left, right = max(left, canvas.width(shape) / 2), max(right, canvas.width(shape) / 2)
    start = [(0.0, y + canvas.line)]
    y_out, out = down.place(items, 0.0, y + canvas.line + GAP, start)
    if down.pending is None:
        canvas.path([*out, (out[-1][0], y_out + 0.08)])
    return canvas.show(-left - 0.12, 0.0, right + 0.12, y_out + 0.16, ax)


# --- columns: networks side by side ---------------------------------------------------------------------------------


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
        self.boxes = _graph(self.costs, "block")
        self.cells: list[_Cell] = []
        self.arcs: list[tuple[int, int, bool]] = []  # from above this row, to below that row, dashed
        self.rows = self.place(_series(self.boxes), 0, 0.0, 1.0)

    def place(self, items: list, row: int, lane: float, share: float) -> int:
        for item in items:
            if isinstance(item, Branches):
                join = self.boxes[item.join].kind if item.join != END else "end"
                if join == "add":
                    main = max(item.paths, key=_boxes)
                    after = self.place(main, row, lane, share)
                    change = not item.straight
                    self.arcs.append((row, after - 1, change))
                    row = after
                else:
                    part = share / len(item.paths)
                    row = max(self.place(path, row, lane + (i - (len(item.paths) - 1) / 2) * part, part)
                              for i, path in enumerate(item.paths))
            elif self.boxes[item].kind in ("conv", "fc", "pool"):
                self.cells.append(_Cell(row, lane, share, self.boxes[item]))
                row += 1
        return row

    def size(self, row: int) -> int:
        """Height of the feature maps in a row, 1 for vectors."""
        shape = next(cell.box.shape for cell in self.cells if cell.row == row)
        return shape[-1] if len(shape) > 1 else 1


def columns(networks: Iterable[tuple[str, nn.Module, tuple[int, ...]]], *, points: float = 11) -> Figure:
    """Networks side by side, one box a layer, aligned by the size of their feature maps; shortcuts are arcs.

    >>> diagrams.columns([("VGG-19", models.vgg19(), (3, 224, 224)), ("ResNet-34", models.resnet34(), (3, 224, 224))])

    A dashed arc is a shortcut that changes the shape. Under each title: weight layers and multiply-adds.
    Raises what `cost.table` raises for a module or shape that do not fit.
    """
    named = [(title, _Column(model, shape)) for title, model, shape in networks]
    if not named:
        raise ParameterError("at least one (title, model, input_shape)", "none", where="diagrams.columns", remedy="pass a list of them")
    sizes = sorted({col.size(row) for _, col in named for row in range(col.rows)}, reverse=True)
    canvas = _Canvas(points)
    counts = {s: max(sum(col.size(row) == s for row in range(col.rows)) for _, col in named) for s in sizes}
    height, gap, between = points * 1.28 / 72, 0.045, 0.12
    top, y = {}, 0.22 + 3.6 * canvas.line
    for s in sizes:
        top[s] = y
        y += counts[s] * (height + gap) + between
    bottom = y
    margin = canvas.width("000×000") + 0.15
    x = margin
    for title, col in named:
        widths = [canvas.width(cell.box.lines[0]) + 0.2 for cell in col.cells]
        wide = max(w / cell.share for w, cell in zip(widths, col.cells, strict=True))
        arcs = 0.42 if col.arcs else 0.1
        layers = sum(cell.box.kind != "pool" for cell in col.cells)
        head = [title, f"{layers} weight layers", f"{col.costs.multiply_adds / 1e9:.1f} G multiply-adds"]
        wide = max(wide, *(canvas.width(t) * 1.1 for t in head))
        centre = x + wide / 2
        for i, text in enumerate(head):
            canvas.text(centre, 0.12 + (i + 0.5) * canvas.line * 1.1, text, fontweight="bold" if i == 0 else "normal",
                        fontsize=points, color=INK if i == 0 else MUTED)
        used: dict[int, int] = {}
        at: list[float] = []
        for row in range(col.rows):
            s = col.size(row)
            at.append(top[s] + used.get(s, 0) * (height + gap))
            used[s] = used.get(s, 0) + 1
        for cell in col.cells:
            w = wide * cell.share - (0.06 if cell.share < 1 else 0)
            canvas.box(centre + cell.lane * wide, at[cell.row], w, height, cell.box.kind, linewidth=0.8)
            canvas.text(centre + cell.lane * wide, at[cell.row] + height / 2, cell.box.lines[0])
        for row in range(1, col.rows):
            canvas.path([(centre, at[row - 1] + height), (centre, at[row])], arrow=at[row] - at[row - 1] > 2 * height, width=1.0)
        edge = centre + wide / 2
        for first, last, dashed in col.arcs:
            y0, y1 = at[first] - gap / 2, at[last] + height + gap / 2
            canvas.path([(edge - 0.02, y0), (edge + 0.26, y0), (edge + 0.26, y1), (edge - 0.02, y1)], dashed=dashed, bend=0.2)
        x += wide + arcs + 0.15
    for s in sizes:
        canvas.text(margin - 0.12, top[s] + height / 2, f"{s}×{s}", ha="right", color=MUTED)
        canvas.path([(0.05, top[s] - between / 2 - gap / 2), (x - 0.1, top[s] - between / 2 - gap / 2)], arrow=False, colour="0.85", width=0.8)
    return canvas.show(0.0, 0.0, x, bottom, None)
