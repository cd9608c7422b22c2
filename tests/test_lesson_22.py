"""Lesson 22: its definitions against torch, scipy and sums written out; its exercises against planted mistakes."""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np
import pytest
import scipy.linalg
import torch
from lesson_checks import planted
from torch import nn
from torch.nn import functional as F

from cnncourse import exercises, lab
from cnncourse.exercises import lesson_22 as solutions

pytestmark = pytest.mark.usefixtures("in_float64")
LESSON = exercises.of_lesson("22")


@cache
def lesson():
    module = lab.definitions("22")
    module.everyone, module.runs, module.pixels, module.many = [3, 4], 2, 16, 10
    module.adam = lambda net, rate, betas=(0.9, 0.999): torch.optim.Adam(
        net.parameters(), rate, betas=betas
    )
    return module


# --- several seeds side by side -------------------------------------------------------------------


def small():
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3), nn.Tanh())


def test_nets_side_by_side_answer_as_each_alone():
    nets = [small() for _ in range(3)]
    for net in nets:
        nn.init.normal_(net[1].weight)
        nn.init.normal_(net[1].bias)
    x = torch.randn(3, 7, 5)
    alone = torch.stack([net.train()(rows) for net, rows in zip(nets, x, strict=True)])
    torch.testing.assert_close(lesson().side_by_side(nets)(x), alone)


def test_together_trains_each_seed_as_if_alone():
    nets, x, y = [small() for _ in range(2)], torch.randn(2, 7, 5), torch.randn(2, 7, 3)
    joint = lesson().side_by_side(nets)
    for net in [joint, *nets]:
        optimiser = torch.optim.Adam(net.parameters(), 0.01)
        for _ in range(3):
            if net is joint:
                loss = ((net(x) - y) ** 2).mean((1, 2)).sum()
            else:
                place = nets.index(net)
                loss = ((net(x[place]) - y[place]) ** 2).mean()
            lesson().update(optimiser, loss)
    alone = torch.stack([net(rows) for net, rows in zip(nets, x, strict=True)])
    torch.testing.assert_close(joint(x), alone, rtol=1e-6, atol=1e-8)


# --- judges ---------------------------------------------------------------------------------------


def test_frechet_is_the_distance_with_scipys_matrix_root():
    a, b = torch.randn(50, 4) @ torch.randn(4, 4), torch.randn(40, 4) + 1
    one, other = np.cov(a.numpy().T), np.cov(b.numpy().T)
    root = scipy.linalg.sqrtm(one @ other).real
    by_hand = ((a.mean(0) - b.mean(0)) ** 2).sum().item() + np.trace(one + other - 2 * root)
    assert lesson().frechet(a, b).item() == pytest.approx(by_hand, rel=1e-8)
    assert lesson().frechet(a, a).item() == pytest.approx(0, abs=1e-6)


def test_nearest_is_the_smallest_of_all_distances():
    rows, learnt = torch.randn(5, 3), torch.randn(8, 3)
    by_hand = [min((row - other).norm().item() for other in learnt) for row in rows]
    np.testing.assert_allclose(lesson().nearest(rows, learnt), by_hand, rtol=1e-9)


# --- autoencoders, groups -------------------------------------------------------------------------


def test_the_linear_autoencoder_finds_the_components():
    rows = torch.randn(200, 6) * torch.tensor([5.0, 3.0, 2.0, 0.5, 0.3, 0.1]) + 1
    net = lesson().linear_autoencoder(rows, 2, number=0)
    axes = torch.linalg.svd(rows - rows.mean(0)).Vh
    assert lesson().angle(net[1].weight.detach().T, axes[:2]) < 0.5
    assert lesson().angle(net[1].weight.detach().T, axes[1:3]) > 45


def test_the_angle_of_two_planes_is_scipys():
    one, other = torch.randn(3, 7), torch.randn(3, 7)
    theirs = np.degrees(scipy.linalg.subspace_angles(one.numpy().T, other.numpy().T).max())
    assert lesson().angle(one, other) == pytest.approx(theirs, abs=1e-6)


def test_k_means_ends_where_no_row_changes_its_group():
    rows = torch.cat([torch.randn(30, 2) + place for place in (-8, 0, 8)])
    group, centres = lesson().k_means(rows, 3, torch.Generator().manual_seed(1))
    torch.testing.assert_close(torch.cdist(rows, centres).argmin(1), group)
    for each in group.unique():
        torch.testing.assert_close(centres[each], rows[group == each].mean(0))


