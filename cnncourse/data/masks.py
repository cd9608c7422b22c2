"""Your own pictures with masks: for each pixel of a picture the number of its class (lesson 19)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from cnncourse.data.folder import (
    Size,
    channels_and_sizes,
    checked_size,
    decode,
    opened,
    pictures_in,
    unreadable,
)
from cnncourse.data.imageset import ImageSet, named
from cnncourse.errors import DataError, ParameterError
from cnncourse.paths import resolved

IGNORED = 255  # as in Pascal VOC: the border of an object, a pixel nobody decided on
LAYOUTS = (("images", "masks"), ("JPEGImages", "SegmentationClass"))  # ours, and Pascal VOC's
NAMES = "classes.txt"


def masks_folder(
    path: str | Path, *, size: Size = None, classes: Sequence[str] | None = None
) -> ImageSet:
    """Your own pictures and masks: images uint8 (N, C, H, W), labels int64 (N, H, W) with the class of each pixel.

    ``streets/images/001.jpg`` and ``streets/masks/001.png`` belong together (in Pascal VOC ``JPEGImages`` and
    ``SegmentationClass``, where pictures without a mask are left out). A mask is a PNG, grey or with a palette, whose
    values are class numbers from 0; 255 is left out of the loss by ``F.cross_entropy(…, ignore_index=255)``.
    classes: their names; else one a line in ``streets/classes.txt`` or beside the folder ``streets``; else the classes
    are called by their numbers, and all of them must occur. size: as in `image_folder`; masks are scaled and cropped
    like their pictures, without mixing classes (nearest pixel).

    >>> data.masks_folder("streets", size=64)
    ImageSet('streets', 2 images of 3 x 64 x 64, 3 classes, cpu, 90,112 bytes)

    Raises `DataError` for a picture without a mask or the reverse, sizes that differ, colours instead of class numbers,
    numbers without a class, and what `image_folder` refuses; `ParameterError` for a size that is none.
    """
    size, place = checked_size(size, "data.masks_folder"), resolved(path)
    pictures, masks = _pairs(place)
    channels, shape = channels_and_sizes([{"": pictures}], size)
    names = _class_names(place, classes)
    images = np.empty((len(pictures), channels, *(size or shape)), np.uint8)
    labels = np.empty((len(pictures), *(size or shape)), np.uint8)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # decoding frees the interpreter
        list(pool.map(decode, pictures, images))
        counts = list(pool.map(_read_mask, masks, pictures, labels))
    names = names or _numbered(np.sum(counts, 0), place)
    for mask, count in zip(masks, counts, strict=True):
        wrong = [value for value in np.flatnonzero(count).tolist() if len(names) <= value < IGNORED]
        if wrong:
            raise DataError(
                f"class numbers from 0 to {len(names) - 1} ({names[-1]}), or {IGNORED} to be ignored",
                f"{', '.join(map(str, wrong[:6]))} at {int(count[wrong].sum()):,} pixels",
                where=mask,
                remedy=f"repaint these pixels, or name their class in {NAMES}, one a line from class 0 on",
            )
    return named(place.name, torch.from_numpy(images), torch.from_numpy(labels).long(), names)


def _pairs(place: Path) -> tuple[list[Path], list[Path]]:
    """Pictures and their masks, in alphabetical order."""
    layout = next((pair for pair in LAYOUTS if all((place / part).is_dir() for part in pair)), None)
    if layout is None:
        raise DataError(
            "a folder with images/ and masks/ in it (or Pascal VOC's JPEGImages/ and SegmentationClass/)",
            "no such folder" if not place.is_dir() else _listing(place),
            where=place.absolute(),
            remedy="put pictures/001.jpg into images/ and its mask into masks/001.png",
        )
    pictures = _by_stem(pictures_in(place / layout[0]))
    masks = _by_stem(pictures_in(place / layout[1]))
    for mask in masks.values():
        if mask.suffix.lower() != ".png":
            raise DataError(
                "masks as PNG, which keeps every number",
                mask.suffix,
                where=mask,
                remedy="save the masks as PNG from the program that drew them: JPEG has changed the numbers",
            )
    if layout == LAYOUTS[1]:
        pictures = {stem: file for stem, file in pictures.items() if stem in masks}
    for own, others, kind, other in (
        (pictures, masks, "mask", layout[1]),
        (masks, pictures, "picture", layout[0]),
    ):
        lonely = sorted(set(own) - set(others))
        if lonely:
            more = f", and {len(lonely) - 1} more like it" if len(lonely) > 1 else ""
            raise DataError(
                f"a {kind} for every file, with the same name before the dot",
                f"no {kind} called {lonely[0]} in {other}/{more}",
                where=own[lonely[0]],
                remedy=f"add {other}/{lonely[0]}.png, or move this file out of the folder",
            )
    if not pictures:
        raise DataError(
            "at least one picture with its mask",
            "none",
            where=place,
            remedy="put pictures into images/ and their masks into masks/",
        )
    return list(pictures.values()), [masks[stem] for stem in pictures]


def _listing(place: Path) -> str:
    return ", ".join(sorted(entry.name for entry in place.iterdir())[:6]) or "an empty folder"


def _by_stem(files: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files:
        if file.stem in found:
            raise DataError(
                "one file for each name before the dot",
                f"{found[file.stem].name} and {file.name}",
                where=file,
                remedy="rename or remove one of them",
            )
        found[file.stem] = file
    return found


def _class_names(place: Path, classes: Sequence[str] | None) -> list[str]:
    """The names that were given, or those of the file; none when there is neither."""
    file = next((p / NAMES for p in (place, place.parent) if (p / NAMES).is_file()), None)
    if classes is None and file is None:
        return []
    names = file.read_text(encoding="utf-8").split("\n") if classes is None else classes
    names = [str(name).strip() for name in names if str(name).strip()]
    if not 1 < len(names) <= IGNORED or len(set(names)) < len(names):
        kind, where = (DataError, file) if classes is None else (ParameterError, "argument classes")
        raise kind(
            f"2 to {IGNORED} different names of classes, the first for number 0",
            f"{len(names)}, {len(set(names))} of them different",
            where=where,
            remedy="write one name for each class number, the background too",
        )
    return names


def _numbered(counts: np.ndarray, place: Path) -> list[str]:
    """ "0", "1", ... for classes without names, from how many pixels (256,) have each value."""
    found = np.flatnonzero(counts[:IGNORED]).tolist()
    if len(found) < 2 or found != list(range(len(found))):
        shown = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
        ignored = f", and {IGNORED}, which is ignored" if counts[IGNORED] else ""
        raise DataError(
            "class numbers 0, 1, 2, ... in the masks, two or more, none left out",
            f"{shown or 'none'}{ignored}",
            where=place,
            remedy=f"write 1 where the object is, not 255 or 128; or name all classes in {NAMES}, one a line",
        )
    return [str(number) for number in found]


def _read_mask(mask: Path, picture: Path, out: np.ndarray) -> np.ndarray:
    """Write the class numbers into out (H, W), scaled like the picture; how many pixels of the file have each value."""
    with opened(mask) as drawn:
        try:
            drawn.load()
        except (OSError, SyntaxError, ValueError) as error:
            raise unreadable(mask, error) from error
        values = np.asarray(drawn)
        if drawn.mode not in ("P", "L", "1") and not drawn.mode.startswith("I"):
            raise DataError(
                "a mask of class numbers: a grey PNG, or one with a palette",
                f"colours ({drawn.mode})",
                where=mask,
                remedy="replace each colour by the number of its class, and save one channel of 8 bits",
            )
    high, wide = values.shape
    if values.max() > IGNORED or values.min() < 0:
        raise DataError(
            f"class numbers of 8 bits, 0 to {IGNORED}",
            f"{values.min()} to {values.max()}",
            where=mask,
            remedy="these are numbers of objects or 16-bit grey levels: write the number of the class",
        )
    expected = _shape(picture)
    if (high, wide) != expected:
        raise DataError(
            f"a mask of {expected[0]} x {expected[1]} pixels (height x width), like its picture {picture.name}",
            f"{high} x {wide}",
            where=mask,
            remedy="draw the mask on this picture, or scale both alike before",
        )
    values = values.astype(np.uint8)
    fitted = Image.fromarray(values)
    if values.shape != out.shape:
        fitted = ImageOps.fit(fitted, out.shape[::-1], Image.Resampling.NEAREST)
    out[:] = np.asarray(fitted)
    return np.bincount(values.ravel(), minlength=256)


def _shape(picture: Path) -> tuple[int, int]:
    """(H, W) of the picture as it is decoded."""
    return tuple(channels_and_sizes([{"": [picture]}], None)[1])
