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
# # 05 · Activation functions
# ### Why must a network bend its numbers, and how?
#
# Between two matrices of a network stands an *activation function*: it takes each number by itself and bends it.
# The first figure shows what becomes of the gradient on its way back through ten layers.
# ReLU, which throws half of all numbers away, hands it on; the smooth logistic function, the model of a nerve cell for forty years, loses nearly all of it.
# Odd: the two best-behaved functions in the picture, tanh and the logistic function, are *the same curve* in other units, and at the end of section 3 the logistic network learns as well as its twin.
#
# **You will be able to**
# - say what a network is without its bends, and what ReLU builds out of pieces;
# - write eight activation functions with their slopes, and equal torch's;
# - predict from slopes and weights whether a gradient vanishes, and mend a network where it does;
# - measure which units have died, say what killed them, and prevent it;
# - choose an activation function, and name the claims about them that do not show.
#
# **You need** lesson 02 (scores, softmax, loss) and lesson 03 (gradients and the chain rule). How weights are best drawn is the matter of lesson 06; here they have one knob.
#
# **Words.** A *unit* is one number that a layer computes: a weighted sum of its inputs plus a bias, its *pre-activation*, bent by the activation function.
# Claims (✓) are made for the parameters below; with others the lesson shows what it measures and requires nothing.
#
# **It costs** about 30 seconds of one processor core, no network connection, no GPU.

# %% tags=["parameters"]
seed: int = 10  # the first of the seeds; at least 0
runs: int = 3  # networks for each setting, each with a seed of its own; 2 to 10
dataset: str = "digits"  # ; one of digits, mnist, fashion_mnist, cifar10, or a folder
images: int = 1347  # training pictures, at most; at least 320
depth: int = 10  # hidden layers of the deep networks; 3 to 40
width: int = 64  # units a hidden layer; 8 to 512
epochs: int = 10  # passes over the training pictures; 2 to 100
rates: list = [0.01, 0.03, 0.1, 0.3]  # learning rates of the race; each above 0, ascending
goal: float = 0.97  # training accuracy at which a runner arrives; above 0.1, below 1

# %% tags=["imports", "fold"]
import copy
import math
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cnncourse import claims, data, exercises, figures, plots, runtime, training, widgets

# %% tags=["fold"]
figures.use_style()
COLOURS = {"logistic": "C3", "tanh": "C1", "ReLU": "C0", "leaky ReLU": "C2"}

# %%
runtime.start(seed=seed, dtype="float64")
train = data.load(dataset, True).subset(images, seed=seed).normalised()  # mean 0, deviation 1
test = data.load(dataset, False).normalised(train.mean, train.std)
batch, labels = next(train.batches(256))  # for all measurements before training
inputs, classes = batch[0].numel(), len(train.classes)
seeds = range(seed, seed + runs)
train, test

# %% [markdown]
# A deep network: matrices with a bend behind each but the last.
# Weights are drawn at random with deviation `gain` / √(number of inputs): at `gain` = 1 a weighted sum is about as large as its inputs. ReLU kills half, so it is customary to give it √2.

# %% tags=["define"]
class LargerOfTwo(nn.Module):
    """The larger number of each pair: (N, 2 U) -> (N, U)."""

    def forward(self, x):
        return x.unflatten(-1, (-1, 2)).amax(-1)

BENDS = {"logistic": nn.Sigmoid, "tanh": nn.Tanh, "ReLU": nn.ReLU, "leaky ReLU": nn.LeakyReLU,
         "PReLU": nn.PReLU, "ELU": nn.ELU, "maxout": LargerOfTwo}
GAIN = {"ReLU": 2**0.5, "leaky ReLU": 2**0.5, "PReLU": 2**0.5}  # all others: 1

def deep(bend, layers, gain=None, width=64, inputs=64, classes=10, normalise=False):
    """`layers` hidden layers of `width` units each, bent by `bend`, and one layer of scores."""
    gain, pieces = gain or GAIN.get(bend, 1.0), 2 if bend == "maxout" else 1
    sizes = [inputs] + layers * [width]
    parts = [nn.Flatten()]
    for size in sizes[:-1]:
        parts.append(linear(size, width * pieces, gain))
        if normalise:
            parts.append(nn.BatchNorm1d(width))  # lesson 07: mean 0, deviation 1 over the batch
        parts.append(BENDS[bend]())
    return nn.Sequential(*parts, linear(width, classes, 1.0))

def linear(inputs, outputs, gain):
    """A layer with random weights of deviation gain / sqrt(inputs), and biases of 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(inputs))
    nn.init.zeros_(layer.bias)
    return layer

# %% [markdown]
# And the measurement: how large is the gradient of the loss when it arrives at the pre-activations of each layer?

# %% tags=["define"]
def heard(network, images, labels):
    """Norm of the loss's gradient at the pre-activations of each hidden layer, first to last."""
    x, sums = images, []
    for part in network:
        x = part(x)
        if isinstance(part, nn.Linear):
            x.retain_grad()
            sums.append(x)
    F.cross_entropy(x, labels).backward()
    return np.array([z.grad.norm().item() for z in sums[:-1]])

# %% tags=["fold"]
# The network for these pictures, and the measurement for several of them.
def net(bend, layers=depth, gain=None, **options):
    """`deep` for these pictures."""
    return deep(bend, layers, gain, width, inputs, classes, **options)

def many(bend, layers=depth, count=5, **options):
    """`heard` of several untrained networks: (count, layers)."""
    rows = []
    for number in range(count):
        with runtime.seeded(seed + number):
            network = net(bend, layers, **options)
        rows.append(heard(network, batch, labels))
    return np.array(rows)

by_layer = {bend: many(bend) for bend in BENDS}
share = {bend: rows / rows[:, -1:] for bend, rows in by_layer.items()}
lost = -np.log10(share["logistic"][:, 0])

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.4))
ax.set(yscale="log", xlabel="hidden layer (1: next to the pixels)", xlim=(0.8, depth + 0.1),
       ylabel="gradient, as a share of\nthat in the last hidden layer", ylim=(1e-7, 30))
large = {"fontsize": 14}
for bend, rows in share.items():
    told = bend in ("logistic", "tanh", "ReLU")
    ax.plot(range(1, depth + 1), rows.mean(axis=0), "o-" if told else "-",
            zorder=3 if told else 2, color=COLOURS[bend] if told else "0.65",
            linewidth=3 if told else 1.5)
ax.minorticks_off()
ax.text(1, 4, "ReLU", color=COLOURS["ReLU"], **large)
ax.text(1.7, 4, ", leaky ReLU, PReLU, ELU, maxout", color="0.35", fontsize=13)
ax.text(1, 0.06, "tanh", color="#b06800", **large)
ax.text(depth / 2, 1e-5, "logistic", color=COLOURS["logistic"], **large)
ax.set_title(f"Six bends hand the gradient on; the logistic function loses "
             f"{lost.mean():.1f} powers of ten")
figures.save(fig, "fig-vanishing-gradient",
             caption=f"Norm of the gradient at the pre-activations of {depth} hidden layers of "
                     f"{width} units, untrained, 256 pictures of {dataset}; mean of five seeds.",
             alt="Six lines stay near 1 at all layers; that of the logistic function falls by "
                 "about a factor of four at each layer, to a millionth at the first.")

# %% tags=["fold"]
claims.check("emp-deep-nets-were-hard",
             "From the last to the first of {depth} layers the logistic function loses {lost:.1f} "
             "powers of ten of the gradient; with the six others between {least:.2f} and "
             "{most:.1f} times as much arrives (means of five untrained networks each).",
             depth=depth, lost=(lost.mean(), ">=", 4.5),
             least=(min(share[b][:, 0].mean() for b in BENDS if b != "logistic"), ">=", 0.15),
             most=(max(share[b][:, 0].mean() for b in BENDS if b != "logistic"), "<=", 4))

# %% [markdown]
# ## 1 · Without a bend, ten layers are one
#
# Put no function between the matrices, and $W_2 (W_1 x + b_1) + b_2 = (W_2 W_1)\, x + (W_2 b_1 + b_2)$: again one matrix and one bias.
# Here is a stack of five layers. Ask it about nothing (all zeros) and about each unit vector, and one row at a time it tells the one matrix that it is.

# %% tags=["ledger:emp-nonlinearity-needed"]
def straight():
    return nn.Sequential(linear(2, 30, 1.0), *[linear(30, 30, 1.0) for _ in range(3)],
                         linear(30, 2, 1.0))

stack = straight()
bias = stack(torch.zeros(1, 2))  # (1, 2)
matrix = stack(torch.eye(2)) - bias  # (2 inputs, 2 scores)
plane = torch.randn(1000, 2)
difference = (plane @ matrix + bias - stack(plane)).abs().max().item()

