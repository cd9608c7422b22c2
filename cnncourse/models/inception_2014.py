"""GoogLeNet: the inception module, the network of its paper's table, and torchvision's form of it (lesson 13).

Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich: Going deeper with convolutions, CVPR 2015.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from cnncourse.models.base import check_images, create, scaled, whole

# Table 1, rows "inception": maps of 1x1; 3x3 reduce, 3x3; 5x5 reduce, 5x5; pool projection.
TABLE = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


class GoogLeNetOutputs(NamedTuple):
    """What GoogLeNet gives in training: the logits of the classifier at the end and of both auxiliary heads."""

    logits: torch.Tensor
    aux_logits2: torch.Tensor
    aux_logits1: torch.Tensor


def loss_with_heads(
    outputs: torch.Tensor | NamedTuple,
    labels: torch.Tensor,
    *,
    weight: float = 0.3,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross-entropy of the logits plus `weight` times that of each auxiliary head: what GoogLeNet's training minimises.

    `outputs`: what the network returns, in training or in evaluation mode (then there are no heads). Section 5.

    >>> head = torch.zeros(2, 10)  # knows nothing: ln 10 = 2.303 each
    >>> loss_with_heads(GoogLeNetOutputs(head, head, head), torch.tensor([3, 7]))
    tensor(3.6841)
    """
    logits, *heads = (
        (outputs,) if isinstance(outputs, torch.Tensor) else (o for o in outputs if o is not None)
    )
    loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    for head in heads:
        loss = loss + weight * F.cross_entropy(head, labels, label_smoothing=label_smoothing)
    return loss


