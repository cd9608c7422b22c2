"""What lesson 03 writes out agrees with torch and differences; its exercises accept solutions and reject mistakes."""

import math

import numpy as np
import pytest
import torch
from lesson_checks import rejects
from torch import nn
from torch.nn import functional

from cnncourse import exercises, paths
from cnncourse.exercises import lesson_03
from cnncourse.lab import definitions


@pytest.fixture(scope="module")
def lesson():
    return definitions("03")


def both(lesson, *values):
    """The same inputs as nodes and as tensors."""
    nodes = [lesson.Node(value) for value in values]
    return nodes, [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in values]


def assert_same_slopes(nodes, tensors):
    for node, tensor in zip(nodes, tensors, strict=True):
        assert node.grad == pytest.approx(tensor.grad.item(), rel=1e-12, abs=1e-14)


# --- nodes ----------------------------------------------------------------------------------------------------------


def test_the_worked_example_has_the_slopes_of_the_lecture(lesson):
    x, y, z = (lesson.Node(value) for value in (-2.0, 5.0, -4.0))
    end = (x + y) * z
    for _ in range(2):  # a second walk begins anew
        lesson.backward(end)
        assert (end.value, x.grad, y.grad, z.grad) == (-12.0, -4.0, -4.0, 3.0)


def test_the_sigmoid_neuron_has_the_slopes_of_torch(lesson):
    (w0, x0, w1, x1, w2), tensors = both(lesson, 2.0, -1.0, -3.0, -2.0, -3.0)
    end = lesson.sigmoid(w0 * x0 + w1 * x1 + w2)
    lesson.backward(end)
    a, b, c, d, e = tensors
    torch.sigmoid(a * b + c * d + e).backward()
    assert end.value == pytest.approx(0.731, abs=5e-4)
    assert_same_slopes((w0, x0, w1, x1, w2), tensors)


@pytest.mark.parametrize("value", [-2.5, -0.3, 0.7, 3.0])
def test_each_step_has_the_slope_of_torch(lesson, value):
    steps = {
        "exp": (lesson.exp, torch.exp),
        "plus": (lambda x: lesson.plus(x, 3), lambda x: x + 3),
        "times": (lambda x: lesson.times(x, -1.5), lambda x: -1.5 * x),
        "one over": (lesson.one_over, lambda x: 1 / x),
        "sigmoid": (lesson.sigmoid, torch.sigmoid),
        "twice the same part": (lambda x: x * x, lambda x: x * x),
    }
    for here, there in steps.values():
        (node,), (tensor,) = both(lesson, value)
        end, expected = here(node), there(tensor)
        lesson.backward(end)
        expected.backward()
        assert end.value == pytest.approx(expected.item(), rel=1e-14)
        assert_same_slopes((node,), (tensor,))


def test_the_sigmoid_bears_numbers_for_which_exp_overflows(lesson):
    assert lesson.sigmoid(lesson.Node(-1000.0)).value == 0.0
    assert lesson.sigmoid(lesson.Node(1000.0)).value == 1.0
    with pytest.raises(OverflowError):
        math.exp(1000)


def test_random_graphs_have_the_slopes_of_torch_and_a_lost_plus_is_noticed(lesson):
    worst, overwritten = 0.0, 0
    lesson.__dict__.setdefault("seed", 0)
    for number in range(30):
        for walk in (lesson.backward, lesson.backward_overwriting):
            ours, end, theirs, expected = lesson.random_graph(number)
            walk(end)
            slopes = torch.autograd.grad(
                expected, theirs, allow_unused=True, materialize_grads=True
            )
            off = max(
                abs(node.grad - slope.item()) / max(1, abs(slope.item()))
                for node, slope in zip(ours, slopes, strict=True)
            )
            if walk is lesson.backward:
                worst = max(worst, off)
            else:
                overwritten += off > 1e-3
    assert worst < 1e-12 and overwritten > 25


def test_all_ways_add_up_to_what_one_walk_finds(lesson):
    node = first = lesson.Node(0.3)
    for _ in range(8):
        node = node + lesson.sigmoid(node) * node
    slope, products = lesson.by_ways(node, first)
    lesson.backward(node)
    assert slope == pytest.approx(first.grad, rel=1e-12)
    assert products > 20 * lesson.edges(node)


