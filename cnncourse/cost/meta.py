"""Outputs of the most frequent operations, which torch works out slowly on the meta device.

Torch's own way is Python, a millisecond for a BatchNorm: a table takes a third of the time without it. Whatever is
not the plain case (one number type, the usual layout, fitting sizes) is left to torch, which says what is wrong.
"""

from __future__ import annotations

import math

import torch

aten = torch.ops.aten
_BATCH_NORMS = {
    aten.native_batch_norm,
    aten._native_batch_norm_legit_no_training,
    aten.cudnn_batch_norm,
}
_FULL = (torch.float32, torch.float64)  # of half precision, the statistics are float32
_POINTWISE = {
    aten.relu,
    aten.hardtanh,
    aten.silu,
    aten.gelu,
    aten.sigmoid,
    aten.hardswish,
}
_IN_PLACE = {aten.relu_, aten.add_, aten.mul_, aten.hardtanh_, aten.silu_, aten.hardswish_}
_BROADCAST = {aten.add, aten.sub, aten.mul, aten.maximum, aten.minimum}
_SOFTMAX = {aten._softmax, aten._log_softmax}


def output_of(func, args: tuple, tensors: list[torch.Tensor]) -> object:
    """What an operation on meta tensors returns, without running it; None where torch must work it out."""
    packet, first = func._overloadpacket, tensors[0] if tensors else None
    if first is None or not all(x.is_meta and x.dtype == first.dtype for x in tensors):
        return None
    if not first.is_floating_point():
        return None
    if packet is aten.cat:
        return _joined(args, tensors)
    if args[0] is not first:
        return None
    if packet in _BATCH_NORMS:
        return _batch_norm(packet, args, tensors)
    if packet is aten.convolution:
        return _convolution(*args)
    if packet is aten.addmm:
        return _addmm(*args)
    if packet is aten.native_layer_norm:
        return _layer_norm(*args[:4])
    if packet in _BROADCAST and len(args) == 2:
        return _broadcast(tensors)
    if packet in _SOFTMAX and -first.ndim <= args[1] < first.ndim and not args[2]:
        return _like(first)
    alike = all(x.shape == first.shape for x in tensors)
    if alike and packet in _IN_PLACE:
        return first
    return _like(first) if alike and packet in _POINTWISE else None


def _new(shape, x: torch.Tensor) -> torch.Tensor:
    return torch.empty(shape, dtype=x.dtype, device="meta")


def _like(x: torch.Tensor) -> torch.Tensor:
    """torch.empty_like, which is Python on the meta device, for the usual layout in one call."""
    return _new(x.shape, x) if x.is_contiguous() else torch.empty_like(x)


def _batch_norm(packet, args: tuple, tensors: list[torch.Tensor]) -> tuple | None:
    x = tensors[0]
    training = packet is not aten._native_batch_norm_legit_no_training and args[5]
    if training or x.ndim < 2 or any(w.shape != x.shape[1:2] for w in tensors[1:]):
        return None
    if x.dtype not in _FULL:
        return None
    return _like(x), _new(x.shape[1], x), _new(x.shape[1], x)


def _layer_norm(x: torch.Tensor, over: list[int], *weights: torch.Tensor | None) -> tuple | None:
    """(output, mean, 1 / deviation) of a LayerNorm over the last axes."""
    kept, over = x.ndim - len(over), tuple(over)
    if kept < 0 or x.shape[kept:] != over or x.dtype not in _FULL:
        return None
    if any(w is not None and w.shape != over for w in weights):
        return None
    statistics = [*x.shape[:kept], *[1] * len(over)]
    return _like(x), _new(statistics, x), _new(statistics, x)


def _convolution(
    x, weight, bias, stride, padding, dilation, transposed, _, groups
) -> torch.Tensor | None:
    axes = weight.ndim - 2
    fits = x.ndim == weight.ndim and x.shape[1] == weight.shape[1] * groups
    if transposed or not fits or weight.shape[0] % groups or 0 in x.shape:
        return None
    if bias is not None and bias.shape != weight.shape[:1]:
        return None
    if not x.is_contiguous() or not weight.is_contiguous():  # channels last
        return None
    shape = [x.shape[0], weight.shape[0]]
    for n, (size, kernel) in enumerate(zip(x.shape[2:], weight.shape[2:], strict=True)):
        step, pad, apart = (v[n] if len(v) == axes else v[0] for v in (stride, padding, dilation))
        room = size + 2 * pad - apart * (kernel - 1) - 1
        if room < 0 or min(step, apart, kernel) < 1 or pad < 0:
            return None
        shape.append(room // step + 1)
    return _new(shape, x)


def _addmm(bias: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor | None:
    """bias + x @ weight of (rows, inputs) and (inputs, outputs)."""
    plain = x.ndim == weight.ndim == 2 and x.shape[1] == weight.shape[0]
    return (
        _new((x.shape[0], weight.shape[1]), x) if plain and bias.shape == weight.shape[1:] else None
    )


def _broadcast(parts: list[torch.Tensor]) -> torch.Tensor | None:
    """The result of an operation value by value; sizes of 1 are stretched."""
    axes = max(x.ndim for x in parts)
    shape = [1] * axes
    for x in parts:
        if not x.is_contiguous():
            return None
        for d, size in enumerate(x.shape, axes - x.ndim):
            if shape[d] == 1:
                shape[d] = size
            elif size not in (1, shape[d]):
                return None
    return _new(shape, parts[0])


def _joined(args: tuple, parts: list[torch.Tensor]) -> torch.Tensor | None:
    """torch.cat of tensors that differ along its axis only, none of them empty."""
    first, dim = parts[0], args[1] if len(args) > 1 else 0
    if not -first.ndim <= dim < first.ndim:
        return None
    total, rest = 0, _without(first, dim)
    for x in parts:
        if x.ndim != first.ndim or not x.is_contiguous() or _without(x, dim) != rest:
            return None
        total += x.shape[dim]
    shape = list(first.shape)
    shape[dim] = total
    return _new(shape, first) if math.prod(shape) else None


def _without(x: torch.Tensor, dim: int) -> tuple[int, ...]:
    shape = list(x.shape)
    del shape[dim]
    return tuple(shape)
