"""Exercises of lesson 08: early stopping, dropped maps, the noise of dropout, turned digits, two losses, ten crops."""

from __future__ import annotations

import math

import torch

from cnncourse.exercises import Exercise, Wrong, expect_pair, expect_same


def _stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _draw(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def check_kept_epoch(kept_epoch) -> str:
    cases = (
        ([0.5, 0.6, 0.55, 0.58, 0.9], 2, 1, "training stops after epoch 3: epoch 4 is never seen"),
        ([0.5, 0.6, 0.55, 0.58, 0.9], 3, 4, "epoch 4 still comes: only two epochs brought nothing"),
        ([0.3, 0.2, 0.4, 0.3, 0.5, 0.4], 2, 4, "each new best starts the count again"),
        ([0.5, 0.7, 0.7, 0.7, 0.8], 3, 4, "two epochs as good as the best are no new best"),
        ([0.5, 0.7, 0.7, 0.7, 0.8], 2, 1, "as good as the best is no new best, so the count goes on"),
        ([0.9, 0.8], 5, 0, "the accuracies may end before the patience does"),
        ([0.2, 0.1, 0.15, 0.12, 0.6], 2, 0, "better than the epoch before is not better than the best"),
    )  # fmt: skip
    for accuracies, patience, wanted, hint in cases:
        got = kept_epoch(list(accuracies), patience)
        if isinstance(got, float) and got in accuracies and got != int(got):
            raise Wrong(f"expected the number of an epoch, got an accuracy, {got}")
        if got == len(accuracies) and wanted == len(accuracies) - 1:
            raise Wrong(f"{accuracies}: epochs count from 0, so the last is {len(accuracies) - 1}")
        if got != wanted:
            raise Wrong(
                f"{accuracies} with patience {patience}: expected epoch {wanted}, got {got}; {hint}"
            )
    return "the weights of the best epoch before patience ran out"


def kept_epoch(accuracies, patience):
    best = 0
    for epoch, accuracy in enumerate(accuracies):
        if accuracy > accuracies[best]:
            best = epoch
        if epoch - best >= patience:
            break
    return best


def check_drop_maps(drop_maps) -> str:
    g = _stream(0)
    for shape, p in (((3, 4, 5, 2), 0.3), ((2, 2, 2, 2), 0.5), ((4, 6, 3, 3), 0.8)):
        x, lots = _draw(g, *shape), torch.rand(shape[:2], generator=g, dtype=torch.float64)
        lots[0, 0], lots[0, 1] = p / 2, (1 + p) / 2  # one goes, one stays
        kept = (lots >= p)[:, :, None, None]
        got = torch.as_tensor(drop_maps(x.clone(), p, lots.clone()))
        hints = [
            (x * kept, "the maps are right; divide what stays by 1 - p, so that the mean is kept"),
            (x * kept / p, "divide by the probability to stay, 1 - p"),
            (x * kept * (1 - p), "divide by 1 - p, in training; multiplying makes it smaller still"),
            (x * ~kept / (1 - p), "the other maps: those whose lot is *below* p go"),
        ]  # fmt: skip
        if p != 0.5:
            hints.append((x * ~kept / p, "the other maps: those whose lot is *below* p go"))
        expect_same(got, x * kept / (1 - p), f"the maps for p = {p}", hints)
    return "whole maps go: torch's nn.Dropout2d"


def drop_maps(x, p, lots):
    kept = lots >= p  # (N, C)
    return x * kept[:, :, None, None] / (1 - p)


def check_score_deviation(score_deviation) -> str:
    g = _stream(1)
    for n, p in ((5, 0.2), (7, 0.5), (3, 0.8)):
        x, w = _draw(g, n), _draw(g, n)
        masks = torch.cartesian_prod(*n * [torch.tensor([0.0, 1.0], dtype=torch.float64)])
        chance = (masks * (1 - p) + (1 - masks) * p).prod(1)  # float64, as masks are
        scores = masks @ (x * w) / (1 - p)
        mean = (chance * scores).sum()
        wanted = (chance * (scores - mean) ** 2).sum().sqrt().item()
        squares = (x * w).square().sum().item()
        hints = [
            (wanted**2, "that is the variance; the deviation is its root"),
            (math.sqrt(p * (1 - p) * squares), "that is without the division by 1 - p"),
            (
                math.sqrt(p / (1 - p)) * abs((x * w).sum().item()),
                "square each product first, then add: the units are struck out independently",
            ),
            (math.sqrt((1 - p) / p * squares), "p is the probability to be struck out"),
        ]
        got = score_deviation(x.clone(), w.clone(), p)
        if isinstance(got, torch.Tensor) and got.numel() > 1:
            raise Wrong(f"expected one number, got a tensor of shape {tuple(got.shape)}")
        expect_same(got, wanted, f"the deviation of {n} units with p = {p}", hints)
    return "√(p / (1 - p) · Σ (w x)²): large products weigh most, for each counts squared"


def score_deviation(x, w, p):
    return torch.sqrt(p / (1 - p) * (x * w).square().sum())


BECOMES = {0: 0, 1: 1, 6: 9, 8: 8, 9: 6}


def check_turned_digits(turned_digits) -> str:
    g = _stream(2)
    for labels in ([6, 3, 0, 9, 1, 5, 8, 2, 9, 7, 4, 6], [2, 3], [9, 1]):
        labels = torch.tensor(labels)
        pictures = torch.rand(len(labels), 4, 5, generator=g, dtype=torch.float64)
        got, names = expect_pair(
            turned_digits(pictures.clone(), labels.clone()), "pictures", "labels"
        )
        kept = torch.tensor([int(label) in BECOMES for label in labels])
        wanted = pictures[kept].flip(1, 2)
        new = torch.tensor([BECOMES[int(label)] for label in labels[kept]], dtype=torch.long)
        names, got = torch.as_tensor(names), torch.as_tensor(got)
        if len(names) == len(labels) and not kept.all():
            raise Wrong("2, 3, 4, 5 and 7 upside down are no digits: leave them out")
        if names.shape == new.shape and len(new) and (names == labels[kept]).all():
            raise Wrong("the labels must turn too: an upside-down 6 is a 9")
        expect_same(names, new, "the labels")
        hints = [
            (pictures[kept].flip(1), "that is a mirror image: turning by 180° reverses rows and columns"),
            (pictures[kept].flip(2), "that is a mirror image: turning by 180° reverses rows and columns"),
            (pictures[kept], "the labels are right; the pictures are not turned"),
            (pictures[kept].flip(0), "that is another order of the pictures: axis 0 is N"),
        ]  # fmt: skip
        expect_same(got, wanted, "the pictures", hints)
    return "a change of the picture and the change of its label belong together"


def turned_digits(pictures, labels):
    becomes = torch.full((10,), -1)
    becomes[torch.tensor([0, 1, 6, 8, 9])] = torch.tensor([0, 1, 9, 8, 6])
    new = becomes[labels]
    return pictures[new >= 0].flip(1, 2), new[new >= 0]


def check_two_losses(two_losses) -> str:
    g = _stream(3)
    for members, n, k in ((3, 6, 4), (5, 2, 5), (2, 9, 3)):
        p = (2 * _draw(g, members, n, k)).softmax(-1)
        labels = torch.randint(k, (n,), generator=g)
        rows = torch.arange(n)
        own, whole = p[:, rows, labels], p.mean(0)[rows, labels]
        one, other = expect_pair(
            two_losses(p.clone(), labels.clone()), "mean loss of members", "loss of their average"
        )
        right = -own.log().mean().item(), -whole.log().mean().item()
        hints = [
            (-right[0], "a loss is minus the logarithm"),
            (right[1], "that is the loss of the average: take the logarithm first, then the mean"),
            (-own.mean().log().item(), "the logarithm comes before any mean"),
            (-own.log().sum().item() / members, "the mean over pictures, not their sum"),
        ]
        expect_same(one, right[0], "the mean loss of the members", hints)
        logits = p.log().mean(0).log_softmax(-1)[rows, labels]
        hints = [
            (right[0], "that is the mean loss of the members: average the probabilities first"),
            (-logits.mean().item(), "that averages logarithms (the geometric mean); average the probabilities"),
            (-whole.mean().log().item(), "average over members only, then the logarithm, then over pictures"),
            (-right[1], "a loss is minus the logarithm"),
        ]  # fmt: skip
        expect_same(other, right[1], "the loss of the average", hints)
    return (
        "the average is never worse than its members are on average: the logarithm bends that way"
    )


def two_losses(probabilities, labels):
    rows = torch.arange(len(labels))
    members = -probabilities[:, rows, labels].log().mean()
    average = -probabilities.mean(0)[rows, labels].log().mean()
    return members, average


def check_ten_crops(ten_crops) -> str:
    g = _stream(4)
    for channels, height, width, size in ((3, 7, 9, 4), (1, 6, 6, 6), (2, 10, 8, 4)):
        photo = torch.rand(channels, height, width, generator=g, dtype=torch.float64)
        down, right = height - size, width - size
        places = [(0, 0), (0, right), (down, 0), (down, right)]
        places.append((round(down / 2), round(right / 2)))
        mirrored = photo.flip(-1)
        five = [photo[:, y : y + size, x : x + size] for y, x in places]
        wanted = torch.stack(five + [mirrored[:, y : y + size, x : x + size] for y, x in places])
        each = torch.stack([view for crop in five for view in (crop, crop.flip(-1))])
        flipped = torch.stack(five + [crop.flip(-1) for crop in five])
        got = torch.as_tensor(ten_crops(photo.clone(), size))
        hints = [
            (each, "each crop with its mirror image: right, but in another order: first five, then five"),
            (torch.cat([wanted[:5], wanted[:5]]), "the second five are not mirrored"),
            (torch.cat([wanted[:5], wanted[:5].flip(-2)]), "mirrored upside down: flip columns"),
            (flipped, "the ten are right, their order is not: torch mirrors the photo first, so the "
                      "first of the second five shows its right side"),
        ]  # fmt: skip
        expect_same(
            got,
            wanted,
            f"the crops of {height} x {width}",
            hints,
            shapes=[((5, channels, size, size), "and the same five of the mirrored photo")],
        )
    return "four corners, the centre, and the same of the mirrored photo: at five sizes 50 views"


def ten_crops(photo, size):
    height, width = photo.shape[1:]
    down, right = height - size, width - size
    places = [(0, 0), (0, right), (down, 0), (down, right), (round(down / 2), round(right / 2))]
    views = [
        view[:, y : y + size, x : x + size] for view in (photo, photo.flip(-1)) for y, x in places
    ]
    return torch.stack(views)


EXERCISES = [
    Exercise(
        "08.1",
        "Early stopping",
        (
            "Go through the epochs and remember the best one so far.",
            "After each epoch: how many epochs is the best one ago? Stop if that is patience.",
        ),
        check_kept_epoch,
        kept_epoch,
    ),
    Exercise(
        "08.2",
        "Whole maps dropped",
        (
            "Which maps stay? lots >= p is true for those, (N, C).",
            "Two axes of length 1 make it fit: kept[:, :, None, None].",
            "And what stays is divided by the probability to stay.",
        ),
        check_drop_maps,
        drop_maps,
    ),
    Exercise(
        "08.3",
        "The noise of dropout",
        (
            "One term: w x m / (1 - p), where m is 1 with probability 1 - p, else 0. The variance of m is p (1 - p).",
            "So the variance of a term is (w x)² p / (1 - p). Variances of independent terms add.",
        ),
        check_score_deviation,
        score_deviation,
    ),
    Exercise(
        "08.4",
        "Turned, with the labels",
        (
            "Turning by 180° reverses the order of rows and of columns: flip(1, 2).",
            "A table of ten numbers says what each digit becomes, -1 for no digit; becomes[labels] looks up all.",
        ),
        check_turned_digits,
        turned_digits,
    ),
    Exercise(
        "08.5",
        "Jensen's inequality",
        (
            "The probability of the right class for each member and picture: probabilities[:, rows, labels].",
            "First loss: logarithm, then the mean over all. Second: mean over members, logarithm, mean over pictures.",
        ),
        check_two_losses,
        two_losses,
    ),
    Exercise(
        "08.6",
        "Ten crops",
        (
            "The lower right corner begins at (height - size, width - size), the centre at half of that.",
            "The second five are the same places in photo.flip(-1).",
        ),
        check_ten_crops,
        ten_crops,
    ),
]
