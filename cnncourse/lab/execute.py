"""Run a lesson from its first cell to its last on a fresh kernel, with other parameters or at its defaults."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import nbformat

from cnncourse import machine, paths
from cnncourse.errors import LessonError, MachineError, ParameterError
from cnncourse.lab import front, tolerance
from cnncourse.lab.lesson import Lesson
from cnncourse.parameters import Parameter  # noqa: F401 - who runs a lesson meets it here

DOWNLOADED = ("mnist", "fashion_mnist", "cifar10")  # sets that do not ship with the dependencies
CELL_TIMEOUT = {"default": 600}  # seconds a cell; other presets train for hours and have none


@dataclass(frozen=True)
class RunResult:
    """What a run left behind; `provenance` is what stands in provenance.json of its folder."""

    lesson: str  # "14_resnet"
    notebook: Path  # the executed copy
    folder: Path
    figures: Path
    parameters: dict[str, object]
    seconds: float
    provenance: dict


def run(
    lesson: str | int | Lesson,
    *,
    parameters: dict[str, object] | None = None,
    preset: str = "default",
    out: Path | None = None,
    timeout: float | None = None,
    threads: int | None = None,
    figures: Path | None = None,
    explorers: Path | None = None,
    first: str = "",
    progress: bool = True,
) -> RunResult:
    """Run a lesson on a fresh kernel and leave the executed copy, its figures and provenance.json in one folder.

    >>> run("14", parameters={"epochs": 2}).folder
    PosixPath('.../build/runs/14_resnet/default,epochs=2')

    parameters, preset: see `Lesson.settings`; names, types and ranges are checked before anything is written or runs.
    out: the folder, by default build/runs/<lesson>/<preset and parameters>/. figures: by default ``out / "figures"``.
        Of what is there already, only files that an earlier run of this lesson left are replaced.
    explorers: where to write the pictures that sliders show on a page without a kernel; none are made without it.
    first: a line of Python that the kernel runs before the first cell.
    timeout: seconds a cell may take (600 at the default preset, else no limit). threads: of torch and of OpenMP.
    Raises `LessonError` when a cell raises, takes too long or its kernel dies; the copy up to there is kept.
    """
    lesson = lesson if isinstance(lesson, Lesson) else Lesson.find(lesson)
    chosen = lesson.settings(parameters or {}, preset)
    own = {name: parameter.default for name, parameter in lesson.parameters.items()}
    effective = own | chosen
    data_is_there(lesson, effective)
    place = paths.build() / "runs" / lesson.slug / _name(preset, parameters or {})
    folder = Path(out) if out else place
    pictures = Path(figures) if figures else folder / "figures"
    record = folder / "record.jsonl"
    _make_room(lesson, folder, pictures)
    environment = os.environ | {
        "CNNCOURSE_FIGURES": str(pictures.resolve()),
        "CNNCOURSE_RECORD": str(record.resolve()),
        "CNNCOURSE_CWD": os.environ.get("CNNCOURSE_CWD")
        or os.getcwd(),  # own folders are named from here
    }
    if explorers:
        environment["CNNCOURSE_EXPLORERS"] = str(explorers.resolve())
    if threads:
        environment |= {"CNNCOURSE_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    facts = {"lesson": lesson.slug, "preset": preset, "parameters": effective, "seed": effective.get("seed"),
             "source": lesson.digest, "started": datetime.now(UTC).isoformat(timespec="seconds"),
             "versions": versions()} | machine.commit()  # fmt: skip
    executed = folder / f"{lesson.slug}.ipynb"
    watch = _Watch(lesson.slug, progress)
    limit = timeout if timeout is not None else CELL_TIMEOUT.get(preset)
    begin, status = time.perf_counter(), {"status": "failed"}
    spent = _children_seconds()
    try:
        _papermill(lesson, executed, chosen, watch, environment, limit, first)
        status = {"status": "complete"}
    except KeyboardInterrupt:
        status = {"status": "interrupted"}
        raise
    except LessonError as error:
        status |= {"error": str(error)}
        raise
    finally:
        seconds = round(time.perf_counter() - begin, 2)
        watch.end(seconds, whole=status["status"] == "complete")
        core = round(
            _children_seconds() - spent, 2
        )  # of the kernel: what other work on the machine does not move
        facts |= status | {"seconds": seconds, "core_seconds": core, "cells": watch.cells}
        facts |= _recorded(record)
        facts |= {"figures": sorted(file.stem for file in pictures.glob("*.svg"))}
        content = json.dumps(facts, indent=1, default=str, ensure_ascii=False)
        paths.write(folder / "provenance.json", content + "\n")
        record.unlink(missing_ok=True)
    return RunResult(lesson.slug, executed, folder, pictures, effective, seconds, facts)


def store(lesson: str | int, *, progress: bool = True, timeout: float | None = None) -> RunResult:
    """Run a lesson at its default parameters and write the notebook with its outputs; unchanged if the run fails.

    >>> store("04").lesson
    '04_convolution-arithmetic'

    What differs from run to run is taken out: times, papermill's notes, state of widgets, random cell ids. What it
    costs is said in seconds of the course's core, see `machine.Pace`: other programs and processors do not move it.
    """
    found = Lesson.find(lesson)
    folder = paths.build() / "store" / found.slug
    explorers = folder / "explorers"
    shutil.rmtree(explorers, ignore_errors=True)
    with machine.Pace() as pace:
        result = run(
            found, progress=progress, timeout=timeout, out=folder, explorers=explorers, threads=1
        )
    executed = normalised(nbformat.read(result.notebook, as_version=4))
    extra = sum(result.provenance["explorers"].values())  # pictures that no student waits for
    spent = (result.provenance["core_seconds"] - extra) / pace.slowness()
    executed.metadata.cnncourse["seconds"] = front.rounded(spent, front.cost(found.notebook))
    paths.write(found.notebook, nbformat.writes(executed) + "\n")
    return result


def _children_seconds() -> float:
    """Processor seconds of the child processes that have ended so far; 0 where the system does not count them."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def data_is_there(lesson: Lesson, effective: dict[str, object]) -> None:
    """Look at the data that a lesson is to read, before it runs: `DataError` says what is wrong and what to do.

    A set that was not downloaded, or a folder whose parts do not fit: a class too many, other sizes, a broken file.
    Sets that ship with the dependencies need no look.
    """
    size = effective.get("image_size") or None
    named = {name: value for name, value in effective.items() if _not_bundled(name, value)}
    if not named:
        return
    from cnncourse import data  # imports torch: only who needs it

    for name, value in named.items():
        if name == "corpus":
            data.text(value)
        elif name == "masks":
            data.masks_folder(value, size=size)
        elif value == "bccd":
            data.bccd()
        else:
            data.load(value, train=False, size=None if value in DOWNLOADED else size)


