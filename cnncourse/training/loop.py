"""The one training loop: `fit` a network, `evaluate` it, `predict` with it, find a learning rate for it."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.utils._pytree import tree_map
from torch.utils.data import RandomSampler

from cnncourse import runtime
from cnncourse.errors import CourseError, ParameterError, TrainingError
from cnncourse.training.batches import batched
from cnncourse.training.checkpoint import Checkpoint, Saver
from cnncourse.training.distributed import average_gradients, joined, placed
from cnncourse.training.history import COLUMNS, History
from cnncourse.training.loss import Loss, Meter, Score, first
from cnncourse.training.order import out_of_memory
from cnncourse.training.progress import Divergence, Watch, raise_shape
from cnncourse.training.schedule import schedule
from cnncourse.training.stacked import Stacked


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
    metrics: Mapping[str, Callable[[nn.Module], object]] | None = None,
    drop_last: bool = False,
    progress: bool = True,
) -> History:
    """Train `model` in place and return the `History`: one row an epoch, `valid` measured after each.

    train, valid: an `ImageSet`, a pair (inputs, targets), or a `DataLoader`, which needs no batch_size.
    optimizer, scheduler: torch's own; a scheduler is stepped once an epoch, `OneCycleLR`, `CyclicLR` and what is
        wrapped in `EachStep` once a step, `ReduceLROnPlateau` with the validation loss.
    loss: (outputs, targets) to the batch's mean, of torch or your own. Targets of class indices, (N,) or (N, H, W) or
        (N, T) with outputs (N, C, ...), give an accuracy, without the positions of the loss's ``ignore_index``; so do
        yes-or-no targets with `BCEWithLogitsLoss`. Other targets give none: numbers, dicts of boxes. A network with
        several outputs needs a loss of your own, which gets them all; the accuracy is that of the first.
    augment: a function of `cnncourse.augment`, called as ``augment(images, generator=...)`` on the uint8 batch, with
        ``targets=`` too where they are more than class labels: masks and boxes move with their pictures.
    clip_gradient: the largest norm of the gradient.
    checkpoint: a path (saved at each epoch) or `Checkpoint` (also every so many steps). If it exists, training goes on
        from there and ends with the bits of an uninterrupted run.
    on_epoch: called with the history after each epoch, whose last row it may add to; when it returns something true,
        training ends.
    metrics: name to a function of the network that is asked after each epoch, in evaluation mode: a column of the
        history, or for a `Score` two: ``metrics={"after": lambda network: evaluate(network, train)}``.
    drop_last: leave out what remains when batch_size does not divide the images: BatchNorm takes statistics of it.

    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    >>> fit(model, train, valid, optimizer=optimizer, epochs=2, batch_size=128)
    History(2 epochs: train_loss 1.09..., train_accuracy 0.87, valid_loss 0.73..., valid_accuracy 0.89...)

    Called again with the same optimizer, it goes on: with the orders that 2 more epochs would have had. All layers are
    in training mode while it trains but those that are `frozen`.
    Ctrl-C raises `Interrupted`, whose `history` is the one so far. Raises `TrainingError` when a loss is not finite or
    memory is used up, `ShapeError` when data and network do not fit, `CheckpointError` for a file it cannot go on from.
    """
    machine = runtime.current()
    _check_optimizer(model, optimizer, epochs, clip_gradient)
    # The data, as batches on the device; order and augmentation follow from the seed.
    batches, valid_batches = _sets(model, train, valid, batch_size, augment, drop_last)
    train_loss = Loss(loss, model, batches)
    measured = _measures(model, loss, valid_batches, metrics or {})
    each_step, each_epoch = schedule(scheduler, optimizer, epochs, len(batches))
    with joined(model, machine, batches) as network:
        # A checkpoint says what was done: epochs, steps of the next one, and epochs before them.
        saver = Saver(checkpoint, model, optimizer, scheduler, train_loss, clip_gradient)
        history, start, before, earlier, last = saver.resume(
            batches, valid_batches, epochs, on_epoch
        )
        with Watch(model, batches, optimizer, history, epochs, progress) as watch:
            for epoch in range(len(history) + 1, last + 1):
                meter = Meter(train_loss, machine, batches, before)
                model.train()
                for inputs, targets in batches.epoch(earlier + epoch, start):
                    optimizer.zero_grad()
                    with machine.autocast():
                        outputs = network(*inputs)  # images (B, C, H, W) to logits (B, classes)
                        value = train_loss(outputs, targets)  # the mean over the batch
                    weight = meter.add(value, outputs, targets, optimizer.param_groups[0]["lr"])
                    value.backward(weight)  # weight None: the gradient as it is
                    average_gradients(model)  # over processes
                    _clip(model, clip_gradient)
                    optimizer.step()
                    each_step()
                    watch.step(epoch, meter)
                    saver.step(history, meter)
                # The epoch is over: measure, note, save.
                row = _row(epoch, earlier, watch.finite(meter), optimizer, meter)
                history.add(row | measured(epoch), meter.all_steps())
                each_epoch(history[-1])
                ended = bool(on_epoch is not None and on_epoch(history))
                saver.epoch(history, ended)
                start, before = 0, None
                if ended:
                    break
    return _noted(history)


def _noted(history: History) -> History:
    """The history, whose last row is noted for the record of a lesson's run."""
    if history:
        runtime.record("history", row=history[-1])
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
    batches = batched(images, batch_size, machine)
    loss = loss if isinstance(loss, Loss) else Loss(loss, model, batches)
    meter = Meter(loss, machine, batches, train=False)

    def for_all(leaf: Tensor) -> Tensor:  # the same targets for each seed
        return leaf.expand(len(model.seeds), *leaf.shape)

    with _passing(model, machine, batches) as network:
        for inputs, targets in batches.epoch():
            with machine.autocast():
                outputs = network(*inputs)
                if loss.stacked:  # outputs (S, B, ...)
                    targets = tree_map(for_all, targets)
                value = loss(outputs, targets)
            meter.add(value, outputs, targets)
    return meter.score()


