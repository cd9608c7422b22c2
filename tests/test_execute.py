"""Running a lesson: parameters are checked, failures are told with their remedy, what is stored repeats itself."""

import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from cnncourse import __main__ as command
from cnncourse import machine, paths
from cnncourse.errors import DataError, LessonError, MachineError, ParameterError
from cnncourse.lab import execute, front, pairing
from cnncourse.lab.execute import Parameter
from cnncourse.lab.lesson import Lesson

HEADER = "# ---\n# jupyter:\n#   kernelspec: {display_name: Python 3, language: python, name: python3}\n# ---\n\n"
LESSON = """
# %% [markdown]
# # A small lesson

# %% tags=["parameters"]
seed: int = 0  # of everything
epochs: int = 4  # passes over the images
rate: float = 0.1  # of learning
shuffle: bool = False  # the images
depths: list[int] = [20, 56]  # layers
limit: int | None = None  # images, all without
dataset: str = "digits"  # what to load

# %%
import os

from cnncourse import runtime

# %%
print(epochs, rate, shuffle, depths, limit, dataset, os.environ.get("CNNCOURSE_THREADS"))
runtime.record("runtime", device="cpu", threads=1, device_name="a processor")
runtime.record("data", name="digits", checksum="abc")
epochs / 2
"""
FAILING = """
# %% tags=["parameters"]
seed: int = 0  # of everything
way: str = "raise"  # to fail

# %%
import os, signal, subprocess, time

def divide(number):
    return 1 / number

# %% [markdown]
# ## Here

# %%
if way == "raise":
    divide(
        seed)
if way == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if way == "hang":
    open(os.environ["CNNCOURSE_FIGURES"] + "/pid", "w").write(str(os.getpid()))
    time.sleep(60)
"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of two small lessons in a folder of its own."""
    text = tmp_path / "notebooks" / "text"
    (tmp_path / "notebooks" / "presets").mkdir(parents=True)
    text.mkdir()
    (text / "14_resnet.py").write_text(HEADER + LESSON.strip() + "\n")
    (text / "01_failing.py").write_text(HEADER + FAILING.strip() + "\n")
    (tmp_path / "notebooks" / "presets" / "full.yaml").write_text(
        '"14": {epochs: 90, rate: 1e-3}\n"01": {epocs: 3}\n'
    )
    monkeypatch.setenv("CNNCOURSE_ROOT", str(tmp_path))
    monkeypatch.delenv("CNNCOURSE_THREADS", raising=False)
    paths.ledger.cache_clear()
    yield tmp_path
    paths.ledger.cache_clear()


def output(result):
    notebook = nbformat.read(result.notebook, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.get("text") or output["data"]["text/plain"] for output in outputs]


@pytest.mark.parametrize(("type", "given", "value"), [
    ("int", "2", 2), ("int", 2, 2), ("float", "2", 2.0), ("float", 3, 3.0), ("float", "1e-3", 0.001),
    ("bool", "true", True), ("bool", "No", False), ("bool", False, False), ("str", "2", "2"),
    ("list", "[1, 2]", [1, 2]), ("list[int]", "8,20", [8, 20]), ("list[float]", [1, 2.5], [1.0, 2.5]),
    ("list[str]", "[a, b]", ["a", "b"]), ("int | None", "none", None), ("int | None", "7", 7),
    ("tuple[int, ...]", "(1, 2)", (1, 2)), ("list[list[int]]", "[[1, 2], [3]]", [[1, 2], [3]]),
])  # fmt: skip
def test_text_becomes_a_value_of_the_type(type, given, value):
    found = Parameter("p", type, None).value(given)
    assert found == value and found.__class__ is value.__class__


@pytest.mark.parametrize(("type", "given"), [
    ("int", "2.5"), ("int", 2.5), ("int", True), ("int", "two"), ("float", "fast"), ("float", True), ("bool", "maybe"),
    ("bool", 2), ("str", 3), ("list[int]", "[1, x]"), ("list[int]", 4), ("list", "[1,"), ("int", None),
    ("int | None", "x"),
])  # fmt: skip
def test_a_value_of_another_type_is_refused_with_the_default_as_example(type, given):
    with pytest.raises(ParameterError, match="like the default, 4"):
        Parameter("p", type, 4).value(given)


