"""The course on the command line: ``python -m cnncourse`` lists what it can do."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from cnncourse.errors import CourseError, MachineError, ParameterError


def main(words: list[str] | None = None) -> int:
    """Do what the words say and return the exit status: 0 done, 1 failed, 2 not understood, 130 interrupted."""
    parser = arguments()
    chosen = parser.parse_args(words)
    if not hasattr(chosen, "act"):
        parser.print_help()
        return 0
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever calls it from another Python gets a sentence
        print(_wrong_python(f"Python {sys.version.split()[0]}"), file=sys.stderr)
        return 1
    if words is None:  # this process is ours
        _tidy_when_stopped()
    try:
        return int(chosen.act(chosen) or 0)
    except CourseError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2 if isinstance(error, ParameterError) else 1
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "cnncourse":
            raise
        print(_wrong_python(f"a Python without {error.name}"), file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        files = MachineError(
            "files that can be read and written",
            error.strerror or error,
            where=error.filename or "a file of the course",
            remedy="make room on the disk and the folder writable; python -m cnncourse doctor looks at both",
        )
        print(f"{type(files).__name__}: {files}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; nothing is left running", file=sys.stderr)
        return 130


def _wrong_python(got: str) -> str:
    """What to do in a Python that lacks what the course needs."""
    return (
        f"MachineError: expected a Python from 3.11 with what requirements.lock names\n"
        f"  got:   {got}\n"
        f"  where: {sys.executable}\n"
        f"  to do: `make figures` installs it into .venv; then `. .venv/bin/activate`, "
        f"or call make (`make run LESSON=14`), or .venv/bin/python"
    )


def _tidy_when_stopped() -> None:
    """A stop from outside, or a terminal that is closed, ends everything in order, as Ctrl-C does."""
    for name in ("SIGTERM", "SIGHUP"):
        kind = getattr(signal, name, None)
        if (
            kind is not None and signal.getsignal(kind) != signal.SIG_IGN
        ):  # nohup ignores the second
            signal.signal(kind, signal.default_int_handler)


def arguments() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(
        prog="python -m cnncourse", description="Lectures on convolutional networks that run."
    )
    commands = parser.add_subparsers(title="commands", metavar="")

    def command(
        name: str, act, text: str, *, lessons: bool = False, jobs: bool = False
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        added.set_defaults(act=act)
        if lessons:
            added.add_argument(
                "lessons", nargs="*", metavar="LESSON", help="numbers or names; none means all"
            )
        if jobs:
            added.add_argument(
                "--jobs", type=_positive, default=None, metavar="N", help="lessons at a time"
            )
        return added

    one = command("run", _run, "run a lesson, with other parameters if you like")
    one.add_argument("lesson", help="number or name, as in 14 or resnet")
    _parameter(one)
    one.add_argument("--preset", default="default", help="a file of notebooks/presets, as in full")
    one.add_argument(
        "--out", type=Path, help="folder for the executed copy, figures and provenance"
    )
    one.add_argument("--figures", type=Path, help="another folder for the figures")
    one.add_argument("--timeout", type=_seconds, help="seconds that a cell may take")
    one.add_argument("--threads", type=_positive, help="threads to compute with")
    one.add_argument(
        "--list", action="store_true", help="list the lesson's parameters and run nothing"
    )
    command(
        "store",
        _store,
        "run lessons at their defaults, store outputs in notebooks/ and figures in figures/",
        lessons=True,
    )
    synced = command(
        "sync", _sync, "make the notebooks and their text twins equal again", lessons=True
    )
    synced.add_argument(
        "--prefer", choices=["text", "notebook"], help="the side that wins where both changed"
    )
    made = command(
        "figures",
        _figures,
        "regenerate the figures of the lessons whose inputs changed",
        lessons=True,
        jobs=True,
    )
    made.add_argument(
        "--preset", default="default", help="another preset goes to build/figures/<preset>/"
    )
    made.add_argument(
        "--style",
        type=Path,
        help="an .mplstyle file laid over the course's own; goes to build/figures/",
    )
    made.add_argument(
        "--force", action="store_true", help="run the lessons even if nothing changed"
    )
    command(
        "figures-check",
        _figures_check,
        "regenerate elsewhere and compare with what is published",
        lessons=True,
        jobs=True,
    )
    suite = command(
        "test",
        _test,
        "run every test: unit tests, anatomy, stored numbers",
        lessons=True,
        jobs=True,
    )
    suite.add_argument(
        "--instructions",
        choices=("avx2", "sse4"),
        help="compare the lessons only, computed with no newer instructions: as on another processor",
    )
    command("check", _check, "check the anatomy of the lessons", lessons=True)
    command("claims", _claims, "report what the lessons claim and what was measured", lessons=True)
    command("doctor", _doctor, "check this machine: versions, device, data, browser, git")
    command("bench", _bench, "measure speed and memory against peers, as ratios in one run")
    opened = command("lab", _lab, "open JupyterLab on copies of the lessons, in build/lab/")
    way = opened.add_mutually_exclusive_group()
    way.add_argument(
        "--fresh",
        nargs="*",
        metavar="LESSON",
        help="copy these lessons anew (none: all); what you changed is put aside",
    )
    way.add_argument(
        "--bring-back",
        metavar="LESSON",
        help="write what you changed in a copy into the lesson and its text (for authors)",
    )
    command(
        "vary",
        _vary,
        "run lessons once for each parameter, changed to another value in its range",
        lessons=True,
    )
    swept = command("sweep", _sweep, "run a lesson at many points, on one machine or many")
    swept.add_argument("lesson", help="number or name, as in 14 or resnet")
    swept.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help="values of a parameter: width=8,16 or learning_rate=0.01:0.3:log5 or width=8:32:lin4; "
        "may be repeated: all combinations",
    )
    swept.add_argument(
        "--seeds", type=_positive, default=1, metavar="N", help="each point with so many seeds"
    )
    _parameter(swept)
    swept.add_argument(
        "--preset", default="default", help="a file of notebooks/presets, as in full"
    )
    swept.add_argument(
        "--scheduler", default="local", help="local, or of a Dask cluster: tcp://10.0.0.1:8786"
    )
    swept.add_argument(
        "--workers", type=_positive, metavar="N", help="local workers; else one a core"
    )
    swept.add_argument("--name", help="the folder in build/sweeps/; else the lesson's name")
    swept.add_argument("--timeout", type=_seconds, help="seconds that a point may take")
    swept.add_argument(
        "--memory", type=_gigabytes, metavar="GB", help="memory that a point may take"
    )
    command(
        "pretend",
        _pretend,
        "run lessons, small, on a pretend GPU that refuses to mix devices as a real one does",
        lessons=True,
    )
    command(
        "site",
        _site,
        "build the stored lessons as a site for a browser, in build/site/",
        lessons=True,
    )
    deck = command(
        "slides", _slides, "make slides of stored lessons: HTML and PDF, offline", lessons=True
    )
    deck.add_argument(
        "--style",
        type=Path,
        help="an .mplstyle file whose figures `make figures STYLE=` has made",
    )
    deck.add_argument("--html", action="store_true", help="no PDF, which needs a Chromium")
    written = command("new", _new, "write the text of a lesson to begin with, from the ledger")
    written.add_argument("lesson", help="number or name of a lesson that is not written yet")
    return parser


def _parameter(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="another value for a parameter of the lesson; may be repeated",
    )


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    return _above_0(text, "seconds")


def _gigabytes(text: str) -> float:
    return _above_0(text, "gigabytes")


def _above_0(text: str, unit: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"a number of {unit} above 0, not {text!r}")
    return number


def _run(chosen: argparse.Namespace) -> None:
    from cnncourse.lab import execute
    from cnncourse.lab.lesson import Lesson

    if chosen.list:
        for parameter in Lesson.find(chosen.lesson).parameters.values():
            print(
                f"{parameter.name}: {parameter.type} = {parameter.default!r}  # {parameter.comment}"
            )
        return
    result = execute.run(
        chosen.lesson,
        parameters=dict(chosen.parameter),
        preset=chosen.preset,
        out=chosen.out,
        timeout=chosen.timeout,
        threads=chosen.threads,
        figures=chosen.figures,
    )
    print(
        f"{result.lesson}: {len(result.provenance['figures'])} figures, {result.seconds:.1f} s, all in {result.folder}"
    )


def _store(chosen: argparse.Namespace) -> int:
    from cnncourse.lab import publish

    return publish.store(chosen.lessons)


def _sync(chosen: argparse.Namespace) -> int:
    from cnncourse.lab import pairing

    return pairing.main(chosen.lessons, chosen.prefer)


def _figures(chosen: argparse.Namespace) -> int:
    from cnncourse.lab import publish

    return publish.figures(
        chosen.lessons,
        jobs=chosen.jobs,
        preset=chosen.preset,
        style=chosen.style,
        force=chosen.force,
    )


def _figures_check(chosen: argparse.Namespace) -> int:
    from cnncourse.lab import publish

    return publish.check(chosen.lessons, jobs=chosen.jobs)


def _test(chosen: argparse.Namespace) -> int:
    from cnncourse.lab import suite

    return suite.run(chosen.jobs, chosen.lessons, chosen.instructions)


def _check(chosen: argparse.Namespace) -> int:
    from cnncourse.lab import lint

    return lint.main(chosen.lessons)


def _claims(chosen: argparse.Namespace) -> None:
    from cnncourse.lab import coverage
    from cnncourse.lab.lesson import Lesson

    print(coverage.report([lesson.notebook for lesson in Lesson.some(chosen.lessons)]))


def _doctor(chosen: argparse.Namespace) -> int:
    from cnncourse.lab import doctor

    return doctor.main()


def _bench(chosen: argparse.Namespace) -> int:
    from cnncourse.lab import suite

    return suite.bench()


def _lab(chosen: argparse.Namespace) -> None:
    from cnncourse.lab import desk

    if chosen.bring_back:
        print("\n".join(desk.bring_back(chosen.bring_back)) or "nothing was changed")
    elif chosen.fresh is not None:
        print("\n".join(desk.start_afresh(chosen.fresh)) or "the copies are those of the course")
    else:
        desk.open_lab()


def _vary(chosen: argparse.Namespace) -> int:
    from cnncourse.lab import vary

    return vary.main(chosen.lessons)


def _sweep(chosen: argparse.Namespace) -> int:
    from cnncourse.lab import sweep

    return sweep.main(
        chosen.lesson,
        grids=chosen.grid,
        seeds=chosen.seeds,
        given=dict(chosen.parameter),
        preset=chosen.preset,
        scheduler=chosen.scheduler,
        workers=chosen.workers,
        name=chosen.name,
        timeout=chosen.timeout,
        memory=chosen.memory,
    )


def _pretend(chosen: argparse.Namespace) -> int:
    from cnncourse.lab import vary

    return vary.pretend(chosen.lessons)


def _site(chosen: argparse.Namespace) -> int:
    from cnncourse import paths
    from cnncourse.lab import site

    built = site.make(chosen.lessons)
    print("\n".join(built.complaints + [paths.shown(built.folder / "index.html")]))
    return bool(built.complaints)


def _slides(chosen: argparse.Namespace) -> None:
    from cnncourse import paths
    from cnncourse.lab import slides

    made = slides.make(chosen.lessons, style=chosen.style, pdf=not chosen.html)
    print("\n".join(paths.shown(path) for path in made))


def _new(chosen: argparse.Namespace) -> None:
    from cnncourse import paths
    from cnncourse.lab import skeleton

    print(f"{paths.shown(skeleton.new(chosen.lesson))} written; then python -m cnncourse sync")


if __name__ == "__main__":
    sys.exit(main())
