"""A sentence of the lecture, checked by code: printed as a row, raised when false, reported over all lessons."""

from __future__ import annotations

import ast
import json
import math
import operator
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnncourse import project
from cnncourse.errors import ClaimError, ParameterError, ShapeError, nearest

MIME = "application/vnd.cnncourse.claim+json"
ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
RELATIONS = ("==", "~", *ORDERS, "in")
READINGS = ("interval", "mean", "every")
# Two-sided 95 % quantiles of Student's t for 1 to 20 degrees of freedom: intervals of a mean of few seeds.
T95 = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
    2.120,
    2.110,
    2.101,
    2.093,
    2.086,
)

COLUMNS = 100  # of the longest line of a row
_collected: dict[str, Claim] = {}


@dataclass(frozen=True)
class Claim:
    """One checked or quoted sentence; numbers are rounded as they are printed."""

    id: str  # a ledger id, or one with a suffix: "num-conv-params-760.total"
    verdict: str  # "holds", "false", "not claimed here" or "quoted"
    measured: object = (
        None  # number, text, list, or the word "array (2, 3, 8, 8)"; a mean when there are seeds
    )
    relation: str = ""
    bound: object = None
    tolerance: float | None = None
    interval: tuple[float, float] | None = (
        None  # 95 % of the mean over the seeds, or (lowest, highest) of every seed
    )
    seeds: int | None = None
    on: str = ""  # how several seeds are read: "interval", "mean" or "every"
    unit: str = ""
    note: str = ""
    varies: bool = False

    def row(self) -> str:
        """What a reader sees: ``num-conv-params-760: 760 parameters == 760 | holds``; a long row has several lines."""
        parts = [f"{self.id}: {self.found()} {self.requirement()}", self.verdict]
        parts += ["the measured number varies with the machine"] * self.varies + [self.note] * bool(
            self.note
        )
        if self.verdict == "quoted":
            parts = [f"{self.id}: {self.measured}", f"quoted from {self.note}, not measured"]
        lines = textwrap.wrap(
            " | ".join(parts),
            COLUMNS,
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )  # JupyterLab breaks a line that does not fit within a word
        return "\n".join(lines)

    def found(self) -> str:
        """The measured value with its unit, and the spread where several seeds were run."""
        return f"{text_of(self.measured)}{' ' * bool(self.unit)}{self.unit}{self._spread()}"

    def requirement(self) -> str:
        """The relation and its bound, ``~ 0.4566 ± 0.001``."""
        if self.relation == "in":
            low, high = self.bound
            return f"in [{text_of(low)}, {text_of(high)}]"
        within = f" ± {text_of(self.tolerance)}" if self.relation == "~" else ""
        return f"{self.relation} {text_of(self.bound)}{within}"

    def data(self) -> dict:
        """What is stored in the notebook under `MIME`: the fields that say something."""
        defaults = {name: field.default for name, field in self.__dataclass_fields__.items()}
        told = {name: value for name, value in vars(self).items() if value is not defaults[name]}
        return {name: _storable(value) for name, value in told.items()}

    def _spread(self) -> str:
        if not self.seeds:
            return ""
        if self.interval is None:
            return f" ({_count(self.seeds)})"
        low, high = map(text_of, self.interval)
        if self.on == "every":
            return f" (mean of {_count(self.seeds)} from {low} to {high})"
        return f" (mean of {_count(self.seeds)}, 95 % interval {low} to {high})"


