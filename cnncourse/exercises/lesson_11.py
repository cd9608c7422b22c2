"""Exercises of lesson 11: sparse connections, sides of maps, groups, ten crops, aliasing."""

from __future__ import annotations

import math

import numpy as np
import torch

from cnncourse.exercises import Exercise, Wrong, expect_pair, expect_same
from cnncourse.models.lenet import SOURCES


def check_sparse(sparse_parameters) -> str:
    cases = (
        ("three maps", ((0, 1), (1, 2), (0, 1, 2)), 3),
        ("C3 of LeNet-5", SOURCES, 5),
        ("a map left unread at the end of the list", ((0,), (0, 2), (1, 0)), 2),
    )
    for what, sources, kernel in cases:
        sparse, full = expect_pair(sparse_parameters(sources, kernel), "sparse", "full")
        reads, maps = sum(map(len, sources)), max(map(max, sources)) + 1
        right = reads * kernel**2 + len(sources)
        hints = [
            (reads * kernel**2, "the biases are missing: one for each output map"),
            (reads * kernel**2 + reads, "one bias for each output map, not for each map it reads"),
            (reads * kernel + len(sources), "a kernel is square: kernel * kernel weights"),
        ]
        expect_same(sparse, right, f"{what}, sparse", hints=hints)
        right = len(sources) * (maps * kernel**2 + 1)
        hints = [
            (len(sources) * maps * kernel**2, "the biases are missing"),
            (
                len(sources) * (max(map(len, sources)) * kernel**2 + 1),
                "all input maps: the largest number in sources, plus one",
            ),
        ]
        expect_same(full, right, f"{what}, all read", hints=hints)
    return "C3 has 1,516 parameters, and would have 2,416"


def sparse_parameters(sources, kernel):
    reads = sum(len(read) for read in sources)
    maps = max(max(read) for read in sources) + 1
    return reads * kernel**2 + len(sources), len(sources) * (maps * kernel**2 + 1)


def check_sides(sides_and_rest) -> str:
    cases = (
        ("AlexNet on 227", 227, [(11, 4, 0), (3, 2, 0), (5, 1, 2), (3, 2, 0)]),
        ("AlexNet on 224", 224, [(11, 4, 0), (3, 2, 0)]),
        ("ZFNet", 224, [(7, 2, 1), (3, 2, 1), (5, 2, 0)]),
        ("one layer", 10, [(2, 3, 0)]),
    )
    for what, side, layers in cases:
        sides, rests = expect_pair(sides_and_rest(side, list(layers)), "sides", "rests")
        wanted, left, unpadded, rounded = [], [], [], []
        here = bare = up = side
        for kernel, stride, padding in layers:
            left.append((here + 2 * padding - kernel) % stride)
            here = (here + 2 * padding - kernel) // stride + 1
            bare = (bare + padding - kernel) // stride + 1
            up = math.ceil((up + 2 * padding - kernel) / stride) + 1
            wanted.append(here), unpadded.append(bare), rounded.append(up)
        hints = [
            (unpadded, "the padding is added on both sides"),
            (rounded, "torch rounds down: the last filter must fit"),
            ([one - 1 for one in wanted], "plus one: the first place counts too"),
            (wanted[-1:], "one entry for each layer"),
        ]
        expect_same(sides, wanted, f"{what}: the sides", hints=hints)
        expect_same(
            rests,
            left,
            f"{what}: the rests",
            hints=[
                ([0] * len(left), "what is left over of the division by the stride is not read"),
                ([one > 0 for one in left], "how many pixels, not whether"),
            ],
        )
    return "on 224 pixels AlexNet's first filter leaves one column unread"


def sides_and_rest(side, layers):
    sides, rests = [], []
    for kernel, stride, padding in layers:
        free = side + 2 * padding - kernel
        side = free // stride + 1
        sides.append(side)
        rests.append(free % stride)
    return sides, rests


