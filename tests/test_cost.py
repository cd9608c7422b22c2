"""Costs are those of the papers, of torchvision's published figures, and of a count by hand."""

import copy
import gc
import html
import threading
import tracemalloc

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from cnncourse import cost, models
from cnncourse.errors import MachineError, ParameterError, ShapeError
from cnncourse.models.inception_2014 import Inception, NaiveInception

IMAGE = (3, 224, 224)


def costs_of(name, **options):
    with torch.device("meta"):
        net = models.build(name, **options)
    return cost.table(net, models.input_shape(name))


def of_kind(costs, *kinds):
    return [row for row in costs if row.kind in kinds]


class Net(nn.Module):
    """A network written as one function of its modules."""

    def __init__(self, run, **parts):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs):
        return self.run(self, *inputs)


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


# --- counted by hand ------------------------------------------------------------------------------------------------


def lstm_by_hand(steps, features, hidden):
    return steps * 4 * hidden * (features + hidden)


@pytest.mark.parametrize(
    "layer, shape, multiply_adds",
    [
        (nn.Conv2d(6, 4, (3, 1), stride=2, padding=1, groups=2), (6, 9, 9), 5 * 6 * 4 * 3 * 3),
        (nn.ConvTranspose2d(8, 4, 4, 2, 1), (8, 7, 7), 7 * 7 * 8 * 4 * 16),
        (nn.Conv1d(3, 5, 4, dilation=2), (3, 20), 14 * 5 * 3 * 4),
        (nn.Conv3d(2, 3, 2), (2, 4, 4, 4), 27 * 3 * 2 * 8),
        (nn.Linear(7, 5), (11, 7), 11 * 35),
        (nn.Bilinear(4, 5, 3), [(4,), (5,)], 60),
        (nn.LSTM(10, 20, batch_first=True), (5, 10), lstm_by_hand(5, 10, 20)),
        (
            nn.LSTM(10, 20, bidirectional=True, batch_first=True),
            (5, 10),
            2 * lstm_by_hand(5, 10, 20),
        ),
        (nn.GRU(10, 20, batch_first=True), (5, 10), 5 * 3 * 20 * 30),
        (nn.RNN(10, 20, batch_first=True), (5, 10), 5 * 20 * 30),
        (nn.LSTMCell(10, 20), (10,), lstm_by_hand(1, 10, 20)),
        (
            Net(lambda net, x: net.a(x, x, x)[0], a=nn.MultiheadAttention(16, 4, batch_first=True)),
            (5, 16),
            4 * 5 * 16 * 16 + 2 * 5 * 5 * 16,
        ),
        (
            Net(lambda net, x: F.scaled_dot_product_attention(x, x, x)),
            (4, 5, 16),
            4 * 2 * 5 * 5 * 16,
        ),
        (
            Net(
                lambda net, x: torch.einsum("nchw,cd->ndhw", x, net.w),
                w=nn.Parameter(torch.zeros(3, 5)),
            ),
            (3, 8, 8),
            960,
        ),
        (nn.MaxPool2d(2), (3, 8, 8), 0),
        (nn.BatchNorm2d(3), (3, 8, 8), 0),
        (nn.ReLU(), (3, 8, 8), 0),
        (nn.Embedding(11, 6), torch.zeros(1, 4, dtype=torch.long), 0),
    ],
)
def test_multiply_adds_of_a_layer_are_those_counted_by_hand(layer, shape, multiply_adds):
    costs = cost.table(layer, shape)
    assert costs.multiply_adds == multiply_adds
    assert costs.parameters == sum(p.numel() for p in layer.parameters())


def test_a_shared_module_costs_twice_but_its_weights_count_once():
    layer = nn.Linear(8, 8)
    costs = cost.table(nn.Sequential(layer, nn.ReLU(), layer), (8,))
    assert (costs.parameters, costs.multiply_adds) == (72, 128)
    assert [row.label for row in costs] == ["0", "1", "0 (2)"]


def test_tied_weights_of_two_modules_count_once():
    words, scores = nn.Embedding(11, 6), nn.Linear(6, 11, bias=False)
    scores.weight = words.weight
    assert (
        cost.table(nn.Sequential(words, scores), torch.zeros(1, 4, dtype=torch.long)).parameters
        == 66
    )


