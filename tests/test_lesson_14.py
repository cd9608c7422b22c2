"""Lesson 14: its blocks and networks against torchvision and the package, its exercises against planted mistakes."""

from __future__ import annotations

import copy
import math
from functools import cache

import pytest
import torch
import torch.nn.functional as F
import torchvision
import yaml
from lesson_checks import planted, rejects
from scipy.stats import binomtest, norm
from torch import nn

from cnncourse import cost, data, exercises, lab, models, paths
from cnncourse.exercises import lesson_14 as solutions
from cnncourse.lab.lesson import Lesson

LESSON = exercises.of_lesson("14")


@cache
def lesson():
    return lab.definitions("14")


def blocks_of(network):
    """From the input on."""
    return [*network.layer1, *network.layer2, *network.layer3]


def losses_of(network, batches, rate, momentum=0.0):
    """Train the network by gradient descent; its loss on each batch."""
    sgd = torch.optim.SGD(network.parameters(), rate, momentum)
    losses = []
    for images, labels in batches:
        loss = F.cross_entropy(network.train()(images), labels)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
    return losses


# --- blocks and networks ----------------------------------------------------------------------------------------------


def test_the_block_equals_torchvisions_basic_block_with_the_same_weights():
    ours, reference = lesson().ResidualBlock(6, 6), torchvision.models.resnet.BasicBlock(6, 6)
    reference.load_state_dict(ours.state_dict())
    x = torch.rand(2, 6, 5, 5)
    for mode in (True, False):
        assert torch.equal(ours.train(mode)(x), reference.train(mode)(x))


def test_the_block_without_shortcut_is_the_branch_and_a_relu():
    block, x = lesson().PlainBlock(4, 4).eval(), torch.rand(1, 4, 5, 5)
    assert torch.equal(block(x), F.relu(block.branch(x)))


def test_the_shortcut_of_a_new_stage_takes_every_second_pixel_and_adds_channels_of_zeros():
    x = torch.rand(1, 3, 5, 5)
    shortcut = lesson().ResidualBlock(3, 7, stride=2).shortcut(x)
    assert torch.equal(shortcut[:, :3], x[:, :, ::2, ::2])
    assert shortcut.shape == (1, 7, 3, 3) and not shortcut[:, 3:].any()


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("depth", [8, 20, 56])
def test_the_network_equals_the_packages_with_the_same_weights(
    depth, residual, batch_norm, in_float64
):
    options = {"batch_norm": batch_norm, "in_channels": 1, "width": 4}
    block = lesson().ResidualBlock if residual else lesson().PlainBlock
    ours = lesson().CifarNet(depth, block, **options)
    packaged = models.resnet_cifar(depth, residual=residual, **options)
    packaged.load_state_dict(ours.state_dict())
    images = torch.rand(3, 1, 8, 8)
    for mode in (True, False):
        right = packaged.train(mode)(images)
        assert torch.allclose(ours.train(mode)(images), right, rtol=1e-9, atol=1e-9)


def test_the_same_seed_gives_the_same_network_as_the_package():
    torch.manual_seed(3)
    ours = lesson().CifarNet(8, lesson().ResidualBlock)
    torch.manual_seed(3)
    packaged = models.resnet_cifar(8)
    pairs = zip(ours.parameters(), packaged.parameters(), strict=True)
    assert all(torch.allclose(one, other) for one, other in pairs)


@pytest.mark.parametrize("depth", [2, 7, 21, 54])
def test_a_depth_that_is_not_6n_plus_2_is_refused_with_its_value(depth):
    with pytest.raises(ValueError, match=rf"6n \+ 2.*got {depth}"):
        lesson().CifarNet(depth, lesson().PlainBlock)


@pytest.mark.parametrize("gain", [2.0, 1 / 3])
def test_the_initialisation_has_the_variance_it_names_and_no_bias(gain):
    layer = nn.Conv2d(32, 64, 3)
    lesson().initialise(layer, gain)
    assert float(layer.weight.detach().std()) == pytest.approx(math.sqrt(gain / (9 * 64)), rel=0.03)
    assert not layer.bias.any()


