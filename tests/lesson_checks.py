"""What the tests of several lessons ask of an exercise's check, and how they list its planted mistakes."""

import pytest

from cnncourse import exercises
from cnncourse.exercises import Wrong


def rejects(id: str, *answers, saying: str) -> None:
    """The check of exercise `id` refuses these answers, and `saying` matches its message."""
    with pytest.raises(Wrong, match=saying):
        exercises.find(id).check(*answers)


def planted(mistakes: dict[str, list[tuple[str, object]]]) -> pytest.MarkDecorator:
    """Runs a test (id, answer, words) for each mistake of ``{exercise: [(words of its message, answer), ...]}``."""
    cases = [(id, answer, words) for id, pairs in mistakes.items() for words, answer in pairs]
    names = [f"{id} {words}" for id, _, words in cases]
    return pytest.mark.parametrize(("id", "answer", "words"), cases, ids=names)
