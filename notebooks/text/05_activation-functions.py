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
# The first figure, a few cells below, shows what becomes of the gradient on its way back through ten layers that have not been trained yet.
# It compares eight functions: the logistic function (torch and the lectures call it sigmoid), tanh, ReLU, leaky ReLU, PReLU, ELU, maxout and the binary step. For now they are only names; section 2 has their formulas.
# With weights as they are usually drawn, ReLU, which here sets about half of the numbers to 0, hands the gradient on. The smooth logistic function loses nearly all of it, and the step all.
# Odd: tanh hands it on as well, and tanh is *the same curve* as the logistic function, only stretched and shifted. Section 3 asks what stretch and shift do to learning.
#
# **You will be able to**
# - fold a stack of matrices into one, and build a curve from ReLUs;
# - predict from slopes and weights what is left of a gradient;
# - rewrite a logistic network as a tanh network, and leaky ReLU as maxout;
# - compute which step kills a ReLU;
# - say what a comparison of activation functions does not show.
#
# **You need** lesson 02 (scores, softmax, loss) and lesson 03 (gradients and the chain rule). How weights are best drawn is the matter of lesson 06; here they have one knob.
#
# **Words.** A *unit* is one number that a layer computes: a weighted sum of its inputs plus a bias, its *pre-activation*, bent by the activation function. The *length* of a gradient is its norm.
# A unit is *saturated* where the curve is so flat that its slope is nearly 0.
# An *epoch* is one pass over the training pictures; SGD, momentum and Adam are ways to take steps down the gradient (lesson 09). *Untrained*: with its random weights.
# Claims (✓) are made for the parameters below; with others the lesson shows what it measures and requires nothing.
#
# **It costs** about 35 seconds of one processor core, no network connection, no GPU.

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
# Weights are drawn at random with deviation `gain` / √(number of inputs): at `gain` = 1 a weighted sum is about as large as its inputs. ReLU sets about half of the sums to 0, so it is customary to give it √2.

# %% tags=["define"]
class Binary(nn.Module):
    def forward(self, x):
        return torch.sign(x).clamp(min=0)  # 1 above 0, else 0

class LargerOfTwo(nn.Module):
    """The larger number of each pair: (N, 2 U) -> (N, U)."""
    def forward(self, x):
        return x.unflatten(-1, (-1, 2)).amax(-1)

BENDS = {"logistic": nn.Sigmoid, "tanh": nn.Tanh, "ReLU": nn.ReLU, "leaky ReLU": nn.LeakyReLU,
         "PReLU": nn.PReLU, "ELU": nn.ELU, "maxout": LargerOfTwo, "binary": Binary}
GAIN = {"ReLU": 2**0.5, "leaky ReLU": 2**0.5, "PReLU": 2**0.5}  # all others: 1

