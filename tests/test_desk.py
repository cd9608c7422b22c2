"""The copies that JupyterLab opens: kept between visits, never written over, brought back by authors only."""

import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest

from cnncourse import __main__ as command
from cnncourse.errors import LessonError, TwinError
from cnncourse.lab import desk, doctor, pairing
from cnncourse.lab.lesson import Lesson

TEXT = """# %% [markdown]
# # 04 · Sizes

# %% tags=["parameters"]
seed: int = 0  # of everything; at least 0

# %% tags=["fold"]
print("plumbing", seed)
"""
SLUG = "04_convolution-arithmetic"


@pytest.fixture
def course(tmp_path, monkeypatch):
    (tmp_path / "notebooks" / "text").mkdir(parents=True)
    (tmp_path / "notebooks" / "presets").mkdir()
    (tmp_path / "notebooks" / "text" / f"{SLUG}.py").write_text(TEXT)
    monkeypatch.setenv("CNNCOURSE_ROOT", str(tmp_path))
    pairing.sync()
    return tmp_path


def copy():
    return desk.folder() / f"{SLUG}.ipynb"


def edit(path, old, new):
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


def test_a_students_session_changes_no_file_of_the_course(course):
    before = {
        path: path.read_bytes() for path in (course / "notebooks").rglob("*") if path.is_file()
    }
    assert desk.lay_out() == []
    content = nbformat.read(copy(), as_version=4)
    assert "jupytext" not in content.metadata  # it would write a text beside the copy
    edit(copy(), "seed: int = 0", "seed: int = 7")
    assert {path: path.read_bytes() for path in before} == before
    assert desk.lay_out() == [] and "seed: int = 7" in copy().read_text()  # the next visit finds it


def test_only_lessons_are_in_the_list_of_files(course):
    desk.lay_out()
    assert [path.name for path in desk.folder().iterdir() if path.name[0] != "."] == [copy().name]


def test_a_copy_that_nobody_changed_follows_its_lesson(course):
    desk.lay_out()
    with_outputs = nbformat.read(copy(), as_version=4)
    with_outputs.cells[2].outputs = [nbformat.v4.new_output("stream", text="plumbing 0\n")]
    nbformat.write(with_outputs, copy())  # it was run, no more
    edit(Lesson.find("04").text, "plumbing", "drawing")
    pairing.sync()
    assert desk.lay_out() == [] and "drawing" in copy().read_text()


def test_a_copy_that_was_changed_stays_and_is_told_how_to_follow(course):
    desk.lay_out()
    edit(copy(), "seed: int = 0", "seed: int = 7")
    edit(Lesson.find("04").text, "plumbing", "drawing")
    pairing.sync()
    (told,) = desk.lay_out()
    assert "yours stays" in told and "lab --fresh 04" in told
    assert "seed: int = 7" in copy().read_text()


def test_starting_afresh_puts_the_changed_copy_aside(course, capsys):
    desk.lay_out()
    for value in (7, 8):
        edit(copy(), "seed: int = 0", f"seed: int = {value}")
        assert command.main(["lab", "--fresh", "04"]) == 0
        assert "your copy is now" in capsys.readouterr().out
        assert "seed: int = 0" in copy().read_text()
    aside = [path.read_text() for path in (course / "build" / "lab-old").iterdir()]
    assert sorted("seed: int = 7" in text for text in aside) == [False, True]
    assert sorted("seed: int = 8" in text for text in aside) == [False, True]
    assert command.main(["lab", "--fresh"]) == 0
    assert capsys.readouterr().out == "the copies are those of the course\n"


def test_an_author_brings_changes_back_into_the_lesson_and_its_text(course, capsys):
    desk.lay_out()
    edit(copy(), "plumbing", "drawing")
    assert command.main(["lab", "--bring-back", "04"]) == 0
    assert capsys.readouterr().out.count("written") == 2
    lesson = Lesson.find("04")
    assert "drawing" in lesson.text.read_text() and pairing.differences(lesson.notebook) == []
    assert pairing.sync() == [] and desk.lay_out() == []
    assert command.main(["lab", "--bring-back", "04"]) == 0
    assert capsys.readouterr().out == "nothing was changed\n"


def test_changes_are_not_brought_back_over_a_lesson_that_changed_meanwhile(course):
    with pytest.raises(LessonError, match="lab makes one"):
        desk.bring_back("04")
    desk.lay_out()
    edit(copy(), "seed: int = 0", "seed: int = 7")
    edit(Lesson.find("04").text, "plumbing", "drawing")
    pairing.sync()
    with pytest.raises(TwinError, match="changed since"):
        desk.bring_back("04")
    assert "seed: int = 0" in Lesson.find("04").text.read_text()


def test_without_a_record_no_copy_is_taken_for_untouched(course):
    desk.lay_out()
    edit(copy(), "seed: int = 0", "seed: int = 7")
    (desk.folder() / desk.RECORD).unlink()
    assert "yours stays" in desk.lay_out()[0] and "seed: int = 7" in copy().read_text()


BROWSER = doctor.browser()


@pytest.mark.skipif(
    BROWSER is None, reason="no browser: the first visit was not seen in a real JupyterLab"
)
def test_the_first_visit_shows_lessons_only_no_news_and_folded_cells_collapsed(course, monkeypatch):
    from playwright.sync_api import expect, sync_playwright

    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(course / "config"))  # a user who was never here
    monkeypatch.setenv("JUPYTERLAB_WORKSPACES_DIR", str(course / "workspaces"))
    monkeypatch.setenv("JUPYTERLAB_SETTINGS_DIR", str(course / "user-settings"))
    desk.lay_out()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [*desk.arguments(), "--no-browser", f"--ServerApp.port={port}", "--IdentityProvider.token=t",
             "--ServerApp.port_retries=0"]  # fmt: skip
    with (
        (course / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "jupyter", *words], stdout=log, stderr=log
        ) as server,
    ):
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(f"{address}/api?token=t")
            with sync_playwright() as play:
                browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
                page = browser.new_page()
                page.goto(f"{address}/lab?token=t")
                files = page.locator(".jp-DirListing-item .jp-DirListing-itemText")
                expect(files).to_have_text([f"{SLUG}.ipynb"], timeout=60_000)  # milliseconds
                page.locator(".jp-DirListing-item").first.dblclick()
                expect(page.locator(".jp-CodeCell")).to_have_count(2, timeout=60_000)
                folded = page.locator(".jp-CodeCell .jp-InputPlaceholder")
                expect(folded).to_have_count(1, timeout=60_000)
                page.wait_for_timeout(3000)  # the question about news comes after a while
                assert page.locator(".Toastify__toast").all_inner_texts() == []
                browser.close()
        finally:
            server.terminate()
    assert not (desk.folder() / "text").exists()


def wait_for(address):
    for _ in range(300):
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{address} did not answer")
