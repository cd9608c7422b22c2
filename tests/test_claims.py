"""Claims: sentences with their numbers, the relations, several seeds, changed parameters, and what is stored."""

import math
import random
import re
import statistics

import nbformat
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nbclient import NotebookClient

from cnncourse import claims, paths
from cnncourse.claims import relations, words
from cnncourse.errors import ClaimError, ParameterError, ShapeError

ID = "num-conv-params-760"


def said(capsys, sentence="It is {x}.", **options) -> str:
    claims.check(ID, sentence, **options)
    return capsys.readouterr().out.rstrip("\n")


TRUE = [
    (760, "==", 760),
    (760, "==", 760.0),
    ("3x3", "==", "3x3"),
    (torch.Size([36, 36, 3]), "==", (36, 36, 3)),
    (np.zeros((2, 3)).shape, "==", [2, 3]),
    (np.arange(6).reshape(2, 3), "==", torch.arange(6).reshape(2, 3)),
    ([(32, 32, 10), (5,)], "==", [(32, 32, 10), (5,)]),
    (torch.tensor(0.25), "==", 0.25),
    ([0.0, 0.0, math.nan], "==", [0.0, 0.0, math.nan]),
    (torch.equal(torch.ones(2), torch.ones(2)), "==", True),
    (np.float32(0.4566), "~", 0.45659, 1e-4),
    (torch.ones(2, 3, dtype=torch.bfloat16), "~", np.ones((2, 3)) + 1e-5, 1e-4),
    (1, "<", 2),
    (2, "<=", 2),
    (3, ">", 2),
    (2, ">=", 2),
    (np.float64(0.2), "in", (0.2, 0.4)),
    (torch.ones(1).double().dtype, "==", torch.float64),
    (1 + 2j, "==", 1 + 2j),
]
FALSE = [
    (761, "==", 760),
    ("3x3", "==", "3x4"),
    ("760", "==", 760),
    ((36, 36, 3), "==", (36, 3, 36)),
    ((36, 36), "==", (36, 36, 1)),
    (np.zeros((2, 3)), "==", np.zeros((3, 2))),
    (np.zeros((1, 3)), "==", np.zeros(3)),
    (np.zeros(3), "==", 0),
    ([(1, 2), (3,)], "==", [(1, 2), (4,)]),
    (0.4568, "~", 0.45659, 1e-4),
    (np.zeros((1, 3)), "~", np.zeros(3), 1.0),
    ([1.0, 2.0, 3.1], "~", [1.0, 2.0, 3.0], 0.05),
    (2, "<", 2),
    (2.1, "<=", 2),
    (2, ">", 2),
    (1.9, ">=", 2),
    (0.41, "in", (0.2, 0.4)),
    (math.nan, "<", 1),
    (math.nan, "in", (-math.inf, math.inf)),
    (math.nan, "~", 0.0, 9.0),
]


@pytest.mark.parametrize("value", TRUE)
def test_a_true_sentence_is_shown_with_a_tick(capsys, value):
    assert said(capsys, x=value).startswith("✓ It is ")


@pytest.mark.parametrize("value", FALSE)
def test_a_false_sentence_is_shown_with_a_cross_and_raises(capsys, value):
    with pytest.raises(ClaimError) as caught:
        claims.check(ID, "It is {x}.", x=value)
    assert capsys.readouterr().out.startswith("✗ It is ")
    assert "to do:" in str(caught.value) and f"claim {ID}: It is " in str(caught.value)


def test_one_false_value_of_several_is_named(capsys):
    with pytest.raises(ClaimError, match="expected second: at least 4"):
        claims.check(ID, "{first} and {second}", first=(3, ">=", 3), second=(3, ">=", 4))


def test_the_sentence_carries_numbers_units_and_what_is_required(capsys):
    text = said(
        capsys,
        "From {low} to {high} layers the error rises by {plain:.1f} points, {share:.0%} of it at once.",
        low=20,
        high=56,
        plain=(71.63, ">=", 25),
        share=(0.614, "in", (0.5, 0.7)),
    )
    assert text == (
        "✓ From 20 to 56 layers the error rises by 71.6 points, 61% of it at once.\n"
        "  required: at least 25 · from 50% to 70%"
    )


def test_a_shape_of_three_is_context_and_no_requirement(capsys):
    text = said(capsys, "{shape} holds {x} numbers.", shape=(3, 32, 32), x=(3072, "==", 3072))
    assert text.startswith("✓ (3, 32, 32) holds 3072 numbers.")


