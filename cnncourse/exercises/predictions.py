"""A question before the measurement: buttons in a live JupyterLab that open the answer, words everywhere else."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

from IPython import get_ipython
from IPython.display import DisplayHandle, display

from cnncourse import widgets
from cnncourse.errors import ParameterError, nearest

# While nobody has chosen, this hides what follows: {shut} is the cell of the buttons, {answer} what `reveal` shows.
# Figure and claims stand in the code cells right behind the answer: they are hidden too, and the text after them.
# Once the kernel is gone the buttons lead nowhere, so that nothing is hidden by them any more.
# Errors always show; JupyterLab gives them the MIME type of stderr.
CELLS_BEHIND, TEXTS_BEHIND = 4, 2
BEHIND = [" + .jp-CodeCell" * cells for cells in range(CELLS_BEHIND + 1)]
OUTPUTS = [
    "{shut} ~ .jp-Cell:has(~ .jp-Cell {answer})",
    *("{shut} ~ .jp-Cell:has({answer})" + cells for cells in BEHIND),
    ".jp-Notebook:not(:has({answer})) {shut} ~ .jp-Cell",
]
TEXTS = [
    "{shut} ~ .jp-MarkdownCell:has(~ .jp-Cell {answer})",
    *(
        "{shut} ~ .jp-Cell:has({answer})" + cells + " + .jp-MarkdownCell" * texts
        for cells in BEHIND
        for texts in range(1, TEXTS_BEHIND + 1)
    ),
]
ASKED = re.compile(r'<div class="gate gate-([\w-]+)"><b>Predict:</b>(.*)</div>', re.DOTALL)
CHILD = ".jp-OutputArea-child:not(:has([data-mime-type$=stderr]))"
HIDE = f"""
<style>
{", ".join(f"{cell} {CHILD}" for cell in OUTPUTS)}
  {{{{ display: none }}}}
{", ".join(f"{cell} .jp-OutputArea:has(.jp-OutputArea-child)::before" for cell in OUTPUTS)}
  {{{{ content: "hidden until you have chosen above"; font-style: italic; opacity: 0.6;
    margin-left: var(--jp-cell-prompt-width) }}}}
{", ".join(f"{cell} .jp-MarkdownOutput" for cell in TEXTS)}
  {{{{ filter: blur(6px); user-select: none }}}}
