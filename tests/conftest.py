"""Tests compute on the processor, whose numbers they compare with; ``pytest -m gpu`` runs those that need a GPU."""

import os

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