# %% [markdown]
# A matrix cuts the plane along one straight line. Four clouds in a cross, where opposite ones belong together (the *XOR* problem), cannot be cut so.
# Now the same stack with one bend in it: one hidden layer of eight ReLUs.

# %%
exercises.predict("05.p1", "Trained on the four clouds, the five layers without bend reach:",
                  ("about 50 to 80 %", "about 95 %", "100 %"))

# %% tags=["fold"]
def crossed(count, generator):
    """Points (count, 2) in four clouds, and whether their two signs differ (count,)."""
    corner = torch.randint(0, 2, (count, 2), generator=generator) * 2.0 - 1
    points = corner + 0.3 * torch.randn(count, 2, generator=generator)
    return points, (corner[:, 0] != corner[:, 1]).long()

# %%
points, sides = crossed(400, torch.Generator().manual_seed(seed))

def bent():
    return nn.Sequential(linear(2, 8, 2.0), nn.ReLU(), linear(8, 2, 1.0))

learnt = {make.__name__: training.repeat(
    make, (points, sides), seeds=seeds, epochs=30, batch_size=50, progress=False,
    optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01))
    for make in (straight, bent)}
right = {name: result.last("train_accuracy") for name, result in learnt.items()}
exercises.reveal("05.p1", "about 50 to 80 %" if max(right["straight"]) < 0.85 else
                 "100 %" if min(right["straight"]) > 0.99 else "about 95 %",
                 f"Without bend {np.mean(right['straight']):.0%}, with one {right['bent'][0]:.0%}.")

# %% tags=["fold", "ledger:emp-relu-piecewise-linear"]
grid = np.linspace(-2, 2, 121)
places = torch.tensor(np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2))
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.1), sharex=True, sharey=True)
axes[0].set_title(f"five layers, no bend: {right['straight'][0]:.0%} right")
axes[1].set_title(f"two layers, ReLU: {right['bent'][0]:.0%} right")
for ax, (name, result) in zip(axes, learnt.items(), strict=True):
    with torch.no_grad():
        found = result.models[0](places).argmax(1).reshape(121, 121)
    plots.decision_regions(ax, grid, grid, found.numpy(), points=points[:48].numpy(),
                           labels=sides[:48].numpy())
    ax.set(aspect="equal", xlabel="x")
first = learnt["bent"].models[0][0]
with torch.no_grad():
    positive = (first(places) > 0).numpy()  # (places, 8): which units let their number through
pieces = len(np.unique(positive, axis=0))
for weight, shift in zip(first.weight.detach(), first.bias.detach(), strict=True):
    onto = -shift * weight / weight.square().sum()  # a point of the line weight · p + shift = 0
    axes[1].axline(onto.tolist(), (onto + weight[[1, 0]] * torch.tensor([1.0, -1.0])).tolist(),
                   color="0.35", linewidth=1, linestyle=":")
axes[0].set(ylabel="y")
fig.suptitle("Five layers without a bend draw one line; eight ReLUs fold the plane")
figures.save(fig, "emp-nonlinearity-needed",
             caption="Decision regions on the XOR problem, first seed. Dotted: where one of eight "
                     "ReLUs turns on; between these lines the network is linear.",
             alt="Left one straight border cuts through the clouds; right the border is bent and "
                 "separates them. Dotted lines cut the plane into pieces.")

# %% tags=["fold"]
claims.check("emp-nonlinearity-needed",
             "Trained, five layers without bend name {straight:.0%} of the points, eight ReLUs "
             "{bent:.1%}.",
             straight=(right["straight"], "<=", 0.85), bent=(right["bent"], ">=", 0.97),
             seeds=runs, on="every")
claims.check("emp-nonlinearity-needed.matrix",
             "The one matrix gives the scores of the five layers up to {difference:.0e}.",
             difference=(difference, "<=", 1e-12), varies=True)
claims.check("emp-relu-piecewise-linear",
             "Eight ReLUs cut this square into {pieces} pieces; eight lines cut a plane into at "
             "most {most}.", pieces=(pieces, "<=", 1 + 8 + math.comb(8, 2)),
             most=1 + 8 + math.comb(8, 2))

# %% [markdown]
# Each ReLU has a line at which it turns on (dotted). Between the lines the network is one matrix again; at a line the matrix changes. A ReLU network is made of *flat pieces*.
# Is that a better material than smooth bends? Two shapes to copy, a corner $|x|$ and a round bump $e^{-8x^2}$, with 12 units each:

# %%
exercises.predict("05.p2", "Which of ReLU and tanh copies better?",
                  ("ReLU both", "tanh both", "each its own shape"))

# %% tags=["define", "fold"]
def copies(bend, target, rate, seeds, steps=600, units=12):
    """Fit 1-units-1 networks to target on [-1, 1] by Adam: log10 errors, curves (seeds, 200)."""
    drawn = []
    for number in seeds:
        g = torch.Generator().manual_seed(number)
        drawn.append((2 * torch.randn(1, units, generator=g),
                      4 * torch.rand(1, units, generator=g) - 2,
                      torch.randn(units, 1, generator=g) / units**0.5, torch.zeros(1, 1)))
    weights = [torch.stack(part).requires_grad_() for part in zip(*drawn, strict=True)]
    optimizer = torch.optim.Adam(weights, rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    x = torch.linspace(-1, 1, 200)[:, None]
    for _ in range(steps):
        curve = bend(x @ weights[0] + weights[1]) @ weights[2] + weights[3]  # (seeds, 200, 1)
        errors = ((curve - target(x)) ** 2).mean(dim=(1, 2))
        optimizer.zero_grad()
        errors.sum().backward()  # each seed has its own weights
        optimizer.step()
        schedule.step()
    return errors.detach().log10().numpy(), curve.detach()[..., 0].numpy()

# %%
shapes = {"corner": torch.abs, "bump": lambda x: torch.exp(-8 * x**2)}
fits = {}
for shape, target in shapes.items():
    for name, bend in {"ReLU": torch.relu, "tanh": torch.tanh}.items():
        fits[shape, name], _ = copies(bend, target, 0.05, range(seed, seed + 8))  # (seeds,)
corner = fits["corner", "tanh"] - fits["corner", "ReLU"]  # powers of ten by which ReLU leads
bump = fits["bump", "ReLU"] - fits["bump", "tanh"]  # by which tanh leads

# %% tags=["fold"]
winner = "ReLU both" if bump.mean() < 0 else "tanh both" if corner.mean() < 0 else ""
exercises.reveal("05.p2", winner or "each its own shape",
                 f"ReLU leads by {corner.mean():.1f} powers of ten on the corner, tanh by "
                 f"{bump.mean():.1f} on the bump.")
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.8), sharey=True)
x = np.linspace(-1, 1, 60)
for ax, (shape, target) in zip(axes, shapes.items(), strict=True):
    for place, name in enumerate(("ReLU", "tanh")):
        ax.plot(np.full(8, place) + np.linspace(-0.15, 0.15, 8), 10 ** fits[shape, name], "o",
                color=COLOURS[name], markersize=9)
    ax.set(yscale="log", xlim=(-0.6, 1.6), ylim=(1e-8, 3e-2),
           title={"corner": "a corner, |x|", "bump": "a round bump, exp(−8x²)"}[shape])
    ax.set_xticks([0, 1], ["ReLU", "tanh"], fontsize=13)
    ax.minorticks_off()
    small = ax.inset_axes([0.36, 0.7, 0.28, 0.28])
    small.plot(x, target(torch.tensor(x)), color="0.2")
    small.set_axis_off()
axes[0].set_ylabel("mean squared error\n(dots: eight seeds)")
fig.suptitle("Neither bend is better: pieces suit a corner, tanh suits a bump")
plt.show()  # left: the corner is ReLU's; right: the bump is tanh's; 600 steps of Adam at 0.05
claims.check("emp-relu-more-expressive",
             "On the corner the error of ReLU is smaller by {corner:.1f} powers of ten, on the "
             "bump that of tanh by {bump:.1f}, in 600 steps.",
             corner=(corner, ">", 0), bump=(bump, ">", 0), seeds=8)

# %% [markdown]
# **We now know** that a network needs a bend, any bend, and that "more expressive" depends on the shape. (With enough units either comes as near as one likes to any continuous function.)
# **This does not show** which is better for pictures, nor what happens when many layers stand behind each other.
#
# **Exercise 05.1.** Fold a stack of linear layers, given as pairs of weight (out, in) and bias (out,), into one.

# %%
def one_layer(layers):
    """The weight and bias of the one layer that equals [(weight, bias), ...] in a row."""
    ...

