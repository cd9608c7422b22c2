"""Every failure that a user can cause: what was expected, what came, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CourseError(Exception):
    """A failure with its remedy; the subclasses say which kind of remedy.

    >>> raise CourseError("an even size", 7, where="argument size of crop", remedy="pad to 8 first")
    Traceback (most recent call last):
    cnncourse.errors.CourseError: expected an even size
      got:   7
      where: argument size of crop
      to do: pad to 8 first
    """

    def __init__(self, expected: object, got: object, *, where: object, remedy: str):
        super().__init__(
            f"expected {expected}\n  got:   {got}\n  where: {where}\n  to do: {remedy}"
        )
        self.expected, self.got, self.where, self.remedy = expected, got, where, remedy


class ParameterError(CourseError, ValueError):
    """An unknown name or an unusable value: type another one."""


class ShapeError(CourseError, ValueError):
    """An array or tensor of the wrong shape or dtype: change what is passed."""


class DataError(CourseError, OSError):
    """A data set is missing, cut short or altered: fetch it again, or point CNNCOURSE_DATA elsewhere."""


class CheckpointError(CourseError, RuntimeError):
    """A checkpoint that is cut short, foreign or from another network: use another one, or start anew."""


class TrainingError(CourseError, RuntimeError):
    """Training cannot go on: a loss that is not finite, memory that is used up, labels outside the classes."""


class MachineError(CourseError, RuntimeError):
    """This machine cannot do what was asked for: a device, precision or setting it does not have."""


class LessonError(CourseError, RuntimeError):
    """A lesson failed while running: a cell raised, took too long, or its kernel died."""


class TwinError(CourseError, RuntimeError):
    """A notebook and its text both changed and say different things: choose the one to keep."""


class ClaimError(CourseError, AssertionError):
    """A sentence of the lecture is not true of the numbers measured."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """The clause that names the choice most like `word`, for the remedy of a `ParameterError`.

    >>> nearest("epocs", ["epochs", "seed"])
    "did you mean 'epochs'?"
    """
    choices = sorted(choices)
    like = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"did you mean {like[0]!r}?" if like else f"choose one of {', '.join(choices)}"
