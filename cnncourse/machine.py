"""What a result was made on, for its record: cores, versions of packages, the commit of the working tree."""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from cnncourse import paths
from cnncourse.errors import MachineError

PIECE = 1.42e-3  # seconds of a piece of `Pace` on the course's core (Xeon, 2020s) when nothing disturbs it
EVERY = 0.5  # seconds from one to the next: less than a hundredth of a core


def cores() -> int:
    """Processor cores that this process may use (a container or `taskset` may allow fewer than the machine has)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def versions(*packages: str) -> dict[str, str]:
    """Package to its installed version, found without importing it: ``versions("torch") == {"torch": "2.14.1"}``."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def package_file(package: str, name: str) -> Path:
    """A file that an installed package ships, found without importing it; `MachineError` where there is none.

    >>> package_file("torch", "torch/version.py").name
    'version.py'
    """
    try:
        file = Path(metadata.distribution(package).locate_file(name))
    except metadata.PackageNotFoundError:
        file = None
    if file is None or not file.is_file():
        raise MachineError(
            f"the file {name} of the package {package}",
            "no such file",
            where="this Python's packages",
            remedy=f"make figures installs what requirements.lock names; or pip install {package}",
        )
    return file


@contextlib.contextmanager
def alone(lock: Path, expected: str, *, where: object, remedy: str) -> Iterator[None]:
    """Hold a lock of one file; whoever comes meanwhile gets a `MachineError` that names the process which has it.

    >>> with alone(folder / ".lock", "no other sweep in this folder", where=folder, remedy="wait until it is done"):
    ...     write(folder)
    """
    import filelock

    holder = lock.with_suffix(".pid")
    try:
        with filelock.FileLock(lock, timeout=0):
            holder.write_text(f"{os.getpid()} on {socket.gethostname()}")
            yield
    except filelock.Timeout:
        who = holder.read_text() if holder.is_file() else "that has just begun"
        raise MachineError(expected, f"process {who}", where=where, remedy=remedy) from None


def commit() -> dict[str, object]:
    """The commit of the working tree and whether files differ from it; None and None outside a repository.

    A repository that merely encloses the course, such as one of a home folder, is not the course's own: it counts
    as none.
    """

    def git(*words: str) -> str:
        asked = subprocess.run(
            ["git", *words], cwd=paths.root(), capture_output=True, text=True, check=True
        )
        return asked.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != paths.root().resolve():
            return {"commit": None, "changed": None}
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "changed": None}


class Pace:
    """How much slower than the course's own core the cores of this machine are while a block runs.

    A core that shares its caches and its clock with other programs works up to twice as long at the same thing, so
    that seconds of different hours cannot be compared; seconds divided by the pace can. A fixed piece of Python,
    BLAS and elementwise numpy is timed twice a second, in processor time, by a thread of its own.

    >>> with Pace() as pace:
    ...     result = run("04")
    >>> result.provenance["core_seconds"] / pace.slowness()  # seconds of the course's core

    clock: what a piece is timed with, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.thread_time):
        import numpy as np  # not above: the doctor speaks on a bare Python

        self.clock, self.pieces = clock, []
        self.tanh = np.tanh
        self.square = np.linspace(-1, 1, 48 * 48, dtype=np.float32).reshape(48, 48)
        self.row = np.linspace(-1, 1, 50_000, dtype=np.float32)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Pace:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def slowness(self) -> float:
        """The mean over the pieces so far: 1 on the course's core, 2 where everything takes twice as long."""
        return statistics.mean(self.pieces) / PIECE

    def _watch(self) -> None:
        while True:
            self._work()  # once for the caches, then timed
            begin = self.clock()
            self._work()
            self.pieces.append(self.clock() - begin)
            if self._ended.wait(EVERY):
                return

    def _work(self) -> None:
        total = 0
        for number in range(20_000):
            total += number * number
        for _ in range(60):
            self.square @ self.square
        for _ in range(4):
            self.tanh(self.row) * self.row + self.row
