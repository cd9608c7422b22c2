"""Lesson 21: boxes, pooling, anchors, grids and losses against torchvision and by hand; its exercises."""

from __future__ import annotations

import math
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lesson_checks import planted
from torch.nn import functional as F
from torchvision import ops
from torchvision.models import detection

from cnncourse import exercises, lab
from cnncourse.exercises import lesson_21 as solutions

LESSON = exercises.of_lesson("21")


@cache
def lesson():
    return lab.definitions("21")


def boxes(count, seed, size=48.0):
    stream = torch.Generator().manual_seed(seed)
    corner = size * 0.6 * torch.rand(count, 2, generator=stream)
    return torch.cat([corner, corner + 3 + size * 0.3 * torch.rand(count, 2, generator=stream)], 1)


# --- boxes and regions ----------------------------------------------------------------------------


def test_moves_are_those_of_torchvision_and_decode_is_the_inverse():
    true, regions = boxes(20, 1), boxes(20, 2)
    coder = detection._utils.BoxCoder((1.0, 1.0, 1.0, 1.0))
    moves = lesson().encode(true, regions)
    torch.testing.assert_close(moves, coder.encode_single(true, regions))
    torch.testing.assert_close(lesson().decode(moves, regions), true, rtol=0, atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_roi_pool_and_align_are_those_of_torchvision(seed):
    maps = torch.randn(3, 11, 13, generator=torch.Generator().manual_seed(seed))
    for box in [*boxes(10, seed), torch.tensor([40.0, 30, 60, 50]), torch.tensor([0.0, 0, 1, 1])]:
        five = F.pad(box[None], (1, 0))
        wanted = ops.roi_pool(maps[None], five, 4, 0.25)[0]
        torch.testing.assert_close(lesson().roi_pool(maps, box, 4, 0.25), wanted)
    for box in boxes(10, seed):
        five = F.pad(box[None], (1, 0))
        wanted = ops.roi_align(maps[None], five, 4, 0.25, 2, aligned=True)[0]
        got = lesson().roi_align(maps, box, 4, 0.25)
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)


def test_iou_in_pictures_is_that_of_torchvision():
    regions = torch.stack([boxes(7, seed) for seed in (1, 2)])
    true = torch.stack([boxes(3, seed) for seed in (3, 4)])
    got = lesson().iou_in_pictures(regions, true)
    for row in range(2):
        torch.testing.assert_close(got[row], ops.box_iou(regions[row], true[row]))
    one = lesson().iou_in_pictures(regions[0], true)
    torch.testing.assert_close(one[1], ops.box_iou(regions[0], true[1]))
    pairs = lesson().pair_iou(regions[0], regions[1])
    torch.testing.assert_close(pairs, ops.box_iou(regions[0], regions[1]).diagonal())


def test_moves_of_ground_teach_nothing():
    scores, moves = torch.zeros(3, 6, requires_grad=True), torch.ones(3, 4, requires_grad=True)
    goals = torch.zeros(3, 4)
    lesson().region_loss(scores, moves, torch.tensor([0, 2, 0]), goals).backward()
    assert moves.grad.abs().sum(1).tolist() == [0, 4, 0]
    alone = lesson().region_loss(scores, moves, torch.zeros(3, dtype=torch.long), goals)
    assert alone.item() == pytest.approx(math.log(6))


def test_a_second_box_on_one_object_is_no_hit():
    true = torch.tensor([[0.0, 0, 10, 10], [20.0, 20, 30, 30]])
    found = torch.tensor(
        [[0.0, 0, 10, 9], [0.0, 0, 10, 10], [21.0, 20, 30, 30], [40.0, 40, 44, 44]]
    )
    hits = lesson().matched(found, true)
    assert [hit > 0 for hit in hits] == [True, False, True, False]
    assert hits[0] == pytest.approx(0.9)
    assert lesson().matched(found, true[:0]) == [0.0] * 4


# --- anchors --------------------------------------------------------------------------------------