@torch.no_grad()
def predict(model: nn.Module, images, batch_size: int = 1024) -> Tensor:
    """The outputs (N, ...) for all images in their order, on the device, with the network in evaluation mode.

    images: an `ImageSet`, a tensor of inputs, a pair (inputs, targets) or a `DataLoader` that keeps its order.
    Outputs have the dtype of the runtime; of a network with several, the first.

    >>> predict(model, images).shape
    torch.Size([100, 10])
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
    batches = batched(images, batch_size, machine, split=False)
    outputs = []
    with _passing(model, machine, batches) as network:
        for inputs, _ in batches.epoch():
            with machine.autocast():
                output = first(network(*inputs))
            outputs.append(output.to(machine.dtype) if output.is_floating_point() else output)
    return (
        outputs[0]
        if len(outputs) == 1
        else torch.cat(outputs, dim=1 if isinstance(model, Stacked) else 0)
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
    network = placed(model, machine)
    modes = [(module, module.training) for module in model.modules()]
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    batches = batched(train, batch_size, machine, shuffle=True, split=False)
    loss = Loss(loss, model, batches)
    endless = (batch for epoch in itertools.count(1) for batch in batches.epoch(epoch))
    rates = torch.logspace(math.log10(low), math.log10(high), steps, dtype=torch.float64).tolist()
    losses: list[float] = []
    model.train()
    devices = [machine.device] if machine.device.type == "cuda" else []
    with torch.random.fork_rng(devices), contextlib.ExitStack() as afterwards:
        afterwards.callback(_set_modes, modes)
        afterwards.callback(optimizer.zero_grad)
        afterwards.callback(optimizer.load_state_dict, before[1])
        afterwards.callback(model.load_state_dict, before[0])
        for rate, (inputs, targets) in zip(rates, endless, strict=False):
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


@contextlib.contextmanager
def evaluating(model: nn.Module):
    """A block with the network in evaluation mode; every layer is put back into the mode it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        _set_modes(modes)
        if isinstance(model, Stacked):
            model.train(model.training)


