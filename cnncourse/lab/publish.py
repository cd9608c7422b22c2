"""Every figure of the course by one command: run the lessons whose inputs changed, publish what looks different.

A figure goes from the lesson's own run (build/runs/) to its published place only after the whole lesson succeeded,
and only if it does not look like the one that is there. So a failing lesson keeps its old figures, and a second
call leaves the working tree clean. The default preset is published in figures/, others in build/figures/.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cnncourse import figures as looks
from cnncourse import project
from cnncourse.errors import LessonError, MachineError, ParameterError
from cnncourse.lab import execute

ENDINGS = ("svg", "png")
NOT_INPUTS = (
    "lab/",
    "__main__.py",
    "exercises/",
    "claims/",
    "widgets.py",
)  # of the package: figures do not depend on them


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
    jobs: int = 1,
    preset: str = "default",
    style: Path | None = None,
    force: bool = False,
) -> int:
    """Regenerate the figures of the lessons whose inputs changed; returns 1 if a lesson failed, else 0.

    lessons: names, or none for all. jobs: lessons at a time, each with its share of the cores.
    preset, style: figures at another preset or in another style go to build/figures/<preset or style>/, never over
    the published ones. force: run the lessons even if nothing changed.
    Raises `MachineError` while another process does the same.
    """
    style = style or os.environ.get("CNNCOURSE_STYLE") or None
    target = _target(preset, style)
    lessons = list(lessons)
    every, slugs = not lessons, _slugs(lessons)
    work = project.build() / "make" / _name(target)
    if target != project.root() / "figures":
        print(
            f"figures go to {execute.near(target)}, the published ones stay as they are", flush=True
        )
    with _alone(target), _style(style):
        state = _State(target, preset)
        index = Index(target)
        due = [
            slug
            for slug in slugs
            if force or state.inputs(slug) != state.done(slug) or not index.intact(slug)
        ]
        outcomes = [
            Outcome(slug, figures=dict.fromkeys(index.of(slug), "same"), ran=False)
            for slug in slugs
            if slug not in due
        ]
        for outcome in _run_all(due, work, preset, jobs, state):
            if not outcome.error:
                try:
                    outcome.figures = index.publish(outcome.lesson, work / outcome.lesson)
                    state.finish(outcome.lesson, outcome.seconds)
                except (LessonError, OSError) as error:
                    outcome.error = str(error)
            outcomes.append(outcome)
        if every:
            outcomes += index.forget(set(slugs))
        index.gallery()
    return _report(outcomes, target)


def check(lessons: Iterable[str] = (), *, jobs: int = 1) -> int:
    """Regenerate figures in a scratch folder and compare with the published ones; returns 1 if anything differs.

    On the versions and processor that the published figure was made with, the bytes must be equal; elsewhere the
    pictures must look the same (see `figures.same_picture`).
    """
    target, lessons = project.root() / "figures", list(lessons)
    slugs = _slugs(lessons)
    work = project.build() / "make" / "check"
    with _alone(work), _style(None):
        index, different, compared = Index(target), [], 0
        for outcome in _run_all(slugs, work, "default", jobs, _State(target, "default")):
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


class Index:
    """The published figures of one folder: what index.json says of them, and the files beside it."""

    def __init__(self, target: Path):
        self.target, self.file = target, target / "index.json"
        try:
            self.entries: dict[str, dict] = (
                json.loads(self.file.read_text()) if self.file.exists() else {}
            )
        except ValueError as error:
            raise LessonError(
                "an index of figures",
                f"{error}",
                where=self.file,
                remedy="delete it: make figures writes it anew",
            ) from None

    def of(self, lesson: str) -> list[str]:
        """The ids of a lesson's published figures."""
        return sorted(id for id, entry in self.entries.items() if entry["lesson"] == lesson)

    def intact(self, lesson: str) -> bool:
        """Whether every published file of a lesson is there and is the one that the index means."""
        return all(self._is_published(id) for id in self.of(lesson))

    def publish(self, lesson: str, run: Path) -> dict[str, str]:
        """Take over the figures of a finished run; returns id to "new", "changed", "same" or "removed"."""
        provenance = json.loads((run / "provenance.json").read_text())
        made = self._made(lesson, run)
        states = {}
        for id, record in made.items():
            old = self.entries.get(id)
            files = {ending: f"{lesson}/{id}.{ending}" for ending in ENDINGS}
            same = old is not None and self._is_published(id) and self._looks_the_same(id, run)
            states[id] = "same" if same else "changed" if old else "new"
            if not same:
                for ending in ENDINGS:
                    project.write(
                        self.target / files[ending],
                        (run / "figures" / f"{id}.{ending}").read_bytes(),
                    )
            came_from = old if same else {"sha256": record["sha256"], "environment": _environment(record, provenance),
                                          "inches": record["inches"]}  # fmt: skip
            self.entries[id] = {
                "lesson": lesson, "files": files, "caption": record["caption"], "alt": record["alt"],
                "parameters": provenance["parameters"], "seed": provenance["seed"], "data": record["data"],
                **{key: came_from[key] for key in ("sha256", "environment", "inches")},
            }  # fmt: skip
        for id in set(self.of(lesson)) - set(made):
            del self.entries[id]
            states[id] = "removed"
        self._write()
        self._sweep(lesson)
        return states

    def compare(self, lesson: str, run: Path) -> list[str]:
        """How the figures of a finished run differ from the published ones, a line each."""
        provenance = json.loads((run / "provenance.json").read_text())
        made, published = self._made(lesson, run), self.of(lesson)
        found = [f"{id}: made by {lesson}, but not published" for id in made if id not in published]
        for id in published:
            entry = self.entries[id]
            if id not in made:
                found.append(f"{id}: published, but {lesson} does not make it any more")
            elif not self._is_published(id):
                found.append(f"{id}: the published files are not those of index.json (sha256)")
            elif entry["environment"] == _environment(made[id], provenance):
                changed = [
                    ending
                    for ending in ENDINGS
                    if entry["sha256"][ending] != made[id]["sha256"][ending]
                ]
                if changed:
                    how = "looks the same" if self._looks_the_same(id, run) else "looks different"
                    found.append(
                        f"{id}: other bytes in {' and '.join(changed)} on the same environment ({how})"
                    )
            elif not self._looks_the_same(id, run):
                found.append(
                    f"{id}: looks different (on another environment, where bytes are not compared)"
                )
            if id in made and (entry["caption"], entry["alt"]) != (
                made[id]["caption"],
                made[id]["alt"],
            ):
                found.append(f"{id}: another caption or alternative text")
        return found

    def forget(self, lessons: set[str]) -> list[Outcome]:
        """Remove the figures of lessons that no longer exist."""
        gone = sorted({entry["lesson"] for entry in self.entries.values()} - lessons)
        outcomes = []
        for lesson in gone:
            outcomes.append(
                Outcome(lesson, figures=dict.fromkeys(self.of(lesson), "removed"), ran=False)
            )
            for id in self.of(lesson):
                del self.entries[id]
            self._write()
            self._sweep(lesson)
        return outcomes

    def gallery(self) -> None:
        """Write README.md: every figure with caption, alternative text and links, lesson by lesson."""
        up = os.path.relpath(project.root() / "notebooks", self.target).replace(os.sep, "/")
        lines = ["# Figures", "", "Every figure of the course, made by `make figures` from the lesson above it.",
                 "Click a picture for its vector version.",
                 "`index.json` says with which parameters, seed, data and versions each was made.", ""]  # fmt: skip
        for lesson in sorted({entry["lesson"] for entry in self.entries.values()}):
            lines += [f"## [{_title(lesson)}]({up}/{lesson}.ipynb)", ""]
            for id in self.of(lesson):
                entry = self.entries[id]
                alt = re.sub(r"([\[\]])", r"\\\1", " ".join(entry["alt"].split()))
                lines += [f"### {id}", "", f"[![{alt}]({entry['files']['png']})]({entry['files']['svg']})", "",
                          " ".join(entry["caption"].split()), "",
                          f"*In words:* {' '.join(entry['alt'].split())}", ""]  # fmt: skip
        if not self.entries:
            lines += ["None yet.", ""]
        self._write_if_new(self.target / "README.md", "\n".join(lines))

    def _made(self, lesson: str, run: Path) -> dict[str, dict]:
        made = {}
        for file in sorted((run / "figures").glob("*.json")):
            record = json.loads(file.read_text())
            id = record["id"]
            owner = self.entries.get(id, {}).get("lesson", lesson)
            if record["lesson"] != lesson or (owner != lesson and owner in _slugs(())):
                raise LessonError(
                    f"figures that belong to {lesson}",
                    f"{id} of {owner if record['lesson'] == lesson else record['lesson']}",
                    where=lesson,
                    remedy="choose another id, or move the item in notebooks/ledger.yaml to this lesson",
                )
            for ending in ENDINGS:
                if _sha256(file.parent / f"{id}.{ending}") != record["sha256"][ending]:
                    raise LessonError(
                        f"{id}.{ending} as the lesson wrote it",
                        "another file",
                        where=run / "figures",
                        remedy="run make figures again, and nothing beside it in build/",
                    )
            made[id] = record
        return made

    def _is_published(self, id: str) -> bool:
        entry = self.entries[id]
        return all(
            _sha256(self.target / entry["files"][ending]) == entry["sha256"][ending]
            for ending in ENDINGS
        )

    def _looks_the_same(self, id: str, run: Path) -> bool:
        return looks.same_picture(
            self.target / self.entries[id]["files"]["png"], run / "figures" / f"{id}.png"
        )

    def _write(self) -> None:
        self._write_if_new(
            self.file, json.dumps(self.entries, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        )

    def _write_if_new(self, path: Path, content: str) -> None:
        if not path.exists() or path.read_text() != content:
            project.write(path, content)

    def _sweep(self, lesson: str) -> None:
        """Remove pictures that the index does not mean, such as those of an interrupted call."""
        wanted = {
            self.target / name
            for id in self.of(lesson)
            for name in self.entries[id]["files"].values()
        }
        folder = self.target / lesson
        for path in [path for ending in ENDINGS for path in folder.glob(f"*.{ending}")]:
            if path not in wanted:
                path.unlink()
        for path in folder.glob(".*.*"):  # left by a process that was killed while writing
            path.unlink()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


class _State:
    """What the last successful run of every lesson was made from; kept in build/, so a fresh clone runs everything."""

    def __init__(self, target: Path, preset: str):
        self.file = project.build() / "figures" / f"{_name(target)}.state.json"
        self.preset = preset
        try:
            self.known = json.loads(self.file.read_text()) if self.file.exists() else {}
        except ValueError:
            self.known = {}  # a cache: without it everything runs
        self.package = _package_digest()
        self.current: dict[str, str] = {}

    def inputs(self, lesson: str) -> str:
        """A digest of all that the figures of a lesson are made from: source, parameters, package, versions, style."""
        if lesson not in self.current:
            sources = execute.sources_digest(execute.load(execute.find(lesson)))
            files = [
                project.root() / "requirements.lock",
                Path(os.environ.get("CNNCOURSE_STYLE") or "/nowhere"),
            ]
            said = [sources, execute.preset(self.preset, lesson), self.package, execute.versions(),
                    *(_sha256(file) for file in files)]  # fmt: skip
            self.current[lesson] = hashlib.sha256(
                json.dumps(said, default=str).encode()
            ).hexdigest()
        return self.current[lesson]

    def done(self, lesson: str) -> str | None:
        return self.known.get(lesson, {}).get("inputs")

    def seconds(self, lesson: str) -> float:
        return self.known.get(lesson, {}).get(
            "seconds", float("inf")
        )  # never seen: it may be long, so it comes first

    def finish(self, lesson: str, seconds: float) -> None:
        self.known[lesson] = {"inputs": self.inputs(lesson), "seconds": round(seconds, 1)}
        project.write(self.file, json.dumps(self.known, indent=1, sort_keys=True) + "\n")


def _run_all(
    lessons: list[str], work: Path, preset: str, jobs: int, state: _State
) -> Iterator[Outcome]:
    """Run lessons in processes of their own, the longest first, and give each outcome as soon as it is known."""
    for lesson in lessons:
        state.inputs(lesson)  # before it runs: an edit meanwhile must not count as done
    running: set[subprocess.Popen] = set()
    stop = threading.Event()
    share = max(1, project.cores() // max(1, min(jobs, len(lessons))))

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
            env=os.environ | {"JOBS": str(share)},
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
    print(f"\n{counted or 'no figures'}; {ended}; {execute.near(target)}")
    for outcome in failed:
        print(f"\n{outcome.lesson} failed:\n{outcome.error}", file=sys.stderr)
    return int(bool(failed))


def _target(preset: str, style: str | Path | None) -> Path:
    if preset == "default" and style is None:
        return project.root() / "figures"
    words = ([] if preset == "default" else [preset]) + ([Path(style).stem] if style else [])
    return project.build() / "figures" / "-".join(words)


def _name(target: Path) -> str:
    return "published" if target == project.root() / "figures" else target.name


def _slugs(lessons: Iterable[str]) -> list[str]:
    folder = project.root() / "notebooks"
    known = {
        path.stem
        for path in (*folder.glob("[0-9][0-9]_*.ipynb"), *(folder / "text").glob("[0-9][0-9]_*.py"))
    }
    return sorted({execute.find(name).stem for name in lessons} or known)


def _title(lesson: str) -> str:
    first = next(
        (
            cell.source
            for cell in execute.load(execute.find(lesson)).cells
            if cell.cell_type == "markdown"
        ),
        lesson,
    )
    return first.strip().splitlines()[0].lstrip("# ")


def _environment(record: dict, provenance: dict) -> dict[str, str]:
    """What the bytes of a figure depend on besides the lesson: curves of float32 also on the processor."""
    versions = {
        name: version for name, version in provenance["versions"].items() if name != "python"
    }
    return versions | record["versions"] | {"system": f"{platform.system()} {platform.machine()}",
                                            "processor": str(provenance.get("device_name") or "")}  # fmt: skip


def _package_digest() -> str:
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        name = path.relative_to(package).as_posix()
        if path.is_file() and "__pycache__" not in name and not name.startswith(NOT_INPUTS):
            digest.update(f"{name} {_sha256(path)}\n".encode())
    return digest.hexdigest()


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


@contextmanager
def _style(style: str | Path | None) -> Iterator[None]:
    """CNNCOURSE_STYLE for the lessons that run meanwhile; None: the course's own look."""
    before = os.environ.pop("CNNCOURSE_STYLE", None)
    if style is not None:
        if not Path(style).is_file():
            raise ParameterError(
                "a matplotlib style file", repr(str(style)), where="--style", remedy="give its path"
            )
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
    import filelock

    folder = project.build() / "figures"
    name = folder / f".{target.name}.lock"
    holder = name.with_suffix(".pid")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(name, timeout=0):
            holder.write_text(str(os.getpid()))
            yield
    except filelock.Timeout:
        who = holder.read_text() if holder.exists() else "unknown"
        raise MachineError(
            "no other process that makes figures",
            f"process {who}",
            where=name,
            remedy="wait until it is done, or stop it",
        ) from None
    except PermissionError as error:
        raise MachineError(
            "a folder to publish figures in", str(error), where=target, remedy="make it writable"
        ) from None
