"""Lesson 00: its rules against scikit-learn and algebra, its table of dates; its exercises against mistakes."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from lesson_checks import planted, rejects
from sklearn.linear_model import Perceptron

from cnncourse import exercises, lab
from cnncourse.exercises import lesson_00 as solutions

pytestmark = pytest.mark.usefixtures("in_float64")
LESSON = exercises.of_lesson("00")
SQUARE = np.array([[1, -1, -1], [1, -1, 1], [1, 1, -1], [1, 1, 1.0]])


@cache
def lesson():
    return lab.definitions("00")


class InOrder:
    """A stream whose every order is the given one."""

    @staticmethod
    def permutation(count):
        return range(count)


def cloud(seed=0, number=60, kinds=1):
    stream = np.random.default_rng(seed)
    inputs = np.column_stack([np.ones(number), stream.normal(size=(number, 4))])
    return inputs, np.where(inputs @ stream.normal(size=(5, kinds)) > 0, 1.0, -1.0)


# --- definitions ----------------------------------------------------------------------------------


def test_the_rule_is_the_perceptron_of_scikit_learn():
    inputs, targets = cloud(kinds=1)
    ours = lesson().learn(inputs, targets, 7, InOrder)
    theirs = Perceptron(max_iter=7, tol=None, shuffle=False, fit_intercept=False)
    theirs.fit(inputs, targets[:, 0])
    np.testing.assert_allclose(ours, theirs.coef_, atol=1e-12)


def test_units_learn_independently_of_each_other():
    inputs, targets = cloud(kinds=3)
    together = lesson().learn(inputs, targets, 5, InOrder)
    alone = [lesson().learn(inputs, targets[:, [k]], 5, InOrder)[0] for k in range(3)]
    np.testing.assert_array_equal(together, alone)


def test_the_delta_rule_comes_near_the_least_squared_error():
    inputs, targets = cloud(kinds=2)
    ours = lesson().learn(
        inputs, targets, 400, np.random.default_rng(0), says=lambda s: s, rate=0.002
    )
    best = np.linalg.lstsq(inputs, targets, rcond=None)[0].T
    np.testing.assert_allclose(ours, best, atol=0.02)


def test_a_sum_of_zero_says_minus_one():
    assert lesson().threshold(np.array([0.0, 1e-9, -1.0])).tolist() == [-1, 1, -1]


def test_random_units_are_fixed_by_their_stream_and_say_zero_or_one():
    rows = np.random.default_rng(1).normal(size=(30, 6))
    one, two = (lesson().random_units(rows, 9, np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert one.shape == (30, 9) and set(np.unique(one)) == {0.0, 1.0}


def test_madaline_says_truly_whether_it_learned():
    for targets in ([-1, 1, 1, -1], [1, -1, -1, 1], [-1, -1, -1, 1]):
        weights, done = lesson().madaline(SQUARE, np.array(targets), 100, np.random.default_rng(3))
        votes = np.where(SQUARE @ weights.T > 0, 1, -1).sum(1)
        assert done == (np.where(votes > 0, 1, -1) == targets).all()
        assert done


def test_the_dates_are_in_order_and_each_has_its_source():
    events = lesson().events
    years = [int(event["year"]) for event in events]
    assert years == sorted(years)
    for event in events:
        assert all(event[column] for column in ("what", "who", "source")), event
        assert None not in event, event  # a row with too many columns
    years_of = {event["what"]: event["year"] for event in events}
    assert years_of["digits of zip codes"] == "1989" and years_of["ResNet"] == "2015"
    assert years_of["Theano begins"] == "2007"


def test_the_contest_has_a_row_a_year_and_falling_errors():
    rows = lesson().contest
    assert [int(row["year"]) for row in rows] == list(range(2010, 2018))
    errors = [float(row["error"]) for row in rows]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("example", [2.0, -2.0])
def test_a_tape_computes_what_python_computes(example):
    def formula(x):
        y = x * 3.0 + 1.0
        return y * y + (2.0 * x).relu() + 0.5

    tape = lesson().record(formula, example)
    for x in (-4.0, -1.0, 0.0, 2.5):
        expected = (3 * x + 1) ** 2 + max(2 * x, 0) + 0.5
        assert lesson().replay(tape, x) == pytest.approx(expected)


def test_a_tape_keeps_the_branch_it_saw():
    leaky = lambda x: x * 1.0 if x > 0 else x * 0.1  # noqa: E731
    assert lesson().replay(lesson().record(leaky, 2.0), -2.0) == -2.0
    assert lesson().replay(lesson().record(leaky, -2.0), 2.0) == pytest.approx(0.2)


# --- exercises ------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", LESSON)
def test_the_reference_solution_is_right(id):
    exercise = LESSON[id]
    given = [getattr(lesson(), name) for name in exercise.given]
    assert exercise.check(*exercise.answers(), *given)


def passes_instead(inputs, targets, most=1000):
    return solutions._at_rest(inputs, targets, most)[1] if _rests(inputs, targets, most) else None


def _rests(inputs, targets, most):
    return solutions._at_rest(inputs, targets, most)[0] is not None


def last_pass(inputs, targets, most=1000):
    return solutions._at_rest(inputs, targets, most)[2] if _rests(inputs, targets, most) else None


def never_none(inputs, targets, most=1000):
    return solutions.corrections(inputs, targets, most) or 0


def zero_says_one(inputs, targets, most=1000):
    return solutions._at_rest(inputs, targets, most, equal_says=1.0)[0]


def weights_alone(inputs, outputs, wanted):
    return max(1, math.ceil(2 * wanted))


def numbers_for_bytes(inputs, outputs, wanted):
    return solutions.batch_of(inputs, outputs, wanted / 4)


def one_operation(inputs, outputs, wanted):
    return solutions.batch_of(inputs, outputs, 2 * wanted)


def one_too_many(inputs, outputs, wanted):
    right = solutions.batch_of(inputs, outputs, wanted)
    return None if right is None else right + 1


def mean_pace(batches, read, step, workers):
    return batches * (max(step, read / workers) if workers else read + step)


def one_reader(batches, read, step, workers):
    return batches * (max(step, read) if workers else read + step)


def always_ahead(batches, read, step, workers):
    return read + batches * step


def without_the_last(batches, read, step, workers):
    return solutions.end_of(batches, read, step, workers) - (step if workers else 0)


RIGHT = solutions.kinds_of()
MISTAKES = {
    "00.1": [
        ("these are passes", passes_instead),
        ("of one pass", last_pass),
        ("expected None", never_none),
        ("says -1, not", zero_says_one),
        ("got None", lambda inputs, targets, most=1000: None),
    ],
    "00.2": [
        ("three triples", lambda: ((1, 1), (1, -1), (1, 1))),
        ("no third unit can tell them apart", lambda: ((1, 1, 1), (1, 1, 1), (-1, 1, 1))),
        ("expected 1", lambda: ((1, 1, 1), (1, -1, -1), (-3, 1, 1))),
        ("expected -1", lambda: ((1, 1, 1), (1, -1, -1), (1, 1, 1))),
    ],
    "00.3": [
        ("2 more are wrong", {1998: 1989}),
        ("is right as it stands", {1986: 1970}),
        ("when did the work begin", {1998: 1989, 2010: 2008 + 1, 2014: 2015}),
        ("which year has digits", {1998: 1980}),
        ("does not stand in the text", {1989: 1998}),
        ("expected a dictionary", [1989, 2007, 2015]),
    ],
    "00.4": [
        ("not the weights alone", weights_alone),
        ("4 bytes", numbers_for_bytes),
        ("two operations", one_operation),
        ("one row fewer is enough", one_too_many),
    ],
    "00.5": [
        ("first step must wait", mean_pace),
        ("several workers read", one_reader),
        ("nothing is read while", always_ahead),
        ("takes its time", without_the_last),
        ("read while the step computes", lambda b, r, s, w: b * (r + s)),
    ],
    "00.7": [
        ("still missing", {"spam": "classification"}),
        ("it is a number", RIGHT | {"rent": "classification"}),
        ("groups are to be found", RIGHT | {"articles": "classification"}),
        ("is none of the examples", RIGHT | {"mail": "classification"}),
        ("is none of", RIGHT | {"pump": "supervised"}),
    ],
}


@planted(MISTAKES)
def test_a_mistake_is_refused_with_words_that_help(id, answer, words):
    rejects(id, answer, saying=words)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("one branch only", lambda x: x if x > 0 else 0.1 * x),
        ("below 0 a tenth", lambda x: x.relu() * 1.0),
        ("1.1 x", lambda x: 0.1 * x + 1.0 * x.relu()),
    ],
)
def test_a_function_that_cannot_be_recorded_is_refused(words, answer):
    rejects("00.6", answer, lesson().record, lesson().replay, saying=words)


def test_another_right_answer_counts():
    assert LESSON["00.2"].check(lambda: ((-1, 1, -1), (-1, -1, 1), (1, 1, 1)))  # a only, b only
    assert LESSON["00.3"].check({1998: 1989, 2010: 2008, 2014: 2015})
