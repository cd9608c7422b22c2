"""What a loss must be, and the meter that notes loss, count and right answers of each step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from cnncourse.errors import CourseError, ParameterError, ShapeError, TrainingError
from cnncourse.runtime import Runtime
from cnncourse.training import distributed
from cnncourse.training.attributes import described as options_of
from cnncourse.training.batches import LoaderBatches, TensorBatches
from cnncourse.training.order import out_of_memory
from cnncourse.training.stacked import Stacked

_ELEMENTWISE = (
    (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss),
    nn.MSELoss | nn.L1Loss | nn.SmoothL1Loss | nn.HuberLoss,
)
_OF_SCORES = (F.multi_margin_loss, nn.MultiMarginLoss)  # of class indices, with any scores


class Score(NamedTuple):
    """Mean loss and accuracy over the images of a set; accuracy is None where it has no meaning (regression)."""

    loss: float
    accuracy: float | None


class Meter:
    """Notes each step's loss, count and right answers on the device: nothing waits for it until `score` asks."""

    def __init__(
        self,
        loss: Loss,
        machine: Runtime,
        batches: TensorBatches | LoaderBatches,
        before: Tensor | None = None,
        *,
        train: bool = True,
    ):
        self.loss, self.machine, self.batches, self.train = loss, machine, batches, train
        # Steps that were done before, (processes, steps, 5, ...): of a run that goes on inside an epoch.
        self.before = None if before is None else before[machine.rank]
        self.images, self.started = 0, time.perf_counter()
        self.losses, self.weights, self.counts, self.right, self.rates = [], [], [], [], []

    def add(
        self, value: Tensor, outputs: Tensor, targets: object, rate: float = math.nan
    ) -> Tensor | None:
        """Note a step; returns what to weight its gradient with, None for 1.

        In several processes that is this one's part of the batch, for several seeds a one for each.
        """
        value = value.detach()
        size = _images(self.batches, targets, self.loss.stacked)
        weight, count, right = self.loss.counted(first(outputs).detach(), targets, size)
        self.images += size * (len(value) if self.loss.stacked else 1)
        if (copies := self.batches.part.copies) > 1:
            right = None if right is None else right / copies
            weight, count = weight / copies, count / copies
        self.losses.append(value)
        self.weights.append(weight)
        self.counts.append(count)
        self.right.append(right)
        self.rates.append(rate)
        if self.loss.stacked:
            return torch.ones_like(value)  # the sum over seeds: each gets its own gradient
        if not dist.is_initialized() or not self.train:
            return None
        own = weight.to(value.dtype) if isinstance(weight, Tensor) else value.new_full((), weight)
        return own * self.machine.world / distributed.summed(own.clone(), self.machine)

    def steps(self) -> Tensor:
        """(steps, 5), or (steps, 5, S) for S seeds, float64: mean loss, what it is the mean of, positions that count,
        right answers among them, learning rate. In several processes, of this one's parts."""
        if not self.losses:
            done = torch.zeros(0, 5, dtype=torch.float64)
        else:
            losses = torch.stack(self.losses).cpu().double()
            others = self.weights, self.counts, self.right, self.rates
            done = torch.stack([losses, *(_column(numbers, losses) for numbers in others)], 1)
        return done if self.before is None else torch.cat([self.before, done])

    def _sums(self) -> Tensor:
        """(4, steps): loss times what it is the mean of, that, positions that count, right answers."""
        losses, weights, counts, right, _ = self.steps().unbind(1)
        losses = torch.where(weights > 0, losses * weights, 0)  # without counted positions: no mean
        return torch.stack([losses, weights, counts, right])

    def all_steps(self) -> Tensor:
        """`steps` of all processes together, which train the same number of steps."""
        steps = self.steps()
        if not dist.is_initialized():
            return steps
        losses, *rest = distributed.summed(self._sums(), self.machine).cpu()
        return torch.stack([losses / rest[0], *rest, steps[:, 4]], 1)

    def score(self) -> Score:
        """Mean loss and accuracy over all steps and processes."""
        sums = distributed.summed(self._sums().sum(1), self.machine).cpu()
        loss, accuracy = sums[0] / sums[1], sums[3] / sums[2]
        scored = not accuracy.isnan().all() or self.right[-1:] != [None]
        return Score(loss.tolist(), accuracy.tolist() if scored else None)


def _images(batches: TensorBatches | LoaderBatches, targets: object, stacked: bool) -> int:
    """How many images a batch holds, of each seed."""
    if isinstance(targets, list):
        return len(targets)
    whole = (
        tree_leaves(targets)[0] if isinstance(targets, Tensor) or stacked else batches.latest[1][0]
    )
    return whole.shape[int(stacked)]