def check(
    id: str,
    measured: object,
    relation: str,
    bound: object,
    *,
    tolerance: float | None = None,
    seeds: int | Sequence | None = None,
    on: str = "interval",
    given: bool = True,
    varies: bool = False,
    unit: str = "",
    note: str = "",
) -> None:
    """Print one row that says whether the sentence `id` holds, and raise `ClaimError` when it does not.

    >>> check("num-conv-params-760", 760, "==", 760, unit="parameters")
    num-conv-params-760: 760 parameters == 760 | holds

    id: a ledger id; a second claim on the same item adds a suffix, ``"num-conv-params-760.bias"``.
    measured: number, text, tuple, shape, array or tensor. Floats are printed with four significant digits, so that
        the stored row survives rounding on another processor.
    relation, bound: ``"=="`` (exact, also for shapes and arrays; nan equals nan), ``"~"`` (every element within
        `tolerance`), ``"<" "<=" ">" ">="``, and ``"in"`` with a bound ``(low, high)`` that includes its ends.
    seeds: how many runs `measured` stands for, or the seeds themselves. With one value for each seed the row shows
        their mean and the 95 % interval of the mean (Student's t), and `on` says what must satisfy the relation:
        ``"interval"``: both ends, so the unfavourable one too (the default: a lucky mean proves nothing);
        ``"every"``: each single run; ``"mean"``: the mean alone, for effects smaller than the spread we can afford.
    given: the condition under which the lesson claims the sentence, such as ``epochs >= 10``. Where it is false the
        row shows the numbers as "not claimed here" and nothing is raised, so that a lesson runs with other parameters
        and a sentence of the notes that does not hold at our scale is shown as it is. Say in `note` when it holds.
    varies: the measured number differs between machines beyond rounding (a time, float32 training). It is printed,
        and the comparison of lessons leaves it out: then the bound is the tolerance, so give it a margin and write
        it as a number (compare two measured values by their ratio or difference).

    Raises `ClaimError` for a false claim, `ParameterError` for an unknown id (naming the nearest), relation or
    missing tolerance, `ShapeError` where an order relation meets several numbers without `seeds`.
    """
    known_id(id)
    if relation not in RELATIONS:
        raise ParameterError(
            f"a relation, one of {' '.join(RELATIONS)}",
            repr(relation),
            where=_place(id),
            remedy="'~' with tolerance= compares floats, '==' compares exactly",
        )
    if on not in READINGS:
        raise ParameterError(
            f"on= one of {', '.join(READINGS)}",
            repr(on),
            where=_place(id),
            remedy=nearest(str(on), READINGS),
        )
    _check_bound(id, relation, bound, tolerance)
    runs = _runs(id, measured, seeds)
    interval = None
    if runs is None:
        numbers = [measured]
        shown = _shown(measured, relation, bound, tolerance)
    else:
        mean = math.fsum(runs) / len(runs)
        ends = _interval(runs) if len(runs) > 1 else (mean, mean)
        numbers = {"interval": ends, "mean": [mean], "every": runs}[on]
        shown = _shown(mean, relation, bound, tolerance)
        spread = (min(runs), max(runs)) if on == "every" else ends
        interval = (
            tuple(_shown(float(end), relation, bound, tolerance) for end in spread)
            if len(runs) > 1
            else None
        )
    holds = all(_satisfies(id, number, relation, bound, tolerance) for number in numbers)
    claim = Claim(
        id=id,
        verdict="holds" if holds else "false" if given else "not claimed here",
        measured=shown,
        relation=relation,
        bound=_rounded(bound),
        tolerance=tolerance,
        interval=interval,
        seeds=_number_of(seeds),
        on=on if interval else "",
        unit=unit,
        note=note,
        varies=varies,
    )
    _show(claim)
    if claim.verdict == "false":
        raise _untrue(claim, measured, bound)


def quoted(id: str, statement: str, source: str) -> None:
    """Print a figure of a paper that cannot be computed here, as "quoted, not measured".

    >>> quoted("num-ilsvrc-top5-table", "top-5 error of ResNet-152: 3.57 %", "He et al. 2015, table 5")
    num-ilsvrc-top5-table: top-5 error of ResNet-152: 3.57 % | quoted from He et al. 2015, table 5, not measured
    """
    known_id(id)
    if not statement.strip() or not source.strip():
        raise ParameterError(
            "a statement and its source",
            (statement, source),
            where=f"claims.quoted({id!r}, ...)",
            remedy="name author, year and table or section: a figure without a source is a rumour",
        )
    _show(Claim(id=id, verdict="quoted", measured=statement, note=source))


def collected() -> list[Claim]:
    """The claims checked so far in this process, in order; a cell that is run again replaces its claim."""
    return list(_collected.values())


def known_id(id: str) -> str:
    """The ledger id of a claim (without its suffix); `ParameterError` names the nearest for an unknown one."""
    item = str(id).partition(".")[0]
    if item not in project.ledger():
        like = nearest(item, project.ledger())
        remedy = like if like.startswith("did") else "search notebooks/ledger.yaml for the sentence"
        raise ParameterError(
            "an id of notebooks/ledger.yaml, or one with a suffix after a dot",
            repr(id),
            where="claims",
            remedy=remedy,
        )
    return item


