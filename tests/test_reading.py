"""What makes a lesson hard to read is named: its length, open plumbing, claims that cannot fail, typed-in answers."""

import nbformat
import pytest

from cnncourse import parameters
from cnncourse.lab import reading
from cnncourse.lab.lesson import Cell

TEXTS = [
    "# 04 Sizes\nIt costs about 25 seconds of one core.",
    "## In practice\n`torch.div`\n## History\nold",
    "## Exercises\n## Summary\nshort",
    "## Corrections\n| the notes say | correct | how we know |\n|---|---|---|\n| 1 | 2 | the notes say 1 |",
    "## Sources\nPapers.",
]
ASKS = [
    'exercises.predict("04.p1", "Half of three:", ("one", "more"))',
    'exercises.reveal("04.p1", "more" if half(3) > 1 else "one", "It is 1.5.")',
]


def problems(tmp_path, *code, texts=TEXTS, asks=ASKS, known="", errata=True, tags=()):
    """What is said of a lesson with these cells; a code cell is its source, or its source and its tags."""
    (tmp_path / "notebooks").mkdir(exist_ok=True)
    notebook = tmp_path / "notebooks" / "04_sizes.ipynb"
    cells = [nbformat.v4.new_markdown_cell(text, metadata={"tags": list(tags)}) for text in texts]
    for cell in (*asks, *code):
        source, *marks = [cell] if isinstance(cell, str) else cell
        cells.append(nbformat.v4.new_code_cell(source, metadata={"tags": marks}))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), notebook)
    numbered = [Cell(number, cell) for number, cell in enumerate(cells, start=1)]
    return list(reading.check(notebook, numbered, parameters.parse(known), errata))


def test_a_lesson_as_it_should_be_has_no_problems(tmp_path):
    known = "seed: int = 0  # of all; at least 0\nwide: bool = True  # or not"
    assert problems(tmp_path, "x = half(3)", ("import math", "fold"), known=known) == []


LINES = "\n\n".join(f"x{number} = {number}" for number in range(16))


@pytest.mark.parametrize(("code", "says"), [
    (["x = 1"] * 84, "91 cells, at most 90"),
    ([(LINES, "define")] * 16, "258 visible lines of code, at most 250"),
    ([LINES + "\ny = 1"], "17 visible lines; split it at 16"),
    (["x = '" + "a" * 95 + "'"], "line 1 has 101 characters"),
    ([("x = '" + "a" * 95 + "'", "fold")], "line 1 has 101 characters"),
    (["import math\nfrom os import path"], "imports, not folded"),
    (['claims.check("a", "b {x}", x=(f(), ">", 1))\nclaims.quoted("c", "d", "e")'], "claims only, not folded"),
    (['for x in y:\n    claims.check(x, "b {v}", v=(f(x), ">", 1))'], "claims only, not folded"),
    (["fig, ax = plt.subplots()"], "a cell that draws"),
    (['figures.save(fig, "a", caption="b", alt="c")'], "a cell that draws"),
    (['figures.show(fig, alt="c")'], "a cell that draws"),
    (["def curve(ax, values):\n    ax.plot(values)"], "a cell that draws"),
    (['exercises.predict("14.p1", "?", ("a", "b"))'], "a prediction is called '04.p1'"),
    (['exercises.predict("04.p2", "?", ("a", "b"))'], "prediction '04.p2' is never revealed"),
    (['exercises.predict("04.p1", "?", ("a", "b"))'], "prediction '04.p1' is asked in cell 6 too"),
    (['exercises.reveal("04.p2", x, "y")'], "'04.p2' is revealed before it is asked"),
    (['exercises.predict("04.p2", "?", ("a", "a"))', 'exercises.reveal("04.p2", x, "y")'], "two or more different"),
    (['exercises.reveal("04.p1", "more", "y")'], "the answer of '04.p1' is typed in"),
    (['exercises.reveal("04.p1", "mor" if x > 1 else "one", "y")'], "the answer 'mor' of '04.p1' is none of"),
])  # fmt: skip
def test_a_defect_of_the_code_is_named(tmp_path, code, says):
    found = problems(tmp_path, *code)
    assert any(says in problem for problem in found), found