exercises.check("05.1", one_layer)

# %% [markdown]
# ## 2 · Eight bends, and what their slopes do
#
# All that the lectures name, as one would say them. `torch.where(a, b, c)` takes b where a is true and c elsewhere.

# %% tags=["define", "ledger:eq-activations-basic", "ledger:eq-activations-extended"]
def binary(x):
    return torch.sign(x).clamp(min=0)  # 1 above 0, else 0

def logistic(x):
    return 1 / (1 + torch.exp(-x))  # also called sigmoid

def tanh(x):
    return 2 / (1 + torch.exp(-2 * x)) - 1  # the logistic function, twice as steep and high

def relu(x):
    return torch.where(x > 0, x, 0.0)

def leaky_relu(x, slope=0.01):  # PReLU: the same, but `slope` is learnt
    return torch.where(x > 0, x, slope * x)

def elu(x, alpha=1.0):  # alpha is chosen, not learnt
    below = torch.where(x > 0, 0.0, x)  # so that exp never overflows
    return torch.where(x > 0, x, alpha * (torch.exp(below) - 1))

def maxout(x, weight, bias):
    """The larger of two weighted sums: x (N, I), weight (2, O, I), bias (2, O) -> (N, O)."""
    return (x @ weight.mT + bias[:, None]).amax(0)

# %% [markdown]
# What flows back through a bend is multiplied by its **slope** (lesson 03). We let autograd find it.
# (The notes draw the logistic function and ReLU, and their derivatives, by themselves; below they are the second and the fourth panel.)

# %% tags=["define"]
def slope(bend, x):
    """The derivative of `bend` at each place of x."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(bend(x).sum(), x)[0]

# %% tags=["fold", "not-drawn:fig-relu-nonlinearity-png", "not-drawn:fig-relu-deriv-png", "ledger:err-relu-range", "ledger:err-sigmoid-derivatives-infinite", "ledger:err-tanh-gradient-range"]
x = torch.linspace(-4, 4, 161)
pair = torch.tensor([[[1.0]], [[-0.5]]]), torch.tensor([[0.0], [0.5]])  # weights, biases
panels = {"binary": binary, "logistic": logistic, "tanh": tanh, "ReLU": relu,
          "leaky ReLU, 0.1": lambda x: leaky_relu(x, 0.1),
          "PReLU, here 0.25": lambda x: leaky_relu(x, 0.25), "ELU": elu,
          "maxout, two lines": lambda x: maxout(x[:, None], *pair)[:, 0]}
fig, axes = plt.subplots(2, 4, figsize=(figures.WIDTH, 4.5), sharex=True, sharey=True)
for ax, (name, bend) in zip(axes.flat, panels.items(), strict=True):
    ax.axhline(0, color="0.8", linewidth=1)
    ax.plot(x, bend(x), color="C0", linewidth=2.5)
    ax.plot(x, slope(bend, x), color="C1", linestyle="--")
    ax.set(title=name, ylim=(-1.3, 2.6), xticks=(-4, 0, 4), yticks=(-1, 0, 1, 2))
    ax.title.set_fontsize(11)
axes[0, 1].text(-3.7, 1.6, "value", color="C0", fontsize=12)
axes[0, 1].text(-3.7, 2.1, "slope", color="#b06800", fontsize=12)
fig.supxlabel("pre-activation")
fig.suptitle("No slope here is above 1; that of the logistic function never exceeds 1/4")
figures.save(fig, "fig-activation-gallery",
             caption="Eight activation functions (solid) and their slopes by autograd (dashed); "
                     "maxout of x and (1 − x)/2.",
             alt="The slope of the logistic function is a low hill, that of tanh a hill up to 1; "
                 "ReLU and its relatives have slope 1 on the right and little or none on the left.")

# %% tags=["fold"]
z = torch.randn(10_000, generator=torch.Generator().manual_seed(seed)) * 3
torchs = {"logistic": (logistic, torch.sigmoid), "tanh": (tanh, torch.tanh),
          "ReLU": (relu, torch.relu), "leaky ReLU": (leaky_relu, nn.LeakyReLU()),
          "PReLU": (lambda x: leaky_relu(x, 0.25), nn.PReLU(init=0.25)), "ELU": (elu, nn.ELU())}
rows = {}
for name, (ours, theirs) in torchs.items():
    gaps = [(ours(z) - theirs(z)).abs().max(), (slope(ours, z) - slope(theirs, z)).abs().max()]
    rows[name] = (max(gap.item() for gap in gaps), 0.0)
claims.table("eq-activations-extended",
             "Largest difference from torch in 10,000 values and slopes.", rows,
             columns=("function", "measured", "expected"), tolerance=1e-12)

# %% tags=["fold"]
layer = nn.PReLU(init=0.25)
layer(z).sum().backward()
off = layer.weight.grad.item() - z.clamp(max=0).sum().item()
claims.check("err-elu-alpha-learned",
             "PReLU has {prelu} number to learn (its gradient: the sum of all negative inputs, up "
             "to {off:.0e}); ELU has {elu}.",
             prelu=(sum(p.numel() for p in layer.parameters()), "==", 1),
             off=(abs(off), "<=", 1e-6),
             elu=(len(list(nn.ELU().parameters())), "==", 0), varies=True)
fine = torch.linspace(-30, 30, 600_001)
steep = slope(torch.sigmoid, fine)
claims.check("num-sigmoid-max-derivative",
             "The logistic slope is at most {most:.4f}, at {place:.1f}; at 10 it is {ten:.2e}. "
             "tanh's lies between {low:.0e} and {high:.4f}.",
             most=(steep.max().item(), "~", 0.25, 1e-9),
             place=(abs(fine[steep.argmax()].item()), "~", 0.0, 1e-3),
             ten=(slope(torch.sigmoid, torch.tensor([10.0])).item(), "~", 4.5396e-5, 1e-9),
             low=(slope(torch.tanh, fine[fine.abs() < 15]).min().item(), ">", 0),
             high=(slope(torch.tanh, fine).max().item(), "~", 1.0, 1e-9))
s16, s17 = torch.sigmoid(torch.tensor([16.0, 17.0], dtype=torch.float32))
minus = torch.sigmoid(torch.tensor(-17.0, dtype=torch.float32))
claims.check("err-sigmoid-tanh-closed-range",
             "In exact arithmetic it reaches neither 0 nor 1. In float32 it is {one:.0f} at 17, so "
             "that the slope as s(1 − s) is {zero:.0e} there (at 16 still {last:.1e}); written "
             "s(x)s(−x) it is {other:.1e}: the zero is rounding.",
             one=(s17.item(), "==", 1.0), zero=((s17 * (1 - s17)).item(), "==", 0.0),
             last=((s16 * (1 - s16)).item(), ">", 0), other=((s17 * minus).item(), ">", 4e-8))

# %% [markdown]
# The binary step has no slope at all, so nothing can be learnt through it.
#
# Going back one layer, the gradient meets a matrix and a slope: $\delta_{l} = f'(z_l) \odot W^\top \delta_{l+1}$.
# If they have nothing to do with each other, each layer should multiply its length by about
#
# $$\text{gain} \times \text{root mean square of the slopes}$$
#
# For the logistic function that is at most $1 \times \tfrac14$, and over the nine steps from layer 10 to layer 1 at most four millionths. For ReLU it is $\sqrt 2 \times \sqrt{1/2} = 1$: slopes are 0 or 1, half of each.
# So two suspects, slopes *and* weights. We turn both knobs: five functions, five gains.

# %%
exercises.predict("05.p3", "ReLU, but all weights a tenth as large. The gradient at layer 1:",
                  ("stays, its slopes are 0 or 1", "vanishes"))

# %% tags=["define", "ledger:emp-sigmoid-kills-gradients", "ledger:err-relu-prevents-vanishing"]
def predicted(network, images, gain):
    """gain times the root mean square of the slopes, geometric mean over layers 1 ... last - 1."""
    x, factors = images, []
    for part, bend in zip(network, network[1:], strict=False):
        x = part(x)
        if isinstance(part, nn.Linear):
            factors.append(gain * slope(bend, x).square().mean().sqrt().item())
    return math.exp(np.log(factors[:-1]).mean())

# %%
knobs = [(bend, gain) for bend in ("logistic", "tanh", "ReLU", "leaky ReLU", "ELU")
         for gain in (0.14, 0.5, 1.0, 1.4, 2.0, 4.0)]
law = {}
for bend, gain in knobs:
    with runtime.seeded(seed):
        network = net(bend, depth, gain)
    norms = heard(network, batch, labels)
    measured = (norms[0] / norms[-1]) ** (1 / (depth - 1))  # a layer, on average
    law[bend, gain] = predicted(network, batch, gain), measured
tenth = law["ReLU", 0.14][1] ** (depth - 1)
exercises.reveal("05.p3", "vanishes" if tenth < 1e-3 else "stays, its slopes are 0 or 1",
                 f"Layer 1 receives {tenth:.0e} of what the last hidden layer receives.")

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.5))
ax.set(xscale="log", yscale="log", xlim=(0.025, 4), ylim=(0.025, 4),
       xlabel="gain × root mean square slope", ylabel="measured factor a layer")
ax.plot([0.01, 10], [0.01, 10], color="0.7", linewidth=1.5)
for bend, marker in zip(("logistic", "tanh", "ReLU", "leaky ReLU", "ELU"), "osD^v", strict=True):
    pairs = np.array([law[key] for key in knobs if key[0] == bend])
    ax.plot(*pairs.T, marker, color=COLOURS.get(bend, "0.5"), markersize=9, label=bend, alpha=0.8)
ax.axhline(1, color="0.35", linestyle=":", linewidth=1.5)
ax.text(0.028, 1.1, "1: the gradient keeps its length", fontsize=11)
ax.set_xticks([0.03, 0.1, 0.3, 1, 3], ["0.03", "0.1", "0.3", "1", "3"])
ax.set_yticks([0.03, 0.1, 0.3, 1, 3], ["0.03", "0.1", "0.3", "1", "3"])
ax.minorticks_off()
ax.annotate("logistic, gain 1", law["logistic", 1.0], (0.05, 0.5), fontsize=12,
            arrowprops={"arrowstyle": "-", "color": "0.4"})
ax.annotate("ReLU, gain 0.14", law["ReLU", 0.14], (0.03, 0.22), fontsize=12,
            arrowprops={"arrowstyle": "-", "color": "0.4"})
ax.annotate("ReLU, gain 1.4", law["ReLU", 1.4], (0.2, 2), fontsize=12,
            arrowprops={"arrowstyle": "-", "color": "0.4"})
ax.legend(loc="lower right", fontsize=12)
ax.set_title("Slope times weights tells what a layer keeps of the gradient")
figures.save(fig, "emp-sigmoid-kills-gradients.law",
             caption=f"Each point: one untrained network of {depth} layers, with gains from 0.14 "
                     f"to 4; 256 pictures of {dataset}, one seed.",
             alt="Thirty points lie along the diagonal from 0.03 to 3.")

# %% tags=["fold"]
off = max(abs(math.log(measured / guess)) for guess, measured in law.values())
claims.check("emp-sigmoid-kills-gradients.law",
             "In thirty networks of {depth} layers the measured factor a layer is within a factor "
             "of {off:.2f} of gain times slope.", depth=depth, off=(math.exp(off), "<=", 1.35))
claims.check("err-relu-prevents-vanishing",
             "With a gain of 0.14 ReLU leaves layer 1 a share of {tenth:.0e}; the logistic "
             "function leaves {four:.2f} with a gain of 4, and {one:.0e} with 1.",
             tenth=(tenth, "<=", 1e-6), four=(law["logistic", 4.0][1] ** (depth - 1), ">=", 1e-3),
             one=(law["logistic", 1.0][1] ** (depth - 1), "<=", 1e-4))
deeper = many("ReLU", layers=20)
claims.check("emp-relu-gradient-0-or-1",
             "Through 20 layers of ReLU at a gain of √2 the gradient changes by a factor of "
             "{kept:.2f}.",
             kept=(np.exp(np.log(deeper[:, 0] / deeper[:, -1])), "in", (1 / 3, 3)), seeds=5)
claims.check("emp-relu-gradient-0-or-1.slopes",
             "In 10,000 places the slopes of ReLU that occur are {slopes}.",
             slopes=(sorted(set(slope(torch.relu, z).tolist())), "==", [0.0, 1.0]))

# %% tags=["fold"]
wide = 10 * torch.randn(100_000, generator=torch.Generator().manual_seed(seed))
flat = {name: (slope(bend, wide).abs() < 1e-3).double().mean().item()
        for name, bend in {"logistic": torch.sigmoid, "tanh": torch.tanh}.items()}
narrow = (slope(torch.sigmoid, wide / 10).abs() < 1e-3).double().mean().item()
claims.check("emp-sigmoid-kills-gradients",
             "Large numbers saturate: of pre-activations with deviation 10, {logistic:.0%} have a "
             "logistic slope below 0.001, and {tanh:.0%} a slope of tanh; with deviation 1 "
             "{narrow:.0%}.",
             logistic=(flat["logistic"], ">=", 0.4), tanh=(flat["tanh"], ">=", 0.6),
             narrow=(narrow, "<=", 0.001))
claims.check("emp-tanh-still-saturates",
             "tanh is centred (mean {mean:.3f} on N(0, 1)) and still saturates: its slope at 5 is "
             "{five:.1e}.", mean=(torch.tanh(wide / 10).mean().item(), "~", 0.0, 0.01),
             five=(slope(torch.tanh, torch.tensor([5.0])).item(), "~", 1.8e-4, 2e-6))

# %% [markdown]
# Neither knob alone decides: the *product* does. Small weights starve ReLU as slopes starve the logistic function; large weights feed it. Turn them yourself (in a live lab):

# %% tags=["fold"]
def gradient_by_layer(bend, gain, layers):
    with runtime.seeded(seed):
        network = net(bend, layers, gain)
    norms = heard(network, batch, labels)
    figure, ax = plt.subplots(figsize=(figures.WIDTH, 3.2))
    ax.bar(range(1, layers + 1), norms / norms[-1], color=COLOURS.get(bend, "0.5"))
    ax.set(yscale="log", ylim=(1e-9, 1e9), xlabel="hidden layer", ylabel="share of the gradient")
    ax.set_title(f"{bend}, gain {gain:g}")
    return figure, f"Layer 1 receives {norms[0] / norms[-1]:.1e} of the last layer's gradient."

widgets.explore(gradient_by_layer, bend=widgets.Choice("logistic", tuple(BENDS), "function"),
                gain=widgets.Slider(4.0, 0.2, 8.0, 0.2, "gain"),
                layers=widgets.Slider(10, 2, 30, 1, "layers"))

# %% [markdown]
# **We now know** why the first figure looks as it does: slope times weights, once a layer.
# **This does not show** that a network with a healthy gradient learns. (With a gain of 0.3 tanh hands the gradient on from layer to layer, and yet hardly any signal reaches the scores.)
#
# **Exercise 05.2.** PReLU, backwards: from the gradient at its output and its input `x`, the gradients at `x` and at its slope `a`.

# %%
def prelu_backward(gradient, x, a):
    """Gradients at x, of its shape, and at the number a; gradient: the loss's at the output."""
    ...

