"""The outputs that cost.table makes itself are those that torch works out on the meta device."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cnncourse.cost.meta import output_of

aten = torch.ops.aten


def new(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device="meta")


X, W, HALF = new(2, 6, 9, 8), new(4, 3, 3, 2), new(2, 6, 9, 8, dtype=torch.float16)
SIX = new(6)
FAST = {
    "convolution": (aten.convolution, X, W, new(4), [2], [1, 0], [1, 2], False, [0, 0], 2),
    "convolution without bias": (aten.convolution, X, W, None, [1], [0], [1], False, [0], 2),
    "convolution of a sequence": (
        aten.convolution, new(1, 3, 9), new(5, 3, 4), None, [3], [1], [1], False, [0], 1
    ),
    "batch norm": (aten._native_batch_norm_legit_no_training, X, SIX, SIX, SIX, SIX, 0.1, 1e-5),
    "batch norm without weights": (
        aten._native_batch_norm_legit_no_training, X, None, None, SIX, SIX, 0.1, 1e-5
    ),
    "layer norm": (aten.native_layer_norm, X, [9, 8], new(9, 8), new(9, 8), 1e-5),
    "layer norm without weights": (aten.native_layer_norm, X, [8], None, None, 1e-5),
    "addmm": (aten.addmm, new(5), new(7, 3), new(3, 5)),
    "cat": (aten.cat, [X, new(2, 1, 9, 8)], 1),
    "cat along the last axis": (aten.cat, [X, new(2, 6, 9, 1)], -1),
    "cat without an axis": (aten.cat, [X, X]),
    "relu": (aten.relu, X),
    "relu in place": (aten.relu_, X),
    "gelu in half precision": (aten.gelu, HALF),
    "sum": (aten.add, X, X),
    "sum with a number": (aten.add, X, 3.0),
    "product of a column and a row": (aten.mul, new(5, 1), new(2, 1, 7)),
    "softmax": (aten._softmax, X, -1, False),
}  # fmt: skip
LEFT_TO_TORCH = {
    "channels last": (aten.convolution, X.to(memory_format=torch.channels_last), W, None, [1], [0], [1], False, [0], 2),
    "transposed": (aten.convolution, X, new(6, 2, 3, 3), None, [1], [0], [1], True, [0], 1),
    "norm in training": (aten.native_batch_norm, X, SIX, SIX, SIX, SIX, True, 0.1, 1e-5),
    "statistics in half precision": (aten.native_layer_norm, HALF, [8], None, None, 1e-5),
    "two types": (aten.add, X, HALF),
    "whole numbers": (aten.add, new(3, dtype=torch.int64), 1.5),
    "not the usual layout": (aten.add, X.transpose(2, 3), X.transpose(2, 3)),
    "weights on another device": (aten.add, X, torch.zeros(())),
    "empty parts": (aten.cat, [X, new(0)], 1),
}  # fmt: skip
MISTAKES = {
    "channels": (aten.convolution, X, new(4, 5, 3, 3), None, [1], [0], [1], False, [0], 2),
    "map smaller than the kernel": (
        aten.convolution, new(1, 3, 2, 9), new(4, 3, 3, 3), None, [1], [0], [1], False, [0], 1
    ),
    "layer norm over other axes": (aten.native_layer_norm, X, [9], None, None, 1e-5),
    "matrices": (aten.addmm, new(5), new(7, 3), new(4, 5)),
    "sizes to broadcast": (aten.add, X, new(2, 6, 9, 7)),
    "sizes to join": (aten.cat, [X, new(2, 1, 9, 7)], 1),
    "an axis that is not there": (aten.cat, [X, X], 4),
}  # fmt: skip


class _Seen(TorchDispatchMode):
    """Notes the operation as cost.table gets it: with its overload and all arguments."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = [x for x in torch.utils._pytree.tree_leaves(args) if isinstance(x, torch.Tensor)]
        self.made = output_of(func, args, given)
        return func(*args, **(kwargs or {}))


def both(packet, *args):
    seen = _Seen()
    with seen:
        return seen.made if packet(*args) is None else seen.made, packet(*args)


def described(value):
    several = value if isinstance(value, tuple) else (value,)
    return [(x.shape, x.dtype, x.stride(), x.device) for x in several]


@pytest.mark.parametrize("name", FAST)
def test_what_is_made_without_torch_is_what_torch_makes(name):
    made, expected = both(*FAST[name])
    assert described(made) == described(expected)


@pytest.mark.parametrize("name", LEFT_TO_TORCH)
def test_all_but_the_plain_case_is_left_to_torch(name):
    assert both(*LEFT_TO_TORCH[name])[0] is None


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_the_words_of_torch(name):
    with pytest.raises((RuntimeError, IndexError)):
        both(*MISTAKES[name])