def _not_bundled(name: str, value: object) -> bool:
    """Whether a parameter names data that do not ship with the dependencies: a published set, or the user's own."""
    if not value or not isinstance(value, str):
        return False
    if value in (*DOWNLOADED, "bccd"):
        return True
    if name == "dataset":
        return paths.resolved(value).is_dir()
    return name == "masks" or (name == "corpus" and value != "descriptions")


def _make_room(lesson: Lesson, folder: Path, pictures: Path) -> None:
    """Make the folders of a run; of the files in them, remove figures that an earlier run of the lesson left."""
    published = paths.root() / "figures"
    if (
        pictures.resolve() == published.resolve()
        or published.resolve() in pictures.resolve().parents
    ):
        raise ParameterError(
            "a folder outside of the published figures",
            paths.shown(pictures),
            where=f"figures of a run of {lesson.slug}",
            remedy="choose another --out or --figures; make figures publishes",
        )
    try:
        pictures.mkdir(parents=True, exist_ok=True)
        for file in pictures.glob("*.json"):
            if _is_record(file, lesson):
                for ending in (".svg", ".png", ".json"):
                    file.with_name(file.stem + ending).unlink(missing_ok=True)
        (folder / "record.jsonl").unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(
            "a folder to write the run into",
            f"{folder}: {error}",
            where=f"run of {lesson.slug}",
            remedy="make room and the folder writable, or choose another one with --out",
        ) from error


