"""Exercises of lesson 00: Rosenblatt's rule at rest, XOR by hand, dates, batches, readers, tapes, kinds of tasks."""

from __future__ import annotations

import math

import numpy as np

from cnncourse.exercises import Exercise, Wrong, expect_same

# --- 00.1 -------------------------------------------------------------------------------------------------------------


def _points(rows, says) -> tuple[np.ndarray, np.ndarray]:
    rows = np.array(rows, dtype=float)
    return np.column_stack([np.ones(len(rows)), rows]), np.array(says, dtype=float)


SQUARE = [[-1, -1], [-1, 1], [1, -1], [1, 1]]


def check_corrections(corrections) -> str:
    stream = np.random.default_rng(2)
    cloud = stream.normal(size=(40, 3))
    cloud = cloud[np.abs(cloud[:, 0] - 0.5 * cloud[:, 2]) > 0.2]
    cases = (
        ("points on two sides of a plane", *_points(cloud, np.sign(cloud[:, 0] - 0.5 * cloud[:, 2])), 1000),
        ("AND of two inputs", *_points(SQUARE, [-1, -1, -1, 1]), 1000),
        ("inputs that should all say -1", *_points(SQUARE, [-1, -1, -1, -1]), 1000),
        ("XOR, which is never learned", *_points(SQUARE, [-1, 1, 1, -1]), 50),
        ("AND with most=1, too few passes", *_points(SQUARE, [-1, -1, -1, 1]), 1),
    )  # fmt: skip
    for what, inputs, targets, most in cases:
        expected, passes, last = _at_rest(inputs, targets, most)
        arguments = () if most == 1000 else (most,)
        answer = corrections(inputs.copy(), targets.copy(), *arguments)
        if expected is None:
            if answer is not None:
                raise Wrong(
                    f"{what}: expected None, got {answer!r}; every pass corrected something"
                )
            continue
        if answer is None:
            raise Wrong(
                f"{what}: expected {expected} corrections, got None; does each correction change the weights at once, "
                "and does a pass without any end the search?"
            )
        expect_same(
            answer,
            expected,
            what,
            hints=[
                (passes, "these are passes; asked is how many corrections"),
                (passes - 1, "these are passes; asked is how many corrections"),
                (last, "these are the corrections of one pass; add up those of all"),
                (_at_rest(inputs, targets, most, equal_says=1.0)[0] or -1, "a sum of 0 says -1, not +1"),
            ],
        )  # fmt: skip
    return "it rests where a line separates the two kinds, and never on XOR"


def _at_rest(inputs, targets, most, equal_says=-1.0):
    """Corrections in all (None if it never rests), passes, corrections of the last pass that had any."""
    weights, count, last = np.zeros(inputs.shape[1]), 0, 0
    for done in range(1, most + 1):
        corrected = 0
        for row, target in zip(inputs, targets, strict=True):
            total = weights @ row
            said = equal_says if total == 0 else math.copysign(1, total)
            if said != target:
                weights = weights + target * row
                corrected += 1
        count += corrected
        if not corrected:
            return count, done, last
        last = corrected
    return None, most, last


def corrections(inputs, targets, most=1000):
    weights, count = np.zeros(inputs.shape[1]), 0
    for _ in range(most):
        before = count
        for row, target in zip(inputs, targets, strict=True):
            said = 1 if weights @ row > 0 else -1
            if said != target:
                weights = weights + target * row
                count += 1
        if count == before:  # a whole pass without a correction
            return count
    return None


# --- 00.2 -------------------------------------------------------------------------------------------------------------


def check_xor(xor_by_hand) -> str:
    answer = xor_by_hand()
    try:
        weights = np.array(answer, dtype=float)
    except (TypeError, ValueError):
        weights = np.zeros(0)
    if weights.shape != (3, 3):
        raise Wrong(f"expected three triples of weights, got {answer!r}")
    heard = set()
    for a, b in SQUARE:
        first, second = (_says(unit, a, b) for unit in weights[:2])
        said, wanted = _says(weights[2], first, second), 1 if a != b else -1
        heard.add((first, second, wanted))
        if said != wanted:
            clash = (first, second, -wanted) in heard
            more = (
                "; an earlier point with the other answer gave the same two, so no third unit can tell them apart"
                if clash
                else ""
            )
            raise Wrong(
                f"for ({a}, {b}) the first two say {first} and {second}, and the third says {said}, expected {wanted}"
                f"{more}"
            )
    return "two units ask 'at least one?' and 'not both?', the third asks for both answers"


def _says(unit, a, b) -> int:
    return 1 if unit[0] + unit[1] * a + unit[2] * b > 0 else -1


def xor_by_hand():
    at_least_one = (1, 1, 1)  # -1 only for (-1, -1)
    not_both = (1, -1, -1)  # -1 only for (1, 1)
    both_say_yes = (-1, 1, 1)
    return at_least_one, not_both, both_say_yes


