"""Inception-v4 without shortcuts, Inception-ResNet-v1 and -v2 with them (lesson 15).

Szegedy, Ioffe, Vanhoucke, Alemi: Inception-v4, Inception-ResNet and the impact of residual connections on learning,
AAAI 2017. All modules are written as branches: a list of convolutions one after the other, their outputs concatenated.
"""

from __future__ import annotations

import torch
from torch import nn

from cnncourse.errors import ParameterError
from cnncourse.models.base import check_images, create, one_of, scaled, whole
from cnncourse.models.inception_2014 import ConvNormReLU

KERNELS = {"1x1": (1, 1), "3x3": (3, 3), "1x3": (1, 3), "3x1": (3, 1), "1x7": (1, 7), "7x1": (7, 1)}


class Branches(nn.Module):
    """Branches side by side, concatenated: (N, C, H, W) -> (N, sum of their channels, H', W').

    A branch is a text of words as in the paper's figures: "1x1 64, 3x3 96" are two convolutions that keep the size;
    "3x3/2 96" strides, "3x3V 96" has no padding (the figures mark it V), "avg" and "max" are poolings of 3x3 at
    stride 1, "max/2" one at stride 2. `n` scales the paper's maps; `pad` keeps V and strided layers padded, for
    small images.
    """

    def __init__(self, in_channels: int, *branches: str, n, pad: bool = False):
        super().__init__()
        self.branches, self.channels = nn.ModuleList(), 0
        for words in branches:
            layers, channels = [], in_channels
            for word in words.split(", "):
                layers.append(layer(word, channels, n, pad))
                channels = (
                    layers[-1].conv.out_channels
                    if isinstance(layers[-1], ConvNormReLU)
                    else channels
                )
            self.branches.append(nn.Sequential(*layers))
            self.channels += channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def layer(word: str, channels: int, n, pad: bool) -> nn.Module:
    """The module of one word of a branch."""
    kind, *maps = word.split()
    if kind == "avg":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    if kind == "max/2":
        return nn.MaxPool2d(3, stride=2, padding=int(pad))
    kernel = KERNELS[kind[:3]]
    stride, valid = (2 if "/2" in kind else 1), "V" in kind and not pad
    padding = 0 if valid else (kernel[0] // 2, kernel[1] // 2)
    return ConvNormReLU(channels, n(int(maps[0])), kernel, stride=stride, padding=padding)


class ForkedBranch(nn.Module):
    """Convolutions in a row, then 1x3 and 3x1 side by side: the last module of Inception-v4 (figure 6)."""

    def __init__(self, in_channels: int, words: str, maps: int, n):
        super().__init__()
        self.trunk = Branches(in_channels, words, n=n)
        self.fork = Branches(self.trunk.channels, f"1x3 {maps}", f"3x1 {maps}", n=n)
        self.channels = self.fork.channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fork(self.trunk(x))


class InceptionV4C(nn.Module):
    """Inception-C of v4 (figure 6): (N, 1536, 8, 8) -> (N, 1536, 8, 8)."""

    def __init__(self, in_channels: int, n):
        super().__init__()
        self.plain = Branches(in_channels, "avg, 1x1 256", "1x1 256", n=n)
        self.fork1 = ForkedBranch(in_channels, "1x1 384", 256, n)
        self.fork2 = ForkedBranch(in_channels, "1x1 384, 1x3 448, 3x1 512", 256, n)
        self.channels = self.plain.channels + self.fork1.channels + self.fork2.channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.plain(x), self.fork1(x), self.fork2(x)], dim=1)


class ScaledResidual(nn.Module):
    """relu(x + scale * linear 1x1 of the branches): a block of Inception-ResNet (figures 10 to 19).

    The 1x1 brings the branches back to the channels of x; it has neither BatchNorm nor ReLU, and a bias.
    A scale of 0.1 to 0.3 keeps networks with more than 1000 maps from dying early (section 3.3).
    """

    def __init__(self, in_channels: int, *branches: str, n, scale: float):
        super().__init__()
        self.branches = Branches(in_channels, *branches, n=n)
        self.linear = nn.Conv2d(self.branches.channels, in_channels, 1)
        self.relu = nn.ReLU()
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(x + self.scale * self.linear(self.branches(x)))

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


