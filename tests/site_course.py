"""A course of one lesson that has all that the site must show: folds, a prediction, claims, figures, stored sliders."""

from __future__ import annotations

import base64
import json
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from cnncourse import paths
from cnncourse.claims import reading
from cnncourse.exercises.predictions import Gate
from cnncourse.lab import site

SLUG, OTHER = "04_convolution-arithmetic", "05_activation-functions"
PYTHON = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
LEDGER = f"""
- {{id: err-conv-76x10, kind: erratum, statement: "'76 * 10 = 76'", check: 760, correction: 760, notebook: {SLUG}}}
- {{id: err-later, kind: erratum, statement: later, check: read, correction: never, notebook: 06_later}}
"""


def png(shade: int) -> bytes:
    """A grey picture of 60 x 40 pixels."""
    file = BytesIO()
    Image.fromarray(np.full((40, 60), shade, np.uint8)).save(file, "png")
    return file.getvalue()


def picture(shade: int, alt: str = ""):
    """An output with a picture, and its words if any."""
    told = {"image/png": {"alt": alt, "width": 60}} if alt else {}
    data = {"image/png": base64.b64encode(png(shade)).decode(), "text/plain": "a picture"}
    return new_output("display_data", data=data, metadata=told)


def shown(data: dict):
    return new_output("display_data", data=data)


def claim(id: str, sentence: str, **more):
    told = {"id": id, "sentence": sentence, "verdict": "holds", **more}
    page = f'<div class="claim" title="{id}"><span>✓</span> {sentence}</div>'
    return shown({reading.MIME: told, "text/html": page, "text/plain": sentence})


def lesson(title: str = "04 · Sizes") -> nbformat.NotebookNode:
    """The lesson as a notebook with stored outputs."""
    gate = Gate("04.p1", "Half of three is", ("one", "more than one"))
    gate.measured = ("more than one", "It is 1.5.")
    measured = {
        "measured": {"count": 760},
        "required": {"count": "exactly 760"},
        "template": "{count}",
    }
    cells = [
        new_markdown_cell(f"# {title}\n### How large is it?\n\nSee [the end](#Two-·-words) and $x^2$."),
        new_code_cell("import math\nx = '<b>'", metadata={"tags": ["imports", "fold"]}),
        new_markdown_cell("## 1 · Half"),
        new_code_cell("exercises.predict(...)", outputs=[shown(gate.asked())]),
        new_code_cell("print(3 / 2)", outputs=[new_output("stream", text="\x1b[31mmeasured 1.5\x1b[0m\n")]),
        new_code_cell("exercises.reveal(...)", outputs=[shown(gate.told())]),
        new_code_cell("claims.check(...)", metadata={"tags": ["ledger:err-conv-76x10"]},
                      outputs=[claim("err-conv-76x10.all", "It has 760 <i>weights</i>.", seeds=3, **measured)]),
        new_markdown_cell("We now know 1.5.\n\n## Two · words\n\nThe next idea."),
        new_code_cell('figures.save(fig, "fig-sizes")', outputs=[picture(90, "It <rises>.")]),
        new_code_cell('figures.show(fig, alt="It is not published.")',
                      outputs=[picture(120, "It is not published.")]),
        new_code_cell("widgets.explore(...)",
                      outputs=[picture(50, "another"), shown({"text/markdown": "*Figure.* Another."}),
                               picture(10, "size 3, plain"), shown({"text/plain": "size 3, plain"})]),
        new_markdown_cell("## Corrections\n\n| the notes say | correct | how we know |\n|---|---|---|\n"
                          "| 76 | **760** | [counted](#1-·-Half) |"),
    ]  # fmt: skip
    for number, cell in enumerate(cells):
        cell["id"] = f"c{number}"
    return new_notebook(cells=cells, metadata=PYTHON)


def write(folder: Path) -> None:
    """The course's files: a lesson with its figure and stored sliders, a second lesson, the ledger."""
    (folder / "notebooks" / "text").mkdir(parents=True)
    nbformat.write(lesson(), folder / "notebooks" / f"{SLUG}.ipynb")
    other = [
        new_markdown_cell("# 05 · Bends\n### Why?\n\nWords."),
        new_markdown_cell("## Corrections"),
    ]
    nbformat.write(
        new_notebook(cells=other, metadata=PYTHON), folder / "notebooks" / f"{OTHER}.ipynb"
    )
    (folder / "notebooks" / "ledger.yaml").write_text(LEDGER)
    figures = folder / "figures"
    stored = figures / SLUG / "explorers" / "sizes"
    stored.mkdir(parents=True)
    (figures / SLUG / "fig-sizes.png").write_bytes(png(90))
    (figures / SLUG / "fig-sizes.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    entry = {"lesson": SLUG, "alt": "It <rises>.", "caption": "Sizes.",
             "files": {end: f"{SLUG}/fig-sizes.{end}" for end in ("png", "svg")}}  # fmt: skip
    (figures / "index.json").write_text(json.dumps({"fig-sizes": entry}))
    sizes, kinds = (3, 5, 7), ("plain", "dilated")
    pictures = {}
    for i, size in enumerate(sizes):
        for j, kind in enumerate(kinds):
            if (size, kind) == (7, "dilated"):
                continue  # a picture that was not stored
            (stored / f"{i}-{j}.png").write_bytes(png(40 * i + 10 * j + 10))
            pictures[f"{i},{j}"] = {"file": f"{i}-{j}.png", "sentence": f"size {size}, {kind}"}
    controls = [
        {"name": "size", "label": "Size", "kind": "slider", "values": sizes, "start": 0},
        {"name": "kind", "label": "", "kind": "choice", "values": kinds, "start": 0},
    ]
    index = {"controls": controls, "pictures": pictures, "cell": "c10"}
    (stored / "index.json").write_text(json.dumps(index))


@contextmanager
def standing(folder: Path):
    """The course of this folder instead of the real one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNCOURSE_ROOT", str(folder))
        paths.ledger.cache_clear()
        yield
    paths.ledger.cache_clear()


def build(folder: Path, **options) -> site.Site:
    with standing(folder):
        return site.make(**options)