@pytest.mark.parametrize("code", [
    [(LINES, "fold")] * 16,
    [LINES],
    [("class Net:\n" + "\n".join(f"    x{n} = 1" for n in range(40)), "define")],
    ["import math\nx = math.pi"],
    ['x = f()\nclaims.check("a", "b {x}", x=(x, ">", 1))'],
    [("fig, ax = plt.subplots()", "fold")],
    ["def half(n):\n    return n / 2"],
    ["not python"],
])  # fmt: skip
def test_what_is_allowed_is_no_problem(tmp_path, code):
    assert problems(tmp_path, *code) == []


@pytest.mark.parametrize(("call", "says"), [
    ('claims.check("a", "s {x}", x=(28 * 28, "==", 784))', "claim 'a', x, cannot fail, both sides are literals"),
    ('claims.check("a", "s {x}", x=((7 - 3) / 3 + 1, "~", 2.33, 0.01))', "both sides are literals"),
    ('claims.check("a", "s {x}", x=([1, -2], "==", (1, -2)))', "both sides are literals"),
    ('claims.check("a", "s {x}", x=(y.shape, "==", y.shape))', "both sides are the same expression"),
    ('claims.check("a", "s {x}", x=(f(y) == f(y), "==", True))', "`f(y) == f(y)` compares an expression with itself"),
    ('claims.check("a", "s {x}", y=(f(), ">", 0), x=(1, ">", 0))', "claim 'a', x, cannot fail"),
    ('claims.table("a", "s", {"one": (f(), 1), "two": (2, 2)})', "row 'two', cannot fail"),
    ('claims.table("a", "s", rows={"two": (n, n)})', "row 'two', cannot fail"),
    ('claims.check("a", "s {x}", x=(f(), ">", 0), seeds=1)', "claim 'a' is over 1 seed"),
    ('claims.check("a", "s {x}", x=(f(), ">", 0), seeds=[3])', "claim 'a' is over 1 seed"),
    ('claims.check("a", "s {x}", x=(f(), ">", 0), seeds=runs)', "claim 'a' is over 1 seed"),
    ('for i in j:\n    claims.check(i, "s {x}", x=(2, ">", 0))', "claim 'i', x, cannot fail"),
])  # fmt: skip
def test_a_claim_that_cannot_fail_is_named(tmp_path, call, says):
    found = problems(tmp_path, (call, "fold"), known="runs: int = 1  # networks; at least 1")
    assert len(found) == 1 and says in found[0], found


@pytest.mark.parametrize("call", [
    'claims.check("a", "s {x} {y}", x=(f(), "==", 784), y=3)',
    'claims.check("a", "s {x}", x=(28 * size, "==", 784))',
    'claims.check("a", "s {x}", x=(28, "==", size))',
    'claims.check("a", "s {x}", x=(gap, ">=", 25), seeds=runs)',
    'claims.check("a", "s {x}", x=(gap, ">=", 25), seeds=range(runs))',
    'claims.table("a", "s", rows)',
    'claims.table("a", "s", {"one": (f(), 1)})',
])  # fmt: skip
def test_a_claim_that_can_fail_is_no_problem(tmp_path, call):
    assert problems(tmp_path, (call, "fold"), known="runs: int = 3  # networks; at least 2") == []


@pytest.mark.parametrize(("old", "new", "says"), [
    ("## In practice", "## Practice", "there is no section 'In practice'"),
    ("## History", "## Past", "there is no section 'History'"),
    ("## Summary", "**Summary**", "there is no section 'Summary'"),
    ("## Exercises", "## Tasks", "there is no section 'Exercises'"),
    ("## Sources", "## Ends", "there is no section 'Sources'"),
    ("## Corrections", "## Errata", "there is no section `## Corrections`"),
    ("| how we know |", "|", "there is no section `## Corrections`"),
    ("`torch.div`", "The notes say 1.", "cell 2 (## In practice): `The notes say`"),
])  # fmt: skip
def test_a_section_that_is_missing_or_misplaced_is_named(tmp_path, old, new, says):
    found = problems(tmp_path, texts=[text.replace(old, new) for text in TEXTS])
    assert any(says in problem for problem in found), found


