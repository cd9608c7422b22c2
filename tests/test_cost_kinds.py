"""Kinds of networks whose costs are easily told wrong: rearranged pixels, other orders of axes, packed weights."""

import random
import warnings
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from cost_nets import Net
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from cnncourse import cost
from cnncourse.errors import ParameterError, ShapeError


def conv(channels=1, kernel=3, **options):
    return nn.Conv2d(channels, 1, kernel, **options)


def up(mode, scale):
    return nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=scale, mode=mode), conv())


def antialiased(mode):
    def run(net, x):
        return net.b(F.interpolate(net.a(x), size=(8, 8), mode=mode, antialias=True))

    return Net(run, a=conv(), b=conv())


def quarters(x):  # the first layer of some detectors: four interleaved quarters as channels
    return torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)


def patches(x):
    n, c, h, w = x.shape
    cut = x.reshape(n, c, h // 2, 2, w // 2, 2)
    return cut.permute(0, 1, 3, 5, 2, 4).reshape(n, 4 * c, h // 2, w // 2)


def in_windows(net, x):  # a step among the pixels of each 6 x 6 window, shifted by 2
    x = net.a(x).roll((2, 2), (2, 3)).reshape(len(x), 1, 4, 6, 4, 6).permute(0, 1, 2, 4, 3, 5)
    x = net.b(x.reshape(-1, 36)).reshape(-1, 1, 4, 4, 6, 6).permute(0, 1, 2, 4, 3, 5)
    return x.reshape(-1, 1, 24, 24)


def shuffled(net, x):
    x = torch.cat([net.a(x), net.a(x), net.b(x), net.b(x)], 1)
    x = x.view(len(x), 2, 2, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
    return net.c(x)


def halves_written(net, x):
    y = net.a(x)
    out = x.new_zeros(len(x), 2, *y.shape[2:])
    out[:, :1] = y
    out[:, 1:] = net.b(x)
    return net.c(out)


def gate(net, x):
    y = net.a(x)
    return net.b(y * net.c(y.mean((2, 3), keepdim=True)))


# --- receptive fields: the gradient is the truth --------------------------------------------------------------------


def measured(net, shape):
    """The largest extent of the pixels that reach one output value, over positions and channels, by the gradient."""
    net = net.double().eval()
    for p in net.parameters():
        nn.init.uniform_(p, 0.5, 1.0)
    x = torch.rand(1, *shape, dtype=torch.float64).add(1).requires_grad_()
    values, most = net(x).flatten(), [0] * (len(shape) - 1)
    for i in range(0, len(values), max(1, len(values) // 400)):
        reached = torch.autograd.grad(values[i], x, retain_graph=True)[0][0].abs().sum(0).nonzero()
        if len(reached):
            extent = (reached.max(0).values - reached.min(0).values + 1).tolist()
            most = [max(pair) for pair in zip(most, extent, strict=True)]
    return tuple(most)


RESIZED = [
    (mode, scale) for mode in ("nearest", "nearest-exact", "bilinear") for scale in (2, 1.5, 0.5)
]
REARRANGED = {
    **{f"{mode} by {scale}": up(mode, scale) for mode, scale in [*RESIZED, ("bicubic", 4)]},
    "bilinear antialiased": antialiased("bilinear"),
    "bicubic antialiased": antialiased("bicubic"),
    "corners aligned": nn.Sequential(
        nn.AvgPool2d(2), nn.Upsample(size=(25, 25), mode="bilinear", align_corners=True), conv()
    ),
    "pixel shuffle": nn.Sequential(nn.Conv2d(1, 4, 3), nn.PixelShuffle(2), conv()),
    "pixel unshuffle": nn.Sequential(nn.PixelUnshuffle(2), conv(4)),
    "pixel unshuffle, depthwise": nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 4, 3, groups=4)),
    "quarters": Net(lambda net, x: net.a(quarters(x)), a=conv(4)),
    "patches": Net(lambda net, x: net.a(patches(x)), a=conv(4)),
    "every second pixel": Net(lambda net, x: net.a(x[..., ::2, ::2]), a=conv()),
    "rows and columns exchanged": Net(lambda net, x: net.a(x.transpose(2, 3)), a=conv(1, (1, 5))),
    "unfold": Net(lambda net, x: F.unfold(net.a(x), 3, stride=2), a=conv()),
    "Tensor.unfold": Net(lambda net, x: net.a(x).unfold(2, 3, 2).sum(-1), a=conv()),
    "patches to tokens": Net(
        lambda net, x: net.b(net.a(x).flatten(2).transpose(1, 2)), a=nn.Conv2d(1, 4, 4, 4), b=nn.Linear(4, 3)
    ),
    "mirrored and added": Net(lambda net, x: net.a(x) + net.a(x).flip(3), a=conv()),
    "neighbours added": Net(lambda net, x: net.a(x)[..., :-2] + net.a(x)[..., 2:], a=conv()),
    "upper and lower half": Net(
        lambda net, x: net.b(torch.cat([net.a(x)[:, :, :8], net.a(x)[:, :, 8:16]], 1)), a=conv(), b=conv(2)
    ),
    "written in halves": Net(halves_written, a=conv(), b=conv(), c=conv(2, 1)),
    "channels last": Net(
        lambda net, x: net.b(net.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2), a=nn.Conv2d(1, 4, 3), b=nn.Linear(4, 2)
    ),
    "transposed convolution": nn.Sequential(nn.AvgPool2d(2), nn.ConvTranspose2d(1, 1, 3, 2, 1), conv()),
    "transposed with gaps": nn.Sequential(nn.AvgPool2d(2), nn.ConvTranspose2d(1, 1, 2, 3), conv()),
    "squeeze and excitation": Net(gate, a=conv(), b=conv(), c=conv(1, 1)),
    "mean of rows": Net(lambda net, x: net.a(x).mean(3), a=conv()),
    "chosen channels": Net(lambda net, x: net.b(net.a(x)[:, [0, 2]]), a=nn.Conv2d(1, 4, 3), b=conv(2)),
    "rolled": Net(lambda net, x: net.b(net.a(x).roll((-3, 2), (2, 3))), a=conv(), b=conv()),
    "rolled there and back": Net(
        lambda net, x: net.b(net.a(x).roll((-3, 2), (2, 3)).roll((3, -2), (2, 3))), a=conv(), b=conv()
    ),
    "in windows and back": Net(in_windows, a=conv(1, 1), b=nn.Linear(36, 36)),
    "maps of several windows": Net(
        lambda net, x: net.c(torch.cat([net.a(x), net.b(x)], 1)), a=conv(), b=conv(1, 5, padding=1), c=conv(2)
    ),
    "channels shuffled": Net(shuffled, a=conv(), b=conv(1, 5, padding=1), c=nn.Conv2d(4, 4, 3, groups=4)),
    "channels shuffled and split": Net(
        lambda net, x: net.d(shuffled(net, x).split(2, 1)[1]), a=conv(), b=conv(1, 5, padding=1),
        c=nn.Conv2d(4, 4, 3, groups=4), d=nn.Conv2d(2, 2, 1, groups=2),
    ),
    "rows unbound and squeezed": Net(
        lambda net, x: net.b(torch.stack(net.a(x).squeeze(1).unbind(1)[3:9], 1).unsqueeze(1)), a=conv(), b=conv()
    ),
    "a row expanded": Net(lambda net, x: net.a(x)[:, :, :1].expand(-1, -1, 9, -1) + net.a(x)[:, :, :9], a=conv()),
    "times its transpose": Net(lambda net, x: net.a(x) @ net.a(x).transpose(2, 3), a=conv()),
}  # fmt: skip


@pytest.mark.parametrize("name", REARRANGED)
def test_the_receptive_field_is_what_the_gradient_reaches(name):
    net = REARRANGED[name]
    last = cost.table(net, (1, 24, 24)).rows[-1]
    assert last.unknown == ()
    assert last.receptive_field == measured(net, (1, 24, 24))


@pytest.mark.parametrize(
    "run",
    [
        lambda net, x: F.grid_sample(
            x, F.affine_grid(x.mean((1, 2, 3)) * net.w, x.shape, False), align_corners=False
        ),
        lambda net, x: F.fold(F.unfold(x, 2, stride=2), x.shape[2:], 2, stride=2),
        lambda net, x: x[:, :, [0, 5]],
        lambda net, x: x.sort(3).values,
    ],
    ids=["grid_sample", "fold", "chosen rows", "sort"],
)  # fmt: skip
def test_what_cannot_be_followed_is_unknown_and_stays_so(run):
    net = Net(
        lambda net, x: net.a(run(net, net.a(x))), a=conv(1, 1), w=nn.Parameter(torch.ones(1, 2, 3))
    )
    costs = cost.table(net, (1, 8, 8))
    last = [row for row in costs if not row.note][-1]
    assert last.unknown == ("receptive field",) and last.receptive_field is None
    assert any(line.startswith("a ") and "?" in line for line in str(costs).splitlines())


def test_the_places_of_an_affine_grid_are_a_product_of_matrices():
    theta = nn.Parameter(torch.eye(2, 3)[None])
    torchs = Net(
        lambda net, x: F.affine_grid(net.theta, [1, 1, 5, 7], align_corners=False) + x, theta=theta
    )
    plain = Net(
        lambda net, x: (x.new_ones(35, 3) @ net.theta[0].T).view(1, 5, 7, 2) + x, theta=theta
    )
    counts = {cost.table(net, (5, 7, 2)).multiply_adds for net in (torchs, plain)}
    assert counts == {5 * 7 * 2 * 3}


def test_pairs_as_complex_numbers_are_followed_and_bits_of_another_type_are_not():
    def rotated(net, x):  # neighbours of a row turned as one number, as rotary embeddings do
        pairs = torch.view_as_complex(net.a(x)[..., :20].unflatten(3, (10, 2))) * net.w
        return net.b(torch.view_as_real(pairs).flatten(3))

    turn = nn.Parameter(torch.ones(10, dtype=torch.complex64))
    last = cost.table(Net(rotated, a=conv(), b=conv(), w=turn), (1, 24, 24)).rows[-1]
    assert (last.receptive_field, last.unknown) == ((5, 6), ())  # two pairs of columns
    halves = Net(lambda net, x: net.a(x).view(torch.int16), a=conv())
    assert cost.table(halves, (1, 24, 24)).rows[-1].unknown == ("receptive field",)


def test_pixels_are_counted_exactly_whatever_the_default_type():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)  # holds whole numbers up to 256
    try:
        last = cost.table(up("nearest", 2), (1, 600, 600)).rows[-1]
    finally:
        torch.set_default_dtype(before)
    assert last.receptive_field == (4, 4)


def test_what_is_unknown_ends_where_everything_is_seen():
    def run(net, x):
        y = net.a(x).mean((2, 3), keepdim=True)
        return y.sort(3).values

    assert cost.table(Net(run, a=conv()), (1, 8, 8)).rows[-1].receptive_field == (8, 8)


# --- one image, whatever the order of axes --------------------------------------------------------------------------

BY_HAND = {
    "LSTM": (lambda first: nn.LSTM(6, 8, batch_first=first), 6, 5 * 4 * 8 * (6 + 8)),
    "LSTM with projection": (
        lambda first: nn.LSTM(6, 8, proj_size=3, batch_first=first),
        6,
        5 * (4 * 8 * (6 + 3) + 8 * 3),
    ),
    "two-layer GRU": (
        lambda first: nn.GRU(6, 8, 2, batch_first=first),
        6,
        5 * 3 * 8 * (6 + 8 + 8 + 8),
    ),
    "Transformer layer": (
        lambda first: nn.TransformerEncoderLayer(16, 4, 32, batch_first=first),
        16,
        5 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 5 * 5 * 16,
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("images", [1, 3])
def test_sequences_cost_the_same_in_both_orders_of_axes(name, batch_first, images):
    make, features, by_hand = BY_HAND[name]
    x = torch.zeros(images, 5, features)
    x = x if batch_first else x.transpose(0, 1)
    assert cost.table(make(batch_first), x).multiply_adds == by_hand
    assert cost.table(make(batch_first), (5, features)).multiply_adds == by_hand
    inside = Net(
        lambda net, x: net.a(x.transpose(0, 1)), a=make(not batch_first)
    )  # it turns the axes itself
    assert cost.table(inside, x).multiply_adds == by_hand


def test_a_sequence_without_a_batch_is_refused_with_what_to_do():
    with pytest.raises(ShapeError, match="batch_first=True"):
        cost.table(nn.LSTM(6, 8), torch.zeros(5, 6))


def test_products_of_weights_alone_count_once_however_many_images():
    net = Net(
        lambda net, x: F.linear(x, net.a @ net.b),
        a=nn.Parameter(torch.ones(4, 2)),
        b=nn.Parameter(torch.ones(2, 6)),
    )
    for training in (False, True):
        assert cost.table(net, (6,), training=training).multiply_adds == 4 * 2 * 6 + 6 * 4
    assert cost.table(net, torch.zeros(7, 6)).multiply_adds == 4 * 2 * 6 + 6 * 4


# --- what is given --------------------------------------------------------------------------------------------------


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.words = nn.Conv2d(3, 3, 3), nn.Embedding(10, 3)

    def forward(self, image, word):
        return self.conv(image).mean((2, 3)) + self.words(word)


class Nested(Named):
    def forward(self, batch):
        return super().forward(batch["pair"]["image"], batch["pair"]["word"])


@pytest.mark.parametrize(
    "net, given",
    [
        (Named(), [(3, 8, 8), torch.tensor([1])]),
        (Named(), {"image": (3, 8, 8), "word": torch.tensor([1])}),
        (Named(), {"image": torch.zeros(2, 3, 8, 8), "word": torch.tensor([1, 2])}),
        (Nested(), {"pair": {"image": (3, 8, 8), "word": torch.tensor([1])}}),
    ],
)
def test_inputs_may_be_shapes_and_tensors_by_place_or_by_name(net, given):
    assert cost.table(net, given).multiply_adds == 36 * 3 * 27


@pytest.mark.parametrize(
    "shape", [np.array([3, 8, 8]), tuple(np.array([3, 8, 8])), torch.Size([3, 8, 8]), [3, 8, 8]]
)
def test_whole_numbers_of_any_package_are_a_shape(shape):
    costs = cost.table(nn.Conv2d(3, 4, 3), shape)
    assert costs.multiply_adds == 36 * 108 and costs.input_shape == (3, 8, 8)


def test_a_missing_input_is_named():
    with pytest.raises(ShapeError, match="2 inputs that forward takes: image, word"):
        cost.table(Named(), (3, 8, 8))


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (8, 3, 32, 32)])
def test_a_shape_with_its_batch_is_answered_with_what_to_type(shape):
    from cnncourse import models

    for net in (models.resnet_cifar(8), nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))):
        with pytest.raises(ShapeError) as caught:
            cost.table(net, shape)
        assert caught.value.remedy == "leave out the batch: (3, 32, 32)"


