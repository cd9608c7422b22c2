"""Exercises of the lessons: a check that says what is wrong, hints in steps, and a tested reference solution."""

from __future__ import annotations

import dis
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass

from cnncourse.errors import ParameterError, nearest
from cnncourse.exercises.predictions import predict, reveal

__all__ = [
    "Exercise",
    "Wrong",
    "check",
    "find",
    "hint",
    "of_lesson",
    "predict",
    "reveal",
    "solution",
]


class Wrong(Exception):
    """Raised by a check with one sentence: what was expected, what came, and how to see it."""


@dataclass(frozen=True)
class Exercise:
    """One exercise, held in the list ``EXERCISES`` of ``cnncourse/exercises/lesson_NN.py``.

    check: called with the student's answers; returns a sentence on success (what the answer shows), raises `Wrong`.
    solution: a function that solves it; its source is what `solution` shows. With `returns_answer` its return
        value (one answer, or a tuple of them) is what `check` gets; without, the function itself is the answer.
    """

    id: str  # "04.1": the lesson and the place in it
    title: str
    hints: tuple[str, ...]
    check: Callable[..., str]
    solution: Callable
    returns_answer: bool = False

    def answers(self) -> tuple:
        """What a student with the reference solution would hand in."""
        if not self.returns_answer:
            return (self.solution,)
        answer = self.solution()
        return answer if isinstance(answer, tuple) else (answer,)


def of_lesson(number: str) -> dict[str, Exercise]:
    """All exercises of a lesson by their id, ``of_lesson("04")["04.1"]``."""
    try:
        module = importlib.import_module(f"cnncourse.exercises.lesson_{number}")
    except ModuleNotFoundError as error:
        if error.name != f"cnncourse.exercises.lesson_{number}":
            raise
        raise ParameterError(
            "the id of an exercise such as '04.1'",
            f"lesson {number!r}",
            where="cnncourse.exercises",
            remedy="use the id printed above the exercise",
        ) from None
    return {exercise.id: exercise for exercise in module.EXERCISES}


def find(id: str) -> Exercise:
    """The exercise with this id; `ParameterError` names the nearest one otherwise."""
    known = of_lesson(id.partition(".")[0])
    if id not in known:
        raise ParameterError(
            "the id of an exercise",
            repr(id),
            where="cnncourse.exercises",
            remedy=nearest(id, known),
        )
    return known[id]


def check(id: str, *answers: object) -> None:
    """Print whether the answers are right; a wrong or missing answer never raises, so the lesson runs on.

    An answer of ``...`` or ``None``, or a function whose body is still ``...``, counts as not attempted.

    >>> check("04.2", ...)
    04.2 not attempted yet - exercises.hint('04.2') gives a first step
    """
    exercise = find(id)
    if any(_is_stub(answer) for answer in answers) or not answers:
        print(f"{id} not attempted yet - exercises.hint({id!r}) gives a first step")
        return
    try:
        print(f"{id} right: {exercise.check(*answers)}")
    except Wrong as error:
        print(f"{id} not yet: {error}")
    except (
        Exception
    ) as error:  # the student's own code failed: that is an answer about it, with its place
        frame = inspect.trace()[-1]
        place = f"line {frame.lineno} in {frame.function}"
        print(f"{id} not yet: your code raised {type(error).__name__}: {error} ({place})")


def hint(id: str, step: int = 1) -> None:
    """Print hint number `step` (from 1), and how many there are."""
    hints = find(id).hints
    if not 1 <= step <= len(hints):
        raise ParameterError(
            f"a step from 1 to {len(hints)}",
            step,
            where=f"hint of exercise {id}",
            remedy=f"exercises.solution({id!r}) shows the solution",
        )
    more = (
        f"exercises.hint({id!r}, {step + 1})"
        if step < len(hints)
        else f"exercises.solution({id!r})"
    )
    print(f"hint {step} of {len(hints)}: {hints[step - 1]}\nmore: {more}")


def solution(id: str) -> None:
    """Print the source of the reference solution: the code that CI runs through the same check."""
    print(inspect.getsource(find(id).solution))


def _is_stub(answer: object) -> bool:
    if answer is None or answer is ...:
        return True
    if not inspect.isfunction(answer):
        return False
    code = (
        answer.__code__
    )  # a body of `...`, `pass` or a docstring alone only returns the constant None
    steps = [(step.opname, step.argval) for step in dis.get_instructions(code)]
    steps = [step for step in steps if step[0] not in ("RESUME", "NOP")]
    return steps in ([("RETURN_CONST", None)], [("LOAD_CONST", None), ("RETURN_VALUE", None)])
