"""Parameters of lessons: their ranges are read from the comments, values are read from text and checked."""

import subprocess
import sys

import pytest

from cnncourse import parameters
from cnncourse.errors import ParameterError
from cnncourse.parameters import Parameter, Range, parse


@pytest.mark.parametrize(("text", "inside", "outside"), [
    ("1 to 200", [1, 200], [0, 201, True, "5"]),
    ("0 or 8 to 64", [0, 8, 64], [1, 7, 65, -8]),
    ("at least 1", [1, 10**9], [0]),
    ("at most 0.5", [0.5, -3], [0.51]),
    ("above 0", [1e-9], [0, -1]),
    ("above 0, below 1", [0.5], [0, 1]),
    ("each 8 to 200, each 6n + 2", [[8, 20, 56]], [[2], [55], [206], [20, 21]]),
    ("-1e-3 to 1_000", [-0.001, 1000], [-0.002, 1001]),
    ("one of digits, mnist", ["mnist"], ["cifar10", "digits, mnist", ""]),
    ("one of digits or mnist", ["mnist"], ["cifar10"]),
    ("one of digits, mnist, or a folder", ["digits", "."], ["no/such/folder", "a folder"]),
    ("one of digits, or a file", ["digits", __file__], [".", "a file"]),
    ("any text", ["x"], []),
    ("each 8 to 200, ascending", [[8], [20, 56]], [[56, 20], [20, 20], [7, 8], [20, 300]]),
    ("each at least 0, different", [[0, 5, 1]], [[1, 1], [-1]]),
    ("2 or more values, each at least 0", [[0, 1], [5, 3, 1]], [[0], [], [0, -1]]),
    ("2 to 3 values, each above 0", [[1, 2], [1, 2, 3]], [[1], [1, 2, 3, 4]]),
    ("2 values, each 1 to 5", [(1, 5)], [(1,), (1, 6)]),
    ("each one of relu, tanh", [["relu"], []], [["relu", "elu"]]),
])  # fmt: skip
def test_a_range_is_what_its_words_say(text, inside, outside):
    found = Range.read(text)
    assert [value for value in inside if not found.allows(value)] == []
    assert [value for value in outside if found.allows(value)] == []


@pytest.mark.parametrize(
    "text", ["", "0 means all of them", "one of", "1 to", "each", "1 to 5 and 7", "big"]
)
def test_words_that_are_no_range_are_none(text):
    assert Range.read(text) is None


def test_a_range_stands_behind_the_last_semicolon_of_the_comment():
    known = parse(
        "images: int = 0  # to use; 0 means all; at least 0\nwidth: int = 8  # of a; stage"
    )
    assert known["images"].range.text == "at least 0"
    assert known["width"].range is None


@pytest.mark.parametrize(("line", "given", "words"), [
    ("epochs: int = 4  # passes; 1 to 200", "0", ["epochs: int, 1 to 200", "got:   0", "like the default, 4: passes"]),
    ("depths: list[int] = [20, 56]  # layers; each 8 to 200, ascending", "[56, 20]", ["depths: list[int], each 8 to"]),
    ('data: str = "digits"  # set; one of digits, mnist', "mnits", ["did you mean 'mnist'?"]),
    ('data: str = "digits"  # set; one of digits, or a folder', "my/pics", ["there is no folder", "my/pics"]),
    ("limit: int | None = None  # images; at least 1", "0", ["limit: int | None, at least 1"]),
])  # fmt: skip
def test_a_value_out_of_range_is_refused_with_name_value_and_range(line, given, words):
    (parameter,) = parse(line).values()
    with pytest.raises(ParameterError) as refused:
        parameter.value(given)
    assert [word for word in words if word not in str(refused.value)] == []


def test_none_of_an_optional_parameter_has_no_range():
    (parameter,) = parse("limit: int | None = 5  # images; at least 1").values()
    assert parameter.value("none") is None


@pytest.mark.parametrize(("type", "given", "value"), [
    ("list[int]", "[010, 020]", [10, 20]), ("list[str]", "[no, yes]", ["no", "yes"]),
    ("list[str]", "[2024-01-01]", ["2024-01-01"]), ("list[str]", "['a, b', \"c\"]", ["a, b", "c"]),
    ("list[float]", "[1e-3, .5]", [0.001, 0.5]), ("list[str]", "null", ["null"]), ("list[str]", "[~]", ["~"]),
    ("list", "[1, 2.5, x]", [1, 2.5, "x"]), ("tuple[int, str]", "(1, a)", (1, "a")),
    ("tuple[list[int], ...]", "[[1, 2], [3]]", ([1, 2], [3])), ("list[int]", "[]", []), ("list[int]", "8,", [8]),
    ("str", "010", "010"), ("str", "no", "no"), ("int", "010", 10),
])  # fmt: skip
def test_text_is_read_as_python_and_json_write_it(type, given, value):
    assert Parameter("p", type, None).value(given) == value


@pytest.mark.parametrize(("type", "given"), [
    ("list[int]", "1:30"), ("list[float]", "12:30"), ("list[int]", "0o17"), ("list[int]", "[1, 2"),
    ("list[int]", "[1)"), ("list[str]", "['a]"), ("float", "nan"), ("float", "inf"),
    ("list[float]", "[1, inf]"), ("list[int]", "[1,,2]"), ("int", "\u0663"), ("list[float]", "[\u0663.5]"),
])  # fmt: skip
def test_what_is_no_number_of_python_or_json_is_refused(type, given):
    with pytest.raises(ParameterError):
        Parameter("p", type, 4).value(given)


def test_a_text_is_no_number_in_a_kernel():
    parameter = Parameter("epochs", "int", 4)
    assert parameter.value("5") == 5 and parameter.check(5) == 5
    with pytest.raises(ParameterError, match="epochs of type int"):
        parameter.check("5")
    assert not Parameter("depths", "list[int]", [8]).fits(["8"])


LESSON = """# %% [markdown]
# # 14 Small

# %% tags=["parameters"]
seed: int = 0  # of everything; at least 0
epochs: int = 4  # passes; 1 to 9

# %% tags=["imports"]
import math
"""


def test_the_committed_parameters_are_those_of_the_text(tmp_path, monkeypatch):
    (tmp_path / "notebooks" / "text").mkdir(parents=True)
    (tmp_path / "notebooks" / "text" / "14_small.py").write_text(LESSON)
    monkeypatch.setenv("CNNCOURSE_ROOT", str(tmp_path))
    assert {name: known.default for name, known in parameters.committed("14").items()} == {
        "seed": 0,
        "epochs": 4,
    }
    assert parameters.committed("14_small") == parameters.committed(14)
    assert parameters.committed("15") == {}
    assert parameters.changed("14", {"seed": 0, "epochs": 5, "other": 1}) == {"epochs": 5}
    assert parameters.changed("14", {"seed": False}) == {"seed": False}


@pytest.mark.parametrize(
    ("last", "told"), [("epochs = 10", "epochs: int, 1 to 9"), ("epochs = 9", "fine")]
)
def test_a_kernel_that_runs_a_lesson_by_hand_checks_its_values(last, told):
    cells = [LESSON.partition("\n# %% tags=[\"imports\"]")[0].partition("parameters\"]\n")[2], last,
             "from cnncourse import parameters", "parameters.check_kernel()", "print('fine')"]  # fmt: skip
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        f"for cell in {cells!r}:\n"
        "    if not shell.run_cell(cell, store_history=True).success: break\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told in ran.stdout and ("fine" in ran.stdout) == (told == "fine")


def test_outside_of_a_notebook_there_is_nothing_to_check():
    parameters.check_kernel()