# --- packed weights, branches, and what cannot be counted -----------------------------------------------------------


@pytest.mark.filterwarnings(
    "ignore:.*torch.ao.quantization:DeprecationWarning"
)  # torch announces its successor
@pytest.mark.filterwarnings("ignore:.*TypedStorage:UserWarning")  # torch's own packing of weights
def test_quantised_layers_cost_what_they_cost_before():
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 10), nn.ReLU(), nn.Linear(10, 3))
    before = cost.table(net, (3, 4, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the successor of its quantisation
        quantised = torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)
        after = cost.table(quantised, (3, 4, 4))
    assert (
        (after.parameters, after.multiply_adds)
        == (before.parameters, before.multiply_adds)
        == (523, 510)
    )


def test_quantised_convolutions_cost_and_see_what_is_counted_by_hand():
    parts = [
        torch.ao.quantization.QuantStub(),
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 3·9·8 + 8 = 224, on 16 x 16: 256·216 = 55,296
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=4),  # 2·9·8 + 8 = 152, on 14 x 14: 28,224
        nn.MaxPool2d(2),
        nn.Conv2d(8, 4, 1, bias=False),  # 32, on 7 x 7: 1,568
        nn.Conv2d(4, 6, 3, dilation=2),  # 4·9·6 + 6 = 222, on 3 x 3: 1,944
        torch.ao.quantization.DeQuantStub(),
    ]
    net = nn.Sequential(*parts).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the successor of its quantisation
        engine = torch.backends.quantized.engine
        net.qconfig = torch.ao.quantization.get_default_qconfig(engine)
        ready = torch.ao.quantization.prepare(torch.ao.quantization.fuse_modules(net, [["1", "2"]]))
        ready(torch.rand(2, 3, 32, 32))
        costs = cost.table(torch.ao.quantization.convert(ready), (3, 32, 32))
    rows = {row.name: row for row in costs}
    assert [rows[name].parameters for name in "1356"] == [224, 152, 32, 222]
    assert [rows[name].multiply_adds for name in "1356"] == [55_296, 28_224, 1_568, 1_944]
    sees = {"0": 1, "1": 3, "3": 7, "4": 9, "5": 9, "6": 25, "7": 25}
    assert {name: rows[name].receptive_field for name in sees} == {
        n: (s, s) for n, s in sees.items()
    }
    assert (rows["1"].kernel, rows["1"].stride, rows["1"].padding) == ((3, 3), (2, 2), (1, 1))
    assert rows["3"].groups == 4 and rows["1"].activation_bytes == 8 * 16 * 16  # a byte a value
    assert not any(row.unknown for row in costs)


