"""Sentences of the lecture with their measured numbers: shown when they hold, raised when they are false."""

from __future__ import annotations

import html
import math
import re
import reprlib
import string
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cnncourse import parameters, paths
from cnncourse.claims import relations, words
from cnncourse.claims.reading import MIME, cited, made, saved_figures, stored
from cnncourse.errors import ClaimError, ParameterError, ShapeError, nearest

__all__ = [
    "MIME",
    "check",
    "cited",
    "known_id",
    "made",
    "quoted",
    "saved_figures",
    "stored",
    "table",
]
READINGS = {
    "interval": "the mean's 95 % interval",
    "every": "every seed",
    "mean": "the mean of the seeds",
}
MARKS = {"holds": "✓", "false": "✗", "not required": "○"}
COLOURS = {"holds": "#00786c", "false": "#b72765", "not required": "#777777"}
# A number is shown together with its unit: "71.6 points (three seeds, 61.4 to 82.0)".
UNIT = re.compile(
    r"[ \u00a0-]?(?:%|(?:percent|points?|times|fold|bits?|bytes|[kMG]i?B|ms|µs|s|seconds?|minutes?|hours?|px|pixels?|"
    r"images?|pictures?|parameters|weights|layers?|epochs?|steps?|multiply-adds|values|numbers)\b)"
)


@dataclass(frozen=True)
class Value:
    """One value of a sentence: what was measured, what is required of it, and whether that holds."""

    measured: object  # a number, text, shape or array; with `runs` their mean
    spec: str  # the format of the sentence, ".1f"
    relation: str = ""  # without one the value is context only
    bound: object = None
    tolerance: float | None = None
    runs: tuple[float, ...] = ()  # one number for each seed
    on: str = "interval"

    def holds(self, where: str) -> bool:
        """Whether the relation is satisfied, for several seeds as `on` says."""
        numbers = [self.measured]
        if self.runs:
            ends = relations.interval(self.runs)
            numbers = {"interval": ends, "mean": [self.measured], "every": self.runs}[self.on]
        return all(
            relations.satisfies(number, self.relation, self.bound, self.tolerance, where)
            for number in numbers
        )

    def words(self) -> str:
        return words.told(self.measured, self.spec, self.relation, self.bound, self.tolerance)

    def spread(self) -> str:
        """The lowest and the highest run: ``61.4 to 82.0``; only where each is required, they show that it holds."""
        relation = self.relation if self.on == "every" else ""
        low, high = (
            words.told(run, self.spec, relation, self.bound, self.tolerance)
            for run in (min(self.runs), max(self.runs))
        )
        return f"{low} to {high}"

    def requirement(self) -> str:
        digits = words.digits_of_bound(
            self.measured, self.words(), self.relation, self.bound, self.tolerance
        )
        return words.requirement(self.relation, self.bound, self.tolerance, self.spec, digits)

    def data(self) -> dict:
        """The measured side of what is stored."""
        told = words.rounded(self.measured, 4)
        if self.relation:
            told = words.shown(self.measured, self.relation, self.bound, self.tolerance)
        if not self.runs:
            return told
        ends = (words.rounded(float(run), 4) for run in (min(self.runs), max(self.runs)))
        return {"mean": told, "from": next(ends), "to": next(ends)}


