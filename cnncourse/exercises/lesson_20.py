"""Exercises of lesson 20: counting windows, HSV, what an answer sees, eleven-point precision, sets of boxes."""

from __future__ import annotations

import colorsys
import itertools

import numpy as np

from cnncourse.exercises import Exercise, Wrong, expect_same


def check_window_count(window_count) -> str:
    cases = ((512, 512, 64, 64, 8), (300, 451, 45, 90, 8), (10, 12, 10, 12, 5), (40, 30, 7, 9, 3),
             (100, 100, 12, 12, 2))  # fmt: skip
    for height, width, h, w, stride in cases:
        right = ((height - h) // stride + 1) * ((width - w) // stride + 1)
        hints = [
            (((height - h) // stride) * ((width - w) // stride), "the first place counts too"),
            ((height // stride) * (width // stride), "the window must lie inside the picture"),
            ((height - h + 1) * (width - w + 1), "that is stride 1"),
            (((height - w) // stride + 1) * ((width - h) // stride + 1), "h belongs to height"),
            ((height - h) // stride + 1 + (width - w) // stride + 1, "places multiply"),
            (
                -(-(height - h) // stride + 1) * -(-(width - w) // stride + 1),
                "a last window that reaches beyond the edge does not count",
            ),
        ]
        got = window_count(height, width, h, w, stride)
        expect_same(
            got, right, f"{h} x {w} every {stride} in {height} x {width} pixels", hints=hints
        )
    for height, width, h, w in ((20, 50, 21, 10), (20, 50, 10, 51), (20, 20, 40, 40)):
        got = window_count(height, width, h, w, 2)
        expect_same(got, 0, f"{h} x {w} does not fit into {height} x {width}: none")
    return "places down times places across"


def window_count(height, width, h, w, stride):
    if h > height or w > width:
        return 0
    return ((height - h) // stride + 1) * ((width - w) // stride + 1)


def check_to_hsv(to_hsv) -> str:
    g = np.random.default_rng(4)
    colours = [
        (0.8, 0.4, 0.2), (0.2, 0.9, 0.4), (0.1, 0.3, 0.7), (0.9, 0.1, 0.6),
        (0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (1.0, 0.0, 0.0), (1.0, 1.0, 0.0),
        *map(tuple, g.random((20, 3)).tolist()),
    ]  # fmt: skip
    for colour in colours:
        wanted = np.array(colorsys.rgb_to_hsv(*colour))
        top, low = max(colour), min(colour)
        hue, saturation, value = wanted
        hints = [
            ((hue, top - low, value), "saturation is divided by the largest"),
            ((6 * hue, saturation, value), "the hue is divided by 6"),
            ((360 * hue, saturation, value), "the hue goes from 0 to 1, not in degrees"),
            ((hue - 1, saturation, value), "a negative hue: take it modulo 1"),
            ((hue, saturation, sum(colour) / 3), "value is the largest, not the mean"),
            ((value, saturation, hue), "in the order hue, saturation, value"),
        ]
        try:
            got = to_hsv(*colour)
        except ZeroDivisionError:
            raise Wrong(f"{colour}: grey has d = 0, and black a largest of 0") from None
        if not isinstance(got, tuple | list | np.ndarray) or len(got) != 3:
            raise Wrong(f"{colour}: expected (hue, saturation, value), got {got!r}")
        named = tuple(round(part, 3) for part in colour)
        expect_same(np.array(got, float), wanted, f"the colour {named}", hints=hints)
    return "the same as colorsys.rgb_to_hsv"


def to_hsv(r, g, b):
    largest, smallest = max(r, g, b), min(r, g, b)
    d = largest - smallest
    if d == 0:
        return 0.0, 0.0, largest
    if largest == r:
        hue = (g - b) / d
    elif largest == g:
        hue = 2 + (b - r) / d
    else:
        hue = 4 + (r - g) / d
    return hue / 6 % 1, d / largest, largest


def _seen(layers, row, column):
    side, step = 1, 1
    for kernel, stride in layers:
        side += (kernel - 1) * step
        step *= stride
    return side, step, (column * step, row * step, column * step + side, row * step + side)


def check_seen_by(seen_by) -> str:
    pnet = [(3, 1), (2, 2), (3, 1), (3, 1), (1, 1)]
    cases = (
        ("P-Net", pnet, 0, 0),
        ("P-Net", pnet, 3, 5),
        ("one 3 x 3 layer", [(3, 1)], 2, 7),
        ("kernel 5 with stride 2", [(5, 2)], 1, 4),
        ("two strides", [(7, 2), (3, 2), (3, 1)], 2, 1),
        ("no layer at all", [], 4, 6),
    )
    for what, layers, row, column in cases:
        side, step, right = _seen(layers, row, column)
        x1, y1, x2, y2 = right
        plain = 1 + sum(kernel - 1 for kernel, _ in layers)
        hints = [
            ((y1, x1, y2, x2), "x comes first: the column, then the row"),
            ((x1, y1, x2 - 1, y2 - 1), "x2 and y2 are one past the last pixel"),
            ((x1, y1, x1 + plain, y1 + plain), "behind a stride, a kernel's steps are longer"),
            ((column, row, column + side, row + side), "a step to the next answer is the product of all strides"),
            ((x1, y1, side, side), "return the right and lower edge, not the size"),
        ]  # fmt: skip
        got = seen_by(list(layers), row, column)
        if not isinstance(got, tuple | list | np.ndarray) or len(got) != 4:
            raise Wrong(f"{what}: expected (x1, y1, x2, y2), got {got!r}")
        expect_same(
            np.array(got), np.array(right), f"{what}, answer ({row}, {column})", hints=hints
        )
    return "size and step of the windows follow from kernels and strides"


def seen_by(layers, row, column):
    side, step = 1, 1
    for kernel, stride in layers:
        side += (kernel - 1) * step
        step *= stride
    x1, y1 = column * step, row * step
    return x1, y1, x1 + side, y1 + side


def _eleven(right, positives, *, later=True, last=10):
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    recall = hits / positives
    best = []
    for r in np.arange(0, last + 1) / 10:
        reached = recall >= r - 1e-9
        if not reached.any():
            best.append(0.0)
        else:
            best.append(precision[reached].max() if later else precision[reached][0])
    return float(np.mean(best))


def check_eleven_points(eleven_points) -> str:
    g = np.random.default_rng(6)
    cases = [
        ("right, wrong, right of two objects", np.array([True, False, True]), 2),
        ("all wrong", np.array([False, False]), 3),
        ("ten of ten", np.ones(10, bool), 10),
        ("precision rises again", np.array([False, True, True, True]), 4),
        ("three of ten found", np.array([True, True, True]), 10),
        *[(f"random list {n}", g.random(25) < 0.5, 20) for n in range(5)],
    ]
    for what, right, positives in cases:
        hits = np.cumsum(right)
        precision = hits / np.arange(1, len(right) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        reached = [
            precision[hits / positives >= r - 1e-9].max()
            for r in np.arange(11) / 10
            if (hits / positives >= r - 1e-9).any()
        ]
        hints = [
            (
                float((envelope * right).sum() / positives),
                "that is the area, not the eleven points",
            ),
            (_eleven(right, positives, later=False), "the best precision from this recall on"),
            (_eleven(right, positives, last=9), "recall 1 is one of the eleven"),
            (float(np.mean(reached)), "a recall that is never reached counts as 0"),
            (float(np.sum(reached)), "the mean of the eleven, not their sum"),
        ]
        expect_same(
            eleven_points(right.copy(), positives), _eleven(right, positives), what, hints=hints
        )
    return "VOC 2007 took these eleven points, VOC 2010 the area"


def eleven_points(right, positives):
    hits = np.cumsum(right)
    precision, recall = hits / np.arange(1, len(right) + 1), hits / positives
    best = []
    for r in np.arange(11) / 10:
        reached = precision[recall >= r - 1e-9]
        best.append(reached.max() if len(reached) else 0.0)
    return np.mean(best)


def check_error_of_set(error_of_set) -> str:
    g = np.random.default_rng(8)
    cases = [("one box", 1), ("two boxes", 2), ("three boxes", 3), ("four boxes", 4)]
    for what, count in cases:
        for shuffled in (False, True):
            true = g.random((count, 4))
            predicted = true[::-1] if shuffled else g.random((count, 4))
            squares = ((predicted[:, None] - true[None]) ** 2).mean(2)  # (K, K)
            sums = [
                squares[range(count), order].mean()
                for order in itertools.permutations(range(count))
            ]
            right = min(sums)
            hints = [
                (squares.diagonal().mean(), "that is the given order; try the others too"),
                (squares.min(1).mean(), "two predictions may not take the same true box"),
                (squares.min(0).mean(), "two true boxes may not share a prediction"),
                (max(sums), "that is the largest"),
                (np.mean(sums), "the smallest over the orders, not their mean"),
                (4 * count * right, "the mean over all numbers, not the sum"),
            ]
            got = error_of_set(predicted.copy(), true.copy())
            name = f"{what}, reversed" if shuffled else what
            expect_same(got, right, name, hints=hints)
    return "for many boxes scipy.optimize.linear_sum_assignment finds the best order"


def error_of_set(predicted, true):
    orders = itertools.permutations(range(len(true)))
    return min(((predicted - true[list(order)]) ** 2).mean() for order in orders)


EXERCISES = [
    Exercise(
        "20.1",
        "How many windows",
        (
            "Down: (height - h) // stride + 1 places, if the window fits.",
            "Multiply by the places across; return 0 if h > height or w > width.",
        ),
        check_window_count,
        window_count,
    ),
    Exercise(
        "20.2",
        "From RGB to HSV",
        (
            "largest, smallest = max(r, g, b), min(r, g, b); with d = 0 return (0.0, 0.0, largest).",
            "hue / 6 % 1 brings a negative hue back to between 0 and 1.",
        ),
        check_to_hsv,
        to_hsv,
    ),
    Exercise(
        "20.3",
        "What an answer sees",
        (
            "Keep two numbers, both 1 at first: the side seen, and the step from answer to answer.",
            "For each layer: side += (kernel - 1) * step, and then step *= stride.",
        ),
        check_seen_by,
        seen_by,
    ),
    Exercise(
        "20.4",
        "Eleven points",
        (
            "precision and recall as in the lesson: np.cumsum(right) by 1, 2, ... and by positives.",
            "For each r of np.arange(11) / 10: precision[recall >= r - 1e-9].max(), or 0 if none is.",
        ),
        check_eleven_points,
        eleven_points,
    ),
    Exercise(
        "20.5",
        "A set of boxes",
        (
            "itertools.permutations(range(len(true))) gives all orders.",
            "For one: ((predicted - true[list(order)]) ** 2).mean(); take the smallest.",
        ),
        check_error_of_set,
        error_of_set,
    ),
]
