"""The one training loop: `fit` a network, `evaluate` it, `predict` with it, and the `History` of what happened.

>>> history = fit(model, train, valid, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), epochs=3, batch_size=128)
>>> history["valid_accuracy"]
[0.61, 0.72, 0.78]

Data are an `ImageSet`, a pair of tensors (inputs, targets), or a `DataLoader` when they are too large for memory.
The machine (device, dtype, precision, seed) is what `runtime.start` set. Built step by step in lesson 14.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader

from cnncourse import project, runtime
from cnncourse.errors import ParameterError, ShapeError, TrainingError, nearest

COLUMNS = ("epoch", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "learning_rate",
           "seconds", "images_per_second")
_SHOWN = COLUMNS[:-2]  # what a notebook stores: the clock differs from run to run


class Score(NamedTuple):
    """Mean loss and accuracy over the images of a set; accuracy is None where it has no meaning (regression)."""

    loss: float
    accuracy: float | None


class EachStep(NamedTuple):
    """A scheduler to be stepped after every optimizer step: ``fit(..., scheduler=EachStep(scheduler))``.

    `fit` steps `OneCycleLR` and `CyclicLR` so by itself, and every other scheduler once an epoch.
    """

    scheduler: LRScheduler


class History(list):
    """One row (a dict) for each epoch, and the columns by name.

    >>> history[-1]["epoch"], history["train_loss"], history.train_loss == history["train_loss"]
    (2, [1.9, 1.2], True)

    Columns: epoch (from 1), train_loss and train_accuracy (weighted by images, gathered while the weights change),
    valid_loss, valid_accuracy (after the epoch), learning_rate (at its end), seconds, images_per_second (training part).
    `interrupted` says that Ctrl-C ended it.
    """

    def __init__(self, rows=(), *, interrupted: bool = False):
        super().__init__(rows)
        self.interrupted = interrupted

    def __getitem__(self, key):
        if isinstance(key, str):
            if key not in COLUMNS:
                raise ParameterError("a column of the history", repr(key), where="History", remedy=nearest(key, COLUMNS))
            return [row[key] for row in self]
        return History(super().__getitem__(key)) if isinstance(key, slice) else super().__getitem__(key)

    def __getattr__(self, name: str):
        if name in COLUMNS:
            return self[name]
        raise AttributeError(f"History has no {name!r}: {nearest(name, COLUMNS)}")

    def __repr__(self) -> str:
        if not self:
            return "History(no epoch finished)"
        last = {name: value for name, value in self[-1].items() if name in _SHOWN[1:5] and value is not None}
        facts = ", ".join(f"{name} {value:.4g}" for name, value in last.items())
        return f"History({len(self)} epoch{'s' * (len(self) != 1)}: {facts}{', interrupted' * self.interrupted})"

    def _repr_html_(self) -> str:
        names = [name for name in _SHOWN if any(row[name] is not None for row in self)]
        head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in names)
        rows = ("".join(f"<td>{'' if row[name] is None else format(row[name], '.4g')}</td>" for name in names) for row in self)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{row}</tr>' for row in rows)}</tbody></table>"

    def frame(self):
        """The rows as a pandas DataFrame (pandas is not needed otherwise)."""
        import pandas

        return pandas.DataFrame(list(self), columns=list(COLUMNS))

    def plot(self, axes=None):
        """Draw the losses over the epochs on matplotlib axes, new ones if none are given; returns the axes."""
        import matplotlib.pyplot as plt

        axes = axes or plt.subplots()[1]
        for name, colour in (("train_loss", "C0"), ("valid_loss", "C1")):
            if any(value is not None for value in self[name]):
                axes.plot(self["epoch"], self[name], colour, marker=".", label=name.partition("_")[0])
        axes.set(xlabel="epoch", ylabel="loss")
        axes.legend()
        return axes

    def save(self, path: str | Path) -> Path:
        """Write the rows as JSON, whole or not at all."""
        return project.write(Path(path), json.dumps({"interrupted": self.interrupted, "rows": list(self)}, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> History:
        """The history that `save` wrote: the same floats to the last bit."""
        stored = json.loads(Path(path).read_text())
        return cls(stored["rows"], interrupted=stored["interrupted"])


def fit(model: nn.Module, train, valid=None, *, optimizer: Optimizer, epochs: int, batch_size: int, scheduler=None,
        loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy, augment: Callable | None = None,
        clip_gradient: float | None = None, checkpoint=None, on_epoch: Callable | None = None,
        progress: bool = True) -> History:
    """Train `model` in place on `train` and return the `History`, one row an epoch, with `valid` measured after each."""
    machine = runtime.current()
    network = _prepare(model, machine)
    feed = _feed(train, batch_size, machine, shuffle=True, augment=augment)
    each_step, each_epoch = _schedule(scheduler)
    history = History()
    with _Progress(epochs, len(feed), shown=progress) as bar:
        for epoch in range(len(history) + 1, epochs + 1):
            tally, started = _Tally(loss), time.perf_counter()
            model.train()
            for inputs, targets in feed.epoch(epoch):
                with machine.autocast():
                    outputs = network(inputs)
                    value = loss(outputs, targets)
                optimizer.zero_grad()
                value.backward()
                if clip_gradient is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), clip_gradient)
                optimizer.step()
                each_step()
                tally.add(value, outputs, targets)
                bar.step(tally)
            score = tally.score()
            seconds = time.perf_counter() - started
            checked = evaluate(model, valid, batch_size=batch_size, loss=loss) if valid is not None else Score(None, None)
            history.append(dict(zip(COLUMNS, (epoch, *score, *checked, optimizer.param_groups[0]["lr"], seconds,
                                              tally.images / seconds), strict=True)))
            each_epoch(history[-1])
            if on_epoch is not None and on_epoch(history):
                break
    return history


@torch.inference_mode()
def evaluate(model: nn.Module, images, *, batch_size: int = 1024,
             loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy) -> Score:
    """Mean loss and accuracy over all images, each counted once, with the network in evaluation mode.

    >>> loss, accuracy = evaluate(model, valid)
    """
    machine = runtime.current()
    network, tally, mode = _prepare(model, machine), _Tally(loss), model.training
    model.eval()
    try:
        for inputs, targets in _feed(images, batch_size, machine).epoch():
            with machine.autocast():
                outputs = network(inputs)
                value = loss(outputs, targets)
            tally.add(value, outputs, targets)
    finally:
        model.train(mode)
    return tally.score()


@torch.no_grad()
def predict(model: nn.Module, images, batch_size: int = 1024) -> Tensor:
    """The outputs (N, ...) for all images in their order, on the device, with the network in evaluation mode.

    images: an `ImageSet`, a tensor of inputs, a pair (inputs, targets) or a `DataLoader` that keeps its order.
    """
    machine = runtime.current()
    network, mode = _prepare(model, machine), model.training
    if isinstance(images, Tensor):
        images = images, torch.zeros(len(images))
    model.eval()
    try:
        outputs = []
        for inputs, _ in _feed(images, batch_size, machine).epoch():
            with machine.autocast():
                outputs.append(network(inputs))
    finally:
        model.train(mode)
    return torch.cat(outputs)


def _prepare(model: nn.Module, machine: runtime.Runtime) -> Callable:
    """The model on the device in the dtype; its parameters stay the same objects, so an optimizer made before holds."""
    model.to(machine.device, machine.dtype)
    if machine.memory_format is not None:
        model.to(memory_format=machine.memory_format)
    return torch.compile(model) if machine.compile else model


def _schedule(scheduler) -> tuple[Callable, Callable]:
    """(what to do after each step, what to do after each epoch with its row)."""
    if scheduler is None:
        return lambda: None, lambda row: None
    if isinstance(scheduler, EachStep) or isinstance(scheduler, OneCycleLR | CyclicLR):
        return getattr(scheduler, "scheduler", scheduler).step, lambda row: None
    if isinstance(scheduler, ReduceLROnPlateau):
        return lambda: None, lambda row: scheduler.step(row["train_loss"] if row["valid_loss"] is None else row["valid_loss"])
    return lambda: None, lambda row: scheduler.step()


def _seed(*numbers: int) -> int:
    """One well mixed seed from several numbers: the random streams of (seed, epoch, step) need no stored state."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


