"""The one look of the course's figures, and the way they are saved: the same bytes on every run of one environment."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import sys
from pathlib import Path

import matplotlib
import matplotlib.style
import numpy as np
from cycler import cycler

from cnncourse import dark, machine, paths
from cnncourse.errors import MachineError, ParameterError, nearest

WIDTH = 8.0  # inches: a figure as wide as a slide or a column of text; 11 pt letters stay readable from the last row
DOTS_PER_INCH = 160  # 1280 pixels across: sharp on a projector, about 60 kB

# One meaning, one colour. They are names of matplotlib's cycle, so that a style file can change them.
# Lightness (CIE L*) falls from orange to blue in steps of 13: the four stay apart in print and for the colour-blind.
COLOUR = {
    "train": "C0", "valid": "C1", "test": "C2",
    "residual": "C0", "plain": "C1",
    "input": "C0", "weight": "C1", "output": "C2",
    "fourth": "C3",
    "muted": "0.55", "ink": "0.13",
}  # fmt: skip
CYCLE = (
    "#004479",
    "#f18e00",
    "#009488",
    "#b72765",
)  # dark blue L*28, orange 68, bluish green 55, magenta 42
CYCLE_ON_DARK = ("#5aa9e6", "#f9b24d", "#3ecfbf", "#ec7fa9")  # the same hues, L* 67, 78, 76, 66
SEQUENTIAL = "viridis"  # lightness rises all the way: reads in grey too
DIVERGING = "RdBu_r"  # for signed numbers; set limits that are symmetric around 0

STYLE = {
    "axes.prop_cycle": cycler(color=CYCLE),
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine has it
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.labelsize": 12,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 11,
    "figure.titlesize": 14,
    "text.color": "0.13",
    "axes.labelcolor": "0.13",
    "axes.edgecolor": "0.35",
    "xtick.color": "0.35",
    "ytick.color": "0.35",
    "xtick.labelcolor": "0.13",
    "ytick.labelcolor": "0.13",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "0.88",
    "lines.linewidth": 2.0,
    "lines.markersize": 6,
    "legend.frameon": False,
    "image.cmap": SEQUENTIAL,
    "image.interpolation": "nearest",
    "figure.figsize": (WIDTH, 4.0),
    "figure.dpi": 96,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.08,  # inches: nothing touches the edge of the slide
    "figure.constrained_layout.w_pad": 0.08,
    "figure.facecolor": "white",
    "savefig.facecolor": "auto",  # that of the figure, so that a dark style's own background counts
}
# What makes the bytes repeatable; set again while saving, so that no style file can lose it.
REPEATABLE = {
    "svg.hashsalt": "cnncourse",
    "svg.fonttype": "path",
    "savefig.bbox": None,
    "savefig.pad_inches": 0.1,
}
OWN_LAYOUT = {"figure.constrained_layout.use": False}  # `savefig` sets the figure's engine anew


CROWD = 500  # points or corners above which an artist is a picture inside the SVG; each costs up to 100 bytes
FURTHEST_COLOUR = (
    12  # of 255: how far a palette may move a colour channel of a pixel before it is dithered
)
READABLE = 24  # pixels of 1080: the smallest letters of a figure on a full screen


def use_style() -> None:
    """Give every later figure the look of the course; a style file named by CNNCOURSE_STYLE is laid on top.

    >>> figures.use_style()

    Settings of the user's own matplotlibrc are undone first: a lesson looks the same on every machine.
    Raises `ParameterError` when CNNCOURSE_STYLE names no readable style file.
    """
    backend = matplotlib.rcParams._get_backend_or_none()
    matplotlib.rcdefaults()
    if backend is not None:
        matplotlib.rcParams["backend"] = backend
    matplotlib.rcParams.update(STYLE | REPEATABLE)
    own = os.environ.get("CNNCOURSE_STYLE")
    if own:
        _use_own_style(own)
        if dark.is_dark(matplotlib.rcParams["figure.facecolor"]):
            _for_a_dark_ground()
    COLOUR["ink"] = matplotlib.rcParams["text.color"]


def _for_a_dark_ground() -> None:
    """The course's own colours in lightness for a dark ground, wherever the style on top sets none."""
    parameters = matplotlib.rcParams
    for name, value in STYLE.items():
        if name in dark.LINES and parameters[name] == value:
            parameters[name] = matplotlib.colors.to_hex(dark.opposite(value))
    if parameters["axes.facecolor"] == matplotlib.rcParamsDefault["axes.facecolor"]:
        parameters["axes.facecolor"] = parameters["figure.facecolor"]
    if parameters["axes.prop_cycle"] == STYLE["axes.prop_cycle"]:
        parameters["axes.prop_cycle"] = cycler(color=CYCLE_ON_DARK)


