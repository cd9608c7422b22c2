"""Layers that stay as they are while the rest of a network trains."""

from __future__ import annotations

import types

from torch import nn


def frozen(module: nn.Module) -> nn.Module:
    """The module, kept as it is: without gradients, and in evaluation mode also while the rest trains.

    So BatchNorm keeps its statistics and dropout is off; ``requires_grad_(False)`` alone leaves both moving, for `fit`
    puts the network into training mode. Make the optimizer of what is left:

    >>> training.frozen(network.features)
    >>> optimizer = torch.optim.SGD(network.classifier.parameters(), lr=0.1)
    """
    module.requires_grad_(False)
    module.eval()
    module.train = types.MethodType(_stay, module)  # what a parent calls
    return module


def thawed(module: nn.Module) -> nn.Module:
    """The module, learning again: what `frozen` did is undone, for example in `on_epoch`.

    An optimizer that was made without its parameters needs them: ``optimizer.add_param_group``.
    """
    vars(module).pop("train", None)
    module.requires_grad_(True)
    return module.train()


def is_frozen(module: nn.Module) -> bool:
    """Whether `frozen` holds this module itself in evaluation mode."""
    return getattr(vars(module).get("train"), "__func__", None) is _stay


def _stay(self: nn.Module, mode: bool = True) -> nn.Module:
    return self
