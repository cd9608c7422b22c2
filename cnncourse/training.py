"""The one training loop: `fit` a network, `evaluate` it, `predict` with it, and the `History` of what happened.

>>> history = fit(model, train, valid, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), epochs=3, batch_size=128)
>>> history["valid_accuracy"]
[0.61, 0.72, 0.78]

Data are an `ImageSet`, a pair of tensors (inputs, targets), or a `DataLoader` when they are too large for memory.
The machine (device, dtype, precision, seed) is what `runtime.start` set. Built step by step in lesson 14.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import math
import re
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, RandomSampler

from cnncourse import feeds, processes, project, runtime
from cnncourse import seeds as stacking
from cnncourse.checkpoints import Checkpoint, Saver
from cnncourse.errors import CourseError, MachineError, ParameterError, ShapeError, TrainingError, nearest

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
    valid_loss, valid_accuracy (after the epoch), learning_rate (at its end), seconds, images_per_second (of training).
    `interrupted` says that Ctrl-C ended it.
    """

    def __init__(self, rows=(), *, interrupted: bool = False):
        super().__init__(rows)
        self.interrupted = interrupted

    def __getitem__(self, key):
        if isinstance(key, str):
            if key not in COLUMNS:
                raise ParameterError("a column of the history", repr(key), where="History",
                                     remedy=nearest(key, COLUMNS))
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
        cells = [["" if row[name] is None else format(row[name], ".4g") for name in names] for row in self]
        body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in cells)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

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
        return project.write(Path(path),
                             json.dumps({"interrupted": self.interrupted, "rows": list(self)}, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> History:
        """The history that `save` wrote: the same floats to the last bit."""
        stored = json.loads(Path(path).read_text())
        return cls(stored["rows"], interrupted=stored["interrupted"])


def fit(model: nn.Module, train, valid=None, *, optimizer: Optimizer, epochs: int, batch_size: int | None = None,
        scheduler=None, loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy, augment: Callable | None = None,
        clip_gradient: float | None = None, checkpoint: Checkpoint | str | Path | None = None,
        on_epoch: Callable[[History], object] | None = None, progress: bool = True) -> History:
    """Train `model` in place and return the `History`: one row an epoch, `valid` measured after each.

    train, valid: an `ImageSet`, a pair (inputs, targets) of tensors, or a `DataLoader`, which needs no batch_size.
    optimizer, scheduler: torch's own; a scheduler is stepped once an epoch, `OneCycleLR`, `CyclicLR` and what is
        wrapped in `EachStep` once a step, `ReduceLROnPlateau` with the validation loss.
    loss: (outputs, targets) to the batch's mean, of torch or your own. Targets of class indices, (N,) or (N, H, W) or
        (N, T) with outputs (N, C, ...), give an accuracy, without the positions of the loss's ``ignore_index``; so do
        yes-or-no targets with `BCEWithLogitsLoss`. Other targets give none. A network with several outputs needs a
        loss of your own, which gets them all; the accuracy is that of the first.
    augment: a function of `cnncourse.augment`, called as ``augment(images, generator=...)`` on the uint8 batch.
    clip_gradient: the largest norm of the gradient.
    checkpoint: a path (saved at each epoch) or `Checkpoint` (also every so many steps). If it exists, training goes on
        from there and ends with the bits of an uninterrupted run.
    on_epoch: called with the history after each epoch; when it returns something true, training ends.

    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    >>> fit(model, train, valid, optimizer=optimizer, epochs=2, batch_size=128)
    History(2 epochs: train_loss 0.2904, train_accuracy 0.9117, valid_loss 0.2413, valid_accuracy 0.9356)

    Ctrl-C ends training and returns the history so far. Raises `TrainingError` when the loss is not finite or memory
    is used up, `ShapeError` when data and network do not fit, `CheckpointError` for a file it cannot go on from.
    """
    machine = runtime.current()
    _check_optimizer(model, optimizer, epochs)
    loss, seeds = _Loss(loss, model), getattr(model, "seeds", None)
    feed = feeds.feed(train, batch_size, machine, shuffle=True, augment=augment, seeds=seeds)
    checks = None if valid is None else feeds.feed(valid, batch_size, machine)
    each_step, each_epoch = _schedule(scheduler, optimizer, epochs, len(feed))
    with processes.joined(model, machine, feed) as network:
        saver = Saver(checkpoint, model, optimizer, getattr(scheduler, "scheduler", scheduler), machine, {
            "batch_size": batch_size, "data": feed.checksum or feed.name, "loss": loss.description,
            "clip_gradient": clip_gradient})
        rows, start, sums, ended = saver.resume()
        history = History(rows)
        with _Watch(model, feed, optimizer, history, epochs, progress) as watch:
            for epoch in range(len(history) + 1, 0 if ended else epochs + 1):
                tally, started = Tally(loss, machine, feed, sums), time.perf_counter()
                model.train()
                for step, (inputs, targets) in enumerate(feed.epoch(epoch, start), start + 1):
                    with machine.autocast():
                        outputs = network(*inputs)
                        value = loss(outputs, targets)
                    tally.add(value, outputs, targets)
                    optimizer.zero_grad()
                    value.backward(tally.share)  # None, or this process's share of the batch
                    if clip_gradient is not None:
                        _clip(model, clip_gradient)
                    optimizer.step()
                    each_step()
                    watch.step(epoch, step, tally)
                    saver.step(step, len(feed), history, tally)
                score = watch.finite(tally.score(), tally)
                speed = time.perf_counter() - started
                checked = (None, None) if checks is None else evaluate(model, checks, loss=loss)
                history.append(_row(epoch, score, checked, optimizer, speed, tally.images / speed))
                each_epoch(history[-1])
                ended = bool(on_epoch is not None and on_epoch(history))
                saver.epoch(history, ended)
                start, sums = 0, None
                if ended:
                    break
    return history


@torch.no_grad()
def evaluate(model: nn.Module, images, *, batch_size: int = 1024,
             loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy) -> Score:
    """Mean loss and accuracy over all images, each counted once, with the network in evaluation mode.

    >>> loss, accuracy = evaluate(model, valid)

    Several processes share the images; all get the same score.
    """
    machine = runtime.current()
    loss = loss if isinstance(loss, _Loss) else _Loss(loss, model)
    feed = feeds.feed(images, batch_size, machine)
    tally = Tally(loss, machine, feed, train=False)
    with _evaluating(model, machine, feed) as network:
        for inputs, targets in feed.epoch():
            with machine.autocast():
                outputs = network(*inputs)
                if loss.stacked:
                    targets = targets.expand(len(outputs), *targets.shape)
                value = loss(outputs, targets)
            tally.add(value, outputs, targets)
    return tally.score()


@torch.no_grad()
def predict(model: nn.Module, images, batch_size: int = 1024) -> Tensor:
    """The outputs (N, ...) for all images in their order, on the device, with the network in evaluation mode.

    images: an `ImageSet`, a tensor of inputs, a pair (inputs, targets) or a `DataLoader` that keeps its order.
    Outputs have the dtype of the runtime; of a network with several, the first.

    >>> predict(model, images).argmax(1)
    tensor([7, 2, 1, 0])
    """
    machine = runtime.current()
    if isinstance(images, Tensor):
        images = images, torch.empty(len(images), 0)
    if isinstance(getattr(images, "sampler", None), RandomSampler):
        raise ParameterError("a DataLoader that keeps its order", "one that shuffles",
                             where="argument images of predict", remedy="make it with shuffle=False")
    feed = feeds.feed(images, batch_size, machine, split=False)
    outputs = []
    with _evaluating(model, machine, feed) as network:
        for inputs, _ in feed.epoch():
            with machine.autocast():
                output = _first(network(*inputs))
            outputs.append(output.to(machine.dtype) if output.is_floating_point() else output)
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1 if hasattr(model, "seeds") else 0)


def lr_range_test(model: nn.Module, train, *, optimizer: Optimizer, batch_size: int | None = None,
                  low: float = 1e-6, high: float = 10.0, steps: int = 100,
                  loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy) -> tuple[list[float], list[float]]:
    """(learning rates, losses) while the rate grows from low to high, a constant factor a step.

    The loss falls fastest at a good rate and climbs where training would diverge; the list ends there, once the loss is
    four times its lowest value or not finite. Model, optimizer and random streams are put back as they were.
    (Smith 2017, arXiv:1506.01186, section 3.3.)

    >>> rates, losses = lr_range_test(model, train, optimizer=optimizer, batch_size=128)
    """
    if not 0 < low < high or steps < 2:
        raise ParameterError("0 < low < high and at least 2 steps", f"low={low}, high={high}, steps={steps}",
                             where="lr_range_test", remedy="start with the defaults")
    machine = runtime.current()
    _check_optimizer(model, optimizer, 1)
    network, mode = processes.placed(model, machine), model.training
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    feed = feeds.feed(train, batch_size, machine, shuffle=True, split=False)
    batches = (batch for epoch in itertools.count(1) for batch in feed.epoch(epoch))
    rates = torch.logspace(math.log10(low), math.log10(high), steps, dtype=torch.float64).tolist()
    losses: list[float] = []
    model.train()
    devices = [machine.device] if machine.device.type == "cuda" else []
    with torch.random.fork_rng(devices), contextlib.ExitStack() as afterwards:
        afterwards.callback(model.train, mode)
        afterwards.callback(optimizer.zero_grad)
        afterwards.callback(optimizer.load_state_dict, before[1])
        afterwards.callback(model.load_state_dict, before[0])
        for rate, (inputs, targets) in zip(rates, batches, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = rate
            with machine.autocast():
                value = loss(network(*inputs), targets)
            losses.append(float(value.detach()))
            if not losses[-1] <= 4 * min(losses):
                break
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    return rates[:len(losses)], losses


class Repeats(list):
    """The histories of several seeds, in their order; `models` are the trained networks, `seeds` the seeds.

    `together` says whether they were trained in one batched step; `reason` why not.
    """

    def __init__(self, histories, models: list[nn.Module], seeds: list[int], reason: str | None):
        super().__init__(histories)
        self.models, self.seeds, self.reason, self.together = models, seeds, reason, reason is None

    def last(self, column: str) -> list[float]:
        """The last value of a column, one a seed: ``repeats.last("valid_accuracy")``."""
        return [history[column][-1] for history in self]


def repeat(make: Callable[[], nn.Module], train, valid=None, *, optimizer: Callable[..., Optimizer],
           seeds: Sequence[int] = range(8), scheduler: Callable | None = None, together: bool | None = None,
           progress: bool = True, **options) -> Repeats:
    """Train the same network from several seeds: all at once where it allows that, else one after another.

    make: builds the network; called once a seed, with torch's generators seeded. optimizer: from parameters to an
    optimizer; scheduler: from an optimizer to a scheduler. options: those of `fit` (epochs, batch_size, loss, ...).
    Each seed has its own weights, order and augmentation, and ends with the weights that `fit` alone gives it
    (to rounding: about 1e-12 in float64). together: None decides by `seeds.why_apart`.

    >>> repeats = repeat(make, train, valid, optimizer=lambda p: torch.optim.SGD(p, lr=0.1), epochs=3, batch_size=64)
    >>> repeats.last("valid_accuracy")
    [0.96, 0.94, 0.95, 0.96, 0.95, 0.97, 0.96, 0.95]
    """
    numbers, machine = list(seeds), runtime.current()
    if not numbers or isinstance(optimizer, Optimizer):
        raise ParameterError("at least one seed, and a function that makes an optimizer",
                             f"{numbers} and {type(optimizer).__name__}",
                             where="arguments seeds and optimizer of training.repeat",
                             remedy="optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1)")
    for name in ("checkpoint", "on_epoch"):
        if options.get(name) is not None:
            raise ParameterError(f"no {name}= in repeat", "one", where="argument of training.repeat",
                                 remedy="call fit once a seed, each with its own")
    models = []
    for number in numbers:
        with runtime.seeded(number):
            models.append(make().to(machine.device, machine.dtype))
    reason = "together=False" if together is False else None
    if reason is None:
        kind = type(optimizer(models[0].parameters())).__name__
        reason = stacking.why_apart(models, kind)
        if scheduler and isinstance(scheduler(optimizer(models[0].parameters())), ReduceLROnPlateau):
            reason = "ReduceLROnPlateau gives each seed a learning rate of its own"
        if machine.world > 1 or machine.compile or isinstance(train, DataLoader) or isinstance(valid, DataLoader):
            reason = reason or "several processes, torch.compile and DataLoader are not stacked"
    if reason is None:
        try:
            stacked = stacking.Stacked(models, numbers)
            trained = optimizer(stacked.parameters())
            with torch.no_grad():  # networks that vmap cannot batch say so here, before anything was trained
                stacked.eval()(*next(feeds.feed(train, 2, machine).epoch())[0])
            rows = fit(stacked, train, valid, optimizer=trained, scheduler=scheduler and scheduler(trained),
                       progress=progress, **options)
            stacked.unstack(models)
            return Repeats(_apart(rows, len(numbers)), models, numbers, None)
        except RuntimeError as error:
            if together or "vmap" not in str(error):
                raise
            reason = str(error).splitlines()[0]
    histories = []
    for number, model in zip(numbers, models, strict=True):
        with runtime.seeded(number):
            trained = optimizer(model.parameters())
            histories.append(fit(model, train, valid, optimizer=trained, scheduler=scheduler and scheduler(trained),
                                 progress=progress, **options))
    return Repeats(histories, models, numbers, reason)


class Tally:
    """Loss, count and right answers of each step, kept on the device: nothing waits for it until `score` asks."""

    def __init__(self, loss: _Loss, machine: runtime.Runtime, feed, before: Tensor | None = None, *,
                 train: bool = True):
        self.loss, self.machine, self.feed, self.train = loss, machine, feed, train
        self.before = None if before is None else before[machine.rank]  # of a run that goes on inside an epoch
        self.images, self.share = 0, None
        self.losses, self.weights, self.counts, self.right = [], [], [], []

    def add(self, value: Tensor, outputs: Tensor, targets: Tensor) -> None:
        """Note a step, and set `share`: what to weight its gradient with."""
        value = value.detach()
        weight, count, right = self.loss.counted(_first(outputs).detach(), targets)
        self.images += targets.shape[0] * (targets.shape[1] if self.loss.stacked else 1)
        copies = self.feed.share.copies
        self.losses.append(value)
        for column, number in ((self.weights, weight), (self.counts, count), (self.right, right)):
            column.append(number if copies == 1 or number is None else number / copies)
        if self.loss.stacked:
            self.share = torch.ones_like(value)  # the sum over seeds: each gets its own gradient
        elif self.machine.world > 1 and self.train:
            own = torch.as_tensor(weight, dtype=value.dtype, device=value.device).clone()
            self.share = own * self.machine.world / processes.summed(own.clone(), self.machine)

    def steps(self) -> Tensor:
        """(steps, 4), or (steps, 4, S) for S seeds, float64: mean loss, what it is the mean of, positions that count,
        right answers among them."""
        if not self.losses:
            done = torch.zeros(0, 4, dtype=torch.float64)
        else:
            losses = torch.stack(self.losses).cpu().double()
            done = torch.stack([losses, *(_column(numbers, losses)
                                          for numbers in (self.weights, self.counts, self.right))], 1)
        return done if self.before is None else torch.cat([self.before, done])

    def score(self) -> Score:
        """Mean loss and accuracy over all steps and processes."""
        losses, weights, counts, right = self.steps().unbind(1)
        losses = torch.where(weights > 0, losses * weights, 0)  # a batch without counted positions has no mean
        sums = torch.stack([losses.sum(0), weights.sum(0), counts.sum(0), right.sum(0)])
        sums = processes.summed(sums, self.machine).cpu()
        loss, accuracy = sums[0] / sums[1], sums[3] / sums[2]
        return Score(loss.tolist(), None if accuracy.isnan().all() and self.right[-1:] == [None] else accuracy.tolist())


def _column(numbers: list, losses: Tensor) -> Tensor:
    """Numbers of the steps, on the device or not, in the shape of the losses; nan where there are none."""
    if numbers[0] is None:
        return torch.full_like(losses, math.nan)
    many = isinstance(numbers[0], Tensor)
    column = torch.stack(numbers).cpu().double() if many else torch.tensor(numbers, dtype=torch.float64)
    return column.view(len(losses), *[-1] * (losses.ndim - 1)).expand_as(losses)


def _first(outputs: Tensor | Sequence[Tensor] | Mapping[str, Tensor]) -> Tensor:
    """The output itself; of several, as of a network with auxiliary heads, the first."""
    if isinstance(outputs, Tensor):
        return outputs
    return next(iter(outputs.values() if isinstance(outputs, Mapping) else outputs))


class _Loss:
    """The loss of fit and evaluate, with what it leaves out and errors that name the mistake."""

    def __init__(self, loss: Callable, model: nn.Module):
        self.function, self.stacked = loss, hasattr(model, "seeds")
        self.batched = loss
        if self.stacked:
            self.batched = _cross_entropies if loss is F.cross_entropy else torch.vmap(loss)
        named = loss.func if isinstance(loss, partial) else loss
        self.name = getattr(named, "__name__", type(named).__name__)
        options = {}
        if isinstance(loss, partial):
            options = loss.keywords
        elif isinstance(loss, nn.Module):
            options = {name: value for name, value in vars(loss).items() if name[0] != "_" and name != "training"}
            options |= dict(loss.named_buffers())
        self.description = f"{self.name}({', '.join(f'{name}={_plain(value)}' for name, value in options.items())})"
        if options.get("reduction", "mean") != "mean":
            raise ParameterError("a loss that is the mean over the batch", f"reduction={options['reduction']!r}",
                                 where=f"the loss {self.name}",
                                 remedy="leave reduction out; histories are made of means")
        self.of_classes = self.name in ("cross_entropy", "CrossEntropyLoss", "nll_loss", "NLLLoss")
        self.ignore = options.get("ignore_index", -100 if self.of_classes else None)  # torch's default
        self.weight = options.get("weight") if self.of_classes else None
        self.yes_or_no = self.name in ("BCEWithLogitsLoss", "binary_cross_entropy_with_logits")
        self.checked = False

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if not self.checked:
            self._check(outputs, targets)
        try:
            if self.of_classes and outputs.is_cuda and torch.are_deterministic_algorithms_enabled():
                outputs, targets = _rows(outputs, targets, 1 + int(self.stacked))
            value = self.batched(outputs, targets)
            if value.ndim != int(self.stacked) or torch.is_grad_enabled() and not value.requires_grad:
                raise ShapeError("a loss that is one number with a gradient", f"{_shape(value)}, "
                                 f"requires_grad={value.requires_grad}", where=f"the loss {self.name}",
                                 remedy="take the mean over the batch, and neither detach() nor item() it")
            return value
        except CourseError:
            raise
        except (RuntimeError, IndexError, ValueError) as error:
            self._check(outputs, targets)
            raise ShapeError(f"outputs and targets that {self.name} can compare",
                             f"{_shape(outputs)} and {_shape(targets)} ({str(error).splitlines()[0]})",
                             where="the loss",
                             remedy="class indices are int64 (N,) beside outputs (N, C); "
                                    "other targets, and weights of the loss, have the dtype of the outputs") from error

    def counted(self, outputs: Tensor, targets: Tensor) -> tuple[int | Tensor, int | Tensor, Tensor | None]:
        """(What the loss is a mean of, how many positions count, how many of them are right), (S,) each when stacked.

        Class weights make the first two differ.
        """
        axis = int(self.stacked)
        size = targets.shape[axis]
        if targets.is_floating_point():
            if not self.yes_or_no:
                return size, size, None
            right = ((outputs > 0) == (targets > 0.5)).flatten(axis)
            return size, size, right.sum(-1) * (size / right.shape[-1])
        if outputs.ndim != targets.ndim + 1:
            return size, size, None
        right = outputs.argmax(1 + axis) == targets
        if self.ignore is None:
            count = targets[0].numel() if self.stacked else targets.numel()
            return count, count, right.flatten(axis).sum(-1)
        counted = targets != self.ignore
        count, right = counted.flatten(axis).sum(-1), (right & counted).flatten(axis).sum(-1)
        if self.weight is None:
            return count, count, right
        weights = self.weight[targets.where(counted, 0)] * counted
        return weights.flatten(axis).sum(-1), count, right

    def _check(self, outputs: Tensor, targets: Tensor) -> None:
        self.checked = True
        axis, where = int(self.stacked), f"the loss {self.name}"
        elementwise = self.name.lower().replace("_", "") in ("mseloss", "l1loss", "smoothl1loss", "huberloss")
        if not isinstance(outputs, Tensor):
            if self.of_classes or elementwise or self.yes_or_no:
                raise ShapeError("one output", f"{type(outputs).__name__} of {len(outputs)}", where=where,
                                 remedy="write the loss for them: lambda outputs, targets: "
                                 "F.cross_entropy(outputs[0], targets) + 0.3 * F.cross_entropy(outputs[1], targets)")
            return
        if elementwise and outputs.shape != targets.shape:
            raise ShapeError(f"targets with the shape of the outputs, {_shape(outputs)}", _shape(targets),
                             where=where, remedy="targets[:, None] adds an axis, "
                             "outputs.squeeze(1) takes one away; unequal shapes are paired all with all")
        if self.of_classes:
            probabilities = targets.is_floating_point() and targets.shape == outputs.shape
            classes = outputs.shape[1 + axis]
            if not probabilities and (targets.dtype != torch.int64 or outputs.ndim != targets.ndim + 1):
                remedy = "convert with labels.long(), or use F.mse_loss for regression"
                if targets.shape == outputs.shape:
                    remedy = "convert the probabilities or ones and zeros with targets.float()"
                elif targets.ndim == outputs.ndim and targets.shape[1 + axis] == 1:
                    remedy = "take the extra axis away: labels.squeeze(1)"
                raise ShapeError("class indices as int64, or probabilities with the shape of the outputs",
                                 f"{_shape(targets)} beside outputs {_shape(outputs)}", where=where, remedy=remedy)
            if not targets.is_floating_point():
                wrong = ((targets < 0) | (targets >= classes)) & (targets != self.ignore)
                if wrong.any():
                    label = int(targets[wrong][0])
                    larger = f"give the last layer {int(targets.max()) + 1} outputs, " if label >= classes else ""
                    raise TrainingError(f"labels from 0 to {classes - 1}, for the network has {classes} outputs",
                                        f"label {label}", where=where,
                                        remedy=f"{larger}count the labels from 0, or pass the label to leave out as "
                                               "ignore_index")


def _rows(outputs: Tensor, targets: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) and (N, H, W) as rows (N * H * W, C) and (N * H * W,), C being at `axis`; of rows, themselves.

    torch has a deterministic negative log likelihood on CUDA for rows only.
    """
    outputs = outputs.movedim(axis, -1)
    return outputs.flatten(axis - 1, -2), targets.flatten(axis - 1)


def _cross_entropies(outputs: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy of each seed, (S,): what vmap of `F.cross_entropy` gives, from one kernel."""
    each = F.cross_entropy(outputs.flatten(0, 1), targets.flatten(0, 1), reduction="none")
    if targets.is_floating_point():
        return each.view(len(outputs), -1).mean(1)
    return each.view(len(outputs), -1).sum(1) / (targets != -100).flatten(1).sum(1)  # torch's index to leave out


class _Watch:
    """What stands around the loop: the progress bar, Ctrl-C, and failures with their remedy."""

    pause = 0.25  # seconds between two looks at the loss, each of which waits for the device

    def __init__(self, model: nn.Module, feed, optimizer: Optimizer, history: History, epochs: int, progress: bool):
        machine = runtime.current()
        self.model, self.feed, self.optimizer, self.history, self.machine = model, feed, optimizer, history, machine
        self.shown = progress and machine.rank == 0 and runtime.interactive()
        self.epochs, self.epoch, self.seen, self.bar = epochs, len(history) + 1, 0, None
        self.next = time.perf_counter() + self.pause

    def __enter__(self) -> _Watch:
        if self.shown:
            from tqdm.auto import tqdm

            steps = len(self.feed)
            self.bar = tqdm(total=steps * self.epochs, initial=steps * len(self.history), unit="step", leave=False,
                            dynamic_ncols=True)
        return self

    def step(self, epoch: int, step: int, tally: Tally) -> None:
        """After each step; now and then, look at the loss and move the bar."""
        self.epoch = epoch
        now = time.perf_counter()
        if now < self.next:
            return
        self.next = now + (self.pause if self.bar is not None else 4 * self.pause)
        loss = tally.losses[-1].mean().item()  # waits for the device, so not at every step
        if not math.isfinite(loss):
            self.finite(tally.score(), tally)
        if self.bar is not None:
            self.bar.n = (epoch - 1) * len(self.feed) + step
            self.bar.set_postfix_str(f"epoch {epoch} of {self.epochs}, loss {loss:.3g}")

    def finite(self, score: Score, tally: Tally) -> Score:
        """The score, if its loss is a number; `TrainingError` with the step at which it stopped being one."""
        if torch.as_tensor(score.loss).isfinite().all():
            return score
        steps = tally.steps()
        if not (steps[:, 1] > 0).any():
            raise TrainingError("targets that count", f"none in {len(steps)} steps", where=f"epoch {self.epoch}",
                                remedy="all are the loss's ignore_index: check how the targets were made")
        bad = (~steps[:, 0].isfinite() & (steps[:, 1] > 0)).flatten(1).any(1) if steps.ndim == 3 else \
            ~steps[:, 0].isfinite() & (steps[:, 1] > 0)
        first = int(bad.nonzero()[0]) if bad.any() else None
        rate = self.optimizer.param_groups[0]["lr"]
        inputs = self.feed.latest[1]
        if first is not None and isinstance(self.feed, feeds.TensorFeed):
            inputs = next(self.feed.epoch(self.epoch, first))[0]
        unclean = any(part.is_floating_point() and not part.isfinite().all() for part in inputs)
        step = "" if first is None else f", step {first + 1}"
        raise TrainingError("a finite loss", f"{score.loss} at learning rate {float(rate):g}",
                            where=f"epoch {self.epoch}{step} of {len(self.feed)}",
                            remedy="the inputs hold nan or inf: clean the data" if unclean else
                            f"try learning rate {float(rate) / 10:g}, or clip_gradient=1.0; "
                            "lr_range_test shows where the loss climbs")

    def __exit__(self, kind, error, trace) -> bool:
        if self.bar is not None:
            if error is None:  # a bar that is not full when it closes stays there in red, as after a failure
                self.bar.n = self.bar.total = len(self.feed) * len(self.history)
            self.bar.close()
        if isinstance(error, KeyboardInterrupt):
            self.history.interrupted = True
            return True
        if isinstance(error, RuntimeError | ValueError) and not isinstance(error, CourseError):
            if _out_of_memory(error):
                raise self._smaller(error) from error
            if "does not have a deterministic implementation" in str(error):
                raise MachineError(f"a deterministic form of every operation on {self.machine.device}",
                                   str(error).partition(".")[0],
                                   where=f"epoch {self.epoch}, step {self.feed.latest[0]}",
                                   remedy="runtime.start(deterministic=False): the same seed then gives numbers that "
                                   "differ in their last digits from run to run; docs/training.md lists such operations"
                                   ) from error
            _raise_shape(error, self.model, self.feed)
        return False

    def _smaller(self, error: RuntimeError) -> TrainingError:
        traceback.clear_frames(error.__traceback__)  # they hold the activations of the failed pass
        inputs = self.feed.latest[1]
        size = inputs[0].shape[int(hasattr(self.model, "seeds"))]
        fits = None if hasattr(self.model, "seeds") else _fitting(self.model, inputs, self.machine)
        advice = f"batch_size={fits} fits (tried forward and backward)" if fits else "lower batch_size"
        return TrainingError(f"memory for a batch of {size} on {runtime.device_name(self.machine.device)}",
                             str(error).splitlines()[0][:200], where=f"epoch {self.epoch}, step {self.feed.latest[0]}",
                             remedy=advice)


@contextlib.contextmanager
def _evaluating(model: nn.Module, machine: runtime.Runtime, feed):
    """The network in evaluation mode, put back into the mode it had."""
    network, modes = processes.placed(model, machine), [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield network
    except (RuntimeError, ValueError) as error:
        if isinstance(error, CourseError):
            raise
        if _out_of_memory(error):
            raise TrainingError(f"memory for a batch of {len(feed.latest[1][0])}", str(error).splitlines()[0][:200],
                                where="evaluate or predict", remedy="lower its batch_size") from error
        _raise_shape(error, model, feed)
        raise
    finally:
        for module, mode in modes:
            module.training = mode
        if hasattr(model, "skeleton"):
            model.train(model.training)


def _schedule(scheduler, optimizer: Optimizer, epochs: int, steps: int
              ) -> tuple[Callable[[], object], Callable[[dict], object]]:
    """(what to do after each step, what to do after each epoch with its row)."""
    if scheduler is None:
        return lambda: None, lambda row: None
    inner, where = getattr(scheduler, "scheduler", scheduler), "argument scheduler of fit"
    if not isinstance(inner, LRScheduler):
        raise ParameterError("a scheduler of torch.optim.lr_scheduler, or EachStep of one", type(scheduler).__name__,
                             where=where, remedy="ChainedScheduler and SequentialLR make one of several")
    if inner.optimizer is not optimizer:
        raise ParameterError("a scheduler of this optimizer", f"{type(inner).__name__} of another one",
                             where=where, remedy="make the scheduler after the optimizer")
    if isinstance(inner, OneCycleLR) and inner.total_steps < epochs * steps:
        raise ParameterError(f"total_steps={epochs * steps} or more, for {epochs} epochs of {steps} steps",
                             inner.total_steps, where=where,
                             remedy=f"OneCycleLR(..., epochs={epochs}, steps_per_epoch={steps})")
    if isinstance(scheduler, EachStep | OneCycleLR | CyclicLR):
        return inner.step, lambda row: None
    if isinstance(scheduler, ReduceLROnPlateau):
        def after(row: dict) -> None:
            scheduler.step(row["train_loss"] if row["valid_loss"] is None else row["valid_loss"])
        return lambda: None, after
    return lambda: None, lambda row: scheduler.step()


def _row(epoch: int, score: Score, checked: Score, optimizer: Optimizer, seconds: float, speed: float) -> dict:
    rate = float(optimizer.param_groups[0]["lr"])
    return dict(zip(COLUMNS, (epoch, *score, *checked, rate, seconds, speed), strict=True))


def _apart(history: History, count: int) -> list[History]:
    """One history a seed from rows whose values are lists over the seeds."""
    return [History(({name: value[seed] if isinstance(value, list) else value for name, value in row.items()}
                     for row in history), interrupted=history.interrupted) for seed in range(count)]


def _clip(model: nn.Module, largest: float) -> None:
    """Scale the gradient down to this norm; of stacked networks each one's by itself."""
    if not hasattr(model, "seeds"):
        nn.utils.clip_grad_norm_(model.parameters(), largest)
        return
    gradients = [weight.grad for weight in model.parameters()]
    norm = sum(gradient.flatten(1).square().sum(1) for gradient in gradients).sqrt()
    scale = (largest / (norm + 1e-6)).clamp(max=1)  # 1e-6 as in torch
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *[1] * (gradient.ndim - 1)))


def _check_optimizer(model: nn.Module, optimizer: Optimizer, epochs: int) -> None:
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 0:
        raise ParameterError("a number of epochs, at least 0", repr(epochs), where="argument epochs of fit",
                             remedy="pass a whole number")
    for name, thing, kind in (("model", model, nn.Module), ("optimizer", optimizer, Optimizer)):
        if not isinstance(thing, kind):
            raise ParameterError(f"{name} as an instance of {kind.__module__}.{kind.__name__}", repr(thing)[:80],
                                 where=f"argument {name} of fit",
                                 remedy="build it first: torch.optim.SGD(model.parameters(), lr=0.1), for example")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ParameterError("an optimizer whose step needs no closure", "LBFGS", where="argument optimizer of fit",
                             remedy="use SGD or Adam; LBFGS evaluates the loss several times a step")
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    if not any(weight.requires_grad for weight in weights):
        raise ParameterError("a network with weights that learn", "requires_grad=False everywhere",
                             where="argument optimizer of fit",
                             remedy="switch the layers to be trained on: layer.requires_grad_(True)")
    trained = {id(weight) for weight in weights}
    if not trained & {id(weight) for weight in model.parameters()}:
        raise ParameterError("an optimizer of this network's parameters", "the parameters of another one",
                             where="argument optimizer of fit",
                             remedy="make the optimizer after the network: torch.optim.SGD(model.parameters(), lr=0.1)")


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _fitting(model: nn.Module, inputs: tuple[Tensor, ...], machine: runtime.Runtime) -> int | None:
    """The largest of half, a quarter, ... of the batch whose forward and backward pass fit into memory."""
    model.zero_grad()
    trial, size = None, len(inputs[0]) // 2
    while size:
        if machine.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            trial = trial or copy.deepcopy(model)
            with machine.autocast():
                outputs = trial(*(part[:size] for part in inputs))
            outputs.float().sum().backward()
            return size
        except RuntimeError as error:
            if not _out_of_memory(error):
                return None
        size //= 2
    return None


def _raise_shape(error: Exception, model: nn.Module, feed) -> None:
    """Raise a `ShapeError` that names the layer, if the error is about shapes or dtypes inside the network."""
    text = str(error).splitlines()[0] if str(error) else ""
    if "more than 1 value per channel" in text:
        raise ParameterError("at least two images in a batch that is normalised", f"one ({text})",
                             where=f"step {feed.latest[0]} of {len(feed)}",
                             remedy="choose another batch_size, so that no single image is left for the last batch"
                             ) from error
    if not re.search(r"shape|size|dimension|channels|dtype|same type|be the same|[Ee]xpected.*(input|\dD)", text):
        return
    names = {id(module): name for name, module in model.named_modules()}
    layer, came = None, None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_locals.get("self")
        inside = frame.f_code.co_name in ("forward", "_conv_forward")
        if inside and isinstance(module, nn.Module) and id(module) in names:
            layer, came = module, frame.f_locals.get("input", frame.f_locals.get("x"))
    if layer is None:
        return
    got = _shape(came) if isinstance(came, Tensor) else ", ".join(_shape(part) for part in feed.latest[1])
    where = f"layer {names[id(layer)]!r}: {str(layer).splitlines()[0]}" if names[id(layer)] else type(layer).__name__
    remedy = "compare its in_channels or in_features with the input; cost.table lists all shapes"
    if isinstance(came, Tensor) and came.dtype == torch.uint8:
        remedy = "uint8 images are scaled by an ImageSet; in a pair of tensors do it yourself: images.float() / 255"
    raise ShapeError("an input that this layer can take", f"{got} ({text[:160]})", where=where, remedy=remedy
                     ) from error


def _plain(value: object) -> str:
    """An option of a loss in words that are equal in every process."""
    if isinstance(value, Tensor):
        return str(value.tolist())
    return repr(value) if isinstance(value, bool | int | float | str | None) else type(value).__name__


def _shape(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else type(
        tensor).__name__
