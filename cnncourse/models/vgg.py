"""VGG: the six configurations of one table, from 11 to 19 layers of 3x3 convolutions (lesson 12).

Simonyan, Zisserman: Very deep convolutional networks for large-scale image recognition, ICLR 2015.
The layers carry torchvision's names, so official weights load.
"""

from __future__ import annotations

import torch
from torch import nn

from cnncourse.models.base import check_images, create, one_of, scaled, whole

# Table 1, column by column; a line is what lies between two max poolings. "conv3-64": 3x3, 64 channels out.
CONFIGURATIONS = {
    "A": """conv3-64
            conv3-128
            conv3-256 conv3-256
            conv3-512 conv3-512
            conv3-512 conv3-512""",
    "A-LRN": """conv3-64 LRN
            conv3-128
            conv3-256 conv3-256
            conv3-512 conv3-512
            conv3-512 conv3-512""",
    "B": """conv3-64 conv3-64
            conv3-128 conv3-128
            conv3-256 conv3-256
            conv3-512 conv3-512
            conv3-512 conv3-512""",
    "C": """conv3-64 conv3-64
            conv3-128 conv3-128
            conv3-256 conv3-256 conv1-256
            conv3-512 conv3-512 conv1-512
            conv3-512 conv3-512 conv1-512""",
    "D": """conv3-64 conv3-64
            conv3-128 conv3-128
            conv3-256 conv3-256 conv3-256
            conv3-512 conv3-512 conv3-512
            conv3-512 conv3-512 conv3-512""",
    "E": """conv3-64 conv3-64
            conv3-128 conv3-128
            conv3-256 conv3-256 conv3-256 conv3-256
            conv3-512 conv3-512 conv3-512 conv3-512
            conv3-512 conv3-512 conv3-512 conv3-512""",
}


