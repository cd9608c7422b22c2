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
# # 10 · Babysitting and hyperparameter search
# ### It does not learn: what now?
#
# The first figure shows two networks, each trained four times: from the same first weights, with the same pictures in the same order. Only the learning rate differs.
# At one rate they learn well, at one slowly. At two they stand still, and the curves end at the same height, the loss of guessing.
# Odd: one of these needs a much *larger* rate, the other a much *smaller* one. And later in this lesson networks with a bug in them will learn nicely.
# So a curve that stands does not say what is wrong, and a curve that falls does not say that all is well. What does?
#
# **You will be able to**
# - tell from the first steps whether a learning rate is too small or too large;
# - check a training in seven steps, before you spend hours on it, and say which bug each step finds;
# - find a range of rates worth trying with a short training, and say where that fails;
# - draw hyperparameters in log space, and say when that, or chance, pays;
# - search coarse to fine, with notebooks that run themselves, and report the winner honestly.
#
# **You need** lesson 02 (scores, softmax, cross-entropy, regularisation), lesson 03 (gradients), lesson 05 (ReLU, units that die) and lesson 09 (SGD, the learning rate).
#
# **Words.** A *hyperparameter* is a number that training does not learn: learning rate, weight decay, number of layers. A *setting* is one choice of all of them; a *trial* is the training of one setting.
# *Validation* pictures are held back from training to compare settings; *test* pictures are used once, at the end. (Section 3 looks at them too, to show what bugs do. Probably the same hands wrote all of these digits, lesson 01.) In code, `np.geomspace(a, b, n)` makes n numbers from a to b, each the same factor larger than the one before.
# *Guessing* means the same probability for each of $C$ classes: loss $\ln C$, accuracy $1/C$.
# Claims (✓) are made for the parameters below; with others the lesson shows what it measures and requires nothing.
#
# **It costs** about 35 seconds of one processor core, no network connection, no GPU.

# %% tags=["parameters"]
seed: int = 100  # the first of the seeds; at least 0
runs: int = 2  # networks for each measurement, each with a seed of its own; 2 to 10
dataset: str = "digits"  # ; one of digits, mnist, fashion_mnist, cifar10, or a folder
image_size: int = 0  # pixels a side for the pictures of a folder, 0: as they are; 0 or 8 to 64
images: int = 1347  # pictures for training and validation together, at most; at least 320
width: int = 64  # units a hidden layer; 8 to 512
steps: int = 200  # steps of each training by hand, with 64 pictures each; 60 to 5000
rate: float = 0.3  # a learning rate that works; above 0
epochs: int = 5  # passes over the training pictures for each setting of the table; 2 to 100
side: int = 4  # a grid has side x side settings; 3 to 8
trials: int = 3  # notebooks: one looks briefly, the others train whole; 2 to 50

# %% tags=["imports", "fold"]
import inspect
import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import papermill
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

from cnncourse import claims, data, exercises, figures, runtime, training, widgets

# %% tags=["fold"]
# The pictures: a part for training, a part held back for validation.
runtime.start(seed=seed, dtype="float64")
pool = data.load(dataset, True, size=image_size or None).subset(images, seed=seed)
held = len(pool) // 4  # a quarter is held back
train, valid = pool.split([len(pool) - held, held], seed=seed, stratified=True)
train = train.normalised()  # mean 0 and deviation 1
valid = valid.normalised(train.mean, train.std)
(x, y), (xv, yv) = [next(part.batches(len(part))) for part in (train, valid)]
guess = math.log(len(pool.classes))  # the loss of guessing

# A new network for these pictures, always the same for a seed; accuracy; test pictures.
figures.use_style()
inputs, classes = x[0].numel(), len(pool.classes)
test = data.load(dataset, False, size=image_size or None).normalised(train.mean, train.std)
xt, yt = next(test.batches(len(test)))
seeds = range(seed, seed + runs)

def fresh(number, make=None, bend=nn.ReLU):
    with runtime.seeded(number):
        net = network(inputs, width, classes, bend) if make is None else make()
    return net.to(x)

@torch.no_grad()
def accuracy(net, pictures, labels):
    return (net(pictures).argmax(1) == labels).double().mean().item()
train, valid

# %% [markdown]
# Two hidden layers, as torch makes them; and the loop of lesson 03, with one line for each thing that happens in a step.

# %% tags=["define"]
def network(inputs=64, width=64, classes=10, bend=nn.ReLU):
    """Two hidden layers and one of scores, with torch's own first weights."""
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), bend(),
                         nn.Linear(width, width), bend(), nn.Linear(width, classes))

def descend(net, pictures, labels, rate, steps, seed=0, loss=F.cross_entropy, size=64,
            penalty=None):
    """Train in place by SGD on random batches; the loss of each step, with the penalty if any."""
    stream = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        batch = torch.randperm(len(pictures), generator=stream)[:size].to(labels.device)
        value = loss(net(pictures[batch]), labels[batch])
        if penalty is not None:
            value = value + penalty(net)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses

# %%
slow, tiny, huge = rate / 15, rate / 3000, 20 * rate
curves, nets = {}, {}  # by rate: losses (runs, steps), and the networks
for each in (tiny, slow, rate, huge):
    nets[each] = [fresh(number) for number in seeds]
    curves[each] = np.array([descend(net, x, y, each, steps, number)
                             for net, number in zip(nets[each], seeds, strict=True)])

# %% tags=["fold"]
def smooth(losses, wide=8):
    """Mean over `wide` steps, along the last axis."""
    parts = np.lib.stride_tricks.sliding_window_view(losses, wide, axis=-1)
    return parts.mean(-1)

NAMES = {tiny: "stands still", slow: "slow", rate: "learns", huge: "stands still"}
COLOURS = {tiny: "C1", slow: "C2", rate: "C0", huge: "C3"}
DARK = {tiny: "#b06800", slow: "#00695f", rate: "C0", huge: "C3"}  # for letters
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.5))
ax.axhline(guess, color="0.35", linestyle=":", linewidth=1.5)
for each, rows in curves.items():
    for row in smooth(rows):
        ax.plot(range(8, steps + 1), row, color=COLOURS[each], linewidth=1.6)
    place = {tiny: guess - 0.2, slow: smooth(curves[slow])[:, -1].mean(),
             rate: smooth(curves[rate])[:, -1].mean() + 0.05, huge: guess + 0.22}[each]
    ax.text(steps * 1.02, place, f"{each:g}: {NAMES[each]}", color=DARK[each], fontsize=13,
            va="center")
ax.text(steps * 0.5, guess + 0.1, "guessing", fontsize=12, ha="center")
ax.set(xlabel="step", ylabel="training loss, mean of 8 steps", ylim=(0, 3.4),
       xlim=(0, steps * 1.33), xticks=np.linspace(0, steps, 5).round())
ax.set_title("Two rates end at guessing: one is too small, the other too large")
figures.save(fig, "fig-lr-curves",
             caption=f"Four learning rates, {runs} seeds each; two hidden layers of {width} units, "
                     f"{dataset}, SGD without momentum, batches of 64. At the largest rate the "
                     "loss jumps out of the picture in the first steps.",
             alt="The loss falls at a rate of 0.3, falls late at 0.02, and ends at the height of "
                 "guessing both at 0.0001 and at 6; at 6 it first jumps up.")

# %% tags=["fold"]
ends = {each: np.median(rows[:, -40:], 1) for each, rows in curves.items()}  # (runs,)
claims.check("fig-lr-curves",
             "In the last 40 of {steps} steps the loss (median) is {low:.2f} at a rate of {tiny:g} "
             "and {high:.2f} at "
             "{huge:g}; guessing has {guess:.2f}, and {rate:g} reaches {good:.2f}.", steps=steps,
             tiny=tiny, huge=huge, rate=rate, guess=guess, good=(ends[rate], "<=", 0.3),
             low=(ends[tiny], "in", (guess - 0.1, guess + 0.1)),
             high=(ends[huge], "in", (guess - 0.1, guess + 0.2)), seeds=runs, on="every")

# %% [markdown]
# ## 1 · Verdicts: too small, or too large?
#
# The rule one learns first says: a loss that barely changes means that the rate is too small. So we give both networks that stand the rate that works and let them go on.

# %%
exercises.predict("10.p1", "Both networks go on at the rate that works. Which one learns now?",
                  ("both", "only that of the small rate", "only that of the large rate", "neither"))

# %%
later = {each: [descend(net, x, y, rate, steps // 2, number + 50)
                for net, number in zip(nets[each], seeds, strict=True)]
         for each in (tiny, huge)}

def dead_share(net):
    """Share of the units of the last hidden layer that are 0 for every training picture."""
    return (net[:5](x) == 0).all(0).double().mean().item()

dead = {each: [dead_share(net) for net in nets[each]] for each in (tiny, huge)}

# %% tags=["fold"]
# Below, at too large rates: units that are stuck, and the layer of scores alone.
def stuck(bend, rate):
    """Shares of the last hidden units that give the same for every picture, after 80 steps."""
    ready = [fresh(number, bend=bend) for number in seeds]
    for net, number in zip(ready, seeds, strict=True):
        descend(net, x, y, rate, 80, number)
    out = torch.stack([net[:5](x) for net in ready]).detach()  # (runs, N, width)
    return (out.amax(1) - out.amin(1) < 1e-3).double().mean(1).tolist()

def alone(constant, rate):
    """End of trainings of the last layer alone, all its inputs held at a constant."""
    held = torch.full((len(x), width), constant).to(x)
    return [np.median(descend(fresh(number, lambda: nn.Linear(width, classes)), held, y, rate, 80,
                              number)[-20:]) for number in seeds]

after = {each: np.median(np.array(rows)[:, -40:], axis=1) for each, rows in later.items()}
woken = {each: bool((values < 0.5 * guess).all()) for each, values in after.items()}
names = {(True, True): "both", (True, False): "only that of the small rate",
         (False, True): "only that of the large rate", (False, False): "neither"}
exercises.reveal("10.p1", names[woken[tiny], woken[huge]],
                 f"The losses are {after[tiny].mean():.2f} and {after[huge].mean():.2f}; of the "
                 f"last hidden layer's units {np.mean(dead[tiny]):.0%} and "
                 f"{np.mean(dead[huge]):.0%} are dead.")
claims.check("emp-lr-symptoms.dead",
             "Another {steps} steps, at a rate of {rate:g}: the networks that stood at {tiny:g} "
             "reach a loss of {woken:.2f}, those that stood at {huge:g} stay at {stuck:.2f}. Of "
             "the units in their last hidden layer {alive:.0%} and {dead:.0%} are 0 for every "
             "training picture.", steps=steps // 2, rate=rate, tiny=tiny, huge=huge,
             woken=(after[tiny], "<=", 0.4), stuck=(after[huge], ">=", 2.0),
             alive=(dead[tiny], "<=", 0.2), dead=(dead[huge], ">=", 1), seeds=runs, on="every")

# %% [markdown]
# A step that was much too long has pushed the units so far that none of them answers to any picture any more: *dead* units (lesson 05), through which no gradient comes back. All that is left to learn are the biases of the scores, and they can only guess.
# The network is lost. With another rate one must begin *anew*, from fresh weights.
#
# Is it the death of units that makes a too large rate look like a too small one? The test: the same trainings with *leaky ReLU*, which keeps a hundredth of the negative half, so that its units cannot die. And with *tanh*, which bends to ±1 on both sides: its units can get stuck too, but not at 0.

# %%
bends = {"ReLU": nn.ReLU, "leaky ReLU": nn.LeakyReLU, "tanh": nn.Tanh}
ladder = rate * np.array([1 / 10, 1, 20, 1e3])

def end(number, bend, rate):
    """Losses of the last 20 of 80 steps."""
    return descend(fresh(number, bend=bend), x, y, rate, 80, number)[-20:]

tails = {name: np.array([[end(number, bend, each) for number in seeds] for each in ladder])
         for name, bend in bends.items()}  # (rates, runs, 20)

# %% tags=["fold"]
final = {name: np.median(losses, axis=2) for name, losses in tails.items()}  # (rates, runs)
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.4))
TOP = 1e6
ax.axhline(guess, color="0.35", linestyle=":", linewidth=1.5)
ax.text(ladder[0], guess * 1.25, "guessing", fontsize=12)
for name, style in zip(bends, ("o-", "s--", "D-."), strict=True):
    values = np.where(np.isfinite(final[name]), final[name], TOP)
    middle = np.median(values, axis=1)
    ax.plot(ladder, np.minimum(middle, TOP), style, color="0.15")
    broken = middle >= TOP
    ax.plot(ladder[broken], np.full(broken.sum(), TOP), "X", color="0.15", markersize=13)