def test_anchors_stand_on_the_centres_of_their_places():
    sides = torch.tensor([[4.0, 8], [10, 6]])
    got = lesson().anchors_at(3, 4, sides).view(3, 3, 2, 4)
    assert got[0, 0, 0].tolist() == [0, -2, 4, 6]
    assert got[1, 2, 1].tolist() == [5, 3, 15, 9]
    assert len(lesson().anchors_at(12, 4, torch.ones(9, 2))) == 12 * 12 * 9


@pytest.mark.parametrize("seed", range(4))
def test_anchors_get_the_labels_of_a_search_one_by_one(seed):
    stream = torch.Generator().manual_seed(seed)
    iou = torch.rand(2, 40, 3, generator=stream) ** 3
    iou[1, :, 2] = 0  # no third box in the second picture
    label, which = lesson().assign(iou, 0.7, 0.3)
    for n in range(2):
        champions = {int(iou[n, :, k].argmax()): k for k in range(3) if iou[n, :, k].max() > 0}
        for a in range(40):
            best = float(iou[n, a].max())
            wanted = 1 if best >= 0.7 or a in champions else 0 if best < 0.3 else -1
            assert label[n, a] == wanted
            if best >= 0.7 and a not in champions:
                assert which[n, a] == iou[n, a].argmax()
        assert all(label[n, a] == 1 and which[n, a] in champions.values() for a in champions)


def test_the_rpn_asks_positive_and_some_negative_anchors_only():
    scores = torch.zeros(4, 50, requires_grad=True)
    moves = torch.ones(4, 50, 4, requires_grad=True)
    labels = torch.full((4, 50), -1)
    labels[:, :2], labels[:, 10:] = 1, 0
    lesson().rpn_loss(scores, moves, labels, torch.zeros(4, 50, 4),
                      torch.Generator().manual_seed(0)).backward()  # fmt: skip
    assert (scores.grad[:, :2] < 0).all() and (scores.grad[:, 2:10] == 0).all()
    asked = (scores.grad[:, 10:] > 0).float().mean()
    assert 0.03 < asked < 0.2
    assert (moves.grad.abs().sum(2) > 0).equal(labels == 1)


def test_a_close_pair_counts_when_both_objects_are_found_with_their_class():
    near, far = [[0.0, 0, 10, 10], [5.0, 5, 15, 15]], [[0.0, 0, 10, 10], [20.0, 0, 30, 10]]
    pictures = SimpleNamespace(
        boxes=torch.tensor([near, far, near, near]),
        labels=torch.tensor([[0, 1], [0, 1], [1, 1], [0, -1]]),
    )
    assert lesson().close_pairs(pictures, 8).tolist() == [0]
    true, own = pictures.boxes[0], pictures.labels[0]
    scores = torch.tensor([0.9, 0.8])
    assert lesson().both_found((true, scores, own), true, own)
    assert lesson().both_found((true.flip(0), scores, own.flip(0)), true, own)
    assert not lesson().both_found((true, scores, own.flip(0)), true, own)
    assert not lesson().both_found((true[:1], scores[:1], own[:1]), true, own)
    assert not lesson().both_found((true + 6, scores, own), true, own)


# --- one look -------------------------------------------------------------------------------------


def test_the_grid_reads_back_what_was_written():
    true = boxes(12, 4).view(4, 3, 4)
    labels = torch.tensor([[0, 1, 2], [3, 4, -1], [1, -1, -1], [2, 2, 0]])
    goals, classes = lesson().to_grid(true, labels, 48, 6)
    back = lesson().from_grid(goals[..., None, :], 48)[..., 0, :]
    for n in range(4):
        read = {tuple(box) for box in back[n][classes[n] >= 0].round(decimals=3).tolist()}
        written = {tuple(box) for box in true[n][labels[n] >= 0].round(decimals=3).tolist()}
        assert read <= written and len(read) == int((classes[n] >= 0).sum())
        for box in read:
            assert any(np.allclose(box, other, atol=2e-3) for other in written)


