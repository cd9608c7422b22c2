"""Exercises of lesson 16: flat filters, three rules at a ReLU, occlusion, precision at k, what was frozen."""

from __future__ import annotations

import numpy as np

from cnncourse.exercises import Exercise, Wrong, expect_same


def check_flat_share(flat_share) -> str:
    g = np.random.default_rng(1)
    noise = g.normal(size=(4, 3, 3, 3))
    flat = np.broadcast_to(g.normal(size=(2, 3, 1, 1)), (2, 3, 3, 3)).copy()
    edge = np.zeros((1, 3, 4, 4))
    edge[..., 0], edge[..., 3] = 1.0, -1.0
    for what, filters in (
        ("random filters", noise),
        ("flat filters", flat),
        ("an edge", edge),
        ("scaled filters", 7 * noise),
    ):
        energy = (filters**2).sum((1, 2, 3))
        mean = filters.mean((2, 3), keepdims=True)
        right = _flat(filters)
        pixels = filters.shape[2] * filters.shape[3]
        whole = filters.mean((1, 2, 3))
        colours = filters.mean(1)
        hints = [
            (right * energy, "divide by the energy of the whole filter"),
            (right / pixels, "the mean stands at every pixel: count its square so often"),
            (filters[0].size * whole**2 / energy, "colour by colour: one mean for each channel"),
            (3 * (colours**2).sum((1, 2)) / energy, "the mean over the pixels, not the colours"),
            (1 - right, "that is the rest: what is not flat"),
            (np.sqrt(right), "energy is the sum of squares; no square root"),
            (
                np.full(len(filters), right.mean()),
                "one number for each filter, not their mean",
            ),
            ((mean**2).sum((1, 2, 3)), "count the mean at every pixel, then divide by the energy"),
        ]
        expect_same(flat_share(filters.copy()), right, what, hints)
    return "nothing of an edge is flat"


def _flat(filters):
    mean = np.broadcast_to(filters.mean((2, 3), keepdims=True), filters.shape)
    return (mean**2).sum((1, 2, 3)) / (filters**2).sum((1, 2, 3))


def flat_share(filters):
    pixels = filters.shape[2] * filters.shape[3]
    means = filters.mean((2, 3))  # one for each filter and colour
    return pixels * (means**2).sum(1) / (filters**2).sum((1, 2, 3))


def check_back(back_through_relu) -> str:
    g = np.random.default_rng(2)
    for shape in ((6,), (2, 3, 4)):
        x, slope = g.normal(size=shape), g.normal(size=shape)
        forward, up = slope * (x > 0), np.maximum(slope, 0)
        rights = {"gradient": forward, "deconvnet": up, "guided": up * (x > 0)}
        for rule, right in rights.items():
            hints = [
                *(
                    (other, f"that is the rule of {name}")
                    for name, other in rights.items()
                    if name != rule
                ),
                (np.maximum(x, 0), "that is the way forward; on the way back the slope goes on"),
                (slope, "something must be held back"),
                ((right != 0).astype(float), "the slope itself goes on, not 1"),
                (np.abs(right), "the slope keeps its sign"),
            ]
            got = back_through_relu(rule, x.copy(), slope.copy())
            expect_same(got, right, f"rule {rule}, shape {shape}", hints)
    return "one mask, the other, both"


def back_through_relu(rule, x, slope):
    if rule in ("gradient", "guided"):
        slope = slope * (x > 0)
    if rule in ("deconvnet", "guided"):
        slope = slope * (slope > 0)
    return slope


