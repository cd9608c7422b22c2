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
# # 07 · Batch and local response normalisation
# ### What does dividing by the batch's spread buy, and what does it cost?
#
# A network is made of layers, and each layer's numbers may come out too small or too large for the next.
# *Batch normalisation* (BatchNorm, BN) mends that. A *batch* is the handful of training pictures behind one step; for each unit BatchNorm takes mean and spread over the batch, subtracts the one and divides by the other.
#
# The first figure trains one network from three sizes of its hidden weights, with five learning rates each.
# Without BatchNorm it learns in one row only; with it in most of the table.
#
# Odd: after dividing by the spread it no longer matters how large the numbers were, so hidden weights a hundred times too small make nearly the same function. Yet their gradient is a hundred times *longer* (section 2), on weights a hundred times shorter. Why does nothing explode?
#
# **You will be able to**
# - read BatchNorm forward and backward, line by line, and use its two modes;
# - say why a network with it forgives a bad start, and test such a "because";
# - name what it costs: answers that depend on the batch, and batches that must not be too small;
# - choose between BatchNorm, LayerNorm and GroupNorm, by what each takes its mean over, and read the old LRN.
#
# **You need** lesson 02 (scores, softmax, loss), lesson 03 (gradients, the chain rule) and lesson 05 (units, ReLU, how gradients vanish). Sections 4 and 5 have a small convolutional network (lesson 04).
#
# Claims (✓) are made for the parameters below; with others the lesson shows what it measures and requires nothing.
#
# **It costs** about 35 seconds of one processor core, no network connection, no GPU.

# %% tags=["parameters"]
seed: int = 60  # the first of the seeds; at least 0
runs: int = 2  # networks for each square of the tables, more where it counts; 2 to 10
dataset: str = "digits"  # larger: 15 min; one of digits, mnist, fashion_mnist, cifar10, or a folder
images: int = 1347  # training pictures, at most; at least 320
width: int = 64  # units a hidden layer; 8 to 512
epochs: int = 3  # passes over the training pictures; 1 to 100
sizes: list = [0.01, 1, 10]  # of the hidden weights, 1: He's rule; each above 0, ascending
rates: list = [0.01, 0.3, 1, 3, 10]  # learning rates; each above 0, ascending

# %% tags=["imports", "fold"]
import copy
import itertools
import math
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cnncourse import claims, data, exercises, figures, plots, runtime, training

# %%
runtime.start(seed=seed, dtype="float64")
train = data.load(dataset, True).subset(images, seed=seed).normalised()  # mean 0, deviation 1
test = data.load(dataset, False).normalised(train.mean, train.std)
batch, labels = next(train.batches(256))  # for measurements on untrained networks
inputs, classes = batch[0].numel(), len(train.classes)
seeds = range(seed, seed + runs + 1)
train, test

# %% [markdown]
# **Words.** A *unit* is one number that a layer computes for a picture; before it is bent it is called *pre-activation*. *Deviation* is short for standard deviation, the spread.
#
# Training is plain *SGD*: each step is the learning rate times the gradient of one batch's loss, and nothing else. In particular there is no *weight decay*, which would shrink the weights a little at each step.
#
# *He's rule* (K. He et al. 2015) draws weights with a deviation of √(2 / number of inputs). Behind a ReLU numbers then neither grow nor shrink from layer to layer (lesson 06 is about such rules).
#
# **The network.** Four hidden layers and one layer of scores, 64 units wide. `norm`, if there is one, makes a normalising layer between each matrix and its ReLU.
# Hidden weights have `size` times the deviation of He's rule, those of the scores always that of He's rule.
# Below, `partial(net, size, norm)` is a function that makes such a network when it is called: `net(size, norm)`.

# %% tags=["define"]
def linear(inputs, outputs, size):
    """A layer with random weights of deviation size * sqrt(2 / inputs), and biases of 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=size * math.sqrt(2 / inputs))
    nn.init.zeros_(layer.bias)
    return layer

def deep(size=1.0, norm=None, hidden=4, bend=nn.ReLU, inputs=64, width=64, classes=10):
    """`hidden` layers of `width` units, normalised by what `norm(width)` makes, and scores."""
    parts = [nn.Flatten()]
    for before in [inputs] + (hidden - 1) * [width]:
        parts.append(linear(before, width, size))
        if norm is not None:
            parts.append(norm(width))
        parts.append(bend())
    return nn.Sequential(*parts, linear(width, classes, 1.0))

# %% tags=["fold"]
# Helpers: net (deep for these pictures), with_bn, norm_behind, trained (several seeds at once),
# accuracy_of.
figures.use_style()
COLOURS = {"none": "C1", "BatchNorm": "C0", "LayerNorm": "C2", "GroupNorm": "C3"}

def net(size=1.0, norm=None, **options):
    return deep(size, norm, inputs=inputs, width=width, classes=classes, **options)

def norm_behind():
    """BatchNorm behind each ReLU instead of before it."""
    return deep(1.0, lambda units: nn.ReLU(), bend=partial(nn.BatchNorm1d, width), inputs=inputs,
                width=width, classes=classes)

with_bn = partial(net, 1.0, nn.BatchNorm1d)

def trained(make, rates, numbers=seeds):
    """Train a network for each rate and seed: accuracy in the test and last training loss, both
    (rates, seeds). A network whose numbers are no longer finite counts as guessing."""
    result = training.repeat(
        make, train, test, epochs=epochs, batch_size=64, drop_last=True, progress=False,
        seeds=len(rates) * list(numbers), learning_rates=np.repeat(rates, len(numbers)).tolist(),
        optimizer=lambda weights, lr: torch.optim.SGD(weights, lr=lr))
    right = np.nan_to_num(result.last("valid_accuracy"), nan=1 / classes)
    loss = np.array(result.last("train_loss"))
    return right.reshape(-1, len(numbers)), loss.reshape(-1, len(numbers))

def accuracy_of(network):
    """Accuracy in the test, or that of guessing where its numbers are no longer finite."""
    found = training.predict(network, test)
    return ((found.argmax(1) == test.labels).double().mean().item() if found.isfinite().all()
            else 1 / classes)

# %%
right = {}  # (sizes, rates, runs): accuracy in the test
for name, norm in {"none": None, "BatchNorm": nn.BatchNorm1d}.items():
    rows = [trained(partial(net, size, norm), rates, seeds[:runs])[0] for size in sizes]
    right[name] = np.array(rows)

# %% tags=["fold"]
steps = epochs * (len(train) // 64)  # of training, batches of 64
learns = {name: int((values.mean(axis=2) >= 0.8).sum()) for name, values in right.items()}
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.6), sharey=True)
for ax, (name, values) in zip(axes, right.items(), strict=True):
    plots.heat(ax, 100 * values.mean(axis=2), rows=[f"{size:g}" for size in sizes],
               columns=[f"{rate:g}" for rate in rates], format="{:.0f}", limits=(0, 100),
               fontsize=13)
    ax.set_aspect("auto")
    ax.tick_params(labelsize=12)
    ax.set(xlabel="learning rate",
           title="without BatchNorm" if name == "none" else "with BatchNorm")
axes[0].set_ylabel("size of the hidden weights\n(1: He's rule)")
fig.suptitle(f"In {epochs} epochs {learns['none']} of {right['none'][..., 0].size} settings learn "
             f"without BatchNorm, {learns['BatchNorm']} with it")
figures.save(fig, "emp-bn-less-init-sensitive",
             caption=f"Test accuracy in percent after {epochs} epochs of SGD, batches of 64; "
                     f"{dataset}, four hidden layers of {width} units; mean of {runs} seeds. "
                     f"Guessing: {100 / classes:.0f}. A setting learns if it reaches 80.",
             alt="Left: only weights of He's size reach more than 80 percent, at one "
                 "rate. Right: most of the table does, but not the largest rate.")

# %% tags=["fold"]
def best(name):
    """Accuracy (sizes, runs) at the rate that is best for each size on average."""
    table = right[name]
    return np.array([row[row.mean(axis=1).argmax()] for row in table])

def largest(name):
    """The largest learning rate at which all runs from He's weights reach 80 %."""
    row = right[name][sizes.index(1)] if 1 in sizes else right[name][0]
    fine = [rate for rate, values in zip(rates, row, strict=True) if values.min() >= 0.8]
    return max(fine, default=math.nan)

claims.check("emp-bn-less-init-sensitive",
             "In {steps} steps of SGD {none} of {all} settings learn without BatchNorm, {bn} with "
             "it; each size at its best rate of the table, the worst reaches {bad:.0%} without "
             "(guessing: {guess:.0%}), {good:.0%} with it (means of {count} seeds).", steps=steps,
             all=len(sizes) * len(rates), none=(learns["none"], "<=", 3),
             bn=(learns["BatchNorm"], ">=", 7), bad=(best("none").mean(1).min(), "<=", 0.3),
             good=(best("BatchNorm").mean(1).min(), ">=", 0.6), guess=1 / classes, count=runs)
claims.check("emp-bn-higher-lr",
             "From He's weights the largest rate of the table that learns in each of {count} "
             "seeds is {none:g} without and {bn:g} with BatchNorm, {ratio:.1f} times as large; "
             "{top:g} was tried too.", count=runs,
             none=largest("none"), bn=largest("BatchNorm"), top=rates[-1],
             ratio=(largest("BatchNorm") / largest("none"), ">=", 3))

# %% [markdown]
# ## 1 · The layer: three formulas to normalise, one to take it back
#
# For each unit, over the $m$ pictures of a batch:
#
# $$\mu = \tfrac1m \sum_i x_i, \qquad \sigma^2 = \tfrac1m \sum_i (x_i - \mu)^2, \qquad \hat x_i = \frac{x_i - \mu}{\sqrt{\sigma^2 + \varepsilon}}, \qquad y_i = \gamma\, \hat x_i + \beta$$
#
# A small number, $\varepsilon = 10^{-5}$, guards against a division by 0. The factor $\gamma$ and the offset $\beta$ are learnt, one each for a unit; they begin with 1 and 0.
# In a convolutional layer, one *map* takes the place of one unit: mean and variance over all pictures *and all places*.
#
# A single picture has no spread. So for use after training the layer keeps *running* statistics: at each step a tenth of the way towards those of the batch. A batch's variance comes out too small on average, by a factor of $(m - 1) / m$; the running variance makes up for that.

# %% tags=["define", "ledger:eq-bn-forward-steps", "ledger:eq-bn-running-stats", "ledger:prac-bn-init", "ledger:err-bn-variance-squared"]
class BatchNorm(nn.Module):
    """Each unit of (N, U), or each map of (N, C, H, W), with mean 0 and deviation 1."""

    def __init__(self, units, eps=1e-5, momentum=0.1):  # torch's name for that tenth
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(units))
        self.beta = nn.Parameter(torch.zeros(units))
        self.register_buffer("mean", torch.zeros(units))  # running statistics: kept, not learnt
        self.register_buffer("var", torch.ones(units))
        self.eps, self.momentum = eps, momentum

    def forward(self, x):
        mean, var = self.mean, self.var
        if self.training:
            axes = [0, *range(2, x.ndim)]  # all but the units or maps
            count = x.numel() / x.shape[1]  # numbers behind each mean
            mean, var = x.mean(axes), x.var(axes, unbiased=False)  # the sum divided by count
            with torch.no_grad():
                self.mean.lerp_(mean, self.momentum)  # a tenth of the way
                self.var.lerp_(var * count / (count - 1), self.momentum)  # the sum by count - 1
        shape = [1, -1] + (x.ndim - 2) * [1]  # (1, U) or (1, C, 1, 1)
        normal = (x - mean.view(shape)) / torch.sqrt(var.view(shape) + self.eps)
        return self.gamma.view(shape) * normal + self.beta.view(shape)

# %% tags=["fold", "ledger:eq-bn-conv"]
def compared(ours, theirs, x):
    """Largest differences from torch: outputs in training and evaluation, running statistics."""
    with torch.no_grad():
        ours.gamma.uniform_(0.5, 2)
        ours.beta.normal_()
        theirs.weight.copy_(ours.gamma)
        theirs.bias.copy_(ours.beta)
    in_training = max((ours(part) - theirs(part)).abs().max().item() for part in x.split(16))
    kept = max((ours.mean - theirs.running_mean).abs().max().item(),
               (ours.var - theirs.running_var).abs().max().item())
    ours.eval()
    theirs.eval()
    return in_training, kept, (ours(x) - theirs(x)).abs().max().item()

