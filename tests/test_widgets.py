"""Explorers where nobody can move them, and the sliders that somebody could; test_browser.py moves them."""

from __future__ import annotations

import base64
import io
import json

import nbformat
import pytest
from matplotlib import pyplot as plt
from nbclient import NotebookClient
from PIL import Image

from cnncourse import widgets
from cnncourse.errors import ParameterError

TOY = """
import matplotlib.pyplot as plt
from cnncourse import widgets
from cnncourse.errors import ParameterError

def parabola(power):
    if power == 4:
        raise ParameterError("a power other than 4", power, where="parabola", remedy="move on")
    figure, axes = plt.subplots(figsize=(4, 2))
    axes.plot([x**power for x in range(10)])
    return figure, f"x to the power {power} ends at {9**power}"
"""
WIRED = TOY + "widgets.explore(parabola, power=widgets.Slider(2, 1, 5))"


def notebook_of(*sources: str) -> nbformat.NotebookNode:
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.v4.new_notebook(
        metadata=kernel, cells=[nbformat.v4.new_code_cell(source) for source in sources]
    )


def test_a_run_without_a_reader_stores_the_picture_and_its_sentence_and_no_widget():
    ran = NotebookClient(notebook_of(WIRED), timeout=60).execute()
    assert "widgets" not in ran.metadata
    picture, sentence = ran.cells[0].outputs
    assert (
        set(picture.data) == {"image/png"}
        and picture.metadata["image/png"]["alt"] == sentence.data["text/plain"]
    )
    assert sentence.data["text/plain"] == "x to the power 2 ends at 81"


def test_without_ipywidgets_the_picture_stands_there_alone(monkeypatch):
    hidden = 'import os, sys\nos.environ["CNNCOURSE_WIDGETS"] = "live"\nsys.modules["ipywidgets"] = None\n'
    ran = NotebookClient(notebook_of(hidden + WIRED), timeout=60).execute()
    assert [list(output.data) for output in ran.cells[0].outputs] == [["image/png"], ["text/plain"]]


def test_values_that_do_not_go_together_give_a_message_and_a_picture_of_it():
    def refuses(size):
        raise ParameterError(
            "a kernel that fits", size, where="here", remedy="choose a smaller kernel"
        )

    (bundle, metadata), sentence = widgets._rendered(refuses, {"size": 9})
    assert bundle["image/png"].startswith(b"\x89PNG") and "choose a smaller kernel" in sentence
    assert metadata["image/png"]["alt"] == sentence and not plt.get_fignums()


def test_a_control_that_the_drawing_does_not_have_is_refused_with_the_nearest_name():
    with pytest.raises(ParameterError, match="did you mean 'power'"):
        widgets.explore(lambda power: None, powr=widgets.Slider(2, 1, 5))
    with pytest.raises(ParameterError, match="one control for each argument"):
        widgets.explore(lambda power, size: None, power=widgets.Slider(2, 1, 5))
    with pytest.raises(ParameterError, match="start inside the range"):
        widgets.explore(lambda power: None, power=widgets.Slider(9, 1, 5))
    with pytest.raises(ParameterError, match="one of"):
        widgets.explore(lambda metric: None, metric=widgets.Choice("l3", ("l1", "l2")))


@pytest.mark.parametrize(
    "slider, kind, readout",
    [
        (widgets.Slider(1, 0, 2.5), "FloatSlider", ".1f"),
        (widgets.Slider(1, 0.5, 2), "FloatSlider", ".1f"),
        (widgets.Slider(0.001, 0.001, 0.1, 0.001), "FloatSlider", ".3f"),
        (widgets.Slider(1.0, 0, 3), "IntSlider", "d"),
    ],
)
def test_a_slider_reaches_both_ends_of_its_range_and_shows_every_step(slider, kind, readout):
    made = widgets._sliders({"sigma": slider})["sigma"]
    assert type(made).__name__ == kind
    assert (made.min, made.max, made.step) == (slider.low, slider.high, slider.step)
    assert made.readout_format == readout


KEPT = TOY + "widgets.explore(parabola, power=widgets.Slider(2, 1, 5, kept=(1, 2, 4)))"


def test_the_pictures_of_kept_values_are_those_that_the_slider_draws(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNCOURSE_EXPLORERS", str(tmp_path))
    ran = NotebookClient(notebook_of(KEPT), timeout=60).execute()
    index = json.loads((tmp_path / "parabola" / "index.json").read_text())
    (control,) = index["controls"]
    assert control == {
        "name": "power",
        "label": "power",
        "kind": "slider",
        "values": [1, 2, 4],
        "start": 1,
    }
    sentences = [picture["sentence"] for picture in index["pictures"].values()]
    assert sentences[:2] == [f"x to the power {power} ends at {9**power}" for power in (1, 2)]
    assert "move on" in sentences[2]  # values that do not go together have their message
    shown = ran.cells[0].outputs[0].data["image/png"]
    files = [(tmp_path / "parabola" / f"{place}.webp").read_bytes() for place in range(2)]
    lower, start, stored = (
        Image.open(io.BytesIO(file)).convert("RGB").tobytes()
        for file in (*files, base64.b64decode(shown))
    )
    assert start == stored != lower
    assert [picture["file"] for picture in index["pictures"].values()] == sorted(
        path.name for path in (tmp_path / "parabola").glob("*.webp")
    )


def test_without_the_folder_no_picture_but_the_shown_one_is_drawn(tmp_path):
    drawn = TOY + "powers = []\ndef counted(power):\n    powers.append(power)\n"
    drawn += "    return parabola(power)\n"
    source = drawn + KEPT.removeprefix(TOY).replace("parabola", "counted") + "\nprint(powers)"
    ran = NotebookClient(notebook_of(source), timeout=60).execute()
    assert "[2]" in ran.cells[0].outputs[-1].text


@pytest.mark.parametrize(
    "control, says",
    [
        (widgets.Slider(2, 1, 5, kept=(1, 3)), "among the kept values"),
        (widgets.Slider(2, 1, 5, kept=(2, 6)), "kept values that the control can take"),
        (widgets.Slider(0.5, 0, 1, 0.25, kept=(0.5, 0.6)), "whole number of steps"),
        (widgets.Choice("l2", ("l1", "l2"), kept=("l2", "l3")), "can take"),
        (widgets.Slider(2, 1, 90, kept=tuple(range(1, 42))), "at most 40 combinations"),
    ],
)
def test_kept_values_that_a_page_could_not_show_are_refused(control, says):
    with pytest.raises(ParameterError, match=says):
        widgets.explore(lambda power: None, power=control)


def test_more_bytes_than_a_page_should_load_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNCOURSE_EXPLORERS", str(tmp_path))
    monkeypatch.setattr(widgets, "MOST_BYTES", 1000)

    def noisy(power):
        figure, axes = plt.subplots()
        axes.plot([power, 1])
        return figure, "a line"

    with pytest.raises(ParameterError, match="at most 1,000 bytes"):
        widgets.explore(noisy, power=widgets.Slider(2, 1, 5, kept=(1, 2)))