@pytest.mark.parametrize(("kind", "alts", "says"), [
    ("image/png", ["It rises.", "It falls."], []),
    ("image/png", [""], ['without alternative text; show it by `figures.show(fig, alt="']),
    ("image/jpeg", [" "], ["without alternative text"]),
    ("image/svg+xml", [""], ["without alternative text"]),
    ("image/png", ["It rises.", "It rises."], ["is that of a picture in cell 1; say what each shows"]),
])  # fmt: skip
def test_every_picture_has_words_of_its_own(kind, alts, says):
    shown = [
        nbformat.v4.new_output("display_data", data={kind: ""}, metadata={kind: {"alt": alt}})
        for alt in alts
    ]
    shown.append(nbformat.v4.new_output("display_data", data={"text/plain": "no picture"}))
    cell = nbformat.v4.new_code_cell("fig", outputs=shown)
    found = list(reading._words([Cell(1, cell)]))
    assert len(found) == len(says)
    assert all(what in line for what, line in zip(says, found, strict=True)), found


def test_a_picture_that_nobody_gave_words_is_refused():
    bare = nbformat.v4.new_output("display_data", data={"image/png": "", "text/plain": "<Figure>"})
    found = list(reading._words([Cell(3, nbformat.v4.new_code_cell("plt.show()", outputs=[bare]))]))
    assert len(found) == 1 and "cell 3" in found[0]


@pytest.mark.parametrize(("said", "measured", "says"), [
    ("25", 25, None), ("25", None, None), ("25", 30, "measured 30 seconds"), ("45", 45, "at most 40"),
    ("few", 25, "do not say what the lesson costs"),
])  # fmt: skip
def test_the_cost_that_is_said_is_the_one_that_was_measured(
    tmp_path, monkeypatch, said, measured, says
):
    monkeypatch.setattr(reading.front, "cost", lambda notebook: measured)
    found = problems(tmp_path, texts=[TEXTS[0].replace("25", said), *TEXTS[1:]])
    assert found == [] if says is None else any(says in line for line in found), found


def test_a_lesson_without_errata_needs_no_corrections(tmp_path):
    assert problems(tmp_path, texts=[*TEXTS[:3], TEXTS[4]], errata=False) == []


def test_a_lesson_without_a_prediction_is_named(tmp_path):
    assert problems(tmp_path, asks=[]) == [
        "the lesson lets its reader predict nothing: exercises.predict('04.p1', ...)"
    ]


def test_the_tag_fold_is_for_code(tmp_path):
    assert "only code is folded" in problems(tmp_path, tags=["fold"])[0]


@pytest.mark.parametrize(("comment", "says"), [
    ("passes", "it has no semicolon"), ("passes; 0 means all", "'0 means all' is none"),
])  # fmt: skip
def test_a_parameter_without_a_range_is_named_with_how_to_write_one(tmp_path, comment, says):
    (found,) = problems(tmp_path, known=f"epochs: int = 3  # {comment}")
    assert "parameter epochs has no range" in found and says in found and "`; 1 to 200`" in found


def test_a_notebook_and_figures_that_are_too_large_are_named_with_the_largest_part(tmp_path):
    (tmp_path / "figures" / "04_sizes").mkdir(parents=True)
    (tmp_path / "figures" / "04_sizes" / "cloud.svg").write_text("a" * 650_000)
    (tmp_path / "figures" / "04_sizes" / "cloud.png").write_text("a" * 51_000)
    found = problems(tmp_path, "x = '''\n" + "\n".join(["a" * 99] * 7000) + "\n'''", asks=ASKS)
    assert any("the notebook has" in problem and "at most 700" in problem for problem in found)
    assert any(
        "701 kB of published figures" in problem and "cloud.svg, 650 kB" in problem
        for problem in found
    )
