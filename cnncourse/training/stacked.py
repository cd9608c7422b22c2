"""Several networks of one architecture as one network: their weights stacked, trained by one batched step."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

_ELEMENTWISE = (
    "SGD",
    "Adam",
    "AdamW",
    "RMSprop",
    "Adagrad",
    "Adadelta",
    "Adamax",
    "NAdam",
    "RAdam",
    "ASGD",
    "Rprop",
)


class Stacked(nn.Module):
    """The models of `seeds`, one forward pass for all through ``torch.func.stack_module_state`` and ``vmap``.

    While training, inputs are (S, B, ...), a batch for each seed; in evaluation mode (B, ...), the same for all.
    Outputs are (S, B, ...).

    >>> stacked = Stacked([make() for _ in range(8)], seeds=range(8))
    >>> stacked.eval()(images).shape
    torch.Size([8, 100, 10])
    """

    def __init__(self, models: Sequence[nn.Module], seeds: Sequence[int]):
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
        skeleton.to("meta")
        self.layers = _layers(skeleton)

    def train(self, mode: bool = True) -> Stacked:
        self.skeleton.train(mode)
        return super().train(mode)

    def forward(self, *inputs: Tensor) -> Tensor:
        if self.layers is not None:
            shared = () if self.training else (len(self.seeds), *inputs[0].shape)
            return self._layer_by_layer(inputs[0].expand(shared) if shared else inputs[0])
        own = (
            *self.stacked,
            *(getattr(self, f"buffer{index}") for index in range(len(self.buffer_names))),
        )
        axes = (0,) * len(own) + (0 if self.training else None,) * len(inputs)
        return torch.vmap(self._one, in_dims=axes)(*own, *inputs)

    def _layer_by_layer(self, values: Tensor) -> Tensor:
        """What vmap gives for a plain stack of dense layers, with one batched product for each: half its time."""
        weights = iter(self.stacked)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                weight, bias = next(weights), next(weights)
                values = torch.baddbmm(
                    bias[:, None], values, weight.mT
                )  # (S, B, in) times (S, in, out)
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


def _layers(model: nn.Module) -> list[nn.Module] | None:
    """The layers of a plain stack of dense ones that starts with Flatten, or None for every other network."""
    layers = list(model) if type(model) is nn.Sequential else []
    if not layers or not isinstance(layers[0], nn.Flatten):
        return None
    flat = all(
        (layer.start_dim, layer.end_dim) == (1, -1) for layer in layers if type(layer) is nn.Flatten
    )
    dense = all(layer.bias is not None for layer in layers if type(layer) is nn.Linear)
    known = all(
        type(layer) in (nn.Flatten, nn.Linear, nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU)
        for layer in layers
    )
    twice = len({id(layer) for layer in layers}) < len(layers)
    return layers if flat and dense and known and not twice else None


def why_apart(models: Sequence[nn.Module], optimizer_name: str) -> str | None:
    """Why these networks must be trained one after another, or None if they can be stacked.

    Dropout would draw other masks than a single network does, an optimizer that looks at whole tensors would mix seeds,
    torch's batched embedding knows no padding_idx, and only parameters and buffers are stacked, no other attribute.
    """
    if optimizer_name not in _ELEMENTWISE:
        return f"{optimizer_name} does not treat every weight by itself"
    for module in models[0].modules():
        if isinstance(module, _DropoutNd | nn.RReLU) and getattr(module, "p", 1) > 0:
            return f"{type(module).__name__} draws at random"
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            return "Embedding has a padding_idx"
    for alike in zip(*(model.modules() for model in models), strict=True):
        first, *others = map(_attributes, alike)
        for name, value in first.items():
            if any(not _equal(value, other.get(name)) for other in others):
                return f"{type(alike[0]).__name__}.{name} differs from seed to seed"
    return None


def _attributes(module: nn.Module) -> dict[str, object]:
    """Numbers, words and plain tensors that a module holds beside its parameters and buffers."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, Tensor | np.ndarray | int | float | str)
    }


def _equal(one: object, other: object) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    return bool(np.array_equal(one, other))
