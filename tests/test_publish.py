"""Publishing figures: what looks the same stays, what fails keeps its figures, what is published is what was made."""

import base64
import json
import os
import signal
import subprocess
import sys
import time

import matplotlib
import nbformat
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from cnncourse import __main__ as command
from cnncourse import figures, paths
from cnncourse.errors import LessonError, MachineError
from cnncourse.lab import doctor, gallery, inputs, publish
from cnncourse.lab.lesson import Lesson

LEDGER = """
- {id: fig-resnet-block, kind: figure, notebook: 14_resnet, statement: s}
- {id: fig-maxpool-png, kind: figure, notebook: 04_convolution-arithmetic, statement: s}
"""
LESSON = """# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # A question about TITLE?

# %% tags=["parameters"]
seed: int = 0  # of everything
label: str = "0.93"  # what is written

# %%
import os, time

import matplotlib.pyplot as plt

from cnncourse import figures

# %%
figures.use_style()
fig, ax = plt.subplots()
ax.set_title(label)
figures.save(fig, "ID", caption="A title.", alt="It says [0.93].")
"""
RESNET, CONV = "14_resnet", "04_convolution-arithmetic"


@pytest.fixture
def course(tmp_path, monkeypatch):
    text = tmp_path / "notebooks" / "text"
    (tmp_path / "notebooks" / "presets").mkdir(parents=True)
    text.mkdir()
    (tmp_path / "notebooks" / "ledger.yaml").write_text(LEDGER)
    (tmp_path / "notebooks" / "presets" / "full.yaml").write_text('"14": {label: "0.99"}\n')
    for slug, id in ((RESNET, "fig-resnet-block"), (CONV, "fig-maxpool-png")):
        (text / f"{slug}.py").write_text(LESSON.replace("ID", id).replace("TITLE", slug))
    monkeypatch.setenv("CNNCOURSE_ROOT", str(tmp_path))
    monkeypatch.delenv("CNNCOURSE_STYLE", raising=False)
    paths.ledger.cache_clear()
    yield tmp_path
    paths.ledger.cache_clear()
    plt.close("all")


def edit(course, slug, old, new):
    path = course / "notebooks" / "text" / f"{slug}.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def hears_interrupts():
    """For a child of a suite that runs in the background, where a shell lets its jobs ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def snapshot(folder):
    return {path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
            for path in folder.rglob("*") if path.is_file()}  # fmt: skip


def test_storing_a_lesson_publishes_the_figures_of_the_same_run_in_the_courses_look(
    course, monkeypatch, capsys
):
    monkeypatch.setenv("CNNCOURSE_STYLE", "dark_background")
    assert publish.store([RESNET]) == 0 and "new" in capsys.readouterr().out
    shown = nbformat.read(course / "notebooks" / f"{RESNET}.ipynb", as_version=4).cells[-1].outputs
    inside = base64.b64decode(shown[0].data["image/png"])
    published = course / "figures" / RESNET / "fig-resnet-block.png"
    assert inside == published.read_bytes() and os.environ["CNNCOURSE_STYLE"] == "dark_background"
    monkeypatch.delenv("CNNCOURSE_STYLE")
    assert publish.figures([RESNET]) == 0 and "0 of 1 lessons ran" in capsys.readouterr().out
    assert published.read_bytes() == inside
    edit(course, RESNET, "ax.set_title(label)", "ax.set_title(label); raise ValueError")
    with pytest.raises(LessonError, match="ValueError"):
        publish.store([CONV, RESNET])
    assert "fig-maxpool-png" in (course / "figures" / "README.md").read_text()


def made(course, monkeypatch, lesson=RESNET, processor="one", **titles):
    """A finished run with one figure for each suffix: what a lesson's process leaves behind."""
    run = course / "run"
    for old in run.glob("figures/*"):
        old.unlink()
    monkeypatch.setenv("CNNCOURSE_FIGURES", str(run / "figures"))
    figures.use_style()
    for suffix, title in titles.items():
        fig, ax = plt.subplots()
        ax.set_title(title)
        id = {RESNET: "fig-resnet-block", CONV: "fig-maxpool-png"}[lesson]
        figures.save(fig, f"{id}.{suffix}", caption="c", alt="a")
    facts = {
        "parameters": {"seed": 0},
        "seed": 0,
        "versions": {"torch": "2"},
        "device_name": processor,
    }
    (run / "provenance.json").write_text(json.dumps(facts))
    return run


