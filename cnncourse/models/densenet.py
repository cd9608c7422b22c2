"""DenseNet: every layer reads the maps of all layers before it (lesson 15).

Huang, Liu, van der Maaten, Weinberger: Densely connected convolutional networks, CVPR 2017.
The layers carry torchvision's names, so official weights load.
"""

from __future__ import annotations

import re
from collections import OrderedDict

import torch
from torch import nn

from cnncourse.errors import ParameterError
from cnncourse.models.base import check_images, create, scaled, whole


class DenseLayer(nn.Module):
    """`growth` new maps from all maps so far: BatchNorm, ReLU, 1x1 to 4 x growth, BatchNorm, ReLU, 3x3 to growth.

    Without `bottleneck` only the last three. (N, C, H, W) -> (N, growth, H, W).
    """

    def __init__(
        self, in_channels: int, growth: int, *, bottleneck: bool = True, dropout: float = 0.0
    ):
        super().__init__()
        inner = 4 * growth if bottleneck else in_channels
        layers = OrderedDict()
        if bottleneck:
            layers |= {
                "norm1": nn.BatchNorm2d(in_channels),
                "relu1": nn.ReLU(),
                "conv1": nn.Conv2d(in_channels, inner, 1, bias=False),
            }
        layers |= {
            "norm2": nn.BatchNorm2d(inner),
            "relu2": nn.ReLU(),
            "conv2": nn.Conv2d(inner, growth, 3, padding=1, bias=False),
        }
        if dropout:
            layers["dropout"] = nn.Dropout(dropout)
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.children():
            x = layer(x)
        return x