def test_parts_come_before_what_is_made_of_them_each_once(lesson):
    x = lesson.Node(1.0)
    y = x * x
    end = (y + x) * (y + y)
    order = list(lesson.in_order(end, {}))
    assert len(order) == len({id(node) for node in order}) == 5
    for node in order:
        assert all(order.index(part) < order.index(node) for part in node.parts)


def test_a_graph_is_drawn_with_parts_left_of_what_is_made_of_them(lesson):
    x, y, z = (lesson.Node(value) for value in (1.0, 2.0, 3.0))
    place = lesson.places((x + y) * z)
    assert all(place[part][0] < place[node][0] for node in place for part in node.parts)
    assert len(set(place.values())) == len(place)


# --- gates ----------------------------------------------------------------------------------------------------------


def random_array(*size, seed=0):
    return np.random.default_rng(seed).normal(size=size)


GATES = {
    "Add": (2, lambda x, y: x + y),
    "Subtract": (2, lambda x, y: x - y),
    "Multiply": (2, lambda x, y: x * y),
    "Maximum": (2, torch.maximum),
    "Sigmoid": (1, torch.sigmoid),
    "ReLU": (1, torch.relu),
    "Square": (1, lambda x: x**2),
    "Absolute": (1, torch.abs),
    "Tanh": (1, torch.tanh),
    "Convolution": (
        2,
        lambda x, y: functional.conv2d(x[None, None], y[None, None])[0, 0],
    ),
}


@pytest.mark.parametrize("name", GATES)
def test_each_gate_agrees_with_torch_forward_and_backward(lesson, name):
    count, reference = GATES[name]
    sizes = ((6, 5), (3, 2)) if name == "Convolution" else ((6, 5), (6, 5))
    arrays = [random_array(*size, seed=n) for n, size in enumerate(sizes[:count])]
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    gate, expected = getattr(lesson, name)(), reference(*tensors)
    result = gate.forward(*arrays)
    np.testing.assert_allclose(result, expected.detach().numpy(), atol=1e-12)
    grad = random_array(*result.shape, seed=9)
    slopes = gate.backward(grad)
    expected.backward(torch.tensor(grad))
    for slope, tensor in zip(slopes if count == 2 else (slopes,), tensors, strict=True):
        np.testing.assert_allclose(slope, tensor.grad.numpy(), atol=1e-12)


@pytest.mark.parametrize("sizes", [[2, 3], [4, 7, 3], [3, 8, 5, 2], [2, 4, 4, 4, 3]])
def test_networks_of_any_depth_have_the_loss_and_the_slopes_of_torch(lesson, sizes):
    random = np.random.default_rng(1)
    network, loss = lesson.Network(sizes, random), lesson.SoftmaxLoss()
    x, labels = random.normal(size=(9, sizes[0])), random.integers(sizes[-1], size=9)
    value = loss.forward(network.forward(x), labels)
    ours, theirs = (
        lesson.our_slopes(network, x, labels),
        lesson.torch_slopes(network, x, labels),
    )
    scores = torch.tensor(network.forward(x))
    assert value == pytest.approx(functional.cross_entropy(scores, torch.tensor(labels)).item())
    assert len(ours) == len(theirs) == 2 * (len(sizes) - 1)
    for here, there in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(here, there, atol=1e-12)


def test_the_loss_bears_large_scores(lesson):
    loss = lesson.SoftmaxLoss()
    assert loss.forward(np.array([[1000.0, 0.0], [0.0, 1000.0]]), np.array([0, 0])) == 500.0
    assert np.isfinite(loss.backward()).all()


def test_training_is_gradient_descent_as_torch_does_it(lesson):
    random = np.random.default_rng(2)
    network = lesson.Network([2, 6, 3], random)
    twin = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    for layer, gate in ((twin[0], network.gates[0]), (twin[2], network.gates[2])):
        layer.weight.data = torch.tensor(gate.weights[0]).T.clone()
        layer.bias.data = torch.tensor(gate.weights[1]).clone()
    x, labels = random.normal(size=(12, 2)), random.integers(3, size=12)
    losses = lesson.train(network, x, labels, 20, 0.5)
    optimizer, expected = torch.optim.SGD(twin.parameters(), lr=0.5), []
    for _ in range(20):
        optimizer.zero_grad()
        loss = functional.cross_entropy(twin(torch.tensor(x)), torch.tensor(labels))
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    np.testing.assert_allclose(losses, expected, rtol=1e-10)


# --- the gradient check ---------------------------------------------------------------------------------------------


