"""Tests compute on the processor, whose numbers they compare with; ``pytest -m gpu`` runs those that need a GPU."""

import os


def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: needs a GPU")
    if "gpu" not in (config.option.markexpr or ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks
