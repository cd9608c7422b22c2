"""Lesson 05: its functions against torch, its measurements against autograd, its exercises against mistakes."""

from __future__ import annotations

import copy
import math
from functools import cache

import numpy as np
import pytest
import torch
from lesson_checks import rejects
from torch import nn
from torch.nn import functional as F

from cnncourse import exercises, lab
from cnncourse.exercises import lesson_05 as solutions

pytestmark = pytest.mark.usefixtures("in_float64")
LESSON = exercises.of_lesson("05")


@cache
def lesson():
    return lab.definitions("05")


# --- the functions and their slopes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("logistic", torch.sigmoid),
        ("tanh", torch.tanh),
        ("relu", torch.relu),
        ("leaky_relu", F.leaky_relu),
        ("elu", F.elu),
    ],
)
def test_each_function_and_its_slope_equal_torchs(ours, theirs):
    x = torch.cat([torch.randn(500) * 3, torch.tensor([0.0, 30.0, -30.0])])
    bend = getattr(lesson(), ours)
    assert torch.allclose(bend(x), theirs(x), rtol=1e-9, atol=1e-12)
    assert torch.allclose(lesson().slope(bend, x), lesson().slope(theirs, x), rtol=1e-9, atol=1e-12)


def test_the_slope_of_elu_is_finite_where_exp_overflows():
    assert lesson().slope(lesson().elu, torch.tensor([1000.0])).item() == 1


def test_the_binary_step_is_1_above_0_only_and_has_no_slope():
    x = torch.tensor([-2.0, 0.0, 3.0])
    assert lesson().binary(x).tolist() == [0, 0, 1]
    assert lesson().slope(lesson().binary, x).tolist() == [0, 0, 0]


def test_the_slope_leaves_the_input_without_gradient():
    x = torch.randn(3)
    lesson().slope(torch.tanh, x)
    assert not x.requires_grad and x.grad is None


def test_maxout_is_the_larger_of_two_linear_layers():
    x, weight, bias = torch.randn(5, 3), torch.randn(2, 4, 3), torch.randn(2, 4)
    both = torch.stack([F.linear(x, w, b) for w, b in zip(weight, bias, strict=True)])
    assert torch.allclose(lesson().maxout(x, weight, bias), both.amax(0))


def test_larger_of_two_takes_pairs_that_stand_side_by_side():
    assert lesson().LargerOfTwo()(torch.tensor([[1.0, 4.0, 3.0, 2.0]])).tolist() == [[4, 3]]