def test_numeric_gradients_agree_with_the_formula_and_leave_the_array_as_it_was(lesson):
    x = random_array(3, 4)
    kept = x.copy()
    slopes = lesson.numeric_gradient(lambda: (x**3).sum(), x)
    np.testing.assert_allclose(slopes, 3 * kept**2, rtol=1e-7)
    assert np.array_equal(x, kept)


def test_the_relative_error_is_0_for_equal_1_for_opposite_and_about_0_7_for_unrelated_arrays(
    lesson,
):
    one, other = random_array(100, 100), random_array(100, 100, seed=1)
    assert lesson.relative_error(one, one) == 0 and lesson.relative_error(0 * one, 0 * one) == 0
    assert lesson.relative_error(one, -one) == pytest.approx(1)
    assert lesson.relative_error(one, other) == pytest.approx(0.5**0.5, abs=0.02)


MISTAKEN = [
    ("HalfWeights", 0),
    ("WrongSignOffset", 2),
    ("NoOffset", 0),
    ("NoMask", 1),
    ("OtherWeightsBack", 2),
]


@pytest.mark.parametrize(("kind", "place"), MISTAKEN)
def test_the_check_finds_each_planted_mistake_and_passes_the_right_network(lesson, kind, place):
    random = np.random.default_rng(3)
    network = lesson.Network([2, 12, 3], random)
    x, labels = random.normal(size=(8, 2)), random.integers(3, size=8)
    assert lesson.network_error(network, x, labels) < 1e-7
    broken = lesson.planted([2, 12, 3], place, getattr(lesson, kind), np.random.default_rng(3))
    for here, there in zip(network.gates, broken.gates, strict=True):
        for weights, same in zip(here.weights, there.weights, strict=True):
            np.testing.assert_array_equal(weights, same)  # only the gradient differs
    assert lesson.network_error(broken, x, labels) > 0.1


def test_frozen_layers_send_right_slopes_down_and_take_no_step(lesson):
    random = np.random.default_rng(4)
    network = lesson.Network([2, 6, 3], random)
    x, labels = random.normal(size=(8, 2)), random.integers(3, size=8)
    expected = lesson.our_slopes(network, x, labels)
    frozen = lesson.planted([2, 6, 3], 2, lesson.Frozen, np.random.default_rng(4))
    slopes = lesson.our_slopes(frozen, x, labels)
    np.testing.assert_array_equal(slopes[0], expected[0])
    assert not slopes[2].any() and not slopes[3].any()


def test_of_the_four_suspects_only_leaky_fails_and_only_below_minus_1(lesson):
    above, everywhere = np.array([-0.9, -0.2, 0.5, 1.5, 2.5]), np.linspace(-3, 3, 14)
    for name in ("Square", "Absolute", "Tanh", "Leaky"):
        gate = getattr(lesson, name)()
        assert lesson.gate_error(gate, above) < 1e-7
        assert (lesson.gate_error(gate, everywhere) > 1e-2) == (name == "Leaky")


