"""The parameters of a lesson: typed values with ranges that are written beside them, and the values committed.

A lesson's parameters cell holds lines such as

    epochs: int = 10  # passes over the training images; 1 to 200

What stands after the last semicolon of the comment is the range. `Range` lists the words it may use.
"""

from __future__ import annotations

import ast
import json
import math
import re
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path

from cnncourse import paths
from cnncourse.errors import ParameterError, nearest

WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
NUMBER = r"([-+]?[\d_]*\.?\d+(?:[eE][-+]?\d+)?)"
BOUNDS: dict[str, Callable[..., bool]] = {  # how a range is written: which values lie in it
    rf"{NUMBER} to {NUMBER}": lambda value, low, high: low <= value <= high,
    rf"{NUMBER} or {NUMBER} to {NUMBER}": lambda value, one, low, high: (
        value == one or low <= value <= high
    ),
    rf"at least {NUMBER}": lambda value, low: value >= low,
    rf"at most {NUMBER}": lambda value, high: value <= high,
    rf"above {NUMBER}": lambda value, low: value > low,
    rf"below {NUMBER}": lambda value, high: value < high,
    r"(\d+)n \+ (\d+)": lambda value, step, first: value >= first and (value - first) % step == 0,
}
COUNTS: dict[str, Callable[..., bool]] = {  # of a list
    r"(\d+) or more values": lambda count, low: count >= low,
    r"(\d+) to (\d+) values": lambda count, low, high: low <= count <= high,
    r"(\d+) values": lambda count, wanted: count == wanted,
}
ORDERS: dict[str, Callable[[list], bool]] = {  # of a list
    "ascending": lambda values: all(one < next for one, next in zip(values, values[1:])),  # noqa: B905 - neighbours
    "descending": lambda values: all(one > next for one, next in zip(values, values[1:])),  # noqa: B905
    "different": lambda values: len(set(values)) == len(values),
}
OWN: dict[str, Callable[[Path], bool]] = {"a folder": Path.is_dir, "a file": Path.is_file}


@dataclass(frozen=True)
class Range:
    """Which values a parameter may have, as its comment says; parts are joined by commas.

    numbers       "1 to 200", "0 or 8 to 64", "at least 1", "at most 5", "6n + 2"; two: "above 0, below 1"
    words         "one of digits, mnist", "one of digits, mnist, or a folder" (or "a file"; it must be there)
    text          "any text"
    lists         "each 8 to 200, ascending", "2 or more values, each at least 0, different", "each one of relu, tanh"

    >>> Range.read("each 8 to 200, ascending").allows([20, 56])
    True
    """

    text: str
    each: tuple[Callable[[object], bool], ...] = ()  # of the value, or of each of a list's
    whole: tuple[Callable[[list], bool], ...] = ()  # of a list: its length, its order
    choices: tuple[str, ...] = ()
    own: str = ""  # "a folder" or "a file" instead of one of the choices

    @classmethod
    def read(cls, text: str) -> Range | None:
        """The range that the words mean; None for words that mean none."""
        text = " ".join(text.split())
        before, one_of, words = text.partition("one of ")
        each, whole, choices = [], [], ()
        for part in filter(None, (part.strip() for part in before.split(","))):
            if part == "each" and one_of:
                continue
            if part == "any text" and not one_of:
                continue
            number = _compiled(part.removeprefix("each "), BOUNDS, float)
            count = _compiled(part, COUNTS, int)
            if number:
                each.append(number)
            elif count:
                whole.append(lambda values, count=count: count(len(values)))
            elif part in ORDERS:
                whole.append(ORDERS[part])
            else:
                return None
        if one_of:
            choices = tuple(re.split(r",? or |, ?", words))
            if not all(choices):
                return None
        if not (each or whole or choices or text == "any text"):
            return None
        named = tuple(word for word in choices if word not in OWN)
        own = "".join(word for word in choices if word in OWN)
        return cls(text, tuple(each), tuple(whole), named, own)

    def allows(self, value: object) -> bool:
        """Whether a value of the right type lies in the range; None, of a type that has it, always does."""
        if value is None:
            return True
        values = list(value) if isinstance(value, (list, tuple)) else [value]
        single = all(fits(item) for item in values for fits in self.each)
        known = not self.choices or all(self._known(item) for item in values)
        return single and known and all(fits(values) for fits in self.whole)

    def _known(self, word: object) -> bool:
        return word in self.choices or bool(self.own and OWN[self.own](paths.resolved(str(word))))