def test_functions_between_modules_are_rows_with_names_shapes_and_inputs():
    def run(net, x):
        y = net.conv(x)
        return F.interpolate(torch.cat([x + y, F.relu(y)], 1), scale_factor=2).flatten(1)

    costs = cost.table(Net(run, conv=nn.Conv2d(3, 3, 3, padding=1)), (3, 6, 6))
    assert [row.name for row in costs] == ["conv", "add", "relu", "cat", "interpolate", "flatten"]
    assert [row.inputs for row in costs] == [(-1,), (-1, 0), (0,), (1, 2), (3,), (4,)]
    assert costs.rows[-2].output_shape == (6, 12, 12) and costs.rows[-1].is_view
    assert [row.activation_bytes // 4 for row in costs] == [108, 108, 108, 216, 864, 0]


def test_results_in_place_and_views_take_no_memory():
    def activations(inplace):
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace), nn.Flatten(), nn.Dropout()
        )
        return cost.table(net, (3, 8, 8)).activation_bytes // 4

    assert activations(True) == 192 + 256
    assert activations(False) == 192 + 2 * 256


def test_several_inputs_and_outputs_have_their_shapes():
    costs = cost.table(Net(lambda net, a, b: {"sum": a + b, "pair": (a, [b])}), [(3, 4), (3, 4)])
    assert costs.input_shape == ((3, 4), (3, 4)) and costs.input_bytes == 96
    halves = cost.table(nn.Sequential(nn.LSTM(4, 5, batch_first=True)), (3, 4))
    assert halves.rows[0].output_shape[0] == (3, 5)


def test_parameters_that_do_not_run_are_listed():
    with torch.device("meta"):
        net = models.googlenet_2014()
    quiet, training = cost.table(net, IMAGE), cost.table(net, IMAGE, training=True)
    heads = [row for row in quiet if row.note == "not run"]
    assert sum(row.parameters for row in heads) == 6_379_728
    assert quiet.parameters == training.parameters
    assert training.multiply_adds > quiet.multiply_adds and not any(row.note for row in training)


