"""Notebook and text of a lesson: which side an edit travels to, what survives, what is refused."""

import os

import nbformat
import pytest

from cnncourse.errors import LessonError, ParameterError, TwinError
from cnncourse.lab import pairing

TEXT = """\
# ---
# jupyter:
#   jupytext:
#     formats: ipynb,text//py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What is the size?
# A sentence with $x^2$.

# %% tags=["parameters"]
seed: int = 0  # of everything random

# %% tags=["define", "ledger:eq-conv-output-size"]
def double(n):
    return 2 * n

# %% nbval={"rtol": 0.001}
print(double(3))
"""


@pytest.fixture
def lesson(tmp_path):
    """A notebook in step with its text, its cells executed."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "04_size.py").write_text(TEXT)
    pairing.sync(folder=tmp_path)
    notebook = tmp_path / "04_size.ipynb"
    with edited(notebook) as content:
        for count, cell in enumerate(
            (cell for cell in content.cells if cell.cell_type == "code"), start=1
        ):
            cell.execution_count = count
            cell.outputs = [
                nbformat.v4.new_output("stream", name="stdout", text=f"output {count}\n")
            ]
    return notebook


class edited:
    def __init__(self, notebook):
        self.notebook = notebook

    def __enter__(self):
        self.content = nbformat.read(self.notebook, as_version=4)
        return self.content

    def __exit__(self, *error):
        nbformat.write(self.content, self.notebook)


def replace(path, old, new):
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


def outputs(notebook):
    cells = nbformat.read(notebook, as_version=4).cells
    return [[output.text for output in cell.outputs] for cell in cells if cell.cell_type == "code"]


def sync(notebook, **options):
    return pairing.sync(folder=notebook.parent, **options)


def test_a_text_without_notebook_creates_it_and_a_second_sync_writes_nothing(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "04_size.py").write_text(TEXT)
    assert pairing.sync(folder=tmp_path) == [
        "04_size.ipynb written, 0 of 3 code cells keep their outputs"
    ]
    notebook = nbformat.read(tmp_path / "04_size.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code", "code", "code"]
    assert notebook.cells[2].metadata == {"tags": ["define", "ledger:eq-conv-output-size"]}
    assert notebook.cells[3].metadata == {"nbval": {"rtol": 0.001}}
    assert (tmp_path / "text" / "04_size.py").read_text() == TEXT
    assert pairing.sync(folder=tmp_path) == []


def test_a_notebook_without_text_creates_it(lesson):
    pairing.twin(lesson).unlink()
    assert sync(lesson) == ["text/04_size.py written"]
    assert pairing.twin(lesson).read_text() == TEXT


def test_an_edited_text_updates_the_notebook_and_keeps_the_outputs_of_other_cells(lesson):
    replace(pairing.twin(lesson), "return 2 * n", "return n + n")
    assert sync(lesson) == ["04_size.ipynb written, 2 of 3 code cells keep their outputs"]
    assert outputs(lesson) == [["output 1\n"], [], ["output 3\n"]]
    assert pairing.differences(lesson) == []


def test_a_moved_cell_takes_its_output_along(lesson):
    body = TEXT.partition("# %% nbval")[0]
    cell = '# %% nbval={"rtol": 0.001}\nprint(double(3))\n\n'
    pairing.twin(lesson).write_text(
        body.replace('# %% tags=["parameters"]', cell + '# %% tags=["parameters"]')
    )
    sync(lesson)
    assert outputs(lesson) == [["output 3\n"], ["output 1\n"], ["output 2\n"]]


def test_two_equal_cells_keep_their_own_outputs(lesson):
    pairing.twin(lesson).write_text(TEXT + "\n# %%\nprint(double(3))\n")
    sync(lesson)
    with edited(lesson) as notebook:
        notebook.cells[-1].outputs = [
            nbformat.v4.new_output("stream", name="stdout", text="last\n")
        ]
    replace(pairing.twin(lesson), "A sentence", "Another sentence")
    sync(lesson)
    assert outputs(lesson) == [["output 1\n"], ["output 2\n"], ["output 3\n"], ["last\n"]]
    assert len({cell.id for cell in nbformat.read(lesson, as_version=4).cells}) == 5


def test_a_changed_tag_alone_travels_and_costs_no_output(lesson):
    replace(pairing.twin(lesson), '"define", ', "")
    sync(lesson)
    assert nbformat.read(lesson, as_version=4).cells[2].metadata.tags == [
        "ledger:eq-conv-output-size"
    ]
    assert outputs(lesson)[1] == ["output 2\n"]


def hidden(notebook):
    cells = nbformat.read(notebook, as_version=4).cells
    return [cell.metadata.get("jupyter", {}).get("source_hidden", False) for cell in cells]


def test_the_tag_fold_collapses_a_cell_of_the_notebook_and_its_absence_opens_it(lesson):
    text = pairing.twin(lesson)
    assert hidden(lesson) == [False] * 4
    replace(text, 'tags=["define",', 'tags=["fold", "define",')
    sync(lesson)
    assert hidden(lesson) == [False, False, True, False]
    assert "source_hidden" not in text.read_text()
    assert pairing.differences(lesson) == [] and sync(lesson) == []
    with edited(
        lesson
    ) as content:  # as JupyterLab does when a reader opens one cell and collapses another
        del content.cells[2].metadata["jupyter"]
        content.cells[3].metadata["jupyter"] = {"source_hidden": True, "outputs_hidden": True}
    sync(lesson)
    assert hidden(lesson) == [False, False, True, False]
    replace(text, '"fold", ', "")
    sync(lesson)
    assert hidden(lesson) == [False] * 4 and outputs(lesson) == [
        ["output 1\n"],
        ["output 2\n"],
        ["output 3\n"],
    ]


def test_a_notebook_edited_in_jupyterlab_updates_the_text(lesson):
    with edited(lesson) as notebook:
        notebook.cells[0].source = "# A better question?"
        notebook.cells.append(
            nbformat.v4.new_code_cell("1 + 1", metadata={"collapsed": True, "vscode": {"a": 1}})
        )
    lines = sync(lesson)
    assert "text/04_size.py written" in lines
    assert (
        pairing.twin(lesson).read_text()
        == TEXT.replace("# # What is the size?\n# A sentence with $x^2$.", "# # A better question?")
        + "\n# %%\n1 + 1\n"
    )
    assert outputs(lesson)[0] == ["output 1\n"]
    assert sync(lesson) == []


def test_when_both_changed_nothing_is_written_and_the_message_says_what_differs(lesson):
    replace(pairing.twin(lesson), "return 2 * n", "return n + n")
    with edited(lesson) as notebook:
        notebook.cells[2].source = "def double(n):\n    return n * 2"
    before = lesson.read_text(), pairing.twin(lesson).read_text()
    with pytest.raises(
        TwinError, match=r"both changed.*cell 3: line 2 is '    return n \+ n' in the text"
    ) as caught:
        sync(lesson)
    assert "--prefer text" in str(caught.value)
    assert (lesson.read_text(), pairing.twin(lesson).read_text()) == before


@pytest.mark.parametrize(
    "side, line", [("text", "    return n + n"), ("notebook", "    return n * 2")]
)
def test_the_side_that_is_preferred_wins_a_conflict(lesson, side, line):
    replace(pairing.twin(lesson), "return 2 * n", "return n + n")
    with edited(lesson) as notebook:
        notebook.cells[2].source = "def double(n):\n    return n * 2"
    sync(lesson, prefer=side)
    assert pairing.differences(lesson) == []
    assert line in pairing.twin(lesson).read_text()


def test_a_preference_does_not_throw_away_an_edit_of_the_other_side_alone(lesson):
    replace(pairing.twin(lesson), "return 2 * n", "return n + n")
    sync(lesson, prefer="notebook")
    assert "return n + n" in pairing.twin(lesson).read_text()
    assert pairing.differences(lesson) == []


def test_a_conflict_in_one_lesson_does_not_hold_up_the_others(lesson):
    replace(pairing.twin(lesson), "return 2 * n", "return n + n")
    with edited(lesson) as notebook:
        notebook.cells[2].source = "def double(n):\n    return n * 2"
    (lesson.parent / "text" / "05_other.py").write_text(TEXT)
    with pytest.raises(TwinError):
        sync(lesson)
    assert (lesson.parent / "05_other.ipynb").exists()


def test_the_same_edit_on_both_sides_is_no_conflict(lesson):
    replace(pairing.twin(lesson), "return 2 * n", "return n + n")
    with edited(lesson) as notebook:
        notebook.cells[2].source = "def double(n):\n    return n + n"
    sync(lesson)
    replace(pairing.twin(lesson), "return n + n", "return n * 2")
    sync(lesson)
    assert pairing.differences(lesson) == []


@pytest.mark.parametrize("age, refused", [(+10, False), (-10, True)])
def test_a_notebook_that_remembers_no_sync_gives_way_to_a_newer_text_only(lesson, age, refused):
    with edited(lesson) as notebook:
        del notebook.metadata["cnncourse"]
    replace(pairing.twin(lesson), "return 2 * n", "return n + n")
    seconds = lesson.stat().st_mtime + age
    os.utime(pairing.twin(lesson), (seconds, seconds))
    if refused:
        with pytest.raises(TwinError, match="no record of a last sync"):
            sync(lesson)
    else:
        sync(lesson)
        assert pairing.differences(lesson) == []


def test_noise_of_editors_and_versions_is_dropped_and_does_not_count_as_a_difference(lesson):
    with edited(lesson) as notebook:
        notebook.metadata.language_info = {"name": "python", "version": "3.99.0"}
        notebook.metadata.widgets = {"state": {}}
        notebook.cells[3].metadata.update(
            {"execution": {"x": "2026"}, "papermill": {"duration": 1}, "collapsed": True}
        )
        notebook.cells[0].metadata.tags = []
        for number, cell in enumerate(notebook.cells):
            cell.id = f"scribble{number}"
    assert pairing.differences(lesson) == []
    sync(lesson)
    content = lesson.read_text()
    assert not any(
        noise in content for noise in ("3.99", "widgets", "papermill", "scribble", "2026")
    )
    assert pairing.twin(lesson).read_text() == TEXT


def test_a_picture_pasted_into_a_text_cell_stays_in_the_notebook(lesson):
    with edited(lesson) as notebook:
        notebook.cells[0].attachments = {"a.png": {"image/png": "AAAA"}}
        notebook.cells[3].source = "print(double(4))"
    sync(lesson)
    assert nbformat.read(lesson, as_version=4).cells[0].attachments == {
        "a.png": {"image/png": "AAAA"}
    }


def test_notebook_wide_tolerances_are_kept_on_both_sides(lesson):
    with edited(lesson) as notebook:
        notebook.metadata.nbval = {"rtol": 1e-6}
    assert pairing.differences(lesson) == ["metadata nbval: text None, notebook {'rtol': 1e-06}"]
    sync(lesson)
    assert "nbval:\n#     rtol: 1.0e-06" in pairing.twin(lesson).read_text()
    assert pairing.read_text(pairing.twin(lesson)).metadata.nbval == {"rtol": 1e-6}
    assert pairing.differences(lesson) == []


@pytest.mark.parametrize(
    "old, new, says",
    [
        (
            "return 2 * n",
            "return 3 * n",
            "cell 3: line 2 is '    return 3 * n' in the text, '    return 2 * n' in the",
        ),
        (
            "print(double(3))",
            "print(double(3))\n1",
            "cell 4: line 2 is '1' in the text, nothing more in the notebook",
        ),
        ('"define", ', "", "cell 3: {'tags': ['ledger:eq-conv-output-size']} in the text, "),
        ('# %% nbval={"rtol": 0.001}\n', "", "the text has 3 cells, the notebook 4"),
        (
            "# %% [markdown]\n# # What",
            "# %%\n# # What",
            "cell 1: code in the text, markdown in the notebook",
        ),
    ],
)
def test_a_difference_is_named_by_cell_and_line(lesson, old, new, says):
    replace(pairing.twin(lesson), old, new)
    assert any(line.startswith(says) for line in pairing.differences(lesson))


def test_a_missing_text_is_a_difference(lesson):
    pairing.twin(lesson).unlink()
    assert pairing.differences(lesson) == ["there is no text text/04_size.py"]


@pytest.mark.parametrize("content", ["", '{"cells": [', "[]", '{"cells": 3}'])
def test_a_notebook_that_is_cut_short_is_a_lesson_error_and_is_not_overwritten(lesson, content):
    lesson.write_text(content)
    with pytest.raises(LessonError, match="delete it and run"):
        sync(lesson)
    assert lesson.read_text() == content


@pytest.mark.parametrize(
    "name", ["04", "4", "size", "04_size", "04_size.ipynb", "notebooks/text/04_size.py"]
)
def test_a_lesson_is_chosen_by_any_of_its_names(lesson, name):
    replace(pairing.twin(lesson), "2 * n", "n + n")
    (lesson.parent / "text" / "05_other.py").write_text(TEXT)
    assert len(sync(lesson, lessons=[name])) == 1
    assert not (lesson.parent / "05_other.ipynb").exists()


def test_an_unknown_lesson_or_side_names_the_choices(lesson):
    with pytest.raises(ParameterError, match="choose one of 04_size"):
        sync(lesson, lessons=["05"])
    with pytest.raises(ParameterError, match="'text' or 'notebook'"):
        sync(lesson, prefer="mine")


def test_code_that_jupytext_could_misread_survives_the_way_there_and_back(tmp_path):
    sources = [
        "%matplotlib inline",
        "!ls",
        "# %% not a cell",
        "x = '''\n# %%\n'''",
        "",
        "a = 1\n\n\n",
        "def f(): ...",
        "# only",
    ]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in sources]
    )
    notebook.cells.append(
        nbformat.v4.new_markdown_cell('```python\n# %%\n```\n\n- [ ] $a_1$ \\\\ """')
    )
    path = tmp_path / "04_odd.ipynb"
    nbformat.write(notebook, path)
    pairing.sync(folder=tmp_path)
    assert pairing.differences(path) == []
    assert pairing.sync(folder=tmp_path) == []


