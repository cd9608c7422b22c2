"""Exercises of lesson 10: verdicts, ranges of rates, a mended loop, momentum, settings, halving, an honest report."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cnncourse.exercises import Exercise, Wrong, expect_pair, expect_same


def check_remedy(remedy) -> str:
    guess = math.log(10)
    flat = [guess + 0.02 * (-1) ** step for step in range(40)]
    learns = np.linspace(guess, 0.1, 40).tolist()
    cases = (
        ("flat at guessing from the first step", flat, "larger"),
        ("a peak of 40, then flat at guessing", [guess, 40.0, 9.0, *flat], "smaller"),
        ("it learns", learns, "keep"),
        ("a peak of 5 in the beginning, then it learns", [guess, 5.0, *learns], "keep"),
        ("nan from the third step", [guess, 9.0, *38 * [math.nan]], "smaller"),
        ("inf at the end", [*learns, math.inf], "smaller"),
        ("nan once, numbers again", [guess, math.nan, *learns], "smaller"),
        ("swings far above guessing", [guess, *20 * [80.0, 300.0]], "smaller"),
    )
    for what, losses, wanted in cases:
        got = remedy(list(losses), guess)
        if got not in ("smaller", "larger", "keep"):
            raise Wrong(f"expected 'smaller', 'larger' or 'keep', got {got!r}")
        if got == wanted:
            continue
        if not all(map(math.isfinite, losses)):
            raise Wrong(
                f"{what}: got {got!r}, expected 'smaller'. Every comparison with nan is False, and max may miss it: "
                "ask math.isfinite of each loss first"
            )
        if "then it learns" in what:
            raise Wrong(
                f"{what}: got {got!r}; a peak alone is no reason, look at the last loss too"
            )
        raise Wrong(f"{what}: got {got!r}, expected {wanted!r}")
    return "flat has two causes, and the peak tells them apart"


def remedy(losses, guess):
    if not all(math.isfinite(loss) for loss in losses):
        return "smaller"
    if losses[-1] >= 0.9 * guess:
        return "smaller" if max(losses) > 1.5 * guess else "larger"
    return "keep"


def check_rate_range(rate_range) -> str:
    rates = np.geomspace(1e-4, 10, 26)
    falls = 2.3 - 2.0 * np.exp(-((np.log10(rates) - 0.2) ** 2))
    early = falls.copy()
    early[1] = 1.0  # lucky batch: the first rate below, not the last
    for what, losses, wanted in (
        ("a valley", falls, (rates[(falls < 0.95 * falls[0]).argmax()], rates[falls.argmin()])),
        ("a lucky batch at the second rate", early, (rates[1], rates[early.argmin()])),
        ("a loss that only climbs", np.linspace(2.3, 9, 26), (None, None)),
        ("a loss that falls by 3 %", np.linspace(2.3, 2.23, 26), (None, None)),
    ):
        low, high = expect_pair(rate_range(rates.copy(), losses.copy()), "low", "high")
        if wanted[0] is None:
            if low is not None or high is not None:
                raise Wrong(
                    f"{what}: no loss is 5 % below the first, so both are None; got {low!r} and {high!r}. "
                    "(argmax of nothing but False is 0)"
                )
            continue
        if low is None or high is None:
            raise Wrong(f"{what}: got None, though some losses are 5 % below the first one")
        for name, got, right in (("low", low, wanted[0]), ("high", high, wanted[1])):
            hints = [
                (float(losses.min()), "that is the lowest loss; asked is its rate"),
                (
                    float((rates == right).argmax()),
                    "that is its place in the array; asked is the rate",
                ),
            ]
            expect_same(float(got), float(right), f"{what}: {name}", hints=hints)
    return "from where the loss first falls to where it is lowest"


def rate_range(rates, losses):
    fallen = losses <= 0.95 * losses[0]
    if not fallen.any():
        return None, None
    return rates[fallen.argmax()], rates[losses.argmin()]


def check_mended(mended) -> str:
    stream = torch.Generator().manual_seed(3)
    pictures = torch.randn(24, 6, generator=stream, dtype=torch.float64)
    labels = torch.arange(24) % 3
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        start = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)).double()

    def run(train, **bug):
        net = copy.deepcopy(start)
        return train(net, pictures.clone(), labels.clone(), 0.3, 60, **bug), net

    wanted, net = run(_loop)
    answer, own = run(mended)
    if answer is None or len(list(answer)) != 60:
        raise Wrong("expected a list with the loss of each of the 60 steps")
    if all(torch.equal(a, b) for a, b in zip(own.parameters(), start.parameters(), strict=True)):
        raise Wrong("the network has not changed: train the one that is handed in")
    answer = [float(loss) for loss in answer]
    hints = [
        (run(_loop, **{bug: True})[0], words)
        for bug, words in (
            ("keep", "the gradients of earlier steps are still added: zero_grad in every step"),
            ("twice", "cross_entropy takes scores and applies softmax itself"),
            ("flip", "the labels are turned round: picture 0 gets the label of the last"),
        )
    ]
    expect_same(answer, wanted, "the losses", hints=hints, tolerance=1e-6)
    expect_same(
        own[0].weight.detach(), net[0].weight.detach(), "the trained weights", tolerance=1e-6
    )
    return f"the loss falls to {answer[-1]:.2f}; softmax, labels and zero_grad were wrong"


def _loop(net, pictures, labels, rate, steps, keep=False, twice=False, flip=False):
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        scores = net(pictures)
        loss = F.cross_entropy(
            scores.softmax(1) if twice else scores, labels.flip(0) if flip else labels
        )
        if not keep:
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def mended(net, pictures, labels, rate, steps):
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(net(pictures), labels)  # scores, not probabilities
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def check_momentum_at(momentum_at) -> str:
    for low, high in ((0.5, 0.999), (0.0, 0.99), (0.9, 0.95)):
        for u in (0.0, 0.25, 0.5, 1.0):
            right = 1 - (1 - low) * ((1 - high) / (1 - low)) ** u
            hints = [
                (low + u * (high - low), "that is drawn evenly, not in log space"),
                (
                    1 - (1 - high) * ((1 - low) / (1 - high)) ** u,
                    "the ends are swapped: u = 0 is low",
                ),
            ]
            if low:
                hints.append(
                    (
                        low * (high / low) ** u,
                        "the logarithm of m itself; what matters is how far it is from 1",
                    )
                )
            expect_same(
                float(momentum_at(u, low, high)),
                right,
                f"u = {u}, from {low} to {high}",
                hints=hints,
            )
    return "halfway between 0.5 and 0.999 lies 0.978, not 0.75"


def momentum_at(u, low, high):
    return 1 - (1 - low) * ((1 - high) / (1 - low)) ** u


def check_settings(settings) -> str:
    for n in (2, 3, 4):
        points = np.asarray(settings(n), dtype=float)
        if points.shape != (n**3, 3):
            raise Wrong(f"n = {n}: expected shape {(n**3, 3)}, got {points.shape}")
        if not ((points >= 0) & (points < 1)).all():
            raise Wrong(f"n = {n}: every number should be at least 0 and below 1")
        cells = np.floor(points * n + 1e-9).astype(int)
        if len({tuple(cell) for cell in cells}) < n**3:
            raise Wrong(f"n = {n}: some cells of the grid hold several settings, others none")
        for axis, name in enumerate(("first", "second", "third")):
            strips = np.floor(points[:, axis] * n**3 + 1e-9).astype(int)
            different = len(set(strips.tolist()))
            if different == n:
                raise Wrong(
                    f"n = {n}: the {name} axis has only {n} different values, as a grid has"
                )
            if different < n**3:
                raise Wrong(
                    f"n = {n}: on the {name} axis {different} of the {n**3} intervals are hit; each should be, once"
                )
    return "as even as a grid, and a new value on each axis with each setting"


def settings(n):
    one, two, three = np.indices((n, n, n)).reshape(3, -1)  # the cell of each setting
    first = (one + (two + (three + 0.5) / n) / n) / n  # shifted by the other two, within the cell
    second = (two + (three + (one + 0.5) / n) / n) / n
    third = (three + (one + (two + 0.5) / n) / n) / n
    return np.stack([first, second, third], axis=1)


def check_survivor(survivor) -> str:
    g = np.random.default_rng(4)
    late = np.array([[0.5, 0.6, 0.7], [0.4, 0.9, 0.9], [0.3, 0.3, 0.99], [0.2, 0.2, 0.2]])
    tables = [
        late,
        g.random((8, 4)),
        g.random((7, 5)),
        g.random((16, 2)),
        np.full((4, 3), 0.5),
        np.ones((1, 3)),
    ]
    for table in tables:
        wanted, trained = _halved(table)
        row, epochs = expect_pair(survivor(table.copy()), "row", "epochs")
        what = f"{len(table)} settings, {table.shape[1]} epochs"
        if (
            int(row) != wanted
            and int(row) == int(table[:, -1].argmax())
            and len(table) <= 2 ** table.shape[1]
        ):
            raise Wrong(
                f"{what}: row {int(row)} has the best last column, but it had been dropped before: the last epoch of "
                "a setting that was dropped is never seen"
            )
        expect_same(int(row), wanted, f"{what}: the row of the survivor")
        hints = [(table.size, "that is every setting to the end; those dropped are not trained on")]
        expect_same(int(epochs), trained, f"{what}: epochs trained in all", hints=hints)
    return "few settings are trained to the end, and the last epochs of the others never"


def _halved(table: np.ndarray) -> tuple[int, int]:
    left, trained, epoch = list(range(len(table))), 0, 0
    while True:
        if epoch == 0 or len(left) > 1 and epoch < table.shape[1]:
            trained += len(left)
            epoch += 1
        if len(left) == 1:
            return left[0], trained
        left = sorted(left, key=lambda row: (-table[row, epoch - 1], row))[: (len(left) + 1) // 2]


def survivor(table):
    left, trained = np.arange(len(table)), 0
    for epoch in range(table.shape[1]):
        if epoch and len(left) == 1:
            break
        trained += len(left)
        order = np.argsort(-table[left, epoch], kind="stable")
        left = np.sort(left[order[: (len(left) + 1) // 2]])
    while len(left) > 1:
        order = np.argsort(-table[left, -1], kind="stable")
        left = np.sort(left[order[: (len(left) + 1) // 2]])
    return int(left[0]), trained


def check_honest(honest) -> str:
    g = np.random.default_rng(7)
    tie = np.array([[1, 0, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=bool)
    for hit, count in ((tie, 2), (g.random((6, 40)) < 0.7, 10), (g.random((30, 90)) < 0.9, 45)):
        row, share = expect_pair(honest(hit.copy(), count), "row", "accuracy")
        what = f"{len(hit)} settings, chosen by {count} of {hit.shape[1]} pictures"
        right = int(hit[:, :count].sum(1).argmax())
        hints = [
            (int(hit.sum(1).argmax()), "that one was chosen by all pictures"),
            (int(hit[:, count:].sum(1).argmax()), "that one was chosen by the other pictures"),
            (len(hit) - 1 - int(hit[::-1, :count].sum(1).argmax()), "of equal ones take the first"),
        ]
        expect_same(int(row), right, f"{what}: the row", hints=hints)
        hints = [
            (hit[right, :count].mean(), "the pictures that chose it flatter it"),
            (hit[right].mean(), "the pictures that chose it are among these, and flatter it"),
        ]
        expect_same(float(share), hit[right, count:].mean(), f"{what}: the accuracy", hints=hints)
    return "chosen by one part, reported by the other"


def honest(hit, count):
    row = hit[:, :count].mean(1).argmax()
    return row, hit[row, count:].mean()


EXERCISES = [
    Exercise(
        "10.1",
        "A verdict from the losses",
        (
            "First: all(math.isfinite(loss) for loss in losses). If not, the answer is 'smaller'.",
            "Then look at the last loss. Only if it is at 0.9 guess or above does the peak, max(losses), matter.",
        ),
        check_remedy,
        remedy,
    ),
    Exercise(
        "10.2",
        "The range of a range test",
        (
            "fallen = losses <= 0.95 * losses[0] is an array of True and False; its argmax is the first True.",
            "If fallen.any() is False, there is no range. The other end is rates[losses.argmin()].",
        ),
        check_rate_range,
        rate_range,
    ),
    Exercise(
        "10.3",
        "A loop with three bugs",
        (
            "What does cross_entropy take: scores or probabilities?",
            "Which label belongs to picture 0 after labels.flip(0)?",
            "backward adds to the gradients that are there. Who sets them back to zero?",
        ),
        check_mended,
        mended,
    ),
    Exercise(
        "10.4",
        "Momentum in log space",
        (
            "Draw the distance d = 1 - m. It lies between 1 - high and 1 - low.",
            "In log space d = a * (b / a) ** u. Which end is a, if u = 0 shall give m = low?",
        ),
        check_momentum_at,
        momentum_at,
    ),
    Exercise(
        "10.5",
        "Better than a grid",
        (
            "Start with the grid: np.indices((n, n, n)).reshape(3, -1) are the cells; divide by n.",
            "Move each setting within its cell: its first number by (second + third / n) / n of a step.",
            "Then the same for the second number, with third and first; and once more for the third.",
        ),
        check_settings,
        settings,
    ),
    Exercise(
        "10.6",
        "Successive halving",
        (
            "Keep an array of the rows that are left. In each epoch add its length to the epochs trained.",
            "np.argsort(-table[left, epoch], kind='stable') puts the best first; keep (len(left) + 1) // 2 of them.",
            "One setting alone trains at least its first epoch, and is not trained on once it is the last.",
        ),
        check_survivor,
        survivor,
    ),
    Exercise(
        "10.7",
        "An honest report",
        (
            "hit[:, :count] are the pictures that choose; their mean along axis 1 is one number a setting.",
            "argmax gives the first of equal ones. Then hit[row, count:] are the pictures that report.",
        ),
        check_honest,
        honest,
    ),
]
