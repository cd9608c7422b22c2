"""The presets: an entry for every lesson, with parameters and data sets that exist, and what to expect of a machine."""

import re

import pytest
import yaml

from cnncourse import paths
from cnncourse.errors import ParameterError
from cnncourse.lab import execute, vary
from cnncourse.lab.lesson import Lesson

FULL = paths.notebooks() / "presets" / "full.yaml"
EXPECTED = re.compile(
    r'^"(\d\d)":  # .+; (\d+) ([GC]PU) minutes, ([\d.]+) GB(?: \(estimated\))?$', re.MULTILINE
)
REAL = {*execute.DOWNLOADED, "bccd", "tinyshakespeare"}


def test_every_lesson_has_a_full_preset_and_every_preset_a_lesson():
    assert set(yaml.safe_load(FULL.read_text())) == {slug[:2] for slug in paths.slugs()}


@pytest.mark.parametrize("slug", paths.slugs())
def test_a_full_preset_names_parameters_and_data_sets_that_exist_and_changes_something(slug):
    lesson = Lesson.find(slug)
    chosen = lesson.settings({}, "full")  # names, types and ranges
    assert chosen and set(chosen) == set(lesson.preset("full"))
    assert REAL & set(map(str, chosen.values()))  # a real set, not the digits that ship


def test_every_full_preset_says_how_long_and_how_much_memory_it_takes():
    found = EXPECTED.findall(FULL.read_text())
    assert {lesson for lesson, *_ in found} == set(yaml.safe_load(FULL.read_text()))
    for lesson, minutes, unit, memory in found:
        assert 0 < int(minutes) <= 24 * 60 and 0 < float(memory) <= 80
        assert (unit == "CPU") == vary.stays_on_processor(Lesson.find(lesson)), lesson


def test_a_misspelt_parameter_and_an_unknown_set_in_a_preset_are_named(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "presets").mkdir()
    (tmp_path / "text" / "14_resnet.py").write_text(Lesson.find("14").text.read_text())
    for content, words in (
        ("{epocs: 3}", "did you mean 'epochs'"),
        ("{dataset: cifra10}", "did you mean 'cifar10'"),
    ):
        (tmp_path / "presets" / "full.yaml").write_text(f'"14": {content}\n')
        with pytest.raises(ParameterError, match=words):
            Lesson.find("14", tmp_path).settings({}, "full")
