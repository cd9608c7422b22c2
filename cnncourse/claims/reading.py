"""What the cells of a notebook claim, draw and cover: read from its sources and stored outputs, running nothing."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable
from pathlib import Path

MIME = "application/vnd.cnncourse.claim+json"
CLAIMING = {"claims.check": 0, "claims.table": 0, "claims.quoted": 0}  # the place of the id


def stored(notebook: Path) -> list[dict]:
    """The claims in the stored outputs of a notebook, as the dictionaries that `claims` stored."""
    outputs = [output for cell in cells(notebook) for output in cell.get("outputs", [])]
    return [output["data"][MIME] for output in outputs if MIME in output.get("data", {})]


def cited(notebook: Path) -> set[str]:
    """The ledger ids that a notebook covers: cell tags ``ledger:<id>``, stored claims, and figures it saves."""
    ids = {claim["id"].partition(".")[0] for claim in stored(notebook)}
    for cell in cells(notebook):
        ids |= {tag[7:] for tag in cell["metadata"].get("tags", []) if tag.startswith("ledger:")}
        if cell["cell_type"] == "code":
            ids |= {id.partition(".")[0] for id in saved_figures("".join(cell["source"]))}
    return ids


def saved_figures(source: str) -> list[str]:
    """The ids given to ``figures.save(figure, "<id>", ...)`` in the source of a cell, as they are written there."""
    return _written_ids(source, {"figures.save": 1})


def drawn(cells: Iterable[dict]) -> list[str]:
    """The ids of the figures that stored cells save, in their order and each once."""
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return list(dict.fromkeys(id for source in code for id in saved_figures(source)))


def made(source: str) -> list[str]:
    """The ids given to ``claims.check``, ``claims.table`` and ``claims.quoted`` in the source of a cell."""
    return _written_ids(source, CLAIMING)


def cells(notebook: Path) -> list[dict]:
    """The cells of a notebook file as they are stored."""
    return json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]


def _written_ids(source: str, positions: dict[str, int]) -> list[str]:
    """The literal ids in calls of these functions, given at these positions or by the keyword id."""
    try:
        calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    except SyntaxError:  # a cell of IPython's own commands
        return []
    found = []
    for call in calls:
        at = positions.get(ast.unparse(call.func))
        if at is not None:
            by_keyword = [word.value for word in call.keywords if word.arg == "id"]
            found += call.args[at : at + 1] or by_keyword
    return [node.value for node in found if isinstance(node, ast.Constant)]
