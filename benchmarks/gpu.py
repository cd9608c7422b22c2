"""What of a training step on a GPU its kernels take, what the data take, and what the settings of the runtime bring.

    python benchmarks/gpu.py            some minutes on a GPU, mostly compilation; without one it says what it skips
    python benchmarks/gpu.py --store    write benchmarks/RESULTS-gpu.md

A ResNet-18 for pictures of 32 x 32 (torchvision's, with a stem that keeps their size) on random pictures, 512 a step,
in bf16, channels_last, compiled, with a fused optimizer, crops and flips, metrics and history; beside it the ResNet-20
of section 4.2 of the ResNet paper, whose kernels are so short that the host decides. Everything is a difference of two
runs, of one epoch and of more, so that what happens once a run does not count; runs alternate, and one before them
compiles and chooses algorithms. Kernel time is the union of the kernels and copies in the profiler's trace; a run that
only makes the batches gives the share of the data. The share of the peak counts 2 operations a multiply-add and three
passes a step (forward, gradient of the inputs, gradient of the weights) against 989 TFLOP/s, the dense bf16 peak that
the maker states for H100 and H200. Runs for accuracy are those of full_run.py and fast_run.py.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from functools import partial
from pathlib import Path

import _printing as printing
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from cnncourse import augment, cost, data, models, paths, runtime, training
from cnncourse.training.batches import batched

BATCH = 512
FAST = {
    "precision": "bf16",
    "memory_format": "channels_last",
    "compile": True,
    "deterministic": False,
}
CHANGE = augment.compose(partial(augment.crop, padding=4), augment.flip)
PEAK = 989e12  # dense bf16 operations a second of an H100 or H200, by its maker


def pictures(count: int, channels: int, side: int) -> data.ImageSet:
    generator = torch.Generator().manual_seed(0)
    return data.ImageSet(
        torch.randint(256, (count, channels, side, side), generator=generator, dtype=torch.uint8),
        torch.randint(10, (count,), generator=generator),
        tuple("0123456789"),
        "random pictures",
    )


def network(images: data.ImageSet, name: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    channels = images.images.shape[1]
    if name == "resnet20":
        model = models.resnet.resnet_cifar(20, in_channels=channels)
    else:
        model = models.build(name, num_classes=10, in_channels=channels, image_size=32)
    model = model.to(images.device)
    fused = images.device.type == "cuda"
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=fused)


def timed(call, *arguments) -> float:
    """Seconds of one call, the device's queue included."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    call(*arguments)
    torch.cuda.synchronize()
    return time.perf_counter() - start


def wall(call, runs: int) -> float:
    """Median seconds of a call, after one that does not count."""
    return statistics.median([timed(call) for _ in range(runs + 1)][1:])


def epoch(call, runs: int) -> float:
    """Seconds of an epoch: call(4) less call(1), a third of it, taken in turns after one turn that does not count."""
    turns = [(timed(call, 1), timed(call, 4)) for _ in range(runs + 1)]
    return statistics.median(many - one for one, many in turns[1:]) / 3


