"""What a network sees, against layers called by hand, finite differences, transposed filters, loops and brute force."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnncourse import cost, data, inspection, models
from cnncourse.errors import ParameterError, ShapeError


@pytest.fixture
def network(in_float64):
    """Two convolutions with max-pooling, ReLU in place and as ReLU6, and a linear layer; biases are not 0."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 3, stride=2),
        nn.BatchNorm2d(5),
        nn.ReLU6(),
        nn.Flatten(),
        nn.Linear(45, 3),
    )


@pytest.fixture
def images(network):
    return torch.rand(6, 2, 15, 15)


class Functional(nn.Module):
    """The same layers with ReLU as functions, two of them in place."""

    def __init__(self, network):
        super().__init__()
        self.layers = network

    def forward(self, x):
        x = self.layers[0](x)
        F.relu(x, True)  # its result not taken
        x = self.layers[4](self.layers[3](self.layers[2](x)))
        return self.layers[6:](F.relu6(x))


def state(network):
    return {
        "modes": [module.training for module in network.modules()],
        "hooks": [len(module._forward_hooks) for module in network.modules()],
        "slopes": [p.grad for p in network.parameters()],
        "weights": [p.clone() for p in network.state_dict().values()],
    }


def same(one, other) -> bool:
    weights = zip(one.pop("weights"), other.pop("weights"), strict=True)
    return one == other and all(torch.equal(*pair) for pair in weights)


def test_activations_are_those_of_the_layers_called_one_after_the_other(network, images):
    found = inspection.activations(network, images, ["0", "1", "4", ""], batch_size=4)
    network.eval()
    with torch.no_grad():
        wanted = {"0": network[0](images), "1": network[:2](images)}
        wanted |= {"4": network[:5](images), "": network(images)}
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():  # of "0", before ReLU changed it in place
        torch.testing.assert_close(found[name], tensor)
    one = inspection.activations(network, images[2], ["0"])["0"]
    torch.testing.assert_close(one, wanted["0"][2])


def test_networks_are_left_as_they_were_after_a_pass_and_after_an_error(network, images):
    network[4].eval()  # mixed modes
    before = state(network)
    inspection.saliency(network, images, 1, guided=True)
    inspection.activations(network, images, ["3"])
    inspection.maximise(network, 0, shape=(2, 15, 15), steps=2, generator=torch.Generator())
    inspection.top_patches(network, images, "3", 1, 2)
    with pytest.raises(RuntimeError):
        inspection.activations(network, images[..., :9], ["3"])
    with pytest.raises(ParameterError):
        inspection.saliency(network, images, 3)
    assert same(before, state(network))


def test_saliency_is_the_largest_finite_difference_of_the_channels(network, images):
    network.eval()
    step, slopes = 1e-6, torch.zeros(2, 15, 15)
    with torch.no_grad():
        for place in [
            (c, i, j) for c in range(2) for i in range(0, 15, 4) for j in range(0, 15, 4)
        ]:
            moved = images[:2].clone()
            moved[(0, *place)] += step
            moved[(1, *place)] -= step
            moved[1] += images[0] - images[1]
            score = network(moved)[:, 2]
            slopes[place] = (score[0] - score[1]) / (2 * step)
    found = inspection.saliency(network, images[0], 2)[::4, ::4]
    torch.testing.assert_close(found, slopes.abs().amax(0)[::4, ::4], rtol=1e-5, atol=1e-8)


def test_gradients_at_a_layer_are_those_of_autograd_from_there_on(network, images):
    found = inspection.gradients(network, images, 1, at="2")
    network.eval()
    maps = network[:3](images).detach().requires_grad_()
    (wanted,) = torch.autograd.grad(network[3:](maps)[:, 1].sum(), maps)
    torch.testing.assert_close(found, wanted)
    unit = inspection.gradients(network, images, (3, 1, 2), layer="3")
    pixels = images.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(network[:4](pixels)[:, 3, 1, 2].sum(), pixels)
    torch.testing.assert_close(unit, wanted)


def backwards(network, images, seed, stop, rule):
    """From the maps of layer `stop` to the pixels by transposed filters, switches and a rule at ReLU."""
    network.eval()
    with torch.no_grad():
        one = network[0](images)
        pooled, switches = F.max_pool2d(one.relu(), 2, return_indices=True)
        two = network[4](network[3](pooled))
        back = seed(two.clamp(0, 6))
        if stop == 5:
            back = rule(back, (two > 0) & (two < 6))
        norm = network[4]
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        back = F.conv_transpose2d(back * scale.reshape(1, -1, 1, 1), network[3].weight, stride=2)
        back = F.max_unpool2d(back, switches, 2, output_size=one.shape[-2:])
        back = rule(back, one > 0)
        return F.conv_transpose2d(back, network[0].weight, padding=1)


def test_deconvnet_projects_the_strongest_activation_through_switches_and_transposed_filters(
    network, images
):
    network[4].running_mean.normal_()
    network[4].running_var.uniform_(0.5, 2)

    def strongest(maps):
        alone = torch.zeros_like(maps)
        for picture, only in zip(maps, alone, strict=True):
            place = divmod(int(picture[2].argmax()), 3)
            only[2][place] = picture[2][place]
        return alone

    wanted = backwards(network, images, strongest, 5, lambda back, open: back.clamp(min=0))
    assert wanted.abs().max() > 0.01
    torch.testing.assert_close(inspection.deconvnet(network, images, "5", 2), wanted)
    for one, projection in zip(images, wanted, strict=True):
        torch.testing.assert_close(inspection.deconvnet(network, one, "5", 2), projection)


def test_guided_backpropagation_passes_what_is_positive_forwards_and_backwards(network, images):
    network[3].weight.data *= 30  # some above 6
    weights = network[7].weight[1].reshape(5, 3, 3)

    def guided(back, open):
        return back.clamp(min=0) * open

    def seed(maps):
        assert (maps == 6).any() and (maps == 0).any()
        return weights.detach().expand_as(maps)

    wanted = backwards(network, images, seed, 5, guided)
    found = inspection.gradients(network, images, 1, rule="guided")
    torch.testing.assert_close(found, wanted)
    plain = inspection.gradients(network, images, 1)
    assert (plain - found).abs().max() > 0.01
    torch.testing.assert_close(
        inspection.saliency(network, images, 1, guided=True), wanted.abs().amax(1)
    )


def test_relu_as_a_function_is_guided_too_and_a_network_without_relu_is_refused(network, images):
    by_functions = Functional(network)
    for rule in inspection.RULES:
        wanted = inspection.gradients(network, images, 1, rule=rule)
        found = inspection.gradients(by_functions, images, 1, rule=rule)
        torch.testing.assert_close(found, wanted)
    smooth = nn.Sequential(network[0], nn.Tanh(), nn.Flatten())
    inspection.gradients(smooth, images, 1)
    with pytest.raises(ParameterError, match="with ReLU or ReLU6"):
        inspection.gradients(smooth, images, 1, rule="guided")


def test_occlusion_is_the_loop_over_hidden_squares(network, images):
    found = inspection.occlusion(network, images[0], 1, patch=4, stride=3, fill=0.5, batch_size=5)
    scores = inspection.occlusion(
        network, images[:1], 1, patch=4, stride=3, fill=[0.5, 0.25], probability=False
    )
    network.eval()
    assert found.shape == scores.shape == (4, 4)
    for i, j in [(i, j) for i in range(4) for j in range(4)]:
        hidden = images[:1].clone()
        hidden[..., 3 * i : 3 * i + 4, 3 * j : 3 * j + 4] = 0.5
        assert found[i, j].item() == pytest.approx(network(hidden).softmax(1)[0, 1].item())
        hidden[:, 1, 3 * i : 3 * i + 4, 3 * j : 3 * j + 4] = 0.25
        assert scores[i, j].item() == pytest.approx(network(hidden)[0, 1].item())
    grey = inspection.occlusion(network, images[0], 1, patch=15, stride=1)
    flat = images[:1].mean((2, 3), keepdim=True).expand(1, 2, 15, 15)
    assert grey.item() == pytest.approx(network(flat).softmax(1)[0, 1].item())


def test_top_patches_are_those_of_all_positions_and_hold_all_that_the_unit_sees(network, images):
    patches = inspection.top_patches(network, images, "3", 2, 4, batch_size=4)
    network.eval()
    with torch.no_grad():
        maps = network[:4](images)[:, 2]
    best = maps.flatten(1).max(1).values.sort(descending=True)
    assert [patch.picture for patch in patches] == best.indices[:4].tolist()
    assert [patch.activation for patch in patches] == pytest.approx(best.values[:4].tolist())
    for patch in patches:
        assert maps[patch.picture, patch.row, patch.column].item() == pytest.approx(
            patch.activation
        )
        rows, columns = (
            slice(at, at + n) for at, n in zip(patch[3:5], patch[0].shape[1:], strict=True)
        )
        assert torch.equal(patch.pixels, images[patch.picture, :, rows, columns])
        only = torch.full_like(
            images[:1], torch.nan
        )  # a unit reads no pixel outside, and every edge inside
        only[..., rows, columns] = patch.pixels
        with torch.no_grad():
            seen = network[:4](only)[0, 2, patch.row, patch.column]
        assert seen.item() == pytest.approx(patch.activation)
        for edge in [(0, slice(None)), (-1, slice(None)), (slice(None), 0), (slice(None), -1)]:
            hidden = only.clone()
            hidden[..., rows, columns][(..., *edge)] = torch.nan
            assert network[:4](hidden)[0, 2, patch.row, patch.column].isnan()
    assert {patch.top for patch in patches} <= {0, 3, 7} and patches[0].pixels.shape[1] in (7, 8)
    several = inspection.top_patches(network, images, "3", 2, 5, per_picture=9)
    assert [p.activation for p in several] == maps.flatten().sort(descending=True).values[
        :5
    ].tolist()
    assert inspection.top_patches(network, images, "7", 0, 1)[0].pixels.shape == (2, 15, 15)


