"""Comparing outputs: what may move within a declared tolerance, and what may not."""

import base64
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnncourse.errors import ParameterError
from cnncourse.lab.tolerance import CLAIM, NUMBER, Tolerance, compare, compare_texts, declared

WIDE = Tolerance(rtol=1e-2, atol=1e-6)


def text(value, mime="text/plain"):
    return {"output_type": "display_data", "metadata": {}, "data": {mime: value}}


def stream(value, name="stdout"):
    return {"output_type": "stream", "name": name, "text": value}


@pytest.mark.parametrize(
    "stored, computed",
    [
        ("loss 0.5000", "loss 0.5004"),
        ("-1.5e-3", "-1.501e-3"),
        ("1e-8", "-1e-8"),
        ("6.02e+23 mol", "6.03e+23 mol"),
        ("[ 0.25 -1.5 ]", "[0.2501 -1.501]"),
        ("[ 0.01 -0.5]\n [1.  2. ]", "[ 0.01 -0.501]\n [1.  2. ]"),
        ("93.1 %, 93.1%", "93.2 %, 93.2%"),
        ("1,234.5 images", "1,235.1 images"),
        ("12.5ms and 3.25x", "12.51ms and 3.26x"),
        ("<td>0.9310</td><td>-2.0e-3</td>", "<td>0.9311</td><td>-2.001e-3</td>"),
        ("nan inf -inf 1.0", "nan inf -inf 1.001"),
        ("nan -inf", "NaN -Infinity"),
        ("tensor([1.5000, -0.2500])", "tensor([1.5001, -0.2501])"),
        ("1.50e0", "1.5"),
        ("(0.5,0.25)", "(0.501,0.251)"),
        ("x=0.5;y=.25", "x=0.501;y=.251"),
        ("between 0.1-0.5", "between 0.1001-0.5001"),
        ("1.5+2.5j", "1.501+2.501j"),
        ("99.9", "100.1"),
        ("[1. 2.]", "[1.001 2.   ]"),
        ("It is 0.5.", "It is 0.501."),
        ("a 0.5 b", "a 0.501\nb"),
        ("[ 0.5 10. ]", "[0.501\n 10.  ]"),
        ("(1.5+1e-9j)", "(1.5-3e-9j)"),
        ("(1+1e-9j)", "(1.000001+2e-9j)"),
        ("[1.+1.e-9j 2.+0.e+00j]", "[1.-1.e-9j 2.+0.e+00j]"),
        ("[1. +0.j 0.5+1.j]", "[1.001 +0.j 0.5+1.j]"),
        ("-2.5j 1.5e3-2j", "-2.501j 1.501e3-2j"),
        ("1,234,567.5", "1,234,568.1"),
    ],
)
def test_a_float_may_move_within_its_tolerance_and_not_without_one(stored, computed):
    assert compare_texts(stored, computed, WIDE) == []
    assert compare_texts(stored, computed, Tolerance()) != []
    assert compare_texts(stored, stored, Tolerance()) == []


