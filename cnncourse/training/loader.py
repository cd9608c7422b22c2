"""Batches of a `DataLoader`, whose workers draw at random what the seed of the batch decides."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    get_worker_info,
)
from torch.utils.data.distributed import DistributedSampler

from cnncourse.errors import ParameterError, ShapeError
from cnncourse.runtime import Runtime, moved
from cnncourse.training.order import (
    Part,
    in_dtype,
    mixed,
    own_streams,
    part_of,
    seed_streams,
    several,
    stream,
)


class LoaderBatches:
    """Batches of a `DataLoader`: pictures too large for memory, read by its workers and pinned for a GPU.

    The seed of the runtime, the epoch and the step decide the order, also for a loader that shuffles, and what the data
    set draws at random, whatever the number of workers. Workers read ahead.
    """

    def __init__(self, loader: DataLoader, machine: Runtime, shuffle: bool, world: int):
        self.machine, self.world, self.shuffle = machine, world, shuffle
        self.part, self.name = Part(slice(0), 0), type(loader.dataset).__name__
        self.latest: tuple[int, tuple[Tensor, ...]] = (0, ())
        self.dataset = loader.dataset
        self.loader, self.rows, self.generator = loader, None, torch.Generator()
        self.sampler = getattr(loader.batch_sampler, "sampler", None)
        self.batch_size, self.last_size = loader.batch_size, None
        self.images = len(loader.dataset) if hasattr(loader.dataset, "__len__") else None
        endless = loader.batch_sampler is None or isinstance(loader.dataset, IterableDataset)
        if world > 1 and (endless or isinstance(self.sampler, DistributedSampler)):
            raise ParameterError(
                "a DataLoader with its own batch_size and sampler",
                type(self.sampler).__name__,
                where="argument train, valid or images",
                remedy="leave the DistributedSampler out: each process takes its part of a batch",
            )
        if endless:  # nothing to share out, and steps are skipped by reading them
            return
        if self.batch_size and not loader.drop_last and self.images:
            self.last_size = (self.images - 1) % self.batch_size + 1
        self.rows = _Rows(loader.batch_sampler, machine.rank, world, shuffle)
        workers = {}
        if loader.num_workers:
            workers = {
                "prefetch_factor": loader.prefetch_factor,
                "persistent_workers": loader.persistent_workers,
                "multiprocessing_context": loader.multiprocessing_context,
                "timeout": loader.timeout,
                "worker_init_fn": functools.partial(_start_worker, loader.worker_init_fn),
            }
        self.loader = DataLoader(
            _Seeded(loader.dataset),
            batch_sampler=self.rows,
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory or machine.device.type == "cuda",
            generator=self.generator,
            **workers,
        )

    def __len__(self) -> int:
        return len(self.loader) if self.rows is None else len(self.rows.batches)

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[tuple[tuple[Tensor, ...], object]]:
        """The batches of epoch `number`, from step `start` on (counted from 0)."""
        self.generator.manual_seed(mixed(self.machine.seed, number))
        drawn, workers = getattr(self.sampler, "generator", None), self.loader.generator
        if hasattr(self.sampler, "generator"):
            self.sampler.generator = stream(self.machine.seed, number)
        if self.rows is None:
            self.loader.generator = self.generator  # seeds the workers
        try:
            if self.rows is None:
                given = itertools.islice(self.loader, start, None)
            else:
                self.rows.start, self.rows.seed = start, (self.machine.seed, number)
                given = self.loader
            for step, batch in enumerate(given, start + 1):
                inputs, targets = self._pair(batch)
                if self.rows is not None:
                    self.part = self.rows.parts[step]
                self.latest = step, inputs
                yield inputs, targets
        finally:
            if hasattr(self.sampler, "generator"):
                self.sampler.generator = drawn
            self.loader.generator = workers

    def inputs_of(self, step: int) -> tuple[Tensor, ...]:
        """The inputs of the latest step: what was read before is gone."""
        return self.latest[1]

    def _pair(self, batch) -> tuple[tuple[Tensor, ...], object]:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise ShapeError(
                "batches (inputs, targets)",
                type(batch).__name__,
                where="the DataLoader",
                remedy="let the data set return a pair for each image",
            )
        inputs, targets = tree_map(self._moved, tuple(batch))
        return tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,), targets

    def _moved(self, leaf: object) -> object:
        if not isinstance(leaf, Tensor):
            return leaf
        return in_dtype(moved(leaf, self.machine.device), self.machine.dtype)


class _Rows:
    """A batch sampler that gives this process its part of each batch, and starts in the middle of an epoch.

    What it gives is (the numbers that seed the batch, the place of its first row in the whole, rows), for `_Seeded`.
    """

    def __init__(self, batches, rank: int, world: int, shuffle: bool):
        self.batches, self.rank, self.world, self.shuffle = batches, rank, world, shuffle
        self.start, self.seed, self.parts = 0, (), {}

    def __len__(self) -> int:
        return len(self.batches) - self.start

    def __iter__(self) -> Iterator[tuple[tuple[int, ...], int, list[int]]]:
        self.parts = {}
        for step, rows in enumerate(self.batches, 1):
            own = part_of(len(rows), self.rank, self.world, self.shuffle)
            if step > self.start and rows[own.rows]:
                self.parts[step] = own
                yield (*self.seed, step), own.rows.start, rows[own.rows]


class _Seeded(Dataset):
    """A data set whose random transforms draw what the seed of the batch decides, in whichever process they run."""

    def __init__(self, inner: Dataset):
        self.inner, self.draws = inner, _draws(inner)

    def __len__(self) -> int:
        return len(self.inner)

    def __getitems__(self, batch: tuple[tuple[int, ...], int, list[int]]) -> list:
        numbers, first, rows = batch
        if not self.draws:
            return [self.inner[row] for row in rows]
        with own_streams():
            if getattr(self.inner, "__getitems__", None):
                seed_streams(mixed(*numbers))
                return self.inner.__getitems__(rows)
            items = []  # each with a seed of its own: several processes draw what one does
            for row, seed in zip(rows, several(first, len(rows), *numbers), strict=True):
                seed_streams(seed)
                items.append(self.inner[row])
            return items


def _draws(dataset: Dataset) -> bool:
    """Whether a data set may draw at random: all but torch's own sets of tensors, and parts of them."""
    if type(dataset) is Subset:
        return _draws(dataset.dataset)
    return type(dataset) is not TensorDataset


def _start_worker(own: Callable | None, number: int) -> None:
    """A worker sees the data set that the loader was made with, and calls the loader's worker_init_fn."""
    info = get_worker_info()
    object.__setattr__(info, "dataset", info.dataset.inner)  # it forbids other ways
    if own is not None:
        own(number)
