"""Every parameter of a lesson is changed once, within its range; what stops is named."""

import pytest

from cnncourse import __main__ as command
from cnncourse.lab import vary
from cnncourse.parameters import Parameter

LESSON = """# %% tags=["parameters"]
seed: int = 0  # of everything; at least 0
epochs: int = 10  # passes; 1 to 200
width: int = 8  # channels; 2 to 64
fixed: int = 3  # no other; 3 to 3

# %%
print(seed, width)
1 / (epochs - 1)
"""


@pytest.mark.parametrize(("type", "default", "range", "value"), [
    ("int", 10, "1 to 200", 1), ("int", 1, "at least 1", 2), ("int", 3, "2 to 4", 2), ("float", 0.1, "above 0", 0.05),
    ("float", 1.0, "at least 1", 2.0), ("bool", False, "", True), ("int", 0, "0 or 1024 to 60000", 1024),
    ("list[int]", [8, 20], "each 8 to 20, ascending", [8]),
    ("list[int]", [20, 56], "2 values, each 8 to 200, each 6n + 2, ascending", [8, 56]),
    ("list[int]", [1, 2], "2 or more values, each 1 to 5", [1, 2, 2]), ("str", "b", "one of a, b, or a folder", "a"),
])  # fmt: skip
def test_the_first_value_to_try_is_a_small_one_in_range(type, default, range, value):
    assert vary.others(Parameter("p", type, default, f"what; {range}"))[0] == value


@pytest.mark.parametrize(
    ("type", "default", "range"),
    [("int", 3, "3 to 3"), ("str", "a", "any text"), ("str", "a", "one of a")],
)
def test_where_there_is_no_other_value_none_is_tried(type, default, range):
    assert vary.others(Parameter("p", type, default, f"what; {range}")) == []


def test_a_lesson_is_run_once_for_each_parameter_and_what_stops_is_named(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "notebooks" / "text").mkdir(parents=True)
    (tmp_path / "notebooks" / "text" / "14_resnet.py").write_text(LESSON)
    monkeypatch.setenv("CNNCOURSE_ROOT", str(tmp_path))
    assert command.main(["vary", "14"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said] == [
        "14  seed=1",
        "14  epochs=1",
        "14  width=2",
        "14  fixed=3",
    ]
    assert (
        "runs through" in said[0]
        and "stopped in cell 2" in said[1]
        and "ZeroDivisionError" in said[1]
    )
    assert "runs through" in said[2] and "not changed" in said[3]
