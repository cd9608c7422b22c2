"""The machine that a lesson runs on: device, dtype, threads, seed, determinism, and whether they took effect.

What is about learning is passed to `training.fit`; what is about the machine is set here, once:

>>> runtime.start(seed=0)
runtime: cpu, float32, seed 0, 1 thread, deterministic

The same script runs under ``torchrun --nproc_per_node=N``: `start` joins the processes (gloo between processors,
NCCL between GPUs), and `fit` and `evaluate` share the batches out. See docs/training.md for several nodes and Slurm.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import platform
import random
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from cnncourse import parameters
from cnncourse.errors import MachineError, ParameterError, nearest
from cnncourse.machine import commit, cores

# 8 buffers of 4 MiB. cuBLAS reads it once in a process, at its first product, and deterministic mode needs it then.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
DTYPES = {"float32": torch.float32, "float64": torch.float64}
_current: Runtime | None = None
_found: Runtime | None = None  # before any start


@dataclass(frozen=True)
class Runtime:
    """What `start` set. ``rank`` of ``world`` is this process among those that torchrun started (0 of 1 without it)."""

    device: torch.device
    dtype: torch.dtype
    seed: int
    threads: int
    precision: str | None = None  # "bf16": autocast; None: everything in `dtype`
    deterministic: bool = True
    compile: bool = False
    memory_format: torch.memory_format | None = None
    rank: int = 0
    world: int = 1
    generator: torch.Generator = field(
        compare=False, default_factory=torch.Generator
    )  # on the CPU, seeded

    def __repr__(self) -> str:
        facts = [
            str(self.device),
            str(self.dtype).removeprefix("torch."),
            f"seed {self.seed}",
            f"{self.threads} thread" + "s" * (self.threads != 1),
        ]
        facts += [self.precision] if self.precision else []
        facts += ["deterministic"] if self.deterministic else []
        facts += ["compiled"] if self.compile else []
        facts += [f"process {self.rank} of {self.world}"] if self.world > 1 else []
        return "runtime: " + ", ".join(facts)

    def autocast(self) -> contextlib.AbstractContextManager:
        """The context of a forward pass: bf16 where it was asked for, nothing otherwise."""
        if self.precision is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def synchronize(self) -> None:
        """Wait until the device has done all that was asked of it: before a clock is read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def start(
    *,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
    precision: str | None = None,
    threads: int | str | None = None,
    deterministic: bool = True,
    compile: bool = False,
    memory_format: str | None = None,
) -> Runtime:
    """Set up this process and return what was set, read back from torch; it becomes `current`.

    device: "auto" (in float32 a CUDA device if there is one, else the processor) or a name that torch knows.
    dtype: "float32", or "float64" for small studies whose numbers must survive another machine: with device="auto"
        they stay on the processor, also where there is a GPU, which draws other random numbers and gains nothing
        there. It becomes torch's default dtype, so that tensors and networks made afterwards have it.
    precision: None, or "bf16" for autocast on devices with native bfloat16.
    threads: None means the environment variable CNNCOURSE_THREADS, or 1. "auto" means it too, for whoever set it has
        shared the cores out already; without it, this machine's cores shared among the processes of this run here and
        the JOBS that the environment names. One thread and two threads differ in the
        last bits of a sum, so numbers are compared at equal counts; two threads shorten a mid-size step (to 0.6)
        and make it several times longer when another process is busy.
    deterministic: the same seed gives the same bits, on one environment. On CUDA this refuses a few backward
        passes (adaptive average pooling, bilinear interpolation, grid sampling).
    compile: `training.fit` passes the network through `torch.compile`.
    memory_format: None or "channels_last".

    Raises `MachineError` for what this machine does not have, `ParameterError` for a word it does not know.
    """
    global _current
    parameters.check_kernel()  # of a lesson that is run by hand
    if dtype not in DTYPES:
        raise ParameterError(
            "a dtype: 'float32' or 'float64'",
            repr(dtype),
            where="argument dtype of runtime.start",
            remedy=nearest(str(dtype), DTYPES) + "; for bfloat16 use precision='bf16'",
        )
    rank, local_rank, world = _processes()
    chosen = _device(device, DTYPES[dtype], local_rank, world)
    if compile and world > 1:
        raise MachineError(
            "one process beside compile=True",
            f"{world}",
            where="argument compile of runtime.start",
            remedy="leave compile=False: the joined layers of several processes are not compiled",
        )
    if precision not in (None, "bf16"):
        raise ParameterError(
            "a precision: None or 'bf16'",
            repr(precision),
            where="argument precision of runtime.start",
            remedy="use dtype='float64' for exact studies",
        )
    if precision == "bf16" and dtype != "float32":
        raise ParameterError(
            "dtype='float32' beside precision='bf16'",
            repr(dtype),
            where="argument dtype of runtime.start",
            remedy="leave one of the two out",
        )
    if precision == "bf16" and (reason := _without_bf16(chosen)):
        raise MachineError(
            "a device with native bfloat16",
            reason,
            where="argument precision of runtime.start",
            remedy="leave precision=None: in software bfloat16 is 16 times slower than float32",
        )
    if memory_format not in (None, "channels_last"):
        raise ParameterError(
            "a memory format: None or 'channels_last'",
            repr(memory_format),
            where="argument memory_format of runtime.start",
            remedy="leave it at None",
        )
    _check_seed(seed)
    _set_threads(_threads(threads))
    torch.set_default_dtype(DTYPES[dtype])
    _set_deterministic(deterministic, chosen)
    if compile:
        from torch._dynamo import config as dynamo

        # Of all networks of one class together; 8 without this, and a network beyond them runs uncompiled, silently.
        switch(dynamo, "recompile_limit", 64)
        switch(dynamo, "fail_on_recompile_limit_hit", True)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # every device
    _join(chosen, rank, world, compile)
    _current = Runtime(
        chosen,
        torch.get_default_dtype(),
        torch.initial_seed(),
        torch.get_num_threads(),
        precision,
        deterministic,
        compile,
        torch.channels_last if memory_format else None,
        rank,
        world,
        torch.Generator().manual_seed(seed),
    )
    record(
        "runtime",
        device=str(chosen),
        device_name=device_name(chosen),
        dtype=dtype,
        precision=precision,
        seed=seed,
        threads=_current.threads,
        deterministic=deterministic,
        compile=compile,
        world=world,
    )
    return _current


