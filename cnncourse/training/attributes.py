"""What a run depends on beside state dicts: attributes of networks, contents of data sets, options of functions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.data import Dataset

from cnncourse.training.frozen import frozen, is_frozen, thawed

_PLAIN = bool | int | float | str | None


def attributes(model: nn.Module) -> dict[str, dict]:
    """What of a network may change while it trains and stands in no state dict, in plain values and tensors.

    Which weights learn, which modules are `frozen`, buffers that are not persistent, and numbers, words, tensors and
    lists of them that modules hold: a probability that grows, a mask, a counter.
    """
    kept, modules = model.state_dict().keys(), dict(model.named_modules())
    return {
        "learns": {name: weight.requires_grad for name, weight in model.named_parameters()},
        "frozen": {name: is_frozen(module) for name, module in modules.items()},
        "buffers": {
            name: _copied(part) for name, part in model.named_buffers() if name not in kept
        },
        "attributes": {
            f"{path}.{name}" if path else name: _copied(value)
            for path, module in modules.items()
            for name, value in vars(module).items()
            if name[0] != "_" and name != "training" and _is_plain(value)
        },
    }


def differences(
    there: dict[str, dict], here: dict[str, dict]
) -> Iterator[tuple[str, object, object]]:
    """(name, value there, value here) of the switches and numbers in which two networks differ."""
    for kind in ("learns", "frozen", "attributes"):
        for name in sorted({*there[kind], *here[kind]}):
            one, other = there[kind].get(name), here[kind].get(name)
            if isinstance(one, _PLAIN) and isinstance(other, _PLAIN) and not same(one, other):
                title = {"learns": ".requires_grad", "frozen": ".frozen"}.get(kind, "")
                yield f"{name}{title}".lstrip("."), one, other


@torch.no_grad()
def put_back(model: nn.Module, stored: dict[str, dict]) -> None:
    """Give a network the attributes that `attributes` took."""
    modules, buffers = dict(model.named_modules()), dict(model.named_buffers())
    for name, on in stored["frozen"].items():
        if name in modules and is_frozen(modules[name]) != on:
            (frozen if on else thawed)(modules[name])
    for name, weight in model.named_parameters():
        weight.requires_grad_(stored["learns"].get(name, weight.requires_grad))
    for name, value in stored["buffers"].items():
        if name in buffers:
            buffers[name].copy_(value)
    for path, value in stored["attributes"].items():
        place, _, name = path.rpartition(".")
        if place in modules:
            _set(modules[place], name, value)


def _set(module: nn.Module, name: str, value: object) -> None:
    now = getattr(module, name, None)
    if same(now, value):
        return
    if isinstance(now, list) and isinstance(value, list):
        now[:] = value  # others may hold this list too
    elif isinstance(now, dict) and isinstance(value, dict):
        now.clear()
        now.update(value)
    elif isinstance(now, np.ndarray) and isinstance(value, Tensor):
        setattr(module, name, value.numpy().astype(now.dtype))
    elif isinstance(now, Tensor) and isinstance(value, Tensor):
        setattr(module, name, value.to(now.device))
    else:
        setattr(module, name, value)


def _is_plain(value: object) -> bool:
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(map(_is_plain, (*value, *value.values())))
    numeric = type(value) is np.ndarray and value.dtype.kind in "biuf"
    return numeric or isinstance(value, Tensor | _PLAIN) and not isinstance(value, nn.Parameter)


def _copied(value: object) -> object:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray):
        return torch.tensor(value)
    if isinstance(value, dict):
        return {name: _copied(part) for name, part in value.items()}
    return type(value)(map(_copied, value)) if isinstance(value, list | tuple) else value


def same(one: object, other: object) -> bool:
    """Whether two plain values are equal: tensors and arrays by what they hold, nan like nan."""
    if isinstance(one, np.ndarray):
        one = torch.tensor(one)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one, other.to(one.device, one.dtype))
    if isinstance(one, Tensor) or isinstance(other, Tensor) or type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return one == other or one != one and other != other  # nan is nan


def contents(*things: object) -> str:
    """A hash of what data hold: tensors, arrays, lists of them, and what data sets hold an image each.

    It reads everything once: about a second for a GB.
    """
    found = hashlib.blake2b(digest_size=16)
    for leaf in tree_leaves([_held(thing) for thing in things]):
        if isinstance(leaf, Tensor):
            numbers = leaf.detach().cpu().contiguous().flatten()
            found.update(f"{leaf.dtype} {tuple(leaf.shape)}".encode())
            found.update(numbers.view(torch.uint8).numpy().data if numbers.numel() else b"")
        elif isinstance(leaf, _PLAIN | Path):
            found.update(f"{leaf!r};".encode())
    return found.hexdigest()


def _held(thing: object) -> object:
    """Of a data set, what it holds an image each; of anything else, itself."""
    if isinstance(thing, np.ndarray) and thing.dtype.kind in "biufc":
        return torch.from_numpy(np.ascontiguousarray(thing))
    if not isinstance(thing, Dataset):
        return list(thing) if isinstance(thing, range) else thing
    parts = []
    for name, value in sorted(vars(thing).items()):
        inner = isinstance(value, list | tuple) and any(isinstance(one, Dataset) for one in value)
        sized = isinstance(value, Tensor | np.ndarray | list | tuple | range)
        tensors = isinstance(value, tuple) and all(isinstance(one, Tensor) for one in value)
        if isinstance(value, Dataset):
            parts += [name, _held(value)]
        elif inner:
            parts += [name, *map(_held, value)]
        elif tensors or sized and hasattr(thing, "__len__") and len(value) == len(thing):
            parts += [name, _held(value)]
    return parts


def described(function: object) -> str:
    """A function with the options it was made with and the functions it calls, in words equal in every process.

    >>> described(partial(augment.crop, padding=4))
    'crop(padding=4)'
    """
    if isinstance(function, partial):
        options = [*map(described, function.args)]
        options += [f"{name}={described(value)}" for name, value in function.keywords.items()]
        return f"{described(function.func)}({', '.join(options)})"
    if isinstance(function, _PLAIN):
        return repr(function)
    if isinstance(function, Tensor):
        return str(function.tolist())
    if isinstance(function, list | tuple):
        return f"[{', '.join(map(described, function))}]"
    name = getattr(function, "__qualname__", type(function).__qualname__)
    cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    held = [
        one for one in cells if callable(one) or isinstance(one, tuple) and all(map(callable, one))
    ]
    name = name.split(".<locals>")[0] if held else name.rpartition(".")[2]
    return f"{name}{described(held)}" if held else name
