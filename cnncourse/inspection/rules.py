"""Passes in which ReLU, or all that hides a pixel, is replaced: guided and deconvnet gradients, receptive fields."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cnncourse.errors import ParameterError
from cnncourse.inspection.passing import watched

RELUS = (F.relu, torch.relu, Tensor.relu, torch.relu_, Tensor.relu_)


class _Rectified(torch.autograd.Function):
    """min(max(x, 0), upper), whose backward pass lets positive values through: guided, only where x was within."""

    @staticmethod
    def forward(ctx, x: Tensor, upper: float, guided: bool) -> Tensor:
        ctx.save_for_backward((x > 0) & (x < upper) if guided else None)
        return x.clamp(0, upper)

    @staticmethod
    def backward(ctx, slope: Tensor):
        (within,) = ctx.saved_tensors
        slope = slope.clamp(min=0)
        return slope if within is None else slope * within, None, None


class Rule(TorchFunctionMode):
    """Every ReLU and ReLU6 of a pass, module or function, runs as `_Rectified`; `met` counts them."""

    def __init__(self, rule: str):
        super().__init__()
        self.guided, self.met = rule == "guided", 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        upper = self.upper(func, args, kwargs)
        if upper is None:
            return func(*args, **kwargs)
        self.met += 1
        x = args[0] if args else kwargs["input"]
        made = _Rectified.apply(x, upper, self.guided)
        place = {F.relu: 1, F.relu6: 1, F.hardtanh: 3}.get(func, len(args))  # of `inplace`
        inplace = kwargs.get("inplace", len(args) > place and args[place])
        return x.copy_(made) if inplace or func.__name__.endswith("_") else made

    @staticmethod
    def upper(func, args: tuple, kwargs: dict) -> float | None:
        """The upper bound of a ReLU (infinity) or ReLU6; None for every other function."""
        if func in RELUS:
            return float("inf")
        if func is F.relu6:
            return 6.0
        if func in (F.hardtanh, torch._C._nn.hardtanh_):  # nn.ReLU6 is one with the bounds 0 and 6
            low, high = (*args[1:3], -1.0, 1.0)[:2] if len(args) != 2 else (args[1], 1.0)
            low, high = kwargs.get("min_val", low), kwargs.get("max_val", high)
            return float(high) if low == 0 else None
        return None


class Windows(TorchFunctionMode):
    """A pass that depends on every pixel in its windows: nothing is cut off or normalised, and averages are maxima."""

    through = (*RELUS, F.relu6, F.hardtanh, F.hardsigmoid, F.hardswish, F.leaky_relu, F.elu)
    through += (F.batch_norm, F.instance_norm, F.group_norm, F.layer_norm, F.local_response_norm)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if func in self.through:
            return args[0] if args else kwargs["input"]
        if name == "max_pool2d":
            return self.average(*args, **kwargs)
        if name == "adaptive_max_pool2d":
            return F.adaptive_avg_pool2d(args[0], args[1])
        if "max_pool" in name:
            raise ParameterError(
                "max-pooling of pictures without return_indices",
                name,
                where="the receptive field in inspection.top_patches",
                remedy="choose a layer of a network without it",
            )
        return func(*args, **kwargs)

    @staticmethod
    def average(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, **_) -> Tensor:
        kernel, step = (
            side if isinstance(side, tuple) else (side,) * 2 for side in (kernel_size, dilation)
        )
        window = tuple(d * (k - 1) + 1 for k, d in zip(kernel, step, strict=True))
        return F.avg_pool2d(x, window, stride or kernel, padding, ceil_mode)


def receptive_fields(
    network: nn.Module, image: Tensor, layer: str, channel: int, where: str
) -> Callable[[int, int], tuple[int, int, int, int]]:
    """(row, column) of a layer's map to (top, bottom, left, right) of the pixels it can see, the ends excluded.

    They are the support of the gradient in a copy whose weights are all positive. image: (1, C, H, W).
    """
    positive = copy.deepcopy(network).double()  # the gradient at a field's corner is small
    with torch.no_grad():
        for name, weight in positive.named_parameters():
            weight.fill_(0 if name.endswith("bias") else 1 / max(1, weight[0].numel()))
    pixels = torch.ones_like(image, dtype=torch.float64).requires_grad_()
    with torch.enable_grad(), watched(positive, [layer], where) as seen, Windows():
        positive(pixels.clone())
    maps = seen[layer]
    known: dict[tuple[int, int], tuple[int, int, int, int]] = {}

    def field(row: int, column: int) -> tuple[int, int, int, int]:
        if (row, column) not in known:
            value = maps[0, channel] if maps.ndim == 2 else maps[0, channel, row, column]
            (slope,) = torch.autograd.grad(value, pixels, retain_graph=True)
            met = slope[0].abs().sum(0) > 0
            rows, columns = (met.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
            known[row, column] = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        return known[row, column]

    return field
