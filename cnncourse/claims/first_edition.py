"""SHIM: claims as the lessons wrote them before they became sentences. Delete it when no lesson calls it any more."""

from __future__ import annotations

import math
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from cnncourse import paths
from cnncourse.claims import known_id
from cnncourse.claims.reading import MIME
from cnncourse.claims.relations import RELATIONS, satisfies
from cnncourse.claims.relations import interval as _interval
from cnncourse.claims.relations import is_number as _is_number
from cnncourse.claims.relations import plain as _plain
from cnncourse.claims.words import rounded as _rounded
from cnncourse.claims.words import shown as _shown
from cnncourse.claims.words import storable as _storable
from cnncourse.claims.words import text_of
from cnncourse.errors import ClaimError, ParameterError, ShapeError, nearest

READINGS = ("interval", "mean", "every")

COLUMNS = 100  # of the longest line of a row


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
    holds = all(satisfies(number, relation, bound, tolerance, _place(id)) for number in numbers)
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


def _place(id: str) -> str:
    return f"claims.check({id!r}, ...)"


def _count(seeds: int) -> str:
    return "1 seed" if seeds == 1 else f"{seeds} seeds"


def _show(claim: Claim) -> None:
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        from IPython.display import display

        display({"text/plain": claim.row(), MIME: claim.data()}, raw=True)
    else:
        print(claim.row())


def _untrue(claim: Claim, measured: object, bound: object) -> ClaimError:
    item = paths.ledger()[known_id(claim.id)]
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


def report_row(data: dict, lesson: str) -> tuple[str, ...]:
    if data["verdict"] == "quoted":
        statement = textwrap.shorten(data["measured"], 80, placeholder=" ...")
        return lesson, "quoted", data["id"], f"{statement} [quoted from {data.get('note', '')}]"
    fields = {name: value for name, value in data.items() if name in Claim.__dataclass_fields__}
    claim = Claim(**{"bound": None, **fields})
    return lesson, claim.verdict, claim.id, f"{claim.found()} [{claim.requirement()}]"
