"""A network as its feature maps: blocks whose height, depth and thickness are sides and channels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnncourse.cost.rows import size_text
from cnncourse.diagrams.boxes import INPUT, Box, first_shape, side_of
from cnncourse.diagrams.canvas import INK, MUTED, Canvas
from cnncourse.diagrams.wiring import END, Branches, Repeat, Woven, count_boxes, series


@dataclass
class _Volume:
    words: list[str]
    shape: tuple
    kind: str
    groups: int
    times: int = 1


def trunk_of(items: list, boxes: dict[int, Box]) -> list[int]:
    """The boxes on the main way through a nest: joins, but no branches; of ends the longest."""
    way = []
    for item in items:
        if isinstance(item, Branches):
            if item.join == END:
                way += trunk_of(max(item.paths, key=count_boxes), boxes)
        elif isinstance(item, Repeat):
            way += trunk_of(item.items, boxes) * item.times
        elif not isinstance(item, Woven):
            way.append(item)
    return way


def volumes_of(
    canvas: Canvas, boxes: dict[int, Box], title: str | None, fold: bool, ax: Axes | None
) -> Figure:
    volumes = [_Volume(["input"], boxes[INPUT].shape, "input", 1)]
    towers = max((box.groups for box in boxes.values() if box.groups <= 4), default=1)
    pooled = None  # the side to which the last volume was pooled
    for n in trunk_of(series(boxes), boxes):
        box, last = boxes[n], volumes[-1]
        word = ", ".join([box.words[0], *(w for w in box.words[1:] if w.startswith("/"))])
        same = (
            box.kind == last.kind
            and side_of(last.shape) == side_of(box.shape)
            and box.words[0] == last.words[0]
        )
        if box.kind in ("pool", "norm", "other") and len(volumes) > 1:
            last.words.append(word)
            pooled = side_of(box.shape)
        elif (
            fold
            and towers == 1
            and same
            and pooled is None
            and (box.kind == "block" or last.shape == box.shape)
        ):
            last.times, last.shape = last.times + 1, box.shape
        else:
            pooled = None
            volumes.append(
                _Volume(["fc" if box.kind == "fc" else word], box.shape, box.kind, box.groups)
            )
    side = max(side_of(v.shape) for v in volumes)
    tall, slant = 1.5, 0.32  # inches of the largest side; how far depth moves to the right and up

    def extent(v: _Volume, share: int) -> tuple[float, float, float]:
        shape = first_shape(v.shape)
        channels = shape[0] / share if shape else 1
        if side_of(v.shape) == 1:
            return 0.13, 0.022 * math.sqrt(channels), 0.08
        h = tall * math.sqrt(side_of(v.shape) / side)
        return 0.07 + 0.0175 * math.sqrt(channels), h, slant * h

    def shares(i: int) -> int:
        return towers if 0 < i < len(volumes) - 1 else 1

    texts = [
        [
            size_text(v.shape),
            *(f"{v.words[0]} ×{v.times}" if v.times > 1 else v.words[0],),
            *v.words[1:],
        ]
        for v in volumes
    ]
    room = (
        max(
            extent(v, shares(i))[1] + extent(v, shares(i))[2]
            for i, v in enumerate(volumes)
            if towers == 1 or 0 < i
        )
        if towers > 1
        else 0.0
    )
    head = 0.12 + (0.36 if title else 0)
    heights = [extent(v, shares(i)) for i, v in enumerate(volumes)]
    middle = head + (
        max(h + d for _, h, d in heights) / 2 if towers == 1 else (towers * room + 0.25) / 2
    )
    middle = max(middle, head + (heights[0][1] + heights[0][2]) / 2)
    lanes = [middle + (k - (towers - 1) / 2) * (room + 0.25) for k in range(towers)]
    x, ports = 0.15, []  # where arrows start and end: [(left, right, y)] for each tower
    for i, (v, text) in enumerate(zip(volumes, texts, strict=True)):
        w, h, d = heights[i]
        wide = max(w + d, max(canvas.width(t, canvas.small) for t in text))
        left = x + (wide - w - d) / 2
        here = []
        for y in lanes if shares(i) > 1 else [middle]:
            y = y + d / 4
            face, edge = canvas.shades(v.kind)
            dark = tuple(0.82 * c + 0.18 * e for c, e in zip(face, edge, strict=True))
            corners = [
                (left, y - h / 2),
                (left + w, y - h / 2),
                (left + w, y + h / 2),
                (left, y + h / 2),
            ]
            top = [corners[0], (left + d, y - h / 2 - d), (left + w + d, y - h / 2 - d), corners[1]]
            end = [
                corners[1],
                (left + w + d, y - h / 2 - d),
                (left + w + d, y + h / 2 - d),
                corners[2],
            ]
            for part, colour in ((top, face), (end, dark), (corners, face)):
                canvas.polygon(part, colour, edge, 3)
            here.append((left - 0.04, left + w + d / 2 + 0.02, y - d / 4))
        ports.append(here)
        x += wide + 0.3
    bottom = (
        max(
            middle + max(h + d for _, h, d in heights) / 2 if towers == 1 else lanes[-1] + room / 2,
            0,
        )
        + 0.12
    )
    bottom = max(bottom, middle + (heights[0][1] + heights[0][2]) / 2 + 0.12)
    for i in range(1, len(volumes)):
        for a, start in enumerate(ports[i - 1]):
            for b, end in enumerate(ports[i]):
                apart = len(ports[i - 1]) > 1 and len(ports[i]) > 1 and volumes[i].groups > 1
                if not apart or a == b:
                    canvas.path([(start[1], start[2]), (end[0], end[2])], width=1.1, zorder=4)
    for (_, right, _), i, text in zip(
        (p[0] for p in ports), range(len(volumes)), texts, strict=True
    ):
        w, _, d = heights[i]
        centre = right - 0.02 - w / 2
        for k, line in enumerate(text):
            canvas.text(
                centre,
                bottom + (k + 0.5) * canvas.line(canvas.small),
                line,
                fontsize=canvas.small,
                color=INK if k else MUTED,
            )
    low = bottom + max(map(len, texts)) * canvas.line(canvas.small)
    right = max(x - 0.15, canvas.title_width(title) + 0.2)
    if title:
        canvas.title(right / 2, 0.24, title)
    return canvas.show(0.0, 0.0, right, low + 0.08, ax)
