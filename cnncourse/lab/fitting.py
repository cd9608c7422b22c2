"""What fits on a slide: letters are measured, and what is too long is split, never shrunk below what can be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

from PIL import ImageFont

from cnncourse import figures, machine
from cnncourse.lab.deck import Code, Picture, Slide, Table, Words
from cnncourse.lab.prose import plain

READABLE = figures.READABLE  # pixels of 1080: no smaller letter on a slide, in pictures neither

# Pixels of a slide of 1920 x 1080; the style sheet gets them as variables.
SIZES = {
    "top": 52, "bottom": 64, "side": 90, "heading": 54, "below-heading": 26, "gap": 22,
    "text": 40, "item": 36, "claim": 36, "question": 46, "choice": 40, "formula": 56
}  # fmt: skip
LEADING = 1.32  # height of a line in letters
LARGE = 1.25  # how much larger the letters of a slide are that has few words
WIDTH = 1920 - 2 * SIZES["side"]
HEIGHT = 1080 - SIZES["top"] - SIZES["bottom"]
NARROW_TABLES = (
    42,
    37,
    32,
)  # pixels of letters where no cell has to be broken; the first that fits
WIDE_TABLE = 29  # where cells have to be broken
FORMULA = 35  # pixels of the smallest letters of a formula; its indices are 0.71 as large
CODE = (26, 36)  # the smallest and largest letters of code
COLUMN = 0.603  # width of a letter of code in letters
CODE_IN_TEXT = 0.86  # size of code in a text
RESERVE = 1.03  # formulas and bold words are wider than plain ones

Block = Words | Code | Table | Picture
Page = tuple[
    list[tuple[Block, float]], str
]  # blocks with a size each; "", "large" letters, or a picture's "whole"


@cache
def shipped(name: str) -> Path:
    """A file of the package sphinx-revealjs, which ships reveal.js (both free to use: Apache 2.0 and MIT)."""
    return machine.package_file("sphinx-revealjs", f"sphinx_revealjs/{name}")


def font(face: str, ending: str) -> Path:
    return shipped(
        f"_static/revealjs/dist/theme/fonts/source-sans-pro/source-sans-pro-{face}.{ending}"
    )


@cache
def _letters(face: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(font(face, "ttf")), 100)


@cache
def _length(text: str, face: str) -> float:
    return _letters(face).getlength(text) / 100


def width(text: str, size: float, face: str = "regular") -> float:
    """Pixels of a text on one line."""
    return _length(text, face) * size * RESERVE


def lines(page: str, size: float, room: float, face: str = "regular") -> int:
    """How many lines some HTML takes in a column of so many pixels."""
    count = 0
    for part in page.split("<br>"):
        count, left = count + 1, room
        for needed in _words(part, size, face):
            if needed > left and left < room:
                count, left = count + 1, room
            left -= needed
    return count


def _words(page: str, size: float, face: str) -> Iterator[float]:
    """Pixels of each word, with a space behind it; words of code are wider."""
    for at, part in enumerate(re.split(r"<code>(.*?)</code>", page, flags=re.DOTALL)):
        for word in plain(part).split():
            if at % 2:
                yield (len(word) + 1) * CODE_IN_TEXT * COLUMN * size
            else:
                yield width(word + " ", size, face)


def height(block: Block, size: float = 0, grown: float = 1) -> float:
    """Pixels of a block; of a code with letters of this size, of a picture with this width, of words grown so much."""
    if isinstance(block, Picture):
        return size * block.inches[1] / block.inches[0]
    if isinstance(block, Code):
        return 1.35 * size * len(block.source.splitlines())
    if isinstance(block, Table):
        return sum(row_heights(block))
    if block.kind == "formula":
        tall = block.html.count("<mtr>") or 1 + 0.9 * (
            "<mfrac>" in block.html or "<munder" in block.html
        )
        return formula_size(block) * 1.4 * max(tall, 1.2)
    letters = grown * SIZES[{"answer": "claim"}.get(block.kind, block.kind)]
    room = WIDTH - {"item": 44, "claim": 44, "choice": 120}.get(block.kind, 0)
    small = "<small>" in block.html
    shown = block.html.replace("<br><small>", "<br>")
    return (
        lines(shown, letters, room) * letters * LEADING - 8 * small + 30 * (block.kind == "choice")
    )


def formula_size(block: Words) -> float:
    """Pixels of the letters of a formula, so that it fits on one line."""
    tree = ElementTree.fromstring(f"<p>{plain_math(block.html)}</p>")
    return max(FORMULA, min(SIZES["formula"], 0.95 * WIDTH / max(_width(tree), 1)))


def plain_math(page: str) -> str:
    """The <math> elements of some HTML."""
    return "".join(part.partition("</math>")[0] + "</math>" for part in _maths(page))


def _maths(page: str) -> list[str]:
    return [f"<math{part}" for part in page.split("<math")[1:]]


def _width(node: ElementTree.Element) -> float:
    """About how many letters' heights a formula is wide; indices are smaller."""
    tag, inner = node.tag.rpartition("}")[2], [_width(child) for child in node]
    if tag in ("mi", "mn", "mtext", "mo"):
        return 0.58 * len(node.text or "") + 0.45 * (tag == "mo")
    if tag == "mspace":
        return float(node.get("width", "0em").removesuffix("em") or 0)
    if tag in ("msub", "msup", "msubsup"):
        return inner[0] + 0.71 * max(inner[1:])
    if tag in ("munder", "mover", "munderover"):
        return max(inner[0], *(0.71 * one for one in inner[1:]))
    if tag in ("mfrac", "mtable"):
        return max(inner)
    return sum(inner) + 0.8 * (tag in ("msqrt", "mtd"))