def check(
    id: str,
    sentence: str,
    *,
    seeds: Sequence | int | None = None,
    on: str = "interval",
    varies: bool = False,
    **values: object,
) -> None:
    """Show the sentence with its measured numbers, and raise `ClaimError` when they do not satisfy it.

    >>> check("num-conv-params-760", "The layer has {count} parameters, {share:.0%} of them weights.",
    ...       count=(760, "==", 760), share=(750 / 760, ">", 0.9))
    ✓ The layer has 760 parameters, 99% of them weights.
      required: exactly 760 · above 90%

    id: a ledger id of the lesson; a second claim on the same item adds a suffix, ``"num-conv-params-760.bias"``.
    sentence: plain words with ``{name}`` or ``{name:spec}`` (Python's format) for every value. Without a spec floats
        have four significant digits; more are shown where fewer would contradict the bound. ``{{`` is a brace.
    values: ``name=(measured, relation, bound)`` or ``(measured, "~", bound, tolerance)``; anything else is context,
        shown without a requirement. Relations: ``"=="`` (exact, also for shapes and arrays; nan equals nan), ``"~"``
        (every element within the tolerance), ``"<" "<=" ">" ">="``, ``"in"`` with ``(low, high)``, ends included.
    seeds: the seeds (or how many) of which each measured list holds one number each. The sentence shows the mean and
        in brackets the lowest and the highest. What must satisfy the relation: ``on="interval"`` the 95 % interval
        of the mean (Student's t: a lucky mean proves nothing); ``"every"`` each run; ``"mean"`` the mean alone.
    varies: the numbers differ between machines beyond rounding (a time, float32 training): the comparison of lessons
        leaves them out, so the bound is the tolerance and needs a margin.

    A sentence is required at the default parameters of its lesson. Where a parameter was changed, a sentence that
    does not hold is shown as not required, naming the difference, and nothing is raised.

    Raises `ClaimError` for a false claim, `ParameterError` for an unknown id (naming the nearest), a value that the
    sentence lacks or a sentence without any requirement, `ShapeError` where numbers cannot be compared.
    """
    known_id(id)
    where = f"claims.check({id!r}, ...)"
    parts = _parts(sentence, values, where)
    changed = _changed(id)
    seed_count = _seed_count(seeds, where, lenient=bool(changed))
    if on not in READINGS:
        raise ParameterError(
            f"on= one of {', '.join(READINGS)}", repr(on), where=where, remedy=nearest(on, READINGS)
        )
    specs = {name: spec for _, name, spec in parts if name}
    found = {
        name: _value(value, specs[name], seed_count, on, f"{where}, value {name!r}", bool(changed))
        for name, value in values.items()
    }
    required = {name: value for name, value in found.items() if value.relation}
    if not required:
        raise ParameterError(
            "at least one value with a requirement",
            f"values {', '.join(values) or 'none'} without one",
            where=where,
            remedy="write name=(measured, '>=', bound); a sentence that cannot fail is text",
        )
    if seed_count and not any(value.runs for value in found.values()):
        raise ParameterError(
            f"a list of {words.count(seed_count, 'number')}, one for each seed",
            f"single values {', '.join(values)}",
            where=where,
            remedy="pass the list of all runs, or leave seeds= out where nothing is random",
        )
    holds = {name: value.holds(f"{where}, value {name!r}") for name, value in required.items()}
    verdict = "holds" if all(holds.values()) else "not required" if changed else "false"
    try:
        pieces = list(_pieces(parts, found, seed_count))
    except ValueError as error:
        raise ParameterError(
            "a format that suits the measured value",
            str(error),
            where=where,
            remedy="write {name} for four significant digits, or {name:.1f}, {name:.0%}, {name:,}",
        ) from None
    bounds = list(dict.fromkeys(value.requirement() for value in required.values()))
    reading = READINGS[on] if any(value.runs for value in required.values()) else ""
    data = {
        "id": id,
        "verdict": verdict,
        "template": sentence,
        "sentence": "".join(pieces),
        "required": {name: value.requirement() for name, value in required.items()},
        "measured": {name: words.storable(value.data()) for name, value in found.items()},
        **({"seeds": seed_count, "on": on} if seed_count else {}),
        **({"varies": True} if varies else {}),
    }
    _show(data, pieces, f"required{' of ' * bool(reading)}{reading}: {' · '.join(bounds)}", changed)
    if verdict == "false":
        raise _untrue(id, data["sentence"], required, holds)


