"""What changes while it trains is there again after a stop, or the run is refused."""

import copy
import math
import random
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from training_toys import (
    a_network,
    a_set,
    float64,  # noqa: F401  # every test computes in it
    same,
    sgd,
    trained,
    weights,
)

from cnncourse import augment, data, runtime, training
from cnncourse.errors import CheckpointError
from cnncourse.training import Checkpoint, fit


def stops_and_goes_on(make, tmp_path, *, change=None, images=None, epochs=4, **options):
    """Weights of a run without and of one with an interruption after two epochs; `change` is called as on_epoch."""

    def run(epochs, path):
        runtime.start(seed=1, dtype="float64")
        torch.manual_seed(1)
        model = make()
        fit(
            model,
            images() if images else a_set(),
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
            epochs=epochs,
            batch_size=None if images else 16,
            on_epoch=None if change is None else lambda history: change(model, history),
            checkpoint=path,
            **options,
        )
        return weights(model)

    whole = run(epochs, None)
    run(2, tmp_path / "c.pt")
    return whole, run(epochs, tmp_path / "c.pt")


class Noise(nn.Module):
    """Adds noise from a stream of its own, as much as `scale` says; has a buffer that no state dict holds."""

    def __init__(self, scale=0.1):
        super().__init__()
        self.scale, self.history, self.options = scale, [], {"power": 1.0}
        self.mask = torch.ones(1)
        self.register_buffer("drift", torch.zeros(1), persistent=False)

    def forward(self, x):
        if self.training:
            self.drift += 0.01
            self.history.append(1)
        own = torch.randn(x.shape, generator=runtime.current().generator)
        return x * self.mask + self.scale * own**2 * self.options["power"] + self.drift


def thaw(model, history):
    if len(history) == 1:
        model[0].requires_grad_(True)


def unfreeze(model, history):
    if len(history) == 1:
        training.thawed(model)


def grow(model, history):
    noise = next(module for module in model.modules() if isinstance(module, Noise))
    noise.scale, noise.options["power"], noise.mask = len(history), 0.5, torch.full((1,), 2.0)


def frozen_first():
    model = a_network()
    model[0].requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (frozen_first, thaw),
        (lambda: nested(), lambda model, history: unfreeze(model[0], history)),
        (lambda: a_network(Noise()), grow),
        (lambda: a_network(nn.Dropout(0.1)), lambda model, h: setattr(model[3], "p", 0.2 * len(h))),
        (lambda: a_network(), lambda model, h: setattr(model[1], "momentum", 0.5)),
    ],
    ids=["requires_grad", "frozen", "attributes", "dropout", "momentum"],
)
def test_what_changes_while_it_trains_is_there_again_after_a_stop(make, change, tmp_path):
    whole, parts = stops_and_goes_on(make, tmp_path, change=change)
    assert same(whole, parts)


def nested():
    model = nn.Sequential(a_network()[:3], *a_network()[3:])
    training.frozen(model[0])
    return model


class Drawing(torch.utils.data.Dataset):
    """Pictures with noise that is drawn where they are read: from torch, numpy and Python."""

    def __init__(self, seed: int = 0):
        self.pictures = torch.randn(40, 1, 6, 6, generator=torch.Generator().manual_seed(seed))

    def __len__(self):
        return 40

    def __getitem__(self, row):
        drawn = torch.randn(()) + np.random.randn() + random.random()
        return self.pictures[row] + 0.1 * drawn, row % 3


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_draw_what_they_would_have_drawn_without_a_stop(persistent, tmp_path):
    def images():
        return DataLoader(Drawing(), 8, shuffle=True, num_workers=1, persistent_workers=persistent)

    whole, parts = stops_and_goes_on(a_network, tmp_path, images=images, epochs=3)
    assert same(whole, parts)


def test_a_run_with_workers_resumes_in_the_middle_of_an_epoch(tmp_path):
    def run(path, stop=math.inf):
        model, calls = a_network(), []

        def loss(outputs, targets):
            calls.append(1)
            if len(calls) == stop:
                raise KeyboardInterrupt
            return F.cross_entropy(outputs, targets)

        loader = DataLoader(Drawing(), 8, shuffle=True, num_workers=1, persistent_workers=True)
        fit(
            model,
            loader,
            optimizer=sgd(model),
            epochs=2,
            loss=loss,
            checkpoint=Checkpoint(path, 2) if path else None,
        )
        return weights(model)

    whole = run(None)
    with pytest.raises(training.Interrupted):
        run(tmp_path / "c.pt", stop=9)
    assert same(run(tmp_path / "c.pt"), whole)


def test_other_data_under_the_same_name_are_refused(tmp_path):
    digits = data.digits()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def run(train, valid=None, name="c.pt", **options):
        network = copy.deepcopy(model)
        return fit(
            network,
            train,
            valid,
            optimizer=sgd(network),
            epochs=1,
            batch_size=100,
            checkpoint=tmp_path / name,
            **options,
        )

    run(digits[:500], digits[1000:1100])
    run(digits[:500], digits[1000:1100])
    for train, valid, name in (
        (digits[500:1000], digits[1000:1100], "data contents"),
        (digits[:500], digits[1100:1200], "valid data contents"),
        (digits[:500], None, "valid data"),
    ):
        with pytest.raises(CheckpointError, match=f"expected {name}"):
            run(train, valid)
    pair = torch.rand(200, 64), torch.randint(10, (200,))
    run(pair, name="pair.pt")
    with pytest.raises(CheckpointError, match="data contents"):
        run((pair[0], pair[1].flip(0)), name="pair.pt")


