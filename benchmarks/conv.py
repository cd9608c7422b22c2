"""Time of the lesson's im2col convolution over torch's, one thread, as a ratio: ``python benchmarks/conv.py``.

Both run in turns on the same arrays in float32; the ratio is that of their shortest times, counted in seconds of the
processor (there is one thread), so that other programs do not count. Lesson 04 claims at most 3 for layers of usual
size. On LeNet's small pictures torch is further ahead: there, copying the windows takes as long as multiplying them.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = (
    "1"  # before numpy starts its threads
)

import argparse
import json
import time

import _printing as printing
import numpy as np
import torch
import torch.nn.functional as F

from cnncourse import lab, runtime

LAYERS = {  # name: images (N, C, H, W), filters, kernel size, stride, padding
    "first layer 5x5, 3 to 32, 32x32": ((16, 3, 32, 32), 32, 5, 1, 2),
    "3x3, 16 to 32, 32x32": ((16, 16, 32, 32), 32, 3, 1, 1),
    "3x3, 64 to 64, 32x32": ((8, 64, 32, 32), 64, 3, 1, 1),
    "3x3 stride 2, 64 to 128, 16x16": ((8, 64, 16, 16), 128, 3, 2, 1),
    "3x3, 128 to 128, 14x14": ((4, 128, 14, 14), 128, 3, 1, 1),
}
SMALL = ((32, 6, 14, 14), 16, 5, 1, 0)  # LeNet's second layer
BOUND = 3.0


def ratio(
    convolution, shape: tuple, filters: int, kernel: int, stride: int, padding: int, pairs: int
) -> dict:
    """Shortest time of `convolution` over torch's shortest, and both in milliseconds."""
    generator = np.random.default_rng(0)
    arrays = [
        generator.normal(size=size).astype(np.float32)
        for size in (shape, (filters, shape[1], kernel, kernel), (filters,))
    ]
    tensors = [torch.from_numpy(array) for array in arrays]
    seconds = np.empty((pairs + 2, 2))
    for row in seconds:
        start = time.thread_time()
        ours = convolution(*arrays, stride, padding)
        middle = time.thread_time()
        real = F.conv2d(*tensors, stride, padding)
        row[:] = middle - start, time.thread_time() - middle
    np.testing.assert_allclose(ours, real.numpy(), atol=1e-3)
    ours, real = 1e3 * seconds[2:].min(0)  # the first two warm up
    return {
        "ratio": round(ours / real, 2),
        "milliseconds": round(ours, 3),
        "torch milliseconds": round(real, 3),
    }


def main() -> int:
    """Print one row for each layer and, with --json, write them; 1 when one exceeds the bound."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=60, help="timings of each, in turns")
    parser.add_argument("--json", help="file to write the rows to")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    lesson = lab.definitions("04")
    with torch.inference_mode():
        rows = {
            name: ratio(lesson.conv2d_im2col, *layer, chosen.pairs)
            for name, layer in LAYERS.items()
        }
        others = {
            "small pictures: LeNet 5x5, 6 to 16": ratio(lesson.conv2d_im2col, *SMALL, chosen.pairs),
            "the same, loops in Python": ratio(
                lesson.conv2d_naive, (2, *SMALL[0][1:]), *SMALL[1:], pairs=3
            ),
        }
    print(printing.head(["layer", "ratio", "im2col ms", "torch ms"]))
    for name, row in {**rows, **others}.items():
        numbers = (row["ratio"], row["milliseconds"], row["torch milliseconds"])
        print(printing.row([name, *numbers]))
    worst = max(row["ratio"] for row in rows.values())
    print(
        f"worst of the first {len(rows)}: {worst:.2f}, claimed at most {BOUND:.0f}; one thread, float32, "
        f"{runtime.device_name()}, numpy {np.__version__}, torch {torch.__version__}"
    )
    if chosen.json:
        with open(chosen.json, "w") as file:
            json.dump({"rows": rows | others, "worst": worst, "bound": BOUND}, file, indent=1)
    return int(worst > BOUND)


if __name__ == "__main__":
    raise SystemExit(main())
