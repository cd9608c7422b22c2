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
# The first figure trains one network from four sizes of its hidden weights, with six learning rates each.
# Without BatchNorm it learns in one row only; with it in most of the table.
# Odd: what is divided by its spread forgets how large it was: but for a small number ε (section 1), hidden weights a hundred times too small make the same function. But their gradient is a hundred times too long. Why does nothing explode? Section 2 finds out, by forbidding what saves it.
#
# **You will be able to**
# - write BatchNorm forward and backward, and its two modes;
# - say why a network with it forgives a bad start, and test such a "because";
# - name what it costs: answers that depend on the batch, and failure where a mean is taken over two numbers;
# - choose between BatchNorm, LayerNorm and GroupNorm, by what each takes its mean over, and read the old LRN.
#
# **You need** lesson 02 (scores, softmax, loss), lesson 03 (gradients, the chain rule) and lesson 05 (units, ReLU, how gradients vanish). Sections 4 and 5 have a small convolutional network (lesson 04).
#
# **Words.** A *unit* is one number that a layer computes for a picture; before it is bent it is called *pre-activation*. *Deviation* is short for standard deviation, the spread. The *learning rate* is the factor from gradient to step; all training here is plain SGD, without momentum and weight decay.
# Claims (✓) are made for the parameters below; with others the lesson shows what it measures and requires nothing.
#
# **It costs** about 40 seconds of one processor core, no network connection, no GPU.

# %% tags=["parameters"]
seed: int = 60  # the first of the seeds; at least 0
runs: int = 2  # networks for each square of the tables, twice as many elsewhere; 2 to 10
dataset: str = "digits"  # ; one of digits, mnist, fashion_mnist, cifar10, or a folder
images: int = 1347  # training pictures, at most; at least 320
width: int = 64  # units a hidden layer; 8 to 512
epochs: int = 4  # passes over the training pictures; 1 to 100
scales: list = [0.01, 0.1, 1, 10]  # size of the hidden weights, 1: He's; each above 0, ascending
rates: list = [0.01, 0.1, 0.3, 1, 3, 10]  # learning rates; each above 0, ascending

# %% tags=["imports", "fold"]
import itertools
import math
import warnings
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
seeds = range(seed, seed + 2 * runs)
train, test

# %% [markdown]
# Four hidden layers and one layer of scores, 64 units wide. `norm`, if there is one, makes a normalising layer between each matrix and its ReLU.
# Hidden weights are drawn with deviation `scale` × √(2 / number of inputs), those of the scores with `scale` = 1. At `scale` = 1 that is He's rule: behind a ReLU numbers then neither grow nor shrink from layer to layer (lesson 06 is about such rules).

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
    return nn.Sequential(*parts, linear(width, classes, 1.0))

# %% tags=["fold"]
# The network for these pictures, and its training by the package.
figures.use_style()
COLOURS = {"none": "C1", "BatchNorm": "C0", "LayerNorm": "C2", "GroupNorm": "C3"}

def net(scale=1.0, norm=None, **options):
    return deep(scale, norm, inputs=inputs, width=width, classes=classes, **options)

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
right, loss = {}, {}  # (scales, rates, runs): accuracy in the test, last loss in training
for name, norm in {"none": None, "BatchNorm": nn.BatchNorm1d}.items():
    rows = [trained(lambda scale=scale, norm=norm: net(scale, norm), rates, seeds[:runs])
            for scale in scales]
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
axes[0].set_ylabel("size of the hidden weights\n(1: He's rule)")
fig.suptitle(f"In {epochs} epochs {learns['none']} of {right['none'][..., 0].size} settings learn "
             f"without BatchNorm, {learns['BatchNorm']} with it")
figures.save(fig, "emp-bn-less-init-sensitive",
             caption=f"Test accuracy in percent after {epochs} epochs of SGD, batches of 64; "
                     f"{dataset}, four hidden layers of {width} units; mean of {runs} seeds. "
                     f"Guessing: {100 / classes:.0f}. A setting learns if it reaches 80.",
             alt="Left: only weights of He's size at middle learning rates reach more than "
                 "80 percent. Right: most of the table does, but not the largest rate.")

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

steps = epochs * (len(train) // 64)  # of training, batches of 64
claims.check("emp-bn-less-init-sensitive",
             "In {steps} steps of SGD {none} of {all} settings learn without BatchNorm, {bn} with "
             "it; each size at its best rate of the table, the worst reaches {bad:.0%} without "
             "(guessing: {guess:.0%}), {good:.0%} with it.", steps=steps,
             all=len(scales) * len(rates), none=(learns["none"], "<=", 5),
             bn=(learns["BatchNorm"], ">=", 12), bad=(best("none").mean(1).min(), "<=", 0.3),
             good=(best("BatchNorm").mean(1).min(), ">=", 0.6), guess=1 / classes)
claims.check("emp-bn-higher-lr",
             "From He's weights the largest rate of the table that learns is {none:g} without and "
             "{bn:g} with BatchNorm, {ratio:.1f} times as large; {top:g} was tried too.",
             none=largest("none"), bn=largest("BatchNorm"), top=rates[-1],
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
edges = np.linspace(-3, 3, 28)
middles = (edges[:-1] + edges[1:]) / 2
for ax, (name, found) in zip(axes, depths.items(), strict=True):
    for layer, values in enumerate(found):
        counts = np.histogram(values, edges)[0]
        curve = 10 - layer + 1.5 * counts / counts.max()
        near = np.convolve(counts, [1, 1, 1], "same") > 0  # not the empty rest
        ax.fill_between(middles[near], 10 - layer, curve[near], edgecolor="white", linewidth=1,
                        facecolor="C1" if name == "without" else "C0", zorder=layer)
    ax.set(xlabel="pre-activation", title=f"{name} BatchNorm", xlim=(-3, 3))
axes[0].set(ylabel="hidden layer", yticks=[10, 7, 4, 1], yticklabels=["1", "4", "7", "10"])
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
with runtime.seeded(seed):
    trained_network = net(1.0, nn.BatchNorm1d)
history = training.fit(
    trained_network, train, epochs=epochs, batch_size=64, drop_last=True, progress=False,
    optimizer=torch.optim.SGD(trained_network.parameters(), lr=0.1))

# %% [markdown]
# **Two modes.** In training a picture's numbers depend on the *other* pictures of the batch; in evaluation (`network.eval()`) only on the picture and the running statistics. A network left in training mode answers differently in other company:

# %% tags=["ledger:prac-bn-eval-mode"]
pictures, _ = next(test.batches(400))
other = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed))

