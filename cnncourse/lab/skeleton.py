"""A lesson to begin with: the anatomy as cells, and what the ledger wants of the lesson as a list to work off."""

from __future__ import annotations

import textwrap
from pathlib import Path

from cnncourse import paths
from cnncourse.errors import ParameterError, nearest
from cnncourse.lab import pairing

KINDS = {  # of the ledger, in the order of the list
    "figure": "figures to draw",
    "worked-number": "numbers",
    "equation/algorithm": "equations and algorithms",
    "empirical-claim": "claims to measure",
    "architecture": "architectures",
    "practice": "practices",
    "erratum": "errata, for the corrections",
}
CELLS = '''\
# %% [markdown]
# # {number} · {title}
# ### The question of the lesson?
#
# **The surprise.** The lesson's central picture, and one sentence on what is odd about it.
#
# **You will be able to**
# - do something that can be tested.
#
# **You need** the lessons it builds on.
#
# **It costs** about 25 seconds on one core, without a network connection.

# %% tags=["parameters"]
seed: int = 0  # of everything drawn at random; at least 0

# %% tags=["imports", "fold"]
from cnncourse import claims, exercises, figures, runtime

figures.use_style()
runtime.start(seed=seed)

# %% [markdown]
# ## 1. The first idea

# %%
exercises.predict("{number}.p1", "What happens:", ("this", "that"))

# %% tags=["define"]
def measure(value):
    """The few lines that are the idea."""
    return value


# %%
measured = measure(seed)
exercises.reveal("{number}.p1", "this" if measured > 0 else "that", f"It is {{measured}}.")

# %% [markdown]
# We now know …
# This does not show …

# %% [markdown]
# ## In practice
# What an engineer does today, with the names of the functions in torch, torchvision and timm, in five lines.
#
# ## History
# Dates and sources, in five lines.

# %% [markdown]
# ## Exercises

# %% [markdown]
# ## Summary

# %% [markdown]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|

# %% [markdown]
# ## Sources
'''


def new(name: str) -> Path:
    """Write ``notebooks/text/NN_slug.py`` of a lesson that is in the ledger and not written yet; returns its place.

    >>> new("05").name
    '05_activation-functions.py'

    Raises `ParameterError` for a lesson that the ledger does not have, or that is there already.
    """
    planned = sorted({item["notebook"] for item in paths.ledger().values()})
    number = str(name).zfill(2)
    found = [slug for slug in planned if str(name) in (slug, slug[3:]) or number == slug[:2]]
    if not found:
        raise ParameterError(
            "the number or name of a planned lesson",
            repr(name),
            where="notebooks/ledger.yaml",
            remedy=nearest(str(name), [*planned, *(slug[:2] for slug in planned)]),
        )
    slug = found[0]
    if slug in paths.slugs():
        raise ParameterError(
            "a lesson that is not written yet",
            slug,
            where="notebooks/",
            remedy=f"edit notebooks/text/{slug}.py",
        )
    title = slug[3:].replace("-", " ").capitalize()
    cells = CELLS.format(number=slug[:2], title=title)
    text = pairing.as_text(pairing.parsed(f"{cells}\n{todo(slug)}"))  # as `sync` would write it
    return paths.write(paths.notebooks() / "text" / f"{slug}.py", text)


def todo(slug: str) -> str:
    """The ledger's items of a lesson as a Markdown cell, kind by kind: what to say, how to check it, what is wrong."""
    items = [item for item in paths.ledger().values() if item["notebook"] == slug]
    lines = [
        "# %% [markdown]",
        "# ## To do",
        "# The ledger's items; this cell goes when all of them are covered.",
    ]
    for kind, title in KINDS.items():
        chosen = [item for item in items if item["kind"] == kind]
        if chosen:
            lines += ["#", f"# ### {len(chosen)} {title}"]
        for item in chosen:
            lines += _lines(f"- `{item['id']}` {item['statement']}")
            for name in ("check", "correction"):
                if item.get(name):
                    lines += _lines(f"  *{name}:* {item[name]}")
    return "\n".join(lines) + "\n"


def _lines(text: str) -> list[str]:
    wrapped = textwrap.wrap(
        " ".join(text.split()) if text[0] != " " else "  " + " ".join(text.split()),
        width=116,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [f"# {line}" for line in wrapped]
