"""What is said of the machine: how fast it is while something runs."""

import time

import pytest

from cnncourse import machine
from cnncourse.errors import MachineError


def test_the_pace_is_the_mean_over_pieces_that_were_timed_meanwhile(monkeypatch):
    monkeypatch.setattr(machine, "EVERY", 0.001)
    ticks, now = iter((1.0, 2.0, 3.0)), [0.0]

    def clock():
        now[0] += machine.PIECE * (next(ticks, 2.0) if clock.ends else 0)
        clock.ends = not clock.ends
        return now[0]

    clock.ends = False
    with machine.Pace(clock) as pace:
        deadline = time.monotonic() + 30
        while len(pace.pieces) < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
    assert [round(piece / machine.PIECE, 6) for piece in pace.pieces[:3]] == [1, 2, 3]
    assert pace.slowness() == pytest.approx(2)  # the rest of the pieces take 2 as well
    done = len(pace.pieces)
    time.sleep(0.05)
    assert len(pace.pieces) == done  # it ends with the block


def test_a_file_of_a_package_is_found_and_what_is_missing_is_said_with_the_remedy():
    assert "git_version" in machine.package_file("torch", "torch/version.py").read_text()
    for package, name in (("torch", "torch/no_such.js"), ("no-such-package", "a.js")):
        with pytest.raises(MachineError, match=f"{name} of the package {package}") as caught:
            machine.package_file(package, name)
        assert f"pip install {package}" in str(caught.value)
