"""Which rows come when, and what is drawn at random for them: functions of the seed, the epoch and the step."""

from __future__ import annotations

import contextlib
import random
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


def mixed(*numbers: int) -> int:
    """One well mixed seed from several numbers (torch's CPU generator uses its low 32 bits only)."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def several(first: int, count: int, *numbers: int) -> list[int]:
    """Seeds number `first` to `first + count` of those that the numbers give; in one call a tenth of the time."""
    seeds = np.random.SeedSequence(numbers).generate_state(first + count, np.uint64)
    return seeds[first:].tolist()


def stream(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(mixed(*numbers))


class Part(NamedTuple):
    """The rows that a process takes of a batch of `size`; as many as `copies` processes take the same ones."""

    rows: slice
    size: int
    copies: int = 1


def part_of(size: int, rank: int, world: int, shuffle: bool) -> Part:
    """Every row belongs to one process, numbers of rows differ by at most one.

    While training (shuffle), all take the whole of a batch that has fewer rows than there are processes.
    """
    if shuffle and size < world:
        return Part(slice(0, size), size, world)
    return Part(slice(size * rank // world, size * (rank + 1) // world), size)


def seed_streams(seed: int) -> None:
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would also note a call for CUDA
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextlib.contextmanager
def own_streams():
    """A block after which the random streams of torch, numpy and Python are what they were before."""
    python, arrays = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)


def in_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def out_of_memory(error: Exception) -> bool:
    """Whether torch, cuBLAS or cuDNN say that memory is used up."""
    words = "can't allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED"
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)
