"""What a sweep leaves to read: a table with a row for each point, how often each claim holds, a picture for each claim.

results.csv     parameters, every claim's measured values and verdict, the last training's history, seconds, ...
results.parquet the same, where pyarrow is installed
histories.csv   a row for each training of each point: the history at its end
claims.csv      a row for each claim and combination of the grid: in how many runs it was made, in how many it held
claims/         a picture for each claim with a number: its value over the grid, with the interval over the seeds
"""

from __future__ import annotations

import csv
import importlib
import importlib.util
import io
import itertools
import json
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cnncourse import paths
from cnncourse.claims import relations, words
from cnncourse.lab import grid
from cnncourse.lab.lesson import Lesson

SENTENCE = 90  # characters of a claim's sentence that the summary shows
DOTS_PER_INCH = 100  # of its pictures
LINES = 6  # of one picture; with more combinations of the other axes their mean is drawn
LABELS = {"time": "out of time", "memory": "out of memory", "killed": "killed with its worker"}


def told(record: Mapping) -> str:
    """What became of a point, in a line: ``"41 s on node7 3, 38 of 40 claims hold"``."""
    if record["status"] != "complete":
        return f"{LABELS.get(record['status'], record['status'])}: {textwrap.shorten(record['error'], 200)}"
    made = judged(record)
    holds = sum(claim["verdict"] == "holds" for claim in made)
    return f"{record['seconds']:.0f} s on {record['worker']}, {holds} of {len(made)} claims hold"


def judged(record: Mapping) -> list[dict]:
    """The claims of a point that were measured, not quoted."""
    return [claim for claim in record["claims"] if "source" not in claim]


def row(record: Mapping, seed: int = 0) -> dict[str, object]:
    """The columns of a point in results.csv.

    Of a claim with several seeds within the run the mean is its value; of a training of several networks at once, too.
    """
    found = {"status": record["status"], **record["parameters"], "seed_number": seed}
    for claim in judged(record):
        for name, value in claim["measured"].items():
            found[f"claim/{claim['id']}/{name}"] = (
                value["mean"] if isinstance(value, dict) else value
            )
        found[f"claim/{claim['id']}/verdict"] = claim["verdict"]
    provenance = record["provenance"]
    for name, value in (provenance.get("histories") or [{}])[-1].items():
        found[f"history/{name}"] = _mean(value)
    return found | {
        "seconds": record["seconds"],
        "core_seconds": provenance.get("core_seconds"),
        "memory_gb": None if record["memory"] is None else round(record["memory"] / 1e9, 3),
        "device": provenance.get("device_name") or provenance.get("device"),
        "worker": record["worker"],
        "error": " ".join(record["error"].split()),
        "commit": provenance.get("commit"),
        "hash": record["hash"],
    }


