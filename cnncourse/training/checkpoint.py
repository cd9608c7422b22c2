"""Training that goes on where it stopped, with the bits of a run that was never stopped."""

from __future__ import annotations

import io
import os
import pickle
import random
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import SequentialSampler

from cnncourse import paths, runtime
from cnncourse.errors import CheckpointError, ParameterError
from cnncourse.runtime import Runtime
from cnncourse.training import distributed
from cnncourse.training.attributes import (
    attributes,
    contents,
    described,
    differences,
    put_back,
)
from cnncourse.training.history import History, remember

_KIND = "cnncourse checkpoint 2"
_HOW_NOT_WHAT = {
    "foreach",
    "fused",
    "capturable",
    "differentiable",
}  # options of optimizers that change no number


@dataclass(frozen=True)
class Checkpoint:
    """Where to save, at each epoch's end and also every so many steps: ``checkpoint=Checkpoint(path, steps=100)``."""

    path: str | Path
    steps: int | None = None


class Saver:
    """Saves a run to its file, the previous state beside it as ``<name>.previous``, and takes both up again.

    A file appears whole or not at all, so a run can be killed at any moment. It holds tensors and plain values only and
    is read with ``weights_only=True``: opening a stranger's checkpoint runs no code.
    settings: what must be equal when a run goes on; another value is refused and named.
    """

    def __init__(
        self,
        request: Checkpoint | str | Path | None,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler,
        loss,
        clip_gradient: float | None,
    ):
        machine, scheduler = runtime.current(), getattr(scheduler, "scheduler", scheduler)
        request = (
            request if isinstance(request, Checkpoint) or request is None else Checkpoint(request)
        )
        self.path = Path(request.path) if request else None
        self.steps = request.steps if request else None
        if self.steps is not None and self.steps < 1:
            raise ParameterError(
                "a number of steps, at least 1",
                self.steps,
                where="Checkpoint.steps",
                remedy="leave it out to save at each epoch's end only",
            )
        self.parts = {"model": model, "optimizer": optimizer} | (
            {"scheduler": scheduler} if scheduler else {}
        )
        if isinstance(loss.function, nn.Module) and loss.function.state_dict():
            self.parts["loss"] = loss.function
        self.machine, self.proven, self.earlier = machine, False, 0
        self.model, self.loss = (
            model,
            loss.function if isinstance(loss.function, nn.Module) else None,
        )
        self.settings, self.started = {}, {}
        if self.path is None:
            return
        self.started = self._attributes()
        settings = {
            "loss": loss.description,
            "clip_gradient": clip_gradient,
            "seed": machine.seed,
            "dtype": str(machine.dtype),
            "precision": machine.precision,
            "scheduler": type(scheduler).__name__ if scheduler else None,
            "optimizer": type(optimizer).__name__,
        }
        for name, value in optimizer.defaults.items():
            if name not in _HOW_NOT_WHAT:
                settings[f"optimizer {name}"] = value
        for number, group in enumerate(optimizer.param_groups):
            settings[f"optimizer lr of group {number}"] = group.get("initial_lr", group["lr"])
            if "weight_decay" in group:
                settings[f"optimizer weight_decay of group {number}"] = group["weight_decay"]
        if scheduler:
            for name, value in _numbers(scheduler.state_dict()).items():
                settings[f"scheduler {name}"] = value
        self.settings = {name: _setting(value) for name, value in settings.items()}

    def _attributes(self) -> dict[str, dict]:
        """Those of the network, and of the loss where it is a module."""
        modules = {"model": self.model} | ({"loss": self.loss} if self.loss is not None else {})
        return {name: attributes(module) for name, module in modules.items()}

    def resume(
        self, batches, valid_batches, epochs: int, on_epoch: Callable | None
    ) -> tuple[History, int, Tensor | None, int, int]:
        """(history so far, steps done of the next epoch, their sums, epochs before this run, the last epoch to do).

        A run that on_epoch ended has no epochs left, as long as there is an on_epoch.
        """
        self.earlier = self.parts["optimizer"].param_groups[0].get("epochs", 0)
        state = self._found(batches, valid_batches)
        if state is None:
            return remember(History()), 0, None, self.earlier, epochs
        self._check(state)
        self._load(state)
        self.earlier = state["earlier"]
        history = remember(History(state["rows"], steps=state["steps"]))
        last = len(history) if state["ended"] and on_epoch is not None else epochs
        return history, state["step"], state["sums"], self.earlier, last

    def _found(self, batches, valid_batches) -> dict | None:
        """The state to go on from, if there is one."""
        if self.path is None:
            return None
        for name, part in (("", batches), ("valid ", valid_batches)):
            self.settings |= {f"{name}{key}": value for key, value in _identity(part).items()}
        self.settings["batch_size"] = batches.batch_size
        self.settings["augment"] = described(getattr(batches, "augment", None))
        if reason := _unrepeatable(batches, self.steps):
            raise CheckpointError(
                "batches that follow from the seed, the epoch and the step",
                reason[0],
                where="arguments train and checkpoint of fit",
                remedy=reason[1],
            )
        if self.path.is_dir():
            raise CheckpointError(
                "the path of a file",
                "a folder",
                where=self.path,
                remedy=f"name a file in it: {self.path / 'run.pt'}",
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                "a folder that can be made",
                f"{type(error).__name__}",
                where=self.path.parent,
                remedy="choose another checkpoint path",
            ) from error
        previous = self.path.with_name(self.path.name + ".previous")
        if not self.path.exists() and not previous.exists():
            return None
        try:
            return _read(self.path if self.path.exists() else previous)
        except CheckpointError as error:
            if not previous.exists():
                raise
            state = _read(previous)
            warnings.warn(
                f"{self.path} is damaged; going on from {previous.name}, {_place(state)} ({error.got})",
                stacklevel=4,
            )
            return state

    def step(self, history: History, meter) -> None:
        """After a step: save when it is time. meter: has `steps()`, what it noted so far, (steps, 5, ...)."""
        if self.steps is None:
            return
        step = meter.batches.latest[0]
        due = step % self.steps == 0 and step != len(meter.batches)
        if due and finite(self.model):  # a state with nan would take the place of the last good one
            self._write(history, step, meter.steps(), False)

    def epoch(self, history: History, ended: bool) -> None:
        """After an epoch: save."""
        if self.path is not None:
            self._write(history, 0, None, ended)

    def _write(self, history: History, step: int, sums: Tensor | None, ended: bool) -> None:
        sums = None if sums is None else distributed.gathered(sums, self.machine)
        streams = distributed.gathered_objects(_streams(self.machine), self.machine)
        if self.machine.rank == 0:
            states = {name: part.state_dict() for name, part in self.parts.items()}
            states |= {
                name: _plain(states[name]) for name in ("optimizer", "scheduler") if name in states
            }
            state = {
                "kind": _KIND,
                "settings": self.settings,
                "rows": [_plain(dict(row)) for row in history],
                "steps": history.steps,
                "earlier": self.earlier,
                "started": self.started,
                "attributes": self._attributes(),
                "step": step,
                "sums": sums,
                "ended": ended,
                "streams": streams,
                "world": self.machine.world,
                **states,
            }
            content = io.BytesIO()
            torch.save(state, content)
            self._prove(content)
            if self.path.exists():
                os.replace(self.path, self.path.with_name(self.path.name + ".previous"))
            paths.write(self.path, content.getvalue())
        distributed.wait(self.machine)

    def _prove(self, content: io.BytesIO) -> None:
        """Read the first state that is written back: what cannot be read must not be found out after the run."""
        if self.proven:
            return
        content.seek(0)
        try:
            torch.load(content, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise CheckpointError(
                "states of tensors and plain values",
                str(error).strip()[:300],
                where=self.path,
                remedy="give optimizer and scheduler plain numbers, or leave checkpoint out",
            ) from error
        self.proven = True

    def _check(self, state: dict) -> None:
        for name in sorted({*state["settings"], *self.settings}):
            there, here = state["settings"].get(name), self.settings.get(name)
            if there != here:
                raise CheckpointError(
                    f"{name} {there!r}, with which this checkpoint was started",
                    repr(here),
                    where=self.path,
                    remedy="go on with the old value, or choose another checkpoint path",
                )
        if state["step"] and state["world"] != self.machine.world:
            raise CheckpointError(
                f"{state['world']} processes, as when it was saved in the middle of an epoch",
                self.machine.world,
                where=self.path,
                remedy="start as many processes as before",
            )

    def _load(self, state: dict) -> None:
        have, want = (
            {
                name: tuple(tensor.shape)
                for name, tensor in weights.items()
                if isinstance(tensor, Tensor)
            }
            for weights in (state["model"], self.parts["model"].state_dict())
        )
        if have != want:  # before anything is overwritten
            other = sorted(name for name in {*have, *want} if have.get(name) != want.get(name))
            got = "; ".join(
                f"{name} {have.get(name, 'missing')}, here {want.get(name, 'missing')}"
                for name in other[:3]
            )
            raise CheckpointError(
                "a checkpoint of this model",
                got,
                where=self.path,
                remedy="choose another checkpoint path, or build the network as it was",
            )
        for part in sorted({*state["started"], *self.started}):
            there, here = state["started"].get(part), self.started.get(part)
            if there is None or here is None:
                continue  # the loss has another name then, and was refused
            for name, one, other in differences(there, here):
                raise CheckpointError(
                    f"{part} with {name} {one!r}, with which this checkpoint was started",
                    repr(other),
                    where=self.path,
                    remedy="build it as it was, or choose another checkpoint path",
                )
        for name, part in self.parts.items():
            try:
                part.load_state_dict(state[name])
            except (RuntimeError, ValueError, KeyError) as error:
                raise CheckpointError(
                    f"a checkpoint of this {name}",
                    str(error).strip()[:400],
                    where=self.path,
                    remedy="choose another checkpoint path, or build the network as it was",
                ) from error
        for name, stored in state["attributes"].items():
            put_back(self.model if name == "model" else self.loss, stored)
        _set_streams(
            state["streams"][min(self.machine.rank, len(state["streams"]) - 1)], self.machine
        )


def _read(path: Path) -> dict:
    """The state in a file whose every byte was checked against its CRC-32."""
    remedy = f"remove {path.name} to start anew, or choose another checkpoint path"
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise CheckpointError(
                "a whole checkpoint", f"altered bytes in {damaged}", where=path, remedy=remedy
            )
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, EOFError, RuntimeError, OSError, pickle.UnpicklingError) as error:
        if isinstance(error, CheckpointError):
            raise
        got = (
            f"{path.stat().st_size:,} bytes, cut short or of another kind ({type(error).__name__})"
        )
        raise CheckpointError(
            "a whole checkpoint of cnncourse.training.fit", got, where=path, remedy=remedy
        ) from error
    if not isinstance(state, dict) or state.get("kind") != _KIND:
        got = type(state).__name__
        if isinstance(state, dict):
            got = f"a file with {', '.join(map(str, list(state)[:3]))} ..."
        raise CheckpointError(
            "a checkpoint of cnncourse.training.fit", got, where=path, remedy=remedy
        )
    return state


