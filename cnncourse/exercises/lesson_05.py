"""Exercises of lesson 05: a folded stack, what arrives, tanh, maxout, a deadly step, a hat of ReLUs."""

from __future__ import annotations

import math

import numpy as np
import torch

from cnncourse.exercises import Exercise, Wrong, expect_pair, expect_same


def check_one_layer(one_layer) -> str:
    g = torch.Generator().manual_seed(0)
    for sizes in ((3, 2), (3, 4, 2), (5, 4, 3, 2)):
        layers = [
            (torch.randn(o, i, generator=g).double(), torch.randn(o, generator=g).double())
            for i, o in zip(sizes, sizes[1:], strict=False)
        ]
        x = torch.randn(6, sizes[0], generator=g).double()
        expected = x
        for weight, bias in layers:
            expected = expected @ weight.T + bias
        copies = [(weight.clone(), bias.clone()) for weight, bias in layers]
        weight, bias = expect_pair(one_layer(copies), "weight", "bias")
        if tuple(weight.shape) != (sizes[-1], sizes[0]):
            raise Wrong(
                f"{len(layers)} layers of sizes {sizes}: the weight should be (out, in) = "
                f"{(sizes[-1], sizes[0])}, got {tuple(weight.shape)}; the later matrix stands on the left"
            )
        without = x @ weight.T - expected
        if (
            len(layers) > 1
            and (without - without[0]).abs().max() < 1e-9
            and (without + bias).abs().max() > 1e-9
        ):
            raise Wrong(
                "the weight is right, the bias is not: an early bias goes through all later matrices"
            )
        expect_same(x @ weight.T + bias, expected, f"the scores of {len(layers)} layers")
    return "any number of layers without a bend is one"


def one_layer(layers):
    weight, bias = layers[0]
    for later, shift in layers[1:]:
        weight, bias = later @ weight, later @ bias + shift
    return weight, bias


def check_arriving(arriving) -> str:
    g = np.random.default_rng(1)
    for gain, layers in ((1.0, 10), (2**0.5, 5), (0.5, 2), (4.0, 20)):
        slopes = g.uniform(0, 1, size=200) ** 2
        rms = math.sqrt((slopes**2).mean())
        share, keeping = expect_pair(arriving(slopes.copy(), gain, layers), "share", "gain")
        case = f"gain {gain:.3g}, {layers} layers"
        expect_same(
            share,
            (gain * rms) ** (layers - 1),
            f"the share, {case}",
            hints=[
                (
                    (gain * rms) ** layers,
                    f"from layer {layers} back to layer 1 are {layers - 1} steps, not {layers}",
                ),
                (
                    (gain * slopes.mean()) ** (layers - 1),
                    "the length of a vector adds squares: take the root of the mean square, not the mean",
                ),
                (gain * rms, "that is one step; each step multiplies"),
                (
                    (gain**2 * rms**2) ** (layers - 1),
                    "that is the share of the squared length; the root is missing",
                ),
            ],
        )
        expect_same(
            keeping,
            1 / rms,
            f"the gain that keeps all, {case}",
            hints=[
                (
                    1 / slopes.mean(),
                    "1 over the mean slope; it is the mean square that counts",
                ),
                (1 / (gain * rms), "that is the factor by which to change the gain you have"),
            ],
        )
    relu = np.array([0.0, 1.0])
    expect_same(arriving(relu, 2**0.5, 9)[1], 2**0.5, "ReLU, half of the slopes 1, half 0: gain")
    return "slope times gain, once a step; ReLU's √2 is 1 over the root of one half"


def arriving(slopes, gain, layers):
    rms = (slopes**2).mean() ** 0.5
    steps = layers - 1  # from the last layer to the first
    return (gain * rms) ** steps, 1 / rms


