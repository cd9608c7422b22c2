"""What the output of one torch operation sees of the image, from what its inputs see.

The operation that moves values moves the arrays of pixel numbers likewise. What an operation outside the tables below
lets through is `UNKNOWN`; nothing passes as harmless because it is new.
"""

from __future__ import annotations

import math

import torch

from cnncourse.cost.fields import (
    LARGEST,
    NOTHING,
    UNKNOWN,
    Field,
    Line,
    Seen,
    Shape,
    Spread,
    State,
    adaptive,
    arrays,
    is_constant,
    joined,
    looked_up,
    reduced,
    resized,
    simplest,
    transposed,
    union,
    union_of_constants,
    window,
)
from cnncourse.cost.quantised import convolution_of
from cnncourse.cost.rearranging import arguments_by_name, rearranged

# Statistics over positions are left out, as the papers do: a normalisation counts as pointwise.
_POINTWISE = {
    "clone", "copy", "_to_copy", "detach", "alias", "lift_fresh", "lift", "dropout", "native_dropout",
    "batch_norm", "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
    "_batch_norm_with_update", "_batch_norm_no_update", "cudnn_batch_norm", "native_layer_norm", "native_group_norm",
    "_fused_rms_norm", "rrelu_with_noise", "prelu", "_prelu_kernel", "bernoulli", "tril", "triu", "contiguous",
    "quantize_per_tensor", "quantize_per_tensor_dynamic", "quantize_per_channel", "dequantize", "int_repr",
    "_to_dense",
    "hardswish",
    "hardsigmoid", "hardtanh", "log_sigmoid_forward", "rsub", "special_erf", "polar", "complex",
    "fake_quantize_per_tensor_affine_cachemask", "threshold", "glu_jvp", "isnan", "cumsum_backward",
}  # fmt: skip
_REDUCTIONS = {
    "mean", "sum", "nansum", "prod", "amax", "amin", "max", "min", "aminmax", "var", "std", "var_mean", "std_mean",
    "logsumexp", "norm", "linalg_vector_norm", "any", "all", "argmax", "argmin", "median", "count_nonzero",
}  # fmt: skip
_ALONG_ONE_AXIS = {
    "_softmax",
    "_safe_softmax",
    "_log_softmax",
    "cumsum",
    "cumprod",
    "logcumsumexp",
    "glu",
}  # the shape stays, or halves
_REARRANGE = {
    "cat", "stack", "flip", "roll", "rot90", "repeat", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
    "native_channel_shuffle", "index_select", "index", "gather", "take", "_unsafe_view", "_reshape_copy", "view_copy",
    "permute_copy", "slice_scatter", "select_scatter", "unfold", "as_strided",
}  # fmt: skip
_PADS = {f"{kind}_pad{axes}d" for kind in ("reflection", "replication") for axes in (1, 2, 3)} | {
    "constant_pad_nd"
}
_PRODUCTS = {
    "mm": 0,
    "bmm": 0,
    "addmm": 1,
    "baddbmm": 1,
    "mv": 0,
    "addmv": 1,
    "dot": 0,
    "_int_mm": 0,
}
_WITHOUT_INPUT = {
    "empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like", "randint_like",
    "new_empty", "new_zeros", "new_ones", "new_full", "new_empty_strided", "zero", "fill", "normal", "uniform",
}  # fmt: skip


def plain_name(func) -> str:
    """The name of an operation without the underscore of its in-place form: relu for aten.relu_."""
    return func._overloadpacket.__name__.rstrip("_")


def ignores_its_input(func) -> bool:
    """Whether an operation takes only the shape of a tensor, not its values: zeros_like, fill_."""
    return plain_name(func) in _WITHOUT_INPUT


def through(
    func,
    args: tuple,
    kwargs: dict,
    given: list[torch.Tensor],
    outputs: list[torch.Tensor],
    states: dict[int, State],
) -> list[State]:
    """The state of every output of an operation, from the states of its inputs (by id; others see nothing)."""
    if plain_name(func) in _WITHOUT_INPUT:
        return [NOTHING] * len(outputs)
    states = {id(x): states.get(id(x), NOTHING) for x in given}
    if UNKNOWN in states.values():
        return [UNKNOWN] * len(outputs)
    fields = [s for s in states.values() if isinstance(s, tuple)]
    if not fields:
        return [None if None in states.values() else NOTHING] * len(outputs)
    axes = max(len(f) for f in fields)
    if min(len(f) for f in fields) != axes:
        return [UNKNOWN] * len(outputs)
    read = [(states[id(x)], tuple(x.shape)) for x in given if isinstance(states[id(x)], tuple)]
    if all(
        is_constant(seen) for f in fields for seen in f
    ):  # an operation cannot see more than its inputs do
        return [tuple(union([(f[a], ()) for f, _ in read]) for a in range(axes))] * len(outputs)
    found: list[State] = []
    several = _one_axis_at_a_time(func, args, kwargs, outputs, states, read, axes)
    if several is None:
        return [UNKNOWN] * len(outputs)
    for n, out in enumerate(outputs):
        seen = several[n] if isinstance(several, list) else several
        fits = isinstance(several, list) or out.shape == outputs[0].shape
        found.append(seen if fits else NOTHING)  # the others are statistics and indices
    return found


