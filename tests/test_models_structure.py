"""The structure of the networks against the papers and the ledger of lessons 11 to 13."""

import math

import pytest
import torch
import torch.nn.functional as F
from network_parts import layers, on_meta, parameters, shapes, weights
from torch import nn

from cnncourse import cost, models
from cnncourse.models import (
    alexnets,
    lenet,
    vgg,
)
from cnncourse.models.inception_2014 import TABLE, Inception, NaiveInception
from cnncourse.models.inception_2015 import DoubleInception

# Lesson 11


def test_lenet5_has_its_60000_parameters_layer_by_layer():
    network = models.lenet5()
    parts = [
        parameters(getattr(network, name))
        for name in ("c1", "s2", "c3", "s4", "c5", "f6", "output")
    ]
    assert parts == [156, 12, 1516, 32, 48_120, 10_164, 0]
    assert parameters(models.lenet5_modern()) == 61_706


def test_lenet5_has_the_papers_shapes():
    found = shapes(on_meta("lenet5"), (1, 32, 32))
    assert [found[n] for n in ("c1", "s2", "c3", "s4", "c5", "f6", "output")] == [
        (6, 28, 28),
        (6, 14, 14),
        (16, 10, 10),
        (16, 5, 5),
        (120, 1, 1),
        (84,),
        (10,),
    ]


def test_lenet5_c3_reads_six_threes_nine_fours_and_one_six():
    assert [len(read) for read in lenet.SOURCES] == [3] * 6 + [4] * 9 + [6]
    assert len(set(lenet.SOURCES)) == 16
    assert all(sum(i in read for read in lenet.SOURCES) == 10 for i in range(6)), (
        "each map is read ten times"
    )
    c3 = models.lenet5().c3
    x = torch.randn(1, 6, 14, 14)
    changed = x.clone()
    changed[:, 0] += 1
    differs = (c3(x) != c3(changed)).flatten(2).any(2)[0]
    assert differs.tolist() == [0 in read for read in lenet.SOURCES]


def test_lenet5_output_is_nearest_to_its_own_code():
    codes = lenet.digit_codes()
    assert codes.shape == (10, 84) and set(codes.unique().tolist()) == {-1.0, 1.0}
    assert len({tuple(code.tolist()) for code in codes}) == 10
    output = lenet.RadialBasis(10)
    assert output(codes).argmax(1).tolist() == list(range(10))
    assert torch.allclose(output(codes), -(torch.cdist(codes, codes) ** 2), atol=1e-3)
    assert "codes" not in dict(output.named_parameters()), "fixed, not learned"


def test_scaled_tanh_maps_one_to_one():
    assert math.isclose(lenet.ScaledTanh()(torch.tensor(1.0)).item(), 1, abs_tol=1e-4)


def test_alexnet_2012_has_the_papers_shapes_and_parameters():
    network = on_meta("alexnet_2012")
    found = shapes(network, (3, 227, 227))
    assert [
        found[n]
        for n in (
            "conv1",
            "norm1",
            "pool1",
            "conv2",
            "pool2",
            "conv3",
            "conv4",
            "conv5",
            "pool5",
            "flatten",
            "fc6",
            "fc7",
            "fc8",
        )
    ] == [
        (96, 55, 55),
        (96, 55, 55),
        (96, 27, 27),
        (256, 27, 27),
        (256, 13, 13),
        (384, 13, 13),
        (384, 13, 13),
        (256, 13, 13),
        (256, 6, 6),
        (9216,),
        (4096,),
        (4096,),
        (1000,),
    ]
    assert parameters(network.conv1) == 34_944
    assert parameters(network) == 60_965_224
    assert sum(parameters(getattr(network, n)) for n in ("fc6", "fc7", "fc8")) == 58_631_144
    assert (
        parameters(on_meta("alexnet_ungrouped"))
        == parameters(on_meta("alexnet_lecture_repaired"))
        == 62_378_344
    )
    assert len(layers(network)) == 8


def test_alexnet_2012_groups_conv2_conv4_and_conv5():
    network = on_meta("alexnet_2012")
    assert {n: m.groups for n, m in network.named_modules() if isinstance(m, nn.Conv2d)} == {
        "conv1": 1,
        "conv2": 2,
        "conv3": 1,
        "conv4": 2,
        "conv5": 2,
    }


