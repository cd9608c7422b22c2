"""The course as a site for a browser: every stored lesson a page, nothing executed, nothing fetched from elsewhere."""

from __future__ import annotations

import copy
import html
import re
import shutil
import tomllib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import nbformat
from nbformat.v4 import new_markdown_cell

from cnncourse import machine, paths
from cnncourse.lab import front, gallery, tolerance
from cnncourse.lab.lesson import Lesson
from cnncourse.lab.site import cells, check, explorer, overview

ASSETS = Path(__file__).parent / "assets"
FORMULAS = "tex-svg.js"  # MathJax in one file: it draws formulas as SVG and needs no fonts


@dataclass
class Site:
    """What was built: the folder with index.html, and what is wrong with it, a line each."""

    folder: Path
    complaints: list[str] = field(default_factory=list)


def make(
    names: Iterable[str] = (), target: Path | None = None, repository: str | None = None
) -> Site:
    """Build the site of lessons (none: of all) into build/site/; runs nothing, and builds only what changed.

    >>> make().folder
    PosixPath('.../build/site')

    repository: the address of the course's repository, for buttons that open a lesson in Binder and Colab; without it
    ``[project.urls] Repository`` of pyproject.toml, if any. Raises `LessonError` for a lesson that was never stored.
    """
    target = target or paths.build() / "site"
    repository = repository or _repository()
    lessons = [lesson for lesson in Lesson.some(names) if names or lesson.notebook.is_file()]
    for lesson in lessons:
        lesson.stored()  # says what to do where it never was
    work = target.with_name(f"{target.name}-work")  # sources and what Sphinx remembers of them
    published = paths.root() / "figures"
    index = gallery.Index(published)
    files: dict[str, Path | bytes] = {}
    sources = _overviews(overview.Told(lessons, index.entries))
    for lesson in lessons:
        page, pictures = _page(lesson, index, repository)
        sources[f"lessons/{lesson.slug}.ipynb"] = page
        files |= pictures
        files[f"notebooks/{lesson.notebook.name}"] = lesson.notebook
        for file in sorted((published / lesson.slug).rglob("*.*")):
            files[f"figures/{file.relative_to(published).as_posix()}"] = file
    _settle(work / "source", sources)
    _settle(work / "static", dict(_static()))
    complaints = _sphinx(work, target, sources)
    for folder in ("figures", "pictures", "notebooks"):
        mine = {
            name.partition("/")[2]: file for name, file in files.items() if name.startswith(folder)
        }
        _settle(target / folder, mine)
    _sweep(target, sources)
    return Site(target, complaints + check.problems(target))


def _overviews(told: overview.Told) -> dict[str, str]:
    return {
        "index.md": overview.landing(told),
        "claims.md": overview.claims(told),
        "corrections.md": overview.corrections(told),
        "figures.md": overview.figures(told),
        "glossary.md": overview.glossary(told),
        **overview.api(),
    }


def _page(
    lesson: Lesson, index: gallery.Index, repository: str
) -> tuple[str, dict[str, Path | bytes]]:
    """The notebook that Sphinx reads for a lesson, and the pictures that belong beside it."""
    content = nbformat.read(lesson.notebook, as_version=4)
    moving = explorer.folders(index.target / lesson.slug)
    outputs = cells.Outputs(lesson.slug, index.by_words(lesson.slug), moving)
    for cell in content.cells:
        if cell.cell_type == "code":
            cells.folded(cell)
            cell.outputs = outputs.of(cell)
    first = content.cells[0]
    first.source = front.QUESTION.sub(r"{.question}\n\1", first.source, count=1)
    content.cells.insert(1, new_markdown_cell(_run_it(lesson, repository)))
    content.cells = cells.anchored(cells.gated(cells.split(content.cells)))
    for number, cell in enumerate(content.cells):
        cell["id"] = f"cell-{number}"  # new cells have random ones: the page would change each time
    for name in set(content.metadata) - {"kernelspec", "language_info"}:
        del content.metadata[name]
    return nbformat.writes(content), outputs.files


