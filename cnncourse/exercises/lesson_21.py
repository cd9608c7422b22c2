"""Exercises of lesson 21: two rules for regions, a pooled gradient, anchors, YOLO's grid, the masks' loss."""

from __future__ import annotations

import math

import numpy as np

from cnncourse.exercises import Exercise, Wrong, expect_pair, expect_same


def _overlaps(regions: int, boxes: int, seed: int) -> np.ndarray:
    """IoU of so many regions and boxes, with some exactly on the limits of the rules."""
    iou = np.random.default_rng(seed).random((regions, boxes)).round(2)
    if regions > 3 and boxes:
        iou[0], iou[1] = 0.1, 0.1
        iou[0, 0], iou[1, -1] = 0.5, 0.3
    return iou


def check_two_rules(two_rules) -> str:
    cases = [
        (_overlaps(30, 3, 1), np.array([2, 0, 2]), 2, "two boxes of the class"),
        (_overlaps(20, 2, 2), np.array([1, 0]), 1, "one box of the class"),
        (_overlaps(12, 2, 3), np.array([1, 0]), 4, "no box of the class"),
    ]
    for iou, labels, kind, what in cases:
        trunk, machine = expect_pair(two_rules(iou.copy(), labels.copy(), kind), "trunk", "machine")
        best = iou.max(1)
        right = np.where(best >= 0.5, labels[iou.argmax(1)] + 1, 0)
        hints = [
            (np.where(best > 0.5, labels[iou.argmax(1)] + 1, 0), "0.5 itself is enough"),
            (np.where(best >= 0.5, labels[iou.argmax(1)], 0), "class 0 would be ground: add 1"),
            (np.where(best >= 0.5, labels[iou.argmax(1)] + 1, -1), "ground is 0"),
            (np.where(best >= 0.5, iou.argmax(1) + 1, 0), "the class of the box, not its place"),
        ]
        expect_same(np.asarray(trunk), right, f"{what}: for the trunk", hints=hints)
        own = iou[:, labels == kind].max(1, initial=0.0)
        hints = [
            (np.where(best < 0.3, 0, -1), "only boxes of this class count for its machine"),
            (np.where(own <= 0.3, 0, -1), "below 0.3: 0.3 itself is left out"),
            (np.where(own < 0.5, 0, -1), "between 0.3 and 0.5 a region is left out"),
            (np.where(own < 0.3, -1, 0), "counterexamples are 0, what is left out is -1"),
            (
                np.where(own >= 0.5, 1, np.where(own < 0.3, 0, -1)),
                "examples are the true boxes alone: a region is never one",
            ),
        ]
        expect_same(np.asarray(machine), np.where(own < 0.3, 0, -1), f"{what}: for the machine",
                    hints=hints)  # fmt: skip
    return "two rules, found by trial: the paper says that they matter"


def two_rules(iou, labels, kind):
    best = iou.argmax(1)
    trunk = np.where(iou.max(1) >= 0.5, labels[best] + 1, 0)
    own = iou[:, labels == kind].max(1, initial=0.0)
    return trunk, np.where(own < 0.3, 0, -1)


def check_pooled_gradient(pooled_gradient) -> str:
    g = np.random.default_rng(5)
    tied = np.array([[1.0, 3.0, 3.0], [3.0, 0.0, 2.0]])
    cases = [
        (g.normal(size=(5, 6)), [(0, 0, 3, 3), (1, 1, 4, 5), (2, 0, 4, 2)], "overlapping regions"),
        (g.normal(size=(4, 4)), [(0, 0, 3, 3)] * 2, "the same region twice"),
        (g.normal(size=(3, 7)), [(1, 2, 1, 2)], "a region of one place"),
        (tied, [(0, 0, 1, 2)], "equal largest values"),
    ]
    for values, regions, what in cases:
        slopes = [float(each) for each in g.normal(size=len(regions))]
        right = _pooled(values, regions, slopes)
        hints = [
            (_pooled(values, regions, slopes, add=False), "two regions with one largest place add"),
            (_pooled(values, regions, slopes, spread=True), "all of it goes to one place"),
            (_pooled(values, regions, slopes, end=0), "row r2 and column c2 belong to the region"),
            (_pooled(values, regions, [1.0] * len(slopes)), "times the slope of the region"),
            (_pooled(values, regions, slopes, last=True), "of equal values the first counts"),
        ]
        got = pooled_gradient(values.copy(), list(regions), list(slopes))
        expect_same(got, right, what, hints=hints)
    return "places that are nowhere the largest learn nothing"


def _pooled(values, regions, slopes, *, add=True, spread=False, end=1, last=False):
    gradient = np.zeros_like(values)
    for (r1, c1, r2, c2), slope in zip(regions, slopes, strict=True):
        part = values[r1 : r2 + end, c1 : c2 + end]
        if not part.size:
            continue
        if spread:
            gradient[r1 : r2 + end, c1 : c2 + end] += slope / part.size
            continue
        where = np.flatnonzero(part == part.max())[-1 if last else 0]
        row, column = np.unravel_index(where, part.shape)
        gradient[r1 + row, c1 + column] = slope + (gradient[r1 + row, c1 + column] if add else 0)
    return gradient