# --- networks and measurements ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bend", ["logistic", "ReLU", "maxout"])
def test_a_deep_network_has_as_many_hidden_layers_as_asked_and_weights_of_the_deviation(bend):
    network = lesson().deep(bend, 3, gain=2.0, width=100, inputs=64)
    layers = [part for part in network if isinstance(part, nn.Linear)]
    assert len(layers) == 4 and network(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    assert layers[0].weight.std().item() == pytest.approx(2 / 8, rel=0.05)
    assert not any(layer.bias.any() for layer in layers)


def test_heard_is_the_gradient_at_the_pre_activations():
    network = lesson().deep("tanh", 2, width=5, inputs=4, classes=3)
    images, labels = torch.rand(6, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    first = network[1](network[0](images)).detach().requires_grad_()
    second = network[3](network[2](first)).detach().requires_grad_()
    one = torch.autograd.grad(F.cross_entropy(network[3:](network[2](first)), labels), first)[0]
    two = torch.autograd.grad(F.cross_entropy(network[4:](second), labels), second)[0]
    expected = [one.norm().item(), two.norm().item()]
    assert lesson().heard(network, images, labels) == pytest.approx(expected)


def test_the_prediction_of_a_linear_bend_is_the_gain():
    network = lesson().deep("PReLU", 4, gain=0.7, width=8, inputs=4)
    for part in network:
        if isinstance(part, nn.PReLU):
            nn.init.ones_(part.weight)
    assert lesson().predicted(network, torch.rand(5, 4), 0.7) == pytest.approx(0.7)


def test_a_tanh_network_rewritten_with_logistic_units_gives_the_same_scores():
    network, x = lesson().deep("tanh", 4, width=9, inputs=4), torch.randn(7, 4)
    for part in network:
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.bias)
    before = network(x)
    after = lesson().as_logistic(network)
    assert torch.allclose(after(x), before, atol=1e-10)
    assert not any(isinstance(part, nn.Tanh) for part in after)


def test_biases_of_minus_half_the_sum_turn_logistic_outputs_around_one_half_into_sums_around_zero():
    network = lesson().biased(lesson().deep("logistic", 2, width=6, inputs=4), -0.5)
    layers = [part for part in network if isinstance(part, nn.Linear)]
    assert not layers[0].bias.any()  # it reads pixels
    assert layers[1](torch.full((1, 6), 0.5)).abs().max() < 1e-12
    assert layers[2](torch.full((1, 6), 0.5)).abs().max() < 1e-12


def test_a_scaled_and_centred_network_is_the_rewritten_one():
    network = lesson().as_logistic(lesson().deep("tanh", 3, width=7, inputs=4))
    again = lesson().biased(copy.deepcopy(network), -0.5)
    x = torch.randn(5, 4)
    assert torch.allclose(again(x), network(x), atol=1e-12)


def test_a_binary_network_hands_no_gradient_on():
    network = lesson().deep("binary", 3, width=5, inputs=4, classes=3)
    assert not lesson().heard(network, torch.rand(6, 1, 2, 2), torch.arange(6) % 3).any()


def test_the_prediction_counts_both_sums_that_read_an_input_of_maxout():
    network, x = lesson().deep("maxout", 4, width=300, inputs=300), torch.randn(20, 300)
    norms = lesson().heard(network, x, torch.arange(20) % 10)
    measured = (norms[0] / norms[-1]) ** (1 / 3)
    assert lesson().predicted(network, x, 1.0) == pytest.approx(measured, rel=0.1)


def test_a_walk_with_orthogonal_centred_inputs_arrives():
    examples = np.array([[1.0, 0.0], [0.0, 1.0]] * 3)
    path = lesson().walk(examples, np.array([2.0, -1.0]))
    assert path.shape == (7, 2) and path[-1] == pytest.approx([2.0, -1.0])


def test_a_unit_is_silent_only_if_no_image_makes_it_positive():
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 3), nn.ReLU())
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[1.0], [1.0], [-1.0]]))
        network[1].bias.copy_(torch.tensor([0.0, -5.0, 0.0]))
    images = torch.tensor([[1.0], [2.0]])
    assert lesson().silent(network, images).tolist() == [False, True, True]


def test_copies_of_several_seeds_are_those_of_each_alone():
    together, curves = lesson().copies(torch.tanh, torch.abs, 0.1, range(3), steps=5)
    alone, _ = lesson().copies(torch.tanh, torch.abs, 0.1, [1], steps=5)
    assert together[1] == pytest.approx(alone[0]) and curves.shape == (3, 50)


# --- exercises ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", LESSON)
def test_the_reference_solution_is_accepted(id):
    assert LESSON[id].check(*LESSON[id].answers())


def test_one_layer_rejects_the_wrong_order_a_lost_bias_and_a_bias_that_is_only_added():
    def right(layers):
        return solutions.one_layer(layers)

    def wrong_order(layers):
        (w1, b1), *rest = layers
        return (w1.T @ rest[0][0].T, b1) if rest else (w1, b1)

    def added(layers):
        return right(layers)[0], sum(bias.sum() for _, bias in layers) * 0 + layers[-1][1]

    rejects("05.1", wrong_order, saying="later matrix stands on the left")
    rejects("05.1", added, saying="early bias goes through all later matrices")
    rejects("05.1", lambda layers: right(layers)[0], saying="expected a pair")
    rejects("05.1", lambda layers: layers[-1], saying=r"got \(2, 4\)")


def test_arriving_rejects_a_step_too_many_the_mean_slope_one_step_squares_and_a_relative_gain():
    def right(slopes, gain, layers):
        return solutions.arriving(slopes, gain, layers)

    def planted(share=None, keeping=None):
        def answer(slopes, gain, layers):
            rms = (slopes**2).mean() ** 0.5
            one, other = right(slopes, gain, layers)
            return (
                share(slopes, rms, gain, layers) if share else one,
                keeping(slopes, rms, gain) if keeping else other,
            )

        return answer

    def shares(function):
        return planted(share=function)

    rejects("05.2", shares(lambda s, r, g, n: (g * r) ** n), saying="are 9 steps, not 10")
    rejects("05.2", shares(lambda s, r, g, n: (g * s.mean()) ** (n - 1)), saying="not the mean")
    rejects("05.2", shares(lambda s, r, g, n: g * r), saying="that is one step")
    rejects("05.2", shares(lambda s, r, g, n: (g * r) ** (2 * n - 2)), saying="root is missing")
    rejects("05.2", planted(keeping=lambda s, r, g: 1 / s.mean()), saying="mean square that counts")
    rejects("05.2", planted(keeping=lambda s, r, g: 1 / (g * r)), saying="gain you have|worst|gain")
    rejects("05.2", lambda slopes, gain, layers: 1.0, saying="expected a pair")