@pytest.mark.parametrize(
    "net, shape, sees",
    [
        (
            nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3)),
            (1, 20, 20),
            (7, 7),
        ),
        (
            nn.Sequential(nn.Conv2d(1, 1, 3, 2), nn.MaxPool2d(2), nn.Conv2d(1, 1, 3, dilation=2)),
            (1, 40, 40),
            (21, 21),
        ),
        (nn.Sequential(nn.Conv1d(1, 1, 3), nn.MaxPool1d(2), nn.Conv1d(1, 1, 3)), (1, 20), (8,)),
        (nn.Sequential(nn.Conv2d(1, 1, (1, 5)), nn.BatchNorm2d(1)), (1, 20, 20), (1, 5)),
        (nn.Sequential(nn.MaxPool2d(2), nn.ConvTranspose2d(1, 1, 2, 2)), (1, 8, 8), (2, 2)),
        (
            nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Linear(36, 2), nn.Linear(2, 2)),
            (1, 8, 8),
            (8, 8),
        ),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.AdaptiveAvgPool2d(1)), (1, 8, 8), (8, 8)),
        (Net(lambda net, x: x + net.a(x), a=nn.Conv2d(1, 1, 3, padding=1)), (1, 8, 8), (3, 3)),
    ],
)
def test_receptive_fields_are_the_pixels_that_reach_an_output(net, shape, sees):
    net = copy.deepcopy(net).double().eval()
    for p in net.parameters():
        nn.init.ones_(p)
    image = torch.rand(1, *shape, dtype=torch.float64, requires_grad=True)
    costs = cost.table(net, shape)
    assert costs.rows[-1].receptive_field == sees
    if any(isinstance(m, nn.MaxPool2d | nn.MaxPool1d) for m in net.modules()):
        return  # its gradient reaches one pixel of a window
    out = net(image)
    out[(0, 0, *(side // 2 for side in out.shape[2:]))].backward()
    reached = image.grad[0, 0].nonzero()
    assert tuple((reached.max(0).values - reached.min(0).values + 1).tolist()) == sees


def test_known_receptive_fields_of_the_papers():
    assert costs_of("vgg16").rows[30].receptive_field == (212, 212)  # the last pooling
    last = [row for row in costs_of("resnet18") if row.kind == "Conv2d"][-1]
    assert last.receptive_field == (435, 435)


# --- every kind of network ------------------------------------------------------------------------------------------


def by_values(net, x):
    return net.a(x) if x.sum().item() < 1 else x


@pytest.mark.parametrize(
    "run, parts",
    [
        (by_values, {"a": nn.Linear(4, 3)}),
        (lambda net, x: net.a(x), {"a": nn.Linear(4, 3), "lock": threading.Lock()}),
        (
            lambda net, x: net.a(x) * net.scale + torch.zeros(3),
            {"a": nn.Linear(4, 3), "scale": torch.ones(3)},
        ),
        (torch.inference_mode()(lambda net, x: net.a(x)), {"a": nn.Linear(4, 3)}),
        (
            lambda net, x: torch.utils.checkpoint.checkpoint(net.a, x, use_reentrant=False),
            {"a": nn.Linear(4, 3)},
        ),
    ],
    ids=["values decide", "not copyable", "plain tensors", "inference mode", "checkpoint"],
)
def test_unusual_networks_are_counted_too(run, parts):
    costs = cost.table(Net(run, **parts), (4,))
    assert (costs.parameters, costs.multiply_adds) == (15, 12)


@pytest.mark.parametrize(
    "layer, multiply_adds",
    [
        (nn.LSTM(10, 20, batch_first=True), lstm_by_hand(5, 10, 20)),
        (nn.GRU(10, 20, batch_first=True), 9000),
        (nn.TransformerEncoderLayer(10, 2, 32, batch_first=True), 4 * 500 + 2 * 250 + 2 * 1600),
        (
            Net(lambda net, x: F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])),
            500,
        ),
    ],
)
def test_fused_operations_count_their_parts_where_values_decide(layer, multiply_adds):
    def run(net, x):
        return net.layer(x) if x.sum().item() == 0 else x

    assert cost.table(Net(run, layer=layer), (5, 10)).multiply_adds == multiply_adds


def test_wrapped_and_lazy_networks_are_counted_as_what_they_wrap():
    layer = nn.Linear(4, 3)
    for wrapped in (nn.DataParallel(layer), torch.compile(layer)):
        assert [row.kind for row in cost.table(wrapped, (4,))] == ["Linear"]
    lazy = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3))
    assert cost.table(lazy, (3, 8, 8)).parameters == 112 + 435
    assert nn.parameter.is_lazy(lazy[0].weight)


def test_the_network_is_left_as_it_was():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    net[0].eval()
    before = copy.deepcopy(net.state_dict())
    modes = [m.training for m in net.modules()]
    for training in (True, False):
        cost.table(net, (3, 8, 8), training=training)
    decides = nn.Sequential(net, Net(lambda n, x: x * x.mean().item()))
    cost.table(decides, (3, 8, 8), training=True)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [m.training for m in net.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    on_meta = copy.deepcopy(net).to("meta").train()
    cost.table(on_meta, (3, 8, 8))
    assert all(m.training and not m._forward_hooks for m in on_meta.modules())
    assert net[0].weight.requires_grad and not net[0].weight.is_meta


def test_no_weight_is_allocated():
    with torch.device("meta"):
        net = models.vgg19()
    cost.table(net, IMAGE)
    gc.collect()
    tracemalloc.start()
    cost.table(net, IMAGE)
    assert tracemalloc.get_traced_memory()[1] < 3e6  # bytes; the weights would be 575 MB
    tracemalloc.stop()


def test_half_precision_takes_half_the_memory():
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    assert (
        cost.table(net.half(), (3, 8, 8)).activation_bytes * 2
        == cost.table(net.float(), (3, 8, 8)).activation_bytes
    )


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(5, 12),
)
def test_any_convolution_has_the_shape_torch_computes_and_the_formula_costs(
    c, n, k, pad, stride, groups, side
):
    layer = nn.Conv2d(c * groups, n * groups, k, stride, pad, groups=groups)
    row = cost.table(layer, (c * groups, side, side)).rows[0]
    shape = layer(torch.zeros(1, c * groups, side, side)).shape[1:]
    assert row.output_shape == tuple(shape) and row.groups == groups
    assert row.multiply_adds == shape.numel() * c * k * k