def pooled_gradient(values, regions, slopes):
    gradient = np.zeros_like(values)
    for (r1, c1, r2, c2), slope in zip(regions, slopes):  # noqa: B905 - as long as each other
        part = values[r1 : r2 + 1, c1 : c2 + 1]
        row, column = np.unravel_index(part.argmax(), part.shape)
        gradient[r1 + row, c1 + column] += slope
    return gradient


NINE = [
    (area * wide, area / wide) for area in (128, 256, 512) for wide in (0.5**0.5, 1.0, 2.0**0.5)
]


def check_count_anchors(count_anchors) -> str:
    cases = [
        (48, 48, 4, [(8, 12), (14, 20)], "a scene"),
        (32, 64, 16, [(40, 16), (16, 16)], "a wide picture"),
        (32, 32, 16, [(40, 40)], "none lies inside"),
        (640, 960, 16, NINE, "nine anchors, 640 x 960"),
    ]
    for height, width, stride, sides, what in cases:
        total, inside = expect_pair(count_anchors(height, width, stride, list(sides)), "all",
                                    "inside")  # fmt: skip
        right = _counted(height, width, stride, sides)
        hints = [
            (right[0] // len(sides), "each place has an anchor for every pair of sides"),
            (height * width * len(sides), "one place for stride x stride pixels"),
        ]
        expect_same(total, right[0], f"{what}: all", hints=hints)
        hints = [
            (_counted(height, width, stride, sides, corner=True)[1], "anchors stand on the centres "
             "of the places, (i + 1/2) x stride"),
            (_counted(height, width, stride, [s[::-1] for s in sides])[1], "sides are (width, "
             "height)"),
            (_counted(height, width, stride, sides, strict=True)[1], "an anchor that touches the "
             "edge lies inside"),
            (_counted(height, width, stride, sides, half=False)[1], "half of it stands on either "
             "side of the centre"),
        ]  # fmt: skip
        expect_same(inside, right[1], f"{what}: inside", hints=hints)
    total, inside = right
    return f"nine anchors a place on 640 x 960: {total:,}, of which {inside:,} lie inside"


def _counted(height, width, stride, sides, *, corner=False, strict=False, half=True):
    shift = 0.0 if corner else 0.5
    rows = (np.arange(height // stride) + shift) * stride
    columns = (np.arange(width // stride) + shift) * stride
    inside = 0
    for wide, high in sides:
        reach = (high / 2, wide / 2) if half else (high, wide)
        fits = []
        for centre, part, end in ((rows, reach[0], height), (columns, reach[1], width)):
            low, top = centre - part, end - centre - part
            fits.append(int(((low > 0) & (top > 0) if strict else (low >= 0) & (top >= 0)).sum()))
        inside += fits[0] * fits[1]
    return len(rows) * len(columns) * len(sides), inside


def count_anchors(height, width, stride, sides):
    rows = (np.arange(height // stride) + 0.5) * stride
    columns = (np.arange(width // stride) + 0.5) * stride
    inside = 0
    for wide, high in sides:
        fits = ((rows >= high / 2) & (rows <= height - high / 2)).sum()
        inside += int(fits * ((columns >= wide / 2) & (columns <= width - wide / 2)).sum())
    return len(rows) * len(columns) * len(sides), inside


def check_on_grid(on_grid) -> str:
    boxes = [(10.0, 4.0, 20.0, 28.0), (0.0, 0.0, 6.0, 6.0), (30.0, 16.0, 42.0, 32.0)]
    cases = [
        (boxes, 48, 6, "three boxes, 6 x 6 cells"),
        (boxes[:2], 48, 4, "two boxes, 4 x 4 cells"),
        ([(40.0, 44.0, 56.0, 52.0)], 48, 6, "a centre on the corner of the picture"),
    ]
    for given, size, cells, what in cases:
        got = on_grid(list(given), size, cells)
        if len(got) != len(given):
            raise Wrong(f"{what}: expected {len(given)} tuples, one a box, got {len(got)}")
        for one, box in zip(got, given, strict=True):
            if len(one) != 6:
                raise Wrong(f"{what}: expected (row, column, x, y, w, h), got {one!r}")
            row, column, x, y, w, h = on_grid_of(box, size, cells)
            right = (row, column, x, y, w, h)
            hints = [
                ((column, row, x, y, w, h), "the row first: it belongs to y"),
                ((row, column, y, x, w, h), "x before y within the cell"),
                ((row, column, x, y, w * w, h * h), "w and h are roots"),
                ((row, column, x, y, h, w), "w is the width's root"),
                (
                    (row, column, x, y, w * math.sqrt(size), h * math.sqrt(size)),
                    "width and height are shares of the picture",
                ),
                (
                    (row, column, (column + x) / cells, (row + y) / cells, w, h),
                    "x and y are counted from the corner of the cell, in cells",
                ),
                (
                    (row + 1, column + 1, 0.0, 0.0, w, h),
                    "an edge of the picture belongs to the last cell",
                ),
            ]
            expect_same(one, right, f"{what}, the box {box}", hints=hints)
    return "what the cell says, the box can be read from"


def on_grid_of(box, size, cells):
    x1, y1, x2, y2 = box
    across, down = (x1 + x2) / 2 * cells / size, (y1 + y2) / 2 * cells / size
    row, column = min(int(down), cells - 1), min(int(across), cells - 1)
    return (row, column, across - column, down - row, math.sqrt((x2 - x1) / size),
            math.sqrt((y2 - y1) / size))  # fmt: skip


def on_grid(boxes, size, S):
    said = []
    for x1, y1, x2, y2 in boxes:
        across, down = (x1 + x2) / 2 * S / size, (y1 + y2) / 2 * S / size
        row, column = min(int(down), S - 1), min(int(across), S - 1)
        w, h = math.sqrt((x2 - x1) / size), math.sqrt((y2 - y1) / size)
        said.append((row, column, across - column, down - row, w, h))
    return said


def check_mask_loss_of(mask_loss_of) -> str:
    g = np.random.default_rng(9)
    for labels, what in (
        (np.array([2, 0, 1, 3, 0]), "five regions, two of ground"),
        (np.array([1, 3]), "two objects"),
        (np.array([0, 0]), "ground alone"),
    ):
        logits = g.normal(size=(len(labels), 3, 4, 4))
        goals = (g.random((len(labels), 4, 4)) < 0.5).astype(float)
        right = mask_loss_of_each(logits, labels, goals)
        every = _cross_entropy(logits, np.repeat(goals[:, None], 3, 1))
        hints = [(every.mean(), "only the map of the region's own class counts")]
        there = labels > 0
        if there.any():
            shifted = _cross_entropy(logits[there, labels[there] % 3], goals[there]).mean()
            hints += [
                (every[there].mean(), "only the map of the region's own class counts"),
                (shifted, "label 1 is class 0: its map is logits[r, 0]"),
                (right * there.sum() / len(labels), "the mean is over regions with an object"),
                (right * 16, "the mean over the pixels, not their sum"),
                (right * there.sum() * 16, "a mean, not a sum"),
                (-right, "the sign: minus the logarithm"),
            ]
        got = mask_loss_of(logits.copy(), labels.copy(), goals.copy())
        if np.ndim(got) == 0 and np.isnan(got):
            raise Wrong(f"{what}: got nan. Without an object return 0")
        expect_same(got, right, what, hints=hints)
    return "the classes do not compete for a pixel"


def _cross_entropy(logits, goals):
    chance = 1 / (1 + np.exp(-logits))
    return -(goals * np.log(chance) + (1 - goals) * np.log(1 - chance))


def mask_loss_of_each(logits, labels, goals):
    there = labels > 0
    if not there.any():
        return 0.0
    return _cross_entropy(logits[there, labels[there] - 1], goals[there]).mean()


def mask_loss_of(logits, labels, goals):
    there = np.flatnonzero(labels > 0)
    if len(there) == 0:
        return 0.0
    own = logits[there, labels[there] - 1]  # (objects, m, m)
    chance = 1 / (1 + np.exp(-own))
    true = np.where(goals[there] == 1, chance, 1 - chance)
    return -np.log(true).mean()


EXERCISES = [
    Exercise(
        "21.1",
        "Two rules for regions",
        (
            "The trunk: best = iou.argmax(1); np.where(iou.max(1) >= 0.5, labels[best] + 1, 0).",
            "The machine: iou[:, labels == kind].max(1, initial=0.0) is 0 where there is no box of the class.",
        ),
        check_two_rules,
        two_rules,
    ),
    Exercise(
        "21.2",
        "The gradient through RoI pooling",
        (
            "The largest value of a region gets all of the region's slope: part = values[r1 : r2 + 1, c1 : c2 + 1].",
            "np.unravel_index(part.argmax(), part.shape) is its row and column in the part; add with +=.",
        ),
        check_pooled_gradient,
        pooled_gradient,
    ),
    Exercise(
        "21.3",
        "All anchors and those inside",
        (
            "Centres: (np.arange(height // stride) + 0.5) * stride, and the same for the width.",
            "For each pair of sides: rows in which it fits times columns in which it fits.",
        ),
        check_count_anchors,
        count_anchors,
    ),
    Exercise(
        "21.4",
        "A scene on YOLO's grid",
        (
            "across = (x1 + x2) / 2 * S / size is the centre in cells; its whole part is the column.",
            "min(int(across), S - 1) keeps an edge in the last cell; math.sqrt((x2 - x1) / size) is w.",
        ),
        check_on_grid,
        on_grid,
    ),
    Exercise(
        "21.5",
        "The masks' loss",
        (
            "there = np.flatnonzero(labels > 0); own = logits[there, labels[there] - 1] are maps (objects, m, m).",
            "-(goal * log p + (1 - goal) * log(1 - p)), its mean; return 0.0 when `there` is empty.",
        ),
        check_mask_loss_of,
        mask_loss_of,
    ),
]
