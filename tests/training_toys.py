"""Small sets and networks for the tests of training, and the loop written by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cnncourse import data, runtime, training
from cnncourse.errors import (
    CourseError,
)
from cnncourse.training import History, fit
from cnncourse.training.order import mixed

SHOWN = training.COLUMNS[:-2]  # not the clock


@pytest.fixture(autouse=True)
def float64():
    yield runtime.start(seed=0, dtype="float64")
    runtime.start()


def a_set(images: int = 50, classes: int = 3, seed: int = 0) -> data.ImageSet:
    generator = torch.Generator().manual_seed(seed)
    return data.ImageSet(
        torch.randint(256, (images, 1, 6, 6), generator=generator, dtype=torch.uint8),
        torch.randint(classes, (images,), generator=generator),
        tuple("abc"[:classes]),
        "toy",
        f"toy {seed}",
    )


def a_network(*extra: nn.Module, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *extra, nn.Flatten(), nn.Linear(64, 3)
    )


def sgd(model: nn.Module, lr: float = 0.05) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def numbers(history: History) -> list[dict]:
    return [{name: row[name] for name in SHOWN} for row in history]


def by_hand(model, images, optimizer, epochs, batch_size, change=None):
    """The loop as one writes it the first time, over the order that the runtime's seed gives."""
    for epoch in range(1, epochs + 1):
        order = torch.randperm(
            len(images), generator=torch.Generator().manual_seed(mixed(0, epoch))
        )
        for step, rows in enumerate(order.split(batch_size)):
            batch = images.images[rows]
            if change is not None:
                batch = change(
                    batch, generator=torch.Generator().manual_seed(mixed(0, epoch, step))
                )
            loss = F.cross_entropy(
                model(batch.to(torch.get_default_dtype()) / 255), images.labels[rows]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def as_loader(images: data.ImageSet, **options) -> DataLoader:
    return DataLoader(TensorDataset(images.images.float() / 255, images.labels), **options)


def failing(model=None, images=None, error=CourseError, loss=F.cross_entropy, **options) -> str:
    model = a_network() if model is None else model
    options = {"optimizer": sgd(model), "epochs": 1, "batch_size": 16} | options
    with pytest.raises(error) as caught:
        fit(model, a_set() if images is None else images, loss=loss, **options)
    return str(caught.value)


class Calls(nn.Module):
    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def forward(self, x):
        self.calls.append(1)
        return x


def trained(
    path,
    *,
    epochs: int = 2,
    model: nn.Module | None = None,
    lr: float = 0.05,
    batch_size: int = 16,
    images=None,
    loss=F.cross_entropy,
):
    model = model or a_network()
    return model, fit(
        model,
        images or a_set(),
        optimizer=sgd(model, lr),
        epochs=epochs,
        loss=loss,
        batch_size=batch_size,
        checkpoint=path,
    )
