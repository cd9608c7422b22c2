"""A sweep: points are checked before anything runs, tables say what was measured, nothing half-written counts."""

import csv
import errno
import io
import json
import re

import filelock
import pytest
import sweep_course

from cnncourse import __main__ as command
from cnncourse import paths
from cnncourse.errors import ParameterError
from cnncourse.lab import execute, grid, point, sweep, sweep_results
from cnncourse.lab.lesson import Lesson


@pytest.fixture
def course(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNCOURSE_ROOT", str(sweep_course.make(tmp_path)))
    paths.ledger.cache_clear()
    yield tmp_path
    paths.ledger.cache_clear()


def outcome(gap, verdict="holds", status="complete", error=""):
    """What a worker gives back."""
    claim = {
        "id": "emp-toy.gap",
        "verdict": verdict,
        "template": "A gap of {gap}.",
        "sentence": f"A gap of {gap}.",
        "required": {"gap": "at most 10"},
        "measured": {"gap": gap},
    }
    quoted = {"id": "emp-toy.paper", "verdict": "quoted", "sentence": "Said.", "source": "a paper"}
    histories = [{"epoch": 1}, {"epoch": 2, "train_loss": [1.0, 2.0]}]
    return {
        "status": status,
        "error": error,
        "claims": [claim, quoted],
        "worker": "vm 0",
        "seconds": 2.5,
        "memory": 2e9,
        "provenance": {"histories": histories},
        "notebook": "{}",
    }


def rows(file):
    return list(csv.DictReader(file.read_text().splitlines()))


@pytest.mark.parametrize(("text", "values"), [
    ("width=8,16", (8, 16)), ("width = 8, 16", (8, 16)), ("width=8:32:lin4", (8, 16, 24, 32)),
    ("width=4:16:log3", (4, 8, 16)), ("rate=0.01:1:log3", (0.01, 0.1, 1.0)),
    ("rate=0.01:0.3:log5", (0.01, 0.0234035, 0.0547723, 0.128186, 0.3)), ("rate=1e-3:1:log2", (0.001, 1.0)),
    ("rate=0.1:0.2:lin3", (0.1, 0.15, 0.2)), ("depths=[8],[8,20]", ([8], [8, 20])), ("way=run,hang", ("run", "hang")),
])  # fmt: skip
def test_a_grid_is_read_as_values_of_the_parameters_type(course, text, values):
    found = grid.Axis.read(text, Lesson.find("14")).values
    assert found == values and [type(value) for value in found] == [type(value) for value in values]


@pytest.mark.parametrize(("text", "words"), [
    ("widht=8", r"'widht'[\s\S]*did you mean 'width'"), ("width", "name=8,16"), ("width=", "name=8,16"),
    ("width=8,65", r"width: int, 1 to 64[\s\S]*got:   65[\s\S]*--grid width"), ("width=8,", "width of type int"),
    ("width=8:32:lin4,9", "name=8,16"), ("rate=0.1:1:5", "name=8,16"), ("rate=0.1:1:log1", "at least 2 values"),
    ("width=8,8", r"different values of width[\s\S]*8 twice"), ("rate=0:1:log3", "0 < low < high"),
    ("rate=1:0.1:lin3", "low < high"), ("rate=0.1:2:log2", r"rate: float, above 0, at most 1[\s\S]*got:   2"),
    ("way=runn", "did you mean 'run'"),
])  # fmt: skip
def test_what_no_lesson_can_take_is_refused_with_parameter_value_and_range(course, text, words):
    with pytest.raises(ParameterError, match=words):
        grid.Axis.read(text, Lesson.find("14"))


def test_a_step_that_is_no_whole_number_is_refused_where_one_is_needed(course):
    with pytest.raises(ParameterError, match=r"width of type int[\s\S]*'12\.5'"):
        grid.Axis.read("width=8:17:lin3", Lesson.find("14"))


def made(lesson, *texts, **options):
    return grid.points(lesson, [grid.Axis.read(text, lesson) for text in texts], **options)


def test_the_whole_grid_with_one_seed_comes_before_the_next_seed(course):
    found = made(Lesson.find("14"), "width=8,16", "rate=0.1,0.2", seeds=2, given={"depths": "[20]"})
    assert [one.label for one in found][:2] == [
        "width=8, rate=0.1, seed 0",
        "width=8, rate=0.2, seed 0",
    ]
    assert found[-1].given == {"depths": [20], "seed": 1000, "width": 16, "rate": 0.2}
    assert [one.seed for one in found] == [0] * 4 + [1] * 4


@pytest.mark.parametrize(("texts", "options", "words"), [
    (["width=8", "width=16"], {}, "width in --grid and in another --grid"),
    (["width=8"], {"given": {"width": 16}}, "width in --grid and in -p"),
    (["seed=1,2"], {"seeds": 2}, "seed in --grid and in --seeds"),
    ([], {"given": {"rates": 1}}, "did you mean 'rate'"),
    ([], {"preset": "ful"}, "did you mean 'full'"),
])  # fmt: skip
def test_a_parameter_that_is_named_twice_or_unknown_is_refused(course, texts, options, words):
    with pytest.raises(ParameterError, match=words):
        made(Lesson.find("14"), *texts, **options)


def test_lists_of_seeds_move_as_a_whole_and_a_lesson_without_any_is_refused(course):
    text = course / "notebooks" / "text" / "14_resnet.py"
    text.write_text(sweep_course.LESSON.replace("seed: int = 0 ", "seeds: list[int] = [3, 4] "))
    assert made(Lesson.find("14"), seeds=2)[1].given == {"seeds": [1003, 1004]}
    text.write_text(sweep_course.LESSON.replace("seed: int = 0 ", "start: int = 0 "))
    with pytest.raises(ParameterError, match="a lesson with a parameter seed or seeds"):
        made(Lesson.find("14"), seeds=2)


@pytest.mark.parametrize("words", [
    ["--grid", "width=8,65"], ["--grid", "epochs=3"], ["-p", "rate", "7"], ["--name", "../out"],
    ["--scheduler", "there"], ["--scheduler", "tcp://127.0.0.1:1", "--workers", "2"],
])  # fmt: skip
def test_the_command_refuses_before_anything_is_written_or_runs(course, words, capsys):
    assert command.main(["sweep", "14", *words]) == 2
    assert "ParameterError" in capsys.readouterr().err and not paths.build().exists()


def test_the_hash_of_a_point_names_all_that_its_numbers_depend_on(course):
    def hash(**given):
        lesson = Lesson.find("14")
        [one] = grid.points(lesson, [], given=given)
        return sweep._job(lesson, one, "default", point.fingerprint(lesson))["hash"]

    first = hash()
    assert hash(width=8) == first == hash()  # its own value, given
    assert hash(width=9) != first
    text = course / "notebooks" / "text" / "14_resnet.py"
    text.write_text(text.read_text().replace("1 / 0", "1 / (1 - 1)"))
    assert hash() != first


@pytest.fixture
def given_outcomes(monkeypatch):
    """Outcomes instead of a cluster's; what was asked for is noted."""
    asked = []

    def give(outcomes):
        def iterate(jobs, *_):
            asked.append(list(jobs))
            yield from zip(jobs, outcomes, strict=False)

        monkeypatch.setattr(sweep, "_outcomes", iterate)
        return asked

    return give


def test_the_tables_say_what_was_measured_and_in_how_many_runs_a_sentence_holds(
    course, given_outcomes, capsys
):
    found = [outcome(8.5), outcome(16.5, "not required"), outcome({"mean": 8.0, "from": 7, "to": 9}),
             outcome(16.0, "not required", status="failed", error="it\nbroke")]  # fmt: skip
    given_outcomes(found)
    assert command.main(["sweep", "14", "--grid", "width=8,16", "--seeds", "2"]) == 1
    folder = course / "build" / "sweeps" / "14_resnet"
    table = rows(folder / "results.csv")
    column = [line["claim/emp-toy.gap/gap"] for line in table]
    assert column == ["8.5", "16.5", "8.0", "16.0"]
    assert [line["width"] for line in table] == ["8", "16", "8", "16"]
    assert [line["seed"] for line in table] == ["0", "0", "1000", "1000"]
    first, last = table[0], table[-1]
    assert (
        first["depths"] == "[8]"
        and first["history/train_loss"] == "1.5"
        and first["history/epoch"] == "2"
    )
    assert first["memory_gb"] == "2.0" and first["seconds"] == "2.5" and first["worker"] == "vm 0"
    assert last["status"] == "failed" and last["error"] == "it broke"
    assert [file.stem for file in (folder / "failed").glob("*.ipynb")] == [last["hash"]]
    assert len(list((folder / "points").glob("*.json"))) == 3
    counts = [(line["width"], line["runs"], line["holds"]) for line in rows(folder / "claims.csv")]
    assert counts == [("8", "2", "2"), ("16", "2", "0")]
    assert [line["training"] for line in rows(folder / "histories.csv")] == ["1", "2"] * 4
    assert (folder / "claims" / "emp-toy.gap.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "2 of 4    emp-toy.gap" in said and "width=16: 0 of 2" in said
    assert "3 of 4 points ran through; 1 did not run through" in said and "failed: it broke" in said


def test_the_same_command_runs_what_is_not_finished_and_a_larger_grid_what_is_new(
    course, given_outcomes, capsys
):
    asked = given_outcomes([outcome(8.5), outcome(9.0, status="time", error="too long")])
    assert command.main(["sweep", "14", "--grid", "width=8,9"]) == 1
    given_outcomes([outcome(9.0)])
    assert command.main(["sweep", "14", "--grid", "width=8,9"]) == 0
    folder = course / "build" / "sweeps" / "14_resnet"
    assert not list((folder / "failed").iterdir())
    given_outcomes([outcome(7.0)])
    assert command.main(["sweep", "14", "--grid", "width=7,8,9"]) == 0
    assert [len(jobs) for jobs in asked] == [2, 1, 1]
    assert [line["width"] for line in rows(folder / "results.csv")] == ["7", "8", "9"]
    assert "3 points, 2 of them finished earlier" in capsys.readouterr().out
    damaged = next((folder / "points").iterdir())
    damaged.write_text(damaged.read_text()[:100])
    given_outcomes([outcome(7.0)])
    assert command.main(["sweep", "14", "--grid", "width=7,8,9"]) == 0
    assert len(asked[-1]) == 1


def test_a_full_disk_is_told_and_leaves_nothing_that_counts(
    course, given_outcomes, monkeypatch, capsys
):
    asked = given_outcomes([outcome(8.5), outcome(9.5)])
    replace = paths.os.replace

    def full(source, target):
        if "points" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(paths.os, "replace", full)
        assert command.main(["sweep", "14", "--grid", "width=8,9"]) == 1
    said = capsys.readouterr().err
    assert "No space left on device" in said and "make room" in said and "Traceback" not in said
    assert list((course / "build" / "sweeps" / "14_resnet" / "points").iterdir()) == []
    assert command.main(["sweep", "14", "--grid", "width=8,9"]) == 0
    assert [len(jobs) for jobs in asked] == [2, 2]


def test_a_second_sweep_in_the_same_folder_is_told_who_is_there(course, given_outcomes, capsys):
    given_outcomes([outcome(8.5)])
    folder = course / "build" / "sweeps" / "mine"
    folder.mkdir(parents=True)
    (folder / ".lock.pid").write_text("17 on node3")
    with filelock.FileLock(folder / ".lock"):
        assert command.main(["sweep", "14", "--name", "mine"]) == 1
        assert "process 17 on node3" in capsys.readouterr().err
        assert command.main(["sweep", "14", "--name", "other"]) == 0
    assert command.main(["sweep", "14", "--name", "mine"]) == 0


def test_a_scheduler_that_is_not_there_is_named(course, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "CONNECT", 0.3)
    assert command.main(["sweep", "14", "--scheduler", "tcp://127.0.0.1:1"]) == 1
    said = capsys.readouterr().err
    assert "expected a Dask scheduler" in said and "tcp://127.0.0.1:1" in said


def job(lesson, timeout=None, memory=None, **given):
    one = grid.Point(lesson.settings(given), {}, 0)
    made = sweep._job(lesson, one, "default", point.fingerprint(lesson))
    return made | {"timeout": timeout, "memory": memory}


def test_a_point_gives_the_numbers_of_a_run_and_what_stops_it_is_told(course):
    lesson = Lesson.find("14")
    alone = execute.run(lesson, parameters={"width": 9}, threads=1, progress=False)
    found = point.run(job(lesson, width=9))
    assert (found["status"], found["notebook"]) == ("complete", None)
    assert found["provenance"]["histories"] == alone.provenance["histories"] != []
    [claim] = found["claims"]
    two = {"from": 9.594, "mean": 9.844, "to": 10.09}
    assert (claim["verdict"], claim["measured"]) == ("holds", {"gap": two, "width": 9})
    assert found["memory"] > 5e7 and found["seconds"] > 0
    runner = point._own.runner.process.pid  # it is used again
    failed = point.run(job(lesson, way="raise"))
    assert (
        failed["status"] == "failed"
        and "ZeroDivisionError" in failed["error"]
        and "cell 6" in failed["error"]
    )
    assert (
        "ZeroDivisionError" in failed["notebook"]
        and failed["claims"][0]["measured"]["gap"]["mean"] == 8.844
    )
    assert not sweep_course.alive(runner)  # a point after a failed one begins in a fresh process
    greedy = point.run(job(lesson, memory=6e8, way="grow"))
    assert greedy["status"] == "memory" and "0.6 GB that --memory allows" in greedy["error"]
    assert greedy["memory"] > 6e8 and "hoard" in greedy["notebook"]
    slow = point.run(job(lesson, timeout=1.0, way="hang"))
    assert slow["status"] == "time" and "1 s that --timeout allows" in slow["error"]


@pytest.mark.parametrize(("name", "other", "words"), [
    ("source", "abc", "another text of the lesson"), ("package", "abc", "another version of cnncourse"),
    ("versions", {"torch": "1.0"}, "torch .*, not 1.0"),
])  # fmt: skip
def test_a_worker_with_another_course_refuses(course, name, other, words):
    lesson = Lesson.find("14")
    asked = job(lesson)
    asked["fingerprint"] = asked["fingerprint"] | {name: other}
    assert re.search(words, point._unlike(asked, lesson))
    assert point._unlike(job(lesson), lesson) == ""
    wider = job(lesson)
    wider["parameters"]["width"] = 9
    assert point._unlike(wider, lesson) == "another preset default"


def test_more_lines_than_a_picture_can_show_become_their_mean(course, given_outcomes):
    lesson = Lesson.find("14")
    axes = [grid.Axis.read(text, lesson) for text in ("width=8,16", "rate=0.1:0.8:lin8")]
    jobs = [(one, {"hash": str(number)}) for number, one in enumerate(grid.points(lesson, axes))]
    results = sweep_results.Results(lesson, axes, jobs, course)
    records = {found["hash"]: outcome(float(one.place["width"])) for one, found in jobs}
    assert results._series(records, "emp-toy.gap", "gap") == {
        "all of rate": {"8": [8.0] * 8, "16": [16.0] * 8}
    }


def test_a_table_is_written_as_parquet_too_where_it_can_be(course):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    table = [
        {"width": 8, "depths": [8, 20], "gap": 1, "text": "a"},
        {"width": 9, "gap": 1.5, "text": 3},
    ]
    read = parquet.read_table(io.BytesIO(sweep_results.as_parquet(table))).to_pylist()
    assert read == [{"width": 8, "depths": "[8, 20]", "gap": 1.0, "text": "a"},
                    {"width": 9, "depths": None, "gap": 1.5, "text": "3"}]  # fmt: skip


def test_a_training_notes_how_it_ended_for_the_record_of_a_run(tmp_path, monkeypatch):
    import torch

    from cnncourse import training

    monkeypatch.setenv("CNNCOURSE_RECORD", str(tmp_path / "record.jsonl"))
    images, labels = torch.randn(8, 4), torch.arange(8) % 2
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    history = training.fit(
        model, (images, labels), optimizer=optimizer, epochs=2, batch_size=4, progress=False
    )
    noted = [json.loads(line) for line in (tmp_path / "record.jsonl").read_text().splitlines()]
    assert [line["row"] for line in noted if line["kind"] == "history"] == [history[-1]]
    assert execute._recorded(tmp_path / "record.jsonl")["histories"] == [history[-1]]