# --- text -----------------------------------------------------------------------------------------------------------


def test_the_three_forms_of_a_table_show_the_same_numbers():
    costs = costs_of("alexnet_2012")
    for text in (str(costs), costs._repr_html_(), costs.to_markdown()):
        text = html.unescape(text)
        assert (
            "34,944" in text and "60,965,224" in text and "96×55×55" in text and "2 groups" in text
        )
        assert f"{costs.multiply_adds:,}" in text
    assert len({line.count("|") for line in costs.to_markdown().splitlines()}) == 1
    assert str(costs) == repr(costs)


def test_groups_and_parts_of_a_table_add_up():
    costs = costs_of("resnet18")
    for depth in (1, 2, 3):
        grouped = costs.grouped(depth)
        assert (grouped.parameters, grouped.multiply_adds, grouped.activation_bytes) == (
            costs.parameters,
            costs.multiply_adds,
            costs.activation_bytes,
        )
    assert costs["layer1"].parameters == 147_968
    with pytest.raises(ParameterError, match="did you mean 'layer1'"):
        costs["layr1"]


# --- what a student types wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, shape, says",
    [
        ("resnet18", (1, 224, 224), ["3"]),
        ("resnet18", (1, 3, 224, 224), ["1×3×224×224"]),
        ("alexnet", (3, 20, 20), ["3×20×20"]),
        ("resnet18", (224, 224), ["224×224"]),
    ],
)
def test_a_shape_that_the_network_refuses_is_explained(name, shape, says):
    with torch.device("meta"):
        net = models.build(name)
    with pytest.raises(ShapeError) as caught:
        cost.table(net, shape)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "net, shape, expected, got, remedy",
    [
        (
            nn.Sequential(nn.Conv2d(3, 4, 3)),
            (1, 8, 8),
            "3 channels",
            "1, in an input of 1×8×8",
            "build the network for 1",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3)),
            (1, 3, 8, 8),
            "",
            "1×3×8×8",
            r"leave out the batch: (3, 8, 8)",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2)),
            (3, 9, 9),
            "144 features",
            "196",
            "size",
        ),
        (
            nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 4, 9)),
            (3, 8, 8),
            "",
            "3×8×8",
            "larger image",
        ),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(5)), (3, 8, 8), "", "3×8×8", ""),
        (nn.Embedding(5, 2), (4,), "", "4", "tensor of whole numbers"),
    ],
)
def test_the_error_names_layer_value_and_remedy(net, shape, expected, got, remedy):
    with pytest.raises(ShapeError) as caught:
        cost.table(net, shape)
    assert (
        expected in caught.value.expected
        and got in caught.value.got
        and remedy in caught.value.remedy
    )
    assert isinstance(net, nn.Embedding) or "layer " in caught.value.where


@pytest.mark.parametrize(
    "shape", [None, "3x3", (3, 8.0, 8), (0, 3, 3), [], {}, (True, 3), 7, [(3, 4), 5], (3, -1)]
)
def test_what_is_no_shape_is_refused(shape):
    with pytest.raises(ShapeError, match="whole numbers above zero"):
        cost.table(nn.Linear(4, 4), shape)


def test_what_is_no_module_is_refused():
    with pytest.raises(ParameterError, match="pass the built network"):
        cost.table("resnet18", IMAGE)


def test_values_on_the_meta_device_are_refused_and_a_bug_in_forward_is_shown_as_it_is():
    with torch.device("meta"):
        net = Net(by_values, a=nn.Linear(4, 3))
    with pytest.raises(MachineError, match="real weights"):
        cost.table(net, (4,))
    with pytest.raises(ZeroDivisionError):
        cost.table(Net(lambda net, x: x * (1 / 0)), (4,))
