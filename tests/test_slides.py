"""Slides: what they show of a lesson, and in a real browser that all of it can be read from the last row."""

import base64
import io
import json
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from cnncourse import __main__ as command
from cnncourse import claims, figures, paths
from cnncourse.errors import LessonError, MachineError
from cnncourse.lab import deck, doctor, fitting, prose, slides
from cnncourse.lab.lesson import Lesson

SLUG = "04_convolution-arithmetic"
CHROMIUM = doctor.browser()
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine: the slides were not measured"
)
LESSONS = [Lesson.find(number) for number in paths.lessons()]


def shown_png(alt: str = "") -> nbformat.NotebookNode:
    out = io.BytesIO()
    Image.new("RGB", (768, 384), "white").save(out, format="PNG", dpi=(96, 96))
    told = {"alt": alt, "smallest_px": 36.7} if alt else {}
    return new_output("display_data", metadata={"image/png": told},
                      data={"image/png": base64.b64encode(out.getvalue()).decode()})  # fmt: skip


def shown_html(page: str, **more: object) -> nbformat.NotebookNode:
    return new_output("display_data", data={"text/html": page, **more})


def claimed(sentence: str, verdict: str = "holds") -> nbformat.NotebookNode:
    page = f'<div class="claim" title="x"><span>✓</span> {sentence}<br><small>required: 1</small></div>'
    return shown_html(page, **{claims.MIME: {"verdict": verdict}})


ASKED = '<div class="gate gate-04-p1"><b>Predict:</b> It is <i>small</i> / <i>large</i>?</div>'
MEASURED = '<div class="answer answer-04-p1"><b>Measured: large.</b> The numbers:</div>'
CELLS = [
    new_markdown_cell("# 04 · Sizes\n### How large?\n\nOdd: it is large.\n\n**You need** nothing."),
    new_code_cell("draw()", metadata={"tags": ["fold"]}, outputs=[shown_png("It is large.")]),
    new_markdown_cell("## 1 · A map\n\nSay this.\n\nA map has a size:\n\n$$O = H - F + 1$$"),
    new_code_cell('def half(x):\n    return x / 2\n\n\nexercises.predict("04.p1", "It is", ("a",))',
                  outputs=[shown_html(ASKED)]),
    new_code_cell("import math\nx = 1", metadata={"tags": ["fold"]}),
    new_code_cell("draw()", metadata={"tags": ["fold"]},
                  outputs=[shown_html(MEASURED), shown_png(), claimed("It is <b>9</b>."), claimed("More.")]),
    new_markdown_cell("**We now know** that.\n**This does not show** more.\n\n**Exercise 04.1.** Halve it.\n\n"
                      "<details>the answer</details>\n\n| a | b |\n|---|---|\n| 1 | `2` |"
        "\n\n## Summary\n\n- One.\n- Two."),
    new_markdown_cell("## Sources\n\nNobody shows these."
        "\n\n## Corrections\n\n| the notes say | correct | how we know |\n"
                      "|---|---|---|\n| one | two | [section 1](#1) |"),
]  # fmt: skip


@pytest.fixture
def course(tmp_path, monkeypatch):
    (tmp_path / "notebooks" / "text").mkdir(parents=True)
    (tmp_path / "notebooks" / "text" / "05_more.py").write_text("# %%\n1\n")
    nbformat.write(new_notebook(cells=CELLS), tmp_path / "notebooks" / f"{SLUG}.ipynb")
    monkeypatch.setenv("CNNCOURSE_ROOT", str(tmp_path))
    return tmp_path


def words(slide: deck.Slide) -> list[str]:
    return [prose.plain(block.html) for block in slide.blocks if isinstance(block, deck.Words)]


