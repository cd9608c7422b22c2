"""The cells of a stored notebook as the site shows them: folds, predictions, pictures, claims, sliders."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_output

from cnncourse.claims import reading
from cnncourse.exercises import predictions
from cnncourse.lab import explorers, export, tolerance
from cnncourse.lab.site import explorer

TOLD = re.compile(r'<div class="answer answer-([\w-]+)"><b>[✓✗ ]*Measured: (.*?)\.</b>', re.DOTALL)
CLAIM = '<div class="claim"'


def folded(cell: NotebookNode) -> None:
    """Give a `fold` cell the tag by which myst-nb folds its code, with the first line of it on the fold."""
    if "fold" in cell.metadata.get("tags", []):
        cell.metadata.tags = [*cell.metadata.tags, "hide-input"]
        cell.metadata["mystnb"] = {"code_prompt_show": first_words(cell.source)}


def first_words(source: str) -> str:
    """What stands on a fold: the first line of its code, ``import copy ...``."""
    lines = [line for line in source.splitlines() if line.strip()] or [""]
    shown = re.sub(r"\s+", " ", lines[0])[:70]
    return shown + (" ..." if len(lines) > 1 else "")


class Outputs:
    """Turns the outputs of one lesson's cells into what the site shows, and collects the pictures that belong to it."""

    def __init__(
        self, slug: str, published: dict[str, tuple[str, dict]], explorers: dict[str, Path]
    ):
        self.slug = slug
        self.published = published  # alternative text to the published figure that has it
        self.explorers = explorers  # id of a cell to the folder of its stored pictures
        self.files: dict[
            str, bytes
        ] = {}  # place in the site to picture that is in the notebook only

    def of(self, cell: NotebookNode) -> list[NotebookNode]:
        """The outputs of a cell, in place of those stored."""
        shown = [new for old in cell.get("outputs", []) for new in self._shown(old)]
        if cell.get("id") in self.explorers:
            shown = self._moving(shown, cell["id"])
        return shown

    def _shown(self, output: NotebookNode) -> Iterator[NotebookNode]:
        if "text" in output:
            output["text"] = tolerance.without_colours(output["text"])
        if output.output_type == "error":
            words = tolerance.without_colours("\n".join(output.get("traceback", [])))
            output = new_output("stream", name="stderr", text=words)
        data = output.get("data", {})
        for mime in [mime for mime in data if mime.startswith("application/")]:
            if mime == reading.MIME:
                data["text/html"] = data["text/html"].replace(
                    CLAIM, f'<div id="{anchor(data[mime]["id"])}" class="claim"', 1
                )
            del data[mime]
        if question := predictions.asked(data.get("text/html", "")):
            data["text/html"] = gate(question)
        if "image/png" in data:
            data = {"text/html": self._picture(output)}
            output = new_output("display_data", data=data)
        if data or output.output_type == "stream":
            yield output

    def _picture(self, output: NotebookNode) -> str:
        """A picture with its words; a published one leads to its vector version."""
        told = output.metadata.get("image/png", {})
        alt = told.get("alt", "")
        found = self.published.get(alt)
        if found is None:
            png = base64.b64decode(output.data["image/png"])
            place = f"pictures/{self.slug}/{hashlib.sha256(png).hexdigest()[:16]}.png"
            self.files[place] = png
            return export.image(f"../{place}", alt, told.get("width"))
        id, entry = found
        files = entry["files"]
        picture = export.image(f"../figures/{files['png']}", alt, told.get("width"))
        return (
            f'<div class="picture" id="{anchor(id, "figure")}">'
            f'<a href="../figures/{files["svg"]}">{picture}</a></div>'
        )

    def _moving(self, outputs: list[NotebookNode], cell: str) -> list[NotebookNode]:
        """The stored picture and the sentence below it give way to sliders, where pictures are stored for these."""
        page = explorer.page(self.explorers[cell], f"../figures/{self.slug}/{explorers.FOLDER}")
        for place, (picture, said) in enumerate(pairwise(outputs)):
            sentence = said.get("data", {}).get("text/plain")
            shown = picture.get("data", {}).get("text/html", "")
            if sentence and f'alt="{html.escape(sentence)}"' in shown:
                moving = new_output("display_data", data={"text/html": page})
                return [*outputs[:place], moving, *outputs[place + 2 :]]
        return outputs


