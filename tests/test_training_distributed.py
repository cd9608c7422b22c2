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
from cnncourse.models.fractalnet import FractalNet
from cnncourse.models.stochastic_depth import stochastic_depth_cifar
from functools import partial
from training_toys import float64  # noqa: F401  # every test computes in it
machine = runtime.start(seed=1, dtype="float64")
results = []
class Skips(nn.Module):
    # Leaves one layer out by chance, never uses another; whether a third is used is up to the rows.
    def __init__(self):
        super().__init__()
        self.first, self.chance = nn.Linear(36, 36), nn.Linear(36, 36)
        self.never, self.rows, self.last = nn.Linear(36, 36), nn.Linear(36, 36), nn.Linear(36, 3)
    def forward(self, x):
        x = self.first(x.flatten(1))
        x = self.chance(x) if torch.rand(()) < 0.5 else x
        bright = x[:, 0] > 0.2
        if bright.any():
            x = x + bright[:, None] * self.rows(x)
        return self.last(x)
def thaw(history):
    model[0].requires_grad_(True)
for kind in ("stochastic depth", "fractal", "skips", "thawed"):
    torch.manual_seed(0)
    model = {{"stochastic depth": lambda: stochastic_depth_cifar(8, width=4),
             "fractal": lambda: FractalNet(2, 2, width=4, dropouts=(0.0, 0.1)),
             "skips": Skips,
             "thawed": a_network}}[kind]()
    if kind == "thawed":
        model[0].requires_grad_(False)
    shape = (1, 6, 6) if kind in ("skips", "thawed") else (3, 32, 32)
    pair = torch.randn(16, *shape, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 3
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    history = training.fit(model, pair, optimizer=optimizer, epochs=3, batch_size=8,
                           on_epoch=thaw if kind == "thawed" else None)
    results.append([numbers(history), [history.steps["loss"]] + [tensor.tolist() for tensor in weights(model)]])
class Drawing(torch.utils.data.Dataset):
    def __len__(self):
        return 24
    def __getitem__(self, row):
        return torch.full((1, 6, 6), row / 24) + torch.randn(1, 6, 6), row % 3
model = a_network()
history = training.fit(model, torch.utils.data.DataLoader(Drawing(), 8, shuffle=True), optimizer=sgd(model), epochs=2)
results.append([numbers(history), [history.steps["loss"]] + [tensor.tolist() for tensor in weights(model)]])
for kind in ("set", "loader"):
    model = a_network(nn.Dropout2d(0.3), nn.Dropout(0.2))
    images = a_set(49)  # batches of 8: the last holds one image, fewer than processes
    valid = a_set(33, seed=1)
    if kind == "loader":
        images, valid = as_loader(images, batch_size=8, shuffle=True), as_loader(valid, batch_size=8)
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.2])) if kind == "set" else nn.functional.cross_entropy
    history = training.fit(model, images, valid, optimizer=sgd(model), epochs=2, batch_size=8, clip_gradient=1.0,
                           loss=loss,
                           augment=partial(augment.crop, padding=1) if kind == "set" else None,
                           checkpoint=f"{{sys.argv[1]}}/{{kind}}-{{machine.world}}.pt")
    results.append([numbers(history), [history.steps["loss"]] + [tensor.tolist() for tensor in weights(model)]])
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
