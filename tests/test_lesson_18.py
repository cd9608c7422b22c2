"""Lesson 18: its writer, beam search and BLEU against other ways to compute them; its exercises against mistakes."""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np
import pytest
import torch
from lesson_checks import planted
from torch import nn
from torch.nn import functional as F

from cnncourse import exercises, lab, scenes
from cnncourse.exercises import lesson_18 as solutions

pytestmark = pytest.mark.usefixtures("in_float64")
LESSON = exercises.of_lesson("18")


@cache
def lesson():
    return lab.definitions("18")


def writer(sees="places", words=6, **sizes):
    torch.manual_seed(0)
    return lesson().Writer(sees, 9, words, **({"width": 5, "units": 7, "keys": 4} | sizes))


# --- definitions ----------------------------------------------------------------------------------


def test_the_eye_makes_a_grid_a_quarter_as_wide():
    eye = lesson().Eye(9).eval()
    x = torch.randn(2, 3, 24, 32)
    assert eye.features(x).shape == (2, 64, 6, 8)
    assert eye(x).shape == (2, 9)


def test_a_place_is_computed_from_25_pixels_a_side():
    eye = lesson().Eye(9).eval()
    for (
        layer
    ) in eye.modules():  # no place may be lost to a ReLU, nor a pixel to the largest of four
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1.0)
    net = nn.Sequential(*(nn.AvgPool2d(2) if isinstance(each, nn.MaxPool2d) else each
                          for each in eye.features))  # fmt: skip
    x = torch.ones(1, 3, 48, 48, requires_grad=True)
    net(x)[0, 0, 6, 6].backward()
    rows = x.grad[0, 0].abs().sum(1).nonzero()
    assert len(rows) == 25


def test_sentences_become_rows_that_begin_end_and_are_filled_up():
    ours = lesson()
    captions = ("a red three above a blue one", "a green two left of a yellow zero")
    rows = ours.numbers_of(captions)
    assert rows.shape == (2, 1 + ours.LONGEST)
    assert [ours.WORDS[n] for n in rows[0].tolist()] == [
        "<start>", *captions[0].split(), "<end>", "<pad>",
    ]  # fmt: skip
    assert [ours.WORDS[n] for n in rows[1].tolist()] == ["<start>", *captions[1].split(), "<end>"]
    assert ours.WORDS[ours.PAD] == "<pad>"


def test_every_caption_of_two_objects_fits():
    torch.set_default_dtype(torch.float32)  # that of pictures
    some = scenes.make(50, train=True, objects=(2, 2), classes=5, size=32, heights=(10, 15))
    rows = lesson().numbers_of(some.captions)
    assert (rows == lesson().END).sum(1).eq(1).all()


def test_the_cell_is_torchs_lstm_cell():
    net = writer()
    cell = nn.LSTMCell(32 + 5, 7)
    with torch.no_grad():
        weight, bias = net.gates.weight, net.gates.bias
        cell.weight_ih.copy_(weight[:, :37])
        cell.weight_hh.copy_(weight[:, 37:])
        cell.bias_ih.copy_(bias)
        cell.bias_hh.zero_()
        seen, state = net.look(torch.randn(3, 5, 3, 3))
        word = torch.tensor([1, 4, 2])
        _, (h, c), weights = net.step(word, state, seen)
        context = net.attend(seen, state[0])[1]
        wanted = cell(torch.cat([net.embed(word), context], 1), state)
    torch.testing.assert_close((h, c), wanted)
    torch.testing.assert_close(weights.sum(1), torch.ones(3))


def test_forbidden_places_get_no_weight_and_the_others_share_one():
    net = writer()
    seen, (h, _) = net.look(torch.randn(2, 5, 3, 3))
    allowed = torch.arange(9).expand(2, 9) % 2 == 0
    free, _ = net.attend(seen, h)
    weights, _ = net.attend(seen, h, allowed)
    assert weights[~allowed].eq(0).all()
    shared = free * allowed
    torch.testing.assert_close(weights, shared / shared.sum(1, keepdim=True))


def test_teacher_forcing_reads_the_words_that_it_is_given():
    net, words = writer(), torch.randint(6, (2, 4))
    features = torch.randn(2, 5, 3, 3)
    scores = net(features, words)
    assert scores.shape == (2, 6, 4)
    later = words.clone()
    later[:, 2] = (later[:, 2] + 1) % 6
    changed = net(features, later)
    torch.testing.assert_close(changed[..., :2], scores[..., :2])  # nobody reads ahead
    assert (changed[..., 2:] != scores[..., 2:]).any()


