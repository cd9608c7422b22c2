"""A text to read letter by letter (lesson 17): one that ships with scikit-learn, a published one, or your own file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cnncourse.data.downloaded import root
from cnncourse.errors import DataError
from cnncourse.paths import resolved

SHA256 = {
    "descriptions": "efcc63d1a838d2134e9078ff3e2d7c6b66098f891425d381cef4879fe3ca390f",
    "tinyshakespeare": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
}
SHORTEST = 10_000  # letters


def text(name: str) -> str:
    """The text of a name, or of a file of at least 10,000 letters.

    name: "descriptions", the 14 descriptions of data sets in scikit-learn 1.9.1 (43,054 letters, BSD licence);
    "tinyshakespeare" (1,115,394 letters, from ``root()/tinyshakespeare/input.txt``; Karpathy 2015); or a path.

    >>> len(data.text("descriptions"))
    43054

    Raises `DataError` for a file that is missing, too short, or, of the two with a name, another one than that.
    """
    if name == "descriptions":
        import sklearn

        folder = Path(sklearn.__file__).parent / "datasets" / "descr"
        files = sorted(folder.glob("*.rst"))
        remedy = "install scikit-learn 1.9.1, or give a text file: -p corpus FILE"
    elif name == "tinyshakespeare":
        folder = root() / name
        files = [folder / "input.txt"]
        remedy = "put it there, set CNNCOURSE_DATA, or leave the parameter out: a text ships with the course"
    else:
        folder = resolved(name)
        files = [folder]
        remedy = 'check the path, or take "descriptions", which ships with the course'
    for file in files:
        if not file.is_file():
            raise DataError("a text file", "none", where=file, remedy=remedy)
    found = "".join(file.read_text(encoding="utf-8", errors="replace") for file in files)
    digest = hashlib.sha256(found.encode()).hexdigest()
    if digest != SHA256.get(name, digest):
        raise DataError(
            f"the text {name}, SHA-256 {SHA256[name][:8]}",
            f"{len(found):,} letters, SHA-256 {digest[:8]}",
            where=folder,
            remedy=remedy,
        )
    if len(found) < SHORTEST:
        raise DataError(
            f"a text of at least {SHORTEST:,} letters",
            f"{len(found):,}",
            where=folder,
            remedy="give a longer text",
        )
    return found
