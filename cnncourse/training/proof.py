"""Whether several networks may be trained as one: two steps of each beside the stack's are the proof."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from cnncourse.training.attributes import attributes, same
from cnncourse.training.order import own_streams
from cnncourse.training.stacked import Stacked


def why_apart(
    models: Sequence[nn.Module],
    stacked: Stacked,
    steps: tuple[Callable[[], object], Sequence[Callable[[], object]]],
    losses: tuple[Callable, Callable],
    batch: tuple[tuple[Tensor, ...], Tensor],
) -> str | None:
    """Why these networks must be trained one after another, or None if the stack does what each does alone.

    Outputs, gradients, and weights and buffers after a step are compared, in training and in evaluation mode, and how
    much was drawn at random. models and stacked are trained by it: pass copies.
    steps: one of the stack's optimizer, and one of each model's. losses: of the stack, and of a model.
    batch: (inputs, targets); each network gets it in another order.
    """
    first = attributes(models[0])
    for model in models[1:]:
        other = attributes(model)
        for kind in ("learns", "frozen", "attributes"):
            for name, value in first[kind].items():
                if not same(value, other[kind].get(name)):
                    return f"{name} differs from seed to seed"
    orders = [
        tree_map(lambda part, by=seed: part.roll(by, 0), batch) for seed in range(len(models))
    ]
    together = tree_map(lambda *parts: torch.stack(parts), *orders)
    for _ in range(2):
        streams = list(stacked.streams.states)
        stacked.train()
        outputs = stacked(*together[0])
        losses[0](outputs, together[1]).sum().backward()
        with own_streams():
            each = _alone(models, [inputs for inputs, _ in orders], stacked, streams)
        if isinstance(each, str):
            return each
        for seed, (alone, (_, targets)) in enumerate(zip(each, orders, strict=True)):
            if not _close(_of(outputs, seed), alone):
                return f"seed {stacked.seeds[seed]} has other outputs in the stack than alone"
            losses[1](alone, targets).backward()
        if reason := _gradients(models, stacked):
            return reason
        for step in (steps[0], *steps[1]):
            step()
        if reason := _weights(models, stacked):
            return reason
    for name, value in attributes(models[0])["attributes"].items():
        if not same(value, first["attributes"].get(name)):
            return f"{name} changes while it trains, and only weights and buffers are stacked"
    outputs = stacked.eval()(*batch[0])
    for seed, model in enumerate(models):
        if not _close(_of(outputs, seed), model.eval()(*batch[0])):
            return f"seed {stacked.seeds[seed]} has other outputs in evaluation than alone"
    return None


def _alone(models, inputs: Sequence, stacked: Stacked, streams: Sequence[Tensor]) -> object:
    """The outputs of each model that draws from its own stream, or why it draws what a stack cannot."""
    default, outputs, elsewhere = stacked.streams.default, [], False
    before, python, arrays = default.get_state(), random.getstate(), np.random.get_state()[1].copy()
    for seed, model in enumerate(models):
        default.set_state(streams[seed])
        outputs.append(model.train()(*inputs[seed]))
        elsewhere |= not torch.equal(default.get_state(), stacked.streams.states[seed])
    default.set_state(before)  # of a GPU, too, which `own_streams` leaves alone
    if elsewhere:
        return "the network draws at random outside of its dropout layers"
    if random.getstate() != python or (np.random.get_state()[1] != arrays).any():
        return "the network draws from Python's or numpy's random numbers"
    return outputs


def _gradients(models: Sequence[nn.Module], stacked: Stacked) -> str | None:
    """Compare the gradients, and give the stack those of the models, so that rounding does not grow in the step."""
    each = [dict(model.named_parameters()) for model in models]
    largest = max(
        (
            float(weight.grad.abs().max())
            for own in each
            for weight in own.values()
            if weight.grad is not None
        ),
        default=0.0,
    )
    for name, stack in zip(stacked.names, stacked.stacked, strict=True):
        gradients = [own[name].grad for own in each]
        missing = [gradient is None for gradient in gradients]
        if any(missing) or stack.grad is None:
            zero = stack.grad is None or not stack.grad.any()
            if all(missing) and zero:
                stack.grad = None
                continue
            return f"{name} has a gradient in some of the networks only"
        if not _close(stack.grad, torch.stack(gradients), largest):
            return f"{name} has another gradient in the stack than alone"
        stack.grad = torch.stack(gradients)
    return None


def _weights(models: Sequence[nn.Module], stacked: Stacked) -> str | None:
    """Compare weights and buffers after a step, and take the gradients away."""
    stacks = dict(zip(stacked.names, stacked.stacked, strict=True))
    stacks |= {
        name: getattr(stacked, f"buffer{index}") for index, name in enumerate(stacked.buffer_names)
    }
    each = [dict(model.named_parameters()) | dict(model.named_buffers()) for model in models]
    for name, stack in stacks.items():
        if not _close(stack.detach(), torch.stack([own[name].detach() for own in each])):
            return f"{name} moves otherwise in the stack: the optimizer mixes what it is given"
    for module in (stacked, *models):
        module.zero_grad()
    return None


def _of(outputs: object, seed: int) -> object:
    return tree_map(lambda part: part[seed], outputs)


def _close(ours: object, theirs: object, scale: float = 0.0) -> bool:
    """Whether tensors agree to rounding, measured by the largest number in them."""
    pairs = zip(tree_leaves(ours), tree_leaves(theirs), strict=True)
    for one, other in ((one.detach(), other.detach()) for one, other in pairs):
        precision = 1e-9 if other.dtype == torch.float64 else 1e-4  # rounding is 1e-12, 1e-6
        largest = max(scale, float(other.abs().max()) if other.numel() else 0.0)
        close = torch.allclose(
            one.double(), other.double(), rtol=0, atol=precision * largest, equal_nan=True
        )
        if not close:
            return False
    return True