@pytest.mark.parametrize(
    "sentence, values, says",
    [
        ("It is {x}.", {"y": (1, "<", 2)}, "'x', which the values lack"),
        ("It is {x}.", {"x": (1, "<", 2), "y": 3}, "'y', which the sentence lacks"),
        ("It is so.", {}, "at least one value with a requirement"),
        ("It is {x}.", {"x": 3}, "at least one value with a requirement"),
        ("It is {}.", {"x": (1, "<", 2)}, "one value for each"),
        ("It is {x.", {"x": (1, "<", 2)}, "braces that are no values"),
        ("It is {x:.1d}.", {"x": (1, "<", 2)}, "four significant digits"),
        ("It is {x}.", {"x": (1, "=", 1)}, "'~' with a tolerance compares floats"),
        ("It is {x}.", {"x": (1, "~", 1)}, "largest difference allowed"),
        ("It is {x}.", {"x": (1, "==", 1, 1.0)}, "a tolerance with the relation '~'"),
        ("It is {x}.", {"x": (1, "~", 1, 0.0)}, "positive tolerance"),
        ("It is {x}.", {"x": (1, "in", (3, 2))}, "smaller end first"),
        ("It is {x}.", {"x": (1, "in", 3)}, "smaller end first"),
        ("It is {x}.", {"x": ([1, 2], "<", 3), "on": "means", "seeds": 2}, "did you mean 'mean'"),
        ("It is {x}.", {"x": ([1], "<", 3), "seeds": 1}, "two seeds or more"),
        ("It is {x}.", {"x": ([1], "<", 3), "seeds": [0]}, "one run says nothing of the next"),
        ("It is {x}.", {"x": (1, "<", 3), "seeds": 3}, "a list of three numbers"),
    ],
)
def test_an_unusable_claim_says_what_to_write(sentence, values, says):
    with pytest.raises(ParameterError, match=re.escape(says)):
        claims.check(ID, sentence, **values)


@pytest.mark.parametrize(
    "measured, options, says",
    [
        ([1, 2], {}, "seeds= where there is one number for each seed"),
        ([1, 2], {"seeds": 3}, "one number for each of three seeds"),
        ([[1, 2], [3, 4]], {"seeds": 2}, "one number for each of two seeds"),
        ("many", {}, "one number on each side"),
    ],
)
def test_an_order_relation_wants_one_number(measured, options, says):
    with pytest.raises(ShapeError, match=says):
        claims.check(ID, "{x}", x=(measured, "<", 3), **options)


def test_an_unknown_id_names_the_nearest():
    with pytest.raises(ParameterError, match="did you mean 'num-conv-params-760'"):
        claims.check("num-conv-param-760", "{x}", x=(760, "==", 760))
    with pytest.raises(ParameterError, match="did you mean"):
        claims.quoted("num-conv-params-761.one", "x", "y")


# Several seeds


def test_several_seeds_are_a_mean_with_the_lowest_and_the_highest_behind_its_unit(capsys):
    text = said(
        capsys,
        "It rises by {plain:.1f} points without shortcuts and by {residual:.1f} with them.",
        plain=([71, 72, 73.0], ">=", 25),
        residual=(torch.tensor([0.1, 0.3, 0.5]), "<=", 5),
        seeds=(7, 8, 9),
    )
    assert text == (
        "✓ It rises by 72.0 points (three seeds, 71.0 to 73.0) without shortcuts "
        "and by 0.3 (0.1 to 0.5) with them.\n"
        "  required of the mean's 95 % interval: at least 25 · at most 5"
    )


def test_the_unfavourable_end_of_the_interval_decides(capsys):
    runs = [0.90, 0.94, 0.98]  # mean 0.94, 95 % interval 0.94 ± 4.303 * 0.04 / sqrt(3) = 0.0994
    assert said(capsys, x=(runs, ">", 0.84), seeds=3).startswith("✓")
    for relation, bound in ((">", 0.841), ("<", 1.03), ("in", (0.85, 2))):
        with pytest.raises(ClaimError, match="interval of that mean goes from 0.8406 to 1.039"):
            claims.check(ID, "{x}", x=(runs, relation, bound), seeds=3)


def test_every_run_or_the_mean_alone_can_be_asked_for(capsys):
    runs = torch.tensor([0.5, 0.75, 1.0])
    assert "required of every seed: at least 0.5" in said(
        capsys, x=(runs, ">=", 0.5), seeds=3, on="every"
    )
    with pytest.raises(ClaimError):
        claims.check(ID, "{x}", x=(runs, ">", 0.5), seeds=3, on="every")
    assert "of the mean of the seeds: above 0.7" in said(
        capsys, x=(runs, ">", 0.7), seeds=3, on="mean"
    )


