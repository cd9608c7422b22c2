"""What a lesson must have and must not have: one sentence for each thing that is missing, misplaced or left over."""

from __future__ import annotations

import ast
import difflib
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml
from nbformat import NotebookNode

from cnncourse import claims, parameters, paths
from cnncourse.errors import CourseError
from cnncourse.lab import pairing, reading, tolerance
from cnncourse.lab.lesson import Cell, Lesson

LONGEST_CELL = 30  # lines of code, except in cells tagged define or imports
TAGS = ("parameters", "imports", "define", "fold", *tolerance.MARKS, tolerance.VARIES)
SHOWING = (
    "print",
    "display",
    "claims.check",
    "claims.quoted",
    "figures.save",
    "figures.show",
    "exercises.check",
)  # leave an output
GOALS = re.compile(r"(?i)\bgoals\b|you will be able to")
MACHINE = re.compile(
    r"(?<![\w.])(?:/(?:home|Users|root|tmp|work|opt|usr)/|[A-Z]:\\\\?Users)[\w.\-]*|\bsite-packages\b"
)
ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{6,}")
PROGRESS = re.compile(r"\d+%\|.*\||\d+(?:\.\d+)?(?:it/s|s/it)\b|[█▉▊▋▌▍▎▏]{2,}|[\r\x08]|\x1b\[")
INSTALL = re.compile(
    r"\b(?:pip3?|conda|mamba|uv|apt|apt-get|brew)\s+(?:-\w+\s+)*install\b|\bconda env create\b"
)


def check(notebook: Path) -> list[str]:
    """Every problem of a lesson, each with its cell; empty for a lesson as it should be. Runs nothing.

    >>> check(paths.lesson("04"))
    []
    """
    notebook = Path(notebook)
    if not notebook.exists():
        return [
            f"there is no notebook {notebook.name}: run `python -m cnncourse store {notebook.name[:2]}`"
        ]
    try:
        content = pairing.read_notebook(notebook)
    except CourseError as error:
        return [str(error)]
    cells = [Cell(number, node) for number, node in enumerate(content.cells, start=1)]
    code = [cell for cell in cells if cell.is_code]
    return [
        *_metadata(content),
        *(f"text twin: {difference}" for difference in pairing.differences(notebook)),
        *_sections(cells),
        *_parameters(notebook, code),
        *_imports(code),
        *_definitions(code),
        *_sources(cells),
        *_tags(cells),
        *_execution(code),
        *_outputs(code),
        *_ledger(notebook, cells),
        *_claims(code),
        *_figures(notebook, cells),
        *_reading(notebook, cells),
    ]


def main(lessons: Iterable[str | Path] | None = None) -> int:
    """Print the problems of the lessons (default: all), for ``python -m cnncourse check``; 1 if there are any."""
    found = {lesson.slug: check(lesson.notebook) for lesson in Lesson.some(lessons or ())}
    for lesson, problems in found.items():
        print(f"{lesson}: {len(problems) or 'no'} problem{'' if len(problems) == 1 else 's'}")
        print("".join(f"  - {problem}\n" for problem in problems), end="")
    return int(any(found.values()))


def _reading(notebook: Path, cells: list[Cell]) -> Iterator[str]:
    tagged = [cell for cell in cells if "parameters" in cell.tags]
    try:
        known = parameters.parse(tagged[0].source) if tagged else {}
    except (CourseError, SyntaxError):
        known = {}  # told by _parameters
    errata = any(
        item["kind"] == "erratum" and item["notebook"][:2] == notebook.name[:2]
        for item in paths.ledger().values()
    )
    yield from reading.check(notebook, cells, known, errata)


def _metadata(content: NotebookNode) -> Iterator[str]:
    for number, cell in enumerate(content.cells, start=1):
        collapsed = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        if collapsed != (pairing.FOLD in cell.metadata.get("tags", [])):
            yield f"cell {number}: collapsed and its tag fold disagree: run `python -m cnncourse sync`"
    if (name := content.metadata.get("kernelspec", {}).get("name")) != "python3":
        yield f"kernelspec is {name!r}, not 'python3': run `python -m cnncourse sync`"
    if "widgets" in content.metadata:
        yield "the notebook holds the state of widgets: run `python -m cnncourse sync`"
    try:
        tolerance.declared(content.metadata.get("nbval", {}))
    except CourseError as error:
        yield f"notebook metadata nbval: {error}"


