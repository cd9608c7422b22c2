"""The lint of lessons: a lesson as it should be has no problems, and each planted defect is named."""

import json

import nbformat
import pytest

from cnncourse import claims, paths
from cnncourse.lab import lint, pairing

TEXT = '''\
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
# # 04 Sizes
# It costs about 5 seconds.
# **You will be able to** halve.

# %% tags=["parameters"]
seed: int = 0  # of everything random; at least 0
sizes: list[int] = [1, 2]  # to halve; each 1 to 9
rate: float = 0.5  # of change; above 0

# %% tags=["imports", "fold"]
import math

from cnncourse import claims, exercises, figures

# %% tags=["define", "ledger:eq-half"]
"""Halving."""
LIMIT = 3


def half(n):
    return n / 2

# %%
total = half(sizes[0]) * rate + seed
print(total)

# %% tags=["fold"]
claims.check("num-half", "Half of two is {half}.", half=(half(2), "==", 1.0))

# %% tags=["fold"]
figures.save(figure, "fig-half", caption="c", alt="a")

# %%
exercises.predict("04.p1", "Half of three:", ("one", "more"))

# %%
exercises.reveal("04.p1", "more" if half(3) > 1 else "one", "It is 1.5.")

# %% [markdown]
# ## In practice
# `torch.div`.
# ### History
# Old.
# ## Exercises

# %% [markdown]
# ## Summary

# %% [markdown] tags=["ledger:err-half"]
# ## Corrections
# | the notes say | correct | how we know |
# |---|---|---|
# | 1 | 2 | the notes say 1 |

# %% [markdown]
# ## Sources
'''

LEDGER = {
    id: {"id": id, "kind": kind, "statement": f"about {id}", "notebook": notebook}
    for id, kind, notebook in [
        ("num-half", "worked-number", "04_sizes"),
        ("eq-half", "equation/algorithm", "04_sizes"),
        ("err-half", "erratum", "04_sizes"),
        ("fig-half", "figure", "04_sizes"),
        ("num-other", "worked-number", "05_other"),
    ]
}


class Lesson:
    """A stored lesson that a test can damage: by its text (executed again or not) or by its notebook."""

    def __init__(self, folder):
        self.notebook = folder / "04_sizes.ipynb"
        (folder / "text").mkdir()
        (folder / "presets").mkdir()
        self.preset("{}")
        self.write(TEXT)

    def write(self, text):
        self.text = text
        pairing.twin(self.notebook).write_text(text)
        pairing.sync(folder=self.notebook.parent, prefer="text")
        content = nbformat.read(self.notebook, as_version=4)
        code = [cell for cell in content.cells if cell.cell_type == "code"]
        for count, cell in enumerate(code, start=1):
            cell.execution_count = count
            cell.outputs = self.outputs(cell.source)
        nbformat.write(content, self.notebook)

    def outputs(self, source):
        if "print" in source:
            return [nbformat.v4.new_output("stream", name="stdout", text="0.25\n")]
        if "exercises." in source:
            return [nbformat.v4.new_output("stream", name="stdout", text="text\n")]
        if "claims.check" in source:
            data = {
                "id": "num-half",
                "verdict": "holds",
                "measured": 1.0,
                "relation": "==",
                "bound": 1.0,
            }
            return [
                nbformat.v4.new_output(
                    "display_data", data={"text/plain": "row", claims.MIME: data}
                )
            ]
        if "figures.save" in source:
            return [
                nbformat.v4.new_output(
                    "display_data",
                    data={"image/png": "AAAA", "text/plain": "a"},
                    metadata={"image/png": {"alt": "a"}},
                )
            ]
        return []

    def replace(self, old, new):
        assert old in self.text
        self.write(self.text.replace(old, new))

    def damage(self, change):
        content = nbformat.read(self.notebook, as_version=4)
        change(content)
        nbformat.write(content, self.notebook)

    def preset(self, content):
        (self.notebook.parent / "presets" / "full.yaml").write_text(content)

    def problems(self):
        return lint.check(self.notebook)


