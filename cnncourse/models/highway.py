"""Highway networks: gates that choose between a layer's answer and its input (lesson 15).

Srivastava, Greff, Schmidhuber: Highway networks, arXiv 1505.00387; Training very deep networks, NIPS 2015.
"""

from __future__ import annotations

import torch
from torch import nn

from cnncourse.models.base import any_size, check_images, create, whole


class Highway(nn.Module):
    """y = H(x) T(x) + x (1 - T(x)), T = sigmoid(W x + b) with b negative at first, so that a new layer copies.

    `layer`: makes a linear layer or convolution that keeps the shape; one becomes H (with ReLU), one T.
    The shape of y is that of x.
    """

    def __init__(self, layer, gate_bias: float = -2.0):
        super().__init__()
        self.transform, self.relu = layer(), nn.ReLU()
        self.gate, self.sigmoid = layer(), nn.Sigmoid()
        nn.init.constant_(self.gate.bias, gate_bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        t = self.sigmoid(self.gate(x))
        return self.relu(self.transform(x)) * t + x * (1 - t)


class HighwayMLP(nn.Module):
    """A linear layer to `width` units, `depth` - 2 highway layers, a linear layer to the classes.

    `gated=False` gives the plain twin: the same H without gates. `image_size`: side of the images (28).
    (N, in_channels, image_size, image_size) -> (N, num_classes).
    """

    def __init__(
        self,
        depth: int = 50,
        *,
        gated: bool = True,
        gate_bias: float = -2.0,
        num_classes: int = 10,
        in_channels: int = 1,
        width: int = 50,
        image_size: int = 28,
    ):
        super().__init__()
        whole(depth, "depth", least=2), whole(num_classes, "num_classes"), whole(width, "width")
        self.in_channels, self.side = (
            whole(in_channels, "in_channels"),
            whole(image_size, "image_size"),
        )
        self.smallest = image_size

        def layer() -> nn.Linear:
            return nn.Linear(width, width)

        self.flatten = nn.Flatten()
        self.first, self.relu = nn.Linear(in_channels * image_size**2, width), nn.ReLU()
        self.layers = nn.Sequential(
            *[
                Highway(layer, gate_bias) if gated else nn.Sequential(layer(), nn.ReLU())
                for _ in range(depth - 2)
            ]
        )
        self.last = nn.Linear(width, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_images(self, images)
        return self.last(self.layers(self.relu(self.first(self.flatten(images)))))


class HighwayCNN(nn.Module):
    """Stages of 3x3 highway convolutions, each behind a plain one that changes the width, with poolings between.

    `stages`: (maps, highway layers) each. `gated=False` gives the plain twin. `width`: maps of the first convolution.
    (N, in_channels, H, W) -> (N, num_classes).
    """

    def __init__(
        self,
        stages: tuple[tuple[int, int], ...],
        *,
        gated: bool = True,
        gate_bias: float = -2.0,
        num_classes: int = 10,
        in_channels: int = 3,
        width: int | None = None,
        image_size: int | None = None,
    ):
        super().__init__()
        any_size(image_size)
        whole(num_classes, "num_classes")
        self.in_channels = whole(in_channels, "in_channels")
        self.smallest = 1
        paper = stages[0][0]
        width = paper if width is None else whole(width, "width")
        layers, channels = [], in_channels
        for i, (maps, count) in enumerate(stages):
            maps = max(1, round(maps * width / paper))

            def layer(maps: int = maps) -> nn.Conv2d:
                return nn.Conv2d(maps, maps, 3, padding=1)

            layers += [nn.Conv2d(channels, maps, 3, padding=1), nn.ReLU()]
            layers += [
                Highway(layer, gate_bias) if gated else nn.Sequential(layer(), nn.ReLU())
                for _ in range(count)
            ]
            if i < len(stages) - 1:
                layers.append(nn.MaxPool2d(3, stride=2, padding=1))
            channels = maps
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and not name.endswith("gate"):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_images(self, images)
        return self.fc(self.avgpool(self.features(images)).flatten(1))


def highway_mlp(depth: int = 50, **options) -> HighwayMLP:
    """A fully connected highway network of `depth` layers with 50 units, for MNIST.

    Srivastava et al. 2015, section 3.1. Input (1, 28, 28); 284,560 parameters; 279,700 multiply-adds (depth 50).
    Special: 100 layers train by plain gradient descent, months before ResNet. Lesson 15.
    """
    return create(HighwayMLP, "highway_mlp", options, depth=depth)


def highway_cifar(**options) -> HighwayCNN:
    """A convolutional highway network of 19 layers for CIFAR-10.

    After Srivastava et al. 2015, section 3.2: 3x3 throughout; the numbers of maps are this course's.
    Input (3, 32, 32); 1,367,914 parameters; 250,971,072 multiply-adds.
    Special: a width can only change in a plain layer, because a gate mixes x and H(x) element by element. Lesson 15.
    """
    return create(HighwayCNN, "highway_cifar", options, stages=((32, 5), (64, 5), (96, 5)))
