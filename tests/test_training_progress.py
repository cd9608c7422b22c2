"""Failures and their remedies, Ctrl-C, and the bar."""

import math
import os
import signal
import time
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2
from training_toys import (
    Calls,
    a_network,
    a_set,
    failing,
    float64,  # noqa: F401
    numbers,
    same,
    sgd,
    weights,
)

from cnncourse import data, runtime, training
from cnncourse.errors import (
    CheckpointError,
    MachineError,
    ParameterError,
    ShapeError,
    TrainingError,
)
from cnncourse.training import EachStep, evaluate, fit, progress, repeat
from cnncourse.training import loss as losses
from cnncourse.training.batches import TensorBatches


def test_a_loss_that_is_not_finite_names_epoch_step_rate_and_what_to_try():
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 1))
    text = failing(
        model,
        (torch.ones(64, 36), torch.ones(64, 1)),
        TrainingError,
        F.mse_loss,
        optimizer=torch.optim.SGD(model.parameters(), lr=1e30),
        epochs=3,
    )
    assert "epoch 2, step" in text or "epoch 1, step" in text
    assert "learning rate 1e+30" in text and "try learning rate 1e+29" in text


def test_inputs_with_nan_are_named_as_the_cause():
    inputs = torch.ones(50, 2)
    inputs[30, 1] = math.nan
    for size in (16, 50):  # in one batch of several, not the last, and in the only one
        assert "inputs hold nan" in failing(
            nn.Linear(2, 1), (inputs, torch.ones(50, 1)), TrainingError, F.mse_loss, batch_size=size
        )


def test_labels_outside_the_classes_name_label_and_outputs():
    images = data.ImageSet(a_set().images, torch.full((50,), 3), tuple("abcd"), "toy")
    text = failing(images=images, error=TrainingError)
    assert (
        "labels from 0 to 2" in text
        and "label 3" in text
        and "give the last layer 4 outputs" in text
    )


def test_a_wrong_shape_names_the_layer_and_what_came():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(60, 3))
    text = failing(model, error=ShapeError)
    assert "layer '2': Linear(in_features=60" in text and "float64 (16, 64)" in text
    text = failing(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 3)), error=ShapeError
    )
    assert "layer '0': Conv2d(3, 4" in text and "(16, 1, 6, 6)" in text
    with pytest.raises(ShapeError, match="layer '2'"):
        evaluate(model, a_set())


def test_targets_that_broadcast_are_refused():
    model = nn.Linear(2, 1)
    assert "targets[:, None]" in failing(
        model, (torch.ones(8, 2), torch.ones(8)), ShapeError, F.mse_loss
    )


def test_labels_of_a_wrong_dtype_are_refused():
    model = nn.Linear(2, 3)
    assert "labels.long()" in failing(model, (torch.ones(8, 2), torch.ones(8)), ShapeError)
    assert "labels.long()" in failing(
        model, (torch.ones(8, 2), torch.ones(8, dtype=torch.int32)), ShapeError
    )
    assert "targets.float()" in failing(
        model, (torch.ones(8, 2), torch.eye(8)[:, :3].long()), ShapeError
    )
    assert "labels.squeeze(1)" in failing(
        model, (torch.ones(8, 2), torch.ones(8, 1).long()), ShapeError
    )
    assert "to do: count the labels" in failing(
        model, (torch.ones(8, 2), -torch.ones(8).long()), TrainingError
    )


def test_an_empty_set_a_batch_of_none_and_negative_epochs_are_refused():
    assert "at least one image" in failing(images=a_set()[:0], error=ParameterError)
    assert "batch size of at least 1" in failing(batch_size=0, error=ParameterError)
    assert "argument epochs" in failing(epochs=-1, error=ParameterError)
    assert "cnncourse.data" in failing(images="cifar10", error=ShapeError)
    assert "4 rows" in failing(nn.Linear(2, 2), (torch.ones(3, 2), torch.ones(4)), ShapeError)


def test_an_optimizer_of_another_network_is_refused():
    assert "make the optimizer after the network" in failing(
        optimizer=sgd(a_network()), error=ParameterError
    )


