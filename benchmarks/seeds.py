"""In how many of ten other seeds does each claim of a lesson hold?

    python benchmarks/seeds.py                       all lessons, about ten minutes of one core each
    python benchmarks/seeds.py 04 14 --seeds 3       some of them, with three seeds
    python benchmarks/seeds.py 04 --store            write RESULTS-seeds.md, row by row; rows of other lessons stay

Each lesson runs as a student would run it, `run NN -p seed …`, on seeds that it is not published on: its own plus
1,000, 2,000, …; a list of seeds is moved as a whole. Away from its defaults a claim reports and never raises, so that
a lesson runs through; `stopped` counts the runs that did not. A claim that is made in a run and does not hold there is
named. Exit status 1 when a lesson stopped.
"""

from __future__ import annotations

import argparse
import collections
import sys
import tempfile
from pathlib import Path

import _printing as printing

from cnncourse import claims, paths
from cnncourse.errors import LessonError
from cnncourse.lab import coverage, execute, grid
from cnncourse.lab.lesson import Lesson

COLUMNS = ("lesson", "seeds", "claims", "hold in every run", "stopped", "hold in fewer")
RESULTS = paths.root() / coverage.SEEDS
INTRODUCTION = """# In how many seeds each claim holds

`python benchmarks/seeds.py --store` wrote this, one lesson after the other, on the CPU. Every lesson ran with as many
seeds other than its own as the second column says. "x: 7" in the last column: the claim x held in 7 of these runs.
"""


def row(lesson: Lesson, seeds: int) -> tuple[str, int, int, int, int, str]:
    """One line of the table."""
    made, held, stopped = collections.Counter(), collections.Counter(), 0
    for number in range(1, seeds + 1):
        given = grid.seeds_of(lesson, {}, grid.SEED_STEP * number)
        with tempfile.TemporaryDirectory() as folder:
            try:
                result = execute.run(
                    lesson, parameters=given, out=Path(folder), threads=1, progress=False
                )
            except LessonError as error:
                print(f"{lesson.number} with {given}: {error}", file=sys.stderr, flush=True)
                stopped += 1
                continue
            for claim in claims.stored(result.notebook):
                if "source" not in claim:  # quoted: not measured
                    made[claim["id"]] += 1
                    held[claim["id"]] += claim["verdict"] == "holds"
    fewer = {id: held[id] for id in made if held[id] < seeds}
    told = " · ".join(f"{id}: {count}" for id, count in sorted(fewer.items())) or "none"
    return lesson.number, seeds, len(made), len(made) - len(fewer), stopped, told


def stored_rows() -> dict[str, str]:
    """The rows of earlier runs, by lesson."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.is_file() else ""
    return {line[2:4]: line for line in text.splitlines() if line[2:4].isdigit()}


def main() -> int:
    parser = argparse.ArgumentParser(description="In how many seeds each claim holds.")
    parser.add_argument("lessons", nargs="*", help="numbers or names; none means all")
    parser.add_argument("--seeds", type=int, default=10, help="how many other seeds (default 10)")
    parser.add_argument("--store", action="store_true", help="write benchmarks/RESULTS-seeds.md")
    given = parser.parse_args()
    print(printing.head(COLUMNS), flush=True)
    stopped = 0
    for lesson in Lesson.some(given.lessons):
        found = row(lesson, given.seeds)
        stopped += found[4]
        print(printing.row(found), flush=True)
        if given.store:
            rows = stored_rows() | {lesson.number: printing.row(found)}
            lines = [INTRODUCTION, printing.head(COLUMNS), *(rows[one] for one in sorted(rows))]
            RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(bool(stopped))


if __name__ == "__main__":
    sys.exit(main())
