"""Sliders that redraw a picture, and the same picture standing still where nothing can move.

The picture is an ordinary output (PNG and one sentence), the sliders are another one above it. So what a notebook
stores, what GitHub and HTML show, and what JupyterLab shows of a notebook reopened without its kernel is the picture
as it was last: only the sliders have become the line "Loading widget..." or "model not found" (JupyterLab 4, tested).
A page that is loaded again reaches the sliders of a kernel that still runs; those of a restarted one say so.
For readers without a kernel `store` keeps the pictures of a small grid of values, which a page can show by itself.
"""

from __future__ import annotations

import base64
import html
import importlib.util
import inspect
import itertools
import json
import math
import os
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
from IPython import get_ipython
from IPython.display import display
from matplotlib.figure import Figure

from cnncourse import figures, paths, runtime
from cnncourse.errors import CourseError, ParameterError, nearest

DOTS_PER_INCH = (
    120  # enough for a screen; a redraw takes about 0.1 s, so the picture follows the slider
)
MOST_PICTURES, MOST_BYTES = 40, 1_500_000  # of one explorer that is kept for pages without a kernel
Draw = Callable[..., tuple[Figure, str]]


@dataclass(frozen=True)
class Slider:
    """A number between `low` and `high`; whole numbers when all four are whole, ``Slider(3, 1, 7)``.

    kept: the values that a page without a kernel can show, in order and the start among them; none: the start alone.
    """

    start: float
    low: float
    high: float
    step: float = 1
    label: str = ""
    kept: tuple = ()


@dataclass(frozen=True)
class Choice:
    """One of a few values, as buttons: ``Choice("l2", ("l1", "l2"))``; `kept` as of a `Slider`."""

    start: object
    options: tuple
    label: str = ""
    kept: tuple = ()


def explore(draw: Draw, **controls: Slider | Choice) -> None:
    """Show what ``draw(**values)`` returns, with a slider or a row of buttons for each value.

    `draw` is a plain function of the values of its controls; it returns a figure and one sentence that says in
    words what the figure shows (printed below it, and its alternative text). In a live JupyterLab each move of a
    control redraws both. Under papermill, nbclient, nbval and Sphinx, and without ipywidgets, the picture of the start
    values stands there alone: no widget, no widget state. A `CourseError` of `draw` (values that do not go together)
    becomes the message in place of the picture.

    >>> def parabola(power):
    ...     figure, axes = plt.subplots()
    ...     axes.plot([x**power for x in range(10)])
    ...     return figure, f"x to the power {power} ends at {9**power}"
    >>> explore(parabola, power=Slider(2, 1, 5))
    x to the power 2 ends at 81

    The environment variable CNNCOURSE_WIDGETS ("live" or "static") overrules the detection. Where CNNCOURSE_EXPLORERS
    names a folder, the picture of every combination of the controls' `kept` values goes into it, with index.json.
    Raises `ParameterError` for a control that `draw` has no argument for, an argument without a control, a start
    value out of range, `kept` values without the start, or more than `MOST_PICTURES` of them and `MOST_BYTES`.
    """
    _check(draw, controls)
    values = {name: control.start for name, control in controls.items()}
    if (folder := os.environ.get("CNNCOURSE_EXPLORERS")) and any(c.kept for c in controls.values()):
        _keep(draw, controls, Path(folder) / draw.__name__)
    if get_ipython() is None:
        print(_rendered(draw, values)[1])
        return
    picture, sentence = _rendered(draw, values)
    if is_live():
        _explore_live(draw, controls, picture, sentence)
        return
    small = figures.quantised(picture[0]["image/png"])  # it is stored with the notebook
    display({"image/png": small}, metadata=picture[1], raw=True)
    display({"text/plain": sentence}, raw=True)


# The live picture is part of the box, so that a page loaded again finds it as the kernel has it. While the box lives
# it hides the two outputs behind it, the same picture and sentence as they are stored; without a kernel they show.
LIVE = """
<style>
.jp-OutputArea-child:has(.course-explorer:not(.jupyter-widgets-disconnected)) + .jp-OutputArea-child,
.jp-OutputArea-child:has(.course-explorer:not(.jupyter-widgets-disconnected)) + * + .jp-OutputArea-child,
.course-explorer.jupyter-widgets-disconnected .course-picture { display: none }
</style>
"""


