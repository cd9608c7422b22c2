"""SqueezeNet: AlexNet's accuracy from modules that squeeze with 1x1 before they expand (lesson 15).

Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer: SqueezeNet, arXiv 1602.07360, 2016.
The layers carry torchvision's names, so official weights load.
"""

from __future__ import annotations

import torch
from torch import nn

from cnncourse.models.base import check_images, create, one_of, scaled, whole

# A word a layer: the maps of squeeze and of each expand; "pool" halves the size.
FIRES = {
    "1_0": "pool 16-64 16-64 32-128 pool 32-128 48-192 48-192 64-256 pool 64-256",
    "1_1": "pool 16-64 16-64 pool 32-128 32-128 pool 48-192 48-192 64-256 64-256",
}


class Fire(nn.Module):
    """1x1 to few maps, then 1x1 and 3x3 side by side: (N, C, H, W) -> (N, 2 * expand, H, W).

    >>> Fire(96, 16, 64)(torch.zeros(1, 96, 54, 54)).shape
    torch.Size([1, 128, 54, 54])
    """

    def __init__(self, in_channels: int, squeeze: int, expand: int):
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeeze, 1)
        self.squeeze_activation = nn.ReLU()
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand1x1_activation = nn.ReLU()
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.expand3x3_activation = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.squeeze_activation(self.squeeze(x))
        return torch.cat(
            [
                self.expand1x1_activation(self.expand1x1(x)),
                self.expand3x3_activation(self.expand3x3(x)),
            ],
            dim=1,
        )


class SqueezeNet(nn.Module):
    """A convolution, eight fire modules with three poolings, a convolution to the classes, an average over pixels.

    `version`: "1_0" as in the paper, "1_1" with a smaller stem and earlier poolings. `width`: maps of the first
    convolution (96 or 64). `image_size`: up to 64 pixels the first convolution keeps the size.
    (N, in_channels, H, W) -> (N, num_classes).
    """

    def __init__(
        self,
        version: str = "1_0",
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: int | None = None,
        image_size: int | None = None,
        dropout: float = 0.5,
    ):
        super().__init__()
        whole(num_classes, "num_classes"), whole(in_channels, "in_channels")
        one_of(version, "version", ("1_0", "1_1"))
        paper, kernel = {"1_0": (96, 7), "1_1": (64, 3)}[version]
        width = paper if width is None else whole(width, "width")
        small = image_size is not None and whole(image_size, "image_size") <= 64
        self.in_channels, self.smallest = (
            in_channels,
            8 if small else {"1_0": 21, "1_1": 17}[version],
        )
        first = (3, 1, 1) if small else (kernel, 2, 0)  # kernel, stride, padding
        layers, channels = [nn.Conv2d(in_channels, width, *first), nn.ReLU()], width
        for word in FIRES[version].split():
            if word == "pool":
                layers.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
            else:
                squeeze, expand = (scaled(int(maps), width, paper) for maps in word.split("-"))
                layers.append(Fire(channels, squeeze, expand))
                channels = 2 * expand
        self.features = nn.Sequential(*layers)
        last = nn.Conv2d(channels, num_classes, 1)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), last, nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.zeros_(module.bias)
                if module is last:
                    nn.init.normal_(module.weight, std=0.01)
                else:
                    nn.init.kaiming_uniform_(module.weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_images(self, images)
        return self.classifier(self.features(images)).flatten(1)


def squeezenet1_0(*, weights=None, progress: bool = True, **options) -> SqueezeNet:
    """SqueezeNet 1.0: eight fire modules behind a 7x7 convolution.

    Iandola et al. 2016, table 1. Input (3, 224, 224); 1,248,424 parameters; 818,924,576 multiply-adds.
    Special: 49 times fewer parameters than AlexNet; the < 0.5 MB of the title needs compression besides. Lesson 15.
    """
    return create(
        SqueezeNet, "squeezenet1_0", options, weights=weights, progress=progress, version="1_0"
    )


def squeezenet1_1(*, weights=None, progress: bool = True, **options) -> SqueezeNet:
    """SqueezeNet 1.1: a 3x3 stem and earlier poolings.

    The authors' later version of Iandola et al. 2016. Input (3, 224, 224); 1,235,496 parameters;
    349,151,936 multiply-adds. Special: 2.4 times less work than 1.0 for the same accuracy. Lesson 15.
    """
    return create(
        SqueezeNet, "squeezenet1_1", options, weights=weights, progress=progress, version="1_1"
    )
