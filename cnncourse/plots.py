"""Draw numbers on given axes: curves with their spread, bars, tables of numbers, pictures, regions of decision.

Every function gets axes and numbers, draws, and returns the axes; nothing is computed, shown or saved here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from cnncourse import dark
from cnncourse.errors import ShapeError
from cnncourse.figures import COLOUR, DIVERGING, SEQUENTIAL, STYLE

LABEL = 11  # points
MARKERS = "osD^vP"  # one a class: shape tells apart what colour may not


def curves(
    ax: Axes,
    series: Mapping[str, object],
    *,
    x: Sequence[float] | None = None,
    colours: Mapping[str, str] | None = None,
    styles: Mapping[str, str] | None = None,
    widths: Mapping[str, float] | None = None,
    labels: bool = True,
) -> Axes:
    """One line for each name, drawn from (points,) or from (seeds, points), and named at its right end.

    >>> curves(ax, {"plain": losses, "residual": other})  # losses (3, 10): three seeds, ten epochs

    Several seeds: the line is their mean, the band reaches from the lowest to the highest seed.
    x: the points' places, by default 1, 2, ... (epochs). colours, styles ("-", "--"), widths: by name; a name that
    COLOUR knows has its colour, the others follow the cycle. Set scale and limits of the axes before: labels are
    placed by them. Raises `ShapeError` when a series has more than two dimensions or not as many points as x.
    """
    for name, values in series.items():
        runs = _numbers(values)
        runs = runs[None] if runs.ndim == 1 else runs
        places = np.arange(1, runs.shape[-1] + 1) if x is None else _numbers(x)
        if runs.ndim != 2 or runs.shape[1] != len(places):
            raise ShapeError(
                f"({len(places)},) or (seeds, {len(places)}) numbers",
                tuple(np.shape(values)),
                where=f"series {name!r} of plots.curves",
                remedy="one row a seed, one column a point",
            )
        chosen = {"color": (colours or {}).get(name, COLOUR.get(name)), "linestyle": (styles or {}).get(name),
                  "linewidth": (widths or {}).get(name)}  # fmt: skip
        (line,) = ax.plot(
            places,
            runs.mean(0),
            label=name,
            **{key: value for key, value in chosen.items() if value is not None},
        )
        if len(runs) > 1:
            ax.fill_between(
                places, runs.min(0), runs.max(0), color=line.get_color(), alpha=0.2, linewidth=0
            )
    return label_ends(ax) if labels else ax


def label_ends(ax: Axes, *, fontsize: float = LABEL) -> Axes:
    """Write each line's label at its right end, in its colour, moved apart where they would overlap.

    Call it again after changing the limits: the labels are placed anew.
    """
    for text in [text for text in ax.texts if text.get_gid() == "line end"]:
        text.remove()
    lines = [
        line
        for line in ax.get_lines()
        if not line.get_label().startswith("_") and len(line.get_ydata())
    ]
    if not lines:
        return ax
    ax.autoscale_view()
    height = ax.get_window_extent().height * 72 / ax.figure.dpi  # points
    ends = [
        (float(np.asarray(line.get_xdata())[-1]), float(np.asarray(line.get_ydata())[-1]))
        for line in lines
    ]
    heights = ax.transAxes.inverted().transform(ax.transData.transform(ends))[:, 1]
    placed = spread(np.clip(heights, 0, 1), 1.35 * fontsize / height)
    for line, place in zip(lines, placed, strict=True):
        ax.annotate(
            line.get_label(),
            (1, place),
            (6, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center",
            color=line.get_color(),
            fontsize=fontsize,
            fontweight="bold",
            annotation_clip=False,
            gid="line end",
        )
    return ax


def spread(places: Iterable[float], gap: float) -> np.ndarray:
    """Places in [0, 1] moved as little as needed so that neighbours are at least `gap` apart; the order stays.

    >>> spread([0.50, 0.51, 0.90], 0.1)
    array([0.455, 0.555, 0.9  ])
    """
    places = np.asarray(list(places), float)
    order = np.argsort(places, kind="stable")
    groups: list[
        list
    ] = []  # [sum of (place - offset), count]: neighbours that touch move as one block
    for place in places[order]:
        groups.append([place, 1])
        while len(groups) > 1 and _top(groups[-2], gap) + gap > groups[-1][0] / groups[-1][1]:
            total, count = groups.pop()
            groups[-1] = [
                groups[-1][0] + total - gap * groups[-1][1] * count,
                groups[-1][1] + count,
            ]
    moved = np.concatenate([total / count + gap * np.arange(count) for total, count in groups])
    if gap * (len(moved) - 1) <= 1:  # they fit between 0 and 1: keep them there
        steps = gap * np.arange(len(moved))
        moved = np.minimum(np.maximum(moved, steps), 1 - steps[::-1])
    result = np.empty_like(places)
    result[order] = moved
    return result


def _top(group: list, gap: float) -> float:
    return group[0] / group[1] + gap * (group[1] - 1)


def bars(
    ax: Axes,
    values: Mapping[str, object],
    *,
    colours: Mapping[str, str] | None = None,
    format: str = "{:.3g}",
    horizontal: bool = False,
) -> Axes:
    """One bar for each name with its value written at the end; several values (seeds) give their mean and range.

    >>> bars(ax, {"plain": [0.71, 0.74], "residual": [0.01, 0.00]}, format="{:.0%}")
    """
    for place, (name, value) in enumerate(values.items()):
        runs = np.atleast_1d(_numbers(value))
        mean = float(np.clip(runs.mean(), runs.min(), runs.max()))  # of equal runs it is rounded
        colour = (colours or {}).get(name, COLOUR.get(name, "C0"))
        error = [[mean - runs.min()], [runs.max() - mean]] if len(runs) > 1 else None
        draw, side = (ax.barh, "xerr") if horizontal else (ax.bar, "yerr")
        drawn = draw(
            place,
            mean,
            0.7,
            color=colour,
            **{side: error},
            error_kw={"ecolor": COLOUR["ink"], "capsize": 4},
        )
        ax.bar_label(drawn, [format.format(mean)], padding=4, fontsize=LABEL)
    axis = ax.yaxis if horizontal else ax.xaxis
    axis.set_ticks(range(len(values)), list(values))
    axis.set_tick_params(length=0)
    if horizontal:
        ax.invert_yaxis()
    ax.margins(**{"x" if horizontal else "y": 0.12})
    return ax


def heat(
    ax: Axes,
    matrix: object,
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    format: str | None = "{:.3g}",
    signed: bool = False,
    limits: tuple[float, float] | None = None,
    cmap: str | None = None,
    fontsize: float | None = None,
) -> Axes:
    """A matrix (rows, columns) as coloured cells with the value written in each; format=None writes none.

    signed: red above and blue below zero, with limits symmetric around it.
    rows, columns: names at the sides. Letters are light on dark cells and dark on light ones.
    """
    matrix = _numbers(matrix)
    if matrix.ndim != 2:
        raise ShapeError(
            "a matrix (rows, columns)",
            matrix.shape,
            where="plots.heat",
            remedy="choose one channel, one image",
        )
    if limits is None:
        low, high = (float(matrix.min()), float(matrix.max())) if matrix.size else (0.0, 1.0)
        limits = (-max(-low, high), max(-low, high)) if signed else (low, high)
    cmap = cmap or (DIVERGING if signed else SEQUENTIAL)
    shown = ax.imshow(matrix, cmap=cmap, vmin=limits[0], vmax=limits[1], aspect="equal")
    if format is not None:
        size = fontsize or _cell_fontsize(ax, matrix, format)
        for (row, column), value in np.ndenumerate(matrix):
            text = _without_minus_zero(format.format(value))
            ax.text(
                column,
                row,
                text,
                ha="center",
                va="center",
                fontsize=size,
                color=_ink_on(shown.to_rgba(value)),
            )
    ax.set_xticks(range(matrix.shape[1]) if columns is not None else [], columns)
    ax.set_yticks(range(matrix.shape[0]) if rows is not None else [], rows)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def pixel_values(
    ax: Axes,
    image: object,
    *,
    format: str = "{:.0f}",
    limits: tuple[float, float] = (0, 255),
    fontsize: float | None = None,
) -> Axes:
    """A grey image (H, W) as a grid of its numbers, each cell as light as its pixel.

    >>> pixel_values(ax, images[0, 0])  # 8 x 8 numbers from 0 to 255
    """
    heat(ax, image, format=format, cmap="gray", limits=limits, fontsize=fontsize)
    return _grid_lines(ax, np.shape(image))


def picture(
    ax: Axes, image: object, *, limits: tuple[float, float] | None = None, title: str | None = None
) -> Axes:
    """An image (H, W), (1, H, W) or (3, H, W), uint8 or floats in [0, 1], without axes and without smoothing."""
    ax.imshow(_shown(image), cmap="gray", interpolation="nearest", **_limits(image, limits))
    ax.set_axis_off()
    if title:
        ax.set_title(title)
    return ax


def picture_and_numbers(
    axes: Sequence[Axes],
    image: object,
    *,
    format: str = "{:.0f}",
    limits: tuple[float, float] = (0, 255),
) -> Sequence[Axes]:
    """The same grey image (H, W) twice: as a picture on the first axes, as its numbers on the second."""
    picture(axes[0], image, limits=limits)
    pixel_values(axes[1], image, format=format, limits=limits)
    return axes


def image_grid(
    ax: Axes,
    images: object,
    *,
    columns: int | None = None,
    labels: Sequence[str] | None = None,
    limits: tuple[float, float] | None = None,
    gap: float = 0.15,
    fontsize: float = LABEL,
) -> Axes:
    """Images (N, H, W), (N, 1, H, W) or (N, 3, H, W) side by side in rows, each with its label underneath.

    >>> image_grid(ax, images[:20], columns=10, labels=[classes[label] for label in labels[:20]])

    limits: what is black and what is white for grey images; by default 0 and 255 (uint8) or 0 and 1 (floats).
    gap: between images, as a part of their width.
    """
    images = _numbers(images)
    count = len(images)
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[1] not in (1, 3)):
        raise ShapeError(
            "images (N, H, W), (N, 1, H, W) or (N, 3, H, W)",
            images.shape,
            where="plots.image_grid",
            remedy="choose the channels to show",
        )
    if labels is not None and len(labels) != count:
        raise ShapeError(
            f"{count} labels, one an image",
            len(labels),
            where="plots.image_grid",
            remedy="pass as many of both",
        )
    columns = columns or min(count, 10)
    height, width = images.shape[-2] / images.shape[-1], 1.0
    down = height + gap + (0.3 if labels is not None else 0)
    for place, image in enumerate(images):
        left, top = place % columns * (width + gap), -(place // columns) * down
        ax.imshow(
            _shown(image),
            cmap="gray",
            interpolation="nearest",
            extent=(left, left + width, top - height, top),
            **_limits(images, limits),
        )
        if labels is not None:
            ax.text(
                left + width / 2,
                top - height - 0.04,
                labels[place],
                ha="center",
                va="top",
                fontsize=fontsize,
            )
    lines = -(-count // columns)
    ax.set(xlim=(0, columns * (width + gap) - gap), ylim=(-(lines * down - gap), 0), aspect="equal")
    ax.set_axis_off()
    return ax


def decision_regions(
    ax: Axes,
    x: object,
    y: object,
    classes: object,
    *,
    points: object = None,
    labels: object = None,
    names: Sequence[str] | None = None,
) -> Axes:
    """The class of every place of a plane as a pale colour, borders as lines, and the training points on top.

    x (W,), y (H,): the grid; classes (H, W): a class index from 0 at each place. points (N, 2) with labels (N,).
    """
    x, y, classes = _numbers(x), _numbers(y), _numbers(classes)
    if classes.shape != (len(y), len(x)):
        raise ShapeError(
            f"classes of shape ({len(y)}, {len(x)})",
            classes.shape,
            where="plots.decision_regions",
            remedy="reshape them to (len(y), len(x))",
        )
    count = (
        int(classes.max()) + 1
        if labels is None
        else int(max(classes.max(), _numbers(labels).max())) + 1
    )
    pale = [
        tuple(0.7 + 0.3 * part for part in matplotlib.colors.to_rgb(f"C{index}"))
        for index in range(count)
    ]
    ax.pcolormesh(
        x,
        y,
        classes,
        cmap=matplotlib.colors.ListedColormap(pale),
        vmin=-0.5,
        vmax=count - 0.5,
        shading="nearest",
        rasterized=True,
    )
    for index in range(count):
        if 0 < (classes == index).mean() < 1:
            ax.contour(x, y, classes == index, levels=[0.5], colors=[COLOUR["ink"]], linewidths=0.8)
    if points is not None:
        points, labels = _numbers(points), _numbers(labels)
        for index in range(count):
            chosen = points[labels == index]
            ax.plot(
                chosen[:, 0],
                chosen[:, 1],
                MARKERS[index % len(MARKERS)],
                color=f"C{index}",
                markeredgecolor="white",
                markersize=6,
                markeredgewidth=0.7,
                label=names[index] if names else f"_{index}",
            )
    ax.set(xlim=(x.min(), x.max()), ylim=(y.min(), y.max()))
    return ax


def boxes(
    ax: Axes,
    corners: object,
    *,
    labels: Sequence[str] | None = None,
    colours: Sequence[str] | str = COLOUR["weight"],
    width: float = 2.0,
    style: str = "-",
) -> Axes:
    """Frames around parts of a `picture`: boxes (N, 4) as x1, y1, x2, y2 in pixels, with labels above them.

    >>> boxes(picture(ax, scene.images[0]), scene.boxes[0], labels=["three", "seven"])

    A box from 0 to the width frames the whole picture. colours: one for all, or one a box.
    """
    corners = np.asarray(_numbers(corners), float).reshape(-1, 4) - 0.5  # pixels have whole centres
    colours = [colours] * len(corners) if isinstance(colours, str) else colours
    for number, ((x1, y1, x2, y2), colour) in enumerate(zip(corners, colours, strict=True)):
        ax.add_patch(
            Rectangle(
                (x1, y1),
                x2 - x1,
                y2 - y1,
                fill=False,
                edgecolor=colour,
                linewidth=width,
                linestyle=style,
                clip_on=False,
                zorder=3,
            )  # fmt: skip
        )
        if labels is not None:
            ax.text(
                x1, y1, labels[number], color=colour, fontsize=LABEL, fontweight="bold",
                va="bottom", zorder=4,
            )  # fmt: skip
    return ax


def _grid_lines(ax: Axes, shape: Sequence[int], *, colour: str = "0.6", width: float = 0.6) -> Axes:
    """Thin lines between the cells of an image (H, W) drawn by `heat` or `picture`."""
    high, wide = shape[-2:]
    ax.vlines(
        np.arange(wide + 1) - 0.5, -0.5, high - 0.5, color=colour, linewidth=width, clip_on=False
    )
    ax.hlines(
        np.arange(high + 1) - 0.5, -0.5, wide - 0.5, color=colour, linewidth=width, clip_on=False
    )
    return ax


def _numbers(values: object) -> np.ndarray:
    """Tensors of any device, lists and arrays as an array; torch itself is not needed here."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ShapeError(
            "rows of the same length",
            str(error),
            where="plots",
            remedy="give every seed as many points",
        ) from None