def test_a_loss_without_a_gradient_or_that_is_no_mean_is_refused():
    for loss in (
        lambda a, b: F.cross_entropy(a, b, reduction="none"),
        lambda a, b: F.cross_entropy(a, b).detach(),
    ):
        assert "neither detach() nor item()" in failing(loss=loss, error=ShapeError)
    for reduction in ("sum", "none"):
        assert "mean over the batch" in failing(
            loss=nn.CrossEntropyLoss(reduction=reduction), error=ParameterError
        )


def test_things_of_the_wrong_kind_are_refused_before_training():
    model = a_network()
    assert "needs no closure" in failing(
        model, optimizer=torch.optim.LBFGS(model.parameters()), error=ParameterError
    )
    assert "requires_grad_(True)" in failing(
        a_network().requires_grad_(False), error=ParameterError
    )
    assert "ChainedScheduler" in failing(
        scheduler=[torch.optim.lr_scheduler.StepLR(sgd(model), 1)], error=ParameterError
    )
    assert "all images of a batch alike" in failing(
        augment=v2.RandomHorizontalFlip(), error=ParameterError
    )
    optimizer = sgd(model)
    short = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=5)
    text = failing(
        model, optimizer=optimizer, scheduler=short, batch_size=16, epochs=2, error=ParameterError
    )
    assert "total_steps=8" in text and "OneCycleLR(..., epochs=2, steps_per_epoch=4)" in text
    assert "instance of torch.optim" in failing(optimizer=torch.optim.SGD, error=ParameterError)
    assert "make the scheduler after" in failing(
        scheduler=torch.optim.lr_scheduler.StepLR(sgd(model), 1), error=ParameterError
    )
    with pytest.raises(ParameterError, match="at least one seed"):
        repeat(a_network, a_set(), seeds=[], optimizer=sgd, epochs=1, batch_size=16)


def test_a_mistake_in_the_validation_set_is_found_before_training():
    calls = []
    with pytest.raises(ParameterError, match="at least one image"):
        model = a_network(Calls(calls))
        fit(model, a_set(), a_set()[:0], optimizer=sgd(model), epochs=1, batch_size=16)
    assert not calls


def test_a_last_batch_of_one_image_and_bytes_for_floats_are_explained():
    normalised = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    assert "another batch_size" in failing(
        normalised, a_set(33), batch_size=8, error=ParameterError
    )
    images = a_set()
    assert "images.float() / 255" in failing(
        images=(images.images, images.labels), error=ShapeError
    )


def test_targets_none_of_which_counts_are_named():
    nothing = torch.zeros(8, 1, 4, 4), torch.full((8, 4, 4), 255)
    assert "all are the loss's ignore_index" in failing(
        nn.Conv2d(1, 3, 1), nothing, TrainingError, partial(F.cross_entropy, ignore_index=255)
    )


def test_a_gradient_that_is_no_number_is_found_at_the_end_of_the_epoch():
    model = nn.Linear(2, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    text = failing(
        model,
        (torch.zeros(4, 2), torch.zeros(4, 1)),
        TrainingError,
        batch_size=4,
        loss=lambda outputs, targets: ((outputs - targets) ** 2).sum(1).sqrt().mean(),
    )
    assert "finite weights" in text and "sqrt(0)" in text


def test_a_limit_that_is_no_norm_is_refused():
    for limit in (-1.0, 0):
        assert "above 0" in failing(clip_gradient=limit, error=ParameterError)


def test_a_plateau_is_watched_once_an_epoch_and_from_above():
    for mode, wrap in (("min", EachStep), ("max", lambda scheduler: scheduler)):
        model = a_network()
        optimizer = sgd(model)
        scheduler = wrap(torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode=mode))
        assert "mode='min'" in failing(
            model, optimizer=optimizer, scheduler=scheduler, error=ParameterError
        )


def test_a_wrong_label_anywhere_is_found_at_the_first_step():
    calls, labels = [], torch.zeros(50, dtype=torch.int64)
    labels[::7] = 9
    inputs = torch.rand(50, 1, 6, 6)
    assert "label 9" in failing(
        a_network(Calls(calls)), (inputs, labels), TrainingError, batch_size=4
    )
    assert len(calls) == 1