far = ladder >= 9 * rate  # far too large
tail = tails["tanh"][far]  # (rates, runs, 20)
ax.vlines(ladder[far], tail.min((1, 2)), tail.max((1, 2)), color="0.15", linewidth=7, alpha=0.35)
ax.text(ladder[2] * 22, 11, "ReLU", fontsize=13, ha="left", va="center")
ax.text(ladder[2] * 0.3, TOP / 12, "leaky ReLU:\nno number", fontsize=13, ha="right",
        va="center")
ax.text(ladder[2] * 4, 1.2e4, "tanh; bar: lowest and\nhighest of 20 steps", fontsize=13,
        ha="center")
ax.set(xscale="log", yscale="log", xlabel="learning rate", ylim=(0.02, 3e6),
       ylabel="loss at the end (✕: no finite number,\nor above a million)")
ax.set_title(f"At {ladder[2]:g} ReLU guesses, tanh swings far above that, leaky ReLU "
             "overflows")
figures.save(fig, "emp-lr-symptoms",
             caption=f"Median loss of the last 20 of 80 steps at four learning rates, median "
                     f"of {runs} seeds; bars: lowest and highest of these steps for "
                     f"tanh; {dataset}, two hidden layers of {width} units.",
             alt="All three fall up to a rate of about 0.3. At 6 ReLU's loss is that of guessing, "
                 "that of leaky ReLU is no number, and that of tanh is far above. At 300 "
                 "ReLU too lies far above guessing.")

# %% tags=["fold"]
finite = {name: float(np.isfinite(rows[far]).mean()) for name, rows in final.items()}
smallest, above = (np.array([descend(fresh(number), x, y, each, 80, number) for number in seeds])
                   for each in (1e-6, 3 * rate))
change = np.abs(smallest[:, -40:].mean(1) / smallest[:, :40].mean(1) - 1)
claims.check("emp-lr-symptoms",
             "At rates 20 and 1000 times too large these end with a finite loss: {relu:.0%} with "
             "ReLU, {leaky:.0%} with leaky ReLU, {tanh:.0%} with tanh.", relu=finite["ReLU"],
             leaky=(finite["leaky ReLU"], "<=", 0.1), tanh=(finite["tanh"], ">=", 0.9))
claims.check("emp-lr-symptoms.ends",
             "At a rate of {huge:g} ReLU ends at {relu:.2f} (guessing: {guess:.2f}), tanh at "
             "{tanh:.0f}, its last 20 losses a factor of {swing:.1f} apart. At {most:g} ReLU ends "
             "at {far:.0f}. At 0.000001 the loss changes by {change:.1%}.", huge=ladder[2],
             swing=((tails["tanh"][2].max(1) / tails["tanh"][2].min(1)), ">=", 1.5), guess=guess,
             relu=(final["ReLU"][2], "in", (guess - 0.2, guess + 0.4)), most=ladder[3],
             tanh=(final["tanh"][2], ">=", 20), far=(final["ReLU"][3], ">=", 10 * guess),
             change=(change, "<=", 0.01), seeds=runs, on="every", varies=True)
claims.check("emp-lr-symptoms.stuck",
             "Of tanh's last hidden units (at {huge:g}) {held:.0%} and of ReLU's (at {most:g}) "
             "{dead:.0%} give the same for every training picture. The layer of scores alone: with "
             "all inputs 1 it ends at {ones:.0f} at a rate of {huge:g}; with all inputs 0 at "
             "{zeros:.2f}, and at {zeros_far:.0f} at {most:g}.", huge=ladder[2], most=ladder[3],
             held=(stuck(nn.Tanh, ladder[2]), ">=", 0.9),
             dead=(stuck(nn.ReLU, ladder[3]), ">=", 0.9),
             ones=(alone(1.0, ladder[2]), "in", (40 * guess, 120 * guess)),
             zeros=(alone(0.0, ladder[2]), "in", (guess - 0.2, guess + 0.4)),
             zeros_far=(alone(0.0, ladder[3]), ">=", 10 * guess), seeds=runs, on="every")

# %% [markdown]
# ReLU's units get stuck at 0, and what is left, the biases of the scores, guesses; at a rate a thousand times too large, where nearly all units are stuck, these biases swing themselves. tanh's units get stuck at ±1: constants, which act as so many more biases, and the loss swings far above guessing. The layer of scores *alone*, fed with constants, does the same.
# Leaky units go on: their numbers grow until the loss overflows, `inf` or `nan` ("not a number").
# So of the three only ReLU's dead units look like a rate too small. The first steps tell the two apart: was there a peak? (All verdicts are for code without a bug: section 3.)
#
# | what you see | verdict | what to do |
# |---|---|---|
# | flat from the first step, no peak | too small | multiply the rate by 10 |
# | falls, and is still falling at the end | small, or too few steps | multiply by 3, or train longer |
# | falls, then flattens low | works | leave it |
# | a peak in the first steps, high or low, then it falls, but less far | somewhat too large | divide by 3, begin anew |
# | a peak in the first steps, then flat at guessing | too large, units dead | divide by 10, *begin anew* |
# | no finite number, or a loss far above guessing | too large | divide by 10, begin anew |
#
# The fourth row is measured below. With the sliders one can try it (in a live notebook):

# %% tags=["fold"]
def tried(power, bend):
    """The losses of one training at a rate of 10 ** power, drawn, and in words."""
    each = 10.0**power
    row = np.array(descend(fresh(seed, bend=bends[bend]), x, y, each, steps, seed))
    fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.4))
    ax.axhline(guess, color="0.35", linestyle=":")
    ax.plot(range(1, steps + 1), np.where(np.isfinite(row), row, np.nan), color="C0")
    ax.set(xlabel="step", ylabel="training loss", ylim=(0, 3 * guess),
           title=f"{bend}, learning rate {each:.2g}")
    peak = np.nanmax(np.where(np.isfinite(row), row, np.nan))
    return fig, (f"{bend} at {each:.2g}: highest loss {peak:.3g}, at the end "
                 f"{row[-20:].mean():.2f}; guessing {guess:.2f}")

claims.check("emp-lr-symptoms.above",
             "At {three:g}, three times the rate that works, ReLU's loss peaks at {peak:.1f} times "
             "that of guessing, then falls, to {end:.2f} in 80 steps; at {rate:g} to {good:.2f}.",
             three=3 * rate, rate=rate, peak=(above.max(1) / guess, ">=", 1.05),
             end=(np.median(above[:, -20:], 1), ">=", 1.25 * final["ReLU"][1].mean()),
             good=final["ReLU"][1], seeds=runs, on="mean")
widgets.explore(tried,
                power=widgets.Slider(-1.0, -5.0, 3.0, 0.25, "log10 of the rate",
                                     kept=(-5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)),
                bend=widgets.Choice("ReLU", tuple(bends), "function", kept=tuple(bends)))

# %% [markdown]
# **We now know** that "barely changing" is no verdict: it takes the first steps, or a second training with another rate from *fresh* weights.
# **This does not show** which rate is best. And a network with BatchNorm (lesson 07) or with clipped gradients has other symptoms. A loss far above guessing *before* the first step comes from the first weights, not from the rate (section 3).
#
# **Exercise 10.1.** Write the verdict as code. From the losses of all steps, answer "smaller", "larger" or "keep". *Smaller*: some loss is no finite number; or the last one is at least 0.9 × `guess` and some loss was above 1.5 × `guess`. *Larger*: the last is at least 0.9 × `guess`, without such a peak. Else *keep*.

# %%
def remedy(losses, guess):
    """'smaller', 'larger' or 'keep' for the learning rate of this training."""
    ...

exercises.check("10.1", remedy)

# %% [markdown]
# ## 2 · A range of rates, with one training
#
# Must one train at every rate to find those that work? A *range test* is a single short training whose rate grows with every step, by a constant factor. While the rate is too small, nothing happens; then the loss falls; in the end it climbs, and we stop.

# %% tags=["define", "ledger:prac-lr-range"]
def range_test(net, pictures, labels, loss=F.cross_entropy, low=1e-5, high=10.0, steps=100,
               seed=0, size=64):
    """Rates and losses of a training whose rate grows from low to high; net is used up."""
    rates, losses = np.geomspace(low, high, steps), []
    stream = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=low)
    for each in rates:
        optimizer.param_groups[0]["lr"] = each
        batch = torch.randperm(len(pictures), generator=stream)[:size].to(labels.device)
        value = loss(net(pictures[batch]), labels[batch])
        losses.append(value.item())
        if not losses[-1] <= 4 * min(losses):  # climbing, or no number
            break
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return rates[:len(losses)], np.array(losses)