with runtime.seeded(seed):
    units = compared(BatchNorm(7), nn.BatchNorm1d(7), 3 * torch.randn(64, 7) + 2)
    maps = compared(BatchNorm(5), nn.BatchNorm2d(5), 3 * torch.randn(64, 5, 6, 6) - 1)
claims.table("eq-bn-forward-steps", "Largest difference between our layer and torch's, after four "
             "batches of 16.",
             {"units: in training": (units[0], 0.0), "units: running statistics": (units[1], 0.0),
              "units: evaluation": (units[2], 0.0), "maps: in training": (maps[0], 0.0),
              "maps: running statistics": (maps[1], 0.0), "maps: evaluation": (maps[2], 0.0)},
             columns=("what", "measured", "expected"), tolerance=1e-12)

# %% [markdown]
# Ours equals torch's `nn.BatchNorm1d` and `nn.BatchNorm2d`; from here on we use torch's.
#
# Does it make the numbers *Gaussian*, a bell curve, as one reads? Take numbers that are nothing like one, outputs of a ReLU: half of them are 0, the others reach far to the right. *Skewness* says how lopsided such a heap is: 0 for a bell, above 0 with a long tail to the right.

# %%
exercises.predict("07.p1", "Skewness of ReLU outputs behind BatchNorm, against before:",
                  ("0, it is a bell", "about half", "unchanged"))

# %%
def skewness(x):
    """Mean cube of the distances from the mean, in deviations."""
    return (((x - x.mean()) / x.std(unbiased=False)) ** 3).mean().item()

lopsided = torch.relu(torch.randn(5000, 1, generator=torch.Generator().manual_seed(seed)))
behind = nn.BatchNorm1d(1)(lopsided).detach()
skew = skewness(lopsided), skewness(behind)
heap = (behind == behind.min()).double().mean().item()  # share of the smallest value
exercises.reveal("07.p1", "unchanged" if skew[1] > 0.9 * skew[0] else "about half"
                 if skew[1] > 0.2 else "0, it is a bell",
                 f"It is {skew[0]:.2f} before and {skew[1]:.2f} behind, where {heap:.0%} of the "
                 f"numbers are still one and the same, {behind.min():.2f}.")

# %% [markdown]
# So the shape stays; only centre and spread are set. That is all, and through depth it is much. Ten untrained layers whose weights have 0.6 of He's size:

# %% tags=["fold"]
def pre_activations(norm, size, hidden=10):
    """What each hidden layer hands to its ReLU, flat: a list of arrays."""
    x, found = batch, []
    with runtime.seeded(seed), torch.no_grad():
        for part in net(size, norm, hidden=hidden):
            if isinstance(part, nn.ReLU):
                found.append(x.flatten().numpy())
            x = part(x)
    return found

depths = {"without": pre_activations(None, 0.6), "with": pre_activations(nn.BatchNorm1d, 0.6)}
spread = {name: [values.std() for values in found] for name, found in depths.items()}
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.6), sharex=True, sharey=True)
for ax, colour, (name, found) in zip(axes, ("C1", "C0"), depths.items(), strict=True):
    for layer, values in enumerate(found):
        counts, edges = np.histogram(values, np.linspace(-3, 3, 28) * values.std())
        ax.fill_between((edges[:-1] + edges[1:]) / 2, 10 - layer,
                        10 - layer + 0.85 * counts / counts.max(), color=colour, linewidth=1.5)
        if layer % 3 == 0:
            ax.text(4.9, 10 - layer + 0.1, f"{spread[name][layer]:.3f}", ha="right", fontsize=13)
    ax.text(4.9, 11.15, "deviation", ha="right", fontsize=12)
    ax.set(xlabel="pre-activation", title=f"{name} BatchNorm", xlim=(-3, 5), ylim=(0.8, 11.9),
           xticks=range(-3, 4))
axes[0].set(ylabel="hidden layer", yticks=[10, 7, 4, 1], yticklabels=["1", "4", "7", "10"])
fig.suptitle(f"Without it the spread falls to {spread['without'][-1]:.3f} in ten layers; "
             "with it each layer has 1")
figures.save(fig, "fig-bn-distribution",
             caption=f"Pre-activations of ten untrained layers, weights of 0.6 times He's size, "
                     f"256 pictures of {dataset}; each curve has its own height.",
             alt="Left the histograms become narrower from layer to layer until a line is left; "
                 "right all ten have the same width.")

# %% tags=["fold"]
claims.check("fig-bn-distribution",
             "From layer 1 to layer 10 the deviation goes from {first:.2f} to {last:.3f} without "
             "BatchNorm; with it the tenth layer has {kept:.2f}.",
             first=spread["without"][0], last=(spread["without"][-1], "<=", 0.05),
             kept=(spread["with"][-1], "~", 1.0, 0.05))
claims.check("err-bn-gaussian",
             "BatchNorm leaves the skewness of 5,000 ReLU outputs at {after:.3f}; it was "
             "{before:.3f}, and a bell curve has 0.",
             before=skew[0], after=(skew[1], ">=", 1.55))

# %% [markdown]
# Bells, but BatchNorm does not make them: left, without it, they are bells too. Each number is a sum over many inputs.
#
# **Two modes.** In training a picture's numbers depend on the *other* pictures of the batch; in evaluation (`network.eval()`) only on the picture and the running statistics. Asking in training mode also *changes* the running statistics, with `torch.no_grad()` or without. So we train a network, and ask a copy of it in training mode and itself in evaluation mode:

# %%
with runtime.seeded(seed):
    trained_network = net(1.0, nn.BatchNorm1d)
history = training.fit(
    trained_network, train, epochs=epochs, batch_size=64, progress=False,
    drop_last=True,  # without the pictures that do not fill a batch: section 4
    optimizer=torch.optim.SGD(trained_network.parameters(), lr=0.1))

# %% tags=["ledger:prac-bn-eval-mode"]
pictures, _ = next(test.batches(400))
draw = torch.Generator().manual_seed(seed)
one, other = (torch.randperm(len(pictures), generator=draw) for _ in range(2))

def answers(network, order, size):
    """The class named for each picture, shown in groups of `size` in this order."""
    named = torch.empty(len(order), dtype=torch.long)
    with torch.no_grad():
        for group in order.split(size):
            named[group] = network(pictures[group]).argmax(1)
    return named

asked = copy.deepcopy(trained_network).train()  # a copy: in this mode asking changes it
moved = answers(asked, one, 8) != answers(asked, other, 8)
trained_network.eval()
alone = answers(trained_network, one, 1) != answers(trained_network, other, 400)

# %% tags=["fold"]
try:
    asked(pictures[:1])
    refused = "accepted"
except ValueError:
    refused = "refused"
claims.check("prac-bn-eval-mode",
             "In training mode {moved:.1%} of the pictures get another class in other company "
             "(groups of 8); in evaluation mode, one at a time or all at once, {alone:.1%}. A "
             "single picture in training mode is {refused} by torch. Asking in training mode has "
             "changed the copy's running variances by {drift:.0%} on average.",
             moved=(moved.double().mean().item(), ">", 0.1),
             alone=(alone.double().mean().item(), "==", 0.0), refused=(refused, "==", "refused"),
             drift=((asked[2].running_var / trained_network[2].running_var - 1).abs().mean().item(),
                    ">=", 0.01))