@dataclass(frozen=True)
class Parameter:
    """One line of a lesson's parameters cell: ``epochs: int = 4  # passes over the training images; 1 to 200``."""

    name: str
    type: str  # the annotation: "int", "float", "str", "bool", "list", "list[int]", "int | None"; else the default's
    default: object
    comment: str = ""  # without the #, the range still in it

    @cached_property
    def range(self) -> Range | None:
        """What the comment allows behind its last semicolon; None where it says nothing that `Range` knows."""
        said, semicolon, words = self.comment.rpartition(";")
        return Range.read(words) if semicolon else None

    @property
    def kinds(self) -> list[str]:
        """The types it may have, ``["int", "None"]``."""
        return [kind.strip() for kind in self.type.split("|")]

    def value(self, given: object, *, where: str = "parameters of the lesson") -> object:
        """What was given, as a value of this parameter; text (from a command line or a preset) is read as its type.

        >>> Parameter("shuffle", "bool", False).value("true")
        True
        >>> Parameter("depths", "list[int]", [20]).value("[8, 20]")
        [8, 20]

        Text is read as Python and JSON write it: 010 is ten, 1:30 is no number, [no] holds a word.
        Raises `ParameterError` for what is no such value: 2.5 epochs, a word for a number, a mixed list; and for
        a value outside of the range.
        """
        return self._read(given, where, of_text=True)

    def check(self, value: object, *, where: str = "parameters of the lesson") -> object:
        """The value itself, if it has the parameter's type as it stands and lies in the range.

        >>> Parameter("epochs", "int", 4, "passes; 1 to 200").check(0)
        Traceback (most recent call last):
        cnncourse.errors.ParameterError: expected epochs: int, 1 to 200
          got:   0
          where: parameters of the lesson
          to do: give a value like the default, 4: passes
        """
        return self._read(value, where, of_text=False)

    def fits(self, value: object) -> bool:
        """Whether `check` would let a value pass."""
        try:
            self.check(value)
        except ParameterError:
            return False
        return True

    def _read(self, given: object, where: str, of_text: bool) -> object:
        for kind in self.kinds:
            found = _read(kind, given, self.default, of_text)
            if found is not _UNFIT:
                return self._in_range(found, where)
        raise ParameterError(
            f"{self.name} of type {self.type}",
            f"{given!r} ({type(given).__name__})",
            where=where,
            remedy=self._like_the_default(),
        )

    def _in_range(self, value: object, where: str) -> object:
        if self.range is None or self.range.allows(value):
            return value
        remedy = self._like_the_default()
        words = value if isinstance(value, (list, tuple)) else [value]
        for word in words:
            if self.range.choices and word not in self.range.choices:
                remedy = nearest(str(word), self.range.choices)
                if self.range.own:
                    remedy += (
                        f"; there is no {self.range.own.split()[-1]} {paths.resolved(str(word))}"
                    )
                break
        raise ParameterError(
            f"{self.name}: {self.type}, {self.range.text}", repr(value), where=where, remedy=remedy
        )

    def _like_the_default(self) -> str:
        said = self.comment.rpartition(";")[0] if self.range else self.comment
        return f"give a value like the default, {self.default!r}" + (f": {said}" if said else "")


def parse(source: str, *, where: str = "the parameters cell") -> dict[str, Parameter]:
    """Name to `Parameter`, from the source of a parameters cell.

    >>> parse("epochs: int = 4  # passes; 1 to 200")["epochs"].range.text
    '1 to 200'

    Raises `ParameterError` for a line that is no literal: ``epochs: int = 2 * 2``.
    """
    comments = comments_of(source)
    found = {}
    for line in ast.parse(source).body:
        if isinstance(line, ast.Expr):
            continue  # a docstring
        target = line.target if isinstance(line, ast.AnnAssign) else None
        if isinstance(line, ast.Assign):
            target = line.targets[0]
        try:
            default = ast.literal_eval(line.value)
            name = target.id
        except (AttributeError, TypeError, ValueError):
            raise ParameterError(
                "literals only, as in `epochs: int = 4`",
                repr(ast.unparse(line)),
                where=where,
                remedy="move computed values to the setup cell",
            ) from None
        typed = isinstance(line, ast.AnnAssign)
        kind = ast.unparse(line.annotation) if typed else type(default).__name__
        found[name] = Parameter(name, kind, default, comments.get(line.end_lineno, ""))
    return found


def comments_of(source: str) -> dict[int, str]:
    """Line number to the comment on it, without its #."""
    tokens = tokenize.generate_tokens(StringIO(source).readline)
    return {
        token.start[0]: token.string.lstrip("# ")
        for token in tokens
        if token.type == tokenize.COMMENT
    }


def committed(lesson: str | int) -> dict[str, Parameter]:
    """The parameters of a lesson as the course has them, wherever a copy of it runs; {} for a lesson not yet written.

    >>> {name: parameter.default for name, parameter in committed("14").items()}["batch_size"]
    64

    lesson: number or slug, "14" or "14_resnet". Read from ``notebooks/text/``, or from the notebook where no text is.
    """
    try:
        notebook = paths.lesson(lesson)
    except ParameterError:
        return {}
    text = notebook.parent / "text" / f"{notebook.stem}.py"
    if text.is_file():
        tagged = re.search(
            r'^# %%[^\n]*tags=\[[^\n]*"parameters"[^\n]*\n(.*?)(?=^# %%|\Z)',
            text.read_text(encoding="utf-8"),
            re.MULTILINE | re.DOTALL,
        )
        return parse(tagged[1], where=text.name) if tagged else {}
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        if "parameters" in cell["metadata"].get("tags", []):
            return parse("".join(cell["source"]), where=notebook.name)
    return {}