def anchor(id: str, kind: str = "claim") -> str:
    """The name by which a link leads to a claim or figure of a page."""
    return f"{kind}-{id}"


def anchored(cells: list[NotebookNode]) -> list[NotebookNode]:
    """The cells, with a place to link to before each that covers items of the ledger by its tags."""
    done: list[NotebookNode] = []
    seen: set[str] = set()
    for cell in cells:
        tags = cell.metadata.get("tags", [])
        ids = [tag[7:] for tag in tags if tag.startswith("ledger:") and tag[7:] not in seen]
        seen |= set(ids)
        if ids:
            spans = "".join(f'<span id="{anchor(id, "cell")}"></span>' for id in ids)
            done.append(new_markdown_cell(f"<div>{spans}</div>\n"))
        done.append(cell)
    return done


def gate(question: predictions.Asked) -> str:
    """A prediction with a button for each choice; without a script the fold behind it opens by hand."""
    buttons = "".join(f'<button type="button">{words}</button>' for words in question.choices)
    return (
        f'<div class="gate" id="gate-{question.name}" data-fold="fold-{question.name}">'
        f"<p><b>Predict:</b> {question.words}</p>"
        f'<div class="choices" role="group" aria-label="Your prediction">{buttons}</div>'
        f'<p class="verdict" role="status"></p></div>'
    )


def split(cells: list[NotebookNode]) -> list[NotebookNode]:
    """The cells, with a text that goes on under a new heading as two: what stands before it ends an idea."""
    done = []
    for cell in cells:
        at = re.search(r"^#", cell.source, re.MULTILINE)
        if cell.cell_type != "markdown" or not at or not at.start() or "```" in cell.source:
            done.append(cell)
            continue
        rest = new_markdown_cell(cell.source[at.start() :], metadata=cell.metadata)
        cell.source = cell.source[: at.start()]
        done += [cell, rest]
    return done


def gated(cells: list[NotebookNode]) -> list[NotebookNode]:
    """The cells with a fold around all that answers a prediction: from `predict` to `reveal` and right behind it.

    Behind it are the same code and text cells that a live lab hides; a heading or the next prediction ends it.
    """
    done: list[NotebookNode] = []
    place = 0
    while place < len(cells):
        done.append(cells[place])
        name = _asks(cells[place])
        place += 1
        if not name:
            continue
        end, measured = _answered(cells, place, name)
        if end > place:
            done.append(new_markdown_cell(
                f'<details class="answers" id="fold-{name}" data-measured="{html.escape(measured)}">'
                "<summary>What was measured</summary>\n"
            ))  # fmt: skip
            done += cells[place:end]
            done.append(new_markdown_cell("</details>\n"))
        place = end
    return done


def _asks(cell: NotebookNode) -> str:
    """The name of the prediction that a cell asks for; empty for another cell."""
    pages = [output.get("data", {}).get("text/html", "") for output in cell.get("outputs", [])]
    found = next(filter(None, (re.search(r'id="gate-([\w-]+)"', page) for page in pages)), None)
    return found[1] if found else ""


def _answered(cells: list[NotebookNode], start: int, name: str) -> tuple[int, str]:
    """Where the answer of a prediction ends, and the choice that was right; (start, "") where it is never told."""
    for place in range(start, len(cells)):
        if _ends(cells[place]):
            break
        for output in cells[place].get("outputs", []):
            told = TOLD.search(output.get("data", {}).get("text/html", ""))
            if told and told[1] == name:
                return _behind(cells, place + 1), html.unescape(told[2])
    return start, ""


def _behind(cells: list[NotebookNode], place: int) -> int:
    for kind, most in (("code", predictions.CELLS_BEHIND), ("markdown", predictions.TEXTS_BEHIND)):
        for _ in range(most):
            if place < len(cells) and cells[place].cell_type == kind and not _ends(cells[place]):
                place += 1
    return place


def _ends(cell: NotebookNode) -> bool:
    """Whether nothing from this cell on belongs to the answer before it."""
    if cell.cell_type == "markdown":
        return bool(re.search(r"^#", cell.source, re.MULTILINE))
    return bool(_asks(cell))
