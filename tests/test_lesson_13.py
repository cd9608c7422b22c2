"""Lesson 13: its modules against the package's and torch's, its exercises against planted mistakes."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from lesson_checks import planted, rejects
from torch import nn

from cnncourse import cost, exercises, lab, models
from cnncourse.exercises import lesson_13 as solutions
from cnncourse.models.inception_2014 import TABLE
from cnncourse.models.inception_2014 import Inception as PackageInception

lesson = lab.definitions("13")
LESSON = exercises.of_lesson("13")


# The lesson's definitions


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_multiply_adds_are_those_of_a_traced_layer(kernel):
    layer = nn.Conv2d(6, 4, kernel, padding=kernel // 2)
    traced = cost.table(layer, (6, 9, 9)).multiply_adds
    assert lesson.multiply_adds(9, kernel, 6, 4) == traced


def test_the_module_computes_what_the_package_s_does(in_float64):
    ours, theirs = lesson.Inception(8, 4, 3, 5, 2, 6, 3), PackageInception(8, 4, 3, 5, 2, 6, 3)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.randn(2, 8, 6, 6)
    assert torch.allclose(ours(x), theirs(x))


def test_the_naive_module_passes_its_input_s_channels_on():
    module = lesson.Naive(8, 4, 5, 6)
    y = module(x := torch.rand(1, 8, 6, 6))
    assert y.shape == (1, 4 + 5 + 6 + 8, 6, 6)
    assert torch.equal(y[:, -8:], F.max_pool2d(x, 3, 1, 1))


def test_a_pruned_looking_rank_keeps_the_largest_variance_first():
    values = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)).double()
    values[:, 2] *= 10
    best, share = lesson.best_mixtures(values, 1)
    assert best[:, 0].abs().argmax() == 2
    assert share == pytest.approx(100 / 103, abs=0.03)


def test_the_table_of_the_package_counts_as_the_exercise_does():
    with torch.device("meta"):
        network = models.googlenet_2014()
    costs = cost.table(network, (3, 224, 224)).grouped()
    depth = 192
    for row, widths in TABLE.items():
        side = {"3": 28, "4": 14, "5": 7}[row[0]]
        ours = solutions.module_cost(side, depth, *widths)
        assert ours == costs[f"inception{row}"].multiply_adds
        depth = widths[0] + widths[2] + widths[4] + widths[5]


# The exercises


@pytest.mark.parametrize("id", LESSON)
def test_the_reference_solution_is_right(id):
    exercise = LESSON[id]
    assert exercise.check(*exercise.answers())


def test_answers_of_other_kinds_are_right_too():
    assert "144" in LESSON["13.5"].check(lambda *size: solutions.crop_places_of(*size)[::-1])
    array = LESSON["13.6"].check(lambda labels, k, e=0.1: solutions.smoothed(labels, k, e).numpy())
    assert "0.9001" in array
    assert "5b has 48" in LESSON["13.3"].check(46)
    slow = LESSON["13.1"].check(
        lambda k, i, o: max([r for r in range(1, i) if r * (i + k * k * o) < k * k * i * o] or [0])
    )
    assert "seven cases" in slow


WIDEST, COST, HEADS = solutions.widest_reduction, solutions.module_cost, solutions.heads_loss


def test_smoothed_targets_of_float32_are_right():
    assert LESSON["13.6"].check(lambda labels, k, e=0.1: solutions.smoothed(labels, k, e).float())


def test_whoever_expects_two_heads_is_told_that_any_number_may_come():
    def two(outputs, labels, weight=0.3):
        losses = [F.cross_entropy(outputs[place], labels) for place in (0, 1, 2)]
        return losses[0] + weight * (losses[1] + losses[2])

    rejects("13.4", two, saying="any number of heads")


def test_cross_entropy_with_smoothed_targets_is_torchs_label_smoothing():
    for classes, smoothing in ((4, 0.1), (2, 0.5), (1000, 0.1)):
        logits, labels = torch.randn(6, classes).double(), torch.randint(classes, (6,))
        ours = F.cross_entropy(logits, solutions.smoothed(labels, classes, smoothing))
        assert torch.isclose(ours, F.cross_entropy(logits, labels, label_smoothing=smoothing))


PLACES, SMOOTHED = solutions.crop_places_of, solutions.smoothed


def counted(side, c, n1, r3, n3, r5, n5, pool, *, nine=9, ones=(1, 1, 1, 1), double=0):
    """The cost of a module with one thing wrong."""
    a, b, d, e = ones
    first = c * (a * n1 + b * r3 + d * r5 + e * pool)
    return side**2 * (first + (1 + double) * nine * r3 * n3 + 25 * r5 * n5)


def wrong_cost(**change):
    return lambda *widths: counted(*widths, **change)


def transposed(height, width, side=224):
    return [(left, top, size) for top, left, size in PLACES(height, width, side)]


def mean_of_losses(outputs, labels, weight=0.3):
    if isinstance(outputs, torch.Tensor):
        return F.cross_entropy(outputs, labels)
    return HEADS(outputs, labels, weight) / (1 + weight * (len(outputs) - 1))


def heads_only(outputs, labels, weight=0.3):
    return HEADS(outputs, labels, weight) - F.cross_entropy(outputs[0], labels)


def one_hot(labels, classes):
    return F.one_hot(labels, classes).double()


def spared(labels, classes, e=0.1):
    hot = one_hot(labels, classes)
    return (1 - e) * hot + e / (classes - 1) * (1 - hot)


WRONG = {
    "13.1": [
        ("whole number below", lambda k, i, o: k * k * i * o / (i + k * k * o)),
        ("one channel more", lambda k, i, o: WIDEST(k, i, o) + 1),
        ("exactly as much", lambda k, i, o: k * k * i * o // (i + k * k * o)),
        ("kernel \\* kernel taps", lambda k, i, o: k * i * o // (i + k * o)),
        ("costs too", lambda k, i, o: i),
        ("expected 154", lambda k, i, o: 0),
        ("expected numbers", lambda k, i, o: "154"),
    ],
    "13.2": [
        ("counted twice", wrong_cost(double=1)),
        ("behind the pooling", wrong_cost(ones=(1, 1, 1, 0))),
        ("1×1 alone", wrong_cost(ones=(0, 1, 1, 1))),
        ("two reductions", wrong_cost(ones=(1, 0, 0, 1))),
        ("one pixel", lambda side, *widths: COST(1, *widths)),
        ("counts once", lambda *widths: 2 * COST(*widths)),
        ("not those that came in", lambda s, c, n1, r3, n3, r5, n5, p: s * s * c * (n1 + 9 * n3 + 25 * n5 + p)),
        ("nine taps", lambda s, c, n1, r3, n3, r5, n5, p: s * s * (c * (n1 + r3 + r5 + p) + 3 * r3 * n3 + 5 * r5 * n5)),
        ("expected", wrong_cost(nine=8)),
    ],
    "13.3": [
        ("what the table has", 32),
        ("not 54", 64),
        ("not 54", 24),
        ("whole number", "48"),
        ("whole number", 48.5),
        ("at least one", 0),
    ],
    "13.4": [
        ("heads are missing", lambda o, y, w=0.3: F.cross_entropy(o if torch.is_tensor(o) else o[0], y)),
        ("where is weight", lambda o, y, w=0.3: HEADS(o, y, 1.0)),
        ("is an argument", lambda o, y, w=0.3: HEADS(o, y)),
        ("not averaged", mean_of_losses),
        ("not all of them together", lambda o, y, w=0.3: HEADS(o, y, w / max(len(o) - 1, 1))),
        ("loss of the logits is missing", heads_only),
        ("isinstance", lambda o, y, w=0.3: HEADS((o[0], *o[1:]), y, w)),
        ("expected numbers", lambda o, y, w=0.3: "loss"),
    ],
    "13.5": [
        ("18 triples, got 15", lambda *size: [p for p in PLACES(*size) if p[2] != min(size[:2])]),
        ("beyond the picture.*top comes first", transposed),
        ("is missing", lambda *size: [PLACES(*size)[0]] * 18),
        ("whole square", lambda *size: [(t, left, min(s, 224)) for t, left, s in PLACES(*size)]),
        ("too often|is missing", lambda *size: PLACES(*size)[:17] + PLACES(*size)[:1]),
        ("18 triples", lambda *size: 144),
        ("triples of whole numbers", lambda *size: [(t + 0.5, left, s) for t, left, s in PLACES(*size)]),
        ("triples of whole numbers", lambda *size: [p[:2] for p in PLACES(*size)]),
    ],
    "13.6": [
        ("the right one among them", spared),
        ("plain targets", lambda y, k, e=0.1: one_hot(y, k)),
        ("add up to 1", lambda y, k, e=0.1: one_hot(y, k) + e / k),
        ("shared by K", lambda y, k, e=0.1: (1 - e) * one_hot(y, k) + e),
        ("exchanged", lambda y, k, e=0.1: SMOOTHED(y, k, 1 - e)),
        ("is an argument", lambda y, k, e=0.1: SMOOTHED(y, k)),
        ("a row for each label", lambda y, k, e=0.1: SMOOTHED(y, k, e).T),
        ("expected", lambda y, k, e=0.1: SMOOTHED(y, k, e) + 1),
    ],
}  # fmt: skip


@planted(WRONG)
def test_a_wrong_answer_is_rejected_with_what_went_wrong(id, answer, words):
    rejects(id, answer, saying=words)


def test_the_chain_has_heads_while_it_trains_and_none_after(in_float64):
    lesson_names = vars(lesson)
    lesson_names.update(few=torch.zeros(4, 1, 8, 8), width=6, layers=8, classes=3)
    chain = lesson.Chain(2, (4, 6))
    images = torch.randn(5, 1, 8, 8)
    assert [tuple(answer.shape) for answer in chain.train()(images)] == [(5, 3)] * 3
    assert chain.eval()(images).shape == (5, 3)
    assert chain.steps[0].weight.std().item() == pytest.approx(math.sqrt(2 / 64), rel=0.2)