def _sections(cells: list[Cell]) -> Iterator[str]:
    texts = [cell.source for cell in cells if cell.node.cell_type == "markdown"]
    if not (cells and cells[0].node.cell_type == "markdown" and re.match(r"# \S", cells[0].source)):
        yield "the first cell is no Markdown title (# ...)"
    if not any(GOALS.search(text) for text in texts):
        yield "there is no section with goals"


def _parameters(notebook: Path, code: list[Cell]) -> Iterator[str]:
    tagged = [cell for cell in code if "parameters" in cell.tags]
    if len(tagged) != 1:
        yield f"{len(tagged)} cells are tagged parameters, not one: {', '.join(map(str, tagged))}".rstrip(
            ": "
        )
        return
    cell, known = tagged[0], {}
    comments = parameters.comments_of(cell.source)
    for line in cell.tree.body if cell.tree else ():
        written = ast.unparse(line)
        if not (
            isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value
        ):
            yield f"{cell}: `{written}` is no typed literal such as `epochs: int = 4  # passes over the images`"
            continue
        name, comment = line.target.id, comments.get(line.end_lineno, "")
        if not comment:
            yield f"{cell}: parameter {name} has no comment"
        if name in known:
            yield f"{cell}: parameter {name} stands there twice"
        try:
            default = ast.literal_eval(line.value)
        except ValueError:
            yield f"{cell}: `{written}` is computed, not a literal"
            continue
        known[name] = parameters.Parameter(name, ast.unparse(line.annotation), default, comment)
        if not known[name].fits(default):
            yield f"{cell}: the default of {name}, {default!r}, is no {known[name].type}"
    if "seed" not in known or known["seed"].type != "int":
        yield f"{cell}: there is no parameter `seed: int = 0  # ...`"
    used = {
        node.id
        for other in code
        if other != cell and other.tree
        for node in ast.walk(other.tree)
        if isinstance(node, ast.Name)
    }
    yield from (
        f"{cell}: parameter {name} is not used in any cell" for name in known if name not in used
    )
    yield from _presets(notebook, known)


def _presets(notebook: Path, known: dict[str, parameters.Parameter]) -> Iterator[str]:
    for path in sorted((notebook.parent / "presets").glob("*.yaml")):
        try:
            preset = yaml.load(path.read_text(), Loader=yaml.BaseLoader) or {}
            values = dict(preset.get(notebook.name[:2]) or {})
        except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
            yield f"presets/{path.name} is no table of lessons with their parameters: {' '.join(str(error).split())}"
            continue
        for name, value in values.items():
            if name not in known:
                yield f"presets/{path.name}: lesson {notebook.name[:2]} has no parameter {name}"
                continue
            try:
                known[name].value(value)
            except CourseError as error:
                yield f"presets/{path.name}: {value!r} is no {error.expected}"


def _imports(code: list[Cell]) -> Iterator[str]:
    tagged = [cell for cell in code if "imports" in cell.tags]
    if len(tagged) != 1:
        yield f"{len(tagged)} cells are tagged imports, not one"
    for cell in tagged:
        yield from (
            f"{cell}: `{_first_line(line)}` is no import"
            for line in cell.tree.body
            if cell.tree
            if not isinstance(line, ast.Import | ast.ImportFrom)
        )


def _definitions(code: list[Cell]) -> Iterator[str]:
    allowed = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
    for cell in code:
        for line in cell.tree.body if "define" in cell.tags and cell.tree else ():
            docstring = isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
            if not (isinstance(line, allowed) or docstring):
                yield f"{cell}: a define cell defines; `{_first_line(line)}` belongs in a cell of its own"


