"""The structure of residual networks and their successors against the papers and the ledger of lessons 14 and 15."""

import math

import pytest
import torch
import torch.nn.functional as F
from network_parts import layers, on_meta, parameters, shapes, weights
from torch import nn

from cnncourse import cost, models
from cnncourse.errors import ParameterError
from cnncourse.models import (
    fractalnet,
    highway,
    preactivation,
    stochastic_depth,
)
from cnncourse.models.resnet import BasicBlock, Bottleneck

# Lesson 14


@pytest.mark.parametrize(
    "name, depth",
    [
        ("resnet18", 18),
        ("resnet34", 34),
        ("resnet50", 50),
        ("resnet101", 101),
        ("resnet152", 152),
        ("plain18", 18),
        ("plain34", 34),
        ("resnet20", 20),
        ("resnet56", 56),
        ("plain110", 110),
        ("resnet1202", 1202),
        ("wide_resnet_cifar", 26),
        ("preact_resnet_cifar", 110),
    ],
)
def test_depth_counts_the_layers_with_weights(name, depth):
    assert len(layers(on_meta(name))) == depth


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet50",
        "resnet20",
        "plain20",
        "wide_resnet50_2",
        "bn_inception",
        "googlenet",
        "inception_v3",
    ],
)
def test_batch_normalisation_follows_every_convolution(name):
    network = models.build(
        name, width=4, **({} if name[-2:] == "20" else {"image_size": 32})
    ).eval()
    produced, normalised = {}, set()
    for module_name, module in network.named_modules():
        if (
            isinstance(module, nn.Conv2d) and module.groups == 1
        ):  # not the depthwise half of a separable stem
            module.register_forward_hook(lambda m, i, o, n=module_name: produced.__setitem__(n, o))
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda m, i, o: normalised.add(id(i[0])))
    with torch.no_grad():
        network(torch.randn(1, 3, 32, 32))
    assert produced and {n for n, o in produced.items() if id(o) not in normalised} == set()


@pytest.mark.parametrize("depth", [20, 56])
def test_the_plain_twin_has_the_same_parameters_and_no_addition(depth):
    residual, plain = (
        models.resnet_cifar(depth, width=4),
        models.resnet_cifar(depth, residual=False, width=4),
    )
    assert [(k, v.shape) for k, v in residual.state_dict().items()] == [
        (k, v.shape) for k, v in plain.state_dict().items()
    ]
    graphs = [str(torch.fx.symbolic_trace(n).graph) for n in (residual, plain)]
    assert (
        graphs[0].count("operator.add") == 3 * (depth - 2) // 6 and "operator.add" not in graphs[1]
    )


def test_plain34_differs_from_resnet34_by_its_projections_only():
    residual, plain = on_meta("resnet34"), on_meta("plain34")
    projections = sum(
        parameters(m) for n, m in residual.named_modules() if n.endswith("downsample")
    )
    assert parameters(residual) - projections == parameters(plain)
    assert parameters(on_meta("resnet34", shortcut="A")) == parameters(plain)


@pytest.mark.parametrize("shortcut, projections", [("A", 0), ("B", 3), ("C", 16)])
def test_shortcut_options_project_nowhere_where_shapes_change_or_everywhere(shortcut, projections):
    network = on_meta("resnet34", shortcut=shortcut)
    paths = [m for n, m in network.named_modules() if n.endswith("downsample")]
    assert sum(isinstance(path, nn.Sequential) for path in paths) == projections


def test_a_padded_shortcut_takes_every_second_pixel_and_adds_zero_maps():
    x = torch.randn(2, 3, 5, 4)
    y = models.resnet.PaddedShortcut(3, 5, 2)(x)
    assert (
        torch.equal(y[:, :3], x[:, :, ::2, ::2])
        and (y[:, 3:] == 0).all()
        and y.shape == (2, 5, 3, 2)
    )


