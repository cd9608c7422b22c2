"""Claims: the relations, several seeds, what is printed and stored, and the report over notebooks."""

import json
import math
import random
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnncourse import claims, project
from cnncourse.errors import ClaimError, ParameterError, ShapeError

ID = "num-conv-params-760"


@pytest.fixture(autouse=True)
def no_claims_left_over():
    claims._collected.clear()
    yield
    claims._collected.clear()


def printed(capsys, *arguments, **options) -> str:
    claims.check(ID, *arguments, **options)
    return capsys.readouterr().out.rstrip("\n")


@pytest.mark.parametrize(
    "measured, relation, bound, options",
    [
        (760, "==", 760, {}),
        (760, "==", 760.0, {}),
        ("3x3", "==", "3x3", {}),
        (torch.Size([36, 36, 3]), "==", (36, 36, 3), {}),
        (np.zeros((2, 3)).shape, "==", [2, 3], {}),
        (np.arange(6).reshape(2, 3), "==", torch.arange(6).reshape(2, 3), {}),
        ([(32, 32, 10), (5,)], "==", [(32, 32, 10), (5,)], {}),
        (torch.tensor(0.25), "==", 0.25, {}),
        ([0.0, 0.0, math.nan], "==", [0.0, 0.0, math.nan], {}),
        (torch.equal(torch.ones(2), torch.ones(2)), "==", True, {}),
        (np.float32(0.4566), "~", 0.45659, {"tolerance": 1e-4}),
        (torch.ones(2, 3, dtype=torch.bfloat16), "~", np.ones((2, 3)) + 1e-5, {"tolerance": 1e-4}),
        (1, "<", 2, {}),
        (2, "<=", 2, {}),
        (3, ">", 2, {}),
        (2, ">=", 2, {}),
        (np.float64(0.2), "in", (0.2, 0.4), {}),
    ],
)
def test_a_true_sentence_holds(capsys, measured, relation, bound, options):
    assert printed(capsys, measured, relation, bound, **options).endswith("| holds")


@pytest.mark.parametrize(
    "measured, relation, bound, options",
    [
        (761, "==", 760, {}),
        ("3x3", "==", "3x4", {}),
        ((36, 36, 3), "==", (36, 3, 36), {}),
        ((36, 36), "==", (36, 36, 1), {}),
        (np.zeros((2, 3)), "==", np.zeros((3, 2)), {}),
        (np.zeros((1, 3)), "==", np.zeros(3), {}),
        (np.zeros(3), "==", 0, {}),
        ([(1, 2), (3,)], "==", [(1, 2), (4,)], {}),
        (0.4568, "~", 0.45659, {"tolerance": 1e-4}),
        (np.zeros((1, 3)), "~", np.zeros(3), {"tolerance": 1.0}),
        ([1.0, 2.0, 3.1], "~", [1.0, 2.0, 3.0], {"tolerance": 0.05}),
        (2, "<", 2, {}),
        (2.1, "<=", 2, {}),
        (2, ">", 2, {}),
        (1.9, ">=", 2, {}),
        (0.41, "in", (0.2, 0.4), {}),
        (math.nan, "<", 1, {}),
        (math.nan, "in", (-math.inf, math.inf), {}),
        (math.nan, "~", 0.0, {"tolerance": 9.0}),
    ],
)
def test_a_false_sentence_is_printed_and_raises(capsys, measured, relation, bound, options):
    with pytest.raises(ClaimError) as caught:
        claims.check(ID, measured, relation, bound, **options)
    assert " ".join(capsys.readouterr().out.split()).endswith("| false")
    assert project.ledger()[ID]["statement"] in str(caught.value)
    assert "to do:" in str(caught.value)


def test_an_exact_comparison_of_nearly_equal_floats_points_to_the_tolerance():
    with pytest.raises(ClaimError, match="compare floats with '~'"):
        claims.check(ID, 0.1 + 0.2, "==", 0.3)


def test_an_unknown_id_names_the_nearest():
    with pytest.raises(ParameterError, match="did you mean 'num-conv-params-760'"):
        claims.check("num-conv-param-760", 760, "==", 760)
    with pytest.raises(ParameterError, match="did you mean"):
        claims.quoted("num-conv-params-761.one", "x", "y")


@pytest.mark.parametrize(
    "arguments, options, says",
    [
        ((1, "=", 1), {}, "'~' with tolerance="),
        ((1, "~", 1), {}, "largest difference allowed"),
        ((1, "==", 1), {"tolerance": 1.0}, "tolerance= with the relation '~'"),
        ((1, "~", 1), {"tolerance": 0.0}, "positive tolerance"),
        ((1, "in", (3, 2)), {}, "smaller end first"),
        ((1, "in", 3), {}, "smaller end first"),
        ((1, "<", 3), {"on": "means"}, "did you mean 'mean'"),
        ((1, "<", 3), {"seeds": 0}, "leave seeds out"),
    ],
)
def test_an_unusable_argument_says_what_to_write(arguments, options, says):
    with pytest.raises(ParameterError, match=says):
        claims.check(ID, *arguments, **options)


@pytest.mark.parametrize(
    "measured, options, says",
    [
        ([1, 2], {}, "seeds= where there is one number for each seed"),
        ([1, 2], {"seeds": 3}, "one number for each of 3 seeds"),
        ([[1, 2], [3, 4]], {"seeds": 2}, "one number for each of 2 seeds"),
        ("many", {}, "one number on each side"),
    ],
)
def test_an_order_relation_wants_one_number(measured, options, says):
    with pytest.raises(ShapeError, match=says):
        claims.check(ID, measured, "<", 3, **options)


def test_the_unfavourable_end_of_the_interval_decides(capsys):
    runs = [0.90, 0.94, 0.98]  # mean 0.94, 95 % interval 0.94 ± 4.303 * 0.04 / sqrt(3) = 0.0994
    assert printed(capsys, runs, ">", 0.84, seeds=3) == (
        f"{ID}: 0.94 (mean of 3 seeds, 95 % interval 0.8406 to 1.039) > 0.84 | holds"
    )
    with pytest.raises(ClaimError):
        claims.check(ID, runs, ">", 0.841, seeds=3)
    with pytest.raises(ClaimError):
        claims.check(ID, runs, "<", 1.03, seeds=3)
    with pytest.raises(ClaimError):
        claims.check(ID, runs, "in", (0.85, 2), seeds=3)


def test_every_run_or_the_mean_alone_can_be_asked_for(capsys):
    runs = torch.tensor([0.5, 0.75, 1.0])
    assert "mean of 3 seeds from 0.5 to 1.0" in printed(
        capsys, runs, ">=", 0.5, seeds=(7, 8, 9), on="every"
    )
    with pytest.raises(ClaimError):
        claims.check(ID, runs, ">", 0.5, seeds=3, on="every")
    assert printed(capsys, runs, ">", 0.7, seeds=3, on="mean").endswith("holds")


def test_one_value_that_stands_for_several_seeds_says_how_many(capsys):
    assert printed(capsys, 0.5, "<", 1, seeds=3) == f"{ID}: 0.5 (3 seeds) < 1 | holds"
    assert printed(capsys, [0.5], "<", 1, seeds=1) == f"{ID}: 0.5 (1 seed) < 1 | holds"


@pytest.mark.parametrize("freedom", [1, 2, 5, 20, 21, 30, 100, 1000])
def test_the_interval_uses_students_t(freedom):
    stats = pytest.importorskip("scipy.stats")
    assert claims._t95(freedom) == pytest.approx(
        stats.t.ppf(0.975, freedom), abs=6e-4 if freedom < 21 else 5e-5
    )


def test_the_interval_covers_the_true_mean_of_small_samples_in_95_of_100_cases():
    source = random.Random(0)
    intervals = [claims._interval([source.gauss(3, 2) for _ in range(4)]) for _ in range(4000)]
    assert statistics.mean(low <= 3 <= high for low, high in intervals) == pytest.approx(
        0.95, abs=0.015
    )


def test_a_long_row_is_broken_between_words_and_says_the_same(capsys):
    note = "what a reader has to know before the number means anything, in a good many words, one after another"
    row = printed(capsys, 0.8, "<", 0.9, note=note)
    assert " ".join(row.split()) == f"{ID}: 0.8 < 0.9 | holds | {note}"
    first, *others = row.split("\n")
    assert others and all(len(line) <= 100 for line in (first, *others))
    assert all(line.startswith("    ") for line in others)


def test_a_sentence_that_is_not_claimed_here_is_shown_and_does_not_raise(capsys):
    row = printed(capsys, 0.99, "<", 0.9, given=False, note="holds on photographs")
    assert row == f"{ID}: 0.99 < 0.9 | not claimed here | holds on photographs"
    assert printed(capsys, 0.8, "<", 0.9, given=False).endswith("| holds")


def test_what_varies_with_the_machine_is_marked(capsys):
    assert "varies with the machine" in printed(capsys, 2.5, ">", 1.5, varies=True)
    assert claims.collected()[0].data()["varies"] is True