class VGG(nn.Module):
    """3x3 convolutions in stages between poolings, then three fully connected layers.

    `configuration`: a column of `CONFIGURATIONS`. `width`: channels of the first convolution (64); the others and
    the 4096 hidden units scale with it. `image_size`: for images of up to 64 pixels the poolings stop at one
    pixel, and the classifier reads the last map as it is instead of averaging it to 7x7.
    (N, in_channels, H, W) -> (N, num_classes).
    """

    def __init__(
        self,
        configuration: str = "D",
        *,
        batch_norm: bool = False,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: int = 64,
        image_size: int | None = None,
        dropout: float = 0.5,
    ):
        super().__init__()
        whole(num_classes, "num_classes"), whole(in_channels, "in_channels"), whole(width, "width")
        one_of(configuration, "configuration", tuple(CONFIGURATIONS))
        side = 224 if image_size is None else whole(image_size, "image_size")
        small = side <= 64
        layers, channels, self.smallest = [], in_channels, 1
        for line in CONFIGURATIONS[configuration].splitlines():
            for word in line.split():
                layers += layer(word, channels, width, batch_norm)
                channels = next(
                    m.out_channels for m in reversed(layers) if isinstance(m, nn.Conv2d)
                )
            if side > 1 or not small:
                layers.append(nn.MaxPool2d(2))
                side, self.smallest = side // 2, 2 * self.smallest
        self.in_channels = in_channels
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(side if small else 7)
        hidden, pixels = scaled(4096, width, 64), (side if small else 7) ** 2
        self.classifier = nn.Sequential(
            nn.Linear(channels * pixels, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )
        initialise(self, small=small or width < 64)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_images(self, images)
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


def layer(word: str, channels: int, width: int, batch_norm: bool) -> list[nn.Module]:
    """The modules of one word of the table: a convolution with its ReLU (and BatchNorm), or the one LRN."""
    if (
        word == "LRN"
    ):  # constants of AlexNet; torch divides alpha by the 5 channels of the window, the paper does not
        return [nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)]
    kernel, filters = int(word[4]), scaled(int(word.split("-")[1]), width, 64)
    convolution = nn.Conv2d(channels, filters, kernel, padding=kernel // 2)
    return [convolution, *[nn.BatchNorm2d(filters)] * batch_norm, nn.ReLU()]


def initialise(network: nn.Module, *, small: bool) -> None:
    """He's initialisation of the convolutions (the paper's N(0, 0.01) does not train 16 layers), N(0, 0.01) after.

    In a narrow network 0.01 is too small for a gradient to reach the first layer: there He's everywhere.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            if small:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            else:
                nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)


def vgg11(*, weights=None, progress: bool = True, **options) -> VGG:
    """VGG-11, configuration A: 8 convolutions and 3 fully connected layers.

    Simonyan and Zisserman 2015, table 1. Input (3, 224, 224); 132,863,336 parameters; 7,609,090,048 multiply-adds.
    Special: shallow enough to train from random weights; its layers then started the deeper ones. Lesson 12.
    """
    return create(VGG, "vgg11", options, weights=weights, progress=progress, configuration="A")


def vgg11_lrn(**options) -> VGG:
    """VGG-11 with local response normalisation, configuration A-LRN.

    Simonyan and Zisserman 2015, table 1. Input (3, 224, 224); 132,863,336 parameters; 7,609,090,048 multiply-adds.
    Special: the only use of AlexNet's normalisation in the table, found to change nothing but the cost. Lesson 12.
    """
    return create(VGG, "vgg11_lrn", options, configuration="A-LRN")


def vgg13(*, weights=None, progress: bool = True, **options) -> VGG:
    """VGG-13, configuration B: two 3x3 convolutions in every stage.

    Simonyan and Zisserman 2015, table 1. Input (3, 224, 224); 133,047,848 parameters; 11,308,466,176 multiply-adds.
    Special: better than the same network with one 5x5 convolution in place of each pair. Lesson 12.
    """
    return create(VGG, "vgg13", options, weights=weights, progress=progress, configuration="B")


def vgg16_c(**options) -> VGG:
    """VGG-16 with 1x1 convolutions at the end of stages 3 to 5, configuration C.

    Simonyan and Zisserman 2015, table 1. Input (3, 224, 224); 133,638,952 parameters; 11,770,888,192 multiply-adds.
    Special: adds nonlinearity without a wider view: better than B, worse than D. Lesson 12.
    """
    return create(VGG, "vgg16_c", options, configuration="C")


def vgg16(*, weights=None, progress: bool = True, **options) -> VGG:
    """VGG-16, configuration D: the form most used as a feature extractor.

    Simonyan and Zisserman 2015, table 1. Input (3, 224, 224); 138,357,544 parameters; 15,470,264,320 multiply-adds.
    Special: 89 % of its parameters are in the fully connected layers, 99 % of the work in the rest. Lesson 12.
    """
    return create(VGG, "vgg16", options, weights=weights, progress=progress, configuration="D")


def vgg19(*, weights=None, progress: bool = True, **options) -> VGG:
    """VGG-19, configuration E: the deepest of the table, where accuracy stops growing with depth.

    Simonyan and Zisserman 2015, table 1. Input (3, 224, 224); 143,667,240 parameters; 19,632,062,464 multiply-adds.
    Special: the yardstick of the ResNet paper, 5.4 times the multiply-adds of ResNet-34. Lesson 12.
    """
    return create(VGG, "vgg19", options, weights=weights, progress=progress, configuration="E")


def vgg11_bn(*, weights=None, progress: bool = True, **options) -> VGG:
    """VGG-11 with BatchNorm after each convolution.

    After Simonyan and Zisserman 2015, table 1 A, with Ioffe and Szegedy 2015.
    Input (3, 224, 224); 132,868,840 parameters; 7,609,090,048 multiply-adds.
    Special: needs no care with its initialisation. Lesson 12.
    """
    return create(
        VGG,
        "vgg11_bn",
        options,
        weights=weights,
        progress=progress,
        configuration="A",
        batch_norm=True,
    )


def vgg13_bn(*, weights=None, progress: bool = True, **options) -> VGG:
    """VGG-13 with BatchNorm after each convolution.

    After Simonyan and Zisserman 2015, table 1 B, with Ioffe and Szegedy 2015.
    Input (3, 224, 224); 133,053,736 parameters; 11,308,466,176 multiply-adds.
    Special: needs no shallower network to start from. Lesson 12.
    """
    return create(
        VGG,
        "vgg13_bn",
        options,
        weights=weights,
        progress=progress,
        configuration="B",
        batch_norm=True,
    )


def vgg16_bn(*, weights=None, progress: bool = True, **options) -> VGG:
    """VGG-16 with BatchNorm after each convolution.

    After Simonyan and Zisserman 2015, table 1 D, with Ioffe and Szegedy 2015.
    Input (3, 224, 224); 138,365,992 parameters; 15,470,264,320 multiply-adds.
    Special: 8,448 parameters more make 16 layers trainable from random weights. Lesson 12.
    """
    return create(
        VGG,
        "vgg16_bn",
        options,
        weights=weights,
        progress=progress,
        configuration="D",
        batch_norm=True,
    )


def vgg19_bn(*, weights=None, progress: bool = True, **options) -> VGG:
    """VGG-19 with BatchNorm after each convolution.

    After Simonyan and Zisserman 2015, table 1 E, with Ioffe and Szegedy 2015.
    Input (3, 224, 224); 143,678,248 parameters; 19,632,062,464 multiply-adds.
    Special: the deepest plain network of torchvision. Lesson 12.
    """
    return create(
        VGG,
        "vgg19_bn",
        options,
        weights=weights,
        progress=progress,
        configuration="E",
        batch_norm=True,
    )
