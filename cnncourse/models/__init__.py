"""The networks of the lectures, one file a family, each built from its paper.

>>> from cnncourse import models
>>> network = models.build("resnet18", num_classes=10, width=16, image_size=32)  # a quarter of the channels
>>> models.names()[:3]
('lenet5', 'lenet5_modern', 'alexnet_2012')

Every network takes `num_classes`, `in_channels`, `width` (the channels of its first convolution; all others scale
with it) and, for images of 8 to 64 pixels, `image_size`. Where torchvision has the network, name, defaults, layer
names and outputs are torchvision's, and `weights="IMAGENET1K_V1"` loads its official weights. Without a network,
`efficientnet_lite0(pretrained=True)` has ImageNet weights, which ship in a package; so have the three networks of
`models.mtcnn`, which find faces.
"""

# ruff: noqa: I001 (a line a family reads better than a line a name)
from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

from torch import nn

from cnncourse.errors import ParameterError, nearest
from cnncourse.models import mtcnn  # noqa: F401 (for lessons)
from cnncourse.models.alexnets import (
    alexnet,
    alexnet_2012,
    alexnet_lecture,
    alexnet_lecture_repaired,
    alexnet_ungrouped,
)
from cnncourse.models.densenet import (
    densenet121,
    densenet161,
    densenet169,
    densenet201,
    densenet_cifar,
)
from cnncourse.models.efficientnet_lite import efficientnet_lite0
from cnncourse.models.fractalnet import fractalnet_cifar
from cnncourse.models.highway import highway_cifar, highway_mlp
from cnncourse.models.imagenet import imagenet_categories, imagenet_input  # noqa: F401 (for lessons)
from cnncourse.models.inception_2014 import googlenet, googlenet_2014
from cnncourse.models.inception_2015 import bn_inception, inception_v3
from cnncourse.models.inception_2016 import inception_resnet_v1, inception_resnet_v2, inception_v4
from cnncourse.models.lenet import lenet5, lenet5_modern
from cnncourse.models.nin import nin_cifar, nin_imagenet
from cnncourse.models.preactivation import preact_resnet_cifar, wide_resnet_cifar
from cnncourse.models.resnet import (
    plain18,
    plain34,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
    resnet_cifar,
    wide_resnet50_2,
    wide_resnet101_2,
)
from cnncourse.models.squeezenet import squeezenet1_0, squeezenet1_1
from cnncourse.models.stochastic_depth import stochastic_depth_cifar
from cnncourse.models.successors import overfeat_accurate, overfeat_fast, zfnet, zfnet_large
from cnncourse.models.vgg import (
    vgg11,
    vgg11_bn,
    vgg11_lrn,
    vgg13,
    vgg13_bn,
    vgg16,
    vgg16_bn,
    vgg16_c,
    vgg19,
    vgg19_bn,
)

IMAGENET, CIFAR = (3, 224, 224), (3, 32, 32)  # channels, height, width

# name: (function, input shape of the paper), by year
_NETWORKS: dict[str, tuple[Callable[..., nn.Module], tuple[int, int, int]]] = {
    "lenet5": (lenet5, (1, 32, 32)),
    "lenet5_modern": (lenet5_modern, (1, 32, 32)),
    "alexnet_2012": (alexnet_2012, (3, 227, 227)),
    "alexnet_ungrouped": (alexnet_ungrouped, (3, 227, 227)),
    **{
        f.__name__: (f, IMAGENET)
        for f in (alexnet, alexnet_lecture, alexnet_lecture_repaired, zfnet, zfnet_large)
    },
    "overfeat_fast": (overfeat_fast, (3, 231, 231)),
    "overfeat_accurate": (overfeat_accurate, (3, 221, 221)),
    "nin_cifar": (nin_cifar, CIFAR),
    "nin_imagenet": (nin_imagenet, IMAGENET),
    **{
        f.__name__: (f, IMAGENET)
        for f in (
            vgg11,
            vgg11_lrn,
            vgg13,
            vgg16_c,
            vgg16,
            vgg19,
            vgg11_bn,
            vgg13_bn,
            vgg16_bn,
            vgg19_bn,
        )
    },
    **{f.__name__: (f, IMAGENET) for f in (googlenet_2014, googlenet, bn_inception)},
    "inception_v3": (inception_v3, (3, 299, 299)),
    **{
        f.__name__: (f, IMAGENET)
        for f in (resnet18, resnet34, resnet50, resnet101, resnet152, plain18, plain34)
    },
    **{
        f"resnet{depth}": (functools.partial(resnet_cifar, depth), CIFAR)
        for depth in (20, 32, 44, 56, 110, 1202)
    },
    **{
        f"plain{depth}": (functools.partial(resnet_cifar, depth, residual=False), CIFAR)
        for depth in (20, 32, 44, 56, 110, 1202)
    },
    "highway_mlp": (highway_mlp, (1, 28, 28)),
    **{
        f.__name__: (f, CIFAR)
        for f in (
            highway_cifar,
            preact_resnet_cifar,
            stochastic_depth_cifar,
            wide_resnet_cifar,
            fractalnet_cifar,
            densenet_cifar,
        )
    },
    **{
        f.__name__: (f, IMAGENET)
        for f in (
            squeezenet1_0,
            squeezenet1_1,
            wide_resnet50_2,
            wide_resnet101_2,
            densenet121,
            densenet169,
            densenet201,
            densenet161,
        )
    },
    **{
        f.__name__: (f, (3, 299, 299))
        for f in (inception_v4, inception_resnet_v1, inception_resnet_v2)
    },
    "efficientnet_lite0": (efficientnet_lite0, IMAGENET),
}


def names() -> tuple[str, ...]:
    """The name of every network `build` knows, by year."""
    return tuple(_NETWORKS)


def build(name: str, **options) -> nn.Module:
    """The network called `name`, with its own options.

    >>> build("plain20", width=8)(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 10])

    Raises `ParameterError` for a name or an option that does not exist, with the nearest that does.
    """
    function = _entry(name)[0]
    parameters = inspect.signature(function).parameters
    if "options" not in parameters:  # a function that passes all options on checks them itself
        known = [option for option in parameters if option not in getattr(function, "keywords", {})]
        for option in options:
            if option not in known:
                raise ParameterError(
                    f"an option of {name}: {', '.join(known)}",
                    option,
                    where=f"build({name!r}, {option}=...)",
                    remedy=nearest(option, known),
                )
    return function(**options)


def input_shape(name: str) -> tuple[int, int, int]:
    """The shape (channels, height, width) of one image at the size of the network's paper."""
    return _entry(name)[1]


def _entry(name: str) -> tuple[Callable[..., nn.Module], tuple[int, int, int]]:
    if name not in _NETWORKS:
        raise ParameterError(
            "the name of a network",
            name,
            where="cnncourse.models",
            remedy=nearest(str(name).lower(), _NETWORKS) + "; models.names() lists all",
        )
    return _NETWORKS[name]