def table(
    id: str,
    sentence: str,
    rows: Mapping[str, tuple[object, object]],
    columns: Sequence[str] = ("layer", "here", "torch"),
    tolerance: float | None = None,
) -> None:
    """Show equalities of one kind as one table, and raise `ClaimError` unless every row agrees.

    >>> table("num-conv-params-760", "Both count the same parameters.", {"conv1": (760, 760), "fc": (850, 850)})
    ✓ Both count the same parameters.
      layer  here  torch
      conv1  760   760    ✓
      fc     850   850    ✓

    rows: name to (measured, expected), numbers, texts, shapes or arrays; equal exactly, or element by element within
    `tolerance`. columns: the heads of name, measured and expected. Errors and parameters as in `check`.
    """
    known_id(id)
    where = f"claims.table({id!r}, ...)"
    relation = "==" if tolerance is None else "~"
    changed = _changed(id)
    relations.check_bound(relation, None, tolerance, where, bool(changed))
    pairs = isinstance(rows, Mapping) and all(
        isinstance(row, list | tuple) and len(row) == 2 for row in rows.values()
    )
    if not pairs or not rows or len(columns) != 3:
        raise ParameterError(
            "rows={name: (measured, expected), ...} and three columns",
            f"{rows!r} and {columns!r}",
            where=where,
            remedy="several numbers of one row go into one tuple: {'conv1': ((3, 32), (3, 32))}",
        )
    agrees = {
        name: relations.satisfies(*row[:1], relation, row[1], tolerance, f"{where}, row {name!r}")
        for name, row in rows.items()
    }
    verdict = "holds" if all(agrees.values()) else "not required" if changed else "false"
    cells = {
        name: [
            words.text_of(words.shown(row[0], relation, row[1], tolerance)),
            words.text_of(words.rounded(row[1])),
        ]
        for name, row in rows.items()
    }
    data = {
        "id": id,
        "verdict": verdict,
        "sentence": sentence,
        "required": {name: two for name, (_, two) in cells.items()},
        "measured": {name: one for name, (one, _) in cells.items()},
        **({"tolerance": tolerance} if tolerance is not None else {}),
    }
    note = "" if tolerance is None else f"agree within ± {words.text_of(tolerance)}"
    grid = [[*columns, ""]]
    grid += [[name, *two, "✓" if agrees[name] else "✗"] for name, two in cells.items()]
    _show(data, [sentence], note, changed, grid)
    if verdict == "false":
        wrong = [name for name, right in agrees.items() if not right]
        raise ClaimError(
            f"{columns[2]}: {cells[wrong[0]][1]}, in row {wrong[0]!r}",
            f"{columns[1]}: {cells[wrong[0]][0]}{_types(*rows[wrong[0]])}"
            f" ({len(wrong)} of {words.count(len(rows), 'row')} differ: {', '.join(wrong)})",
            where=f"claim {id}: {sentence}",
            remedy=_remedy(relation, *rows[wrong[0]]),
        )


def quoted(id: str, statement: str, source: str) -> None:
    """Show a figure of a paper that cannot be computed here, as quoted and not measured.

    >>> quoted("num-ilsvrc-top5-table", "ResNet-152 has a top-5 error of 3.57 %.", "He et al. 2015, table 5")
    “ResNet-152 has a top-5 error of 3.57 %.”
      quoted from He et al. 2015, table 5; not measured here
    """
    known_id(id)
    if not statement.strip() or not source.strip():
        raise ParameterError(
            "a statement and its source",
            (statement, source),
            where=f"claims.quoted({id!r}, ...)",
            remedy="name author, year and table or section: a figure without a source is a rumour",
        )
    data = {"id": id, "verdict": "quoted", "sentence": statement, "source": source}
    _show(data, [f"“{statement}”"], f"quoted from {source}; not measured here")


def known_id(id: str) -> str:
    """The ledger id of a claim (without its suffix); `ParameterError` names the nearest for an unknown one."""
    item = str(id).partition(".")[0]
    if item not in paths.ledger():
        like = nearest(item, paths.ledger())
        remedy = like if like.startswith("did") else "search notebooks/ledger.yaml for the sentence"
        raise ParameterError(
            "an id of notebooks/ledger.yaml, or one with a suffix after a dot",
            repr(id),
            where="claims",
            remedy=remedy,
        )
    return item


