"""The report of all claims, and what a notebook covers of the ledger."""

import json
import re

import pytest
from test_claims_stored import ID, shown

from cnncourse import claims, paths
from cnncourse.lab import coverage


def notebook(path, *cells):
    path.write_text(
        json.dumps({"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    )
    return path


def code(source="", *outputs, tags=()):
    return {
        "cell_type": "code",
        "source": source,
        "metadata": {"tags": list(tags)},
        "outputs": list(outputs),
        "execution_count": 1,
    }


def test_the_report_shows_every_stored_claim_and_what_the_ledger_still_wants(tmp_path):
    path = notebook(
        tmp_path / "04_convolution-arithmetic.ipynb",
        code("", shown(x=(3.2, "<", 9)), tags=["ledger:eq-receptive-field"]),
        code('figures.save(fig, "fig-curve-filter", caption="", alt="")'),
    )
    text = coverage.report([path])
    lines = [re.sub(" +", " ", line) for line in text.splitlines()]
    assert f"04 holds {ID} It takes 3.2 seconds. [under 9]" in lines
    assert "1 claims: 1 holds" in text
    items = [id for id, item in paths.ledger().items() if item["notebook"].startswith("04")]
    assert f"04  3 of {len(items)}" in text
    assert "not covered: num-curve-filter-6600" in text
    assert "not covered: fig-curve-filter" not in text
    assert "not written yet" not in text  # a lesson that was left out here is not among them
    assert coverage.report([path]) == text


@pytest.mark.parametrize(("row", "said"), [
    ("| 04 | 10 | 1 | 1 | 0 | none |", "10 of 10"),
    (f"| 04 | 10 | 1 | 0 | 0 | {ID}: 7 |", "7 of 10"),
    ("| 04 | 10 | 2 | 2 | 0 | none |", ""),  # counted when the lesson claimed something else
    ("| 14 | 10 | 1 | 1 | 0 | none |", ""),
])  # fmt: skip
def test_the_report_says_in_how_many_other_seeds_a_claim_held(tmp_path, monkeypatch, row, said):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / coverage.SEEDS).write_text(f"# Head\n\n| lesson | seeds |\n|---|---:|\n{row}\n")
    path = notebook(tmp_path / "04_x.ipynb", code("", shown(x=(3.2, "<", 9))))
    monkeypatch.setenv("CNNCOURSE_ROOT", str(tmp_path))
    assert coverage.other_seeds("04", claims.stored(path)).get(ID, "") == said


def test_the_report_names_requirements_in_the_order_of_the_sentence(tmp_path):
    output = shown("{b} and {a}, {b} again.", a=(1, "<", 2), b=(3, ">", 2))
    output["data"][claims.MIME]["required"] = {
        "a": "under 2",
        "b": "above 2",
    }  # as a file sorts them
    text = coverage.report([notebook(tmp_path / "04_x.ipynb", code("", output))])
    assert "3 and 1, 3 again. [above 2 · under 2]" in text


def test_the_report_says_of_a_lesson_that_was_never_run_that_its_claims_do_not_count(tmp_path):
    cell = code(f'claims.check("{ID}", "{{x}}", x=(760, "==", 760))') | {"execution_count": None}
    text = coverage.report([notebook(tmp_path / "04_convolution-arithmetic.ipynb", cell)])
    assert "04  0 of 40 (never run: its claims are not counted)" in text


def test_the_report_of_no_lessons_counts_those_that_are_not_stored(monkeypatch):
    assert "not written yet" not in coverage.report([]), "all are"
    monkeypatch.setattr(paths, "lessons", lambda: [])
    text = coverage.report([])
    assert "0 claims: none" in text
    assert f"not written yet: 24 lessons with {len(paths.ledger())} open items (00, 01" in text


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
