"""Exercises: stubs, right and wrong answers, hints and solutions, and what every lesson's exercises promise."""

from dataclasses import replace

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient

from cnncourse import exercises, paths
from cnncourse.errors import ParameterError
from cnncourse.exercises import Exercise, Wrong
from cnncourse.lab import definitions

LESSONS = sorted(paths.lessons())


def double(number):
    return 2 * number


def check_double(answer):
    if answer(3) != 6:
        raise Wrong(f"double(3) is {answer(3)}, not 6: multiply by two")
    return "twice three is six"


@pytest.fixture
def lesson(monkeypatch):
    item = Exercise("99.1", "Double a number", ("think of two", "2 * number"), check_double, double)
    monkeypatch.setattr(exercises, "of_lesson", lambda number: {"99.1": item})


def stub(number): ...


def documented_stub(number):
    """Give twice the number."""


def stub_with_default(number, factor=2):
    """Give twice the number."""
    pass


@pytest.mark.parametrize("answer", [..., None, stub, documented_stub, stub_with_default])
def test_an_unattempted_stub_says_so_and_does_not_raise(lesson, capsys, answer):
    exercises.check("99.1", answer)
    assert (
        capsys.readouterr().out
        == "99.1 not attempted yet - exercises.hint('99.1') gives a first step\n"
    )


def test_a_function_that_returns_a_constant_is_an_attempt(lesson, capsys):
    exercises.check("99.1", lambda number: 7)
    assert "not yet: double(3) is 7, not 6" in capsys.readouterr().out


def test_a_right_answer_says_what_it_shows(lesson, capsys):
    exercises.check("99.1", double)
    assert capsys.readouterr().out == "99.1 right: twice three is six\n"


def test_an_answer_that_raises_is_told_its_line_and_the_lesson_goes_on(lesson, capsys):
    def broken(number):
        return number / 0

    exercises.check("99.1", broken)
    assert "your code raised ZeroDivisionError: division by zero (line" in capsys.readouterr().out


def test_the_line_told_is_the_students_and_not_that_of_a_library(lesson, capsys):
    def broken(number):
        return np.concatenate([number])

    exercises.check("99.1", broken)
    line = broken.__code__.co_firstlineno + 1
    assert f"(line {line} in broken)" in capsys.readouterr().out


@pytest.mark.parametrize("answer", [7, "six", lambda number: "six", lambda: 6])
def test_an_answer_that_the_check_cannot_use_is_told_without_a_line_of_the_course(
    lesson, capsys, monkeypatch, answer
):
    monkeypatch.setattr(
        exercises, "_is_ours", lambda filename: True
    )  # the check stands in this file
    item = exercises.of_lesson("99")["99.1"]
    check = replace(item, check=lambda answer: check_double(lambda number: abs(answer(number))))
    monkeypatch.setattr(exercises, "of_lesson", lambda number: {"99.1": check})
    exercises.check("99.1", answer)
    said = capsys.readouterr().out
    assert said.startswith("99.1 not yet: the answer could not be used (TypeError: ")
    assert "line" not in said


@pytest.mark.parametrize("id", ["04.1", "4.1", 4.1, " 04.1 "])
def test_an_id_may_be_written_in_short_and_is_printed_in_full(capsys, id):
    exercises.check(id, ...)
    assert capsys.readouterr().out.startswith("04.1 not attempted yet - exercises.hint('04.1')")
    exercises.hint(id)
    assert "exercises.hint('04.1', 2)" in capsys.readouterr().out


def test_a_prediction_is_no_exercise():
    with pytest.raises(ParameterError, match="exercises.predict asks it"):
        exercises.check("14.p1", "stays")


@pytest.mark.parametrize(
    "answer", [np.int64(32), np.uint8(32), torch.tensor(32), np.array(32), 32, True]
)
def test_a_single_number_of_numpy_or_torch_is_a_number(capsys, monkeypatch, answer):
    def exact(count):
        if isinstance(count, bool) or not isinstance(count, int) or count != 32:
            raise Wrong(f"expected 32, got {count}")
        return "so it is"

    item = Exercise("99.1", "Count", ("32",), exact, lambda: 32, returns_answer=True)
    monkeypatch.setattr(exercises, "of_lesson", lambda number: {"99.1": item})
    exercises.check("99.1", answer)
    assert ("right" in capsys.readouterr().out) is not (answer is True)


@pytest.mark.parametrize("make", [np.asarray, torch.tensor, lambda values: values])
@pytest.mark.parametrize("type", ["float64", "float32", "bfloat16"])
def test_the_same_up_to_rounding_is_right_in_any_type(make, type):
    expected = np.array([[-10.523, 0.25], [3e-3, 7.0]])
    answer = expected.tolist()
    if make is not np.asarray and type == "bfloat16":
        answer = torch.tensor(answer).bfloat16()
        expected = answer.float().numpy()
    elif type == "float32":
        answer = expected.astype("float32")
        answer = torch.tensor(answer) if make is torch.tensor else answer
    exercises.expect_same(answer, expected, "the scores")


