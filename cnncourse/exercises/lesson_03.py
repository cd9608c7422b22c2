"""Exercises of lesson 03: nodes and gates with their slopes, by pencil too, a planted mistake, slopes of the input."""

from __future__ import annotations

import inspect

import numpy as np

from cnncourse.exercises import Exercise, Wrong, expect_same


def check_maximum(maximum, node_class) -> str:
    for first, second in ((3.0, -1.0), (-2.0, 5.0), (-4.0, -1.5), (0.5, 0.25), (2.0, 2.0)):
        x, y = node_class(first), node_class(second)
        node, case = maximum(x, y), f"max({first:g}, {second:g})"
        if not isinstance(node, node_class):
            raise Wrong(
                f"{case}: expected a Node, got {type(node).__name__}; wrap the number in one"
            )
        if node.value != max(first, second):
            raise Wrong(f"{case}: the value is {node.value}, expected {max(first, second):g}")
        if not (isinstance(node.parts, tuple | list) and isinstance(node.slopes, tuple | list)):
            raise Wrong(
                f"{case}: parts and slopes are tuples; one of one thing is (x,), with a comma"
            )
        if len(node.parts) != len(node.slopes):
            raise Wrong(
                f"{case}: {len(node.parts)} parts and {len(node.slopes)} slopes; each part needs one"
            )
        if any(part is not x and part is not y for part in node.parts):
            raise Wrong(f"{case}: the parts must be the nodes x and y themselves, not new ones")
        slopes = {id(x): 0.0, id(y): 0.0}
        for part, slope in zip(node.parts, node.slopes, strict=True):
            slopes[id(part)] += float(slope)
        got = slopes[id(x)], slopes[id(y)]
        if first == second:
            if not np.isclose(sum(got), 1) or min(got) < 0:
                raise Wrong(
                    f"{case}: slopes {got} at a tie. If both grow by 1 the maximum grows by 1, not by "
                    f"{sum(got):g}: give the slope to one of them, or share it"
                )
            continue
        expected = (1.0, 0.0) if first > second else (0.0, 1.0)
        if got == expected[::-1]:
            raise Wrong(
                f"{case}: slopes {got}: you give the 1 to the smaller one; only the larger moves "
                "the maximum"
            )
        if got == (1.0, 1.0):
            raise Wrong(f"{case}: slopes {got}; the smaller number can move without any effect")
        if got != expected:
            raise Wrong(
                f"{case}: slopes {got}, expected {expected}: by how much does the maximum move, for "
                "each unit that this part moves?"
            )
    return "the larger part passes everything on, the smaller one nothing: a switch for slopes."


def solve_maximum(x, y):
    first = x.value >= y.value
    slopes = (1.0, 0.0) if first else (0.0, 1.0)
    return type(x)(max(x.value, y.value), (x, y), slopes, "max")


def check_slopes_by_hand(slopes) -> str:
    if not isinstance(slopes, tuple | list | np.ndarray) or len(slopes) != 3:
        raise Wrong("expected three numbers, the slopes for x, y and z, as in (1, 2, 3)")
    x, y, z = 2.0, 1.0, -3.0
    first, second = x + y, x * z  # f = first · second
    expect_same(
        slopes,
        (second + first * z, second, first * x),
        "the slopes at x = 2, y = 1, z = −3",
        (
            ((second, second, first * x), "x is used twice; the way through x·z is forgotten"),
            ((first * z, second, first * x), "x is used twice; the way through x + y is forgotten"),
            (
                (second * first * z, second, first * x),
                "the two ways of x were multiplied; along a way slopes multiply, two ways add",
            ),
            (
                (1 + z, 1, x),
                "these are slopes of the first operations alone; multiply by what arrives there "
                "from the end, −6 at the sum and 3 at the product",
            ),
            (
                (first + second * z, first, second * x),
                "a factor's slope is the *other* factor: at x + y arrives x·z = −6, at x·z arrives 3",
            ),
        ),
    )
    return "two ways lead to x, −6 through the sum and −9 through the product, and they add."


def solve_slopes_by_hand():
    # values: x + y = 3, x·z = −6, f = −18; what arrives: −6 at x + y, 3 at x·z
    return [-6 * 1 + 3 * -3, -6 * 1, 3 * 2]


