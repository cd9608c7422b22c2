"""All claims of the lessons as one table, and how much of the ledger each lesson covers."""

from __future__ import annotations

import re
import string
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from cnncourse import paths
from cnncourse.claims import reading, words

SENTENCE = 100  # characters of a sentence that the table shows
SEEDS = "benchmarks/RESULTS-seeds.md"  # written by benchmarks/seeds.py


def report(notebooks: Iterable[Path]) -> str:
    """Every stored claim as a table, then how much of the ledger each lesson covers and what is missing.

    Reads the outputs stored in the notebooks and runs nothing.
    """
    notebooks = [Path(path) for path in notebooks]
    rows = []
    for path in notebooks:
        stored = reading.stored(path)
        held = other_seeds(path.name[:2], stored)
        rows += [_row(claim, path.name[:2], held.get(claim["id"], "")) for claim in stored]
    verdicts = [row[1] for row in rows]
    counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts)]
    table = words.aligned(
        [("lesson", "verdict", "other seeds", "claim", "sentence and what is required"), *rows],
        SENTENCE,
    )
    total = f"{len(rows)} claims: {', '.join(counts) or 'none'}"
    return "\n".join([*table, "", total, "", *_coverage(notebooks)]) + "\n"


def _row(claim: dict, lesson: str, held: str) -> tuple[str, ...]:
    sentence = textwrap.shorten(claim["sentence"], SENTENCE, placeholder=" ...")
    return lesson, claim["verdict"], held, claim["id"], f"{sentence} [{required(claim)}]"


def other_seeds(lesson: str, stored: Sequence[dict]) -> dict[str, str]:
    """In how many other seeds each claim of a lesson held, `{"eq-autoencoder": "5 of 10"}`, as seeds.py counted it.

    Empty where nothing was counted, or where the lesson claims more or less than when it was.
    """
    ids = {claim["id"] for claim in stored if "source" not in claim}  # quoted: not measured
    file = paths.root() / SEEDS
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == lesson and int(cells[2]) == len(ids):
            fewer = dict(re.findall(r"(\S+): (\d+)", cells[5]))
            return {id: f"{fewer.get(id, cells[1])} of {cells[1]}" for id in ids}
    return {}


def required(claim: dict) -> str:
    """What had to hold, in the order of the sentence (a notebook file sorts its names)."""
    if "source" in claim:
        return f"quoted from {claim['source']}"
    bounds = claim["required"]
    if "template" not in claim:
        return f"a table of {words.count(len(bounds), 'row')}"
    names = [
        name for _, name, _, _ in string.Formatter().parse(claim["template"]) if name in bounds
    ]
    return " · ".join(dict.fromkeys(bounds[name] for name in names))


def _coverage(notebooks: Sequence[Path]) -> list[str]:
    covered = {path.name[:2]: reading.cited(path) for path in notebooks}
    items: dict[str, list[str]] = {}
    for id, item in paths.ledger().items():
        items.setdefault(item["notebook"][:2], []).append(id)
    lines = ["ledger coverage"]
    for path in sorted(notebooks, key=lambda path: path.name):
        lesson = path.name[:2]
        ran = any(cell.get("execution_count") for cell in reading.cells(path))
        never = "" if ran else " (never run: its claims are not counted)"
        ids = items.get(lesson, [])
        missing = [id for id in ids if id not in covered[lesson]]
        lines.append(f"  {lesson}  {len(ids) - len(missing)} of {len(ids)}{never}")
        lines += [f"      not covered: {id}" for id in missing]
    anywhere = set().union(*covered.values())
    stored = {*covered, *paths.lessons()}
    waiting = [lesson for lesson in sorted(items) if lesson not in stored]
    if waiting:
        left = sum(id not in anywhere for lesson in waiting for id in items[lesson])
        lines.append(
            f"  not written yet: {len(waiting)} lessons with {left} open items ({', '.join(waiting)})"
        )
    lines.append(f"  all: {len(anywhere & set(paths.ledger()))} of {len(paths.ledger())}")
    return lines
