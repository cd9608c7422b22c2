"""Exercises of lesson 17: writing, clipping, one step of a GRU, chunks, the k most likely."""

from __future__ import annotations

import numpy as np

from cnncourse.exercises import Exercise, Wrong, expect_same


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def _speller(word):
    """A network that needs its state: it knows how many letters it has read."""

    def step(letter, state):
        place = 0 if state is None else state
        known = place < len(word) and letter == word[place]
        following = word[place + 1] if known and place + 1 < len(word) else "?"
        scores = dict.fromkeys(sorted(set(word) | {"?"}), -3.0)
        scores[following] = -1.0  # scores may be negative
        return scores, place + 1

    return step


def check_spell(spell) -> str:
    for word in ("hello", "banana", "ab"):
        for length in (len(word), 1, 2):
            got, right = spell(_speller(word), word[0], length), word[:length]
            if got == right:
                continue
            what = f"{length} letters of {word!r}"
            if not isinstance(got, str):
                raise Wrong(f"{what}: return a string, got {type(got).__name__}")
            if got == right[1:]:
                raise Wrong(f"{what}: the first letter belongs to the text")
            if len(got) != length:
                raise Wrong(f"{what}: expected {length} letters, got {len(got)}: {got!r}")
            if got[1:2] == right[1:2]:
                raise Wrong(
                    f"{what}: expected {right!r}, got {got!r}; hand both on, the letter that was "
                    "written and the state that `step` returned"
                )
            raise Wrong(
                f"{what}: expected {right!r}, got {got!r}; take the letter with the largest score"
            )
    return "its own letters, and its own state"


def spell(step, first, length):
    text, letter, state = first, first, None
    while len(text) < length:
        scores, state = step(letter, state)
        letter = max(scores, key=scores.get)
        text += letter
    return text


def check_clipped(clipped) -> str:
    g = np.random.default_rng(4)
    long = [g.normal(size=(3, 4)), 5 * g.normal(size=5)]
    short = [0.01 * each for each in long]
    cases = (
        ("long gradients", long, 1.0),
        ("a limit of 2.5", long, 2.5),
        ("short gradients", short, 1.0),
        ("all zero", [np.zeros(3), np.zeros((2, 2))], 1.0),
    )
    for what, gradients, limit in cases:
        got = clipped([each.copy() for each in gradients], limit)
        if got is None or len(got) != len(gradients):
            raise Wrong(f"{what}: return the list of {len(gradients)} arrays")
        right = _clip(gradients, limit)
        lengths = [np.linalg.norm(each) for each in gradients]
        with np.errstate(all="ignore"):
            each_alone = [
                each * min(1, limit / length) if length else each
                for each, length in zip(gradients, lengths, strict=True)
            ]
            always = [each * limit / np.hypot(*lengths) for each in gradients]
        for place, (one, wanted) in enumerate(zip(got, right, strict=True)):
            hints = [
                (always[place], "what is shorter than the limit, or zero, stays as it is"),
                (each_alone[place], "the length of all arrays together counts, not of each"),
                (
                    np.clip(gradients[place], -limit, limit),
                    "that cuts single entries and turns the direction",
                ),
                (gradients[place], "these are longer than the limit"),
                (
                    gradients[place] * min(1, limit / max(sum(lengths), 1e-9)),
                    "lengths do not add; their squares do",
                ),
            ]
            expect_same(one, wanted, f"{what}, array {place}", hints)
    return "the direction stays, the length is cut"


def _clip(gradients, limit):
    length = np.sqrt(sum((each**2).sum() for each in gradients))
    return [each * (limit / length) if length > limit else each for each in gradients]


def clipped(gradients, limit):
    length = np.sqrt(sum((each**2).sum() for each in gradients))
    if length <= limit:
        return gradients
    return [each * (limit / length) for each in gradients]


def check_gru(gru) -> str:
    g = np.random.default_rng(5)
    for inputs, units in ((3, 4), (2, 1)):
        x, h, b = g.normal(size=inputs), g.normal(size=units), g.normal(size=3 * units)
        U, W = g.normal(size=(3 * units, inputs)), g.normal(size=(3 * units, units))
        (Ur, Uz, Un), (Wr, Wz, Wn), (br, bz, bn) = (np.split(part, 3) for part in (U, W, b))
        r, z = sigmoid(Ur @ x + Wr @ h + br), sigmoid(Uz @ x + Wz @ h + bz)
        past = Un @ x + r * (Wn @ h) + bn
        n, other = np.tanh(past), np.tanh(Un @ x + z * (Wn @ h) + bn)
        free = np.tanh(Un @ x + Wn @ h + bn)
        inside = np.tanh(Un @ x + Wn @ (r * h) + bn)
        hints = [
            ((1 - z) * h + z * n, "z keeps the last h, 1 - z lets n in"),
            (r * h + (1 - r) * other, "the parts are in the order r, z, n"),
            (z * h + (1 - z) * free, "r is missing"),
            (z * h + (1 - z) * inside, "r multiplies after W: r * (W_n @ h)"),
            (z * h + (1 - z) * sigmoid(past), "n has tanh, not a sigmoid"),
            (n, "z is missing"),
        ]
        got = gru(x.copy(), h.copy(), U.copy(), W.copy(), b.copy())
        expect_same(got, z * h + (1 - z) * n, f"the next h with {units} units", hints)
    return "z is the forget gate, and 1 - z its input gate"


