"""Exercises of lesson 02: means as a matrix, a loss that survives, a slope, the cheapest weights, blind features."""

from __future__ import annotations

import numpy as np

from cnncourse.exercises import Exercise, Wrong, expect_same


def check_nearest_mean_matrix(nearest_mean_matrix) -> str:
    generator = np.random.default_rng(0)
    labels = generator.permutation(np.repeat([0, 1, 2], [4, 9, 6]))
    rows = generator.normal(size=(19, 5)) + 3 * np.eye(3, 5)[labels] * [1, 2, 4, 1, 1]
    means = np.stack([rows[labels == c].mean(axis=0) for c in range(3)])
    squares = (means**2).sum(axis=1, keepdims=True)

    def matrix(bias, weights=means):
        return np.hstack([weights, bias])

    W = nearest_mean_matrix(rows.copy(), labels.copy())
    if isinstance(W, tuple):
        raise Wrong(
            "a tuple came back: one matrix W (C, D + 1) is asked for, the bias its last column"
        )
    W = np.asarray(W)
    if W.shape != (3, 6):
        if W.shape == (6, 3):
            raise Wrong("W has the shape (6, 3): a class is a row, so transpose it")
        if W.shape == (3, 5):
            raise Wrong("W has the shape (3, 5): the last column, for the bias, is missing")
        if W.shape == (10, 6):
            raise Wrong("W has ten rows; C, the number of classes, is labels.max() + 1, here 3")
        raise Wrong(f"3 classes of rows of 5: expected W of shape (3, 6), got {W.shape}")
    for bias, sentence in (
        (0 * squares, "the bias is 0: then a class with a bright mean wins too often"),
        (0.5 * squares, "the bias has the wrong sign: a long mean is not a merit"),
        (
            -squares,
            "the bias is twice too large: the term 2 m · x was halved, so halve |m|² as well",
        ),
        (squares, "the bias is |m|²: look at its sign and at the factor 2 of m · x"),
        (-0.5 * np.sqrt(squares), "the bias takes the length of m; its square is needed"),
    ):
        if np.allclose(W, matrix(bias)):
            raise Wrong(sentence)
    points = generator.normal(size=(200, 5)) * 3
    scores = np.hstack([points, np.ones((200, 1))]) @ W.T
    distances = ((points[:, None] - means) ** 2).sum(axis=2)
    agree = (scores.argmax(axis=1) == distances.argmin(axis=1)).mean()
    if agree < 1:
        if (scores.argmin(axis=1) == distances.argmin(axis=1)).all():
            raise Wrong("the nearest mean gets the lowest score: turn the signs around")
        raise Wrong(
            f"on 200 random points the highest score is that of the nearest mean in {agree:.0%}; "
            "drop |x|² from |x - m|², and turn the sign: 2 m · x - |m|²"
        )
    return "the nearest mean is a linear classifier; its templates are the mean pictures."


def solve_nearest_mean_matrix(rows, labels):
    means = np.stack([rows[labels == c].mean(axis=0) for c in range(labels.max() + 1)])
    bias = -0.5 * (means**2).sum(axis=1, keepdims=True)  # half of 2 m · x - |m|²
    return np.hstack([means, bias])


def check_binary_cross_entropy(binary_cross_entropy) -> str:
    scores = np.array([-3.0, -0.4, 0.0, 0.7, 2.5, 5.0])
    targets = np.array([0, 1, 1, 0, 1, 0])
    expected = np.logaddexp(0, scores) - targets * scores
    p = 1 / (1 + np.exp(-scores))
    expect_same(
        binary_cross_entropy(scores.copy(), targets.copy()),
        expected,
        "scores from -3 to 5",
        hints=(
            (-expected, "these are logarithms of probabilities; the loss has a minus"),
            (np.logaddexp(0, scores) - (1 - targets) * scores, "label 1 and label 0 are exchanged"),
            (-targets * np.log(p), "pictures with label 0 have no loss here: (1 - t) ln(1 - p)"),
            (expected.mean(), "this is the mean; one loss a picture is asked for"),
            (expected.sum(), "this is the sum; one loss a picture is asked for"),
        ),
    )
    far, sure = np.array([1000.0, -1000.0, 1000.0, -1000.0]), np.array([1, 0, 0, 1])
    with np.errstate(all="ignore"):
        answer = np.asarray(binary_cross_entropy(far, sure), dtype=float)
    if not np.isfinite(answer).all():
        raise Wrong(
            f"z = 1000, -1000 with labels 1, 0, 0, 1: got {answer}. The exponential of 1000 is infinite; "
            "write the loss with e^-|z|, or with np.logaddexp(0, z)"
        )
    if answer.max() < 999:
        raise Wrong(
            f"z = 1000 with label 0 must cost 1000, got {answer.max():.4g}: cutting p off near 0 and 1 "
            "hides how wrong a score is, and its slope is 0"
        )
    expect_same(
        answer, np.array([0.0, 0.0, 1000.0, 1000.0]), "z = 1000, -1000 with labels 1, 0, 0, 1"
    )
    return "this is what torch's BCEWithLogitsLoss does inside."


