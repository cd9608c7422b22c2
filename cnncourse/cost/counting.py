"""Multiply-adds of one torch operation, and the kernel of one that has a kernel."""

from __future__ import annotations

import re

import torch
from torch.utils.flop_counter import flop_registry

from cnncourse.cost.copies import tensors
from cnncourse.cost.fields import Shape
from cnncourse.cost.quantised import PACKED, convolution_of, packed_weight
from cnncourse.cost.receptive_field import plain_name, pool_geometry, spread

aten = torch.ops.aten
# The names of operations that multiply and add; one of them that is not counted below is unknown.
_MULTIPLIES = re.compile(
    r"(^|_)(mm|matmul|conv\w*|linalg\w*|fft\w*|lu|cholesky\w*|solve\w*|svd|qr|rnn\w*|gru|lstm|attention\w*|eig\w*)($|_)"
)
_ELEMENTWISE = {
    "_thnn_fused_lstm_cell",
    "_thnn_fused_gru_cell",
    "linalg_vector_norm",
    "_scaled_dot_product_attention",
}
_MATRICES = {aten.mm: 0, aten.bmm: 0, aten.addmm: 1, aten.baddbmm: 1, aten._int_mm: 0}
_NO_PRODUCTS = {
    "nms",
    "roi_align",
    "roi_pool",
    "ps_roi_align",
    "ps_roi_pool",
}  # of torchvision: they interpolate


def multiply_adds(func, args: tuple, kwargs: dict, output: object) -> int | None:
    """How many multiply-adds one call of a torch operation has; None where we do not know."""
    packet = func._overloadpacket
    if packet is aten.convolution:
        scanned = args[0] if args[6] else output  # transposed: every input value meets every weight
        return scanned.numel() * args[1][0].numel()
    if packet in _MATRICES:
        return output.numel() * args[_MATRICES[packet]].shape[-1]
    if packet in flop_registry:
        return (
            flop_registry[packet](*args, **kwargs, out_val=output) // 2
        )  # torch counts a multiply-add as two
    if packet in (aten.mv, aten.dot, aten.vdot):
        return args[0].numel()
    if packet is aten.addmv:
        return args[1].numel()
    if packet is aten.addbmm:
        return args[1].numel() * args[2].shape[-1]
    if packet in (
        aten.mkldnn_rnn_layer,
        aten._cudnn_rnn,
    ):  # every step multiplies by every matrix once
        steps = args[0].numel() // args[0].shape[-1]
        return steps * sum(w.numel() for w in tensors(args[1:3]) if w.ndim == 2)
    if packet is aten._trilinear:  # nn.Bilinear: (N, in1), (out, in1, in2), (N, in2)
        return args[0].numel() // args[0].shape[-1] * args[1].numel()
    if packet is aten._cdist_forward:  # squared differences are added up
        return args[0].numel() * args[1].shape[-2]
    if packet is aten.affine_grid_generator:  # theta times (x, y, 1) or (x, y, z, 1)
        return output.numel() * args[0].shape[-1]
    if packet.__name__ == "deform_conv2d":
        return output.numel() * args[1][0].numel()
    name = plain_name(func)
    weight = packed_weight(func, args)
    if weight is not None:
        outputs = output.numel() // (weight.shape[0] if name.startswith("linear") else 1)
        return outputs * (weight.numel() if name.startswith("linear") else weight[0].numel())
    if func.namespace == "torchvision" and name in _NO_PRODUCTS:
        return 0
    if func.namespace == "quantized":
        return None if name.startswith((*PACKED, "lstm", "gru", "rnn")) else 0
    known = func.namespace in ("aten", "prim", "prims") and (
        name in _ELEMENTWISE or not _MULTIPLIES.search(name)
    )
    return 0 if known or func.is_view else None


def geometry(func, args: tuple) -> tuple[Shape, Shape, Shape, int] | None:
    """(kernel, stride, padding, groups) of a convolution or pooling."""
    convolution = convolution_of(func, args)
    if convolution is not None:
        _, weight, _, stride, padding, _, _, _, groups = convolution
        axes = weight.ndim - 2
        return tuple(weight.shape[2:]), spread(stride, axes), spread(padding, axes), groups
    pool = pool_geometry(func, args)
    return None if pool is None else (*pool[:3], 1)
