"""What a network costs: shapes, parameters, multiply-adds, activation memory and receptive fields, layer by layer.

The network runs once on the meta device, so nothing is computed and no weight is allocated. Modules are seen through
forward hooks, everything between them through torch's own dispatch: a flatten or an addition is a row like any other.

Convention. One multiply-add is one multiplication whose product is added up: convolutions, linear layers, matrix products,
attention and recurrent cells have them. Biases, pooling, normalisation, activations and additions are not counted; this is
how the papers and torchvision's published GFLOPS count. Activation memory is what a layer newly allocates for its output;
views and in-place results are free. Numbers are for one image. Receptive fields ignore the statistics of normalisations.
"""

from __future__ import annotations

import copy
import html
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from cnncourse.errors import MachineError, ParameterError, ShapeError, nearest

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
    receptive_field: Shape | None = None  # input pixels, per axis, that one output value can see; None: no image axes
    inputs: tuple[int, ...] = ()  # the rows whose outputs it reads; -1 is the input of the network
    is_module: bool = True
    is_view: bool = False  # rearranges without computing: flatten, permute, dropout outside training
    call: int = 1  # 2 for the second use of the same module
    note: str = ""

    @property
    def label(self) -> str:
        """The name, with the number of the call where one module is used several times."""
        return self.name + (f" ({self.call})" if self.call > 1 else "") + (f" [{self.note}]" if self.note else "")


@dataclass(frozen=True, repr=False)
class Table:
    """The rows of a network in the order of execution, with totals; prints as text and shows as HTML in a notebook."""

    rows: tuple[Row, ...]
    title: str
    input_shape: Shape | tuple[Shape, ...]
    input_bytes: int
    classes: dict[str, str] = field(default_factory=dict)  # module path to class, of every module; "" is the network

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
        rows = tuple(row for row in self.rows if row.name == name or row.name.startswith(f"{name}."))
        if not rows:
            known = {".".join(row.name.split(".")[: i + 1]) for row in self.rows for i in range(row.name.count(".") + 1)}
            raise ParameterError("the name of a layer or block of this network", repr(name), where=f"cost table of {self.title}",
                                 remedy=nearest(str(name), known))
        return replace(self, rows=rows, title=f"{self.title}, {name}", input_bytes=0)

    def grouped(self, depth: int = 1) -> Table:
        """The same totals with one row for each module at `depth` dots: stages (1), blocks (2).

        >>> [row.name for row in table(torchvision.models.resnet18(), (3, 224, 224)).grouped()]
        ['conv1', 'bn1', 'relu', 'maxpool', 'layer1', 'layer2', 'layer3', 'layer4', 'avgpool', 'flatten', 'fc']
        """
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(".".join(row.name.split(".")[:depth]), []).append(row)
        return replace(self, rows=tuple(_sum(name, rows, self.classes) for name, rows in groups.items()))

    def __str__(self) -> str:
        lines = _cells(self)
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        left = (True, True) + (False,) * (len(widths) - 2)
        text = ["  ".join(cell.ljust(w) if l else cell.rjust(w) for cell, w, l in zip(line, widths, left)).rstrip()
                for line in lines]
        rule = "-" * max(map(len, text))
        return "\n".join([f"{self.title} on {_shape(self.input_shape)}", rule, text[0], rule, *text[1:-1], rule, text[-1]])

    __repr__ = __str__

    def to_markdown(self) -> str:
        """The table in Markdown, with the totals as its last row."""
        head, *body = _cells(self)
        rule = ["---", "---"] + ["---:"] * (len(head) - 2)
        escaped = [[cell.replace("|", r"\|") for cell in line] for line in body]
        return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *escaped])

    def _repr_html_(self) -> str:
        head, *body = _cells(self)
        align = ["left", "left"] + ["right"] * (len(head) - 2)
        def line(cells: list[str], tag: str) -> str:
            return "<tr>" + "".join(f'<{tag} style="text-align:{a}">{html.escape(c)}</{tag}>' for c, a in zip(cells, align)) + "</tr>"
        rows = "".join(line(cells, "td") for cells in body[:-1])
        caption = html.escape(f"{self.title} on {_shape(self.input_shape)}")
        return (f"<table><caption>{caption}</caption><thead>{line(head, 'th')}</thead>"
                f"<tbody>{rows}</tbody><tfoot>{line(body[-1], 'th')}</tfoot></table>")