def test_the_interval_covers_the_true_mean_of_small_samples_in_95_of_100_cases():
    source = random.Random(0)
    intervals = [relations.interval([source.gauss(3, 2) for _ in range(4)]) for _ in range(4000)]
    assert statistics.mean(low <= 3 <= high for low, high in intervals) == pytest.approx(
        0.95, abs=0.015
    )


# Digits


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
        (["a", 4.0], "('a', 4.0)"),
    ],
)
def test_a_number_is_printed_readably_and_a_float_stays_a_float(value, text):
    assert words.text_of(value) == text


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-3, 1e6), st.floats(-1e-12, 1e-12))
def test_rounding_on_another_processor_almost_never_changes_the_stored_number(value, drift):
    first, second = words.rounded(value, 4), words.rounded(value * (1 + drift), 4)
    assert first == second or first == pytest.approx(second, rel=1e-3)


@settings(max_examples=200, deadline=None)
@given(
    st.floats(-1, 1),
    st.integers(-12, 0),
    st.sampled_from(list(relations.ORDERS)),
    st.sampled_from(["", ".1f", ".0%", "+.2f", ".3g", ".0e"]),
)
def test_the_printed_number_stands_in_the_printed_relation_to_its_bound(
    bound, exponent, relation, spec
):
    bound = float(f"{bound:.6g}")
    for value in (bound, bound + 10.0**exponent, bound - 10.0**exponent):
        text = words.told(value, spec, relation, bound, None)
        if not text.startswith("under"):
            shown = words._number(text)
            assert relations.compare(shown, relation, bound, None) == relations.compare(
                value, relation, bound, None
            )


@settings(max_examples=200, deadline=None)
@given(st.floats(-1e4, 1e4), st.floats(-2, 2), st.sampled_from([1e-9, 1e-4, 1e-2, 0.5]))
def test_the_printed_number_is_within_the_printed_tolerance_when_the_measured_one_is(
    bound, share, tolerance
):
    bound = float(f"{bound:.6g}")
    value = bound + share * tolerance
    if abs(abs(share) - 1) > 0.2:
        shown = words.shown(value, "~", bound, tolerance)
        assert (abs(shown - bound) <= tolerance) == (abs(share) < 1)


@pytest.mark.parametrize(
    "spec, value, text",
    [
        ("", (0.123456, "<", 1), "0.1235|under 1"),
        ("", (0.99997, "<", 1), "0.99997|under 1"),
        ("", (0.9999, "<", 0.99995), "0.9999|under 0.99995"),
        ("", (0.25, "<", 1 / 3), "0.25|under 0.333"),
        ("", (0.39999, "in", (0.2, 0.4)), "0.4|from 0.2 to 0.4"),
        ("", (0.19999, "<", 0.2), "0.19999|under 0.2"),
        ("", (0.123456, "==", 0.123456), "0.123456|exactly 0.123456"),
        ("", (3.1e-16, "<", 1e-12), "under 1e-12|under 1e-12"),
        ("", (3e-9, "<", 0.5), "under 1e-06|under 0.5"),
        ("", (4.5e-9, ">", 1e-9), "4.5e-09|above 1e-09"),
        ("", (4212.244898, "~", 4212.24, 0.01), "4212.24|4212.24 ± 0.01"),
        ("", (-1.99e-12, "~", 0, 1e-9), "0.0|0 ± 1e-09"),
        ("", ([0.45659, 1e-13], "~", [0.4566, 0.0], 1e-4), "(0.4566, 0.0)|(0.4566, 0.0) ± 0.0001"),
        (".1%", (0.9996, "<", 1), "99.96%|under 100%"),
        (".0%", (0.9996, ">", 0.5), "100%|above 50%"),
        (".1f", (25.04, ">", 25), "25.04|above 25"),
        (",", (14455392, "==", 14455392), "14,455,392|exactly 14,455,392"),
        (".1f", (-0.04, "<", 0.5), "0.0|under 0.5"),
        (".0f", (-0.04, "<", 0), "-0.04|under 0"),
        # a bound that is a measurement itself: three digits, more where three would contradict
        (".0%", (0.47, "<", 0.6544444), "47%|under 65.4%"),
        (".1%", (0.9255, "<=", 0.92555556), "92.5%|at most 92.6%"),
        (".2f", (86.35999, ">=", 86.35979), "86.36|at least 86.36"),
        ("", (1.5, "in", (1.4, 1.609231)), "1.5|from 1.4 to 1.61"),
        ("", (2.30213, "~", 2.3025851, 0.01), "2.302|2.303 ± 0.01"),
        (".0%", (0.47, "<", 0.65125), "47%|under 65.125%"),  # typed in: as it is
    ],
)
def test_a_number_has_the_digits_asked_for_or_as_many_as_show_the_relation(
    capsys, spec, value, text
):
    number, required = text.split("|")
    sentence = "It is {x" + (":" + spec if spec else "") + "}."
    assert said(capsys, sentence, x=value) == f"✓ It is {number}.\n  required: {required}"


