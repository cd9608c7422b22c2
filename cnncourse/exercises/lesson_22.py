"""Exercises of lesson 22: PCA, purity, the step of CD-1, the value of the best D, a judge of copies."""

from __future__ import annotations

import numpy as np

from cnncourse.exercises import Exercise, Wrong, expect_same


def check_rebuilt(rebuilt) -> str:
    g = np.random.default_rng(1)
    for count, size, k in ((30, 6, 2), (12, 4, 1), (20, 5, 5)):
        learnt = g.normal(size=(count, size)) @ g.normal(size=(size, size)) + 5 * g.normal(
            size=size
        )
        rows = g.normal(size=(7, size)) @ g.normal(size=(size, size))
        mean, own = learnt.mean(0), rows.mean(0)
        U, _, V = np.linalg.svd(learnt - mean, full_matrices=False)
        axes, raw = V[:k], np.linalg.svd(learnt, full_matrices=False)[2][:k]
        of_rows = np.linalg.svd(rows - own, full_matrices=False)[2][:k]
        hints = [
            (rows @ raw.T @ raw, "take the mean of the learnt rows off, before the directions"),
            (
                rows @ axes.T @ axes,
                "the mean of the learnt rows comes off first, and on again last",
            ),
            ((rows - mean) @ axes.T @ axes, "put the mean on again at the end"),
            ((rows - own) @ axes.T @ axes + own, "the mean is that of the learnt rows"),
            ((rows - own) @ of_rows.T @ of_rows + own, "mean and directions come from `learnt`"),
            ((rows - mean) @ V[-k:].T @ V[-k:] + mean, "the most important directions come first"),
            ((rows - mean) @ V[:, :k] @ V[:, :k].T + mean, "the directions are the rows of Vt"),
        ]
        got = rebuilt(rows.copy(), learnt.copy(), k)
        shapes = [((7, k), "that is the code; rebuild the rows from it")]
        what = f"{k} of {size} numbers"
        expect_same(got, (rows - mean) @ axes.T @ axes + mean, what, hints, shapes=shapes)
    return "down to k numbers and back, around the mean of what was learnt"


def rebuilt(rows, learnt, k):
    mean = learnt.mean(axis=0)
    axes = np.linalg.svd(learnt - mean, full_matrices=False)[2][:k]
    return (rows - mean) @ axes.T @ axes + mean


def check_purity(purity_of) -> str:
    g = np.random.default_rng(2)
    cases = [
        (np.array([0, 0, 0, 2, 2]), np.array([1, 1, 0, 3, 3])),
        (g.integers(0, 6, 50) * 2, g.integers(0, 4, 50)),  # every other group is empty
        (np.arange(7), np.arange(7)),
    ]
    for groups, labels in cases:
        tops = [np.bincount(labels[groups == each]).max() for each in np.unique(groups)]
        shares = [
            top / (groups == each).sum() for top, each in zip(tops, np.unique(groups), strict=True)
        ]
        of_classes = [np.bincount(groups[labels == each]).max() for each in np.unique(labels)]
        hints = [
            (np.mean(shares), "each row counts once, not each group"),
            (sum(tops), "divide by the number of rows"),
            (
                sum(of_classes) / len(labels),
                "that is the largest group of each label; turn it round",
            ),
            ((groups == labels).mean(), "the number of a group is not a label"),
        ]
        expect_same(
            purity_of(groups.copy(), labels.copy()),
            sum(tops) / len(labels),
            f"purity of {len(labels)} rows",
            hints,
        )
    return "the most frequent label of each group, over all rows"


def purity_of(groups, labels):
    right = 0
    for each in np.unique(groups):
        right += np.bincount(labels[groups == each]).max()
    return right / len(labels)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def check_step(step_for_w) -> str:
    g = np.random.default_rng(3)
    for count, visible, hidden in ((5, 4, 3), (8, 3, 6)):
        v0, v1 = g.integers(0, 2, (2, count, visible)).astype(float)
        W, c = g.normal(size=(visible, hidden)), g.normal(size=hidden)
        h0, h1 = sigmoid(v0 @ W + c), sigmoid(v1 @ W + c)
        right = (v0.T @ h0 - v1.T @ h1) / count
        no_c0, no_c1 = sigmoid(v0 @ W), sigmoid(v1 @ W)
        hints = [
            (-right, "uphill: the data's part is added, the model's part comes off"),
            (right * count, "take the mean over the pictures"),
            ((v0.T @ h0 - v1.T @ h0) / count, "the model's part has the hidden chances given v1"),
            ((v0.T @ no_c0 - v1.T @ no_c1) / count, "the bias c is missing"),
            (v0.T @ h0 / count, "the model's part is missing"),
            ((v0.T @ (v0 @ W + c) - v1.T @ (v1 @ W + c)) / count, "the sigmoid is missing"),
        ]
        shapes = [((hidden, visible), "turned round: rows are visible units")]
        got = step_for_w(v0.copy(), v1.copy(), W.copy(), c.copy())
        expect_same(got, right, f"{visible} visible, {hidden} hidden units", hints, shapes=shapes)
    return "what the data have together, minus what the model has together"


def step_for_w(v0, v1, W, c):
    h0, h1 = sigmoid(v0 @ W + c), sigmoid(v1 @ W + c)
    return (v0.T @ h0 - v1.T @ h1) / len(v0)


