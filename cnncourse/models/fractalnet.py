"""FractalNet: very deep paths beside shallow ones, without residual connections (lesson 15).

Larsson, Maire, Shakhnarovich: FractalNet: ultra-deep neural networks without residuals, ICLR 2017.
"""

from __future__ import annotations

import torch
from torch import nn

from cnncourse.errors import ParameterError
from cnncourse.models.base import check_images, create, one_of, scaled, whole

WIDTHS, DROPOUTS = (64, 128, 256, 512, 512), (0.0, 0.1, 0.2, 0.3, 0.4)  # a block, section 4.1


def conv_norm_relu(in_channels: int, channels: int, dropout: float) -> nn.Sequential:
    """3x3 convolution, dropout where there is any, BatchNorm, ReLU; the size stays."""
    drop = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
        *drop,
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


class FractalBlock(nn.Module):
    """The fractal of C columns: f_1 = conv, f_(C+1)(z) = join of f_C(f_C(z)) and conv(z); a join is a mean.

    Column c (from 0) has 2^c convolutions, so the longest path has 2^(C-1) and the block 2^C - 1.
    (N, in_channels, H, W) -> (N, channels, H, W).
    """

    def __init__(self, columns: int, in_channels: int, channels: int, dropout: float = 0.0):
        super().__init__()
        self.columns = nn.ModuleList(
            nn.ModuleList(
                conv_norm_relu(in_channels if i == 0 else channels, channels, dropout)
                for i in range(2**c)
            )
            for c in range(columns)
        )

    def forward(
        self, x: torch.Tensor, *, column: int | None = None, drop: float = 0.0
    ) -> torch.Tensor:
        """With `column` only that one is run; with `drop` each input of a join is left out with that probability."""
        if column is not None:
            for conv in self.columns[column]:
                x = conv(x)
            return x
        deepest = len(self.columns) - 1
        state = [x] * len(self.columns)  # what flows down each column
        for row in range(1, 2**deepest + 1):
            ending = [
                c for c in range(deepest + 1) if row % 2 ** (deepest - c) == 0
            ]  # whose convolution ends here
            outputs = [self.columns[c][row // 2 ** (deepest - c) - 1](state[c]) for c in ending]
            joined = join(outputs, drop)
            for c in ending:
                state[c] = joined
        return joined


def join(inputs: list[torch.Tensor], drop: float = 0.0) -> torch.Tensor:
    """The mean of the inputs that are left when each is dropped with probability `drop`; at least one is kept."""
    if len(inputs) == 1:
        return inputs[0]
    kept = [inputs[i] for i in alive(len(inputs), drop)]
    return sum(kept) / len(kept)


def alive(count: int, drop: float) -> list[int]:
    """Which of `count` inputs of a join live; drawn from torch's generator, never none.

    >>> alive(3, 0.0)
    [0, 1, 2]
    """
    if not drop:
        return list(range(count))
    kept = [
        i for i, chance in enumerate(torch.rand(count, device="cpu").tolist()) if chance >= drop
    ]
    return kept or [int(torch.randint(count, (), device="cpu"))]


class FractalNet(nn.Module):
    """Blocks of fractals with 2x2 poolings between them, and one linear layer.

    Drop-path in training: half of the mini-batches drop inputs of joins (local, `drop_path`), half run one column
    chosen by chance through the whole network (global). In evaluation everything runs, or the one `column` asked for.
    `dropouts`: within the convolutions of each block. `image_size`: poolings end at one pixel.
    (N, in_channels, H, W) -> (N, num_classes).
    """

    def __init__(
        self,
        columns: int = 3,
        blocks: int = 5,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        width: int = 64,
        image_size: int = 32,
        drop_path: float = 0.15,
        dropouts: tuple[float, ...] | None = None,
    ):
        super().__init__()
        (
            whole(num_classes, "num_classes"),
            whole(columns, "columns"),
            whole(blocks, "blocks"),
            whole(width, "width"),
        )
        dropouts = DROPOUTS[:blocks] if dropouts is None else dropouts
        if blocks > len(WIDTHS) or len(dropouts) != blocks:
            raise ParameterError(
                f"up to {len(WIDTHS)} blocks and one dropout for each",
                f"{blocks} blocks, {dropouts}",
                where="FractalNet",
                remedy="write blocks=3, dropouts=(0.0, 0.1, 0.2)",
            )
        if not 0 <= drop_path < 1:
            raise ParameterError(
                "a probability below 1",
                drop_path,
                where="option drop_path",
                remedy="write 0.15 or 0",
            )
        self.in_channels, self.smallest = whole(in_channels, "in_channels"), 1
        self.drop_path, self.column_count, side = (
            drop_path,
            columns,
            whole(image_size, "image_size"),
        )
        self.blocks, self.pools, channels = nn.ModuleList(), nn.ModuleList(), in_channels
        for maps, dropout in zip(WIDTHS[:blocks], dropouts, strict=True):
            self.blocks.append(FractalBlock(columns, channels, scaled(maps, width, 64), dropout))
            self.pools.append(nn.MaxPool2d(2) if side > 1 else nn.Identity())
            self.smallest *= 2 if side > 1 else 1
            channels, side = scaled(maps, width, 64), max(1, side // 2)
        self.avgpool = nn.AdaptiveAvgPool2d(
            1
        )  # one pixel is left of the images the network was built for
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: torch.Tensor, *, column: int | None = None) -> torch.Tensor:
        check_images(self, images)
        if column is not None:
            one_of(column, "column", tuple(range(self.column_count)))
        drop = 0.0
        if self.training and column is None and self.drop_path:
            if torch.rand((), device="cpu") < 0.5:
                column = int(
                    torch.randint(self.column_count, (), device="cpu")
                )  # global: one path through everything
            else:
                drop = self.drop_path  # local
        x = images
        for block, pool in zip(self.blocks, self.pools, strict=True):
            x = pool(block(x, column=column, drop=drop))
        return self.fc(self.avgpool(x).flatten(1))


def fractalnet_cifar(columns: int = 3, blocks: int = 5, **options) -> FractalNet:
    """FractalNet for CIFAR-10: `blocks` blocks of `columns` columns, depth blocks * 2^(columns - 1).

    Larsson et al. 2017, section 4.1. Input (3, 32, 32). 3 columns, depth 20: 33,724,618 parameters;
    845,222,912 multiply-adds. Special: a deep network trained beside its shallow parts needs no residuals; each
    column works alone afterwards. Lesson 15.
    """
    return create(FractalNet, "fractalnet_cifar", options, columns=columns, blocks=blocks)
