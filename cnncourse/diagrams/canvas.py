"""The sheet that is drawn on: boxes, lines, letters and legends in inches, y downwards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path

from cnncourse.figures import COLOUR

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
MEANING = (
    ("conv", "convolution"),
    ("pool", "pooling"),
    ("fc", "fully connected"),
    ("concat", "join"),
    ("norm", "normalisation"),
    ("other", "other"),
)


class Canvas:
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