exercises.check("05.2", prelu_backward)

# %% [markdown]
# ## 3 · The same network in other units
#
# "You simply can't do deep learning with sigmoid", say the lectures' sources. Our ten logistic layers indeed stay at guessing.
# But look at the formulas: $\tanh(z) = 2\,\sigma(2z) - 1$, with $\sigma$ the logistic function. So *every* tanh network can be rewritten with logistic units: the 2 inside goes into the weights before the bend, the 2 and the −1 outside into the weights and biases behind it.

# %% tags=["define"]
@torch.no_grad()
def as_logistic(network):
    """A network of Linear and Tanh, rewritten in place with Sigmoid: the same function."""
    layers = [part for part in network if isinstance(part, nn.Linear)]
    for layer in layers[1:]:  # reads 2 s - 1 instead of s
        layer.bias -= layer.weight.sum(1)
        layer.weight *= 2
    for layer in layers[:-1]:  # gives 2 z instead of z
        layer.weight *= 2
        layer.bias *= 2
    return nn.Sequential(*[nn.Sigmoid() if isinstance(p, nn.Tanh) else p for p in network])

# %%
with runtime.seeded(seed):
    network = net("tanh")
before = network(batch)
rewritten = as_logistic(network)
apart = (rewritten(batch) - before).abs().max().item()
rewritten[2], apart < 1e-10

# %% [markdown]
# Two things have changed in the units: the weights are four times as large (they make up for the slope of ¼), and biases of −(sum of the weights) take away the ½ around which logistic outputs lie.
# Now train: as usual; with weights four times as large only; rewritten from tanh; with BatchNorm (lesson 07), which centres and scales every pre-activation; and tanh itself. All learn at a rate of 0.1: of 0.03, 0.1 and 0.3 the one that served the larger weights best, in a trial on other seeds.

# %%
exercises.predict("05.p4", "Which logistic networks of ten layers reach 90 % in the test?",
                  ("none", "BatchNorm only", "rewritten and BatchNorm", "all but the usual"))

