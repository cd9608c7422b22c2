"""What a result was made on, for its record: cores, versions of packages, the commit of the working tree."""

from __future__ import annotations

import os
import subprocess
from importlib import metadata
from pathlib import Path

from cnncourse import paths


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
