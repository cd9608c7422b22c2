"""Labelled pictures as one uint8 tensor on the device, and the record of the sets that were loaded."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cnncourse import augment as augmentation
from cnncourse import runtime
from cnncourse.errors import ParameterError, ShapeError

_LOADED: dict[str, str] = {}


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Pictures with labels on one device, kept as uint8 and converted batch by batch.

    images: uint8 (N, C, H, W), 0..255. labels: int64 (N,) with values below ``len(classes)``; targets of other
    shapes (masks, boxes, several labels) are welcome as long as they have N rows.
    checksum: SHA-256 of the whole set it came from; parts keep it, so that a result names its data.

    >>> digits = data.digits()
    >>> digits
    ImageSet('digits', 1797 images of 1 x 8 x 8, 10 classes, cpu, 129,384 bytes)
    >>> images, labels = next(digits.batches(100))
    >>> images.shape, images.dtype, images.max()
    (torch.Size([100, 1, 8, 8]), torch.float32, tensor(1.))

    Raises `ShapeError` for images that are not uint8 (N, C, H, W), or labels that do not fit them.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    checksum: str = ""
    mean: Tensor | None = None  # (C,), of images scaled to 0..1
    std: Tensor | None = None

    def __post_init__(self):
        where = f"ImageSet({self.name!r})"
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ShapeError(
                "images as uint8 (N, C, H, W)",
                f"{self.images.dtype} {tuple(self.images.shape)}",
                where=where,
                remedy="scale to 0..255 and convert with .to(torch.uint8); add the missing axis",
            )
        if self.labels.shape[:1] != self.images.shape[:1]:
            raise ShapeError(
                f"{len(self.images)} labels, one an image",
                tuple(self.labels.shape),
                where=where,
                remedy="pass one row of labels for each image",
            )
        if (
            self.labels.ndim == 1
            and self.labels.dtype == torch.int64
            and len(self.labels)
            and self.classes
        ):
            low, high = self.labels.aminmax()
            if low < 0 or high >= len(self.classes):
                raise ShapeError(
                    f"labels from 0 to {len(self.classes) - 1}, one a class",
                    f"{low} to {high}",
                    where=where,
                    remedy="count the classes from 0, or name all of them in `classes`",
                )

    def __repr__(self) -> str:
        n, *shape = self.images.shape
        return (
            f"ImageSet({self.name!r}, {n} images of {' x '.join(map(str, shape))}, {len(self.classes)} classes, "
            f"{self.images.device}, {self.nbytes:,} bytes)"
        )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def device(self) -> torch.device:
        return self.images.device

    @property
    def nbytes(self) -> int:
        """Bytes of images and labels: all the memory that the set takes."""
        return self.images.nbytes + self.labels.nbytes

    def __getitem__(self, index):
        """A part: a slice shares memory, a tensor or array of indices (or a mask) gathers; an int gives (image, label).

        >>> data.digits()[:100], data.digits()[torch.tensor([3, 1])].labels
        (ImageSet('digits', 100 images of 1 x 8 x 8, 10 classes, cpu, 7,200 bytes), tensor([3, 1]))
        """
        if isinstance(index, slice):
            return self._with(images=self.images[index], labels=self.labels[index])
        if isinstance(index, Integral):
            index = int(index)
            return self.scaling()(self.images[index][None])[0], self.labels[index]
        index = torch.as_tensor(index, device=self.device)
        if index.dtype == torch.bool:
            if index.shape != (len(self),):
                raise ShapeError(
                    f"a mask of {len(self)} values, one an image",
                    tuple(index.shape),
                    where=f"ImageSet({self.name!r})[mask]",
                    remedy="make the mask from this set's own labels or images",
                )
            index = index.nonzero()[:, 0]
        return self._with(
            images=self.images.index_select(0, index.long()),
            labels=self.labels.index_select(0, index.long()),
        )

    def _with(self, **changes: Tensor) -> ImageSet:
        """This set with other tensors, which are not checked again: on a GPU a look at the labels waits for it."""
        other = copy.copy(self)
        vars(other).update(changes)
        return other

    def to(self, device: str | torch.device) -> ImageSet:
        """The same set on another device; itself when it is there already."""
        if torch.device(device) == self.device:
            return self
        moved = {
            name: value.to(device)
            for name in ("images", "labels", "mean", "std")
            if (value := getattr(self, name)) is not None
        }
        return self._with(**moved)

    def split(
        self,
        sizes: Sequence[int] | Sequence[float],
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        stratified: bool = False,
    ) -> tuple[ImageSet, ...]:
        """Parts that share no image and together hold every image, in a random order drawn from generator or seed.

        sizes: numbers of images that add up to N, or fractions that add up to 1. Without generator and seed the order
        stays (and no memory is copied). stratified: every part holds each class in proportion, to within one image.

        >>> train, valid = data.digits().split([0.8, 0.2], seed=0, stratified=True)
        >>> len(train), len(valid)
        (1438, 359)

        The parts are views of one gathered tensor, so splitting needs no second copy once the original is let go.
        Raises `ParameterError` when the sizes do not add up, or both generator and seed are given.
        """
        sizes = self._sizes(sizes)
        generator = _generator(generator, seed, where="ImageSet.split")
        order = None if generator is None else _permutation(len(self), generator, self.device)
        if stratified:
            everyone = torch.arange(len(self))
            order = self._stratified(everyone if order is None else order.cpu(), sizes)
        whole = self if order is None else self[order]
        stops = np.cumsum(sizes)
        return tuple(
            whole[int(stop - size) : int(stop)] for size, stop in zip(sizes, stops, strict=True)
        )

    def subset(
        self,
        size: int,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        stratified: bool = True,
    ) -> ImageSet:
        """`size` images, drawn at random with each class in proportion; the whole set when it has no more than that."""
        if size >= len(self):
            return self
        return self.split(
            (size, len(self) - size), generator=generator, seed=seed, stratified=stratified
        )[0]

    def batches(
        self,
        batch_size: int,
        generator: torch.Generator | None = None,
        *,
        augment: Callable | None = None,
        drop_last: bool = False,
        dtype: torch.dtype | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images, labels) for one pass: images float (B, C, H, W), scaled to 0..1 and normalised if the set is.

        generator: shuffles, and feeds ``augment(images, generator=generator)``, which sees the uint8 batch; masks go
        with their pictures (see `cnncourse.augment`). Without one the order stays. dtype: floating point type, by
        default torch's current one. Only one batch is ever in memory.
        """
        if batch_size < 1:
            raise ParameterError(
                "a batch size of at least 1", batch_size, where="ImageSet.batches", remedy="try 128"
            )
        if augment is not None and generator is None:
            raise ParameterError(
                "a generator to draw the augmentation from",
                None,
                where="ImageSet.batches",
                remedy="pass generator=torch.Generator().manual_seed(0)",
            )
        scaled = self.scaling(dtype)
        order = None if generator is None else _permutation(len(self), generator, self.device)
        stop = len(self) - len(self) % batch_size if drop_last else len(self)
        for start in range(0, stop, batch_size):
            if order is None:
                images, labels = (
                    self.images[start : start + batch_size],
                    self.labels[start : start + batch_size],
                )
            else:  # index_select into uint8 is 4 times as fast as images[rows]
                rows = order[start : start + batch_size]
                images, labels = (
                    self.images.index_select(0, rows),
                    self.labels.index_select(0, rows),
                )
            if augment is not None:
                images, labels = augmentation.applied(augment, images, labels, generator)
            yield scaled(images), labels

    def resized(self, size: int | tuple[int, int]) -> ImageSet:
        """The pictures scaled to size (a side, or height and width, in pixels): bicubic, without aliasing.

        >>> data.digits().resized(16)
        ImageSet('digits', 1797 images of 1 x 16 x 16, 10 classes, cpu, 474,408 bytes)
        """
        size = (size, size) if isinstance(size, Integral) else tuple(size)
        if size == tuple(self.images.shape[2:]):
            return self
        images = torch.cat(
            [
                F.interpolate(part.float(), size, mode="bicubic", antialias=True)
                .round_()
                .clamp_(0, 255)
                .to(torch.uint8)
                for part in self.images.split(4096)
            ]
        )
        checksum = _checksum(images, self.labels)
        return ImageSet(images, self.labels, self.classes, self.name, checksum)

    def scaling(self, dtype: torch.dtype | None = None) -> Callable[[Tensor], Tensor]:
        """The function from uint8 images to a network's input, as `batches` applies it: new, floating point, of dtype.

        >>> train = data.load("digits", True).normalised()
        >>> images = train.scaling(torch.float64)(train.images[:100])
        """
        dtype = dtype or torch.get_default_dtype()
        if self.mean is None:
            return lambda images: images.to(dtype).div_(255)
        factor, offset = (
            1 / (255 * self.std),
            -self.mean / self.std,
        )  # (x / 255 - mean) / std == x * factor + offset
        factor, offset = (part.to(dtype).view(-1, 1, 1) for part in (factor, offset))
        return lambda images: images.to(dtype).mul_(factor).add_(offset)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel, float64 (C,), of the images scaled to 0..1.

        Counted exactly from the 256 possible values, so it is the same number on every machine, without a float copy.
        """
        values = torch.arange(256, dtype=torch.float64, device=self.device) / 255
        counts = torch.stack(
            [
                sum(
                    torch.bincount(part[:, channel].flatten(), minlength=256)
                    for part in self.images.split(4096)
                )
                for channel in range(self.images.shape[1])
            ]
        ).double()
        share = counts / counts.sum(1, keepdim=True)
        mean = share @ values
        return mean, (share @ values.square() - mean.square()).clamp_min(0).sqrt()

    def normalised(
        self,
        mean: float | Sequence[float] | Tensor | None = None,
        std: float | Sequence[float] | Tensor | None = None,
    ) -> ImageSet:
        """The same images, whose batches come as (x / 255 - mean) / std; by default with this set's own statistics.

        >>> train, test = data.load("digits", True), data.load("digits", False)
        >>> mean, std = train.statistics()
        >>> train, test = train.normalised(mean, std), test.normalised(mean, std)  # the test set gets train's numbers
        """
        own = self.statistics() if mean is None or std is None else (None, None)
        channels = self.images.shape[1]
        mean, std = (
            torch.as_tensor(
                own if given is None else given, dtype=torch.float64, device=self.device
            ).expand(channels)
            for given, own in zip((mean, std), own, strict=True)
        )
        if not (std > 0).all():
            raise ParameterError(
                "a standard deviation above 0",
                std.tolist(),
                where="ImageSet.normalised",
                remedy="leave the constant channel out, or pass std=1",
            )
        return self._with(mean=mean, std=std)

    def _sizes(self, sizes: Sequence[int] | Sequence[float]) -> list[int]:
        where, total = "ImageSet.split", len(self)
        if all(isinstance(size, Integral) for size in sizes):
            counts = [int(size) for size in sizes]
            right = sum(counts) == total
        else:
            stops = [round(total * share) for share in np.cumsum(sizes)]
            counts, right = np.diff([0, *stops]).tolist(), abs(sum(sizes) - 1) < 1e-9
        if not right or min(counts, default=-1) < 0:
            raise ParameterError(
                f"sizes that add up to {total}, or fractions that add up to 1",
                sizes,
                where=where,
                remedy="give the rest a part of its own; every image belongs to exactly one",
            )
        return counts

    def _stratified(self, order: Tensor, sizes: list[int]) -> Tensor:
        """An order whose parts of these sizes hold each class in proportion, to within one image.

        Found on the processor, wherever the set lies: it is the same everywhere.
        """
        if self.labels.ndim != 1:
            raise ShapeError(
                "one label an image to stratify by",
                tuple(self.labels.shape),
                where="ImageSet.split",
                remedy="leave stratified=False",
            )
        labels = self.labels.cpu()[order].unique(return_inverse=True)[1]
        place = torch.empty(len(order), dtype=torch.float64)
        rank = torch.empty(len(order), dtype=torch.int64)
        for label, size in enumerate(labels.bincount().tolist()):
            members = labels == label
            rank[members] = torch.arange(size)
            place[members] = (rank[members].double() + 0.5) / size  # spread evenly over 0..1
        order, labels, rank = (part[place.argsort(stable=True)] for part in (order, labels, rank))
        counts = torch.stack(
            [part.bincount(minlength=int(labels.max()) + 1) for part in labels.split(sizes)], 1
        )
        share = labels.bincount()[:, None].double() * torch.tensor(sizes) / len(order)
        if ((counts - share).abs() < 1).all():
            return order
        stops = _rounded(share.numpy()).cumsum(1)  # of each class, where its parts end
        part = (rank[:, None] >= torch.from_numpy(stops)[labels]).sum(1)
        return order[part.argsort(stable=True)]


def _rounded(share: np.ndarray) -> np.ndarray:
    """Whole numbers (classes, parts) that differ from `share` by less than one and keep all sums.

    Row and column sums of share are whole, so it exists: where to round up is a flow from classes to parts.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    low = np.floor(share + 1e-9).astype(np.int32)
    rows, columns = share.shape
    capacity = np.zeros((rows + columns + 2,) * 2, np.int32)  # classes, parts, source, sink
    capacity[-2, :rows] = np.rint(share.sum(1)) - low.sum(1)
    capacity[:rows, rows:-2] = share - low > 1e-9
    capacity[rows:-2, -1] = np.rint(share.sum(0)) - low.sum(0)
    flow = maximum_flow(csr_array(capacity), rows + columns, rows + columns + 1).flow
    return low + flow.toarray()[:rows, rows:-2]