# %%
starts = {"as usual": lambda: net("logistic"),
          "weights × 4": lambda: net("logistic", gain=4.0),
          "rewritten\nfrom tanh": lambda: as_logistic(net("tanh")),
          "BatchNorm": lambda: net("logistic", normalise=True),
          "tanh itself": lambda: net("tanh")}
accuracy = {}
for name, make in starts.items():
    result = training.repeat(
        make, train, test, seeds=seeds, epochs=epochs, batch_size=64, drop_last=True,
        progress=False, optimizer=lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9))
    accuracy[name] = np.nan_to_num(result.last("valid_accuracy"), nan=1 / classes)

# %% tags=["fold"]
learns = [name for name, values in accuracy.items() if np.mean(values) >= 0.9]
answers = {1: "none", 2: "BatchNorm only", 3: "rewritten and BatchNorm", 4: "all but the usual"}
exercises.reveal("05.p4", answers.get(len(learns), "none"),
                 ", ".join(f"{name.replace(chr(10), ' ')} {np.mean(values):.0%}"
                           for name, values in accuracy.items()) + ".")

# %% tags=["fold", "ledger:err-sigmoid-deep-impossible"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.0))
plots.bars(ax, accuracy, format="{:.0%}",
           colours={name: "C1" if "itself" in name else "C3" for name in accuracy})
ax.axhline(1 / classes, color="0.35", linestyle=":", linewidth=1.5)
ax.text(4.45, 1 / classes + 0.02, "guessing", fontsize=12)
ax.set(xlim=(-0.5, 5.3), ylim=(0, 1.12), ylabel=f"test accuracy, {epochs} epochs")
ax.set_title(f"{depth} logistic layers learn, once they are centred and scaled")
figures.save(fig, "emp-cannot-train-deep-sigmoid",
             caption=f"Networks of {depth} hidden layers, learning rate 0.1, momentum "
                     f"0.9; {dataset}; mean and range of {runs} seeds. Magenta: logistic units.",
             alt="As usual the logistic network guesses; with larger weights it stays far "
                 "behind; rewritten from tanh or with BatchNorm it is nearly as good as tanh.")

# %% tags=["fold"]
usual, four, other, norm, twin = accuracy.values()
claims.check("emp-cannot-train-deep-sigmoid",
             "After {epochs} epochs a logistic network of {depth} layers is right in {usual:.1%} "
             "as usual (guessing: {guess:.0%}), in {four:.1%} with weights times 4, in "
             "{other:.1%} rewritten from tanh, in {norm:.1%} with BatchNorm; tanh in {twin:.1%}.",
             epochs=epochs, depth=depth, usual=(usual, "<=", 0.2), guess=1 / classes,
             four=(four, "<=", 0.88), other=(other, ">=", 0.88), norm=(norm, ">=", 0.88),
             twin=twin, seeds=runs, on="every")
claims.check("err-sigmoid-deep-impossible",
             "Rewritten, the scores differ from those of tanh by at most {apart:.0e}.",
             apart=(apart, "<=", 1e-10), varies=True)

# %% [markdown]
# What does being centred buy? All inputs of the next layer are positive, so **for one picture** the gradients of all weights of one unit have the same sign, that of $\delta$: all weights go up, or all go down.
# If one should rise and the other fall, the way there is a zigzag. One unit with two weights, one picture a step, each with the learning rate $1 / \text{mean of } \|x\|^2$:

# %% tags=["define"]
def walk(examples, wanted, start=(0.0, 0.0)):
    """The way (steps + 1, 2) of two weights, one example (2,) a step, to weights `wanted`."""
    rate = 1 / (examples**2).sum(axis=1).mean()
    path = [np.array(start)]
    for x in examples:
        error = (path[-1] - wanted) @ x  # of the weighted sum
        path.append(path[-1] - rate * error * x)
    return np.array(path)

# %%
random = np.random.default_rng(seed)
outputs = 1 / (1 + np.exp(-random.normal(size=(20, 30, 2))))  # 20 walks, 30 logistic outputs
wanted = np.array([1.0, -1.0])  # one weight up, one down
ways = {"as they are, all positive": [walk(x, wanted) for x in outputs],
        "minus ½": [walk(x - 0.5, wanted) for x in outputs]}
left = {name: np.array([np.linalg.norm(path - wanted, axis=1) for path in paths]).mean(axis=0)
        for name, paths in ways.items()}  # distance left, mean of 20 walks

# %% tags=["fold"]
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.0))
for (name, paths), colour in zip(ways.items(), ("C3", "C1"), strict=True):
    axes[0].plot(*paths[0].T, "o-", color=colour, markersize=4)
    axes[1].plot(left[name], color=colour)
axes[0].plot(*wanted, "*", markersize=20, color=figures.COLOUR["ink"])
axes[0].set(xlabel="first weight", ylabel="second weight", title="two walks")
axes[0].axis("equal")
axes[1].set(xlabel="step", ylabel="distance left", title="mean of 20 walks", ylim=(0, 1.6))
axes[1].text(9, 1.1, "inputs all positive", color="C3", fontsize=13)
axes[1].text(0.5, 0.07, "minus ½", color="#b06800", fontsize=13)
fig.suptitle("Positive inputs move both weights up or both down: the way is a zigzag")
figures.save(fig, "emp-sigmoid-not-zero-centred-zigzag",
             caption="Two weights of one linear unit, from 0 to the star, one example a step; "
                     "logistic outputs as inputs, as they are and minus ½; the learning rate of "
                     "each is 1 / mean squared length.",
             alt="With positive inputs the path goes back and forth along the diagonal; centred "
                 "it comes to the star in a few steps.")

# %% tags=["fold"]
def agreement(bend, count):
    """How many of a unit's weight gradients have the majority's sign, in the second layer."""
    with runtime.seeded(seed):
        network = net(bend, 3)
    second = [part for part in network if isinstance(part, nn.Linear)][1]
    shares = []
    for start in range(0, 20 * count if count == 1 else 128, count):
        network.zero_grad()
        F.cross_entropy(network(batch[start:start + count]), labels[start:start + count]).backward()
        up = (second.weight.grad > 0).double().mean(1)  # (units,)
        shares.append(torch.maximum(up, 1 - up).mean().item())
    return np.mean(shares)

claims.check("emp-sigmoid-not-zero-centred-zigzag",
             "For one digit {one:.0%} of a unit's weight gradients have one sign behind logistic "
             "units, {tanh:.0%} behind tanh (at random: a little over 50%); for a batch of 64 "
             "{batch:.0%}.",
             one=(agreement("logistic", 1), "==", 1.0), tanh=(agreement("tanh", 1), "<=", 0.65),
             batch=agreement("logistic", 64))
raw, centred = (values[-1] for values in left.values())
claims.check("emp-sigmoid-not-zero-centred-zigzag.walk",
             "After 30 steps the distance left with positive inputs is {times:.0f} times that with "
             "centred ones.", times=(raw / centred, ">=", 3))

# %% [markdown]
# That is a picture of one unit. In the deep network the bars above are the test: "weights × 4" has the scale of its twin and not the biases that centre, and it stays behind.
#
# **We now know** that the logistic function has no weakness of its own as a *curve*; the units are ill chosen: a slope of ¼ and a middle of ½.
# **This does not show** that one should use it: tanh has the better units for nothing.
#
# **Exercise 05.3.** Backwards: a layer with `weight` (O, I) and `bias` (O,) reads logistic outputs $s = \sigma(2z)$. Rewrite it so that it reads $t = \tanh(z)$ instead, and gives the same sums.

# %%
def reads_tanh(weight, bias):
    """The weight (O, I) and bias (O,) with which t = 2 s - 1 gives the sums that s gave."""
    ...

exercises.check("05.3", reads_tanh)

# %% [markdown]
# ## 4 · The race
#
# "ReLU converges six times faster than tanh": this number is from one figure of the AlexNet paper, a network of four convolutional layers on CIFAR-10.
# We let all run: four hidden layers, four learning rates, and count the epochs until 97 % of the training pictures are named right. (PReLU stays out: it starts as a leaky ReLU.)

# %%
exercises.predict("05.p5", "Each at its best learning rate, to 97 % of the digits ReLU is:",
                  ("about six times as fast as tanh", "about twice as fast", "about as fast"))

# %% tags=["fold"]
def arrived(history):
    """The first epoch with a training accuracy of `goal`; inf where there is none."""
    above = np.flatnonzero(np.array(history["train_accuracy"]) >= goal) if history else []
    return above[0] + 1 if len(above) else math.inf