# --- RBM ------------------------------------------------------------------------------------------


def rbm(visible=4, hidden=3):
    return torch.randn(visible, hidden), torch.randn(visible), torch.randn(hidden)


def states(units):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=units)))


def test_the_likelihood_is_the_sum_over_all_states():
    W, b, c = rbm()
    v, h = states(4), states(3)
    weight = torch.exp(v @ W @ h.T + (v @ b)[:, None] + h @ c)  # exp(-E), (16, 8)
    by_hand = (weight.sum(1) / weight.sum()).log()
    torch.testing.assert_close(lesson().log_likelihood(v[5:9], W, b, c), by_hand[5:9].mean())


def test_conditional_chances_follow_from_the_energy():
    W, b, c = rbm()
    v, h = states(4), states(3)
    weight = torch.exp(v @ W @ h.T + (v @ b)[:, None] + h @ c)
    given_v = (weight @ h) / weight.sum(1, keepdim=True)
    torch.testing.assert_close(torch.sigmoid(c + v @ W), given_v)


def test_cd1_is_the_gradient_in_the_mean_where_the_data_are_the_models_own():
    """Drawn from the model itself, both have the mean zero."""
    W, b, c = rbm()
    v = states(4)
    chance = torch.stack([lesson().log_likelihood(row[None], W, b, c) for row in v]).exp()
    assert chance.sum().item() == pytest.approx(1)
    stream = torch.Generator().manual_seed(0)
    rows = v[torch.multinomial(chance, 200_000, replacement=True, generator=stream)]
    for step in lesson().cd1(rows, W, b, c, stream):
        assert step.abs().max().item() < 0.01


def test_cd1_goes_uphill_from_rest():
    v = (torch.rand(500, 4, generator=torch.Generator().manual_seed(2)) < 0.8).double()
    W, b, c = torch.zeros(4, 3), torch.zeros(4), torch.zeros(3)
    steps = lesson().cd1(v, W, b, c, torch.Generator().manual_seed(0))
    weights = [each.clone().requires_grad_() for each in (W, b, c)]
    slopes = torch.autograd.grad(lesson().log_likelihood(v, *weights), weights)
    assert F.cosine_similarity(steps[1], slopes[1], dim=0) > 0.95
    assert (steps[1] > 0).all()


def test_pooled_units_of_the_convolutional_rbm_follow_from_its_states():
    v, W, c = torch.rand(1, 1, 4, 4), torch.randn(2, 1, 3, 3), torch.randn(2)
    hidden, pooled = lesson().conv_rbm(v, W, c)
    assert hidden.shape == (1, 2, 4, 1, 1) and pooled.shape == (1, 2, 1, 1)
    for place in range(2):
        inputs = F.conv2d(v, W, c)[0, place].flatten().exp()  # one block
        torch.testing.assert_close(hidden[0, place, :, 0, 0], inputs / (1 + inputs.sum()))
        torch.testing.assert_close(pooled[0, place, 0, 0], inputs.sum() / (1 + inputs.sum()))


# --- GAN ------------------------------------------------------------------------------------------


def test_losses_are_torchs_cross_entropies():
    real, made = torch.randn(2, 5, 1), torch.randn(2, 5, 1)
    entropy = F.binary_cross_entropy_with_logits
    for place in range(2):
        of_d = entropy(real[place], torch.ones(5, 1)) + entropy(made[place], torch.zeros(5, 1))
        torch.testing.assert_close(lesson().d_loss(real, made)[place], of_d)
        torch.testing.assert_close(
            lesson().g_loss(made)[place], entropy(made[place], torch.ones(5, 1))
        )
    assert lesson().d_loss(0 * real, 0 * made)[0].item() == pytest.approx(2 * math.log(2))


def play(G, D, **turns):
    """Two rounds of the lesson's loop with real rows of 3 numbers, made from 2."""
    lesson().alternate(
        G, D, lambda: torch.randn(2, 4, 3), lambda: torch.randn(2, 4, 2), 0.01, 2, **turns
    )


def two_nets():
    shapes = (2, 3), (3, 1)
    return [
        lesson().together(lambda shape=shape: nn.Sequential(nn.Linear(*shape))) for shape in shapes
    ]