def _generator(
    generator: torch.Generator | None, seed: int | None, *, where: str
) -> torch.Generator | None:
    if generator is not None and seed is not None:
        raise ParameterError(
            "a generator or a seed",
            f"both (seed={seed})",
            where=where,
            remedy="leave one of them out",
        )
    return generator if seed is None else torch.Generator().manual_seed(seed)


def _permutation(size: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return runtime.moved(torch.randperm(size, generator=generator, device=generator.device), device)


def loaded() -> dict[str, str]:
    """Name to checksum of every set that this process has loaded: ``{"digits": "71bc…"}``."""
    return dict(_LOADED)


def named(
    name: str, images: Tensor, labels: Tensor, classes: Sequence[str], train: bool | None = None
) -> ImageSet:
    """The set with its checksum, noted in `loaded` and in the run's record."""
    checksum = recorded(name, images, labels, train)
    return ImageSet(images, labels, tuple(classes), name, checksum)


def recorded(name: str, images: Tensor, labels: Tensor, train: bool | None = None) -> str:
    """The checksum of pictures and labels, after it was noted in `loaded` and in the run's record."""
    checksum = _checksum(images, labels)
    _LOADED[name if train is None else f"{name} ({'train' if train else 'test'})"] = checksum
    runtime.record("data", name=name, train=train, images=len(images), checksum=checksum)
    return checksum


def _checksum(images: Tensor, labels: Tensor) -> str:
    digest = hashlib.sha256(repr(tuple(images.shape)).encode())
    digest.update(images.cpu().numpy())
    digest.update(labels.cpu().numpy())
    return digest.hexdigest()
