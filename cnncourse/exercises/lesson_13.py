"""Exercises of lesson 13: reductions, the module's cost, a row of the table, heads, crops, smoothed labels."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from cnncourse import cost
from cnncourse.exercises import Exercise, Wrong, expect_same
from cnncourse.models.inception_2014 import TABLE, Inception

# --- 13.1 -------------------------------------------------------------------------------------------------------------


def check_widest(widest_reduction) -> str:
    """Compare with the costs of real layers, counted for every width."""
    for kernel, channels_in, channels_out in (
        (5, 192, 32), (3, 256, 192), (3, 64, 64), (7, 3, 64), (1, 64, 64), (2, 4, 4), (3, 9, 1),
    ):  # fmt: skip
        alone = _layer_cost(kernel, channels_in, channels_out)
        pairs = [
            _layer_cost(1, channels_in, width) + _layer_cost(kernel, width, channels_out)
            for width in range(1, channels_in + 1)
        ]
        expected = sum(pair < alone for pair in pairs)  # the cost rises with the width
        answer = widest_reduction(kernel, channels_in, channels_out)
        taps = kernel**2
        exact = taps * channels_in * channels_out / (channels_in + taps * channels_out)
        equal = exact == int(exact) and answer == int(exact)
        if equal and answer != expected:
            raise Wrong(
                f"widest_reduction({kernel}, {channels_in}, {channels_out}): with {answer} channels the pair costs "
                "exactly as much; cheaper is asked for"
            )
        expect_same(
            answer,
            expected,
            f"widest_reduction({kernel}, {channels_in}, {channels_out})",
            hints=[
                (exact, "the width at which both cost the same is a fraction; the answer is a whole number below it"),
                (expected + 1, "one channel more than that: here the pair is no longer cheaper"),
                (int(kernel * channels_in * channels_out / (channels_in + kernel * channels_out)),
                 "a kernel has kernel * kernel taps"),
                (int(channels_out * taps * channels_in / (channels_out * taps)), "the 1×1 convolution costs too"),
            ],
        )  # fmt: skip
    return "the same in seven cases; before a 1×1 with as many channels out, it saves below half of them"


def _layer_cost(kernel: int, channels_in: int, channels_out: int) -> int:
    """Multiply-adds of a convolution at one pixel."""
    return kernel**2 * channels_in * channels_out


def widest_reduction(kernel, channels_in, channels_out):
    """width * (channels_in + taps * channels_out) < taps * channels_in * channels_out."""
    alone = kernel**2 * channels_in * channels_out
    for_each = channels_in + kernel**2 * channels_out  # channel of the reduction
    return (alone - 1) // for_each  # below, not equal


# --- 13.2 -------------------------------------------------------------------------------------------------------------

LECTURE = (28, 256, 128, 64, 192, 64, 96, 64)  # side, channels in, and the six widths


def check_module(module_cost) -> str:
    for side, channels_in, *widths in (
        (7, 5, 2, 3, 4, 5, 6, 7),
        (28, 192, *TABLE["3a"]),
        LECTURE,
        (14, 528, *TABLE["4e"]),
    ):
        n1, reduce3, n3, reduce5, n5, pool = widths
        with torch.device("meta"):
            module = Inception(channels_in, *widths)
        expected = cost.table(module, (channels_in, side, side)).multiply_adds
        area = side**2
        expect_same(
            module_cost(side, channels_in, *widths),
            expected,
            f"module_cost{(side, channels_in, *widths)}",
            hints=[
                (expected + area * 9 * reduce3 * n3,
                 "the 3×3 convolution is counted twice; so did whoever found the 358 million"),
                (expected - area * channels_in * pool, "the 1×1 behind the pooling is missing"),
                (expected - area * channels_in * n1, "the branch that is a 1×1 alone is missing"),
                (expected - area * channels_in * (reduce3 + reduce5), "the two reductions cost too"),
                (expected // area, "this is for one pixel; there are side * side"),
                (2 * expected, "twice as much: a multiply-add counts once"),
                (area * (channels_in * n1 + 9 * channels_in * n3 + 25 * channels_in * n5 + channels_in * pool),
                 "3×3 and 5×5 read the channels of their reductions, not those that came in"),
                (area * channels_in * (n1 + reduce3 + reduce5 + pool) + area * (3 * reduce3 * n3 + 5 * reduce5 * n5),
                 "a kernel of 3×3 has nine taps"),
            ],
        )  # fmt: skip
    return (
        "the lecture's module costs 271,351,808 multiply-adds; 358 million is this plus the 86.7 million of the 3×3, "
        "a second time"
    )


def module_cost(side, channels_in, n1, reduce3, n3, reduce5, n5, pool):
    """1×1 convolutions read channels_in, the 3×3 and the 5×5 their own reduction."""
    ones = channels_in * (n1 + reduce3 + reduce5 + pool)
    return side**2 * (ones + 9 * reduce3 * n3 + 25 * reduce5 * n5)


# --- 13.3 -------------------------------------------------------------------------------------------------------------


def check_reduce5(reduce5) -> str:
    if isinstance(reduce5, bool) or not isinstance(reduce5, int):
        raise Wrong(f"expected a whole number of channels, got {reduce5!r}")
    n1, reduce3, n3, printed, n5, pool = TABLE["5a"]
    if reduce5 < 1:
        raise Wrong(f"expected at least one channel, got {reduce5}")
    millions = module_cost(7, 832, n1, reduce3, n3, reduce5, n5, pool) / 1e6
    if reduce5 == printed:
        raise Wrong(f"32 is what the table has; with it 5a costs {millions:.1f} million")
    if round(millions) != 54:
        raise Wrong(f"with {reduce5} channels 5a costs {millions:.1f} million, not 54")
    weights = module_cost(1, 832, n1, reduce3, n3, reduce5, n5, pool) / 1024
    which = ", as the row of 5b has it," if reduce5 == TABLE["5b"][3] else " (5b has 48)"
    return (
        f"with {reduce5}{which} 5a costs {millions:.1f} million and has {weights:.0f}K weights; the printed 1072K is "
        f"{abs(1072 / weights - 1):.1%} off, and other rows are up to 1.8% off: one slip would explain both"
    )


def reduce5() -> int:
    """module_cost(7, 832, 256, 160, 320, reduce5, 128, 128) is nearest to 54 million for 48, as in 5b."""
    return 48


# --- 13.4 -------------------------------------------------------------------------------------------------------------


def check_heads_loss(heads_loss) -> str:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(13)
        logits, one, two, three = torch.randn(4, 6, 5, dtype=torch.float64)
        labels = torch.randint(5, (6,))
    losses = [F.cross_entropy(answer, labels) for answer in (logits, one, two, three)]
    for what, outputs, heads, weight in (
        ("one head", (logits, one), losses[1:2], 0.3),
        ("two heads", (logits, one, two), losses[1:3], 0.3),
        ("three heads of weight 0.5", (logits, one, two, three), losses[1:], 0.5),
        ("logits alone, as after training", logits, [], 0.3),
    ):
        arguments = () if weight == 0.3 else (weight,)
        try:
            answer = heads_loss(outputs, labels, *arguments)
        except (TypeError, RuntimeError, ValueError, IndexError) as error:
            alone = "ask isinstance(outputs, torch.Tensor) first; a tensor would be taken apart into its rows"
            advice = "any number of heads may come" if heads else alone
            raise Wrong(f"{what}: {type(error).__name__}: {error}; {advice}") from None
        right = losses[0] + weight * sum(heads)
        hints = [] if not heads else [
            (losses[0], "the heads are missing"),
            (losses[0] + sum(heads), "the heads count as much as the answer; where is weight?"),
            (losses[0] + 0.3 * sum(heads), "weight is an argument"),
            (weight * (losses[0] + sum(heads)), "the answer's own loss has weight 1"),
            (right / (1 + weight * len(heads)), "the losses are added, not averaged"),
            (losses[0] + weight * sum(heads) / len(heads), "every head has this weight, not all of them together"),
            (weight * sum(heads), "the loss of the logits is missing"),
        ]  # fmt: skip
        expect_same(answer, right.detach(), what, hints)
    return (
        "right with one head, two and three, and with none, as the network answers after training"
    )


def heads_loss(outputs, labels, weight=0.3):
    """A tensor is the logits alone."""
    if isinstance(outputs, torch.Tensor):
        return F.cross_entropy(outputs, labels)
    logits, *heads = outputs
    return F.cross_entropy(logits, labels) + weight * sum(
        F.cross_entropy(head, labels) for head in heads
    )


# --- 13.5 -------------------------------------------------------------------------------------------------------------


def check_crops(crop_places) -> str:
    for height, width, side in ((256, 384, 224), (384, 256, 224), (256, 256, 224), (8, 13, 5)):
        case = f"crop_places({height}, {width}, {side})"
        answer = crop_places(height, width, side)
        if isinstance(answer, str) or not isinstance(answer, Iterable):
            raise Wrong(f"{case}: expected 18 triples (top, left, size), got {answer!r}")
        got = [tuple(place) for place in answer]
        wrong = [
            p for p in got if len(p) != 3 or any(isinstance(v, bool) or v != int(v) for v in p)
        ]
        if wrong:
            raise Wrong(f"{case}: expected triples of whole numbers, got {wrong[0]!r}")
        if len(got) != 18:
            raise Wrong(f"{case}: expected 3 squares × 6 crops = 18 triples, got {len(got)}")
        outside = [p for p in got if min(p[:2]) < 0 or p[0] + p[2] > height or p[1] + p[2] > width]
        if outside:
            swapped = (
                all(q[1] + q[2] <= height and q[0] + q[2] <= width for q in outside)
                and min(min(q) for q in outside) >= 0
            )
            more = "; top comes first, then left" if swapped else ""
            raise Wrong(
                f"{case}: {outside[0]} reaches beyond the picture of {height} × {width}{more}"
            )  # fmt: skip
        expected = crop_places_of(height, width, side)
        missing = sorted(set(expected) - set(got))
        if missing:
            short = min(height, width)
            whole = (
                f"; it is a whole square, {short} a side, to be scaled"
                if missing[0][2] == short
                else ""
            )
            raise Wrong(f"{case}: {missing[0]} is missing (top, left, size){whole}")
        if sorted(got) != sorted(expected):
            raise Wrong(
                f"{case}: a place stands there too often; a square picture has six, each three times"
            )
    return "18 places a scale, 4 scales, each also mirrored: 18 × 4 × 2 = 144 crops"


def crop_places_of(height, width, side=224):
    """Three squares along the longer side; of each four corners, the middle, and all of it."""
    short, slack = min(height, width), abs(height - width)
    places = []
    for shift in (0, slack // 2, slack):
        top, left = (shift, 0) if height > width else (0, shift)
        free = short - side
        for down, right in ((0, 0), (0, free), (free, 0), (free, free), (free // 2, free // 2)):
            places.append((top + down, left + right, side))
        places.append((top, left, short))
    return places


# --- 13.6 -------------------------------------------------------------------------------------------------------------


def check_smoothed(smoothed) -> str:
    for labels, classes, smoothing in (([2, 0], 4, 0.1), ([1, 1, 0], 2, 0.5), ([9], 10, 0.1)):
        labels = torch.tensor(labels)
        one_hot = F.one_hot(labels, classes).double()
        right = (1 - smoothing) * one_hot + smoothing / classes
        spared = (1 - smoothing) * one_hot + smoothing / (classes - 1) * (1 - one_hot)
        arguments = () if smoothing == 0.1 else (smoothing,)
        what = f"labels {labels.tolist()}, {classes} classes, smoothing {smoothing}"
        answer = smoothed(labels.clone(), classes, *arguments)
        hints = [
            (spared, "ε is spread over all classes, the right one among them: ε / K each"),
            (one_hot, "these are the plain targets"),
            (one_hot + smoothing / classes, "each row must add up to 1: the right class gives up ε"),
            ((1 - smoothing) * one_hot + smoothing, "ε is shared by K classes"),
            (smoothing * one_hot + (1 - smoothing) / classes, "ε and 1 − ε are exchanged"),
            (0.9 * one_hot + 0.1 / classes, "smoothing is an argument"),
        ]  # fmt: skip
        shapes = [((classes, len(labels)), "a row for each label, a column for each class")]
        expect_same(answer, right, what, hints, shapes=shapes, tolerance=1e-6)
    return "cross-entropy with them is torch's label_smoothing; of 1000 classes the right one has 0.9001"


def smoothed(labels, num_classes, smoothing=0.1):
    one_hot = F.one_hot(torch.as_tensor(labels), num_classes).double()
    return (1 - smoothing) * one_hot + smoothing / num_classes


EXERCISES = [
    Exercise(
        "13.1",
        "The widest reduction that saves",
        (
            "At one pixel the convolution alone costs kernel² · channels_in · channels_out.",
            "The pair costs width · channels_in + kernel² · width · channels_out: the width times a sum.",
            "Solve for the width; (a - 1) // b is the largest whole number whose product with b is below a.",
        ),
        check_widest,
        widest_reduction,
    ),
    Exercise(
        "13.2",
        "The cost of a module",
        (
            "Four 1×1 convolutions read channels_in: n1, reduce3, reduce5 and pool.",
            "The 3×3 reads reduce3 channels with nine taps, the 5×5 reads reduce5 with 25.",
            "Add up for one pixel, and multiply by side².",
        ),
        check_module,
        module_cost,
    ),
    Exercise(
        "13.3",
        "The number behind a printed one",
        (
            "Your module_cost counts 5a: side 7, 832 channels in, and the six widths of TABLE['5a'].",
            "Try the numbers of the neighbouring rows in the column '5×5 reduce'.",
        ),
        check_reduce5,
        reduce5,
        returns_answer=True,
    ),
    Exercise(
        "13.4",
        "The loss of a network with heads",
        (
            "logits, *heads = outputs takes a tuple apart.",
            "isinstance(outputs, torch.Tensor) tells whether there are heads.",
        ),
        check_heads_loss,
        heads_loss,
    ),
    Exercise(
        "13.5",
        "The paper's crops",
        (
            "A square has min(height, width) pixels a side; it may slide along the longer side by the difference.",
            "In a square the crop's free way is free = short - side: corners at 0 and free, the middle at free // 2.",
            "The sixth crop is the square itself: its size is min(height, width).",
        ),
        check_crops,
        crop_places_of,
    ),
    Exercise(
        "13.6",
        "Smoothed labels",
        (
            "F.one_hot(labels, num_classes) gives the plain targets.",
            "(1 - smoothing) of them, and smoothing / num_classes everywhere.",
        ),
        check_smoothed,
        smoothed,
    ),
]
