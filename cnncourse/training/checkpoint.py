"""Training that goes on where it stopped, with the bits of a run that was never stopped."""

from __future__ import annotations

import io
import os
import pickle
import random
import warnings
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cnncourse import project
from cnncourse.errors import CheckpointError, ParameterError
from cnncourse.runtime import Runtime
from cnncourse.training import distributed

_KIND = "cnncourse checkpoint 1"
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
        batches,
        clip_gradient: float | None,
    ):
        machine, scheduler = batches.machine, getattr(scheduler, "scheduler", scheduler)
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
        self.machine, self.rows, self.proven = machine, [], False
        settings = {
            "data": batches.name,
            "images": batches.images,
            "steps": len(batches),
            "batch_size": batches.batch_size,
            "loss": loss.description,
            "clip_gradient": clip_gradient,
            "seed": machine.seed,
            "dtype": str(machine.dtype),
            "precision": machine.precision,
            "scheduler": type(scheduler).__name__ if scheduler else None,
            "optimizer": type(optimizer).__name__,
        }
        settings |= {
            f"optimizer {name}": value
            for name, value in optimizer.defaults.items()
            if name not in _HOW_NOT_WHAT
        }
        settings |= {
            f"optimizer lr of group {number}": group.get("initial_lr", group["lr"])
            for number, group in enumerate(optimizer.param_groups)
        }
        if scheduler:
            settings |= {
                f"scheduler {name}": value
                for name, value in _numbers(scheduler.state_dict()).items()
            }
        self.settings = {
            name: value.item() if isinstance(value, Tensor) else value
            for name, value in _plain(settings).items()
        }

    def resume(self) -> tuple[list[dict], int, Tensor | None, bool]:
        """(rows of the epochs that are done, steps done of the next one, their sums, whether the run had ended)."""
        if self.path is None:
            return [], 0, None, False
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
            return [], 0, None, False
        try:
            state = _read(self.path if self.path.exists() else previous)
        except CheckpointError as error:
            if not previous.exists():
                raise
            state = _read(previous)
            warnings.warn(
                f"{self.path} is damaged; going on from {previous.name}, {_place(state)} ({error.got})",
                stacklevel=3,
            )
        self._check(state)
        self._load(state)
        self.rows = state["rows"]
        return list(self.rows), state["step"], state["sums"], state["ended"]

    def step(self, step: int, last: int, rows: list[dict], tally) -> None:
        """After a step: save when it is time. tally: has `steps()`, its sums so far, (steps, 3, ...)."""
        due = self.steps is not None and step % self.steps == 0 and step != last
        if due and finite(
            self.parts["model"]
        ):  # a state with nan would take the place of the last good one
            self._write(rows, step, tally.steps(), False)

    def epoch(self, rows: list[dict], ended: bool) -> None:
        """After an epoch: save."""
        if self.path is not None:
            self._write(rows, 0, None, ended)

    def _write(self, rows: list[dict], step: int, sums: Tensor | None, ended: bool) -> None:
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
                "rows": [dict(row) for row in rows],
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
            project.write(self.path, content.getvalue())
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
        "cuda": torch.cuda.get_rng_state(machine.device) if machine.device.type == "cuda" else None,
    }


def _set_streams(streams: dict, machine: Runtime) -> None:
    torch.set_rng_state(streams["torch"])
    random.setstate(streams["python"])
    kind, keys, *rest = streams["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    if machine.device.type == "cuda" and streams["cuda"] is not None:
        torch.cuda.set_rng_state(streams["cuda"], machine.device)
