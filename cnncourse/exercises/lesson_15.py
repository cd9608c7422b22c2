"""Exercises of lesson 15: budgets, fire modules, highway layers, fair comparisons, dropped layers."""

from __future__ import annotations

from numbers import Integral

import numpy as np

from cnncourse.exercises import Exercise, Wrong, expect_pair, expect_same


def check_within(within) -> str:
    nets = [
        ("a", 61, 0.7, 56.5),
        ("b", 1.2, 0.8, 58.1),
        ("c", 25, 4.1, 76.1),
        ("d", 6.6, 1.5, 69.8),
        ("e", 11, 1.8, 69.8),
        ("f", 138, 15.5, 71.6),
    ]
    cases = (
        (30, 5, "c", "all that fit both limits"),
        (30, 2, "d", "of equal accuracies fewer multiply-adds"),
        (5, 20, "b", "parameters bind"),
        (200, 0.7, "a", "a limit that is just met"),
        (0.5, 0.1, None, "nothing fits: None"),
        (20, 4.1, "d", "both limits bind"),
    )
    for order in (nets, nets[::-1]):
        for parameters, work, wanted, what in cases:
            got = within(list(order), parameters, work)
            if got == wanted:
                continue
            if isinstance(got, tuple | list):
                raise Wrong(f"return the name alone, got {got!r}")
            raise Wrong(
                f"at most {parameters} parameters and {work} multiply-adds ({what}): expected {wanted!r}, got {got!r}"
            )
    return "a budget first, then the accuracy"


def within(nets, parameters, multiply_adds):
    fitting = [net for net in nets if net[1] <= parameters and net[2] <= multiply_adds]
    if not fitting:
        return None
    return max(fitting, key=lambda net: (net[3], -net[2]))[0]


def check_fire_parameters(fire_parameters) -> str:
    for channels, squeeze, expand in ((96, 16, 64), (128, 32, 128), (512, 64, 256), (3, 2, 5)):
        weights = channels * squeeze + squeeze * expand + 9 * squeeze * expand
        right = weights + squeeze + 2 * expand
        hints = [
            (weights, "the biases are missing: one for each channel that is put out"),
            (
                channels * squeeze + squeeze + 10 * channels * expand + 2 * expand,
                "the expanding convolutions read the squeezed channels, not the input",
            ),
            (
                channels * squeeze + squeeze + squeeze * expand + 9 * expand * expand + 2 * expand,
                "the 3x3 stands beside the 1x1 and reads the squeezed channels too",
            ),
            (right - expand, "both expansions have biases"),
            (right - 6 * squeeze * expand, "a 3x3 kernel has 9 weights for each pair of channels"),
        ]
        expect_same(
            fire_parameters(channels, squeeze, expand),
            right,
            f"{channels} -> {squeeze} -> {expand} + {expand}",
            hints=hints,
        )
    return "fire2 of SqueezeNet has 11,920"


def fire_parameters(channels, squeeze, expand):
    squeezing = channels * squeeze + squeeze
    return squeezing + squeeze * expand + expand + 9 * squeeze * expand + expand


def check_highway(highway) -> str:
    g = np.random.default_rng(3)
    for bias in (-2.0, 0.0, 1.5):
        x, W, V = g.normal(size=(7, 5)), g.normal(size=(5, 5)), g.normal(size=(5, 5))
        b, c = g.normal(size=5), g.normal(size=5) + bias
        y, share = expect_pair(
            highway(x.copy(), W.copy(), b.copy(), V.copy(), c.copy()), "y", "share"
        )
        h, t = np.maximum(x @ W + b, 0), 1 / (1 + np.exp(-(x @ V + c)))
        hints = [
            (t * x + (1 - t) * h, "the gate is turned round: T belongs to H, 1 - T to x"),
            (t * h + x, "x passes whole; the gate lets only 1 - T of it pass"),
            (t * (x @ W + b) + (1 - t) * x, "H has a ReLU"),
            (h, "that is the plain layer"),
            ((x @ V + c) * (h - x) + x, "the gate needs its sigmoid"),
        ]
        expect_same(y, t * h + (1 - t) * x, f"y at a gate bias of about {bias:g}", hints=hints)
        hints = [
            (t.mean(), "that is the mean of T; asked is the share above one half"),
            ((t > 0.5).sum(), "that is a number, not a share"),
        ]
        expect_same(share, (t > 0.5).mean(), f"the share at about {bias:g}", hints=hints)
    return "with a negative bias most gates begin closed"


def highway(x, W, b, V, c):
    h = np.maximum(x @ W + b, 0)
    t = 1 / (1 + np.exp(-(x @ V + c)))
    return t * h + (1 - t) * x, (t > 0.5).mean()


