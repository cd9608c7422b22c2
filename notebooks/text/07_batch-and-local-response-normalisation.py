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
# *Batch normalisation* (BatchNorm, BN) mends that: for each unit it takes the mean and the spread over the pictures of the batch, subtracts the one and divides by the other.
#
# The first figure trains one network from five sizes of its random weights, with six learning rates each.
# Without BatchNorm it learns in one small corner; with it nearly everywhere.
# Odd: if numbers are divided by their spread, weights that are a hundred times too small are *no different layer* at all. But their gradient is a hundred times too long. Why does nothing explode? Section 2 finds out, by forbidding what saves it.
#
# **You will be able to**
# - write BatchNorm forward and backward, and its two modes;
# - say why a network with it forgives a bad start, and test such a "because";
# - name what it costs: answers that depend on the batch, and failure with two pictures a step;
# - choose between BatchNorm, LayerNorm and GroupNorm, and read the old LRN.
#
# **You need** lesson 02 (scores, softmax, loss), lesson 03 (gradients, the chain rule) and lesson 05 (units, ReLU, how gradients vanish). Section 5 has a small convolutional network (lesson 04).
#
# **Words.** A *unit* is one number that a layer computes for a picture; before it is bent it is called *pre-activation*. *Deviation* is short for standard deviation, the spread. The *learning rate* is the factor from gradient to step.
# Claims (✓) are made for the parameters below; with others the lesson shows what it measures and requires nothing.
#
# **It costs** about 40 seconds of one processor core, no network connection, no GPU.

# %% tags=["parameters"]
seed: int = 20  # the first of the seeds; at least 0
runs: int = 2  # networks for each setting, each with a seed of its own; 2 to 10
dataset: str = "digits"  # ; one of digits, mnist, fashion_mnist, cifar10, or a folder
images: int = 1347  # training pictures, at most; at least 320
width: int = 64  # units a hidden layer; 8 to 512
epochs: int = 4  # passes over the training pictures; 1 to 100
scales: list = [0.01, 0.1, 1, 3, 10]  # size of the first weights, 1: He's; each above 0, ascending
rates: list = [0.001, 0.01, 0.1, 0.3, 1, 3]  # learning rates; each above 0, ascending

# %% tags=["imports", "fold"]
import math
import warnings

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
batch, labels = next(train.batches(256))  # for measurements on untrained networks
inputs, classes = batch[0].numel(), len(train.classes)
seeds = range(seed, seed + runs)
train, test

# %% [markdown]
# Four hidden layers and one layer of scores, 64 units wide. `norm`, if there is one, makes a normalising layer between each matrix and its ReLU.
# Weights are drawn with deviation `scale` × √(2 / number of inputs). At `scale` = 1 that is He's rule: behind a ReLU numbers then neither grow nor shrink from layer to layer (lesson 06 is about such rules).

# %% tags=["define"]
def linear(inputs, outputs, scale):
    """A layer with random weights of deviation scale * sqrt(2 / inputs), and biases of 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=scale * math.sqrt(2 / inputs))
    nn.init.zeros_(layer.bias)
    return layer

def deep(scale=1.0, norm=None, hidden=4, bend=nn.ReLU, inputs=64, width=64, classes=10):
    """`hidden` layers of `width` units, normalised by what `norm(width)` makes, and scores."""
    parts = [nn.Flatten()]
    for size in [inputs] + (hidden - 1) * [width]:
        parts.append(linear(size, width, scale))
        if norm is not None:
            parts.append(norm(width))
        parts.append(bend())
    return nn.Sequential(*parts, linear(width, classes, scale))

# %% tags=["fold"]
# The network for these pictures, and its training by the package.
figures.use_style()
COLOURS = {"none": "C1", "BatchNorm": "C0", "LayerNorm": "C2", "GroupNorm": "C3"}

def net(scale=1.0, norm=None, **options):
    return deep(scale, norm, inputs=inputs, width=width, classes=classes, **options)

def trained(make, rates, pictures=train, passes=epochs, batch_size=64, together=None):
    """Train `runs` networks at each rate by SGD: accuracy in the test and last training loss,
    both (rates, runs), and the networks. What diverges counts as guessing."""
    result = training.repeat(
        make, pictures, test, epochs=passes, batch_size=batch_size, drop_last=True,
        progress=False, seeds=len(rates) * list(seeds), together=together,
        learning_rates=np.repeat(rates, runs).tolist(),
        optimizer=lambda weights, lr: torch.optim.SGD(weights, lr=lr))
    right = np.nan_to_num(result.last("valid_accuracy"), nan=1 / classes)
    loss = np.array(result.last("train_loss"))
    return right.reshape(-1, runs), loss.reshape(-1, runs), result.models

# %%
right, loss = {}, {}  # (scales, rates, runs): accuracy in the test, last loss in training
for name, norm in {"none": None, "BatchNorm": nn.BatchNorm1d}.items():
    rows = [trained(lambda scale=scale, norm=norm: net(scale, norm), rates) for scale in scales]
    right[name] = np.array([row[0] for row in rows])
    loss[name] = np.array([row[1] for row in rows])

# %% tags=["fold"]
learns = {name: int((values.mean(axis=2) >= 0.8).sum()) for name, values in right.items()}
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.6), sharey=True)
for ax, (name, values) in zip(axes, right.items(), strict=True):
    plots.heat(ax, 100 * values.mean(axis=2), rows=[f"{scale:g}" for scale in scales],
               columns=[f"{rate:g}" for rate in rates], format="{:.0f}", limits=(0, 100),
               fontsize=13)
    ax.set_aspect("auto")
    ax.tick_params(labelsize=12)
    ax.set(xlabel="learning rate",
           title="without BatchNorm" if name == "none" else "with BatchNorm")
axes[0].set_ylabel("size of the first weights\n(1: He's rule)")
fig.suptitle(f"Of {right['none'][..., 0].size} settings {learns['none']} learn without BatchNorm, "
             f"{learns['BatchNorm']} with it")
figures.save(fig, "emp-bn-less-init-sensitive",
             caption=f"Test accuracy in percent after {epochs} epochs of SGD, batches of 64; "
                     f"{dataset}, four hidden layers of {width} units; mean of {runs} seeds. "
                     f"Guessing: {100 / classes:.0f}. A setting learns if it reaches 80.",
             alt="Left: only weights of about He's size with middle learning rates reach more "
                 "than 80 percent. Right: most of the table does.")

# %% tags=["fold"]
def best(name):
    """Accuracy (scales, runs) at the rate that is best for each scale on average."""
    table = right[name]
    return np.array([row[row.mean(axis=1).argmax()] for row in table])

def largest(name):
    """The largest learning rate at which all runs from He's weights reach 80 %."""
    row = right[name][scales.index(1)] if 1 in scales else right[name][0]
    fine = [rate for rate, values in zip(rates, row, strict=True) if values.min() >= 0.8]
    return max(fine, default=math.nan)

claims.check("emp-bn-less-init-sensitive",
             "Of {all} settings {none} learn without BatchNorm, {bn} with it; each scale at its "
             "best rate, the worst scale reaches {bad:.0%} without (guessing: {guess:.0%}), "
             "{good:.0%} with it.",
             all=len(scales) * len(rates), none=(learns["none"], "<=", 6),
             bn=(learns["BatchNorm"], ">=", 15), bad=(best("none").mean(1).min(), "<=", 0.3),
             good=(best("BatchNorm").mean(1).min(), ">=", 0.6), guess=1 / classes)
