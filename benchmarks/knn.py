"""Time of lesson 01's 1-NN in pieces over scikit-learn's brute force, as a ratio: ``python benchmarks/knn.py``.

500 test and 50,000 training pictures of 3,072 numbers in float32 (the size of CIFAR-10), one thread, the nearest one.
Both run in turns on the same arrays and the ratio is that of their shortest times, in seconds of the processor.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = (
    "1"  # before numpy starts its threads
)

import sys
import time
import tracemalloc

import numpy as np
import sklearn
from sklearn.neighbors import NearestNeighbors

from cnncourse import lab, runtime

TEST, TRAIN, NUMBERS, REPEATS, BOUND = 500, 50_000, 3_072, 3, 0.65


def main() -> int:
    """Print the ratio and the memory that the search takes beside the data; 1 when the ratio exceeds the bound."""
    generator = np.random.default_rng(0)
    train = generator.random((TRAIN, NUMBERS), dtype=np.float32)
    test = generator.random((TEST, NUMBERS), dtype=np.float32)
    ours = lab.definitions("01").nearest_in_pieces
    peer = NearestNeighbors(n_neighbors=1, algorithm="brute", n_jobs=1).fit(train)
    seconds = np.empty((REPEATS + 1, 2))
    for row in seconds:
        start = time.process_time()
        found = ours(test, train)
        middle = time.process_time()
        neighbours = peer.kneighbors(test, return_distance=False)[:, 0]
        row[:] = middle - start, time.process_time() - middle
    assert (found == neighbours).mean() > 0.99  # float32: of two nearly equal ones either is right
    tracemalloc.start()
    ours(test, train)
    peak = tracemalloc.get_traced_memory()[1]
    best, peer_best = seconds[1:].min(0)  # the first pair warms up
    print(
        f"1-NN in pieces {best:.2f} s, scikit-learn brute force {peer_best:.2f} s, ratio {best / peer_best:.2f} "
        f"(goal {BOUND}); {peak / 2**20:.0f} MiB beside the data; one thread, {runtime.device_name()}, "
        f"numpy {np.__version__}, scikit-learn {sklearn.__version__}"
    )
    return int(best / peer_best > BOUND)


if __name__ == "__main__":
    sys.exit(main())
