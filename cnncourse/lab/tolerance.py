"""Whether two outputs of a cell say the same: words and integers exactly, other numbers within a declared tolerance."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from cnncourse.errors import ParameterError, nearest

CLAIM = "application/vnd.cnncourse.claim+json"
NUMBERS_OF_CLAIM = ("measured", "interval")  # not compared where they vary
NOT_COMPARED = ("application/vnd.jupyter.widget-view+json",)  # it holds the random id of a widget
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # of a terminal, and what else moves its cursor
PICTURES = ("image/png", "image/jpeg")
VARIES = "nbval-varies"  # the tag of a cell whose numbers a processor's rounding decides
NUMERIC = ("rtol", "atol", "image")  # what a tolerance may declare by a number
MARKS = (
    "nbval-ignore-output",
    "nbval-check-output",
    "nbval-raises-exception",
    "nbval-skip",
)  # nbval's own tags

# A number stands alone: not inside a word (float32), a version (1.2.3) or a hexadecimal digest (5e3a). With a decimal
# point it may carry a unit (12.5ms). Commas separate the thousands of an integer (14,455,392), compared exactly; before
# a decimal number a comma ends a field: 12,900.0 is 12 and 900.0, as in a table of comma-separated values.
REAL = r"(?:(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?|nan|inf)"
COMPLEX = rf"(?:{REAL} *[-+] *)?{REAL}j(?!\w)"
NUMBER = re.compile(
    rf"(?<![\w.])[-+]?(?:{COMPLEX}"
    r"|(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\d_]|\.\d)"
    r"|\d{1,3}(?:,\d{3})+(?!\w|\.\d|,\d{3})"
    r"|\d+(?:[eE][-+]?\d+)?(?!\w|\.\d)"
    r"|(?:nan|inf|NaN|Infinity)(?!\w))"
)
INTEGER = re.compile(r"[-+]?[\d,]+")
WHOLE = re.compile(
    r"[-+]?[\d,]+\.?"
)  # "5." is a float of numpy, or an integer at the end of a sentence
WIDGET = "application/vnd.jupyter.widget-view+json"
PROGRESS = re.compile(
    r"\d+%\||\b\d+/\d+ \[|\d+it \["
)  # how a tqdm bar describes itself: "50%|#####     | 5/10 [00:01"
SHOWN = 5  # numbers that a message lists before it counts the rest


def without_colours(text: str) -> str:
    """A traceback or an output as plain text.

    >>> without_colours("\x1b[31mred\x1b[0m")
    'red'
    """
    return COLOURS.sub("", text)


@dataclass(frozen=True)
class Tolerance:
    """How far a number may lie from the stored one: ``abs(computed - stored) <= atol + rtol * abs(stored)``.

    image: largest root mean square difference of two pictures, from 0 to 255; None leaves pictures uncompared.
    varies: numbers differ between processors beyond rounding; only the words around them are compared.
    """

    rtol: float = 0.0
    atol: float = 0.0
    image: float | None = None
    varies: bool = False

    def __post_init__(self):
        for name in NUMERIC:
            value = getattr(self, name)
            if value is not None and not (0 <= value < math.inf):
                raise ParameterError(
                    "a tolerance that is zero or larger, and finite",
                    value,
                    where=f"nbval {name}",
                    remedy="write a number such as 1e-3",
                )
        if self.rtol >= 1:
            raise ParameterError(
                "a relative tolerance below 1",
                self.rtol,
                where="nbval rtol",
                remedy="1e-2 allows one percent; 1 would allow anything",
            )

    @property
    def strict(self) -> bool:
        return not (self.rtol or self.atol or self.varies)

    def allows(self, stored: str) -> Decimal:
        """The largest move allowed to a number printed as `stored`."""
        return _exact(self.atol) + _exact(self.rtol) * abs(_decimal(stored))

    def __str__(self) -> str:
        return "none declared" if self.strict else f"rtol={self.rtol:g} atol={self.atol:g}"


def declared(
    metadata: Mapping, tags: Iterable[str] = (), base: Tolerance | None = None
) -> Tolerance:
    """The tolerance that `base` becomes by metadata such as ``{"rtol": 1e-3}``, then by tags ``nbval-rtol=1e-3``.

    >>> declared({"rtol": 1e-3}, tags=["nbval-atol=1e-6", "define"])
    Tolerance(rtol=0.001, atol=1e-06, image=None, varies=False)

    Raises `ParameterError` for a name that is none of rtol, atol and image, and for a value that is no number >= 0.
    """
    fields = dict(vars(base or Tolerance()))
    if not isinstance(metadata, Mapping):
        raise ParameterError(
            "metadata such as {'nbval': {'rtol': 1e-3}}",
            repr(metadata),
            where="metadata nbval",
            remedy="write a dictionary of rtol, atol or image",
        )
    for name, value in metadata.items():
        fields[_known(name, NUMERIC, f"metadata nbval: {name}")] = _value(
            value, f"metadata nbval: {name}"
        )
    for tag in tags:
        name, equals, value = tag.partition("=")
        if tag == VARIES:
            fields["varies"] = True
        elif name.startswith("nbval-") and tag not in MARKS:
            if not equals and name.removeprefix("nbval-") not in NUMERIC:
                raise ParameterError(
                    "a tag of nbval",
                    repr(tag),
                    where=f"tag {tag}",
                    remedy=nearest(
                        tag, [*MARKS, VARIES, *(f"nbval-{field}=1e-3" for field in NUMERIC)]
                    ),
                )
            fields[_known(name.removeprefix("nbval-"), NUMERIC, f"tag {tag}")] = _value(
                value, f"tag {tag}"
            )
    return Tolerance(**fields)


def compare(
    stored: list[Mapping], computed: list[Mapping], tolerance: Tolerance, clean=lambda text: text
) -> list[str]:
    """What the computed outputs of a cell say otherwise than the stored ones, in sentences; empty when they agree.

    Outputs are dictionaries as in a notebook file, streams of one name merged. Like nbval, this compares outputs of
    one kind in their order, and says nothing about the order of kinds. `clean` is applied to every text first.
    """
    problems = []
    wanted, found = _by_kind(stored), _by_kind(computed)
    for kind in dict.fromkeys([*wanted, *found]):
        before, after = wanted.get(kind, []), found.get(kind, [])
        if len(before) != len(after):
            what, extra = ("missing", before) if len(before) > len(after) else ("additional", after)
            shown = "" if kind in PICTURES else f", such as {_short(extra[-1])}"
            problems.append(
                f"{what} output: {kind}, {len(before)} stored and {len(after)} computed{shown}"
            )
            continue
        for old, new in zip(before, after, strict=True):
            problems += _compare(kind, old, new, tolerance, clean)
    return problems


def compare_texts(stored: str, computed: str, tolerance: Tolerance) -> list[str]:
    """What `computed` says otherwise: one sentence for each number that moved too far, or the first line that differs.

    >>> print(*compare_texts("loss 0.5000", "loss 0.5100", Tolerance(rtol=1e-2)))
    line 1: 0.5000 became 0.5100: moved by 0.01 (2 %), allowed 0.005 (rtol=0.01 atol=0)
        stored:   loss 0.5000
        computed: loss 0.5100
    """
    if stored == computed:
        return []
    numbers = list(NUMBER.finditer(stored)), list(NUMBER.finditer(computed))
    if words(stored) != words(computed) or len(numbers[0]) != len(numbers[1]):
        return [_first_line_that_differs(stored, computed)]
    problems = []
    for old, new in zip(*numbers, strict=True):
        if moved := _moved(old.group(), new.group(), tolerance):
            line, lines = _line(stored, old.start()), _line(computed, new.start())
            problems.append(
                f"line {line[0]}: {moved}\n    stored:   {line[1]}\n    computed: {lines[1]}"
            )
    if not problems and tolerance.strict:
        return [_first_line_that_differs(stored, computed)]  # white space, or 1.0 printed as 1.00
    return _abridged(problems)


def is_progress(output: Mapping) -> bool:
    """Whether an output is a progress bar of a live JupyterLab: a widget that describes itself as a count of steps.

    It stays in a notebook that is run and saved there, and says nothing that could be compared.
    """
    data = output.get("data", {})
    return WIDGET in data and bool(PROGRESS.search("".join(data.get("text/plain", ""))))


def _by_kind(outputs: Iterable[Mapping]) -> dict[str, list]:
    """Stream name or MIME type to the values of all outputs that have it."""
    kinds: dict[str, list] = {}
    for output in outputs:
        if is_progress(output):
            continue
        if output["output_type"] == "stream":
            kinds.setdefault(output["name"], []).append(output["text"])
        elif output["output_type"] == "error":
            kinds.setdefault("error", []).append(f"{output['ename']}: {output['evalue']}")
        data = output.get("data", {})
        claim = data.get(CLAIM)
        if isinstance(claim, Mapping):
            # Its text says the sentence, and is compared within the tolerance: leave out what repeats it.
            told = {name: value for name, value in claim.items() if name != "sentence"}
            data = {kind: value for kind, value in data.items() if kind != "text/html"}
            data[CLAIM] = told
        if isinstance(claim, Mapping) and claim.get("varies"):
            # The claim's own bound is the tolerance: a false one has raised. Its row repeats the number left out here.
            data[CLAIM] = {name: told[name] for name in told if name not in NUMBERS_OF_CLAIM}
            data.pop("text/plain", None)
        for kind, value in data.items():
            if kind not in NOT_COMPARED:
                kinds.setdefault(kind, []).append(value)
    return kinds


def _compare(kind: str, stored: object, computed: object, tolerance: Tolerance, clean) -> list[str]:
    if kind in PICTURES:
        return _compare_pictures(kind, stored, computed, tolerance)
    if kind == CLAIM and tolerance.varies:  # the words of its sentence and of its bounds
        stored, computed, tolerance = (
            _without_numbers(stored),
            _without_numbers(computed),
            Tolerance(),
        )
    if isinstance(stored, str) and isinstance(computed, str):
        stored, computed = clean(stored), clean(computed)
        exact = Tolerance() if kind.startswith("image/") else tolerance
        return [f"{kind}, {problem}" for problem in compare_texts(stored, computed, exact)]
    return _abridged(
        [f"{kind}, {problem}" for problem in _compare_json(stored, computed, tolerance)]
    )


def _without_numbers(claim: Mapping) -> dict:
    """A claim without what was measured: a bound may be a part of another measured number, so its words alone stay."""
    kept = {name: value for name, value in claim.items() if name not in NUMBERS_OF_CLAIM}
    if isinstance(kept.get("required"), Mapping):
        kept["required"] = {name: words(str(bound)) for name, bound in kept["required"].items()}
    return kept


def _compare_json(
    stored: object, computed: object, tolerance: Tolerance, place: str = ""
) -> list[str]:
    if isinstance(stored, Mapping) and isinstance(computed, Mapping):
        if missing := [name for name in stored if name not in computed]:
            return [f"{place or 'top'}: {missing[0]!r} is missing"]
        if added := [name for name in computed if name not in stored]:
            return [f"{place or 'top'}: {added[0]!r} is new"]
        parts = [(f"{place}.{name}".lstrip("."), stored[name], computed[name]) for name in stored]
    elif isinstance(stored, list) and isinstance(computed, list) and len(stored) == len(computed):
        parts = [
            (f"{place}[{at}]", *pair) for at, pair in enumerate(zip(stored, computed, strict=True))
        ]
    elif _is_number(stored) and _is_number(computed):
        moved = stored != computed and _moved(repr(stored), repr(computed), tolerance)
        return [f"{place}: {moved}"] if moved else []
    else:
        same = type(stored) is type(computed) and stored == computed
        return [] if same else [f"{place}: {_short(stored)} became {_short(computed)}"]
    return [
        problem for name, old, new in parts for problem in _compare_json(old, new, tolerance, name)
    ]


def _compare_pictures(kind: str, stored: str, computed: str, tolerance: Tolerance) -> list[str]:
    if tolerance.image is None:
        return []
    import numpy as np
    from PIL import Image

    first, second = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), dtype=float)
        for data in (stored, computed)
    )
    if first.shape != second.shape:
        return [
            f"{kind}: {first.shape[1]}x{first.shape[0]} pixels became {second.shape[1]}x{second.shape[0]}"
        ]
    difference = float(np.sqrt(np.mean((first - second) ** 2)))
    if difference <= tolerance.image:
        return []
    return [
        f"{kind}: the picture moved by {difference:.2f} (root mean square of 0-255), allowed {tolerance.image:g}"
    ]


def _moved(stored: str, computed: str, tolerance: Tolerance) -> str:
    """Says how far a number moved if that is too far; empty otherwise."""
    if stored == computed or tolerance.varies:
        return ""
    if stored.endswith("j") and computed.endswith("j"):
        return _moved_complex(stored, computed, tolerance)
    if stored.endswith("j") or computed.endswith("j"):
        return f"{stored} became {computed}"
    first, second = _decimal(stored), _decimal(computed)
    if not (first.is_finite() and second.is_finite()):
        same = first.is_nan() and second.is_nan() or first == second
        return "" if same and not tolerance.strict else f"{stored} became {computed}"
    whole = WHOLE.fullmatch(stored) and WHOLE.fullmatch(computed)
    if whole or INTEGER.fullmatch(stored) or INTEGER.fullmatch(computed):
        if first == second and not tolerance.strict:
            return ""
        return f"{stored} became {computed}: integers are compared exactly"
    distance, allowed = abs(second - first), tolerance.allows(stored)
    if distance <= allowed and not tolerance.strict:
        return ""
    share = f" ({float(distance / abs(first)) * 100:.2g} %)" if first else ""
    last_digit = Decimal(1).scaleb(first.as_tuple().exponent)
    hint = (
        ""
        if tolerance.strict or last_digit <= allowed
        else "; it is printed with too few digits for that tolerance"
    )
    return (
        f"{stored} became {computed}: moved by {float(distance):g}{share}, "
        f"allowed {float(allowed):g} ({tolerance}){hint}"
    )


def _moved_complex(stored: str, computed: str, tolerance: Tolerance) -> str:
    """As `_moved`, for numbers such as 1.5+2j: the distance in the plane, relative to the stored one's length."""
    first, second = (complex(text.replace(" ", "")) for text in (stored, computed))
    distance, allowed = abs(second - first), tolerance.atol + tolerance.rtol * abs(first)
    same = distance <= allowed or repr(first) == repr(second)  # nan
    if same and not tolerance.strict:
        return ""
    return (
        f"{stored} became {computed}: moved by {distance:g}, allowed {allowed:g} ({tolerance})"
        if distance == distance
        else f"{stored} became {computed}"
    )