claims.check("emp-bn-higher-lr",
             "From He's weights the largest rate of the table that learns is {none:g} without and "
             "{bn:g} with BatchNorm, {ratio:.1f} times as large.",
             none=largest("none"), bn=largest("BatchNorm"),
             ratio=(largest("BatchNorm") / largest("none"), ">=", 3))

# %% [markdown]
# ## 1 · The layer: two lines to normalise, two to take it back
#
# For each unit, over the $m$ pictures of a batch:
#
# $$\mu = \tfrac1m \sum_i x_i, \qquad \sigma^2 = \tfrac1m \sum_i (x_i - \mu)^2, \qquad \hat x_i = \frac{x_i - \mu}{\sqrt{\sigma^2 + \varepsilon}}, \qquad y_i = \gamma\, \hat x_i + \beta$$
#
# $\varepsilon = 10^{-5}$ guards against a division by 0. Scale $\gamma$ and shift $\beta$ are learnt, one each for a unit; they begin with 1 and 0.
# In a convolutional layer, one *map* takes the place of one unit: mean and variance over all pictures *and all places*.
#
# A single picture has no spread. So for use after training the layer keeps *running* statistics: at each step a tenth of the way towards those of the batch.

# %% tags=["define", "ledger:eq-bn-forward-steps", "ledger:eq-bn-running-stats", "ledger:prac-bn-init", "ledger:err-bn-variance-squared"]
class BatchNorm(nn.Module):
    """Each unit of (N, U), or each map of (N, C, H, W), with mean 0 and deviation 1."""

    def __init__(self, units, eps=1e-5, momentum=0.1):
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
                self.var.lerp_(var * count / (count - 1), self.momentum)  # by count - 1
        mean, var, gamma, beta = [v.view(1, -1, *(x.ndim - 2) * [1])
                                  for v in (mean, var, self.gamma, self.beta)]
        return gamma * (x - mean) / torch.sqrt(var + self.eps) + beta

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
claims.check("eq-bn-conv", "For maps (64, 5, 6, 6) the layer keeps {count} means, one a map.",
             count=(BatchNorm(5)(torch.randn(4, 5, 6, 6)).shape[1], "==",
                    nn.BatchNorm2d(5).running_mean.numel()))

# %% [markdown]
# Ours equals torch's `nn.BatchNorm1d` and `nn.BatchNorm2d`; from here on we use torch's.
#
# Does it make the numbers *Gaussian*, a bell curve, as one reads? Take numbers that are nothing like one, outputs of a ReLU. Their *skewness* (mean cube of $\hat x$) tells how lopsided they are; a bell curve has 0.

# %%
exercises.predict("07.p1", "Skewness of ReLU outputs behind BatchNorm, against before:",
                  ("0, it is a bell", "about half", "unchanged"))

# %%
def skewness(x):
    return (((x - x.mean()) / x.std(unbiased=False)) ** 3).mean().item()

lopsided = torch.relu(torch.randn(5000, 1, generator=torch.Generator().manual_seed(seed)))
skew = skewness(lopsided), skewness(nn.BatchNorm1d(1)(lopsided))
exercises.reveal("07.p1", "unchanged" if skew[1] > 0.9 * skew[0] else "about half"
                 if skew[1] > 0.2 else "0, it is a bell",
                 f"It is {skew[0]:.2f} before and {skew[1]:.2f} behind.")

# %% [markdown]
# So the shape stays; only centre and spread are set. That is all, and through depth it is much. Ten untrained layers whose weights have 0.6 of He's size:

# %% tags=["fold"]
def pre_activations(norm, scale, hidden=10):
    """What each hidden layer hands to its ReLU, flat: a list of arrays."""
    x, found = batch, []
    with runtime.seeded(seed), torch.no_grad():
        for part in net(scale, norm, hidden=hidden):
            if isinstance(part, nn.ReLU):
                found.append(x.flatten().numpy())
            x = part(x)
    return found

depths = {"without": pre_activations(None, 0.6), "with": pre_activations(nn.BatchNorm1d, 0.6)}
spread = {name: [values.std() for values in found] for name, found in depths.items()}
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.6), sharex=True, sharey=True)
edges = np.linspace(-3, 3, 49)
for ax, (name, found) in zip(axes, depths.items(), strict=True):
    for layer, values in enumerate(found):
        counts = np.histogram(values, edges)[0]
        curve = 10 - layer + 1.5 * counts / counts.max()
        ax.fill_between(edges[:-1], 10 - layer, curve, color="C1" if name == "without" else "C0",
                        alpha=0.75, linewidth=0, zorder=layer, rasterized=True)
        ax.plot(edges[:-1], curve, color="white", linewidth=1, zorder=layer, rasterized=True)
    ax.set(xlabel="pre-activation", title=f"{name} BatchNorm", xlim=(-3, 3))
axes[0].set_yticks([10, 7, 4, 1], ["1", "4", "7", "10"])
axes[0].set(ylabel="hidden layer")
fig.suptitle(f"Without it the spread falls to {spread['without'][-1]:.3f} in ten layers; "
             "with it each layer has 1")
figures.save(fig, "fig-bn-distribution",
             caption=f"Pre-activations of ten untrained layers, weights of 0.6 times He's size, "
                     f"256 pictures of {dataset}; each curve scaled to its own height.",
             alt="Left the histograms become narrower from layer to layer until a line is left; "
                 "right all ten have the same width.")

# %% tags=["fold", "ledger:eq-bn-identity"]
claims.check("fig-bn-distribution",
             "From layer 1 to layer 10 the deviation goes from {first:.2f} to {last:.3f} without "
             "BatchNorm; with it the tenth layer has {kept:.2f}.",
             first=spread["without"][0], last=(spread["without"][-1], "<=", 0.05),
             kept=(spread["with"][-1], "~", 1.0, 0.05))
claims.check("err-bn-gaussian",
             "BatchNorm leaves the skewness of 5,000 ReLU outputs at {after:.3f}; it was "
             "{before:.3f}, and a bell curve has 0.",
             before=skew[0], after=(skew[1], ">=", 0.95 * skew[0]))
x = 3 * torch.randn(64, 7, generator=torch.Generator().manual_seed(seed)) + 2
with torch.no_grad():
    back = BatchNorm(7)
    back.gamma.copy_(torch.sqrt(x.var(0, unbiased=False) + back.eps))
    back.beta.copy_(x.mean(0))
    off = (back(x) - x).abs().max().item()
claims.check("eq-bn-identity",
             "With a suitable scale and shift the output differs from the input by {off:.0e}.",
             off=(off, "<=", 1e-12), varies=True)

# %% [markdown]
# **Two modes.** In training a picture's numbers depend on the *other* pictures of the batch; in evaluation (`network.eval()`) only on the picture and the running statistics. A network left in training mode answers differently in other company:

# %% tags=["ledger:prac-bn-eval-mode"]
_, _, (network, *_) = trained(lambda: net(1.0, nn.BatchNorm1d), [0.1])
pictures, _ = next(test.batches(400))
other = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed))

def answers(order, size):
    """The class named for each picture, shown in groups of `size` in this order."""
    named = torch.empty(len(order), dtype=torch.long)
    with torch.no_grad():
        for group in order.split(size):
            named[group] = network(pictures[group]).argmax(1)
    return named

network.train()
moved = (answers(other, 8) != answers(other.flip(0).roll(3), 8)).double().mean().item()
network.eval()
alone = (answers(other, 1) != answers(other, 400)).double().mean().item()

# %% tags=["fold"]
try:
    network.train()(pictures[:1])
    refused = "accepted"
except ValueError:
    refused = "refused"
