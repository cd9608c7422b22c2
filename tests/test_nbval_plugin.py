"""The pytest plugin over real kernels: planted drift is caught, tolerated drift passes, a dead kernel fails clearly.

Each notebook runs once, in a pytest of its own; the tests read its report.
"""

import os
import re
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook, new_output

SETUP = (
    "from cnncourse import claims\nfrom IPython.display import display\nID = 'num-conv-params-760'"
)
CLAIM = "application/vnd.cnncourse.claim+json"
WIDGET = "application/vnd.jupyter.widget-view+json"


def cell(source, *outputs, tags=(), nbval=None, count=1):
    metadata = {"tags": list(tags)} | ({"nbval": nbval} if nbval is not None else {})
    return new_code_cell(source, outputs=list(outputs), execution_count=count, metadata=metadata)


def printed(text):
    return new_output("stream", name="stdout", text=f"{text}\n")


def shown(**data):
    return new_output(
        "display_data", data={kind.replace("__", "/"): value for kind, value in data.items()}
    )


def says(value, **more):
    """A cell's claim that {x} is below one; `value` as it stands in the source."""
    options = "".join(f", {key}={given}" for key, given in more.items())
    return f"claims.check(ID, 'The share is {{x}}.', x=({value}, '<', 1){options})"


def claimed(value, **more):
    """A place for what the claim shows with this value; `recorded` lets a kernel show it."""
    return new_output("display_data", data={CLAIM: says(value, **more)})


def recorded(cells):
    """The cells, each stored claim as a kernel shows it."""
    outputs = [
        output for cell in cells for output in cell.outputs if CLAIM in output.get("data", {})
    ]
    sources = [SETUP, *(output.data[CLAIM] for output in outputs)]
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    NotebookClient(notebook, kernel_name="python3").execute()
    for output, ran in zip(outputs, notebook.cells[1:], strict=True):
        output.data = ran.outputs[0].data
    return cells


# name: (cell, text of its failure, or None where it passes)
CELLS = {
    "setup": (cell(SETUP), None),
    "same": (cell("print(0.5, 3)", printed("0.5 3")), None),
    "strict by default": (
        cell("print(0.50000001)", printed("0.5")),
        "0.5 became 0.50000001: moved by 1e-08",
    ),
    "within a tag": (
        cell("print('loss', -0.5004)", printed("loss -0.5"), tags=["define", "nbval-rtol=1e-3"]),
        None,
    ),
    "within metadata": (cell("print(2.5e-9)", printed("0.0"), nbval={"atol": 1e-8}), None),
    "beyond a tag": (
        cell("print('a')\nprint('loss', 0.51)", printed("a\nloss 0.50"), tags=["nbval-rtol=1e-3"]),
        "stdout, line 2: 0.50 became 0.51: moved by 0.01 (2 %), allowed 0.0005 (rtol=0.001 atol=0)",
    ),
    "integer": (
        cell("print(101, 0.5)", printed("100 0.5"), tags=["nbval-rtol=0.5"]),
        "100 became 101: integers",
    ),
    "word": (
        cell("print('dog 0.5')", printed("cat 0.5"), tags=["nbval-rtol=0.5"]),
        "stored:   'cat 0.5'",
    ),
    "shape": (
        cell(
            "(8, 3, 33)",
            new_output("execute_result", data={"text/plain": "(8, 3, 32)"}, execution_count=1),
            tags=["nbval-rtol=0.5"],
        ),
        "32 became 33",
    ),
    "missing": (cell("1;", printed("0.5"), tags=["nbval-rtol=0.5"]), "missing output: stdout"),
    "additional": (cell("print(0.5)", tags=["nbval-rtol=0.5"]), "additional output: stdout"),
    "never run": (cell("print(0.5)", count=None), "none are stored"),
    "html": (
        cell(
            "display({'text/html': '<td>0.501</td><td>12</td>'}, raw=True)",
            shown(text__html="<td>0.5</td><td>12</td>"),
            tags=["nbval-atol=0.01"],
        ),
        None,
    ),
    "claim": (cell(says(0.501), claimed(0.5), tags=["nbval-atol=0.01"]), None),
    "claim beyond": (
        cell(says(0.6), claimed(0.5), tags=["nbval-atol=0.01"]),
        "0.5 became 0.6: moved by 0.1",
    ),
    "claim varies": (cell(says(0.6, varies=True), claimed(0.1, varies=True)), None),
    "claim false": (cell(says(2), claimed(0.1)), "ClaimError"),
    "widget": (
        cell(
            f"display({{'text/plain': 'w', '{WIDGET}': {{'model_id': 'b'}}}}, raw=True)",
            new_output("display_data", data={"text/plain": "w", WIDGET: {"model_id": "a"}}),
        ),
        None,
    ),
    "malformed": (
        cell("print(0.5)", printed("0.5"), tags=["nbval-rtol=tight"]),
        "malformed tolerance in cell",
    ),
    "malformed though ignored": (
        cell("print(0.5)", tags=["nbval-rtoll=1", "nbval-ignore-output"]),
        "did you mean 'rtol'",
    ),
    "ignored": (cell("print(0.5)", tags=["nbval-ignore-output"]), None),
    "order": (
        cell("print('a')\ndisplay(0.5)\nprint('b')", printed("a\nb"), shown(text__plain="0.5")),
        None,
    ),
}