class DenseBlock(nn.Module):
    """`layers` dense layers: (N, C, H, W) -> (N, C + layers * growth, H, W)."""

    def __init__(self, layers: int, in_channels: int, growth: int, **options):
        super().__init__()
        for i in range(layers):
            self.add_module(
                f"denselayer{i + 1}", DenseLayer(in_channels + i * growth, growth, **options)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = [x]
        for layer in self.children():
            maps.append(layer(torch.cat(maps, dim=1)))
        return torch.cat(maps, dim=1)


def transition(in_channels: int, channels: int) -> nn.Sequential:
    """BatchNorm, ReLU, 1x1 convolution, average of 2x2: (N, in_channels, H, W) -> (N, channels, H / 2, W / 2)."""
    return nn.Sequential(
        OrderedDict(
            norm=nn.BatchNorm2d(in_channels),
            relu=nn.ReLU(),
            conv=nn.Conv2d(in_channels, channels, 1, bias=False),
            pool=nn.AvgPool2d(2),
        )
    )


class DenseNet(nn.Module):
    """Stem, dense blocks with transitions between them, average, one linear layer.

    `layers`: of each block. `growth`: maps a layer adds. `width`: maps of the stem, twice the growth by default; when
    only `width` is given the growth follows it. `compression`: share of the maps that a transition keeps.
    `bottleneck`: 1x1 convolutions before the 3x3. `image_size`: up to 64 pixels the stem keeps the size, and
    transitions pool only while two pixels are left. (N, in_channels, H, W) -> (N, num_classes).
    """

    def __init__(
        self,
        layers: tuple[int, ...] = (6, 12, 24, 16),
        growth: int = 32,
        stem: int = 64,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: int | None = None,
        image_size: int | None = None,
        compression: float = 0.5,
        bottleneck: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__()
        whole(num_classes, "num_classes"), whole(in_channels, "in_channels")
        if not 0 < compression <= 1:
            raise ParameterError(
                "a share above 0 and up to 1",
                compression,
                where="option compression",
                remedy="write 0.5 as in the paper, or 1 to keep all maps",
            )
        width = stem if width is None else whole(width, "width")
        growth = scaled(whole(growth, "growth"), width, stem)
        small = image_size is not None and whole(image_size, "image_size") <= 64
        side = image_size if small else 224
        self.in_channels, self.smallest = in_channels, 1 if small else 29
        features = OrderedDict()
        if small:
            features["conv0"] = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        else:
            features["conv0"] = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
            features["norm0"], features["relu0"] = nn.BatchNorm2d(width), nn.ReLU()
            features["pool0"] = nn.MaxPool2d(3, stride=2, padding=1)
        channels = width
        for i, count in enumerate(layers):
            features[f"denseblock{i + 1}"] = DenseBlock(
                count, channels, growth, bottleneck=bottleneck, dropout=dropout
            )
            channels += count * growth
            if i < len(layers) - 1:
                kept = int(channels * compression)
                features[f"transition{i + 1}"] = transition(channels, kept)
                if small and side < 2:
                    features[f"transition{i + 1}"].pool = nn.Identity()
                elif small:
                    self.smallest *= 2
                channels, side = kept, side // 2
        features["norm5"] = nn.BatchNorm2d(channels)
        self.features = nn.Sequential(features)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_images(self, images)
        return self.classifier(self.avgpool(self.relu(self.features(images))).flatten(1))

    @staticmethod
    def current_keys(state: dict) -> dict:
        """A checkpoint's keys of 2017 ("norm.1") as they are today ("norm1")."""
        return {
            re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2", key): value
            for key, value in state.items()
        }


def densenet121(*, weights=None, progress: bool = True, **options) -> DenseNet:
    """DenseNet-121: blocks of 6, 12, 24 and 16 layers that add 32 maps each.

    Huang et al. 2017, table 1. Input (3, 224, 224); 7,978,856 parameters; 2,834,161,664 multiply-adds.
    Special: a third of ResNet-50's parameters, because a layer adds few maps and keeps all old ones. Lesson 15.
    """
    return create(DenseNet, "densenet121", options, weights=weights, progress=progress)


def densenet161(*, weights=None, progress: bool = True, **options) -> DenseNet:
    """DenseNet-161: blocks of 6, 12, 36 and 24 layers that add 48 maps each.

    Huang et al. 2017, section 4.2 (as published with the paper's code). Input (3, 224, 224); 28,681,000 parameters;
    7,727,907,072 multiply-adds. Special: the widest of torchvision's four. Lesson 15.
    """
    return create(
        DenseNet,
        "densenet161",
        options,
        weights=weights,
        progress=progress,
        layers=(6, 12, 36, 24),
        growth=48,
        stem=96,
    )


def densenet169(*, weights=None, progress: bool = True, **options) -> DenseNet:
    """DenseNet-169: blocks of 6, 12, 32 and 32 layers that add 32 maps each.

    Huang et al. 2017, table 1. Input (3, 224, 224); 14,149,480 parameters; 3,359,843,328 multiply-adds.
    Special: the depth grows where the maps are smallest. Lesson 15.
    """
    return create(
        DenseNet, "densenet169", options, weights=weights, progress=progress, layers=(6, 12, 32, 32)
    )


def densenet201(*, weights=None, progress: bool = True, **options) -> DenseNet:
    """DenseNet-201: blocks of 6, 12, 48 and 32 layers that add 32 maps each.

    Huang et al. 2017, table 1. Input (3, 224, 224); 20,013,928 parameters; 4,291,365,888 multiply-adds.
    Special: ResNet-101's accuracy with less than half of its parameters. Lesson 15.
    """
    return create(
        DenseNet, "densenet201", options, weights=weights, progress=progress, layers=(6, 12, 48, 32)
    )


def densenet_cifar(
    depth: int = 40,
    growth: int = 12,
    *,
    bottleneck: bool = False,
    num_classes: int = 10,
    in_channels: int = 3,
    width: int | None = None,
    image_size: int = 32,
    dropout: float = 0.0,
) -> DenseNet:
    """DenseNet for CIFAR-10: three blocks of (depth - 4) / 3 layers; with `bottleneck` DenseNet-BC, half as many.

    Huang et al. 2017, section 3 and table 2. Input (3, 32, 32). Depth 40, growth 12: 1,019,722 parameters;
    264,812,928 multiply-adds; DenseNet-BC of depth 100, growth 12: 769,162 parameters.
    `width`: maps of the first convolution: 16, or twice the growth with `bottleneck`; the growth follows it.
    Special: 12 new maps a layer are enough where all old ones stay readable. Lesson 15.
    """
    layers_a_block, rest = divmod(whole(depth, "depth", least=7) - 4, 6 if bottleneck else 3)
    if rest or not layers_a_block:
        step = 6 if bottleneck else 3
        raise ParameterError(
            f"a depth of {step}n + 4",
            depth,
            where="densenet_cifar(depth=...)",
            remedy=f"take {max(step + 4, depth - rest)} or {depth - rest + step}",
        )
    stem = 2 * growth if bottleneck else 16
    return DenseNet(
        3 * (layers_a_block,),
        growth,
        stem,
        width=width,
        num_classes=num_classes,
        in_channels=in_channels,
        image_size=image_size,
        compression=0.5 if bottleneck else 1.0,
        bottleneck=bottleneck,
        dropout=dropout,
    )
