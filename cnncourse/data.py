"""Labelled pictures as one uint8 tensor on the device: sets that need no network, named sets, your own folder."""

from __future__ import annotations

import copy
import hashlib
import http.client
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cnncourse import runtime
from cnncourse.errors import DataError, ParameterError, ShapeError, nearest

_LOADED: dict[str, str] = {}

# SHA-256 of the unpacked idx files; torchvision publishes MD5 sums of the packed ones only. The gzipped
# originals of these files have exactly the published MD5 sums.
_IDX_SHA256 = {
    "MNIST": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
}


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
        if isinstance(index, int):
            return self.scaling()(self.images[index][None])[0], self.labels[index]
        index = torch.as_tensor(index, device=self.device)
        index = index.nonzero()[:, 0] if index.dtype == torch.bool else index.long()
        return self._with(
            images=self.images.index_select(0, index), labels=self.labels.index_select(0, index)
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
        stays (and no memory is copied). stratified: each part holds each class in proportion, to within one image.

        >>> train, valid = data.digits().split([0.8, 0.2], seed=0, stratified=True)
        >>> len(train), len(valid)
        (1437, 360)

        The parts are views of one gathered tensor, so splitting needs no second copy once the original is let go.
        Raises `ParameterError` when the sizes do not add up, or both generator and seed are given.
        """
        sizes = self._sizes(sizes)
        generator = _generator(generator, seed, where="ImageSet.split")
        order = None if generator is None else _permutation(len(self), generator, self.device)
        if stratified:
            order = self._interleaved(
                torch.arange(len(self), device=self.device) if order is None else order
            )
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

        generator: shuffles, and feeds ``augment(images, generator=generator)``, which sees the uint8 batch. Without one
        the order stays. dtype: floating point type, by default torch's current one. Only one batch is ever in memory.
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
                images = augment(images, generator=generator)
            yield scaled(images), labels

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
        if all(isinstance(size, int) for size in sizes):
            counts, right = list(sizes), sum(sizes) == total
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

    def _interleaved(self, order: Tensor) -> Tensor:
        """An order whose every stretch holds each class in proportion: rank r of m goes to place (r + 0.5) / m."""
        if self.labels.ndim != 1:
            raise ShapeError(
                "one label an image to stratify by",
                tuple(self.labels.shape),
                where="ImageSet.split",
                remedy="leave stratified=False",
            )
        labels = self.labels[order]
        place = torch.empty(len(order), dtype=torch.float64, device=self.device)
        for label in labels.unique():
            members = labels == label
            place[members] = (
                torch.arange(int(members.sum()), device=self.device).double() + 0.5
            ) / members.sum()
        return order[place.argsort(stable=True)]


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


def root() -> Path:
    """The folder of downloaded sets: CNNCOURSE_DATA, or ``cnncourse`` in the user's cache folder."""
    if chosen := os.environ.get("CNNCOURSE_DATA"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnncourse"


def loaded() -> dict[str, str]:
    """Name to checksum of every set that this process has loaded: ``{"digits": "71bc…"}``."""
    return dict(_LOADED)


def digits(train: bool | None = None) -> ImageSet:
    """1,797 handwritten digits, uint8 (N, 1, 8, 8), that ship with scikit-learn: no network, no file.

    The source has 17 grey levels, 0..16; here level v is round(v * 255 / 16). train: True for a fixed 1,347, False for
    the other 450, in proportion of the classes; None for all. The test set of
    "Optical recognition of handwritten digits" (Alpaydin and Kaynak 1998, UCI), CC BY 4.0.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    images = torch.from_numpy((source.images * 255 / 16).round().astype(np.uint8))[:, None]
    whole = _named(
        "digits",
        images,
        torch.from_numpy(source.target).long(),
        [str(digit) for digit in range(10)],
    )
    if train is None:
        return whole
    return whole.split((1347, 450), seed=0, stratified=True)[0 if train else 1]


_PHOTOS = (
    "astronaut",
    "chelsea",
    "coffee",
    "hubble_deep_field",
    "immunohistochemistry",
    "retina",
    "rocket",
    "brick",
    "camera",
    "coins",
    "grass",
    "gravel",
    "moon",
)


def photos() -> dict[str, Tensor]:
    """Thirteen photographs that ship in scikit-image's wheel, by name, each uint8 (3, H, W): no network.

    The last six (brick, camera, coins, grass, gravel, moon) are grey: three equal channels. Their sources and
    licences, mostly public domain, are in the docstrings of `skimage.data`.

    >>> data.photos()["chelsea"].shape  # a cat
    torch.Size([3, 300, 451])
    """
    from skimage import data as skimage_data

    pictures = {}
    for name in _PHOTOS:
        picture = torch.from_numpy(np.array(getattr(skimage_data, name)()))
        pictures[name] = (
            picture.movedim(-1, 0).contiguous() if picture.ndim == 3 else picture.repeat(3, 1, 1)
        )
    return pictures


def mnist(train: bool = True, *, download: bool = False) -> ImageSet:
    """60,000 (train) or 10,000 handwritten digits, uint8 (N, 1, 28, 28), from ``root()/MNIST/raw``.

    Read through torchvision after the SHA-256 of each file was checked. Raises `DataError` when a file is missing, cut
    short or altered, or a download fails. Source: LeCun, Bottou, Bengio, Haffner 1998.
    """
    return _idx("mnist", "MNIST", train, download, classes=[str(digit) for digit in range(10)])


def fashion_mnist(train: bool = True, *, download: bool = False) -> ImageSet:
    """60,000 (train) or 10,000 articles of clothing, uint8 (N, 1, 28, 28), from ``root()/FashionMNIST/raw``.

    Like `mnist`. Source: Xiao, Rasul, Vollgraf 2017 (arXiv:1708.07747), MIT licence.
    """
    return _idx("fashion_mnist", "FashionMNIST", train, download)


def cifar10(train: bool = True, *, download: bool = False) -> ImageSet:
    """50,000 (train) or 10,000 small photographs, uint8 (N, 3, 32, 32), from ``root()/cifar-10-batches-py``.

    Read through torchvision after each file's published MD5 was checked. Source: Krizhevsky 2009. Pictures unpacked to
    one folder a class are read by `image_folder`.
    """
    import torchvision

    kind = torchvision.datasets.CIFAR10
    sums = {
        name: ("md5", value)
        for name, value in [
            *kind.train_list,
            *kind.test_list,
            (kind.meta["filename"], kind.meta["md5"]),
        ]
    }
    source = _torchvision("cifar10", kind, Path(kind.base_folder), sums, train, download)
    images = torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous()
    return _named("cifar10", images, torch.tensor(source.targets), source.classes, train)


_SETS: dict[str, Callable[..., ImageSet]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
}


def load(
    name: str, train: bool, *, download: bool = False, size: int | tuple[int, int] | None = None
) -> ImageSet:
    """The training or test part of a set by its name, or of your own folder with ``train/`` and ``test/`` in it.

    name: "digits" (1,347 and 450), "mnist", "fashion_mnist", "cifar10", or the path of a folder (see `image_folder`;
    size is for folders only). Lessons take it as a parameter: ``-p dataset fashion_mnist``.

    >>> data.load("digits", train=True)
    ImageSet('digits', 1347 images of 1 x 8 x 8, 10 classes, cpu, 96,984 bytes)
    """
    if name == "digits":
        return digits(train)
    if name in _SETS:
        return _SETS[name](train, download=download)
    if (path := Path(name).expanduser()).is_dir():
        return _folder(path / ("train" if train else "test"), size, name=path.name, train=train)
    raise ParameterError(
        "the name of a data set or the path of a folder",
        repr(name),
        where="data.load",
        remedy=nearest(name, _SETS),
    )


def image_folder(path: str | Path, *, size: int | tuple[int, int] | None = None) -> ImageSet:
    """Your own pictures: JPEG and PNG files, one folder a class, as uint8 (N, C, H, W).

    ``pictures/cat/001.jpg``, ``pictures/dog/rex.png`` give the classes ("cat", "dog"), in alphabetical order. C is 1
    when every picture is grey, else 3; the camera's rotation mark is followed; other files are left alone. size: side
    or (height, width) to scale and crop every picture to, around its middle; without it all must have one size.

    >>> data.image_folder("pictures", size=64)
    ImageSet('pictures', 2 images of 3 x 64 x 64, 2 classes, cpu, 24,592 bytes)

    Raises `DataError` for a folder that is missing or holds no pictures, and names a picture that cannot be read or has
    another size.
    """
    path = Path(path).expanduser()
    return _folder(path, size, name=path.name)


def _folder(
    path: Path, size: int | tuple[int, int] | None, *, name: str, train: bool | None = None
) -> ImageSet:
    files, labels, classes = _class_folders(path)
    size = (size, size) if isinstance(size, int) else size
    threads = min(4, os.cpu_count() or 1)  # decoding releases the interpreter lock
    with ThreadPoolExecutor(threads) as pool:
        kinds = list(pool.map(_shape_of, files))
        if size is None:
            size = kinds[0][1:]
            for file, (_, *shape) in zip(files, kinds, strict=True):
                if tuple(shape) != tuple(size):
                    raise DataError(
                        f"pictures of one size, {size[0]} x {size[1]} like {files[0].name}",
                        f"{shape[0]} x {shape[1]} (height x width)",
                        where=file,
                        remedy="pass size=, for example size=64, to scale and crop all of them alike",
                    )
        channels = max(channels for channels, *_ in kinds)
        images = np.empty((len(files), channels, *size), np.uint8)
        list(pool.map(_decode, files, images))
    return _named(name, torch.from_numpy(images), torch.tensor(labels), classes, train)


def _class_folders(path: Path) -> tuple[list[Path], list[int], list[str]]:
    remedy = "put JPEG or PNG files into one folder for each class, like pictures/cat/001.jpg"
    if not path.is_dir():
        raise DataError(
            "a folder of pictures", "no such folder", where=path, remedy=f"check the path; {remedy}"
        )
    folders = sorted(
        folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith(".")
    )
    if not folders:
        raise DataError("one folder for each class", "no folders", where=path, remedy=remedy)
    files, labels = [], []
    for label, folder in enumerate(folders):
        found = sorted(
            file
            for file in folder.rglob("*")
            if file.suffix.lower() in (".jpg", ".jpeg", ".png") and not file.name.startswith(".")
        )
        if not found:
            raise DataError(
                "at least one picture in each class",
                f"class {folder.name!r} is empty",
                where=folder,
                remedy=f"{remedy}, or remove the empty folder",
            )
        files += found
        labels += [label] * len(found)
    return files, labels, [folder.name for folder in folders]


_GREY_MODES = ("1", "L", "LA", "I;16", "I;16B")


def _open(file: Path):
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(file, formats=("JPEG", "PNG"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> DataError:
    return DataError(
        "a JPEG or PNG picture",
        f"a file that cannot be decoded ({error})",
        where=file,
        remedy="open it in a viewer; then replace or remove it",
    )


def _shape_of(file: Path) -> tuple[int, int, int]:
    """(C, H, W) as decoded, from the header alone."""
    with _open(file) as picture:
        width, height = picture.size
        try:
            sideways = (
                picture.getexif().get(0x0112, 1) >= 5
            )  # orientation tag: the camera was held sideways
        except (OSError, SyntaxError, ValueError) as error:
            raise _unreadable(file, error) from error
        height, width = (width, height) if sideways else (height, width)
        return (1 if picture.mode in _GREY_MODES else 3), height, width


def _decode(file: Path, out: np.ndarray) -> None:
    """Write the picture into out (C, H, W), scaled and cropped around its middle when it has another size."""
    from PIL import Image, ImageOps

    channels, height, width = out.shape
    with _open(file) as picture:
        try:
            picture.load()
            if picture.mode.startswith("I;16"):  # 16-bit grey: keep the upper byte
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            picture = ImageOps.exif_transpose(picture).convert("L" if channels == 1 else "RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise _unreadable(file, error) from error
    if picture.size != (width, height):
        picture = ImageOps.fit(picture, (width, height), Image.Resampling.BICUBIC)
    out[:] = np.asarray(picture).reshape(height, width, channels).transpose(2, 0, 1)


def _idx(
    name: str, folder: str, train: bool, download: bool, classes: Sequence[str] | None = None
) -> ImageSet:
    import torchvision

    sums = {file: ("sha256", value) for file, value in _IDX_SHA256[folder].items()}
    kind = getattr(torchvision.datasets, folder)
    source = _torchvision(name, kind, Path(folder) / "raw", sums, train, download)
    return _named(
        name, source.data[:, None], source.targets.long(), classes or source.classes, train
    )


def _torchvision(
    name: str,
    kind: type,
    folder: Path,
    sums: dict[str, tuple[str, str]],
    train: bool,
    download: bool,
):
    """torchvision's reader of a set whose files under root()/folder were all found and checked."""
    place = root() / folder
    if download and not all((place / file).is_file() for file in sums):
        _download(name, kind, folder, sums)
    missing = [file for file in sums if not (place / file).is_file()]
    if missing:
        raise DataError(
            f"the files of {name}",
            f"{missing[0]} is missing",
            where=place,
            remedy=f"data.{name}(download=True) fetches them; or put them there, or set CNNCOURSE_DATA "
            f"to the folder that holds {folder.parts[0]}/",
        )
    _verify(name, place, sums)
    return kind(root(), train=train, download=False)


def _verify(name: str, place: Path, sums: dict[str, tuple[str, str]]) -> None:
    for file, (algorithm, expected) in sums.items():
        with open(place / file, "rb") as stream:
            found = hashlib.file_digest(stream, algorithm).hexdigest()
        if found != expected:
            size = (place / file).stat().st_size
            raise DataError(
                f"{algorithm} {expected}",
                f"{found} ({size:,} bytes): cut short or altered",
                where=place / file,
                remedy=f"remove this file, then data.{name}(download=True)",
            )


def _download(name: str, kind: type, folder: Path, sums: dict[str, tuple[str, str]]) -> None:
    """Fetch into a temporary folder beside the data, check, and only then move each file to its place."""
    root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root(), prefix=f".{name}-") as temporary:
        try:
            kind(temporary, download=True)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            altered = "corrupted" in str(error)
            raise DataError(
                f"{name} from its published address",
                "a file with another checksum than the published one"
                if altered
                else f"no connection: {error}",
                where=f"download to {root()}",
                remedy="try again later: the file was altered or cut short on its way"
                if altered
                else f"check the network; or copy the files by hand to {root() / folder}; "
                "digits and photos need no network",
            ) from error
        _verify(name, Path(temporary) / folder, sums)
        (root() / folder).mkdir(parents=True, exist_ok=True)
        for file in sums:
            os.replace(Path(temporary) / folder / file, root() / folder / file)


def _named(
    name: str, images: Tensor, labels: Tensor, classes: Sequence[str], train: bool | None = None
) -> ImageSet:
    """The set with its checksum, noted in `loaded` and in the run's record."""
    digest = hashlib.sha256(repr(tuple(images.shape)).encode())
    digest.update(images.numpy())
    digest.update(labels.numpy())
    checksum = digest.hexdigest()
    _LOADED[name if train is None else f"{name} ({'train' if train else 'test'})"] = checksum
    runtime.record("data", name=name, train=train, images=len(images), checksum=checksum)
    return ImageSet(images, labels, tuple(classes), name, checksum)