# %% tags=["define", "fold"]
# The range, read off a range test whose losses are smoothed; He's first weights (lesson 06).
def usable(rates, losses, wide=5):
    """(low, high): where the loss, smoothed, first is 5 % below its start, and is lowest."""
    wide = min(wide, len(losses))
    mean = np.convolve(losses, np.ones(wide) / wide, "valid")
    middle = rates[wide // 2:][:len(mean)]  # the rate in the middle of each window
    fallen = mean < 0.95 * mean[0]
    low = middle[fallen.argmax()] if fallen.any() else math.nan
    return low, middle[mean.argmin()]

def he(net):
    """First weights of deviation sqrt(2 / inputs of the layer), biases 0."""
    for weight in net.parameters():
        if weight.ndim > 1:
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
        else:
            nn.init.zeros_(weight)
    return net

# %% [markdown]
# For comparison we need the truth: many rates, each with a whole training. The table that we train here has a second hyperparameter, *weight decay* (lesson 02: what L2 regularisation takes off the weights in each step). Sections 4 and 5 search in this table.
# `training.repeat` trains all rates of a row at once, as one stack of networks: same first weights (one seed), same batches, a rate each.

# %%
tested = [range_test(fresh(number), x, y, seed=number) for number in seeds]
ranges = [usable(*pair) for pair in tested]  # (low, high) of each seed

rates = np.geomspace(1e-5, 100, 29)  # four a decade
decays = np.geomspace(1e-6, 1e-2, 3)

def row_of(decay, start=seed):
    """Validation accuracy after each epoch, (rates, epochs), and the trained networks."""
    found = training.repeat(
        lambda: network(inputs, width, classes), train, valid, seeds=len(rates) * [start],
        learning_rates=rates.tolist(), epochs=epochs, batch_size=64, drop_last=True, progress=False,
        optimizer=lambda weights, lr: torch.optim.SGD(weights, lr=lr, weight_decay=decay))
    lost = epochs * [1 / classes]  # a network without finite numbers guesses
    return [lost if h.diverged else h["valid_accuracy"] for h in found], found.models

rows, models = zip(*[row_of(decay) for decay in decays], strict=True)
table = np.array(rows).transpose(1, 0, 2)  # (rates, decays, epochs)
last = table[:, :, -1]  # after the last epoch

# %%
exercises.predict("10.p2", "Which share of the rate with the lowest loss trains best in 100 steps?",
                  ("a tenth", "a third or the rate itself", "twice the rate"))

# %% tags=["fold"]
# A deeper network, the rate that a range test names, and what a rate reaches.
def deeper():
    """The same network with two more hidden layers."""
    net = network(inputs, width, classes)
    extra = [part for _ in range(2) for part in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*net[:5], *extra, net[5])

def named(number, make=None, **options):
    """The rate of the lowest loss in a range test."""
    return usable(*range_test(fresh(number, make), x, y, seed=number, **options))[1]

def reached(rate, number, make=None, steps=100):
    """Validation accuracy after so many steps at this rate."""
    net = fresh(number, make)
    descend(net, x, y, rate, steps, number)
    return accuracy(net, xv, yv)

def at_rate(goals):
    """Mean accuracy in the table at the rates nearest to these."""
    return float(np.mean([last[np.abs(np.log(rates / goal)).argmin(), 0] for goal in goals]))

lows, highs = np.array(ranges).T
one_epoch = [np.arange(offset, len(rates), 4) for offset in range(4)]  # rates a factor of 10 apart
rival = [last[rows[table[rows, 0, 0].argmax()], 0] for rows in one_epoch]

# %%
shares = {"a tenth": 0.1, "a third": 1 / 3, "the rate itself": 1.0, "twice the rate": 2.0}
several = range(seed, seed + runs + 1)
highest = {number: named(number) for number in several}
reach = {name: [reached(share * high, number) for number, high in highest.items()]
         for name, share in shares.items()}
longer = {name: [reached(shares[name] * highest[number], number, steps=500) for number in seeds]
          for name in ("a tenth", "a third", "the rate itself")}

# %% tags=["fold"]
mean = {name: np.mean(values) for name, values in reach.items()}
top = max(mean, key=mean.get)
exercises.reveal("10.p2", top if top in ("a tenth", "twice the rate")
                 else "a third or the rate itself",
                 f"Accuracies after 100 steps, mean of {len(several)} seeds: "
                 + ", ".join(f"{name} {value:.0%}" for name, value in mean.items()) + ".")
fig, axes = plt.subplots(2, 1, figsize=(figures.WIDTH, 5.0), sharex=True, height_ratios=(1, 1))
for (steps_at, losses), (low, high) in zip(tested, ranges, strict=True):
    axes[0].plot(steps_at, losses, color="0.15", linewidth=1.5)
    for ax in axes:
        ax.axvline(high, color="C3", linewidth=1.5, linestyle="--")
        ax.axvline(low, color="C2", linewidth=1.5)
axes[0].set(ylabel="loss of the step", ylim=(0, 2.2 * guess), xscale="log")
axes[0].text(1.2e-5, 0.35, f"range test: 100 steps, {runs} seeds", fontsize=13)
axes[0].text(max(high for _, high in ranges) * 1.15, 0.35, "lowest", color="C3", fontsize=13)
axes[0].text(min(low for low, _ in ranges) / 1.15, 3.6, "begins to fall", color="#00695f",
             fontsize=13, ha="right")
axes[1].plot(rates, 100 * last[:, 0], "o", color="0.15", markersize=4)
axes[1].text(1.2e-5, 70, f"{len(rates)} whole trainings,\n{epochs * (len(x) // 64)} steps each",
             fontsize=13)
axes[1].set(xlabel="learning rate", ylabel="accuracy in %", ylim=(0, 103))
fig.suptitle("The range that the test names lies inside the range that works")
figures.save(fig, "prac-lr-range",
             caption="Top: the loss while the rate grows. Lines: the rates where the loss "
                     "(of five steps) is 5 % down, and where it is lowest. Bottom: validation "
                     f"accuracy after {epochs} epochs, one training for each rate, first seed; "
                     f"{dataset}, decay {decays[0]:g}.",
             alt="The range test's loss begins to fall at about 0.2 and is lowest at about 0.8. "
                 "Whole trainings work from about 0.1 to 1 and fail soon above.")

# %% tags=["fold"]
claims.check("prac-lr-range",
             "The loss begins to fall at a rate of {low:.2f} and is lowest at {high:.2f}.",
             low=(lows, ">", rates[0]), high=(highs, "in", (0.1, 2)), seeds=runs, on="mean")
claims.check("prac-lr-range.table",
             "In the table (one seed; the rates nearest to those of the ranges): whole trainings "
             "at the rate of the lowest loss reach {own:.1%}, at a third of it {third:.1%}, at "
             "three times as much {beyond:.0%}; the best of {count} rates {best:.1%}. At half the "
             "rate where the loss begins to fall, below the range: {below:.1%}.", count=len(rates),
             own=(at_rate(highs), ">=", last[:, 0].max() - 0.05), best=last[:, 0].max(),
             third=(at_rate(highs / 3), ">=", last[:, 0].max() - 0.05),
             beyond=(at_rate(3 * highs), "<=", 0.5), below=(at_rate(lows / 2), ">=", 0.8))
claims.check("prac-lr-range.price",
             "The rival: {count} rates a factor of ten apart, one epoch each, {price} steps in "
             "all. The best of them reaches {rival:.1%} in its whole training (mean of four places "
             "to begin; lowest {worst:.1%}).", count=len(one_epoch[1]), worst=min(rival),
             price=len(one_epoch[1]) * (len(x) // 64),
             rival=(np.mean(rival), "~", at_rate(highs), 0.04))
claims.check("prac-lr-range.rule",
             "After 100 steps: {one:.0%} at the rate of the lowest loss, {third:.0%} at a third, "
             "{tenth:.0%} at a tenth of it, and {twice:.0%} at twice the rate.",
             one=reach["the rate itself"], third=(reach["a third"], ">=", 0.85),
             tenth=(reach["a tenth"], "<=", mean["a third"] - 0.04),
             twice=(reach["twice the rate"], "<=", mean["a third"] - 0.1),
             seeds=len(several), on="mean")
claims.check("prac-lr-range.long",
             "After 500 steps: {one:.1%} at the rate itself, {third:.1%} at a third, {tenth:.1%} "
             "at a tenth.", one=longer["the rate itself"],
             third=(longer["a third"], ">=", np.mean(longer["a tenth"])),
             tenth=(longer["a tenth"], ">=", np.mean(longer["a third"]) - 0.03), seeds=runs,
             on="mean")

# %% tags=["fold"]
def first_fall(number):
    """The step at which a deeper network's loss, mean of five, is 5 % below its start."""
    losses = descend(fresh(number, deeper), x, y, rate, 100, number)
    down = smooth(losses, 5) < 0.95 * np.mean(losses[:5])
    return int(down.argmax()) + 5 if down.any() else 100

starts = range(seed, seed + runs + 2)
kinds = {"whole": (deeper, {}), "late": (deeper, {"low": 0.1}), "He": (lambda: he(deeper()), {})}
deep = {name: [named(number, make, **options) for number in starts]
        for name, (make, options) in kinds.items()}
trained = {name: [reached(high, number, kinds[name][0])
                  for number, high in zip(starts, highs, strict=True)]
           for name, highs in deep.items()}
claims.check("prac-lr-range.fails",
             "Four hidden layers: the rate of the lowest loss is {high:.2f}, and trains to "
             "{short:.0%} (guessing: {guess:.0%}). Yet at a constant rate of {rate:g} the loss is "
             "5 % down after {steps:.0f} steps.", guess=1 / classes, rate=rate,
             high=(deep["whole"], ">", rate), short=(trained["whole"], "<=", 0.4),
             steps=([first_fall(number) for number in starts], "<=", 60), seeds=len(starts),
             on="mean")
claims.check("prac-lr-range.start",
             "The same networks from He's first weights: the test names {he:.2f}, which trains to "
             "{good:.0%}.", he=(deep["He"], "<=", 0.6), good=(trained["He"], ">=", 0.75),
             seeds=len(starts), on="every")
claims.check("prac-lr-range.late",
             "From torch's first weights, with 100 steps from 0.1 to 10 instead of from 0.00001: "
             "the test names {late:.2f}, which trains to {good:.0%}.",
             late=(deep["late"], "<=", 1.2), good=(trained["late"], ">=", 0.25),
             seeds=len(starts), on="mean")

# %% [markdown]
# A tenth, a usual rule, is too careful for trainings as short as these; in longer ones it nearly catches up, or goes ahead, as the seeds fall. A third is the safe choice. The rate of the lowest loss itself does about as well here, but it lies at the edge: with more than half of the other seeds that were tried some network was lost there within 100 steps, and at twice the rate most end worse.
# The price is no wonder either: a few rates, one epoch each, cost as much and find about as good a rate (with half of the other seeds to within four points; a single training varies by more). What either saves grows with the length of the whole trainings.
#
# And the test can fail. Four layers with torch's small first weights do begin to fall after some tens of steps at a *constant* good rate. But the test has only 17 steps in each factor of ten: before the loss has moved, the rate has run on to where the network breaks.
# With He's larger first weights, which fall sooner, the same test names a good rate. With torch's, more steps in the factors of ten that count help too, but less, and unevenly.
#
# **We now know** a range worth searching, from one short training.
# **This does not show** the best rate of a long training: it looks at the first steps only, from one start.
#
# **Exercise 10.2.** Name the range from `rates` and `losses` (arrays of equal length) without smoothing. `low`: the first rate whose loss is at least 5 % below the first loss; `high`: the rate of the lowest loss. If no loss is so low, both are `None`.

# %%
def rate_range(rates, losses):
    """(low, high) of a range test, or (None, None)."""
    ...

exercises.check("10.2", rate_range)

# %% [markdown]
# ## 3 · Seven checks, and a bug for each
#
# Now the rate is right, and still something may be wrong. We plant seven bugs, each of a kind that happens, one at a time.
# All that a training depends on stands in one *task*, so that a bug changes one entry of it (`replace` makes a copy with that change). Two tasks have no bug; the second starts from He's larger first weights (lesson 06).

# %% tags=["define", "ledger:prac-babysitting-steps"]
@dataclass
class Task:
    """A training: normalised pictures with labels, the network, the loss, and the rate."""

    train: tuple  # pictures (N, C, H, W), labels (N,)
    valid: tuple
    make: Callable  # a fresh network
    count: int  # its weights, counted on paper
    loss: Callable  # of scores and labels
    penalty: Callable  # R of a network
    strength: float  # lambda: training lowers the loss plus lambda R
    rate: float

def squares(net):
    """L2: the sum of all squared weights, without biases."""
    return sum(weight.square().sum() for weight in net.parameters() if weight.ndim > 1)

# %% tags=["define", "fold"]
# Two networks with a bug.
class Listed(nn.Module):
    """The same network, its hidden layers in a Python list: torch does not find them there."""

    def __init__(self, inputs=64, width=64, classes=10):
        super().__init__()
        self.hidden = [nn.Linear(inputs, width), nn.Linear(width, width)]
        self.scores = nn.Linear(width, classes)

    def forward(self, x):
        x = x.flatten(1)
        for layer in self.hidden:
            x = torch.relu(layer.to(x)(x))  # torch does not move them to the device either
        return self.scores(x)

def loud(net):
    """Every weight from the normal distribution of deviation 1, whatever the layer's size."""
    for weight in net.parameters():
        nn.init.normal_(weight)
    return net

# %% tags=["fold"]
# The right task, and what some of the bugs need.
def plain():
    return network(inputs, width, classes)

def he_below():
    """He's first weights in the hidden layers, torch's in the last."""
    net = plain()
    he(net[:-1])
    return net

count = inputs * width + width + width * width + width + width * classes + classes
right = Task((x, y), (xv, yv), plain, count, F.cross_entropy, squares, 0.003, rate)
everyone, labels = torch.cat([x, xv]), torch.cat([y, yv])
def leaked(number):
    """As many training pictures as before, drawn before the split: (pictures, labels)."""
    stream = torch.Generator().manual_seed(number)
    drawn = torch.randperm(len(everyone), generator=stream)[:len(x)]
    return everyone[drawn], labels[drawn]

unit = {"mean": [0.0] * x.shape[1], "std": [1.0] * x.shape[1]}
raw = next(valid.normalised(**unit).batches(len(valid)))[0]  # brightness from 0 to 1

# %%
bugs = {
    "none": right,
    "none, He's start": replace(right, make=lambda: he(plain()), rate=rate / 3),
    "1 raw validation": replace(right, valid=(raw, yv)),  # brightness 0 to 1
    "2 lost layers": replace(right, make=lambda: Listed(inputs, width, classes)),
    "3 loud start": replace(right, make=lambda: loud(plain())),
    "4 idle penalty": replace(right, penalty=lambda net: squares(net).detach()),  # no gradient
    "5 softmax twice": replace(right, loss=lambda s, t: F.cross_entropy(s.softmax(1), t)),
    "6 rate of Adam": replace(right, rate=3e-4),  # Adam's usual rate, given to SGD
    "7 leak": replace(right, train=leaked(seed)),  # drawn before the split
}

# %%
exercises.predict("10.p3", "Of bugs 2, 3, 5 and 6, how many reach 60 % on validation?",
                  ("none", "one", "two", "three or four"))

# %% tags=["fold"]
# All tasks trained.
def trained_by(task, number):
    """A network of this task after its training: loss plus lambda R."""
    net = fresh(number, task.make)
    descend(net, *task.train, task.rate, steps, number, loss=task.loss,
            penalty=lambda net: task.strength * task.penalty(net))
    return net

found = {}  # by bug: accuracy in validation and in the test, sum of squared weights; one a run
for name, task in bugs.items():
    ready = [trained_by(task, number) for number in seeds]
    found[name] = [(accuracy(net, *task.valid), accuracy(net, xt, yt), squares(net).item())
                   for net in ready]

ended = {name: np.nan_to_num(np.array(rows), nan=1 / classes).mean(0)
         for name, rows in found.items()}
buggy = [name for name in bugs if name[0].isdigit()]
fine = sum(ended[name][0] >= 0.6 for name in buggy)
touched = sum(ended[name][0] >= 0.6 for name in buggy if name[0] in "2356")
exercises.reveal("10.p3", ("none", "one", "two", "three or four", "three or four")[touched],
                 "; ".join(f"{name[2:]} {ended[name][0]:.0%}" for name in buggy)
                 + f"; without bug {ended['none'][0]:.0%}.")

ratios = {}  # first loss over ln C, ten networks each
makers = {"torch": plain, "he": bugs["none, He's start"].make, "below": he_below,
          "loud": bugs["3 loud start"].make}
for name, make in makers.items():
    with torch.no_grad():
        ratios[name] = [F.cross_entropy(fresh(number, make)(x), y).item() / guess
                        for number in range(seed, seed + 10)]

# %% [markdown]
# A bug need not stop a network from learning. It may cost some points, change nothing that one sees, or make the network seemingly better. The curve does not shout.
# So each step of the way gets a check of its own. Each measures one number and says between which two it must lie.

# %% tags=["define"]
def check_data(task):
    """1: mean 0 and deviation 1, in training and validation."""
    parts = task.train[0], task.valid[0]
    off = [abs(part.mean().item()) for part in parts]
    off += [abs(part.std().item() - 1) for part in parts]
    return max(off), 0, 0.2

def check_network(task):
    """2: the optimizer gets as many weights as were counted on paper."""
    return sum(weight.numel() for weight in task.make().parameters()) / task.count, 1, 1

def check_start(task):
    """3: without regularisation, the first loss is about ln C, that of guessing."""
    pictures, labels = task.train
    first = task.loss(task.make().to(pictures)(pictures), labels).item()
    return first / math.log(labels.max().item() + 1), 0.8, 2  # He's first weights: up to 1.6

def check_penalty(task):
    """4: R raises the loss, and its gradient is 2 W at weights and 0 at biases."""
    net = task.make().to(task.train[0])
    value = task.loss(net(task.train[0]), task.train[1])
    names = list(net.parameters())
    before = torch.autograd.grad(value, names, retain_graph=True)
    after = torch.autograd.grad(value + task.penalty(net), names)
    wrong = sum((b - a - 2 * w * (w.ndim > 1)).square().sum()
                for a, b, w in zip(before, after, names, strict=True))
    return (wrong.sqrt() / (2 * squares(net).sqrt())).item(), 0, 1e-6

# %% tags=["define", "ledger:eq-loss-sanity-checks"]
def check_overfit(task):
    """5: twenty pictures are learnt by heart, at the better of two rates."""
    pictures, labels = task.train[0][:20], task.train[1][:20]
    lowest = [descend(task.make().to(pictures), pictures, labels, each, 200, loss=task.loss)[-1]
              for each in (0.1, 0.3)]
    return np.nanmin(lowest), 0, 0.01

def check_rate(task):
    """6: the rate lies in the range of a range test, with a factor of 2 to spare."""
    net = task.make().to(task.train[0])
    low, high = usable(*range_test(net, *task.train, loss=task.loss))
    return task.rate, low / 2, 2 * high

def check_split(task):
    """7: no picture of validation is in training too (share of those that are)."""
    seen = {picture.numpy().tobytes() for picture in task.train[0].cpu()}
    again = [picture.numpy().tobytes() in seen for picture in task.valid[0].cpu()]
    return np.mean(again), 0, 0  # byte by byte: distances are rounded

CHECKS = (check_data, check_network, check_start, check_penalty, check_overfit, check_rate,
          check_split)

# %% tags=["fold"]
# Every task through every check.
def verdicts(task):
    """For each of the seven checks: the number, and its two bounds."""
    answers = []
    for check in CHECKS:
        with runtime.seeded(seed):
            answers.append(check(task))
    return answers

def missed(name):
    """In how many of eight draws check 6 lets the rate of Adam pass."""
    count = 0
    for number in range(seed, seed + 8):
        with runtime.seeded(number):
            value, low, high = check_rate(replace(bugs[name], rate=3e-4))
        count += low <= value <= high
    return count

seen = {name: verdicts(task) for name, task in bugs.items()}

def worded(value):
    """A number in few letters."""
    return "0" if abs(value) < 1e-6 else f"{value:.0f}" if value >= 10 else f"{value:.2g}"

def ranged(value, low, high):
    """A number and the range it should lie in, in one digit each."""
    if math.isnan(low):
        return f"{value:g}\n(none)"
    below = "to " if low < 5e-3 else f"{low:.1g}–"
    return f"{value:g}\n({below}{float(f'{high:.1g}'):g})"

titles = ["data\n0 to 0.2", "network\n1", "start\n0.8 to 2", "penalty\n0", "overfit\n0 to 0.01",
          "rate\n(range)", "split\n0"]
passed = {name: np.array([low <= value <= high for value, low, high in row])
          for name, row in seen.items()}

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 5.4))
for at, (name, row) in enumerate(seen.items()):
    for column, (value, low, high) in enumerate(row):
        ok = passed[name][column]
        if not ok:
            ax.add_patch(plt.Rectangle((column - 0.48, at - 0.46), 0.96, 0.92, color="C3"))
        text = ranged(value, low, high) if column == 5 else worded(value)
        ax.text(column, at, text, ha="center", va="center", color="0.35" if ok else "white",
                fontsize=10 if column == 5 else 12, fontweight="normal" if ok else "bold")
    ax.text(7.05, at, f"{ended[name][0]:.0%}", ha="center", va="center", fontsize=13)
    ax.text(8.0, at, f"{ended[name][1]:.0%}", ha="center", va="center", fontsize=13)