def _one_axis_at_a_time(
    func, args, kwargs, outputs, states, read, axes
) -> Field | list[Field] | None:
    name, out = plain_name(func), tuple(outputs[0].shape) if outputs else ()
    x = args[0] if args and isinstance(args[0], torch.Tensor) else None
    first = states.get(id(x)) if x is not None else None
    shape = tuple(x.shape) if x is not None else ()
    fields = [
        [(f[a], s) for f, s in read] for a in range(axes)
    ]  # for each axis of the image, every input

    if torch.Tag.pointwise in func.tags or name in _POINTWISE:
        return tuple(union(parts) for parts in fields)
    convolution = convolution_of(func, args)
    if convolution is not None:
        return _convolved(convolution, first, shape, out) if isinstance(first, tuple) else None
    geometry = pool_geometry(func, args)
    if geometry is not None:
        return tuple(_all_windows(seen, out, *geometry) for seen in first)
    if name.startswith(("_adaptive_avg_pool", "adaptive_max_pool", "adaptive_avg_pool")):
        resize = [(d, adaptive(shape[d], out[d])) for d in range(-_axes_of(args[1]), 0)]
        return tuple(_each(seen, resize) for seen in first)
    if name.startswith(("upsample", "_upsample")):
        resize = [
            (d, _interpolation(func, args, kwargs, shape, out, d)) for d in range(2 - len(shape), 0)
        ]
        return tuple(_each(seen, resize) for seen in first)
    if name in _PADS:
        pad = args[1]  # (left, right) from the last axis on
        moved = first
        for n in range(len(pad) // 2):
            moved = tuple(window(seen, -1 - n, out[-1 - n], 1, 1, pad[2 * n], 1) for seen in moved)
        return moved
    if name == "im2col":
        return _im2col(args, first, shape)
    if name in _PRODUCTS:
        left, right = args[_PRODUCTS[name]], args[_PRODUCTS[name] + 1]
        return _product(left, right, states, axes, fields, args[0] if _PRODUCTS[name] else None)
    if name in _REDUCTIONS:
        dims, keep = _dims(func, args, kwargs, len(shape))
        return tuple(reduced(seen, shape, dims, keep) for seen in first)
    if name == "view_as_complex":  # (..., 2) to (...)
        return tuple(reduced(seen, shape, (-1,), False) for seen in first)
    if name in _ALONG_ONE_AXIS:
        dim = args[1] if len(args) > 1 else kwargs.get("dim", -1)
        return tuple(reduced(seen, shape, (dim - len(shape) * (dim >= 0),), True) for seen in first)
    if name == "cat":
        dim = args[1] if len(args) > 1 else kwargs.get("dim", 0)
        parts = [(states[id(x)], tuple(x.shape)) for x in args[0] if x.numel()]
        dim -= len(out) * (dim >= 0)
        nothing = Line(None, math.inf, -math.inf)
        each = [
            [(f[a] if isinstance(f, tuple) else nothing, s) for f, s in parts] for a in range(axes)
        ]
        return tuple(joined(given, dim) for given in each)
    if func.is_view or name in _REARRANGE:
        return rearranged(func, name, args, kwargs, states, out)
    if func.namespace == "quantized" and not name.startswith(("conv", "linear")):
        return tuple(union(parts) for parts in fields)
    if name.startswith("linear") and func.namespace == "quantized":
        return tuple(reduced(seen, shape, (-1,), True) for seen in first)
    if "rnn" in name or "attention" in name or name in ("_trilinear", "_cdist_forward"):
        return tuple(
            union_of_constants([reduced(seen, s, range(-len(s), 0), False) for seen, s in parts])
            for parts in fields
        )
    return None


def _axes_of(sizes: object) -> int:
    return len(sizes) if isinstance(sizes, (tuple, list)) else 1


def spread(value: object, axes: int) -> Shape:
    """`value` for each of `axes` axes: 3 -> (3, 3)."""
    value = (value,) if isinstance(value, int) else tuple(value)
    return value * axes if len(value) == 1 else value


def pool_geometry(func, args: tuple) -> tuple[Shape, Shape, Shape, Shape] | None:
    """(kernel, stride, padding, dilation) of a pooling, one number an axis; None for other operations."""
    name = plain_name(func).removeprefix("quantized_")
    if not name.startswith(("max_pool", "avg_pool")) or func.namespace not in ("aten", "quantized"):
        return None
    axes = next(
        (
            n
            for n in (1, 2, 3)
            if name in (f"max_pool{n}d_with_indices", f"max_pool{n}d", f"avg_pool{n}d")
        ),
        0,
    )
    if not axes:
        return None
    kernel = spread(args[1], axes)
    stride = spread(args[2], axes) if len(args) > 2 and args[2] else kernel
    padding = spread(args[3], axes) if len(args) > 3 else (0,) * axes
    dilation = spread(args[4], axes) if len(args) > 4 and "max" in name else (1,) * axes
    return kernel, stride, padding, dilation


def _all_windows(
    seen: Seen, out: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape
) -> Seen:
    for n, geometry in enumerate(zip(kernel, stride, padding, dilation, strict=True)):
        dim = n - len(kernel)
        seen = window(seen, dim, out[dim], *geometry)
    return seen


def _convolved(args: tuple, field: Field, shape: Shape, out: Shape) -> Field:
    weight, spreads, groups = args[1], args[6], args[8]  # spreads: transposed
    axes = weight.ndim - 2
    kernel = tuple(weight.shape[2:])
    stride, padding, dilation = (spread(args[n], axes) for n in (3, 4, 5))
    channel = -axes - 1
    result = []
    for seen in field:
        if groups == 1 or isinstance(seen, Line) and seen.dim == channel:
            seen = reduced(seen, shape, (channel,), True)
        elif isinstance(seen, Spread) and not groups == shape[channel] == out[channel]:
            seen = _over_channels(seen, shape, channel, groups, out[channel])
        if spreads:
            for n in range(axes):
                dim = n - axes
                seen = transposed(
                    seen, dim, out[dim], kernel[n], stride[n], padding[n], dilation[n]
                )
        else:
            seen = _all_windows(seen, out, kernel, stride, padding, dilation)
        result.append(seen)
    return tuple(result)


def _over_channels(seen: Spread, shape: Shape, channel: int, groups: int, channels: int) -> Seen:
    """A sum over the channels of each group, once for every channel that comes out."""
    if seen.first.ndim < -channel or seen.first.shape[channel] == 1:
        return seen
    first, last = (x.unflatten(channel, (groups, -1)) for x in arrays(seen, shape))
    first, last = first.amin(channel, keepdim=True), last.amax(channel, keepdim=True)
    times = channels // groups
    sizes = [-1] * first.ndim
    sizes[channel] = times
    first, last = (
        x.expand(sizes).flatten(first.ndim + channel - 1, first.ndim + channel)
        for x in (first, last)
    )
    return simplest(first, last, seen.pace)


def _each(seen: Seen, resize: list[tuple]) -> Seen:
    for dim, (taps, absent, period) in resize:
        seen = looked_up(seen, dim, taps, absent, period)
    return seen


def _interpolation(func, args: tuple, kwargs: dict, shape: Shape, out: Shape, dim: int) -> tuple:
    """`resized` along one axis, from the arguments of torch's upsample functions."""
    given = arguments_by_name(func, args, kwargs)
    scales = given.get("scale_factors") or [given.get(f"scales_{axis}") for axis in "dhw"]
    if "scales" in given:  # of a sequence
        scales = [given["scales"]]
    scale = scales[dim] if -dim <= len(scales) else None
    name = func._overloadpacket.__name__
    return resized(name, shape[dim], out[dim], scale, bool(given.get("align_corners")))


def _im2col(args: tuple, field: Field, shape: Shape) -> Field | None:
    """Patches as columns, (N, C·kh·kw, patches); the border is extended before it is cut."""
    _, kernel, dilation, padding, stride = args
    if math.prod(shape) * math.prod(kernel) > LARGEST:
        return None
    result = []
    grown = (*shape[:-2], *(shape[d] + 2 * padding[d] for d in (-2, -1)))
    for seen in field:
        for d in (-2, -1):
            seen = window(seen, d, grown[d], 1, 1, padding[d], 1)
        both = [x.expand(grown) for x in arrays(seen, grown)]
        both = [torch.ops.aten.im2col(x, kernel, dilation, (0, 0), stride) for x in both]
        result.append(simplest(*both))
    return tuple(result)


def _product(left, right, states, axes, fields, added) -> Field:
    """A matrix product: row i of the left and column j of the right, whole."""
    result = []
    for a in range(axes):
        parts = []
        for x, dim in ((left, -1), (right, -2 if right.ndim > 1 else -1)):
            state = states.get(id(x))
            if isinstance(state, tuple):
                keep = right.ndim > 1
                seen = reduced(state[a], tuple(x.shape), (dim,), keep)
                cut = [n for d, n in enumerate(x.shape, -x.ndim) if d != dim or keep]
                if keep:
                    cut[dim] = 1
                parts.append((seen, tuple(cut)))
        if added is not None and isinstance(states.get(id(added)), tuple):
            parts.append((states[id(added)][a], tuple(added.shape)))
        result.append(union(parts or fields[a]))
    return tuple(result)


def _dims(func, args: tuple, kwargs: dict, axes: int) -> tuple[list[int], bool]:
    """The axes over which a reduction runs, counted from the end, and whether they stay with size 1."""
    given = arguments_by_name(func, args, kwargs)
    dims = given.get("dim")
    if dims is None or dims == []:
        dims = range(axes)
    dims = [dims] if isinstance(dims, int) else list(dims)
    return [d - axes * (d >= 0) for d in dims], bool(given.get("keepdim"))
