"""The boxes of a network as a nest of series and branches, in which every arrow has its place."""

from __future__ import annotations

from dataclasses import dataclass

from cnncourse.diagrams.boxes import INPUT, Box


@dataclass
class Branches:
    """What lies between a split and the box that joins it; `straight`: some data goes around everything."""

    paths: list[list]
    straight: bool
    join: int  # the number of the joining box, or `END`


@dataclass
class Woven:
    """Boxes whose arrows are no nest of branches (a dense block): one below the other, arrows around them."""

    boxes: list[int]
    join: int


@dataclass
class Repeat:
    items: list
    times: int


END = 1 << 30


def series(boxes: dict[int, Box]) -> list:
    """The boxes as a nest of series and branches, in which every arrow has its place."""
    order = sorted(boxes)
    after: dict[int, list[int]] = {n: [] for n in order}
    for n in order:
        for j in boxes[n].inputs:
            after[j].append(n)
    for n in order:
        after[n] = after[n] or [END]

    def walk(n: int, end: int, region: set[int]) -> list:
        """What lies between n and end, inside the region."""
        follows = {m: [k for k in after[m] if k in region or k == end] for m in region}
        follows[n] = [
            k for k in after[n] if k in region
        ]  # a straight way to the end belongs to the split at n
        meets = _meets(n, end, follows)
        items: list = []
        while n != end:
            if len(follows[n]) > 1 or meets[n] != follows[n][0]:
                items.append(split(n, meets[n], follows))
            n = meets[n]
            if n != end:
                items.append(n)
        return items

    def split(n: int, meet: int, follows: dict[int, list[int]]) -> Branches:
        inside, stack = set(), list(follows[n])
        while stack:
            m = stack.pop()
            if m != meet and m not in inside:
                inside.add(m)
                stack += follows[m]
        parts: list[set[int]] = []  # what hangs together without n and the join
        for m in sorted(inside):
            mine = {m, *(j for j in boxes[m].inputs if j in inside)}
            touching = [part for part in parts if part & mine]
            parts = [part for part in parts if not part & mine] + [mine.union(*touching)]
        paths = []
        for part in sorted(parts, key=min):
            begins = {m: [k for k in follows[m] if k in part or k == meet] for m in part} | {
                n: [k for k in follows[n] if k in part]
            }
            nested = len(begins[n]) == 1 or _meets(n, meet, begins)[n] != meet
            closed = all(set(boxes[m].inputs) <= part | {n} for m in part)
            paths.append(walk(n, meet, part) if nested and closed else [Woven(sorted(part), meet)])
        return Branches(paths, meet in follows[n], meet)

    return walk(INPUT, END, set(order) - {INPUT})


def _meets(start: int, end: int, follows: dict[int, list[int]]) -> dict[int, int]:
    """For each box the next box that all ways from it to the end pass (its immediate post-dominator)."""
    numbers = sorted(m for m in follows if m >= start)
    position = {m: i for i, m in enumerate([*numbers, end])}
    passes = {end: 1 << position[end]}  # bit sets
    meets = {}
    for m in reversed(numbers):
        common = -1
        for k in follows[m]:
            common &= passes.get(k, 0)
        passes[m] = common | 1 << position[m]
        later = common & ~((1 << position[m] + 1) - 1)
        meets[m] = [*numbers, end][(later & -later).bit_length() - 1]
    return meets


def look_of(item: object, boxes: dict[int, Box]) -> tuple:
    if isinstance(item, Branches):
        return tuple(tuple(look_of(i, boxes) for i in path) for path in item.paths), item.straight
    if isinstance(item, Repeat):
        return item.times, tuple(look_of(i, boxes) for i in item.items)
    return tuple(boxes[n].look for n in item.boxes) if isinstance(item, Woven) else boxes[item].look


def count_boxes(items: object) -> int:
    """How many boxes a nest holds."""
    if isinstance(items, Branches):
        return sum(map(count_boxes, items.paths))
    if isinstance(items, Repeat):
        return items.times * count_boxes(items.items)
    if isinstance(items, Woven):
        return len(items.boxes)
    return sum(map(count_boxes, items)) if isinstance(items, list) else 1


def fold_runs(items: list, boxes: dict[int, Box]) -> list:
    """Runs of equal items become one `Repeat`; the shortest period that repeats wins."""
    for item in items:
        if isinstance(item, Branches):
            item.paths = [fold_runs(path, boxes) for path in item.paths]
    looks, folded, i = [look_of(item, boxes) for item in items], [], 0
    while i < len(items):
        best, times = 0, 1
        for period in range(1, (len(items) - i) // 2 + 1):
            count = 1
            while looks[i + count * period : i + (count + 1) * period] == looks[i : i + period]:
                count += 1
            if count > 1 and not isinstance(items[i + period - 1], Branches):
                best, times = period, count
                break
        if times > 1:
            folded.append(Repeat(items[i : i + best], times))
            i += best * times
        else:
            folded.append(items[i])
            i += 1
    return folded
