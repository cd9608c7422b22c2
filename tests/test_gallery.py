"""Figures that no two runs or processors draw the same: the published one is that of the stored lesson."""

import json

import pytest
from matplotlib import pyplot as plt
from test_publish import RESNET, course  # noqa: F401 - course is a fixture

from cnncourse import figures
from cnncourse.lab import gallery

ID = "fig-resnet-block.times"


def run(
    course,  # noqa: F811
    monkeypatch,
    height,
    caption="Measured.",
    varies=True,
    processor="one",
    **parameters,
):
    """A finished run that drew one figure, a line as high as given."""
    folder = course / "run"
    monkeypatch.setenv("CNNCOURSE_FIGURES", str(folder / "figures"))
    fig, ax = plt.subplots()
    ax.plot([0, height])
    ax.set_ylim(0, 10)
    figures.save(fig, ID, caption=caption, alt="A line.", varies=varies)
    facts = {"parameters": parameters, "seed": 0, "versions": {}, "device_name": processor}
    (folder / "provenance.json").write_text(json.dumps(facts))
    return folder


@pytest.mark.parametrize("varies", [True, False])
def test_a_figure_of_measured_times_stays_as_stored_and_any_other_changes(
    course,  # noqa: F811
    monkeypatch,
    varies,
):
    index = gallery.Index(course / "figures")
    index.publish(RESNET, run(course, monkeypatch, 2, varies=varies))
    png = course / "figures" / RESNET / f"{ID}.png"
    first = png.read_bytes()
    again = run(course, monkeypatch, 9, varies=varies)
    assert (index.compare(RESNET, again) == []) == varies
    assert index.publish(RESNET, again) == {ID: "same" if varies else "changed"}
    assert (png.read_bytes() == first) == varies


def test_storing_the_lesson_or_other_words_replace_a_figure_of_measured_times(
    course,  # noqa: F811
    monkeypatch,
):
    index = gallery.Index(course / "figures")
    index.publish(RESNET, run(course, monkeypatch, 2))
    png = course / "figures" / RESNET / f"{ID}.png"
    first = png.read_bytes()
    stored = run(course, monkeypatch, 9)
    assert index.publish(RESNET, stored, stored=True) == {ID: "changed"}
    assert png.read_bytes() == (stored / "figures" / f"{ID}.png").read_bytes() != first
    other = run(course, monkeypatch, 4, caption="Measured anew.")
    assert index.compare(RESNET, other) and index.publish(RESNET, other) == {ID: "changed"}


@pytest.mark.parametrize("tagged", [True, False])
def test_a_figure_of_numbers_that_rounding_decides_stays_on_another_processor_alone(
    course,  # noqa: F811
    monkeypatch,
    tagged,
):
    text = course / "notebooks" / "text" / f"{RESNET}.py"
    tag = ' tags=["fold", "nbval-varies"]' if tagged else ""
    text.write_text(text.read_text() + f'\n\n# %%{tag}\nfigures.save(fig, "{ID}", alt="")\n')
    index = gallery.Index(course / "figures")

    def made(height, caption="It reaches 2 of 3.", **where):
        return run(course, monkeypatch, height, caption, varies=False, **where)

    index.publish(RESNET, made(2))
    png = course / "figures" / RESNET / f"{ID}.png"
    first = png.read_bytes()
    elsewhere = made(5, "It reaches 1 of 3.", processor="another")
    assert (index.compare(RESNET, elsewhere) == []) is tagged
    for other in ({"caption": "It ends at 2 of 3."}, {"width": 3}, {"processor": "one"}):
        assert index.compare(RESNET, made(5, **({"processor": "another"} | other))) != [], other
    elsewhere = made(5, "It reaches 1 of 3.", processor="another")
    assert index.publish(RESNET, elsewhere) == {ID: "same" if tagged else "changed"}
    assert (png.read_bytes() == first) is tagged
    assert index.publish(RESNET, made(7, processor="third"), stored=True) == {ID: "changed"}
