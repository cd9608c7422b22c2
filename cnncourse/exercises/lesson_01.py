"""Exercises of lesson 01: a careless distance, fair splits and scales, folds of one, other spaces."""

from __future__ import annotations

import numpy as np

from cnncourse.exercises import Exercise, Wrong, expect_same


def check_bytes(answer) -> str:
    expected = 10_000 * 60_000 * 784 * 8
    if isinstance(answer, bool) or not isinstance(answer, int | float | np.number):
        raise Wrong(
            f"expected the exact number of bytes, got {answer!r}; write it as a number or a product of numbers"
        )
    if answer == expected // 8:
        raise Wrong("that is the number of differences; each is a float64 of 8 bytes")
    if answer in (10_000 * 60_000 * 8, 10_000 * 60_000):
        raise Wrong(
            "that is the table after the sum; before it there is a number for each of 784 pixels too"
        )
    for unit in (1, 1e3, 1e6, 1e9, 1e12):
        if 0 < abs(answer - expected / unit) < 0.05 * expected / unit:
            larger = " in larger units" if unit > 1 else ""
            raise Wrong(f"got {answer}, rounded{larger}; write the exact product, 10_000 * ...")
    if answer == expected // 2:
        raise Wrong("that is 4 bytes a number, as float32 has; a float64 has 8")
    if answer != expected:
        raise Wrong(
            f"got {answer}; multiply the lengths of the three axes of test[:, None] - train, and the bytes"
        )
    return (
        "3.8 TB. The table of l2_no_loop is 4.8 GB, and its steps hold three such tables at a time; do the "
        "test pictures in pieces, and it is as small as you like."
    )


def solve_bytes():
    return 10_000 * 60_000 * 784 * 8


def check_split_by_group(split_by_group) -> str:
    groups = np.random.default_rng(1).permutation(
        np.repeat([7, 3, 11, 40, 5, 20], [5, 1, 4, 9, 3, 6])
    )
    drawn = set()
    for seed in range(8):
        for count in (1, 2, 4):
            answer = split_by_group(groups, count, seed)
            if not (isinstance(answer, tuple | list) and len(answer) == 2):
                raise Wrong(f"expected two arrays of indices, got {type(answer).__name__}")
            if any(isinstance(part, tuple) for part in answer):
                raise Wrong(
                    "np.where(mask) gives a tuple of arrays; take its [0], or use np.flatnonzero(mask)"
                )
            train, test = (np.asarray(part) for part in answer)
            if train.dtype == bool or test.dtype == bool:
                raise Wrong("expected indices, got truth values; np.flatnonzero gives indices")
            every = [*train.tolist(), *test.tolist()]
            if len(every) == len(groups) and sorted(every) == sorted(groups.tolist()):
                raise Wrong(
                    "these are the groups' names, not the places of rows; np.flatnonzero(mask) gives places"
                )
            if sorted(every) != list(range(len(groups))):
                wrong = [f"row {row}: {every.count(row)} times" for row in range(len(groups))]
                found = next(
                    (told for told in wrong if ": 1 times" not in told), "there are others too"
                )
                raise Wrong(
                    f"each of the {len(groups)} rows must be in exactly one part, once; {found}"
                )
            both = set(groups[train].tolist()) & set(groups[test].tolist())
            if both:
                raise Wrong(f"group {min(both)} stands on both sides; draw groups, not rows")
            found = len(set(groups[test].tolist()))
            if found != count:
                raise Wrong(
                    f"test_groups={count}: expected {count} groups in the test, got {found}; the groups "
                    "are np.unique(groups), they need not count from 0"
                )
            drawn.add((count, frozenset(groups[test].tolist())))
            again = split_by_group(groups, count, seed)
            if set(np.asarray(again[1]).tolist()) != set(test.tolist()):
                raise Wrong("the same seed gives another split; use np.random.default_rng(seed)")
    if len(drawn) < 6:
        raise Wrong("different seeds give the same groups; use np.random.default_rng(seed)")
    return (
        "no group on both sides. On `sheet`, with 4 groups in the test, 1-NN is right in 93 to 98 %, "
        "96 % on average over 20 seeds; in random splits it was 98 to 100 %."
    )