def _use_own_style(name: str) -> None:
    """Lay a style of matplotlib or a style file on top, every line of which must say something."""
    where, remedy = (
        "CNNCOURSE_STYLE",
        "give the full path of an .mplstyle file, or unset the variable",
    )
    try:
        if name not in matplotlib.style.available:
            _check_keys(Path(name).read_text(encoding="utf-8"), where)
            matplotlib.rc_params_from_file(name, fail_on_error=True, use_default_template=False)
        matplotlib.style.use(name)
    except ParameterError:
        raise
    except (OSError, UnicodeDecodeError, ValueError) as error:
        kind = "no text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise ParameterError(
            "a readable matplotlib style file", f"{name!r} ({kind})", where=where, remedy=remedy
        ) from None


def _check_keys(style: str, where: str) -> None:
    for number, line in enumerate(style.splitlines(), 1):
        key, colon, _ = line.partition("#")[0].partition(":")
        key = key.strip()
        if key and (not colon or key not in matplotlib.rcParams):
            raise ParameterError(
                "lines `key: value` with keys of matplotlib",
                repr(line.strip()),
                where=f"{where}, line {number}",
                remedy=nearest(key, matplotlib.rcParams),
            )


def folder(lesson: str) -> Path:
    """Where `save` puts the figures of a lesson: CNNCOURSE_FIGURES when set, else build/figures/<lesson>/.

    The published figures/ are written by ``make figures`` only, so working in a notebook never changes them.
    """
    own = os.environ.get("CNNCOURSE_FIGURES")
    return Path(own) if own else paths.build() / "figures" / lesson


def save(
    fig: matplotlib.figure.Figure, id: str, *, caption: str, alt: str, varies: bool = False
) -> None:
    """Write ``<id>.svg``, ``<id>.png`` and ``<id>.json``, show the picture with its caption, and close the figure.

    >>> fig, ax = plt.subplots()
    >>> plots.curves(ax, {"plain": losses})
    >>> figures.save(fig, "fig-resnet-plain-curves", caption="Training loss of plain nets; digits, CPU, 3 seeds.",
    ...              alt="The 56-layer plain net ends above the 20-layer one.")

    id: the ledger id of the figure; for a second figure to the same item, that id with a suffix: ``"fig-x.detail"``.
    caption: what to see, with parameters, device and seeds. alt: the finding in words, for whoever cannot see it.
    varies: it shows measured times, so that no two runs draw the same; the published one is that of the stored lesson.
    The .json beside the pictures names lesson, caption, alt, SHA-256, data checksums and versions; it and the metadata
    of the shown picture hold the `smallest_letters`, which the check of lessons compares with `READABLE`.
    Raises `ParameterError` for an unknown id or an empty caption or alt, `MachineError` for an unwritable folder.
    """
    import matplotlib.pyplot as plt

    lesson = _lesson_of(id)
    _check_words(f"figure {id}", caption=caption, alt=alt)
    png, svg = pictures(fig)
    smallest_px, smallest_text = smallest_letters(fig)
    record = {
        "id": id, "lesson": lesson, "caption": caption, "alt": alt,
        "inches": [round(float(side), 3) for side in fig.get_size_inches()],
        "sha256": {"svg": hashlib.sha256(svg).hexdigest(), "png": hashlib.sha256(png).hexdigest()},
        "smallest_px": smallest_px, "smallest_text": smallest_text,
        "data": _data_loaded(), "versions": versions(), "varies": varies,
    }  # fmt: skip
    target = folder(lesson)
    try:
        paths.write(target / f"{id}.svg", svg)
        paths.write(target / f"{id}.png", png)
        paths.write(
            target / f"{id}.json",
            json.dumps(record, indent=1, ensure_ascii=False, sort_keys=True) + "\n",
        )
    except OSError as error:
        raise MachineError(
            "a folder to write figures into",
            f"{target}: {error}",
            where=f"figure {id}",
            remedy="make room, make it writable, or set CNNCOURSE_FIGURES",
        ) from error
    _show(png, fig, alt, smallest_px, smallest_text, caption)
    plt.close(fig)


def show(fig: matplotlib.figure.Figure, *, alt: str) -> None:
    """Show a figure that is not published, with the words that stand for it, and close it; instead of ``plt.show()``.

    >>> fig, ax = plt.subplots()
    >>> plots.image_grid(ax, pictures)
    >>> figures.show(fig, alt="Ten digits, grey and blurred.")

    alt: the finding in words, for whoever cannot see it; the site, the slides and exported pages take it.
    Raises `ParameterError` for an empty alt.
    """
    import matplotlib.pyplot as plt

    _check_words("figures.show", alt=alt)
    smallest_px, smallest_text = smallest_letters(fig)
    with matplotlib.rc_context(REPEATABLE | OWN_LAYOUT):
        _settle(fig)
        png = _png(fig)
    _show(png, fig, alt, smallest_px, smallest_text)
    plt.close(fig)


