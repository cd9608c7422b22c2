"""Diagrams from top to bottom: every layer a box with its words, branches side by side."""

from __future__ import annotations

import math

from cnncourse.cost.rows import size_text
from cnncourse.diagrams.boxes import INPUT, Box
from cnncourse.diagrams.canvas import MUTED, Canvas
from cnncourse.diagrams.wiring import END, Branches, Repeat, Woven, count_boxes, fold_runs, series


class Down:
    """Measures and places a nest of boxes from top to bottom; `tiny` boxes have no text."""

    def __init__(
        self, boxes: dict[int, Box], canvas: Canvas, *, tiny: bool = False, costs: bool = False
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
        return size_text(box.shape) if changed and not self.tiny else ""

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
        return max(range(len(item.paths)), key=lambda i: (count_boxes(item.paths[i]), -i))

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


def tower(
    canvas: Canvas, boxes: dict[int, Box], x: float, title: str | None, fold: bool, costs: bool
) -> tuple:
    """One diagram from top to bottom with its input above; x is its left edge. Returns (right edge, bottom)."""
    down, items, y = Down(boxes, canvas, costs=costs), series(boxes), 0.1
    items = fold_runs(items, boxes) if fold else items
    left, right, _ = down.measure(items)
    shape = size_text(boxes[INPUT].shape)
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
