"""The functions of a lesson as a module: what runs, what does not, and what an error shows."""

import inspect
import pickle
import textwrap
import traceback

import pytest

from cnncourse import lab
from cnncourse.errors import LessonError, ParameterError
from cnncourse.lab.definitions import from_text

LESSON = '''\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Sizes

# %% tags=["parameters"]
seed: int = 0  # of everything random

# %% tags=["imports"]
import math
from dataclasses import dataclass

# %%
raise RuntimeError("an experiment ran")

# %% tags=["define", "ledger:eq-conv-output-size"]
def size(n):
    """Half of n."""
    return math.ceil(half(n))

# %% tags=["define"]
def half(n):
    return n / 2


# %% tags=["define"]
@dataclass
class Layer:
    kernel: int = 3
    def broken(self):
        return 1 / 0
'''


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "04_sizes.py"
    path.write_text(LESSON)
    return path


def test_imports_and_definitions_run_and_experiments_do_not(text):
    lesson = from_text(text)
    assert lesson.size(7) == 4
    assert lesson.Layer(5) == lesson.Layer(kernel=5)
    assert not hasattr(lesson, "seed")


def test_the_source_of_a_function_and_of_a_class_is_that_of_the_cell(text):
    lesson = from_text(text)
    assert (
        inspect.getsource(lesson.size)
        == 'def size(n):\n    """Half of n."""\n    return math.ceil(half(n))\n'
    )
    assert inspect.getsource(lesson.Layer).startswith(
        "@dataclass\nclass Layer:\n    kernel: int = 3"
    )


def test_a_traceback_shows_the_line_of_the_text(text):
    with pytest.raises(ZeroDivisionError) as caught:
        from_text(text).Layer().broken()
    frame = traceback.extract_tb(caught.tb)[-1]
    assert (frame.filename, frame.line) == (str(text), "return 1 / 0")
    assert LESSON.splitlines()[frame.lineno - 1].strip() == "return 1 / 0"


def test_what_a_lesson_defines_can_be_pickled(text):
    lesson = from_text(text)
    assert pickle.loads(pickle.dumps(lesson.Layer(7))) == lesson.Layer(7)


def test_an_edited_text_is_read_anew(text):
    assert from_text(text).half(3) == 1.5
    text.write_text(LESSON.replace("n / 2", "n / 3"))
    assert from_text(text).half(3) == 1.0


def test_a_name_that_is_not_defined_names_the_nearest(text):
    with pytest.raises(AttributeError, match="lesson_04 defines no 'sizes': did you mean 'size'"):
        from_text(text).sizes()


@pytest.mark.parametrize(
    "cell, says",
    [
        ("total = seed + 1", "NameError: name 'seed' is not defined"),
        ("def f(:\n    pass", "SyntaxError"),
        ("import no_such_module", "No module named 'no_such_module'"),
    ],
)
def test_a_cell_that_raises_is_named_with_its_line(text, cell, says):
    text.write_text(LESSON + textwrap.dedent(f'\n# %% tags=["define"]\n{cell}\n'))
    with pytest.raises(LessonError) as caught:
        from_text(text)
    message = str(caught.value)
    assert says in message
    assert (
        f"04_sizes.py, cell 8 from line {LESSON.count(chr(10)) + 3}: {cell.splitlines()[0]}"
        in message
    )
    assert "no parameters or results" in message


def test_an_unknown_lesson_is_a_parameter_error():
    with pytest.raises(ParameterError, match="number or name of a lesson"):
        lab.definitions("99")