def check_reads_tanh(reads_tanh) -> str:
    g = torch.Generator().manual_seed(2)
    for outputs, inputs in ((3, 5), (1, 1), (4, 2)):
        weight = torch.randn(outputs, inputs, generator=g).double()
        bias = torch.randn(outputs, generator=g).double()
        z = torch.randn(8, inputs, generator=g).double()
        expected = torch.sigmoid(2 * z) @ weight.T + bias
        own_weight, own_bias = expect_pair(
            reads_tanh(weight.clone(), bias.clone()), "weight", "bias"
        )
        got = torch.tanh(z) @ own_weight.T + own_bias
        if got.shape == expected.shape:
            off = got - expected
            if (off - off[0]).abs().max() < 1e-9 and off.abs().max() > 1e-9:
                raise Wrong(
                    "the weight is right, the bias is not: put s = (t + 1) / 2 into the sum and "
                    "collect what has no t"
                )
            if (torch.tanh(z) @ (2 * weight).T + own_bias - got).abs().max() < 1e-9:
                raise Wrong(
                    "twice the weight is the other direction: t is twice as wide as s, so the "
                    "weight that reads it is half as large"
                )
        expect_same(got, expected, "the sums")
    return "the same sums from centred numbers: half the weight, and half its sum into the bias"


def reads_tanh(weight, bias):
    return weight / 2, bias + weight.sum(1) / 2  # s = (t + 1) / 2


def check_leaky_by_maxout(leaky_by_maxout) -> str:
    x = np.linspace(-4, 4, 81)
    for w, b, slope in ((1.0, 0.0, 0.01), (2.0, -1.0, 0.1), (-0.7, 0.4, 0.25), (1.5, 0.5, 0.0)):
        weights, biases = expect_pair(leaky_by_maxout(w, b, slope), "(w1, w2)", "(b1, b2)")
        weights, biases = expect_pair(weights, "w1", "w2"), expect_pair(biases, "b1", "b2")
        if np.allclose([weights, biases], [(w, b), (slope * w, slope * b)]) and w * slope != b:
            raise Wrong(
                "that is ((w1, b1), (w2, b2)), piece by piece; expected ((w1, w2), (b1, b2)): "
                "both weights first, then both biases"
            )
        both = np.stack([one * x + other for one, other in zip(weights, biases, strict=True)])
        z = w * x + b
        expected = np.where(z > 0, z, slope * z)
        if b * slope and np.allclose(np.maximum(w * x + b, slope * w * x), both.max(0)):
            raise Wrong(
                f"w = {w}, b = {b}, slope = {slope}: the second piece is slope * (w x + b); its bias is not 0"
            )
        expect_same(both.max(0), expected, f"max of the pieces for w = {w}, b = {b}, slope {slope}")
    return "leaky ReLU is max(z, slope z): two lines through one point. With slope 0 it is ReLU"


def leaky_by_maxout(w, b, slope):
    return (w, slope * w), (b, slope * b)


def check_deadly_rate(deadly_rate) -> str:
    g = np.random.default_rng(3)
    for count in (1, 5, 40):
        z, fall = g.normal(size=count) + 1, g.uniform(0.1, 2, size=count)
        expected = max(0.0, (z / fall).max())
        answer = float(deadly_rate(z.copy(), fall.copy()))
        if count > 1 and math.isclose(answer, z.max() / fall.max(), rel_tol=1e-9):
            raise Wrong(
                "the largest z and the largest fall belong to different pictures: divide first, then take the maximum"
            )
        if count > 1 and math.isclose(answer, (z / fall).min(), rel_tol=1e-9):
            raise Wrong(
                "that rate silences the first picture; the unit is dead when the last one is silent"
            )
        expect_same(answer, expected, f"{count} pictures: the rate")
    answer = float(deadly_rate(np.array([-1.0, -0.5]), np.array([0.2, 0.3])))
    if answer != 0:
        raise Wrong(
            f"z = (-1, -0.5) is dead before the step, so the answer is 0, got {answer}; no rate is negative"
        )
    for z, fall in (((1.0, 2.0), (0.5, -0.1)), ((1.0, 2.0), (0.5, 0.0))):
        answer = float(deadly_rate(np.array(z), np.array(fall)))
        if answer != math.inf:
            raise Wrong(
                f"z = {z}, fall = {fall}: the second picture is on and does not fall, so no rate is deadly: "
                f"expected inf, got {answer}"
            )
    return "the picture that holds out longest decides, and one that is on and does not fall saves the unit"


