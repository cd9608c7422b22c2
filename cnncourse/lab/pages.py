"""A lesson as a page for a browser: folded code one click away, pictures with their words."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from pathlib import Path

from nbconvert import HTMLExporter

from cnncourse import paths
from cnncourse.errors import LessonError
from cnncourse.lab import pairing
from cnncourse.lab.export import AlternativeText
from cnncourse.lab.lesson import Lesson

# <details> is the browser's own fold: it opens without a script, by keyboard too, and prints as it stands.
TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block input_group -%}
{%- if 'fold' in cell.metadata.get('tags', []) -%}
<details class="fold"><summary>{{ cell.source | first_words }}</summary>{{ super() }}</details>
{%- else -%}
{{ super() }}
{%- endif -%}
{%- endblock input_group -%}
{%- block html_head_css -%}
{{ super() }}
<style>
details.fold { margin-left: 70px; width: 100% }
details.fold > summary { color: #777; cursor: pointer; font-family: var(--jp-code-font-family); font-size: 85% }
</style>
{%- endblock html_head_css -%}
"""


def make(names: Iterable[str] = (), target: Path | None = None) -> list[Path]:
    """Write the pages of lessons (none: of all) into build/pages/ and return them; runs nothing.

    >>> make(["04"])
    [PosixPath('.../build/pages/04_convolution-arithmetic.html')]

    Raises `LessonError` for a lesson that was never stored.
    """
    target = target or paths.build() / "pages"
    exporter = HTMLExporter(raw_template=TEMPLATE, preprocessors=[AlternativeText])
    exporter.register_filter("first_words", first_words)
    written = []
    for lesson in Lesson.some(names):
        if not lesson.notebook.is_file():
            raise LessonError(
                "a stored lesson",
                f"{lesson.slug}, which has a text only",
                where=paths.shown(lesson.text),
                remedy=f"python -m cnncourse store {lesson.number}",
            )
        content = pairing.read_notebook(lesson.notebook)
        page, _ = exporter.from_notebook_node(content, {"metadata": {"name": lesson.title}})
        written.append(paths.write(target / f"{lesson.slug}.html", page))
    return written


def first_words(source: str) -> str:
    """What stands on a fold: the first line of its code, ``import copy ...``."""
    lines = [line for line in source.splitlines() if line.strip()] or [""]
    shown = re.sub(r"\s+", " ", lines[0])[:70]
    return html.escape(shown + (" ..." if len(lines) > 1 else ""))