def table(model: nn.Module, input_shape: object, *, training: bool = False) -> Table:
    """The cost of every layer of `model` for one input of `input_shape`, (C, H, W) without the batch.

    >>> costs = cost.table(torchvision.models.alexnet(), (3, 224, 224))
    >>> costs.parameters, costs.multiply_adds
    (61100840, 714188480)

    The model is traced in evaluation mode, or with ``training=True`` as it trains (with auxiliary heads, on two images).
    It may live on the meta device, and is left as it was. Several inputs: a list of shapes. Inputs that are not float
    images, such as token numbers: a tensor, or a tuple of tensors, with the batch as first axis.

    Raises `ParameterError` for something that is no module, `ShapeError` for a shape the network cannot take, naming the
    layer that refused it, and `MachineError` where the values of a tensor decide what runs and the weights are on the meta
    device.
    """
    if not isinstance(model, nn.Module):
        raise ParameterError("a torch.nn.Module", f"{type(model).__name__} {str(model)[:60]!r}", where="argument model of cost.table",
                             remedy="pass the built network, such as models.build('resnet18')")
    inputs = _inputs(model, input_shape, batch=2 if training else 1)
    try:
        return _trace(_meta_copy(model, training), [_to_meta(x) for x in inputs], type(model).__name__, "meta")
    except _NeedsValues as error:
        if any(p.is_meta for p in model.parameters()):
            raise MachineError("a network that runs without knowing values", f"{error.__cause__}", where=error.where,
                               remedy="build the network with real weights: values of a tensor decide what it runs") from error.__cause__
    real = copy.deepcopy(model).train(training)
    device = next((p.device for p in real.parameters()), torch.device("cpu"))
    return _trace(real, [x.to(device) if not x.is_meta else torch.zeros(x.shape, dtype=x.dtype, device=device) for x in inputs],
                  type(model).__name__, device)


# --- the trace ------------------------------------------------------------------------------------------------------


class _NeedsValues(Exception):
    """The network cannot run on the meta device."""

    def __init__(self, where: str):
        super().__init__(where)
        self.where = where


@dataclass(frozen=True)
class _Field:
    """The receptive field of a tensor: pixels seen and pixels between neighbours, and the sizes of its image axes."""

    seen: tuple[float, ...]
    step: tuple[float, ...]
    size: Shape

    def window(self, kernel: Iterable[float], stride: Iterable[float], size: Shape) -> _Field:
        kernel, stride = tuple(kernel), tuple(stride)
        if not len(kernel) == len(stride) == len(self.seen):
            return self
        seen = tuple(r + (k - 1) * j for r, k, j in zip(self.seen, kernel, self.step))
        return _Field(seen, tuple(j * s for j, s in zip(self.step, stride)), size)

    def everything(self) -> _Field:
        """One value that sees all positions."""
        return self.window(self.size, (1,) * len(self.size), (1,) * len(self.size))


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
        self.parameters = self.multiply_adds = self.operations = 0
        self.shapes: list[Shape] = []
        self.bytes = 0
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
        if func._overloadpacket not in flop_registry:  # a composite operation is counted by its parts
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        return self.trace.operation(func, args, kwargs)