def linear(inputs, outputs, gain):
    """A layer with random weights of deviation gain / sqrt(inputs), and biases of 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(inputs))
    nn.init.zeros_(layer.bias)
    return layer

# %% tags=["define"]
def deep(bend, layers, gain=None, width=64, inputs=64, classes=10, normalise=False):
    """`layers` hidden layers of `width` units each, bent by `bend`, and one layer of scores."""
    if gain is None:
        gain = GAIN.get(bend, 1.0)
    sums = 2 * width if bend == "maxout" else width  # maxout: two weighted sums a unit
    parts, size = [nn.Flatten()], inputs
    for _ in range(layers):
        parts.append(linear(size, sums, gain))
        if normalise:
            parts.append(nn.BatchNorm1d(sums))  # lesson 07: mean 0, deviation 1 over the batch
        parts.append(BENDS[bend]())
        size = width
    return nn.Sequential(*parts, linear(width, classes, 1.0))

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
figures.use_style()
COLOURS = {"logistic": "C3", "tanh": "C1", "ReLU": "C0", "leaky ReLU": "C2", "PReLU": "#62bdb5",
           "ELU": "0.5", "maxout": "0.15", "binary": "#8a5a2b"}
CENTRED = "#b06800"  # the orange of tanh, dark enough for letters
DARKER = {"tanh": CENTRED, "PReLU": "#2a857d"}
VIOLET = "#6a4fa3"  # BatchNorm: a colour that no function has

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

def crossed(count, generator):
    """Points (count, 2) in four clouds, and whether their two signs differ (count,)."""
    corner = torch.randint(0, 2, (count, 2), generator=generator) * 2.0 - 1
    points = corner + 0.3 * torch.randn(count, 2, generator=generator)
    return points, (corner[:, 0] != corner[:, 1]).long()

back = range(depth, 0, -1)  # the way of the gradient
by_layer = {bend: many(bend) for bend in BENDS}
share = {bend: rows / rows[:, -1:] for bend, rows in by_layer.items() if bend != "binary"}
lost = -np.log10(share["logistic"][:, 0])
six = [bend for bend in share if bend != "logistic"]

# %% tags=["fold"]
fig, (wide, near) = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.3))
for bend, rows in share.items():
    drawn = {"color": COLOURS[bend], "linewidth": 6 if bend == "leaky ReLU" else 2.5,
             "zorder": 1 if bend == "leaky ReLU" else 2,
             "linestyle": (0, (4, 1.5)) if bend == "PReLU" else "-"}
    wide.plot(back, rows.mean(axis=0)[::-1], **drawn)
    if bend in six:
        near.plot(back, rows.mean(axis=0)[::-1], label=bend, **drawn)
wide.set(yscale="log", ylim=(1e-9, 30), xlim=(depth, 0.8), title="all eight",
         ylabel="gradient, as a share of\nthat in the last hidden layer", yticks=[1e-8, 1e-4, 1])
near.set(yscale="log", ylim=(0.2, 3), xlim=(depth, 1), title="the six above, enlarged")
near.set_yticks([0.25, 0.5, 1, 2], ["0.25", "0.5", "1", "2"])
for ax in (wide, near):
    ax.set_xticks(sorted({1, (depth + 1) // 2, depth}))
    ax.minorticks_off()
wide.text(depth - 0.3, 3e-5, "logistic", color=COLOURS["logistic"], fontsize=13)
wide.text(depth - 0.3, 3e-9, "binary step: exactly 0", color=COLOURS["binary"], fontsize=13)
wide.text(depth - 0.3, 4, "six others", color="0.2", fontsize=13)
plots.label_ends(near, fontsize=12)
for text in near.texts:  # two colours are too pale for letters
    text.set_color(DARKER.get(text.get_text(), text.get_color()))
fig.supxlabel("hidden layer, from the last back to the first")
fig.suptitle("At usual weights six bends hand the gradient on; logistic and step do not")
figures.save(fig, "fig-vanishing-gradient",
             caption=f"Norm of the gradient at the pre-activations of {depth} hidden layers of "
                     f"{width} units, untrained, 256 pictures of {dataset}; mean of five seeds. "
                     f"Gains: √2 for ReLU, leaky ReLU and PReLU, 1 for the others.",
             alt="From the last hidden layer back to the first six lines stay between a quarter "
                 "and twice; that of the logistic function falls by a factor of four a layer; "
                 "the binary step has no gradient at all.")

# %% tags=["fold"]
claims.check("emp-deep-nets-were-hard",
             "With weights as they are usually drawn, from the last to the first of {depth} layers "
             "the logistic function loses {lost:.1f} powers of ten of the gradient; "
             "with ReLU, leaky ReLU, PReLU, tanh, ELU and maxout "
             "between {least:.2f} and {most:.1f} times as much arrives; the binary step leaves "
             "{step:.0f} in every layer (means of five untrained networks each).",
             depth=depth, lost=(lost.mean(), ">=", 4.5), step=by_layer["binary"].max(),
             least=(min(share[bend][:, 0].mean() for bend in six), ">=", 0.15),
             most=(max(share[bend][:, 0].mean() for bend in six), "<=", 4))

# %% [markdown]
# ## 1 · Without a bend, five layers are one
#
# Put no function between the matrices, and $W_2 (W_1 x + b_1) + b_2 = (W_2 W_1)\, x + (W_2 b_1 + b_2)$: again one matrix and one bias.
# Here is a stack of five layers. Its scores at (0, 0) are the one bias. What its scores gain at (1, 0) is the first column of the one matrix, what they gain at (0, 1) the second.

# %% tags=["ledger:emp-nonlinearity-needed"]
def straight(*bend):
    """Five layers; `bend`, if there is one, stands behind the first."""
    return nn.Sequential(linear(2, 8, 1.0), *bend, linear(8, 8, 1.0), linear(8, 8, 1.0),
                         linear(8, 8, 1.0), linear(8, 2, 1.0))

with torch.no_grad():
    stack = straight()
    bias = stack(torch.zeros(1, 2))  # (1, 2)
    matrix = (stack(torch.eye(2)) - bias).T  # (2 scores, 2 inputs)
    plane = torch.randn(1000, 2)  # points to compare at
    difference = (plane @ matrix.T + bias - stack(plane)).abs().max().item()
matrix, difference < 1e-12

# %% [markdown]
# Now train it on four clouds of points in a cross, where opposite clouds belong together (the *XOR* problem); and the same five layers with *one layer of ReLUs*, eight units, behind the first matrix.

# %%
exercises.predict("05.p1", "Trained on the four clouds, the five layers without bend reach:",
                  ("about 50 to 80 %", "about 95 %", "100 %"))

# %%
points, sides = crossed(400, torch.Generator().manual_seed(seed))

def learn(make):
    """Train five-layer stacks of several seeds on the four clouds."""
    return training.repeat(
        make, (points, sides), seeds=seeds, epochs=20, batch_size=50, progress=False,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01))

learnt = {"no bend": learn(straight), "ReLUs once": learn(lambda: straight(nn.ReLU()))}
accuracy = {name: result.last("train_accuracy") for name, result in learnt.items()}

# %% tags=["fold", "ledger:emp-relu-piecewise-linear"]
exercises.reveal("05.p1", "about 50 to 80 %" if max(accuracy["no bend"]) < 0.85 else
                 "100 %" if min(accuracy["no bend"]) > 0.99 else "about 95 %",
                 f"Without bend {np.mean(accuracy['no bend']):.0%}, with one layer of ReLUs "
                 f"{np.mean(accuracy['ReLUs once']):.0%}.")
grid = np.linspace(-2, 2, 121)
places = torch.tensor(np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2))
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.1), sharex=True, sharey=True)
for ax, (name, result) in zip(axes, learnt.items(), strict=True):
    with torch.no_grad():
        scores = result.models[0](places)
    lead = (scores[:, 1] - scores[:, 0]).reshape(121, 121)  # above 0: the second class
    ax.contourf(grid, grid, lead, levels=[-1e9, 0, 1e9], colors=["C0", "C1"], alpha=0.25)
    ax.contour(grid, grid, lead, levels=[0], colors="0.1", linewidths=2.5)
    for side, mark in enumerate("os"):
        ax.plot(*points[:40][sides[:40] == side].T, mark, color=f"C{side}", markersize=6)
    ax.set(aspect="equal", xlabel="x", xlim=(-2, 2), ylim=(-2, 2), xticks=(-2, 0, 2),
           yticks=(-2, 0, 2),
           title=f"five layers, {name}: {accuracy[name][0]:.0%} right")
first = learnt["ReLUs once"].models[0][0]
for weight, shift in zip(first.weight.detach(), first.bias.detach(), strict=True):
    onto = -shift * weight / weight.square().sum()  # a point of the line weight · p + shift = 0
    axes[1].axline(onto.tolist(), (onto + weight[[1, 0]] * torch.tensor([1.0, -1.0])).tolist(),
                   color="0.35", linewidth=1, linestyle=":")
axes[0].set(ylabel="y")
fig.suptitle("Without a bend five layers draw one line; one layer of ReLUs bends it")
figures.save(fig, "emp-nonlinearity-needed",
             caption="The border between the classes in the XOR problem, first seed; 40 of the "
                     "400 points. Dotted: where one of the eight ReLUs turns on.",
             alt="Left one straight border; right the border is bent at the dotted lines and "
                 "keeps the four clouds apart.")

# %% tags=["fold"]
claims.check("emp-nonlinearity-needed",
             "Trained for 20 epochs, five layers without bend name {straight:.0%} of the points "
             "right at a loss of {loss:.3f} (equal scores: 0.693), the same with one layer of "
             "ReLUs {bent:.1%}.", straight=(accuracy["no bend"], "<=", 0.85),
             loss=(learnt["no bend"].last("train_loss"), ">=", 0.6),
             bent=(accuracy["ReLUs once"], ">=", 0.97), seeds=runs, on="every")
claims.check("emp-nonlinearity-needed.matrix",
             "At 1000 points the one matrix and bias give the scores of the five untrained layers "
             "with a difference of at most {difference:.0e}.",
             difference=(difference, "<=", 1e-12), varies=True)

with torch.no_grad():
    _, piece = torch.unique(first(places) > 0, dim=0, return_inverse=True)  # which ReLUs are on
    corners = first(torch.tensor([[-2.0, -2], [-2, 2], [2, -2], [2, 2]])) > 0
    crossing = (corners.any(0) & ~corners.all(0)).sum().item()  # lines that cross the square
    pairs = [[i, j] for i in range(8) for j in range(i)]
    meet = [torch.linalg.solve(first.weight[two], -first.bias[two]) for two in pairs]  # points
where = places.clone().requires_grad_()
lead = learnt["ReLUs once"].models[0](where).diff(dim=1).sum()  # second score minus first
rise = torch.autograd.grad(lead, where)[0]  # how it changes with x and y: (places, 2)
within = max((rise[piece == part] - rise[piece == part][0]).abs().max() for part in piece.unique())
claims.check("emp-relu-piecewise-linear",
             "The dotted lines cut this square into {pieces} pieces, of which a grid of 121 × 121 "
             "points hits {hit}. Within a piece the slope of the difference of the scores differs "
             "by at most {within:.1g} on that grid; from piece to piece its part along x runs from "
             "{low:.0f} to {high:.0f}.",
             pieces=(1 + crossing + sum((p.abs() < 2).all().item() for p in meet), ">=", 3),
             hit=len(piece.unique()), within=(within.item(), "<=", 1e-9),
             low=(rise[:, 0].min().item(), "<", 0), high=(rise[:, 0].max().item(), ">", 0),
             varies=True)

# %% [markdown]
# One line can serve three of the four clouds, 75 %. But training lowers the *loss*, and here it ends where the scores are nearly equal everywhere (loss ln 2).
# With the ReLUs each unit has a line at which it turns on (dotted). Between the lines the network is one matrix and one bias again; at a line they change. A ReLU network is made of *flat pieces*.
#
# Is that a better material than smooth bends? Two shapes to copy, a corner $|x|$ and a round bump $e^{-8x^2}$, with 12 hidden units each, trained by 400 steps of Adam, each at the better of two learning rates:

# %%
exercises.predict("05.p2", "Whose trained copies are nearer, those of ReLU or of tanh?",
                  ("ReLU both", "tanh both", "each its own shape"))

# %% tags=["define", "fold"]
def copies(bend, target, rate, seeds, steps=400, units=12):
    """Fit 1-units-1 networks to target on [-1, 1] by Adam: log10 errors, curves (seeds, 50)."""
    drawn = []
    for number in seeds:
        g = torch.Generator().manual_seed(number)
        drawn.append((2 * torch.randn(1, units, generator=g),
                      4 * torch.rand(1, units, generator=g) - 2,
                      torch.randn(units, 1, generator=g) / units**0.5, torch.zeros(1, 1)))
    weights = [torch.stack(part).requires_grad_() for part in zip(*drawn, strict=True)]
    optimizer = torch.optim.Adam(weights, rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    x = torch.linspace(-1, 1, 50)[:, None]
    for _ in range(steps):
        curve = bend(x @ weights[0] + weights[1]) @ weights[2] + weights[3]  # (seeds, 50, 1)
        errors = ((curve - target(x)) ** 2).mean(dim=(1, 2))
        optimizer.zero_grad()
        errors.sum().backward()  # each seed has its own weights
        optimizer.step()
        schedule.step()
    return errors.detach().log10().numpy(), curve.detach()[..., 0].numpy()

# %%
shapes = {"corner": torch.abs, "bump": lambda x: torch.exp(-8 * x**2)}
fits = {}  # log10 errors of 24 seeds at the better rate
for shape, target in shapes.items():
    for name, bend in {"ReLU": torch.relu, "tanh": torch.tanh}.items():
        tried = [copies(bend, target, rate, range(seed, seed + 24))[0] for rate in (0.1, 0.3)]
        fits[shape, name] = min(tried, key=np.median)
corner = fits["corner", "tanh"] - fits["corner", "ReLU"]  # powers of ten by which ReLU leads
bump = fits["bump", "ReLU"] - fits["bump", "tanh"]  # by which tanh leads

# %% tags=["fold"]
winner = "ReLU both" if np.median(bump) < 0 else "tanh both" if np.median(corner) < 0 else ""
exercises.reveal("05.p2", winner or "each its own shape",
                 f"ReLU leads by {np.median(corner):.1f} powers of ten on the corner, tanh by "
                 f"{np.median(bump):.1f} on the bump (medians).")
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.8), sharey=True)
x = np.linspace(-1, 1, 60)
for ax, (shape, target) in zip(axes, shapes.items(), strict=True):
    for place, name in enumerate(("ReLU", "tanh")):
        ax.plot(np.full(24, place) + np.linspace(-0.2, 0.2, 24), 10 ** fits[shape, name], "o",
                color=COLOURS[name], markersize=8)
    lowest = min(-7, np.floor(min(map(np.min, fits.values()))))
    ax.set(yscale="log", xlim=(-0.6, 1.6), ylim=(10**lowest, 3e-2),
           title={"corner": "a corner, |x|", "bump": "a round bump, exp(−8x²)"}[shape])
    ax.set_xticks([0, 1], ["ReLU", "tanh"], fontsize=13)
    ax.minorticks_off()
    small = ax.inset_axes([0.39, 0.7, 0.24, 0.28])
    small.plot(x, target(torch.tensor(x)), color="0.2")
    small.set_axis_off()
axes[0].set_ylabel("mean squared error\n(dots: 24 seeds)")
fig.suptitle("Trained ReLUs copy the corner better, trained tanh the bump")
# 12 hidden units, 50 points, 400 steps of Adam at the better of two rates
figures.show(fig, alt="Two clouds of dots, an error for each seed. On the corner most dots of ReLU "
             "lie below those of tanh; on the round bump all dots of tanh lie below those of ReLU.")
claims.check("emp-relu-more-expressive",
             "Each at the better of the rates 0.1 and 0.3, ReLU copies the corner better in "
             "{corner:.0%} of 24 seeds, tanh the bump in {bump:.0%} (equally good: 50%); by "
             "{far:.1f} and {further:.1f} powers of ten in the median.",
             corner=((corner > 0).mean(), ">=", 0.65), bump=((bump > 0).mean(), ">=", 0.8),
             far=(np.median(corner), ">=", 0.3), further=(np.median(bump), ">=", 1))

# %% [markdown]
# The row of blue dots on the right: many of the ReLU networks end near the same error, where these 400 steps leave them. (In a trial with 1,600 steps at the rate of 0.1 fewer were left there; ReLU was still ahead on the corner, tanh on the bump.)
#
# And if we do not train, but *solve*? 12 units that turn on at even distances are given; the best output weights come from least squares. A tanh unit needs a steepness as well; we try seven.

# %% tags=["fold"]
x = torch.linspace(-1, 1, 200)[:, None]
middles = torch.linspace(-1, 1, 13)[:-1]  # where the 12 units turn on

def solve(bend, target):
    """Mean squared error with the best output weights and bias."""
    outputs = torch.cat([bend(x - middles), torch.ones_like(x)], dim=1)  # (200, 12 + bias)
    weights = torch.linalg.lstsq(outputs, target(x)).solution
    return (outputs @ weights - target(x)).square().mean().item()

relu_solved = solve(torch.relu, shapes["bump"])
steeper_tanh = {steepness: solve(lambda z, a=steepness: torch.tanh(a * z), shapes["bump"])
                for steepness in (0.5, 1, 2, 4, 8, 16, 32)}
best_steepness = min(steeper_tanh, key=steeper_tanh.get)
claims.check("emp-relu-more-expressive.solved",
             "Solved for, not trained, 12 ReLUs copy the bump with an error of {solved:.0e}, the "
             "24 trained networks with {relu:.0e} (median). For tanh it depends on the "
             "steepness: {tanh_solved:.0e} at {steepness}, {sixteen:.0e} at 16 and {most:.0e} at "
             "32; trained {tanh:.0e}.",
             solved=(relu_solved, "<=", 3e-4),
             relu=(10 ** np.median(fits["bump", "ReLU"]).item(), ">=", 1e-3),
             tanh_solved=(steeper_tanh[best_steepness], "<=", 1e-6), steepness=best_steepness,
             sixteen=steeper_tanh[16], most=(steeper_tanh[32], ">=", 3e-4),
             tanh=10 ** np.median(fits["bump", "tanh"]).item(), varies=True)

# %% [markdown]
# What a network *can express* and what training *finds* are two things. Two ReLUs are the corner: $|x|$ = ReLU($x$) + ReLU($-x$). And 12 ReLUs *can* copy the bump much better than the median of the trained networks does. 12 tanh units can come nearer still, but only if their steepness suits.
#
# **We now know** that without a bend depth adds nothing to what a network can express, and that one layer of ReLUs separates what no line can. Which bend *trains* better depends on the shape here, each at the better of two learning rates.
# **This does not show** that either can express more, nor which is better for pictures. (In theory every piecewise continuous bend that is not a polynomial will do: with enough units it comes as near as one likes to any continuous function on a bounded region, Leshno et al. 1993. Whether training finds it is another question.)
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
# What flows back through a bend is multiplied by its **slope** (lesson 03). All eight that the lectures name:
#
# | | $f(z)$ | slope $f'(z)$ |
# |---|---|---|
# | binary step | 1 for $z > 0$, else 0 | 0 (none at 0) |
# | logistic $\sigma$ (sigmoid) | $1 / (1 + e^{-z})$ | $\sigma (1 - \sigma)$ |
# | tanh | $2\,\sigma(2z) - 1$ | $1 - \tanh^2$ |
# | ReLU | $\max(0, z)$ | 1 for $z > 0$, else 0 |
# | leaky ReLU, PReLU | $z$ for $z > 0$, else $a z$ ($a$ = 0.01; PReLU learns it) | 1 for $z > 0$, else $a$ |
# | ELU | $z$ for $z > 0$, else $\alpha (e^z - 1)$, $\alpha$ chosen | 1 for $z > 0$, else $\alpha e^z$ |
# | maxout | $\max(z_1, z_2)$, two weighted sums | 1 for the larger, 0 for the other |
#
# As code; `torch.where(a, b, c)` takes b where a is true and c elsewhere. `slope` asks autograd, to test the last column.

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

def slope(bend, x):
    """The derivative of `bend` at each place of x."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(bend(x).sum(), x)[0]