def test_the_ends_of_the_runs_show_a_rounding_error_only_where_each_is_required(capsys):
    apart = [0.0, 1.0, 3.000000000000003]
    assert "1.3 (three seeds, 0.0 to 3.0)" in said(
        capsys, "It is {x:.1f}.", x=(apart, "<=", 3), on="mean", seeds=3
    )
    with pytest.raises(ClaimError, match=r"0.0 to 3.000000000000003"):
        claims.check(ID, "It is {x:.1f}.", x=(apart, "<=", 3), on="every", seeds=3)


@pytest.mark.parametrize(
    "value, got, remedy",
    [
        ((0.1 + 0.2, "==", 0.3), "0.30000000000000004", "floats are compared with '~'"),
        ((0.3, "==", 0.1 + 0.2), "0.3", "floats are compared with '~'"),
        (("760", "==", 760), "760 (str, not int)", "compare values of one type"),
        ((760, "==", "760"), "760 (int, not str)", "compare values of one type"),
        ((0.0299999, ">=", 0.03), "0.0299999", "undo the last change"),
        ((2.4e-9, "<", 1e-9), "2.4e-09", "undo the last change"),
        (([0.03, 0.08, 0.06], ">=", 0.03), "goes from -0.005849 to 0.1192", "undo the last"),
    ],
)
def test_the_error_shows_the_difference_and_speaks_of_no_argument(value, got, remedy):
    seeds = {"seeds": 3} if isinstance(value[0], list) else {}
    with pytest.raises(ClaimError) as caught:
        claims.check(ID, "It is {x}.", x=value, **seeds)
    text = str(caught.value)
    assert got in text and remedy in text and "given=" not in text
    assert text.split("\n")[0].removeprefix("expected x: exactly ") != got


def test_large_arrays_are_named_by_their_shape(capsys):
    value = (torch.ones(2, 3, 8, 8), "~", np.ones((2, 3, 8, 8)), 1e-9)
    assert "array (2, 3, 8, 8)" in said(capsys, x=value)


# Tables and quotations


def test_a_table_shows_every_row_and_raises_at_the_first_that_differs(capsys):
    rows = {"conv1": ((16, 3, 3, 3), torch.Size([16, 3, 3, 3])), "fc": (850, 850)}
    claims.table(ID, "Shapes as in torch.", rows)
    assert capsys.readouterr().out.split("\n")[:4] == [
        "✓ Shapes as in torch.",
        "  layer  here           torch",
        "  conv1  (16, 3, 3, 3)  (16, 3, 3, 3)  ✓",
        "  fc     850            850            ✓",
    ]
    with pytest.raises(ClaimError, match=r"1 of two rows differ: fc") as caught:
        claims.table(ID, "Shapes as in torch.", rows | {"fc": (850, 840)})
    assert "expected torch: 840, in row 'fc'" in str(caught.value)
    assert "fc     850            840            ✗" in capsys.readouterr().out


def test_a_table_of_floats_needs_a_tolerance(capsys):
    rows = {"loss": (0.1 + 0.2, 0.3)}
    with pytest.raises(ClaimError, match="floats are compared"):
        claims.table(ID, "Both agree.", rows)
    claims.table(ID, "Both agree.", rows, ("what", "here", "torch"), tolerance=1e-9)
    assert "agree within ± 1e-09" in capsys.readouterr().out


@pytest.mark.parametrize("rows", [{}, {"conv1": 3}, {"conv1": (1, 2, 3)}, [(1, 1)]])
def test_a_table_without_pairs_says_how_to_write_them(rows):
    with pytest.raises(ParameterError, match="rows="):
        claims.table(ID, "Both agree.", rows)


# In a kernel


def lesson_root(folder, parameters, monkeypatch):
    """A course with one lesson whose committed parameters are these."""
    text = f'# %% [markdown]\n# # Title\n\n# %% tags=["parameters"]\n{parameters}\n# %%\nmargin\n'
    (folder / "notebooks" / "text").mkdir(parents=True)
    slug = paths.ledger()[ID]["notebook"]
    (folder / "notebooks" / "text" / f"{slug}.py").write_text(text)
    ledger = (paths.root() / "notebooks" / "ledger.yaml").read_text()
    (folder / "notebooks" / "ledger.yaml").write_text(ledger)
    monkeypatch.setenv("CNNCOURSE_ROOT", str(folder))


