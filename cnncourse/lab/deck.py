"""What the slides of a lesson show, in order: read from its stored cells, with nothing executed and nothing added."""

from __future__ import annotations

import ast
import base64
import io
import re
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from cnncourse import claims, paths
from cnncourse.errors import LessonError
from cnncourse.exercises import predictions
from cnncourse.figures import READABLE
from cnncourse.lab import front, gallery
from cnncourse.lab.lesson import Cell, Lesson
from cnncourse.lab.prose import blocks, fenced, formulas, inline, items, rendered, rows

# The sections of a lesson that are no idea. "left out": a reader's matter, not an audience's.
ROLES = {
    "In practice": "backup",
    "History": "backup",
    "Corrections": "backup",
    "Summary": "summary",
    "Sources": "left out",
    "Also in the lectures": "left out",
}
CODE_LINES, CODE_COLUMNS = 24, 104  # what fits with letters of 26 px
CLAIMS_A_SLIDE = 3  # where no picture stands above them
CHARACTERS_ABOVE = 320  # that are shown of the paragraph above a formula or a table
UNKNOWN_LETTERS = 10  # points: the smallest letters of a picture that does not say it
ODD = re.compile(r"^(?:What is odd|Odd)\b.*", re.MULTILINE | re.DOTALL)
EXERCISE = re.compile(r"\*\*((?:Exercise )?\d\d\.\d+.*?)[.:]?\*\*\s*")


@dataclass(frozen=True)
class Words:
    """A paragraph: "text", "item" of a list, "claim", "answer", "question", "choice" or "formula"."""

    kind: str
    html: str


@dataclass(frozen=True)
class Code:
    """Lines of code, or of a terminal."""

    source: str
    is_python: bool = True


@dataclass(frozen=True)
class Table:
    """Rows of cells in HTML; the first is the head."""

    rows: tuple[tuple[str, ...], ...]
    letters: int = 0  # pixels, of a piece of a larger table


@dataclass(frozen=True)
class Picture:
    """A picture as a data address, with its sides in inches and its smallest letters in points."""

    address: str
    inches: tuple[float, float]
    points: float
    alt: str
    is_published: bool = False


@dataclass
class Slide:
    """One thought: its heading, what is seen of it, and what a speaker says."""

    kind: str  # "title", "text", "picture", "prediction", "claim", "code", "formula", "table", "exercise", ...
    heading: str  # HTML
    blocks: list[Words | Code | Table | Picture]
    notes: list[str] = field(default_factory=list)  # HTML
    part: str = ""  # of which section, where the heading does not say it; HTML
    is_backup: bool = False


def read(lesson: Lesson, figures: Path | None = None) -> list[Slide]:
    """The slides of a stored lesson; `figures` is a folder of figures in another style.

    >>> [slide.kind for slide in read(Lesson.find("14"))][:2]
    ['title', 'text']

    In order: the question; what is odd; of each idea its formulas, short visible functions, predictions (each before
    its answer), pictures with one claim, claims without a picture, tables, "We now know" and exercises; the summary;
    then as backup the corrections, practice and history. Everything else goes into the notes of the slide before it.
    Raises `LessonError` for a lesson that was never stored, and where `figures` lacks one of its figures.
    """
    cells = lesson.stored_cells
    reader = _Reader(lesson, figures)
    reader.surprise = told_before(cells)
    for cell in cells:
        reader.code(cell) if cell.is_code else reader.text(cell.source)
    return reader.finished()