def test_the_current_sources_are_those_of_the_side_that_changed_and_nothing_is_written(lesson):
    before = lesson.read_text()
    assert pairing.as_text(pairing.current(lesson)) == TEXT
    replace(pairing.twin(lesson), "2 * n", "n + n")
    assert "n + n" in pairing.current(lesson).cells[2].source
    assert not any(cell.get("outputs") for cell in pairing.current(lesson).cells)
    assert lesson.read_text() == before
    with edited(lesson) as notebook:
        notebook.cells[2].source = "1"
    with pytest.raises(TwinError, match="both changed"):
        pairing.current(lesson)
    assert pairing.current(lesson, prefer="notebook").cells[2].source == "1"


def test_the_current_sources_come_from_the_only_file_there_is(lesson):
    text = pairing.twin(lesson).read_text()
    lesson.rename(lesson.with_name("05_only.ipynb"))
    assert pairing.as_text(pairing.current(lesson)) == text
    assert pairing.as_text(pairing.current(lesson.with_name("05_only.ipynb"))) == text


def test_the_command_says_what_was_written_and_that_all_is_in_step(lesson, monkeypatch, capsys):
    folder = lesson.parent.parent / "course"
    folder.mkdir()
    lesson.parent.rename(folder / "notebooks")
    monkeypatch.setattr(pairing.paths, "root", lambda: folder)
    replace(folder / "notebooks" / "text" / "04_size.py", "2 * n", "n + n")
    assert pairing.main() == 0
    assert (
        capsys.readouterr().out == "04_size.ipynb written, 2 of 3 code cells keep their outputs\n"
    )
    assert pairing.main(["04"]) == 0
    assert capsys.readouterr().out == "notebooks and texts are in step\n"


