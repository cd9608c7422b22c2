"""Every figure of the course by one command: run the lessons whose inputs changed, publish what looks different.

A figure goes from the lesson's own run (build/runs/) to its published place only after the whole lesson succeeded,
and only if it does not look like the one that is there. So a failing lesson keeps its old figures, and a second
call leaves the working tree clean. The default preset is published in figures/, others in build/figures/.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cnncourse import machine, paths
from cnncourse.errors import LessonError, MachineError, ParameterError
from cnncourse.lab import execute, explorers, front
from cnncourse.lab.gallery import Index
from cnncourse.lab.inputs import State, folder_name
from cnncourse.lab.lesson import Lesson


@dataclass
class Outcome:
    """What became of one lesson: its figures by state, or why it failed."""

    lesson: str
    seconds: float = 0.0
    figures: dict[str, str] = field(default_factory=dict)  # id: "new", "changed", "same", "removed"
    error: str = ""
    ran: bool = True


def figures(
    lessons: Iterable[str] = (),
    *,
    jobs: int | None = None,
    preset: str = "default",
    style: Path | None = None,
    force: bool = False,
) -> int:
    """Regenerate the figures of the lessons whose inputs changed; returns 1 if a lesson failed, else 0.

    lessons: names, or none for all. jobs: lessons at a time (default: one a core), each with its share of the cores.
    preset, style: figures at another preset or in another style go to build/figures/<preset or style>/, never over
    the published ones. force: run the lessons even if nothing changed.
    Raises `MachineError` while another process does the same.
    """
    lessons = list(lessons)
    chosen = Lesson.some(lessons)
    settings = {
        lesson.slug: lesson.settings({}, preset) for lesson in chosen
    }  # all that may be refused is, first
    style = chosen_style(style)
    every, slugs, target = not lessons, list(settings), target_folder(preset, style)
    work = paths.build() / "make" / folder_name(target)
    if target != paths.root() / "figures":
        print(
            f"figures go to {paths.shown(target)}, the published ones stay as they are", flush=True
        )
    with _alone(target), in_style(style):
        state = State(target, preset)
        index = Index(target)
        due = [
            slug
            for slug in slugs
            if force or state.inputs(slug) != state.done(slug) or not index.intact(slug)
        ]
        for lesson in chosen:
            if lesson.slug in due:
                own = {name: known.default for name, known in lesson.parameters.items()}
                execute.data_is_there(lesson, own | settings[lesson.slug])
        outcomes = [
            Outcome(slug, figures=dict.fromkeys(index.of(slug), "same"), ran=False)
            for slug in slugs
            if slug not in due
        ]
        for outcome in _run_all(due, work, preset, jobs or machine.cores(), state):
            if not outcome.error:
                try:
                    outcome.figures = index.publish(outcome.lesson, work / outcome.lesson)
                    state.finish(outcome.lesson, outcome.seconds)
                except (LessonError, OSError) as error:
                    outcome.error = str(error)
            outcomes.append(outcome)
        if every:
            outcomes += [
                Outcome(lesson, figures=dict.fromkeys(ids, "removed"), ran=False)
                for lesson, ids in index.forget(set(slugs)).items()
            ]
        index.gallery()
        if target == paths.root() / "figures":
            front.update(index.entries)
    return _report(outcomes, target)


def store(lessons: Iterable[str]) -> int:
    """Run lessons at their defaults, store outputs in notebooks/ and publish the figures of the same runs; returns 0.

    One run for both: what a notebook shows and what is published are the same bytes. The course's own look is used,
    whatever CNNCOURSE_STYLE says. Raises `LessonError` when a lesson fails, whose notebook and figures stay.
    """
    chosen, target = Lesson.some(list(lessons)), paths.root() / "figures"
    outcomes = []
    with _alone(target), in_style(None):
        state, index = State(target, "default"), Index(target)
        for lesson in chosen:
            state.inputs(lesson.slug)  # before it runs: an edit meanwhile must not count as done
            result = execute.store(lesson.slug)
            made = index.publish(lesson.slug, result.folder, stored=True)
            explorers.publish(lesson.slug, result.folder / explorers.FOLDER, target)
            state.finish(lesson.slug, result.seconds)
            outcomes.append(Outcome(lesson.slug, result.seconds, made))
            index.gallery()  # after each: a later lesson may fail
            front.update(index.entries)
    return _report(outcomes, target)


def check(lessons: Iterable[str] = (), *, jobs: int | None = None) -> int:
    """Regenerate figures in a scratch folder and compare with the published ones; returns 1 if anything differs.

    On the versions and processor that the published figure was made with, the bytes must be equal; elsewhere the
    pictures must look the same (see `figures.same_picture`).
    """
    target, lessons = paths.root() / "figures", list(lessons)
    slugs = [lesson.slug for lesson in Lesson.some(lessons)]
    work = paths.build() / "make" / "check"
    with _alone(work), in_style(None):
        index, different, compared = Index(target), [], 0
        for outcome in _run_all(
            slugs, work, "default", jobs or machine.cores(), State(target, "default")
        ):
            if outcome.error:
                different.append(outcome.error)
                continue
            found = index.compare(outcome.lesson, work / outcome.lesson)
            compared += len(index.of(outcome.lesson))
            different += found
        if not lessons:
            gone = [
                (id, entry["lesson"])
                for id, entry in index.entries.items()
                if entry["lesson"] not in slugs
            ]
            different += [
                f"{id}: published, but its lesson {lesson} is gone" for id, lesson in gone
            ]
    found = f"{len(different)} differences:" if different else "no difference"
    print(f"{compared} published figures compared with new ones: {found}")
    print("\n".join(f"  {line}" for line in different))
    return int(bool(different))


def _run_all(
    lessons: list[str], work: Path, preset: str, jobs: int, state: State
) -> Iterator[Outcome]:
    """Run lessons in processes of their own, the longest first, and give each outcome as soon as it is known."""
    for lesson in lessons:
        state.inputs(lesson)  # before it runs: an edit meanwhile must not count as done
    running: set[subprocess.Popen] = set()
    stop = threading.Event()
    share = max(1, machine.cores() // max(1, min(jobs, len(lessons))))

    def one(lesson: str) -> Outcome:
        if stop.is_set():
            return Outcome(lesson, error="interrupted")
        folder = work / lesson
        shutil.rmtree(folder, ignore_errors=True)
        # One thread at the default preset: sums of float32 depend on the number of threads, figures must not.
        threads = 1 if preset == "default" else share
        command = [sys.executable, "-m", "cnncourse", "run", lesson, "--preset", preset, "--out", str(folder),
                   "--threads", str(threads)]  # fmt: skip
        begin = time.perf_counter()
        with subprocess.Popen(
            command,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            running.add(process)
            error = _relay(process)
        running.discard(process)
        if process.returncode and not error:
            error = f"{lesson}: its process ended with status {process.returncode}"
        return Outcome(
            lesson, time.perf_counter() - begin, error=error if process.returncode else ""
        )

    order = sorted(lessons, key=lambda lesson: (-state.seconds(lesson), lesson))
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        waiting = {pool.submit(one, lesson) for lesson in order}
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        except BaseException:
            stop.set()
            for process in list(running):
                process.terminate()  # the lesson's process ends its kernel; SIGINT would be ignored below nohup or "&"
            raise


def _relay(process: subprocess.Popen) -> str:
    """Show what a lesson's process says, line by line; returns its error, if it tells one."""
    error: list[str] = []
    for line in process.stderr:
        if error or re.match(r"(\w+Error|Traceback)\b", line):
            error.append(line.rstrip())
        else:
            print(f"  {line}", end="", flush=True)
    return "\n".join(error)


