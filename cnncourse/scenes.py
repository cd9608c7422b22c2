"""Pictures in which one knows everything: real handwritten digits, coloured, on photographs of brick, grass and gravel.

>>> train, test = scenes.make(2000, train=True), scenes.make(300, train=False)
>>> train
Scenes('scenes', 2000 images of 3 x 48 x 48, 1 to 3 of 10 classes in each)
>>> train.captions[1]
'a green five left of a blue two'

A digit or a place of a photograph that occurs in training scenes never occurs in test scenes. Used in lessons 18 to 21.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from cnncourse import augment as augmentation
from cnncourse import data
from cnncourse.data.imageset import recorded
from cnncourse.errors import ParameterError

COLOURS = {  # name: red, green, blue in 0..1
    "red": (0.95, 0.20, 0.20),
    "green": (0.20, 0.85, 0.25),
    "blue": (0.25, 0.40, 1.00),
    "yellow": (0.95, 0.90, 0.20),
}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEXTURES = ("brick", "grass", "gravel")  # photographs of 512 x 512 pixels
TRAIN_SHARE = 0.6  # the left part of each photograph is for training, the right for testing
# scikit-learn's digits come from fourteen forms, each beginning 0 1 2 ... 9 (who wrote which is not recorded)
TRAIN_DIGITS = 1287  # the first ten forms
INK = 0.4  # a pixel belongs to a digit from this opacity on
BLOCK = 250  # scenes drawn from one generator, so that fewer scenes are the first of more


@dataclass(frozen=True, eq=False, repr=False)
class Scenes:
    """Scenes with all that may be asked of them, K the most objects in one; rows beyond a scene's objects hold 0 or -1.

    images: uint8 (N, 3, H, W). boxes: float32 (N, K, 4), x1, y1, x2, y2 in pixels, exactly around the visible ink.
    labels, colours: int64 (N, K), places in `classes` and in COLOURS. masks: uint8 (N, H, W), 0 ground, k + 1 object k.
    captions: N sentences. mentions: int64 (N, words), the object that each word names, -1 for none.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    colours: Tensor
    masks: Tensor
    mentions: Tensor
    captions: tuple[str, ...]
    classes: tuple[str, ...]
    name: str = "scenes"
    checksum: str = ""

    def __repr__(self) -> str:
        n, *shape = self.images.shape
        few, many = (int(value) for value in self.counts.aminmax()) if n else (0, 0)
        return (
            f"Scenes({self.name!r}, {n} images of {' x '.join(map(str, shape))}, "
            f"{few} to {many} of {len(self.classes)} classes in each)"
        )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def counts(self) -> Tensor:
        """How many objects each scene holds, int64 (N,)."""
        return (self.labels >= 0).sum(1)

    @property
    def targets(self) -> dict[str, Tensor]:
        """What `cnncourse.augment` moves with the pictures: boxes, labels, masks, and each scene's own row, (N,)."""
        rows = torch.arange(len(self), device=self.images.device)
        return {"boxes": self.boxes, "labels": self.labels, "masks": self.masks, "rows": rows}

    def __getitem__(self, index):
        """A part: by a slice, indices or a mask. An int gives (image, target) as torchvision's detectors take them.

        >>> train = scenes.make(4, train=True, objects=(2, 2))
        >>> image, target = train[0]  # float (3, H, W), and its n objects
        >>> target["boxes"].shape, target["labels"].shape, target["masks"].shape
        (torch.Size([2, 4]), torch.Size([2]), torch.Size([2, 48, 48]))
        """
        if isinstance(index, Integral):
            count = int(self.counts[index])
            own = torch.arange(1, count + 1, device=self.masks.device)
            target = {
                "boxes": self.boxes[index, :count],
                "labels": self.labels[index, :count],
                "masks": self.masks[index] == own[:, None, None],
            }
            return self.images[index].to(torch.get_default_dtype()) / 255, target
        rows = self._numbered()[index].labels
        part = self._with(lambda tensor: tensor[index if isinstance(index, slice) else rows])
        vars(part)["captions"] = tuple(self.captions[row] for row in rows.tolist())
        return part

    def to(self, device: str | torch.device) -> Scenes:
        """The same scenes on another device."""
        return self._with(lambda tensor: tensor.to(device))

    def _with(self, change: Callable[[Tensor], Tensor]) -> Scenes:
        part = copy.copy(self)
        vars(part).update(
            {name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        )
        return part

    def _numbered(self) -> data.ImageSet:
        """The pictures labelled with their own row."""
        return data.ImageSet(self.images, self.targets["rows"], (), self.name)

    def batches(
        self,
        batch_size: int,
        generator: Generator | None = None,
        *,
        augment: Callable | None = None,
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Yield (images, targets) for one pass: images float (B, 3, H, W) in 0..1, targets as in `targets`.

        generator: shuffles, and feeds augment, which changes pictures and targets alike.

        >>> train = scenes.make(64, train=True)
        >>> for images, targets in train.batches(32, generator, augment=partial(augment.crop, padding=4)):
        ...     targets["boxes"].shape  # (32, K, 4); where targets["labels"] is -1 there is no object
        """
        for images, rows in self._numbered().batches(batch_size, generator, dtype=torch.float32):
            targets = {name: value[rows] for name, value in self.targets.items()}
            if augment is not None:
                images, targets = augmentation.applied(augment, images, targets, generator)
            yield images.to(torch.get_default_dtype()), targets

    def classification(self) -> data.ImageSet:
        """The pictures labelled with the class of their first object: for scenes of one object."""
        return data.ImageSet(self.images, self.labels[:, 0], self.classes, self.name, self.checksum)

    def segmentation(self) -> data.ImageSet:
        """The pictures with the class of every pixel as label, int64 (N, H, W): 0 is the ground, c + 1 class c."""
        of_object = F.pad(self.labels + 1, (1, 0))  # (N, 1 + K): what 0, 1, ... in masks stand for
        labels = of_object.gather(1, self.masks.flatten(1).long()).view(self.masks.shape)
        classes = ("ground", *self.classes)
        return data.ImageSet(self.images, labels, classes, self.name, self.checksum)


def make(
    count: int,
    train: bool,
    *,
    seed: int = 0,
    size: int = 48,
    objects: tuple[int, int] = (1, 3),
    heights: tuple[int, int] = (14, 22),
    classes: int = 10,
    source: str = "digits",
    gap: int = 0,
    contrast: float = 0.08,
) -> Scenes:
    """`count` scenes, the same for the same arguments; with a larger count they are the first ones of more.

    size: side of the picture in pixels. objects: fewest and most digits in a scene. heights: smallest and largest
    height of a digit in pixels. classes: digits 0 to classes - 1. source: where the digits are from, "digits" (1,287
    for training, 510 from other forms for testing), "mnist" or another set of `data.load`, bright on black. gap:
    pixels between the boxes of two digits; below 0 they may overlap by that many, and the later covers the earlier.
    contrast: deviation of the ground's brightness, in 0..1.

    >>> scenes.make(4, train=True, objects=(2, 2)).boxes.shape
    torch.Size([4, 2, 4])

    Raises `ParameterError` for values that are none, or when so many digits of this height do not fit.
    """
    few, many = objects
    low, high = heights
    if not (
        count >= 1 and 1 <= few <= many <= 9 and 4 <= low <= high <= size and 1 <= classes <= 10
    ):
        raise ParameterError(
            "count >= 1, 1 <= fewest <= most <= 9 objects, 4 <= lowest <= highest <= size, and 1 to 10 classes",
            f"{count=}, {objects=}, {heights=}, {size=}, {classes=}",
            where="scenes.make",
            remedy="try objects=(1, 3), heights=(14, 22), size=48",
        )
    glyphs, kinds, names = _glyphs(source, train, classes, heights)
    grounds = _grounds(train, size)
    blocks = []
    for block in range(-(-count // BLOCK)):
        mixed = np.random.SeedSequence((seed, int(train), block)).generate_state(1, np.uint64)[0]
        generator = Generator().manual_seed(int(mixed))
        blocks.append(
            _block(glyphs, kinds, grounds, generator, objects, heights, size, gap, contrast)
        )
    images, boxes, labels, colours, masks = (
        torch.cat(parts)[:count].clone() for parts in zip(*blocks, strict=True)
    )
    captions, mentions = _described(boxes, labels, colours, names)
    checksum = recorded("scenes", images, labels, train)
    return Scenes(
        images, boxes, labels, colours, masks, mentions, captions, names, "scenes", checksum
    )


def _glyphs(
    source: str, train: bool, classes: int, heights: tuple[int, int]
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Digits (M, 1, h, w) with the ink in 0..1, their classes (M,), and the classes' names."""
    if source == "digits":
        whole = data.digits()
        pool = whole[:TRAIN_DIGITS] if train else whole[TRAIN_DIGITS:]
    else:
        pool = data.load(source, train)
    if pool.images.shape[1] != 1:
        raise ParameterError(
            "a set of grey pictures",
            f"{pool!r}",
            where=f"scenes.make(source={source!r})",
            remedy="use 'digits' or 'mnist'",
        )
    pool = pool[pool.labels < classes]
    glyphs = pool.images.float() / pool.images.amax((1, 2, 3), keepdim=True).clamp_min(1)
    inks = _scaled(glyphs, torch.full((len(glyphs),), heights[0]), heights[1])
    shown = (inks > INK).flatten(1).sum(1) >= 12  # pixels; of a dark picture less would be seen
    if not shown.any():
        raise ParameterError(
            "bright shapes on black",
            f"{pool!r}, too dark to be seen at {heights[0]} pixels",
            where=f"scenes.make(source={source!r})",
            remedy="invert the pictures, or raise heights",
        )
    names = [NUMBERS[int(name)] if name.isdecimal() else name.lower() for name in pool.classes]
    return glyphs[shown], pool.labels[shown], tuple(names[:classes])


def _grounds(train: bool, size: int) -> Tensor:
    """Photographs (T, H, W) with mean 0 and deviation 1, cut to the part for training or testing."""
    photos = data.photos()
    grounds = torch.stack([photos[name][0].float() for name in TEXTURES])
    cut = round(TRAIN_SHARE * grounds.shape[2])
    grounds = grounds[:, :, :cut] if train else grounds[:, :, cut:]
    if size > grounds.shape[2]:
        raise ParameterError(
            f"a size of at most {grounds.shape[2]} pixels, the width of the photographs' part",
            size,
            where="argument size of scenes.make",
            remedy="try size=48",
        )
    mean, std = grounds.mean((1, 2), keepdim=True), grounds.std((1, 2), keepdim=True)
    return (grounds - mean) / std


def _block(
    glyphs: Tensor,
    kinds: Tensor,
    grounds: Tensor,
    generator: Generator,
    objects: tuple[int, int],
    heights: tuple[int, int],
    size: int,
    gap: int,
    contrast: float,
) -> tuple[Tensor, ...]:
    """Images, boxes, labels, colours and masks of BLOCK scenes."""

    def integers(low: int, high: int, *shape: int) -> Tensor:  # both ends may come
        return torch.randint(low, high + 1, shape, generator=generator)

    most = objects[1]
    there = torch.arange(most) < integers(*objects, BLOCK)[:, None]  # (BLOCK, K)
    chosen = integers(0, len(glyphs) - 1, BLOCK, most)
    colours = integers(0, len(COLOURS) - 1, BLOCK, most)
    inks = _scaled(glyphs[chosen.flatten()], integers(*heights, BLOCK * most), heights[1])
    inks = inks.view(BLOCK, most, *inks.shape[1:])
    sides = _around((inks > INK).flatten(0, 1))[:, 2:].long().view(BLOCK, most, 2)  # from 0, 0
    corners = _placed(sides, there, size, gap, generator)  # (BLOCK, K, 2), x and y

    place = torch.arange(size)
    rows, columns = (integers(0, side - size, BLOCK)[:, None] + place for side in grounds.shape[1:])
    texture = integers(0, len(grounds) - 1, BLOCK)[:, None, None]
    patch = grounds[texture, rows[:, :, None], columns[:, None, :]]  # (BLOCK, H, W)
    tint = 0.35 + 0.25 * torch.rand(BLOCK, 3, 1, 1, generator=generator)
    images = tint + contrast * patch[:, None]
    masks = torch.zeros(BLOCK, size, size, dtype=torch.uint8)
    palette = torch.tensor(list(COLOURS.values()))
    for k in range(most):
        ink = _on_canvas(inks[:, k], corners[:, k], size) * there[:, k, None, None]
        paint = palette[colours[:, k]][:, :, None, None]
        images = images + ink[:, None] * (paint - images)
        masks[ink > INK] = k + 1
    images = images + 0.02 * torch.randn(images.shape, generator=generator)  # the camera's noise
    images = (images * 255).round_().clamp_(0, 255).to(torch.uint8)
    boxes = torch.stack([_around(masks == k + 1) for k in range(most)], 1)
    labels = kinds[chosen].masked_fill(~there, -1)
    return images, boxes, labels, colours.masked_fill(~there, -1), masks


def _scaled(glyphs: Tensor, heights: Tensor, side: int) -> Tensor:
    """Each glyph (M, 1, h, w) with its ink scaled to a height in pixels, at the upper left of (M, side, side)."""
    x1, y1, x2, y2 = _around(glyphs[:, 0] > 0.2).unbind(1)  # the ink in the source, in its pixels
    widths = (heights * (x2 - x1) / (y2 - y1)).round().clamp(3, side)
    place = torch.arange(side) + 0.5
    across = x1[:, None] + place * ((x2 - x1) / widths)[:, None]  # (M, side): where to look
    down = y1[:, None] + place * ((y2 - y1) / heights)[:, None]
    high, wide = glyphs.shape[2:]
    grid = torch.stack(
        [
            (2 * across / wide - 1)[:, None, :].expand(-1, side, -1),
            (2 * down / high - 1)[:, :, None].expand(-1, -1, side),
        ],
        3,
    )
    inks = F.grid_sample(glyphs, grid, mode="bicubic", align_corners=False)[:, 0].clamp(0, 1)
    inside = (place < heights[:, None])[:, :, None] & (place < widths[:, None])[:, None, :]
    return _to_corner(inks * inside)


def _to_corner(inks: Tensor) -> Tensor:
    """Pictures (M, S, S) moved so that their ink begins in the first row and column."""
    spread = inks > INK
    side = torch.arange(inks.shape[1])
    top, left = (spread.any(axis).int().argmax(1) for axis in (2, 1))
    rows, columns = (side + start[:, None] for start in (top, left))
    inks = F.pad(inks, (0, inks.shape[2], 0, inks.shape[1]))
    return inks[torch.arange(len(inks))[:, None, None], rows[:, :, None], columns[:, None, :]]


def _placed(sides: Tensor, there: Tensor, size: int, gap: int, generator: Generator) -> Tensor:
    """Upper left corners (N, K, 2) of boxes with these sides, (N, K, 2), that keep `gap` pixels apart.

    A scene whose next box finds no place in 16 tries begins anew.
    """
    count, most, _ = sides.shape
    corners = torch.zeros(count, most, 2, dtype=torch.int64)
    open_rows = torch.arange(count)
    for _ in range(200):
        own, wide = corners[open_rows], sides[open_rows]
        failed = torch.zeros(len(open_rows), dtype=torch.bool)
        for k in range(most):
            room = size - wide[:, k, None] + 1  # (n, 1, 2)
            tries = (torch.rand(len(open_rows), 16, 2, generator=generator) * room).long()
            free = torch.ones(tries.shape[:2], dtype=torch.bool)
            for other in range(k):
                low = torch.maximum(tries, own[:, other, None])
                high = torch.minimum(
                    tries + wide[:, k, None], (own[:, other] + wide[:, other])[:, None]
                )
                shared = (high - low).clamp_min(0).prod(2)
                smaller = torch.minimum(wide[:, k].prod(1), wide[:, other].prod(1))
                near = ((high - low + gap) > 0).all(2) | (3 * shared > smaller[:, None])
                free &= ~(near & there[open_rows, other, None])
            failed |= there[open_rows, k] & ~free.any(1)
            own[:, k] = tries[torch.arange(len(open_rows)), free.int().argmax(1)]
        corners[open_rows] = own
        open_rows = open_rows[failed]
        if not len(open_rows):
            return corners
    raise ParameterError(
        f"digits that fit into {size} x {size} pixels, {gap} apart",
        f"{most} of up to {int(sides.amax())} pixels",
        where="scenes.make",
        remedy="raise size, or lower objects, heights or gap",
    )


def _on_canvas(inks: Tensor, corners: Tensor, size: int) -> Tensor:
    """Pictures (N, S, S) laid at their corners (N, 2), x and y, on empty canvases (N, size, size)."""
    side = inks.shape[1]
    place = torch.arange(size)
    columns, rows = (place - corners[:, axis, None] for axis in (0, 1))  # (N, size)
    outside = [(index < 0) | (index >= side) for index in (rows, columns)]
    rows, columns = (index.clamp(0, side - 1) for index in (rows, columns))
    canvas = inks[torch.arange(len(inks))[:, None, None], rows[:, :, None], columns[:, None, :]]
    return canvas.masked_fill(outside[0][:, :, None] | outside[1][:, None, :], 0)


def _around(masks: Tensor) -> Tensor:
    """The box x1, y1, x2, y2 around each mask (N, H, W), float32 (N, 4); 0 where it is empty."""
    ends = []
    for axis in (1, 2):  # over rows: columns with ink, x
        line = masks.any(axis).int()
        ends.append((line.argmax(1), line.shape[1] - line.flip(1).argmax(1)))
    (x1, x2), (y1, y2) = ends
    return torch.stack([x1, y1, x2, y2], 1).float() * masks.flatten(1).any(1)[:, None]


def _described(
    boxes: Tensor, labels: Tensor, colours: Tensor, names: tuple[str, ...]
) -> tuple[tuple[str, ...], Tensor]:
    """A sentence for each scene, and which object (or -1) each of its words names.

    One object: "a red three". Two, by the axis along which their centres are further apart: "a red three above a blue
    seven", "a red three left of a blue seven". More: joined by "and", from left to right.
    """
    tints = list(COLOURS)
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2  # (N, K, 2)
    captions, mentions = [], []
    for centre, kinds, shades in zip(
        centres.tolist(), labels.tolist(), colours.tolist(), strict=True
    ):
        order = [place for place, kind in enumerate(kinds) if kind >= 0]
        joint = ["and"]
        order.sort(key=lambda place: centre[place][0])
        if len(order) == 2:
            (ax, ay), (bx, by) = (centre[place] for place in order)
            joint = ["left", "of"]
            if abs(by - ay) >= abs(bx - ax):
                joint = ["above"]
                order.sort(key=lambda place: centre[place][1])
        words: list[str] = []
        who: list[int] = []
        for place in order:
            if words:
                words += joint
                who += [-1] * len(joint)
            words += ["a", tints[shades[place]], names[kinds[place]]]
            who += [-1, place, place]
        captions.append(" ".join(words))
        mentions.append(torch.tensor(who))
    filled = torch.nn.utils.rnn.pad_sequence(mentions, batch_first=True, padding_value=-1)
    return tuple(captions), filled
