"""Tests compute on the processor, whose numbers they compare with; ``pytest -m gpu`` runs those that need a GPU."""

import json
import os
from importlib import metadata

import pytest


def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: needs a GPU")
    if "gpu" not in (config.option.markexpr or ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks


@pytest.fixture
def in_float64():
    """Numbers of lessons are compared in double precision, from one random seed."""
    import torch  # not before `pytest_configure`

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def site_packages(tmp_path, monkeypatch):
    """An empty folder that stands for the place where packages are installed."""

    class Installed:
        def locate_file(self, name):
            return tmp_path / name

    monkeypatch.setattr(metadata, "distribution", lambda name: Installed())
    return tmp_path


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The site of all lessons, built once for all processes of a run: its folder, and what is wrong with it."""
    from filelock import FileLock

    from cnncourse.lab import site

    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    with FileLock(shared / "site.lock"):
        told = shared / "site.json"
        if not told.is_file():
            told.write_text(json.dumps(site.make(target=shared / "site").complaints))
    return shared / "site", json.loads(told.read_text())