def test_a_tower_of_alexnet_sees_only_its_own_maps_up_to_conv3():
    torch.manual_seed(0)
    network = models.alexnet_2012(width=8, image_size=32).eval()
    maps = torch.randn(1, 8, 32, 32)
    changed = maps.clone()
    changed[:, :4] += 1

    def until_conv2(x):
        return network.conv2(network.pool1(network.norm1(x)))

    differs = (until_conv2(maps) != until_conv2(changed)).flatten(2).any(2)[0]
    half = len(differs) // 2
    assert differs[:half].any() and not differs[half:].any(), (
        "neither norm1 nor conv2 crosses the towers"
    )
    assert (
        network.conv3(torch.ones(1, 22, 3, 3))
        != network.conv3(torch.cat([torch.zeros(1, 11, 3, 3), torch.ones(1, 11, 3, 3)], 1))
    ).any(), "conv3 reads both"


def test_alexnet_normalises_by_the_papers_formula():
    x = torch.randn(2, 12, 3, 3, dtype=torch.float64)
    expected = torch.empty_like(x)
    for tower in (0, 6):
        for i in range(6):
            near = range(max(0, i - 2), min(5, i + 2) + 1)
            total = sum(x[:, tower + j] ** 2 for j in near)
            expected[:, tower + i] = x[:, tower + i] / (2 + 1e-4 * total) ** 0.75
    assert torch.allclose(alexnets.TowerNorm(2)(x), expected, rtol=1e-12)


def test_alexnet_pools_overlapping_windows_after_normalising_unless_told_otherwise():
    network = on_meta("alexnet_2012")
    pools = [m for m in network.modules() if isinstance(m, nn.MaxPool2d)]
    assert [(p.kernel_size, p.stride) for p in pools] == [(3, 2)] * 3
    order = []
    for caffe in (False, True):
        network = models.alexnet_2012(width=2, image_size=32, norm_first=not caffe)
        seen = []
        for name in ("norm1", "pool1"):
            getattr(network, name).register_forward_hook(
                lambda m, i, o, name=name, seen=seen: seen.append(name)
            )
        network(torch.randn(1, 3, 32, 32))
        order.append(seen)
    assert order == [["norm1", "pool1"], ["pool1", "norm1"]]


def test_alexnet_starts_with_biases_of_one_in_five_layers():
    network = models.alexnet_2012(num_classes=10)
    ones = {
        n
        for n, m in network.named_modules()
        if isinstance(m, nn.Conv2d | nn.Linear) and (m.bias == 1).all()
    }
    zeros = {
        n
        for n, m in network.named_modules()
        if isinstance(m, nn.Conv2d | nn.Linear) and (m.bias == 0).all()
    }
    assert ones == {"conv2", "conv4", "conv5", "fc6", "fc7"} and zeros == {"conv1", "conv3", "fc8"}
    assert math.isclose(network.fc7.weight.std().item(), 0.01, rel_tol=0.01)


def test_the_lectures_alexnet_has_10_7_billion_parameters_and_no_memory():
    network = models.alexnet_lecture()
    assert all(p.is_meta for p in network.parameters())
    assert parameters(network) == 10_719_985_768
    found = shapes(network, (3, 224, 224))
    sizes = [
        shape[1] for name, shape in found.items() if name.startswith("layers.") and len(shape) == 3
    ]
    assert list(dict.fromkeys(sizes)) == [214, 107, 105, 103, 101]
    assert found["layers.8"] == (2_611_456,)
    assert len(layers(network)) == 7
    assert not models.alexnet_lecture(image_size=32, width=4).layers[0].weight.is_meta


def test_zfnet_has_the_papers_shapes():
    found = shapes(on_meta("zfnet"), (3, 224, 224))
    assert [found[n][1] for n in ("conv1", "pool1", "conv2", "pool2", "conv5", "pool5")] == [
        110,
        55,
        26,
        13,
        13,
        6,
    ]
    large = shapes(on_meta("zfnet_large"), (3, 224, 224))
    assert [large[n][0] for n in ("conv3", "conv4", "conv5")] == [512, 1024, 512]


# Lesson 12


