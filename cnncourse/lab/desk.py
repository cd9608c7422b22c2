"""The copies of the lessons that JupyterLab opens: a student's session never touches the lessons themselves.

Copies lie in build/lab/ and are kept between visits. A copy that nobody changed follows its lesson; one that was
changed stays as it is, until its owner starts afresh or, as an author, brings the changes back.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import nbformat

from cnncourse import paths
from cnncourse.errors import LessonError, TwinError
from cnncourse.lab import pairing
from cnncourse.lab.lesson import Lesson

RECORD = ".copies.json"  # slug: digest of the sources that were copied; its dot hides it in JupyterLab's list of files
SETTINGS = {  # of JupyterLab, for this desk only
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",  # no question about news on the first start
        "checkForUpdates": False,
    }
}


def folder() -> Path:
    """Where the copies lie."""
    return paths.build() / "lab"


def lay_out() -> list[str]:
    """Copy the lessons that are not there yet or that only the course changed; returns one line for each that stays."""
    told, record = [], _record()
    for lesson in _stored():
        copy, now = folder() / lesson.notebook.name, _digest(lesson.notebook)
        if copy.exists() and now != record.get(lesson.slug):
            if _digest(copy) != record.get(lesson.slug):
                told.append(
                    f"{lesson.slug}: you changed your copy, and the lesson changed too; yours stays "
                    f"(python -m cnncourse lab --fresh {lesson.number} takes the new one)"
                )
                continue
            copy.unlink()
        if not copy.exists():
            _copy(lesson, copy)
            record[lesson.slug] = now
    _write(record)
    return told


def start_afresh(names: Iterable[str] = ()) -> list[str]:
    """Put copies of these lessons (none: of all) aside and copy them anew; returns where the old ones lie now."""
    told, record = [], _record()
    for lesson in _stored(names):
        copy = folder() / lesson.notebook.name
        if copy.exists() and _digest(copy) != record.get(lesson.slug):
            aside = _free(paths.build() / "lab-old" / copy.name)
            aside.parent.mkdir(parents=True, exist_ok=True)
            copy.rename(aside)
            told.append(f"{lesson.slug}: your copy is now {paths.shown(aside)}")
        copy.unlink(missing_ok=True)
    lay_out()
    return told


def bring_back(name: str) -> list[str]:
    """Write what an author changed in a copy into the lesson and its text; returns one line for each file written.

    Outputs of cells that did not change stay; `store` makes the others. Parameters are part of the sources: set them
    back first. Raises `TwinError` where the lesson changed since it was copied, `LessonError` where there is no copy.
    """
    lesson = Lesson.find(name)
    copy, record = folder() / lesson.notebook.name, _record()
    if not copy.exists():
        raise LessonError(
            f"a copy of {lesson.slug}",
            "none",
            where=paths.shown(folder()),
            remedy="python -m cnncourse lab makes one",
        )
    if record.get(lesson.slug) != _digest(lesson.notebook):
        raise TwinError(
            "a lesson that is as it was when it was copied",
            "one that changed since",
            where=lesson.slug,
            remedy=f"compare it with {paths.shown(copy)}, then edit notebooks/text/{lesson.slug}.py by hand",
        )
    written = pairing.take(pairing.read_notebook(copy), lesson.notebook)
    record[lesson.slug] = _digest(lesson.notebook)
    _write(record)
    return written


def open_lab() -> None:
    """Replace this process by JupyterLab on the copies; Ctrl-C is JupyterLab's own."""
    print("\n".join(lay_out()), flush=True)
    environment = {**os.environ, "CNNCOURSE_CWD": os.environ.get("CNNCOURSE_CWD") or os.getcwd()}
    os.execve(sys.executable, [sys.executable, "-m", "jupyter", *arguments()], environment)


def arguments() -> list[str]:
    """The words that start JupyterLab on the desk: on this machine only, guarded by its token."""
    settings = paths.build() / "lab-settings"
    paths.write(settings / "overrides.json", json.dumps(SETTINGS, indent=1) + "\n")
    words = ["lab", "--ServerApp.ip=127.0.0.1", f"--LabApp.app_settings_dir={settings}"]
    words.append(
        "--HTMLExporter.preprocessors=cnncourse.lab.export.AlternativeText"
    )  # of the menu's "save as"
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # as in most containers
        words.append("--allow-root")
    return [*words, str(folder())]


def _stored(names: Iterable[str] = ()) -> list[Lesson]:
    return [lesson for lesson in Lesson.some(names) if lesson.notebook.is_file()]


def _copy(lesson: Lesson, copy: Path) -> None:
    content = pairing.read_notebook(lesson.notebook)
    del content.metadata["jupytext"]  # its JupyterLab extension would write a text beside the copy
    paths.write(copy, nbformat.writes(content) + "\n")


def _digest(notebook: Path) -> str:
    return pairing.digest(pairing.read_notebook(notebook))


def _record() -> dict[str, str]:
    try:
        return json.loads((folder() / RECORD).read_text())
    except (OSError, ValueError):
        return {}  # then every copy counts as changed: none is lost


def _write(record: dict[str, str]) -> None:
    paths.write(folder() / RECORD, json.dumps(record, indent=1) + "\n")


def _free(path: Path) -> Path:
    """A name that is not taken: ``04_x.ipynb``, ``04_x-2.ipynb``."""
    place, count = path, 1
    while place.exists():
        count += 1
        place = path.with_stem(f"{path.stem}-{count}")
    return place