claims.check("prac-bn-eval-mode",
             "In training mode {moved:.1%} of the pictures get another class in other company "
             "(groups of 8); in evaluation mode, one at a time or all at once, {alone:.1%}. A "
             "single picture in training mode is {refused} by torch.",
             moved=(moved, ">", 0), alone=(alone, "==", 0.0), refused=(refused, "==", "refused"))

# %% [markdown]
# **We now know** the layer: it sets centre and spread, keeps the shape, and can be undone by its own $\gamma$ and $\beta$. So what a network *can* compute has not become less.
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
# Backward there are three ways from $y$ to one $x_i$: straight on, through the mean, and through the deviation. With $g = \gamma\, \partial L / \partial y$ and means over the batch they add up to
#
# $$\frac{\partial L}{\partial x_i} = \frac{1}{\sqrt{\sigma^2 + \varepsilon}} \left( g_i - \overline{g} - \hat x_i\, \overline{g \hat x} \right)$$

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

# %% tags=["fold"]
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

# %% [markdown]
# What is taken away are the two directions that normalising makes useless: moving all $x_i$ together, and stretching them. Follow that to the weights $w$ of one unit in front of BatchNorm. Multiply them by $c$:
# - the output stays the same, for $x$ and its spread both grow by $c$;
# - the gradient is divided by $c$: the same output change needs a step $c$ times as long;
# - the gradient is at a right angle to $w$: along $w$ nothing changes.

# %%
with runtime.seeded(seed):
    network = net(1.0, nn.BatchNorm1d)
weight = network[1].weight  # (units, pixels)

def at_weight():
    """Scores, and the loss's gradient at the first matrix."""
    scores = network(batch)
    return scores, torch.autograd.grad(F.cross_entropy(scores, labels), weight)[0]

scores, gradient = at_weight()
cosine = F.cosine_similarity(gradient, weight, dim=1).abs().max().item()  # 0: a right angle
with torch.no_grad():
    weight *= 100
scores100, gradient100 = at_weight()

# %% tags=["fold"]
claims.check("eq-bn-backward.scale",
             "With first weights 100 times as large the scores change by {moved:.0e} and the "
             "gradient becomes {factor:.1f} times smaller; the cosine between gradient and weights "
             "is at most {cosine:.0e}.",
             moved=((scores100 - scores).abs().max().item(), "<=", 1e-3),
             factor=((gradient.norm() / gradient100.norm()).item(), "~", 100.0, 0.5),
             cosine=(cosine, "<=", 1e-3), varies=True)

# %% [markdown]
# (What is not exactly 0 there comes from $\varepsilon$.)
#
# So here is a suspicion. Weights a hundred times too small get a gradient a hundred times too long. The step is at a right angle, so by Pythagoras $\lVert w \rVert^2$ *grows* by the step's square. Longer weights have a smaller gradient, and the next step turns them less. The layer would find its step size by itself.
# To test it, forbid the growth: after each step set every hidden unit's weights back to their old length. The *function* is not touched by that at all.

# %% tags=["define"]
def descend(network, pictures, rate, passes, hold=False, watch=None, seed=0):
    """SGD by hand; `hold` sets hidden weights back to their old length after each step.

    Returns what `watch(network)` said before each step, or an empty list.
    """
    order, seen = torch.Generator().manual_seed(seed), []
    hidden = [part.weight for part in network if isinstance(part, nn.Linear)][:-1]
    lengths = [weight.detach().norm(dim=1, keepdim=True) for weight in hidden]
    for _ in range(passes):
        for x, y in pictures.batches(64, order, drop_last=True):
            if watch is not None:
                seen.append(watch(network))
            parameters = list(network.parameters())
            gradients = torch.autograd.grad(F.cross_entropy(network(x), y), parameters)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter -= rate * gradient
                for weight, length in zip(hidden, lengths, strict=True):
                    if hold:
                        weight *= length / weight.norm(dim=1, keepdim=True)
    return seen

# %%
exercises.predict("07.p2", "BatchNorm, weights of 0.01, learning rate 1, lengths held. It:",
                  ("learns as before, the function is the same", "learns, but slower",
                   "stays at guessing"))

# %%
def length(network):
    """Mean length of a unit's weights in the second hidden layer."""
    return network[4].weight.detach().norm(dim=1).mean().item()

ways, reached = {}, {}  # (runs, steps) of lengths; accuracy (runs,)
for scale in (0.01, 0.1, 1.0):
    for hold in (False, True):
        curves, accuracy = [], []
        for number in seeds:
            with runtime.seeded(number):
                network = net(scale, nn.BatchNorm1d)
            curves.append(descend(network, train, 1.0, epochs, hold, length, number))
            accuracy.append(training.evaluate(network, test).accuracy)
        ways[scale, hold], reached[scale, hold] = np.array(curves), accuracy

# %% tags=["fold"]
held = np.mean(reached[0.01, True])
exercises.reveal("07.p2", "stays at guessing" if held < 2 / classes else "learns, but slower"
                 if held < 0.9 else "learns as before, the function is the same",
                 f"Held {held:.0%}, free {np.mean(reached[0.01, False]):.0%}.")
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.3), width_ratios=[1.35, 1])
for scale, colour in ((1.0, "C2"), (0.1, "C0"), (0.01, "C3")):
    curve = ways[scale, False].mean(axis=0)
    axes[0].plot(np.arange(len(curve)), curve, color=colour)
    axes[0].axhline(ways[scale, True].mean(), color=colour, linestyle="--", linewidth=1.5)
axes[0].set(xscale="symlog", yscale="log", xlim=(0, len(curve) * 1.1), ylim=(8e-3, 3),
            xlabel="step", ylabel="length of a unit's weights", title="solid: free, dashed: held")
for scale, place, colour in (("1", 1.7, "#00786c"), ("0.1", 0.17, "C0"), ("0.01", 0.0175, "C3")):
    axes[0].text(11, place, f"from scale {scale}", color=colour, fontsize=12)
for (scale, hold), values in reached.items():
    place = (0.01, 0.1, 1.0).index(scale) + (0.12 if hold else -0.12)
    axes[1].plot(runs * [place], values, "s" if hold else "o", markersize=10,
                 color="0.45" if hold else "C0")
for place, height, word in ((-0.25, 0.83, "free"), (0.25, 0.13, "held")):
    axes[1].text(place, height, word, fontsize=13)
axes[1].axhline(1 / classes, color="0.35", linestyle=":", linewidth=1.5)
axes[1].text(1.2, 1 / classes - 0.07, "guessing", fontsize=12)
axes[1].set_xticks([0, 1, 2], ["0.01", "0.1", "1"])
axes[1].set(ylim=(0, 1.05), xlim=(-0.5, 2.5), xlabel="size of first weights", ylabel="accuracy")
fig.suptitle("Too small weights grow until the step fits; held at their length they do not learn")
figures.save(fig, "eq-bn-backward.length",
             caption=f"Second hidden layer with BatchNorm, SGD at a learning rate of 1, {epochs} "
                     f"epochs; {dataset}; {runs} seeds (left: mean, right: one mark a seed).",
             alt="Left: from 0.01 and 0.1 the weights grow within a few steps to about the same "
                 "length. Right: held at 0.01 the network guesses, at 0.1 it learns badly, "
                 "at 1 holding changes nothing.")

# %% tags=["fold"]
claims.check("eq-bn-backward.length",
             "From weights of 0.01 at a learning rate of 1 the network reaches {free:.1%}; with "
             "lengths held {held:.1%} (guessing: {guess:.0%}).",
             free=(reached[0.01, False], ">=", 0.85), held=(reached[0.01, True], "<=", 0.3),
             guess=1 / classes, seeds=runs, on="every")