def test_a_lesson_becomes_slides_in_the_order_of_its_story(course):
    found = deck.read(Lesson.find("04"))
    assert [slide.kind for slide in found] == [
        "title", "picture", "text", "formula", "code", "prediction", "picture", "known", "exercise", "table",
        "summary", "table",
    ]  # fmt: skip
    title, _, odd, formula, code, asked, picture, known, exercise, table, summary, backup = found
    points = 36.7 * 72 / 240  # as stored, of 8 x 4 inches
    assert found[1].blocks[0].points == pytest.approx(points, rel=1e-3)
    assert words(title) == ["How large?"] and words(odd) == ["Odd: it is large."]
    assert words(formula)[0] == "A map has a size:" and "<math" in formula.blocks[1].html
    assert code.blocks == [deck.Code("def half(x):\n    return x / 2")]
    assert words(asked) == ["It is", "small", "large"] and asked.part == "1 · A map"
    assert words(picture) == ["Measured: large.", "✓ It is 9."]
    assert words(known) == ["We now know that.", "This does not show more."]
    assert exercise.heading == "Exercise 04.1" and words(exercise) == ["Halve it."]
    assert table.blocks == [deck.Table((("a", "b"), ("1", "<code>2</code>")))]
    assert words(summary) == ["One.", "Two."]
    assert backup.is_backup and backup.blocks[0].rows[1] == ("one", "two", "section 1")


def test_what_is_not_shown_is_said_by_the_speaker(course):
    found = deck.read(Lesson.find("04"))
    assert "Say this." in "".join(found[3].notes) and "More." in "".join(found[6].notes)
    assert "You need" in "".join(found[0].notes) and "the answer" in "".join(found[8].notes)
    assert "Nobody shows these" not in repr(found)


def test_a_prediction_stands_before_every_slide_that_tells_its_answer():
    for lesson in LESSONS:
        kinds = [slide.kind for slide in deck.read(lesson)]
        answers = [at for at, slide in enumerate(deck.read(lesson))
                   if any(getattr(block, "kind", "") == "answer" for block in slide.blocks)]  # fmt: skip
        asked = [at for at, kind in enumerate(kinds) if kind == "prediction"]
        assert len(asked) == len(answers)
        assert all(question < answer for question, answer in zip(asked, answers, strict=True))


def test_every_lesson_shows_all_its_pictures_one_claim_each_and_its_closing_parts():
    for lesson in LESSONS:
        found = deck.read(lesson)
        cells = json.loads(lesson.notebook.read_text())["cells"]
        skipped = False
        stored = 0
        for cell in cells:
            text = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                for heading in re.findall(r"^## (.+)", text, re.MULTILINE):
                    skipped = deck.ROLES.get(heading) == "left out"
            stored += (not skipped) * sum(
                "image/png" in output.get("data", {}) for output in cell.get("outputs", [])
            )
        pictures = [
            block for slide in found for block in slide.blocks if isinstance(block, deck.Picture)
        ]
        assert len(pictures) == stored
        for slide in found:
            if slide.kind == "picture":
                assert sum(getattr(block, "kind", "") == "claim" for block in slide.blocks) <= 1
        assert [slide.kind for slide in found].count("summary") == 1
        assert [slide for slide in found if slide.heading == "Corrections" and slide.is_backup]


def test_nothing_of_a_slide_is_lost_when_it_is_split():
    rows = tuple((f"row {at}", "many words " * 30) for at in range(20))
    table = deck.Table((("a", "b"), *rows))
    pages = fitting.pages(deck.Slide("table", "A long table", [table]))
    parts = [block for blocks, _ in pages for block, _ in blocks]
    assert len(parts) > 1 and all(part.rows[0] == ("a", "b") for part in parts)
    assert tuple(row for part in parts for row in part.rows[1:]) == rows


def test_a_picture_with_small_letters_gets_the_whole_slide_and_its_words_the_next():
    small = deck.Picture("", (8, 8), 12.9, "tall")  # 24.2 px on the whole screen, 20 beside words
    claim = deck.Words("claim", "It is tall.")
    (first, look), (second, _) = fitting.pages(deck.Slide("picture", "Tall", [small, claim]))
    assert look == "whole" and first[0][0] is small and second[0][0] is claim
    assert first[0][1] / 8 / 72 * 12.9 >= figures.READABLE


def test_a_lesson_that_was_never_stored_has_no_slides(course):
    with pytest.raises(LessonError, match="store 05"):
        slides.make(["05"])