def test_the_parameters_cell_is_read_with_types_and_comments(course):
    known = Lesson.find("14").parameters
    assert list(known) == ["seed", "epochs", "rate", "shuffle", "depths", "limit", "dataset"]
    assert known["epochs"] == Parameter("epochs", "int", 4, "passes over the images")
    assert known["depths"].type == "list[int]"


def test_a_computed_parameter_is_refused(course):
    text = course / "notebooks" / "text" / "14_resnet.py"
    text.write_text(text.read_text().replace("epochs: int = 4", "epochs: int = 2 * 2"))
    with pytest.raises(ParameterError, match=r"literals only[\s\S]*2 \* 2"):
        Lesson.find("14").settings({"epochs": 1})


def test_presets_come_first_and_given_parameters_win(course):
    assert Lesson.find("14").settings({}) == {}
    assert Lesson.find("14").settings({"epochs": "2"}, "full") == {"epochs": 2, "rate": 0.001}


@pytest.mark.parametrize(("lesson", "given", "preset", "words"), [
    ("14", {"epocs": 2}, "default", "did you mean 'epochs'"),
    ("14", {}, "ful", "did you mean 'full'"),
    ("01", {}, "full", "notebooks/presets/full.yaml"),  # a misspelt name in the preset itself
    ("41", {}, "default", "choose one of|did you mean"),
])  # fmt: skip
def test_unknown_names_are_refused_before_anything_runs(course, lesson, given, preset, words):
    with pytest.raises(ParameterError, match=words):
        execute.run(lesson, parameters=given, preset=preset)
    assert not paths.build().exists()


def test_a_run_leaves_copy_figures_folder_and_provenance(course, capsys):
    result = execute.run(
        "resnet", parameters={"epochs": "2", "shuffle": "true", "depths": [8]}, threads=1
    )
    assert output(result) == ["2 0.1 True [8] None digits 1\n", "1.0"]
    assert (
        result.folder.parent == course / "build" / "runs" / "14_resnet" and result.figures.is_dir()
    )
    facts = json.loads((result.folder / "provenance.json").read_text())
    assert facts == json.loads(json.dumps(result.provenance))
    assert (
        facts["status"] == "complete" and facts["parameters"]["epochs"] == 2 and facts["seed"] == 0
    )
    assert facts["parameters"]["dataset"] == "digits"  # also what was not given
    assert facts["data"] == {"digits": "abc"} and facts["device"] == "cpu" and facts["threads"] == 1
    assert "torch" in facts["versions"] and facts["seconds"] > 0
    assert [cell["first_line"] for cell in facts["cells"]][-1].startswith("print(epochs")
    slowest = max(
        facts["cells"], key=lambda cell: cell["seconds"]
    )  # imports torch, the others little
    assert slowest["first_line"] == "import os" and 0.1 < slowest["seconds"] < facts["seconds"]
    assert capsys.readouterr().err.startswith("14_resnet: A small lesson\n14_resnet: 4 code cells")
    assert not (course / "notebooks" / "14_resnet.ipynb").exists()


def test_plain_papermill_runs_a_stored_lesson_and_storing_again_changes_no_byte(course):
    execute.store("14", progress=False)
    path = course / "notebooks" / "14_resnet.ipynb"
    first = path.read_bytes()
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"] == [
        1,
        2,
        3,
    ]
    for word in (b"papermill", b"T0", b"duration", b"/tmp", b"injected"):
        assert word not in first
    words = [
        "papermill",
        "--no-progress-bar",
        str(path),
        str(course / "out.ipynb"),
        "-p",
        "epochs",
        "2",
    ]
    subprocess.run([sys.executable, "-m", *words], check=True, capture_output=True)
    assert "2 0.1 False" in (course / "out.ipynb").read_text()
    execute.store("14", progress=False)
    assert path.read_bytes() == first


