"""Exercises of lesson 06: tables, equal units, fan-in, leaky ReLU, one factor, a broken layer, a measured start."""

from __future__ import annotations

import math

import numpy as np
import torch

from cnncourse.exercises import Exercise, Wrong, expect_pair, expect_same


def check_prepared(prepared) -> str:
    g = np.random.default_rng(0)
    for rows, others, columns in ((40, 7, 3), (5, 5, 5), (30, 1, 4)):
        train = g.normal(3, 2, size=(rows, columns)) * np.arange(1, columns + 1)
        test = g.normal(1, 2, size=(others, columns)) * np.arange(1, columns + 1)
        train[:, 1] = 4.0  # never changes
        mean, deviation = train.mean(0), train.std(0)
        deviation[1] = 1.0
        smaller = np.where(np.arange(columns) == 1, 1.0, np.sqrt(1 - 1 / rows))
        wanted = (train - mean) / deviation, (test - mean) / deviation
        with np.errstate(divide="ignore", invalid="ignore"):
            got = expect_pair(prepared(train.copy(), test.copy()), "train", "test")
        blown = np.asarray(got[1], dtype=float)
        if blown.shape == test.shape and np.isfinite(blown).all() and abs(blown).max() > 1e3:
            raise Wrong(
                "test: column 1 never changes in training, and a tiny number in place of its deviation "
                f"makes its entries as large as {abs(blown).max():.2g}; divide such columns by 1"
            )
        for name, one, other in zip(("train", "test"), got, wanted, strict=True):
            one = np.asarray(one, dtype=float)
            if one.shape == other.shape and not np.isfinite(one).all():
                raise Wrong(
                    f"{name}: column 1 never changes in training, its deviation is 0, and the result is not "
                    "finite; divide such columns by 1"
                )
            own = test - test.mean(0)
            if name == "test" and others > 1 and np.allclose(one.mean(0), 0) and own.any():
                raise Wrong(
                    "test: its own means were subtracted; a picture must not be changed by what else "
                    "is tested with it: use those of train"
                )
            if one.shape == other.shape and np.allclose(one.mean(1), 0):
                raise Wrong(
                    f"{name}: every row has mean 0; the mean should run over the rows: axis 0"
                )
            if one.shape == other.shape and np.allclose(one, other * smaller):
                one = other  # the deviation with n - 1 is welcome too
            expect_same(one, other, f"{name} of {rows} rows and {columns} columns")
    return "means and deviations of the training columns, for both tables"


def prepared(train, test):
    mean, deviation = train.mean(0), train.std(0)
    deviation = np.where(deviation > 0, deviation, 1.0)  # columns that never change
    return (train - mean) / deviation, (test - mean) / deviation


def check_merged(merged) -> str:
    g = torch.Generator().manual_seed(1)
    for units, different in ((6, 2), (5, 5), (8, 1)):
        rows = torch.randn(different, 4, generator=g).double()
        order = torch.cat(
            [torch.arange(different), torch.randint(different, (units - different,), generator=g)]
        )
        order = order[torch.randperm(units, generator=g)]
        first, second = rows[order], torch.randn(3, units, generator=g).double()
        small, out = expect_pair(merged(first.clone(), second.clone()), "first", "second")
        if tuple(small.shape) != (different, 4):
            raise Wrong(
                f"{units} units with {different} different rows: first should be {(different, 4)}, "
                f"got {tuple(small.shape)}"
            )
        x = torch.randn(9, 4, generator=g).double()
        scores = torch.relu(x @ first.T) @ second.T
        seen = list(dict.fromkeys(order.tolist()))
        if tuple(out.shape) != (3, different):
            raise Wrong(
                f"second should have one column for each unit that is left, {(3, different)}; got {tuple(out.shape)}"
            )
        if units > different:
            kept = torch.stack([second[:, (order == unit).nonzero()[0, 0]] for unit in seen], dim=1)
            if torch.allclose(out, kept):
                raise Wrong(
                    "the columns of the units that go must not be lost: what follows them is a sum"
                )
            means = torch.stack([second[:, order == unit].mean(1) for unit in seen], dim=1)
            if torch.allclose(out, means):
                raise Wrong("the columns of equal units are added up, not averaged")
        if sorted(small.tolist()) == sorted(rows[seen].tolist()) and not torch.equal(
            small, rows[seen]
        ):
            raise Wrong(
                "the right rows, but not in order of first appearance (torch.unique sorts them)"
            )
        expect_same(small, rows[seen], f"first, {units} units")
        expect_same(
            torch.relu(x @ small.T) @ out.T, scores, f"the scores of {units} units as {different}"
        )
    return "equal units count as one, with the sum of their outgoing weights"


