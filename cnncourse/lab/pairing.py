"""Each lesson twice: as a notebook with outputs, and as the text that one edits and reviews, held equal.

The text is jupytext's ``py:percent`` in ``notebooks/text/``. The notebook remembers, in its metadata, a digest of
what both said when they were last in step; so `sync` knows which of the two was edited since, also in a fresh clone,
where the dates of files say nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import jupytext
import nbformat
import yaml
from nbformat import NotebookNode

from cnncourse import paths
from cnncourse.errors import LessonError, ParameterError, TwinError
from cnncourse.lab import tolerance
from cnncourse.lab.lesson import Lesson

FORMATS = "ipynb,text//py:percent"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
KEPT = (
    "tags",
    "nbval",
    "slideshow",
)  # cell metadata that means something to us; the rest is the editors' noise
FOLD = "fold"  # the tag of cells whose code a reader of the story skips; JupyterLab shows them collapsed
SIDES = ("text", "notebook")


def sync(
    lessons: Iterable[str | Path] | None = None,
    *,
    prefer: str | None = None,
    folder: Path | None = None,
) -> list[str]:
    """Bring notebooks and texts in step; returns one line for each file written.

    The side that changed since the last sync updates the other. A text updates the sources of its notebook and keeps
    the outputs of cells that did not change; a text or notebook without its twin creates it. Where both changed,
    nothing is written for that lesson and `TwinError` names what differs; ``prefer="text"`` or ``"notebook"``
    decides such conflicts. A notebook without a memory of the last sync gives way to a newer text only.

    lessons: names as `paths.lesson` takes them, or none for all in `folder` (default: ``notebooks/``).
    """
    if prefer not in (None, *SIDES):
        raise ParameterError(
            "prefer= 'text' or 'notebook'",
            repr(prefer),
            where="sync",
            remedy="leave it out: sync says where it has to be told",
        )
    written, conflicts = [], []
    for lesson in Lesson.some(lessons or (), folder):
        try:
            written += _sync_one(lesson.notebook, prefer)
        except TwinError as error:
            conflicts.append(error)
    if len(conflicts) > 1:  # tell all of them at once; what could be synced is
        raise TwinError(
            conflicts[0].expected,
            "\n        ".join(str(error.got) for error in conflicts),
            where=", ".join(str(error.where) for error in conflicts),
            remedy=conflicts[0].remedy,
        )
    if conflicts:
        raise conflicts[0]
    return written


def main(lessons: Iterable[str | Path] | None = None, prefer: str | None = None) -> int:
    """Sync and print what was written, for ``python -m cnncourse sync``."""
    print("\n".join(sync(lessons or None, prefer=prefer)) or "notebooks and texts are in step")
    return 0


def differences(notebook: Path) -> list[str]:
    """What the text twin says otherwise than the notebook, one line each; empty when the two are equal.

    Compares types, sources and tags of cells in order; outputs and editors' metadata do not count.
    """
    notebook = Path(notebook)
    if not twin(notebook).exists():
        return [f"there is no text {twin(notebook).parent.name}/{twin(notebook).name}"]
    return _differences(read_text(twin(notebook)), _reread(read_notebook(notebook)))


def current(notebook: Path, *, prefer: str | None = None) -> NotebookNode:
    """The clean sources of a lesson, of whichever side changed since the last sync, without outputs; writes nothing.

    Either file may be missing. Raises `TwinError` where both changed and `prefer` does not name one.
    """
    notebook, text = Path(notebook), twin(notebook)
    if not notebook.exists():
        return in_step(_reread(read_text(text)))
    old = read_notebook(notebook)
    if not text.exists():
        return in_step(_reread(old))
    new = read_text(text)
    side = "text" if digest(old) == digest(new) else _changed_side(notebook, old, text, new)
    if side not in SIDES and prefer:
        side = prefer  # it decides conflicts only: an edit of one side alone is never thrown away
    if side in SIDES:
        return in_step(_reread(new if side == "text" else old))
    told = _differences(new, _reread(old))
    raise TwinError(
        "a notebook or its text unchanged since the last sync",
        f"{side}, and {told[0]} ({len(told)} differences)",
        where=notebook.name,
        remedy="see both, then `python -m cnncourse sync --prefer text` (or notebook)",
    )


def twin(notebook: Path) -> Path:
    """Where the text of a notebook lies: ``notebooks/04_x.ipynb`` to ``notebooks/text/04_x.py``."""
    return Lesson(Path(notebook)).text


def read_notebook(path: Path) -> NotebookNode:
    """A notebook file; `LessonError` for one that is cut short or not a notebook."""
    try:
        return nbformat.read(path, as_version=4)
    except (
        ValueError,
        AttributeError,
        TypeError,
        nbformat.ValidationError,
    ) as error:  # no JSON, or no notebook
        raise LessonError(
            "a notebook",
            f"{type(error).__name__}: {_first_line(error)}",
            where=path,
            remedy="delete it and run `python -m cnncourse sync`: the text creates it again",
        ) from error


def read_text(path: Path) -> NotebookNode:
    """The notebook that a text describes, without outputs; ids of cells follow from their sources."""
    return parsed(Path(path).read_text(encoding="utf-8"))


def as_text(notebook: NotebookNode) -> str:
    """The text of a notebook: the same for every version of jupytext, without dates, versions or outputs.

    Raises `LessonError` naming the cell that a text cannot hold as it is.
    """
    body = clean(notebook)
    wanted = [(cell.cell_type, cell.source) for cell in body.cells]
    said = {"jupytext": {"formats": FORMATS}, "kernelspec": KERNEL}
    said |= {name: body.metadata[name] for name in ("nbval",) if name in body.metadata}
    filters = {"notebook_metadata_filter": "-all", "cell_metadata_filter": "all"}
    body.metadata = nbformat.from_dict({"jupytext": filters})
    for cell in body.cells:
        cell.source = _guarded(cell.source, cell.cell_type)
    for cell in body.cells[:-1]:
        cell.metadata.lines_to_next_cell = 1  # for jupytext: not two blank lines around functions
    text = header(said) + "\n" + _unhidden(jupytext.writes(body, fmt="py:percent"))
    found = [(cell.cell_type, cell.source) for cell in parsed(text).cells]
    for at, cell in enumerate(wanted):
        if at >= len(found) or not _same_cell(cell, found[at]):
            _refuse(at, cell, found)
    return text


def header(said: dict) -> str:
    """The first lines of a text: its metadata, as comments."""
    lines = yaml.safe_dump({"jupyter": _plain(said)}, sort_keys=True).splitlines()
    return "\n".join(["# ---", *(f"# {line}" for line in lines), "# ---", ""])


def parsed(text: str) -> NotebookNode:
    """The notebook that the words of a text describe."""
    return clean(_parsed(text))


@lru_cache(maxsize=16)  # a sync reads the same words several times, jupytext takes 0.2 s for each
def _parsed(text: str) -> NotebookNode:
    notebook = jupytext.reads(_hidden(text), fmt="py:percent")
    for cell in notebook.cells:
        cell.source = _unguarded(_unhidden(cell.source), cell.cell_type)
    return clean(notebook)


# A line that begins with %% would begin a cell of the text: in the text, and there only, a backslash stands before it.
GUARD = {"code": r"^(#[ \t]*)(\\*)%%", "markdown": r"^([ \t]*)(\\*)%%", "raw": r"^([ \t]*)(\\*)%%"}


def _guarded(source: str, kind: str) -> str:
    return _hidden(re.sub(GUARD[kind], r"\1\2\\%%", source, flags=re.MULTILINE))


def _unguarded(source: str, kind: str) -> str:
    guarded = GUARD[kind].replace("*)%%", "*)\\\\%%")
    return re.sub(guarded, r"\1\2%%", source, flags=re.MULTILINE)


# jupytext splits lines at these too, as str.splitlines does; Python and Jupyter do not. It meets stand-ins instead.
BREAKS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
STAND_INS = "".join(
    chr(0xF8D0 + at) for at in range(len(BREAKS))
)  # of the private use area: no text has them


def _hidden(text: str) -> str:
    return text.translate(str.maketrans(BREAKS, STAND_INS))


def _unhidden(text: str) -> str:
    return text.translate(str.maketrans(STAND_INS, BREAKS))


def _same_cell(wanted: tuple[str, str], found: tuple[str, str]) -> bool:
    """Whether a cell came back from its text; blank lines at its ends are the only thing that may be lost."""
    return wanted[0] == found[0] and wanted[1].strip("\n") == found[1].strip("\n")


def _refuse(at: int, wanted: tuple[str, str], found: list[tuple[str, str]]) -> None:
    came = found[at] if at < len(found) else ("no cell", "")
    told = f"{wanted[0]} became {came[0]}"
    if wanted[0] == came[0]:
        told = _first_difference(came[1], wanted[1])
    raise LessonError(
        "cells that a text can hold",
        told,
        where=f"cell {at + 1}",
        remedy="write that line otherwise: the text form reads it as something else",
    )


def take(edited: NotebookNode, notebook: Path) -> list[str]:
    """Make a lesson say what an edited copy of it says; outputs of unchanged cells stay. Returns the files written."""
    sources = in_step(_reread(edited))
    old = read_notebook(notebook) if Path(notebook).exists() else None
    return _write_text(twin(notebook), sources) + _write_notebook(notebook, sources, old)


def clean(notebook: NotebookNode) -> NotebookNode:
    """A copy without the noise: metadata we know, kernel python3, ids that follow from the sources. Outputs stay."""
    copy = nbformat.from_dict(_plain(notebook))
    copy.metadata = nbformat.from_dict(
        {
            "jupytext": {"formats": FORMATS},
            "kernelspec": KERNEL,
            "language_info": {"name": "python"},
        }
        | {
            name: notebook.metadata[name]
            for name in ("nbval", "cnncourse")
            if name in notebook.metadata
        }
    )
    copy.nbformat, copy.nbformat_minor = 4, 5
    seen: dict[str, int] = defaultdict(int)
    for cell in copy.cells:
        kept = {
            name: cell.metadata[name] for name in KEPT if cell.metadata.get(name)
        }  # papermill leaves empty tags
        cell.metadata = nbformat.from_dict(kept)
        if "outputs" in cell:  # bars that a live JupyterLab saved; a lesson run by `store` has none
            cell.outputs = [output for output in cell.outputs if not tolerance.is_progress(output)]
        seen[cell.source] += 1
        cell.id = hashlib.sha256(
            f"{cell.cell_type} {seen[cell.source]} {cell.source}".encode()
        ).hexdigest()[:8]
    return copy


def in_step(notebook: NotebookNode) -> NotebookNode:
    """The clean copy as it is stored: it remembers its present sources, and cells tagged `fold` are collapsed."""
    copy = clean(notebook)
    for cell in copy.cells:
        if FOLD in cell.metadata.get("tags", []):
            cell.metadata.jupyter = nbformat.from_dict({"source_hidden": True})
    copy.metadata.cnncourse = nbformat.from_dict({"synced": digest(copy)})
    return copy


def _sync_one(notebook: Path, prefer: str | None) -> list[str]:
    sources = current(notebook, prefer=prefer)
    old = read_notebook(notebook) if notebook.exists() else None
    return _write_text(twin(notebook), sources) + _write_notebook(notebook, sources, old)


def _changed_side(notebook: Path, old: NotebookNode, text: Path, new: NotebookNode) -> str:
    last = old.metadata.get("cnncourse", {}).get("synced")
    if last == digest(old):
        return "text"
    if last == digest(new):
        return "notebook"
    if last is None:
        newer = text.stat().st_mtime_ns > notebook.stat().st_mtime_ns
        return "text" if newer else "no record of a last sync, and the text is the older one"
    return "both changed"


def _write_text(path: Path, notebook: NotebookNode) -> list[str]:
    content = as_text(notebook)
    if path.exists() and path.read_text(encoding="utf-8") == content:
        return []
    paths.write(path, content)
    return [f"{path.parent.name}/{path.name} written"]


def _write_notebook(path: Path, sources: NotebookNode, outputs: NotebookNode | None) -> list[str]:
    result = in_step(sources)
    if outputs and "seconds" in outputs.metadata.get(
        "cnncourse", {}
    ):  # its cost, as `store` measured it
        result.metadata.cnncourse["seconds"] = outputs.metadata.cnncourse["seconds"]
    done: dict[str, list[NotebookNode]] = defaultdict(list)
    for cell in clean(outputs).cells if outputs else ():
        done[cell.source].append(cell)
    kept, cells = 0, [cell for cell in result.cells if cell.cell_type == "code"]
    for cell in result.cells:
        before = done[cell.source].pop(0) if done[cell.source] else None
        if before and before.cell_type == cell.cell_type:
            for name in ("outputs", "execution_count", "attachments"):  # what a text cannot hold
                if name in before:
                    cell[name] = before[name]
            kept += cell.cell_type == "code"
    nbformat.validate(result)
    content = nbformat.writes(result) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == content:
        return []
    paths.write(path, content)
    return [f"{path.name} written, {kept} of {len(cells)} code cells keep their outputs"]


def _reread(notebook: NotebookNode) -> NotebookNode:
    """The notebook as its own text gives it back (jupytext drops a trailing newline, for example)."""
    return parsed(as_text(notebook))


def digest(notebook: NotebookNode) -> str:
    """What a notebook says, in 16 letters: two that differ in outputs or editors' noise only have the same."""
    return hashlib.sha256(as_text(_reread(notebook)).encode()).hexdigest()[:16]