@pytest.mark.parametrize("model, side", [("fast", 231), ("accurate", 221)])
def test_overfeat_over_a_larger_image_is_the_window_at_every_position(model, side):
    torch.manual_seed(0)
    network = models.build(f"overfeat_{model}", width=4, num_classes=3).eval()
    for conv in network.features:
        if isinstance(conv, nn.Conv2d) and conv.padding != (
            0,
            0,
        ):  # at a border zeros differ from real neighbours
            nn.init.dirac_(conv.weight)  # so let the padded layers read their own pixel only
    stride = math.prod(
        m.kernel_size if isinstance(m, nn.MaxPool2d) else m.stride[0]
        for m in network.features
        if isinstance(m, nn.MaxPool2d | nn.Conv2d)
    )
    image = torch.randn(1, 3, side + stride, side + 2 * stride)
    with torch.no_grad():
        maps = network.maps(image)
        assert maps.shape == (1, 3, 2, 3)
        for row in range(2):
            for column in range(3):
                window = image[:, :, stride * row :, stride * column :][:, :, :side, :side]
                assert torch.allclose(network(window), maps[:, :, row, column], atol=1e-5)
        assert torch.equal(network(image), maps.amax((2, 3)))
        assert maps.std() > 0


def test_overfeat_fast_gives_2_by_3_positions_on_281_by_317():
    assert on_meta("overfeat_fast").maps(torch.empty(1, 3, 281, 317, device="meta")).shape[2:] == (
        2,
        3,
    )


@pytest.mark.parametrize(
    "name, count",
    [
        ("vgg11", 11),
        ("vgg11_lrn", 11),
        ("vgg13", 13),
        ("vgg16_c", 16),
        ("vgg16", 16),
        ("vgg19", 19),
        ("overfeat_accurate", 9),
        ("zfnet", 8),
    ],
)
def test_weight_layers_are_as_many_as_the_name_says(name, count):
    assert len(layers(on_meta(name))) == count


@pytest.mark.parametrize("column", vgg.CONFIGURATIONS)
def test_vgg_doubles_its_maps_after_each_pooling_but_the_fourth(column):
    network = models.vgg.VGG(column, width=2, image_size=32)
    ends = [
        m.out_channels
        for m, after in zip(network.features, [*network.features][2:], strict=False)
        if isinstance(m, nn.Conv2d) and isinstance(after, nn.MaxPool2d)
    ]
    if column == "A-LRN":  # LRN stands between the first convolution and its pooling
        ends = [2, *ends]
    assert ends == [2, 4, 8, 16, 16]


def test_vgg_c_ends_blocks_3_to_5_with_1x1_and_all_others_are_3x3():
    kernels = {
        c: [
            m.kernel_size[0]
            for m in models.vgg.VGG(c, width=2, image_size=32).features
            if isinstance(m, nn.Conv2d)
        ]
        for c in vgg.CONFIGURATIONS
    }
    assert kernels["C"] == [3, 3, 3, 3, 3, 3, 1, 3, 3, 1, 3, 3, 1]
    assert all(set(kernels[c]) == {3} for c in kernels if c != "C")
    assert sum(isinstance(m, nn.LocalResponseNorm) for m in on_meta("vgg11_lrn").modules()) == 1


def test_vgg16_keeps_most_parameters_in_its_linear_layers():
    network = on_meta("vgg16")
    assert (
        parameters(network.classifier) == 123_642_856 and parameters(network.features) == 14_714_688
    )


# Lesson 13


def test_nin_ends_in_an_average_and_has_no_linear_layer():
    for name in ("nin_cifar", "nin_imagenet"):
        network = on_meta(name)
        assert not any(isinstance(m, nn.Linear) for m in network.modules())
    found = shapes(on_meta("nin_cifar"), (3, 32, 32))
    assert found["features"] == (10, 8, 8) and found["avgpool"] == (10, 1, 1)


def test_a_1x1_convolution_of_nin_is_one_perceptron_at_every_pixel():
    torch.manual_seed(0)
    conv = models.nin_cifar(width=4).features[0][2]
    x = torch.randn(2, conv.in_channels, 5, 5)
    everywhere = F.linear(x.permute(0, 2, 3, 1), conv.weight.flatten(1), conv.bias).permute(
        0, 3, 1, 2
    )
    assert torch.allclose(conv(x), everywhere, atol=1e-6)