def spans(call) -> list[tuple[float, float]]:
    """(start, end) in seconds of the kernels and copies of one call."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        call()
        torch.cuda.synchronize()
    on_device = [
        event
        for event in seen.profiler.kineto_results.events()
        if event.device_type() == torch.autograd.DeviceType.CUDA and not event.is_user_annotation()
    ]
    return sorted(
        (event.start_ns() / 1e9, (event.start_ns() + event.duration_ns()) / 1e9)
        for event in on_device
    )


def busy(call) -> float:
    """Seconds in which the device worked during a call; raises when the recorder lost events."""
    first, second = spans(call), spans(call)
    if abs(len(first) - len(second)) > 0.001 * len(second):
        raise RuntimeError(
            f"the profiler saw {len(first)} and then {len(second)} events of the same work: run again"
        )
    total, end = 0.0, -math.inf
    for start, stop in second:
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def by_hand(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: data.ImageSet, epochs: int
) -> None:
    """The loop of an engineer with the same settings, without metrics and history."""
    model = torch.compile(model, dynamic=False, mode="reduce-overhead").train()
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        order = torch.randperm(len(images), device=images.device)
        for rows in order.split(BATCH):
            batch = (
                CHANGE(images.images.index_select(0, rows), generator=generator).float().div_(255)
            )
            with torch.autocast("cuda", dtype=torch.bfloat16):
                loss = F.cross_entropy(model(batch), images.labels.index_select(0, rows))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def step(images: data.ImageSet, runs: int, name: str) -> dict[str, float]:
    """Shares and ratios of an epoch's steps, and images a second."""
    machine = runtime.start(**FAST)
    images = images.to(machine.device)
    model, optimizer = network(images, name)
    passes = 3 * 2 * cost.table(model, tuple(images.images.shape[1:])).multiply_adds  # an image
    batches = batched(images, BATCH, machine, shuffle=True, augment=CHANGE)

    def fit(epochs: int) -> None:
        training.fit(
            model,
            images,
            optimizer=optimizer,
            epochs=epochs,
            batch_size=BATCH,
            augment=CHANGE,
            progress=False,
        )

    def fetch(epochs: int) -> None:
        for number in range(epochs):
            for _ in batches.epoch(number):
                pass

    ours = epoch(fit, runs)
    kernels = (busy(partial(fit, 3)) - busy(partial(fit, 1))) / 2
    fed = (busy(partial(fetch, 3)) - busy(partial(fetch, 1))) / 2
    model, optimizer = network(images, name)
    model.to(memory_format=torch.channels_last)
    hand = epoch(partial(by_hand, model, optimizer, images), runs)
    return {
        "wall time over kernel time (at most 1.05)": ours / kernels,
        "kernels of the data path over all (at most 0.03)": fed / kernels,
        "wall time over a hand-written loop": ours / hand,
        "share of the dense bf16 peak (at least 0.25)": passes * len(images) / ours / PEAK,
        "milliseconds a step": 1000 * ours / len(batches),
        "images a second": len(images) / ours,
    }


def settings(images: data.ImageSet, runs: int) -> dict[str, float]:
    """Wall time of each setting over that of float32 as torch has it."""
    seconds = {}
    for name, chosen in {
        "float32": {},
        "float32, deterministic": {"deterministic": True},
        "bf16": {"precision": "bf16"},
        "bf16, channels_last": {"precision": "bf16", "memory_format": "channels_last"},
        "bf16, channels_last, compiled": FAST,
    }.items():
        machine = runtime.start(**{"deterministic": False} | chosen)
        moved = images.to(machine.device)
        model, optimizer = network(moved, "resnet18")
        seconds[name] = wall(
            partial(
                training.fit,
                model,
                moved,
                optimizer=optimizer,
                epochs=2,
                batch_size=BATCH,
                augment=CHANGE,
                progress=False,
            ),
            runs,
        )
    return {name: value / seconds["float32"] for name, value in seconds.items()}


def seeds(runs: int) -> float:
    """Eight seeds of a small CNN one after another, over all at once (at least 3)."""
    machine = runtime.start(deterministic=False)
    digits = data.load("digits", True).to(machine.device)

    def cnn() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(144, 10)
        )

    def run(together: bool | None) -> None:
        repeats = training.repeat(
            cnn,
            digits,
            optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
            epochs=5,
            batch_size=64,
            together=together,
            progress=False,
        )
        if together is None and not repeats.together:
            raise RuntimeError(f"the seeds were not trained together: {repeats.reason}")

    return wall(partial(run, False), runs) / wall(partial(run, None), runs)


