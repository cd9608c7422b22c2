"""The pictures that a lesson's sliders show on a page without a kernel: published beside its figures, and held to it.

``figures/<lesson>/explorers/<name>/`` holds what `widgets.explore` wrote while the lesson was stored: index.json and a
picture for each combination of the values that the lesson keeps. `name` is the function that draws.
"""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from cnncourse import paths
from cnncourse.errors import LessonError
from cnncourse.lab.lesson import Lesson

FOLDER = "explorers"


def publish(lesson: str, made: Path, target: Path) -> None:
    """Take over the explorers of a stored run, `made`, into the figures' folder `target`; others of the lesson go."""
    place = target / lesson / FOLDER
    shutil.rmtree(place, ignore_errors=True)
    cells = _cells(Lesson.find(lesson))
    for folder in sorted(path.parent for path in made.glob("*/index.json")):
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if folder.name not in cells:
            raise LessonError(
                "widgets.explore(draw, ...) where draw is the name of the function that draws",
                folder.name,
                where=lesson,
                remedy="define it with `def` and pass it by this name",
            )
        index["cell"] = cells[folder.name]
        for picture in index["pictures"].values():
            paths.write(
                place / folder.name / picture["file"], (folder / picture["file"]).read_bytes()
            )
        text = json.dumps(index, indent=1, ensure_ascii=False)
        paths.write(place / folder.name / "index.json", text + "\n")


def forget(target: Path, lessons: set[str]) -> None:
    """Remove the explorers of lessons that are none of these any more."""
    for place in target.glob(f"*/{FOLDER}"):
        if place.parent.name not in lessons:
            shutil.rmtree(place)
            if not any(place.parent.iterdir()):
                place.parent.rmdir()


def problems(target: Path) -> Iterator[str]:
    """How the explorers in the figures' folder and the lessons disagree, a line each; runs nothing."""
    for place in sorted(target.glob(f"*/{FOLDER}")):
        lesson = place.parent.name
        if lesson not in paths.slugs():
            yield f"{lesson}/{FOLDER}: its lesson is gone"
            continue
        cells = _cells(Lesson.find(lesson))
        for folder in sorted(place.iterdir()):
            name = f"{lesson}/{FOLDER}/{folder.name}"
            if not (folder / "index.json").is_file():
                yield f"{name}: without its index.json"
                continue
            index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            if cells.get(folder.name) != index["cell"]:
                yield f"{name}: not of a cell of the lesson as it is; store it"
            meant = {picture["file"] for picture in index["pictures"].values()} | {"index.json"}
            for file in sorted(meant ^ {path.name for path in folder.iterdir()}):
                yield f"{name}/{file}: " + (
                    "not there" if file in meant else "not named by index.json"
                )


def _cells(lesson: Lesson) -> dict[str, str]:
    """The cells of a lesson that explore, by the function that draws: ``{"draw_convolution": "2a3509bb"}``."""
    found = {}
    for cell in lesson.stored_cells:
        for node in ast.walk(cell.tree) if cell.is_code and cell.tree else ():
            called = isinstance(node, ast.Call) and ast.unparse(node.func) == "widgets.explore"
            if called and node.args and isinstance(node.args[0], ast.Name):
                found[node.args[0].id] = cell.node.id
    return found
