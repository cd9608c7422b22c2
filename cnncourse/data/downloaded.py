"""Published sets read through torchvision, after the checksum of every file was compared."""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from cnncourse.data.imageset import ImageSet, named
from cnncourse.errors import DataError

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


def root() -> Path:
    """The folder of downloaded sets: CNNCOURSE_DATA, or ``cnncourse`` in the user's cache folder."""
    if chosen := os.environ.get("CNNCOURSE_DATA"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnncourse"


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
    return named("cifar10", images, torch.tensor(source.targets), source.classes, train)


def bccd() -> Path:
    """The folder ``root()/BCCD`` of 364 photographs of blood cells with boxes, as torchvision's VOCDetection reads it.

    It is never downloaded. Raises `DataError` where ``VOCdevkit/VOC2007`` is not in it. Source: Shenggan and others,
    BCCD Dataset, MIT licence.
    """
    place = root() / "BCCD" / "VOCdevkit" / "VOC2007"
    if not place.is_dir():
        raise DataError(
            "the photographs of blood cells (BCCD, Pascal VOC's folders)",
            "none",
            where=place,
            remedy="put them there, or set CNNCOURSE_DATA to the folder that holds BCCD/",
        )
    return root() / "BCCD"


def _idx(
    name: str, folder: str, train: bool, download: bool, classes: Sequence[str] | None = None
) -> ImageSet:
    import torchvision

    sums = {file: ("sha256", value) for file, value in _IDX_SHA256[folder].items()}
    kind = getattr(torchvision.datasets, folder)
    source = _torchvision(name, kind, Path(folder) / "raw", sums, train, download)
    return named(
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
