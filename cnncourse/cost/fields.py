"""Fields: which input pixels the values of a tensor see, and what windows, sums and unions make of them.

A `Field` holds, for each axis of the image, the first and the last pixel that every value of a tensor sees. In most
networks that is a straight line (`Line`); after upsampling, pixel shuffles or reshapes it is an array (`Spread`).
Maps are taken to go on beyond their border, as the papers do, so that padding adds nothing and a field may be larger
than the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import sub

import torch

Shape = tuple[int, ...]
EXACT = torch.float32  # of pixel numbers, whatever the default: whole numbers up to 16 million
LARGEST = 1 << 24  # values of an array that we still move element by element, 64 MB


@dataclass(frozen=True)
class Line:
    """Along one image axis: position i of axis `dim` sees the pixels first + i·step to last + i·step."""

    dim: int | None  # counted from the end, -2 for rows; None: all positions see the same
    first: float
    last: float
    step: float = 0.0


@dataclass(frozen=True)
class Spread:
    """Along one image axis: every value has its own first and last pixel; +inf and -inf where it sees none."""

    first: (
        torch.Tensor
    )  # as many axes as the tensor, of size 1 where nothing depends on the position
    last: torch.Tensor
    pace: dict[int, tuple[int, float]] = field(
        default_factory=dict
    )  # axis: (after so many positions, so many pixels on)


class Beside(Spread):
    """Lines that run alike, side by side along axis `dim`, such as the channels of a concatenation."""

    def __init__(self, dim: int, counts: tuple[int, ...], lines: tuple[Line, ...], length: int):
        self.__dict__ |= {"dim": dim, "counts": counts, "lines": lines, "length": length}

    @cached_property
    def ends(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The arrays, made when somebody asks for them."""
        along, line = torch.zeros((), dtype=EXACT, device="cpu"), self.lines[0]
        if line.dim is not None:
            along = (
                positions(self.length).to(EXACT).mul(line.step).reshape(-1, *[1] * (-line.dim - 1))
            )
        counts = torch.tensor(self.counts, device="cpu")
        every = [[float(x.first) for x in self.lines], [float(x.last) for x in self.lines]]
        beside = [
            torch.tensor(x, dtype=EXACT, device="cpu").repeat_interleave(counts) for x in every
        ]
        return tuple(along + x.reshape(-1, *[1] * (-self.dim - 1)) for x in beside)

    @property
    def first(self) -> torch.Tensor:
        return self.ends[0]

    @property
    def last(self) -> torch.Tensor:
        return self.ends[1]

    @property
    def pace(self) -> dict[int, tuple[int, float]]:
        line = self.lines[0]
        return {} if line.dim is None else {line.dim: (1, line.step)}

    def with_lines(self, lines: list[Line], length: int) -> Beside:
        return Beside(self.dim, self.counts, tuple(lines), length)

    def over_all(self) -> Line:
        """What a sum over the axis sees."""
        line = self.lines[0]
        first, last = min(x.first for x in self.lines), max(x.last for x in self.lines)
        return Line(line.dim, first, last, line.step)


Seen = Line | Spread
Field = tuple[Seen, ...]  # one for each axis of the image
UNKNOWN = "unknown"  # it sees pixels, we cannot say which
NOTHING = "nothing"  # it does not depend on the input: parameters, zeros
State = Field | str | None  # None: the input has no image axes


def of_image(axes: int) -> Field:
    """The field of the image itself, whose last `axes` axes are those of its pixels."""
    return tuple(Line(d - axes, 0.0, 0.0, 1.0) for d in range(axes))


def size(state: State) -> Shape | None:
    """How many pixels along each axis one value sees at most; None where that is unknown or none."""
    if not isinstance(state, tuple):
        return None
    widths = []
    for seen in state:
        if isinstance(seen, Beside):
            width = max(line.last - line.first + 1 for line in seen.lines)
        else:
            width = seen.last - seen.first + 1  # of a line the same everywhere
            width = float(width.max()) if isinstance(width, torch.Tensor) else width
        if width < 1:
            return None
        widths.append(math.ceil(width))
    return tuple(widths)