def test_only_a_writer_that_sees_depends_on_the_picture():
    words = torch.randint(6, (1, 3))
    one, other = torch.randn(2, 1, 5, 3, 3)
    for sees, depends in (("places", True), ("vector", True), ("nothing", False)):
        net = writer(sees)
        assert torch.equal(net(one, words), net(other, words)) != depends


def test_writing_alone_is_reading_ones_own_words():
    net = writer(words=len(lesson().WORDS))
    features = torch.randn(4, 5, 3, 3)
    words, maps = lesson().write(net, features)
    assert words.shape == (4, lesson().LONGEST)
    assert maps.shape == (4, lesson().LONGEST, 9)
    read = torch.cat([torch.full((4, 1), lesson().START), words[:, :-1]], 1)
    assert torch.equal(net(features, read).argmax(1), words)
    forced, _ = lesson().write(net, features, first=[torch.tensor([5, 6, 7, 8])])
    assert forced[:, 0].tolist() == [5, 6, 7, 8]


def test_a_wide_beam_finds_the_likeliest_sentence():
    """Against all sentences of a language so small that they can be listed."""
    ours = lesson()
    net = writer(words=4)  # <pad>, <start>, <end> and one word
    features = torch.randn(1, 5, 3, 3)
    best = -math.inf
    for length in range(1, 5):
        for body in itertools.product((0, 1, 3), repeat=length - 1):
            words = torch.tensor([[*body, ours.END]])
            read = torch.cat([torch.tensor([[ours.START]]), words[:, :-1]], 1)
            logs = net(features, read).log_softmax(1)[0]
            best = max(best, sum(logs[w, t].item() for t, w in enumerate(words[0].tolist())))
    words, score = ours.beam(net, features, 4)
    assert score >= best - 1e-9
    read = torch.tensor([[ours.START, *words[:-1]]])
    logs = net(features, read).log_softmax(1)[0]
    assert score == pytest.approx(sum(logs[w, t].item() for t, w in enumerate(words)))


def test_a_beam_of_one_is_greedy():
    ours = lesson()
    net = writer(words=len(ours.WORDS))
    for features in torch.randn(5, 1, 5, 3, 3):
        words, _ = ours.beam(net, features, 1)
        greedy = ours.write(net, features)[0][0].tolist()
        assert words == greedy[: len(words)]


def slow_bleu(candidate, goals, longest):
    """One sentence, by lists and counting."""
    logs = 0.0
    for n in range(1, longest + 1):
        runs = [tuple(candidate[i : i + n]) for i in range(len(candidate) - n + 1)]
        of_goals = [[tuple(g[i : i + n]) for i in range(len(g) - n + 1)] for g in goals]
        found = sum(
            min(runs.count(run), max(each.count(run) for each in of_goals)) for run in set(runs)
        )
        if not found:
            return 0.0
        logs += math.log(found / len(runs)) / longest
    c = len(candidate)
    r = min((abs(len(goal) - c), len(goal)) for goal in goals)[1]
    return (math.exp(1 - r / c) if c < r else 1.0) * math.exp(logs)


def test_bleu_is_that_of_another_count():
    g = np.random.default_rng(0)
    for _ in range(60):
        words = list(g.choice(list("abc"), size=g.integers(4, 9)))
        goals = [list(g.choice(list("abc"), size=g.integers(4, 9))) for _ in range(2)]
        for longest in (1, 2, 4):
            wanted = slow_bleu(words, goals, longest)
            assert lesson().bleu([words], [goals], longest) == pytest.approx(wanted)


def test_bleu_of_many_sums_the_counts_first():
    one, other, goal = "a b c d".split(), "a b x d e".split(), [["a", "b", "c", "d"]]
    pairs = [lesson().precision([one, other], [goal, goal], n) for n in (1, 2)]
    assert pairs == [(4 + 3, 9), (3 + 1, 7)]
    wanted = math.sqrt(7 / 9 * 4 / 7)
    assert lesson().bleu([one, other], [goal, goal], 2) == pytest.approx(wanted)


# --- exercises ------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", sorted(LESSON))
def test_the_reference_solution_is_accepted(id):
    assert LESSON[id].check(*LESSON[id].answers())


def test_the_masked_loss_is_torchs():
    scores, targets = torch.randn(3, 5, 4), torch.randint(4, (3, 5))
    wanted = F.cross_entropy(scores.transpose(1, 2), targets, ignore_index=0).item()
    assert solutions.masked_loss(scores.numpy(), targets.numpy()) == pytest.approx(wanted)


