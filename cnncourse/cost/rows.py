"""The rows of a table of costs, their totals, and how they print as text, Markdown and HTML."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from cnncourse.errors import ParameterError, nearest

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One layer of a network, or one function call between layers; shapes are without the batch."""

    name: str  # the path of the module, "layer1.0.conv1", or of the module that called the function, "layer1.0.add"
    kind: str  # the class of the module, "Conv2d", or the name of the function, "add"
    output_shape: Shape | tuple[Shape, ...]  # several outputs: a tuple of shapes
    kernel: Shape | None = None
    stride: Shape | None = None
    padding: Shape | None = None
    groups: int = 1
    parameters: int = 0  # those first used here: shared weights count once
    multiply_adds: int = 0
    activation_bytes: int = 0
    receptive_field: Shape | None = (
        None  # input pixels, per axis, that one output value can see; None: no image axes
    )
    inputs: tuple[int, ...] = ()  # the rows whose outputs it reads; -1 is the input of the network
    is_module: bool = True
    is_view: bool = (
        False  # rearranges without computing: flatten, permute, dropout outside training
    )
    call: int = 1  # 2 for the second use of the same module
    note: str = ""
    unknown: tuple[
        str, ...
    ] = ()  # which of "multiply-adds" and "receptive field" cannot be told; shown as ?

    @property
    def label(self) -> str:
        """The name, with the number of the call where one module is used several times."""
        return (
            self.name
            + (f" ({self.call})" if self.call > 1 else "")
            + (f" [{self.note}]" if self.note else "")
        )


@dataclass(frozen=True, repr=False)
class Table:
    """The rows of a network in the order of execution, with totals; prints as text and shows as HTML in a notebook."""

    rows: tuple[Row, ...]
    title: str
    input_shape: Shape | tuple[Shape, ...]
    input_bytes: int
    classes: dict[str, str] = field(
        default_factory=dict
    )  # module path to class, of every module; "" is the network

    @property
    def parameters(self) -> int:
        """The number of parameters, each counted once however often it is used."""
        return sum(row.parameters for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one image's forward pass; those of `uncounted` rows are missing."""
        return sum(row.multiply_adds for row in self.rows)

    @property
    def uncounted(self) -> tuple[Row, ...]:
        """The rows whose multiply-adds are unknown."""
        return tuple(row for row in self.rows if "multiply-adds" in row.unknown)

    @property
    def activation_bytes(self) -> int:
        """Bytes of the input and of all outputs of one image, as a training step keeps them."""
        return self.input_bytes + sum(row.activation_bytes for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> Table:
        """The part of the table that lies in one module: ``table["layer1"].multiply_adds``.

        Raises `ParameterError` for a name that no row has, naming the nearest.
        """
        rows = tuple(
            row for row in self.rows if row.name == name or row.name.startswith(f"{name}.")
        )
        if not rows:
            paths = [row.name.split(".") for row in self.rows]
            known = {".".join(path[:n]) for path in paths for n in range(1, len(path) + 1)}
            raise ParameterError(
                "the name of a layer or block of this network",
                repr(name),
                where=f"cost table of {self.title}",
                remedy=nearest(str(name), known),
            )
        return replace(self, rows=rows, title=f"{self.title}, {name}", input_bytes=0)

    def grouped(self, depth: int = 1) -> Table:
        """The same totals with one row for each module at `depth` dots: stages (1), blocks (2).

        >>> [row.name for row in cost.table(torchvision.models.resnet18(), (3, 224, 224)).grouped()]
        ['conv1', 'bn1', 'relu', 'maxpool', 'layer1', 'layer2', 'layer3', 'layer4', 'avgpool', 'flatten', 'fc']
        """
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(".".join(row.name.split(".")[:depth]), []).append(row)
        return replace(
            self, rows=tuple(_sum(name, rows, self.classes) for name, rows in groups.items())
        )

    def __str__(self) -> str:
        text = aligned(_cells(self))
        rule = "-" * max(map(len, text))
        head = f"{self.title} on {size_text(self.input_shape)}"
        return "\n".join([head, rule, text[0], rule, *text[1:-1], rule, text[-1]])

    __repr__ = __str__

    def to_markdown(self) -> str:
        """The table in Markdown, with the totals as its last row."""
        head, *body = _cells(self)
        rule = ["---", "---"] + ["---:"] * (len(head) - 2)
        escaped = [[cell.replace("|", r"\|") for cell in line] for line in body]
        return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *escaped])

    def _repr_html_(self) -> str:
        head, *body, total = _cells(self)

        def line(cells: list[str], tag: str) -> str:
            sides = ["left", "left"] + ["right"] * (len(cells) - 2)
            return (
                "<tr>"
                + "".join(
                    f'<{tag} style="text-align:{side}">{html.escape(cell)}</{tag}>'
                    for cell, side in zip(cells, sides, strict=True)
                )
                + "</tr>"
            )

        caption = html.escape(f"{self.title} on {size_text(self.input_shape)}")
        rows = "".join(line(cells, "td") for cells in body)
        return (
            f"<table><caption>{caption}</caption><thead>{line(head, 'th')}</thead>"
            f"<tbody>{rows}</tbody><tfoot>{line(total, 'th')}</tfoot></table>"
        )