# %% tags=["fold", "not-drawn:fig-relu-nonlinearity-png", "not-drawn:fig-relu-deriv-png", "ledger:fig-relu-nonlinearity-png", "ledger:fig-relu-deriv-png", "ledger:err-relu-range", "ledger:err-sigmoid-derivatives-infinite", "ledger:err-tanh-gradient-range"]
x = torch.linspace(-4, 4, 400)  # even: no point at 0, where slopes jump
pair = torch.tensor([[[1.0]], [[-0.5]]]), torch.tensor([[0.0], [0.5]])  # weights, biases
panels = {"binary": binary, "logistic": logistic, "tanh": tanh, "ReLU": relu,
          "leaky ReLU, 0.1": lambda x: leaky_relu(x, 0.1),
          "PReLU, here 0.25": lambda x: leaky_relu(x, 0.25), "ELU": elu,
          "maxout, two lines": lambda x: maxout(x[:, None], *pair)[:, 0]}
fig, axes = plt.subplots(2, 4, figsize=(figures.WIDTH, 4.5), sharex=True, sharey=True)
for ax, (name, bend) in zip(axes.flat, panels.items(), strict=True):
    ax.axhline(0, color="0.8", linewidth=1)
    jump = 1 / 3 if name.startswith("maxout") else 0  # where the slope jumps, if it does
    for side in (x < jump, x > jump):
        ax.plot(x[side], bend(x[side]), color="C0", linewidth=2.5)
        ax.plot(x[side], slope(bend, x[side]), color="C1", linestyle="--")
    ax.set(title=name, ylim=(-1.3, 2.6), xticks=(-4, 0, 4), yticks=(-1, 0, 1, 2))
    ax.title.set_fontsize(11)
axes[0, 1].text(-0.2, 1.3, "value", color="C0", fontsize=12)
axes[0, 1].text(-3.8, 0.35, "slope", color=CENTRED, fontsize=12)
fig.supxlabel("pre-activation")
fig.suptitle("No slope here is above 1; that of the logistic function never exceeds ¼")
figures.save(fig, "fig-activation-gallery",
             caption="Eight activation functions (solid) and their slopes by autograd (dashed); "
                     "leaky ReLU with 0.1, so that its left side can be seen; maxout of x and "
                     "(1 − x)/2.",
             alt="The slope of the logistic function is a low hill, that of tanh a hill up to 1; "
                 "ReLU and its relatives have slope 1 on the right and little or none on the left.")

# %% tags=["fold"]
z = torch.randn(10_000, generator=torch.Generator().manual_seed(seed)) * 3
lines = [nn.Linear(1, 1), nn.Linear(1, 1)]  # the two sums of a maxout unit
stacked = [torch.stack([getattr(line, part).detach() for line in lines])
           for part in ("weight", "bias")]  # (2, 1, 1), (2, 1)
sums = [line(z[:, None])[:, 0].detach() for line in lines]
steeper = torch.where(sums[0] > sums[1], *stacked[0].flatten())
checked = {  # ours, torch's, the slope of the table
    "binary step": (binary, lambda z: 0 * z + torch.heaviside(z.detach(), torch.tensor(0.0)),
                    0 * z),
    "logistic": (logistic, torch.sigmoid, logistic(z) * (1 - logistic(z))),
    "tanh": (tanh, torch.tanh, 1 - tanh(z) ** 2),
    "ReLU": (relu, torch.relu, (z > 0).double()),
    "leaky ReLU": (leaky_relu, nn.LeakyReLU(), torch.where(z > 0, 1.0, 0.01)),
    "PReLU": (lambda z: leaky_relu(z, 0.25), nn.PReLU(init=0.25), torch.where(z > 0, 1.0, 0.25)),
    "ELU": (elu, nn.ELU(), torch.where(z > 0, 1.0, torch.exp(z))),
    "maxout": (lambda z: maxout(z[:, None], *stacked)[:, 0],
               lambda z: torch.maximum(*[line(z[:, None])[:, 0] for line in lines]), steeper)}
value_off = max((f(z) - g(z)).abs().max().item() for f, g, _ in checked.values())
slope_off = max((table - slope(g, z)).abs().max().item() for _, g, table in checked.values())
claims.check("eq-activations-extended",
             "At 10,000 places the eight functions differ from torch's by at most {value_off:.0e}, "
             "the slopes of the table from autograd's by at most {slope_off:.0e}.",
             value_off=(value_off, "<=", 1e-12), slope_off=(slope_off, "<=", 1e-12), varies=True)

# %%
exercises.predict("05.p3", "ReLU, but all weights a tenth as large. The gradient at layer 1:",
                  ("stays, its slopes are 0 or 1", "vanishes"))

# %% [markdown]
# (Through the binary step nothing comes back: its slope is 0 wherever it has one. So gradient descent cannot change the weights in front of it.)
#
# Slopes are only half of the matter. Going back one layer, the gradient meets a matrix and a slope: $\delta_{l} = f'(z_l) \odot W^\top \delta_{l+1}$ ($\delta$: the gradient at the pre-activations $z$; $\odot$: number by number). What do the two do to its length, in an untrained network whose layers are equally wide?
#
# - *The matrix.* Each number of $W^\top \delta$ is a sum of `width` terms, a weight times a number of $\delta$. Suppose that the weights, of deviation gain / √width, have nothing to do with $\delta$. Then the terms add like random steps, by their squares: the mean square of the sum is gain² times that of $\delta$, and the length is multiplied by about gain.
# - *The slopes.* Then each number is multiplied by the slope of its unit. Suppose that these two have nothing to do with each other either. Then the length is multiplied by the root of the mean square of the slopes.
#
# Together, a layer multiplies the length by about
#
# $$\text{gain} \times \text{root mean square of the slopes}$$
#
# (maxout: times √2, for two sums read each input). From layer 10 to layer 1 this happens nine times. For the logistic function at gain 1 that is at most $\tfrac14$, and over nine layers at most four millionths. For ReLU at gain √2 it is $\sqrt 2 \times \sqrt{1/2} = 1$, where half of the slopes are 1 and half 0.
#
# Does the law hold? We turn both knobs, slope and gain: seven functions, six gains. The factors of the nine layers differ a little, so we compare their *geometric mean*: the one number which, nine times as a factor, gives the same product.

# %% tags=["define", "ledger:emp-sigmoid-kills-gradients", "ledger:err-relu-prevents-vanishing"]
def predicted(network, images, gain):
    """gain times the root mean square of the slopes; geometric mean of all layers but the last."""
    x, factors = images, []
    for part, bend in zip(network, network[1:], strict=False):
        x = part(x)
        if isinstance(part, nn.Linear):
            sums = 2 if isinstance(bend, LargerOfTwo) else 1  # that read each input
            factors.append(gain * (sums * slope(bend, x).square().mean()).sqrt().item())
    return math.exp(np.log(factors[:-1]).mean())

# %%
turned = [bend for bend in BENDS if bend != "binary"]
gains = [0.14, 0.5, 1.0, 1.4, 2.0, 4.0]  # 0.14: a tenth of √2
law = {}
for bend in turned:
    for gain in gains:
        with runtime.seeded(seed):
            network = net(bend, depth, gain)
        norms = heard(network, batch, labels)
        measured = (norms[0] / norms[-1]) ** (1 / (depth - 1))  # geometric mean of a layer
        law[bend, gain] = predicted(network, batch, gain), measured

# %% tags=["fold"]
tenth = law["ReLU", 0.14][1] ** (depth - 1)
exercises.reveal("05.p3", "vanishes" if tenth < 1e-3 else "stays, its slopes are 0 or 1",
                 f"Layer 1 receives {tenth:.0e} of what the last hidden layer receives.")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.5))
ax.set(xscale="log", yscale="log", xlim=(0.025, 5), ylim=(0.025, 5),
       xlabel="gain × root mean square slope (maxout: × √2)", ylabel="measured factor a layer")
ax.plot([0.01, 10], [0.01, 10], color="0.7", linewidth=1.5)
for bend, marker in zip(turned, "osD^Pv*", strict=True):
    pairs = np.array([law[bend, gain] for gain in gains])
    ax.plot(*pairs.T, marker, color=COLOURS[bend], markersize=9, label=bend, alpha=0.8)
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
ax.set_title("Slope times gain tells what an untrained layer keeps of the gradient")
figures.save(fig, "emp-sigmoid-kills-gradients.law",
             caption=f"Each point: one untrained network of {depth} layers, with gains from 0.14 "
                     f"to 4; 256 pictures of {dataset}, one seed.",
             alt="All points lie along the diagonal from 0.03 to 3.")

# %% tags=["fold"]
off = max(abs(math.log(measured / guess)) for guess, measured in law.values())
claims.check("emp-sigmoid-kills-gradients.law",
             "In {count} untrained networks of {depth} layers the measured factor a layer is "
             "within a factor of {off:.2f} of gain times slope.", count=len(law), depth=depth,
             off=(math.exp(off), "<=", 1.35))
claims.check("err-relu-prevents-vanishing",
             "With a gain of 0.14 ReLU leaves layer 1 a share of {tenth:.0e}; the logistic "
             "function leaves {four:.2f} with a gain of 4, and {one:.0e} with 1.",
             tenth=(tenth, "<=", 1e-6), four=(law["logistic", 4.0][1] ** (depth - 1), ">=", 1e-3),
             one=(law["logistic", 1.0][1] ** (depth - 1), "<=", 1e-4))
deeper = many("ReLU", layers=20)
claims.check("emp-relu-gradient-0-or-1",  # the slopes themselves: the table above
             "Through 20 layers of ReLU at a gain of √2 the gradient changes by a factor of "
             "{kept:.2f}.",
             kept=(np.exp(np.log(deeper[:, 0] / deeper[:, -1])), "in", (1 / 3, 3)), seeds=5)