def positions(count: int, start: int = 0) -> torch.Tensor:
    """start, start + 1, ..., `count` numbers on the processor, whatever device the trace is on."""
    return torch.arange(start, start + count, device="cpu")


# --- arrays ---------------------------------------------------------------------------------------------------------


def arrays(seen: Seen, shape: Shape) -> tuple[torch.Tensor, torch.Tensor]:
    """First and last pixel as arrays with the axes of `shape`, of size 1 where they do not change."""
    axes = len(shape)
    if isinstance(seen, Spread):
        missing = (1,) * (axes - seen.first.ndim)
        return tuple(x.reshape(missing + tuple(x.shape)) for x in (seen.first, seen.last))
    along = torch.zeros((1,) * axes, dtype=EXACT, device="cpu")
    if seen.dim is not None:
        sizes = [1] * axes
        sizes[seen.dim] = shape[seen.dim]
        along = positions(shape[seen.dim]).to(EXACT).reshape(sizes) * seen.step
    return along + seen.first, along + seen.last


def simplest(first: torch.Tensor, last: torch.Tensor, pace: dict | None = None) -> Seen:
    """The simplest form of two arrays: a line if they are one."""
    for d in range(-first.ndim, 0):
        if first.shape[d] > 1 and all(_repeats(x, d, 1, 0.0) for x in (first, last)):
            first, last = first.narrow(d, 0, 1), last.narrow(d, 0, 1)
    vary = [d for d in range(-first.ndim, 0) if first.shape[d] > 1]
    start, end = float(first.flatten()[0]), float(last.flatten()[0])
    if not vary:
        return Line(None, start, end)
    if len(vary) == 1:
        step = _difference(*reversed(_beginning(first, vary[0])[:2]))
        if math.isfinite(step) and all(_repeats(x, vary[0], 1, step) for x in (first, last)):
            return Line(vary[0], start, end, step)
    whole = [x.untyped_storage().nbytes() == x.nbytes for x in (first, last)]
    first, last = (x if own else x.clone() for x, own in zip((first, last), whole, strict=True))
    return Spread(first, last, {d: p for d, p in (pace or {}).items() if d in vary})