generator = torch.Generator().manual_seed(seed)
mixed = torch.randn(2000, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
normal = BatchNorm(6)(mixed).detach()
centred = mixed - mixed.mean(0)
values, vectors = torch.linalg.eigh(centred.T @ centred / len(mixed))
white = centred @ vectors / values.sqrt() @ vectors.T  # ZCA
correlation = {name: torch.corrcoef(z.T)
               for name, z in (("mixed", mixed), ("white", white), ("normal", normal))}
largest = {name: (found - torch.eye(6)).abs().max().item() for name, found in correlation.items()}
claims.check("eq-bn-vs-whitening",
             "Whitening, which removes the correlations between units, leaves {white:.0e}. "
             "BatchNorm leaves them, up to {largest:.2f}, as they were, but for {moved:.0e}; its "
             "variances are 1 but for {off:.0e}.",
             white=(largest["white"], "<=", 1e-10), largest=largest["normal"],
             moved=((correlation["normal"] - correlation["mixed"]).abs().max().item(), "<=", 1e-10),
             off=((normal.var(0, unbiased=False) - 1).abs().max().item(), "<=", 1e-4), varies=True)

# %% [markdown]
# **We now know** the layer: it sets centre and spread of each unit, keeps the shape and the correlations between units, and can be undone by its own $\gamma$ and $\beta$. So what a network *can* compute has not become less.
# **This does not show** why a network that can compute the same *learns* so differently.
#
# **Exercise 07.1.** Which $\gamma$ and $\beta$ give the raw input back? From a batch `x` (N, U) and `eps`, answer both, exactly.

# %%
def undo(x, eps):
    """(gamma, beta), each (U,), with which BatchNorm in training mode returns x."""
    ...

exercises.check("07.1", undo)

# %% [markdown]
# ## 2 · Backward: the length of the weights is free
#
# Write $g = \gamma\, \partial L / \partial y$ and $s = \sqrt{\sigma^2 + \varepsilon}$; a bar is a mean over the batch. Backward there are three ways from $y$ to one $x_i$:
# - straight on: $\; g_i / s$;
# - through the mean, of which $x_i$ is one part in $m$: $\; -\overline{g} / s$;
# - through the deviation, which grows with $x_i$ as much as $\hat x_i$ says: $\; -\hat x_i\, \overline{g \hat x} / s$.
#
# $$\frac{\partial L}{\partial x_i} = \frac{1}{s} \left( g_i - \overline{g} - \hat x_i\, \overline{g \hat x} \right)$$

# %% tags=["define", "ledger:eq-bn-backward"]
def batchnorm_backward(gradient, x, gamma, eps=1e-5):
    """The loss's gradients at x (N, U), gamma (U,) and beta (U,), from that at the output."""
    deviation = torch.sqrt(x.var(0, unbiased=False) + eps)
    normal = (x - x.mean(0)) / deviation
    at_gamma = (gradient * normal).sum(0)
    at_beta = gradient.sum(0)
    g = gamma * gradient
    at_x = (g - g.mean(0) - normal * (g * normal).mean(0)) / deviation
    return at_x, at_gamma, at_beta

# %% tags=["fold", "ledger:eq-bn-identity"]
generator = torch.Generator().manual_seed(seed)
x = (3 * torch.randn(16, 5, generator=generator) + 1).requires_grad_()
gamma, beta = (torch.randn(5, generator=generator).requires_grad_() for _ in range(2))
gradient = torch.randn(16, 5, generator=generator)
F.batch_norm(x, None, None, gamma, beta, training=True).backward(gradient)
ours = batchnorm_backward(gradient, x.detach(), gamma.detach())
rows = {name: ((mine - tensor.grad).abs().max().item(), 0.0)
        for name, mine, tensor in zip(("x", "gamma", "beta"), ours, (x, gamma, beta), strict=True)}
step, differences = 1e-6, torch.empty(16, 5)
for place in np.ndindex(16, 5):
    ends = []
    for sign in (1, -1):
        shifted = x.detach().clone()
        shifted[place] += sign * step
        out = F.batch_norm(shifted, None, None, gamma.detach(), beta.detach(), training=True)
        ends.append((out * gradient).sum().item())
    differences[place] = (ends[0] - ends[1]) / (2 * step)
rows["x, by differences"] = ((ours[0] - differences).abs().max().item(), 0.0)
claims.table("eq-bn-backward", "Largest difference from autograd's gradients, and from difference "
             "quotients.", rows, columns=("gradient at", "measured", "expected"), tolerance=1e-7)
x = 3 * torch.randn(64, 7, generator=torch.Generator().manual_seed(seed)) + 2
with torch.no_grad():
    back = BatchNorm(7)
    back.gamma.copy_(torch.sqrt(x.var(0, unbiased=False) + back.eps))
    back.beta.copy_(x.mean(0))
    off = (back(x) - x).abs().max().item()
claims.check("eq-bn-identity",
             "With the γ and β of exercise 07.1 the output differs from the input by {off:.0e}.",
             off=(off, "<=", 1e-12), varies=True)

# %% [markdown]
# What is taken away are the two directions that normalising makes useless: moving all $x_i$ together, and stretching them.
#
# Follow that to the weights $w$ of one unit in front of BatchNorm. Multiply them by $c$. Without $\varepsilon$,
# - the output stays the same, for $x$ and its spread both grow by $c$;
# - the gradient is divided by $c$: the same output change needs a step $c$ times as long;
# - the gradient is at a right angle to $w$ (a cosine of 0): along $w$ nothing changes.
#
# We shrink all hidden weights a hundredfold. As torch's $\varepsilon$ of $10^{-5}$ is not small against what is then left of the variance, this section sets it to $10^{-12}$.
# It needs a second precaution: running statistics begin with a variance of 1, and a tenth of the way a step is too slow for variances of a ten-thousandth. So before each test they are taken anew, over all batches.

# %%
def normalise(units):
    return nn.BatchNorm1d(units, eps=1e-12)

def scores_and_gradient(network):
    """Scores of 256 pictures, and the loss's gradient at network[4], the second matrix."""
    scores = network(batch)
    return scores, torch.autograd.grad(F.cross_entropy(scores, labels), network[4].weight)[0]

def as_drawn(size, norm):
    """The same random numbers for each size."""
    with runtime.seeded(seed):
        return net(size, norm)

scores, gradient = scores_and_gradient(as_drawn(1.0, normalise))
small_scores, small_gradient = scores_and_gradient(as_drawn(0.01, normalise))

# %% tags=["fold"]
weight = as_drawn(0.01, normalise)[4].weight
cosine = F.cosine_similarity(small_gradient, weight, dim=1).abs().max().item()  # 0: right angle
torchs = [as_drawn(size, nn.BatchNorm1d)(batch) for size in (1.0, 0.01)]
claims.check("eq-bn-backward.scale",
             "With hidden weights a hundredth as large the scores change by at most {moved:.0e} "
             "and the gradient is {factor:.1f} times as long; its cosine with the weights is at "
             "most {cosine:.0e}. With torch's epsilon the scores change by up to {eps:.2f}.",
             moved=((small_scores - scores).abs().max().item(), "<=", 1e-5),
             factor=((small_gradient.norm() / gradient.norm()).item(), "~", 100.0, 0.5),
             cosine=(cosine, "<=", 1e-5),
             eps=(torchs[1] - torchs[0]).abs().max().item(), varies=True)

# %% [markdown]
# So here is a suspicion. The step is at a right angle to $w$, so by Pythagoras $\lVert w \rVert^2$ *grows* by the step's square, without an end but also without a way back. A gradient a hundred times as long makes one long leap; afterwards the weights are long, their gradient is short, and each later step turns them little.
#
# To test it, forbid the growth: after each step set every hidden unit's weights back to their old length. The *function* does not change by that.

# %% tags=["define", "fold"]
# Helpers: batches_of, full_and_last, in_company, statistics_anew, hidden_weights, length,
# smaller_rate, only_scores, gradient_length, convolutional.
def batches_of(pictures, steps, size=64, drop_last=True, seed=0):
    """`steps` batches, in passes over the pictures, each in a random order of its own."""
    order = torch.Generator().manual_seed(seed)
    passes = (pictures.batches(size, order, drop_last=drop_last) for _ in itertools.count())
    return itertools.islice(itertools.chain.from_iterable(passes), steps)

def full_and_last(pictures, order):
    """The full batches of a pass, and what is left for a last one, but 3 pictures instead of 1."""
    *full, last = pictures.batches(64, order, drop_last=False)
    return full, [part[:3] for part in full[-1]] if len(last[1]) == 1 else last

def in_company(pictures, others):
    """A batch of 64 that begins with these pictures."""
    return [torch.cat(parts)[:64] for parts in zip(pictures, others, strict=True)]

@torch.no_grad()
def statistics_anew(network, batches):
    """Running statistics as the plain mean over these batches; the weights stay."""
    network.eval()  # what moves units at random in training stays off
    for part in network.modules():
        if isinstance(part, nn.BatchNorm1d):
            part.reset_running_stats()
            part.momentum = None  # torch: the mean over all batches
            part.train()
    for images, _ in batches:
        network(images)
    return network

def hidden_weights(network):
    return [part.weight for part in network if isinstance(part, nn.Linear)][:-1]

def length(network):
    """Mean length of a unit's weights in the second hidden layer."""
    return network[4].weight.detach().norm(dim=1).mean().item()

def convolutional(norm=None, colours=1, maps=12, classes=10, before=True):
    """Three 3x3 convolutions; `norm(maps)` before or behind each ReLU; pooled to 4 x 4, scores."""
    parts = []
    for channels in (colours, maps, maps):
        layer = nn.Conv2d(channels, maps, 3, padding=1)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
        extra = [] if norm is None else [norm(maps)]
        parts += [layer, *extra, nn.ReLU()] if before else [layer, nn.ReLU(), *extra]
    return nn.Sequential(*parts, nn.AdaptiveMaxPool2d(4), nn.Flatten(),
                         nn.Linear(16 * maps, classes))

def smaller_rate(network, rate, factor):
    """One rate a parameter: `factor` times as large for hidden weights."""
    hidden = {id(weight) for weight in hidden_weights(network)}
    return [factor * rate if id(p) in hidden else rate for p in network.parameters()]

def only_scores(network, rate):
    """One rate a parameter: 0 for all but weights and biases of the last layer."""
    return [0.0] * (len(list(network.parameters())) - 2) + 2 * [rate]

def gradient_length(network, pictures, count):
    """Length of the whole gradient of the loss of the first `count` pictures of a batch."""
    network = copy.deepcopy(network)  # its running statistics stay
    loss = F.cross_entropy(network(pictures[0])[:count], pictures[1][:count])
    parts = torch.autograd.grad(loss, list(network.parameters()))
    return torch.cat([part.flatten() for part in parts]).norm().item()

# %% tags=["define"]
def descend(network, batches, rate, loss=F.cross_entropy, after=None, watch=None):
    """SGD by hand; `after(network)` acts behind each step. `rate`: a number, or one a parameter.
    Returns what `watch(network)` said before each step, or an empty list."""
    parameters, seen = list(network.parameters()), []
    rates = rate if isinstance(rate, list) else len(parameters) * [rate]
    for x, y in batches:
        if watch is not None:
            seen.append(watch(network))
        gradients = torch.autograd.grad(loss(network(x), y), parameters)
        with torch.no_grad():
            for parameter, gradient, factor in zip(parameters, gradients, rates, strict=True):
                parameter -= factor * gradient
        if after is not None:
            after(network)
    return seen

def hold(network):
    """A function that sets hidden units' weights back to the length they have now."""
    lengths = [weight.detach().norm(dim=1, keepdim=True) for weight in hidden_weights(network)]

    def set_back(network):
        with torch.no_grad():
            for weight, length in zip(hidden_weights(network), lengths, strict=True):
                weight *= length / weight.norm(dim=1, keepdim=True)
    return set_back

# %% [markdown]
# **The plan.** Weights of 0.01 and of 1, each with lengths free and held. And one arm more from 0.01: held, with a smaller rate for hidden weights. The gradient is 100 times as long and the weights are 100 times as short, so the same *turn* needs a rate 100 · 100 times as small. By these two factors that arm must be, step for step, the network held at He's length; it tells what holding does when the steps fit.
#
# The yardstick: hidden layers that stay as they were drawn, and only the scores learn.

# %%
exercises.predict("07.p2", "BatchNorm, weights of 0.01, learning rate 1, lengths held. It:",
                  ("learns as before, the function is the same", "learns, but slower",
                   "stays at guessing"))

def experiment(size, arm, number, rate=1.0):
    """Length of the weights before each step, and accuracy in the test."""
    with runtime.seeded(number):
        network = net(size, normalise)
    after = hold(network) if arm.startswith("held") else None
    if arm == "held, short steps":
        rate = smaller_rate(network, rate, size**2)
    if arm == "scores alone":
        rate = only_scores(network, rate)
    lengths = descend(network, batches_of(train, steps, seed=number), rate, after=after,
                      watch=length)
    statistics_anew(network, train.batches(64, drop_last=True))
    return lengths, accuracy_of(network)

# %% tags=["nbval-varies", "fold"]
# The runs: five arms, the yardstick, and three at a hundredth of the rate.
arms = [(0.01, "free"), (0.01, "held"), (0.01, "held, short steps"), (1.0, "free"), (1.0, "held")]
ways, reached = {}, {}  # by arm: lengths (seeds, steps); accuracy (seeds,)
for arm in [*arms, (0.01, "scores alone"), (0.01, "free", 0.01), (1.0, "free", 0.01),
            (0.1, "held", 0.01)]:
    found = [experiment(*arm[:2], number, *arm[2:]) for number in seeds]
    ways[arm] = np.array([lengths for lengths, _ in found])
    reached[arm] = np.array([accuracy for _, accuracy in found])
scores_alone = reached[0.01, "scores alone"]
held = np.mean(reached[0.01, "held"])
exercises.reveal("07.p2", "stays at guessing" if held < 2 / classes else "learns, but slower"
                 if held < 0.9 else "learns as before, the function is the same",
                 f"Held {held:.0%}, free {np.mean(reached[0.01, 'free']):.0%}.")
claims.check("eq-bn-backward.length",
             "From weights of 0.01 at a learning rate of 1 the network reaches {free:.1%}, "
             "{gain:.0f} points more than the scores alone with {alone:.1%}; with lengths held "
             "{held:.1%} (guessing: {guess:.0%}); held, with a ten-thousandth of the rate for "
             "hidden weights, {control:.1%}.", alone=(scores_alone, ">=", 0.6),
             gain=(100 * (reached[0.01, "free"] - scores_alone), ">=", 5),
             free=(reached[0.01, "free"], ">=", 0.8), held=(reached[0.01, "held"], "<=", 0.35),
             control=(reached[0.01, "held, short steps"], ">=", 0.85),
             guess=1 / classes, seeds=seeds, on="every")

# %% tags=["nbval-varies", "fold"]
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.4), width_ratios=[1, 1.25])
for size in (0.01, 1.0):
    curve = ways[size, "free"].mean(axis=0)
    axes[0].plot(np.arange(len(curve)), curve, color="C0")
    axes[0].axhline(ways[size, "held"].mean(), color="0.5", linestyle="--", linewidth=2)
axes[0].set(xscale="symlog", yscale="log", xlim=(0, len(curve) * 1.1), ylim=(8e-3, 60),
            xlabel="step", ylabel="length of a unit's weights")
axes[0].set_xticks([0, 1, 10, 60], ["0", "1", "10", "60"], minor=False)
for text, place, colour in (("free, from 0.01", 20, "C0"), ("free, from 1", 2.1, "C0"),
                            ("held at 1", 0.8, "0.35"), ("held at 0.01", 0.019, "0.35")):
    axes[0].text(len(curve), place, text, color=colour, fontsize=12, ha="right")
ticks = {arm: f"{arm[0]:g}\n" + arm[1].replace(", ", ",\n").replace("t s", "t\ns") for arm in arms}
colours = {"free": "C0", "held": "0.5", "held, short steps": "0.75"}
plots.bars(axes[1], {ticks[arm]: reached[arm] for arm in arms}, format="{:.0%}",
           colours={ticks[arm]: colours[arm[1]] for arm in arms})
axes[1].axhline(1 / classes, color="0.1", linestyle=":", linewidth=1.5)
axes[1].axhline(scores_alone.mean(), color="0.1", linestyle="-.", linewidth=1.5)
axes[1].text(1, scores_alone.mean() + 0.02, "scores\nalone", ha="center", fontsize=12)
axes[1].text(4.5, 1 / classes + 0.02, "guessing", fontsize=12)
axes[1].set(ylim=(0, 1.15), xlim=(-0.5, 6.0), ylabel="test accuracy")
fig.suptitle("From 0.01 the weights leap and it learns; held there it needs shorter steps")
figures.save(fig, "eq-bn-backward.length",
             caption=f"Second hidden layer with BatchNorm, SGD at a learning rate of 1, {steps} "
                     f"steps; {dataset}; {len(seeds)} seeds (left: mean, right: mean and range). "
                     "0.01 and 1: size of the hidden weights. Short steps: a ten-thousandth of "
                     "the rate for them. Scores alone: hidden layers as drawn. Dotted: guessing.",
             alt="Left: from 0.01 the weights leap in one step to about ten times He's length and "
                 "stay there; from 1 they stay near it. Right: held at 0.01 the network "
                 "guesses, below the scores alone; held with short steps it learns as from "
                 "He's weights.")