def test_memory_that_is_used_up_in_the_loss_is_not_taken_for_a_wrong_shape():
    def loss(outputs, targets):
        if len(outputs) > 12:
            raise torch.OutOfMemoryError("tried to allocate 2.00 GiB")
        return F.cross_entropy(outputs, targets)

    assert "a batch of 40" in failing(batch_size=40, loss=loss, error=TrainingError)


def test_an_operation_without_a_deterministic_form_says_how_to_go_on():
    class Puts(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(36, 3)

        def forward(self, x):
            return self.last(x.flatten(1)).put_(torch.tensor([0]), torch.zeros(1, dtype=x.dtype))

    runtime.start(
        dtype="float64", threads=2
    )  # only then sums could change their order, and torch is asked
    assert "runtime.start(deterministic=False)" in failing(Puts(), error=MachineError)
    runtime.start(dtype="float64", threads=2, deterministic=False)
    model = Puts()
    assert len(fit(model, a_set(), optimizer=sgd(model), epochs=1, batch_size=16)) == 1


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 5), (6, 3, 4, 5)])
def test_the_form_of_the_loss_that_is_deterministic_on_a_gpu_gives_the_same_mean(shape):
    outputs, targets = torch.randn(2, *shape), torch.randint(3, (2, shape[0], *shape[2:]))
    weight = torch.tensor([1.0, 2.0, 3.0])
    for axis, one, expected in (
        (1, (outputs[0], targets[0]), F.cross_entropy(outputs[0], targets[0], weight)),
        (2, (outputs, targets), None),
    ):
        rows, indices = losses._rows(*one, axis)
        assert rows.ndim == axis + 1 and indices.ndim == axis
        if expected is None:
            torch.testing.assert_close(
                losses._cross_entropies(rows, indices), losses._cross_entropies(*one)
            )
        else:
            torch.testing.assert_close(F.cross_entropy(rows, indices, weight), expected)


def test_a_folder_is_no_checkpoint(tmp_path):
    assert "name a file in it" in failing(checkpoint=tmp_path, error=CheckpointError)


