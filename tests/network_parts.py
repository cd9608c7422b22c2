"""What tests of the structure of networks count: parameters, shapes, layers."""

import re

import torch
from torch import nn

from cnncourse import models


def on_meta(name, **options):
    with torch.device("meta"):
        return models.build(name, **options)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def weights(module):
    return sum(p.numel() for p in module.parameters() if p.ndim > 1)


def shapes(network, shape):
    """Name -> (C, H, W) or (C,) of the output of every module, from one pass on the meta device."""
    found = {}

    def note(name, output):
        found[name] = tuple(output.shape[1:])

    hooks = [
        module.register_forward_hook(lambda m, i, o, name=name: note(name, o))
        for name, module in network.named_modules()
    ]
    network.eval()(torch.empty(1, *shape, device="meta"))
    for hook in hooks:
        hook.remove()
    return found


def layers(network):
    """Convolutions and linear layers, without projections on shortcuts and auxiliary heads."""
    return [
        m
        for n, m in network.named_modules()
        if isinstance(m, nn.Conv2d | nn.Linear) and not re.search("downsample|aux|Aux", n)
    ]
