"""The site: what its pages show, that they hold together, and that only what changed is built anew."""

from __future__ import annotations

import json
import re
import shutil

import nbformat
import pytest
import site_course
from nbformat.v4 import new_markdown_cell
from site_course import OTHER, SLUG

from cnncourse import __main__ as command
from cnncourse import paths
from cnncourse.claims import reading
from cnncourse.errors import LessonError
from cnncourse.exercises import predictions
from cnncourse.lab import site
from cnncourse.lab.site import cells, check, explorer, overview, settings


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """The small course with its site; tests read it, those that change it take a copy."""
    folder = tmp_path_factory.mktemp("course")
    site_course.write(folder)
    built = site_course.build(folder)
    assert built.complaints == []
    return folder


@pytest.fixture(scope="module")
def page(course):
    return (course / "build" / "site" / "lessons" / f"{SLUG}.html").read_text()


@pytest.fixture
def copy(course, tmp_path):
    """The small course to change; Sphinx begins anew in another folder."""
    return shutil.copytree(course, tmp_path / "copy")


def test_every_lesson_is_a_page_and_nothing_is_wrong_with_the_site(site):
    folder, complaints = site
    assert complaints == []
    pages = {path.stem for path in (folder / "lessons").glob("*.html")}
    assert pages == {path.stem for path in paths.lessons().values()}


def test_the_claims_page_has_every_stored_claim_linked_to_its_cell(site):
    text = (site[0] / "claims.html").read_text()
    stored = [claim for path in paths.lessons().values() for claim in reading.stored(path)]
    assert text.count("<tr>") - 1 == len(stored) > 0


def test_every_erratum_of_the_ledger_is_among_the_corrections(site):
    text = (site[0] / "corrections.html").read_text()
    errata = [id for id, item in paths.ledger().items() if item["kind"] == "erratum"]
    assert errata and [id for id in errata if f'id="{id}"' not in text] == []


def test_every_published_figure_is_shown_with_its_words(site):
    index = json.loads((paths.root() / "figures" / "index.json").read_text())
    text = (site[0] / "figures.html").read_text()
    assert index and [id for id in index if f'id="figure-{id}"' not in text] == []


def test_public_functions_have_a_page(site):
    text = (site[0] / "api" / "cnncourse.training.html").read_text()
    assert 'id="cnncourse.training.loop.fit"' in text and "<strong>clip_gradient</strong>" in text


def test_no_module_of_solutions_is_among_the_pages_of_the_package():
    names = overview.modules()
    assert "cnncourse.data" in names and "cnncourse.exercises" in names
    assert not [name for name in names if "lesson_" in name or ".lab" in name]


def test_folded_code_is_closed_with_its_first_line_on_it(page):
    assert (
        page.count('<details class="admonition hide') == 1
        and '<p class="collapsed admonition-title">import math ...</p>' in page
    )


def test_a_picture_has_its_words_and_leads_to_its_vector_version(page):
    assert re.search(r'<a href="../figures/[^"]*\.svg"><img [^>]*alt="It &lt;rises&gt;."', page)
    assert re.search(r'<img src="../pictures/[^>]*alt="It is not published."', page)


def test_a_stored_picture_without_words_is_a_complaint(copy):
    place = copy / "notebooks" / f"{SLUG}.ipynb"
    notebook = nbformat.read(place, as_version=4)
    shown = next(cell for cell in notebook.cells if cell.source.startswith("figures.show"))
    shown.outputs[0].metadata = {}
    nbformat.write(notebook, place)
    (said,) = site_course.build(copy).complaints
    assert said.startswith(f"lessons/{SLUG}.html: a picture without alternative text")