def solve_binary_cross_entropy(score, target):
    # -t ln p - (1 - t) ln(1 - p) = ln(1 + e^z) - t z, and ln(1 + e^z) = max(z, 0) + ln(1 + e^-|z|)
    return np.maximum(score, 0) + np.log1p(np.exp(-np.abs(score))) - target * score


def check_squared_hinge_slope(squared_hinge_slope) -> str:
    scores = np.array([[2.0, 1.5, -3.0, 4.0], [0.0, 5.0, 1.0, 4.5], [9.0, 1.0, 2.0, 3.0]])
    labels = np.array([0, 2, 0])
    expected = solve_squared_hinge_slope(scores, labels)
    lack = expected.copy()
    lack[np.arange(3), labels] = 0  # twice what is missing
    own = lack.copy()
    own[np.arange(3), labels] = 2  # a margin against itself
    counted = expected.copy()
    counted[np.arange(3), labels] -= 2  # and summed with the others
    itself = "the true class is compared with itself here: set what it lacks to 0 before its slope"
    plain = np.sign(lack)
    plain[np.arange(3), labels] = -plain.sum(axis=1)
    expect_same(
        squared_hinge_slope(scores.copy(), labels.copy()),
        expected,
        "three pictures, four classes",
        hints=(
            (expected / 2, "the factor 2 of the square's derivative is missing"),
            (lack, "the true class has a slope too: it lowers every term of the sum"),
            (own, itself),
            (counted, itself),
            (
                plain,
                "this is the slope of the plain hinge; a square's slope grows with what is missing",
            ),
            (-expected, "the signs are turned: a slope says how the loss *grows*"),
            (expected / 3, "averaged over the pictures; one row a picture is asked for"),
            (
                expected - 2 * (expected - lack),
                "the true class lowers the loss: its slope is negative",
            ),
        ),
    )
    return "two for each unit that is missing: the most wrong picture pulls most."


def solve_squared_hinge_slope(scores, labels, margin=1.0):
    picture = np.arange(len(scores))
    lack = np.maximum(0, scores - scores[picture, labels][:, None] + margin)
    lack[picture, labels] = 0
    slope = 2 * lack
    slope[picture, labels] = -slope.sum(axis=1)
    return slope


def check_cheapest_pair(cheapest_pair) -> str:
    for b, l1, l2 in (
        (0.8, 0.002, 0.002),  # both prices: the copy stays on
        (0.8, 0.003, 0.0),  # L1 alone: it is off, as its slope alone would want it below 0
        (0.8, 0.0, 0.002),  # L2 alone
        (0.5, 0.02, 0.005),  # both prices, off
        (0.3, 0.001, 0.004),
    ):
        expected = np.array(solve_cheapest_pair(b, l1, l2))
        with np.errstate(all="ignore"):
            try:
                answer = np.asarray(cheapest_pair(b, l1, l2), dtype=float)
            except ZeroDivisionError:
                raise Wrong(
                    f"b = {b}, l1 = {l1}, l2 = {l2}: a division by zero; without L2 the price only rises "
                    "with w2, so the copy is off"
                ) from None
        if l2 == 0 and not np.isfinite(answer).all():
            raise Wrong(
                f"b = {b}, l1 = {l1}, l2 = 0: got {answer}; without L2 the price only rises with w2, so "
                "the copy is off"
            )
        free = (2 * l2 * b - l1 * (1 - b)) / (2 * max(l2, 1e-300) * (1 + b * b))
        single = max(0.0, (l2 * b - l1 * (1 - b)) / (max(l2, 1e-300) * (1 + b * b)))
        spread = b / (1 + b * b)
        expect_same(
            answer,
            expected,
            f"b = {b}, l1 = {l1}, l2 = {l2}",
            hints=(
                (
                    (1 - b * free, free),
                    "w2 is negative here; of the weights that are not, which is next?",
                ),
                (
                    (1 - b * free, 0.0),
                    "w1 comes from the w2 that you return: w1 + b * w2 must be 1",
                ),
                ((1 - b * single, single), "the slope of w² is 2 w: l2 counts twice"),
                (
                    (1 - b * spread, spread),
                    "this is L2 alone; L1 costs l1 (1 - b) for each unit of w2",
                ),
                ((1.0, 0.0), "the copy is on here: a small w2 saves more L2 than it costs L1"),
                (expected[::-1], "w1 and w2 are exchanged: the pixel first, its copy second"),
                (
                    (1 / (1 + b), 1 / (1 + b)),
                    "equal weights: but the dimmer copy gives less score for its price",
                ),
            ),
        )
    return (
        "the copy is off where l1 (1 - b) is at least 2 l2 b: always with L1 alone, never with L2 alone, "
        "and with b = 0.8 from an l1 of 8 l2 on."
    )