def refused() -> list[str]:
    """Operations of the lessons whose backward pass torch refuses in deterministic mode on this device.

    `torchvision.ops.roi_align` is not among them: in this mode torchvision compiles a form of its own, slowly.
    """
    machine = runtime.start(deterministic=True)
    images = torch.rand(2, 3, 8, 8, device=machine.device)
    grid = F.affine_grid(
        torch.eye(2, 3, device=machine.device).repeat(2, 1, 1), (2, 3, 8, 8), align_corners=False
    )
    operations = {
        "adaptive_avg_pool2d to 1 x 1": lambda x: F.adaptive_avg_pool2d(x, 1),
        "adaptive_avg_pool2d to 3 x 3": lambda x: F.adaptive_avg_pool2d(x, 3),
        "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x, 3),
        "max_pool2d": lambda x: F.max_pool2d(x, 2),
        "avg_pool2d": lambda x: F.avg_pool2d(x, 2),
        "max_unpool2d": lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
        "interpolate nearest": lambda x: F.interpolate(x, scale_factor=2),
        "interpolate bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
        "grid_sample": lambda x: F.grid_sample(x, grid, align_corners=False),
        "conv_transpose2d": lambda x: F.conv_transpose2d(
            x, torch.ones(3, 2, 2, 2, device=x.device), stride=2
        ),
        "cross_entropy, (N, C)": lambda x: F.cross_entropy(
            x.mean((2, 3)), torch.zeros_like(x[:, 0, 0, 0]).long()
        ),
        "cross_entropy, (N, C, H, W)": lambda x: F.cross_entropy(
            x, torch.zeros_like(x[:, 0]).long()
        ),
        "interpolate bicubic": lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"),
        "roi_pool": lambda x: torchvision.ops.roi_pool(
            x, [torch.tensor([[0.0, 0, 4, 4]], device=x.device)] * 2, 2
        ),
        "reflection padding": lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
        "embedding": lambda x: F.embedding((x[:, 0, 0] > 0.5).long(), x[0, 0, :2]),
    }
    found = []
    for name, operation in operations.items():
        try:
            operation(images.clone().requires_grad_()).sum().backward()
        except RuntimeError as error:
            if "deterministic" not in str(error):
                raise
            found.append(name)
    return found


def table(found: dict[str, float]) -> str:
    return printing.table(["", ""], found.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--store", action="store_true", help="write benchmarks/RESULTS-gpu.md")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print(
            "skipped: this machine has no GPU; kernel share, data path, settings, seeds and deterministic mode there "
            "were not measured"
        )
        return
    kinds = {
        "Refused in deterministic mode": lambda runs: ", ".join(refused()) or "none of those tried",
        "A step of ResNet-18, 512 pictures of 3 x 32 x 32": lambda runs: table(
            step(pictures(98 * BATCH, 3, 32), runs, "resnet18")
        ),
        "A step of ResNet-20, 512 pictures of 3 x 32 x 32": lambda runs: table(
            step(pictures(98 * BATCH, 3, 32), runs, "resnet20")
        ),
        "Eight seeds of a small CNN, one after another over all at once (at least 3)": lambda runs: (
            f"{seeds(runs):.2f}"
        ),
        "Settings, wall time of ResNet-18 over float32": lambda runs: table(
            settings(pictures(10 * BATCH, 3, 32), runs)
        ),
    }
    facts = runtime.environment()
    how = __doc__[__doc__.index("A ResNet-18") :].strip()
    text = (
        f"# Training on a GPU\n\n`python benchmarks/gpu.py --store` on {facts['gpu']}, torch "
        f"{facts['torch']}, {facts['build']}\n\n{how}\n"
    )
    for title, measure in kinds.items():
        part = f"\n## {title}\n\n{measure(options.runs)}\n"
        print(part, flush=True)
        text += part
        if (
            options.store
        ):  # at once: what was measured stays when the machine is gone before the end
            paths.write(Path(__file__).parent / "RESULTS-gpu.md", text)


if __name__ == "__main__":
    main()
