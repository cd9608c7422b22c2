"""One network in several processes that torchrun started: the numbers of one process with the same global batch."""

from __future__ import annotations

import contextlib
import inspect
import types
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from cnncourse.feeds import LoaderFeed, Share, TensorFeed
from cnncourse.runtime import Runtime

# Buffers need no sending: what changes them is equal everywhere. torch renamed the option after 2.11.
_OPTIONS = inspect.signature(DistributedDataParallel).parameters
_DROPOUTS = nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d
_OWN_BUFFERS = {
    "forward_sync_buffers" if "forward_sync_buffers" in _OPTIONS else "broadcast_buffers": False
}


@contextlib.contextmanager
def joined(model: nn.Module, machine: Runtime, feed: TensorFeed | LoaderFeed) -> Iterator[Callable]:
    """The network to call while training: moved, compiled where asked, and with gradients averaged over processes.

    The parameters stay the same objects, so an optimizer made before holds them. Batch normalisation sees the whole
    batch, not a process's share, and dropout draws for the whole. feed: says which rows this process holds.
    """
    network = placed(model, machine)
    if not dist.is_initialized():
        yield network
        return
    shared = {
        module: _normalised if isinstance(module, _BatchNorm) else _dropped
        for module in model.modules()
        if isinstance(module, (_BatchNorm, *_DROPOUTS))
    }
    for module, forward in shared.items():
        module.forward = types.MethodType(
            lambda self, batch, forward=forward: forward(self, batch, feed.share), module
        )
    try:
        gpu = [machine.device] if machine.device.type == "cuda" else None
        yield DistributedDataParallel(network, device_ids=gpu, **_OWN_BUFFERS)
    finally:
        for module in shared:
            del module.forward


def placed(model: nn.Module, machine: Runtime) -> nn.Module:
    """The model on the device in the dtype and memory format of the runtime, compiled where asked.

    Training meets one batch size and that of the last batch, for which the fastest code is compiled; evaluation meets
    any, and gets code for all.
    """
    model.to(machine.device, machine.dtype)
    if machine.memory_format is not None:
        model.to(memory_format=machine.memory_format)
    return torch.compile(model, dynamic=not torch.is_grad_enabled()) if machine.compile else model


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


def _normalised(self: _BatchNorm, batch: Tensor, share: Share) -> Tensor:
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
            distinct = count / share.copies
            for running, now in (
                (self.running_mean, mean),
                (self.running_var, variance * distinct / (distinct - 1)),
            ):
                running.add_(rate * (now.to(running.dtype) - running))
    result = centred * (variance + self.eps).rsqrt().view(shape)
    if self.weight is not None:
        result = result * self.weight.view(shape) + self.bias.view(shape)
    return result.to(batch.dtype)


def _dropped(self: nn.Module, batch: Tensor, share: Share) -> Tensor:
    """Dropout with this process's rows of the mask that a single process draws for the whole batch.

    Where the first axis does not count the batch's rows, each process draws for what it has.
    """
    if not self.training or len(batch) != share.rows.stop - share.rows.start:
        return type(self).forward(self, batch)
    mask = type(self).forward(self, batch.new_ones(share.size, *batch.shape[1:]))
    return batch * mask[share.rows]