fine = torch.linspace(-30, 30, 600_001)
steep = slope(torch.sigmoid, fine)
claims.check("num-sigmoid-max-derivative",
             "The logistic slope is at most {most:.4f}, at {place:.1f}; at 10 it is {ten:.2e}. "
             "The slope of tanh is at most {high:.4f}; at 10 it is {low:.0e}.",
             most=(steep.max().item(), "~", 0.25, 1e-9),
             place=(abs(fine[steep.argmax()].item()), "~", 0.0, 1e-3),
             ten=(slope(torch.sigmoid, torch.tensor([10.0])).item(), "~", 4.5396e-5, 1e-9),
             high=(slope(torch.tanh, fine).max().item(), "~", 1.0, 1e-9),
             low=(slope(torch.tanh, torch.tensor([10.0])).item(), "~", 8.2446e-9, 1e-12))

# %% tags=["fold"]
def gradient_by_layer(bend, gain, layers):
    with runtime.seeded(seed):
        network = net(bend, layers, gain)
    norms = heard(network, batch, labels)
    figure, ax = plt.subplots(figsize=(figures.WIDTH, 3.2))
    ax.bar(range(1, layers + 1), norms / norms[-1], color=COLOURS.get(bend, "0.5"))
    lowest = min(1e-3, norms[0] / norms[-1] / 2) if norms[-1] else 1e-3
    ax.set(yscale="log", ylim=(max(lowest, 1e-12), 1e3), xlabel="hidden layer",
           ylabel="share of the gradient")
    ax.set_title(f"{bend}, gain {gain:g}: layer 1 gets {norms[0] / norms[-1]:.0e}")
    return figure, f"Layer 1 receives {norms[0] / norms[-1]:.1e} of the last layer's gradient."

widgets.explore(gradient_by_layer,
                bend=widgets.Choice("logistic", tuple(BENDS), "function",
                                    kept=("logistic", "tanh", "ReLU")),
                gain=widgets.Slider(4.0, 0.2, 8.0, 0.2, "gain", kept=(1.0, 1.4, 2.0, 4.0, 6.0)),
                layers=widgets.Slider(10, 2, 30, 1, "layers", kept=(5, 10)))

# %% [markdown]
# In these untrained networks neither knob decides alone: the *product* does. Small weights starve ReLU as small slopes starve the logistic function. With weights four times as large, thousands of times as much arrives through the logistic function (claim above). (In a live lab: turn both yourself, above.)
#
# **We now know** what the first figure shows: gain times slope, once a layer.
# **This does not show** that a network with a healthy gradient learns what it should. (The five layers without bend have slope 1 and gain 1, and draw one line. Nor does the law hold where neighbouring layers differ in width.)
#
# **Exercise 05.2.** The law in use. `slopes` are those of the units of one layer at many pictures; suppose that they are alike in all `layers` hidden layers, that these are equally wide, and that all weights have the deviation `gain` / √inputs. Which share of the last hidden layer's gradient arrives at the first? And with which gain would all of it arrive (slopes unchanged)?

# %%
def arriving(slopes, gain, layers):
    """(share that arrives at the first hidden layer, gain at which it would be 1)."""
    ...

exercises.check("05.2", arriving)

# %% [markdown]
# ## 3 · The same network, stretched and shifted
#
# "Simply can't do deep learning with sigmoid", say the lectures, and the first figure seems to agree.
# But look at the formulas: $\tanh(z) = 2\,\sigma(2z) - 1$, with $\sigma$ the logistic function. So every tanh network *can be* rewritten with logistic units: the 2 inside goes into the weights before the bend, the 2 and the −1 outside into the weights and biases behind it.

# %% tags=["define"]
@torch.no_grad()
def as_logistic(network):
    """A network of Linear and Tanh, rewritten in place with Sigmoid: the same function."""
    layers = [part for part in network if isinstance(part, nn.Linear)]
    for layer in layers[1:]:  # reads 2 s - 1 instead of s
        layer.bias -= layer.weight.sum(1)  # the −1; half the sum of the new weights
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
# Two things have changed, and we can have each by itself:
# - **scale**: weights are four times as large (twice in the first and the last layer), which makes up for a slope of at most ¼ instead of 1;
# - **centre**: biases of −½ · (sum of the unit's new weights) take away the ½ around which logistic outputs lie, so that the next pre-activations lie around 0 again.
#
# Four logistic networks, then: as usual, one change, the other, both (which computes what a tanh network computes). And one with BatchNorm (lesson 07), which centres and scales every pre-activation over the batch. (BatchNorm gets half as many epochs: its steps cost more.)

# %%
exercises.predict("05.p4", "Which logistic networks reach 90 % in the test in ten epochs?",
                  ("none", "both changes or BatchNorm", "all that are centred",
                   "all that are scaled", "another set"))

# %% tags=["define"]
@torch.no_grad()
def biased(network, times):
    """Biases of `times` the sum of the unit's weights, wherever logistic outputs are read."""
    for layer in [part for part in network if isinstance(part, nn.Linear)][1:]:
        layer.bias.copy_(times * layer.weight.sum(1))
    return network

# %%
starts = {"as usual": lambda: net("logistic"),
          "centred": lambda: biased(net("logistic"), -0.5),
          "scaled": lambda: biased(as_logistic(net("tanh")), 0.0),  # as both; biases 0
          "both": lambda: as_logistic(net("tanh")),
          "BatchNorm": lambda: net("logistic", normalise=True)}

def learning(names, passes):
    """Test accuracy after each epoch, for each seed of each network; all are trained at once."""
    makes = iter([starts[name] for name in names for _ in seeds])
    result = training.repeat(
        lambda: next(makes)(), train, test, seeds=len(names) * list(seeds), epochs=passes,
        batch_size=64, drop_last=True, progress=False,
        optimizer=lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9))
    curves = [np.array(history["valid_accuracy"]) for history in result]
    return {name: curves[i * runs:(i + 1) * runs] for i, name in enumerate(names)}

right = learning(["as usual", "centred", "scaled", "both"], 2 * epochs)
right |= learning(["BatchNorm"], epochs)

# %% tags=["fold", "ledger:err-sigmoid-deep-impossible"]
then = {name: np.array([r[min(epochs, len(r)) - 1] for r in rows]) for name, rows in right.items()}
reach = {name for name, values in then.items() if values.mean() >= 0.9}
answers = {frozenset(): "none", frozenset(("both", "BatchNorm")): "both changes or BatchNorm",
           frozenset(("both", "BatchNorm", "centred")): "all that are centred",
           frozenset(("both", "BatchNorm", "scaled")): "all that are scaled"}
exercises.reveal("05.p4", answers.get(frozenset(reach), "another set"),
                 ", ".join(f"{name} {values.mean():.0%}" for name, values in then.items()) + ".")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.3))
drawn = {"as usual": ("C3", "-"), "centred": ("0.1", (0, (1, 1))), "scaled": ("C3", "-"),
         "both": ("C3", (0, (4, 1.5))), "BatchNorm": (VIOLET, "-")}
for name, (colour, style) in drawn.items():
    rows = np.array(right[name])  # (seeds, epochs)
    over = range(1, rows.shape[1] + 1)
    ax.plot(over, rows.mean(0), color=colour, linestyle=style,
            linewidth=1.5 if name == "as usual" else 3)
    ax.fill_between(over, rows.min(0), rows.max(0), color=colour, alpha=0.2, linewidth=0)
