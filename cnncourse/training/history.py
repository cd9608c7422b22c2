"""The `History` of a training: one row an epoch, columns by name."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from cnncourse import paths
from cnncourse.errors import ParameterError, nearest

COLUMNS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "valid_loss",
    "valid_accuracy",
    "learning_rate",
    "seconds",
    "images_per_second",
)
_CLOCK = "seconds", "images_per_second"  # differ from run to run, so a notebook does not store them


STEP_COLUMNS = "epoch", "step", "loss", "accuracy", "learning_rate"
_last: History | None = None


class History(list):
    """One row (a dict) for each epoch, and the columns by name.

    >>> history = training.fit(model, train, valid, optimizer=optimizer, epochs=2, batch_size=128)
    >>> history[-1]["epoch"], len(history["train_loss"]), history.train_loss == history["train_loss"]
    (2, 2, True)

    Columns: epoch (from 1), train_loss and train_accuracy (weighted by images, gathered while the weights change),
    valid_loss, valid_accuracy (after the epoch), learning_rate (at its end), seconds, images_per_second (of training),
    and what a metric of `fit` or `on_epoch` adds: ``history[-1]["iou"] = 0.7``.
    `steps` has columns (lists) with one entry a step: epoch, step, loss, accuracy, learning_rate (of that step).
    `interrupted` says that Ctrl-C ended it, `diverged` where the loss stopped being a number (in `repeat`), else None.
    """

    def __init__(
        self,
        rows: Iterable[dict] = (),
        *,
        steps: dict[str, list] | None = None,
        interrupted: bool = False,
        diverged: str | None = None,
    ):
        super().__init__(rows)
        self.steps = {name: list((steps or {}).get(name, ())) for name in STEP_COLUMNS}
        self.interrupted, self.diverged = interrupted, diverged

    def add(self, row: dict, steps: Tensor) -> None:
        """Append the row of an epoch and what a `Meter` noted of its steps, (steps, 5) or (steps, 5, S)."""
        losses, _, counts, right, rates = steps.unbind(1)
        self.append(row)
        accuracies = (right / counts).tolist() if not right.isnan().all() else [None] * len(steps)
        numbers = range(1, len(steps) + 1)
        columns = [row["epoch"]] * len(steps), numbers, losses.tolist(), accuracies, rates.tolist()
        for name, column in zip(STEP_COLUMNS, columns, strict=True):
            self.steps[name] += column

    def _steps_in(self, epochs: Iterable[int]) -> dict[str, list]:
        """The columns of the steps in these epochs."""
        epochs = set(epochs)
        chosen = [number for number, epoch in enumerate(self.steps["epoch"]) if epoch in epochs]
        return {name: [column[row] for row in chosen] for name, column in self.steps.items()}

    @property
    def columns(self) -> list[str]:
        """The names of the columns: the usual ones, then those that were added, in their order."""
        return [*dict.fromkeys((*COLUMNS, *(name for row in self for name in row)))]

    def __getitem__(self, key):
        if isinstance(key, str):
            if key not in self.columns:
                raise ParameterError(
                    "a column of the history",
                    repr(key),
                    where="History",
                    remedy=nearest(key, self.columns),
                )
            return [row.get(key) for row in self]
        chosen = super().__getitem__(key)
        if not isinstance(key, slice):
            return chosen
        steps = self._steps_in(row.get("epoch") for row in chosen)
        return History(chosen, steps=steps, interrupted=self.interrupted, diverged=self.diverged)

    def __getattr__(self, name: str):
        if name[:1] != "_" and name in self.columns:
            return self[name]
        raise AttributeError(f"History has no {name!r}: {nearest(name, self.columns)}")

    def __repr__(self) -> str:
        if not self:
            return f"History(no epoch finished{': ' * bool(self.diverged)}{self.diverged or ''})"
        shown = [name for name in self._shown if name not in ("epoch", "learning_rate")]
        last = {name: self[-1].get(name) for name in shown}
        facts = ", ".join(
            f"{name} {_brief(last[name])}" for name in shown if last[name] is not None
        )
        epochs = f"{len(self)} epoch{'s' * (len(self) != 1)}"
        ended = ", interrupted" if self.interrupted else ", diverged" if self.diverged else ""
        return f"History({epochs}: {facts}{ended})"

    def _repr_html_(self) -> str:
        names = [name for name in self._shown if any(row.get(name) is not None for row in self)]
        head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in names)
        body = "".join(
            f"<tr>{''.join(f'<td>{_brief(row.get(name))}</td>' for name in names)}</tr>"
            for row in self
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    @property
    def _shown(self) -> list[str]:
        return [name for name in self.columns if name not in _CLOCK]

    def save(self, path: str | Path) -> Path:
        """Write rows and steps as JSON, whole or not at all."""
        facts = {"interrupted": self.interrupted, "diverged": self.diverged}
        parts = [
            f'"rows": {json.dumps(list(self), indent=1)}',
            f'"steps": {json.dumps(self.steps)}',
        ]
        parts += [f'"{name}": {json.dumps(value)}' for name, value in facts.items()]
        return paths.write(Path(path), "{" + ",\n".join(parts) + "}\n")

    @classmethod
    def load(cls, path: str | Path) -> History:
        """The history that `save` wrote: the same floats to the last bit."""
        stored = json.loads(Path(path).read_text())
        return cls(stored.pop("rows"), **stored)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or Kernel > Interrupt, ended training: `history` has the epochs that were finished.

    It ends the cell too, so that nothing later uses a network that was trained by half.
    """

    def __init__(self, history: History, epochs: int):
        super().__init__(
            f"training was stopped by hand after {len(history)} of {epochs} epochs; "
            "training.last_history() has them"
        )
        self.history = history


def last_history() -> History | None:
    """The history of the latest `fit`, finished or not; None before the first."""
    return _last


def remember(history: History) -> History:
    """Make this the history that `last_history` gives."""
    global _last
    _last = history
    return history


def _brief(value: object) -> str:
    if value is None:
        return ""
    return format(value, ".4g") if isinstance(value, int | float) else str(value)
