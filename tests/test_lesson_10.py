"""Lesson 10: its loops against torch, its seven checks against bugs, its exercises against mistakes."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from lesson_checks import rejects
from scipy import stats
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional as F

from cnncourse import exercises, lab, training
from cnncourse.exercises import lesson_10 as solutions

pytestmark = pytest.mark.usefixtures("in_float64")
LESSON = exercises.of_lesson("10")


@cache
def lesson():
    return lab.definitions("10")


def pictures(count=48):
    stream = torch.Generator().manual_seed(1)
    labels = torch.arange(count) % 3
    x = torch.randn(count, 1, 4, 4, generator=stream)
    x += 3 * torch.randn(3, 1, 4, 4, generator=stream)[labels]  # each class around its own picture
    return (x - x.mean()) / x.std(), labels


def small():
    return lesson().network(16, 20, 3)


# --- loops ----------------------------------------------------------------------------------------


def test_descend_takes_the_steps_of_a_loop_by_hand():
    x, y = pictures()
    net = small()
    other = copy.deepcopy(net)
    losses = lesson().descend(net, x, y, 0.1, 5, size=len(x))
    expected = []
    for _ in range(5):
        value = F.cross_entropy(other(x), y)
        expected.append(value.item())
        slopes = torch.autograd.grad(value, list(other.parameters()))
        with torch.no_grad():
            for weight, slope in zip(other.parameters(), slopes, strict=True):
                weight -= 0.1 * slope
    assert losses == pytest.approx(expected, rel=1e-12)
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.allclose(one, two, atol=1e-12)


def test_descend_draws_other_batches_for_another_seed():
    x, y = pictures()
    start = small()
    one, again, other = (
        lesson().descend(copy.deepcopy(start), x, y, 0.1, 4, seed, size=8) for seed in (1, 1, 2)
    )
    assert one == again != other


def test_the_range_test_is_that_of_the_package_when_each_batch_holds_all_pictures():
    x, y = pictures()
    net = small()
    other = copy.deepcopy(net)
    rates, losses = lesson().range_test(net, x, y, low=1e-3, high=100, steps=40, size=len(x))
    optimizer = torch.optim.SGD(other.parameters(), lr=1)
    found = training.lr_range_test(
        other, (x, y), optimizer=optimizer, batch_size=len(x), low=1e-3, high=100, steps=40
    )
    assert rates.tolist() == pytest.approx(found[0])
    assert losses.tolist() == pytest.approx(found[1], rel=1e-5)


def test_the_range_test_ends_where_the_loss_climbs():
    x, y = pictures()
    y = torch.randint(3, y.shape)  # nothing to learn: too large a rate cannot help
    net = lesson().network(16, 20, 3, nn.LeakyReLU)
    rates, losses = lesson().range_test(net, x, y, low=0.1, high=1e6, steps=50)
    assert len(rates) == len(losses) < 50
    assert not losses[-1] <= 4 * losses.min()


def test_the_usable_range_of_a_valley():
    rates = np.geomspace(1e-4, 10, 101)
    losses = 2.3 - np.exp(-(((np.log10(rates) - 0) / 0.5) ** 2))  # lowest at a rate of 1
    low, high = lesson().usable(rates, losses)
    assert high == pytest.approx(1, rel=0.05)
    assert low == pytest.approx(10 ** (-0.5 * math.sqrt(math.log(1 / 0.115))), rel=0.15)
    assert math.isnan(lesson().usable(rates, np.full(101, 2.3))[0])


# --- the seven checks -----------------------------------------------------------------------------


def task(**bug):
    x, y = pictures(90)
    right = lesson().Task(
        train=(x[:60], y[:60]),
        valid=(x[60:], y[60:]),
        make=small,
        count=16 * 20 + 20 + 20 * 20 + 20 + 20 * 3 + 3,
        loss=F.cross_entropy,
        penalty=lesson().squares,
        strength=0.003,
        rate=0.3,
    )
    return replace(right, **bug)


def fails(task) -> set[int]:
    found = set()
    for number, check in enumerate(lesson().CHECKS, 1):
        torch.manual_seed(0)
        value, low, high = check(task)
        if not low <= value <= high:
            found.add(number)
    return found


def test_a_right_task_passes_the_seven_checks():
    assert fails(task()) == set()


@pytest.mark.parametrize("seed", range(5))
def test_he_weights_are_no_red_start(seed):
    torch.manual_seed(seed)
    value, low, high = lesson().check_start(task(make=lambda: lesson().he(small())))
    assert low <= value <= high


def test_he_draws_weights_of_the_deviation_of_the_paper():
    torch.manual_seed(0)
    net = lesson().he(lesson().network(400, 300, 3))
    assert net[1].weight.std().item() == pytest.approx(math.sqrt(2 / 400), rel=0.02)
    assert not net[1].bias.any()


def bugs():
    x, y = pictures(90)
    squares = lesson().squares
    return {
        1: {"valid": (x[60:] * 0.3 + 0.4, y[60:])},
        2: {"make": lambda: lesson().Listed(16, 20, 3)},
        3: {"make": lambda: lesson().loud(small())},
        4: {"penalty": lambda net: squares(net).detach()},
        5: {"loss": lambda scores, labels: F.cross_entropy(scores.softmax(1), labels)},
        6: {"rate": 3e-4},
        7: {"train": (x[:70], y[:70])},
    }


@pytest.mark.parametrize("number", range(1, 8))
def test_each_bug_fails_its_check(number):
    assert number in fails(task(**bugs()[number]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_check_7_counts_every_picture_that_is_on_both_sides(dtype):
    x = (10 * torch.randn(400, 1, 8, 8)).to(dtype)
    known = task(train=(x[:300], torch.zeros(300)), valid=(x[225:325], torch.zeros(100)))
    assert lesson().check_split(known)[0] == 0.75


@pytest.mark.parametrize(
    "penalty",
    [
        lambda net: -lesson().squares(net),
        lambda net: 0.5 * lesson().squares(net),
        lambda net: sum(weight.square().sum() for weight in net.parameters()),
        lambda net: lesson().squares(net) / 64,
    ],
    ids=["sign", "half", "biases", "batch"],
)
def test_a_wrong_penalty_fails_check_4(penalty):
    assert 4 in fails(task(penalty=penalty))


def test_labels_dealt_anew_fail_check_5():
    def mixed(scores, labels):
        return F.cross_entropy(scores, labels[torch.randperm(len(labels))])

    assert 5 in fails(task(loss=mixed))


def test_descend_lowers_the_loss_plus_the_penalty_and_an_idle_one_changes_nothing():
    x, y = pictures()
    squares = lesson().squares
    start = nn.Sequential(nn.Flatten(), nn.Linear(16, 3, bias=False))
    ends = {}
    for name, penalty in {
        "without": None,
        "right": lambda net: 0.1 * squares(net),
        "idle": lambda net: 0.1 * squares(net).detach(),
    }.items():
        net = copy.deepcopy(start)
        lesson().descend(net, x, y, 0.1, 5, size=len(x), penalty=penalty)
        ends[name] = net[1].weight.detach()
    decayed = copy.deepcopy(start)
    optimizer = torch.optim.SGD(decayed.parameters(), lr=0.1, weight_decay=0.2)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(decayed(x), y).backward()
        optimizer.step()
    assert torch.allclose(ends["right"], decayed[1].weight, atol=1e-12)
    assert torch.equal(ends["idle"], ends["without"])


def test_half_of_the_squares_is_torchs_weight_decay_for_weights():
    x, y = pictures()
    one = nn.Sequential(nn.Flatten(), nn.Linear(16, 3, bias=False))
    other = copy.deepcopy(one)
    for net, decay in ((one, 0.0), (other, 0.2)):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=decay)
        extra = 0 if decay else 0.2 / 2 * lesson().squares(net)
        (F.cross_entropy(net(x), y) + extra).backward()
        optimizer.step()
    assert torch.allclose(one[1].weight, other[1].weight, atol=1e-12)


# --- the search -----------------------------------------------------------------------------------


def test_log_uniform_is_scipys():
    shares = np.linspace(0, 1, 11)
    expected = stats.loguniform(1e-5, 100).ppf(shares)
    assert lesson().log_uniform(shares, 1e-5, 100) == pytest.approx(expected)


def test_log_uniform_draws_pass_a_kolmogorov_smirnov_test_and_even_ones_do_not():
    shares = np.random.default_rng(0).random(2000)
    law = stats.loguniform(1e-4, 1).cdf
    assert stats.kstest(lesson().log_uniform(shares, 1e-4, 1), law).pvalue > 0.01
    assert stats.kstest(1e-4 + shares * (1 - 1e-4), law).pvalue < 1e-6


def test_softmax_weights_are_those_of_torchs_sgd_with_weight_decay():
    x, y = pictures()
    layer = nn.Linear(16, 3, bias=False)
    nn.init.zeros_(layer.weight)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5, weight_decay=0.1)
    for _ in range(7):
        optimizer.zero_grad()
        F.cross_entropy(layer(x.flatten(1)), y).backward()
        optimizer.step()
    got = lesson().softmax_weights(x.flatten(1).numpy(), y.numpy(), 0.5, 0.1, steps=7)
    assert np.allclose(got.T, layer.weight.detach().numpy(), atol=1e-12)


def test_softmax_weights_end_near_sklearns():
    x, y = pictures()
    rows = x.flatten(1).numpy()
    decay = 0.1
    model = LogisticRegression(C=1 / (decay * len(rows)), fit_intercept=False, tol=1e-8)
    expected = model.fit(rows, y.numpy()).coef_
    got = lesson().softmax_weights(rows, y.numpy(), 0.5, decay, steps=400).T
    assert np.allclose(got - got.mean(0), expected - expected.mean(0), atol=1e-3)


def test_cross_validated_never_tests_on_what_it_has_learnt():
    rows = np.eye(30)  # every picture has a pixel of its own: nothing carries over
    labels = np.arange(30) % 3
    labels = np.random.default_rng(0).permutation(labels)
    shares = lesson().cross_validated(rows, labels, 1.0, 0.0, 3)
    expected = [(labels[fold::3] == 0).mean() for fold in range(3)]  # equal scores: the first class
    assert len(shares) == 3 and np.mean(shares) < 0.7
    assert shares == pytest.approx(expected)


# --- exercises ------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", sorted(LESSON))
def test_the_reference_solution_is_accepted(id):
    assert LESSON[id].check(*LESSON[id].answers())


def test_verdicts_that_are_wrong_are_rejected():
    def without_nan(losses, guess):
        if losses[-1] >= 0.9 * guess:
            return "smaller" if max(losses) > 1.5 * guess else "larger"
        return "keep"

    def the_peak_alone(losses, guess):
        if not all(map(math.isfinite, losses)) or max(losses) > 1.5 * guess:
            return "smaller"
        return "larger" if losses[-1] >= 0.9 * guess else "keep"

    def the_notes(losses, guess):
        if not all(map(math.isfinite, losses)):
            return "smaller"
        return "larger" if losses[-1] >= 0.9 * guess else "keep"

    rejects("10.1", without_nan, saying="isfinite")
    rejects("10.1", the_peak_alone, saying="a peak alone")
    rejects("10.1", the_notes, saying="a peak of 40")
    rejects("10.1", lambda losses, guess: "lower", saying="expected 'smaller', 'larger' or 'keep'")


def test_ranges_that_are_wrong_are_rejected():
    def without_none(rates, losses):
        return rates[(losses <= 0.95 * losses[0]).argmax()], rates[losses.argmin()]

    def places(rates, losses):
        fallen = losses <= 0.95 * losses[0]
        return (fallen.argmax(), losses.argmin()) if fallen.any() else (None, None)

    def lowest_loss(rates, losses):
        found = solutions.rate_range(rates, losses)
        return (found[0], losses.min()) if found[0] else found

    def last_below(rates, losses):
        fallen = np.flatnonzero(losses <= 0.95 * losses[0])
        return (rates[fallen[-1]], rates[losses.argmin()]) if len(fallen) else (None, None)

    rejects("10.2", without_none, saying="None")
    rejects("10.2", places, saying="place in the array")
    rejects("10.2", lambda rates, losses: (math.nan, math.nan), saying="low: got nan")
    rejects("10.2", lowest_loss, saying="lowest loss; asked is its rate")
    rejects("10.2", last_below, saying="low: got")
    rejects("10.2", lambda rates, losses: None, saying="pair")


@pytest.mark.parametrize(
    ("bug", "words"), [("keep", "zero_grad"), ("twice", "applies softmax"), ("flip", "turned")]
)
def test_a_loop_with_one_bug_left_is_rejected(bug, words):
    def half_mended(net, x, labels, rate, steps):
        return solutions._loop(net, x, labels, rate, steps, **{bug: True})

    rejects("10.3", half_mended, saying=words)


def test_a_loop_that_trains_a_copy_is_rejected():
    def elsewhere(net, x, labels, rate, steps):
        return solutions.mended(copy.deepcopy(net), x, labels, rate, steps)

    rejects("10.3", elsewhere, saying="has not changed")
    rejects("10.3", lambda net, *rest: [], saying="each of the 60 steps")


def test_momenta_that_are_wrong_are_rejected():
    rejects("10.4", lambda u, low, high: low + u * (high - low), saying="evenly")
    rejects("10.4", lambda u, low, high: solutions.momentum_at(1 - u, low, high), saying="swapped")

    def of_itself(u, low, high):
        return low * (high / low) ** u if low else solutions.momentum_at(u, low, high)

    rejects("10.4", of_itself, saying="how far it is from 1")


def test_settings_that_are_wrong_are_rejected():
    def a_grid(n):
        return (np.indices((n, n, n)).reshape(3, -1).T + 0.5) / n

    def a_diagonal(n):
        return np.stack(3 * [(np.arange(n**3) + 0.5) / n**3], axis=1)

    def sheared_by_one(n):
        one, two, three = np.indices((n, n, n)).reshape(3, -1)
        return (np.stack([one + two / n, two + three / n, three + one / n], axis=1) + 0.1 / n) / n

    def two_axes(n):
        points = solutions.settings(n)
        points[:, 1] = a_grid(n)[:, 1]
        return points

    rejects("10.5", a_grid, saying="first axis has only 2 different")
    rejects("10.5", a_diagonal, saying="several settings")
    rejects("10.5", sheared_by_one, saying="first axis 4 of the 8 intervals")
    rejects("10.5", two_axes, saying="second axis has only")
    rejects("10.5", lambda n: solutions.settings(n).T, saying="shape")
    rejects("10.5", lambda n: 2 * solutions.settings(n), saying="below 1")


def test_survivors_that_are_wrong_are_rejected():
    def the_best_in_the_end(table):
        return int(table[:, -1].argmax()), solutions.survivor(table)[1]

    def all_epochs(table):
        return solutions.survivor(table)[0], table.size

    def the_worse_half(table):
        return solutions.survivor(-table)

    rejects("10.6", the_best_in_the_end, saying="had been dropped before")
    rejects("10.6", all_epochs, saying="not trained on")
    rejects("10.6", the_worse_half, saying="the row of the survivor")
    rejects("10.6", lambda table: 0, saying="pair")


def test_reports_that_flatter_are_rejected():
    def by_its_own_pictures(hit, count):
        row = hit[:, :count].mean(1).argmax()
        return row, hit[row, :count].mean()

    def by_all_pictures(hit, count):
        row = hit[:, :count].mean(1).argmax()
        return row, hit[row].mean()

    def chosen_by_all(hit, count):
        row = hit.mean(1).argmax()
        return row, hit[row, count:].mean()

    rejects("10.7", by_its_own_pictures, saying="flatter")
    rejects("10.7", by_all_pictures, saying="flatter")
    rejects("10.7", chosen_by_all, saying="chosen by all|row")
    rejects("10.7", lambda hit, count: 0, saying="pair")
