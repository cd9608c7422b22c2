"""cost.table beside torchinfo and fvcore: the same networks, who counts right, and how long each takes.

    pip install torchinfo fvcore && python benchmarks/cost.py

1. Every classification network of torchvision against the parameters and GFLOPS published with its weights.
2. Small networks whose multiply-adds are counted by hand; a tool is right when it gives this number.
3. Processor seconds of a whole analysis as a ratio to cost.table: the shortest of the runs, the least disturbed, in
   turn, on one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import logging
import sys
import time
import warnings

import _printing as printing
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from cnncourse import cost, runtime

IMAGE = (3, 224, 224)


# --- the three tools ------------------------------------------------------------------------------------------------


def ours(model: nn.Module, shape: tuple[int, ...]) -> tuple[int, int]:
    costs = cost.table(model, shape)
    return costs.parameters, costs.multiply_adds


def torchinfo(model: nn.Module, shape: tuple[int, ...]) -> tuple[int, int]:
    import torchinfo

    device = "meta" if any(p.is_meta for p in model.parameters()) else "cpu"
    found = torchinfo.summary(model, input_size=(1, *shape), verbose=0, device=device)
    return found.total_params, found.total_mult_adds


def fvcore(model: nn.Module, shape: tuple[int, ...]) -> tuple[int, int]:
    from fvcore.nn import FlopCountAnalysis, parameter_count

    device = "meta" if any(p.is_meta for p in model.parameters()) else "cpu"
    found = FlopCountAnalysis(model.eval(), torch.zeros(1, *shape, device=device))
    found.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return parameter_count(model)[""], int(found.total())


TOOLS = {"cost.table": ours, "torchinfo": torchinfo, "fvcore": fvcore}
for missing in [name for name in ("torchinfo", "fvcore") if importlib.util.find_spec(name) is None]:
    print(f"not compared: {missing} is not installed (pip install '.[bench]')")
    del TOOLS[missing]


def quietly(tool, model: nn.Module, shape: tuple[int, ...]):
    """The tool's answer, or the name of what it raised; what it prints and warns is not our subject."""
    silent = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(silent),
        contextlib.redirect_stderr(silent),
    ):
        warnings.simplefilter("ignore")
        try:
            return tool(model, shape)
        except (
            Exception
        ) as error:  # a peer may fail in any way: the name of the failure is the result
            return type(error).__name__


# --- 1: published totals --------------------------------------------------------------------------------------------


