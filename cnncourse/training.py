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
import time
from collections.abc import Callable, Sequence
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
from cnncourse.errors import CourseError, ParameterError, TrainingError, nearest
from cnncourse.scores import Loss, Score, Tally, first
from cnncourse.watch import Watch, out_of_memory, raise_shape

COLUMNS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "valid_loss",
    "valid_accuracy",
    "learning_rate",
    "seconds",
    "images_per_second",
)
_SHOWN = COLUMNS[:-2]  # what a notebook stores: the clock differs from run to run


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
                raise ParameterError(
                    "a column of the history",
                    repr(key),
                    where="History",
                    remedy=nearest(key, COLUMNS),
                )
            return [row[key] for row in self]
        return (
            History(super().__getitem__(key), interrupted=self.interrupted)
            if isinstance(key, slice)
            else super().__getitem__(key)
        )

    def __getattr__(self, name: str):
        if name in COLUMNS:
            return self[name]
        raise AttributeError(f"History has no {name!r}: {nearest(name, COLUMNS)}")

    def __repr__(self) -> str:
        if not self:
            return "History(no epoch finished)"
        last = {
            name: value
            for name, value in self[-1].items()
            if name in _SHOWN[1:5] and value is not None
        }
        facts = ", ".join(f"{name} {value:.4g}" for name, value in last.items())
        return f"History({len(self)} epoch{'s' * (len(self) != 1)}: {facts}{', interrupted' * self.interrupted})"

    def _repr_html_(self) -> str:
        names = [name for name in _SHOWN if any(row[name] is not None for row in self)]
        head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in names)
        cells = [
            ["" if row[name] is None else format(row[name], ".4g") for name in names]
            for row in self
        ]
        body = "".join(
            "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in cells
        )
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
                axes.plot(
                    self["epoch"], self[name], colour, marker=".", label=name.partition("_")[0]
                )
        axes.set(xlabel="epoch", ylabel="loss")
        axes.legend()
        return axes

    def save(self, path: str | Path) -> Path:
        """Write the rows as JSON, whole or not at all."""
        return project.write(
            Path(path),
            json.dumps({"interrupted": self.interrupted, "rows": list(self)}, indent=1) + "\n",
        )

    @classmethod
    def load(cls, path: str | Path) -> History:
        """The history that `save` wrote: the same floats to the last bit."""
        stored = json.loads(Path(path).read_text())
        return cls(stored["rows"], interrupted=stored["interrupted"])


