"""Several processes against one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SHARED = """
import sys, json, warnings, torch
sys.path.insert(0, {tests!r})
from training_toys import a_network, a_set, as_loader, sgd, numbers, weights
warnings.simplefilter("error")
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from cnncourse import augment, runtime, training
from functools import partial
from training_toys import float64  # noqa: F401  # every test computes in it
machine = runtime.start(seed=1, dtype="float64")
results = []
for kind in ("set", "loader"):
    model = a_network(nn.Dropout2d(0.3), nn.Dropout(0.2))
    images = a_set(49)  # batches of 16: the last holds one image, fewer than processes
    valid = a_set(33, seed=1)
    if kind == "loader":
        images, valid = as_loader(images, batch_size=16, shuffle=True), as_loader(valid, batch_size=16)
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.2])) if kind == "set" else nn.functional.cross_entropy
    history = training.fit(model, images, valid, optimizer=sgd(model), epochs=2, batch_size=16, clip_gradient=1.0,
                           loss=loss,
                           augment=partial(augment.crop, padding=1) if kind == "set" else None,
                           checkpoint=f"{{sys.argv[1]}}/{{kind}}-{{machine.world}}.pt")
    results.append([numbers(history), [tensor.tolist() for tensor in weights(model)]])
if machine.rank == 0:
    with open(f"{{sys.argv[1]}}/{{machine.world}}.json", "w") as file:
        json.dump(results, file)
"""


def test_two_processes_give_the_numbers_of_one_and_write_one_checkpoint(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SHARED.format(tests=str(Path(__file__).parent)))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    alone = subprocess.Popen([sys.executable, script, tmp_path], env=environment)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node=2",
            script,
            tmp_path,
        ],
        env=environment,
        check=True,
        timeout=120,
        capture_output=True,
    )
    assert alone.wait(timeout=60) == 0
    one, two = (json.loads((tmp_path / f"{world}.json").read_text()) for world in (1, 2))
    for (ours, our_weights), (theirs, their_weights) in zip(two, one, strict=True):
        for row, other in zip(ours, theirs, strict=True):
            assert row == pytest.approx(other, abs=1e-9)
        for tensor, other in zip(our_weights, their_weights, strict=True):
            torch.testing.assert_close(torch.tensor(tensor), torch.tensor(other), rtol=0, atol=1e-9)
    assert {path.name for path in tmp_path.glob("*-2.pt")} == {"set-2.pt", "loader-2.pt"}