def test_weight_layers_leaves_projections_out():
    assert lesson().weight_layers(torchvision.models.resnet18()) == 18


# --- measurements -----------------------------------------------------------------------------------------------------


def test_block_norms_are_those_of_outputs_and_gradients_and_leave_no_gradient():
    network = lesson().CifarNet(8, lesson().ResidualBlock, in_channels=1, width=4).double()
    images, labels = torch.rand(6, 1, 8, 8, dtype=torch.float64), torch.arange(6)
    signal, back, weight = lesson().block_norms(network, images, labels)
    assert all(parameter.grad is None for parameter in network.parameters())
    x = F.relu(network.bn1(network.conv1(images)))  # the same, block by block
    first = network.layer1[0](x)
    second = network.layer2[0](first)
    outputs = [first, second, network.layer3[0](second)]
    loss = F.cross_entropy(network.fc(outputs[-1].mean((2, 3))), labels)
    firsts = [block.conv1.weight for block in blocks_of(network)]
    gradients = torch.autograd.grad(loss, outputs + firsts)
    norms = [g.norm().item() for g in gradients]
    assert signal.tolist() == pytest.approx([y.norm().item() for y in outputs], rel=1e-6)
    assert [*back, *weight] == pytest.approx(norms, rel=1e-6)


def test_with_a_start_of_zero_only_the_channels_that_no_shortcut_pads_live():
    for zero, alive in ((True, {4}), (False, {15, 16})):
        torch.manual_seed(0)
        network = lesson().CifarNet(8, lesson().ResidualBlock, in_channels=1, width=4)
        for block in blocks_of(network):
            nn.init.constant_(block.bn2.weight, 0.0 if zero else 1.0)
        images, labels = torch.randn(20, 1, 8, 8), torch.arange(20) % 10
        losses_of(network, [(images, labels)] * 3, 0.05)
        assert lesson().living_channels(network, images) in alive


def test_first_lengths_leave_a_normalised_network_as_it_is():
    network, fresh = (lesson().CifarNet(8, lesson().PlainBlock, width=4) for _ in range(2))
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight *= 5
    short, images = lesson().with_first_lengths(network, fresh), torch.rand(8, 3, 8, 8)
    length = fresh.conv1.weight.norm().item()
    assert short.conv1.weight.norm().item() == pytest.approx(length, rel=1e-5)
    assert torch.allclose(short.train()(images), network.train()(images), atol=1e-2)


def test_response_sizes_of_zero_branches_are_zero_and_the_network_keeps_its_running_statistics():
    network = lesson().CifarNet(14, lesson().ResidualBlock, in_channels=1, width=4)
    for block in blocks_of(network):
        nn.init.zeros_(block.bn2.weight)
    before = copy.deepcopy(network.state_dict())
    sizes = lesson().response_sizes(network, torch.rand(6, 1, 8, 8))
    assert sizes.shape == (6,) and not sizes.any()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_recomputed_statistics_are_those_of_the_images_and_the_network_keeps_its_own():
    images = data.digits(train=True).normalised()[:60]
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 10)).eval()
    x, y = next(images.batches(60))
    with torch.no_grad():
        right = 100 * (network.train()(x).argmax(1) != y).float().mean().item()
        network.eval()[0].running_mean.fill_(9.0)  # of other pictures
    before = copy.deepcopy(network.state_dict())
    recomputed = lesson().percent_wrong_recomputed(network, images)
    assert recomputed == pytest.approx(right, abs=1e-4)
    assert lesson().percent_wrong(network, images) != pytest.approx(right, abs=1)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_readers_sees_a_convolution_without_batchnorm():
    first = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()]
    network = nn.Sequential(*first, nn.Conv2d(4, 4, 3), nn.ReLU())
    assert lesson().readers(cost.table(network, (3, 8, 8)), "Conv2d") == {"BatchNorm2d", "ReLU"}


def test_kernels_leaves_the_projection_out():
    table = cost.table(models.resnet50(width=8), (3, 64, 64))
    assert lesson().kernels(table, "layer2.0") == [1, 3, 1]


