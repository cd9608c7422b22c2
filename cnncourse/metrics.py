"""Scores of predictions, exact over a whole set: computed from counts, never from means of batches.

Classification: `accuracy`, `top_k_accuracy`, `confusion`. Segmentation: `intersection_over_union` of a confusion table.
Detection: `box_iou`, `average_precision`. Several runs: `column`, `interval`.

Tensors, arrays and lists are welcome, of any integer or floating point type. A logit or score that is no number (nan)
never counts as right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cnncourse.errors import ParameterError, ShapeError


class Interval(NamedTuple):
    """A mean over runs with the half width of its confidence interval: ``mean - half`` to ``mean + half``."""

    mean: Any  # float, or an array (...) for values (runs, ...)
    half: Any


def accuracy(logits: Any, labels: Any, *, ignore_index: int | None = None) -> float:
    """The share of positions whose largest logit stands at their label.

    logits (N, C, ...), labels (N, ...); predicted classes of the labels' shape are welcome in place of logits.
    ignore_index: positions with this label are not counted.

    >>> metrics.accuracy([[2.0, 1.0], [0.0, 3.0]], [0, 0])
    0.5
    >>> metrics.accuracy([1, 0, 1, 1], [1, 0, 0, 1])  # classes
    0.75

    Raises `ShapeError` when the shapes do not fit, `ParameterError` for a label without a logit or nothing to count.
    """
    predicted, labels, scored = _counted(logits, labels, ignore_index, "accuracy")
    return int(((predicted == labels) & scored).sum()) / _some(len(labels), "accuracy")


def top_k_accuracy(logits: Any, labels: Any, k: int = 5) -> float:
    """The share of images whose label is among the k largest of their logits (N, C); labels (N,).

    An equal logit, and one that is no number, counts against the label: a network that answers all alike has no score.
    """
    logits, labels = _tensor(logits), _tensor(labels)
    if logits.ndim != 2 or not 1 <= k <= logits.shape[1]:
        raise ParameterError(
            f"logits (N, C) and k from 1 to {logits.shape[-1]}",
            f"{tuple(logits.shape)} and k={k}",
            where="metrics.top_k_accuracy",
            remedy="use k=1 for plain accuracy",
        )
    _, labels, _ = _counted(logits, labels, None, "top_k_accuracy")
    own = logits.gather(1, labels[:, None])
    at_least = (~(logits < own)).sum(1)  # itself included
    right = (at_least <= k) & ~own[:, 0].isnan()
    return int(right.sum()) / _some(len(labels), "top_k_accuracy")


def confusion(logits: Any, labels: Any, classes: int, *, ignore_index: int | None = None) -> Tensor:
    """How often class i was called class j: int64 (classes, classes), rows are labels, columns predictions.

    logits (N, C, ...) or predicted classes (N, ...); labels (N, ...). Tables of batches add up to the table of the set.
    Logits that are no numbers call no class: they stand in no column, so the sum of the table is short of them.

    >>> metrics.confusion([0, 1, 1], [0, 0, 1], 2)
    tensor([[1, 1],
            [0, 1]])
    """
    predicted, labels, scored = _counted(logits, labels, ignore_index, "confusion")
    predicted, labels = predicted[scored], labels[scored]
    both = torch.stack([predicted, labels])
    if both.numel() and (both.min() < 0 or both.max() >= classes):
        raise ParameterError(
            f"labels and predictions from 0 to {classes - 1}",
            f"{int(both.min())} to {int(both.max())}",
            where="metrics.confusion",
            remedy="raise `classes`, or pass ignore_index",
        )
    return torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)


def intersection_over_union(table: Any) -> Tensor:
    """Intersection over union of each class, float64 (classes,), from a `confusion` table; nan for a class never seen.

    The mean over the classes that are there is the "mean IoU" of segmentation: ``.nanmean()``.
    (Everingham et al. 2015, "The PASCAL Visual Object Classes Challenge: A Retrospective", section 3.3.)
    """
    table = _tensor(table).double()
    hit = table.diagonal()
    return hit / (table.sum(0) + table.sum(1) - hit)


def box_iou(boxes: Any, others: Any) -> Tensor:
    """Intersection over union of every pair of boxes (N, 4) and (M, 4), given as (x1, y1, x2, y2): float (N, M).

    >>> metrics.box_iou([[0.0, 0.0, 2.0, 2.0]], [[1.0, 1.0, 3.0, 3.0]])  # 1 / 7
    tensor([[0.1429]], dtype=torch.float64)

    Two boxes without area overlap by 0. Computed in float32, or in float64 when a box is int64 or float64: bytes and
    half precision cannot hold an area.
    """
    boxes, others = _tensor(boxes), _tensor(others)
    for given in (boxes, others):
        if given.ndim != 2 or given.shape[1] != 4:
            raise ShapeError(
                "boxes (N, 4) as x1, y1, x2, y2",
                tuple(given.shape),
                where="metrics.box_iou",
                remedy="pass one box as box[None]",
            )
    exact = {boxes.dtype, others.dtype} & {torch.int64, torch.float64}
    boxes, others = (part.to(torch.float64 if exact else torch.float32) for part in (boxes, others))
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (high - low).clamp_min(0).prod(2)  # (N, M)
    area = [(part[:, 2:] - part[:, :2]).clamp_min(0).prod(1) for part in (boxes, others)]
    union = area[0][:, None] + area[1][None] - shared
    return torch.where(union > 0, shared / union, 0)


def average_precision(scores: Any, right: Any, positives: int) -> float:
    """Area under the precision-recall curve of detections, with precision made non-increasing (VOC 2010 and later).

    scores (N,): confidence; right bool (N,): whether the detection was matched to an object not yet found;
    positives: how many objects there are.

    >>> metrics.average_precision([0.9, 0.8, 0.7], [True, False, True], positives=2)
    0.8333333333333333

    A detection whose score is no number comes last and finds nothing. Raises `ParameterError` when more detections are
    right than there are objects.
    """
    _some(positives, "average_precision")
    scores, right = _tensor(scores), _tensor(right).bool()
    if scores.shape != right.shape or scores.ndim != 1:
        raise ShapeError(
            "scores (N,) and right (N,)",
            f"{tuple(scores.shape)} and {tuple(right.shape)}",
            where="metrics.average_precision",
            remedy="pass one of both for each detection",
        )
    if (found := int(right.sum())) > positives:
        raise ParameterError(
            f"at most {positives} right detections, one an object",
            found,
            where="metrics.average_precision",
            remedy="count a second detection of the same object as wrong",
        )
    unknown = scores.isnan()
    right = right & ~unknown
    order = scores.double().masked_fill(unknown, -math.inf).argsort(descending=True, stable=True)
    hits = right[order].double().cumsum(0)
    precision = hits / torch.arange(1, len(hits) + 1, dtype=torch.float64, device=hits.device)
    best = precision.flip(0).cummax(0).values.flip(0) if len(hits) else precision
    return float((best * right[order]).sum() / positives)


def column(runs: Sequence[Any], name: str) -> np.ndarray:
    """One column of several runs' histories as float64 (runs, epochs), ready for `interval` and ``plots.curves``.

    runs: what ``training.repeat`` gives, pairs (model, history), or the histories alone.

    >>> runs = training.repeat(make, train, valid, optimizer=lambda p: torch.optim.SGD(p, lr=0.1), seeds=range(3),
    ...                        epochs=2, batch_size=64)
    >>> metrics.column(runs, "valid_accuracy").shape
    (3, 2)

    Raises `ShapeError` when the runs have different numbers of epochs.
    """
    histories = [run[1] if isinstance(run, tuple) else run for run in runs]
    rows = [history[name] for history in histories]
    if len({len(row) for row in rows}) > 1:
        raise ShapeError(
            "runs of equally many epochs",
            ", ".join(str(len(row)) for row in rows),
            where=f"metrics.column(runs, {name!r})",
            remedy="finish the run that was cut short, or compare the epochs that all have",
        )
    return np.array(rows, dtype=np.float64)


def interval(values: Any, confidence: float = 0.95) -> Interval:
    """Mean over runs with Student's interval for it: half the width is t * deviation / sqrt(runs).

    values: one number a run, (runs,); or (runs, ...), such as a `column`: then mean and half are arrays (...).

    >>> metrics.interval([0.90, 0.92, 0.94])
    Interval(mean=0.9199..., half=0.0496...)

    One run has no interval: half is nan. It assumes that the runs differ by normal chance.
    """
    if not 0 < confidence < 1:
        raise ParameterError(
            "a confidence between 0 and 1", confidence, where="metrics.interval", remedy="use 0.95"
        )
    numbers = np.asarray(_tensor(values).detach().cpu(), dtype=np.float64)
    runs = _some(len(numbers), "interval")
    mean = numbers.mean(0)
    if runs == 1:
        half = np.full_like(mean, math.nan)
    else:
        from scipy.stats import t

        half = t.ppf((1 + confidence) / 2, runs - 1) * numbers.std(0, ddof=1) / math.sqrt(runs)
    return Interval(mean, half) if numbers.ndim > 1 else Interval(float(mean), float(half))


def _counted(
    logits: Any, labels: Any, ignore_index: int | None, function: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Predicted class, label, and whether the logits are numbers, of each position that counts: all (positions,)."""
    logits, labels = _tensor(logits), _tensor(labels)
    if logits.shape == labels.shape and not logits.is_floating_point():
        predicted, scored = logits, torch.ones_like(logits, dtype=torch.bool)
    elif logits.ndim != labels.ndim + 1 or logits.shape[:1] + logits.shape[2:] != labels.shape:
        raise ShapeError(
            "logits (N, C, ...) and labels (N, ...)",
            f"{tuple(logits.shape)} and {tuple(labels.shape)}",
            where=f"metrics.{function}",
            remedy="classes lie on axis 1; predicted classes are whole numbers",
        )
    elif logits.shape[1] == 1:
        raise ShapeError(
            "a logit for each class, (N, C, ...) with C of at least 2",
            f"one, {tuple(logits.shape)}",
            where=f"metrics.{function}",
            remedy="pass the predicted classes, (logits[:, 0] > 0).long()",
        )
    else:
        predicted, scored = logits.argmax(1), ~logits.isnan().any(1)
    if labels.is_floating_point() and not torch.equal(labels, labels.round()):
        raise ParameterError(
            "labels that are whole numbers, the classes",
            f"{float(labels[labels != labels.round()][0]):.6g}",
            where=f"metrics.{function}",
            remedy="a regression has no accuracy; a probability becomes a class by (p > 0.5).long()",
        )
    labels = labels.long()  # narrow integers would overflow, and cannot hold -1
    counts = torch.ones_like(labels, dtype=torch.bool)
    if ignore_index is not None:
        counts = labels != ignore_index
    predicted, labels, scored = predicted.long()[counts], labels[counts], scored[counts]
    if logits.ndim > counts.ndim and len(labels):
        low, high = (int(value) for value in labels.aminmax())
        if low < 0 or high >= logits.shape[1]:
            raise ParameterError(
                f"labels from 0 to {logits.shape[1] - 1}, as many as there are logits",
                f"{low} to {high}",
                where=f"metrics.{function}",
                remedy="pass ignore_index for positions without a class",
            )
    return predicted, labels, scored


def _tensor(values: Any) -> Tensor:
    return values if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))


def _some(count: int, function: str) -> int:
    if count < 1:
        raise ParameterError(
            "at least one value",
            count,
            where=f"metrics.{function}",
            remedy="check how the set was filtered",
        )
    return count