@pytest.mark.parametrize(
    "value, text",
    [
        (760, "760"),
        (14455392, "14,455,392"),
        (-20000, "-20,000"),
        (0.4566, "0.4566"),
        (98.0, "98.0"),
        (True, "True"),
        (1.364e9, "1.364e+09"),
        (-2e6, "-2e+06"),
        (5e-5, "5e-05"),
        (-0.0, "0.0"),
        (math.inf, "inf"),
        (math.nan, "nan"),
        ((1,), "(1,)"),
        ([3, 4.0], "(3, 4.0)"),
        (["a"], "('a',)"),
    ],
)
def test_a_number_is_printed_readably_and_a_float_stays_a_float(value, text):
    assert claims.text_of(value) == text


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-3, 1e6), st.floats(-1e-12, 1e-12))
def test_rounding_on_another_processor_almost_never_changes_the_stored_number(value, drift):
    first, second = claims._rounded(value, 4), claims._rounded(value * (1 + drift), 4)
    assert first == second or first == pytest.approx(second, rel=1e-3)


@settings(max_examples=200, deadline=None)
@given(st.floats(-1, 1), st.integers(-12, 0), st.sampled_from(list(claims.ORDERS)))
def test_the_printed_number_stands_in_the_printed_relation_to_its_bound(bound, exponent, relation):
    bound = float(f"{bound:.6g}")
    for value in (bound, bound + 10.0**exponent, bound - 10.0**exponent):
        shown = claims._shown(value, relation, bound, None)
        if not isinstance(shown, str):
            assert claims.ORDERS[relation](shown, bound) == claims.ORDERS[relation](value, bound)


@settings(max_examples=200, deadline=None)
@given(st.floats(-1e4, 1e4), st.floats(-2, 2), st.sampled_from([1e-9, 1e-4, 1e-2, 0.5]))
def test_the_printed_number_is_within_the_printed_tolerance_when_the_measured_one_is(
    bound, share, tolerance
):
    bound = float(f"{bound:.6g}")
    value = bound + share * tolerance
    if abs(abs(share) - 1) > 0.2:
        shown = claims._shown(value, "~", bound, tolerance)
        assert (abs(shown - bound) <= tolerance) == (abs(share) < 1)


@pytest.mark.parametrize(
    "measured, relation, bound, row",
    [
        (0.123456, "<", 1, "0.1235 < 1"),
        (0.99997, "<", 1, "0.99997 < 1"),
        (0.9999, "<", 0.99995, "0.9999 < 0.99995"),
        (0.25, "<", 1 / 3, "0.25 < 0.333333"),
        (0.39999, "in", (0.2, 0.4), "0.4 in [0.2, 0.4]"),
        (0.19999, "<", 0.2, "0.19999 < 0.2"),
        (0.123456, "==", 0.123456, "0.123456 == 0.123456"),
    ],
)
def test_a_measured_number_has_four_digits_or_as_many_as_show_the_relation(
    capsys, measured, relation, bound, row
):
    assert printed(capsys, measured, relation, bound) == f"{ID}: {row} | holds"


def test_rounding_noise_is_printed_as_what_it_stays_under(capsys):
    assert printed(capsys, 3.1e-16, "<", 1e-12) == f"{ID}: under 1e-12 < 1e-12 | holds"
    assert printed(capsys, 2.2e-16, "<", 1e-12) == f"{ID}: under 1e-12 < 1e-12 | holds"
    assert "under 1e-06" in printed(capsys, 3e-9, "<", 0.5)
    assert ": 4.5e-09 " in printed(capsys, 4.5e-9, ">", 1e-9)


@pytest.mark.parametrize(
    "measured, bound, tolerance, row",
    [
        (4212.244898, 4212.24, 0.01, "4212.24 ~ 4212.24 ± 0.01"),
        (-1.99e-12, 0, 1e-9, "0.0 ~ 0 ± 1e-09"),
        ([0.45659, 1e-13], [0.4566, 0.0], 1e-4, "(0.4566, 0.0) ~ (0.4566, 0.0) ± 0.0001"),
        (0.456590049, 0.45659, 1e-6, "0.45659 ~ 0.45659 ± 1e-06"),
        (np.full(3, 4592.44), 4592.4, 0.05, None),
    ],
)
def test_a_number_within_a_tolerance_is_printed_as_finely_as_the_tolerance_and_no_finer(
    capsys, measured, bound, tolerance, row
):
    if row is None:  # another shape than the bound: false, and still printed
        with pytest.raises(ClaimError):
            claims.check(ID, measured, "~", bound, tolerance=tolerance)
    else:
        assert printed(capsys, measured, "~", bound, tolerance=tolerance) == f"{ID}: {row} | holds"


def test_large_arrays_are_named_by_their_shape_in_row_and_store(capsys):
    assert printed(capsys, torch.ones(2, 3, 8, 8), "~", np.ones((2, 3, 8, 8)), tolerance=1e-9) == (
        f"{ID}: array (2, 3, 8, 8) ~ array (2, 3, 8, 8) ± 1e-09 | holds"
    )
    assert claims.collected()[0].data()["measured"] == "array (2, 3, 8, 8)"