# %% tags=["fold"]
claims.check("eq-bn-backward.held",
             "From He's weights it reaches {free:.1%}, held {one:.1%}. As it must, the network "
             "held at 0.01 with the smaller rate does the same as the latter, but for "
             "{apart:.1f} points.",
             free=(reached[1.0, "free"], ">=", 0.85), one=(reached[1.0, "held"], ">=", 0.85),
             apart=(100 * np.abs(reached[0.01, "held, short steps"] - reached[1.0, "held"]),
                    "<=", 3), seeds=seeds, on="mean")
leap = ways[0.01, "free"]
claims.check("eq-bn-backward.growth",
             "Weights of 0.01 become {first:.0f} times as long in the first step and {later:.2f} "
             "times in all later ones together; they end {over:.1f} times as long as those that "
             "began with He's size, which grow by a factor of {one:.2f}.",
             first=(leap[:, 1] / leap[:, 0], ">=", 100),
             later=(leap[:, -1] / leap[:, 1], "<=", 1.5),
             over=(leap[:, -1] / ways[1.0, "free"][:, -1], ">=", 2),
             one=(ways[1.0, "free"][:, -1] / ways[1.0, "free"][:, 0], "<=", 1.5),
             seeds=seeds, on="every")
short = ways[0.01, "free", 0.01][:, 1] / ways[1.0, "free"][:, 0]  # in He's lengths
claims.check("eq-bn-backward.turn",
             "At a rate of 0.01 weights of 0.01 leap to {leap:.2f} of He's length, and the network "
             "reaches {small:.0%}; held at a tenth of He's length it reaches {tenth:.0%}; from "
             "He's weights {slow:.0%} at that rate and {turn:.0%} at a rate of 1.",
             tenth=(reached[0.1, "held", 0.01], ">=", 0.9), leap=(short, "in", (0.05, 0.2)),
             small=(reached[0.01, "free", 0.01], ">=", 0.9),
             slow=(reached[1.0, "free", 0.01], "<=", 0.7), turn=reached[1.0, "free"],
             seeds=seeds, on="every")

# %% [markdown]
# **We now know** why too small a start is forgiven here: the steps were too long for the weights, and one leap makes the weights long. Held short the network guesses, which is worse than leaving the hidden layers as they were drawn; held short with shorter steps it learns.
# The leap does not *aim* at the right length: at a rate of 1 it goes far beyond He's, and nothing brings the weights back; later steps are small, and most of what the network then reaches the scores reach alone.
#
# At a rate of 0.01 the smallest weights learn as well (first figure, with BatchNorm, upper left square). There the leap is a hundred times shorter: it ends at a tenth of He's length. A step turns weights in proportion to rate / length², here $0.01 / 0.1^2 = 1$: as much as He's weights turn at a rate of *1*. So the smallest weights learn there, and He's get part of the way only. The test: weights held at a tenth of He's length, without any leap, learn at that rate as well.
#
# **This does not show** why *large* learning rates are forgiven from He's weights: at a rate of 1 the lengths hardly change, and holding them hardly matters. Nor does it mend weights that are too large: without weight decay nothing shrinks them, and the lowest row of the first figure learns at large rates only.
#
# **Exercise 07.2.** A unit's weights of this `length` stand in front of BatchNorm; their gradient has the length `gradient` (leave $\varepsilon$ out). How long are they after one step of SGD, and by how many degrees has it turned them?
#
# Then backward: a batch of *two* pictures gives a unit the values `a` and `b`; $\gamma = 1$. The loss's gradients at the two outputs $y$ are `g_a` and `g_b`. What gradient reaches `a`? And for you: what is left of it for $\varepsilon \to 0$?

# %%
def after_step(length, gradient, rate):
    """(new length, degrees turned)."""
    ...

def reaches_a(a, b, g_a, g_b, eps):  # the loss's gradient at a
    ...

exercises.check("07.2", after_step, reaches_a)

# %% [markdown]
# ## 3 · What it buys, and the reason it was given
#
# The first figure says: *room*, in the hidden weights and in the learning rate. Three more questions, from He's weights:
# - does a network with it train *faster*: at the same rate, at a larger one?
# - does it matter whether BatchNorm stands before or behind the ReLU?
# - does it carry a deep network of other units, say logistic ones?

# %% tags=["fold", "ledger:prac-bn-placement"]
plain_rates = [0.01, 0.2, 0.3]
plain = np.nan_to_num(trained(net, plain_rates)[1], nan=np.inf)  # loss (rates, seeds)
best_rate, plain_best = min(zip(plain_rates, plain, strict=True), key=lambda one: one[1].mean())
right_before, with_norm = trained(with_bn, [0.01, best_rate, 1.0])  # accuracy, loss
right_behind = trained(norm_behind, [0.01, 1.0])[0]
claims.check("emp-bn-faster-training",
             "From He's weights, at a rate of 0.01, the training loss (mean of the last of "
             "{epochs} epochs) is {bn:.2f} with BatchNorm and {none:.2f} without, {slow:.2f} times "
             "as large; at {rate:g}, the plain network's best of three rates, {bn2:.2f} and "
             "{none2:.2f}, {same:.2f} times. At a rate of 1 it is {bn3:.2f}, {fast:.2f} times the "
             "plain network's at its best rate.", epochs=epochs, rate=best_rate,
             bn=with_norm[0], none=plain[0], slow=(with_norm[0] / plain[0], ">=", 0.95),
             bn2=with_norm[1], none2=plain_best, same=(with_norm[1] / plain_best, ">=", 0.7),
             bn3=with_norm[2], fast=(with_norm[2] / plain_best, "<=", 0.7),
             seeds=seeds, on="mean")
claims.check("prac-bn-placement",
             "At a rate of 0.01 BatchNorm behind the ReLU reaches {behind:.0%}, {gain:.0f} points "
             "more than before it; at a rate of 1 {behind1:.0%} against {before1:.0%}.",
             behind=right_behind[0], gain=(100 * (right_behind - right_before[::2])[0], ">=", 8),
             behind1=(right_behind[1], ">=", 0.8), before1=(right_before[2], ">=", 0.9),
             seeds=seeds, on="mean")
deep_logistic = {
    name: trained(partial(net, 0.7, norm, hidden=7, bend=nn.Sigmoid), [0.3], seeds[:runs])[0][0]
    for name, norm in {"none": None, "BatchNorm": nn.BatchNorm1d}.items()}
claims.check("emp-bn-more-activations-viable",
             "Seven layers of logistic units reach {none:.0%} without BatchNorm and {bn:.0%} with "
             "it (weights of 0.7, rate 0.3, {epochs} epochs).",
             none=(deep_logistic["none"], "<=", 0.2), bn=(deep_logistic["BatchNorm"], ">=", 0.75),
             epochs=epochs, seeds=runs, on="every")

# %% [markdown]
# Not faster at a rate of 0.01, nor at the one that suits the plain network best; faster at a rate of 1, which the plain network does not bear. Behind the ReLU it learns faster at a rate of 0.01; at a rate of 1 both places learn. And it carries seven layers of logistic units (lesson 05), which from the same weights at the same rate learn nothing without it.
#
# Why can it bear large rates? The paper of 2015 gave a reason in its title, *internal covariate shift*: while a layer learns, the layers before it change, so that its inputs come from another distribution at each step. BatchNorm fixes their mean and spread; learning would be easier *because* the shift is gone.
#
# An intervention (after S. Santurkar et al. 2018): keep BatchNorm and bring the shift back. Behind each BatchNorm, every unit is *moved* by a random number, drawn anew at each step. For comparison it is also *stretched*, by random factors, some of which turn its sign. All of it at a learning rate of 1, where the plain network fails and BatchNorm does not. For the test nothing is moved or stretched, and running statistics are taken anew: those of training describe units that were moved.
#
# *What is measured:* by how many deviations the mean of a unit's input moves in one step.
# *Where:* at layer 4, for 256 pictures, as a mean over its units; over the steps of the first epoch the median (of those in which the network still moves and has not diverged).

# %% tags=["define"]
class Shift(nn.Module):
    """Each unit moved, and if asked stretched, by random numbers that are new at each step."""

    def __init__(self, move, stretch=0.0, turn=True):
        super().__init__()
        self.move, self.stretch, self.turn = move, stretch, turn

    def forward(self, x):
        if not self.training:
            return x
        move = self.move * torch.randn(x.shape[1])  # (U,): the same for all pictures
        factor = 1 + self.stretch * torch.randn(x.shape[1])
        if not self.turn:
            factor = factor.abs()  # no unit changes its sign
        return factor * x + move

# %%
exercises.predict("07.p3", "BatchNorm, each unit moved by a deviation a step, at a rate of 1:",
                  ("fails, like the plain network", "learns, at least 85 %"))

# %% tags=["fold"]
# Helpers: inputs_of_layer_4, moves.
@torch.no_grad()
def inputs_of_layer_4(network):
    """What the fourth hidden layer receives for 256 pictures: (256, units)."""
    kept = {name: tensor.clone() for name, tensor in network.named_buffers()}
    place = [i for i, part in enumerate(network) if isinstance(part, nn.Linear)][3]
    x = network[:place](batch)
    for name, tensor in network.named_buffers():
        tensor.copy_(kept[name])  # looking must not change the running statistics
    return x.numpy()

def moves(seen):
    """How far means of units and single numbers move in a step, in deviations: medians over the
    steps in which anything moves and nothing has diverged."""
    means, singles = [], []
    for before, now in itertools.pairwise(seen):
        if np.isfinite(now).all() and np.abs(now).max() < 1e50 and (now != before).any():
            spread = (before.std(axis=0).mean() + now.std(axis=0).mean()) / 2
            means.append(np.abs(now.mean(axis=0) - before.mean(axis=0)).mean() / spread)
            singles.append(np.abs(now - before).mean() / spread)
    return np.median(means), np.median(singles)

# %% tags=["fold"]
# The runs: a plain network, BatchNorm, and BatchNorm with a Shift behind it, at a rate of 1.
def shifted(units, **options):
    return nn.Sequential(nn.BatchNorm1d(units), Shift(**options))

shifts = {"plain": None, "0": nn.BatchNorm1d,  # moved by 0, 1 or 1.5
          "1": partial(shifted, move=1.0), "1.5": partial(shifted, move=1.5),
          "stretched": partial(shifted, move=1.0, stretch=1.0),
          "no sign turned": partial(shifted, move=1.0, stretch=1.0, turn=False)}
epoch = steps // epochs
shift, single, fast = {}, {}, {}  # (seeds,): of means, of single numbers; accuracy
for name, norm in shifts.items():
    found = []
    for number in seeds:
        with runtime.seeded(number):
            network = net(1.0, norm)
            batches = list(batches_of(train, steps, seed=number))
            seen = descend(network, batches[:epoch], 1.0, watch=inputs_of_layer_4)
            descend(network, batches[epoch:], 1.0)
        statistics_anew(network, train.batches(64, drop_last=True))  # the Shifts are off
        found.append((*moves(seen), accuracy_of(network)))
    shift[name], single[name], fast[name] = np.array(found).T
alone = {0.0: [], 1.0: []}  # the move without BatchNorm, at a rate where the plain network learns
for size, number in itertools.product(alone, seeds):
    with runtime.seeded(number):
        network = net(1.0, lambda units, size=size: Shift(size))
        descend(network, batches_of(train, steps, seed=number), 0.1)
    alone[size].append(accuracy_of(network))

# %% tags=["fold"]
exercises.reveal("07.p3", "learns, at least 85 %" if fast["1"].mean() >= 0.85
                 else "fails, like the plain network",
                 f"The means at layer 4 move by {shift['1'].mean():.2f} deviations a step, and it "
                 f"reaches {fast['1'].mean():.0%}.")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.4))
moved = ["0", "1", "1.5"]
ax.plot([shift[name].mean() for name in moved], [fast[name].mean() for name in moved], color="C0")
texts = {"plain": ("plain, no BatchNorm", "C1", "o", (0, 9), "right"),
         "0": ("BatchNorm", "C0", "o", (0, 9), "center"),
         "1": ("moved by 1", "C0", "o", (0, 20), "right"),
         "1.5": ("by 1.5", "C0", "o", (9, -4), "left"),
         "stretched": ("moved by 1 and stretched", "0.15", "s", (-9, -5), "right"),
         "no sign turned": ("moved by 1 and stretched, no sign turned", "0.4", "^", (-9, -5),
                            "right")}
