"""AlexNet's successors of 2013: ZFNet with finer first filters, OverFeat run over larger images (lessons 11 and 12).

Zeiler, Fergus: Visualizing and understanding convolutional networks, ECCV 2014.
Sermanet, Eigen, Zhang, Mathieu, Fergus, LeCun: OverFeat: integrated recognition, localization and detection, ICLR 2014.
"""

from __future__ import annotations

import torch
from torch import nn

from cnncourse.models.alexnets import TowerNorm, initialise
from cnncourse.models.base import check_images, create, one_of, scaled, whole


class ZFNet(nn.Module):
    """AlexNet with a first convolution of 7x7 at stride 2 and a second at stride 2, in one tower.

    `maps`: the maps of conv3, conv4, conv5. `width`: maps of conv1 (96). `image_size`: 224 in the paper; up to 64
    pixels both convolutions keep the size and the poolings end at one pixel.
    (N, in_channels, image_size, image_size) -> (N, num_classes).
    """

    def __init__(
        self,
        maps: tuple[int, int, int] = (384, 384, 256),
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: int = 96,
        image_size: int | None = None,
        dropout: float = 0.5,
    ):
        super().__init__()
        whole(num_classes, "num_classes"), whole(in_channels, "in_channels"), whole(width, "width")
        side = 224 if image_size is None else whole(image_size, "image_size", least=2)
        small = side <= 64
        self.in_channels, self.side, self.smallest = in_channels, side, side
        n2, n3, n4, n5, hidden = (scaled(n, width, 96) for n in (256, *maps, 4096))
        if small:
            self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1)
            self.conv2 = nn.Conv2d(width, n2, 5, padding=2)
            side = halved(halved(halved(side)))
            last = nn.MaxPool2d(3, stride=2, padding=1)
        else:
            self.conv1 = nn.Conv2d(in_channels, width, 7, stride=2, padding=1)
            self.conv2 = nn.Conv2d(width, n2, 5, stride=2)
            side = (halved((halved((side - 5) // 2 + 1) - 5) // 2 + 1) - 3) // 2 + 1
            last = nn.MaxPool2d(3, stride=2)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(3, stride=2, padding=1)
        self.norm1 = TowerNorm()  # pooled first, then normalised across maps (figure 3)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(3, stride=2, padding=1)
        self.norm2 = TowerNorm()
        self.conv3, self.relu3 = nn.Conv2d(n2, n3, 3, padding=1), nn.ReLU()
        self.conv4, self.relu4 = nn.Conv2d(n3, n4, 3, padding=1), nn.ReLU()
        self.conv5, self.relu5 = nn.Conv2d(n4, n5, 3, padding=1), nn.ReLU()
        self.pool5 = last
        self.flatten = nn.Flatten()
        self.fc6, self.relu6, self.drop6 = (
            nn.Linear(n5 * side**2, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.fc7, self.relu7, self.drop7 = nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout)
        self.fc8 = nn.Linear(hidden, num_classes)
        initialise(self, small=small or width < 96)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_images(self, images)
        x = self.norm1(self.pool1(self.relu1(self.conv1(images))))
        x = self.norm2(self.pool2(self.relu2(self.conv2(x))))
        x = self.relu3(self.conv3(x))
        x = self.relu4(self.conv4(x))
        x = self.flatten(self.pool5(self.relu5(self.conv5(x))))
        x = self.drop6(self.relu6(self.fc6(x)))
        x = self.drop7(self.relu7(self.fc7(x)))
        return self.fc8(x)


def halved(side: int) -> int:
    """The side of a map behind a pooling of 3 at stride 2 with padding 1."""
    return (side - 1) // 2 + 1


# Tables 1 and 3, a line a layer: maps, kernel, stride, padding, pooling (window = stride; 0 for none).
OVERFEAT = {
    "fast": (
        (96, 11, 4, 0, 2),
        (256, 5, 1, 0, 2),
        (512, 3, 1, 1, 0),
        (1024, 3, 1, 1, 0),
        (1024, 3, 1, 1, 2),
    ),
    "accurate": (
        (96, 7, 2, 0, 3),
        (256, 7, 1, 0, 2),
        (512, 3, 1, 1, 0),
        (512, 3, 1, 1, 0),
        (1024, 3, 1, 1, 0),
        (1024, 3, 1, 1, 3),
    ),
}


class OverFeat(nn.Module):
    """A network without fully connected layers: what would be one is a convolution as large as the last map.

    `maps` gives a class score for every position of the window over a larger image; `forward` takes the largest.
    `width`: maps of the first convolution (96). `image_size`: up to 64 pixels all convolutions keep the size, and
    a pooling is left out where its window does not fit.
    (N, in_channels, H, W) -> (N, num_classes), for any H and W from the size of training on.
    """

    def __init__(
        self,
        model: str = "fast",
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: int = 96,
        image_size: int | None = None,
        dropout: float = 0.5,
    ):
        super().__init__()
        whole(num_classes, "num_classes"), whole(in_channels, "in_channels"), whole(width, "width")
        paper = {"fast": 231, "accurate": 221}[one_of(model, "model", ("fast", "accurate"))]
        side = paper if image_size is None else whole(image_size, "image_size", least=2)
        small = side <= 64
        self.in_channels = in_channels
        layers, channels = [], in_channels
        for maps, kernel, stride, padding, window in OVERFEAT[model]:
            kernel, stride, padding = (
                (min(kernel, 5), 1, min(kernel, 5) // 2) if small else (kernel, stride, padding)
            )
            layers += [
                nn.Conv2d(channels, scaled(maps, width, 96), kernel, stride, padding),
                nn.ReLU(),
            ]
            channels, side = scaled(maps, width, 96), (side - kernel + 2 * padding) // stride + 1
            if window and side >= window:
                layers.append(nn.MaxPool2d(window))
                side //= window
        self.features = nn.Sequential(*layers)
        self.smallest = smallest_input(layers, side)
        hidden = [scaled(n, width, 96) for n in ((3072, 4096) if model == "fast" else (4096, 4096))]
        self.classifier = nn.Sequential(
            nn.Conv2d(channels, hidden[0], side),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(hidden[0], hidden[1], 1),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(hidden[1], num_classes, 1),
        )
        initialise(self, small=small or width < 96)

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """The logits at every position of the window: (N, in_channels, H, W) -> (N, num_classes, H', W').

        A position sees its real neighbours where a window cut out of the image would be padded with zeros.

        >>> overfeat_fast().maps(torch.zeros(1, 3, 281, 317)).shape  # section 3.3, figure 5
        torch.Size([1, 1000, 2, 3])
        """
        check_images(self, images)
        return self.classifier(self.features(images))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.maps(images).amax(dim=(2, 3))


def smallest_input(layers: list[nn.Module], side: int) -> int:
    """The smallest side of an image that these layers turn into a map of `side`."""
    for layer in reversed(layers):
        if isinstance(layer, nn.Conv2d):
            side = (side - 1) * layer.stride[0] + layer.kernel_size[0] - 2 * layer.padding[0]
        elif isinstance(layer, nn.MaxPool2d):
            side *= layer.kernel_size
    return side


def zfnet(**options) -> ZFNet:
    """ZFNet: AlexNet with first filters that are smaller and closer together, found by looking at its features.

    Zeiler and Fergus 2014, figure 3. Input (3, 224, 224); 62,357,608 parameters; 1,168,032,896 multiply-adds.
    Special: 7x7 at stride 2 removes the dead and blurred filters of 11x11 at stride 4. Lesson 11.
    """
    return create(ZFNet, "zfnet", options, maps=(384, 384, 256))


def zfnet_large(**options) -> ZFNet:
    """ZFNet with 512, 1024 and 512 maps in its last three convolutions.

    Zeiler and Fergus 2014, table 3, model (b). Input (3, 224, 224); 107,627,624 parameters;
    2,476,704,896 multiply-adds. Special: the paper's best single network. Lesson 11.
    """
    return create(ZFNet, "zfnet_large", options, maps=(512, 1024, 512))


def overfeat_fast(**options) -> OverFeat:
    """OverFeat's fast model: AlexNet without normalisation and overlapping, with more maps.

    Sermanet et al. 2014, table 1. Input (3, 231, 231); 145,920,872 parameters; 2,801,403,904 multiply-adds.
    Special: as a convolution it slides over a larger image in one pass, sharing all work. Lessons 12 and 20.
    """
    return create(OverFeat, "overfeat_fast", options, model="fast")


def overfeat_accurate(**options) -> OverFeat:
    """OverFeat's accurate model: a sixth convolution and a first stride of 2.

    Sermanet et al. 2014, table 3. Input (3, 221, 221); 144,656,488 parameters; 5,355,446,784 multiply-adds.
    Special: the 144 million parameters to which VGG compares itself, in 9 layers. Lessons 12 and 20.
    """
    return create(OverFeat, "overfeat_accurate", options, model="accurate")