def test_a_dense_stack_whose_branches_are_zero_copies_and_a_plain_one_does_not():
    x = torch.rand(3, 64)
    stacks = {residual: lesson().DenseStack(4, residual, gain=2.0) for residual in (True, False)}
    for stack in stacks.values():
        for layer in stack.layers[1::2]:
            nn.init.zeros_(layer.weight)
    assert torch.equal(stacks[True](x), x) and not stacks[False](x).any()


def test_a_copying_block_returns_what_is_not_negative_and_a_deepened_network_computes_the_same():
    x = torch.rand(2, 5, 4, 4)
    assert torch.equal(lesson().copying_block(5)(x), x)
    network = lesson().CifarNet(8, lesson().PlainBlock, in_channels=1, width=4).eval()
    images, built = torch.rand(3, 1, 8, 8), lesson().deepened(network, 2).eval()
    assert lesson().weight_layers(built) == 8 + 3 * 2 * 2 and lesson().weight_layers(network) == 8
    assert torch.allclose(built(images), network(images), atol=1e-6)


def test_a_promised_fall_is_kept_by_a_loss_that_is_straight_and_not_beyond_a_bend():
    straight = nn.Linear(3, 2, bias=False).double()
    images, labels = torch.randn(8, 3, dtype=torch.float64), torch.tensor([0, 1] * 4)
    promises = (1e-6, 1e-5)
    loss = F.cross_entropy(straight(images), labels)
    squared = torch.autograd.grad(loss, straight.weight)[0].square().sum().item()
    promised, found, cosines = lesson().falls(straight, images, labels, promises, 1e-5)
    assert promised == pytest.approx([*promises, 1e-5 * squared], rel=1e-9)
    assert found == pytest.approx(promised, rel=1e-2)
    assert cosines == pytest.approx([1, 1, 1], abs=1e-6)
    bent = nn.Linear(3, 2, bias=False).double()
    found, cosines = lesson().falls(bent, images, labels, (1e-6, 50.0), 1e-9)[1:]
    assert found[1] < 1 and cosines[1] < 0.9  # no loss falls below 0
    assert cosines[2] == pytest.approx(1, abs=1e-6)  # and back along the same gradient


def test_a_gradient_is_shortened_to_its_limits_and_the_promise_is_rate_slope_way():
    for limits, length, promise in (((), 5, 2.5), ((2.0,), 2, 1.0), ((9.0, 0.1), 0.2, 0.1)):
        weight = nn.Parameter(torch.zeros(2))
        weight.grad = torch.tensor([3.0, 4.0])  # length 5
        assert lesson().shortened([weight], 0.1, *limits) == pytest.approx(promise)
        assert weight.grad.norm().item() == pytest.approx(length, rel=1e-4)


def test_the_error_of_copying_is_one_for_a_stack_that_gives_nothing_but_the_mean_picture(
    monkeypatch,
):
    class MeanPicture(nn.Linear):
        def __init__(self, k, residual, gain):
            super().__init__(64, 64)
            nn.init.zeros_(self.weight)
            self.bias.data = pixels.mean(0)

    pixels = torch.rand(200, 64, dtype=torch.float64)
    monkeypatch.setattr(lesson(), "DenseStack", MeanPicture)
    monkeypatch.setattr(lesson(), "seed", 0, raising=False)
    before, _ = lesson().train_to_copy(2, False, 2.0, 0, pixels, steps=1)
    assert before == pytest.approx(1.0, rel=0.1)


def test_two_hundred_residual_layers_learn_in_twenty_steps_and_plain_ones_do_not():
    few = data.digits(train=True).normalised()[:96]
    ends = {}
    for block in (lesson().ResidualBlock, lesson().PlainBlock):
        torch.manual_seed(0)
        network = lesson().CifarNet(200, block, in_channels=1, width=8)
        batches = [batch for _ in range(5) for batch in few.batches(24)]
        losses = losses_of(network, batches, 0.01, momentum=0.9)
        ends[block.__name__] = sum(losses[-4:]) / 4
    assert ends["ResidualBlock"] < 1.8 < 2.1 < ends["PlainBlock"]  # guessing: log(10) = 2.30


