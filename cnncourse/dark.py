"""Figures drawn for white paper, on the dark ground of an instructor's own style.

Lessons and diagrams name some greys and tints themselves: "0.35" for a remark, a light blue for a box. On a dark ground
they are given the opposite lightness with the hue kept, so that a grey on white becomes a light grey on black and a
light box with dark letters a dark box with light ones. What the style itself sets, and whatever lies on a picture,
stays as it is.

>>> dark.is_dark("0.07"), dark.opposite("0.13")
(True, (0.87, 0.87, 0.87, 1.0))
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.colors import is_color_like, to_rgba, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.typing import ColorType

Rgb = tuple[float, float, float]
Rgba = tuple[float, float, float, float]

LINES = (
    "text.color", "axes.labelcolor", "axes.edgecolor", "axes.titlecolor", "grid.color",
    "xtick.color", "xtick.labelcolor", "ytick.color", "ytick.labelcolor",
    "legend.edgecolor", "legend.labelcolor",
)  # fmt: skip
FACES = ("figure.facecolor", "axes.facecolor", "legend.facecolor")
PARTS = {  # kind of artist: the colours that it has, with their getters and setters
    Text: ("color",),
    Line2D: ("color", "markerfacecolor", "markeredgecolor"),
    Patch: ("facecolor", "edgecolor"),
    Collection: ("facecolor", "edgecolor"),
}


def is_dark(ground: ColorType) -> bool:
    """Whether white letters are read better on this colour than black ones: a relative luminance under 0.18 (WCAG)."""
    return to_rgba(ground)[3] > 0 and luminance(ground) < 0.18


def luminance(colour: ColorType) -> float:
    """The relative luminance, 0 (black) to 1 (white), with a display's power law of 2.2."""
    return float(np.dot(np.power(to_rgba(colour)[:3], 2.2), (0.2126, 0.7152, 0.0722)))


def opposite(colour: ColorType) -> Rgba:
    """The colour with the opposite lightness, 0..1, of the same hue, saturation (HLS) and opacity."""
    red, green, blue, opacity = to_rgba(colour)
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    turned = colorsys.hls_to_rgb(hue, 1 - lightness, saturation)
    return (*(round(part, 4) for part in turned), opacity)


def adapt(fig: Figure) -> None:
    """Give what a figure names itself the opposite lightness when its ground is dark; once for each figure.

    Letters in a box of their own are black or white, whichever is read better on it.

    >>> with plt.style.context("dark_background"):
    ...     fig, ax = plt.subplots()
    ...     remark = ax.text(0.5, 0.5, "chance", color="0.35")
    ...     dark.adapt(fig)
    >>> remark.get_color()
    (0.65, 0.65, 0.65, 1.0)

    The layout must be settled: letters and lines on a picture are found by where they lie.
    """
    if not is_dark(fig.get_facecolor()) or getattr(fig, "_adapted_to_dark", False):
        return
    fig._adapted_to_dark = True  # a figure may be saved more than once
    lines, faces = _of_the_style()

    def turned(colour: ColorType, part: str) -> ColorType:
        own = faces if "face" in part else lines
        return colour if _key(colour) in own else opposite(colour)

    pictures = {
        ax: [image.get_window_extent() for image in ax.get_images()] for ax in fig.get_axes()
    }
    for artist, ax in _with_hidden(fig.findobj()).items():
        if artist is not fig.patch and not _lies_on(artist, pictures.get(ax, [])):
            _recolour(artist, turned)
    for text in fig.findobj(Text):
        box = text.get_bbox_patch()
        if box is not None and box.get_facecolor()[3] > 0.5:
            text.set_color("white" if is_dark(box.get_facecolor()) else "black")


def _of_the_style() -> tuple[set[Rgb], set[Rgb]]:
    """Colours that the style in use sets: those of letters and lines, those of faces; its cycle is in both."""
    cycle = {_key(entry["color"]) for entry in matplotlib.rcParams["axes.prop_cycle"]}
    lines, faces = ({_set_by(name) for name in names} - {None} for names in (LINES, FACES))
    return lines | cycle, faces | cycle


def _set_by(name: str) -> Rgb | None:
    value = matplotlib.rcParams[name]
    shown = is_color_like(value) and to_rgba(value)[3] > 0  # not "auto", "inherit", "none"
    return _key(value) if shown else None


def _key(colour: ColorType) -> Rgb:
    return tuple(round(part, 3) for part in to_rgba(colour)[:3])


def _with_hidden(artists: list[Artist]) -> dict[Artist, Axes | None]:
    """Artists and their axes, with what `findobj` leaves out: the boxes behind letters, the arrows of annotations."""
    found = {artist: artist.axes if isinstance(artist.axes, Axes) else None for artist in artists}
    for text in [artist for artist in artists if isinstance(artist, Text)]:
        for part in (text.get_bbox_patch(), getattr(text, "arrow_patch", None)):
            if part is not None:
                found[part] = text.axes
    return found


def _lies_on(artist: Artist, pictures: list) -> bool:
    """Whether the middle of what an artist draws lies on one of the pictures of its axes."""
    if not pictures:
        return False
    box = artist.get_window_extent()
    middle = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    return any(picture.contains(*middle) for picture in pictures)


def _recolour(artist: Artist, turned: Callable[[ColorType, str], ColorType]) -> None:
    many = isinstance(artist, Collection)  # has a list of colours
    if many and artist.get_array() is not None:  # its colours are numbers
        return
    for name in next((names for kind, names in PARTS.items() if isinstance(artist, kind)), ()):
        colours = getattr(artist, f"get_{name}")()
        if isinstance(colours, str) and colours in ("none", "auto") or many and not len(colours):
            continue
        new = [turned(one, name) for one in (to_rgba_array(colours) if many else [colours])]
        getattr(artist, f"set_{name}")(new if many else new[0])
