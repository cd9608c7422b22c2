"""Time to 90 % and to 94 % on CIFAR-10, by a recipe after airbench's ideas written with this package.

    python benchmarks/fast_run.py --data PICTURES          a folder with train/ and test/, or cifar10
    python benchmarks/fast_run.py --epochs 4 8 16 --store    write benchmarks/RESULTS-fast-run.md

The ideas are those of Jordan 2024 (arXiv:2404.00498): a first layer that whitens patches of 2 x 2 and is not trained,
3 x 3 convolutions that start as copies of their input, a triangular learning rate, label smoothing of 0.2, biases of
BatchNorm that learn 64 times as fast, crops by 2 pixels, and flips that alternate: half of the pictures are mirrored
once, then all of them after every epoch. Left out: Lookahead, and the moved copies at test time (mirrored ones are
averaged). The code is our own; airbench's time of 3.83 s to 94.01 % is of one A100 and the original CIFAR-10 files.
Each row is a run of its own whose schedule ends at its last epoch; seconds are those of training, without compilation.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnncourse import augment, data, paths, runtime, training

RESULTS = Path(__file__).parent / "RESULTS-fast-run.md"
HEAD = ("epochs", "widths", "runs", "seconds", "test accuracy", "lowest to highest")


def whitening(images: Tensor, patch: int = 2, eps: float = 5e-4) -> nn.Conv2d:
    """A fixed convolution to uncorrelated outputs of variance 1, followed by their negatives.

    images: (N, C, H, W), normalised. (Jordan 2024, section 3.2.)
    """
    channels = images.shape[1]
    patches = (
        F.unfold(images, patch).transpose(1, 2).flatten(0, 1)
    )  # (N * places, C * patch * patch)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / torch.sqrt(values + eps)).T.reshape(-1, channels, patch, patch)
    layer = nn.Conv2d(channels, 2 * len(filters), patch)
    layer.weight.data = torch.cat([filters, -filters])
    layer.weight.requires_grad_(False)
    nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """Convolution, pooling, BatchNorm, GELU, convolution, BatchNorm, GELU: (N, C, H, W) -> (N, channels, H/2, W/2)."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels, momentum=0.4, eps=1e-5)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels, momentum=0.4, eps=1e-5)
        for conv in (self.conv1, self.conv2):  # the first channels start as copies of the input's
            nn.init.dirac_(conv.weight.data[: conv.in_channels])
        for norm in (self.norm1, self.norm2):
            norm.weight.requires_grad_(False)  # a scale in front of a homogeneous part says nothing

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


class FastNet(nn.Module):
    """Whitening, three blocks, one linear layer: (N, 3, 32, 32) -> (N, classes)."""

    def __init__(self, images: Tensor, widths: tuple[int, int, int], classes: int = 10):
        super().__init__()
        self.whiten = whitening(images)
        ins = (self.whiten.out_channels, *widths[:2])
        self.blocks = nn.Sequential(*map(Block, ins, widths))
        self.head = nn.Linear(widths[-1], classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.gelu(self.whiten(x)))  # (N, widths[-1], 3, 3) of pictures of 32 x 32
        return self.head(F.max_pool2d(x, x.shape[-1]).flatten(1)) / 9


def optimizer_of(model: nn.Module, rate: float, fused: bool) -> torch.optim.SGD:
    """Nesterov's momentum 0.85; biases of BatchNorm at 64 times the rate, with as much decay as the others."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    fast = {id(part.bias) for part in model.modules() if isinstance(part, nn.BatchNorm2d)}
    decay = 2e-3  # of a weight a step
    groups = [
        {
            "params": [w for w in trained if id(w) not in fast],
            "lr": rate,
            "weight_decay": decay / rate,
        },
        {
            "params": [w for w in trained if id(w) in fast],
            "lr": 64 * rate,
            "weight_decay": decay / (64 * rate),
        },
    ]
    return torch.optim.SGD(groups, lr=rate, momentum=0.85, nesterov=True, fused=fused)


def triangle(
    step: int, steps: int, start: float = 0.2, end: float = 0.07, peak: float = 0.23
) -> float:
    """The learning rate's factor: up from `start` to 1 at the share `peak` of the steps, down to `end`."""
    at = step / max(1, steps)
    if at < peak:
        return start + (1 - start) * at / peak
    return 1 - (1 - end) * (at - peak) / (1 - peak)


