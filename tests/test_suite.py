"""`make test` runs what it was asked for; records say which commit they are of."""

import os
import subprocess
import sys

import pytest

from cnncourse import __main__ as command
from cnncourse import machine, paths
from cnncourse.lab import suite


@pytest.fixture
def course(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "tests").mkdir()
    for slug in ("04_convolution-arithmetic", "14_resnet"):
        (tmp_path / "notebooks" / f"{slug}.ipynb").write_text("{}")
    (tmp_path / "tests" / "test_lesson_14.py").write_text("")
    monkeypatch.setenv("CNNCOURSE_ROOT", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("words", "runs", "not_runs"), [
    ([], ["04_convolution-arithmetic.ipynb", "14_resnet.ipynb", "tests"], ["test_lesson_14.py"]),
    (["14"], ["14_resnet.ipynb", "test_lesson_14.py"], ["04_convolution-arithmetic.ipynb", "tests"]),
    (["4", "--jobs", "3"], ["04_convolution-arithmetic.ipynb", "--numprocesses", "3"], ["tests", "14_resnet.ipynb"]),
    (["--jobs", "1"], ["tests"], ["--numprocesses"]),
])  # fmt: skip
def test_the_suite_runs_the_lessons_and_as_many_processes_as_asked_for(
    course, monkeypatch, words, runs, not_runs
):
    said = []
    monkeypatch.setattr(
        suite.subprocess,
        "run",
        lambda command, **_: said.append(command) or subprocess.CompletedProcess(command, 5),
    )
    assert command.main(["test", *words]) == 5
    names = [word.rpartition("/")[2] for word in said[0]]
    assert [word for word in runs if word not in names] == []
    assert [word for word in not_runs if word in names] == []


def test_older_instructions_are_asked_of_every_library_and_change_the_last_bits_of_a_sum(
    course, monkeypatch
):
    said = []
    monkeypatch.setattr(
        suite.subprocess,
        "run",
        lambda command, env, **_: said.append((command, env)) or subprocess.CompletedProcess("", 0),
    )
    names = [name for name in suite.LIBRARIES if name in os.environ]
    assert (
        command.main(["test", "14"]) == command.main(["test", "14", "--instructions", "sse4"]) == 0
    )
    (_, plain), (words, older) = said
    assert [name for name in suite.LIBRARIES if name in plain] == names
    files = [word.rpartition("/")[2] for word in words]
    assert "14_resnet.ipynb" in files and "test_lesson_14.py" not in files
    monkeypatch.undo()
    code = "import torch; torch.manual_seed(0); x = torch.randn(4097); print(x.sum().item(), (x * x).sum().item())"
    sums = [
        subprocess.run(
            [sys.executable, "-c", f"{code}; print(torch.backends.cpu.get_cpu_capability())"],
            env=environment, capture_output=True, text=True, check=True,
        ).stdout.split()
        for environment in (plain, older)
    ]  # fmt: skip
    assert sums[1][2] == "DEFAULT"
    if sums[0][2] != "DEFAULT":
        assert sums[0][:2] != sums[1][:2]


def git(folder, *words):
    identity = ["-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def test_a_commit_is_the_courses_own_and_not_that_of_a_repository_around_it(tmp_path, monkeypatch):
    course = tmp_path / "home" / "course"
    course.mkdir(parents=True)
    monkeypatch.setenv("CNNCOURSE_ROOT", str(course))
    git(tmp_path / "home", "init")
    git(tmp_path / "home", "commit", "--allow-empty", "-m", "of the home folder")
    assert machine.commit() == {"commit": None, "changed": None}
    git(course, "init")
    git(course, "commit", "--allow-empty", "-m", "of the course")
    assert len(machine.commit()["commit"]) == 40 and machine.commit()["changed"] is False
    (course / "new").write_text("")
    assert machine.commit()["changed"] is True


def test_each_module_of_the_workshop_is_short_enough_to_be_read_at_once():
    long = {
        path.name: len(path.read_text().splitlines())
        for path in (paths.root() / "cnncourse").rglob("*.py")
    }
    assert {name: lines for name, lines in long.items() if lines > 500} == {}


def test_the_module_runs_as_a_command():
    asked = subprocess.run(
        [sys.executable, "-m", "cnncourse", "--help"], capture_output=True, text=True, check=True
    )
    assert "run a lesson" in asked.stdout
