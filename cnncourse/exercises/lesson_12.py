"""Exercises of lesson 12: merged kernels, a column's parameters, a batch that fits, weak starts, crops."""

from __future__ import annotations

import math

import numpy as np

from cnncourse.exercises import Exercise, expect_pair, expect_same


def merged(first, second):
    size_m, size_c, k, _ = first.shape
    size_k, _, j, _ = second.shape
    whole = np.zeros((size_k, size_c, k + j - 1, k + j - 1))
    for row in range(j):
        for column in range(j):  # one weight of the second moves the first kernel
            whole[:, :, row : row + k, column : column + k] += np.einsum(
                "km,mcij->kcij", second[:, :, row, column], first
            )
    return whole


def check_merged(answer) -> str:
    stream = np.random.default_rng(0)
    for channels_in, between, channels_out, k, j in (
        (1, 1, 1, 3, 3),
        (2, 3, 4, 3, 3),
        (2, 2, 1, 5, 2),
    ):
        first = stream.normal(size=(between, channels_in, k, k))
        second = stream.normal(size=(channels_out, between, j, j))
        right = merged(first, second)
        turned = merged(first[:, :, ::-1, ::-1], second)
        expect_same(
            answer(first.copy(), second.copy()),
            right,
            f"{channels_in} to {between} to {channels_out} channels, kernels {k} and {j}",
            hints=[
                (right[:, :, ::-1, ::-1], "it is turned by half a circle: torch's convolution does not flip"),
                (turned, "the first kernel is turned by half a circle: nothing is flipped here"),
                (right / between, "sum over the channels between, without a mean"),
            ],
            shapes=[
                (
                    (channels_out, channels_in, k + j + 1, k + j + 1),
                    "two kernels share a pixel: the side is k + j - 1",
                ),
                (
                    (channels_in, channels_out, k + j - 1, k + j - 1),
                    "channels out come first",
                ),
            ],
        )  # fmt: skip
    return "without a ReLU between, two layers are one"


def count(words, channels, side):
    total = 0
    for word in words:
        if word == "pool":
            side //= 2
        elif word.startswith("conv"):
            kernel, out = map(int, word[4:].split("-"))
            total += kernel**2 * channels * out + out
            channels = out
        else:
            out = int(word[3:])
            total += channels * side**2 * out + out
            channels, side = out, 1
    return total


def _counted(words, channels, side, *, biases=True, pools=True, flatten=True, square=True) -> int:
    """What `count` gives with one of its steps left out."""
    total = 0
    for word in words:
        if word == "pool":
            side //= 2 if pools else 1
            continue
        convolution = word.startswith("conv")
        kernel, out = (map(int, word[4:].split("-"))) if convolution else (side, int(word[3:]))
        if not convolution and not flatten:
            kernel = 1
        total += (kernel**2 if square else kernel) * channels * out + (out if biases else 0)
        channels = out
        if not convolution:
            side = 1
    return total


def check_count(answer) -> str:
    cases = (
        (["conv3-64", "pool", "conv1-128", "fc-10"], 3, 8),
        (["conv3-4", "conv3-4", "pool", "pool", "fc-7", "fc-5"], 1, 15),
        (["conv3-64", "pool", "conv3-128", "pool", "conv3-256", "conv3-256", "pool", "conv3-512",
          "conv3-512", "pool", "conv3-512", "conv3-512", "pool", "fc-4096", "fc-4096", "fc-1000"], 3, 224),
    )  # fmt: skip
    for words, channels, side in cases:
        hints = [
            (_counted(words, channels, side, biases=False), "the biases are missing, one an output"),
            (_counted(words, channels, side, pools=False), "a pooling halves the side that fc reads"),
            (_counted(words, channels, side, flatten=False), "the first fc reads channels × side × side numbers"),
            (_counted(words, channels, side, square=False), "a kernel has side × side weights"),
        ]  # fmt: skip
        shown = ", ".join(words[:4]) + (" ..." if len(words) > 4 else "")
        expect_same(answer(list(words), channels, side), count(words, channels, side),
                    f"[{shown}], {channels} channels, side {side}", hints=hints)  # fmt: skip
    return "column A has 132,863,336"