def one_object():
    """Said by a grid with one object in cell (1, 2), and its goals."""
    n = 6
    said = torch.zeros(1, n, n, 2, 5)
    probabilities = torch.zeros(1, n, n, 5)
    goals, classes = torch.zeros(1, n, n, 4), torch.full((1, n, n), -1)
    goals[0, 1, 2] = torch.tensor([0.5, 0.25, 0.4, 0.5])
    classes[0, 1, 2] = 3
    return said, probabilities, goals, classes


def test_perfect_grids_cost_nothing():
    said, probabilities, goals, classes = one_object()
    said[0, 1, 2, 1] = torch.tensor([0.5, 0.25, 0.4, 0.5, 1.0])
    probabilities[0, 1, 2, 3] = 1
    loss = lesson().yolo_loss(said, probabilities, goals, classes)
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_yolos_loss_of_one_object_by_hand():
    said, probabilities, goals, classes = one_object()
    said[0, 1, 2, 0] = torch.tensor([0.5, 0.25, 0.4, 0.3, 0.7])  # lower, and 0.36 of the area
    said[0, 1, 2, 1] = torch.tensor([0.9, 0.9, 0.1, 0.1, 0.6])  # no overlap
    said[0, 4, 4, 0, 4] = 0.2
    probabilities[0, 1, 2, 3] = 0.5
    probabilities[0, 1, 2, 0] = 0.1
    iou = 0.3**2 / 0.5**2
    wanted = 5 * 0.2**2 + (0.7 - iou) ** 2 + 0.5 * (0.6**2 + 0.2**2) + 0.5**2 + 0.1**2
    loss = lesson().yolo_loss(said, probabilities, goals, classes)
    assert loss.item() == pytest.approx(wanted, rel=1e-5)


def test_ssd_keeps_three_hard_negatives_for_each_positive():
    scores = torch.zeros(1, 20, 3)
    scores[0, 3:, 1] = torch.arange(17) / 10  # ground that looks more and more like class 0
    scores.requires_grad_()
    labels = torch.tensor([[1, -1, -1, *[0] * 17]])
    moves = torch.zeros(1, 20, 4)
    loss = lesson().ssd_loss(scores, moves, labels, moves)
    loss.backward()
    assert (scores.grad[0].abs().sum(1) > 0).nonzero()[:, 0].tolist() == [0, 17, 18, 19]
    each = F.cross_entropy(scores[0], labels[0].clamp(min=0), reduction="none")
    assert loss.item() == pytest.approx((each[0] + each[17:].sum()).item(), rel=1e-5)


# --- exercises ------------------------------------------------------------------------------------


@pytest.mark.parametrize("exercise", LESSON.values(), ids=lambda exercise: exercise.id)
def test_the_reference_solution_is_accepted(exercise):
    assert exercise.check(*exercise.answers())


def rule(first, second):
    return lambda iou, labels, kind: (first(iou, labels), second(iou, labels, kind))


def trunk(iou, labels):
    return solutions.two_rules(iou, labels, 0)[0]


def machine(iou, labels, kind):
    return solutions.two_rules(iou, labels, kind)[1]


def grid(change):
    return lambda boxes, size, S: [change(*one) for one in solutions.on_grid(boxes, size, S)]