def fit(
    model: nn.Module,
    train,
    valid=None,
    *,
    optimizer: Optimizer,
    epochs: int,
    batch_size: int | None = None,
    scheduler=None,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    augment: Callable | None = None,
    clip_gradient: float | None = None,
    checkpoint: Checkpoint | str | Path | None = None,
    on_epoch: Callable[[History], object] | None = None,
    progress: bool = True,
) -> History:
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

    All layers are in training mode while it trains: a BatchNorm that is to keep its statistics overrides `train`.
    Ctrl-C ends training and returns the history so far. Raises `TrainingError` when the loss is not finite or memory
    is used up, `ShapeError` when data and network do not fit, `CheckpointError` for a file it cannot go on from.
    """
    machine = runtime.current()
    _check_optimizer(model, optimizer, epochs, clip_gradient)
    loss, seeds = Loss(loss, model), model.seeds if isinstance(model, stacking.Stacked) else None
    feed = feeds.feed(train, batch_size, machine, shuffle=True, augment=augment, seeds=seeds)
    checks = None if valid is None else feeds.feed(valid, batch_size, machine)
    each_step, each_epoch = _schedule(scheduler, optimizer, epochs, len(feed))
    with processes.joined(model, machine, feed) as network:
        saver = Saver(
            checkpoint,
            model,
            optimizer,
            getattr(scheduler, "scheduler", scheduler),
            loss,
            machine,
            {
                **feed.settings,
                "batch_size": batch_size,
                "loss": loss.description,
                "clip_gradient": clip_gradient,
            },
        )
        rows, start, sums, ended = saver.resume()
        history = History(rows)
        with Watch(model, feed, optimizer, history, epochs, progress) as watch:
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
def evaluate(
    model: nn.Module,
    images,
    *,
    batch_size: int = 1024,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> Score:
    """Mean loss and accuracy over all images, each counted once, with the network in evaluation mode.

    >>> loss, accuracy = evaluate(model, valid)

    Several processes share the images; all get the same score.
    """
    machine = runtime.current()
    loss = loss if isinstance(loss, Loss) else Loss(loss, model)
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
        raise ParameterError(
            "a DataLoader that keeps its order",
            "one that shuffles",
            where="argument images of predict",
            remedy="make it with shuffle=False",
        )
    feed = feeds.feed(images, batch_size, machine, split=False)
    outputs = []
    with _evaluating(model, machine, feed) as network:
        for inputs, _ in feed.epoch():
            with machine.autocast():
                output = first(network(*inputs))
            outputs.append(output.to(machine.dtype) if output.is_floating_point() else output)
    return (
        outputs[0]
        if len(outputs) == 1
        else torch.cat(outputs, dim=1 if isinstance(model, stacking.Stacked) else 0)
    )


def lr_range_test(
    model: nn.Module,
    train,
    *,
    optimizer: Optimizer,
    batch_size: int | None = None,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> tuple[list[float], list[float]]:
    """(learning rates, losses) while the rate grows from low to high, a constant factor a step.

    The loss falls fastest at a good rate and climbs where training would diverge; the list ends there, once the loss is
    four times its lowest value or not finite. Model, optimizer and torch's random streams are put back as they were.
    (Smith 2017, arXiv:1506.01186, section 3.3.)

    >>> rates, losses = lr_range_test(model, train, optimizer=optimizer, batch_size=128)
    """
    if not 0 < low < high or steps < 2:
        raise ParameterError(
            "0 < low < high and at least 2 steps",
            f"low={low}, high={high}, steps={steps}",
            where="lr_range_test",
            remedy="start with the defaults",
        )
    machine = runtime.current()
    _check_optimizer(model, optimizer, 1)
    loss, network = Loss(loss, model), processes.placed(model, machine)
    modes = [(module, module.training) for module in model.modules()]
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    feed = feeds.feed(train, batch_size, machine, shuffle=True, split=False)
    batches = (batch for epoch in itertools.count(1) for batch in feed.epoch(epoch))
    rates = torch.logspace(math.log10(low), math.log10(high), steps, dtype=torch.float64).tolist()
    losses: list[float] = []
    model.train()
    devices = [machine.device] if machine.device.type == "cuda" else []
    with torch.random.fork_rng(devices), contextlib.ExitStack() as afterwards:
        afterwards.callback(_set_modes, modes)
        afterwards.callback(optimizer.zero_grad)
        afterwards.callback(optimizer.load_state_dict, before[1])
        afterwards.callback(model.load_state_dict, before[0])
        for rate, (inputs, targets) in zip(rates, batches, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = rate
            with machine.autocast():
                value = loss(network(*inputs), targets)
            losses.append(float(value.detach()))
            lowest = min(losses)
            if not losses[-1] <= lowest + 3 * abs(lowest):
                break
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    return rates[: len(losses)], losses


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


def repeat(
    make: Callable[[], nn.Module],
    train,
    valid=None,
    *,
    optimizer: Callable[..., Optimizer],
    seeds: Sequence[int] = range(8),
    scheduler: Callable | None = None,
    together: bool | None = None,
    progress: bool = True,
    **options,
) -> Repeats:
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
        raise ParameterError(
            "at least one seed, and a function that makes an optimizer",
            f"{numbers} and {type(optimizer).__name__}",
            where="arguments seeds and optimizer of training.repeat",
            remedy="optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1)",
        )
    for name in ("checkpoint", "on_epoch"):
        if options.get(name) is not None:
            raise ParameterError(
                f"no {name}= in repeat",
                "one",
                where="argument of training.repeat",
                remedy="call fit once a seed, each with its own",
            )
    models, streams, gpu = [], [], machine.device.type == "cuda"
    for number in numbers:
        with runtime.seeded(number):
            models.append(make().to(machine.device, machine.dtype))
            streams.append(
                (torch.get_rng_state(), torch.cuda.get_rng_state(machine.device) if gpu else None)
            )
    if len(set(map(id, models))) < len(models):
        raise ParameterError(
            "a function that builds a new network each time",
            "the same network twice",
            where="argument make of training.repeat",
            remedy="build it inside the function",
        )
    reason = "together=False" if together is False else None
    if reason is None:
        kind = type(optimizer(models[0].parameters())).__name__
        reason = stacking.why_apart(models, kind)
        if scheduler and isinstance(
            scheduler(optimizer(models[0].parameters())), ReduceLROnPlateau
        ):
            reason = "ReduceLROnPlateau gives each seed a learning rate of its own"
        if (
            machine.world > 1
            or machine.compile
            or isinstance(train, DataLoader)
            or isinstance(valid, DataLoader)
        ):
            reason = reason or "several processes, torch.compile and DataLoader are not stacked"
    if reason is None:
        try:  # networks that vmap cannot batch say so here, before anything was trained
            stacked = stacking.Stacked(models, numbers)
            with torch.no_grad():
                stacked.eval()(*next(feeds.feed(train, 2, machine).epoch())[0])
        except (RuntimeError, TypeError, NotImplementedError) as error:
            reason = f"not batched by vmap: {str(error).splitlines()[0]}"
    if reason is None:
        trained = optimizer(stacked.parameters())
        try:
            rows = fit(
                stacked,
                train,
                valid,
                optimizer=trained,
                scheduler=scheduler and scheduler(trained),
                progress=progress,
                **options,
            )
            stacked.unstack(models)
            return Repeats(_apart(rows, len(numbers)), models, numbers, None)
        except RuntimeError as error:
            if "vmap" not in str(error):
                raise
            reason = str(error).splitlines()[0]
    histories = []
    for number, model, stream in zip(numbers, models, streams, strict=True):
        with runtime.seeded(number):
            torch.set_rng_state(stream[0])  # as it was once the network was made
            if gpu:
                torch.cuda.set_rng_state(stream[1], machine.device)
            trained = optimizer(model.parameters())
            histories.append(
                fit(
                    model,
                    train,
                    valid,
                    optimizer=trained,
                    scheduler=scheduler and scheduler(trained),
                    progress=progress,
                    **options,
                )
            )
        if histories[-1].interrupted:
            break
    return Repeats(histories, models, numbers, reason)


@contextlib.contextmanager
def _evaluating(model: nn.Module, machine: runtime.Runtime, feed):
    """The network in evaluation mode, put back into the mode it had."""
    network, modes = (
        processes.placed(model, machine),
        [(module, module.training) for module in model.modules()],
    )
    model.eval()
    try:
        yield network
    except (RuntimeError, ValueError) as error:
        if isinstance(error, CourseError):
            raise
        if out_of_memory(error):
            raise TrainingError(
                f"memory for a batch of {len(feed.latest[1][0])}",
                str(error).splitlines()[0][:200],
                where="evaluate or predict",
                remedy="lower its batch_size",
            ) from error
        raise_shape(error, model, feed)
        raise
    finally:
        _set_modes(modes)
        if isinstance(model, stacking.Stacked):
            model.train(model.training)


def _set_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    for module, mode in modes:
        module.training = mode


def _schedule(
    scheduler, optimizer: Optimizer, epochs: int, steps: int
) -> tuple[Callable[[], object], Callable[[dict], object]]:
    """(what to do after each step, what to do after each epoch with its row)."""
    if scheduler is None:
        return lambda: None, lambda row: None
    inner, where = getattr(scheduler, "scheduler", scheduler), "argument scheduler of fit"
    if not isinstance(inner, LRScheduler):
        raise ParameterError(
            "a scheduler of torch.optim.lr_scheduler, or EachStep of one",
            type(scheduler).__name__,
            where=where,
            remedy="ChainedScheduler and SequentialLR make one of several",
        )
    if isinstance(inner, ReduceLROnPlateau) and (
        isinstance(scheduler, EachStep) or inner.mode == "max"
    ):
        raise ParameterError(
            "ReduceLROnPlateau with mode='min', by itself",
            "mode='max'" if inner.mode == "max" else "EachStep of it",
            where=where,
            remedy="it is stepped once an epoch with the loss",
        )
    if inner.optimizer is not optimizer:
        raise ParameterError(
            "a scheduler of this optimizer",
            f"{type(inner).__name__} of another one",
            where=where,
            remedy="make the scheduler after the optimizer",
        )
    if isinstance(inner, OneCycleLR) and inner.total_steps < epochs * steps:
        raise ParameterError(
            f"total_steps={epochs * steps} or more, for {epochs} epochs of {steps} steps",
            inner.total_steps,
            where=where,
            remedy=f"OneCycleLR(..., epochs={epochs}, steps_per_epoch={steps})",
        )
    if isinstance(scheduler, EachStep | OneCycleLR | CyclicLR):
        return inner.step, lambda row: None
    if isinstance(scheduler, ReduceLROnPlateau):

        def after(row: dict) -> None:
            scheduler.step(row["train_loss"] if row["valid_loss"] is None else row["valid_loss"])

        return lambda: None, after
    return lambda: None, lambda row: scheduler.step()


def _row(
    epoch: int, score: Score, checked: Score, optimizer: Optimizer, seconds: float, speed: float
) -> dict:
    rate = float(optimizer.param_groups[0]["lr"])
    return dict(zip(COLUMNS, (epoch, *score, *checked, rate, seconds, speed), strict=True))


def _apart(history: History, count: int) -> list[History]:
    """One history a seed from rows whose values are lists over the seeds."""
    return [
        History(
            (
                {
                    name: value[seed] if isinstance(value, list) else value
                    for name, value in row.items()
                }
                for row in history
            ),
            interrupted=history.interrupted,
        )
        for seed in range(count)
    ]


def _clip(model: nn.Module, largest: float) -> None:
    """Scale the gradient down to this norm; of stacked networks each one's by itself."""
    if not isinstance(model, stacking.Stacked):
        nn.utils.clip_grad_norm_(model.parameters(), largest)
        return
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    norm = sum(gradient.flatten(1).square().sum(1) for gradient in gradients).sqrt()
    scale = (largest / (norm + 1e-6)).clamp(max=1)  # 1e-6 as in torch
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *[1] * (gradient.ndim - 1)))


