"""Exercises of lesson 07: BatchNorm undone, its step, folded, LayerNorm backward, LRN by torch, GroupNorm."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from cnncourse.exercises import Exercise, Wrong, expect_same


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
        gamma, beta = _several(undo(x.clone(), eps), "gamma, beta")
        gamma, beta = torch.as_tensor(gamma), torch.as_tensor(beta)
        for name, value in (("gamma", gamma), ("beta", beta)):
            expect_shape(value, (units,), name)
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


def check_same_turn(same_turn) -> str:
    g = _stream(1)
    inputs, target = _draw(g, 12, 4), _draw(g, 12)

    def turned(w: torch.Tensor, rate: float) -> torch.Tensor:
        """The direction of the weights after one step in front of BatchNorm without eps."""
        w = w.clone().requires_grad_()
        z = inputs @ w
        out = (z - z.mean()) / z.std(unbiased=False)
        step = w - rate * torch.autograd.grad((out - target).square().mean(), w)[0]
        return step.detach() / step.detach().norm()

    w = _draw(g, 4)
    for length, rate in ((0.5, 0.1), (2.0, 0.3), (10.0, 5.0)):
        long = w / w.norm() * length
        answer = float(same_turn(rate, length))
        hints = {
            rate: "the same rate turns short weights further: their gradient is longer, and they are shorter",
            rate
            / length: "the gradient is 1/length as long, and what counts is the step against the length: two factors",
            rate
            * length
            ** 2: "the other direction: long weights turn less, so the rate for length 1 is smaller",
        }
        for wrong, hint in hints.items():
            if abs(answer - wrong) < 1e-9 * rate:
                raise Wrong(f"same_turn({rate}, {length}): {hint}")
        expect_same(
            turned(w / w.norm(), answer),
            turned(long, rate),
            f"same_turn({rate}, {length}): the direction after one step",
        )
    return "rate / length²: the weights' length sets the step, and each step makes them longer"


def same_turn(rate, length):
    return rate / length**2  # the gradient is 1/length as long, the weights length times as long


def check_folded(folded) -> str:
    g = _stream(2)
    for outputs, inputs, eps in ((3, 5, 1e-5), (4, 4, 0.01)):
        weight, bias = _draw(g, outputs, inputs), _draw(g, outputs)
        gamma, beta, mean = (_draw(g, outputs) for _ in range(3))
        var = _draw(g, outputs).square() + 0.1
        x = _draw(g, 7, inputs)
        expected = F.batch_norm(F.linear(x, weight, bias), mean, var, gamma, beta, eps=eps)
        arguments = [tensor.clone() for tensor in (weight, bias, gamma, beta, mean, var)]
        new_weight, new_bias = _several(folded(*arguments, eps), "weight, bias")
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


def check_layernorm_backward(layernorm_backward) -> str:
    g = _stream(3)
    for size, units, eps in ((6, 4, 1e-5), (3, 9, 0.1)):
        x = (2 * _draw(g, size, units) + 1).requires_grad_()
        gamma, beta = (_draw(g, units).requires_grad_() for _ in range(2))
        gradient = _draw(g, size, units)
        F.layer_norm(x, (units,), gamma, beta, eps).backward(gradient)
        answer = layernorm_backward(gradient.clone(), x.detach().clone(), gamma.detach(), eps)
        at_x, at_gamma, at_beta = _several(answer, "at x, at gamma, at beta")
        expect_shape(
            torch.as_tensor(at_beta), (units,), "the gradient at beta, a sum over pictures"
        )
        expect_same(at_beta, beta.grad, "the gradient at beta")
        expect_same(at_gamma, gamma.grad, "the gradient at gamma")
        late = layernorm_backward_with(gradient, x.detach(), eps) * gamma.detach()
        if torch.allclose(torch.as_tensor(at_x), late):
            raise Wrong(
                "the gradient at x: multiply by gamma first; it differs from unit to unit, and the means run over units"
            )
        expect_same(at_x, x.grad, "the gradient at x")
    return "the means run over the units, the sums for gamma and beta over the pictures"


def layernorm_backward_with(g, x, eps):
    """The gradient at x from the one at the normalised x."""
    deviation = torch.sqrt(x.var(1, unbiased=False, keepdim=True) + eps)
    normal = (x - x.mean(1, keepdim=True)) / deviation
    return (g - g.mean(1, keepdim=True) - normal * (g * normal).mean(1, keepdim=True)) / deviation


def layernorm_backward(gradient, x, gamma, eps):
    deviation = torch.sqrt(x.var(1, unbiased=False, keepdim=True) + eps)
    normal = (x - x.mean(1, keepdim=True)) / deviation
    g = gamma * gradient  # first: gamma is not the same for all units of a mean
    along = (g * normal).mean(1, keepdim=True)
    at_x = (g - g.mean(1, keepdim=True) - normal * along) / deviation
    return at_x, (gradient * normal).sum(0), gradient.sum(0)


def check_torch_arguments(torch_arguments) -> str:
    a = 50 * torch.rand(2, 11, 3, 3, generator=_stream(4), dtype=torch.float64)
    for n, k, alpha, beta in ((5, 2.0, 1e-4, 0.75), (3, 1.0, 1e-3, 0.5), (7, 0.5, 0.01, 1.0)):
        size, torchs_alpha, torchs_beta, torchs_k = _several(
            torch_arguments(n, k, alpha, beta), "size, alpha, beta, k"
        )
        if (size, torchs_beta, torchs_k) != (n, beta, k):
            raise Wrong(
                f"size, beta and k are the same in both formulas: expected {(n, beta, k)}, got "
                f"{(size, torchs_beta, torchs_k)}"
            )
        if torchs_alpha == alpha:
            raise Wrong(
                f"n = {n}: torch takes the mean of the n squares, AlexNet the sum; alpha must make up for it"
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
        expect_same(
            answer,
            F.group_norm(x, groups, gamma, beta, eps),
            f"{groups} groups of {shape[1]} channels",
        )
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
        "The step in front of BatchNorm",
        (
            "How long is the gradient of weights of this length, against that of weights of length 1?",
            "1 / length as long. And a direction turns by step / length.",
            "So rate / length / length.",
        ),
        check_same_turn,
        same_turn,
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
        "LayerNorm, backward",
        (
            "Take batchnorm_backward: which means run over the units now (axis 1, keepdim=True)?",
            "gamma and beta are shared by all pictures: their gradients are still sums over axis 0.",
            "g = gamma * gradient comes before the means over units.",
        ),
        check_layernorm_backward,
        layernorm_backward,
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
