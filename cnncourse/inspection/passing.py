"""One pass through a network that is looked at and left as it was, and the checks of what is passed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cnncourse.cost.copies import tensors
from cnncourse.errors import ParameterError, ShapeError, nearest


@contextmanager
def watched(network: nn.Module, layers: Sequence[str], where: str) -> Iterator[dict[str, Tensor]]:
    """A pass in evaluation mode in this block fills the dict: name to output. Hooks and modes are undone at its end."""
    chosen = modules(network, layers, where)
    training = {module: module.training for module in network.modules()}
    seen: dict[str, Tensor] = {}

    def keep(name: str):
        def hook(module, args, output):
            for tensor in tensors(output)[:1]:
                seen[name] = tensor.clone()  # later layers may work in place
            on_the_way = isinstance(output, Tensor) and torch.is_grad_enabled()
            return seen[name].clone() if on_the_way else None

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in chosen.items()]
    try:
        network.eval()
        yield seen
        missing = [name for name in chosen if name not in seen]
        if missing:
            raise ParameterError(
                "layers that run in evaluation mode",
                f"{missing[0]!r}, which gave no tensor",
                where=f"argument layers of {where}",
                remedy="an auxiliary head or a list of layers does not run: name a layer in it",
            )
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training.items():
            module.training = mode


def modules(network: nn.Module, names: Sequence[str], where: str) -> dict[str, nn.Module]:
    """Name to module, as in `network.named_modules()`; "" is the network."""
    known = dict(network.named_modules(remove_duplicate=False))
    for name in names:
        if name not in known:
            raise ParameterError(
                f"the name of a layer of {type(network).__name__}",
                name,
                where=where,
                remedy=f"{nearest(str(name), filter(None, known))}; network.named_modules() has all",
            )
    return {name: known[name] for name in names}


def first_weight(network: nn.Module) -> Tensor:
    """The parameter whose device and dtype are the network's; of a network without any, a zero of the processor."""
    return next(network.parameters(), torch.zeros(()))


def batch(
    network: nn.Module, inputs: Tensor, where: str, *, pictures: bool = True
) -> tuple[Tensor, bool]:
    """The inputs with their batch axis, and whether it was one picture without; checked against the network."""
    where = f"the pictures of {where}"
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        got = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
        remedy = "pixels 0 to 255: images.float() / 255, and what the network was trained with"
        raise ShapeError("a tensor of floating point numbers", got, where=where, remedy=remedy)
    if inputs.ndim not in (3, 4) and (pictures or inputs.ndim != 2) or 0 in inputs.shape:
        expected, got = "(N, C, H, W), or (C, H, W) for one picture", tuple(inputs.shape)
        remedy = "a grey picture (H, W) needs its channel: image[None]"
        raise ShapeError(expected, got, where=where, remedy=remedy)
    weight = next(network.parameters(), inputs)
    if (inputs.device, inputs.dtype) != (weight.device, weight.dtype):
        raise ShapeError(
            f"pictures of {weight.dtype} on {weight.device}, as the network's weights are",
            f"{inputs.dtype} on {inputs.device}",
            where=where,
            remedy="images.to(next(network.parameters()))",
        )
    return (inputs[None], True) if inputs.ndim == 3 else (inputs, False)


def index(unit: object, output: Tensor, where: str) -> tuple[int, ...]:
    """The unit as an index into the output of one picture: (channel,) or (channel, row, column), checked."""
    units = tuple(unit) if isinstance(unit, (tuple, list)) else (unit,)
    sizes = tuple(output.shape[1:])
    if len(sizes) not in (1, 3):
        expected, remedy = "a layer that gives (N, C) or (N, C, H, W)", "choose another layer"
        raise ShapeError(expected, tuple(output.shape), where=where, remedy=remedy)
    fits = len(units) in (1, len(sizes)) and all(
        isinstance(number, int) and not isinstance(number, bool) and 0 <= number < size
        for number, size in zip(units, sizes, strict=False)
    )
    if not fits:
        channel = f"a unit from 0 to {sizes[0] - 1}"
        place = f", or (channel, row, column) in {sizes}" if len(sizes) == 3 else ""
        remedy = "count from 0, in whole numbers: int(unit)"
        raise ParameterError(channel + place, unit, where=f"the unit of {where}", remedy=remedy)
    return units


def of_unit(unit: object, output: Tensor, where: str) -> Tensor:
    """The unit's values in each picture: (N, positions); one position for a class or a whole (channel, row, column)."""
    return output[(slice(None), *index(unit, output, where))].reshape(len(output), -1)


def whole(value: object, name: str, where: str, least: int = 1) -> int:
    """`value` if it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        expected, remedy = f"a whole number of at least {least}", f"write {name}={least} or more"
        raise ParameterError(expected, value, where=f"argument {name} of {where}", remedy=remedy)
    return value
