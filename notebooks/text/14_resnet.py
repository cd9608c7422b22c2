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
# ### Why does a deeper network fit its own training set worse, and what does a shortcut change?
#
# **You will be able to**
# - tell degradation from overfitting by looking at one number, and say at which budget it was measured;
# - write a residual block and the 6n + 2 networks of the paper, and prove that a block can be the identity;
# - say what BatchNorm does to the gradients of a deep plain network, and what the shortcut does;
# - count layers, parameters and multiply-adds of ResNet-18 to ResNet-152 and compare them with VGG-19.
#
# **You need** convolution arithmetic (lesson 04), BatchNorm and He's initialisation (lessons 07 and 08), VGG (lesson 12).
#
# **Words.** "The paper" is He, Zhang, Ren and Sun, *Deep residual learning for image recognition* (2016); "the notes" are the lecture notes that this course checks.
# A *block* is two or three layers that belong together; a *stage* is a run of blocks that work at one image size.
# A *shortcut* adds the input of a block to its output; the *plain twin* of a residual network has the same layers and no shortcuts.
# *plain-56* and *residual-56* are the two networks of 56 layers. Where errors are compared, a *point* is one image in a hundred.
#
# A row of output is a *claim*: its name, the measured value, what it has to satisfy, whether it holds, and often a note on what was measured.
# `True == True` says that a comparison made in the code above came out as it should (more in lesson 01, section 1).
#
# **It costs** about 65 seconds on one core, without a network connection.
# Preset `full`: CIFAR-10 at depths 20 and 56 on a GPU.

# %% tags=["parameters"]
dataset: str = "digits"  # digits (8x8, ships with the course), mnist, fashion_mnist, cifar10, or a folder
images: int = 0  # training images to use; 0 means all of them
depths: list[int] = [8, 20, 56]  # layers of the networks, each 6n + 2, at least two of them, rising
width: int = 8  # channels of the first stage; the paper's networks for CIFAR-10 have 16
epochs: int = 10  # passes over the training images; the learning rate falls tenfold after 70 % and after 90 % of them
batch_size: int = 128  # images a step
learning_rate: float = 0.05  # of SGD with momentum 0.9
weight_decay: float = 0.0001  # the paper's value
augmented: bool = False  # shift by up to 4 pixels and mirror, as the paper does for CIFAR-10
seeds: int = 3  # training runs of every network
seed: int = 0  # the first of them

# %% tags=["imports"]
import copy
import math
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from cnncourse import augment, claims, cost, data, diagrams, exercises, figures
from cnncourse import models, plots, runtime, training, widgets

# %%
runtime.start(seed=seed)
figures.use_style()
KINDS = ("plain", "residual")

# %% [markdown]
# ## 1 · A network that cannot be worse
#
# Take a trained network and insert layers that copy their input.
# The new network is deeper and computes the same function, so its training error is the same.
# Therefore there is always a deeper network that fits the training set at least as well.
# The question of this lesson is whether training finds such a network.
#
# One convolution that copies: a 3×3 kernel with a 1 in the middle of the matching channel and 0 elsewhere.
# A ReLU behind it changes nothing, because what comes out of the ReLU before it is never negative.

# %% tags=["ledger:emp-identity-construction"]
front = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
back = nn.Sequential(nn.Flatten(), nn.Linear(8 * 8 * 8, 10))
copying = nn.Conv2d(8, 8, 3, padding=1, bias=False)
nn.init.dirac_(copying.weight)
shallow_net, deep_net = nn.Sequential(front, back), nn.Sequential(front, *[copying, nn.ReLU()] * 10, back)
digits, _ = next(data.digits().batches(100))
claims.check("emp-identity-construction", torch.allclose(deep_net(digits), shallow_net(digits), atol=1e-6), "==", True,
             note="ten copying layers inserted into a network leave its outputs equal to 1e-6")

# %% [markdown]
# ## 2 · The residual block
#
# A plain block maps its input $x$ to $F(x) = W_2\,\mathrm{relu}(W_1 x)$ and passes it through a ReLU.
# A residual block adds the input before that ReLU:
#
# $$y = \mathrm{relu}(F(x) + x).$$
#
# If $H$ is the mapping we would like to have, the layers of the block have to learn the difference $F(x) = H(x) - x$.
# To copy its input a plain block has to learn the kernels above; a residual block has to learn $F = 0$.
#
# BatchNorm follows each convolution, which therefore needs no bias.
# Where a stage begins, height and width halve and channels double, so $x$ no longer fits.
# The shortcut then takes every second pixel and fills the new channels with zeros.
# The paper calls this option A; it has no parameters, so the plain twin has exactly as many as the residual network.

# %% tags=["define", "ledger:eq-residual-block"]
class Block(nn.Module):
    """relu(F(x) + shortcut(x)), or relu(F(x)) in a plain network.

    (N, in_channels, H, W) -> (N, channels, H / stride, W / stride)
    """

    def __init__(self, in_channels, channels, stride=1, *, residual=True, batch_norm=True):
        super().__init__()
        norm = nn.BatchNorm2d if batch_norm else nn.Identity
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=not batch_norm)
        self.bn1 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=not batch_norm)
        self.bn2 = norm(channels)
        self.residual, self.stride, self.new_channels = residual, stride, channels - in_channels

    def branch(self, x):  # F(x)
        return self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))

    def shortcut(self, x):  # x itself, or option A where a stage begins
        return F.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, 0, self.new_channels))  # pads W, H, then C

    def forward(self, x):
        return F.relu(self.branch(x) + self.shortcut(x)) if self.residual else F.relu(self.branch(x))

# %% [markdown]
# The shapes: one block that keeps them and one that begins a stage.

# %%
x = torch.rand(2, 8, 8, 8)
Block(8, 8)(x).shape, Block(8, 16, stride=2)(x).shape

# %% [markdown]
# **Predict:** the last BatchNorm of a block multiplies by a learned weight, one a channel.
# What does a residual block compute when these weights are 0, and what does its plain twin compute?

# %%
silent = {kind: Block(8, 8, residual=kind == "residual") for kind in KINDS}
for block in silent.values():
    nn.init.zeros_(block.bn2.weight)
claims.check("emp-identity-construction.zero-branch", torch.equal(silent["residual"](x), x), "==", True,
             note="F = 0: the residual block returns its input")
claims.check("eq-residual-block.plain", silent["plain"](x).abs().max(), "==", 0.0, note="the plain twin forgets it")

# %% [markdown]
# The derivative shows the same.
# Before the last ReLU the block computes $F(x) + x$, whose Jacobian is $I + \partial F / \partial x$:
# whatever $F$ does, the gradient that arrives at the sum also reaches $x$ unchanged, in every block that keeps its shape.

# %%
block = Block(2, 2).double().eval()
point = torch.rand(1, 2, 4, 4, dtype=torch.float64)
of_sum = torch.func.jacrev(lambda x: block.branch(x) + block.shortcut(x))(point).reshape(32, 32)
of_branch = torch.func.jacrev(block.branch)(point).reshape(32, 32)
claims.check("eq-residual-block.jacobian", of_sum - of_branch, "~", torch.eye(32), tolerance=1e-12,
             note="32 x 32: two channels of 4 x 4 pixels")

