# ---
# jupyter:
#   jupytext:
#     formats: ipynb,text//py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 14 · Residual networks
# ### What does a deeper network do to its own training error, and what does a shortcut change?
#
# **The surprise.** Two networks see the same pictures of digits, in the same order, for the same number of steps.
# One has 20 layers, the other 56.
# The deeper one could do all that the shallower one does, and more; on its *own training pictures* it should be at least as good.
# The first curves below show what happens, and section 3 what one addition in every second layer does to it.
#
# **You will be able to**
# - tell degradation from overfitting by one number, the training error;
# - write what a residual block computes, and build by hand the deep network that training does not find;
# - measure what a gradient is like on its way back, and how far it can be trusted;
# - read a residual network as a bundle of short paths, count them, and say what a cut costs;
# - count what a residual network costs, and say what a bottleneck buys.
#
# **Sections 1 to 4 are the lecture**; 5 to 8 are a second one.
#
# **You need** loss and gradient (lessons 02 and 03), convolutions (04), He's start (06), BatchNorm (07). *Momentum* adds a part of the last step to each new one; *weight decay* makes every weight a little smaller at each step.
#
# **It costs** about 40 seconds of one core and no network connection.
# The preset `full` trains on CIFAR-10 with a GPU.
# `dataset` may be a folder of your own pictures; `image_size` scales them.

# %% tags=["parameters"]
dataset: str = "digits"  # the pictures; one of digits, mnist, fashion_mnist, cifar10, or a folder
image_size: int = 0  # pixels a side for the pictures of a folder, 0: as they are; 0 or 8 to 128
images: int = 0  # training images to use, 0 for all of them; 0 or 1024 to 60000
depths: list[int] = [20, 56]  # layers; 2 values, each 8 to 200, each 6n + 2, ascending
width: int = 8  # channels of the first stage, 16 in the paper; 1 to 64
epochs: int = 3  # passes over the training images; 1 to 1000
batch_size: int = 64  # images a step; 8 to 1024
learning_rate: float = 0.05  # at the first step; falls in a straight line to 0; above 0
weight_decay: float = 0.0001  # the paper's value; 0 to 1
augmented: bool = False  # shift by up to 4 pixels and mirror, as the paper does for CIFAR-10
runs: int = 2  # trainings of every network, each from a seed of its own; 2 to 20
seed: int = 0  # of the first of them; at least 0

# %% tags=["imports", "fold"]
import copy
import itertools
import math
from dataclasses import dataclass
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from matplotlib.patches import Arc
from torch import nn

from cnncourse import augment, claims, cost, data, diagrams, exercises, figures
from cnncourse import models, plots, runtime, training

# %% tags=["fold"]
device = runtime.start(seed=seed, memory_format="channels_last").device
figures.use_style()
size = image_size or None
train_set = data.load(dataset, train=True, size=size).to(device)
test_set = data.load(dataset, train=False, size=size).to(device)
if images:
    train_set = train_set.subset(images, seed=seed)
mean, std = train_set.statistics()
train_set, test_set = train_set.normalised(mean, std), test_set.normalised(mean, std)
steps = epochs * (len(train_set) // batch_size)
moves = augment.compose(partial(augment.crop, padding=4), augment.flip) if augmented else None
fig, ax = plt.subplots(figsize=(figures.WIDTH, 1.3))
ten = train_set[:10]
names = [ten.classes[y] for y in ten.labels]
plots.image_grid(ax, ten.images.cpu(), columns=10, labels=names)
figures.show(fig, alt=f"Ten training pictures: {', '.join(names)}.")
print(f"{len(train_set):,} training and {len(test_set):,} test pictures")

# %% [markdown]
# ## 1 · Twenty layers and fifty-six
#
# The pictures above: handwritten digits of 8 × 8 pixels, grey.
# Training and test pictures are a random split, so the same hands may have written both;
# this lesson is about the *training* error.
#
# **Words.**
# A *block* is two convolutions that belong together; a *stage* is a run of blocks that work at one image size.
# *plain-56* is a network of 56 layers without shortcuts, *residual-56* the same with them.
# The *training error* is the share of training pictures that a network gets wrong; guessing among ten digits gives 90 %.
# "The paper" is He, Zhang, Ren and Sun, *Deep residual learning for image recognition* (2015).
#
# A ✓ marks a sentence whose numbers the code above it has measured; small below stands what was required of them.
# The requirements hold for the parameters as they stand here; change one, and the sentences report and require nothing.
#
# **The plain block**: convolution, BatchNorm, ReLU, and the same again.
# BatchNorm subtracts the mean, so the convolutions need no bias.
# With stride 2 the block halves height and width; it then gives twice as many channels.
# ($F$ in formulas is all of it up to the last ReLU: two convolutions, each with its BatchNorm, and the ReLU between. In code `F` is torch's module of functions.)

# %% tags=["define"]
class PlainBlock(nn.Module):
    """relu(F(x)), F two convolutions: (N, C_in, H, W) -> (N, C, H / stride, W / stride)."""

    def __init__(self, in_channels, channels, stride=1, *, batch_norm=True):
        super().__init__()
        norm = nn.BatchNorm2d if batch_norm else nn.Identity
        bias = not batch_norm
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=bias)
        self.bn1 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.bn2 = norm(channels)
        self.stride, self.new_channels = stride, channels - in_channels

    def branch(self, x):  # F(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))

    def forward(self, x):
        return F.relu(self.branch(x))

# %% [markdown]
# **The network** of the paper for CIFAR-10: one convolution; three stages of $n$ blocks with $w$, $2w$ and $4w$ channels;
# the average over all pixels; one linear layer.
# That makes $1 + 3 \cdot n \cdot 2 + 1 = 6n + 2$ layers with weights.

# %% tags=["define", "ledger:arch-resnet-cifar"]
class CifarNet(nn.Module):
    """6n + 2 layers (He et al. 2015, section 4.2): (N, in_channels, H, W) -> (N, num_classes)."""

    def __init__(self, depth, block, *, in_channels=3, num_classes=10, width=16, batch_norm=True):
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth is 6n + 2, such as 8, 20 or 56; got {depth}")
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=not batch_norm)
        self.bn1 = nn.BatchNorm2d(width) if batch_norm else nn.Identity()
        channels = width
        for stage in range(3):
            blocks = []
            for position in range((depth - 2) // 6):
                stride = 2 if stage > 0 and position == 0 else 1
                blocks.append(block(channels, width * 2**stage, stride, batch_norm=batch_norm))
                channels = width * 2**stage
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, images):
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))  # (N, 4 * width), the average over all pixels

# %% [markdown]
# `initialise` draws the weights as He prescribes, with variance 2 / fan.
# Lesson 06 took as *fan* the inputs of a unit, kernel area × channels in.
# Here it is kernel area × channels *out*, the weights that read one value (at stride 1, away from the border); the two differ only where the channels change.
# The 2 (`gain` in the code) makes up for the half of the values that each ReLU sets to zero.
# (`initialise` and the lesson's other tools stand in the folded cell.)
#
# **The training loop**, all of it.
# `rate_at` lets the learning rate fall in a straight line to 0.
# `warm_up`, `clip` and `most` are remedies that nothing uses yet; without them `shortened` leaves the gradient as it is, and only notes what the step promises, for section 4.

# %% tags=["define", "fold"]
# The lesson's tools: initialise, make, train_all, errors and norms, train_to_copy, ...

def initialise(network, gain=2.0):
    """Draw every convolution from a normal of variance gain / (kernel area * channels out)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.weight[:, 0].numel()  # channels out * kernel height * kernel width
            nn.init.normal_(layer.weight, std=math.sqrt(gain / fan_out))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def make(block, depth, run):
    """A new network on the device; the run decides its weights."""
    torch.manual_seed(seed + run)
    classes = len(train_set.classes)
    network = CifarNet(depth, block, in_channels=len(mean), num_classes=classes, width=width)
    return network.to(device, memory_format=torch.channels_last)


@dataclass
class Trained:
    """What training one kind of network from every seed gave."""

    networks: list  # one a run
    curves: np.ndarray  # wrong answers in each step's batch, from 0 to 1: (runs, steps)
    promised: np.ndarray  # the fall of the loss that each step promises: (runs, steps)
    train: np.ndarray  # error on all training images at the end, percent: (runs,)
    test: np.ndarray  # the same on test images


def rate_at(step, rate, warm_up=1):
    """The learning rate: rises over the first warm_up steps, falls in a straight line to 0."""
    return rate * min(1, (step + 1) / warm_up) * (1 - step / steps)


def shortened(weights, rate, clip=math.inf, most=math.inf):
    """Shorten the gradient to length clip, and until a step promises most; returns the promise."""
    slope = nn.utils.clip_grad_norm_(weights, clip).item()  # the length before clipping
    promise = rate * slope * min(slope, clip)  # slope * way
    if promise > most:
        nn.utils.clip_grad_norm_(weights, most / (rate * slope))
    return min(promise, most)


def percent_wrong(network, images):
    """The error on these images, in percent."""
    return 100 * (1 - training.evaluate(network, images).accuracy)


def train_all(block, depth):
    """Train one network for every run."""
    networks = [make(block, depth, run) for run in range(runs)]
    records = [train(network, run, learning_rate) for run, network in enumerate(networks)]
    records = np.array(records)  # (runs, 2, steps)
    ends = [[percent_wrong(network, part) for network in networks]
            for part in (train_set, test_set)]
    return Trained(networks, records[:, 0], records[:, 1], *map(np.array, ends))


def percent_wrong_recomputed(network, images):
    """The same when BatchNorm takes its means and variances from these images."""
    x, y = next(images.batches(len(images)))
    with torch.no_grad():
        logits = copy.deepcopy(network).train()(x)
    return 100 * (logits.argmax(1) != y).float().mean().item()


def lengths(tensors):
    """The norm of each tensor."""
    return [tensor.norm().item() for tensor in tensors]


def flat(tensors):
    """All their numbers in one vector."""
    return torch.cat([tensor.flatten() for tensor in tensors])


def loss_and_gradient(network, images, labels):
    """The loss on these images, and its gradient: one tensor for each of the weights."""
    loss = F.cross_entropy(network.train()(images), labels)
    return loss.item(), torch.autograd.grad(loss, list(network.parameters()))


def count(network):
    """The number of parameters."""
    return sum(p.numel() for p in network.parameters())


def kernel_weights(block):
    """The number of weights of its convolutions."""
    layers = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
    return sum(layer.weight.numel() for layer in layers)


def weight_layers(network):
    """The number of convolutions and linear layers, without projections on shortcuts."""
    path = [layer for name, layer in network.named_modules() if "downsample" not in name]
    return sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in path)


def use_circular_padding(network):
    """Let every 3x3 convolution take the opposite border in place of zeros."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.padding_mode = "circular"
            layer._reversed_padding_repeated_twice = [1, 1, 1, 1]  # torch computes it once, in init


def bare_norms(kind, run, gain, few, padding="zeros"):
    """block_norms of a new network of 56 layers without BatchNorm, in float64, for few images."""
    torch.manual_seed(seed + run)
    network = CifarNet(56, KINDS[kind], in_channels=len(mean), width=8, batch_norm=False)
    initialise(network, gain)
    if padding == "circular":
        use_circular_padding(network)
    return block_norms(network.to(device).double(), *few)


def with_first_lengths(network, fresh):
    """A copy whose convolutions keep their direction and get the norms of a new network."""
    network = copy.deepcopy(network)
    for layer, start in zip(network.modules(), fresh.modules()):
        if isinstance(layer, nn.Conv2d):
            layer.weight.data *= start.weight.norm() / layer.weight.norm()
    return network


def living_channels(network, images):
    """How many channels that the last block gives are not 0 on all of these images."""
    with torch.no_grad():
        x = F.relu(network.eval().bn1(network.conv1(images)))
        x = network.layer3(network.layer2(network.layer1(x)))
    return int((x.amax((0, 2, 3)) > 0).sum())


def response_sizes(network, images):
    """The deviation of each block's F(x), divided by that of its input: (blocks,)."""
    network = copy.deepcopy(network).train()  # statistics of this batch
    sizes = []
    with torch.no_grad():
        x = F.relu(network.bn1(network.conv1(images)))
        for block in (*network.layer1, *network.layer2, *network.layer3):
            response = block.branch(x)
            sizes.append(float(response.std() / x.std()))
            x = block(x)
    return np.array(sizes)