def test_figures_are_made_once_then_nothing_runs_then_only_what_changed(
    course, monkeypatch, capsys
):
    target = course / "figures"
    assert command.main(["figures", "--jobs", "2"]) == 0
    said = capsys.readouterr().out
    assert (
        said.count(" new ") == 2
        and "2 of 2 lessons ran, 0 failed" in said
        and "A question about" in said
    )
    index = json.loads((target / "index.json").read_text())
    entry = index["fig-resnet-block"]
    assert entry["parameters"] == {"seed": 0, "label": "0.93"} and entry["lesson"] == RESNET
    assert sorted(path.name for path in (target / RESNET).iterdir()) == [
        "fig-resnet-block.png",
        "fig-resnet-block.svg",
    ]
    gallery = (target / "README.md").read_text()
    assert (
        rf"[![It says \[0.93\].]({RESNET}/fig-resnet-block.png)]({RESNET}/fig-resnet-block.svg)"
        in gallery
    )
    before = snapshot(target)

    assert command.main(["figures"]) == 0
    assert "0 of 2 lessons ran" in capsys.readouterr().out
    monkeypatch.setenv(
        "CNNCOURSE_STYLE", str(course / "notebooks" / "ledger.yaml")
    )  # the published ones have no other
    assert command.main(["figures-check", "14"]) == 0
    monkeypatch.delenv("CNNCOURSE_STYLE")
    assert "1 published figures compared with new ones: no difference" in capsys.readouterr().out

    edit(course, RESNET, "ax.set_title(label)", 'ax.set_title(label.replace("3", "8"))')
    edit(course, CONV, "ax.set_title(label)", 'raise ValueError("planted")')
    assert command.main(["figures"]) == 1  # one fails, the other is published
    captured = capsys.readouterr()
    assert (
        "changed" in captured.out and "FAILED, kept" in captured.out and "planted" in captured.err
    )
    after = snapshot(target)
    conv = [name for name in before if name.startswith(CONV)]
    assert len(conv) == 2 and all(after[name] == before[name] for name in conv)
    assert after[f"{RESNET}/fig-resnet-block.png"] != before[f"{RESNET}/fig-resnet-block.png"]

    assert command.main(["figures", "14", "--force"]) == 0
    assert " same " in capsys.readouterr().out
    assert snapshot(target) == after  # not a byte, not a date: the working tree stays clean


def test_other_presets_and_styles_never_touch_the_published_figures(course, capsys):
    (course / "own.mplstyle").write_text("font.size: 30\n")
    words = ["figures", "14", "--preset", "full", "--style", str(course / "own.mplstyle")]
    assert command.main(words) == 0
    assert "build/figures/full-style-own" in capsys.readouterr().out
    index = json.loads((course / "build" / "figures" / "full-style-own" / "index.json").read_text())
    assert index["fig-resnet-block"]["parameters"]["label"] == "0.99"
    assert not (course / "figures").exists() and "CNNCOURSE_STYLE" not in os.environ


def test_an_interrupted_call_stops_its_lessons_and_the_next_one_goes_on(course):
    edit(
        course,
        RESNET,
        "figures.use_style()",
        'open("pid", "w").write(str(os.getpid())); time.sleep(60)',
    )
    with subprocess.Popen([sys.executable, "-m", "cnncourse", "figures", "14"], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, preexec_fn=hears_interrupts) as process:  # fmt: skip
        for _ in range(300):
            if (course / "notebooks" / "pid").exists() and (
                course / "notebooks" / "pid"
            ).read_text():
                break
            time.sleep(0.1)
        with pytest.raises(
            MachineError, match=rf"process {process.pid}[\s\S]*wait until it is done"
        ):
            publish.figures(["14"])
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=20)[0]
    assert process.returncode == 130 and "interrupted" in said and "Traceback" not in said
    kernel = int((course / "notebooks" / "pid").read_text())
    for _ in range(50):
        if not os.path.exists(f"/proc/{kernel}"):
            break
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{kernel}")
    with publish._alone(course / "figures"):
        pass  # the lock is free again


def test_what_looks_the_same_is_not_rewritten_even_from_another_machine(course, monkeypatch):
    index = gallery.Index(course / "figures")
    assert index.publish(RESNET, made(course, monkeypatch, a="0.93")) == {
        "fig-resnet-block.a": "new"
    }
    before = snapshot(course / "figures")
    run = made(course, monkeypatch, processor="other", a="0.93")
    assert gallery.Index(course / "figures").publish(RESNET, run) == {"fig-resnet-block.a": "same"}
    assert snapshot(course / "figures") == before


