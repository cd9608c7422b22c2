"""BN-Inception and Inception-v3: normalisation first, then factorised convolutions (lesson 13).

Ioffe, Szegedy: Batch normalization, ICML 2015. The same network is also called Inception-v2.
Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the inception architecture for computer vision, CVPR 2016.
The layers of Inception-v3 carry torchvision's names, so official weights load.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from cnncourse.models.base import check_images, create, scaled, whole
from cnncourse.models.inception_2014 import ConvNormReLU, rescaled

# Figure 5: maps of 1x1; 3x3 reduce, 3x3; double 3x3 reduce, double 3x3; pooling and its projection. Rows of stride 2
# have no 1x1 branch and pass the pooled maps on. The paper prints depths of 576 behind 4c and 4d and 1024 behind 4e,
# but its own columns, which are built here, add up to 608, 608 and 1056.
TABLE = {
    "3a": (64, 64, 64, 64, 96, "avg", 32),
    "3b": (64, 64, 96, 64, 96, "avg", 64),
    "3c": (0, 128, 160, 64, 96, "max", 0),
    "4a": (224, 64, 96, 96, 128, "avg", 128),
    "4b": (192, 96, 128, 96, 128, "avg", 128),
    "4c": (160, 128, 160, 128, 160, "avg", 128),
    "4d": (96, 128, 192, 160, 192, "avg", 128),
    "4e": (0, 128, 192, 192, 256, "max", 0),
    "5a": (352, 192, 320, 160, 224, "avg", 128),
    "5b": (352, 192, 320, 192, 224, "max", 128),
}


class DoubleInception(nn.Module):
    """The inception module of 2015: two 3x3 convolutions in place of a 5x5, 18 weights for 25, BatchNorm everywhere.

    A row of `TABLE`. Without 1x1 branch (`n1 = 0`) it halves height and width and passes the pooled maps on.
    (N, C, H, W) -> (N, n1 + n3 + double + projection, H, W), or (N, n3 + double + C, H / 2, W / 2).
    """

    def __init__(
        self,
        in_channels: int,
        n1: int,
        reduce3: int,
        n3: int,
        reduce_double: int,
        double: int,
        pool: str,
        projection: int,
    ):
        super().__init__()
        stride = 1 if n1 else 2
        self.branch1 = ConvNormReLU(in_channels, n1, 1) if n1 else None
        self.branch2 = nn.Sequential(
            ConvNormReLU(in_channels, reduce3, 1),
            ConvNormReLU(reduce3, n3, 3, stride=stride, padding=1),
        )
        self.branch3 = nn.Sequential(
            ConvNormReLU(in_channels, reduce_double, 1),
            ConvNormReLU(reduce_double, double, 3, padding=1),
            ConvNormReLU(double, double, 3, stride=stride, padding=1),
        )
        pooling = (nn.AvgPool2d if pool == "avg" else nn.MaxPool2d)(3, stride=stride, padding=1)
        self.branch4 = (
            nn.Sequential(pooling, ConvNormReLU(in_channels, projection, 1))
            if projection
            else pooling
        )
        self.channels = n1 + n3 + double + (projection or in_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branches = [self.branch1, self.branch2, self.branch3, self.branch4]
        return torch.cat([branch(x) for branch in branches if branch is not None], dim=1)


class BNInception(nn.Module):
    """The network of figure 5: ten modules, BatchNorm behind every convolution, no normalisation across maps.

    `separable_stem`: the first 7x7 as a depthwise one with 8 maps a colour and a 1x1 behind it, as in the paper.
    `width`: maps of the first convolution (64). `image_size`: up to 64 pixels the stem keeps the size.
    (N, in_channels, H, W) -> (N, num_classes).
    """

    def __init__(
        self,
        *,
        separable_stem: bool = True,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: int = 64,
        image_size: int | None = None,
    ):
        super().__init__()
        whole(num_classes, "num_classes"), whole(in_channels, "in_channels"), whole(width, "width")
        small = image_size is not None and whole(image_size, "image_size") <= 64
        self.in_channels, self.smallest = in_channels, 1
        kernel, stride = (3, 1) if small else (7, 2)

        def n(maps: int) -> int:
            return scaled(maps, width, 64) if maps else 0

        def pool() -> nn.Module:
            return nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)

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
            self.conv1 = nn.Sequential(depthwise, ConvNormReLU(8 * in_channels, width, 1))
        else:
            self.conv1 = ConvNormReLU(
                in_channels, width, kernel, stride=stride, padding=kernel // 2
            )
        self.maxpool1 = pool()
        self.conv2 = ConvNormReLU(width, n(64), 1)
        self.conv3 = ConvNormReLU(n(64), n(192), 3, padding=1)
        self.maxpool2 = pool()
        depth, modules = n(192), {}
        for row, (*maps, kind, projection) in TABLE.items():
            modules[f"inception{row}"] = DoubleInception(depth, *map(n, maps), kind, n(projection))
            depth = modules[f"inception{row}"].channels
        self.inceptions = nn.Sequential()
        for name, module in modules.items():
            self.inceptions.add_module(name, module)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(depth, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_images(self, images)
        x = self.maxpool1(self.conv1(images))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        return self.fc(self.avgpool(self.inceptions(x)).flatten(1))


class InceptionOutputs(NamedTuple):
    """What Inception-v3 gives in training: the logits of the classifier at the end and of the auxiliary head."""

    logits: torch.Tensor
    aux_logits: torch.Tensor | None


class InceptionA(nn.Module):
    """Figure 5 at 35 x 35: 1x1, 5x5, double 3x3 and pooling. (N, C, H, W) -> (N, 224 + pool, H, W) at full width."""

    def __init__(self, in_channels: int, pool: int, n):
        super().__init__()
        self.branch1x1 = ConvNormReLU(in_channels, n(64), 1)
        self.branch5x5_1 = ConvNormReLU(in_channels, n(48), 1)
        self.branch5x5_2 = ConvNormReLU(n(48), n(64), 5, padding=2)
        self.branch3x3dbl_1 = ConvNormReLU(in_channels, n(64), 1)
        self.branch3x3dbl_2 = ConvNormReLU(n(64), n(96), 3, padding=1)
        self.branch3x3dbl_3 = ConvNormReLU(n(96), n(96), 3, padding=1)
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.branch_pool = ConvNormReLU(in_channels, n(pool), 1)
        self.channels = 2 * n(64) + n(96) + n(pool)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(self.pool(x))], dim=1)


class InceptionB(nn.Module):
    """Figure 10, 35 to 17: convolution and pooling side by side, so that no information is squeezed first.

    (N, C, H, W) -> (N, C + 480, H / 2, W / 2) at full width. `padding` 1 for small images, 0 in the paper.
    """

    def __init__(self, in_channels: int, n, padding: int):
        super().__init__()
        self.branch3x3 = ConvNormReLU(in_channels, n(384), 3, stride=2, padding=padding)
        self.branch3x3dbl_1 = ConvNormReLU(in_channels, n(64), 1)
        self.branch3x3dbl_2 = ConvNormReLU(n(64), n(96), 3, padding=1)
        self.branch3x3dbl_3 = ConvNormReLU(n(96), n(96), 3, stride=2, padding=padding)
        self.pool = nn.MaxPool2d(3, stride=2, padding=padding)
        self.channels = n(384) + n(96) + in_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, self.pool(x)], dim=1)


class InceptionC(nn.Module):
    """Figure 6 at 17 x 17: 7x7 factorised into 1x7 and 7x1. (N, C, H, W) -> (N, 768, H, W) at full width."""

    def __init__(self, in_channels: int, inner: int, n):
        super().__init__()
        c, out = n(inner), n(192)
        row, column = {"kernel": (1, 7), "padding": (0, 3)}, {"kernel": (7, 1), "padding": (3, 0)}
        self.branch1x1 = ConvNormReLU(in_channels, out, 1)
        self.branch7x7_1 = ConvNormReLU(in_channels, c, 1)
        self.branch7x7_2 = ConvNormReLU(c, c, **row)
        self.branch7x7_3 = ConvNormReLU(c, out, **column)
        self.branch7x7dbl_1 = ConvNormReLU(in_channels, c, 1)
        self.branch7x7dbl_2 = ConvNormReLU(c, c, **column)
        self.branch7x7dbl_3 = ConvNormReLU(c, c, **row)
        self.branch7x7dbl_4 = ConvNormReLU(c, c, **column)
        self.branch7x7dbl_5 = ConvNormReLU(c, out, **row)
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.branch_pool = ConvNormReLU(in_channels, out, 1)
        self.channels = 4 * out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(self.pool(x))], dim=1)


class InceptionD(nn.Module):
    """17 to 8: like `InceptionB`, with a factorised 7x7 in one branch.

    (N, C, H, W) -> (N, C + 512, H / 2, W / 2) at full width.
    """

    def __init__(self, in_channels: int, n, padding: int):
        super().__init__()
        self.branch3x3_1 = ConvNormReLU(in_channels, n(192), 1)
        self.branch3x3_2 = ConvNormReLU(n(192), n(320), 3, stride=2, padding=padding)
        self.branch7x7x3_1 = ConvNormReLU(in_channels, n(192), 1)
        self.branch7x7x3_2 = ConvNormReLU(n(192), n(192), (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = ConvNormReLU(n(192), n(192), (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = ConvNormReLU(n(192), n(192), 3, stride=2, padding=padding)
        self.pool = nn.MaxPool2d(3, stride=2, padding=padding)
        self.channels = n(320) + n(192) + in_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, self.pool(x)], dim=1)


class InceptionE(nn.Module):
    """Figure 7 at 8 x 8: 1x3 and 3x1 side by side, to widen the last maps. (N, C, H, W) -> (N, 2048, H, W)."""

    def __init__(self, in_channels: int, n):
        super().__init__()
        row, column = {"kernel": (1, 3), "padding": (0, 1)}, {"kernel": (3, 1), "padding": (1, 0)}
        self.branch1x1 = ConvNormReLU(in_channels, n(320), 1)
        self.branch3x3_1 = ConvNormReLU(in_channels, n(384), 1)
        self.branch3x3_2a = ConvNormReLU(n(384), n(384), **row)
        self.branch3x3_2b = ConvNormReLU(n(384), n(384), **column)
        self.branch3x3dbl_1 = ConvNormReLU(in_channels, n(448), 1)
        self.branch3x3dbl_2 = ConvNormReLU(n(448), n(384), 3, padding=1)
        self.branch3x3dbl_3a = ConvNormReLU(n(384), n(384), **row)
        self.branch3x3dbl_3b = ConvNormReLU(n(384), n(384), **column)
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.branch_pool = ConvNormReLU(in_channels, n(192), 1)
        self.channels = n(320) + 4 * n(384) + n(192)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return torch.cat(
            [
                self.branch1x1(x),
                self.branch3x3_2a(three),
                self.branch3x3_2b(three),
                self.branch3x3dbl_3a(double),
                self.branch3x3dbl_3b(double),
                self.branch_pool(self.pool(x)),
            ],
            dim=1,
        )


class InceptionHead(nn.Module):
    """The auxiliary classifier on 17 x 17: average 5x5 at stride 3, 1x1, 5x5, linear. (N, C, 17, 17) -> (N, classes).

    For small images (`small`) the 5x5 is a 1x1 and there is no pooling.
    """

    def __init__(self, in_channels: int, num_classes: int, n, small: bool):
        super().__init__()
        self.pool = nn.Identity() if small else nn.AvgPool2d(5, stride=3)
        self.conv0 = ConvNormReLU(in_channels, n(128), 1)
        self.conv1 = ConvNormReLU(n(128), n(768), 1 if small else 5)
        self.conv1.stddev = 0.01
        self.fc = nn.Linear(n(768), num_classes)
        self.fc.stddev = 0.001

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(self.conv0(self.pool(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Inception3(nn.Module):
    """Inception-v3: a stem of small convolutions, eleven modules of five kinds, one auxiliary head.

    `aux_logits`: with the auxiliary head. `transform_input`: as in `GoogLeNet`. `width`: maps of the first convolution
    (32). `image_size`: 299 in the paper; up to 64 pixels the stem keeps the size and reductions are padded.
    (N, in_channels, H, W) -> (N, num_classes); in training mode with the head: `InceptionOutputs`.
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        aux_logits: bool = True,
        transform_input: bool = False,
        in_channels: int = 3,
        width: int = 32,
        image_size: int | None = None,
        dropout: float = 0.5,
    ):
        super().__init__()
        whole(num_classes, "num_classes"), whole(in_channels, "in_channels"), whole(width, "width")
        small = image_size is not None and whole(image_size, "image_size") <= 64
        self.in_channels, self.small = in_channels, small
        self.aux_logits, self.transform_input = aux_logits, transform_input
        pad = int(
            small
        )  # the paper's stem and reductions cut a border off; small images have none to spare

        def n(maps: int) -> int:
            return scaled(maps, width, 32)

        def pool() -> nn.Module:
            return nn.Identity() if small else nn.MaxPool2d(3, stride=2)

        self.Conv2d_1a_3x3 = ConvNormReLU(
            in_channels, width, 3, stride=1 if small else 2, padding=pad
        )
        self.Conv2d_2a_3x3 = ConvNormReLU(width, width, 3, padding=pad)
        self.Conv2d_2b_3x3 = ConvNormReLU(width, n(64), 3, padding=1)
        self.maxpool1 = pool()
        self.Conv2d_3b_1x1 = ConvNormReLU(n(64), n(80), 1)
        self.Conv2d_4a_3x3 = ConvNormReLU(n(80), n(192), 3, padding=pad)
        self.maxpool2 = pool()
        self.Mixed_5b = InceptionA(n(192), 32, n)
        self.Mixed_5c = InceptionA(self.Mixed_5b.channels, 64, n)
        self.Mixed_5d = InceptionA(self.Mixed_5c.channels, 64, n)
        self.Mixed_6a = InceptionB(self.Mixed_5d.channels, n, pad)
        self.Mixed_6b = InceptionC(self.Mixed_6a.channels, 128, n)
        self.Mixed_6c = InceptionC(self.Mixed_6b.channels, 160, n)
        self.Mixed_6d = InceptionC(self.Mixed_6c.channels, 160, n)
        self.Mixed_6e = InceptionC(self.Mixed_6d.channels, 192, n)
        if aux_logits:
            self.AuxLogits = InceptionHead(self.Mixed_6e.channels, num_classes, n, small)
        self.Mixed_7a = InceptionD(self.Mixed_6e.channels, n, pad)
        self.Mixed_7b = InceptionE(self.Mixed_7a.channels, n)
        self.Mixed_7c = InceptionE(self.Mixed_7b.channels, n)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(self.Mixed_7c.channels, num_classes)
        for module in self.modules():
            if isinstance(module, ConvNormReLU):
                nn.init.trunc_normal_(
                    module.conv.weight, std=getattr(module, "stddev", 0.1), a=-2, b=2
                )
            elif isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=getattr(module, "stddev", 0.1), a=-2, b=2)

    @property
    def smallest(self) -> int:
        """The smallest side of an image; while training the auxiliary head needs a map of 17 x 17."""
        heads = self.training and self.aux_logits
        return 1 if self.small else 299 if heads else 75

    def forward(self, images: torch.Tensor) -> torch.Tensor | InceptionOutputs:
        check_images(self, images)
        x = rescaled(images) if self.transform_input else images
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(self.maxpool1(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(self.maxpool2(x))))
        x = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))
        x = self.Mixed_6e(self.Mixed_6d(x))
        head = self.AuxLogits(x) if self.training and self.aux_logits else None
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        logits = self.fc(self.dropout(self.avgpool(x)).flatten(1))
        return InceptionOutputs(logits, head) if self.training and self.aux_logits else logits

    @staticmethod
    def published_options(options: dict) -> tuple[dict, tuple[str, ...]]:
        """The options the published weights were trained with, and the parts to drop again after loading."""
        drop = () if options.get("aux_logits", True) else ("AuxLogits",)
        return {"transform_input": True, **options, "aux_logits": True}, drop


def bn_inception(**options) -> BNInception:
    """BN-Inception: GoogLeNet with BatchNorm, two 3x3 for each 5x5, and a tenth module.

    Ioffe and Szegedy 2015, section 4.2 and figure 5. Input (3, 224, 224); 11,278,528 parameters;
    1,948,605,440 multiply-adds. Special: GoogLeNet's accuracy in 14 times fewer steps. Lesson 13.
    """
    return create(BNInception, "bn_inception", options)


def inception_v3(*, weights=None, progress: bool = True, **options) -> Inception3:
    """Inception-v3: 7x7 as 1x7 and 7x1, reductions without a bottleneck, trained with label smoothing of 0.1.

    Szegedy et al. 2016, section 6 and table 1. Input (3, 299, 299); 27,161,264 parameters;
    5,713,216,096 multiply-adds. Special: a 7x7 becomes two strips with 2/7 of its weights. Lesson 13.
    """
    return create(Inception3, "inception_v3", options, weights=weights, progress=progress)
