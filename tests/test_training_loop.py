"""The loop against hand-written loops."""

import copy
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
from cnncourse.errors import ParameterError
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


# ---- going on, and what is measured beside


def test_called_again_with_the_same_optimizer_it_goes_on_and_with_a_new_one_it_begins_anew():
    whole, parts, anew = a_network(), a_network(), a_network()
    fit(whole, a_set(), optimizer=sgd(whole), epochs=3, batch_size=16)
    optimizer, seen = sgd(parts), []

    def watched(images, *, generator):
        seen.append(images.clone())
        return images

    for _ in range(3):
        fit(parts, a_set(), optimizer=optimizer, epochs=1, batch_size=16, augment=watched)
    assert same(weights(whole), weights(parts))
    assert len({image.numpy().tobytes() for image in seen[::4]}) == 3  # each epoch's first batch
    first = seen[0]
    for _ in range(2):
        seen.clear()
        fit(anew, a_set(), optimizer=sgd(anew), epochs=1, batch_size=16, augment=watched)
        assert torch.equal(seen[0], first)
    again = sgd(a_network())
    again.load_state_dict(optimizer.state_dict())
    assert again.param_groups[0]["epochs"] == 3


def test_metrics_are_columns_and_are_asked_in_evaluation_mode():
    model, train, modes = a_network(nn.Dropout(0.5)), a_set(), []

    def spread(network):
        modes.append((network.training, torch.is_grad_enabled()))
        return predict(network, train).std()

    history = fit(
        model,
        train,
        optimizer=sgd(model),
        epochs=2,
        batch_size=16,
        metrics={"after": lambda network: evaluate(network, train), "spread": spread},
        on_epoch=lambda history: history[-1].update(iou=0.1 * len(history)),
    )
    assert modes == [(False, False)] * 2 and model.training
    assert (history["after_loss"][-1], history["after_accuracy"][-1]) == evaluate(model, train)
    assert history["spread"][1] == float(predict(model, train).std())
    assert history.iou == [0.1, 0.2] and "iou" in history._repr_html_()
    assert history["after_loss"] != history["train_loss"]
    with pytest.raises(ParameterError, match="names of its own"):
        fit(model, train, optimizer=sgd(model), epochs=1, batch_size=16, metrics={"epoch": spread})


def test_every_step_is_in_the_history_with_its_learning_rate():
    model, images = a_network(), a_set()
    optimizer = sgd(model, 1.0)
    scheduler = EachStep(torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5))
    history = fit(model, images, optimizer=optimizer, scheduler=scheduler, epochs=2, batch_size=16)
    steps = history.steps
    assert steps["epoch"] == [1] * 4 + [2] * 4 and steps["step"] == [1, 2, 3, 4] * 2
    assert steps["learning_rate"] == [0.5**step for step in range(8)]
    sizes = torch.tensor([16, 16, 16, 2])
    for column, whole in (("loss", "train_loss"), ("accuracy", "train_accuracy")):
        means = (torch.tensor(steps[column]).view(2, 4) * sizes).sum(1) / 50
        torch.testing.assert_close(means, torch.tensor(history[whole]))
    assert history[1:].steps["loss"] == steps["loss"][4:]


def test_what_remains_of_a_set_is_left_out_on_request_and_a_tiny_rest_is_warned_of():
    def run(**options):
        model, sizes = a_network(), []

        def seen(images, *, generator):
            sizes.append(len(images))
            return images

        fit(model, a_set(50), optimizer=sgd(model), epochs=2, augment=seen, **options)
        return sizes

    assert run(batch_size=16) == [16, 16, 16, 2] * 2
    assert run(batch_size=16, drop_last=True) == [16] * 6
    assert run(batch_size=25, drop_last=True) == [25] * 4
    with pytest.warns(UserWarning, match="last batch has 2 images.*drop_last=True"):
        run(batch_size=24)
    assert run(batch_size=24, drop_last=True) == [24] * 4
    with pytest.raises(ParameterError, match="fewer than batch_size=64"):
        run(batch_size=64, drop_last=True)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))  # without BatchNorm a small batch is fine
    fit(model, a_set(50), optimizer=sgd(model), epochs=1, batch_size=24)


def test_frozen_layers_keep_weights_and_statistics_until_they_are_thawed():
    model = nn.Sequential(a_network()[:3], nn.Dropout(0.5), *a_network()[3:])
    assert training.frozen(model[0]) is model[0]
    before = weights(model)
    fit(model, a_set(), optimizer=sgd(model), epochs=2, batch_size=16)
    for name, old, new in zip(model.state_dict(), before, weights(model), strict=True):
        assert torch.equal(old, new) == name.startswith("0."), name
    assert model.training and model[1].training and not model[0][1].training
    other = copy.deepcopy(model)
    training.thawed(model[0])
    fit(model, a_set(), optimizer=sgd(model), epochs=1, batch_size=16)
    assert not same(weights(other[0]), weights(model[0])) and model[0][1].training
    assert not other.train()[0][1].training and other[0].train() is other[0]


def test_a_loop_of_one_s_own_gets_the_batches_of_fit():
    images, ours, theirs = a_set(), a_network(), a_network()
    change = partial(augment.crop, padding=1)
    optimizer = sgd(ours)
    for epoch in (1, 2):
        for inputs, labels in training.batches(images, 16, epoch=epoch, augment=change):
            assert inputs.dtype == torch.float64 and float(inputs.max()) <= 1
            optimizer.zero_grad()
            F.cross_entropy(ours(inputs), labels).backward()
            optimizer.step()
    fit(theirs, images, optimizer=sgd(theirs), epochs=2, batch_size=16, augment=change)
    assert same(weights(ours), weights(theirs))
    parts = list(training.batches(images, 16, drop_last=True))
    assert [len(labels) for _, labels in parts] == [16] * 3
    assert torch.equal(torch.cat([labels for _, labels in parts]), images.labels[:48])
    pair = (torch.rand(6, 2), torch.rand(6, 3)), torch.arange(6)
    (first, second), targets = next(training.batches(pair, 4))
    assert torch.equal(first, pair[0][0][:4]) and second.shape == (4, 3) and len(targets) == 4