for name, (text, colour, marker, offset, side) in texts.items():
    ax.plot(shift[name], fast[name], marker, color=colour, alpha=0.75)
    ax.annotate(text, (shift[name].mean(), fast[name].mean()), offset, color=colour, ha=side,
                textcoords="offset points", fontsize=12)
ax.axhline(1 / classes, color="0.35", linestyle=":", linewidth=1.5)
ax.text(0.006, 1 / classes + 0.02, "guessing", fontsize=12)
ax.set(xlabel="shift: how far means move at layer 4, deviations a step", ylim=(0, 1.1),
       ylabel=f"test accuracy, {epochs} epochs", xlim=(0.005, None), xscale="log")
ax.set_title(f"Means that move by {shift['1'].mean():.2f} deviations a step: BatchNorm learns at a "
             "rate of 1" if fast["1"].mean() >= 0.85 else "Moved by a deviation it fails")
figures.save(fig, "emp-bn-ics-explanation",
             caption=f"Learning rate 1; {dataset}; a mark a seed; line: means. Blue: units moved "
                     "at each training step; grey: stretched, too. Test: neither, statistics anew.",
             alt="Accuracy stays high for units moved by up to 1.5 deviations; with random factors "
                 "it falls at the same shift, less if no sign turns; the plain network guesses.")

# %% tags=["fold"]
claims.check("emp-bn-ics-explanation",
             "At a rate of 1 the means move by {plain:.2f} deviations a step in a plain network, "
             "which reaches {fails:.0%}; by {bn:.3f} with BatchNorm, whose single numbers still "
             "move by {single:.2f}.",
             plain=(shift["plain"], ">=", 0.2), fails=(fast["plain"], "<=", 0.6),
             bn=(shift["0"], "<=", 0.05), single=(single["0"], ">=", 0.05), seeds=seeds, on="mean")
claims.check("emp-bn-ics-explanation.learning",
             "BatchNorm reaches {none:.1%}; with units moved by 1, so that the means move by "
             "{one:.2f}, {good:.1%}; moved by 1.5, the means by {more:.2f}, {still:.1%}.",
             none=(fast["0"], ">=", 0.9), one=(shift["1"], ">=", 0.8), good=(fast["1"], ">=", 0.85),
             more=(shift["1.5"], ">=", 1.2), still=(fast["1.5"], ">=", 0.8), seeds=seeds, on="mean")
claims.check("emp-bn-ics-explanation.stretch",
             "Moved by 1 and stretched as well, the means move by {same:.2f}, no further, and it "
             "reaches {bad:.0%}; if they turn no sign {half:.0%}, {gain:.0f} points more.",
             same=shift["stretched"], bad=(fast["stretched"], "<=", 0.8),
             gain=(100 * (fast["no sign turned"] - fast["stretched"]), ">=", 5),
             half=fast["no sign turned"], seeds=seeds, on="mean")
claims.check("emp-bn-ics-explanation.alone",
             "Units moved by 1 without BatchNorm, at a rate of 0.1: {moved:.0%}, without the "
             "moves {without:.0%}, {lost:.0f} points more.", moved=alone[1.0],
             lost=(100 * np.subtract(alone[0.0], alone[1.0]), ">=", 10),
             without=(alone[0.0], ">=", 0.85), seeds=seeds, on="mean")

# %% [markdown]
# **We now know** that the large rate does not need means that keep still: moved at random by more than a deviation a step, BatchNorm still learns at a rate of 1. A random *stretch* harms it, at the same shift of the means, and part of that harm is the turned signs.
# That BatchNorm itself moves the means so little is nearly so by construction, as they are set over the same pictures; single numbers go on moving.
#
# **This does not show** that a shift is harmless: without BatchNorm the same moves harm, at a rate of 0.1 (trained with the moves and tested without; that network has no statistics that could be taken anew). The next BatchNorm may take part of a move away again. And the plain network at a rate of 1 moves furthest, but it is diverging: what is cause there and what consequence cannot be told.
# Nor does it show which explanation is right. Santurkar et al. find that BatchNorm may not reduce the shift at all when it is measured as the change of a layer's *gradient*, and that with it the loss changes more smoothly along the gradient.
#
# **Exercise 07.3.** After training, BatchNorm costs nothing: it can be *folded* into the layer before it. Give weight (O, I) and bias (O,) of the one linear layer that equals linear, then BatchNorm in evaluation mode.

# %%
def folded(weight, bias, gamma, beta, mean, var, eps):
    """(weight, bias) of the one layer; gamma, beta, mean, var: (O,)."""
    ...

exercises.check("07.3", folded)

# %% [markdown]
# ## 4 · The price: the batch
#
# Mean and deviation of a batch are estimates. The fewer pictures, the more they are chance. Other layers do the same arithmetic and take their means over something else; for maps (N, C, H, W):
#
# | layer | one mean over | for torch |
# |---|---|---|
# | BatchNorm | a map, all pictures and places | `nn.BatchNorm2d(C)` |
# | LayerNorm | all units or maps and places of **one** picture | `nn.LayerNorm(shape)`, `nn.GroupNorm(1, C)` |
# | GroupNorm | the places of a *group* of maps of **one** picture | `nn.GroupNorm(groups, C)` |
#
# The last two need no batch and no running statistics: they do the same in training and in evaluation.

# %% tags=["define"]
def normalised(x, over, eps=1e-5):
    """x with mean 0 and deviation 1 over these axes."""
    mean = x.mean(over, keepdim=True)
    var = x.var(over, unbiased=False, keepdim=True)
    return (x - mean) / torch.sqrt(var + eps)

def batch_norm(x):  # (N, C, H, W)
    return normalised(x, (0, 2, 3))

def layer_norm(x):
    return normalised(x, (1, 2, 3))

def two_groups(x):
    parts = x.unflatten(1, (2, -1))  # (N, 2 groups, C / 2, H, W)
    return normalised(parts, (2, 3, 4)).flatten(1, 2)

# %%
with runtime.seeded(seed), torch.no_grad():
    maps = nn.Conv2d(batch.shape[1], 8, 3, padding=1)(batch)  # (256, 8, H, W)
company = torch.cat([maps[:1], 3 * maps[1:]])  # the others three times as strong
kinds = {"BatchNorm": batch_norm, "LayerNorm": layer_norm, "GroupNorm": two_groups}
changed = {name: (kind(company) - kind(maps))[0].abs().mean().item()
           for name, kind in kinds.items()}  # in the first picture, which is the same in both

# %% tags=["fold"]
theirs = {"BatchNorm": nn.BatchNorm2d(8), "LayerNorm": nn.LayerNorm(maps.shape[1:]),
          "GroupNorm": nn.GroupNorm(2, 8)}
rows = {name: (round((kinds[name](maps) - layer(maps)).abs().max().item(), 12), 0.0)
        for name, layer in theirs.items()}
claims.table("emp-bn-rnn-rl-open.layers", "Largest difference from torch's layers.", rows,
             columns=("layer", "measured", "expected"), tolerance=1e-12)
claims.check("emp-bn-rnn-rl-open.company",
             "With the other pictures three times as strong, one picture's numbers, whose "
             "deviation is about 1, change on average by {bn:.2f} with BatchNorm, {ln:.1g} with "
             "LayerNorm, {gn:.1g} with GroupNorm.",
             bn=(changed["BatchNorm"], ">=", 0.1), ln=(changed["LayerNorm"], "<=", 1e-12),
             gn=(changed["GroupNorm"], "<=", 1e-12))
generator = torch.Generator().manual_seed(seed)
with runtime.seeded(seed), torch.no_grad():
    first = net(1.0)[:2](batch)  # (256, units): pre-activations of the first layer

def chance(size, draws=400):
    """Deviation of the mean of `size` random pictures, in deviations of the unit."""
    rows = torch.randint(0, len(first), (draws, size), generator=generator)
    return (first[rows].mean(1).std(0) / first.std(0, unbiased=False)).mean().item()

noise = [chance(2**power) for power in range(1, 8)]  # of 2 to 128 pictures
slope = np.polyfit(np.arange(1, 8), np.log2(noise), 1)[0]
claims.check("emp-bn-rnn-rl-open.noise",
             "The mean over B random pictures is off by {two:.2f} deviations for B = 2 and by "
             "{many:.2f} for B = 128: a power of {slope:.2f} of B.",
             two=noise[0], many=noise[-1], slope=(slope, "~", -0.5, 0.05))

# %%
exercises.predict("07.p4", "How small may a batch be? Of two values a > b of a unit "
                  "BatchNorm makes:",
                  ("two numbers that depend on how far a and b differ", "always +1 and −1"))

# %%
pair = torch.tensor([[5.0, -700.0], [4.0, 12.0]])  # two pictures, two units
of_two = nn.BatchNorm1d(2)(pair).detach()
exercises.reveal("07.p4", "always +1 and −1" if (of_two.abs() - 1).abs().max() < 0.01
                 else "two numbers that depend on how far a and b differ",
                 f"The first picture becomes {[round(v, 2) for v in of_two[0].tolist()]}.")
of_two

# %% [markdown]
# From two numbers a mean and a deviation leave only *which of the two is more*, not how much (until they differ as little as $\sqrt\varepsilon$).
#
# Backward something is lost as well. Section 2 takes two directions away, and of two numbers these are all there are: but for $\varepsilon$, no gradient comes through (exercise 07.2).
#
# Does a network learn so? The network of the first figure, with four kinds of layer, takes 100 steps at a rate of 0.03, with batches of 2 and of 16 pictures.

# %% tags=["fold"]
# Helpers: small_cnn, per_place, after_100_steps. The runs: each layer at each size of the batch.
def small_cnn(norm=None, before=True):
    return convolutional(norm, batch.shape[1], 8, classes, before)

def per_place(maps):
    """BatchNorm with a mean and a deviation for each place of each map, over the pictures only."""
    height, width = batch.shape[2:]
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(maps * height * width),
                         nn.Unflatten(1, (maps, height, width)))

def after_100_steps(make, size, loss=F.cross_entropy, frozen=False, rate=0.03):
    """Networks after 100 steps, one a seed, and their accuracies. `frozen`: hidden layers stay as
    drawn, and only the scores learn."""
    networks = []
    for number in seeds:
        with runtime.seeded(number):
            networks.append(make())
        rates = only_scores(networks[-1], rate) if frozen else rate
        descend(networks[-1], batches_of(train, 100, size, seed=number), rates, loss)
    return networks, [accuracy_of(network) for network in networks]