def changed(lesson: str | int, namespace: dict[str, object]) -> dict[str, object]:
    """The parameters whose values in `namespace` differ from the committed ones, with the values they have there.

    >>> changed("14", {"batch_size": 128})
    {'batch_size': 128}

    A name that the namespace lacks counts as unchanged.
    """
    return {
        name: namespace[name]
        for name, parameter in committed(lesson).items()
        if name in namespace
        and (type(namespace[name]), namespace[name]) != (type(parameter.default), parameter.default)
    }


def check_kernel() -> None:
    """Check the parameters that this kernel works with against the ranges of the parameters cell that it ran.

    `runtime.start` calls it: so a lesson that is run by hand, or by papermill itself, refuses a value outside of its
    range in its setup cell. Outside of a notebook it does nothing.
    Raises `ParameterError` naming parameter, value and range.
    """
    import sys

    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return
    for source in reversed(shell.user_ns.get("In", [])):
        if known := _ranged(source):
            for name, parameter in known.items():
                if name in shell.user_ns:
                    parameter.check(shell.user_ns[name], where="the parameters cell")
            return


def _ranged(source: str) -> dict[str, Parameter]:
    """The parameters of a cell that is a parameters cell, which is: at least one of its lines has a range."""
    if ";" not in source:
        return {}
    try:
        found = parse(source)
    except (SyntaxError, ParameterError, tokenize.TokenError):
        return {}
    return found if any(parameter.range for parameter in found.values()) else {}


def _compiled(text: str, forms: dict, number: Callable[[str], float]) -> Callable | None:
    """The test that a text such as "1 to 200" means, with its numbers filled in."""
    for form, holds in forms.items():
        if match := re.fullmatch(form, text):
            bounds = [number(group) for group in match.groups()]
            return lambda value: _comparable(value) and holds(value, *bounds)
    return None


def _comparable(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_UNFIT = object()


def _read(kind: str, given: object, default: object, of_text: bool) -> object:
    """`given` as a value of the type named `kind`, or _UNFIT; with `of_text`, a text may stand for a number."""
    base, _, inner = kind.partition("[")
    inner = inner.removesuffix("]")
    if base == "str":
        return given if isinstance(given, str) else _UNFIT
    if isinstance(given, str) and not of_text:
        return _UNFIT
    try:
        if base == "None":
            return None if given is None or str(given).lower() in ("none", "null") else _UNFIT
        if base == "bool":
            return given if isinstance(given, bool) else WORDS[given.strip().lower()]
        if base in ("int", "float") and isinstance(given, str) and not given.isascii():
            return _UNFIT  # int and float read the digits of every script
        if base == "int":
            return int(given) if isinstance(given, str) or type(given) is int else _UNFIT
        if base == "float":
            fits = isinstance(given, str) or type(given) in (int, float)
            return float(given) if fits and math.isfinite(float(given)) else _UNFIT
        if base in ("list", "tuple"):
            return _sequence(base, inner, given, default, of_text)
    except (AttributeError, KeyError, ValueError, TypeError, OverflowError):
        return _UNFIT
    return _UNFIT


def _sequence(base: str, inner: str, given: object, default: object, of_text: bool) -> object:
    """A list or tuple of items of the type `inner`; from text, its items are what stands between the commas."""
    items = _items(given) if isinstance(given, str) else given
    if not isinstance(items, (list, tuple)):
        return _UNFIT
    kinds = _items(inner.removesuffix(", ..."))  # tuple[int, str] names each
    if not kinds and default:
        kinds = [type(default[0]).__name__]
    if len(kinds) == 1:
        kinds *= len(items)
    if kinds or not items:
        if len(kinds) != len(items):
            return _UNFIT
        items = [_read(kind, item, None, of_text) for kind, item in zip(kinds, items, strict=True)]
    elif isinstance(given, str):
        items = [_literal(item) for item in items]
    if any(item is _UNFIT for item in items):
        return _UNFIT
    return list(items) if base == "list" else tuple(items)


def _items(text: str) -> list[str]:
    """The items of a list in text, brackets and quotes around them taken off: ``[a, "b, c"]`` to a and ``b, c``.

    Raises ValueError for brackets or quotes that do not close.
    """
    text = text.strip()
    if text[:1] in ("[", "("):
        if text[-1] != {"[": "]", "(": ")"}[text[0]]:
            raise ValueError(f"no end of the list {text!r}")
        text = text[1:-1]
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'" and not parts[-1].strip():
            quote = letter
        depth += 0 if quote else (letter in "[(") - (letter in "])")
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    if depth or quote:
        raise ValueError(f"brackets or quotes that do not close in {text!r}")
    if not parts[-1].strip():
        parts.pop()  # the comma at the end of (1,); an empty list
    return [_unquoted(part.strip()) for part in parts]


def _unquoted(part: str) -> str:
    return ast.literal_eval(part) if part[:1] in ("'", '"') else part


def _literal(part: str) -> object:
    """A number where it is one, else the word as it stands; for lists that name no type."""
    for number in (int, float):
        try:
            return number(part)
        except ValueError:
            pass
    return part