claims.check("eq-bn-backward.held",
             "From He's weights holding the lengths costs {cost:.1%} of accuracy.",
             cost=(np.subtract(reached[1.0, False], reached[1.0, True]), "<=", 0.1),
             seeds=runs, on="mean")
claims.check("eq-bn-backward.growth",
             "The shortest weights grow {times:.0f}-fold, those of scale 1 by a factor of "
             "{one:.2f}.",
             times=(ways[0.01, False][:, -1] / ways[0.01, False][:, 0], ">=", 10),
             one=(ways[1.0, False][:, -1] / ways[1.0, False][:, 0], "<=", 1.5),
             seeds=runs, on="every")

# %% [markdown]
# **We now know** why too small a start is forgiven: the weights grow, and growing is what mends the step. Without it the same function, with the same normalisation, learns nothing.
# **This does not show** why *large* learning rates are forgiven from He's weights: there the lengths hardly change, and holding them hardly matters. Nor does it mend weights that are too large: nothing shrinks them, and the lower rows of the first figure learn at large rates only.
#
# **Exercise 07.2.** Weights $w$ in front of BatchNorm take a step of SGD with learning rate `rate`. With which rate does $w / \lVert w \rVert$ take a step to the *same direction*? (Leave $\varepsilon$ out.)

# %%
def same_turn(rate, length):
    """The learning rate for weights of length 1 that turns them as `rate` turns these."""
    ...

exercises.check("07.2", same_turn)

# %% [markdown]
# ## 3 · What it buys, and the reason it was given
#
# The first figure says: *room*, in the first weights and in the learning rate. Does a network also train *faster*? Training loss from He's weights, by learning rate:

# %% tags=["fold"]
row = scales.index(1) if 1 in scales else 0
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.0))
for name, label, place in (("none", "without BatchNorm", 0), ("BatchNorm", "with BatchNorm", 1)):
    values = loss[name][row]  # (rates, runs), nan where it diverged
    ax.plot(rates, values.mean(axis=1), "o-", color=COLOURS[name], label=label)
    ax.fill_between(rates, values.min(axis=1), values.max(axis=1), color=COLOURS[name], alpha=0.2,
                    linewidth=0)
ax.axhline(math.log(classes), color="0.35", linestyle=":", linewidth=1.5)
ax.text(rates[-1], math.log(classes) * 0.72, "guessing", fontsize=12, ha="right")
ax.set(xscale="log", yscale="log", xlabel="learning rate", ylabel=f"training loss, epoch {epochs}")
ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
ax.minorticks_off()
ax.legend(loc="lower left", fontsize=13)
ax.set_title("At small learning rates BatchNorm gains nothing, at large ones it is what works")
plt.show()  # He's weights; mean and range of the seeds; orange ends where runs diverge

# %% tags=["fold"]
def loss_at(name, rate):
    return loss[name][row][rates.index(rate)] if rate in rates else loss[name][row][0]

lowest = {name: np.nanmin(values[row].mean(axis=1)) for name, values in loss.items()}
claims.check("emp-bn-faster-training",
             "At a rate of 0.01 the loss is {slow:.2f} times as large with BatchNorm as without. "
             "Each at its best rate it is {bn:.3f} with and {none:.3f} without.",
             slow=(loss_at("BatchNorm", 0.01).mean() / loss_at("none", 0.01).mean(), ">=", 1.1),
             bn=(lowest["BatchNorm"], "<=", 0.15), none=(lowest["none"], "<=", 0.3))
deep_logistic = {
    name: trained(lambda norm=norm: net(0.7, norm, hidden=7, bend=nn.Sigmoid), [0.3])[0][0]
    for name, norm in {"none": None, "BatchNorm": nn.BatchNorm1d}.items()}
claims.check("emp-bn-more-activations-viable",
             "Seven layers of logistic units reach {none:.0%} without BatchNorm and {bn:.0%} with "
             "it (rate 0.3, {epochs} epochs).",
             none=(deep_logistic["none"], "<=", 0.2), bn=(deep_logistic["BatchNorm"], ">=", 0.75),
             epochs=epochs, seeds=runs, on="every")

# %% [markdown]
# Why? The paper of 2015 gave a reason in its title, *internal covariate shift*: while a layer learns, the layers before it change, so that its inputs come from another distribution at each step. BatchNorm fixes their mean and spread; learning would be easier *because* the shift is gone.
#
# An intervention (S. Santurkar et al. 2018): keep BatchNorm and bring the shift back. Behind each BatchNorm, every unit is stretched and moved by random numbers that are drawn anew at each step.
# As a yardstick we measure the shift: by how many deviations the mean of a unit's input moves from one step to the next, on the same 256 pictures (layer 4, mean over units, median over steps). At a rate of 0.1, where all three learn.

# %% tags=["define"]
class ShiftedBatchNorm(nn.BatchNorm1d):
    """BatchNorm, then every unit stretched and moved at random, anew at each step of training."""

    size = 0.5

    def forward(self, x):
        y = super().forward(x)
        if not self.training:
            return y
        return y * (1 + self.size * torch.randn(y.shape[1])) + self.size * torch.randn(y.shape[1])

# %%
exercises.predict("07.p3", "BatchNorm with a shift larger than that of a plain network, rate 1:",
                  ("fails, like the plain network", "learns, at least 90 %"))

# %% tags=["fold"]
@torch.no_grad()
def inputs_of_layer_4(network):
    """Means and deviations (2, units) of what the fourth hidden layer receives."""
    kept = {name: tensor.clone() for name, tensor in network.named_buffers()}
    place = [i for i, part in enumerate(network) if isinstance(part, nn.Linear)][3]
    x = network[:place](batch)
    for name, tensor in network.named_buffers():
        tensor.copy_(kept[name])  # looking must not change the running statistics
    return x.mean(0).numpy(), x.std(0).numpy()

def accuracy_of(network):
    """Accuracy in the test, or that of guessing where its numbers are no longer finite."""
    found = training.predict(network, test)
    return ((found.argmax(1) == test.labels).double().mean().item() if found.isfinite().all()
            else 1 / classes)

# %%
kinds = {"none": None, "BatchNorm": nn.BatchNorm1d, "BatchNorm\n+ shift": ShiftedBatchNorm}

shift, fast = {}, {}
for name, norm in kinds.items():
    shifts, accuracy = [], []
    for number in seeds:
        with runtime.seeded(number):
            network = net(1.0, norm)
            seen = np.array(descend(network, train, 0.1, 2, watch=inputs_of_layer_4, seed=number))
            network = net(1.0, norm)
            descend(network, train, 1.0, epochs, seed=number)
        moves = np.abs(np.diff(seen[:, 0], axis=0)).mean(axis=1) / seen[:-1, 1].mean(axis=1)
        shifts.append(np.median(moves))
        accuracy.append(accuracy_of(network))
    shift[name], fast[name] = shifts, accuracy

# %% tags=["fold"]
plain, normal, noisy = kinds
exercises.reveal("07.p3", "learns, at least 90 %" if np.mean(fast[noisy]) >= 0.9
                 else "fails, like the plain network",
                 f"It reaches {np.mean(fast[noisy]):.0%}; its shift is "
                 f"{np.mean(shift[noisy]) / np.mean(shift[plain]):.1f} times the plain network's.")
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.2))
colours = {plain: "C1", normal: "C0", noisy: "C3"}
plots.bars(axes[0], shift, format="{:.2g}", colours=colours)
plots.bars(axes[1], fast, format="{:.0%}", colours=colours)
axes[0].set(ylabel="shift of the inputs\n(deviations a step)", title="shift, at a rate of 0.1")
axes[1].set(ylabel="test accuracy", title="learning, at a rate of 1", ylim=(0, 1.15))
axes[1].axhline(1 / classes, color="0.35", linestyle=":", linewidth=1.5)
fig.suptitle("With more shift than the plain network, BatchNorm still learns at a rate of 1")
figures.save(fig, "emp-bn-ics-explanation",
             caption="Left: how far the mean of an input of the fourth layer moves in one step. "
                     f"Right: accuracy after {epochs} epochs (dotted: guessing). {dataset}, "
                     f"{runs} seeds.",
             alt="The shift is tiny with BatchNorm and largest with the added shift; at a rate "
                 "of 1 the plain network guesses and both BatchNorm networks learn.")