def stored(notebook: Path) -> list[dict]:
    """The claims in the stored outputs of a notebook, as the dictionaries that `check` and `quoted` stored."""
    outputs = [output for cell in _cells(notebook) for output in cell.get("outputs", [])]
    return [output["data"][MIME] for output in outputs if MIME in output.get("data", {})]


def cited(notebook: Path) -> set[str]:
    """The ledger ids that a notebook covers: cell tags ``ledger:<id>``, stored claims, and figures it saves."""
    ids = {claim["id"].partition(".")[0] for claim in stored(notebook)}
    for cell in _cells(notebook):
        ids |= {tag[7:] for tag in cell["metadata"].get("tags", []) if tag.startswith("ledger:")}
        if cell["cell_type"] == "code":
            ids |= {id.partition(".")[0] for id in saved_figures("".join(cell["source"]))}
    return ids


def saved_figures(source: str) -> list[str]:
    """The ids given to ``figures.save(figure, "<id>", ...)`` in the source of a cell, as they are written there."""
    return _written_ids(source, {"figures.save": 1})


def made(source: str) -> list[str]:
    """The ids given to ``claims.check("<id>", ...)`` and ``claims.quoted`` in the source of a cell."""
    return _written_ids(source, {"claims.check": 0, "claims.quoted": 0})


def report(notebooks: Iterable[Path]) -> str:
    """Every stored claim as a table, then how much of the ledger each lesson covers and what is missing.

    Reads the outputs stored in the notebooks and runs nothing.
    """
    notebooks = [Path(path) for path in notebooks]
    rows = [_report_row(claim, path.name[:2]) for path in notebooks for claim in stored(path)]
    verdicts = [row[3] for row in rows]
    counts = (
        ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
        or "none"
    )
    table = _aligned([("claim", "measured", "required", "verdict", "lesson"), *rows])
    return (
        "\n".join([*table, "", f"{len(rows)} claims: {counts}", "", *_coverage(notebooks)]) + "\n"
    )


def text_of(value: object) -> str:
    """A value as a row prints it: a float stays recognisable as one, large integers have commas.

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
    return text if re.search(r"[.en]", text) else f"{text}.0"


def _cells(notebook: Path) -> list[dict]:
    return json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]


def _written_ids(source: str, positions: dict[str, int]) -> list[str]:
    """The literal ids in calls of these functions, given at these positions or by the keyword id."""
    try:
        calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    except SyntaxError:  # a cell of IPython's own commands
        return []
    found = []
    for call in calls:
        at = positions.get(ast.unparse(call.func))
        if at is not None:
            found += call.args[at : at + 1] or [
                word.value for word in call.keywords if word.arg == "id"
            ]
    return [node.value for node in found if isinstance(node, ast.Constant)]


def _check_bound(id: str, relation: str, bound: object, tolerance: float | None) -> None:
    where = _place(id)
    if (relation == "~") != (tolerance is not None):
        raise ParameterError(
            "tolerance= with the relation '~', and with no other",
            f"{relation!r} and tolerance={tolerance!r}",
            where=where,
            remedy="'~' needs the largest difference allowed, such as tolerance=1e-3",
        )
    if tolerance is not None and not (
        isinstance(tolerance, int | float) and 0 < tolerance < math.inf
    ):
        raise ParameterError(
            "a positive tolerance",
            repr(tolerance),
            where=where,
            remedy="use '==' to compare exactly",
        )
    if relation == "in":
        ends = _plain(bound)
        pair = isinstance(ends, list) and len(ends) == 2 and all(_is_number(end) for end in ends)
        if not pair or not ends[0] <= ends[1]:
            raise ParameterError(
                "a bound (low, high) for the relation 'in'",
                repr(bound),
                where=where,
                remedy="write the smaller end first, such as (0.2, 0.4)",
            )


def _runs(id: str, measured: object, seeds: int | Sequence | None) -> list[float] | None:
    """The value of each run where `measured` holds one for each seed; None where it is one result."""
    count, values = _number_of(seeds), _plain(measured)
    if count is None or not isinstance(values, list):
        return None
    if len(values) != count or not all(_is_number(value) for value in values):
        raise ShapeError(
            f"one number for each of {_count(count)}",
            text_of(_rounded(measured)),
            where=_place(id),
            remedy="reduce each run to one number first",
        )
    return values


def _number_of(seeds: int | Sequence | None) -> int | None:
    count = seeds if seeds is None or isinstance(seeds, int) else len(seeds)
    if count is not None and (isinstance(count, bool) or count < 1):
        raise ParameterError(
            "the number of seeds, or the seeds",
            repr(seeds),
            where="claims.check(..., seeds=...)",
            remedy="leave seeds out where nothing is random",
        )
    return count


def _interval(runs: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean by Student's t: what further seeds would plausibly give on average."""
    count = len(runs)
    mean = math.fsum(runs) / count
    deviation = math.sqrt(math.fsum((run - mean) ** 2 for run in runs) / (count - 1))
    half = _t95(count - 1) * deviation / math.sqrt(count)
    low, high = (
        0.0 if abs(end) < 1e-9 * half else end for end in (mean - half, mean + half)
    )  # no rounding noise
    return low, high


