"""A pretend GPU refuses what CUDA refuses, computes what the processor computes, and finds what a lesson mixes."""

import subprocess
import sys

import pytest

from cnncourse import __main__ as command
from cnncourse.lab import vary
from cnncourse.parameters import Parameter

BEGIN = """
import copy, numpy as np, torch, torch.nn.functional as F
from torch import nn
from cnncourse import augment, data, runtime, training
from cnncourse import pretend
pretend.start()
gpu, here, there = torch.device("pretend", 0), torch.arange(3.0), torch.arange(3.0).to("pretend")
torch.use_deterministic_algorithms(True)

def pooled(layer):
    return layer(torch.ones(1, 1, 5, 5, device=gpu, requires_grad=True)).sum()
"""
REFUSED = {  # what stops, in torch's words for CUDA
    "here + there": "same device",
    "layer.to(gpu)(here)": "same device",
    "layer(there)": "same device",
    "torch.cat([here, there])": "same device",
    "torch.equal(here, there)": "same device",
    "F.cross_entropy(there[None], torch.tensor([0]))": "same device",
    "here[there.long()]": "same device",
    "here * there[0]": "same device",
    "here.add_(there)": "same device",
    "there.numpy()": "to numpy",
    "np.asarray(there)": "to numpy",
    "np.mean(there)": "",
    "torch.rand(3, device=gpu, generator=torch.Generator())": "for generator",
    "there.long() @ there.long()": "not implemented",
    "there.view(3, 1).squeeze_()": "pretend",
    "pooled(nn.AdaptiveMaxPool2d(2))": "deterministic",
    "nn.Parameter(there).data.copy_(here) + here": "same device",
}
ALLOWED = {  # what CUDA allows, and the value it has
    "pooled(nn.MaxPool2d(2)).backward()": "None",
    "(there + 1).cpu()": "tensor([1., 2., 3.])",
    "there * torch.tensor(2.0)": "Pretend([0., 2., 4.], device='pretend:0')",
    "there[torch.tensor([2])].tolist()": "[2.0]",
    "float(there.sum())": "3.0",
    "f'{there.mean():.2f}'": "'1.00'",
    "here.clone().copy_(there)": "tensor([0., 1., 2.])",
    "torch.tensor([there[1], 2.0])": "tensor([1., 2.])",
    "torch.as_tensor([1, 2], device=gpu).device": "device(type='pretend', index=0)",
    "torch.arange(2, device=gpu).shape": "torch.Size([2])",
    "torch.randperm(3, generator=torch.Generator(gpu).manual_seed(0), device=gpu).sort()[0].tolist()": "[0, 1, 2]",
    "torch.vmap(lambda row: row * 2)(there[:, None]).tolist()": "[[0.0], [2.0], [4.0]]",
    "copy.deepcopy(layer.to(gpu)).weight.device.type": "'pretend'",
    "isinstance(layer.to(gpu).weight, nn.Parameter)": "True",
    "(weight := layer.weight) is layer.to(gpu).weight and weight is layer.to('cpu').weight": "True",
    "runtime.start(seed=1).device": "device(type='pretend', index=0)",
    "runtime.start(seed=1, dtype='float64').device": "device(type='cpu')",
}
TRAINED = """
def made():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2),
                         nn.Linear(144, 10))

digits = data.load("digits", True).subset(96, seed=0).normalised()
for device in ("cpu", "auto"):
    runtime.start(seed=0, device=device)
    net = made()
    step = torch.optim.Adam(net.parameters(), lr=0.01)
    history = training.fit(net, digits, digits, optimizer=step, epochs=2, batch_size=32, progress=False,
                           augment=lambda x, generator: augment.crop(x, 1, generator))
    result = training.repeat(made, digits, digits, optimizer=lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
                             seeds=range(2), epochs=2, batch_size=32, progress=False)
    print(next(net.parameters()).device.type, result.models[0][0].weight.device.type, result.together,
          history["train_loss"] + history["valid_accuracy"], result.last("valid_loss"),
          training.predict(net, digits).sum().item())
"""


