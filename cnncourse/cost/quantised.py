"""The weights of torch's quantised layers, which are no nn.Parameter but packed into objects of their own."""

from __future__ import annotations

import torch

PACKED = ("linear", "conv")  # torch.ops.quantized.linear_dynamic, .conv2d_relu, ...


def packed_weight(func, args: tuple) -> torch.Tensor | None:
    """The weight inside the packed parameters of one of torch's quantised layers, which are no nn.Parameter."""
    if func.namespace != "quantized" or not func._overloadpacket.__name__.startswith(PACKED):
        return None
    return next((x[0] for x in map(unpacked, args) if x), None)


def unpacked(packed: object) -> tuple[torch.Tensor, ...]:
    """(weight, bias) of packed parameters; nothing for other objects."""
    if not isinstance(packed, torch.ScriptObject):
        return ()
    try:
        return tuple(x for x in packed.unpack() if isinstance(x, torch.Tensor))
    except (AttributeError, RuntimeError):  # this kind cannot be unpacked: its cost is unknown
        return ()


def convolution_of(func, args: tuple) -> tuple | None:
    """The arguments of a convolution in the order of torch.ops.aten.convolution, also where they are packed."""
    if func._overloadpacket is torch.ops.aten.convolution:
        return args
    weight = packed_weight(func, args)
    if weight is None or weight.ndim < 3:
        return None
    packed = next(x for x in args if unpacked(x))
    axes = weight.ndim - 2
    stride, padding, dilation = (
        tuple(values)[-axes:] for values in (packed.stride(), packed.padding(), packed.dilation())
    )
    transposed = bool(packed.transpose())
    return args[0], weight, None, stride, padding, dilation, transposed, (0,), packed.groups()
