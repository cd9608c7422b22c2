"""LeNet-5 as it was in 1998, and as it is built today (lesson 11).

LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, Proceedings of the IEEE 1998.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from cnncourse.errors import ParameterError
from cnncourse.models.base import check_images, create, scaled, whole

# Table 1: the maps of S2 that each of the 16 maps of C3 reads.
SOURCES = (
    (0, 1, 2),
    (1, 2, 3),
    (2, 3, 4),
    (3, 4, 5),
    (0, 4, 5),
    (0, 1, 5),
    (0, 1, 2, 3),
    (1, 2, 3, 4),
    (2, 3, 4, 5),
    (0, 3, 4, 5),
    (0, 1, 4, 5),
    (0, 1, 2, 5),
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)

# The targets of the 84 units of F6: digits as 7 x 12 pixels, drawn anew after figure 3.
DIGITS = """
..###.. ...#... .#####. .#####. .....#. ####### ..####. ####### .#####. .#####.
.#...#. ..##... #.....# #.....# ....##. #...... .#..... ......# #.....# #.....#
#.....# .#.#... ......# ......# ...#.#. #...... #...... .....#. #.....# #.....#
#.....# ...#... ......# ......# ..#..#. #...... #...... .....#. #.....# #.....#
#.....# ...#... .....#. ......# .#...#. #.####. #...... ....#.. .#...#. #.....#
#.....# ...#... ....#.. ..####. #....#. ##....# #.####. ....#.. ..###.. .#...##
#.....# ...#... ...#... ......# #....#. ......# ##....# ...#... .#...#. ..###.#
#.....# ...#... ..#.... ......# ####### ......# #.....# ...#... #.....# ......#
#.....# ...#... .#..... ......# .....#. ......# #.....# ..#.... #.....# ......#
#.....# ...#... #...... ......# .....#. ......# #.....# ..#.... #.....# ......#
.#...#. ...#... #...... #.....# .....#. #.....# #.....# .#..... #.....# .....#.
..###.. .#####. ####### .#####. .....#. .#####. .#####. .#..... .#####. .####..
"""


class ScaledTanh(nn.Module):
    """1.7159 tanh(2x / 3), which maps 1 to 1 and -1 to -1 and is steepest at 0 (appendix A)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1.7159 * torch.tanh(2 / 3 * x)


class Subsampling(nn.Module):
    """The sum over each 2 x 2 window, times one weight a map, plus one bias a map: (N, C, H, W) -> (N, C, H/2, W/2)."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(
            torch.full((channels, 1, 1), 0.25)
        )  # at first: the mean of the window
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * (4 * F.avg_pool2d(x, 2)) + self.bias


class SparseConvolution(nn.Module):
    """5 x 5 convolutions that each read only some of the maps: C3 of LeNet-5.

    `sources[i]`: the input maps of output map i. (N, C, H, W) -> (N, len(sources), H - 4, W - 4) without padding.
    """

    def __init__(self, sources: tuple[tuple[int, ...], ...], padding: int = 0):
        super().__init__()
        self.sources = sources
        self.maps = nn.ModuleList(nn.Conv2d(len(read), 1, 5, padding=padding) for read in sources)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat(
            [conv(x[:, read]) for conv, read in zip(self.maps, self.sources, strict=True)], dim=1
        )


class RadialBasis(nn.Module):
    """Minus the squared distance from the fixed code of each class: (N, 84) -> (N, num_classes)."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.register_buffer(
            "codes", digit_codes() if num_classes == 10 else random_codes(num_classes)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -(x[:, None, :] - self.codes).square().sum(dim=2)


def digit_codes() -> torch.Tensor:
    """The codes of the ten digits, (10, 84): +1 ink, -1 paper; `.view(10, 12, 7)` shows the pictures."""
    rows = [line.split() for line in DIGITS.split("\n") if line]
    ink = [[pixel == "#" for row in rows for pixel in row[digit]] for digit in range(10)]
    return 2 * torch.tensor(ink, dtype=torch.get_default_dtype()) - 1


def random_codes(num_classes: int) -> torch.Tensor:
    """Codes of -1 and +1 drawn by chance, which section 2.3 names as the alternative; the same in every run."""
    generator = torch.Generator("cpu").manual_seed(0)
    bits = torch.randint(2, (num_classes, 84), generator=generator, device="cpu")
    return (2 * bits - 1).to(dtype=torch.get_default_dtype(), device=torch.get_default_device())


