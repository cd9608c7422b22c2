"""Lesson 20: overlap, regions, hierarchies, suppression and precision against references; its exercises."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import torchvision
from lesson_checks import planted
from scipy import ndimage
from torch import nn

from cnncourse import data, exercises, lab, metrics, models
from cnncourse.exercises import lesson_20 as solutions

LESSON = exercises.of_lesson("20")


@cache
def lesson():
    return lab.definitions("20")


def some_boxes(count, seed=0, side=50):
    stream = np.random.default_rng(seed)
    corner = stream.integers(0, side, (count, 2))
    return torch.tensor(
        np.concatenate([corner, corner + stream.integers(1, side, (count, 2))], 1)
    ).double()


# --- definitions ----------------------------------------------------------------------------------


def test_iou_is_that_of_torchvision():
    boxes = some_boxes(30)
    rows = [[lesson().iou(a, b) for b in boxes.tolist()] for a in boxes.tolist()]
    own = torch.tensor(rows, dtype=torch.float64)
    torch.testing.assert_close(own, torchvision.ops.box_iou(boxes, boxes), rtol=0, atol=1e-6)


def test_windows_lie_inside_and_are_as_many_as_the_exercise_counts():
    found = lesson().windows(90, 120, 7, (20, 40), (0.5, 1, 2))
    expected = 0
    for side in (20, 40):
        for ratio in (0.5, 1, 2):
            w, h = round(side / ratio**0.5), round(side * ratio**0.5)
            expected += solutions.window_count(90, 120, h, w, 7)
    assert len(found) == expected == len(np.unique(found, axis=0))
    assert found.min() >= 0 and found[:, 2].max() <= 120 and found[:, 3].max() <= 90


def test_the_expected_recall_is_that_of_many_random_orders():
    stream = np.random.default_rng(1)
    hits = [stream.random((40, 3)) < [0.02, 0.1, 0.0], stream.random((25, 2)) < 0.2]
    exact = lesson().expected_by_chance(hits, 10)
    drawn = [
        lesson().covered_by_first([hit[stream.permutation(len(hit))] for hit in hits], 10)
        for _ in range(4000)
    ]
    assert abs(np.mean(drawn) - exact) < 0.06
    assert lesson().expected_by_chance(hits, 10**6) == pytest.approx(
        lesson().covered_by_first(hits, None)
    )


@pytest.mark.parametrize("k", [20, 100, 400])
def test_regions_are_those_of_scikit_image(k):
    import skimage.segmentation

    small = lesson().shrunk(data.photos()["coffee"].permute(1, 2, 0).numpy() / 255, 60)
    soft = np.stack([ndimage.gaussian_filter(c, 0.8) for c in np.moveaxis(small, 2, 0)], 2)
    own = lesson().felzenszwalb(lesson().edges_of(soft), soft[..., 0].size, k / 255, 10)
    theirs = skimage.segmentation.felzenszwalb(small, scale=k, sigma=0.8, min_size=10)
    pairs = set(zip(own, theirs.ravel().tolist(), strict=True))
    assert len(pairs) == len(set(own)) == theirs.max() + 1  # the same regions, not only as many


@cache
def merged_stripes():
    """A picture of stripes, its label map, and the hierarchy of it."""
    stream = np.random.default_rng(2)
    labels = np.repeat(np.arange(6), 5)[None].repeat(12, 0)  # six upright stripes
    picture = stream.random((6, 3))[labels] * 0.8 + 0.1 * stream.random((12, 30, 3))
    regions = lesson().described(picture, labels)
    pairs = lesson().neighbours_of(labels)
    return picture, labels, regions, pairs, lesson().hierarchy(regions, pairs, labels.size, "CTSF")


def test_only_neighbours_are_merged():
    _, _, regions, pairs, (whole, merges) = merged_stripes()
    assert pairs == [(i, i + 1) for i in range(5)]
    assert len(merges) == len(regions) - 1 and len(whole) == 2 * len(regions) - 1
    members = {i: {i} for i in range(6)}
    for new, (i, j) in enumerate(merges, 6):
        assert any(abs(a - b) == 1 for a in members[i] for b in members[j])
        members[new] = members[i] | members[j]
    assert whole[-1].box == (0, 0, 30, 12) and whole[-1].size == 360


def test_the_first_merge_is_of_the_most_similar():
    _, labels, regions, pairs, (_, merges) = merged_stripes()
    each = {
        p: lesson().similarity(regions[p[0]], regions[p[1]], labels.size, "CTSF") for p in pairs
    }
    assert merges[0] == max(each, key=each.get)


def test_merged_histograms_are_those_of_the_pixels():
    picture, labels, regions, _, _ = merged_stripes()
    joined = lesson().merged(regions[1], regions[2])
    counted = lesson().described(picture, np.where((labels == 1) | (labels == 2), 1, 0))[1]
    assert joined.box == counted.box and joined.size == counted.size
    np.testing.assert_allclose(joined.colour, counted.colour, atol=1e-12)
    np.testing.assert_allclose(joined.texture, counted.texture, atol=1e-12)


def test_stages_of_a_hierarchy():
    _, labels, regions, _, (_, merges) = merged_stripes()
    for left in range(1, 7):
        assert len(np.unique(lesson().at_stage(labels, len(regions), merges, left))) == left
    assert lesson().depth_of(4, [(0, 1), (4, 2), (5, 3)]) == 3
    assert lesson().depth_of(4, [(0, 1), (2, 3), (4, 5)]) == 2


@pytest.mark.parametrize("limit", [0.2, 0.5, 0.8])
def test_suppression_is_that_of_torchvision(limit):
    boxes = some_boxes(60, 3).float()
    scores = torch.rand(60, generator=torch.Generator().manual_seed(1))
    assert (
        lesson().suppressed(boxes, scores, limit)
        == torchvision.ops.nms(boxes, scores, limit).tolist()
    )


def test_a_second_detection_of_a_thing_is_wrong():
    objects = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    boxes = torch.tensor([[0.0, 0, 10, 11], [20, 20, 30, 31], [0, 0, 10, 10], [50, 50, 60, 60]])
    right = lesson().matched(boxes, torch.tensor([0.9, 0.5, 0.8, 0.7]), objects)
    assert right.tolist() == [True, False, False, True]
    assert lesson().area(right, 2) == pytest.approx(
        metrics.average_precision([4, 3, 2, 1], right, 2)
    )


def test_a_linear_layer_as_a_convolution():
    linear = nn.Linear(3 * 4 * 4, 5)
    conv = lesson().as_convolution(linear, 3, 4)
    maps = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(conv(maps)[..., 0, 0], linear(maps.flatten(1)))
    assert conv(torch.rand(1, 3, 6, 9)).shape == (1, 5, 3, 6)


def test_parts_beyond_the_edge_are_black():
    image = torch.ones(1, 3, 10, 10)
    parts = lesson().cut(image, torch.tensor([[-4.0, 0, 4, 8], [2, 2, 8, 8], [20, 20, 30, 30]]), 4)
    assert parts[0, 0, 0].tolist() == [0, 0, 1, 1]
    assert parts[1].min() == 1 and parts[2].max() == 0
    squares = lesson().squared(torch.tensor([[0.0, 0, 4, 10]]))
    assert squares.tolist() == [[-3, 0, 7, 10]]


def test_the_pyramid_finds_the_face_and_its_windows_are_p_nets():
    image = models.mtcnn.to_input(data.photos()["astronaut"])
    boxes, scores, seen = lesson().propose(image, smallest=60)
    expected, scale = 0, 12 / 60
    while 512 * scale >= 12:
        expected += (-(-(round(512 * scale) - 10) // 2)) ** 2
        scale *= 0.709
    assert seen == expected
    head = torch.tensor([[181.0, 59, 267, 175]])
    assert metrics.box_iou(boxes[scores > 0.9], head).max() > 0.5


# --- exercises ------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", LESSON)
def test_the_solution_is_right(id):
    assert LESSON[id].check(*LESSON[id].answers())


def eleven(right, positives, points=11, unreached=True):
    hits = np.cumsum(right)
    precision, recall = hits / np.arange(1, len(right) + 1), hits / positives
    values = [precision[recall >= r - 1e-9] for r in np.arange(points) / 10]
    if unreached:
        return np.mean([v.max() if len(v) else 0.0 for v in values])
    return np.mean([v.max() for v in values if len(v)] or [0.0])


MISTAKES = {
    "20.1": [
        ("first place", lambda H, W, h, w, s: ((H - h) // s) * ((W - w) // s)),
        ("inside", lambda H, W, h, w, s: (H // s) * (W // s)),
        ("stride 1", lambda H, W, h, w, s: (H - h + 1) * (W - w + 1)),
        ("does not fit", lambda H, W, h, w, s: ((H - h) // s + 1) * ((W - w) // s + 1)),
    ],
    "20.2": [
        ("divided by the largest", lambda r, g, b: (
            solutions.to_hsv(r, g, b)[0], max(r, g, b) - min(r, g, b), max(r, g, b))),
        ("degrees", lambda r, g, b: (360 * solutions.to_hsv(r, g, b)[0], *solutions.to_hsv(r, g, b)[1:])),
        ("not the mean", lambda r, g, b: (*solutions.to_hsv(r, g, b)[:2], (r + g + b) / 3)),
        ("expected", lambda r, g, b: max(r, g, b)),
        ("grey has d = 0", lambda r, g, b: (
            (g - b) / (max(r, g, b) - min(r, g, b)) / 6 % 1, 1, 1) if r == g else solutions.to_hsv(r, g, b)),
    ],
    "20.3": [
        ("column, then the row", lambda layers, i, j: solutions.seen_by(layers, j, i)),
        ("one past", lambda layers, i, j: tuple(
            np.array(solutions.seen_by(layers, i, j)) - [0, 0, 1, 1])),
        ("kernel's steps", lambda layers, i, j: (lambda side, step: (
            j * step, i * step, j * step + side, i * step + side))(
                1 + sum(k - 1 for k, _ in layers), int(np.prod([s for _, s in layers] or [1])))),
        ("expected", lambda layers, i, j: 12),
    ],
    "20.4": [
        ("area", lambda right, positives: lesson().area(right, positives)),
        ("recall 1", lambda right, positives: eleven(right, positives, points=10)),
        ("never reached", lambda right, positives: eleven(right, positives, unreached=False)),
    ],
    "20.5": [
        ("given order", lambda p, t: ((p - t) ** 2).mean()),
        ("same true box", lambda p, t: ((p[:, None] - t[None]) ** 2).mean(2).min(1).mean()),
        ("not the sum", lambda p, t: solutions.error_of_set(p, t) * t.size),
    ],
}  # fmt: skip


@planted(MISTAKES)
def test_a_mistake_is_told(id, answer, words):
    from cnncourse.exercises import Wrong

    with pytest.raises(Wrong, match=words):
        LESSON[id].check(answer)