@pytest.mark.parametrize(("d_steps", "g_steps"), [(1, 1), (3, 1), (1, 0), (2, 5)])
def test_turns_move_whom_they_should_and_only_them(d_steps, g_steps):
    nets = two_nets()
    before = [[weight.clone() for weight in net.parameters()] for net in nets]
    play(*nets, d_steps=d_steps, g_steps=g_steps)
    moved = [
        any(not torch.equal(old, new) for old, new in zip(olds, net.parameters(), strict=True))
        for olds, net in zip(before, nets, strict=True)
    ]
    assert moved == [g_steps > 0, d_steps > 0]


def test_the_step_of_d_leaves_no_slope_in_g():
    G, D = two_nets()
    play(G, D, g_steps=0)
    assert all(weight.grad is None for weight in G.parameters())


def test_heaps_are_counted_by_hand():
    far = torch.full((20, 2), 9.0)
    points = torch.cat([lesson().heaps[:3].repeat(10, 1), lesson().heaps[3:4] + 0.3, far])
    heaps, share = lesson().on_heaps(points)  # 30 of 51 on three heaps; one point beside a fourth
    assert heaps == 3 and share == pytest.approx(30 / 51)


# --- exercises ------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", LESSON)
def test_the_reference_solution_is_accepted(id):
    assert LESSON[id].check(*LESSON[id].answers())


def rebuilt_with(change):
    def rebuilt(rows, learnt, k):
        mean = learnt.mean(0)
        axes = np.linalg.svd(learnt - mean, full_matrices=False)[2]
        axes = axes[-k:] if change == "last" else axes[:k]
        code = (rows - mean) @ axes.T
        return code if change == "code" else code @ axes + (0 if change == "mean" else mean)

    return rebuilt


def raw_directions(rows, learnt, k):
    axes = np.linalg.svd(learnt, full_matrices=False)[2][:k]
    return rows @ axes.T @ axes


def mean_of_groups(groups, labels):
    return np.mean(
        [
            np.bincount(labels[groups == each]).max() / (groups == each).sum()
            for each in np.unique(groups)
        ]
    )


def with_all_zeros(p, q):
    return (p * np.log(p / (p + q)) + q * np.log(q / (p + q))).sum()


def nearest_to_fresh(made, learnt, fresh):
    def to(rows, others):
        return np.linalg.norm(rows[:, None] - others, axis=2).min(1)

    return (to(made, fresh) < np.median(to(fresh, learnt))).mean()


@planted(
    {
        "22.1": [
            ("most important", rebuilt_with("last")),
            ("that is the code", rebuilt_with("code")),
            ("on again at the end", rebuilt_with("mean")),
            ("before the directions", raw_directions),
        ],
        "22.2": [
            ("not each group", mean_of_groups),
            ("divide by", lambda g, y: solutions.purity_of(g, y) * len(y)),
            ("turn it round", lambda g, y: solutions.purity_of(y, g)),
            ("not a label", lambda g, y: (g == y).mean()),
        ],
        "22.3": [
            ("uphill", lambda *a: -solutions.step_for_w(*a)),
            ("mean over the pictures", lambda v, *a: len(v) * solutions.step_for_w(v, *a)),
            ("bias c", lambda v, v1, W, c: solutions.step_for_w(v, v1, W, 0 * c)),
            ("turned round", lambda *a: solutions.step_for_w(*a).T),
        ],
        "22.4": [
            ("0 · ln 0", with_all_zeros),
            ("without a minus", lambda p, q: -solutions.best_value(p, q)),
            ("not averaged", lambda p, q: solutions.best_value(p, q) / 2),
            ("natural", lambda p, q: solutions.best_value(p, q) / math.log(2)),
            ("the best D is", lambda p, q: -math.log(4)),
        ],
        "22.5": [
            ("not farther", lambda *a: 1 - solutions.suspicious(*a)),
            ("against `learnt`", nearest_to_fresh),
            ("divide by", lambda m, *a: len(m) * solutions.suspicious(m, *a)),
        ],
    }
)
def test_a_mistake_is_named(id, answer, words):
    with np.errstate(all="ignore"), pytest.raises(exercises.Wrong, match=words):
        LESSON[id].check(answer)