# --- 00.3 -------------------------------------------------------------------------------------------------------------

WRITTEN = (1980, 1986, 1998, 2010, 2012, 2014, 2017)


def check_years(years) -> str:
    if not isinstance(years, dict):
        raise Wrong(f"expected a dictionary from the wrong year to the right one, got {years!r}")
    right = {1998: (1989,), 2010: (2007, 2008), 2014: (2015,)}
    for wrong, given in years.items():
        if wrong not in WRITTEN:
            raise Wrong(f"{wrong} does not stand in the text; keys are the years as written there")
        if wrong not in right:
            raise Wrong(f"{wrong} is right as it stands")
        if given not in right[wrong]:
            about = {
                1998: "which year has digits of zip codes?",
                2010: "when did the work begin, not the paper appear?",
                2014: "look for ResNet in `events`",
            }
            raise Wrong(f"{wrong} is wrong, but not to be replaced by {given}: {about[wrong]}")
    if len(years) < len(right):
        raise Wrong(f"{len(years)} found, {len(right) - len(years)} more are wrong")
    return "1989, 2007 and 2015; a paper's year is not the year in which the thing began"


def years() -> dict:
    return {1998: 1989, 2010: 2007, 2014: 2015}


# --- 00.4 -------------------------------------------------------------------------------------------------------------


def check_batch(smallest_batch) -> str:
    for inputs, outputs, wanted in (
        (1024, 1024, 100), (4096, 4096, 10), (64, 10, 2), (1000, 10, 1), (512, 512, 0.25), (100, 100, 50),
        (2, 2, 0.5),
    ):  # fmt: skip
        what = f"smallest_batch({inputs}, {outputs}, {wanted})"
        answer, expected = (
            smallest_batch(inputs, outputs, wanted),
            batch_of(inputs, outputs, wanted),
        )
        if expected is None:
            if answer is not None:
                raise Wrong(
                    f"{what}: expected None, got {answer!r}; even with endless rows there are fewer operations a byte"
                )
            continue
        if answer is None:
            raise Wrong(f"{what}: expected {expected}, got None")
        area = inputs * outputs
        others = {
            batch_of(inputs, outputs, 2 * wanted): "a multiplication and an addition are two operations",
            batch_of(inputs, outputs, wanted / 4): "a number has 4 bytes",
            math.ceil(2 * wanted): "the rows and the results move too, not the weights alone",
            expected - 1: "with one row fewer it is not quite enough",
            expected + 1: "one row fewer is enough",
        }  # fmt: skip
        without_results = 2 * area - 4 * wanted * inputs
        if without_results > 0:
            others[math.ceil(4 * wanted * area / without_results)] = "the results are written, too"
        expect_same(answer, expected, what, hints=[(n, words) for n, words in others.items() if n])
    return "a single row does half an operation for each byte; a batch uses each weight many times"


def batch_of(inputs, outputs, wanted):
    """2 · batch · area >= wanted · 4 · (area + batch · (inputs + outputs)), solved for batch."""
    area = inputs * outputs
    gained = 2 * area - 4 * wanted * (inputs + outputs)  # by each row
    if gained <= 0:
        return None
    batch = max(1, math.ceil(4 * wanted * area / gained))
    return batch if batch <= 1_000_000 else None


# --- 00.5 -------------------------------------------------------------------------------------------------------------


def check_finished(finished) -> str:
    for batches, read, step, workers in (
        (10, 2.0, 3.0, 0), (10, 4.0, 3.0, 2), (10, 2.0, 3.0, 1), (10, 9.0, 2.0, 2), (7, 9.0, 2.0, 3), (1, 5.0, 1.0, 4),
        (5, 6.0, 1.0, 2),
    ):  # fmt: skip
        what = f"finished({batches}, {read}, {step}, {workers})"
        expected = end_of(batches, read, step, workers)
        hints = [(batches * (read + step), "the workers read while the step computes")]
        if workers:
            busy = max(step, read / workers)
            hints += [
                (batches * busy, "the first step must wait for its batch"),
                (batches * max(step, read), "several workers read at the same time"),
                (end_of(batches, read, step, workers) - step, "the last step takes its time, too"),
                (read + batches * busy, "a step waits for its own batch, which is not the same as the mean pace"),
            ]  # fmt: skip
        else:
            hints = [
                (batches * max(read, step), "without workers nothing is read while the step computes"),
                (read + batches * step, "without workers nothing is read while the step computes"),
            ]  # fmt: skip
        expect_same(finished(batches, read, step, workers), expected, what, hints=hints)
    return "from a certain number of workers on, only the first batch is waited for"


