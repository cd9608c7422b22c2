"""Whether a measured value stands in a relation to its bound, of numbers, texts, shapes, arrays and tensors."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import numpy as np
from scipy import special

from cnncourse.errors import ParameterError, ShapeError, nearest

ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
RELATIONS = ("==", "~", *ORDERS, "in")


def check_bound(
    relation: object, bound: object, tolerance: float | None, where: str, computed: bool = False
) -> None:
    """Refuse a relation, bound and tolerance that do not go together, naming what to write.

    computed: the numbers come from changed parameters, so that a range may be empty and a tolerance 0: nothing then
    satisfies them, and nobody has to correct them.
    """
    if relation not in RELATIONS:
        raise ParameterError(
            f"a relation, one of {' '.join(RELATIONS)}",
            repr(relation),
            where=where,
            remedy=f"'~' with a tolerance compares floats, '==' exactly; {nearest(str(relation), RELATIONS)}",
        )
    if (relation == "~") != (tolerance is not None):
        raise ParameterError(
            "a tolerance with the relation '~', and with no other",
            f"{relation!r} and {tolerance!r}",
            where=where,
            remedy="write (measured, '~', bound, 1e-3): '~' needs the largest difference allowed",
        )
    if tolerance is not None and not (
        is_number(tolerance) and (computed or 0 < tolerance < math.inf)
    ):
        raise ParameterError(
            "a positive tolerance",
            repr(tolerance),
            where=where,
            remedy="use '==' to compare exactly",
        )
    ends = plain(bound)
    if relation == "in" and not (_is_pair(ends) and (computed or ends[0] <= ends[1])):
        raise ParameterError(
            "a bound (low, high) for the relation 'in'",
            repr(bound),
            where=where,
            remedy="write the smaller end first, such as (0.2, 0.4)",
        )


def satisfies(
    measured: object, relation: str, bound: object, tolerance: float | None, where: str
) -> bool:
    """Whether one value satisfies its relation; `ShapeError` where the two cannot be compared."""
    if relation == "==":
        return same(measured, bound)
    if relation == "~":
        return _near(measured, bound, tolerance, where)
    value, ends = plain(measured), plain(bound)
    if not is_number(value) or (relation != "in" and not is_number(ends)):
        raise ShapeError(
            f"one number on each side of {relation!r}",
            f"{measured!r} and {bound!r}",
            where=where,
            remedy="pass .min() or .max() of an array, or seeds= where there is one number for each seed",
        )
    return compare(value, relation, ends, tolerance)


def compare(value: float, relation: str, bound: object, tolerance: float | None) -> bool:
    """A relation between plain numbers."""
    if relation == "==":
        return value == bound
    if relation == "in":
        return bound[0] <= value <= bound[1]
    return abs(value - bound) <= tolerance if relation == "~" else ORDERS[relation](value, bound)


def same(measured: object, bound: object) -> bool:
    """Exact equality of numbers, texts, shapes and arrays; nan equals nan, and a text never equals a number."""
    first, second = as_numpy(measured), as_numpy(bound)
    arrays = isinstance(first, np.ndarray) and isinstance(second, np.ndarray)
    if arrays and first.dtype.kind in "biufc":
        return second.dtype.kind in "biufc" and np.array_equal(first, second, equal_nan=True)
    first, second = plain(measured), plain(bound)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second or (first != first and second != second)  # only nan is unlike itself


def interval(runs: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean by Student's t: what further seeds would plausibly give on average.

    >>> interval([0.90, 0.94, 0.98])
    (0.84..., 1.03...)
    """
    mean = math.fsum(runs) / len(runs)
    if len(runs) == 1:
        return mean, mean
    deviation = np.std(runs, ddof=1) / math.sqrt(len(runs))
    half = special.stdtrit(len(runs) - 1, 0.975) * deviation  # quantile of Student's t
    return tuple(
        0.0 if abs(end) < 1e-9 * half else float(end) for end in (mean - half, mean + half)
    )


def as_numpy(value: object) -> object:
    """A tensor as an array (half precision as float64), everything else as it is."""
    if not hasattr(value, "detach"):  # a tensor, without importing torch
        return value
    value = value.detach().cpu()
    narrow = str(value.dtype) in ("torch.bfloat16", "torch.float16")
    return (value.double() if narrow else value).numpy()


def plain(value: object) -> object:
    """Numbers, texts and nested lists of them, without numpy's or torch's types."""
    value = as_numpy(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [plain(element) for element in value]
    return value


def is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _near(measured: object, bound: object, tolerance: float, where: str) -> bool:
    try:
        first, second = (np.asarray(plain(value), dtype=float) for value in (measured, bound))
    except (TypeError, ValueError):
        raise ShapeError(
            "numbers on both sides of '~', in arrays of one shape",
            f"{measured!r} and {bound!r}",
            where=where,
            remedy="use '==' for texts and for lists of shapes",
        ) from None
    equal_shapes = first.shape == second.shape
    return equal_shapes and np.allclose(first, second, rtol=0, atol=tolerance, equal_nan=True)


def _is_pair(ends: object) -> bool:
    return isinstance(ends, list) and len(ends) == 2 and all(map(is_number, ends))