ax.axvline(epochs, color="0.35", linestyle=":", linewidth=1.5)
ax.text(epochs * 1.02, 0.28, f"{epochs} epochs", fontsize=12, color="0.35")
ax.text(epochs * 1.2, 0.13, "thin: as usual; dotted: centred only", color="0.35", fontsize=13)
ax.text(epochs * 1.55, 0.36, "scaled only", color="C3", fontsize=13)
ax.text(epochs * 1.05, 1.02, "scaled and centred: a tanh network", color="C3", fontsize=13)
ax.text(epochs * 0.45, 1.02, "BatchNorm", color=VIOLET, fontsize=13)
ax.set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1.12), xlim=(1, 2 * epochs))
ax.set_xticks(sorted({1, max(1, epochs // 2), epochs, 3 * epochs // 2, 2 * epochs}))
ax.set_title(f"Scale lets {depth} logistic layers learn; with the centre they are quick")
figures.save(fig, "emp-cannot-train-deep-sigmoid",
             caption=f"Logistic networks of {depth} hidden layers, learning rate 0.1, momentum "
                     f"0.9; {dataset}; mean and range of {runs} seeds; BatchNorm: {epochs} epochs.",
             alt="Scaled and centred, or with BatchNorm, it learns in a few epochs; scaled only it "
                 "nears 90 % in twenty; as usual and centred only it guesses to the end.")

# %% tags=["fold"]
claims.check("emp-cannot-train-deep-sigmoid",
             "After {epochs} epochs a logistic network of {depth} layers is right in {usual:.0%} "
             "as usual, in {centred:.0%} centred only, in {scaled:.0%} scaled only, in {both:.0%} "
             "with both, in {norm:.0%} with BatchNorm.",
             epochs=epochs, depth=depth, usual=(then["as usual"], "<=", 0.2),
             centred=(then["centred"], "<=", 0.2), scaled=(then["scaled"], "<=", 0.9),
             both=(then["both"], ">=", 0.9), norm=(then["BatchNorm"], ">=", 0.88),
             seeds=runs, on="every")
late = {name: np.array([r[-1] for r in rows]) for name, rows in right.items()}
claims.check("emp-cannot-train-deep-sigmoid.longer",
             "After {epochs} epochs: {usual:.0%} as usual, {centred:.0%} centred only, "
             "{scaled:.0%} scaled only, {both:.0%} with both.",
             epochs=2 * epochs, usual=(late["as usual"], "<=", 0.2),
             centred=(late["centred"], "<=", 0.2), scaled=(late["scaled"], ">=", 0.6),
             both=(late["both"], ">=", 0.9), seeds=runs, on="every")
claims.check("err-sigmoid-deep-impossible",
             "Rewritten, the scores differ from those of tanh by at most {apart:.0e}.",
             apart=(apart, "<=", 1e-10), varies=True)

# %% [markdown]
# In these runs (one learning rate, three seeds, at most 20 epochs) none of the four learns without the scale, and with the scale the centre makes it quick. (BatchNorm brings a scale of its own.)
# In trials on other seeds, not repeated here, the order was the same at every rate tried from 0.01 to 0.3: with both changes networks learned, scaled only they were slower, as usual and centred only they guessed (at rates of 1 and 5 too; but at 1 those with both changes guessed as well).
#
# What is wrong before the first step? We look in both directions: how much of the gradient arrives at layer 1, and by how much the outputs of the last hidden layer differ from picture to picture.

# %% tags=["fold"]
def outset(network):
    """Share of the gradient at layer 1, deviation over the pictures, mean slope at the end."""
    norms = heard(network, batch, labels)
    with torch.no_grad():
        outputs = network[:-1](batch)  # (pictures, units), logistic
    slopes = outputs * (1 - outputs)
    return norms[0] / norms[-1], outputs.std(dim=0).mean().item(), slopes.mean().item()

four = {}  # network: (3 measurements, seeds)
print("untrained           gradient at layer 1,  difference     mean slope,   test accuracy,")
print(f"                    share of the last     of pictures    last layer    {epochs} epochs")
for name in ("as usual", "centred", "scaled", "both"):
    found = []
    for number in seeds:
        with runtime.seeded(number):
            found.append(outset(starts[name]()))
    four[name] = np.transpose(found)
    arrives, differ, flat = four[name].mean(axis=1)
    print(f"{name:20}{arrives:<22.0e}{differ:<15.0e}{flat:<14.2f}{then[name].mean():.0%}")
claims.check("emp-cannot-train-deep-sigmoid.outset",
             "Untrained, {usual:.0e} of the gradient arrives at layer 1 as usual, {centred:.0e} "
             "centred only, {scaled:.0e} scaled only, {both:.0e} with both.",
             usual=(four["as usual"][0], "<=", 1e-4), centred=(four["centred"][0], "<=", 1e-4),
             scaled=(four["scaled"][0], "in", (1e-3, 0.1)), both=(four["both"][0], ">=", 0.1),
             seeds=runs, on="every")
claims.check("emp-cannot-train-deep-sigmoid.centre",
             "From scaled only to both the mean slope in the last hidden layer rises from "
             "{flat:.2f} to {steep:.2f}, and pictures differ {times:.0f} times as much.",
             flat=(four["scaled"][2], "<=", 0.2), steep=(four["both"][2], ">=", 0.2),
             times=(four["both"][1] / four["scaled"][1], ">=", 10), seeds=runs, on="every")

# %% [markdown]
# (Table: means of the seeds, one line a network.) Both directions pass the same matrices and the same slopes, so both shrink together. As usual hardly anything about the picture reaches the scores, and hardly anything about the error reaches layer 1. Which of the two stops the training this table does not separate.
# And the centre? Behind an output around ½ the next pre-activation is off by ½ · (sum of the weights), for every picture alike. With large weights that goes along with flatter slopes. Taken away, with nothing else changed, the slopes are nearly ¼ again.
#
# **We now know** that the logistic function is no worse than tanh as a *curve*: stretched and shifted by weights and biases it is tanh. What fails here is its scale at the start, a slope of at most ¼; its centre, an output around ½, makes ten layers slow.
# **This does not show** that one should use it: tanh has the better scale and centre without extra work. Nor which of its two works BatchNorm owes its success to.
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
# "ReLU converges six times faster than tanh": this number is from one figure of the AlexNet paper, where a four-layer convolutional network learns CIFAR-10.
# We let five of the functions run: four hidden layers, four learning rates, and count the epochs until 97 % of the training pictures are named right (each judged at its turn, while the weights change). The logistic function runs twice, the second time with weights four times as large (section 3). (PReLU and maxout stay out: the one starts as a leaky ReLU, the other has twice the weights.)

# %%
exercises.predict("05.p5", "Each at the best rate tried, to 97 % of the digits ReLU is:",
                  ("over 3.5 times as fast as tanh", "1.5 to 3.5 times as fast",
                   "within 1.5 times of tanh", "more than 1.5 times slower"))

# %% tags=["define", "fold"]
def each_rate(make, learning_rates, passes, valid=None, momentum=0.0, numbers=None, **options):
    """Train at each rate with each of `numbers` (seeds): all at once, one rate after the other."""
    numbers = seeds if numbers is None else numbers
    return training.repeat(
        make, train, valid, epochs=passes, batch_size=64, drop_last=True, progress=False,
        seeds=len(learning_rates) * list(numbers), **options,
        learning_rates=np.repeat(learning_rates, len(numbers)).tolist(),
        optimizer=lambda weights, lr: torch.optim.SGD(weights, lr=lr, momentum=momentum))

def arrived(history):
    """The first epoch with a training accuracy of `goal`; inf where there is none."""
    above = np.flatnonzero(np.array(history["train_accuracy"]) >= goal) if history else []
    return above[0] + 1 if len(above) else math.inf

def whole(race, names, columns):
    """Epochs of all functions and rates (functions, rates, runs); nan: not run."""
    tables = np.full((len(names), len(columns), runs), np.nan)
    for row, name in enumerate(names):
        at = len(columns) - len(race[name]) if name.startswith("logistic") else 0
        tables[row, at:at + len(race[name])] = race[name]  # the last columns, or the first
    return tables

# For section 5.
def two_layers():
    return nn.Sequential(nn.Flatten(), linear(inputs, 100, 2**0.5), nn.ReLU(),
                         linear(100, 100, 2**0.5), nn.ReLU(), linear(100, classes, 1.0))

@torch.no_grad()
def silent_second(network):
    return ~(network[:4](every) > 0).any(dim=0)

def in_second_layer():
    """ReLUs of a second layer: dead after five epochs at a rate of 1; woken by five at 0.1."""
    hurt = each_rate(two_layers, [1.0], 5).models
    copies_left = iter(copy.deepcopy(hurt))
    healed = each_rate(lambda: next(copies_left), [0.1], 5).models
    was, now = ([silent_second(network) for network in models] for models in (hurt, healed))
    woken = sum((a & ~b).sum().item() for a, b in zip(was, now, strict=True))
    return sum(map(torch.sum, was)).item(), woken

@torch.no_grad()
def without_leak(network, which):
    """Test accuracy if the hidden units `which` (U,) give 0 instead of 0.01 z."""
    pictures, truth = next(test.batches(len(test)))
    sums = network[1](network[0](pictures))
    outputs = torch.where((sums > 0) | ~which, F.leaky_relu(sums), 0.0)
    return (network[3](outputs).argmax(1) == truth).double().mean().item()

def cost(networks, units):
    """Points that each leaky network loses at once if these of its units lose their leak."""
    none = torch.zeros(100, dtype=bool)
    return np.array([100 * (without_leak(network, none) - without_leak(network, units(network)))
                     for network in networks])

def behind(one, other, when):
    """Points of accuracy by which `one` is behind `other`; when: 0 at once, 1 after going on."""
    return 100 * (later[other][when] - later[one][when])

def with_bias(*biases):
    """Dead share of the hidden units after five epochs at a rate of 1: (biases, 8 seeds)."""
    begin = iter([bias for bias in biases for _ in range(8)])
    result = training.repeat(
        lambda: shallow("ReLU", next(begin)), train, epochs=5, batch_size=64, drop_last=True,
        seeds=len(biases) * list(range(seed, seed + 8)), progress=False,
        optimizer=lambda weights: torch.optim.SGD(weights, lr=1.0))
    dead = [silent(network, every).double().mean().item() for network in result.models]
    return np.reshape(dead, (len(biases), 8))

def at_birth(bias, gain, layer=10):
    """A layer of ten untrained ones: dead units, units always on, difference of the pictures."""
    found = []
    for number in range(seed, seed + 8):
        with runtime.seeded(number):
            network = net("ReLU", 10, gain)
        for part in network[:-1]:
            if isinstance(part, nn.Linear):
                nn.init.constant_(part.bias, bias)
        with torch.no_grad():
            outputs = network[:1 + 2 * layer](every)  # (pictures, units)
        on = (outputs > 0).double()
        found.append([1 - on.amax(0).mean(), on.amin(0).mean(),
                      outputs.std(dim=0).mean() / outputs.mean()])
    return np.array(found).T  # (3, seeds)

# %% tags=["ledger:prac-activation-choice"]
def arrivals(bend, gain=None, passes=epochs, tried=rates):
    """Epochs until `goal`: (rates, runs)."""
    histories = each_rate(lambda: deep(bend, 4, gain, width // 2, inputs, classes),
                          tried, passes, momentum=0.9)
    return np.reshape([arrived(history) for history in histories], (len(tried), runs))

race = {bend: arrivals(bend) for bend in ("tanh", "ReLU", "leaky ReLU", "ELU")}
columns = [*rates, 3 * rates[-1]]  # the logistic function likes large rates
race["logistic, weights × 4"] = arrivals("logistic", 4.0, tried=columns[-3:])
race["logistic"] = arrivals("logistic", passes=5 * epochs, tried=columns[-3:])  # needs longer
best = {name: table[table.mean(axis=1).argmin()] for name, table in race.items()}  # (runs,)
times = best["tanh"].mean() / best["ReLU"].mean()

# %% tags=["fold"]
exercises.reveal("05.p5", "more than 1.5 times slower" if times < 1 / 1.5 else
                 "within 1.5 times of tanh" if times < 1.5 else
                 "1.5 to 3.5 times as fast" if times < 3.5 else "over 3.5 times as fast as tanh",
                 f"tanh needs {times:.1f} times the epochs of ReLU.")
names = sorted(race, key=lambda name: best[name].mean())
tables = whole(race, names, columns)
shown = tables.mean(axis=2)  # (functions, rates)
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.5))
plots.heat(ax, np.nan_to_num(np.clip(shown, 4, 12), nan=12), rows=names, format=None,
           columns=[f"{rate:g}" for rate in columns], cmap="viridis_r", limits=(4, 12))
for (row, column), value in np.ndenumerate(shown):
    low, high = tables[row, column].min(), tables[row, column].max()
    limit = 5 * epochs if names[row] == "logistic" else epochs
    text = "not run" if np.isnan(value) else f"> {limit}"
    if np.isnan(value):
        ax.add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, color="0.85"))
    elif np.isfinite(value):
        text = f"{value:.1f}\n({low:.0f}–{high:.0f}{f' of {limit}' if limit > epochs else ''})"
    ax.text(column, row, text, ha="center", va="center", fontsize=11.5, linespacing=0.95,
            color="white" if value > 8 else "0.1")
ax.set_aspect("auto")
ax.tick_params(labelsize=13)
ax.set(xlabel=f"learning rate; in the fields: epochs to {goal:.0%}, mean and range")
fig.suptitle("tanh keeps up with ReLU; the logistic function, as usual, does not")
figures.save(fig, "emp-relu-faster-than-tanh-6x",
             caption=f"Epochs until {goal:.0%} of the training pictures are right: {dataset}, four "
                     f"hidden layers of {width // 2}, SGD with momentum 0.9, batches of 64; "
                     f"{runs} seeds. >: at least one seed does not arrive in so many epochs.",
             alt="At the best rate tried all arrive in four to eight epochs but the logistic "
                 "function as usual, which needs more than thirty.")

# %% tags=["fold"]
claims.check("emp-relu-faster-than-tanh-6x",
             "To 97 % of the digits, each at the best rate tried, tanh needs {tanh:.1f} epochs, "
             "ReLU {relu:.1f}, leaky ReLU {leaky:.1f}, ELU {elu:.1f}, the logistic "
             "function with weights times 4 {four:.1f}.",
             **{key: (best[name], "<=", 10) for key, name in
                (("tanh", "tanh"), ("relu", "ReLU"), ("leaky", "leaky ReLU"), ("elu", "ELU"),
                 ("four", "logistic, weights × 4"))}, seeds=runs, on="every")
claims.check("emp-relu-faster-than-tanh-6x.ratio",
             "tanh needs {times:.1f} times the epochs of ReLU; the logistic function, as usual, "
             "at the best of three rates {slow:.1f} times ({count:.0f} epochs).",
             times=(times, "in", (0.5, 1.3)),
             slow=(best["logistic"].mean() / best["ReLU"].mean(), ">=", 2.5),
             count=best["logistic"].mean())
claims.check("emp-leaky-relu-never-dies.speed",
             "Leaky ReLU needs {ratio:.2f} times the epochs of ReLU.",
             ratio=(best["leaky ReLU"].mean() / best["ReLU"].mean(), "in", (0.7, 1.4)))
claims.quoted("emp-relu-faster-than-tanh-6x.paper",
              "A four-layer convolutional neural network with ReLUs (solid line) reaches a 25% "
              "training error rate on CIFAR-10 six times faster than an equivalent network with "
              "tanh neurons (dashed line). [...] The magnitude of the effect demonstrated here "
              "varies with network architecture, but networks with ReLUs consistently learn "
              "several times faster than equivalents with saturating neurons.",
              "Krizhevsky et al. 2012, figure 1")

# %% [markdown]
# Along a row the numbers change too, and the best rate is not the same in every row: who compares two functions at *one* learning rate also compares how well that rate suits each.
# Each start of the weights is a choice too: with weights four times as large the logistic function keeps up at a rate of 0.3, without being centred. At 0.1 and at 0.9 not every seed arrives in ten epochs.
# The rates are a factor of three apart. (In a trial on other seeds, at rates between them too, tanh stayed ahead of ReLU.)
#
# **We now know** that in this race ReLU is not faster than tanh, each at its best of four rates, and that the logistic function, started as usual, is several times slower at its best of three.
# **This does not show** that the paper is wrong: other pictures, convolutions, a harder goal, and another start of the weights. The paper, too, chose a learning rate for each network separately, to make training as fast as possible. It says itself that the size of the effect varies; that ReLU is "consistently" faster is not what this race shows.
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
# A ReLU whose pre-activation is negative for *every* training picture puts out 0, and its slope is 0 for every picture: its weights get no gradient. In the first hidden layer, with plain SGD, nothing else can move it: it is **dead**.
# One hidden layer of 100 units, no momentum, five learning rates. We count the units that are negative for all pictures: call them *silent*. (A silent leaky ReLU still has its slope of 0.01.)

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
speeds = [0.1, 0.5, 1.0, 2.0, 4.0]  # learning rates, from harmless to huge

def trained(make, learning_rates, **options):
    """Five epochs at each rate: the networks, their silent share and test accuracy."""
    result = each_rate(make, learning_rates, 5, test, **options)
    share = [silent(network, every).double().mean().item() for network in result.models]
    right = result.last("valid_accuracy")
    right = np.nan_to_num(right, nan=1 / classes)  # a network that broke (nan) counts as guessing
    shape = len(learning_rates), -1
    return result.models, np.reshape(share, shape), np.reshape(right, shape)

alive = trained(lambda: shallow("ReLU"), speeds)
leaky = trained(lambda: shallow("leaky ReLU"), speeds)

# %% [markdown]
# What kills them? An experiment: keep everything, the learning rate too, and only limit the *length of the gradient* to ½ (`clip_gradient`).

# %%
exercises.predict("05.p6", "At a learning rate of 2, with the gradient's length limited to ½, die:",
                  ("as many", "about half as many", "hardly any"))

# %%
clipped = trained(lambda: shallow("ReLU"), speeds[2:], clip_gradient=0.5)  # the large rates
at = speeds.index(2.0)  # its row; among the large rates it is at - 2
died, spared = alive[1][at].mean(), clipped[1][at - 2].mean()

# %% tags=["fold"]
exercises.reveal("05.p6", "hardly any" if spared < 0.1 * died else "about half as many"
                 if spared < 0.75 * died else "as many",
                 f"Without limit {died:.0%} of the units died, with it {spared:.0%}.")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.0))