def check_fair(fair) -> str:
    lucky = np.array([[0.5, 0.5, 0.4, 0.4], [0.4, 0.4, 0.6, 0.6], [2.3, 2.3, 0.1, 0.1]])
    broken = np.array([[1.0, 1.2, 1.1], [0.2, np.nan, 0.3], [0.9, 0.8, 0.7]])
    lost = np.array([[2.0, np.nan, 1.1], [0.1, np.nan, 0.3], [0.9, 0.8, 0.7]])
    single = np.array([[0.1, 0.9, 0.5], [0.3, 0.3, 0.4]])
    g = np.random.default_rng(5)
    cases = (
        ("one lucky seed among those that choose", single, 2),
        ("the judges would choose another row", lucky, 2),
        ("a seed ends as nan at two rates", lost, 2),
        ("one seed ends as nan", broken, 2),
        ("random losses", g.random((5, 6)), 3),
    )
    for what, table, count in cases:
        row, value = expect_pair(fair(table.copy(), count), "row", "loss")
        if not isinstance(row, Integral):
            raise Wrong(f"{what}: the row comes first, a whole number; got {row!r}")
        means = np.nan_to_num(table[:, :count].mean(1), nan=np.inf)
        right = int(means.argmin())
        everyone = np.nan_to_num(table.mean(1), nan=np.inf)
        hints = [
            (int(table[:, :count].mean(1).argmin()), "argmin takes nan for the smallest"),
            (
                int(np.nanmean(table[:, :count], axis=1).argmin()),
                "a rate at which a seed is lost is not a good rate: nan counts as infinity",
            ),
            (int(everyone.argmin()), "that one was chosen by all seeds, the judges too"),
            (
                int(np.nan_to_num(table[:, :count].min(1), nan=np.inf).argmin()),
                "that row has the lowest single loss; asked is the lowest mean",
            ),
        ]
        expect_same(int(row), right, f"{what}: the row", hints=hints)
        hints = [
            (means[right], "those seeds chose it, so they flatter it"),
            (table[right].mean(), "the seeds that chose it are among these"),
        ]
        expect_same(value, table[right, count:].mean(), f"{what}: the mean", hints=hints)
    return "chosen by some seeds, judged by others"


def fair(table, count):
    means = np.nan_to_num(table[:, :count].mean(1), nan=np.inf)
    row = means.argmin()
    return row, table[row, count:].mean()


def check_deep_or_not(deep_or_not) -> str:
    x, branch = np.array([1.0, -2.0, 0.5]), np.array([3.0, 1.0, -4.0])
    for survival in (0.5, 0.8, 1.0):
        for training in (True, False):
            for lives in (True, False):
                if not training:
                    right = x + branch
                else:
                    right = x + branch / survival if lives else x
                what = f"survival {survival}, lives {lives}, training {training}"
                hints = [(np.maximum(right, 0), "the sum alone is asked, without a ReLU")]
                if training:
                    hints.append((x, "this branch lives: it is added, divided by its probability"))
                    hints.append((x + branch / survival, "this branch is dropped: x alone passes"))
                    hints.append((x + branch, "in training divide the survivor by its probability"))
                    hints.append(
                        (x + survival * branch, "times survival is the paper's test; divide here")
                    )
                else:
                    hints.append((x, "in the test every branch is used, whatever `lives` says"))
                    hints.append(
                        (x + survival * branch, "scaled twice: training has divided already")
                    )
                    hints.append((x + branch / survival, "in the test the branch is used as it is"))
                got = deep_or_not(x.copy(), branch.copy(), survival, lives, training)
                expect_same(got, right, what, hints=hints)
    return "the mean over draws in training is the output of the test"


def deep_or_not(x, branch, survival, lives, training):
    if not training:
        return x + branch
    return x + branch / survival if lives else x


EXERCISES = [
    Exercise(
        "15.1",
        "The best within a budget",
        (
            "First keep what fits: both numbers at most the limits. If nothing is left, return None.",
            "max(fitting, key=lambda net: (net[3], -net[2])) compares accuracies, then less work.",
        ),
        check_within,
        within,
    ),
    Exercise(
        "15.2",
        "Parameters of a fire module",
        (
            "Three convolutions: C -> s by 1x1, s -> e by 1x1, s -> e by 3x3.",
            "Each has (kernel's weights) x (channels in) x (channels out), and a bias for each channel out.",
        ),
        check_fire_parameters,
        fire_parameters,
    ),
    Exercise(
        "15.3",
        "A highway layer",
        (
            "h = np.maximum(x @ W + b, 0); the sigmoid is 1 / (1 + np.exp(-z)).",
            "T chooses H, 1 - T chooses x. The share: (t > 0.5).mean().",
        ),
        check_highway,
        highway,
    ),
    Exercise(
        "15.4",
        "A fair comparison",
        (
            "table[:, :count].mean(1) is one mean a rate; nan stays nan.",
            "np.nan_to_num(means, nan=np.inf) makes nan the worst; then argmin.",
        ),
        check_fair,
        fair,
    ),
    Exercise(
        "15.5",
        "A branch that may be dropped",
        (
            "The test comes first: x + branch, whatever lives says.",
            "In training: x + branch / survival if it lives, else x.",
        ),
        check_deep_or_not,
        deep_or_not,
    ),
]
