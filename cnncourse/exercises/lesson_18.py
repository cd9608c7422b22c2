"""Exercises of lesson 18: the masked loss, writing greedily, attention by products, facts of a sentence."""

from __future__ import annotations

import numpy as np

from cnncourse.exercises import Exercise, Wrong, expect_pair, expect_same


def check_masked_loss(masked_loss) -> str:
    g = np.random.default_rng(18)
    for what, shape, size in (
        ("two sentences", (2, 5, 4), 1.0),
        ("three sentences", (3, 6, 7), 2.0),
        ("large scores", (2, 4, 3), 900.0),
    ):
        scores = size * g.normal(size=shape)
        targets = g.integers(1, shape[2], size=shape[:2])
        for row, length in enumerate(range(2, 2 + shape[0])):
            targets[row, length:] = 0
        logs = scores - scores.max(2, keepdims=True)
        logs = logs - np.log(np.exp(logs).sum(2, keepdims=True))
        losses = -np.take_along_axis(logs, targets[..., None], 2)[..., 0]
        real = targets > 0
        right = losses[real].mean()
        got = masked_loss(scores.copy(), targets.copy())
        value = np.asarray(got, dtype=float)
        if value.ndim == 0 and not np.isfinite(value):
            raise Wrong(f"{what}: no number; subtract the largest score before np.exp")
        hints = [
            (losses.mean(), "the places with target 0 are pads and do not count"),
            ((losses * real).mean(), "divide by the number of words, not of all places"),
            (
                np.mean([each[keep].mean() for each, keep in zip(losses, real, strict=True)]),
                "the mean is over all words, not first over each sentence",
            ),
            (losses[real].sum(), "that is the sum; take the mean"),
            (-right, "minus the logarithm"),
            (
                -np.take_along_axis(scores, targets[..., None], 2)[..., 0][real].mean(),
                "scores are no logarithms of probabilities yet: softmax first",
            ),
        ]
        expect_same(got, right, what, hints)
    return "pads cost nothing"


def masked_loss(scores, targets):
    scores = scores - scores.max(2, keepdims=True)
    logs = scores - np.log(np.exp(scores).sum(2, keepdims=True))
    of_right = np.take_along_axis(logs, targets[..., None], axis=2)[..., 0]
    return -of_right[targets != 0].mean()


def _writer(words, count):
    """A network that writes `words`, and after them the largest number on and on; it needs its state."""

    def step(word, state):
        place = 0 if state is None else state
        follows = place == 0 or (place <= len(words) and word == words[place - 1])
        scores = [-3.0] * count
        scores[words[place] if follows and place < len(words) else count - 1] = -1.0
        return scores, place + 1

    return step


def check_greedy(greedy) -> str:
    start, end = 1, 2
    cases = (
        ([3, 5, 4, end], 9),
        ([6, 3, 3, 5, end], 9),
        ([3, 5, 4, 6], 3),
        ([end], 9),
        ([4, 3, end], 2),
    )
    for words, longest in cases:
        got = greedy(_writer(words, 8), start, end, longest)
        right = words[: words.index(end)] if end in words else words
        right = right[:longest]
        what = f"a network that writes {words}, longest {longest}"
        if not isinstance(got, list | tuple | np.ndarray):
            raise Wrong(f"{what}: return a list of numbers, got {type(got).__name__}")
        got = [int(word) for word in got]
        if got == right:
            continue
        if got[:1] == [start]:
            raise Wrong(f"{what}: `start` is read first, but it does not belong to the sentence")
        if end in got:
            raise Wrong(f"{what}: `end` does not belong to the sentence, nor what follows it")
        if len(got) > longest:
            raise Wrong(f"{what}: {len(got)} words are more than {longest}")
        if len(got) > len(right) and got[: len(right)] == right:
            raise Wrong(f"{what}: it goes on after `end`")
        if right and got[:1] == right[:1]:
            raise Wrong(
                f"{what}: expected {right}, got {got}; hand both on, the word that was written "
                "and the state that `step` returned"
            )
        raise Wrong(f"{what}: expected {right}, got {got}; take the word with the largest score")
    return "its own words, until it says stop"


def greedy(step, start, end, longest):
    words, word, state = [], start, None
    while len(words) < longest:
        scores, state = step(word, state)
        word = int(np.argmax(scores))
        if word == end:
            break
        words.append(word)
    return words


