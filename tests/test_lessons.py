"""Every lesson that is written: lint, its text twin, and functions that can be used on their own."""

import pytest

from cnncourse import lab, paths
from cnncourse.lab import gallery, lint, pairing

LESSONS = list(paths.lessons().values())
each_lesson = pytest.mark.parametrize("notebook", LESSONS, ids=lambda path: path.stem)


@each_lesson
def test_the_anatomy_is_clean(notebook):
    assert "\n".join(lint.check(notebook)) == ""


@each_lesson
def test_text_and_notebook_are_equal(notebook):
    assert pairing.differences(notebook) == []


@each_lesson
def test_what_it_defines_runs_without_its_experiments(notebook):
    lab.definitions(notebook)


def test_published_figures_are_those_of_the_index_the_gallery_and_the_notebooks():
    assert gallery.Index(paths.root() / "figures").problems() == []


def test_every_text_has_its_notebook():
    texts = {path.stem for path in (paths.root() / "notebooks" / "text").glob("[0-9][0-9]_*.py")}
    assert texts - {path.stem for path in LESSONS} == set()
