"""The one look of the course's figures, and the way they are saved: the same bytes on every run of one environment."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import sys
from pathlib import Path

import matplotlib
import matplotlib.style
import numpy as np
from cycler import cycler

from cnncourse import project
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
    "savefig.facecolor": "white",
}
# What makes the bytes repeatable; set again while saving, so that no style file can lose it.
REPEATABLE = {
    "svg.hashsalt": "cnncourse",
    "svg.fonttype": "path",
    "savefig.bbox": None,
    "savefig.pad_inches": 0.1,
}


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
        try:
            matplotlib.style.use(own)
        except OSError as error:
            raise ParameterError(
                "a readable matplotlib style file",
                f"{own!r} ({error})",
                where="CNNCOURSE_STYLE",
                remedy="give the full path of an .mplstyle file, or unset the variable",
            ) from None


def folder(lesson: str) -> Path:
    """Where `save` puts the figures of a lesson: CNNCOURSE_FIGURES when set, else build/figures/<lesson>/.

    The published figures/ are written by ``make figures`` only, so working in a notebook never changes them.
    """
    own = os.environ.get("CNNCOURSE_FIGURES")
    return Path(own) if own else project.build() / "figures" / lesson


def save(fig: matplotlib.figure.Figure, id: str, *, caption: str, alt: str) -> None:
    """Write ``<id>.svg``, ``<id>.png`` and ``<id>.json``, show the picture with its caption, and close the figure.

    >>> fig, ax = plt.subplots()
    >>> plots.curves(ax, {"plain": losses})
    >>> figures.save(fig, "fig-resnet-plain-curves", caption="Training loss of plain nets; digits, CPU, 3 seeds.",
    ...              alt="The 56-layer plain net ends above the 20-layer one.")

    id: the ledger id of the figure; for a second figure to the same item, that id with a suffix: ``"fig-x.detail"``.
    caption: what to see, with parameters, device and seeds. alt: the finding in words, for whoever cannot see it.
    The .json beside the pictures names lesson, caption, alt, SHA-256, data checksums and versions.
    Raises `ParameterError` for an unknown id or an empty caption or alt, `MachineError` for an unwritable folder.
    """
    import matplotlib.pyplot as plt

    lesson = _lesson_of(id)
    for name, text in (("caption", caption), ("alt", alt)):
        if not str(text).strip():
            raise ParameterError(
                f"a sentence for {name}",
                repr(text),
                where=f"figure {id}",
                remedy="caption: what to see and under which parameters; alt: the finding in words",
            )
    png, svg = pictures(fig)
    record = {
        "id": id, "lesson": lesson, "caption": caption, "alt": alt,
        "inches": [round(float(side), 3) for side in fig.get_size_inches()],
        "sha256": {"svg": hashlib.sha256(svg).hexdigest(), "png": hashlib.sha256(png).hexdigest()},
        "data": _data_loaded(), "versions": versions(),
    }  # fmt: skip
    target = folder(lesson)
    try:
        project.write(target / f"{id}.svg", svg)
        project.write(target / f"{id}.png", png)
        project.write(
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
    _show(png, caption, alt, width=round(96 * float(fig.get_size_inches()[0])))
    plt.close(fig)


def pictures(fig: matplotlib.figure.Figure) -> tuple[bytes, bytes]:
    """The PNG and the SVG of a figure as bytes: no date, no random ids, letters as outlines."""
    png, svg = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(REPEATABLE):
        _settle(fig)
        fig.savefig(png, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
        fig.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return png.getvalue(), svg.getvalue()


def _settle(fig: matplotlib.figure.Figure) -> None:
    """Lay the axes out once, for both formats, at places that are the same in every process.

    The solver of matplotlib's constrained layout orders its equations by memory addresses, so that the last digits
    of a place differ from run to run, and with them the names of clip paths in the SVG (seen: 1 of 19 figures).
    """
    if fig.get_layout_engine() is None:
        return
    fig.draw_without_rendering()
    fig.draw_without_rendering()  # the second pass starts from the first one's sizes of labels: it moves little
    fig.set_layout_engine("none")
    for ax in fig.get_axes():
        locator = ax.get_axes_locator()  # of insets and colour bars: they follow their parents
        ax.set_position([round(side, 7) for side in ax.get_position(original=True).bounds])
        ax.set_axes_locator(locator)


def versions() -> dict[str, str]:
    """The versions that decide the bytes of a figure, ``{"torch": "2.14.1", ...}``, found without importing them."""
    return project.versions("torch", "matplotlib", "numpy")


def difference(one: Path | bytes, other: Path | bytes) -> float:
    """How far the most different spot of two PNGs is apart, 0 (the same) to 1 (black against white).

    A pixel differs when no neighbour in the other picture has its colour: an edge drawn up to a pixel further,
    as another font rasteriser does, costs nothing; a stroke that is missing does. Pictures of another size: 1.
    """
    from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter
    from skimage.io import imread

    def beyond(picture: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.maximum(picture - maximum_filter(other, (3, 3, 1)), 0) + np.maximum(
            minimum_filter(other, (3, 3, 1)) - picture, 0
        )

    read = [
        imread(io.BytesIO(image) if isinstance(image, bytes) else image) for image in (one, other)
    ]
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


SAME_BELOW = 0.12  # measured: a line 1 pixel off gives 0.02, unhinted letters 0.07, a 3 turned into 8 at 9 points 0.3


def same_picture(one: Path | bytes, other: Path | bytes, *, below: float = SAME_BELOW) -> bool:
    """Whether two PNGs look the same: a changed digit in a label is caught, other antialiasing is not.

    >>> same_picture(Path("figures/14_resnet/fig-resnet-block.png"), new_png)
    True
    """
    return difference(one, other) < below


def _lesson_of(id: str) -> str:
    known = project.ledger()
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


def _show(png: bytes, caption: str, alt: str, width: int) -> None:
    if "IPython" not in sys.modules or sys.modules["IPython"].get_ipython() is None:
        return
    from IPython.display import Markdown, display

    picture = {"image/png": base64.b64encode(png).decode(), "text/plain": alt}
    display(picture, metadata={"image/png": {"width": width, "alt": alt}}, raw=True)
    display(Markdown(f"*Figure.* {caption.strip()}"))