def test_without_a_browser_the_page_is_there_and_the_remedy_is_said(course, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "BROWSERS", ("no-such-browser",))
    with pytest.raises(MachineError, match="apt install chromium"):
        slides.make(["04"])
    ((state, found),) = doctor._browser()
    assert state == "note" and "no PDF" in found and "apt install chromium" in found
    assert (course / "build" / "slides" / "04.html").is_file()
    assert command.main(["slides", "04", "--html"]) == 0
    assert capsys.readouterr().out.strip().endswith("build/slides/04.html")


def test_a_style_gives_its_colours_and_pictures_or_says_what_is_missing(course, monkeypatch):
    style = course / "dark.mplstyle"
    style.write_text("figure.facecolor: 101010\ntext.color: f0f0f0\n")
    (page,) = slides.make(["04"], style=style, pdf=False)
    assert page == course / "build" / "slides" / "style-dark" / "04.html"
    assert "--paper: #101010" in page.read_text() and "--ink: #f0f0f0" in page.read_text()
    entry = {
        "alt": "It is large.",
        "lesson": SLUG,
        "inches": [8, 4],
        "files": {"svg": f"{SLUG}/x.svg"},
    }
    paths.write(course / "figures" / "index.json", json.dumps({"x": entry}))
    with pytest.raises(LessonError, match='make figures LESSONS="04"'):
        slides.make(["04"], style=style, pdf=False)
    paths.write(course / "build" / "figures" / "style-dark" / SLUG / "x.svg", "<svg>dark</svg>")
    (page,) = slides.make(["04"], style=style, pdf=False)
    assert base64.b64encode(b"<svg>dark</svg>").decode() in page.read_text()


# --- In a real browser


@pytest.fixture(scope="module")
def tab():
    """One page of a headless Chromium, as large as a projector; it remembers what it asked other hosts for."""
    with slides.browser() as chromium:
        page = chromium.new_page(viewport={"width": 1920, "height": 1080})
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.asked.append(f"error: {error}"))
        yield page


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("slides")


def opened(tab, folder, lesson: Lesson) -> None:
    page = paths.write(folder / "deck.html", slides.document(lesson.title, deck.read(lesson)))
    tab.asked.clear()
    tab.goto(page.as_uri())


@needs_browser
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.number)
def test_every_slide_fits_and_can_be_read_from_the_last_row(lesson, tab, folder):
    opened(tab, folder, lesson)
    assert "\n".join(slides.problems(tab)) == ""
    outside = [url[:80] for url in tab.asked if not url.startswith(("file:", "data:"))]
    assert outside == []  # neither another host nor an error


PLANTED = {
    "letters": ("document.querySelectorAll('.body p.text')[0].style.fontSize = '23px'", "letters of 23.0 px"),
    "overlong": ("document.querySelector('.body li.item').append(' word'.repeat(900))", "leaves the slide"),
    "wide": ("document.querySelector('pre code').prepend('x'.repeat(160))", "leaves the slide"),
    "picture": ("document.querySelector('img.picture[data-points]').style.cssText = 'width: 600px; height: 300px'",
                "in picture"),
    "overlap": ("document.querySelector('.body li.choice').style.marginBottom = '-90px'", "lie on each other"),
    "gone": ("document.querySelector('img.picture').src = 'data:image/png;base64,'", "cannot be drawn"),
    "empty": ("document.querySelectorAll('.slide')[4].replaceChildren()", "nothing is shown"),
}  # fmt: skip


@needs_browser
@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_found_by_the_same_measure(mistake, tab, course):
    opened(tab, course, Lesson.find("04"))
    assert slides.problems(tab) == []
    act, told = PLANTED[mistake]
    tab.evaluate(act)
    assert told in "\n".join(slides.problems(tab))


@needs_browser
def test_the_pdf_has_a_page_for_each_slide_and_is_as_wide_as_a_projector(tab, course):
    (page,) = slides.make(["04"], pdf=False)
    pdf = slides.print_pdf(tab.context.browser, page)
    content = pdf.read_bytes()
    count = len(re.findall(rb"/Type\s*/Page\b", content))
    assert count == page.read_text().count("<section ")
    boxes = set(re.findall(rb"/MediaBox\s*\[([^\]]*)\]", content))
    assert boxes
    for box in boxes:
        left, bottom, right, top = map(float, box.split())
        assert (right - left) / (top - bottom) == pytest.approx(16 / 9, rel=0.01)