class Loss:
    """The loss of fit and evaluate over certain batches, with what it leaves out and errors that name the mistake."""

    def __init__(self, loss: Callable, model: nn.Module, batches: TensorBatches | LoaderBatches):
        self.function, self.stacked = loss, isinstance(model, Stacked)
        self.batched = loss
        if self.stacked:
            self.batched = _cross_entropies if loss is F.cross_entropy else torch.vmap(loss)
        named = loss.func if isinstance(loss, partial) else loss
        self.name = getattr(named, "__name__", type(named).__name__)
        options = _options(loss)
        chosen = ", ".join(f"{name}={options_of(value)}" for name, value in options.items())
        self.description = f"{self.name}({chosen})"
        if options.get("reduction", "mean") not in ("mean", "batchmean"):
            raise ParameterError(
                "a loss that is the mean over the batch",
                f"reduction={options['reduction']!r}",
                where=f"the loss {self.name}",
                remedy="leave reduction out; histories are made of means",
            )
        of_classes = nn.CrossEntropyLoss | nn.NLLLoss
        self.of_classes = named in (F.cross_entropy, F.nll_loss) or isinstance(loss, of_classes)
        self.ignore = options.get("ignore_index", -100 if self.of_classes else None)  # torch's own
        self.weight = options.get("weight") if self.of_classes else None
        yes_or_no = nn.BCEWithLogitsLoss
        self.yes_or_no = named is F.binary_cross_entropy_with_logits or isinstance(loss, yes_or_no)
        self.elementwise = named in _ELEMENTWISE[0] or isinstance(loss, _ELEMENTWISE[1])
        # An accuracy by the largest output has a meaning: torch's other losses have none, one's own are looked at.
        self.scored = self.of_classes or named in _OF_SCORES or isinstance(loss, _OF_SCORES[1])
        self.own = not self.scored and not _of_torch(named)
        # All of them where they are at hand: on a GPU a wrong label ends the process.
        self.known = getattr(batches, "targets", None)
        self.all_count = self.ignore is None or not _holds(self.known, self.ignore)
        self.checked = False

    def __call__(self, outputs: Tensor, targets: object) -> Tensor:
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
            learns = value.requires_grad or not torch.is_grad_enabled()
            if value.ndim != int(self.stacked) or not learns:
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
            if out_of_memory(error) or any(word in str(error) for word in words):
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
        self, outputs: Tensor, targets: object, size: int
    ) -> tuple[int | Tensor, int | Tensor, Tensor | None]:
        """(What the loss is a mean of, how many positions count, how many of them are right), (S,) each when stacked.

        Class weights make the first two differ. size: images in the batch. Outputs that are nan are never right.
        """
        axis = int(self.stacked)
        if not isinstance(targets, Tensor):
            return size, size, None
        if self.yes_or_no and targets.is_floating_point():
            right = ((outputs > 0) == (targets > 0.5)) & ~outputs.isnan()
            right = right.flatten(axis)
            return size, size, right.sum(-1) * (size / right.shape[-1])
        if not self.scored or not _indices(outputs, targets, axis, dense=self.of_classes):
            return size, size, None
        best, answers = outputs.max(1 + axis)
        right = (answers == targets) & ~best.isnan()  # the largest of numbers with nan is nan
        if self.all_count and self.weight is None:
            count = targets[0].numel() if self.stacked else targets.numel()
            return count, count, right.flatten(axis).sum(-1)
        counted = targets != self.ignore
        count, right = counted.flatten(axis).sum(-1), (right & counted).flatten(axis).sum(-1)
        if self.weight is None:
            return count, count, right
        weights = self.weight[targets.where(counted, 0)] * counted
        return weights.flatten(axis).sum(-1), count, right

    def _check(self, outputs: Tensor, targets: object) -> None:
        """Look at the first batch, and at all labels that are at hand."""
        self.checked = True
        axis, where = int(self.stacked), f"the loss {self.name}"
        torchs_own = self.of_classes or self.elementwise or self.yes_or_no
        if not isinstance(outputs, Tensor):
            if torchs_own:
                raise ShapeError(
                    "one output",
                    f"{type(outputs).__name__} of {len(outputs)}",
                    where=where,
                    remedy="write the loss for them: lambda outputs, targets: "
                    "F.cross_entropy(outputs[0], targets) + 0.3 * F.cross_entropy(outputs[1], targets)",
                )
            outputs = first(outputs)
        if not isinstance(targets, Tensor):
            if torchs_own:
                raise ShapeError(
                    "targets in one tensor",
                    described(targets),
                    where=where,
                    remedy="write the loss for them: lambda outputs, targets: "
                    "F.mse_loss(outputs, targets['boxes']), for example",
                )
            return
        if self.own and _indices(outputs, targets, axis, dense=False):
            labels = targets if self.known is None else self.known
            classes = outputs.shape[1 + axis]
            known = (labels >= 0) & (labels < classes)
            if self.ignore is not None:
                known |= labels == self.ignore
            self.scored = classes > 1 and bool(known.all())
        if self.yes_or_no and not targets.is_floating_point():
            raise ShapeError(
                "targets of zeros and ones as floating point",
                described(targets),
                where=where,
                remedy="convert with targets.float()",
            )
        if (self.elementwise or self.yes_or_no) and outputs.shape != targets.shape:
            raise ShapeError(
                f"targets with the shape of the outputs, {described(outputs)}",
                described(targets),
                where=where,
                remedy="targets[:, None] adds an axis, "
                "outputs.squeeze(1) takes one away; unequal shapes are paired all with all",
            )
        if self.of_classes:
            self._check_classes(outputs, targets, axis, where)

    def _check_classes(self, outputs: Tensor, targets: Tensor, axis: int, where: str) -> None:
        if outputs.ndim < 2 + axis or outputs.shape[1 + axis] == 1:
            raise ShapeError(
                "outputs (N, C) of at least two classes",
                f"{described(outputs)} beside targets {described(targets)}",
                where=where,
                remedy="give the last layer one output a class; one number for yes or no needs "
                "F.binary_cross_entropy_with_logits and targets of its shape as floating point",
            )
        probabilities = targets.is_floating_point() and targets.shape == outputs.shape
        classes = outputs.shape[1 + axis]
        if not probabilities and (targets.dtype != torch.int64 or outputs.ndim != targets.ndim + 1):
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
        if targets.is_floating_point():
            return
        labels = targets if self.known is None else self.known
        wrong = ((labels < 0) | (labels >= classes)) & (labels != self.ignore)
        if wrong.any():
            label = int(labels[wrong][0])
            more = f"give the last layer {int(labels.max()) + 1} outputs, "
            raise TrainingError(
                f"labels from 0 to {classes - 1}, for the network has {classes} outputs",
                f"label {label}",
                where=where,
                remedy=f"{more if label >= classes else ''}count the labels from 0, "
                "or pass the label to leave out as ignore_index",
            )