def _explore_live(draw: Draw, controls: dict, picture: tuple[dict, dict], sentence: str) -> None:
    import ipywidgets

    sliders = _sliders(controls)
    page = ipywidgets.HTML(_page(picture, sentence))
    page.add_class("course-picture")
    box = ipywidgets.VBox([*sliders.values(), page, ipywidgets.HTML(LIVE)])
    box.add_class("course-explorer")
    show(box)
    stored = display(picture[0], metadata=picture[1], raw=True, display_id=True)
    said = display({"text/plain": sentence}, raw=True, display_id=True)

    def redraw(_change: object) -> None:
        values = {name: slider.value for name, slider in sliders.items()}
        picture, sentence = _rendered(draw, values)
        stored.update(picture[0], metadata=picture[1], raw=True)
        said.update({"text/plain": sentence}, raw=True)
        page.value = _page(picture, sentence)  # last: what is seen is stored by then

    for slider in sliders.values():
        slider.observe(redraw, names="value")


def _page(picture: tuple[dict, dict], sentence: str) -> str:
    """The picture and its sentence as HTML."""
    data = base64.b64encode(picture[0]["image/png"]).decode()
    words, width = html.escape(sentence), picture[1]["image/png"]["width"]
    return f'<img src="data:image/png;base64,{data}" width="{width}" alt="{words}"><p>{words}</p>'


def _check(draw: Draw, controls: dict[str, Slider | Choice]) -> None:
    arguments = list(inspect.signature(draw).parameters)
    for name in [*controls, *arguments]:
        if name not in arguments or name not in controls:
            raise ParameterError(
                f"one control for each argument of {draw.__name__} ({', '.join(arguments)})",
                f"controls {', '.join(controls) or 'none'}",
                where=f"explore, control {name!r}",
                remedy=nearest(name, arguments if name in controls else controls or arguments),
            )
    for name, control in controls.items():
        if isinstance(control, Slider):
            fits, allowed = (
                control.low <= control.start <= control.high,
                f"{control.low} to {control.high}",
            )
        else:
            fits, allowed = control.start in control.options, f"one of {control.options}"
        if not fits:
            raise ParameterError(
                f"a start value in {allowed}",
                repr(control.start),
                where=f"explore, control {name!r}",
                remedy="start inside the range",
            )
        _check_kept(name, control)
    pictures = math.prod(len(control.kept) or 1 for control in controls.values())
    if pictures > MOST_PICTURES:
        raise ParameterError(
            f"at most {MOST_PICTURES} combinations of kept values",
            pictures,
            where=f"explore, {draw.__name__}",
            remedy="keep fewer values of a control",
        )


def _check_kept(name: str, control: Slider | Choice) -> None:
    for value in control.kept:
        if isinstance(control, Choice):
            fits = value in control.options
        else:
            steps = (value - control.low) / control.step
            fits = control.low <= value <= control.high and abs(steps - round(steps)) < 1e-6
        if not fits:
            raise ParameterError(
                "kept values that the control can take",
                repr(value),
                where=f"explore, control {name!r}",
                remedy="keep values of its range, a whole number of steps from its low end",
            )
    if control.kept and control.start not in control.kept:
        raise ParameterError(
            f"the start {control.start!r} among the kept values",
            repr(control.kept),
            where=f"explore, control {name!r}",
            remedy="a page begins with the picture that is stored in the notebook",
        )


def _keep(draw: Draw, controls: dict[str, Slider | Choice], folder: Path) -> None:
    """Write the picture of every combination of kept values, and which is which in index.json."""
    from PIL import Image

    begin = time.process_time()
    kept = {name: control.kept or (control.start,) for name, control in controls.items()}
    pictures, size = {}, 0
    for places in itertools.product(*(range(len(values)) for values in kept.values())):
        values = {name: kept[name][place] for name, place in zip(kept, places, strict=True)}
        (bundle, metadata), sentence = _rendered(draw, values)
        webp = BytesIO()  # lossless, two thirds of the same picture's PNG
        few = Image.open(BytesIO(figures.quantised(bundle["image/png"]))).convert("RGB")
        few.save(webp, format="WEBP", lossless=True, quality=100, method=6)
        size += len(webp.getvalue())
        file = "-".join(map(str, places)) + ".webp"
        paths.write(folder / file, webp.getvalue())
        pictures[",".join(map(str, places))] = {
            "file": file,
            "sentence": sentence,
            "width": metadata["image/png"]["width"],
        }
    if size > MOST_BYTES:
        raise ParameterError(
            f"at most {MOST_BYTES:,} bytes of pictures",
            f"{size:,}",
            where=f"explore, {draw.__name__}",
            remedy="keep fewer values of a control, or draw a smaller figure",
        )
    told = [
        {
            "name": name,
            "label": control.label or name.replace("_", " "),
            "kind": type(control).__name__.lower(),
            "values": list(kept[name]),
            "start": kept[name].index(control.start),
        }
        for name, control in controls.items()
    ]
    index = {"controls": told, "pictures": pictures}
    paths.write(
        folder / "index.json", json.dumps(index, indent=1, ensure_ascii=False, default=float) + "\n"
    )
    runtime.record("explorer", name=draw.__name__, core_seconds=time.process_time() - begin)


