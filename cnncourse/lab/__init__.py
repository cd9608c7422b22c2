"""The workshop behind the lessons: run them, compare their numbers, keep their texts in step, read their functions."""

from cnncourse.lab.definitions import definitions

__all__ = ["definitions"]


def __getattr__(name: str):
    """``lab.twins``: the former name of `pairing`, which takes a second to import."""
    if name == "twins":
        from cnncourse.lab import pairing

        return pairing
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
