"""Every network of the lectures: it can be built by name, counted, narrowed, trained, and it refuses bad input."""

import copy
import doctest
import inspect
import pkgutil
import re

import pytest
import torch
import torch.nn.functional as F

from cnncourse import cost, models
from cnncourse.errors import ParameterError, ShapeError
from cnncourse.models.inception_2014 import loss_with_heads

NAMES = models.names()
HUGE = {"resnet1202", "plain1202"}  # counted without a forward pass
NARROW = {"alexnet_2012": 8, "lenet5": 6, "inception_v4": 4, "nin_imagenet": 8, "squeezenet1_0": 24}


def form(name, *, image_size=32, width=None):
    """A narrow form of `name` for small grey images of four classes."""
    options = {"num_classes": 4, "in_channels": 1, "width": width or NARROW.get(name, 4)}
    return models.build(name, image_size=image_size, **options)


def images(network, count=4, image_size=32, seed=0):
    side = getattr(network, "side", image_size)
    return torch.randn(
        count, network.in_channels, side, side, generator=torch.Generator().manual_seed(seed)
    )


def on_meta(name, **options):
    with torch.device("meta"):
        return models.build(name, **options)


def first_weight(network):
    return next(p for p in network.parameters() if p.ndim > 1)


@pytest.mark.parametrize("name", NAMES)
def test_docstring_tells_paper_input_costs_speciality_and_lesson(name):
    function = getattr(models, name, models.resnet_cifar)
    text = re.sub(r"\s+", " ", inspect.getdoc(function))
    shape = models.input_shape(name)
    assert f"Input {shape}" in text
    assert re.search(r"Lessons? 1[1-5]", text), "the lesson"
    assert re.search(r"20\d\d|1998|Notes 000", text), "the paper"
    if name in HUGE:
        parameters = sum(p.numel() for p in on_meta(name).parameters())
    else:
        table = cost.table(on_meta(name), shape)
        parameters = table.parameters
        if function is not models.resnet_cifar or name[-2:] in ("20", "56", "10"):
            assert f"{table.multiply_adds:,}" in text
    assert f"{parameters:,}" in text
    assert "Special: " in text


@pytest.mark.parametrize("name", NAMES)
def test_one_training_step_of_a_narrow_form_has_a_finite_loss_and_reaches_the_first_layer(name):
    torch.manual_seed(0)
    network = form(name)
    x = images(network, count=2 if name in HUGE else 4, image_size=8 if name in HUGE else 32)
    if name in HUGE | {
        "plain110"
    }:  # through 1202 plain layers the gradient grows to 1e86, beyond float32
        network, x = network.double(), x.double()
    labels = torch.arange(len(x))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    before = first_weight(network).detach().clone()
    loss = loss_with_heads(network(x), labels)
    loss.backward()
    assert loss.isfinite()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(g.isfinite().all() for g in gradients)
    assert first_weight(network).grad.abs().max() > 0
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    assert not torch.equal(before, first_weight(network)), "the step changes the first layer"
    network.eval()
    with torch.no_grad():
        assert network(x).shape == (len(x), 4)
        assert network(x).isfinite().all()


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in HUGE | {"alexnet_lecture_repaired"}]
)
def test_every_parameter_takes_part_in_the_answer(name):
    torch.manual_seed(0)
    network = form(name)
    network.drop_path = 0.0  # FractalNet: run every column
    for module in network.modules():
        if hasattr(module, "survival"):
            module.survival = 1.0
    loss_with_heads(network(images(network, 2)), torch.tensor([0, 1])).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    "image_size, name",
    [
        (image_size, name)
        for name in NAMES
        if name not in HUGE
        for image_size in (8, 16, 64)
        if not (name == "alexnet_lecture" and image_size < 24)
    ],
)  # its unpadded convolutions leave nothing of 16 pixels
def test_images_from_8_to_64_pixels_fit(name, image_size):
    with torch.device("meta"):
        network = form(name, image_size=image_size).eval()
    assert network(torch.empty(2, 1, image_size, image_size, device="meta")).shape == (2, 4)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in HUGE])