class WithoutWeights(TorchFunctionMode):
    """Makes new weights on the meta device, and leaves small sums (the design of a RegNet) to the processor."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.empty, torch.zeros, torch.ones):
            kwargs = kwargs | {"device": "meta"}
        return func(*args, **kwargs)


def published() -> None:
    models, right, worst, rounding, seconds = torchvision.models, 0, 0.0, [], 0.0
    cases = {}
    for name in models.list_models(module=models):
        for weights in models.get_model_weights(name):
            cases[name, weights.transforms.keywords["crop_size"]] = weights.meta
    for (name, size), meta in cases.items():
        options = {"image_size": size} if name.startswith("vit") else {}
        if name in ("googlenet", "inception_v3"):
            options = {"init_weights": False} | (
                {"aux_logits": False} if name == "googlenet" else {}
            )
        with WithoutWeights() if name.startswith("regnet") else torch.device("meta"):
            net = models.get_model(name, **options)
        start = time.perf_counter()
        parameters, multiply_adds = ours(net, (3, size, size))
        seconds += time.perf_counter() - start
        right += parameters == meta["num_params"]
        apart = abs(multiply_adds / 1e9 - meta["_ops"])
        if apart > 0.0005:  # more than the three published decimals can hide
            worst = max(worst, apart / meta["_ops"])
        elif apart / meta["_ops"] > 0.01:
            rounding.append(f"{name} {multiply_adds / 1e9:.5f} for the published {meta['_ops']}")
    print(
        f"1. torchvision: {len(cases)} networks and sizes, parameters equal in {right}, multiply-adds apart by "
        f"at most {worst:.3%} beyond rounding; {seconds:.0f} s in all"
    )
    for line in rounding:
        print(f"   only rounding apart: {line}")


# --- 2: counted by hand ---------------------------------------------------------------------------------------------


class Net(nn.Module):
    """A network written as one function of its modules."""

    def __init__(self, run, **parts):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.run(self, x)


def cases() -> list[tuple[str, nn.Module, tuple[int, ...], int, int]]:
    """What is tested, the network, its input, and its parameters and multiply-adds by hand."""

    def weight(*shape):
        return nn.Parameter(torch.zeros(shape))

    def conv(*sizes, **options):
        return nn.Conv2d(*sizes, bias=False, **options)

    shared, words = conv(8, 8, 3, padding=1), nn.Linear(16, 40, bias=False)
    attention = nn.MultiheadAttention(16, 4, batch_first=True, bias=False)
    return [
        ("convolution", conv(3, 8, 3, padding=1), (3, 8, 8), 216, 64 * 8 * 27),
        ("grouped convolution", conv(8, 8, 3, padding=1, groups=2), (8, 8, 8), 288, 64 * 8 * 36),
        (
            "transposed convolution, stride 2",
            nn.ConvTranspose2d(8, 4, 4, 2, 1, bias=False),
            (8, 7, 7),
            512,
            49 * 512,
        ),
        ("linear layer on a sequence", nn.Linear(7, 5, bias=False), (11, 7), 35, 11 * 35),
        (
            "one layer used three times",
            Net(lambda net, x: net.a(net.a(net.a(x))), a=shared),
            (8, 6, 6),
            576,
            62_208,
        ),
        (
            "tied weights, by function",
            Net(lambda net, x: F.linear(net.a(x), net.a.weight.T), a=words),
            (16,),
            640,
            1280,
        ),
        (
            "own weights, F.conv2d",
            Net(lambda net, x: F.conv2d(x, net.w), w=weight(4, 3, 3, 3)),
            (3, 8, 8),
            108,
            3888,
        ),
        (
            "own weights, x @ w",
            Net(lambda net, x: x.flatten(1) @ net.w, w=weight(48, 5)),
            (3, 4, 4),
            240,
            240,
        ),
        (
            "einsum",
            Net(lambda net, x: torch.einsum("nchw,cd->ndhw", x, net.w), w=weight(3, 5)),
            (3, 8, 8),
            15,
            960,
        ),
        (
            "product of two activations",
            Net(lambda net, x: x @ x.transpose(1, 2)),
            (5, 16),
            0,
            5 * 5 * 16,
        ),
        (
            "attention as a function",
            Net(lambda net, x: F.scaled_dot_product_attention(x, x, x)),
            (4, 5, 16),
            0,
            3200,
        ),
        (
            "nn.MultiheadAttention",
            Net(lambda net, x: net.a(x, x, x)[0], a=attention),
            (5, 16),
            1024,
            5120 + 800,
        ),
        ("nn.LSTM", nn.LSTM(10, 20, batch_first=True, bias=False), (5, 10), 2400, 5 * 4 * 20 * 30),
        ("nn.GRU", nn.GRU(10, 20, batch_first=True, bias=False), (5, 10), 1800, 5 * 3 * 20 * 30),
        (
            "unused parameters",
            Net(lambda net, x: net.a(x), a=conv(3, 4, 1), b=conv(9, 9, 1)),
            (3, 4, 4),
            93,
            192,
        ),
        ("by convention: a bias", nn.Conv2d(3, 8, 3, padding=1), (3, 8, 8), 224, 64 * 8 * 27),
        (
            "by convention: a BatchNorm",
            nn.Sequential(conv(3, 8, 1), nn.BatchNorm2d(8)),
            (3, 8, 8),
            40,
            64 * 24,
        ),
    ]


def by_hand() -> None:
    print("\n2. parameters / multiply-adds counted by hand; wrong answers are marked with !")
    print(printing.head(["", "by hand", *TOOLS]))
    right = dict.fromkeys(TOOLS, 0)
    table = cases()
    for name, model, shape, parameters, multiply_adds in table:
        cells = [name, f"{parameters:,} / {multiply_adds:,}"]
        for tool, analyse in TOOLS.items():
            found = quietly(analyse, model.eval(), shape)
            good = found == (parameters, multiply_adds)
            right[tool] += good
            answer = found if isinstance(found, str) else "{:,} / {:,}".format(*found)
            cells.append(answer + " !" * (not good))
        print(printing.row(cells))
    print(printing.row(["right", len(table), *right.values()]))


# --- 3: speed -------------------------------------------------------------------------------------------------------


def speed(runs: int) -> None:
    print(
        f"\n3. milliseconds for one analysis, and the ratio to cost.table; the shortest of {runs} runs, in turn"
    )
    print(printing.head(["network", "weights on", *TOOLS]))
    for name in ("vgg19", "resnet50", "resnet152", "densenet201", "swin_t", "vit_b_16"):
        for place in ("cpu", "meta"):
            with torch.device(place):
                net = torchvision.models.get_model(name).eval()
            taken: dict[str, list[float]] = {tool: [] for tool in TOOLS}
            failed: dict[str, str] = {}
            for run in range(runs + 1):  # the first warms up
                for tool, analyse in TOOLS.items():
                    start = time.process_time()
                    found = quietly(analyse, net, IMAGE)
                    if isinstance(found, str):
                        failed[tool] = found
                    elif run:
                        taken[tool].append(time.process_time() - start)
            base = min(taken["cost.table"])
            cells = [name, place]
            for tool, seconds in taken.items():
                shortest = min(seconds or [0.0])
                cells.append(failed.get(tool) or f"{1e3 * shortest:.0f} ms, {shortest / base:.2f}")
            print(printing.row(cells), flush=True)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    print(
        "; ".join(
            f"{key} {value}"
            for key, value in runtime.environment().items()
            if isinstance(value, (str, int))
        )
    )
    published()
    by_hand()
    speed(options.runs)


if __name__ == "__main__":
    main(sys.argv[1:])
