"""Exercises of lesson 04: which filter fires where, unread pixels, sizes, im2col with dilation, receptive fields."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from cnncourse.exercises import Exercise, Wrong, expect_same


def _arrays(seed: int, images: tuple, weight: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return (
        generator.normal(size=images),
        generator.normal(size=weight),
        generator.normal(size=weight[0]),
    )


class _WithoutTorch(TorchDispatchMode):
    """While it is on, a convolution or im2col of torch is refused: the exercise is to write it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(word in func.name() for word in ("conv", "im2col", "unfold")):
            raise Wrong(
                f"this calls torch's {func.name().removeprefix('aten::')}, which is what you are to write: "
                "gather the columns in NumPy, then one matrix product"
            )
        return func(*args, **(kwargs or {}))


def check_conv2d(conv2d) -> str:
    """Compare with torch, one feature at a time, so that the message names the one that is missing."""
    cases = [  # what it tries, images, weight, bias?, options
        (
            "one channel, a filter with a single tap in its corner (not flipped)",
            (1, 1, 4, 4),
            (1, 1, 2, 2),
            False,
            {},
        ),
        ("three channels and two filters", (2, 3, 5, 6), (2, 3, 3, 2), False, {}),
        ("with a bias", (2, 3, 5, 6), (2, 3, 3, 2), True, {}),
        (
            "with stride 2, where the windows do not fit evenly",
            (1, 2, 8, 10),
            (3, 2, 3, 3),
            True,
            {"stride": 2},
        ),
        ("with padding 2", (1, 2, 5, 5), (3, 2, 3, 3), True, {"padding": 2}),
        ("with dilation 2", (1, 2, 9, 8), (3, 2, 3, 3), True, {"dilation": 2}),
        (
            "with stride 2, padding 1 and dilation 2",
            (2, 2, 9, 9),
            (3, 2, 3, 3),
            True,
            {"stride": 2, "padding": 1, "dilation": 2},
        ),
    ]
    for seed, (what, image_shape, weight_shape, with_bias, options) in enumerate(cases):
        images, weight, bias = _arrays(seed, image_shape, weight_shape)
        if "corner" in what:
            weight = np.array([[[[1.0, 0], [0, 0]]]])
        bias = bias if with_bias else None
        tensors = [
            None if array is None else torch.tensor(array) for array in (images, weight, bias)
        ]
        expected = F.conv2d(*tensors, **options)
        with _WithoutTorch():
            answer = conv2d(images, weight, bias, **options)
        expect_same(answer, expected.numpy(), what)
    return f"all {len(cases)} cases agree with torch, dilation included."


def solve_conv2d(images, weight, bias=None, stride=1, padding=0, dilation=1):
    n, c, height, width = images.shape
    k, _, high, wide = weight.shape  # of the filters
    padded = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    rows = (height + 2 * padding - dilation * (high - 1) - 1) // stride + 1
    places = (width + 2 * padding - dilation * (wide - 1) - 1) // stride + 1
    columns = np.empty((n, c, high, wide, rows, places))
    for i, j in np.ndindex(high, wide):  # the pixels under tap (i, j) of all windows at once
        top, left = i * dilation, j * dilation
        columns[:, :, i, j] = padded[
            :,
            :,
            top : top + stride * (rows - 1) + 1 : stride,
            left : left + stride * (places - 1) + 1 : stride,
        ]
    output = weight.reshape(k, -1) @ columns.reshape(n, c * high * wide, rows * places)
    if bias is not None:
        output = output + bias[:, None]
    return output.reshape(n, k, rows, places)


def check_unread(unread_pixels) -> str:
    """Compare with the gradients of a real layer: a pixel that no window reads has none."""
    asked = [  # size, kernel_size, stride, padding, dilation
        (7, 3, 3, 0, 1),
        (7, 3, 2, 0, 1),
        (7, 3, 1, 1, 1),
        (5, 1, 3, 0, 1),
        (8, 3, 4, 1, 1),
        (7, 3, 1, 0, 3),
        (7, 3, 2, 1, 2),
        (9, 2, 3, 2, 3),
    ]
    for size, kernel_size, stride, padding, dilation in asked:
        picture = torch.ones(1, 1, size, size, requires_grad=True)
        ones = torch.ones(1, 1, kernel_size, kernel_size)
        F.conv2d(picture, ones, None, stride, padding, dilation).sum().backward()
        expected = int((picture.grad == 0).sum())
        answer = unread_pixels(size, kernel_size, stride, padding, dilation)
        if answer != expected:
            raise Wrong(
                f"size {size}, kernel {kernel_size}, stride {stride}, padding {padding}, dilation {dilation}: "
                f"expected {expected} unread pixels, got {answer}{_usual_reason(answer, expected, size)}"
            )
    return "13 and 40, and six other settings, agree with the gradients of torch."