def run(folder, cells, *options, metadata=None, ini=""):
    """The report of pytest over a notebook, and the part of it that belongs to each code cell."""
    notebook = new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    )
    notebook.metadata.update(metadata or {})
    nbformat.write(notebook, folder / "04_planted.ipynb")
    (folder / "pytest.ini").write_text(f"[pytest]\n{ini}")
    words = ["-rA", "--color=no", "-p", "no:cacheprovider", *options, "04_planted.ipynb"]
    report = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "160"},
        timeout=120,
        check=False,
    ).stdout
    failures = report.partition("= PASSES =")[0].partition("short test summary")[0]
    parts = re.split(r"^_+ .*::Cell (\d+) _+$", failures, flags=re.M)
    return report, dict(zip(map(int, parts[1::2]), parts[2::2], strict=True))


def verdicts(report):
    lines = re.findall(r"^(PASSED|FAILED|ERROR) .*::Cell (\d+)", report, re.M)
    return {int(number): verdict for verdict, number in lines}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    cells = recorded([given for given, _ in CELLS.values()])
    return run(tmp_path_factory.mktemp("planted"), cells, "--nbval", "-W", "error")


@pytest.mark.parametrize("name", CELLS)
def test_each_planted_drift_is_caught_and_each_declared_one_passes(planted, name):
    report, failures = planted
    number, says = list(CELLS).index(name), CELLS[name][1]
    assert verdicts(report)[number] == ("PASSED" if says is None else "FAILED"), failures.get(
        number, report[-2000:]
    )
    if says is not None:
        assert says in failures[number]


def test_a_malformed_tolerance_names_its_cell(planted):
    number = list(CELLS).index("malformed")
    assert f"malformed tolerance in cell {number}" in planted[1][number]
    assert "'tight'" in planted[1][number]


def test_the_summary_says_in_one_line_what_happened(planted):
    summary = planted[0].partition("short test summary")[2]
    assert "cell 5: stdout, line 2: 0.50 became 0.51: moved by 0.01 (2 %)" in summary
    assert "cell 16: ClaimError: expected x: under 1" in summary


@pytest.fixture(scope="module")
def by_notebook(tmp_path_factory):
    cells = [
        cell("print(0.5004)", printed("0.5")),
        cell("print(0.5004)", printed("0.5"), tags=["nbval-rtol=0"]),
        cell("print(0.00001)", printed("0.0")),
    ]
    metadata = {"nbval": {"rtol": 1e-3}}
    return run(
        tmp_path_factory.mktemp("wide"),
        cells,
        "--nbval",
        metadata=metadata,
        ini="nbval_atol = 1e-4",
    )


def test_notebook_and_ini_declare_for_all_cells_and_a_cell_can_be_stricter(by_notebook):
    report, failures = by_notebook
    assert verdicts(report) == {0: "PASSED", 1: "FAILED", 2: "PASSED"}
    assert "allowed 0.0001 (rtol=0 atol=0.0001)" in failures[1]


@pytest.fixture(scope="module")
def dead(tmp_path_factory):
    cells = [
        cell("print(1)", printed("1")),
        cell(
            "import os, signal\nprint('last words', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
        ),
        cell("print(2)", printed("2")),
    ]
    return run(tmp_path_factory.mktemp("dead"), cells, "--nbval", "-W", "error")


def test_a_dead_kernel_fails_its_cell_at_once_and_the_rest_is_skipped(dead):
    report, failures = dead
    assert "the kernel died" in failures[1]
    assert "exit by signal 9" in failures[1]
    assert "too little memory" in failures[1]
    assert "not run: the kernel died in cell 1" in report
    assert re.search(r"1 failed, 1 passed, 1 skipped in", report)


def test_without_nbval_the_plugin_does_nothing(tmp_path):
    report, _ = run(tmp_path, [cell("raise SystemExit")])
    assert "no tests ran" in report or "not found" in report
    assert "Cell 0" not in report


def test_a_malformed_ini_is_named(tmp_path):
    report, failures = run(tmp_path, [cell("")], "--nbval", ini="nbval_rtol = tight")
    assert "malformed tolerance in the ini file" in failures[0]
