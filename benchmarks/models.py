"""Forward and backward time of every shared network as a ratio to torchvision's, interleaved in one run.

    python benchmarks/models.py                      all shared networks on images of 128 pixels, a few minutes
    python benchmarks/models.py resnet18 vgg11       some of them
    python benchmarks/models.py --size 0 --batch 32 --device cuda        at the size of each paper

A round times ours and torchvision's one after the other, in an order that alternates, on the same images and with the
same weights. The ratio is that of the shortest times, the least disturbed; below 1 ours is faster. Exit status 1 when
a ratio is above 1.05.
On one thread the processor's own seconds are counted, so that other programs on the machine do not matter.
"""

from __future__ import annotations

import argparse
import json
import time

import _printing as printing
import torch
import torchvision

from cnncourse import models, runtime

LIMIT = 1.05


def seconds(step, device: str) -> float:
    """How long one call takes, the device's queue included."""
    clock = (
        time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    )
    if device == "cuda":
        torch.cuda.synchronize()
    start = clock()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def steps(network: torch.nn.Module, images: torch.Tensor) -> dict:
    """A forward pass in evaluation mode, and a forward and backward pass in training mode."""

    def forward() -> None:
        network.eval()
        with torch.no_grad():
            network(images)

    def forward_backward() -> None:
        network.train()
        outputs = network(images)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        sum(output.square().mean() for output in outputs).backward()
        network.zero_grad(set_to_none=True)

    return {"forward": forward, "forward and backward": forward_backward}


def compare(
    name: str, *, batch: int, size: int, rounds: int, device: str
) -> dict[str, tuple[float, float]]:
    """For each kind of pass: our shortest time over torchvision's, and our shortest in seconds."""
    torch.manual_seed(0)
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    theirs = getattr(torchvision.models, name)(**options).to(device)
    with torch.device("meta"):
        ours = getattr(models, name)()
    ours.load_state_dict(
        {key: value.clone() for key, value in theirs.state_dict().items()}, assign=True
    )
    for parameter in ours.parameters():
        parameter.requires_grad_()
    side = size or models.input_shape(name)[1]
    if name == "inception_v3":
        side = 299  # its auxiliary head needs all of them
    images = torch.randn(batch, 3, side, side, device=device)
    results = {}
    our_steps, their_steps = steps(ours, images), steps(theirs, images)
    for kind in our_steps:
        pair = our_steps[kind], their_steps[kind]
        for step in pair:  # the first passes choose algorithms and allocate
            step()
        times = ([], [])
        for turn in range(rounds):
            for which in (0, 1) if turn % 2 == 0 else (1, 0):
                times[which].append(seconds(pair[which], device))
        results[kind] = min(times[0]) / min(times[1]), min(times[0])
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared = [name for name in models.names() if hasattr(torchvision.models, name)]
    parser.add_argument("names", nargs="*", default=shared)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument(
        "--size", type=int, default=128, help="side of the images in pixels; 0: the paper's"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--json", help="also write the ratios to this file")
    asked = parser.parse_args()
    print(
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, {torch.get_num_threads()} threads, "
        f"{runtime.device_name(asked.device)}, batch {asked.batch}, "
        f"{f'{asked.size} pixels' if asked.size else 'size of the paper'}, {asked.rounds} rounds"
    )
    print(printing.head(["network", "forward", "forward and backward", "seconds"]))
    rows, slow = {}, []
    for name in asked.names:
        result = compare(
            name, batch=asked.batch, size=asked.size, rounds=asked.rounds, device=asked.device
        )
        (forward, _), (backward, spent) = result["forward"], result["forward and backward"]
        print(printing.row([name, forward, backward, spent]), flush=True)
        rows[name] = {"forward": forward, "forward and backward": backward, "seconds": spent}
        slow += [name] * (max(forward, backward) > LIMIT)
    print(f"above {LIMIT}: {', '.join(slow) if slow else 'none'}")
    if asked.json:
        with open(asked.json, "w") as file:
            json.dump(
                {
                    "rows": rows,
                    "worst": max(
                        max(r["forward"], r["forward and backward"]) for r in rows.values()
                    ),
                    "bound": LIMIT,
                },
                file,
                indent=1,
            )
    return int(bool(slow))


if __name__ == "__main__":
    raise SystemExit(main())