class _Tensors:
    """Batches of a set that lies on the device as a whole."""

    def __init__(self, images, batch_size: int, machine: runtime.Runtime, shuffle: bool, augment: Callable | None):
        self.batch_size, self.machine, self.shuffle, self.augment = batch_size, machine, shuffle, augment
        if isinstance(images, tuple):
            self.inputs, self.targets, self.convert = *(part.to(machine.device) for part in images), _as_dtype
        else:
            images = images.to(machine.device)
            self.inputs, self.targets = images.images, images.labels
            self.convert = lambda batch, scale=images._scale(machine.dtype): images._to_float(batch, *scale)
        if self.targets.is_floating_point():
            self.targets = self.targets.to(machine.dtype)

    def __len__(self) -> int:
        return -(-len(self.inputs) // self.batch_size)

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        order = None
        if self.shuffle:
            generator = torch.Generator().manual_seed(_seed(self.machine.seed, number))
            order = torch.randperm(len(self.inputs), generator=generator).to(self.machine.device, non_blocking=True)
        for step in range(start, len(self)):
            rows = slice(step * self.batch_size, (step + 1) * self.batch_size)
            if order is None:
                inputs, targets = self.inputs[rows], self.targets[rows]
            else:
                inputs, targets = self.inputs.index_select(0, order[rows]), self.targets.index_select(0, order[rows])
            if self.augment is not None:
                inputs = self.augment(inputs, generator=generator.manual_seed(_seed(self.machine.seed, number, step)))
            yield self.convert(inputs), targets


def _as_dtype(batch: Tensor) -> Tensor:
    return batch.to(torch.get_default_dtype()) if batch.is_floating_point() else batch


class _Loader:
    """Batches of a DataLoader, or of anything that yields (inputs, targets)."""

    def __init__(self, loader, machine: runtime.Runtime):
        self.loader, self.machine = loader, machine

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for inputs, targets in self.loader:
            inputs, targets = (part.to(self.machine.device, non_blocking=True) for part in (inputs, targets))
            yield _as_dtype(inputs), _as_dtype(targets)


def _feed(images, batch_size: int, machine: runtime.Runtime, *, shuffle: bool = False, augment: Callable | None = None):
    if isinstance(images, DataLoader):
        return _Loader(images, machine)
    return _Tensors(images, batch_size, machine, shuffle, augment)


class _Tally:
    """Sums over an epoch, kept on the device: nothing waits for the device until `score` asks."""

    def __init__(self, loss: Callable):
        self.ignore = _ignored(loss)
        self.yes_or_no = getattr(loss, "__name__", type(loss).__name__) in ("BCEWithLogitsLoss", "binary_cross_entropy_with_logits")
        self.images, self.losses, self.counts, self.right = 0, [], [], []

    @torch.no_grad()
    def add(self, value: Tensor, outputs: Tensor, targets: Tensor) -> None:
        self.images += len(targets)
        self.losses.append(value.detach())
        if targets.is_floating_point():
            self.counts.append(len(targets))
            if self.yes_or_no:
                self.right.append(((outputs > 0) == (targets > 0.5)).sum() / targets[0].numel())
            return
        right = outputs.argmax(1) == targets
        if self.ignore is None or (self.ignore < 0 and targets.ndim == 1):
            self.counts.append(targets.numel())
        else:
            counted = targets != self.ignore
            right &= counted
            self.counts.append(counted.sum())
        self.right.append(right.sum())

    def score(self) -> Score:
        losses = torch.stack(self.losses).double().cpu()
        counts = torch.as_tensor([int(count) for count in self.counts], dtype=torch.float64)
        total = counts.sum()
        loss = float((losses * counts).nan_to_num().sum() / total) if losses.isfinite().all() else float((losses * counts).sum() / total)
        return Score(loss, float(torch.stack(self.right).double().sum() / total) if self.right else None)


def _ignored(loss: Callable) -> int | None:
    if isinstance(loss, partial):
        return loss.keywords.get("ignore_index")
    return getattr(loss, "ignore_index", None)


class _Progress:
    """A bar over the steps for somebody who watches; nothing under papermill, nbval or a redirected terminal."""

    def __init__(self, epochs: int, steps: int, shown: bool):
        self.shown, self.total = shown and runtime.current().rank == 0 and runtime.interactive(), epochs * steps
        self.bar, self.next = None, 0.0

    def __enter__(self):
        if self.shown:
            from tqdm.auto import tqdm
            self.bar = tqdm(total=self.total, unit="step", leave=False, dynamic_ncols=True)
        return self

    def step(self, tally: _Tally) -> None:
        if self.bar is not None:
            self.bar.update()

    def __exit__(self, kind, error, trace) -> bool:
        if self.bar is not None:
            self.bar.close()
        return False