def merged(first, second):
    rows, columns = [], []
    for row, column in zip(first, second.T, strict=True):
        for place, known in enumerate(rows):
            if torch.equal(row, known):
                columns[place] = columns[place] + column
                break
        else:
            rows.append(row)
            columns.append(column)
    return torch.stack(rows), torch.stack(columns, dim=1)


def check_fan_in_deviation(fan_in_deviation) -> str:
    for shape in ((10, 64), (64, 10), (8, 3, 5, 5), (16, 8, 1, 3)):
        fan_in = math.prod(shape[1:])
        answer = float(fan_in_deviation(shape))
        if math.isclose(answer, shape[0] ** -0.5):
            raise Wrong(
                f"{shape}: {answer:.4g} is 1 / sqrt(outputs); torch's shapes begin with the outputs"
            )
        if len(shape) == 4 and math.isclose(answer, shape[1] ** -0.5):
            raise Wrong(
                f"{shape}: a unit sums over {shape[2]}x{shape[3]} pixels of each of its {shape[1]} channels"
            )
        if math.isclose(answer, 1 / fan_in):
            raise Wrong(f"{shape}: {answer:.4g} is the variance; the deviation is its square root")
        expect_same(answer, fan_in**-0.5, f"the deviation for {shape}")
    return "one output sums over in x height x width inputs"


def fan_in_deviation(shape):
    return math.prod(shape[1:]) ** -0.5  # all axes but that of the outputs


def check_leaky_deviation(leaky_deviation) -> str:
    for n, slope in ((64, 0.01), (500, 0.25), (100, 0.0), (100, 1.0)):
        answer = float(leaky_deviation(n, slope))
        right = math.sqrt(2 / ((1 + slope**2) * n))
        if slope not in (0, 1) and math.isclose(answer, math.sqrt(2 / ((1 + slope) * n))):
            raise Wrong(
                "the negative half keeps slope squared of its mean square: sizes are squared before they are averaged"
            )
        if slope and math.isclose(answer, math.sqrt(2 / n)):
            raise Wrong("that is ReLU's; a leaky ReLU keeps some of the negative half")
        if math.isclose(answer, right**2):
            raise Wrong("that is the variance; the deviation is its square root")
        expect_same(answer, right, f"n = {n}, slope = {slope}")
    return "half of 1 plus half of slope squared is kept: 2 for ReLU, 1 without bend"


def leaky_deviation(n, slope):
    kept = (1 + slope**2) / 2  # share of the mean square that passes
    return math.sqrt(1 / (kept * n))


def check_same_way(same_way) -> str:
    for layers, rate, c in ((31, 0.001, math.sqrt(2)), (1, 0.1, 3.0), (4, 0.5, 0.5)):
        factor, new_rate = expect_pair(same_way(layers, rate, c), "factor", "learning rate")
        if layers > 1 and math.isclose(factor, c * layers):
            raise Wrong(f"{layers} matrices: their factors multiply, c ** layers")
        if math.isclose(factor, c**-layers):
            raise Wrong("the scores have become smaller by c ** layers; the factor gives this back")
        expect_same(factor, c**layers, f"{layers} matrices divided by {c:.3g}: the factor")
        if math.isclose(new_rate, rate):
            raise Wrong(
                "with the old rate the steps are too large: the gradients have grown by c, and the "
                "weights have shrunk by c"
            )
        if math.isclose(new_rate, rate / c):
            raise Wrong(
                "by c for the gradients, which have grown; and once more by c, for the weights have shrunk"
            )
        expect_same(new_rate, rate / c**2, f"{layers} matrices divided by {c:.3g}: the rate")
    return "c once for each matrix, and c twice for the rate: larger gradients, smaller weights"


