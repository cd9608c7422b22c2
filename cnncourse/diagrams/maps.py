"""Every layer of a network as a small coloured box, in one strip with its branches."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnncourse.diagrams.boxes import Box, block_of
from cnncourse.diagrams.canvas import MEANING, MUTED, Canvas
from cnncourse.diagrams.towers import Down
from cnncourse.diagrams.wiring import series


def coloured_map(
    canvas: Canvas,
    boxes: dict[int, Box],
    classes: dict[str, str],
    title: str | None,
    ax: Axes | None,
) -> Figure:
    """Every layer as a small box from left to right, the names of blocks above them, a legend below."""
    down = Down(boxes, canvas, tiny=True)
    items = series(boxes)
    up, low, length = down.measure(items)
    top = 0.12 + (0.36 if title else 0) + canvas.line()
    canvas.turned = True
    down.place(items, top + up + 0.1, 0.2, [(top + up + 0.1, 0.1)])
    canvas.turned = False
    spans: dict[str, list[float]] = {}
    for n, (_, x) in down.at.items():
        owner = block_of(boxes[n].name, classes)
        if owner:
            spans.setdefault(owner, []).extend((x, x + down.extent(n)[1]))
    trunk = top + up + 0.1
    alike: dict[str, list[str]] = {}
    for owner in spans:
        alike.setdefault(classes[owner], []).append(owner)
    end = -1.0
    for owner, xs in sorted(spans.items(), key=lambda span: min(span[1])):
        names = alike[classes[owner]]
        word = owner
        if len(names) > 1:  # inception3a, inception3b -> 3a, 3b
            same = len(_common(names))
            word = owner[same:]
        half = canvas.width(word, canvas.small) / 2
        middle = (min(xs) + max(xs)) / 2
        members = [n for n in down.at if block_of(boxes[n].name, classes) == owner]
        if (
            word
            and len(xs) > 2
            and middle - half > end + 0.04
            and any(down.at[n][0] < trunk + 0.1 for n in members)
        ):
            canvas.text(
                middle, top - canvas.line() / 2 + 0.04, word, fontsize=canvas.small, color=MUTED
            )
            end = middle + half
    y = trunk + low + 0.28
    kinds = {box.kind for box in boxes.values()}
    right = max(
        length + 0.35,
        canvas.legend(
            0.15, y, [m for m in MEANING if m[0] in kinds or m[0] == "concat" and "add" in kinds]
        )
        + 0.15,
    )
    if title:
        canvas.title(right / 2, 0.24, title)
    return canvas.show(0.0, 0.0, max(right, canvas.title_width(title) + 0.2), y + 0.2, ax)


def _common(names: list[str]) -> str:
    """What all names begin with."""
    first, last = min(names), max(names)
    n = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[:n].rstrip("0123456789")
