"""Lesson 17: its cells and tasks against torch and hand counts; its exercises against planted mistakes."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from lesson_checks import planted
from torch import nn

from cnncourse import data, exercises, lab
from cnncourse.exercises import lesson_17 as solutions

pytestmark = pytest.mark.usefixtures("in_float64")
LESSON = exercises.of_lesson("17")


@cache
def lesson():
    module = lab.definitions("17")
    module.units = 6  # a parameter of the lesson
    return module


def one_bias(cell):
    """U, W and the sum of torch's two biases."""
    return cell.weight_ih, cell.weight_hh, cell.bias_ih + cell.bias_hh


def of_layer(net, layer=0):
    parts = [getattr(net, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh")]
    return *parts, getattr(net, f"bias_ih_l{layer}") + getattr(net, f"bias_hh_l{layer}")


# --- cells ----------------------------------------------------------------------------------------


def test_a_step_and_a_run_of_the_rnn_are_torchs():
    cell, x, h = nn.RNNCell(3, 4), torch.randn(5, 3), torch.randn(5, 4)
    torch.testing.assert_close(lesson().rnn_step(x, h, *one_bias(cell)), cell(x, h))
    net, x = nn.RNN(3, 4, num_layers=2, batch_first=True), torch.randn(5, 7, 3)
    first = lesson().rnn(x, *of_layer(net, 0))
    torch.testing.assert_close(lesson().rnn(first, *of_layer(net, 1)), net(x)[0])


def test_a_step_of_the_lstm_is_torchs_and_its_cells_slope_is_the_forget_gate():
    cell, x, h = nn.LSTMCell(3, 4), torch.randn(5, 3), torch.randn(5, 4)
    c = torch.randn(5, 4, requires_grad=True)
    ours, theirs = lesson().lstm_step(x, h, c, *one_bias(cell)), cell(x, (h, c))
    torch.testing.assert_close(ours, theirs)
    (slope,) = torch.autograd.grad(ours[1].sum(), c)
    U, W, b = one_bias(cell)
    forget = (x @ U.T + h @ W.T + b)[:, 4:8].sigmoid()
    torch.testing.assert_close(slope, forget)


def test_two_biases_in_one_leave_the_outputs_of_torch_as_they_are():
    net, x = nn.LSTM(3, 4, batch_first=True), torch.randn(2, 6, 3)
    before = net(x)[0]
    with torch.no_grad():
        net.bias_ih_l0 += net.bias_hh_l0
        net.bias_hh_l0.zero_()
    torch.testing.assert_close(net(x)[0], before)


def test_gates_through_time_lead_to_torchs_states():
    net, x = nn.LSTM(3, 4, batch_first=True), torch.randn(2, 6, 3)
    i, f, o, c = lesson().gates_through_time(net, x)
    states, (_, last) = net(x)
    torch.testing.assert_close(o * c.tanh(), states)
    torch.testing.assert_close(c[:, -1], last[0])
    for gate in (i, f, o):
        assert ((gate > 0) & (gate < 1)).all()


def test_the_open_lstm_differs_from_the_other_in_its_forget_gates_alone():
    same = []
    for make in (lesson().lstm, lesson().open_lstm):
        torch.manual_seed(3)
        same.append(make())
    forget = slice(lesson().units, 2 * lesson().units)
    for (name, one), other in zip(same[0].named_parameters(), same[1].parameters(), strict=True):
        if "bias" in name:
            wanted = 4.0 if "ih" in name else 0.0
            assert (other[forget] == wanted).all()
            one, other = (torch.cat([b[: forget.start], b[forget.stop :]]) for b in (one, other))
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_the_copy_keeps_its_state_where_nothing_comes_in():
    cell, h = lesson().copying(), torch.rand(1, 1, lesson().units)
    states, _ = cell(torch.zeros(1, 9, 8), h)
    torch.testing.assert_close(states[0, -1], h[0, 0])


@pytest.mark.parametrize("chunk", [1, 4, 5, 12])
def test_chunks_leave_the_states_and_cut_the_gradient_at_their_edges(chunk):
    net, x = nn.LSTM(2, 3, batch_first=True), torch.randn(1, 12, 2, requires_grad=True)
    torch.testing.assert_close(lesson().in_chunks(net, x, chunk), net(x)[0])
    reached = solutions.reach(12, chunk)
    for t in range(12):
        cut, whole = (
            torch.autograd.grad(run[0, t].sum(), x)[0][0]
            for run in (lesson().in_chunks(net, x, chunk), net(x)[0])
        )
        inside = torch.as_tensor(reached[t])
        torch.testing.assert_close(cut[inside], whole[inside])
        assert (cut[~inside] == 0).all()


# --- tasks ----------------------------------------------------------------------------------------


def test_recall_asks_for_the_first_letter_and_noise_never_repeats_it():
    x, y = lesson().recall_task(500, 7, torch.Generator().manual_seed(1))
    assert x.shape == (500, 8, 8)
    places = x.argmax(2)
    assert (places[:, 0] == y).all() and (y < 4).all()
    assert (places[:, 1:] >= 4).all()
    assert sorted(set(places.flatten().tolist())) == list(range(8))


def test_sums_are_sums():
    x, y = lesson().sums(200, 12, torch.Generator().manual_seed(1))
    worth = 2 ** torch.arange(13)
    numbers = (x.long() * worth[:, None]).sum(1)
    assert ((y * worth).sum(1) == numbers.sum(1)).all()
    assert y[:, -1].any()  # a last carry


@pytest.mark.parametrize(("period", "chunk"), [(9, 4), (8, 3), (5, 2)])
def test_the_least_loss_with_a_reset_is_that_of_the_best_table(period, chunk):
    text = [int(place % period == period - 1) for place in range(period + chunk)]
    total = 0.0
    for seen in range(1, chunk + 1):
        table = {}  # what was read -> what came next, for each start in the period
        for start in range(period):
            at = [text[(start + step) % period] for step in range(seen + 1)]
            table.setdefault(tuple(at[:-1]), []).append(at[-1])
        for following in table.values():
            share = sum(following) / len(following)
            for p in (share, 1 - share):
                total -= len(following) / period * (p * math.log(p) if p else 0)
    assert lesson().least_loss(period, chunk) == pytest.approx(total / chunk)


def test_turned_round_means_from_the_last_to_the_first():
    x, y = lesson().to_turn(50, torch.Generator().manual_seed(1))
    assert (x.argmax(2).flip(1) == y).all()
    assert lesson().Decoder()(x).shape == (50, 6, 4)


def test_hello_is_learnt_with_a_state_and_not_without():
    cell, out, scores = lesson().learn_hello(True, 3)
    assert scores.argmax(1).tolist() == [1, 2, 2, 3]
    assert lesson().write_on(cell, out, 0, 4) == [1, 2, 2, 3]
    cell, _, scores = lesson().learn_hello(False, 3)
    assert (cell.weight_hh_l0 == 0).all()
    assert (scores[2] == scores[3]).all()  # both read an l


# --- the text -------------------------------------------------------------------------------------


def test_the_descriptions_are_those_that_the_claims_were_made_for():
    text = data.text("descriptions")
    assert len(text) == 43_054 and len(set(text)) == 92


# --- exercises ------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", LESSON)
def test_the_reference_solution_is_right(id):
    assert LESSON[id].check(*LESSON[id].answers())


def test_the_reference_gru_is_torchs():
    cell, x, h = nn.GRUCell(3, 4), torch.randn(3), torch.randn(4)
    with torch.no_grad():
        cell.bias_hh.zero_()
    parts = [part.detach().numpy() for part in (x, h, cell.weight_ih, cell.weight_hh, cell.bias_ih)]
    torch.testing.assert_close(torch.as_tensor(solutions.gru(*parts)), cell(x[None], h[None])[0])


def test_right_answers_of_other_kinds_are_right():
    LESSON["17.2"].check(lambda g, limit: tuple(solutions.clipped(g, limit)))
    LESSON["17.4"].check(lambda T, c: torch.as_tensor(solutions.reach(T, c)))
    LESSON["17.5"].check(lambda s, k: torch.as_tensor(solutions.top_k(s, k)).float())


def forgets_its_state(step, first, length):
    text = first
    while len(text) < length:
        scores, _ = step(text[-1], None)
        text += max(scores, key=scores.get)
    return text


def without_the_first(step, first, length):
    return solutions.spell(step, first, length)[1:]


def too_long(step, first, length):
    return solutions.spell(step, first, length + 1)


def the_smallest(step, first, length):
    def turned(letter, state):
        scores, state = step(letter, state)
        return {key: -value for key, value in scores.items()}, state

    return solutions.spell(turned, first, length)


def each_alone(gradients, limit):
    return [each * min(1, limit / max(np.linalg.norm(each), 1e-12)) for each in gradients]


def always(gradients, limit):
    length = math.sqrt(sum((each**2).sum() for each in gradients))
    return [each * limit / max(length, 1e-12) for each in gradients]


def entries(gradients, limit):
    return [np.clip(each, -limit, limit) for each in gradients]


def gru_with(change):
    """A GRU with one planted mistake; `change` is its name."""

    def gru(x, h, U, W, b):
        s = solutions.sigmoid
        (Ur, Uz, Un), (Wr, Wz, Wn), (br, bz, bn) = (np.split(part, 3) for part in (U, W, b))
        r, z = s(Ur @ x + Wr @ h + br), s(Uz @ x + Wz @ h + bz)
        if change == "order":
            r, z = z, r
        past = Wn @ (r * h) if change == "inside" else r * (Wn @ h)
        past = Wn @ h if change == "ungated" else past
        n = Un @ x + past + bn
        n = s(n) if change == "sigmoid" else np.tanh(n)
        return (1 - z) * h + z * n if change == "turned" else z * h + (1 - z) * n

    return gru


def no_triangle(T, chunk):
    t = np.arange(T)
    return t[:, None] // chunk == t // chunk


def last_few(T, chunk):
    lag = np.arange(T)[:, None] - np.arange(T)
    return (lag >= 0) & (lag < chunk)


def kept_but_not_normed(scores, k):
    powers = np.exp(scores - scores.max())
    powers[np.argsort(scores)[:-k]] = 0
    return powers / np.exp(scores - scores.max()).sum()


def overflowing(scores, k):
    powers = np.exp(scores)
    powers[np.argsort(scores)[:-k]] = 0
    return powers / powers.sum()


@planted(
    {
        "17.1": [
            ("hand both on", forgets_its_state),
            ("the first letter belongs", without_the_first),
            ("letters, got", too_long),
            ("largest score", the_smallest),
        ],
        "17.2": [
            ("not of each", each_alone),
            ("stays as it is", always),
            ("single entries", entries),
            ("longer than the limit", lambda g, limit: g),
        ],
        "17.3": [
            ("r, z, n", gru_with("order")),
            ("after W", gru_with("inside")),
            ("r is missing", gru_with("ungated")),
            ("n has tanh", gru_with("sigmoid")),
            ("z keeps", gru_with("turned")),
        ],
        "17.4": [
            ("come later", no_triangle),
            ("edge of its chunk", last_few),
            ("rows are outputs", lambda T, c: solutions.reach(T, c).T),
            ("chunks are cut", lambda T, c: np.tril(np.ones((T, T), bool))),
        ],
        "17.5": [
            ("sum to 1", kept_but_not_normed),
            ("no number", overflowing),
            ("all but the k largest", lambda s, k: solutions.top_k(s, len(s))),
            ("smallest", lambda s, k: solutions.top_k(-s, k)),
        ],
    }
)
def test_a_mistake_is_named(id, answer, words):
    with np.errstate(all="ignore"), pytest.raises(exercises.Wrong, match=words):
        LESSON[id].check(answer)