def same_way(layers, rate, c):
    return c**layers, rate / c**2


def check_broken(broken) -> str:
    g = torch.Generator().manual_seed(3)
    widths = (100, 200, 150, 150, 150, 10)
    x = torch.randn(200, 100, generator=g).double()
    for number, wrong in ((3, 0.05), (1, 20.0), (4, 3.0), (2, 0.4)):
        weights = [
            torch.randn(n, m, generator=g).double() * math.sqrt(2 / n)
            for n, m in zip(widths, widths[1:], strict=False)
        ]
        weights[number - 1] *= wrong
        got, factor = expect_pair(
            broken([w.clone() for w in weights], x.clone()), "number", "factor"
        )
        place = f"matrix {number}, multiplied by {wrong:g}"
        if int(got) == number - 1 and math.isclose(float(factor), 1 / wrong, rel_tol=0.2):
            raise Wrong(f"{place}: got number {got}; matrices are counted from 1")
        if int(got) == len(weights):
            raise Wrong(
                f"{place}: got {got}. All sizes behind the broken matrix are wrong; it is the first: "
                "divide each size by the one before it"
            )
        if int(got) != number:
            raise Wrong(f"{place}: got number {got}. By what does each matrix multiply the size?")
        if math.isclose(float(factor), wrong, rel_tol=0.2):
            raise Wrong(
                f"{place}: {float(factor):.3g} is what it was multiplied by; mend with 1 over it"
            )
        if math.isclose(float(factor), wrong**-2, rel_tol=0.3):
            raise Wrong(f"{place}: the mean square is off by that; the size by its root")
        if not math.isclose(float(factor), 1 / wrong, rel_tol=0.2):
            raise Wrong(
                f"{place}: expected about {1 / wrong:.3g} as factor, got {float(factor):.3g}"
            )
    return "the size jumps at the broken matrix; all behind it only pass the jump on"


def broken(weights, x):
    jumps = []  # by what each matrix, with its ReLU, multiplies the size
    for weight in weights[:-1]:
        out = torch.relu(x @ weight)
        jumps.append((out.square().mean() / x.square().mean()).sqrt().item())
        x = out
    jumps.append((((x @ weights[-1]).square().mean() / 2 / x.square().mean()).sqrt()).item())
    number = max(range(len(jumps)), key=lambda place: abs(math.log(jumps[place])))
    return number + 1, 1 / jumps[number]


def check_measured_start(measured_start) -> str:
    g = torch.Generator().manual_seed(2)
    for bend, name in ((torch.relu, "ReLU"), (torch.abs, "|z|"), (lambda z: z, "no bend")):
        sizes = (20, 30, 30, 10)
        x = torch.randn(200, 20, generator=g).double()
        weights = [
            torch.randn(n, m, generator=g).double() * 0.03
            for n, m in zip(sizes, sizes[1:], strict=False)
        ]
        answer = list(measured_start([weight.clone() for weight in weights], x.clone(), bend))
        if len(answer) != len(weights):
            raise Wrong(f"expected {len(weights)} matrices, got {len(answer)}")
        old_inputs, before_bend = _measured_wrongly(weights, x, bend)
        out = x
        for number, (new, old) in enumerate(zip(answer, weights, strict=True), 1):
            ratio = new / old
            if not torch.allclose(ratio, ratio[0, 0].expand_as(ratio)):
                raise Wrong(f"layer {number}: the matrix should be the old one times one number")
            out = bend(out @ new)
            size = out.square().mean().sqrt().item()
            spread = out.std().item()
            if abs(spread - 1) < 1e-6 and abs(size - 1) > 1e-4:
                raise Wrong(
                    f"layer {number}: its deviation is 1, its size {size:.3f}: take the root of the mean square"
                )
            if number > 1 and torch.allclose(new, old_inputs[number - 1]):
                raise Wrong(
                    f"layer {number}: measured with the old outputs of layer {number - 1} as its inputs; "
                    "compute them anew with the rescaled matrix"
                )
            if name == "ReLU" and torch.allclose(new, before_bend[number - 1]):
                raise Wrong(
                    f"layer {number}: size 1 in front of the bend; measure behind it, bend(x @ weight)"
                )
            expect_same(size, 1.0, f"the size behind layer {number} ({name})")
    return (
        "divide by the measured size, layer by layer, each with the new layers before it. (tanh: its "
        "outputs never reach size 1; measure in front of the bend.)"
    )


