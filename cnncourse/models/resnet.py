"""Residual networks for ImageNet and CIFAR-10, and their plain twins without shortcuts (lesson 14).

He, Zhang, Ren, Sun: Deep residual learning for image recognition, CVPR 2016.
The layers carry torchvision's names, so official weights load.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from cnncourse.errors import ParameterError
from cnncourse.models.base import any_size, check_images, create, one_of, whole


def convolution(
    in_channels: int, channels: int, kernel: int, stride: int = 1, *, bias: bool = False
) -> nn.Conv2d:
    """A convolution that keeps height and width at stride 1; BatchNorm behind it makes a bias superfluous."""
    return nn.Conv2d(in_channels, channels, kernel, stride, padding=kernel // 2, bias=bias)


class PaddedShortcut(nn.Module):
    """Option A of section 3.3: every `stride`-th pixel, new channels filled with zeros; no parameters.

    (N, in_channels, H, W) -> (N, channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.new_channels, self.stride = channels - in_channels, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.new_channels))  # pads from the last axis: W, H, then C

    def extra_repr(self) -> str:
        return f"new_channels={self.new_channels}, stride={self.stride}"


def shortcut_path(
    in_channels: int, channels: int, stride: int, option: str, batch_norm: bool
) -> nn.Module:
    """What lies on the shortcut: nothing where shapes agree (A, B), else zero-padding (A) or a projection (B, C)."""
    if in_channels == channels and stride == 1 and option != "C":
        return nn.Identity()
    if option == "A":
        return PaddedShortcut(in_channels, channels, stride)
    projection = convolution(in_channels, channels, 1, stride, bias=not batch_norm)
    return nn.Sequential(projection, *[nn.BatchNorm2d(channels)] * batch_norm)


class Block(nn.Module):
    """y = relu(F(x) + shortcut(x)), or relu(F(x)) in a plain network.

    A subclass defines F as the method `branch` and has the layers `relu` and, if residual, `downsample`.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f = self.branch(x)
        return self.relu(f + self.downsample(x) if self.residual else f)


def normalisation(channels: int, batch_norm: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if batch_norm else nn.Identity()


class BasicBlock(Block):
    """Two 3x3 convolutions and a shortcut (figure 2, figure 5 left).

    (N, in_channels, H, W) -> (N, channels, H / stride, W / stride). It strides in its first 3x3; it has no 1x1.

    >>> BasicBlock(64, 128, stride=2)(torch.zeros(1, 64, 8, 8)).shape
    torch.Size([1, 128, 4, 4])
    """

    expansion = 1  # channels out / channels inside

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        widen: int = 1,
        stride_at: str = "3x3",
        shortcut: str = "B",
        residual: bool = True,
        batch_norm: bool = True,
    ):
        super().__init__()
        if stride_at != "3x3":
            raise ParameterError(
                "stride_at='3x3' in a network without 1x1 layers",
                stride_at,
                where="option stride_at",
                remedy="leave it out, or take a network of bottlenecks such as resnet50",
            )
        inner = widen * channels
        self.conv1 = convolution(in_channels, inner, 3, stride, bias=not batch_norm)
        self.bn1 = normalisation(inner, batch_norm)
        self.relu1 = nn.ReLU()
        self.conv2 = convolution(inner, channels, 3, bias=not batch_norm)
        self.bn2 = normalisation(channels, batch_norm)
        self.relu = nn.ReLU()
        self.residual = residual
        self.downsample = (
            shortcut_path(in_channels, channels, stride, shortcut, batch_norm) if residual else None
        )

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))


class Bottleneck(Block):
    """1x1 to a quarter of the channels, 3x3 there, 1x1 back, and a shortcut (figure 5 right).

    (N, in_channels, H, W) -> (N, 4 * channels, H / stride, W / stride). `widen` multiplies the inner channels.
    The paper strides in the first 1x1 (`stride_at="1x1"`), torchvision in the 3x3, which sees every pixel.

    >>> sum(p.numel() for n, p in Bottleneck(256, 64).named_parameters() if "conv" in n)
    69632
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        widen: int = 1,
        stride_at: str = "3x3",
        shortcut: str = "B",
        residual: bool = True,
        batch_norm: bool = True,
    ):
        super().__init__()
        inner = widen * channels
        stride_1x1, stride_3x3 = (
            (stride, 1) if one_of(stride_at, "stride_at", ("1x1", "3x3")) == "1x1" else (1, stride)
        )
        self.conv1 = convolution(in_channels, inner, 1, stride_1x1, bias=not batch_norm)
        self.bn1 = normalisation(inner, batch_norm)
        self.relu1 = nn.ReLU()
        self.conv2 = convolution(inner, inner, 3, stride_3x3, bias=not batch_norm)
        self.bn2 = normalisation(inner, batch_norm)
        self.relu2 = nn.ReLU()
        self.conv3 = convolution(inner, 4 * channels, 1, bias=not batch_norm)
        self.bn3 = normalisation(4 * channels, batch_norm)
        self.relu = nn.ReLU()
        self.residual = residual
        self.downsample = (
            shortcut_path(in_channels, 4 * channels, stride, shortcut, batch_norm)
            if residual
            else None
        )

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))