def check_multiply_gate(gate_class) -> str:
    for name, count in (("forward", 3), ("backward", 2)):
        method = inspect.getattr_static(gate_class, name, None)
        if method is None:
            raise Wrong(f"the class has no method {name}")
        if callable(method) and len(inspect.signature(method).parameters) == count - 1:
            raise Wrong(
                f"{name} lacks self: Python passes the gate itself as the first argument of a method"
            )
    gate = gate_class()
    if gate.forward(3.0, -2.0) != -6.0:
        raise Wrong(f"3 · −2: forward gives {gate.forward(3.0, -2.0)}, expected −6")
    other = gate_class()
    other.forward(7.0, 11.0)
    got = gate.backward(2.0)
    if not (isinstance(got, tuple | list) and len(got) == 2):
        raise Wrong("backward should return two slopes, one for x and one for y")
    dx, dy = map(float, got)
    if (dx, dy) == (22.0, 14.0):
        raise Wrong("two gates share what they keep; keep it in self, not in the class or a global")
    if (dx, dy) == (6.0, -4.0):
        raise Wrong(
            "x = 3, y = −2, dz = 2: dx = 6 and dy = −4 are exchanged. If x moves by 1, z moves by y"
        )
    if (dx, dy) in ((-2.0, 3.0), (3.0, -2.0)):
        raise Wrong("the local slopes alone; multiply by dz, the slope that arrives from the end")
    if (dx, dy) != (-4.0, 6.0):
        raise Wrong(f"x = 3, y = −2, dz = 2: expected dx = −4 and dy = 6, got {dx:g} and {dy:g}")
    return "two methods, two missing words, one exchange. Each factor's slope is the other factor."


class SolvedMultiplyGate:
    def forward(self, x, y):
        self.x = x
        self.y = y
        return x * y

    def backward(self, dz):
        dx = self.y * dz  # the other factor, times what arrives
        dy = self.x * dz
        return [dx, dy]


def solve_multiply_gate():
    return SolvedMultiplyGate


def check_guilty(name) -> str:
    name = name.strip().lower() if isinstance(name, str) else type(name).__name__.lower()
    known = ("square", "absolute", "tanh", "leaky")
    if name not in known:
        raise Wrong(f"expected one of the four names, got {name!r}")
    if name == "absolute":
        raise Wrong(
            "Absolute is right wherever it has a slope; at exactly 0 it has a kink, and there the check "
            "accuses the innocent"
        )
    if name != "leaky":
        raise Wrong(
            f"{name} is right everywhere. Try numbers of both signs between −3 and 3: "
            "np.linspace(-3, 3, 14)"
        )
    return "below −1 its backward says 0. Nobody finds that with numbers above −1."


def solve_guilty():
    return "Leaky"


def check_row_max_backward(row_max_backward) -> str:
    x = np.random.default_rng(0).permutation(20).reshape(4, 5) - 12.0  # no two are equal
    grad = np.array([2.0, -1.0, 0.5, 3.0])
    given = x.copy(), grad.copy()
    winner = (x == x.max(axis=1, keepdims=True)).astype(float)
    slopes = row_max_backward(*given)
    expect_same(
        slopes,
        winner * grad[:, None],
        "slopes for 4 rows",
        (
            (winner, "the local slopes alone; multiply each row by what arrives for it"),
            (winner.T * grad, "rows and columns are exchanged"),
            (
                np.repeat(grad[:, None], 5, axis=1),
                "all numbers of a row got the slope; only the largest moves the result",
            ),
            (
                np.repeat(grad[:, None], 5, axis=1) / 5,
                "the slope was shared by the whole row; only the largest moves the result",
            ),
            (x * winner * grad[:, None], "the values came in; the slope of the largest is 1"),
        ),
    )
    if not (np.array_equal(given[0], x) and np.array_equal(given[1], grad)):
        raise Wrong("the arrays of the caller were changed; make a new one for the slopes")
    got = np.asarray(row_max_backward(np.array([[1.0, 4.0, 4.0]]), np.array([1.0])))
    if not np.allclose(got, [[0.0, 1.0, 0.0]]):
        raise Wrong(
            f"a row 1, 4, 4: expected the slopes 0, 1, 0, got {got.tolist()[0]}; if both had a 1, the "
            "slopes that arrive would be doubled. np.argmax finds the first"
        )
    return "max pooling does just this in little windows: the winner takes the slope."