def solve_cheapest_pair(b, l1, l2):
    # With w1 = 1 - b w2 the slope by w2 is l1 (1 - b) - 2 l2 b (1 - b w2) + 2 l2 w2.
    gain = 2 * l2 * b - l1 * (1 - b)  # minus the slope at w2 = 0
    w2 = gain / (2 * l2 * (1 + b * b)) if gain > 0 else 0.0
    return 1 - b * w2, w2


def _half_negative_accuracy(features) -> float:
    """Least squares on features of digits, half of them negatives: accuracy in the test."""
    from cnncourse import data

    generator, scores = np.random.default_rng(0), []
    parts = [data.load("digits", train) for train in (True, False)]
    rows = [part.images.flatten(1).double().numpy() / 255 for part in parts]
    rows = [np.where(generator.random((len(x), 1)) < 0.5, 1 - x, x) for x in rows]
    known, new = (np.asarray(features(x), dtype=float) for x in rows)
    known, new = (np.hstack([x, np.ones((len(x), 1))]) for x in (known, new))
    targets = np.eye(10)[parts[0].labels.numpy()]
    W = np.linalg.solve(known.T @ known + np.eye(known.shape[1]), known.T @ targets)
    scores = new @ W
    return float((scores.argmax(axis=1) == parts[1].labels.numpy()).mean())


def check_blind_to_negatives(blind_to_negatives) -> str:
    from cnncourse import data

    rows = data.load("digits", False).images.flatten(1).double().numpy()[:100] / 255
    one, other = np.asarray(blind_to_negatives(rows)), np.asarray(blind_to_negatives(1 - rows))
    if one.ndim != 2 or len(one) != 100:
        raise Wrong(f"expected features (100, any number) of 100 rows, got shape {one.shape}")
    if not np.allclose(one, other, atol=1e-9):
        worst = np.abs(one - other).max()
        raise Wrong(
            f"features of x and of 1 - x differ by up to {worst:.3g}: turn every picture the same way "
            "round first, for instance so that its corner is black"
        )
    single = np.asarray(blind_to_negatives(rows[3:4]))
    if not np.allclose(single, one[3:4], atol=1e-9):
        raise Wrong("a picture alone has other features than among others: use each row by itself")
    share = _half_negative_accuracy(blind_to_negatives)
    plain = _half_negative_accuracy(lambda x: np.abs(x - 0.5))
    if share < 0.9:
        raise Wrong(
            f"blind to negatives, and a matrix on them is right in {share:.1%}; on |x - 1/2| it is "
            f"{plain:.1%}, and 90 % can be reached. What is lost? |x - 1/2| takes each pixel by itself"
        )
    return f"a matrix on these features is right in {share:.1%} (on |x - 1/2| in {plain:.1%})."


def solve_blind_to_negatives(rows):
    corners = rows[:, [0, 7, 56, 63]].mean(axis=1)  # black on ordinary digits, white on negatives
    return np.where(corners[:, None] > 0.5, 1 - rows, rows)


EXERCISES = [
    Exercise(
        "02.1",
        "Nearest mean as a matrix",
        hints=(
            "the nearest mean has the smallest |x|² - 2 m · x + |m|²; |x|² is the same for all classes",
            "so the highest m · x - |m|²/2 wins: the weights are m, the bias is -|m|²/2",
        ),
        check=check_nearest_mean_matrix,
        solution=solve_nearest_mean_matrix,
    ),
    Exercise(
        "02.2",
        "A loss that survives",
        hints=(
            "put p = 1 / (1 + e^-z) into the formula: it becomes ln(1 + e^z) - t z",
            "ln(1 + e^z) overflows for large z: it is max(z, 0) + ln(1 + e^-|z|), or np.logaddexp(0, z)",
        ),
        check=check_binary_cross_entropy,
        solution=solve_binary_cross_entropy,
    ),
    Exercise(
        "02.3",
        "The slope of the squared hinge",
        hints=(
            "each other class j: the term max(0, s_j - s_y + 1)² grows with s_j by twice what is missing",
            "the true class appears in every term with a minus: minus the sum of the others",
        ),
        check=check_squared_hinge_slope,
        solution=solve_squared_hinge_slope,
    ),
    Exercise(
        "02.4",
        "A pixel and its dimmer copy",
        hints=(
            "the price is l1 ((1 - b w2) + w2) + l2 ((1 - b w2)² + w2²); take its slope by w2",
            "if the slope is not negative at w2 = 0, the price only rises from there: w2 is 0 and w1 is 1",
        ),
        check=check_cheapest_pair,
        solution=solve_cheapest_pair,
    ),
    Exercise(
        "02.5",
        "Features blind to negatives",
        hints=(
            "turn every picture the same way round, and use its pixels as they are",
            "the corners of a digit are black; where they are white, take 1 - x",
        ),
        check=check_blind_to_negatives,
        solution=solve_blind_to_negatives,
    ),
]