class ResNet(nn.Module):
    """A stem, stages of residual blocks with doubling channels, an average over all pixels, one linear layer.

    `layers`: blocks of each stage. `width`: channels of the first convolution and of the first stage.
    `image_size`: for images of up to 64 pixels the stem keeps their size (3x3 convolution, no pooling).
    `residual=False` gives the plain twin; `shortcut`: "A" zero-padding, "B" projection where shapes change,
    "C" projection everywhere. `zero_init_residual` starts every block as the identity. `widen` multiplies the
    channels inside the blocks; `stride_at` says which layer of a bottleneck strides, "3x3" or the paper's "1x1".
    (N, in_channels, H, W) -> (N, num_classes).
    """

    def __init__(
        self,
        block: type[Block],
        layers: tuple[int, ...],
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: int = 64,
        image_size: int | None = None,
        residual: bool = True,
        shortcut: str = "B",
        batch_norm: bool = True,
        zero_init_residual: bool = False,
        widen: int = 1,
        stride_at: str = "3x3",
    ):
        super().__init__()
        whole(num_classes, "num_classes"), whole(in_channels, "in_channels"), whole(width, "width")
        one_of(shortcut, "shortcut", ("A", "B", "C"))
        small = image_size is not None and whole(image_size, "image_size") <= 64
        self.in_channels, self.smallest = in_channels, 1  # every window of the network is padded
        self.conv1 = convolution(
            in_channels, width, 3 if small else 7, 1 if small else 2, bias=not batch_norm
        )
        self.bn1 = normalisation(width, batch_norm)
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        channels_in = width
        for stage, count in enumerate(layers):
            channels, blocks = width * 2**stage, []
            for position in range(count):
                stride = 2 if stage > 0 and position == 0 else 1
                blocks.append(
                    block(
                        channels_in,
                        channels,
                        stride,
                        widen=widen,
                        stride_at=stride_at,
                        shortcut=shortcut,
                        residual=residual,
                        batch_norm=batch_norm,
                    )
                )
                channels_in = channels * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.stages = [f"layer{stage + 1}" for stage in range(len(layers))]
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels_in, num_classes)
        initialise(self, zero_init_residual=zero_init_residual)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_images(self, images)
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        return self.fc(self.avgpool(x).flatten(1))