def _run_it(lesson: Lesson, repository: str) -> str:
    """The box that says how to run a lesson oneself."""
    seconds = front.cost(lesson.notebook)
    long = f", about {seconds} seconds of one processor core" if seconds else ""
    name = lesson.notebook.name
    lines = [
        f"<li>{words}<div class='copy'><pre tabindex='0'><code>{html.escape(command)}</code></pre></div></li>"
        for words, command in (
            ("Open a copy of it in JupyterLab, and change what you like:", "make lab"),
            ("See its parameters and their ranges:", f"python -m cnncourse run {lesson.number} --list"),
            (f"Run it as it is{long}:", f"make run LESSON={lesson.number}"),
        )
    ]  # fmt: skip
    links = [f'<a href="../notebooks/{name}" download>Download the notebook</a>']
    if repository.startswith("https://github.com/"):
        place = repository.removeprefix("https://github.com/").strip("/").removesuffix(".git")
        launch = {
            "Binder": f"https://mybinder.org/v2/gh/{place}/HEAD?urlpath=lab/tree/notebooks/{name}",
            "Colab": f"https://colab.research.google.com/github/{place}/blob/HEAD/notebooks/{name}",
        }
        links += [f'<a class="launch" href="{to}">Open in {at}</a>' for at, to in launch.items()]
    return (
        f'<details class="run-it"><summary>Run this lesson</summary><ul>{"".join(lines)}</ul>'
        f"<p>{' · '.join(links)}</p></details>\n"
    )


def _repository() -> str:
    """The address of the course's repository as pyproject.toml states it; empty where it does not."""
    file = paths.root() / "pyproject.toml"
    if not file.is_file():
        return ""
    urls = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {}).get("urls", {})
    return urls.get("Repository", "")


def _static() -> Iterable[tuple[str, Path]]:
    """The style, the script and MathJax, which all come with installed packages."""
    for file in sorted(ASSETS.iterdir()):
        yield file.name, file
    mathjax = f"sphinx-mathjax-offline/static/mathjax/{FORMULAS}"
    yield FORMULAS, machine.package_file("sphinx-mathjax-offline", mathjax)


def _sphinx(work: Path, target: Path, sources: dict[str, str]) -> list[str]:
    """Run Sphinx on the sources; returns its warnings."""
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    from cnncourse.lab.site.settings import SETTINGS

    said = StringIO()
    with warnings.catch_warnings(), patch_docutils(), docutils_namespace():
        # what the theme and myst-nb still call of Sphinx's old names is theirs to mend, and changes no page
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        own = copy.deepcopy(SETTINGS)  # the theme adds to them
        own["html_static_path"] = [str(work / "static")]
        own["html_context"]["pages"] = _contents(sources)
        app = Sphinx(
            work / "source", None, target, work / "doctrees", "html", own,
            status=None, warning=said, parallel=min(machine.cores(), 4),
        )  # fmt: skip
        app.build()
    lines = [line.replace(f"{work / 'source'}/", "") for line in said.getvalue().splitlines()]
    return [tolerance.without_colours(line) for line in lines if line.strip()]


def _contents(sources: dict[str, str]) -> list[str]:
    """The pages and their titles, which stand beside every page: when they change, every page is written anew."""
    titles = {name: re.search(r"# (.+?)(?:\\n|\n|$)", text) for name, text in sources.items()}
    return [f"{name} {found[1] if found else ''}" for name, found in titles.items()]


def _settle(folder: Path, files: dict[str, str | bytes | Path]) -> None:
    """Make a folder hold these files; those that are the same are not touched, so that nobody builds them anew."""
    for name, content in files.items():
        place = folder / name
        if isinstance(content, Path):
            stat = content.stat()
            same = place.is_file() and (place.stat().st_size, int(place.stat().st_mtime)) == (
                stat.st_size,
                int(stat.st_mtime),
            )
            if not same:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(content, place)
        else:
            raw = content.encode() if isinstance(content, str) else content
            if not place.is_file() or place.read_bytes() != raw:
                paths.write(place, raw)
    for place in folder.rglob("*") if folder.is_dir() else ():
        if place.is_file() and place.relative_to(folder).as_posix() not in files:
            place.unlink()


def _sweep(target: Path, sources: dict[str, str]) -> None:
    """Remove pages whose source is gone."""
    kept = {Path(name).with_suffix(".html").as_posix() for name in sources}
    for folder in ("lessons", "api"):
        for page in (target / folder).glob("*.html"):
            if f"{folder}/{page.name}" not in kept:
                page.unlink()