@contextlib.contextmanager
def _passing(model: nn.Module, machine: runtime.Runtime, batches):
    """The network to call for outputs only, in evaluation mode, with failures that name their remedy."""
    network = placed(model, machine)
    try:
        with evaluating(model):
            yield network
    except (RuntimeError, ValueError) as error:
        if isinstance(error, CourseError):
            raise
        if out_of_memory(error):
            inputs = batches.latest[1]
            raise TrainingError(
                f"memory for a batch of {len(inputs[0]) if inputs else batches.batch_size}",
                str(error).splitlines()[0][:200],
                where="evaluate or predict",
                remedy="lower its batch_size",
            ) from error
        raise_shape(error, model, batches)
        raise


def _set_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    for module, mode in modes:
        module.training = mode


def _sets(model: nn.Module, train, valid, batch_size: int | None, augment, drop_last: bool):
    """(batches to train on, batches to validate with or None)."""
    machine = runtime.current()
    batches = batched(
        train,
        batch_size,
        machine,
        shuffle=True,
        augment=augment,
        seeds=model.seeds if isinstance(model, Stacked) else None,
        drop_last=drop_last,
    )
    size, whole = batches.last_size, batches.batch_size
    layers = (model.skeleton if isinstance(model, Stacked) else model).modules()
    normalised = any(isinstance(layer, _BatchNorm) for layer in layers)
    # From so few images BatchNorm's mean and variance are chance, and they enter its running statistics.
    if normalised and size and whole and size < 8 and size * 10 < whole:
        warnings.warn(
            f"the last batch has {size} images where the others have {whole}, and BatchNorm takes mean and variance of "
            "them: drop_last=True leaves it out",
            stacklevel=3,
        )
    return batches, None if valid is None else batched(valid, batch_size, machine)


def _row(
    epoch: int, earlier: int, score: Score, optimizer: Optimizer, meter: Meter
) -> dict[str, object]:
    """The row of an epoch; the optimizer notes how many epochs it has done, as a scheduler notes its initial_lr."""
    seconds = time.perf_counter() - meter.started
    optimizer.param_groups[0]["epochs"] = earlier + epoch
    rate = float(optimizer.param_groups[0]["lr"])
    columns = epoch, *score, None, None, rate, seconds, meter.images / seconds
    return dict(zip(COLUMNS, columns, strict=True))


def _measures(
    model: nn.Module, loss: Callable, valid_batches, metrics: Mapping[str, Callable]
) -> Callable[[int], dict[str, object]]:
    """A function that measures the network after an epoch: columns of the history."""
    taken = [name for name in metrics if name in COLUMNS]
    if taken:
        raise ParameterError(
            "names of its own for metrics",
            repr(taken[0]),
            where="argument metrics of fit",
            remedy="choose another name: this column is there already",
        )
    sets = {}
    if valid_batches is not None:
        loss = Loss(loss, model, valid_batches)
        sets["valid"] = lambda network: evaluate(network, valid_batches, loss=loss)

    def measured(epoch: int) -> dict[str, object]:
        columns = {}
        for name, metric in {**sets, **metrics}.items():
            with torch.no_grad(), evaluating(model):
                value = metric(model)
            if isinstance(value, Score):
                columns |= {f"{name}_loss": value.loss, f"{name}_accuracy": value.accuracy}
            else:
                columns[name] = value.tolist() if isinstance(value, Tensor) else value
        losses = torch.as_tensor(columns.get("valid_loss", 0.0))
        if not losses.isfinite().any():
            raise Divergence(
                "a finite validation loss",
                columns["valid_loss"],
                where=f"end of epoch {epoch}",
                remedy="look for nan in the validation images; if they are clean, lower the learning rate",
            )
        return columns

    return measured


def _clip(model: nn.Module, largest: float | None) -> None:
    """Scale the gradient down to this norm, if there is one; of stacked networks each one's by itself."""
    if largest is None:
        return
    if not isinstance(model, Stacked):
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
