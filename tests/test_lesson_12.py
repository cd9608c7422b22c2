"""Lesson 12: its networks, kernels and crops against torch and the package; its exercises against mistakes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import torchvision
from lesson_checks import planted
from scipy.signal import convolve2d
from torch import nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import resize

from cnncourse import exercises, lab, models
from cnncourse.exercises import lesson_12 as solutions

pytestmark = pytest.mark.usefixtures("in_float64")
LESSON = exercises.of_lesson("12")


@cache
def lesson():
    return lab.definitions("12")


# --- definitions ----------------------------------------------------------------------------------


def column(configuration):
    """A column of the package's table in the lesson's words."""
    lines = models.vgg.CONFIGURATIONS[configuration].splitlines()
    return " | ".join(" ".join(line.split()) for line in lines)


@pytest.mark.parametrize("letter", "ABCDE")
def test_the_builder_gives_the_package_networks(letter):
    with torch.device("meta"):
        built = lesson().vgg(column(letter))
        right = models.vgg.VGG(letter)
    shapes = [tuple(p.shape) for p in built.parameters()]
    assert shapes == [tuple(p.shape) for p in right.parameters()]


def test_the_builder_computes_what_torchvision_computes():
    right = torchvision.models.vgg11(init_weights=False).features.eval()
    with torch.device("meta"):
        built = lesson().vgg("conv3-64 | conv3-128 | conv3-256 ×2 | conv3-512 ×2 | conv3-512 ×2")
    built = built[: len(right)].to_empty(device="cpu").eval()
    for mine, theirs in zip(built.parameters(), right.parameters(), strict=True):
        mine.data.copy_(theirs.data)
    with torch.no_grad():
        picture = torch.randn(1, 3, 64, 64)
        torch.testing.assert_close(built(picture), right(picture))


def test_the_arms_differ_only_in_the_middle():
    one, stack = (lesson().network(kernels, 6) for kernels in ((7,), (3, 3, 3)))
    bare = lesson().network((3, 3, 3), 6, relu_between=False)
    kinds = lambda net: [type(part).__name__ for part in net]  # noqa: E731
    assert kinds(one)[:3] == kinds(stack)[:3] and kinds(one)[-3:] == kinds(stack)[-3:]
    assert kinds(stack).count("ReLU") == kinds(bare).count("ReLU") + 2
    weights = [sum(p.numel() for p in net.parameters()) for net in (stack, bare)]
    assert weights[0] == weights[1]
    assert one(torch.randn(2, 1, 16, 16)).shape == (2, 10)


def test_without_relu_a_stack_is_one_convolution():
    bare = lesson().network((3, 3, 3), 4, relu_between=False).eval()
    middle = nn.Sequential(*list(bare)[3:9])
    x = torch.randn(2, 4, 20, 20)
    add = middle(x) + middle(-x) - 2 * middle(torch.zeros_like(x))
    assert add.abs().max() < 1e-12  # affine
    full = nn.Sequential(*list(lesson().network((3, 3, 3), 4).eval())[3:9])
    assert (full(x) + full(-x) - 2 * full(torch.zeros_like(x))).abs().max() > 1e-3


@pytest.mark.parametrize("ends, between, rank", [(1, 1, 25), (2, 2, 100), (3, 3, 225), (1, 2, 49)])
def test_directions_of_a_stack_without_relu(ends, between, rank):
    def as_one(first, second, third):
        picture = torch.zeros(ends, ends, 7, 7)
        picture[range(ends), range(ends), 3, 3] = 1.0
        for kernel in (first, second, third):
            picture = F.conv2d(picture, kernel, padding=1)
        return picture

    channels = (ends, between, between, ends)
    torch.manual_seed(0)
    kernels = tuple(
        torch.randn(out, into, 3, 3) for into, out in zip(channels, channels[1:], strict=False)
    )
    slopes = torch.autograd.functional.jacobian(as_one, kernels)
    table = torch.cat([slope.reshape(49 * ends**2, -1) for slope in slopes], dim=1)
    assert int(torch.linalg.matrix_rank(table)) == rank  # 25 C² of 49 C² at equal channels


def test_clutter_keeps_the_ink_and_moves_it():
    images = torch.full((400, 1, 8, 8), 200, dtype=torch.uint8)
    out = lesson().cluttered(images, torch.Generator().manual_seed(0), noise=0.0)
    assert out.shape == (400, 1, 16, 16) and out.dtype == torch.uint8
    ink = (out > 100).sum((1, 2, 3)).double().sqrt()
    assert 7 <= ink.min() and ink.max() <= 15 and ink.std() > 1
    rows = (out > 100).any(3)[:, 0].int().argmax(1)
    assert set(rows.tolist()) >= set(range(5))
    noisy = lesson().cluttered(images, torch.Generator().manual_seed(0), noise=0.1)
    changed = (noisy != out).double().mean().item()
    assert 0.08 < changed < 0.11


def test_a_chain_begins_with_a_share_of_hes_weights():
    torch.manual_seed(0)
    net = lesson().chain(2, 0.5, 64)
    layers = lesson().weight_layers(net)
    assert len(layers) == 7
    for layer in layers[1:6]:
        wanted = 0.5 * (2 / (64 * 9)) ** 0.5
        assert abs(layer.weight.std().item() / wanted - 1) < 0.05
        assert layer.bias.abs().max() == 0


def test_lent_layers_stand_at_the_head_of_their_stage():
    shallow, deep = lesson().chain(2, 1.0, 5), lesson().chain(4, 0.5, 5)
    before = [layer.weight.clone() for layer in lesson().weight_layers(deep)]
    lesson().lend(shallow, deep)
    lent, own = lesson().weight_layers(shallow), lesson().weight_layers(deep)
    pairs = {0: 0, 1: 1, 4: 2, 5: 3, 8: 4, 9: 5, 12: 6}
    for place, layer in enumerate(own):
        wanted = lent[pairs[place]].weight if place in pairs else before[place]
        assert torch.equal(layer.weight, wanted)
    own[0].weight.data.zero_()
    assert lent[0].weight.abs().sum() > 0  # a copy


@pytest.mark.parametrize("side", [8, 11, 16, 19, 24])
def test_framed_resizes_and_keeps_the_middle(side):
    pictures = torch.rand(3, 1, 8, 8)
    out = lesson().framed(pictures, side)
    resized = F.interpolate(pictures, size=(side, side), mode="bilinear", antialias=True)
    assert out.shape == (3, 1, 16, 16)
    if side <= 16:
        start = (16 - side) // 2
        torch.testing.assert_close(out[:, :, start : start + side, start : start + side], resized)
        torch.testing.assert_close(out.sum(), resized.sum())
    else:
        start = -((16 - side) // 2)
        torch.testing.assert_close(out, resized[:, :, start : start + 16, start : start + 16])


def test_scaled_crop_is_torchvisions_resize_and_a_cut():
    picture = torch.rand(3, 60, 90)
    right = resize(picture, [40], antialias=True)
    for number in range(5):
        out = lesson().scaled_crop(picture, 40, torch.Generator().manual_seed(number), size=32)
        views = right.unfold(1, 32, 1).unfold(2, 32, 1)  # every place
        near = (views - out[:, None, None]).abs().amax((0, 3, 4))
        assert near.min() < 1e-6


# --- exercises ------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", sorted(LESSON))
def test_the_reference_solution_is_accepted(id):
    assert LESSON[id].check(*LESSON[id].answers())


def test_merged_is_what_torch_computes():
    first, second = torch.randn(3, 2, 3, 3), torch.randn(4, 3, 3, 3)
    x = torch.randn(1, 2, 11, 11)
    one = torch.from_numpy(solutions.merged(first.numpy(), second.numpy()))
    torch.testing.assert_close(F.conv2d(x, one), F.conv2d(F.conv2d(x, first), second))
    alone = solutions.merged(first.numpy()[:1, :1], second.numpy()[:1, :1])[0, 0]
    np.testing.assert_allclose(alone, convolve2d(first[0, 0].numpy(), second[0, 0].numpy()))


def test_merged_also_as_torch_would_write_it():
    def by_torch(first, second):
        first, second = torch.from_numpy(first.copy()), torch.from_numpy(second.copy())
        pad = second.shape[-1] - 1
        return F.conv2d(first.transpose(0, 1), second.flip(2, 3), padding=pad).transpose(0, 1)

    assert LESSON["12.1"].check(by_torch)


def test_count_is_that_of_the_modules():
    words = column("C").replace("|", "pool").split()
    words += ["pool", "fc-4096", "fc-4096", "fc-1000"]
    assert solutions.count(words, 3, 224) == 133_638_952


def test_layers_until_by_sending_noise_through():
    torch.manual_seed(1)
    x = torch.randn(4000, 400)
    x, first, gain = torch.relu(x), None, 0.5
    shares = []
    for _ in range(4):
        weight = gain * (2 / 400) ** 0.5 * torch.randn(400, 400)
        x = torch.relu(x @ weight)
        shares.append((x**2).mean().item())
        first = first or shares[0]
    np.testing.assert_allclose(
        [b / a for a, b in zip(shares, shares[1:], strict=False)], 0.25, rtol=0.15
    )


@planted(
    {
        "12.1": [
            ("turned by half a circle", lambda a, b: solutions.merged(a, b)[:, :, ::-1, ::-1]),
            ("first kernel is turned", lambda a, b: solutions.merged(a[:, :, ::-1, ::-1], b)),
            ("without a mean", lambda a, b: solutions.merged(a, b) / len(a)),
            ("channels out come first", lambda a, b: solutions.merged(a, b).swapaxes(0, 1)),
            ("share a pixel", lambda a, b: np.pad(solutions.merged(a, b), ((0, 0), (0, 0), (1, 1), (1, 1)))),
        ],
        "12.2": [
            ("biases are missing", lambda w, c, s: solutions._counted(w, c, s, biases=False)),
            ("halves the side", lambda w, c, s: solutions._counted(w, c, s, pools=False)),
            ("channels × side × side", lambda w, c, s: solutions._counted(w, c, s, flatten=False)),
            ("side × side weights", lambda w, c, s: solutions._counted(w, c, s, square=False)),
        ],
        "12.3": [
            ("three numbers", lambda p, o, m: max(0, (m - 4 * p) // (4 * o))),
            ("four bytes", lambda p, o, m: max(0, (m - 3 * p) // o)),
            ("need memory too", lambda p, o, m: m // (4 * o)),
            ("kept once", lambda p, o, m: m // (12 * p + 4 * o)),
            ("no picture is 0", lambda p, o, m: (m - 12 * p) // (4 * o)),
            ("whole number", lambda p, o, m: (m - 12 * p) / (4 * o)),
        ],
        "12.4": [
            ("g squared", lambda g, least: int(np.log(least) / np.log(g) + 1e-9)),
            ("one too many", lambda g, least: solutions.layers_until(g, least) + 1),
            ("whole number", lambda g, least: np.log(least) / np.log(g) / 2),
        ],
        "12.5": [
            ("one more each way", lambda h, w, s, c: (
                (round(h * s / min(h, w)) - c) * (round(w * s / min(h, w)) - c), 0)),
            ("shape is kept", lambda h, w, s, c: ((s - c + 1) ** 2, 0)),
            ("first resize", lambda h, w, s, c: ((h - c + 1) * (w - c + 1), 0)),
            ("resized picture", lambda h, w, s, c: (
                solutions.crop_places(h, w, s, c)[0], c * c / (h * w))),
            ("not of a side", lambda h, w, s, c: (solutions.crop_places(h, w, s, c)[0], c / s)),
            ("pair", lambda h, w, s, c: solutions.crop_places(h, w, s, c)[0]),
        ],
    }
)  # fmt: skip
def test_a_mistake_is_told(id, answer, words):
    with pytest.raises(exercises.Wrong, match=words):
        exercises.find(id).check(answer)
