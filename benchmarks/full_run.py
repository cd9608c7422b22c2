"""A full run on the device at hand: seconds and test accuracy of a ResNet for small pictures, by `training.fit`.

    python benchmarks/full_run.py                                  a small network on the sets that are there
    python benchmarks/full_run.py --depth 20 --epochs 30 --store    the network of the paper
    python benchmarks/full_run.py --data PICTURES                   a folder with train/ and test/, one folder a class

SGD with Nesterov's momentum 0.9 and weight decay 5e-4, a learning rate that rises to 0.1 for 128 images a batch and
falls again (Smith 2018, arXiv:1803.09820), crops and flips. On a GPU in bf16, channels_last, compiled and with a fused
optimizer. Accuracy is that of the last epoch, not of the best one; seconds are those of training, without evaluation
and compilation.
"""

from __future__ import annotations

import argparse
import copy
from functools import partial
from pathlib import Path

import _printing as printing
import torch

from cnncourse import augment, data, models, paths, runtime, training
from cnncourse.errors import DataError

RESULTS = Path(__file__).parent / "RESULTS-full-run.md"
HEAD = (
    "data",
    "device",
    "network",
    "parameters",
    "epochs",
    "batch",
    "seconds",
    "images a second",
    "test accuracy",
)


def run(
    name: str,
    *,
    depth: int,
    width: int,
    epochs: int,
    batch_size: int,
    seed: int = 0,
    threads: int | str = "auto",
    size: int | None = None,
) -> dict[str, str]:
    """Train on the set of this name and give the row of the table."""
    gpu = torch.cuda.is_available()
    machine = runtime.start(
        seed=seed,
        threads=threads,
        deterministic=not gpu,
        compile=gpu,
        precision="bf16" if gpu else None,
        memory_format="channels_last" if gpu else None,
    )
    train, test = data.load(name, True, size=size), data.load(name, False, size=size)
    mean, std = train.statistics()
    train, test = (part.normalised(mean, std).to(machine.device) for part in (train, test))
    model = models.resnet.resnet_cifar(
        depth, in_channels=train.images.shape[1], num_classes=len(train.classes), width=width
    ).to(machine.device)
    rate = 0.1 * batch_size / 128
    optimizer = torch.optim.SGD(
        model.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=gpu
    )
    if gpu:  # compile for both batch sizes and for evaluation, on a copy that is thrown away
        trial, part = (
            copy.deepcopy(model),
            train[: batch_size + (len(train) % batch_size or batch_size)],
        )
        training.fit(
            trial,
            part,
            test,
            optimizer=torch.optim.SGD(trial.parameters(), 0.0),
            epochs=1,
            batch_size=batch_size,
            progress=False,
        )
        torch.manual_seed(seed)
        machine.synchronize()
    steps = -(-len(train) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, epochs * steps, cycle_momentum=False
    )
    padding = train.images.shape[-1] // 8
    history = training.fit(
        model,
        train,
        test,
        optimizer=optimizer,
        scheduler=schedule,
        epochs=epochs,
        batch_size=batch_size,
        augment=augment.compose(partial(augment.crop, padding=padding), augment.flip),
    )
    seconds = sum(history["seconds"])
    device = runtime.device_name(machine.device) + (
        f", {machine.threads} threads" if not gpu else ""
    )
    cells = (
        name if name in ("digits", "mnist", "fashion_mnist", "cifar10") else Path(name).name,
        device,
        f"ResNet-{depth}, width {width}",
        f"{sum(weight.numel() for weight in model.parameters()):,}",
        epochs,
        batch_size,
        f"{seconds:.1f}",
        f"{len(train) * epochs / seconds:,.0f}",
        f"{100 * history[-1]['valid_accuracy']:.2f} %",
    )
    return dict(zip(HEAD, map(str, cells), strict=True))


def table(rows: list[dict[str, str]]) -> str:
    return printing.table(HEAD, (row.values() for row in rows))


def stored() -> list[dict[str, str]]:
    """The rows of RESULTS-full-run.md."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("|")
    ]
    return [dict(zip(HEAD, row, strict=True)) for row in cells[2:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["fashion_mnist", "cifar10"])
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument(
        "--store", action="store_true", help="add the rows to benchmarks/RESULTS-full-run.md"
    )
    options = parser.parse_args()
    rows = []
    for name in options.data:
        try:
            rows.append(
                run(
                    name,
                    depth=options.depth,
                    width=options.width,
                    epochs=options.epochs,
                    batch_size=options.batch_size,
                )
            )
        except DataError as error:
            print(f"skipped {name}: {error}")
    if rows:
        print(table(rows))
    if options.store and rows:
        kept = [
            row
            for row in stored()
            if not any(list(row.values())[:6] == list(new.values())[:6] for new in rows)
        ]
        facts = runtime.environment()
        how = __doc__[__doc__.index("SGD with") :].strip()
        paths.write(
            RESULTS,
            "# Full runs: seconds and accuracy, with the device named\n\n"
            "`python benchmarks/full_run.py --data ... --depth ... --epochs ... --store`\n\n"
            f"{how}\n\nLast run with torch {facts['torch']}, Python {facts['python']}.\n\n"
            f"{table(kept + rows)}\n",
        )


if __name__ == "__main__":
    main()