def solve_split_by_group(groups, test_groups, seed):
    random = np.random.default_rng(seed)
    chosen = random.choice(np.unique(groups), test_groups, replace=False)  # each group once
    in_test = np.isin(groups, chosen)
    return np.flatnonzero(~in_test), np.flatnonzero(in_test)


def check_standardise(standardise) -> str:
    generator = np.random.default_rng(0)
    scale = np.array([1.0, 300.0, 0.01])
    train = generator.normal(size=(50, 3)) * scale + [5, -40, 0.5]
    test = generator.normal(size=(20, 3)) * scale * 1.5 + [6, 200, 0.5]
    given = train.copy(), test.copy()
    answer = standardise(*given)
    if not (isinstance(answer, tuple | list) and len(answer) == 2):
        raise Wrong(f"expected two arrays (train, test), got {type(answer).__name__}")
    if not (np.array_equal(given[0], train) and np.array_equal(given[1], test)):
        raise Wrong("the caller's arrays were changed; return new ones")
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    both = np.concatenate([train, test])

    def scaled(rows, mean, deviation):
        return (rows - mean) / deviation

    expected = scaled(train, mean, deviation), scaled(test, mean, deviation)
    expect_same(
        answer[0],
        expected[0],
        "50 training rows",
        hints=(
            (
                scaled(train, train.mean(), train.std()),
                "one mean for all columns; give each its own",
            ),
            (
                scaled(train, both.mean(axis=0), both.std(axis=0)),
                "the test rows helped to find the mean and the deviation; they must not be seen",
            ),
            (train / deviation, "the mean of each column is still there"),
            (train - mean, "the columns are not divided by their deviations"),
            (scaled(train, mean, train.var(axis=0)), "divided by the variance; take its root"),
            (
                scaled(train.T, train.T.mean(axis=0), train.T.std(axis=0)).T,
                "each row was standardised; a measurement is a column",
            ),
            (
                scaled(train, mean, train.std(axis=0, ddof=1)),
                "divided by n - 1 in the deviation; here np.std as it is",
            ),
        ),
        tolerance=1e-5,  # a deviation + 1e-8 is as good
    )
    expect_same(
        answer[1],
        expected[1],
        "20 test rows",
        hints=(
            (
                scaled(test, test.mean(axis=0), test.std(axis=0)),
                "the test rows were scaled by their own mean and deviation: then a test row means "
                "something else than an equal training row, and one row alone could not be scaled",
            ),
            (
                test,
                "the test rows were not scaled; give them the training rows' mean and deviation",
            ),
        ),
        tolerance=1e-5,
    )
    train[:, 1] = 7  # a pixel that is always black
    constant = [np.asarray(part) for part in standardise(train, test)]
    if not all(np.isfinite(part).all() for part in constant):
        raise Wrong(
            "a column that never varies gives nan or inf: its standard deviation is 0. Divide it by 1 instead"
        )
    return "a test row is measured by the training rows' ruler, even if it comes alone."


def solve_standardise(train, test):
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation = np.where(deviation == 0, 1, deviation)  # a column that never varies
    return (train - mean) / deviation, (test - mean) / deviation


