"""Explorers where nobody can move them, and the sliders that somebody could; test_browser.py moves them."""

from __future__ import annotations

import nbformat
import pytest
from matplotlib import pyplot as plt
from nbclient import NotebookClient

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