def pictures(fig: matplotlib.figure.Figure) -> tuple[bytes, bytes]:
    """The PNG and the SVG of a figure as bytes: no date, no random ids, letters as outlines.

    The PNG has a palette of at most 256 colours, a third of the bytes (`quantised`). In the SVG, artists of many
    points or corners are pictures, and everything else stays lines and letters.
    """
    svg = io.BytesIO()
    with matplotlib.rc_context(REPEATABLE | OWN_LAYOUT):
        _settle(fig)
        png = _png(fig)
        for artist in filter(_is_crowded, fig.findobj()):
            artist.set_rasterized(True)
        fig.savefig(svg, format="svg", dpi=DOTS_PER_INCH, metadata={"Date": None, "Creator": None})
    return png, _with_small_pictures(svg.getvalue())


def _png(fig: matplotlib.figure.Figure) -> bytes:
    """The PNG of a figure whose layout is settled."""
    png = io.BytesIO()
    opaque = fig.get_facecolor()[3] == 1
    fast = {"compress_level": 1} if opaque else {}  # `quantised` compresses it
    fig.savefig(png, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None}, pil_kwargs=fast)
    return quantised(png.getvalue())


def quantised(png: bytes) -> bytes:
    """The same picture with a palette of 256 colours; colours that photographs need beside them are dithered.

    Measured over 32 figures without photographs: 863 kB instead of 2,520, no channel off by more than 6 of 255; three
    colour photographs side by side: 208 kB instead of 775. A picture with transparent parts stays as it is.
    """
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    if picture.getextrema()[3][0] < 255:
        return png
    picture = picture.convert("RGB")
    few = picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    off = np.abs(np.asarray(few.convert("RGB"), np.int16) - np.asarray(picture))
    if off.max() > FURTHEST_COLOUR:
        few = picture.quantize(palette=few, dither=Image.Dither.FLOYDSTEINBERG)
    out = io.BytesIO()
    few.save(out, format="PNG", optimize=True, dpi=(DOTS_PER_INCH, DOTS_PER_INCH))
    return out.getvalue()


def _with_small_pictures(svg: bytes) -> bytes:
    """An SVG whose pictures have palettes."""

    def smaller(match: re.Match) -> bytes:
        return match[1] + base64.b64encode(quantised(base64.b64decode(match[2]))) + b'"'

    return re.sub(rb'("data:image/png;base64,)\s*([A-Za-z0-9+/=\s]+)"', smaller, svg)


def smallest_letters(fig: matplotlib.figure.Figure) -> tuple[float | None, str]:
    """Height in pixels of the smallest font when the figure fills a screen of 1920 x 1080, and a text in it.

    >>> fig = plt.figure(figsize=(8, 4.5))
    >>> remark = fig.text(0.5, 0.5, "chance", fontsize=11)
    >>> smallest_letters(fig)
    (36.7, 'chance')

    A figure 8 inches wide and up to 4.5 high has 240 pixels an inch, so that 11 points are 37 pixels; one 8 inches
    high has 135, and 21 pixels. Below `READABLE` nobody reads it from the last row. (None, "") without any text.
    """
    from matplotlib.backends.backend_agg import RendererAgg

    sizes: dict[str, float] = {}

    class Letters(RendererAgg):
        """Takes down what is written instead of writing it."""

        def draw_text(self, gc, x, y, text, font, angle, ismath=False, mtext=None):
            sizes[text] = min(font.get_size_in_points(), sizes.get(text, np.inf))

    width, height = fig.get_size_inches()
    fig.draw(Letters(width * fig.dpi, height * fig.dpi, fig.dpi))
    if not sizes:
        return None, ""
    text = min(sizes, key=sizes.get)
    pixels_per_inch = min(1920 / width, 1080 / height)
    return round(float(sizes[text] / 72 * pixels_per_inch), 1), text


def _is_crowded(artist: matplotlib.artist.Artist) -> bool:
    """Whether an SVG had a line of text for each of very many points: clouds of markers, regions, their borders."""
    from matplotlib.collections import Collection
    from matplotlib.lines import Line2D

    if isinstance(artist, Line2D):
        marked = artist.get_marker() not in (None, "", " ", "None", "none")
        return marked and len(artist.get_xdata(orig=False)) > CROWD
    if not isinstance(artist, Collection):
        return False
    corners = sum(len(path.vertices) for path in artist.get_paths())
    return max(corners, len(artist.get_offsets())) > CROWD