ax.set(xlim=(-0.5, 8.5), ylim=(len(seen) - 0.5, -0.5), yticks=range(len(seen)),
       xticks=[*range(7), 7.05, 8.0])
ax.set_yticklabels(list(seen), fontsize=12.5)
ax.set_xticklabels([*(f"{n} {title}" for n, title in enumerate(titles, 1)), "valid.\nacc.",
                    "test\nacc."], fontsize=10.5)
ax.xaxis.tick_top()
ax.tick_params(length=0)
ax.spines[:].set_visible(False)
fig.suptitle(f"Every bug fails its check; {fine} of the 7 networks learn all the same")
figures.save(fig, "prac-babysitting-steps",
             caption="A row is a task, a column a check with the number that it measures; on top "
                     "the bounds (6: a range test, with a factor of 2 to spare); red: out of "
                     f"bounds. Right: accuracy after {steps} steps, mean of {runs} seeds; "
                     f"{dataset}.",
             alt="A table whose diagonal is red: each of seven planted bugs fails its own check, "
                 "two networks without bug pass all. Several with a bug learn anyway.")

# %% tags=["fold"]
own = sum(not passed[name][bug] for bug, name in enumerate(buggy))
others = int(sum((~passed[name]).sum() for name in buggy) - own)
first_red = sum(int((~passed[name]).argmax()) == bug for bug, name in enumerate(buggy))
claims.check("prac-babysitting-steps",
             "The two right tasks pass {passed} and {he} of 7 checks. {own} of 7 bugs fail the "
             "check meant for them, {first} of them none to the left of it; {others} fields to the "
             "right are red. After {steps} steps {fine} of the 7 have 60 % in validation or more, "
             "of bugs 2, 3, 5 and 6 {touched}.",
             passed=(int(passed["none"].sum()), "==", 7), own=(own, "==", 7),
             he=(int(passed["none, He's start"].sum()), "==", 7), others=others, steps=steps,
             first=(first_red, "==", 7), fine=(fine, "in", (4, 6)), touched=(touched, "in", (1, 3)))
tamed = [accuracy(trained_by(replace(bugs["3 loud start"], rate=rate / 10), number), xv, yv)
         for number in seeds]
claims.check("prac-babysitting-steps.start",
             "First loss over ln C, ten networks each: torch's first weights {torch:.2f}, He's "
             "{he:.2f} (highest {most:.2f}), He's but torch's in the last layer {below:.2f}, the "
             "loud ones {loud:.0f} (lowest {least:.0f}).",
             torch=(np.mean(ratios["torch"]), "~", 1, 0.05), he=np.mean(ratios["he"]),
             most=(max(ratios["he"]), "in", (1.2, 2)), below=(np.mean(ratios["below"]), "<=", 1.15),
             loud=np.mean(ratios["loud"]), least=(min(ratios["loud"]), ">=", 10))