def current() -> Runtime:
    """The runtime that `start` made last; before any `start`, torch as it stands, of which nothing is reset.

    Then the dtype is torch's default dtype, the seed that of the last ``torch.manual_seed``, the threads torch's own.
    """
    return _current or _as_it_stands()


def _as_it_stands() -> Runtime:
    global _found
    rank, local_rank, world = _processes()
    dtype, seed = torch.get_default_dtype(), torch.initial_seed()
    device = _device("auto", dtype, local_rank, world)
    _join(device, rank, world, False)
    strict = torch.are_deterministic_algorithms_enabled()
    one_order = device.type == "cpu" and torch.get_num_threads() == 1
    now = Runtime(
        device,
        dtype,
        seed,
        torch.get_num_threads(),
        deterministic=strict or one_order,
        rank=rank,
        world=world,
        generator=torch.Generator().manual_seed(seed),
    )
    if _found != now:  # the same one as long as nothing changes, for it has a generator
        _found = now
    return _found


def _processes() -> tuple[int, int, int]:
    """(this process among all, among those of this machine, how many there are), as torchrun says."""
    names = ("RANK", 0), ("LOCAL_RANK", 0), ("WORLD_SIZE", 1)
    return tuple(int(os.environ.get(name, default)) for name, default in names)


@contextlib.contextmanager
def seeded(seed: int):
    """A block with another seed: the current runtime's, and torch's generators; all are put back afterwards.

    >>> with runtime.seeded(3):
    ...     model = make()
    """
    global _current
    _check_seed(seed)
    before, machine = _current, current()
    devices = [machine.device] if machine.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        if devices:
            torch.manual_seed(seed)
        else:  # torch.manual_seed would also note where it was called, for a CUDA that is not there: a millisecond
            torch.default_generator.manual_seed(seed)
        _current = replace(machine, seed=seed, generator=torch.Generator().manual_seed(seed))
        try:
            yield _current
        finally:
            _current = before


def moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on the device, without waiting for the device: to a GPU through pinned memory, as a copy from other
    memory may wait for what the GPU has still to do."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def device_name(device: torch.device | str = "cpu") -> str:
    """The name of the processor or GPU as its maker gives it."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def environment() -> dict:
    """What a number depends on besides the code: versions, processor, torch's build, threads, commit.

    >>> runtime.environment()["torch"]
    '2.14.1+cu130'
    """
    import torchvision

    machine = _current
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "build": f"cuda {torch.version.cuda}" if torch.version.cuda else "cpu",
        "processor": device_name("cpu"),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "device": str(machine.device) if machine else None,
        "seed": machine.seed if machine else None,
        **commit(),
    }


def record(kind: str, **facts: object) -> None:
    """Append one JSON line to the file that the environment variable CNNCOURSE_RECORD names; without it do nothing.

    A run of a lesson collects its provenance here: what it was started with, which data it loaded.
    """
    if path := os.environ.get("CNNCOURSE_RECORD"):
        with open(path, "a") as file:
            file.write(json.dumps({"kind": kind, **facts}, default=str) + "\n")


def interactive() -> bool:
    """Whether somebody watches: a terminal, or a notebook with widgets whose front end answers questions.

    papermill, nbval and nbconvert start a kernel that nobody can answer; there progress is not shown, so that
    stored outputs hold nothing that differs from run to run.
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return sys.stderr.isatty()
    return (
        bool(getattr(kernel, "_allow_stdin", False))
        and importlib.util.find_spec("ipywidgets") is not None
    )


def _check_seed(seed: int) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ParameterError(
            "a seed from 0 to 2**32 - 1",
            repr(seed),
            where="argument seed",
            remedy="use a small whole number",
        )


def _device(name: str, dtype: torch.dtype, local_rank: int, world: int) -> torch.device:
    if name == "auto":
        name = _fastest() if dtype == torch.float32 else "cpu"
    if name == "cuda" and torch.cuda.is_available():
        if local_rank >= torch.cuda.device_count():
            raise MachineError(
                "a GPU for every process",
                f"process {local_rank} and {torch.cuda.device_count()} GPUs",
                where="torchrun --nproc_per_node",
                remedy="start at most one process a GPU",
            )
        torch.cuda.set_device(local_rank if world > 1 else torch.cuda.current_device())
        return torch.device("cuda", torch.cuda.current_device())
    try:
        device = torch.device(name)
        torch.empty(1, device=device, dtype=dtype)
        if device.type == "cuda":
            torch.cuda.set_device(device)  # processes exchange objects through the current one
    except (RuntimeError, AssertionError, TypeError) as error:
        raise MachineError(
            "a device of this machine",
            f"{name!r} ({str(error).splitlines()[0][:100]})",
            where="argument device of runtime.start",
            remedy="use device='auto'",
        ) from None
    return device