def check_falls(falls) -> str:
    g = np.random.default_rng(3)
    for shape, patch, stride in (((6, 6), 2, 2), ((7, 5), 3, 1), ((8, 6), 2, 3), ((4, 4), 4, 1)):
        weights, picture = g.normal(size=shape), g.normal(size=shape)

        def score(image, weights=weights):
            return float((weights * image).sum() + (weights * image).max())

        before = picture.copy()
        got = falls(picture, score, patch, stride)
        what = f"picture {shape}, patch {patch}, stride {stride}"
        if not np.array_equal(picture, before):
            raise Wrong(f"{what}: the picture was changed; hide in a copy each time")
        right = _falls(before, score, patch, stride)
        rows, columns = (-(-side // stride) for side in shape)
        hints = [
            (-right, "how far the score falls: before minus after"),
            (score(before) - right, "that is the score itself; how far does it fall?"),
            (_kept(before, score, patch, stride), "hide the square, not what is around it"),
        ]
        expect_same(
            got,
            right,
            what,
            hints,
            shapes=[
                ((rows, columns), "only squares that lie wholly in the picture"),
                (right.shape[::-1] if right.shape[0] != right.shape[1] else (), "rows first"),
            ],
        )
    return "a large fall: the score depended on this place"


def _places(shape, patch, stride):
    return [range(0, side - patch + 1, stride) for side in shape]


def _falls(picture, score, patch, stride):
    rows, columns = _places(picture.shape, patch, stride)
    found = np.zeros((len(rows), len(columns)))
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            hidden = picture.copy()
            hidden[top : top + patch, left : left + patch] = 0
            found[i, j] = score(picture) - score(hidden)
    return found


def _kept(picture, score, patch, stride):
    rows, columns = _places(picture.shape, patch, stride)
    found = np.zeros((len(rows), len(columns)))
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            shown = np.zeros_like(picture)
            square = np.s_[top : top + patch, left : left + patch]
            shown[square] = picture[square]
            found[i, j] = score(picture) - score(shown)
    return found


def falls(picture, score, patch, stride):
    height, width = picture.shape
    found = []
    for top in range(0, height - patch + 1, stride):
        row = []
        for left in range(0, width - patch + 1, stride):
            hidden = picture.copy()
            hidden[top : top + patch, left : left + patch] = 0
            row.append(score(picture) - score(hidden))
        found.append(row)
    return np.array(found)


def check_precision(precision_at_k) -> str:
    g = np.random.default_rng(4)
    labels = np.repeat([0, 1, 2], (4, 5, 6))
    points = g.normal(size=(15, 3)) + 1.5 * labels[:, None]
    for k in (1, 3, 5):
        right = _precision(points, labels, k)
        itself = _precision(points, labels, k, others=False)
        order = np.argsort(_distances(points), axis=1)
        far = (labels[order[:, ::-1][:, :k]] == labels[:, None]).mean()
        vote = np.mean(
            [
                np.bincount(labels[row[1 : k + 1]]).argmax() == label
                for row, label in zip(order, labels, strict=True)
            ]
        )
        hints = [
            (itself, "a picture is its own nearest neighbour: leave it out"),
            (right * k, "a share of the k, not a count"),
            (right * len(labels), "the mean over all pictures"),
            (far, "the nearest, not the farthest"),
            (vote, "the share of the k, not whether they win a vote"),
        ]
        got = precision_at_k(points.copy(), labels.copy(), k)
        expect_same(got, right, f"15 points, k {k}", hints)
    return "each asks all others"


def _distances(points):
    return ((points[:, None] - points[None]) ** 2).sum(2)


def _precision(points, labels, k, others=True):
    away = _distances(points)
    if others:
        np.fill_diagonal(away, np.inf)
    nearest = np.argsort(away, axis=1)[:, :k]
    return float((labels[nearest] == labels[:, None]).mean())


def precision_at_k(points, labels, k):
    away = ((points[:, None] - points[None]) ** 2).sum(2)
    away[np.arange(len(points)), np.arange(len(points))] = np.inf
    nearest = np.argsort(away, axis=1)[:, :k]
    return (labels[nearest] == labels[:, None]).mean()


def check_changed(changed) -> str:
    g = np.random.default_rng(5)
    old = {
        "blocks.0.weight": g.normal(size=(3, 2)),
        "blocks.0.running_mean": g.normal(size=3),
        "blocks.0.num_batches_tracked": np.array(7),
        "head.weight": g.normal(size=(2, 3)),
    }
    nudged = {name: value.copy() for name, value in old.items()}
    nudged["blocks.0.running_mean"][1] *= 1 + 1e-12
    new = {name: value.copy() for name, value in old.items()}
    new["head.weight"] = new["head.weight"] + 0.1
    new["blocks.0.num_batches_tracked"] = np.array(8)
    reshaped = {name: value.copy() for name, value in old.items()}
    reshaped["head.weight"] = g.normal(size=(5, 3))
    fewer = {name: value for name, value in old.items() if name != "head.weight"}
    signs = {name: -value for name, value in old.items()}
    cases = (
        ("nothing changed", old, old, []),
        ("a running mean moved by one part in 10¹²", old, nudged, ["blocks.0.running_mean"]),
        ("a new head", old, new, ["blocks.0.num_batches_tracked", "head.weight"]),
        ("another number of classes", old, reshaped, ["head.weight"]),
        ("a layer that is gone", old, fewer, ["head.weight"]),
        ("a layer that is new", fewer, old, ["head.weight"]),
        ("all signs turned", old, signs, sorted(old)),
    )
    for what, before, after, right in cases:
        got = changed(before, after)
        if got is None or isinstance(got, str | bool):
            raise Wrong(f"{what}: return a list of names")
        got = list(got)
        if got == right:
            continue
        if sorted(got) == sorted(right):
            raise Wrong(f"{what}: sort the names")
        if what.startswith("a running"):
            raise Wrong(f"{what}: bit for bit, and not only weights: np.array_equal")
        if sorted(got) == sorted({*before, *after} - set(right)):
            raise Wrong(f"{what}: these are the names that did not change")
        raise Wrong(f"{what}: expected {right}, got {got}")
    return "a running mean counts, too"


def changed(before, after):
    names = []
    for name in sorted({*before, *after}):
        if name not in before or name not in after:
            names.append(name)
        elif not np.array_equal(before[name], after[name]):
            names.append(name)
    return names


EXERCISES = [
    Exercise(
        "16.1",
        "Flat filters",
        (
            "filters.mean((2, 3)) is one mean for each filter and colour.",
            "That mean stands at every pixel: h * w * (means ** 2).sum(1), then divide.",
        ),
        check_flat_share,
        flat_share,
    ),
    Exercise(
        "16.2",
        "Back through a ReLU",
        (
            "x > 0 and slope > 0 are masks of True and False; multiplying by them keeps or drops.",
            "gradient: slope * (x > 0); deconvnet: slope * (slope > 0); guided: both masks.",
        ),
        check_back,
        back_through_relu,
    ),
    Exercise(
        "16.3",
        "Occlusion by hand",
        (
            "range(0, height - patch + 1, stride) are the first rows of the squares.",
            "hidden = picture.copy(); hidden[top:top + patch, left:left + patch] = 0",
        ),
        check_falls,
        falls,
    ),
    Exercise(
        "16.4",
        "Precision at k",
        (
            "((points[:, None] - points[None]) ** 2).sum(2) holds all squared distances.",
            "Set the diagonal to np.inf; np.argsort(away, axis=1)[:, :k] are the neighbours.",
        ),
        check_precision,
        precision_at_k,
    ),
    Exercise(
        "16.5",
        "Is it frozen?",
        (
            "sorted({*before, *after}) are all names of both sides.",
            "np.array_equal(a, b) is False for other shapes, and for any other bit of a number.",
        ),
        check_changed,
        changed,
    ),
]