ODD = [
    ("markdown", "The loss is\n$$\n%% of one image\nL = -\\log p_y\n$$"),
    ("markdown", "  %% indented\n\\%% escaped already\n\\\\%% twice"),
    ("code", "x = 1\n# %% then the rest\n#%% and more\ny = x + 1"),
    ("code", "# \\%% escaped already\nx = '%%'\nz = '''\n%% in a text\n'''"),
    ("code", "line = 'one\u2028two\u2029three\x0cfour\x0bfive\x85six\x1cseven'"),
    ("markdown", "one\u2028two\x0cthree"),
    ("markdown", "# +\n# -\n---\njupyter:"),
]


@pytest.mark.parametrize("order", [1, -1])
def test_lines_that_would_begin_a_cell_and_rare_line_breaks_travel_both_ways(tmp_path, order):
    cells = ODD[::order]
    make = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    content = nbformat.v4.new_notebook(cells=[make[kind](source) for kind, source in cells])
    for cell in content.cells:
        if cell.cell_type == "code":
            cell.outputs = [nbformat.v4.new_output("stream", text=cell.source)]
    notebook = tmp_path / "04_odd.ipynb"
    nbformat.write(content, notebook)
    sync(notebook)
    found = nbformat.read(notebook, as_version=4).cells
    assert [(cell.cell_type, cell.source) for cell in found] == cells
    assert [cell.outputs for cell in found if cell.cell_type == "code"] == [
        cell.outputs for cell in content.cells if cell.cell_type == "code"
    ]
    assert sync(notebook) == [] and pairing.differences(notebook) == []
    replace(pairing.twin(notebook), "y = x + 1", "y = x + 2")
    sync(notebook)
    changed = [(kind, source.replace("y = x + 1", "y = x + 2")) for kind, source in cells]
    found = nbformat.read(notebook, as_version=4).cells
    assert [(cell.cell_type, cell.source) for cell in found] == changed


