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
import yaml

from cnncourse import project
from cnncourse.errors import LessonError, MachineError, ParameterError, nearest
from cnncourse.parameters import Parameter, parse

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


def find(lesson: str | int) -> Path:
    """The notebook's place in notebooks/, also of a lesson that exists only as a text twin so far."""
    folder = project.root() / "notebooks"
    stem = Path(str(lesson)).stem
    for twin in sorted((folder / "text").glob("[0-9][0-9]_*.py")):
        if stem in (twin.stem, twin.stem[3:]) or (
            stem.isdigit() and stem.zfill(2) == twin.stem[:2]
        ):
            return folder / f"{twin.stem}.ipynb"
    return project.lesson(lesson)


def load(notebook: Path) -> nbformat.NotebookNode:
    """The cells to run, without outputs: of the notebook or of its text, whichever changed since the last sync."""
    from cnncourse.lab import twins

    return twins.current(notebook)


def parameters(lesson: str | int) -> dict[str, Parameter]:
    """Name to `Parameter` of a lesson, as its `parameters` cell states them.

    >>> parameters("14")["epochs"].default
    10
    """
    notebook = find(lesson)
    return _parameters(load(notebook), notebook.stem)


def preset(name: str, lesson: str) -> dict[str, object]:
    """The parameters that a preset of notebooks/presets/ gives to a lesson ("14_resnet"), as texts; "default": none."""
    if name == "default":
        return {}
    folder = project.root() / "notebooks" / "presets"
    file = folder / f"{name}.yaml"
    if not file.is_file():
        known = ["default", *(path.stem for path in folder.glob("*.yaml"))]
        raise ParameterError(
            "the name of a preset",
            repr(name),
            where="notebooks/presets",
            remedy=nearest(name, known),
        )
    every = yaml.load(file.read_text(), Loader=yaml.BaseLoader) or {}  # texts: see Parameter.value
    return dict(every.get(lesson[:2]) or {})


def settings(
    lesson: str | int, given: dict[str, object], preset_name: str = "default"
) -> dict[str, object]:
    """Only the parameters that differ from the lesson's own: preset first, then what was given, all checked."""
    known = parameters(lesson)
    slug = find(lesson).stem
    chosen = {}
    sources = [(f"notebooks/presets/{preset_name}.yaml", preset(preset_name, slug)), ("-p", given)]
    for where, values in sources:
        for name, value in values.items():
            if name not in known:
                raise ParameterError(
                    f"a parameter of lesson {slug}",
                    repr(name),
                    where=where,
                    remedy=nearest(name, known),
                )
            chosen[name] = known[name].value(value, where=f"{where} of lesson {slug}")
    return chosen


def run(
    lesson: str | int,
    *,
    parameters: dict[str, object] | None = None,
    preset: str = "default",
    out: Path | None = None,
    timeout: float | None = None,
    threads: int | None = None,
    figures: Path | None = None,
    progress: bool = True,
) -> RunResult:
    """Run a lesson on a fresh kernel and leave the executed copy, its figures and provenance.json in one folder.

    >>> run("14", parameters={"epochs": 2}).folder
    PosixPath('.../build/runs/14_resnet/default,epochs=2')

    parameters, preset: see `settings`; unknown names and values of another type are refused before anything runs.
    out: the folder, by default build/runs/<lesson>/<preset and parameters>/. figures: by default ``out / "figures"``.
    timeout: seconds a cell may take (600 at the default preset, else no limit). threads: of torch and of OpenMP.
    Raises `LessonError` when a cell raises, takes too long or its kernel dies; the copy up to there is kept.
    """
    notebook = find(lesson)
    cells = load(notebook)
    known = _parameters(cells, notebook.stem)
    chosen = settings(lesson, parameters or {}, preset)
    effective = {name: parameter.default for name, parameter in known.items()} | chosen
    folder = (
        Path(out)
        if out
        else project.build() / "runs" / notebook.stem / _name(preset, parameters or {})
    )
    shown = Path(figures) if figures else folder / "figures"
    record = folder / "record.jsonl"
    try:
        if figures is None and shown.exists():
            shutil.rmtree(shown)  # of an earlier run with the same parameters
        shown.mkdir(parents=True, exist_ok=True)
        record.unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(
            "a folder to write the run into",
            f"{folder}: {error}",
            where=f"run of {notebook.stem}",
            remedy="make room and the folder writable, or choose another one with --out",
        ) from error
    environment = os.environ | {
        "CNNCOURSE_FIGURES": str(shown.resolve()),
        "CNNCOURSE_RECORD": str(record.resolve()),
    }
    if threads:
        environment |= {"CNNCOURSE_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    facts = {"lesson": notebook.stem, "preset": preset, "parameters": effective, "seed": effective.get("seed"),
             "source": sources_digest(cells),
             "started": datetime.now(UTC).isoformat(timespec="seconds"),
             "versions": versions()} | project.commit()  # fmt: skip
    executed = folder / f"{notebook.stem}.ipynb"
    watch = _Watch(notebook.stem, progress)
    limit = timeout if timeout is not None else CELL_TIMEOUT.get(preset)
    begin, status = time.perf_counter(), {"status": "failed"}
    try:
        _papermill(cells, executed, chosen, watch, environment, notebook.parent, limit)
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
        facts |= status | {"seconds": seconds, "cells": watch.cells}
        facts |= _recorded(record) | {"figures": sorted(file.stem for file in shown.glob("*.svg"))}
        project.write(
            folder / "provenance.json",
            json.dumps(facts, indent=1, default=str, ensure_ascii=False) + "\n",
        )
        record.unlink(missing_ok=True)
    return RunResult(notebook.stem, executed, folder, shown, effective, seconds, facts)


