"""What only a GPU can show: stop and resume to the bit there, NCCL, and seeds trained together."""

import hashlib
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from cnncourse import augment, data, runtime, training

pytestmark = [
    # torch 2.11 warns of its own use of TorchScript when it is asked to compile for the first time
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
    # what the compiler thinks of float32 without TensorFloat32, which the course never switches on by itself
    pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores:UserWarning"),
    # torch records an empty graph first, to have its memory, and hides the warning where warnings are no errors
    pytest.mark.filterwarnings("ignore:The CUDA Graph is empty:UserWarning"),
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="no GPU: resume, NCCL and stacked seeds were not seen on one (pytest -m gpu)",
    ),
]


def pictures(count: int, seed: int = 0) -> data.ImageSet:
    generator = torch.Generator().manual_seed(seed)
    return data.ImageSet(
        torch.randint(256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8),
        torch.randint(3, (count,), generator=generator),
        tuple("abc"),
        "toy",
    )


def network(*extra: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        *extra,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


def digest(model: nn.Module) -> str:
    whole = hashlib.sha256()
    for tensor in model.state_dict().values():
        whole.update(tensor.cpu().numpy().tobytes())
    return whole.hexdigest()


class Stop(Exception):
    pass


def run(checkpoint: Path | None, stop: int | None = None, epochs: int = 3) -> tuple[str, list, int]:
    """(hash of the weights, losses, steps taken) with dropout, crops and momentum; ends before step `stop`."""
    machine = runtime.start(device="cuda", seed=1, deterministic=True)
    model = network(nn.Dropout(0.3)).to(machine.device)
    taken = []

    def change(images, *, generator):
        if len(taken) == stop:
            raise Stop
        taken.append(1)
        return augment.crop(images, 1, generator)

    history = training.fit(
        model,
        pictures(200),
        pictures(90, seed=1),
        optimizer=torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, fused=True),
        epochs=epochs,
        batch_size=16,
        augment=change,
        checkpoint=checkpoint and training.Checkpoint(checkpoint, 2),
        progress=False,
    )
    return digest(model), history["valid_loss"], len(taken)


@pytest.mark.parametrize("stop", [5, 13, 20])  # in the first epoch, at its end, in the second
def test_a_run_that_was_stopped_ends_with_the_bits_of_an_uninterrupted_one(stop, tmp_path):
    weights, losses, steps = run(None)
    assert run(None)[0] == weights  # otherwise the comparison below would say nothing
    with pytest.raises(Stop):
        run(tmp_path / "c.pt", stop)
    again = run(tmp_path / "c.pt")
    assert again[:2] == (weights, losses)
    assert again[2] < steps  # it went on, and did not begin anew


def test_a_compiled_network_trains_and_predicts_as_one_that_is_not():
    found = []
    for compiled in (False, True):
        machine = runtime.start(device="cuda", seed=1, compile=compiled)
        for seed in (0, 1):  # the second network meets the code and the recorded steps of the first
            torch.manual_seed(seed)
            model = network().to(machine.device)
            history = training.fit(
                model,
                pictures(200),
                pictures(90, seed=1),
                optimizer=torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, fused=True),
                epochs=3,
                batch_size=16,
                clip_gradient=5.0,
                progress=False,
            )
            outputs = training.predict(model, pictures(90, seed=1), batch_size=32)
            found.append((outputs, torch.tensor(history["train_loss"])))
    for plain, compiled in zip(found[:2], found[2:], strict=True):
        for one, other in zip(plain, compiled, strict=True):
            torch.testing.assert_close(
                one, other, rtol=1e-3, atol=1e-4
            )  # float32, other order of sums
    assert not torch.allclose(found[0][0], found[1][0], rtol=1e-3, atol=1e-4)


ALONE = """
import json, sys, warnings
warnings.simplefilter("error")
sys.path.insert(0, {tests!r})
import torch, torch.distributed as dist
from test_gpu import network, pictures, digest
from cnncourse import runtime, training
machine = runtime.start(device="cuda", seed=1, dtype="float64")
model = network(torch.nn.Dropout2d(0.3)).to(machine.device)
history = training.fit(model, pictures(200), pictures(90, seed=1), batch_size=16, epochs=2, clip_gradient=1.0,
                       optimizer=torch.optim.SGD(model.parameters(), 0.05, momentum=0.9), progress=False,
                       checkpoint=sys.argv[1] + ".pt")
with open(sys.argv[1], "w") as file:
    json.dump([[w.flatten().tolist() for w in model.state_dict().values()], history["valid_loss"],
               dist.get_backend() if dist.is_initialized() else None], file)
"""


def test_one_process_of_nccl_gives_the_numbers_of_none(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(ALONE.format(tests=str(Path(__file__).parent)))
    root = str(Path(__file__).parents[1])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1"]
    found = []
    for name, how in (("alone", []), ("nccl", torchrun)):
        subprocess.run(
            [sys.executable, *how, script, tmp_path / name],
            env=environment,
            check=True,
            timeout=300,
        )
        found.append(json.loads((tmp_path / name).read_text()))
    (plain, losses, nothing), (shared, others, backend) = found
    assert (nothing, backend) == (None, "nccl")
    assert losses == pytest.approx(others, abs=1e-9)
    for one, other in zip(plain, shared, strict=True):
        assert one == pytest.approx(other, abs=1e-9)


def test_seeds_trained_together_are_those_trained_one_after_another():
    runtime.start(device="cuda", dtype="float64", deterministic=False)
    options = {
        "optimizer": lambda weights: torch.optim.SGD(weights, 0.05, momentum=0.9),
        "epochs": 2,
        "batch_size": 16,
        "seeds": range(4),
        "augment": partial(augment.crop, padding=1),
        "progress": False,
    }
    together = training.repeat(network, pictures(200), **options)
    apart = training.repeat(network, pictures(200), together=False, **options)
    assert together.together, together.reason
    for one, other in zip(together.models, apart.models, strict=True):
        for ours, theirs in zip(
            one.state_dict().values(), other.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_parts_of_a_set_on_a_gpu_are_those_of_a_set_on_the_processor():
    whole = pictures(200)
    parts = [whole.split([0.7, 0.3], seed=1, stratified=True), whole.split([0.7, 0.3], seed=1)]
    there = whole.to("cuda")
    others = [there.split([0.7, 0.3], seed=1, stratified=True), there.split([0.7, 0.3], seed=1)]
    parts += [(whole.subset(50, seed=2),)]
    others += [(there.subset(50, seed=2),)]
    for ours, theirs in zip(parts, others, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert other.device.type == "cuda" and torch.equal(one.images, other.images.cpu())
