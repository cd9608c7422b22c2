"""What lesson 02 writes out agrees with torch, autograd and scikit-learn; its exercises reject mistakes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from torch.nn import functional

from cnncourse import exercises
from cnncourse.exercises import Wrong, lesson_02
from cnncourse.lab import definitions


@pytest.fixture(scope="module")
def lesson():
    return definitions("02")


def case(count=7, classes=5, seed=0, spread=2.0):
    random = np.random.default_rng(seed)
    return random.normal(0, spread, (count, classes)), random.integers(0, classes, count)


def problem(count=60, length=4, classes=3, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    return random.normal(size=(count, length)) + 2 * np.eye(classes, length)[labels], labels


# --- losses and slopes ----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(
    count=st.integers(1, 6),
    classes=st.integers(2, 7),
    seed=st.integers(0, 999),
    margin=st.sampled_from([0.5, 1.0, 3.0]),
)
def test_the_losses_are_those_of_torch_for_any_shape_and_margin(
    lesson, count, classes, seed, margin
):
    scores, labels = case(count, classes, seed)
    pair = torch.tensor(scores), torch.tensor(labels)
    for loss, power in ((lesson.hinge, 1), (lesson.squared_hinge, 2)):
        theirs = classes * functional.multi_margin_loss(
            *pair, p=power, margin=margin, reduction="none"
        )
        np.testing.assert_allclose(loss(scores, labels, margin), theirs, rtol=1e-10, atol=1e-12)
    theirs = functional.cross_entropy(*pair, reduction="none")
    np.testing.assert_allclose(lesson.cross_entropy(scores, labels), theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "slope, loss",
    [
        ("cross_entropy_slope", functional.cross_entropy),
        (
            "hinge_slope",
            lambda s, y, reduction: 5 * functional.multi_margin_loss(s, y, reduction=reduction),
        ),
    ],
)
def test_each_slope_is_the_one_that_autograd_finds(slope, loss, lesson):
    scores, labels = case()
    tensor = torch.tensor(scores, requires_grad=True)
    loss(tensor, torch.tensor(labels), reduction="sum").backward()
    np.testing.assert_allclose(getattr(lesson, slope)(scores, labels), tensor.grad, atol=1e-12)


def test_the_slope_of_the_squared_hinge_is_the_one_that_autograd_finds():
    scores, labels = case()
    tensor = torch.tensor(scores, requires_grad=True)
    (
        5 * functional.multi_margin_loss(tensor, torch.tensor(labels), p=2, reduction="sum")
    ).backward()
    found = lesson_02.solve_squared_hinge_slope(scores, labels)
    np.testing.assert_allclose(found, tensor.grad, atol=1e-12)


def test_softmax_survives_large_scores_and_ignores_a_shift(lesson):
    large = np.array([[123.0, 456.0, 789.0], [-1e4, 0.0, 1e4]])
    assert np.isfinite(lesson.softmax(large)).all() and np.isfinite(lesson.log_softmax(large)).all()
    np.testing.assert_allclose(lesson.softmax(large + 7), lesson.softmax(large), rtol=1e-12)
    np.testing.assert_allclose(
        lesson.log_softmax(large), torch.log_softmax(torch.tensor(large), 1), atol=1e-12
    )


def test_a_right_answer_without_the_margin_still_costs(lesson):
    assert lesson.hinge(np.array([[3.0, 2.5], [3.0, 2.0]]), np.array([0, 0])).tolist() == [0.5, 0.0]


def test_without_the_predicted_class_the_hinge_loss_of_the_cat_is_another():
    scores = np.array([-96.8, 437.9, 61.95])
    terms = np.maximum(0, scores - scores[0] + 1)  # the first class is the true one
    assert terms[[1, 2]].sum() == pytest.approx(695.45)  # what the lesson sums
    assert terms[[0, 2]].sum() == pytest.approx(160.75)  # as the notes have it


# --- finding the matrix ---------------------------------------------------------------------------------------------


def test_least_squares_is_ridge_regression_with_its_price_and_a_free_bias(lesson):
    rows, labels = problem()
    ours = lesson.least_squares(lesson.with_one(rows + 5), labels, 3)
    theirs = Ridge(alpha=10.0).fit(rows + 5, np.eye(3)[labels])
    np.testing.assert_allclose(ours[:, :-1], theirs.coef_, atol=1e-9)
    np.testing.assert_allclose(ours[:, -1], theirs.intercept_, atol=1e-9)


def test_a_step_goes_against_the_slope_of_the_mean_loss_with_its_price(lesson):
    rows, labels = problem()
    W = torch.tensor(np.random.default_rng(2).normal(size=(3, 5)), requires_grad=True)
    scores = torch.tensor(lesson.with_one(rows)) @ W.T
    price = 0.3 * (W[:, :-1] ** 2).sum()
    (functional.cross_entropy(scores, torch.tensor(labels)) + price).backward()
    start = W.detach().numpy()
    after = lesson.descend(
        lesson.cross_entropy_slope, lesson.with_one(rows), labels, start, 1, 0.1, 0.3
    )
    np.testing.assert_allclose(after, start - 0.1 * W.grad.numpy(), atol=1e-12)


def test_the_sum_of_cross_entropies_is_minus_the_logarithm_of_the_likelihood(lesson):
    scores, labels = case(count=40)
    shares = lesson.softmax_as_written(scores)[np.arange(40), labels]
    total = lesson.cross_entropy(scores, labels).sum()
    assert -np.log(np.prod(shares)) == pytest.approx(total, abs=1e-10)


def test_a_descent_with_l2_ends_at_the_matrix_of_scikit_learn(lesson):
    rows, labels = problem()
    price = 0.05
    found = lesson.descend(
        lesson.cross_entropy_slope,
        lesson.with_one(rows),
        labels,
        np.zeros((3, 5)),
        4000,
        0.3,
        price,
    )
    theirs = LogisticRegression(C=1 / (2 * price * len(rows)), tol=1e-10, max_iter=5000)
    theirs.fit(rows, labels)
    np.testing.assert_allclose(found[:, :-1], theirs.coef_, atol=1e-5)


def test_the_price_never_touches_the_biases_and_the_start_stays_as_it_was(lesson):
    rows, labels = problem()
    start = np.ones((3, 5))
    flat = lambda scores, labels: np.zeros_like(scores)  # noqa: E731 (a loss without any slope)
    found = lesson.descend(flat, lesson.with_one(rows), labels, start, 10, 0.1, 0.5)
    assert (found[:, -1] == 1).all() and (found[:, :-1] < 0.5).all() and (start == 1).all()
    found = lesson.descend_l1(flat, lesson.with_one(rows), labels, start, 30, 0.1, 0.5)
    assert (found[:, -1] == 1).all() and (found[:, :-1] == 0).all() and (start == 1).all()


def test_l1_ends_where_its_conditions_hold(lesson):
    rows, labels = problem(length=6)
    rows, price = lesson.with_one(rows), 0.05
    W = lesson.descend_l1(
        lesson.cross_entropy_slope, rows, labels, np.zeros((3, 7)), 6000, 0.3, price
    )
    slope = (lesson.cross_entropy_slope(rows @ W.T, labels).T @ rows / len(rows))[:, :-1]
    weights = W[:, :-1]
    dead = weights == 0
    assert dead.any() and (np.abs(slope[dead]) <= price + 1e-6).all()
    np.testing.assert_allclose(slope[~dead], -price * np.sign(weights[~dead]), atol=1e-5)


def test_l1_as_a_slope_jitters_where_the_step_that_stops_at_0_gives_exact_zeros(lesson):
    rows, labels = problem(length=6)
    rows, W = lesson.with_one(rows), np.zeros((3, 7))
    for _ in range(500):
        force = np.sign(W)
        force[:, -1] = 0
        W = lesson.descend(lesson.cross_entropy_slope, rows, labels, W, 1, 0.3) - 0.3 * 0.05 * force
    stops = lesson.descend_l1(
        lesson.cross_entropy_slope, rows, labels, np.zeros((3, 7)), 500, 0.3, 0.05
    )
    assert (stops[:, :-1] == 0).sum() >= 3 and (W[:, :-1] == 0).sum() == 0


def test_elastic_net_ends_where_its_conditions_hold(lesson):
    rows, labels = problem(length=6)
    rows, l1, l2 = lesson.with_one(rows), 0.04, 0.02
    W = lesson.descend_l1(
        lesson.cross_entropy_slope, rows, labels, np.zeros((3, 7)), 6000, 0.3, l1, l2
    )
    slope = (lesson.cross_entropy_slope(rows @ W.T, labels).T @ rows / len(rows))[:, :-1]
    weights = W[:, :-1]
    dead = weights == 0
    assert dead.any() and (np.abs(slope[dead]) <= l1 + 1e-6).all()
    expected = -l1 * np.sign(weights[~dead]) - 2 * l2 * weights[~dead]
    np.testing.assert_allclose(slope[~dead], expected, atol=1e-5)


def test_scores_with_a_one_behind_the_picture_are_those_with_a_bias(lesson):
    rows, _ = problem()
    W = np.random.default_rng(1).normal(size=(3, 5))
    np.testing.assert_allclose(lesson.with_one(rows) @ W.T, rows @ W[:, :-1].T + W[:, -1])


def test_no_matrix_reads_a_picture_and_its_negative_but_for_one_class(lesson):
    x = np.random.default_rng(0).uniform(size=(4000, 5))
    W = np.random.default_rng(1).normal(size=(4, 6))
    answers = [(lesson.with_one(rows) @ W.T).argmax(axis=1) for rows in (x, 1 - x)]
    same = answers[0] == answers[1]
    largest = (W[:, :-1].sum(axis=1) + 2 * W[:, -1]).argmax()
    assert same.any() and set(answers[0][same]) == {largest}


@pytest.mark.parametrize("keep", [False, True])
def test_random_search_returns_the_matrix_of_its_lowest_loss(keep, lesson):
    rows, labels = problem()
    best, history = lesson.random_search(rows, labels, 3, 40, np.random.default_rng(0), keep)
    assert history == sorted(history, reverse=True) and len(history) == 40
    assert lesson.cross_entropy(rows @ best.T, labels).mean() == pytest.approx(history[-1])


def test_random_steps_go_on_from_the_best_and_random_matrices_begin_anew(lesson):
    rows, labels = problem()
    draws = np.random.default_rng(0)
    anew, _ = lesson.random_search(rows, labels, 3, 40, draws, False)
    drawn = np.random.default_rng(0).normal(0, 0.05, (40, 3, 4))
    assert any((anew == W).all() for W in drawn)
    steps, _ = lesson.random_search(rows, labels, 3, 40, np.random.default_rng(0), True)
    assert np.abs(steps).max() > np.abs(drawn).max()  # no single draw is that far away


def test_shuffling_pixels_shuffles_columns_and_changes_no_score(lesson):
    rows, labels = problem()
    order = np.array([2, 0, 3, 1])
    plain = lesson.least_squares(lesson.with_one(rows), labels, 3)
    mixed = lesson.least_squares(lesson.with_one(rows[:, order]), labels, 3)
    np.testing.assert_allclose(mixed[:, :-1], plain[:, :-1][:, order], atol=1e-10)


def test_framed_digits_keep_their_ink_and_move(lesson):
    rows = np.arange(1, 9, dtype=float).reshape(2, 4)
    boards = lesson.framed(rows, 2, np.random.default_rng(0), reach=3)
    assert boards.shape == (2, 64)
    assert [board[board > 0].tolist() for board in boards] == rows.tolist()


# --- exercises ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", sorted(exercises.of_lesson("02")))
def test_the_reference_solution_is_accepted(id, capsys):
    exercise = exercises.find(id)
    exercises.check(id, *exercise.answers())
    assert capsys.readouterr().out.startswith(f"{id} right")


def means_of(rows, labels):
    return np.stack([rows[labels == c].mean(axis=0) for c in range(labels.max() + 1)])


def with_bias(bias):
    def matrix(rows, labels):
        means = means_of(rows, labels)
        return np.hstack([means, bias((means**2).sum(axis=1, keepdims=True))])

    return matrix


def naive_bce(score, target):
    p = 1 / (1 + np.exp(-score))
    return -target * np.log(p) - (1 - target) * np.log(1 - p)


def clipped_bce(score, target):
    p = np.clip(1 / (1 + np.exp(-np.clip(score, -700, 700))), 1e-12, 1 - 1e-12)
    return np.where(target == 1, -np.log(p), -np.log(1 - p))


def pair_of(w2):
    return lambda b, l1, l2: (1 - b * w2(b, l1, l2), w2(b, l1, l2))


def unclipped(b, l1, l2):
    return (2 * l2 * b - l1 * (1 - b)) / (2 * np.float64(l2) * (1 + b * b))


def without_true(scores, labels):
    slope = lesson_02.solve_squared_hinge_slope(scores, labels)
    slope[np.arange(len(scores)), labels] = 0
    return slope


def without_the_zero(scores, labels):
    true = scores[np.arange(len(scores)), labels]
    return 2 * np.maximum(0, scores - true[:, None] + 1)


def counted_with_the_others(scores, labels):
    slope, picture = without_the_zero(scores, labels), np.arange(len(scores))
    slope[picture, labels] = -slope.sum(axis=1)
    return slope


MISTAKES = [
    ("02.1", with_bias(lambda s: 0 * s), "bias is 0"),
    ("02.1", with_bias(lambda s: -s), "twice too large"),
    ("02.1", with_bias(lambda s: s / 2), "wrong sign"),
    ("02.1", lambda rows, labels: means_of(rows, labels), "last column"),
    ("02.1", lambda rows, labels: lesson_02.solve_nearest_mean_matrix(rows, labels).T, "transpose"),
    ("02.1", lambda rows, labels: np.zeros((10, 6)), "labels.max() + 1"),
    ("02.1", lambda rows, labels: (means_of(rows, labels), np.zeros(3)), "one matrix W"),
    (
        "02.1",
        lambda rows, labels: -lesson_02.solve_nearest_mean_matrix(rows, labels),
        "lowest score",
    ),
    ("02.2", naive_bce, "exponential of 1000"),
    ("02.2", clipped_bce, "cutting p off"),
    ("02.2", lambda z, t: -lesson_02.solve_binary_cross_entropy(z, t), "has a minus"),
    ("02.2", lambda z, t: lesson_02.solve_binary_cross_entropy(z, t).mean(), "one loss a picture"),
    ("02.2", lambda z, t: lesson_02.solve_binary_cross_entropy(z, 1 - t), "exchanged"),
    ("02.3", lambda s, y: lesson_02.solve_squared_hinge_slope(s, y) / 2, "factor 2"),
    ("02.3", without_true, "true class has a slope too"),
    ("02.3", without_the_zero, "compared with itself"),
    ("02.3", counted_with_the_others, "compared with itself"),
    ("02.3", lambda s, y: -lesson_02.solve_squared_hinge_slope(s, y), "signs"),
    ("02.3", lambda s, y: lesson_02.solve_squared_hinge_slope(s, y) / len(s), "averaged"),
    ("02.3", lambda s, y: np.abs(lesson_02.solve_squared_hinge_slope(s, y)), "negative"),
    ("02.4", pair_of(lambda b, l1, l2: b / (1 + b * b)), "L2 alone"),
    ("02.4", lambda b, l1, l2: (1, 0), "the copy is on here"),
    ("02.4", lambda b, l1, l2: (1 / (1 + b), 1 / (1 + b)), "dimmer copy gives less"),
    ("02.4", lambda b, l1, l2: lesson_02.solve_cheapest_pair(b, l1, l2)[::-1], "exchanged"),
    (
        "02.4",
        pair_of(lambda b, l1, l2: max(0, b - l1 * (1 - b) / max(l2, 1e-9)) / (1 + b * b)),
        "twice",
    ),
    ("02.4", pair_of(unclipped), "without L2"),
    ("02.4", pair_of(lambda b, l1, l2: unclipped(b, l1, l2) if l2 else 0.0), "w2 is negative here"),
    (
        "02.4",
        lambda b, l1, l2: (
            (1 - b * unclipped(b, l1, l2), max(0, unclipped(b, l1, l2))) if l2 else (1, 0)
        ),
        "must be 1",
    ),
    (
        "02.4",
        lambda b, l1, l2: 1 / 0 if l2 == 0 else lesson_02.solve_cheapest_pair(b, l1, l2),
        "zero",
    ),
    ("02.5", lambda rows: rows, "differ by up to"),
    ("02.5", lambda rows: np.abs(rows - 0.5), "takes each pixel by itself"),
    ("02.5", lambda rows: np.zeros((len(rows), 3)), "takes each pixel by itself"),
    ("02.5", lambda rows: lesson_02.solve_blind_to_negatives(rows).T, "100 rows"),
    ("02.5", lambda rows: np.abs(rows - rows.mean(axis=0)), "alone"),
]


@pytest.mark.parametrize("id, mistake, said", MISTAKES)
def test_a_planted_mistake_is_told(id, mistake, said):
    with np.errstate(all="ignore"), pytest.raises(Wrong) as error:
        exercises.find(id).check(mistake)
    assert said in str(error.value)


def test_the_cheapest_pair_is_that_of_a_search(seed=0):
    random = np.random.default_rng(seed)
    for b, l1, l2 in random.uniform(0.05, 0.95, (20, 3)):
        w2 = np.linspace(0, 1, 20001)
        price = l1 * (1 - b * w2 + w2) + l2 * ((1 - b * w2) ** 2 + w2**2)
        found = lesson_02.solve_cheapest_pair(b, l1, l2)
        np.testing.assert_allclose(found[1], w2[price.argmin()], atol=1e-4)
        assert found[0] + b * found[1] == pytest.approx(1)


def test_other_right_answers_are_accepted():
    def mean_first(rows, labels):  # any shift that all classes share leaves the answers as they are
        return lesson_02.solve_nearest_mean_matrix(rows, labels) + np.arange(6)

    def absolute_and_corner(rows):
        corner = np.sign(0.5 - rows[:, :1])
        return corner * (rows - 0.5)

    assert "mean pictures" in exercises.find("02.1").check(mean_first)
    assert "right in" in exercises.find("02.5").check(absolute_and_corner)
    assert "BCEWithLogits" in exercises.find("02.2").check(lambda z, t: np.logaddexp(0, z) - t * z)
