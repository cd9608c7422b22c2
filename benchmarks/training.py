"""Time of a training step as a ratio to a hand-written loop, ours and other libraries', interleaved step by step.

    python benchmarks/training.py                 every part; peers that are not installed are named and left out
    python benchmarks/training.py --rounds 50 --store

Every contender trains in a thread of its own through its library's own loop. A hook on the network's forward pass
hands the turn to the next contender, in an order drawn anew each round, so that all see the same machine. What counts
is the processor time of the thread between two turns (one thread each: other programs do not count), from one forward
pass to the next: forward, backward, optimizer, metrics, and fetching the next batch. The ratio is the median over the
rounds of a race. Where a thread's buffers happen to lie makes it faster or slower for a whole race, so several races
are run, each with new threads: the middle one counts, lowest and highest stand beside it. The floor raced against
itself must read 1.00 before any other figure counts. Ours draws its progress bar; the peers' bars are switched off.
Peers: pip install .[bench].
"""

from __future__ import annotations

import os
import sys

# Each thread's heap would be trimmed and grown again differently, which made a loop 1.2 times as slow as itself: one
# heap that keeps its memory. glibc reads this when a process starts.
_SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "KERAS_BACKEND": "torch",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
    "MALLOC_TOP_PAD_": "100000000",
}
if __name__ == "__main__" and any(
    os.environ.get(name) != value for name, value in _SETTINGS.items()
):
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | _SETTINGS)

# ruff: noqa: E402
import argparse
import contextlib
import copy
import importlib
import importlib.util
import random
import statistics
import threading
import time
import types
import warnings
from functools import partial
from pathlib import Path

import _contenders as contenders
import _printing as printing
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from cnncourse import augment, data, models, runtime, training
from cnncourse.training import progress
from cnncourse.training.batches import batched


class RaceOver(Exception):
    """Ends a contender's loop from within its network."""


class Race:
    """Threads that train in turns, a step at a time."""

    def __init__(self, rounds: int, warm_up: int = 8):
        self.rounds, self.warm_up = rounds, warm_up
        self.turn, self.changed = None, threading.Condition()
        self.seconds: dict[str, list[float]] = {}
        self.failed: dict[str, str] = {}

    def step(self, name: str) -> None:
        """Called by the network of a contender before its forward pass."""
        self.seconds[name].append(time.thread_time())
        self._pass_on()
        self._wait(name)
        if len(self.seconds[name]) > 2 * (self.rounds + self.warm_up):
            raise RaceOver
        self.seconds[name].append(time.thread_time())

    def run(self, contenders: dict) -> dict[str, list[float]]:
        """Seconds of each round, by contender: those that failed are left out and named in `failed`."""
        self.alive = list(contenders)
        self.seconds = {name: [] for name in contenders}
        threads = {
            name: threading.Thread(target=self._train, args=(name, train))
            for name, train in contenders.items()
        }
        self.order = []
        for thread in threads.values():
            thread.start()
        self._pass_on()
        for thread in threads.values():
            thread.join()
        return {
            name: [stop - start for start, stop in zip(marks[1:-1:2], marks[2::2], strict=False)][
                self.warm_up :
            ]
            for name, marks in self.seconds.items()
            if name not in self.failed
        }

    def _train(self, name: str, train) -> None:
        torch.set_num_threads(1)  # this counts for the thread that says it
        self._wait(name)
        try:
            train(lambda *_: self.step(name))
        except RaceOver:
            pass
        except (
            BaseException
        ) as error:  # a peer that cannot run here is a finding, and the others go on
            if not isinstance(error.__cause__ or error.__context__, RaceOver):
                self.failed[name] = (
                    f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                )
        self.alive.remove(name)
        self._pass_on()

    def _pass_on(self) -> None:
        with self.changed:
            self.order = [name for name in self.order if name in self.alive]
            self.order = self.order or random.sample(self.alive, len(self.alive))
            self.turn = self.order.pop() if self.order else None
            self.changed.notify_all()

    def _wait(self, name: str) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.turn == name)


def ratios(seconds: dict[str, list[float]], floor: str = "floor") -> dict[str, float]:
    """Median over the rounds of each contender's time over the floor's of the same round."""
    return {
        name: statistics.median(
            own / base for own, base in zip(times, seconds[floor], strict=False)
        )
        for name, times in seconds.items()
        if name != floor
    }


def tiny() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(576, 10),
    )


