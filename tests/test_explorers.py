"""Explorers for pages without a kernel: stored with the lesson, published beside its figures, held to it."""

from __future__ import annotations

import json

import nbformat
import pytest
from PIL import Image
from test_publish import RESNET, course, edit  # noqa: F401 - course is a fixture

from cnncourse import machine, paths
from cnncourse.errors import LessonError
from cnncourse.lab import execute, explorers, front, gallery, pairing, publish

EXPLORER = """
# %%
from cnncourse import widgets

def line(power, hue):
    fig, ax = plt.subplots(figsize=(3, 2))
    ax.plot([x**power for x in range(5)], color=hue)
    return fig, f"{hue}, to the power {power}"

widgets.explore(line, power=widgets.Slider(2, 1, 5, kept=(1, 2, 3)),
                hue=widgets.Choice("red", ("red", "blue"), kept=("red", "blue")))
"""


@pytest.fixture
def stored(course):  # noqa: F811
    """A course one lesson of which explores, stored."""
    text = course / "notebooks" / "text" / f"{RESNET}.py"
    text.write_text(text.read_text() + EXPLORER)
    publish.store([RESNET])
    return course


def problems(course):  # noqa: F811
    return gallery.Index(course / "figures").problems()


def test_storing_publishes_a_picture_a_combination_and_names_the_cell(stored):
    folder = stored / "figures" / RESNET / "explorers" / "line"
    index = json.loads((folder / "index.json").read_text())
    assert [control["values"] for control in index["controls"]] == [[1, 2, 3], ["red", "blue"]]
    assert index["pictures"]["2,1"]["sentence"] == "blue, to the power 3"
    for picture in index["pictures"].values():
        with Image.open(folder / picture["file"]) as shown:
            assert shown.size == (360, 240)
    assert len(index["pictures"]) == 6 and problems(stored) == []
    notebook = paths.notebooks() / f"{RESNET}.ipynb"
    cells = {cell["id"]: cell for cell in json.loads(notebook.read_text())["cells"]}
    assert "widgets.explore(line" in "".join(cells[index["cell"]]["source"])


def test_making_figures_draws_no_grid_and_leaves_the_stored_one(stored):
    folder = stored / "figures" / RESNET / "explorers"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert publish.figures([RESNET], force=True) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert not list((stored / "build" / "make").rglob("line"))


def test_a_picture_that_is_missing_or_unnamed_and_another_source_are_found(stored):
    folder = stored / "figures" / RESNET / "explorers" / "line"
    (folder / "0-0.webp").rename(folder / "9-9.webp")
    assert [line.partition("/line/")[2] for line in problems(stored)] == [
        "0-0.webp: not there",
        "9-9.webp: not named by index.json",
    ]
    (folder / "9-9.webp").rename(folder / "0-0.webp")
    edit(stored, RESNET, "color=hue)", "color=hue, lw=3)")
    pairing.main([RESNET])
    assert any("not of a cell of the lesson as it is" in line for line in problems(stored))


def test_an_explorer_that_a_lesson_has_no_more_goes_when_it_is_stored(stored):
    text = stored / "notebooks" / "text" / f"{RESNET}.py"
    text.write_text(text.read_text().removesuffix(EXPLORER))
    publish.store([RESNET])
    assert not (stored / "figures" / RESNET / "explorers").exists() and problems(stored) == []
    assert list(explorers.problems(stored / "figures")) == []


def test_the_explorers_of_a_lesson_that_is_gone_go_with_its_figures(stored):
    for path in (
        paths.notebooks() / f"{RESNET}.ipynb",
        paths.notebooks() / "text" / f"{RESNET}.py",
    ):
        path.unlink()
    assert any("its lesson is gone" in line for line in problems(stored))
    assert publish.figures() == 0
    assert not (stored / "figures" / RESNET).exists()
    assert not [line for line in problems(stored) if RESNET in line]


def test_a_drawing_without_a_name_of_its_own_is_refused_with_what_to_do(course):  # noqa: F811
    text = course / "notebooks" / "text" / f"{RESNET}.py"
    unnamed = EXPLORER.replace("explore(line,", "explore(lambda power, hue: line(power, hue),")
    text.write_text(text.read_text() + unnamed)
    with pytest.raises(LessonError, match="pass it by this name"):
        publish.store([RESNET])


def test_pictures_that_no_student_waits_for_are_no_cost_of_the_lesson(stored, monkeypatch):
    def seconds(extra):
        """What the lesson is said to cost when its pictures took so long."""
        told = run(RESNET, threads=1, progress=False)
        assert told.provenance["explorers"] == {}
        told.provenance.update({"core_seconds": 9.0, "explorers": {"line": extra}})
        with monkeypatch.context() as patched:
            patched.setattr(execute, "run", lambda *_, **__: told)
            patched.setattr(machine.Pace, "slowness", lambda pace: 1.0)
            patched.setattr(front, "cost", lambda notebook: None)
            execute.store(RESNET)
        return nbformat.read(paths.notebooks() / f"{RESNET}.ipynb", 4).metadata.cnncourse.seconds

    run = execute.run
    assert execute.store(RESNET).provenance["explorers"]["line"] > 0
    assert seconds(0.0) - seconds(6.0) >= 5
