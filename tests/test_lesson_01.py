"""What lesson 01 writes out agrees with torch and scikit-learn; its exercises accept solutions and reject mistakes."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from cnncourse import augment, data, exercises
from cnncourse.errors import DataError
from cnncourse.exercises import Wrong, lesson_01
from cnncourse.lab import definitions


@pytest.fixture(scope="module")
def lesson():
    return definitions("01")


def rows(count, length, seed=0, whole=False):
    random = np.random.default_rng(seed)
    return (
        random.integers(0, 256, (count, length)).astype(float)
        if whole
        else random.normal(size=(count, length))
    )


def cdist(test, train, p=2):
    pair = torch.tensor(test), torch.tensor(train)
    return torch.cdist(*pair, p=p, compute_mode="donot_use_mm_for_euclid_dist").numpy()


WAYS = ("l2_two_loops", "l2_one_loop", "l2_no_loop")


# --- distances ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_each_way_gives_the_distances_of_torch_for_any_shape(way, lesson):
    for m, n, d in ((1, 1, 1), (3, 5, 4), (7, 2, 30)):
        test, train = rows(m, d, seed=1), rows(n, d, seed=2)
        distances = getattr(lesson, way)(test, train)
        assert distances.shape == (m, n)
        np.testing.assert_allclose(distances, cdist(test, train), rtol=1e-9, atol=1e-9)


def test_on_whole_numbers_the_three_ways_agree_to_the_last_bit(lesson):
    test, train = rows(9, 64, whole=True), rows(11, 64, seed=1, whole=True)
    first, *others = (getattr(lesson, way)(test, train) for way in WAYS)
    for other in others:
        assert np.array_equal(first, other)


def test_equal_rows_far_from_the_origin_give_a_number_and_no_warning(lesson):
    far = rows(5, 10) + 1e6
    distances = lesson.l2_no_loop(far, far)
    assert np.isfinite(distances).all() and distances.diagonal().max() < 1


@settings(deadline=None, max_examples=25)
@given(m=st.integers(1, 6), n=st.integers(1, 6), d=st.integers(1, 9), seed=st.integers(0, 1000))
def test_l1_gives_the_distances_of_torch(lesson, m, n, d, seed):
    test, train = rows(m, d, seed), rows(n, d, seed + 1)
    np.testing.assert_allclose(
        lesson.l1_distances(test, train), cdist(test, train, p=1), rtol=1e-12
    )


# --- the vote -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3, 5, 10, 50])
def test_the_predictions_are_those_of_scikit_learn_on_the_digits(k, lesson):
    train, test = data.load("digits", True), data.load("digits", False)
    known, asked = (part.images.flatten(1).double().numpy() for part in (train, test))
    reference = (
        KNeighborsClassifier(k, algorithm="brute").fit(known, train.labels.numpy()).predict(asked)
    )
    found = lesson.predict_knn(lesson.l2_no_loop(asked, known), train.labels.numpy(), k)
    assert found.shape == (450,) and (found != reference).sum() <= (
        0 if k == 1 else 2
    )  # equal distances at place k


def test_a_tie_goes_to_the_smaller_label_and_a_majority_wins_over_nearness(lesson):
    distances, labels = np.array([[1.0, 2, 3, 4, 5]]), np.array([7, 3, 3, 7, 3])
    assert [lesson.predict_knn(distances, labels, k)[0] for k in (1, 2, 3, 4, 5)] == [7, 3, 3, 3, 3]


def test_labels_need_not_count_from_zero(lesson):
    assert lesson.predict_knn(
        np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([90, -4]), 1
    ).tolist() == [-4, 90]


def test_equally_near_pictures_come_in_the_order_of_their_columns(lesson):
    assert lesson.nearest(np.array([[2.0, 1, 1, 0, 1]]), 4).tolist() == [[3, 1, 2, 4]]


# --- in pieces ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 40), size=st.integers(1, 50), levels=st.sampled_from([2, 256]))
def test_pieces_of_any_size_find_the_row_that_the_whole_table_finds_also_among_equals(
    lesson, n, size, levels
):
    random = np.random.default_rng(n)
    test = random.integers(0, levels, (4, 3)).astype(float)
    train = random.integers(0, levels, (n, 3)).astype(np.uint8)  # two levels: many equal distances
    found = lesson.nearest_in_pieces(test, train, size)
    whole = lesson.nearest(lesson.l2_no_loop(test, train.astype(float)), 1)[:, 0]
    assert np.array_equal(found, whole)


def test_bytes_are_converted_piece_by_piece_so_the_table_is_never_held(lesson):
    random = np.random.default_rng(0)
    test, train = random.random((20, 64), np.float32), random.integers(0, 2, (50_000, 64), np.uint8)
    tracemalloc.start()
    lesson.nearest_in_pieces(test, train, size=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_500_000 < 50_000 * 64 * 4  # all rows as float32 are 12.8 MB, the table 4 MB


# --- folds and features ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(count=st.integers(2, 90), parts=st.integers(2, 10), seed=st.integers(0, 99))
def test_folds_are_disjoint_cover_all_and_differ_by_one_at_most(lesson, count, parts, seed):
    folds = lesson.folds(count, parts, seed)
    sizes = [len(part) for part in folds]
    assert len(folds) == parts and max(sizes) - min(sizes) <= 1
    assert sorted(np.concatenate(folds)) == list(range(count))


def test_cross_validation_never_asks_a_picture_about_itself(lesson):
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(300, 3)), random.integers(0, 10, 300)  # nothing to learn
    scores = lesson.cross_validate(features, labels, [1, 5], lesson.folds(300, 5))
    assert scores.shape == (5, 2) and scores.mean() < 0.2
    doubled, twice = np.concatenate([features, features]), np.concatenate([labels, labels])
    leaking = lesson.cross_validate(doubled, twice, [1], lesson.folds(600, 5))
    assert leaking.mean() > 0.7  # the planted mistake is seen: copies of a picture in two folds


def test_cross_validation_is_that_of_scikit_learn(lesson):
    digits = data.digits()
    features, labels = digits.images.flatten(1).double().numpy()[:400], digits.labels.numpy()[:400]
    parts = lesson.folds(400, 4)
    for i, score in enumerate(lesson.cross_validate(features, labels, [3], parts)[:, 0]):
        rest = np.setdiff1d(np.arange(400), parts[i])
        model = KNeighborsClassifier(3, algorithm="brute").fit(features[rest], labels[rest])
        assert (
            abs(score - model.score(features[parts[i]], labels[parts[i]])) <= 0.011
        )  # one picture: equal distances


def test_ink_shares_of_hand_made_pictures(lesson):
    pictures = np.zeros((3, 1, 4, 4), np.uint8)
    pictures[0, 0, 0, 0] = pictures[1, 0, 3, 3] = 100
    pictures[2] = 7
    np.testing.assert_allclose(lesson.ink_shares(pictures), [[1, 1], [0, 0], [0.5, 0.5]], atol=1e-6)


def test_sheets_begin_where_the_labels_count_from_0_to_9_after_a_pause(lesson):
    form = [*range(10)] * 3 + [7, 1, 4] * 20  # 90 pictures
    sheet = lesson.sheet_numbers(np.array(form * 3))
    assert np.bincount(sheet).tolist() == [90, 90, 90]
    digits = lesson.sheet_numbers(data.digits().labels.numpy())
    assert digits.max() + 1 == 14 and np.bincount(digits).min() > 110


def test_training_patches_and_test_patches_of_a_photograph_share_no_pixel(lesson, monkeypatch):
    place = torch.arange(48).repeat(48, 1)[None].to(torch.uint8)  # each pixel is its column
    monkeypatch.setattr(lesson.data, "photos", lambda: {"a": place, "b": place})
    train, test = lesson.patches(("a", "b"), count=50, side=4, seed=0)
    assert train.images.shape == (100, 1, 4, 4) and train.labels.bincount().tolist() == [50, 50]
    assert train.images.max() < 24 <= test.images.min()


def test_noise_stands_behind_the_numbers_and_deviates_as_asked(lesson):
    features = rows(200, 5)
    noisy = lesson.with_noise(features, 100, 30, seed=0)
    assert np.array_equal(noisy[:, :5], features) and noisy.shape == (200, 105)
    assert abs(noisy[:, 5:].std() - 30) < 1


def test_principal_axes_span_the_space_of_scikit_learns_pca(lesson):
    features = rows(50, 8)
    axes, kept = lesson.principal_axes(features, 3)
    reference = PCA(3).fit(features)
    np.testing.assert_allclose(
        axes @ axes.T, reference.components_.T @ reference.components_, atol=1e-9
    )
    assert abs(kept - reference.explained_variance_ratio_.sum()) < 1e-12


def test_turning_the_axes_keeps_l2_and_changes_l1(lesson):
    points = rows(6, 2)
    turned = points @ np.array([[1, -1], [1, 1]]) / 2**0.5  # by 45 degrees
    np.testing.assert_allclose(
        lesson.l2_no_loop(turned, turned), lesson.l2_no_loop(points, points), atol=1e-7
    )
    assert (
        abs(lesson.l1_distances(turned, turned) - lesson.l1_distances(points, points)).max() > 0.1
    )


def test_a_tilted_picture_turns_about_its_middle_and_stays_bytes(lesson):
    picture = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
    picture[0, 0, 0, 2] = picture[0, 0, 2, 2] = 200
    turned = lesson.tilted(picture, 90)
    assert turned.dtype == torch.uint8 and turned[0, 0, 2, 2] == 200
    assert turned.nonzero()[:, 2:].tolist() in ([[2, 0], [2, 2]], [[2, 2], [2, 4]])


def test_the_network_does_not_notice_a_move_by_its_pooling_step(lesson):
    torch.manual_seed(0)
    network = lesson.SmallNetwork(1, 10, 4).double()
    images = torch.zeros(2, 1, 16, 16, dtype=torch.float64)
    images[:, :, 5:9, 5:9] = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        still, by_two, by_one = (network(images.roll(step, dims=3)) for step in (0, 2, 1))
    assert torch.allclose(still, by_two, atol=1e-12) and not torch.allclose(
        still, by_one, atol=1e-4
    )


# --- moved, littered, centred ----------------------------------------------------------------------------------------


def test_centring_puts_equal_pictures_at_the_same_place_whichever_way_they_were_moved(lesson):
    picture = torch.zeros(1, 1, 12, 14, dtype=torch.uint8)
    picture[0, 0, 4:7, 5:9] = torch.arange(1, 13, dtype=torch.uint8).reshape(3, 4)
    moved = torch.cat([picture.roll(step, dims=(2, 3)) for step in ((0, 0), (2, -3), (-4, 4))])
    centred = lesson.centred(moved)
    assert (centred == centred[:1]).all() and centred.sum(dtype=int) == moved.sum(dtype=int)
    places = (centred[0, 0] > 0).nonzero().double()
    assert abs(places.mean(dim=0) - torch.tensor([5.5, 6.5])).max() <= 1
    assert torch.equal(lesson.centred(torch.zeros_like(picture)), torch.zeros_like(picture))


def test_litter_only_adds_ink_in_one_small_square(lesson):
    images = torch.randint(0, 200, (6, 1, 16, 16), dtype=torch.uint8)
    kept = images.clone()
    littered = lesson.littered(images, torch.full((3, 1, 8, 8), 255, dtype=torch.uint8), 0)
    assert torch.equal(images, kept) and ((littered > images).sum(dim=(1, 2, 3)) == 16).all()
    assert torch.equal(
        littered, lesson.littered(images, torch.full((3, 1, 8, 8), 255, dtype=torch.uint8), 0)
    )


def test_search_in_all_cells_finds_what_the_exact_search_finds(lesson):
    pictures = np.random.default_rng(0).integers(0, 256, (200, 9)).astype(np.uint8)
    questions = rows(20, 9, whole=True)
    exact = lesson.nearest_in_pieces(questions, pictures)
    landmarks = pictures[:10].astype(float)
    found, looked_at = lesson.in_cells(questions, pictures, landmarks, count=10)
    assert np.array_equal(
        lesson.l2_no_loop(questions, pictures[found].astype(float)).diagonal(),
        lesson.l2_no_loop(questions, pictures[exact].astype(float)).diagonal(),
    )
    assert looked_at == 20 * (10 + 200) > lesson.in_cells(questions, pictures, landmarks)[1]


def test_the_numbers_that_the_checks_tell_are_those_of_the_lessons_digits(lesson):
    train, test = (lesson.framed(data.load("digits", part), 4) for part in (True, False))
    stored, labels = lesson.pixels(train.images), train.labels.numpy()
    lesson.margin = 4
    moved = lesson.anywhere(test.images, lesson.random_moves(0))

    def accuracy(distances):
        return (lesson.predict_knn(distances, labels, 1) == test.labels.numpy()).mean().round(3)

    dark = lesson_01.solve_cosine_distances(lesson.pixels(test.images) / 4, stored)
    assert accuracy(dark) == 0.987
    litter = lesson.littered(moved, data.load("digits", False).images, 0)
    home = lesson.pixels(lesson_01.solve_to_corner(train.images))
    corner = [lesson.pixels(lesson_01.solve_to_corner(images)) for images in (moved, litter)]
    assert [accuracy(lesson.l2_no_loop(rows, home)) for rows in corner] == [0.982, 0.54]
    shifted = lesson_01.solve_shifted_distances(
        *(images[:, 0].double().numpy() for images in (moved, train.images)), 4
    )
    assert accuracy(shifted) == 0.989
    every = data.digits()
    sheet, rows_, names = (
        lesson.sheet_numbers(every.labels.numpy()),
        lesson.pixels(every.images),
        every.labels.numpy(),
    )
    between, right = lesson.l2_no_loop(rows_, rows_), []
    for seed in range(20):
        known, new = lesson_01.solve_split_by_group(sheet, 4, seed)
        right.append((names[known][between[np.ix_(new, known)].argmin(1)] == names[new]).mean())
    assert np.round([min(right), np.mean(right), max(right)], 2).tolist() == [0.93, 0.96, 0.98]


@pytest.mark.parametrize(
    ("name", "told", "within"),
    [
        ("mnist", [0.94, 0.88, 0.67, 0.40], 0.006),
        ("fashion_mnist", [0.77, 0.72, 0.58, 0.43], 0.006),
        ("cifar10", [0.27, 0.26, 0.26, 0.21], 0.02),  # told of JPEG copies of its pictures
    ],
)
def test_the_larger_sets_are_as_the_table_of_section_8_says(name, told, within, lesson):
    try:
        train, test = (data.load(name, part) for part in (True, False))
    except DataError as error:
        pytest.skip(f"{name} is not on this machine: {error.remedy}")
    train, test = train.subset(5000, seed=0), test.subset(1000, seed=0)
    stored, labels = lesson.pixels(lesson.framed(train, 4).images), train.labels.numpy()
    for steps, share in enumerate(told):
        moved = lesson.pixels(augment.shift(lesson.framed(test, 4).images, steps, 0))
        answers = labels[lesson.nearest_in_pieces(moved, stored)]
        assert abs((answers == test.labels.numpy()).mean() - share) <= within
    if (
        name == "cifar10"
    ):  # told of it: plain grey is nearer for 2 %, sorted pixels are right in 16 %
        asked, stored = lesson.pixels(test.images), lesson.pixels(train.images)
        nearest = lesson.l2_no_loop(asked, stored).min(axis=1)
        grey = lesson.l2_no_loop(asked, np.full_like(stored[:1], stored.mean()))[:, 0]
        assert abs((grey < nearest).mean() - 0.02) <= 0.02
        answers = labels[lesson.nearest_in_pieces(np.sort(asked), np.sort(stored))]
        assert abs((answers == test.labels.numpy()).mean() - 0.16) <= 0.02


def test_no_test_digit_is_a_training_digit_and_a_colour_picture_has_3072_numbers(lesson):
    train, test = (lesson.pixels(data.load("digits", part).images) for part in (True, False))
    assert not {row.tobytes() for row in train} & {row.tobytes() for row in test}
    linear = torch.nn.Linear(data.photos()["chelsea"][:, :32, :32].numel(), 10)
    assert sum(p.numel() for p in linear.parameters()) == 3072 * 10 + 10 == 30_730


def test_an_option_is_the_last_whose_limit_is_passed(lesson):
    options = ("few", 0.4, "some", 0.8, "many")
    assert [lesson.option(value, *options) for value in (0.1, 0.4, 0.5, 0.9)] == [
        "few", "few", "some", "many",
    ]  # fmt: skip


def test_the_centre_of_ink_is_where_the_only_pixel_is(lesson):
    pictures = torch.zeros(1, 1, 5, 6, dtype=torch.uint8)
    pictures[0, 0, 1, 4] = 200
    np.testing.assert_allclose(lesson.ink_centres(pictures), [[4, 1]], atol=1e-6)


# --- exercises ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exercise", lesson_01.EXERCISES, ids=lambda exercise: exercise.id)
def test_each_check_accepts_its_solution_and_says_what_it_shows(exercise, capsys):
    exercises.check(exercise.id, *exercise.answers())
    assert capsys.readouterr().out.startswith(f"{exercise.id} right: ")


def leave_one_out_with_own_vote(distances, labels, k):
    votes = labels[np.argsort(distances, axis=1, kind="stable")[:, :k]]
    return np.mean(
        [np.bincount(vote).argmax() == label for vote, label in zip(votes, labels, strict=True)]
    )


def leave_one_out_dropping_the_first_column_late(distances, labels, k):
    votes = labels[np.argsort(distances, axis=1, kind="stable")[:, :k][:, 1:]]  # k - 1 neighbours
    found = [np.bincount(vote, minlength=3).argmax() for vote in votes]
    return np.mean(found == labels)


def leave_one_out_without_the_first_picture(distances, labels, k):
    return (lesson_01._votes(distances[:, 1:], labels[1:], k) == labels).mean()


def leave_one_out_with_shifted_labels(distances, labels, k):
    return (lesson_01._votes(distances[:, 1:], labels, k) == labels).mean()


def leave_one_out_of_k_plus_one(
    distances, labels, k
):  # right: the picture itself is the first of k + 1
    return (lesson_01._votes(distances, labels, k + 1, first=1) == labels).mean()


def leave_one_out_in_place(distances, labels, k):
    np.fill_diagonal(distances, np.inf)
    return lesson_01.solve_leave_one_out(distances, labels, k)


def rolled(test, train, reach):
    return lesson_01._shifted_with_loops(test, train, reach, wrap=True)


def moving_the_training_pictures(test, train, reach):
    return lesson_01._shifted_with_loops(train, test, reach, wrap=False).T


def split_rows(groups, test_groups, seed):
    order = np.random.default_rng(seed).permutation(len(groups))
    return order[10:], order[:10]


def split_counting_from_0(groups, test_groups, seed):
    chosen = np.random.default_rng(seed).choice(np.arange(6), test_groups, replace=False)
    return np.flatnonzero(~np.isin(groups, chosen)), np.flatnonzero(np.isin(groups, chosen))


def split_with_repeats(groups, test_groups, seed):
    chosen = np.random.default_rng(seed).choice(np.unique(groups), test_groups)
    return np.flatnonzero(~np.isin(groups, chosen)), np.flatnonzero(np.isin(groups, chosen))


def split_masks(groups, test_groups, seed):
    train, test = lesson_01.solve_split_by_group(groups, test_groups, seed)
    return np.isin(np.arange(len(groups)), train), np.isin(np.arange(len(groups)), test)


def split_without_rest(groups, test_groups, seed):
    train, test = lesson_01.solve_split_by_group(groups, test_groups, seed)
    return train[:-1], test


def split_values(groups, test_groups, seed):
    return tuple(groups[part] for part in lesson_01.solve_split_by_group(groups, test_groups, seed))


def split_always_the_same(groups, test_groups, seed):
    return lesson_01.solve_split_by_group(groups, test_groups, 0)


def split_by_chance(groups, test_groups, seed):
    return lesson_01.solve_split_by_group(groups, test_groups, None)


def split_of_tuples(groups, test_groups, seed):
    train, test = split_masks(groups, test_groups, seed)
    return np.where(train), np.where(test)


def to_corner(images, rows=True, columns=True, sign=-1, first=False):
    moved = []
    for picture in images:
        ink = (picture[0] if first else picture.sum(dim=0)).numpy() > 0
        y, x = (int(ink.any(axis=axis).argmax()) for axis in (1, 0))
        moved.append(picture.roll((sign * y * rows, sign * x * columns), dims=(1, 2)))
    return torch.stack(moved)


def corner_in_place(images):
    images[:] = to_corner(images)
    return images


def scaled(rows, like):
    return (rows - like.mean(axis=0)) / like.std(axis=0)


def standardise_in_place(train, test):
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    train -= mean
    test -= mean
    train /= deviation
    test /= deviation
    return train, test


def standardise_with_a_guard_against_0(train, test):
    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-8
    return (train - mean) / deviation, (test - mean) / deviation


def together(train, test):
    both = np.concatenate([train, test])
    return scaled(train, both), scaled(test, both)


def unit(array):
    return array / np.linalg.norm(array, axis=1, keepdims=True)


MISTAKES = {
    "four bytes a number": ("01.1", 10_000 * 60_000 * 784 * 4, "float32"),
    "differences instead of bytes": ("01.1", 10_000 * 60_000 * 784, "8 bytes"),
    "the table after the sum": ("01.1", 10_000 * 60_000 * 8, "each of 784 pixels"),
    "a power of ten": ("01.1", 10**12, "multiply the lengths"),
    "rounded": ("01.1", 3.8e12, "the exact product"),
    "in terabytes": ("01.1", 3.8, "larger units"),
    "in words": ("01.1", "3.8 TB", "expected the exact number of bytes"),
    "draws rows": ("01.2", split_rows, "stands on both sides"),
    "counts groups from 0": ("01.2", split_counting_from_0, "need not count from 0"),
    "draws a group twice": ("01.2", split_with_repeats, "groups in the test, got"),
    "truth values": ("01.2", split_masks, "flatnonzero"),
    "tuples of np.where": ("01.2", split_of_tuples, "np.where"),
    "loses a row": ("01.2", split_without_rest, "exactly one part, once; row .* 0 times"),
    "values instead of places": ("01.2", split_values, "not the places of rows"),
    "one part only": ("01.2", lambda *a: lesson_01.solve_split_by_group(*a)[1], "two arrays"),
    "never another split": ("01.2", split_always_the_same, "different seeds"),
    "another split each time": ("01.2", split_by_chance, "same seed"),
    "own ruler": ("01.4", lambda a, b: (scaled(a, a), scaled(b, b)), "their own mean"),
    "both together": ("01.4", together, "must not be seen"),
    "test as it was": ("01.4", lambda a, b: (scaled(a, a), b), "were not scaled"),
    "one mean for all": (
        "01.4",
        lambda a, b: ((a - a.mean()) / a.std(), (b - a.mean()) / a.std()),
        "give each its own",
    ),
    "rows instead of columns": (
        "01.4",
        lambda a, b: (scaled(a.T, a.T).T, scaled(b.T, b.T).T),
        "a measurement is a column",
    ),
    "no division": ("01.4", lambda a, b: (a - a.mean(0), b - a.mean(0)), "not divided"),
    "no mean": ("01.4", lambda a, b: (a / a.std(0), b / a.std(0)), "still there"),
    "variance": (
        "01.4",
        lambda a, b: ((a - a.mean(0)) / a.var(0), (b - a.mean(0)) / a.var(0)),
        "take its root",
    ),
    "a constant column": (
        "01.4",
        lambda a, b: tuple(
            (part - a.mean(0)) / np.where(a.std(0) == 0, np.nan, a.std(0)) for part in (a, b)
        ),
        "never varies",
    ),
    "in place": ("01.4", standardise_in_place, "were changed"),
    "training rows alone": ("01.4", lambda a, b: scaled(a, a), "two arrays"),
    "similarity": ("01.5", lambda test, train: unit(test) @ unit(train).T, "1 minus it"),
    "no lengths": ("01.5", lambda test, train: 1 - test @ train.T, "lengths of both rows"),
    "transposed": ("01.5", lambda test, train: 1 - unit(train) @ unit(test).T, "exchanged"),
    "only the training rows": ("01.5", lambda a, b: 1 - a @ unit(b).T, "only the training rows"),
    "only the test rows": ("01.5", lambda a, b: 1 - unit(a) @ b.T, "only the test rows"),
    "one length for the table": (
        "01.5",
        lambda a, b: 1 - a @ b.T / (np.linalg.norm(a) * np.linalg.norm(b)),
        "each row has its own",
    ),
    "lengths of columns": (
        "01.5",
        lambda test, train: 1 - unit(test.T).T @ unit(train).T,
        "expected",
    ),
    "own vote": ("01.3", leave_one_out_with_own_vote, "own nearest neighbour"),
    "one neighbour too few": (
        "01.3",
        leave_one_out_dropping_the_first_column_late,
        "only k - 1 others",
    ),
    "k + 1 with its own vote": (
        "01.3",
        lambda distances, labels, k: (lesson_01._votes(distances, labels, k + 1) == labels).mean(),
        "still among them",
    ),
    "no first column": ("01.3", leave_one_out_without_the_first_picture, "its own column"),
    "no first column, all labels": ("01.3", leave_one_out_with_shifted_labels, "labels do not fit"),
    "caller's table changed": ("01.3", leave_one_out_in_place, "work on a copy"),
    "no average": ("01.3", lambda distances, labels, k: np.ones(60), "average over the pictures"),
    "corner: only rows": (
        "01.6",
        lambda images: to_corner(images, columns=False),
        "the columns too",
    ),
    "corner: only columns": ("01.6", lambda images: to_corner(images, rows=False), "the rows too"),
    "corner: the wrong way": ("01.6", lambda images: to_corner(images, sign=1), "negative roll"),
    "corner: one channel": (
        "01.6",
        lambda images: to_corner(images, first=True),
        "over the channels",
    ),
    "corner: as it was": ("01.6", lambda images: images.clone(), "nothing was moved"),
    "corner: numbers": ("01.6", lambda images: images.numpy(), "expected a tensor"),
    "corner: floats": ("01.6", lambda images: lesson_01.solve_to_corner(images).float(), "type"),
    "corner: in place": ("01.6", corner_in_place, "were changed"),
    "wraps around": ("01.7", rolled, "np.roll"),
    "moves the wrong pictures": ("01.7", moving_the_training_pictures, "move the test pictures"),
    "largest": (
        "01.7",
        lambda *a: lesson_01._shifted_with_loops(*a, False, np.max),
        "not the smallest",
    ),
    "mean": (
        "01.7",
        lambda *a: lesson_01._shifted_with_loops(*a, False, np.mean),
        "not the smallest",
    ),
    "no diagonals": (
        "01.7",
        lambda *a: lesson_01._shifted_with_loops(*a, False, straight=True),
        "diagonal moves",
    ),
    "does not move": (
        "01.7",
        lambda test, train, reach: lesson_01.solve_shifted_distances(test, train, 0),
        "nothing was moved",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_check_rejects_a_planted_mistake_and_names_it(mistake):
    id, answer, words = MISTAKES[mistake]
    with pytest.raises(Wrong, match=words):
        exercises.find(id).check(answer)


@pytest.mark.parametrize(
    ("id", "answer"),
    [
        ("01.4", standardise_with_a_guard_against_0),
        ("01.1", 3.7632e12),
        ("01.1", np.int64(3_763_200_000_000)),
        ("01.3", leave_one_out_of_k_plus_one),
    ],
)
def test_other_right_answers_are_accepted(id, answer):
    assert exercises.find(id).check(answer)


def test_stubs_count_as_not_attempted_and_hints_lead_to_the_solution(capsys):
    def leave_one_out(distances, labels, k):
        """Not yet."""
        ...

    exercises.check("01.3", leave_one_out)
    exercises.hint("01.7", 3)
    exercises.solution("01.7")
    printed = capsys.readouterr().out
    assert (
        "not attempted" in printed
        and "exercises.solution('01.7')" in printed
        and "np.pad" in printed
    )
