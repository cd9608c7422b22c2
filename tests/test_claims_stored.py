"""What a notebook stores of a claim: the page, the plain words, the data, and what a comparison leaves out."""

import json
import math
import re

import numpy as np
import pytest
import torch

from cnncourse import claims
from cnncourse.errors import ParameterError
from cnncourse.lab import tolerance

ID = "num-conv-params-760"


def shown(sentence="It takes {x:.1f} seconds.", **options):
    """The output that a notebook stores of a claim."""
    outputs = []
    with pytest.MonkeyPatch.context() as patch:
        import IPython
        import IPython.display

        patch.setattr(IPython, "get_ipython", lambda: type("Shell", (), {"user_ns": {}})())
        patch.setattr(IPython.display, "display", lambda data, raw: outputs.append(data))
        claims.check(ID, sentence, **options)
    return {"output_type": "display_data", "metadata": {}, "data": outputs[0]}


def test_the_page_says_the_same_words_with_bold_numbers_and_the_id_as_a_tooltip():
    data = shown("`fit` takes {x:.1f} seconds & <b>.", x=([2, 2.5, 3], "<", 9), seeds=3)["data"]
    page = data["text/html"]
    assert "<b>2.5 seconds</b> (three seeds, 2.0 to 3.0) &amp; &lt;b&gt;." in page
    assert f'title="{ID}"' in page and "<code>fit</code>" in page
    words_of_page = re.sub(r"<[^>]*>", "", page.replace("<br>", " "))
    for mark, sign in (("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")):
        words_of_page = words_of_page.replace(mark, sign)
    assert words_of_page.split() == data["text/plain"].replace("`", "").split()


def test_the_stored_claim_is_plain_json_also_for_nan_and_tensors():
    data = shown(
        "{x} and {y}",
        x=(torch.tensor([0.5, math.nan, -math.inf]), "==", np.array([0.5, math.nan, -math.inf])),
        y=(np.int64(3), "in", (np.float32(1), 5)),
    )["data"][claims.MIME]
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["measured"] == {"x": [0.5, "nan", "-inf"], "y": 3}
    assert data["required"] == {"x": "exactly (0.5, nan, -inf)", "y": "from 1.0 to 5"}
    assert data["id"] == ID and data["verdict"] == "holds"
    runs = shown(x=([2.0, 3.0, 4.0], ">", 1), seeds=3, on="every")["data"][claims.MIME]
    assert runs["measured"] == {"x": {"mean": 3.0, "from": 2.0, "to": 4.0}}


@pytest.mark.parametrize("varies", [True, False])
def test_numbers_that_vary_are_left_out_of_the_comparison_and_nothing_else_is(varies):
    stored = shown(x=([2.5, 2.6], "<", 90), seeds=2, varies=varies)
    moved = shown(x=([4.5, 5.5], "<", 90), seeds=2, varies=varies)
    reworded = shown("It needs {x:.1f} seconds.", x=([2.5, 2.6], "<", 90), seeds=2, varies=varies)
    bound = shown(x=([2.5, 2.6], "<", 99), seeds=2, varies=varies)
    strict = tolerance.Tolerance()
    assert tolerance.compare([stored], [stored], strict) == []
    assert bool(tolerance.compare([stored], [moved], strict)) is not varies
    assert tolerance.compare([stored], [reworded], strict)
    assert tolerance.compare([stored], [bound], strict)


def test_a_quotation_names_its_source_and_says_it_is_not_measured(capsys):
    claims.quoted(ID, "3.57 %", "He et al. 2015, table 5")
    assert capsys.readouterr().out == (
        "“3.57 %”\n  quoted from He et al. 2015, table 5; not measured here\n"
    )
    with pytest.raises(ParameterError, match="without a source"):
        claims.quoted(ID, "3.57 %", " ")