def test_memory_that_is_used_up_names_the_batch_size_that_fits():
    class Greedy(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(36, 3)

        def forward(self, x):
            if len(x) > 12:
                raise torch.OutOfMemoryError("out of memory, tried to allocate 2.00 GiB")
            return self.last(x.flatten(1))

    text = failing(Greedy(), batch_size=40, error=TrainingError)
    assert "a batch of 40" in text and "batch_size=10 fits" in text and "2.00 GiB" in text
    with pytest.raises(TrainingError, match="lower its batch_size"):
        evaluate(Greedy(), a_set())


def test_memory_that_is_used_up_before_the_first_batch_is_explained(monkeypatch):
    def gather(self, *_):
        raise torch.OutOfMemoryError("out of memory, tried to allocate 2.00 GiB")

    monkeypatch.setattr(TensorBatches, "_gathered", gather)
    text = failing(batch_size=40, error=TrainingError)
    assert "a batch of 40" in text and "epoch 1, step 1" in text and "lower batch_size" in text
    monkeypatch.setattr(data.ImageSet, "to", gather)
    assert "pass a DataLoader" in failing(error=TrainingError)


def test_a_validation_loss_that_is_no_number_ends_training():
    inputs = torch.rand(8, 3)
    bad = inputs.clone()
    bad[2, 1] = math.nan
    model = nn.Linear(3, 1)
    with pytest.raises(
        training.Divergence, match="look for nan in the validation images"
    ) as raised:
        fit(
            model,
            (inputs, inputs[:, :1]),
            (bad, inputs[:, :1]),
            optimizer=sgd(model),
            epochs=2,
            batch_size=4,
            loss=F.mse_loss,
        )
    assert raised.value.history is training.last_history() and not raised.value.history


def test_ctrl_c_keeps_the_history_so_far_and_the_checkpoint_goes_on(tmp_path):
    whole = a_network()
    expected = fit(whole, a_set(), optimizer=sgd(whole), epochs=4, batch_size=16)
    calls = []

    def run(model):
        def loss(outputs, targets):
            calls.append(1)
            if len(calls) == 10:
                raise KeyboardInterrupt
            return F.cross_entropy(outputs, targets)

        return fit(
            model,
            a_set(),
            optimizer=sgd(model),
            epochs=4,
            batch_size=16,
            loss=loss,
            checkpoint=tmp_path / "c.pt",
        )

    with pytest.raises(KeyboardInterrupt, match="after 2 of 4 epochs") as stopped:
        run(a_network())
    history = stopped.value.history
    assert history.interrupted and len(history) == 2 and training.last_history() is history
    model = a_network(seed=9)
    history = run(model)
    assert numbers(history) == numbers(expected) and same(weights(model), weights(whole))
    assert not history.interrupted and training.last_history() is history


LESSON = """
import torch
from cnncourse import runtime, training
runtime.start()
done = []
def train(name):
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    data = torch.zeros(64, 3), torch.zeros(64, dtype=torch.long)
    history = training.fit(network, data, optimizer=optimizer, epochs=100_000, batch_size=2)
    done.append(name)
"""


def test_interrupting_a_kernel_ends_the_cell_and_not_one_network_of_many(kernel):
    assert answer(kernel, LESSON)["status"] == "ok"
    message = kernel[1].execute(
        "print('begun')\nfor name in range(18):\n    train(name)",
        stop_on_error=False,  # or the kernel aborts what reaches it in the moment after an error
    )
    while True:
        shown = kernel[1].get_iopub_msg(timeout=60)
        if shown["msg_type"] == "stream" and "begun" in shown["content"]["text"]:
            break
    time.sleep(0.5)
    kernel[0].interrupt_kernel()
    while (reply := kernel[1].get_shell_msg(timeout=60))["parent_header"]["msg_id"] != message:
        pass
    assert reply["content"]["status"] == "error" and reply["content"]["ename"] == "Interrupted"
    assert "training.last_history() has them" in reply["content"]["evalue"]
    check = "assert done == [] and training.last_history().interrupted and training.last_history()"
    assert answer(kernel, check)["status"] == "ok"


@pytest.fixture
def kernel():
    """A kernel that can be interrupted, also where these tests run in the background, which ignores interrupts."""
    from jupyter_client.manager import start_new_kernel

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        manager, client = start_new_kernel(
            kernel_name="python3", env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
    finally:
        signal.signal(signal.SIGINT, before)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def answer(kernel, code: str) -> dict:
    return kernel[1].execute_interactive(
        code, allow_stdin=False, timeout=60, output_hook=lambda message: None
    )["content"]


CELL = """
from cnncourse import runtime, training, data
import torch
runtime.start()
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
history = training.fit(model, data.digits(), optimizer=optimizer, epochs=2, batch_size=64)
"""


def test_a_bar_is_shown_in_a_notebook_that_somebody_watches_and_nothing_when_it_is_executed_for_storing(
    kernel,
):
    for watched in (False, True):
        shown = []
        reply = kernel[1].execute_interactive(
            CELL,
            allow_stdin=watched,
            stdin_hook=lambda message: None,
            timeout=60,
            output_hook=lambda message, shown=shown: shown.append(message),
        )
        assert reply["content"]["status"] == "ok"
        kinds = [
            message["msg_type"]
            for message in shown
            if message["msg_type"] not in ("status", "execute_input")
        ]
        assert kinds.count("display_data") == watched and not {"stream", "error"} & set(kinds)


def test_a_bar_in_a_terminal_names_epoch_and_loss_and_leaves_no_line(monkeypatch, capsys):
    monkeypatch.setattr(runtime, "interactive", lambda: True)
    monkeypatch.setattr(progress.Watch, "pause", 0.0)
    model = a_network()
    fit(model, a_set(), optimizer=sgd(model), epochs=2, batch_size=10)
    shown = capsys.readouterr().err
    assert (
        "epoch 2 of 2, loss" in shown and "\n" not in shown and shown.split("\r")[-1].strip() == ""
    )


def test_nothing_is_written_when_nobody_watches(capsys):
    model = a_network()
    fit(model, a_set(), optimizer=sgd(model), epochs=2, batch_size=10)
    assert capsys.readouterr() == ("", "")
