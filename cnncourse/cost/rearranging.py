"""What the output of an operation sees that only moves values: a view, a roll, a shuffle.

Straight lines stay straight through most of them. Arrays of pixel numbers are moved by the operation itself, as small
as it allows: axes on which nothing depends stay at size 1 where they are not merged with others.
"""

from __future__ import annotations

import math

import torch

from cnncourse.cost.copies import tensors
from cnncourse.cost.fields import (
    EXACT,
    LARGEST,
    NOTHING,
    Field,
    Line,
    Seen,
    Shape,
    Spread,
    State,
    arrays,
    simplest,
    window,
)

_RESHAPES = {
    "view", "_unsafe_view", "reshape", "_reshape_copy", "view_copy", "squeeze", "unsqueeze",
}  # fmt: skip
_SAME_POSITIONS = {"expand", "detach", "alias"}
_ORDERS = {"permute", "permute_copy", "transpose", "t"}
_WITHIN_AXES = _ORDERS | {"flip", "roll"}  # sizes of 1 stay 1
_ALONG_AN_AXIS = {"slice", "select", "split", "split_with_sizes", "unbind", "chunk", "unfold"}


def rearranged(
    func, name: str, args: tuple, kwargs: dict, states: dict[int, State], out: Shape
) -> Field | list[Field] | None:
    """What the outputs see, the first of which has the shape `out`; None: unknown."""
    x = args[0] if args and isinstance(args[0], torch.Tensor) else None
    field = states.get(id(x)) if x is not None else None
    if isinstance(field, tuple):
        shape = tuple(x.shape)
        quick = None
        if name in ("index", "index_select"):
            quick = _chosen(name, args, field, shape, out)
        elif all(isinstance(seen, Line) for seen in field):
            quick = _kept_lines(name, args, field, shape, out)
        if quick is None and len(states) == 1:
            quick = _moved(func, name, args, kwargs, field, shape, out)
        if quick is not None:
            return quick
    return _made_whole(func, args, kwargs, states)


def arguments_by_name(func, args: tuple, kwargs: dict) -> dict:
    """The arguments of an operation by name."""
    return (
        dict(zip((argument.name for argument in func._schema.arguments), args, strict=False))
        | kwargs
    )


def _kept_lines(name: str, args: tuple, field: Field, shape: Shape, out: Shape) -> Field | None:
    """Straight lines through a rearrangement that keeps them straight; None: the arrays must tell."""
    axes = len(shape)

    def renamed(where) -> Field:
        return tuple(
            seen if seen.dim is None else Line(where(seen.dim), seen.first, seen.last, seen.step)
            for seen in field
        )

    dims = [seen.dim for seen in field if seen.dim is not None]
    if name in ("view", "_unsafe_view", "reshape", "expand", "detach", "alias", "repeat"):
        kept = -min(dims, default=0)
        return field if out[len(out) - kept :] == shape[axes - kept :] else None
    if name == "permute":
        order = [d % axes for d in args[1]]
        return renamed(lambda d: order.index(d % axes) - axes)
    if name in ("transpose", "t"):
        a, b = (args[1] % axes, args[2] % axes) if name == "transpose" else (0, axes - 1)
        return renamed(lambda d: {a: b, b: a}.get(d % axes, d % axes) - axes)
    if name == "unsqueeze":
        new = args[1] % (axes + 1) - axes - 1  # counted from the end of the output
        return renamed(lambda d: d - 1 if d <= new else d)
    if name == "select" and args[1] % axes - axes not in dims:
        gone = args[1] % axes - axes
        return renamed(lambda d: d + 1 if d < gone else d)
    if name == "slice":
        dim = (args[1] if len(args) > 1 else 0) % axes - axes
        start = (args[2] if len(args) > 2 else None) or 0
        start = max(start + shape[dim], 0) if start < 0 else start
        step = args[4] if len(args) > 4 else 1
        return tuple(window(seen, dim, out[dim], 1, step, -start, 1) for seen in field)
    return None


def _chosen(name: str, args: tuple, field: Field, shape: Shape, out: Shape) -> Field | None:
    """Positions chosen by a list along one axis on which nothing depends: which they are does not matter."""
    if name == "index_select":
        axes = [args[1]]
    else:
        axes = [n for n, index in enumerate(args[1]) if index is not None]
    if len(axes) != 1 or len(out) != len(shape):
        return None
    dim = axes[0] % len(shape) - len(shape)
    for seen in field:
        varies = (
            seen.dim == dim
            if isinstance(seen, Line)
            else dim >= -seen.first.ndim and seen.first.shape[dim] > 1
        )
        if varies:
            return None
    return field


