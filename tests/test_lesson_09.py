"""Lesson 09: its optimisers against torch, its schedules, its exercises against mistakes."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from lesson_checks import rejects
from torch import nn
from torch.nn import functional as F

from cnncourse import exercises, lab
from cnncourse.exercises import lesson_09 as solutions

pytestmark = pytest.mark.usefixtures("in_float64")
LESSON = exercises.of_lesson("09")


@cache
def lesson():
    return lab.definitions("09")


# --- optimisers ---------------------------------------------------------------------------------------------------


def torchs(make, gradient, w, steps):
    """The way of an optimiser of torch along given gradients."""
    parameter = w.clone().requires_grad_()
    optimizer, way = make([parameter]), [w.clone()]
    for _ in range(steps):
        parameter.grad = gradient(parameter.detach())
        optimizer.step()
        way.append(parameter.detach().clone())
    return torch.stack(way)


PAIRS = {
    "GradientDescent": ({"rate": 0.02}, lambda w: torch.optim.SGD(w, lr=0.02)),
    "Momentum": ({"rate": 0.02, "rho": 0.8}, lambda w: torch.optim.SGD(w, lr=0.02, momentum=0.8)),
    "AdaGrad": ({"rate": 0.3}, lambda w: torch.optim.Adagrad(w, lr=0.3, eps=1e-7)),
    "RMSProp": (
        {"rate": 0.03, "decay": 0.8},
        lambda w: torch.optim.RMSprop(w, lr=0.03, alpha=0.8, eps=1e-7),
    ),
    "Adam": (
        {"rate": 0.03, "beta1": 0.8, "beta2": 0.95},
        lambda w: torch.optim.Adam(w, lr=0.03, betas=(0.8, 0.95)),
    ),
}


def curved(w):
    return torch.tensor([1.0, 9.0, 30.0]) * w + torch.sin(w)


@pytest.mark.parametrize("name", PAIRS)
def test_an_optimiser_of_the_lesson_walks_as_torchs(name):
    options, theirs = PAIRS[name]
    start = torch.tensor([3.0, -2.0, 1.0])
    ours = lesson().descend(getattr(lesson(), name)(**options), curved, start, 60)
    assert torch.allclose(ours, torchs(theirs, curved, start, 60), rtol=0, atol=1e-12)


def test_nesterov_of_the_lesson_walks_as_torchs():
    start = torch.tensor([3.0, -2.0, 1.0])
    ours = lesson().descend(lesson().Momentum(0.02, 0.8, nesterov=True), curved, start, 60)
    theirs = torchs(
        lambda w: torch.optim.SGD(w, lr=0.02, momentum=0.8, nesterov=True), curved, start, 60
    )
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


def test_the_look_ahead_form_is_nesterov_up_to_the_place_that_is_noted():
    """torch notes the place looked at, w - rate * rho * v; the old form notes w."""
    start, rate, rho = torch.tensor([3.0, -2.0, 1.0]), 0.02, 0.8
    theirs = lesson().descend(lesson().Momentum(rate, rho, nesterov=True), curved, start, 30)
    w, v = start, torch.zeros(3)
    for place in theirs[1:]:
        w, v = solutions.look_ahead(w, v, curved, rate, rho)
        assert torch.allclose(w - rate * rho * v, place, rtol=0, atol=1e-12)


def test_lbfgs_of_the_lesson_walks_as_torchs():
    start = torch.tensor([3.0, -2.0, 1.0])
    ours = lesson().descend(lesson().LBFGS(memory=2), curved, start, 12)
    parameter = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([parameter], lr=1, max_iter=1, history_size=2)

    def closure():
        parameter.grad = curved(parameter.detach())
        return torch.tensor(0.0)

    for place in ours[1:]:
        optimizer.step(closure)
        assert torch.allclose(parameter.detach(), place, rtol=0, atol=1e-9)


def test_lbfgs_with_one_weight_and_one_pair_is_the_secant_method():
    def slope(w):
        return 3 * w + torch.sin(w)

    way = lesson().descend(lesson().LBFGS(memory=1), slope, torch.tensor([2.0]), 5)
    for before, now, after in zip(way[:3], way[1:4], way[2:5], strict=True):
        step = lesson().secant(now, slope(now), before, slope(before))
        assert torch.allclose(step, after, rtol=0, atol=1e-10)


def test_the_secant_method_is_there_at_once_in_a_bowl():
    assert lesson().secant(1.0, 4.0, 2.0, 8.0) == pytest.approx(0.0)  # slope 4 w


def test_newton_is_there_in_one_step_whatever_the_bowl():
    m = torch.randn(6, 6)
    hessian, least = m @ m.T + torch.eye(6), torch.randn(6)
    w = torch.randn(6)
    assert torch.allclose(lesson().newton(w, hessian @ (w - least), hessian), least)


def test_walk_stops_at_the_goal_or_when_it_is_lost():
    def bowl(w):
        return (w**2).sum()

    start = torch.tensor([4.0, 3.0])
    way = lesson().walk(lambda w: torch.optim.SGD(w, lr=0.1), bowl, start, goal=1.0)
    heights = [bowl(w).item() for w in way]
    assert heights[-1] <= 1 < heights[-2]
    lost = lesson().walk(lambda w: torch.optim.SGD(w, lr=2.0), bowl, start, goal=1.0)
    assert len(lost) < 20 and bowl(lost[-1]) > 1e6


def test_the_ravine_turned_is_the_same_ravine():
    w = torch.randn(20, 2)
    for turned in (0, 30, 45, 90):
        turned_w = w @ lesson().directions(turned).T
        assert torch.allclose(lesson().ravine(turned_w, turned, 7.0), lesson().ravine(w, 0, 7.0))
    assert lesson().ravine(torch.tensor([2.0, 1.0]), 0, 50.0).item() == pytest.approx(27.0)


def test_fit_takes_the_steps_of_the_loop_written_out():
    pictures, labels = torch.randn(20, 5), torch.arange(20) % 3
    losses = []
    for own in (True, False):
        torch.manual_seed(1)
        model = nn.Linear(5, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        if own:
            losses.append(lesson().fit(model, optimizer, pictures, labels, 2, batch_size=8)[-1])
            continue
        for _ in range(2):
            order, total = torch.randperm(20), 0.0
            for first in (0, 8, 16):
                rows = order[first : first + 8]
                optimizer.zero_grad()
                loss = F.cross_entropy(model(pictures[rows]), labels[rows])
                loss.backward()
                optimizer.step()
                total += loss.item() * len(rows)
        losses.append(total / 20)
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_schedules_begin_with_the_first_rate_and_fall():
    for kind in (lesson().by_steps, lesson().exponential, lesson().inverse):
        rates = [kind(t, 0.3) for t in range(9)]
        assert rates[0] == 0.3 and all(np.diff(rates) <= 0) and rates[-1] < 0.2
    assert lesson().by_steps(6, 0.4) == pytest.approx(0.1)
    assert lesson().cosine(4, 0.4, 8) == pytest.approx(0.2)
    assert lesson().cosine(8, 0.4, 8) == pytest.approx(0.0)


# --- exercises ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", LESSON)
def test_the_reference_solution_is_accepted(id):
    assert LESSON[id].check(*LESSON[id].answers())


def test_mistakes_in_counting_steps_are_named():
    def logarithm(rate, curvature, share):
        factor = abs(1 - rate * curvature)
        if factor == 0:
            return 1
        return math.inf if factor >= 1 else math.log(share) / math.log(factor)

    def never_never(rate, curvature, share):
        factor = abs(1 - rate * curvature)
        return solutions.steps_to(rate, curvature, share) if factor < 1 else 1000

    def down(rate, curvature, share):
        steps = solutions.steps_to(rate, curvature, share)
        return steps - 1 if steps < math.inf else steps

    def signed(rate, curvature, share):
        factor = 1 - rate * curvature
        if factor < 0:
            return 1 if factor > -1 else math.inf
        return solutions.steps_to(rate, curvature, share)

    rejects("09.1", logarithm, saying="whole numbers")
    rejects("09.1", never_never, saying="never shrinks")
    rejects("09.1", down, saying="round up")
    rejects("09.1", signed, saying="negative")


def test_mistakes_in_looking_ahead_are_named():
    def plain(w, v, gradient, rate, rho):
        v = rho * v + gradient(w)
        return w - rate * v, v

    def uphill(w, v, gradient, rate, rho):
        v = rho * v + gradient(w + rate * rho * v)
        return w - rate * v, v

    def twice(w, v, gradient, rate, rho):
        new = rho * v + gradient(w - rate * rho * v)
        return w - rate * rho * v - rate * new, new

    def old_velocity(w, v, gradient, rate, rho):
        return w - rate * v, rho * v + gradient(w - rate * rho * v)

    rejects("09.2", plain, saying="plain momentum")
    rejects("09.2", uphill, saying="points uphill")
    rejects("09.2", twice, saying="step from w")
    rejects("09.2", old_velocity, saying="the new v")
    rejects("09.2", lambda w, v, gradient, rate, rho: w, saying="a pair")


def test_mistakes_in_putting_parts_together_are_named():
    def of_means(gradients, sizes):
        return sum(gradients) / len(gradients)

    def total(gradients, sizes):
        return sum(g * n for g, n in zip(gradients, sizes, strict=True))

    rejects("09.3", of_means, saying="weigh each")
    rejects("09.3", total, saying="sum over all pictures")
    rejects("09.3", lambda g, n: total(g, n) / len(n), saying="not of parts")


@pytest.mark.parametrize(
    ("mistake", "saying"),
    [
        ("in the gradient", "Adam with L2"),
        ("without correction", "divide them by"),
        ("without rate", "not by 1 - decay"),
        ("no root", "root of v"),
        ("forgotten", "decay is missing"),
    ],
)
def test_mistakes_in_adamw_are_named(mistake, saying):
    rejects("09.4", lambda *args: solutions._adamw(*args, mistake), saying=saying)


def test_handing_on_the_corrected_means_is_named():
    def corrected(w, g, m, v, t, rate, decay):
        w, m, v = solutions.adamw_step(w, g, m, v, t, rate, decay)
        return w, m / (1 - 0.9**t), v

    rejects("09.4", corrected, saying="for this step only")


def test_mistakes_at_saddles_are_named():
    rejects("09.5", lambda w, g, h: w - torch.linalg.solve(h, g), saying="Newton's step")
    rejects("09.5", lambda w, g, h: w - torch.linalg.solve(h.abs(), g), saying="eigenvalues")
    rejects("09.5", lambda w, g, h: 2 * w - solutions.saddle_free(w, g, h), saying="uphill")

    def multiplied(w, g, hessian):
        values, directions = torch.linalg.eigh(hessian)
        return w - directions @ ((directions.T @ g) * values.abs())

    rejects("09.5", multiplied, saying="divide by the curvature")


def test_mistakes_in_warm_up_are_named():
    def from_zero(step, steps, warm, highest):
        right = solutions.warm_cosine(step, steps, warm, highest)
        return highest * step / warm if step < warm else right

    def from_the_start(step, steps, warm, highest):
        if step < warm:
            return solutions.warm_cosine(step, steps, warm, highest)
        return highest * (1 + math.cos(math.pi * step / steps)) / 2

    def not_halved(step, steps, warm, highest):
        right = solutions.warm_cosine(step, steps, warm, highest)
        return right if step < warm else 2 * right

    rejects("09.6", from_zero, saying="not 0")
    rejects("09.6", from_the_start, saying="after the warm-up")
    rejects("09.6", not_halved, saying="halve it")


@pytest.mark.parametrize(
    ("mistake", "saying"),
    [
        ("ends", "first or last"),
        ("by accuracy", "may judge, not choose"),
        ("lucky seed", "mean over the seeds"),
        ("means", "not yet clear"),
    ],
)
def test_mistakes_in_judging_a_race_are_named(mistake, saying):
    rejects("09.7", lambda *race: solutions._who_won(*race, mistake), saying=saying)


def test_a_wrong_count_that_is_no_known_mistake_is_told_the_right_one():
    def seven(rate, curvature, share):
        right = solutions.steps_to(rate, curvature, share)
        return 7 if right == 4 else right

    rejects("09.1", seven, saying="expected 4")