def check_cosine_distances(cosine_distances) -> str:
    generator = np.random.default_rng(0)
    test, train = generator.normal(size=(5, 7)), generator.normal(size=(6, 7))
    expected = np.array([[1 - a @ b / np.sqrt((a @ a) * (b @ b)) for b in train] for a in test])
    expect_same(
        cosine_distances(test, train),
        expected,
        "5 random test rows against 6 training rows",
        hints=(
            (1 - expected, "this is the similarity; the distance is 1 minus it"),
            (1 - test @ train.T, "divide by the lengths of both rows"),
            (expected.T, "rows and columns are exchanged: test pictures are the rows"),
            (
                1 - test @ train.T / (np.linalg.norm(test) * np.linalg.norm(train)),
                "one length for all rows; each row has its own: np.linalg.norm(..., axis=1)",
            ),
            (
                1 - test @ (train / np.linalg.norm(train, axis=1, keepdims=True)).T,
                "only the training rows were divided by their lengths; the test rows too",
            ),
            (
                1 - (test / np.linalg.norm(test, axis=1, keepdims=True)) @ train.T,
                "only the test rows were divided by their lengths; the training rows too",
            ),
        ),
        shapes=(((6, 5), "rows and columns are exchanged: test pictures are the rows"),),
    )
    return (
        "a quarter as bright makes no difference to it: 1-NN is right in 98.7 % (41 % with L2). "
        "Brighter all over still does: why?"
    )


def solve_cosine_distances(test, train):
    def unit(rows):
        return rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))

    return 1 - unit(test) @ unit(train).T


def check_leave_one_out(leave_one_out) -> str:
    generator = np.random.default_rng(0)
    points, labels = generator.normal(size=(60, 2)), generator.integers(0, 3, 60)
    points[labels == 1] += 1.5
    distances = np.sqrt(((points[:, None] - points) ** 2).sum(-1))
    ks = (4, 7, 1)
    answers, changed = [], False
    for k in ks:
        given = distances.copy()
        answers.append(leave_one_out(given, labels, k))
        changed = changed or not np.array_equal(given, distances)
        if np.ndim(answers[-1]):
            shape = np.shape(answers[-1])
            raise Wrong(f"expected one number, got shape {shape}: average over the pictures")
    if answers[-1] == 1:
        raise Wrong("1.0 for k = 1: each picture is its own nearest neighbour; what keeps it out?")
    own = "Each picture has to leave out its own"
    first_column = "the first column of the table was dropped from every row"
    wrong = {  # who votes then
        f"{first_column}; it belongs to the first picture. {own} column": (
            lambda k: _votes(distances[:, 1:], labels[1:], k)
        ),
        f"{first_column}, so that column 0 is now picture 1 and the labels do not fit. {own}": (
            lambda k: _votes(distances[:, 1:], labels, k)
        ),
        "the first column of the k nearest was dropped: the picture itself is out, but only k - 1 "
        "others vote. Keep the picture out of the table before the k nearest are taken": (
            lambda k: _votes(distances, labels, k, first=1)
        ),
        "k + 1 pictures vote, and the picture itself is still among them; keep it out": (
            lambda k: _votes(distances, labels, k + 1)
        ),
    }
    for sentence, votes in wrong.items():  # at k = 1 the third has no votes
        if np.allclose(answers[:2], [(votes(k) == labels).mean() for k in ks[:2]]):
            raise Wrong(sentence)
    for k, answer in zip(ks, answers, strict=True):
        expected = _leave_one_out_with_loops(distances, labels, k)
        if not np.isclose(answer, expected):
            raise Wrong(
                f"60 random points, k = {k}: expected {expected:.4f}, got {answer:.4f}; "
                "print the neighbours of one point and see who votes"
            )
    if changed:
        raise Wrong("the answer is right, but the caller's distances were changed: work on a copy")
    return (
        "as many folds as pictures, for the price of one table. Now choose k by it: "
        "{k: leave_one_out(l2_no_loop(plane, plane), plane_labels, k) for k in ks}."
    )


def _leave_one_out_with_loops(distances, labels, k) -> float:
    right = 0
    for i in range(len(labels)):
        others = np.delete(np.arange(len(labels)), i)
        votes = labels[others[np.argsort(distances[i, others], kind="stable")[:k]]]
        right += np.bincount(votes).argmax() == labels[i]
    return right / len(labels)