class _Reader:
    """Walks through the cells and collects slides."""

    def __init__(self, lesson: Lesson, figures: Path | None):
        published = paths.root() / "figures"
        self.figures = figures or published
        self.published = gallery.Index(published).by_words(lesson.slug)
        self.title = inline(lesson.title)
        self.slides = [Slide("title", self.title, [Words("question", front.question(lesson))])]
        self.backup: dict[str, list[Slide]] = {"Corrections": [], "In practice": [], "History": []}
        self.section = self.heading = "The surprise"
        self.role = "opening"
        self.last: Slide | None = self.slides[0]  # of this section
        self.notes: list[str] = []  # said before the first slide of a section
        self.surprise = (
            ""  # the paragraph that tells it before its picture, where nothing is called odd
        )
        self.odd: list[Words] = []  # shown behind the first picture
        self.answer: list[Words] = []  # measured, not shown yet
        self.waiting: Slide | None = None  # a picture without a claim

    def add(self, kind: str, *blocks: Words | Code | Table | Picture, heading: str = "") -> Slide:
        if self.answer and kind not in ("picture", "claim"):
            self.flush()
        slide = Slide(kind, heading or self.heading, list(blocks), self.notes)
        self.notes, self.last = [], slide
        if self.role == "backup":
            slide.is_backup = True
            self.backup[self.section].append(slide)
        else:
            self.slides.append(slide)
        return slide

    def note(self, source: str) -> None:
        (self.notes if self.last is None else self.last.notes).append(rendered(source))

    def flush(self) -> None:
        """Show a measured answer that has no picture and no claim."""
        answer, self.answer = self.answer, []
        if answer:
            self.add("claim", *answer)

    def said(self) -> None:
        """A section without a slide belongs to the slide before it."""
        self.slides[-1].notes += self.notes
        self.notes, self.last = [], None

    def enter(self, heading: str) -> None:
        """A new section begins."""
        self.flush()
        if self.role == "opening":
            if self.odd:
                self.add("text", *self.odd)
        self.said()
        self.section = heading.strip()
        self.heading, self.waiting = inline(self.section), None
        self.role = ROLES.get(self.section, "idea")

    def finished(self) -> list[Slide]:
        self.flush()
        self.said()
        return self.slides + [slide for group in self.backup.values() for slide in group]

    def text(self, source: str) -> None:
        """A cell of text."""
        parts = list(blocks(source))
        for at, (kind, part) in enumerate(parts):
            if kind == "section":
                self.enter(part)
            elif self.role == "left out" or kind == "title":
                continue
            elif kind == "part" and self.role != "opening":
                self.flush()
                self.said()
                self.heading, self.waiting = inline(part), None
            elif kind == "part":
                continue  # the question
            elif self.role == "opening":
                self.open(kind, part)
            elif kind == "list" and self.role in ("summary", "backup"):
                self.add(self.role, *(Words("item", inline(item)) for item in items(part)))
            elif kind in ("formula", "table"):
                shown = (
                    [Table(rows(part))]
                    if kind == "table"
                    else [Words(kind, page) for page in formulas(part)]
                )
                self.add(kind, *above(parts[at - 1] if at else ("", ""), kind), *shown)
            elif kind == "paragraph" and EXERCISE.match(part):
                self.exercise(part, parts[at + 1 :])
            elif kind == "paragraph" and re.match(r"\*\*(We now know|This does not show)", part):
                said = re.split(r"\n(?=\*\*This does not show)", part)
                known = [Words("text", inline(words)) for words in said]
                if part.startswith("**This") and self.slides[-1].kind == "known":
                    self.slides[-1].blocks += known
                else:
                    self.add("known", *known)
            elif at + 1 == len(parts) or above((kind, part), parts[at + 1][0]) != shown_whole(part):
                self.note(part)

    def open(self, kind: str, part: str) -> None:
        """What stands before the first section: the surprise is shown, everything else is said."""
        odd = ODD.search(part) if kind == "paragraph" else None
        if part == self.surprise:
            self.add("text", Words("text", inline(part.removeprefix("**The surprise.**"))))
        elif odd:
            self.odd.append(Words("text", inline(odd[0])))
            part = part[: odd.start()]
        if part.strip() and part != self.surprise:
            self.note(part)

    def exercise(self, part: str, behind: list[tuple[str, str]]) -> None:
        name = EXERCISE.match(part)[1]
        text = part[EXERCISE.match(part).end() :]
        found: list[Words | Code | Table | Picture] = [Words("text", inline(text))]
        for kind, more in behind:
            if kind not in ("list", "fence"):
                break
            found += [Code(fenced(more), False)] if kind == "fence" else [
                Words("item", inline(item)) for item in items(more)]  # fmt: skip
        heading = name if name.startswith("Exercise") else f"Exercise {name}"
        self.add("exercise", *(block for block in found if block != Words("text", "")),
                 heading=inline(heading))  # fmt: skip

    def code(self, cell: Cell) -> None:
        """A cell of code: itself, if it is a short idea, and what it shows."""
        if self.role == "left out":
            return
        source = shown_source(cell) if self.role == "idea" else ""
        if source:
            self.add("code", Code(source))
        pictures: list[Picture] = []
        captions: list[str] = []
        told: list[list[dict]] = [[]]  # claims before the first picture, behind it, ...
        for output in cell.outputs:
            data = output.get("data", {})
            page = "".join(data.get("text/html", ""))
            if "image/png" in data:
                pictures.append(self.picture(output))
                told.append([])
            elif question := predictions.asked(page):
                self.flush()
                self.waiting = None
                words = [Words("choice", choice) for choice in question.choices]
                slide = self.add(
                    "prediction", Words("question", question.words), *words, heading="Predict"
                )
                slide.part = self.heading
            elif 'class="answer' in page:
                self.answer = answered(page)
            elif claims.MIME in data:
                told[-1].append(data | {"page": page})
            elif "".join(data.get("text/markdown", "")).startswith("*Figure.*"):
                captions.append(rendered("".join(data["text/markdown"])))
        if pictures:
            told[1] += told[0]  # the claims behind a picture speak of it
            for picture, known in zip(pictures, told[1:], strict=True):
                self.show(picture, known)
            self.slides[-1].notes += captions
        elif told[0]:
            self.tell(told[0])

    def show(self, picture: Picture, known: list[dict]) -> None:
        """A slide of a picture, with the answer it gives and one claim."""
        checked = [one for one in known if not is_table(one)]
        blocks_ = [*self.answer, picture, *(claim(one) for one in checked[:1])]
        self.answer = []
        told = self.slides[-1].kind == "text"
        if self.role == "opening" and told and not picture.is_published:
            self.slides[-1].blocks.append(picture)  # what the surprise is about
            return
        slide = self.add("picture", *blocks_)
        slide.notes += [claim(one).html for one in checked[1:]]
        self.waiting = None if checked else slide

    def tell(self, known: list[dict]) -> None:
        """Claims without a picture of their own."""
        checked = [one for one in known if not is_table(one)]
        if self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            waiting.blocks[:0] = self.answer
            waiting.blocks += [claim(one) for one in checked[:1]]
            waiting.notes += [claim(one).html for one in checked[1:]]
            self.answer = []
            return
        if checked:
            answer, self.answer = self.answer, []
            slide = self.add("claim", *answer, *(claim(one) for one in checked[:CLAIMS_A_SLIDE]))
            slide.notes += [claim(one).html for one in checked[CLAIMS_A_SLIDE:]]
        for one in known:
            if is_table(one):
                said = Words("claim", re.sub(r"<table>.*", "", claim(one).html, flags=re.DOTALL))
                self.add("table", said, Table(html_rows(one["page"])))

    def picture(self, output: dict) -> Picture:
        """A stored picture: of a published figure its vectors, in the style that was asked for."""
        png = base64.b64decode("".join(output["data"]["image/png"]))
        told = output.get("metadata", {}).get("image/png", {})
        alt = told.get("alt", "")
        if alt not in self.published:
            inches = png_inches(png)
            return Picture(_address("png", png), inches, _points(told, inches), alt)
        _, entry = self.published[alt]
        file = self.figures / entry["files"]["svg"]
        if not file.is_file():
            raise LessonError(
                f"the figure {file.stem} in the style of the slides",
                "no such file",
                where=file,
                remedy=f'make figures LESSONS="{entry["lesson"][:2]}" with the same STYLE= first',
            )
        inches = tuple(entry["inches"])
        svg = _address("svg+xml", file.read_bytes())
        return Picture(svg, inches, _points(told, inches), alt, is_published=True)