def _is_record(file: Path, lesson: Lesson) -> bool:
    """Whether a file is what `figures.save` wrote beside a figure of this lesson."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        return record["id"] == file.stem and record["lesson"] == lesson.slug
    except (OSError, ValueError, TypeError, KeyError):
        return False


def normalised(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with nothing in it that differs from run to run, and with its sources noted as in step."""
    from cnncourse.lab import pairing

    clean = pairing.in_step(notebook)
    for count, cell in enumerate(
        (cell for cell in clean.cells if cell.cell_type == "code"), start=1
    ):
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
    return clean


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers and pictures depend on."""
    packages = ("torch", "torchvision", "numpy", "scikit-learn", "scikit-image", "matplotlib")
    return {"python": ".".join(map(str, sys.version_info[:3]))} | machine.versions(*packages)


class _Watch:
    """Follows a run cell by cell: a bar in a terminal, a line a section elsewhere, the seconds of every cell."""

    def __init__(self, lesson: str, progress: bool):
        self.lesson, self.progress, self.cells = lesson, progress, []
        self.terminal = progress and sys.stderr.isatty()
        self.current: int | None = None  # index of the cell that runs or ran last
        self.begin = 0.0

    def started(self, cell: nbformat.NotebookNode, cell_index: int) -> None:
        self.current, self.begin = cell_index, time.perf_counter()
        heading = re.match(r"#+ (.+)", cell.source) if cell.cell_type == "markdown" else None
        if self.progress and not self.terminal and heading:
            print(f"{self.lesson}: {heading[1]}", file=sys.stderr, flush=True)

    def finished(self, cell: nbformat.NotebookNode, cell_index: int, execute_reply: dict) -> None:
        if cell.cell_type == "code":
            first = cell.source.partition("\n")[0][:60]
            self.cells.append(
                {
                    "cell": cell_index,
                    "seconds": round(time.perf_counter() - self.begin, 3),
                    "first_line": first,
                }
            )

    def end(self, seconds: float, whole: bool) -> None:
        if self.progress:
            words = (
                f"{len(self.cells)} code cells in {seconds:.1f} s"
                if whole
                else f"stopped after {seconds:.1f} s"
            )
            print(f"{self.lesson}: {words}", file=sys.stderr, flush=True)


def _papermill(
    lesson: Lesson,
    executed: Path,
    chosen: dict,
    watch: _Watch,
    environment: dict,
    timeout: float | None,
    first: str = "",
) -> None:
    """Execute through papermill with our kernel's environment; every way to fail becomes a `LessonError`."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines

    options = ["--log-level=ERROR"] + [f"--IPKernelApp.exec_lines={first}"] * bool(first)

    class Client(PapermillNotebookClient):
        exit_status = None

        def papermill_execute_cells(self) -> None:
            try:
                super().papermill_execute_cells()
            except DeadKernelError:
                process = getattr(self.km.provisioner, "process", None)
                Client.exit_status = process.poll() if process else None
                raise

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, *, start_timeout=60, **_):
            client = Client(
                nb_man, kernel_name=kernel_name, timeout=timeout, startup_timeout=start_timeout,
                on_cell_start=watch.started, on_cell_executed=watch.finished,
                extra_arguments=options,
                shutdown_kernel="immediate",  # kills its whole process group: no waiting, no orphans
                resources={"metadata": {"path": str(lesson.notebook.parent)}},
            )  # fmt: skip
            written_to, nb_man.output_path = nb_man.output_path, None  # once, not after every cell
            try:
                client.execute(env=environment)
            finally:
                nb_man.output_path = written_to  # papermill writes it there, also what failed
                if (
                    client.km is not None and client.km.has_kernel
                ):  # interrupted between its start and its first cell
                    client._cleanup_kernel()

    for name in ("papermill", "traitlets"):
        logging.getLogger(name).setLevel(
            logging.CRITICAL
        )  # what they would say is said below, with a remedy
    papermill_engines.register("cnncourse", Engine)
    raw = paths.write(executed.with_suffix(".input.ipynb"), nbformat.writes(lesson.content))
    again = (
        f"correct the cell, then `python -m cnncourse run {watch.lesson[:2]}`; "
        f"the executed copy is {paths.shown(executed)}"
    )
    bar = (
        {"desc": watch.lesson, "file": sys.stderr, "leave": False, "dynamic_ncols": True}
        if watch.terminal
        else False
    )

    def place() -> str:
        if watch.current is None:
            return lesson.slug
        return f"{lesson.slug}, cell {_number(watch.current, lesson, chosen)}"

    try:
        papermill.execute_notebook(
            raw,
            executed,
            parameters=chosen,
            engine_name="cnncourse",
            kernel_name="python3",
            progress_bar=bar,
        )
    except papermill.PapermillExecutionError as error:
        cell = f"cell {_number(error.cell_index, lesson, chosen)} (`{_first_line(error.source)}`)"
        raise LessonError(
            f"every cell of {watch.lesson} to run",
            f"{error.ename}: {error.evalue}"[:2000],
            where=f"{cell}{_line(error)}",
            remedy=again,
        ) from None
    except CellTimeoutError:
        raise LessonError(
            f"every cell to end within {timeout:g} s",
            "a cell that was still running",
            where=place(),
            remedy="give more time with --timeout, or a smaller size with -p",
        ) from None
    except DeadKernelError:
        raise LessonError(
            "the kernel to live to the last cell",
            f"a dead kernel{_why(Client.exit_status)}",
            where=place(),
            remedy="free memory or choose a smaller size with -p, then run the lesson again",
        ) from None
    except RuntimeError as error:
        if "Kernel" not in str(error):
            raise
        raise LessonError(
            "a kernel that starts",
            str(error),
            where=watch.lesson,
            remedy="python -m cnncourse doctor checks the installation",
        ) from error
    finally:
        raw.unlink(missing_ok=True)


