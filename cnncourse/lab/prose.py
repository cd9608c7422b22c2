"""A text cell in its parts, and Markdown as HTML whose formulas need no script."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from functools import cache

from latex2mathml.converter import convert
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

FORMULA_LETTERS = 72  # of a formula on one line
STARTS = {
    "fence": r"```",
    "formula": r"\$\$",
    "details": r"<details>",
    "table": r"\|",
    "title": r"# ",
    "section": r"## ",
    "part": r"#{3,} ",
    "list": r"(?:[-*]|\d+\.) ",
}
ENDS = {"fence": r"```\s*$", "formula": r".*\$\$\s*$", "details": r".*</details>"}


def blocks(source: str) -> Iterator[tuple[str, str]]:
    """The parts of a text in Markdown: ("paragraph", ...), ("list", ...), ("table", ...), ("section", heading), ...

    >>> list(blocks("## 1 · Sizes\\n\\nA map.\\n- wide\\n- high"))
    [('section', '1 · Sizes'), ('paragraph', 'A map.'), ('list', '- wide\\n- high')]
    """
    lines = source.splitlines()
    at = 0
    while at < len(lines):
        kind = _kind(lines[at])
        begin, at = at, at + 1
        if kind in ENDS:
            closed = kind != "fence" and re.match(ENDS[kind], lines[begin][2:])
            while at < len(lines) and not closed:
                closed = re.match(ENDS[kind], lines[at])
                at += 1
        elif kind in ("title", "section", "part"):
            yield kind, lines[begin].lstrip("#").strip()
            continue
        else:  # a line of no kind goes on with a paragraph or an item
            same = (kind, "paragraph") if kind == "list" else (kind,)
            while at < len(lines) and lines[at].strip() and _kind(lines[at]) in same:
                at += 1
        part = "\n".join(lines[begin:at]).strip()
        if part:
            yield kind, part


def _kind(line: str) -> str:
    return next((kind for kind, start in STARTS.items() if re.match(start, line)), "paragraph")


def items(part: str) -> list[str]:
    """The items of a list."""
    return [item.strip() for item in re.split(rf"(?m)^{STARTS['list']}", part) if item.strip()]


def table(part: str) -> list[list[str]]:
    """The rows of a table in Markdown, without the line below its head and the space around the cells.

    >>> table("| word | in short |\\n|---|---|\\n| loss | how wrong |")
    [['word', 'in short'], ['loss', 'how wrong']]
    """
    lines = [line.strip().removeprefix("|").removesuffix("|") for line in part.splitlines()]
    split = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]
    return [row for row in split if not all(re.fullmatch(r":?-+:?", cell) for cell in row)]


def rows(part: str) -> tuple[tuple[str, ...], ...]:
    """The rows of a table in Markdown as HTML."""
    return tuple(tuple(map(inline, row)) for row in table(part))


def formulas(part: str) -> list[str]:
    """A display formula as HTML; what stands side by side in it, and what is too long for a line, in several."""
    inner = part.strip().removeprefix("$$").removesuffix("$$")
    whole = [inner] if r"\begin" in inner else re.split(r",?\s*(?:\\qquad\s*)+", inner)
    return [page for one in whole if one.strip() for page in _on_lines(one)]


def _on_lines(formula: str) -> list[str]:
    """One formula, broken before the outer = + - that is nearest to its middle where it is long."""
    page = rendered(f"$${formula}$$")
    depth, places = 0, []
    for at, letter in enumerate(formula):
        depth += (letter in "{([") - (letter in "})]")
        if letter in "=+-" and depth == 0 and at:
            places.append(at)
    if len(plain(page)) <= FORMULA_LETTERS or not places or r"\begin" in formula:
        return [page]
    at = min(places, key=lambda place: abs(place - len(formula) / 2))
    return [*_on_lines(formula[:at]), *_on_lines(formula[at:])]


def fenced(part: str) -> str:
    """The lines between two fences."""
    return "\n".join(part.splitlines()[1:-1])


class _Page(IPythonRenderer):
    """HTML whose formulas are MathML, which browsers draw by themselves, and whose links lead out of the page."""

    def inline_math(self, body: str) -> str:
        return convert(body.strip())

    def block_math(self, body: str) -> str:
        return convert(body.strip(), display="block")

    def link(self, text: str, url: str, title: str | None = None) -> str:
        return text if url.startswith("#") else super().link(text, url, title)


@cache
def rendered(source: str) -> str:
    """Markdown as HTML."""
    return MarkdownWithMath(renderer=_Page(escape=False)).render(source).strip()


def inline(source: str) -> str:
    """One paragraph of Markdown as HTML, without its <p>."""
    return re.sub(r"^<p>|</p>$", "", rendered(source)).replace("</p>\n<p>", "<br>")


def plain(page: str) -> str:
    """The words of some HTML."""
    return html.unescape(re.sub(r"<[^>]+>", "", page.replace("<br>", " ")))