# --- text -----------------------------------------------------------------------------------------------------------


def _sum(name: str, rows: list[Row], classes: dict[str, str]) -> Row:
    if len(rows) == 1 and rows[0].name == name:
        return rows[0]
    ran = [row for row in rows if not row.note] or rows
    missing = ["multiply-adds"] if any("multiply-adds" in row.unknown for row in rows) else []
    missing += ["receptive field"] if "receptive field" in ran[-1].unknown else []
    return Row(
        name,
        classes.get(name, ran[-1].kind),
        ran[-1].output_shape,
        parameters=sum(r.parameters for r in rows),
        multiply_adds=sum(r.multiply_adds for r in rows),
        activation_bytes=sum(r.activation_bytes for r in rows),
        receptive_field=ran[-1].receptive_field,
        note=ran[-1].note,
        unknown=tuple(missing),
    )


def size_text(shape: tuple) -> str:
    """A shape in words: (3, 224, 224) -> 3×224×224; several shapes with commas."""
    if shape and isinstance(shape[0], tuple):
        return ", ".join(map(size_text, shape))
    return "×".join(map(str, shape)) if shape else "–"


def _brief(values: Shape | None) -> str:
    if values is None:
        return ""
    return str(values[0]) if len(set(values)) == 1 else size_text(values)


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} B" if count else ""


def _count(number: int, unknown: bool) -> str:
    known = f"{number:,}" if number else ""
    return " + ".join(filter(None, (known, "?"))) if unknown else known


def _line(row: Row) -> list[str]:
    return [
        row.label,
        row.kind + (f", {row.groups} groups" if row.groups > 1 else ""),
        size_text(row.output_shape),
        size_text(row.kernel) if row.kernel else "",
        _brief(row.stride),
        _brief(row.padding),
        "?" if "receptive field" in row.unknown else _brief(row.receptive_field),
        _count(row.parameters, False),
        _count(row.multiply_adds, "multiply-adds" in row.unknown),
        _bytes(row.activation_bytes),
    ]


HEAD = [
    "layer",
    "type",
    "output",
    "kernel",
    "stride",
    "pad",
    "sees",
    "parameters",
    "multiply-adds",
    "memory",
]


def _cells(costs: Table) -> list[list[str]]:
    """Head, rows and totals as words."""
    adds = f"{costs.multiply_adds:,}" + (" + ?" if costs.uncounted else "")
    total = [f"{costs.parameters:,}", adds, _bytes(costs.activation_bytes)]
    last = [f"total, {len(costs.rows)} rows", "", "", "", "", "", "", *total]
    return [HEAD, *map(_line, costs.rows), last]


def aligned(lines: list[list[str]], left: int = 2) -> list[str]:
    """Lines of cells as lines of text: the first `left` columns begin, the others end at one place."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for line in lines:
        cells = zip(line, widths, strict=True)
        words = [
            cell.ljust(width) if n < left else cell.rjust(width)
            for n, (cell, width) in enumerate(cells)
        ]
        text.append("  ".join(words).rstrip())
    return text
