"""One pass through a network: modules are seen through forward hooks, what is between them through torch's dispatch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch._ops import HigherOrderOperator
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from cnncourse.cost import counting, quantised, receptive_field
from cnncourse.cost.copies import CannotRunOnMeta, tensors
from cnncourse.cost.fields import NOTHING, UNKNOWN, Shape, State, of_image, size, viewed, written
from cnncourse.cost.meta import output_of
from cnncourse.cost.refusals import refusal
from cnncourse.cost.rows import Row, Table, size_text
from cnncourse.errors import CourseError, ParameterError

_COMPILERS = {"torch._dynamo", "torch.nn.attention.flex_attention"}
_PACKED_WEIGHTS = ("LinearPackedParams", "PackedParameter")  # parts of a quantised layer, no layers
_WITHOUT_PARTS: set = set()  # operations that torch was asked to decompose and could not
INPUT = -1  # the producer of what the network is given


@dataclass
class _Known:
    """What is known of a tensor: the rows that wrote it, its storage, what its values see."""

    tensor: torch.Tensor  # kept alive, so that its id stays its own
    producers: tuple[int, ...]
    storage: int
    state: State
    root: _Known | None = None  # the tensor of which it is a view
    views: tuple = ()  # the calls that lead from there to here
    version: int = 0  # how often its storage had been written when this was noted


class _Draft:
    """A row while it runs."""

    def __init__(self, index: int, name: str, kind: str, is_module: bool):
        self.index, self.name, self.kind, self.is_module = index, name, kind, is_module
        self.inputs: dict[int, None] = {}  # ordered set
        self.geometry: list[tuple] = []
        self.parameters = self.multiply_adds = self.bytes = 0
        self.computes = False
        self.uncounted = False  # an operation whose multiply-adds we do not know
        self.shapes: list[Shape] = []
        self.state: State = None


class _Functions(TorchFunctionMode):
    """Notes which torch function is running, by the name the author of the network wrote."""

    def __init__(self, trace: Tracer):
        super().__init__()
        self.trace = trace

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return self.trace.function(func, args, kwargs or {})


class _Operations(TorchDispatchMode):
    """Sees every operation that torch executes, whoever asked for it."""

    supports_higher_order_operators = True

    def __init__(self, trace: Tracer):
        super().__init__()
        self.trace = trace

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):
            plain = _PLAIN_FORMS.get(func.name())
            if plain is None:
                raise ParameterError(
                    "a network of plain torch operations",
                    f"the higher-order operator {func.name()}, which cannot be counted",
                    where=self.trace.place(),
                    remedy="write what it does with torch's functions",
                )
            with self:
                return plain(*args, **kwargs)
        name = receptive_field.plain_name(func)
        whole = func._overloadpacket in flop_registry or name.startswith(("upsample", "_upsample"))
        if (
            not whole and func not in _WITHOUT_PARTS
        ):  # a composite operation is counted by its parts
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
            _WITHOUT_PARTS.add(func)
        return self.trace.operation(func, args, kwargs)


def _branch(condition: torch.Tensor, if_true, if_false, operands: tuple) -> object:
    return (if_true if condition else if_false)(*operands)


def _flex_attention(*args) -> object:
    from torch._higher_order_ops.flex_attention import math_attention  # torch's own plain form

    return math_attention(*args)


_PLAIN_FORMS = {"cond": _branch, "flex_attention": _flex_attention}  # that can be counted


class Tracer:
    """Drafts the rows of one forward pass; `images` of them lie on axis `axis` of the inputs."""

    def __init__(self, model: nn.Module, given: list[torch.Tensor], axis: int, images: int):
        self.model, self.axis, self.images = model, axis, images
        self.names = {id(module): name for name, module in model.named_modules()}
        self.uncounted = {id(p): p for p in model.parameters()}
        self.packed: set[tuple] = set()  # layers whose packed weights are counted
        self.drafts: list[_Draft] = []
        self.known: dict[int, _Known] = {}
        self.roots: dict[int, _Known] = {}  # by storage
        self.running: list[nn.Module] = []  # modules, outermost first
        self.received: list[Shape] = []
        self.leaf: _Draft | None = None  # the row of the innermost module, if it has no parts
        self.leaf_module: nn.Module | None = None
        self.call: _Draft | None = None  # the row of a function that runs between modules
        self.function_name: str | None = None
        self.analysing = False
        for x in given:
            axes = x.ndim - 2 if x.ndim > 3 else 0  # (N, C, L) may be a text: it waits for a window
            self.note(x, _Known(x, (INPUT,), id(x), of_image(axes) if axes else None))
        self.stored = {item.storage for item in self.known.values()}

    def run(self, args: tuple, kwargs: dict) -> None:
        handles = []
        for module in self.model.modules():
            handles.append(module.register_forward_pre_hook(self.enter, with_kwargs=True))
            handles.append(module.register_forward_hook(self.leave))
        try:
            with torch.no_grad(), _Functions(self), _Operations(self):
                self.model(*args, **kwargs)
        finally:
            for handle in handles:
                handle.remove()

    def place(self) -> str:
        """Where the network is, in words."""
        module = self.running[-1] if self.running else self.model
        name = self.names.get(id(module), "")
        kind = type(module).__name__
        return f"layer {name} ({kind})" if name else f"forward of {type(self.model).__name__}"

    # modules

    def enter(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        self.running.append(module)
        given = tensors((args, kwargs))
        self.received = [tuple(x.shape) for x in given]
        if self.leaf is None and self.is_leaf(module):
            kind = type(module).__name__
            self.leaf, self.leaf_module = (
                self.draft(self.names.get(id(module)) or kind, kind, True),
                module,
            )
            for x in given:
                self.read(self.leaf, self.find(x))

    def is_leaf(self, module: nn.Module) -> bool:
        """Whether one row stands for the module: a layer, and no network written as functions."""
        if isinstance(module, nn.MultiheadAttention):  # uses its projection without calling it
            return True
        of_torch = type(module).__module__.startswith("torch.nn")
        parts = any(type(child).__name__ not in _PACKED_WEIGHTS for child in module.children())
        return (module is not self.model or of_torch) and not parts

    def leave(self, module: nn.Module, args: tuple, output: object) -> None:
        self.running.pop()
        if self.leaf is not None and module is self.leaf_module:
            if self.uncounted:
                for part in module.modules() if module._modules else (module,):
                    for p in part._parameters.values():
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
        given = tensors((args, kwargs))
        row = self.leaf or self.call or self.new_row(func)
        known = self.read_by(func, row, given)
        for x in given:
            self.count(row, x)
        self.count_packed(func, row, args)
        output = output_of(func, args, given)
        output = func(*args, **kwargs) if output is None else output
        self.analysing = True  # what goes wrong from here on is our fault, not the network's
        row.computes |= not func.is_view
        adds = counting.multiply_adds(func, args, kwargs, output)
        row.multiply_adds += adds or 0
        row.uncounted |= adds is None
        outputs = tensors(output)
        states = self.states(func, row, args, kwargs, given, known, outputs)
        for n, state in enumerate(states):
            self.write(func, args, kwargs, given, row, outputs, n, state)
        self.analysing = False
        if row not in (self.leaf, self.call):  # no torch function asked for this operation
            self.close(row, output)
        return output

    def new_row(self, func) -> _Draft:
        kind = self.function_name or func._overloadpacket.__name__.strip("_")
        module = self.names.get(id(self.running[-1]), "") if self.running else ""
        row = self.draft(".".join(filter(None, (module, kind))), kind, False)
        if self.function_name is not None:
            self.call = row
        return row

    def read_by(self, func, row: _Draft, given: list[torch.Tensor]) -> dict[int, _Known]:
        """The known tensors whose values an operation reads."""
        if receptive_field.ignores_its_input(func):
            return {}
        skipped = (
            given[:1]
            if receptive_field.plain_name(func) == "copy" and func._schema.is_mutable
            else []
        )
        known = {}
        for x in given:
            item = None if any(x is s for s in skipped) else self.find(x)
            if item is not None:
                known[id(x)] = item
                self.read(row, item)
        return known

    def states(
        self, func, row: _Draft, args: tuple, kwargs: dict, given: list, known: dict, outputs: list
    ) -> list[State]:
        """What the outputs of an operation see; notes its kernel."""
        states = {key: item.state for key, item in known.items()}
        geometry = counting.geometry(func, args)
        if geometry is not None:
            first = known.get(id(args[0]))
            input_itself = first is not None and first.producers == (INPUT,)
            if input_itself and first.state is None:  # (N, C, L) is a signal
                states[id(args[0])] = of_image(len(geometry[0]))
            fields = [s for s in states.values() if isinstance(s, tuple)]
            if fields and len(fields[0]) == 1:  # torch pools a sequence as an image of one row
                geometry = tuple(
                    part[-1:] if isinstance(part, tuple) else part for part in geometry
                )
            over_channels = fields and len(fields[0]) != len(geometry[0])  # LRN: no kernel
            if not over_channels:
                row.geometry.append(geometry)
        return receptive_field.through(func, args, kwargs, given, outputs, states)

    # tensors

    def note(self, tensor: torch.Tensor, item: _Known) -> None:
        self.known[id(tensor)] = item
        if item.root is None and tensor.layout is torch.strided:
            self.roots[tensor.untyped_storage()._cdata] = item

    def find(self, tensor: torch.Tensor) -> _Known | None:
        """What is known of a tensor now: its storage may have been written through another view."""
        item = self.known.get(id(tensor))
        if item is None:
            if tensor.layout is not torch.strided or id(tensor) in self.uncounted:
                return None
            root = self.roots.get(tensor.untyped_storage()._cdata)  # x.data: on a known storage
            if root is None or root.tensor.numel() == 0:
                return None
            same = root.tensor.shape == tensor.shape and root.tensor.stride() == tensor.stride()
            state = root.state if same or not isinstance(root.state, tuple) else UNKNOWN
            item = _Known(tensor, root.producers, root.storage, state, root, None, root.version)
            self.known[id(tensor)] = item
        elif item.root is not None and item.root.version != item.version:
            state = UNKNOWN
            if item.views is not None:
                state = viewed(item.root.state, tuple(item.root.tensor.shape), item.views)
            item = replace(
                item, state=state, producers=item.root.producers, version=item.root.version
            )
            self.known[id(tensor)] = item
        return item

    def read(self, row: _Draft, item: _Known | None) -> None:
        if item is not None:
            row.inputs.update(dict.fromkeys(item.producers))

    def write(
        self, func, args, kwargs, given, row: _Draft, outputs: list, n: int, state: State
    ) -> None:
        """Note the n-th output of an operation: in place, a view, or new."""
        out = outputs[n]
        item = self.known.get(id(out))
        if item is not None and any(out is x for x in given):
            if func._schema.is_mutable:
                self.overwrite(item, row, state)
            return
        if func.is_view and args and isinstance(args[0], torch.Tensor):
            source = self.find(args[0])
            if source is not None:
                step = (func, args[1:], kwargs, n if len(outputs) > 1 else None)
                views = None if source.views is None else (*source.views, step)
                root = source.root or source
                self.note(
                    out, _Known(out, (row.index,), source.storage, state, root, views, root.version)
                )
                return
        self.note(out, _Known(out, (row.index,), id(out), state))

    def overwrite(self, item: _Known, row: _Draft, state: State) -> None:
        root = item.root or item
        root.version += 1
        whole = item is root or item.tensor.numel() == root.tensor.numel()
        if item is root:
            root.state = state
        elif item.views is None:
            root.state = state if state == root.state else UNKNOWN
        else:
            root.state = written(root.state, tuple(root.tensor.shape), item.views, state)
        root.producers = (
            (row.index,) if whole else tuple(dict.fromkeys((*root.producers, row.index)))
        )
        item.state, item.producers, item.version = state, (row.index,), root.version

    # rows

    def draft(self, name: str, kind: str, is_module: bool) -> _Draft:
        self.drafts.append(_Draft(len(self.drafts), name, kind, is_module))
        return self.drafts[-1]

    def count(self, row: _Draft, tensor: torch.Tensor) -> None:
        if self.uncounted.pop(id(tensor), None) is not None:
            row.parameters += tensor.numel()

    def count_packed(self, func, row: _Draft, args: tuple) -> None:
        if quantised.packed_weight(func, args) is None:
            return
        key = (row.name, id(self.leaf_module))
        if key not in self.packed:
            self.packed.add(key)
            row.parameters += sum(x.numel() for packed in args for x in quantised.unpacked(packed))

    def close(self, row: _Draft, output: object) -> None:
        for x in tensors(output):
            row.shapes.append(self.without_batch(tuple(x.shape)))
            item = self.known.get(id(x))
            if item is None:
                continue
            if item.state not in (None, NOTHING):
                row.state = item.state
            if row.index in item.producers and item.storage not in self.stored:
                self.stored.add(item.storage)
                row.bytes += x.numel() * x.element_size()

    def without_batch(self, shape: Shape) -> Shape:
        axis = self.axis
        batched = len(shape) > axis and shape[axis] == self.images
        return shape[:axis] + shape[axis + 1 :] if batched else shape


def trace(
    model: nn.Module, args: tuple, kwargs: dict, device: object, axis: int, images: int
) -> Table:
    """The rows of one forward pass; multiply-adds and bytes are those of all `images` together."""
    given = tensors((args, kwargs))
    tracer = Tracer(model, given, axis, images)
    try:
        with torch.device(device), _in_parts():
            if any(nn.parameter.is_lazy(p) for p in model.parameters()):
                with torch.no_grad():  # the first pass gives lazy layers their shapes
                    model(*args, **kwargs)
                tracer = Tracer(model, given, axis, images)
            tracer.run(args, kwargs)
    except CourseError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        if tracer.analysing:
            raise
        needs_values = isinstance(error, NotImplementedError) or "meta" in str(error)
        if device == "meta" and needs_values:
            raise CannotRunOnMeta(tracer.place()) from error
        got = " and ".join(size_text(tracer.without_batch(tuple(x.shape))) for x in given)
        module = tracer.running[-1] if tracer.running else tracer.model
        received = tracer.received[0] if tracer.running and tracer.received else ()
        raise refusal(error, tracer.place(), module, got, received) from error
    return _finished(tracer, given)


@contextmanager
def _in_parts() -> Iterator[None]:
    """Attention runs as matrix products and nothing is compiled: fused operations hide what is inside."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    eager = nullcontext()
    if "torch._dynamo" in sys.modules:  # the import takes seconds; without it nothing is compiled
        eager = torch.compiler.set_stance("force_eager")
    try:
        with sdpa_kernel(SDPBackend.MATH), eager:
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _finished(tracer: Tracer, given: list[torch.Tensor]) -> Table:
    model = tracer.model
    shown = [d for d in tracer.drafts if d.shapes or d.is_module or d.parameters or d.multiply_adds]
    index = {INPUT: INPUT} | {draft.index: i for i, draft in enumerate(shown)}

    def sources(draft: _Draft) -> tuple[int, ...]:
        """The rows it reads; a row that only copied into a tensor gives way to those it read."""
        found: dict[int, None] = {}
        waiting, met = list(reversed(draft.inputs)), {draft.index}
        while waiting:
            i = waiting.pop()
            if i in met:
                continue
            met.add(i)
            if i in index:
                found[index[i]] = None
            else:
                waiting.extend(reversed(tracer.drafts[i].inputs))
        return tuple(found)

    calls: dict[str, int] = {}
    rows = []
    for draft in shown:
        calls[draft.name] = calls.get(draft.name, 0) + 1
        rows.append(_row(draft, sources(draft), calls[draft.name]))
    for name, module in model.named_modules():
        own = module.parameters(recurse=False)
        left = [p for p in own if tracer.uncounted.pop(id(p), None) is not None]
        if left:
            weights = sum(p.numel() for p in left)
            rows.append(
                Row(
                    name or "parameters",
                    type(module).__name__,
                    (),
                    parameters=weights,
                    note="not run",
                )
            )
    shapes = tuple(tracer.without_batch(tuple(x.shape)) for x in given)
    return Table(
        tuple(rows),
        type(model).__name__,
        shapes[0] if len(shapes) == 1 else shapes,
        sum(x.numel() * x.element_size() for x in given),
        {name: type(module).__name__ for name, module in model.named_modules()},
    )


def _row(draft: _Draft, sources: tuple[int, ...], call: int) -> Row:
    kernel, stride, padding, groups = (
        draft.geometry[0] if len(draft.geometry) == 1 else (None, None, None, 1)
    )
    unknown = ["multiply-adds"] if draft.uncounted else []
    unknown += ["receptive field"] if draft.state == UNKNOWN else []
    return Row(
        draft.name,
        draft.kind,
        draft.shapes[0] if len(draft.shapes) == 1 else tuple(draft.shapes),
        kernel,
        stride,
        padding,
        groups,
        parameters=draft.parameters,
        multiply_adds=draft.multiply_adds,
        activation_bytes=draft.bytes,
        receptive_field=size(draft.state),
        inputs=sources,
        is_module=draft.is_module,
        is_view=not draft.computes,
        call=call,
        unknown=tuple(unknown),
    )
