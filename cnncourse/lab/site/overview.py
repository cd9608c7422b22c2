"""The site's pages over all lessons: landing page, claims, corrections, figures, words, and the package's modules."""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Iterable
from functools import cached_property

from cnncourse import paths
from cnncourse.claims import reading, words
from cnncourse.lab import coverage, export, front, prose
from cnncourse.lab.lesson import Lesson
from cnncourse.lab.site.cells import anchor

WORDS = "word | in short | lesson"
SAY = "the notes say | correct | how we know"
WORKSHOP = ("cnncourse.lab", "cnncourse.__main__", "cnncourse.exercises.lesson_")  # not for lessons
PROSE = re.compile(r"\*\*Words\.\*\*(.*?)(?=\n\s*\n|\n- |\n\||\Z)", re.DOTALL)


class Told:
    """What the stored lessons say, read once for all pages."""

    def __init__(self, lessons: Iterable[Lesson], index: dict[str, dict]):
        self.lessons, self.index = list(lessons), index

    @cached_property
    def cells(self) -> dict[str, list[dict]]:
        """The cells of each lesson as they are stored."""
        return {lesson.slug: reading.cells(lesson.notebook) for lesson in self.lessons}

    @cached_property
    def claims(self) -> dict[str, list[dict]]:
        """The claims of each lesson, in their order."""
        return {lesson.slug: reading.stored(lesson.notebook) for lesson in self.lessons}

    def texts(self, slug: str) -> str:
        """All Markdown of a lesson."""
        texts = [cell["source"] for cell in self.cells[slug] if cell["cell_type"] == "markdown"]
        return "\n\n".join("".join(text) for text in texts)

    def figures(self, slug: str) -> list[str]:
        """The published figures of a lesson, in the order of its cells."""
        return [id for id in reading.drawn(self.cells[slug]) if id in self.index]


def landing(told: Told) -> str:
    """The first page: every lesson with its question and its surprise."""
    cards = []
    for lesson in told.lessons:
        picture = next(iter(told.figures(lesson.slug)), None)
        shown = ""
        if picture:
            entry = told.index[picture]
            shown = export.image(f"figures/{entry['files']['png']}", entry["alt"])
        cards.append(
            f'<li>{shown}<h2><a href="{_page(lesson.slug)}">{html.escape(lesson.title)}</a></h2>'
            f"<p>{html.escape(front.question(lesson))}</p></li>"
        )
    lessons = "\n".join(f"lessons/{lesson.slug}" for lesson in told.lessons)
    claims = sum(map(len, told.claims.values()))
    return f"""# Convolutional networks: lectures that run

Every number, curve and sentence of these lessons ({len(told.lessons)} so far) was computed by the code above it,
and {claims:,} sentences were checked when they ran.
Choose a lesson by what surprises you.

<ul class="lessons">
{chr(10).join(cards)}
</ul>

```{{toctree}}
:hidden:
:caption: Lessons
{lessons}
```

```{{toctree}}
:hidden:
:caption: Look up
claims
corrections
figures
glossary
```

```{{toctree}}
:hidden:
:caption: Package
api/index
```
"""


def claims(told: Told) -> str:
    """All claims as one table that a click sorts."""
    rows = []
    for lesson in told.lessons:
        held = coverage.other_seeds(lesson.number, told.claims[lesson.slug])
        for claim in told.claims[lesson.slug]:
            seeds = claim.get("seeds", "")
            others = held.get(claim["id"], "").replace(" ", "&nbsp;")
            rows.append(
                f'<tr><td><a href="{_page(lesson.slug)}#{anchor(claim["id"])}">'
                f"{html.escape(claim['sentence'])}</a></td>"
                f"<td>{html.escape(measured(claim))}</td><td>{html.escape(coverage.required(claim))}</td>"
                f"<td>{lesson.number}</td><td>{seeds}</td><td>{others}</td></tr>"
            )
    heads = "".join(
        f'<th scope="col"><button type="button">{name}</button></th>'
        for name in ("sentence", "measured", "required", "lesson", "seeds", "held in other seeds")
    )
    return f"""# All claims

{len(rows):,} sentences that the lessons claim, each with what was measured and what had to hold.
A lesson stops when one of them is false at its default parameters.
The last column counts in how many of the seeds that a lesson was run with besides its own the sentence held too.
A click on a heading sorts; a click on a sentence leads to the cell that measured it.

<div class="wide" role="region" aria-label="Claims" tabindex="0">
<table class="sortable"><thead><tr>{heads}</tr></thead><tbody>
{chr(10).join(rows)}
</tbody></table></div>
"""


