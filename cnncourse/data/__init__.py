"""Labelled pictures as one uint8 tensor on the device: sets that need no network, published sets, your own folder.

>>> train, test = data.load("digits", train=True), data.load("digits", train=False)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cnncourse.data.bundled import digits, mnist5k, photos
from cnncourse.data.downloaded import bccd, cifar10, fashion_mnist, mnist, root
from cnncourse.data.folder import checked_size, folder_part, image_folder
from cnncourse.data.imageset import ImageSet, loaded
from cnncourse.data.masks import masks_folder
from cnncourse.data.texts import text
from cnncourse.errors import DataError, ParameterError, nearest
from cnncourse.paths import resolved

__all__ = (
    "ImageSet", "bccd", "cifar10", "digits", "fashion_mnist", "image_folder", "load", "loaded", "masks_folder",
    "mnist", "mnist5k", "photos", "root", "text",
)  # fmt: skip

_BUNDLED: dict[str, Callable[..., ImageSet]] = {"digits": digits, "mnist5k": mnist5k}
_SETS: dict[str, Callable[..., ImageSet]] = {
    **_BUNDLED,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
}


def load(
    name: str, train: bool, *, download: bool = False, size: int | tuple[int, int] | None = None
) -> ImageSet:
    """The training or test part of a set by its name, or of your own folder with ``train/`` and ``test/`` in it.

    name: "digits" (1,347 and 450), "mnist5k" (4,000 and 1,000), "mnist", "fashion_mnist", "cifar10", or the path of a
    folder (see `image_folder`; its second part may be called ``val/``). size: side or (height, width) in pixels
    to scale every picture to. Lessons take both as parameters: ``-p dataset pictures -p size 64``.

    >>> data.load("digits", train=True)
    ImageSet('digits', 1347 images of 1 x 8 x 8, 10 classes, cpu, 96,984 bytes)

    Both parts of a folder have the classes of ``train/``, and the same channels and size. Raises `ParameterError` for
    an unknown name or a size that is none, and `DataError` for what does not fit in a folder.
    """
    if name in _SETS:
        size = checked_size(size, "data.load")
        online = {} if name in _BUNDLED else {"download": download}
        part = _SETS[name](train, **online)
        return part if size is None else part.resized(size)
    if (place := resolved(name)).is_dir():
        return folder_part(name, train, size=size)
    if Path(name).name != name or Path(name).suffix:  # it was meant as a path
        raise DataError(
            "the path of a folder, or the name of a data set",
            "no such folder" if not place.exists() else "a file",
            where=place.absolute(),
            remedy=f"check the path; sets with a name are {', '.join(_SETS)}",
        )
    raise ParameterError(
        "the name of a data set or the path of a folder",
        repr(name),
        where="data.load",
        remedy=f"{nearest(name, _SETS)}, or make the folder {place.absolute()}",
    )
