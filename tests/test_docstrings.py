"""Every example in a docstring gives what it says; what is not run here is named, with its reason."""

import collections
import contextlib
import doctest
import functools
import importlib
import io
import pathlib
import pkgutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from matplotlib import pyplot as plt
from torch import nn

import cnncourse
from cnncourse import data, models, runtime, scenes

PRETRAINED = (
    "needs a network with pretrained weights; tests/test_inspection.py computes with small ones"
)
OWN_FOLDER = "needs a folder of your own pictures; the tests of the module make some"
WRITES = "runs lessons, or writes into the course; the tests of the module do so in a folder of their own"
INSPECTIONS = (
    "deconvnet",
    "gradients",
    "maximise",
    "occlusion",
    "randomised",
    "saliency",
    "top_patches",
)
NOT_RUN = {
    "data.folder.folder_part": OWN_FOLDER,
    "data.folder.image_folder": OWN_FOLDER,
    "data.masks.masks_folder": OWN_FOLDER,
    "figures.same_picture": "needs a second picture",
    "figures.save": WRITES,
    **{f"inspection.{name}": PRETRAINED for name in INSPECTIONS},
    "lab.execute.run": WRITES,
    "lab.execute.store": WRITES,
    "lab.sweep.main": WRITES,
    "lab.skeleton.new": WRITES,
    "lab.site.make": WRITES,
    "lab.site.check.problems": WRITES,
    "lab.slides.make": WRITES,
    "machine.alone": WRITES,
    "machine.Pace": WRITES,
    "runtime": "sets up the whole process; tests/test_runtime.py reads back what it sets",
    "pretend": "its device stays for the whole process; tests/test_pretend.py starts one",
}


def examples():
    """Every docstring with examples, by its name without the package's."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for found in pkgutil.walk_packages(cnncourse.__path__, "cnncourse."):
        if not found.name.startswith("cnncourse.models") and not found.name.endswith("__main__"):
            for one in finder.find(importlib.import_module(found.name), found.name):
                if one.examples:
                    yield one


EXAMPLES = {one.name.removeprefix("cnncourse."): one for one in examples()}


@functools.cache
def world() -> dict:
    """What the examples name without making it: small data, a small network, a figure, some numbers."""
    modules = {
        found.name: importlib.import_module(f"cnncourse.{found.name}")
        for found in pkgutil.iter_modules(cnncourse.__path__)
        if found.name not in ("__main__", "lab", "packaged")
    }
    digits = data.digits()
    train, valid = digits.split([0.8, 0.2], seed=0, stratified=True)
    drawn = scenes.make(4, train=True, objects=(2, 2))

    def make():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    with runtime.seeded(0):
        parts = [("features", nn.Conv2d(1, 4, 3)), ("classifier", nn.Linear(4, 10))]
    given = {"np": np, "torch": torch, "nn": nn, "F": F, "plt": plt, "torchvision": torchvision}
    return modules | given | {
        "Path": pathlib.Path, "partial": functools.partial,
        "digits": digits, "train": train, "valid": valid, "make": make,
        "images": valid.images[:100] / 255, "pictures": valid.images[:10], "labels": valid.labels,
        "classes": valid.classes,
        "masks": torch.zeros(100, 8, 8, dtype=torch.int64),
        "generator": torch.Generator().manual_seed(0), "scene": drawn,
        "network": nn.Sequential(collections.OrderedDict(parts)),
        "losses": np.linspace(2, 1, 30).reshape(10, 3).T, "other": np.linspace(2, 0, 30).reshape(10, 3).T,
        "plain_block": models.resnet.BasicBlock(64, 64), "residual_block": models.resnet.BasicBlock(64, 64),
        "ratio": 1040.0,
    }  # fmt: skip


class Checker(doctest.OutputChecker):
    """Where an example says no result, as of a figure, any will do."""

    def check_output(self, want, got, optionflags):
        return not want or super().check_output(want, got, optionflags)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in NOT_RUN])
def test_an_example_gives_what_it_says(name):
    one = EXAMPLES[name]
    one.globs.update(world())
    with runtime.seeded(0):
        model = one.globs["model"] = one.globs["make"]()
    one.globs["optimizer"] = torch.optim.SGD(model.parameters(), lr=0.1)
    said = io.StringIO()
    runner = doctest.DocTestRunner(
        checker=Checker(), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    with plt.rc_context(), contextlib.redirect_stdout(io.StringIO()), runtime.seeded(0):
        one.globs["fig"], one.globs["ax"] = plt.subplots()
        result = runner.run(one, out=said.write, clear_globs=False)
    plt.close("all")
    assert result.failed == 0, said.getvalue()


def test_what_is_not_run_is_there():
    assert set(NOT_RUN) - set(EXAMPLES) == set()