def _t95(freedom: int) -> float:
    if freedom <= len(T95):
        return T95[freedom - 1]
    z = 1.959964  # expansion of t around the normal quantile (Fisher and Cornish 1960); error below 5e-5 from 21 on
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def _satisfies(
    id: str, measured: object, relation: str, bound: object, tolerance: float | None
) -> bool:
    if relation == "==":
        return _same(measured, bound)
    if relation == "~":
        return _near(id, measured, bound, tolerance)
    value, ends = _plain(measured), _plain(bound)
    if not _is_number(value) or (relation != "in" and not _is_number(ends)):
        raise ShapeError(
            f"one number on each side of {relation!r}",
            f"{text_of(_rounded(measured))} and {text_of(_rounded(bound))}",
            where=_place(id),
            remedy="pass .min() or .max() of an array, or seeds= where there is one number for each seed",
        )
    return _holds(value, relation, ends, tolerance)


def _same(measured: object, bound: object) -> bool:
    first, second = _as_numpy(measured), _as_numpy(bound)
    if (
        isinstance(first, np.ndarray)
        and isinstance(second, np.ndarray)
        and first.dtype.kind in "biufc"
    ):
        return second.dtype.kind in "biufc" and np.array_equal(first, second, equal_nan=True)
    first, second = _plain(measured), _plain(bound)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_same, first, second))
    return first == second or (
        first != first and second != second
    )  # nan is the only value unlike itself


def _near(id: str, measured: object, bound: object, tolerance: float) -> bool:
    try:
        first, second = (np.asarray(_plain(value), dtype=float) for value in (measured, bound))
    except (TypeError, ValueError):
        raise ShapeError(
            "numbers on both sides of '~', in arrays of one shape",
            f"{measured!r} and {bound!r}",
            where=_place(id),
            remedy="use '==' for texts and for lists of shapes",
        ) from None
    return first.shape == second.shape and np.allclose(
        first, second, rtol=0, atol=tolerance, equal_nan=True
    )


def _as_numpy(value: object) -> object:
    if hasattr(value, "detach"):  # a tensor, without importing torch
        value = value.detach().cpu()
        return (
            value.double() if str(value.dtype) in ("torch.bfloat16", "torch.float16") else value
        ).numpy()
    return value


def _plain(value: object) -> object:
    """Numbers, texts and nested lists of them, without numpy's or torch's types."""
    value = _as_numpy(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(element) for element in value]
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _rounded(value: object, digits: int = 6) -> object:
    """As printed and stored: floats with so many significant digits, large arrays by their shape."""
    value = _as_numpy(value)
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"array {text_of(value.shape)}"
    value = _plain(value)
    if isinstance(value, list):
        return (
            f"{len(value)} values"
            if len(value) > 8
            else [_rounded(element, digits) for element in value]
        )
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def _shown(measured: object, relation: str, bound: object, tolerance: float | None) -> object:
    """A measured value as printed and stored: four significant digits, or as many as still show the relation.

    Four digits survive rounding on another processor; but 0.99997 < 1 must not be printed as 1.0 < 1.
    """
    if relation == "==":
        return _rounded(measured)  # what is equal to the last bit has nothing to lose
    value, limit = _rounded(measured, 17), _plain(bound)
    if isinstance(value, list):
        limits = (
            limit if isinstance(limit, list) and len(limit) == len(value) else [limit] * len(value)
        )
        return [
            _shown(element, relation, end, tolerance)
            for element, end in zip(value, limits, strict=True)
        ]
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    if relation in ("<", "<=") and _is_number(limit) and 0 < value < min(limit, 1e-6):
        return (
            f"under {text_of(float(min(limit, 1e-6)))}"  # the size of a rounding error says nothing
        )
    if relation == "~":
        value = (
            round(value, 1 - math.floor(math.log10(tolerance))) + 0.0
        )  # nothing below a tenth of the tolerance
    try:
        truth = _holds(value, relation, limit, tolerance)
        shortened = (float(f"{value:.{digits}g}") for digits in range(4, 17))
        told = _rounded(limit)
        return next(
            (short for short in shortened if _holds(short, relation, told, tolerance) == truth),
            value,
        )
    except TypeError:  # a bound that is no number: `_satisfies` says so
        return value