@pytest.mark.parametrize("block", [BasicBlock(8, 8), Bottleneck(8, 2)])
def test_a_block_whose_branch_is_zero_is_the_identity_on_positive_maps(block):
    block.eval()
    last = block.bn3 if isinstance(block, Bottleneck) else block.bn2
    nn.init.zeros_(last.weight)
    x = torch.rand(2, 8, 4, 4)
    assert torch.equal(block(x), x)


def test_zero_init_residual_makes_every_block_the_identity():
    network = models.resnet_cifar(20, width=4, zero_init_residual=True).eval()
    x = torch.rand(1, 4, 8, 8)
    assert torch.equal(network.layer1(x), x)


def test_a_bottleneck_has_69632_weights_for_1179648_of_a_basic_block():
    with torch.device("meta"):
        assert (
            weights(Bottleneck(256, 64)) == 69_632
            and parameters(Bottleneck(256, 64)) == 69_632 + 768
        )
        assert weights(BasicBlock(256, 256)) == 1_179_648


def test_the_papers_stride_in_the_1x1_costs_less_with_the_same_parameters():
    ours, paper = on_meta("resnet50"), on_meta("resnet50", stride_at="1x1")
    assert parameters(ours) == parameters(paper)
    assert cost.table(ours, (3, 224, 224)).multiply_adds == 4_089_184_256
    assert 3.8e9 < cost.table(paper, (3, 224, 224)).multiply_adds < 3.9e9


def test_resnet_stem_makes_56_of_224_in_two_layers():
    found = shapes(on_meta("resnet18"), (3, 224, 224))
    assert (found["conv1"][1], found["maxpool"][1]) == (112, 56)
    assert [found[f"layer{i}"] for i in range(1, 5)] == [
        (64, 56, 56),
        (128, 28, 28),
        (256, 14, 14),
        (512, 7, 7),
    ]


# Lesson 15


def test_pre_activation_with_zero_branches_is_the_clean_path_for_negative_values_too():
    network = models.preact_resnet_cifar(20, width=4).eval()
    post = models.resnet_cifar(20, width=4).eval()
    for module in network.modules():
        if isinstance(module, preactivation.PreActivationBlock):
            nn.init.zeros_(module.conv2.weight)
    for module in post.modules():
        if isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)
    x = torch.randn(2, 3, 16, 16)
    stem = network.conv1(x)
    path = F.pad(stem[:, :, ::4, ::4], (0, 0, 0, 0, 0, 12))
    assert torch.equal(network.stages(x), path) and (path < 0).any()
    assert not torch.equal(post.layer1(stem), stem), (
        "the ReLU behind the addition cuts negative values off"
    )


def test_pre_activation_has_the_parameters_of_its_twin():
    assert parameters(on_meta("preact_resnet_cifar")) == parameters(on_meta("resnet110"))
    with torch.device("meta"):
        assert len(layers(models.preact_resnet_cifar(164, bottleneck=True))) == 164


@pytest.mark.parametrize(
    "depth, widen, count", [(28, 10, 36_479_194), (16, 4, 2_748_890), (40, 4, 8_949_210)]
)
def test_wide_networks_have_the_published_sizes(depth, widen, count):
    with torch.device("meta"):
        assert parameters(models.wide_resnet_cifar(depth, widen)) == count


def test_stochastic_depth_with_survival_1_is_the_resnet_bit_for_bit():
    torch.manual_seed(0)
    network, twin = (
        models.stochastic_depth_cifar(20, survival=1, width=4),
        models.resnet_cifar(20, width=4),
    )
    twin.load_state_dict(network.state_dict())
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(network.train()(x), twin.train()(x)) and torch.equal(
        network.eval()(x), twin.eval()(x)
    )