def test_a_failing_cell_is_named_with_its_line_and_the_notebook_stays(course):
    stored = course / "notebooks" / "01_failing.ipynb"
    from cnncourse.lab import pairing

    stored.write_text(
        nbformat.writes(
            pairing.in_step(pairing.read_text(course / "notebooks" / "text" / "01_failing.py"))
        )
    )
    before = stored.read_bytes()
    with pytest.raises(LessonError) as caught:
        execute.store("01", progress=False)
    said = str(caught.value)
    assert (
        "ZeroDivisionError: division by zero" in said
        and "cell 4 (`if way ==" in said
        and "line 2: divide(" in said
    )
    assert stored.read_bytes() == before
    folder = course / "build" / "store" / "01_failing"
    facts = json.loads((folder / "provenance.json").read_text())
    assert facts["status"] == "failed" and "ZeroDivisionError" in facts["error"]
    assert "ZeroDivisionError" in (folder / "01_failing.ipynb").read_text()


def test_a_killed_kernel_is_told_within_seconds(course):
    begin = time.monotonic()
    with pytest.raises(
        LessonError, match=r"dead kernel \(signal SIGKILL[\s\S]*cell 4[\s\S]*memory"
    ):
        execute.run("01", parameters={"way": "die"}, progress=False)
    assert time.monotonic() - begin < 20


def test_a_cell_that_takes_too_long_is_stopped(course):
    with pytest.raises(LessonError, match=r"within 1 s[\s\S]*cell 4[\s\S]*--timeout"):
        execute.run("01", parameters={"way": "hang"}, timeout=1, progress=False)
    pid = int(next(course.rglob("pid")).read_text())
    assert gone(pid)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_kernel(course, kind):
    words = [
        sys.executable,
        "-m",
        "cnncourse",
        "run",
        "01",
        "-p",
        "way",
        "hang",
        "--out",
        str(course / "out"),
    ]
    with subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, preexec_fn=hears_interrupts
    ) as process:
        pid = wait_for(course / "out" / "figures" / "pid")
        process.send_signal(kind)
        said = process.communicate(timeout=20)[1]
    assert process.returncode == 130 and "interrupted" in said and "Traceback" not in said
    assert gone(pid)
    assert json.loads((course / "out" / "provenance.json").read_text())["status"] == "interrupted"