@pytest.fixture
def lesson(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ledger", lambda: LEDGER)
    (tmp_path / "notebooks").mkdir()
    return Lesson(tmp_path / "notebooks")


def test_a_lesson_as_it_should_be_has_no_problems(lesson):
    assert lesson.problems() == []


LONG = "\n".join(f"x{number} = {number}" for number in range(31))


@pytest.mark.parametrize(
    "old, new, says",
    [
        ('# %% tags=["parameters"]\nseed', "# %%\nseed", "0 cells are tagged parameters"),
        ("# %%\ntotal", '# %% tags=["parameters"]\ntotal', "2 cells are tagged parameters"),
        ("  # to halve; each 1 to 9", "", "parameter sizes has no comment"),
        ("sizes: list[int] =", "sizes =", "is no typed literal"),
        ("[1, 2]  #", "[1, 2.5]  #", "the default of sizes, [1, 2.5], is no list[int]"),
        ("= 0.5  #", "= '0.5'  #", "the default of rate, '0.5', is no float"),
        ("= 0.5  #", "= 1 / 2  #", "is computed, not a literal"),
        ("seed: int = 0", "sede: int = 0", "there is no parameter `seed: int = 0"),
        (
            "seed: int = 0  # of everything random; at least 0",
            "seed: int = 0  # a\nseed: int = 1  # b",
            "seed stands there twice",
        ),
        (" * rate", "", "parameter rate is not used in any cell"),
        ("import math\n", "import math\nmath.pi\n", "`math.pi` is no import"),
        ('tags=["imports",', 'tags=["import",', "tag 'import'; is 'imports' meant?"),
        ('tags=["imports",', 'tags=["other",', "0 cells are tagged imports"),
        ("LIMIT = 3\n", "LIMIT = 3\nprint(LIMIT)\n", "`print(LIMIT)` belongs in a cell of its own"),
        ("print(total)", "print(total);", "a trailing `;`"),
        ("print(total)", "for x in sizes:\n    print(x);\n", "a trailing `;`"),
        ("print(total)", "%time print(total)", "not plain Python"),
        ("print(total)", "!pip install torch\nprint(total)", "an install command, `pip install`"),
        ("# ## Sources", "# ## Sources\n# Run `conda env create` first.", "an install command"),
        ("print(total)", LONG + "\nprint(total)", "33 lines of code; split it at 30"),
        ("print(total)\n", "print(total)\n\n# %%\n", "the cell is empty"),
        ("# **You will be able to** halve.", "# Halving.", "there is no section with goals"),
        (
            "| the notes say | correct | how we know |",
            "| said | meant | why |",
            "there is no section `## Corrections` with a table",
        ),
        ("# ## Exercises", "# ## Tasks", "there is no section 'Exercises'"),
        ("# ## Sources", "# ## Ende", "there is no section 'Sources'"),
        ("# # 04 Sizes", "# Sizes", "the first cell is no Markdown title"),
        (
            '"ledger:eq-half"',
            '"ledger:eq-halve"',
            "'ledger:eq-halve' names no item of the ledger; did you mean 'eq-half'?",
        ),
        (', "ledger:eq-half"', "", "ledger item eq-half is not covered: about eq-half"),
        (
            'claims.check("num-half"',
            'claims.check("num-halve.2"',
            "claim 'num-halve.2' names no item of the ledger",
        ),
        (' tags=["ledger:err-half"]', "", "ledger item err-half is not covered"),
        (
            '"fig-half"',
            '"fig-halves"',
            "figure 'fig-halves' names no item of the ledger; did you mean 'fig-half'?",
        ),
        (
            '"fig-half"',
            '"num-other"',
            "figure fig-half is neither saved nor left out by a tag `not-drawn:fig-half`",
        ),
        (
            'figures.save(figure, "fig-half", caption="c", alt="a")\n',
            'figures.save(figure, "fig-half", caption="c", alt="a")\n'
            'figures.save(figure, "fig-half", caption="c", alt="a")\n',
            "figure 'fig-half' is saved in cell 7 too",
        ),
        (
            'figures.save(figure, "fig-half", caption="c", alt="a")',
            'name = "fig-half"\nfigures.save(figure, name, caption="c", alt="a")',
            ": write the id into figures.save",
        ),
        (
            '"ledger:err-half"',
            '"ledger:err-half", "not-drawn:fig-haf"',
            "no figure of this lesson; did you mean 'fig-half",
        ),
        (
            "# %%\ntotal",
            '# %% tags=["raises-exception"]\ntotal',
            "show a deliberate error with try and except",
        ),
        ("# %%\ntotal", '# %% tags=["nbval-rtol=tight"]\ntotal', "'tight'"),
        ("# %%\ntotal", '# %% nbval={"rtl": 1}\ntotal', "did you mean 'rtol'"),
        (
            "# %%\ntotal",
            '# %% tags=["nbval-ignore-outputs"]\ntotal',
            "is 'nbval-ignore-output' meant?",
        ),
    ],
)
def test_a_defect_of_the_text_is_named(lesson, old, new, says):
    lesson.replace(old, new)
    assert any(says in problem for problem in lesson.problems()), lesson.problems()


@pytest.mark.parametrize(
    "old, new",
    [
        ("print(total)", "print('a;')  # ;"),
        ("print(total)", "a = 1; print(a)"),
        ('"""Halving."""\nLIMIT = 3\n', '"""Halving."""\n' + LONG + "\n"),
        ('"fig-half"', '"fig-half.detail"'),
        (
            'figures.save(figure, "fig-half", caption="c", alt="a")',
            "figure = 1  # drawn by hand, see the table",
        ),
        (
            "# of everything random; at least 0",
            "# of everything random; at least 0\nname: str | None = None  # of it; any text\n"
            "flag: bool = True  # or not\npair: tuple[int, int] = (1, 2)  # two; each above 0\n"
            "low: float = 1  # a whole number; at most 5\n",
        ),
    ],
)
def test_what_is_allowed_is_no_problem(lesson, old, new):
    lesson.replace(old, new)
    if "by hand" in new:
        lesson.replace('"ledger:err-half"', '"ledger:err-half", "not-drawn:fig-half"')
    if "flag" in new:
        lesson.replace("print(total)", "print(total, name, flag, pair, low)")
    assert lesson.problems() == []


def test_a_lesson_that_was_never_run_has_only_that_problem(lesson):
    def forget(content):
        for cell in content.cells:
            if cell.cell_type == "code":
                cell.update(execution_count=None, outputs=[])

    lesson.damage(forget)
    assert lesson.problems() == ["no cell has been executed: run `python -m cnncourse store`"]


def test_a_claim_whose_cell_waits_for_execution_is_not_missing(lesson):
    lesson.damage(lambda content: content.cells[5].update(execution_count=None, outputs=[]))
    assert [problem.partition("): ")[2] for problem in lesson.problems()] == [
        "not executed since it was edited"
    ]


def stream(text, name="stdout"):
    return nbformat.v4.new_output("stream", name=name, text=text)


@pytest.mark.parametrize(
    "change, says",
    [
        (
            lambda content: content.cells[4].update(execution_count=None),
            "not executed since it was edited",
        ),
        (lambda content: content.cells[4].update(execution_count=9), "executed as number 9, not 4"),
        (
            lambda content: [
                cell.update(execution_count=None)
                for cell in content.cells
                if cell.cell_type == "code"
            ],
            "no cell has been executed",
        ),
        (
            lambda content: content.cells[4].update(outputs=[]),
            "cell 5 (total = half(sizes[0]) * rate + seed): `print(",
        ),
        (
            lambda content: content.cells[5].update(outputs=[]),
            "`claims.check(...)` without a stored output",
        ),
        (
            lambda content: content.cells[4].outputs.append(
                stream("/a.py:1: UserWarning: odd\n", "stderr")
            ),
            "a warning or other text on stderr, '/a.py:1: UserWarning: odd'",
        ),
        (
            lambda content: content.cells[4].outputs.append(
                nbformat.v4.new_output("error", ename="KeyError", evalue="1")
            ),
            "a stored error, KeyError: 1",
        ),
        (
            lambda content: content.cells[4].update(outputs=[stream("epoch 1\repoch 2")]),
            "a control character",
        ),
        (
            lambda content: content.cells[4].update(
                outputs=[stream(" 50%|#####     | 5/10 [00:01<00:01,  4.9it/s]")]
            ),
            "a text progress bar",
        ),
        (
            lambda content: content.cells[4].update(outputs=[stream("\x1b[31mred")]),
            "a control character",
        ),
        (
            lambda content: content.cells[4].update(outputs=[stream("see /home/ann/course")]),
            "a path of this machine",
        ),
        (
            lambda content: content.cells[4].update(outputs=[stream("C:\\Users\\ann")]),
            "a path of this machine",
        ),
        (
            lambda content: content.cells[4].update(outputs=[stream("<f at 0x7f00aa11bb22>")]),
            "an address in memory",
        ),
        (
            lambda content: content.metadata.kernelspec.update(name="conda-x"),
            "kernelspec is 'conda-x', not 'python3'",
        ),
        (lambda content: content.metadata.update(widgets={"state": {}}), "the state of widgets"),
        (
            lambda content: content.cells[6].outputs[0].update(metadata={}),
            "cell 7 (figures.save(figure",
        ),
        (
            lambda content: content.cells[4].outputs.append(
                nbformat.v4.new_output("display_data", data={"image/png": "AAAA"})
            ),
            "a picture without alternative text; show it by `figures.show(fig, alt=",
        ),
        (lambda content: content.metadata.update(nbval={"rtol": -1}), "notebook metadata nbval"),
        (
            lambda content: content.cells[0].update(source="# Other\ngoals"),
            "text twin: cell 1: line 1 is",
        ),
        (
            lambda content: content.cells[5].outputs[0].data[claims.MIME].update(id="num-halve"),
            "claim 'num-halve' names no item of the ledger; did you mean 'num-half'?",
        ),
        (
            lambda content: content.cells[5].outputs[0].data[claims.MIME].update(verdict="false"),
            "is false in the stored",
        ),
        (
            lambda content: content.cells[5].outputs.append(content.cells[5].outputs[0]),
            "'num-half' stands in cell 6 too",
        ),
        (
            lambda content: content.cells[5].outputs[0].data.pop(claims.MIME),
            "ledger item num-half is not covered",
        ),
    ],
)
def test_a_defect_of_the_notebook_is_named(lesson, change, says):
    lesson.damage(change)
    assert any(says in problem for problem in lesson.problems()), lesson.problems()


def test_a_progress_bar_of_a_widget_is_no_text_progress_bar(lesson):
    bar = {
        "text/plain": "  0%|          | 0/10 [00:00<?, ?it/s]",
        "application/vnd.jupyter.widget-view+json": {"model_id": "a"},
    }
    lesson.damage(
        lambda content: content.cells[4].outputs.append(
            nbformat.v4.new_output("display_data", data=bar)
        )
    )
    assert lesson.problems() == []


@pytest.mark.parametrize(
    "preset, says",
    [
        ('{"04": {"rates": 0.1}}', "presets/full.yaml: lesson 04 has no parameter rates"),
        ('{"04": {"rate": "fast"}}', "presets/full.yaml: 'fast' is no rate of type float"),
        (
            '{"04": {"sizes": [3, x]}}',
            "presets/full.yaml: ['3', 'x'] is no sizes of type list[int]",
        ),
        ('{"04": {"seed": true}}', "presets/full.yaml: 'true' is no seed of type int"),
        ('{"04": {"rate": 1, "sizes": [4, 5]}, "05": {"any": 1}}', ""),
        ("", ""),
    ],
)
def test_a_preset_names_parameters_of_the_lesson_with_their_types(lesson, preset, says):
    lesson.preset(preset)
    assert lesson.problems() == ([says] if says else [])


@pytest.mark.parametrize("preset", ["{", "[1]", '{"04": 3}'])
def test_a_preset_file_that_is_no_table_is_named(lesson, preset):
    lesson.preset(preset)
    assert "presets/full.yaml is no table" in "".join(lesson.problems())


def test_a_missing_text_notebook_or_a_broken_notebook_is_one_problem(lesson):
    pairing.twin(lesson.notebook).unlink()
    assert lesson.problems() == ["text twin: there is no text text/04_sizes.py"]
    lesson.notebook.write_text("{")
    assert "expected a notebook" in lesson.problems()[0]
    lesson.notebook.unlink()
    assert "there is no notebook 04_sizes.ipynb" in lesson.problems()[0]


def test_the_check_prints_every_problem_and_answers_by_its_status(lesson, monkeypatch, capsys):
    monkeypatch.setattr(paths, "notebooks", lambda: lesson.notebook.parent)
    assert lint.main() == 0
    assert capsys.readouterr().out == "04_sizes: no problems\n"
    lesson.replace("print(total)", "print(total);")
    assert lint.main(["04"]) == 1
    assert capsys.readouterr().out.startswith("04_sizes: 1 problem\n  - cell 5 (total")


def test_the_check_changes_nothing(lesson):
    before = lesson.notebook.read_bytes(), pairing.twin(lesson.notebook).read_bytes()
    lesson.problems()
    assert (lesson.notebook.read_bytes(), pairing.twin(lesson.notebook).read_bytes()) == before
    assert json.loads(before[0])["metadata"]["kernelspec"]["name"] == "python3"