def solve_leave_one_out(distances, labels, k):
    distances = distances.copy()
    np.fill_diagonal(distances, np.inf)  # nobody votes for himself
    return (_votes(distances, labels, k) == labels).mean()


def _votes(distances, labels, k, first=0):
    votes = labels[np.argsort(distances, axis=1, kind="stable")[:, first:k]]
    classes = np.unique(labels)
    return classes[(votes[:, :, None] == classes).sum(axis=1).argmax(axis=1)]


def check_shifted_distances(shifted_distances) -> str:
    generator = np.random.default_rng(0)
    test, train = (generator.integers(0, 256, (count, 5, 4)).astype(float) for count in (3, 4))
    test[0], train[0] = np.eye(5, 4), np.eye(5, 4, k=1)  # one is the other moved by 1
    test[1], train[1] = np.zeros((5, 4)), np.zeros((5, 4))
    test[1, 1, 1] = train[1, 2, 2] = 255  # moved by 1 in x and 1 in y
    for reach in (0, 1, 2):

        def place_by_place(first=test, second=train, wrap=False, reach=reach, **options):
            return _shifted_with_loops(first, second, reach, wrap, **options)

        around = "what leaves on one side comes back on the other (np.roll); let black come in"
        hints = (
            (place_by_place(wrap=True), around),
            (
                place_by_place(train, test).T,
                "the training pictures were moved; move the test pictures",
            ),
            (
                place_by_place(reach=0),
                "nothing was moved: the pictures were compared as they stand",
            ),
            (place_by_place(choose=np.max), "this is the largest distance, not the smallest"),
            (place_by_place(choose=np.mean), "this is the mean over the places, not the smallest"),
            (place_by_place(straight=True), "diagonal moves are missing: x and y together"),
        )
        expect_same(
            shifted_distances(test, train, reach),
            place_by_place(),
            f"pictures of 5 x 4, reach {reach}",
            hints,
        )
    return (
        "the distance forgives moving. It costs (2 reach + 1)² tables, 81 here; on `moved_test` 1-NN is "
        "then right in 98.9 %, like with copies at all places (16 % without moving)."
    )


def _shifted_with_loops(test, train, reach, wrap, choose=np.min, straight=False) -> np.ndarray:
    _, height, width = test.shape
    tables = []
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if straight and dx and dy:
                continue
            moved = np.roll(test, (dy, dx), axis=(1, 2))
            if not wrap:
                y, x = np.mgrid[:height, :width]
                moved = moved * (
                    (y - dy >= 0) & (y - dy < height) & (x - dx >= 0) & (x - dx < width)
                )
            tables.append(np.sqrt(((moved[:, None] - train) ** 2).sum((2, 3))))
    return choose(tables, axis=0)


def solve_shifted_distances(test, train, reach):
    _, height, width = test.shape
    padded = np.pad(test, ((0, 0), (reach, reach), (reach, reach)))  # black comes in
    rows = train.reshape(len(train), -1)
    smallest = np.full((len(test), len(train)), np.inf)
    for y in range(2 * reach + 1):
        for x in range(2 * reach + 1):
            moved = padded[:, y : y + height, x : x + width].reshape(len(test), -1)
            squares = (moved**2).sum(1)[:, None] - 2 * moved @ rows.T + (rows**2).sum(1)
            smallest = np.minimum(smallest, np.sqrt(np.maximum(squares, 0)))
    return smallest