def _sources(cells: list[Cell]) -> Iterator[str]:
    for cell in cells:
        if not cell.source.strip():
            yield f"{cell}: the cell is empty"
        if match := INSTALL.search(cell.source):
            yield f"{cell}: an install command, `{match.group()}`"
        if not cell.is_code:
            continue
        if cell.tree is None:
            yield f"{cell}: not plain Python (a magic, a shell command, or a syntax error)"
        elif _ends_with_semicolon(cell.source):
            yield f"{cell}: a trailing `;`, which the comparison of outputs does not honour"
        lines = len([line for line in cell.source.splitlines() if line.strip()])
        if lines > LONGEST_CELL and not {"define", "imports"} & set(cell.tags):
            yield f"{cell}: {lines} lines of code; split it at {LONGEST_CELL}"


def _tags(cells: list[Cell]) -> Iterator[str]:
    for cell in cells:
        if "raises-exception" in cell.tags:
            yield f"{cell}: tag raises-exception; show a deliberate error with try and except"
        for tag in cell.tags:
            like = difflib.get_close_matches(tag, TAGS, n=1, cutoff=0.75)
            if like and tag not in TAGS and not re.match(r"nbval-\w+=", tag):
                yield f"{cell}: tag {tag!r}; is {like[0]!r} meant?"
        try:
            tolerance.declared(
                cell.node.metadata.get("nbval", {}), [tag for tag in cell.tags if "=" in tag]
            )
        except CourseError as error:
            yield f"{cell}: {error}"


def _execution(code: list[Cell]) -> Iterator[str]:
    counts = [cell.node.execution_count for cell in code]
    if counts and not any(counts):
        yield "no cell has been executed: run `python -m cnncourse store`"
        return
    if None in counts:  # then the order says nothing more
        yield from (
            f"{cell}: not executed since it was edited"
            for cell in code
            if cell.node.execution_count is None
        )
        return
    for expected, cell in enumerate(code, start=1):
        if cell.node.execution_count != expected:
            yield f"{cell}: executed as number {cell.node.execution_count}, not {expected}: run it from its start"
            return


def _outputs(code: list[Cell]) -> Iterator[str]:
    for cell in code:
        if cell.node.execution_count and not cell.outputs and (call := _shows(cell)):
            yield f"{cell}: `{call}` without a stored output"
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"{cell}: a stored error, {output.ename}: {output.evalue}"
            if output.get("name") == "stderr":
                yield f"{cell}: a warning or other text on stderr, {output.text.strip().splitlines()[-1][:100]!r}"
            data = output.get("data", {})
            for kind, text in _texts(output):
                widget = "application/vnd.jupyter.widget-view+json" in data and kind == "text/plain"
                if not widget and (match := PROGRESS.search(text)):
                    yield f"{cell}: a text progress bar or a control character, {match.group()[:40]!r}"
                if match := MACHINE.search(text):
                    yield f"{cell}: a path of this machine in the output, {match.group()!r}"
                if match := ADDRESS.search(text):
                    yield f"{cell}: an address in memory in the output, {match.group()!r}"


def _ledger(notebook: Path, cells: list[Cell]) -> Iterator[str]:
    number, ledger = notebook.name[:2], paths.ledger()
    own = [id for id, item in ledger.items() if item["notebook"][:2] == number]
    for cell in cells:
        for tag in cell.tags:
            kind, _, id = tag.partition(":")
            if kind == "ledger" and id not in ledger:
                yield f"{cell}: tag {tag!r} names no item of the ledger{_like(id, ledger)}"
            if kind == "not-drawn" and not (id in own and ledger[id]["kind"] == "figure"):
                yield f"{cell}: tag {tag!r} names no figure of this lesson{_like(id, own)}"
    cited = claims.cited(notebook) | _left_out(cells)
    waiting = [
        cell for cell in cells if cell.is_code and cell.node.execution_count is None
    ]  # only the text to go by
    cited |= {id.partition(".")[0] for cell in waiting for id in claims.made(cell.source)}
    yield from (
        f"ledger item {id} is not covered: {ledger[id]['statement']}"
        for id in own
        if id not in cited and ledger[id]["kind"] != "figure"
    )


