"""A course of one small lesson for the tests of sweeps, whose points end as their parameters say."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

LESSON = """# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # A small lesson

# %% tags=["parameters"]
seed: int = 0  # of everything; at least 0
width: int = 8  # channels; 1 to 64
rate: float = 0.1  # of learning; above 0, at most 1
depths: list[int] = [8]  # layers; each 2 to 80
way: str = "run"  # how it ends; one of run, raise, grow, hang, wait

# %%
import json, os, pathlib, random, time

from cnncourse import claims

# %%
if way == "wait":  # until the test says go
    folder = pathlib.Path(os.environ["TOY"])
    (folder / f"began-{seed}-{os.getpid()}").touch()
    while not (folder / f"go-{seed}").exists():
        time.sleep(0.05)

# %%
gap = width + random.Random(seed).random()
with open(os.environ["CNNCOURSE_RECORD"], "a") as file:
    print(json.dumps({"kind": "history", "row": {"epoch": 1, "train_loss": [gap, gap + 1]}}), file=file)
runs = [gap - 0.25, gap + 0.25]  # of two seeds
claims.check("emp-toy.gap", "At {width} channels the gap is {gap:.3f}.", gap=(runs, "<=", 10), width=width, seeds=2,
             on="mean")

# %%
if way == "raise":
    1 / 0
if way == "hang":
    time.sleep(1000)
hoard = []
while way == "grow":
    hoard.append(bytearray(10**7))
"""
LEDGER = "- {id: emp-toy, kind: empirical, statement: a toy, notebook: 14_resnet}\n"


def make(folder: Path) -> Path:
    """Write the course into a folder."""
    (folder / "notebooks" / "text").mkdir(parents=True)
    (folder / "notebooks" / "presets").mkdir()
    (folder / "notebooks" / "ledger.yaml").write_text(LEDGER)
    (folder / "notebooks" / "text" / "14_resnet.py").write_text(LESSON)
    (folder / "notebooks" / "presets" / "full.yaml").write_text('"14": {width: 32}\n')
    return folder


def until(condition, process=None, seconds: float = 300.0):
    """Wait for a condition and give what it gave; fails when the process that is to bring it about ends before."""
    last = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < last, "it did not come about"
        assert process is None or process.poll() is None, "the process ended"
        time.sleep(0.02)
    return found


def began(toy: Path, seed: int) -> list[int]:
    """The kernels that began the point of a seed, by process id, in their order."""
    files = sorted(toy.glob(f"began-{seed}-*"), key=lambda file: file.stat().st_mtime)
    return [int(file.name.rpartition("-")[2]) for file in files]


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def kill(process) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
