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
    if words is None:  # this process is ours
        _tidy_when_stopped()
    try:
        return int(chosen.act(chosen) or 0)
    except CourseError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2 if isinstance(error, ParameterError) else 1
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
    one.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="another value for a parameter of the lesson; may be repeated",
    )
    one.add_argument("--preset", default="default", help="a file of notebooks/presets, as in full")
    one.add_argument(
        "--out", type=Path, help="folder for the executed copy, figures and provenance"
    )
    one.add_argument("--figures", type=Path, help="another folder for the figures")
    one.add_argument("--timeout", type=float, help="seconds that a cell may take")
    one.add_argument("--threads", type=_positive, help="threads to compute with")
    one.add_argument(
        "--list", action="store_true", help="list the lesson's parameters and run nothing"
    )
    command(
        "store",
        _store,
        "run lessons at their defaults and store the outputs in notebooks/",
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
    command(
        "test",
        _test,
        "run every test: unit tests, anatomy, stored numbers",
        lessons=True,
        jobs=True,
    )
    command("check", _check, "check the anatomy of the lessons", lessons=True)
    command("claims", _claims, "report what the lessons claim and what was measured", lessons=True)
    command("doctor", _doctor, "check this machine: versions, device, data, browser, git")
    command("bench", _bench, "measure speed and memory against peers, as ratios in one run")
    command("lab", _lab, "open JupyterLab on the lessons")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1, not {text!r}")
    return int(text)


def _run(chosen: argparse.Namespace) -> None:
    from cnncourse.lab import execute

    if chosen.list:
        for parameter in execute.parameters(chosen.lesson).values():
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


def _store(chosen: argparse.Namespace) -> None:
    from cnncourse import project
    from cnncourse.lab import execute

    for lesson in chosen.lessons or project.lessons():
        result = execute.store(lesson)
        print(f"{result.lesson}: stored, {result.seconds:.1f} s")


def _sync(chosen: argparse.Namespace) -> int:
    from cnncourse.lab import twins

    return twins.main(chosen.lessons, chosen.prefer)


def _figures(chosen: argparse.Namespace) -> int:
    from cnncourse.lab import publish

    return publish.figures(
        chosen.lessons,
        jobs=chosen.jobs or 1,
        preset=chosen.preset,
        style=chosen.style,
        force=chosen.force,
    )


def _figures_check(chosen: argparse.Namespace) -> int:
    from cnncourse.lab import publish

    return publish.check(chosen.lessons, jobs=chosen.jobs or 1)


def _test(chosen: argparse.Namespace) -> int:
    from cnncourse.lab import suite

    return suite.run(chosen.jobs, chosen.lessons)


def _check(chosen: argparse.Namespace) -> int:
    from cnncourse.lab import anatomy

    return anatomy.main(chosen.lessons)


def _claims(chosen: argparse.Namespace) -> None:
    from cnncourse import project
    from cnncourse.lab import coverage

    paths = [project.lesson(name) for name in chosen.lessons or project.lessons()]
    print(coverage.report(paths))


def _doctor(chosen: argparse.Namespace) -> int:
    from cnncourse.lab import doctor

    return doctor.main()


def _bench(chosen: argparse.Namespace) -> int:
    from cnncourse.lab import suite

    return suite.bench()


def _lab(chosen: argparse.Namespace) -> None:
    from cnncourse import project

    command = [
        sys.executable,
        "-m",
        "jupyter",
        "lab",
        "--ServerApp.ip=127.0.0.1",
    ]  # it asks for its token by default
    if (
        hasattr(os, "geteuid") and os.geteuid() == 0
    ):  # as in most containers; loopback and the token still guard it
        command.append("--allow-root")
    os.execv(
        sys.executable, [*command, str(project.root() / "notebooks")]
    )  # Ctrl-C is JupyterLab's own


if __name__ == "__main__":
    sys.exit(main())