def _options(loss: Callable) -> dict[str, object]:
    """What a loss was made with: the keywords of a partial, the attributes and buffers of a module."""
    if isinstance(loss, partial):
        return dict(loss.keywords)
    if not isinstance(loss, nn.Module):
        return {}
    own = {
        name: value for name, value in vars(loss).items() if name[0] != "_" and name != "training"
    }
    return own | dict(loss.named_buffers())


def _of_torch(named: object) -> bool:
    """Whether a loss is one of torch.nn.functional or torch.nn itself, not one's own."""
    module = getattr(named, "__module__", None) or type(named).__module__
    return module.startswith(("torch.nn.", "torch._C")) or named in vars(F).values()


def _holds(labels: object, index: int) -> bool:
    """Whether any label may be this one: yes where not all are at hand."""
    if not isinstance(labels, Tensor):
        return True
    return not labels.is_floating_point() and bool((labels == index).any())


def _indices(outputs: Tensor, targets: Tensor, axis: int, *, dense: bool) -> bool:
    """Whether targets (N,), or where `dense` also (N, H, W), can be class indices for outputs (N, C, ...)."""
    if targets.is_floating_point() or outputs.ndim < 2 + axis:
        return False
    if not dense and targets.ndim > 1 + axis:
        return False  # a loss of one's own may have the classes of many positions elsewhere
    return outputs.shape[: 1 + axis] + outputs.shape[2 + axis :] == targets.shape


def first(outputs: Tensor | Sequence[Tensor] | Mapping[str, Tensor]) -> Tensor:
    """The output itself; of several, as of a network with auxiliary heads, the first."""
    if isinstance(outputs, Tensor):
        return outputs
    return next(iter(outputs.values() if isinstance(outputs, Mapping) else outputs))


def _column(numbers: list, losses: Tensor) -> Tensor:
    """Numbers of the steps, on the device or not, in the shape of the losses; nan where there are none."""
    if numbers[0] is None:
        return torch.full_like(losses, math.nan)
    if isinstance(numbers[0], Tensor):
        column = torch.stack(numbers).cpu().double()
    else:
        column = torch.tensor(numbers, dtype=torch.float64)
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
    counted = (targets != -100).flatten(1).sum(1)  # torch's index to leave out
    return each.view(len(outputs), -1).sum(1) / counted


def described(value: object) -> str:
    """A tensor as ``float32 (16, 3)``, anything else by its type."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