@pytest.mark.parametrize(
    "stored, computed, says",
    [
        (
            "loss 0.5",
            "loss 0.6",
            "line 1: 0.5 became 0.6: moved by 0.1 (20 %), allowed 0.005001 (rtol=0.01 atol=1e-06)",
        ),
        ("a\n\nb -0.5", "a\n\nb 0.5", "line 3: -0.5 became 0.5"),
        ("epoch 100", "epoch 101", "100 became 101: integers are compared exactly"),
        ("14,455,392", "14,455,393", "integers are compared exactly"),
        ("1000", "1000.1", "integers are compared exactly"),
        ("after epoch 100.", "after epoch 101.", "integers are compared exactly"),
        ("[ 100. 200.]", "[ 100. 201.]", "integers are compared exactly"),
        ("(64, 3, 32, 32)", "(64, 3, 32, 33)", "32 became 33"),
        ("(64, 3, 32, 32)", "(64, 3, 32)", "line 1 differs"),
        ("shape 3x3", "shape 3x4", "line 1 differs"),
        ("float32 0.5", "float64 0.5", "line 1 differs"),
        ("cat 0.5", "dog 0.5", "'cat 0.5'"),
        ("torch 2.14.1", "torch 2.14.2", "line 1 differs"),
        ("id 5e3a9f", "id 5e3a9e", "line 1 differs"),
        ("0.5 0.5", "0.5", "line 1 differs"),
        ("0.5", "0.5 0.5", "line 1 differs"),
        ("a 0.5\nb", "a 0.5", "(nothing)"),
        ("nan", "0.5", "nan became 0.5"),
        ("0.5", "nan", "0.5 became nan"),
        ("inf", "-inf", "inf became -inf"),
        ("93.1%", "93.1 percent", "line 1 differs"),
        ("1.5e300", "1.5e301", "1.5e300 became 1.5e301"),
        ("a 0.5 b", "a 0.5 c", "line 1 differs"),
        ("12,900.0", "13,000.0", "12 became 13"),
        ("99,900.5", "100,000.0", "99 became 100"),
        ("7,512.25", "7,612.25", "512.25 became 612.25"),
        ("12,900,0.5", "12,901,0.5", "12,900 became 12,901"),
        ("1,234,567.5", "1,235,567.5", "234 became 235"),
        ("(1.5+2.25j)", "(1.5+2.5j)", "1.5+2.25j became 1.5+2.5j: moved by 0.25"),
        ("(1.5+2.25j)", "(1.5+2.25k)", "line 1 differs"),
        ("2.5j", "2.5", "2.5j became 2.5"),
        ("(nan+1j)", "(1+1j)", "nan+1j became 1+1j"),
        ("0.0", "0.5", "0.0 became 0.5: moved by 0.5, allowed 1e-06"),
        ("1 2.5", "12.5", "line 1 differs"),
        ("True", "False", "line 1 differs"),
    ],
)
def test_what_moves_too_far_or_is_no_float_is_named(stored, computed, says):
    problems = compare_texts(stored, computed, WIDE)
    assert problems and says in problems[0]


def test_the_tolerance_is_exact_at_its_edge():
    assert compare_texts("0.123", "0.124", Tolerance(atol=1e-3)) == []
    assert compare_texts("0.123", "0.1240001", Tolerance(atol=1e-3)) != []
    assert compare_texts("-200.0", "-202.0", Tolerance(rtol=1e-2)) == []
    assert compare_texts("-200.0", "-202.1", Tolerance(rtol=1e-2)) != []


def test_a_number_with_fewer_digits_than_its_tolerance_says_so():
    assert "too few digits" in compare_texts("0.5", "0.6", Tolerance(rtol=1e-3))[0]
    assert "too few digits" not in compare_texts("0.5000", "0.6000", Tolerance(rtol=1e-3))[0]


def test_without_a_tolerance_even_white_space_and_a_last_zero_count():
    assert compare_texts("a  b", "a b", Tolerance()) != []
    assert compare_texts("1.0", "1.00", Tolerance()) != []
    assert compare_texts("-0.0", "0.0", Tolerance()) != []


def test_a_message_lists_five_numbers_and_counts_the_rest():
    problems = compare_texts("0.5 " * 20, "0.9 " * 20, WIDE)
    assert len(problems) == 6
    assert problems[-1] == "and 15 more"
    assert len(compare_texts("0.5 " * 5, "0.9 " * 5, WIDE)) == 5


def test_a_message_quotes_the_line_of_the_number():
    assert compare_texts("one\n two 0.5 \nthree", "one\n two 0.6 \nthree", WIDE)[0].splitlines()[
        1:
    ] == ["    stored:   two 0.5", "    computed: two 0.6"]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["loss ", "(", "x=", "<td>", "-", "\n", " ", "%", "3x3 "]),
            st.floats(allow_nan=False, width=32).map(repr),
        ),
        max_size=6,
    )
)
def test_every_python_float_is_found_and_text_equals_itself(parts):
    content = "".join(word + number for word, number in parts) + " end"
    assert compare_texts(content, content + " ", WIDE) == []
    assert len(NUMBER.findall(" ".join(number for _, number in parts))) == len(parts)


@settings(max_examples=200, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.sampled_from([1e-4, 1e-2]))
def test_the_verdict_is_that_of_the_formula(stored, computed, rtol):
    distance, allowed = abs(computed - stored), rtol * abs(stored)
    if abs(distance - allowed) > 1e-9:
        assert (compare_texts(repr(stored), repr(computed), Tolerance(rtol=rtol)) == []) == (
            distance <= allowed
        )