def end_of(batches, read, step, workers):
    """Each step begins when the one before is done and its batch is there."""
    end = 0.0
    for k in range(batches):
        there = read * (k // workers + 1) if workers else end + read
        end = max(end, there) + step
    return end


# --- 00.6 -------------------------------------------------------------------------------------------------------------


def check_leaky(function, record, replay) -> str:
    for example in (2.0, -2.0):
        tape = record(function, example)
        if not tape or tape[0][0] != "input":
            raise Wrong("the tape is empty: x must be used")
        for number in (3.0, -2.0, 0.0, -10.0, 0.5):
            right = number if number > 0 else 0.1 * number
            hints = [(number, "one branch only; is there still an if, or a > ?")]
            hints += [(0.1 * number, "one branch only; is there still an if, or a > ?")]
            hints += [(max(number, 0.0), "below 0 a tenth is left")]
            hints += [(1.1 * number, "above 0 it is x itself, not 1.1 x")] * (number > 0)
            expect_same(
                replay(tape, number),
                right,
                f"recorded with {example:g}, run with {number:g}",
                hints=hints,
                tolerance=1e-9,
            )
    return "both branches are computed each time, and added; torch.where does the same"


def leaky_without_if(x):
    """Above 0: 0.1 x + 0.9 x; below: 0.1 x + 0."""
    return 0.1 * x + 0.9 * x.relu()


# --- 00.7 -------------------------------------------------------------------------------------------------------------

KINDS = ("classification", "regression", "clustering", "anomaly detection", "reinforcement")
WHY = {
    "spam": "each e-mail is marked with one of two classes",
    "rent": "the answer is given, and it is a number",
    "articles": "nobody has named the themes: groups are to be found",
    "pump": "there are only healthy examples; what differs is to be noticed",
    "chess": "a reward comes after many moves",
    "age": "the answer is given; is it one of a few classes, or a number?",
}


def check_kinds(kinds) -> str:
    if not isinstance(kinds, dict):
        raise Wrong(f"expected a dictionary from the example to its kind, got {kinds!r}")
    for example, kind in kinds.items():
        if example not in WHY:
            raise Wrong(f"{example!r} is none of the examples {', '.join(WHY)}")
        if kind not in KINDS:
            raise Wrong(f"{example}: {kind!r} is none of {', '.join(KINDS)}")
        if kind != kinds_of()[example]:
            raise Wrong(f"{example} is not {kind}: {WHY[example]}")
    if missing := [example for example in WHY if example not in kinds]:
        raise Wrong(f"still missing: {', '.join(missing)}")
    return "what is given decides: classes, numbers, nothing, or a reward at the end"


def kinds_of() -> dict:
    return {
        "spam": "classification", "rent": "regression", "articles": "clustering",
        "pump": "anomaly detection", "chess": "reinforcement", "age": "regression",
    }  # fmt: skip


EXERCISES = [
    Exercise(
        "00.1",
        "When the rule comes to rest",
        (
            "One loop over passes, in it one loop over the rows; count within the inner one.",
            "A correction is weights + target * row: the half of the error is +1 or -1.",
            "Remember the count before a pass; if it is the same after it, return it.",
        ),
        check_corrections,
        corrections,
    ),
    Exercise(
        "00.2",
        "XOR by hand",
        (
            "'They differ' is the same as 'at least one, and not both'.",
            "(1, 1, 1) says +1 unless both inputs are -1. What says +1 unless both are +1?",
            "The third unit says +1 only if both units before it do: AND.",
        ),
        check_xor,
        xor_by_hand,
    ),
    Exercise(
        "00.3",
        "Three wrong years",
        (
            "for event in events: print(event['year'], event['what'])",
            "Zip codes, Theano and ResNet each stand in it with another year than in one of the sentences.",
        ),
        check_years,
        years,
        returns_answer=True,
    ),
    Exercise(
        "00.4",
        "How large must a batch be?",
        (
            "Operations: 2 * batch * inputs * outputs.",
            "Bytes: 4 * (inputs * outputs + batch * inputs + batch * outputs).",
            "Each further row brings 2 * inputs * outputs operations and wants 4 * wanted * (inputs + outputs) more.",
        ),
        check_batch,
        batch_of,
    ),
    Exercise(
        "00.5",
        "When is the last step done?",
        (
            "Batch k is the (k // workers + 1)-th that its worker reads.",
            "A step begins at the later of two times: the step before is done; its batch is there.",
        ),
        check_finished,
        end_of,
    ),
    Exercise(
        "00.6",
        "A function that can be recorded",
        (
            "x.relu() is x above 0 and nothing below. What must be added above 0, what below?",
            "Below 0 it is a tenth of x; above 0 nine tenths are missing.",
        ),
        check_leaky,
        leaky_without_if,
        given=("record", "replay"),
    ),
    Exercise(
        "00.7",
        "Kinds of tasks",
        (
            "Ask first: are answers given? If so, is the answer a class or a number?",
            "No answers: groups are clustering, what differs is anomaly detection; a reward is reinforcement.",
        ),
        check_kinds,
        kinds_of,
        returns_answer=True,
    ),
]