for name, result, colour, style in (("ReLU", alive, "C0", "-"), ("leaky ReLU", leaky, "C2", "-"),
                                    ("ReLU, gradient\nlimited", clipped, "C0", "--")):
    over = speeds[-len(result[1]):]
    ax.plot(over, result[1].mean(axis=1), "o", color=colour, linestyle=style, label=name)
    ax.fill_between(over, result[1].min(axis=1), result[1].max(axis=1), color=colour,
                    alpha=0.2, linewidth=0)
ax.set(xscale="log", xlabel="learning rate", ylabel="silent units", ylim=(-0.04, 1.08))
ax.set_xticks(speeds, [f"{rate:g}" for rate in speeds])
ax.minorticks_off()
ax.legend(loc="upper left", fontsize=13)
ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
ax.set_title("Large steps silence units, with a leak too; limited ones hardly any")
figures.save(fig, "emp-relu-dead-units",
             caption=f"One hidden layer of 100 units after five epochs, {dataset}, SGD without "
                     f"momentum, batches of 64; mean and range of {runs} seeds.",
             alt="Above a learning rate of 1 most units fall silent, with leaky ReLU too; with a "
                 "limited gradient hardly any.")
claims.check("emp-relu-dead-units",
             "After five epochs {few:.1%} of the ReLUs are dead at a learning rate of 0.1, "
             "{most:.0%} at 2, and {clipped:.1%} at 2 with the gradient limited to ½; then "
             "{right:.0%} of the test pictures are named right.",
             few=(alive[1][0], "<=", 0.05), most=(alive[1][at], ">=", 0.5),
             clipped=(clipped[1][at - 2], "<=", 0.05), right=(clipped[2][at - 2], ">=", 0.9),
             seeds=runs, on="every")

# %% [markdown]
# The learning rate is the same, only the length of the steps is limited: the long steps killed. They threw the weights to where no picture turns the unit on.
#
# And do the units come back? Twelve networks of each kind, trained at the rate of 2, go on for five epochs at a harmless 0.1. To see what the leak does, we also exchange it: dead ReLUs get a leak before they go on, and leaky ones lose it.
# In a second hidden layer dead ReLUs *can* come back without a leak, for the layer below still changes their inputs; the last claim below counts them.

# %%
twelve = range(seed, seed + 12)

def go_on(models, bend):
    """Networks go on with `bend` at 0.1: accuracy before and after, units that woke; networks."""
    begun = [copy.deepcopy(network) for network in models]
    for network in begun:
        network[2] = BENDS[bend]()
    before = [training.evaluate(network, test).accuracy for network in begun]
    copies_left = iter(copy.deepcopy(begun))  # each goes on from its copy
    networks, _, after = trained(lambda: next(copies_left), [0.1], numbers=2 * list(twelve))
    woken = [(silent(old, every) & ~silent(new, every)).sum().item()
             for old, new in zip(begun, networks, strict=True)]
    return np.array([before, after[0], woken]), networks  # (3, networks)

# %% tags=["fold"]
hurt, quiet = {}, {}  # networks; how many silent units there are before going on
for bend in ("ReLU", "leaky ReLU"):
    hurt[bend], part, _ = trained(lambda: shallow(bend), [2.0], numbers=twelve)
    quiet[bend] = part.sum() * 100
on = {bend: go_on(hurt["ReLU"] + hurt["leaky ReLU"], bend) for bend in hurt}
later = {(start_bend, bend): on[bend][0][:, 12 * row:12 * (row + 1)]  # begun as, going on as
         for row, start_bend in enumerate(hurt) for bend in hurt}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.2))
for place, ((start_bend, bend), (before, after, back)) in enumerate(later.items()):
    ax.plot([place - 0.2, place + 0.2], [before.mean(), after.mean()], color=COLOURS[bend],
            linewidth=4)
    for x, y, face in ((place - 0.2, before, "white"), (place + 0.2, after, None)):
        ax.plot(np.full(12, x), y, "o", color=COLOURS[bend], markersize=8, markerfacecolor=face)
    woke = f"woke: {back.sum():.0f} of {quiet[start_bend]:.0f}"
    ax.text(place, 0.02, woke, ha="center", fontsize=12)
ax.set_xticks(range(4), ["ReLU\nas it is", "ReLU,\nnow leaky", "leaky,\nnow ReLU",
                         "leaky\nas it is"], fontsize=13)
ax.axhline(1 / classes, color="0.35", linestyle=":", linewidth=1.5)
ax.text(3.3, 1 / classes + 0.02, "guessing", fontsize=12)
ax.set(xlim=(-0.5, 3.9), ylim=(0, 1.05), ylabel="test accuracy")
ax.text(-0.4, 0.97, "open: at once; full: 5 epochs later", fontsize=12)
ax.set_title("In the end the leak helps, though hardly a silent unit wakes")
figures.save(fig, "emp-leaky-relu-never-dies",
             caption="Networks trained for five epochs at a rate of 2; then the function is "
                     "exchanged, or not (open), and they go on for five epochs at 0.1 (full); "
                     "twelve seeds, lines: means. Woke: silent units, silent no longer at the end.",
             alt="Networks that were trained leaky and stay so are right most often; without "
                 "their leak their mean falls at once and recovers in part; with a leak given to "
                 "dead ReLUs it is lower at once and higher at the end than without.")

# %% tags=["nbval-varies", "fold"]
leaky_on, leak_lost = ("leaky ReLU", "leaky ReLU"), ("leaky ReLU", "ReLU")
dead_on, leak_given = ("ReLU", "ReLU"), ("ReLU", "leaky ReLU")
claims.check("emp-leaky-relu-never-dies.recovery",
             "Leaky networks go on to {after:.0%} right. Without their leak they are {less:.0f} "
             "points worse at once, and {then:.0f} after going on.", after=later[leaky_on][1],
             less=(behind(leak_lost, leaky_on, 0), ">=", 10),
             then=(behind(leak_lost, leaky_on, 1), ">=", 5), seeds=12)
claims.check("emp-leaky-relu-never-dies.given",
             "Networks of dead ReLUs go on to {after:.0%} right. Given a leak they are {harm:.0f} "
             "points worse at once, and {given:.0f} better after going on.",
             after=later[dead_on][1], harm=(behind(leak_given, dead_on, 0), ">=", 2),
             given=(behind(dead_on, leak_given, 1), ">=", 2), seeds=12)
claims.check("emp-leaky-relu-never-dies.whose",
             "Taken from the silent units alone, the leak costs leaky networks {silent:.0f} points "
             "at once; from the others alone, {others:.0f}. Those that were given one and went on "
             "lose {again:.0f} if their silent units lose it again.",
             silent=(cost(hurt["leaky ReLU"], lambda network: silent(network, every)), ">=", 10),
             others=cost(hurt["leaky ReLU"], lambda network: ~silent(network, every)),
             again=(cost(on["leaky ReLU"][1][:12], lambda network: silent(network, every)),
                    ">=", 3), seeds=12)
