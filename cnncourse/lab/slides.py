"""Slides of stored lessons: one HTML file that needs no network, and a PDF, both from the cells as they are stored."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template

import matplotlib
from matplotlib.colors import to_hex, to_rgb
from nbconvert.filters import Highlight2HTML

from cnncourse import figures, paths
from cnncourse.errors import MachineError
from cnncourse.lab import doctor, publish
from cnncourse.lab.deck import Code, Picture, Slide, Table, read
from cnncourse.lab.fitting import (
    LARGE,
    LEADING,
    READABLE,
    SIZES,
    Block,
    Page,
    columns,
    font,
    formula_size,
    pages,
    shipped,
)  # fmt: skip
from cnncourse.lab.lesson import Lesson

HERE = Path(__file__).parent / "slides_files"


def make(names: Iterable[str] = (), *, style: Path | None = None, pdf: bool = True) -> list[Path]:
    """Write build/slides/NN.html and NN.pdf of lessons (none: of all) and return their paths; runs nothing.

    >>> make(["14"])
    [PosixPath('.../build/slides/14.html'), PosixPath('.../build/slides/14.pdf')]

    style: an .mplstyle file whose figures `make figures STYLE=` has made; the slides take its pictures and colours,
    and go to build/slides/style-<name>/. Pictures that a lesson does not publish stay as they are stored.
    pdf: needs a Chromium; without one the pages are there all the same, and `MachineError` says what to install.
    Raises `LessonError` for a lesson that was never stored, or a figure that the style lacks.
    """
    style = publish.chosen_style(style)
    folder = publish.target_folder("default", style)
    target = paths.build() / "slides" / ("" if style is None else folder.name)
    written = []
    for lesson in Lesson.some(names):
        page = document(lesson.title, read(lesson, folder if style else None), style)
        written.append(paths.write(target / f"{lesson.number}.html", page))
    if not pdf:
        return written
    with browser() as chromium:
        return [path for page in written for path in (page, print_pdf(chromium, page))]


def document(title: str, slides: Iterable[Slide], style: Path | None = None) -> str:
    """The HTML of a deck, with reveal.js, fonts and pictures inside of it."""
    sections = "\n".join(
        section(slide, page, at, len(split))
        for slide in slides
        for split in [pages(slide)]
        for at, page in enumerate(split)
    )
    reveal = "_static/revealjs"
    return Template((HERE / "deck.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        reveal_css=shipped(f"{reveal}/dist/reveal.css").read_text(encoding="utf-8"),
        reveal_js=shipped(f"{reveal}/dist/reveal.js").read_text(encoding="utf-8"),
        notes_js=shipped(f"{reveal}/plugin/notes/notes.js").read_text(encoding="utf-8"),
        fonts="\n".join(font_faces()),
        variables="; ".join(f"--{name}: {value}" for name, value in variables(style).items()),
        deck_css=(HERE / "deck.css").read_text(encoding="utf-8"),
        slides=sections,
    )


def variables(style: Path | None) -> dict[str, str]:
    """Sizes and colours of the style sheet; the colours are those of the figures' style."""
    with publish.in_style(style), matplotlib.rc_context():
        figures.use_style()
        cycle = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
        paper = to_hex(matplotlib.rcParams["figure.facecolor"])
        ink = to_hex(matplotlib.rcParams["text.color"])
    dark = sum(to_rgb(paper)) < 1.5
    colours = {
        "paper": paper, "ink": ink, "accent": to_hex(cycle[0]), "second": to_hex(cycle[1]),
        "tick": "#4fd6b8" if dark else "#00786c",
        "muted": "#b0b0b0" if dark else "#666666", "line": "#555555" if dark else "#cccccc",
        "comment": "#a8c7a0" if dark else "#4d6b50", "string": "#e0b080" if dark else "#8a4b00",
        "second-text": to_hex(cycle[1]) if dark else to_hex(cycle[3 % len(cycle)]),
    }  # fmt: skip
    sizes = {name: f"{size}px" for name, size in SIZES.items()}
    return sizes | colours | {"leading": str(LEADING), "large": str(LARGE)}


def font_faces() -> Iterator[str]:
    """The letters travel with the page: lines break at the same words on every machine."""
    for face, look in {
        "regular": "font-weight: 400; font-style: normal",
        "italic": "font-weight: 400; font-style: italic",
        "semibold": "font-weight: 600; font-style: normal",
    }.items():
        data = base64.b64encode(font(face, "woff").read_bytes()).decode()
        yield (
            f'@font-face {{ font-family: "Source Sans Pro"; {look}; '
            f"src: url(data:font/woff;base64,{data}) }}"
        )


# --- As a page for a browser