# %% tags=["fold", "ledger:prac-bn-placement"]
claims.check("emp-bn-ics-explanation",
             "Inputs of layer 4 move by {plain:.2f} deviations a step without BatchNorm, by "
             "{bn:.4f} with it, by {noisy:.2f} with the added shift.",
             plain=shift[plain], bn=(shift[normal], "<=", 0.02), noisy=(shift[noisy], ">=", 0.3),
             seeds=runs, on="every")
claims.check("emp-bn-ics-explanation.learning",
             "At a rate of 1 the plain network reaches {plain:.0%}, BatchNorm {bn:.1%}, BatchNorm "
             "with the added shift {noisy:.1%}.",
             plain=(fast[plain], "<=", 0.5), bn=(fast[normal], ">=", 0.9),
             noisy=(fast[noisy], ">=", 0.85), seeds=runs, on="every")

def behind(scale=1.0):
    """BatchNorm behind each ReLU instead of before it."""
    parts = list(net(scale, nn.BatchNorm1d))
    for place in range(2, len(parts) - 1, 3):
        parts[place], parts[place + 1] = parts[place + 1], parts[place]
    return nn.Sequential(*parts)

before_relu = right["BatchNorm"][row].max(axis=0)
after_relu = trained(behind, rates[2:5])[0].max(axis=0)
claims.check("prac-bn-placement",
             "Each at its best rate, BatchNorm before the ReLU reaches {before:.1%} and behind it "
             "{after:.1%}: here the place does not decide.",
             before=(before_relu, ">=", 0.9), after=(after_relu, ">=", 0.9), seeds=runs, on="every")

# %% [markdown]
# **We now know** that BatchNorm does remove the shift, and that removing it is not what permits the large rate: with more shift than ever the permission stays.
# **This does not show** that the shift is harmless, nor which explanation is right. Santurkar et al. find that with BatchNorm the loss changes more smoothly along the gradient; that goes along with larger steps.
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
# Mean and deviation of a batch are estimates. The fewer pictures, the more they are chance. How small may a batch be?
# Three others to compare with:
# - *LayerNorm* takes mean and spread over all units of **one** picture. The batch has no part in it.
# - *GroupNorm* does so within groups of units or maps; with 8 units a group here.
# - *Frozen statistics*: our layer with mean and deviation of 256 pictures, taken once before training, and never again. The batches are as small as the others'.

# %%
exercises.predict("07.p4", "Two pictures a batch. For a unit with values a > b BatchNorm gives:",
                  ("two numbers that depend on how far a and b differ", "always +1 and −1"))

# %%
pair = torch.tensor([[5.0, 0.31, -700.0], [4.0, 0.30, 12.0]])  # two pictures, three units
of_two = nn.BatchNorm1d(3)(pair).detach()
size_only = (of_two.abs() - 1).abs().max().item() < 0.3
exercises.reveal("07.p4", "always +1 and −1" if size_only
                 else "two numbers that depend on how far a and b differ",
                 f"The first picture becomes {[round(v, 2) for v in of_two[0].tolist()]}.")
of_two

# %% [markdown]
# With two pictures a unit can only say *which of the two has more*, never how much. Does a network learn so?

# %% tags=["define", "fold"]
class Frozen(nn.Module):
    """Normalises by statistics that were taken once; scale and shift are learnt."""

    def __init__(self, units):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(units))
        self.beta = nn.Parameter(torch.zeros(units))
        self.register_buffer("mean", torch.zeros(units))
        self.register_buffer("deviation", torch.ones(units))

    def forward(self, x):
        return self.gamma * (x - self.mean) / self.deviation + self.beta

@torch.no_grad()
def freeze(network, images):
    """Give each Frozen layer the statistics of these images, first layer first."""
    x = images
    for part in network:
        if isinstance(part, Frozen):
            part.mean.copy_(x.mean(0))
            part.deviation.copy_(torch.sqrt(x.var(0, unbiased=False) + 1e-5))
        x = part(x)
    return network