def _changed(id: str) -> str:
    """The parameters that differ from the committed lesson of a claim: ``"margin=0 and seed=1"``, or ""."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None:
        return ""
    different = parameters.changed(paths.ledger()[known_id(id)]["notebook"], shell.user_ns)
    told = [f"{name}={reprlib.repr(value)}" for name, value in different.items()]
    rest = [words.count(len(told) - 3, "other")] if len(told) > 4 else []
    return " and ".join([*told[: 3 if rest else None], *rest])


def _parts(
    sentence: str, values: Mapping[str, object], where: str
) -> list[tuple[str, str | None, str]]:
    """(words, name of the value behind them or None, its format), checked against the values given."""
    try:
        parts = [
            (text, name, spec or "") for text, name, spec, _ in string.Formatter().parse(sentence)
        ]
    except (ValueError, TypeError, AttributeError) as error:
        raise ParameterError(
            "a sentence with {name} or {name:.1f} for its values",
            f"{sentence!r} ({error})",
            where=where,
            remedy="write {{ and }} for braces that are no values",
        ) from None
    names = [name for _, name, _ in parts if name is not None]
    for name in [*names, *values]:
        if name not in values or name not in names:
            missing = "the sentence" if name in values else "the values"
            raise ParameterError(
                "one value for each {name} of the sentence, and the reverse",
                f"{name!r}, which {missing} lack{'s' if name in values else ''}",
                where=where,
                remedy=nearest(name, set(names if name in values else values) or {"no value"}),
            )
    return parts


def _value(
    given: object, spec: str, seed_count: int | None, on: str, where: str, computed: bool
) -> Value:
    measured, relation, bound, tolerance = given, "", None, None
    if isinstance(given, tuple) and len(given) in (3, 4) and isinstance(given[1], str):
        measured, relation, bound, tolerance = (*given, None)[:4]
        relations.check_bound(relation, bound, tolerance, where, computed)
    runs = relations.plain(measured)
    if not seed_count or not isinstance(runs, list):
        return Value(measured, spec, relation, bound, tolerance)
    if len(runs) != seed_count or not all(map(relations.is_number, runs)):
        raise ShapeError(
            f"one number for each of {words.count(seed_count, 'seed')}",
            words.text_of(words.rounded(measured)),
            where=where,
            remedy="reduce each run to one number first",
        )
    if any(isinstance(run, float) for run in runs):
        runs = [float(run) for run in runs]  # 71 beside 73.5 is 71.0
    mean = math.fsum(runs) / len(runs)
    return Value(mean, spec, relation, bound, tolerance, tuple(runs), on)


def _seed_count(seeds: Sequence | int | None, where: str, lenient: bool) -> int | None:
    number = seeds if seeds is None or isinstance(seeds, int) else len(seeds)
    if number is None:
        return None
    if isinstance(number, bool) or number < (1 if lenient else 2):
        raise ParameterError(
            "two seeds or more",
            repr(seeds),
            where=where,
            remedy="one run says nothing of the next: run several, or leave seeds= out where nothing is random",
        )
    return number


def _pieces(parts: list, found: dict[str, Value], seed_count: int | None):
    """The sentence in turn: words, number with unit, words, ...; numbers stand at the odd places."""
    seeds_said = False
    text = "".join(words_before for words_before, name, _ in parts[:1])
    for at, (_, name, _) in enumerate(parts):
        following = parts[at + 1][0] if at + 1 < len(parts) else ""
        if name is None:
            text += following
            continue
        value = found[name]
        unit = UNIT.match(following)
        yield text
        yield value.words() + (unit.group() if unit else "")
        text = following[unit.end() :] if unit else following
        if value.runs:
            seeds = "" if seeds_said else f"{words.count(seed_count, 'seed')}, "
            text = f" ({seeds}{value.spread()}){text}"
            seeds_said = True
    yield text


def _show(
    data: dict,
    pieces: Sequence[str],
    small: str,
    changed: str = "",
    grid: Sequence[Sequence[str]] = (),
) -> None:
    """Print or display a claim; `small` stands below the sentence, `grid` is a table with its head."""
    mark = MARKS.get(data["verdict"], "")
    if data["verdict"] == "not required":
        small = (
            f"{small or 'every row agrees'} at the default parameters; not required with {changed}"
        )
    lines = [f"{mark} {''.join(pieces)}".strip()]
    lines += [f"  {line}" for line in (words.aligned(grid) if grid else [])]
    lines += [f"  {small}"] * bool(small)
    text = "\n".join(lines)
    if "IPython" not in sys.modules or sys.modules["IPython"].get_ipython() is None:
        print(text)
        return
    from IPython.display import display

    page = _html(data, pieces, mark, small, grid)
    display({"text/plain": text, "text/html": page, MIME: data}, raw=True)


def _html(data: dict, pieces: Sequence[str], mark: str, small: str, grid: Sequence) -> str:
    said = "".join(  # numbers stand at the odd places
        f"<b>{html.escape(piece)}</b>"
        if at % 2
        else re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(piece, quote=False))
        for at, piece in enumerate(pieces)
    )
    sign = (
        f'<span style="color: {COLOURS[data["verdict"]]}; font-weight: bold">{mark}</span> '
        if mark
        else ""
    )
    rows = [
        "<tr>" + "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in row) + "</tr>"
        for kind, row in zip(["th", *["td"] * len(grid)], grid, strict=False)
    ]
    below = f"<table>{''.join(rows)}</table>" if rows else "<br>" * bool(small)
    note = f"<small>{html.escape(small, quote=False)}</small>" if small else ""
    return f'<div class="claim" title="{html.escape(data["id"])}">{sign}{said}{below}{note}</div>'


def _untrue(
    id: str, sentence: str, required: dict[str, Value], holds: dict[str, bool]
) -> ClaimError:
    name, value = next((name, value) for name, value in required.items() if not holds[name])
    got = f"{value.words()}{_types(value.measured, value.bound)}"
    if value.runs:
        got += f", the mean of {words.count(len(value.runs), 'seed')} ({value.spread()})"
    if value.runs and value.on == "interval":
        ends = (
            words.told(end, value.spec, value.relation, value.bound, value.tolerance)
            for end in relations.interval(value.runs)
        )
        got += f"; the 95 % interval of that mean goes from {' to '.join(ends)}"
    reading = f"{READINGS[value.on]} " if value.runs else ""
    return ClaimError(
        f"{name}: {reading}{value.requirement()}",
        got,
        where=f"claim {id}: {sentence}",
        remedy=_remedy(value.relation, value.measured, value.bound),
    )


def _types(measured: object, bound: object) -> str:
    """Names the types where two values read alike and differ: ``760 (str, not int)``."""
    first, second = relations.plain(measured), relations.plain(bound)
    alike = words.text_of(words.rounded(first)) == words.text_of(words.rounded(second))
    differ = type(first) is not type(second)
    return f" ({type(first).__name__}, not {type(second).__name__})" if alike and differ else ""


def _remedy(relation: str, measured: object, bound: object) -> str:
    first, second = relations.plain(measured), relations.plain(bound)
    if relation == "==" and _types(measured, bound):
        return f"compare values of one type: here a {type(first).__name__} meets a {type(second).__name__}"
    if relation == "==" and relations.is_number(first) and relations.is_number(second):
        if abs(first - second) <= max(1e-4 * abs(second), 1e-9):
            return f"the two differ by {abs(first - second):.1e} only: floats are compared with '~' and a tolerance"
    return (
        "undo the last change of the code above and run the lesson from its start; if it changed nothing, "
        "the sentence is wrong and must say what was measured"
    )
