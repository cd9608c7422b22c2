"""Network in network: a small network slides over the image, and the classes are averages of maps (lesson 13).

Lin, Chen, Yan: Network in network, ICLR 2014.
"""

from __future__ import annotations

import torch
from torch import nn

from cnncourse.models.base import check_images, create, scaled, whole

# A line a block: kernel, stride, padding, and the maps of the convolution and of the two 1x1 layers behind it; None
# is the number of classes. After the authors' published configurations; the paper prints no table.
CIFAR = ((5, 1, 2, (192, 160, 96)), (5, 1, 2, (192, 192, 192)), (3, 1, 1, (192, 192, None)))
IMAGENET = (
    (11, 4, 0, (96, 96, 96)),
    (5, 1, 2, (256, 256, 256)),
    (3, 1, 1, (384, 384, 384)),
    (3, 1, 1, (1024, 1024, None)),
)


def mlpconv(
    in_channels: int, maps: tuple[int, int, int], kernel: int, stride: int, padding: int
) -> nn.Sequential:
    """A convolution and two 1x1 convolutions, each with ReLU: one perceptron with two hidden layers at every pixel.

    (N, in_channels, H, W) -> (N, maps[2], H', W').
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, maps[0], kernel, stride, padding),
        nn.ReLU(),
        nn.Conv2d(maps[0], maps[1], 1),
        nn.ReLU(),
        nn.Conv2d(maps[1], maps[2], 1),
        nn.ReLU(),
    )


class NiN(nn.Module):
    """Blocks of `mlpconv` with pooling and dropout between them; the last maps are the classes, averaged over pixels.

    `width`: maps of the first convolution. `image_size`: for images of up to 64 pixels the first convolution of the
    ImageNet form keeps their size. (N, in_channels, H, W) -> (N, num_classes).
    """

    def __init__(
        self,
        blocks: tuple,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: int | None = None,
        image_size: int | None = None,
        dropout: float = 0.5,
    ):
        super().__init__()
        whole(num_classes, "num_classes"), whole(in_channels, "in_channels")
        paper = blocks[0][3][0]
        width = paper if width is None else whole(width, "width")
        small = image_size is not None and whole(image_size, "image_size") <= 64
        self.in_channels = in_channels
        layers, channels = [], in_channels
        for i, (kernel, stride, padding, maps) in enumerate(blocks):
            if small and stride > 1:
                kernel, stride, padding = 5, 1, 2
            maps = tuple(num_classes if n is None else scaled(n, width, paper) for n in maps)
            layers.append(mlpconv(channels, maps, kernel, stride, padding))
            channels = maps[2]
            if i < len(blocks) - 1:  # ceil mode keeps small maps alive: 32, 16, 8 on CIFAR-10
                average = blocks is CIFAR and i == 1
                layers.append(
                    (nn.AvgPool2d if average else nn.MaxPool2d)(3, stride=2, ceil_mode=True)
                )
            if i == len(blocks) - 2 or (blocks is CIFAR and i == 0):
                layers.append(nn.Dropout(dropout))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.smallest = 4 if blocks is CIFAR else 8 if small else 39
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_images(self, images)
        return self.avgpool(self.features(images)).flatten(1)


def nin_cifar(*, num_classes: int = 10, **options) -> NiN:
    """Network in network for CIFAR-10: three mlpconv blocks.

    Lin et al. 2014, section 4. Input (3, 32, 32); 966,986 parameters; 222,486,528 multiply-adds.
    Special: no fully connected layer at its end; the last maps are the classes. Lesson 13.
    """
    return create(NiN, "nin_cifar", {"num_classes": num_classes, **options}, blocks=CIFAR)


def nin_imagenet(**options) -> NiN:
    """Network in network for ImageNet: four mlpconv blocks.

    After Lin et al. 2014 and their published configuration. Input (3, 224, 224); 7,595,176 parameters;
    1,100,188,800 multiply-adds. Special: as good as AlexNet with an eighth of its parameters. Lesson 13.
    """
    return create(NiN, "nin_imagenet", options, blocks=IMAGENET)