def _settle(fig: matplotlib.figure.Figure) -> None:
    """Lay the axes out once, for both formats, at places that are the same in every process.

    The solver of matplotlib's constrained layout orders its equations by memory addresses, so that the last digits
    of a place differ from run to run, and with them the names of clip paths in the SVG (seen: 1 of 19 figures).
    On a dark ground, what the figure names itself is made readable (`dark.adapt`).
    """
    if fig.get_layout_engine() is not None:
        fig.get_layout_engine().execute(fig)
        fig.draw_without_rendering()  # the second pass starts from the first one's sizes of labels: it moves little
        fig.set_layout_engine(None)  # with one, even "none", each format draws everything once more
        for ax in fig.get_axes():
            locator = ax.get_axes_locator()  # of insets and colour bars: they follow their parents
            ax.set_position([round(side, 7) for side in ax.get_position(original=True).bounds])
            ax.set_axes_locator(locator)
    dark.adapt(fig)


def versions() -> dict[str, str]:
    """The versions that decide the bytes of a figure, ``{"torch": "2.14.1", ...}``, found without importing them."""
    return machine.versions("torch", "matplotlib", "numpy")


def difference(one: Path | bytes, other: Path | bytes) -> float:
    """How far the most different spot of two PNGs is apart, 0 (the same) to 1 (black against white).

    A pixel differs when no neighbour in the other picture has its colour: an edge drawn up to a pixel further,
    as another font rasteriser does, costs nothing; a stroke that is missing does. Pictures of another size: 1.
    """
    from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

    def beyond(picture: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.maximum(picture - maximum_filter(other, (3, 3, 1)), 0) + np.maximum(
            minimum_filter(other, (3, 3, 1)) - picture, 0
        )

    read = [_pixels(image) for image in (one, other)]
    if read[0].shape != read[1].shape:
        return 1.0
    first, second = (
        gaussian_filter(image.astype(np.float32) / 255, (0.5, 0.5, 0)) for image in read
    )
    spots = (
        gaussian_filter(change, (1, 1, 0))
        for change in (beyond(first, second), beyond(second, first))
    )
    return float(max(spot.max() for spot in spots))


def _pixels(png: Path | bytes) -> np.ndarray:
    """Height x width x 3, whether the file has a palette or not."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png) if isinstance(png, bytes) else png).convert("RGB"))


SAME_BELOW = 0.12  # measured: a line 1 pixel off gives 0.02, unhinted letters 0.07, a 3 turned into 8 at 9 points 0.3


def same_picture(one: Path | bytes, other: Path | bytes, *, below: float = SAME_BELOW) -> bool:
    """Whether two PNGs look the same: a changed digit in a label is caught, other antialiasing is not.

    >>> same_picture(Path("figures/14_resnet/fig-resnet-block.png"), new_png)
    True
    """
    return difference(one, other) < below


def _lesson_of(id: str) -> str:
    known = paths.ledger()
    item = id if id in known else id.partition(".")[0]
    if item not in known or not id.replace(".", "").replace("-", "").replace("_", "").isalnum():
        near = nearest(item, (name for name, entry in known.items() if entry["kind"] == "figure"))
        raise ParameterError(
            "the id of a figure in notebooks/ledger.yaml",
            repr(id),
            where="figures.save",
            remedy=near,
        )
    return known[item]["notebook"]


def _data_loaded() -> dict[str, str]:
    module = sys.modules.get(
        "cnncourse.data"
    )  # a lesson without data need not import it for its figures
    return dict(module.loaded()) if module is not None else {}


def _check_words(where: str, **words: str) -> None:
    for name, text in words.items():
        if not str(text).strip():
            raise ParameterError(
                f"a sentence for {name}",
                repr(text),
                where=where,
                remedy="caption: what to see and under which parameters; alt: the finding in words",
            )


def _show(
    png: bytes,
    fig: matplotlib.figure.Figure,
    alt: str,
    smallest_px: float | None,
    smallest_text: str,
    caption: str = "",
) -> None:
    if "IPython" not in sys.modules or sys.modules["IPython"].get_ipython() is None:
        return
    from IPython.display import Markdown, display

    told = {"alt": alt, "width": round(96 * float(fig.get_size_inches()[0])),
            "smallest_px": smallest_px, "smallest_text": smallest_text}  # fmt: skip
    picture = {"image/png": base64.b64encode(png).decode(), "text/plain": alt}
    display(picture, metadata={"image/png": told}, raw=True)
    if caption:
        display(Markdown(f"*Figure.* {caption.strip()}"))