claims.check("prac-babysitting-steps.loud",
             "At a tenth of the rate the loud networks learn, to {tamed:.0%} in validation; "
             "without bug {good:.0%}.", good=ended["none"][0],
             tamed=(tamed, "in", (0.5, max(0.5, ended["none"][0] - 0.02))), seeds=runs, on="mean")
claims.check("emp-overfit-tiny-subset",
             "Twenty pictures, 200 steps: loss {tiny:.4f}; with softmax twice {twice:.2f}, though "
             "its first loss is {start:.2f} times that of guessing.",
             tiny=(seen["none"][4][0], "<=", 0.01), twice=(seen["5 softmax twice"][4][0], ">=", 1),
             start=(seen["5 softmax twice"][2][0], "~", 1.0, 0.2))

# %% tags=["fold"]
def mixed(scores, labels):  # labels dealt anew in each step
    return F.cross_entropy(scores, labels[torch.randperm(len(labels), device=labels.device)])

with runtime.seeded(seed):
    dealt = check_overfit(replace(right, loss=mixed))[0]
    few = fresh(seed)
    descend(few, x[:20], y[:20], rate, 200, seed)
claims.check("emp-overfit-tiny-subset.shuffled",
             "All of the twenty are named right ({share:.0%}). With labels dealt anew in each step "
             "the loss stays at {dealt:.2f}.", share=(accuracy(few, x[:20], y[:20]), "==", 1.0),
             dealt=(dealt, ">=", 1))

net = fresh(seed)
value = F.cross_entropy(net(x), y)
rises = [(value + weight * squares(net) - value).item() for weight in (0.0, 1.0, 1000.0)]
by_hand = sum((net[place].weight ** 2).sum().item() for place in (1, 3, 5))
amiss = {"biases too": replace(right, penalty=lambda net: sum(p.square().sum()
                                                              for p in net.parameters())),
         "per picture": replace(right, penalty=lambda net: squares(net) / 64)}
with runtime.seeded(seed):
    caught = {name: check_penalty(task)[0] for name, task in amiss.items()}
    rise = squares(fresh(seed)).detach()  # what the idle penalty adds all the same
claims.check("emp-loss-rises-with-reg",
             "With lambda 0, 1 and 1000 the first loss rises by {nothing:.0f}, {one:.2f} and "
             "{thousand:.0f} (by hand: the same to {off:.0e}). The idle penalty raises it as much "
             "({idle:.2f}), and its gradient is wrong by {wrong:.0%}; one that counts biases by "
             "{biases:.0%}, one divided by the batch by {batch:.0%}.",
             nothing=(rises[0], "==", 0.0), one=rises[1], thousand=rises[2],
             off=(abs(rises[1] - by_hand), "<=", 1e-9), idle=(rise.item(), ">", 1),
             wrong=(seen["4 idle penalty"][3][0], ">=", 0.9),
             biases=(caught["biases too"], ">=", 1e-3), batch=(caught["per picture"], ">=", 0.5),
             varies=True)

# %% tags=["fold"]
sums = {name: [row[2] for row in found[name]] for name in ("none", "4 idle penalty")}
claims.check("emp-loss-rises-with-reg.idle",
             "After training, with lambda = {strength:g}: the squared weights add up to {sum:.0f}, "
             "with the idle penalty to {idle:.0f}; validation {valid:.1%} and {as_good:.1%}.",
             strength=right.strength, sum=(sums["none"], ">", 0),
             idle=(sums["4 idle penalty"], ">=", 1.2 * max(sums["none"])),
             valid=ended["none"][0], as_good=ended["4 idle penalty"][0], seeds=runs, on="every")

draws = range(seed, seed + runs + 2)
clean = {number: row[:2] for number, row in zip(seeds, found["none"], strict=True)}
gains = []  # what a leak adds: in validation, in the test; one a draw
for number in draws:
    if number not in clean:
        net = trained_by(right, number)
        clean[number] = accuracy(net, xv, yv), accuracy(net, xt, yt)
    net = trained_by(replace(right, train=leaked(number)), number)
    gains.append((accuracy(net, xv, yv) - clean[number][0],
                  accuracy(net, xt, yt) - clean[number][1]))
gains = 100 * np.array(gains)
claims.check("prac-babysitting-steps.leak",
             "A leak adds {gain:.1f} points in validation and {test:.1f} in the test. The part "
             "that is not real: {more:.1f} points.", gain=(gains[:, 0], ">", 0), test=gains[:, 1],
             more=(gains[:, 0] - gains[:, 1], ">=", 0.3), seeds=len(draws), on="mean")
claims.check("prac-babysitting-steps.low",
             "Check 6 misses the rate of Adam in {torch} of 8 draws of torch's weights, in {he} "
             "of He's.", torch=(missed("none"), "==", 0), he=(missed("none, He's start"), ">=", 1))
drawn = len(x) / len(everyone)  # chance of a validation picture to be in training
claims.check("prac-babysitting-steps.split",
             "The leak puts {share:.0%} of the validation pictures into training, as check 7 "
             "counts; {drawn:.0%} are expected by chance.", drawn=drawn,
             share=(seen["7 leak"][6][0], "~", drawn, 0.07))

# %% [markdown]
# The checks in words, in their usual order:
# 1. *Data*: look at mean and deviation where they enter the network, in validation too.
# 2. *Network*: count its weights on paper; torch must find as many.
# 3. *Start*: without regularisation, the first loss is about $\ln C$ if the last layer starts small. With He's first weights it may be half as much again, and nothing is wrong. (The loud networks peak and then stand, which looks like a rate too large. A smaller one makes them learn, and hides the bug.)
# 4. *Penalty*: the loss must go up, one reads. It does so with the idle penalty too, which acts on no weight. Check the *gradient* of $R = \sum W^2$: $2W$. (torch's `weight_decay` d adds d W, so it is 2λ.)
# 5. *Overfit*: a handful of pictures must be learnt by heart. A network that applies softmax twice begins at $\ln C$ and learns; no earlier check catches it.
# 6. *Rate*: inside the range of the range test. With He's first weights its lower end is no more than a hint (the first losses differ from batch to batch), and a small rate may pass.
# 7. *Split*: no picture on both sides, *before* any search compares numbers on it.
#
# A bug may fail later checks too: work from the left; here the first red field is the culprit. Of these seven bugs the leak is the only one that makes validation look too *good*.

# %% [markdown]
# **We now know** seven checks that take seconds, each with a bug that no earlier one sees. The first that fails says where to look first.
# **This does not show** that a task without a red field is right: the checks know seven kinds of bugs. (Near-copies, two photographs of one scene, pass check 7.)
#
# **Exercise 10.3.** `broken` has three bugs, and learns next to nothing. Write `mended`, which takes the same arguments and trains `net` in place: `steps` steps of SGD with all `pictures`, and gives back the loss of each step.

# %%
def broken(net, pictures, labels, rate, steps):
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        scores = net(pictures).softmax(1)
        loss = F.cross_entropy(scores, labels.flip(0))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses

def mended(net, pictures, labels, rate, steps):
    ...

exercises.check("10.3", mended)

# %% [markdown]
# ## 4 · Log space, and chance against order
#
# Now to the search for the best setting. First: from where shall we draw a rate between 0.00001 and 100? *Evenly* means that every interval of length 1 gets as many draws as any other. Evenly in *log space* means that every *factor* of 10 gets as many: from 0.001 to 0.01 as many as from 0.1 to 1.
# Training anew a thousand times would take hours; but all settings of our table are trained already. So a search looks up its settings there (the table divides the whole range into equal cells), and keeps the best accuracy. In log space a setting is a point of the unit square: its first number says how far the rate is on the way through the seven factors of ten.

# %% tags=["define", "ledger:eq-random-log-search", "ledger:prac-log-space"]
def log_uniform(share, low, high):
    """The number that lies at this share (0 to 1) of the way from low to high, in log space."""
    return low * (high / low) ** share

# %%
def placed(points):
    """(rate, decay) indices in the table of points (n, 2) of the unit square, in log space."""
    return tuple((np.clip(points, 0, 1 - 1e-9) * last.shape).astype(int).T)  # 29 rates, 3 decays

def best_of(points, answers=last):
    """The highest accuracy that the table has at these points."""
    return answers[placed(points)].max()

point = np.array([[0.6, 0.5]])  # 0.6 of the way through the rates
rates[placed(point)[0]].round(2), best_of(point).round(3)

# %% tags=["fold"]
# Many searches; rates drawn evenly and in log space, from 0.00001 to three tops.
SEARCHES = 1000
dice = np.random.default_rng(seed)
budget = side**2

def searches(points, answers=last):
    """What so many searches find; `points` makes the settings of one."""
    return np.array([best_of(points(), answers) for _ in range(SEARCHES)])

def up_to(top, even):
    """A search whose rates are drawn from the lowest to `top`, evenly or in log space."""
    def points():
        share = dice.random(budget)
        drawn = rates[0] + share * (top - rates[0]) if even else log_uniform(share, rates[0], top)
        return np.stack([np.log(drawn / rates[0]) / np.log(rates[-1] / rates[0]),
                         dice.random(budget)], axis=1)
    return points

# %% tags=["fold"]
good = last.max() - 0.02
tops = (100.0, 10.0, 1.0)
hits = {even: [(searches(up_to(top, even)) >= good).mean() for top in tops]
        for even in (True, False)}  # share of searches within 2 points of the best
numbers = log_uniform(dice.random(5000), 1e-6, 1.0)
shares_below = {"even": (dice.uniform(1e-6, 1, 5000) < 0.1).mean(), "log": (numbers < 0.1).mean()}
level = stats.kstest(np.log10(numbers), stats.uniform(-6, 6).cdf).pvalue
claims.check("emp-log-space-search",
             "{budget} rates from 0.00001 to 100, to 10, to 1; share of {count:,} searches within "
             "2 points of the table's best. Drawn evenly: {e100:.0%}, {e10:.0%}, {e1:.0%}; in log "
             "space: {l100:.0%}, {l10:.0%}, {l1:.0%}.", budget=budget, count=SEARCHES,
             e100=(hits[True][0], "<=", 0.2), e10=hits[True][1],
             e1=(hits[True][2], ">=", hits[False][2] + 0.1),
             l100=(hits[False][0], ">=", hits[True][0] + 0.3), l10=hits[False][1],
             l1=(hits[False][2], "~", hits[False][0], 0.3))
claims.check("prac-log-space",
             "Of 5,000 draws between 0.000001 and 1 a share of {even:.1%} lies below 0.1 when "
             "drawn evenly and {log:.1%} in log space (by arithmetic 10 % and 83.3 %). Are their "
             "logarithms even? A Kolmogorov-Smirnov test does not object (p = {level:.2f}).",
             even=(shares_below["even"], "~", 0.1, 0.02),
             log=(shares_below["log"], "~", 5 / 6, 0.02), level=(level, ">", 0.01))