def all_response_sizes(images):
    """response_sizes of new and trained networks: "plain, new" and so on to (runs, blocks)."""
    found = {}
    for kind, block in KINDS.items():
        networks = {"new": [make(block, shallow, run) for run in range(runs)],
                    "trained": trained[kind][shallow].networks}
        for when, nets in networks.items():
            found[f"{kind}, {when}"] = np.array([response_sizes(net, images) for net in nets])
    return found


def readers(table, kind):
    """The kinds of layers that read the outputs of one kind: readers(table, "Conv2d")."""
    makers = {place for place, row in enumerate(table.rows) if row.kind == kind}
    return {row.kind for row in table.rows if makers & set(row.inputs)}


def kernels(table, block):
    """Kernel sizes of a block's convolutions, shortcut left out: kernels(table, "layer1.0")."""
    rows = [row for row in table[block].rows if row.kind == "Conv2d"]
    return [row.kernel[0] for row in rows if "downsample" not in row.name]


def draw_errors(ax, kind, colour):
    """Errors in the batches over the steps; at the end on all training and all test images."""
    ax.axhline(90, color=figures.COLOUR["muted"], linewidth=1)
    ax.text(0.5, 91, "guessing", color="0.35", fontsize=11)
    for depth, style in zip(depths, ("--", "-")):
        found = trained[kind][depth]
        means = [100 * found.curves[:, window].mean(1) for window in windows]  # each (runs,)
        name = f"{kind}-{depth}"
        plots.curves(ax, {name: np.array(means).T}, x=[w.mean() + 0.5 for w in windows],
                     colours={name: colour}, labels=False, styles={name: style}, widths={name: 3})
        ax.plot(steps * 1.04, found.train.mean(), "o", markersize=8, color=colour)
        ax.plot(steps * 1.1, found.test.mean(), "o", markersize=8, mfc="white", color=colour)
    ax.set(xlabel="step", ylim=(-3, 100), xlim=(0, steps * 1.14))
    ax.set_xticks([tick for tick in ax.get_xticks() if tick <= steps])  # the dots stand behind
    plots.label_ends(ax)


def draw_key(ax, height):
    """What lines and dots are, in words."""
    lines = ("lines: each new batch", "● all training images", "○ all test images")
    for place, line in enumerate(lines):
        ax.text(steps * 1.14, height - 9 * place, line, ha="right", fontsize=12, color="0.25")


def name_ends(ax, ends):
    """Name the large dots of the figure of promises: (kind, depth) to (promise, share, fall)."""
    spread = plots.spread([share / 118 for _, share, _ in ends.values()], 0.085)
    for ((kind, depth), (x, _, fall)), place in zip(ends.items(), spread):
        last = x > 1000  # at the right end: the name stands above its point
        told = f"falls by {fall:.2f}" if fall >= 0.02 else "no fall"
        ax.text(x if last else 1.4 * x, 8 if last else 118 * place, f"{kind}-{depth}: {told}",
                ha="right" if last else "left", va="center", color=figures.COLOUR[kind],
                fontweight="bold")


def places_to_cut(network):
    """The places, from 1, of the blocks that keep the shape, and of those that begin a stage."""
    strides = [block.stride for block in network.modules() if isinstance(block, PlainBlock)]
    return 1 + np.flatnonzero(np.array(strides) == 1), 1 + np.flatnonzero(np.array(strides) > 1)


def draw_cuts(ax, found, whole, places, colour):
    """Errors without one block: dots for the seeds, bars for their mean, which it returns; dotted:
    nothing taken out."""
    ax.plot(places, found.T, "o", color=colour, markersize=5)
    ax.plot(places, found.mean(0), "_", color=colour, markersize=16, markeredgewidth=3)
    ax.axhline(np.mean(whole), color=colour, linewidth=1.2, linestyle=":")
    return found.mean(0)


def kept_powers(norms):
    """log10 of what is left of the gradient at the outputs, from the last block to the first."""
    return np.log10(norms[:, BACK, 0] / norms[:, BACK, -1])


def draw_promise(ax, found, colour, full):
    """How much of their promises steps keep, from what `falls` gave; full: line and dot, not dashed
    and open. Returns the shares in percent, mean of the runs: (promises + 1,)."""
    promised = found[:, PROMISE].mean(0)
    shares = np.maximum(100 * found[:, FALL] / found[:, PROMISE], -5)  # (runs, promises + 1)
    shown = np.flatnonzero(promised[:-1] <= promised[-1])  # not beyond the step of training
    share = shares.mean(0)
    ax.plot(promised[shown], share[shown], color=colour, linewidth=3, marker="o", markersize=5,
            linestyle="-" if full else "--")
    ax.fill_between(promised[shown], shares[:, shown].min(0), shares[:, shown].max(0),
                    color=colour, alpha=0.2, linewidth=0)
    last = [*shown[-1:], -1]  # nothing is measured between these two
    ax.plot(promised[last], share[last], ":", color=colour, linewidth=1.5, zorder=1)
    ax.plot(promised[-1], share[-1], "o", markersize=10, color=colour, markeredgewidth=2,
            mfc=colour if full else "white")
    return share


def train_to_copy(k, residual, gain, run, pixels, steps=25):
    """A new stack of k dense layers learns to copy: its errors (at the first step, at the end)."""
    torch.manual_seed(seed + run)
    stack = DenseStack(k, residual, gain).double()
    optimizer, found = torch.optim.Adam(stack.parameters(), lr=0.003, fused=True), []
    unit = pixels.var(0).mean().item()  # the error of always answering the mean picture
    for _ in range(steps):
        rows = torch.randint(len(pixels), (128,))
        loss = F.mse_loss(stack(pixels[rows]), pixels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item() / unit)
    return found[0], float(np.mean(found[-5:]))


def growth_of(k, run, pixels):
    """How many times larger a signal (rms) leaves k residual dense layers from He's start."""
    torch.manual_seed(seed + run)
    with torch.no_grad():
        y = DenseStack(k, True, 2.0).double()(pixels)
    return float((y.square().mean() / pixels.square().mean()).sqrt())


def wilson(share, number, z=1.96):
    """The 95 % interval of a share that was counted in so many cases (Wilson 1927): (low, high)."""
    middle = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    half = z * math.sqrt(share * (1 - share) / number + z**2 / (4 * number**2))
    half /= 1 + z**2 / number
    return middle - half, middle + half

# %% tags=["define"]
def train(network, run, rate, *, warm_up=1, clip=math.inf, most=math.inf):
    """Train in place; two lists, with an entry for each step: the share of wrong answers in its
    batch, and the fall of the loss that the step promises (section 4)."""
    weights, wrong, promised = list(network.parameters()), [], []
    sgd = torch.optim.SGD(weights, rate, 0.9, weight_decay=weight_decay, fused=True)
    order = torch.Generator(device).manual_seed(seed + run)  # decides the order of the images
    for _ in range(epochs):
        for x, y in train_set.batches(batch_size, order, drop_last=True, augment=moves):
            rate_now = rate_at(len(wrong), rate, warm_up)
            sgd.param_groups[0]["lr"] = rate_now
            logits = network(x)  # (batch, classes)
            sgd.zero_grad()
            F.cross_entropy(logits, y).backward()
            promised.append(shortened(weights, rate_now, clip, most))  # the gradient, if asked to
            sgd.step()
            wrong.append((logits.argmax(1) != y).float().mean().item())
    return wrong, promised

# %% tags=["fold"]
exercises.predict(
    "14.p1",
    "After training, plain-20 gets a tenth or so of its training images wrong. "
    "plain-56 sees the same images in the same order. Its training error is",
    ("smaller", "about the same", "about twice as large", "more than three times as large"),
)

# %%
shallow, deep = depths
trained = {"plain": {depth: train_all(PlainBlock, depth) for depth in depths}}

# %% tags=["fold"]
budget = f"{dataset}, width {width}, {steps} steps of {batch_size} images, {runs} seeds, {device}"
windows = np.array_split(np.arange(steps), min(12, steps))  # the steps of each point of a curve
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.6))
ax.set(title="The deeper network is worse, on the pictures it learns from",
       ylabel="wrong answers (%)")
draw_errors(ax, "plain", figures.COLOUR["plain"])
draw_key(ax, 66)
figures.show(fig, alt="Errors over the steps: plain-56 stays near guessing, plain-20 falls. On all "
             "training and all test pictures the deeper network is wrong more often.")
short, long = trained["plain"][shallow], trained["plain"][deep]
ratio = long.train.mean() / short.train.mean()
exercises.reveal(
    "14.p1", "smaller" if ratio < 0.8 else
    "about the same" if ratio < 1.25 else
    "about twice as large" if ratio < 3 else "more than three times as large",
    "The numbers:")
claims.check(
    "emp-plain56-worse-than-plain20",
    "After {steps} steps plain-20 gets {shallow:.1f} % of its training images wrong, "
    "plain-56 {deep:.1f} %.",
    steps=steps, shallow=(short.train, "<=", 35), deep=(long.train, ">=", 45),
    seeds=runs, on="every", varies=True,
)
claims.check(
    "emp-degradation-not-overfitting",
    "On the images they learn from plain-56 errs {train:.1f} points more often than plain-20, on "
    "test images {test:.1f} points more.",
    train=(long.train - short.train, ">=", 25), test=long.test - short.test,
    seeds=runs, on="every", varies=True,
)

# %% [markdown]
# This is **degradation**, here in 63 steps: with depth the *training* error rises, and the test error goes along with it.
# Overfitting is something else: a low training error and a high test error.
# In the picture the filled dots are this training error; the lines are errors on each batch, which the network has yet to learn from.
# (The ranges are those of two seeds; a third seed may lie outside.)
#
# Perhaps we only trained it badly.
# Two usual remedies for a network that does not start:
# a *warm-up*, in which the learning rate rises from near 0 over the first third of the steps;
# and *clipping*, which shortens every gradient that is longer than 5 to length 5.

# %% tags=["fold"]
exercises.predict(
    "14.p2",
    "Both remedies at once: in the same number of steps plain-56 ends",
    ("as low as plain-20", "halfway down to it", "less than halfway down", "no lower than before"),
)

# %%
def rescued(depth, run, **remedies):
    """Train a plain network with remedies: its training error in percent, and what it promised."""
    network = make(PlainBlock, depth, run)
    promised = train(network, run, learning_rate, **remedies)[1]
    return percent_wrong(network, train_set), promised


