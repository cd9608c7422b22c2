"""Lesson 07: its layers and their gradients against torch, its measurements, its exercises against mistakes."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from lesson_checks import rejects
from torch import nn
from torch.nn import functional as F

from cnncourse import data, exercises, lab
from cnncourse.exercises import lesson_07 as solutions

pytestmark = pytest.mark.usefixtures("in_float64")
LESSON = exercises.of_lesson("07")


@cache
def lesson():
    return lab.definitions("07")


# --- BatchNorm ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "make"),
    [((12, 5), nn.BatchNorm1d), ((4, 5, 3, 2), nn.BatchNorm2d), ((6, 5, 7), nn.BatchNorm1d)],
)
def test_batchnorm_equals_torchs_in_training_in_evaluation_and_in_what_it_keeps(shape, make):
    ours, theirs = lesson().BatchNorm(5), make(5)
    for _ in range(3):
        x = 3 * torch.randn(shape) + 1
        assert torch.allclose(ours(x), theirs(x), atol=1e-12)
    assert torch.allclose(ours.mean, theirs.running_mean, atol=1e-12)
    assert torch.allclose(ours.var, theirs.running_var, atol=1e-12)
    ours.eval(), theirs.eval()
    assert torch.allclose(ours(x[:1]), theirs(x[:1]), atol=1e-12)


def test_batchnorm_begins_with_scale_1_and_shift_0_and_learns_both():
    layer = lesson().BatchNorm(3)
    assert layer.gamma.tolist() == [1, 1, 1] and layer.beta.tolist() == [0, 0, 0]
    assert {name for name, _ in layer.named_parameters()} == {"gamma", "beta"}


def test_batchnorm_backward_equals_autograd():
    x, gamma, beta = torch.randn(9, 4), torch.randn(4), torch.randn(4)
    for tensor in (x, gamma, beta):
        tensor.requires_grad_()
    gradient = torch.randn(9, 4)
    lesson_layer = lesson().BatchNorm(4)
    normal = lesson_layer(x)  # gamma 1, beta 0
    (gamma * normal + beta).backward(gradient)
    ours = lesson().batchnorm_backward(gradient, x.detach(), gamma.detach())
    for mine, tensor in zip(ours, (x, gamma, beta), strict=True):
        assert torch.allclose(mine, tensor.grad, atol=1e-10)


def test_a_shift_stretches_and_moves_each_unit_alike_for_all_pictures_in_training_only():
    layer, x = lesson().Shift(0.5, stretch=0.5), torch.randn(8, 3)
    moved = layer(x)
    slopes = (moved[1:] - moved[0]) / (x[1:] - x[0])  # (7, 3)
    assert torch.allclose(slopes, slopes[:1].expand(7, 3)) and not torch.allclose(moved, layer(x))
    assert torch.equal(layer.eval()(x), x)


def test_a_shift_turns_signs_only_where_it_may_and_stretches_only_where_asked():
    x = torch.ones(1, 2000)
    turned = lesson().Shift(0.0, stretch=1.0)(x)
    kept = lesson().Shift(0.0, stretch=1.0, turn=False)(x)
    assert 0.12 < (turned < 0).double().mean() < 0.20  # a factor 1 + z below 0: one in six
    assert not (kept < 0).any() and kept.std() > 0.5
    moved = lesson().Shift(2.0)(x)
    assert moved.mean().item() == pytest.approx(1, abs=0.2)
    assert moved.std().item() == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("batch_norm", lambda: nn.BatchNorm2d(4)),
        ("layer_norm", lambda: nn.LayerNorm((4, 3, 5))),
        ("two_groups", lambda: nn.GroupNorm(2, 4)),
    ],
)
def test_norms_differ_in_the_axes_of_their_mean_and_equal_torchs(name, make):
    x = 2 * torch.randn(6, 4, 3, 5) + 1
    assert torch.allclose(getattr(lesson(), name)(x), make()(x), atol=1e-12)


def test_batchnorm_per_place_takes_its_mean_over_pictures_only():
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Unflatten(1, (3, 2, 2)))
    x = torch.randn(5, 3, 2, 2)
    assert torch.allclose(network(x), lesson().normalised(x, (0,)), atol=1e-12)


# --- networks -----------------------------------------------------------------------------------------------------


def test_a_deep_network_has_a_norm_before_each_bend_and_weights_of_the_scale():
    network = lesson().deep(2.0, nn.BatchNorm1d, hidden=3, inputs=64, width=200)
    kinds = [type(part).__name__ for part in network]
    assert kinds == ["Flatten", *3 * ["Linear", "BatchNorm1d", "ReLU"], "Linear"]
    assert network[1].weight.std().item() == pytest.approx(2 * (2 / 64) ** 0.5, rel=0.05)
    assert not any(layer.bias.any() for layer in network if isinstance(layer, nn.Linear))


@pytest.fixture
def digits():
    return data.load("digits", True).subset(128, seed=0).normalised()


def test_batches_go_over_all_pictures_again_and_keep_or_drop_the_last(digits):
    def sizes(drop_last):
        return [len(y) for _, y in lesson().batches_of(digits, 5, 50, drop_last)]

    assert sizes(True) == [50] * 5 and sizes(False) == [50, 50, 28, 50, 50]


def test_descend_is_sgd_with_a_rate_for_each_parameter_and_its_watch_sees_each_step(digits):
    one, other = (lesson().deep(width=8, hidden=2) for _ in range(2))
    other.load_state_dict(one.state_dict())
    rates = lesson().smaller_rate(one, 0.1, 0.01)
    assert rates == [0.001, 0.1, 0.001, 0.1, 0.1, 0.1]  # weights and biases; the last: scores
    batches = list(lesson().batches_of(digits, 2, seed=3))
    assert lesson().descend(one, batches, rates, watch=lambda network: 1) == [1, 1]
    groups = [
        {"params": [p], "lr": rate} for p, rate in zip(other.parameters(), rates, strict=True)
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(other(x), y).backward()
        optimizer.step()
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-12)


def test_only_the_scores_learn_where_only_they_have_a_rate(digits):
    network = lesson().deep(norm=nn.BatchNorm1d, width=8, hidden=2)
    before = [parameter.clone() for parameter in network.parameters()]
    rates = lesson().only_scores(network, 0.5)
    lesson().descend(network, lesson().batches_of(digits, 1), rates)
    changed = [
        not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True)
    ]
    assert changed == [False] * 8 + [True] * 2


def test_held_weights_keep_their_length_and_free_ones_in_front_of_batchnorm_grow(digits):
    for hold in (True, False):
        network = lesson().deep(0.1, nn.BatchNorm1d, width=8, hidden=2)
        before = network[1].weight.detach().norm(dim=1)
        after = lesson().hold(network) if hold else None
        lesson().descend(network, lesson().batches_of(digits, 2), 1.0, after=after)
        length = network[1].weight.detach().norm(dim=1)
        assert torch.allclose(length, before) if hold else bool((length >= before).all())


def test_held_weights_of_a_hundredth_learn_as_long_ones_at_a_ten_thousandth_of_the_rate(digits):
    scores = []
    for scale in (1.0, 0.01):
        torch.manual_seed(1)
        network = lesson().deep(scale, lambda units: nn.BatchNorm1d(units, 1e-12), 2, width=8)
        rate = lesson().smaller_rate(network, 1.0, scale**2)
        batches = lesson().batches_of(digits, 4)
        lesson().descend(network, batches, rate, after=lesson().hold(network))
        scores.append(network(next(digits.batches(64))[0]))
    assert torch.allclose(*scores, atol=1e-4)


def test_statistics_anew_are_the_mean_over_the_batches_and_leave_the_weights():
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    batches = [(torch.randn(6, 2), None), (torch.randn(6, 2) + 1, None)]
    weight = network[0].weight.clone()
    network[1].running_mean.fill_(77)
    lesson().statistics_anew(network, batches)
    expected = torch.stack([network[0](x).mean(0) for x, _ in batches]).mean(0)
    assert torch.allclose(network[1].running_mean, expected)
    assert torch.equal(network[0].weight, weight)


def test_statistics_anew_reach_inner_layers_and_are_of_numbers_that_are_not_moved():
    def norm(units):
        return nn.Sequential(nn.BatchNorm1d(units), lesson().Shift(5.0, stretch=1.0))

    network = nn.Sequential(nn.Linear(2, 3), norm(3), nn.Linear(3, 3), norm(3))
    x = torch.randn(64, 2)
    lesson().statistics_anew(network, [(x, None)])
    hidden = F.batch_norm(network[0](x), None, None, training=True)  # nothing moved
    assert torch.allclose(network[3][0].running_mean, network[2](hidden).mean(0), atol=1e-9)


def test_a_last_batch_is_what_full_ones_leave_and_never_a_single_picture():
    digits = data.load("digits", True)
    for count, left in ((131, 3), (129, 3), (128, 64)):
        few = digits.subset(count, seed=0)
        full, last = lesson().full_and_last(few, torch.Generator().manual_seed(0))
        assert [len(y) for _, y in full] == (1 if count == 128 else 2) * [64]
        assert len(last[1]) == left


def test_a_gradient_in_company_is_that_of_the_first_pictures_normalised_over_all():
    digits = data.load("digits", True)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10))
    full, last = lesson().full_and_last(digits.subset(131, seed=0).normalised(), None)
    x, y = batch = lesson().in_company(last, full[0])
    assert torch.equal(x, torch.cat([last[0], full[0][0][:61]])) and len(y) == 64
    F.cross_entropy(network(x)[:3], y[:3]).backward()
    expected = math.sqrt(sum(p.grad.square().sum().item() for p in network.parameters()))
    before = network[2].running_mean.clone()
    assert lesson().gradient_length(network, batch, 3) == pytest.approx(expected)
    assert torch.equal(network[2].running_mean, before)


# --- local response normalisation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3, 5])
def test_lrn_equals_torchs_with_n_times_alpha(n):
    a = 30 * torch.rand(2, 7, 3, 3)
    expected = F.local_response_norm(a, n, n * 1e-3, 0.6, 1.5)
    assert torch.allclose(lesson().lrn(a, n, 1.5, 1e-3, 0.6), expected, atol=1e-12)


def test_lrn_within_sums_over_places_with_zeros_outside():
    a = torch.rand(1, 2, 4, 4)
    got = lesson().lrn_within(a, n=3, alpha=0.5, beta=1.0)
    corner = 1 + 0.5 / 9 * (a[0, 1, :2, :2] ** 2).sum()
    assert got[0, 1, 0, 0].item() == pytest.approx((a[0, 1, 0, 0] / corner).item())


def test_the_printed_formula_has_its_exponent_at_the_sum():
    a = torch.full((1, 1, 1, 1), 2.0)
    assert lesson().lrn_printed(a, 1, 3.0, 0.5, 0.5).item() == pytest.approx(2 / (3 + 0.5 * 2))


def test_without_its_sum_lrn_is_a_factor_and_of_faint_numbers_it_leaves_as_much():
    a = 1e-4 * torch.rand(2, 7, 3, 3)
    assert torch.allclose(lesson().LRN(7, alpha=0.0)(a), 2**-0.75 * a, rtol=1e-12)
    assert torch.allclose(lesson().LRN(7)(a), 2**-0.75 * a, rtol=1e-9)


def test_the_convolutional_network_has_its_norm_where_asked():
    network = lesson().convolutional(lesson().LRN, 3, 6, 4, before=False)
    assert network(torch.rand(2, 3, 9, 9)).shape == (2, 4)
    assert isinstance(network[2], lesson().LRN)
    assert isinstance(lesson().convolutional(nn.BatchNorm2d)[1], nn.BatchNorm2d)


# --- exercises ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", LESSON)
def test_the_reference_solution_is_accepted(id):
    assert LESSON[id].check(*LESSON[id].answers())


def test_undo_rejects_n_minus_1_a_forgotten_eps_the_variance_and_one_mean_for_all():
    rejects("07.1", lambda x, e: ((x.var(0) + e).sqrt(), x.mean(0)), saying="not by N - 1")
    rejects(
        "07.1",
        lambda x, e: (x.var(0, unbiased=False).sqrt(), x.mean(0)),
        saying="must have the eps too",
    )
    rejects(
        "07.1", lambda x, e: (x.var(0, unbiased=False) + e, x.mean(0)), saying="its square root"
    )
    rejects("07.1", lambda x, e: (x.std(), x.mean()), saying=r"gamma: expected shape \(3,\)")
    rejects("07.1", lambda x, e: solutions.undo(x, e)[::-1], saying="wrong order")
    rejects("07.1", lambda x, e: x.mean(0), saying=r"expected a pair \(gamma, beta\)")


def test_after_step_rejects_a_step_in_line_a_forgotten_rate_radians_and_the_other_angle():
    def right(length, gradient, rate):
        return solutions.after_step(length, gradient, rate)

    def angle(change):
        return lambda *given: (right(*given)[0], change(right(*given)[1], *given))

    def refused(answer, saying):
        rejects("07.2", answer, solutions.through_two, saying=saying)

    refused(lambda w, g, r: (w + r * g, right(w, g, r)[1]), "not in line")
    refused(lambda w, g, r: (w - r * g, right(w, g, r)[1]), "not in line")
    refused(lambda w, g, r: right(w, g, 1.0), "learning rate times the gradient")
    refused(lambda w, g, r: (right(w, g, r)[0] ** 2, 0), "square of the length")
    refused(lambda *given: right(*given)[::-1], "first the new length")
    refused(angle(lambda turned, *given: math.radians(turned)), "radians")
    refused(angle(lambda turned, *given: 90 - turned), "the angle at the step")
    refused(angle(lambda turned, w, g, r: math.degrees(r * g / w)), "the tangent of the angle")


def test_the_way_back_through_two_rejects_forgotten_ways_the_other_picture_and_no_epsilon():
    def refused(answer, saying):
        rejects("07.2", solutions.after_step, answer, saying=saying)

    def s(a, b, eps):
        return math.sqrt((a - b) ** 2 / 4 + eps)

    right = solutions.through_two
    refused(lambda a, b, g, h, e: 0.0, "so it is without eps")
    refused(lambda a, b, g, h, e: g / s(a, b, e), "straight on only")
    refused(lambda a, b, g, h, e: (g - h) / 2 / s(a, b, e), "through the deviation is missing")
    refused(lambda a, b, g, h, e: right(b, a, h, g, e), "the gradient at b")
    refused(lambda a, b, g, h, e: right(a, b, g, h, e) * s(a, b, e), "divided by s")


@pytest.mark.parametrize("eps", [0.3, 1e-5, 1e-12])
def test_the_way_back_through_two_is_autograds_and_next_to_nothing_without_epsilon(eps):
    x = torch.tensor([[1.5], [-0.5]], requires_grad=True)
    F.batch_norm(x, None, None, training=True, eps=eps).backward(torch.tensor([[0.7], [-0.4]]))
    got = solutions.through_two(1.5, -0.5, 0.7, -0.4, eps)
    assert got == pytest.approx(x.grad[0].item(), abs=1e-12)
    s = math.sqrt(1 + eps)
    assert got == pytest.approx(eps * 1.1 / (2 * s**3), abs=1e-12)


def test_the_step_of_07_2_is_that_of_weights_in_front_of_batchnorm():
    inputs, w = torch.randn(12, 4), torch.randn(4, requires_grad=True)
    z = inputs @ w
    loss = ((z - z.mean()) / z.std(unbiased=False) - torch.randn(12)).square().mean()
    gradient = torch.autograd.grad(loss, w)[0]
    new = (w - 0.7 * gradient).detach()
    length, turned = solutions.after_step(w.norm().item(), gradient.norm().item(), 0.7)
    assert new.norm().item() == pytest.approx(length)
    cosine = F.cosine_similarity(new, w.detach(), dim=0).item()
    assert math.degrees(math.acos(cosine)) == pytest.approx(turned)


def test_folded_rejects_a_lost_bias_an_unscaled_bias_columns_and_a_forgotten_eps():
    def right(*arguments):
        return solutions.folded(*arguments)

    def lost(w, b, g, beta, m, v, e):
        return right(w, 0 * b, g, beta, m, v, e)

    def unscaled(w, b, g, beta, m, v, e):
        return right(w, b, g, beta, m, v, e)[0], b + right(w, 0 * b, g, beta, m, v, e)[1]

    def no_eps(w, b, g, beta, m, v, e):
        return right(w, b, g, beta, m, v, 0.0)

    def columns(w, b, g, beta, m, v, e):
        return w * (g / torch.sqrt(v + e)), right(w, b, g, beta, m, v, e)[1]

    rejects("07.3", lost, saying="old bias is lost")
    rejects("07.3", unscaled, saying="must be scaled")
    rejects("07.3", no_eps, saying="eps included")
    rejects("07.3", columns, saying="one factor a row")


def test_numbers_behind_a_mean_rejects_forgotten_places_pictures_and_the_count_of_groups():
    def with_first(change):
        return lambda s, g: (change(*s, g), *solutions.numbers_behind_a_mean(s, g)[1:])

    def with_last(change):
        return lambda s, g: (*solutions.numbers_behind_a_mean(s, g)[:2], change(*s, g))

    def with_second(change):
        right = solutions.numbers_behind_a_mean
        return lambda s, g: (right(s, g)[0], change(*s, g), right(s, g)[2])

    rejects("07.4", with_first(lambda n, c, h, w, g: n), "BatchNorm", saying=r"times H \* W")
    rejects("07.4", with_first(lambda n, c, h, w, g: h * w), "BatchNorm", saying="all pictures")
    rejects(
        "07.4", with_first(lambda n, c, h, w, g: n * c * h * w), "BatchNorm", saying="without C"
    )
    rejects(
        "07.4", with_second(lambda n, c, h, w, g: n * c * h * w), "BatchNorm", saying="without N"
    )
    rejects("07.4", with_second(lambda n, c, h, w, g: c), "BatchNorm", saying="places as well")
    rejects(
        "07.4", with_last(lambda n, c, h, w, g: g * h * w), "BatchNorm", saying="C / groups maps"
    )
    rejects("07.4", lambda s, g: 3, "BatchNorm", saying="expected 3 answers")
    right = solutions.numbers_behind_a_mean
    rejects("07.4", right, "GroupNorm", saying="of GroupNorm stand 8 numbers")
    rejects("07.4", right, "LayerNorm", saying="of LayerNorm stand 64 numbers")
    rejects("07.4", right, 2, saying="expected one of BatchNorm, LayerNorm, GroupNorm, got 2")


def test_torch_arguments_rejects_alpha_as_it_is_alpha_divided_and_a_changed_size():
    rejects("07.5", lambda n, k, a, b: (n, a, b, k), saying="mean of the n squares")
    rejects("07.5", lambda n, k, a, b: (n, a / n, b, k), saying="the other way round")
    rejects("07.5", lambda n, k, a, b: (n, k, n * a, b), saying="mind the order")
    rejects("07.5", lambda n, k, a, b: (n, k, a, b), saying="mind the order")
    rejects("07.5", lambda n, k, a, b: (n, n**2 * a, b, k), saying="LRN for n = 5")
    rejects("07.5", lambda n, k, a, b: (n // 2, n * a, b, k), saying="same in both formulas")


def test_group_norm_rejects_statistics_of_the_batch_n_minus_1_layernorm_and_no_gamma_or_beta():
    def over_batch(x, groups, gamma, beta, eps):
        parts = x.reshape(len(x), groups, -1)
        centred = parts - parts.mean((0, 2), keepdim=True)
        normal = centred / torch.sqrt(centred.square().mean((0, 2), keepdim=True) + eps)
        return gamma[:, None, None] * normal.reshape(x.shape) + beta[:, None, None]

    def n_minus_1(x, groups, gamma, beta, eps):
        parts = x.reshape(len(x), groups, -1)
        normal = (parts - parts.mean(2, keepdim=True)) / torch.sqrt(
            parts.var(2, keepdim=True) + eps
        )
        return gamma[:, None, None] * normal.reshape(x.shape) + beta[:, None, None]

    def one_group(x, groups, gamma, beta, eps):
        return solutions.group_norm(x, 1, gamma, beta, eps)

    def plain(x, groups, gamma, beta, eps):
        return solutions.group_norm(x, groups, gamma / gamma, 0 * beta, eps)

    def no_beta(x, groups, gamma, beta, eps):
        return solutions.group_norm(x, groups, gamma, 0 * beta, eps)

    rejects("07.6", plain, saying="gamma and beta are missing")
    rejects("07.6", no_beta, saying="beta is missing")
    rejects("07.6", over_batch, saying="leave the batch out")
    rejects("07.6", n_minus_1, saying="unbiased=False")
    rejects("07.6", one_group, saying="3 groups of 6 channels")
    rejects("07.6", lambda x, *_: x.mean(0), saying=r"expected shape \(3, 6, 4, 4\)")