def gru(x, h, U, W, b):
    inputs, past = np.split(U @ x + b, 3), np.split(W @ h, 3)
    r, z = sigmoid(inputs[0] + past[0]), sigmoid(inputs[1] + past[1])
    n = np.tanh(inputs[2] + r * past[2])
    return z * h + (1 - z) * n


def check_reach(reach) -> str:
    for T, chunk in ((12, 4), (10, 4), (5, 1), (6, 6), (4, 9)):
        got = np.asarray(reach(T, chunk))
        t, s = np.arange(T)[:, None], np.arange(T)[None]
        right = (s <= t) & (t // chunk == s // chunk)
        if got.dtype.kind not in "bi":
            raise Wrong(f"T {T}, chunks of {chunk}: expected True and False, got {got.dtype}")
        hints = [
            (s <= t, "chunks are cut: nothing goes back over their edge"),
            (t // chunk == s // chunk, "an output cannot depend on inputs that come later"),
            (
                (s <= t) & (t - s < chunk),
                "not the last few steps: as far back as the edge of its chunk",
            ),
            (right.T, "rows are outputs, columns are inputs"),
            ((s < t) & right, "an output reaches the input of its own step"),
        ]
        expect_same(got.astype(int), right.astype(int), f"T {T}, chunks of {chunk}",
                    [(wrong.astype(int), say) for wrong, say in hints])  # fmt: skip
    return "small triangles along the diagonal"


def reach(T, chunk):
    t, s = np.arange(T)[:, None], np.arange(T)
    return (s <= t) & (t // chunk == s // chunk)


def check_top_k(top_k) -> str:
    for scores in ([1.0, 2.2, -3.0, 4.1], [1000.0, 0.0, 999.0], [-5.0, -7.0, -6.0, -9.0, -8.0]):
        for k in (1, 2, len(scores)):
            z = np.array(scores)
            got, right = top_k(z.copy(), k), _top_k(z, k)
            whole = _top_k(z, len(z))
            what = f"scores {scores}, k {k}"
            hints = [
                (whole, "all but the k largest have probability 0"),
                (np.where(right > 0, whole, 0), "those that are left must sum to 1"),
                (_top_k(-z, k), "the largest scores are kept, not the smallest"),
                (np.sort(right)[::-1], "each probability stays in the place of its score"),
            ]
            array = np.asarray(got, dtype=float)
            if array.shape == z.shape and not np.isfinite(array).all():
                raise Wrong(f"{what}: no number; subtract the largest score before np.exp")
            expect_same(got, right, what, hints)
    return "nothing unlikely is ever written"


def _top_k(scores, k):
    powers = np.exp(scores - scores.max())
    powers[np.argsort(scores)[: len(scores) - k]] = 0
    return powers / powers.sum()


def top_k(scores, k):
    powers = np.exp(scores - scores.max())
    powers[np.argsort(scores)[: len(scores) - k]] = 0
    return powers / powers.sum()


EXERCISES = [
    Exercise(
        "17.1",
        "Writing greedily",
        (
            "Three things are kept: the text, the last letter, the state.",
            "scores, state = step(letter, state); max(scores, key=scores.get) is the next letter.",
        ),
        check_spell,
        spell,
    ),
    Exercise(
        "17.2",
        "Clipping by the global norm",
        (
            "The common length: the square root of the sum of all squares, over all arrays.",
            "Above the limit every array is multiplied by limit / length; else nothing changes.",
        ),
        check_clipped,
        clipped,
    ),
    Exercise(
        "17.3",
        "One step of a GRU",
        (
            "np.split(U @ x + b, 3) are the parts for r, z, n; np.split(W @ h, 3) as well.",
            "r and z are sigmoids of the sums; n = np.tanh(inputs[2] + r * past[2]).",
        ),
        check_gru,
        gru,
    ),
    Exercise(
        "17.4",
        "Where the gradient reaches",
        (
            "Two steps are in the same chunk if t // chunk == s // chunk.",
            "np.arange(T)[:, None] and np.arange(T) give rows t and columns s; and s <= t.",
        ),
        check_reach,
        reach,
    ),
    Exercise(
        "17.5",
        "The k most likely",
        (
            "np.argsort(scores) puts the smallest first: the first len(scores) - k places get 0.",
            "powers = np.exp(scores - scores.max()); set some to 0, then divide by the sum.",
        ),
        check_top_k,
        top_k,
    ),
]