@pytest.mark.parametrize(
    "name, layer",
    [("squeezenet1_1", "features.6"), ("resnet18", "layer1"), ("efficientnet_lite0", "_blocks.2")],
)
def test_patches_of_deep_networks_have_the_receptive_field_that_the_cost_table_finds(name, layer):
    torch.manual_seed(0)
    network = getattr(models, name)(width=8)
    side = 127
    rows = [row for row in cost.table(network, (3, side, side)).rows if row.name.startswith(layer)]
    known = rows[-1].receptive_field
    images = torch.rand(1, 3, side, side)
    middle = inspection.activations(network, images, [layer])[layer].shape[-1] // 2
    fields = inspection.rules.receptive_fields(network, images, layer, -1, "a test")
    top, bottom, left, right = fields(middle, middle)
    assert (bottom - top, right - left) == tuple(known)


@pytest.mark.parametrize("fourier", [True, False])
def test_a_maximised_picture_excites_a_unit_more_than_any_digit(fourier):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 10)
    )
    digits = data.digits().images.float() / 255

    def found(seed):
        return inspection.maximise(
            network,
            3,
            shape=(1, 8, 8),
            generator=torch.Generator().manual_seed(seed),
            fourier=fourier,
            steps=60,
            learning_rate=0.1,
            decay=0.01,
            jitter=1,
        )

    picture, scores = found(1)
    assert picture.shape == (1, 8, 8) and 0 <= picture.min() and picture.max() <= 1
    with torch.no_grad():
        assert network(picture[None])[0, 3] > network(digits)[:, 3].max() > scores[0]
    assert len(scores) == 60
    again, other = found(1), found(2)
    assert torch.equal(again.picture, picture) and again.scores == scores
    assert not torch.equal(other.picture, picture)


def test_a_picture_is_maximised_for_a_layers_channel_or_one_position_of_it(network):
    settings = {"shape": (2, 15, 15), "steps": 20, "learning_rate": 0.1, "jitter": 0, "decay": 0.0}
    settings |= {"scales": (1, 1), "layer": "3", "fourier": False}
    for unit in (2, (2, 1, 0)):
        picture, scores = inspection.maximise(
            network, unit, generator=torch.Generator().manual_seed(0), **settings
        )
        maps = inspection.activations(network, picture, ["3"])["3"]
        value = maps[2].mean() if unit == 2 else maps[unit]
        assert value.item() > scores[-1] > scores[0]
    grey = inspection.activations(network, torch.full((2, 15, 15), 0.5), ["3"])["3"]
    assert scores[0] == pytest.approx(grey[unit].item(), abs=0.02)  # begins at grey, not moved


def test_moves_keep_the_size_and_put_grey_where_nothing_is_left():
    picture = torch.rand(1, 1, 9, 12)
    still = inspection._moved(picture, 0, (1, 1), torch.Generator())
    assert torch.equal(still, picture)
    generator, seen = torch.Generator().manual_seed(0), set()
    for _ in range(40):
        moved = inspection._moved(picture, 1, (1, 1), generator)
        for down, right in [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]:
            inside = moved.roll((-down, -right), (2, 3))[..., 1:-1, 1:-1]
            if torch.equal(inside, picture[..., 1:-1, 1:-1]):
                seen.add((down, right))
    assert len(seen) == 9
    small = inspection._moved(picture, 0, (1 / 3, 1 / 3), generator)
    assert small.shape == picture.shape and small[..., 0, :].unique().tolist() == [0.5]


def test_a_randomised_copy_forgets_what_was_asked_and_nothing_else(network):
    network[4].running_mean.normal_()
    before, stream = state(network), torch.get_rng_state()
    made, again = (inspection.randomised(network, 1) for _ in range(2))
    last = inspection.randomised(network, 1, layers=["7", "4"])
    assert torch.equal(stream, torch.get_rng_state()) and same(before, state(network))
    old, new, top = (one.state_dict() for one in (network, made, last))
    for name in ("0.weight", "3.weight", "7.bias", "4.running_mean"):
        assert not torch.equal(new[name], old[name])
        assert torch.equal(new[name], again.state_dict()[name])
        assert torch.equal(top[name], old[name]) == (name[0] in "03")
    assert new["7.weight"].abs().max() <= 45**-0.5  # torch's bound for 45 inputs
    other = inspection.randomised(network, 2).state_dict()
    assert not torch.equal(other["0.weight"], new["0.weight"])