def told_before(cells: list[Cell]) -> str:
    """The first paragraph of a lesson; "" where its opening says what is odd, which stands behind the picture."""
    texts = "\n\n".join(cell.source for cell in cells if not cell.is_code)
    opening = [part for kind, part in blocks(texts.partition("\n## ")[0]) if kind == "paragraph"]
    return "" if any(map(ODD.search, opening)) else next(iter(opening), "")


def above(part: tuple[str, str], below: str) -> list[Words]:
    """What is shown of a paragraph above a formula or a table; of a long one its sentence that leads to it."""
    kind, text = part
    if kind != "paragraph" or below not in ("formula", "table") or EXERCISE.match(text):
        return []
    if len(text) > CHARACTERS_ABOVE:
        text = text.splitlines()[-1 if below == "formula" else 0]
    return shown_whole(text) if len(text) <= CHARACTERS_ABOVE else []


def shown_whole(text: str) -> list[Words]:
    return [Words("text", inline(text))]


def shown_source(cell: Cell) -> str:
    """The functions and classes of a visible cell, without its questions; "" for a cell that is none or too long."""
    defines = (ast.FunctionDef, ast.ClassDef)
    if cell.is_folded or cell.tree is None or {"parameters", "imports"} & set(cell.tags):
        return ""
    calls = {"exercises.check": "task", "exercises.predict": "gate", "exercises.reveal": "gate"}
    lines = cell.source.splitlines()
    for node in cell.tree.body:
        called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        name = calls.get(ast.unparse(node.value.func)) if called else None
        if name == "task":
            return ""
        if name == "gate":
            lines[node.lineno - 1 : node.end_lineno] = [None] * (node.end_lineno - node.lineno + 1)
    if not any(isinstance(node, defines) for node in cell.tree.body):
        return ""
    left = [line for line in lines if line is not None]
    source = "\n".join(left).strip("\n")
    left = source.splitlines()
    short = len(left) <= CODE_LINES and max(map(len, left)) <= CODE_COLUMNS
    return source if short else ""


