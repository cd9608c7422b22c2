"""A network is looked at without being changed: on a copy without weights, or borrowed and given back as it was."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn.modules import module as torch_module

_PLAIN = {int, float, bool, str, type(None), torch.dtype, torch.device, torch.layout}  # no tensors
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_GLOBAL_HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks")


class CannotRunOnMeta(Exception):
    """The network cannot run without values; the text says where it stopped."""


def tensors(value: object) -> list[torch.Tensor]:
    """All tensors in a nest of tuples, lists, dicts and dataclasses, in order; other objects are not opened."""
    found: list[torch.Tensor] = []
    seen: set[int] = set()  # containers may hold themselves
    stack = [value]
    while stack:
        value = stack.pop()
        if type(value) in _PLAIN:
            continue
        if isinstance(value, torch.Tensor):
            found.append(value)
            continue
        if isinstance(value, (tuple, list)):
            parts = value
        elif isinstance(value, dict):
            parts = value.values()
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            parts = [getattr(value, f.name, None) for f in dataclasses.fields(value)]
        else:
            continue
        if id(value) not in seen:
            seen.add(id(value))
            stack.extend(reversed(list(parts)))
    return found


@contextmanager
def meta_form(model: nn.Module, training: bool) -> Iterator[nn.Module]:
    """The same network on the meta device: itself if it is there, else a copy."""
    weights = [*model.parameters(), *model.buffers()]
    if weights and all(x.is_meta and not nn.parameter.is_lazy(x) for x in weights):
        with borrowed(model, training):
            yield model
    else:
        shadow = _meta_copy(model, training)
        with _without_hooks(shadow):
            yield shadow


def _meta_copy(model: nn.Module, training: bool) -> nn.Module:
    """A copy on the meta device; weights are not copied, and tied ones stay tied."""
    memo: dict[int, object] = {}  # deepcopy takes from here what it would otherwise copy
    for module in model.modules():
        for tensor in tensors(vars(module)):
            if id(tensor) in memo:
                continue
            if nn.parameter.is_lazy(tensor):
                memo[id(tensor)] = type(tensor)(device="meta", dtype=tensor.dtype)
            elif isinstance(tensor, nn.Parameter):
                empty = torch.empty_like(tensor, device="meta")
                memo[id(tensor)] = nn.Parameter(empty, requires_grad=False)
            elif tensor.ndim > 0:  # a single number may be read by the network and stays
                memo[id(tensor)] = torch.empty_like(tensor, device="meta")
    try:
        return copy.deepcopy(model, memo).train(training)
    except (TypeError, RuntimeError) as error:  # it holds what cannot be copied, such as a lock
        raise CannotRunOnMeta(f"copy of {type(model).__name__}") from error


@contextmanager
def borrowed(model: nn.Module, training: bool) -> Iterator[None]:
    """The network itself in the wanted mode; afterwards mode, buffers and hooks are as before."""
    modes = {module: module.training for module in model.modules()}
    buffers = {buffer: buffer.clone() for buffer in model.buffers() if not buffer.is_meta}
    model.train(training)
    try:
        with _without_hooks(model):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for buffer, value in buffers.items():
                buffer.copy_(value)


@contextmanager
def _without_hooks(model: nn.Module) -> Iterator[None]:
    """Hooks of the user do not run; those of torch do, for they compute weights (pruning, spectral norm)."""
    tables = [getattr(module, name) for module in model.modules() for name in _HOOKS]
    tables += [getattr(torch_module, name) for name in _GLOBAL_HOOKS]
    tables = [table for table in tables if table]
    order = [list(table) for table in tables]
    taken = [
        {key: hook for key, hook in table.items() if not _is_of_torch(hook)} for table in tables
    ]
    for table, hooks in zip(tables, taken, strict=True):
        for key in hooks:
            del table[key]
    try:
        yield
    finally:
        for table, hooks, keys in zip(tables, taken, order, strict=True):
            hooks.update(table)  # torch's own may have gone meanwhile: those of lazy layers do
            table.clear()
            table.update((key, hooks[key]) for key in keys if key in hooks)


def _is_of_torch(hook: object) -> bool:
    function = getattr(hook, "__func__", hook)
    home = getattr(function, "__module__", None) or type(hook).__module__
    return (home if isinstance(home, str) else "").split(".")[0] == "torch" or (
        type(hook).__module__.split(".")[0] == "torch"
    )


@contextmanager
def same_random_stream(model: nn.Module) -> Iterator[None]:
    """Python's, numpy's and torch's random numbers go on afterwards as if the network had not run."""
    generators = [
        x
        for module in model.modules()
        for x in vars(module).values()
        if torch.Generator in type(x).__mro__  # isinstance asks torch's Python, for every value
    ]
    states = [generator.get_state() for generator in generators]
    devices = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(sorted(devices)):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