def words(text: str) -> list[str]:
    """What stands between the numbers of a text, without the blanks that a number of another width shifts."""
    return [re.sub(r"\s+", " ", part).strip() for part in NUMBER.split(text)]


def _first_line_that_differs(stored: str, computed: str) -> str:
    before, after = stored.splitlines(), computed.splitlines()
    at = next(
        (at for at, (old, new) in enumerate(zip(before, after, strict=False)) if old != new),
        min(len(before), len(after)),
    )
    old, new = (repr(lines[at]) if at < len(lines) else "(nothing)" for lines in (before, after))
    return f"line {at + 1} differs\n    stored:   {old}\n    computed: {new}"


def _line(text: str, at: int) -> tuple[int, str]:
    start = text.rfind("\n", 0, at) + 1
    return text.count("\n", 0, at) + 1, text[start:].partition("\n")[0].strip()[:160]


def _abridged(problems: list[str]) -> list[str]:
    rest = len(problems) - SHOWN
    return problems[:SHOWN] + ([f"and {rest} more"] if rest > 0 else [])


def _decimal(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))


def _exact(value: float) -> Decimal:
    return Decimal(repr(value))  # as it was written: 1e-3 is one thousandth


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _known(name: str, fields: Iterable[str], where: str) -> str:
    if name not in fields:
        raise ParameterError(
            "one of rtol, atol and image", repr(name), where=where, remedy=nearest(name, fields)
        )
    return name


def _value(value: object, where: str) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(Decimal(str(value).strip()))
    except (InvalidOperation, TypeError):
        raise ParameterError(
            "a number", repr(value), where=where, remedy="write it as 1e-3 or 0.001"
        ) from None


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