def _rendered(draw: Draw, values: dict[str, object]) -> tuple[tuple[dict, dict], str]:
    try:
        figure, sentence = draw(**values)
    except CourseError as error:
        figure, sentence = _message(error), f"no picture: {error}"
    png = BytesIO()
    figure.savefig(png, format="png", dpi=DOTS_PER_INCH)
    width = round(
        96 * float(figure.get_size_inches()[0])
    )  # shown at its size in inches, like every figure
    plt.close(figure)
    return (
        {"image/png": png.getvalue()},
        {"image/png": {"alt": sentence, "width": width}},
    ), sentence


def _message(error: CourseError) -> Figure:
    figure, axes = plt.subplots(figsize=(8, 2.2))
    axes.axis("off")
    text = f"expected {error.expected}, got {error.got}.\n{error.remedy}"
    axes.text(
        0.5,
        0.5,
        "\n".join(textwrap.fill(line, 70) for line in text.split("\n")),
        ha="center",
        va="center",
        fontsize=13,
    )
    return figure


def is_live() -> bool:
    """Whether somebody sits in front of the notebook and ipywidgets is there; CNNCOURSE_WIDGETS overrules the first."""
    if importlib.util.find_spec("ipywidgets") is None:
        return False
    wanted = os.environ.get("CNNCOURSE_WIDGETS", "")
    if wanted not in ("", "live", "static"):
        raise ParameterError(
            "'live' or 'static'",
            repr(wanted),
            where="environment variable CNNCOURSE_WIDGETS",
            remedy="unset it to let the notebook decide",
        )
    if wanted or not hasattr(get_ipython(), "kernel"):
        return wanted == "live"
    return runtime.interactive()


def _sliders(controls: dict[str, Slider | Choice]) -> dict:
    import ipywidgets

    made = {}
    for name, control in controls.items():
        common = {
            "value": control.start,
            "description": control.label or name.replace("_", " "),
            "style": {"description_width": "8em"},
            "layout": ipywidgets.Layout(width="32em"),
        }
        if isinstance(control, Choice):
            made[name] = ipywidgets.ToggleButtons(options=control.options, **common)
        else:
            numbers = (control.start, control.low, control.high, control.step)
            whole = all(float(number).is_integer() for number in numbers)
            kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
            ends = {"min": control.low, "max": control.high, "step": control.step}
            if not whole:
                ends["readout_format"] = f".{max(map(_decimals, numbers))}f"
            made[name] = kind(**ends, **common)
    return made


def _decimals(number: float) -> int:
    """Digits behind the point that a number has as it is written: 2 of 0.25, 3 of 1e-3."""
    return max(0, -Decimal(str(number)).as_tuple().exponent)


DISCONNECTED = """
<style>
.course-box.jupyter-widgets-disconnected > * { pointer-events: none; opacity: 0.4 }
.course-box.jupyter-widgets-disconnected::before
  { content: "The kernel that these belong to is gone: run this cell again."; font-style: italic }
.course-box.jupyter-widgets-disconnected .jupyter-widgets-disconnected::before { content: none }
</style>
"""


def show(box) -> None:
    """Display an ipywidgets box without the words that IPython would store beside it.

    When its kernel is restarted or gone, the box says to run the cell again and can no longer be moved.
    """
    import ipywidgets

    box.add_class("course-box")
    box.children = (*box.children, ipywidgets.HTML(DISCONNECTED))
    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    display({"application/vnd.jupyter.widget-view+json": view}, raw=True)
