"""What the tests of several lessons ask of an exercise's check."""

import pytest

from cnncourse import exercises
from cnncourse.exercises import Wrong


def rejects(id: str, *answers, saying: str) -> None:
    """The check of exercise `id` refuses these answers, and `saying` matches its message."""
    with pytest.raises(Wrong, match=saying):
        exercises.find(id).check(*answers)