</style>
"""


@dataclass
class Gate:
    """One prediction of this kernel: what was asked, chosen and measured."""

    id: str
    question: str
    choices: tuple[str, ...]
    chosen: str | None = None
    measured: tuple[str, str] | None = (
        None  # the right choice, and the sentence that gives its numbers
    )
    shown: DisplayHandle | None = None  # of the sentence, where it can still change

    def asked(self, with_buttons: bool = False) -> dict:
        """The question in words, with its choices where no buttons follow."""
        before, after = ("(", ")") if self.question.rstrip().endswith("?") else ("", "?")
        text, words = (
            " / ".join(self.choices),
            " / ".join(f"<i>{html.escape(word)}</i>" for word in self.choices),
        )
        text, words = f"{before}{text}{after}", f"{before}{words}{after}"
        if with_buttons:
            text = words = "" if self.question.rstrip().endswith((":", "?")) else "…"
        page = f"<b>Predict:</b> {html.escape(self.question, quote=False)} {words}"
        return {
            "text/plain": f"Predict: {self.question} {text}",
            "text/html": f'<div class="gate {_name("gate", self.id)}">{page}</div>',
        }

    def told(self) -> dict:
        """What was measured, and whether the prediction was right."""
        answer, sentence = self.measured
        if self.chosen is None:
            head = f"Measured: {answer}."
        elif self.chosen == answer:
            head = f"✓ Measured: {answer}, as you predicted."
        else:
            head = f"✗ Measured: {answer}. You predicted: {self.chosen}."
        page = f"<b>{html.escape(head, quote=False)}</b> {html.escape(sentence, quote=False)}"
        return {
            "text/plain": f"{head} {sentence}".strip(),
            "text/html": f'<div class="answer {_name("answer", self.id)}">{page}</div>',
        }


@dataclass(frozen=True)
class Asked:
    """A question as a notebook stores it, in HTML: what a page or a slide makes of it is theirs."""

    name: str  # of the prediction in style sheets, "14-p1"
    words: str
    choices: tuple[str, ...]


def asked(page: str) -> Asked | None:
    """The question that `Gate.asked` wrote as HTML; None for another output.

    >>> asked(Gate("14.p1", "It", ("falls", "stays")).asked()["text/html"])
    Asked(name='14-p1', words='It', choices=('falls', 'stays'))
    """
    found = ASKED.fullmatch(page.strip())
    if found is None:
        return None
    words = found[2].partition("<i>")[0].strip().removesuffix("(").rstrip()
    return Asked(found[1], words, tuple(re.findall(r"<i>(.*?)</i>", found[2])))


_gates: dict[str, Gate] = {}


def predict(id: str, question: str, choices: Sequence[str]) -> None:
    """Ask for a prediction before the cells that measure it.

    >>> predict("14.p1", "Gradient at the first block of plain-56 with BatchNorm:", ("vanishes", "stays", "explodes"))
    Predict: Gradient at the first block of plain-56 with BatchNorm: vanishes / stays / explodes?

    In a live JupyterLab the choices are buttons, and the outputs from here to `reveal`, with those of the code cells
    right behind it, stay hidden until one is pressed; the first choice counts. Elsewhere (papermill, nbval, nbconvert,
    a terminal) the question stands there as text, the same on every machine, and nothing waits.

    id: lesson and number, ``"14.p1"``. Raises `ParameterError` for another form, or fewer than two different choices.
    """
    where = f"exercises.predict({id!r}, ...)"
    if not re.fullmatch(r"\d\d\.p\d+", str(id)):
        raise ParameterError(
            "the id of a prediction such as '14.p1'",
            repr(id),
            where=where,
            remedy="write the two digits of the lesson, .p and a number",
        )
    words = isinstance(choices, list | tuple) and all(isinstance(word, str) for word in choices)
    if not words or len(set(choices)) < max(2, len(choices)):
        raise ParameterError(
            "two or more different choices, in words",
            repr(choices),
            where=where,
            remedy="write a tuple such as ('falls', 'stays', 'rises')",
        )
    gate = _gates[id] = Gate(id, question, tuple(choices))
    live = widgets.is_live()
    _show(gate.asked(with_buttons=live))
    if live:
        _show_buttons(gate)


def reveal(id: str, answer: str, sentence: str) -> None:
    """Say what was measured, and whether the prediction `id` was right.

    >>> reveal("14.p1", "explodes" if ratio > 10 else "stays", "The gradient is {:.0f} times as long.".format(ratio))
    Measured: explodes. The gradient is 1040 times as long.

    answer: one of the choices of `predict`, computed from what was measured. sentence: its numbers in words.
    Raises `ParameterError` for an answer that was no choice.
    """
    gate = _gates.get(id) or Gate(
        id, "", (answer,)
    )  # asked in a kernel that is gone: nothing was chosen
    if answer not in gate.choices:
        raise ParameterError(
            f"one of the choices {', '.join(gate.choices)}",
            repr(answer),
            where=f"exercises.reveal({id!r}, ...)",
            remedy=nearest(str(answer), gate.choices),
        )
    gate.measured = (answer, sentence)
    gate.shown = _show(gate.told(), changes=widgets.is_live())


def _show(data: dict, changes: bool = False) -> DisplayHandle | None:
    if get_ipython() is None:
        print(data["text/plain"])
        return None
    return display(data, raw=True, display_id=True if changes else None)


def _show_buttons(gate: Gate) -> None:
    import ipywidgets

    buttons = ipywidgets.ToggleButtons(options=gate.choices, value=None)
    shut = f".jp-Cell:has(.{_name('shut', gate.id)}:not(.jupyter-widgets-disconnected))"
    curtain = ipywidgets.HTML(HIDE.format(shut=shut, answer=f".{_name('answer', gate.id)}"))

    def choose(change: dict) -> None:
        gate.chosen = change["new"]
        buttons.disabled = True  # the first choice counts
        curtain.value = ""
        if gate.shown is not None:
            gate.shown.update(gate.told(), raw=True)

    buttons.observe(choose, names="value")
    box = ipywidgets.VBox([buttons, curtain])
    box.add_class(_name("shut", gate.id))
    widgets.show(box)


def _name(part: str, id: str) -> str:
    """A name for style sheets: ``gate-14-p1``."""
    return f"{part}-{id.replace('.', '-')}"
