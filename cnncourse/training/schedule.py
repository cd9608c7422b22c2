"""When a scheduler of torch is stepped: once an epoch, or once a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from cnncourse.errors import ParameterError


class EachStep(NamedTuple):
    """A scheduler to be stepped after every optimizer step: ``fit(..., scheduler=EachStep(scheduler))``.

    `fit` steps `OneCycleLR` and `CyclicLR` so by itself, and every other scheduler once an epoch.
    """

    scheduler: LRScheduler


def schedule(
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