def pace_along(seen: Seen, dim: int) -> tuple[int, float] | None:
    """(positions, pixels): so many positions on along `dim`, all that is seen lies so many pixels on; None: never."""
    if isinstance(seen, Line):
        return (1, seen.step if seen.dim == dim else 0.0)
    if dim in seen.pace or dim < -seen.first.ndim or seen.first.shape[dim] == 1:
        return seen.pace.get(dim, (1, 0.0))
    start = _beginning(seen.first, dim)
    for period in range(1, min(seen.first.shape[dim] // 2, 16) + 1):
        move = _difference(start[period], start[0])
        if not math.isfinite(move) or not _steady(start, period, move):
            continue
        if all(_repeats(x, dim, period, move) for x in (seen.first, seen.last)):
            return period, move
    return None


def _beginning(x: torch.Tensor, dim: int, end: bool = False) -> list[float]:
    """The first values along `dim`, at most 256, at the first or the last position of all other axes."""
    offset = x.storage_offset()
    if end:
        steps = zip(x.shape, x.stride(), strict=True)
        offset += sum((size - 1) * stride for size, stride in steps)
        offset -= (x.shape[dim] - 1) * x.stride(dim)
    return x.as_strided((min(x.shape[dim], 256),), (x.stride(dim),), offset).tolist()


def _difference(one: float, other: float) -> float:
    return 0.0 if one == other else one - other  # also inf - inf: both see nothing


def _steady(line: list[float], period: int, move: float) -> bool:
    if _difference(line[period], line[0]) != move:
        return False
    if move == 0:
        return line[period:] == line[:-period]
    return set(map(sub, line[period:], line)) == {move}


def _repeats(x: torch.Tensor, dim: int, period: int, move: float) -> bool:
    """Whether the values along `dim` are `move` more after every `period` positions."""
    for end in (False, True):  # most answers are found here
        line = _beginning(x, dim, end)
        if not _steady(line, period, move):
            return False
        if x.numel() == len(line):  # nothing else is there
            return True
    count = x.shape[dim] - period
    before, after = x.narrow(dim, 0, count), x.narrow(dim, period, count)
    if move == 0:
        return torch.equal(before, after)
    return bool(((after - before).nan_to_num(0.0) == move).all())


def is_constant(seen: Seen) -> bool:
    return isinstance(seen, Line) and seen.dim is None


def is_nothing(seen: Seen) -> bool:
    return is_constant(seen) and seen.first > seen.last


# --- what windows, reductions and sums see --------------------------------------------------------------------------


def window(
    seen: Seen, dim: int, count: int, kernel: int, stride: int, padding: int, dilation: int
) -> Seen:
    """Position i sees what i·stride - padding + t·dilation saw, for t below `kernel`; `count` positions come out."""
    if isinstance(seen, Line):
        if seen.dim != dim:
            return seen
        reach = (-padding * seen.step, ((kernel - 1) * dilation - padding) * seen.step)
        return Line(dim, seen.first + min(reach), seen.last + max(reach), seen.step * stride)
    if isinstance(seen, Beside) and dim != seen.dim:
        if dim != seen.lines[0].dim:
            return seen
        options = (dim, count, kernel, stride, padding, dilation)
        return seen.with_lines([window(line, *options) for line in seen.lines], count)
    taps = positions(count)[:, None] * stride - padding + positions(kernel) * dilation
    return looked_up(seen, dim, taps, None, (1, stride))


def transposed(
    seen: Seen, dim: int, count: int, kernel: int, stride: int, padding: int, dilation: int
) -> Seen:
    """Position i sees what j saw, for every j with j·stride - padding + t·dilation = i for some t below `kernel`."""
    source = positions(count)[:, None] + padding - positions(kernel) * dilation
    return looked_up(
        seen, dim, source.div(stride, rounding_mode="floor"), source % stride != 0, (stride, 1)
    )


def looked_up(
    seen: Seen, dim: int, taps: torch.Tensor, absent: torch.Tensor | None, period: tuple[int, int]
) -> Seen:
    """Position i sees what the positions taps[i] saw; after period[0] positions the taps lie period[1] further."""
    if isinstance(seen, Line) and seen.dim != dim:
        return seen
    if isinstance(seen, Spread) and (dim < -seen.first.ndim or seen.first.shape[dim] == 1):
        return seen
    pace = pace_along(seen, dim)
    if isinstance(seen, Line):  # (count, taps)
        both = [taps.to(EXACT) * seen.step + end for end in (seen.first, seen.last)]
    else:
        count = seen.first.shape[dim]
        inner = taps.clamp(0, count - 1) if pace is None else taps % pace[0]
        moved = (
            0.0 if pace is None else taps.div(pace[0], rounding_mode="floor").to(EXACT) * pace[1]
        )
        if pace is None:
            outside = (taps < 0) | (taps >= count)
            absent = outside if absent is None else absent | outside
        both = [
            x.movedim(dim, -1)[..., inner] + moved for x in (seen.first, seen.last)
        ]  # (..., count, taps)
    if absent is not None:
        both = [both[0].masked_fill(absent, math.inf), both[1].masked_fill(absent, -math.inf)]
    first, last = both[0].amin(-1), both[1].amax(-1)
    if isinstance(seen, Line):
        sizes = [1] * -dim
        sizes[0] = len(taps)
        first, last = first.reshape(sizes), last.reshape(sizes)
    else:
        first, last = first.movedim(-1, dim), last.movedim(-1, dim)
    paces = {} if isinstance(seen, Line) else {d: p for d, p in seen.pace.items() if d != dim}
    if pace is not None:
        times = pace[0] // math.gcd(pace[0], period[1])
        if period[0] * times <= len(taps):
            paces[dim] = period[0] * times, pace[1] * period[1] * times / pace[0]
    return simplest(first, last, paces)


def resized(name: str, count: int, new: int, scale: float | None, corners: bool) -> tuple:
    """(taps, absent, period) of an interpolation from `count` to `new` positions."""
    i = positions(new).double()
    ratio = 1 / scale if scale else count / new
    period = (new // math.gcd(new, count), count // math.gcd(new, count))
    if corners:
        ratio = (count - 1) / (new - 1) if new > 1 else 0.0
        common = math.gcd(new - 1, count - 1) or 1
        period = (max(new - 1, 1) // common, (count - 1) // common)
    if scale and abs(ratio - count / new) > 1e-12:  # a scale that does not fit the sizes
        period = (new + 1, count)  # never within the map
    if "nearest" in name:
        half = 0.5 if "exact" in name else 0.0
        return ((i + half) * ratio + 1e-9).floor().long()[:, None], None, period
    reach = 2 if "cubic" in name else 1
    if name.endswith("aa"):  # antialiased: the window grows with the reduction
        support = reach * max(ratio, 1.0)
        centre = (i + 0.5) * ratio
        low, high = (
            (centre - support + 0.5).floor(),
            (centre + support + 0.5).floor(),
        )  # high is outside
        taps = low[:, None] + positions(int((high - low).max()))
        return taps.long(), taps >= high[:, None], period
    source = ((i * ratio) if corners else (i + 0.5) * ratio - 0.5).mul(1e6).round().div(1e6)
    taps = source.floor()[:, None] + positions(2 * reach, 1 - reach)
    whole = (source == source.floor())[:, None]  # it falls on a position: the others weigh nothing
    return taps.long(), whole & (taps != source[:, None]), period


def adaptive(count: int, new: int) -> tuple:
    """(taps, absent, period) of an adaptive pooling from `count` to `new` positions."""
    i = positions(new)
    start, end = i * count // new, -((-(i + 1) * count) // new)  # end: rounded up
    taps = start[:, None] + positions(int((end - start).max()))
    common = math.gcd(new, count)
    return taps, taps >= end[:, None], (new // common, count // common)


def reduced(seen: Seen, shape: Shape, dims: Sequence[int], keep: bool) -> Seen:
    """What a sum over `dims` (counted from the end) sees."""
    if isinstance(seen, Line):
        if seen.dim is None:
            return seen
        if seen.dim in dims:
            way = (shape[seen.dim] - 1) * seen.step
            return Line(None, seen.first + min(way, 0.0), seen.last + max(way, 0.0))
        gone = 0 if keep else sum(d > seen.dim for d in dims)
        return Line(seen.dim + gone, seen.first, seen.last, seen.step)
    if isinstance(seen, Beside) and seen.dim in dims:
        return reduced(seen.over_all(), shape, dims, keep)
    first, last = arrays(seen, shape)
    if keep and all(first.shape[d] == 1 for d in dims):
        return seen
    if dims:
        first, last = first.amin(tuple(dims), keepdim=keep), last.amax(tuple(dims), keepdim=keep)
    return simplest(first, last, seen.pace if keep else None)


def union(parts: list[tuple[Seen, Shape]]) -> Seen:
    """What values see that are computed from values at the same position; sizes of 1 are broadcast."""
    parts = [part for part in parts if not is_nothing(part[0])] or parts[:1]
    if len(parts) == 1:
        return parts[0][0]
    axes = max(len(shape) for _, shape in parts)
    sizes = [
        max(shape[d] if d >= -len(shape) else 1 for _, shape in parts) for d in range(-axes, 0)
    ]
    lines: list[Line] = []
    for seen, shape in parts:
        if isinstance(seen, Line):
            alone = seen.dim is not None and shape[seen.dim] == 1 < sizes[seen.dim]
            lines.append(Line(None, seen.first, seen.last) if alone else seen)
    if len(lines) == len(parts):
        first, last = min(x.first for x in lines), max(x.last for x in lines)
        moving = {(x.dim, x.step) for x in lines}
        if len(moving) == 1:
            dim, step = moving.pop()
            return Line(dim, first, last, step)
        whole = union_of_constants([reduced(x, tuple(sizes), (x.dim,), True) for x in lines])
        if whole in lines:  # one of them sees all that any of them sees
            return whole
    ends = [
        arrays(
            lines.pop(0) if isinstance(seen, Line) else seen,
            (1,) * (axes - len(shape)) + tuple(shape),
        )
        for seen, shape in parts
    ]
    first, last = ends[0]
    for other in ends[1:]:
        first, last = torch.minimum(first, other[0]), torch.maximum(last, other[1])
    return simplest(first, last, common_pace([seen for seen, _ in parts], axes))


def joined(parts: list[tuple[Seen, Shape]], dim: int) -> Seen:
    """What a concatenation along `dim` sees, counted from the end; arrays stay as small as they can."""
    quick = _lines_side_by_side(parts, dim)
    if quick is not None:
        return quick
    ends = [arrays(seen, shape) for seen, shape in parts]
    axes = len(parts[0][1])
    sizes = [max(first.shape[d] for first, _ in ends) for d in range(axes)]
    both = []
    for end in (0, 1):
        grown = []
        for pair, (_, shape) in zip(ends, parts, strict=True):
            sizes[dim] = shape[dim]
            grown.append(pair[end].expand(sizes))
        both.append(torch.cat(grown, dim))
    return simplest(
        *both, common_pace([seen for seen, _ in parts if not is_nothing(seen)], axes, dim)
    )


def _lines_side_by_side(parts: list[tuple[Seen, Shape]], dim: int) -> Seen | None:
    """Lines that run alike along another axis than `dim`, such as maps of several windows as channels."""
    lines, counts = [], []
    for seen, shape in parts:
        if isinstance(seen, Beside) and seen.dim == dim:
            lines.extend(seen.lines)
            counts.extend(seen.counts)
        elif isinstance(seen, Line):
            lines.append(seen)
            counts.append(shape[dim])
        else:
            return None
    along = lines[0].dim
    if along == dim or len({(line.dim, line.step) for line in lines}) > 1:
        return None
    if len({(line.first, line.last) for line in lines}) == 1:
        return lines[0]
    length = 1 if along is None else parts[0][1][along]
    return Beside(dim, tuple(counts), tuple(lines), length)


def union_of_constants(lines: list[Line]) -> Line:
    return Line(None, min(x.first for x in lines), max(x.last for x in lines))


def common_pace(several: list[Seen], axes: int, without: int = 0) -> dict[int, tuple[int, float]]:
    found = {}
    for dim in range(-axes, 0):
        paces = [pace_along(seen, dim) for seen in several]
        if (
            dim != without
            and None not in paces
            and len({move / period for period, move in paces}) == 1
        ):
            period = math.lcm(*(p for p, _ in paces))
            found[dim] = period, paces[0][1] / paces[0][0] * period
    return found


# --- views of a tensor that is written ------------------------------------------------------------------------------


def written(base: State, shape: Shape, views: list[tuple], part: State) -> State:
    """The state of a tensor after `part` was written into a view of it; `views` are the calls that lead to the view."""
    if base in (UNKNOWN, None) or part in (UNKNOWN, None):
        return part if base is None and not isinstance(part, tuple) else UNKNOWN
    axes = len(part) if isinstance(part, tuple) else len(base) if isinstance(base, tuple) else 0
    if not axes:
        return NOTHING
    if math.prod(shape) > LARGEST:
        return UNKNOWN
    result = []
    for a in range(axes):
        both = []
        for end in (0, 1):
            empty = -math.inf if end else math.inf
            whole = torch.full(shape, empty, dtype=EXACT, device="cpu")
            if isinstance(base, tuple):
                whole = arrays(base[a], shape)[end].expand(shape).clone()
            view = _view(whole, views)
            if not isinstance(view, torch.Tensor):
                return UNKNOWN
            value = (
                arrays(part[a], tuple(view.shape))[end]
                if isinstance(part, tuple)
                else torch.full((), empty, dtype=EXACT, device="cpu")
            )
            view.copy_(value)
            both.append(whole)
        result.append(simplest(*both))
    return tuple(result)


def viewed(state: State, shape: Shape, views: tuple) -> State:
    """The state of a view of a tensor of `shape`, after its storage was written again."""
    if not isinstance(state, tuple):
        return state
    result = []
    for seen in state:
        both = [_view(x.expand(shape).contiguous(), views) for x in arrays(seen, shape)]
        if not all(isinstance(x, torch.Tensor) for x in both):
            return UNKNOWN
        result.append(simplest(*both))
    return tuple(result)


def _view(array: torch.Tensor, views: tuple) -> object:
    for func, args, kwargs, n in views:
        array = func(array, *args, **kwargs)
        array = array if n is None else array[n]
    return array
