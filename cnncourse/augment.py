"""Random changes of a whole batch of pictures on its device, each drawn from an explicit generator.

Every function takes images (N, C, H, W), uint8 or floating point in 0..1, and gives a new batch of the same shape and
dtype; labels stay what they are. Hand one, or a `compose` of several, to ``ImageSet.batches(augment=...)``:

>>> from functools import partial
>>> train.batches(128, generator, augment=compose(partial(crop, padding=4), flip))
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from cnncourse import runtime
from cnncourse.errors import ParameterError, ShapeError


def compose(*steps: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """One augmentation that applies the steps in order, all from the same generator.

    >>> augment = compose(partial(crop, padding=4), flip)
    >>> augment(images, generator=generator).shape == images.shape
    True
    """

    def composed(images: Tensor, *, generator: Generator) -> Tensor:
        for step in steps:
            images = step(images, generator=generator)
        return images

    return composed


def flip(images: Tensor, generator: Generator, probability: float = 0.5) -> Tensor:
    """Mirror each picture left to right with the given probability, each on its own draw."""
    _check(images, "flip")
    chosen = _uniform(images, generator) < probability
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(-1), images)


def crop(images: Tensor, padding: int, generator: Generator, fill: float = 0) -> Tensor:
    """Move each picture by up to `padding` pixels in each direction: pad with `fill`, cut a window of the old size.

    What leaves the frame is lost, nothing comes in on the other side. (He et al. 2015, arXiv:1512.03385, section 4.2,
    uses padding 4 on 32 x 32 pictures.)
    """
    n, _, height, width = _check(images, "crop")
    if padding < 0:
        raise ParameterError(
            "a padding of at least 0 pixels", padding, where="augment.crop", remedy="try padding=4"
        )
    padded = F.pad(images, (padding,) * 4, value=fill)
    windows = padded.unfold(2, height, 1).unfold(
        3, width, 1
    )  # (N, C, rows, columns, H, W), a view: nothing is copied
    top, left = _draw(images, generator, lambda **on: torch.randint(2 * padding + 1, (2, n), **on))
    return windows[torch.arange(n, device=images.device), :, top, left]


def shift(images: Tensor, dx: int, dy: int, fill: float = 0) -> Tensor:
    """Move every picture dx pixels to the right and dy down (negative: left, up); `fill` comes in, nothing wraps.

    >>> shift(torch.tensor([[[[1, 2, 3]]]], dtype=torch.uint8), dx=1, dy=0)
    tensor([[[[0, 1, 2]]]], dtype=torch.uint8)
    """
    _, _, height, width = _check(images, "shift")
    dx, dy = max(-width, min(width, dx)), max(-height, min(height, dy))
    return F.pad(images, (dx, -dx, dy, -dy), value=fill)  # a negative padding cuts


def jitter(
    images: Tensor, generator: Generator, brightness: float = 0.2, contrast: float = 0.2
) -> Tensor:
    """Change contrast around each picture's mean, then brightness, by factors drawn from 1 - x to 1 + x a picture."""
    n, *_ = _check(images, "jitter")
    draws = (
        _draw(images, generator, lambda **on: torch.rand((2, n, 1, 1, 1), **on)).to(_float(images))
        * 2
        - 1
    )
    values = images.to(draws.dtype)
    mean = values.mean((1, 2, 3), keepdim=True)
    return _like(
        ((values - mean) * (1 + contrast * draws[0]) + mean) * (1 + brightness * draws[1]), images
    )


def cutout(images: Tensor, size: int, generator: Generator, fill: float = 0) -> Tensor:
    """Cover one square of size x size pixels in each picture; near the edge a part of it falls outside.

    The centre is drawn evenly over the picture (DeVries and Taylor 2017, arXiv:1708.04552).
    """
    _, _, height, width = _check(images, "cutout")

    def covered(
        length: int,
    ) -> Tensor:  # (N, length), true for `size` neighbours around a drawn centre
        start = (_uniform(images, generator) * length).long().view(-1, 1) - size // 2
        place = torch.arange(length, device=images.device)
        return (place >= start) & (place < start + size)

    square = covered(height).view(-1, 1, height, 1) & covered(width).view(-1, 1, 1, width)
    return images.masked_fill(square, fill)


def noise(images: Tensor, std: float, generator: Generator) -> Tensor:
    """Add independent normal noise to every value; std is a share of the full range, so 0.1 is 25.5 grey levels."""
    _check(images, "noise")
    draws = _draw(images, generator, lambda **on: torch.randn(images.shape, **on)).to(
        _float(images)
    )
    full = 255 if images.dtype == torch.uint8 else 1
    return _like(images + draws * (std * full), images)


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
