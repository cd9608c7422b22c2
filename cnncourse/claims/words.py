"""Numbers, shapes and arrays as a reader sees them: short, and never in contradiction to their own bound."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from cnncourse.claims import relations
from cnncourse.claims.relations import is_number, plain

COUNTS = "zero one two three four five six seven eight nine ten eleven twelve".split()
NOISE = 1e-6  # the size of a rounding error below this says nothing: "under 1e-12"
PRECISION = re.compile(r"(?P<head>.*?)(?:\.(?P<digits>\d+))?(?P<kind>[eEfFgG%]?)")
AT_MOST_DIGITS = 17  # a float has no more


def text_of(value: object) -> str:
    """A value in words: a float stays recognisable as one, large integers have commas.

    >>> text_of(14455392), text_of(0.4566), text_of((36, 36, 3)), text_of(2.0)
    ('14,455,392', '0.4566', '(36, 36, 3)', '2.0')
    """
    if value == 0 and isinstance(value, float):
        return "0.0"  # also for -0.0
    if isinstance(value, list | tuple):
        inner = ", ".join(
            text_of(element) if not isinstance(element, str) else repr(element) for element in value
        )
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if 1e6 <= abs(value) < math.inf:
        mantissa, exponent = f"{value:.11e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{exponent}"
    text = f"{value:.12g}"
    text = text if float(text) == value or value != value else repr(value)
    return text if re.search(r"[.en]", text) else f"{text}.0"


def rounded(value: object, digits: int = 6) -> object:
    """Floats with so many significant digits, large arrays by their shape."""
    value = relations.as_numpy(value)
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"array {text_of(value.shape)}"
    value = plain(value)
    if isinstance(value, list):
        if len(value) > 8:
            return f"{len(value)} values"
        return [rounded(element, digits) for element in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def shown(measured: object, relation: str, bound: object, tolerance: float | None) -> object:
    """A measured value with four significant digits, or as many as still show the relation.

    Four digits survive rounding on another processor; but 0.99997 < 1 must not be printed as 1.0 < 1.
    """
    if relation == "==":  # what is equal to the last bit has nothing to lose; a difference shows
        return rounded(measured, 6 if relations.same(measured, bound) else AT_MOST_DIGITS)
    value, limit = rounded(measured, AT_MOST_DIGITS), plain(bound)
    if isinstance(value, list):
        fits = isinstance(limit, list) and len(limit) == len(value)
        limits = limit if fits else [limit] * len(value)
        return [
            shown(element, relation, end, tolerance)
            for element, end in zip(value, limits, strict=True)
        ]
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    if relation in ("<", "<=") and is_number(limit) and 0 < value < min(limit, NOISE):
        return f"under {text_of(float(min(limit, NOISE)))}"
    if relation == "~":  # nothing below a tenth of the tolerance
        value = round(value, 1 - math.floor(math.log10(tolerance))) + 0.0
    try:
        truth = relations.compare(value, relation, limit, tolerance)
        told = rounded(limit)
        for digits in range(4, AT_MOST_DIGITS):
            short = float(f"{value:.{digits}g}")
            if relations.compare(short, relation, told, tolerance) == truth:
                return short
    except TypeError:  # a bound that is no number: `relations.satisfies` says so
        pass
    return value


def told(value: object, spec: str, relation: str, bound: object, tolerance: float | None) -> str:
    """A measured value in the format `spec` of the sentence, with more digits where fewer would hide the truth.

    >>> told(0.9996, ".1%", "<", 1, None)
    '99.96%'
    """
    value = plain(value)
    if not spec:
        return text_of(shown(value, relation, bound, tolerance) if relation else rounded(value, 4))
    text, limit = _formatted(value, spec), plain(bound)
    comparable = is_number(value) and not isinstance(value, bool) and math.isfinite(value)
    if not relation or not comparable:
        return text
    truth = relations.compare(value, relation, limit, tolerance)
    head, digits, kind = PRECISION.fullmatch(spec).group("head", "digits", "kind")
    for more in range(int(digits or 0), AT_MOST_DIGITS if kind else 0):
        text = _formatted(value, f"{head}.{more}{kind}")
        if relations.compare(_number(text), relation, limit, tolerance) == truth:
            return text
    if relation == "==" and truth:
        return _formatted(value, spec)  # the bound has as many digits, and is rounded as well
    return text_of(shown(value, relation, bound, tolerance))


def digits_of_bound(
    measured: object, said: str, relation: str, bound: object, tolerance: float | None
) -> int:
    """How many digits a bound has in words: six, or if it is a measurement itself, as few as contradict nothing.

    said: the measured value as the sentence has it. What is equal but for the last bits keeps them all.

    >>> digits_of_bound(0.47, "47%", "<", 0.654444444, None), digits_of_bound(0.6543, "65.43%", "<", 0.654444444, None)
    (3, 4)
    """
    if relation == "==":
        return 6 if relations.same(measured, bound) else AT_MOST_DIGITS
    limits = plain(bound) if relation == "in" else [plain(bound)]
    if all(not is_number(limit) or float(f"{limit:.6g}") == limit for limit in limits):
        return 6  # typed in
    try:
        value = _number(said)
    except ValueError:  # "under 1e-12"
        return 3
    truth = relations.compare(plain(measured), relation, plain(bound), tolerance)
    for digits in range(3, 6):
        short = [float(f"{limit:.{digits}g}") for limit in limits]
        far = relation == "~" and abs(short[0] - limits[0]) > 0.1 * tolerance
        seen = relations.compare(
            value, relation, short if relation == "in" else short[0], tolerance
        )
        if seen == truth and not far:
            return digits
    return 6


def requirement(
    relation: str, bound: object, tolerance: float | None, spec: str = "", digits: int = 6
) -> str:
    """What a value has to satisfy, in words: ``at least 25``, ``0.4566 ± 0.001``, ``from 20% to 40%``."""

    def words(value: object) -> str:
        value = rounded(value, digits)
        if spec.endswith("%") and is_number(value):
            return f"{value * 100:.{digits}g}%"
        return text_of(value)

    if relation == "in":
        low, high = plain(bound)
        return f"from {words(low)} to {words(high)}"
    if relation == "~":
        return f"{words(bound)} ± {words(tolerance)}"
    before = {"==": "exactly", "<": "under", "<=": "at most", ">": "above", ">=": "at least"}
    return f"{before[relation]} {words(bound)}"


def count(number: int, noun: str) -> str:
    """A number with its noun: ``three seeds``, ``1 row`` of a table is ``one row``."""
    word = COUNTS[number] if number < len(COUNTS) else str(number)
    return f"{word} {noun}{'' if number == 1 else 's'}"


def aligned(rows: Sequence[Sequence[str]], widest: int = 44) -> list[str]:
    """Lines of a table in plain text, its columns one below the other."""
    widths = [min(max(len(row[at]) for row in rows), widest) for at in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def storable(value: object) -> object:
    """JSON has no nan, no infinity and no types of torch: they are stored as words."""
    if isinstance(value, list | tuple):
        return [storable(element) for element in value]
    if isinstance(value, Mapping):  # the mean of several seeds, and its ends
        return {name: storable(element) for name, element in value.items()}
    finite = isinstance(value, float) and math.isfinite(value)
    return value if value is None or finite or isinstance(value, str | int) else str(value)


def _formatted(value: object, spec: str) -> str:
    text = format(value, spec)
    nought = text[:1] == "-" and not re.search("[1-9a-z]", text)  # "-0.00"
    return text[1:] if nought else text


def _number(text: str) -> float:
    text = text.replace(",", "").replace("_", "").strip()
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)
