"""Totals are those of the papers, of torchvision's published figures and of the lectures."""

import pytest
import torch
import torchvision
from cost_nets import costs_of, of_kind
from torch import nn
from torch.overrides import TorchFunctionMode

from cnncourse import cost, models
from cnncourse.models.inception_2014 import Inception, NaiveInception

# --- published totals -----------------------------------------------------------------------------------------------


class WithoutWeights(TorchFunctionMode):
    """Makes new weights on the meta device, and leaves small sums (the design of a RegNet) to the processor."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.empty, torch.zeros, torch.ones):
            kwargs = kwargs | {"device": "meta"}
        return func(*args, **kwargs)


def build(name, size):
    options = {"image_size": size} if name.startswith("vit") else {}
    if name in ("googlenet", "inception_v3"):
        options = {"init_weights": False} | ({"aux_logits": False} if name == "googlenet" else {})
    if name.startswith("regnet"):
        with WithoutWeights():
            return torchvision.models.get_model(name, **options)
    with torch.device("meta"):
        return torchvision.models.get_model(name, **options)


def published():
    found = {}
    for name in torchvision.models.list_models(module=torchvision.models):
        for weights in torchvision.models.get_model_weights(name):
            found[name, weights.transforms.keywords["crop_size"]] = weights.meta
    return [(name, size, meta["num_params"], meta["_ops"]) for (name, size), meta in found.items()]


def family(name):
    return name.split("_")[0].rstrip("0123456789")


@pytest.mark.parametrize("kind", sorted({family(name) for name, *_ in published()}))
def test_totals_are_those_published_for_smallest_and_largest_of_each_family(kind):
    nets = sorted(
        (net for net in published() if family(net[0]) == kind), key=lambda net: (net[2], net[1])
    )
    for name, size, parameters, giga in {
        nets[0],
        nets[-1],
    }:  # benchmarks/cost.py does the same with all of them
        costs = cost.table(build(name, size), (3, size, size))
        assert costs.parameters == parameters, name
        assert costs.multiply_adds / 1e9 == pytest.approx(giga, abs=0.0005 + 0.002 * giga), (
            name,
            size,
        )


# --- the worked numbers of the lectures -----------------------------------------------------------------------------


def test_alexnet_has_the_shapes_and_parameters_of_the_lecture():
    costs = costs_of("alexnet_2012")
    layers = of_kind(costs, "Conv2d", "MaxPool2d", "Linear")
    assert [row.output_shape for row in layers] == [
        (96, 55, 55),
        (96, 27, 27),
        (256, 27, 27),
        (256, 13, 13),
        (384, 13, 13),
        (384, 13, 13),
        (256, 13, 13),
        (256, 6, 6),
        (4096,),
        (4096,),
        (1000,),
    ]
    assert (
        layers[0].parameters == 34_944
        and layers[0].kernel == (11, 11)
        and layers[0].stride == (4, 4)
    )
    assert costs.parameters == 60_965_224
    assert sum(row.parameters for row in of_kind(costs, "Linear")) == 58_631_144
    assert costs.multiply_adds == pytest.approx(0.72e9, rel=0.01)
    assert costs_of("alexnet_ungrouped").parameters == 62_378_344
    assert costs_of("alexnet").parameters == 61_100_840


def test_the_approximate_alexnet_of_the_notes_has_ten_billion_parameters():
    costs = costs_of("alexnet_lecture")
    assert costs.parameters == 10_719_985_768
    assert costs.multiply_adds == pytest.approx(39.08e9, rel=1e-3)
    assert [row.output_shape[-1] for row in of_kind(costs, "Conv2d", "MaxPool2d")] == [
        214,
        107,
        105,
        103,
        101,
    ]


@pytest.mark.parametrize(
    "name, parameters",
    [
        ("vgg11", 132_863_336),
        ("vgg13", 133_047_848),
        ("vgg16_c", 133_638_952),
        ("vgg16", 138_357_544),
        ("vgg19", 143_667_240),
        ("zfnet", 62_357_608),
        ("zfnet_large", 107_627_624),
        ("overfeat_accurate", 144_656_488),
        ("overfeat_fast", 145_920_872),
        ("lenet5_modern", 61_706),
        ("resnet20", 269_722),
        ("resnet56", 853_018),
        ("resnet110", 1_727_962),
        ("squeezenet1_0", 1_248_424),
    ],
)
def test_parameters_are_those_of_the_ledger(name, parameters):
    assert costs_of(name).parameters == parameters


def test_vgg_keeps_61_megabytes_of_activations_mostly_early():
    costs = costs_of("vgg16")
    layers = of_kind(costs, "Conv2d", "MaxPool2d", "Linear")
    values = costs.input_bytes // 4 + sum(row.activation_bytes for row in layers) // 4
    assert values == 15_237_608
    assert layers[0].activation_bytes + layers[1].activation_bytes == 4 * 6_422_528
    assert sum(row.parameters for row in of_kind(costs, "Linear")) == 123_642_856


def test_multiply_adds_of_inception_are_those_recomputed():
    with torch.device("meta"):
        direct = nn.Conv2d(192, 32, 5, padding=2)
        reduced = nn.Sequential(nn.Conv2d(192, 16, 1), nn.Conv2d(16, 32, 5, padding=2))
        naive, bottleneck = (
            NaiveInception(256, 128, 192, 96),
            Inception(256, 128, 64, 192, 64, 96, 64),
        )
    assert cost.table(direct, (192, 28, 28)).multiply_adds == 120_422_400
    assert [row.multiply_adds for row in cost.table(reduced, (192, 28, 28))] == [
        2_408_448,
        10_035_200,
    ]
    assert cost.table(naive, (256, 28, 28)).multiply_adds == 854_196_224
    assert (
        cost.table(bottleneck, (256, 28, 28)).multiply_adds == 271_351_808
    )  # the slide's 358 M counts 3x3 twice


def test_googlenet_row_by_row_is_the_table_recomputed():
    costs = costs_of("googlenet_2014")
    rows = [
        name
        for name in dict.fromkeys(row.name.split(".")[0] for row in costs)
        if name.startswith("inception")
    ]
    weights = [sum(math_prod(shape) for shape in weight_shapes(name)) for name in rows]
    assert weights == [
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
    millions = [round(costs[name].multiply_adds / 1e6, 1) for name in rows]
    assert millions == [128.0, 304.3, 73.6, 87.9, 99.9, 118.5, 170.0, 51.1, 70.7]
    assert [costs[name].rows[-1].output_shape[0] for name in rows] == [
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
    assert costs.multiply_adds == 1_582_671_872
    assert of_kind(costs, "Conv2d")[0].multiply_adds == pytest.approx(118e6, rel=1e-3)


def weight_shapes(name):
    with torch.device("meta"):
        block = models.googlenet_2014().get_submodule(name)
    return [p.shape for n, p in block.named_parameters() if n.endswith("weight")]


def math_prod(shape):
    return torch.Size(shape).numel()


def test_resnet_34_costs_3_6_and_vgg_19_costs_19_6_billion():
    assert costs_of("resnet34").multiply_adds == 3_663_761_408
    assert costs_of("vgg19").multiply_adds == 19_632_062_464
    stem = costs_of("resnet34").grouped()
    assert [row.output_shape[-1] for row in stem if row.kernel] == [112, 56]


def test_every_network_of_the_course_has_a_table_with_all_its_parameters():
    for name in models.names():
        if name[-3:] in (
            "110",
            "202",
            "101",
            "152",
            "169",
            "201",
            "161",
        ):  # as the others, only longer
            continue
        with torch.device("meta"):
            net = models.build(name).eval()
        costs = cost.table(net, models.input_shape(name))
        assert costs.parameters == sum(p.numel() for p in net.parameters()), name
        assert len([row for row in costs if not row.note][-1].output_shape) == 1, (
            name
        )  # one score a class