def test_a_figure_that_is_no_longer_made_is_removed(course, monkeypatch):
    index = gallery.Index(course / "figures")
    index.publish(RESNET, made(course, monkeypatch, a="1", b="2"))
    states = index.publish(RESNET, made(course, monkeypatch, b="2"))
    assert states == {"fig-resnet-block.a": "removed", "fig-resnet-block.b": "same"}
    names = sorted(path.name for path in (course / "figures" / RESNET).iterdir())
    assert names == ["fig-resnet-block.b.png", "fig-resnet-block.b.svg"]


def test_a_publish_that_was_killed_half_way_is_mended_by_the_next(course, monkeypatch):
    index = gallery.Index(course / "figures")
    index.publish(RESNET, made(course, monkeypatch, a="1"))
    run = made(course, monkeypatch, a="2")
    png = course / "figures" / RESNET / "fig-resnet-block.a.png"
    png.write_bytes(
        (run / "figures" / png.name).read_bytes()
    )  # the new picture, the old svg and index
    (png.parent / ".fig-resnet-block.a.svg.x8").write_text("half")
    fresh = gallery.Index(course / "figures")
    assert not fresh.intact(RESNET)
    assert fresh.publish(RESNET, run) == {"fig-resnet-block.a": "changed"}
    svg = "fig-resnet-block.a.svg"
    assert (png.parent / svg).read_bytes() == (run / "figures" / svg).read_bytes()
    assert len(list(png.parent.iterdir())) == 2


def test_comparing_names_every_kind_of_difference(course, monkeypatch):
    index = gallery.Index(course / "figures")
    index.publish(RESNET, made(course, monkeypatch, a="1", b="1", c="1"))
    run = made(course, monkeypatch, a="1", b="7", d="1")
    found = "\n".join(index.compare(RESNET, run))
    assert "fig-resnet-block.a" not in found
    assert (
        "fig-resnet-block.b: other bytes in svg and png on the same environment (looks different)"
        in found
    )
    assert "fig-resnet-block.c: published, but 14_resnet does not make it" in found
    assert "fig-resnet-block.d: made by 14_resnet, but not published" in found
    elsewhere = index.compare(
        RESNET, made(course, monkeypatch, processor="other", a="1", b="7", c="1")
    )
    assert elsewhere == [
        "fig-resnet-block.b: looks different (on another environment, where bytes are not compared)"
    ]
    (course / "figures" / RESNET / "fig-resnet-block.a.svg").write_text("<svg/>")
    again = index.compare(RESNET, made(course, monkeypatch, a="1", b="1", c="1"))
    assert again == ["fig-resnet-block.a: the published files are not those of index.json (sha256)"]


def test_a_figure_of_another_lesson_is_refused(course, monkeypatch):
    run = made(course, monkeypatch, lesson=CONV, a="1")
    with pytest.raises(LessonError, match=r"figures that belong to 14_resnet[\s\S]*04_conv"):
        gallery.Index(course / "figures").publish(RESNET, run)


def test_a_picture_that_was_exchanged_after_the_run_is_refused(course, monkeypatch):
    run = made(course, monkeypatch, a="1")
    (run / "figures" / "fig-resnet-block.a.png").write_bytes(b"other")
    with pytest.raises(LessonError, match="as the lesson wrote it"):
        gallery.Index(course / "figures").publish(RESNET, run)
    assert not (course / "figures" / RESNET).exists()


def test_figures_of_a_lesson_that_is_gone_are_removed(course, monkeypatch):
    index = gallery.Index(course / "figures")
    index.publish(RESNET, made(course, monkeypatch, a="1"))
    assert index.forget({CONV}) == {RESNET: ["fig-resnet-block.a"]}
    assert not (course / "figures" / RESNET).exists()
    assert index.entries == {}


def test_every_input_of_a_figure_counts(course, monkeypatch):
    def digest(preset="default"):
        return inputs.State(course / "figures", preset).inputs(RESNET)

    first = digest()
    assert digest() == first and digest("full") != first
    (course / "requirements.lock").write_text("numpy==1\n")
    second = digest()
    (course / "own.mplstyle").write_text("font.size: 30\n")
    monkeypatch.setenv("CNNCOURSE_STYLE", str(course / "own.mplstyle"))
    third = digest()
    monkeypatch.setattr(inputs, "package_digest", lambda lesson: "another package")
    fourth = digest()
    edit(course, RESNET, "A title.", "Another title.")
    assert len({first, second, third, fourth, digest()}) == 5


