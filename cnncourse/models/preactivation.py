"""Residual networks with BatchNorm and ReLU before the convolutions, narrow and deep or wide and shallow (lesson 15).

He, Zhang, Ren, Sun: Identity mappings in deep residual networks, ECCV 2016.
Zagoruyko, Komodakis: Wide residual networks, BMVC 2016.
"""

from __future__ import annotations

import torch
from torch import nn

from cnncourse.errors import ParameterError
from cnncourse.models.base import any_size, check_images, one_of, whole
from cnncourse.models.resnet import PaddedShortcut, convolution, initialise


class PreActivationBlock(nn.Module):
    """y = x + F(x), where F begins with BatchNorm and ReLU; nothing touches x on its way (figure 1b).

    `bottleneck`: 1x1, 3x3, 1x1 with a quarter of the channels inside, in place of two 3x3. `shortcut`: "A" pads new
    channels with zeros; "B" projects by 1x1 and then reads the first ReLU's output, as the authors' code does.
    `dropout`: between the convolutions (wide networks).
    (N, in_channels, H, W) -> (N, channels, H / stride, W / stride).
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        bottleneck: bool = False,
        shortcut: str = "A",
        dropout: float = 0.0,
    ):
        super().__init__()
        self.bn1, self.relu1 = nn.BatchNorm2d(in_channels), nn.ReLU()
        inner = channels // 4 if bottleneck else channels
        self.conv1 = convolution(
            in_channels, inner, 1 if bottleneck else 3, 1 if bottleneck else stride
        )
        self.bn2, self.relu2 = nn.BatchNorm2d(inner), nn.ReLU()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv2 = convolution(
            inner, inner if bottleneck else channels, 3, stride if bottleneck else 1
        )
        if bottleneck:
            self.bn3, self.relu3 = nn.BatchNorm2d(inner), nn.ReLU()
            self.conv3 = convolution(inner, channels, 1)
        self.bottleneck, self.projects = bottleneck, False
        if in_channels == channels and stride == 1:
            self.downsample = nn.Identity()
        elif shortcut == "A":
            self.downsample = PaddedShortcut(in_channels, channels, stride)
        else:
            self.downsample, self.projects = convolution(in_channels, channels, 1, stride), True

    def branch(self, activated: torch.Tensor) -> torch.Tensor:
        x = self.conv2(self.dropout(self.relu2(self.bn2(self.conv1(activated)))))
        return self.conv3(self.relu3(self.bn3(x))) if self.bottleneck else x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated = self.relu1(self.bn1(x))
        return self.downsample(activated if self.projects else x) + self.branch(activated)


class PreActivationNet(nn.Module):
    """3x3 convolution, three stages of pre-activation blocks, a last BatchNorm and ReLU, average, linear.

    `blocks`: a stage. `width`: maps of the first convolution (16). `widen`: the stages have widen x 16, 32 and 64.
    (N, in_channels, H, W) -> (N, num_classes).
    """

    def __init__(
        self,
        blocks: int,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        width: int = 16,
        widen: int = 1,
        bottleneck: bool = False,
        shortcut: str = "A",
        dropout: float = 0.0,
    ):
        super().__init__()
        whole(num_classes, "num_classes"), whole(width, "width"), whole(widen, "widen")
        one_of(shortcut, "shortcut", ("A", "B"))
        self.in_channels, self.smallest = whole(in_channels, "in_channels"), 1
        self.conv1 = convolution(in_channels, width, 3)
        channels = width
        for stage in range(3):
            layers, maps = [], width * widen * 2**stage * (4 if bottleneck else 1)
            for position in range(blocks):
                layers.append(
                    PreActivationBlock(
                        channels,
                        maps,
                        2 if stage and not position else 1,
                        bottleneck=bottleneck,
                        shortcut=shortcut,
                        dropout=dropout,
                    )
                )
                channels = maps
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.bn, self.relu = nn.BatchNorm2d(channels), nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        initialise(self)

    def stages(self, images: torch.Tensor) -> torch.Tensor:
        """What flows from the stem through all blocks, before the last BatchNorm: additions only."""
        return self.layer3(self.layer2(self.layer1(self.conv1(images))))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_images(self, images)
        return self.fc(self.avgpool(self.relu(self.bn(self.stages(images)))).flatten(1))


def blocks_for(depth: int, step: int, rest: int, where: str) -> int:
    """Blocks a stage of a network whose depth is step * blocks + rest."""
    blocks, excess = divmod(whole(depth, "depth", least=step + rest) - rest, step)
    if excess:
        raise ParameterError(
            f"a depth of {step}n + {rest}",
            depth,
            where=f"{where}(depth=...)",
            remedy=f"take {depth - excess} or {depth - excess + step}",
        )
    return blocks


def preact_resnet_cifar(
    depth: int = 110,
    *,
    bottleneck: bool = False,
    num_classes: int = 10,
    in_channels: int = 3,
    width: int = 16,
    shortcut: str = "A",
    image_size: int | None = None,
) -> PreActivationNet:
    """The pre-activation network of `depth` = 6n + 2 layers, or 9n + 2 with `bottleneck`, for CIFAR-10.

    He et al. 2016, section 4. Input (3, 32, 32). Depth 110: 1,727,962 parameters, those of ResNet-110;
    252,887,680 multiply-adds. Special: the shortcut is free from stem to end, and 1001 layers train. Lesson 15.
    """
    any_size(image_size)
    step = 9 if bottleneck else 6
    blocks = blocks_for(depth, step, 2, "preact_resnet_cifar")
    return PreActivationNet(
        blocks,
        bottleneck=bottleneck,
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
        shortcut=shortcut,
    )


def wide_resnet_cifar(
    depth: int = 28,
    widen: int = 10,
    *,
    dropout: float = 0.0,
    num_classes: int = 10,
    in_channels: int = 3,
    width: int = 16,
    image_size: int | None = None,
) -> PreActivationNet:
    """WRN-depth-widen: a pre-activation network of 6n + 4 layers whose stages are `widen` times as wide.

    Zagoruyko and Komodakis 2016, section 3. Input (3, 32, 32). WRN-28-10: 36,479,194 parameters;
    5,243,328,768 multiply-adds; WRN-16-4: 2,748,890; WRN-40-4: 8,949,210 parameters.
    `dropout`: between the convolutions of a block. Special: 28 layers beat 1001 thin ones, and train faster. Lesson 15.
    """
    any_size(image_size)
    blocks = blocks_for(depth, 6, 4, "wide_resnet_cifar")
    return PreActivationNet(
        blocks,
        widen=widen,
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
        shortcut="B",
        dropout=dropout,
    )