def test_a_cell_that_a_text_cannot_hold_is_refused_by_its_number_and_nothing_is_written(tmp_path):
    notebook = tmp_path / "04_odd.ipynb"
    cells = [nbformat.v4.new_markdown_cell("# a"), nbformat.v4.new_code_cell("x = 'a\rb'")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), notebook)
    before = notebook.read_bytes()
    with pytest.raises(LessonError, match=r"cells that a text can hold[\s\S]*cell 2"):
        sync(notebook)
    assert notebook.read_bytes() == before and not pairing.twin(notebook).exists()


def test_progress_bars_of_a_live_jupyterlab_are_left_out_of_the_notebook(lesson):
    with edited(lesson) as content:
        data = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"},
                "text/plain": "100%|#####| 9/9 [00:01<00:00]"}  # fmt: skip
        content.cells[3].outputs.insert(0, nbformat.v4.new_output("display_data", data=data))
    replace(pairing.twin(lesson), "2 * n", "n + n")
    sync(lesson)
    assert "widget-view" not in lesson.read_text() and outputs(lesson)[2] == ["output 3\n"]


@pytest.mark.parametrize("name", ["4.5", "0", "00", "4x", "04_size.txt"])
def test_what_only_looks_like_a_lesson_is_refused(lesson, name):
    with pytest.raises(ParameterError, match="number or name of a lesson"):
        sync(lesson, lessons=[name])
