"""Batches for one process, of a set on the device or of a `DataLoader`, in an order that needs no stored state.

The order of epoch e and the augmentation of its step s are functions of (seed, e, s), so a run that stops and goes on,
or is shared among processes, sees what an uninterrupted single process sees.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data.distributed import DistributedSampler

from cnncourse.errors import ParameterError, ShapeError
from cnncourse.runtime import Runtime, moved


def feed(
    images,
    batch_size: int | None,
    machine: Runtime,
    *,
    shuffle: bool = False,
    augment: Callable | None = None,
    seeds: Sequence[int] | None = None,
    split: bool = True,
) -> TensorFeed | LoaderFeed:
    """The batches of an `ImageSet`, of a pair (inputs, targets) of tensors, or of a `DataLoader`.

    inputs may itself be a tuple of tensors: the network is then called with all of them.
    shuffle: a new order each epoch. seeds: one order for each of several networks that train together, so that a
    batch is (S, B, ...). split: in several processes, each takes its share of every batch.

    >>> for inputs, targets in feed(digits, 100, runtime.current()).epoch(1):
    ...     logits = model(*inputs)

    Batches that this function made are given back as they are.
    Raises `ParameterError` for an empty set and for a batch size below 1, `ShapeError` for what is no set.
    """
    if isinstance(images, TensorFeed | LoaderFeed):
        return images
    world = machine.world if split else 1
    if isinstance(images, DataLoader):
        if augment is not None:
            raise ParameterError(
                "no augment= beside a DataLoader",
                "both",
                where="argument augment",
                remedy="put the augmentation into the transforms of the data set",
            )
        made = LoaderFeed(images, machine, shuffle, world)
    elif (
        hasattr(images, "images")
        and hasattr(images, "labels")
        or isinstance(images, tuple | list)
        and len(images) == 2
    ):
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ParameterError(
                "a batch size of at least 1",
                repr(batch_size),
                where="argument batch_size",
                remedy="try 128",
            )
        if shuffle and batch_size < world:
            raise ParameterError(
                f"a batch size of at least {world}, one image a process",
                batch_size,
                where="argument batch_size",
                remedy="raise batch_size or start fewer processes",
            )
        if augment is not None:
            _check_augment(augment)
        made = TensorFeed(images, batch_size, machine, shuffle, augment, seeds, world)
    else:
        raise ShapeError(
            "an ImageSet, a pair (inputs, targets) of tensors, or a DataLoader",
            type(images).__name__,
            where="argument train, valid or images",
            remedy="load it with cnncourse.data",
        )
    try:
        steps = len(made)
    except TypeError:
        raise ShapeError(
            "a DataLoader with a length",
            "one that does not know how many batches it has",
            where="argument train, valid or images",
            remedy="give its data set a __len__",
        ) from None
    if not steps:
        raise ParameterError(
            "at least one image",
            "an empty set",
            where="argument train, valid or images",
            remedy="check how the set was split or filtered",
        )
    return made


def _check_augment(augment: Callable) -> None:
    try:
        inspect.signature(getattr(augment, "forward", augment)).bind(None, generator=None)
    except TypeError:
        raise ParameterError(
            "a function that is called as augment(images, generator=...)",
            getattr(augment, "__name__", type(augment).__name__),
            where="argument augment",
            remedy="choose from cnncourse.augment, or give your function an argument generator; "
            "a transform of torchvision changes all images of a batch alike",
        ) from None


def mixed(*numbers: int) -> int:
    """One well mixed seed from several numbers (torch's CPU generator uses its low 32 bits only)."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


class Share(NamedTuple):
    """The rows that a process takes of a batch of `size`; as many as `copies` processes take the same ones."""

    rows: slice
    size: int
    copies: int = 1


def share(size: int, rank: int, world: int, shuffle: bool) -> Share:
    """Every row belongs to one process, numbers of rows differ by at most one.

    While training (shuffle), all take the whole of a batch that has fewer rows than there are processes.
    """
    if shuffle and size < world:
        return Share(slice(0, size), size, world)
    return Share(slice(size * rank // world, size * (rank + 1) // world), size)


class TensorFeed:
    """Batches gathered on the device from a set that lies there as a whole."""

    def __init__(
        self,
        images,
        batch_size: int,
        machine: Runtime,
        shuffle: bool,
        augment: Callable | None,
        seeds: Sequence[int] | None,
        world: int,
    ):
        self.batch_size, self.machine, self.augment, self.world = (
            batch_size,
            machine,
            augment,
            world,
        )
        self.shuffle, self.seeds = shuffle, seeds
        name = getattr(images, "checksum", None) or getattr(images, "name", None)
        if hasattr(images, "images"):
            images = images.to(machine.device)
            self.inputs, self.targets = (images.images,), images.labels
            self.convert = images.scaling(machine.dtype)
        else:
            inputs, targets = images
            inputs = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
            for part in (*inputs, targets):
                if not isinstance(part, Tensor) or len(part) != len(targets):
                    got = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
                    raise ShapeError(
                        f"tensors with {len(targets)} rows, one a target",
                        got,
                        where="a pair (inputs, targets)",
                        remedy="make tensors of equal lengths; torch.as_tensor takes arrays",
                    )
            self.inputs = tuple(part.detach().to(machine.device) for part in inputs)
            self.targets = targets.detach().to(machine.device)
            self.convert = self._converted
        self.images, self.held = len(self.targets), {}
        self.settings = {"data": name, "images": self.images, "steps": len(self)}
        self.latest: tuple[int, tuple[Tensor, ...]] = (
            0,
            (),
        )  # step and inputs of the last batch, for error texts

    def __len__(self) -> int:
        return -(-self.images // self.batch_size)

    def holds(self, index: int) -> bool:
        """Whether any class index among the targets is this one; looked up once."""
        if index not in self.held:
            self.held[index] = not self.targets.is_floating_point() and bool(
                (self.targets == index).any()
            )
        return self.held[index]

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
        """The batches of epoch `number`, from step `start` on (counted from 0)."""
        orders = self._orders(number) if self.shuffle else None
        for step in range(start, len(self)):
            first, last = step * self.batch_size, min((step + 1) * self.batch_size, self.images)
            self.share = share(last - first, self.machine.rank, self.world, self.shuffle)
            rows = self.share.rows
            if rows.start == rows.stop:
                continue
            if orders is None:
                rows = slice(first + rows.start, first + rows.stop)
                inputs, targets = (
                    tuple(self.convert(tensor[rows]) for tensor in self.inputs),
                    self.targets[rows],
                )
            else:
                inputs, targets = self._gathered(orders[..., first:last], rows, number, step)
            self.latest = step + 1, inputs
            yield inputs, self._target(targets)

    def _orders(self, number: int) -> Tensor:
        """The permutation of this epoch, (N,), or (S, N) for several seeds; drawn on the CPU, equal on every device."""
        drawn = [
            torch.randperm(
                self.images, generator=torch.Generator().manual_seed(mixed(seed, number))
            )
            for seed in (self.seeds or [self.machine.seed])
        ]
        order = torch.stack(drawn) if self.seeds else drawn[0]
        return moved(order, self.machine.device)

    def _gathered(
        self, rows: Tensor, keep: slice, number: int, step: int
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        if self.augment is None:
            rows = rows[..., keep]
        flat = rows.reshape(-1)  # index_select into uint8 is 4 times as fast as images[rows]
        inputs = [tensor.index_select(0, flat) for tensor in self.inputs]
        if (
            self.augment is not None
        ):  # drawn for the whole batch, so that processes agree; then each keeps its rows
            whole = inputs[0].unflatten(0, rows.shape) if self.seeds else inputs[0][None]
            changed = [
                self.augment(
                    batch, generator=torch.Generator().manual_seed(mixed(seed, number, step))
                )[keep]
                for batch, seed in zip(whole, self.seeds or [self.machine.seed], strict=True)
            ]
            inputs[0] = changed[0] if len(changed) == 1 else torch.cat(changed)
            rows = rows[..., keep]
            inputs[1:] = [tensor.index_select(0, rows.reshape(-1)) for tensor in self.inputs[1:]]
        targets = self.targets.index_select(0, rows.reshape(-1))
        inputs = tuple(self.convert(part) for part in inputs)
        if self.seeds:
            return tuple(part.unflatten(0, rows.shape) for part in inputs), targets.unflatten(
                0, rows.shape
            )
        return inputs, targets

    def _converted(self, batch: Tensor) -> Tensor:
        return batch.to(self.machine.dtype) if batch.is_floating_point() else batch

    def _target(self, targets: Tensor) -> Tensor:
        return targets.to(self.machine.dtype) if targets.is_floating_point() else targets


class LoaderFeed:
    """Batches of a `DataLoader`: pictures too large for memory, read by its workers and pinned for a GPU.

    The seed of the runtime and the epoch decide the order, also for a loader that shuffles. Its workers read ahead.
    """

    def __init__(self, loader: DataLoader, machine: Runtime, shuffle: bool, world: int):
        self.machine, self.world = machine, world
        self.share, self.settings = Share(slice(0), 0), {}
        self.latest: tuple[int, tuple[Tensor, ...]] = (0, ())
        self.loader, self.rows, self.generator = loader, None, torch.Generator()
        self.sampler = getattr(loader.batch_sampler, "sampler", None)
        stream = loader.batch_sampler is None or isinstance(loader.dataset, IterableDataset)
        if world > 1 and (stream or isinstance(self.sampler, DistributedSampler)):
            raise ParameterError(
                "a DataLoader with its own batch_size and sampler",
                type(self.sampler).__name__,
                where="argument train, valid or images",
                remedy="leave the DistributedSampler out: each process takes its share of a batch",
            )
        if hasattr(loader.dataset, "__len__"):
            self.settings = {"images": len(loader.dataset), "steps": len(loader)}
        if stream:  # nothing to share out, and steps are skipped by reading them
            return
        self.rows = _Rows(loader.batch_sampler, machine.rank, world, shuffle)
        workers = (
            {}
            if not loader.num_workers
            else {
                "prefetch_factor": loader.prefetch_factor,
                "persistent_workers": loader.persistent_workers,
                "multiprocessing_context": loader.multiprocessing_context,
                "timeout": loader.timeout,
            }
        )
        self.loader = DataLoader(
            loader.dataset,
            batch_sampler=self.rows,
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            worker_init_fn=loader.worker_init_fn,
            pin_memory=loader.pin_memory or machine.device.type == "cuda",
            generator=self.generator,
            **workers,
        )

    def __len__(self) -> int:
        return len(self.loader) if self.rows is None else len(self.rows.batches)

    def holds(self, index: int) -> bool:
        """Whether any class index among the targets may be this one: nobody has read them all."""
        return True

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
        """The batches of epoch `number`, from step `start` on (counted from 0)."""
        self.generator.manual_seed(mixed(self.machine.seed, number))
        drawn = getattr(self.sampler, "generator", None)
        if hasattr(self.sampler, "generator"):
            self.sampler.generator = torch.Generator().manual_seed(mixed(self.machine.seed, number))
        try:
            if self.rows is None:
                batches = itertools.islice(self.loader, start, None)
            else:
                self.rows.start, batches = start, self.loader
            for step, batch in enumerate(batches, start + 1):
                if not isinstance(batch, tuple | list) or len(batch) != 2:
                    raise ShapeError(
                        "batches (inputs, targets)",
                        type(batch).__name__,
                        where="the DataLoader",
                        remedy="let the data set return a pair for each image",
                    )
                inputs, targets = batch
                inputs = tuple(
                    self._moved(part)
                    for part in (inputs if isinstance(inputs, tuple | list) else [inputs])
                )
                if self.rows is not None:
                    self.share = self.rows.shares[step]
                self.latest = step, inputs
                yield inputs, self._moved(targets)
        finally:
            if hasattr(self.sampler, "generator"):
                self.sampler.generator = drawn

    def _moved(self, part: Tensor) -> Tensor:
        part = moved(part, self.machine.device)
        return part.to(self.machine.dtype) if part.is_floating_point() else part


class _Rows:
    """A batch sampler that gives this process its share of each batch, and starts in the middle of an epoch."""

    def __init__(self, batches, rank: int, world: int, shuffle: bool):
        self.batches, self.rank, self.world, self.shuffle = batches, rank, world, shuffle
        self.start, self.shares = 0, {}

    def __len__(self) -> int:
        return len(self.batches) - self.start

    def __iter__(self) -> Iterator[list[int]]:
        for step, rows in enumerate(self.batches, 1):
            own = share(len(rows), self.rank, self.world, self.shuffle)
            if step > self.start and rows[own.rows]:
                self.shares[step] = own
                yield rows[own.rows]