# %% [markdown]
# ## 3 · The networks: 6n + 2 layers, with and without shortcuts
#
# The paper's networks for CIFAR-10 have one convolution, three stages of $n$ blocks with $w$, $2w$ and $4w$ channels,
# an average over all pixels and one linear layer: $1 + 3 \cdot n \cdot 2 + 1 = 6n + 2$ layers with weights.
#
# He's initialisation draws each weight with variance $2 / (k^2 c)$ for $c$ output channels and kernel size $k$.
# The factor 2 makes up for the half of the values that a ReLU sets to zero.
# We keep it as an argument, because section 5 needs a weaker start.

# %% tags=["define"]
def initialise(network, gain=2.0):
    """Draw every convolution anew with variance gain / (kernel area * output channels); biases 0. He: gain 2."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.weight[:, 0].numel()  # output channels * kernel height * kernel width
            nn.init.normal_(layer.weight, std=math.sqrt(gain / fan_out))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network

# %% tags=["define", "ledger:arch-resnet-cifar"]
class CifarNet(nn.Module):
    """The network of 6n + 2 layers of He et al. 2016, section 4.2: (N, in_channels, H, W) -> (N, num_classes)."""

    def __init__(self, depth, *, residual=True, in_channels=3, num_classes=10, width=16, batch_norm=True):
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
                blocks.append(Block(channels, width * 2**stage, stride, residual=residual, batch_norm=batch_norm))
                channels = width * 2**stage
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, images):
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))  # (N, 4 * width), the average over all pixels

# %% [markdown]
# A ResNet with a layer missing still trains, and what one learns from it is about another network.
# So structure comes before training: we count the layers on the main path and the parameters.

# %% tags=["define"]
def weight_layers(network):
    """The number of convolutions and linear layers on the main path; projections on a shortcut do not count."""
    main_path = [layer for name, layer in network.named_modules() if "downsample" not in name]
    return sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in main_path)

# %% tags=["ledger:num-resnet-depth-formulas"]
paper_depths = (20, 32, 44, 56, 110, 1202)
with torch.device("meta"):  # shapes without numbers: no memory, no time
    family = [CifarNet(depth) for depth in paper_depths]
    twins = [CifarNet(depth, residual=False) for depth in paper_depths[:-1]]
sizes = [sum(p.numel() for p in network.parameters()) for network in family]
claims.check("num-resnet-depth-formulas.layers", [weight_layers(network) for network in family], "==", paper_depths)
claims.check("num-resnet-depth-formulas.cifar", sizes, "==",
             (269_722, 464_154, 658_586, 853_018, 1_727_962, 19_421_274), unit="parameters")
claims.check("arch-resnet-cifar.plain-twins", [sum(p.numel() for p in network.parameters()) for network in twins], "==",
             sizes[:-1], note="a plain twin has the same parameters")

# %% [markdown]
# The paper gives 0.27 M, 0.46 M, 0.66 M, 0.85 M, 1.7 M and 19.4 M.
#
# Later lessons need this network, so the package has it as `models.resnet_cifar`, with the same names for the layers.
# With our weights it computes the same.

# %% tags=["ledger:arch-resnet-cifar"]
ours, packaged = CifarNet(20).eval(), models.resnet_cifar(20).eval()
packaged.load_state_dict(ours.state_dict())
pictures = torch.rand(2, 3, 32, 32)
claims.check("arch-resnet-cifar", torch.allclose(ours(pictures), packaged(pictures), atol=1e-5), "==", True,
             note="same names, same outputs as models.resnet_cifar(20)")

# %% [markdown]
# ## 4 · The experiment: same layers, same data, same budget
#
# Does the deeper network fit the training set better?
# We train plain and residual networks from several seeds, every one with the same images, steps, learning rate and schedule.

# %%
train_set, test_set = data.load(dataset, train=True), data.load(dataset, train=False)
if images:
    train_set, test_set = train_set.subset(images, seed=seed), test_set.subset(images, seed=seed)
mean, std = train_set.statistics()
train_set, test_set = train_set.normalised(mean, std), test_set.normalised(mean, std)
train_set

# %%
shown = data.load(dataset, train=True)[:10]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 1.4))
plots.image_grid(ax, shown.images, columns=10, labels=[shown.classes[label] for label in shown.labels])
plt.show()

# %% [markdown]
# The recipe of the paper, scaled down: SGD with momentum 0.9, weight decay $10^{-4}$, a learning rate that falls tenfold twice,
# BatchNorm after each convolution, He's initialisation, no dropout.

# %%
def train(kind, depth, run):
    """The trained network (on the CPU) and its history."""
    runtime.start(seed=seed + run, memory_format="channels_last")  # the run decides weights and order of the images
    network = CifarNet(depth, residual=kind == "residual", in_channels=len(mean), num_classes=len(train_set.classes),
                       width=width)
    optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate, momentum=0.9, weight_decay=weight_decay)
    drops = [max(1, int(epochs * share)) for share in (0.7, 0.9)]
    history = training.fit(
        network, train_set, test_set, optimizer=optimizer, epochs=epochs, batch_size=batch_size,
        scheduler=torch.optim.lr_scheduler.MultiStepLR(optimizer, drops, gamma=0.1),
        augment=augment.compose(partial(augment.crop, padding=4), augment.flip) if augmented else None)
    return network.cpu(), history

# %%
trained = {(kind, depth): [train(kind, depth, run) for run in range(seeds)] for depth in depths for kind in KINDS}
shallow, deep = depths[-2:]
budget = f"{dataset}, width {width}, {epochs} epochs, {seeds} seeds, {runtime.current().device}"
used = (dataset, images, shallow, deep, width, epochs, batch_size, learning_rate, weight_decay, augmented)
claimed = used == ("digits", 0, 20, 56, 8, 10, 128, 0.05, 0.0001, False)

# %% [markdown]
# `claimed` says whether the run has the budget for which this lesson makes its claims.
# With other parameters the rows below show what was measured and judge nothing.

# %% tags=["define"]
def column(runs, name):
    """One column of the histories of several runs, (runs, epochs)."""
    return np.array([history[name] for _, history in runs])


def error(runs, part):
    """The share of wrong answers over the epochs, (runs, epochs); part: train or valid."""
    return 1 - column(runs, f"{part}_accuracy")

# %% tags=["ledger:fig-resnet-plain-curves"]
last = {(kind, depth): error(trained[kind, depth], "train")[:, -1] for kind, depth in trained}  # one a seed
gap = {kind: last[kind, deep] - last[kind, shallow] for kind in KINDS}
styles = dict(zip(depths, ([":", "--", "-"] * len(depths))[-len(depths):]))
fig, panels = plt.subplots(1, 2, sharey=True, figsize=(figures.WIDTH, 4))
for ax, kind in zip(panels, KINDS):
    ax.set(title=f"{kind} networks", xlabel="epoch", ylim=(-2, 100))
    for part, line in (("train", 1.0), ("valid", 3.0)):
        hidden = "_" * (part == "train")  # a name that begins so gets no label
        named = {f"{hidden}{depth} layers": 100 * error(trained[kind, depth], part) for depth in depths}
        plots.curves(ax, named, colours=dict.fromkeys(named, figures.COLOUR[kind]), widths=dict.fromkeys(named, line),
                     styles=dict(zip(named, styles.values())), labels=part == "valid")
panels[0].set_ylabel("wrong answers (%)")
panels[1].text(epochs, 98, "thin: training images\nbold: test images", ha="right", va="top")
worse = "stays far above" if gap["plain"].min() > 0.2 else "ends near"
figures.save(
    fig, "fig-resnet-plain-curves",
    caption=f"Errors of plain and residual networks; {budget}; line: mean, band: range of the seeds.",
    alt=f"The plain network of {deep} layers {worse} the one of {shallow} layers, on its training images and on "
        "test images; the residual networks of all depths fall together to almost no error.")

# %% [markdown]
# Left: the plain network of 56 layers has the highest error, and has it on its *own training images* (thin line).
# Right: the same layers with shortcuts; at the end the depths can hardly be told apart.
# (In the first epochs the test error lags behind where the network is deep:
# testing uses the running statistics of BatchNorm, which have seen only a few steps by then.)

# %% tags=["ledger:emp-plain56-worse-than-plain20", "ledger:emp-degradation-not-overfitting"]
loss = {(kind, depth): column(trained[kind, depth], "train_loss")[:, -1] for kind, depth in trained}
common = dict(seeds=seeds, on="every", varies=True, given=claimed)
claims.check("emp-plain56-worse-than-plain20", 100 * gap["plain"], ">", 25, unit="points",
             note=f"training error, plain-{deep} minus plain-{shallow}, {epochs} epochs each", **common)
claims.check("emp-plain56-worse-than-plain20.trained", 100 * last["plain", shallow], "<", 8, unit="%",
             note=f"plain-{shallow} has learnt its training images in this budget", **common)
claims.check("emp-degradation-not-overfitting", loss["plain", deep] - loss["plain", shallow], ">", 0.5,
             note="training loss: an overfitted network would have the lower one", **common)

# %% [markdown]
# This is *degradation*.
# Overfitting would be a low training error with a high test error; here the training error itself rises with depth.
#
# And with shortcuts?
# Say that depth *costs* the training error at 56 layers minus the training error at 20 layers.
# Plain networks pay about 72 points, the first row above.
# If shortcuts removed half of that, residual networks would pay 36 points.
# The second row below says how far residual networks stay below such a half: half of the plain cost minus the residual cost.
# It is nearly the whole half, so residual networks pay next to nothing; claimed are ten points.

# %% tags=["ledger:emp-residual-fixes-degradation"]
claims.check("emp-residual-fixes-degradation", 100 * last["residual", deep], "<", 5, unit="%",
             note=f"training error of residual-{deep}", **common)
claims.check("emp-residual-fixes-degradation.gap", 100 * (gap["plain"] / 2 - gap["residual"]), ">", 10, unit="points",
             note="half of what depth costs plain networks, minus what it costs residual ones", **common)

# %%
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.6))
ax.set(xlabel="layers", ylabel="training error (%)", ylim=(-2, 100), xticks=depths, title="What depth costs")
by_depth = {kind: 100 * np.stack([last[kind, depth] for depth in depths], axis=1) for kind in KINDS}
plots.curves(ax, by_depth, x=depths, widths=dict.fromkeys(KINDS, 1))
for kind, errors in by_depth.items():
    ax.plot(depths, errors.T, "o", color=figures.COLOUR[kind])
figures.save(fig, "fig-resnet-plain-curves.by-depth",
             caption=f"Training error at the end, by depth; {budget}; one dot a seed.",
             alt=f"Without shortcuts the error at {deep} layers {worse} that at {shallow} layers; "
                 "with shortcuts it stays near zero at every depth.")

# %% [markdown]
# **What does not follow.**
# The claim is about an equal budget.
# At its end the deep plain network hardly moves; by then the learning rate has fallen a hundredfold.
# How much further it gets with four times the epochs is exercise 14.5.
# The paper says it in the same way: deep plain networks "may have exponentially low convergence rates".
# A network that could in principle represent the better function has not found it in the time that was enough for the others.

# %% [markdown]
# ## 5 · Is it the vanishing gradient?
#
# At one place the notes say that shortcuts help against vanishing gradients, at another that vanishing is unlikely to be the cause of degradation.
# Both can be tested with one measurement: the norm of the gradient in the first convolution of each block, before training.

# %% tags=["define"]
def gradient_norms(network, images, labels):
    """The norm of the loss's gradient in the first convolution of each block, from the input to the output."""
    network.train().zero_grad()
    F.cross_entropy(network(images), labels).backward()
    norms = [float(block.conv1.weight.grad.norm()) for block in network.modules() if isinstance(block, Block)]
    network.zero_grad()
    return norms