def test_the_answer_of_a_prediction_stands_in_a_closed_fold(page):
    before, fold, rest = page.partition('<details class="answers" id="fold-04-p1"')
    inside, _, after = rest.partition("The next idea")
    for words in ("measured 1.5", "It is 1.5", "760 &lt;i&gt;weights", "We now know 1.5"):
        assert (
            words.replace("&lt;", "<").replace("&gt;", ">") in inside
            and words not in before + after
        )
    assert "Half of three is" in before and '<button type="button">more than one</button>' in before
    assert inside.index("We now know") < inside.index("</details>\n", inside.index("We now know"))
    assert 'data-measured="more than one"' in rest and " open" not in rest.partition(">")[0]


def test_a_prediction_that_is_never_answered_hides_nothing():
    page = cells.gate(predictions.Asked("04-p1", "A", ("b",)))
    asked = nbformat.v4.new_code_cell("", outputs=[site_course.shown({"text/html": page})])
    both = [asked, new_markdown_cell("more")]
    assert cells.gated(both) == both


def test_no_escape_sequences_of_a_terminal_are_left(page):
    assert "measured 1.5" in page and "\x1b" not in page and "[31m" not in page


def test_links_between_headings_and_to_claims_lead_somewhere(course, page):
    assert re.search(r'<a class="reference internal" href="#two-words">.*the end', page)
    assert (
        f"lessons/{SLUG}.html#claim-err-conv-76x10.all"
        in (course / "build/site/claims.html").read_text()
    )
    assert 'id="claim-err-conv-76x10.all"' in page


def test_corrections_come_from_the_lesson_and_the_ledger_with_the_cell_that_decides(course):
    text = (course / "build" / "site" / "corrections.html").read_text()
    assert "<strong>760</strong>" in text and f"lessons/{SLUG}.html#half" in text
    assert f'href="lessons/{SLUG}.html#cell-err-conv-76x10"' in text
    assert "06 · later (not written yet)" in text and "planned: read" in text


def test_stored_sliders_take_the_place_of_the_picture(page):
    assert page.count('<div class="explorer">') == 1 and '<input type="range"' in page
    assert '<fieldset class="control"><legend>kind</legend>' in page
    assert 'aria-live="polite">size 3, plain</p>' in page
    assert f"../figures/{SLUG}/explorers/sizes/0-0.png" in page
    before, _, after = page.partition('<div class="explorer">')
    assert 'alt="another"' in before and "size 3, plain" not in after.partition("</script>")[2]


def test_without_stored_pictures_the_picture_stands_still(copy):
    shutil.rmtree(copy / "figures" / SLUG / "explorers")
    assert site_course.build(copy).complaints == []
    text = (copy / "build" / "site" / "lessons" / f"{SLUG}.html").read_text()
    assert "explorer" not in text and 'alt="size 3, plain"' in text


def test_stored_sliders_without_a_picture_of_their_start_are_refused(copy):
    file = copy / "figures" / SLUG / "explorers" / "sizes" / "0-0.png"
    file.unlink()
    with pytest.raises(LessonError, match="0-0.png"):
        explorer.folders(copy / "figures" / SLUG)


def test_formulas_are_drawn_by_a_script_of_the_site(course, page):
    script = re.search(r'src="(\.\./_static/tex-svg\.js[^"]*)"', page)
    assert script and (course / "build" / "site" / "_static" / "tex-svg.js").stat().st_size > 1e6


def test_buttons_of_binder_and_colab_come_with_the_address_of_the_repository(copy):
    place = copy / "build" / "site" / "lessons" / f"{SLUG}.html"
    assert "mybinder" not in place.read_text()
    site_course.build(copy, repository="https://github.com/someone/course.git")
    for address in (
        "mybinder.org/v2/gh/someone/course/",
        "colab.research.google.com/github/someone/course/",
    ):
        assert address in place.read_text()