def _usual_reason(answer: object, expected: int, size: int) -> str:
    if answer == size**2 - expected:
        return ". These are the pixels that are read; count the others"
    rows = size - round((size**2 - expected) ** 0.5)
    if rows and answer == rows**2:
        return f". Unread rows: {rows}, unread columns: {rows}; a pixel is lost if its row or its column is"
    return ". Which rows does a window touch that starts at row 0, at row stride, ...?"


def solve_unread(size, kernel_size, stride=1, padding=0, dilation=1):
    span = dilation * (kernel_size - 1) + 1
    starts = range(-padding, size + padding - span + 1, stride)  # rows; 0 is the picture's first
    touched = {start + dilation * tap for start in starts for tap in range(kernel_size)}
    rows_read = len(touched & set(range(size)))  # the padding does not count
    return size**2 - rows_read**2


def check_layer(layer) -> str:
    """Ask for sizes that are read off a real layer, and say which of the three numbers is off."""
    asked = [
        (32, 3, 10, 5, 1, 2),
        (32, 3, 6, 5, 1, 0),
        (28, 6, 10, 5, 1, 0),
        (7, 1, 1, 3, 3, 0),
        (224, 3, 64, 7, 2, 3),
    ]
    for size, channels, filters, kernel_size, stride, padding in asked:
        real = nn.Conv2d(channels, filters, kernel_size, stride, padding, device="meta")
        side = real(torch.empty(1, channels, size, size, device="meta")).shape[-1]
        expected = (side, sum(p.numel() for p in real.parameters()), side**2 * real.weight.numel())
        answer = layer(size, channels, filters, kernel_size, stride, padding)
        answer = tuple(answer) if isinstance(answer, Iterable) else (answer,)
        names = ("output side", "number of parameters", "number of multiplications")
        if len(answer) != 3:
            raise Wrong(f"return three numbers ({', '.join(names)}), got {len(answer)}")
        for name, got, right in zip(names, answer, expected, strict=True):
            if got != right or not isinstance(got, Integral):  # also NumPy's
                fewer = filters - 1
                hint = ". Use // instead of /" if got == right else ""  # 32.0
                if got != right and name == names[2]:
                    hint = ". Each weight is used once at each of the side² places"
                elif fewer and got == right - fewer:
                    hint = f". {fewer} fewer: has every filter its own bias?"
                raise Wrong(
                    f"the {name} of {filters} filters {kernel_size}×{kernel_size}, stride {stride}, padding "
                    f"{padding}, on {size}×{size}×{channels}: expected the whole number {right}, got {got}"
                    + hint
                )
    return "760 and the other four layers agree with torch, also where the stride does not fit."


def solve_layer(size, channels, filters, kernel_size, stride=1, padding=0):
    side = (size + 2 * padding - kernel_size) // stride + 1
    weights = filters * kernel_size**2 * channels
    return side, weights + filters, side**2 * weights