# %%
digit_images, digit_labels = next(data.load("digits", train=True).normalised().batches(64, dtype=torch.float64))


def first_norms(kind, gain=2.0, batch_norm=True, run=0, depth=56):
    """Gradient norms of a network that has not been trained, in float64, for 64 of the 8x8 digits."""
    torch.manual_seed(seed + run)
    network = CifarNet(depth, residual=kind == "residual", in_channels=1, width=8, batch_norm=batch_norm)
    return gradient_norms(initialise(network.double(), gain), digit_images, digit_labels)

# %% [markdown]
# Without normalisation and with a weak initialisation (a gain of 1/3 instead of 2, which is what torch uses unless told otherwise):

# %% tags=["ledger:emp-residual-gradients"]
GAIN = {"weak": 1 / 3, "He": 2.0}
bare = {(kind, start): np.array([first_norms(kind, GAIN[start], batch_norm=False, run=run) for run in range(3)])
        for kind in KINDS for start in GAIN}  # (seeds, blocks)
claims.check("emp-residual-gradients.plain-weak", np.log10(bare["plain", "weak"][:, 0]), "<", -20, seeds=3,
             on="every", note="log10 of the first block's gradient, plain-56, no BatchNorm, weak start")
claims.check("emp-residual-gradients", np.log10(bare["residual", "weak"][:, 0]), "in", (-4, 0), seeds=3, on="every",
             note="the same with shortcuts")
claims.check("emp-residual-gradients.plain-he", np.log10(bare["plain", "He"][:, 0]), "in", (-9, -4), seeds=3,
             on="every", note="plain-56, no BatchNorm, He's start: small, but far from vanished")

# %% [markdown]
# Here the shortcut helps beyond doubt: twenty and more powers of ten.
# The plain curves in the figure below are flat all the same: the signal shrinks on its way to the output as the gradient shrinks on its way back, and the gradient of a weight is their product.
# He's initialisation helps the plain network almost as much.
# Most of what it still loses goes to the padding: in the last stage a 3×3 kernel on 2×2 pixels sees four pixels and five zeros.
# (On $s$ × $s$ pixels a kernel keeps a share of $((3s - 2) / 3s)^2$ of the variance; over 18 convolutions each at 8, 4 and 2 pixels that is a factor of $10^{-5.3}$ in the size of the signal.)
# But the networks of section 4 have BatchNorm.
# **Predict** what that does to the gradient of the plain network before you run the next cell.

# %%
normalised = {kind: np.array([first_norms(kind, run=run) for run in range(3)]) for kind in KINDS}
ratio = {kind: norms[:, 0] / norms[:, -1] for kind, norms in normalised.items()}  # first block / last block
claims.check("err-vanishing-contradiction.plain", ratio["plain"], ">", 50, seeds=3, on="every",
             note="gradient of the first block / of the last, plain-56 with BatchNorm, before training")