def test_the_share_that_arrives_is_that_of_a_network_whose_slopes_are_known():
    network = lesson().deep("tanh", 6, gain=1.0, width=400, inputs=400)
    images, labels = torch.randn(50, 400), torch.randint(0, 10, (50,))
    norms = lesson().heard(network, images, labels)
    factor = lesson().predicted(network, images, 1.0)
    share, _ = solutions.arriving(np.array([factor]), 1.0, 6)
    assert norms[0] / norms[-1] == pytest.approx(share, rel=0.2)


def test_reads_tanh_rejects_the_other_direction_and_forgotten_biases():
    rejects("05.3", lambda w, b: (w / 2, b), saying="the bias is not")
    rejects("05.3", lambda w, b: (2 * w, b - w.sum(1)), saying="half as large|the sums")
    rejects("05.3", lambda w, b: (w / 2, b - w.sum(1) / 2), saying="the bias is not")
    rejects("05.3", lambda w, b: w / 2, saying="expected a pair")


def test_leaky_by_maxout_rejects_a_second_bias_of_zero_swapped_pieces_and_two_lists_mixed():
    rejects("05.4", lambda w, b, s: ((w, s * w), (b, 0.0)), saying="its bias is not 0")
    rejects("05.4", lambda w, b, s: ((w, 0.0), (b, 0.0)), saying="max of the pieces")
    rejects("05.4", lambda w, b, s: ((w, b), (s * w, s * b)), saying="both weights first")
    rejects("05.4", lambda w, b, s: ((w, s), (b, s * b)), saying="max of the pieces")
    rejects("05.4", lambda w, b, s: (w, s * w, b, s * b), saying="expected a pair.*got 4 values")


def test_deadly_rate_rejects_the_first_picture_a_division_of_maxima_and_negative_rates():
    def without_a_fall_of_zero(z, fall):
        if (fall < 0).any():
            return math.inf
        return max(0.0, (z[fall > 0] / fall[fall > 0]).max())

    rejects("05.5", lambda z, fall: z.max() / fall.max(), saying="divide first")
    rejects("05.5", lambda z, fall: (z / fall).min(), saying="the last one is silent")
    rejects("05.5", lambda z, fall: (z / fall).max(), saying="dead before the step")
    rejects(
        "05.5",
        lambda z, fall: max(0.0, (z / fall).max()),
        saying="second picture is on and does not fall",
    )
    rejects("05.5", without_a_fall_of_zero, saying="does not fall")


def test_the_hat_rejects_slopes_that_do_not_end_a_fourth_relu_and_wrong_forms():
    def open_ended(left, top, right, height):
        return solutions.hat(left, top, right, height)[:2]

    def sides_only(left, top, right, height):
        first, second, third = solutions.hat(left, top, right, height)
        return [first, (1.0, -top, -height / (right - top)), third]

    def four(left, top, right, height):
        return [*solutions.hat(left, top, right, height), (1.0, 0.0, 0.0)]

    rejects("05.6", open_ended, saying="right up to the top")
    rejects("05.6", sides_only, saying="right up to the top")
    rejects("05.6", four, saying="with 4 ReLUs")
    rejects("05.6", lambda *numbers: [(1.0, 2.0)], saying="triples")
    rejects("05.6", lambda *numbers: 3, saying="triples")
    rejects("05.6", lambda *numbers: [], saying="hat")


def test_a_unit_after_the_deadly_rate_is_dead_and_just_below_it_is_not():
    z, fall = np.array([1.0, 0.3, -2.0]), np.array([0.5, 0.1, 0.2])
    rate = solutions.deadly_rate(z, fall)
    assert (z - rate * fall <= 1e-12).all() and (z - 0.999 * rate * fall > 0).any()
    assert solutions.deadly_rate(z, -fall) == math.inf
    assert solutions.deadly_rate(np.array([-1.0, -2.0]), np.array([0.0, 0.1])) == 0  # dead already