def hears_interrupts():
    """For a child of a suite that runs in the background, where a shell lets its jobs ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupt_is_heard_where_the_suite_itself_ignores_them(course):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        test_an_interrupted_run_leaves_no_kernel(course, signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for(path):
    for _ in range(300):
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.1)
    raise AssertionError(f"{path} did not appear")


def gone(pid):
    for _ in range(50):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if "Z" in open(f"/proc/{pid}/stat").read().split(")")[1][:4]:
            return True  # dead, only not yet buried
        time.sleep(0.1)
    return False


def test_a_folder_that_cannot_be_written_is_named(course):
    (course / "file").write_text("")
    with pytest.raises(MachineError, match=r"file/out[\s\S]*--out"):
        execute.run("14", out=course / "file" / "out")


def test_edits_of_either_side_are_run(course):
    from cnncourse.lab import pairing

    pairing.sync(folder=course / "notebooks")
    notebook, text = (
        course / "notebooks" / "14_resnet.ipynb",
        course / "notebooks" / "text" / "14_resnet.py",
    )
    notebook.write_text(notebook.read_text().replace("epochs: int = 4", "epochs: int = 5"))
    assert Lesson.find("14").parameters["epochs"].default == 5
    pairing.sync(folder=course / "notebooks")
    text.write_text(text.read_text().replace("epochs: int = 5", "epochs: int = 6"))
    assert Lesson.find("14").parameters["epochs"].default == 6


def test_help_needs_no_torch_and_no_words_print_it(capsys):
    assert command.main([]) == 0
    said = capsys.readouterr().out
    assert all(
        word in said
        for word in ("run", "store", "sync", "figures-check", "claims", "doctor", "lab")
    )
    script = "import sys; from cnncourse.__main__ import main; main([]); sys.exit('numpy' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", script], check=False, capture_output=True).returncode
        == 0
    )


def test_the_command_tells_errors_without_a_traceback(course, capsys):
    assert command.main(["run", "14", "-p", "epocs", "2"]) == 2
    assert capsys.readouterr().err.startswith(
        "ParameterError: expected a parameter of lesson 14_resnet"
    )
    with pytest.raises(SystemExit, match="2"):
        command.main(["runn"])
    assert command.main(["run", "14", "--list"]) == 0
    assert "epochs: int = 4  # passes over the images" in capsys.readouterr().out


def test_a_full_disk_is_told_without_a_traceback(course, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "/some/file")

    monkeypatch.setattr(execute, "run", full)
    assert command.main(["run", "14"]) == 1
    said = capsys.readouterr().err
    assert "No space left on device" in said and "/some/file" in said and "make room" in said


def ranged(course, old="epochs: int = 4  # passes over the images", new="; 1 to 9"):
    text = course / "notebooks" / "text" / "14_resnet.py"
    assert old in text.read_text()
    text.write_text(text.read_text().replace(old, old + new))


@pytest.mark.parametrize(("given", "preset", "words"), [
    ({"epochs": "0"}, "default", r"epochs: int, 1 to 9[\s\S]*got:   0[\s\S]*-p of lesson 14_resnet"),
    ({}, "full", r"epochs: int, 1 to 9[\s\S]*got:   90[\s\S]*presets/full.yaml of lesson 14_resnet"),
])  # fmt: skip
def test_a_value_out_of_range_is_refused_before_anything_runs(course, given, preset, words):
    ranged(course)
    with pytest.raises(ParameterError, match=words):
        execute.run("14", parameters=given, preset=preset)
    assert not paths.build().exists()


def test_plain_papermill_stops_in_the_setup_cell_at_a_value_out_of_range(course):
    ranged(course)
    ranged(course, "from cnncourse import runtime", "\n\nruntime.start(seed=seed)")
    execute.store("14", progress=False)
    words = ["papermill", "--no-progress-bar", str(course / "notebooks" / "14_resnet.ipynb"),
             str(course / "out.ipynb"), "-p", "epochs", "0"]  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1 and "expected epochs: int, 1 to 9" in ran.stderr


def test_a_run_into_a_folder_removes_only_what_an_earlier_run_of_the_lesson_left(course):
    ranged(course, "print(epochs, rate", "")
    text = course / "notebooks" / "text" / "14_resnet.py"
    save = "import json, pathlib\nfolder = pathlib.Path(os.environ['CNNCOURSE_FIGURES'])\n" \
        "(folder / f'fig-{epochs}.json').write_text(json.dumps({'id': f'fig-{epochs}', 'lesson': '14_resnet'}))\n" \
        "(folder / f'fig-{epochs}.svg').write_text('<svg/>')\n"  # fmt: skip
    text.write_text(text.read_text().replace("epochs / 2", save + "epochs / 2"))
    out = course / "out"
    (out / "figures").mkdir(parents=True)
    foreign = ["notes.json", "holiday.png", "fig-2.txt", "other.svg"]
    for name in foreign:
        (out / "figures" / name).write_text('{"id": "notes", "lesson": "01_other"}')
    execute.run("14", parameters={"epochs": 2}, out=out, progress=False)
    result = execute.run("14", parameters={"epochs": 3}, out=out, progress=False)
    names = sorted(path.name for path in (out / "figures").iterdir())
    assert names == sorted([*foreign, "fig-3.json", "fig-3.svg"])
    assert result.provenance["figures"] == ["fig-3", "other"]


@pytest.mark.parametrize("out", [".", "figures/..", "elsewhere"])
def test_a_run_never_writes_into_the_published_figures(course, monkeypatch, out):
    (course / "figures" / "14_resnet").mkdir(parents=True)
    (course / "figures" / "index.json").write_text("{}")
    monkeypatch.chdir(course)
    figures = course / "figures" / "14_resnet" if out == "elsewhere" else None
    with pytest.raises(ParameterError, match="outside of the published figures"):
        execute.run("14", out=course / out, figures=figures)
    assert (course / "figures" / "index.json").read_text() == "{}"
    assert not (course / "elsewhere").exists()


def test_a_lesson_knows_the_folder_that_its_caller_stands_in(course, monkeypatch):
    text = course / "notebooks" / "text" / "14_resnet.py"
    text.write_text(text.read_text().replace("epochs / 2", 'print(os.environ["CNNCOURSE_CWD"])'))
    (course / "mine").mkdir()
    monkeypatch.chdir(course / "mine")
    monkeypatch.delenv("CNNCOURSE_CWD", raising=False)
    result = execute.run("14", progress=False)
    assert output(result)[0].endswith(f"\n{course / 'mine'}\n")


def test_an_own_file_is_looked_for_before_a_lesson_runs(course, monkeypatch):
    ranged(course, 'dataset: str = "digits"  # what to load', "; one of digits, or a file")
    (course / "text.txt").write_text("x" * 10_000)
    monkeypatch.chdir(course)
    assert Lesson.find("14").settings({"dataset": "text.txt"}) == {"dataset": "text.txt"}
    with pytest.raises(ParameterError, match="there is no file txt.text"):
        Lesson.find("14").settings({"dataset": "txt.text"})


def test_an_own_folder_is_looked_for_before_a_lesson_runs(course, monkeypatch):
    ranged(course, 'dataset: str = "digits"  # what to load', "; one of digits, or a folder")
    (course / "mine" / "pictures").mkdir(parents=True)
    monkeypatch.chdir(course / "mine")
    assert Lesson.find("14").settings({"dataset": "pictures"}) == {"dataset": "pictures"}
    with pytest.raises(ParameterError, match="there is no folder picture"):
        Lesson.find("14").settings({"dataset": "picture"})


@pytest.mark.parametrize(("name", "given", "says"), [
    ("dataset", "cifar10", "download=True"),
    ("source", "mnist", "download=True"),
    ("dataset", "bccd", "CNNCOURSE_DATA"),
    ("corpus", "tinyshakespeare", "CNNCOURSE_DATA"),
    ("masks", "nowhere", "nowhere"),
])  # fmt: skip
def test_data_that_are_not_there_are_named_before_a_lesson_runs(
    course, monkeypatch, tmp_path, name, given, says
):
    ranged(course, 'dataset: str = "digits"', f'\n{name}: str = "digits"')
    monkeypatch.setenv("CNNCOURSE_DATA", str(tmp_path / "none"))
    with pytest.raises(DataError, match=says):
        execute.run("14", parameters={name: given})
    assert not paths.build().exists()


@pytest.mark.parametrize("seconds", ["-5", "0", "nan", "inf", "soon"])
def test_a_time_limit_is_a_number_of_seconds_above_0(seconds, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(["run", "14", f"--timeout={seconds}"])
    assert "a number of seconds above 0" in capsys.readouterr().err


def test_a_python_without_the_packages_is_told_what_to_do_and_the_doctor_runs_on_it():
    environment = os.environ | {"PYTHONPATH": str(paths.root())}
    bare = [sys.executable, "-S", "-m", "cnncourse"]  # -S: without the folder of installed packages
    ran = subprocess.run(
        [*bare, "run", "14"], capture_output=True, text=True, env=environment, check=False
    )
    assert (
        ran.returncode == 1
        and "make figures" in ran.stderr
        and ". .venv/bin/activate" in ran.stderr
    )
    assert "Traceback" not in ran.stderr
    ran = subprocess.run(
        [*bare, "doctor"], capture_output=True, text=True, env=environment, check=False
    )
    assert (
        ran.returncode == 1 and "FIX   versions: this Python lacks" in ran.stdout and not ran.stderr
    )


def test_a_lesson_that_is_planned_is_not_taken_for_another_one(course):
    (course / "notebooks" / "ledger.yaml").write_text(
        "- {id: a, notebook: 02_linear-classifiers}\n"
    )
    with pytest.raises(
        ParameterError, match="02_linear-classifiers is planned and not written yet"
    ):
        paths.lesson("02")


def test_a_cost_is_what_a_lesson_takes_not_how_slow_the_machine_is_and_stays_when_its_text_is_edited(
    course, monkeypatch
):
    notebook, true_run = course / "notebooks" / "14_resnet.ipynb", execute.run

    def of_32_seconds(*given, **named):  # on any machine
        result = true_run(*given, **named)
        assert 0.1 < result.provenance["core_seconds"] < 30
        result.provenance["core_seconds"] = 32.0
        return result

    def stored(slowness):
        monkeypatch.setattr(machine.Pace, "slowness", lambda pace: slowness)
        execute.store("14", progress=False)
        return front.cost(notebook)

    monkeypatch.setattr(execute, "run", of_32_seconds)
    assert (stored(1.0), stored(2.0), stored(0.5)) == (35, 20, 65)
    text = course / "notebooks" / "text" / "14_resnet.py"
    text.write_text(text.read_text().replace("A small lesson", "A little lesson"))
    pairing.sync()
    assert "A little lesson" in notebook.read_text() and front.cost(notebook) == 65