claims.check("err-vanishing-contradiction.residual", ratio["residual"], "<", 20, seeds=3, on="every",
             note="residual-56")

# %% [markdown]
# It does not vanish, it *explodes* towards the input: BatchNorm divides by a standard deviation in every layer,
# and without a shortcut these factors multiply (Yang et al. 2019 derive the rate).
# The shortcut keeps the product near one.
#
# Does this explosion last? We look at the gradients of the trained networks.

# %% tags=["ledger:err-vanishing-contradiction"]
images_after, labels_after = next(train_set.batches(256, torch.Generator().manual_seed(seed)))
after = {kind: np.array([gradient_norms(network, images_after, labels_after) for network, _ in trained[kind, deep]])
         for kind in KINDS}
claims.check("err-vanishing-contradiction", after["plain"][:, 0] / after["plain"][:, -1], "in", (0.01, 100),
             note=f"first / last block, plain-{deep} after {epochs} epochs: neither vanished nor exploded", **common)
grown = {kind: np.array([network.layer1[0].conv1.weight.norm().item() for network, _ in trained[kind, deep]])
         for kind in KINDS}
claims.check("err-vanishing-contradiction.weights", grown["plain"] / grown["residual"], ">", 4,
             note="norm of the first block's weights after training, plain / residual", **common)

# %%
fig, panels = plt.subplots(1, 2, figsize=(figures.WIDTH, 4))
panels[0].set(title="no BatchNorm, before training", ylabel="norm of the gradient")
panels[1].set(title="with BatchNorm")
left = {", ".join(key): norms for key, norms in bare.items()}
right = {f"{kind}, {when}": norms[kind] for when, norms in (("new", normalised), ("trained", after)) for kind in KINDS}
for ax, series in zip(panels, (left, right)):
    ax.set(xlabel="block, from the input", yscale="log")
    plots.curves(ax, series, colours={name: figures.COLOUR[name.split(",")[0]] for name in series},
                 styles={name: "--" if name.endswith(("weak", "new")) else "-" for name in series})
figures.save(fig, "emp-residual-gradients.by-block",
             caption=f"Gradient by block, 56 layers, 8x8 digits, three seeds; trained: {deep} layers, {budget}.",
             alt="Without BatchNorm and with a weak start the plain gradient is more than twenty powers of ten below "
                 "the residual one. With BatchNorm the gradient of the new plain network grows towards the input; "
                 "once trained it does not.")

# %% [markdown]
# The explosion ends by itself.
# The output of a convolution followed by BatchNorm does not change when its weights are multiplied by a number,
# so the gradient falls as the weights grow: a few enormous first steps make the first weights large, and their gradients small.
#
# So the two places in the notes speak of different networks.
# Without normalisation, shortcuts carry gradients that would vanish.
# With BatchNorm, the plain network of 56 layers trains badly with gradients that neither vanish nor stay large:
# vanishing gradients are not what section 4 shows.
# What the cause is instead, these measurements do not say.
# A gradient of healthy size can still point in a useless direction: Balduzzi et al. (2017) find that in deep plain networks the
# gradients of neighbouring inputs are as unrelated as white noise, and that shortcuts keep them related.

# %% [markdown]
# ## 6 · Are the residuals small?
#
# If blocks mostly need to keep their input, $F(x)$ should be small against $x$.
# The paper plots the standard deviation of each layer's response, after BatchNorm and before addition and ReLU.
# We measure it for the trained networks, and also relative to the standard deviation of the block's input.

# %% tags=["define"]
def response_sizes(network, images):
    """Standard deviation of each block's response F(x), and the same relative to the block's input x: (2, blocks)."""
    network = copy.deepcopy(network).train()  # statistics of this batch; the running ones of the original stay
    sizes = []
    with torch.no_grad():
        x = F.relu(network.bn1(network.conv1(images)))
        for stage in (network.layer1, network.layer2, network.layer3):
            for block in stage:
                response = block.branch(x)
                sizes.append((float(response.std()), float(response.std() / x.std())))
                x = block(x)
    return np.array(sizes).T

# %% tags=["ledger:fig-resnet-residual-small"]
responses = {(kind, depth): np.array([response_sizes(network, images_after) for network, _ in trained[kind, depth]])
         for kind in KINDS for depth in (shallow, deep)}
fig, panels = plt.subplots(1, 2, figsize=(figures.WIDTH, 4))
for part, (ax, title, top) in enumerate(zip(panels, ("deviation of F(x)", "deviation of F(x) / of x"), (8, 2.5))):
    ax.set(title=title, xlabel="place in the network", xlim=(0, 1), ylim=(0, top))
    for (kind, depth), both in responses.items():
        plots.curves(ax, {f"{kind}-{depth}": both[:, part]}, x=np.linspace(0, 1, both.shape[-1]), labels=False,
                     colours={f"{kind}-{depth}": figures.COLOUR[kind]}, styles={f"{kind}-{depth}": styles[depth]})
    plots.label_ends(ax)
figures.save(fig, "fig-resnet-residual-small",
             caption=f"Response of each block of the trained networks; {budget}; line: mean, band: range of the seeds.",
             alt="The deviation of F(x) is about one, except in the first blocks of the deepest plain network. "
                 "Relative to its input the response of residual blocks falls from block to block, far below that "
                 "of plain blocks.")

# %%
relative = {key: both[:, 1].mean(1) for key, both in responses.items()}
claims.check("fig-resnet-residual-small", relative["residual", deep] / relative["plain", deep], "<", 0.6,
             note=f"mean over the blocks of F(x) relative to x, residual-{deep} / plain-{deep}", **common)
claims.check("fig-resnet-residual-small.deeper", relative["residual", deep] / relative["residual", shallow], "<", 0.8,
             note=f"residual-{deep} / residual-{shallow}: more blocks, each changes less", **common)
absolute = {kind: np.median(responses[kind, deep][:, 0], axis=1) for kind in KINDS}
claims.check("fig-resnet-residual-small.absolute", absolute["residual"] / absolute["plain"], "<", 0.8,
             note="the paper's figure 7: deviation of F(x) itself (median block); needs its 64,000 steps",
             **common | {"given": False})

# %% [markdown]
# Read this figure with care.
# BatchNorm gives every response the deviation of its weight, which starts at 1 and hardly moves in a hundred steps.
# So the left panel is flat; only in the first blocks of the deep plain network the explosion of section 5 has thrown the weights far from 1.
# The right panel falls because the stream $x$ collects the responses of all blocks before, so each new one is a smaller share.
# That is true before the first step as well; it is how the network is built, not something it has learnt:

# %%
fresh = {kind: np.array([response_sizes(CifarNet(deep, residual=kind == "residual", in_channels=len(mean), width=width,
                                                 num_classes=len(train_set.classes)), images_after)[1].mean()
                         for _ in range(seeds)]) for kind in KINDS}
claims.check("fig-resnet-residual-small.before", fresh["residual"] / fresh["plain"], "<", 0.6,
             note=f"the same ratio in networks that were never trained, residual-{deep} / plain-{deep}", **common)

# %% [markdown]
# The paper's figure 7 shows networks after 64,000 steps, where the left panel differs too.
# Our hundred steps say nothing about such a *learnt* difference; the preset `full` comes nearer.