both = {"warm_up": max(1, steps // 3), "clip": 5.0}
remedied, promised_remedied = rescued(deep, 0, **both)

# %% tags=["fold"]
way = (long.train[0] - remedied) / (long.train[0] - short.train[0])
exercises.reveal(
    "14.p2",
    "as low as plain-20" if way >= 1 else
    "halfway down to it" if way >= 0.5 else
    "less than halfway down" if way > 0 else "no lower than before",
    "The numbers:",
)
claims.check(
    "emp-plain56-worse-than-plain20.remedies",
    "With warm-up and clipping together plain-56 ends at {deep:.0f} %, without them at "
    "{bare:.0f} %; plain-20 ends at {twenty:.0f} % without them ({steps} steps, one seed).",
    steps=steps, deep=(remedied, ">=", 45), bare=long.train[0], twenty=(short.train[0], "<=", 35),
    varies=True,
)

# %% [markdown]
# plain-56 ends a little higher with the remedies than without, with each of the two seeds in the table below.
#
# Is it the learning rate, or the number of steps?
# Most of these runs cost more than this page may; here is what they gave on one core (training error in %, two seeds).
# A row with `-p` is repeated by `python -m cnncourse run 14` with these words behind it.
# One of the others by the line `[rescued(depth, run, clip=5.0)[0] for depth in depths for run in range(runs)]` in a new cell, with the row's words in place of `clip=5.0`.
# Other machines round differently, and plain-56 magnifies that.
#
# | run | plain-20 | plain-56 |
# |---|---|---|
# | rate 0.05, 63 steps (above) | 9.1, 14.9 | 81.1, 80.1 |
# | `-p learning_rate 0.001` | 87.8, 86.9 | 89.3, 80.7 |
# | `-p learning_rate 0.005` | 64.8, 70.2 | 82.0, 79.9 |
# | `-p learning_rate 0.01` | 54.6, 52.3 | 81.4, 70.7 |
# | `-p learning_rate 0.02` | 36.9, 48.7 | 76.9, 80.2 |
# | `-p learning_rate 0.1` | 7.6, 5.2 | 78.5, 75.9 |
# | `-p learning_rate 0.2` | 25.2, 11.8 | 85.8, 85.1 |
# | `-p epochs 40` (840 steps) | 0.0, 0.0 | 29.2, 45.8 |
# | `warm_up=21` | 26.6, 17.4 | 78.8, 83.2 |
# | `clip=5.0` | 7.3, 10.2 | 83.7, 84.7 |
# | `warm_up=21, clip=5.0` (plain-56, first seed: above) | 22.0, 11.4 | 87.4, 84.2 |
# | `most=0.3`: no step promises more than 0.3 (section 4) | 23.6, 34.9 | 89.9, 90.6 |
#
# **We now know** that in 63 steps 56 plain layers learn less than 20, at each of these rates but the smallest, where both stay above 80 %, and with each remedy.
# **This does not show** that plain-56 can never learn: with more steps it does, late and less.
# The paper says it carefully: deep plain networks "may have exponentially low convergence rates".
#
# ## 2 · The better network exists
#
# Is 56 layers of this kind simply a bad network?
# We can *build* a good one.
# Take the trained plain-20 and insert blocks that copy their input.
# A convolution copies when its kernel has a 1 in the middle of the matching channel and 0 elsewhere;
# the ReLU behind it changes nothing, because what arrives there is never negative.
# (These blocks have no BatchNorm; exercise 14.1 copies with it.)

# %% tags=["define", "ledger:emp-identity-construction"]
def copying_block(channels):
    """A plain block that returns its input, as long as that is not negative."""
    block = PlainBlock(channels, channels, batch_norm=False)
    for layer in (block.conv1, block.conv2):
        nn.init.dirac_(layer.weight)  # 1 in the middle of channel i of kernel i, else 0
        nn.init.zeros_(layer.bias)
    return block


def deepened(network, blocks):
    """A copy of a plain network with so many copying blocks behind each stage."""
    network = copy.deepcopy(network)
    for stage in (network.layer1, network.layer2, network.layer3):
        weight = stage[-1].conv2.weight
        stage.extend(copying_block(len(weight)).to(weight.device) for _ in range(blocks))
    return network

# %% tags=["nbval-varies", "fold"]
built = deepened(trained["plain"][shallow].networks[0], (deep - shallow) // 6)
claims.check(
    "emp-identity-construction",
    "Built: {layers} layers, training error {error:.2f} %. Trained from scratch: {scratch:.1f} %.",
    layers=(weight_layers(built), "==", deep), scratch=trained["plain"][deep].train[0],
    error=(percent_wrong(built, train_set), "~", round(trained["plain"][shallow].train[0], 2),
           0.01), varies=True,
)

# %% [markdown]
# So there is a plain network of 56 layers with a low training error.
# Training does not find it from its usual start.
# **The deep network is not too weak; it is hard to train.**
#
# **Exercise 14.1.** In our networks BatchNorm stands behind each convolution.
# Write a layer that copies, made of a 3×3 convolution without bias, BatchNorm and ReLU, in evaluation mode.
# Make it in float64 (`dtype=torch.float64`) before you set its weights: it may differ from its input by $10^{-9}$, and the check inserts ten of them into a network.

# %%
def copying_layer(channels): ...


exercises.check("14.1", copying_layer)

# %% [markdown]
# ## 3 · The shortcut
#
# A plain block has to *learn* to copy.
# The idea of the paper: let copying be what a block does when it has learnt nothing.
# Add the block's input to what its two convolutions computed:
#
# $$y = \mathrm{relu}(F(x) + x).$$
#
# To copy what is not negative, as $x$ is behind every ReLU, the layers now only have to give $F(x) = 0$.
# If $H(x)$ is the mapping we would like to have, they learn the rest, the *residual* $F(x) = H(x) - x$.
#
# Where a stage begins, $x$ has too many pixels and too few channels.
# The shortcut then takes every second pixel and fills the new channels with zeros (the paper's *option A*).
# It has no weights: the plain twin of a residual network has as many parameters.

# %% tags=["define", "ledger:eq-residual-block"]
class ResidualBlock(PlainBlock):
    """relu(F(x) + x): the plain block and one addition."""

    def shortcut(self, x):
        if self.new_channels == 0:
            return x
        x = x[:, :, :: self.stride, :: self.stride]  # where a stage begins: every second pixel
        return F.pad(x, (0, 0, 0, 0, 0, self.new_channels))  # (W, H, C): zeros behind the channels

    def forward(self, x):
        return F.relu(self.branch(x) + self.shortcut(x))


KINDS = {"plain": PlainBlock, "residual": ResidualBlock}

# %% tags=["fold"]
x, silent = torch.rand(2, 8, 8, 8), {}  # not negative, as behind a ReLU
for kind, block in KINDS.items():
    silent[kind] = block(8, 8)
    nn.init.zeros_(silent[kind].bn2.weight)  # F(x) = 0 from now on
claims.check(
    "eq-residual-block.silent",
    "Where F(x) = 0 the plain block gives nothing larger than {plain:.0f}, and the residual block "
    "differs from its input (not negative, as behind a ReLU) by {residual:.0f}.",
    plain=(silent["plain"](x).max().item(), "==", 0),
    residual=((silent["residual"](x) - x).abs().max().item(), "==", 0),
)
fig = diagrams.beside([
    ("plain", models.resnet.BasicBlock(8, 8, residual=False), (8, 8, 8)),
    ("residual", models.resnet.BasicBlock(8, 8), (8, 8, 8)),
    ("new stage", models.resnet.BasicBlock(8, 16, stride=2, shortcut="A"), (8, 8, 8)),
])
box = next(text for text in fig.findobj(plt.Text) if text.get_text() == "zero padding")
box.set_text("every 2nd pixel")
x, y = box.get_position()  # inches, y downwards
behind = [text for text in fig.findobj(plt.Text) if text.get_text() == "16×4×4"]
max(behind, key=lambda text: text.get_position()[0]).set_text("8×4×4")  # before the zeros
box.axes.text(x - 0.08, y + 0.8, "8 channels\nof zeros:\n16×4×4", ha="right", va="center",
              fontsize=10.1, color="0.35")
figures.save(fig, "fig-resnet-block",
             caption="A plain block, a residual block, and a block that begins a stage, drawn from "
                     "the modules. Sizes: channels × height × width.",
             alt="Two convolutions with BatchNorm; the residual blocks have an arrow around them "
                 "that adds the input before the last ReLU.")

# %%
# The same layers, first weights, images, steps and learning rate. Only the addition is new.
trained["residual"] = {depth: train_all(ResidualBlock, depth) for depth in depths}

# %% tags=["nbval-varies", "fold", "ledger:fig-resnet-plain-curves"]
fig, panels = plt.subplots(1, 2, sharey=True, figsize=(figures.WIDTH, 4))
panels[0].set(title="without shortcuts", ylabel="wrong answers (%)")
panels[1].set(title="with shortcuts")
for ax, kind in zip(panels, ("plain", "residual")):
    draw_errors(ax, kind, figures.COLOUR[kind])
draw_key(panels[1], 76)
for depth, height in ((deep, 38), (shallow, 29)):
    told = f"● {depth} layers: {trained['residual'][depth].train.mean():.1f} %"
    panels[1].text(steps * 1.14, height, told, ha="right", fontsize=12,
                   color=figures.COLOUR["residual"])
fig.suptitle("With shortcuts, 56 layers learn nearly as well as 20", x=0.01, ha="left")
figures.save(fig, "fig-resnet-plain-curves",
             caption=f"Wrong answers. Lines: in the batches of training, each before its step, "
                     f"means of {len(windows[-1])} or {len(windows[0])} steps (band: range of the "
                     f"seeds). Dots: after the last step, filled on all training images, open on "
                     f"all test images (means of the seeds); {budget}.",
             alt="Without shortcuts the network of 56 layers stays near 80 percent; with "
                 "shortcuts both depths fall to one or two percent.")
gap = {kind: found[deep].train - found[shallow].train for kind, found in trained.items()}
claims.check(
    "emp-residual-fixes-degradation",
    "From 20 to 56 layers the training error rises by {plain:.1f} points without shortcuts and "
    "by {residual:.1f} with them, in {steps} steps; residual-20 ends at {twenty:.1f} %, "
    "residual-56 at {error:.1f} %.",
    plain=(gap["plain"], ">=", 25), residual=(gap["residual"], "<=", 5),
    twenty=trained["residual"][shallow].train,
    error=(trained["residual"][deep].train, "<=", 6), steps=steps,
    seeds=runs, on="every", varies=True,
)

# %% [markdown]
# **We now know** that one addition a block removes nearly all of the cost of depth here.
# **This does not show** that deeper is better: on these digits residual-20 is even a little better than residual-56.
# The paper shows it, with longer training and more pictures: there residual networks gain with depth,
# from 8.75 % test error with 20 layers over 6.97 % with 56 to 6.43 % (the best of five) with 110 on CIFAR-10 (its table 6), while plain ones lose.
# Nor does it show that shortcuts are proof against bad settings (exercise 14.8 tries larger rates).
#
# **Exercise 14.2.** The paper's *option B* puts a 1×1 convolution and BatchNorm on the shortcut where the shape changes, and nothing elsewhere.
# In torchvision's `BasicBlock` this is `block.downsample`: a module, or `None`.
# Write what such a block computes from its parts `conv1`, `bn1`, `conv2`, `bn2` and `downsample`; the check compares with torchvision.

# %%
def residual_forward(block, x): ...


exercises.check("14.2", residual_forward)

# %% [markdown]
# ## 4 · Is it the vanishing gradient?
#
# There are three suspects.
#
# | | suspect | tested below under | verdict |
# |---|---|---|---|
# | 1 | the gradient vanishes towards the input | *Suspect 1*, without and with BatchNorm | ? |
# | 2 | the gradient is true only nearby | *Suspect 2* | ? |
# | 3 | the first step is huge | *Suspect 3* | ? |
#
# The usual explanation is the first: on its way back through 56 layers the gradient becomes too small to learn from, and shortcuts keep it alive.
# We measure it before training, at the output of each block:
# the norm of the signal on its way forward, and the norm of the gradient of the loss with respect to this output, on its way back.
#
# ### Suspect 1, without BatchNorm
#
# First in networks as they were before BatchNorm (not those of section 1), from two starts.
# *He's* start draws weights of variance 2 / fan.
# A *weak* start has 1 / (3 fan), as torch draws weights by default where a layer has as many channels in as out. (torch draws biases too; here they are 0.)

# %% tags=["define"]
SIGNAL, BACK, WEIGHTS = 0, 1, 2  # rows of what block_norms returns


def block_norms(network, images, labels):
    """Norms at each block, from the input on: of its output, and of the loss's gradients with
    respect to that output and to the weights of its first convolution: (3, blocks)."""
    blocks = [*network.layer1, *network.layer2, *network.layer3]
    network.train()  # BatchNorm with the statistics of these images
    x = F.relu(network.bn1(network.conv1(images)))
    outputs = []
    for block in blocks:
        x = block(x)
        outputs.append(x)
    loss = F.cross_entropy(network.fc(x.mean((2, 3))), labels)
    back = torch.autograd.grad(loss, outputs + [block.conv1.weight for block in blocks])
    back, weights = back[: len(blocks)], back[len(blocks) :]
    return np.array([lengths(outputs), lengths(back), lengths(weights)])

# %%
few = next(train_set.batches(32, dtype=torch.float64))  # 32 images and labels
GAINS = {"weak": 1 / 3, "He": 2.0}
bare = {}  # (runs, 3, 27 blocks)
for kind, start in itertools.product(KINDS, GAINS):
    found = [bare_norms(kind, run, GAINS[start], few) for run in range(runs)]
    bare[kind, start] = np.array(found)
circular = np.array([bare_norms("plain", run, 2.0, few, "circular") for run in range(runs)])

# %% tags=["fold"]
fig, panels = plt.subplots(1, 2, sharey=True, figsize=(figures.WIDTH, 4.2))
fig.suptitle("A weak start: 56 plain layers lose signal and gradient", x=0.01, ha="left")
for row, ax, title in zip((BACK, SIGNAL), panels, ("← gradient, back", "signal, forward →")):
    ax.set(title=title, xlabel="block, from the input", yscale="log", ylim=(1e-29, 1e6))
    ax.set_yticks([1e-24, 1e-16, 1e-8, 1])
    ax.minorticks_off()
    series = {f"{kind}, {start}": norms[:, row] for (kind, start), norms in bare.items()}
    plots.curves(ax, series, labels=row == 0,
                 colours={name: figures.COLOUR[name.split(",")[0]] for name in series},
                 styles={name: "--" if "weak" in name else "-" for name in series})
panels[0].set_ylabel("norm at the block's output")
for name, x, power in (("residual, He", 10, 1.3), ("residual, weak", 1, -3.6),
                       ("plain, He", 1, -8.2), ("plain, weak", 11, -21)):
    panels[0].text(x, 10**power, name, fontsize=11, color=figures.COLOUR[name.split(",")[0]])
figures.save(fig, "emp-residual-gradients.by-block",
             caption=f"Norm of each block's output and of the loss's gradient there; weak (dashed) "
                     f"and He's start, 56 layers, no BatchNorm, untrained; 32 images of {dataset}, "
                     f"{runs} seeds.",
             alt="Without shortcuts and with a weak start the signal falls by 25 powers of ten "
                 "towards the output and the gradient as far towards the input; with He's start "
                 "by about five. With shortcuts both keep their size within a few powers of ten.")

# %% tags=["nbval-varies", "fold"]
forward, weights = np.log10(bare["plain", "weak"][:, [SIGNAL, WEIGHTS]]).swapaxes(0, 1)
forward = forward[:, -1] - forward[:, 0]  # (runs,)
claims.check(
    "emp-residual-gradients",
    "From the last block to the first the gradient at the outputs changes by a factor of "
    "10^{plain:.1f} without and 10^{residual:.1f} with shortcuts (56 layers, weak start, no "
    "BatchNorm, untrained).",
    plain=(kept_powers(bare["plain", "weak"]), "<", -19),
    residual=(kept_powers(bare["residual", "weak"]), "in", (-3, 1)), seeds=runs, on="every",
)
claims.check(
    "emp-residual-gradients.signal", "Forward, the plain signal changes by 10^{signal:.1f}.",
    signal=(forward, "<", -19), seeds=runs, on="every",
)
claims.check(
    "emp-residual-gradients.weights",
    "The gradient with respect to the weights of plain-56 lies between 10^{low:.1f} and "
    "10^{high:.1f} in all blocks.",
    low=(weights.min(1), ">", -29), high=(weights.max(1), "<", -25), seeds=runs, on="every",
)
claims.check(
    "emp-residual-gradients.padding",
    "From He's start the gradient at the outputs of plain-56 changes by 10^{zeros:.1f}; with "
    "circular padding by 10^{circular:.1f}.",
    zeros=(kept_powers(bare["plain", "He"]), "in", (-8, -3)),
    circular=(kept_powers(circular), "in", (-2, 1)), seeds=runs, on="every",
)

# %% [markdown]
# Here the gradient does vanish, by more than twenty powers of ten, and that is half of the story.
# The signal vanishes too, on its way forward.
# The gradient with respect to a weight is made of (signal that comes in) × (gradient that comes back).
# Here one falls where the other rises, so the product is equally tiny in *all* blocks.
#
# He's start takes most of the fall away without any shortcut.
# Most of what remains comes from the border: in the last stage a 3×3 kernel on 2×2 pixels sees four pixels and five zeros.
# *Circular padding* takes the opposite border in place of the zeros, and with it a good part of the gradient arrives.
#
# **Exercise 14.3.** Take the *root mean square* of a signal (rms).
# With He's start it stays as it passes a layer and its ReLU, away from the border and where a layer has as many channels in as out.
# With a variance of `gain` / fan it changes by a factor a layer.
# By how many powers of ten does it change over so many layers? (Use `math.log10`.)
# `shrinkage(52, 1 / 3)`, for the 52 layers from the first block's output to the last's, gives most of the fall in the figure.

# %%
def shrinkage(layers, gain): ...


exercises.check("14.3", shrinkage)

# %% [markdown]
# ### Suspect 1, with BatchNorm
#
# But section 1 had BatchNorm behind every convolution.
# Which way does the gradient go now?

# %% tags=["fold"]
exercises.predict(
    "14.p3",
    "The gradient of plain-56 with BatchNorm, untrained: towards the input it",
    ("vanishes", "stays", "explodes"),
)

# %%
many = next(train_set.batches(64))  # 64 images and labels
normed = {}
for kind, block in KINDS.items():
    new = [make(block, deep, run) for run in range(runs)]
    normed[kind] = np.array([block_norms(network, *many)[BACK] for network in new])
growth = {kind: norms[:, 0] / norms[:, -1] for kind, norms in normed.items()}  # first / last block

# %% tags=["fold"]
typical = growth["plain"].mean()
exercises.reveal(
    "14.p3",
    "explodes" if typical > 10 else "vanishes" if typical < 0.1 else "stays",
    "The numbers stand under the picture.",
)
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.6))
ax.set(title="With BatchNorm the plain gradient explodes towards the input",
       xlabel="block, from the input", ylabel="gradient's norm at the output", yscale="log")
series = {f"{kind}-{deep}": norms for kind, norms in normed.items()}
plots.curves(ax, series, colours={f"{kind}-{deep}": figures.COLOUR[kind] for kind in KINDS})
for stage in (1, 2):
    ax.axvline(stage * (deep - 2) // 6 + 0.5, color=figures.COLOUR["muted"], linewidth=1)
ax.text((deep - 2) // 6 + 0.8, 60, "a new stage", color="0.35", fontsize=12)
figures.show(fig, alt="The gradient's norm over the blocks, both alike at the output. Towards the "
             "input that of plain-56 grows more than a thousandfold, that of residual-56 tenfold.")
claims.check(
    "err-vanishing-contradiction",
    "Untrained, with BatchNorm, the gradient at the first block's output is {plain:.0f} times that "
    "at the last block's in plain-56, a factor of {layer:.2f} a layer, and {residual:.1f} times in "
    "residual-56.",
    plain=(growth["plain"], ">=", 200), residual=(growth["residual"], "in", (1, 40)),
    layer=growth["plain"] ** (1 / (2 * (normed["plain"].shape[1] - 1))),
    seeds=runs, on="every", varies=True,
)

# %% [markdown]
# (The norm of the loss's gradient at each block's output, untrained; band: the range of the seeds.)
#
# Nothing vanishes: it *explodes*.
# Yang et al. (2019) show it for wide dense networks without shortcuts: BatchNorm itself makes the gradient grow by a factor a layer. (Why is outside of this lesson.)
# With shortcuts little of that is left.
#
# And after training?
# The weights have grown by then, and in front of BatchNorm that matters: twice the weights give the same output and half the gradient with respect to them.
# So we now look at the gradient with respect to the *weights* of the first convolution of each block, as it is and with every convolution set back to the length it started with.
# That leaves the function as it is (but for BatchNorm's small epsilon).

# %%
norms_of = {"new": [], "after": [], "reset": []}  # each block's gradient, (runs, blocks)
for run, network in enumerate(trained["plain"][deep].networks):
    new, after = make(PlainBlock, deep, run), copy.deepcopy(network)
    reset = with_first_lengths(network, new)  # same directions, the lengths of new
    for name, net in (("new", new), ("after", after), ("reset", reset)):
        norms_of[name].append(block_norms(net, *many)[WEIGHTS])

# %% tags=["fold"]
norms_of = {name: np.array(norms) for name, norms in norms_of.items()}
ratios = {name: norms[:, 0] / norms[:, -1] for name, norms in norms_of.items()}  # first / last
spread = norms_of["after"].max(1) / norms_of["after"].min(1)  # of all blocks
claims.check(
    "err-vanishing-contradiction.trained",
    "In plain-56 the gradient with respect to the first block's weights is {new:.0f} times that of "
    "the last block's before training, and {after:.2f} times after {steps} steps.",
    new=(ratios["new"], ">=", 200), steps=steps, after=(ratios["after"], "in", (0.01, 20)),
    seeds=runs, on="every", varies=True,
)
claims.check(
    "err-vanishing-contradiction.all-blocks",
    "After {steps} steps the largest of the {blocks} blocks' gradients is {spread:.0f} times the "
    "smallest.",
    steps=steps, blocks=norms_of["after"].shape[1], spread=(spread, "<=", 100),
    seeds=runs, on="every", varies=True,
)
claims.check(
    "err-vanishing-contradiction.lengths",
    "With all convolutions set back to their first length the first block's is {reset:.0f} times "
    "the last's.",
    reset=(ratios["reset"], "in", (3, 100)), seeds=runs, on="every", varies=True,
)

# %% [markdown]
# In this run the explosion ends within these few steps.
# Longer weights are part of the reason: set back, the ratio is far above that after training, but not where it began.
# What the rest is, these numbers do not say.
# After training no block is left far behind the others.
# But that is not enough, as the weak start has shown: all gradients may be tiny.
#
# ### Suspect 2: is the gradient true only nearby?
#
# So the gradient arrives. Is it worth following?
# A gradient is a promise: *if the slope stayed as it is*, a step would make the loss fall by slope × way.
# The slope in the gradient's direction is the gradient's length, and the way of a step is rate × length.
# So a step promises rate × length².
#
# An example: a gradient of length 2 and a rate of 0.1. The way is 0.2, the promise 0.4. If the loss falls by 0.1, the step has kept a quarter of its promise.
#
# Now we ask four untrained networks, all on the same 64 images.
# Steps along one gradient promise falls from 0.03 to 1, and a last one is as long as training's rate makes it.
# After each we look at the images again.
# How far did the loss really fall?
# And does the gradient still point the same way?
# The *cosine* of the angle between the old gradient and the new one is 1 if so, and 0 at a right angle.

# %% tags=["define"]
PROMISE, FALL, COSINE = 0, 1, 2  # rows of what falls returns


def falls(network, images, labels, promises, rate):
    """Steps along one gradient, that promise these falls and then one at this rate: the promised
    fall, the real one, and the cosine between the gradients there and here, (3, promises + 1)."""
    before, slopes = loss_and_gradient(network, images, labels)  # a slope for each weight tensor
    old = flat(slopes)  # all of it as one vector
    squared = old.square().sum().item()
    found, done = [], 0.0
    for promise in (*promises, rate * squared):
        c = (promise - done) / squared  # a step of c * gradient promises c * squared
        for weight, slope in zip(network.parameters(), slopes):
            weight.data -= c * slope
        done = promise
        after, new = loss_and_gradient(network, images, labels)
        found.append((promise, before - after, F.cosine_similarity(flat(new), old, dim=0).item()))
    return np.array(found).T

# %% tags=["fold"]
exercises.predict(
    "14.p4",
    "The gradient of plain-56, untrained, promises that the loss falls by 0.1. It falls by",
    ("about 0.1", "about half of that", "less than a third of that"),
)

# %%
promises = (0.03, 0.1, 0.3, 1.0)  # and at last a step at training's rate
fallen = {}
for kind, depth in itertools.product(KINDS, depths):
    found = [falls(make(KINDS[kind], depth, run), *many, promises, learning_rate)
             for run in range(runs)]
    fallen[kind, depth] = np.array(found)  # (runs, 3, promises + 1)

# %% tags=["fold"]
TENTH = promises.index(0.1)
kept = {key: 100 * found[:, FALL, TENTH] / 0.1 for key, found in fallen.items()}  # percent of 0.1
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.2))
ax.set(title="With shortcuts a promise of 0.1 is nearly kept, a larger one is not",
       xscale="log", ylim=(-8, 110), xlim=(0.013, 3e5), yticks=(0, 25, 50, 75, 100),
       xlabel="fall of the loss that a step promises (large dot: a step at training's rate)",
       ylabel="kept (% of the promise)")
ax.minorticks_off()
for height, words in ((0, ""), (100, "kept in full")):
    ax.axhline(height, color=figures.COLOUR["muted"], linewidth=1)
    ax.text(2.5e5, height + 1.5, words, color="0.35", fontsize=12, ha="right")
for depth in depths:
    x, y = fallen["plain", depth][:, [PROMISE, FALL], 0].mean(0)
    ax.text(0.9 * x, 100 * y / x, depth, color=figures.COLOUR["plain"], ha="right", va="center")
first_steps = {}
for (kind, depth), found in fallen.items():
    promised, fall = found[:, PROMISE].mean(0), found[:, FALL].mean(0)
    share = draw_promise(ax, found, figures.COLOUR[kind], depth == deep)
    first_steps[kind, depth] = promised[-1], share[-1], fall[-1]
name_ends(ax, first_steps)
figures.save(fig, "err-vanishing-contradiction.promise",
             caption=f"Fall of the loss after one step along the gradient, as a share of what the "
                     f"gradient promises; untrained, 64 images of {dataset}, mean and range of "
                     f"{runs} seeds at the small dots. Large dot: a step at training's rate of "
                     f"{learning_rate}, on these images; dotted: not measured between. Dashed, "
                     f"open: {shallow} layers. Shares below -5 % would be drawn at -5 %.",
             alt="Of a promise of 0.1 residual networks keep nine tenths, plain-20 under half, "
                 "plain-56 a fifth; of a step at training's rate residual-56 keeps a fifth.")

# %% tags=["fold"]
typical = kept["plain", deep].mean()
cosines = {key: found[:, COSINE, TENTH] for key, found in fallen.items()}
last = {key: found[:, :, -1] for key, found in fallen.items()}  # the step at training's rate
exercises.reveal(
    "14.p4", "less than a third of that" if typical < 33 else
    "about half of that" if typical < 75 else "about 0.1", "The picture compares four networks.",
)
claims.check(
    "err-vanishing-contradiction.promise",
    "Of a promised fall of 0.1 plain-56 keeps {deep:.0f} %, plain-20 {shallow:.0f} %, residual-56 "
    "{residual:.0f} % (untrained).",
    deep=(kept["plain", deep], "<=", 40), shallow=kept["plain", shallow],
    residual=(kept["residual", deep], ">=", 60), seeds=runs, on="every", varies=True,
)
claims.check(
    "err-vanishing-contradiction.cosine",
    "There the cosine of new and old gradient is {turned:.2f} in plain-56, {turned_20:.2f} in "
    "plain-20, {straight:.2f} in residual-56.",
    turned=(cosines["plain", deep], "<=", 0.5), turned_20=(cosines["plain", shallow], "<=", 0.6),
    straight=(cosines["residual", deep], ">=", 0.6), seeds=runs, on="every", varies=True,
)
claims.check(
    "err-vanishing-contradiction.training-step",
    "After a step at training's rate the cosine is {cosine:.2f} in residual-56 too, but its loss "
    "falls by {residual:.2f}; that of plain-56 by {deep:.2f}, of plain-20 by {shallow:.2f}.",
    cosine=(last["residual", deep][:, COSINE], "<=", 0.4),
    residual=(last["residual", deep][:, FALL], ">=", 0.4),
    deep=(last["plain", deep][:, FALL], "<=", 0.2),
    shallow=(last["plain", shallow][:, FALL], "<=", 0.3), seeds=runs, on="every", varies=True,
)

# %% [markdown]
# The networks of one depth differ in nothing but the addition: same weights, same images.
# With shortcuts the gradient stays true for a promise of 0.1.
# At training's rate even residual-56 turns by about a right angle, and its loss falls all the same.
#
# Balduzzi et al. (2017) look at how far gradients agree from another side: in deep plain networks the gradients of neighbouring inputs are as unrelated as white noise, and shortcuts keep them related.
# Li et al. (2018) draw the surface of the loss of deep networks: smooth with shortcuts, ragged without.
#
# **Exercise 14.4.** `before` and `after` are the losses before and after a step, weights − `rate` × gradient.
# `gradients` is a list: the gradient with respect to each weight tensor. All their numbers together are the gradient.
# Which share of its promise did the step keep? (1: all of it.)

# %%
def kept_share(before, after, gradients, rate): ...


exercises.check("14.4", kept_share)

# %% [markdown]
# ### Suspect 3: the first step
#
# Back to section 1. How much did the steps of its training promise, the first one and the later ones?
# And with its two remedies, a warm-up and clipping?

# %% tags=["fold"]
first = {depth: found.promised[:, 0] for depth, found in trained["plain"].items()}
later = {depth: np.median(found.promised[:, steps // 3 :], axis=1)  # (runs,)
         for depth, found in trained["plain"].items()}
slope = np.sqrt(first[deep][0] / learning_rate)  # of plain-56 in its first batch
promised = np.array(promised_remedied)  # (steps,)
claims.check(
    "err-vanishing-contradiction.first-step",
    "In section 1 the first step, on its own batch, promised a fall of the loss by {plain:,.0f} in "
    "plain-56, by {twenty:.1f} in plain-20 (guessing has a loss of 2.3).",
    plain=(first[deep].round(-3), ">=", 1000), twenty=(first[shallow], "<=", 50), seeds=runs,
    on="every", varies=True,
)
claims.check(
    "err-vanishing-contradiction.later-steps",
    "In the last two thirds of training a step of plain-56 promised {plain:.3f}, one of plain-20 "
    "{twenty:.3f} (medians): the gradient is {share:.1f} times as long.",
    plain=(later[deep], "<=", 0.1), twenty=later[shallow],
    share=np.sqrt(later[deep] / later[shallow]), seeds=runs, on="every", varies=True,
)
claims.check(
    "err-vanishing-contradiction.remedied-steps",
    "With warm-up and clipping the first step of plain-56 is {shorter:,.0f} times shorter, and "
    "still promises {promise:.0f}; in the last two thirds half of the steps promise {later:.0f} or "
    "more (one seed).",
    shorter=((slope / min(slope, both["clip"]) * both["warm_up"]).round(-2), ">=", 100),
    promise=(promised[0], ">=", 2.3), later=(np.median(promised[steps // 3 :]), ">=", 1),
    varies=True,
)

# %% [markdown]
# In section 1 plain-56 promised first far too much, then little. (This is a step's own promise. With what momentum adds, a step of the last row of section 1's table promises up to about 0.5.)
#
# Does the huge first step do the harm?
# Warm-up and clipping shorten it, and plain-56 does not learn; but by its promise it is still long.
# The last row of section 1's table is the harder test: no step, from the first to the last, promises more than 0.3. plain-56 does not learn either.
# Nor are the small promises of later steps needed: in that row every step of the last two thirds promises 0.3, and with the two remedies half of them promise far more.
# ("Needed" for failing: each of the two may do harm in a run in which it occurs. And the cap costs plain-20 too, 24 and 35 % in place of 9 and 15: under it a network moves very little.)
#
# ### The verdicts
#
# | | suspect | measured in plain-56 with BatchNorm | verdict |
# |---|---|---|---|
# | 1 | the gradient vanishes towards the input | it explodes before training; after the default training no block is left far behind | not guilty |
# | 2 | the gradient is true only nearby | it is; it turns nearly as far in plain-20, which learns and keeps more of small promises | open |
# | 3 | the first step is huge | where no step promises more than 0.3, plain-56 fails as well | plain-56 fails without it too |
#
# **We now know** what degradation here is not: the gradient of plain-56 with BatchNorm does not vanish towards the input, neither before training nor after it, and plain-56 fails without a huge step too.
# Steps that keep little of their promise go along with it.
#
# **This does not show** why plain-56 fails.
# plain-20 turns nearly as much and learns; why depth costs so much is not settled here. Whether the explosion itself does harm was not tested.
#
# ## 5 · A bundle of short paths
#
# Two residual blocks give, if we leave their last ReLU out to keep the formula short,
#
# $$x + F_1(x) + F_2\big(x + F_1(x)\big).$$
#
# The input reaches the output past both blocks, through the first, through the second, or through both: four ways.
# If each block multiplied a number, by $a$ and by $b$, the sum of the four would be $(1 + a)(1 + b) = 1 + a + b + ab$.
# A block is no number, but its derivative behaves like one.
# The *Jacobian* $J$ of a block is the table of the derivatives of all outputs of $F$ by all its inputs (`jacrev` computes it),
# and $(I + J_2)(I + J_1) = I + J_1 + J_2 + J_2 J_1$, where $I$ is the table that returns its input.
# (The last ReLU of a block sets some rows of the table to 0, the same ones for every way; the sum stays exact.)
# Three blocks have eight ways:

# %%
three = [ResidualBlock(2, 2).double().eval() for _ in range(3)]


def stream(x):  # three residual blocks without their last ReLU
    for block in three:
        x = x + block.branch(x)
    return x


x = torch.rand(1, 2, 4, 4, dtype=torch.float64)  # 32 numbers
whole = torch.func.jacrev(stream)(x).reshape(32, 32)
ways = [torch.eye(32, dtype=torch.float64)]
for block in three:
    jacobian = torch.func.jacrev(block.branch)(x).reshape(32, 32)
    ways = ways + [jacobian @ way for way in ways]  # past the block, and through it
    x = x + block.branch(x)
print(len(ways), "ways; their sum is the whole derivative:", torch.allclose(whole, sum(ways)))

# %% [markdown]
# A residual network of 27 blocks is a bundle of $2^{27}$ ways, and most use about half of the blocks.
# A plain network has one way, through everything.
#
# Take one block out after training.
# Its input then goes straight on to the next block.
# In a plain network the cut lies on the only way.
# In a residual one it lies on half of all ways; half of them are left. Is that enough?
# (We cut the networks of 20 layers, since both of them have learned. Blocks that begin a stage change the shape and stay.)
#
# One thing could spoil the comparison: BatchNorm behind the cut still uses the means and variances of the whole network.
# So we measure twice, as it is and with the statistics *recomputed* after the cut.

# %%
def errors_without(network, images, measure):
    """The error in percent with each block in turn taken out."""
    found = []
    for stage in (network.layer1, network.layer2, network.layer3):
        for place, block in enumerate(stage):
            if block.stride == 1:
                stage[place] = nn.Identity()  # the cut
                found.append(measure(network, images))
                stage[place] = block
    return found


some = train_set[:300]
measures = {"as it is": percent_wrong, "recomputed": percent_wrong_recomputed}
cut = {}  # (runs, blocks)
for (name, measure), kind in itertools.product(measures.items(), KINDS):
    networks = trained[kind][shallow].networks
    cut[kind, name] = np.array([errors_without(net, some, measure) for net in networks])

# %% tags=["nbval-varies", "fold", "ledger:fig-resnet-residual-small"]
relative, means = all_response_sizes(many[0]), {}  # deviation of F(x) / of x, (runs, blocks)
sizes = relative["residual, trained"]
whole = {kind: [percent_wrong(network, some) for network in trained[kind][shallow].networks]
         for kind in KINDS}  # nothing taken out, (runs,)
places, kept_places = places_to_cut(trained["plain"][shallow].networks[0])
fig, (left, right) = plt.subplots(1, 2, figsize=(figures.WIDTH, 4))
fig.suptitle("Later residual blocks change less, and cost less to take out", x=0.01, ha="left")
left.set(xlabel=f"block taken out ({' and '.join(map(str, kept_places))} begin a stage)",
         ylabel="training error (%)", ylim=(-3, 103), xlim=(0.3, places[-1] + 0.7), xticks=places)
left.axhline(90, color=figures.COLOUR["muted"], linewidth=1)
for height, words in ((91.5, "guessing"), (27, "dotted: nothing taken out")):
    left.text(places[-1] + 0.5, height, words, color="0.35", fontsize=11, ha="right")
right.set(xlabel="block, from the input", ylabel="spread of F(x) / spread of x", ylim=(0, 2.4))
for kind, height in (("plain", 60), ("residual", 36)):
    colour = figures.COLOUR[kind]
    means[kind] = draw_cuts(left, cut[kind, "as it is"], whole[kind], places, colour)
    left.text(9, height, f"{kind}-{shallow}", color=colour, ha="right", fontweight="bold")
plots.curves(right, relative, colours={key: figures.COLOUR[key.split(",")[0]] for key in relative},
             styles={key: "--" if "new" in key else "-" for key in relative})
later = means["residual"][min(1, len(places) - 1):]  # of 8 layers only one block can be taken out
figures.save(fig, "fig-resnet-residual-small",
             caption=f"Left: error on 300 training images without one block, {shallow} layers "
                     f"(blocks that begin a stage stay); dot: one seed, bar: mean, dotted: nothing "
                     f"taken out. Right: standard deviation of F(x) relative to that of the "
                     f"block's input; {budget}.",
             alt=f"Left: plain {means['plain'].min():.0f} to {means['plain'].max():.0f} percent "
                 f"without any one block; residual {later.min():.0f} to {later.max():.0f}, "
                 f"{means['residual'][0]:.0f} without the first. Right: in residual networks F(x) "
                 f"falls beside x, after training from {sizes[:, 0].mean():.1f} to "
                 f"{sizes[:, -1].mean():.1f} times, before it too; in plain ones it stays near 1.6")

# %% tags=["fold"]
middle = {key: np.median(found, axis=1) for key, found in cut.items()}  # (runs,)
claims.check(
    "eq-residual-block.deleted",
    "Without one block (median of its {blocks} blocks) residual-20 errs on {residual:.1f} % of 300 "
    "training images, plain-20 on {plain:.1f} %; with all blocks on {whole:.1f} and "
    "{whole_plain:.1f} %.",
    blocks=len(places), whole=whole["residual"], whole_plain=whole["plain"],
    residual=(middle["residual", "as it is"], "<=", 20),
    plain=(middle["plain", "as it is"], ">=", 50), seeds=runs, on="every", varies=True,
)
claims.check(
    "eq-residual-block.recomputed",
    "With recomputed statistics on {residual:.1f} and {plain:.1f} %.",
    residual=(middle["residual", "recomputed"], "<=", 20),
    plain=(middle["plain", "recomputed"], ">=", 50), seeds=runs, on="every", varies=True,
)
claims.check(
    "fig-resnet-residual-small",
    "In residual-20 the spread of F(x) is {first:.2f} times that of x in the first block and "
    "{last:.2f} times in the last.",
    first=(sizes[:, 0], ">=", 1), last=(sizes[:, -1], "<=", 0.8), seeds=runs, on="every",
    varies=True,
)
claims.check(
    "fig-resnet-residual-small.cost",
    "Without the first block residual-20 errs on {first:.0f} %, without the last on {last:.1f} %.",
    first=(cut["residual", "as it is"][:, 0], ">=", 12),
    last=(cut["residual", "as it is"][:, -1], "<=", 8), seeds=runs, on="every", varies=True,
)

# %% [markdown]
# Veit, Wilber and Belongie (2016) found this with networks of 110 layers on CIFAR-10, and that most of the gradient comes along short ways.
#
# Half of the ways are lost with each of these blocks, and the costs differ widely: the count of ways does not decide.
# The cost goes along with how much the block changes, in the picture the spread (standard deviation) of F(x) beside that of x: most for the *first*, whose F(x) is larger than its x, and less towards the end.
# Within a stage the stream grows as blocks add to it, and what a later block adds is smaller beside it.
# (Place and size of the change fall together here; these cuts do not say which of them counts.)
#
# **We now know** that blocks of a residual network add to a common stream, and the later ones can be missed one at a time.
# **This does not show** that they are useless: the cuts in the first two stages cost something, and several at once were not tried.
#
# **Exercise 14.5.** How many of the $2^{27}$ ways go through exactly $k$ blocks?
# Write `path_counts(blocks)`: a list with the number of ways through 0, 1, …, `blocks` blocks.

# %%
def path_counts(blocks): ...


exercises.check("14.5", path_counts)

# %% [markdown]
# ## 6 · Is the shortcut enough?
#
# A shortcut offers the copy. Does training find it?
# The purest test: stacks of dense layers learn to give back the 64 pixels of a digit, and nothing else.
# In pairs, $x \mapsto \mathrm{relu}(F(x) + x)$ or $\mathrm{relu}(F(x))$, without BatchNorm.
# Both get the same first weights, once weak and once as He prescribes (the fan of these layers is 64), and 25 steps of Adam at rate 0.003.
# The error is the mean of the last five steps, in units in which always answering the mean picture has error 1.

# %% tags=["define"]
class DenseStack(nn.Module):
    """k dense layers in pairs F, x -> relu(F(x) + x) or relu(F(x)): (N, 64) -> (N, 64)."""

    def __init__(self, k, residual, gain):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(k))
        self.residual = residual
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=math.sqrt(gain / 64))
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        for first, second in zip(self.layers[::2], self.layers[1::2]):
            f = second(F.relu(first(x)))
            x = F.relu(f + x if self.residual else f)
        return x

# %% tags=["fold"]
exercises.predict(
    "14.p5",
    "Sixteen layers learn to copy from He's start. Beside plain ones, those with shortcuts are",
    ("far better", "somewhat better", "no better, or worse"),
)

# %%
pixels = next(data.digits(train=True).batches(1347, dtype=torch.float64))[0].flatten(1)
LAYERS = (2, 4, 8, 16)
copied = {}  # two seeds, four depths, error at the first step and at the end: (2, 4, 2)
for kind, start in itertools.product(KINDS, GAINS):
    copied[kind, start] = np.array([
        [train_to_copy(k, kind == "residual", GAINS[start], run, pixels) for k in LAYERS]
        for run in range(2)])

# %% tags=["fold"]
sixteen = {key: found[:, -1, 1] for key, found in copied.items()}  # layers, after training
worse = sixteen["residual", "He"].mean() / sixteen["plain", "He"].mean()
exercises.reveal(
    "14.p5",
    "far better" if worse < 0.1 else "somewhat better" if worse < 1 else "no better, or worse",
    f"Its error is {worse:.1f} times that of the plain one.",
)
fig, panels = plt.subplots(1, 2, sharey=True, figsize=(figures.WIDTH, 3.9))
fig.suptitle("A shortcut helps copying; from He's start only in shallow stacks", x=0.01, ha="left")
for ax, start in zip(panels, GAINS):
    ax.set(title=f"{start} start", xlabel="layers", xscale="log", yscale="log", ylim=(3e-4, 10))
    ax.set_xticks(LAYERS, LAYERS)
    ax.minorticks_off()
    ax.axhline(1, color=figures.COLOUR["muted"], linewidth=1)
    plots.curves(ax, {kind: copied[kind, start][:, :, 1] for kind in KINDS}, x=LAYERS)
    for line in ax.get_lines()[1:]:
        line.set(marker="o", markersize=6)
panels[0].set_ylabel("error of copying / variance")
panels[0].text(2, 0.8, "the mean picture", color="0.35", fontsize=12, va="top")
figures.save(fig, "emp-identity-hard-for-plain.by-layers",
             caption="Dense stacks learn to copy 8×8 digits for 25 steps; 1 is what the mean "
                     "picture reaches; two seeds, cpu.",
             alt="With a weak start the residual stack copies far better at every depth. With He's "
                 "start sixteen residual layers are no better than sixteen plain ones.")

# %% tags=["fold"]
claims.check(
    "emp-identity-hard-for-plain",
    "Error of copying with 16 layers, weak start: {plain:.2f} without and {residual:.3f} with "
    "shortcuts (1: the mean picture; 25 steps).",
    plain=(sixteen["plain", "weak"], ">", 0.8), residual=(sixteen["residual", "weak"], "<", 0.2),
    seeds=2, on="every", varies=True,
)
claims.check(
    "emp-identity-hard-for-plain.he-start",
    "With He's start neither has learned to copy with 16 layers: {plain:.1f} without, "
    "{residual:.1f} with shortcuts, where it was {before:,.0f} at the first step.",
    plain=(sixteen["plain", "He"], ">", 0.8), residual=(sixteen["residual", "He"], ">", 0.8),
    before=(copied["residual", "He"][:, -1, 0].round(-2), ">", 100), seeds=2, on="every",
    varies=True,
)
claims.check(
    "emp-identity-hard-for-plain.shallow",
    "With 2 layers and He's start the error is {plain:.1f} without and {residual:.2f} with "
    "shortcuts.",
    plain=(copied["plain", "He"][:, 0, 1], ">", 0.8),
    residual=(copied["residual", "He"][:, 0, 1], "<", 0.3), seeds=2, on="every", varies=True,
)
claims.check(
    "emp-identity-hard-for-plain.growth",
    "Before training the signal (rms) leaves one residual block from He's start {one:.1f} times "
    "as large as it came, and eight blocks {eight:.0f} times.",
    one=([growth_of(2, run, pixels) for run in range(2)], "in", (1.2, 3)),
    eight=([growth_of(16, run, pixels) for run in range(2)], ">=", 10), seeds=2, on="every",
)

# %% [markdown]
# From He's start every block adds a branch that is somewhat larger than its input, so the signal grows by a factor a block: little with one block, much with eight. (The errors with 2 layers change most with the seed: in a few of the seeds that were tried their bounds are not kept.)
# The error at the first step goes along with that.
# That a copy exists does not mean that training finds it.
#
# **We now know** that in stacks without BatchNorm a shortcut makes copying easy from a weak start, and from He's in shallow stacks: with 2 layers it helps much, with 16 not (25 steps, one rate; `train_to_copy(16, True, 2.0, 0, pixels, steps=200)` and the same with `False` try more steps).
# **This does not show** the same for networks with BatchNorm.
# There each branch adds about one standard deviation: the stream grows by a sum, not by a factor (section 5, right), and from He's start residual-56 learned.
#
# ### From zero
#
# **Exercise 14.6.** The smallest start is zero: the last BatchNorm weight of each block starts at 0, and each block copies.
# In such a residual-56, at the very first step: how many of the 55 convolutions get a gradient that is not zero?

# %%
convolutions_with_gradient = ...
exercises.check("14.6", convolutions_with_gradient)

# %% [markdown]
# Is zero then the safest start?
# We train residual-20 from it twice: where a stage begins, once with zeros on the shortcut, as so far, and once with a shortcut that repeats its channels.
# A channel of the last maps is *alive* if it is not 0 on every image.

# %% tags=["define"]
class RepeatingBlock(ResidualBlock):
    """Where a stage begins, the shortcut repeats its channels in place of adding zeros."""

    def shortcut(self, x):
        x = x[:, :, :: self.stride, :: self.stride]
        return torch.cat([x, x], 1) if self.new_channels else x


def started(block, last=0.0):
    """residual-20, trained with every last BatchNorm weight at this number at first; usual: 1."""
    network = make(block, shallow, run=0)
    for layer in network.modules():
        if isinstance(layer, PlainBlock):
            nn.init.constant_(layer.bn2.weight, last)
    train(network, 0, learning_rate)
    return network

# %% tags=["fold"]
starts = {"usual": trained["residual"][shallow].networks[0], "zero": started(ResidualBlock),
          "zero, repeating": started(RepeatingBlock)}
alive = {name: living_channels(network, many[0]) for name, network in starts.items()}
errors = {name: percent_wrong(network, train_set) for name, network in starts.items()}
claims.check(
    "prac-resnet-recipe.dead-channels",
    "From zero residual-20 ends at {error:.0f} % with {alive} of {channels} last channels alive, "
    "from the usual start at {usual:.1f} % with {usual_alive} (one seed, {steps} steps).",
    error=(errors["zero"], ">=", 15), alive=(alive["zero"], "==", width), steps=steps,
    channels=starts["zero"].fc.in_features, usual=(errors["usual"], "<=", 6),
    usual_alive=(alive["usual"], ">", width), varies=True,
)
claims.check(
    "prac-resnet-recipe.repeated-channels",
    "With a shortcut that repeats its channels it ends from zero at {error:.0f} % with {alive} "
    "alive (one seed): lower than {zeros:.0f} %, far above {usual:.1f} %.",
    error=(errors["zero, repeating"], "in", (8, 0.9 * errors["zero"])), zeros=errors["zero"],
    alive=(alive["zero, repeating"], ">=", 2 * width), usual=errors["usual"], varies=True,
)

# %% [markdown]
# A channel of zeros from the shortcut plus a branch of zeros is exactly 0, and there ReLU passes no gradient: these channels stay dead, for good.
# The repeating shortcut keeps them alive, and the error is smaller.
# But it stays far above that from the usual start, though the channels live: dead channels are not all of the harm.
# (The repeating shortcut itself does none: from the usual start `started(RepeatingBlock, 1.0)` ends at 0.8 %.)
# (One seed of each, so these differences have no spread to be compared with.)
#
# ## 7 · The networks for ImageNet
#
# ImageNet has photographs, cut to 224 pixels a side here, and 1000 classes.
# Work is counted in *multiply-adds*: one multiplication and the addition of its result, once for each weight at each place (G: billions).
#
# The paper puts a *stem* in front, a 7×7 convolution and a max pooling, both with stride 2.
# It takes 224 pixels to 56; then come four stages at 56, 28, 14 and 7 pixels.
#
# **The bottleneck.** From 50 layers on a block is 1×1, 3×3, 1×1.
# The first 1×1 brings 256 channels down to 64, the 3×3 works there, the last 1×1 goes back up to 256.
# What does that cost? A convolution has channels in × channels out × kernel area weights, and at one size of maps each of them is used equally often.

# %%
bottleneck = 256 * 64 + 64 * 64 * 9 + 64 * 256  # 1×1 down, 3×3, 1×1 up: 256 channels in and out
basic = {channels: 2 * channels * channels * 9 for channels in (64, 256)}  # two 3×3
print(f"bottleneck on 256: {bottleneck:,}  basic on 64: {basic[64]:,}  on 256: {basic[256]:,}")

# %% [markdown]
# The point: **four times the channels on the shortcut, for the price of the narrow block.**
#
# **Against VGG.** VGG-19 has sixteen 3×3 convolutions with five poolings between them, and three dense layers.
# Where do VGG-19 and ResNet-34 do their work?

# %% tags=["fold"]
exercises.predict(
    "14.p6",
    "ResNet-34 has 15 layers more than VGG-19. Its multiply-adds are",
    ("about a fifth", "about as many", "about twice as many"),
)

# %% tags=["fold"]
drawn = {"thin": models.resnet.BasicBlock(64, 64), "thick": models.resnet.BasicBlock(256, 256),
          "bottleneck": models.resnet.Bottleneck(256, 64)}
weights = {name: kernel_weights(block) for name, block in drawn.items()}
claims.check(
    "eq-bottleneck-block",
    "A bottleneck on 256 channels has {bottleneck:,} weights, hardly fewer than a basic block on "
    "64 ({thin:,}); a basic block on 256 has {thick:,}.",
    bottleneck=(weights["bottleneck"], "==", bottleneck),
    thin=(weights["thin"], "==", basic[64]),
    thick=(weights["thick"], "==", basic[256]))
figures.show(diagrams.beside([
    (f"basic: {weights['thin']:,} weights", drawn["thin"], (64, 56, 56)),
    (f"bottleneck: {weights['bottleneck']:,}", drawn["bottleneck"], (256, 56, 56))]),
    alt="A block of two 3×3 convolutions on 64 channels; one of 1×1 to 64, 3×3 and 1×1 to 256.")
names = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
with torch.device("meta"):  # shapes without numbers: no memory, no time
    resnets = {name: models.build(name) for name in names}
costs = {name: cost.table(net, (3, 224, 224)) for name, net in resnets.items()}
published = {name: torchvision.models.get_model_weights(name).DEFAULT.meta for name in names}
billions = {name: round(table.multiply_adds / 1e9, 2) for name, table in costs.items()}
named = {name: f"{name}, {weight_layers(net)} layers" for name, net in resnets.items()}
claims.table(
    "arch-resnet-imagenet", "Parameters, here and in torchvision.",
    {named[name]: (count(resnets[name]), published[name]["num_params"]) for name in names},
    columns=("network", "parameters here", "torchvision"))
claims.table(
    "arch-resnet-imagenet.work",
    "G multiply-adds at 224 × 224, counted here and as torchvision states them.",
    {named[name]: (billions[name], round(published[name]["_ops"], 2)) for name in names},
    columns=("network", "G here", "torchvision"))

# %% tags=["fold", "ledger:emp-resnet-cheaper-than-vgg"]
with torch.device("meta"):
    vgg19, plain34 = models.vgg19(), models.plain34()
vgg_cost, plain_cost = cost.table(vgg19, (3, 224, 224)), cost.table(plain34, (3, 224, 224))
share = costs["resnet34"].multiply_adds / vgg_cost.multiply_adds
exercises.reveal(
    "14.p6",
    "about a fifth" if share < 0.5 else "about as many" if share < 1.5 else "about twice as many",
    f"The share is {share:.2f}.",
)
claims.table(
    "num-resnet34-36gflops", "G multiply-adds; expected: torchvision's (plain-34: less 1×1).",
    {"VGG-19": (round(vgg_cost.multiply_adds / 1e9, 2), 19.63),
     "ResNet-34": (billions["resnet34"], 3.66),
     "plain-34": (round(plain_cost.multiply_adds / 1e9, 2), 3.64)},
    columns=("network", "counted", "expected"), tolerance=0.005)
work = {side: sum(row.multiply_adds for row in vgg_cost.rows
                  if row.kind == "Conv2d" and row.output_shape[-1] in side) / 1e9
        for side in ((224, 112), (56, 28))}
largest = {name: max(row.multiply_adds for row in table.rows if row.kind == "Conv2d"
                     and row.kernel[0] == 3 and row.output_shape[-1] == 56) / 1e9
           for name, table in (("vgg", vgg_cost), ("resnet", costs["resnet34"]))}
claims.check(
    "emp-resnet-cheaper-than-vgg.where",
    "VGG-19 spends {large:.1f} G on maps of 224 and 112 pixels and {middle:.1f} G on maps of 56 "
    "and 28, where ResNet works too. At 56 pixels a 3×3 layer costs up to {vgg:.2f} G in VGG-19, "
    "{times:.0f} times the {resnet:.3f} G in ResNet-34.",
    large=(work[224, 112], "<", round(work[56, 28], 1)), middle=work[56, 28],
    vgg=largest["vgg"], resnet=largest["resnet"],
    times=(largest["vgg"] / largest["resnet"], "==", (256 // 64) ** 2),
)

# %% tags=["fold"]
stem = {row.name: row.output_shape[-1] for row in costs["resnet34"].rows}
claims.check(
    "num-resnet-stem-224-56", "The stem takes 224 pixels to {conv} and then {pool}.",
    conv=(stem["conv1"], "==", 112), pool=(stem["maxpool"], "==", 56),
)
shades = {224: "#1f1f1f", 112: "#6a4a63", 56: "#862d69", 28: "#b72765", 14: "#d17ba3",
          7: "#009488", 1: "0.55"}  # side of the map: colour
fig, panels = plt.subplots(2, 1, sharex=True, sharey=True, figsize=(figures.WIDTH, 4.4))
for ax, table in zip(panels, (vgg_cost, costs["resnet34"])):
    layers = [row for row in table.rows if row.kind in ("Conv2d", "Linear")]
    layers = [row for row in layers if "downsample" not in row.name]  # the main path
    sides = [row.output_shape[-1] if row.kind == "Conv2d" else 1 for row in layers]
    ax.vlines(range(1, len(layers) + 1), 0, [row.multiply_adds / 1e9 for row in layers],
              colors=[shades[side] for side in sides], linewidth=9)
    ax.set_ylabel("G multiply-adds")
for start in range(2, 34, 2):  # the shortcut around layers start and start + 1
    panels[1].add_patch(Arc((start + 0.5, 0.2), 1.8, 0.6, theta2=180, color="0.3", lw=1.2))
fig.suptitle("ResNet-34: fifteen layers more, a fifth of the work", x=0.01, ha="left")
panels[0].set(title=f"VGG-19: 19 layers, {vgg_cost.multiply_adds / 1e9:.1f} G", ylim=(0, 2.1))
panels[1].set(title=f"plain-34 and ResNet-34 (with arcs): 34 layers, "
                    f"{plain_cost.multiply_adds / 1e9:.1f} and {billions['resnet34']:.1f} G",
              xlabel="layer", xticks=(1, 10, 19, 34))
for place, side in enumerate((224, 112, 56, 28, 14, 7)):
    panels[0].text(19 + 2.8 * place, 1.1, f"{side}²", color=shades[side], fontweight="bold")
panels[0].text(19, 1.6, "pixels of the maps (grey: dense layers):", fontsize=12)
figures.save(fig, "fig-resnet-vs-vgg-architecture",
             caption="Work of each layer with weights at 224 × 224, coloured by the size of its "
                     "maps; arcs: the shortcuts of ResNet-34.",
             alt="VGG-19 spends up to 1.8 G multiply-adds a layer, on maps of 112, 56 and 28 "
                 "pixels; the 34-layer networks never more than 0.12 G a layer.")

# %% [markdown]
# (The paper prints 1.8, 3.6, 3.8, 7.6 and 11.3 G for the five networks: its shortcuts in ResNet-34 are free, and its bottlenecks stride in the first 1×1, ours and torchvision's in the 3×3.)
#
# So ResNet-34 is cheap by its few channels: 64 in and out at 56 pixels, where VGG-19 has 256, and a layer costs a sixteenth.
# That it leaves the large maps at once saves less.
# The shortcut has no part in it: the plain twin costs nearly the same.
#
# **Exercise 14.7.** Recompute 3.66 G and 19.63 G: given rows (channels in, channels out, kernel size, stride, padding, input size)
# of square convolutions, return the multiply-adds of all of them. A linear layer is a row with kernel 1 and input size 1.

# %%
def multiply_adds_of(rows): ...


exercises.check("14.7", multiply_adds_of)

# %% [markdown]
# ## 8 · What came of it
#
# **Pre-activation** (He et al. 2016, three months later).
# In `ResidualBlock` the ReLU stands outside of the sum, so the stream is cut at zero after every block.
# Move BatchNorm and ReLU in front of each convolution, and nothing stands behind the sum:

# %% tags=["define"]
class PreActivationBlock(ResidualBlock):
    """x + F(x), BatchNorm and ReLU in front of each convolution (channels as before)."""

    def branch(self, x):
        x = self.conv1(F.relu(self.bn1(x)))
        return self.conv2(F.relu(self.bn2(x)))

    def forward(self, x):
        return x + self.branch(x)

# %% tags=["fold"]
x, changes = torch.randn(2, 8, 8, 8), {}  # a stream with negative numbers
for block in (ResidualBlock(8, 8), PreActivationBlock(8, 8)):
    for layer in (block.bn2, block.conv2):
        nn.init.zeros_(layer.weight)  # F(x) = 0
    changes[type(block).__name__] = (block(x) - x).abs().max().item()
claims.check(
    "eq-residual-block.pre-activation",
    "Where F(x) = 0 a residual block changes the numbers of a stream by up to {residual:.1f}, a "
    "pre-activation block by {new:.0f}.",
    residual=(changes["ResidualBlock"], ">", 1), new=(changes["PreActivationBlock"], "==", 0),
)

# %% [markdown]
# So within a stage the way past all blocks is now the identity, for every input.
# (This block is only for places where the number of channels stays: where a stage begins, `bn1` would need that of its input.)
# With 1001 layers the original block reached a test error of 7.61 % on CIFAR-10, the pre-activation block 4.92 %, with batches of 64 4.62 % (its tables 3 and 4).
#
# **Transformers** (Vaswani et al. 2017) put a shortcut around each of their two parts, attention and a small dense network; today's have the normalisation inside of $F$, as here.
#
# ## In practice
#
# - `torchvision.models.resnet50(weights="IMAGENET1K_V2")` is the usual start: on ImageNet its first guess is right for 80.9 % of pictures (*top-1*); the first weights (V1) had 76.1 %. Same network, better training. In timm: `timm.create_model("resnet50.a1_in1k", pretrained=True)`.
# - From scratch: `resnet50(zero_init_residual=True)` starts every branch at zero (exercise 14.6). Goyal et al. 2017 (section 5.1) start so: all their models gained, most with large batches. In our short training it did harm (section 6); their shortcuts have weights where shapes change, so no channel is padded with zeros. timm does so by default (`zero_init_last`).
# - Shortcuts with weights (1×1 convolution and BatchNorm, option B) only where shapes change; torchvision strides in the 3×3, not in the first 1×1.
# - Deep and without BatchNorm: scale the branch down, by Fixup's start or a learned factor that begins near 0 (LayerScale; `layer_scale` in torchvision's ConvNeXt).
# - A deep network that does not train: print the gradient norm of each block before you change the learning rate; it shows a start that vanishes or explodes, not whether the gradient is true (section 4).
#
# ## History
#
# - 1991: Hochreiter's diploma thesis analyses gradients that vanish or explode; the LSTM (1997) answers with a state that is *added to*.
# - May 2015: highway networks (Srivastava, Greff, Schmidhuber), with learned gates on the shortcut; in July they train them "even with hundreds of layers", on small images.
# - December 2015: ResNet (He, Zhang, Ren, Sun), gates left out; it wins ILSVRC and COCO 2015, and is the best paper of CVPR 2016.
# - March 2016: pre-activation, 1001 layers. May 2016: Veit et al. take blocks out. June 2017: the transformer has a shortcut around every part.
# - 2021: Wightman, Touvron and Jégou bring the ResNet-50 of 2015 to 80.4 % with today's training ("ResNet strikes back").
#
# ## Exercises
#
# 14.1 to 14.7 stand in their sections. Left are two without a check.
#
# **14.8 Open: the rate or the shortcut?** In a terminal, in the folder of the course:
#
# ```sh
# for rate in 0.001 0.005 0.01 0.02 0.1 0.2; do python -m cnncourse run 14 -p learning_rate $rate; done
# python -m cnncourse run 14 -p epochs 40
# ```
#
# (`.venv/bin/python` in place of `python` where no environment is active; a run takes about 40 seconds, the last one ten minutes.)
# In each output the first ✓ of section 1 is a row of that section's table; the ✓ of section 3 gives the same for networks with shortcuts.
# At 20 layers, and at 56: what moves the error more, the rate or the shortcut?
#
# **14.9 Open: what does this figure *not* show?** Look at the two panels of section 3 again.
# Name three sentences about shortcuts that one might read from them and that they do not support, and for each the run that would.
# (Depth helps? New pictures? Other data, other budgets, 56 against 110 layers? The shortcut, or the scale of the sum?)
#
# ## Summary
#
# Measured on small digits, narrow networks and 63 steps (section 6: dense stacks and 25 steps).
# The paper reports degradation of plain networks on CIFAR-10 and ImageNet, and that residual networks gain with depth on both.
#
# - At an equal budget plain-56 gets most of its training images wrong, plain-20 a tenth or so: degradation, not overfitting (section 1).
# - A good plain network of 56 layers exists, since we built one; training does not find it (section 2).
# - One addition a block, without any weight, brings residual-56 nearly to the error of residual-20; both end between one and three percent (section 3).
# - In an untrained plain-56 gradients vanish from a weak start without BatchNorm, and explode with it (section 4).
# - With shortcuts a promise of 0.1 is nearly kept; at the step of training residual-56 turns as well, and its loss falls (section 4).
# - Why plain-56 fails is not settled here. A gradient that vanishes towards the input is not found, before training or after it; steps that promise at most 0.3 do not save it (section 1); and a gradient that turns is found in plain-20 too (section 4).
# - A residual network is a sum of many ways; take out a late block, and little happens; the early ones cost most (section 5).
# - Without BatchNorm a shortcut makes copying easy from a weak start; from He's it helps with 2 layers and not with 16 (section 6).
# - A bottleneck carries four times the channels for the same price; ResNet-34 is cheaper than VGG-19 by its fewer channels (section 7).
#
# ## Also in the lectures
#
# For reference: sizes, recipe and results that the lectures name. Nothing later needs them.
# (*top-5*: the right class is among five guesses. *10 crops*: the mean over ten cut-outs of a picture. A *validation* image chooses settings, a *test* image judges.)
#
# **The recipe.** Here and in the paper:
#
# | setting | the paper, ImageNet | here |
# |---|---|---|
# | BatchNorm | behind each convolution, before the ReLU | the same |
# | initialisation | He, variance 2 / fan | the same |
# | optimizer | SGD, momentum 0.9, 256 images a step | SGD, momentum 0.9, 64 images |
# | learning rate | 0.1, divided by 10 when the error stays; 600,000 steps | 0.05, falling in a straight line; 63 steps |
# | weight decay | $10^{-4}$ | $10^{-4}$ |
# | dropout | none | none |

# %% tags=["fold"]
sizes = {20: 269_722, 56: 853_018, 110: 1_727_962}
with torch.device("meta"):
    family = {depth: CifarNet(depth, ResidualBlock) for depth in sizes}
    twins = {depth: CifarNet(depth, PlainBlock) for depth in (20, 56)}
    options = {option: models.resnet34(shortcut=option) for option in "ABC"}
    plain18, resnet18 = models.plain18(), models.resnet18(shortcut="A")
claims.table(
    "num-resnet-depth-formulas",
    "Parameters for CIFAR-10, with 6n + 2 layers; the paper prints 0.27, 0.85 and 1.7 M.",
    {f"{weight_layers(network)} layers": (count(network), sizes[depth])
     for depth, network in family.items()},
    columns=("network", "parameters", "expected"),
)
claims.table(
    "arch-plain-18-34",
    "A plain twin has as many parameters as its network with shortcuts of option A.",
    {"plain-18": (count(plain18), count(resnet18)),
     "plain-34": (count(plain34), count(options["A"]))}
    | {f"plain-{depth}": (count(twin), count(family[depth])) for depth, twin in twins.items()},
    columns=("network", "plain", "residual"),
)
claims.table(
    "eq-residual-block.options",
    "ResNet-34 with shortcuts of option A (zeros), B (1×1 convolution where shapes change) or C "
    "(everywhere); the paper's top-1 errors are 25.03, 24.52 and 24.19 %.",
    {"A": (count(options["A"]), 21_623_848), "B": (count(options["B"]), 21_797_672),
     "C": (count(options["C"]), 22_716_840)}, columns=("option", "parameters", "expected"),
)

# %% tags=["fold", "ledger:emp-resnet-any-depth"]
convolutions = {row.name for table in costs.values() for row in table.rows if row.kind == "Conv2d"}
dropouts = [layer for network in resnets.values() for layer in network.modules()
            if isinstance(layer, nn.Dropout)]
read = set().union(*(readers(table, "Conv2d") for table in costs.values()))
stems = sorted(name for name in convolutions if "layer" not in name)
claims.table(
    "prac-resnet-recipe",
    "Of the five networks for ImageNet, from their tables of costs.",
    {"what reads a convolution": (", ".join(sorted(read)), "BatchNorm2d"),
     "dropout layers": (len(dropouts), 0),
     "convolutions outside of blocks": (", ".join(stems), "conv1"),
     "kernels of a block of ResNet-34": (kernels(costs["resnet34"], "layer1.0"), [3, 3]),
     "kernels of a block of ResNet-50": (kernels(costs["resnet50"], "layer1.0"), [1, 3, 1])},
    columns=("what", "counted", "the paper"),
)
first_by_last = {}  # gradient by the first block's weights / by the last block's
for kind, block in KINDS.items():
    torch.manual_seed(seed)
    deepest = CifarNet(200, block, in_channels=len(mean), width=8).to(device)
    norms = block_norms(deepest, *next(train_set.batches(32)))[2]
    first_by_last[kind] = norms[0] / norms[-1]
claims.check(
    "emp-resnet-any-depth",
    "Untrained, with 200 layers, the gradient with respect to the first block's weights is "
    "{residual:.0f} times that of the last "
    "block's with shortcuts; without, the power of ten is {plain:.0f} (one seed).",
    residual=(first_by_last["residual"], "in", (1, 100)),
    plain=(math.log10(first_by_last["plain"]), ">", 6), varies=True,
)

# %% tags=["fold"]
claims.quoted(
    "emp-plain34-vs-18",
    "ImageNet top-1 error with 18 and 34 layers: plain 27.94 and 28.54 %, residual 27.88 and "
    "25.03 %", "He et al. 2015, table 2")
claims.quoted(
    "emp-resnet-better-than-human",
    "5.1 % human error is that of one annotator on 1,500 test images; the ensemble has 3.57 % "
    "(test), one network with 152 layers 4.49 % (validation images)",
    "Russakovsky et al. 2015, section 6.4; He et al. 2015, tables 4 and 5")
low, high = (100 * end for end in wilson(0.051, 1500))
claims.check(
    "emp-resnet-better-than-human.interval",
    "Counted in 1,500 images, 5.1 % has a 95 % interval of {low:.1f} to {high:.1f} % (Wilson). "
    "The ensemble's 3.57 % lies below it, the single network's 4.49 % inside.",
    low=(low, "in", (3.57, 4.49)), high=(high, ">", 4.49))
claims.quoted(
    "emp-resnet152-ensemble-won",
    "Top-5 error with 34, 50, 101, 152 layers: 7.40 (option C), 6.71, 6.05, 5.71 % (option B; one "
    "network, 10 crops of validation images); "
    "an ensemble of six, two of them with 152 layers, won ILSVRC 2015 with 3.57 %",
    "He et al. 2015, tables 3 and 5")
claims.quoted(
    "num-resnet-wins-percent",
    "Margins over the second place in 2015, relative: ImageNet detection 16 %, localisation 27 %, "
    "COCO detection 11 %, segmentation 12 %", "He, slides at ILSVRC and COCO 2015")
claims.quoted(
    "emp-1202-overfits",
    "CIFAR-10 test error: 7.93 % with 1202 layers, 6.43 % with 110; training error below 0.1 %; "
    "the authors suspect overfitting (19.4 M parameters for 50,000 images)",
    "He et al. 2015, table 6 and section 4.2")

# %% [markdown] tags=["ledger:err-resnet-wd-1e5", "ledger:err-resnet-two-3x3-all", "ledger:err-resnet-more-than-human", "ledger:err-resnet-first-100", "ledger:err-resnet-occasional-blocks", "ledger:err-resnet-10crop", "ledger:err-plain34-missing-residual", "ledger:err-vanishing-contradiction", "ledger:err-1202-imagenet", "ledger:err-any-depth", "ledger:err-residual-hx-definition"]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | weight decay 1e-5 | 1e-4, on ImageNet and CIFAR-10 | paper, sections 3.4 and 4.2 |
# | every residual block has two 3×3 convolutions | in ResNet-18, 34 and the CIFAR networks; from 50 layers on 1×1, 3×3, 1×1 | [section 7](#7-·-The-networks-for-ImageNet), [counted](#Also-in-the-lectures) |
# | repeated convolutions, with occasional residual blocks | every convolution but the stem lies in a residual block | [counted](#Also-in-the-lectures) |
# | 3.57 % is "more than human level error" | lower than the 5.1 % of one annotator, and reached by six networks together | Russakovsky et al. 2015, section 6.4; paper, table 5 |
# | the very first network of more than a hundred layers | the first on ImageNet; highway networks had that depth on small images months before; the notes' "even 1000" is not touched by this | arXiv:1505.00387, 1507.06228 |
# | ten random patches, most likely label | four corners, centre, and their mirror images; scores averaged | Krizhevsky et al. 2012, section 4.1, to which the paper's section 3.4 refers |
# | "34-layer plain network suffers from degradation while 34-layer does not" | while the 34-layer *residual* network does not | paper, table 2 |
# | shortcuts help against vanishing gradients; vanishing is not the cause | both, of different networks: without normalisation and from a weak start they do; with BatchNorm the gradient of plain-56 does not vanish towards the input, before or after training | [section 4](#4-·-Is-it-the-vanishing-gradient?) |
# | optimisers cannot find the identity, a residual drives F to zero | without normalisation and from a weak start plain stacks did not copy in 25 steps, those with shortcuts did; from He's start 16 residual layers copied no better than plain ones (25 steps of Adam, one rate) | [section 6](#6-·-Is-the-shortcut-enough?) |
# | 1202 layers: no problems with training, but poor results | on CIFAR-10, 7.93 % test error against 6.43 % with 110 layers | paper, table 6 |
# | any depth without fear | the depths the paper tried could be trained, up to 1202 (110 needed a warm-up); of the *original* blocks 1202 layers did worse on test images than 110; pre-activation blocks gained up to 1001 | paper, section 4.2; sequel, tables 3 and 4 |
# | H is a new function, F the usual output | H is the mapping wanted, F = H − x is what the layers learn (as the notes say further down) | paper, section 3.1 |
#
# ## Sources
#
# - He, Zhang, Ren, Sun: Deep residual learning for image recognition. December 2015, arXiv:1512.03385; CVPR 2016.
# - He, Zhang, Ren, Sun: Identity mappings in deep residual networks. ECCV 2016, arXiv:1603.05027 (pre-activation).
# - Krizhevsky, Sutskever, Hinton: ImageNet classification with deep convolutional neural networks. NIPS 2012.
# - He, Zhang, Ren, Sun: Delving deep into rectifiers. ICCV 2015, arXiv:1502.01852 (initialisation).
# - Srivastava, Greff, Schmidhuber: Highway networks, arXiv:1505.00387; Training very deep networks, arXiv:1507.06228.
# - Veit, Wilber, Belongie: Residual networks behave like ensembles of relatively shallow networks. NIPS 2016, arXiv:1605.06431.
# - Balduzzi et al.: The shattered gradients problem. ICML 2017, arXiv:1702.08591.
# - Li, Xu, Taylor, Studer, Goldstein: Visualizing the loss landscape of neural nets. NeurIPS 2018, arXiv:1712.09913.
# - Goyal et al.: Accurate, large minibatch SGD: training ImageNet in 1 hour. 2017, arXiv:1706.02677.
# - Yang et al.: A mean field theory of batch normalization. ICLR 2019, arXiv:1902.08129.
# - Zhang, Dauphin, Ma: Fixup initialization. ICLR 2019, arXiv:1901.09321. Wightman, Touvron, Jégou: ResNet strikes back. 2021, arXiv:2110.00476.
# - Vaswani et al.: Attention is all you need. NIPS 2017, arXiv:1706.03762. Hochreiter, Schmidhuber: Long short-term memory. 1997.
# - Russakovsky et al.: ImageNet large scale visual recognition challenge. IJCV 2015, arXiv:1409.0575 (section 6.4: human error).
# - Lecture notes 000 to 004, the parts on ResNet.