def run(
    train: data.ImageSet,
    test: data.ImageSet,
    machine: runtime.Runtime,
    *,
    epochs: int,
    widths: tuple[int, int, int],
    seed: int,
    batch_size: int,
    rate: float = 1.5,
) -> tuple[float, float]:
    """(seconds of training, test accuracy with mirrored copies averaged) of one run."""
    gpu = machine.device.type == "cuda"
    torch.manual_seed(seed)
    shuffled = torch.Generator().manual_seed(seed)
    sample = next(train.batches(min(5000, len(train)), shuffled))[0].float()
    model = FastNet(sample, widths, len(train.classes)).to(machine.device)
    generator = torch.Generator().manual_seed(seed)
    part = torch.rand(len(train), generator=generator) < 0.5
    images = train.images.clone()
    images[part.to(images.device)] = images[part.to(images.device)].flip(-1)
    train = dataclasses.replace(train, images=images)  # its own copy, mirrored in place below
    optimizer = optimizer_of(model, rate, fused=gpu)
    steps = epochs * -(-len(train) // batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(triangle, steps=steps))

    def mirror(history: training.History) -> None:
        images.copy_(images.flip(-1))

    history = training.fit(
        model,
        train,
        optimizer=optimizer,
        scheduler=training.EachStep(schedule),
        epochs=epochs,
        batch_size=batch_size,
        loss=partial(F.cross_entropy, label_smoothing=0.2),
        augment=partial(augment.crop, padding=2),
        on_epoch=mirror,
        progress=False,
    )
    mirrored = dataclasses.replace(test, images=test.images.flip(-1))
    logits = training.predict(model, test) + training.predict(model, mirrored)
    accuracy = float((logits.argmax(1) == test.labels).float().mean())
    return sum(history["seconds"]), accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--epochs", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--widths", type=int, nargs=3, default=[64, 256, 256])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--limit", type=int, help="so many pictures only, to try the script")
    parser.add_argument("--store", action="store_true", help="write benchmarks/RESULTS-fast-run.md")
    options = parser.parse_args()
    gpu = torch.cuda.is_available()
    machine = runtime.start(
        deterministic=not gpu,
        compile=gpu,
        precision="bf16" if gpu else None,
        memory_format="channels_last" if gpu else None,
    )
    train, test = (data.load(options.data, part) for part in (True, False))
    if options.limit:
        train = train.split([options.limit, len(train) - options.limit], seed=0, stratified=True)[0]
    mean, std = train.statistics()
    train, test = (part.normalised(mean, std).to(machine.device) for part in (train, test))
    widths = tuple(options.widths)
    settings = {"widths": widths, "batch_size": options.batch_size}
    if gpu:  # compile, for both sizes of batch and for evaluation
        part = train[: options.batch_size + len(train) % options.batch_size]
        run(part, test, machine, epochs=1, seed=0, **settings)
    rows = []
    for epochs in options.epochs:
        found = [
            run(train, test, machine, epochs=epochs, seed=s, **settings)
            for s in range(options.runs)
        ]
        seconds, scores = zip(*found, strict=True)
        cells = (
            epochs,
            "-".join(map(str, widths)),
            options.runs,
            f"{statistics.mean(seconds):.2f}",
            f"{100 * statistics.mean(scores):.2f} %",
            f"{100 * min(scores):.2f} to {100 * max(scores):.2f} %",
        )
        rows.append(f"| {' | '.join(map(str, cells))} |")
        print(rows[-1], flush=True)
        if options.store:
            store(rows, train.name)


def store(rows: list[str], name: str) -> None:
    """Write the rows measured so far."""
    facts = runtime.environment()
    how = __doc__[__doc__.index("The ideas are") :].strip()
    head = f"| {' | '.join(HEAD)} |\n| {' | '.join(['---'] * len(HEAD))} |"
    paths.write(
        RESULTS,
        f"# Time to 90 % and to 94 %\n\n`python benchmarks/fast_run.py --store` on {facts['gpu']}, torch "
        f"{facts['torch']}, data: {name}\n\n{how}\n\n{head}\n" + "\n".join(rows) + "\n",
    )


if __name__ == "__main__":
    main()
