"""The same network from several seeds: trained all at once where it allows that, else one after another."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader

from cnncourse import runtime
from cnncourse.errors import CourseError, ParameterError
from cnncourse.training.batches import batched
from cnncourse.training.checkpoint import finite
from cnncourse.training.history import History, Interrupted
from cnncourse.training.loop import fit
from cnncourse.training.loss import Loss
from cnncourse.training.progress import Divergence
from cnncourse.training.proof import why_apart
from cnncourse.training.stacked import Stacked


class Repeats(list):
    """The histories of several seeds, in their order; `models` are the trained networks, `seeds` the seeds.

    `together` says whether they were trained in one batched step; `reason` why not. A history whose seed diverged ends
    before that epoch, and its `diverged` says where.
    """

    def __init__(self, histories, models: list[nn.Module], seeds: list[int], reason: str | None):
        super().__init__(histories)
        self.models, self.seeds, self.reason, self.together = models, seeds, reason, reason is None

    def last(self, column: str) -> list[float]:
        """The last value of a column, one a seed, nan where it diverged: ``repeats.last("valid_accuracy")``."""
        return [math.nan if history.diverged else history[column][-1] for history in self]


def repeat(
    make: Callable[[], nn.Module],
    train,
    valid=None,
    *,
    optimizer: Callable[..., Optimizer],
    seeds: Sequence[int] = range(8),
    learning_rates: Sequence[float] | None = None,
    scheduler: Callable | None = None,
    together: bool | None = None,
    progress: bool = True,
    **options,
) -> Repeats:
    """Train the same network from several seeds: all at once where it allows that, else one after another.

    make: builds the network; called once a seed, with torch's generators seeded. optimizer: from parameters to an
    optimizer; scheduler: from an optimizer to a scheduler. options: those of `fit` (epochs, batch_size, loss, ...).
    learning_rates: one for each seed; `optimizer` is then called with parameters and rate. Seeds may occur twice.
    Each seed has its own weights, order, augmentation and dropout, and ends with the weights that `fit` alone gives it
    (to rounding: about 1e-12 in float64). together: None decides by `proof.why_apart`, which tries two steps.

    >>> repeats = repeat(make, train, valid, optimizer=lambda p: torch.optim.SGD(p, lr=0.1), epochs=3, batch_size=64)
    >>> [round(accuracy, 2) for accuracy in repeats.last("valid_accuracy")]
    [0.88, 0.89, 0.89, 0.9, 0.89, 0.89, 0.87, 0.88]
    >>> several = repeat(make, train, valid, optimizer=lambda p, lr: torch.optim.SGD(p, lr), seeds=[0, 0, 0],
    ...                  learning_rates=[0.01, 0.1, 10.0], epochs=3, batch_size=64)
    >>> [round(accuracy, 2) for accuracy in several.last("valid_accuracy")]
    [0.27, 0.88, 0.92]
    """
    numbers = list(seeds)
    rates = None if learning_rates is None else [float(rate) for rate in learning_rates]
    _check(numbers, rates, optimizer, options)
    models, streams = _made(make, numbers)

    def steppers(parameters, rate: float | None):
        """An optimizer and, or None, its scheduler."""
        made = optimizer(parameters) if rate is None else optimizer(parameters, rate)
        return made, scheduler and scheduler(made)

    reason = "together=False"
    if together is not False:
        reason = _reason(models, numbers, streams, rates, steppers, train, valid, options)
    if reason is None:
        stacked = Stacked(models, numbers, [_of_device(stream) for stream in streams])
        made, schedule = _scaled(stacked, steppers, rates)
        try:
            history = fit(
                stacked,
                train,
                valid,
                optimizer=made,
                scheduler=schedule,
                progress=progress,
                **options,
            )
        except Divergence as error:  # of all seeds
            history = error.history
        stacked.unstack(models)
        return Repeats(_split(history, models, rates), models, numbers, None)
    histories = []
    for row, (number, model, stream) in enumerate(zip(numbers, models, streams, strict=True)):
        with runtime.seeded(number) as machine:
            _set_stream(stream, machine)  # as it was once the network was made
            made, schedule = steppers(model.parameters(), rates and rates[row])
            try:
                history = fit(
                    model,
                    train,
                    valid,
                    optimizer=made,
                    scheduler=schedule,
                    progress=progress,
                    **options,
                )
            except Divergence as error:
                history = error.history
            except Interrupted as error:
                error.repeats = Repeats([*histories, error.history], models, numbers, reason)
                raise
        histories.append(history)
    return Repeats(histories, models, numbers, reason)


def _check(numbers: list, rates: list | None, optimizer: Callable, options: dict) -> None:
    if not numbers or isinstance(optimizer, Optimizer):
        raise ParameterError(
            "at least one seed, and a function that makes an optimizer",
            f"{numbers} and {type(optimizer).__name__}",
            where="arguments seeds and optimizer of training.repeat",
            remedy="optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1)",
        )
    if rates is not None and (len(rates) != len(numbers) or not all(0 < rate for rate in rates)):
        raise ParameterError(
            f"{len(numbers)} learning rates above 0, one for each seed",
            rates,
            where="argument learning_rates of training.repeat",
            remedy="seeds=[0, 0, 0] trains one seed with three rates",
        )
    for name in ("checkpoint", "on_epoch", "metrics"):
        if options.get(name) is not None:
            raise ParameterError(
                f"no {name}= in repeat",
                "one",
                where="argument of training.repeat",
                remedy="call fit once a seed, each with its own",
            )


def _made(make: Callable, numbers: list[int]) -> tuple[list[nn.Module], list[tuple]]:
    """The networks on the device, and the state of torch's random streams once each was made."""
    machine, models, streams = runtime.current(), [], []
    for number in numbers:
        with runtime.seeded(number):
            models.append(make().to(machine.device, machine.dtype))
            gpu = machine.device.type == "cuda"
            cuda = torch.cuda.get_rng_state(machine.device) if gpu else None
            streams.append((torch.get_rng_state(), cuda))
    if len(set(map(id, models))) < len(models):
        raise ParameterError(
            "a function that builds a new network each time",
            "the same network twice",
            where="argument make of training.repeat",
            remedy="build it inside the function",
        )
    return models, streams