# %% tags=["ledger:prac-activation-choice"]
def arrivals(bend, gain=None):
    """Epochs until `goal` (rates, runs), of networks with four hidden layers."""
    result = training.repeat(
        lambda: deep(bend, 4, gain, width // 2, inputs, classes), train,
        epochs=epochs, batch_size=64, drop_last=True, progress=False,
        seeds=len(rates) * list(seeds), learning_rates=np.repeat(rates, runs).tolist(),
        optimizer=lambda weights, lr: torch.optim.SGD(weights, lr=lr, momentum=0.9))
    return np.reshape([arrived(history) for history in result], (len(rates), runs))

race = {bend: arrivals(bend) for bend in BENDS if bend != "PReLU"}
race["logistic, weights × 4"] = arrivals("logistic", 4.0)
best = {name: table[table.mean(axis=1).argmin()] for name, table in race.items()}
times = best["tanh"].mean() / best["ReLU"].mean()
exercises.reveal("05.p5", "about as fast" if times < 1.5 else "about twice as fast" if times < 3.5
                 else "about six times as fast as tanh",
                 f"tanh needs {times:.1f} times the epochs of ReLU.")

# %% tags=["fold"]
names = sorted(race, key=lambda name: best[name].mean())
shown = np.array([race[name].mean(axis=1) for name in names])  # (functions, rates)
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.4))
plots.heat(ax, np.where(np.isinf(shown), epochs + 4, shown), rows=names, format=None,
           columns=[f"{rate:g}" for rate in rates], cmap="viridis_r", limits=(2, epochs + 4))
for (row, column), value in np.ndenumerate(shown):
    text = f"{value:.1f}" if np.isfinite(value) else "not reached"
    ax.text(column, row, text, ha="center", va="center", fontsize=13,
            color="white" if value > (epochs + 6) / 2 else "0.1")
ax.set_aspect("auto")
ax.tick_params(labelsize=13)
ax.set(xlabel="learning rate")
ax.set_title("Each at its rate five bends arrive together; logistic units need larger weights",
             x=-0.3)
figures.save(fig, "emp-relu-faster-than-tanh-6x",
             caption=f"Epochs until {goal:.0%} of the training pictures are right: {dataset}, four "
                     f"hidden layers of {width // 2}, SGD with momentum 0.9, batches of 64; "
                     f"mean of {runs} seeds. Not reached: by at least one seed in {epochs} epochs.",
             alt="tanh, ReLU and its relatives arrive after about the same number of epochs; "
                 "the logistic network arrives with larger weights only.")

# %% tags=["fold"]
claims.check("emp-relu-faster-than-tanh-6x",
             "To 97 % of the digits, each at its best rate: ReLU {relu:.1f} epochs, tanh "
             "{tanh:.1f}, that is {times:.1f} times as many; the logistic function reaches at "
             "most {logistic} of its {count} runs in {epochs} epochs.",
             relu=best["ReLU"].mean(), tanh=best["tanh"].mean(), times=(times, "in", (0.4, 2)),
             logistic=(int(np.isfinite(race["logistic"]).sum()), "==", 0),
             count=race["logistic"].size, epochs=epochs)
claims.check("emp-leaky-relu-never-dies.speed",
             "Leaky ReLU needs {ratio:.2f} times the epochs of ReLU.",
             ratio=(best["leaky ReLU"].mean() / best["ReLU"].mean(), "in", (0.7, 1.4)))
claims.quoted("emp-relu-faster-than-tanh-6x.paper",
              "A network of four convolutional layers reaches 25 % training error on CIFAR-10 six "
              "times faster with ReLU than with tanh, learning rates chosen for each.",
              "Krizhevsky et al. 2012, figure 1")

# %% tags=["fold"]
def microseconds(function, argument, repeats=20):
    """Median time of one call."""
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        function(argument)
        spent.append(time.perf_counter() - start)
    return 1e6 * np.median(spent)

values = torch.randn(100_352, dtype=torch.float32)  # 32 channels of 56 x 56
spent = {name: microseconds(BENDS[name]().float().requires_grad_(False), values)
         for name in ("ReLU", "logistic", "tanh", "ELU")}
around = nn.Conv2d(32, 32, 3, padding=1, dtype=torch.float32).requires_grad_(False)
convolution = microseconds(around, values.view(1, 32, 56, 56))
claims.check("emp-relu-faster-to-compute",
             "100,000 numbers take ReLU {relu:.0f} µs, logistic {logistic:.0f}, tanh {tanh:.0f}, "
             "ELU {elu:.0f} (the faster of the two: {times:.1f} times ReLU's); a 3×3 convolution "
             "on them {convolution:.0f}.", relu=spent["ReLU"],
             times=(min(spent["tanh"], spent["ELU"]) / spent["ReLU"], ">", 1),
             logistic=spent["logistic"], tanh=spent["tanh"], elu=spent["ELU"],
             convolution=convolution, varies=True)
claims.check("num-maxout-params-double",
             "A maxout layer of {width} units has {ratio} times the parameters of a linear one.",
             width=width, ratio=(sum(p.numel() for p in linear(inputs, 2 * width, 1).parameters())
                                 / sum(p.numel() for p in linear(inputs, width, 1).parameters()),
                                 "==", 2.0))

# %% [markdown]
# Along a row the numbers change as much as down a column: who compares two functions at *one* learning rate compares learning rates. And each start of the weights is a choice too: the logistic function arrives once its weights make up for its slope, in four layers without being centred.
#
# **We now know** that on digits five functions arrive together, and that the logistic function, started as usual, does not.
# **This does not show** that the paper is wrong: other pictures, convolutions, a harder goal, and another start of the weights. (It does show that "6×" is no property of ReLU.)
#
# **Exercise 05.4.** Maxout has no fixed shape. Choose the two weights and biases (numbers) with which one maxout unit of one input $x$ computes leaky ReLU of $w x + b$, with slope `slope`.

# %%
def leaky_by_maxout(w, b, slope):
    """((w1, w2), (b1, b2)) with max(w1 x + b1, w2 x + b2) = leaky ReLU(w x + b)."""
    ...

exercises.check("05.4", leaky_by_maxout)

# %% [markdown]
# ## 5 · Units that die
#
# A ReLU whose pre-activation is negative for *every* training picture puts out 0, and its slope is 0 for every picture. Its weights get no gradient, so it stays as it is: it is **dead**.
# One hidden layer of 100 units, no momentum, six learning rates. We count the units that are negative for all pictures: call them *silent*. (A silent ReLU is dead; a silent leaky ReLU still has its slope of 0.01.)

# %% tags=["define"]
def shallow(bend, bias=0.0, hidden=100):
    """Pixels, one hidden layer with biases `bias`, scores."""
    layer = linear(inputs, hidden, 2**0.5)
    nn.init.constant_(layer.bias, bias)
    return nn.Sequential(nn.Flatten(), layer, BENDS[bend](), linear(hidden, classes, 1.0))

@torch.no_grad()
def silent(network, images):
    """Whether each hidden unit (U,) is negative or zero for all images."""
    return ~(network[1](network[0](images)) > 0).any(dim=0)

# %%
every, _ = next(train.batches(len(train)))
steps = [0.1, 0.5, 1.0, 1.5, 2.0, 4.0]  # learning rates

def trained(make, learning_rates, **options):
    """Five epochs at each rate, `runs` seeds: the networks, their silent share and accuracy."""
    result = training.repeat(
        make, train, test, epochs=5, batch_size=64, drop_last=True, progress=False,
        seeds=len(learning_rates) * list(seeds), **options,
        learning_rates=np.repeat(learning_rates, runs).tolist(),
        optimizer=lambda parameters, lr: torch.optim.SGD(parameters, lr=lr))
    share = [silent(network, every).double().mean().item() for network in result.models]
    shape = len(learning_rates), runs
    accuracy = np.nan_to_num(result.last("valid_accuracy"), nan=1 / classes)
    return result.models, np.reshape(share, shape), accuracy.reshape(shape)

alive = trained(lambda: shallow("ReLU"), steps)
leaky = trained(lambda: shallow("leaky ReLU"), steps)

# %% [markdown]
# What kills them? The suspect is one huge step that throws the weights to where no picture reaches them. So keep everything, the learning rate too, and only limit the *length of the gradient* to ½ (`clip_gradient`):

# %%
exercises.predict("05.p6", "At a learning rate of 2, with the gradient's length limited to ½, die:",
                  ("as many", "about half as many", "hardly any"))

# %%
clipped = trained(lambda: shallow("ReLU"), steps, clip_gradient=0.5)
at = steps.index(2.0)
died, spared = alive[1][at].mean(), clipped[1][at].mean()
exercises.reveal("05.p6", "hardly any" if spared < 0.1 * died else "about half as many"
                 if spared < 0.75 * died else "as many",
                 f"Without limit {died:.0%} of the units died, with it {spared:.0%}.")