claims.check("emp-leaky-relu-never-dies",
             "In five epochs at 0.1, of {units:.0f} silent leaky units {back:.0f} come back, of "
             "{dead:.0f} dead ReLUs that get a leak {given:.0f}.", units=quiet["leaky ReLU"],
             back=(later["leaky ReLU", "leaky ReLU"][2].sum(), "<=", 0.1 * quiet["leaky ReLU"]),
             dead=quiet["ReLU"],
             given=(later["ReLU", "leaky ReLU"][2].sum(), "<=", 0.1 * quiet["ReLU"]))
second, woken = in_second_layer()
claims.check("emp-leaky-relu-never-dies.second",
             "Of {second} dead ReLUs in a second hidden layer (trained at a rate of 1) {woken} "
             "come back in five epochs at 0.1.", second=second, woken=(woken, ">=", 1))

# %% [markdown]
# How can a leak help, if silent units hardly come back? They work on with a hundredth of the slope. Take the leak from the silent units alone, with the same weights, and the networks fall at once. Where all ReLUs get a leak, the dead ones disturb at first; five epochs later these networks are ahead of those without, though still far behind those that were leaky from the start. They, too, have come to lean on units that are still silent: without their leak they fall again. (How much a leak given later gains depends on the seeds: in trials on others, from hardly anything to a little more than here, in means of twelve or sixteen networks.) (Those that were leaky from the start have one more advantage: fewer of their units fell silent, first figure of this section.)
#
# The lectures start biases at 0.01, so that more units are on. Does it help? Two cases: against steps that are too long, and in a deep network before any step.
# In the second, unbiased ReLU units are born dead at the same rate with large weights as with small ones: if all weights are a tenth as large, all sums shrink and no sign changes. A bias of 0.01 counts only where the sums have become that small, hence "small weights".

# %% tags=["fold"]
none, hundredth, one = with_bias(0.0, 0.01, 1.0)
claims.check("emp-positive-bias-prevents-dead",
             "Against large steps biases do not help: at a learning rate of 1, {none:.0%} die "
             "with biases from 0, {hundredth:.1%} more from 0.01, {one:.0%} more from 1 (points).",
             none=none, hundredth=(hundredth - none, "in", (-0.05, 0.05)),
             one=(one - none, ">=", 0.1), seeds=8, on="mean")

plain, small = at_birth(0.0, None), at_birth(0.0, 0.14)
lifted = at_birth(0.01, 0.14)
claims.check("emp-positive-bias-prevents-dead.start",
             "In the last of ten untrained layers {usual:.0%} are dead for all training pictures "
             "at a gain of √2, {none:.0%} at 0.14. Biases of 0.01 make that {large:.0%} at √2 and "
             "{hundredth:.0%} at 0.14.", usual=(plain[0], ">=", 0.03),
             none=(small[0], ">=", 0.03), large=at_birth(0.01, None)[0],
             hundredth=(lifted[0], "<=", 0.01), seeds=8, on="mean")
claims.check("emp-positive-bias-prevents-dead.deaf",
             "But at 0.14 with these biases {always:.0%} of its units are on for every picture "
             "({before:.0%} without biases), and their outputs differ from picture to picture by "
             "{differ:.0e} of their mean ({apart:.1f} without). In layer 1 {first:.0%} are on for "
             "every picture, in layer 3 {third:.0%}.",
             always=(lifted[1], ">=", 0.9), before=small[1], differ=(lifted[2], "<=", 1e-4),
             apart=small[2], first=(at_birth(0.01, 0.14, 1)[1], "<=", 0.3),
             third=(at_birth(0.01, 0.14, 3)[1], ">=", 0.9), seeds=8, on="mean")

# %% [markdown]
# So with small weights biases of 0.01 are no cure: in the last layer none is dead, but from the third layer on nearly every one is on for every picture. Those layers bend no more, they are one matrix (section 1), and at their end the pictures are as good as the same. What small weights lack is gain (section 2); and the units that are born dead at a gain of √2, biases of 0.01 do not save.
#
# **We now know** what kills in this training: steps too long. Limit them and the same learning rate of 2 kills hardly any unit. (Some units are born dead in deep layers, before any step.) A leak keeps only some from falling silent, and wakes hardly any in five epochs; it lets them work on, and networks that had it from the start need that.
# **This does not show** any fixed share: 75 % of the units, or 40 %, is one learning rate, one network. And zeros as such are usual; a unit is dead only if it is zero for *all* pictures.
#
# **Exercise 05.5.** At one step of SGD with learning rate $\eta$ the pre-activations `z` (N,) of a unit become $z - \eta\,$`fall` (N,). `fall` is by how much the pre-activation of each picture falls at $\eta$ = 1. What is the smallest $\eta \ge 0$ at which the unit is dead after the step? If a picture that is on ($z > 0$) does not fall, no rate is deadly: answer `math.inf`. Pictures with $z \le 0$ may be taken to fall.

# %%
def deadly_rate(z, fall):
    """The smallest rate, at least 0, with z - rate * fall <= 0 for all pictures; or math.inf."""
    ...

exercises.check("05.5", deadly_rate)

# %% [markdown]
# ## Also in the lectures
#
# **Saturation and rounding.** Where the logistic function or tanh is flat, hardly any gradient passes. The notes let their values reach the ends of their ranges; only rounding does that.
# **Cost.** ReLU takes less time than the smooth functions, and maxout has twice the weights. PReLU learns its slope; ELU's α is chosen.

# %% tags=["fold"]
wide = 10 * torch.randn(100_000, generator=torch.Generator().manual_seed(seed))
flat = {name: (slope(bend, wide).abs() < 1e-3).double().mean().item()
        for name, bend in {"logistic": torch.sigmoid, "tanh": torch.tanh}.items()}
narrow = (slope(torch.sigmoid, wide / 10) < 1e-3).double().mean().item()
claims.check("emp-sigmoid-kills-gradients",
             "Of normal random numbers with deviation 10, {logistic:.0%} saturate the logistic "
             "function (slope below 0.001) and {tanh:.0%} saturate tanh; with deviation 1 "
             "{narrow:.0%} saturate the logistic function.",
             logistic=(flat["logistic"], ">=", 0.4), tanh=(flat["tanh"], ">=", 0.6),
             narrow=(narrow, "<=", 0.001))
claims.check("emp-tanh-still-saturates",
             "For normal random numbers of mean 0 the mean output of tanh is {mean:.3f}: it is "
             "centred. It saturates all the same: its slope at 5 is "
             "{five:.1e}.", mean=(torch.tanh(wide / 10).mean().item(), "~", 0.0, 0.01),
             five=(slope(torch.tanh, torch.tensor([5.0])).item(), "~", 1.8e-4, 2e-6))
s16, s17, minus = torch.sigmoid(torch.tensor([16.0, 17.0, -17.0], dtype=torch.float32))
claims.check("err-sigmoid-tanh-closed-range",
             "In exact arithmetic the logistic function reaches neither 0 nor 1. In float32 it is "
             "{one:.0f} at 17, so that the slope as s(1 − s) is {zero:.0f} there (at 16 still "
             "{last:.1e}); written s(x)s(−x) it is {other:.1e}: the zero is rounding.",
             one=(s17.item(), "==", 1.0), zero=((s17 * (1 - s17)).item(), "==", 0.0),
             last=((s16 * (1 - s16)).item(), ">", 0), other=((s17 * minus).item(), ">", 4e-8))
layer = nn.PReLU(init=0.25)
layer(z).sum().backward()
off = abs(layer.weight.grad.item() - z.clamp(max=0).sum().item())
claims.check("err-elu-alpha-learned",
             "PReLU has {prelu} number to learn, whose gradient differs from the sum of all "
             "negative inputs by at most {off:.0e}; ELU has {elu}.",
             prelu=(sum(p.numel() for p in layer.parameters()), "==", 1), off=(off, "<=", 1e-6),
             elu=(len(list(nn.ELU().parameters())), "==", 0), varies=True)

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
             "100,000 numbers take ReLU {relu:.0f} µs, the logistic function {logistic:.0f}, tanh "
             "{tanh:.0f} ({times:.1f} times ReLU), ELU {elu:.0f}; a 3×3 convolution that makes as "
             "many numbers takes {convolution:.0f} times as long as ReLU, which costs little "
             "beside it.",
             relu=spent["ReLU"], times=(spent["tanh"] / spent["ReLU"], ">=", 1.2),
             logistic=spent["logistic"], tanh=spent["tanh"], elu=spent["ELU"],
             convolution=(convolution / spent["ReLU"], ">=", 3), varies=True)
claims.check("num-maxout-params-double",
             "A maxout layer of {width} units has {ratio} times the parameters of a linear one.",
             width=width, ratio=(sum(p.numel() for p in linear(inputs, 2 * width, 1).parameters())
                                 / sum(p.numel() for p in linear(inputs, width, 1).parameters()),
                                 "==", 2.0))

# %% [markdown]
# **The common sign.** The gradient of a weight is $\delta$ of its unit times the input of the weight. Behind a logistic layer all inputs are positive, so **for one picture** the gradients of all weights of a unit have the sign of $\delta$. The lectures conclude that the weights zigzag when one should rise and the other fall. Is the sign to blame? One linear unit with two weights, one picture a step, learning rate $1 / \text{mean of } \|x\|^2$; in one case both weights should rise, so that a common sign is right:

# %% tags=["define", "fold"]
def walk(examples, wanted, start=(0.0, 0.0)):
    """The way (steps + 1, 2) of two weights, one example (2,) a step, to weights `wanted`."""
    rate = 1 / (examples**2).sum(axis=1).mean()
    path = [np.array(start)]
    for x in examples:
        error = (path[-1] - wanted) @ x  # of the weighted sum
        path.append(path[-1] - rate * error * x)
    return np.array(path)

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

# %% tags=["fold"]
random = np.random.default_rng(seed)
outputs = 1 / (1 + np.exp(-random.normal(size=(200, 30, 2))))  # 200 walks, 30 logistic outputs
goals = {"one up, one down": np.array([1.0, -1.0]), "both up": np.array([1.0, 1.0])}
left = {(kind, name): np.array([np.linalg.norm(walk(x, wanted) - wanted, axis=1) for x in given])
        for kind, given in (("positive", outputs), ("minus ½", outputs - 0.5))
        for name, wanted in goals.items()}  # distance left: (walks, steps + 1)
claims.check("emp-sigmoid-not-zero-centred-zigzag",
             "For one digit {one:.0%} of a unit's weight gradients have one sign behind logistic "
             "units, {tanh:.0%} behind tanh (at random: a little over 50%); for a batch of 64 "
             "{batch:.0%}.",
             one=(agreement("logistic", 1), "==", 1.0), tanh=(agreement("tanh", 1), "<=", 0.65),
             batch=agreement("logistic", 64))