def _measured_wrongly(weights, x, bend) -> tuple[list, list]:
    """The matrices measured with the old outputs before them, and in front of the bend."""
    old_inputs, before_bend, old, new = [], [], x, x
    for weight in weights:
        old_inputs.append(weight / bend(old @ weight).square().mean().sqrt())
        before_bend.append(weight / (new @ weight).square().mean().sqrt())
        old, new = bend(old @ weight), bend(new @ before_bend[-1])
    return old_inputs, before_bend


def measured_start(weights, x, bend):
    new = []
    for weight in weights:
        weight = weight / bend(x @ weight).square().mean().sqrt()
        x = bend(x @ weight)  # the next layer sees the rescaled one
        new.append(weight)
    return new


EXERCISES = [
    Exercise(
        "06.1",
        "Two tables, prepared alike",
        (
            "train.mean(0) has one number a column. Which axis does it run over?",
            "Subtract the means of train from both tables, then divide both by train.std(0).",
            "Where the deviation is 0, divide by 1: np.where(deviation > 0, deviation, 1).",
        ),
        check_prepared,
        prepared,
    ),
    Exercise(
        "06.2",
        "Equal units compute as one",
        (
            "Two equal rows of first give the same number h. Their columns a and b of second add a h + b h.",
            "So one unit with the column a + b does the same. Go through the rows and keep those not seen yet.",
        ),
        check_merged,
        merged,
    ),
    Exercise(
        "06.3",
        "The fan-in of a convolution",
        (
            "How many products does one output of a 5x5 filter over 3 channels add up?",
            "All axes of the shape but the first: math.prod(shape[1:]).",
        ),
        check_fan_in_deviation,
        fan_in_deviation,
    ),
    Exercise(
        "06.4",
        "He's start for a leaky ReLU",
        (
            "Positive sums keep their square. The other half is multiplied by slope: and its square?",
            "The mean square is multiplied by (1 + slope**2) / 2. The weights' variance must make up for it.",
        ),
        check_leaky_deviation,
        leaky_deviation,
    ),
    Exercise(
        "06.5",
        "The same way with smaller weights",
        (
            "Dividing one matrix by c divides the scores by c. And all of them?",
            "With the factor the loss is the same function. If V = W / c, its slope by V is c times that by W.",
            "The step of V should be that of W, divided by c. So rate * c * slope * ? = rate * slope / c.",
        ),
        check_same_way,
        same_way,
    ),
    Exercise(
        "06.6",
        "The broken matrix",
        (
            "Compute the outputs of each layer, torch.relu(x @ weight), and their sizes. The last has no ReLU.",
            "Divide each size by the one before it: with He's deviation a matrix and its ReLU keep the size.",
            "The quotient that is far from 1 tells the matrix; the factor is 1 over it.",
        ),
        check_broken,
        broken,
    ),
    Exercise(
        "06.7",
        "A measured start",
        (
            "Compute bend(x @ weight) and its size. By which number must the weight be divided?",
            "Then compute the outputs again with the new weight: they are the inputs of the next layer.",
        ),
        check_measured_start,
        measured_start,
    ),
]
