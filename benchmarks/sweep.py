"""What a sweep costs beside the points themselves: wall time of its workers over the sum of the points' own times.

    python benchmarks/sweep.py                     four runs of lesson 01 on two local workers
    python benchmarks/sweep.py --points 8 --store   write RESULTS-sweep.md

The wall time is that of the whole command, `python -m cnncourse sweep ...`, in a process of its own: from Python's
start through Dask's and the workers' to the last table and picture. A point's own time is that of its run
(`execute.run`), as its provenance says. Goal: at most 1.1. Workers that wait for the last point count too, so the goal
needs as many points as fill the workers; with more of them the ratio falls.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
import time
from pathlib import Path

import _printing as printing

from cnncourse import machine, paths, runtime

RESULTS = Path(__file__).parent / "RESULTS-sweep.md"
COLUMNS = (
    "lesson",
    "points",
    "workers",
    "seconds of all points",
    "wall seconds",
    "wall x workers / points",
    "most memory of a point, GB",
)


def row(lesson: str, points: int, workers: int) -> tuple:
    """One line of the table."""
    folder = paths.build() / "sweeps" / "benchmark"
    shutil.rmtree(folder, ignore_errors=True)  # points that finished earlier would cost nothing
    words = ["sweep", lesson, "--seeds", str(points), "--workers", str(workers)]
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "cnncourse", *words, "--name", folder.name],
        check=True,
        cwd=paths.root(),
        stdout=sys.stderr,
    )
    wall = time.perf_counter() - begin
    table = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    own = sum(float(line["seconds"]) for line in table)
    memory = max(float(line["memory_gb"]) for line in table)
    return lesson, points, workers, f"{own:.1f}", f"{wall:.1f}", wall * workers / own, memory


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lesson", default="01")
    parser.add_argument("--points", type=int, default=4, help="seeds (default 4)")
    parser.add_argument("--workers", type=int, default=2, help="local workers (default 2)")
    parser.add_argument("--store", action="store_true", help=f"write {RESULTS.name}")
    given = parser.parse_args()
    table = printing.table(COLUMNS, [row(given.lesson, given.points, given.workers)])
    print(table)
    if given.store:
        facts = runtime.environment()
        how = __doc__[__doc__.index("The wall time") :].strip()
        where = f"{facts['processor']}, {machine.cores()} cores"
        where += f"; Python {facts['python']}, torch {facts['torch']}"
        head = "# A sweep beside its points: `python benchmarks/sweep.py --store`"
        paths.write(RESULTS, f"{head}\n\n{how}\n\nMachine: {where}.\n\n{table}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