def _report(outcomes: list[Outcome], target: Path) -> int:
    outcomes = sorted(outcomes, key=lambda outcome: outcome.lesson)
    rows = [("figure", "lesson", "state", "seconds")]
    for outcome in outcomes:
        seconds = f"{outcome.seconds:.1f}" if outcome.ran else "-"
        for id, state in sorted(outcome.figures.items()):
            rows.append((id, outcome.lesson, state, seconds))
        if outcome.error:
            rows.append(("(all its figures)", outcome.lesson, "FAILED, kept", seconds))
        elif not outcome.figures:
            rows.append(("(none)", outcome.lesson, "-", seconds))
    wide = [max(len(row[column]) for row in rows) for column in range(4)]
    print()
    for row in rows:
        print(
            "  ".join(
                cell.ljust(wide[at]) if at < 3 else cell.rjust(wide[at])
                for at, cell in enumerate(row)
            )
        )
    states = [state for outcome in outcomes for state in outcome.figures.values()]
    counted = ", ".join(
        f"{states.count(state)} {state}"
        for state in ("new", "changed", "same", "removed")
        if state in states
    )
    ran = sum(outcome.ran for outcome in outcomes)
    failed = [outcome for outcome in outcomes if outcome.error]
    ended = f"{ran} of {len(outcomes)} lessons ran, {len(failed)} failed"
    print(f"\n{counted or 'no figures'}; {ended}; {paths.shown(target)}")
    for outcome in failed:
        print(f"\n{outcome.lesson} failed:\n{outcome.error}", file=sys.stderr)
    return int(bool(failed))


def chosen_style(style: Path | None) -> str | Path | None:
    """The style file that was given, or that CNNCOURSE_STYLE names; None for the course's own look."""
    style = style or os.environ.get("CNNCOURSE_STYLE") or None
    if style and not Path(style).is_file():
        raise ParameterError(
            "a matplotlib style file", repr(str(style)), where="--style", remedy="give its path"
        )
    return style


def target_folder(preset: str, style: str | Path | None) -> Path:
    if preset == "default" and style is None:
        return paths.root() / "figures"
    words = ([] if preset == "default" else [preset]) + (
        [f"style-{Path(style).stem}"] if style else []
    )
    return paths.build() / "figures" / "-".join(words)


@contextmanager
def in_style(style: str | Path | None) -> Iterator[None]:
    """CNNCOURSE_STYLE for the lessons that run meanwhile; None: the course's own look."""
    before = os.environ.pop("CNNCOURSE_STYLE", None)
    if style is not None:
        os.environ["CNNCOURSE_STYLE"] = str(Path(style).resolve())
    try:
        yield
    finally:
        os.environ.pop("CNNCOURSE_STYLE", None)
        if before is not None:
            os.environ["CNNCOURSE_STYLE"] = before


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Hold the lock of a target folder: two processes that publish into it would undo each other's work."""
    folder = paths.build() / "figures"
    lock = folder / f".{target.name}.lock"
    remedy = "wait until it is done, or stop it"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for place in (target, *(path for path in target.glob("*") if path.is_dir())):
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place):  # now, not when the lessons have run
                pass
        with machine.alone(lock, "no other process that makes figures", where=lock, remedy=remedy):
            yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise MachineError(
            "a folder to publish figures in", str(error), where=target, remedy="make it writable"
        ) from None
