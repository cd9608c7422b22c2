"""One network in several processes that torchrun started: the numbers of one process with the same global batch."""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnncourse.runtime import Runtime
from cnncourse.training.batches import LoaderBatches, TensorBatches
from cnncourse.training.order import Part

_DROPOUTS = nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d


@contextlib.contextmanager
def joined(
    model: nn.Module, machine: Runtime, batches: TensorBatches | LoaderBatches
) -> Iterator[Callable]:
    """The network to call while training: moved, compiled where asked, in several processes equal in all of them.

    The parameters stay the same objects, so an optimizer made before holds them. Batch normalisation sees the whole
    batch, not a process's part, and dropout draws for the whole. batches: says which rows this process holds.
    """
    network = placed(model, machine)
    if not dist.is_initialized():
        yield network
        return
    for tensor in (*model.parameters(), *model.buffers()):
        first = tensor.detach().contiguous()
        dist.broadcast(first, 0)  # what differs at the start would differ for ever
        tensor.detach().copy_(first)
    shared = {
        module: _normalised if isinstance(module, _BatchNorm) else _dropped
        for module in model.modules()
        if isinstance(module, (_BatchNorm, *_DROPOUTS))
    }
    for module, forward in shared.items():
        module.forward = types.MethodType(
            lambda self, batch, forward=forward: forward(self, batch, batches.part), module
        )
    try:
        yield network
    finally:
        for module in shared:
            del module.forward


def average_gradients(model: nn.Module) -> None:
    """After the backward pass: every gradient becomes its mean over the processes, in one message a dtype.

    A weight that no process used (a block skipped by chance, a head that is not trained) keeps no gradient, so that the
    optimizer leaves it alone as it does in one process; one that only some used counts as zero in the others.
    """
    if not dist.is_initialized():
        return
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    used = torch.tensor([int(weight.grad is not None) for weight in weights])
    dist.all_reduce(used, group=_processors())
    learning = [weight for weight, count in zip(weights, used.tolist(), strict=True) if count]
    for weight in learning:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    for dtype in dict.fromkeys(weight.dtype for weight in learning):
        gradients = [weight.grad for weight in learning if weight.dtype == dtype]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        parts = flat.div_(dist.get_world_size()).split([part.numel() for part in gradients])
        for gradient, mean in zip(gradients, parts, strict=True):
            gradient.copy_(mean.view_as(gradient))


@functools.cache
def _processors():
    """The group that exchanges flags between processors, so that no GPU is waited for."""
    return dist.group.WORLD if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")


def placed(model: nn.Module, machine: Runtime) -> nn.Module:
    """The model on the device in the dtype and memory format of the runtime, compiled where asked.

    Training meets one batch size and that of the last batch, for which the fastest code is compiled; evaluation meets
    any, and gets code for all.
    """
    model.to(machine.device, machine.dtype)
    if machine.memory_format is not None:
        model.to(memory_format=machine.memory_format)
    if not machine.compile:
        return model
    training = torch.is_grad_enabled()
    # A GPU replays a training step that was recorded once: to ask for the 400 kernels of a ResNet-18's step one by one
    # took 8 ms, to run them 6 ms (H200, 512 pictures of 32 x 32).
    mode = "reduce-overhead" if training and machine.device.type == "cuda" else None
    return torch.compile(model, dynamic=not training, mode=mode)


def gathered(tensor: Tensor, machine: Runtime) -> Tensor:
    """What every process holds, (world, ...), on the CPU; tensors of one shape everywhere."""
    if not dist.is_initialized():
        return tensor.cpu()[None]
    tensor = tensor.to(machine.device)  # NCCL moves nothing that lies on the processor
    parts = [torch.empty_like(tensor) for _ in range(machine.world)]
    dist.all_gather(parts, tensor.contiguous())
    return torch.stack(parts).cpu()


def gathered_objects(thing: object, machine: Runtime) -> list:
    """What every process holds, in a list."""
    if not dist.is_initialized():
        return [thing]
    things = [None] * machine.world
    dist.all_gather_object(things, thing)
    return things


def summed(tensor: Tensor, machine: Runtime) -> Tensor:
    """The sum over all processes."""
    if dist.is_initialized():
        tensor = tensor.to(machine.device)
        dist.all_reduce(tensor)
    return tensor


def wait(machine: Runtime) -> None:
    """Return when every process has come here."""
    if dist.is_initialized():
        dist.barrier()


class _Sum(torch.autograd.Function):
    """Sum over processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        dist.all_reduce(tensor)
        return tensor

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient


def _normalised(self: _BatchNorm, batch: Tensor, part: Part) -> Tensor:
    """Batch normalisation with mean and variance of all processes' rows (torch's SyncBatchNorm needs GPUs)."""
    if not (self.training or self.running_mean is None):
        return type(self).forward(self, batch)
    axes = [0, *range(2, batch.ndim)]
    shape = [1, -1] + [1] * (batch.ndim - 2)
    total = batch.sum(
        axes, dtype=torch.promote_types(batch.dtype, torch.float32)
    )  # bf16 could not hold the count
    total = _Sum.apply(torch.cat([total, total.new_full((1,), batch.numel() / batch.shape[1])]))
    count = total[-1]
    mean = total[:-1] / count
    centred = batch - mean.view(shape)
    variance = _Sum.apply(centred.square().sum(axes)) / count
    if self.training and self.running_mean is not None:
        with torch.no_grad():
            self.num_batches_tracked += 1
            rate = self.momentum if self.momentum is not None else 1 / self.num_batches_tracked
            distinct = count / part.copies
            for running, now in (
                (self.running_mean, mean),
                (self.running_var, variance * distinct / (distinct - 1)),
            ):
                running.add_(rate * (now.to(running.dtype) - running))
    result = centred * (variance + self.eps).rsqrt().view(shape)
    if self.weight is not None:
        result = result * self.weight.view(shape) + self.bias.view(shape)
    return result.to(batch.dtype)


def _dropped(self: nn.Module, batch: Tensor, part: Part) -> Tensor:
    """Dropout with this process's rows of the mask that a single process draws for the whole batch.

    Where the first axis does not count the batch's rows, each process draws for what it has.
    """
    if not self.training or len(batch) != part.rows.stop - part.rows.start:
        return type(self).forward(self, batch)
    mask = type(self).forward(self, batch.new_ones(part.size, *batch.shape[1:]))
    return batch * mask[part.rows]