def test_an_index_that_cannot_be_read_says_what_to_do(course):
    (course / "figures").mkdir()
    (course / "figures" / "index.json").write_text("{")
    with pytest.raises(LessonError, match="delete it"):
        gallery.Index(course / "figures")


def test_the_doctor_finds_what_is_missing(course, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "_data", lambda: iter(()))  # its sets are looked for elsewhere
    checks = tuple(check for check in doctor.CHECKS if check[0] != "data")
    monkeypatch.setattr(doctor, "CHECKS", checks)
    lock = "numpy==0.1 \\\n    --hash=sha256:00\nmatplotlib==1 ; python_version < '3'\n"
    (course / "requirements.lock").write_text(lock)
    monkeypatch.setenv("CNNCOURSE_THREADS", "many")
    assert doctor.main() == 1
    said = capsys.readouterr().out
    assert (
        "(locked 0.1)" in said
        and "FIX   processor: CNNCOURSE_THREADS='many'" in said
        and "not a repository" in said
    )
    assert "ok    torch: torch" in said
    monkeypatch.delenv("CNNCOURSE_THREADS")
    assert doctor.main() == 0


def planted(course):
    """A course with a published figure and a notebook that shows it."""
    fig, ax = plt.subplots()
    ax.set_title("1")
    png = figures.pictures(fig)[0]
    shown = nbformat.v4.new_output(
        "display_data",
        data={"image/png": base64.b64encode(png).decode()},
        metadata={"image/png": {"alt": "a"}},
    )
    source = 'figures.save(fig, "fig-resnet-block.a", caption="c", alt="a")'
    content = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source, outputs=[shown])])
    nbformat.write(content, course / "notebooks" / f"{RESNET}.ipynb")
    nbformat.write(nbformat.v4.new_notebook(), course / "notebooks" / f"{CONV}.ipynb")


def replaced(path, old, new):
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


def other_picture(course):
    fig, ax = plt.subplots()
    ax.set_title("7")
    old = json.loads((course / "notebooks" / f"{RESNET}.ipynb").read_text())
    png = "".join(old["cells"][0]["outputs"][0]["data"]["image/png"]).strip()
    new = base64.b64encode(figures.pictures(fig)[0]).decode()
    replaced(course / "notebooks" / f"{RESNET}.ipynb", png, new)


@pytest.mark.parametrize(("damage", "says"), [
    (lambda c: None, None),
    (lambda c: (c / f"figures/{RESNET}/fig-resnet-block.a.png").write_bytes(b"other"), "not the file that index.json"),
    (lambda c: (c / f"figures/{RESNET}/fig-resnet-block.a.svg").unlink(), "named by index.json, but not there"),
    (lambda c: (c / f"figures/{RESNET}/more.svg").write_text("<svg/>"), "not named by index.json"),
    (lambda c: replaced(c / "figures" / "README.md", "*In words:* a", "*In words:* b"), "README.md: not the gallery"),
    (lambda c: (c / "figures" / "README.md").unlink(), "README.md: not the gallery"),
    (lambda c: replaced(c / "figures" / "index.json", '"caption": "c"', '"caption": "d"'), "not the gallery"),
    (other_picture, "fig-resnet-block.a: another picture is stored in 14_resnet.ipynb"),
    (lambda c: replaced(c / f"notebooks/{RESNET}.ipynb", '"alt": "a"', '"alt": "b"'), "no picture in 14_resnet.ipynb"),
    (lambda c: replaced(c / f"notebooks/{RESNET}.ipynb", "block.a", "block.b"), "block.b: saved in 14_resnet.ipynb"),
    (lambda c: [(c / f"notebooks/{RESNET}.ipynb").unlink(), (c / f"notebooks/text/{RESNET}.py").unlink()], "is gone"),
])  # fmt: skip
def test_what_was_changed_by_hand_is_named_without_running_anything(
    course, monkeypatch, damage, says
):
    planted(course)
    index = gallery.Index(course / "figures")
    index.publish(RESNET, made(course, monkeypatch, a="1"))
    index.gallery()
    damage(course)
    found = gallery.Index(course / "figures").problems()
    assert found == [] if says is None else any(says in line for line in found), found


