"""Training that goes on where it stopped, with the bits of a run that was never stopped."""

from __future__ import annotations

import io
import os
import pickle
import random
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cnncourse import processes, project
from cnncourse.errors import CheckpointError, ParameterError
from cnncourse.runtime import Runtime

_KIND = "cnncourse checkpoint 1"
_HOW_NOT_WHAT = {"foreach", "fused", "capturable", "differentiable"}  # options of optimizers that change no number


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

    def __init__(self, request: Checkpoint | str | Path | None, model: nn.Module, optimizer: Optimizer, scheduler,
                 machine: Runtime, settings: dict):
        request = request if isinstance(request, Checkpoint) or request is None else Checkpoint(request)
        self.path = Path(request.path) if request else None
        self.steps = request.steps if request else None
        if self.steps is not None and self.steps < 1:
            raise ParameterError("a number of steps, at least 1", self.steps, where="Checkpoint.steps",
                                 remedy="leave it out to save at each epoch's end only")
        self.parts = {"model": model, "optimizer": optimizer} | ({"scheduler": scheduler} if scheduler else {})
        self.machine, self.rows = machine, []
        self.settings = settings | {
            "seed": machine.seed, "dtype": str(machine.dtype), "precision": machine.precision,
            "scheduler": type(scheduler).__name__ if scheduler else None, "optimizer": type(optimizer).__name__} | {
            f"optimizer {name}": value for name, value in map(_plain, optimizer.defaults.items())
            if name not in _HOW_NOT_WHAT}

    def resume(self) -> tuple[list[dict], int, Tensor | None, bool]:
        """(rows of the epochs that are done, steps done of the next one, their sums, whether the run had ended)."""
        if self.path is None:
            return [], 0, None, False
        if self.path.is_dir():
            raise CheckpointError("the path of a file", "a folder", where=self.path,
                                  remedy=f"name a file in it: {self.path / 'run.pt'}")
        previous = self.path.with_name(self.path.name + ".previous")
        if not self.path.exists() and not previous.exists():
            return [], 0, None, False
        try:
            state = _read(self.path if self.path.exists() else previous)
        except CheckpointError as error:
            if not previous.exists():
                raise
            state = _read(previous)
            warnings.warn(f"{self.path} is damaged; going on from {previous.name}, {_place(state)} ({error.got})",
                          stacklevel=3)
        self._check(state)
        self._load(state)
        self.rows = state["rows"]
        return list(self.rows), state["step"], state["sums"], state["ended"]

    def step(self, step: int, last: int, rows: list[dict], tally) -> None:
        """After a step: save when it is time. tally: has `steps()`, its sums so far, (steps, 3, ...)."""
        if self.steps is not None and step % self.steps == 0 and step != last:
            self._write(rows, step, tally.steps(), False)

    def epoch(self, rows: list[dict], ended: bool) -> None:
        """After an epoch: save."""
        if self.path is not None:
            self._write(rows, 0, None, ended)

    def _write(self, rows: list[dict], step: int, sums: Tensor | None, ended: bool) -> None:
        sums = None if sums is None else processes.gathered(sums, self.machine)
        streams = processes.gathered_objects(_streams(self.machine), self.machine)
        if self.machine.rank == 0:
            state = {"kind": _KIND, "settings": self.settings, "rows": [dict(row) for row in rows], "step": step,
                     "sums": sums, "ended": ended, "streams": streams, "world": self.machine.world,
                     **{name: part.state_dict() for name, part in self.parts.items()}}
            content = io.BytesIO()
            torch.save(state, content)
            if self.path.exists():
                os.replace(self.path, self.path.with_name(self.path.name + ".previous"))
            project.write(self.path, content.getvalue())
        processes.wait(self.machine)

    def _check(self, state: dict) -> None:
        for name in sorted({*state["settings"], *self.settings}):
            there, here = state["settings"].get(name), self.settings.get(name)
            if there != here:
                raise CheckpointError(f"{name} {there!r}, with which this checkpoint was started", repr(here),
                                      where=self.path,
                                      remedy="go on with the old value, or choose another checkpoint path")
        if state["step"] and state["world"] != self.machine.world:
            raise CheckpointError(f"{state['world']} processes, as when it was saved in the middle of an epoch",
                                  self.machine.world, where=self.path, remedy="start as many processes as before")

    def _load(self, state: dict) -> None:
        for name, part in self.parts.items():
            try:
                part.load_state_dict(state[name])
            except (RuntimeError, ValueError, KeyError) as error:
                raise CheckpointError(f"a checkpoint of this {name}", str(error).strip()[:400], where=self.path,
                                      remedy="choose another checkpoint path, or build the network as it was"
                                      ) from error
        _set_streams(state["streams"][min(self.machine.rank, len(state["streams"]) - 1)], self.machine)


def _read(path: Path) -> dict:
    """The state in a file whose every byte was checked against its CRC-32."""
    remedy = f"remove {path.name} to start anew, or choose another checkpoint path"
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise CheckpointError("a whole checkpoint", f"altered bytes in {damaged}", where=path, remedy=remedy)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, EOFError, RuntimeError, OSError, pickle.UnpicklingError) as error:
        if isinstance(error, CheckpointError):
            raise
        got = f"{path.stat().st_size:,} bytes, cut short or of another kind ({type(error).__name__})"
        raise CheckpointError("a whole checkpoint of cnncourse.training.fit", got, where=path, remedy=remedy) from error
    if not isinstance(state, dict) or state.get("kind") != _KIND:
        got = type(state).__name__
        if isinstance(state, dict):
            got = f"a file with {', '.join(map(str, list(state)[:3]))} ..."
        raise CheckpointError("a checkpoint of cnncourse.training.fit", got, where=path, remedy=remedy)
    return state


def _place(state: dict) -> str:
    return f"epoch {len(state['rows']) + bool(state['step'])}" + (f", step {state['step']}" if state["step"] else "")


def _plain(item: tuple[str, object]) -> tuple[str, object]:
    name, value = item
    return name, value.item() if isinstance(value, Tensor) else value


def _streams(machine: Runtime) -> dict:
    """The state of every random stream of this process, in plain values and tensors."""
    kind, keys, *rest = np.random.get_state()
    return {"torch": torch.get_rng_state(), "python": random.getstate(),
            "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
            "cuda": torch.cuda.get_rng_state(machine.device) if machine.device.type == "cuda" else None}


def _set_streams(streams: dict, machine: Runtime) -> None:
    torch.set_rng_state(streams["torch"])
    random.setstate(streams["python"])
    kind, keys, *rest = streams["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    if machine.device.type == "cuda" and streams["cuda"] is not None:
        torch.cuda.set_rng_state(streams["cuda"], machine.device)
