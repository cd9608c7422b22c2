"""Lesson 08: its layers and measurements against torch and by hand, its exercises against mistakes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from lesson_checks import rejects
from torch import nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as change

from cnncourse import data, exercises, lab
from cnncourse.exercises import lesson_08 as solutions

pytestmark = pytest.mark.usefixtures("in_float64")
LESSON = exercises.of_lesson("08")


@cache
def lesson():
    return lab.definitions("08")


# --- forgetting ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
def test_dropout_equals_torchs_in_values_share_and_mean_and_does_nothing_in_evaluation(p):
    x, ours, theirs = torch.full((300, 400), 3.0), lesson().Dropout(p), nn.Dropout(p)
    assert torch.equal(ours(x).unique(), theirs(x).unique())
    assert (ours(x) == 0).double().mean().item() == pytest.approx(p, abs=0.01)
    assert ours(x).mean().item() == pytest.approx(3, abs=0.06)
    assert torch.equal(ours.eval()(x), x)


def test_dropout_lets_the_gradient_through_where_it_lets_numbers_through():
    x = torch.ones(50, 20, requires_grad=True)
    out = lesson().Dropout(0.4)(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


def test_dropconnect_leaves_the_matrix_behind_the_pixels_and_drops_weights_of_the_others():
    layer = lesson().DropConnect(0.5, pixels=6)
    first, second = torch.ones(2, 6, 8), torch.ones(2, 8, 8)
    assert torch.equal(layer(first), first)
    assert set(layer(second).unique().tolist()) == {0.0, 2.0}
    assert torch.equal(layer.eval()(second), second)


def test_scores_by_lot_have_the_mean_and_the_deviation_of_the_formula():
    score, law, by_units, by_weights = lesson().scores_by_lot(1, draws=20_000)
    for values in (by_units, by_weights):
        assert values.mean().item() == pytest.approx(score, abs=0.04)
        assert values.std().item() == pytest.approx(law, rel=0.03)


@pytest.mark.parametrize(("size", "parts"), [(8, 5), (25, 17), (28, 18), (7, 6), (6, 3)])
def test_drawn_regions_cover_all_rows_once_in_ones_and_twos(size, parts):
    for lot in range(5):
        first, last = lesson().drawn_regions(size, parts, torch.Generator().manual_seed(lot))
        rows = [row for a, b in zip(first, last, strict=True) for row in range(a, b + 1)]
        assert rows == list(range(size)) and len(first) == parts
        assert set((last - first).tolist()) <= {0, 1}


def test_fractional_max_pool_equals_maxima_over_the_drawn_regions():
    x = torch.randn(2, 3, 8, 8, 4)
    got = lesson().fractional_max_pool(x, 5, torch.Generator().manual_seed(3))
    lot = torch.Generator().manual_seed(3)
    rows, columns = lesson().drawn_regions(8, 5, lot), lesson().drawn_regions(8, 5, lot)
    for i, j in np.ndindex(5, 5):
        part = x[:, :, rows[0][i] : rows[1][i] + 1, columns[0][j] : columns[1][j] + 1]
        assert torch.equal(got[:, :, i, j], part.amax((2, 3)))


def test_fractional_max_pool_by_two_is_torchs_max_pooling():
    x = torch.randn(3, 8, 8, 2)
    wanted = F.max_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    assert torch.equal(lesson().fractional_max_pool(x, 4), wanted)


# --- networks -----------------------------------------------------------------------------------------------------


def one_of(networks, run):
    """The same network in torch's layers."""
    parts = []
    for weight, bias in zip(networks.weights, networks.biases, strict=True):
        layer = nn.Linear(*weight.shape[1:])
        layer.weight.data, layer.bias.data = weight[run].T.clone(), bias[run, 0].clone()
        parts += [layer, nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def task(size=100, share=0.3, runs=2):
    source = data.load("digits", True).normalised()
    return lesson().noisy_task(source, size, share, range(runs))


def test_networks_side_by_side_are_torchs_networks_for_own_and_for_shared_pictures():
    networks = lesson().Networks(3, (6, 5, 4, 3))
    own, shared = torch.randn(3, 7, 6), torch.randn(7, 6)
    for run in range(3):
        assert torch.allclose(networks(own)[run], one_of(networks, run)(own[run]))
        assert torch.allclose(networks(shared)[run], one_of(networks, run)(shared))


def test_side_by_side_training_equals_torchs_sgd_on_each_run_alone():
    t = task()
    networks = lesson().Networks(2, (64, 9, 8, 10))
    alone = one_of(networks, 1)
    lesson().train(networks, t, epochs=3, rate=0.05, decay=0.01, seed=4)
    optimizer = torch.optim.SGD(alone.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    lot = torch.Generator().manual_seed(4)
    for _ in range(3):
        order = torch.rand(2, 100, generator=lot).argsort(dim=1)[1]
        for picked in order.split(50):
            optimizer.zero_grad()
            F.cross_entropy(alone(t.x[1, picked]), t.given[1, picked]).backward()
            optimizer.step()
    for mine, theirs in zip(one_of(networks, 1).parameters(), alone.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-12)


def test_training_watches_each_epoch_in_evaluation_mode_and_takes_a_rate_by_epoch():
    networks = lesson().Networks(2, (64, 4, 4, 10), units=lesson().Dropout(0.5))
    rates = []

    def rate(epoch):
        rates.append(epoch)
        return 0.01

    seen = lesson().train(networks, task(), 3, rate, watch=lambda networks: networks.training)
    assert seen == [False] * 3 and rates == [0, 1, 2]


def test_a_noisy_task_has_wrong_labels_of_other_classes_in_the_share_asked_for():
    t = task(size=400, share=0.3)
    wrong = t.given != t.true
    assert wrong.double().mean().item() == pytest.approx(0.3, abs=0.06)
    assert not torch.equal(t.x[0], t.x[1])
    assert torch.equal(task(share=0.0).given, task(share=0.0).true)


def test_repeated_counts_all_and_wrong_labels():
    t = lesson().Task(
        torch.eye(4)[None], torch.tensor([[0, 1, 2, 0]]), torch.tensor([[0, 1, 3, 3]])
    )
    network = lesson().Networks(1, (4, 4, 4))
    for weight in network.weights:
        weight.data = torch.eye(4)[None]
    assert lesson().repeated(network, t).tolist() == [[0.75], [0.5]]


def test_removed_units_are_as_many_in_each_network_and_the_rest_is_scaled():
    x = torch.ones(3, 5, 20)
    got = lesson().Removed(0.25, torch.Generator().manual_seed(0))(x)
    assert ((got == 0).sum(2) == 5).all() and torch.allclose(got.sum(2), x.sum(2))
    assert torch.equal(got[:, 0], got[:, 1])  # the same units for all pictures


def test_activity_counts_zeros_and_the_preference_for_one_class():
    networks = lesson().Networks(1, (2, 2, 2))
    for weight, bias in zip(networks.weights, networks.biases, strict=True):
        weight.data, bias.data = torch.eye(2)[None], torch.zeros(1, 1, 2)
    zeros, prefers = lesson().activity(networks, torch.eye(2), torch.tensor([0, 1]))
    assert zeros.tolist() == [0.5] and prefers.tolist() == [1.0]


def test_residual_networks_leave_out_whole_blocks_in_training_and_scale_them_later():
    networks = lesson().ResidualNetworks(4, 6, 5, 3, blocks=1, p=0.5)
    x = torch.randn(4, 7, 6)
    first = torch.relu(x @ networks.weights[0] + networks.biases[0])
    block = torch.relu(first @ networks.weights[1] + networks.biases[1])
    outs = [(first + stays * block) @ networks.weights[2] + networks.biases[2] for stays in (0, 1)]
    got = networks(x)
    for run in range(4):
        assert any(torch.allclose(got[run], out[run]) for out in outs)
    assert torch.allclose(networks.eval()(x), (outs[0] + outs[1]) / 2)


def test_pooling_networks_are_a_convolution_a_pooling_and_scores():
    networks = lesson().PoolingNetworks(2, side=8, classes=10, maps=3, frozen=True, lot=5)
    x = torch.randn(2, 4, 64)
    kernels = networks.weight[1].T.reshape(3, 1, 3, 3)
    maps = torch.relu(F.conv2d(x[1].reshape(-1, 1, 8, 8), kernels, padding=1))
    lot = torch.Generator().manual_seed(5)
    pooled = lesson().fractional_max_pool(maps.permute(0, 2, 3, 1), 5, lot)
    assert torch.allclose(networks(x)[1], pooled.flatten(1) @ networks.scores[1])
    assert torch.equal(networks(x), networks(x))
    drawn = lesson().PoolingNetworks(2)
    assert not torch.equal(drawn(x), drawn(x))
    assert torch.equal(drawn.eval()(x), drawn(x))


def test_stopped_reads_the_test_at_each_runs_best_epoch_of_the_pictures_kept_aside():
    curves = np.zeros((3, 4, 2))
    curves[:, 2] = [[1, 2], [3, 4], [5, 6]]
    curves[:, 3] = [[0.1, 0.9], [0.7, 0.2], [0.3, 0.9]]
    assert lesson().stopped(curves).tolist() == [3, 2]


def test_keep_has_for_each_run_the_weights_of_its_best_epoch_on_the_pictures_kept_aside():
    part = lesson().Task(torch.eye(2)[None].repeat(2, 1, 1), *2 * [torch.tensor([[0, 1], [0, 1]])])
    networks, keep = lesson().Networks(2, (2, 2)), lesson().Keep(part)
    right, half, wrong = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.eye(2).flip(0)
    for weights in [(half, right), (3 * right, wrong), (wrong, 2 * right)]:
        networks.weights[0].data = torch.stack(weights)
        keep(networks)
    assert keep.best.tolist() == [1, 1]
    assert torch.equal(keep.weights[0], torch.stack([3 * right, right]))


def test_a_part_of_a_task_takes_the_same_pictures_of_all_runs():
    t = task()
    part = t.part(70, None)
    assert torch.equal(part.x, t.x[:, 70:]) and torch.equal(part.given, t.given[:, 70:])
    assert torch.equal(part.true, t.true[:, 70:])


# --- fits, averages, changes --------------------------------------------------------------------------------------


def test_the_fit_solves_the_penalised_equations_and_is_the_shortest_without_a_penalty():
    units, target = torch.randn(6, 9), torch.randn(6, 2)
    weight = lesson().fitted(units, target, 0.3)
    assert torch.allclose(units.T @ (units @ weight - target) + 0.3 * weight, torch.zeros(9, 2))
    shortest = lesson().fitted(units, target, 0)
    assert torch.allclose(shortest, torch.linalg.lstsq(units, target, driver="gelsd").solution)


def test_the_geometric_mean_over_all_masks_is_the_scaled_softmax_layer():
    geometric, arithmetic = lesson().exact_average(2)
    assert geometric < 1e-12 < arithmetic


def test_divergence_is_torchs_kl_div():
    p, q = torch.randn(2, 3, 5, 4).softmax(-1)
    wanted = F.kl_div(q.log(), p, reduction="none").sum(-1).mean(-1)
    assert np.allclose(lesson().divergence(p, q), wanted)


def test_thin_answers_repeat_with_their_seed_and_leave_the_networks_in_evaluation_mode():
    networks = lesson().Networks(2, (6, 5, 5, 3), units=lesson().Dropout(0.5)).eval()
    x = torch.randn(4, 6)
    one, other = (lesson().thin_answers(networks, x, 3, seed=1) for _ in range(2))
    assert torch.equal(one, other) and not networks.training
    assert not torch.equal(one[0], one[1])


def test_the_squared_error_saved_by_an_average_is_the_disagreement():
    probabilities, labels = torch.randn(5, 8, 4).softmax(-1), torch.randint(4, (8,))
    each, whole, apart = lesson().split(probabilities, labels)
    assert each - whole == pytest.approx(apart, abs=1e-12)


def test_averaged_gives_accuracies_and_losses_of_members_and_of_their_average():
    probabilities = torch.tensor([[[0.9, 0.1]], [[0.2, 0.8]]])
    got = lesson().averaged(probabilities, torch.tensor([0]))
    assert got["accuracy"] == (0.5, 1.0)
    log = np.log
    assert got["loss"] == pytest.approx((-(log(0.9) + log(0.2)) / 2, -log(0.55)))


def test_shifted_moves_whole_pictures_by_at_most_one_and_turned_turns_them():
    pictures = torch.zeros(200, 64)
    pictures[:, 27] = 1  # row 3, column 3
    places = lesson().shifted(pictures, 8).argmax(1)
    moves = {(place // 8 - 3, place % 8 - 3) for place in places.tolist()}
    assert moves == {(i - 1, j - 1) for i, j in np.ndindex(3, 3)}
    x = torch.rand(50, 64)
    got = lesson().turned(x, 8).view(-1, 8, 8)
    whole = x.view(-1, 8, 8)
    same, half = (got == whole).all((1, 2)), (got == whole.rot90(2, (1, 2))).all((1, 2))
    assert (same ^ half).all() and same.any() and half.any()


def test_pca_lighting_adds_one_colour_along_the_principal_directions():
    photo = torch.rand(3, 8, 9)
    a = torch.tensor([0.1, -0.2, 0.3])
    values, vectors = np.linalg.eigh(np.cov(photo.reshape(3, -1).numpy()))
    wanted = vectors @ (a.numpy() * values)
    added = (lesson().pca_lighting(photo, a) - photo).flatten(1)
    assert torch.allclose(added, added[:, :1].expand_as(added))
    assert np.allclose(np.abs(vectors.T @ added[:, 0].numpy()), np.abs(vectors.T @ wanted))


def test_a_training_view_repeats_with_its_lot():
    photo = (255 * torch.rand(3, 90, 120)).to(torch.uint8)
    one, other = (lesson().training_view(photo, torch.Generator().manual_seed(1)) for _ in "ab")
    assert one.shape == (3, 224, 224) and torch.equal(one, other)


# --- exercises ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", LESSON)
def test_the_reference_solution_is_accepted(id):
    assert LESSON[id].check(*LESSON[id].answers())


def test_ten_crops_of_the_solution_are_torchvisions():
    photo = torch.rand(3, 9, 12)
    wanted = torch.stack(change.ten_crop(photo, [4]))
    assert torch.equal(solutions.ten_crops(photo, 4), wanted)


def test_kept_epoch_rejects_the_best_of_all_the_last_an_accuracy_and_a_comparison_with_the_last():
    def against_the_last(accuracies, patience):
        best = bad = 0
        for epoch in range(1, len(accuracies)):
            better = accuracies[epoch] > accuracies[epoch - 1]
            bad = 0 if better else bad + 1
            best = epoch if better else best
            if bad >= patience:
                break
        return best

    rejects("08.1", lambda a, p: int(np.argmax(a)), saying="epoch 4 is never seen")
    rejects("08.1", lambda a, p: max(a), saying="number of an epoch")
    rejects("08.1", lambda a, p: solutions.kept_epoch(a, p) + 1, saying="expected epoch 1, got 2")
    rejects("08.1", against_the_last, saying="expected epoch")
    rejects("08.1", lambda a, p: solutions.kept_epoch(a, p - 1), saying="patience 3")


def test_drop_maps_rejects_no_scale_the_wrong_scale_the_other_maps_and_single_numbers():
    def scaled(factor):
        return lambda x, p, lots: x * (lots >= p)[:, :, None, None] * factor(p)

    rejects("08.2", scaled(lambda p: 1.0), saying="divide what stays by 1 - p")
    rejects("08.2", scaled(lambda p: 1 / p), saying="probability to stay")
    rejects("08.2", scaled(lambda p: 1 - p), saying="multiplying makes it smaller")
    rejects(
        "08.2", lambda x, p, lots: x * (lots < p)[:, :, None, None] / (1 - p), saying="other maps"
    )
    rejects("08.2", lambda x, p, lots: F.dropout(x, p), saying="the maps for p = 0.3")


def test_score_deviation_rejects_the_variance_no_scale_a_squared_sum_and_the_other_p():
    def right(x, w, p):
        return solutions.score_deviation(x, w, p)

    rejects("08.3", lambda x, w, p: right(x, w, p) ** 2, saying="that is the variance")
    rejects("08.3", lambda x, w, p: right(x, w, p) * (1 - p), saying="without the division")
    rejects("08.3", lambda x, w, p: (p / (1 - p)) ** 0.5 * abs((x * w).sum()), saying="square each")
    rejects("08.3", lambda x, w, p: right(x, w, 1 - p), saying="probability to be struck out")
    rejects("08.3", lambda x, w, p: x * w, saying="expected one number")


def test_turned_digits_rejects_old_labels_all_digits_mirrors_and_unturned_pictures():
    def right(pictures, labels):
        return solutions.turned_digits(pictures, labels)

    def old_labels(pictures, labels):
        kept = torch.isin(labels, torch.tensor([0, 1, 6, 8, 9]))
        return pictures[kept].flip(1, 2), labels[kept]

    def mirrored(pictures, labels):
        return right(pictures, labels)[0].flip(1), right(pictures, labels)[1]

    def unturned(pictures, labels):
        return right(pictures, labels)[0].flip(1, 2), right(pictures, labels)[1]

    rejects("08.4", old_labels, saying="labels must turn too")
    rejects("08.4", lambda x, y: (x.flip(1, 2), y), saying="leave them out")
    rejects("08.4", mirrored, saying="mirror image")
    rejects("08.4", unturned, saying="not turned")
    rejects("08.4", lambda x, y: x, saying="expected a pair")


def test_two_losses_rejects_gains_swapped_answers_averaged_logarithms_and_sums():
    def right(p, y):
        return solutions.two_losses(p, y)

    def geometric(p, y):
        return right(p, y)[0], F.nll_loss(p.log().mean(0).log_softmax(-1), y)

    rejects("08.5", lambda p, y: tuple(-loss for loss in right(p, y)), saying="minus the logarithm")
    rejects("08.5", lambda p, y: right(p, y)[::-1], saying="loss of the average")
    rejects("08.5", lambda p, y: (right(p, y)[0],) * 2, saying="average the probabilities first")
    rejects("08.5", geometric, saying="averages logarithms")
    rejects("08.5", lambda p, y: (right(p, y)[0] * len(y), right(p, y)[1]), saying="not their sum")


def test_ten_crops_rejects_no_mirrors_five_only_upside_down_and_other_orders():
    def right(photo, size):
        return solutions.ten_crops(photo, size)

    def five_twice(photo, size):
        return torch.cat([right(photo, size)[:5]] * 2)

    def upside_down(photo, size):
        return torch.cat([right(photo, size)[:5], right(photo, size)[:5].flip(-2)])

    def crops_mirrored(photo, size):
        return torch.cat([right(photo, size)[:5], right(photo, size)[:5].flip(-1)])

    rejects("08.6", five_twice, saying="not mirrored")
    rejects("08.6", lambda p, s: right(p, s)[:5], saying="the same five of the mirrored photo")
    rejects("08.6", upside_down, saying="flip columns")
    rejects("08.6", crops_mirrored, saying="their order is not")
