"""Loss, count and right answers of each step: what a history is made of, and what a loss must be for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnncourse import processes, runtime
from cnncourse.errors import CourseError, ParameterError, ShapeError, TrainingError
from cnncourse.seeds import Stacked

_ELEMENTWISE = (
    (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss),
    nn.MSELoss | nn.L1Loss | nn.SmoothL1Loss | nn.HuberLoss,
)


class Score(NamedTuple):
    """Mean loss and accuracy over the images of a set; accuracy is None where it has no meaning (regression)."""

    loss: float
    accuracy: float | None


class Tally:
    """Loss, count and right answers of each step, kept on the device: nothing waits for it until `score` asks."""

    def __init__(
        self,
        loss: Loss,
        machine: runtime.Runtime,
        feed,
        before: Tensor | None = None,
        *,
        train: bool = True,
    ):
        self.loss, self.machine, self.feed, self.train = loss, machine, feed, train
        self.before = (
            None if before is None else before[machine.rank]
        )  # of a run that goes on inside an epoch
        self.images, self.share = 0, None
        if loss.feed is not feed:
            loss.feed, loss.checked = feed, False
        self.all_count = loss.ignore is None or not feed.holds(loss.ignore)
        self.losses, self.weights, self.counts, self.right = [], [], [], []

    def add(self, value: Tensor, outputs: Tensor, targets: Tensor) -> None:
        """Note a step, and set `share`: what to weight its gradient with."""
        value = value.detach()
        weight, count, right = self.loss.counted(first(outputs).detach(), targets, self.all_count)
        self.images += targets.shape[0] * (targets.shape[1] if self.loss.stacked else 1)
        if (copies := self.feed.share.copies) > 1:
            weight, count, right = (
                weight / copies,
                count / copies,
                None if right is None else right / copies,
            )
        self.losses.append(value)
        self.weights.append(weight)
        self.counts.append(count)
        self.right.append(right)
        if self.loss.stacked:
            self.share = torch.ones_like(value)  # the sum over seeds: each gets its own gradient
        elif self.machine.world > 1 and self.train:
            own = (
                weight.to(value.dtype) if isinstance(weight, Tensor) else value.new_full((), weight)
            )
            self.share = own * self.machine.world / processes.summed(own.clone(), self.machine)

    def steps(self) -> Tensor:
        """(steps, 4), or (steps, 4, S) for S seeds, float64: mean loss, what it is the mean of, positions that count,
        right answers among them."""
        if not self.losses:
            done = torch.zeros(0, 4, dtype=torch.float64)
        else:
            losses = torch.stack(self.losses).cpu().double()
            done = torch.stack(
                [
                    losses,
                    *(
                        _column(numbers, losses)
                        for numbers in (self.weights, self.counts, self.right)
                    ),
                ],
                1,
            )
        return done if self.before is None else torch.cat([self.before, done])

    def score(self) -> Score:
        """Mean loss and accuracy over all steps and processes."""
        losses, weights, counts, right = self.steps().unbind(1)
        losses = torch.where(
            weights > 0, losses * weights, 0
        )  # a batch without counted positions has no mean
        sums = torch.stack([losses.sum(0), weights.sum(0), counts.sum(0), right.sum(0)])
        sums = processes.summed(sums, self.machine).cpu()
        loss, accuracy = sums[0] / sums[1], sums[3] / sums[2]
        return Score(
            loss.tolist(),
            None if accuracy.isnan().all() and self.right[-1:] == [None] else accuracy.tolist(),
        )


class Loss:
    """The loss of fit and evaluate, with what it leaves out and errors that name the mistake."""

    def __init__(self, loss: Callable, model: nn.Module):
        self.function, self.stacked, self.feed = loss, isinstance(model, Stacked), None
        self.batched = loss
        if self.stacked:
            self.batched = _cross_entropies if loss is F.cross_entropy else torch.vmap(loss)
        named = loss.func if isinstance(loss, partial) else loss
        self.name = getattr(named, "__name__", type(named).__name__)
        options = {}
        if isinstance(loss, partial):
            options = loss.keywords
        elif isinstance(loss, nn.Module):
            options = {
                name: value
                for name, value in vars(loss).items()
                if name[0] != "_" and name != "training"
            }
            options |= dict(loss.named_buffers())
        self.description = f"{self.name}({', '.join(f'{name}={_plain(value)}' for name, value in options.items())})"
        if options.get("reduction", "mean") not in ("mean", "batchmean"):
            raise ParameterError(
                "a loss that is the mean over the batch",
                f"reduction={options['reduction']!r}",
                where=f"the loss {self.name}",
                remedy="leave reduction out; histories are made of means",
            )
        self.of_classes = named in (F.cross_entropy, F.nll_loss) or isinstance(
            loss, nn.CrossEntropyLoss | nn.NLLLoss
        )
        self.ignore = options.get(
            "ignore_index", -100 if self.of_classes else None
        )  # torch's default
        self.weight = options.get("weight") if self.of_classes else None
        self.yes_or_no = named is F.binary_cross_entropy_with_logits or isinstance(
            loss, nn.BCEWithLogitsLoss
        )
        self.elementwise = named in _ELEMENTWISE[0] or isinstance(loss, _ELEMENTWISE[1])
        self.checked = False

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if not self.checked:
            self._check(outputs, targets)
        try:
            given = outputs, targets
            if (
                self.of_classes
                and outputs.is_cuda
                and not targets.is_floating_point()
                and torch.are_deterministic_algorithms_enabled()
            ):
                given = _rows(outputs, targets, 1 + int(self.stacked))
            value = self.batched(*given)
            if (
                value.ndim != int(self.stacked)
                or torch.is_grad_enabled()
                and not value.requires_grad
            ):
                raise ShapeError(
                    "a loss that is one number with a gradient",
                    f"{described(value)}, requires_grad={value.requires_grad}",
                    where=f"the loss {self.name}",
                    remedy="take the mean over the batch, and neither detach() nor item() it",
                )
            return value
        except CourseError:
            raise
        except (RuntimeError, IndexError, ValueError) as error:
            words = "determinis", "vmap", "CUDA"
            if isinstance(error, torch.OutOfMemoryError) or any(
                word in str(error) for word in words
            ):
                raise  # nothing about shapes: whoever called knows what to do
            self._check(outputs, targets)
            raise ShapeError(
                f"outputs and targets that {self.name} can compare",
                f"{described(outputs)} and {described(targets)} ({str(error).splitlines()[0]})",
                where="the loss",
                remedy="class indices are int64 (N,) beside outputs (N, C); "
                "other targets, and weights of the loss, have the dtype of the outputs",
            ) from error

    def counted(
        self, outputs: Tensor, targets: Tensor, all_count: bool
    ) -> tuple[int | Tensor, int | Tensor, Tensor | None]:
        """(What the loss is a mean of, how many positions count, how many of them are right), (S,) each when stacked.

        Class weights make the first two differ. all_count: no target is the index to leave out.
        """
        axis = int(self.stacked)
        size = targets.shape[axis]
        if targets.is_floating_point():
            if not self.yes_or_no:
                return size, size, None
            right = ((outputs > 0) == (targets > 0.5)).flatten(axis)
            return size, size, right.sum(-1) * (size / right.shape[-1])
        axes = outputs.shape[: 1 + axis] + outputs.shape[2 + axis :]  # without that of the classes
        if axes != targets.shape or not self.of_classes and targets.ndim > 1 + axis:
            return (
                size,
                size,
                None,
            )  # a loss of one's own may have the classes of many positions elsewhere
        right = outputs.argmax(1 + axis) == targets
        if all_count and self.weight is None:
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
        if not isinstance(outputs, Tensor):
            if self.of_classes or self.elementwise or self.yes_or_no:
                raise ShapeError(
                    "one output",
                    f"{type(outputs).__name__} of {len(outputs)}",
                    where=where,
                    remedy="write the loss for them: lambda outputs, targets: "
                    "F.cross_entropy(outputs[0], targets) + 0.3 * F.cross_entropy(outputs[1], targets)",
                )
            return
        if self.yes_or_no and not targets.is_floating_point():
            raise ShapeError(
                "targets of zeros and ones as floating point",
                described(targets),
                where=where,
                remedy="convert with targets.float()",
            )
        if self.elementwise and outputs.shape != targets.shape:
            raise ShapeError(
                f"targets with the shape of the outputs, {described(outputs)}",
                described(targets),
                where=where,
                remedy="targets[:, None] adds an axis, "
                "outputs.squeeze(1) takes one away; unequal shapes are paired all with all",
            )
        if self.of_classes:
            probabilities = targets.is_floating_point() and targets.shape == outputs.shape
            classes = outputs.shape[1 + axis]
            if not probabilities and (
                targets.dtype != torch.int64 or outputs.ndim != targets.ndim + 1
            ):
                remedy = "convert with labels.long(), or use F.mse_loss for regression"
                if targets.shape == outputs.shape:
                    remedy = "convert the probabilities or ones and zeros with targets.float()"
                elif targets.ndim == outputs.ndim and targets.shape[1 + axis] == 1:
                    remedy = "take the extra axis away: labels.squeeze(1)"
                raise ShapeError(
                    "class indices as int64, or probabilities with the shape of the outputs",
                    f"{described(targets)} beside outputs {described(outputs)}",
                    where=where,
                    remedy=remedy,
                )
            if not targets.is_floating_point():
                targets = getattr(
                    self.feed, "targets", targets
                )  # all of them: on a GPU a wrong one ends the process
                wrong = ((targets < 0) | (targets >= classes)) & (targets != self.ignore)
                if wrong.any():
                    label = int(targets[wrong][0])
                    larger = (
                        f"give the last layer {int(targets.max()) + 1} outputs, "
                        if label >= classes
                        else ""
                    )
                    raise TrainingError(
                        f"labels from 0 to {classes - 1}, for the network has {classes} outputs",
                        f"label {label}",
                        where=where,
                        remedy=f"{larger}count the labels from 0, or pass the label to leave out as "
                        "ignore_index",
                    )


def first(outputs: Tensor | Sequence[Tensor] | Mapping[str, Tensor]) -> Tensor:
    """The output itself; of several, as of a network with auxiliary heads, the first."""
    if isinstance(outputs, Tensor):
        return outputs
    return next(iter(outputs.values() if isinstance(outputs, Mapping) else outputs))


def _column(numbers: list, losses: Tensor) -> Tensor:
    """Numbers of the steps, on the device or not, in the shape of the losses; nan where there are none."""
    if numbers[0] is None:
        return torch.full_like(losses, math.nan)
    many = isinstance(numbers[0], Tensor)
    column = (
        torch.stack(numbers).cpu().double() if many else torch.tensor(numbers, dtype=torch.float64)
    )
    return column.view(len(losses), *[-1] * (losses.ndim - 1)).expand_as(losses)


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
    return each.view(len(outputs), -1).sum(1) / (targets != -100).flatten(1).sum(
        1
    )  # torch's index to leave out


def _plain(value: object) -> str:
    """An option of a loss in words that are equal in every process."""
    if isinstance(value, Tensor):
        return str(value.tolist())
    return (
        repr(value) if isinstance(value, bool | int | float | str | None) else type(value).__name__
    )


def described(tensor: Tensor) -> str:
    return (
        f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
        if isinstance(tensor, Tensor)
        else type(tensor).__name__
    )