def test_the_stored_claim_is_plain_json_also_for_nan_and_tensors():
    claims.check(
        ID, torch.tensor([0.5, math.nan, -math.inf]), "==", np.array([0.5, math.nan, -math.inf])
    )
    claims.check(f"{ID}.2", np.int64(3), "in", (np.float32(1), 5))
    first, second = (claim.data() for claim in claims.collected())
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert first["measured"] == [0.5, "nan", "-inf"]
    assert second == {
        "id": f"{ID}.2",
        "verdict": "holds",
        "measured": 3,
        "relation": "in",
        "bound": [1.0, 5],
    }


def test_a_claim_checked_again_replaces_the_first_in_the_collection():
    claims.check(ID, 1, "<", 2)
    claims.check(f"{ID}.bias", 1, "<", 2)
    claims.check(ID, 1, "<", 3)
    assert [(claim.id, claim.bound) for claim in claims.collected()] == [(f"{ID}.bias", 2), (ID, 3)]


def test_a_quotation_names_its_source_and_says_it_is_not_measured(capsys):
    claims.quoted(ID, "3.57 %", "He et al. 2015, table 5")
    assert (
        capsys.readouterr().out
        == f"{ID}: 3.57 % | quoted from He et al. 2015, table 5, not measured\n"
    )
    with pytest.raises(ParameterError, match="without a source"):
        claims.quoted(ID, "3.57 %", " ")


def notebook(path, *cells):
    path.write_text(
        json.dumps({"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    )
    return path


def code(source="", *stored, tags=()):
    outputs = [
        {
            "output_type": "display_data",
            "metadata": {},
            "data": {"text/plain": "", claims.MIME: data},
        }
        for data in stored
    ]
    return {
        "cell_type": "code",
        "source": source,
        "metadata": {"tags": list(tags)},
        "outputs": outputs,
        "execution_count": 1,
    }


def test_the_report_shows_every_stored_claim_and_what_the_ledger_still_wants(tmp_path):
    claims.check(ID, 760, "==", 760, unit="parameters")
    claims.check(f"{ID}.spread", [0.5, 0.7], "<", 3, seeds=2)
    claims.quoted("num-conv-28x28x6", "456 parameters", "the notes")
    stored = [claim.data() for claim in claims.collected()]
    path = notebook(
        tmp_path / "04_convolution-arithmetic.ipynb",
        code("", *stored, tags=["ledger:eq-receptive-field"]),
        code('figures.save(fig, "fig-curve-filter", caption="", alt="")'),
    )
    text = claims.report([path])
    lines = [line.split() for line in text.splitlines()]
    assert [ID, "760", "parameters", "==", "760", "holds", "04"] in lines
    assert "3 claims: 2 holds, 1 quoted" in text
    items = [id for id, item in project.ledger().items() if item["notebook"].startswith("04")]
    assert f"04  4 of {len(items)}" in text
    assert "not covered: num-curve-filter-6600" in text
    assert "not covered: fig-curve-filter" not in text
    assert "not written yet: 23 lessons" in text
    assert claims.report([path]) == text


def test_the_report_says_of_a_lesson_that_was_never_run_that_its_claims_do_not_count(tmp_path):
    cell = code('claims.check("num-conv-params-760", 760, "==", 760)') | {"execution_count": None}
    text = claims.report([notebook(tmp_path / "04_convolution-arithmetic.ipynb", cell)])
    assert "04  0 of 40 (never run: its claims are not counted)" in text


def test_types_and_complex_numbers_are_compared_and_stored_as_words():
    claims.check(ID, torch.ones(1).double().dtype, "==", torch.float64)
    claims.check(f"{ID}.2", 1 + 2j, "==", 1 + 2j)
    assert [claim.data()["measured"] for claim in claims.collected()] == ["torch.float64", "(1+2j)"]


def test_the_report_of_no_lessons_says_that_nothing_is_written():
    text = claims.report([])
    assert "0 claims: none" in text
    assert "not written yet: 24 lessons" in text


@pytest.mark.parametrize(
    "source",
    [
        'figures.save(fig, "fig-x", caption="c", alt="a")',
        "figures.save(\n    plots.curves(history),\n    'fig-x',\n    caption='c')",
        'figures.save(fig, id="fig-x", caption="c", alt="a")',
        'figures.save(plots.curves(a, b, label="train"), "fig-x", caption="c", alt="a")',
    ],
)
def test_a_saved_figure_counts_as_cited_however_it_is_written(tmp_path, source):
    assert claims.cited(notebook(tmp_path / "04_x.ipynb", code(source))) == {"fig-x"}
