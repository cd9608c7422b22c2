"""MTCNN's three networks, a cascade that finds faces, with weights that ship in a package (lessons 20 and 21).

Zhang, Zhang, Li and Qiao: Joint face detection and alignment using multitask cascaded convolutional networks, IEEE
Signal Processing Letters 2016, arXiv:1604.02878, figure 2. P-Net proposes windows, R-Net refines them, O-Net decides
and marks eyes, nose and mouth. What stands between them (pyramid, overlap, suppression, cropping) is lesson 20's.
The layers carry the names of the weights' files.

>>> images = models.mtcnn.to_input(torch.zeros(512, 512, 3, dtype=torch.uint8))  # (1, 3, 512, 512)
>>> found = models.mtcnn.pnet(pretrained=True)(images)
>>> found.probability.shape, found.box.shape  # one window of 12 x 12 pixels every 2 pixels
(torch.Size([1, 251, 251]), torch.Size([1, 4, 251, 251]))
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from cnncourse import packaged
from cnncourse.models.base import check_images
from cnncourse.models.imagenet import rgb

PACKAGE, VERSION = "facenet-pytorch", "2.6.0"  # MIT License; stands in weights.lock
FILES = {  # name: (file, SHA-256)
    name: (f"facenet_pytorch/data/{name}.pt", sha256)
    for name, sha256 in (
        ("pnet", "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f"),
        ("rnet", "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86"),
        ("onet", "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d"),
    )
}


class Found(NamedTuple):
    """What a network says of its windows; P-Net's tensors end in two more axes, (rows, columns) of windows.

    logits: (N, 2), "no face" and "face" before the softmax; the loss of the paper is their cross-entropy.
    box: (N, 4), how far left, top, right and bottom of the face lie from those of the window, in widths and heights
    of the window: right_of_face = right_of_window + box[:, 2] * width.
    landmarks: (N, 5, 2), x and y of left eye, right eye, nose, left and right corner of the mouth (left in the
    picture) from the window's left top corner, in its widths and heights; None but for O-Net.
    """

    logits: torch.Tensor
    box: torch.Tensor
    landmarks: torch.Tensor | None = None

    @property
    def probability(self) -> torch.Tensor:
        """(N,), of P-Net (N, rows, columns): the probability that the window holds a face, 0 to 1."""
        return self.logits.softmax(1)[:, 1]


class PNet(nn.Module):
    """Proposal network: three convolutions that turn 12 x 12 pixels into one answer, and a picture into a map of them.

    (N, 3, H, W), H and W at least 12 -> `Found` with ceil((H - 10) / 2) rows and ceil((W - 10) / 2) columns.
    Row i, column j answers for the pixels [2i, 2i + 12) x [2j, 2j + 12), to rounding the answer that they would get as
    a picture of their own. With an odd H the last row's window reaches 1 pixel beyond the picture.

    >>> PNet()(torch.zeros(1, 3, 20, 30)).probability.shape
    torch.Size([1, 5, 10])
    """

    in_channels, smallest = 3, 12

    def __init__(self):
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.pool1 = nn.MaxPool2d(2, ceil_mode=True)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1 = nn.Conv2d(32, 2, 1)  # logits
        self.conv4_2 = nn.Conv2d(32, 4, 1)  # box

    def forward(self, images: torch.Tensor) -> Found:
        check_images(self, images)
        x = self.pool1(self.prelu1(self.conv1(images)))
        x = self.prelu2(self.conv2(x))
        x = self.prelu3(self.conv3(x))
        return Found(self.conv4_1(x), self.conv4_2(x))


class RNet(nn.Module):
    """Refinement network: looks again at a window, at 24 x 24 pixels. (N, 3, 24, 24) -> `Found`.

    >>> RNet()(torch.zeros(7, 3, 24, 24)).box.shape
    torch.Size([7, 4])
    """

    in_channels, smallest, side = 3, 24, 24

    def __init__(self):
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(64 * 3 * 3, 128), nn.PReLU(128)
        self.dense5_1 = nn.Linear(128, 2)  # logits
        self.dense5_2 = nn.Linear(128, 4)  # box

    def forward(self, images: torch.Tensor) -> Found:
        check_images(self, images)
        x = self.pool1(self.prelu1(self.conv1(images)))
        x = self.pool2(self.prelu2(self.conv2(x)))
        x = self.prelu3(self.conv3(x))
        x = self.prelu4(self.dense4(flattened(x)))
        return Found(self.dense5_1(x), self.dense5_2(x))


class ONet(nn.Module):
    """Output network: decides at 48 x 48 pixels and marks five points of the face. (N, 3, 48, 48) -> `Found`.

    >>> ONet()(torch.zeros(7, 3, 48, 48)).landmarks.shape
    torch.Size([7, 5, 2])
    """

    in_channels, smallest, side = 3, 48, 48

    def __init__(self):
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.pool3 = nn.MaxPool2d(2, ceil_mode=True)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(128 * 3 * 3, 256), nn.PReLU(256)
        self.dense6_1 = nn.Linear(256, 2)  # logits
        self.dense6_2 = nn.Linear(256, 4)  # box
        self.dense6_3 = nn.Linear(256, 10)  # landmarks: five x, then five y

    def forward(self, images: torch.Tensor) -> Found:
        check_images(self, images)
        x = self.pool1(self.prelu1(self.conv1(images)))
        x = self.pool2(self.prelu2(self.conv2(x)))
        x = self.pool3(self.prelu3(self.conv3(x)))
        x = self.prelu4(self.conv4(x))
        x = self.prelu5(self.dense5(flattened(x)))
        landmarks = self.dense6_3(x).unflatten(1, (2, 5)).mT
        return Found(self.dense6_1(x), self.dense6_2(x), landmarks)


def flattened(maps: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) -> (N, W * H * C), column by column: the order in which the authors' Matlab met the pixels."""
    return maps.permute(0, 3, 2, 1).flatten(1)


