"""Exercises of lesson 14: residual networks."""

from __future__ import annotations

import copy
import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

from cnncourse import cost, models
from cnncourse.exercises import Exercise, Wrong

# --- 14.1 -------------------------------------------------------------------------------------------------------------

ALLOWED = 1e-9  # the largest difference, of one copy and of a network with ten; reference solution: 1e-16 and 1e-15


def check_copying_layer(copying_layer) -> str:
    layer = copying_layer(6)
    if not isinstance(layer, nn.Module):
        raise Wrong(
            f"expected a torch module such as nn.Sequential(...), got {type(layer).__name__}"
        )
    kinds = [type(part).__name__ for part in layer.modules() if not list(part.children())]
    if [kind for kind in kinds if kind != "ReLU"] != ["Conv2d", "BatchNorm2d"]:
        raise Wrong(
            f"expected the layers Conv2d, BatchNorm2d, ReLU, got {', '.join(kinds) or 'none'}"
        )
    convolution = next(part for part in layer.modules() if isinstance(part, nn.Conv2d))
    if convolution.kernel_size != (3, 3) or convolution.bias is not None:
        raise Wrong(
            f"expected a 3x3 convolution without bias, got kernel {convolution.kernel_size}"
            f"{' with bias' if convolution.bias is not None else ''}"
        )
    if (convolution.in_channels, convolution.out_channels) != (6, 6):
        raise Wrong(
            f"copying_layer(6) should have 6 channels in and out, got {convolution.in_channels} and "
            f"{convolution.out_channels}; use the argument channels"
        )
    layer = layer.double().eval()
    x = torch.rand(2, 6, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        y, negative = layer(x), layer(-x)
    if y.shape != x.shape:
        raise Wrong(
            f"expected the shape to stay {tuple(x.shape)}, got {tuple(y.shape)}; what does padding=1 do?"
        )
    worst = float((y - x).abs().max())
    if not worst < 1e-4:  # nan too
        raise Wrong(
            f"the output differs from the input by up to {worst:.2g}; print layer(x)[0, 0] beside x[0, 0], "
            "and see nn.init.dirac_ for a kernel that copies"
        )
    if negative.min() < 0:
        raise Wrong("the layer gives negative numbers: its last step is a ReLU")
    if ALLOWED < worst < 1e-7:
        raise Wrong(
            f"nearly: the output differs by {worst:.1e}, the rounding of float32. "
            "Make the layer with dtype=torch.float64 before you set its weights"
        )
    if worst > ALLOWED:
        raise Wrong(
            f"nearly: the output differs by {worst:.1e}. "
            "BatchNorm divides by sqrt(running_var + eps), and eps is 1e-5"
        )
    return f"ten copies inserted into a network change its outputs by {_deepened(copying_layer):.0e}; 1e-09 was allowed"


def _deepened(copying_layer) -> float:
    """The largest change of a network's outputs when ten copying layers stand between its blocks."""
    network = models.resnet_cifar(8, residual=False, in_channels=1, width=8).double().eval()
    images = 20 * torch.rand(4, 1, 8, 8, dtype=torch.float64)  # large activations too
    deeper = copy.deepcopy(network)
    deeper.layer1.extend([copying_layer(8).double().eval() for _ in range(10)])
    with torch.no_grad():
        worst = float((deeper(images) - network(images)).abs().max())
    if not worst <= ALLOWED:
        raise Wrong(
            f"one layer copies numbers between 0 and 1 to {ALLOWED:.0e}, but ten of them change the outputs of "
            f"a network by {worst:.1e}: compare layer(20 * x) with 20 * x, and multiply the kernel by "
            "the exact sqrt(1 + eps)"
        )
    return worst


def copying_layer(channels: int) -> nn.Module:
    """A convolution that picks the middle pixel, scaled by what BatchNorm will divide by."""
    convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False, dtype=torch.float64)
    norm = nn.BatchNorm2d(
        channels
    )  # mean 0, variance 1 so far: in evaluation mode it divides by sqrt(1 + eps)
    nn.init.dirac_(convolution.weight)
    with torch.no_grad():
        convolution.weight *= (1 + norm.eps) ** 0.5
    return nn.Sequential(convolution, norm, nn.ReLU())


# --- 14.2 -------------------------------------------------------------------------------------------------------------