@pytest.mark.parametrize("small", [False, True])
def test_the_smallest_image_fits_and_one_pixel_less_does_not(name, small):
    with torch.device("meta"):
        network = (form(name) if small else models.build(name)).eval()
    channels, least = network.in_channels, network.smallest
    assert network(torch.empty(2, channels, least, least, device="meta")).ndim == 2
    if least == 1:
        return
    too_small = torch.empty(2, channels, least - 1, least - 1, device="meta")
    with pytest.raises(
        ShapeError, match=rf"at least {least} x {least} pixels|images of {least} x {least}"
    ):
        network(too_small)
    if hasattr(network, "side") or name.startswith("overfeat"):
        return  # built for one size; OverFeat's linear layers are convolutions, which a smaller map may not fill
    network.__dict__["smallest"] = (
        1  # with the check out of the way torch itself refuses: the number is true
    )
    if network.smallest == 1:
        with pytest.raises(RuntimeError):
            network(too_small)


def test_inception_v3_needs_299_pixels_only_while_its_head_trains():
    network = on_meta("inception_v3", width=4)
    with pytest.raises(ShapeError, match="at least 299 x 299"):
        network(torch.empty(2, 3, 298, 298, device="meta"))
    assert network(torch.empty(2, 3, 299, 299, device="meta")).aux_logits.shape == (2, 1000)
    assert network.eval()(torch.empty(2, 3, 75, 75, device="meta")).shape == (2, 1000)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in HUGE])
def test_width_is_the_number_of_maps_of_the_first_convolution(name):
    with torch.device("meta"):
        network = form(name, width=12)
    first = first_weight(network)
    if name == "bn_inception":  # its stem begins with a depthwise convolution
        first = network.conv1[1].conv.weight
    assert first.shape[0] == 12
    with torch.device("meta"):
        wider = form(name, width=24)
    count = [sum(p.numel() for p in n.parameters()) for n in (network, wider)]
    assert 1.2 < count[1] / count[0] < 4.5, "all layers follow"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "option, value", [("num_classes", 0), ("in_channels", 1.5), ("width", 0), ("widht", 8)]
)
def test_bad_options_are_named(name, option, value):
    with pytest.raises(ParameterError) as raised, torch.device("meta"):
        models.build(name, **{option: value})
    assert option in str(raised.value)
    assert str(value) in str(raised.value) or option == "widht"
    if option == "widht":
        assert "did you mean 'width'?" in str(raised.value)


def test_an_unknown_name_answers_with_the_nearest():
    with pytest.raises(ParameterError, match="did you mean 'resnet50'"):
        models.build("resnt50")
    with pytest.raises(ParameterError, match="models.names"):
        models.input_shape("transformer")


@pytest.mark.parametrize(
    "depth, remedy", [(21, "take 20 or 26"), (7, "depth=8 or more"), (20.0, "without a fraction")]
)
def test_a_depth_that_is_not_6n_plus_2_answers_with_the_nearest(depth, remedy):
    with pytest.raises(ParameterError, match=remedy):
        models.resnet_cifar(depth)


@pytest.mark.parametrize(
    "call, remedy",
    [
        (lambda: models.wide_resnet_cifar(29), "take 28 or 34"),
        (lambda: models.preact_resnet_cifar(165, bottleneck=True), "take 164 or 173"),
        (lambda: models.densenet_cifar(41), "take 40 or 43"),
        (lambda: models.densenet_cifar(5), "depth=7"),
        (lambda: models.densenet_cifar(40, 0), "growth=1"),
        (lambda: models.densenet121(compression=0), "write 0.5"),
        (lambda: models.lenet5(image_size=0), "image_size=4"),
        (lambda: models.alexnet_lecture(image_size=23), "image_size=24"),
        (lambda: models.resnet18(stride_at="1x1"), "resnet50"),
        (lambda: models.build("VGG16"), "did you mean .vgg16"),
        (lambda: models.squeezenet.SqueezeNet("2"), "choose one of 1_0, 1_1"),
        (lambda: models.resnet18(pretrained=True), "weights"),
        (lambda: models.lenet5(width=8), "take 6 or 12"),
        (lambda: models.alexnet_2012(width=7), "take 8"),
        (lambda: models.alexnet_2012(image_size=65), "take 64 or 67"),
        (lambda: models.stochastic_depth_cifar(20, survival=0), "write 0.5"),
        (lambda: models.resnet18(shortcut="D"), "choose one of A, B, C"),
        (lambda: models.fractalnet_cifar(3, 6), "blocks=3"),
        (lambda: models.inception_v4(blocks=(1, 1)), r"blocks=\(1, 1, 1\)"),
        (
            lambda: models.resnet_cifar(20, batch_norm=False, zero_init_residual=True),
            "keep BatchNorm",
        ),
    ],
)
def test_an_unusable_value_answers_with_usable_ones(call, remedy):
    with pytest.raises(ParameterError, match=remedy):
        call()