def _number(index: int, lesson: Lesson, chosen: dict) -> int:
    """Which cell of the lesson, from 1, ran at `index`: papermill puts other parameters into a cell of their own."""
    tagged = [cell.number for cell in lesson.cells if "parameters" in cell.tags]
    added = bool(chosen and tagged and index >= tagged[0])
    return index + 1 - added


def _first_line(source: str) -> str:
    return source.strip().partition("\n")[0][:70]


def _line(error) -> str:
    """The line of the failing cell, from IPython's traceback: ", line 3: x = f(y)"."""
    text = tolerance.without_colours("\n".join(error.traceback))
    places = re.findall(rf"(?:Cell )?In ?\[{error.exec_count}\],? line:? ?(\d+)", text)
    if not places:
        return ""
    number = int(places[-1])
    lines = error.source.splitlines()
    return (
        f", line {number}: {lines[number - 1].strip()}"
        if 0 < number <= len(lines)
        else f", line {number}"
    )


def _why(status: int | None) -> str:
    if status is None or status >= 0:
        return "" if status is None else f" (exit status {status})"
    name = signal.Signals(-status).name
    return (
        f" (signal {name}: mostly the machine ran out of memory)"
        if name == "SIGKILL"
        else f" (signal {name})"
    )


def _name(preset: str, given: dict[str, object]) -> str:
    """The folder of a run: "default", "full", "default,epochs=2"."""
    words = ",".join([preset, *(f"{name}={value}" for name, value in sorted(given.items()))])
    safe = re.sub(r"[^\w.,=+-]+", "_", words)
    return (
        safe if len(safe) <= 80 else f"{safe[:70]}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"
    )


def _recorded(record: Path) -> dict[str, object]:
    """What the lesson's own process noted: where it computed, which data it loaded, how each training ended."""
    lines = (
        [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    )
    found: dict[str, object] = {
        "device": None,
        "threads": None,
        "data": {},
        "explorers": {},
        "histories": [],
    }
    for line in lines:
        if line.get("kind") == "runtime":
            found |= {
                key: line[key]
                for key in ("device", "device_name", "dtype", "threads")
                if key in line
            }
        elif line.get("kind") == "data":
            found["data"] |= {line.get("name"): line.get("checksum")}
        elif line.get("kind") == "explorer":
            found["explorers"] |= {line["name"]: round(line["core_seconds"], 2)}
        elif line.get("kind") == "history":
            found["histories"].append(line["row"])
    return found