def _check_optimizer(
    model: nn.Module, optimizer: Optimizer, epochs: int, clip_gradient: float | None = None
) -> None:
    if clip_gradient is not None and not clip_gradient > 0:
        raise ParameterError(
            "a largest norm above 0, or None for no limit",
            clip_gradient,
            where="argument clip_gradient of fit",
            remedy="leave it out, or try 1.0",
        )
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 0:
        raise ParameterError(
            "a number of epochs, at least 0",
            repr(epochs),
            where="argument epochs of fit",
            remedy="pass a whole number",
        )
    for name, thing, kind in (("model", model, nn.Module), ("optimizer", optimizer, Optimizer)):
        if not isinstance(thing, kind):
            raise ParameterError(
                f"{name} as an instance of {kind.__module__}.{kind.__name__}",
                repr(thing)[:80],
                where=f"argument {name} of fit",
                remedy="build it first: torch.optim.SGD(model.parameters(), lr=0.1), for example",
            )
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ParameterError(
            "an optimizer whose step needs no closure",
            "LBFGS",
            where="argument optimizer of fit",
            remedy="use SGD or Adam; LBFGS evaluates the loss several times a step",
        )
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    if not any(weight.requires_grad for weight in weights):
        raise ParameterError(
            "a network with weights that learn",
            "requires_grad=False everywhere",
            where="argument optimizer of fit",
            remedy="switch the layers to be trained on: layer.requires_grad_(True)",
        )
    trained = {id(weight) for weight in weights}
    if not trained & {id(weight) for weight in model.parameters()}:
        raise ParameterError(
            "an optimizer of this network's parameters",
            "the parameters of another one",
            where="argument optimizer of fit",
            remedy="make the optimizer after the network: torch.optim.SGD(model.parameters(), lr=0.1)",
        )