@pytest.mark.parametrize(
    "kind", ["NoResemblance", "AnotherDirection", "RightWeightsBack", "NothingBack"]
)
def test_no_neuron_resembles_the_numbers_taken_out_of_it_and_only_its_part_is(lesson, kind):
    random = np.random.default_rng(5)
    gate, x, grad = getattr(lesson, kind)(6, 3, random), random.normal(size=(4, 6)), np.eye(4, 3)
    before = gate.weights[0].copy()
    gate.forward(x)
    W, along = gate.weights[0], np.roll(gate.other, kind == "AnotherDirection", axis=0)
    along = along - along.mean(axis=1, keepdims=True)
    np.testing.assert_allclose((W * along).sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(before - W, along * ((before - W) / along)[:, :1], atol=1e-12)
    back = {"RightWeightsBack": W, "NothingBack": 0 * W}.get(kind, gate.other)
    np.testing.assert_array_equal(gate.backward(grad), grad @ back.T)


def test_random_weights_back_keep_the_cosine_of_what_the_first_layer_hears(lesson):
    random = np.random.default_rng(6)
    gate, x, grad = lesson.OtherWeightsBack(4, 3, random), random.normal(size=(5, 4)), np.eye(5, 3)
    gate.forward(x)
    np.testing.assert_array_equal(gate.backward(grad), grad @ gate.other.T)
    heard, right = (grad @ gate.other.T)[x > 0], (grad @ gate.weights[0].T)[x > 0]
    expected = heard @ right / np.sqrt(heard @ heard * (right @ right))
    assert gate.cosines == [pytest.approx(expected)]


def test_the_neuron_in_float32_is_the_neuron_with_fewer_digits(lesson):
    for value in (-1.0, 2.0, 4.5):
        coarse = lesson.neuron_in_float32(value)
        assert coarse.dtype == np.float32
        assert coarse == pytest.approx(lesson.neuron_at(value), rel=1e-6)


def test_a_jump_sends_nothing_back_and_a_pretended_ramp_does(lesson):
    x, grad = np.array([-2.0, -0.5, 0.5, 2.0]), np.ones(4)
    jump, ramp = lesson.Jump(), lesson.PretendedRamp()
    assert jump.forward(x).tolist() == ramp.forward(x).tolist() == [0, 0, 1, 1]
    assert jump.backward(grad).tolist() == [0, 0, 0, 0]
    assert ramp.backward(grad).tolist() == [0, 1, 1, 0]


def test_the_spiral_has_its_arms_in_the_plane(lesson):
    x, labels = lesson.spiral(50, np.random.default_rng(0))
    assert x.shape == (150, 2) and np.bincount(labels).tolist() == [50, 50, 50]
    radius = np.linalg.norm(x, axis=1)
    assert radius.min() == pytest.approx(0.1) and radius.max() == pytest.approx(1)


# --- exercises ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tools(lesson):
    """What the lesson hands to a check besides the answer."""
    return {"03.1": (lesson.Node,), "03.6": (lesson.Network, lesson.SoftmaxLoss)}


@pytest.mark.parametrize("exercise", lesson_03.EXERCISES, ids=lambda exercise: exercise.id)
def test_each_check_accepts_its_solution_and_says_what_it_shows(exercise, tools, capsys):
    exercises.check(exercise.id, *exercise.answers(), *tools.get(exercise.id, ()))
    assert capsys.readouterr().out.startswith(f"{exercise.id} right: ")


def maximum_with(slopes):
    def maximum(x, y):
        return type(x)(max(x.value, y.value), (x, y), slopes(x.value, y.value), "max")

    return maximum


class PrintedGate:  # as printed in the notes
    def forward(x, y):
        z = x * y
        self.x = x  # noqa: F821
        self.y = y  # noqa: F821
        return z

    def backward(dz):
        dx = self.y * dz  # noqa: F821
        dy = self.x * dz  # noqa: F821
        return [dx, dy]


class HalfMendedGate:
    def forward(self, x, y):
        self.x, self.y = x, y
        return x * y

    def backward(dz):
        return [0.0, 0.0]


class ExchangedGate(lesson_03.SolvedMultiplyGate):
    def backward(self, dz):
        return [self.x * dz, self.y * dz]


class LocalGate(lesson_03.SolvedMultiplyGate):
    def backward(self, dz):
        return [self.y, self.x]


class SharingGate:
    def forward(self, x, y):
        SharingGate.kept = x, y
        return x * y

    def backward(self, dz):
        x, y = SharingGate.kept
        return [y * dz, x * dz]


def winners(x, grad):
    return (x == x.max(axis=1, keepdims=True)) * grad[:, None]


def stops_at_the_weights(network, loss, x, labels):
    loss.forward(network.forward(x), labels)
    network.backward(loss.backward())
    return network.gates[0].grads[0]


def begins_with_the_sum(network, loss, x, labels):
    return len(x) * lesson_03.solve_input_gradient(network, loss, x, labels)


def forgets_to_return(network, loss, x, labels):
    loss.forward(network.forward(x), labels)
    return network.backward(loss.backward())


def trains_on_the_way(network, loss, x, labels):
    grad = lesson_03.solve_input_gradient(network, loss, x, labels)
    for gate in network.gates:
        for weights, step in zip(gate.weights, gate.grads, strict=True):
            weights -= step
    return grad


MISTAKES = {
    "a number": ("03.1", lambda x, y: max(x.value, y.value), "expected a Node"),
    "both move": ("03.1", maximum_with(lambda x, y: (1.0, 1.0)), "without any effect"),
    "exchanged": (
        "03.1",
        maximum_with(lambda x, y: (1.0 * (x < y), 1.0 * (x > y))),
        "only the larger",
    ),
    "the values": ("03.1", maximum_with(lambda x, y: (x, y)), "by how much"),
    "both at a tie": (
        "03.1",
        maximum_with(lambda x, y: (1.0 * (x >= y), 1.0 * (x <= y))),
        "at a tie",
    ),
    "one slope": ("03.1", maximum_with(lambda x, y: (1.0,)), "each part needs one"),
    "the smaller": (
        "03.1",
        lambda x, y: type(x)(min(x.value, y.value), (x, y), (1.0, 0.0)),
        "the value is",
    ),
    "new nodes": (
        "03.1",
        lambda x, y: type(x)(max(x.value, y.value), (type(x)(1.0), y), (1.0, 0.0)),
        "themselves",
    ),
    "without the product": ("03.2", (-6, -6, 6), "the way through x·z is forgotten"),
    "without the sum": ("03.2", (-9, -6, 6), "the way through x . y is forgotten"),
    "ways multiplied": ("03.2", (54, -6, 6), "two ways add"),
    "local slopes": ("03.2", (-2, 1, 2), "what arrives there"),
    "own factor": ("03.2", (21, 3, -12), "other"),
    "one number": ("03.2", -15, "three numbers"),
    "no comma": ("03.1", lambda x, y: type(x)(max(x.value, y.value), x, 1.0), "with a comma"),
    "as printed": ("03.3", PrintedGate, "forward lacks self"),
    "half mended": ("03.3", HalfMendedGate, "backward lacks self"),
    "exchanged factors": ("03.3", ExchangedGate, "exchanged"),
    "without dz": ("03.3", LocalGate, "multiply by dz"),
    "kept in the class": ("03.3", SharingGate, "share what they keep"),
    "an innocent": ("03.4", "Tanh", "right everywhere"),
    "an innocent with a kink": ("03.4", "Absolute", "kink"),
    "nobody": ("03.4", "ReLU", "one of the four"),
    "the slope to all": (
        "03.5",
        lambda x, grad: np.repeat(grad[:, None], x.shape[1], axis=1),
        "only the largest",
    ),
    "shared by all": (
        "03.5",
        lambda x, grad: np.repeat(grad[:, None], x.shape[1], axis=1) / x.shape[1],
        "shared by the whole row",
    ),
    "local slope": ("03.5", lambda x, grad: winners(x, 0 * grad + 1), "local slopes alone"),
    "twice at a tie": ("03.5", winners, "a row 1, 4, 4"),
    "times the value": ("03.5", lambda x, grad: x * winners(x, grad), "the values came in"),
    "the weights' gradient": ("03.6", stops_at_the_weights, "first weights"),
    "slopes of the sum": ("03.6", begins_with_the_sum, "sum"),
    "nothing comes back": ("03.6", forgets_to_return, "returns nothing"),
    "takes a step": ("03.6", trains_on_the_way, "weights were changed"),
    "wrong sign": ("03.6", lambda *a: -lesson_03.solve_input_gradient(*a), "sign"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_check_rejects_a_planted_mistake_and_names_it(mistake, tools):
    id, answer, words = MISTAKES[mistake]
    rejects(id, answer, *tools.get(id, ()), saying=words)


def test_the_printed_gate_raises_and_the_mended_one_multiplies():
    with pytest.raises(TypeError, match="positional argument"):
        PrintedGate().forward(2.0, 3.0)
    gate = lesson_03.SolvedMultiplyGate()
    assert gate.forward(2.0, 3.0) == 6.0 and gate.backward(10.0) == [30.0, 20.0]


@pytest.mark.parametrize(
    ("id", "answer"),
    [
        ("03.1", maximum_with(lambda x, y: (0.5, 0.5) if x == y else (x > y, y > x))),
        ("03.3", type("Tuple", (lesson_03.SolvedMultiplyGate,), {})),
        ("03.4", "leaky"),
    ],
)
def test_other_right_answers_are_accepted(id, answer, tools):
    assert exercises.find(id).check(answer, *tools.get(id, ()))


def test_the_corrections_close_the_parenthesis_of_three_layers():
    text = (paths.root() / "notebooks" / "text" / f"{paths.lesson('03').stem}.py").read_text()
    row = next(line for line in text.splitlines() if line.startswith("# | three layers"))
    _, said, correct, _ = row.removeprefix("# ").split("|", 3)
    assert said.count("(") == said.count(")") + 1 and correct.count("(") == correct.count(")")
