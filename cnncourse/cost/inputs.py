"""What a network is given: shapes and tensors in the forms that `table` takes, for one image or several."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from cnncourse.cost.copies import CannotRunOnMeta, meta_form
from cnncourse.errors import ShapeError

WHERE = "argument input_shape of cost.table"
SEQUENCE_LAYERS = (nn.RNNBase, nn.MultiheadAttention)  # those with batch_first


@dataclass(frozen=True)
class _Shape:
    """A shape without the batch, in the place where its tensor will stand."""

    sizes: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Inputs:
    """The arguments of forward as nests of tensors and shapes, and the axis on which the images lie."""

    args: tuple
    kwargs: dict
    axis: int = 0

    @property
    def images(self) -> int | None:
        """How many images the given tensors hold; None where there are only shapes."""
        sizes = [
            x.shape[self.axis]
            for x in self.leaves()
            if isinstance(x, torch.Tensor) and x.ndim > self.axis
        ]
        return sizes[0] if sizes else None

    def leaves(self) -> list:
        found: list = []
        _mapped((self.args, self.kwargs), found.append)
        return found

    def tensors(self, count: int) -> tuple[tuple, dict]:
        """The arguments for `count` images: shapes become empty tensors, tensors are cut or repeated."""

        def one(x):
            if isinstance(x, _Shape):
                sizes = (*x.sizes[: self.axis], count, *x.sizes[self.axis :])
                return torch.empty(sizes, dtype=x.dtype, device="meta")
            if x.ndim <= self.axis or x.shape[self.axis] != self.images or count == self.images:
                return x
            return x.index_select(self.axis, torch.arange(count, device=x.device) % self.images)

        return _mapped(self.args, one), _mapped(self.kwargs, one)


def _mapped(value: object, change: Callable) -> object:
    """The same nest with `change` made to every tensor and shape."""
    if isinstance(value, (tuple, list)):
        return type(value)(_mapped(x, change) for x in value)
    if isinstance(value, dict):
        return {key: _mapped(x, change) for key, x in value.items()}
    return change(value)


def on_device(value: object, device: object) -> object:
    """The same nest with every tensor on `device`; zeros where there were no values."""

    def moved(x: torch.Tensor) -> torch.Tensor:
        if device == "meta":
            return x if x.is_meta else torch.empty_like(x, device="meta")
        return torch.zeros(x.shape, dtype=x.dtype, device=device) if x.is_meta else x.to(device)

    return _mapped(value, moved)


def read(model: nn.Module, given: object) -> Inputs:
    """The arguments of `model.forward` from what was given to `table`; raises `ShapeError` for what is neither."""
    weights = (p.dtype for p in model.parameters() if p.is_floating_point())
    dtype = next(weights, torch.get_default_dtype())

    def nest(value: object) -> object:
        if isinstance(value, torch.Tensor):
            return value
        if isinstance(value, np.ndarray) and value.ndim == 1:
            value = tuple(value)
        if _is_shape(value):
            return _Shape(tuple(int(n) for n in value), dtype)
        if isinstance(value, dict) and value:
            return {key: nest(x) for key, x in value.items()}
        if (
            isinstance(value, (tuple, list))
            and value
            and not any(isinstance(x, (int, float)) for x in value)
        ):
            return [nest(x) for x in value]
        raise ShapeError(
            "a shape of whole numbers above zero, such as (3, 224, 224)",
            repr(given),
            where=WHERE,
            remedy="give (channels, height, width), without the batch; for several inputs a list of shapes and "
            "tensors, for named ones a dict of them",
        )

    found = nest(given)
    if isinstance(found, dict):
        named = _parameters(model)
        inputs = Inputs((), found) if set(found) <= set(named) else Inputs((found,), {})
    else:
        inputs = Inputs(tuple(found), {}) if isinstance(found, list) else Inputs((found,), {})
    _check_number(model, inputs)
    return inputs


def _is_shape(value: object) -> bool:
    whole = isinstance(value, (tuple, list)) and all(_is_whole(n) and n > 0 for n in value)
    return whole and len(value) > 0


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _parameters(model: nn.Module) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(model.forward).parameters)
    except (TypeError, ValueError):  # written in C
        return {}


def _check_number(model: nn.Module, inputs: Inputs) -> None:
    parameters = _parameters(model)
    if not parameters:
        return
    try:
        inspect.signature(model.forward).bind(*inputs.args, **inputs.kwargs)
    except TypeError as error:
        free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        names = [
            name
            for name, p in parameters.items()
            if p.default is inspect.Parameter.empty and p.kind not in free
        ]
        many = "input" if len(names) == 1 else "inputs"
        raise ShapeError(
            f"the {len(names)} {many} that forward takes: {', '.join(names)}",
            f"{len(inputs.args) + len(inputs.kwargs)} ({error})",
            where=f"{WHERE}, {type(model).__name__}.forward",
            remedy="give a list with a shape or a tensor for each, [(3, 224, 224), torch.tensor([1])], or a dict of "
            "them by name",
        ) from error


# --- where the images lie -------------------------------------------------------------------------------------------


def with_batch_axis(model: nn.Module, inputs: Inputs) -> Inputs:
    """The inputs with the axis on which images lie: 1 where layers take the sequence first, as torch's do by default.

    Such a layer has its batch on axis 1; the axis of the input that moves it is the one on which images lie.
    Raises `ShapeError` if none does.
    """
    layers = [m for m in model.modules() if isinstance(m, SEQUENCE_LAYERS)]
    short = all(_axes(x) <= 2 for x in inputs.leaves())  # no images, whose batch is always in front
    if not layers or all(m.batch_first for m in layers) and not short:
        return inputs
    ran = False
    for axis in (0, 1):
        candidate = Inputs(inputs.args, inputs.kwargs, axis)
        if any(_axes(x) < axis for x in candidate.leaves()):
            continue
        received = [_received(model, layers, candidate, count) for count in (2, 3)]
        if None in received or len(received[0]) != len(received[1]):
            continue
        ran = True
        if all(_grew(a, b, on) for (a, on), (b, _) in zip(*received, strict=True)):
            return candidate
    if not ran:
        return inputs  # it does not run: the trace says why
    layer = next((m for m in layers if not m.batch_first), layers[0])
    kind, order = (
        type(layer).__name__,
        "(batch, sequence, features)" if layer.batch_first else "(sequence, batch, features)",
    )
    raise ShapeError(
        f"an input of which axis 0 or 1 counts the images, for {kind} reads {order}",
        ", ".join(
            str(tuple(getattr(x, "shape", getattr(x, "sizes", ())))) for x in inputs.leaves()
        ),
        where=f"{WHERE}, {type(model).__name__}",
        remedy=f"give a tensor with a batch axis, or build the {kind} with batch_first=True",
    )


def _grew(two: tuple[int, ...], three: tuple[int, ...], axis: int) -> bool:
    """Whether what a layer received for two and for three images differs so on its batch axis."""
    return len(two) == 3 and 3 * two[axis] == 2 * three[axis]


def _axes(x: object) -> int:
    return len(x.sizes) if isinstance(x, _Shape) else x.ndim - 1


def _received(
    model: nn.Module, layers: list[nn.Module], inputs: Inputs, count: int
) -> list[tuple] | None:
    """(shape, batch axis) of what sequence layers receive for `count` images; None if the network cannot run."""
    paths = {name for name, m in model.named_modules() if any(m is layer for layer in layers)}
    shapes: list[tuple] = []

    def note(module, args, kwargs):
        given = [*args, *kwargs.values()]
        shape = tuple(given[0].shape) if given and isinstance(given[0], torch.Tensor) else ()
        shapes.append((shape, 0 if module.batch_first else 1))

    try:
        with meta_form(model, False) as shadow:
            handles = [
                m.register_forward_pre_hook(note, with_kwargs=True)
                for name, m in shadow.named_modules()
                if name in paths
            ]
            try:
                args, kwargs = inputs.tensors(count)
                with torch.no_grad(), torch.device("meta"):
                    shadow(*on_device(args, "meta"), **on_device(kwargs, "meta"))
            finally:
                for handle in handles:
                    handle.remove()
    except (
        RuntimeError,
        ValueError,
        TypeError,
        IndexError,
        AssertionError,
        NotImplementedError,
        CannotRunOnMeta,
    ):
        return None
    return shapes
