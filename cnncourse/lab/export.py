"""What nbconvert leaves out when it makes a page of a lesson: the words that stand for a picture."""

from __future__ import annotations

import html

from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode


def image(address: str, alt: str, width: int | None = None) -> str:
    """A picture with the words that stand for it, as HTML; width in pixels of the screen."""
    size = f' width="{width}"' if width else ""
    return f'<img src="{html.escape(address)}"{size} alt="{html.escape(alt)}">'


class AlternativeText(Preprocessor):
    """Pictures with their alternative text: nbconvert's own templates drop it and write "No description".

    ``python -m cnncourse lab`` switches it on for what is exported from JupyterLab's menu; on the command line
    ``jupyter nbconvert --to html --HTMLExporter.preprocessors=cnncourse.lab.export.AlternativeText`` does.
    """

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict, index: int
    ) -> tuple[NotebookNode, dict]:
        """Every PNG that carries alternative text becomes an <img> with it."""
        for output in cell.get("outputs", []):
            told = output.get("metadata", {}).get("image/png", {})
            png = output.get("data", {}).get("image/png")
            if png and told.get("alt"):
                address = f"data:image/png;base64,{png.strip()}"
                output["data"]["text/html"] = image(address, told["alt"], told.get("width"))
                del output["data"]["image/png"]
        return cell, resources