def child(code: str) -> list[str]:
    """The lines that Python prints for the code, in a process that has the device."""
    run = subprocess.run(
        [sys.executable, "-c", BEGIN + code], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    cases = [*REFUSED, *ALLOWED]
    lines = child(f"""
for case in {cases!r}:
    layer, there = nn.Linear(3, 2), here.to(gpu)
    try:
        print(repr(eval(case)))
    except Exception as error:
        print("refused:", " ".join(str(error).split()))
""")
    return dict(zip(cases, lines, strict=True))


@pytest.mark.parametrize("case", REFUSED)
def test_what_cuda_refuses_is_refused(said, case):
    assert said[case].startswith("refused:") and REFUSED[case] in said[case]


@pytest.mark.parametrize("case", ALLOWED)
def test_what_cuda_allows_has_the_values_of_the_processor(said, case):
    assert said[case] == ALLOWED[case]


def test_networks_train_there_to_the_numbers_of_the_processor():
    cpu, there = child(TRAINED)
    assert there.replace("pretend", "cpu") == cpu and there.startswith("pretend pretend True")


LESSON = """# %% tags=["parameters"]
seed: int = 0  # of everything; at least 0
epochs: int = 10  # passes; 1 to 200

# %%
import torch
from cnncourse import runtime, training
runtime.start(seed=seed)
net = torch.nn.Linear(2, 2)
points = torch.randn(9, 2)
training.fit(net, (points, torch.zeros(9, dtype=int)), epochs=epochs, batch_size=3, progress=False,
             optimizer=torch.optim.SGD(net.parameters(), 0.1))

# %%
"""


@pytest.mark.parametrize(
    ("line", "told"),
    [("net(points)", "stopped in cell 3"), ("training.predict(net, points)", "runs through")],
)
def test_a_lesson_that_mixes_devices_is_stopped(tmp_path, monkeypatch, capsys, line, told):
    (tmp_path / "notebooks" / "text").mkdir(parents=True)
    (tmp_path / "notebooks" / "text" / "14_resnet.py").write_text(LESSON + line + "\n")
    monkeypatch.setenv("CNNCOURSE_ROOT", str(tmp_path))
    assert command.main(["pretend", "14"]) == int(told.startswith("stopped"))
    assert told in capsys.readouterr().out


@pytest.mark.parametrize("asked", ["device='cpu'", 'dtype="float64"'])
def test_a_lesson_that_asks_for_the_processor_has_nothing_to_mix(
    tmp_path, monkeypatch, capsys, asked
):
    (tmp_path / "notebooks" / "text").mkdir(parents=True)
    lesson = LESSON.replace("seed=seed)", f"seed=seed, {asked})") + "net(points)\n"
    (tmp_path / "notebooks" / "text" / "14_resnet.py").write_text(lesson)
    monkeypatch.setenv("CNNCOURSE_ROOT", str(tmp_path))
    assert command.main(["pretend", "14"]) == 0
    assert "stays on the processor" in capsys.readouterr().out


@pytest.mark.parametrize(("type", "default", "range", "value"), [
    ("int", 10, "1 to 200", 1), ("int", 0, "at least 0", 0), ("int", 0, "0 or 1024 to 60000", 1024),
    ("int", 2, "2 to 10", 2), ("float", 0.1, "above 0", 0.1),
    ("list[int]", [3, 4, 5], "2 or more values, each 1 to 9", [3, 4]),
    ("list[float]", [0.1, 0.2], "each above 0", [0.1]), ("str", "b", "one of a, b", "b"), ("bool", False, "", False),
])  # fmt: skip
def test_a_lesson_is_tried_at_its_smallest_size(type, default, range, value):
    assert vary.smallest(Parameter("p", type, default, f"what; {range}")) == value


@pytest.mark.parametrize("number", ["13", "15"])  # they take networks apart by hand
def test_lessons_run_there(number, capsys):
    assert command.main(["pretend", number]) == 0, capsys.readouterr().out