def test_another_data_set_behind_a_loader_and_another_augmentation_are_refused(tmp_path):
    def run(images, name, change=None):
        model = a_network()
        fit(
            model,
            images,
            optimizer=sgd(model),
            epochs=1,
            batch_size=20,
            augment=change,
            checkpoint=tmp_path / name,
        )

    run(DataLoader(Drawing(), 20), "loader.pt")
    run(DataLoader(Drawing(), 20), "loader.pt")
    with pytest.raises(CheckpointError, match="data contents"):
        run(DataLoader(Drawing(seed=1), 20), "loader.pt")
    parts = (
        torch.utils.data.Subset(Drawing(), range(20)),
        torch.utils.data.Subset(Drawing(), range(20, 40)),
    )
    run(DataLoader(parts[0], 10), "part.pt")
    with pytest.raises(CheckpointError, match="data contents"):
        run(DataLoader(parts[1], 10), "part.pt")
    crop = augment.compose(partial(augment.crop, padding=1), augment.flip)
    run(a_set(), "augment.pt", crop)
    with pytest.raises(CheckpointError, match="padding=1"):
        run(a_set(), "augment.pt", augment.compose(partial(augment.crop, padding=2), augment.flip))


def test_a_network_that_was_built_otherwise_is_refused_by_name(tmp_path):
    trained(tmp_path / "c.pt", model=a_network(nn.Dropout(0.1)))
    with pytest.raises(CheckpointError, match="model with 3.p 0.1"):
        trained(tmp_path / "c.pt", model=a_network(nn.Dropout(0.2)))
    model = a_network(nn.Dropout(0.1))
    model[0].requires_grad_(False)
    with pytest.raises(CheckpointError, match="0.bias.requires_grad True"):
        trained(tmp_path / "c.pt", model=model)


class Streaming(torch.utils.data.IterableDataset):
    def __len__(self):
        return 20

    def __iter__(self):
        for row in range(20):
            yield torch.randn(1, 6, 6), row % 3


class OwnStream(Drawing):
    def __init__(self):
        super().__init__()
        self.generator = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("loader", "steps", "words"),
    [
        (lambda: DataLoader(OwnStream(), 8), None, "OwnStream.generator"),
        (lambda: DataLoader(Streaming(), 8), 2, "leave Checkpoint.steps out"),
        (
            lambda: DataLoader(Streaming(), 8, num_workers=1, persistent_workers=True),
            None,
            "persistent_workers=False",
        ),
    ],
)
def test_batches_that_would_not_come_again_are_refused_before_training(
    loader, steps, words, tmp_path
):
    model = a_network()
    with pytest.raises(CheckpointError, match=words):
        fit(
            model,
            loader(),
            optimizer=sgd(model),
            epochs=1,
            checkpoint=Checkpoint(tmp_path / "c.pt", steps),
        )


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stream_goes_on_at_epochs_ends(workers, tmp_path):
    def images():
        return DataLoader(Streaming(), 8, num_workers=workers)

    whole, parts = stops_and_goes_on(a_network, tmp_path, images=images, epochs=3)
    assert same(whole, parts)


def test_a_run_that_on_epoch_ended_goes_on_without_it(tmp_path):
    def run(epochs, path, on_epoch=None):
        model = a_network()
        history = fit(
            model,
            a_set(),
            optimizer=sgd(model),
            epochs=epochs,
            batch_size=16,
            checkpoint=path,
            on_epoch=on_epoch,
        )
        return weights(model), len(history)

    whole, _ = run(3, None)
    _, epochs = run(3, tmp_path / "c.pt", lambda history: len(history) == 2)
    assert epochs == 2
    again, epochs = run(3, tmp_path / "c.pt")
    assert epochs == 3 and same(again, whole)


def test_a_second_training_goes_on_in_a_run_of_its_own(tmp_path):
    def run(first, second, stop=None):
        model = a_network()
        optimizer = sgd(model)
        options = {"optimizer": optimizer, "batch_size": 16}
        fit(model, a_set(), epochs=2, checkpoint=first, **options)

        def end(history):
            return len(history) == stop

        fit(model, a_set(), epochs=2, checkpoint=second, on_epoch=end if stop else None, **options)
        return weights(model)

    paths = tmp_path / "1.pt", tmp_path / "2.pt"
    whole = run(None, None)
    run(*paths, stop=1)
    assert same(run(*paths), whole)


def test_steps_of_a_resumed_run_are_noted_once(tmp_path):
    whole = trained(None, epochs=3)[1]
    trained(tmp_path / "c.pt", epochs=2)
    assert trained(tmp_path / "c.pt", epochs=3)[1].steps == whole.steps
