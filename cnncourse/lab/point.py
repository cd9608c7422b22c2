"""One point of a sweep, as a Dask worker computes it: a run of the lesson in a process beside the worker.

Started as ``python -m cnncourse.lab.point`` this module is that process. It runs one point after another, ends when the
worker that started it is gone, and is replaced after a point that failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from cnncourse.errors import LessonError
from cnncourse.lab.lesson import Lesson

LOOK = 0.2  # seconds from one look at a point's memory and time to the next
GRACE = 15.0  # seconds in which a point that is stopped writes down what it has
GB = 1e9  # bytes
READY, DONE = "ready", "done"  # the two answers to a point
UNLIKE = "unlike"  # the status of a point that a worker refuses, having other sources or versions

_own = threading.local()  # a worker with several threads has a process for each


def fingerprint(lesson: Lesson) -> dict[str, object]:
    """What the numbers of a lesson depend on beside its parameters: its cells, the package's modules, versions."""
    from cnncourse.lab import execute, inputs

    return {
        "source": lesson.digest,
        "package": inputs.package_digest(lesson),
        "versions": execute.versions(),
    }


def run(job: dict) -> dict:
    """Run a point and give what became of it; nothing is left on the worker's disk.

    job: lesson, preset, given, parameters (all that must come out), fingerprint, cwd, timeout (seconds or None), memory
        (bytes or None).
    Gives status ("complete", "failed", "time", "memory" or "unlike"), error, claims, provenance, worker, seconds,
    memory (the most that its processes had at a time, in bytes) and, unless complete, the executed notebook as text.
    """
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="point-", dir=_scratch()) as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(job))
        runner, _own.runner = getattr(_own, "runner", None), None
        if runner is None or runner.process.poll() is not None:
            runner = Runner()
        stopped, peak = runner.compute(folder, job["timeout"], job["memory"])
        outcome = _read(folder, runner)
        if stopped and outcome["status"] != "complete":
            limit = f"{job['timeout']:g} s" if stopped == "time" else f"{job['memory'] / GB:g} GB"
            outcome |= {
                "status": stopped,
                "error": f"more than the {limit} that --{'timeout' if stopped == 'time' else 'memory'} allows",
            }
        if outcome["status"] == "complete" and not stopped:
            _own.runner = runner
        else:
            runner.end()
            runner.said.close()
    seconds = outcome["provenance"].get("seconds", time.perf_counter() - begin)
    return outcome | {"worker": _worker(), "seconds": round(seconds, 2), "memory": peak}


class Runner:
    """The process beside a worker that runs points; where its standard input ends, it ends."""

    def __init__(self):
        self.said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace", dir=_scratch())  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cnncourse.lab.point"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
            start_new_session=True,  # Ctrl-C in the terminal is the client's affair
        )

    def compute(self, folder: Path, timeout: float | None, memory: float | None) -> tuple[str, int]:
        """Have the point in a folder computed: why it was stopped ("time", "memory" or ""), and the most memory."""
        done, peak, stopped, last = threading.Event(), 0, "", float("inf")
        begin = float("inf")  # a point's time begins when its process is ready

        def listen() -> None:
            nonlocal begin
            if self.answer() == READY:
                begin = time.perf_counter()
                self.answer()
            done.set()

        try:
            self.process.stdin.write(f"{folder}\n")
            self.process.stdin.flush()
        except BrokenPipeError:  # it could not start: what it said is read later
            return "", 0
        threading.Thread(target=listen, daemon=True).start()
        while not done.wait(LOOK):
            now, tree = time.perf_counter(), _tree(self.process.pid)
            used = sum(size for _, size in tree)
            peak = max(peak, used)
            if not stopped and memory and used > memory:
                stopped, last = "memory", now + GRACE
                _kill(tree[1:])  # the kernel; the runner tells how far it came
            elif not stopped and timeout and now - begin > timeout:
                stopped, last = "time", now + GRACE
                self.process.send_signal(signal.SIGTERM)
            elif now > last:
                _kill(tree)
        return stopped, peak

    def answer(self) -> str:
        """Its next line; "" when it ended."""
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        """Kill the process and all that it started."""
        _kill(_tree(self.process.pid))
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):  # of what it was not there to read
            self.process.stdin.close()
        self.process.stdout.close()

    def last_words(self) -> str:
        self.said.seek(0)
        return " | ".join(self.said.read().strip().splitlines()[-3:])


