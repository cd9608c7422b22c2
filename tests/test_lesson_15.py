"""Lesson 15: its rules, blocks and frontier against torch and the package; its exercises against mistakes."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
import torchvision
from lesson_checks import planted
from torch import nn
from torch.nn import functional as F

from cnncourse import exercises, lab, models
from cnncourse.exercises import lesson_15 as solutions

pytestmark = pytest.mark.usefixtures("in_float64")
LESSON = exercises.of_lesson("15")


@cache
def lesson():
    return lab.definitions("15")


# --- definitions ----------------------------------------------------------------------------------


def test_the_frontier_is_what_nothing_beats():
    stream = np.random.default_rng(3)
    price = dict(enumerate(stream.integers(1, 9, 30).tolist()))
    accuracy = dict(enumerate(stream.integers(1, 9, 30).tolist()))
    left = lesson().frontier(price, accuracy)
    assert [price[n] for n in left] == sorted(price[n] for n in left)
    for one in price:
        beats = [
            other
            for other in price
            if price[other] <= price[one]
            and accuracy[other] >= accuracy[one]
            and (price[other] < price[one] or accuracy[other] > accuracy[one])
        ]
        assert (one in left) == (not beats)


def batched(weights):
    return {name: value.double()[None] for name, value in weights.items()}


@pytest.mark.parametrize("near", [False, True])
def test_the_highway_network_is_that_of_the_package(near):
    weights = lesson().start(lesson().gate, near, 4, 6, 9, 3, 7)
    pictures = torch.randn(5, 9)
    x = torch.relu(pictures @ weights["first"].double().T)
    for i in range(4):
        layer = models.highway.Highway(lambda: nn.Linear(6, 6))
        with torch.no_grad():
            layer.transform.weight.copy_(weights["W"][i])
            layer.transform.bias.copy_(weights["b"][i, :, 0])
            layer.gate.weight.copy_(weights["V"][i])
            layer.gate.bias.copy_(weights["c"][i, :, 0])
            x = layer(x)
    wanted = x @ weights["last"].double().T
    got = lesson().scores(batched(weights), pictures, lesson().gate)[0].T
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("rule", ["plain", "add"])
@pytest.mark.parametrize("near", [False, True])
def test_plain_and_sum_are_written_with_linear_layers(rule, near):
    weights = lesson().start(getattr(lesson(), rule), near, 3, 5, 4, 2, 1)
    pictures = torch.randn(6, 4)
    x = torch.relu(pictures @ weights["first"].double().T)
    for matrix in weights["W"].double():
        h = F.relu(F.linear(x, matrix))
        x = h if rule == "plain" else x + h
    wanted = F.linear(x, weights["last"].double())
    got = lesson().scores(batched(weights), pictures, getattr(lesson(), rule))[0].T
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("rule", ["plain", "add", "gate"])
def test_near_a_copy_a_layer_nearly_copies(rule):
    make = getattr(lesson(), rule)
    x = torch.rand(20, 16)

    def moved(near):
        weights = lesson().start(make, near, 1, 16, 16, 3, 2)
        weights["first"] = torch.eye(16)
        weights["last"] = torch.eye(16)
        weights["scores"] = torch.zeros(16, 1)
        out = lesson().scores(batched(weights), x, make)[0].T
        return ((out - x).norm() / x.norm()).item()

    assert moved(True) < 0.25 < moved(False)


def test_norm_is_batch_norm_of_each_network():
    x, scale, shift = torch.randn(3, 4, 10), torch.randn(3, 4), torch.randn(3, 4)
    got = lesson().norm(x, scale, shift)
    for network in range(3):
        layer = nn.BatchNorm1d(4)
        with torch.no_grad():
            layer.weight.copy_(scale[network])
            layer.bias.copy_(shift[network])
        torch.testing.assert_close(got[network].T, layer(x[network].T))


class Block(nn.Module):
    """A residual block of two linear layers in one of three orders."""

    def __init__(self, kind, width):
        super().__init__()
        self.kind = kind
        self.one, self.two = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.bn1, self.bn2 = nn.BatchNorm1d(width), nn.BatchNorm1d(width)

    def forward(self, x):
        if self.kind == "pre":
            return x + self.two(F.relu(self.bn2(self.one(F.relu(self.bn1(x))))))
        out = x + self.bn2(self.two(F.relu(self.bn1(self.one(x)))))
        return F.relu(out) if self.kind == "post" else out


@pytest.mark.parametrize("kind", ["post", "bare", "pre"])
def test_residual_is_the_network_of_modules(kind):
    p = batched(lesson().begin(3, 6, 9, 4, 5))
    pictures = torch.randn(12, 9)
    body = [Block(kind, 6) for _ in range(3)]
    with torch.no_grad():
        for i, block in enumerate(body):
            block.one.weight.copy_(p["W"][0, 2 * i])
            block.two.weight.copy_(p["W"][0, 2 * i + 1])
    end = nn.Sequential(nn.BatchNorm1d(6), nn.ReLU())
    x = pictures @ p["first"][0].T
    x = nn.Sequential(*body, end)(x) if kind == "pre" else nn.Sequential(end, *body)(x)
    wanted = x @ p["last"][0].T
    torch.testing.assert_close(lesson().residual(p, pictures, kind)[0].T, wanted)


def test_losses_are_cross_entropies_one_a_network():
    out, labels = torch.randn(3, 5, 8), torch.randint(5, (8,))
    wanted = torch.stack([F.cross_entropy(one.T, labels) for one in out])
    torch.testing.assert_close(lesson().losses(out, labels), wanted)


def test_dropped_layers_agree_with_torchvision():
    x, branch = torch.randn(4), torch.randn(4)
    layer = torchvision.ops.StochasticDepth(0.3, "batch").train()
    seen = set()
    for _ in range(40):
        out = x + layer(branch[None])[0]
        lives = bool((out != x).any())
        seen.add(lives)
        wanted = solutions.deep_or_not(x, branch, 0.7, lives, True)
        torch.testing.assert_close(out, wanted)
    assert seen == {True, False}
    torch.testing.assert_close(
        x + layer.eval()(branch), solutions.deep_or_not(x, branch, 0.7, False, False)
    )


def test_fire_parameters_are_those_of_the_module():
    for channels, squeeze, expand in ((96, 16, 64), (512, 64, 256)):
        module = models.squeezenet.Fire(channels, squeeze, expand)
        assert solutions.fire_parameters(channels, squeeze, expand) == sum(
            p.numel() for p in module.parameters()
        )


# --- exercises ------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", sorted(LESSON))
def test_the_reference_solution_is_accepted(id):
    assert LESSON[id].check(*LESSON[id].answers())


def most_accurate(nets, parameters, work):
    return max(nets, key=lambda net: net[3])[0]


def one_limit(nets, parameters, work):
    return solutions.within(nets, parameters, math.inf)


def first_of_equals(nets, parameters, work):
    fitting = [net for net in nets if net[1] <= parameters and net[2] <= work]
    return max(fitting, key=lambda net: net[3])[0] if fitting else None


def with_tuple(nets, parameters, work):
    fitting = [net for net in nets if net[1] <= parameters and net[2] <= work]
    return max(fitting, key=lambda net: (net[3], -net[2])) if fitting else None


def turned(x, W, b, V, c):
    h, t = np.maximum(x @ W + b, 0), 1 / (1 + np.exp(-(x @ V + c)))
    return (1 - t) * h + t * x, (t > 0.5).mean()


def ungated_path(x, W, b, V, c):
    h, t = np.maximum(x @ W + b, 0), 1 / (1 + np.exp(-(x @ V + c)))
    return t * h + x, (t > 0.5).mean()


def no_relu(x, W, b, V, c):
    t = 1 / (1 + np.exp(-(x @ V + c)))
    return t * (x @ W + b) + (1 - t) * x, (t > 0.5).mean()


def mean_gate(x, W, b, V, c):
    t = 1 / (1 + np.exp(-(x @ V + c)))
    return solutions.highway(x, W, b, V, c)[0], t.mean()


def nan_wins(table, count):
    row = table[:, :count].mean(1).argmin()
    return row, table[row, count:].mean()


def nan_ignored(table, count):
    row = np.nanmean(table[:, :count], axis=1).argmin()
    return row, table[row, count:].mean()


def judged_by_all(table, count):
    row = solutions.fair(table, count)[0]
    return row, table[row].mean()


def flattered(table, count):
    row = solutions.fair(table, count)[0]
    return row, table[row, :count].mean()


def chosen_by_all(table, count):
    row = np.nan_to_num(table.mean(1), nan=np.inf).argmin()
    return row, table[row, count:].mean()


def lowest_single(table, count):
    row = np.nan_to_num(table[:, :count].min(1), nan=np.inf).argmin()
    return row, table[row, count:].mean()


def turned_lives(x, branch, survival, lives, training):
    return solutions.deep_or_not(x, branch, survival, not lives, training)


def undivided(x, branch, survival, lives, training):
    return x + branch if lives or not training else x


def of_the_paper(x, branch, survival, lives, training):
    if not training:
        return x + survival * branch
    return x + branch / survival if lives else x


def dropped_in_the_test(x, branch, survival, lives, training):
    if not lives:
        return x
    return x + branch / survival if training else x + branch


@planted(
    {
        "15.1": [
            ("parameters and", most_accurate),
            ("fewer|limits|just met", one_limit),
            ("fewer multiply-adds", first_of_equals),
            ("name alone", with_tuple),
        ],
        "15.2": [
            ("biases are missing", lambda c, s, e: c * s + 10 * s * e),
            ("read the squeezed", lambda c, s, e: c * s + s + 10 * c * e + 2 * e),
            ("stands beside", lambda c, s, e: c * s + s + s * e + 9 * e * e + 2 * e),
            ("both expansions", lambda c, s, e: solutions.fire_parameters(c, s, e) - e),
            ("9 weights", lambda c, s, e: c * s + s + 4 * s * e + 2 * e),
        ],
        "15.3": [
            ("turned round", turned),
            ("passes whole", ungated_path),
            ("H has a ReLU", no_relu),
            ("mean of T", mean_gate),
            ("pair", lambda x, W, b, V, c: x),
        ],
        "15.4": [
            ("nan for the smallest", nan_wins),
            ("counts as infinity", nan_ignored),
            ("are among these", judged_by_all),
            ("flatter", flattered),
            ("chosen by all seeds", chosen_by_all),
            ("lowest single loss", lowest_single),
            ("the row comes first", lambda table, count: solutions.fair(table, count)[::-1]),
            ("the row comes first", lambda table, count: (math.nan, math.nan)),
        ],
        "15.5": [
            ("divide the survivor", undivided),
            ("scaled twice", of_the_paper),
            ("this branch lives", turned_lives),
            ("every branch is used", dropped_in_the_test),
            ("without a ReLU", lambda x, f, p, a, t: np.maximum(solutions.deep_or_not(x, f, p, a, t), 0)),
        ],
    }
)  # fmt: skip
def test_a_mistake_is_told(id, answer, words):
    with pytest.raises(exercises.Wrong, match=words):
        exercises.find(id).check(answer)
