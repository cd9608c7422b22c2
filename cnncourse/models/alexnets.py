"""AlexNet: the two towers of 2012, one tower, torchvision's form, and the 'approximate' form of a lecture (lesson 11).

Krizhevsky, Sutskever, Hinton: ImageNet classification with deep convolutional neural networks, NIPS 2012.
torchvision's form follows Krizhevsky: One weird trick for parallelizing convolutional neural networks, 2014.
"""

from __future__ import annotations

import contextlib

import torch
from torch import nn

from cnncourse.errors import ParameterError
from cnncourse.models.base import check_images, create, scaled, whole


class TowerNorm(nn.Module):
    """AlexNet's local response normalisation over 5 neighbouring maps, within each of `towers` parts of the maps.

    b = a / (2 + 1e-4 * sum of a^2 over the 5 neighbours) ** 0.75 (section 3.3); the shape stays (N, C, H, W).
    """

    def __init__(self, towers: int = 1):
        super().__init__()
        self.towers = towers
        self.norm = nn.LocalResponseNorm(
            5, alpha=5 * 1e-4, beta=0.75, k=2.0
        )  # torch divides alpha by the 5 maps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.towers == 1:
            return self.norm(x)
        n, c, h, w = x.shape
        return self.norm(x.reshape(n * self.towers, c // self.towers, h, w)).reshape(n, c, h, w)


class AlexNet2012(nn.Module):
    """Five convolutions, three fully connected layers, local response normalisation, overlapping pooling.

    `groups=2` are the two towers: conv2, conv4 and conv5 see only the maps of their own tower.
    `norm_first=False` pools before it normalises, the order of CaffeNet and of one of the lecture's layer lists.
    `width`: maps of conv1 (96), of both towers together. `image_size`: 227 in the paper; up to 64 pixels conv1 is
    3x3 without stride and a pooling is left out where less than 3 pixels are left.
    (N, in_channels, image_size, image_size) -> (N, num_classes).
    """

    def __init__(
        self,
        *,
        groups: int = 2,
        norm_first: bool = True,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: int = 96,
        image_size: int | None = None,
        dropout: float = 0.5,
    ):
        super().__init__()
        (
            whole(num_classes, "num_classes"),
            whole(in_channels, "in_channels"),
            whole(groups, "groups"),
        )
        if whole(width, "width", least=groups) % groups:
            raise ParameterError(
                f"a width that {groups} towers can share",
                width,
                where="option width",
                remedy=f"take {width + groups - width % groups}",
            )
        side = 227 if image_size is None else whole(image_size, "image_size", least=3)
        small = side <= 64
        if not small and side < 67:
            raise ParameterError(
                "images of at least 67 pixels for a stride of 4, or up to 64",
                side,
                where="option image_size",
                remedy="take 64 or 67",
            )
        self.in_channels, self.side, self.smallest = in_channels, side, side
        n2, n3, n5, hidden = (scaled(n, width, 96, multiple=groups) for n in (256, 384, 256, 4096))
        side = side if small else (side - 11) // 4 + 1

        def pool() -> nn.Module:
            nonlocal side
            if side < 3:
                return nn.Identity()
            side = (side - 3) // 2 + 1
            return nn.MaxPool2d(3, stride=2)  # windows of 3, 2 apart: they overlap

        self.conv1 = nn.Conv2d(
            in_channels, width, *((3, 1, 1) if small else (11, 4, 0))
        )  # kernel, stride, padding
        self.relu1 = nn.ReLU()
        self.norm1, self.pool1 = TowerNorm(groups), pool()
        self.conv2 = nn.Conv2d(width, n2, 5, padding=2, groups=groups)
        self.relu2 = nn.ReLU()
        self.norm2, self.pool2 = TowerNorm(groups), pool()
        self.conv3 = nn.Conv2d(n2, n3, 3, padding=1)  # the one convolution that reads both towers
        self.relu3 = nn.ReLU()
        self.conv4 = nn.Conv2d(n3, n3, 3, padding=1, groups=groups)
        self.relu4 = nn.ReLU()
        self.conv5 = nn.Conv2d(n3, n5, 3, padding=1, groups=groups)
        self.relu5 = nn.ReLU()
        self.pool5 = pool()
        self.flatten = nn.Flatten()
        self.fc6 = nn.Linear(n5 * side**2, hidden)
        self.relu6, self.drop6 = nn.ReLU(), nn.Dropout(dropout)
        self.fc7 = nn.Linear(hidden, hidden)
        self.relu7, self.drop7 = nn.ReLU(), nn.Dropout(dropout)
        self.fc8 = nn.Linear(hidden, num_classes)
        self.norm_first = norm_first
        initialise(self, ones=("conv2", "conv4", "conv5", "fc6", "fc7"), small=small or width < 96)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_images(self, images)
        x = self.norm_pool(self.relu1(self.conv1(images)), self.norm1, self.pool1)
        x = self.norm_pool(self.relu2(self.conv2(x)), self.norm2, self.pool2)
        x = self.relu4(self.conv4(self.relu3(self.conv3(x))))
        x = self.flatten(self.pool5(self.relu5(self.conv5(x))))
        x = self.drop6(self.relu6(self.fc6(x)))
        x = self.drop7(self.relu7(self.fc7(x)))
        return self.fc8(x)

    def norm_pool(self, x: torch.Tensor, norm: nn.Module, pool: nn.Module) -> torch.Tensor:
        return pool(norm(x)) if self.norm_first else norm(pool(x))


def initialise(network: nn.Module, *, ones: tuple[str, ...] = (), small: bool) -> None:
    """The paper's start: weights N(0, 0.01), biases 1 in the layers named `ones` and 0 elsewhere (section 5).

    In a narrow network 0.01 is too small for a gradient to reach the first layer: there He's weights, biases 0.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if small:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            else:
                nn.init.normal_(module.weight, std=0.01)
            nn.init.constant_(module.bias, float(name in ones and not small))


class AlexNet(nn.Module):
    """torchvision's AlexNet: one tower of 64 to 256 maps, no normalisation, padding in the first convolution.

    `width`: maps of the first convolution (64). `image_size`: up to 64 pixels the first convolution is 3x3 without
    stride, poolings end where less than 3 pixels are left, and the classifier reads the map as it is.
    (N, in_channels, H, W) -> (N, num_classes).
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: int = 64,
        image_size: int | None = None,
        dropout: float = 0.5,
    ):
        super().__init__()
        whole(num_classes, "num_classes"), whole(in_channels, "in_channels"), whole(width, "width")
        small = image_size is not None and whole(image_size, "image_size", least=3) <= 64
        n2, n3, n4, hidden = (scaled(n, width, 64) for n in (192, 384, 256, 4096))
        side = image_size if small else 6  # of the map that the classifier reads
        pools = []
        for _ in range(3):
            pools.append(nn.MaxPool2d(3, stride=2) if not small or side >= 3 else nn.Identity())
            side = (side - 3) // 2 + 1 if small and side >= 3 else side
        self.in_channels = in_channels
        self.smallest = (
            smallest_for(sum(isinstance(pool, nn.MaxPool2d) for pool in pools)) if small else 63
        )
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, width, *((3, 1, 1) if small else (11, 4, 2))),
            nn.ReLU(),
            pools[0],
            nn.Conv2d(width, n2, 5, padding=2),
            nn.ReLU(),
            pools[1],
            nn.Conv2d(n2, n3, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(n3, n4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(n4, n4, 3, padding=1),
            nn.ReLU(),
            pools[2],
        )
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(n4 * side**2, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_images(self, images)
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


def smallest_for(poolings: int) -> int:
    """The smallest side that still fills a window of 3 after `poolings` - 1 overlapping poolings: 1, 3, 7, 15."""
    return 2 ** (poolings + 1) - 1


class LectureAlexNet(nn.Module):
    """A list of layers in the lecture's own order, with the check of images that every network has."""

    def __init__(self, *layers: nn.Module, in_channels: int, side: int):
        super().__init__()
        self.in_channels, self.side, self.smallest = in_channels, side, side
        self.layers = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_images(self, images)
        return self.layers(images)


def alexnet_2012(**options) -> AlexNet2012:
    """AlexNet as it won in 2012: two towers of half the maps, one on each of two GPUs.

    Krizhevsky et al. 2012, section 3. Input (3, 227, 227); 60,965,224 parameters; 724,406,816 multiply-adds.
    Special: the paper says 224, but 55 x 55 maps need 227 pixels. Lesson 11.
    """
    return create(AlexNet2012, "alexnet_2012", options, groups=2)


def alexnet_ungrouped(**options) -> AlexNet2012:
    """AlexNet of 2012 as one tower in which every map sees all maps.

    After Krizhevsky et al. 2012, section 3. Input (3, 227, 227); 62,378,344 parameters; 1,135,256,096 multiply-adds.
    Special: the towers saved 2 % of the parameters but a third of the work. Lesson 11.
    """
    return create(AlexNet2012, "alexnet_ungrouped", options, groups=1)


def alexnet(*, weights=None, progress: bool = True, **options) -> AlexNet:
    """torchvision's AlexNet: the one-tower form of 2014, without normalisation.

    Krizhevsky 2014, section 4. Input (3, 224, 224); 61,100,840 parameters; 714,188,480 multiply-adds.
    Special: narrower in front (64 and 192 maps), as deep, as good. Lesson 11.
    """
    return create(AlexNet, "alexnet", options, weights=weights, progress=progress)


def alexnet_lecture(
    *, num_classes: int = 1000, in_channels: int = 3, width: int = 96, image_size: int = 224
) -> LectureAlexNet:
    """The 'approximate' AlexNet of lecture notes 000, layer by layer as printed, without strides.

    Notes 000, "Alexnet architecture (approximately)". Input (3, 224, 224); 10,719,985,768 parameters;
    39,075,564,672 multiply-adds. Above 32 pixels it lives on the meta device, where tensors have shapes but no
    numbers: its weights would take 42.9 GB.
    Special: what left-out strides and poolings cost, 176 times AlexNet. Lesson 11.

    >>> alexnet_lecture()(torch.empty(1, 3, 224, 224, device="meta")).shape
    torch.Size([1, 1000])
    """
    whole(num_classes, "num_classes"), whole(in_channels, "in_channels"), whole(width, "width")
    side = (whole(image_size, "image_size", least=24) - 10) // 2 - 6  # the map that is flattened
    n2, n4, hidden = scaled(2 * 192, width, 96), scaled(2 * 128, width, 96), scaled(4096, width, 96)
    with torch.device("meta") if image_size > 32 else contextlib.nullcontext():
        return LectureAlexNet(
            nn.Conv2d(in_channels, width, (11, 11)),
            nn.ReLU(),
            nn.MaxPool2d((2, 2)),
            nn.Conv2d(width, n2, (3, 3)),
            nn.ReLU(),
            nn.Conv2d(n2, n2, (3, 3)),
            nn.ReLU(),
            nn.Conv2d(n2, n4, (3, 3)),
            nn.Flatten(),
            nn.Linear(n4 * side**2, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_classes),
            in_channels=in_channels,
            side=image_size,
        )


def alexnet_lecture_repaired(
    *, num_classes: int = 1000, in_channels: int = 3, width: int = 96, image_size: int = 224
) -> LectureAlexNet:
    """The lecture's AlexNet with what it leaves out: stride 4, conv2, two poolings, paddings, a ReLU.

    After notes 000 and Krizhevsky et al. 2012. Input (3, 224, 224); 62,378,344 parameters; 1,135,256,096 multiply-adds.
    `image_size`: up to 64 pixels the first convolution keeps the size, and maps below 3 pixels are not pooled.
    Special: 19 layers in the list instead of 14, and 172 times fewer parameters. Lesson 11.
    """
    whole(num_classes, "num_classes"), whole(in_channels, "in_channels"), whole(width, "width")
    small = whole(image_size, "image_size") <= 64
    stride, padding = (1, 5) if small else (4, 2)
    side = image_size if small else (image_size + 4 - 11) // 4 + 1  # of the first map
    pools = []
    for _ in range(3):
        pools.append(nn.MaxPool2d(3, stride=2) if side >= 3 else nn.Identity())
        side = (
            (side - 3) // 2 + 1 if side >= 3 else side
        )  # of the map that is flattened, in the end
    n2, n3, hidden = scaled(256, width, 96), scaled(2 * 192, width, 96), scaled(4096, width, 96)
    return LectureAlexNet(
        nn.Conv2d(
            in_channels, width, (11, 11), stride=stride, padding=padding
        ),  # 55 x 55, not 214 x 214
        nn.ReLU(),
        pools[0],  # 27 x 27, overlapping
        nn.Conv2d(width, n2, (5, 5), padding=2),  # the missing conv2
        nn.ReLU(),
        pools[1],  # 13 x 13
        nn.Conv2d(n2, n3, (3, 3), padding=1),
        nn.ReLU(),
        nn.Conv2d(n3, n3, (3, 3), padding=1),
        nn.ReLU(),
        nn.Conv2d(n3, n2, (3, 3), padding=1),
        nn.ReLU(),  # missing as well
        pools[2],  # 6 x 6
        nn.Flatten(),
        nn.Linear(n2 * side**2, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, num_classes),
        in_channels=in_channels,
        side=image_size,
    )
