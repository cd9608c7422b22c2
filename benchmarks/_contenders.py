"""Who races in training.py: the hand-written loop, ours, and other libraries', each until it is stopped."""

from __future__ import annotations

import logging
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from cnncourse import data, training

FOREVER = 10_000  # epochs: the race ends them


def sgd(network: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)


def floor(network: nn.Module, images: data.ImageSet, size: int) -> None:
    """The loop as an engineer writes it over tensors in memory; no metrics, no history."""
    optimizer = sgd(network)
    for _ in range(FOREVER):
        order = torch.randperm(len(images))
        for start in range(0, len(images), size):
            rows = order[start : start + size]
            inputs, labels = (
                images.images.index_select(0, rows).float().div_(255),
                images.labels.index_select(0, rows),
            )
            loss = F.cross_entropy(network(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def ours(network: nn.Module, images: data.ImageSet, size: int, change=None) -> None:
    training.fit(
        network, images, optimizer=sgd(network), epochs=FOREVER, batch_size=size, augment=change
    )


def ours_from_loader(network: nn.Module, images: data.ImageSet, size: int) -> None:
    training.fit(
        network, loader(images, size), optimizer=sgd(network), epochs=FOREVER, batch_size=size
    )


def loader(images: data.ImageSet, size: int) -> DataLoader:
    return DataLoader(
        TensorDataset(images.images.float() / 255, images.labels), batch_size=size, shuffle=True
    )


class Pil(Dataset):
    """Pictures as PIL objects through torchvision's transforms, one at a time: the tutorials' way."""

    def __init__(self, images: data.ImageSet, change: bool):
        from PIL import Image
        from torchvision import transforms

        self.pictures = [
            Image.fromarray(picture) for picture in images.images.permute(0, 2, 3, 1).numpy()
        ]
        self.labels = images.labels.tolist()
        steps = (
            [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
            if change
            else []
        )
        self.transform = transforms.Compose([*steps, transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        return self.transform(self.pictures[index]), self.labels[index]


def tutorial(network: nn.Module, batches: DataLoader) -> None:
    optimizer, running = sgd(network), 0.0
    for _ in range(FOREVER):
        for inputs, labels in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(network(inputs), labels)
            loss.backward()
            optimizer.step()
            running += loss.item()


def lightning(network: nn.Module, images: data.ImageSet, size: int) -> None:
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = network

        def training_step(self, batch, index):
            inputs, labels = batch
            logits = self.network(inputs)
            loss = F.cross_entropy(logits, labels)
            self.log_dict({"loss": loss, "accuracy": (logits.argmax(1) == labels).float().mean()})
            return loss

        def configure_optimizers(self):
            return sgd(self.network)

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    trainer = lightning.Trainer(
        max_epochs=FOREVER,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), loader(images, size))


def fastai(network: nn.Module, images: data.ImageSet, size: int) -> None:
    import fastai.callback.progress  # noqa: F401, it gives Learner its no_bar
    from fastai.callback.core import Callback, CancelValidException
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.metrics import accuracy
    from fastai.optimizer import SGD

    class NoValidation(
        Callback
    ):  # its steps would be forward passes only, and the others have none
        def before_validate(self):
            raise CancelValidException

    batches = loader(images, size)
    learner = Learner(
        DataLoaders(batches, batches, device=torch.device("cpu")),
        network,
        loss_func=F.cross_entropy,
        opt_func=partial(SGD, mom=0.9),
        lr=0.01,
        metrics=accuracy,
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit(FOREVER, cbs=NoValidation())


def ignite(network: nn.Module, images: data.ImageSet, size: int) -> None:
    from ignite.engine import create_supervised_trainer
    from ignite.metrics import Accuracy, Loss

    engine = create_supervised_trainer(
        network,
        sgd(network),
        F.cross_entropy,
        output_transform=lambda x, y, outputs, loss: (outputs.detach(), y),
    )
    engine.logger.setLevel(logging.CRITICAL)
    Accuracy().attach(engine, "accuracy")
    Loss(F.cross_entropy).attach(engine, "loss")
    engine.run(loader(images, size), max_epochs=FOREVER)


def skorch(network: nn.Module, images: data.ImageSet, size: int) -> None:
    from skorch import NeuralNetClassifier

    learner = NeuralNetClassifier(
        network,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        lr=0.01,
        optimizer__momentum=0.9,
        batch_size=size,
        max_epochs=FOREVER,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
    )
    learner.fit((images.images.float() / 255).numpy(), images.labels.numpy())


def keras(network: nn.Module, images: data.ImageSet, size: int) -> None:
    import keras

    model = keras.Sequential([keras.layers.TorchModuleWrapper(network)])
    model.compile(
        optimizer=keras.optimizers.SGD(0.01, momentum=0.9),
        metrics=["accuracy"],
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(
        (images.images.float() / 255).numpy(),
        images.labels.numpy(),
        batch_size=size,
        epochs=FOREVER,
        verbose=0,
    )


def accelerate(network: nn.Module, images: data.ImageSet, size: int) -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model, optimizer, batches = accelerator.prepare(network, sgd(network), loader(images, size))
    running = 0.0
    for _ in range(FOREVER):
        for inputs, labels in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), labels)
            accelerator.backward(loss)
            optimizer.step()
            running += loss.item()


PEERS = {
    "Lightning": ("lightning", lightning),
    "fastai": ("fastai", fastai),
    "Ignite": ("ignite", ignite),
    "skorch": ("skorch", skorch),
    "Keras on torch": ("keras", keras),
    "Accelerate": ("accelerate", accelerate),
}
