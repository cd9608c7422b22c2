"""Several seeds at once against each alone."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training_toys import (
    a_set,
    float64,  # noqa: F401  # every test computes in it
    numbers,
    same,
    sgd,
    weights,
)

from cnncourse import augment, runtime, training
from cnncourse.errors import ParameterError
from cnncourse.training import EachStep, fit, predict, repeat


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
    )


def dense() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 3))


@pytest.mark.parametrize("make", [dense, mlp, lambda: a_network_fresh()])
def test_seeds_trained_together_end_with_the_weights_of_each_alone(make):
    options = {
        "optimizer": lambda p: torch.optim.AdamW(p, lr=0.01),
        "seeds": [3, 0, 7],
        "epochs": 2,
        "batch_size": 16,
        "augment": partial(augment.crop, padding=1),
        "clip_gradient": 0.5,
    }
    together = repeat(make, a_set(), a_set(seed=1), together=True, **options)
    apart = repeat(make, a_set(), a_set(seed=1), together=False, **options)
    assert together.together and not apart.together
    for one, other in zip(together, apart, strict=True):
        for ours, theirs in zip(numbers(one), numbers(other), strict=True):
            assert ours == pytest.approx(theirs, abs=1e-9)
    for one, other in zip(together.models, apart.models, strict=True):
        for ours, theirs in zip(weights(one), weights(other), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
    assert len(set(together.last("valid_loss"))) == 3
    torch.testing.assert_close(
        predict(together.models[1], a_set()), predict(apart.models[1], a_set())
    )


def a_network_fresh() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )


def test_one_of_several_seeds_is_what_fit_gives_alone():
    runtime.start(seed=5, dtype="float64")
    torch.manual_seed(5)
    alone = mlp()
    history = fit(alone, a_set(), optimizer=sgd(alone), epochs=2, batch_size=16)
    repeats = repeat(
        mlp,
        a_set(),
        optimizer=lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
        seeds=[4, 5],
        epochs=2,
        batch_size=16,
    )
    assert repeats.together and repeats[1]["train_loss"] == pytest.approx(
        history["train_loss"], abs=1e-10
    )


def test_what_does_not_learn_stays_as_it_was_and_tied_weights_stay_tied():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = (
                nn.Linear(36, 36),
                nn.Linear(36, 36),
                nn.Linear(36, 3),
            )
            self.second.weight = self.first.weight
            self.last.weight.requires_grad_(False)

        def forward(self, x):
            return self.last(self.second(self.first(x.flatten(1)).relu()))

    options = {
        "optimizer": partial(torch.optim.SGD, lr=0.05),
        "seeds": [0, 1],
        "epochs": 2,
        "batch_size": 16,
    }
    together, apart = (repeat(Tied, a_set(), together=mode, **options) for mode in (None, False))
    assert together.together
    for one, other in zip(together.models, apart.models, strict=True):
        torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=1e-12)
        assert one.second.weight is one.first.weight
    with runtime.seeded(1):
        assert torch.equal(together.models[1].last.weight, Tied().last.weight)


def test_a_rate_that_follows_each_seed_s_loss_trains_one_after_another():
    repeats = repeat(
        mlp,
        a_set(),
        optimizer=partial(torch.optim.SGD, lr=0.05),
        seeds=[0, 1],
        epochs=1,
        batch_size=16,
        scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau,
    )
    assert not repeats.together and "ReduceLROnPlateau" in repeats.reason


class Centred(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(36, 3)
        self.register_buffer("mean", torch.zeros(36))

    def forward(self, x):
        x = x.flatten(1)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return self.last(x - self.mean)


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.mask, self.last = (torch.rand(36) > 0.5).double(), nn.Linear(36, 3)

    def forward(self, x):
        return self.last(x.flatten(1) * self.mask)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps, self.last = nn.LSTM(6, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.last(self.steps(x[:, 0])[0][:, -1])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Centred, "assigns a buffer"),
        (Masked, "mask differs from seed to seed"),
        (Recurrent, "not batched by vmap"),
    ],
)
def test_networks_that_cannot_be_stacked_get_the_numbers_of_each_alone(make, reason):
    options = {
        "optimizer": partial(torch.optim.SGD, lr=0.05),
        "seeds": [1, 2],
        "epochs": 2,
        "batch_size": 16,
    }
    repeats, apart = (
        repeat(make, a_set(), **options),
        repeat(make, a_set(), together=False, **options),
    )
    assert not repeats.together and reason in repeats.reason
    for one, other in zip(repeats.models, apart.models, strict=True):
        assert same(weights(one), weights(other))


def test_an_embedding_with_a_padding_index_is_not_stacked():
    def make():
        return nn.Sequential(nn.Embedding(7, 4, padding_idx=3), nn.Flatten(), nn.Linear(20, 3))

    inputs = torch.randint(7, (40, 5)), torch.randint(3, (40,))
    repeats = repeat(
        make,
        inputs,
        optimizer=partial(torch.optim.SGD, lr=0.05),
        seeds=[3, 4],
        epochs=1,
        batch_size=10,
    )
    assert "another gradient" in repeats.reason and not any(
        model[0].weight[3].any() for model in repeats.models
    )


def test_a_loss_that_vmap_cannot_batch_trains_one_after_another():
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]), label_smoothing=0.1)
    repeats = repeat(
        mlp,
        a_set(),
        optimizer=partial(torch.optim.SGD, lr=0.05),
        seeds=[1, 2],
        epochs=1,
        batch_size=16,
        loss=loss,
    )
    assert not repeats.together and "vmap" in repeats.reason and len(repeats) == 2


def test_seeds_with_dropout_are_stacked_and_each_draws_what_it_draws_alone():
    def make():
        return nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.Dropout2d(0.3, inplace=True),
            nn.Flatten(),
            nn.AlphaDropout(0.2),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(64, 3),
        )

    sets = a_set(), a_set(seed=1)
    options = {
        "optimizer": partial(torch.optim.SGD, lr=0.05, momentum=0.9),
        "seeds": [3, 4],
        "epochs": 2,
        "batch_size": 16,
    }
    repeats = repeat(make, *sets, **options)
    assert repeats.together
    state = torch.get_rng_state()
    repeat(make, *sets, **options)
    assert torch.equal(torch.get_rng_state(), state)
    for seed, model in zip((3, 4), repeats.models, strict=True):
        with runtime.seeded(seed):
            alone = make()
            fit(alone, *sets, optimizer=sgd(alone), epochs=2, batch_size=16)
        for ours, theirs in zip(weights(model), weights(alone), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "kind",
    [
        partial(torch.optim.SGD, momentum=0.9, weight_decay=0.1, nesterov=True),
        partial(torch.optim.AdamW, weight_decay=0.1),
        torch.optim.RMSprop,
        torch.optim.Adagrad,
        torch.optim.NAdam,
    ],
)
def test_each_seed_has_its_own_learning_rate_in_one_stack(kind):
    options = {
        "optimizer": lambda parameters, rate: kind(parameters, lr=rate),
        "scheduler": lambda made: EachStep(torch.optim.lr_scheduler.CosineAnnealingLR(made, 8)),
        "learning_rates": [0.01, 0.02, 0.04],
        "seeds": [0, 0, 1],
        "epochs": 2,
        "batch_size": 16,
    }
    together, apart = (repeat(dense, a_set(), together=mode, **options) for mode in (None, False))
    assert together.together
    for one, other in zip(together.models, apart.models, strict=True):
        torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=1e-10)
    for one, other in zip(together, apart, strict=True):
        assert one["learning_rate"] == pytest.approx(other["learning_rate"], abs=1e-15)
        assert one.steps["learning_rate"] == pytest.approx(other.steps["learning_rate"])
        assert one.steps["loss"] == pytest.approx(other.steps["loss"], abs=1e-9)


def test_a_scheduler_that_does_not_follow_the_rate_is_not_stacked_with_several():
    rates = {"learning_rates": [0.01, 0.02], "seeds": [0, 1], "epochs": 1, "batch_size": 16}
    cycle = repeat(
        mlp,
        a_set(),
        optimizer=torch.optim.SGD,
        scheduler=lambda made: torch.optim.lr_scheduler.OneCycleLR(made, 0.1, total_steps=4),
        **rates,
    )
    assert not cycle.together
    with pytest.raises(ParameterError, match="one for each seed"):
        repeat(mlp, a_set(), optimizer=torch.optim.SGD, **rates | {"learning_rates": [0.1]})


@pytest.mark.parametrize("together", [None, False])
def test_a_seed_that_diverges_is_a_result_and_the_others_go_on(together):
    inputs = torch.randn(64, 3)
    sets = (inputs, inputs.sum(1, keepdim=True)), (inputs[:8], inputs[:8].sum(1, keepdim=True))
    options = {
        "optimizer": torch.optim.SGD,
        "seeds": [0, 1, 2],
        "epochs": 40,
        "batch_size": 8,
        "loss": F.mse_loss,
        "together": together,
    }
    repeats = repeat(lambda: nn.Linear(3, 1), *sets, learning_rates=[0.01, 1e3, 0.02], **options)
    assert repeats.together == (together is None)
    good, bad, other = repeats
    assert len(good) == len(other) == 40 and good.diverged is other.diverged is None
    assert 0 < len(bad) < 40 and f"epoch {len(bad) + 1}, step" in bad.diverged
    assert math.isfinite(bad[-1]["train_loss"]) and "diverged" in repr(bad)
    last = repeats.last("valid_loss")
    assert math.isnan(last[1]) and last[0] < 0.1 and last[2] < 0.1
    lost = repeat(lambda: nn.Linear(3, 1), *sets, learning_rates=[1e3] * 3, **options)
    assert [len(history) for history in lost] == [len(bad)] * 3 and all(
        history.diverged for history in lost
    )


def test_a_clipped_gradient_may_miss_where_nothing_learns():
    def make():
        network = mlp()
        network[1].requires_grad_(False)
        return network

    assert repeat(
        make,
        a_set(),
        optimizer=partial(torch.optim.SGD, lr=0.05),
        seeds=[1, 2],
        epochs=1,
        batch_size=16,
        clip_gradient=1.0,
    ).together


def test_ctrl_c_ends_all_seeds():
    calls = []

    def stop(images, *, generator):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return images

    with pytest.raises(training.Interrupted) as stopped:
        repeat(
            mlp,
            a_set(),
            optimizer=partial(torch.optim.SGD, lr=0.05),
            seeds=range(4),
            epochs=1,
            batch_size=16,
            augment=stop,
            together=False,
        )
    repeats = stopped.value.repeats
    assert [history.interrupted for history in repeats] == [False, True]


def test_networks_that_vmap_cannot_batch_are_trained_one_after_another_with_the_reason():
    class Branch(nn.Sequential):
        def forward(self, x):
            return super().forward(x if x.sum().item() > 0 else -x)

    repeats = repeat(
        lambda: Branch(mlp()),
        a_set(),
        seeds=[0, 1],
        epochs=1,
        batch_size=16,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
    )
    assert not repeats.together and "vmap" in repeats.reason


def test_repeat_leaves_the_seed_and_the_random_streams_as_they_were():
    machine, state = runtime.current(), torch.get_rng_state()
    repeat(
        mlp,
        a_set(),
        seeds=[1, 2],
        epochs=1,
        batch_size=16,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
    )
    assert runtime.current() == machine and torch.equal(torch.get_rng_state(), state)


def test_targets_in_a_dict_are_stacked_too():
    images = torch.rand(50, 1, 6, 6)
    pair = images, {"boxes": images.flatten(1)[:, :3], "weight": torch.ones(50)}

    def loss(outputs, targets):
        return ((outputs - targets["boxes"]).square().mean(1) * targets["weight"]).mean()

    together, apart = (
        repeat(
            mlp,
            pair,
            pair,
            optimizer=partial(torch.optim.SGD, lr=0.05),
            seeds=[0, 1],
            epochs=2,
            batch_size=16,
            loss=loss,
            together=mode,
        )
        for mode in (None, False)
    )
    assert together.together
    for one, other in zip(together, apart, strict=True):
        for ours, theirs in zip(numbers(one), numbers(other), strict=True):
            assert ours == pytest.approx(theirs, abs=1e-9)