# %% [markdown]
# And do they stay dead? Go on with every network from the learning rate 2, for five epochs at a harmless 0.1.

# %%
def go_on(models):
    """The networks trained with the rate 2 go on with 0.1."""
    waiting = [copy.deepcopy(network) for network in models[at * runs:(at + 1) * runs]]
    return trained(lambda: waiting.pop(0), [0.1])

later = {"ReLU": go_on(alive[0]), "leaky ReLU": go_on(leaky[0])}
after = {name: result[2][0] for name, result in later.items()}  # accuracies (runs,)
dead = torch.stack([silent(network, every) for network in alive[0][at * runs:(at + 1) * runs]])
still = torch.stack([silent(network, every) for network in later["ReLU"][0]])
back = (dead & ~still).sum().item()  # units that came back to life

# %% tags=["fold"]
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.2), width_ratios=[1.4, 1])
lines = {"ReLU": (alive, "C0", "-"), "leaky ReLU": (leaky, "C2", "-"),
         "ReLU, gradient\nlimited": (clipped, "C0", "--")}
for name, (result, colour, style) in lines.items():
    axes[0].plot(steps, result[1].mean(axis=1), "o", color=colour, linestyle=style, label=name)
    axes[0].fill_between(steps, result[1].min(axis=1), result[1].max(axis=1), color=colour,
                         alpha=0.2, linewidth=0)
axes[0].set(xscale="log", xlabel="learning rate", ylabel="silent units", ylim=(-0.04, 1.08),
            title="after five epochs")
axes[0].set_xticks(steps, [f"{rate:g}" for rate in steps])
axes[0].minorticks_off()
axes[0].legend(loc="upper left", fontsize=12)
axes[0].yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
for name, first in (("ReLU", alive), ("leaky ReLU", leaky)):
    for before_, after_ in zip(first[2][at], after[name], strict=True):
        axes[1].plot([0, 1], [before_, after_], "o-", color=COLOURS[name])
axes[1].axhline(1 / classes, color="0.35", linestyle=":", linewidth=1.5)
axes[1].text(-0.2, 1 / classes - 0.07, "guessing", fontsize=12)
axes[1].set(xlim=(-0.25, 1.25), ylim=(0, 1.05), ylabel="test accuracy",
            title="from rate 2 on at 0.1")
axes[1].set_xticks([0, 1], ["five epochs\nat 2", "five more\nat 0.1"])
fig.suptitle("Large steps silence units; a leak does not prevent it, but helps to recover")
figures.save(fig, "emp-relu-dead-units",
             caption=f"One hidden layer of 100 units, {dataset}, SGD without momentum, batches of "
                     f"64; {runs} seeds (band: range; right: one line a seed).",
             alt="Above a learning rate of 1 most units fall silent, with leaky ReLU too; with a "
                 "limited gradient hardly any. Going on at 0.1, leaky networks recover further.")

# %% tags=["fold"]
few, most = alive[1][0], alive[1][at]
claims.check("emp-relu-dead-units",
             "After five epochs {few:.1%} of the ReLUs are dead at a learning rate of 0.1, "
             "{most:.0%} at 2, and {clipped:.1%} at 2 with the gradient limited to ½.",
             few=(few, "<=", 0.05), most=(most, ">=", 0.5), clipped=(clipped[1][at], "<=", 0.05),
             seeds=runs, on="every")
claims.check("emp-leaky-relu-never-dies",
             "Of {dead} dead ReLUs {back} come back in five epochs at 0.1; the least slope of a "
             "leaky ReLU is {least}, and of its units {silent:.0%} are silent at 2.",
             dead=int(dead.sum()), back=(back, "==", 0),
             least=(slope(nn.LeakyReLU(), z).min().item(), "==", 0.01), silent=leaky[1][at].mean())
claims.check("emp-leaky-relu-never-dies.recovery",
             "After these the leaky networks are right in {leaky:.0%}, {ahead:.0%} more than ReLU.",
             leaky=after["leaky ReLU"], ahead=(after["leaky ReLU"] - after["ReLU"], ">=", 0.1),
             seeds=runs, on="mean")

# %% tags=["fold"]
with_bias = {bias: trained(lambda bias=bias: shallow("ReLU", bias), [1.0])[1][0]
             for bias in (0.01, 1.0)}
with_bias[0.0] = alive[1][steps.index(1.0)]
claims.check("emp-positive-bias-prevents-dead",
             "At a learning rate of 1, {none:.0%} die with biases from 0, {hundredth:.0%} from "
             "0.01, {one:.0%} from 1: no help here.",
             none=with_bias[0.0], hundredth=(with_bias[0.01], ">=", 0.02),
             one=(with_bias[1.0], ">=", 0.1), seeds=runs, on="mean")
bent_by_tanh = [shallow("tanh") for _ in range(runs)]
with torch.no_grad():
    zeros = {when: np.mean([(network[:3](every) <= 0).double().mean().item()
                            for network in networks])
             for when, networks in (("new", [shallow("ReLU") for _ in range(3)]),
                                    ("old", alive[0][:runs]))}
    by_tanh = np.mean([(network[:3](every) == 0).double().mean().item()
                       for network in bent_by_tanh])
claims.check("emp-relu-sparsity",
             "A healthy hidden layer is sparse too: {new:.0%} zeros before training, {old:.0%} "
             "after (rate 0.1); new tanh units {tanh:.0%}.",
             new=(zeros["new"], "in", (0.4, 0.6)), old=(zeros["old"], ">", 0.35),
             tanh=(by_tanh, "==", 0.0))

# %% [markdown]
# **We now know** what kills: one step too long. Limit the step and the same learning rate is harmless. A leak does not keep units from falling silent, but it keeps a way back open.
# **This does not show** any fixed share: 75 % of the units, or 40 %, is one learning rate, one network. And zeros as such are healthy; a unit is dead only if it is zero for *all* pictures.
#
# **Exercise 05.5.** At one step of SGD with learning rate $\eta$ the pre-activations `z` (N,) of a unit become $z - \eta\,$`fall` (N,). If all of `fall` is above 0, what is the smallest $\eta$ at which the unit is dead after the step? If some of it is not, answer `math.inf`.

# %%
def deadly_rate(z, fall):
    """The smallest learning rate from which z - rate * fall <= 0 for all pictures, at least 0."""
    ...

exercises.check("05.5", deadly_rate)

# %% [markdown]
# ## Also in the lectures
#
# ReLU knows no units: make a picture $a$ times as bright, and the output of a ReLU network *without biases* is $a$ times as large. And ELU's outputs lie nearer to a mean of 0.

# %% tags=["fold", "ledger:emp-relu-scale-independent"]
def scaled(network, a):
    """Largest relative difference between network(a x) and a network(x)."""
    with torch.no_grad():
        one, other = network(a * batch), a * network(batch)
    return ((one - other).abs().max() / other.abs().max()).item()

with runtime.seeded(seed):
    unbiased, curved = shallow("ReLU"), shallow("logistic")
    biased = shallow("ReLU", bias=1.0)
claims.check("emp-relu-scale-independent",
             "Without biases f(ax) differs from a f(x) by {free:.0e} for a from 0.001 to 1000; "
             "with biases, with a < 0 or with the logistic function by {biased:.2f}, {minus:.2f} "
             "and {logistic:.2f} (relative, a = 100 or −1).",
             free=(max(scaled(unbiased, a) for a in (1e-3, 0.5, 1e3)), "<=", 1e-6),
             biased=(scaled(biased, 100), ">=", 0.1), minus=(scaled(unbiased, -1), ">=", 0.1),
             logistic=(scaled(curved, 100), ">=", 0.1), varies=True)

# %% tags=["fold"]
normal = torch.randn(200_000, generator=torch.Generator().manual_seed(seed))
claims.check("emp-elu-zero-mean",
             "On N(0, 1) the mean output of ELU is {elu:.2f}, of ReLU {relu:.2f}.",
             elu=(F.elu(normal).mean().item(), "<=", 0.2),
             relu=(torch.relu(normal).mean().item(), ">=", 0.35))
noisy = {}
for bend in ("ReLU", "ELU"):
    networks = alive[0][:runs] if bend == "ReLU" else trained(lambda: shallow("ELU"), [0.1])[0]
    pictures, truth = next(test.batches(len(test)))
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        noisy[bend] = [(network(pictures + noise).argmax(1) == truth).double().mean().item()
                       for network in networks]
claims.check("emp-elu-zero-mean.noise",
             "On test pictures with noise as large as the pictures' own deviation ELU is right in "
             "{elu:.1%}, ReLU in {relu:.1%}, {gain:.1%} less: no great robustness shows.",
             elu=noisy["ELU"], relu=noisy["ReLU"], gain=(np.subtract(noisy["ELU"], noisy["ReLU"]),
                                                        "<=", 0.08), seeds=runs, on="mean")
