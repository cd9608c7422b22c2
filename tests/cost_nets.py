"""Small networks and tables that several tests of `cost.table` ask for."""

import torch
from torch import nn

from cnncourse import cost, models

IMAGE = (3, 224, 224)


def costs_of(name, **options):
    with torch.device("meta"):
        net = models.build(name, **options)
    return cost.table(net, models.input_shape(name))


def of_kind(costs, *kinds):
    return [row for row in costs if row.kind in kinds]


class Net(nn.Module):
    """A network written as one function of its modules."""

    def __init__(self, run, **parts):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs):
        return self.run(self, *inputs)