def answers(order, size):
    """The class named for each picture, shown in groups of `size` in this order."""
    named = torch.empty(len(order), dtype=torch.long)
    with torch.no_grad():
        for group in order.split(size):
            named[group] = trained_network(pictures[group]).argmax(1)
    return named

trained_network.train()
moved = (answers(other, 8) != answers(other.flip(0).roll(3), 8)).double().mean().item()
trained_network.eval()
alone = (answers(other, 1) != answers(other, 400)).double().mean().item()

# %% tags=["fold"]
try:
    trained_network.train()(pictures[:1])
    refused = "accepted"
except ValueError:
    refused = "refused"
claims.check("prac-bn-eval-mode",
             "In training mode {moved:.1%} of the pictures get another class in other company "
             "(groups of 8); in evaluation mode, one at a time or all at once, {alone:.1%}. A "
             "single picture in training mode is {refused} by torch.",
             moved=(moved, ">", 0), alone=(alone, "==", 0.0), refused=(refused, "==", "refused"))
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
# **We now know** the layer: it sets centre and spread of each unit, keeps the shape and the correlations between units (*whitening*, the paper's ideal, would remove them), and can be undone by its own $\gamma$ and $\beta$. So what a network *can* compute has not become less.
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
# What is taken away are the two directions that normalising makes useless: moving all $x_i$ together, and stretching them. Follow that to the weights $w$ of one unit in front of BatchNorm. Multiply them by $c$. Without $\varepsilon$,
# - the output stays the same, for $x$ and its spread both grow by $c$;
# - the gradient is divided by $c$: the same output change needs a step $c$ times as long;
# - the gradient is at a right angle to $w$: along $w$ nothing changes.
#
# We shrink all hidden weights a hundredfold. As torch's $\varepsilon$ of $10^{-5}$ is not small against what is then left of the variance, this section sets it to $10^{-12}$. For the same reason it takes the running statistics anew before each test: they begin with a variance of 1, and a tenth of the way a step they are too slow for variances of a ten-thousandth.

# %%
def normalise(units):
    return nn.BatchNorm1d(units, eps=1e-12)

def scores_and_gradient(network):
    """Scores of 256 pictures, and the loss's gradient at the second hidden matrix."""
    scores = network(batch)
    return scores, torch.autograd.grad(F.cross_entropy(scores, labels), network[4].weight)[0]

def as_drawn(scale, norm):
    """The same random numbers for each scale."""
    with runtime.seeded(seed):
        return net(scale, norm)

scores, gradient = scores_and_gradient(as_drawn(1.0, normalise))
small_scores, small_gradient = scores_and_gradient(as_drawn(0.01, normalise))

# %% tags=["fold"]
weight = as_drawn(0.01, normalise)[4].weight
cosine = F.cosine_similarity(small_gradient, weight, dim=1).abs().max().item()  # 0: right angle
torchs = [as_drawn(scale, nn.BatchNorm1d)(batch) for scale in (1.0, 0.01)]
claims.check("eq-bn-backward.scale",
             "With hidden weights a hundredth as large the scores change by at most {moved:.0e} "
             "and the gradient is {factor:.1f} times as long; its cosine with the weights is at "
             "most {cosine:.0e}. With torch's epsilon the scores change by up to {eps:.2f}.",
             moved=((small_scores - scores).abs().max().item(), "<=", 1e-5),
             factor=((small_gradient.norm() / gradient.norm()).item(), "~", 100.0, 0.5),
             cosine=(cosine, "<=", 1e-5),
             eps=(torchs[1] - torchs[0]).abs().max().item(), varies=True)

# %% [markdown]
# So here is a suspicion. The step is at a right angle to $w$, so by Pythagoras $\lVert w \rVert^2$ *grows* by the step's square, without an end but also without a way back. A gradient a hundred times too long makes one long leap; afterwards the weights are long, their gradient is short, and each later step turns them little.
# To test it, forbid the growth: after each step set every hidden unit's weights back to their old length. The *function* does not change by that.
# If long steps are what harms, the held network must learn again once its hidden weights get a smaller rate. By the two factors above, weights of a hundredth need a ten-thousandth.

# %% tags=["define", "fold"]
def batches_of(pictures, steps, size=64, drop_last=True, seed=0):
    """`steps` batches, in passes over the pictures, each in a random order of its own."""
    order = torch.Generator().manual_seed(seed)
    passes = (pictures.batches(size, order, drop_last=drop_last) for _ in itertools.count())
    return itertools.islice(itertools.chain.from_iterable(passes), steps)

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

# %% tags=["define"]
def descend(network, batches, rate, loss=F.cross_entropy, after=None, watch=None):
    """SGD by hand; `after(network)` acts behind each step. `rate`: a number, or one a parameter.

    Returns what `watch(network)` said before each step, or an empty list.
    """
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

# %%
exercises.predict("07.p2", "BatchNorm, weights of 0.01, learning rate 1, lengths held. It:",
                  ("learns as before, the function is the same", "learns, but slower",
                   "stays at guessing"))

# %%
ways, reached = {}, {}  # by (size, arm): lengths (seeds, steps); accuracy (seeds,)
for scale in (0.01, 0.1, 1.0):
    for arm in ("free", "held", "held, smaller rate"):
        curves, accuracy = [], []
        for number in seeds:
            with runtime.seeded(number):
                network = net(scale, normalise)
            after = None if arm == "free" else hold(network)
            rate = smaller_rate(network, 1.0, scale**2) if "smaller" in arm else 1.0
            batches = batches_of(train, steps, seed=number)
            curves.append(descend(network, batches, rate, after=after, watch=length))
            statistics_anew(network, train.batches(64, drop_last=True))
            accuracy.append(accuracy_of(network))
        ways[scale, arm], reached[scale, arm] = np.array(curves), accuracy