def _moved(
    func, name: str, args: tuple, kwargs: dict, field: Field, shape: Shape, out: Shape
) -> Field | list[Field] | None:
    """One tensor rearranged, its arrays as small as they can stay; None: not by these operations."""
    results = []
    for seen in field:
        ends = [_end_moved(x, func, name, args, kwargs, shape, out) for x in arrays(seen, shape)]
        if None in ends:
            return None
        settled = isinstance(seen, Spread) and name in _ORDERS  # in another order it is no simpler
        if isinstance(seen, Line) and name in _RESHAPES:  # nor is a line that was cut
            settled = sum(size > 1 for size in ends[0][0].shape) > 1
        form = Spread if settled else simplest
        results.append([form(*pair) for pair in zip(*ends, strict=True)])
    fields = [tuple(axis[n] for axis in results) for n in range(len(results[0]))]
    return fields if len(fields) > 1 else fields[0]


def _end_moved(
    end: torch.Tensor, func, name: str, args: tuple, kwargs: dict, shape: Shape, out: Shape
) -> list[torch.Tensor] | None:
    """The first or last pixels `end`, whose axes of size 1 stand for those of `shape`, of each output."""
    if name in _SAME_POSITIONS:
        return [end]
    if name == "view_as_real":  # (...) to (..., 2)
        return [end.unsqueeze(-1)]
    if name in _RESHAPES and math.prod(shape) == math.prod(out) > 0:
        return _reshaped(end, shape, out)
    given = arguments_by_name(func, args, kwargs)
    if name in _WITHIN_AXES and (name != "roll" or given.get("dims")):
        return [func(end, *args[1:], **kwargs)]
    if name in _ALONG_AN_AXIS:
        dim = given.get("dim", given.get("dimension", 0)) % len(shape)
        sizes = [-1] * len(shape)
        sizes[dim] = shape[dim]
        return tensors(func(end.expand(sizes), *args[1:], **kwargs))
    return None


def _reshaped(end: torch.Tensor, shape: Shape, out: Shape) -> list[torch.Tensor] | None:
    """`end`, whose axes of size 1 stand for those of `shape`, in the shape `out` of as many values, likewise."""
    whole, new = list(end.shape), [1] * len(out)
    i = j = 0
    while i < len(shape) and j < len(out):  # the next axes with the same values before and after
        left, right, before, after = i, j, shape[i], out[j]
        i, j = i + 1, j + 1
        while before != after:
            if before < after:
                before, i = before * shape[i], i + 1
            else:
                after, j = after * out[j], j + 1
        if any(size > 1 for size in end.shape[left:i]):
            whole[left:i], new[right:j] = shape[left:i], out[right:j]
    return [end.expand(whole).reshape(new)] if math.prod(whole) <= LARGEST else None


def _made_whole(
    func, args: tuple, kwargs: dict, states: dict[int, State]
) -> Field | list[Field] | None:
    """What the outputs of any rearrangement see: the same is done to arrays of pixel numbers, one for each value."""
    given = tensors((args, kwargs))
    axes = max(len(state) for state in states.values() if isinstance(state, tuple))
    if any(isinstance(x, torch.dtype) for x in args):  # view(dtype): bits, not numbers
        return None
    whole = [x for x in given if not x.is_floating_point() and states[id(x)] == NOTHING]  # indices
    if any(x.is_meta for x in whole) or sum(x.numel() for x in given) > LARGEST:
        return None
    results: list[list[Seen]] = []
    for a in range(axes):
        pair = []
        for end in (0, 1):
            swapped = {}
            for x in given:
                state, shape = states[id(x)], tuple(x.shape)
                if isinstance(state, tuple):
                    swapped[id(x)] = arrays(state[a], shape)[end].expand(shape)
                elif not any(x is index for index in whole):
                    empty = -math.inf if end else math.inf
                    swapped[id(x)] = torch.full((), empty, dtype=EXACT, device="cpu").expand(shape)
            made = _done(func, args, kwargs, swapped)
            if made is None:  # perhaps a view that the layout of our arrays does not allow
                made = _done(
                    func, args, kwargs, {key: x.contiguous() for key, x in swapped.items()}
                )
            if made is None:
                return None
            pair.append(list(made) if isinstance(made, (tuple, list)) else [made])
        results.append([simplest(low, high) for low, high in zip(*pair, strict=True)])
    return [tuple(axis[n] for axis in results) for n in range(len(results[0]))]


def _done(func, args: tuple, kwargs: dict, swapped: dict[int, torch.Tensor]) -> object:
    """The operation on our arrays; None where it refuses them, such as what wants complex numbers."""
    try:
        return func(*_swap(args, swapped), **_swap(kwargs, swapped))
    except RuntimeError:
        return None


def _swap(value: object, swapped: dict[int, torch.Tensor]) -> object:
    """The same nest of arguments with arrays of ours in place of tensors."""
    if isinstance(value, torch.Tensor):
        return swapped.get(id(value), value)
    if isinstance(value, (tuple, list)):
        return type(value)(_swap(x, swapped) for x in value)
    if isinstance(value, dict):
        return {key: _swap(x, swapped) for key, x in value.items()}
    return "cpu" if isinstance(value, torch.device) else value