def measured(claim: dict) -> str:
    """What a claim measured, in a line: ``gap 71.6 (61.4 to 82) · steps 110``.

    >>> measured({"measured": {"gap": {"mean": 71.6, "from": 61.4, "to": 82.0}, "steps": 110}})
    'gap 71.6 (61.4 to 82.0) · steps 110'
    """
    if "template" not in claim and "required" in claim and len(claim["required"]) > 3:
        return f"{words.count(len(claim['required']), 'row')}"
    found = claim.get("measured") or {}
    return " · ".join(f"{name} {_value(value)}" for name, value in found.items())


def _value(value: object) -> str:
    if isinstance(value, dict) and {"mean", "from", "to"} <= set(value):
        ends = f"{words.text_of(value['from'])} to {words.text_of(value['to'])}"
        return f"{words.text_of(value['mean'])} ({ends})"
    return words.text_of(value)


def corrections(told: Told) -> str:
    """What the lecture notes say wrongly, what is correct, and how we know: the lessons' tables, then the ledger."""
    parts = [
        "# Corrections",
        "",
        "What the lecture notes say, what is correct, and how we know: by a number where a number can decide,",
        "by the source otherwise.",
        "Below each lesson's table stand the ledger's entries, with the cells that decide them.",
        "",
    ]
    errata: dict[str, list[dict]] = {}
    for item in paths.ledger().values():
        if item["kind"] == "erratum":
            errata.setdefault(item["notebook"], []).append(item)
    written = {lesson.slug: lesson for lesson in told.lessons}
    for slug in sorted({*written, *errata}):
        items = errata.get(slug, [])
        if slug in written:
            rows = table(told.texts(slug), SAY)
            parts += [f"## {written[slug].title}", ""]
            if rows:
                parts += [
                    f"| {SAY} |",
                    "|---|---|---|",
                    *(f"| {' | '.join(row)} |" for row in rows),
                ]
                parts += ["", f"[All of it, in the lesson](lessons/{slug}.ipynb#Corrections)", ""]
                parts = [_from_here(part, slug) for part in parts]
        else:
            parts += [f"## {slug[:2]} · {slug[3:].replace('-', ' ')} (not written yet)", ""]
        if items:
            parts += _entries(items, told, slug if slug in written else "")
    return "\n".join(parts)


def _from_here(text: str, slug: str) -> str:
    """Links within a lesson, as they lead to it from another page."""
    return re.sub(r"\]\(#", f"](lessons/{slug}.ipynb#", text)


def _entries(items: list[dict], told: Told, slug: str) -> list[str]:
    """A fold with the ledger's errata of one lesson."""
    number = items[0]["notebook"][:2]
    lines = [
        f'<details class="ledger"><summary>{_count(items)} of the ledger</summary>',
        f'<div class="wide" role="region" aria-label="Entries of lesson {number}" tabindex="0">'
        '<table><thead><tr><th scope="col">the notes say</th><th scope="col">correct</th>'
        '<th scope="col">how we know</th></tr></thead><tbody>',
    ]
    for item in items:
        known = f"planned: {html.escape(str(item.get('check') or ''))}"
        if slug:
            cells = [
                f'<a href="{_page(slug)}#{anchor(claim["id"])}">{html.escape(claim["sentence"])}</a>'
                for claim in told.claims[slug]
                if claim["id"].partition(".")[0] == item["id"]
            ]
            tags = {tag for cell in told.cells[slug] for tag in cell["metadata"].get("tags", [])}
            if f"ledger:{item['id']}" in tags:
                place = f"{_page(slug)}#{anchor(item['id'], 'cell')}"
                cells.append(
                    f'<a href="{place}" aria-label="the cell of {item["id"]}">this cell</a>'
                )
            known = "<br>".join(cells) or "the table above"
        lines.append(
            f'<tr id="{item["id"]}"><td>{html.escape(str(item["statement"]))}</td>'
            f"<td>{html.escape(str(item.get('correction') or ''))}</td><td>{known}</td></tr>"
        )
    return [*lines, "</tbody></table></div></details>", ""]


def _count(items: list) -> str:
    return "One entry" if len(items) == 1 else f"{len(items)} entries"