# %% tags=["fold"]
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.4), width_ratios=[1, 1.1])
for scale, colour in ((1.0, "C2"), (0.1, "C0"), (0.01, "C3")):
    curve = ways[scale, "free"].mean(axis=0)
    axes[0].plot(np.arange(len(curve)), curve, color=colour)
    axes[0].axhline(ways[scale, "held"].mean(), color=colour, linestyle="--", linewidth=1.5)
axes[0].set(xscale="symlog", yscale="log", xlim=(0, len(curve) * 1.1), ylim=(8e-3, 60),
            xlabel="step", ylabel="length of a unit's weights", title="solid: free, dashed: held")
for name, place, colour in (("1", 2.2, "#00786c"), ("0.1", 0.18, "C0"), ("0.01", 0.019, "C3")):
    axes[0].text(100, place, f"from {name}", color=colour, fontsize=12, ha="right")
bars = {"free": "C0", "held": "0.45", "held, smaller rate": "C2"}
for number, (arm, colour) in enumerate(bars.items()):
    for place, scale in enumerate((0.01, 0.1, 1.0)):
        x, values = place + 0.27 * (number - 1), reached[scale, arm]
        axes[1].bar(x, np.mean(values), 0.25, color=colour, label=None if place else arm)
        axes[1].plot(len(values) * [x], values, "o", color="0.1", markersize=4)
axes[1].axhline(1 / classes, color="0.1", linestyle=":", linewidth=1.5)
axes[1].text(2.5, 1 / classes + 0.02, "guessing", fontsize=12)
axes[1].set_xticks([0, 1, 2], ["0.01", "0.1", "1"])
axes[1].set(ylim=(0, 1.34), xlim=(-0.5, 3.2), xlabel="size of the hidden weights",
            ylabel="test accuracy", yticks=[0, 0.25, 0.5, 0.75, 1])
axes[1].legend(loc="upper left", fontsize=12, ncols=2, columnspacing=1)
fig.suptitle("From 0.01 the weights leap and the network learns; held at 0.01 it guesses")
figures.save(fig, "eq-bn-backward.length",
             caption=f"Second hidden layer with BatchNorm, SGD at a learning rate of 1, {steps} "
                     f"steps; {dataset}; {len(seeds)} seeds (left: mean, right: mean and seeds). "
                     "Smaller rate: times the square of the size, for hidden weights only.",
             alt="Left: from 0.01 the weights leap in one step to more than ten times He's length "
                 "and stay there; from 0.1 and 1 they end near He's length. Right: held at 0.01 "
                 "the network guesses, held with a smaller rate it learns as from He's weights.")

# %% tags=["fold"]
held = np.mean(reached[0.01, "held"])
exercises.reveal("07.p2", "stays at guessing" if held < 2 / classes else "learns, but slower"
                 if held < 0.9 else "learns as before, the function is the same",
                 f"Held {held:.0%}, free {np.mean(reached[0.01, 'free']):.0%}.")
claims.check("eq-bn-backward.length",
             "From weights of 0.01 at a learning rate of 1 the network reaches {free:.1%}; with "
             "lengths held {held:.1%} (guessing: {guess:.0%}); held, with a ten-thousandth of the "
             "rate for hidden weights, {control:.1%}.",
             free=(reached[0.01, "free"], ">=", 0.75), held=(reached[0.01, "held"], "<=", 0.35),
             control=(reached[0.01, "held, smaller rate"], ">=", 0.65),
             guess=1 / classes, seeds=seeds, on="every")
claims.check("eq-bn-backward.held",
             "From He's weights it reaches {free:.1%}, held {one:.1%}; the network held at 0.01 "
             "with the smaller rate differs from the latter by {apart:.1%}.",
             free=(reached[1.0, "free"], ">=", 0.85), one=(reached[1.0, "held"], ">=", 0.7),
             apart=(np.abs(np.subtract(reached[0.01, "held, smaller rate"], reached[1.0, "held"])),
                    "<=", 0.03), seeds=seeds, on="mean")
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

# %% [markdown]
# **We now know** why too small a start is forgiven here: the steps were too long for the weights, and one leap makes the weights long. Held short the network guesses, held short with shorter steps it learns.
# It is no control that finds the right step: from 0.01 the leap goes far beyond He's length, and nothing brings the weights back; it only makes later steps small.
# **This does not show** why *large* learning rates are forgiven from He's weights: there the lengths hardly change, and holding them hardly matters. Nor does it mend weights that are too large: without weight decay nothing shrinks them, and the lowest row of the first figure learns at large rates only.
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
# The first figure says: *room*, in the hidden weights and in the learning rate. Does a network also train *faster*, from He's weights, at the same rate? And does it matter whether BatchNorm stands before or behind the ReLU? Two rates:

# %% tags=["fold", "ledger:prac-bn-placement"]
def behind():
    """BatchNorm behind each ReLU instead of before it."""
    return deep(1.0, lambda units: nn.ReLU(), bend=partial(nn.BatchNorm1d, width), inputs=inputs,
                width=width, classes=classes)

before_relu = partial(net, 1.0, nn.BatchNorm1d)
right_before, with_norm = trained(before_relu, [0.01, 0.3])  # accuracy, loss (rates, seeds)
fair = {"none": trained(net, [0.01, 0.3])[1], "before": with_norm}
right_behind = trained(behind, [0.3])[0][0]
claims.check("emp-bn-faster-training",
             "From He's weights the loss after {steps} steps at a rate of 0.01 is {bn:.2f} with "
             "BatchNorm and {none:.2f} without, {slow:.2f} times as large; at 0.3 it is "
             "{bn3:.3f} with and {none3:.3f} without, {fast:.2f} times.", steps=steps,
             bn=fair["before"][0], none=fair["none"][0],
             slow=(fair["before"][0] / fair["none"][0], ">=", 0.95),
             bn3=fair["before"][1], none3=fair["none"][1],
             fast=(fair["before"][1] / fair["none"][1], "<=", 0.8), seeds=seeds, on="mean")