def resnet() -> nn.Module:
    return models.resnet.resnet_cifar(depth=8, width=16)


def pictures(count: int = 2048) -> data.ImageSet:
    generator = torch.Generator().manual_seed(0)
    return data.ImageSet(
        torch.randint(256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8),
        torch.randint(10, (count,), generator=generator),
        tuple("0123456789"),
        "random pictures",
    )


def race(
    make, images: data.ImageSet, size: int, rounds: int, peers: bool
) -> tuple[dict[str, float], float, dict[str, str]]:
    """(ratio to the floor by contender, the floor's milliseconds, why others are missing)."""
    torch.manual_seed(0)
    first, missing = make(), {}
    running = {
        "floor": partial(contenders.floor, images=images, size=size),
        "floor again": partial(contenders.floor, images=images, size=size),
        "cnncourse fit": partial(contenders.ours, images=images, size=size),
    }
    if peers:
        change = augment.compose(partial(augment.crop, padding=4), augment.flip)
        running |= {
            "cnncourse fit, crop and flip": partial(
                contenders.ours, images=images, size=size, change=change
            ),
            "cnncourse fit, DataLoader": partial(
                contenders.ours_from_loader, images=images, size=size
            ),
            "tutorial, DataLoader": lambda network: contenders.tutorial(
                network, contenders.loader(images, size)
            ),
            "tutorial, PIL": lambda network: contenders.tutorial(
                network, DataLoader(contenders.Pil(images, False), size, shuffle=True)
            ),
            "tutorial, PIL, crop and flip": lambda network: contenders.tutorial(
                network, DataLoader(contenders.Pil(images, True), size, shuffle=True)
            ),
        }
        for name, (module, train) in contenders.PEERS.items():
            try:
                importlib.import_module(module)
                running[name] = partial(train, images=images, size=size)
            except ImportError as error:
                missing[name] = str(error)

    def hooked(train):
        def run(step) -> None:
            network = copy.deepcopy(first)
            network.register_forward_pre_hook(step)
            train(network)

        return run

    field = Race(rounds)
    seconds = field.run({name: hooked(train) for name, train in running.items()})
    return ratios(seconds), 1e3 * statistics.median(seconds["floor"]), missing | field.failed


def races(
    make, images: data.ImageSet, size: int, rounds: int, peers: bool, count: int
) -> tuple[dict[str, list[float]], float, dict[str, str]]:
    """(middle, lowest and highest ratio of `count` races by contender, the floor's milliseconds, why some miss)."""
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stderr(nowhere),
        contextlib.redirect_stdout(nowhere),
    ):
        ran = [race(make, images, size, rounds // count, peers) for _ in range(count)]
    found = {name: [ratios[name] for ratios, *_ in ran if name in ratios] for name in ran[0][0]}
    missing = {name: reason for *_, reasons in ran for name, reason in reasons.items()}
    return (
        {
            name: [statistics.median(values), min(values), max(values)]
            for name, values in found.items()
        },
        statistics.median(milliseconds for _, milliseconds, _ in ran),
        missing,
    )


def alternating(*calls, rounds: int) -> list[float]:
    """Median processor time of each call as a ratio to the first, taken in turns."""
    times = np.empty((rounds + 1, len(calls)))
    for row in times:
        for place in random.sample(range(len(calls)), len(calls)):
            start = time.thread_time()
            calls[place]()
            row[place] = time.thread_time() - start
    return [float(np.median(times[1:, place] / times[1:, 0])) for place in range(len(calls))]


def whole_sets(images: data.ImageSet, rounds: int) -> dict[str, float]:
    """evaluate and predict over a bare pass over the same batches."""
    network = resnet().eval()
    images = images[:512]

    @torch.inference_mode()
    def bare() -> None:
        torch.cat([network(inputs) for inputs, _ in images.batches(128)])

    found = alternating(
        bare,
        bare,
        lambda: training.evaluate(network, images, batch_size=128),
        lambda: training.predict(network, images, 128),
        rounds=rounds,
    )
    return dict(zip(("bare pass again", "evaluate", "predict"), found[1:], strict=True))


def assembly(images: data.ImageSet, rounds: int) -> dict[str, float]:
    """Making the batches of one epoch, without a network, over making them without augmentation."""

    def passing(change):
        batches = batched(images, 128, runtime.current(), shuffle=True, augment=change)
        return lambda: [None for _ in batches.epoch(1)]

    def fancy() -> None:
        order = torch.randperm(len(images))
        for rows in order.split(128):
            images.images[rows], images.labels[rows]

    def selected() -> None:
        order = torch.randperm(len(images))
        for rows in order.split(128):
            images.images.index_select(0, rows), images.labels.index_select(0, rows)

    per_sample = DataLoader(contenders.Pil(images, True), 128, shuffle=True)
    change = augment.compose(partial(augment.crop, padding=4), augment.flip)
    plain, changed, one_by_one, gathered, indexed = alternating(
        passing(None),
        passing(change),
        lambda: [None for _ in per_sample],
        selected,
        fancy,
        rounds=rounds,
    )
    return {
        "crop and flip": changed / plain,
        "torchvision's transforms one by one, over ours": one_by_one / changed,
        "fancy indexing over index_select": indexed / gathered,
    }


def many_seeds(rounds: int) -> dict[str, float]:
    """Eight seeds one after another, over all at once."""
    digits = data.load("digits", True)

    def mlp() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def cnn() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 10)
        )

    def run(make, together: bool, size: int) -> None:
        training.repeat(
            make,
            digits,
            optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
            epochs=2,
            batch_size=size,
            together=together,
            progress=False,
        )

    found = {}
    for name, make, size in (
        ("MLP 64-32-10, batch 16", mlp, 16),
        ("MLP 64-32-10, batch 64", mlp, 64),
        ("small CNN, batch 16", cnn, 16),
    ):
        found[name] = alternating(
            partial(run, make, True, size), partial(run, make, False, size), rounds=rounds
        )[1]
    return found