def _read(folder: Path, runner: Runner) -> dict:
    try:
        return json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        status = runner.process.poll()
        ended = "is stuck" if status is None else f"ended with status {status}"
        error = f"the process of the point {ended}: {runner.last_words() or 'it said nothing'}"
        return {
            "status": "failed",
            "error": error,
            "claims": [],
            "provenance": {},
            "notebook": None,
        }


def _tree(pid: int) -> list[tuple[object, int]]:
    """(process, bytes it has in memory) of a process and of all that it started, itself first."""
    import psutil

    found = []
    try:
        first = psutil.Process(pid)
        for process in [first, *first.children(recursive=True)]:
            found.append((process, process.memory_info().rss))
    except psutil.Error:
        pass  # it ended meanwhile
    return found


def _kill(tree: list) -> None:
    import psutil

    for process, _ in tree:
        with contextlib.suppress(psutil.Error):  # it ended by itself
            process.kill()


def _scratch() -> str | None:
    """The folder of the Dask worker that this is, which Dask clears after a kill; None elsewhere."""
    worker = _dask_worker()
    return worker.local_directory if worker else None


def _worker() -> str:
    worker = _dask_worker()
    return f"{socket.gethostname()} {worker.name if worker else os.getpid()}"


def _dask_worker():
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:  # not in a task
        return None


def serve() -> None:
    """Run the points whose folders are named on the standard input, one after another, until it ends."""
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what anybody prints is no answer
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folders: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(folders,), daemon=True).start()
    import papermill  # noqa: F401 - now, before a point's time begins

    from cnncourse.lab import execute, inputs  # noqa: F401

    try:
        while folder := folders.get():
            print(READY, file=told, flush=True)
            _compute(Path(folder))
            print(DONE, file=told, flush=True)
    except KeyboardInterrupt:
        pass


def _listen(folders: queue.SimpleQueue) -> None:
    waiting = b""
    while received := os.read(0, 4096):  # not sys.stdin, which may not be in use when Python ends
        *lines, waiting = (waiting + received).split(b"\n")
        for line in lines:
            folders.put(line.decode())
    folders.put("")
    os.kill(os.getpid(), signal.SIGTERM)  # the worker is gone: a kernel must not outlive it


def _compute(folder: Path) -> None:
    """Run the point of a folder's job.json and write outcome.json there."""
    from cnncourse import claims, paths
    from cnncourse.lab import execute

    job = json.loads((folder / "job.json").read_text())
    os.environ["CNNCOURSE_CWD"] = job["cwd"]
    run, outcome = folder / "run", {"status": "failed", "error": ""}
    try:
        lesson = Lesson.find(job["lesson"])
        if other := _unlike(job, lesson):
            outcome = {"status": UNLIKE, "error": other}
        else:
            execute.run(
                lesson,
                parameters=job["given"],
                preset=job["preset"],
                out=run,
                timeout=job["timeout"],
                threads=1,
                progress=False,
            )
            outcome["status"] = "complete"
    except KeyboardInterrupt:
        outcome["error"] = "it was stopped"
    except LessonError as error:
        outcome["error"] = f"{error.got}, in {error.where}"
    except Exception as error:  # whatever it is, it is the result of this point
        outcome["error"] = f"{type(error).__name__}: {error}"
    notebook, provenance = run / f"{job['lesson']}.ipynb", run / "provenance.json"
    there = notebook.is_file()
    outcome |= {
        "claims": claims.stored(notebook) if there else [],
        "provenance": json.loads(provenance.read_text()) if provenance.is_file() else {},
        "notebook": notebook.read_text("utf-8")
        if there and outcome["status"] != "complete"
        else None,
    }
    paths.write(folder / "outcome.json", json.dumps(outcome))


def _unlike(job: dict, lesson: Lesson) -> str:
    """In what this machine's course differs from the one that asks; "" if in nothing that changes a number."""
    own, asked = fingerprint(lesson), job["fingerprint"]
    found = [
        f"{name} {own['versions'].get(name)}, not {version}"
        for name, version in asked["versions"].items()
        if own["versions"].get(name) != version
    ]
    for key, words in (("source", "text of the lesson"), ("package", "version of cnncourse")):
        found += [f"another {words}"] * (own[key] != asked[key])
    parameters = json.loads(json.dumps(lesson.effective(job["given"], job["preset"])))
    if not found and parameters != job["parameters"]:
        found.append(f"another preset {job['preset']}")
    return ", ".join(found)


if __name__ == "__main__":
    serve()