def test_stochastic_depth_keeps_40_of_54_blocks_on_average_and_each_as_often_as_it_says():
    torch.manual_seed(0)
    probabilities = torch.tensor(stochastic_depth.survivals(54, 0.5))
    assert math.isclose(probabilities.sum().item(), 40.25, rel_tol=1e-6)
    assert math.isclose(probabilities[-1].item(), 0.5) and (probabilities.diff() < 0).all()
    block = stochastic_depth.StochasticBlock(1, 1)
    block.survival = 0.75
    seen = []
    block.branch = lambda x: (seen.append(1), x)[1]
    for _ in range(4000):
        block(torch.zeros(1, 1, 1, 1))
    assert abs(len(seen) / 4000 - 0.75) < 4 * math.sqrt(0.75 * 0.25 / 4000)
    network = models.stochastic_depth_cifar(110, width=2)
    found = [
        m.survival for m in network.modules() if isinstance(m, stochastic_depth.StochasticBlock)
    ]
    assert torch.allclose(torch.tensor(found), probabilities)


def test_stochastic_depth_expects_before_the_relu_what_it_tests_with():
    torch.manual_seed(0)
    block = stochastic_depth.StochasticBlock(2, 2)
    block.survival = 0.6
    block.relu = nn.Identity()  # the sum before the ReLU
    block.branch = lambda x: 3 * x
    x = torch.tensor([1.0, -1.0]).view(1, 2, 1, 1)
    outputs = torch.stack([block.train()(x) for _ in range(3000)])
    error = outputs.std(0) / math.sqrt(3000)
    assert ((outputs.mean(0) - block.eval()(x)).abs() < 4 * error).all()
    block.relu = nn.ReLU()
    block.branch = lambda x: -3 * x
    mean = torch.stack([block.train()(x) for _ in range(500)]).mean(0)
    assert (mean >= block.eval()(x)).all() and (mean > block.eval()(x)).any(), (
        "Jensen: the ReLU lifts the mean"
    )


@pytest.mark.parametrize("bias, expected", [(-20.0, "copy"), (20.0, "layer")])
def test_a_highway_gate_chooses_between_input_and_layer(bias, expected):
    torch.manual_seed(0)
    layer = highway.Highway(lambda: nn.Linear(6, 6), bias)
    x = torch.randn(3, 6)
    assert torch.allclose(
        layer(x), x if expected == "copy" else layer.transform(x).relu(), atol=1e-5
    )


@pytest.mark.parametrize(
    "columns, depth, convolutions", [(1, 1, 1), (2, 2, 3), (3, 4, 7), (4, 8, 15)]
)
def test_a_fractal_block_has_the_papers_depth_and_convolutions(columns, depth, convolutions):
    block = fractalnet.FractalBlock(columns, 2, 3)
    assert sum(isinstance(m, nn.Conv2d) for m in block.modules()) == convolutions
    assert max(len(column) for column in block.columns) == depth
    lines = {}
    for name, module in block.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda m, i, o, n=name: lines.__setitem__(n, lines.get(n, 0) + 1)
            )
    block(torch.randn(2, 2, 4, 4))
    assert len(lines) == convolutions and set(lines.values()) == {1}, (
        "each convolution runs exactly once"
    )


def test_a_fractal_of_two_columns_is_the_mean_of_both_paths():
    block = fractalnet.FractalBlock(2, 2, 2).eval()
    x = torch.randn(1, 2, 4, 4)
    short, deep = block.columns[0][0], nn.Sequential(*block.columns[1])
    assert torch.allclose(block(x), (short(x) + deep(x)) / 2, atol=1e-6)


def test_a_fractal_of_three_columns_joins_as_its_definition_says():
    torch.manual_seed(0)
    block = fractalnet.FractalBlock(3, 2, 2).eval()
    x = torch.randn(1, 2, 4, 4)
    one, two, four = block.columns
    middle = (four[1](four[0](x)) + two[0](x)) / 2
    assert torch.allclose(
        block(x), (four[3](four[2](middle)) + two[1](middle) + one[0](x)) / 3, atol=1e-6
    )


def test_one_column_of_a_fractal_net_runs_alone():
    torch.manual_seed(0)
    network = models.fractalnet_cifar(3, 2, width=4).eval()
    x = torch.randn(2, 3, 8, 8)
    for column in range(3):
        alone = x
        for block, pool in zip(network.blocks, network.pools, strict=True):
            for conv in block.columns[column]:
                alone = conv(alone)
            alone = pool(alone)
        assert torch.equal(network(x, column=column), network.fc(alone.mean((2, 3))))
    with pytest.raises(ParameterError, match="one of 0, 1, 2"):
        network(x, column=3)


