"""The workshop behind the lessons: run them, compare their numbers, keep their texts in step, read their functions."""

from cnncourse.lab.definitions import definitions

__all__ = ["definitions"]
