"""Exercises of the lessons: a check that says what is wrong, hints in steps, and a tested reference solution."""

from __future__ import annotations

import ast
import dis
import importlib
import inspect
import re
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnncourse.errors import ParameterError, nearest
from cnncourse.exercises.predictions import predict, reveal

__all__ = [
    "Exercise",
    "Wrong",
    "check",
    "expect_same",
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
    given: names of what the lesson defines and hands to `check` behind the answer, such as ("Node",).
    """

    id: str  # "04.1": the lesson and the place in it
    title: str
    hints: tuple[str, ...]
    check: Callable[..., str]
    solution: Callable
    returns_answer: bool = False
    given: tuple[str, ...] = ()

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


def find(id: str | float) -> Exercise:
    """The exercise with this id, in short ``"4.1"`` or ``4.1``; `ParameterError` names the nearest one otherwise."""
    lesson, _, place = str(id).strip().partition(".")
    number = lesson.zfill(2)
    known = of_lesson(number)
    wanted = f"{number}.{place}"
    if wanted in known:
        return known[wanted]
    prediction = re.fullmatch(r"p\d+", place)
    raise ParameterError(
        "the id of an exercise",
        repr(id),
        where="cnncourse.exercises",
        remedy="that is a prediction: exercises.predict asks it"
        if prediction
        else nearest(wanted, known),
    )


def check(id: str | float, *answers: object) -> None:
    """Print whether the answers are right; a wrong or missing answer never raises, so the lesson runs on.

    An answer of ``...`` or ``None``, or a function whose body is still ``...``, counts as not attempted. Single numbers
    of numpy and torch count as the Python numbers that they are.

    >>> check("04.2", ...)
    04.2 not attempted yet - exercises.hint('04.2') gives a first step
    """
    exercise = find(id)
    id = exercise.id
    if any(_is_stub(answer) for answer in answers) or not answers:
        print(f"{id} not attempted yet - exercises.hint({id!r}) gives a first step")
        return
    try:
        print(f"{id} right: {exercise.check(*map(_plain, answers))}")
    except Wrong as error:
        print(f"{id} not yet: {error}")
    except Exception as error:  # also an answer that cannot be used is an answer
        print(f"{id} not yet: {_failure(error, inspect.trace())}")


def hint(id: str | float, step: int = 1) -> None:
    """Print hint number `step` (from 1), and how many there are."""
    exercise = find(id)
    id, hints = exercise.id, exercise.hints
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


def solution(id: str | float) -> None:
    """Print the source of the reference solution, with the imports and helpers that it needs: it runs as it stands."""
    print(runnable_source(find(id).solution))


def expect_pair(answer: object, first: str, second: str) -> tuple:
    """The answer as a tuple of two; raises `Wrong` for anything else.

    >>> weight, bias = expect_pair(3.0, "weight", "bias")
    Traceback (most recent call last):
    cnncourse.exercises.Wrong: expected a pair (weight, bias), got float
    """
    several = isinstance(answer, tuple | list)
    if several and len(answer) == 2:
        return tuple(answer)
    got = f"{len(answer)} values" if several else type(answer).__name__
    raise Wrong(f"expected a pair ({first}, {second}), got {got}")


def expect_same(
    answer: object,
    expected: object,
    what: str,
    hints: Iterable[tuple[object, str]] = (),
    *,
    shapes: Iterable[tuple[tuple[int, ...], str]] = (),
    tolerance: float = 1e-9,
) -> None:
    """Raise `Wrong` unless two numbers or arrays are the same up to rounding, naming shape or the worst entry.

    hints: pairs of a wrong result and the sentence for whoever gets it; one that is right as well is passed over.
    shapes: pairs of a shape other than the expected one and the sentence for it.
    tolerance: how far apart two numbers may be, in units of the largest expected number, or of 1 if that is smaller.

    >>> expect_same(torch.ones(2, 3), np.ones((3, 2)), "the output")
    Traceback (most recent call last):
    cnncourse.exercises.Wrong: the output: expected shape (3, 2), got (2, 3). Print the shape after each step.
    >>> expect_same([3.0, 5.0], [1.5, 2.5], "the slopes", hints=[([3.0, 5.0], "the half is missing")])
    Traceback (most recent call last):
    cnncourse.exercises.Wrong: the slopes: the half is missing

    Numbers of any type and package; what was computed in float32 or less is compared as finely as its digits allow.
    Both numbers are printed with as many digits as show that they differ.
    """
    got, wanted = (_array(value, what) for value in (answer, expected))
    for value, sentence in hints:
        wrong = _array(value, what)
        if _agree(got, wrong, tolerance) and not _agree(wrong, wanted, tolerance):
            raise Wrong(f"{what}: {sentence}")
    if got.shape != wanted.shape:
        for shape, sentence in shapes:
            if got.shape == tuple(shape):
                raise Wrong(f"{what}: {sentence}")
        raise Wrong(
            f"{what}: expected shape {wanted.shape}, got {got.shape}. Print the shape after each step."
        )
    if _agree(got, wanted, tolerance):
        return
    one, other = got.astype(float), wanted.astype(float)
    with np.errstate(invalid="ignore"):  # inf - inf
        off = np.where((one == other) | np.isnan(one) & np.isnan(other), 0, np.abs(one - other))
    worst = np.unravel_index(np.nan_to_num(off, nan=np.inf).argmax(), off.shape)
    one, other = got[worst].item(), wanted[worst].item()
    digits = next((n for n in range(4, 18) if f"{one:.{n}g}" != f"{other:.{n}g}"), 17)
    entry = f"the shape is right, but entry {tuple(map(int, worst))} is " if worst else "got "
    raise Wrong(f"{what}: {entry}{one:.{digits}g}, expected {other:.{digits}g}")


def _agree(got: np.ndarray, wanted: np.ndarray, tolerance: float) -> bool:
    """The same shape and, up to rounding, the same numbers; nan agrees with nan."""
    if got.shape != wanted.shape:
        return False
    exact = got.dtype.itemsize >= 8 or got.dtype.kind in "biu"
    size = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=1))
    allowed = size * (tolerance if exact else max(tolerance, 1e-4))
    one, other = got.astype(float), wanted.astype(float)
    return bool(np.isclose(one, other, rtol=0, atol=allowed, equal_nan=True).all())


def runnable_source(function: Callable) -> str:
    """The source of a function of a module, after the imports, constants and helpers of that module that it uses."""
    lines = inspect.getsource(inspect.getmodule(function)).splitlines()
    parts: dict[str, ast.stmt] = {}
    for node in ast.parse("\n".join(lines)).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            parts |= {
                (alias.asname or alias.name).partition(".")[0]: _import(node, alias)
                for alias in node.names
            }
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            parts[node.name] = node
        elif isinstance(node, ast.Assign):
            parts |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
    needed, waiting = set(), [function.__name__]
    while waiting:
        name = waiting.pop()
        if name in parts and name not in needed:
            needed.add(name)
            used = (node for node in ast.walk(parts[name]) if isinstance(node, ast.Name))
            waiting += [node.id for node in used]
    chosen = [parts[name] for name in parts if name in needed]
    imports = [
        ast.unparse(node) for node in chosen if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    rest = ["\n".join(lines[_start(node) - 1 : node.end_lineno]) for node in chosen[len(imports) :]]
    return "\n\n\n".join((["\n".join(imports)] if imports else []) + rest)


def _import(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> ast.stmt:
    """The import of this one name, out of a line that may import several."""
    if isinstance(node, ast.Import):
        return ast.Import([alias])
    return ast.ImportFrom(node.module, [alias], node.level)


def _start(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _plain(answer: object) -> object:
    """A single number of numpy or torch as a Python number, also within tuples and lists; the rest as it is."""
    if type(answer) in (list, tuple):
        return type(answer)(map(_plain, answer))
    return answer.item() if getattr(answer, "shape", None) == () else answer


def _array(value: object, what: str) -> np.ndarray:
    if hasattr(value, "detach"):  # a tensor
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise Wrong(f"{what}: expected numbers, got {type(value).__name__}: {str(value)[:80]!r}")
    return array


def _failure(error: Exception, trace: list) -> str:
    """What an answer raised, with the line of the student's own code where there is one."""
    own = [frame for frame in trace[1:] if not _is_ours(frame.filename)]
    if own:
        place = f"line {own[-1].lineno} in {own[-1].function}"
        return f"your code raised {type(error).__name__}: {error} ({place})"
    return (
        f"the answer could not be used ({type(error).__name__}: {error}). "
        "Does it have the type and the arguments that the exercise asks for?"
    )


def _is_ours(filename: str) -> bool:
    """Whether a file belongs to the course or to an installed package, so that its line says nothing to a student."""
    path = Path(filename)
    return Path(__file__).parents[1] in path.parents or any(
        Path(sysconfig.get_path(name)) in path.parents for name in ("stdlib", "purelib", "platlib")
    )


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
