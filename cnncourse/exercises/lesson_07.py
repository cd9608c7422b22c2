"""Exercises of lesson 07: BatchNorm forward, a step and the way back, folding, means, LRN."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from cnncourse.exercises import Exercise, Wrong, expect_pair, expect_same


def _stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _draw(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _several(answer, what: str) -> tuple:
    count = what.count(",") + 1
    if not (isinstance(answer, tuple | list) and len(answer) == count):
        raise Wrong(f"expected {count} answers ({what}), got {type(answer).__name__}")
    return tuple(answer)


def check_undo(undo) -> str:
    g = _stream(0)
    for size, units, eps in ((8, 3, 1e-5), (5, 4, 0.1)):
        x = 3 * _draw(g, size, units) + _draw(g, units)
        gamma, beta = expect_pair(undo(x.clone(), eps), "gamma", "beta")
        gamma, beta = torch.as_tensor(gamma), torch.as_tensor(beta)
        for name, value in (("gamma", gamma), ("beta", beta)):
            expect_shape(value, (units,), name)
        if torch.allclose(beta, (x.var(0, unbiased=False) + eps).sqrt()) and torch.allclose(
            gamma, x.mean(0)
        ):
            raise Wrong("the right two in the wrong order: first gamma, the factor, then beta")
        variance = x.var(0, unbiased=False)
        if torch.allclose(gamma, (x.var(0) + eps).sqrt()):
            raise Wrong(
                "gamma: BatchNorm divides by the root of the sum divided by N, not by N - 1: unbiased=False"
            )
        if torch.allclose(gamma, variance.sqrt(), rtol=1e-9):
            raise Wrong(
                "gamma: BatchNorm divides by sqrt(variance + eps), so gamma must have the eps too"
            )
        if torch.allclose(gamma, variance + eps):
            raise Wrong("gamma: that is the variance; BatchNorm divides by its square root")
        got = F.batch_norm(x, None, None, gamma.double(), beta.double(), training=True, eps=eps)
        expect_same(got, x, "what BatchNorm gives back")
    return "scale by the deviation, shift by the mean: BatchNorm takes nothing away that it cannot give back"


def expect_shape(value: torch.Tensor, shape: tuple, what: str) -> None:
    if tuple(value.shape) != shape:
        raise Wrong(f"{what}: expected shape {shape}, got {tuple(value.shape)}")


def undo(x, eps):
    return torch.sqrt(x.var(0, unbiased=False) + eps), x.mean(0)


def check_after_step(after_step, reaches_a) -> str:
    for length, gradient, rate in ((1.4, 0.5, 1.0), (0.02, 30.0, 0.1), (3.0, 3.0, 1.0)):
        step = rate * gradient
        what = f"after_step({length}, {gradient}, {rate})"
        long, turned = expect_pair(after_step(length, gradient, rate), "new length", "degrees")
        new, angle = math.hypot(length, step), math.atan2(step, length)
        if math.isclose(turned, new) and math.isclose(long, math.degrees(angle)):
            raise Wrong(f"{what}: first the new length, then the degrees")
        lengths = [
            (length + step, "weights and step are not in line: the gradient is at a right angle"),
            (math.hypot(length, gradient), "the step is the learning rate times the gradient"),
            (new**2, "that is the square of the length"),
            (length - step, "weights and step are not in line: the gradient is at a right angle"),
            (math.hypot(length, gradient * rate**2), "the learning rate counts once"),
        ]
        expect_same(long, new, f"{what}, the new length", lengths)
        angles = [
            (angle, "these are radians; a right angle has 90 degrees"),
            (90 - math.degrees(angle), "that is the angle at the step; asked is the one at the old"
             " weights, whose tangent is step / length"),
            (math.degrees(math.atan2(gradient, length)), "the step is the rate times the gradient"),
            (math.degrees(step / length), "step / length is the tangent of the angle"),
        ]  # fmt: skip
        expect_same(turned, math.degrees(angle), f"{what}, the angle", angles)
    for a, b, g_a, g_b, eps in ((1.5, -0.5, 0.7, -0.4, 0.1), (2.0, 5.0, 1.0, 3.0, 0.3)):
        what = f"reaches_a({a}, {b}, {g_a}, {g_b}, {eps})"
        s = math.sqrt((a - b) ** 2 / 4 + eps)
        right = through_two(a, b, g_a, g_b, eps)
        ways = [
            (0.0, "so it is without eps; with it a little comes through"),
            (g_a / s, "straight on only: the ways through the mean and the deviation are missing"),
            ((g_a - g_b) / 2 / s, "the way through the deviation is missing"),
            (through_two(b, a, g_b, g_a, eps), "that is the gradient at b"),
            (right * s, "each way is divided by s"),
        ]
        expect_same(reaches_a(a, b, g_a, g_b, eps), right, what, ways)
    return (
        "by Pythagoras the weights only grow, and a step longer than they are turns them by 45 degrees and more; "
        "of two pictures eps * (g_a - g_b) / (2 * s**3) comes through, nothing without eps"
    )


def through_two(a, b, g_a, g_b, eps):
    s = math.sqrt((a - b) ** 2 / 4 + eps)  # the deviation of two numbers is half their distance
    normal = (a - b) / 2 / s  # that of b is the opposite
    return ((g_a - g_b) / 2 - normal * normal * (g_a - g_b) / 2) / s


def solve_after_step():
    return after_step, through_two


def after_step(length, gradient, rate):
    step = rate * gradient  # at a right angle to the weights
    return math.hypot(length, step), math.degrees(math.atan2(step, length))


def check_folded(folded) -> str:
    g = _stream(2)
    for outputs, inputs, eps in ((4, 4, 0.01), (3, 5, 1e-5)):  # the square one lets columns pass
        weight, bias = _draw(g, outputs, inputs), _draw(g, outputs)
        gamma, beta, mean = (_draw(g, outputs) for _ in range(3))
        var = _draw(g, outputs).square() + 0.1
        x = _draw(g, 7, inputs)
        expected = F.batch_norm(F.linear(x, weight, bias), mean, var, gamma, beta, eps=eps)
        arguments = [tensor.clone() for tensor in (weight, bias, gamma, beta, mean, var)]
        new_weight, new_bias = expect_pair(folded(*arguments, eps), "weight", "bias")
        expect_shape(torch.as_tensor(new_weight), (outputs, inputs), "the weight")
        without = F.linear(x, new_weight) - expected
        scale = gamma / torch.sqrt(var + eps)
        if (without - without[0]).abs().max() < 1e-9:
            if torch.allclose(torch.as_tensor(new_bias), beta - mean * scale):
                raise Wrong("the weight is right; the old bias is lost: BatchNorm scales it too")
            if torch.allclose(torch.as_tensor(new_bias), bias + beta - mean * scale):
                raise Wrong("the weight is right; the old bias must be scaled as the weight is")
        elif torch.allclose(
            torch.as_tensor(new_weight), weight * (gamma / var.sqrt())[:, None], rtol=1e-9
        ):
            raise Wrong("the weight: divide by sqrt(var + eps), eps included")
        elif outputs == inputs and torch.allclose(torch.as_tensor(new_weight), weight * scale):
            raise Wrong("the weight: one factor a row (an output), not a column: scale[:, None]")
        expect_same(F.linear(x, new_weight, new_bias), expected, "the outputs")
    return "a scale for each row and a new bias: at test time BatchNorm costs nothing"


def folded(weight, bias, gamma, beta, mean, var, eps):
    scale = gamma / torch.sqrt(var + eps)  # (O,)
    return weight * scale[:, None], (bias - mean) * scale + beta


def check_numbers_behind_a_mean(numbers_behind_a_mean, not_there) -> str:
    for shape, groups in (((32, 8, 6, 5), 2), ((2, 12, 1, 1), 3), ((2, 64, 14, 14), 32)):
        what = f"numbers_behind_a_mean({shape}, {groups})"
        answer = _several(numbers_behind_a_mean(shape, groups), "BatchNorm, LayerNorm, GroupNorm")
        n, c, h, w = shape
        batch, layer, group = answer
        for_batch = [
            (n, "a map has one mean for all its places, too: times H * W"),
            (h * w, "the mean runs over all pictures of the batch as well"),
            (n * c * h * w, "each map has a mean of its own: without C"),
        ]
        expect_same(batch, n * h * w, f"{what}, BatchNorm", for_batch)
        for_layer = [
            (n * c * h * w, "one picture only: without N"),
            (h * w, "over all maps of the picture"),
            (c, "over the places as well"),
        ]
        expect_same(layer, c * h * w, f"{what}, LayerNorm", for_layer)
        for_group = [
            (groups * h * w, "a group has C / groups maps"),
            (n * c // groups * h * w, "one picture only: without N"),
            (c // groups, "over the places as well"),
        ]
        expect_same(group, c // groups * h * w, f"{what}, GroupNorm", for_group)
    kinds = ("BatchNorm", "LayerNorm", "GroupNorm")
    if not_there not in kinds:
        raise Wrong(f"not_there: expected one of {', '.join(kinds)}, got {not_there!r}")
    if not_there != "BatchNorm":
        counts = dict(zip(kinds, numbers_behind_a_mean((2, 64, 1, 1), 8), strict=True))
        raise Wrong(
            f"not_there: behind each mean of {not_there} stand {counts[not_there]} numbers; one of "
            "the three has but two, of which it leaves only +1 and -1"
        )
    return (
        "with two pictures and one place BatchNorm has two numbers; the other two do not look at N"
    )


def solve_numbers_behind_a_mean():
    return numbers_behind_a_mean, "BatchNorm"  # 2 numbers, against 64 and 8


def numbers_behind_a_mean(shape, groups):
    n, c, h, w = shape
    return n * h * w, c * h * w, c // groups * h * w


def check_torch_arguments(torch_arguments) -> str:
    a = 50 * torch.rand(2, 11, 3, 3, generator=_stream(4), dtype=torch.float64)
    for n, k, alpha, beta in ((5, 2.0, 1e-4, 0.75), (3, 1.0, 1e-3, 0.5), (7, 0.5, 0.01, 1.0)):
        what = f"torch_arguments({n}, {k}, {alpha}, {beta})"
        answer = _several(torch_arguments(n, k, alpha, beta), "size, alpha, beta, k")
        size, torchs_alpha, torchs_beta, torchs_k = answer
        if (size, torchs_beta, torchs_k) != (n, beta, k):
            if (size, torchs_alpha, torchs_k) == (n, k, beta):
                raise Wrong(f"{what}: mind the order, torch's is (size, alpha, beta, k)")
            raise Wrong(
                f"{what}: size, beta and k are the same in both formulas: expected {(n, beta, k)}, "
                f"got {(size, torchs_beta, torchs_k)}"
            )
        if torchs_alpha == alpha:
            raise Wrong(
                f"{what}: torch takes the mean of the n squares, AlexNet the sum; alpha must make up for it"
            )
        if math.isclose(torchs_alpha, alpha / n):
            raise Wrong(
                f"{what}: the other way round: torch divides by n already, so its alpha must be larger"
            )
        got = F.local_response_norm(a, size, torchs_alpha, torchs_beta, torchs_k)
        square = F.pad(a**2, (0, 0, 0, 0, n // 2, n // 2))
        total = sum(square[:, j : j + a.shape[1]] for j in range(n))
        expect_same(got, a / (k + alpha * total) ** beta, f"LRN for n = {n}, alpha = {alpha}")
    return "alpha times n: AlexNet's 1e-4 over 5 channels is torch's 5e-4"


def torch_arguments(n, k, alpha, beta):
    return n, n * alpha, beta, k  # torch divides alpha by the size


def check_group_norm(group_norm) -> str:
    g = _stream(5)
    for shape, groups in (((3, 6, 4, 4), 3), ((2, 4, 3, 5), 1), ((2, 4, 3, 3), 4)):
        x = 2 * _draw(g, *shape) + torch.arange(shape[1])[:, None, None]
        gamma, beta, eps = _draw(g, shape[1]), _draw(g, shape[1]), 1e-2
        answer = torch.as_tensor(group_norm(x.clone(), groups, gamma.clone(), beta.clone(), eps))
        expect_shape(answer, shape, "the output")
        plain = (answer - beta[:, None, None]) / gamma[:, None, None]
        over_batch = (
            x.view(shape[0], groups, -1).transpose(0, 1).reshape(groups, -1).mean(1)
        )  # of all pictures
        each = x.view(shape[0], groups, -1)
        centred = each - over_batch[:, None]
        scale = centred.square().mean((0, 2), keepdim=True)
        if torch.allclose(plain.view_as(each), centred / torch.sqrt(scale + eps)):
            raise Wrong("mean and deviation are those of one picture: leave the batch out of them")
        unbiased = (each - each.mean(2, keepdim=True)) / torch.sqrt(each.var(2, keepdim=True) + eps)
        if torch.allclose(plain.view_as(each), unbiased):
            raise Wrong(
                "the variance is the sum divided by the count, not count - 1: unbiased=False"
            )
        parts = [
            (F.group_norm(x, groups, eps=eps), "gamma and beta are missing"),
            (F.group_norm(x, groups, gamma, eps=eps), "beta is missing"),
            (F.group_norm(x, groups, None, beta, eps), "gamma is missing"),
        ]
        right = F.group_norm(x, groups, gamma, beta, eps)
        expect_same(answer, right, f"{groups} groups of {shape[1]} channels", parts)
    return "one group is LayerNorm over channels and places; a group a channel is InstanceNorm"


def group_norm(x, groups, gamma, beta, eps):
    parts = x.reshape(len(x), groups, -1)  # (N, groups, channels of a group * H * W)
    mean = parts.mean(2, keepdim=True)
    variance = parts.var(2, unbiased=False, keepdim=True)
    normal = ((parts - mean) / torch.sqrt(variance + eps)).reshape(x.shape)
    return gamma[:, None, None] * normal + beta[:, None, None]


EXERCISES = [
    Exercise(
        "07.1",
        "BatchNorm undone",
        (
            "The layer gives gamma * (x - mean) / sqrt(variance + eps) + beta. When is that x?",
            "beta must be the mean, and gamma what the layer divides by: eps included.",
        ),
        check_undo,
        undo,
    ),
    Exercise(
        "07.2",
        "A step in front of BatchNorm, and the way back through two pictures",
        (
            "The gradient is at a right angle to the weights: draw the old weights, the step and the new weights.",
            "By Pythagoras the new length is math.hypot(length, rate * gradient).",
            "The tangent of the angle at the old weights is step / length: math.atan2, then math.degrees.",
            "Backward: the deviation of two numbers is half their distance, and their normalised values are opposite.",
            "Put m = 2 into the formula of this section: g minus its mean is (g_a - g_b) / 2 at a.",
        ),
        check_after_step,
        solve_after_step,
        returns_answer=True,
    ),
    Exercise(
        "07.3",
        "BatchNorm folded away",
        (
            "In evaluation mode the layer is scale * (z - mean) + beta with scale = gamma / sqrt(var + eps).",
            "Put z = weight @ x + bias into it and collect what stands before x.",
            "Each row of the weight has its scale; the bias becomes (bias - mean) * scale + beta.",
        ),
        check_folded,
        folded,
    ),
    Exercise(
        "07.4",
        "Numbers behind a mean",
        (
            "Look at the table at the head of the section: over which axes does each mean run?",
            "BatchNorm: N, H and W. LayerNorm: C, H and W.",
            "GroupNorm: as LayerNorm, but C / groups maps.",
            "For not_there ask your function for (2, 64, 1, 1) and 8 groups: which has the fewest?",
        ),
        check_numbers_behind_a_mean,
        solve_numbers_behind_a_mean,
        returns_answer=True,
    ),
    Exercise(
        "07.5",
        "AlexNet's LRN by torch",
        (
            "torch divides alpha by size.",
            "Which alpha, divided by n, is AlexNet's?",
        ),
        check_torch_arguments,
        torch_arguments,
    ),
    Exercise(
        "07.6",
        "GroupNorm",
        (
            "x.reshape(N, groups, -1) puts a group's channels and all its places into one axis.",
            "Mean and variance (unbiased=False) over that axis, keepdim=True; then back to the shape of x.",
            "gamma and beta belong to channels: gamma[:, None, None].",
        ),
        check_group_norm,
        group_norm,
    ),
]