def check_dot_attention(dot_attention) -> str:
    g = np.random.default_rng(19)
    for what, L, d, m, size in (
        ("6 places", 6, 4, 3, 1.0),
        ("9 places", 9, 2, 5, 1.0),
        ("large fits", 5, 3, 2, 500.0),
    ):
        keys, values = size * g.normal(size=(L, d)), g.normal(size=(L, m))
        query = g.normal(size=d)
        allowed = np.arange(L) % 3 != 1
        allowed[0] = what != "9 places"
        fits = keys @ query

        def soft(fits, keep):
            powers = np.exp(fits - fits[keep].max()) * keep
            return powers / powers.sum()

        everywhere = np.ones(L, bool)
        with np.errstate(over="ignore"):
            right = soft(fits / np.sqrt(d), allowed)
            free = soft(fits / np.sqrt(d), everywhere)
            unscaled, halved = soft(fits, allowed), soft(fits / d, allowed)
        answer = dot_attention(keys.copy(), values.copy(), query.copy(), allowed.copy())
        weights, context = expect_pair(answer, "weights", "mean")
        array = np.asarray(weights, dtype=float)
        if array.shape == (L,) and not np.isfinite(array).all():
            raise Wrong(f"{what}: no number; subtract the largest allowed fit before np.exp")
        hints = [
            (free, "places that are not allowed get the weight 0"),
            (free * allowed, "the weights of the allowed places must sum to 1"),
            (soft(fits / np.sqrt(d) * allowed, everywhere),
             "a fit of 0 is no weight of 0: leave the place out, or set its fit to -inf"),
            (unscaled, "divide the products by the root of d"),
            (halved, "by the root of d, not by d"),
        ]  # fmt: skip
        expect_same(weights, right, f"{what}: the weights", hints)
        hints = [
            (values[allowed].mean(0), "a mean with the weights, not an even one"),
            (values.mean(0), "a mean with the weights, not an even one"),
            (values[right.argmax()], "all places, each with its weight, not only the best"),
        ]
        expect_same(context, right @ values, f"{what}: the mean", hints)
    return "the weights sum to 1, and a forbidden place has no say"


def dot_attention(keys, values, query, allowed):
    fits = keys @ query / np.sqrt(keys.shape[1])
    powers = np.where(allowed, np.exp(fits - fits[allowed].max()), 0)
    weights = powers / powers.sum()
    return weights, weights @ values


TINTS = ("red", "green", "blue", "yellow")
SENTENCES = (  # sentence, truth
    ("a red three above a blue one", "a red three above a blue one"),
    ("a red three and a green two and a blue four", "a red three above a blue one"),
    ("a red three and a red three and a green two", "a red three above a blue one"),
    ("a red three above a blue two", "a red three above a blue one"),
    ("a blue one below a red three", "a red three above a blue one"),
    ("a red one above a blue three", "a red three above a blue one"),
    ("a red three above a red three", "a red three above a blue one"),
    ("a red three", "a red three above a blue one"),
    ("a red three left of a", "a red three above a blue one"),
    ("a red", "a red three above a blue one"),
    ("red blue one", "a blue one above a green two"),
    ("a of a", "of a"),
    ("", "a red three"),
)


def check_facts_right(facts_right) -> str:
    for sentence, truth in SENTENCES:
        one, other = sentence.split(), truth.split()
        got = facts_right(list(one), list(other))
        a, b = _facts(one), _facts(other)
        both = len(set(a) & set(b))
        total = len(set(a)) + len(set(b))
        right = 2 * both / total if total else 0.0
        what = f"{sentence!r} for {truth!r}"
        words = set(one) & set(other)
        hints = [
            (both / max(1, len(set(a))), "that is the share of the sentence's facts; use both"),
            (both / max(1, len(set(b))), "that is the share of the truth's facts; use both"),
            (both / max(1, len(set(a) | set(b))), "not over the union: 2 common / (both sizes)"),
            (2 * both / max(1, len(a) + len(b)), "sets: a fact that is said twice counts once"),
            (len(words) / max(1, len(set(one))), "facts are pairs, not single words"),
            (2 * len(words) / max(1, len(set(one)) + len(set(other))),
             "facts are pairs, not single words"),
        ]  # fmt: skip
        if isinstance(got, float) and np.isnan(got):
            raise Wrong(f"{what}: 0 if there is no fact on either side")
        expect_same(got, right, what, hints)
    return "a false colour is a false fact; another order is none"


def _facts(words, colours=TINTS):
    return [
        (one, next_)
        for one, next_ in zip(words, words[1:], strict=False)
        if one in colours and next_ not in colours
    ]


def facts_right(sentence, truth, colours=("red", "green", "blue", "yellow")):
    found = []
    for words in (sentence, truth):
        pairs = zip(words, words[1:], strict=False)
        found.append({(one, two) for one, two in pairs if one in colours and two not in colours})
    said, true = found
    if not said and not true:
        return 0
    return 2 * len(said & true) / (len(said) + len(true))


EXERCISES = [
    Exercise(
        "18.1",
        "The masked loss",
        (
            "Logarithms of softmax: scores minus their largest, minus np.log of the sum of np.exp.",
            "np.take_along_axis(logs, targets[..., None], axis=2)[..., 0] picks the right words'; keep targets != 0.",
        ),
        check_masked_loss,
        masked_loss,
    ),
    Exercise(
        "18.2",
        "Writing until the end",
        (
            "Three things are kept: the list of words, the last word, the state.",
            "scores, state = step(word, state); word = int(np.argmax(scores)); leave the loop at `end`.",
        ),
        check_greedy,
        greedy,
    ),
    Exercise(
        "18.3",
        "Attention by products",
        (
            "fits = keys @ query / np.sqrt(d); subtract the largest allowed one before np.exp.",
            "np.where(allowed, np.exp(…), 0), divided by its sum, are the weights; weights @ values the mean.",
        ),
        check_dot_attention,
        dot_attention,
    ),
    Exercise(
        "18.4",
        "Facts of a sentence",
        (
            "zip(words, words[1:]) gives all pairs of neighbours; keep those that begin with a colour.",
            "Sets of tuples: said & true are the common ones.",
        ),
        check_facts_right,
        facts_right,
    ),
]
