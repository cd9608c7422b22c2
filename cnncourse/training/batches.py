"""Batches of a set on the device or of a `DataLoader`, in an order that needs no stored state.

The order of epoch e and what is drawn at random for its step s are functions of (seed, e, s), so a run that stops and
goes on, or is shared among processes, sees what an uninterrupted single process sees.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import DataLoader

from cnncourse import runtime
from cnncourse.augment import applied
from cnncourse.errors import ParameterError, ShapeError, TrainingError
from cnncourse.runtime import Runtime, moved
from cnncourse.training.loader import LoaderBatches
from cnncourse.training.order import Part, in_dtype, out_of_memory, part_of, stream


def batches(
    images,
    batch_size: int | None = None,
    *,
    epoch: int | None = None,
    augment: Callable | None = None,
    drop_last: bool = False,
) -> Iterator[tuple[Tensor | tuple[Tensor, ...], object]]:
    """The batches (inputs, targets) that `fit` trains on in an epoch, for a loop of one's own.

    images: an `ImageSet`, a pair (inputs, targets), or a `DataLoader`, which needs no batch_size. Batches lie on the
        device of the runtime, in its dtype. inputs is a tensor, or a tuple where the set has several.
    epoch: the number that decides, with the runtime's seed, the order and what `augment` draws; None keeps the order
        of the set.
    augment: a function of `cnncourse.augment`, called as ``augment(images, generator=...)``, and with ``targets=``
        where they are more than class labels (masks, boxes). drop_last: leave a smaller last batch out.

    >>> for epoch in range(1, 4):
    ...     for inputs, targets in training.batches(digits, 100, epoch=epoch):
    ...         loss = F.cross_entropy(model(inputs), targets)

    Raises `ParameterError` for an empty set and for a batch size below 1, `ShapeError` for what is no set.
    """
    made = batched(
        images,
        batch_size,
        runtime.current(),
        shuffle=epoch is not None,
        augment=augment,
        split=False,
        drop_last=drop_last,
    )
    for inputs, targets in made.epoch(epoch or 0):
        yield inputs[0] if len(inputs) == 1 else inputs, targets


def batched(
    images,
    batch_size: int | None,
    machine: Runtime,
    *,
    shuffle: bool = False,
    augment: Callable | None = None,
    seeds: Sequence[int] | None = None,
    split: bool = True,
    drop_last: bool = False,
) -> TensorBatches | LoaderBatches:
    """The batches of an `ImageSet`, of a pair (inputs, targets), or of a `DataLoader`, epoch by epoch.

    inputs is a tensor or a tuple of them: the network is called with all. targets is a tensor, a dict or tuple of
    tensors with N rows each (boxes, masks), or a list with one entry of any kind for each of the N images.
    shuffle: a new order each epoch. seeds: one order for each of several networks that train together, so that a
    batch is (S, B, ...). split: in several processes, each takes its part of every batch.

    >>> for inputs, targets in batched(digits, 100, runtime.current()).epoch(1):
    ...     logits = model(*inputs)

    Batches that this function made are given back as they are.
    Raises `ParameterError` for an empty set and for a batch size below 1, `ShapeError` for what is no set.
    """
    if isinstance(images, TensorBatches | LoaderBatches):
        return images
    world = machine.world if split else 1
    where = "argument train, valid or images"
    if isinstance(images, DataLoader):
        _check_loader(images, augment, drop_last)
        made = LoaderBatches(images, machine, shuffle, world)
    elif _is_set(images):
        _check_batch_size(batch_size, world if shuffle else 1)
        _check_augment(augment)
        made = TensorBatches(images, batch_size, machine, shuffle, augment, seeds, world, drop_last)
    else:
        raise ShapeError(
            "an ImageSet, a pair (inputs, targets) of tensors, or a DataLoader",
            type(images).__name__,
            where=where,
            remedy="load it with cnncourse.data",
        )
    try:
        steps = len(made)
    except TypeError:
        raise ShapeError(
            "a DataLoader with a length",
            "one that does not know how many batches it has",
            where=where,
            remedy="give its data set a __len__",
        ) from None
    if not steps:
        few = drop_last and getattr(made, "images", 0)
        raise ParameterError(
            "at least one batch" if few else "at least one image",
            f"{made.images} images, fewer than batch_size={batch_size}" if few else "an empty set",
            where=where,
            remedy="lower batch_size" if few else "check how the set was split or filtered",
        )
    return made


def _is_set(images) -> bool:
    pair = isinstance(images, tuple | list) and len(images) == 2
    return pair or hasattr(images, "images") and hasattr(images, "labels")


def _check_batch_size(batch_size: int | None, least: int) -> None:
    whole = isinstance(batch_size, int) and not isinstance(batch_size, bool)
    if not whole or batch_size < 1:
        raise ParameterError(
            "a batch size of at least 1",
            repr(batch_size),
            where="argument batch_size",
            remedy="try 128",
        )
    if batch_size < least:
        raise ParameterError(
            f"a batch size of at least {least}, one image a process",
            batch_size,
            where="argument batch_size",
            remedy="raise batch_size or start fewer processes",
        )


def _check_loader(loader: DataLoader, augment: Callable | None, drop_last: bool) -> None:
    for name, given in (("augment", augment is not None), ("drop_last", drop_last)):
        if given:
            raise ParameterError(
                f"no {name}= beside a DataLoader",
                "both",
                where=f"argument {name}",
                remedy="DataLoader(..., drop_last=True)"
                if name == "drop_last"
                else "put the augmentation into the transforms of the data set",
            )


def _check_augment(augment: Callable | None) -> None:
    if augment is None:
        return
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


class TensorBatches:
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
        drop_last: bool,
    ):
        self.batch_size, self.machine, self.augment, self.world = (
            batch_size,
            machine,
            augment,
            world,
        )
        self.shuffle, self.seeds, self.drop_last = shuffle, seeds, drop_last
        self.name = getattr(images, "checksum", None) or getattr(images, "name", None)
        try:
            self._place(images)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise TrainingError(
                f"memory for the whole set on {runtime.device_name(machine.device)}",
                str(error).splitlines()[0][:200],
                where="argument train, valid or images",
                remedy="pass a DataLoader, which keeps one batch there, or a part: images[:10_000]",
            ) from error
        self.latest: tuple[int, tuple[Tensor, ...]] = (0, ())  # step, inputs: for error texts
        self.part, self.number = Part(slice(0), 0), 0

    def _place(self, images) -> None:
        device = self.machine.device
        if hasattr(images, "images"):
            images = images.to(device)
            self.inputs, self.targets = (images.images,), images.labels
            self.convert = images.scaling(self.machine.dtype)
        else:
            inputs, targets = images
            inputs = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
            _check_rows(inputs, targets)
            self.inputs = tuple(part.detach().to(device) for part in inputs)
            self.targets = tree_map(
                lambda leaf: leaf.detach().to(device) if isinstance(leaf, Tensor) else leaf, targets
            )
            self.convert = functools.partial(in_dtype, dtype=self.machine.dtype)
        self.images = len(self.inputs[0])
        if self.seeds and isinstance(self.targets, list):
            raise ShapeError(
                "targets as tensors, for several seeds at once",
                "a list with one entry an image",
                where="a pair (inputs, targets)",
                remedy="training.repeat(..., together=False)",
            )

    def __len__(self) -> int:
        whole, rest = divmod(self.images, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    @property
    def last_size(self) -> int:
        """Images of the last batch."""
        return self.batch_size if self.drop_last else (self.images - 1) % self.batch_size + 1

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[tuple[tuple[Tensor, ...], object]]:
        """The batches of epoch `number`, from step `start` on (counted from 0)."""
        self.number = number
        orders = self._orders(number) if self.shuffle else None
        for step in range(start, len(self)):
            self.latest = step + 1, ()
            batch, self.part = self._batch(orders, number, step)
            if batch is not None:
                self.latest = step + 1, batch[0]
                yield batch

    def inputs_of(self, step: int) -> tuple[Tensor, ...]:
        """The inputs of step `step` (from 0) of the latest epoch once more."""
        orders = self._orders(self.number) if self.shuffle else None
        batch = self._batch(orders, self.number, step)[0]
        return () if batch is None else batch[0]

    def _batch(self, orders: Tensor | None, number: int, step: int):
        first, last = step * self.batch_size, min((step + 1) * self.batch_size, self.images)
        part = part_of(last - first, self.machine.rank, self.world, self.shuffle)
        if part.rows.start == part.rows.stop:
            return None, part
        if orders is None:
            rows = slice(first + part.rows.start, first + part.rows.stop)
            batch = tuple(tensor[rows] for tensor in self.inputs), self._targets_of(rows)
        else:
            batch = self._gathered(orders[..., first:last], part.rows, number, step)
        return (tuple(self.convert(one) for one in batch[0]), self._converted(batch[1])), part

    def _orders(self, number: int) -> Tensor:
        """The permutation of this epoch, (N,), or (S, N) for several seeds; drawn on the CPU, equal on every device."""
        seeds = self.seeds or [self.machine.seed]
        drawn = [torch.randperm(self.images, generator=stream(seed, number)) for seed in seeds]
        order = torch.stack(drawn) if self.seeds else drawn[0]
        # Targets in a list are gathered by the CPU, so the order stays there.
        return order if isinstance(self.targets, list) else moved(order, self.machine.device)

    def _gathered(self, rows: Tensor, keep: slice, number: int, step: int):
        """Inputs and targets of `rows` (B,), or (S, B) for several seeds; of these a process keeps some."""
        if self.augment is not None:
            seeds = self.seeds or [self.machine.seed]
            each = rows.reshape(len(seeds), -1)
            parts = [
                self._augmented(own, keep, stream(seed, number, step))
                for own, seed in zip(each, seeds, strict=True)
            ]
            return tree_map(lambda *one: torch.stack(one), *parts) if self.seeds else parts[0]
        own = rows[..., keep]
        flat = moved(own.reshape(-1), self.machine.device)
        inputs = [
            tensor.index_select(0, flat) for tensor in self.inputs
        ]  # 4 times as fast as [rows]
        targets = self._targets_of(flat)
        if not self.seeds:
            return inputs, targets
        return tree_map(lambda leaf: leaf.unflatten(0, own.shape), (inputs, targets))

    def _augmented(self, rows: Tensor, keep: slice, generator: torch.Generator):
        """Inputs and targets of a whole batch, so that processes agree, changed together; then the rows kept."""
        rows = moved(rows, self.machine.device)
        inputs, targets = [one.index_select(0, rows) for one in self.inputs], self._targets_of(rows)
        inputs[0], targets = applied(self.augment, inputs[0], targets, generator)
        if isinstance(targets, list):
            return [one[keep] for one in inputs], targets[keep]
        return tree_map(lambda leaf: leaf[keep], (inputs, targets))

    def _targets_of(self, rows: Tensor | slice) -> object:
        if isinstance(self.targets, list):
            numbers = range(self.images)[rows] if isinstance(rows, slice) else rows.tolist()
            return [self.targets[row] for row in numbers]
        if isinstance(rows, slice):
            return tree_map(lambda leaf: leaf[rows], self.targets)
        return tree_map(lambda leaf: leaf.index_select(0, rows), self.targets)

    def _converted(self, targets: object) -> object:
        return tree_map(self._target, targets)

    def _target(self, leaf: object) -> object:
        return in_dtype(leaf, self.machine.dtype) if isinstance(leaf, Tensor) else leaf


def _check_rows(inputs: tuple, targets: object) -> None:
    """Every input, and every tensor among the targets, has one row an image; a list one entry an image."""
    rows = len(targets) if isinstance(targets, Tensor | list) else None
    leaves = [] if isinstance(targets, list) else tree_leaves(targets)
    for part in (*inputs, *leaves):
        if isinstance(part, Tensor) and part.ndim and rows is None:
            rows = len(part)
        if not isinstance(part, Tensor) or not part.ndim or len(part) != rows:
            raise ShapeError(
                f"tensors with {rows} rows, one a target",
                tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__,
                where="a pair (inputs, targets)",
                remedy="make tensors of equal lengths; torch.as_tensor takes arrays",
            )
