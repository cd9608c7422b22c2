"""The README's table of lessons, made from the lessons: title, question, measured cost, first picture."""

from __future__ import annotations

import json
import re
from pathlib import Path

from cnncourse import paths
from cnncourse.claims import reading
from cnncourse.lab.lesson import Lesson

BEGIN, END = "<!-- lessons: written by `make figures` -->", "<!-- end of lessons -->"
QUESTION = re.compile(r"^#+ (.+\?)$", re.MULTILINE)  # below the title of a lesson
STEP = 5  # seconds to which a cost is rounded


def cost(notebook: Path) -> int | None:
    """Seconds of one core that a lesson takes at its defaults, as `store` measured them; None where it did not yet."""
    if not notebook.is_file():
        return None
    metadata = json.loads(notebook.read_text(encoding="utf-8"))["metadata"]
    return metadata.get("cnncourse", {}).get("seconds")


def rounded(seconds: float, old: int | None) -> int:
    """A measured cost, rounded up to five seconds; `old`, while it is at most 2 s too low and less than 10 too high.

    >>> rounded(21.2, None), rounded(27.0, 25), rounded(28.0, 25), rounded(16.0, 25), rounded(14.0, 25)
    (25, 25, 30, 25, 15)
    """
    if old is not None and seconds - 2 <= old < seconds + 2 * STEP:
        return old
    return max(STEP, STEP * -(-round(seconds) // STEP))


def table(index: dict[str, dict]) -> str:
    """The lines between the two marks of README.md; `index` is what figures/index.json holds."""
    lines = ["", "| lesson | question | seconds | first picture |", "|---|---|---|---|"]
    stored = [lesson for lesson in Lesson.some() if lesson.notebook.is_file()]
    for lesson in stored:
        title = lesson.title.replace(" · ", " ")
        link = f"[{title}](notebooks/{lesson.notebook.name})"
        seconds = cost(lesson.notebook) or ""
        lines.append(f"| {link} | {question(lesson)} | {seconds} | {_picture(lesson, index)} |")
    planned = {item["notebook"] for item in paths.ledger().values()}
    missing = len(planned - {lesson.slug for lesson in stored})
    lines += [
        "",
        "Seconds are of one core, without a GPU, at the speed that the course's own processor has when nothing else",
        "runs on it: a fixed piece of work, timed beside each lesson, says how fast a core was meanwhile.",
    ]
    if missing:
        lines.append(f"{missing} of the {len(planned)} planned lessons are not written yet.")
    return "\n".join([*lines, ""])


def question(lesson: Lesson) -> str:
    """The question that stands below the title of a lesson; empty where there is none."""
    cells = reading.cells(lesson.notebook)
    found = QUESTION.search("".join(cells[0]["source"])) if cells else None
    return found[1] if found else ""


def update(index: dict[str, dict], readme: Path | None = None) -> None:
    """Write the table into README.md, where it has the two marks."""
    readme = readme or paths.root() / "README.md"
    if not readme.is_file():
        return
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        new = f"{before}{begin}\n{table(index)}{end}{after}"
        if new != text:
            paths.write(readme, new)


def _picture(lesson: Lesson, index: dict[str, dict]) -> str:
    """A link to the first published figure of a lesson, in the order of its cells."""
    for id in reading.drawn(reading.cells(lesson.notebook)):
        if id in index:
            return f"[{id.removeprefix('fig-')}](figures/{index[id]['files']['png']})"
    return ""