def solve_row_max_backward(x, grad):
    slopes = np.zeros_like(x)
    slopes[np.arange(len(x)), x.argmax(axis=1)] = grad  # argmax: the first of equals
    return slopes


def check_input_gradient(input_gradient, network_class, loss_class) -> str:
    random = np.random.default_rng(0)
    network, loss = network_class([4, 6, 5, 3], random), loss_class()
    x, labels = random.normal(size=(7, 4)), random.integers(0, 3, 7)
    kept = [[each.copy() for each in gate.weights] for gate in network.gates]
    expected, h = np.zeros_like(x), 1e-6
    for place in np.ndindex(x.shape):
        sides = []
        for sign in (1, -1):
            nudged = x.copy()
            nudged[place] += sign * h
            sides.append(loss.forward(network.forward(nudged), labels))
        expected[place] = (sides[0] - sides[1]) / (2 * h)
    got = input_gradient(network, loss, x.copy(), labels)
    if got is None:
        raise Wrong("the function returns nothing; Network.backward returns nothing either")
    first = network.gates[0].weights[0]
    expect_same(
        got,
        expected,
        "7 rows of 4 numbers",
        (
            (7 * expected, "the slopes of the *sum* of the losses; begin with loss.backward()"),
            (-expected, "the sign is exchanged"),
            (expected.T, "rows and columns are exchanged; a gradient has the shape of x"),
        ),
        tolerance=1e-6,
        shapes=((first.shape, "that is the gradient of the first weights, not of x"),),
    )
    for gate, before in zip(network.gates, kept, strict=True):
        if any(not np.array_equal(a, b) for a, b in zip(gate.weights, before, strict=True)):
            raise Wrong("the slopes are right, but the network's weights were changed")
    return "the same walk, one gate further: now each pixel knows what it does to the loss."


def solve_input_gradient(network, loss, x, labels):
    loss.forward(network.forward(x), labels)
    grad = loss.backward()  # (N, classes)
    for gate in reversed(network.gates):
        grad = gate.backward(grad)
    return grad


EXERCISES = [
    Exercise(
        "03.1",
        "The node of a maximum",
        (
            "At max(3, −1): nudge the 3, and the result moves with it; nudge the −1, and nothing happens.",
            "Slopes (1.0, 0.0) where x is larger, (0.0, 1.0) where y is.",
        ),
        check_maximum,
        solve_maximum,
        given=("Node",),
    ),
    Exercise(
        "03.2",
        "Slopes by hand",
        (
            "The values: x + y = 3, x·z = −6, f = −18. What arrives at the sum, what at the product?",
            "At the sum arrives −6, at the product 3. Two ways lead back to x: add them.",
        ),
        check_slopes_by_hand,
        solve_slopes_by_hand,
        returns_answer=True,
    ),
    Exercise(
        "03.3",
        "Mend the multiplication",
        (
            "Methods get the object they belong to as their first argument, self.",
            "With self in place, compare backward with the slopes of q·z in section 1.",
        ),
        check_multiply_gate,
        solve_multiply_gate,
        returns_answer=True,
    ),
    Exercise(
        "03.4",
        "Find the planted mistake",
        (
            "Which numbers have not been tried? Give gate_error an array of others.",
            "Try np.linspace(-3, 3, 14): both signs, and not 0.",
        ),
        check_guilty,
        solve_guilty,
        returns_answer=True,
    ),
    Exercise(
        "03.5",
        "The largest of each row",
        (
            "Where was the largest of each row? x.argmax(axis=1) tells, and takes the first of equals.",
            "Begin with zeros of the shape of x; write grad at [np.arange(len(x)), x.argmax(axis=1)].",
        ),
        check_row_max_backward,
        solve_row_max_backward,
    ),
    Exercise(
        "03.6",
        "One gate further",
        (
            "Run forward and the loss, then begin with loss.backward().",
            "Write the loop of Network.backward yourself; what is left in grad at its end?",
        ),
        check_input_gradient,
        solve_input_gradient,
        given=("Network", "SoftmaxLoss"),
    ),
]
