"""Run every test of the course: unit tests, anatomy of the lessons, and their stored numbers through nbval."""

from __future__ import annotations

import os
import subprocess
import sys

from cnncourse import project

CELL_TIMEOUT = 300  # seconds; a dead kernel or an endless loop ends here, the slowest cell takes about 40 on two cores


def run(jobs: int | None = None, lessons: list[str] | None = None) -> int:
    """Run the suite in `jobs` processes (default: one a core, at most eight) and return pytest's exit status.

    With `lessons`, only these are executed and compared, without the unit tests: ``run(lessons=["04"])``.
    Every process computes with its share of the cores: two threads beside a busy process are slower than one.
    """
    jobs = jobs or min(project.cores(), 8)
    threads = str(max(1, project.cores() // jobs))
    notebooks = [str(project.lesson(name)) for name in lessons or project.lessons()]
    command = [sys.executable, "-m", "pytest", "--nbval", f"--nbval-cell-timeout={CELL_TIMEOUT}", *notebooks]
    if not lessons:
        command.append("tests")
    if jobs > 1:
        command += ["--numprocesses", str(jobs), "--dist", "loadscope"]  # a lesson's cells stay on one kernel
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "CNNCOURSE_THREADS": threads}
    return subprocess.run(command, cwd=project.root(), env=environment, check=False).returncode