# %% [markdown]
# Even drawing bets on the top factor of ten: nine of ten draws fall there. If the good rates lie there, it wins; the further below they lie, the more it loses. Drawing in log space bets on none, and finds about as much whatever the top is.
# Before a search one rarely knows the right factor of ten. So draw in log space whatever acts by factors: rates, weight decay, the number of units. What acts by differences (the number of layers, a dropout share) is drawn evenly.
#
# **Exercise 10.4.** Momentum $m$ (lesson 09) lies close to 1, and what matters is how far it is from 1: 0.9 averages over about 10 steps, 0.99 over 100. Turn an even draw `u` from 0 to 1 into a momentum from `low` to `high`, such that $1 - m$ is drawn in log space. `u = 0` shall give `low`, `u = 1` `high`.

# %%
def momentum_at(u, low, high):
    """The momentum for u in 0 to 1, even in the logarithm of its distance from 1."""
    ...

exercises.check("10.4", momentum_at)

# %% [markdown]
# Second: which settings? A *grid* takes all combinations of a few values, here four rates with four decays. *Random search* draws as many settings anywhere.
# Order ought to beat chance. It is often said that chance wins. We let both search our table a thousand times, the grid each time shifted by a random amount, so that neither is lucky with its edges. (The table has one seed; section 5 repeats the main comparisons in a second table.)

# %%
def grid(many=side):
    """A grid of `many` rates, evenly spaced in log space, shifted at random as a whole."""
    shift, few = dice.random(2), budget // many  # so many decays for each rate
    return np.array([((a + shift[0]) / many, (b + shift[1]) / few)
                     for a in range(many) for b in range(few)])

def random():
    return dice.random((budget, 2))

# %%
exercises.predict("10.p4", "Random draws, their rates rounded to four as in a grid, are:",
                  ("still better than the grid", "no better"))

# %%
def rounded():
    """Random settings whose rates are moved to the four rates of a grid."""
    points = dice.random((budget, 2))
    points[:, 0] = (np.floor(points[:, 0] * side) + dice.random()) / side
    return points

def sheared():
    """The grid with row j moved up by j / side of a step: all rates differ, nothing is random."""
    one, other = np.divmod(np.arange(budget), side)  # row and column of each setting
    shift = dice.random(2)  # where the pattern begins
    return np.stack([(one + (other + shift[0]) / side) / side,
                     (other + (one + shift[1]) / side) / side], axis=1)

# %% tags=["fold"]
# What they find.
layouts = {"grid": grid, "random": random, "wide grid": lambda: grid(2 * side), "sheared": sheared}
result = {name: searches(make) for name, make in (layouts | {"rounded": rounded}).items()}

def wins(one, other):
    """Share of pairs of searches that `one` wins, a tie counted as half."""
    one, other = result[one], result[other]
    return float(((one > other) + 0.5 * (one == other)).mean())

exercises.reveal("10.p4", "still better than the grid" if wins("rounded", "grid") > 0.55
                 else "no better",
                 f"They win {wins('rounded', 'grid'):.0%} of the searches; with free rates "
                 f"{wins('random', 'grid'):.0%}.")

def widest(points):
    """The widest gap between neighbouring rates, in factors of ten (from the last to the first)."""
    at = np.sort(points[:, 0] % 1)
    return np.diff(np.append(at, at[0] + 1)).max() * np.log10(rates[-1] / rates[0])

gaps = {name: np.mean([widest(make()) for _ in range(SEARCHES)]) for name, make in layouts.items()}
drawn = [random() for _ in range(2 * SEARCHES)]
gap, value = np.array([(widest(points), best_of(points)) for points in drawn]).T
median = np.median(gap)
worst = {name: float(np.quantile(values, 0.05)) for name, values in result.items()}

# %% tags=["fold"]
fig, axes = plt.subplots(1, 4, figsize=(figures.WIDTH, 4.4), sharey=True)
heads = {"grid": f"grid {side} × {side}", "wide grid": f"grid {2 * side} × {budget // (2 * side)}"}
for ax, (name, make) in zip(axes, layouts.items(), strict=True):
    points = make()
    ax.imshow(100 * last.T, origin="lower", aspect="auto", cmap="viridis", vmin=0, vmax=100,
              extent=(-5, 2, -6, -2), alpha=0.75)
    at = np.log10(log_uniform(points, np.array([1e-5, 1e-6]), np.array([1e2, 1e-2])))
    ax.plot(at[:, 0], at[:, 1], "o", color="white", markeredgecolor="0.1", markersize=7,
            clip_on=False)
    ax.plot(at[:, 0], np.full(len(at), -6.35), "|", color="0.1", markersize=14,
            markeredgewidth=2, clip_on=False)
    ax.set(xlabel="rate", xlim=(-5, 2), ylim=(-6.7, -2), xticks=[-4, -1, 2], yticks=[-6, -4, -2])
    ax.set_title(f"{heads.get(name, name)}\ngap {gaps[name]:.2f}\nfinds "
                 f"{100 * result[name].mean():.1f} %", fontsize=12.5)
    ax.set_xticklabels(["$10^{-4}$", "0.1", "100"], fontsize=12)
    ax.set_yticklabels(["$10^{-6}$", "$10^{-4}$", "0.01"], fontsize=12)
axes[0].set_ylabel("weight decay")
fig.suptitle("The wider the gap between the rates tried, the less a search finds")
figures.save(fig, "fig-random-vs-grid",
             caption=f"Colour: validation accuracy of {last.size} trained networks (yellow: high), "
                     f"{dataset}, {epochs} epochs, one seed. Dots: one search of {budget} "
                     "settings; marks below: the rates tried. Above, means of "
                     f"{SEARCHES:,} searches: the widest gap between neighbouring rates, in "
                     "factors of ten, and the best accuracy found.",
             alt="Only rates around 0.3 are good, whatever the weight decay. The 4 x 4 grid has "
                 "the widest gaps and finds the least, then come random, the grid of eight rates, "
                 "and the sheared grid of sixteen rates.")

# %% tags=["fold"]
claims.check("emp-random-beats-grid",
             "{count:,} searches of {budget} settings: random finds {random:.1%} on average, the "
             "grid {grid:.1%}, and wins {wins:.0%} of them.", count=SEARCHES, budget=budget,
             random=(result["random"].mean(), ">=", result["grid"].mean() + 0.03),
             grid=result["grid"].mean(), wins=(wins("random", "grid"), ">=", 0.57))
claims.check("emp-random-beats-grid.reason",
             "With the grid's rates random settings win {rounded:.0%} against the grid. A grid of "
             "{many} rates finds {wide:.1%}, random with {budget} rates {random:.1%}, and it wins "
             "{level:.0%} against random. The sheared grid finds {sheared:.1%} and wins "
             "{wins:.0%} against random.",
             rounded=(wins("rounded", "grid"), "<=", 0.52), many=2 * side, budget=budget,
             wide=(result["wide grid"].mean(), ">=", result["random"].mean() - 0.01),
             random=result["random"].mean(), level=wins("wide grid", "random"),
             sheared=(result["sheared"].mean(), ">=", result["random"].mean() + 0.01),
             wins=(wins("sheared", "random"), ">=", 0.55))
claims.check("emp-random-beats-grid.gap",
             "Random searches with a gap below the median ({median:.2f} factors of ten) find "
             "{close:.1%}, those with a wider one {wide:.1%}. One search in twenty finds less than "
             "{r:.0%} at random, {w:.0%} with the grid of {many} rates, {s:.0%} sheared.",
             median=median, close=value[gap < median].mean(), many=2 * side, r=worst["random"],
             wide=(value[gap >= median].mean(), "<=", value[gap < median].mean() - 0.01),
             w=(worst["wide grid"], ">=", worst["random"] + 0.05),
             s=(worst["sheared"], ">=", worst["random"] + 0.05))

# %% tags=["fold"]
def closest(points, goal, axes):
    """How near the settings come to a goal, measured along some axes."""
    return np.sqrt(((points - goal)[:, axes] ** 2).sum(1)).min()

made_up = {}  # share of searches in which random settings come nearer than a grid
for name, axes in {"one": [0], "both": [0, 1]}.items():
    goals = dice.random((SEARCHES, 2))
    made_up[name] = np.mean([closest(random(), goal, axes) < closest(grid(), goal, axes)
                             for goal in goals])
claims.check("emp-random-beats-grid.both",
             "On a made-up surface, a goal anywhere: if only one hyperparameter counts, random "
             "comes nearer than the grid in {one:.0%} of the searches; if both count alike, in "
             "{both:.0%}.", one=(made_up["one"], ">=", 0.6), both=(made_up["both"], "<=", 0.5))
