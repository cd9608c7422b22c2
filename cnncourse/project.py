"""The former name of `paths` and `machine`, for modules that still say it; it goes with the last of them."""

from cnncourse.machine import commit, cores, versions
from cnncourse.paths import build, ledger, lesson, lessons, root, write

__all__ = ["build", "commit", "cores", "ledger", "lesson", "lessons", "root", "versions", "write"]