def test_inception_modules_cost_what_the_lecture_counts():
    with torch.device("meta"):
        naive, reduced = NaiveInception(256, 128, 192, 96), Inception(256, 128, 64, 192, 64, 96, 64)
    x = torch.empty(1, 256, 28, 28, device="meta")
    assert naive(x).shape[1] == 672 and reduced(x).shape[1] == 480
    assert cost.table(naive, (256, 28, 28)).multiply_adds == 854_196_224
    assert cost.table(reduced, (256, 28, 28)).multiply_adds == 271_351_808
    assert 271_351_808 + 9 * 64 * 192 * 28 * 28 == 358_055_936, (
        "the lecture's 358 M has the 3x3 branch twice"
    )


def test_googlenet_of_2014_has_the_weights_of_its_table_row_by_row():
    network = on_meta("googlenet_2014")
    rows = [weights(network.conv1), weights(network.conv2) + weights(network.conv3)]
    rows += [weights(getattr(network, f"inception{row}")) for row in TABLE]
    assert rows == [
        9_408,
        114_688,
        163_328,
        388_096,
        375_552,
        448_512,
        509_440,
        604_672,
        867_328,
        1_042_432,
        1_442_816,
    ]
    assert sum(rows) + weights(network.fc) == 6_990_272
    found = shapes(network, (3, 224, 224))
    assert [found[f"inception{row}"][0] for row in TABLE] == [
        256,
        480,
        512,
        512,
        512,
        528,
        832,
        832,
        1024,
    ]
    assert [found[n][1] for n in ("conv1", "maxpool1", "maxpool2", "maxpool3", "maxpool4")] == [
        112,
        56,
        28,
        14,
        7,
    ]


def test_googlenets_multiply_adds_need_a_separable_stem_to_be_the_papers():
    assert (
        cost.table(on_meta("googlenet_2014").eval(), (3, 224, 224)).multiply_adds == 1_582_671_872
    )
    separable = on_meta("googlenet_2014", separable_stem=True)
    assert weights(separable.conv1) == 2_712
    assert cost.table(separable.eval(), (3, 224, 224)).multiply_adds == 1_498_677_248


def test_googlenet_is_22_layers_deep():
    network = on_meta("googlenet_2014")
    longest = 0
    for module in network.children():
        if isinstance(module, Inception):
            longest += max(len(layers(branch)) for branch in module.children())
        elif not type(module).__name__.endswith("Head"):
            longest += len(layers(module))
    assert longest == 22


def test_googlenet_has_two_heads_on_4a_and_4d_in_training_only():
    network = models.googlenet_2014(width=8, image_size=32, num_classes=3)
    read = {}
    for name in ("inception4a", "inception4d"):
        network.get_submodule(name).register_forward_hook(
            lambda m, i, o, name=name: read.__setitem__(name, o)
        )
    for name in ("aux1", "aux2"):
        network.get_submodule(name).register_forward_pre_hook(
            lambda m, i, name=name: read.__setitem__(name, i[0])
        )
    outputs = network.train()(torch.randn(2, 3, 32, 32))
    assert len(outputs) == 3
    assert read["aux1"] is read["inception4a"] and read["aux2"] is read["inception4d"]
    assert network.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 3)
    full = on_meta("googlenet_2014")
    assert (parameters(full.aux1), parameters(full.aux2)) == (3_188_840, 3_190_888)
    assert parameters(on_meta("googlenet_2014", aux_logits=False)) == 6_998_552
    assert parameters(on_meta("googlenet", aux_logits=False)) == 6_624_904


def test_two_3x3_of_bn_inception_have_18_weights_for_25_of_a_5x5():
    with torch.device("meta"):
        module = DoubleInception(192, 64, 64, 64, 96, 96, "avg", 32)
    first, second = (m.conv.weight.numel() for m in module.branch3[1:])
    assert first + second == 18 * 96 * 96
    found = shapes(on_meta("bn_inception"), (3, 224, 224))
    assert [found[f"inceptions.inception{r}"] for r in ("3a", "3b", "3c", "4a", "4b")] == [
        (256, 28, 28),
        (320, 28, 28),
        (576, 14, 14),
        (576, 14, 14),
        (576, 14, 14),
    ]
    assert found["inceptions.inception5b"] == (1024, 7, 7)


def test_inception_v3_shrinks_299_to_35_17_and_8():
    found = shapes(on_meta("inception_v3"), (3, 299, 299))
    assert [found[n] for n in ("Conv2d_1a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c")] == [
        (32, 149, 149),
        (288, 35, 35),
        (768, 17, 17),
        (2048, 8, 8),
    ]
