"""A lesson at many points, on one machine or many: ``python -m cnncourse sweep 14 --grid width=8,16 --seeds 10``.

Dask hands the points out; see `point` for how one is computed and `grid` for which there are. Only the process that
was called writes, and only what is whole, into build/sweeps/<name>/: points/<hash>.json for each finished one, so that
the same command goes on where it was killed, and failed/<hash>.json and .ipynb for each other. See `sweep_results` for
what there is to read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from cnncourse import machine, paths
from cnncourse.errors import MachineError, ParameterError
from cnncourse.lab import execute, grid, point, sweep_results
from cnncourse.lab.lesson import Lesson

CONNECT = 20.0  # seconds to wait for a scheduler
DOTTED = re.compile(r"[\w][\w.,=+-]*")


def main(
    lesson: str | int | Lesson,
    *,
    grids: Iterable[str] = (),
    seeds: int = 1,
    given: Mapping[str, object] | None = None,
    preset: str = "default",
    scheduler: str = "local",
    workers: int | None = None,
    name: str | None = None,
    timeout: float | None = None,
    memory: float | None = None,
) -> int:
    """Run a lesson once for each point, print how each went and what holds; 1 if any did not run through, else 0.

    >>> main("14", grids=["width=8,16", "learning_rate=0.01:0.3:log5"], seeds=10)  # 100 runs of lesson 14

    grids: see `grid.Axis.read`. seeds, given, preset: see `grid.points`. scheduler: "local", or the address of a Dask
    scheduler, "tcp://..."; each of its workers needs this course, the same version. workers: how many, of a local one.
    name: of the folder in build/sweeps/; by default the lesson's, and the preset's. timeout: seconds a point may take.
    memory: GB that its processes may have at a time.
    Points that finished earlier are not run again; those that failed are. Raises `ParameterError` before anything runs,
    `MachineError` while another sweep uses the folder, for workers with other versions, and when the scheduler is lost.
    """
    lesson = lesson if isinstance(lesson, Lesson) else Lesson.find(lesson)
    axes = [grid.Axis.read(text, lesson) for text in grids]
    asked = grid.points(lesson, axes, seeds, given, preset)
    folder = paths.build() / "sweeps" / _checked(name or _name(lesson, preset))
    _check(scheduler, workers)
    fingerprint = point.fingerprint(lesson)
    jobs = {}
    for one in asked:
        job = _job(lesson, one, preset, fingerprint) | {
            "timeout": timeout,
            "memory": memory and memory * point.GB,
        }
        jobs[job["hash"]] = one, job
    if scheduler == "local":
        for parameters in {json.dumps(job["parameters"]) for _, job in jobs.values()}:
            execute.data_is_there(lesson, json.loads(parameters))
    with _alone(folder):
        records = _finished(folder, jobs)
        waiting = {hash: job for hash, (_, job) in jobs.items() if hash not in records}
        earlier = f", {len(records)} of them finished earlier" * bool(records)
        print(f"{lesson.slug}: {len(jobs)} points{earlier}; {paths.shown(folder)}", flush=True)
        results = sweep_results.Results(
            lesson, axes, [(one, job) for one, job in jobs.values()], folder
        )
        results.write(records)
        begin = time.perf_counter()
        for hash, outcome in _outcomes(waiting, folder, scheduler, workers):
            one, job = jobs[hash]
            records[hash] = _keep(folder, job, outcome)
            results.write(records)
            print(
                f"[{len(records)}/{len(jobs)}] {one.label}: {sweep_results.told(records[hash])}",
                flush=True,
            )
        if waiting:
            _clock(records, waiting, time.perf_counter() - begin)
        results.draw(records)
        print("\n" + results.summary(records), flush=True)
    return int(any(record["status"] != "complete" for record in records.values()))


def _job(lesson: Lesson, one: grid.Point, preset: str, fingerprint: dict) -> dict:
    """What a worker is sent; its hash names all that the numbers depend on."""
    identity = {
        "lesson": lesson.slug,
        "parameters": lesson.effective(one.given, preset),
        "fingerprint": fingerprint,
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    return json.loads(json.dumps(identity)) | {
        "hash": digest.hexdigest()[:16],
        "given": one.given,
        "preset": preset,
        "cwd": os.environ.get("CNNCOURSE_CWD") or os.getcwd(),
    }


def _finished(folder: Path, jobs: Mapping[str, object]) -> dict[str, dict]:
    """The records of the points that an earlier call finished, by hash."""
    found = {}
    for hash in jobs:
        try:
            found[hash] = json.loads((folder / "points" / f"{hash}.json").read_text("utf-8"))
        except (OSError, ValueError):
            continue  # not yet, or damaged: it runs again
    return found


def _keep(folder: Path, job: dict, outcome: dict) -> dict:
    """Write what became of a point, whole or not at all, and give it without the notebook."""
    notebook = outcome.pop("notebook", None)
    told = {key: job[key] for key in ("hash", "lesson", "preset", "parameters", "fingerprint")}
    record = told | outcome
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    failed = folder / "failed" / f"{job['hash']}.json"
    if record["status"] == "complete":
        paths.write(folder / "points" / failed.name, text)
        failed.unlink(missing_ok=True)
        failed.with_suffix(".ipynb").unlink(missing_ok=True)
        return record
    if notebook is not None:
        paths.write(failed.with_suffix(".ipynb"), notebook)
    paths.write(failed, text)
    return record


def _outcomes(
    jobs: Mapping[str, dict], folder: Path, scheduler: str, workers: int | None
) -> Iterator[tuple[str, dict]]:
    """(hash, outcome) of each job, as soon as it is known."""
    if not jobs:
        return
    from distributed import CancelledError, KilledWorker, as_completed

    with _client(scheduler, min(workers or machine.cores(), len(jobs)), folder) as client:
        # A second call after a killed client finds its points under the same key, if a worker still computes one.
        futures = {client.submit(point.run, job, key=f"point-{hash}", pure=False): hash
                   for hash, job in jobs.items()}  # fmt: skip
        try:
            for future in as_completed(futures, loop=client.loop):
                if future.status in ("cancelled", "lost"):
                    raise CancelledError
                hash = futures.pop(future)
                try:
                    outcome = future.result()
                except KilledWorker as error:
                    last = getattr(error.last_worker, "address", error.last_worker)
                    words = f"every worker that computed it died; the last was {last}"
                    outcome = _failure("killed", words)
                except OSError as error:
                    outcome = _failure("failed", f"{type(error).__name__}: {error}")
                except (ImportError, AttributeError) as error:
                    raise _unlike(f"{type(error).__name__}: {error}", "a worker") from None
                future.release()
                if outcome["status"] == point.UNLIKE:
                    raise _unlike(outcome["error"], outcome["worker"])
                yield hash, outcome
        except CancelledError:
            raise MachineError(
                "a scheduler that answers to the end",
                f"none, with {len(futures)} points left",
                where=scheduler,
                remedy="start it and its workers again, then give the same command: it goes on",
            ) from None


def _failure(status: str, error: str) -> dict:
    return {
        "status": status,
        "error": error,
        "claims": [],
        "provenance": {},
        "worker": "",
        "seconds": None,
        "memory": None,
    }


def _unlike(found: str, worker: str) -> MachineError:
    return MachineError(
        "workers with this course and its versions, so that a point gives the same numbers on each",
        found,
        where=worker,
        remedy="check out the same commit there and install its requirements.lock, then give the same command",
    )


@contextlib.contextmanager
def _client(scheduler: str, workers: int, folder: Path):
    """A client of the scheduler, or of a cluster of local workers that ends with it."""
    import psutil
    from distributed import Client, LocalCluster

    for logger in list(logging.root.manager.loggerDict):
        if logger.startswith("distributed"):  # what it would say is said here, with a remedy
            logging.getLogger(logger).setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        if scheduler == "local":
            scratch, started = folder / "work", []
            shutil.rmtree(scratch, ignore_errors=True)  # of a call that was killed
            stack.callback(shutil.rmtree, scratch, ignore_errors=True)
            stack.callback(_until_ended, started)
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=0,  # Dask would measure the worker, which only waits; see `point`
                dashboard_address=":0",  # any free port
                local_directory=str(scratch),
                silence_logs="CRITICAL",
            )
            stack.enter_context(cluster)
            stack.callback(lambda: started.extend(psutil.Process().children(recursive=True)))
        try:
            client = Client(
                cluster if scheduler == "local" else scheduler,
                timeout=CONNECT,
                set_as_default=False,
            )
        except (OSError, ValueError) as error:
            raise MachineError(
                "a Dask scheduler",
                f"none that answers within {CONNECT:g} s ({error})",
                where=scheduler,
                remedy="start one with `dask scheduler` and give the address that it prints",
            ) from None
        stack.enter_context(client)
        if not client.nthreads():
            print(
                f"no worker yet: start some with `dask worker {scheduler}`; waiting",
                file=sys.stderr,
                flush=True,
            )
        yield client


def _until_ended(processes: list) -> None:
    """Wait for workers, and what they started, to be gone; kill what stays."""
    import psutil

    _, alive = psutil.wait_procs(processes, timeout=point.GRACE)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a sweep's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    expected, place = "no other sweep in this folder", paths.shown(folder)
    remedy = "wait until it is done, or choose another folder with --name"
    with machine.alone(folder / ".lock", expected, where=place, remedy=remedy):
        yield


def _check(scheduler: str, workers: int | None) -> None:
    if scheduler != "local" and not re.fullmatch(r"\w+://\S+", scheduler):
        raise ParameterError(
            "local, or an address as in tcp://10.0.0.1:8786",
            repr(scheduler),
            where="--scheduler",
            remedy="`dask scheduler` prints its address",
        )
    if scheduler != "local" and workers:
        raise ParameterError(
            "--workers with the local scheduler only",
            f"--workers {workers}",
            where=f"--scheduler {scheduler}",
            remedy="start as many as you want with `dask worker`",
        )


def _name(lesson: Lesson, preset: str) -> str:
    return lesson.slug if preset == "default" else f"{lesson.slug}-{preset}"


def _checked(name: str) -> str:
    if not DOTTED.fullmatch(name):
        raise ParameterError(
            "a name of letters, digits and . , = + - _",
            repr(name),
            where="--name",
            remedy="it becomes a folder in build/sweeps/",
        )
    return name


def _clock(records: Mapping[str, dict], ran: Iterable[str], wall: float) -> None:
    """Print what the points took by themselves, and the sweep of them."""
    own = sum(records[hash]["seconds"] or 0 for hash in ran if hash in records)
    print(f"the points took {own:.0f} s by themselves, the sweep of them {wall:.0f} s")