def run(*sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return NotebookClient(nbformat.v4.new_notebook(cells=cells), timeout=60).execute().cells


PLANTED = {
    "seed": ("seed: int = 0  # of everything; at least 0", "1"),
    "margin": ("margin: int = 4  # pixels; 0 to 9", "0"),
    "rate": ("rate: float = 0.1  # learning rate; above 0", "0.3"),
    "dataset": ('dataset: str = "digits"  # one of digits, mnist', '"mnist"'),
    "depths": ("depths: list = [8, 14]  # layers; each 8 to 200, ascending", "[8, 20]"),
    "wide": ("wide: bool = False  # more filters", "True"),
}
BODY = (
    "from cnncourse import claims\n"
    "measured = [seed, margin - 4, rate - 0.1, len(dataset) - 6, sum(depths) - 22, int(wide)]\n"
    f"claims.check('{ID}', 'Moved by {{moved:.1f}}, five runs {{runs}}.', "
    "moved=(sum(map(abs, measured)), '==', 0), runs=([0, 0.0, sum(map(abs, measured))], '<=', 0), seeds=3)\n"
    f"claims.table('{ID}.table', 'Nothing has moved.', {{'all': (sum(map(abs, measured)), 0)}})"
)


def test_each_single_change_of_a_parameter_reports_and_runs_through(tmp_path, monkeypatch):
    committed = "\n".join(line for line, _ in PLANTED.values())
    lesson_root(tmp_path, committed, monkeypatch)
    sources = []
    for name, (_, other) in PLANTED.items():
        sources += [f"{committed}\n{name} = {other}", BODY]
    cells = run(*sources)
    for name, cell in zip(PLANTED, cells[1::2], strict=True):
        first, second = (output.data for output in cell.outputs)
        value = PLANTED[name][1].replace('"', "'")
        assert first["text/plain"].startswith("○ Moved by ") and second["text/plain"].startswith(
            "○"
        )
        assert first["text/plain"].endswith(
            f"at the default parameters; not required with {name}={value}"
        )
        assert first[claims.MIME]["verdict"] == "not required"
        assert "given=" not in first["text/plain"]


def test_at_the_committed_parameters_a_false_sentence_stops_the_lesson(tmp_path, monkeypatch):
    committed = "\n".join(line for line, _ in PLANTED.values())
    lesson_root(tmp_path, committed, monkeypatch)
    (_, cell) = run(committed, BODY)
    assert [output.data[claims.MIME]["verdict"] for output in cell.outputs] == ["holds", "holds"]
    with pytest.raises(Exception, match="ClaimError"):
        run(committed, BODY.replace("'==', 0)", "'==', 1)"))


def test_many_changed_parameters_are_counted(tmp_path, monkeypatch):
    committed = "\n".join(line for line, _ in PLANTED.values())
    lesson_root(tmp_path, committed, monkeypatch)
    changes = "\n".join(f"{name} = {value}" for name, (_, value) in PLANTED.items())
    (_, cell) = run(f"{committed}\n{changes}", BODY)
    text = cell.outputs[0].data["text/plain"]
    assert text.endswith("not required with seed=1 and margin=0 and rate=0.3 and three others")


@pytest.mark.parametrize(
    "value", ["(margin, 'in', (8, 9 - margin))", "(margin, '~', 9, 4 - margin)"]
)
def test_a_bound_that_changed_parameters_make_empty_is_not_met_and_stops_nothing(
    tmp_path, monkeypatch, value
):
    lesson_root(tmp_path, "margin: int = 1  # pixels; 0 to 9", monkeypatch)
    body = f"from cnncourse import claims\nclaims.check('{ID}', '{{x}}', x={value})"
    (_, cell) = run("margin = 4", body)
    assert cell.outputs[0].data[claims.MIME]["verdict"] == "not required"
    with pytest.raises(Exception, match="ParameterError"):
        run("margin = 1", body.replace("margin", "4"))


def test_a_single_seed_of_changed_parameters_reports_too(tmp_path, monkeypatch):
    lesson_root(tmp_path, "margin: int = 4  # pixels; 0 to 9", monkeypatch)
    body = f"from cnncourse import claims\nclaims.check('{ID}', '{{x}}', x=([3], '<', 2), seeds=1)"
    (_, cell) = run("margin = 5", body)
    assert cell.outputs[0].data["text/plain"].startswith("○ 3.0 (one seed, 3 to 3)")