opposite, equal = ({kind: np.median(left[kind, name], axis=0) for kind in ("positive", "minus ½")}
                   for name in goals)  # medians of the walks: (steps + 1,)
ends = np.array([walk(x, goals["both up"])[-1] for x in outputs]) - goals["both up"]  # (walks, 2)
across = (ends[:, 0] - ends[:, 1]) ** 2 / 2 / (ends**2).sum(axis=1)  # one up, one down
claims.check("emp-sigmoid-not-zero-centred-zigzag.walk",
             "Of a distance of {whole:.2f} these are left (medians of 200 walks), with positive "
             "inputs and with the same minus ½. One up, one down: {a:.2f} and {b:.2f} after 3 "
             "steps, {behind:.0f} times as much after 30. Both up: {c:.2f} and {d:.2f} after 3 "
             "steps, {late:.0f} times as much after 30; of that {across:.0%} lies across: one up, "
             "one down.", whole=np.linalg.norm(goals["both up"]),
             a=(opposite["positive"][3], ">=", 1), b=(opposite["minus ½"][3], "<=", 0.9),
             behind=(opposite["positive"][-1] / opposite["minus ½"][-1], ">=", 3),
             c=(equal["positive"][3], "<=", 0.5), d=(equal["minus ½"][3], ">=", 0.6),
             late=(equal["positive"][-1] / equal["minus ½"][-1], ">=", 2),
             across=(np.median(across), ">=", 0.8))

# %% [markdown]
# The lectures are right here: where a common sign is wrong, positive inputs are slow from the first steps; where it is right, they are ahead at first. Later they fall behind there too, for nearly all that is left by then needs one weight to rise and the other to fall. (Minus ½ takes away the common sign and the mean in one: which of the two counts, this does not tell.) But in section 3 it is not what stopped the deep network: with both changes the outputs of its units are still positive, and it learns.
#
# **Brightness.** ReLU does not care about the scale of its input: make a picture $a$ times as bright, and the output of a ReLU network *without biases* is $a$ times as large. **Zeros.** In the hidden layer of section 5 about half of the ReLUs' outputs are 0, and it learns. **ELU**'s outputs lie nearer to a mean of 0.

# %% tags=["nbval-varies", "fold", "ledger:emp-relu-scale-independent"]
def scaled(network, a):
    """Largest relative difference between network(a x) and a network(x)."""
    with torch.no_grad():
        one, other = network(a * batch), a * network(batch)
    return ((one - other).abs().max() / other.abs().max()).item()

with runtime.seeded(seed):
    unbiased, curved = shallow("ReLU"), shallow("logistic")
    with_biases = shallow("ReLU", bias=1.0)
claims.check("emp-relu-scale-independent",
             "Without biases f(ax) differs from a f(x) by {free:.0e} for a from 0.001 to 1000; "
             "with biases, with a < 0 or with the logistic function by {biased:.2f}, {minus:.2f} "
             "and {logistic:.2f} (relative, a = 100 or −1).",
             free=(max(scaled(unbiased, a) for a in (1e-3, 0.5, 1e3)), "<=", 1e-6),
             biased=(scaled(with_biases, 100), ">=", 0.1), minus=(scaled(unbiased, -1), ">=", 0.1),
             logistic=(scaled(curved, 100), ">=", 0.1), varies=True)
with torch.no_grad():
    zeros = {when: np.mean([(network[:3](every) <= 0).double().mean().item()
                            for network in networks])
             for when, networks in (("new", [shallow("ReLU") for _ in range(3)]),
                                    ("old", alive[0][:runs]))}
claims.check("emp-relu-sparsity",
             "Zeros as such are usual: a hidden layer of ReLUs, hardly any of them dead, gives "
             "{new:.0%} zeros before training and {old:.0%} after (rate 0.1).",
             new=(zeros["new"], "in", (0.4, 0.6)), old=(zeros["old"], ">", 0.35))

# %% tags=["fold"]
normal = torch.randn(200_000, generator=torch.Generator().manual_seed(seed))
claims.check("emp-elu-zero-mean",
             "For normal random numbers (mean 0, deviation 1) the mean output of ELU is "
             "{elu:.2f}, of ReLU {relu:.2f}.",
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
             "{elu:.1%}, ReLU in {relu:.1%}; {gain:.1%} (points) more: no great robustness shows.",
             elu=noisy["ELU"], relu=noisy["ReLU"], gain=(np.subtract(noisy["ELU"], noisy["ReLU"]),
                                                        "<=", 0.03), seeds=runs, on="mean")
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
# - Draw weights for the bend: `nn.init.kaiming_normal_(w, nonlinearity="relu")`, `nn.init.calculate_gain`; lesson 06. (It gives tanh 5/3, where this lesson uses 1, and the logistic function 1: the start that fails in section 3.)
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
# - Without a bend any stack is one matrix and one bias. ReLU networks are flat pieces. What a network can express and what training finds are two things: trained, each at the better of two rates, ReLU copied a corner better here, and tanh a bump.
# - Untrained, a layer among others of equal width multiplies the length of the gradient by about gain times the root mean square of the slopes. That is at most ¼ for logistic units as usual, and about 1 for ReLU with a gain of √2; small weights starve ReLU as well.
# - The logistic function is tanh, squeezed and shifted: flatter, and not centred. Scaled, ten layers learn in twenty epochs here; scaled and centred, or with BatchNorm, in fewer than ten; centred only, not at all in twenty.
# - In our race on digits ReLU is not faster than tanh, each at its best of four rates; the logistic function, started as usual, is several times slower than either. "Six times" is one experiment.
# - Steps that are too long kill ReLUs, in the first layer (plain SGD) for good. Limiting the gradient's length prevented nearly all of it. A leak wakes hardly any silent unit in five epochs; it lets them work on, and networks that had it from the start are better off with it.
# - Where weights are too small, biases of 0.01 leave no unit of the last layer dead at the start, but from the third layer on nearly all on for every picture: those layers bend no more. Against long steps biases of 0.01 showed no effect.

# %% [markdown] tags=["ledger:err-relu-first-alexnet", "ledger:err-tanh-lecun-1991", "ledger:err-dead-75", "ledger:err-relu-kills-none", "ledger:err-feedforward-three-layers"]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | logistic and tanh lie in [0, 1] and [−1, 1] | in the **open** intervals; rounding reaches the ends ($1 / (1 + e^{-x})$, computed in float32, is 1 from 17 on) | Also in the lectures |
# | sigmoid: "derivatives infinite" | **infinitely many** derivatives; the first is at most ¼ | section 2 |
# | tanh's gradients lie in (−1, 1) | in **(0, 1]**; its *values* lie in (−1, 1) | section 2 |
# | ReLU's range is (0, ∞), "positive output only"; f'' is zero | **[0, ∞)**; f'' is zero except at 0, where it does not exist | section 2 |
# | ELU's alpha is learnt | it is **chosen**; PReLU's slope is learnt | Also in the lectures: `nn.ELU` has no parameters |
# | ReLU "doesn't kill the gradients", only "small values" | the gradient is 0 for **every** negative input, large or small | section 2, slopes |
# | ReLU prevents (solves) the vanishing gradient | it **lessens** it: with small weights ReLU's vanishes too | section 2 |
# | one cannot do deep learning with sigmoid | ten layers learned once **scaled** (weights × 4), in 20 epochs; scaled and **centred**, or with BatchNorm, in ten | section 3 |
# | ReLU is six times faster than tanh | in **one experiment**, AlexNet's figure 1; in our race on digits **not faster** than tanh (each at its best of four rates), and several times faster than the logistic function, started as usual (best of three) | section 4 |
# | "don't use sigmoid!" | not in **hidden** layers; gates and yes-or-no outputs need it | section 4, In practice |
# | 75 % of the units may be dead, if weights are badly initialised | **depends** on the step: from none to nearly all; at the start about a sixth in the last of ten layers, at two gains; CS231n's own notes say "as much as 40 %" for too high a learning rate | section 5 |
# | biases of 0.01 prevent dead units | with **too small weights** none in the last layer is dead at the start, but from the third of ten layers on nearly all are on for every picture: those layers bend no more, the pictures are as good as the same. No effect shows against long steps, and biases of 1 do harm there | section 5 |
# | ReLU is more expressive than the logistic function | with enough units both can approximate **any** continuous function on a bounded region; which one training copies better depended on the **shape** | Leshno et al. 1993; section 1 (with tanh, the logistic function stretched) |
# | ReLU was proposed for AlexNet | **older**: Fukushima 1969; Nair and Hinton 2010, whom AlexNet cites | sources |
# | tanh was proposed by LeCun in 1991 | **older**; he advised a scaled tanh, $1.7159 \tanh(2x/3)$ | LeCun et al. 1998 |
# | most feed-forward networks have three layers, for the gradient vanishes | **no longer**: ten layers learn here; deep networks have been usual since AlexNet (2012, eight layers) | section 3; Krizhevsky et al. 2012 |
#
# ## Sources
#
# - The notes: lectures 000, 001, 002 and 003 on ReLU and the vanishing gradient, lecture 004 on activation functions (after CS231n, Stanford 2017).
# - A. Householder: A theory of steady-state activity in nerve-fiber networks. Bulletin of Mathematical Biophysics 3, 1941. W. McCulloch and W. Pitts: A logical calculus of the ideas immanent in nervous activity. Bulletin of Mathematical Biophysics 5, 1943. K. Fukushima: Visual feature extraction by a multilayered network of analog threshold elements. IEEE Transactions on Systems Science and Cybernetics 5, 1969.
# - D. Rumelhart, G. Hinton and R. Williams: Learning representations by back-propagating errors. Nature 323, 1986. S. Hochreiter: Untersuchungen zu dynamischen neuronalen Netzen. Diploma thesis, TU München, 1991.
# - M. Leshno, V. Lin, A. Pinkus and S. Schocken: Multilayer feedforward networks with a nonpolynomial activation function can approximate any function. Neural Networks 6, 1993.
# - Y. LeCun, L. Bottou, G. Orr and K.-R. Müller: Efficient BackProp. 1998.
# - V. Nair and G. Hinton: Rectified linear units improve restricted Boltzmann machines. ICML 2010. X. Glorot, A. Bordes and Y. Bengio: Deep sparse rectifier neural networks. AISTATS 2011.
# - A. Krizhevsky, I. Sutskever and G. Hinton: ImageNet classification with deep convolutional neural networks. NIPS 2012, section 3.1.
# - A. Maas, A. Hannun and A. Ng: Rectifier nonlinearities improve neural network acoustic models. 2013. I. Goodfellow et al.: Maxout networks. ICML 2013. K. He et al.: Delving deep into rectifiers, 2015 (arXiv:1502.01852). D.-A. Clevert et al.: Fast and accurate deep network learning by exponential linear units, 2015 (arXiv:1511.07289).
# - D. Hendrycks and K. Gimpel: Gaussian error linear units, 2016 (arXiv:1606.08415). P. Ramachandran et al.: Searching for activation functions, 2017 (arXiv:1710.05941).