def test_wrong_images_are_refused_with_the_remedy():
    network = form("resnet18", width=2)
    with pytest.raises(ShapeError, match=r"in_channels=3") as raised:
        network(torch.zeros(2, 3, 8, 8))
    assert "1 input channels" in str(raised.value) and "(2, 3, 8, 8)" in str(raised.value)
    with pytest.raises(ShapeError, match=r"image\[None\]"):
        network(torch.zeros(1, 8, 8))
    with pytest.raises(ShapeError, match="float\\(\\) / 255"):
        network(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    with pytest.raises(ShapeError, match="torch.as_tensor"):
        network([1, 2])
    with pytest.raises(ShapeError, match=r"images.to\(torch.float32\)"):
        network(torch.zeros(2, 1, 8, 8, dtype=torch.float64))
    with pytest.raises(ShapeError, match="images on cpu, where the network is"):
        network(torch.zeros(2, 1, 8, 8, device="meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert network(torch.zeros(2, 1, 8, 8, dtype=torch.bfloat16)).shape == (2, 4)
    with pytest.raises(ShapeError, match="images of 32 x 32 pixels"):
        form("alexnet_2012", image_size=32)(torch.zeros(2, 1, 28, 28))


@pytest.mark.parametrize(
    "name",
    [
        "lenet5",
        "alexnet_2012",
        "resnet20",
        "googlenet_2014",
        "fractalnet_cifar",
        "densenet_cifar",
        "highway_cifar",
    ],
)
def test_float64_networks_and_copies_give_the_same_answer(name):
    torch.manual_seed(0)
    network = form(name).double().eval()
    x = images(network).double()
    twin = copy.deepcopy(network)
    restored = form(name).double().eval()
    restored.load_state_dict(network.state_dict())
    assert network(x).dtype == torch.float64
    assert torch.equal(network(x), twin(x)) and torch.equal(network(x), restored(x))


@pytest.mark.parametrize(
    "module",
    [models, *(getattr(models, i.name) for i in pkgutil.iter_modules(models.__path__))],
    ids=lambda module: module.__name__,
)
def test_examples_of_the_docstrings_give_what_they_say(module):
    results = doctest.testmod(module, extraglobs={"torch": torch, "models": models})
    assert results.failed == 0


def test_the_same_seed_gives_the_same_weights():
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        weights.append(torch.cat([p.flatten() for p in models.resnet_cifar(20).parameters()]))
    assert torch.equal(*weights)


def test_loss_with_heads_adds_three_tenths_of_each_head_and_its_gradient():
    torch.manual_seed(0)
    network = form("googlenet_2014")
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    x, labels = images(network), torch.arange(4)
    outputs = network(x)
    parts = [
        F.cross_entropy(o, labels)
        for o in (outputs.logits, outputs.aux_logits1, outputs.aux_logits2)
    ]
    weight = network.conv1[0].weight
    alone = [torch.autograd.grad(part, weight, retain_graph=True)[0] for part in parts]
    total = loss_with_heads(outputs, labels)
    assert torch.allclose(total, parts[0] + 0.3 * (parts[1] + parts[2]))
    together = torch.autograd.grad(total, weight)[0]
    assert torch.allclose(together, alone[0] + 0.3 * (alone[1] + alone[2]), atol=1e-6)
    smooth = loss_with_heads(outputs.logits, labels, label_smoothing=0.1)
    assert torch.allclose(smooth, F.cross_entropy(outputs.logits, labels, label_smoothing=0.1))