def check_named_in_space(named_in_space) -> str:
    generator = np.random.default_rng(0)
    new, known = (generator.integers(0, 256, (count, 1, 4, 4)).astype(float) for count in (9, 7))
    labels = np.array([40, 10, 20, 60, 70, 50, 30])  # another label for each picture
    spaces = {
        "the sums of the rows": lambda pictures: pictures.sum(axis=3)[:, 0],
        "sorted pixels": lambda pictures: np.sort(pictures.reshape(len(pictures), -1)),
    }
    for name, space in spaces.items():
        table = _squares(space(new), space(known))
        pixels = _squares(new.reshape(9, -1), known.reshape(7, -1))
        expect_same(
            named_in_space(space, new, known, labels),
            labels[table.argmin(axis=1)],
            f"9 small pictures among 7, in the space of {name}",
            hints=(
                (labels[pixels.argmin(axis=1)], "the pixels were compared; compare space(...)"),
                (table.argmin(axis=1), "these are places; which labels stand there?"),
                (labels[table.argmax(axis=1)], "these are the farthest; argmin finds the nearest"),
            ),
            shapes=(
                ((7,), "one answer for each known picture; the rows of the table are the new ones"),
                ((), "this is one number; give the labels, one for each new picture"),
            ),
        )
    return (
        "the vote stays the same in every space, only the numbers that are compared change. With litter 1-NN "
        "is right in about 77 % in the features of the first network, the network itself in about 80 % "
        "(without litter 95 and 96 %): it is the features that mind the litter. Ask the other two."
    )


def _squares(new, known) -> np.ndarray:
    return ((new[:, None] - known) ** 2).sum(axis=2)


def solve_named_in_space(space, new, known, known_labels):
    asked, stored = space(new), space(known)  # (M, F), (N, F)
    squares = (asked**2).sum(axis=1)[:, None] - 2 * asked @ stored.T + (stored**2).sum(axis=1)
    return known_labels[squares.argmin(axis=1)]  # the root would not change the order


EXERCISES = [
    Exercise(
        "01.1",
        "What a careless distance costs",
        (
            "test[:, None] has shape (10000, 1, 784) and train (60000, 784). Which shape has their "
            "difference?",
            "Multiply its three lengths, and the 8 bytes of a float64.",
        ),
        check_bytes,
        solve_bytes,
        returns_answer=True,
    ),
    Exercise(
        "01.2",
        "A split for new writers",
        (
            "Draw groups, not rows: np.unique(groups) are the groups, and random.choice(..., "
            "replace=False) draws some of them.",
            "np.isin(groups, chosen) is true for the rows of the chosen groups; np.flatnonzero gives "
            "their indices.",
        ),
        check_split_by_group,
        solve_split_by_group,
    ),
    Exercise(
        "01.3",
        "Leave one out",
        (
            "The nearest neighbour of a picture among all pictures is the picture itself, at distance 0.",
            "Give it an infinite distance from itself: np.fill_diagonal on a copy of the table. Then "
            "call predict_knn.",
        ),
        check_leave_one_out,
        solve_leave_one_out,
    ),
    Exercise(
        "01.4",
        "One ruler for both",
        (
            "Each column has its own mean and deviation: train.mean(axis=0), train.std(axis=0).",
            "The test rows get the same two, not their own. Where a deviation is 0, divide by 1.",
        ),
        check_standardise,
        solve_standardise,
    ),
    Exercise(
        "01.5",
        "Cosine distance",
        (
            "Each row has a length of its own, the root of its sum of squares: "
            "np.linalg.norm(rows, axis=1, keepdims=True), of shape (N, 1).",
            "Divide the rows of both by their lengths; then the distance is 1 - test @ train.T.",
        ),
        check_cosine_distances,
        solve_cosine_distances,
    ),
    Exercise(
        "01.6",
        "A distance that forgives moving",
        (
            "Start with a table of infinite distances, and take np.minimum with the table of each "
            "place.",
            "Pad test with `reach` black pixels on each side; every window [y:y + H, x:x + W] of it is "
            "one place.",
            "Flatten the windows to rows and call l2_no_loop.",
        ),
        check_shifted_distances,
        solve_shifted_distances,
    ),
    Exercise(
        "01.7",
        "1-NN in any space",
        (
            "Call space on both sets of pictures; from there on it is section 1 with other rows.",
            "l2_no_loop gives the table (M, N); the argmin of each row is the place of a label.",
        ),
        check_named_in_space,
        solve_named_in_space,
    ),
]