def _set_stream(stream: tuple[Tensor, Tensor | None], machine: runtime.Runtime) -> None:
    torch.set_rng_state(stream[0])
    if stream[1] is not None:
        torch.cuda.set_rng_state(stream[1], machine.device)


def _reason(models, numbers, streams, rates, steppers, train, valid, options: dict) -> str | None:
    """Why the networks must be trained one after another, found out on copies."""
    machine = runtime.current()
    loaders = isinstance(train, DataLoader) or isinstance(valid, DataLoader)
    if machine.world > 1 or machine.compile or loaders:
        return "several processes, torch.compile and DataLoader are not stacked"
    try:  # networks, losses and optimizers that cannot be stacked say so here
        trials = copy.deepcopy(models)
        own = [
            steppers(model.parameters(), rates and rates[row]) for row, model in enumerate(trials)
        ]
        if isinstance(own[0][1], ReduceLROnPlateau):
            return "ReduceLROnPlateau gives each seed a learning rate of its own"
        stacked = Stacked(trials, numbers, [_of_device(stream) for stream in streams])
        stepped = _scaled(stacked, steppers, rates)
        size = min(options.get("batch_size") or 1, 32)
        batches = batched(train, size, machine)
        loss = options.get("loss", F.cross_entropy)
        return why_apart(
            trials,
            stacked,
            (_step(*stepped), [_step(*pair) for pair in own]),
            (Loss(loss, stacked, batches), Loss(loss, trials[0], batches)),
            next(batches.epoch()),
        )
    except CourseError as error:
        return f"not tried: {error.expected}, got {error.got}"  # fit will say it in full
    except Exception as error:  # whatever a network of anybody's raises under vmap
        return f"not batched by vmap: {(str(error) or type(error).__name__).splitlines()[0]}"


def _of_device(stream: tuple[Tensor, Tensor | None]) -> Tensor:
    return stream[0] if stream[1] is None else stream[1]


def _step(optimizer: Optimizer, scheduler) -> Callable[[], None]:
    def step() -> None:
        optimizer.step()
        if scheduler is not None:
            getattr(scheduler, "scheduler", scheduler).step()

    return step


def _scaled(stacked: Stacked, steppers: Callable, rates: list[float] | None):
    """Optimizer and scheduler of a stack. With a rate for each seed they have the largest, and what they add to the
    weights of a seed is made smaller by as much: every step of SGD, Adam and their kin is proportional to the rate."""
    if rates is None:
        return steppers(stacked.parameters(), None)
    made, schedule = steppers(stacked.parameters(), max(rates))
    weights, before = list(stacked.parameters()), []
    shares = torch.tensor(rates, dtype=torch.float64) / max(rates)

    @torch.no_grad()
    def keep(*_) -> None:
        before[:] = [weight.clone() for weight in weights]

    @torch.no_grad()
    def shorten(*_) -> None:
        for weight, old in zip(weights, before, strict=True):
            share = shares.to(weight).view(-1, *[1] * (weight.ndim - 1))
            weight.copy_(torch.lerp(old, weight, share))

    made.register_step_pre_hook(keep)
    made.register_step_post_hook(shorten)
    return made, schedule


def _split(history: History, models: list[nn.Module], rates: list[float] | None) -> list[History]:
    """One history a seed from rows whose values are lists over the seeds; each ends where its loss did."""
    return [
        _of_seed(history, seed, model, 1.0 if rates is None else rates[seed] / max(rates))
        for seed, model in enumerate(models)
    ]


def _of_seed(history: History, seed: int, model: nn.Module, share: float) -> History:
    rows = [{name: _own(value, seed) for name, value in row.items()} for row in history]
    steps = {
        name: [_own(value, seed) for value in column] for name, column in history.steps.items()
    }
    for row in rows:
        row["learning_rate"] *= share
    steps["learning_rate"] = [rate * share for rate in steps["learning_rate"]]
    whole = History(rows, steps=steps)
    bad = [row["epoch"] for row in rows if not _finite(row["train_loss"], row["valid_loss"])]
    if not bad and (
        history.diverged or finite(model)
    ):  # all in the epoch that was not noted, or none
        whole.diverged = history.diverged
        return whole
    epoch = bad[0] if bad else len(rows)
    ended = whole[: epoch - 1]
    ended.diverged = f"epoch {epoch}{_first_bad(steps, epoch)}"
    return ended


def _first_bad(steps: dict[str, list], epoch: int) -> str:
    """The step at which the loss stopped being a number, in words."""
    for number, step, loss in zip(steps["epoch"], steps["step"], steps["loss"], strict=True):
        if number == epoch and not math.isfinite(loss):
            return f", step {step}: {loss}"
    return ": the weights or the validation loss"


def _own(value: object, seed: int) -> object:
    return value[seed] if isinstance(value, list) else value


def _finite(*losses: float | None) -> bool:
    return all(loss is None or math.isfinite(loss) for loss in losses)