def check_grouped(grouped_cost) -> str:
    for case in (
        (96, 256, 5, 2, 27),
        (96, 256, 5, 1, 27),
        (384, 384, 3, 2, 13),
        (32, 32, 3, 32, 7),
    ):
        channels_in, channels_out, kernel, groups, side = case
        what = "{} -> {}, {} x {}, {} groups".format(*case[:3], case[2], groups)
        parameters, work = expect_pair(grouped_cost(*case), "parameters", "multiply_adds")
        weights = channels_in // groups * channels_out * kernel**2
        hints = [
            (weights, "the biases are missing: one for each channel that is put out"),
            (
                channels_in * channels_out * kernel**2 + channels_out,
                "with groups each output channel reads only channels_in / groups",
            ),
            (
                weights // groups + channels_out,
                "divided twice: there are groups of them, each with (in/groups) * (out/groups)",
            ),
            (weights + channels_out // groups, "every output channel has a bias, in each group"),
        ]
        expect_same(parameters, weights + channels_out, f"{what}: parameters", hints=hints)
        hints = [
            (weights, "each weight is used at every place of the output: side * side times"),
            ((weights + channels_out) * side**2, "a bias is added, not multiplied"),
            (weights * side, "the output is square: side * side places"),
        ]
        expect_same(work, weights * side**2, f"{what}: multiply-adds", hints=hints)
    return "two towers halve conv2"


def grouped_cost(channels_in, channels_out, kernel, groups, side):
    weights = channels_in // groups * channels_out * kernel**2
    return weights + channels_out, weights * side**2


def check_ten_crops(ten_crops) -> str:
    for shape, size in (((3, 8, 10), 4), ((1, 6, 6), 6), ((3, 256, 256), 224)):
        count = math.prod(shape)
        picture = torch.arange(count, dtype=torch.float32).reshape(shape)
        got = ten_crops(picture.clone(), size)
        if isinstance(got, list | tuple):
            raise Wrong("return one tensor (10, C, size, size): torch.stack(list)")
        got = torch.as_tensor(got)
        right = _crops(picture, size)
        mirrored = _crops(picture.flip(-1), size)[:5]
        bottom, far = (side - size for side in shape[1:])
        if bottom == far == 0:
            expect_same(got, right, f"a picture of {shape}, windows of {size}")
            continue
        hints = [
            (
                torch.cat([right[:5], mirrored]),
                "mirror the windows, in the order of the first five",
            ),
            (torch.cat([right[:5], right[:5].flip(-2)]), "left to right: the last axis"),
            (torch.cat([right[:5], right[:5]]), "the second five are mirrored"),
            (right[[0, 2, 1, 3, 4, 5, 7, 6, 8, 9]], "top right comes before bottom left"),
            (right[[0, 5, 1, 6, 2, 7, 3, 8, 4, 9]], "first all five, then the five mirrored ones"),
        ]
        shapes = [(tuple(right[:5].shape), "five are there; the mirrored five are missing")]
        expect_same(
            got, right, f"a picture of {shape}, windows of {size}", hints=hints, shapes=shapes
        )
    return "ten windows, as AlexNet's test had them"


def _crops(picture, size):
    height, width = picture.shape[-2:]
    low, far = height - size, width - size
    corners = [(0, 0), (0, far), (low, 0), (low, far), (low // 2, far // 2)]
    five = torch.stack([picture[:, t : t + size, s : s + size] for t, s in corners])
    return torch.cat([five, five.flip(-1)])


def ten_crops(picture, size):
    low, far = picture.shape[1] - size, picture.shape[2] - size
    five = []
    for top, left in ((0, 0), (0, far), (low, 0), (low, far), (low // 2, far // 2)):
        five.append(picture[:, top : top + size, left : left + size])
    five = torch.stack(five)
    return torch.cat([five, five.flip(-1)])


def check_alias(alias) -> str:
    for period, stride in ((20, 4), (8, 4), (5, 4), (3, 2), (3, 4), (16, 2), (7, 4), (2.5, 4)):
        got = float(alias(period, stride))
        frequency = stride / period
        right = stride / abs(frequency - round(frequency))
        slow = frequency % 1
        hints = [
            (
                period,
                "too fast for this stride: f and -f give equal samples, so a slower stripe does",
            ),
            (right / stride, "that counts samples; asked are pixels: times the stride"),
            (stride / slow if slow else math.inf, "f and -f are the same: 0.8 is -0.2 is 0.2"),
        ]
        hints = [(wrong, words) for wrong, words in hints if math.isfinite(wrong)]
        expect_same(got, right, f"period {period}, every {stride} pixels", hints=hints)
    got = alias(2, 4)
    if not np.isinf(got):
        raise Wrong(
            f"period 2, every 4 pixels: all samples are equal, expected math.inf, got {got}"
        )
    return "below two samples a period a stripe looks slower than it is"


def alias(period, stride):
    frequency = stride / period
    frequency = abs(frequency - round(frequency))
    return math.inf if frequency == 0 else stride / frequency


EXERCISES = [
    Exercise(
        "11.1",
        "Parameters of C3",
        (
            "Each entry of a tuple is one kernel of kernel * kernel weights; each tuple has one bias.",
            "The number of input maps is the largest number in sources, plus one.",
        ),
        check_sparse,
        sparse_parameters,
    ),
    Exercise(
        "11.2",
        "Sides and what is left unread",
        (
            "free = side + 2 * padding - kernel; the filter fits free // stride + 1 times.",
            "free % stride pixels are left. The next layer reads the new side.",
        ),
        check_sides,
        sides_and_rest,
    ),
    Exercise(
        "11.3",
        "Groups",
        (
            "Each output channel reads channels_in // groups channels.",
            "Each weight is used once at each of side * side places.",
        ),
        check_grouped,
        grouped_cost,
    ),
    Exercise(
        "11.4",
        "Ten crops",
        (
            "picture[:, top:top + size, left:left + size]; the last corner starts at H - size, W - size.",
            "The middle starts at half of that. five.flip(-1) mirrors all five.",
        ),
        check_ten_crops,
        ten_crops,
    ),
    Exercise(
        "11.5",
        "Aliasing",
        (
            "Samples turn by f = stride / period of a full turn each; whole turns cannot be seen.",
            "abs(f - round(f)) is the slowest f with the same samples; its period is stride / f.",
        ),
        check_alias,
        alias,
    ),
]
