"""What a network costs: shapes, parameters, multiply-adds, activation memory, receptive fields, layer by layer.

The network runs once on the meta device, so nothing is computed and no weight is allocated. Modules are seen
through forward hooks, everything between them through torch's own dispatch: an addition is a row like any other.

Convention. One multiply-add is one multiplication whose product is added up: convolutions, linear layers, matrix
products, attention and recurrent cells have them. Biases, pooling, normalisation, activations and additions are
not counted; this is how the papers and torchvision's published GFLOPS count. Activation memory is what a layer
newly allocates for its output; views and results in place are free. All numbers are for one image.
A receptive field is what an output value can see through windows and sums; statistics of a BatchNorm are left out.
"""

from __future__ import annotations

import copy
import html
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from cnncourse.errors import CourseError, MachineError, ParameterError, ShapeError, nearest

aten = torch.ops.aten
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One layer of a network, or one function call between layers; shapes are without the batch."""

    name: str  # the path of the module, "layer1.0.conv1", or of the module that called the function, "layer1.0.add"
    kind: str  # the class of the module, "Conv2d", or the name of the function, "add"
    output_shape: Shape | tuple[Shape, ...]  # several outputs: a tuple of shapes
    kernel: Shape | None = None
    stride: Shape | None = None
    padding: Shape | None = None
    groups: int = 1
    parameters: int = 0  # those first used here: shared weights count once
    multiply_adds: int = 0
    activation_bytes: int = 0
    receptive_field: Shape | None = (
        None  # input pixels, per axis, that one output value can see; None: no image axes
    )
    inputs: tuple[int, ...] = ()  # the rows whose outputs it reads; -1 is the input of the network
    is_module: bool = True
    is_view: bool = (
        False  # rearranges without computing: flatten, permute, dropout outside training
    )
    call: int = 1  # 2 for the second use of the same module
    note: str = ""

    @property
    def label(self) -> str:
        """The name, with the number of the call where one module is used several times."""
        return (
            self.name
            + (f" ({self.call})" if self.call > 1 else "")
            + (f" [{self.note}]" if self.note else "")
        )


@dataclass(frozen=True, repr=False)
class Table:
    """The rows of a network in the order of execution, with totals; prints as text and shows as HTML in a notebook."""

    rows: tuple[Row, ...]
    title: str
    input_shape: Shape | tuple[Shape, ...]
    input_bytes: int
    classes: dict[str, str] = field(
        default_factory=dict
    )  # module path to class, of every module; "" is the network

    @property
    def parameters(self) -> int:
        """The number of parameters, each counted once however often it is used."""
        return sum(row.parameters for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one image's forward pass."""
        return sum(row.multiply_adds for row in self.rows)

    @property
    def activation_bytes(self) -> int:
        """Bytes of the input and of all outputs of one image, as a training step keeps them."""
        return self.input_bytes + sum(row.activation_bytes for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> Table:
        """The part of the table that lies in one module: ``table["layer1"].multiply_adds``.

        Raises `ParameterError` for a name that no row has, naming the nearest.
        """
        rows = tuple(
            row for row in self.rows if row.name == name or row.name.startswith(f"{name}.")
        )
        if not rows:
            paths = [row.name.split(".") for row in self.rows]
            known = {".".join(path[:n]) for path in paths for n in range(1, len(path) + 1)}
            raise ParameterError(
                "the name of a layer or block of this network",
                repr(name),
                where=f"cost table of {self.title}",
                remedy=nearest(str(name), known),
            )
        return replace(self, rows=rows, title=f"{self.title}, {name}", input_bytes=0)

    def grouped(self, depth: int = 1) -> Table:
        """The same totals with one row for each module at `depth` dots: stages (1), blocks (2).

        >>> [row.name for row in table(torchvision.models.resnet18(), (3, 224, 224)).grouped()]
        ['conv1', 'bn1', 'relu', 'maxpool', 'layer1', 'layer2', 'layer3', 'layer4', 'avgpool', 'flatten', 'fc']
        """
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(".".join(row.name.split(".")[:depth]), []).append(row)
        return replace(
            self, rows=tuple(_sum(name, rows, self.classes) for name, rows in groups.items())
        )

    def __str__(self) -> str:
        lines = _cells(self)
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = []
        for line in lines:
            name, kind, *numbers = (
                cell.rjust(width) for cell, width in zip(line, widths, strict=True)
            )
            text.append(
                "  ".join(
                    [name.strip().ljust(widths[0]), kind.strip().ljust(widths[1]), *numbers]
                ).rstrip()
            )
        rule = "-" * max(map(len, text))
        head = f"{self.title} on {_shape(self.input_shape)}"
        return "\n".join([head, rule, text[0], rule, *text[1:-1], rule, text[-1]])

    __repr__ = __str__

    def to_markdown(self) -> str:
        """The table in Markdown, with the totals as its last row."""
        head, *body = _cells(self)
        rule = ["---", "---"] + ["---:"] * (len(head) - 2)
        escaped = [[cell.replace("|", r"\|") for cell in line] for line in body]
        return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *escaped])

    def _repr_html_(self) -> str:
        head, *body, total = _cells(self)

        def line(cells: list[str], tag: str) -> str:
            align = ["left", "left"] + ["right"] * (len(cells) - 2)
            return (
                "<tr>"
                + "".join(
                    f'<{tag} style="text-align:{side}">{html.escape(cell)}</{tag}>'
                    for cell, side in zip(cells, align, strict=True)
                )
                + "</tr>"
            )

        caption = html.escape(f"{self.title} on {_shape(self.input_shape)}")
        rows = "".join(line(cells, "td") for cells in body)
        return (
            f"<table><caption>{caption}</caption><thead>{line(head, 'th')}</thead>"
            f"<tbody>{rows}</tbody><tfoot>{line(total, 'th')}</tfoot></table>"
        )