def deadly_rate(z, fall):
    if ((z > 0) & (fall <= 0)).any():
        return math.inf
    on = z > 0  # the others are silent already, and fall
    return (z[on] / fall[on]).max() if on.any() else 0.0


def check_hat(hat) -> str:
    most = 0
    for left, top, right, height in (
        (0.0, 1.0, 2.0, 1.0),
        (-1.0, 0.5, 1.0, 3.0),
        (2.0, 2.5, 6.0, -2.0),
    ):
        x = np.linspace(left - 3, right + 3, 241)
        units = hat(left, top, right, height)
        units = list(units) if hasattr(units, "__iter__") else [units]
        if not all(np.shape(unit) == (3,) for unit in units):
            raise Wrong("expected a list of triples (weight, bias, output weight)")
        got = np.zeros_like(x)  # of no ReLU at all
        for weight, bias, out in units:
            got = got + out * np.maximum(weight * x + bias, 0)
        expected = np.interp(x, [left, top, right], [0.0, height, 0.0])
        if np.allclose(got[x <= top], expected[x <= top]) and not np.allclose(got, expected):
            raise Wrong(
                f"hat({left}, {top}, {right}, {height}) is right up to the top; behind it the slopes of all "
                "units that are on must add up to the slope of the right side, and to 0 beyond it"
            )
        expect_same(got, expected, f"hat({left}, {top}, {right}, {height})")
        most = max(most, len(units))
    if most > 3:
        raise Wrong(
            f"right, but with {most} ReLUs; there are three corners, and one ReLU makes one"
        )
    return "one ReLU for each corner: it adds the change of slope there"


def hat(left, top, right, height):
    up, down = height / (top - left), -height / (right - top)  # slopes of the two sides
    return [(1.0, -left, up), (1.0, -top, down - up), (1.0, -right, -down)]


EXERCISES = [
    Exercise(
        "05.1",
        "A stack of linear layers is one",
        (
            "Two layers: W2 (W1 x + b1) + b2. Multiply out: what stands before x, and what is left?",
            "The weight is W2 @ W1, the bias W2 @ b1 + b2. Carry both from layer to layer.",
        ),
        check_one_layer,
        one_layer,
    ),
    Exercise(
        "05.2",
        "What arrives of a gradient",
        (
            "One step multiplies the length by gain times the root mean square of the slopes.",
            "How many steps are there from the last hidden layer to the first?",
            "All arrives if the factor of a step is 1.",
        ),
        check_arriving,
        arriving,
    ),
    Exercise(
        "05.3",
        "From logistic units to tanh",
        (
            "t = 2 s - 1, so s = (t + 1) / 2. Put it into weight @ s + bias.",
            "weight @ (t + 1) / 2 is weight / 2 @ t plus something without t.",
        ),
        check_reads_tanh,
        reads_tanh,
    ),
    Exercise(
        "05.4",
        "Leaky ReLU as maxout",
        (
            "For a slope below 1, leaky ReLU of z is max(z, slope * z).",
            "Put z = w x + b into both pieces.",
        ),
        check_leaky_by_maxout,
        leaky_by_maxout,
    ),
    Exercise(
        "05.5",
        "The step that kills",
        (
            "For one picture z - rate * fall <= 0 from rate = z / fall on, if fall > 0.",
            "The unit is dead when this holds for all pictures: which of their rates decides?",
            "A unit that is dead already needs no step: 0. A picture that is on (z > 0) and does not fall saves it.",
        ),
        check_deadly_rate,
        deadly_rate,
    ),
    Exercise(
        "05.6",
        "A hat of ReLUs",
        (
            "ReLU(x - left) is 0 up to left, then rises with slope 1. Its output weight makes the left side.",
            "At top the slope must change from up to down: a second ReLU, ReLU(x - top), adds the difference.",
            "At right it must change from down to 0.",
        ),
        check_hat,
        hat,
    ),
]