class Results:
    """The files of a sweep, written anew whenever a point is known; the order of rows is that of the points."""

    def __init__(
        self,
        lesson: Lesson,
        axes: Sequence[grid.Axis],
        jobs: Sequence[tuple[grid.Point, dict]],
        folder: Path,
    ):
        self.lesson, self.axes, self.folder = lesson, list(axes), folder
        self.points = {job["hash"]: one for one, job in jobs}

    def write(self, records: Mapping[str, dict]) -> None:
        """results.csv, results.parquet, histories.csv and claims.csv of the points that are known."""
        known = [(self.points[hash], records[hash]) for hash in self.points if hash in records]
        table = [row(record, one.seed) for one, record in known]
        histories = [
            {"hash": record["hash"], "training": number, **history}
            for _, record in known
            for number, history in enumerate(record["provenance"].get("histories") or [], 1)
        ]
        claims = [
            {"claim": id, "sentence": sentence, **place, "runs": made, "holds": held}
            for id, sentence, place, made, held in self.counted(records)
        ]
        paths.write(self.folder / "results.csv", as_csv(table))
        paths.write(self.folder / "histories.csv", as_csv(histories))
        paths.write(self.folder / "claims.csv", as_csv(claims))
        if importlib.util.find_spec("pyarrow"):
            paths.write(self.folder / "results.parquet", as_parquet(table))

    def counted(self, records: Mapping[str, dict]) -> list[tuple[str, str, dict, int, int]]:
        """(claim, sentence, values on the axes, runs that made it, runs in which it held), by claim and place."""
        counts: dict[tuple[str, str], list] = {}
        for hash, one in self.points.items():
            for claim in judged(records[hash]) if hash in records else ():
                place = json.dumps(one.place)
                sentence = claim.get("template", claim["sentence"])
                entry = counts.setdefault((claim["id"], place), [sentence, one.place, 0, 0])
                entry[2] += 1
                entry[3] += claim["verdict"] == "holds"
        ids = list(dict.fromkeys(id for id, _ in counts))
        return [
            (id, *entry)
            for id, (key, entry) in itertools.product(ids, counts.items())
            if key[0] == id
        ]

    def summary(self, records: Mapping[str, dict]) -> str:
        """In how many of the runs each sentence holds, and where it does not in all of them."""
        counted, lines = self.counted(records), []
        for id, entries in itertools.groupby(counted, key=lambda entry: entry[0]):
            entries = list(entries)
            made, held = (sum(entry[place] for entry in entries) for place in (3, 4))
            fewer = [
                f"{_place(entry[2])}: {entry[4]} of {entry[3]}"
                for entry in entries
                if entry[4] < entry[3]
            ]
            where = "; ".join(fewer) if self.axes else ""
            sentence = textwrap.shorten(entries[0][1], SENTENCE, placeholder=" ...")
            lines.append(
                (
                    f"{held} of {made}",
                    id,
                    sentence,
                    textwrap.shorten(where, SENTENCE, placeholder=" ..."),
                )
            )
        complete = sum(record["status"] == "complete" for record in records.values())
        stopped = [f"{len(records) - complete} did not run through: failed/"] * (
            complete < len(records)
        )
        ended = "; ".join([f"{complete} of {len(self.points)} points ran through", *stopped])
        head = ("holds in", "claim", "sentence", "in fewer runs at")
        table = words.aligned([head, *lines], SENTENCE) if lines else ["no claim was made"]
        return "\n".join([*table, "", f"{ended}; {paths.shown(self.folder / 'results.csv')}"])

    def draw(self, records: Mapping[str, dict]) -> list[Path]:
        """A PNG for each claim that has a number with a requirement; returns the files."""
        from cnncourse import figures

        figures.use_style()
        complete = {
            hash: record for hash, record in records.items() if record["status"] == "complete"
        }
        claims: dict[str, dict] = {}
        for record in complete.values():
            for claim in judged(record):
                claims.setdefault(claim["id"], claim)
        made = []
        for id, claim in claims.items():
            series = {name: self._series(complete, id, name) for name in claim["required"]}
            series = {name: found for name, found in series.items() if found}
            if series:
                made.append(self._picture(claim, series))
        return made

    def _series(
        self, records: Mapping[str, dict], id: str, name: str
    ) -> dict[str, dict[object, list[float]]]:
        """Of a claim's value: line (values of the other axes) to place on the first axis to numbers, one a seed."""
        first, *others = [axis.name for axis in self.axes] or [None]
        lines: dict[str, dict[object, list[float]]] = {}
        for hash, one in self.points.items():
            for claim in judged(records[hash]) if hash in records else ():
                value = claim["measured"].get(name) if claim["id"] == id else None
                value = value["mean"] if isinstance(value, dict) else value
                if isinstance(value, bool) or not isinstance(value, int | float):
                    continue
                line = _place({other: one.place[other] for other in others})
                at = grid.short(one.place[first]) if first else ""
                lines.setdefault(line, {}).setdefault(at, []).append(value)
        if len(lines) <= LINES:
            return lines
        merged: dict[object, list[float]] = {}
        for at, values in itertools.chain(*(line.items() for line in lines.values())):
            merged.setdefault(at, []).extend(values)
        return {f"all of {', '.join(others)}": merged}

    def _picture(
        self, claim: dict, series: dict[str, dict[str, dict[object, list[float]]]]
    ) -> Path:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        from cnncourse import figures

        sentence = textwrap.fill(claim.get("template", claim["sentence"]), 90, max_lines=3)
        head = f"{claim['id']}\n{sentence}"
        heights = 0.25 * (head.count("\n") + 2), 2.2 * len(series), 0.6  # inches, top to bottom
        figure = Figure(figsize=(figures.WIDTH, sum(heights)), dpi=DOTS_PER_INCH, layout="none")
        grid_of_axes = figure.subplots(
            len(series),
            squeeze=False,
            gridspec_kw={
                "left": 0.12,
                "right": 0.98,
                "top": 1 - heights[0] / sum(heights),
                "bottom": heights[2] / sum(heights),
                "hspace": 0.45,
            },
        )
        for axes, (name, lines) in zip(grid_of_axes[:, 0], series.items(), strict=True):
            self._line_up(axes, lines)
            axes.set_ylabel(name)
            axes.set_title(f"required: {claim['required'][name]}", fontsize=11)
        figure.text(0.02, 1 - 0.1 / sum(heights), head, va="top", fontsize=11)
        buffer = io.BytesIO()
        FigureCanvasAgg(figure).print_png(buffer)
        return paths.write(self.folder / "claims" / f"{claim['id']}.png", buffer.getvalue())

    def _line_up(self, axes, lines: dict[str, dict[object, list[float]]]) -> None:
        """Means with the 95 % interval of the mean over the seeds."""
        axis = self.axes[0] if self.axes else grid.Axis("", ("",))
        labels = [grid.short(value) for value in axis.values]
        numeric = all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in axis.values
        )
        x = dict(zip(labels, axis.values if numeric else range(len(labels)), strict=True))
        for label, found in lines.items():
            at = [one for one in labels if one in found]
            means = [math.fsum(found[one]) / len(found[one]) for one in at]
            ends = [relations.interval(found[one]) for one in at]
            below = [max(0.0, mean - low) for mean, (low, _) in zip(means, ends, strict=True)]
            above = [max(0.0, high - mean) for mean, (_, high) in zip(means, ends, strict=True)]
            axes.errorbar(
                [x[one] for one in at], means, [below, above], marker="o", capsize=3, label=label
            )
        if numeric and axis.spacing == "log":
            axes.set_xscale("log")
        axes.set_xticks(list(x.values()), labels)
        axes.minorticks_off()
        axes.set_xlabel(axis.name)
        if len(lines) > 1:
            axes.legend()


