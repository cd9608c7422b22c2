"""Stop and go on: against kill -9, damage, and changed settings."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training_toys import (
    Calls,
    a_network,
    a_set,
    as_loader,
    float64,  # noqa: F401  # every test computes in it
    numbers,
    same,
    sgd,
    trained,
    weights,
)

from cnncourse import augment, data, runtime, training
from cnncourse.errors import (
    CheckpointError,
    TrainingError,
)
from cnncourse.training import (
    Checkpoint,
    EachStep,
    fit,
)


def long_run(dtype: str, path: object, wait: float = 0.0, threads: int = 1) -> list:
    """A hash of weights and random stream, and the history, of a run with everything random in it."""
    runtime.start(seed=1, dtype=dtype, threads=threads)
    model = a_network(nn.Dropout(0.3), seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = EachStep(torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40))

    def change(images, *, generator):
        time.sleep(wait)
        return augment.crop(images, 1, generator)

    print("ready", flush=True)
    history = fit(
        model,
        a_set(),
        a_set(seed=1),
        optimizer=optimizer,
        scheduler=scheduler,
        epochs=8,
        batch_size=12,
        augment=change,
        checkpoint=Checkpoint(path, 2) if path else None,
    )
    digest = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in weights(model)))
    digest.update(torch.get_rng_state().numpy().tobytes())
    return [digest.hexdigest(), numbers(history)]


def wide_run(threads: int) -> list:
    """A hash of weights and the history of a network whose layers are large enough to be shared among threads."""
    runtime.start(dtype="float64", threads=threads)
    torch.manual_seed(0)
    images = data.ImageSet(
        torch.randint(256, (64, 1, 28, 28), dtype=torch.uint8), torch.randint(3, (64,)), (), "wide"
    )
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(256, 3),
    )
    history = fit(model, images, optimizer=sgd(model), epochs=3, batch_size=32)
    return [
        hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in weights(model))).hexdigest(),
        numbers(history),
    ]


def elsewhere(function: str, *arguments: object) -> subprocess.Popen:
    """A function of this file in a process of its own; its last line is the result."""
    code = (
        f"import sys, json; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import test_training_checkpoint as tests\n"
        f"print(json.dumps(tests.{function}(*json.loads(sys.argv[1]))))"
    )
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, json.dumps(arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_WAIT_POLICY": "passive"},
    )  # threads share busy cores


def result(process: subprocess.Popen) -> list:
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0
    return json.loads(output.splitlines()[-1])


@pytest.mark.parametrize(("dtype", "steps"), [("float32", 5), ("float64", 17)])
def test_after_kill_9_the_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(
    dtype, steps, tmp_path
):
    killed = elsewhere("long_run", dtype, str(tmp_path / "c.pt"), 0.02)
    assert killed.stdout.readline() == "ready\n"
    deadline = time.monotonic() + 60
    while not (tmp_path / "c.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.02 * steps + 0.007)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert long_run(dtype, tmp_path / "c.pt") == long_run(dtype, None)


def test_two_processes_give_one_hash_and_another_thread_count_the_same_numbers_within_a_tolerance():
    runs = [elsewhere("wide_run", 2) for _ in range(2)]
    one_thread = wide_run(1)
    first, second = map(result, runs)
    assert first == second
    for ours, theirs in zip(first[1], one_thread[1], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-9)


def test_a_finished_run_returns_at_once_and_more_epochs_go_on(tmp_path):
    model, history = trained(tmp_path / "c.pt")
    again, loaded = trained(tmp_path / "c.pt", model=a_network(seed=5))
    assert loaded == history and same(weights(model), weights(again))
    longer, _ = trained(tmp_path / "c.pt", epochs=3, model=a_network(seed=5))
    whole, _ = trained(None, epochs=3)
    assert same(weights(longer), weights(whole))


def test_a_run_that_on_epoch_ended_stays_ended(tmp_path):
    for _ in range(2):
        model = a_network()
        history = fit(
            model,
            a_set(),
            optimizer=sgd(model),
            epochs=5,
            batch_size=50,
            checkpoint=tmp_path / "c.pt",
            on_epoch=lambda history: True,
        )
        assert len(history) == 1


@pytest.mark.parametrize("cut", [0, 10, 0.5, -1, "middle"])
def test_a_damaged_checkpoint_is_refused_and_the_last_good_one_used(cut, tmp_path):
    path = tmp_path / "c.pt"
    whole, _ = trained(path)
    content = path.read_bytes()
    if cut == "middle":
        place = content.index(weights(whole)[0].numpy().tobytes()[:64])
        content = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    else:
        content = content[: int(len(content) * cut) if isinstance(cut, float) else cut]
    path.write_bytes(content)
    model = a_network(seed=5)
    with pytest.warns(UserWarning, match="going on from c.pt.previous, epoch 1"):
        history = fit(
            model, a_set(), optimizer=sgd(model), epochs=2, batch_size=16, checkpoint=path
        )
    assert len(history) == 2 and same(weights(model), weights(whole))
    path.write_bytes(content)
    path.with_name("c.pt.previous").unlink()
    with pytest.raises(CheckpointError, match="remove c.pt to start anew"):
        trained(path)


def test_a_run_killed_between_the_two_renames_goes_on_from_the_previous_state(tmp_path):
    whole, _ = trained(tmp_path / "c.pt")
    (tmp_path / "c.pt").unlink()
    model, history = trained(tmp_path / "c.pt", model=a_network(seed=5))
    assert len(history) == 2 and same(weights(model), weights(whole))


def test_a_foreign_file_is_refused_and_left_alone(tmp_path):
    torch.save(a_network().state_dict(), tmp_path / "weights.pt")
    content = (tmp_path / "weights.pt").read_bytes()
    with pytest.raises(CheckpointError, match="a file with 0.weight"):
        trained(tmp_path / "weights.pt")
    assert (tmp_path / "weights.pt").read_bytes() == content


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, ("touch " + str(tmp_path / "ran"),)

    torch.save({"kind": "cnncourse checkpoint 2", "rows": Evil()}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError):
        trained(tmp_path / "c.pt")
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_of_other_settings_or_another_network_is_refused_by_name(tmp_path):
    path = tmp_path / "c.pt"
    trained(path)
    for change, text in (
        ({"lr": 0.1}, "optimizer lr 0.05"),
        ({"batch_size": 8}, "batch_size 16"),
        ({"images": a_set(seed=3)}, "data 'toy 0'"),
        ({"loss": partial(F.cross_entropy, label_smoothing=0.1)}, "expected loss 'cross_entropy"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(36, 3))}, "a checkpoint of this model"),
    ):
        with pytest.raises(CheckpointError, match=text):
            trained(path, **change)
    runtime.start(seed=1, dtype="float64")
    with pytest.raises(CheckpointError, match="seed 0"):
        trained(path)


@pytest.mark.parametrize("change", ["scheduler", "rate of a group", "total steps"])
def test_a_changed_schedule_is_refused_by_name(change, tmp_path):
    def run(epochs, other):
        model = a_network()
        groups = [
            {
                "params": model[0].parameters(),
                "lr": 0.01 if other and change == "rate of a group" else 0.1,
            },
            {"params": [*model[1].parameters(), *model[4].parameters()]},
        ]
        optimizer = torch.optim.SGD(groups, lr=0.5)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, 6 if other and change == "scheduler" else 3
        )
        if change == "total steps":
            scheduler = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, 0.1, epochs=epochs, steps_per_epoch=4
            )
        return fit(
            model,
            a_set(),
            optimizer=optimizer,
            scheduler=scheduler,
            epochs=epochs,
            batch_size=16,
            checkpoint=tmp_path / "c.pt",
        )

    run(2, False)
    with pytest.raises(
        CheckpointError,
        match={
            "scheduler": "T_max 3",
            "rate of a group": "lr of group 0 0.1",
            "total steps": "total_steps 8",
        }[change],
    ):
        run(3, True)


def test_numbers_of_numpy_are_saved_as_numbers(tmp_path):
    def run(epochs, path):
        model = a_network()
        optimizer = torch.optim.SGD(model.parameters(), lr=np.logspace(-2, -1, 3)[1])
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, np.array([1, 2]))
        return model, fit(
            model,
            a_set(),
            optimizer=optimizer,
            scheduler=scheduler,
            epochs=epochs,
            batch_size=16,
            clip_gradient=np.float64(1),
            checkpoint=path,
        )

    whole, _ = run(3, None)
    run(2, tmp_path / "c.pt")
    assert same(weights(run(3, tmp_path / "c.pt")[0]), weights(whole))


def test_what_cannot_be_read_back_is_refused_at_the_first_save(tmp_path):
    model = a_network()
    optimizer = sgd(model)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    scheduler.thing = Path("here")
    with pytest.raises(CheckpointError, match="plain numbers"):
        fit(
            model,
            a_set(),
            optimizer=optimizer,
            scheduler=scheduler,
            epochs=1,
            batch_size=16,
            checkpoint=tmp_path / "c.pt",
        )
    assert not list(tmp_path.iterdir())


def test_a_loss_that_learns_goes_on_where_it_stopped(tmp_path):
    class Temperature(nn.Module):
        def __init__(self):
            super().__init__()
            self.log = nn.Parameter(torch.zeros(()))

        def forward(self, outputs, targets):
            return F.cross_entropy(outputs * self.log.exp(), targets)

    def run(epochs, path):
        model, loss = a_network(), Temperature()
        optimizer = torch.optim.SGD([*model.parameters(), *loss.parameters()], lr=0.1)
        fit(
            model,
            a_set(),
            optimizer=optimizer,
            epochs=epochs,
            batch_size=16,
            loss=loss,
            checkpoint=path,
        )
        return loss.log.item()

    whole = run(4, None)
    run(2, tmp_path / "c.pt")
    assert run(4, tmp_path / "c.pt") == whole != 0


def test_weights_that_are_no_numbers_never_take_the_place_of_good_ones(tmp_path):
    model, inputs = nn.Linear(3, 1), torch.randn(400, 3)
    with pytest.raises(TrainingError):
        fit(
            model,
            (inputs, inputs.sum(1, keepdim=True)),
            optimizer=torch.optim.SGD(model.parameters(), lr=30.0),
            epochs=5,
            batch_size=2,
            loss=F.mse_loss,
            checkpoint=Checkpoint(tmp_path / "c.pt", steps=5),
        )
    for path in tmp_path.iterdir():
        assert torch.load(path, weights_only=True)["model"]["weight"].isfinite().all()


def test_a_checkpoint_that_does_not_fit_leaves_the_network_alone_and_a_path_that_cannot_be_is_found_first(
    tmp_path,
):
    trained(tmp_path / "c.pt")
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    before = weights(model)
    with pytest.raises(CheckpointError, match="1.bias .*here missing"):
        trained(tmp_path / "c.pt", model=model)
    assert same(weights(model), before)
    calls = []
    with pytest.raises(CheckpointError, match="folder that can be made"):
        trained(tmp_path / "c.pt" / "run.pt", model=a_network(Calls(calls)))
    assert not calls


@pytest.mark.parametrize(
    "name",
    [
        "StepLR",
        "MultiStepLR",
        "ExponentialLR",
        "CosineAnnealingLR",
        "OneCycleLR",
        "CyclicLR",
        "LambdaLR",
        "ReduceLROnPlateau",
        "SequentialLR",
        "CosineAnnealingWarmRestarts",
    ],
)
def test_every_common_scheduler_resumes_with_equal_rates(name, tmp_path):
    from torch.optim import lr_scheduler as schedulers

    def make(optimizer):
        return {
            "StepLR": lambda: schedulers.StepLR(optimizer, 2),
            "MultiStepLR": lambda: schedulers.MultiStepLR(optimizer, [1, 3]),
            "ExponentialLR": lambda: schedulers.ExponentialLR(optimizer, 0.9),
            "CosineAnnealingLR": lambda: schedulers.CosineAnnealingLR(optimizer, 4),
            "OneCycleLR": lambda: schedulers.OneCycleLR(optimizer, 0.1, total_steps=4),
            "CyclicLR": lambda: schedulers.CyclicLR(optimizer, 0.01, 0.1, 2),
            "LambdaLR": lambda: schedulers.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch)),
            "ReduceLROnPlateau": lambda: schedulers.ReduceLROnPlateau(
                optimizer, patience=0, threshold=0.9
            ),
            "SequentialLR": lambda: schedulers.SequentialLR(
                optimizer,
                [
                    schedulers.LinearLR(optimizer, 0.1, total_iters=2),
                    schedulers.CosineAnnealingLR(optimizer, 2),
                ],
                [2],
            ),
            "CosineAnnealingWarmRestarts": lambda: schedulers.CosineAnnealingWarmRestarts(
                optimizer, 2
            ),
        }[name]()

    def run(epochs, path):
        model = a_network()
        optimizer = sgd(model)
        return model, fit(
            model,
            a_set(),
            optimizer=optimizer,
            scheduler=make(optimizer),
            epochs=epochs,
            batch_size=50,
            checkpoint=path,
        )

    whole, expected = run(4, None)
    run(2, tmp_path / "c.pt")
    model, history = run(4, tmp_path / "c.pt")
    assert history["learning_rate"] == expected["learning_rate"] and same(
        weights(model), weights(whole)
    )


def test_a_loader_run_resumes_in_the_middle_of_an_epoch(tmp_path):
    def run(path, stop=None):
        model = a_network()
        loader = as_loader(a_set(), batch_size=8, shuffle=True)
        calls = []

        def collate(pairs):
            calls.append(1)
            if len(calls) == stop:
                raise KeyboardInterrupt
            return tuple(map(torch.stack, zip(*pairs, strict=True)))

        loader.collate_fn = collate
        history = fit(
            model,
            loader,
            optimizer=sgd(model),
            epochs=2,
            batch_size=8,
            checkpoint=Checkpoint(path, 2) if path else None,
        )
        return model, history, len(calls)

    whole, expected, calls = run(None)
    with pytest.raises(training.Interrupted):
        run(tmp_path / "c.pt", stop=12)
    model, history, fewer = run(tmp_path / "c.pt")
    assert (
        numbers(history) == numbers(expected)
        and same(weights(model), weights(whole))
        and fewer < calls / 2
    )