def vgg16_features() -> nn.Sequential:
    """The convolutions and poolings of VGG-16, with one channel: only kernels and strides count here."""
    layers: list[nn.Module] = []
    for convolutions in (2, 2, 3, 3, 3):
        for _ in range(convolutions):
            layers += [nn.Conv2d(1, 1, 3, padding=1), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def check_receptive_field(receptive_field) -> str:
    """Ask for networks of growing difficulty; the last is VGG-16."""
    conv = lambda kernel, **options: nn.Conv2d(1, 1, kernel, **options)  # noqa: E731 - five short names in a table
    asked = [
        ("two 3×3 layers", nn.Sequential(conv(3), nn.ReLU(), conv(3)), 5),
        (
            "a 3×3 layer at stride 2 and another 3×3 (the stride widens what comes after it, not itself)",
            nn.Sequential(conv(3, stride=2), conv(3)),
            7,
        ),
        (
            "3×3, pooling 2×2, 3×3 (pooling sees and strides too; its stride is its window by default)",
            nn.Sequential(conv(3), nn.MaxPool2d(2), conv(3)),
            8,
        ),
        (
            "3×3 with average pooling 3×3 at stride 2",
            nn.Sequential(conv(3), nn.AvgPool2d(3, 2), conv(3)),
            9,
        ),
        (
            "a 3×3 layer with dilation 2, then one with dilation 4",
            nn.Sequential(conv(3, dilation=2), conv(3, dilation=4)),
            13,
        ),
        (
            "padding, which changes nothing",
            nn.Sequential(conv(3, padding=1), conv(3, padding=1)),
            5,
        ),
        ("VGG-16 up to its last pooling", vgg16_features(), 212),
    ]
    for what, network, expected in asked:
        answer = receptive_field(network)
        if answer != expected:
            raise Wrong(f"{what}: expected {expected}, got {answer}")
    return "212 for VGG-16, and the small networks too."


def solve_receptive_field(network):
    field, jump = 1, 1
    for module in network:
        if not hasattr(module, "kernel_size"):
            continue  # ReLU and friends look at one pixel
        kernel, stride, dilation = (
            value[0] if isinstance(value, tuple) else value
            for value in (module.kernel_size, module.stride, getattr(module, "dilation", 1))
        )
        field += dilation * (kernel - 1) * jump
        jump *= stride
    return field


CORNERS = (
    (2, 3),
    (4, 26),
    (3, 52),
    (24, 8),
    (26, 44),
    (49, 3),
    (46, 30),
    (52, 52),
)  # where the patterns are hidden


def puzzle() -> tuple[np.ndarray, np.ndarray]:
    """A picture (1, 1, 64, 64) and eight filters (8, 1, 7, 7): each pattern is hidden once, two on a brighter
    ground, beside bright paper."""
    y, x = np.mgrid[-3:4, -3:4]
    strokes = [
        x == 0,
        y == 0,
        x == y,
        x == -y,  # lines
        (x == 0) & (y <= 0) | (y == 0) & (x >= 0),
        (x == 0) & (y >= 0) | (y == 0) & (x <= 0),  # corners
        (y == -3) | (x == 0),
        abs(np.hypot(x, y) - 3) < 0.6,
    ]  # a T and a ring
    filters = np.stack(strokes).astype(float)[:, None]
    image = np.zeros((1, 1, 64, 64))
    strengths, grounds = (50, 20, 45, 30, 25, 40, 35, 50), (0, 20, 0, 0, 0, 20, 0, 0)
    for strength, ground, (row, column), stroke in zip(
        strengths, grounds, CORNERS, strokes, strict=True
    ):
        top, left = max(row - 3, 0), max(column - 3, 0)
        image[0, 0, top : row + 10, left : column + 10] = ground
        image[0, 0, row : row + 7, column : column + 7] += strength * stroke
    image[0, 0, 20:33, 22:36] = image[0, 0, 40:43, 50:62] = 70  # paper
    return image, filters


def check_which_fires(which_fires_where) -> str:
    """Compare with the places where the patterns were hidden, and name the usual reasons for missing them."""
    image, filters = puzzle()
    answer = np.asarray(which_fires_where(image, filters))
    expected = np.array(CORNERS)
    if answer.shape != expected.shape:
        raise Wrong(
            f"expected an array of shape (8, 2), row and column for each filter, got {answer.shape}"
        )
    if np.array_equal(answer, expected):
        return "each filter fires where its pattern is, and none on the paper."
    missed = [int(number) for number in np.flatnonzero((answer != expected).any(1))]
    if np.array_equal(answer, expected[:, ::-1]):
        raise Wrong("these are (column, row); return row first")
    if np.array_equal(answer, expected + 3):
        raise Wrong("these are the middles of the windows; return their top left corners, 3 less")
    place, first = CORNERS[missed[0]], tuple(map(int, answer[missed[0]]))
    raise Wrong(
        f"filters {missed} do not fire where their patterns are: the first of them should fire at "
        f"{place}, got {first}. {_what_is_there(image[0, 0], place, *first)}"
    )


def _what_is_there(image: np.ndarray, place: tuple, row: int, column: int) -> str:
    """The usual reason for choosing this window instead of the one at `place`."""
    window = image[max(row, 0) : row + 7, max(column, 0) : column + 7]
    if window.shape != (7, 7):
        return "No window of 7×7 begins there"
    if np.ptp(window) == 0 and window[0, 0] == 0:
        return (
            "That window is dark throughout: its length is 0; did you divide by it? Its answer is 0"
        )
    if window.max() == image.max():
        return (
            "That window touches the bright paper or its edge: subtract the filter's mean, and, since at an edge "
            "that is not enough, divide by the length of the window"
        )
    if image[place[0] : place[0] + 7, place[1] : place[1] + 7].min() > 0:
        return (
            "The pattern stands on a brighter ground, which makes its window long: subtract the window's own "
            "mean before you divide by its length"
        )
    return (
        "A brighter rival that shares some pixels beats the faint pattern there: divide by the length of the "
        "window, so that only the shape counts"
    )


def solve_which_fires(image, filters):
    zero_mean = filters - filters.mean((1, 2, 3), keepdims=True)  # paper leaves it cold
    windows = np.lib.stride_tricks.sliding_window_view(image[0, 0], (7, 7))  # (58, 58, 7, 7)
    centred = windows - windows.mean((2, 3), keepdims=True)
    length = np.sqrt((centred**2).sum((2, 3)))
    answers = np.einsum("ijrs,krs->kij", centred, zero_mean[:, 0])
    answers = answers / np.maximum(length, 1e-9)  # a faint match counts as much as a bright one
    best = answers.reshape(len(filters), -1).argmax(1)
    return np.stack(np.unravel_index(best, answers.shape[1:]), axis=1)


EXERCISES = [
    Exercise(
        "04.1",
        "Which of eight filters fires where",
        (
            "Slide the filters as they are and look at where the largest answers lie: on the paper. "
            "Section 1 says why.",
            "With zero-mean filters the paper is silent inside, but a bright edge may still beat a faint pattern, "
            "because the answer grows with the contrast.",
            "Divide each answer by the length of its window (after subtracting the window's mean): "
            "then only the shape counts. A window of equal pixels has length 0: give it the answer 0.",
        ),
        check_which_fires,
        solve_which_fires,
    ),
    Exercise(
        "04.2",
        "Pixels that no window reads",
        (
            "Rows and columns behave alike: find out how many rows are read, and square.",
            "A window that starts at row s touches the rows s, s + dilation, s + 2 * dilation, ...; with padding the "
            "first one starts at row -padding of the picture.",
        ),
        check_unread,
        solve_unread,
    ),
    Exercise(
        "04.3",
        "Size, parameters and multiplications of a layer",
        (
            "The side is floor((H + 2P - F) / S) + 1; in Python // rounds down.",
            "One filter has F * F * C weights and one bias. "
            "Each weight (not the bias) multiplies once at every place of the map.",
        ),
        check_layer,
        solve_layer,
    ),
    Exercise(
        "04.4",
        "Convolution with dilation",
        (
            "Start from im2col of the lesson: which slice of the padded image lies under tap (i, j) of all windows? "
            "With dilation it starts at row i * dilation.",
            "The slice is padded[:, :, top : top + stride * (rows - 1) + 1 : stride, ...]; gather them into an array "
            "(N, C, high, wide, rows, places), where high and wide are the sides of the filter, and reshape it to "
            "(N, C * high * wide, rows * places).",
            "The weights become (K, C * high * wide) by one reshape: channels first, then rows, then columns. "
            "Do not flip them. Add bias[:, None].",
        ),
        check_conv2d,
        solve_conv2d,
    ),
    Exercise(
        "04.5",
        "Receptive field of a real network",
        (
            "Go from the first layer to the last with two numbers, field = 1 and jump = 1.",
            "Layers that have a kernel_size widen the field by dilation * (kernel_size - 1) * jump, "
            "and then multiply the jump by their stride. torch keeps these as numbers or as pairs.",
        ),
        check_receptive_field,
        solve_receptive_field,
    ),
]
