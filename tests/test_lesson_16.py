"""Lesson 16: its probes, shares and borrowed network against references; its exercises against planted mistakes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from lesson_checks import planted
from torch.nn import functional as F

from cnncourse import exercises, inspection, lab, training
from cnncourse.exercises import lesson_16 as solutions

LESSON = exercises.of_lesson("16")


@cache
def lesson():
    return lab.definitions("16")


# --- definitions ----------------------------------------------------------------------------------


def test_a_grey_filter_is_all_brightness_and_a_colour_difference_none():
    grey = torch.randn(1, 1, 3, 3).expand(2, 3, 3, 3)
    torch.testing.assert_close(lesson().brightness_share(grey), torch.ones(2))
    opposite = torch.stack([torch.ones(3, 3), -torch.ones(3, 3), torch.zeros(3, 3)])[None]
    assert lesson().brightness_share(opposite).item() == 0
    drawn = torch.randn(4000, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    assert lesson().brightness_share(drawn).mean().item() == pytest.approx(1 / 3, abs=0.01)


def test_simple_words_are_means_contrast_and_changes():
    ramp = torch.arange(4.0).expand(1, 3, 4, 4)  # grows from left to right
    red, green, blue, contrast, across, down = lesson().simple_words(ramp)[0].tolist()
    assert red == green == blue == 1.5
    assert (across, down) == (1.0, 0.0)
    assert contrast == pytest.approx(ramp[0, 0].std().item())


def test_what_is_linear_is_explained_and_noise_is_not():
    stream = torch.Generator().manual_seed(1)
    old, new = (torch.randn(400, 6, generator=stream) for _ in range(2))
    line = torch.randn(6, 1, generator=stream)
    noise = torch.randn(2, 400, 1, generator=stream)
    units = torch.hstack([old @ line + 3, noise[0]])
    units_new = torch.hstack([new @ line + 3, noise[1]])
    linear, drawn = lesson().explained(old, units, new, units_new).tolist()
    assert linear == pytest.approx(1, abs=1e-4)
    assert drawn < 0.05


def test_a_moved_digit_keeps_all_its_ink_and_moves_at_most_two_pixels():
    images = torch.zeros(50, 1, 8, 8, dtype=torch.uint8)
    images[:, :, 3, 3] = 255
    field = lesson().moved(images, 5)
    assert field.shape == (50, 1, 12, 12)
    places = (field.flatten(1) > 0).nonzero()[:, 1]
    rows, columns = places // 12 - 5, places % 12 - 5
    assert rows.abs().max() == columns.abs().max() == 2
    still = lesson().moved(images, 5, far=0)
    assert (still[:, 0, 5, 5] > 0).all()


def test_some_of_each_class_are_drawn_without_repeats():
    labels = torch.tensor([0, 1, 2] * 10)
    chosen = lesson().some_of_each(labels, 4, torch.Generator().manual_seed(2))
    assert len(set(chosen.tolist())) == 12
    assert torch.bincount(labels[chosen]).tolist() == [4, 4, 4]


@pytest.mark.parametrize("side", [12, 16, 28])
def test_the_small_network_takes_its_side(side):
    net = lesson().small_network(3, side, 7)
    assert net(torch.zeros(2, 3, side, side)).shape == (2, 7)


# --- what the lesson says of the package -------------------------------------------------------------


def test_frozen_batch_norm_keeps_its_statistics_and_requires_grad_alone_does_not():
    for freeze, moves in (
        (training.frozen, False),
        (lambda part: part.requires_grad_(False), True),
    ):
        net = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2))
        freeze(net[0])
        net.train()(torch.randn(8, 3) + 5)
        assert bool((net[0].running_mean != 0).any()) is moves


@pytest.mark.parametrize("rule", ["gradient", "deconvnet", "guided"])
def test_the_exercise_s_rules_are_those_of_inspection(rule):
    torch.manual_seed(3)
    layers = torch.nn.Conv2d(1, 3, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(48, 2)
    net = torch.nn.Sequential(*layers).double()
    picture = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    before = net[0](picture).detach().numpy()
    slope = net[3].weight[1].reshape(1, 3, 4, 4).detach().numpy()
    passed = torch.as_tensor(solutions.back_through_relu(rule, before, slope))
    expected = F.conv_transpose2d(passed, net[0].weight)
    torch.testing.assert_close(inspection.gradients(net, picture, 1, rule=rule), expected)


def test_the_exercise_s_occlusion_is_that_of_inspection():
    torch.manual_seed(4)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(42, 2)).double()
    picture = torch.randn(1, 7, 6, dtype=torch.float64)

    def score(image):
        with torch.no_grad():
            return net(torch.as_tensor(image)[None, None])[0, 1].item()

    ours = solutions.falls(picture[0].numpy(), score, 3, 2)
    theirs = inspection.occlusion(net, picture, 1, patch=3, stride=2, fill=0.0, probability=False)
    np.testing.assert_allclose(ours, score(picture[0].numpy()) - theirs.numpy())


def test_precision_at_k_is_that_of_sklearn_s_neighbours():
    from sklearn.neighbors import NearestNeighbors

    g = np.random.default_rng(6)
    points, labels = g.normal(size=(40, 5)), g.integers(0, 3, 40)
    nearest = NearestNeighbors(n_neighbors=4).fit(points).kneighbors(return_distance=False)
    share = (labels[nearest] == labels[:, None]).mean()
    assert solutions.precision_at_k(points, labels, 4) == pytest.approx(share)


# --- exercises ------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", list(LESSON))
def test_the_reference_solution_is_accepted(id):
    assert LESSON[id].check(LESSON[id].solution)


def _without_weights(falls):
    return lambda picture, score, patch, stride: -falls(picture, score, patch, stride)


def _in_place(picture, score, patch, stride):
    found = solutions.falls(picture, score, patch, stride)
    picture[:] = 0
    return found


def _itself(points, labels, k):
    away = ((points[:, None] - points[None]) ** 2).sum(2)
    return (labels[np.argsort(away, axis=1)[:, :k]] == labels[:, None]).mean()


def _close(before, after):
    return [name for name in sorted({*before, *after})
            if name not in before or name not in after or before[name].shape != after[name].shape
            or not np.allclose(before[name], after[name])]  # fmt: skip


def _weights_alone(before, after):
    return [name for name in solutions.changed(before, after) if "weight" in name]


@planted(
    {
        "16.1": [
            ("count its square", lambda f: (f.mean((2, 3)) ** 2).sum(1) / (f**2).sum((1, 2, 3))),
            ("divide by the energy", lambda f: f[0, 0].size * (f.mean((2, 3)) ** 2).sum(1)),
            ("one mean for each channel", lambda f: f[0].size * f.mean((1, 2, 3)) ** 2 / (f**2).sum((1, 2, 3))),
            ("not the colours", lambda f: 3 * (f.mean(1) ** 2).sum((1, 2)) / (f**2).sum((1, 2, 3))),
            ("what is not flat", lambda f: 1 - solutions.flat_share(f)),
        ],
        "16.2": [
            ("rule of guided", lambda rule, x, slope: solutions.back_through_relu("guided", x, slope)),
            ("the way forward", lambda rule, x, slope: np.maximum(x, 0)),
            ("held back", lambda rule, x, slope: slope),
            ("keeps its sign", lambda rule, x, slope: np.abs(solutions.back_through_relu(rule, x, slope))),
        ],
        "16.3": [
            ("before minus after", _without_weights(solutions.falls)),
            ("in a copy", _in_place),
            ("not what is around", solutions._kept),
        ],
        "16.4": [
            ("its own nearest", _itself),
            ("not a count", lambda p, y, k: k * solutions.precision_at_k(p, y, k)),
            ("mean over all", lambda p, y, k: len(y) * solutions.precision_at_k(p, y, k)),
        ],
        "16.5": [
            ("bit for bit", _close),
            ("bit for bit", _weights_alone),
            ("sort the names", lambda a, b: solutions.changed(a, b)[::-1]),
            ("did not change", lambda a, b: sorted({*a, *b} - set(solutions.changed(a, b)))),
            ("list of names", lambda a, b: bool(solutions.changed(a, b))),
        ],
    }
)  # fmt: skip
def test_a_planted_mistake_is_refused_with_words_that_help(id, answer, words):
    from lesson_checks import rejects

    rejects(id, answer, saying=words)
