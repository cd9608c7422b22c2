"""The `History` of a training: one row an epoch, columns by name."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from cnncourse import project
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


class History(list):
    """One row (a dict) for each epoch, and the columns by name.

    >>> history[-1]["epoch"], history["train_loss"], history.train_loss == history["train_loss"]
    (2, [1.9, 1.2], True)

    Columns: epoch (from 1), train_loss and train_accuracy (weighted by images, gathered while the weights change),
    valid_loss, valid_accuracy (after the epoch), learning_rate (at its end), seconds, images_per_second (of training),
    and what a metric of `fit` or `on_epoch` adds: ``history[-1]["iou"] = 0.7``.
    `interrupted` says that Ctrl-C ended it.
    """

    def __init__(self, rows: Iterable[dict] = (), *, interrupted: bool = False):
        super().__init__(rows)
        self.interrupted = interrupted

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
        return History(chosen, interrupted=self.interrupted) if isinstance(key, slice) else chosen

    def __getattr__(self, name: str):
        if name[:1] != "_" and name in self.columns:
            return self[name]
        raise AttributeError(f"History has no {name!r}: {nearest(name, self.columns)}")

    def __repr__(self) -> str:
        if not self:
            return "History(no epoch finished)"
        shown = [name for name in self._shown if name not in ("epoch", "learning_rate")]
        last = {name: self[-1].get(name) for name in shown}
        facts = ", ".join(
            f"{name} {_brief(last[name])}" for name in shown if last[name] is not None
        )
        epochs = f"{len(self)} epoch{'s' * (len(self) != 1)}"
        return f"History({epochs}: {facts}{', interrupted' * self.interrupted})"

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
        """Write the rows as JSON, whole or not at all."""
        stored = {"interrupted": self.interrupted, "rows": list(self)}
        return project.write(Path(path), json.dumps(stored, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> History:
        """The history that `save` wrote: the same floats to the last bit."""
        stored = json.loads(Path(path).read_text())
        return cls(stored["rows"], interrupted=stored["interrupted"])


def _brief(value: object) -> str:
    if value is None:
        return ""
    return format(value, ".4g") if isinstance(value, int | float) else str(value)
