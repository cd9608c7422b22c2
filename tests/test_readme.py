"""What README.md and CONTRIBUTING.md promise is there: links, commands, and a row for each lesson that is written."""

import json
import re
import subprocess

import pytest

from cnncourse import paths
from cnncourse.__main__ import arguments
from cnncourse.lab import front

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


def test_the_table_of_lessons_is_the_one_that_make_figures_writes():
    index = json.loads((paths.root() / "figures" / "index.json").read_text())
    assert f"{front.BEGIN}\n{front.table(index)}{front.END}" in README


@pytest.mark.parametrize("number", LESSONS)
def test_every_lesson_has_a_question_and_a_first_picture(number):
    index = json.loads((paths.root() / "figures" / "index.json").read_text())
    row = next(
        line for line in front.table(index).splitlines() if f"/{LESSONS[number].name})" in line
    )
    assert "? |" in row and f"(figures/{LESSONS[number].stem}/" in row


def test_a_cost_is_rounded_up_and_does_not_follow_small_changes():
    kept = None
    for seconds, said in ((21.2, 25), (27.0, 25), (15.1, 25), (27.1, 30), (33.0, 35), (2.0, 5)):
        kept = front.rounded(seconds, kept)
        assert kept == said


@pytest.mark.parametrize(("words", "said"), [
    (["test", "LESSONS=04 14", "JOBS=2"], "-m cnncourse test --jobs 2 04 14"),
    (["test"], "-m cnncourse test"),
    (["figures"], '-m cnncourse figures --preset "default"'),
    (["figures", "STYLE=my own.mplstyle", "PRESET=full"], '--preset "full" --style "my own.mplstyle"'),
    (["figures-check", "JOBS=1", "LESSONS=04"], "-m cnncourse figures-check --jobs 1 04"),
    (["claims", "LESSONS=14"], "-m cnncourse claims 14"),
    (["sync", "LESSONS=14"], "-m cnncourse sync 14"),
    (["site", "LESSONS=04 14"], "-m cnncourse site 04 14"),
    (["run", "LESSON=14", "ARGS=-p epochs 2"], "-m cnncourse run 14 -p epochs 2"),
    (["new", "LESSON=05"], "-m cnncourse new 05"),
    (["slides", "LESSONS=14", "STYLE=my own.mplstyle"], 'slides --style "my own.mplstyle" 14'),
    (["slides"], "-m cnncourse slides"),
    (["run"], "which lesson? make run LESSON=14"),
    (["store"], "which lessons?"),
])  # fmt: skip
def test_make_passes_every_option_on(words, said):
    asked = subprocess.run(
        ["make", "-n", *words], cwd=paths.root(), capture_output=True, text=True, check=True
    )
    lines = [" ".join(line.split()) for line in asked.stdout.splitlines()]
    assert any(line.endswith(said) or said in line for line in lines), lines
