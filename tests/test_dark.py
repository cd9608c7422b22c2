"""On a dark ground everything of a figure can be read, and pictures keep their colours."""

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text

from cnncourse import diagrams, figures, models, plots


@pytest.fixture
def dark_style(tmp_path, monkeypatch):
    """A style of one line: nothing but a dark ground."""
    style = tmp_path / "dark.mplstyle"
    style.write_text("figure.facecolor: 101418\n")
    monkeypatch.setenv("CNNCOURSE_STYLE", str(style))
    figures.use_style()
    yield
    monkeypatch.delenv("CNNCOURSE_STYLE")
    figures.use_style()


def lightness(colour) -> float:
    return sum(matplotlib.colors.to_rgb(colour)) / 3


def test_what_a_figure_names_itself_is_readable_on_a_dark_ground(dark_style):
    fig, ax = plt.subplots()
    line = ax.plot([0, 1], [0, 1], color="0.35", markerfacecolor="white")[0]
    own = ax.plot([0, 1], [1, 0])[0]
    remark, boxed = (ax.text(0.5, y, "chance", color="0.1") for y in (0.4, 0.6))
    boxed.set_bbox({"facecolor": "#ffe0b3"})
    arrow = ax.annotate("", (1, 1), (0, 0), arrowprops={"color": "0.2"}).arrow_patch
    dots = ax.scatter([0.2], [0.3], color="0.2", edgecolors="k")
    values = ax.scatter([0.2, 0.4], [0.3, 0.1], c=[0.0, 1.0])
    values.update_scalarmappable()
    before = values.get_facecolors().tolist()
    side = fig.text(0.5, 0.01, "seeds", color="0.4")
    figures.pictures(fig)
    assert lightness(line.get_color()) > 0.6 and lightness(line.get_markerfacecolor()) == 0
    assert matplotlib.colors.to_hex(own.get_color()) == figures.CYCLE_ON_DARK[0]
    assert lightness(remark.get_color()) > 0.8 and lightness(side.get_color()) > 0.5
    assert lightness(boxed.get_bbox_patch().get_facecolor()) < 0.2 and boxed.get_color() == "white"
    assert lightness(arrow.get_edgecolor()) > 0.7
    assert lightness(ax.spines["left"].get_edgecolor()) > 0.5
    assert lightness(dots.get_facecolors()[0]) > 0.7 and lightness(dots.get_edgecolors()[0]) == 1
    assert values.get_facecolors().tolist() == before, "numbers keep their colours"
    figures.pictures(fig)
    assert lightness(remark.get_color()) > 0.8, "saved twice, adapted once"


def test_what_lies_on_a_picture_keeps_its_colour_on_a_dark_ground(dark_style):
    fig, ax = plt.subplots()
    ax.imshow(np.ones((4, 4)), cmap="gray", vmin=0, vmax=1)
    on, beside = ax.text(1, 1, "3", color="0.13"), ax.text(-2, 1, "row", color="0.13")
    figures.pictures(fig)
    assert on.get_color() == "0.13" and lightness(beside.get_color()) > 0.8
    fig, ax = plt.subplots()
    plots.heat(ax, np.array([[0.0, 1.0]]), format="{:.0f}")
    figures.pictures(fig)
    dark, light = (text.get_color() for text in ax.texts)
    assert dark == "white" and lightness(light) < 0.2


def test_the_boxes_of_a_diagram_are_dark_on_a_dark_ground(dark_style):
    fig = diagrams.draw(models.lenet5(), (1, 32, 32))
    figures.pictures(fig)
    letters = [text for text in fig.findobj(Text) if text.get_text()]
    assert letters and min(lightness(text.get_color()) for text in letters) > 0.5
    faces = [box.get_facecolor() for box in fig.findobj(FancyBboxPatch)]
    assert faces and max(lightness(face) for face in faces) < 0.5