def answered(page: str) -> list[Words]:
    """What was measured; a sentence without numbers only points to where they stand."""
    head, sentence = re.fullmatch(r"<div[^>]*><b>(.*?)</b>(.*)</div>", page, re.DOTALL).groups()
    told = f" {sentence.strip()}" if re.search(r"\d", sentence) else ""
    return [Words("answer", f"<b>{head}</b>{told}")]


def is_table(known: dict) -> bool:
    return "<table>" in known["page"]


def claim(known: dict) -> Words:
    """The sentence of a stored claim, without what was required; a quotation keeps its source."""
    inner = re.sub(r"^<div[^>]*>|</div>$", "", known["page"])
    if known[claims.MIME]["verdict"] != "quoted":
        inner = re.sub(r"(<br>)?<small>.*?</small>", "", inner)
    return Words("claim", inner)


def html_rows(page: str) -> tuple[tuple[str, ...], ...]:
    """The rows of a claim's table."""
    found = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    return tuple(tuple(re.findall(r"<t[hd]>(.*?)</t[hd]>", row, re.DOTALL)) for row in found)


def png_inches(png: bytes) -> tuple[float, float]:
    """Width and height of a PNG; without its own resolution it has that of the notebooks, 96 pixels an inch."""
    with Image.open(io.BytesIO(png)) as picture:
        dots = float(picture.info.get("dpi", (96, 96))[0])
        return picture.width / dots, picture.height / dots


def _points(told: dict, inches: tuple[float, float]) -> float:
    """The smallest letters of a picture, of which its metadata says the pixels on a screen of 1920 x 1080."""
    if "smallest_px" not in told:
        return UNKNOWN_LETTERS
    pixels_per_inch = min(1920 / inches[0], 1080 / inches[1])
    return (told["smallest_px"] or READABLE) * 72 / pixels_per_inch


def _address(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