@pytest.mark.parametrize(
    "stored, computed, says",
    [
        ([stream("a")], [], "missing output: stdout, 1 stored and 0 computed, such as 'a'"),
        (
            [],
            [stream("warn", "stderr")],
            "additional output: stderr, 0 stored and 1 computed, such as 'warn'",
        ),
        (
            [text("a"), text("b")],
            [text("a")],
            "missing output: text/plain, 2 stored and 1 computed",
        ),
        ([text("a")], [text("a", "text/html")], "missing output: text/plain"),
        ([text("a"), text("b")], [text("b"), text("a")], "text/plain, line 1 differs"),
        ([text("AAAA", "image/png")], [], "missing output: image/png, 1 stored and 0 computed"),
        (
            [text("<svg>1.00</svg>", "image/svg+xml")],
            [text("<svg>1.001</svg>", "image/svg+xml")],
            "image/svg+xml, line 1",
        ),
        ([text("$1.0$", "text/latex")], [text("$1.2$", "text/latex")], "1.0 became 1.2"),
        (
            [],
            [{"output_type": "error", "ename": "KeyError", "evalue": "1", "traceback": []}],
            "additional output: error",
        ),
    ],
)
def test_a_missing_additional_or_exchanged_output_is_named(stored, computed, says):
    assert any(says in problem for problem in compare(stored, computed, WIDE))


def test_outputs_that_agree_have_no_problems():
    outputs = [stream("0.5\n"), text("x"), text("AAAA", "image/png"), text("3", "text/html")]
    assert compare(outputs, outputs, Tolerance()) == []
    assert compare([text("AAAA", "image/png")], [text("BBBB", "image/png")], Tolerance()) == []


def test_random_ids_of_widgets_are_not_compared():
    kind = "application/vnd.jupyter.widget-view+json"
    assert (
        compare([text({"model_id": "a"}, kind)], [text({"model_id": "b"}, kind)], Tolerance()) == []
    )


CLAIMED = {
    "id": "num-x",
    "verdict": "holds",
    "measured": 0.5,
    "relation": "<",
    "bound": 1,
    "seeds": 3,
    "note": "at 0.5 s",
}


@pytest.mark.parametrize(
    "change, says",
    [
        ({"measured": 0.501}, ""),
        ({"measured": 0.6}, "measured: 0.5 became 0.6"),
        ({"measured": "under 1e-12"}, "measured: '0.5' became 'under 1e-12'"),
        ({"measured": [0.5]}, "measured: '0.5' became '[0.5]'"),
        ({"seeds": 4}, "seeds: 3 became 4: integers are compared exactly"),
        ({"verdict": "not claimed here"}, "verdict: 'holds' became 'not claimed here'"),
        ({"id": "num-y"}, "id: 'num-x' became 'num-y'"),
        ({"note": "at 0.501 s"}, "note: 'at 0.5 s' became 'at 0.501 s'"),
        ({"interval": [0.4, 0.6]}, "'interval' is new"),
        ({"bound": True}, "bound: '1' became 'true'"),
    ],
)
def test_a_claim_compares_numbers_with_tolerance_and_the_rest_exactly(change, says):
    problems = compare([text(CLAIMED, CLAIM)], [text(CLAIMED | change, CLAIM)], WIDE)
    assert len(problems) == bool(says)
    assert says in "".join(problems)


def test_nested_numbers_of_a_claim_name_their_place():
    stored, computed = (
        CLAIMED | {"measured": [[1, 0.5], [2, 0.5]]},
        CLAIMED | {"measured": [[1, 0.5], [2, 0.7]]},
    )
    assert (
        "measured[1][1]: 0.5 became 0.7"
        in compare([text(stored, CLAIM)], [text(computed, CLAIM)], WIDE)[0]
    )


def test_a_claim_that_varies_is_compared_but_for_its_measured_number():
    def shown(**fields):
        claim = CLAIMED | {"varies": True} | fields
        return [
            {
                "output_type": "display_data",
                "data": {"text/plain": f"x {claim['measured']} | holds", CLAIM: claim},
            }
        ]

    assert compare(shown(), shown(measured=0.9), Tolerance()) == []
    assert compare(shown(interval=[0.1, 0.2]), shown(interval=[0.1, 0.3]), Tolerance()) == []
    assert compare(shown(), shown(bound=2), Tolerance()) != []
    assert compare(shown(), shown(verdict="not claimed here"), Tolerance()) != []
    assert compare(shown(), shown(varies=False), Tolerance()) != []


