"""What a network with ImageNet weights needs on both sides: a photograph as its input, and names for its outputs."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from cnncourse.errors import ShapeError
from cnncourse.models.base import whole


def imagenet_input(
    pictures: np.ndarray | torch.Tensor | Image.Image, image_size: int = 224
) -> torch.Tensor:
    """One photograph as the batch of one that `efficientnet_lite0(pretrained=True)` was trained for.

    `pictures`: uint8 values 0 to 255 as an array or tensor, (H, W, 3) or (3, H, W), or an image of PIL.
    Shorter side to 8/7 of `image_size` (bicubic, as PIL does it), the central `image_size` x `image_size` pixels of
    that, then (x - 127) / 128. Gives float32 (1, 3, image_size, image_size) within -0.9922 and 1. Other networks were
    trained with other numbers: torchvision's with mean (.485, .456, .406), deviation (.229, .224, .225).

    >>> imagenet_input(np.full((300, 451, 3), 255, np.uint8)).shape
    torch.Size([1, 3, 224, 224])

    Raises `ShapeError` for several pictures, grey ones, or values that are not uint8.
    Source: the numbers of EfficientNet-Lite's authors (2020). Lessons 11 and 16.
    """
    picture = rgb(pictures, where="imagenet_input")
    shorter = round(whole(image_size, "image_size") * 8 / 7)
    sides = [shorter * side // min(picture.size) for side in picture.size]  # width, height
    left, top = (round((side - image_size) / 2) for side in sides)
    picture = picture.resize(sides, Image.Resampling.BICUBIC)
    picture = picture.crop((left, top, left + image_size, top + image_size))
    levels = torch.from_numpy(np.array(picture)).movedim(-1, 0)[None]  # (1, 3, size, size), uint8
    return (levels.float() - 127) / 128


def imagenet_categories() -> tuple[str, ...]:
    """The names of the 1000 classes of ImageNet, in the order of a network's outputs; torchvision ships them.

    >>> imagenet_categories()[285]
    'Egyptian cat'

    No two are equal. Lessons 11 and 16.
    """
    import torchvision.models  # here: a lesson without the names does not pay for the import

    return tuple(torchvision.models.get_weight("ResNet18_Weights.IMAGENET1K_V1").meta["categories"])


def rgb(pictures: np.ndarray | torch.Tensor | Image.Image, *, where: str) -> Image.Image:
    """The photograph as an RGB image of PIL, or a `ShapeError` that says what it is instead; `where`: who asks."""
    if isinstance(pictures, Image.Image):
        return pictures.convert("RGB")
    if isinstance(pictures, torch.Tensor):
        pictures = pictures.detach().cpu().numpy()
    expected, got = "one photograph, uint8 (H, W, 3) or (3, H, W)", type(pictures).__name__
    if not isinstance(pictures, np.ndarray):
        raise ShapeError(expected, got, where=where, remedy="open a file with PIL.Image.open")
    got = f"{pictures.dtype} {pictures.shape}"
    if pictures.ndim == 4:
        remedy = f"take one of them, or torch.cat([{where}(p) for p in pictures])"
        raise ShapeError(expected, got, where=where, remedy=remedy)
    if pictures.ndim == 3 and pictures.shape[-1] != 3 and pictures.shape[0] == 3:
        pictures = pictures.transpose(1, 2, 0)
    if pictures.ndim != 3 or pictures.shape[-1] != 3 or 0 in pictures.shape:
        remedy = "repeat a grey picture three times: np.stack([picture] * 3, -1); of four channels take [..., :3]"
        raise ShapeError(expected, got, where=where, remedy=remedy)
    if pictures.dtype != np.uint8:
        remedy = "values of 0 to 1: (picture * 255).round().astype(np.uint8)"
        raise ShapeError(expected, got, where=where, remedy=remedy)
    return Image.fromarray(np.ascontiguousarray(pictures))