@pytest.mark.parametrize(
    "answer, expected, says",
    [
        (np.ones((2, 3)), np.ones((3, 2)), "the scores: expected shape (3, 2), got (2, 3)"),
        ([1.0, 2.5], [1.0, 2.0], "entry (1,) is 2.5, expected 2"),
        ([-10.523456], [-10.523457], "entry (0,) is -10.523456, expected -10.523457"),
        (np.float32([-10.5276]), [-10.5231], "entry (0,) is -10.53, expected -10.52"),
        (33, 32, "the scores: got 33, expected 32"),
        ([1.0, float("nan")], [1.0, 2.0], "entry (1,) is nan, expected 2"),
        ("ten", 10, "the scores: expected numbers, got str: 'ten'"),
    ],
)
def test_what_differs_is_named_with_digits_that_differ(answer, expected, says):
    with pytest.raises(Wrong) as caught:
        exercises.expect_same(answer, expected, "the scores")
    assert says in str(caught.value)


DOUBLED = [
    ([2.0, 5.0], "the half is missing"),
    ([[1.0], [2.5]], "a column"),
    ([-1.0, float("nan")], "a root of a negative number"),
    ([1.0, 2.5 + 1e-12], "this hint is right, so nobody may see it"),
]


@pytest.mark.parametrize(
    "make", [list, np.asarray, torch.tensor, lambda v: torch.tensor(v).float()]
)
@pytest.mark.parametrize("wrong, sentence", DOUBLED[:3])
def test_a_wrong_result_that_is_known_gets_its_sentence(make, wrong, sentence):
    with pytest.raises(Wrong) as caught:
        exercises.expect_same(make(wrong), [1.0, 2.5], "the slopes", DOUBLED)
    assert str(caught.value) == f"the slopes: {sentence}"


@pytest.mark.parametrize("answer", [[1.0, 2.5], [1.0, 2.5 + 1e-12], np.float32([1, 2.5])])
def test_a_hint_that_is_right_as_well_accuses_nobody(answer):
    exercises.expect_same(answer, [1.0, 2.5], "the slopes", DOUBLED)


def test_a_shape_that_is_known_gets_its_sentence_and_the_right_one_never():
    shapes = [((4, 6), "these are the weights"), ((7, 4), "never said: it is the right shape")]
    with pytest.raises(Wrong, match="the gradient: these are the weights"):
        exercises.expect_same(np.ones((4, 6)), np.ones((7, 4)), "the gradient", shapes=shapes)
    with pytest.raises(Wrong, match=r"expected shape \(7, 4\), got \(6, 4\)"):
        exercises.expect_same(np.ones((6, 4)), np.ones((7, 4)), "the gradient", shapes=shapes)
    with pytest.raises(Wrong, match=r"entry \(0, 0\) is 0, expected 1"):
        exercises.expect_same(np.zeros((7, 4)), np.ones((7, 4)), "the gradient", shapes=shapes)


def test_the_tolerance_is_in_units_of_the_largest_number_or_of_one():
    for size in (0.01, 1.0, 1000.0):
        unit = max(1.0, size)
        exercises.expect_same([size, 0.9e-6 * unit], [size, 0.0], "x", tolerance=1e-6)
        with pytest.raises(Wrong, match="entry"):
            exercises.expect_same([size, 1.1e-6 * unit], [size, 0.0], "x", tolerance=1e-6)


def test_infinities_and_nan_agree_with_themselves_only():
    numbers = [1.0, float("inf"), float("nan")]
    exercises.expect_same(numbers, numbers, "x")
    for place, other in ((1, float("-inf")), (1, 5.0), (2, 0.0), (0, float("inf"))):
        changed = [other if i == place else number for i, number in enumerate(numbers)]
        with pytest.raises(Wrong, match=rf"entry \({place},\) is {other:g}, expected"):
            exercises.expect_same(changed, numbers, "x")


def handed(number: str, exercise: Exercise) -> list:
    """What the lesson hands to a check behind the answer."""
    return [getattr(definitions(number), name) for name in exercise.given]


@pytest.mark.parametrize("number", LESSONS)
def test_every_printed_solution_runs_as_it_stands(number, capsys):
    for id, exercise in exercises.of_lesson(number).items():
        names: dict = {}
        exec(exercises.runnable_source(exercise.solution), names)
        answer = names[exercise.solution.__name__]
        answers = (answer,)
        if exercise.returns_answer:
            answer = answer()
            answers = answer if isinstance(answer, tuple) else (answer,)
        exercises.check(id, *answers, *handed(number, exercise))
        assert f"{id} right: " in capsys.readouterr().out


def test_hints_come_one_at_a_time_and_end_at_the_solution(lesson, capsys):
    exercises.hint("99.1")
    assert capsys.readouterr().out == "hint 1 of 2: think of two\nmore: exercises.hint('99.1', 2)\n"
    exercises.hint("99.1", 2)
    assert capsys.readouterr().out.endswith("more: exercises.solution('99.1')\n")
    with pytest.raises(ParameterError, match="a step from 1 to 2"):
        exercises.hint("99.1", 3)
    exercises.solution("99.1")
    assert "return 2 * number" in capsys.readouterr().out


