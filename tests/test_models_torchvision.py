"""Where torchvision has the network: the same names, defaults, layers, outputs and official weights."""

import functools
import http.server
import threading

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from cnncourse import models
from cnncourse.errors import DataError, ParameterError

SHARED = [
    "alexnet",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "vgg11_bn",
    "vgg13_bn",
    "vgg16_bn",
    "vgg19_bn",
    "googlenet",
    "inception_v3",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "wide_resnet50_2",
    "wide_resnet101_2",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "squeezenet1_0",
    "squeezenet1_1",
]


def theirs(name, **options):
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False  # torchvision warns when this is left open
    return getattr(torchvision.models, name)(**options)


def pair(name, **options):
    """Our network and torchvision's with one set of weights in both, made on the meta device first to save time."""
    with torch.device("meta"):
        networks = getattr(models, name)(**options), theirs(name, **options)
    generator = torch.Generator().manual_seed(0)
    shared, batch_statistics = {}, {}
    for key, value in networks[1].state_dict().items():
        if value.ndim > 1:  # weights: variance 2 / fan_in
            shared[key] = (
                torch.empty(value.shape).uniform_(-1, 1, generator=generator)
                * (6 / value[0].numel()) ** 0.5
            )
        elif key.endswith("num_batches_tracked"):
            batch_statistics[key] = torch.zeros((), dtype=torch.long)
        elif "running" in key:
            batch_statistics[key] = torch.rand(value.shape, generator=generator) + 0.5
        else:
            shared[key] = (
                torch.rand(value.shape, generator=generator) - 0.5 + key.endswith("weight")
            )
    for network in networks:
        network.load_state_dict(
            shared | {k: v.clone() for k, v in batch_statistics.items()}, assign=True
        )
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    return networks


def test_every_shared_name_is_there():
    assert all(name in models.names() and hasattr(models, name) for name in SHARED)
    families = (
        "alexnet",
        "vgg",
        "googlenet",
        "inception_v3",
        "resnet",
        "wide_resnet",
        "densenet",
        "squeezenet",
    )
    listed = [
        n
        for n in torchvision.models.list_models(module=torchvision.models)
        if n.startswith(families)
    ]
    assert sorted(SHARED) == sorted(listed)


@pytest.mark.parametrize("name", SHARED)
def test_state_dict_has_the_same_keys_shapes_and_order(name):
    with torch.device("meta"):
        ours, reference = getattr(models, name)(), theirs(name)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, v.shape) for k, v in reference.state_dict().items()
    ]


@pytest.mark.parametrize("name", SHARED)
def test_defaults_are_torchvisions(name):
    with torch.device("meta"):
        networks = getattr(models, name)(), theirs(name)
    for attribute in ("dropout", "aux_logits", "transform_input"):
        if hasattr(networks[1], attribute) and not isinstance(
            getattr(networks[1], attribute), nn.Module
        ):
            assert getattr(networks[0], attribute) == getattr(networks[1], attribute)
    settings = []
    for network in networks:
        settings.append(
            [
                (type_before_parametrizations(m), m.extra_repr().replace(", inplace=True", ""))
                for m in network.modules()
                if isinstance(m, nn.Dropout | nn.BatchNorm2d | nn.Conv2d)
            ]
        )
    assert settings[0] == settings[1]


@pytest.mark.parametrize("name", SHARED)
def test_parameters_and_multiply_adds_are_those_published_with_the_weights(name):
    meta = torchvision.models.get_model_weights(name).IMAGENET1K_V1.meta
    side = 299 if name == "inception_v3" else 224
    from cnncourse import cost

    with torch.device("meta"):
        network = getattr(models, name)()
    if name in (
        "googlenet",
        "inception_v3",
    ):  # published without the auxiliary heads for googlenet, with for inception
        network.aux_logits = network.aux_logits and name == "inception_v3"
        heads = [] if name == "inception_v3" else ["aux1", "aux2"]
        for head in heads:
            delattr(network, head)
    assert sum(p.numel() for p in network.parameters()) == meta["num_params"]
    table = cost.table(network.eval(), (3, side, side))
    assert abs(table.multiply_adds / 1e9 / meta["_ops"] - 1) < 0.01


@pytest.mark.parametrize("name", SHARED)
def test_outputs_are_equal_in_evaluation_and_training_and_so_are_the_batch_statistics(name):
    ours, reference = pair(name)
    side = max(ours.train().smallest, 64 if "dense" in name or "resnet" in name else 0)
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(ours.eval()(x), reference.eval()(x))
        trained, expected = ours.train()(x), reference.train()(x)
    if isinstance(expected, tuple):
        assert trained._fields == expected._fields
    else:
        trained, expected = (trained,), (expected,)
    for our, their in zip(trained, expected, strict=True):
        assert torch.equal(our, their) and our.isfinite().all() and our.std() > 0
    for (key, our), their in zip(ours.named_buffers(), reference.buffers(), strict=True):
        assert torch.equal(our, their), key