def largest_batch(parameters, outputs, memory):
    return max(0, (memory - 12 * parameters) // (4 * outputs))


def check_largest_batch(answer) -> str:
    for parameters, outputs, memory in (
        (138_357_544, 15_237_608, 8_000_000_000),
        (1000, 500, 52_000),
        (1000, 500, 13_999),
        (1000, 500, 11_000),
        (11_689_512, 2_000_000, 1_000_000_000),
    ):
        hints = [
            ((memory - 4 * parameters) // (4 * outputs), "a parameter takes three numbers: itself, gradient, velocity"),
            ((memory - 3 * parameters) // outputs, "a number has four bytes"),
            (memory // (4 * outputs), "parameters need memory too"),
            (memory // (12 * parameters + 4 * outputs), "parameters are kept once, not for each picture"),
            ((memory - 12 * parameters) / (4 * outputs), "a whole number of pictures: round down"),
            ((memory - 12 * parameters) // (4 * outputs), "less than no picture is 0 pictures"),
            (-(-(memory - 12 * parameters) // (4 * outputs)), "round down: the last one does not fit"),
        ]  # fmt: skip
        expect_same(
            answer(parameters, outputs, memory),
            largest_batch(parameters, outputs, memory),
            f"{parameters:,} parameters, {outputs:,} outputs, {memory:,} bytes",
            hints=hints,
        )
    return "VGG-16 trains with about a hundred pictures of 224 pixels in 8 GB, by this count"


def layers_until(gain, least):
    layers = 0
    while gain ** (2 * (layers + 1)) >= least:
        layers += 1
    return layers


def check_layers_until(answer) -> str:
    for gain, least in (
        (0.5, 1 / 16),
        (0.5, 0.01),
        (0.9, 0.001),
        (1 / math.sqrt(2), 0.3),
        (0.2, 0.5),
    ):
        exact = math.log(least) / math.log(gain)
        hints = [
            (math.floor(exact + 1e-9), "the mean square changes by g squared, not by g"),
            (math.floor(exact / 2 + 1e-9) + 1, "one too many: behind it the share is below `least`"),
            (exact / 2, "a whole number of layers: round down"),
        ]  # fmt: skip
        expect_same(
            answer(gain, least), layers_until(gain, least), f"g = {gain:.3g}, least = {least:.3g}", hints=hints
        )  # fmt: skip
    return "with half of He's weights 1/256 of the mean square is left behind four layers"


def crop_places(height, width, shortest, size):
    factor = shortest / min(height, width)
    high, wide = round(height * factor), round(width * factor)
    return (high - size + 1) * (wide - size + 1), size**2 / (high * wide)


def check_crop_places(answer) -> str:
    for height, width, shortest, size in (
        (500, 375, 256, 224),
        (300, 451, 512, 224),
        (64, 64, 64, 64),
    ):
        factor = shortest / min(height, width)
        high, wide = round(height * factor), round(width * factor)
        places, share = crop_places(height, width, shortest, size)
        what = f"{height} × {width}, shorter side {shortest}, cut {size}"
        got, part = expect_pair(answer(height, width, shortest, size), "places", "share")
        other = shortest / max(height, width)
        a, b = round(height * other), round(width * other)
        expect_same(got, places, f"{what}: the places", hints=[
            ((high - size) * (wide - size), "one more each way: 3 pixels have 3 places for 1"),
            ((shortest - size + 1) ** 2, "the shape is kept: only the shorter side becomes `shortest`"),
            ((a - size + 1) * (b - size + 1), "the shorter side becomes `shortest`, not the longer one"),
            ((height - size + 1) * (width - size + 1), "first resize, then cut"),
        ])  # fmt: skip
        expect_same(part, share, f"{what}: the share", hints=[
            (size**2 / (height * width), "a share of the resized picture"),
            (size / shortest, "a share of pixels, not of a side"),
            (100 * share, "a share between 0 and 1, no percentage"),
        ])  # fmt: skip
    return "the larger the scale, the more places and the smaller the share"


EXERCISES = [
    Exercise(
        "12.1",
        "Two layers in one",
        (
            "One weight second[k, m, i, j] adds first[m], moved by (i, j), to kernel k.",
            "Loop over i and j; np.einsum('km,mcij->kcij', second[:, :, i, j], first) sums over what is between.",
        ),
        check_merged,
        merged,
    ),
    Exercise(
        "12.2",
        "Parameters of a column",
        (
            "Walk along the words and keep two numbers: channels, and the side of the maps.",
            "A convolution: kernel² × channels × out + out. The first fc reads channels × side².",
        ),
        check_count,
        count,
    ),
    Exercise(
        "12.3",
        "A batch that fits",
        (
            "Parameters take 3 × 4 bytes each, once; outputs 4 bytes each, for every picture.",
            "(memory - 12 * parameters) // (4 * outputs), but not below 0.",
        ),
        check_largest_batch,
        largest_batch,
    ),
    Exercise(
        "12.4",
        "How weak is too weak?",
        (
            "Behind n layers the share is g to the power of 2n.",
            "Count up while g ** (2 * (n + 1)) >= least.",
        ),
        check_layers_until,
        layers_until,
    ),
    Exercise(
        "12.5",
        "Places of a crop",
        (
            "factor = shortest / min(height, width); both sides times factor, rounded.",
            "Along a side there are side - size + 1 places.",
        ),
        check_crop_places,
        crop_places,
    ),
]
