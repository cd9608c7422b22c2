"""What makes a lesson readable: its length, folded plumbing, claims that can fail, predictions that are measured."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from cnncourse.figures import READABLE
from cnncourse.lab import front
from cnncourse.lab.lesson import Cell
from cnncourse.parameters import Parameter

CELLS = 90
VISIBLE_LINES = 250  # lines of code in cells that are not folded, blank lines not counted
CELL_LINES = 16  # of a visible cell; a function or class that is the subject may have more
COLUMNS = 100  # of a line of code: longer ones are cut off or wrapped on a projector
NOTEBOOK_KB = 700  # kilobytes of 1000 bytes
FIGURES_KB = 700  # of the published figures of a lesson, SVG and PNG together
SECONDS = 40  # of one core at the default parameters
CLAIMS = ("claims.check", "claims.table", "claims.quoted")
DRAWS = re.compile(r"\b(plt\.(subplots|figure|show)|figures\.(save|show)|subplot_mosaic)\(")
CANVAS = {"ax", "axes", "fig", "figure"}  # a function that takes one of them draws
SECTIONS = {  # what is missing: the heading that a Markdown cell must have
    "In practice": r"(?im)^#+.*\bin practice\b",
    "History": r"(?im)^#+.*\bhistory\b",
    "Summary": r"(?im)^#+.*\bsummary\b",
    "Exercises": r"(?im)^#+.*\bexercises\b",
    "Sources": r"(?im)^#+.*\bsources\b",
}
CORRECTIONS = re.compile(r"(?im)^## Corrections\b")
HEADER = re.compile(r"(?im)^\| *the notes say *\| *correct *\| *how we know *\|")
NOTES_SAY = re.compile(r"(?i)\bthe (?:lecture )?notes (?:say|claim|state)\b")
WITHOUT_MEASURING = (ast.Constant, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.BinOp, ast.UnaryOp, ast.BoolOp,
                     ast.Compare, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context)  # fmt: skip


def check(
    notebook: Path, cells: list[Cell], parameters: dict[str, Parameter], errata: bool
) -> Iterator[str]:
    """Every problem of this kind, each with its cell. `errata`: whether the ledger has any for this lesson."""
    code = [cell for cell in cells if cell.is_code]
    yield from _length(notebook, cells, code)
    yield from _cost(front.cost(notebook), cells)
    yield from _folds(cells, code)
    yield from _ranges(parameters)
    yield from _sections(cells, errata)
    yield from _claims(code, parameters)
    yield from _predictions(notebook.name[:2], code)
    yield from _letters(code)
    yield from _words(code)


def _words(code: list[Cell]) -> Iterator[str]:
    """Pictures without words, or with those of another picture."""
    seen: dict[str, Cell] = {}
    for cell in code:
        for output in cell.outputs:
            for kind in output.get("data", {}):
                if not kind.startswith("image/"):
                    continue
                alt = output.get("metadata", {}).get(kind, {}).get("alt", "").strip()
                if not alt:
                    yield (
                        f"{cell}: a picture without alternative text; show it by "
                        '`figures.show(fig, alt="the finding in words")`, not by plt.show() or as the last line'
                    )
                elif alt in seen:
                    yield (
                        f"{cell}: the picture's alternative text is that of a picture in cell "
                        f"{seen[alt].number}; say what each shows"
                    )
                seen[alt] = cell


def _letters(code: list[Cell]) -> Iterator[str]:
    for cell in code:
        for output in cell.outputs:
            told = output.get("metadata", {}).get("image/png", {})
            pixels = told.get("smallest_px") or READABLE
            if pixels < READABLE:
                yield (
                    f"{cell}: {told['smallest_text']!r} has letters of {pixels:.0f} pixels when the figure fills a "
                    f"screen of 1920 x 1080, at least {READABLE}: larger letters, a flatter figure, or two figures"
                )


def _length(notebook: Path, cells: list[Cell], code: list[Cell]) -> Iterator[str]:
    if len(cells) > CELLS:
        yield f"{len(cells)} cells, at most {CELLS}: keep what tells the story"
    visible = {cell: _lines(cell) for cell in code if not cell.is_folded}
    if sum(visible.values()) > VISIBLE_LINES:
        yield f"{sum(visible.values())} visible lines of code, at most {VISIBLE_LINES}: fold the plumbing"
    for cell, lines in visible.items():
        if lines > CELL_LINES and not {"define", "parameters", "imports"} & set(cell.tags):
            yield f"{cell}: {lines} visible lines; split it at {CELL_LINES}, or fold it"
    for cell in code:
        for number, line in enumerate(cell.source.splitlines(), start=1):
            if len(line) > COLUMNS:
                yield f"{cell}: line {number} has {len(line)} characters, at most {COLUMNS}"
    size = notebook.stat().st_size / 1000
    if size > NOTEBOOK_KB:
        weights = {cell: len(str(cell.outputs)) for cell in code}
        largest = max(weights, key=weights.get)
        yield (
            f"the notebook has {size:.0f} kB, at most {NOTEBOOK_KB}; "
            f"the largest: {largest}, {weights[largest] / 1000:.0f} kB"
        )
    folder = notebook.parents[1] / "figures" / notebook.stem
    published = {path: path.stat().st_size / 1000 for path in folder.glob("*.*")}
    if sum(published.values()) > FIGURES_KB:
        largest = max(published, key=published.get)
        yield (
            f"{sum(published.values()):.0f} kB of published figures, at most {FIGURES_KB}; "
            f"the largest: {largest.name}, {published[largest]:.0f} kB (rasterise clouds of points)"
        )


def _cost(measured: int | None, cells: list[Cell]) -> Iterator[str]:
    first = "\n".join(cell.source for cell in cells[:5] if not cell.is_code)
    said = re.search(r"(?i)about (\d+) seconds", first)
    if not said:
        yield "the first cells do not say what the lesson costs: `**It costs** about 25 seconds of one core`"
    elif measured is not None and int(said[1]) != measured:
        yield f"it says `{said.group()}`, `store` measured {measured} seconds of one core"
    if measured is not None and measured > SECONDS:
        yield f"it costs {measured} seconds of one core, at most {SECONDS}"


def _folds(cells: list[Cell], code: list[Cell]) -> Iterator[str]:
    for cell in cells:
        if cell.is_folded and not cell.is_code:
            yield f"{cell}: tag fold on a text; only code is folded"
    for cell in code:
        if cell.is_folded or cell.tree is None:
            continue
        if what := _plumbing(cell):
            yield f"{cell}: {what}, not folded: give it the tag fold"


def _plumbing(cell: Cell) -> str:
    """What a cell is, if it is nothing that a reader of the story must read; else empty."""
    body = cell.tree.body
    if body and all(isinstance(line, ast.Import | ast.ImportFrom) for line in body):
        return "imports"
    if body and all(_only_claims(line) for line in body):
        return "claims only"
    takes_canvas = any(
        isinstance(line, ast.FunctionDef) and CANVAS & {word.arg for word in line.args.args}
        for line in body
    )
    if takes_canvas or DRAWS.search(cell.source):
        return "a cell that draws (what it shows is computed in a cell of its own)"
    return ""


def _only_claims(line: ast.stmt) -> bool:
    if isinstance(line, ast.For | ast.If):
        return all(map(_only_claims, [*line.body, *line.orelse]))
    return (
        isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Call)
        and ast.unparse(line.value.func) in CLAIMS
    )


def _ranges(parameters: dict[str, Parameter]) -> Iterator[str]:
    for name, parameter in parameters.items():
        if parameter.range is None and parameter.type != "bool":
            words = parameter.comment.rpartition(";")[2].strip() if ";" in parameter.comment else ""
            said = f"{words!r} is none" if words else "it has no semicolon"
            yield (
                f"parameter {name} has no range behind the last semicolon of its comment ({said}): "
                "`; 1 to 200`, `; above 0`, `; one of digits, mnist`, `; each at least 1, ascending`"
            )


def _sections(cells: list[Cell], errata: bool) -> Iterator[str]:
    texts = [cell for cell in cells if not cell.is_code]
    for name, heading in SECTIONS.items():
        if not any(re.search(heading, cell.source) for cell in texts):
            yield f"there is no section {name!r}"
    places = [at for at, cell in enumerate(texts) if CORRECTIONS.search(cell.source)]
    closing = texts[places[0] :] if places else []
    if errata and not any(HEADER.search(cell.source) for cell in closing):
        yield "there is no section `## Corrections` with a table `| the notes say | correct | how we know |`"
    for cell in texts:
        if cell not in closing and (said := NOTES_SAY.search(cell.source)):
            yield f"{cell}: `{said.group()}`; what the notes say stands under Corrections only"


def _claims(code: list[Cell], parameters: dict[str, Parameter]) -> Iterator[str]:
    for cell in code:
        for call in _calls(cell, *CLAIMS[:2]):
            id = _constant(call.args[0]) if call.args else "?"
            for name, measured, bound in _compared(call):
                if why := _cannot_fail(measured, bound):
                    yield f"{cell}: claim {id!r}{name} cannot fail, {why}: test it in tests/, or leave it out"
            for word in call.keywords:
                if word.arg == "seeds" and (count := _seeds(word.value, parameters)) is not None:
                    if count < 2:
                        yield f"{cell}: claim {id!r} is over {count} seed, two or more are needed"


def _compared(call: ast.Call) -> Iterator[tuple[str, ast.expr, ast.expr]]:
    """Each pair of what was measured and its bound, with the words that name it in a message."""
    if ast.unparse(call.func) == "claims.table":
        rows = [*call.args[2:3], *(word.value for word in call.keywords if word.arg == "rows")]
        for table in rows:
            if isinstance(table, ast.Dict):
                for name, row in zip(table.keys, table.values, strict=True):
                    if name is not None and isinstance(row, ast.Tuple) and len(row.elts) >= 2:
                        yield f", row {ast.unparse(name)},", row.elts[0], row.elts[1]
        return
    for word in call.keywords:
        value = word.value
        if isinstance(value, ast.Tuple) and len(value.elts) >= 3:
            yield f", {word.arg},", value.elts[0], value.elts[2]


def _cannot_fail(measured: ast.expr, bound: ast.expr) -> str:
    """Why a comparison of the two says nothing about the lesson; empty if it does say something."""
    if ast.dump(measured) == ast.dump(bound):
        return "both sides are the same expression"
    if _is_literal(measured) and _is_literal(bound):
        return "both sides are literals"
    for node in ast.walk(measured):
        if isinstance(node, ast.Compare) and len(node.comparators) == 1:
            if ast.dump(node.left) == ast.dump(node.comparators[0]):
                return f"`{ast.unparse(node)}` compares an expression with itself"
    return ""


def _is_literal(node: ast.expr) -> bool:
    return all(isinstance(part, WITHOUT_MEASURING) for part in ast.walk(node))


def _seeds(node: ast.expr, parameters: dict[str, Parameter]) -> int | None:
    """How many seeds an expression names at the default parameters; None if that takes running it."""
    try:
        value = ast.literal_eval(node)
    except ValueError:
        known = parameters.get(node.id) if isinstance(node, ast.Name) else None
        value = known.default if known else None
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return len(value) if isinstance(value, (list, tuple)) else None


def _predictions(number: str, code: list[Cell]) -> Iterator[str]:
    asked: dict[str, tuple[Cell, list[str] | None]] = {}
    told: dict[str, Cell] = {}
    for cell in code:
        for call in _calls(cell, "exercises.predict", "exercises.reveal"):
            id = _constant(call.args[0]) if call.args else None
            if not isinstance(id, str) or not re.fullmatch(rf"{number}\.p\d+", id):
                yield f"{cell}: a prediction is called '{number}.p1', '{number}.p2', ..., not {id!r}"
                continue
            if ast.unparse(call.func).endswith("predict"):
                if id in asked:
                    yield f"{cell}: prediction {id!r} is asked in cell {asked[id][0].number} too"
                asked[id] = cell, _choices(call)
                yield from _bad_choices(cell, id, asked[id][1])
                continue
            if id not in asked:
                yield f"{cell}: {id!r} is revealed before it is asked"
            told[id] = cell
            yield from _bad_answer(cell, id, call, asked.get(id, (None, None))[1])
    for id, (cell, _) in asked.items():
        if id not in told:
            yield f"{cell}: prediction {id!r} is never revealed: exercises.reveal says what was measured"
    if not asked:
        yield f"the lesson lets its reader predict nothing: exercises.predict('{number}.p1', ...)"


def _choices(call: ast.Call) -> list[str] | None:
    """The choices as they are written; None where they are computed."""
    given = call.args[2:3] + [word.value for word in call.keywords if word.arg == "choices"]
    try:
        return list(ast.literal_eval(given[0]))
    except (IndexError, ValueError, TypeError):
        return None


def _bad_choices(cell: Cell, id: str, choices: list[str] | None) -> Iterator[str]:
    if choices is not None and (len(choices) < 2 or len(set(choices)) < len(choices)):
        yield f"{cell}: prediction {id!r} needs two or more different choices, not {choices}"


def _bad_answer(cell: Cell, id: str, call: ast.Call, choices: list[str] | None) -> Iterator[str]:
    if len(call.args) < 2:
        return
    answer = call.args[1]
    if isinstance(answer, ast.Constant):
        yield f"{cell}: the answer of {id!r} is typed in; compute it from what was measured"
    for word in _answers(answer):
        if choices is not None and word not in choices:
            yield f"{cell}: the answer {word!r} of {id!r} is none of its choices {choices}"


def _answers(node: ast.expr) -> Iterable[str]:
    """The words that a conditional expression may give."""
    if isinstance(node, ast.IfExp):
        return [*_answers(node.body), *_answers(node.orelse)]
    return [node.value] if isinstance(node, ast.Constant) else []


def _calls(cell: Cell, *names: str) -> list[ast.Call]:
    nodes = ast.walk(cell.tree) if cell.tree else ()
    found = [
        node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) in names
    ]
    return sorted(found, key=lambda call: (call.lineno, call.col_offset))


def _constant(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else ast.unparse(node)


def _lines(cell: Cell) -> int:
    return sum(bool(line.strip()) for line in cell.source.splitlines())
