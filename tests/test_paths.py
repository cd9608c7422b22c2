"""Places of the project, files that appear whole or not at all, and errors that say what to do."""

import os

import pytest

from cnncourse import paths
from cnncourse.errors import CourseError, ParameterError, nearest


def test_a_lesson_is_found_by_number_slug_file_name_or_path():
    path = paths.lesson("04")
    assert path.name == "04_convolution-arithmetic.ipynb"
    for name in (4, "4", "convolution-arithmetic", "04_convolution-arithmetic", path.name, path):
        assert paths.lesson(name) == path


def test_an_unknown_lesson_names_the_nearest():
    with pytest.raises(ParameterError, match="did you mean '04_convolution-arithmetic'"):
        paths.lesson("04_convolution_aritmetic")


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    target = tmp_path / "new" / "figure.svg"
    paths.write(target, "first")
    with pytest.raises(TypeError):
        paths.write(target, 3)
    assert target.read_text() == "first"
    assert os.listdir(target.parent) == ["figure.svg"]


def test_a_written_file_has_the_usual_permissions(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    assert paths.write(tmp_path / "ours", "").stat().st_mode == plain.stat().st_mode


def test_the_ledger_places_every_item_in_a_lesson():
    items = paths.ledger()
    assert len(items) == 670
    assert all(item["notebook"][:2].isdigit() for item in items.values())
    assert len({item["notebook"] for item in items.values()}) == 24


def test_every_lesson_written_has_the_slug_that_the_ledger_gives_it():
    slugs = {item["notebook"] for item in paths.ledger().values()}
    assert {path.stem for path in paths.lessons().values()} <= slugs


def test_an_error_says_what_was_expected_what_came_where_and_what_to_do():
    error = CourseError("an even size", 7, where="argument size of crop", remedy="pad to 8 first")
    assert str(error).splitlines() == [
        "expected an even size",
        "  got:   7",
        "  where: argument size of crop",
        "  to do: pad to 8 first",
    ]


def test_the_nearest_choice_is_named_and_all_are_when_none_is_near():
    assert nearest("epocs", ["epochs", "seed"]) == "did you mean 'epochs'?"
    assert nearest("zzz", ["b", "a"]) == "choose one of a, b"
