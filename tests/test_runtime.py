"""What was set took effect, and what this machine cannot do is refused with the reason."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cnncourse import runtime
from cnncourse.errors import MachineError, ParameterError


@pytest.fixture(autouse=True)
def as_before():
    yield
    runtime.start()


def test_what_start_returns_was_read_back_from_torch(monkeypatch):
    monkeypatch.delenv("CNNCOURSE_THREADS", raising=False)
    machine = runtime.start(seed=7, dtype="float64", threads=2, device="cpu")
    assert (
        machine == runtime.current()
        and repr(machine) == "runtime: cpu, float64, seed 7, 2 threads, deterministic"
    )
    assert (
        torch.zeros(1).dtype == machine.dtype == torch.float64
        and torch.get_num_threads() == machine.threads == 2
    )
    assert runtime.start(device="cpu").threads == 1


def test_one_seed_gives_the_same_draws_of_torch_numpy_python_and_its_generator():
    def draws(seed: int) -> list[float]:
        machine = runtime.start(seed=seed)
        return [
            float(torch.rand(())),
            random.random(),
            float(np.random.rand()),
            float(torch.rand((), generator=machine.generator)),
        ]

    assert draws(3) == draws(3) != draws(4)


def test_a_misspelt_switch_is_an_error_that_names_the_right_one():
    with pytest.raises(MachineError, match="did you mean 'deterministic'"):
        runtime.switch(torch.backends.cudnn, "determinstic", True)


def test_a_switch_that_does_not_hold_is_an_error():
    class Stubborn:
        option = property(lambda self: False, lambda self, value: None)

    with pytest.raises(MachineError, match="option = True"):
        runtime.switch(Stubborn(), "option", True)


def test_sums_with_repeated_indices_are_equal_twice_on_two_threads():
    runtime.start(threads=2)
    index, values = torch.randint(10, (300_000,)), torch.randn(300_000)
    sums = [torch.zeros(10).index_put_((index,), values, accumulate=True) for _ in range(5)]
    assert all(torch.equal(sums[0], other) for other in sums)


def test_threads_come_from_the_argument_then_the_environment_then_one(monkeypatch):
    monkeypatch.setenv("CNNCOURSE_THREADS", "2")
    assert runtime.start().threads == 2 and runtime.start(threads=1).threads == 1
    monkeypatch.setenv("CNNCOURSE_THREADS", "many")
    with pytest.raises(ParameterError, match="environment variable CNNCOURSE_THREADS"):
        runtime.start()
    monkeypatch.delenv("CNNCOURSE_THREADS")
    with pytest.raises(ParameterError, match="argument threads"):
        runtime.start(threads=0)


def test_threads_auto_divides_the_cores_among_jobs(monkeypatch):
    monkeypatch.setattr("cnncourse.runtime.cores", lambda: 8)
    monkeypatch.delenv("CNNCOURSE_THREADS", raising=False)
    monkeypatch.setenv("JOBS", "4")
    assert runtime.start(threads="auto").threads == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert runtime.start(threads="auto").threads == 1
    monkeypatch.setenv("CNNCOURSE_THREADS", "2")  # a share that was worked out already
    assert runtime.start(threads="auto").threads == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "bfloat16"}, "precision='bf16'"),
        ({"precision": "fp16"}, "None or 'bf16'"),
        ({"seed": -1}, "seed from 0"),
        ({"seed": 1.5}, "seed from 0"),
        ({"memory_format": "nhwc"}, "channels_last"),
        ({"dtype": "float64", "precision": "bf16"}, "dtype='float32'"),
    ],
)
def test_an_unknown_word_is_refused_with_the_right_ones(options, words):
    with pytest.raises(ParameterError, match=words):
        runtime.start(**options)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(MachineError, match="device='auto'"):
        runtime.start(device="cuda:77")
    with pytest.raises(MachineError, match="device='auto'"):
        runtime.start(device="quantum")


def test_bf16_is_refused_with_the_reason_where_the_processor_has_none(monkeypatch):
    monkeypatch.setattr(
        Path, "read_text", lambda self, *rest, **more: "model name : Old One\nflags : avx2 avx512f"
    )
    with pytest.raises(MachineError, match="Old One, whose instructions.*\n.*\n.*16 times slower"):
        runtime.start(device="cpu", precision="bf16")


def test_bf16_computes_in_bfloat16_where_the_processor_has_it():
    try:
        machine = runtime.start(device="cpu", precision="bf16")
    except MachineError as error:
        pytest.skip(f"bf16 was not run: {error.got}")
    with machine.autocast():
        assert (
            torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.bfloat16
        )
    with runtime.start().autocast():
        assert torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.float32


def test_a_record_is_one_line_for_each_fact_and_nothing_without_the_variable(monkeypatch, tmp_path):
    monkeypatch.delenv("CNNCOURSE_RECORD", raising=False)
    runtime.record("data", name="digits")
    monkeypatch.setenv("CNNCOURSE_RECORD", str(tmp_path / "record.jsonl"))
    runtime.start(seed=5)
    runtime.record("data", name="digits", path=Path("x"))
    lines = [json.loads(line) for line in (tmp_path / "record.jsonl").read_text().splitlines()]
    assert lines[0]["kind"] == "runtime" and lines[0]["seed"] == 5
    assert lines[1] == {"kind": "data", "name": "digits", "path": "x"}


def test_the_environment_names_versions_processor_threads_and_commit():
    facts = runtime.environment()
    assert (
        facts["torch"] == torch.__version__
        and facts["threads"] == torch.get_num_threads()
        and facts["processor"]
    )
    assert {"python", "torchvision", "numpy", "build", "cores", "commit", "seed", "device"} <= set(
        facts
    )


UNSTARTED = """
import torch
from torch import nn
from cnncourse import runtime, training
torch.set_default_dtype(torch.float64)
torch.manual_seed(5)
torch.set_num_threads(2)
state = torch.get_rng_state()
training.evaluate(nn.Linear(3, 2), (torch.zeros(4, 3), torch.zeros(4, dtype=torch.long)))
with runtime.seeded(3):
    pass