def _holds(value: float, relation: str, bound: object, tolerance: float | None) -> bool:
    if relation == "in":
        return bound[0] <= value <= bound[1]
    return abs(value - bound) <= tolerance if relation == "~" else ORDERS[relation](value, bound)


def _place(id: str) -> str:
    return f"claims.check({id!r}, ...)"


def _storable(value: object) -> object:
    """JSON has no nan, no infinity and no types of torch: they are stored as words."""
    if isinstance(value, list | tuple):
        return [_storable(element) for element in value]
    known = (
        value is None
        or isinstance(value, str | int)
        or isinstance(value, float)
        and math.isfinite(value)
    )
    return value if known else str(value)


def _count(seeds: int) -> str:
    return "1 seed" if seeds == 1 else f"{seeds} seeds"


def _show(claim: Claim) -> None:
    _collected.pop(claim.id, None)
    _collected[claim.id] = claim
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        from IPython.display import display

        display({"text/plain": claim.row(), MIME: claim.data()}, raw=True)
    else:
        print(claim.row())


def _untrue(claim: Claim, measured: object, bound: object) -> ClaimError:
    item = project.ledger()[known_id(claim.id)]
    remedy = (
        "check the computation first; then the parameters: claim it only where it holds (given=...), "
        "or show in the lesson that it does not hold here"
    )
    first, second = _plain(measured), _plain(bound)
    close = claim.relation == "==" and _is_number(first) and _is_number(second)
    if close and math.isclose(first, second, rel_tol=1e-4, abs_tol=1e-9):
        remedy = f"the two differ by {abs(first - second):.1e} only: compare floats with '~' and tolerance="
    return ClaimError(
        claim.requirement(),
        claim.found(),
        where=f"claim {claim.id}: {item['statement']}",
        remedy=remedy,
    )


def _report_row(data: dict, lesson: str) -> tuple[str, ...]:
    if data["verdict"] == "quoted":
        statement = textwrap.shorten(data["measured"], 44, placeholder=" ...")
        return data["id"], statement, data.get("note", ""), "quoted", lesson
    fields = {name: value for name, value in data.items() if name in Claim.__dataclass_fields__}
    claim = Claim(**{"bound": None, **fields})
    return claim.id, claim.found(), claim.requirement(), claim.verdict, lesson


def _coverage(notebooks: Sequence[Path]) -> list[str]:
    covered = {path.name[:2]: cited(path) for path in notebooks}
    ran = {
        path.name[:2]: any(cell.get("execution_count") for cell in _cells(path))
        for path in notebooks
    }
    items: dict[str, list[str]] = {}
    for id, item in project.ledger().items():
        items.setdefault(item["notebook"][:2], []).append(id)
    anywhere = set().union(*covered.values())
    lines = ["ledger coverage"]
    waiting = [lesson for lesson in sorted(items) if lesson not in covered]
    for lesson in sorted(covered):
        ids = items.get(lesson, [])
        missing = [id for id in ids if id not in covered[lesson]]
        never = "" if ran[lesson] else " (never run: its claims are not counted)"
        lines.append(f"  {lesson}  {len(ids) - len(missing)} of {len(ids)}{never}")
        lines += [f"      not covered: {id}" for id in missing]
    if waiting:
        open_items = sum(id not in anywhere for lesson in waiting for id in items[lesson])
        lines.append(
            f"  not written yet: {len(waiting)} lessons with {open_items} open items ({', '.join(waiting)})"
        )
    total = sum(map(len, items.values()))
    lines.append(f"  all: {len(anywhere & set(project.ledger()))} of {total}")
    return lines


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [min(max(len(row[column]) for row in rows), 44) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