def store(lesson: str | int, *, progress: bool = True, timeout: float | None = None) -> RunResult:
    """Run a lesson at its default parameters and write the notebook with its outputs; unchanged if the run fails.

    >>> store("04").lesson
    '04_convolution-arithmetic'

    What differs from run to run is taken out: times, papermill's notes, state of widgets, random cell ids.
    """
    notebook = find(lesson)
    result = run(
        lesson, progress=progress, timeout=timeout, out=project.build() / "store" / notebook.stem
    )
    executed = nbformat.read(result.notebook, as_version=4)
    project.write(notebook, nbformat.writes(normalised(executed)) + "\n")
    return result


def normalised(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with nothing in it that differs from run to run, and with its sources noted as in step."""
    from cnncourse.lab import twins

    clean = twins.in_step(notebook)
    for count, cell in enumerate(
        (cell for cell in clean.cells if cell.cell_type == "code"), start=1
    ):
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
    return clean


def sources_digest(notebook: nbformat.NotebookNode) -> str:
    """SHA-256 of what a notebook says: kinds, sources and tags of its cells."""
    said = [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers and pictures depend on."""
    packages = ("torch", "torchvision", "numpy", "scikit-learn", "scikit-image", "matplotlib")
    return {"python": ".".join(map(str, sys.version_info[:3]))} | project.versions(*packages)


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

    def finished(self, cell: nbformat.NotebookNode, cell_index: int) -> None:
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
    notebook: nbformat.NotebookNode,
    executed: Path,
    chosen: dict,
    watch: _Watch,
    environment: dict,
    folder: Path,
    timeout: float | None,
) -> None:
    """Execute through papermill with our kernel's environment; every way to fail becomes a `LessonError`."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines

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
                on_cell_start=watch.started, on_cell_complete=watch.finished,
                extra_arguments=["--log-level=ERROR"],
                shutdown_kernel="immediate",  # kills its whole process group: no waiting, no orphans
                resources={"metadata": {"path": str(folder)}},
            )  # fmt: skip
            try:
                client.execute(env=environment)
            finally:
                if (
                    client.km is not None and client.km.has_kernel
                ):  # interrupted between its start and its first cell
                    client._cleanup_kernel()

    for name in ("papermill", "traitlets"):
        logging.getLogger(name).setLevel(
            logging.CRITICAL
        )  # what they would say is said below, with a remedy
    papermill_engines.register("cnncourse", Engine)
    raw = project.write(executed.with_suffix(".input.ipynb"), nbformat.writes(notebook))
    again = (
        f"correct the cell, then `python -m cnncourse run {watch.lesson[:2]}`; "
        f"the executed copy is {near(executed)}"
    )
    bar = (
        {"desc": watch.lesson, "file": sys.stderr, "leave": False, "dynamic_ncols": True}
        if watch.terminal
        else False
    )
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
        cell = notebook_cell(error.source, error.cell_index)
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
            where=_place(watch, notebook),
            remedy="give more time with --timeout, or a smaller size with -p",
        ) from None
    except DeadKernelError:
        raise LessonError(
            "the kernel to live to the last cell",
            f"a dead kernel{_why(Client.exit_status)}",
            where=_place(watch, notebook),
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


def notebook_cell(source: str, index: int) -> str:
    """How a cell is called in messages: its place and its first line."""
    return f"cell {index + 1} (`{source.strip().partition(chr(10))[0][:70]}`)"


def _place(watch: _Watch, notebook: nbformat.NotebookNode) -> str:
    if watch.current is None:
        return watch.lesson
    return f"{watch.lesson}, cell {watch.current + 1}"


def _line(error) -> str:
    """The line of the failing cell, from IPython's traceback: ", line 3: x = f(y)"."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
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


def near(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _name(preset: str, given: dict[str, object]) -> str:
    """The folder of a run: "default", "full", "default,epochs=2"."""
    words = ",".join([preset, *(f"{name}={value}" for name, value in sorted(given.items()))])
    safe = re.sub(r"[^\w.,=+-]+", "_", words)
    return (
        safe if len(safe) <= 80 else f"{safe[:70]}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"
    )


def _recorded(record: Path) -> dict[str, object]:
    """What the lesson's own process noted: where it computed, and which data it loaded."""
    lines = (
        [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    )
    found: dict[str, object] = {"device": None, "threads": None, "data": {}}
    for line in lines:
        if line.get("kind") == "runtime":
            found |= {
                key: line[key]
                for key in ("device", "device_name", "dtype", "threads")
                if key in line
            }
        elif line.get("kind") == "data":
            found["data"] |= {line.get("name"): line.get("checksum")}
    return found


def _parameters(notebook: nbformat.NotebookNode, where: str) -> dict[str, Parameter]:
    cell = next(
        (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])), None
    )
    return parse(cell.source, where=f"parameters cell of {where}") if cell else {}
