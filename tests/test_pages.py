"""A lesson as a page: what is folded is one click away, in a real browser too."""

import base64
import shutil

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from cnncourse import __main__ as command
from cnncourse.errors import LessonError
from cnncourse.lab import pages

PNG = base64.b64encode(b"\x89PNG\r\n").decode()
SLUG = "04_convolution-arithmetic"


@pytest.fixture
def course(tmp_path, monkeypatch):
    picture = new_output("display_data", data={"image/png": PNG, "text/plain": "words"},
                         metadata={"image/png": {"alt": "It <rises>."}})  # fmt: skip
    cells = [
        new_markdown_cell("# 04 · Sizes"),
        new_code_cell("import math\nx = '<b>'", metadata={"tags": ["imports", "fold"]}),
        new_code_cell("half(x)", outputs=[picture]),
    ]
    (tmp_path / "notebooks" / "text").mkdir(parents=True)
    (tmp_path / "notebooks" / "text" / "05_more.py").write_text("# %%\n1\n")
    nbformat.write(new_notebook(cells=cells), tmp_path / "notebooks" / f"{SLUG}.ipynb")
    monkeypatch.setenv("CNNCOURSE_ROOT", str(tmp_path))
    return tmp_path


def test_only_what_is_tagged_is_folded_and_pictures_keep_their_words(course, capsys):
    assert command.main(["page", "04"]) == 0
    assert capsys.readouterr().out.strip().endswith(f"build/pages/{SLUG}.html")
    page = (course / "build" / "pages" / f"{SLUG}.html").read_text()
    assert (
        page.count('<details class="fold">') == 1 and "<summary>import math ...</summary>" in page
    )
    assert 'alt="It &lt;rises&gt;."' in page and "<title>04 · Sizes</title>" in page


def test_a_lesson_that_was_never_stored_has_no_page(course):
    with pytest.raises(LessonError, match="store 05"):
        pages.make(["05"])


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.mark.skipif(BROWSER is None, reason="no browser: the fold was not opened in a real one")
def test_a_click_opens_the_fold(course):
    from playwright.sync_api import expect, sync_playwright

    (path,) = pages.make(["04"])
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(path.as_uri(), wait_until="commit")  # its script for formulas may not load here
        code = page.locator("details.fold .jp-InputArea")
        expect(page.get_by_text("half").first).to_be_visible(timeout=60_000)  # milliseconds
        expect(code).to_have_count(1, timeout=60_000)
        expect(code).to_be_hidden()
        page.locator("details.fold summary").click()
        expect(code).to_be_visible()
        browser.close()