def check_shrinkage(shrinkage) -> str:
    for layers, gain, expected, what in (
        (54, 2.0, 0.0, "He's start keeps the size"),
        (1, 8.0, math.log10(2), "one layer with four times He's variance doubles the size"),
        (2, 0.25, math.log10(0.125), "two layers with an eighth of He's variance"),
        (54, 1 / 3, 54 * math.log10(1 / 6) / 2, "the weak start over 54 layers"),
    ):
        answer = shrinkage(layers, gain)
        if isinstance(answer, bool) or not isinstance(answer, int | float):
            raise Wrong(f"expected a number, a power of ten, got {answer!r}; use math.log10")
        if abs(answer - expected) < 1e-9:
            continue
        call = f"shrinkage({layers}, {gain:.4g})"
        if expected and abs(answer - 2 * expected) < 1e-9:
            raise Wrong(
                f"{call} gives {answer:.4g}, twice {expected:.4g}: that is the power of the variance; "
                "the size is its square root"
            )
        if expected and abs(answer + expected) < 1e-9:
            raise Wrong(
                f"{call} gives {answer:.4g} with the wrong sign: does the signal grow there?"
            )
        if expected and abs(answer - expected * math.log(10)) < 1e-9:
            raise Wrong(f"{call} gives {answer:.4g}, a natural logarithm; powers of ten need log10")
        if abs(answer - 10**expected) < 1e-9:
            raise Wrong(f"{call} gives the factor {answer:.4g}; asked is its power of ten")
        if abs(answer - layers * math.log10(gain) / 2) < 1e-9:
            raise Wrong(
                f"{call} gives {answer:.4g}, as if a gain of 1 kept the size: "
                "half of the values behind a ReLU are 0, which is what He's 2 is for"
            )
        raise Wrong(f"{what}: {call} is {expected:.4g}, got {answer:.4g}")
    return (
        "the weak start loses 21 powers of ten over 54 layers; most of the rest of the fall in the "
        "figure is there from He's start too, and most of that goes with circular padding"
    )


def shrinkage(layers: int, gain: float) -> float:
    """A layer and its ReLU multiply the variance by gain / 2, and the size by the root of that."""
    return layers * math.log10(gain / 2) / 2


# --- 14.3 -------------------------------------------------------------------------------------------------------------


def check_path_counts(path_counts) -> str:
    for blocks, expected in ((1, [1, 1]), (2, [1, 2, 1]), (3, [1, 3, 3, 1]), (0, [1])):
        answer = path_counts(blocks)
        if isinstance(answer, int | float | str) or not hasattr(answer, "__iter__"):
            raise Wrong(f"expected a list with one number for each length, got {answer!r}")
        answer = list(answer)
        if len(answer) == blocks:
            raise Wrong(
                f"path_counts({blocks}) has {blocks} entries; the lengths are 0 to {blocks}, because one "
                "way goes past all blocks"
            )
        if answer != expected:
            raise Wrong(
                f"path_counts({blocks}) should be {expected}, got {answer}: "
                f"{blocks} block{'s' * (blocks != 1)} give{'s' * (blocks == 1)} {2**blocks} ways in all"
            )
    counts = list(path_counts(27))
    if counts != path_counts_of(27):
        raise Wrong(
            f"small cases are right; of 27 blocks {2**27:,} ways are expected in all, got {sum(counts):,}"
        )
    middle = sum(counts[9:19]) / sum(counts)
    return f"{middle:.0%} of the {2**27:,} ways of residual-56 go through 9 to 18 of its 27 blocks, and one through all"


def path_counts_of(blocks: int) -> list[int]:
    """Ways through exactly k of the blocks: as many as there are choices of k among them."""
    return [math.comb(blocks, k) for k in range(blocks + 1)]


# --- 14.4 -------------------------------------------------------------------------------------------------------------