def test_1202_layers_have_the_parameters_that_the_paper_prints():
    with torch.device("meta"):
        network = lesson().CifarNet(1202, lesson().ResidualBlock)
    assert sum(weight.numel() for weight in network.parameters()) == 19_421_274
    assert lesson().weight_layers(network) == 1202


def test_the_interval_of_a_share_equals_scipys():
    right = binomtest(77, 1500).proportion_ci(method="wilson")
    assert lesson().wilson(77 / 1500, 1500, z=norm.ppf(0.975)) == pytest.approx(tuple(right))


def test_the_way_past_a_pre_activation_block_is_the_identity_and_its_branch_starts_with_batchnorm():
    block, x = lesson().PreActivationBlock(4, 4).eval(), torch.randn(2, 4, 5, 5)
    inner = block.conv1(F.relu(block.bn1(x)))
    right = x + block.conv2(F.relu(block.bn2(inner)))
    assert torch.allclose(block(x), right)


def test_the_repeating_shortcut_repeats_where_a_stage_begins_and_is_the_identity_elsewhere():
    x = torch.rand(1, 3, 5, 5)
    shortcut = lesson().RepeatingBlock(3, 6, stride=2).shortcut(x)
    assert torch.equal(shortcut[:, :3], x[:, :, ::2, ::2])
    assert torch.equal(shortcut[:, 3:], x[:, :, ::2, ::2])
    assert torch.equal(lesson().RepeatingBlock(3, 3).shortcut(x), x)


def test_the_full_preset_names_parameters_of_the_lesson_and_depths_that_exist():
    preset = Lesson.find("14").settings({}, "full")
    assert preset["dataset"] == "cifar10" and preset["depths"] == [20, 56]
    written = yaml.safe_load((paths.root() / "notebooks/presets/full.yaml").read_text())["14"]
    assert set(written) <= set(Lesson.find("14").parameters)


# --- exercises --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", LESSON)
def test_the_check_accepts_the_reference_solution(id):
    assert LESSON[id].check(*LESSON[id].answers())


@pytest.mark.parametrize("id", LESSON)
def test_hints_climb_in_three_steps_and_the_solution_can_be_shown(id, capsys):
    assert len(LESSON[id].hints) == 3
    exercises.solution(id)
    assert "def " in capsys.readouterr().out


def test_the_stubs_of_the_notebook_count_as_not_attempted(capsys):
    def residual_forward(block, x): ...

    exercises.check("14.6", ...)
    exercises.check("14.2", residual_forward)
    assert capsys.readouterr().out.count("not attempted") == 2


def layer_with(
    *, padding=1, bias=False, kernel=3, fill=nn.init.dirac_, scale=1.0, norm=True, relu=True, **eps
):
    def copying_layer(channels):
        options = {"padding": padding, "bias": bias, "dtype": torch.float64}
        convolution = nn.Conv2d(channels, channels, kernel, **options)
        fill(convolution.weight)
        with torch.no_grad():
            convolution.weight *= scale
        norms = [nn.BatchNorm2d(channels, **eps)] * norm
        return nn.Sequential(convolution, *norms, *[nn.ReLU()] * relu)

    return copying_layer