def _differences(text: NotebookNode, notebook: NotebookNode) -> list[str]:
    found = []
    if text.metadata.get("nbval") != notebook.metadata.get("nbval"):
        found.append(
            f"metadata nbval: text {text.metadata.get('nbval')}, notebook {notebook.metadata.get('nbval')}"
        )
    if len(text.cells) != len(notebook.cells):
        found.append(f"the text has {len(text.cells)} cells, the notebook {len(notebook.cells)}")
    for number, (ours, theirs) in enumerate(zip(text.cells, notebook.cells), start=1):  # noqa: B905 - lengths told above
        if ours.cell_type != theirs.cell_type:
            found.append(
                f"cell {number}: {ours.cell_type} in the text, {theirs.cell_type} in the notebook"
            )
        elif ours.source != theirs.source:
            found.append(f"cell {number}: {_first_difference(ours.source, theirs.source)}")
        elif ours.metadata != theirs.metadata:
            found.append(
                f"cell {number}: {dict(ours.metadata)} in the text, {dict(theirs.metadata)} in the notebook"
            )
    return found


def _first_difference(text: str, notebook: str) -> str:
    ours, theirs = text.splitlines(), notebook.splitlines()
    line = next(
        (at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]),
        min(len(ours), len(theirs)),
    )
    first, second = (
        repr(lines[line]) if line < len(lines) else "nothing more" for lines in (ours, theirs)
    )
    return f"line {line + 1} is {first} in the text, {second} in the notebook"


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