spread = {"rate": float(np.ptp(last.mean(1))), "decay": float(np.ptp(last.mean(0)))}
taken = 1 - (1 - rate * decays[-1]) ** (epochs * (len(x) // 64))  # by the decay alone
claims.check("emp-random-beats-grid.dimension",
             "Averaged over the other hyperparameter, the accuracy ranges over {rate:.0%} along "
             "the rate and over {decay:.0%} along the decay. (In so few steps, at a rate of "
             "{at:g}, even the largest decay alone takes only {taken:.0%} off the weights.)",
             rate=(spread["rate"], ">=", 0.5), decay=(spread["decay"], "<=", 0.15), at=rate,
             taken=taken)

# %% [markdown]
# In this range and with so few steps one hyperparameter matters, the rate. The 4 × 4 grid spends its trainings on four rates, with wide gaps between them, and the good rates may fall into a gap.
# Random search tries sixteen, and its gaps are narrower, mostly. Take the new rates away (*rounded*), and the advantage is gone. But eight rates in *order* do about as well as sixteen by chance, and fail less; sixteen in order (*sheared*) find the most.
#
# **We now know** what counts: many and *evenly spaced* values of whatever matters. Random search is the simple way to that if one does not know what matters.
# **This does not show** that it always helps: where both matter alike, the grid wins (the made-up surface above). With more hyperparameters the grid gets worse: with 2 values each, 16 settings are 4 hyperparameters.
#
# **Exercise 10.5.** Beat the grid with three hyperparameters, with its own budget. Return an array of shape (n³, 3) of numbers from 0 to below 1. Each cell of the n × n × n grid shall hold exactly one setting. Cut each axis into n³ equal intervals: each of these shall hold exactly one setting too. (Extend `sheared`: there each number of a setting is moved, within its cell, by the other one; with three, by the other two.)

# %%
def settings(n):
    """(n³, 3): one in each cell, and n³ different values on each axis."""
    ...

exercises.check("10.5", settings)

# %% [markdown]
# ## 5 · Coarse to fine, and the honest winner
#
# A search need not spend all at once. Some ways to divide the same budget (here counted in epochs):
# *Finer*: half of the settings anywhere, the others close to the best of them (their rates at most a factor of 7 away; *finer, wider*: of 25). *Even, then finer*: as *finer*, but the rates of the first half are evenly spaced.
# *Short first*: many settings for one epoch only, then all epochs for the region of the best.

# %% tags=["fold"]
# Settings close to one, and settings anywhere.
def near(point, count, reach=0.12):
    """`count` settings around a point: a factor of about 7 up or down in the rate, any decay."""
    around = point[0] + dice.uniform(-reach, reach, count)
    return np.stack([around, dice.random(count)], axis=1)

def looks(count, even=False):
    """`count` settings anywhere; if `even`, their rates evenly spaced."""
    points = dice.random((count, 2))
    if even:
        points[:, 0] = (np.arange(count) + dice.random()) / count
    return points

# %%
def finer(even=False, reach=0.12):
    coarse = looks(budget // 2, even)
    best = coarse[last[placed(coarse)].argmax()]
    return np.concatenate([coarse, near(best, budget - budget // 2, reach)])

first = table[:, :, 0]  # accuracy after one epoch
whole = budget * 2 // 3  # settings trained to the end; the rest pays for single epochs
most = (budget - whole) * epochs  # so many single epochs

def short_first(count=most, even=False, early=first):
    coarse = looks(count, even)
    return near(coarse[early[placed(coarse)].argmax()], whole)

# %%
exercises.predict("10.p5", "Half anywhere, half close to the best of them, against all anywhere:",
                  ("wins more often", "wins less often"))

# %% tags=["nbval-varies", "fold"]
# What the three find.
result |= {"finer": searches(finer), "finer, wider": searches(lambda: finer(reach=0.2)),
           "even, then finer": searches(lambda: finer(even=True)),
           "short first": searches(short_first)}
exercises.reveal("10.p5", "wins more often" if wins("finer", "random") > 0.5 else "wins less often",
                 f"It wins {wins('finer', 'random'):.0%} of the searches, and finds "
                 f"{result['finer'].mean():.1%} on average against {result['random'].mean():.1%}.")
order = ["grid", "random", "finer", "finer, wider", "sheared", "even, then finer", "short first"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.8))
for at, name in enumerate(order):
    values = 100 * result[name]
    low, high = np.quantile(values, (0.05, 0.25))
    ax.plot([low, values.max()], [at, at], color="0.15", linewidth=2.5)
    ax.plot([high, values.max()], [at, at], color="C0", linewidth=15, solid_capstyle="butt")
    ax.plot(values.mean(), at, "o", color="white", markeredgecolor="0.1", markersize=8)
    ax.text(100.7, at, f"{values.mean():.1f}", va="center", fontsize=14)
ax.text(100.7, -0.95, "mean", va="center", fontsize=13)
ax.set(yticks=range(len(order)), ylim=(len(order) - 0.5, -0.6), xlim=(45, 100),
       xlabel="best validation accuracy found, in %")
ax.set_yticklabels(order, fontsize=14)
ax.set_title("Refining settles badly where the coarse look leaves gaps")
figures.save(fig, "emp-coarse-to-fine",
             caption=f"{SEARCHES:,} searches each in the table of section 2, budget {budget} "
                     f"trainings of {epochs} epochs. Thin: 95 % of the searches find at least "
                     "this; thick: 75 %; dot and number: mean.",
             alt="Grid, random and finer have long thin lines to the left, finer with a wider "
                 "reach a shorter one; sheared, even then finer, and short first have hardly any, "
                 "and the highest means.")

# %% tags=["nbval-varies", "fold"]
worst = {name: float(np.quantile(values, 0.05)) for name, values in result.items()}
claims.check("emp-coarse-to-fine",
             "Finer wins {finer:.0%} against random settings, and finds {f:.1%} on average, random "
             "{r:.1%}; one search in twenty finds less than {low:.0%}, with a wider reach "
             "{wider:.0%}. After an even look finer finds {e:.1%}, one in twenty less than "
             "{high:.0%}.", finer=(wins("finer", "random"), ">=", 0.53), r=result["random"].mean(),
             f=(result["finer"].mean(), "~", result["random"].mean(), 0.02),
             low=(worst["finer"], "<=", worst["random"] + 0.03),
             wider=(worst["finer, wider"], ">=", worst["finer"] + 0.05),
             e=(result["even, then finer"].mean(), ">=", result["random"].mean() + 0.015),
             high=(worst["even, then finer"], ">=", worst["finer"] + 0.1))
claims.check("emp-coarse-to-fine.short",
             "Short first finds {s:.1%}, and wins {wins:.0%} against the sheared grid and "
             "{even:.0%} against even, then finer.",
             s=(result["short first"].mean(), ">=", result["random"].mean() + 0.015),
             wins=(wins("short first", "sheared"), ">=", 0.53),
             even=(wins("short first", "even, then finer"), "~", 0.5, 0.06))

# %% tags=["nbval-varies", "fold"]
# What short first needs: enough looks or even ones, and first epochs that tell what works.
fewer = {count: searches(lambda count=count: short_first(count)).mean()
         for count in (most // 4 + 1, most // 2 + 1)}
eight = searches(lambda: short_first(most // 4 + 1, even=True)).mean()
claims.check("emp-coarse-to-fine.looks",
             "With {few} looks instead of {most}, then as many whole trainings, short first finds "
             "{one:.1%} on average, with {more} {two:.1%}; with {few} evenly spaced looks "
             "{even:.1%}, for {epochs} epochs instead of {all}.", few=most // 4 + 1,
             more=most // 2 + 1, most=most,
             one=(fewer[most // 4 + 1], "<=", result["short first"].mean() - 0.01),
             two=fewer[most // 2 + 1], epochs=most // 4 + 1 + whole * epochs,
             all=most + whole * epochs, even=(eight, ">=", result["short first"].mean() - 0.005))
works = last >= last.max() - 0.15
partly, fully = first.copy(), dice.permutation(first.ravel()).reshape(first.shape)
partly[works] = dice.permutation(first[works])  # dealt anew among the settings that work
dealt = {name: searches(lambda early=early: short_first(early=early)).mean()
         for name, early in (("partly", partly), ("fully", fully))}
top = last.ravel().argsort()[-11:]  # the best settings
orders = [stats.spearmanr(first.ravel()[rows], last.ravel()[rows]).statistic
          for rows in (slice(None), top)]
claims.check("emp-coarse-to-fine.reason",
             "Accuracies after one epoch and after {epochs}: rank correlation (1: the same order, "
             "0: none in common) {all:.2f} for all settings, {good:.2f} for the {count} best. "
             "Short first finds {partly:.1%} if the first epochs are dealt anew among the settings "
             "that work, and {fully:.1%} if among all.", epochs=epochs, count=len(top),
             all=(orders[0], ">=", 0.5), good=(orders[1], "<=", 0.6),
             partly=(dealt["partly"], ">=", result["short first"].mean() - 0.01),
             fully=(dealt["fully"], "<=", result["random"].mean() - 0.05))

# %% tags=["fold"]
# A second table, another seed and the middle decay only: is the order of the searches the same?
other = np.array(row_of(decays[1], seed + 1)[0])[:, None].repeat(len(decays), axis=1)
answers = other[:, :, -1]
ours = result
result = {name: searches(make, answers) for name, make in layouts.items()}
result["short first"] = searches(lambda: short_first(early=other[:, :, 0]), answers)
low = {name: float(np.quantile(values, 0.05)) for name, values in result.items()}
claims.check("emp-random-beats-grid.again",
             "In a second table (another seed, decay {decay:g} only): random wins {grid:.0%} "
             "against the grid, the sheared grid {sheared:.0%} against random, short first "
             "{short:.0%} against the sheared grid. One search in twenty finds less than {r:.0%} "
             "at random, {w:.0%} with the grid of {many} rates.", decay=decays[1], many=2 * side,
             r=low["random"], w=(low["wide grid"], ">=", low["random"]),
             grid=(wins("random", "grid"), ">=", 0.55),
             sheared=(wins("sheared", "random"), ">=", 0.55), short=wins("short first", "sheared"))
result = ours

# %% [markdown]
# *Finer* wins more often than random settings, and yet finds about as much on average: where no coarse setting has come near the good rates, all the fine ones lie close to a bad one. It is not refining that fails, it is the gaps of the coarse look, as in section 4; look evenly, or refine more widely, and few searches fail.
# *Short first* pays little for each look, so it can afford many; with evenly spaced ones it need not. *Even, then finer* does as well for the whole budget. One epoch need not *rank* the good settings; it must tell those that work from those that do not. Where it does not (its accuracies dealt anew), short first loses.
#
# Now to the winner. Its score is the *highest* of many, and high partly by luck. We choose the best setting of the table by 50 validation pictures only, and look how it does on the others.

# %% tags=["fold"]
# Choose by few pictures, measure on the others.
with torch.no_grad():
    hit = torch.stack([net(xv).argmax(1) == yv for row in models for net in row]).double()
fixed = len(rates) + int(np.abs(np.log(rates / rate)).argmin())  # `rate` with the middle decay

def chosen_by(count):
    """The best of all settings by `count` pictures: its accuracy on them, and on the others.
    Then the same two numbers for the setting that was named beforehand."""
    order = torch.from_numpy(dice.permutation(len(yv))).to(yv.device)
    count = min(count, len(yv) // 2)
    here, others = hit[:, order[:count]].mean(1), hit[:, order[count:]].mean(1)
    best = here.argmax()
    return [here[best].item(), others[best].item(), here[fixed].item(), others[fixed].item()]

luck = {count: np.mean([chosen_by(count) for _ in range(300)], axis=0) for count in (50, 150)}
claims.check("prac-hyperparameter-cv.winner",
             "Best of {settings} settings by 50 pictures: {shown:.1%} on them, {true:.1%} on the "
             "others (mean of 300 draws). By 150 pictures {more:.1%} and {more_true:.1%}. A "
             "setting named beforehand (rate {rate:.2g}, decay {decay:g}): {before:.1%} and "
             "{before_true:.1%}.", settings=len(hit), rate=rates[fixed - len(rates)],
             decay=decays[1],
             shown=(luck[50][0], ">=", luck[50][1] + 0.01),
             true=luck[50][1], more=luck[150][0],
             more_true=(luck[150][1], ">=", luck[50][1]), before_true=luck[50][3],
             before=(luck[50][2], "~", luck[50][3], 0.006))

# %% [markdown]
# So the winner's own score is no measurement: luck chooses among the settings that work. By 50 pictures the choice here is no better than the setting named beforehand, whose rate section 1 had shown to work (with other seeds that were tried it sometimes was better). That is what test pictures are for: looked at once, after the choice.
# And more validation pictures make the choice better. *Cross-validation* (lesson 01) gets more out of few: the pictures are divided into folds, and each fold is validated once, by a network trained on the others.
#
# We end with a real search, as one runs it for days: every trial is a *notebook* with a cell of parameters, executed and kept. If something looks odd, one opens it. `papermill` puts values behind the parameters cell and runs the notebook in a kernel of its own. All lessons of this course are made so: `python -m cnncourse run 10 -p rate 0.1`.
# To be quick, the trial trains only one matrix with softmax (lesson 02), in three folds. The first notebook looks briefly at many evenly spaced rates; the others train whole, around its best.

# %% tags=["define", "fold"]
# What a trial does: one matrix with softmax, in folds.
def softmax_weights(x, labels, rate, decay, steps=60):
    """One matrix (D, C) for rows x (N, D), after so many steps down the slope with all rows."""
    wanted = np.eye(labels.max() + 1)[labels]  # (N, C)
    weights = np.zeros((x.shape[1], wanted.shape[1]))
    for _ in range(steps):
        scores = x @ weights
        parts = np.exp(scores - scores.max(1, keepdims=True))
        slope = x.T @ (parts / parts.sum(1, keepdims=True) - wanted) / len(x)
        weights -= rate * (slope + decay * weights)
    return weights

def cross_validated(x, labels, rate, decay, folds, steps=60):
    """Accuracy in each fold, of the matrix learnt from the other folds."""
    fold, shares = np.arange(len(x)) % folds, []
    for number in range(folds):
        inside = fold == number
        weights = softmax_weights(x[~inside], labels[~inside], rate, decay, steps)
        shares.append(float(((x[inside] @ weights).argmax(1) == labels[inside]).mean()))
    return shares

# %% tags=["fold"]
# The trial as a notebook: a cell of parameters, the two functions above, and one that calls them.
cells = [nbformat.v4.new_code_cell("rates = [0.1]\ndecay = 0.0\nfolds = 3\nsteps = 60\n"
                                   "stored = ''"),
         nbformat.v4.new_code_cell("import json\nimport numpy as np\n\n"
                                   + inspect.getsource(softmax_weights)
                                   + inspect.getsource(cross_validated)),
         nbformat.v4.new_code_cell("part = np.load(stored)\n"
                                   "x, labels = part['x'], part['labels']\n"
                                   "shares = [np.mean(cross_validated(x, labels, rate, decay, "
                                   "folds, steps)) for rate in rates]\n"
                                   "print(json.dumps(shares))")]
cells[0].metadata["tags"] = ["parameters"]
place = tempfile.TemporaryDirectory()  # goes with the kernel; give a path to keep the notebooks
folder = Path(place.name)
nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "trial.ipynb")
np.savez(folder / "pictures.npz", x=everyone.flatten(1).cpu().numpy(), labels=labels.cpu().numpy())

def trial(number, rates, decay, steps):
    """Run the notebook and keep it; for each rate the mean accuracy in three folds."""
    chosen = {"rates": [float(each) for each in rates], "decay": float(decay), "steps": steps,
              "stored": str(folder / "pictures.npz")}
    done = papermill.execute_notebook(
        folder / "trial.ipynb", folder / f"trial_{number:02}.ipynb", parameters=chosen,
        kernel_name="python3", language="python", progress_bar=False,
        extra_arguments=["--log-level=CRITICAL"])
    return json.loads(done.cells[-1].outputs[0]["text"])

# %%
wanted = np.geomspace(1e-4, 10.0, 12)
brief = trial(0, wanted, 1e-4, steps=20)  # a third of a whole training
start = wanted[np.argmax(brief)]
whole_ones = []  # (accuracy, rate, decay)
for number in range(1, trials):
    one, other = log_uniform(dice.random(2), *np.array([[start / 3, 1e-6], [start * 3, 0.01]]))
    whole_ones.append((trial(number, [one], other, steps=60)[0], one, other))

# %% tags=["fold"]
best = max(whole_ones)
kept = nbformat.read(folder / f"trial_{1 + whole_ones.index(best):02}.ipynb", as_version=4)
rows, names = everyone.flatten(1).cpu().numpy(), labels.cpu().numpy()
weights = softmax_weights(rows, names, *best[1:])
tested_once = float(((xt.flatten(1).cpu().numpy() @ weights).argmax(1)
                     == yt.cpu().numpy()).mean())

def in_folds(rate, steps=60):
    return float(np.mean(cross_validated(rows, names, rate, 1e-4, 3, steps)))

hasty = wanted[np.argmax([in_folds(each, 5) for each in wanted])]  # after 5 steps instead of 20
claims.check("prac-hyperparameter-cv",
             "The first notebook names the rate {start:.2g} ({look:.1%} after 20 steps). Whole "
             "trainings around it: {best:.1%} in three folds, at {rate:.3g} (as its kept copy "
             "says); at the rate first named {same:.1%}. Trained on all pictures: {test:.1%} in "
             "the test.", start=start, look=max(brief), best=best[0],
             same=(in_folds(start), ">=", best[0] - 0.005),
             rate=kept.metadata["papermill"]["parameters"]["rates"][0],
             test=(tested_once, "~", best[0], 0.02))
def loss_after(steps, rate):
    """The loss on all pictures after so many steps at a rate."""
    scores = torch.from_numpy(rows @ softmax_weights(rows, names, rate, 1e-4, steps))
    return F.cross_entropy(scores, torch.from_numpy(names)).item()

early, late = loss_after(5, hasty), loss_after(20, hasty)
claims.check("prac-hyperparameter-cv.hasty",
             "A look of 5 steps instead of 20 names the rate {rate:.2g}, and a whole training "
             "there reaches {accuracy:.1%}. After 5 steps the loss is {early:.2f} there and "
             "{five:.2f} at a rate of {start:.2g}; after 20 steps {late:.2f} and {twenty:.2f}.",
             rate=(hasty, "<=", start / 2), start=start, early=early, late=late,
             accuracy=(in_folds(hasty), "<=", in_folds(start) - 0.005),
             five=(loss_after(5, start), ">", early),
             twenty=(loss_after(20, start), "<=", late * 0.8))

# %% [markdown]
# Here refining gains nothing: what was tried around the rate first named is about as good. And a look can be too brief: the large rate that is best in the end first swings, here far above guessing (with most of the other seeds that were tried less far), and after 5 steps a smaller one is ahead.
#
# **We now know** how to spend a budget: look everywhere evenly, in log space, and cheaply if a short look tells enough; then closely around the best; validate in folds; measure the winner once, on the test pictures.
# **This does not show** how the methods compare with models of the table, Bayesian optimisation for one, which choose each setting by all results so far. And our table has two hyperparameters, not ten.
#
# **Exercise 10.6.** *Successive halving*: train all settings for one epoch, keep the better half (of an odd number the larger half), train these for one more, and so on, until one is left. `table` (settings, epochs) has the accuracy of every setting after every epoch. Return the row of the survivor, and how many epochs were trained in all. Of equal settings the earlier row is the better one; after the last epoch, halve by the last column, without further training.

# %%
def survivor(table):
    """(row of the last setting left, epochs trained in all)."""
    ...

exercises.check("10.6", survivor)

# %% [markdown]
# **Exercise 10.7.** Report the winner honestly. `hit` (settings, pictures) is True where the network of a setting names a validation picture rightly. Choose the best setting by the first `count` pictures only; of equal ones, take the first. Return its row and what may be reported: its share of hits on the *other* pictures.

# %%
def honest(hit, count):
    """(row of the setting chosen by the first `count` pictures, its accuracy on the others)."""
    ...

exercises.check("10.7", honest)

# %% [markdown]
# ## In practice
#
# - Before any search: one batch learnt by heart, the first loss, weights counted (`sum(p.numel() for p in net.parameters())`). Lightning does a dry run with `Trainer(fast_dev_run=True)` and a tiny set with `overfit_batches=10`.
# - Range tests: `training.lr_range_test` here, `LearningRateFinder` in Lightning, `lr_find` in fastai. Then a schedule with warm-up (lesson 09).
# - Searches: Optuna (`suggest_float(..., log=True)`), Ray Tune, scikit-learn's `RandomizedSearchCV` with `scipy.stats.loguniform`. The first two can stop bad trials early (*pruning*).
# - Fine-tuning a pretrained network: start from its recipe and search the rate only. Large models are searched in small ones.
# - Write down every trial, with its seed; compare differences with the spread of seeds. Report the test number of *one* setting.
#
# ## History
#
# - 1998: Y. LeCun, L. Bottou, G. Orr and K.-R. Müller, *Efficient BackProp*: practical advice on rates, inputs and starts, as a chapter of *Tricks of the Trade*.
# - 2012: J. Bergstra and Y. Bengio show random search at work against grids, and the reason, few hyperparameters that matter. In the same year Y. Bengio's *Practical recommendations* say to start with the learning rate; J. Snoek, H. Larochelle and R. Adams search by Bayesian optimisation.
# - 2015: L. Smith proposes the range test (the rate grows by equal steps), in a paper on cyclical rates. 2015 and 2016: successive halving (K. Jamieson, A. Talwalkar; arXiv, then a conference), then Hyperband (L. Li and others), which varies how short the first trials are.
# - 2019: T. Akiba and others publish Optuna. A. Karpathy's *A Recipe for Training Neural Networks* collects checks like those of section 3.
#
# ## Exercises that are left
#
# **10.8 Open.** Plant an eighth bug in `right` that all seven checks pass, and write the check that finds it. (Ideas: `zero_grad` forgotten; training pictures sorted by class; a network in training mode when it is validated.)
#
# **10.9 Open.** Look again at the figure of the four searches. Name two things that it does *not* show. (What if both hyperparameters mattered alike? Change `side` and `epochs`, and look. And which of the four would you choose with a budget of 4?)
#
# ## Summary
#
# - A loss that stands may mean a rate too small or too large. The first steps tell: too large begins with a peak. A ReLU network whose units are dead does not come back with a better rate.
# - A range test names usable rates for the price of one short training; a few rates, one epoch each, do as well at that price. It fails where the network has not begun to learn before the rate is too large.
# - Seven checks before the search. A bug need not stop learning: it may cost some points, change nothing that one sees, or make validation look too good. The penalty's *gradient* must be checked; that the loss rises is not enough.
# - Draw rates in log space if you do not know the right factor of ten. What counts is many and evenly spaced values of what matters: random beats a grid of few rates, and order beats random.
# - Look at many settings, evenly spaced, then closely around the best; short looks save budget, but must be long enough to tell what works. The winner's own score is too high; measure it once, elsewhere.

# %% [markdown]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | the loss barely changes: the rate is too small | it may also be far too large: a dead ReLU network ends at the height of guessing, and the rate that works does not wake it | section 1 |
# | NaN: the rate is too large | often a too large rate gives no NaN: units of ReLU get stuck at 0, of tanh at ±1, at finite losses; leaky ReLU gives it | section 1 |
# | the maximum rate is the largest that does not explode | larger rates than useful do not explode either. In a range test of this network: about a third of the rate of the lowest loss for short trainings, for that rate itself lies at the edge; a tenth nearly catches up in longer ones | sections 1, 2 |
# | the first loss is ln C | if the last layer starts small, as torch's; with He's first weights it may be half as much again | section 3 |
# | add regularisation, the loss should go up | necessary, not sufficient: a penalty without gradient passes; compare the gradient | section 3 |
# | random search is better than grid search | than a grid with few values of what matters; as many values in even order beat it in turn, and where both hyperparameters matter alike (a made-up surface) the grid wins | section 4 |
# | search in log space | if the right factor of ten is not known; where the good rates lie at the top of the range, even drawing finds them more often | section 4 |
# | run with a few epochs and adjust the ranges | good where a short training tells what works, and the coarse look leaves no gap; a look of few steps misleads. Refining around the best of few random settings fails where they miss the good region | section 5 |
#
# ## Sources
#
# - The notes: lecture 004, section 06 on babysitting the learning process and hyperparameter optimisation (after CS231n, Stanford 2017).
# - Y. LeCun, L. Bottou, G. Orr and K.-R. Müller: Efficient BackProp. In: Neural Networks: Tricks of the Trade, 1998.
# - J. Bergstra and Y. Bengio: Random search for hyper-parameter optimization. Journal of Machine Learning Research 13, 2012.
# - Y. Bengio: Practical recommendations for gradient-based training of deep architectures, 2012 (arXiv:1206.5533). J. Snoek, H. Larochelle and R. Adams: Practical Bayesian optimization of machine learning algorithms, 2012 (arXiv:1206.2944).
# - L. Smith: Cyclical learning rates for training neural networks, 2015 (arXiv:1506.01186), section 3.3.
# - K. Jamieson and A. Talwalkar: Non-stochastic best arm identification and hyperparameter optimization, 2015 (arXiv:1502.07943). L. Li, K. Jamieson, G. DeSalvo, A. Rostamizadeh and A. Talwalkar: Hyperband, 2016 (arXiv:1603.06560).
# - T. Akiba, S. Sano, T. Yanase, T. Ohta and M. Koyama: Optuna, 2019 (arXiv:1907.10902). A. Karpathy: A recipe for training neural networks, 2019 (karpathy.github.io).
