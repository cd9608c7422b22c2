"""Lesson 11: its small network against torch's layers, its update rule, its exercises against mistakes."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from lesson_checks import planted
from torch import nn
from torchvision.transforms import v2

from cnncourse import exercises, lab
from cnncourse.exercises import lesson_11 as solutions
from cnncourse.models.lenet import SOURCES, SparseConvolution

pytestmark = pytest.mark.usefixtures("in_float64")
LESSON = exercises.of_lesson("11")


@cache
def lesson():
    return lab.definitions("11")


# --- definitions ----------------------------------------------------------------------------------


def weights(seeds=(1, 2)):
    return {name: each.detach().double() for name, each in lesson().start(list(seeds)).items()}


def of_torch(p, network, off):
    """The same network from torch's layers."""
    bend = nn.Tanh if off == "ReLU" else nn.ReLU
    window = 2 if off == "overlap" else 3
    norm = nn.LocalResponseNorm(5, alpha=5 * 0.4, beta=0.75, k=1.0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), bend(),
        nn.Identity() if off == "normalisation" else norm, nn.MaxPool2d(window, 2),
        nn.Conv2d(8, 16, 3, padding=1), bend(), nn.MaxPool2d(window, 2), nn.Flatten(),
        nn.Linear(64, 128), bend(), nn.Linear(128, 10),
    )  # fmt: skip
    parts = [net[0], net[4], net[8], net[10]]
    with torch.no_grad():
        for part, name in zip(parts, ("conv1", "conv2", "fc3", "fc4"), strict=True):
            part.weight.copy_(p[name][network].view_as(part.weight))
            part.bias.copy_(p[name + ".bias"][network, :, 0])
    return net


@pytest.mark.parametrize("off", ["nothing", "ReLU", "overlap", "normalisation", "dropout", "crops"])
def test_the_small_network_is_that_of_torch(off):
    p = weights()
    for name in p:
        if name.endswith("bias"):
            p[name] = torch.randn(p[name].shape)
    x = torch.randn(2, 5, 1, 11, 11)
    got = lesson().scores(p, x, off)
    for network in range(2):
        with torch.no_grad():
            torch.testing.assert_close(got[network].T, of_torch(p, network, off)(x[network]))


def test_dropout_keeps_the_mean_and_is_off_in_the_test():
    p, x = weights([3]), torch.randn(1, 4, 1, 11, 11)
    stream = torch.Generator().manual_seed(0)
    draws = torch.stack([lesson().scores(p, x, "nothing", stream) for _ in range(400)])
    still = lesson().scores(p, x, "nothing")
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - still).abs() < 5 * error).all()
    torch.testing.assert_close(lesson().scores(p, x, "dropout", stream), still)


def test_seeds_do_not_depend_on_their_neighbours():
    alone, among = lesson().start([7]), lesson().start([5, 7])
    for name in alone:
        assert torch.equal(alone[name][0], among[name][1])


def test_the_papers_update_is_sgd_with_momentum():
    target = torch.randn(6)
    w, v = torch.randn(6), torch.zeros(6)
    theirs = w.clone().requires_grad_()
    step = torch.optim.SGD([theirs], lr=0.01, momentum=0.9, weight_decay=0.0005)
    for _ in range(20):
        w, v = lesson().paper_update(w, v, w - target, 0.01)
        step.zero_grad()
        ((theirs - target) ** 2 / 2).sum().backward()
        step.step()
        torch.testing.assert_close(w, theirs.detach(), rtol=0, atol=1e-12)


def test_shapes_are_those_of_a_run():
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.MaxPool2d(2))
    assert lesson().shapes(net, (3, 11, 11)) == {"0": (5, 9, 9), "1": (5, 4, 4)}


# --- exercises against torch ----------------------------------------------------------------------


def test_ten_crops_are_those_of_torchvision():
    picture = torch.randn(3, 20, 16)
    theirs = torch.stack(v2.TenCrop(8)(picture))
    ours = {tuple(one.flatten().tolist()) for one in solutions.ten_crops(picture, 8)}
    assert ours == {tuple(one.flatten().tolist()) for one in theirs}  # in another order
    assert len(ours) == 10


def test_sparse_parameters_are_those_of_the_module():
    module = SparseConvolution(SOURCES)
    dense = nn.Conv2d(6, 16, 5)
    assert solutions.sparse_parameters(SOURCES, 5) == tuple(
        sum(p.numel() for p in part.parameters()) for part in (module, dense)
    )


def test_sides_are_those_of_torch():
    layers = [(7, 2, 1), (3, 2, 1), (5, 2, 0), (3, 1, 1)]
    x, sides = torch.zeros(1, 1, 224, 224), []
    for kernel, stride, padding in layers:
        x = nn.Conv2d(1, 1, kernel, stride, padding)(x)
        sides.append(x.shape[-1])
    assert solutions.sides_and_rest(224, layers)[0] == sides