def _claims(code: list[Cell]) -> Iterator[str]:
    seen: dict[str, Cell] = {}
    for cell in code:
        for id in claims.made(cell.source):
            if id.partition(".")[0] not in paths.ledger():
                yield f"{cell}: claim {id!r} names no item of the ledger{_like(id, paths.ledger())}"
        for claim in (
            output.data[claims.MIME]
            for output in cell.outputs
            if claims.MIME in output.get("data", {})
        ):
            id = claim["id"]
            if id.partition(".")[0] not in paths.ledger() and id not in claims.made(cell.source):
                yield f"{cell}: claim {id!r} names no item of the ledger{_like(id, paths.ledger())}"
            if claim["verdict"] in ("false", "not required"):
                yield f"{cell}: claim {id!r} is {claim['verdict']} in the stored output"
            if id in seen:
                yield f"{cell}: claim {id!r} stands in cell {seen[id].number} too; give one a suffix after a dot"
            seen[id] = cell


def _figures(notebook: Path, cells: list[Cell]) -> Iterator[str]:
    number, ledger = notebook.name[:2], paths.ledger()
    saved: dict[str, Cell] = {}
    for cell in cells:
        written = claims.saved_figures(cell.source) if cell.is_code else []
        nodes = ast.walk(cell.tree) if cell.is_code and cell.tree else ()
        calls = [ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)]
        if calls.count("figures.save") > len(written):
            yield (
                f'{cell}: write the id into figures.save(figure, "...") as text, not as a variable: the site, the '
                "slides and the table of lessons look for it there"
            )
        for id in written:
            if id in saved:
                yield f"{cell}: figure {id!r} is saved in cell {saved[id].number} too; give one a suffix after a dot"
            saved[id] = cell
            if id.partition(".")[0] not in ledger:
                yield f"{cell}: figure {id!r} names no item of the ledger{_like(id, ledger)}"
    drawn = {id.partition(".")[0] for id in saved} | _left_out(cells)
    for id, item in ledger.items():
        if item["notebook"][:2] == number and item["kind"] == "figure" and id not in drawn:
            yield f"figure {id} is neither saved nor left out by a tag `not-drawn:{id}`: {item['statement']}"


def _left_out(cells: list[Cell]) -> set[str]:
    return {
        tag.removeprefix("not-drawn:")
        for cell in cells
        for tag in cell.tags
        if tag.startswith("not-drawn:")
    }


def _shows(cell: Cell) -> str:
    """The first call of a cell, outside of functions, that must leave an output; empty if there is none."""
    lines = list(cell.tree.body) if cell.tree else []
    while lines:
        line = lines.pop(0)
        if isinstance(line, ast.For | ast.With):
            lines += line.body
        if isinstance(line, ast.Expr) and isinstance(line.value, ast.Call):
            called = ast.unparse(line.value.func)
            if called in SHOWING:
                return f"{called}(...)"
    return ""


def _texts(output: NotebookNode) -> Iterator[tuple[str, str]]:
    """MIME type and text of everything in an output that is read as text."""
    if output.output_type == "stream":
        yield "text/plain", output.text
    for kind, value in output.get("data", {}).items():
        if isinstance(value, str) and not kind.startswith("image/"):
            yield kind, value


def _ends_with_semicolon(source: str) -> bool:
    ignored = (
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.ENDMARKER,
        tokenize.DEDENT,
        tokenize.INDENT,
    )
    previous = None
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.NEWLINE, tokenize.ENDMARKER) and previous == ";":
            return True
        if token.type not in ignored:
            previous = token.string
        elif token.type == tokenize.NEWLINE:
            previous = None
    return False


def _first_line(node: ast.AST) -> str:
    return ast.unparse(node).partition("\n")[0][:60]


def _like(id: str, known: Iterable[str]) -> str:
    like = difflib.get_close_matches(id.partition(".")[0], list(known), n=1, cutoff=0.5)
    return f"; did you mean {like[0]!r}?" if like else ""
