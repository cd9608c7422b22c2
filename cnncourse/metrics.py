"""Scores of predictions, exact over a whole set: computed from counts, never from means of batches.

Classification: `accuracy`, `top_k_accuracy`, `confusion`. Segmentation: `intersection_over_union` of a confusion table.
Detection: `box_iou`, `average_precision`. Several seeds: `interval`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cnncourse.errors import ParameterError, ShapeError


class Interval(NamedTuple):
    """A mean over runs with the half width of its confidence interval: ``mean - half`` to ``mean + half``."""

    mean: float
    half: float


def accuracy(logits: Tensor, labels: Tensor, *, ignore_index: int | None = None) -> float:
    """The share of positions whose largest logit stands at their label.

    logits (N, C, ...), labels int64 (N, ...); predicted classes of the labels' shape are welcome in place of logits.

    >>> accuracy(torch.tensor([[2., 1.], [0., 3.]]), torch.tensor([0, 0]))
    0.5
    """
    predicted = _predicted(logits, labels, "accuracy")
    counted = (
        torch.ones_like(labels, dtype=torch.bool)
        if ignore_index is None
        else labels != ignore_index
    )
    return int((predicted == labels)[counted].sum()) / _some(int(counted.sum()), "accuracy")


def top_k_accuracy(logits: Tensor, labels: Tensor, k: int = 5) -> float:
    """The share of images whose label is among the k largest of their logits (N, C); labels (N,).

    An equal logit, and one that is no number, counts against the label: a network that answers all alike has no score.
    """
    if logits.ndim != 2 or not 1 <= k <= logits.shape[1]:
        raise ParameterError(
            f"logits (N, C) and k from 1 to {logits.shape[-1]}",
            f"{tuple(logits.shape)} and k={k}",
            where="metrics.top_k_accuracy",
            remedy="use k=1 for plain accuracy",
        )
    own = logits.gather(1, labels[:, None])
    at_least = (~(logits < own)).sum(1)  # itself included
    return int((at_least <= k).sum()) / _some(len(labels), "top_k_accuracy")


def confusion(
    logits: Tensor, labels: Tensor, classes: int, *, ignore_index: int | None = None
) -> Tensor:
    """How often class i was called class j: int64 (classes, classes), rows are labels, columns predictions.

    logits (N, C, ...) or predicted classes (N, ...); labels (N, ...). Tables of batches add up to the table of the set.

    >>> confusion(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2)
    tensor([[1, 1],
            [0, 1]])
    """
    predicted = _predicted(logits, labels, "confusion")
    if ignore_index is not None:
        predicted, labels = predicted[labels != ignore_index], labels[labels != ignore_index]
    predicted, labels = predicted.long(), labels.long()  # a product of bytes would overflow
    both = torch.stack([predicted.flatten(), labels.flatten()])
    if both.numel() and (both.min() < 0 or both.max() >= classes):
        raise ParameterError(
            f"labels and predictions from 0 to {classes - 1}",
            f"{int(both.min())} to {int(both.max())}",
            where="metrics.confusion",
            remedy="raise `classes`, or pass ignore_index",
        )
    return torch.bincount(
        labels.flatten() * classes + predicted.flatten(), minlength=classes**2
    ).view(classes, classes)


def intersection_over_union(table: Tensor) -> Tensor:
    """Intersection over union of each class, float64 (classes,), from a `confusion` table; nan for a class never seen.

    The mean over the classes that are there is the "mean IoU" of segmentation: ``.nanmean()``.
    (Everingham et al. 2015, "The PASCAL Visual Object Classes Challenge: A Retrospective", section 3.3.)
    """
    table = table.double()
    hit = table.diagonal()
    return hit / (table.sum(0) + table.sum(1) - hit)


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of every pair of boxes (N, 4) and (M, 4), given as (x1, y1, x2, y2): float (N, M).

    >>> box_iou(torch.tensor([[0., 0., 2., 2.]]), torch.tensor([[1., 1., 3., 3.]]))  # 1 / 7
    tensor([[0.1429]])
    """
    for given in (boxes, others):
        if given.ndim != 2 or given.shape[1] != 4:
            raise ShapeError(
                "boxes (N, 4) as x1, y1, x2, y2",
                tuple(given.shape),
                where="metrics.box_iou",
                remedy="pass one box as box[None]",
            )
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (high - low).clamp_min(0).prod(2)
    area = [(part[:, 2:] - part[:, :2]).prod(1) for part in (boxes, others)]
    return shared / (area[0][:, None] + area[1][None] - shared)


def average_precision(scores: Tensor, right: Tensor, positives: int) -> float:
    """Area under the precision-recall curve of detections, with precision made non-increasing (VOC 2010 and later).

    scores (N,): confidence; right bool (N,): whether the detection was matched to an object not yet found;
    positives: how many objects there are.

    >>> average_precision(torch.tensor([0.9, 0.8, 0.7]), torch.tensor([True, False, True]), positives=2)
    0.8333333333333333
    """
    _some(positives, "average_precision")
    order = scores.argsort(descending=True, stable=True)
    hits = right[order].double().cumsum(0)
    precision = hits / torch.arange(1, len(hits) + 1, dtype=torch.float64, device=hits.device)
    best = precision.flip(0).cummax(0).values.flip(0) if len(hits) else precision
    return float((best * right[order]).sum() / positives)


def interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean over runs with Student's interval for it: half the width is t * deviation / sqrt(runs).

    >>> interval([0.90, 0.92, 0.94])
    Interval(mean=0.92, half=0.0497)

    One run has no interval: half is nan. It assumes that the runs differ by normal chance.
    """
    if not 0 < confidence < 1:
        raise ParameterError(
            "a confidence between 0 and 1", confidence, where="metrics.interval", remedy="use 0.95"
        )
    numbers = torch.as_tensor(list(values), dtype=torch.float64)
    runs = _some(len(numbers), "interval")
    mean = float(numbers.mean())
    if runs == 1:
        return Interval(mean, math.nan)
    from scipy.stats import t

    return Interval(
        mean, float(t.ppf((1 + confidence) / 2, runs - 1) * numbers.std() / math.sqrt(runs))
    )


def _predicted(logits: Tensor, labels: Tensor, function: str) -> Tensor:
    if logits.shape == labels.shape and not logits.is_floating_point():
        return logits
    if logits.ndim != labels.ndim + 1 or logits.shape[:1] + logits.shape[2:] != labels.shape:
        raise ShapeError(
            "logits (N, C, ...) and labels (N, ...)",
            f"{tuple(logits.shape)} and {tuple(labels.shape)}",
            where=f"metrics.{function}",
            remedy="classes lie on axis 1",
        )
    return logits.argmax(1)


def _some(count: int, function: str) -> int:
    if count < 1:
        raise ParameterError(
            "at least one value",
            count,
            where=f"metrics.{function}",
            remedy="check how the set was filtered",
        )
    return count