def test_grouped_parameters_are_those_of_torch():
    layer = nn.Conv2d(12, 8, 3, groups=4)
    assert solutions.grouped_cost(12, 8, 3, 4, 5)[0] == sum(p.numel() for p in layer.parameters())


@pytest.mark.parametrize(("period", "stride"), [(5, 4), (3, 2), (3, 4), (7, 4), (2.5, 4)])
def test_an_alias_has_the_same_samples(period, stride):
    places = torch.arange(0, 40 * stride, stride).double()
    slow = solutions.alias(period, stride)
    assert slow > period
    torch.testing.assert_close(
        (2 * math.pi * places / period).cos(), (2 * math.pi * places / slow).cos()
    )


# --- exercises ------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", sorted(LESSON))
def test_the_reference_solution_is_accepted(id):
    assert LESSON[id].check(*LESSON[id].answers())


def kernels(sources):
    return sum(map(len, sources))


def full(sources, kernel):
    return solutions.sparse_parameters(sources, kernel)[1]


def rounded_up(side, layers):
    sides = []
    for kernel, stride, padding in layers:
        side = math.ceil((side + 2 * padding - kernel) / stride) + 1
        sides.append(side)
    return sides, [0] * len(sides)


def padded_once(side, layers):
    sides = []
    for kernel, stride, padding in layers:
        side = (side + padding - kernel) // stride + 1
        sides.append(side)
    return sides, [0] * len(sides)


def whether(side, layers):
    sides, rests = solutions.sides_and_rest(side, layers)
    return sides, [int(rest > 0) for rest in rests]


def without_mirror(picture, size):
    return solutions.ten_crops(picture, size)[:5]


def upside_down(picture, size):
    five = solutions.ten_crops(picture, size)[:5]
    return torch.cat([five, five.flip(-2)])


def mirrored_picture(picture, size):
    return torch.cat([solutions.ten_crops(one, size)[:5] for one in (picture, picture.flip(-1))])


def by_columns(picture, size):
    return solutions.ten_crops(picture, size)[[0, 2, 1, 3, 4, 5, 7, 6, 8, 9]]


def grouped(change):
    return lambda i, o, k, g, s: change(i, o, k, g, s, i // g * o * k * k)


@planted(
    {
        "11.1": [
            ("biases are missing", lambda s, k: (kernels(s) * k * k, full(s, k))),
            ("not for each map", lambda s, k: (kernels(s) * (k * k + 1), full(s, k))),
            ("square", lambda s, k: (kernels(s) * k + len(s), full(s, k))),
            ("plus one", lambda s, k: (kernels(s) * k * k + len(s), len(s) * (max(map(len, s)) * k * k + 1))),
            ("pair", lambda s, k: kernels(s) * k * k + len(s)),
        ],
        "11.2": [
            ("rounds down", rounded_up),
            ("both sides", padded_once),
            ("left over", lambda s, n: (solutions.sides_and_rest(s, n)[0], [0] * len(n))),
            ("not whether", whether),
            ("plus one", lambda s, n: ([one - 1 for one in solutions.sides_and_rest(s, n)[0]], [])),
        ],
        "11.3": [
            ("biases are missing", grouped(lambda i, o, k, g, s, w: (w, w * s * s))),
            ("channels_in / groups", lambda i, o, k, g, s: (i * o * k * k + o, i * o * k * k * s * s)),
            ("divided twice", grouped(lambda i, o, k, g, s, w: (w // g + o, w * s * s))),
            ("added, not multiplied", grouped(lambda i, o, k, g, s, w: (w + o, (w + o) * s * s))),
            ("every place", grouped(lambda i, o, k, g, s, w: (w + o, w))),
        ],
        "11.4": [
            ("five are there", without_mirror),
            ("last axis", upside_down),
            ("mirror the windows", mirrored_picture),
            ("top right comes", by_columns),
            ("torch.stack", lambda p, n: list(solutions.ten_crops(p, n))),
        ],
        "11.5": [
            ("a slower stripe does", lambda period, stride: period),
            ("times the stride", lambda period, stride: solutions.alias(period, stride) / stride),
            ("f and -f", lambda period, stride: stride / (stride / period % 1) if stride / period % 1 else math.inf),
            ("all samples", lambda period, stride: 1e9 if stride % period == 0 else solutions.alias(period, stride)),
        ],
    }
)  # fmt: skip
def test_a_mistake_is_told(id, answer, words):
    with pytest.raises(exercises.Wrong, match=words):
        exercises.find(id).check(answer)