def test_an_unknown_exercise_names_the_nearest(lesson):
    with pytest.raises(ParameterError, match="did you mean '99.1'"):
        exercises.find("99.2")


def test_an_exercise_of_a_lesson_without_exercises_says_which_ids_there_are():
    with pytest.raises(ParameterError, match="the id printed above the exercise"):
        exercises.find("88.1")


@pytest.mark.parametrize("number", LESSONS)
def test_every_lesson_has_an_exercise_for_each_of_its_ideas_with_hints_in_its_notebook(number):
    text = paths.lesson(number).read_text()
    known = exercises.of_lesson(number)
    assert 3 <= len(known) <= 8  # one for each of three to five ideas, and open ones
    for id, exercise in known.items():
        assert exercise.hints and exercise.title
        assert f'exercises.check(\\"{id}\\"' in text, f"{id} is not checked in the lesson"


@pytest.mark.parametrize("number", LESSONS)
def test_every_check_accepts_its_reference_solution_and_reports_a_stub(number, capsys):
    for id, exercise in exercises.of_lesson(number).items():
        exercises.check(id, *exercise.answers(), *handed(number, exercise))
        assert f"{id} right: " in capsys.readouterr().out
        exercises.check(id, ...)
        assert "not attempted" in capsys.readouterr().out


# Predictions


@pytest.fixture
def no_predictions(monkeypatch):
    monkeypatch.setattr(exercises.predictions, "_gates", {})


def test_a_prediction_outside_a_live_notebook_is_words_and_waits_for_nothing(
    no_predictions, capsys
):
    exercises.predict("14.p1", "The gradient", ("vanishes", "stays"))
    exercises.reveal("14.p1", "stays", "The ratio is 3.")
    assert capsys.readouterr().out == (
        "Predict: The gradient vanishes / stays?\nMeasured: stays. The ratio is 3.\n"
    )


def test_a_kernel_that_nobody_watches_stores_the_question_as_text_without_a_widget():
    source = (
        "from cnncourse import exercises\n"
        "exercises.predict('14.p1', 'Is 3 < 4 & so?', ('yes', 'no'))\n"
        "exercises.reveal('14.p1', 'yes' if 3 < 4 else 'no', '3 is less.')"
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    ran = NotebookClient(book, timeout=60).execute()
    assert "widgets" not in ran.metadata
    asked, told = ran.cells[0].outputs
    assert set(asked.data) == {"text/plain", "text/html"}
    assert asked.data["text/plain"] == "Predict: Is 3 < 4 & so? (yes / no)"
    assert 'class="gate gate-14-p1"' in asked.data["text/html"]
    assert "Is 3 &lt; 4 &amp; so?" in asked.data["text/html"]
    assert told.data["text/plain"] == "Measured: yes. 3 is less."
    assert 'class="answer answer-14-p1"' in told.data["text/html"]


def test_beside_buttons_the_question_does_not_repeat_the_choices():
    said = [
        exercises.predictions.Gate("14.p1", question, ("a", "b")).asked(with_buttons=True)
        for question in ("The gradient:", "Which?", "The gradient")
    ]
    assert [data["text/plain"].strip() for data in said] == [
        "Predict: The gradient:",
        "Predict: Which?",
        "Predict: The gradient …",
    ]


@pytest.mark.parametrize(
    "chosen, says",
    [
        ("stays", "✓ Measured: stays, as"),
        ("grows", "✗ Measured: stays. You predicted: grows."),
    ],
)
def test_the_sentence_says_whether_the_prediction_was_right(chosen, says):
    gate = exercises.predictions.Gate("14.p1", "It", ("grows", "stays"), chosen, ("stays", "By 3."))
    assert gate.told()["text/plain"].startswith(says)


@pytest.mark.parametrize(
    "id, choices, says",
    [
        ("14.1", ("a", "b"), "such as '14.p1'"),
        ("p1", ("a", "b"), "two digits of the lesson"),
        ("14.p1", ("a",), "two or more different choices"),
        ("14.p1", ("a", "a", "b"), "two or more different choices"),
        ("14.p1", (1, 2), "in words"),
        ("14.p1", "ab", "write a tuple"),
    ],
)
def test_a_prediction_that_cannot_be_asked_says_how(no_predictions, id, choices, says):
    with pytest.raises(ParameterError, match=says):
        exercises.predict(id, "It", choices)


def test_an_answer_that_was_no_choice_names_the_nearest(no_predictions, capsys):
    exercises.predict("14.p1", "It", ("grows", "stays"))
    with pytest.raises(ParameterError, match="did you mean 'stays'"):
        exercises.reveal("14.p1", "stay", "By 3.")


def test_an_answer_whose_question_was_asked_in_another_kernel_is_still_told(no_predictions, capsys):
    exercises.reveal("14.p1", "stays", "By 3.")
    assert capsys.readouterr().out == "Measured: stays. By 3.\n"