def initialise(network: nn.Module, *, zero_init_residual: bool = False) -> None:
    """He's initialisation of every convolution; biases 0. With `zero_init_residual` every F starts as 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if zero_init_residual and isinstance(module, Block):
            last = [layer for name, layer in module.named_children() if name.startswith("bn")][-1]
            if isinstance(last, nn.Identity):
                raise ParameterError(
                    "batch_norm=True, whose last weight is set to 0",
                    False,
                    where="option batch_norm",
                    remedy="leave zero_init_residual out, or keep BatchNorm",
                )
            nn.init.zeros_(last.weight)


def resnet18(*, weights=None, progress: bool = True, **options) -> ResNet:
    """ResNet-18: 8 blocks of two 3x3 convolutions.

    He et al. 2016, table 1. Input (3, 224, 224); 11,689,512 parameters; 1,814,073,344 multiply-adds.
    Special: the shallow form, in which the shortcut changes speed of convergence more than accuracy. Lesson 14.
    """
    return create(
        ResNet,
        "resnet18",
        options,
        weights=weights,
        progress=progress,
        block=BasicBlock,
        layers=(2, 2, 2, 2),
    )


def resnet34(*, weights=None, progress: bool = True, **options) -> ResNet:
    """ResNet-34: 16 blocks of two 3x3 convolutions.

    He et al. 2016, table 1 and figure 3. Input (3, 224, 224); 21,797,672 parameters; 3,663,761,408 multiply-adds.
    Special: deeper than VGG-19 with a fifth of its multiply-adds, and better than its plain twin. Lesson 14.
    """
    return create(
        ResNet,
        "resnet34",
        options,
        weights=weights,
        progress=progress,
        block=BasicBlock,
        layers=(3, 4, 6, 3),
    )


def resnet50(*, weights=None, progress: bool = True, **options) -> ResNet:
    """ResNet-50: ResNet-34 with its blocks of two layers replaced by bottlenecks of three.

    He et al. 2016, table 1. Input (3, 224, 224); 25,557,032 parameters; 4,089,184,256 multiply-adds.
    Special: the 1x1 layers make 50 layers as cheap as 34; `stride_at="1x1"` is the paper's own form. Lesson 14.
    """
    return create(
        ResNet,
        "resnet50",
        options,
        weights=weights,
        progress=progress,
        block=Bottleneck,
        layers=(3, 4, 6, 3),
    )


def resnet101(*, weights=None, progress: bool = True, **options) -> ResNet:
    """ResNet-101: 23 bottlenecks in the third stage.

    He et al. 2016, table 1. Input (3, 224, 224); 44,549,160 parameters; 7,801,405,440 multiply-adds.
    Special: all added depth stands at 14 x 14 pixels. Lesson 14.
    """
    return create(
        ResNet,
        "resnet101",
        options,
        weights=weights,
        progress=progress,
        block=Bottleneck,
        layers=(3, 4, 23, 3),
    )


def resnet152(*, weights=None, progress: bool = True, **options) -> ResNet:
    """ResNet-152: 50 bottlenecks, the deepest network of the paper on ImageNet.

    He et al. 2016, table 1. Input (3, 224, 224); 60,192,808 parameters; 11,513,626,624 multiply-adds.
    Special: six of these and their kin won ILSVRC 2015, still with fewer multiply-adds than VGG-16. Lesson 14.
    """
    return create(
        ResNet,
        "resnet152",
        options,
        weights=weights,
        progress=progress,
        block=Bottleneck,
        layers=(3, 8, 36, 3),
    )


def wide_resnet50_2(*, weights=None, progress: bool = True, **options) -> ResNet:
    """WRN-50-2: ResNet-50 whose 3x3 convolutions have twice the channels.

    Zagoruyko and Komodakis, Wide residual networks, BMVC 2016, section 3.4.
    Input (3, 224, 224); 68,883,240 parameters; 11,398,021,120 multiply-adds.
    Special: width in place of depth: better than ResNet-152 in fewer, larger layers. Lesson 15.
    """
    return create(
        ResNet,
        "wide_resnet50_2",
        options,
        weights=weights,
        progress=progress,
        block=Bottleneck,
        layers=(3, 4, 6, 3),
        widen=2,
    )


def wide_resnet101_2(*, weights=None, progress: bool = True, **options) -> ResNet:
    """WRN-101-2: ResNet-101 whose 3x3 convolutions have twice the channels.

    After Zagoruyko and Komodakis 2016, section 3.4.
    Input (3, 224, 224); 126,886,696 parameters; 22,753,050,624 multiply-adds.
    Special: the deeper of torchvision's two wide networks. Lesson 15.
    """
    return create(
        ResNet,
        "wide_resnet101_2",
        options,
        weights=weights,
        progress=progress,
        block=Bottleneck,
        layers=(3, 4, 23, 3),
        widen=2,
    )


def plain18(**options) -> ResNet:
    """Plain-18: ResNet-18 without shortcuts.

    He et al. 2016, section 3.3 and table 2. Input (3, 224, 224); 11,515,688 parameters; 1,794,805,760 multiply-adds.
    Special: as accurate as ResNet-18 on ImageNet; the degradation begins deeper. Lesson 14.
    """
    return create(ResNet, "plain18", options, block=BasicBlock, layers=(2, 2, 2, 2), residual=False)


def plain34(**options) -> ResNet:
    """Plain-34: ResNet-34 without shortcuts.

    He et al. 2016, figure 3 middle. Input (3, 224, 224); 21,623,848 parameters; 3,644,493,824 multiply-adds.
    Special: its training error is higher than that of plain-18, the degradation the paper sets out from. Lesson 14.
    """
    return create(ResNet, "plain34", options, block=BasicBlock, layers=(3, 4, 6, 3), residual=False)


def resnet_cifar(
    depth: int = 20,
    *,
    residual: bool = True,
    num_classes: int = 10,
    in_channels: int = 3,
    width: int = 16,
    shortcut: str = "A",
    batch_norm: bool = True,
    zero_init_residual: bool = False,
    block: type[BasicBlock] = BasicBlock,
    image_size: int | None = None,
) -> ResNet:
    """The CIFAR-10 network of `depth` = 6n + 2 layers: three stages of n blocks with 16, 32 and 64 channels.

    He et al. 2016, section 4.2. Input (3, 32, 32); smaller images work too.
    Parameters: 20: 269,722; 32: 464,154; 44: 658,586; 56: 853,018; 110: 1,727,962; 1202: 19,421,274;
    exactly as many in the plain twin (`residual=False`), because shortcuts of option A have none.
    Multiply-adds: 20: 40,551,040; 56: 125,485,696; 110: 252,887,680.
    `batch_norm=False` gives convolutions with biases and no normalisation; `image_size` changes no layer.
    Special: a plain twin with the same parameters, in which only the additions are missing. Lesson 14.

    >>> resnet_cifar(20)(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """
    any_size(image_size)
    if (whole(depth, "depth", least=8) - 2) % 6:
        below = depth - (depth - 2) % 6
        raise ParameterError(
            "a depth of 6n + 2",
            depth,
            where="resnet_cifar(depth=...)",
            remedy=f"take {below} or {below + 6}",
        )
    return ResNet(
        block,
        3 * ((depth - 2) // 6,),
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
        image_size=32,
        residual=residual,
        shortcut=shortcut,
        batch_norm=batch_norm,
        zero_init_residual=zero_init_residual,
    )