def _shown(image: object) -> np.ndarray:
    image = _numbers(image)
    if image.ndim == 3 and image.shape[0] in (1, 3):
        image = image[0] if image.shape[0] == 1 else np.moveaxis(image, 0, -1)
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3):
        return image
    raise ShapeError(
        "an image (H, W), (1, H, W) or (3, H, W)",
        image.shape,
        where="plots.picture",
        remedy="choose one image",
    )


def _limits(images: object, limits: tuple[float, float] | None) -> dict[str, float]:
    if limits is None:
        limits = (0, 255) if _numbers(images).dtype == np.uint8 else (0, 1)
    return {"vmin": limits[0], "vmax": limits[1]}


def _ink_on(rgba: Sequence[float]) -> str:
    return "white" if dark.luminance(rgba) < 0.3 else STYLE["text.color"]  # whatever the ground


def _without_minus_zero(text: str) -> str:
    return text if any(digit in text for digit in "123456789") else text.removeprefix("-")


def _cell_fontsize(ax: Axes, matrix: np.ndarray, format: str) -> float:
    """Letters as large as the cells allow, at most 12 points."""
    extent = ax.get_window_extent()
    cell = min(extent.width / matrix.shape[1], extent.height / matrix.shape[0]) * 72 / ax.figure.dpi
    longest = max((len(format.format(value)) for value in matrix.flat), default=1)
    return float(np.clip(min(cell / (0.68 * longest), 0.6 * cell), 4, 12))
