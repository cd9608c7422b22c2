"""What nbconvert leaves out when it makes a page of a lesson: the words that stand for a picture."""

from __future__ import annotations

import html

from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode


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
                words, width = html.escape(told["alt"]), told.get("width", "")
                output["data"]["text/html"] = (
                    f'<img src="data:image/png;base64,{png.strip()}" width="{width}" alt="{words}">'
                )
                del output["data"]["image/png"]
        return cell, resources
