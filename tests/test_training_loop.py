"""The loop against hand-written loops."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training_toys import (
    a_network,
    a_set,
    by_hand,
    float64,  # noqa: F401  # every test computes in it
    same,
    sgd,
    weights,
)

from cnncourse import augment, runtime, training
from cnncourse.training import EachStep, evaluate, fit, predict


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("change", [None, partial(augment.crop, padding=1)])
def test_the_weights_are_those_of_a_hand_written_loop_to_the_bit(dtype, change):
    runtime.start(dtype=dtype)
    ours, theirs, images = a_network(), a_network(), a_set()
    fit(ours, images, optimizer=sgd(ours), epochs=3, batch_size=16, augment=change)
    by_hand(theirs, images, sgd(theirs), 3, 16, change)
    assert same(weights(ours), weights(theirs))


def test_the_loop_fits_on_one_screen():
    import ast
    import inspect

    function = ast.parse(inspect.getsource(fit)).body[0]
    assert function.end_lineno - function.body[1].lineno + 1 <= 40


def test_the_last_small_batch_counts_by_its_images():
    class Echo(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            return x + 0 * self.weight

    inputs = torch.tensor([0.0, 0.0, 0.0, 8.0])
    score = evaluate(Echo(), (inputs, torch.zeros(4)), batch_size=3, loss=F.mse_loss)
    assert score == (16.0, None)  # the mean of batch means would be 32
    model = Echo()
    history = fit(
        model,
        (inputs, torch.zeros(4)),
        optimizer=sgd(model),
        epochs=1,
        batch_size=3,
        loss=F.mse_loss,
    )
    assert history["train_loss"] == [16.0]


def test_evaluate_and_predict_equal_one_pass_over_everything_and_keep_the_mode():
    model, images = a_network(nn.Dropout(0.5)), a_set()
    model[1].eval()
    logits = predict(model, images, batch_size=7)
    assert model.training and not model[1].training
    model.eval()
    whole = model(images.images.double() / 255).detach()
    torch.testing.assert_close(logits, whole, rtol=0, atol=1e-12)
    loss, accuracy = evaluate(model, images, batch_size=7)
    assert loss == pytest.approx(float(F.cross_entropy(whole, images.labels)), abs=1e-12)
    assert accuracy == float((whole.argmax(1) == images.labels).double().mean())
    assert torch.equal(predict(model, images.images.double() / 255, batch_size=7), logits)


def test_gradients_are_clipped_to_the_norm():
    model = a_network()
    before = weights(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    fit(model, a_set(), optimizer=optimizer, epochs=1, batch_size=50, clip_gradient=1e-3)
    moved = sum(
        float((new - old).square().sum())
        for new, old, (name, _) in zip(
            weights(model), before, model.state_dict().items(), strict=True
        )
        if "running" not in name and "num" not in name
    )
    assert math.sqrt(moved) == pytest.approx(1e-3, rel=1e-2)


def test_a_scheduler_steps_once_an_epoch_and_one_cycle_or_each_step_once_a_step():
    rates, steps = {}, {}
    for name, make in {
        "epoch": lambda o: torch.optim.lr_scheduler.StepLR(o, 1, gamma=0.5),
        "each": lambda o: EachStep(torch.optim.lr_scheduler.StepLR(o, 1, gamma=0.5)),
        "cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=8),
        "plateau": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(
            o, factor=0.5, patience=0, threshold=10.0
        ),
    }.items():
        model = a_network()
        optimizer = sgd(model, 1.0 if name != "cycle" else 0.1)
        scheduler = make(optimizer)
        fit(
            model,
            a_set(),
            a_set(),
            optimizer=optimizer,
            scheduler=scheduler,
            epochs=2,
            batch_size=16,
        )
        rates[name] = optimizer.param_groups[0]["lr"]
        steps[name] = getattr(scheduler, "scheduler", scheduler).last_epoch
    assert rates["epoch"] == 0.25 and rates["each"] == 0.5**8 and rates["plateau"] == 0.25
    assert steps == {"epoch": 2, "each": 8, "cycle": 8, "plateau": 2}


def test_on_epoch_sees_the_history_and_ends_training_with_something_true():
    model, seen = a_network(), []
    history = fit(
        model,
        a_set(),
        optimizer=sgd(model),
        epochs=9,
        batch_size=50,
        on_epoch=lambda history: seen.append(len(history)) or len(history) == 2,
    )
    assert seen == [1, 2] and len(history) == 2


def test_the_range_test_ends_where_the_loss_climbs_and_puts_everything_back():
    model = a_network(nn.Dropout(0.1), seed=1)
    optimizer = sgd(model, 0.123)
    before, stream = weights(model), torch.get_rng_state()
    rates, losses = training.lr_range_test(
        model, a_set(), optimizer=optimizer, batch_size=16, high=1e4, steps=60
    )
    assert len(rates) == len(losses) < 60 and min(losses) < losses[0] < losses[-1]
    assert (
        same(weights(model), before)
        and optimizer.param_groups[0]["lr"] == 0.123
        and not optimizer.state
    )
    assert torch.equal(torch.get_rng_state(), stream)


def test_the_range_test_keeps_frozen_layers_and_takes_losses_below_zero():
    model = a_network()
    model[1].eval()
    rates, _ = training.lr_range_test(
        model,
        a_set(),
        optimizer=sgd(model),
        batch_size=16,
        steps=20,
        high=1e-3,
        loss=lambda outputs, targets: F.cross_entropy(outputs, targets) - 3,
    )
    assert len(rates) == 20 and not model[1].training and model[0].training
