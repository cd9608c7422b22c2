"""A pretend accelerator: tensors that compute on the processor and refuse what CUDA refuses.

A student with a GPU must be able to run every lesson. Whoever has none tries that here: what is moved to the device
``pretend:0`` keeps its real values, so networks train, but an operation on tensors of both devices is an error, and
so is `.numpy()`, a generator of the other device, a product of whole numbers, and, where determinism is asked for, an
operation that has no deterministic form on CUDA.

>>> pretend.start()
>>> torch.ones(2, device="pretend") + torch.ones(2)
Traceback (most recent call last):
RuntimeError: Expected all tensors to be on the same device, but found pretend:0 and cpu (in aten.add.Tensor)
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from cnncourse import runtime

NAME = "pretend"
aten = torch.ops.aten
# CUDA takes indices on the processor, and copies between devices.
MIXED = {aten.copy_, aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
MIXED |= {aten._copy_from, aten.is_same_size}
# Shapes that change in place would not change outside.
RESHAPED = {aten.resize_, aten.set_, aten.t_, aten.transpose_, aten.squeeze_, aten.unsqueeze_}
PRODUCTS = {aten.mm, aten.bmm, aten.addmm, aten.baddbmm, aten.mv, aten.dot, aten.convolution}
# Without a deterministic form on CUDA (torch.use_deterministic_algorithms): these, and gradients of those.
UNORDERED = {aten.histc, aten.max_unpool2d, aten.put_}
UNORDERED_BACKWARD = {
    aten._adaptive_avg_pool2d,
    aten._adaptive_avg_pool3d,
    aten.adaptive_max_pool2d,
    aten.avg_pool3d,
    aten.fractional_max_pool2d,
    aten.grid_sampler_2d,
    aten.reflection_pad1d,
    aten.reflection_pad2d,
    aten.upsample_bicubic2d,
    aten.upsample_linear1d,
    aten._upsample_bilinear2d_aa,
    aten._upsample_bicubic2d_aa,
}
MAKERS = [
    aten.empty.memory_format,
    aten.empty_strided.default,
    aten._copy_from.default,
    aten._local_scalar_dense.default,
    aten.arange.default,
    aten.arange.start,
    aten.arange.start_step,
    aten.linspace.default,
    aten.logspace.default,
    aten.randperm.default,
    aten.randperm.generator,
    aten.eye.default,
    aten.eye.m,
    aten.tril_indices.default,
    aten.triu_indices.default,
]
_library = None
_Generator = torch.Generator


class Pretend(Tensor):
    """A tensor of the device ``pretend:0``; `held` is the tensor of the processor that has its values."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> Pretend:
        made = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, new: Pretend) -> None:
        if not isinstance(new, Pretend):
            raise RuntimeError(f"values on {self.device} set to values on {new.device}")
        Tensor.data.__set__(self, new)
        self.held = new.held

    def tolist(self):
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False):
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(
            f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() first"
        )

    def __array__(self, *_, **__):
        return self.numpy()

    def __format__(self, form: str) -> str:
        return format(self.cpu(), form)

    def __deepcopy__(self, memo: dict) -> Pretend:
        if id(self) not in memo:
            memo[id(self)] = made = self.detach().clone()
            made.__dict__ |= {name: value for name, value in vars(self).items() if name != "held"}
            made.requires_grad_(self.requires_grad)
        return memo[id(self)]


class Generator(torch.Generator):
    """A generator of the device, or of another one, as `torch.Generator` makes it."""

    ours: dict[
        int, Generator
    ] = {}  # of the device; torch hands on what they hold, as other objects

    def __new__(cls, device: torch.device | str = "cpu") -> Generator:
        here = torch.device(device).type == NAME
        made = super().__new__(cls, "cpu" if here else device)
        if here:
            cls.ours[made._cdata] = made
        return made

    @property
    def device(self) -> torch.device:
        return torch.device(NAME, 0) if self._cdata in self.ours else super().device


def _run(operation, args: tuple, kwargs: dict):
    """The operation on what the tensors hold, and its results as tensors of the device that CUDA would put them on."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, Pretend)]
    outside = {id(getattr(tensor, "held", tensor)): tensor for tensor in tensors}  # what was given
    target = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
    here = target.type == NAME if target else bool(ours) or not tensors
    _refuse(operation, args, kwargs, tensors, ours, here)
    args, kwargs = tree_map_only(Pretend, lambda tensor: tensor.held, (args, kwargs))
    if target and here:
        kwargs["device"] = torch.device("cpu")
    if operation.overloadpacket is aten._copy_from:
        result = args[1].copy_(args[0])
    else:
        result = operation(*args, **kwargs)

    def wrapped(tensor: Tensor) -> Tensor:
        if id(tensor) in outside:  # changed in place
            return outside[id(tensor)]
        return Pretend(tensor) if here else tensor

    return tree_map_only(Tensor, wrapped, result)


def _made(operation, *args, **kwargs):
    return _run(operation, args, kwargs)


def _refuse(operation, args: tuple, kwargs: dict, tensors: list, ours: list, here: bool) -> None:
    """Raise what CUDA raises, in torch's words for it."""
    packet, others = operation.overloadpacket, [one for one in tensors if type(one) is not Pretend]
    if packet in RESHAPED:
        raise NotImplementedError(f"{operation} on the pretend device")
    mixed = any(one.ndim for one in others)  # a single number may lie on the processor
    if packet in MIXED:
        mixed = "index" in str(packet) and type(args[0]) is not Pretend
    if ours and mixed:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found {ours[0].device} and "
            f"{others[0].device} (in {operation})"
        )
    for leaf in (*args, *kwargs.values()):
        if isinstance(leaf, _Generator) and here != (leaf._cdata in Generator.ours):
            wanted, got = (NAME, "cpu") if here else ("cpu", NAME)
            raise RuntimeError(
                f"Expected a '{wanted}' device type for generator but found '{got}' (in {operation})"
            )
    if packet in PRODUCTS and not (ours[0].is_floating_point() or ours[0].is_complex()):
        raise RuntimeError(f'"{operation}" not implemented on CUDA for {ours[0].dtype}')
    learns = torch.is_grad_enabled() and any(one.requires_grad for one in ours)
    if torch.are_deterministic_algorithms_enabled() and (
        packet in UNORDERED or learns and packet in UNORDERED_BACKWARD
    ):  # CUDA says it in the backward pass, where an error would end this process
        raise RuntimeError(f"{operation} does not have a deterministic implementation on CUDA")


def start() -> None:
    """Make the device ``pretend:0`` in this process, and the one that `runtime.start` chooses; once."""
    global _library
    if _library is not None:
        return
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME)
    _library = torch.library.Library("aten", "IMPL")
    for operation in MAKERS:  # the others are made of these
        _library.impl(operation, functools.partial(_made, operation), "PrivateUse1")
    torch.Generator = Generator
    apply = nn.Module._apply

    def moving(module, function, recurse=True):
        """A parameter stays the same object when its network moves, as it does with CUDA."""
        for child in module.children() if recurse else ():
            child._apply(function)
        own = next((one for one in module._parameters.values() if one is not None), None)
        with torch.no_grad():
            moves = own is not None and type(function(own.data)) is not type(own.data)
        torch.__future__.set_swap_module_params_on_conversion(moves)
        try:
            return apply(module, function, False)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(False)

    nn.Module._apply = moving
    runtime._fastest = lambda: f"{NAME}:0"
