"""The points of a sweep: which values its parameters take, and which seeds. All is checked before anything runs."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from cnncourse.errors import ParameterError
from cnncourse.lab.lesson import Lesson
from cnncourse.parameters import NUMBER

SPACED = re.compile(rf"{NUMBER}:{NUMBER}:(log|lin)(\d+)")  # 0.01:0.3:log5
SYNTAX = "name=8,16 or name=0.01:0.3:log5 (five values, equal ratios) or name=8:32:lin4"
DIGITS = 6  # significant, of a value between the two ends
SEED_STEP = 1000  # from one seed to the next: no lesson has as many seeds of its own


@dataclass(frozen=True)
class Axis:
    """A parameter and the values it takes: ``Axis("learning_rate", (0.01, 0.1), "log")``."""

    name: str
    values: tuple
    spacing: str = ""  # "log" or "lin" where they were asked for so

    @classmethod
    def read(cls, text: str, lesson: Lesson) -> Axis:
        """The axis that the words of ``--grid`` mean.

        >>> Axis.read("learning_rate=0.01:1:log3", Lesson.find("14")).values
        (0.01, 0.1, 1.0)

        A list stands in brackets: ``depths=[8,20],[20,56]``. Raises `ParameterError`, which names parameter, value and
        range, for a name that the lesson does not have, a value out of its range, and one that is named twice.
        """
        name, equals, words = (part.strip() for part in text.partition("="))
        where = f"--grid {text} of lesson {lesson.slug}"
        if not equals or not name or not words:
            raise ParameterError(SYNTAX, repr(text), where=where, remedy="name at least one value")
        parameter = lesson.parameter(name, where=where)
        spaced = SPACED.fullmatch(words)
        if ":" in words and not spaced and parameter.kinds[0] in ("int", "float"):
            raise ParameterError(
                SYNTAX, repr(text), where=where, remedy="write both ends, log or lin, and how many"
            )
        texts = _between(spaced, where) if spaced else _parted(words)
        values = tuple(parameter.value(word, where=where) for word in texts)
        for place, value in enumerate(values):
            if value in values[:place]:
                raise ParameterError(
                    f"different values of {name}",
                    f"{value!r} twice",
                    where=where,
                    remedy="name each once",
                )
        return cls(name, values, spaced[3] if spaced else "")


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    given: dict[
        str, object
    ]  # parameters that differ from the preset's: of the grid, the seeds, and -p
    place: dict[str, object]  # its values on the axes
    seed: int  # its number among the seeds, from 0

    @cached_property
    def label(self) -> str:
        """``"width=8, learning_rate=0.1, seed 2"``."""
        words = [f"{name}={short(value)}" for name, value in self.place.items()]
        return ", ".join([*words, f"seed {self.seed}"])


def points(
    lesson: Lesson,
    axes: Iterable[Axis],
    seeds: int = 1,
    given: Mapping[str, object] | None = None,
    preset: str = "default",
) -> list[Point]:
    """Every combination of the axes' values, with each seed; the whole grid with the first seed comes first.

    seeds: the lesson's own (of the preset) and further ones, each larger by 1,000; a list of seeds moves as a whole.
    Raises `ParameterError` for a parameter that is named twice, and whatever `Lesson.settings` refuses.
    """
    axes, fixed = list(axes), lesson.settings(given or {}, preset)
    given = {name: fixed[name] for name in given or {}}
    names = [axis.name for axis in axes]
    moved = seeds_of(lesson, fixed, 0) if seeds > 1 else {}
    if seeds > 1 and not moved:
        raise ParameterError(
            "a lesson with a parameter seed or seeds",
            f"--seeds {seeds}",
            where=f"lesson {lesson.slug}",
            remedy="leave --seeds out: nothing in it is drawn at random",
        )
    for name in names:
        if names.count(name) > 1 or name in given or name in moved:
            other = "-p" if name in given else "--seeds" if name in moved else "another --grid"
            raise ParameterError(
                "each parameter once",
                f"{name} in --grid and in {other}",
                where=f"sweep of lesson {lesson.slug}",
                remedy="keep one of the two",
            )
    made = []
    for seed in range(seeds):
        own = seeds_of(lesson, fixed, SEED_STEP * seed) if seed else {}
        for values in itertools.product(*(axis.values for axis in axes)):
            place = dict(zip(names, values, strict=True))
            point = Point(given | own | place, place, seed)
            lesson.settings(point.given, preset)
            made.append(point)
    return made


def seeds_of(lesson: Lesson, chosen: Mapping[str, object], by: int) -> dict[str, object]:
    """The lesson's seeds, each larger by a number: ``{"seed": 1000, "seeds": [1000, 1001]}``; {} if it has none.

    chosen: parameters that are not at their defaults, of a preset or given.
    """
    moved = {}
    for name in ("seed", "seeds"):
        if name in lesson.parameters:
            value = chosen.get(name, lesson.parameters[name].default)
            moved[name] = [one + by for one in value] if isinstance(value, list) else value + by
    return moved


def short(value: object) -> str:
    """A value as a label or a cell of a table shows it: texts as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _between(spaced: re.Match, where: str) -> list[str]:
    low, high, spacing, count = float(spaced[1]), float(spaced[2]), spaced[3], int(spaced[4])
    if count < 2 or not low < high or (spacing == "log" and low <= 0):
        above = "0 < low < high" if spacing == "log" else "low < high"
        raise ParameterError(
            f"{above} and at least 2 values", spaced[0], where=where, remedy=f"write {SYNTAX}"
        )
    if spacing == "log":
        low, high = math.log10(low), math.log10(high)
    steps = [low + (high - low) * step / (count - 1) for step in range(1, count - 1)]
    inner = [f"{10**step if spacing == 'log' else step:.{DIGITS}g}" for step in steps]
    return [
        spaced[1],
        *inner,
        spaced[2],
    ]  # a whole number must come out whole where the parameter is one


def _parted(words: str) -> list[str]:
    """The values between commas that stand outside of brackets."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(words):
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and depth == 0:
            parts.append(words[start:place])
            start = place + 1
    return [part.strip() for part in [*parts, words[start:]]]