apart = abs((right_behind - right_before[1]).mean())
claims.check("prac-bn-placement",
             "At a rate of 0.3 BatchNorm before the ReLU reaches {before:.1%}, behind it "
             "{behind:.1%}; on average they differ by {apart:.1%}.", before=right_before[1].mean(),
             behind=right_behind.mean(), apart=(apart, "<=", 0.02))
deep_logistic = {
    name: trained(lambda norm=norm: net(0.7, norm, hidden=7, bend=nn.Sigmoid), [0.3],
                  seeds[:runs])[0][0]
    for name, norm in {"none": None, "BatchNorm": nn.BatchNorm1d}.items()}
claims.check("emp-bn-more-activations-viable",
             "Seven layers of logistic units reach {none:.0%} without BatchNorm and {bn:.0%} with "
             "it (rate 0.3, {epochs} epochs).",
             none=(deep_logistic["none"], "<=", 0.2), bn=(deep_logistic["BatchNorm"], ">=", 0.75),
             epochs=epochs, seeds=runs, on="every")

# %% [markdown]
# Why? The paper of 2015 gave a reason in its title, *internal covariate shift*: while a layer learns, the layers before it change, so that its inputs come from another distribution at each step. BatchNorm fixes their mean and spread; learning would be easier *because* the shift is gone.
#
# An intervention (after S. Santurkar et al. 2018): keep BatchNorm and bring a shift back. Behind each BatchNorm, every unit is stretched and moved by random numbers that are drawn anew at each step, in five sizes.
# The yardstick is the shift: by how many deviations the mean of a unit's input moves from one step to the next (layer 4, 256 pictures, mean over units, median over the steps of the first epoch in which it still moves and has not diverged). All of it at a learning rate of 1, where the plain network fails and BatchNorm does not.

