"""The published figures of one folder: its index, its files, its gallery, and whether they belong together."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

from cnncourse import claims, paths
from cnncourse import figures as looks
from cnncourse.errors import LessonError, ParameterError
from cnncourse.lab import explorers, tolerance
from cnncourse.lab.lesson import Lesson

ENDINGS = ("svg", "png")
KEPT = ("sha256", "environment", "inches")  # of an entry whose files stay as they are


class Index:
    """The published figures of one folder: what index.json says of them, and the files beside it."""

    def __init__(self, target: Path):
        self.target, self.file = target, target / "index.json"
        try:
            self.entries: dict[str, dict] = (
                json.loads(self.file.read_text()) if self.file.exists() else {}
            )
        except ValueError as error:
            raise LessonError(
                "an index of figures",
                f"{error}",
                where=self.file,
                remedy="delete it: make figures writes it anew",
            ) from None

    def of(self, lesson: str) -> list[str]:
        """The ids of a lesson's published figures."""
        return sorted(id for id, entry in self.entries.items() if entry["lesson"] == lesson)

    def by_words(self, lesson: str) -> dict[str, tuple[str, dict]]:
        """A lesson's published figures by their alternative texts, which its stored pictures have: (id, entry)."""
        return {self.entries[id]["alt"]: (id, self.entries[id]) for id in self.of(lesson)}

    def intact(self, lesson: str) -> bool:
        """Whether every published file of a lesson is there and is the one that the index means."""
        return all(self._is_published(id) for id in self.of(lesson))

    def publish(self, lesson: str, run: Path, *, stored: bool = False) -> dict[str, str]:
        """Take over the figures of a finished run; returns id to "new", "changed", "same" or "removed".

        stored: the run is the one that the notebook shows; only then a figure of measured times replaces its like.
        """
        provenance = json.loads((run / "provenance.json").read_text())
        made = self._made(lesson, run)
        entries = {id: self._entry(lesson, record, provenance) for id, record in made.items()}
        rounded = set() if stored else self._rounded_otherwise(lesson, entries)
        states = {}
        for id, record in made.items():
            old, entry = self.entries.get(id), entries[id]
            keep = old is not None and self._is_published(id)
            if keep and id in rounded:
                states[id] = "same"
                continue
            keep = keep and (_timed(record, old) and not stored or self._stays(id, entry, run))
            if keep:
                entry |= {name: old[name] for name in KEPT}
            else:
                for ending in ENDINGS:
                    picture = (run / "figures" / f"{id}.{ending}").read_bytes()
                    paths.write(self.target / entry["files"][ending], picture)
            states[id] = "new" if old is None else "same" if keep and entry == old else "changed"
            self.entries[id] = entry
        for id in set(self.of(lesson)) - set(made):
            del self.entries[id]
            states[id] = "removed"
        self._write()
        self._sweep(lesson)
        return states

    def compare(self, lesson: str, run: Path) -> list[str]:
        """How the figures of a finished run differ from the published ones, a line each."""
        provenance = json.loads((run / "provenance.json").read_text())
        made, published = self._made(lesson, run), self.of(lesson)
        entries = {id: self._entry(lesson, record, provenance) for id, record in made.items()}
        rounded = self._rounded_otherwise(lesson, entries)
        found = [f"{id}: made by {lesson}, but not published" for id in made if id not in published]
        for id in published:
            if id not in made:
                found.append(f"{id}: published, but {lesson} does not make it any more")
                continue
            entry, new = self.entries[id], entries[id]
            equal = entry["environment"] == new["environment"]
            if not self._is_published(id):
                found.append(f"{id}: the published files are not those of index.json (sha256)")
            elif _timed(made[id], entry):
                pass  # no two runs draw the same times
            elif id in rounded:
                continue
            elif equal and entry["sha256"] != new["sha256"]:
                other = [end for end in ENDINGS if entry["sha256"][end] != new["sha256"][end]]
                how = "looks the same" if self._looks_the_same(id, run) else "looks different"
                what = " and ".join(other)
                found.append(f"{id}: other bytes in {what} on the same environment ({how})")
            elif not equal and not self._looks_the_same(id, run):
                where = "on another environment, where bytes are not compared"
                found.append(f"{id}: looks different ({where})")
            told = [name for name in new if name not in KEPT and new[name] != entry.get(name)]
            if told:
                found.append(f"{id}: another {' and '.join(told)} in index.json")
        return found

    def forget(self, lessons: set[str]) -> dict[str, list[str]]:
        """Remove the figures of lessons that are none of these any more; returns their ids by lesson."""
        explorers.forget(self.target, lessons)
        gone = sorted({entry["lesson"] for entry in self.entries.values()} - lessons)
        removed = {lesson: self.of(lesson) for lesson in gone}
        for lesson, ids in removed.items():
            for id in ids:
                del self.entries[id]
            self._write()
            self._sweep(lesson)
        return removed

    def gallery(self) -> None:
        """Write README.md: every figure with caption, alternative text and links, lesson by lesson."""
        self._write_if_new(self.target / "README.md", self.gallery_text())

    def gallery_text(self) -> str:
        """What README.md of the folder says while the index is as it is."""
        up = os.path.relpath(paths.notebooks(), self.target).replace(os.sep, "/")
        lines = ["# Figures", "", "Every figure of the course, made by `make figures` from the lesson above it.",
                 "Click a picture for its vector version.",
                 "`index.json` says with which parameters, seed, data and versions each was made.", ""]  # fmt: skip
        for lesson in sorted({entry["lesson"] for entry in self.entries.values()}):
            lines += [f"## [{_title(lesson)}]({up}/{lesson}.ipynb)", ""]
            for id in self.of(lesson):
                entry = self.entries[id]
                alt = re.sub(r"([\[\]])", r"\\\1", " ".join(entry["alt"].split()))
                lines += [f"### {id}", "", f"[![{alt}]({entry['files']['png']})]({entry['files']['svg']})", "",
                          " ".join(entry["caption"].split()), "",
                          f"*In words:* {' '.join(entry['alt'].split())}", ""]  # fmt: skip
        if not self.entries:
            lines += ["None yet.", ""]
        return "\n".join(lines)

    def problems(self) -> list[str]:
        """How index, files, gallery and the pictures stored in the notebooks disagree, a line each; runs nothing."""
        found = []
        for entry in self.entries.values():
            for ending in ENDINGS:
                path = self.target / entry["files"][ending]
                if not path.is_file():
                    found.append(f"{entry['files'][ending]}: named by index.json, but not there")
                elif sha256(path) != entry["sha256"][ending]:
                    found.append(f"{entry['files'][ending]}: not the file that index.json means")
        meant = {
            self.target / name
            for entry in self.entries.values()
            for name in entry["files"].values()
        }
        for path in sorted(path for ending in ENDINGS for path in self.target.rglob(f"*.{ending}")):
            if path not in meant and explorers.FOLDER not in path.parts:
                found.append(f"{path.relative_to(self.target)}: not named by index.json")
        gallery = self.target / "README.md"
        if not gallery.is_file() or gallery.read_text(encoding="utf-8") != self.gallery_text():
            found.append("README.md: not the gallery of index.json")
        for lesson in Lesson.some():
            if lesson.notebook.is_file():
                found += self._embedded(lesson)
        found += explorers.problems(self.target)
        gone = {entry["lesson"] for entry in self.entries.values()} - set(paths.slugs())
        return found + [
            f"index.json: lesson {slug} of some figures is gone" for slug in sorted(gone)
        ]

    def _embedded(self, lesson: Lesson) -> Iterator[str]:
        """How the pictures stored in a notebook differ from its published figures; found by their texts."""
        stored: dict[str, list[bytes]] = {}
        written: set[str] = set()
        for cell in json.loads(lesson.notebook.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                written |= set(claims.saved_figures("".join(cell["source"])))
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}):
                    alt = output.get("metadata", {}).get("image/png", {}).get("alt", "")
                    png = base64.b64decode("".join(output["data"]["image/png"]))
                    stored.setdefault(alt, []).append(png)
        for id in sorted(written - set(self.of(lesson.slug))):
            yield f"{id}: saved in {lesson.notebook.name}, but not published"
        for id in self.of(lesson.slug):
            entry = self.entries[id]
            found = stored.get(entry["alt"], [])
            path = self.target / entry["files"]["png"]
            if not found:
                yield f"{id}: published, but no picture in {lesson.notebook.name} has its alternative text"
            elif path.is_file() and not any(_same(png, path, entry) for png in found):
                yield f"{id}: another picture is stored in {lesson.notebook.name}"

    def _entry(self, lesson: str, record: dict, provenance: dict) -> dict:
        """What index.json says of a figure that was just made."""
        return {
            "lesson": lesson,
            "files": {ending: f"{lesson}/{record['id']}.{ending}" for ending in ENDINGS},
            "parameters": provenance["parameters"],
            "seed": provenance["seed"],
            "environment": environment(record, provenance),
            **{name: record[name] for name in ("caption", "alt", "data", "sha256", "inches")},
        }

    def _stays(self, id: str, new: dict, run: Path) -> bool:
        """Whether the published files stay: the same bytes, or the same look where bytes may differ."""
        old = self.entries[id]
        if old["sha256"] == new["sha256"]:
            return True
        return old["environment"] != new["environment"] and self._looks_the_same(id, run)

    def _rounded_otherwise(self, lesson: str, entries: dict[str, dict]) -> set[str]:
        """The figures that rounding may have made differ: made elsewhere, of numbers that vary, with the same words."""
        alike = {
            id
            for id, new in entries.items()
            if (old := self.entries.get(id))
            and old["environment"] != new["environment"]
            and old["parameters"] == new["parameters"]
            and _words(old) == _words(new)
        }
        return alike & _varying(lesson) if alike else alike  # reading a lesson takes a while

    def _made(self, lesson: str, run: Path) -> dict[str, dict]:
        made = {}
        for file in sorted((run / "figures").glob("*.json")):
            record = json.loads(file.read_text())
            id = record["id"]
            owner = self.entries.get(id, {}).get("lesson", lesson)
            if record["lesson"] != lesson or (owner != lesson and owner in paths.slugs()):
                raise LessonError(
                    f"figures that belong to {lesson}",
                    f"{id} of {owner if record['lesson'] == lesson else record['lesson']}",
                    where=lesson,
                    remedy="choose another id, or move the item in notebooks/ledger.yaml to this lesson",
                )
            for ending in ENDINGS:
                if sha256(file.parent / f"{id}.{ending}") != record["sha256"][ending]:
                    raise LessonError(
                        f"{id}.{ending} as the lesson wrote it",
                        "another file",
                        where=run / "figures",
                        remedy="run make figures again, and nothing beside it in build/",
                    )
            made[id] = record
        return made

    def _is_published(self, id: str) -> bool:
        entry = self.entries[id]
        return all(
            sha256(self.target / entry["files"][ending]) == entry["sha256"][ending]
            for ending in ENDINGS
        )

    def _looks_the_same(self, id: str, run: Path) -> bool:
        return looks.same_picture(
            self.target / self.entries[id]["files"]["png"], run / "figures" / f"{id}.png"
        )

    def _write(self) -> None:
        self._write_if_new(
            self.file, json.dumps(self.entries, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        )

    def _write_if_new(self, path: Path, content: str) -> None:
        if not path.exists() or path.read_text() != content:
            paths.write(path, content)

    def _sweep(self, lesson: str) -> None:
        """Remove pictures that the index does not mean, such as those of an interrupted call."""
        wanted = {
            self.target / name
            for id in self.of(lesson)
            for name in self.entries[id]["files"].values()
        }
        folder = self.target / lesson
        for path in [path for ending in ENDINGS for path in folder.glob(f"*.{ending}")]:
            if path not in wanted:
                path.unlink()
        for path in folder.glob(".*.*"):  # left by a process that was killed while writing
            path.unlink()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _same(png: bytes, path: Path, entry: dict) -> bool:
    """Whether an embedded picture is the published one: its bytes, or, from another environment, its look."""
    return hashlib.sha256(png).hexdigest() == entry["sha256"]["png"] or looks.same_picture(
        png, path
    )


def _words(entry: dict) -> list[list[str]]:
    """What caption and alternative text of a figure say between their numbers."""
    return [tolerance.words(entry[name]) for name in ("caption", "alt")]


def _varying(lesson: str) -> set[str]:
    """The figures that a lesson saves in cells whose numbers vary with the processor."""
    cells = (cell for cell in Lesson.find(lesson).cells if tolerance.VARIES in cell.tags)
    return {id for cell in cells for id in claims.saved_figures(cell.source)}


def _timed(record: dict, entry: dict) -> bool:
    """Whether a figure shows measured times, now and when it was published: in words they are the same."""
    return record.get("varies", False) and all(
        record[name] == entry[name] for name in ("caption", "alt")
    )


def _title(lesson: str) -> str:
    try:
        return Lesson.find(lesson).title
    except ParameterError:
        return lesson  # it is gone; its figures go with the next `make figures` of all lessons


def environment(record: dict, provenance: dict) -> dict[str, str]:
    """What the bytes of a figure depend on besides the lesson: curves of float32 also on the processor."""
    versions = {
        name: version for name, version in provenance["versions"].items() if name != "python"
    }
    return versions | record["versions"] | {"system": f"{platform.system()} {platform.machine()}",
                                            "processor": str(provenance.get("device_name") or "")}  # fmt: skip


def sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