MISTAKES = {
    "21.1": [
        ("0.5 itself", rule(lambda iou, y: np.where(iou.max(1) > 0.5, y[iou.argmax(1)] + 1, 0),
                            machine)),
        ("add 1", rule(lambda iou, y: np.where(iou.max(1) >= 0.5, y[iou.argmax(1)], 0), machine)),
        ("boxes of this class", rule(trunk, lambda iou, y, kind: np.where(iou.max(1) < 0.3, 0,
                                                                          -1))),
        ("0.3 itself", rule(trunk, lambda iou, y, kind: np.where(
            iou[:, y == kind].max(1, initial=0.0) <= 0.3, 0, -1))),
        ("examples are the true boxes", rule(trunk, lambda iou, y, kind: np.where(
            iou[:, y == kind].max(1, initial=0.0) >= 0.5, 1, machine(iou, y, kind)))),
        ("trunk", lambda iou, y, kind: trunk(iou, y)),
    ],
    "21.2": [
        ("add", lambda v, r, s: solutions._pooled(v, r, s, add=False)),
        ("one place", lambda v, r, s: solutions._pooled(v, r, s, spread=True)),
        ("belong to the region", lambda v, r, s: solutions._pooled(v, r, s, end=0)),
        ("slope", lambda v, r, s: solutions._pooled(v, r, [1.0] * len(s))),
        ("first counts", lambda v, r, s: solutions._pooled(v, r, s, last=True)),
    ],
    "21.3": [
        ("every pair", lambda h, w, s, k: (h // s * (w // s), 0)),
        ("centres", lambda h, w, s, k: solutions._counted(h, w, s, k, corner=True)),
        ("touches", lambda h, w, s, k: solutions._counted(h, w, s, k, strict=True)),
        ("width", lambda h, w, s, k: solutions._counted(h, w, s, [a[::-1] for a in k])),
    ],
    "21.4": [
        ("row first", grid(lambda r, c, x, y, w, h: (c, r, x, y, w, h))),
        ("x before y", grid(lambda r, c, x, y, w, h: (r, c, y, x, w, h))),
        ("roots", grid(lambda r, c, x, y, w, h: (r, c, x, y, w**2, h**2))),
        ("last cell", grid(lambda r, c, x, y, w, h: (r + 1, c + 1, 0.0, 0.0, w, h)
                           if x == 1 else (r, c, x, y, w, h))),
        ("one a box", lambda boxes, size, S: solutions.on_grid(boxes, size, S)[:1]),
    ],
    "21.5": [
        ("own class", lambda z, y, g: solutions._cross_entropy(z, g[:, None]).mean()),
        ("label 1 is class 0", lambda z, y, g: solutions._cross_entropy(
            z[y > 0, y[y > 0] % 3], g[y > 0]).mean() if (y > 0).any() else 0.0),
        ("sum", lambda z, y, g: solutions.mask_loss_of(z, y, g) * (y > 0).sum() * 16),
        ("return 0", lambda z, y, g: solutions.mask_loss_of(z, y, g) if (y > 0).any()
         else float("nan")),
    ],
}  # fmt: skip


@planted(MISTAKES)
def test_a_planted_mistake_is_named(id, answer, words):
    with pytest.raises(exercises.Wrong, match=words):
        LESSON[id].check(answer)


def test_the_pooled_gradient_is_autograds():
    values = torch.randn(6, 7, dtype=torch.float64, requires_grad=True)
    regions, slopes = [(0, 0, 3, 3), (1, 2, 5, 6), (2, 1, 4, 4)], [0.5, -2.0, 1.5]
    pooled = [values[r1 : r2 + 1, c1 : c2 + 1].amax() for r1, c1, r2, c2 in regions]
    sum(slope * value for slope, value in zip(slopes, pooled, strict=True)).backward()
    got = solutions.pooled_gradient(values.detach().numpy(), regions, slopes)
    np.testing.assert_allclose(got, values.grad.numpy())


def test_the_masks_loss_is_torchs():
    stream = torch.Generator().manual_seed(2)
    logits, goals = torch.randn(4, 3, 5, 5, generator=stream), torch.rand(4, 5, 5, generator=stream)
    labels, goals = torch.tensor([1, 0, 3, 2]), (goals > 0.5).float()
    there = labels > 0
    wanted = F.binary_cross_entropy_with_logits(logits[there, labels[there] - 1], goals[there])
    got = solutions.mask_loss_of(logits.double().numpy(), labels.numpy(), goals.double().numpy())
    assert got == pytest.approx(wanted.item(), rel=1e-5)


def test_the_grid_of_the_exercise_is_that_of_the_lesson():
    true = boxes(5, 8)
    goals, classes = lesson().to_grid(true[:, None], torch.zeros(5, 1, dtype=torch.long), 48, 6)
    said = solutions.on_grid([tuple(box) for box in true.tolist()], 48, 6)
    for n, (row, column, *numbers) in enumerate(said):
        assert classes[n, row, column] == 0
        np.testing.assert_allclose(goals[n, row, column].numpy(), numbers, atol=1e-5)
