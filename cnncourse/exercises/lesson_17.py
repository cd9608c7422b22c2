"""Exercises of lesson 17: states, writing, clipping, one step of an LSTM, chunks, temperature."""

from __future__ import annotations

import numpy as np

from cnncourse.exercises import Exercise, Wrong, expect_pair, expect_same


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def check_states(states) -> str:
    g = np.random.default_rng(3)
    for T, inputs, units in ((6, 3, 4), (1, 2, 5), (9, 4, 4)):
        x, b = g.normal(size=(T, inputs)), g.normal(size=units)
        U, W = g.normal(size=(units, inputs)), g.normal(size=(units, units))
        right = _states(x, U, W, b)
        alone = np.tanh(x @ U.T + b)
        linear, h = [], np.zeros(units)
        for x_t in x:
            h = U @ x_t + W @ h + b
            linear.append(h)
        hints = [
            (alone, "the last state is missing: W @ h"),
            (np.array(linear), "tanh is missing"),
            (_states(x, U, W.T, b), "W is turned round: W @ h for one state, or h @ W.T"),
            (_states(x, U, W, 0 * b), "the bias is missing"),
            (
                np.tanh(x @ U.T + b + np.vstack([np.zeros(units), alone[:-1]]) @ W.T),
                "W reads the last *state*, which itself holds the ones before",
            ),
        ]
        shapes = [
            ((units,), "return the states of all steps, not the last one alone"),
            ((T + 1, units), "the zeros before the first step are no state of a step"),
            ((units, T), "steps come first: (T, units)"),
        ]
        got = states(x.copy(), U.copy(), W.copy(), b.copy())
        expect_same(got, right, f"{T} steps, {units} units", hints, shapes=shapes)
    return "one cell, applied again and again"


def _states(x, U, W, b):
    h, rows = np.zeros(len(b)), []
    for x_t in x:
        h = np.tanh(U @ x_t + W @ h + b)
        rows.append(h)
    return np.array(rows)


def states(x, U, W, b):
    h, rows = np.zeros(len(b)), []
    for x_t in x:
        h = np.tanh(U @ x_t + W @ h + b)
        rows.append(h)
    return np.array(rows)


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


def check_lstm_once(lstm_once) -> str:
    g = np.random.default_rng(5)
    for inputs, units in ((3, 4), (2, 1)):
        x, h, c = g.normal(size=inputs), g.normal(size=units), g.normal(size=units)
        U, W = g.normal(size=(4 * units, inputs)), g.normal(size=(4 * units, units))
        b = g.normal(size=4 * units)
        new_h, new_c = expect_pair(
            lstm_once(x.copy(), h.copy(), c.copy(), U.copy(), W.copy(), b.copy()), "h", "c"
        )
        i, f, n, o = np.split(U @ x + W @ h + b, 4)
        right_c = sigmoid(f) * c + sigmoid(i) * np.tanh(n)
        right_h = sigmoid(o) * np.tanh(right_c)
        hints = [
            (right_h, "return h first, then c"),
            (sigmoid(f) * c + sigmoid(i) * sigmoid(n), "g has tanh, not a sigmoid"),
            (
                sigmoid(i) * c + sigmoid(f) * np.tanh(n),
                "i and f are exchanged: torch's order is i, f, g, o",
            ),
            (sigmoid(f) * c + sigmoid(i) * np.tanh(o), "the third part is g, the fourth o"),
            (f * c + i * n, "gates have a sigmoid, g has tanh"),
            (sigmoid(f) * c + np.tanh(n), "the input gate is missing"),
        ]
        expect_same(new_c, right_c, f"c with {units} units", hints)
        hints = [
            (sigmoid(o) * right_c, "the cell passes a tanh before it is shown"),
            (sigmoid(o) * np.tanh(c), "show the new cell, not the last one"),
            (np.tanh(right_c), "the output gate is missing"),
        ]
        expect_same(new_h, right_h, f"h with {units} units", hints)
    return "three gates and a candidate"


def lstm_once(x, h, c, U, W, b):
    i, f, g, o = np.split(U @ x + W @ h + b, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


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


def check_chances(chances) -> str:
    for scores in ([1.0, 2.2, -3.0, 4.1], [1000.0, 999.0, 0.0], [0.0, 0.0]):
        for temperature in (1.0, 0.5, 2.0):
            z = np.array(scores)
            with np.errstate(all="ignore"):
                got = chances(z.copy(), temperature)
            right = _softmax(z / temperature)
            what = f"scores {scores}, temperature {temperature:g}"
            hints = [
                (_softmax(z), "the temperature is missing"),
                (_softmax(z * temperature), "divide by the temperature"),
                (_softmax(z) / temperature, "divide the scores, before the softmax"),
                (np.exp((z - z.max()) / temperature), "they must sum to 1"),
            ]
            array = np.asarray(got, dtype=float)
            if array.shape == z.shape and not np.isfinite(array).all():
                raise Wrong(f"{what}: no number; subtract the largest score before np.exp")
            expect_same(got, right, what, hints)
    return "the colder, the greedier"


def _softmax(z):
    powers = np.exp(z - z.max())
    return powers / powers.sum()


def chances(scores, temperature):
    z = scores / temperature
    powers = np.exp(z - z.max())
    return powers / powers.sum()


EXERCISES = [
    Exercise(
        "17.1",
        "All states of an RNN",
        (
            "Begin with h = np.zeros(len(b)); each step: h = np.tanh(U @ x_t + W @ h + b).",
            "Append each h to a list; np.array(list) is (T, units).",
        ),
        check_states,
        states,
    ),
    Exercise(
        "17.2",
        "Writing greedily",
        (
            "Three things are kept: the text, the last letter, the state.",
            "scores, state = step(letter, state); max(scores, key=scores.get) is the next letter.",
        ),
        check_spell,
        spell,
    ),
    Exercise(
        "17.3",
        "Clipping by the global norm",
        (
            "The common length: the square root of the sum of all squares, over all arrays.",
            "Above the limit every array is multiplied by limit / length; else nothing changes.",
        ),
        check_clipped,
        clipped,
    ),
    Exercise(
        "17.4",
        "One step of an LSTM",
        (
            "i, f, g, o = np.split(U @ x + W @ h + b, 4); the sigmoid is 1 / (1 + np.exp(-z)).",
            "c = f * c + i * g with gates through the sigmoid and g through tanh; h = o * np.tanh(c).",
        ),
        check_lstm_once,
        lstm_once,
    ),
    Exercise(
        "17.5",
        "Where the gradient reaches",
        (
            "Two steps are in the same chunk if t // chunk == s // chunk.",
            "np.arange(T)[:, None] and np.arange(T) give rows t and columns s; and s <= t.",
        ),
        check_reach,
        reach,
    ),
    Exercise(
        "17.6",
        "Probabilities at a temperature",
        (
            "z = scores / temperature; softmax is np.exp(z) over its sum.",
            "Subtract z.max() first: the result is the same and nothing overflows.",
        ),
        check_chances,
        chances,
    ),
]
