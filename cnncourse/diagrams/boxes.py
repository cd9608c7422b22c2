"""What a diagram shows: one box a layer or block of the traced network, with the boxes that it reads."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace

from cnncourse import cost

CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")  # they hold blocks and are none
SHORT = {
    "BatchNorm1d": "BN",
    "BatchNorm2d": "BN",
    "BatchNorm3d": "BN",
    "batch_norm": "BN",
    "LayerNorm": "LN",
    "LayerNorm2d": "LN",
    "GroupNorm": "GN",
    "LocalResponseNorm": "LRN",
    "local_response_norm": "LRN",
    "TowerNorm": "LRN",
    "relu": "ReLU",
    "Dropout": "dropout",
    "dropout": "dropout",
    "mul": "scale",
    "div": "scale",
    "truediv": "scale",
    "PaddedShortcut": "zero padding",
}


@dataclass
class Box:
    """One box: what it says, how it looks, what comes out of it, and which boxes it reads."""

    words: list[str]  # "3×3 conv", "64", "/2"
    kind: str
    shape: tuple
    inputs: list[int]
    name: str = ""
    extras: list[str] = field(default_factory=list)  # what follows at once: BN, ReLU
    parameters: int = 0
    groups: int = 1
    multiply_adds: int = 0

    @property
    def text(self) -> str:
        return ", ".join(self.words)

    @property
    def look(self) -> tuple:
        """What two boxes share when one can stand for both."""
        return self.text, self.kind, self.shape, tuple(self.extras), self.parameters


INPUT = -1


def graph(costs: cost.Table) -> dict[int, Box]:
    """The boxes of a table by number; `INPUT` is the image.

    Views and the addition of a number vanish; a normalisation or activation joins the layer before it, unless
    somebody else reads that layer.
    """
    rows = [(i, row) for i, row in enumerate(costs.rows) if not row.note]
    readers: dict[int, set[int]] = {}
    for i, row in rows:
        for j in row.inputs:
            readers.setdefault(j, set()).add(i)
    boxes: dict[int, Box] = {INPUT: Box(["input"], "input", costs.input_shape, [])}
    left_out: list[str] = []
    holder: dict[int, int] = {INPUT: INPUT}  # row -> the box that holds it
    for i, row in rows:
        sources = list(dict.fromkeys(holder[j] for j in row.inputs if j in holder))
        if not sources:  # made from parameters alone: not part of the flow
            if row.parameters or row.multiply_adds:
                left_out.append(f"{row.label} ({row.kind})")
            continue
        source = sources[0]
        alone = len(sources) == 1
        quiet = (
            not row.multiply_adds
            and row.kernel is None
            and (
                row.output_shape == boxes[source].shape
                or row.kind in SHORT
                and row.kind != "PaddedShortcut"
            )
        )
        unread = all(
            len(readers[j]) == 1 for j in row.inputs
        )  # another reader would seem to read this row's output
        constant = (
            row.kind in ("add", "radd", "iadd", "sub") and not row.parameters
        )  # sum([x]) is 0 + x
        if alone and (row.is_view or constant or quiet and unread and source != INPUT):
            holder[i] = source
            boxes[source].parameters += row.parameters
            if not row.is_view and not constant and not row.kind.startswith("Adaptive"):
                boxes[source].extras.append(SHORT.get(row.kind, row.kind))
        else:
            holder[i] = i
            kind, words = kind_of(row), words_of(row)
            boxes[i] = Box(
                words,
                kind,
                row.output_shape,
                sources,
                row.name,
                [],
                row.parameters,
                row.groups,
                row.multiply_adds,
            )
    if left_out:
        told = f"not drawn, for they read nothing of the input: {', '.join(left_out)}"
        warnings.warn(told, stacklevel=3)
    return boxes


def kind_of(row: cost.Row) -> str:
    name = row.kind.lower()
    if "conv" in name:
        return "conv"
    if "pool" in name or "subsampling" in name or name in ("mean", "amax"):
        return "pool"
    if "linear" in name or row.multiply_adds and row.kernel is None:
        return "fc"
    if name in ("cat", "concat", "concatenate", "stack"):
        return "concat"
    if name in ("add", "iadd", "mul", "imul", "sub"):
        return "add"
    return "norm" if "norm" in name or row.parameters else "other"


def words_of(row: cost.Row) -> list[str]:
    kind = kind_of(row)
    kernel = "×".join(map(str, row.kernel)) if row.kernel else ""
    stride = [f"/{row.stride[0]}"] if row.stride and max(row.stride) > 1 else []
    if kind == "conv" and kernel:
        word = "transposed conv" if "transpose" in row.kind.lower() else "conv"
        groups = [f"{row.groups} groups"] if row.groups > 1 else []
        return [f"{kernel} {word}", str(row.output_shape[0]), *stride, *groups]
    if kind == "pool":
        word = "max pool" if "max" in row.kind.lower() else "average pool"
        return [f"{kernel} {word}".strip(), *stride]
    if kind == "fc" and "linear" in row.kind.lower():
        return [f"fc {row.output_shape[-1]}"]
    if kind == "concat":
        return ["concatenate"]
    if kind == "add":
        return [{"mul": "×", "imul": "×", "sub": "−"}.get(row.kind.lower(), "+")]
    return [SHORT.get(row.kind, row.kind)]


def block_of(name: str, classes: dict[str, str]) -> str | None:
    """The outermost block that holds a layer, or None for a layer of the network itself."""
    parts = name.split(".")
    paths = [".".join(parts[:n]) for n in range(1, len(parts))]
    return next(
        (path for path in paths if classes.get(path, CONTAINERS[0]) not in CONTAINERS), None
    )


def merged(boxes: dict[int, Box], classes: dict[str, str]) -> dict[int, Box]:
    """The same network with one box for a block of layers; a block of a single layer stays that layer."""
    owners = {n: block_of(box.name, classes) for n, box in boxes.items()}
    count: dict[str | None, int] = {}
    for owner in owners.values():
        count[owner] = count.get(owner, 0) + 1
    first: dict[str, int] = {}
    holder: dict[int, int] = {}
    merged: dict[int, Box] = {}
    for n, box in boxes.items():
        owner = owners[n]
        sources = list(dict.fromkeys(holder[j] for j in box.inputs))
        if owner is None or count[owner] == 1:
            holder[n] = n
            merged[n] = replace(box, inputs=sources)
            continue
        holder[n] = first.setdefault(owner, n)
        block = merged.setdefault(holder[n], Box([classes[owner]], "block", box.shape, [], owner))
        block.inputs += [j for j in sources if j != holder[n] and j not in block.inputs]
        block.shape = box.shape
        block.parameters += box.parameters
        block.multiply_adds += box.multiply_adds
    return merged


def first_shape(shape: tuple) -> tuple:
    """The shape itself; of several outputs or inputs the first."""
    return shape[0] if shape and isinstance(shape[0], tuple) else shape


def side_of(shape: tuple) -> int:
    """Height of the feature maps, 1 for vectors."""
    shape = first_shape(shape)
    return shape[-1] if len(shape) > 1 else 1