# %%
few = train.subset(120, seed=seed)  # pictures: small batches take many steps
sizes = [2, 4, 8, 16]  # pictures a batch
makes = {"none": lambda: net(1.0),
         "BatchNorm": lambda: net(1.0, nn.BatchNorm1d),
         "LayerNorm": lambda: net(1.0, nn.LayerNorm),
         "GroupNorm": lambda: net(1.0, lambda units: nn.GroupNorm(max(1, units // 8), units)),
         "frozen": lambda: freeze(net(1.0, Frozen), batch)}
by_size = {}  # accuracy (sizes, runs), three passes at a learning rate of 0.03
for name, make in makes.items():
    tried = sizes if name in ("none", "BatchNorm") else [2, 16]
    by_size[name] = {size: trained(make, [0.03], few, 3, size, together=False)[0][0]
                     for size in tried}

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.4))
places = {}
for name, found in by_size.items():
    values = np.array(list(found.values()))  # (sizes, runs)
    ax.plot(list(found), values.mean(axis=1), "o--" if name == "frozen" else "o-",
            color=COLOURS.get(name, "0.35"), label={"none": "no normalisation",
                                                     "frozen": "frozen statistics"}.get(name, name))
    ax.fill_between(list(found), values.min(axis=1), values.max(axis=1), alpha=0.15, linewidth=0,
                    color=COLOURS.get(name, "0.35"))
ax.axhline(1 / classes, color="0.35", linestyle=":", linewidth=1.5)
ax.text(16, 1 / classes + 0.02, "guessing", fontsize=12, ha="right")
ax.set(xscale="log", ylim=(0, 1), xlabel="pictures a batch", ylabel="test accuracy")
ax.set_xticks(sizes, [str(size) for size in sizes])
ax.minorticks_off()
ax.legend(loc="lower right", bbox_to_anchor=(1, 0.16), fontsize=12)
ax.set_title("With two pictures a batch BatchNorm fails, and only BatchNorm")
figures.save(fig, "emp-bn-rnn-rl-open",
             caption=f"{len(few)} pictures of {dataset}, three epochs of SGD at a rate of 0.03, "
                     f"He's weights; mean and range of {runs} seeds.",
             alt="BatchNorm is near guessing for batches of two and rises to the others at 8 to "
                 "16; the other four lines are high at all sizes.")

# %% tags=["fold", "ledger:emp-bn-regularises"]
two = {name: found[2] for name, found in by_size.items()}
claims.check("emp-bn-rnn-rl-open",
             "With two pictures a batch BatchNorm reaches {bn:.0%}, no normalisation {none:.0%}, "
             "LayerNorm {ln:.0%}, GroupNorm {gn:.0%}, frozen statistics {frozen:.0%}.",
             bn=(two["BatchNorm"], "<=", 0.4), none=(two["none"], ">=", 0.5),
             ln=(two["LayerNorm"], ">=", 0.5), gn=(two["GroupNorm"], ">=", 0.5),
             frozen=(two["frozen"], ">=", 0.5), seeds=runs, on="every")
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
with runtime.seeded(seed), torch.no_grad():
    network, told = net(1.0, nn.BatchNorm1d), {}
    for size in (4, 256):  # one picture in 100 groups
        groups = [torch.cat([batch[:1], batch[torch.randint(1, 256, (size - 1,))]])
                  for _ in range(100)]
        told[size] = torch.stack([network(group)[0] for group in groups]).std(0).mean().item()
claims.check("emp-bn-regularises",
             "In training mode one picture's scores vary with its company: with a deviation of "
             "{four:.2f} in batches of 4, of {many:.2f} in batches of 256, {ratio:.1f} times less.",
             four=told[4], many=told[256], ratio=(told[4] / told[256], ">=", 3))

# %% [markdown]
# Frozen statistics are the test of the reason: the same layer and the same tiny batches, but means and deviations that do not come from two pictures, and the network learns.
# Look at one unit (in a live lab): where the means of batches lie, against the pictures themselves.

# %% tags=["fold"]
def means_of_batches(size):
    rows = torch.randint(0, len(first), (300, size), generator=torch.Generator().manual_seed(1))
    unit = first[:, 0]
    figure, ax = plt.subplots(figsize=(figures.WIDTH, 3.2))
    ax.hist(unit.numpy(), 40, density=True, color="0.8", label="256 pictures")
    ax.hist(unit[rows].mean(1).numpy(), 40, density=True, color="C0", alpha=0.7,
            label=f"means of {size}")
    ax.set(xlabel="pre-activation of one unit", ylabel="density", title=f"batches of {size}")
    ax.legend(fontsize=12)
    off = (unit[rows].mean(1).std() / unit.std()).item()
    return figure, f"A mean of {size} is off by {off:.2f} deviations; 1/√B is {size**-0.5:.2f}."

rest, five = len(train) % 64, range(seed, seed + 5)

def ends_of_epochs(make, drop_last):
    """Accuracy in the test (5 seeds, epochs) right after each epoch, and the networks."""
    with warnings.catch_warnings(action="ignore"):  # the package warns of just this
        result = training.repeat(
            make, train, test, epochs=epochs, batch_size=64, drop_last=drop_last, seeds=five,
            progress=False, optimizer=lambda weights: torch.optim.SGD(weights, lr=0.1))
    return np.array([history["valid_accuracy"] for history in result]), result.models

widgets.explore(means_of_batches, size=widgets.Slider(4, 2, 128, 1, "pictures a batch"))

# %% [markdown]
# **The last batch.** 1,347 digits in batches of 64 leave a last batch of 3. Its gradient counts as much as any other, and its statistics go into the running ones. We train two networks, with BatchNorm and without, and measure after each epoch.
# Of the one with BatchNorm we keep the weights in the end, and take only the running statistics anew, in batches of 64.

# %%
exercises.predict("07.p5", "The last batch of 3 is kept. At the end of an epoch it has harmed:",
                  ("neither", "the one with BatchNorm only", "both"))

# %% tags=["define"]
@torch.no_grad()
def statistics_anew(network, batches):
    """Running statistics as the plain mean over these batches; the weights stay."""
    for part in network:
        if isinstance(part, nn.BatchNorm1d):
            part.reset_running_stats()
            part.momentum = None  # torch: the mean over all batches
    network.train()
    for images, _ in batches:
        network(images)
    return network

# %%
kept, left_out = {}, {}
for name in ("none", "BatchNorm"):
    kept[name], damaged = ends_of_epochs(makes[name], drop_last=False)
    left_out[name], _ = ends_of_epochs(makes[name], drop_last=True)
mended = [training.evaluate(statistics_anew(network, train.batches(64, drop_last=True)),
                            test).accuracy for network in damaged]

# %% tags=["fold"]
lost = {name: (left_out[name] - kept[name]).mean(axis=1) for name in kept}  # (5 seeds,)
hurt = [name for name, values in lost.items() if values.mean() > 0.02]
exercises.reveal("07.p5", {0: "neither", 2: "both"}.get(len(hurt), "the one with BatchNorm only"),
                 f"Without normalisation {lost['none'].mean():.0%} are lost, with BatchNorm "
                 f"{lost['BatchNorm'].mean():.0%}.")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.2))
steps = np.arange(1, epochs + 1)
for name in kept:
    for style, table in (("-", left_out[name]), ("--", kept[name])):
        ax.plot(steps, table.mean(axis=0), style, marker="o", color=COLOURS[name],
                label=f"{'no normalisation' if name == 'none' else name}, "
                      f"{'left out' if style == '-' else 'kept'}")
ax.plot(epochs, np.mean(mended), "*", color="C0", markersize=18, label="kept, statistics anew")
ax.set(xlim=(0.9, epochs + 2.6), ylim=(0, 1.02), xlabel="epoch", xticks=steps,
       ylabel="test accuracy at its end")
ax.legend(loc="lower right", fontsize=12)
ax.set_title(f"A last batch of {rest} harms both networks, with BatchNorm and without")
plt.show()  # batches of 64, rate 0.1, measured right after the last one; five seeds

# %% tags=["fold"]
claims.check("prac-bn-eval-mode.remainder",
             "At the ends of {epochs} epochs a last batch of {rest} costs {none:.0%} of accuracy "
             "without normalisation and {bn:.0%} with BatchNorm.",
             epochs=epochs, rest=rest, none=(lost["none"], ">", 0.02),
             bn=(lost["BatchNorm"], ">", 0.02), seeds=five, on="mean")
claims.check("prac-bn-eval-mode.statistics",
             "In the end BatchNorm has {bad:.0%} with the last batch, {mended:.0%} with statistics "
             "taken anew and {good:.0%} without it; new statistics win {back:.0%}.",
             bad=kept["BatchNorm"][:, -1], mended=mended, good=left_out["BatchNorm"][:, -1],
             back=(np.subtract(mended, kept["BatchNorm"][:, -1]), ">", 0), seeds=five, on="mean")

# %% [markdown]
# **We now know** the price: BatchNorm needs enough pictures a batch, and it has a second set of numbers (the running ones) that must fit. And a small last batch harms *any* network, not only through the statistics: with `drop_last=True` it is left out, and the harm is gone.
# **This does not show** where "enough" begins: in this small network the figure tells, in another it may be elsewhere. In recurrent networks and reinforcement learning batches are small or their pictures much alike, and LayerNorm is usual there.
#
# **Exercise 07.4.** LayerNorm, backward. It is BatchNorm along the other axis: for each picture over its units, and then the same `gamma` and `beta` (U,). Careful: which gradients are sums over what?

# %%
def layernorm_backward(gradient, x, gamma, eps):
    """Gradients at x (N, U), gamma (U,) and beta (U,)."""
    ...

exercises.check("07.4", layernorm_backward)

# %% [markdown]
# ## 5 · Before BatchNorm: dividing by the neighbours
#
# AlexNet (2012) divides too, but not by the spread over pictures. *Local response normalisation* (LRN) divides each number $a$ of a picture by its neighbours: those in $n = 5$ adjacent *channels* at the same place.
#
# $$b_c = \frac{a_c}{\Bigl(k + \alpha \sum_{j=c-2}^{c+2} a_j^2\Bigr)^{\beta}}, \qquad k = 2,\ \alpha = 10^{-4},\ \beta = \tfrac34$$
#
# Nothing is subtracted, nothing learnt, and no batch is needed. Other books have other formulas: Caffe and torch divide $\alpha$ by $n$, Caffe can also take the neighbours in *space*, and the notes print the exponent at another place.