def test_of_a_cell_whose_numbers_vary_with_the_processor_the_words_are_compared_and_the_rest_of_a_claim():
    varies = declared({}, ["nbval-varies", "fold"])
    claim = CLAIMED | {"required": {"x": "at most 0.6"}}

    def shown(said="learns, to 89% (two seeds, -1.5 to 90)", **fields):
        return [text(said), text(claim | fields, CLAIM)]

    assert compare(shown(), shown(measured={"from": 1}, required={"x": "at most 5"}), varies) == []
    assert compare(shown(), shown("learns, to 7% (two seeds, 1e-3 to 1,200)"), varies) == []
    assert compare(shown(), shown("stays, at 89% (two seeds, -1.5 to 90)"), varies) != []
    assert compare(shown(), shown("learns, to 89% (two seeds, -1.5)"), varies) != []
    for field in ({"required": {"x": "at least 0.6"}}, {"verdict": "false"}, {"seeds": 4}):
        assert compare(shown(), shown(**field), varies) != [], field
    assert compare(shown(), shown("learns, to 88% (two seeds, -1.5 to 90)"), Tolerance()) != []


def picture(shade, size=(8, 8)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(buffer, "PNG")
    return [text(base64.b64encode(buffer.getvalue()).decode(), "image/png")]


def test_pictures_are_compared_where_asked():
    assert compare(picture(100), picture(105), Tolerance(image=5)) == []
    assert "moved by 6.00" in compare(picture(100), picture(106), Tolerance(image=5))[0]
    assert (
        "8x8 pixels became 9x8"
        in compare(picture(100), picture(100, (9, 8)), Tolerance(image=5))[0]
    )


def test_a_nearer_declaration_wins():
    base = declared({"rtol": 1e-2, "atol": "1e-3"})
    assert declared({"rtol": 1e-4}, [], base) == Tolerance(rtol=1e-4, atol=1e-3)
    assert declared(
        {"rtol": 1e-4}, ["define", "nbval-rtol=0", "nbval-image=10"], base
    ) == Tolerance(0, 1e-3, 10)
    assert declared({}, ["nbval-skip", "nbval-ignore-output", "ledger:x"]) == Tolerance()


@pytest.mark.parametrize(
    "metadata, tags, says",
    [
        ({}, ["nbval-rtol=tight"], "a number"),
        ({}, ["nbval-rtol="], "a number"),
        ({}, ["nbval-rtol"], "a number"),
        ({}, ["nbval-rtol=-1e-3"], "zero or larger"),
        ({}, ["nbval-atol=inf"], "finite"),
        ({}, ["nbval-atol=nan"], "finite"),
        ({}, ["nbval-rtol=1"], "below 1"),
        ({}, ["nbval-rtoll=1e-3"], "did you mean 'rtol'"),
        ({}, ["nbval-varies=1"], "one of rtol, atol and image"),
        ({}, ["nbval-vary"], "did you mean 'nbval-varies'"),
        ({"varies": 1}, [], "one of rtol, atol and image"),
        ({}, ["nbval-ignore-outputs"], "did you mean 'nbval-ignore-output'"),
        ({"atoll": 1}, [], "did you mean 'atol'"),
        ({"atol": None}, [], "a number"),
        ({"atol": True}, [], "a number"),
        ({"atol": [1]}, [], "a number"),
        ([1e-3], [], "a dictionary of rtol"),
        ("1e-3", [], "a dictionary of rtol"),
    ],
)
def test_a_malformed_declaration_is_refused(metadata, tags, says):
    with pytest.raises(ParameterError, match=says):
        declared(metadata, tags)


def bar(text):
    data = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": text}
    return {"output_type": "display_data", "data": data}


@pytest.mark.parametrize("text", ["100%|███| 10/10 [00:01<00:00, 9.1it/s]", "0it [00:00, ?it/s]"])
def test_a_progress_bar_that_a_live_jupyterlab_stored_is_not_compared(text):
    assert compare([bar(text), stream("0.5")], [stream("0.5")], Tolerance()) == []
    assert compare([stream("0.5")], [bar(text), stream("0.5")], Tolerance()) == []


def test_another_widget_is_compared_by_its_words():
    assert compare([bar("a slider at 5")], [bar("a slider at 6")], Tolerance()) != []
    assert compare([bar("a slider at 5")], [], Tolerance()) != []