@cache
def _with_gradient() -> int:
    """The count of convolutions with a gradient, seen in a real network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = models.resnet_cifar(56, in_channels=1, width=4, zero_init_residual=True)
        images, labels = (
            torch.rand(16, 1, 8, 8, dtype=network.fc.weight.dtype),
            torch.arange(16) % 10,
        )
        F.cross_entropy(network(images), labels).backward()
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    return sum(bool(layer.weight.grad.abs().max() > 0) for layer in layers)


def check_prediction(count: object) -> str:
    if isinstance(count, bool) or not isinstance(count, int):
        raise Wrong(f"expected a whole number of convolutions, got {count!r}")
    if not 0 <= count <= 55:
        raise Wrong(
            f"the network has 55 convolutions, so the answer lies between 0 and 55; got {count}"
        )
    if count == 0:
        raise Wrong(
            "the shortcuts carry the gradient of the loss past all blocks; "
            "which convolution lies before the first block?"
        )
    if count in (27, 28):
        raise Wrong(
            f"got {count}; look at both convolutions of a branch: what lies behind the second?"
        )
    if count != _with_gradient():
        raise Wrong(
            f"got {count}; which way does the gradient take through a block: branch, shortcut?"
        )
    return (
        "only the stem: every branch is shut behind its last BatchNorm, whose own weights do get a gradient, "
        "so from the second step on branches learn; whether with all of their channels, the next cells measure"
    )


def predict_gradients() -> int:
    """Where does the gradient stop on its way back? 1 + 54 convolutions, all but the first inside a branch."""
    in_blocks = 27 * 2
    reached = 0  # each branch ends in BatchNorm with weight 0: the factor 0 of the chain rule
    return 55 - in_blocks + reached


# --- 14.5 -------------------------------------------------------------------------------------------------------------


@cache
def _rows(name: str) -> tuple[tuple[int, ...], ...]:
    """(in, out, kernel, stride, padding, input size) of all convolutions and linear layers at 224 pixels."""
    with torch.device("meta"):
        network = models.build(name)
    sizes, hooks = {}, []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            hooks.append(
                layer.register_forward_pre_hook(
                    lambda layer, x: sizes.update({layer: x[0].shape[-1]})
                )
            )
    network(torch.zeros(1, 3, 224, 224, device="meta"))
    for hook in hooks:
        hook.remove()
    return tuple(
        (
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size[0],
            layer.stride[0],
            layer.padding[0],
            size,
        )
        if isinstance(layer, nn.Conv2d)
        else (layer.in_features, layer.out_features, 1, 1, 0, 1)
        for layer, size in sizes.items()
    )


def check_multiply_adds(multiply_adds) -> str:
    for rows, expected, what in (
        ([(1, 1, 1, 1, 0, 1)], 1, "one weight at one place"),
        ([(3, 5, 1, 1, 0, 4)], 240, "a 1x1 convolution of 3 to 5 channels on 4x4 pixels"),
        ([(1, 1, 3, 1, 0, 5)], 81, "a 3x3 kernel without padding on 5x5 pixels: 3x3 places"),
        ([(1, 1, 7, 2, 3, 224)], 614_656, "a 7x7 kernel, stride 2, padding 3: 112x112 places"),
        ([(8, 4, 1, 1, 0, 1), (4, 2, 1, 1, 0, 1)], 40, "two linear layers"),
    ):
        answer = multiply_adds(rows)
        if answer != expected:
            raise Wrong(f"{what}, {rows}, has {expected:,} multiply-adds, got {answer!r}")
    totals = {}
    for name in ("resnet34", "vgg19"):
        totals[name] = multiply_adds(list(_rows(name)))
        with torch.device("meta"):
            right = cost.table(models.build(name), (3, 224, 224)).multiply_adds
        if totals[name] != right:
            raise Wrong(
                f"{name} has {right:,} multiply-adds at 224 x 224, got {totals[name]!r}; "
                "each small case is right, so look at rows with stride 2 and at the type of the result"
            )
    resnet, vgg = totals.values()
    return f"ResNet-34 {resnet:,}, VGG-19 {vgg:,}: a factor of {vgg / resnet:.2f}"


def multiply_adds(rows) -> int:
    """Each weight multiplies once at each place of the output."""
    total = 0
    for in_channels, out_channels, kernel, stride, padding, size in rows:
        places = (size + 2 * padding - kernel) // stride + 1  # in a row, and as many rows
        total += in_channels * out_channels * kernel**2 * places**2
    return total


# --- 14.6 -------------------------------------------------------------------------------------------------------------


def _parameters(plan, depth: int, width: int, bottleneck: bool) -> int:
    """Parameters of the network that real blocks make of a plan, with shortcuts that have none."""
    kind = models.resnet.Bottleneck if bottleneck else models.resnet.BasicBlock
    with torch.device("meta"):
        parts = [
            nn.Conv2d(3, width, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.Linear(plan[-1][1], 10),
        ]
        parts += [
            kind(inside, out // kind.expansion, stride, shortcut="A")
            for inside, out, stride in plan
        ]
    return sum(p.numel() for part in parts for p in part.parameters())


def check_block_plan(block_plan) -> str:
    cases = (
        (8, 16, False, 3),
        (20, 8, False, 9),
        (56, 16, False, 27),
        (29, 16, True, 9),
        (164, 16, True, 54),
    )
    for depth, width, bottleneck, blocks in cases:
        call = f"block_plan({depth}, width={width}, bottleneck={bottleneck})"
        try:
            plan = [tuple(entry) for entry in block_plan(depth, width=width, bottleneck=bottleneck)]
        except TypeError as error:
            raise Wrong(
                f"{call} should give a list of (in channels, out channels, stride): {error}"
            ) from None
        if len(plan) != blocks:
            raise Wrong(
                f"{call} should have {blocks} blocks, got {len(plan)}: "
                f"one layer before them, one behind, {2 + bottleneck} in each"
            )
        if plan[0][0] != width:
            raise Wrong(
                f"{call}: the first block reads the {width} channels of the first convolution, got {plan[0]}"
            )
        for place, (before, after) in enumerate(zip(plan, plan[1:], strict=False)):
            if before[1] != after[0]:
                raise Wrong(
                    f"{call}: block {place} gives {before[1]} channels and the next one reads {after[0]}"
                )
        strides = [place for place, entry in enumerate(plan) if entry[2] == 2]
        if strides != [blocks // 3, 2 * blocks // 3]:
            raise Wrong(
                f"{call}: stride 2 belongs to the first block of the second and third stage, "
                f"places {blocks // 3} and {2 * blocks // 3}; got {strides}"
            )
        expected = [
            width * 2**stage * (4 if bottleneck else 1)
            for stage in range(3)
            for _ in range(blocks // 3)
        ]
        if [entry[1] for entry in plan] != expected:
            raise Wrong(
                f"{call}: the stages give {', '.join(map(str, dict.fromkeys(expected)))} channels, "
                f"got {', '.join(map(str, dict.fromkeys(entry[1] for entry in plan)))}"
            )
    for depth, bottleneck in ((21, False), (2, False), (50, True)):
        formula = "9n + 2" if bottleneck else "6n + 2"
        try:
            block_plan(depth, bottleneck=bottleneck)
        except ValueError:
            continue
        raise Wrong(
            f"block_plan({depth}, bottleneck={bottleneck}) should raise ValueError: "
            f"{depth} is not {formula} for any n from 1 on, and the plan was given all the same"
        )
    counts = [_parameters(list(block_plan(depth)), depth, 16, False) for depth in (20, 56)]
    return f"built from your plan, depths 20 and 56 have {counts[0]:,} and {counts[1]:,} parameters, as in the paper"


def block_plan(depth: int, width: int = 16, bottleneck: bool = False) -> list[tuple[int, int, int]]:
    """(in channels, out channels, stride) of every block of the three stages."""
    layers, expansion = (3, 4) if bottleneck else (2, 1)
    blocks = (depth - 2) // (3 * layers)
    if blocks < 1 or (depth - 2) % (3 * layers):
        raise ValueError(f"depth {depth} is not {3 * layers}n + 2")
    plan, inside = [], width
    for stage in range(3):
        for place in range(blocks):
            out = width * 2**stage * expansion
            plan.append((inside, out, 2 if stage > 0 and place == 0 else 1))
            inside = out
    return plan


EXERCISES = [
    Exercise(
        "14.1",
        "A layer that copies, with BatchNorm",
        (
            "nn.init.dirac_ fills a kernel so that the convolution copies; with padding=1 the size stays.",
            "In evaluation mode a fresh BatchNorm computes x / sqrt(1 + eps). What should the convolution give it?",
            "Multiply the kernel by sqrt(1 + norm.eps), in float64.",
        ),
        check_copying_layer,
        copying_layer,
    ),
    Exercise(
        "14.2",
        "How far a signal shrinks",
        (
            "The variance behind a layer: fan * variance of a weight * mean square of what comes in.",
            "The ReLU before it keeps half of the mean square. With a variance of gain / fan that makes gain / 2.",
            "The size is the root of the variance: layers * log10(gain / 2) / 2.",
        ),
        check_shrinkage,
        shrinkage,
    ),
    Exercise(
        "14.3",
        "The lengths of the ways",
        (
            "Each way says for every block: through it, or past it. Write down the eight ways of three blocks.",
            "A way through exactly k blocks is a choice of k among them.",
            "The number of choices is math.comb(blocks, k), for k from 0 to blocks.",
        ),
        check_path_counts,
        path_counts_of,
    ),
    Exercise(
        "14.4",
        "Which convolutions learn at the first step?",
        (
            "Follow the gradient backwards through one block: it splits at the sum, one part takes the shortcut.",
            "The other part meets BatchNorm first. Its output is weight * x_hat + bias; "
            "what is the derivative by x_hat if the weight is 0?",
            "So no convolution inside a branch gets a gradient. Which convolution is in no branch?",
        ),
        check_prediction,
        predict_gradients,
        returns_answer=True,
    ),
    Exercise(
        "14.5",
        "3.6 G and 19.6 G",
        (
            "A weight is used once at every place of the output, so: number of weights times number of places.",
            "The places in one row: (size + 2 * padding - kernel) // stride + 1, as in lesson 04.",
            "weights = in * out * kernel**2, places = places_in_a_row**2; add up over the rows.",
        ),
        check_multiply_adds,
        multiply_adds,
    ),
    Exercise(
        "14.6",
        "The plan of a 6n + 2 network",
        (
            "n is (depth - 2) / 6 for two layers a block; the remainder tells depths that do not fit.",
            "Loop over stages 0, 1, 2 and over n blocks; channels out are width * 2**stage, times 4 for bottlenecks.",
            "Carry the channels out of one block into the next; the stride is 2 where a stage but the first begins.",
        ),
        check_block_plan,
        block_plan,
    ),
]