# %% [markdown]
# ## 7 · Is the identity hard to learn?
#
# The argument of section 1 needs layers that copy.
# We ask for nothing else: stacks of $k$ dense layers learn to reproduce the 64 pixels of a digit.
# The exact solution exists in both forms, since pixels are not negative: unit matrices in the plain stack, zeros in the residual one.
# The error is the mean squared error divided by the variance of the pixels: 1 is what the mean picture reaches.

# %% tags=["define"]
class DenseStack(nn.Module):
    """k dense layers in pairs, x -> relu(F(x) + x) or relu(F(x)) with F = two layers: (N, 64) -> (N, 64)."""

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

# %%
pixels = next(data.load("digits", train=True).batches(1347, dtype=torch.float64))[0].flatten(1)  # (1347, 64), 0..1


def copy_error(kind, k, start, rate, run, steps=60):
    """(before, after) training: mean squared error of reproducing the pixels / their variance."""
    torch.manual_seed(seed + run)
    stack = DenseStack(k, kind == "residual", GAIN[start]).double()
    optimizer = torch.optim.Adam(stack.parameters(), lr=rate, fused=True)
    losses = []
    for rows in torch.randint(len(pixels), (steps, 128), generator=torch.Generator().manual_seed(run)):
        loss = F.mse_loss(stack(pixels[rows]), pixels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    scale = pixels.var(0).mean().item()
    return losses[0] / scale, np.mean(losses[-10:]) / scale

# %% [markdown]
# Both stacks start from the same random weights, once weak and once as He prescribes, and each gets the better of two learning rates.

# %% tags=["ledger:emp-identity-hard-for-plain"]
LAYERS, RATES = (2, 4, 8, 16), (0.003, 0.01)


def best(kind, k, start, run):
    """(before, after) at the learning rate that ends lower."""
    return min((copy_error(kind, k, start, rate, run) for rate in RATES), key=lambda pair: pair[1])


copied = {(kind, start): np.array([[best(kind, k, start, run) for k in LAYERS] for run in range(2)])
          for start in GAIN for kind in KINDS}  # (runs, k, before and after)
weak, he = ({kind: copied[kind, start][:, -1, 1] for kind in KINDS} for start in GAIN)  # 16 layers, after training
twice = dict(seeds=2, on="every", varies=True)
claims.check("emp-identity-hard-for-plain", weak["plain"], ">", 0.9, **twice,
             note="error of 16 plain layers after 60 steps, weak start; 1 would be the mean picture")
claims.check("emp-identity-hard-for-plain.residual", weak["residual"], "<", 0.1, **twice, note="with shortcuts")

# %%
fig, panels = plt.subplots(1, 2, sharey=True, figsize=(figures.WIDTH, 3.8))
for ax, start in zip(panels, GAIN):
    ax.set(title=f"{start} initialisation", xlabel="layers k", xscale="log", yscale="log", ylim=(1e-6, 1e4))
    ax.set_xticks(LAYERS, LAYERS)
    ax.minorticks_off()
    ax.axhline(1, color=figures.COLOUR["muted"], linewidth=1)
    series = {kind + when: copied[kind, start][:, :, part]
              for kind in KINDS for part, when in enumerate((", start", ""))}
    plots.curves(ax, series, x=LAYERS, colours={name: figures.COLOUR[name.split(",")[0]] for name in series},
                 styles={name: ":" if "start" in name else "-" for name in series})
panels[0].set_ylabel("error of copying / variance")
figures.save(fig, "emp-identity-hard-for-plain.by-layers",
             caption="Dense stacks learn to copy 8x8 digits: error before (dotted) and after 60 steps; two seeds, cpu.",
             alt="With a weak start the plain stack copies worse the deeper it is, up to the error of the mean picture; "
                 "the residual stack copies well. With He's start the deep residual stack begins with a huge error "
                 "and does not win.")

# %% [markdown]
# Left: both errors grow with the number of layers, but the plain stack soon does no better than the mean picture,
# and the residual one stays far below it.
#
# The surprise is on the right.
# With He's initialisation in *both* stacks, each residual block adds a branch that is larger than its input, so the signal grows from block to block,
# and sixteen residual layers copy no better than sixteen plain ones.
# (With two and four layers the residual stack still wins.)
# In a deep stack the shortcut made the identity easy only where the branches started small; if they start at zero, the error is 0 before the first step.
# The notes say "residual drives F to zero"; the measurement says: *when F starts near zero*.

# %%
zero_start = DenseStack(16, True, GAIN["weak"]).double()
for layer in zero_start.layers[1::2]:
    nn.init.zeros_(layer.weight)
claims.check("emp-identity-hard-for-plain.zero-start", F.mse_loss(zero_start(pixels), pixels).item(), "==", 0.0,
             note="trivially: branches that start at zero are the identity")
claims.check("emp-identity-hard-for-plain.he-start", he["residual"] / he["plain"], ">", 0.9, **twice,
             note="16 residual layers / 16 plain ones, He's start in both: the shortcut does not help")

# %% [markdown]
# ## 8 · Any depth?
#
# "We can now have a network of any depth": residual networks of 8 and of 200 layers, 50 steps each, on the digits.
# The learning rate is 0.01, as for the first steps of the paper's network of 110 layers, for which 0.1 was slightly too large to start with.

# %% tags=["ledger:emp-resnet-any-depth", "ledger:err-any-depth"]
def fifty_steps(depth):
    """The loss of each of 50 steps of a residual network on batches of 32 digits."""
    torch.manual_seed(seed)
    network, losses = CifarNet(depth, in_channels=1, width=8), []
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    few = data.load("digits", train=True).normalised()[:320]
    for images, labels in (batch for _ in range(5) for batch in few.batches(32)):
        loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


steps_of = {depth: fifty_steps(depth) for depth in (8, 200)}
for depth, losses in steps_of.items():
    claims.check(f"emp-resnet-any-depth.{depth}", np.mean(losses[-5:]), "<", 1.6, varies=True,
                 note=f"loss after 50 steps, residual-{depth}; guessing among ten classes costs 2.30")

# %% [markdown]
# So fifty steps on 320 digits, from one seed, bring the training loss of 200 layers far below that of guessing: such a network can be optimised.
# They do not show that every seed does it, that any depth does, or that 200 layers are better than 8 on new images.
# In the paper deeper was not always better: on CIFAR-10 the network of 1202 layers reached a training error below 0.1 %
# and a *higher* test error than the one of 110 layers.

# %% tags=["ledger:emp-1202-overfits", "ledger:err-1202-imagenet"]
claims.quoted("emp-1202-overfits",
              "CIFAR-10 test error: 7.93 % with 1202 layers, 6.43 % with 110 layers; the authors suspect overfitting",
              "He et al. 2016, table 6 and section 4.2")
claims.check("emp-1202-overfits.parameters", round(sizes[-1] / 50_000), "==", 388,
             note="parameters of the 1202-layer network for each training image of CIFAR-10")

# %% [markdown]
# ## 9 · The ImageNet networks
#
# Stem, four stages, average, one linear layer: the stem is a 7×7 convolution with stride 2 and a 3×3 max pooling with stride 2.
# These two layers take 224 pixels to 56, and all blocks work at 56, 28, 14 and 7.
# In the table of costs below, *sees* is the receptive field (how many pixels of the input, along a side, one output depends on), and *memory* is that of the outputs.

# %% tags=["ledger:num-resnet-stem-224-56"]
names = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
with torch.device("meta"):
    resnets = {name: models.build(name) for name in names}
    references = {name: torchvision.models.get_model(name) for name in names}
costs = {name: cost.table(network, (3, 224, 224)) for name, network in resnets.items()}
stem = {row.name: row.output_shape for row in costs["resnet34"].rows}
claims.check("num-resnet-stem-224-56", (stem["conv1"][-1], stem["maxpool"][-1]), "==", (112, 56),
             note="conv1, then max pooling")

# %%
costs["resnet34"].grouped()

# %% tags=["ledger:arch-resnet-imagenet"]
claims.check("num-resnet-depth-formulas", [weight_layers(network) for network in resnets.values()], "==",
             (18, 34, 50, 101, 152), unit="layers")
claims.check("arch-resnet-imagenet", [costs[name].parameters for name in names], "==",
             [sum(p.numel() for p in network.parameters()) for network in references.values()],
             note="our parameters == torchvision's")
claims.check("num-resnet-depth-formulas.imagenet", [round(table.parameters / 1e6, 2) for table in costs.values()], "==",
             (11.69, 21.80, 25.56, 44.55, 60.19), unit="M")
billions = [round(table.multiply_adds / 1e9, 2) for table in costs.values()]
claims.check("arch-resnet-imagenet.multiply-adds", billions, "==", (1.81, 3.66, 4.09, 7.80, 11.51), unit="G",
             note="the paper prints 1.8, 3.6, 3.8, 7.6, 11.3: its bottlenecks shrink in the first 1x1, ours in the 3x3")

# %% [markdown]
# BatchNorm behind each convolution is part of the definition, so we ask the table of costs, which records for each layer whose outputs it reads, what comes behind each convolution.
# It also tells which kernels a block has, and how many convolutions lie outside of blocks.

# %% tags=["define", "ledger:prac-resnet-recipe"]
def readers(table, kind):
    """The kinds of layers that read what layers of one kind put out: readers(table, "Conv2d") -> {"BatchNorm2d"}."""
    makers = {place for place, row in enumerate(table.rows) if row.kind == kind}
    return {row.kind for row in table.rows if makers & set(row.inputs)}


def kernels(table, block):
    """Kernel sizes of the convolutions of one block, without its shortcut: kernels(table, "layer1.0") -> [3, 3]."""
    return [row.kernel[0] for row in table[block].rows if row.kind == "Conv2d" and "downsample" not in row.name]

# %%
small = cost.table(CifarNet(56), (3, 32, 32))
behind = set().union(*(readers(table, "Conv2d") for table in (*costs.values(), small)))
claims.check("prac-resnet-recipe.batch-norm", behind, "==", {"BatchNorm2d"}, note="what reads a convolution")
dropouts = [layer for network in resnets.values() for layer in network.modules() if isinstance(layer, nn.Dropout)]
claims.check("prac-resnet-recipe.no-dropout", len(dropouts), "==", 0)
claims.check("err-resnet-two-3x3-all", [kernels(costs[name], "layer1.0") for name in ("resnet34", "resnet50")], "==",
             [[3, 3], [1, 3, 1]], note="kernels in a block of ResNet-34 and of ResNet-50")
convolutions = {row.name for table in costs.values() for row in table.rows if row.kind == "Conv2d"}
outside = {name for name in convolutions if "layer" not in name}
claims.check("err-resnet-occasional-blocks", outside, "==", {"conv1"}, note="convolutions outside of blocks: the stem")

# %% [markdown]
# ### The bottleneck
#
# From 50 layers on a block is 1×1 to a quarter of the channels, 3×3 there, 1×1 back.
# At 256 channels that saves a factor of 17 in weights:

# %% tags=["ledger:eq-bottleneck-block"]
both = models.resnet.Bottleneck(256, 64), models.resnet.BasicBlock(256, 256)
weights = [sum(p.numel() for name, p in block.named_parameters() if name.startswith("conv")) for block in both]
claims.check("eq-bottleneck-block", weights, "==", (69_632, 1_179_648), unit="weights", note="bottleneck, basic block")
claims.check("eq-bottleneck-block.sum", (256 * 64, 64 * 64 * 9, 64 * 256), "==", (16_384, 36_864, 16_384))

# %% tags=["ledger:fig-resnet-block"]
fig = diagrams.beside([("plain", models.resnet.BasicBlock(64, 64, residual=False), (64, 56, 56)),
                       ("residual", models.resnet.BasicBlock(64, 64), (64, 56, 56)),
                       ("bottleneck", models.resnet.Bottleneck(256, 64), (256, 56, 56))])
figures.save(fig, "fig-resnet-block",
             caption="A block of plain-34, of ResNet-34 and of ResNet-50, drawn from the modules.",
             alt="Two convolutions with BatchNorm, without and with an arrow around them that adds the input before "
                 "the last ReLU; the bottleneck has a 1x1, a 3x3 and a 1x1 convolution inside the same arrow.")

# %% [markdown]
# ### The shortcut where shapes change
#
# Option A pads with zeros and has no parameters; B projects where shapes change, by a 1×1 convolution and BatchNorm; C projects everywhere.
# torchvision's networks, and the paper's from 50 layers on, use B.

# %%
fig = diagrams.beside([("option A", models.resnet.BasicBlock(64, 128, stride=2, shortcut="A"), (64, 56, 56)),
                       ("option B", models.resnet.BasicBlock(64, 128, stride=2, shortcut="B"), (64, 56, 56))])
figures.save(fig, "fig-resnet-block.new-stage",
             caption="The first block of a stage with the parameter-free shortcut A and the projection B.",
             alt="Left: the shortcut takes every second pixel and pads channels with zeros. "
                 "Right: it is a 1x1 convolution with stride 2 and BatchNorm.")

# %% tags=["ledger:arch-plain-18-34"]
def count(name, **options):
    """The number of parameters of one of the package's networks."""
    with torch.device("meta"):
        return sum(p.numel() for p in models.build(name, **options).parameters())


claims.check("arch-plain-18-34", [count("plain18"), count("plain34")], "==",
             [count("resnet18", shortcut="A"), count("resnet34", shortcut="A")], note="plain == residual with option A")
claims.check("eq-residual-block.options", [count("resnet34", shortcut=option) for option in "ABC"], "==",
             (21_623_848, 21_797_672, 22_716_840), unit="parameters", note="ResNet-34 with options A, B, C")
claims.quoted("eq-residual-block.option-errors",
              "ImageNet top-1 error of ResNet-34 (10 crops): A 25.03 %, B 24.52 %, C 24.19 %", "He et al. 2016, table 3")

# %% [markdown]
# ### Cheaper than VGG-19

# %% tags=["ledger:num-resnet34-36gflops", "ledger:emp-resnet-cheaper-than-vgg"]
with torch.device("meta"):
    vgg19, plain34 = models.vgg19(), models.plain34()
of_resnet, of_vgg = costs["resnet34"].multiply_adds, cost.table(vgg19, (3, 224, 224)).multiply_adds
claims.check("num-resnet34-36gflops", (of_resnet, of_vgg), "==", (3_663_761_408, 19_632_062_464), unit="multiply-adds",
             note="ResNet-34 and VGG-19 at 224 x 224; the notes' FLOPS are multiply-adds")
claims.check("emp-resnet-cheaper-than-vgg", of_vgg / of_resnet, "~", 5.36, tolerance=0.005)
claims.check("num-resnet34-36gflops.option-a", cost.table(plain34, (3, 224, 224)).multiply_adds, "==", 3_644_493_824,
             note="plain-34, or ResNet-34 with shortcuts of option A: the paper's 3.6 G either way")

# %% [markdown]
# Fifteen layers more, and less than a fifth of the work: the picture shows where VGG-19 spends it.

# %% tags=["ledger:fig-resnet-vs-vgg-architecture"]
networks = {"VGG-19": vgg19, "plain-34": plain34, "ResNet-34": resnets["resnet34"]}
fig = diagrams.columns([(name, network, (3, 224, 224)) for name, network in networks.items()])
figures.save(fig, "fig-resnet-vs-vgg-architecture",
             caption="VGG-19, plain-34 and ResNet-34, one box a layer, aligned by the size of the feature maps; "
                     "dashed: shortcuts that change the shape.",
             alt="VGG-19 begins with convolutions on large maps and ends with three fully connected layers; "
                 "the 34-layer networks shrink to 56 pixels in two layers and end with one; ResNet-34 has a shortcut "
                 "around every two convolutions.")

# %% [markdown]
# ## 10 · The recipe, and what the paper reports
#
# | setting | He et al. 2016, ImageNet | here |
# |---|---|---|
# | BatchNorm | after each convolution, before the ReLU | the same, asserted above |
# | initialisation | He, variance 2 / fan | the same, measured below |
# | optimizer | SGD, momentum 0.9, batch 256 | SGD, momentum 0.9, batch 128 |
# | learning rate | 0.1, divided by 10 when the error plateaus; 600,000 steps | 0.05, divided by 10 after 70 % and 90 % |
# | weight decay | $10^{-4}$ | $10^{-4}$ |
# | dropout | none | none |

# %% tags=["ledger:prac-resnet-recipe"]
layer = CifarNet(20).layer3[1].conv2
claims.check("prac-resnet-recipe", layer.weight.std() / math.sqrt(2 / (64 * 9)), "in", (0.95, 1.05), varies=True,
             note="deviation of 36,864 fresh weights / He's value")
claims.quoted("err-resnet-wd-1e5", "weight decay 0.0001 and momentum 0.9, on ImageNet and on CIFAR-10",
              "He et al. 2016, sections 3.4 and 4.2")

# %% [markdown]
# Results on ImageNet need the real data and days on GPUs; these are the paper's numbers.
# We only check the arithmetic in the sentences about them.

# %% tags=["ledger:emp-plain34-vs-18", "ledger:err-plain34-missing-residual"]
top1 = {"plain": (27.94, 28.54), "residual": (27.88, 25.03)}  # 18 and 34 layers, ImageNet validation, percent
claims.quoted("emp-plain34-vs-18", f"top-1 error of 18 and 34 layers in percent: {top1}", "He et al. 2016, table 2")
claims.check("err-plain34-missing-residual", [round(deeper - shallower, 2) for shallower, deeper in top1.values()], "==",
             (0.6, -2.85), unit="points", note="34 layers minus 18: only the plain network degrades")

# %% tags=["ledger:emp-resnet152-ensemble-won", "ledger:num-resnet-wins-percent"]
top5 = {34: 7.40, 50: 6.71, 101: 6.05, 152: 5.71}  # single models, 10 crops, validation, percent; 34: option C
claims.quoted("emp-resnet152-ensemble-won", f"top-5 error by layers in percent: {top5}; an ensemble of six networks, "
              "two of them with 152 layers, won ILSVRC 2015 with 3.57 % (test)", "He et al. 2016, tables 3 and 5")
claims.check("emp-resnet152-ensemble-won.monotone", list(top5.values()), "==", sorted(top5.values(), reverse=True),
             note="deeper is better, up to 152 layers")
claims.quoted("num-resnet-wins-percent", "2015 margins over the second place, relative: ImageNet detection 16 %, "
              "localisation 27 %, COCO detection 11 %, segmentation 12 %", "He, slides at ILSVRC and COCO 2015")

# %% [markdown]
# 3.57 % is *lower* than the 5.1 % of human error that is often quoted.
# But 5.1 % is one trained annotator on 1,500 images, so it has an interval of its own:

# %% tags=["ledger:emp-resnet-better-than-human", "ledger:err-resnet-more-than-human"]
def wilson(share, count, z=1.96):
    """The 95 % interval of a share measured on `count` images (Wilson 1927)."""
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return round(centre - half, 3), round(centre + half, 3)


claims.check("emp-resnet-better-than-human", wilson(0.051, 1500), "==", (0.041, 0.063),
             note="95 % interval of 5.1 % on 1,500 images: 3.57 % lies below it, the single network's 4.49 % inside")
claims.check("emp-resnet-better-than-human.points", round(5.1 - 3.57, 2), "==", 1.53, unit="points")
claims.quoted("err-resnet-more-than-human", "top-5 error of a second annotator: 12.0 % on 258 images; "
              "of the single 152-layer network: 4.49 % (validation)",
              "Russakovsky et al. 2015, section 6.4; He et al. 2016, table 4")

# %% [markdown]
# ### Ten crops
#
# The notes say that testing takes "10 random patches".
# The ten crops are the four corners, the centre and their mirror images, the same every time, and the network's probabilities are averaged.

# %% tags=["ledger:err-resnet-10crop"]
ten = torchvision.transforms.TenCrop(224)
photo = data.photos()["chelsea"]
crops = torch.stack(ten(photo))
claims.check("err-resnet-10crop", torch.equal(crops, torch.stack(ten(photo))), "==", True,
             note="two calls give the same ten crops")
claims.check("err-resnet-10crop.mirrored", torch.equal(crops[5], crops[1].flip(-1)), "==", True,
             note="the top left corner of the mirrored picture is its top right corner, mirrored")

# %% [markdown]
# ### A definition and a date
#
# $H$ is the mapping that we want from the block, and $F = H - x$ is what its layers learn.
# And networks of a hundred layers had been trained before.

# %% tags=["ledger:err-residual-hx-definition"]
block = Block(8, 8).eval()
before_relu = block.branch(x) + block.shortcut(x)  # H(x)
claims.check("err-residual-hx-definition", torch.allclose(before_relu - x, block.branch(x), atol=1e-6), "==", True,
             note="H(x) - x == F(x)")
claims.quoted("err-resnet-first-100", "highway networks of a hundred layers and more, on small images, in May 2015",
              "Srivastava, Greff, Schmidhuber, arXiv:1505.00387 and 1507.06228")

# %% [markdown] tags=["ledger:err-resnet-wd-1e5", "ledger:err-resnet-two-3x3-all", "ledger:err-resnet-more-than-human", "ledger:err-resnet-first-100", "ledger:err-resnet-occasional-blocks", "ledger:err-resnet-10crop", "ledger:err-plain34-missing-residual", "ledger:err-vanishing-contradiction", "ledger:err-1202-imagenet", "ledger:err-any-depth", "ledger:err-residual-hx-definition"]
# ## Errata
#
# | the notes say | correct |
# |---|---|
# | weight decay 1e-5 | 1e-4, on ImageNet and on CIFAR-10 |
# | every residual block has two 3×3 convolutions | in ResNet-18, 34 and the CIFAR networks; from 50 layers on 1×1, 3×3, 1×1 |
# | 3.57 % is "more than human level error" | lower than the 5.1 % of one annotator, and reached by an ensemble of six networks |
# | the first network of more than a hundred layers | the first on ImageNet; highway networks had that depth on small images months before |
# | repeated convolutions with occasional residual blocks | every convolution after the stem lies in a residual block |
# | ten random patches, most likely label | four corners, centre, their mirror images; probabilities averaged |
# | "34-layer plain network suffers from degradation while 34-layer does not" | while the 34-layer *residual* network does not |
# | shortcuts help against vanishing gradients / vanishing is not the cause | both, of different networks: without normalisation they do; with BatchNorm the plain gradients do not vanish (section 5) |
# | 1202 layers: no problems with training, but poor results | on CIFAR-10: 7.93 % test error against 6.43 % with 110 layers |
# | any depth without fear | any depth tried could be optimised; beyond 110 layers it did not help on CIFAR-10 |
# | H is a new function, F the usual output | H is the mapping wanted, F = H − x is what the layers learn |

# %% [markdown]
# ## Look for yourself
#
# Left: how the gradient is distributed over the blocks before training. Right: the training loss over the epochs, all seeds.

# %%
start_norms = {(kind, depth): first_norms(kind, depth=depth) for kind in KINDS for depth in depths}


def compare(depth, network):
    """Gradients before training, and training losses, of one network among all others."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.6))
    left.set(title="gradient before training", xlabel="place in the network", yscale="log", ylim=(0.05, 2000))
    right.set(title="training loss", xlabel="epoch", ylim=(0, 2.6))
    for key, norms in start_norms.items():
        chosen = key == (network, depth)
        colour = figures.COLOUR[network] if chosen else "0.85"
        left.plot(np.linspace(0, 1, len(norms)), norms, color=colour, zorder=2 + chosen)
        right.plot(range(1, epochs + 1), column(trained[key], "train_loss").T, color=colour, zorder=2 + chosen)
    share = 100 * last[network, depth].mean()
    amount = "nearly all of" if share < 5 else "most of" if share < 50 else "less than half of"
    return fig, f"{network}-{depth} learns {amount} its training images in {epochs} epochs"


widgets.explore(compare, depth=widgets.Choice(deep, tuple(depths)), network=widgets.Choice("plain", KINDS))

# %% [markdown]
# ## Summary
#
# What was measured holds for the digits, narrow networks and the short budget of this lesson.
#
# - At an equal budget plain-56 fits its own training images worse than plain-20: degradation, not overfitting (`emp-plain56-worse-than-plain20`, `emp-degradation-not-overfitting`).
# - With shortcuts 56 layers reach nearly no training error in the same budget (`emp-residual-fixes-degradation`); 200 layers learn in fifty steps (`emp-resnet-any-depth`).
# - Deeper networks that are no worse exist by construction (`emp-identity-construction`); a plain stack of 16 layers did not find the identity, a residual one came near it where its branches started small (`emp-identity-hard-for-plain`).
# - Without normalisation the gradients of the plain network vanish and shortcuts keep them (`emp-residual-gradients`); with BatchNorm they do not vanish, so they are not why plain-56 trains badly (`err-vanishing-contradiction`).
# - A residual block changes its input less the more blocks there are (`fig-resnet-residual-small`); at our budget that is construction, not learning.
# - ResNet-34 needs 3.66 G multiply-adds, VGG-19 19.63 G (`num-resnet34-36gflops`); a bottleneck has 69,632 weights in place of 1,179,648 (`eq-bottleneck-block`).

# %% [markdown]
# ## Exercises
#
# **14.1 Predict.** In a residual network of 56 layers all last BatchNorm weights of the blocks start at 0.
# At the first step, how many of its 55 convolutions receive a gradient that is not zero?

# %%
convolutions_with_gradient = ...
exercises.check("14.1", convolutions_with_gradient)

# %% [markdown]
# **14.2 Change.** Write a layer that copies, made of a 3×3 convolution without bias, BatchNorm and ReLU, in evaluation mode.
# In float64 such a layer may differ from its input by $10^{-9}$; the check then inserts ten of them between the blocks of a network, whose outputs may change by $10^{-9}$ as well.

# %%
def copying_layer(channels): ...


exercises.check("14.2", copying_layer)

# %% [markdown]
# **14.3 Extend.** Write the plan of a network of 6n + 2 layers: a list of (in channels, out channels, stride), one entry a block, for a first stage of `width` channels.
# The second and the third stage double the channels, and their first blocks have stride 2.
# With `bottleneck=True` a block has three layers and four times the output channels, so the depth is 9n + 2 (the paper's sequel uses 164 and 1001).
# A depth that does not fit raises `ValueError`, and 50 is one: 9n + 2 counts three stages of n blocks each,
# while ResNet-50 has four stages of 3, 4, 6 and 3 blocks, so its $3 \cdot 16 + 2$ layers follow another plan.

# %%
def block_plan(depth, width=16, bottleneck=False): ...


exercises.check("14.3", block_plan)

# %% [markdown]
# **14.4 Extend.** Recompute 3.66 G (the paper's 3.6 G) and 19.6 G yourself: given rows (in channels, out channels, kernel size, stride, padding, input size) of square convolutions,
# return the multiply-adds of all of them. A linear layer is a row with kernel 1 and input size 1.

# %%
def multiply_adds_of(rows): ...


exercises.check("14.4", multiply_adds_of)

# %% [markdown]
# **14.5 Open.** Is the learning rate to blame, or the budget? In a terminal, in the folder of the course:
#
# ```sh
# python -m cnncourse run 14 -p learning_rate 0.005
# python -m cnncourse run 14 -p learning_rate 0.2
# python -m cnncourse run 14 -p epochs 40
# ```
#
# (`.venv/bin/python` in place of `python` where no environment is active.)
# The first two take about a minute each, the last several; each ends with the folder in which the executed lesson lies.
# Or change the parameter at the top and run all cells.
# Which sentences of the summary survive, and for which networks does the rate matter more than the shortcut?

# %% [markdown]
# ## Sources
#
# - He, Zhang, Ren, Sun: Deep residual learning for image recognition. CVPR 2016, arXiv:1512.03385.
# - He, Zhang, Ren, Sun: Delving deep into rectifiers. ICCV 2015, arXiv:1502.01852 (initialisation).
# - He, Zhang, Ren, Sun: Identity mappings in deep residual networks. ECCV 2016, arXiv:1603.05027.
# - Srivastava, Greff, Schmidhuber: Highway networks, arXiv:1505.00387; Training very deep networks, arXiv:1507.06228.
# - Balduzzi et al.: The shattered gradients problem. ICML 2017, arXiv:1702.08591.
# - Yang et al.: A mean field theory of batch normalization. ICLR 2019, arXiv:1902.08129.
# - Russakovsky et al.: ImageNet large scale visual recognition challenge. IJCV 2015, arXiv:1409.0575 (section 6.4: human error).
# - Lecture notes 000 to 004, the parts on ResNet.
