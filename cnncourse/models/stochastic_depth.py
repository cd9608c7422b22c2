"""Stochastic depth: a residual network that skips blocks by chance while it trains (lesson 15).

Huang, Sun, Liu, Sedra, Weinberger: Deep networks with stochastic depth, ECCV 2016.
"""

from __future__ import annotations

import torch

from cnncourse.errors import ParameterError
from cnncourse.models.resnet import BasicBlock, ResNet, resnet_cifar


class StochasticBlock(BasicBlock):
    """relu(b F(x) + shortcut(x)), b = 1 with probability `survival` once a mini-batch, else 0 (equation 2).

    In evaluation relu(survival * F(x) + shortcut(x)) (equation 5). A skipped block is not computed at all.
    """

    survival = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.downsample(x)
        if self.training:
            lives = self.survival == 1 or bool(torch.rand((), device="cpu") < self.survival)
            return self.relu(self.branch(x) + shortcut if lives else shortcut)
        f = self.branch(x)
        return self.relu((f if self.survival == 1 else self.survival * f) + shortcut)

    def extra_repr(self) -> str:
        return f"survival={self.survival:.3f}"


def survivals(blocks: int, last: float) -> list[float]:
    """The probability of every block to survive: from nearly 1 at the first linearly down to `last` (equation 4).

    >>> survivals(4, 0.5)
    [0.875, 0.75, 0.625, 0.5]
    """
    return [1 - block / blocks * (1 - last) for block in range(1, blocks + 1)]


def stochastic_depth_cifar(
    depth: int = 110,
    *,
    survival: float = 0.5,
    num_classes: int = 10,
    in_channels: int = 3,
    width: int = 16,
    shortcut: str = "A",
    image_size: int | None = None,
) -> ResNet:
    """ResNet of `depth` = 6n + 2 layers whose blocks survive with probabilities from 1 down to `survival`.

    Huang et al. 2016, section 3. Input (3, 32, 32). Depth 110: 1,727,962 parameters and 252,887,680 multiply-adds of
    ResNet-110; in training 40.25 of its 54 blocks on average. `survival=1` is the ResNet itself.
    Special: shorter while it learns, as deep as ever when it answers. Lesson 15.
    """
    if not 0 < survival <= 1:
        raise ParameterError(
            "a probability above 0 and up to 1",
            survival,
            where="option survival",
            remedy="write 0.5 as in the paper",
        )
    network = resnet_cifar(
        depth,
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
        shortcut=shortcut,
        block=StochasticBlock,
        image_size=image_size,
    )
    blocks = [module for module in network.modules() if isinstance(module, StochasticBlock)]
    for block, probability in zip(blocks, survivals(len(blocks), survival), strict=True):
        block.survival = probability
    return network
