"""Random changes of a whole batch of pictures on its device, each drawn from an explicit generator.

Every function takes images (N, C, H, W), uint8 or floating point in 0..1, and gives a new batch of the same shape and
dtype. Hand one, or a `compose` of several, to ``ImageSet.batches(augment=...)``:

>>> from functools import partial
>>> train.batches(128, generator, augment=compose(partial(crop, padding=4), flip))

What a picture shows moves with it. With ``targets=`` a function gives (images, targets), both changed alike:

- class labels, (N,): as they are;
- masks, (..., H, W) with the images' height and width: moved like the pictures;
- a dict of batched targets, {"boxes": (N, K, 4), "labels": (N, K), "masks": (N, H, W)}, or a list of N dicts, one an
  image, {"boxes": (n, 4), "labels": (n,), "masks": (n, H, W)}. Boxes are x1, y1, x2, y2 in pixels, cut at the frame.
  An object that has left the frame is dropped from its dict; where targets are batched, its box becomes 0 and its
  label -1.

>>> images, masks = flip(images, generator, targets=masks)

A function that moves pictures refuses targets that it cannot move, such as captions ("left of"). Your own function
``change(images, targets=None, *, generator)`` gives the images alone when it gets no targets.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn.utils.rnn import pad_sequence

from cnncourse import runtime
from cnncourse.errors import ParameterError, ShapeError


def compose(*steps: Callable) -> Callable:
    """One augmentation that applies the steps in order, all from the same generator.

    >>> augment = compose(partial(crop, padding=4), flip)
    >>> augment(images, generator=generator).shape == images.shape
    True
    """

    def composed(images: Tensor, targets: Any = None, *, generator: Generator):
        for step in steps:
            if targets is None:
                images = step(images, generator=generator)
            else:
                images, targets = applied(step, images, targets, generator)
        return images if targets is None else (images, targets)

    return composed


def applied(
    change: Callable, images: Tensor, targets: Any, generator: Generator
) -> tuple[Tensor, Any]:
    """(images, targets) after a change of both.

    Class labels, one tensor (N,) or a dict or tuple of them, are not handed to the change: nothing moves them.
    Raises `ParameterError` for a change that takes no targets while they are more than class labels.
    """
    if _are_labels(targets, len(images)):
        return change(images, generator=generator), targets
    try:
        inspect.signature(getattr(change, "forward", change)).bind(
            images, targets=targets, generator=generator
        )
    except TypeError:
        raise ParameterError(
            "an augmentation that changes targets too, change(images, targets=None, *, generator)",
            f"{getattr(change, '__name__', type(change).__name__)}, beside targets {_described(targets)}",
            where="argument augment",
            remedy="choose from cnncourse.augment, or give your function an argument targets",
        ) from None
    return change(images, targets=targets, generator=generator)


def flip(images: Tensor, generator: Generator, probability: float = 0.5, *, targets: Any = None):
    """Mirror each picture left to right with the given probability, each on its own draw."""
    *_, width = _check(images, "flip")
    chosen = _uniform(images, generator) < probability

    def mirrored(pictures: Tensor) -> Tensor:  # (N, ..., W)
        return torch.where(_by_image(chosen, pictures), pictures.flip(-1), pictures)

    def boxes_of(boxes: Tensor) -> Tensor:  # (N, K, 4)
        x1, y1, x2, y2 = boxes.unbind(-1)
        turned = torch.stack([width - x2, y1, width - x1, y2], -1)
        return torch.where(_by_image(chosen, boxes), turned, boxes)

    return _both(images, targets, "flip", mirrored, boxes_of)


def crop(
    images: Tensor, padding: int, generator: Generator, fill: float = 0, *, targets: Any = None
):
    """Move each picture by up to `padding` pixels in each direction: pad with `fill`, cut a window of the old size.

    What leaves the frame is lost, nothing comes in on the other side; masks get 0 there. (He et al. 2015,
    arXiv:1512.03385, section 4.2, uses padding 4 on 32 x 32 pictures.)
    """
    n, *_ = _check(images, "crop")
    if padding < 0:
        raise ParameterError(
            "a padding of at least 0 pixels", padding, where="augment.crop", remedy="try padding=4"
        )
    top, left = _draw(images, generator, lambda **on: torch.randint(2 * padding + 1, (2, n), **on))

    def window(pictures: Tensor, value: float = 0) -> Tensor:  # (N, ..., H, W)
        height, width = pictures.shape[-2:]
        planes = pictures.reshape(n, -1, height, width)
        padded = F.pad(planes, (padding,) * 4, value=value)
        places = padded.unfold(2, height, 1).unfold(3, width, 1)  # (N, C, rows, columns, H, W)
        return places[torch.arange(n, device=images.device), :, top, left].view_as(pictures)

    def boxes_of(boxes: Tensor) -> Tensor:  # content moves against the window
        offset = torch.stack([padding - left, padding - top] * 2, -1)
        return boxes + offset[:, None].to(boxes)

    return _both(images, targets, "crop", window, boxes_of, fill)


def shift(images: Tensor, dx: int, dy: int, fill: float = 0, *, targets: Any = None):
    """Move every picture dx pixels to the right and dy down (negative: left, up); `fill` comes in, nothing wraps.

    >>> shift(torch.tensor([[[[1, 2, 3]]]], dtype=torch.uint8), dx=1, dy=0)
    tensor([[[[0, 1, 2]]]], dtype=torch.uint8)
    """
    _, _, height, width = _check(images, "shift")
    right, down = max(-width, min(width, dx)), max(-height, min(height, dy))

    def moved(pictures: Tensor, value: float = 0) -> Tensor:
        return F.pad(pictures, (right, -right, down, -down), value=value)  # a negative padding cuts

    return _both(
        images, targets, "shift", moved, lambda boxes: boxes + boxes.new_tensor([dx, dy] * 2), fill
    )


def jitter(
    images: Tensor,
    generator: Generator,
    brightness: float = 0.2,
    contrast: float = 0.2,
    *,
    targets: Any = None,
):
    """Change contrast around each picture's mean, then brightness, by factors drawn from 1 - x to 1 + x a picture.

    Nothing moves, so any targets stay as they are.
    """
    n, *_ = _check(images, "jitter")
    draws = (
        _draw(images, generator, lambda **on: torch.rand((2, n, 1, 1, 1), **on)).to(_float(images))
        * 2
        - 1
    )
    values = images.to(draws.dtype)
    mean = values.mean((1, 2, 3), keepdim=True)
    changed = ((values - mean) * (1 + contrast * draws[0]) + mean) * (1 + brightness * draws[1])
    return _with(targets, _like(changed, images))


def cutout(
    images: Tensor, size: int, generator: Generator, fill: float = 0, *, targets: Any = None
):
    """Cover one square of size x size pixels in each picture; near the edge a part of it falls outside.

    The centre is drawn evenly over the picture (DeVries and Taylor 2017, arXiv:1708.04552). Nothing moves: masks and
    boxes still say what lies under the square.
    """
    _, _, height, width = _check(images, "cutout")

    def covered(length: int) -> Tensor:  # (N, length), true for `size` around a drawn centre
        start = (_uniform(images, generator) * length).long().view(-1, 1) - size // 2
        place = torch.arange(length, device=images.device)
        return (place >= start) & (place < start + size)

    square = covered(height).view(-1, 1, height, 1) & covered(width).view(-1, 1, 1, width)
    return _with(targets, images.masked_fill(square, fill))


def noise(images: Tensor, std: float, generator: Generator, *, targets: Any = None):
    """Add independent normal noise to every value; std is a share of the full range, so 0.1 is 25.5 grey levels.

    Nothing moves, so any targets stay as they are.
    """
    _check(images, "noise")
    draws = _draw(images, generator, lambda **on: torch.randn(images.shape, **on)).to(
        _float(images)
    )
    full = 255 if images.dtype == torch.uint8 else 1
    return _with(targets, _like(images + draws * (std * full), images))


def _both(
    images: Tensor,
    targets: Any,
    function: str,
    move: Callable[..., Tensor],  # pictures (N, ..., H, W), and the value that comes in
    move_boxes: Callable[[Tensor], Tensor],  # boxes (N, K, 4)
    *fill: float,
):
    """The moved images; with their targets where there are some."""
    moved = move(images, *fill)
    if targets is None:
        return moved
    return moved, _Mover(images, function, move, move_boxes).all(targets)


@dataclass(frozen=True)
class _Mover:
    """Moves the targets of a batch as its pictures were moved."""

    images: Tensor
    function: str
    move: Callable[..., Tensor]
    move_boxes: Callable[[Tensor], Tensor]

    def all(self, targets: Any) -> Any:
        if isinstance(targets, Tensor):
            return self.value("targets", targets)
        if isinstance(targets, dict):
            return self.batched(targets)
        listed = isinstance(targets, list | tuple) and len(targets) == len(self.images)
        if listed and all(isinstance(own, dict) for own in targets):
            return self.listed(targets)
        raise self.refused(_described(targets))

    def value(self, name: str, value: Any) -> Tensor:
        """A batched target that is neither boxes nor needs them."""
        if isinstance(value, Tensor) and len(value) == len(self.images):
            if value.ndim >= 3 and value.shape[-2:] == self.images.shape[-2:]:
                return self.move(value)
            if value.ndim == 1 or name == "labels":
                return value
        raise self.refused(f"{name}: {_described(value)}")

    def boxes(self, boxes: Any) -> tuple[Tensor, Tensor]:
        """Moved boxes (N, K, 4), cut at the frame, and which of them still have an area, (N, K)."""
        if not isinstance(boxes, Tensor) or boxes.ndim != 3 or boxes.shape[2] != 4:
            raise self.refused(f"boxes: {_described(boxes)}")
        height, width = self.images.shape[-2:]
        there = (boxes[..., 2:] > boxes[..., :2]).all(-1)  # rows without an area fill up the batch
        frame = boxes.new_tensor([width, height] * 2)
        boxes = torch.minimum(self.move_boxes(boxes).clamp_min(0), frame)
        seen = there & (boxes[..., 2:] > boxes[..., :2]).all(-1)
        return boxes * seen[..., None], seen

    def batched(self, targets: dict) -> dict:
        moved = {
            name: self.value(name, value) for name, value in targets.items() if name != "boxes"
        }
        if "boxes" in targets:
            moved["boxes"], seen = self.boxes(targets["boxes"])
            if "labels" in targets and targets["labels"].shape == seen.shape:
                moved["labels"] = torch.where(seen, targets["labels"], -1)
        return {name: moved[name] for name in targets}

    def listed(self, targets: list[dict]) -> list[dict]:
        """One dict an image: filled up to a batch, moved, and what has left the frame dropped."""
        names = [name for name in ("boxes", "masks") if all(name in own for own in targets)]
        if not names:
            raise self.refused(f"dicts of {', '.join(targets[0])}")
        counts = [len(own[names[0]]) for own in targets]
        for own, count in zip(targets, counts, strict=True):
            for name, value in own.items():
                if not isinstance(value, Tensor) or value.shape[:1] != (count,):
                    raise self.refused(f"{name}: {_described(value)}, beside {count} objects")
        seen, moved = None, [dict(own) for own in targets]
        for name in names:
            filled = pad_sequence([own[name] for own in targets], batch_first=True)
            if name == "boxes":
                filled, seen = self.boxes(filled)
            else:
                filled = self.value(name, filled)
                seen = filled.flatten(2).any(2) if seen is None else seen
            for own, values, count in zip(moved, filled, counts, strict=True):
                own[name] = values[:count]
        return [
            {name: value[kept[:count]] for name, value in own.items()}
            for own, kept, count in zip(moved, seen, counts, strict=True)
        ]

    def refused(self, got: str) -> ShapeError:
        height, width = self.images.shape[-2:]
        return ShapeError(
            f"labels (N,), masks (..., {height}, {width}), or boxes, labels and masks by name",
            got,
            where=f"argument targets of augment.{self.function}",
            remedy="pass a dict as at the top of cnncourse.augment. What cannot be moved (text, numbers that say where "
            "something is) needs this step left out; what has no place (soft labels) a function of your own "
            "around it, that gives (images, targets)",
        )


def _are_labels(targets: Any, count: int) -> bool:
    """Whether nothing among the targets can have a place in its picture: one number an image."""
    if isinstance(targets, Tensor):
        return targets.shape == (count,)
    parts = targets.values() if isinstance(targets, dict) else targets
    return isinstance(targets, dict | tuple) and all(_are_labels(part, count) for part in parts)


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    return f"{type(value).__name__} of {len(value)}" if hasattr(value, "__len__") else repr(value)


def _with(targets: Any, images: Tensor):
    return images if targets is None else (images, targets)


def _by_image(chosen: Tensor, pictures: Tensor) -> Tensor:
    """(N,) as (N, 1, ..., 1), to choose among whole pictures."""
    return chosen.view(-1, *[1] * (pictures.ndim - 1))


def _check(images: Tensor, function: str) -> torch.Size:
    if images.ndim != 4 or not (images.dtype == torch.uint8 or images.is_floating_point()):
        raise ShapeError(
            "images (N, C, H, W), uint8 or floating point in 0..1",
            f"{images.dtype} {tuple(images.shape)}",
            where=f"augment.{function}",
            remedy="pass a whole batch; one picture as images[None]",
        )
    return images.shape


def _draw(images: Tensor, generator: Generator, sample: Callable[..., Tensor]) -> Tensor:
    """Drawn where the generator lives and moved to the images: a CPU generator gives the same batch on every device."""
    return runtime.moved(sample(generator=generator, device=generator.device), images.device)


def _uniform(images: Tensor, generator: Generator) -> Tensor:
    return _draw(images, generator, lambda **on: torch.rand(len(images), dtype=torch.float32, **on))


def _float(images: Tensor) -> torch.dtype:
    return images.dtype if images.is_floating_point() else torch.float32


def _like(values: Tensor, images: Tensor) -> Tensor:
    """Values clamped to the range of images, in their dtype; uint8 is rounded."""
    if images.dtype == torch.uint8:
        return values.round_().clamp_(0, 255).to(torch.uint8)
    return values.clamp_(0, 1)