@pytest.mark.parametrize(
    "name",
    ["alexnet", "vgg11_bn", "googlenet", "resnet18", "resnet50", "densenet121", "squeezenet1_1"],
)
def test_gradients_of_the_first_and_last_layers_are_equal(name):
    ours, reference = pair(name, num_classes=10)
    side = max(ours.smallest, 64 if "dense" in name or "resnet" in name else 0)
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    gradients = []
    for network in (ours, reference):
        outputs = network.train()(x)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = sum(nn.functional.cross_entropy(o, torch.tensor([1, 7])) for o in outputs)
        weights = [p for p in network.parameters() if p.ndim > 1]
        gradients.append(torch.autograd.grad(loss, [*weights[:4], weights[-1]]))
    for our, their in zip(*gradients, strict=True):
        torch.testing.assert_close(our, their)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_transform_input_equals_torchvisions(name):
    ours, reference = pair(name, transform_input=True)
    side = ours.eval().smallest
    x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    assert torch.equal(ours(x), reference.eval()(x))


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_without_heads_training_gives_plain_logits(name):
    ours, reference = pair(name, aux_logits=False, num_classes=3)
    side = ours.train().smallest
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    assert torch.equal(ours(x), reference.train()(x))


def planted(folder, name, state):
    """Puts `state` where torchvision would have downloaded the official weights of `name` to."""
    entry = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    file = folder / "hub" / "checkpoints" / entry.url.rsplit("/", 1)[-1]
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, file)
    return file


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18", "googlenet", "densenet121"])
@pytest.mark.parametrize("weights", ["IMAGENET1K_V1", "DEFAULT", "entry"])
def test_official_weights_load_from_torchvisions_cache(name, weights, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(0)
    source = theirs(name)
    state = dict(
        source.state_dict()
    )  # without the version that state_dict carries, as the files of 2017
    if (
        name == "densenet121"
    ):  # the official file has the keys of 2017: norm.1 for norm1, and no counts of batches
        for key in list(state):
            if key.endswith("num_batches_tracked"):
                del state[key]
                continue
            for kind in ("norm", "relu", "conv"):
                for number in "12":
                    old = key.replace(f".{kind}{number}.", f".{kind}.{number}.")
                    if "denselayer" in key and old != key:
                        state[old] = state.pop(key)
    planted(tmp_path, name, state)
    if weights == "entry":
        weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    ours = getattr(models, name)(weights=weights).eval()
    reference = getattr(torchvision.models, name)(weights=weights).eval()
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(ours(x), reference(x))
    assert list(ours.state_dict()) == list(reference.state_dict()), (
        "heads dropped as in torchvision"
    )


def test_heads_stay_with_weights_when_they_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    planted(tmp_path, "googlenet", theirs("googlenet").state_dict())
    network = models.googlenet(weights="IMAGENET1K_V1", aux_logits=True)
    assert network.transform_input and network.train()(
        torch.randn(2, 3, 32, 32)
    ).aux_logits1.shape == (2, 1000)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"num_classes": 10}, "num_classes=1000"),
        ({"in_channels": 1}, "in_channels=3"),
        ({"width": 16}, "width=64"),
        ({"image_size": 32}, "image_size=None"),
    ],
)
def test_options_that_do_not_fit_the_weights_are_refused_before_any_download(options, text):
    with pytest.raises(ParameterError, match=text) as raised:
        models.resnet18(weights="IMAGENET1K_V1", **options)
    assert "replace the layer you want to train anew" in str(raised.value)


def test_unknown_weights_answer_with_the_known_ones():
    with pytest.raises(ParameterError, match="did you mean 'IMAGENET1K_V1'"):
        models.resnet18(weights="IMAGENET1K_V3")
    with pytest.raises(ParameterError, match="weights of resnet18"):
        models.resnet18(weights=torchvision.models.ResNet50_Weights.IMAGENET1K_V2)
    with pytest.raises(ParameterError, match="weights of resnet18"):
        models.resnet18(weights=True)


def test_networks_without_official_weights_have_no_such_option():
    with pytest.raises(ParameterError, match="weights"):
        models.zfnet(weights="IMAGENET1K_V1")
    with pytest.raises(ParameterError, match="weights"):
        models.build("resnet20", weights="IMAGENET1K_V1")


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """torchvision's entry for SqueezeNet 1.1, with an empty cache; a test sets its address."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    value = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.value
    return functools.partial(monkeypatch.setattr, value, "url")


@pytest.fixture
def server(tmp_path):
    """A server on this machine that answers every request with a file that is not the weights."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"wrong")

        def log_message(self, *parts):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_without_a_network_the_error_says_which_file_to_put_where(entry, tmp_path):
    entry("http://127.0.0.1:9/squeezenet1_1-b8a52dc0.pth")  # the discard port: nobody listens
    with pytest.raises(DataError, match="copy the file there by hand") as raised:
        models.squeezenet1_1(weights="IMAGENET1K_V1", progress=False)
    assert str(tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth") in str(raised.value)


def test_a_download_with_a_wrong_checksum_is_refused(entry, server):
    entry(f"{server}/squeezenet1_1-b8a52dc0.pth")
    with pytest.raises(DataError, match="invalid hash value"):
        models.squeezenet1_1(weights="IMAGENET1K_V1", progress=False)


def test_a_cached_file_cut_short_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = planted(tmp_path, "squeezenet1_1", theirs("squeezenet1_1").state_dict())
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(DataError, match="delete this file and fetch it again") as raised:
        models.squeezenet1_1(weights="IMAGENET1K_V1")
    assert str(file) in str(raised.value)


def test_a_cached_file_of_another_network_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = planted(tmp_path, "squeezenet1_1", theirs("squeezenet1_0").state_dict())
    with pytest.raises(DataError, match="delete this file") as raised:
        models.squeezenet1_1(weights="IMAGENET1K_V1")
    assert str(file) in str(raised.value)
