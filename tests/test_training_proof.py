"""What a stack of networks would do otherwise than each network alone is found by trying it."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from training_toys import (
    a_set,
    float64,  # noqa: F401  # every test computes in it
    same,
    weights,
)

from cnncourse.training import proof, repeat
from cnncourse.training.stacked import Stacked


def dense() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 3))


class Held(nn.Module):
    """Each network has a table or a choice of its own, in a list or a dict."""

    def __init__(self, hold):
        super().__init__()
        self.last, self.held = nn.Linear(36, 3), hold()

    def forward(self, x):
        mask = self.held[0] if len(self.held) == 1 else torch.tensor(self.held, dtype=x.dtype)
        return self.last(x.flatten(1) * mask)


class Box:
    """Hides what it holds from whoever looks for tensors and numbers."""

    def __init__(self):
        self.mask = (torch.rand(36) > 0.5).double()

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.mask


class Skips(nn.Module):
    """Leaves a layer out by chance, as networks of stochastic depth do."""

    def __init__(self, draw):
        super().__init__()
        self.first, self.last, self.draw = nn.Linear(36, 36), nn.Linear(36, 3), draw

    def forward(self, x):
        x = x.flatten(1)
        return self.last(self.first(x) if self.draw() < 0.5 else x)


class Remembers(nn.Module):
    """Keeps a mean of what it saw in a plain attribute, which vmap cannot stack."""

    def __init__(self):
        super().__init__()
        self.last, self.seen = nn.Linear(36, 3), [torch.zeros(36)]

    def forward(self, x):
        x = x.flatten(1)
        if self.training:
            self.seen[0] = 0.9 * self.seen[0] + 0.1 * x.detach().mean(0)
        return self.last(x - self.seen[0])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Held(lambda: [(torch.rand(36) > 0.5).double()]), "held differs"),
        (lambda: Held(lambda: {0: (torch.rand(36) > 0.5).double()}), "held differs"),
        (lambda: Held(lambda: torch.randperm(36).tolist()), "held differs"),
        (lambda: Held(Box), "other outputs in the stack"),
        (lambda: Skips(random.random), "Python's or numpy's"),
        (lambda: Skips(np.random.rand), ""),
        (lambda: Skips(lambda: torch.rand((), generator=GENERATOR).item()), ""),
        (lambda: Skips(lambda: torch.rand(()).item()), "vmap"),
        (Remembers, "seen changes while it trains"),
    ],
    ids=["list", "dict", "numbers", "hidden", "python", "numpy", "generator", "torch", "remembers"],
)
def test_what_a_stack_would_do_otherwise_is_found_by_trying_it(make, reason):
    options = {
        "optimizer": partial(torch.optim.SGD, lr=0.5),
        "seeds": [0, 1, 2],
        "epochs": 2,
        "batch_size": 8,
    }
    random.seed(0), np.random.seed(0), GENERATOR.manual_seed(0)
    repeats = repeat(make, a_set(), **options)
    assert not repeats.together and reason in repeats.reason
    if "Skips" in type(repeats.models[0]).__name__:
        return  # draws go on where the trial left off, which no run alone can know
    random.seed(0), np.random.seed(0)
    apart = repeat(make, a_set(), together=False, **options)
    for one, other in zip(repeats.models, apart.models, strict=True):
        assert same(weights(one), weights(other))


GENERATOR = torch.Generator()


class Mixing(torch.optim.SGD):
    """Divides each gradient by the norm of the whole tensor, as LARS and its kin do."""

    def step(self, closure=None):
        for weight in self.param_groups[0]["params"]:
            if weight.grad is not None:
                weight.grad /= weight.grad.norm()
        super().step(closure)


def decays_matrices(parameters, rate=0.05):
    """Weight decay for what has two axes, by their number."""
    parameters = list(parameters)
    groups = [
        {"params": [weight for weight in parameters if weight.ndim > 1], "weight_decay": 0.5},
        {"params": [weight for weight in parameters if weight.ndim <= 1]},
    ]
    return torch.optim.SGD([group for group in groups if group["params"]], lr=rate)


@pytest.mark.parametrize("optimizer", [partial(Mixing, lr=0.05), decays_matrices])
def test_an_optimizer_that_is_not_elementwise_is_found_by_a_step(optimizer):
    options = {"seeds": [0, 1], "epochs": 1, "batch_size": 16, "optimizer": optimizer}
    repeats, apart = (
        repeat(dense, a_set(), **options),
        repeat(dense, a_set(), together=False, **options),
    )
    assert not repeats.together and "optimizer mixes" in repeats.reason
    assert same(weights(repeats.models[1]), weights(apart.models[1]))


def test_torchs_stream_is_put_back_also_where_a_network_draws_beside_its_dropout():
    models = [Skips(lambda: torch.rand(())) for _ in range(2)]
    stacked = Stacked(models, [0, 1])
    before = torch.get_rng_state()
    inputs = [(torch.ones(4, 1, 6, 6),)] * 2
    why = proof._alone(models, inputs, stacked, list(stacked.streams.states))
    assert "outside of its dropout layers" in why
    assert torch.equal(torch.get_rng_state(), before)