ramp = torch.linspace(-3, 3, 601)[:, None]
w, b = torch.tensor([[0.7]]), torch.tensor([0.3])
as_relu = maxout(ramp, torch.stack([w, 0 * w]), torch.stack([b, 0 * b]))
as_leaky = maxout(ramp, torch.stack([w, 0.01 * w]), torch.stack([b, 0.01 * b]))
claims.check("emp-maxout-generalises",
             "With a second piece of 0, or of 0.01 times the first, maxout differs from ReLU and "
             "leaky ReLU by {relu:.0e} and {leaky:.0e}.",
             relu=((as_relu - F.relu(ramp @ w + b)).abs().max().item(), "<=", 1e-15),
             leaky=((as_leaky - F.leaky_relu(ramp @ w + b)).abs().max().item(), "<=", 1e-15),
             varies=True)

# %% [markdown] tags=["ledger:emp-biological-relu"]
# "More biologically plausible" cannot be tested here. The argument (Glorot et al. 2011): nerve cells are mostly silent, and beyond a threshold their rate rises with the current without soon reaching a ceiling; both is more like ReLU than like a logistic curve. A real cell also has its ceiling, and sends spikes.
#
# ## In practice
#
# - `nn.ReLU` is the default in convolutional networks; `inplace=True` saves memory. Warm up or clip (`nn.utils.clip_grad_norm_`) rather than look for a function that survives everything.
# - Transformers and recent CNNs use smooth relatives: `nn.GELU`, `nn.SiLU` (swish), `nn.Hardswish` on phones; `timm.create_model(..., act_layer=...)` swaps them.
# - Draw weights for the bend: `nn.init.kaiming_normal_(w, nonlinearity="relu")`, `nn.init.calculate_gain("tanh")`; lesson 06.
# - The logistic function stays where a number between 0 and 1 is *meant*: gates (LSTM, attention to channels) and yes-or-no outputs. There use `BCEWithLogitsLoss` on the score, without `nn.Sigmoid`.
# - tanh stays in recurrent networks and as an output between −1 and 1.
#
# ## History
#
# - 1941: A. Householder describes nerve fibres that answer linearly above a threshold. 1943: W. McCulloch and W. Pitts use the binary step. 1969: K. Fukushima builds a network of rectifying "analog threshold elements".
# - 1986: D. Rumelhart, G. Hinton and R. Williams train logistic units by backpropagation. 1991: S. Hochreiter's thesis shows that gradients vanish. 1998: Y. LeCun et al. advise a scaled tanh, used since 1989.
# - 2010: V. Nair and G. Hinton bring ReLU to deep learning. 2011: X. Glorot, A. Bordes and Y. Bengio train deep rectifier networks without pretraining. 2012: AlexNet.
# - 2013: leaky ReLU (A. Maas et al.), maxout (I. Goodfellow et al.). 2015: PReLU with a fitting initialisation (K. He et al.), BatchNorm, ELU (D.-A. Clevert et al.).
# - 2016: GELU (D. Hendrycks and K. Gimpel). 2017: swish, found by search (P. Ramachandran et al.).
#
# ## Exercises that are left
#
# **05.6 Open.** Build a hat by hand: 0 outside of (`left`, `right`), rising straight to `height` at `top`, falling straight to 0. How few ReLUs do you need?
# Give each as (weight, bias, output weight): the network is the sum of output weight · ReLU(weight · x + bias). For you: how would you build any curve from hats?

# %%
def hat(left, top, right, height):
    """A list of (weight, bias, output weight), one for each ReLU."""
    ...

exercises.check("05.6", hat)

# %% [markdown]
# **05.7 Open.** Look again at the race. What does this table *not* show? Name two things that were the same for all functions there and need not be best for all, and say how you would make the comparison fair. (Section 3 has one answer.)
#
# ## Summary
#
# - Without a bend any stack is one matrix. ReLU networks are flat pieces; which bend fits better depends on the shape.
# - A layer multiplies the gradient by about gain times the root mean square of the slopes. That is at most ¼ for logistic units as usual, and 1 for ReLU with a gain of √2; small weights starve ReLU as well.
# - A logistic network is a tanh network in worse units: not centred, and flat. Rewritten, or with BatchNorm, ten layers learn.
# - On digits five functions arrive together, each at its own learning rate; "six times faster" is one experiment.
# - Too long a step kills ReLUs for good. Limiting the gradient prevents it; a leak leaves a way back; a bias of 0.01 does not help here.

# %% [markdown] tags=["ledger:err-relu-first-alexnet", "ledger:err-tanh-lecun-1991", "ledger:err-dead-75", "ledger:err-relu-kills-none", "ledger:err-feedforward-three-layers"]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | logistic and tanh lie in [0, 1] and [−1, 1] | in the **open** intervals; float32 rounds to the ends | section 2 |
# | sigmoid: "derivatives infinite" | **infinitely many** derivatives; the first is at most ¼ | section 2 |
# | tanh's gradients lie in (−1, 1) | in **(0, 1]**; its *values* lie in (−1, 1) | section 2 |
# | ReLU's range is (0, ∞), "positive output only"; f'' is zero | **[0, ∞)**; f'' is zero except at 0, where it does not exist | section 2 |
# | ELU's alpha is learnt | it is **chosen**; PReLU's slope is learnt | section 2: `nn.ELU` has no parameters |
# | ReLU "doesn't kill the gradients", only "small values" | the gradient is 0 for **every** negative input, large or small | section 2, slopes |
# | ReLU prevents (solves) the vanishing gradient | it **lessens** it: with small weights ReLU's vanishes too | section 2 |
# | one cannot do deep learning with sigmoid | it needs **scale and centre**: rewritten, or BatchNorm | section 3 |
# | ReLU is six times faster than tanh | in **one experiment**, AlexNet's figure 1; on digits as fast | section 4 |
# | "don't use sigmoid!" | not in **hidden** layers; gates and yes-or-no outputs need it | section 4, In practice |
# | 75 % of the units may be dead | **depends** on the step: from none to nearly all; CS231n's own notes say "as much as 40 %" for too high a learning rate | section 5 |
# | biases of 0.01 prevent dead units | **no such effect** here; AlexNet used 1 in some layers | section 5 |
# | ReLU is more expressive | **each its shape**; both approximate any continuous function | section 1 |
# | ReLU was proposed for AlexNet | **older**: Fukushima 1969; Nair and Hinton 2010, whom AlexNet cites | sources |
# | tanh was proposed by LeCun in 1991 | **older**; he advised a scaled tanh, $1.7159 \tanh(2x/3)$ | LeCun et al. 1998 |
# | most feed-forward networks have three layers, for the gradient vanishes | **until about 2010** | sections 2 and 3 |
#
# ## Sources
#
# - The notes: lectures 000, 001, 002 and 003 on ReLU and the vanishing gradient, lecture 004 on activation functions (after CS231n, Stanford 2017).
# - A. Householder: A theory of steady-state activity in nerve-fiber networks. Bulletin of Mathematical Biophysics 3, 1941. K. Fukushima: Visual feature extraction by a multilayered network of analog threshold elements. IEEE Transactions on Systems Science and Cybernetics 5, 1969.
# - D. Rumelhart, G. Hinton and R. Williams: Learning representations by back-propagating errors. Nature 323, 1986. S. Hochreiter: Untersuchungen zu dynamischen neuronalen Netzen. Diploma thesis, TU München, 1991.
# - Y. LeCun, L. Bottou, G. Orr and K.-R. Müller: Efficient BackProp. 1998.
# - V. Nair and G. Hinton: Rectified linear units improve restricted Boltzmann machines. ICML 2010. X. Glorot, A. Bordes and Y. Bengio: Deep sparse rectifier neural networks. AISTATS 2011.
# - A. Krizhevsky, I. Sutskever and G. Hinton: ImageNet classification with deep convolutional neural networks. NIPS 2012, section 3.1.
# - A. Maas, A. Hannun and A. Ng: Rectifier nonlinearities improve neural network acoustic models. 2013. I. Goodfellow et al.: Maxout networks. ICML 2013. K. He et al.: Delving deep into rectifiers, 2015 (arXiv:1502.01852). D.-A. Clevert et al.: Fast and accurate deep network learning by exponential linear units, 2015 (arXiv:1511.07289).
# - D. Hendrycks and K. Gimpel: Gaussian error linear units, 2016 (arXiv:1606.08415). P. Ramachandran et al.: Searching for activation functions, 2017 (arXiv:1710.05941).