def conv_relu(in_channels: int, channels: int, kernel: int, **options) -> nn.Sequential:
    """A convolution with bias that keeps the size at stride 1, and its ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, **options), nn.ReLU()
    )


class NaiveInception(nn.Module):
    """1x1, 3x3 and 5x5 convolutions and a pooling side by side, concatenated (figure 2a).

    The pooling passes all its channels on, so that the depth can only grow.
    (N, C, H, W) -> (N, n1 + n3 + n5 + C, H, W).

    >>> NaiveInception(256, 128, 192, 96)(torch.zeros(1, 256, 28, 28)).shape
    torch.Size([1, 672, 28, 28])
    """

    def __init__(self, in_channels: int, n1: int, n3: int, n5: int):
        super().__init__()
        self.branch1 = conv_relu(in_channels, n1, 1)
        self.branch2 = conv_relu(in_channels, n3, 3)
        self.branch3 = conv_relu(in_channels, n5, 5)
        self.branch4 = nn.MaxPool2d(3, stride=1, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat(
            [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1
        )


class Inception(nn.Module):
    """The inception module with 1x1 reductions before 3x3 and 5x5 and behind the pooling (figure 2b).

    (N, C, H, W) -> (N, n1 + n3 + n5 + pool, H, W).

    >>> Inception(256, 128, 64, 192, 64, 96, 64)(torch.zeros(1, 256, 28, 28)).shape
    torch.Size([1, 480, 28, 28])
    """

    def __init__(
        self, in_channels: int, n1: int, reduce3: int, n3: int, reduce5: int, n5: int, pool: int
    ):
        super().__init__()
        self.branch1 = conv_relu(in_channels, n1, 1)
        self.branch2 = nn.Sequential(conv_relu(in_channels, reduce3, 1), conv_relu(reduce3, n3, 3))
        self.branch3 = nn.Sequential(conv_relu(in_channels, reduce5, 1), conv_relu(reduce5, n5, 5))
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), conv_relu(in_channels, pool, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat(
            [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1
        )


class AuxiliaryHead(nn.Module):
    """A small classifier on the map in the middle of the network, for training only (section 5).

    Average pooling 5x5 at stride 3 (14 -> 4), 1x1 convolution, two linear layers: (N, C, 14, 14) -> (N, num_classes).
    Maps of another size are averaged to 4 x 4 as well.
    """

    def __init__(self, in_channels: int, maps: int, hidden: int, num_classes: int, dropout: float):
        super().__init__()
        self.pool = nn.AvgPool2d(5, stride=3)
        self.conv = conv_relu(in_channels, maps, 1)
        self.fc1, self.relu, self.dropout = (
            nn.Linear(maps * 16, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.fc2 = nn.Linear(hidden, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(x) if x.shape[2:] == (14, 14) else F.adaptive_avg_pool2d(x, 4)
        x = self.conv(x).flatten(1)
        return self.fc2(self.dropout(self.relu(self.fc1(x))))


class GoogLeNet2014(nn.Module):
    """The network of table 1: stem with local response normalisation, nine inception modules, two auxiliary heads.

    `separable_stem`: the first 7x7 as a depthwise one with 8 maps a colour and a 1x1 behind it, which has the 2.7 K
    weights and 34 M multiply-adds that the paper's table prints for a full one (9.4 K and 118 M).
    `width`: maps of the first convolution (64). `image_size`: up to 64 pixels the stem keeps the size.
    (N, in_channels, H, W) -> (N, num_classes); in training mode with heads: `GoogLeNetOutputs`.
    """

    def __init__(
        self,
        *,
        aux_logits: bool = True,
        separable_stem: bool = False,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: int = 64,
        image_size: int | None = None,
        dropout: float = 0.4,
        dropout_aux: float = 0.7,
    ):
        super().__init__()
        whole(num_classes, "num_classes"), whole(in_channels, "in_channels"), whole(width, "width")
        small = image_size is not None and whole(image_size, "image_size") <= 64
        self.in_channels, self.smallest, self.aux_logits = (
            in_channels,
            4 if small else 31,
            aux_logits,
        )
        kernel, stride = (3, 1) if small else (7, 2)

        def n(maps: int) -> int:
            return scaled(maps, width, 64)

        def pool() -> nn.Module:  # 3x3 at stride 2 everywhere, rounded up: 112, 56, 28, 14, 7
            return nn.MaxPool2d(3, stride=2, ceil_mode=True)

        if separable_stem:
            depthwise = nn.Conv2d(
                in_channels,
                8 * in_channels,
                kernel,
                stride,
                kernel // 2,
                groups=in_channels,
                bias=False,
            )
            self.conv1 = nn.Sequential(depthwise, conv_relu(8 * in_channels, width, 1))
        else:
            self.conv1 = conv_relu(in_channels, width, kernel, stride=stride)
        self.maxpool1 = nn.Identity() if small else pool()
        self.norm1 = nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)
        self.conv2 = conv_relu(width, n(64), 1)
        self.conv3 = conv_relu(n(64), n(192), 3)
        self.norm2 = nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)
        self.maxpool2 = nn.Identity() if small else pool()
        depth, depths = n(192), {}
        for row, maps in TABLE.items():
            if row in ("4a", "5a"):
                self.add_module(f"maxpool{int(row[0]) - 1}", pool())
            maps = tuple(map(n, maps))
            self.add_module(f"inception{row}", Inception(depth, *maps))
            depth = depths[row] = maps[0] + maps[2] + maps[4] + maps[5]
        if aux_logits:
            self.aux1 = AuxiliaryHead(depths["4a"], n(128), n(1024), num_classes, dropout_aux)
            self.aux2 = AuxiliaryHead(depths["4d"], n(128), n(1024), num_classes, dropout_aux)
        self.avgpool = nn.AdaptiveAvgPool2d(1)  # 7x7 at the paper's size
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(depth, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor | GoogLeNetOutputs:
        check_images(self, images)
        x = self.norm1(self.maxpool1(self.conv1(images)))
        x = self.maxpool2(self.norm2(self.conv3(self.conv2(x))))
        return with_heads(self, x)


def with_heads(network: nn.Module, x: torch.Tensor) -> torch.Tensor | GoogLeNetOutputs:
    """The nine modules, the heads on 4a and 4d while training, and the classifier: what both forms have in common."""
    heads = network.training and network.aux_logits
    x = network.maxpool3(network.inception3b(network.inception3a(x)))
    x = network.inception4a(x)
    aux1 = network.aux1(x) if heads else None
    x = network.inception4d(network.inception4c(network.inception4b(x)))
    aux2 = network.aux2(x) if heads else None
    x = network.maxpool4(network.inception4e(x))
    x = network.inception5b(network.inception5a(x))
    logits = network.fc(network.dropout(network.avgpool(x).flatten(1)))
    return GoogLeNetOutputs(logits, aux2, aux1) if heads else logits


class ConvNormReLU(nn.Module):
    """Convolution without bias, BatchNorm, ReLU; the arguments are those of `nn.Conv2d`."""

    def __init__(self, in_channels: int, channels: int, kernel: int | tuple[int, int], **options):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, bias=False, **options)
        self.bn = nn.BatchNorm2d(
            channels, eps=0.001
        )  # of the TensorFlow weights that torchvision converted
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.bn(self.conv(x)))


class NormalisedInception(nn.Module):
    """torchvision's inception module: BatchNorm in every branch, and 3x3 where the paper has 5x5.

    (N, C, H, W) -> (N, n1 + n3 + n5 + pool, H, W).
    """

    def __init__(
        self, in_channels: int, n1: int, reduce3: int, n3: int, reduce5: int, n5: int, pool: int
    ):
        super().__init__()
        self.branch1 = ConvNormReLU(in_channels, n1, 1)
        self.branch2 = nn.Sequential(
            ConvNormReLU(in_channels, reduce3, 1), ConvNormReLU(reduce3, n3, 3, padding=1)
        )
        self.branch3 = nn.Sequential(
            ConvNormReLU(in_channels, reduce5, 1), ConvNormReLU(reduce5, n5, 3, padding=1)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True), ConvNormReLU(in_channels, pool, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat(
            [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1
        )


class NormalisedHead(nn.Module):
    """torchvision's auxiliary head: (N, C, H, W) averaged to 4 x 4, then as in `AuxiliaryHead`."""

    def __init__(self, in_channels: int, maps: int, hidden: int, num_classes: int, dropout: float):
        super().__init__()
        self.conv = ConvNormReLU(in_channels, maps, 1)
        self.fc1, self.relu, self.dropout = (
            nn.Linear(maps * 16, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.fc2 = nn.Linear(hidden, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(F.adaptive_avg_pool2d(x, (4, 4))).flatten(1)
        return self.fc2(self.dropout(self.relu(self.fc1(x))))


class GoogLeNet(nn.Module):
    """torchvision's GoogLeNet: BatchNorm instead of local response normalisation, no 5x5 convolution.

    `aux_logits`: with the auxiliary heads. `transform_input`: the images are normalised as torchvision's other weights
    expect, and brought to the range (-1, 1) of these. `width`: maps of the first convolution (64).
    `image_size`: up to 64 pixels the stem keeps the size.
    (N, in_channels, H, W) -> (N, num_classes); in training mode with heads: `GoogLeNetOutputs`.
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        aux_logits: bool = True,
        transform_input: bool = False,
        in_channels: int = 3,
        width: int = 64,
        image_size: int | None = None,
        dropout: float = 0.2,
        dropout_aux: float = 0.7,
    ):
        super().__init__()
        whole(num_classes, "num_classes"), whole(in_channels, "in_channels"), whole(width, "width")
        small = image_size is not None and whole(image_size, "image_size") <= 64
        self.in_channels, self.smallest = in_channels, 2 if small else 15
        self.aux_logits, self.transform_input = aux_logits, transform_input
        kernel, stride = (3, 1) if small else (7, 2)

        def n(maps: int) -> int:
            return scaled(maps, width, 64)

        self.conv1 = ConvNormReLU(in_channels, width, kernel, stride=stride, padding=kernel // 2)
        self.maxpool1 = nn.Identity() if small else nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = ConvNormReLU(width, n(64), 1)
        self.conv3 = ConvNormReLU(n(64), n(192), 3, padding=1)
        self.maxpool2 = nn.Identity() if small else nn.MaxPool2d(3, stride=2, ceil_mode=True)
        depth, depths = n(192), {}
        for row, maps in TABLE.items():
            if row == "4a":
                self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
            if row == "5a":
                self.maxpool4 = nn.MaxPool2d(
                    2, stride=2, ceil_mode=True
                )  # 2x2 here, 3x3 in the paper
            maps = tuple(map(n, maps))
            self.add_module(f"inception{row}", NormalisedInception(depth, *maps))
            depth = depths[row] = maps[0] + maps[2] + maps[4] + maps[5]
        if aux_logits:
            self.aux1 = NormalisedHead(depths["4a"], n(128), n(1024), num_classes, dropout_aux)
            self.aux2 = NormalisedHead(depths["4d"], n(128), n(1024), num_classes, dropout_aux)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(depth, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.01, a=-2, b=2)

    def forward(self, images: torch.Tensor) -> torch.Tensor | GoogLeNetOutputs:
        check_images(self, images)
        x = rescaled(images) if self.transform_input else images
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        return with_heads(self, x)

    @staticmethod
    def published_options(options: dict) -> tuple[dict, tuple[str, ...]]:
        """The options the published weights were trained with, and the parts to drop again after loading."""
        drop = () if options.get("aux_logits", False) else ("aux1", "aux2")
        return {"transform_input": True, **options, "aux_logits": True}, drop


def rescaled(images: torch.Tensor) -> torch.Tensor:
    """Images normalised by ImageNet's mean and deviation, brought to (-1, 1): (N, 3, H, W) -> (N, 3, H, W)."""
    means, deviations = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    colours = [
        images[:, i : i + 1] * (deviations[i] / 0.5) + (means[i] - 0.5) / 0.5 for i in range(3)
    ]
    return torch.cat(colours, dim=1)


def googlenet_2014(**options) -> GoogLeNet2014:
    """GoogLeNet as its paper's table has it: 5x5 branches, local response normalisation, two auxiliary heads.

    Szegedy et al. 2015, table 1. Input (3, 224, 224); 13,378,280 parameters; 1,582,671,872 multiply-adds.
    Special: 22 layers with 7.0 M parameters (without the heads), 8.7 times fewer than AlexNet. Lesson 13.
    """
    return create(GoogLeNet2014, "googlenet_2014", options)


def googlenet(*, weights=None, progress: bool = True, **options) -> GoogLeNet:
    """torchvision's GoogLeNet: with BatchNorm and without 5x5 convolutions.

    After Szegedy et al. 2015 and Ioffe and Szegedy 2015. Input (3, 224, 224); 13,004,888 parameters;
    1,498,376,192 multiply-adds. With weights, the heads are dropped unless aux_logits=True, as in torchvision.
    Special: its weights come from TensorFlow's form, hence 3x3 in place of 5x5; 6.6 M parameters at evaluation.
    Lesson 13.
    """
    return create(GoogLeNet, "googlenet", options, weights=weights, progress=progress)