def check_best_value(best_value) -> str:
    g = np.random.default_rng(4)
    one, other = (each / each.sum() for each in g.random((2, 9)))
    apart = np.array([0.5, 0.5, 0.0, 0.0]), np.array([0.0, 0.0, 0.25, 0.75])
    part = np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.25, 0.75])
    cases = {
        "p equal to q": (one, one),
        "p unlike q": (one, other),
        "nothing in common": apart,
        "both zero somewhere": (np.append(part[0], 0.0), np.append(part[1], 0.0)),
    }
    for what, (p, q) in cases.items():
        right = best_value(p.copy(), q.copy())
        try:
            finite = np.isfinite(float(right))
        except (TypeError, ValueError):
            raise Wrong(f"{what}: return one number, got {right!r}") from None
        if not finite:
            raise Wrong(f"{what}: got {right}; leave places out where p (or q) is 0: 0 · ln 0 is 0")
        wanted = _value(p, q)
        hints = [
            (-wanted, "V is what D wants high: the sum of the logarithms, without a minus"),
            (wanted / 2, "the two means are added, not averaged"),
            (wanted / np.log(2), "natural logarithms"),
            (-2 * np.log(2), "that is D = 1/2; the best D is p / (p + q) at each place"),
            (wanted / len(p), "the chances weigh the places: a sum, not a mean"),
            (_half(p, p + q), "the made part, q · ln(1 − D), is missing"),
        ]
        expect_same(right, wanted, what, hints)
    return "−ln 4 where the two are the same, 0 where they have nothing in common"


def _half(p, total):
    return float(sum(a * np.log(a / b) for a, b in zip(p, total, strict=True) if a > 0))


def _value(p, q):
    return _half(p, p + q) + _half(q, p + q)


def best_value(p, q):
    total, value = p + q, 0.0
    for part in (p, q):
        there = part > 0
        value += (part[there] * np.log(part[there] / total[there])).sum()
    return value


def check_suspicious(suspicious) -> str:
    g = np.random.default_rng(5)
    learnt, fresh = g.normal(size=(60, 3)), g.normal(size=(41, 3))
    cases = {
        "copies with noise": learnt[:20] + 0.01 * g.normal(size=(20, 3)),
        "fresh rows themselves": fresh,
        "made rows": 1.1 * g.normal(size=(30, 3)),
        "rows far away": g.normal(size=(10, 3)) + 20,
    }

    def to(rows, others):
        return np.linalg.norm(rows[:, None] - others, axis=2)

    for what, made in cases.items():
        near, usual = to(made, learnt).min(1), to(fresh, learnt).min(1)
        right = (near < np.median(usual)).mean()
        hints = [
            (1 - right, "closer, not farther"),
            ((to(made, learnt).mean(1) < np.median(to(fresh, learnt).mean(1))).mean(),
             "the nearest learnt row counts, not the mean of all"),
            ((to(made, fresh).min(1) < np.median(usual)).mean(), "made rows against `learnt`"),
            ((near < usual.mean()).mean(), "the median of the fresh rows, not the mean"),
            ((near < usual.min()).mean(), "the median of the fresh rows, not the smallest"),
            ((near < usual.max()).mean(), "the median of the fresh rows, not the largest"),
            ((near < np.median(usual)).sum(), "a share: divide by the number of made rows"),
        ]  # fmt: skip
        expect_same(suspicious(made.copy(), learnt.copy(), fresh.copy()), right, what, hints)
    return "copies are found, fresh rows get about one half"


def suspicious(made, learnt, fresh):
    def nearest(rows):
        return np.array([np.linalg.norm(learnt - row, axis=1).min() for row in rows])

    return (nearest(made) < np.median(nearest(fresh))).mean()


EXERCISES = [
    Exercise(
        "22.1",
        "PCA, there and back",
        (
            "Take the mean of `learnt` off both; the first k rows of Vt are the directions.",
            "code = (rows - mean) @ axes.T has shape (M, k); code @ axes + mean is the answer.",
        ),
        check_rebuilt,
        rebuilt,
    ),
    Exercise(
        "22.2",
        "Purity",
        (
            "Go through np.unique(groups); labels[groups == each] are the labels of one group.",
            "np.bincount(those).max() counts the most frequent; add up, divide by len(labels).",
        ),
        check_purity,
        purity_of,
    ),
    Exercise(
        "22.3",
        "The step of CD-1",
        (
            "h0 = sigmoid(v0 @ W + c) and h1 = sigmoid(v1 @ W + c), each (N, hidden).",
            "The data's part is v0.T @ h0 / N; the model's part, with v1 and h1, comes off.",
        ),
        check_step,
        step_for_w,
    ),
    Exercise(
        "22.4",
        "What the best D is worth",
        (
            "V is the sum of p · ln(p / (p + q)) and of q · ln(q / (p + q)).",
            "Leave out the places where p is 0: there = p > 0; p[there] * np.log(...).",
        ),
        check_best_value,
        best_value,
    ),
    Exercise(
        "22.5",
        "A judge of copies",
        (
            "np.linalg.norm(learnt - row, axis=1).min() is one row's distance to the nearest.",
            "Compare the made rows' distances with np.median of the fresh rows' distances.",
        ),
        check_suspicious,
        suspicious,
    ),
]
