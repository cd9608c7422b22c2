"""Time of lesson 01's chunked kNN over scikit-learn's brute force, as a ratio: ``python benchmarks/knn.py``.

500 test and 50,000 training pictures of 3,072 numbers in float32 (the size of CIFAR-10), one thread, 5 neighbours. Both
run in turns on the same arrays and the ratio is that of their shortest times, in seconds of the processor.
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

TEST, TRAIN, NUMBERS, NEIGHBOURS, REPEATS, BOUND = 500, 50_000, 3_072, 5, 3, 0.65


def main() -> int:
    """Print the ratio and the memory that the search takes beside the data; 1 when the ratio exceeds the bound."""
    generator = np.random.default_rng(0)
    train = generator.random((TRAIN, NUMBERS), dtype=np.float32)
    test = generator.random((TEST, NUMBERS), dtype=np.float32)
    ours = lab.definitions("01").nearest_in_chunks
    peer = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute", n_jobs=1).fit(train)
    seconds = np.empty((REPEATS + 1, 2))
    for row in seconds:
        start = time.process_time()
        distances, found = ours(test, train, NEIGHBOURS)
        middle = time.process_time()
        expected, neighbours = peer.kneighbors(test)
        row[:] = middle - start, time.process_time() - middle
    np.testing.assert_allclose(distances, expected, rtol=1e-3)
    assert (
        found == neighbours
    ).mean() > 0.99  # float32: the order of near-equal neighbours may differ
    tracemalloc.start()
    ours(test, train, NEIGHBOURS)
    peak = tracemalloc.get_traced_memory()[1]
    best, peer_best = seconds[1:].min(0)  # the first pair warms up
    print(
        f"chunked kNN {best:.2f} s, scikit-learn brute force {peer_best:.2f} s, ratio {best / peer_best:.2f} "
        f"(goal {BOUND}); {peak / 2**20:.0f} MiB beside the data; one thread, {runtime.device_name()}, "
        f"numpy {np.__version__}, scikit-learn {sklearn.__version__}"
    )
    return int(best / peer_best > BOUND)


if __name__ == "__main__":
    sys.exit(main())
