"""Run every test of the course: unit tests, anatomy of the lessons, and their stored numbers through nbval."""

from __future__ import annotations

import os
import subprocess
import sys

from cnncourse import machine, paths
from cnncourse.errors import ParameterError, nearest
from cnncourse.lab.lesson import Lesson

CELL_TIMEOUT = 300  # seconds; a dead kernel or an endless loop ends here, the slowest cell takes about 40 on two cores


OLDER = {  # for torch, oneDNN, MKL, OpenBLAS: other instructions add in another order and round otherwise
    "avx2": ("avx2", "AVX2", "AVX2", "Haswell"),
    "sse4": ("default", "SSE41", "SSE4_2", "Nehalem"),
}
LIBRARIES = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "MKL_ENABLE_INSTRUCTIONS",
    "OPENBLAS_CORETYPE",
)


def run(
    jobs: int | None = None, lessons: list[str] | None = None, instructions: str | None = None
) -> int:
    """Run the suite in `jobs` processes (default: one a core, at most eight) and return pytest's exit status.

    With `lessons`, only these are executed and compared, and their own tests run: ``run(lessons=["04"])``.
    With `instructions`, a name in `OLDER`, only lessons are executed and compared, and compute with no newer
    instructions than these: whatever moves then depends on the processor.
    Lessons compute with one thread, as when their outputs were stored: the last bits of a sum differ with the count.
    """
    jobs = jobs or min(machine.cores(), 8)
    chosen = [lesson for lesson in Lesson.some(lessons or ()) if lesson.notebook.is_file()]
    notebooks = [str(lesson.notebook) for lesson in chosen]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval",
        f"--nbval-cell-timeout={CELL_TIMEOUT}",
        *notebooks,
    ]
    own = [paths.root() / "tests" / f"test_lesson_{lesson.number}.py" for lesson in chosen]
    if not instructions:
        command += [str(path) for path in own if path.is_file()] if lessons else ["tests"]
    if jobs > 1:
        command += [
            "--numprocesses",
            str(jobs),
            "--dist",
            "loadscope",
        ]  # a lesson's cells stay on one kernel
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CNNCOURSE_THREADS": "1"}
    if instructions:
        environment |= dict(zip(LIBRARIES, OLDER[instructions], strict=True))
    return subprocess.run(command, cwd=paths.root(), env=environment, check=False).returncode


def bench(names: list[str] | None = None) -> int:
    """Run benchmarks/*.py one after another, all or those named, and return 1 if any failed, else 0."""
    known = {path.stem: path for path in sorted((paths.root() / "benchmarks").glob("[a-z]*.py"))}
    failed = []
    for name in names or known:
        if name not in known:
            raise ParameterError(
                "the name of a benchmark",
                repr(name),
                where="benchmarks/",
                remedy=nearest(name, known),
            )
        print(f"== {name}", flush=True)
        if subprocess.run(
            [sys.executable, str(known[name])], cwd=paths.root(), check=False
        ).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)
