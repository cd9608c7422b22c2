"""A new lesson starts from the ledger: its anatomy runs, and what is still to do is named item by item."""

import re

import pytest

from cnncourse import __main__ as command
from cnncourse import paths
from cnncourse.errors import ParameterError
from cnncourse.lab import lint, pairing, skeleton

LEDGER = {
    item["id"]: item
    for item in [
        {"id": "num-size", "kind": "worked-number", "statement": "7 - 3 over 2 plus 1 is 3. " * 9, "check": "size(7)",
         "correction": "", "notebook": "05_small-nets"},
        {"id": "err-size", "kind": "erratum", "statement": "It is 4.", "check": "size(7)", "correction": "It is 3.",
         "notebook": "05_small-nets"},
        {"id": "fig-other", "kind": "figure", "statement": "Other.", "notebook": "06_others"},
    ]
}  # fmt: skip


@pytest.fixture
def course(tmp_path, monkeypatch):
    (tmp_path / "notebooks" / "text").mkdir(parents=True)
    monkeypatch.setenv("CNNCOURSE_ROOT", str(tmp_path))
    monkeypatch.setattr(paths, "ledger", lambda: LEDGER)
    return tmp_path


def test_a_new_lesson_is_a_text_in_step_with_itself_and_lists_every_item(course):
    assert command.main(["new", "5"]) == 0
    path = course / "notebooks" / "text" / "05_small-nets.py"
    text = path.read_text()
    assert "# # 05 · Small nets" in text
    for item in ("num-size", "err-size"):
        assert f"- `{item}` {LEDGER[item]['statement'][:20]}" in text
    assert (
        "*check:* size(7)" in text and "*correction:* It is 3." in text and "fig-other" not in text
    )
    assert max(map(len, text.splitlines())) <= 120
    pairing.sync()
    assert (
        pairing.sync() == [] and path.read_text() == text
    )  # no line that jupytext would write otherwise


def test_its_only_problems_are_what_an_author_has_to_do(course):
    skeleton.new("small-nets")
    pairing.sync()
    found = "\n".join(lint.check(course / "notebooks" / "05_small-nets.ipynb"))
    assert (
        "ledger item num-size is not covered" in found
        and "ledger item err-size is not covered" in found
    )
    assert "no cell has been executed" in found
    for word in ("tagged", "fold", "range", "section", "prediction", "cannot", "text twin"):
        assert not re.search(rf"\b{word}", found), found


@pytest.mark.parametrize(
    ("name", "says"), [("07", "planned lesson"), ("5", "not written yet"), ("small", "small-nets")]
)
def test_only_a_planned_lesson_that_is_not_there_is_begun(course, name, says):
    skeleton.new("05")
    before = sorted((course / "notebooks" / "text").iterdir())
    with pytest.raises(ParameterError, match=says):
        skeleton.new(name)
    assert sorted((course / "notebooks" / "text").iterdir()) == before