# %% tags=["define"]
class Shift(nn.Module):
    """Each unit stretched and moved at random, by other numbers at each step of training."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        if not self.training:
            return x
        stretch, move = self.size * torch.randn(2, x.shape[1])
        return x * (1 + stretch) + move

def shifted(size):
    return lambda units: nn.Sequential(nn.BatchNorm1d(units), Shift(size))

# %%
exercises.predict("07.p3", "BatchNorm with an added shift of size 0.5, at a rate of 1:",
                  ("fails, like the plain network", "learns, at least 85 %"))

# %% tags=["fold"]
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
doses = [0, 0.25, 0.5, 0.75, 1]  # sizes of the added shift
arms = {"plain": None} | {size: shifted(size) for size in doses}
epoch = steps // epochs
moved, fast = {}, {}  # (seeds, 2): of means and single numbers; accuracy (seeds,)
for name, norm in arms.items():
    moved[name], fast[name] = [], []
    for number in seeds:
        with runtime.seeded(number):
            network = net(1.0, norm)
            batches = list(batches_of(train, steps, seed=number))
            seen = descend(network, batches[:epoch], 1.0, watch=inputs_of_layer_4)
            descend(network, batches[epoch:], 1.0)
        moved[name].append(moves(seen))
        fast[name].append(accuracy_of(network))

# %% tags=["fold"]
shift = {name: np.array(values)[:, 0] for name, values in moved.items()}
mean_fast = {name: np.mean(values) for name, values in fast.items()}
exercises.reveal("07.p3", "learns, at least 85 %" if mean_fast[0.5] >= 0.85
                 else "fails, like the plain network",
                 f"It moves the means by {shift[0.5].mean():.2f} deviations a step and reaches "
                 f"{mean_fast[0.5]:.0%}.")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.4))
ax.plot([shift[size].mean() for size in doses], [mean_fast[size] for size in doses], color="C0")
for name in arms:
    ax.plot(shift[name], fast[name], "o", color="C1" if name == "plain" else "C0", alpha=0.75)
for size in doses:
    ax.annotate(f"+ {size:g}" if size else "BatchNorm", (shift[size].mean(), mean_fast[size]),
                (10, -4) if size > 0.5 else (-9, 9), textcoords="offset points", color="C0")
ax.annotate("plain", (shift["plain"].max(), np.max(fast["plain"])), (0, 9), color="C1",
            textcoords="offset points", fontsize=13, ha="center")
ax.axhline(1 / classes, color="0.35", linestyle=":", linewidth=1.5)
ax.text(0.006, 1 / classes + 0.02, "guessing", fontsize=12)
ax.set(xlabel="shift of the inputs of layer 4, deviations a step", ylim=(0, 1.1), xscale="log",
       ylabel=f"test accuracy, {epochs} epochs", xlim=(0.005, None))
learnt = [size for size in doses if mean_fast[size] >= 0.85]
ax.set_title(f"At a rate of 1 BatchNorm bears a shift of {shift[learnt[-1]].mean():.2f}, "
             f"not one of {shift[1].mean():.2f}" if learnt else "No size of shift is borne")
figures.save(fig, "emp-bn-ics-explanation",
             caption=f"Learning rate 1. Orange: no BatchNorm. Blue: BatchNorm, and with an added "
                     f"shift of the size written. {dataset}; a dot a seed, {len(seeds)} seeds; "
                     "line: means.",
             alt="Accuracy stays above 85 percent for an added shift of up to 0.75 and falls for "
                 "one of 1; the plain network moves further still and guesses.")

# %% tags=["fold"]
singles = {name: np.array(values)[:, 1] for name, values in moved.items()}
claims.check("emp-bn-ics-explanation",
             "At a rate of 1 the means move by {plain:.2f} deviations a step in a plain network, "
             "which reaches {fails:.0%}; by {bn:.3f} with BatchNorm, whose single numbers still "
             "move by {single:.2f}.",
             plain=(shift["plain"], ">=", 0.2), fails=(fast["plain"], "<=", 0.6),
             bn=(shift[0], "<=", 0.05), single=(singles[0], ">=", 0.05), seeds=seeds, on="mean")
claims.check("emp-bn-ics-explanation.learning",
             "BatchNorm reaches {none:.1%}; with an added shift of 0.5, which moves the means by "
             "{half:.2f}, {good:.1%}; with one of 1, which moves them by {one:.2f}, {bad:.0%}.",
             none=(fast[0], ">=", 0.9), half=(shift[0.5], ">=", 0.35), good=(fast[0.5], ">=", 0.85),
             one=(shift[1], ">=", 0.6), bad=(fast[1], "<=", 0.8), seeds=seeds, on="mean")
alone = {}  # the shift without BatchNorm, at a rate where the plain network learns
for size in (0, 0.5):
    alone[size] = []
    for number in seeds:
        with runtime.seeded(number):
            network = net(1.0, lambda units, size=size: Shift(size))
            descend(network, batches_of(train, steps, seed=number), 0.1)
        alone[size].append(accuracy_of(network))
claims.check("emp-bn-ics-explanation.alone",
             "The same shift of 0.5 without BatchNorm, at a rate of 0.1: {with_shift:.0%}, without "
             "the shift {without:.0%}.", with_shift=alone[0.5],
             without=(alone[0], ">=", 0.85), seeds=seeds, on="mean")

# %% [markdown]
# **We now know** that the large rate does not need a shift near zero: BatchNorm bears an added shift of size 0.5, and learns badly with one of 1. That BatchNorm moves the means so little is nearly so by construction, as they are set over the same pictures; single numbers go on moving.
# The plain network moves further still, but it is diverging: what is cause there and what consequence cannot be told.
# **This does not show** that the shift is harmless (the plain network at a rate of 0.1 suffers from it), nor which explanation is right. From a size of about 1 our noise also turns the sign of many units, so that its failure may have this reason. Santurkar et al. find that BatchNorm may not reduce the shift at all when it is measured as the change of a layer's *gradient*, and that with it the loss changes more smoothly along the gradient.
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

# %% [markdown]
# How small may a batch be?

# %%
exercises.predict("07.p4", "Two pictures a batch. For a unit with values a > b BatchNorm gives:",
                  ("two numbers that depend on how far a and b differ", "always +1 and −1"))

# %%
pair = torch.tensor([[5.0, -700.0], [4.0, 12.0]])  # two pictures, two units
of_two = nn.BatchNorm1d(2)(pair).detach()
exercises.reveal("07.p4", "always +1 and −1" if (of_two.abs() - 1).abs().max() < 0.01
                 else "two numbers that depend on how far a and b differ",
                 f"The first picture becomes {[round(v, 2) for v in of_two[0].tolist()]}.")
of_two

# %% [markdown]
# From two numbers a mean and a deviation leave only *which of the two is more*, not how much (until they differ as little as $\sqrt\varepsilon$). Does a network learn so? Three tests of the reason:
# - *62 companions*: batches of 64 give mean and deviation, but only two of the pictures have a loss. Nothing else differs.
# - a small *convolutional* network: there each map has 2 · H · W numbers for its mean;
# - the same with *BatchNorm per place*: each place of each map has a mean of its own, over two numbers; and, as a check, over 16.

# %% tags=["fold"]
def small_cnn(norm=None, before=True):
    return convolutional(norm, batch.shape[1], 8, classes, before)

def per_place(maps):
    """BatchNorm with a mean and a deviation for each place of each map, over the pictures only."""
    height, width = batch.shape[2:]
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(maps * height * width),
                         nn.Unflatten(1, (maps, height, width)))

few = seeds[1:]

def after_100_steps(make, size, loss=F.cross_entropy):
    """Networks after 100 steps at a rate of 0.03, one a seed, and their accuracies."""
    networks = []
    for number in few:
        with runtime.seeded(number):
            networks.append(make())
        descend(networks[-1], batches_of(train, 100, size, seed=number), 0.03, loss)
    return networks, [accuracy_of(network) for network in networks]

# %%
sizes = [2, 4, 16]  # pictures a batch
layers = {"none": None, "BatchNorm": nn.BatchNorm1d, "LayerNorm": nn.LayerNorm,
          "GroupNorm": lambda units: nn.GroupNorm(max(1, units // 8), units)}
by_size = {name: {size: after_100_steps(lambda norm=norm: net(1.0, norm), size) for size in sizes}
           for name, norm in layers.items()}

# %%
def of_the_first_two(scores, classes):
    return F.cross_entropy(scores[:2], classes[:2])

_, companions = after_100_steps(lambda: net(1.0, nn.BatchNorm1d), 64, of_the_first_two)
in_cnn = {name: after_100_steps(lambda norm=norm: small_cnn(norm), 2)[1]
          for name, norm in {"none": None, "BatchNorm": nn.BatchNorm2d,
                             "GroupNorm": lambda maps: nn.GroupNorm(2, maps),
                             "per place": per_place}.items()}
in_cnn["per place, 16"] = after_100_steps(lambda: small_cnn(per_place), 16)[1]

# %% tags=["fold"]
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.5), width_ratios=[1.15, 1], sharey=True)
means = {name: [np.mean(found[size][1]) for size in sizes] for name, found in by_size.items()}
for name, found in by_size.items():
    values = np.array([found[size][1] for size in sizes])  # (sizes, seeds)
    axes[0].plot(sizes, means[name], "o-", color=COLOURS[name])
    axes[0].fill_between(sizes, values.min(1), values.max(1), alpha=0.15, color=COLOURS[name])
for name, end in zip(by_size, plots.spread([m[-1] for m in means.values()], 0.075), strict=True):
    axes[0].text(17.5, end, name, color=COLOURS[name], fontsize=12, va="center")
axes[0].plot(2, np.mean(companions), "*", color="C0", markersize=18)
axes[0].text(1.8, np.mean(companions) + 0.06, "BatchNorm,\n62 companions", color="C0", fontsize=12)
axes[0].set(xscale="log", ylim=(0, 1.12), xlim=(1.7, 48), xlabel="pictures a batch",
            ylabel="test accuracy", title="fully connected")
axes[0].set_xticks(sizes, [str(size) for size in sizes], minor=False)
axes[0].minorticks_off()
short = ["none", "Batch-\nNorm", "Group-\nNorm", "per\nplace", "16, per\nplace"]
plots.bars(axes[1], dict(zip(short, in_cnn.values(), strict=True)), format="{:.0%}",
           colours=dict(zip(short, ["C1", "C0", "C3", "#6ea6d8", "#6ea6d8"], strict=True)))
axes[1].tick_params(axis="x", labelsize=11)
axes[1].set_title("convolutional, two pictures")
for ax in axes:
    ax.axhline(1 / classes, color="0.35", linestyle=":", linewidth=1.5)
fig.suptitle("BatchNorm fails where a mean is taken over two numbers")
figures.save(fig, "emp-bn-rnn-rl-open",
             caption=f"{dataset}, 100 steps of SGD at a rate of 0.03 at each size; mean and range "
                     f"of {len(few)} seeds; dotted: guessing. Star: statistics of 64 pictures, "
                     "loss of 2.",
             alt="Left: for batches of two BatchNorm is near guessing and the other three are "
                 "well above; it rises with the size. With 62 companions it learns at two. Right: "
                 "in a convolutional network BatchNorm learns with two pictures, BatchNorm per "
                 "place hardly.")

# %% tags=["fold", "ledger:emp-bn-regularises"]
two = {name: found[2][1] for name, found in by_size.items()}
anew = [accuracy_of(statistics_anew(network, train.batches(64, drop_last=True)))
        for network in by_size["BatchNorm"][2][0]]
claims.check("emp-bn-rnn-rl-open",
             "Fully connected, two pictures a batch, 100 steps: BatchNorm {bn:.0%}, with "
             "statistics anew {anew:.0%}, with 62 companions {companions:.0%}; no normalisation "
             "{none:.0%}, LayerNorm {ln:.0%}, GroupNorm {gn:.0%}.",
             bn=(two["BatchNorm"], "<=", 0.35), anew=(anew, "<=", 0.4),
             companions=(companions, ">=", 0.45), none=(two["none"], ">=", 0.45),
             ln=(two["LayerNorm"], ">=", 0.45), gn=(two["GroupNorm"], ">=", 0.45),
             seeds=few, on="mean")
claims.check("emp-bn-rnn-rl-open.maps",
             "Convolutional, two pictures a batch: BatchNorm {bn:.0%}, GroupNorm {gn:.0%}, none "
             "{none:.0%}, BatchNorm per place {place:.0%}, with 16 pictures a batch "
             "{more:.0%}.",
             bn=(in_cnn["BatchNorm"], ">=", 0.5), gn=(in_cnn["GroupNorm"], ">=", 0.5),
             none=in_cnn["none"], place=(in_cnn["per place"], "<=", 0.4),
             more=(in_cnn["per place, 16"], ">=", 0.5), seeds=few, on="mean")
with runtime.seeded(seed), torch.no_grad():
    network, told = net(1.0, nn.BatchNorm1d), {}
    for size in (4, 256):  # one picture in 100 groups
        groups = [torch.cat([batch[:1], batch[torch.randint(1, 256, (size - 1,))]])
                  for _ in range(100)]
        told[size] = torch.stack([network(group)[0] for group in groups]).std(0).mean().item()
    between = network(batch).std(0).mean().item()  # other pictures, same company
claims.check("emp-bn-regularises",
             "In training mode one picture's scores vary with its company: with a deviation of "
             "{four:.2f} in batches of 4, of {many:.2f} in batches of 256, {ratio:.1f} times less. "
             "Between different pictures the deviation is {between:.2f}.", between=between,
             four=told[4], many=told[256], ratio=(told[4] / told[256], ">=", 3))

# %% [markdown]
# Taking the running statistics anew, in batches of 64, does not help: the weights themselves have learnt little. With 62 companions the same two pictures' loss teaches; with a mean over places two pictures sufficed here; with a mean over two numbers it fails in the convolutional network too.
#
# **The last batch.** 1,347 digits in batches of 64 leave a last batch of 3. The package warns of it:

# %%
network = net(1.0, nn.BatchNorm1d)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    training.fit(network, train, optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
                 epochs=1, batch_size=64, progress=False)
for warning in caught:
    print("Warning:", warning.message)

# %% [markdown]
# Two things are special about it: its *gradient*, from 3 pictures, moves the weights as far as that of 64, and its *statistics* go into the running ones. Which does harm? We keep it; leave it out (`drop_last=True`); or keep it and weight its loss by 3/64, so that the statistics go in as before and the gradient counts as three pictures.

# %%
exercises.predict("07.p5", "The last batch of 3 is kept, rate 0.1. Right after it has harmed:",
                  ("neither", "the one with BatchNorm only", "both"))

# %% tags=["fold"]
rest, whole = len(train) % 64, len(train) // 64  # pictures in the last batch; batches of 64

def only_at(marks, look):
    """`look`, but only before the steps of these numbers."""
    count = itertools.count()
    return lambda network: look(network) if next(count) in marks else None

def ends_of_epochs(norm, rate, drop_last, loss=F.cross_entropy):
    """Accuracies (seeds, epochs, 3): a step before the end, at the end, and 7 steps later."""
    length, rows = whole if drop_last else whole + (rest > 0), []  # steps an epoch
    marks = [epoch * length + more for epoch in range(1, epochs + 1) for more in (-1, 0, 7)]
    for number in seeds:
        with runtime.seeded(number):
            network = net(1.0, norm)
        batches = batches_of(train, marks[-1] + 1, 64, drop_last, number)
        seen = descend(network, batches, rate, loss, watch=only_at(marks, accuracy_of))
        rows.append([value for value in seen if value is not None])
    return np.array(rows).reshape(len(seeds), epochs, 3)

# %%
def by_its_pictures(scores, classes):
    return len(classes) / 64 * F.cross_entropy(scores, classes)

ways = {"left out": (True, F.cross_entropy), "kept": (False, F.cross_entropy),
        "kept, weighted": (False, by_its_pictures)}
ends = {(name, way): ends_of_epochs(norm, 0.1, *ways[way])
        for name, norm in (("none", None), ("BatchNorm", nn.BatchNorm1d)) for way in ways}
after = {key: table[:, :, 1].mean(axis=1) for key, table in ends.items()}  # (seeds,)
lost = {name: after[name, "left out"] - after[name, "kept"] for name in ("none", "BatchNorm")}
cost = {name: after[name, "left out"] - after[name, "kept, weighted"] for name in lost}
hurt = [name for name, values in lost.items() if values.mean() > 0.02]

# %% tags=["fold"]
exercises.reveal("07.p5", {0: "neither", 2: "both"}.get(len(hurt), "the one with BatchNorm only"),
                 f"Lost without: {lost['none'].mean():.0%}, with: {lost['BatchNorm'].mean():.0%}.")
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.3), sharey=True)
times = (np.arange(epochs)[:, None] + np.array([1 - 1 / whole, 1, 1 + 7 / whole])).ravel()
for ax, name in zip(axes, ("none", "BatchNorm"), strict=True):
    for way, colour in {"left out": "0.35", "kept": "C3", "kept, weighted": "C2"}.items():
        ax.plot(times, ends[name, way].mean(axis=0).ravel(), "o--" if "weighted" in way else "o-",
                color=colour, markersize=5, label=way)
    ax.set(xlabel="epoch", ylim=(0, 1.02), xticks=range(1, epochs + 1), ylabel="test accuracy",
           title="no normalisation" if name == "none" else "BatchNorm")
axes[1].legend(loc="lower right", fontsize=12)
fig.suptitle(f"A last batch of {rest} throws both back, by its step more than its statistics")
figures.save(fig, "prac-bn-eval-mode.remainder",
             caption=f"Batches of 64, rate 0.1, {dataset}; a step before, right after and 7 steps "
                     f"behind the last batch of each epoch; mean of {len(seeds)} seeds.",
             alt="With the last batch kept, accuracy falls at each end of an epoch and recovers "
                 "within seven steps; weighted it falls little, left out not.")
claims.check("prac-bn-eval-mode.remainder",
             "At a rate of 0.1 a last batch of {rest} costs {none:.0%} of accuracy right after it "
             "without normalisation, {bn:.0%} with BatchNorm (mean of {epochs} epochs); weighted "
             "by its pictures {none_weighted:.1%} and {bn_weighted:.1%}. Kept, BatchNorm has "
             "{right:.0%} right after and {later:.0%} seven steps later.", rest=rest,
             epochs=epochs, none=(lost["none"], ">", 0.02), bn=(lost["BatchNorm"], ">", 0.02),
             none_weighted=(cost["none"], "<=", 0.02), bn_weighted=(cost["BatchNorm"], "<=", 0.05),
             right=after["BatchNorm", "kept"], seeds=seeds, on="mean",
             later=(ends["BatchNorm", "kept"][:, :, 2].mean(axis=1), ">=", 0.7))

# %% [markdown]
# **We now know** the price: BatchNorm needs enough *numbers* behind each mean, and has a second set of numbers (the running ones). A last batch of 3 harms networks with and without BatchNorm at a rate of 0.1. Most of the harm comes from a step that is too long for three pictures; weighted, the plain network loses nothing, and what BatchNorm may still lose comes from the statistics.
# A run that *ends* with such a batch ends badly; seven steps later most of it is mended.
# **This does not show** where "enough" begins in other networks, what a small last batch does at small rates, or that the order of layers in the figure holds after more steps.
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
# Nothing is subtracted, nothing learnt, and no batch is needed. Other books have other formulas: Caffe and torch divide $\alpha$ by $n$, Caffe can also take the neighbours in *space*, and one puts the exponent at the sum alone.

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
    """Another reading: the exponent at the sum only."""
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
             "On faint numbers the formula with the exponent at the sum gives {ratio:.3f} times "
             "AlexNet's (2⁻¹ for 2⁻⁰·⁷⁵); with k = 0 and alpha = 1 they differ by {same:.0e}.",
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

corner = a[0, 1, 0, 0] / (1 + 1e-4 / 25 * a[0, 1, :3, :3].square().sum()) ** 0.75  # by hand
claims.check("eq-lrn-within-vs-cross",
             "One loud number lowers its neighbours in space and in channels: across channels "
             "{across}, within a channel {within}. A corner's value by hand differs by {off:.0e}.",
             off=((lrn_within(a)[0, 1, 0, 0] - corner).abs().item(), "<=", 1e-12), varies=True,
             across=(str(damped(lrn)), "==", "(False, True)"),
             within=(str(damped(lrn_within)), "==", "(True, False)"))

# %% [markdown]
# What does it do? Sixteen channels at one place: a lone peak, a plateau of equally strong channels, and a middling channel beside a strong one.

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
# Peak and next neighbour have nearly the same window, so their ratio stays as it was. Against the plateau, which was as high, the peak gains; no channel becomes more active than it was.
#
# Does it help to train? A small convolutional network with LRN behind each ReLU, and AlexNet's constants. Its activations are about 1 and not 100, so the sum hardly counts, and what is left of the formula is the factor $2^{-3/4} = 0.59$ of k = 2, in each of three layers. So the yardstick is that *factor alone* ($\alpha = 0$). And to see LRN bite, k = 1 with $\alpha = 0.1$.

# %%
exercises.predict("07.p6", "Test error with AlexNet's LRN, against the factor 0.59 alone:",
                  ("lower by a third or more", "about the same", "higher by a third or more"))

# %% tags=["define", "fold"]
class LRN(nn.Module):
    """`lrn` as a layer; the number of channels is not needed."""

    def __init__(self, channels, k=2.0, alpha=1e-4):
        super().__init__()
        self.k, self.alpha = k, alpha

    def forward(self, a):
        return lrn(a, k=self.k, alpha=self.alpha)

class Factor(nn.Module):
    """What LRN with k = 2 is without its sum: every number times 0.59."""

    def __init__(self, channels):
        super().__init__()

    def forward(self, a):
        return 2**-0.75 * a

# %% tags=["fold"]
kinds = {"none": (None, False),
         "factor": (Factor, False),
         "AlexNet's": (LRN, False),
         "biting": (lambda maps: LRN(maps, k=1.0, alpha=0.1), False),
         "BatchNorm": (nn.BatchNorm2d, True)}  # (layer, before the ReLU)
six = range(seed, seed + 3 * runs)
errors = {name: [] for name in kinds}
for name, (norm, before) in kinds.items():
    for number in six:
        with runtime.seeded(number):
            network = small_cnn(norm, before)
        descend(network, batches_of(train, 30, 32, seed=number), 0.3)
        errors[name].append(1 - accuracy_of(network))

# %% tags=["fold"]
errors = {name: np.array(values) for name, values in errors.items()}
against = errors["AlexNet's"].mean() / errors["factor"].mean()
exercises.reveal("07.p6", "lower by a third or more" if against < 2 / 3 else "about the same"
                 if against < 4 / 3 else "higher by a third or more",
                 f"It is {against:.2f} times that of the factor alone.")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.2))
colours = {"none": "C1", "factor": "0.6", "BatchNorm": "C0"}
for place, (name, values) in enumerate(errors.items()):
    ax.bar(place, values.mean(), 0.7, color=colours.get(name, "C2"))
    ax.text(place, 0.01, f"{values.mean():.1%}", ha="center", fontsize=13, color="0.1",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 2})
for number in range(len(six)):
    ax.plot(range(len(kinds)), [values[number] for values in errors.values()], "o-",
            color="0.15", markersize=5, linewidth=0.6)
ax.set_xticks(range(len(kinds)), ["none", "factor\n0.59", "LRN,\nAlexNet's", "LRN, k = 1,\nα = 0.1",
                                  "BatchNorm"], fontsize=13)
ax.set(ylabel="test error, 30 steps", ylim=(0, None))
ax.set_title("AlexNet's LRN does here what its factor 0.59 alone does")
figures.save(fig, "emp-bn-replaces-lrn",
             caption=f"Three convolutions of 8 maps, {dataset}, 30 steps of 32 pictures, "
                     f"rate 0.3; bars: mean of {len(six)} seeds; thin lines join what begins "
                     "with the same seed.",
             alt="Error of AlexNet's LRN and of its factor alone are alike seed by seed; BatchNorm "
                 "lies lower than none on average; single seeds range widely in each kind.")

# %% tags=["fold"]
claims.check("emp-bn-replaces-lrn",
             "After 30 steps at a rate of 0.3 the error is {none:.1%} without, {strong:.1%} with "
             "LRN that bites and {bn:.1%} with BatchNorm; with the same seed BatchNorm has "
             "{ahead:.1%} less than none and {lrn:.1%} less than LRN.",
             none=errors["none"], strong=errors["biting"], bn=errors["BatchNorm"],
             ahead=(errors["none"] - errors["BatchNorm"], ">", 0),
             lrn=errors["biting"] - errors["BatchNorm"], seeds=six, on="mean")
with torch.no_grad():
    maps = torch.relu(nn.Conv2d(batch.shape[1], 8, 3, padding=1)(batch))
    bites = [(lrn(maps, k=1.0, alpha=alpha) / maps)[maps > 0].mean().item()
             for alpha in (1e-4, 0.1)]
claims.check("emp-bn-replaces-lrn.lrn",
             "AlexNet's LRN has {alexnet:.1%} error and its factor alone {factor:.1%}; with the "
             "same seed they differ by {apart:.1%}.",
             alexnet=errors["AlexNet's"], factor=errors["factor"],
             apart=(abs(errors["AlexNet's"] - errors["factor"]), "<=", 0.06), seeds=six, on="mean")
claims.check("emp-bn-replaces-lrn.bites",
             "In an untrained first layer the bracket of k = 1 leaves {one:.4f} of a positive "
             "number at alpha 0.0001 and {other:.2f} at alpha 0.1, on average.",
             one=(bites[0], ">=", 0.99), other=(bites[1], "<=", 0.99))

# %% [markdown]
# **We now know** what LRN is: a damping by neighbours, which raises no number. With AlexNet's constants it acts here like its factor alone, as the activations are small.
# **This does not show** which kind is best in the end: this is one rate and 30 steps. Nor that LRN never helped: AlexNet's authors report 1.4 and 1.2 points less error with it (top-1 and top-5).
#
# **Exercise 07.5.** AlexNet's formula with its own $n, k, \alpha, \beta$, by torch: which arguments does `F.local_response_norm(a, size, alpha, beta, k)` need?

# %%
def torch_arguments(n, k, alpha, beta):
    """(size, alpha, beta, k) for F.local_response_norm."""
    ...

exercises.check("07.5", torch_arguments)

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
# **07.7 Open.** Look again at the first figure. What does it *not* show? (Think of the number of epochs, of momentum, of Adam, of other depths; and of what a plain network would reach from He's weights if one tried more rates.) Choose one, and measure it.
#
# ## Summary
#
# - BatchNorm sets mean and spread of each unit over the batch; scale and shift can undo it. The shape of the distribution and the correlations stay.
# - In front of it, the length of the weights hardly matters for the output, and decides how far a step turns them. Weights of a hundredth leap in one step and learn; held short they guess, held short with shorter steps they learn.
# - It buys room, in the hidden weights and the learning rate. From He's weights at a rate of 0.01 it is not faster. A large rate does not need a shift near zero; with a larger one it learns badly.
# - It costs dependence on the batch. Where a mean is taken over two numbers it fails; in a convolutional layer two pictures sufficed here. LayerNorm and GroupNorm look at one picture.
# - A last batch of 3 harms at a rate of 0.1, with and without BatchNorm, mostly by its step: weighted by its pictures it harms little, left out not at all.
# - LRN damps by neighbouring channels; nothing becomes larger. With AlexNet's constants it was a mere factor here.

# %% [markdown]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | mean and "variance²"; divide by √(variance² + ε) | σ² **is** the variance: divide by √(variance + ε) | section 1, equal to torch |
# | BatchNorm makes the activations Gaussian | it sets **mean and spread**, not the shape | section 1, skewness |
# | global mean and variance by a weighted average | more exactly: torch moves a **tenth** of the way at each step, the paper averages over many batches after training; both with the variance divided by n − 1 | section 1; the paper, algorithm 2 |
# | networks train faster | at **large** rates, or from weights that are too small; from He's weights at a rate of 0.01 not here | section 3; first figure |
# | slow learning is due to internal covariate shift | **disputed**: with an added shift of more than half a deviation a step the large rate still works, with one of nearly a whole it does not | section 3; Santurkar et al. |
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
