"""Compiled networks, and steps that do not wait for the device."""

import math
import shutil
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training_toys import (
    a_network,
    a_set,
    float64,  # noqa: F401  # every test computes in it
    sgd,
)

from cnncourse import augment, runtime
from cnncourse.training import EachStep, evaluate, fit, predict, progress
from cnncourse.training import loss as losses

# torch 2.11 warns of its own use of TorchScript when it is asked to compile for the first time
OWN_WARNING = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"
)


@OWN_WARNING
@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++: torch.compile was not tried")
def test_compiled_networks_give_the_numbers_of_plain_ones_and_none_goes_back_to_plain_silently():
    graphs = torch._dynamo.utils.counters["stats"]

    def run(compiled, width):
        runtime.start(seed=0, compile=compiled)
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, width), nn.ReLU(), nn.Linear(width, 3))
        return model, fit(
            model, a_set(), a_set(34, seed=1), optimizer=sgd(model), epochs=2, batch_size=16
        )

    for number, width in enumerate(
        (4, 5, 6), 1
    ):  # nine graphs, one more than torch compiles by default
        (plain, expected), (model, history) = run(False, width), run(True, width)
        assert (
            graphs["unique_graphs"] == 3 * number
        )  # a batch of 16, the last batch of 2, and evaluation
        assert history["valid_loss"] == pytest.approx(expected["valid_loss"], rel=1e-5)
        assert list(model.state_dict()) == list(plain.state_dict())
    fit(model, a_set(), optimizer=sgd(model), epochs=1, batch_size=16)
    evaluate(model, a_set(30), batch_size=7)
    assert graphs["unique_graphs"] == 9


class Copies(TorchDispatchMode):
    """Refuses what makes a program wait for its GPU without asking for a value: blocking copies, mixed operands."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [
            leaf
            for leaf in tree_leaves((args, kwargs, result))
            if isinstance(leaf, torch.Tensor) and leaf.ndim
        ]
        if len({tensor.device for tensor in tensors}) > 1 and not (kwargs or {}).get(
            "non_blocking"
        ):
            raise AssertionError(f"{function} between processor and device")
        return result


@pytest.fixture
def without_values(monkeypatch):
    """Training on torch's meta device: tensors have shapes and no values, so whoever asks for a value is refused."""
    runtime.start(device="meta")
    monkeypatch.setattr(
        losses.Loss, "_check", lambda *_: None
    )  # looks at the labels of the first batch, once
    monkeypatch.setattr(losses, "_holds", lambda *_: False)  # looks at all labels, once
    monkeypatch.setattr(progress.Watch, "pause", math.inf)  # looks at the loss now and then
    images = a_set(100).to("meta")

    def run(change, **options):
        steps = []

        def counted(images, *, generator):
            steps.append(1)
            return change(images, generator=generator)

        model = a_network(nn.Dropout(0.1)).to("meta")
        optimizer = torch.optim.AdamW(model.parameters())
        with (
            Copies(),
            pytest.raises((NotImplementedError, RuntimeError, AssertionError)) as refused,
        ):
            fit(
                model,
                images,
                optimizer=optimizer,
                epochs=1,
                batch_size=16,
                augment=counted,
                clip_gradient=1.0,
                scheduler=EachStep(torch.optim.lr_scheduler.LinearLR(optimizer)),
                progress=False,
            )
        return len(steps), refused.traceback

    return run


def test_no_step_asks_the_device_for_a_value(without_values):
    change = augment.compose(
        partial(augment.crop, padding=1),
        augment.flip,
        augment.jitter,
        partial(augment.cutout, size=2),
        partial(augment.noise, std=0.1),
    )
    steps, trace = without_values(change)
    assert steps == 7 and "score" in [
        entry.name for entry in trace
    ]  # the mean over the epoch is the first value


@pytest.mark.parametrize(
    "waiting",
    [
        lambda images: images * images.max().item(),
        lambda images: images[images.flatten(1).sum(1) > 0],
        lambda images: images.cpu().to("meta"),
        lambda images: images[torch.arange(len(images))],
        lambda images: images + torch.ones(images.shape, dtype=torch.uint8).to("meta"),
    ],
    ids=["item", "mask", "cpu", "index on the processor", "blocking copy"],
)
def test_a_step_that_waits_for_the_device_is_caught(without_values, waiting):
    steps, trace = without_values(lambda images, *, generator: waiting(images))
    assert steps == 1 and "counted" in [entry.name for entry in trace]


def test_predict_asks_the_device_for_nothing():
    runtime.start(device="meta")
    model, images = a_network().to("meta"), a_set(100).to("meta")
    with Copies():
        outputs = predict(model, images, 16)
    assert outputs.shape == (100, 3) and outputs.device.type == "meta"


# torch records an empty graph first, to have its memory, and hides the warning where warnings are no errors
@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty:UserWarning")
@OWN_WARNING
@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="no GPU: hidden synchronisation in the loop was not looked for on one (pytest -m gpu)",
)
@pytest.mark.filterwarnings(
    "ignore:Synchronization debug mode"
)  # torch says once that it is a prototype
@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "precision": "bf16",
            "memory_format": "channels_last",
            "compile": True,
            "deterministic": False,
        },
    ],
    ids=["default", "fast"],
)
def test_no_step_waits_for_the_gpu(options, monkeypatch):
    runtime.start(device="cuda", **options)
    monkeypatch.setattr(progress.Watch, "pause", math.inf)
    steps = []
    change = augment.compose(partial(augment.crop, padding=1), augment.flip, augment.jitter)

    def counted(images, *, generator):
        steps.append(1)
        torch.cuda.set_sync_debug_mode("error" if 6 <= len(steps) < 12 else "default")
        return change(images, generator=generator)

    model = a_network().cuda()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, fused=True)
    try:
        fit(
            model,
            a_set(200),
            optimizer=optimizer,
            epochs=1,
            batch_size=16,
            augment=counted,
            clip_gradient=1.0,
            progress=False,
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(steps) == 13
