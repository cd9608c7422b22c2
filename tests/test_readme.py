"""What README.md and CONTRIBUTING.md promise is there: links, commands, and a row for each lesson that is written."""

import re

import nbformat
import pytest

from cnncourse import paths
from cnncourse.__main__ import arguments

README = (paths.root() / "README.md").read_text()
TEXTS = {name: (paths.root() / name).read_text() for name in ("README.md", "CONTRIBUTING.md")}
LESSONS = paths.lessons()


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_leads_to_a_file_of_the_repository(name):
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", TEXTS[name]) if "://" not in link]
    assert links or name != "README.md"
    assert [link for link in links if not (paths.root() / link).exists()] == []


@pytest.mark.parametrize("name", TEXTS)
def test_every_command_named_exists(name):
    targets = set(re.findall(r"^([a-z-]+):", (paths.root() / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", TEXTS[name], re.MULTILINE)) <= targets
    commands = next(action.choices for action in arguments()._actions if action.choices)
    assert set(re.findall(r"python -m cnncourse ([a-z-]+)", TEXTS[name])) <= set(commands)


@pytest.mark.parametrize("number", LESSONS)
def test_every_lesson_has_a_row_with_its_question_and_a_figure(number):
    path = LESSONS[number]
    title = nbformat.read(path, as_version=4).cells[0].source
    question = re.search(r"^#+ (.+\?)$", title, re.MULTILINE)[1]
    row = next(
        line
        for line in README.splitlines()
        if line.startswith("|") and f"](notebooks/{path.name})" in line
    )
    assert question in row
    assert f"figures/{path.stem}/" in row


def test_the_number_of_lessons_still_to_write_is_right():
    missing = len(
        {item["notebook"] for item in paths.ledger().values()}
        - {path.stem for path in LESSONS.values()}
    )
    assert f"the {missing} lessons that are not in the table are not written yet" in README
