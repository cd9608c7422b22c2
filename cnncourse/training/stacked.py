"""Several networks of one architecture as one network: their weights stacked, trained by one batched step."""

from __future__ import annotations

import copy
import types
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd


class Stacked(nn.Module):
    """The models of `seeds`, one forward pass for all through ``torch.func.stack_module_state`` and ``vmap``.

    While training, inputs are (S, B, ...), a batch for each seed; in evaluation mode (B, ...), the same for all.
    Outputs are (S, B, ...).
    streams: the state of torch's random stream for each seed, from which its dropout draws; None for those of seeds.

    >>> stacked = Stacked([make() for _ in range(8)], seeds=range(8))
    >>> stacked.eval()(images).shape
    torch.Size([8, 100, 10])
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        seeds: Sequence[int],
        streams: Sequence[Tensor] | None = None,
    ):
        super().__init__()
        self.seeds = list(seeds)
        parameters, buffers = torch.func.stack_module_state(list(models))
        self.names, self.buffer_names = list(parameters), list(buffers)
        trained = [weight.requires_grad for weight in models[0].parameters()]
        self.stacked = nn.ParameterList(
            nn.Parameter(stack, requires_grad=learns)
            for stack, learns in zip(parameters.values(), trained, strict=True)
        )
        for index, buffer in enumerate(buffers.values()):
            self.register_buffer(f"buffer{index}", buffer)
        skeleton = copy.deepcopy(models[0])
        self.__dict__["skeleton"] = skeleton  # beside the parameters, not among them
        self.places = [
            [
                (module.__dict__[kind], name)
                for module in skeleton.modules()  # a tied weight has several
                for name, tensor in module.__dict__[kind].items()
                if tensor is wanted
            ]
            for kind, tensors in (
                ("_parameters", skeleton.parameters()),
                ("_buffers", skeleton.buffers()),
            )
            for wanted in tensors
        ]
        self.streams = Streams(self.stacked[0].device, self.seeds, streams)
        for module in skeleton.modules():
            if isinstance(module, _DropoutNd | nn.RReLU):
                module.inplace = False
                module.forward = types.MethodType(self.streams.forward, module)
        skeleton.to("meta")
        self.layers = _dense_layers(skeleton)

    def train(self, mode: bool = True) -> Stacked:
        self.skeleton.train(mode)
        return super().train(mode)

    def forward(self, *inputs: Tensor) -> Tensor:
        if self.layers is not None:
            shape = inputs[0].shape if self.training else (len(self.seeds), *inputs[0].shape)
            return self._layer_by_layer(inputs[0].expand(shape))
        buffers = (getattr(self, f"buffer{index}") for index in range(len(self.buffer_names)))
        own = *self.stacked, *buffers
        axes = (0,) * len(own) + (0 if self.training else None,) * len(inputs)
        return torch.vmap(self._one, in_dims=axes)(*own, *inputs)

    def _layer_by_layer(self, values: Tensor) -> Tensor:
        """What vmap gives for a plain stack of dense layers, with one batched product for each: in half its time."""
        weights = iter(self.stacked)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                weight, bias = next(weights), next(weights)  # (S, out, in), (S, out)
                values = torch.baddbmm(bias[:, None], values, weight.mT)  # (S, B, out)
            else:
                values = values.flatten(2) if isinstance(layer, nn.Flatten) else layer(values)
        return values

    def _one(self, *tensors: Tensor) -> Tensor:
        """The skeleton with one network's weights put in: `torch.func.functional_call` without its checks, which cost
        as much as the layers of a small network."""
        for places, tensor in zip(self.places, tensors, strict=False):
            for holder, name in places:
                holder[name] = tensor
        outputs = self.skeleton(*tensors[len(self.places) :])
        if any(
            holder[name] is not tensor
            for places, tensor in zip(self.places, tensors, strict=False)
            for holder, name in places
        ):
            raise RuntimeError("vmap: forward assigns a buffer anew")
        return outputs

    def unstack(self, models: Sequence[nn.Module]) -> None:
        """Copy the trained weights back into the models that were stacked."""
        with torch.no_grad():
            for row, model in enumerate(models):
                own = dict(model.named_parameters()) | dict(model.named_buffers())
                model.to(self.stacked[0].device, self.stacked[0].dtype)
                for name, stack in zip(self.names, self.stacked, strict=True):
                    own[name].copy_(stack[row])
                for index, name in enumerate(self.buffer_names):
                    own[name].copy_(getattr(self, f"buffer{index}")[row])


def _dense_layers(model: nn.Module) -> list[nn.Module] | None:
    """The layers of a plain stack of dense ones that starts with Flatten, or None for every other network."""
    layers = list(model) if type(model) is nn.Sequential else []
    if not layers or not isinstance(layers[0], nn.Flatten):
        return None
    elementwise = nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU
    for layer in layers:
        flat = type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1)
        dense = type(layer) is nn.Linear and layer.bias is not None
        if not flat and not dense and type(layer) not in elementwise:
            return None
    return layers if len(set(map(id, layers))) == len(layers) else None


class Streams:
    """Torch's random stream of each seed, so that dropout in a stack draws what it draws in each network alone."""

    def __init__(self, device: torch.device, seeds: Sequence[int], states: Sequence[Tensor] | None):
        gpu = device.type == "cuda"
        if gpu:
            index = torch.cuda.current_device() if device.index is None else device.index
            torch.cuda.init()
        self.default = torch.cuda.default_generators[index] if gpu else torch.default_generator
        if states is None:
            fresh = torch.Generator(device if gpu else "cpu")
            states = [fresh.manual_seed(seed).get_state() for seed in seeds]
        self.states = [state.clone() for state in states]

    def forward(self, module: nn.Module, values: Tensor) -> Tensor:
        """What takes the place of the forward pass of a layer that draws at random."""
        if not module.training:
            return type(module).forward(module, values)
        return _EachDraws.apply(values, module, self)

    def drawn(self, module: nn.Module, values: Tensor) -> Tensor:
        """(S, B, ...): the layer applied to each seed's values, each with its own stream."""
        before, outputs = self.default.get_state(), []
        for seed, part in enumerate(values):
            self.default.set_state(self.states[seed])
            outputs.append(type(module).forward(module, part))
            self.states[seed] = self.default.get_state()
        self.default.set_state(before)
        return torch.stack(outputs)


class _EachDraws(torch.autograd.Function):
    """The rule by which vmap applies a layer that draws at random: seed by seed."""

    @staticmethod
    def forward(values, module, streams):
        raise RuntimeError("vmap: a layer that draws at random, outside of it")

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def vmap(info, in_dims, values, module, streams):
        if in_dims[0] is None:
            values = values.expand(info.batch_size, *values.shape)
        else:
            values = values.movedim(in_dims[0], 0)
        return streams.drawn(module, values), 0