def groups_of_8(units):
    return nn.GroupNorm(max(1, units // 8), units)

layers = {"none": None, "BatchNorm": nn.BatchNorm1d, "LayerNorm": nn.LayerNorm,
          "GroupNorm": groups_of_8}
batch_sizes = [2, 16]  # pictures
networks, reached = {}, {}  # by layer and batch size: one a seed
for name, norm in layers.items():
    for size in batch_sizes:
        networks[name, size], reached[name, size] = after_100_steps(partial(net, 1.0, norm), size)

# %% tags=["nbval-varies", "fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.0))
ends = plots.spread([np.mean(reached[name, batch_sizes[-1]]) for name in layers], 0.085)
for name, end in zip(layers, ends, strict=True):
    values = np.array([reached[name, size] for size in batch_sizes])  # (batch sizes, seeds)
    ax.plot(batch_sizes, values.mean(1), "o-", color=COLOURS[name])
    ax.fill_between(batch_sizes, values.min(1), values.max(1), alpha=0.15, color=COLOURS[name])
    ax.plot([16, 17.6], [values[-1].mean(), end], color=COLOURS[name], linewidth=1)  # leader
    ax.text(18, end, name, color=COLOURS[name], fontsize=13, va="center")
ax.axhline(1 / classes, color="0.35", linestyle=":", linewidth=1.5)
ax.text(17, 1 / classes + 0.02, "guessing", fontsize=12)
ax.set(xscale="log", ylim=(0, 1.02), xlim=(1.8, 28), xlabel="pictures a batch",
       ylabel="test accuracy, 100 steps")
ax.set_xticks(batch_sizes, [str(size) for size in batch_sizes], minor=False)
ax.minorticks_off()
ax.set_title("Fully connected, batches of two: BatchNorm hardly learns")
figures.save(fig, "emp-bn-rnn-rl-open",
             caption=f"Fully connected, {dataset}, 100 steps of SGD at a rate of 0.03 at each "
                     f"batch size; mean and range of {len(seeds)} seeds.",
             alt="For batches of two BatchNorm is near guessing and the other three are well "
                 "above; it rises with the size of the batch and meets them at 16.")
two = {name: reached[name, 2] for name in layers}
slow, quick = (after_100_steps(with_bn, 2, rate=rate)[1] for rate in (0.01, 0.1))
claims.check("emp-bn-rnn-rl-open",
             "Fully connected, two pictures a batch, 100 steps: BatchNorm {bn:.0%}, at a rate of "
             "0.01 {slow:.0%}, of 0.1 {quick:.0%}; no normalisation {none:.0%}, LayerNorm "
             "{ln:.0%}, GroupNorm {gn:.0%}.", slow=(slow, "<=", 0.35), quick=(quick, "<=", 0.4),
             bn=(two["BatchNorm"], "<=", 0.35), none=(two["none"], ">=", 0.45),
             ln=(two["LayerNorm"], ">=", 0.45), gn=(two["GroupNorm"], ">=", 0.45),
             seeds=seeds, on="mean")

# %% [markdown]
# Is the reason that its means are taken over two numbers? Five tests, with a loss of two pictures a step but in the last check:
# - *statistics anew*: if only the running statistics are bad, statistics from batches of 64 mend it.
# - *62 companions*: mean, deviation and running statistics come from 64 pictures; the loss still has two.
# - the same, *only the scores learn*: what is lost forward, without any backward pass through BatchNorm; and, as a check, with two pictures.
# - a small *convolutional* network: there each map has 2 · H · W numbers for its mean;
# - the same with *BatchNorm per place*: each place of each map has a mean of its own, over two numbers; and, as a check, over 16.

# %%
def of_the_first(scores, classes, count=2):
    return F.cross_entropy(scores[:count], classes[:count])

anew = [accuracy_of(statistics_anew(network, train.batches(64, drop_last=True)))
        for network in networks["BatchNorm", 2]]
_, companions = after_100_steps(with_bn, 64, of_the_first)
_, frozen = after_100_steps(with_bn, 64, of_the_first, frozen=True)
in_cnn = {}
for name, norm, size in (("none", None, 2), ("BatchNorm", nn.BatchNorm2d, 2),
                         ("per place", per_place, 2), ("per place, 16", per_place, 16)):
    _, in_cnn[name] = after_100_steps(partial(small_cnn, norm), size)

# %% tags=["nbval-varies", "fold"]
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.4), width_ratios=[1.25, 1], sharey=True)
PALE = "#6ea6d8"
connected = {"no norm,\n2": (two["none"], "C1"), "Batch-\nNorm, 2": (two["BatchNorm"], "C0"),
             "statistics\nanew": (anew, "C0"), "62, only\nscores": (frozen, PALE),
             "62 com-\npanions": (companions, "C0")}
maps = {"no\nnorm,\n2": (in_cnn["none"], "C1"), "Batch-\nNorm,\n2": (in_cnn["BatchNorm"], "C0"),
        "per\nplace,\n2": (in_cnn["per place"], PALE),
        "per\nplace,\n16": (in_cnn["per place, 16"], PALE)}
for ax, found in zip(axes, (connected, maps), strict=True):
    plots.bars(ax, {name: values for name, (values, _) in found.items()}, format="{:.0%}",
               colours={name: colour for name, (_, colour) in found.items()})
    ax.tick_params(axis="x", labelsize=11)
    ax.axhline(1 / classes, color="0.35", linestyle=":", linewidth=1.5)
    ax.set(ylim=(0, 1.1), title="convolutional" if found is maps else "fully connected")
axes[0].set_ylabel("test accuracy, 100 steps")
axes[1].text(3.5, 1 / classes + 0.02, "guessing", fontsize=12)
axes[1].set_xlim(-0.5, 4.9)
fig.suptitle("Where a mean is taken over two numbers BatchNorm hardly learns in 100 steps")
figures.save(fig, "emp-bn-rnn-rl-open.tests",
             caption=f"{dataset}, 100 steps of SGD at a rate of 0.03; 2 and 16: pictures a batch; "
                     f"mean and range of {len(seeds)} seeds. Only scores: with 62 companions, "
                     "hidden layers as drawn.",
             alt="Fully connected, BatchNorm with two pictures is near guessing, with statistics "
                 "anew too; with 62 companions the scores alone get half of the way, all layers "
                 "learn. In a convolutional network BatchNorm "
                 "learns with two pictures, per place hardly, per place with 16 well.")

# %% tags=["nbval-varies", "fold", "ledger:emp-bn-regularises"]
claims.check("emp-bn-rnn-rl-open.tests",
             "Fully connected, two pictures a batch: BatchNorm {bn:.0%}, with statistics anew "
             "{anew:.0%}, with 62 companions {companions:.0%}.", bn=two["BatchNorm"],
             anew=(anew, "<=", 0.4), companions=(companions, ">=", 0.45), seeds=seeds, on="mean")
_, frozen_two = after_100_steps(with_bn, 2, frozen=True)
claims.check("emp-bn-rnn-rl-open.frozen",
             "Only the scores learn: with two pictures a batch {two:.0%}, with 62 companions "
             "{many:.0%}, {forward:.0f} points more, for what is lost forward. If the hidden "
             "layers learn too, {hidden:.0f} points more with companions and {none:.0f} without.",
             two=frozen_two, many=frozen,
             forward=(100 * np.subtract(frozen, frozen_two), ">=", 10),
             hidden=(100 * np.subtract(companions, frozen), ">=", 25),
             none=(100 * np.subtract(two["BatchNorm"], frozen_two), "<=", 10),
             seeds=seeds, on="mean")
with runtime.seeded(seed), torch.no_grad():
    network, told = net(1.0, nn.BatchNorm1d), {}
    for size in (4, 256):  # one picture in 100 groups
        groups = [torch.cat([batch[:1], batch[torch.randint(1, 256, (size - 1,))]])
                  for _ in range(100)]
        told[size] = torch.stack([network(group)[0] for group in groups]).std(0).mean().item()
    between = network(batch).std(0).mean().item()  # other pictures, same company
claims.check("emp-bn-regularises",
             "In an untrained network in training mode one picture's scores vary with its company: "
             "with a deviation of {four:.2f} in batches of 4, of {many:.2f} in batches of 256, "
             "{ratio:.1f} times less. Between different pictures it is {between:.2f}.",
             between=between,
             four=told[4], many=told[256], ratio=(told[4] / told[256], ">=", 3))

# %% tags=["nbval-varies", "fold"]
claims.check("emp-bn-rnn-rl-open.maps",
             "Convolutional, two pictures a batch: BatchNorm {bn:.0%}, none {none:.0%}, BatchNorm "
             "per place {place:.0%}, with 16 pictures a batch {more:.0%}.",
             bn=(in_cnn["BatchNorm"], ">=", 0.5), none=in_cnn["none"],
             place=(in_cnn["per place"], "<=", 0.4),
             more=(in_cnn["per place, 16"], ">=", 0.5), seeds=seeds, on="mean")

def gradients(size):
    """Length of the gradient at the first matrix: median and largest of 99 steps, (seeds, 2)."""
    found = []
    for number in seeds:
        with runtime.seeded(number):
            network = with_bn()
        seen = descend(network, batches_of(train, 100, size, seed=number), 0.03,
                       watch=lambda network: network[1].weight.detach().clone())
        found.append((torch.stack(seen).diff(dim=0) / 0.03).flatten(1).norm(dim=1))
    return np.array([(lengths.median().item(), lengths.max().item()) for lengths in found])

at_two, at_64 = gradients(2), gradients(64)

def untrained(norm):  # median length of that gradient over 51 batches of two
    with runtime.seeded(seed):
        network = net(1.0, norm)
    return np.median([torch.autograd.grad(F.cross_entropy(network(x), y), network[1].weight)[0]
                      .norm().item() for x, y in batches_of(train, 51, 2, seed=seed)])

claims.check("emp-bn-rnn-rl-open.gradient",
             "The gradient at the first matrix has a median length of {two:.3f} with two pictures "
             "a batch and of {many:.2f} with 64; the largest of 99 steps is {burst:.0f} and "
             "{calm:.1f}. Untrained, with two, it has {torchs:.1f} with torch's epsilon and "
             "{exact:.0e} with one of 1e-12 (medians).", torchs=untrained(nn.BatchNorm1d),
             two=(at_two[:, 0], "<=", 0.1), many=(at_64[:, 0], ">=", 0.3),
             burst=(at_two[:, 1], ">=", 100), calm=(at_64[:, 1], "<=", 20),
             exact=(untrained(normalise), "<=", 1e-10), seeds=seeds, on="every", varies=True)

# %% [markdown]
# Statistics anew do not help: the hidden layers have learnt nothing that serves. Untrained, torch's $\varepsilon$ lets a gradient through; in training it is nearly 0 in most steps, but for bursts. By the formula they come where two values nearly agree. With 62 companions a loss of two pictures a step teaches: part of that the scores alone gain, for what is not lost forward; the larger part comes when the hidden layers learn, too. Which way hinders *them* more with two pictures, forward or backward, is not told apart here. With a mean over places two pictures sufficed here; with a mean over two numbers it hardly learns in the convolutional network either.
#
# **The last batch.** 1,347 digits in batches of 64 leave a last batch of 3. The package warns where BatchNorm meets one.
#
# Three things are special about it. Its *loss* is a mean over 3 pictures, and moves the weights as much as one over 64. BatchNorm *normalises* that step by mean and deviation of 3. And these go into the *running* statistics. Which does harm?
#
# At the end of each epoch we make five copies of one network. One goes without the last batch, four meet it in different ways. With *companions* the loss is that of the same 3 pictures, while mean and deviation come from 64. Each copy is asked right after it; then with running statistics taken anew, over batches of 64; and after seven more steps with full batches.

# %%
rest = len(train) % 64 or 64  # pictures in the last batch: 3
ways = {"left out": 0.0, "kept": 0.1,  # the learning rate
        "kept, weighted": 0.1 * rest / 64,  # the loss weighted by its pictures: a shorter step
        "with companions": 0.1, "running statistics only": 0.0}

def after_last(network, last, others, way):
    """A copy of the network that has met the last batch in one of these ways."""
    network, count = copy.deepcopy(network), len(last[1])
    if way == "with companions":
        last = in_company(last, others)  # 64 pictures
    if way != "left out":
        descend(network, [last], ways[way], partial(of_the_first, count=count))
    return network

exercises.predict("07.p5", "The last batch of 3 is kept, rate 0.1. Right after it has harmed:",
                  ("neither", "the one with BatchNorm only", "both"))

# %% tags=["fold"]
# The runs: twice as many seeds, both networks.
more = range(seed, seed + 2 * len(seeds))
norms = {"none": None, "BatchNorm": nn.BatchNorm1d}
pulls = {name: [] for name in norms}  # lengths of gradients: of three, in company, of a full batch

def ends_of_epochs(name, number):
    """Accuracies (epochs, ways, 3): right after the last batch, anew, 7 steps later."""
    with runtime.seeded(number):
        network = net(1.0, norms[name])
    order, table = torch.Generator().manual_seed(number), []
    for epoch in range(epochs):
        full, last = full_and_last(train, order)
        count, company = len(last[1]), in_company(last, full[0])
        descend(network, full, 0.1)
        pulls[name].append([gradient_length(network, *given) for given in (
            (last, count), (company, count), (full[0], 64))])
        for way in ways:
            if name == "none" and way in list(ways)[3:]:  # has no statistics
                table += 3 * [math.nan]
                continue
            after = after_last(network, last, full[0], way)
            table += 2 * [accuracy_of(after)]
            if name == "BatchNorm":
                anew = statistics_anew(copy.deepcopy(after), train.batches(64, drop_last=True))
                table[-1] = accuracy_of(anew)
            descend(after, batches_of(train, 7, seed=1000 + number + epoch), 0.1)
            table.append(accuracy_of(after))
    return np.reshape(table, (epochs, len(ways), 3))

ends = {name: np.array([ends_of_epochs(name, number) for number in more])
        for name in norms}  # (seeds, epochs, ways, 3)

# %% tags=["fold"]
def lost(name, way, moment=0):
    """Points lost against the copy that went without the last batch: (seeds,)."""
    table = 100 * ends[name].mean(axis=1)[:, :, moment]  # (seeds, ways)
    return table[:, 0] - table[:, list(ways).index(way)]