def table(title: str, found: dict[str, float | list[float]]) -> str:
    rows = {name: value if isinstance(value, list) else [value] for name, value in found.items()}
    many = any(len(row) > 1 for row in rows.values())
    columns = ["", "ratio", *["lowest", "highest"] * many]
    body = printing.table(columns, ([name, *row] for name, row in rows.items()))
    return f"\n### {title}\n\n{body}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=350, help="of all races together")
    parser.add_argument("--races", type=int, default=7)
    parser.add_argument("--store", action="store_true", help="write benchmarks/RESULTS-training.md")
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    runtime.start()
    # The progress bar is part of what is measured. It is drawn every 0.25 s: of our own turns, not of the others' too.
    runtime.interactive = lambda: True
    progress.time = types.SimpleNamespace(perf_counter=time.thread_time)
    images, text = pictures(), []
    for name, make, size, rounds in (
        ("tiny CNN, 32 images of 3 x 32 x 32 a step", tiny, 32, 3 * options.rounds),
        ("ResNet-8, 32 images of 3 x 32 x 32 a step", resnet, 32, options.rounds),
    ):
        for peers in [False] if options.no_peers else [False, True]:
            found, milliseconds, missing = races(make, images, size, rounds, peers, options.races)
            kind = "all contenders" if peers else "floor, floor again and ours alone"
            text.append(table(f"{name}: {kind} (floor {milliseconds:.1f} ms)", found))
            text += [f"\nnot measured: {peer} ({reason})" for peer, reason in missing.items()]
            print("\n".join(text[-1 - len(missing) :]), flush=True)
    runtime.start()
    shown = len(text)
    rounds = max(5, options.rounds // 30)
    text.append(
        table(
            "evaluate and predict over a bare pass (ResNet-8, 512 images)",
            whole_sets(images, 2 * rounds),
        )
    )
    text.append(table("making the batches of an epoch", assembly(images, rounds)))
    text.append(
        table("eight seeds one after another over `repeat`, all at once", many_seeds(rounds))
    )
    print("\n".join(text[shown:]))
    if options.store:
        facts = runtime.environment()
        versions = ", ".join(
            f"{name} {importlib.import_module(module).__version__}"
            for name, (module, _) in contenders.PEERS.items()
            if importlib.util.find_spec(module)
        )
        how = __doc__[__doc__.index("Every contender") :].strip()
        command = f"python benchmarks/training.py --rounds {options.rounds} --store"
        head = (
            f"# Training: a step as a ratio to a hand-written loop\n\n`{command}`\n\n{how}\n\n"
            f"Machine: {facts['processor']}, {facts['cores']} cores, shared with other "
            f"programs; one thread used. torch {facts['torch']}, Python {facts['python']}; {versions}.\n"
        )
        (Path(__file__).parent / "RESULTS-training.md").write_text(head + "\n".join(text) + "\n")


if __name__ == "__main__":
    main()