torch.set_rng_state(state)
print(runtime.current(), torch.get_default_dtype(), torch.initial_seed(), torch.get_num_threads())
same = runtime.current() is runtime.current()
torch.manual_seed(6)
print(same, runtime.current().seed, runtime.start())
"""


def test_before_any_start_torch_is_taken_as_it_stands_and_nothing_is_reset():
    output = subprocess.run(
        [sys.executable, "-W", "error", "-c", UNSTARTED],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "", "CNNCOURSE_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert output.stdout.splitlines() == [
        "runtime: cpu, float64, seed 5, 2 threads torch.float64 5 2",
        "True 6 runtime: cpu, float64, seed 0, 1 thread, deterministic".replace("64", "32"),
    ]
    assert output.stderr == ""


def test_a_block_with_another_seed_leaves_everything_as_it_was():
    machine, state = runtime.start(seed=1), torch.get_rng_state()
    with runtime.seeded(9) as other:
        assert runtime.current() is other and other.seed == 9
        torch.rand(3)
    assert runtime.current() == machine and torch.equal(torch.get_rng_state(), state)


def test_nobody_watches_a_redirected_process_or_a_kernel_that_cannot_be_asked(monkeypatch):
    class Shell:
        class kernel:
            _allow_stdin = False

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setitem(
        sys.modules, "IPython", type("IPython", (), {"get_ipython": staticmethod(lambda: None)})
    )
    assert runtime.interactive()
    monkeypatch.setitem(
        sys.modules, "IPython", type("IPython", (), {"get_ipython": staticmethod(Shell)})
    )
    assert not runtime.interactive()
    monkeypatch.setattr(Shell.kernel, "_allow_stdin", True)
    assert runtime.interactive()


@pytest.mark.parametrize("jobs", ["0", "many"])
def test_a_number_of_jobs_that_is_none_is_refused_by_name(monkeypatch, jobs):
    monkeypatch.delenv("CNNCOURSE_THREADS", raising=False)
    monkeypatch.setenv("JOBS", jobs)
    with pytest.raises(ParameterError, match="variable JOBS"):
        runtime.start(threads="auto")


def test_a_fraction_of_a_thread_is_refused():
    with pytest.raises(ParameterError, match="number of threads"):
        runtime.start(threads=1.9)


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU: CUDA settings were not read back (pytest -m gpu)"
)
def test_a_gpu_is_chosen_and_its_switches_hold():
    assert runtime.start().device.type == "cuda" and not torch.backends.cuda.matmul.allow_tf32
