"""Lesson 19: its networks and ways up against torch; its exercises against mistakes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from lesson_checks import planted
from torch import nn
from torch.nn import functional as F

from cnncourse import exercises, lab, metrics
from cnncourse.exercises import lesson_19 as solutions

pytestmark = pytest.mark.usefixtures("in_float64")
LESSON = exercises.of_lesson("19")


@cache
def lesson():
    return lab.definitions("19")


# --- definitions ----------------------------------------------------------------------------------


def settled(net):
    """In evaluation mode, with running statistics of BatchNorm that are not 0 and 1."""
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -1, 1)
            nn.init.uniform_(part.running_var, 0.5, 2)
    return net.eval()


@pytest.mark.parametrize("gaps", [(1, 1, 1), (1, 2, 4), (3,)])
def test_a_network_for_windows_gives_each_pixel_the_scores_of_its_window(gaps):
    net = settled(lesson().Window(gaps, classes=3, channels=2, width=4))
    picture = torch.randn(1, 2, 6, 7)
    edge = 2 * sum(gaps) + 1
    around = F.pad(picture, (sum(gaps),) * 4)
    with torch.no_grad():
        whole = net(picture)
        assert whole.shape == (1, 3, 6, 7)
        for row in range(6):
            for column in range(7):
                window = around[:, :, row : row + edge, column : column + edge]
                scores = net.layers(window)
                assert scores.shape == (1, 3, 1, 1)
                torch.testing.assert_close(scores[..., 0, 0], whole[:, :, row, column])


def test_a_window_reaches_as_far_as_its_gaps_and_no_further():
    net = settled(lesson().Window((1, 1, 2, 4, 4), classes=2, channels=1))
    picture = torch.randn(1, 1, 40, 40, requires_grad=True)
    net(picture)[0, 0, 20, 20].backward()
    seen = picture.grad[0, 0].ne(0).nonzero()
    assert seen.amin(0).tolist() == [8, 8]
    assert seen.amax(0).tolist() == [32, 32]


def test_down_enlarges_scores_and_hands_out_its_maps():
    net = settled(lesson().Down(classes=4, channels=3))
    x = torch.randn(2, 3, 16, 24)
    with torch.no_grad():
        coarse, middle, middle_places, fine, fine_places = net.maps(x)
        assert [tuple(part.shape[1:]) for part in (coarse, middle, fine)] == [
            (32, 4, 6),
            (32, 8, 12),
            (16, 16, 24),
        ]
        for part, places in ((middle, middle_places), (fine, fine_places)):
            pooled = F.max_pool2d(part, 2)
            assert torch.equal(part.flatten(2).gather(2, places.flatten(2)), pooled.flatten(2))
        scores = nn.Upsample(scale_factor=4, mode="bilinear")(net.name(coarse))
        torch.testing.assert_close(net(x), scores)


@pytest.mark.parametrize("skips", [False, True])
def test_up_reads_finer_maps_only_with_skips(skips):
    down = settled(lesson().Down(classes=3))
    up = settled(lesson().Up((lesson().bilinear, lesson().bilinear), 3, skips))
    with torch.no_grad():
        parts = list(down.maps(torch.randn(1, 3, 8, 8)))
        scores = up(*parts)
        assert scores.shape == (1, 3, 8, 8)
        parts[1], parts[3] = parts[1] + 1, parts[3] + 1
        assert torch.equal(up(*parts), scores) != skips


def test_the_ways_up_are_those_of_torch():
    x = torch.randn(2, 3, 4, 5)
    _, places = F.max_pool2d(torch.randn(2, 3, 8, 10), 2, return_indices=True)
    ours = lesson()
    assert torch.equal(ours.nearest(x), F.interpolate(x, scale_factor=2, mode="nearest"))
    assert torch.equal(ours.unpool(x, places), F.max_unpool2d(x, places, 2))
    nail = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).expand(3, 1, 2, 2)
    assert torch.equal(ours.nails(x), F.conv_transpose2d(x, nail, stride=2, groups=3))


@pytest.mark.parametrize(("k", "stride"), [(3, 2), (4, 2), (2, 3), (1, 1)])
def test_stamps_are_a_transposed_convolution(k, stride):
    x, kernel = torch.randn(2, 3, 4, 5), torch.randn(k, k)
    wanted = F.conv_transpose2d(x, kernel.expand(3, 1, k, k), stride=stride, groups=3)
    torch.testing.assert_close(lesson().transposed(x, kernel, stride), wanted)


def test_learnt_stamps_double_the_sides():
    assert lesson().Stamps(5)(torch.randn(1, 5, 3, 4)).shape == (1, 5, 6, 8)


def test_gradients_pass_every_way_up():
    ours, down = lesson(), lesson().Down(classes=3)
    for name in ("nearest", "nails", "bilinear", "unpool", "Stamps"):
        ways = getattr(ours, name)
        ways = (ways(32), ways(16)) if name == "Stamps" else (ways, ways)
        up = ours.Up(ways, 3)
        up(
            *(part.detach() for part in down.maps(torch.randn(2, 3, 8, 8)))
        ).square().sum().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in up.first.parameters())


# --- exercises ------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", sorted(LESSON))
def test_the_reference_solution_is_accepted(id):
    assert LESSON[id].check(*LESSON[id].answers())


def test_mean_iou_is_that_of_the_package():
    predicted, truth = torch.randint(4, (5, 6, 7)), torch.randint(4, (5, 6, 7))
    truth[0, :2] = 255
    table = metrics.confusion(predicted, truth, 4, ignore_index=255)
    wanted = metrics.intersection_over_union(table).nanmean().item()
    assert solutions.mean_iou(predicted.numpy(), truth.numpy(), 4) == pytest.approx(wanted)


def test_unpooling_is_torchs():
    x = torch.randn(1, 1, 6, 8)
    wanted = F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)[0, 0]
    assert np.array_equal(solutions.kept_maxima(x[0, 0].numpy()), wanted.numpy())


def test_a_transposed_convolution_is_torchs():
    x, kernel = torch.randn(5), torch.randn(4)
    wanted = F.conv_transpose1d(x[None, None], kernel[None, None], stride=2, padding=1)[0, 0]
    got = solutions.transposed_1d(x.numpy(), kernel.numpy(), 2, 1)
    np.testing.assert_allclose(got, wanted.numpy())


def test_right_answers_in_single_precision_are_right():
    LESSON["19.2"].check(
        lambda p, w, b, k: F.conv2d(p[None], w.view(len(w), -1, k, k), b)[0].float()
    )
    LESSON["19.5"].check(lambda c, f: solutions.joined(c, f).astype(np.float32))


def zero_for_absent(predicted, truth, classes):
    known = truth != 255
    p, t = predicted[known], truth[known]
    return np.mean(
        [((p == c) & (t == c)).sum() / max(1, ((p == c) | (t == c)).sum()) for c in range(classes)]
    )


def counts_unnamed(predicted, truth, classes):
    scores = []
    for c in range(classes):
        either = ((predicted == c) | (truth == c)).sum()
        if either:
            scores.append(((predicted == c) & (truth == c)).sum() / either)
    return np.mean(scores)


def recall(predicted, truth, classes):
    known = truth != 255
    p, t = predicted[known], truth[known]
    return np.mean([(p[t == c] == c).mean() for c in range(classes) if (t == c).any()])


def transposed_kernel(p, w, b, k):
    return F.conv2d(p[None], w.view(len(w), -1, k, k).transpose(2, 3), b)[0]


def all_maxima(x):
    each = np.repeat(np.repeat(solutions.kept_maxima(x)[:, :], 1, 0), 1, 1)
    h, w = x.shape
    best = x.reshape(h // 2, 2, w // 2, 2).max((1, 3))
    return np.where(x == np.repeat(np.repeat(best, 2, 0), 2, 1), x, 0 * each)


def nailed(x):
    h, w = x.shape
    out = np.zeros_like(x)
    out[::2, ::2] = x.reshape(h // 2, 2, w // 2, 2).max((1, 3))
    return out


def overwritten(x, kernel, stride, padding):
    whole = np.zeros(stride * (len(x) - 1) + len(kernel))
    for i, value in enumerate(x):
        whole[stride * i : stride * i + len(kernel)] = value * kernel
    return whole[padding : len(whole) - padding]


def fine_first(coarse, fine):
    out = solutions.joined(coarse, fine)
    return np.concatenate([out[len(coarse) :], out[: len(coarse)]])


def from_below(coarse, fine):
    h, w = 2 * coarse.shape[1], 2 * coarse.shape[2]
    return np.concatenate([solutions.joined(coarse, fine)[: len(coarse)], fine[:, -h:, -w:]])


def merges(change):
    """The reference with another number of pairs."""

    def answer(masks, labels):
        names, pairs = solutions.names_and_merges(masks, labels)
        return names, change(masks, names, pairs)

    return answer


def sideways(masks, names, pairs):
    return int(
        (
            (names[:, 1:] == names[:, :-1]) & (names[:, 1:] > 0) & (masks[:, 1:] != masks[:, :-1])
        ).sum()
    )


def within_objects(masks, names, pairs):
    return sum(
        int(((names[a] == names[b]) & (names[a] > 0)).sum())
        for a, b in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1]))
    )


@planted(
    {
        "19.1": [
            ("left out, not counted", zero_for_absent),
            ("255 count nowhere", counts_unnamed),
            ("OR are called", recall),
            ("pixel accuracy", lambda p, t, n: (p == t)[t != 255].mean()),
        ],
        "19.2": [
            ("bias is missing", lambda p, w, b, k: F.conv2d(p[None], w.view(len(w), -1, k, k))[0]),
            ("row by row", transposed_kernel),
            ("take .0. of the batch", lambda *a: solutions.all_windows(*a)[None]),
            ("no padding", lambda p, w, b, k: torch.zeros(len(w), *p.shape[1:])),
        ],
        "19.3": [
            ("bed of nails", nailed),
            ("only the first", all_maxima),
            ("not a 1", lambda x: (solutions.kept_maxima(x) != 0).astype(float)),
            ("keeps its size", lambda x: x[::2, ::2]),
        ],
        "19.4": [
            ("they add up", overwritten),
            ("not turned round", lambda x, k, s, p: solutions.transposed_1d(x, k[::-1], s, p)),
            ("at both ends", lambda x, k, s, p: solutions.transposed_1d(x, k, s, 0)),
        ],
        "19.5": [
            ("comes first", fine_first),
            ("lower and right edge", from_below),
            ("whole maps side by side", lambda c, f: np.concatenate(
                [np.tile(c, (1, 2, 2)), solutions.joined(c, f)[len(c):]])),
            ("do not add", lambda c, f: f[:, : 2 * c.shape[1], : 2 * c.shape[2]]),
        ],
        "19.6": [
            ("c is c . 1", lambda m, labels: (np.array([0, *labels])[m], 0)),
            ("map of objects", lambda m, labels: (m, 0)),
            ("one above the other", merges(sideways)),
            ("no merge", merges(within_objects)),
            ("each pair once", merges(lambda m, n, pairs: 2 * pairs)),
            ("pair", lambda m, labels: 3),
        ],
    }
)  # fmt: skip
def test_a_mistake_is_told(id, answer, words):
    with pytest.raises(exercises.Wrong, match=words):
        exercises.find(id).check(answer)