def table(model: nn.Module, input_shape: object, *, training: bool = False) -> Table:
    """The cost of every layer of `model` for one input of `input_shape`, (C, H, W) without the batch.

    >>> costs = cost.table(torchvision.models.alexnet(), (3, 224, 224))
    >>> costs.parameters, costs.multiply_adds
    (61100840, 714188480)

    The model is traced in evaluation mode, or with ``training=True`` as it trains (auxiliary heads run, on two
    images). It may live on the meta device, and is left as it was. Several inputs: a list of shapes. Inputs that are
    not float images, such as token numbers: a tensor, or a tuple of tensors, with the batch as first axis.
    A network that looks at the values of a tensor to decide what it runs is traced with zeros on its own device.

    Raises `ParameterError` for something that is no module, `ShapeError` for a shape the network cannot take,
    naming the layer that refused it, and `MachineError` where values decide and the weights are on the meta device.
    """
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
    inputs = _inputs(model, input_shape, batch=2 if training else 1)
    try:
        with _meta_form(model, training) as shadow:
            return _trace(shadow, [_on_meta(x) for x in inputs], "meta")
    except _NeedsValues as error:
        if any(p.is_meta for p in model.parameters()):
            raise MachineError(
                "a network that runs without knowing values",
                error.__cause__,
                where=error,
                remedy="build it with real weights: values decide what it runs",
            ) from error.__cause__
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    inputs = [
        torch.zeros(x.shape, dtype=x.dtype, device=device) if x.is_meta else x.to(device)
        for x in inputs
    ]
    with _borrowed(model, training):
        return _trace(model, inputs, device)


# --- the trace ------------------------------------------------------------------------------------------------------


class _NeedsValues(Exception):
    """The network cannot run on the meta device; the text says where it stopped."""


@dataclass(frozen=True)
class _Field:
    """The receptive field of a tensor: pixels seen, pixels between neighbours, and the sizes of its image axes."""

    seen: tuple[float, ...]
    step: tuple[float, ...]
    size: Shape

    def window(self, kernel: Iterable[float], stride: Iterable[float], size: Shape) -> _Field:
        kernel, stride = tuple(kernel)[-len(self.seen) :], tuple(stride)[-len(self.seen) :]
        if not len(kernel) == len(stride) == len(self.seen):
            return self
        seen = tuple(r + (k - 1) * j for r, k, j in zip(self.seen, kernel, self.step, strict=True))
        return _Field(seen, tuple(j * s for j, s in zip(self.step, stride, strict=True)), size)

    def everything(self) -> _Field:
        """Values that all see all positions; nothing that follows can see more, so the step is 0."""
        return self.window(self.size, (0,) * len(self.size), self.size)