hurt = [name for name in norms if lost(name, "kept").mean() > 2]
exercises.reveal("07.p5", {0: "neither", 2: "both"}.get(len(hurt), "the one with BatchNorm only"),
                 f"Lost without: {lost('none', 'kept').mean():.0f} points, with: "
                 f"{lost('BatchNorm', 'kept').mean():.0f}.")
moments = ["right\nafter", "statistics\nanew", "7 steps\nlater"]
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.4), sharey=True, width_ratios=[2, 3])
for ax, (name, columns, count) in zip(axes, (("none", [0, 2], 3), ("BatchNorm", [0, 1, 2], 5)),
                                      strict=True):
    plots.heat(ax, 100 * ends[name].mean(axis=(0, 1))[:count, columns], format="{:.0f}",
               columns=[moments[column] for column in columns], limits=(0, 100), fontsize=14)
    ax.set_aspect("auto")
    ax.tick_params(labelsize=13)
    ax.set_title("without BatchNorm" if name == "none" else "with BatchNorm")
axes[0].set_yticks(range(5), [way.replace(" statistics", "\nstatistics") for way in ways])
axes[0].set_ylim(4.5, -0.5)
axes[0].text(0.5, 3.5, "has no statistics", ha="center", va="center", fontsize=13)
fig.suptitle(f"A last batch of {rest} harms by its step; with companions it does not")
figures.save(fig, "prac-bn-eval-mode.remainder",
             caption=f"Test accuracy in percent, after each of {epochs} epochs at a rate of 0.1; "
                     f"{dataset}; mean over epochs and {len(more)} seeds. Weighted: by its "
                     f"pictures, over 64. Companions: loss of {rest}, mean and deviation of 64.",
             alt="A kept last batch costs accuracy right after it in both networks; weighted, with "
                 "companions or in the running statistics only next to nothing. Statistics anew "
                 "give back more than half of what BatchNorm loses, seven more steps nearly all.")

# %% tags=["fold"]
claims.check("prac-bn-eval-mode.remainder",
             "A last batch of {rest} at a rate of 0.1 costs {none:.0f} points of accuracy right "
             "after it without normalisation and {bn:.0f} points with BatchNorm; seven steps "
             "later BatchNorm lacks {later:.1f} points. Weighted by its pictures it changes the "
             "accuracy by {none_weighted:+.1f} and {bn_weighted:+.1f} points (mean of {epochs} "
             "epochs).",
             rest=rest, epochs=epochs, none=(lost("none", "kept"), ">", 5),
             bn=(lost("BatchNorm", "kept"), ">", 5), later=(lost("BatchNorm", "kept", 2), "<=", 6),
             none_weighted=(-lost("none", "kept, weighted"), ">=", -2),
             bn_weighted=(-lost("BatchNorm", "kept, weighted"), ">=", -3), seeds=more, on="mean")
claims.check("prac-bn-eval-mode.statistics",
             "With BatchNorm the same loss of {rest} pictures, normalised with companions, costs "
             "{companions:.1f} points; their part in the running statistics, without a step, "
             "{part:.1f} points. Statistics anew give {back:.0f} points of what a kept one costs "
             "back; {weights:.0f} points are left.", rest=rest,
             companions=(lost("BatchNorm", "with companions"), "<=", 3),
             back=(lost("BatchNorm", "kept") - lost("BatchNorm", "kept", 1), ">=", 5),
             part=(lost("BatchNorm", "running statistics only"), "<=", 2),
             weights=(lost("BatchNorm", "kept", 1), ">=", 2), seeds=more, on="mean")

three, company, whole = np.reshape(pulls["BatchNorm"], (len(more), epochs, 3)).mean(1).T
claims.check("prac-bn-eval-mode.gradient",
             "There the gradient of {rest} pictures has a length of {three:.0f} with BatchNorm, "
             "{ratio:.0f} times that with companions, {company:.1f}; that of 64 has {whole:.1f}.",
             rest=rest, three=three, ratio=(three / company, ">=", 3), company=company,
             whole=(whole, "<=", 3), seeds=more, on="mean")

# %% [markdown]
# **We now know** the price: BatchNorm needs enough *numbers* behind each mean, and has a second set of numbers, the running ones.
# Both networks are harmed by the *step* of a last batch of 3: weighted, and so shortened, it costs next to nothing. With BatchNorm that step is so harmful because it is *normalised* over 3: the same loss with 61 companions costs next to nothing, at the full rate. That goes with a gradient that is many times as long.
# It harms twice: it moves the weights, and the running statistics still describe the old ones (anew, they give back more than half). What three pictures add to them hardly matters.
# A run that *ends* with such a batch may end badly; seven steps later most of it is mended.
# **This does not show** where "enough" begins in other networks, what more than 100 steps make of a mean over two numbers, what a small last batch does at small rates, or that the order of layers in the figure holds after more steps.
#
# **Exercise 07.4.** Maps of the shape (N, C, H, W): how many numbers stand behind *one* mean of BatchNorm, of LayerNorm, and of GroupNorm with `groups` groups?
# Then two pictures in a fully connected layer of 64 units, (2, 64, 1, 1), with 8 groups: which layer would you *not* choose there? And for you: which for two large pictures a step, which for one word at a time, which where 64 pictures fit?

# %%
def numbers_behind_a_mean(shape, groups):
    """(BatchNorm, LayerNorm, GroupNorm) for shape = (N, C, H, W)."""
    ...

not_there = ...  # "BatchNorm", "LayerNorm" or "GroupNorm"
exercises.check("07.4", numbers_behind_a_mean, not_there)

# %% [markdown]
# ## 5 · Before BatchNorm: dividing by the neighbours
#
# AlexNet (2012) divides too, but not by the spread over pictures. *Local response normalisation* (LRN) divides each number $a$ of a picture by what stands in $n = 5$ adjacent *channels* at the same place: itself and two neighbours on each side.
#
# $$b_c = \frac{a_c}{\Bigl(k + \alpha \sum_{j=c-2}^{c+2} a_j^2\Bigr)^{\beta}}, \qquad k = 2,\ \alpha = 10^{-4},\ \beta = \tfrac34$$
#
# Nothing is subtracted, nothing learnt, and no batch is needed.