def test_drop_path_never_leaves_a_join_empty_and_drops_at_its_rate():
    torch.manual_seed(0)
    kept = [fractalnet.alive(3, 0.15) for _ in range(10_000)]
    assert min(map(len, kept)) >= 1
    assert abs(sum(map(len, kept)) / 30_000 - 0.85) < 0.01
    assert min(len(fractalnet.alive(2, 0.9)) for _ in range(1000)) == 1


def test_drop_path_is_global_in_half_of_the_batches_and_absent_in_evaluation():
    torch.manual_seed(0)
    network = models.fractalnet_cifar(3, 2, width=2, dropouts=(0.0, 0.0)).train()
    calls = []
    network.blocks[0].register_forward_pre_hook(lambda m, a, k: calls.append(k), with_kwargs=True)
    x = torch.randn(2, 3, 4, 4)
    for _ in range(200):
        network(x)
    chosen = [k["column"] for k in calls]
    assert abs(sum(c is not None for c in chosen) / 200 - 0.5) < 0.15
    assert set(chosen) == {None, 0, 1, 2}
    assert {k["drop"] for k in calls if k["column"] is None} == {0.15}
    network.eval()
    assert torch.equal(network(x), network(x))


def test_densenet_layers_read_all_maps_before_them():
    network = on_meta("densenet121")
    for i, (count, start) in enumerate(zip((6, 12, 24, 16), (64, 128, 256, 512), strict=True)):
        block = network.features.get_submodule(f"denseblock{i + 1}")
        reads = [layer.conv1.in_channels for layer in block.children()]
        assert reads == [start + 32 * j for j in range(count)]
    with torch.device("meta"):
        assert parameters(models.densenet_cifar(40, 12)) == 1_019_722
        assert parameters(models.densenet_cifar(100, 12, bottleneck=True)) == 769_162
        assert len(layers(models.densenet_cifar(100, 12, bottleneck=True))) == 100
    assert len(layers(network)) == 121


def test_squeezenet_has_49_times_fewer_parameters_than_alexnet():
    network = on_meta("squeezenet1_0")
    assert parameters(network) == 1_248_424
    assert 48 < parameters(on_meta("alexnet")) / parameters(network) < 50
    assert not any(isinstance(m, nn.Linear) for m in network.modules())


@pytest.mark.parametrize(
    "name, depths",
    [
        ("inception_v4", (384, 1024, 1536)),
        ("inception_resnet_v1", (256, 896, 1792)),
        ("inception_resnet_v2", (384, 1152, 2144)),
    ],
)
def test_inceptions_of_2016_have_their_depths_at_35_17_and_8_pixels(name, depths):
    found = shapes(on_meta(name), (3, 299, 299))
    assert [found[f"stage_{s}"] for s in "abc"] == [
        (d, p, p) for d, p in zip(depths, (35, 17, 8), strict=True)
    ]


def test_inception_v4_adds_nowhere_and_inception_resnet_in_every_block():
    additions = {}
    for name in ("inception_v4", "inception_resnet_v1", "inception_resnet_v2"):
        graph = torch.fx.symbolic_trace(
            models.build(name, width=2, image_size=32, num_classes=3)
        ).graph
        additions[name] = sum(
            node.target.__name__ == "add" for node in graph.nodes if node.op == "call_function"
        )
    assert additions == {"inception_v4": 0, "inception_resnet_v1": 20, "inception_resnet_v2": 20}


def test_the_linear_layer_of_a_scaled_residual_has_no_normalisation_behind_it():
    network = on_meta("inception_resnet_v2", width=4, scale=0.1)
    block = network.stage_a[0]
    assert (
        isinstance(block.linear, nn.Conv2d) and block.linear.bias is not None and block.scale == 0.1
    )
    assert parameters(on_meta("inception_v4")) == 42_679_816
