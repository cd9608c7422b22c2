"""Your own pictures: one folder a class, as one set or as a training and a test part."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import index
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from cnncourse.data.imageset import ImageSet, named
from cnncourse.errors import DataError, ParameterError
from cnncourse.paths import resolved

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")  # Pillow's names
SUFFIXES = frozenset(".jpg .jpeg .jpe .jfif .png .webp .tif .tiff .bmp .gif .ppm .pgm .pbm".split())
UNREAD = frozenset(  # pictures as well, but not of a kind that every Pillow decodes
    ".heic .heif .avif .jxl .jp2 .j2k .svg .psd .exr .hdr .dng .cr2 .nef .arw .tga .ico".split()
)
LITTER = frozenset(("__MACOSX", "@eaDir", "lost+found"))  # folders that archives and disks leave
TEST = ("test", "val", "valid", "validation")  # names of the second part, the first found is taken
GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")
ORIENTATION = 0x0112  # the camera's rotation mark; 5 to 8 lie on their side

Size = int | tuple[int, int] | None


def image_folder(path: str | Path, *, size: Size = None) -> ImageSet:
    """Your own pictures, one folder a class, as uint8 (N, C, H, W).

    ``pictures/cat/001.jpg``, ``pictures/dog/rex.png`` give the classes ("cat", "dog"), in alphabetical order. Read are
    JPEG, PNG, WebP, TIFF, BMP, GIF and PPM, of several frames the first. C is 1 when every picture is grey, else 3; the
    camera's rotation mark is followed; files that are no pictures are left alone. size: side or (height, width) in
    pixels to scale and crop every picture to, around its middle; without it all must have one size.

    >>> data.image_folder("pictures", size=64)
    ImageSet('pictures', 2 images of 3 x 64 x 64, 2 classes, cpu, 24,592 bytes)

    A relative path starts where the course was called: at CNNCOURSE_CWD when that is set, else at the current folder.
    Raises `DataError` for a folder that is missing or holds no pictures, and names a picture that cannot be read, has
    another size or lies outside the class folders; `ParameterError` for a size that is none.
    """
    size, place = checked_size(size, "data.image_folder"), resolved(path)
    classes = _class_folders(place)
    if all(name in ("train", *TEST) and not pictures_in(place / name) for name in classes):
        raise DataError(
            "one folder for each class",
            f"the parts {', '.join(classes)}",
            where=place,
            remedy=f"data.load({str(path)!r}, train=True) reads such a folder, and train=False its other part",
        )
    return _read(classes, list(classes), size, channels_and_sizes([classes], size)[0], place.name)


def folder_part(path: str | Path, train: bool, *, size: Size = None) -> ImageSet:
    """One part of a folder with ``train/`` and ``test/`` in it (or ``val/``), both like `image_folder`.

    Both parts have the classes of train/, the channels of the richer and one size, whichever is asked for: what does
    not fit is refused before anything is trained. A class without test pictures keeps its number.

    >>> data.load("pets", train=False).classes  # pets/test has no dog; an owl is class 2 all the same
    ('cat', 'dog', 'owl')
    """
    size, place = checked_size(size, "data.load"), resolved(path)
    second = next((name for name in TEST if (place / name).is_dir()), None)
    if second is None or not (place / "train").is_dir():
        found = [entry.name for entry in sorted(place.iterdir()) if entry.is_dir()] or [
            "no folders"
        ]
        raise DataError(
            "a folder with train/ and test/ (or val/) in it",
            ", ".join(found[:6]) + (" and more" if len(found) > 6 else ""),
            where=place,
            remedy="move the class folders into train/ and test/; for one set in one folder: "
            f"data.image_folder({str(path)!r}).split([0.8, 0.2], seed=0, stratified=True)",
        )
    first, other = _class_folders(place / "train"), _class_folders(place / second)
    if strangers := sorted(set(other) - set(first)):
        raise DataError(
            f"the classes of train/: {', '.join(first)}",
            f"another one, {strangers[0]!r}",
            where=place / second / strangers[0],
            remedy="rename the folder as in train/, or give train/ pictures of this class",
        )
    channels = channels_and_sizes([first, other], size)[0]
    return _read(first if train else other, list(first), size, channels, place.name, train)


def checked_size(size: Size, where: str) -> tuple[int, int] | None:
    """(height, width) in pixels, each at least 1, or None."""
    if size is None:
        return None
    try:
        if isinstance(size, bool):
            raise TypeError
        high, wide = (
            index(side) for side in (size if isinstance(size, Sequence) else (size, size))
        )
    except (TypeError, ValueError):
        high = wide = 0
    if min(high, wide) < 1:
        raise ParameterError(
            "a size in pixels: a side of at least 1, or (height, width)",
            repr(size),
            where=f"argument size of {where}",
            remedy="try size=64, or leave it out when all pictures have one size",
        )
    return high, wide


def _read(
    classes: Mapping[str, Sequence[Path]],
    names: Sequence[str],
    size: tuple[int, int] | None,
    channels: int,
    name: str,
    train: bool | None = None,
) -> ImageSet:
    """The pictures of these class folders, labelled by their place in names."""
    files = [file for own in classes.values() for file in own]
    labels = [names.index(kind) for kind, own in classes.items() for _ in own]
    size = size or _shape_of(files[0])[1:]
    images = np.empty((len(files), channels, *size), np.uint8)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # decoding frees the interpreter
        list(pool.map(decode, files, images))
    return named(name, torch.from_numpy(images), torch.tensor(labels), names, train)


def channels_and_sizes(
    parts: Sequence[Mapping[str, Sequence[Path]]], size: tuple[int, int] | None
) -> tuple[int, tuple[int, ...]]:
    """The channels and the size that fit every picture, from the headers alone."""
    files = [file for part in parts for own in part.values() for file in own]
    with warnings.catch_warnings():  # Pillow warns of a huge picture without its name
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        shapes = [_shape_of(file) for file in files]
    expected = size or shapes[0][1:]
    for file, (_, *found) in zip(files, shapes, strict=True):
        if size is None and tuple(found) != expected:
            raise DataError(
                f"pictures of one size, {expected[0]} x {expected[1]} like {files[0].name}",
                f"{found[0]} x {found[1]} (height x width)",
                where=file,
                remedy="pass size=, for example size=64 (in a lesson: its parameter size), to scale and crop all alike",
            )
    return max(channels for channels, *_ in shapes), expected


def _class_folders(path: Path) -> dict[str, list[Path]]:
    """The pictures of each class, both in alphabetical order."""
    remedy = "put the pictures into one folder for each class, like pictures/cat/001.jpg"
    if not path.is_dir():
        raise DataError(
            "a folder of pictures",
            "no such folder" if not path.exists() else "a file",
            where=path.absolute(),
            remedy=f"check the path; {remedy}",
        )
    names = sorted(
        entry.name
        for entry in path.iterdir()
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in LITTER
    )
    if not names:
        raise DataError("one folder for each class", "no folders", where=path, remedy=remedy)
    if loose := pictures_in(path):
        raise DataError(
            "every picture in the folder of its class",
            f"{loose[0].name} beside the class folders",
            where=path,
            remedy="move it into its class, or out of this folder",
        )
    classes = {}
    for name in names:
        classes[name] = [
            file
            for file in sorted((path / name).rglob("*"))
            if _is_picture(file) and not LITTER & set(file.relative_to(path).parts)
        ]
        if not classes[name]:
            raise DataError(
                "at least one picture in each class",
                f"class {name!r} is empty",
                where=path / name,
                remedy=f"{remedy}, or remove the empty folder",
            )
    return classes


def pictures_in(path: Path) -> list[Path]:
    return [file for file in sorted(path.iterdir()) if _is_picture(file)]


def _is_picture(file: Path) -> bool:
    """By its name; a picture that cannot be read is refused, so that none is left out unnoticed."""
    if file.name.startswith(".") or not file.is_file():  # "._rex.jpg" is a note of macOS
        return False
    if file.suffix.lower() in UNREAD:
        raise DataError(
            "pictures as JPEG, PNG, WebP, TIFF, BMP, GIF or PPM",
            file.suffix,
            where=file,
            remedy="convert it to PNG or JPEG, or move it out of the folder",
        )
    return file.suffix.lower() in SUFFIXES


def opened(file: Path) -> Image.Image:
    try:
        return Image.open(file, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"a picture of at most {Image.MAX_IMAGE_PIXELS:,} pixels",
            "a larger one: it would fill the memory",
            where=file,
            remedy="scale it down first, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it",
        ) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise unreadable(file, error) from error


def unreadable(file: Path, error: object) -> DataError:
    return DataError(
        "a JPEG, PNG, WebP, TIFF, BMP, GIF or PPM picture of 8 or 16 bits",
        f"a file that cannot be decoded ({error})",
        where=file,
        remedy="open it in a viewer; then replace or remove it",
    )


def _shape_of(file: Path) -> tuple[int, int, int]:
    """(C, H, W) as decoded, from the header alone."""
    with opened(file) as picture:
        width, height = picture.size
        try:  # Pillow turns a TIFF by itself
            turned = picture.format != "TIFF" and picture.getexif().get(ORIENTATION, 1) >= 5
        except (OSError, SyntaxError, ValueError, TypeError) as error:
            raise unreadable(file, error) from error
        height, width = (width, height) if turned else (height, width)
        return (1 if picture.mode in GREY_MODES else 3), height, width


def decode(file: Path, out: np.ndarray) -> None:
    """Write the picture into out (C, H, W), scaled and cropped around its middle when it has another size."""
    channels, height, width = out.shape
    with opened(file) as picture:
        try:
            picture.load()
            if picture.mode.startswith("I"):
                picture = Image.fromarray(_upper_byte(picture))
            elif picture.mode == "F":
                raise ValueError("32-bit floating point")
            picture = ImageOps.exif_transpose(picture).convert("L" if channels == 1 else "RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise unreadable(file, error) from error
    if picture.size != (width, height):
        picture = ImageOps.fit(picture, (width, height), Image.Resampling.BICUBIC)
    out[:] = np.asarray(picture).reshape(height, width, channels).transpose(2, 0, 1)


def _upper_byte(picture: Image.Image) -> np.ndarray:
    """16-bit grey as uint8."""
    values = np.asarray(picture)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError("more than 16 bits a pixel")
    return (values >> 8).astype(np.uint8)