def _identity(batches) -> dict[str, object]:
    """What data are, in plain values: their name, how many, and a hash of what they hold."""
    if batches is None:
        return {"data": None}
    held = (batches.inputs, batches.targets) if hasattr(batches, "inputs") else (batches.dataset,)
    return {
        "data": batches.name,
        "images": batches.images,
        "steps": len(batches),
        "data contents": contents(*held),
    }


def _unrepeatable(batches, steps: int | None) -> tuple[str, str] | None:
    """(what of a DataLoader a run that goes on would not see again, what to do), or None."""
    if hasattr(batches, "inputs"):
        return None
    for name, value in vars(batches.dataset).items():
        if isinstance(value, torch.Generator | np.random.Generator | random.Random):
            return f"{type(batches.dataset).__name__}.{name}, a random stream of its own", (
                "draw from torch, numpy.random or random: fit seeds them for every image"
            )
    if batches.rows is None and batches.loader.num_workers and batches.loader.persistent_workers:
        return "an IterableDataset whose workers stay", "persistent_workers=False"
    known = isinstance(batches.sampler, SequentialSampler) or hasattr(batches.sampler, "generator")
    if steps is not None and (batches.rows is None or not known):
        return f"{type(batches.sampler or batches.dataset).__name__}, whose order is its own", (
            "leave Checkpoint.steps out: at epochs' ends it goes on exactly"
        )
    return None