def as_csv(rows: Iterable[Mapping[str, object]]) -> str:
    """Rows as CSV, a column for every name in any of them; lists as JSON, what is missing empty."""
    rows = list(rows)
    columns = _columns(rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[_cell(found.get(name)) for name in columns] for found in rows])
    return text.getvalue()


def as_parquet(rows: Iterable[Mapping[str, object]]) -> bytes:
    """The same as a Parquet file; a column of several types holds texts."""
    pyarrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    rows = list(rows)
    columns = {}
    for name in _columns(rows):
        values = [found.get(name) for found in rows]
        kinds = {type(value) for value in values if value is not None}
        if kinds == {int, float}:
            values = [None if value is None else float(value) for value in values]
        elif len(kinds) > 1 or kinds & {list, dict}:
            values = [None if value is None else str(_cell(value)) for value in values]
        columns[name] = values
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()


def _columns(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Every name, those of parameters first and the facts of the run last, as in the row that has most."""
    longest = max(rows, key=len, default={})
    return list(dict.fromkeys([*longest, *(name for found in rows for name in found)]))


def _cell(value: object) -> object:
    if isinstance(value, list | tuple | dict):
        return json.dumps(value)
    return "" if value is None else value


def _mean(value: object) -> object:
    numbers = isinstance(value, list) and all(isinstance(one, int | float) for one in value)
    return math.fsum(value) / len(value) if numbers and value else value


def _place(place: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={grid.short(value)}" for name, value in place.items())
