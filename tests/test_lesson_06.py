"""Lesson 06: its tables against sklearn, its starts against torch, its exercises against mistakes."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from lesson_checks import rejects
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

from cnncourse import exercises, lab
from cnncourse.exercises import lesson_06 as solutions

pytestmark = pytest.mark.usefixtures("in_float64")
LESSON = exercises.of_lesson("06")


@cache
def lesson():
    return lab.definitions("06")


# --- tables -------------------------------------------------------------------------------------------------------


def test_scaled_is_sklearns_up_to_the_n_of_the_deviation():
    x = torch.randn(50, 4) * torch.tensor([1.0, 5.0, 0.1, 2.0]) + 3
    expected = StandardScaler().fit_transform(x.numpy()) * math.sqrt(49 / 50)
    assert np.allclose(lesson().scaled(x).numpy(), expected)


def test_a_column_that_never_changes_is_scaled_to_zero():
    x = torch.randn(20, 3)
    x[:, 1] = 7
    assert lesson().scaled(x)[:, 1].tolist() == [0.0] * 20


def test_whitened_is_sklearns_pca_up_to_order_and_signs():
    x = torch.randn(60, 3) @ torch.randn(3, 3) + 2
    expected = PCA(whiten=True).fit_transform(x.numpy())[:, ::-1]
    assert np.allclose(abs(lesson().whitened(x).numpy()), abs(expected))


def test_whitened_leaves_a_column_that_never_changes_finite():
    x = torch.randn(60, 3)
    x[:, 1] = 7
    got = lesson().whitened(x)
    assert got.isfinite().all() and got.abs().max() < 10
    assert torch.allclose(torch.cov(got.T).diagonal().sort()[0][1:], torch.ones(2))


def test_centred_and_whitened_have_column_means_of_zero_and_a_round_cloud():
    x = torch.randn(300, 2) @ torch.tensor([[1.6, 0.5], [0.0, 0.35]]) + 2
    assert lesson().centred(x).mean(0).abs().max() < 1e-12
    got = lesson().whitened(x)
    assert got.mean(0).abs().max() < 1e-12
    assert torch.allclose(torch.cov(got.T), torch.eye(2), atol=1e-6)


def test_centring_leaves_what_softmax_can_express_and_steps_to_finds_it():
    x = torch.randn(80, 3)
    labels = (x[:, 0] + 0.3 * x[:, 1] > 0).long()
    assert LogisticRegression(C=1e6).fit(x, labels).score(x, labels) == 1
    steps = lesson().steps_to(x, labels, 3.0)
    assert 0 < steps < 300
    assert math.isinf(lesson().steps_to(x, labels, 3.0, most=steps - 1))


def test_directions_are_those_of_numpys_svd_and_times_compares_mean_squares():
    x = torch.randn(50, 3) + 4
    table = np.column_stack([x.numpy(), np.ones(50)])
    _, lengths, axes = np.linalg.svd(table)
    longest, second, times = lesson().directions(x)
    assert abs(longest.numpy() @ axes[0]) == pytest.approx(1)
    assert abs(second.numpy() @ axes[1]) == pytest.approx(1)
    assert times == pytest.approx((lengths[0] / lengths[1]) ** 2)


def test_shortened_divides_the_part_along_the_direction_and_leaves_the_rest():
    gradient, direction = torch.randn(4, 3), torch.eye(4)[1]
    got = lesson().shortened(gradient, direction, 5.0)
    assert torch.allclose(got[1], gradient[1] / 5)
    assert torch.allclose(got[[0, 2, 3]], gradient[[0, 2, 3]])


def test_a_step_along_a_direction_shortened_by_one_is_the_step():
    x = torch.randn(40, 3)
    labels = (x[:, 0] > 0).long()
    direction = torch.tensor([0.0, 1.0, 0.0, 0.0])
    plain = lesson().steps_to(x, labels, 1.0)
    assert lesson().steps_to(x, labels, 1.0, (direction, 1.0)) == plain


def test_columns_with_turned_signs_take_the_same_steps_all_positive_or_not():
    x = torch.rand(60, 4)  # all positive
    labels = (x[:, 0] > x[:, 1]).long()
    steps = lesson().steps_to(x, labels, 5.0, goal=0.4, most=400)
    assert 0 < steps < 400
    turned = x * torch.tensor([1.0, -1.0, 1.0, -1.0])
    assert lesson().steps_to(turned, labels, 5.0, goal=0.4, most=400) == steps
    assert lesson().steps_to(x - 0.5, labels, 5.0, goal=0.4, most=400) < steps  # centred


def test_steps_to_takes_the_steps_of_torchs_sgd():
    x = torch.randn(40, 3)
    labels = torch.arange(40) % 3
    layer = nn.Linear(3, 3)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(layer(x), labels).backward()
        optimizer.step()
    loss = F.cross_entropy(layer(x), labels).item()
    assert lesson().steps_to(x, labels, 0.5, goal=loss + 1e-9) == 5
    assert lesson().steps_to(x, labels, 0.5, goal=loss - 1e-9) > 5


# --- networks -----------------------------------------------------------------------------------------------------


def test_a_deep_network_has_weights_of_its_deviation_and_no_relu_behind_the_scores():
    network = lesson().deep(2.0, layers=3, width=200, inputs=64, factor=5.0)
    matrices = [part for part in network if isinstance(part, nn.Linear)]
    assert len(matrices) == 4 and all(matrix.bias is None for matrix in matrices)
    assert matrices[1].weight.std().item() == pytest.approx(2 / math.sqrt(200), rel=0.02)
    x = torch.randn(6, 1, 8, 8)
    scores = network(x)
    assert (scores < 0).any() and torch.allclose(scores, 5 * network[:-1](x))


def test_networks_that_differ_by_one_factor_name_the_same_digits():
    x, named = torch.randn(50, 1, 8, 8), []
    for gain in (1.0, 2.0):
        torch.manual_seed(3)
        named.append(lesson().deep(gain, layers=6)(x).argmax(1))
    assert torch.equal(*named)


def test_equal_units_stay_equal_only_if_both_layers_are_equal():
    def tenth(weight):
        nn.init.constant_(weight, 0.1)

    x, labels = torch.rand(30, 1, 4, 4), torch.arange(30) % 3
    for second, equal in ((tenth, True), (nn.init.kaiming_normal_, False)):
        network = lesson().small(tenth, second, 16, 3, units=6)
        F.cross_entropy(network(x), labels).backward()
        rows = network[1].weight.grad
        assert torch.allclose(rows, rows[:1].expand_as(rows)) is equal


def test_all_matrices_divided_by_c_walk_the_same_way_with_the_factor_and_the_rate_of_exercise_5():
    c, rate, layers = 1.7, 0.05, 4
    factor, other_rate = solutions.same_way(layers, rate, c)
    one = lesson().deep(1.4, layers=layers - 1, width=12, inputs=9, classes=3)
    other = lesson().deep(1.4, layers=layers - 1, width=12, inputs=9, classes=3, factor=factor)
    other.load_state_dict({name: value / c for name, value in one.state_dict().items()})
    x, labels = torch.randn(20, 1, 3, 3), torch.arange(20) % 3
    losses = []
    for network, step in ((one, rate), (other, other_rate)):
        optimizer = torch.optim.SGD(network.parameters(), lr=step, momentum=0.9)
        for _ in range(10):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(x), labels)
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


def test_small_starts_as_it_is_told():
    network = lesson().small(
        lambda weight: nn.init.constant_(weight, 0.3), nn.init.zeros_, 4, 2, units=5
    )
    assert network[1].weight.unique().tolist() == [0.3] and not network[3].bias.any()
    assert not network[3].weight.any()
    assert network(torch.rand(3, 1, 2, 2)).shape == (3, 2)


@pytest.mark.parametrize("deviation", [0.02, 0.05, 0.1])
def test_linear_layers_multiply_the_size_by_root_n_times_the_deviation(deviation):
    layers, _ = lesson().through(lambda z: z, lesson().normal(deviation), layers=4, n=300)
    size = layers[-1].square().mean().sqrt().item()
    assert size == pytest.approx((math.sqrt(300) * deviation) ** 4, rel=0.05)


def test_through_returns_the_gradients_of_autograd():
    fixed = [torch.randn(6, 6) for _ in range(3)]
    waiting = list(fixed)
    _, sizes = lesson().through(
        torch.tanh, lambda n, g: waiting.pop(0), layers=3, n=6, seed=4, many=6
    )
    g = torch.Generator().manual_seed(4)
    x = torch.randn(6, 6, generator=g)
    top = torch.randn(6, 6, generator=g)
    z = (torch.tanh(x @ fixed[0]) @ fixed[1]).requires_grad_()
    (torch.tanh(torch.tanh(z) @ fixed[2]) * top).sum().backward()
    assert sizes[1] == pytest.approx(z.grad.square().mean().sqrt().item())


def test_even_weights_minus_a_half_have_mean_zero_and_the_deviation_of_the_even_distribution():
    weight = lesson().uniform(2.0, middle=0.5)(300, torch.Generator().manual_seed(1))
    assert weight.mean().item() == pytest.approx(0, abs=0.01)
    assert weight.std().item() == pytest.approx(2 / math.sqrt(12), rel=0.01)


# --- exercises ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", LESSON)
def test_the_reference_solution_is_accepted(id):
    assert LESSON[id].check(*LESSON[id].answers())


def test_prepared_rejects_the_wrong_axis_own_statistics_and_a_division_by_zero():
    def rows(train, test):
        return tuple(x - x.mean(1, keepdims=True) for x in (train, test))

    def own(train, test):
        return solutions.prepared(train, train)[0], solutions.prepared(test, test)[0]

    def divided(train, test):
        return tuple((x - train.mean(0)) / train.std(0) for x in (train, test))

    def nearly(train, test):
        return tuple((x - train.mean(0)) / (train.std(0) + 1e-8) for x in (train, test))

    def centred(train, test):
        return train - train.mean(0), test - train.mean(0)

    rejects("06.1", rows, saying="axis 0")
    rejects("06.1", own, saying="its own means")
    rejects("06.1", divided, saying="not finite; divide such columns by 1")
    rejects("06.1", nearly, saying="a tiny number in place of its deviation")
    rejects("06.1", centred, saying="train of 40 rows")
    rejects("06.1", lambda train, test: train, saying="expected a pair")


def test_prepared_accepts_the_deviation_with_n_minus_1():
    def sample(train, test):
        deviation = train.std(0, ddof=1)
        deviation = np.where(deviation > 0, deviation, 1)
        return tuple((x - train.mean(0)) / deviation for x in (train, test))

    assert LESSON["06.1"].check(sample)


def test_merged_rejects_lost_columns_averages_and_units_left_twice():
    def first_only(first, second):
        rows, _ = solutions.merged(first, second)
        places = [int((first == row).all(1).nonzero()[0, 0]) for row in rows]
        return rows, second[:, places]

    def averaged(first, second):
        rows, columns = solutions.merged(first, second)
        counts = torch.stack([(first == row).all(1).sum() for row in rows])
        return rows, columns / counts

    def by_unique(first, second):
        rows, places = torch.unique(first, dim=0, return_inverse=True)
        return rows, torch.zeros(len(second), len(rows)).index_add(1, places, second)

    rejects("06.2", by_unique, saying="not in order of first appearance")
    rejects("06.2", first_only, saying="must not be lost")
    rejects("06.2", averaged, saying="added up, not averaged")
    rejects("06.2", lambda first, second: (first, second), saying="different rows")
    rejects("06.2", lambda first, second: first, saying="expected a pair")


def test_fan_in_deviation_rejects_fan_out_channels_alone_and_the_variance():
    rejects("06.3", lambda shape: shape[0] ** -0.5, saying="outputs")
    rejects("06.3", lambda shape: shape[1] ** -0.5, saying="each of its 3 channels")
    rejects("06.3", lambda shape: 1 / math.prod(shape[1:]), saying="square root")
    rejects("06.3", lambda shape: (2 / (shape[0] + shape[1])) ** 0.5, saying="the deviation for")


def test_fan_in_deviation_is_torchs_fan_in():
    for shape in ((30, 500), (40, 8, 5, 5)):
        weight = nn.init.kaiming_normal_(torch.empty(shape), nonlinearity="linear")
        assert weight.std().item() == pytest.approx(solutions.fan_in_deviation(shape), rel=0.03)


def test_leaky_deviation_rejects_relus_the_unsquared_slope_and_the_variance():
    rejects("06.4", lambda n, slope: math.sqrt(2 / n), saying="ReLU's")
    rejects("06.4", lambda n, slope: math.sqrt(2 / ((1 + slope) * n)), saying="squared")
    rejects("06.4", lambda n, slope: 2 / ((1 + slope**2) * n), saying="variance")


def test_leaky_deviation_is_torchs_gain():
    for slope in (0.01, 0.3):
        gain = nn.init.calculate_gain("leaky_relu", slope)
        assert solutions.leaky_deviation(50, slope) == pytest.approx(gain / math.sqrt(50))


def test_same_way_rejects_a_sum_of_factors_the_old_rate_and_half_of_the_correction():
    rejects("06.5", lambda layers, rate, c: (layers * c, rate), saying="multiply")
    rejects("06.5", lambda layers, rate, c: (c**-layers, rate), saying="gives this back")
    rejects("06.5", lambda layers, rate, c: (c**layers, rate), saying="steps are too large")
    rejects("06.5", lambda layers, rate, c: (c**layers, rate / c), saying="once more by c")


def test_broken_rejects_counting_from_0_the_last_size_the_wrong_way_round_and_the_square():
    def from_0(weights, x):
        number, factor = solutions.broken(weights, x)
        return number - 1, factor

    def upside_down(weights, x):
        number, factor = solutions.broken(weights, x)
        return number, 1 / factor

    def squared(weights, x):
        number, factor = solutions.broken(weights, x)
        return number, factor**2

    def last_size(weights, x):
        for weight in weights:
            x = torch.relu(x @ weight)
        return len(weights), 1 / x.square().mean().sqrt().item()

    rejects("06.6", from_0, saying="counted from 1")
    rejects("06.6", last_size, saying="divide each size by the one before it")
    rejects("06.6", lambda weights, x: (5 - solutions.broken(weights, x)[0], 1), saying="By what")
    rejects("06.6", upside_down, saying="mend with 1 over it")
    rejects("06.6", squared, saying="the size by its root")
    rejects("06.6", lambda weights, x: (solutions.broken(weights, x)[0], 7), saying="about 20")
    rejects("06.6", lambda weights, x: 3, saying="expected a pair")


def test_measured_start_rejects_the_deviation_old_inputs_and_matrices_changed_one_by_one():
    def by_deviation(weights, x, bend):
        new = []
        for weight in weights:
            weight = weight / bend(x @ weight).std()
            x = bend(x @ weight)
            new.append(weight)
        return new

    def with_old_inputs(weights, x, bend):
        new = []
        for weight in weights:
            new.append(weight / bend(x @ weight).square().mean().sqrt())
            x = bend(x @ weight)
        return new

    def by_column(weights, x, bend):
        return [weight / weight.norm(dim=0) for weight in weights]

    rejects("06.7", by_deviation, saying="root of the mean square")

    def in_front(weights, x, bend):
        new = []
        for weight in weights:
            new.append(weight / (x @ weight).square().mean().sqrt())
            x = bend(x @ new[-1])
        return new

    rejects("06.7", with_old_inputs, saying="the old outputs of layer 1")
    rejects("06.7", in_front, saying="in front of the bend")
    rejects("06.7", by_column, saying="times one number")
    rejects("06.7", lambda weights, x, bend: weights[:1], saying="expected 3 matrices")