def _setting(value: object) -> object:
    value = _plain(value)
    return value.item() if isinstance(value, Tensor) else value


def _place(state: dict) -> str:
    return f"epoch {len(state['rows']) + bool(state['step'])}" + (
        f", step {state['step']}" if state["step"] else ""
    )


def finite(model: nn.Module) -> bool:
    """Whether no weight is nan or infinite (waits for the device)."""
    return bool(torch.stack([weight.isfinite().all() for weight in model.parameters()]).all())


def _plain(value: object) -> object:
    """The same with numpy's numbers as Python's: what ``weights_only`` reads."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        kind = Counter if isinstance(value, Counter) else dict
        return kind({_plain(name): _plain(part) for name, part in value.items()})
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value


# What of a scheduler's state changes while it runs.
_PROGRESS = {
    "last_epoch",
    "best",
    "num_bad_epochs",
    "cooldown_counter",
    "T_cur",
    "T_i",
    "last_batch_iteration",
}


def _numbers(state: object, name: str = "") -> dict[str, object]:
    """The numbers and words in a scheduler's state that its maker chose, by their path."""
    if isinstance(state, dict | list | tuple):
        pairs = state.items() if isinstance(state, dict) else enumerate(state)
        return {
            path: value
            for key, part in pairs
            if key not in _PROGRESS and (not str(key).startswith("_") or key == "_schedulers")
            for path, value in _numbers(part, f"{name}.{key}" if name else str(key)).items()
        }
    return {name: state} if isinstance(state, int | float | str | np.generic) else {}


def _streams(machine: Runtime) -> dict:
    """The state of every random stream of this process, in plain values and tensors."""
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
        "runtime": machine.generator.get_state(),
        "cuda": torch.cuda.get_rng_state(machine.device) if machine.device.type == "cuda" else None,
    }


def _set_streams(streams: dict, machine: Runtime) -> None:
    torch.set_rng_state(streams["torch"])
    machine.generator.set_state(streams["runtime"])
    random.setstate(streams["python"])
    kind, keys, *rest = streams["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    if machine.device.type == "cuda" and streams["cuda"] is not None:
        torch.cuda.set_rng_state(streams["cuda"], machine.device)