def _fastest() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _without_bf16(device: torch.device) -> str | None:
    """Why this device has no native bfloat16, or None if it has."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return None if native else f"{device_name(device)}, older than bfloat16"
    if device.type != "cpu":
        return f"a device of type {device.type}, on which it was never tested"
    with contextlib.suppress(OSError):
        words = set(Path("/proc/cpuinfo").read_text().split())
        if words & {"avx512_bf16", "amx_bf16", "bf16"}:
            return None
    return f"{device_name(device)}, whose instructions include neither avx512_bf16 nor amx_bf16 (Arm: bf16)"


def _threads(threads: int | str | None) -> int:
    given = os.environ.get("CNNCOURSE_THREADS")
    if threads == "auto" and given is None:
        jobs = os.environ.get("JOBS", "1")
        if not jobs.isdigit() or int(jobs) < 1:
            raise ParameterError(
                "a number of lessons at a time, at least 1",
                repr(jobs),
                where="environment variable JOBS",
                remedy="use JOBS=1",
            )
        here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # processes of this run on this machine
        return max(1, cores() // (int(jobs) * here))
    asked, where = threads, "argument threads of runtime.start"
    if threads in (None, "auto"):
        asked, where = given or "1", "environment variable CNNCOURSE_THREADS"
    count = int(asked) if isinstance(asked, int) or str(asked).isdigit() else 0
    if count < 1:
        raise ParameterError(
            "a number of threads, at least 1",
            repr(asked),
            where=where,
            remedy="use 1, or the number of idle cores",
        )
    return count


def _set_threads(count: int) -> None:
    torch.set_num_threads(count)
    if torch.get_num_threads() != count:
        raise MachineError(
            f"{count} threads",
            torch.get_num_threads(),
            where="torch.get_num_threads",
            remedy="this build of torch has one thread: use threads=1",
        )


def _set_deterministic(on: bool, device: torch.device) -> None:
    """On one thread sums have one order anyway; elsewhere torch must be asked, and then refuses some operations."""
    strict = on and (device.type != "cpu" or torch.get_num_threads() > 1)
    torch.use_deterministic_algorithms(strict)
    if torch.are_deterministic_algorithms_enabled() != strict:
        raise MachineError(
            f"deterministic algorithms {strict}",
            not strict,
            where="torch.are_deterministic_algorithms_enabled",
            remedy="use the torch that requirements.lock names",
        )
    switch(
        torch.utils.deterministic, "fill_uninitialized_memory", False
    )  # it finds bugs, and costs a pass over memory
    switch(torch.backends.cudnn, "deterministic", on)
    switch(torch.backends.cudnn, "benchmark", not on)
    if device.type == "cuda":
        switch(
            torch.backends.cuda.matmul, "allow_tf32", False
        )  # 10 bits of mantissa under the name of float32
        switch(torch.backends.cudnn, "allow_tf32", False)


def switch(module: object, name: str, value: object) -> None:
    """Set an attribute that must exist, and read it back: a misspelt backend switch has no effect and no error.

    >>> switch(torch.backends.cudnn, "determinstic", True)
    Traceback (most recent call last):
    cnncourse.errors.MachineError: expected an attribute of torch.backends.cudnn ...
    """
    where = getattr(module, "__name__", None) or type(module).__name__
    if not hasattr(module, name):
        raise MachineError(
            f"an attribute of {where}",
            repr(name),
            where="runtime.switch",
            remedy=nearest(name, [*dir(module), *dir(type(module))]),
        )
    setattr(module, name, value)
    if getattr(module, name) != value:
        raise MachineError(
            f"{where}.{name} = {value!r}",
            repr(getattr(module, name)),
            where="runtime.switch",
            remedy="use the torch that requirements.lock names",
        )


def _join(device: torch.device, rank: int, world: int, compile: bool) -> None:
    """Join the processes of a torchrun, once.

    One that torchrun started alone takes the path of many too, unless its network is compiled.
    """
    alone = world == 1 and (compile or "TORCHELASTIC_RUN_ID" not in os.environ)
    if alone or dist.is_initialized():
        return
    gpu = device.type == "cuda"
    dist.init_process_group(
        "nccl" if gpu else "gloo", rank=rank, world_size=world, device_id=device if gpu else None
    )
    atexit.register(lambda: dist.is_initialized() and dist.destroy_process_group())
