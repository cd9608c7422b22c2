"""Exercises of lesson 14: residual networks."""

from __future__ import annotations

import copy
import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import BasicBlock

from cnncourse import cost, models
from cnncourse.exercises import Exercise, Wrong, expect_same

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
    norm = next(part for part in layer.modules() if isinstance(part, nn.BatchNorm2d))
    if norm.eps < 1e-6:
        raise Wrong("leave BatchNorm's eps at 1e-5 as in our networks, and undo it in the kernel")
    layer = layer.double().eval()
    x = torch.rand(2, 6, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        y, negative = layer(x), layer(-x)
    if y.shape != x.shape:
        shapes = f"{tuple(x.shape)}, got {tuple(y.shape)}"
        raise Wrong(f"expected the shape to stay {shapes}; what does padding=1 do?")
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
    norm = nn.BatchNorm2d(channels)  # mean 0, variance 1 so far: it divides by sqrt(1 + eps)
    nn.init.dirac_(convolution.weight)
    with torch.no_grad():
        convolution.weight *= (1 + norm.eps) ** 0.5
    return nn.Sequential(convolution, norm, nn.ReLU())


# --- 14.2 -------------------------------------------------------------------------------------------------------------


def _random_block(in_channels: int, channels: int, stride: int) -> nn.Module:
    """torchvision's block in float64 and evaluation mode, every number of its BatchNorms drawn."""
    downsample = None
    if stride != 1 or in_channels != channels:
        projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
        downsample = nn.Sequential(projection, nn.BatchNorm2d(channels))
    block = BasicBlock(in_channels, channels, stride, downsample).double().eval()
    for layer in block.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for numbers in (layer.weight.data, layer.running_var):
                nn.init.uniform_(numbers, 0.5, 1.5)
            for numbers in (layer.bias.data, layer.running_mean):
                nn.init.normal_(numbers)
    return block


def _mistakes(block, x) -> dict[str, torch.Tensor]:
    """What comes out when one thing is wrong: what to say about it, and the output."""
    shortcut = x if block.downsample is None else block.downsample(x)
    inner = block.bn1(block.conv1(x))
    branch = block.bn2(block.conv2(F.relu(inner)))
    mistakes = {
        "nothing is added: this is the plain block": F.relu(branch),
        "the last ReLU stands in front of the sum; it belongs behind it": F.relu(branch) + shortcut,
        "the last ReLU, behind the sum, is missing": branch + shortcut,
        "the ReLU between the two convolutions is missing": F.relu(
            block.bn2(block.conv2(inner)) + shortcut
        ),
        "the second BatchNorm is missing": F.relu(block.conv2(F.relu(inner)) + shortcut),
        "the first BatchNorm is missing": F.relu(
            block.bn2(block.conv2(F.relu(block.conv1(x)))) + shortcut
        ),
    }
    if block.downsample is None:
        late = F.relu(branch + F.relu(inner))
        mistakes["what is added has passed the first convolution; keep the block's input"] = late
    return mistakes


def check_residual_forward(residual_forward) -> str:
    for in_channels, channels, stride in ((4, 4, 1), (4, 6, 1), (4, 8, 2)):
        case = f"a block from {in_channels} to {channels} channels with stride {stride}"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(14)
            block = _random_block(in_channels, channels, stride)
            x = torch.randn(2, in_channels, 6, 6, dtype=torch.float64)
        given = x.clone()
        with torch.no_grad():
            right = block(x.clone())
            try:
                answer = residual_forward(block, given)
            except (RuntimeError, TypeError) as error:
                raise Wrong(
                    f"{case}: {error}. Where the shape changes, block.downsample(x) is added; "
                    "where it does not, block.downsample is None and x itself is"
                ) from None
            if not isinstance(answer, torch.Tensor) or answer.shape != right.shape:
                got = tuple(answer.shape) if isinstance(answer, torch.Tensor) else repr(answer)
                raise Wrong(f"{case} gives the shape {tuple(right.shape)}, got {got}")
            if not torch.equal(given, x):
                raise Wrong(
                    f"{case}: the input was changed in place; the shortcut needs it as it is"
                )
            if torch.allclose(answer, right, rtol=1e-9, atol=1e-9):
                continue
            for saying, output in _mistakes(block, x).items():
                if torch.allclose(answer, output, rtol=1e-9, atol=1e-9):
                    raise Wrong(f"{case}: {saying}")
        worst = float((answer - right).abs().max())
        raise Wrong(f"{case}: the output differs from torchvision's by up to {worst:.2g}")
    return "the same as torchvision's BasicBlock, with the same shape, with more channels and with stride 2"


def residual_forward(block, x):
    """relu(F(x) + shortcut), the shortcut a projection where the shape changes."""
    shortcut = x if block.downsample is None else block.downsample(x)
    y = F.relu(block.bn1(block.conv1(x)))
    y = block.bn2(block.conv2(y))
    return F.relu(y + shortcut)


# --- 14.3 -------------------------------------------------------------------------------------------------------------


def check_shrinkage(shrinkage) -> str:
    for layers, gain, expected, what in (
        (52, 2.0, 0.0, "He's start keeps the size"),
        (1, 8.0, math.log10(2), "one layer with four times He's variance doubles the size"),
        (2, 0.25, math.log10(0.125), "two layers with an eighth of He's variance"),
        (52, 1 / 3, 52 * math.log10(1 / 6) / 2, "the weak start over 52 layers"),
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
            raise Wrong(f"{call} gives {answer:.4g}, the wrong sign: does the signal grow there?")
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
        "the weak start loses 20 powers of ten over 52 layers; most of the rest of the fall in the "
        "figure is there from He's start too, and most of that goes with circular padding"
    )


def shrinkage(layers: int, gain: float) -> float:
    """A layer and its ReLU multiply the variance by gain / 2, and the size by the root of that."""
    return layers * math.log10(gain / 2) / 2


# --- 14.4 -------------------------------------------------------------------------------------------------------------


def check_kept_share(kept_share) -> str:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(14)
        two = [torch.randn(4, 3, dtype=torch.float64), torch.randn(5, dtype=torch.float64)]
    one = [torch.tensor([5.0], dtype=torch.float64)]  # of the parabola w**2 / 2 at w = 5
    for what, before, after, gradients, rate in (
        ("w**2 / 2 from w = 5 to its bottom", 12.5, 0.0, one, 1.0),
        ("w**2 / 2 from w = 5 to w = -5", 12.5, 12.5, one, 2.0),
        ("w**2 / 2 from w = 5 to w = -10", 12.5, 50.0, one, 3.0),
        ("two weight tensors", 2.3, 2.1, two, 0.05),
        ("two weight tensors and a loss that rises", 2.3, 2.9, two, 0.5),
    ):
        answer = kept_share(before, after, [g.clone() for g in gradients], rate)
        if not isinstance(answer, int | float | torch.Tensor):
            raise Wrong(f"{what}: expected a number, got {answer!r}")
        if isinstance(answer, torch.Tensor) and answer.ndim:
            raise Wrong("expected one number, got a tensor: add up within each, (g**2).sum()")
        fall, squared = before - after, sum(float(g.square().sum()) for g in gradients)
        lengths = [float(g.norm()) for g in gradients]
        share = fall / (rate * squared)
        hints = [
            (-share, "the sign: a fall is the loss before minus the loss after"),
            (fall / (rate * squared**0.5), "the length of the gradient is not squared: slope times way has it twice"),
            (fall / squared, "the rate is missing: the way of the step is rate * length"),
            (fall / (rate * sum(lengths) ** 2), "lengths do not add up, their squares do: all numbers are one vector"),
            (fall / (rate * lengths[0] ** 2), "only the first tensor is counted: the gradient is all of them"),
            (fall / (rate * lengths[-1] ** 2), "only the last tensor is counted: the gradient is all of them"),
            (fall, "this is the fall itself: divide it by the promise"),
            (rate * squared, "this is the promise: divide the fall by it"),
            (share and 1 / share, "upside down: the fall is divided by the promise"),
            (100 * share, "a share is asked for, not percent"),
        ]  # fmt: skip
        expect_same(answer, share, what, hints)
    return (
        "on a parabola the step to the bottom keeps half of its promise, one twice as long nothing, and a longer one "
        "makes the loss rise; all is kept only while the slope stays"
    )


def kept_share(before, after, gradients, rate):
    """The fall of the loss, divided by slope * way = rate * squared length of the whole gradient."""
    squared = sum(float(gradient.square().sum()) for gradient in gradients)
    return (before - after) / (rate * squared)


# --- 14.5 -------------------------------------------------------------------------------------------------------------


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


# --- 14.6 -------------------------------------------------------------------------------------------------------------


@cache
def _with_gradient() -> int:
    """The count of convolutions with a gradient, seen in a real network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = models.resnet_cifar(56, in_channels=1, width=4, zero_init_residual=True)
        images = torch.rand(16, 1, 8, 8, dtype=network.fc.weight.dtype)
        labels = torch.arange(16) % 10
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


# --- 14.7 -------------------------------------------------------------------------------------------------------------


@cache
def _rows(name: str) -> tuple[tuple[int, ...], ...]:
    """(in, out, kernel, stride, padding, input size) of all convolutions and linear layers at 224 pixels."""
    with torch.device("meta"):
        network = models.build(name)
    rows = []

    def note(layer: nn.Module, given: tuple) -> None:
        if isinstance(layer, nn.Linear):
            rows.append((layer.in_features, layer.out_features, 1, 1, 0, 1))
            return
        square = (layer.kernel_size[0], layer.stride[0], layer.padding[0], given[0].shape[-1])
        rows.append((layer.in_channels, layer.out_channels, *square))

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_pre_hook(note)
    network(torch.zeros(1, 3, 224, 224, device="meta"))
    return tuple(rows)


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
        "What a residual block computes",
        (
            "Two ways start at x: through the convolutions, and the shortcut. Where do they meet?",
            "The shortcut is x where block.downsample is None, else block.downsample(x).",
            "conv1, bn1, ReLU, conv2, bn2; add the shortcut; then the last ReLU.",
        ),
        check_residual_forward,
        residual_forward,
    ),
    Exercise(
        "14.3",
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
        "14.4",
        "What a step keeps of its promise",
        (
            "The promise is slope times way. How long is the gradient, all tensors together; how far goes a step?",
            "length**2 is the sum of the squares of all numbers in all tensors; promise = rate * length**2.",
            "The share is (before - after) / promise.",
        ),
        check_kept_share,
        kept_share,
    ),
    Exercise(
        "14.5",
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
        "14.6",
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
        "14.7",
        "3.6 G and 19.6 G",
        (
            "A weight is used once at every place of the output, so: number of weights times number of places.",
            "The places in one row: (size + 2 * padding - kernel) // stride + 1, as in lesson 04.",
            "weights = in * out * kernel**2, places = places_in_a_row**2; add up over the rows.",
        ),
        check_multiply_adds,
        multiply_adds,
    ),
]