GENERATOR = torch.Generator()
WRONG = {  # the call, and words of its answer
    "inspection.activations(n, x, ['conv'])": "name of a layer of Sequential\n.*conv",
    "inspection.activations(n, x.float(), ['0'])": "torch.float64 on cpu",
    "inspection.activations(n, (x * 255).byte(), ['0'])": r"images.float\(\) / 255",
    "inspection.deconvnet(n, x[0, 0], '0', 0)": r"\(H, W\) needs its channel",
    "inspection.activations(n, x, ['0'], batch_size=-1)": "batch_size=1 or more",
    "inspection.saliency(n, x, 3)": "a unit from 0 to 2",
    "inspection.saliency(n, x, 1.0)": "whole numbers",
    "inspection.gradients(n, x, (1, 7, 0), layer='3')": r"\(5, 3, 3\)",
    "inspection.gradients(n, x, 1, rule='guide')": "did you mean 'guided'",
    "inspection.gradients(n, x, 1, layer='0', at='3')": "a layer before '0'",
    "inspection.occlusion(n, x, 1, patch=3, stride=2)": "6 pictures",
    "inspection.occlusion(n, x[0], 1, patch=16, stride=2)": "at most 15 pixels",
    "inspection.occlusion(n, x[0], 1, patch=3, stride=0)": "stride=1 or more",
    "inspection.occlusion(n, x[0], 1, patch=3, stride=1, fill=[1, 2, 3])": "one number or 2",
    "inspection.top_patches(n, x, '3', 5, 1)": "a unit from 0 to 4",
    "inspection.deconvnet(n, x, '3', -1)": "a unit from 0 to 4",
    "inspection.maximise(n, 1, shape=(15, 15), generator=GENERATOR)": r"\(C, H, W\)",
    "inspection.maximise(n, 1, shape=(2, 15, 15), generator=GENERATOR, scales=(2, 1))": "ascending",
    "inspection.maximise(n, 1, shape=(2, 15, 15), generator=GENERATOR, steps=0)": "steps=1 or more",
    "inspection.randomised(n, 0, layers=['fc'])": "name of a layer",
}


@pytest.mark.parametrize("call", WRONG)
def test_a_wrong_call_is_answered(network, images, call):
    with pytest.raises((ParameterError, ShapeError), match=WRONG[call]):
        eval(call, {"inspection": inspection, "GENERATOR": GENERATOR}, {"n": network, "x": images})


def test_an_unknown_layer_names_the_nearest_and_one_that_does_not_run_is_told():
    network = models.lenet5()
    with pytest.raises(ParameterError, match="did you mean 'c1'"):
        inspection.activations(network, torch.zeros(1, 1, 32, 32), ["c_1"])
    network.head = nn.Linear(1, 1)
    with pytest.raises(ParameterError, match="'head', which gave no tensor"):
        inspection.activations(network, torch.zeros(1, 1, 32, 32), ["head"])


PRETEND = """
import copy, torch
from torch import nn
from cnncourse import inspection, pretend, runtime
pretend.start()
torch.manual_seed(0)
torch.use_deterministic_algorithms(True)
torch.set_num_threads(1)
layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(100, 3)
here = nn.Sequential(*layers)
there, images = copy.deepcopy(here).to("pretend"), torch.rand(2, 3, 12, 12)
settings = dict(shape=(3, 12, 12), steps=3)
for ask in (
    lambda n, x: inspection.activations(n, x, ["1"])["1"],
    lambda n, x: inspection.saliency(n, x, 1, guided=True),
    lambda n, x: inspection.deconvnet(n, x, "2", 1),
    lambda n, x: inspection.occlusion(n, x[0], 1, patch=3, stride=3),
    lambda n, x: torch.stack([p.pixels for p in inspection.top_patches(n, x, "3", 1, 2)]),
    lambda n, x: inspection.maximise(n, 1, generator=torch.Generator().manual_seed(0), **settings).picture,
    lambda n, x: inspection.saliency(inspection.randomised(n, 1), x, 1),
):
    one, other = ask(here, images), ask(there, images.to("pretend"))
    assert other.device.type == "pretend"
    torch.testing.assert_close(other.cpu(), one)
try:
    inspection.saliency(there, images, 1)
except inspection.ShapeError as error:
    print(error)
"""


def test_on_a_device_the_same_results_lie_there_and_pictures_elsewhere_are_refused():
    told = subprocess.run([sys.executable, "-c", PRETEND], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert "on pretend:0, as the network's weights are" in told.stdout
