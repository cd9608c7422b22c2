"""The same network from several seeds: trained all at once where it allows that, else one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader

from cnncourse import runtime
from cnncourse.errors import ParameterError
from cnncourse.training import stacked as stacking
from cnncourse.training.batches import batched
from cnncourse.training.history import History
from cnncourse.training.loop import fit


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
    (to rounding: about 1e-12 in float64). together: None decides by `stacked.why_apart`.

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
                stacked.eval()(*next(batched(train, 2, machine).epoch())[0])
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
