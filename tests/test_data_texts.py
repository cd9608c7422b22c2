"""A text to read letter by letter: the one that ships is known letter by letter, others are looked at before use."""

import hashlib
import os
from pathlib import Path

import pytest

from cnncourse import data
from cnncourse.data import texts
from cnncourse.errors import DataError

REAL = Path(os.environ.get("CNNCOURSE_DATA", "/nonexistent"))


def test_a_file_is_a_text_and_a_short_or_missing_one_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "text.txt"
    with pytest.raises(DataError, match="a text file"):
        data.text(str(path))
    path.write_text("too short")
    with pytest.raises(DataError, match="10,000 letters"):
        data.text(str(path))
    path.write_text("naïve " * 2000, encoding="utf-8")
    assert data.text(str(path)) == "naïve " * 2000
    monkeypatch.setenv("CNNCOURSE_CWD", str(tmp_path))  # where the course was called
    assert data.text("text.txt") == "naïve " * 2000


def test_other_descriptions_than_those_of_the_lesson_are_refused_with_what_to_do(monkeypatch):
    monkeypatch.setitem(texts.SHA256, "descriptions", "0" * 64)
    with pytest.raises(
        DataError, match="install scikit-learn 1.9.1, or give a text file: -p corpus FILE"
    ):
        data.text("descriptions")


@pytest.mark.parametrize("content", [None, "x" * 20_000])
def test_a_published_text_that_is_missing_or_altered_is_refused(tmp_path, monkeypatch, content):
    monkeypatch.setenv("CNNCOURSE_DATA", str(tmp_path))
    if content:
        (tmp_path / "tinyshakespeare").mkdir()
        (tmp_path / "tinyshakespeare" / "input.txt").write_text(content)
    with pytest.raises(DataError, match="20,000 letters" if content else "CNNCOURSE_DATA"):
        data.text("tinyshakespeare")


@pytest.mark.skipif(
    not (REAL / "tinyshakespeare" / "input.txt").is_file(),
    reason="real data not found: set CNNCOURSE_DATA to a folder with tinyshakespeare/input.txt",
)
def test_the_real_tinyshakespeare_is_the_published_one():
    assert len(data.text("tinyshakespeare")) == 1_115_394
    file = (REAL / "tinyshakespeare" / "input.txt").read_bytes()
    assert hashlib.sha256(file).hexdigest() == texts.SHA256["tinyshakespeare"]


def test_photographs_of_blood_cells_that_are_not_there_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNCOURSE_DATA", str(tmp_path))
    with pytest.raises(DataError, match="BCCD"):
        data.bccd()
    (tmp_path / "BCCD" / "VOCdevkit" / "VOC2007").mkdir(parents=True)
    assert data.bccd() == tmp_path / "BCCD"
