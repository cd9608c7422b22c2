"""Sliders that move without a kernel: pictures stored for a grid of values, as plain HTML inputs."""

from __future__ import annotations

import html
import json
from pathlib import Path

from cnncourse.errors import LessonError
from cnncourse.lab import explorers, export


def folders(figures: Path) -> dict[str, Path]:
    """Id of a notebook's cell to the folder of its stored pictures, of a lesson's folder of figures."""
    found = {}
    for file in sorted((figures / explorers.FOLDER).glob("*/index.json")):
        found[_index(file)["cell"]] = file.parent
    return found


def page(folder: Path, up: str) -> str:
    """The explorer as HTML: a range or radio buttons for each control, the picture, its sentence (spoken anew).

    folder: index.json and the pictures; up: the address of the folder above it, as seen from the page.

    `site.js` moves it; pictures are named by the places of the values, ``"2,0"`` for the third and the first.
    """
    index = _index(folder / "index.json")
    address = f"{up}/{folder.name}"
    start = ",".join(str(control["start"]) for control in index["controls"])
    pictures = {
        key: {**picture, "file": f"{address}/{picture['file']}"}
        for key, picture in index["pictures"].items()
    }
    data = json.dumps(pictures, ensure_ascii=False).replace("</", "<\\/")
    first = pictures[start]
    controls = "".join(
        _control(control, f"{folder.name}-{number}")
        for number, control in enumerate(index["controls"])
    )
    return (
        f'<div class="explorer"><div class="controls">{controls}</div>'
        f"{export.image(first['file'], first['sentence'], first.get('width'))}"
        f'<p class="sentence" aria-live="polite">{html.escape(first["sentence"])}</p>'
        f'<script type="application/json">{data}</script></div>'
    )


def _control(control: dict, name: str) -> str:
    label = html.escape(control["label"] or control["name"])
    words = [html.escape(str(value)) for value in control["values"]]
    start = control["start"]
    if control["kind"] == "slider":
        said = html.escape(json.dumps([str(value) for value in control["values"]]))
        return (
            f'<div class="control"><label for="{name}">{label}</label>'
            f'<input type="range" id="{name}" min="0" max="{len(words) - 1}" step="1" value="{start}"'
            f' aria-valuetext="{words[start]}" data-values="{said}">'
            f'<output for="{name}">{words[start]}</output></div>'
        )
    choices = "".join(
        f'<label><input type="radio" name="{name}" value="{place}"'
        f"{' checked' if place == start else ''}> {word}</label>"
        for place, word in enumerate(words)
    )
    return f'<fieldset class="control"><legend>{label}</legend>{choices}</fieldset>'


def _index(file: Path) -> dict:
    """What index.json says, with every picture there; `LessonError` otherwise."""
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
        start = ",".join(str(control["start"]) for control in index["controls"])
        missing = [
            picture["file"]
            for picture in index["pictures"].values()
            if not (file.parent / picture["file"]).is_file()
        ]
        if start not in index["pictures"]:
            missing.append(f"a picture for the start values {start}")
        index["cell"]  # noqa: B018 - says which key is missing
    except (ValueError, KeyError, TypeError) as error:
        missing = [f"{type(error).__name__}: {error}"]
    if missing:
        raise LessonError(
            "stored pictures of a slider, with an index.json that names them",
            f"missing: {', '.join(missing[:3])}",
            where=file,
            remedy="make store LESSONS=... writes them anew",
        )
    return index