def figures(told: Told) -> str:
    """Every published figure with caption, words, files and the cell that draws it."""
    parts = [
        "# Figures",
        "",
        "Every figure with what to see, what it shows in words, and its files.",
        "",
    ]
    for lesson in told.lessons:
        ids = told.figures(lesson.slug)
        parts += [f"## {lesson.title}", ""] if ids else []
        for id in ids:
            entry = told.index[id]
            svg, png = (f"figures/{entry['files'][kind]}" for kind in ("svg", "png"))
            picture = export.image(png, entry["alt"]).replace("<img ", '<img loading="lazy" ')
            place = f"{_page(lesson.slug)}#{anchor(id, 'figure')}"
            links = [
                f'<a href="{to}" aria-label="{words} of {id}">{words}</a>'
                for to, words in ((svg, "SVG"), (png, "PNG"), (place, "the cell"))
            ]
            parts += [
                f'<figure class="published" id="{anchor(id, "figure")}">{picture}<figcaption>'
                f"<p>{html.escape(entry['caption'])}</p>"
                f"<p><em>In words:</em> {html.escape(entry['alt'])}</p>"
                f"<p>{' · '.join(links)}</p></figcaption></figure>",
                "",
            ]
    return "\n".join(parts)


def glossary(told: Told) -> str:
    """The words of the course: the lessons' tables of words, and the sentences in which a lesson explains its own."""
    known = {lesson.number: lesson.slug for lesson in told.lessons}
    parts = ["# Glossary", ""]
    rows = [row for lesson in told.lessons for row in table(told.texts(lesson.slug), WORDS)]
    if rows:
        parts += ["## Words of the course", "", f"| {WORDS} |", "|---|---|---|"]
        for word, short, numbers in rows:
            links = re.sub(
                r"\d\d",
                lambda number: (
                    f"[{number[0]}](lessons/{known[number[0]]}.ipynb)"
                    if number[0] in known
                    else number[0]
                ),
                numbers,
            )
            parts.append(f"| {word} | {short} | {links} |")
        parts.append("")
    for lesson in told.lessons:
        said = [found[1].strip() for found in PROSE.finditer(told.texts(lesson.slug))]
        if said:
            said = [_from_here(words, lesson.slug) for words in said]
            link = f"[To the lesson](lessons/{lesson.slug}.ipynb)"
            parts += [f"## {lesson.title}", "", *said, "", link, ""]
    if len(parts) == 2:
        parts += ["The lessons define no words yet.", ""]
    return "\n".join(parts)


def table(text: str, header: str) -> list[list[str]]:
    """The rows of the Markdown tables with this header, cells without the space around them.

    >>> table("| word | in short | lesson |\\n|---|---|---|\\n| loss | how wrong | 02 |", "word | in short | lesson")
    [['loss', 'how wrong', '02']]
    """
    found = []
    for kind, part in prose.blocks(text):
        head, *rows = prose.table(part) if kind == "table" else [[]]
        if " | ".join(head) == header:
            found += rows
    return found


def modules() -> list[str]:
    """The modules that a lesson may import, ``"cnncourse.data.folder"``; found by their files."""
    package = paths.root() / "cnncourse"
    found = []
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        private = any(part.startswith("_") for part in parts if part != "__init__")
        documented = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
        if documented and not private and not f"{name}.".startswith(WORKSHOP):
            found.append(name)
    return sorted(found)


def api() -> dict[str, str]:
    """File to reStructuredText: a page for each module or folder of modules, and the list of them."""
    pages: dict[str, list[str]] = {}
    for name in modules():
        pages.setdefault(".".join(name.split(".")[:2]), []).append(name)
    texts = {}
    for page, names in pages.items():
        parts = [page, "=" * len(page), ""]
        for name in names:
            parts += [name, "-" * len(name), ""] if name != page else []
            parts += [f".. automodule:: {name}", "   :members:", "   :ignore-module-all:", ""]
        texts[f"api/{page}.rst"] = "\n".join(parts)
    listed = "\n   ".join(pages)
    texts["api/index.rst"] = (
        "The package\n===========\n\n"
        "What lessons call so that their own code is the subject. Names are torch's and the papers'.\n\n"
        f".. toctree::\n   :maxdepth: 2\n\n   {listed}\n"
    )
    return texts


def _page(slug: str) -> str:
    return f"lessons/{slug}.html"