def test_attention_by_products_is_torchs():
    keys, values, query = torch.randn(6, 4), torch.randn(6, 3), torch.randn(4)
    allowed = torch.tensor([True, False, True, True, False, True])
    wanted = F.scaled_dot_product_attention(query[None], keys, values, attn_mask=allowed[None])[0]
    got = solutions.dot_attention(*(each.numpy() for each in (keys, values, query, allowed)))
    np.testing.assert_allclose(got[1], wanted.numpy())


def of_logs(change):
    """The reference with another way to take the mean of the logarithms, (N, T)."""

    def answer(scores, targets):
        logs = scores - scores.max(2, keepdims=True)
        logs = logs - np.log(np.exp(logs).sum(2, keepdims=True))
        return change(-np.take_along_axis(logs, targets[..., None], 2)[..., 0], targets != 0)

    return answer


def naive(scores, targets):
    with np.errstate(all="ignore"):
        shares = np.exp(scores) / np.exp(scores).sum(2, keepdims=True)
        return -np.log(np.take_along_axis(shares, targets[..., None], 2)[..., 0])[
            targets != 0
        ].mean()


def writes(change):
    """Greedy with something changed: reads (words, word, state, scores) at each step."""

    def answer(step, start, end, longest):
        words, word, state = [], start, None
        for _ in range(longest):
            scores, new = step(word, state)
            if change == "smallest":
                word = int(np.argmin(scores))
            else:
                best = int(np.argmax(scores))
                word = start if change == "no word" else best
                state = None if change == "no state" else new
                if best == end and change != "no end":
                    return [*words, end] if change == "with end" else words
                words.append(best)
                continue
            state = new
            words.append(word)
        return words

    return answer


def attends(fit=lambda k, q: k @ q / np.sqrt(len(q)), mask="out", pick=None):
    def answer(keys, values, query, allowed):
        fits = fit(keys, query)
        if mask == "zero":
            fits = fits * allowed
        top = fits[allowed].max() if mask == "out" else fits.max()
        with np.errstate(over="ignore"):
            powers = np.exp(fits - top)
        if mask == "out":
            powers = np.where(allowed, powers, 0)
        weights = powers / powers.sum()
        if mask == "late":
            weights = weights * allowed
        return weights, values[weights.argmax()] if pick else weights @ values

    return answer


def facts(score):
    def answer(sentence, truth):
        a, b = (solutions._facts(words) for words in (sentence, truth))
        return score(a, b)

    return answer


def single_words(sentence, truth):
    a, b = set(sentence), set(truth)
    return 2 * len(a & b) / max(1, len(a) + len(b))


@planted(
    {
        "18.1": [
            ("do not count", of_logs(lambda losses, real: losses.mean())),
            ("number of words", of_logs(lambda losses, real: (losses * real).mean())),
            ("not first over each", of_logs(lambda losses, real: np.mean(
                [row[keep].mean() for row, keep in zip(losses, real, strict=True)]))),
            ("the sum", of_logs(lambda losses, real: losses[real].sum())),
            ("minus the log", of_logs(lambda losses, real: -losses[real].mean())),
            ("largest score before", naive),
        ],
        "18.2": [
            ("does not belong", lambda *a: [a[1], *solutions.greedy(*a)]),
            ("`end` does not belong", writes("with end")),
            ("`end` does not belong", writes("no end")),
            ("hand both on", writes("no state")),
            ("hand both on", writes("no word")),
            ("largest score", writes("smallest")),
            ("list of numbers", lambda *a: "a red three"),
        ],
        "18.3": [
            ("get the weight 0", attends(mask="none")),
            ("must sum to 1", attends(mask="late")),
            ("no weight of 0", attends(mask="zero")),
            ("by the root of d", attends(fit=lambda k, q: k @ q)),
            ("not by d", attends(fit=lambda k, q: k @ q / len(q))),
            ("not only the best", attends(pick="best")),
            ("pair", lambda k, v, q, a: solutions.dot_attention(k, v, q, a)[0]),
        ],
        "18.4": [
            ("not single words", single_words),
            ("sentence's facts", facts(lambda a, b: len(set(a) & set(b)) / max(1, len(set(a))))),
            ("truth's facts", facts(lambda a, b: len(set(a) & set(b)) / max(1, len(set(b))))),
            ("over the union", facts(lambda a, b: len(set(a) & set(b))
                                     / max(1, len(set(a) | set(b))))),
            ("counts once", facts(lambda a, b: 2 * len(set(a) & set(b))
                                  / max(1, len(a) + len(b)))),
        ],
    }
)  # fmt: skip
def test_a_mistake_is_told(id, answer, words):
    with pytest.raises(exercises.Wrong, match=words):
        exercises.find(id).check(answer)