def columns(table: Table) -> tuple[list[float], int]:
    """The widths of a table's columns and the size of its letters: one line a cell where that fits."""
    padding = 36

    def natural(size: int, measure=sum) -> list[float]:
        return [
            padding + max(measure([*_words(cell, size, "semibold"), 0]) for cell in cells)
            for cells in zip(*table.rows, strict=True)
        ]

    smallest = NARROW_TABLES[-1]
    for size in [table.letters] if table.letters else NARROW_TABLES:
        tall, least_tall = (len(table.rows) * (22 + 1.3 * one) for one in (size, smallest))
        fits = tall <= 0.75 * HEIGHT or least_tall > 0.75 * HEIGHT  # or it is split anyway
        if sum(natural(size)) <= WIDTH and (fits or size in (smallest, table.letters)):
            return natural(size), size
    size = WIDE_TABLE
    least = natural(size, max)  # their longest words
    share = [
        sum(width(plain(cell), size) for cell in cells) for cells in zip(*table.rows, strict=True)
    ]
    left = max(0.0, WIDTH - sum(least))
    return [one + left * part / sum(share) for one, part in zip(least, share, strict=True)], size


def row_heights(table: Table) -> list[float]:
    wide, size = columns(table)
    return [
        22 + 1.3 * size * max(lines(cell, size, room - 36) for cell, room in zip(row, wide, strict=True))
        for row in table.rows
    ]  # fmt: skip


def pages(slide: Slide) -> list[Page]:
    """What of a slide stands on which page: split where it is too long, never shrunk below what can be read."""
    blocks = slide.blocks
    heading = lines(slide.heading, SIZES["heading"], WIDTH - 120, "semibold")
    room = HEIGHT - heading * SIZES["heading"] * 1.2 - SIZES["below-heading"]
    if slide.kind == "title":
        return [([(block, 0) for block in blocks], "")]
    picture = next((block for block in blocks if isinstance(block, Picture)), None)
    if picture is not None:
        return list(_with_picture(blocks, picture, room))
    words = sum(height(block) + SIZES["gap"] for block in blocks if isinstance(block, Words))
    parts = [
        part for block in blocks for part in _parts(block, room - words * isinstance(block, Table))
    ]
    sizes = [_code_size(part, room) if isinstance(part, Code) else 0 for part in parts]
    look = _look(parts, room)
    grown = LARGE if look else 1
    heights = [
        height(part, size, grown) + SIZES["gap"] for part, size in zip(parts, sizes, strict=True)
    ]
    groups = _groups(heights, room + SIZES["gap"])
    return [([(parts[at], sizes[at]) for at in group], look) for group in groups]


def _look(parts: list[Block], room: float) -> str:
    """Words alone have large letters, unless one of them would leave the slide."""
    only_words = all(isinstance(part, Words) for part in parts)
    fits = only_words and all(height(part, grown=LARGE) <= room for part in parts)
    return "large" if fits else ""


def _with_picture(blocks: list[Block], picture: Picture, room: float) -> Iterator[Page]:
    """Words and picture on one slide, if its letters stay readable; else the words behind it, or before it too."""
    at = blocks.index(picture)
    before, behind = blocks[:at], blocks[at + 1 :]
    for shown in ([*before, picture, *behind], [*before, picture], [picture]):
        words = sum(height(block) + SIZES["gap"] for block in shown if block is not picture)
        wide = _picture_width(picture, WIDTH, room - words)
        if picture.points / 72 * wide / picture.inches[0] >= READABLE:
            break
    else:
        yield from [([(block, 0)], _look([block], room)) for block in before]
        yield [(picture, _picture_width(picture, 1920, 1080))], "whole"
        yield from [([(block, 0)], _look([block], room)) for block in behind]
        return
    if before and before[0] not in shown:
        yield [(block, 0) for block in before], _look(before, room)
    yield [(block, wide if block is picture else 0) for block in shown], ""
    if behind and behind[0] not in shown:
        yield [(block, 0) for block in behind], _look(behind, room)


def _picture_width(picture: Picture, room: float, high: float) -> float:
    return min(room, high * picture.inches[0] / picture.inches[1])


def _code_size(code: Code, room: float) -> float:
    """The letters of some code: as large as its lines and their number allow."""
    longest = max(map(len, code.source.splitlines()), default=1)
    fits = min(
        (WIDTH - 40) / (COLUMN * longest), (room - 10) / (1.35 * len(code.source.splitlines()))
    )
    return max(CODE[0], min(CODE[1], int(fits)))


def _parts(block: Block, room: float) -> Iterator[Block]:
    """A block, in pieces where it is longer than a slide: a table by rows, a text by its lines."""
    if isinstance(block, Table):
        head, *tall = row_heights(block)
        for group in _groups(tall, room - head):
            yield Table((block.rows[0], *(block.rows[1 + at] for at in group)), columns(block)[1])
    elif isinstance(block, Words) and height(block) > room:
        yield from (Words(block.kind, line) for line in block.html.split("\n"))
    else:
        yield block


def _groups(heights: list[float], room: float) -> list[list[int]]:
    """Consecutive places whose heights fit into the room; as few groups as needed, and about as full each."""

    def filled(limit: float) -> list[list[int]]:
        found: list[list[int]] = [[]]
        used = 0.0
        for at, tall in enumerate(heights):
            if found[-1] and used + tall > limit:
                found.append([])
                used = 0.0
            found[-1].append(at)
            used += tall
        return found

    few = len(filled(room))
    step = room / 40
    return next(
        groups
        for limit in (sum(heights) / few + step * more for more in range(400))
        if len(groups := filled(min(limit, room))) == few
    )