def test_other_ways_to_copy_exactly_are_accepted():
    class CallingRelu(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.conv, self.bn, _ = solutions.copying_layer(channels)

        def forward(self, x):
            return F.relu(self.bn(self.conv(x)))

    def by_the_variance(channels):
        layer = layer_with()(channels).double()
        nn.init.constant_(layer[1].running_var, 1 - layer[1].eps)
        return layer

    for way in (CallingRelu, by_the_variance):
        assert "1e-09 was allowed" in LESSON["14.1"].check(way)


class Clamped(nn.ReLU):
    """Copies values up to 1, as in the check's picture; activations of a network are larger."""

    def forward(self, x):
        return super().forward(x).clamp(max=1.0)


Clamped.__name__ = "ReLU"


def test_the_ways_may_be_counted_in_a_tuple():
    ways = LESSON["14.5"].check(lambda blocks: tuple(solutions.path_counts_of(blocks)))
    assert "134,217,728" in ways


def shortcut_of(block, x):
    return x if block.downsample is None else block.downsample(x)


def branch_of(block, x, *, inner=F.relu, bn1=None, bn2=None):
    """F(x), with another layer in place of one of its own."""
    inside = inner((bn1 or block.bn1)(block.conv1(x)))
    return (bn2 or block.bn2)(block.conv2(inside))


def in_place(block, x):
    shortcut = shortcut_of(block, x.clone())
    return F.relu(branch_of(block, x.relu_()) + shortcut)


def after_the_first_convolution(block, x):
    inner = F.relu(block.bn1(block.conv1(x)))
    return F.relu(block.bn2(block.conv2(inner)) + inner)


def counted(
    weights=lambda i, o, k: i * o * k**2,
    places=lambda size, p, k, s: (size + 2 * p - k) // s + 1,
    power=2,
):
    return lambda rows: sum(
        weights(i, o, k) * places(size, p, k, s) ** power for i, o, k, s, p, size in rows
    )


def squared(gradients):
    return sum(float(g.square().sum()) for g in gradients)


ROOT, KEPT, COUNTS = solutions.shrinkage, solutions.kept_share, solutions.path_counts_of
SAME, ONE = nn.Identity(), math.sqrt(1 + 1e-5)  # ONE: what a copying kernel must be
WRONG = {
    "14.1": [
        ("sqrt", layer_with()),  # BatchNorm's epsilon is forgotten
        ("sqrt", layer_with(scale=1 + 1e-5)),
        ("shape", layer_with(padding=0)),
        ("undo it in the kernel", layer_with(eps=0)),
        ("without bias", layer_with(bias=True)),
        ("3x3", layer_with(kernel=1, padding=0)),
        ("dirac_", layer_with(fill=nn.init.ones_)),
        ("dirac_", layer_with(fill=nn.init.zeros_)),
        ("dirac_", layer_with(fill=nn.init.kaiming_normal_)),
        ("by up to nan", layer_with(scale=math.nan)),
        ("ten of them", layer_with(scale=ONE * (1 + 8e-10))),  # ten times what one of them may
        ("rounding of float32", layer_with(scale=ONE * (1 + 3e-9))),
        ("BatchNorm2d", layer_with(norm=False)),
        ("negative numbers", layer_with(relu=False)),
        ("ten", lambda channels: nn.Sequential(*solutions.copying_layer(channels)[:2], Clamped())),
        ("torch module", lambda channels: lambda x: x),
        ("Conv2d, BatchNorm2d, ReLU", lambda channels: nn.Identity()),
        ("6 channels in and out, got 8 and 8", lambda channels: solutions.copying_layer(8)),
    ],
    "14.2": [
        ("plain block", lambda b, x: F.relu(branch_of(b, x))),
        ("in front of the sum", lambda b, x: F.relu(branch_of(b, x)) + shortcut_of(b, x)),
        ("behind the sum, is missing", lambda b, x: branch_of(b, x) + shortcut_of(b, x)),
        ("between the two", lambda b, x: F.relu(branch_of(b, x, inner=SAME) + shortcut_of(b, x))),
        ("second BatchNorm", lambda b, x: F.relu(branch_of(b, x, bn2=SAME) + shortcut_of(b, x))),
        ("first BatchNorm", lambda b, x: F.relu(branch_of(b, x, bn1=SAME) + shortcut_of(b, x))),
        ("passed the first convolution", after_the_first_convolution),
        ("in place", in_place),
        ("where it does not", lambda b, x: F.relu(branch_of(b, x) + x)),  # downsample forgotten
        ("where it does not", lambda b, x: F.relu(branch_of(b, x) + b.downsample(x))),
        ("differs from torchvision", lambda b, x: F.relu(branch_of(b, x) + 2 * shortcut_of(b, x))),
        ("gives the shape", lambda b, x: x.mean((2, 3))),
        ("got 3", lambda b, x: 3),
    ],
    "14.3": [
        ("square root", lambda layers, gain: 2 * ROOT(layers, gain)),
        ("wrong sign", lambda layers, gain: -ROOT(layers, gain)),
        ("natural logarithm", lambda layers, gain: ROOT(layers, gain) * math.log(10)),
        ("the factor", lambda layers, gain: 10 ** ROOT(layers, gain)),
        ("half of the values", lambda layers, gain: layers * math.log10(gain) / 2),
        ("eighth", lambda layers, gain: ROOT(1, gain)),
        ("expected a number", lambda layers, gain: "-21"),
        ("got nan", lambda layers, gain: math.nan),
    ],
    "14.4": [
        ("length .* is not squared", lambda b, a, g, rate: (b - a) / (rate * squared(g) ** 0.5)),
        ("rate is missing", lambda b, a, g, rate: (b - a) / squared(g)),
        ("sign", lambda b, a, g, rate: -KEPT(b, a, g, rate)),
        ("do not add up", lambda b, a, g, rate: KEPT(b, a, [sum(x.norm() for x in g)], rate)),
        ("only the first tensor", lambda b, a, g, rate: KEPT(b, a, g[:1], rate)),
        ("only the last tensor", lambda b, a, g, rate: KEPT(b, a, g[-1:], rate)),
        ("the fall itself", lambda b, a, g, rate: b - a),
        ("this is the promise", lambda b, a, g, rate: rate * squared(g)),
        ("not percent", lambda b, a, g, rate: 100 * KEPT(b, a, g, rate)),
        ("upside down", lambda b, a, g, rate: rate * squared(g) / (b - a)),
        ("expected 0.5", lambda b, a, g, rate: KEPT(b, a, g, rate) + 1),
        ("within each,", lambda b, a, g, rate: (b - a) / (rate * sum(x**2 for x in g))),
        ("expected a number", lambda b, a, g, rate: "half"),
    ],
    "14.5": [
        ("expected a list", lambda blocks: 2**blocks),
        ("0 to 1", lambda blocks: COUNTS(blocks)[1:]),
        (r"should be \[1, 2, 1\]", lambda blocks: [1] * (blocks + 1)),
        ("should be", lambda blocks: [math.perm(blocks, k) for k in range(blocks + 1)]),
        ("small cases are right", lambda blocks: COUNTS(min(blocks, 20))),
    ],
    "14.6": [
        ("branch, shortcut", 55),
        ("branch, shortcut", 54),
        ("behind the second", 28),
        ("before the first block", 0),
        ("between 0 and 55", 56),
        ("whole number", "one"),
        ("whole number", True),
    ],
    "14.7": [
        ("multiply-adds", counted(weights=lambda i, o, k: i * o * k)),  # a row of the kernel only
        ("multiply-adds", counted(weights=lambda i, o, k: (i * k**2 + 1) * o)),  # biases counted
        ("multiply-adds", counted(weights=lambda i, o, k: o * k**2)),  # input channels forgotten
        ("multiply-adds", counted(weights=lambda i, o, k: 2 * i * o * k**2)),  # FLOPs
        ("multiply-adds", counted(places=lambda size, p, k, s: size // s)),  # as if all were padded
        ("multiply-adds", counted(places=lambda size, p, k, s: (size + p - k) // s + 1)),
        ("multiply-adds", counted(places=lambda size, p, k, s: (size + 2 * p - k) / s + 1)),
        ("multiply-adds", counted(places=lambda size, p, k, s: size)),
        ("multiply-adds", counted(power=1)),
        ("multiply-adds", lambda rows: str(solutions.multiply_adds(rows))),
        ("two linear layers", lambda rows: solutions.multiply_adds(rows[:1])),
    ],
}


@planted(WRONG)
def test_a_wrong_answer_is_rejected_with_what_went_wrong(id, answer, words):
    rejects(id, answer, saying=words)