# %% tags=["define", "ledger:err-lrn-over-layer"]
def window_sum(a, n):
    """Sum over n adjacent channels, cut off at the ends: (N, C, H, W) -> (N, C, H, W)."""
    padded = F.pad(a, (0, 0, 0, 0, n // 2, n // 2))
    return sum(padded[:, j:j + a.shape[1]] for j in range(n))

def lrn(a, n=5, k=2.0, alpha=1e-4, beta=0.75):
    """AlexNet's: over adjacent channels."""
    return a / (k + alpha * window_sum(a**2, n)) ** beta

# %% tags=["define", "fold"]
# Other formulas, for the table of corrections: lrn_within, lrn_printed. A layer: LRN.
def lrn_within(a, n=5, alpha=1e-4, beta=0.75):
    """Caffe's WITHIN_CHANNEL: over n x n places of the same channel; alpha a place."""
    return a / (1 + alpha * F.avg_pool2d(a**2, n, 1, n // 2)) ** beta  # zeros at the border count

def lrn_printed(a, n=5, k=2.0, alpha=1e-4, beta=0.75):
    """Another reading: the exponent at the sum only."""
    return a / (k + alpha * window_sum(a**2, n) ** beta)

class LRN(nn.Module):
    """`lrn` as a layer; the number of channels is not needed."""

    def __init__(self, channels, alpha=1e-4):
        super().__init__()
        self.alpha = alpha

    def forward(self, a):
        return lrn(a, alpha=self.alpha) if self.alpha else a / 2**0.75

# %% tags=["fold", "ledger:eq-lrn-seed000", "ledger:eq-lrn-within-vs-cross"]
a = 100 * torch.rand(2, 12, 6, 6, generator=torch.Generator().manual_seed(seed))
faint = a / 1e4  # so small that the sum vanishes against k
claims.check("err-lrn-seed000-formula",
             "On faint numbers the formula with the exponent at the sum alone gives {ratio:.3f} "
             "times AlexNet's (2⁻¹ for 2⁻⁰·⁷⁵).",
             ratio=((lrn_printed(faint) / lrn(faint)).mean().item(), "~", 0.841, 0.001))
quiet = torch.ones(1, 9, 9, 9)
loud = quiet.clone()
loud[0, 4, 4, 4] = 1000.0

def kept(function):
    """Shares that the place beside a loud one, and the channel beside it, keep of themselves."""
    share = function(loud) / function(quiet)  # against the same without a loud one
    return share[0, 4, 4, 5].item(), share[0, 5, 4, 4].item()

corner = a[0, 1, 0, 0] / (1 + 1e-4 / 25 * a[0, 1, :3, :3].square().sum()) ** 0.75  # by hand
claims.check("eq-lrn-within-vs-cross",
             "Beside a loud number, LRN across channels leaves the next place {place:.2f} of "
             "itself and the next channel {channel:.2f}; Caffe's other LRN, within a channel, "
             "{within_place:.2f} and {within_channel:.2f}. By hand a corner differs by {off:.0e}.",
             place=(kept(lrn)[0], "~", 1.0, 1e-9), channel=(kept(lrn)[1], "<=", 0.9),
             within_place=(kept(lrn_within)[0], "<=", 0.9),
             within_channel=(kept(lrn_within)[1], "~", 1.0, 1e-9),
             off=((lrn_within(a)[0, 1, 0, 0] - corner).abs().item(), "<=", 1e-12), varies=True)

# %% [markdown]
# What does it do? Sixteen channels at one place: a lone peak, a plateau of equally strong channels, and a middling channel beside a strong one.

# %% tags=["fold"]
channels = torch.tensor([10.0, 10, 10, 200, 10, 10, 10, 200, 200, 200, 200, 200, 10, 60, 200, 10])
out = lrn(channels[None, :, None, None])[0, :, 0, 0]
share = out / channels
fig, axes = plt.subplots(2, 1, figsize=(figures.WIDTH, 4.7), sharex=True, height_ratios=[1, 1])
marks = ["#3f3f3f" if i == 3 else "#7d5fa6" if 7 <= i <= 11 else "#7a5c3a" if i == 13 else "0.8"
         for i in range(16)]
axes[0].bar(range(16), channels, color=marks)
axes[0].set(ylabel="activation", ylim=(0, 270))
for place, text, colour in ((3, "lone peak", "#3f3f3f"), (9, "plateau", "#7d5fa6"),
                            (13.4, "beside a strong one", "#7a5c3a")):
    axes[0].text(place, 215, text, ha="center", color=colour, fontsize=13)
axes[1].bar(range(16), share, color=marks)
axes[1].axhline(2**-0.75, color="0.35", linestyle=":", linewidth=1.5)
axes[1].text(15.6, 2**-0.75 + 0.02, "faint surroundings: 2⁻⁰·⁷⁵", ha="right", fontsize=12)
axes[1].set(xlabel="channel", ylabel="share kept", ylim=(0, 0.75), xticks=range(0, 16, 3))
fig.suptitle("LRN lowers every number, and most where neighbours are strong")
figures.save(fig, "emp-lrn-lateral-inhibition",
             caption="Made-up activations of 16 channels at one place, and what AlexNet's LRN "
                     "keeps of them.",
             alt="All shares are below 0.6; the lone peak and its neighbours keep the same share, "
                 "the plateau and the channel beside a strong one keep less.")

claims.check("emp-lrn-lateral-inhibition",
             "LRN keeps {peak:.2f} of a lone peak and {middle:.2f} of the middle of a plateau as "
             "high, which is {ratio:.2f} times as much.",
             peak=share[3].item(), middle=share[9].item(),
             ratio=(share[9].item() / share[3].item(), "<=", 0.75))
claims.check("err-lrn-more-sensitive",
             "No channel keeps more than {most:.2f} of itself; peak and neighbour were 20 to 1 "
             "and are {ratio:.1f} to 1.",
             most=(share.max().item(), "<", 1), ratio=((out[3] / out[2]).item(), "~", 20.0, 0.1))

# %% [markdown]
# The lone peak is lowered by itself: its own square is one of the five. Peak and next neighbour have nearly the same window, so their ratio stays as it was. Against the plateau, which was as high, the peak gains; no channel becomes more active than it was.
#
# Does it help to train? A small convolutional network with LRN behind each ReLU, and AlexNet's constants. Beside it: no normalisation, BatchNorm, and LRN *without its sum* ($\alpha = 0$). Each takes 30 steps at a rate of 0.1 and at one of 0.3, and counts at the better of the two.

# %%
exercises.predict("07.p6", "Test error with AlexNet's LRN, against the same without its sum:",
                  ("lower by a third or more", "about the same", "higher by a third or more"))

# %% tags=["fold"]
# The runs: 30 steps with each kind of layer, at two rates.
kinds = {"none": None, "AlexNet's": LRN, "without sum": partial(LRN, alpha=0.0),
         "BatchNorm": nn.BatchNorm2d}
errors = {}  # in percent (rates, seeds) after 30 steps
for name, norm in kinds.items():
    found = []
    for rate, number in itertools.product((0.1, 0.3), seeds):
        with runtime.seeded(number):
            network = small_cnn(norm, before=name == "BatchNorm")  # LRN behind the ReLU
        descend(network, batches_of(train, 30, 32, seed=number), rate)
        found.append(100 * (1 - accuracy_of(network)))
    errors[name] = np.reshape(found, (2, -1))
least = {name: found[found.mean(axis=1).argmin()] for name, found in errors.items()}  # (seeds,)
against = least["AlexNet's"].mean() / least["without sum"].mean()
exercises.reveal("07.p6", "lower by a third or more" if against < 2 / 3 else "about the same"
                 if against < 4 / 3 else "higher by a third or more",
                 f"It is {against:.2f} times as large.")
print(f"test error, % (mean and range of {len(seeds)} seeds)")
print(f"{'':13}{'rate 0.1':>22}{'rate 0.3':>22}")
for name, found in errors.items():
    cells = [f"{row.mean():.1f} ({row.min():.1f} to {row.max():.1f})" for row in found]
    print(f"{name:13}{cells[0]:>22}{cells[1]:>22}")

# %% tags=["fold"]
claims.check("emp-bn-replaces-lrn.lrn",
             "With the same seed AlexNet's LRN and the same without its sum differ by "
             "{slow:.1f} points of test error after 30 steps at a rate of 0.1, and by {fast:.1f} "
             "at 0.3.", slow=(abs(errors["AlexNet's"] - errors["without sum"])[0], "<=", 3),
             fast=(abs(errors["AlexNet's"] - errors["without sum"])[1], "<=", 8),
             seeds=seeds, on="mean")
with torch.no_grad():
    maps = torch.relu(nn.Conv2d(batch.shape[1], 8, 3, padding=1)(batch))
    bite = (lrn(maps, k=1.0) / maps)[maps > 0].mean().item()
claims.check("emp-bn-replaces-lrn.bites",
             "In an untrained first layer the sum alone (k = 1) leaves {one:.4f} of a positive "
             "number, on average.", one=(bite, ">=", 0.99))
claims.check("emp-bn-replaces-lrn",
             "Each at its better rate, 30 steps: BatchNorm {bn:.0f}% test error, no normalisation "
             "{none:.0f}%, AlexNet's LRN {lrn:.0f}%; BatchNorm has {ahead:.0f} points less than "
             "none.",
             bn=least["BatchNorm"], none=least["none"], lrn=least["AlexNet's"],
             ahead=(least["none"] - least["BatchNorm"], ">=", 2), seeds=seeds, on="mean")

# %% [markdown]
# The activations are about 1 here and not 100, so the sum hardly counts; what is left of AlexNet's formula is the factor $2^{-3/4} = 0.59$ of k = 2, in each of three layers. A factor shortens every step, too: that goes with how little it learns at the smaller rate. Each at its better rate, BatchNorm is ahead of no normalisation here. The order of LRN and none is not told: with the seeds 80 to 82 it was the other way round (`seed=80`, `runs=3`).
#
# **We now know** what LRN is: a damping by neighbours, which raises no number. With AlexNet's constants it acts here like its factor alone.
# **This does not show** which kind is best in the end: these are two rates, 30 steps, and seeds that differ widely. Nor does it show what LRN does where activations are large. Nor that LRN never helped: AlexNet's authors report 1.4 and 1.2 points less error with it (top-1 and top-5).
#
# **Exercise 07.5.** AlexNet's formula with its own $n, k, \alpha, \beta$, by torch: which arguments does `F.local_response_norm(a, size, alpha, beta, k)` need?

# %%
def torch_arguments(n, k, alpha, beta):
    """(size, alpha, beta, k) for F.local_response_norm."""
    ...

exercises.check("07.5", torch_arguments)

# %% tags=["fold", "ledger:eq-lrn-seed003"]
# The answer to 07.5, at work.
theirs = F.local_response_norm(a, 5, 5e-4, 0.75, 2.0)
off = (lrn(a) - theirs).abs().max().item()
unfit = (lrn(a) - F.local_response_norm(a, 5, 1e-4, 0.75, 2.0)).abs().max().item()
claims.check("eq-lrn-seed003",
             "With arguments that fit, torch's LRN differs from AlexNet's by {off:.0e} on numbers "
             "up to 100; with AlexNet's own constants as arguments by up to {unfit:.1f}.",
             off=(off, "<=", 1e-10), unfit=(unfit, ">", 1), varies=True)

# %% [markdown]
# ## In practice
#
# - `nn.Conv2d(..., bias=False)`, `nn.BatchNorm2d(channels)`, `nn.ReLU()`: a bias in front of BatchNorm is subtracted again. Use `network.train()` and `network.eval()`.
# - Few pictures a step (large pictures, detection, several machines): `nn.SyncBatchNorm`, `nn.GroupNorm(32, channels)` as in section 4, or frozen statistics (`torchvision.ops.FrozenBatchNorm2d`).
# - Transformers and ConvNeXt: `nn.LayerNorm(channels)`, a mean for each place over its channels only; many language models use `nn.RMSNorm`, which subtracts no mean.
# - After training fold BatchNorm away: `torch.nn.utils.fusion.fuse_conv_bn_eval`.
# - `drop_last=True` in the loader. `timm.create_model(..., norm_layer=...)` swaps the layer where a model allows it.
#
# ## History
#
# - 2009: K. Jarrett, K. Kavukcuoglu, M. Ranzato and Y. LeCun find rectification with local contrast normalisation the most important part of a recognition system. 2012: AlexNet divides by neighbouring channels. 2014: VGG finds no use in that; GoogLeNet still has it.
# - 2015: BatchNorm (S. Ioffe and C. Szegedy); within the year it is in ResNet.
# - 2016: LayerNorm (J. Ba, R. Kiros and G. Hinton), weight normalisation (T. Salimans and D. Kingma). 2018: GroupNorm (Y. Wu and K. He).
# - 2017: T. van Laarhoven describes how BatchNorm makes the effective step depend on the length of the weights. 2018: S. Santurkar et al. put the covariate shift to the test.
# - 2021: networks without normalisation reach the same accuracy on ImageNet, by adaptive clipping of gradients in a residual network made for it (A. Brock et al.).
#
# ## Exercises that are left
#
# **07.6 Open.** Write GroupNorm for maps: for each picture, mean and deviation over the channels of a group and all places. For you: what is it with one group, and what with as many groups as channels?

# %%
def group_norm(x, groups, gamma, beta, eps):
    """x (N, C, H, W), gamma and beta (C,) -> (N, C, H, W)."""
    ...

exercises.check("07.6", group_norm)

# %% [markdown]
# **07.7 Open.** Choose one, and measure it.
# - What does the first figure *not* show? Think of the number of epochs, of momentum, of Adam, of other depths; and of what a plain network would reach from He's weights if one tried more rates.
# - Test a "because" of this lesson: take one of its sentences that names a cause, write down *first* which number would refute it, then run it. For instance: with BatchNorm the step of the last batch harms because it is normalised over 3. How many companions does it need? Or: let the gradient of two pictures through, with mean and deviation as constants backward (`detach`). Does the network learn then?
#
# ## Summary
#
# - BatchNorm sets mean and spread of each unit over the batch; its $\gamma$ and $\beta$ can undo it. The shape of the distribution and the correlations stay.
# - In front of it, the length of the weights hardly matters for the output, and decides how far a step turns them. Weights of a hundredth leap in one step and learn; held short they guess, held short with shorter steps they learn.
# - It buys room, in the hidden weights and the learning rate. From He's weights it is not faster at the plain network's best rate; it is at larger ones. A large rate does not need means that keep still: moved at random by a deviation a step, it still learns.
# - It costs dependence on the batch. Where a mean is taken over two numbers it hardly learns in 100 steps: forward only ±1 is left, backward nothing but for $\varepsilon$; in a convolutional layer two pictures sufficed here. LayerNorm and GroupNorm look at one picture.
# - A last batch of 3 harms at a rate of 0.1, with and without BatchNorm, by its step: it moves the weights, and with BatchNorm leaves running statistics that describe the old ones. Weighted by its pictures it harms little; with BatchNorm also if the step is normalised over more pictures than these three.
# - LRN damps by neighbouring channels; nothing becomes larger. With AlexNet's constants it was a mere factor here.

# %% [markdown]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | mean and "variance²"; divide by √(variance² + ε) | σ² **is** the variance: divide by √(variance + ε) | section 1, equal to torch |
# | BatchNorm makes the activations Gaussian | it sets **mean and spread**, not the shape | section 1, skewness |
# | global mean and variance by a weighted average | more exactly: torch moves a **tenth** of the way at each step, the paper averages over many batches after training; both with the variance divided by n − 1 | section 1; the paper, algorithm 2 |
# | networks train faster | at rates that are **too large** for a plain network, or from weights that are too small; from He's weights at the plain network's best rate not here | section 3; first figure |
# | BatchNorm stands before the nonlinearity | it may stand **behind** it, too: at a rate of 0.01 it learnt faster there, at a rate of 1 it learns in both places | section 3 |
# | slow learning is due to internal covariate shift | **disputed**: with means that are moved by a whole deviation a step the large rate still works | section 3; Santurkar et al. |
# | batch statistics give a slight regularisation | the **noise** is real; its effect on the test error is not measured here | section 4 |
# | recurrent networks: an open question | **LayerNorm** (2016) was made for them: it takes its mean within one picture or one moment | section 4; the paper |
# | LRN: $x\,(k + \alpha (\ldots)^\beta)^{-1}$, over 5 × 5 places | the exponent belongs to the **whole bracket**, and the window runs over 5 **channels** at one place | section 5; AlexNet, section 3.3 |
# | LRN: $\alpha\, ss / n$ | that is Caffe's and **torch's**; AlexNet does not divide, so torch needs $n \alpha$ | section 5 |
# | LRN normalises over all activations of the layer | over **n = 5** adjacent channels | section 5 |
# | the excited neuron "becomes even more sensitive as compared to its neighbors" | in one window the **ratio stays**; it gains only against places where strong ones stand together, and every output **shrinks** for k ≥ 1 | section 5 |
#
# ## Sources
#
# - The notes: lectures 000 and 003 on both layers, 001 and 002 on LRN, 004 on BatchNorm (after CS231n, Stanford 2017).
# - S. Ioffe and C. Szegedy: Batch normalization: accelerating deep network training by reducing internal covariate shift. ICML 2015 (arXiv:1502.03167).
# - S. Santurkar, D. Tsipras, A. Ilyas and A. Madry: How does batch normalization help optimization? NeurIPS 2018 (arXiv:1805.11604).
# - T. van Laarhoven: L2 regularization versus batch and weight normalization, 2017 (arXiv:1706.05350).
# - J. Ba, R. Kiros and G. Hinton: Layer normalization, 2016 (arXiv:1607.06450). Y. Wu and K. He: Group normalization, 2018 (arXiv:1803.08494). T. Salimans and D. Kingma: Weight normalization, 2016 (arXiv:1602.07868).
# - A. Krizhevsky, I. Sutskever and G. Hinton: ImageNet classification with deep convolutional neural networks. NIPS 2012, section 3.3. K. Jarrett et al.: What is the best multi-stage architecture for object recognition? ICCV 2009. K. Simonyan and A. Zisserman, 2014 (arXiv:1409.1556).
# - A. Brock, S. De, S. Smith and K. Simonyan: High-performance large-scale image recognition without normalization, 2021 (arXiv:2102.06171).
# - Caffe, tutorial of the LRN layer; torch, `torch.nn.functional.local_response_norm`.
