"""What a network costs: shapes, parameters, multiply-adds, activation memory, receptive fields, layer by layer.

The network runs once on the meta device, so nothing is computed and no weight is allocated. Modules are seen
through forward hooks, everything between them through torch's own dispatch: an addition is a row like any other.

Convention. One multiply-add is one multiplication whose product is added up: convolutions, linear layers, matrix
products, attention and recurrent cells have them. Biases, pooling, normalisation, activations and additions are
not counted; this is how the papers and torchvision's published GFLOPS count. Activation memory is what a layer
newly allocates for its output; views and results in place are free. All numbers are for one image.
A receptive field is what an output value can see through windows and sums, the largest of all positions; statistics
of normalisations are left out. What an operation costs or lets through that we do not know is shown as "?".
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch
from torch import nn

from cnncourse.cost.copies import CannotRunOnMeta, borrowed, meta_form, same_random_stream
from cnncourse.cost.inputs import Inputs, on_device, read, with_batch_axis
from cnncourse.cost.rows import Row, Table, size_text
from cnncourse.cost.tracing import trace
from cnncourse.errors import CourseError, MachineError, ParameterError, ShapeError

__all__ = ["Row", "Table", "table"]


def table(model: nn.Module, input_shape: object, *, training: bool = False) -> Table:
    """The cost of every layer of `model` for one input of `input_shape`, (C, H, W) without the batch.

    >>> costs = cost.table(torchvision.models.alexnet(), (3, 224, 224))
    >>> costs.parameters, costs.multiply_adds
    (61100840, 714188480)

    Several inputs: a list of shapes. Inputs that are not float images, such as token numbers: a tensor with its
    batch. Shapes and tensors may stand side by side in a list, in a dict by the names that forward gives them, or in
    a nest if forward takes one. Where layers read the sequence first, the images lie on axis 1; all others on axis 0.

    The model is traced in evaluation mode, or with ``training=True`` as it trains (auxiliary heads run). It may live
    on the meta device, and is left as it was, as are random streams; your forward hooks do not run.
    A network that looks at the values of a tensor to decide what it runs is traced with zeros on its own device.

    Raises `ParameterError` for something that is no module or has parts that cannot be followed (TorchScript,
    higher-order operators), `ShapeError` for a shape the network cannot take, naming the layer that refused it, and
    `MachineError` where values decide and the weights are on the meta device. Warns of operations that it cannot
    count: their rows show "?", and `Table.uncounted` holds them.
    """
    model = _module(model)
    inputs = read(model, input_shape)
    with same_random_stream(model):
        inputs = with_batch_axis(model, inputs)
        try:
            costs = _for_one_image(model, inputs, training)
        except ShapeError as error:
            _answer_a_batch(model, input_shape, training, error)
            raise
    if costs.uncounted:
        names = ", ".join(f"{row.label} ({row.kind})" for row in costs.uncounted[:5])
        warnings.warn(
            f"cost.table cannot count the multiply-adds of {names}: they are missing", stacklevel=2
        )
    return costs


def _module(model: object) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise ParameterError(
            "a torch.nn.Module",
            f"{type(model).__name__} {str(model)[:60]!r}",
            where="argument model of cost.table",
            remedy="pass the built network, such as models.build('resnet18')",
        )
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        model = model.module
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ParameterError(
                "a network of Python modules",
                f"TorchScript, {type(module).__name__}, whose layers cannot be followed",
                where=f"layer {name}" if name else "argument model of cost.table",
                remedy="pass the network as it was before torch.jit.script or torch.jit.trace",
            )
    return model


def _for_one_image(model: nn.Module, inputs: Inputs, training: bool) -> Table:
    """Traces for one image; as it trains for two and for four, since BatchNorm refuses a single one."""
    given = inputs.images
    if not training:
        if given in (None, 1):
            return _traced(model, inputs, 1, training)
        try:
            return _traced(model, inputs, 1, training)
        except CourseError:  # some tensor does not follow the batch: as given, and divided
            costs = _traced(model, inputs, given, training)
            return _per_image(costs, costs, given)
    count = max(given or 2, 2)
    first = _traced(model, inputs, count, training)
    try:
        return _per_image(first, _traced(model, inputs, 2 * count, training), count)
    except CourseError:
        return _per_image(first, first, count)


def _per_image(costs: Table, twice: Table, count: int) -> Table:
    """One image's share: what grows with the images, and what does not (products of weights alone)."""
    same = costs is twice or [row.name for row in costs] != [row.name for row in twice]

    def share(now: int, then: int) -> int:
        if same:
            return now // count
        each = (then - now) / count
        return round(now - each * (count - 1))

    rows = []
    for row, more in zip(costs.rows, costs.rows if same else twice.rows, strict=True):
        adds = share(row.multiply_adds, more.multiply_adds)
        size = share(row.activation_bytes, more.activation_bytes)
        rows.append(replace(row, multiply_adds=adds, activation_bytes=size))
    return replace(costs, rows=tuple(rows), input_bytes=share(costs.input_bytes, twice.input_bytes))


def _traced(model: nn.Module, inputs: Inputs, count: int, training: bool) -> Table:
    """The table of `count` images together: on the meta device, or with zeros where values decide."""
    args, kwargs = inputs.tensors(count)
    try:
        with meta_form(model, training) as shadow:
            return trace(
                shadow,
                on_device(args, "meta"),
                on_device(kwargs, "meta"),
                "meta",
                inputs.axis,
                count,
            )
    except CannotRunOnMeta as error:
        if any(p.is_meta for p in model.parameters()):
            raise MachineError(
                "a network that runs without knowing values",
                error.__cause__,
                where=error,
                remedy="build it with real weights: values decide what it runs",
            ) from error.__cause__
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with borrowed(model, training):
        return trace(
            model, on_device(args, device), on_device(kwargs, device), device, inputs.axis, count
        )


def _answer_a_batch(model: nn.Module, shape: object, training: bool, error: ShapeError) -> None:
    """Raise what to type if a shape was refused that fits without its first number, the batch."""
    whole = (
        isinstance(shape, (tuple, list))
        and len(shape) > 2
        and all(isinstance(n, int) for n in shape)
    )
    if not whole:
        return
    try:
        _for_one_image(model, read(model, shape[1:]), training)
    except CourseError:
        return
    raise ShapeError(
        "a shape without the batch",
        size_text(tuple(shape)),
        where=error.where,
        remedy=f"leave out the batch: {tuple(shape[1:])}",
    ) from error