class _Tracer:
    def __init__(self, model: nn.Module, inputs: list[torch.Tensor]):
        self.model, self.batch = model, inputs[0].shape[0]
        self.names = {id(module): name for name, module in model.named_modules()}
        self.owned = {id(p): p for p in model.parameters()}  # not yet counted
        self.drafts: list[_Draft] = []
        self.known: dict[int, _Known] = {}
        self.modules: list[nn.Module] = []  # those running, outermost first
        self.leaf: _Draft | None = None  # the innermost module, if it has no parts
        self.call: _Draft | None = None  # the function that runs between modules
        self.function_name: str | None = None
        for x in inputs:
            axes = tuple(x.shape[2:])
            self.known[id(x)] = _Known(x, -1, id(x), _Field((1,) * len(axes), (1,) * len(axes), axes) if axes else None)

    # modules

    def enter(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        self.modules.append(module)
        if self.leaf is None and (isinstance(module, nn.MultiheadAttention) or not any(True for _ in module.children())):
            self.leaf = self.draft(self.names.get(id(module), type(module).__name__), type(module).__name__, True)
            for x in _tensors((args, kwargs)):
                if id(x) in self.known:
                    self.leaf.inputs[self.known[id(x)].producer] = None

    def leave(self, module: nn.Module, args: tuple, output: object) -> None:
        self.modules.pop()
        if self.leaf is not None and self.leaf.is_module and module is self.owner:
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
        tensors = list(_tensors((args, kwargs)))
        row = self.leaf or self.call
        if row is None:
            kind = self.function_name or func._overloadpacket.__name__.strip("_")
            row = self.draft(".".join(filter(None, (self.names.get(id(self.modules[-1]), ""), kind))), kind, False)
            if self.function_name is not None:
                self.call = row
        known = [self.known[id(x)] for x in tensors if id(x) in self.known]
        for item in known:
            if item.producer != row.index:
                row.inputs[item.producer] = None
        for x in tensors:
            self.count(row, x)
        output = func(*args, **kwargs)
        row.operations += not func.is_view
        row.multiply_adds += _multiply_adds(func, args, kwargs, output)
        geometry = _geometry(func, args, output)
        if geometry is not None:
            row.geometry.append(geometry)
        seen = _receptive_field(func, args, output, [item.field for item in known if item.field is not None], self.batch, self.known)
        for out in _tensors(output):
            storage = known[0].storage if func.is_view and known else self.known[id(out)].storage if id(out) in self.known else id(out)
            # a result in place stays the same storage, and a tensor made from parameters alone belongs to no row
            if known or not any(isinstance(x, nn.Parameter) for x in tensors):
                self.known[id(out)] = _Known(out, row.index, storage, seen)
            else:
                self.known[id(out)] = _Known(out, row.index, storage, None)
        if row is not self.leaf and row is not self.call:  # an operation that no torch function asked for
            self.close(row, output)
        return output

    # rows

    def draft(self, name: str, kind: str, is_module: bool) -> _Draft:
        self.drafts.append(_Draft(len(self.drafts), name, kind, is_module))
        if is_module:
            self.owner = self.modules[-1]
        return self.drafts[-1]

    def count(self, row: _Draft, tensor: torch.Tensor) -> None:
        if self.owned.pop(id(tensor), None) is not None:
            row.parameters += tensor.numel()

    def close(self, row: _Draft, output: object) -> None:
        storages = set()
        for x in _tensors(output):
            shape = tuple(x.shape)
            row.shapes.append(shape[1:] if shape and shape[0] == self.batch else shape)
            item = self.known.get(id(x))
            if item is None:
                continue
            row.field = item.field or row.field
            if item.producer == row.index and item.storage not in storages and item.storage not in self.stored:
                storages.add(item.storage)
                row.bytes += x.numel() * x.element_size()
        self.stored |= storages

    stored: set[int]

    def run(self, inputs: list[torch.Tensor]) -> list[_Draft]:
        self.stored = {item.storage for item in self.known.values()}
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
        return self.drafts


def _trace(model: nn.Module, inputs: list[torch.Tensor], title: str, device: object) -> Table:
    tracer = _Tracer(model, inputs)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its one fused operation would hide the products inside
    try:
        with torch.device(device):
            drafts = tracer.run(inputs)
    except Exception as error:
        raise _refused(tracer, model, inputs, error, device) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return _table(tracer, model, inputs, title, drafts)


def _table(tracer: _Tracer, model: nn.Module, inputs: list[torch.Tensor], title: str, drafts: list[_Draft]) -> Table:
    batch, calls, rows = tracer.batch, {}, []
    for draft in drafts:
        calls[draft.name] = calls.get(draft.name, 0) + 1
        kernel, stride, padding, groups = draft.geometry[0] if len(draft.geometry) == 1 else (None, None, None, 1)
        shapes = tuple(draft.shapes)
        rows.append(Row(
            draft.name, draft.kind, shapes[0] if len(shapes) == 1 else shapes, kernel, stride, padding, groups, draft.parameters,
            draft.multiply_adds // batch, draft.bytes // batch,
            tuple(math.ceil(r) for r in draft.field.seen) if draft.field else None,
            tuple(i for i in draft.inputs if i != draft.index), draft.is_module, draft.operations == 0, calls[draft.name]))
    for name, module in model.named_modules():
        left = [tracer.owned.pop(id(p)) for p in module.parameters(recurse=False) if id(p) in tracer.owned]
        if left:
            rows.append(Row(name or "parameters", type(module).__name__, (), parameters=sum(p.numel() for p in left), note="not run"))
    shapes = tuple(tuple(x.shape[1:]) for x in inputs)
    return Table(tuple(rows), title, shapes[0] if len(shapes) == 1 else shapes,
                 sum(x.numel() * x.element_size() for x in inputs) // batch,
                 {name: type(module).__name__ for name, module in model.named_modules()})


def _refused(tracer: _Tracer, model: nn.Module, inputs: list[torch.Tensor], error: Exception, device: object) -> Exception:
    """The error to show when the network raised, with the layer in which it happened."""
    module = tracer.modules[-1] if tracer.modules else model
    name = tracer.names.get(id(module), "")
    where = f"layer {name} ({type(module).__name__})" if name else f"forward of {type(model).__name__}"
    if device == "meta" and (isinstance(error, NotImplementedError) or "meta" in str(error)):
        needs = _NeedsValues(where)
        needs.__cause__ = error
        return needs
    got = " and ".join(_shape(tuple(x.shape[1:])) for x in inputs)
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ShapeError("an input that the network can take", got, where=f"{where}: {reason}",
                      remedy="give (channels, height, width) without the batch, with the channels of the first layer and an "
                             "image large enough for every pooling")


# --- copies and inputs ----------------------------------------------------------------------------------------------


def _to_meta(x: torch.Tensor) -> torch.Tensor:
    return x if x.is_meta else torch.empty_like(x, device="meta")


def _meta_copy(model: nn.Module, training: bool) -> nn.Module:
    """The same network on the meta device; weights are not copied, and tied ones stay tied."""
    memo: dict[int, object] = {}
    for module in model.modules():
        for tensor in _tensors(vars(module)):
            if id(tensor) in memo:
                continue
            if isinstance(tensor, (nn.parameter.UninitializedParameter, nn.parameter.UninitializedBuffer)):
                memo[id(tensor)] = type(tensor)(device="meta", dtype=tensor.dtype)
            elif isinstance(tensor, nn.Parameter):
                memo[id(tensor)] = nn.Parameter(torch.empty_like(tensor, device="meta"), requires_grad=False)
            elif tensor.ndim > 0 or tensor.is_meta:
                memo[id(tensor)] = torch.empty_like(tensor, device="meta")
    return copy.deepcopy(model, memo).train(training)


def _inputs(model: nn.Module, given: object, batch: int) -> list[torch.Tensor]:
    where = "argument input_shape of cost.table"
    if isinstance(given, torch.Tensor):
        return [given]
    if isinstance(given, (tuple, list)) and given and all(isinstance(x, torch.Tensor) for x in given):
        return list(given)
    several = isinstance(given, (tuple, list)) and given and all(isinstance(x, (tuple, list, torch.Size)) for x in given)
    shapes = list(given) if several else [given]
    for shape in shapes:
        if not isinstance(shape, (tuple, list)) or not shape or not all(isinstance(n, int) and n > 0 for n in shape):
            raise ShapeError("a shape of whole numbers above zero, such as (3, 224, 224)", repr(given), where=where,
                             remedy="give (channels, height, width), without the batch")
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    return [torch.empty((batch, *shape), dtype=dtype, device="meta") for shape in shapes]


def _tensors(value: object) -> Iterator[torch.Tensor]:
    """All tensors in a nest of tuples, lists, dicts and simple objects such as named tuples."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif hasattr(value, "__dataclass_fields__"):
        yield from _tensors(vars(value))


# --- what one operation costs and sees ------------------------------------------------------------------------------


def _multiply_adds(func, args: tuple, kwargs: dict, output: object) -> int:
    packet = func._overloadpacket
    if packet in flop_registry:
        return flop_registry[packet](*args, **kwargs, out_val=output) // 2  # torch counts a multiply-add as two operations
    if packet in (aten.mv, aten.dot, aten.vdot):
        return args[0].numel()
    if packet in (aten.addmv, aten.addbmm):
        return args[1].numel() * (args[2].shape[-1] if packet is aten.addbmm else 1)
    return 0


def _spread(value: object, axes: int) -> Shape:
    value = (value,) if isinstance(value, int) else tuple(value)
    return value * axes if len(value) == 1 else value


_POOLS = {getattr(aten, name): axes for axes in (1, 2, 3) for name in
          (f"max_pool{axes}d_with_indices", f"max_pool{axes}d", f"avg_pool{axes}d") if hasattr(aten, name)}
_ADAPTIVE = {getattr(aten, name) for axes in (1, 2, 3) for name in
             (f"_adaptive_avg_pool{axes}d", f"adaptive_max_pool{axes}d") if hasattr(aten, name)}


def _geometry(func, args: tuple, output: object) -> tuple[Shape, Shape, Shape, int] | None:
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


def _receptive_field(func, args: tuple, output: object, fields: list[_Field], batch: int, known: dict[int, _Known]) -> _Field | None:
    if not fields:
        return None
    packet = func._overloadpacket
    axes = max(len(f.seen) for f in fields)
    fields = [f for f in fields if len(f.seen) == axes]
    seen = _Field(tuple(max(f.seen[i] for f in fields) for i in range(axes)), tuple(max(f.step[i] for f in fields) for i in range(axes)),
                  max((f.size for f in fields), key=math.prod))
    geometry = _geometry(func, args, output)
    first = next(_tensors(output), None)
    if geometry is not None:
        kernel, stride, _, _ = geometry
        dilation = _spread(args[5], axes) if packet is aten.convolution else \
            _spread(args[4], axes) if "max_pool" in packet.__name__ and len(args) > 4 else (1,) * len(kernel)
        reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation))
        size = tuple(first.shape[-len(kernel):])
        if packet is aten.convolution and args[6]:  # transposed: the stride spreads the input
            return seen.window((math.ceil(k / s) for k, s in zip(reach, stride)), (1 / s for s in stride), size)
        return seen.window(reach, stride, size)
    if packet in _ADAPTIVE:
        size = tuple(first.shape[-axes:])
        return seen.window((_widest(n, m) for n, m in zip(seen.size, size)), (n / m for n, m in zip(seen.size, size)), size)
    if packet.__name__.startswith("upsample"):
        size = tuple(first.shape[-axes:])
        neighbours = 1 if "nearest" in packet.__name__ else 2
        return seen.window((neighbours,) * axes, (n / m for n, m in zip(seen.size, size)), size)
    if packet in (aten.mean, aten.sum, aten.amax) and first.numel() * math.prod(seen.size) <= args[0].numel():
        return seen.everything()
    if packet in (aten.mm, aten.addmm):
        x = args[1] if packet is aten.addmm else args[0]
        return seen.everything() if x.shape[0] == batch else seen  # (batch, features): all positions are features
    if packet in (aten.bmm, aten.baddbmm) or "attention" in packet.__name__:
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
    return Row(name, classes.get(name, ran[-1].kind), ran[-1].output_shape, parameters=sum(r.parameters for r in rows),
               multiply_adds=sum(r.multiply_adds for r in rows), activation_bytes=sum(r.activation_bytes for r in rows),
               receptive_field=ran[-1].receptive_field, note=ran[-1].note)


def _shape(shape: tuple) -> str:
    if shape and isinstance(shape[0], tuple):
        return ", ".join(map(_shape, shape))
    return "×".join(map(str, shape)) if shape else "–"


def _square(values: Shape | None) -> str:
    if values is None:
        return ""
    return str(values[0]) if len(set(values)) == 1 and len(values) == 1 else "×".join(map(str, values))


def _brief(values: Shape | None) -> str:
    return "" if values is None else str(values[0]) if len(set(values)) == 1 else "×".join(map(str, values))


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} B" if count else ""


def _cells(costs: Table) -> list[list[str]]:
    lines = [["layer", "type", "output", "kernel", "stride", "pad", "sees", "parameters", "multiply-adds", "memory"]]
    for row in costs.rows:
        kind = row.kind + (f", {row.groups} groups" if row.groups > 1 else "")
        lines.append([row.label, kind, _shape(row.output_shape), _square(row.kernel), _brief(row.stride), _brief(row.padding),
                      _brief(row.receptive_field), f"{row.parameters:,}" if row.parameters else "",
                      f"{row.multiply_adds:,}" if row.multiply_adds else "", _bytes(row.activation_bytes)])
    lines.append([f"total, {len(costs.rows)} rows", "", "", "", "", "", "", f"{costs.parameters:,}", f"{costs.multiply_adds:,}",
                  _bytes(costs.activation_bytes)])
    return lines