def test_a_change_in_a_lesson_builds_its_page_anew_and_no_other_lesson(copy):
    site_course.build(copy)
    folder = copy / "build" / "site"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.html")}
    place = copy / "notebooks" / f"{SLUG}.ipynb"
    notebook = nbformat.read(place, as_version=4)
    notebook.cells[-1].source += "\n\nOne more sentence."
    nbformat.write(notebook, place)
    assert site_course.build(copy).complaints == []
    written = [path for path, time in before.items() if path.stat().st_mtime_ns != time]
    new = {path.relative_to(folder).as_posix() for path in written}
    assert f"lessons/{SLUG}.html" in new and f"lessons/{OTHER}.html" not in new
    assert "One more sentence." in (folder / "lessons" / f"{SLUG}.html").read_text()
    assert not {"claims.html", "figures.html"} & new


def test_a_lesson_that_is_gone_takes_its_page_along_and_leaves_every_list(copy):
    (copy / "notebooks" / f"{OTHER}.ipynb").unlink()
    assert site_course.build(copy).complaints == []
    folder = copy / "build" / "site"
    assert not (folder / "lessons" / f"{OTHER}.html").exists()
    assert OTHER not in (folder / "lessons" / f"{SLUG}.html").read_text()


@pytest.mark.parametrize(("found", "planted", "said"), [
    ('href="#two-words"', 'href="#three-words"', "leads nowhere: #three-words"),
    ('src="../figures/', 'src="../figure/', "leads nowhere: ../figure/"),
    ('href="../claims.html"', 'href="../claim.html"', "leads nowhere: ../claim.html"),
    ('alt="It &lt;rises&gt;."', "", "a picture without alternative text"),
    ('alt="It &lt;rises&gt;."', 'alt=" "', "a picture without alternative text"),
    ("</head>", '<script src="https://cdn.example/x.js"></script></head>', "asks another host"),
])  # fmt: skip
def test_a_planted_mistake_is_found(copy, found, planted, said):
    place = copy / "build" / "site" / "lessons" / f"{SLUG}.html"
    text = place.read_text()
    assert found in text
    place.write_text(text.replace(found, planted))
    wrong = check.problems(copy / "build" / "site")
    assert wrong and all(line.startswith(f"lessons/{SLUG}.html: ") for line in wrong)
    assert any(said in line for line in wrong), wrong


def test_a_lesson_that_was_never_stored_has_no_page(copy):
    (copy / "notebooks" / "text" / "07_more.py").write_text("# %%\n1\n")
    with site_course.standing(copy), pytest.raises(LessonError, match="store 07"):
        site.make(["07"])


def test_the_command_says_where_the_site_is_and_fails_where_something_is_wrong(copy, capsys):
    with site_course.standing(copy):
        assert command.main(["site"]) == 0
        assert capsys.readouterr().out.strip().endswith("build/site/index.html")
        notebook = nbformat.read(copy / "notebooks" / f"{OTHER}.ipynb", as_version=4)
        notebook.cells.append(new_markdown_cell("[nowhere](#Not-here)"))
        nbformat.write(notebook, copy / "notebooks" / f"{OTHER}.ipynb")
        assert command.main(["site"]) == 1
        assert "Not-here" in capsys.readouterr().out


def test_docstrings_keep_their_lists_and_names_that_end_in_an_underscore():
    lines = ["Adds with add_.", "", "size: of it,", "    in pixels", "a, b: numbers", ""]
    assert settings.entries(lines) == [
        "Adds with add\\_.", "", "* **size**: of it,", "  in pixels", "* **a, b**: numbers", "  "
    ]  # fmt: skip


def test_words_of_the_course_become_a_glossary_with_links_to_their_lessons(copy):
    place = copy / "notebooks" / f"{OTHER}.ipynb"
    notebook = nbformat.read(place, as_version=4)
    words = "| word | in short | lesson |\n|---|---|---|\n| loss | how wrong | 04, 22 |"
    own = new_markdown_cell(f"**Words.** A *bend* is a function.\n\n{words}")
    notebook.cells.insert(1, own)
    nbformat.write(notebook, place)
    assert site_course.build(copy).complaints == []
    text = (copy / "build" / "site" / "glossary.html").read_text()
    assert "<em>bend</em>" in text and "how wrong" in text and f'href="lessons/{SLUG}.html"' in text