def test_new_bytes_or_metadata_on_an_equal_environment_are_a_change(course, monkeypatch):
    index = gallery.Index(course / "figures")
    index.publish(RESNET, made(course, monkeypatch, a="1"))
    run = made(course, monkeypatch, a="1")
    svg = run / "figures" / "fig-resnet-block.a.svg"
    svg.write_bytes(svg.read_bytes() + b"<!-- another build of the same look -->")
    record = run / "figures" / "fig-resnet-block.a.json"
    said = json.loads(record.read_text())
    said["sha256"]["svg"] = gallery.sha256(svg)
    record.write_text(json.dumps(said))
    assert len(index.compare(RESNET, run)) == 1
    assert index.publish(RESNET, run) == {"fig-resnet-block.a": "changed"}
    assert (course / "figures" / RESNET / svg.name).read_bytes() == svg.read_bytes()
    assert index.compare(RESNET, run) == []
    record.write_text(json.dumps(said | {"caption": "another"}))
    assert index.compare(RESNET, run) == ["fig-resnet-block.a: another caption in index.json"]
    assert index.publish(RESNET, run) == {"fig-resnet-block.a": "changed"}
    assert index.publish(RESNET, run) == {"fig-resnet-block.a": "same"}
    assert index.compare(RESNET, run) == []


def test_the_gallery_names_a_lesson_that_is_gone_by_its_slug(course, monkeypatch):
    index = gallery.Index(course / "figures")
    index.publish(RESNET, made(course, monkeypatch, a="1"))
    (course / "notebooks" / "text" / f"{RESNET}.py").unlink()
    index.gallery()
    assert f"## [{RESNET}]" in (course / "figures" / "README.md").read_text()


@pytest.mark.parametrize("words", [
    ["--preset", "ful"], ["--preset", "../../x"], ["--style", "no.mplstyle"], ["41"], ["--preset", "full", "14"],
])  # fmt: skip
def test_a_refused_call_leaves_no_folder_and_no_lock(course, words):
    (course / "notebooks" / "presets" / "full.yaml").write_text('"14": {lable: "0.99"}\n')
    before = snapshot(course)
    assert command.main(["figures", *words]) == 2
    assert snapshot(course) == before and not (course / "build").exists()


def test_a_preset_and_a_style_of_one_name_have_folders_of_their_own(course):
    targets = {
        publish.target_folder("full", None),
        publish.target_folder("default", "full.mplstyle"),
    }
    assert len(targets) == 2


def test_a_lesson_depends_on_the_modules_that_it_imports_and_those_that_they_import(course):
    def names(slug):
        return {
            path.relative_to(inputs.PACKAGE).as_posix()
            for path in inputs.modules(Lesson.find(slug))
        }

    assert {"figures.py", "paths.py", "errors.py", "machine.py", "__init__.py"} <= names(RESNET)
    assert not {"diagrams/__init__.py", "exercises/__init__.py", "lab/publish.py"} & names(RESNET)
    edit(
        course,
        RESNET,
        "from cnncourse import figures\n",
        "from cnncourse import exercises, figures\n",
    )
    assert {"exercises/__init__.py", "exercises/lesson_14.py"} <= names(RESNET)
    assert "exercises/lesson_04.py" not in names(RESNET)
    edit(
        course,
        RESNET,
        "import exercises, figures",
        "import figures\nimport cnncourse.models.resnet as r",
    )
    assert {"models/__init__.py", "models/resnet.py", "models/base.py"} <= names(RESNET)


def test_an_edit_of_a_module_reruns_only_the_lessons_that_import_it(course, monkeypatch):
    def digest(slug):
        return inputs.State(course / "figures", "default").inputs(slug)

    edit(
        course,
        RESNET,
        "from cnncourse import figures\n",
        "from cnncourse import figures, widgets\n",
    )
    before = digest(RESNET), digest(CONV)
    real = gallery.sha256
    monkeypatch.setattr(
        inputs, "sha256", lambda path: "new" if path.name == "widgets.py" else real(path)
    )
    assert digest(RESNET) != before[0] and digest(CONV) == before[1]


def test_a_folder_that_cannot_be_written_is_noticed_before_the_lessons_run(
    course, monkeypatch, capsys
):
    def refused(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(publish.tempfile, "TemporaryFile", refused)
    monkeypatch.setattr(publish, "_run_all", lambda *_: pytest.fail("a lesson ran"))
    assert command.main(["figures"]) == 1
    assert "make it writable" in capsys.readouterr().err