# %% tags=["define", "ledger:err-lrn-over-layer"]
def window_sum(a, n):
    """Sum over n adjacent channels, cut off at the ends: (N, C, H, W) -> (N, C, H, W)."""
    padded = F.pad(a, (0, 0, 0, 0, n // 2, n // 2))
    return sum(padded[:, j:j + a.shape[1]] for j in range(n))

def lrn(a, n=5, k=2.0, alpha=1e-4, beta=0.75):
    """AlexNet's: over adjacent channels."""
    return a / (k + alpha * window_sum(a**2, n)) ** beta

# %% tags=["define", "fold"]
def lrn_within(a, n=5, alpha=1e-4, beta=0.75):
    """Caffe's WITHIN_CHANNEL: over n x n places of the same channel; alpha a place."""
    return a / (1 + alpha * F.avg_pool2d(a**2, n, 1, n // 2)) ** beta  # zeros at the border count

def lrn_printed(a, n=5, k=2.0, alpha=1e-4, beta=0.75):
    """As one of the notes has it: the exponent at the sum only."""
    return a / (k + alpha * window_sum(a**2, n) ** beta)

# %% tags=["fold", "ledger:eq-lrn-seed003", "ledger:eq-lrn-seed000", "ledger:eq-lrn-within-vs-cross"]
a = 100 * torch.rand(2, 12, 6, 6, generator=torch.Generator().manual_seed(seed))
rows = {"torch: size 5, alpha 5e-4, beta 0.75, k 2":
        ((lrn(a) - F.local_response_norm(a, 5, 5e-4, 0.75, 2.0)).abs().max().item(), 0.0),
        "torch, alpha left at 1e-4":
        ((lrn(a, alpha=1e-4 / 5) - F.local_response_norm(a, 5, 1e-4, 0.75, 2.0)).abs().max()
         .item(), 0.0)}
claims.table("eq-lrn-seed003", "Largest difference from torch of AlexNet's formula with alpha = "
             "1e-4, and with a fifth of it.", rows, columns=("against", "measured", "expected"),
             tolerance=1e-10)
faint = a / 1e4  # so small that the sum vanishes against k
claims.check("err-lrn-seed000-formula",
             "On faint numbers the printed formula gives {ratio:.3f} times AlexNet's (2⁻¹ for "
             "2⁻⁰·⁷⁵); with k = 0 and alpha = 1 they differ by {same:.0e}.",
             ratio=((lrn_printed(faint) / lrn(faint)).mean().item(), "~", 0.841, 0.001),
             same=((lrn_printed(a, k=0.0, alpha=1.0) - lrn(a, k=0.0, alpha=1.0)).abs().max().item(),
                   "<=", 1e-12), varies=True)
quiet = torch.ones(1, 9, 9, 9)
loud = quiet.clone()
loud[0, 4, 4, 4] = 1000.0

def damped(function):
    """Where the loud place lowers the others: in (space, channels)."""
    change = function(loud) / function(quiet) * quiet / loud  # 1: divided by the same
    return bool(change[0, 4, 4, 5] < 0.99), bool(change[0, 5, 4, 4] < 0.99)

claims.check("eq-lrn-within-vs-cross",
             "One loud number lowers its neighbours in space and in channels: across channels "
             "{across}, within a channel {within}.",
             across=(str(damped(lrn)), "==", "(False, True)"),
             within=(str(damped(lrn_within)), "==", "(True, False)"))

# %% [markdown]
# What does it do? Sixteen channels at one place: a lone peak, a plateau of equally strong channels, and a middling channel beside a strong one. The notes hope that the peak "becomes even more sensitive".

# %% tags=["fold"]
channels = torch.tensor([10.0, 10, 10, 200, 10, 10, 10, 200, 200, 200, 200, 200, 10, 60, 200, 10])
out = lrn(channels[None, :, None, None])[0, :, 0, 0]
share = out / channels
fig, axes = plt.subplots(2, 1, figsize=(figures.WIDTH, 4.7), sharex=True, height_ratios=[1, 1])
marks = ["C0" if i == 3 else "C3" if 7 <= i <= 11 else "C2" if i == 13 else "0.7"
         for i in range(16)]
axes[0].bar(range(16), channels, color=marks)
axes[0].set(ylabel="activation", ylim=(0, 270))
for place, text, colour in ((3, "lone peak", "C0"), (9, "plateau", "C3"),
                            (13.4, "beside a strong one", "#00786c")):
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

# %% tags=["fold"]
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
# Peak and next neighbour have nearly the same window, so their ratio stays as it was. Nothing becomes more active; the plateau becomes less.
#
# Does it help to train? A small convolutional network, three layers, three epochs, two rates; LRN behind the ReLU as in AlexNet, with k = 1 as in GoogLeNet, BatchNorm before it.
# Our activations are about 1 and not 100, and at $\alpha = 10^{-4}$ the bracket is then nearly 1. So we try LRN also with $\alpha = 0.1$, where it bites.

# %%
exercises.predict("07.p6", "At its better rate and alpha the error with LRN, against none, is:",
                  ("as low as with BatchNorm", "in between, or the same", "higher"))

# %% tags=["define", "fold"]
class LRN(nn.Module):
    """`lrn` as a layer, with k = 1; the number of channels is not needed."""

    def __init__(self, channels, alpha=1e-4):
        super().__init__()
        self.alpha = alpha

    def forward(self, a):
        return lrn(a, k=1.0, alpha=self.alpha)

def convolutional(norm=None, colours=1, maps=12, classes=10, before=False):
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

# %%
colours_in = batch.shape[1]
kinds = {"none": (None, False), "LRN": (LRN, False),
         "LRN, 0.1": (lambda maps: LRN(maps, 0.1), False), "BatchNorm": (nn.BatchNorm2d, True)}
tries, some = [0.1, 0.3], train.subset(min(704, len(train)), seed=seed)  # rates, pictures
errors = {name: 1 - trained(
    lambda norm=norm, before=before: convolutional(norm, colours_in, 8, classes, before),
    tries, some, passes=3)[0] for name, (norm, before) in kinds.items()}  # (rates, runs)

# %% tags=["fold"]
least = {name: table[table.mean(axis=1).argmin()] for name, table in errors.items()}
times = min(least[name].mean() for name in ("LRN", "LRN, 0.1")) / least["none"].mean()
normal_times = least["BatchNorm"].mean() / least["none"].mean()
exercises.reveal("07.p6", "as low as with BatchNorm" if times < 1.2 * normal_times
                 else "higher" if times > 1.2 else "in between, or the same",
                 f"It is {times:.2f} times the error without, with BatchNorm {normal_times:.2f}.")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.0))
for place, (name, table) in enumerate(errors.items()):
    for number, (rate, values) in enumerate(zip(tries, table, strict=True)):
        x = place + 0.36 * number - 0.18
        ax.bar(x, values.mean(), 0.32, color={"none": "C1", "BatchNorm": "C0"}.get(name, "C2"),
               alpha=1 if number else 0.55)
        ax.plot(runs * [x], values, "o", color="0.15", markersize=5)
        ax.text(x, values.max() + 0.015, f"rate {rate:g}", ha="center", fontsize=11)
ax.set_xticks(range(4), ["no normalisation", "LRN, α = 0.0001", "LRN, α = 0.1", "BatchNorm"],
              fontsize=13)
ax.set(ylabel="test error, 3 epochs", ylim=(0, 1.15 * max(t.max() for t in errors.values()) + 0.03))
ax.set_title("LRN changes less than BatchNorm, whose error is smallest")
figures.save(fig, "emp-bn-replaces-lrn",
             caption=f"Three convolutions of 8 maps, {len(some)} pictures of {dataset}, batches of "
                     f"64; bars: mean of {runs} seeds, dots: seeds.",
             alt="No normalisation and weak LRN are alike, LRN that bites lies lower or as "
                 "high, BatchNorm is lowest.")

# %% tags=["fold"]
with torch.no_grad():
    maps = torch.relu(nn.Conv2d(colours_in, 8, 3, padding=1)(batch))
    bites = [(lrn(maps, k=1.0, alpha=alpha) / maps)[maps > 0].mean().item()
             for alpha in (1e-4, 0.1)]
claims.check("emp-bn-replaces-lrn",
             "Each at the better of two rates the error is {none:.1%} without, {lrn:.1%} with LRN "
             "(alpha 0.0001), {strong:.1%} (alpha 0.1) and {bn:.1%} with BatchNorm, "
             "{ahead:.1%} less than without.",
             none=least["none"], lrn=least["LRN"], strong=least["LRN, 0.1"], bn=least["BatchNorm"],
             ahead=(least["none"] - least["BatchNorm"], ">", 0.02), seeds=runs, on="mean")
claims.check("emp-bn-replaces-lrn.lrn",
             "Between none and LRN (alpha 0.0001) lie {apart:.1%}. In an untrained first layer it "
             "keeps {one:.4f} of a positive number on average; with alpha 0.1 {other:.2f}.",
             apart=(abs(least["LRN"].mean() - least["none"].mean()), "<=", 0.05),
             one=(bites[0], ">=", 0.99), other=bites[1])

# %% [markdown]
# **We now know** what LRN is: a damping by neighbours, which raises no number. With AlexNet's constants it is nearly nothing here; where it bites, it changes the error less than BatchNorm does.
# **This does not show** that it never helped: AlexNet's authors report 1.4 and 1.2 points less error with it (top-1 and top-5).
#
# **Exercise 07.5.** AlexNet's formula with its own $n, k, \alpha, \beta$, by torch: which arguments does `F.local_response_norm(a, size, alpha, beta, k)` need?

# %%
def torch_arguments(n, k, alpha, beta):
    """(size, alpha, beta, k) for F.local_response_norm."""
    ...

exercises.check("07.5", torch_arguments)

# %% [markdown]
# ## Also in the lectures
#
# The paper's ideal is *whitening*: not only deviation 1 for each unit, but no correlation between units. BatchNorm leaves the correlations.

# %% tags=["fold"]
generator = torch.Generator().manual_seed(seed)
mixed = torch.randn(2000, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
normal = BatchNorm(6)(mixed).detach()
centred = mixed - mixed.mean(0)
values, vectors = torch.linalg.eigh(centred.T @ centred / len(mixed))
white = centred @ vectors / values.sqrt() @ vectors.T  # ZCA
covariance = {name: (z - z.mean(0)).T @ (z - z.mean(0)) / len(z)
              for name, z in (("white", white), ("normal", normal))}
claims.check("eq-bn-vs-whitening",
             "Whitened, the covariance differs from the unit matrix by {white:.0e}. Behind "
             "BatchNorm its diagonal does by {diagonal:.0e}, and the correlations, up to "
             "{largest:.2f}, have moved by {moved:.0e}.",
             white=((covariance["white"] - torch.eye(6)).abs().max().item(), "<=", 1e-10),
             diagonal=((covariance["normal"].diagonal() - 1).abs().max().item(), "<=", 1e-4),
             largest=(torch.corrcoef(normal.T) - torch.eye(6)).abs().max().item(),
             moved=((torch.corrcoef(normal.T) - torch.corrcoef(mixed.T)).abs().max().item(),
                    "<=", 1e-10), varies=True)

# %% [markdown]
# ## In practice
#
# - `nn.Conv2d(..., bias=False)`, `nn.BatchNorm2d(channels)`, `nn.ReLU()`: a bias in front of BatchNorm is subtracted again. Use `network.train()` and `network.eval()`.
# - Small batches (large pictures, several machines): `nn.SyncBatchNorm`, `nn.GroupNorm(32, channels)`, or frozen statistics (`torchvision.ops.FrozenBatchNorm2d`).
# - Transformers and ConvNeXt: `nn.LayerNorm` over the channels; many language models use `nn.RMSNorm`, which subtracts no mean.
# - After training fold BatchNorm away: `torch.nn.utils.fusion.fuse_conv_bn_eval`.
# - `drop_last=True` in the loader. `timm.create_model(..., norm_layer=...)` swaps the layer where a model allows it.
#
# ## History
#
# - 2009: K. Jarrett, K. Kavukcuoglu, M. Ranzato and Y. LeCun show that local contrast normalisation helps recognition. 2012: AlexNet divides by neighbouring channels. 2014: VGG finds no use in that; GoogLeNet still has it.
# - 2015: BatchNorm (S. Ioffe and C. Szegedy); within the year it is in ResNet.
# - 2016: LayerNorm (J. Ba, R. Kiros and G. Hinton), weight normalisation (T. Salimans and D. Kingma). 2018: GroupNorm (Y. Wu and K. He).
# - 2017: T. van Laarhoven describes how BatchNorm makes the effective step depend on the length of the weights. 2018: S. Santurkar et al. put the covariate shift to the test.
# - 2021: networks without normalisation reach the same accuracy on ImageNet, with gradients that are clipped (A. Brock et al.).
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
# **07.7 Open.** Look again at the first figure. What does it *not* show? (Think of the number of epochs, of momentum, of Adam, of other depths; and of what a plain network would reach from He's weights if one tried more rates.) Choose one, and measure it.
#
# ## Summary
#
# - BatchNorm sets mean and spread of each unit over the batch; scale and shift can undo it. The shape of the distribution and the correlations stay.
# - In front of it, the length of the weights does not matter for the output, and decides the step. Too small weights grow until the step fits; held, they do not learn.
# - It buys room, in the first weights and the learning rate. At small rates it is slower. The covariate shift is not what permits the large rate.
# - It costs dependence on the batch: with two pictures it knows only signs. LayerNorm and GroupNorm look at one picture.
# - A small last batch hurts every network.
# - LRN damps by neighbouring channels; nothing becomes larger, and the error changes less than with BatchNorm.

# %% [markdown]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | mean and "variance²"; divide by √(variance² + ε) | σ² **is** the variance: divide by √(variance + ε) | section 1, equal to torch |
# | BatchNorm makes the activations Gaussian | it sets **mean and spread**, not the shape | section 1, skewness |
# | global mean and variance by a weighted average | torch moves a **tenth** of the way at each step, with the variance divided by n − 1; the paper averages over many batches after training | section 1; the paper, algorithm 2 |
# | networks train faster | at **large** rates; at small ones slower here | section 3 |
# | slow learning is due to internal covariate shift | **disputed**: with the shift brought back the large rate still works | section 3 |
# | batch statistics give a slight regularisation | the **noise** is real; its effect on the test error is not measured here | section 4 |
# | recurrent networks and reinforcement learning: an open question | **LayerNorm** (2016) is usual there today | section 4 |
# | LRN: $x\,(k + \alpha (\ldots)^\beta)^{-1}$, over 5 × 5 places | the exponent belongs to the **whole bracket**, and the window runs over 5 **channels** at one place | section 5; AlexNet, section 3.3 |
# | LRN: $\alpha\, ss / n$ | that is Caffe's and **torch's**; AlexNet does not divide, so torch needs $n \alpha$ | section 5 |
# | LRN normalises over all activations of the layer | over **n = 5** adjacent channels | section 5 |
# | the excited neuron becomes more sensitive | every output **shrinks** for k ≥ 1; in one window the ratio stays, strong neighbours damp most | section 5 |
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