def pnet(pretrained: bool = False) -> PNet:
    """P-Net, the first of the cascade: 6,632 parameters; at 12 x 12 pixels 44,760 multiply-adds.

    `pretrained`: the weights of the package facenet-pytorch (MIT). Wants `to_input`'s numbers. See `PNet`, `Found`.
    Raises `DataError` when the package is not installed or its file was altered.
    """
    return _filled(PNet(), "pnet", pretrained)


def rnet(pretrained: bool = False) -> RNet:
    """R-Net, the second of the cascade: 100,178 parameters; otherwise as `pnet`. See `RNet`, `Found`."""
    return _filled(RNet(), "rnet", pretrained)


def onet(pretrained: bool = False) -> ONet:
    """O-Net, the last of the cascade: 389,040 parameters; otherwise as `pnet`. See `ONet`, `Found`."""
    return _filled(ONet(), "onet", pretrained)


def to_input(image: np.ndarray | torch.Tensor | Image.Image) -> torch.Tensor:
    """One photograph as the networks were trained for: (x - 127.5) / 128, float32 (1, 3, H, W), all within ±0.9961.

    `image`: uint8 values 0 to 255 as an array or tensor, (H, W, 3) or (3, H, W), or an image of PIL. Its size stays.

    >>> to_input(np.full((40, 60, 3), 255, np.uint8)).max()
    tensor(0.9961)

    Raises `ShapeError` for several pictures, grey ones, or values that are not uint8.
    """
    levels = np.array(rgb(image, where="models.mtcnn.to_input"))
    return (torch.from_numpy(levels).movedim(-1, 0)[None].float() - 127.5) / 128


def weights(name: str) -> dict[str, torch.Tensor]:
    """The weights of "pnet", "rnet" or "onet" by layer, read from the installed package without importing it.

    Raises `DataError` when the package or its file is missing, or when the file is not the one of the checksum.
    """
    file, sha256 = FILES[name]
    holds, where = "the weights of MTCNN (2 MB)", f"models.mtcnn.{name}(pretrained=True)"
    return packaged.state_dict(PACKAGE, VERSION, file, sha256, holds=holds, where=where)


def _filled(network: nn.Module, name: str, pretrained: bool) -> nn.Module:
    if pretrained:
        network.load_state_dict(weights(name))
    return network
