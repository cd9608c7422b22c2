"""Does a lesson still run when a student changes a value? Each parameter is changed once, to a small value in range."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from cnncourse import paths
from cnncourse.errors import DataError, LessonError
from cnncourse.lab import execute
from cnncourse.lab.lesson import Lesson
from cnncourse.parameters import Parameter

GPU = "pretend"  # the device of `cnncourse.pretend`
STARTED = re.compile(r"runtime\.start\(([^)]*)\)")
PROCESSOR = re.compile(r"""device=["']cpu["']|dtype=["']float64["']""")  # no GPU is chosen then


def main(names: Iterable[str] = ()) -> int:
    """Run the lessons (none: all) once for each of their parameters; prints how each went, 1 if any stopped."""
    stopped = 0
    for lesson in Lesson.some(names):
        for name, parameter in lesson.parameters.items():
            value, told = _run(lesson, parameter)
            stopped += told.startswith("stopped")
            print(f"{lesson.number}  {name}={value!r}: {told}", flush=True)
    return int(bool(stopped))


def _run(lesson: Lesson, parameter: Parameter) -> tuple[object, str]:
    for value in others(parameter):
        folder = paths.build() / "vary" / lesson.slug / parameter.name
        given = {parameter.name: value}
        try:
            execute.data_is_there(lesson, given)
        except DataError:
            continue  # a set that is not on this machine
        try:
            result = execute.run(lesson, parameters=given, out=folder, progress=False)
        except LessonError as error:
            return value, f"stopped in {error.where}: {' '.join(str(error.got).split())[:200]}"
        return value, f"runs through, {result.seconds:.0f} s"
    return parameter.default, "not changed: no other value that can be tried here"


def pretend(names: Iterable[str] = ()) -> int:
    """Run the lessons (none: all) at small parameters on the pretend GPU; prints how each went, 1 if any stopped."""
    stopped = 0
    for lesson in Lesson.some(names):
        told = _pretended(lesson)
        stopped += told.startswith("stopped")
        print(f"{lesson.number}: {told}", flush=True)
    return int(bool(stopped))


def _pretended(lesson: Lesson) -> str:
    if stays_on_processor(lesson):
        return "stays on the processor, as its runtime.start asks"
    given = {name: smallest(parameter) for name, parameter in lesson.parameters.items()}
    folder, first = (
        paths.build() / "pretend" / lesson.slug,
        "from cnncourse import pretend; pretend.start()",
    )
    try:
        result = execute.run(lesson, parameters=given, out=folder, first=first, progress=False)
    except LessonError as error:
        return f"stopped in {error.where}: {' '.join(str(error.got).split())[:300]}"
    if not str(result.provenance["device"]).startswith(GPU):
        return f"stopped: it was to compute on {GPU}, not on {result.provenance['device']}"
    return f"runs through, {result.seconds:.0f} s"


def stays_on_processor(lesson: Lesson) -> bool:
    """Whether every `runtime.start` of a lesson asks for the processor, by name or by computing in float64."""
    starts = [call for cell in lesson.cells for call in STARTED.findall(cell.source)]
    return bool(starts) and all(PROCESSOR.search(call) for call in starts)


def smallest(parameter: Parameter) -> object:
    """The value of a parameter that costs least: the smallest number above 0 that its range names, a list of few.

    >>> smallest(Parameter("epochs", "int", 10, "passes; 1 to 200"))
    1
    """
    default = parameter.default
    candidates: list = []
    if parameter.name == "batch_size":  # small batches cost more
        return default
    if parameter.type == "int":
        candidates = [number for number in sorted(_numbers(parameter)) if number]
        candidates = [number for number in candidates if not default or number < default]
    elif isinstance(default, list):
        candidates = [default[:1], default[:2]]
    return next((value for value in candidates if parameter.fits(value)), default)


def others(parameter: Parameter) -> list[object]:
    """Other values in the range of a parameter, the one to try first in front: small ones cost little and break most.

    >>> others(Parameter("epochs", "int", 10, "passes; 1 to 200"))[0]
    1
    """
    candidates = [value for value in _candidates(parameter) if value != parameter.default]
    return [value for value in candidates if parameter.fits(value)]


def _candidates(parameter: Parameter) -> Iterator[object]:
    default = parameter.default
    if isinstance(default, bool):
        yield not default
    elif isinstance(default, int):
        yield from (1, 2, default // 2, default - 1, default + 1, 2 * default, 0)
        yield from _numbers(parameter)
    elif isinstance(default, float):
        yield from (default / 2, 2 * default)
    elif isinstance(default, str):
        yield from parameter.range.choices if parameter.range else ()
    elif isinstance(default, list):
        yield from (default[:1], default[:-1], default[1:], [*default, *default[-1:]])
        yield from ([number, *default[1:]] for number in _numbers(parameter))


def _numbers(parameter: Parameter) -> list[int]:
    """The whole numbers that the range of a parameter names."""
    return [
        int(number)
        for number in re.findall(r"\d+", parameter.range.text if parameter.range else "")
    ]
