"""Exercises of lesson 19: scores of maps, windows at once, unpooling, transposed convolution, joins, merged objects."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from cnncourse.exercises import Exercise, Wrong, expect_pair, expect_same


def check_mean_iou(mean_iou) -> str:
    g = np.random.default_rng(1)
    small = np.array([[0, 0, 1], [0, 2, 1]]), np.array([[0, 1, 1], [0, 2, 255]])
    cases = [
        ("a map by hand", *small, 3),
        ("a class that occurs in neither map", *small, 5),
        ("random maps", g.integers(0, 4, (8, 9)), g.integers(0, 4, (8, 9)), 4),
        ("a class that is only called", np.array([[0, 1], [0, 0]]), np.zeros((2, 2), int), 2),
        ("all pixels right", np.array([[1, 0]]), np.array([[1, 0]]), 2),
    ]
    for what, predicted, truth, classes in cases:
        known = truth != 255
        p, t = predicted[known], truth[known]
        both = np.array([((p == c) & (t == c)).sum() for c in range(classes)])
        either = np.array([((p == c) | (t == c)).sum() for c in range(classes)])
        all_either = np.array([((predicted == c) | (truth == c)).sum() for c in range(classes)])
        there = either > 0
        right = (both[there] / either[there]).mean()
        of_truth = [(p[t == c] == c).mean() for c in range(classes) if (t == c).any()]
        hints = [
            ((p == t).mean(), "that is the pixel accuracy"),
            (
                (both / np.maximum(either, 1)).mean(),
                "a class that occurs in neither map is left out, not counted as 0",
            ),
            (
                (both[there] / all_either[there]).mean(),
                "pixels whose truth is 255 count nowhere, also not where they are called a class",
            ),
            (both.sum() / either.sum(), "one quotient for each class, then their mean"),
            (np.mean(of_truth), "divide by the pixels that are of the class OR are called so"),
        ]
        got = mean_iou(predicted.copy(), truth.copy(), classes)
        expect_same(got, right, what, hints=hints)
    return "a class that is called but not there has an IoU of 0 and counts"


def mean_iou(predicted, truth, classes):
    known = truth != 255
    predicted, truth = predicted[known], truth[known]
    scores = []
    for c in range(classes):
        both = ((predicted == c) & (truth == c)).sum()
        either = ((predicted == c) | (truth == c)).sum()
        if either > 0:
            scores.append(both / either)
    return np.mean(scores)


def check_all_windows(all_windows) -> str:
    g = torch.Generator().manual_seed(2)
    for c, k, classes, h, w in ((3, 3, 4, 6, 7), (1, 5, 2, 5, 9), (2, 2, 3, 4, 4)):
        picture = torch.randn(c, h, w, generator=g, dtype=torch.float64)
        weight = torch.randn(classes, c * k * k, generator=g, dtype=torch.float64)
        bias = torch.randn(classes, generator=g, dtype=torch.float64)
        kernel = weight.view(classes, c, k, k)
        right = F.conv2d(picture[None], kernel, bias)[0]
        hints = [
            (F.conv2d(picture[None], kernel)[0], "the bias is missing"),
            (
                F.conv2d(picture[None], kernel.flip(2, 3), bias)[0],
                "conv2d does not turn the kernel round; the row is laid out as it stands",
            ),
            (
                F.conv2d(picture[None], kernel.transpose(2, 3), bias)[0],
                "a window is laid out row by row: view(classes, C, k, k)",
            ),
            (
                F.conv2d(picture[None], weight.view(classes, k, k, c).permute(0, 3, 1, 2), bias)[0],
                "the channel comes first in the row: view(classes, C, k, k)",
            ),
        ]
        shapes = [
            ((1, *right.shape), "one picture is asked: take [0] of the batch"),
            ((classes, h, w), "no padding: a window has to fit into the picture"),
        ]
        got = all_windows(picture.clone(), weight.clone(), bias.clone(), k)
        expect_same(got, right, f"{c} channels, windows of {k}", hints=hints, shapes=shapes)
    return "a linear layer on windows is a convolution with the same weights"


def all_windows(picture, weight, bias, k):
    kernel = weight.view(len(weight), picture.shape[0], k, k)
    return F.conv2d(picture[None], kernel, bias)[0]


def check_kept_maxima(kept_maxima) -> str:
    g = np.random.default_rng(3)
    cases = (
        ("by hand", np.array([[1.0, 5.0, 2.0, 0.0], [3.0, 2.0, 1.0, 7.0]])),
        ("random numbers", g.normal(size=(6, 8))),
        ("all below zero", -1 - g.random((4, 4))),
        ("equal maxima", np.array([[4.0, 4.0, 1.0, 2.0], [4.0, 0.0, 2.0, 2.0]])),
    )
    for what, x in cases:
        h, w = x.shape
        squares = x.reshape(h // 2, 2, w // 2, 2).transpose(0, 2, 1, 3).reshape(h // 2, w // 2, 4)
        best = squares.argmax(2)
        kept = np.eye(4)[best] * squares
        right = kept.reshape(h // 2, w // 2, 2, 2).transpose(0, 2, 1, 3).reshape(h, w)
        nails = np.zeros_like(x)
        nails[::2, ::2] = squares.max(2)
        each = np.repeat(np.repeat(squares.max(2), 2, 0), 2, 1)
        hints = [
            (nails, "that is a bed of nails: the maximum belongs where it stood"),
            (each, "the maximum stands once, not four times"),
            (x * (x == each), "of equal maxima only the first stays"),
            ((x == each).astype(float), "the maximum itself stays, not a 1"),
        ]
        shapes = [(squares.max(2).shape, "the map keeps its size: unpool after pooling")]
        expect_same(kept_maxima(x.copy()), right, what, hints=hints, shapes=shapes)
    return "pooling it again would give the same maxima where they are above zero"


def kept_maxima(x):
    kept = np.zeros_like(x)
    for i in range(0, x.shape[0], 2):
        for j in range(0, x.shape[1], 2):
            square = x[i : i + 2, j : j + 2]
            row, column = np.unravel_index(square.argmax(), (2, 2))
            kept[i + row, j + column] = square[row, column]
    return kept


def check_transposed_1d(transposed_1d) -> str:
    g = np.random.default_rng(4)
    for n, k, stride, padding in ((3, 3, 2, 0), (4, 4, 2, 1), (5, 3, 1, 1), (2, 5, 3, 2)):
        x, kernel = g.normal(size=n), g.normal(size=k)
        whole = np.zeros(stride * (n - 1) + k)
        for i in range(n):
            whole[stride * i : stride * i + k] += x[i] * kernel
        right = whole[padding : len(whole) - padding]
        turned = np.zeros_like(whole)
        written = np.zeros_like(whole)
        for i in range(n):
            turned[stride * i : stride * i + k] += x[i] * kernel[::-1]
            written[stride * i : stride * i + k] = x[i] * kernel
        cut = slice(padding, len(whole) - padding)
        hints = [
            (turned[cut], "the kernel is stamped as it is, not turned round"),
            (written[cut], "where stamps overlap they add up (+=)"),
        ]
        shapes = [
            (whole.shape, "`padding` numbers are cut off at both ends"),
            ((len(whole) + 2 * padding,), "padding cuts off here; it adds nothing"),
            ((len(whole) - padding,), "cut off at both ends"),
        ]
        got = transposed_1d(x.copy(), kernel.copy(), stride, padding)
        expect_same(
            got,
            right,
            f"{n} numbers, kernel {k}, stride {stride}, padding {padding}",
            hints=hints,
            shapes=[pair for pair in shapes if pair[0] != right.shape],
        )
    return "(n - 1) stride - 2 padding + k numbers"


def transposed_1d(x, kernel, stride, padding):
    whole = np.zeros(stride * (len(x) - 1) + len(kernel))
    for i, value in enumerate(x):
        whole[stride * i : stride * i + len(kernel)] += value * kernel
    return whole[padding : len(whole) - padding]


def check_joined(joined) -> str:
    g = np.random.default_rng(5)
    for c, d, h, w, more in ((2, 3, 2, 4, (0, 0)), (1, 2, 3, 3, (1, 0)), (3, 1, 2, 2, (1, 1))):
        coarse = g.normal(size=(c, h, w))
        fine = g.normal(size=(d, 2 * h + more[0], 2 * w + more[1]))
        large = coarse.repeat(2, 1).repeat(2, 2)
        right = np.concatenate([large, fine[:, : 2 * h, : 2 * w]])
        hints = [
            (
                np.concatenate([fine[:, : 2 * h, : 2 * w], large]),
                "the enlarged map comes first",
            ),
            (
                np.concatenate([large, fine[:, more[0] :, more[1] :]]),
                "cut at the lower and right edge, not at the upper and left",
            ),
            (
                np.concatenate([np.tile(coarse, (1, 2, 2)), fine[:, : 2 * h, : 2 * w]]),
                "np.tile sets whole maps side by side; each number is to be repeated",
            ),
        ]
        nails = np.zeros_like(large)
        nails[:, ::2, ::2] = coarse
        hints.append((np.concatenate([nails, fine[:, : 2 * h, : 2 * w]]), "that is a bed of nails"))
        shapes = [((d, 2 * h, 2 * w), "put them side by side as channels, do not add them")]
        got = joined(coarse.copy(), fine.copy())
        expect_same(got, right, f"{c} + {d} channels, {more} more", hints=hints, shapes=shapes)
    return "U-Net cuts too, on all sides: its convolutions have no borders"


def joined(coarse, fine):
    large = coarse.repeat(2, axis=1).repeat(2, axis=2)
    height, width = large.shape[1:]
    return np.concatenate([large, fine[:, :height, :width]])


def check_names_and_merges(names_and_merges) -> str:
    g = np.random.default_rng(6)
    cases = (
        ("two zeros that touch", np.array([[1, 1, 2], [0, 1, 2], [0, 1, 2]]), [0, 0]),
        ("two names that touch", np.array([[1, 1, 2], [0, 1, 2]]), [0, 3]),
        ("only at a corner", np.array([[1, 0], [0, 2]]), [1, 1]),
        ("one above the other", np.array([[1, 1], [2, 2], [0, 3]]), [2, 2, 2]),
        ("random", g.integers(0, 5, (7, 6)), [1, 0, 1, 0]),
        ("no object", np.zeros((2, 3), int), []),
    )
    for what, masks, labels in cases:
        answer = names_and_merges(masks.copy(), list(labels))
        names, pairs = expect_pair(answer, "names", "pairs")
        table = np.array([0, *(label + 1 for label in labels)])
        right = table[masks]

        def count(differs, names=right, masks=masks):
            sides = ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1]))
            return [
                int(
                    (
                        (names[a] == names[b])
                        & (names[a] > 0)
                        & ((masks[a] != masks[b]) if differs else True)
                    ).sum()
                )
                for a, b in sides
            ]

        merged = count(True)
        hints = [
            (np.array([0, *labels])[masks], "class c is c + 1; the ground is 0"),
            (masks, "that is the map of objects; look their classes up"),
        ]
        expect_same(names, right, f"{what}: the names", hints=hints)
        corners = sum(
            int(((right[a] == right[b]) & (right[a] > 0) & (masks[a] != masks[b])).sum())
            for a, b in (
                (np.s_[1:, 1:], np.s_[:-1, :-1]),
                (np.s_[1:, :-1], np.s_[:-1, 1:]),
            )
        )
        hints = [
            (sum(count(False)), "neighbours of the same object are no merge"),
            (merged[0], "also one above the other"),
            (merged[1], "also side by side"),
            (sum(merged) + corners, "corners do not count"),
            (2 * sum(merged), "each pair once"),
        ]
        expect_same(pairs, sum(merged), f"{what}: the pairs", hints=hints)
    if not isinstance(pairs, int | np.integer):
        raise Wrong(f"the number of pairs is a whole number, got {type(pairs).__name__}")
    return "where this number is 0, patches of names are objects or parts of one"


def names_and_merges(masks, labels):
    table = np.array([0, *(label + 1 for label in labels)])
    names = table[masks]
    pairs = 0
    for one, other in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        same = (names[one] == names[other]) & (names[one] > 0)
        pairs += int((same & (masks[one] != masks[other])).sum())
    return names, pairs


EXERCISES = [
    Exercise(
        "19.1",
        "Mean IoU of two maps",
        (
            "First keep only pixels with truth != 255, in both maps.",
            "For each class: (both & …).sum() / (either | …).sum(), if the second is above 0; then the mean.",
        ),
        check_mean_iou,
        mean_iou,
    ),
    Exercise(
        "19.2",
        "All windows at once",
        (
            "Each row of weight is a kernel of C × k × k: weight.view(classes, C, k, k).",
            "F.conv2d(picture[None], kernel, bias)[0]: conv2d wants a batch.",
        ),
        check_all_windows,
        all_windows,
    ),
    Exercise(
        "19.3",
        "Pooled and unpooled",
        (
            "Two loops over the squares; square.argmax() counts row by row and takes the first.",
            "np.unravel_index(square.argmax(), (2, 2)) gives row and column within the square.",
        ),
        check_kept_maxima,
        kept_maxima,
    ),
    Exercise(
        "19.4",
        "A transposed convolution by stamps",
        (
            "Begin with zeros, stride * (n - 1) + k of them; add x[i] * kernel from place stride * i on.",
            "At the end whole[padding : len(whole) - padding]; [padding:-padding] fails for 0.",
        ),
        check_transposed_1d,
        transposed_1d,
    ),
    Exercise(
        "19.5",
        "A join as in U-Net",
        (
            "coarse.repeat(2, axis=1).repeat(2, axis=2) repeats each number (np.repeat).",
            "np.concatenate([large, fine[:, :height, :width]]) puts channels behind each other.",
        ),
        check_joined,
        joined,
    ),
    Exercise(
        "19.6",
        "From objects to names",
        (
            "A table [0, class of object 0 plus 1, …] indexed by masks gives the names.",
            "Compare names[:, 1:] with names[:, :-1], and names[1:] with names[:-1]; the ground does not count.",
        ),
        check_names_and_merges,
        names_and_merges,
    ),
]