def stem_v4(in_channels: int, n, small: bool) -> list[Branches]:
    """The stem of Inception-v4 and Inception-ResNet-v2 (figure 3): 299 -> 149, 147, 73, 71, 35 with 384 maps."""
    middle = ("1x1 64, 3x3V 96", "1x1 64, 7x1 64, 1x7 64, 3x3V 96")
    if small:
        parts = [("3x3 32, 3x3 32, 3x3 64",), ("3x3 64", "3x3 96"), middle, ("1x1 192", "3x3 192")]
    else:
        parts = [
            ("3x3/2V 32, 3x3V 32, 3x3 64",),
            ("max/2", "3x3/2V 96"),
            middle,
            ("3x3/2V 192", "max/2"),
        ]
    return chain(in_channels, parts, n, small)


def stem_v1(in_channels: int, n, small: bool) -> list[Branches]:
    """The stem of Inception-ResNet-v1 (figure 14): 299 -> 149, 147, 73, 71, 35 with 256 maps."""
    if small:
        words = "3x3 32, 3x3 32, 3x3 64, 1x1 80, 3x3 192, 3x3 256"
    else:
        words = "3x3/2V 32, 3x3V 32, 3x3 64, max/2, 1x1 80, 3x3V 192, 3x3/2V 256"
    return chain(in_channels, [(words,)], n, small)


def chain(channels: int, parts: list[tuple[str, ...]], n, small: bool) -> list[Branches]:
    """Parts one after the other, each reading what the one before gives."""
    modules = []
    for branches in parts:
        modules.append(Branches(channels, *branches, n=n, pad=small))
        channels = modules[-1].channels
    return modules


class InceptionNet(nn.Module):
    """Stem, three stages of modules with a reduction between them, average, dropout, one linear layer.

    `form`: "v4" (no shortcuts), "resnet_v1" or "resnet_v2". `scale`: of the residual branches, unused in v4.
    `blocks`: modules a stage, the paper's by default. `width`: maps of the first convolution (32).
    `image_size`: up to 64 pixels the stem keeps the size and reductions are padded.
    (N, in_channels, H, W) -> (N, num_classes).
    """

    def __init__(
        self,
        form: str,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: int = 32,
        image_size: int | None = None,
        blocks: tuple[int, int, int] | None = None,
        scale: float = 0.2,
        dropout: float = 0.2,
    ):
        super().__init__()
        whole(num_classes, "num_classes"), whole(in_channels, "in_channels"), whole(width, "width")
        small = image_size is not None and whole(image_size, "image_size") <= 64
        self.in_channels, self.smallest = in_channels, 1 if small else 75
        one_of(form, "form", tuple(REDUCTIONS))
        blocks = blocks or ((4, 7, 3) if form == "v4" else (5, 10, 5))
        if len(blocks) != 3:
            raise ParameterError(
                "three numbers of modules, one a stage",
                blocks,
                where="option blocks",
                remedy="write for example blocks=(1, 1, 1)",
            )

        def n(maps: int) -> int:
            return scaled(maps, width, 32)

        self.stem = nn.Sequential(
            *(stem_v1 if form == "resnet_v1" else stem_v4)(in_channels, n, small)
        )
        channels = self.stem[-1].channels
        reductions = REDUCTIONS[form]
        for stage, (letter, count) in enumerate(zip("abc", blocks, strict=True)):
            modules = [module(form, letter, channels, n, scale) for _ in range(count)]
            self.add_module(f"stage_{letter}", nn.Sequential(*modules))
            if stage < 2:
                reduction = Branches(channels, *reductions[stage], n=n, pad=small)
                self.add_module(f"reduction_{letter}", reduction)
                channels = reduction.channels
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_images(self, images)
        x = self.reduction_a(self.stage_a(self.stem(images)))
        x = self.reduction_b(self.stage_b(x))
        x = self.stage_c(x)
        return self.fc(self.dropout(self.avgpool(x).flatten(1)))