class LeNet5(nn.Module):
    """C1-S2-C3-S4-C5-F6-output of 1998; C5 and C1 scale with `width` (a multiple of 6), F6 has always 7 x 12 units.

    `image_size`: 32 as in the paper; smaller images are padded by 2 before a convolution that would find its map
    smaller than the paper's. (N, in_channels, image_size, image_size) -> (N, num_classes).
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        in_channels: int = 1,
        width: int = 6,
        image_size: int | None = None,
    ):
        super().__init__()
        whole(num_classes, "num_classes")
        if whole(width, "width", least=6) % 6:
            raise ParameterError(
                "a multiple of 6, because table 1 of the paper joins 6 maps",
                width,
                where="option width",
                remedy=f"take {width - width % 6} or {width + 6 - width % 6}",
            )
        self.in_channels, self.side = (
            whole(in_channels, "in_channels"),
            32 if image_size is None else image_size,
        )
        self.smallest = whole(self.side, "image_size", least=4)
        copies = width // 6
        sources = tuple(
            tuple(copies * map_ + i for map_ in read for i in range(copies))
            for read in SOURCES
            for _ in range(copies)
        )
        pads, side = paddings(self.side)
        self.c1 = nn.Conv2d(in_channels, width, 5, padding=pads[0])
        self.tanh1 = ScaledTanh()
        self.s2 = Subsampling(width)
        self.tanh2 = ScaledTanh()
        self.c3 = SparseConvolution(sources, padding=pads[1])
        self.tanh3 = ScaledTanh()
        self.s4 = Subsampling(len(sources))
        self.tanh4 = ScaledTanh()
        self.c5 = nn.Conv2d(len(sources), 120 * copies, side)
        self.tanh5 = ScaledTanh()
        self.flatten = nn.Flatten()
        self.f6 = nn.Linear(120 * copies, 84)
        self.tanh6 = ScaledTanh()
        self.output = RadialBasis(num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                fan_in = module.weight[0].numel()
                nn.init.uniform_(
                    module.weight, -2.4 / fan_in, 2.4 / fan_in
                )  # section 2.2 and appendix A

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_images(self, images)
        x = self.tanh2(self.s2(self.tanh1(self.c1(images))))
        x = self.tanh4(self.s4(self.tanh3(self.c3(x))))
        x = self.flatten(self.tanh5(self.c5(x)))
        return self.output(self.tanh6(self.f6(x)))


class ModernLeNet5(nn.Module):
    """LeNet-5 with full connections, ReLU, max pooling and a linear output; all widths follow `width` (6).

    `image_size`: as in `LeNet5`. (N, in_channels, image_size, image_size) -> (N, num_classes).
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        in_channels: int = 1,
        width: int = 6,
        image_size: int | None = None,
    ):
        super().__init__()
        whole(num_classes, "num_classes"), whole(width, "width")
        self.in_channels, self.side = (
            whole(in_channels, "in_channels"),
            32 if image_size is None else image_size,
        )
        self.smallest = whole(self.side, "image_size", least=4)
        pads, side = paddings(self.side)
        maps, hidden1, hidden2 = (scaled(n, width, 6) for n in (16, 120, 84))
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, width, 5, padding=pads[0]),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, maps, 5, padding=pads[1]),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(maps * side**2, hidden1),
            nn.ReLU(),
            nn.Linear(hidden1, hidden2),
            nn.ReLU(),
            nn.Linear(hidden2, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_images(self, images)
        return self.classifier(self.features(images))


def paddings(side: int) -> tuple[tuple[int, int], int]:
    """The paddings of both convolutions for images of `side` pixels, and the side of the map behind both poolings.

    >>> paddings(32), paddings(28), paddings(8)
    (((0, 0), 5), ((2, 0), 5), ((2, 2), 2))
    """
    pads = []
    for paper in (32, 14):  # the side of the map that the paper's two convolutions read
        pads.append(0 if side >= paper else 2)
        side = (side - 4 + 2 * pads[-1]) // 2
    return tuple(pads), side


def lenet5(**options) -> LeNet5:
    """LeNet-5 of 1998: sparse C3, subsampling with weights, scaled tanh, distances from drawn digits as output.

    LeCun et al. 1998, section 2.2 and table 1. Input (1, 32, 32); 60,000 parameters; 325,680 multiply-adds.
    Special: each map of C3 reads a different choice of maps, which breaks the symmetry between them. Lesson 11.
    """
    return create(LeNet5, "lenet5", options)


def lenet5_modern(**options) -> ModernLeNet5:
    """LeNet-5 with today's parts: full connections, ReLU, max pooling, linear output.

    After LeCun et al. 1998, figure 2. Input (1, 32, 32); 61,706 parameters; 416,520 multiply-adds.
    Special: the smallest network of the course that still has every part of AlexNet. Lesson 11.
    """
    return create(ModernLeNet5, "lenet5_modern", options)