@dataclass
class _Known:
    """What is known of a tensor: the row that made it, its storage, its receptive field."""

    tensor: torch.Tensor  # kept alive, so that its id stays its own
    producer: int
    storage: int
    field: _Field | None


class _Draft:
    """A row while it runs."""

    def __init__(self, index: int, name: str, kind: str, is_module: bool):
        self.index, self.name, self.kind, self.is_module = index, name, kind, is_module
        self.inputs: dict[int, None] = {}  # ordered set
        self.geometry: list[tuple] = []
        self.parameters = self.multiply_adds = self.bytes = 0
        self.computes = False
        self.shapes: list[Shape] = []
        self.field: _Field | None = None


class _Functions(TorchFunctionMode):
    """Notes which torch function is running, by the name the author of the network wrote."""

    def __init__(self, trace: _Tracer):
        super().__init__()
        self.trace = trace

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return self.trace.function(func, args, kwargs or {})


class _Operations(TorchDispatchMode):
    """Sees every operation that torch executes, whoever asked for it."""

    def __init__(self, trace: _Tracer):
        super().__init__()
        self.trace = trace

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if (
            func._overloadpacket not in flop_registry
        ):  # a composite operation is counted by its parts
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        return self.trace.operation(func, args, kwargs)


class _Tracer:
    def __init__(self, model: nn.Module, inputs: list[torch.Tensor]):
        self.model, self.batch = model, inputs[0].shape[0] if inputs[0].ndim else 1
        self.names = {id(module): name for name, module in model.named_modules()}
        self.uncounted = {id(p): p for p in model.parameters()}
        self.drafts: list[_Draft] = []
        self.known: dict[int, _Known] = {}
        self.running: list[nn.Module] = []  # modules, outermost first
        self.leaf: _Draft | None = None  # the row of the innermost module, if it has no parts
        self.leaf_module: nn.Module | None = None
        self.call: _Draft | None = None  # the row of a function that runs between modules
        self.function_name: str | None = None
        for x in inputs:
            axes = (
                tuple(x.shape[2:]) if x.ndim > 3 else ()
            )  # (N, C, L) may be a text as well: it waits for a window
            field = _Field((1,) * len(axes), (1,) * len(axes), axes) if axes else None
            self.known[id(x)] = _Known(x, -1, id(x), field)
        self.stored = {item.storage for item in self.known.values()}

    def run(self, inputs: list[torch.Tensor]) -> None:
        handles = []
        for module in self.model.modules():
            handles.append(module.register_forward_pre_hook(self.enter, with_kwargs=True))
            handles.append(module.register_forward_hook(self.leave))
        try:
            with torch.no_grad(), _Functions(self), _Operations(self):
                self.model(*inputs)
        finally:
            for handle in handles:
                handle.remove()

    # modules

    def enter(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        self.running.append(module)
        self.received = [tuple(x.shape) for x in _tensors((args, kwargs))]
        if self.leaf is None and self.is_leaf(module):
            self.leaf = self.draft(
                self.names.get(id(module)) or type(module).__name__, type(module).__name__, True
            )
            self.leaf_module = module
            for x in _tensors((args, kwargs)):
                if id(x) in self.known:
                    self.leaf.inputs[self.known[id(x)].producer] = None

    def is_leaf(self, module: nn.Module) -> bool:
        """Whether one row stands for the module: a layer, and no network written as functions."""
        if isinstance(module, nn.MultiheadAttention):  # uses its projection without calling it
            return True
        layer = module is not self.model or type(module).__module__.startswith("torch.nn")
        return layer and not any(True for _ in module.children())

    def leave(self, module: nn.Module, args: tuple, output: object) -> None:
        self.running.pop()
        if self.leaf is not None and module is self.leaf_module:
            for p in module.parameters():
                self.count(self.leaf, p)
            self.close(self.leaf, output)
            self.leaf = None

    # functions and operations

    def function(self, func, args: tuple, kwargs: dict):
        if self.leaf is not None:
            return func(*args, **kwargs)
        name = func.__name__ if func.__name__ != "__get__" else func.__self__.__name__
        self.function_name = name.strip("_")
        try:
            output = func(*args, **kwargs)
            if self.call is not None:
                self.close(self.call, output)
            return output
        finally:
            self.call = self.function_name = None

    def operation(self, func, args: tuple, kwargs: dict):
        tensors = _tensors((args, kwargs))
        row = self.leaf or self.call
        if row is None:
            kind = self.function_name or func._overloadpacket.__name__.strip("_")
            module = self.names.get(id(self.running[-1]), "") if self.running else ""
            row = self.draft(".".join(filter(None, (module, kind))), kind, False)
            if self.function_name is not None:
                self.call = row
        known = [self.known[id(x)] for x in tensors if id(x) in self.known]
        for item in known:
            row.inputs[item.producer] = None
        for x in tensors:
            self.count(row, x)
        output = _same_shape(func, args, tensors)
        output = func(*args, **kwargs) if output is None else output
        row.computes |= not func.is_view
        row.multiply_adds += _multiply_adds(func, args, kwargs, output)
        geometry = _geometry(func, args)
        fields = [item.field for item in known if item.field is not None]
        if geometry is not None:
            if fields and len(fields[0].seen) == 1:  # torch pools a sequence as an image of one row
                geometry = tuple(
                    part[-1:] if isinstance(part, tuple) else part for part in geometry
                )
            if not fields or len(fields[0].seen) == len(
                geometry[0]
            ):  # a window over channels (LRN) is no kernel
                row.geometry.append(geometry)
        if not fields and geometry is not None and known and known[0].producer == -1:
            axes = tuple(known[0].tensor.shape[-len(geometry[0]) :])
            fields = [_Field((1,) * len(axes), (1,) * len(axes), axes)]
        seen = _receptive_field(func, args, output, fields, self.batch)
        for out in _tensors(output):
            before = (
                known[0] if func.is_view and known else self.known.get(id(out))
            )  # of a view, or in place
            self.known[id(out)] = _Known(
                out, row.index, before.storage if before else id(out), seen
            )
        if (
            row is not self.leaf and row is not self.call
        ):  # an operation that no torch function asked for
            self.close(row, output)
        return output

    # rows

    def draft(self, name: str, kind: str, is_module: bool) -> _Draft:
        self.drafts.append(_Draft(len(self.drafts), name, kind, is_module))
        return self.drafts[-1]

    def count(self, row: _Draft, tensor: torch.Tensor) -> None:
        if self.uncounted.pop(id(tensor), None) is not None:
            row.parameters += tensor.numel()

    def close(self, row: _Draft, output: object) -> None:
        for x in _tensors(output):
            shape = tuple(x.shape)
            row.shapes.append(shape[1:] if shape and shape[0] == self.batch else shape)
            item = self.known.get(id(x))
            if item is None:
                continue
            row.field = item.field or row.field
            if item.producer == row.index and item.storage not in self.stored:
                self.stored.add(item.storage)
                row.bytes += x.numel() * x.element_size()


def _trace(model: nn.Module, inputs: list[torch.Tensor], device: object) -> Table:
    lazy = any(nn.parameter.is_lazy(p) for p in model.parameters())
    tracer = _Tracer(model, inputs)
    try:
        with torch.device(device), _in_parts():
            if lazy:  # the first pass gives lazy layers their shapes
                with torch.no_grad():
                    model(*inputs)
                tracer = _Tracer(model, inputs)
            tracer.run(inputs)
    except CourseError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        raise _refused(tracer, inputs, error, device) from error
    return _table(tracer, inputs)


@contextmanager
def _in_parts() -> Iterator[None]:
    """Attention runs as matrix products: a fused operation would hide what is inside."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _table(tracer: _Tracer, inputs: list[torch.Tensor]) -> Table:
    model, batch = tracer.model, tracer.batch
    drafts = [
        draft for draft in tracer.drafts if draft.shapes or draft.is_module
    ]  # the others made no tensor
    index = {-1: -1} | {draft.index: i for i, draft in enumerate(drafts)}
    calls: dict[str, int] = {}
    rows = []
    for draft in drafts:
        calls[draft.name] = calls.get(draft.name, 0) + 1
        kernel, stride, padding, groups = (
            draft.geometry[0] if len(draft.geometry) == 1 else (None, None, None, 1)
        )
        shapes = tuple(draft.shapes)
        rows.append(
            Row(
                draft.name,
                draft.kind,
                shapes[0] if len(shapes) == 1 else shapes,
                kernel,
                stride,
                padding,
                groups,
                parameters=draft.parameters,
                multiply_adds=draft.multiply_adds // batch,
                activation_bytes=draft.bytes // batch,
                receptive_field=tuple(math.ceil(pixels) for pixels in draft.field.seen)
                if draft.field
                else None,
                inputs=tuple(index[i] for i in draft.inputs if i != draft.index and i in index),
                is_module=draft.is_module,
                is_view=not draft.computes,
                call=calls[draft.name],
            )
        )
    for name, module in model.named_modules():
        left = [
            p
            for p in module.parameters(recurse=False)
            if tracer.uncounted.pop(id(p), None) is not None
        ]
        if left:
            rows.append(
                Row(
                    name or "parameters",
                    type(module).__name__,
                    (),
                    parameters=sum(p.numel() for p in left),
                    note="not run",
                )
            )
    shapes = tuple(tuple(x.shape[1:]) for x in inputs)
    size = sum(x.numel() * x.element_size() for x in inputs)
    return Table(
        tuple(rows),
        type(model).__name__,
        shapes[0] if len(shapes) == 1 else shapes,
        size // batch,
        {name: type(module).__name__ for name, module in model.named_modules()},
    )


def _refused(
    tracer: _Tracer, inputs: list[torch.Tensor], error: Exception, device: object
) -> Exception:
    """The error to show when the network raised, with the layer in which it happened."""
    module = tracer.running[-1] if tracer.running else tracer.model
    name = tracer.names.get(id(module), "")
    where = (
        f"layer {name} ({type(module).__name__})"
        if name
        else f"forward of {type(tracer.model).__name__}"
    )
    if device == "meta" and (isinstance(error, NotImplementedError) or "meta" in str(error)):
        needs = _NeedsValues(where)
        needs.__cause__ = error
        return needs
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    given = " and ".join(_shape(tuple(x.shape[1:])) for x in inputs)
    received = tracer.received[0] if tracer.running and tracer.received else ()
    expected = "an input that the network can take"
    remedy = (
        f"correct the layer or the input: it received {_shape(received[1:])}, without the batch"
    )
    channels = getattr(module, "in_channels", None)
    if any(x.ndim > 4 for x in inputs) and isinstance(module, nn.Conv2d):
        remedy = f"leave out the batch: {tuple(inputs[0].shape[2:])}"
    elif isinstance(channels, int) and len(received) > 2 and received[1] != channels:
        expected, given = f"{channels} channels", f"{received[1]}, in an input of {given}"
        remedy = f"give an input with {channels} channels, or build the network for {received[1]}"
    elif isinstance(module, nn.Linear) and received and received[-1] != module.in_features:
        expected, given = (
            f"{module.in_features} features",
            f"{received[-1]}, from an input of {given}",
        )
        remedy = "give the image size that the network was built for"
    elif "indices" in reason or "Long" in reason:
        remedy = "pass a tensor of whole numbers, with the batch as its first axis, in place of the shape"
    elif (
        "too small" in reason
        or "Kernel size can't be greater" in reason
        or "non-positive" in reason
    ):
        remedy = "give a larger image: the windows before this layer leave too few pixels"
    return ShapeError(expected, given, where=f"{where}: {reason}", remedy=remedy)


# --- copies and inputs ----------------------------------------------------------------------------------------------


def _on_meta(x: torch.Tensor) -> torch.Tensor:
    return x if x.is_meta else torch.empty_like(x, device="meta")


@contextmanager
def _meta_form(model: nn.Module, training: bool) -> Iterator[nn.Module]:
    """The same network on the meta device: itself if it is there, else a copy."""
    tensors = [*model.parameters(), *model.buffers()]
    if tensors and all(x.is_meta and not nn.parameter.is_lazy(x) for x in tensors):
        with _borrowed(model, training):
            yield model
    else:
        yield _meta_copy(model, training)


def _meta_copy(model: nn.Module, training: bool) -> nn.Module:
    """A copy on the meta device; weights are not copied, and tied ones stay tied."""
    memo: dict[int, object] = {}  # deepcopy takes from here what it would otherwise copy
    for module in model.modules():
        for tensor in _tensors(vars(module)):
            if id(tensor) in memo:
                continue
            if nn.parameter.is_lazy(tensor):
                memo[id(tensor)] = type(tensor)(device="meta", dtype=tensor.dtype)
            elif isinstance(tensor, nn.Parameter):
                memo[id(tensor)] = nn.Parameter(
                    torch.empty_like(tensor, device="meta"), requires_grad=False
                )
            elif tensor.ndim > 0:  # a single number may be read by the network and stays
                memo[id(tensor)] = torch.empty_like(tensor, device="meta")
    try:
        return copy.deepcopy(model, memo).train(training)
    except (
        TypeError,
        RuntimeError,
    ) as error:  # it holds something that cannot be copied, such as a lock
        raise _NeedsValues(f"copy of {type(model).__name__}") from error


@contextmanager
def _borrowed(model: nn.Module, training: bool) -> Iterator[None]:
    """The network itself in the wanted mode; afterwards mode and buffers are as before."""
    modes = {module: module.training for module in model.modules()}
    buffers = {buffer: buffer.clone() for buffer in model.buffers() if not buffer.is_meta}
    model.train(training)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for buffer, value in buffers.items():
                buffer.copy_(value)


def _inputs(model: nn.Module, given: object, batch: int) -> list[torch.Tensor]:
    where = "argument input_shape of cost.table"
    if isinstance(given, torch.Tensor):
        return [given]
    if (
        isinstance(given, (tuple, list))
        and given
        and all(isinstance(x, torch.Tensor) for x in given)
    ):
        return list(given)
    several = (
        isinstance(given, (tuple, list))
        and given
        and all(isinstance(x, (tuple, list)) for x in given)
    )
    shapes = list(given) if several else [given]
    for shape in shapes:
        whole = isinstance(shape, (tuple, list)) and all(type(n) is int and n > 0 for n in shape)
        if not whole or not shape:
            raise ShapeError(
                "a shape of whole numbers above zero, such as (3, 224, 224)",
                repr(given),
                where=where,
                remedy="give (channels, height, width), without the batch",
            )
    dtype = next(
        (p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype()
    )
    return [torch.empty((batch, *shape), dtype=dtype, device="meta") for shape in shapes]


def _tensors(value: object) -> list[torch.Tensor]:
    """All tensors in a nest of tuples, lists, dicts and dataclasses."""
    found: list[torch.Tensor] = []
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            stack.extend(reversed(value))
        elif isinstance(value, dict):
            stack.extend(reversed(value.values()))
        elif hasattr(value, "__dataclass_fields__"):
            stack.append(vars(value))
    return found


# --- what one operation costs and sees ------------------------------------------------------------------------------


_POOLS = {
    getattr(aten, name): axes
    for axes in (1, 2, 3)
    for name in (f"max_pool{axes}d_with_indices", f"max_pool{axes}d", f"avg_pool{axes}d")
    if hasattr(aten, name)
}
_ADAPTIVE = {
    getattr(aten, name)
    for axes in (1, 2, 3)
    for name in (f"_adaptive_avg_pool{axes}d", f"adaptive_max_pool{axes}d")
    if hasattr(aten, name)
}


# On the meta device torch works out these shapes in Python, slowly, although they are the shape of the input.
_NORMS = {aten.native_batch_norm, aten._native_batch_norm_legit_no_training, aten.cudnn_batch_norm}
_POINTWISE = {
    aten.relu,
    aten.add,
    aten.mul,
    aten.hardtanh,
    aten.silu,
    aten.gelu,
    aten.sigmoid,
    aten.hardswish,
}
_IN_PLACE = {aten.relu_, aten.add_, aten.mul_, aten.hardtanh_, aten.silu_, aten.hardswish_}


def _same_shape(func, args: tuple, tensors: list[torch.Tensor]) -> object:
    """The output of an operation that keeps the shape of its meta tensors; None where torch must work it out."""
    packet, first = func._overloadpacket, tensors[0] if tensors else None
    if first is None or not first.is_meta or args[0] is not first or not first.is_floating_point():
        return None
    if (
        packet in _NORMS
        and first.ndim > 1
        and all(x.numel() == first.shape[1] for x in tensors[1:])
    ):
        if (
            packet is aten._native_batch_norm_legit_no_training or not args[5]
        ):  # in training: torch's own way
            return torch.empty_like(first), first.new_empty(0), first.new_empty(0)
    if (packet in _POINTWISE or packet in _IN_PLACE) and all(
        x.shape == first.shape and x.dtype == first.dtype and x.is_meta for x in tensors
    ):
        return first if packet in _IN_PLACE else torch.empty_like(first)
    return None


def _multiply_adds(func, args: tuple, kwargs: dict, output: object) -> int:
    packet = func._overloadpacket
    if packet in flop_registry:
        return (
            flop_registry[packet](*args, **kwargs, out_val=output) // 2
        )  # torch counts a multiply-add as two
    if packet in (aten.mv, aten.dot, aten.vdot):
        return args[0].numel()
    if packet in (aten.addmv, aten.addbmm):
        return args[1].numel() * (args[2].shape[-1] if packet is aten.addbmm else 1)
    if packet in (
        aten.mkldnn_rnn_layer,
        aten._cudnn_rnn,
    ):  # every step multiplies by every matrix once
        matrices = _tensors(args[1:3])
        return (
            args[0].numel() // args[0].shape[-1] * sum(w.numel() for w in matrices if w.ndim == 2)
        )
    if packet is aten._trilinear:  # nn.Bilinear: (N, in1), (out, in1, in2), (N, in2)
        return args[0].numel() // args[0].shape[-1] * args[1].numel()
    if packet is aten._cdist_forward:  # squared differences are added up
        return args[0].numel() * args[1].shape[-2]
    if packet.__name__ == "deform_conv2d":
        return output.numel() * args[1][0].numel()
    return 0


def _spread(value: object, axes: int) -> Shape:
    value = (value,) if isinstance(value, int) else tuple(value)
    return value * axes if len(value) == 1 else value


def _geometry(func, args: tuple) -> tuple[Shape, Shape, Shape, int] | None:
    """(kernel, stride, padding, groups) of a convolution or pooling."""
    packet = func._overloadpacket
    if packet is aten.convolution:
        axes = args[1].ndim - 2
        return tuple(args[1].shape[2:]), _spread(args[3], axes), _spread(args[4], axes), args[8]
    if packet in _POOLS:
        axes, kernel = _POOLS[packet], _spread(args[1], _POOLS[packet])
        stride = _spread(args[2], axes) if len(args) > 2 and args[2] else kernel
        return kernel, stride, _spread(args[3], axes) if len(args) > 3 else (0,) * axes, 1
    return None


def _receptive_field(
    func, args: tuple, output: object, fields: list[_Field], batch: int
) -> _Field | None:
    """What the output of an operation sees, from what its inputs see."""
    out = next(iter(_tensors(output)), None)
    if not fields or out is None:
        return None
    packet, name = func._overloadpacket, func._overloadpacket.__name__
    axes = max(len(f.seen) for f in fields)
    fields = [f for f in fields if len(f.seen) == axes]
    largest = max(fields, key=lambda f: math.prod(f.size))
    seen = _Field(
        tuple(max(f.seen[i] for f in fields) for i in range(axes)),
        tuple(max(f.step[i] for f in fields) for i in range(axes)),
        largest.size,
    )
    size = tuple(out.shape[-axes:])
    scale = (
        [n / m for n, m in zip(seen.size, size, strict=True)]
        if len(size) == axes and all(size)
        else []
    )
    geometry = _geometry(func, args)
    if geometry is not None:
        kernel, stride, _, _ = geometry
        dilation = (1,) * len(kernel)
        if packet is aten.convolution or "max_pool" in name and len(args) > 4:
            dilation = _spread(args[5] if packet is aten.convolution else args[4], len(kernel))
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        if packet is aten.convolution and args[6]:  # transposed: the stride spreads the input
            reach = [math.ceil(k / s) for k, s in zip(reach, stride, strict=True)]
            stride = [1 / s for s in stride]
        return seen.window(reach, stride, size)
    if packet is aten.im2col:
        return seen.window(
            [(k - 1) * d + 1 for k, d in zip(args[1], args[2], strict=True)], args[4], seen.size
        )
    if packet in _ADAPTIVE:
        return seen.window(
            [_widest(n, m) for n, m in zip(seen.size, size, strict=True)], scale, size
        )
    if name.startswith("upsample"):
        return seen.window((1 if "nearest" in name else 2,) * axes, scale, size)
    if (
        packet in (aten.mean, aten.sum, aten.amax)
        and out.numel() * math.prod(seen.size) <= args[0].numel()
    ):
        return seen.everything()
    if packet in (aten.mm, aten.addmm):
        x = args[1] if packet is aten.addmm else args[0]
        return (
            seen.everything() if x.shape[0] == batch else seen
        )  # (batch, features): all positions are features
    if packet in (aten.bmm, aten.baddbmm) and len(fields) > 1 or "attention" in name:
        return seen.everything()
    return seen


def _widest(n: int, m: int) -> int:
    """The widest window of an adaptive pooling from n to m positions."""
    return max(math.ceil((i + 1) * n / m) - i * n // m for i in range(m))


# --- text -----------------------------------------------------------------------------------------------------------


def _sum(name: str, rows: list[Row], classes: dict[str, str]) -> Row:
    if len(rows) == 1 and rows[0].name == name:
        return rows[0]
    ran = [row for row in rows if not row.note] or rows
    return Row(
        name,
        classes.get(name, ran[-1].kind),
        ran[-1].output_shape,
        parameters=sum(r.parameters for r in rows),
        multiply_adds=sum(r.multiply_adds for r in rows),
        activation_bytes=sum(r.activation_bytes for r in rows),
        receptive_field=ran[-1].receptive_field,
        note=ran[-1].note,
    )


def _shape(shape: tuple) -> str:
    if shape and isinstance(shape[0], tuple):
        return ", ".join(map(_shape, shape))
    return "×".join(map(str, shape)) if shape else "–"


def _brief(values: Shape | None) -> str:
    return "" if values is None else str(values[0]) if len(set(values)) == 1 else _shape(values)


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} B" if count else ""


def _cells(costs: Table) -> list[list[str]]:
    lines = [
        [
            "layer",
            "type",
            "output",
            "kernel",
            "stride",
            "pad",
            "sees",
            "parameters",
            "multiply-adds",
            "memory",
        ]
    ]
    for row in costs.rows:
        lines.append(
            [
                row.label,
                row.kind + (f", {row.groups} groups" if row.groups > 1 else ""),
                _shape(row.output_shape),
                _shape(row.kernel) if row.kernel else "",
                _brief(row.stride),
                _brief(row.padding),
                _brief(row.receptive_field),
                f"{row.parameters:,}" if row.parameters else "",
                f"{row.multiply_adds:,}" if row.multiply_adds else "",
                _bytes(row.activation_bytes),
            ]
        )
    total = [
        "",
        "",
        "",
        "",
        "",
        f"{costs.parameters:,}",
        f"{costs.multiply_adds:,}",
        _bytes(costs.activation_bytes),
    ]
    return [*lines, [f"total, {len(costs.rows)} rows", "", *total]]