# Branches of the modules: figures 4 and 5 (v4), 10, 11 and 13 (ResNet-v1), 16, 17 and 19 (ResNet-v2).
MODULES = {
    ("v4", "a"): ("avg, 1x1 96", "1x1 96", "1x1 64, 3x3 96", "1x1 64, 3x3 96, 3x3 96"),
    ("v4", "b"): (
        "avg, 1x1 128",
        "1x1 384",
        "1x1 192, 1x7 224, 7x1 256",
        "1x1 192, 1x7 192, 7x1 224, 1x7 224, 7x1 256",
    ),
    ("resnet_v1", "a"): ("1x1 32", "1x1 32, 3x3 32", "1x1 32, 3x3 32, 3x3 32"),
    ("resnet_v1", "b"): ("1x1 128", "1x1 128, 1x7 128, 7x1 128"),
    ("resnet_v1", "c"): ("1x1 192", "1x1 192, 1x3 192, 3x1 192"),
    ("resnet_v2", "a"): ("1x1 32", "1x1 32, 3x3 32", "1x1 32, 3x3 48, 3x3 64"),
    ("resnet_v2", "b"): ("1x1 192", "1x1 128, 1x7 160, 7x1 192"),
    ("resnet_v2", "c"): ("1x1 192", "1x1 192, 1x3 224, 3x1 256"),
}

# Branches of both reductions: figure 7 with the numbers of table 1, and figures 8, 12 and 18.
REDUCTIONS = {
    "v4": (
        ("max/2", "3x3/2V 384", "1x1 192, 3x3 224, 3x3/2V 256"),
        ("max/2", "1x1 192, 3x3/2V 192", "1x1 256, 1x7 256, 7x1 320, 3x3/2V 320"),
    ),
    "resnet_v1": (
        ("max/2", "3x3/2V 384", "1x1 192, 3x3 192, 3x3/2V 256"),
        ("max/2", "1x1 256, 3x3/2V 384", "1x1 256, 3x3/2V 256", "1x1 256, 3x3 256, 3x3/2V 256"),
    ),
    "resnet_v2": (
        ("max/2", "3x3/2V 384", "1x1 256, 3x3 256, 3x3/2V 384"),
        ("max/2", "1x1 256, 3x3/2V 384", "1x1 256, 3x3/2V 288", "1x1 256, 3x3 288, 3x3/2V 320"),
    ),
}


def module(form: str, letter: str, channels: int, n, scale: float) -> nn.Module:
    """One module of stage `letter`: branches in v4, a scaled residual block in the other two."""
    if (form, letter) == ("v4", "c"):
        return InceptionV4C(channels, n)
    branches = MODULES[form, letter]
    return (
        Branches(channels, *branches, n=n)
        if form == "v4"
        else ScaledResidual(channels, *branches, n=n, scale=scale)
    )


def inception_v4(**options) -> InceptionNet:
    """Inception-v4: one uniform design from the stem on, without residual connections.

    Szegedy et al. 2017, section 3.1, figures 3 to 9. Input (3, 299, 299); 42,679,816 parameters;
    12,253,974,624 multiply-adds. Special: 384, 1024 and 1536 maps at 35, 17 and 8 pixels; no addition anywhere,
    although it is often called a mixture with ResNet. Lesson 15.
    """
    return create(InceptionNet, "inception_v4", options, form="v4")


def inception_resnet_v1(**options) -> InceptionNet:
    """Inception-ResNet-v1: cheap inception modules as residual branches, at the cost of Inception-v3.

    Szegedy et al. 2017, section 3.2, figures 10 to 15. Input (3, 299, 299); 22,756,328 parameters;
    6,206,361,696 multiply-adds. Special: trains much faster than Inception-v3, ends a little worse. Lesson 15.
    """
    return create(InceptionNet, "inception_resnet_v1", options, form="resnet_v1")


def inception_resnet_v2(**options) -> InceptionNet:
    """Inception-ResNet-v2: the stem of Inception-v4 and wider residual modules.

    Szegedy et al. 2017, section 3.2, figures 3 and 15 to 19. Input (3, 299, 299); 32,433,928 parameters;
    9,257,953,632 multiply-adds. Special: as good as Inception-v4 after fewer steps. The paper draws 1154 and 2048
    maps behind the linear layers; its reductions give 1152 and 2144, which are built here. Lesson 15.
    """
    return create(InceptionNet, "inception_resnet_v2", options, form="resnet_v2")
