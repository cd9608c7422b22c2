"""Costs of single layers and unusual networks are those counted by hand; what is typed wrong is explained."""

import copy
import gc
import html
import threading
import tracemalloc

import pytest
import torch
from cost_nets import IMAGE, Net, costs_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from cnncourse import cost, models
from cnncourse.errors import MachineError, ParameterError, ShapeError

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