def section(slide: Slide, page: Page, at: int, count: int) -> str:
    """One slide as HTML; its notes stand on the first of its pages."""
    blocks, look = page
    level = "h1" if slide.kind == "title" else "h2"
    small = [*["backup"] * slide.is_backup, *[slide.part] * bool(slide.part)]
    small += [f"{at + 1} of {count}"] * (count > 1)
    part = f" <small>{' · '.join(small)}</small>" if small else ""
    body = "\n".join(_grouped([(block, shown(block, size)) for block, size in blocks]))
    notes = (
        f'<aside class="notes">{"".join(slide.notes)}</aside>' if slide.notes and at == 0 else ""
    )
    marks = f'class="is-{slide.kind} {look}"' + ' data-visibility="uncounted"' * slide.is_backup
    return (
        f'<section {marks}><div class="slide"><{level}>{slide.heading}{part}</{level}>'
        f'<div class="body">{body}</div></div>{notes}</section>'
    )


def shown(block: Block, size: float) -> str:
    """A block as HTML."""
    if isinstance(block, Picture):
        tall = size * block.inches[1] / block.inches[0]
        return (
            f'<img class="picture" alt="{html.escape(block.alt)}" src="{block.address}" '
            f'data-points="{block.points:.2f}" data-inches="{block.inches[0]:.3f}" '
            f'style="width: {size:.0f}px; height: {tall:.0f}px">'
        )
    if isinstance(block, Code):
        inner = html.escape(block.source)
        if block.is_python:
            coloured = Highlight2HTML(pygments_lexer="python")(block.source)
            inner = re.search(r"<pre>(?:<span></span>)?(.*?)\n?</pre>", coloured, re.DOTALL)[1]
        return f'<pre style="font-size: {size}px"><code>{inner}</code></pre>'
    if isinstance(block, Table):
        wide, letters = columns(block)
        rule = "".join(f'<col style="width: {one:.0f}px">' for one in wide)
        rows = "".join(
            "<tr>" + "".join(f"<{kind}>{cell}</{kind}>" for cell in row) + "</tr>"
            for kind, row in zip(["th", *["td"] * len(block.rows)], block.rows, strict=False)
        )
        look = f"table-layout: fixed; width: {sum(wide):.0f}px; font-size: {letters}px"
        return f'<table style="{look}"><colgroup>{rule}</colgroup>{rows}</table>'
    if block.kind == "formula":
        return f'<div class="formula" style="font-size: {formula_size(block):.0f}px">{block.html}</div>'
    tag = {"item": "li", "choice": "li"}.get(block.kind, "p")
    return f'<{tag} class="{block.kind}">{block.html}</{tag}>'


def _grouped(parts: list[tuple[Block, str]]) -> Iterator[str]:
    """Items of a list and choices of a prediction in one <ul> each."""
    at = 0
    while at < len(parts):
        kind = getattr(parts[at][0], "kind", "")
        run = [page for block, page in parts[at:] if getattr(block, "kind", "") == kind]
        if kind in ("item", "choice"):
            yield f"<ul{' class=choices' * (kind == 'choice')}>{''.join(run)}</ul>"
            at += len(run)
        else:
            yield parts[at][1]
            at += 1


# --- In a browser


@contextmanager
def browser() -> Iterator:
    """A headless Chromium of this machine; `MachineError` where there is none."""
    program = doctor.browser()
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        program = None
    if program is None:
        raise MachineError(
            f"one of {', '.join(doctor.BROWSERS)}, and the package playwright, for the PDF",
            "a machine without",
            where="PATH",
            remedy=f"{doctor.GET_BROWSER}; or open the .html in any browser: it is complete. `--html` makes no PDF",
        )
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield chromium
        finally:
            chromium.close()


def print_pdf(chromium, page: Path) -> Path:
    """The PDF of a deck, a page a slide, 16:9."""
    tab = chromium.new_page(viewport={"width": 1920, "height": 1080})
    tab.goto(f"{page.as_uri()}?print-pdf")
    tab.wait_for_function("Reveal.isReady() && document.querySelectorAll('.pdf-page').length > 0")
    tab.evaluate("document.fonts.ready.then(() => null)")
    content = tab.pdf(width="1920px", height="1080px", print_background=True)
    tab.close()
    return paths.write(page.with_suffix(".pdf"), content)


def problems(tab, smallest: float = READABLE) -> list[str]:
    """What is wrong with a deck that is open in a browser of 1920 x 1080: small letters, overflow, overlap."""
    tab.wait_for_function("window.Reveal && Reveal.isReady()")
    tab.evaluate("document.fonts.ready.then(() => null)")
    measure = (HERE / "measure.js").read_text(encoding="utf-8")
    walk = f"""async smallest => {{
        const measure = {measure};
        const told = [];
        for (let at = 0; at < Reveal.getTotalSlides() + 1000 && !(at && Reveal.isLastSlide()); at += 1) {{
            Reveal.slide(at);
            const images = [...Reveal.getCurrentSlide().querySelectorAll('img')];
            await Promise.all(images.map(image => image.decode().catch(() => null)));
            told.push(...measure(smallest).map(line => `slide ${{at + 1}}: ${{line}}`));
        }}
        return told;
    }}"""
    return tab.evaluate(walk, smallest)