def test_what_cannot_be_counted_warns_and_is_shown_as_unknown():
    net = Net(lambda net, x: torch.linalg.inv(net.a(x)), a=nn.Linear(4, 4))
    with pytest.warns(UserWarning, match="cannot count the multiply-adds of .*inv"):
        costs = cost.table(net, (4, 4))
    assert [row.kind for row in costs.uncounted] == ["linalg_inv"]
    for text in (str(costs), costs.to_markdown(), costs._repr_html_(), str(costs.grouped())):
        assert "64 + ?" in text


def test_operations_of_others_are_unknown():
    @torch.library.custom_op("cnncourse_tests::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    @twice.register_fake
    def _(x):
        return torch.empty_like(x)

    with pytest.warns(UserWarning, match="cannot count"):
        row = cost.table(Net(lambda net, x: twice(net.a(x)), a=conv()), (1, 8, 8)).rows[-1]
    assert row.unknown == ("multiply-adds", "receptive field")


def test_branches_and_flexible_attention_are_counted():
    from torch.nn.attention.flex_attention import flex_attention

    def branch(net, x):
        return torch.cond(x.sum() > 0, lambda y: net.a(y), lambda y: net.b(y), (x,))

    net = Net(branch, a=nn.Conv2d(3, 3, 3), b=nn.Conv2d(3, 3, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises to compile, which counting must not
        assert cost.table(net, (3, 8, 8)).multiply_adds == 36 * 3 * 27
        q = torch.zeros(1, 4, 128, 16)
        attention = Net(lambda net, q: flex_attention(q, q, q))
        assert cost.table(attention, q).multiply_adds == 2 * 4 * 128 * 128 * 16


@pytest.mark.filterwarnings(
    "ignore:.*torch.jit:DeprecationWarning"
)  # old networks are still scripted
def test_torchscript_is_refused_with_what_to_do():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of TorchScript
        scripted = torch.jit.script(nn.ReLU())
    with pytest.raises(ParameterError, match="before torch.jit.script"):
        cost.table(nn.Sequential(nn.Conv2d(3, 8, 3), scripted), (3, 8, 8))


# --- nothing else is touched ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Settings:
    width: int = 4


@dataclass
class Node:
    parent: object = None
    children: list = field(default_factory=list)


def tree():
    root = Node()
    root.children.append(Node(root))
    return root


def ring():
    values = []
    values.append(values)
    return values


@pytest.mark.parametrize(
    "value", [Settings(), Settings, tree(), ring()], ids=["slots", "class", "tree", "ring"]
)
def test_objects_of_others_in_a_network_are_not_walked_through(value):
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    net.note = value
    assert cost.table(net, (3, 8, 8)).parameters == 112


def test_random_streams_and_hooks_of_the_user_are_left_alone():
    def run(net, x):
        noise = random.random() + np.random.rand() + torch.rand((), generator=net.generator).item()
        y = net.drop(net.conv(x))
        return (
            y if float(y.detach().sum()) >= noise - 9 else -y
        )  # a value decides: traced on the real device

    net = Net(run, conv=nn.Conv2d(3, 4, 3), drop=nn.Dropout(0.5), generator=torch.Generator())
    kept = []
    net.conv.register_forward_hook(lambda module, inputs, output: kept.append(output))
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *args: kept.append(args))

    def states():
        return (
            random.getstate(),
            np.random.get_state()[1].tolist(),
            torch.get_rng_state(),
            net.generator.get_state(),
        )

    before = states()
    try:
        cost.table(net, (3, 8, 8), training=True)
        assert kept == []
        assert all(str(a) == str(b) for a, b in zip(before, states(), strict=True))
        assert all(torch.equal(a, b) for a, b in zip(before[2:], states()[2:], strict=True))
        net(torch.zeros(1, 3, 8, 8))
        assert len(kept) >= 2  # the hooks are back
    finally:
        handle.remove()


def test_hooks_of_torch_that_compute_weights_do_run():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    pruned = nn.Linear(4, 3)
    prune.l1_unstructured(pruned, "weight", 2)
    for net in (layer, pruned):
        assert cost.table(net, (4,)).multiply_adds == 12


def test_writing_into_slices_keeps_the_layers_that_wrote():
    net = Net(halves_written, a=conv(), b=conv(), c=conv(2, 1))
    costs = cost.table(net, (1, 8, 8))
    assert {costs.rows[i].name for i in costs.rows[-1].inputs} >= {"a", "b"}


def test_weights_that_are_written_into_a_tensor_are_counted():
    def run(net, x):
        out = torch.zeros(2, 4)
        out[0] = net.w
        return x + out.sum(0)

    assert cost.table(Net(run, w=nn.Parameter(torch.ones(4))), (4,)).parameters == 4
