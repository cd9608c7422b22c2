"""Workers, clients and schedulers are killed in the middle of a sweep: the same command goes on, and loses nothing."""

import csv
import json
import os
import subprocess
import sys
from contextlib import ExitStack

import pytest
import sweep_course
from sweep_course import alive, began, kill, until


@pytest.fixture
def course(tmp_path):
    return sweep_course.make(tmp_path)


@pytest.fixture
def start(course):
    """Starts processes on the course, and ends them when the test does."""
    environment = {**os.environ, "CNNCOURSE_ROOT": str(course), "TOY": str(course)}
    with ExitStack() as stack:

        def begin(*words, **options):
            process = subprocess.Popen(
                [sys.executable, "-m", *words], env=environment, cwd=course, text=True, **options
            )
            stack.enter_context(process)  # waits for it and closes its pipes, after
            stack.callback(process.kill)
            return process

        yield begin


class Cluster:
    """A Dask scheduler and its workers, each a process of its own without a nanny."""

    def __init__(self, start, course, workers):
        self.start, self.quiet = start, {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        file = course / "scheduler.json"
        self.scheduler = start("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
                               "--no-dashboard", "--scheduler-file", str(file), **self.quiet)  # fmt: skip
        until(lambda: file.is_file() and file.read_text().strip().endswith("}"), self.scheduler)
        self.address = json.loads(file.read_text())["address"]
        self.workers = [self.worker(course / f"worker-{number}") for number in range(workers)]

    def worker(self, scratch):
        return self.start("distributed.cli.dask_worker", self.address, "--nthreads", "1", "--no-nanny",
                          "--no-dashboard", "--local-directory", str(scratch), **self.quiet)  # fmt: skip


def sweep(start, *words):
    return start("cnncourse", "sweep", "14", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def table(course, name="14_resnet"):
    text = (course / "build" / "sweeps" / name / "results.csv").read_text()
    return list(csv.DictReader(text.splitlines()))


def points(course):
    return sorted((course / "build" / "sweeps" / "14_resnet" / "points").glob("*.json"))


def parent(pid):
    """The process that started a process."""
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="kernels are looked for in /proc")
def test_killed_workers_and_clients_lose_no_finished_point_and_leave_no_kernel(course, start):
    cluster = Cluster(start, course, workers=2)
    command = ["-p", "way", "wait", "--seeds", "3", "--scheduler", cluster.address]
    client = sweep(start, *command)
    until(lambda: began(course, 0) and began(course, 1000), client)
    # kill -9 of the worker that computes the point of seed 0: it runs again elsewhere
    [kernel] = began(course, 0)
    worker = next(one for one in cluster.workers if one.pid == parent(parent(kernel)))
    for seed in (1000, 2000):  # the other worker becomes free
        (course / f"go-{seed}").touch()
    kill(worker)
    until(lambda: len(began(course, 0)) == 2, client)
    until(lambda: not alive(kernel))
    # kill -9 of the client, when at least one point is finished
    until(lambda: points(course), client)
    kill(client)
    before = {file: file.read_bytes() for file in points(course)}
    # the same command goes on
    (course / "go-0").touch()
    said, errors = sweep(start, *command).communicate()
    assert f"3 points, {len(before)} of them finished earlier" in said, errors
    assert [line["status"] for line in table(course)] == ["complete"] * 3
    assert {file: file.read_bytes() for file in before} == before
    for content in before.values():
        assert len(began(course, json.loads(content)["parameters"]["seed"])) == 1


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="kernels are looked for in /proc")
def test_a_killed_scheduler_is_told_and_a_local_worker_goes_on_with_the_same_numbers(course, start):
    cluster = Cluster(start, course, workers=1)
    (course / "go-0").touch()
    command = ["-p", "way", "wait", "--seeds", "2"]
    client = sweep(start, *command, "--scheduler", cluster.address)
    until(lambda: points(course) and began(course, 1000), client)
    kernel = began(course, 1000)[0]
    kill(cluster.scheduler)
    said, errors = client.communicate()
    assert client.returncode == 1 and "a scheduler that answers to the end" in errors
    assert "give the same command: it goes on" in errors and "Traceback" not in errors
    kill(cluster.workers[0])
    until(lambda: not alive(kernel))
    # the same command on a local worker, which computes the finished point too, once its record is gone
    [over_tcp] = table(course)
    [finished] = points(course)
    finished.unlink()
    (course / "go-1000").touch()
    said, errors = sweep(start, *command, "--workers", "1").communicate()
    assert "2 of 2 points ran through" in said and "Traceback" not in errors
    local, _ = table(course)
    numbers = [name for name in local if name.startswith(("claim/", "history/")) or name == "hash"]
    assert [local[name] for name in numbers] == [over_tcp[name] for name in numbers]
    assert local["claim/emp-toy.gap/gap"] == "8.844" and local["history/train_loss"]
    assert local["worker"] != over_tcp["worker"]
    assert not (finished.parents[1] / "work").exists()
