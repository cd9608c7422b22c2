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
# # 08 · Dropout and regularisation
# ### How does forgetting on purpose help?
#
# A network learns 200 digits. For a part of them somebody has written down a wrong class.
# The network has more than a hundred times as many weights as pictures, and after a few dozen passes it repeats *every* label it was given, the wrong ones too.
#
# Now the same network, the same pictures; but in each step half of its units, chosen by lot, are struck out. That is *dropout*.
# Odd: it is hindered at each step, in the same number of passes it does not learn its labels by heart, and it names *new* digits better. The first figure shows both; then we look for the reason, and find that some of the reasons one reads are only a part of it.
#
# **You will be able to**
# - see overfitting in two curves, and tell it from the rule "as many parameters as data";
# - write dropout with its scaling, and say what happens at test time;
# - test what is said about it: redundant units, an average of many networks;
# - choose noise and changed pictures for a task, and spot the change that ruins the label;
# - average networks, and say how much that can bring.
#
# **You need** lesson 02 (softmax, loss, L2), lesson 03 (gradients, training) and lesson 05 (units, ReLU).
#
# **Words.** *Test*: pictures that no network was trained with. *Gap*: accuracy in training minus accuracy in the test, in points (hundredths). *Overfitting*: what is learnt holds for the training pictures only. *Regularisation*: whatever is done against it. *Guessing* is right for one digit in ten.
# Claims (✓) are made for the parameters below; with others the lesson shows what it measures and requires nothing.
#
# **It costs** about 40 seconds of one processor core, no network connection, no GPU.

# %% tags=["parameters"]
seed: int = 80  # the first of the seeds; at least 0
runs: int = 6  # networks of each kind, each with pictures and wrong labels of its own; 3 to 20
dataset: str = "digits"  # ; one of digits, mnist, fashion_mnist
images: int = 200  # training pictures of a network; 100 to 1000
wrong_share: float = 0.3  # probability that a training label is wrong; at least 0, below 1
width: int = 128  # units a hidden layer; 8 to 1000
epochs: int = 40  # passes over the training pictures; 8 to 400
rate: float = 0.03  # learning rate; above 0
drop: float = 0.5  # probability that a unit is struck out; above 0, below 1

# %% tags=["imports", "fold"]
import itertools
import math
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as change

from cnncourse import claims, data, exercises, figures, plots, runtime, widgets

# %%
runtime.start(seed=seed, dtype="float64")
everything = data.load(dataset, True).normalised()  # mean 0, deviation 1
test = data.load(dataset, False).normalised(everything.mean, everything.std)
test = test.subset(450, seed=seed)
x_test, y_test = next(test.batches(450))
side = x_test.shape[-1]  # pixels a side
x_test = x_test.flatten(1)  # a picture is a row: (450, pixels)
seeds = range(seed, seed + runs)
everything, test

# %% tags=["define", "fold"]
@dataclass
class Task:
    """Training pictures of all runs, with the labels they were given and the true ones."""
    x: torch.Tensor  # (runs, N, pixels)
    given: torch.Tensor  # (runs, N)
    true: torch.Tensor  # (runs, N)

def noisy_task(source, size, share, seeds):
    """`size` pictures for each seed; each label is wrong with probability `share`."""
    parts = []
    for seed in seeds:
        pictures, true = next(source.subset(size, seed=seed).batches(size))
        lot = torch.Generator().manual_seed(seed)
        wrong = torch.rand(size, generator=lot) < share
        other = torch.randint(1, len(source.classes), (size,), generator=lot)
        given = torch.where(wrong, (true + other) % len(source.classes), true)
        parts.append((pictures.flatten(1), given, true))
    return Task(*map(torch.stack, zip(*parts, strict=True)))

# %% [markdown]
# Each run gets its own 200 pictures, and its own lot decides which labels are wrong; a wrong label is one of the other classes.
# The networks of all runs are trained side by side: each weight matrix has one more axis, the run. Otherwise nothing is new: two hidden layers with ReLU, and scores.
# Two places are left open for forgetting, `units` and `weights`; by default (`nn.Identity`) nothing happens there.
# Training is SGD on batches of 50, each step with nine tenths of the last one added (*momentum*, lesson 09).

# %% tags=["define"]
class Networks(nn.Module):
    """One network for each run: two hidden layers of ReLUs, and scores."""

    def __init__(self, runs, sizes=(64, 128, 128, 10), units=None, weights=None):
        super().__init__()
        pairs = list(itertools.pairwise(sizes))
        self.weights = nn.ParameterList(
            torch.randn(runs, n, m) * math.sqrt(2 / n) for n, m in pairs)  # He's rule
        self.biases = nn.ParameterList(torch.zeros(runs, 1, m) for _, m in pairs)
        self.units = units or nn.Identity()
        self.masked = weights or nn.Identity()

    def forward(self, x):  # (runs, N, pixels), or (N, pixels): the same for all
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = torch.relu(x @ self.masked(weight) + bias)
            x = self.units(x)  # here dropout strikes out
        return x @ self.masked(self.weights[-1]) + self.biases[-1]  # (runs, N, classes)

# %% tags=["define", "fold"]
def train(networks, task, epochs=40, rate=0.03, decay=0.0, seed=0, augment=None, watch=None):
    """SGD with momentum 0.9 on batches of 50, each run in an order of its own.

    rate: a number, or a function of the epoch (from 0). augment: changes the pictures of a batch,
    (runs, 50, pixels), by torch's random numbers. Returns `watch(networks)` of each epoch.
    """
    optimizer = torch.optim.SGD(networks.parameters(), lr=1.0, momentum=0.9, weight_decay=decay)
    lot = torch.Generator().manual_seed(seed)
    runs, size = task.given.shape
    rows, seen = torch.arange(runs)[:, None], []
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = rate(epoch) if callable(rate) else rate
        networks.train()
        order = torch.rand(runs, size, generator=lot).argsort(dim=1)
        for picked in order[:, : size - size % 50].split(50, dim=1):
            x = task.x[rows, picked]
            scores = networks(x if augment is None else augment(x))
            loss = runs * F.cross_entropy(scores.flatten(0, 1), task.given[rows, picked].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        networks.eval()
        if watch is not None:
            seen.append(watch(networks))
    return seen

@torch.no_grad()
def scores_of(networks, x):
    """In evaluation mode, (runs, N, classes)."""
    return networks.eval()(x)

def accuracy(networks, x, labels):
    """Share named right by each network: an array (runs,)."""
    return (scores_of(networks, x).argmax(-1) == labels).double().mean(-1).numpy()

def repeated(networks, task):
    """Share of all labels, and of the wrong ones, that each network repeats: (2, runs)."""
    same, wrong = scores_of(networks, task.x).argmax(-1) == task.given, task.given != task.true
    of_wrong = (same & wrong).sum(1) / wrong.sum(1).clamp(min=1)
    return torch.stack([same.double().mean(1), of_wrong]).numpy()

# %% tags=["define", "fold"]
# What later sections measure.
class Noted(nn.Module):
    """Keeps what passes through."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        return x

def activity(networks, x, labels):
    """Share of zeros, and how much units prefer one class, over both hidden layers: (runs,) each.

    Preference: (best class - mean of the others) / (their sum), of the mean outputs by class."""
    before, networks.units = networks.units, Noted()
    scores_of(networks, x)
    seen, networks.units = networks.units.seen, before
    zeros = np.mean([(h == 0).double().mean(dim=(1, 2)).numpy() for h in seen], axis=0)
    preference = []
    for h in seen:
        means = torch.stack([h[:, labels == k].mean(1) for k in labels.unique()])
        top = means.max(0).values
        rest = (means.sum(0) - top) / (len(means) - 1)
        prefers = torch.where(top > 0, (top - rest) / (top + rest), torch.nan)
        preference.append(prefers.nanmean(1).numpy())
    return zeros, np.mean(preference, axis=0)

def without_units(networks, share, x, labels, seed=0, draws=5):
    """Accuracy (runs,) with this share of the hidden units removed; mean of several draws."""
    before, found = networks.units, []
    networks.units = Removed(share, torch.Generator().manual_seed(seed))
    for _ in range(draws):
        found.append(accuracy(networks, x, labels))
    networks.units = before
    return np.mean(found, axis=0)

def training_loss(networks, task):
    """Mean loss on the given labels: an array (runs,)."""
    scores = scores_of(networks, task.x)
    return torch.stack([F.cross_entropy(s, y) for s, y in zip(scores, task.given, strict=True)]
                       ).numpy()

def exact_average(seed, n=8):
    """For n inputs and 5 classes: largest difference of the scaled answer from the geometric mean
    of all 2^n masked ones (p = 0.5), and from their arithmetic mean."""
    lot = torch.Generator().manual_seed(seed)
    x, w = torch.randn(n, generator=lot), torch.randn(n, 5, generator=lot)
    masks = torch.tensor(list(itertools.product([0.0, 2.0], repeat=n)))  # kept ones are doubled
    logs = ((masks * x) @ w).log_softmax(-1)
    whole = (x @ w).softmax(-1)
    return ((logs.mean(0).softmax(-1) - whole).abs().max().item(),
            (logs.exp().mean(0) - whole).abs().max().item())

def shifted(x, side, reach=1):
    """Rows of square pictures (..., pixels), each moved by up to `reach` pixels; the edge grows."""
    pictures = F.pad(x.reshape(-1, 1, side, side), 4 * [reach], mode="replicate")[:, 0]
    places = pictures.unfold(1, side, 1).unfold(2, side, 1)  # (n, rows, columns, side, side)
    down, right = torch.randint(2 * reach + 1, (2, len(places)))
    return places[torch.arange(len(places)), down, right].reshape(x.shape)

def turned(x, side):
    """Each picture (..., pixels) turned by 180 degrees with probability a half."""
    half = torch.rand(x.shape[:-1]).unsqueeze(-1) < 0.5
    return torch.where(half, x.flip(-1), x)  # the last pixel first

def changes(photo, seed):
    """A photograph (3, 40, 53) and thirteen changes of it, by name."""
    lot = torch.Generator().manual_seed(seed)
    with runtime.seeded(seed):
        bent = v2.ElasticTransform(alpha=33.0, sigma=2.5)(photo)
    hidden = photo.clone()
    hidden[:, 10:27, 12:29] = 0.5
    return {
        "original": photo, "flip": change.horizontal_flip(photo),
        "crop": change.resized_crop(photo, 4, 10, 27, 36, [40, 53], antialias=True),
        "translate": change.affine(photo, 0, [8, 4], 1, [0, 0]),
        "rotate": change.rotate(photo, 20), "shear": change.affine(photo, 0, [0, 0], 1, [25, 0]),
        "stretch": change.resize(photo, [40, 79], antialias=True)[:, :, 13:66], "distort": bent,
        "brightness": change.adjust_brightness(photo, 1.5),
        "contrast": change.adjust_contrast(photo, 0.4), "hue": change.adjust_hue(photo, 0.15),
        "PCA lighting": pca_lighting(photo, torch.tensor([4.0, 2.0, -2.0])),
        "noise": photo + 0.12 * torch.randn(photo.shape, generator=lot), "mask": hidden}

def share_named(networks, x, named):
    """Of the pictures x the share that each network names `named`: (runs,)."""
    answers = scores_of(networks, x).argmax(-1)
    return (answers == named).double().mean(-1).numpy()

def split(probabilities, labels):
    """Squared errors: mean of the members, of the average, and the disagreement."""
    target = F.one_hot(labels, probabilities.shape[-1]).to(probabilities)
    whole = probabilities.mean(0)
    return [part.square().sum(-1).mean().item()
            for part in (probabilities - target, whole - target, probabilities - whole)]

def gained(answers, labels):
    """Points gained by the average, and disagreement, for each group."""
    right = (answers.argmax(-1) == labels).double().mean((1, 2))
    whole = (answers.mean(1).argmax(-1) == labels).double().mean(1)
    return 100 * (whole - right).numpy(), np.array([split(group, labels)[2] for group in answers])

# %% [markdown]
# Dropout itself is three lines. `rand_like` draws a number between 0 and 1 for each number of `x`:

# %% tags=["define", "ledger:eq-dropout-train-test"]
class Dropout(nn.Module):
    """Each number is 0 with probability p, otherwise divided by 1 - p. In training only."""

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        if not self.training:
            return x
        kept = torch.rand_like(x) >= self.p
        return x * kept / (1 - self.p)  # why divided: section 2

# %% tags=["fold"]
# The tasks, and training for them: the same first weights and the same orders for each kind.
figures.use_style()
classes, pixels = len(everything.classes), x_test.shape[1]
task = noisy_task(everything, images, wrong_share, seeds)
clean = Task(task.x, task.true, task.true)  # the same pictures, all labels right

def trained(task, units=None, weights=None, epochs=epochs, make=None, **options):
    """(networks, what was watched) after training; `make()` builds networks of another kind."""
    with runtime.seeded(seed):
        networks = (Networks(len(task.x), (pixels, width, width, classes), units, weights)
                    if make is None else make())
        seen = train(networks, task, epochs, **({"rate": rate, "seed": seed} | options))
    return networks, np.array(seen)

def test_accuracy(networks):
    return accuracy(networks, x_test, y_test)

def scores_in(task):
    """A function that says of networks: training accuracy, wrong labels repeated, test accuracy."""
    return lambda networks: np.stack([*repeated(networks, task), test_accuracy(networks)])

# %%
plain, plain_curves = trained(task, watch=scores_in(task))
forgetful, forgetful_curves = trained(task, units=Dropout(drop), watch=scores_in(task))
curves = {"without dropout": plain_curves,  # (epochs, 3 scores, runs)
          "with dropout": forgetful_curves}

# %% tags=["fold"]
TRAIN, TEST, WRONG = "C0", "C2", "C3"
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.1), sharey=True)
epoch = np.arange(1, epochs + 1)
for ax, (name, values) in zip(axes, curves.items(), strict=True):
    means = values.mean(axis=2)
    ax.fill_between(epoch, means[:, 2], means[:, 0], where=means[:, 0] > means[:, 2], color="0.9")
    for column, colour in ((0, TRAIN), (1, WRONG), (2, TEST)):
        ax.plot(epoch, means[:, column], color=colour)
        ax.fill_between(epoch, values[:, column].min(axis=1), values[:, column].max(axis=1),
                        color=colour, alpha=0.15, linewidth=0)
    ax.set(xlabel="epoch", title=name, ylim=(0, 1.04), xlim=(1, epochs))
    best = means[:, 2].argmax()
    ax.plot(epoch[best], means[best, 2], "o", color=TEST, markersize=9)
axes[0].set_ylabel("share of pictures")
end = {name: values[-1].mean(axis=1) for name, values in curves.items()}
for ax, words, height, colour in ((axes[1], "wrong labels repeated", 0.08, WRONG),
                                  (axes[1], "right in the test", 0.96, "#00786c"),
                                  (axes[0], "training labels", 0.93, TRAIN)):
    ax.text(epochs * 0.98, height, words, color=colour, ha="right", va="center", fontsize=12)
fig.suptitle(f"Of the wrong labels {end['without dropout'][1]:.0%} are learnt without dropout, "
             f"{end['with dropout'][1]:.0%} with it")
figures.save(fig, "emp-dropout-reduces-overfitting",
             caption=f"Two hidden layers of {width} units, {images} {dataset} with wrong labels "
                     f"(probability {wrong_share:g}); lines: mean of {runs} runs, bands: lowest "
                     "to highest; dots: best epoch in the test; grey: the gap.",
             alt="Without dropout the wrong labels are learnt in 20 epochs while the test accuracy "
                 "falls; with dropout fewer are learnt and the test accuracy stays higher.")

# %% tags=["fold"]
without, with_dropout = curves["without dropout"], curves["with dropout"]
wrong = (task.given != task.true).double().mean().item()
claims.check("emp-overfit-symptom",
             "{weights:,} weights learn {images} pictures, {wrong:.0%} of them with a wrong label: "
             "after {epochs} epochs they repeat {train:.1%} of the labels, {learnt:.1%} of the "
             "wrong ones, and are right in the test for {test:.1%}.",
             weights=sum(weight[0].numel() for weight in plain.parameters()), images=images,
             wrong=wrong, epochs=epochs, train=(without[-1, 0], ">=", 0.99),
             learnt=without[-1, 1], test=(without[-1, 2], "<=", 0.8), seeds=seeds)
claims.check("emp-dropout-reduces-overfitting",
             "With dropout the test accuracy at the end is {gain:.1f} points higher and the gap "
             "{gap:.1f} points smaller; {learnt:.1%} of the wrong labels are repeated.",
             gain=(100 * (with_dropout[-1, 2] - without[-1, 2]), ">", 2),
             gap=(100 * np.subtract(*(without - with_dropout)[-1, [0, 2]]), ">=", 8),
             learnt=(with_dropout[-1, 1], "<=", 0.9), seeds=seeds)

# %% [markdown]
# ## 1 · Overfitting, and what the number of parameters has to do with it
#
# The grey area is the gap. Without dropout it opens just while the wrong labels are learnt.
# The simplest case of the same thing: a few noisy points, and polynomials of higher and higher degree through them.

# %% tags=["fold"]
lot = np.random.default_rng(seed)
x_few, x_many = np.linspace(-1, 1, 15), np.linspace(-1, 1, 160)
def curve(x):
    return np.sin(3 * x)
degrees, shown = range(15), {1: "0.5", 3: "C2", 14: "C3"}
noise = 0.25 * lot.normal(size=(50, 15))  # 50 sets of points
off = np.zeros((2, 50, len(degrees)))  # in training and test: root mean squared errors
for number, degree in itertools.product(range(50), degrees):
    fit = np.polynomial.Polynomial.fit(x_few, curve(x_few) + noise[number], degree)
    fresh = curve(x_many) + 0.25 * lot.normal(size=160)
    off[0, number, degree] = np.sqrt(np.mean((fit(x_few) - curve(x_few) - noise[number]) ** 2))
    off[1, number, degree] = np.sqrt(np.mean((fit(x_many) - fresh) ** 2))
middle = np.median(off, axis=1)  # (2, degrees)
best = middle[1].argmin()
claims.check("fig-overfitting-curve",
             "Degree 14 is wrong by {fit:.1e} on its 15 points and by {test:.2f} on new ones; "
             "degree {best} by {ideal:.2f}; the noise alone is 0.25 (medians of 50 sets).",
             fit=(middle[0, 14], "<=", 1e-6), test=(middle[1, 14], ">=", 2 * middle[1].min()),
             best=best, ideal=middle[1].min(), varies=True)

# %% tags=["fold"]
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.7))
axes[0].plot(x_few, curve(x_few) + noise[0], "o", color="0.15", zorder=3)
for degree, colour in shown.items():
    fit = np.polynomial.Polynomial.fit(x_few, curve(x_few) + noise[0], degree)
    axes[0].plot(x_many, fit(x_many), color=colour)
for height, degree in zip((-1.3, -1.65, -2.0), shown, strict=True):
    axes[0].text(0.15, height, f"degree {degree}", color="#00786c" if degree == 3 else
                 "0.4" if degree == 1 else "C3", fontsize=13)
axes[0].set(ylim=(-2.2, 2.2), xlabel="x", ylabel="y", title="15 points, three polynomials")
axes[1].fill_between(degrees, *middle, color="0.9")
for row, (name, colour) in enumerate({"training": TRAIN, "test": TEST}.items()):
    axes[1].plot(degrees, middle[row], "o-", color=colour, markersize=4)
    axes[1].text((1.5, 6)[row], (0.06, 0.4)[row], name, color=("C0", "#00786c")[row],
                 fontsize=13)
axes[1].set(xlabel="degree", ylabel="error", ylim=(0, 1.2), title="error; grey: the gap")
fig.suptitle(f"Degree 14 meets every point; new points are met best by degree {best}")
figures.save(fig, "fig-overfitting-curve",
             caption="Left: one set of 15 points of a sine curve with noise of 0.25. Right: root "
                     "mean squared error, median of 50 such sets.",
             alt="The polynomial of degree 14 passes through all points and swings between them; "
                 "its training error is 0 and its test error the largest of all but the lowest.")

# %% [markdown]
# Degree 14 has 15 coefficients for 15 points. Is that the rule: overfitting comes when there are *as many parameters as data*, and gets worse with more?
# A test with digits: a hidden layer whose weights are random and *stay* random; only the scores behind it are fitted, by least squares, all at once. Its number of parameters (for each class) is the number of random units.
# If more than one matrix fits all labels, the *shortest* is taken: the one with the smallest sum of squares.

# %% tags=["define", "ledger:err-overparam-overfit"]
def random_units(x, count, seed=0):
    """ReLUs with random weights that are not trained: (N, pixels) -> (N, count)."""
    lot = torch.Generator().manual_seed(seed)
    weight = torch.randn(x.shape[1], count, generator=lot)
    return torch.relu(x @ weight) / math.sqrt(x.shape[1] * count)

def fitted(units, target, penalty):
    """The W with the smallest |units W - target|² + penalty |W|²; for penalty 0 the shortest."""
    if penalty == 0:
        return torch.linalg.pinv(units) @ target
    gram = units @ units.T + penalty * torch.eye(len(units))
    return units.T @ torch.linalg.solve(gram, target)

# %%
exercises.predict("08.p1", "200 pictures; the error with 3200 random units, against 200 units:",
                  ("higher, it overfits more", "about the same", "lower by a half or more"))

counts = sorted({images * part // 8 for part in (1, 2, 4, 6, 7, 8, 9, 11, 16, 32, 64, 128)})
penalties = [0.0, 0.1]
wrong_in_test = np.zeros((2, len(counts), runs))
for (row, penalty), (column, count) in itertools.product(enumerate(penalties), enumerate(counts)):
    for run, x in enumerate(task.x):
        target = F.one_hot(task.given[run], classes) - 1 / classes
        weight = fitted(random_units(x, count), target.double(), penalty)
        named = (random_units(x_test, count) @ weight).argmax(1)
        wrong_in_test[row, column, run] = (named != y_test).double().mean()

# %% tags=["fold"]
errors = wrong_in_test.mean(axis=2)
at = counts.index(images)
exercises.reveal("08.p1", "lower by a half or more" if errors[0, -1] < errors[0, at] / 2 else
                 "about the same" if errors[0, -1] < 1.1 * errors[0, at] else
                 "higher, it overfits more",
                 f"It is {errors[0, at]:.0%} with {images} units and {errors[0, -1]:.0%} with "
                 f"{counts[-1]}.")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.8))
for row, (name, colour) in enumerate({"shortest fit": "C1", "with a penalty": "C0"}.items()):
    ax.plot(counts, errors[row], "o-", color=colour, markersize=5)
    ax.fill_between(counts, wrong_in_test[row].min(1), wrong_in_test[row].max(1), color=colour,
                    alpha=0.15, linewidth=0)
ax.text(counts[at] * 1.2, errors[0, at], "shortest fit", color="#a86300", fontsize=13)
ax.text(counts[0], 0.06, "with a penalty on the weights", color="C0", fontsize=13)
ax.axvline(images, color="0.5", linestyle=":", linewidth=1.5)
ax.text(images * 1.04, 0.02, "as many as pictures", fontsize=12)
ax.set(xscale="log", xlabel="random units (parameters for each class)", ylabel="test error",
       ylim=(0, 1))
ax.set_xticks([25, 50, 100, 200, 400, 800, 1600, 3200] if images == 200 else counts[::3],
              minor=False)
ax.xaxis.set_major_formatter("{x:.0f}")
ax.minorticks_off()
ax.set_title("Worst with as many parameters as pictures; with many more it is good again")
figures.save(fig, "emp-params-vs-data-overfit",
             caption=f"Random ReLU units, scores by least squares; {images} noisy {dataset}; mean "
                     f"and range of {runs} runs. Penalty: {penalties[1]:g} times the sum of "
                     "squared weights.",
             alt="The error of the shortest fit rises to a peak at 200 units and falls again; with "
                 "a penalty there is no peak.")

# %% tags=["fold"]
claims.check("emp-params-vs-data-overfit",
             "{images} pictures: the test error is {few:.0%} with {n:d} random units, {peak:.0%} "
             "with {images} and {many:.0%} with {most:d} (guessing: {guess:.0%} wrong).",
             images=images, few=wrong_in_test[0, 1], n=counts[1],
             peak=(wrong_in_test[0, at], ">=", 0.7), many=(wrong_in_test[0, -1], "<=", 0.45),
             most=counts[-1], guess=1 - 1 / classes, seeds=seeds)
claims.check("emp-params-vs-data-overfit.penalty",
             "At {images} units a penalty on the squared weights lowers the error by {less:.0f} "
             "points; at {most:d} by {late:.1f}.", images=images, most=counts[-1],
             less=(100 * (wrong_in_test[0, at] - wrong_in_test[1, at]), ">=", 30),
             late=100 * (wrong_in_test[0, -1] - wrong_in_test[1, -1]), seeds=seeds)

# %% [markdown]
# This is called *double descent*. At 200 units exactly one matrix fits all labels, however long it must be. Beyond, there are many, and the shortest is a tame one. The intervention says that the length matters: a *penalty* on it takes the peak away at the same number of units.
# In training by SGD the same penalty is called *weight decay* (L2, lesson 02): at each step all weights shrink a little. How much is good for our network?

# %%
decays = [0.0, 0.003, 0.01, 0.03, 0.1, 0.3]
decayed = [plain] + [trained(task, decay=decay)[0] for decay in decays[1:]]
in_training = np.array([accuracy(networks, task.x, task.given) for networks in decayed])
in_test = np.array([accuracy(networks, x_test, y_test) for networks in decayed])

# %% tags=["fold", "ledger:err-wd-summary"]
gaps = 100 * (in_training - in_test)  # (decays, runs)
losses = [training_loss(networks, task) for networks in decayed]
claims.check("emp-regularisation-reduces-overfit",
             "A weight decay of 0.03 makes the gap {gap:.1f} points smaller and the test accuracy "
             "{gain:.1f} points higher; one of 0.3 makes the test accuracy {loss:.1f} points lower "
             "than that of 0.03.", gap=(gaps[0] - gaps[3], ">=", 10),
             gain=(100 * (in_test[3] - in_test[0]), ">", 2),
             loss=(100 * (in_test[3] - in_test[5]), ">=", 10), seeds=seeds)
claims.check("emp-weight-decay-reduces-train-error",
             "A weight decay of 0.003 does not lower the training loss here: after {epochs} "
             "epochs it is {none:.4f} without and {small:.4f} with it, {ratio:.1f} times as large.",
             epochs=epochs, none=losses[0], small=losses[1], ratio=(losses[1] / losses[0], ">", 1),
             seeds=seeds)
claims.quoted("emp-weight-decay-reduces-train-error.paper", "A weight decay of 0.0005 was "
              "important for the model to learn: it reduced the training error.",
              "Krizhevsky, Sutskever and Hinton 2012, section 5")

# %% [markdown]
# **We now know** what overfitting looks like: labels learnt by heart, with a gap that opens while the wrong ones are learnt. It is worst where the parameters just suffice to fit everything, and weight decay reduces it, up to a point: too much and the network cannot learn.
# **This does not show** that larger is always better: these fits have no early end and no other remedy.
#
# **Exercise 08.1.** Look at the dots in the first figure: the test accuracy without dropout was best early. *Early stopping* uses that. Pictures that were kept aside give an accuracy after each epoch; stop once `patience` epochs in a row have brought no new best, and keep the weights of the best epoch so far. Which epoch (counted from 0) is that?

# %%
def kept_epoch(accuracies, patience):
    """The epoch whose weights are kept; its accuracy may be beaten after training has stopped."""
    ...

exercises.check("08.1", kept_epoch)

# %% [markdown]
# ## 2 · Dropout: strike out, and scale
#
# In training each hidden unit is struck out with probability $p$, anew for each picture and each step. What is left is a thinner network; all thin networks share their weights.

# %% tags=["fold"]
layers = {0: 3, 1: 4, 2: 4, 3: 2}  # units by layer
kept = {0: 3 * [True], 1: [False, True, False, True], 2: [True, True, False, False],
        3: 2 * [True]}
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 2.9))
for ax, thin in zip(axes, (False, True), strict=True):
    heights = {layer: np.linspace(0, 1, count) if count == 4 else
               np.linspace(0.15, 0.85, count) for layer, count in layers.items()}
    for layer in range(3):
        for (i, y), (j, z) in itertools.product(enumerate(heights[layer]),
                                                enumerate(heights[layer + 1])):
            if not thin or kept[layer][i] and kept[layer + 1][j]:
                ax.plot([layer, layer + 1], [y, z], color="0.65", linewidth=0.8, zorder=1)
    for layer, ys in heights.items():
        for unit, y in enumerate(ys):
            gone = thin and not kept[layer][unit]
            ax.plot(layer, y, "o", markersize=17, markeredgecolor="0.6" if gone else "0.15",
                    color="white" if gone else "C0" if layer in (1, 2) else "0.8", zorder=2)
            if gone:
                ax.plot(layer, y, "x", markersize=13, color="C3", markeredgewidth=2.5, zorder=3)
    for layer, word in ((0, "pixels"), (1, "hidden"), (2, "hidden"), (3, "scores")):
        ax.text(layer, -0.2, word, ha="center", fontsize=12)
    ax.set(title="one step with dropout" if thin else "the whole network", xlim=(-0.4, 3.4),
           ylim=(-0.28, 1.12))
    ax.axis("off")
fig.suptitle("In each step another half of the hidden units is missing, with all its weights")
figures.save(fig, "fig-dropout-networks", caption="Crosses: hidden units struck out in this step.",
             alt="Left a network with two hidden layers of four units; right the same layout with "
                 "some hidden units crossed out and their lines gone.")

# %% [markdown]
# At test time nothing is struck out: the answer should not depend on a lot. But then more units arrive at the next layer than it was trained with (with $p = 1/2$ twice as many), so the numbers must be scaled.
# Take one number, 0.5, and $p = 0.2$. In training it arrives in eight steps of ten; its mean is 0.4.
# - *As first published*: leave training as it is, and multiply by the probability to *stay*, $1 - p$, at test time.
# - *Inverted* (our `Dropout`, torch's `nn.Dropout`): divide by $1 - p$ in training; the test needs nothing.

# %%
half, p = 0.5 * torch.ones(200_000), 0.2
stays = torch.rand(len(half), generator=torch.Generator().manual_seed(seed)) >= p
in_steps = (half * stays).mean().item()  # unscaled, over many steps
with runtime.seeded(seed):
    inverted = Dropout(p)(half).mean().item()
in_steps, 0.5 * (1 - p), 0.5 * p, inverted

# %% tags=["fold", "ledger:err-dropout-test-scale", "ledger:err-dropout-no-scale"]
layer = Dropout(p).eval()
claims.check("err-dropout-test-scale",
             "0.5 with p = 0.2 is {mean:.3f} on average in training; scaled by 1 - p at test time "
             "it is {right:.3f}, by p {wrong:.3f}.", mean=(in_steps, "~", 0.4, 0.004),
             right=0.5 * (1 - p), wrong=0.5 * p)
claims.check("err-dropout-no-scale",
             "Divided by 1 - p in training the mean is {mean:.3f}, and the test leaves 0.5 at "
             "{test:.3f}.", mean=(inverted, "~", 0.5, 0.005), test=layer(half).mean().item())
with runtime.seeded(seed):
    torchs = nn.Dropout(0.3)(torch.ones(400, 500))
with runtime.seeded(seed):
    ours = Dropout(0.3)(torch.ones(400, 500))
claims.check("eq-dropout-train-test",
             "torch's layer gives values {values}, ours {same}; the shares of zeros are "
             "{share:.3f} and {mine:.3f}.", values=str(torchs.unique().numpy().round(4).tolist()),
             same=(str(ours.unique().numpy().round(4).tolist()), "==",
                   str(torchs.unique().numpy().round(4).tolist())),
             share=((torchs == 0).double().mean().item(), "~", 0.3, 0.01),
             mine=((ours == 0).double().mean().item(), "~", 0.3, 0.01))
first, again = (scores_of(forgetful, x_test) for _ in range(2))
forgetful.train()
with torch.no_grad():
    lots = [forgetful(x_test) for _ in range(2)]
forgetful.eval()
claims.check("prac-dropout-only-training",
             "Asked twice in evaluation mode the network's scores differ by {calm:.0e}; left in "
             "training mode by up to {loud:.1f}.",
             calm=((first - again).abs().max().item(), "==", 0.0),
             loud=((lots[0] - lots[1]).abs().max().item(), ">", 1))

# %% [markdown]
# How large should $p$ be? And does dropout help *because* it hinders learning the wrong labels? If so, its gain must go once all labels are right.

# %%
exercises.predict("08.p2", "All 200 labels right: points gained by dropout, against before?",
                  ("as many", "about half", "a quarter or less"))

noisy_scores = {0.0: plain_curves[-1, 2], drop: forgetful_curves[-1, 2]}  # by p: (runs,)
for p in (0.2, 0.8):
    noisy_scores[p] = test_accuracy(trained(task, units=Dropout(p))[0])
clean_plain, clean_curves = trained(clean, watch=scores_in(clean))
_, clean_dropout_curves = trained(clean, units=Dropout(drop), watch=scores_in(clean))
clean_scores = {0.0: clean_curves[-1, 2], drop: clean_dropout_curves[-1, 2]}

# %% tags=["fold"]
gain = {kind: {p: 100 * (scores[p] - scores[0.0]) for p in sorted(scores)}
        for kind, scores in (("noisy", noisy_scores), ("clean", clean_scores))}
share = gain["clean"][drop].mean() / gain["noisy"][drop].mean()
exercises.reveal("08.p2", "as many" if share > 0.75 else "about half" if share > 0.25 else
                 "a quarter or less",
                 f"{gain['noisy'][drop].mean():.1f} points with wrong labels, "
                 f"{gain['clean'][drop].mean():.1f} without.")
claims.check("prac-dropout-half",
             "With wrong labels the gain over no dropout is {low:.1f} points at p = 0.2, "
             "{half:.1f} at {drop:g} and {high:.1f} at 0.8.", low=gain["noisy"][0.2], drop=drop,
             half=(gain["noisy"][drop], ">", 2), high=gain["noisy"][0.8], seeds=seeds)
claims.check("emp-dropout-reduces-overfitting.clean",
             "With all labels right, dropout gains {clean:.1f} points; with wrong labels "
             "{more:.1f} points more than that.", clean=gain["clean"][drop],
             more=(gain["noisy"][drop] - gain["clean"][drop], ">", 2), seeds=seeds)
def best_epoch(scores):
    """From 0: the epoch with the best mean test accuracy, for scores (epochs, runs)."""
    return scores.mean(axis=1).argmax()

stop, late = best_epoch(without[:, 2]), best_epoch(with_dropout[:, 2])
claims.check("emp-dropout-reduces-overfitting.early",
             "The network without dropout has {early:.1%} in the test after its best epoch, the "
             "{stop:d}th, {fall:.1f} points more than at the end. Dropout's best epoch, the "
             "{late:d}th, is {ahead:.1f} points better than that; from there it falls by "
             "{later:.1f} until the end.", early=without[stop, 2],
             later=100 * (with_dropout[late, 2] - with_dropout[-1, 2]),
             stop=stop + 1, fall=(100 * (without[stop, 2] - without[-1, 2]), ">", 2),
             late=late + 1, ahead=(100 * (with_dropout[late, 2] - without[stop, 2]), ">", 0),
             seeds=seeds, on="mean")

# %% [markdown]
# So here dropout gains where there is something that had better not be learnt. And it has a rival that costs nothing: the untreated network, *stopped early* (exercise 08.1). Against that rival dropout gains less; and it too falls again if it is trained on, only later. (Both best epochs are chosen by the test, which one may not do in earnest.)
#
# The price is time. How many epochs until the clean training pictures are learnt?

# %% tags=["fold", "ledger:err-dropout-sparsity-claims"]
def learnt_after(curves):
    """The first epoch, from 1, after which 98 % of the training labels are right: (runs,)."""
    return (curves[:, 0] >= 0.98).argmax(axis=0) + 1

plain_epochs, dropout_epochs = learnt_after(clean_curves), learnt_after(clean_dropout_curves)
claims.check("emp-dropout-longer-training",
             "98 % of {images} clean training labels are right after {none:.1f} epochs without "
             "dropout and {drop:.1f} with it, {ratio:.2f} times as many.", images=images,
             none=plain_epochs, drop=dropout_epochs,
             ratio=(dropout_epochs / plain_epochs, ">", 1.1), seeds=seeds)

# %% [markdown]
# **We now know** the layer, its scaling and its price: more epochs. With wrong labels it gains, with right ones hardly.
# **This does not show** that dropout is useless on clean data: with more classes, larger pictures and far larger networks the untreated network overfits without any wrong label; AlexNet's authors report it.
#
# **Exercise 08.2.** In a convolutional network neighbouring places of a map tell nearly the same, so striking out single numbers hides little. *Strike out whole maps.* `lots` has a number between 0 and 1 for each picture and map; a map goes if its number is below `p`.

# %%
def drop_maps(x, p, lots):
    """x (N, C, H, W), lots (N, C) -> (N, C, H, W), scaled so that the mean is kept."""
    ...

exercises.check("08.2", drop_maps)

# %% [markdown]
# ## 3 · Inside: redundancy, and an average of networks
#
# Two reasons are given for dropout. First: no unit can rely on a certain other one, so the network becomes *redundant*. Test: take trained networks and remove hidden units for good (the rest is scaled up as above).

# %% tags=["define"]
class Removed(nn.Module):
    """A part of the units of each network set to 0 for good, the others scaled up."""

    def __init__(self, share, lot):
        super().__init__()
        self.share, self.lot = share, lot

    def forward(self, x):  # (runs, N, units)
        runs, _, units = x.shape
        order = torch.rand(runs, 1, units, generator=self.lot).argsort(dim=2)
        gone = order < round(self.share * units)  # as many in each network
        return x * ~gone / (1 - self.share)

# %%
exercises.predict("08.p3", "Half of all hidden units removed. The network without dropout:",
                  ("loses fewer points than the other", "loses as many", "loses more"))

shares = [0, 0.25, 0.5, 0.75, 0.9]
removed = {name: np.array([without_units(networks, share, x_test, y_test, seed)
                           for share in shares])  # (shares, runs)
           for name, networks in (("without dropout", plain), ("with dropout", forgetful))}

# %% tags=["fold"]
lost = {name: 100 * (values[0] - values[2]) for name, values in removed.items()}
more = (lost["without dropout"] - lost["with dropout"]).mean()
exercises.reveal("08.p3", "loses more" if more > 3 else "loses as many" if more > -3 else
                 "loses fewer points than the other",
                 f"{lost['without dropout'].mean():.0f} points, with dropout "
                 f"{lost['with dropout'].mean():.0f}.")
claims.check("emp-dropout-redundancy",
             "With half of the hidden units removed the network without dropout has {none:.1%} in "
             "the test and loses {lost:.0f} points; the one with dropout has {drop:.1%} and loses "
             "{fewer:.0f}, which is {less:.0f} points less.", none=removed["without dropout"][2],
             drop=removed["with dropout"][2], lost=lost["without dropout"],
             fewer=lost["with dropout"],
             less=(lost["without dropout"] - lost["with dropout"], ">=", 8), seeds=seeds)
zeros, prefers = {}, {}
for name, networks in (("without", plain), ("with", forgetful)):
    zeros[name], prefers[name] = activity(networks, x_test, y_test)
claims.check("emp-dropout-specialisation",
             "Without dropout {plain:.1%} of the hidden outputs are 0, with it {drop:.1%}, "
             "{more:.1f} points more; the preference of units for a class is {choosy:.2f} and "
             "{drops:.2f}.", plain=zeros["without"], drop=zeros["with"],
             more=(100 * (zeros["with"] - zeros["without"]), ">=", 10), choosy=prefers["without"],
             drops=prefers["with"], seeds=seeds)

# %% [markdown]
# The second reason: each step trains another thin network, and the whole network at test time is like an *average* of them all. For a single matrix of scores with a softmax this is exact: the *geometric* mean of all $2^n$ masked answers, divided by its sum, equals the one scaled answer. With ReLUs in between nothing guarantees it. How close is it?
# As yardstick we average the probabilities of more and more thin networks. (Below: one test digit. Dots are thin networks, bars their average. In a live lab choose the digit and how many.)

# %% tags=["define"]
@torch.no_grad()
def thin_answers(networks, x, count, seed=0):
    """Probabilities of `count` thin networks, (count, runs, N, classes)."""
    with runtime.seeded(seed):
        answers = torch.stack([networks.train()(x).softmax(-1) for _ in range(count)])
    networks.eval()
    return answers

def divergence(p, q):
    """Kullback and Leibler's distance of q from p: 0 if equal. Mean over pictures: (runs,)."""
    p, q = p.clamp(min=1e-300), q.clamp(min=1e-300)
    return (p * (p / q).log()).sum(-1).mean(-1).numpy()

# %%
few = slice(0, 200)  # pictures
thin = thin_answers(forgetful, x_test[few], 128, seed)
average = thin.mean(0)  # (runs, 200, classes)
scaled = scores_of(forgetful, x_test[few]).softmax(-1)
sizes = [1, 4, 128]
of_average = [(thin[:size].mean(0).argmax(-1) == y_test[few]).double().mean(-1) for size in sizes]
of_scaled = (scaled.argmax(-1) == y_test[few]).double().mean(-1)

# %% tags=["fold"]
to_scaled = divergence(average, scaled)
geometric = thin.clamp(min=1e-300).log().mean(0).softmax(-1)
to_single = np.mean([divergence(average, one) for one in thin[:16]], axis=0)
claims.check("emp-dropout-ensemble",
             "The average of 128 thin networks lies at a divergence of {scaled:.3f} from the "
             "scaled network and of {single:.3f} from a single thin one, a share of {share:.2f}. "
             "Their geometric mean lies at {geometric:.3f} from the scaled network.",
             scaled=to_scaled, single=to_single, share=(to_scaled / to_single, "<", 0.5),
             geometric=(divergence(geometric, scaled), "<", 0.05), seeds=seeds)
values = torch.stack(of_average).numpy()  # (sizes, runs)
claims.check("emp-dropout-ensemble.accuracy",
             "On 200 test pictures one thin network is right for {one:.1%}, the average of 4 for "
             "{four:.1%}, that of 128 for {many:.1%}, the whole network for {whole:.1%}, "
             "{apart:.1f} points apart.", one=values[0], four=values[1],
             many=values[-1], whole=of_scaled.numpy(),
             apart=(100 * abs(values[-1] - of_scaled.numpy()), "<=", 3), seeds=seeds, on="mean")

# %% tags=["fold"]
by_geometric, by_arithmetic = exact_average(seed)
claims.check("emp-dropout-ensemble.linear",
             "One softmax layer with 8 inputs: the scaled answer differs by {geometric:.0e} from "
             "the geometric mean over all 256 masks, by {arithmetic:.2f} from the arithmetic one.",
             geometric=(by_geometric, "<=", 1e-10), arithmetic=by_arithmetic, varies=True)

def opinions(picture, thin_networks):
    answers = thin_answers(forgetful, x_test[[picture]], thin_networks, seed)[:, 0, 0]
    figure, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.0), width_ratios=[1, 2.6])
    plots.picture(axes[0], test.images[picture])
    axes[0].set_title(f"{test.classes[y_test[picture]]}")
    axes[1].bar(range(classes), answers.mean(0), color="C0", alpha=0.5)
    for answer in answers:
        axes[1].plot(range(classes), answer, "o", color="0.15", markersize=3)
    axes[1].set_xticks(range(classes), [str(name)[:6] for name in test.classes])
    axes[1].set(ylim=(0, 1.02), ylabel="probability",
                title=f"{thin_networks} thin networks and their average")
    named = test.classes[answers.mean(0).argmax()]
    return figure, f"The average of {thin_networks} thin networks names it {named}."

widgets.explore(opinions, picture=widgets.Slider(7, 0, 199, 1, "picture"),
                thin_networks=widgets.Slider(12, 1, 100, 1, "thin networks"))

# %% [markdown]
# **We now know** that both descriptions are true of our network: it stands the loss of units, and one pass comes close to an average of many thin networks.
# **This does not show** that either is *why* the test is better. Redundancy goes along with it. And the average can be tested: section 5 averages networks that were trained *without* dropout. If averaging as such were the reason, that should gain as much.
#
# **Exercise 08.3.** Dropout is noise, and its size can be computed. A score is $\sum_i w_i x_i$; with inverted dropout each $x_i$ is struck out on its own with probability $p$. What is the standard deviation of the score?

# %%
def score_deviation(x, w, p):
    """x (n,), w (n,), p: one number."""
    ...

exercises.check("08.3", score_deviation)

# %% [markdown]
# ## 4 · Noise elsewhere: weights, layers, regions, pictures
#
# Units are not the only thing that can be forgotten.
# - *DropConnect* strikes out single *weights* (here those behind hidden units, one lot a step).
# - *Stochastic depth* leaves out whole *layers*. It needs layers that only add something: $h + \mathrm{ReLU}(hW)$, as in lesson 14.
# - *Fractional max-pooling* draws the *regions*: 8 rows become 5, as three pairs and two single rows in random order.
# - *Noise* on the pixels is the oldest.
#
# Each needs an untreated network of its own kind. Fractional pooling has a convolution, so its untreated network has the same regions at each step.

# %% tags=["define", "ledger:eq-fractional-max-pool"]
def drawn_regions(size, parts, lot=None):
    """First and last row of each region: `size` rows in `parts` regions of 1 or 2, no overlap."""
    lengths = torch.ones(parts, dtype=torch.long)
    lengths[torch.randperm(parts, generator=lot)[: size - parts]] = 2
    last = lengths.cumsum(0) - 1
    return last - lengths + 1, last

def fractional_max_pool(x, parts, lot=None):
    """x (..., H, W, C) -> (..., parts, parts, C): maxima over regions of 1 or 2 rows, columns."""
    for axis in (-3, -2):
        first, last = drawn_regions(x.shape[axis], parts, lot)
        x = torch.maximum(x.index_select(axis, first), x.index_select(axis, last))
    return x

# %% tags=["define", "fold", "ledger:eq-dropconnect"]
class DropConnect(nn.Module):
    """Inverted dropout for a weight matrix of (runs, inputs, outputs): behind hidden units only."""

    def __init__(self, p, pixels):
        super().__init__()
        self.forget, self.pixels = Dropout(p), pixels

    def forward(self, weight):
        return weight if weight.shape[1] == self.pixels else self.forget(weight)

class ResidualNetworks(nn.Module):
    """For each run: a hidden layer, `blocks` residual layers h + relu(hW), and scores. In training
    each block is left out with probability p, by one lot a step and run; later scaled by 1 - p."""

    def __init__(self, runs, pixels=64, width=100, classes=10, blocks=3, p=0.0):
        super().__init__()
        sizes = [(pixels, width)] + blocks * [(width, width)] + [(width, classes)]
        self.weights = nn.ParameterList(
            torch.randn(runs, n, m) * math.sqrt((0.5 if n == m else 2) / n) for n, m in sizes)
        self.biases = nn.ParameterList(torch.zeros(runs, 1, m) for _, m in sizes)
        self.p = p

    def forward(self, x):
        x = torch.relu(x @ self.weights[0] + self.biases[0])
        for weight, bias in zip(self.weights[1:-1], self.biases[1:-1], strict=True):
            stays = 1 - self.p
            if self.training:
                stays = (torch.rand(len(weight), 1, 1) >= self.p).to(x)
            x = x + stays * torch.relu(x @ weight + bias)
        return x @ self.weights[-1] + self.biases[-1]

class PoolingNetworks(nn.Module):
    """For each run: one 3x3 convolution of `maps` maps, max-pooling in random regions, scores.

    Regions are drawn at each pass, in evaluation too; with `frozen` they always are the same."""

    def __init__(self, runs, side=8, classes=10, maps=8, frozen=None):
        super().__init__()
        self.side, self.parts, self.frozen = side, round(side / 1.6), frozen
        n = self.parts**2 * maps
        self.weight = nn.Parameter(torch.randn(runs, 9, maps) * math.sqrt(2 / 9))
        self.bias = nn.Parameter(torch.zeros(runs, 1, maps))
        self.scores = nn.Parameter(torch.randn(runs, n, classes) * math.sqrt(1 / n))
        self.offset = nn.Parameter(torch.zeros(runs, 1, classes))

    def forward(self, x):  # (runs, N, pixels) or (N, pixels)
        count, side = x.shape[-2], self.side
        patches = F.unfold(x.reshape(-1, 1, side, side), 3, padding=1).transpose(1, 2)
        patches = patches.reshape(*x.shape[:-2], count * side**2, 9)
        maps = torch.relu(patches @ self.weight + self.bias)
        maps = maps.view(len(self.weight), count, side, side, -1)
        lot = None if self.frozen is None else torch.Generator().manual_seed(self.frozen)
        pooled = fractional_max_pool(maps, self.parts, lot)
        return pooled.flatten(2) @ self.scores + self.offset

class Averaged(nn.Module):
    """The mean probability of several passes, as logits."""

    def __init__(self, networks, passes=12):
        super().__init__()
        self.networks, self.passes = networks, passes

    def forward(self, x):
        return torch.stack([self.networks(x).softmax(-1) for _ in range(self.passes)]).mean(0).log()

def pixel_noise(x):
    """Noise as large as the pixels' own deviation, which is 1."""
    return x + torch.randn_like(x)

def scores_by_lot(seed, draws=20_000):
    """One score of 300 inputs: as it is, its deviation by the formula for p = 0.5, and many draws
    with dropout and with DropConnect."""
    lot = torch.Generator().manual_seed(seed)
    x, w = torch.randn(300, generator=lot), torch.randn(300, generator=lot) / 300**0.5
    with runtime.seeded(seed):
        by_units = Dropout(0.5)(x.expand(draws, -1)) @ w
        by_weights = Dropout(0.5)(w.expand(draws, -1)) @ x
    return (x @ w).item(), (x.square() @ w.square()).sqrt().item(), by_units, by_weights

# %%
exercises.predict("08.p4", "Which forgetting gains most over its own untreated network?",
                  ("units: dropout", "weights: DropConnect", "layers: stochastic depth",
                   "regions: fractional pooling", "pixels: noise"))

noisy = {"units: dropout": forgetful,
         "weights: DropConnect": trained(task, weights=DropConnect(drop, pixels))[0],
         "pixels: noise": trained(task, augment=pixel_noise)[0]}
size = (runs, pixels, 100, classes)
residual, residual_curve = trained(task, make=lambda: ResidualNetworks(*size),
                                   watch=test_accuracy)
noisy["layers: stochastic depth"], _ = trained(task, make=lambda: ResidualNetworks(*size, p=drop))
frozen, frozen_curve = trained(task, make=lambda: PoolingNetworks(runs, side, classes, frozen=seed),
                               watch=test_accuracy)
drawn, _ = trained(task, make=lambda: PoolingNetworks(runs, side, classes))
noisy["regions: fractional pooling"] = Averaged(drawn)  # the mean of 12 passes

# %% tags=["fold"]
def both(networks):
    """Accuracy in training (given labels) and in the test: (2, runs)."""
    with runtime.seeded(seed):
        return np.stack([accuracy(networks, task.x, task.given), test_accuracy(networks)])

untreated, best_untreated = {}, {}
for name in noisy:
    untreated[name], curve_of = ((residual, residual_curve) if "depth" in name else
                                 (frozen, frozen_curve) if "pooling" in name else
                                 (plain, without[:, 2]))
    best_untreated[name] = curve_of[best_epoch(curve_of)]  # (runs,)
with_noise = {name: both(networks) for name, networks in noisy.items()}
alone = {name: both(networks) for name, networks in untreated.items()}
gains = {name: 100 * (with_noise[name][1] - alone[name][1]) for name in noisy}
closes = {name: 100 * np.subtract(*alone[name]) - 100 * np.subtract(*with_noise[name])
          for name in noisy}
winner = max(gains, key=lambda name: gains[name].mean())
exercises.reveal("08.p4", winner, f"{gains[winner].mean():.0f} points; dropout "
                                  f"{gains['units: dropout'].mean():.0f}.")

# %% tags=["fold"]
order = sorted(noisy, key=lambda name: gains[name].mean())
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.4))
for place, name in enumerate(order):
    before, after = alone[name][1], with_noise[name][1]
    ax.barh(place + 0.2, before.mean(), 0.36, color="C1")
    ax.barh(place - 0.2, after.mean(), 0.36, color="C0")
    ax.plot(before, len(before) * [place + 0.2], "o", color="0.1", markersize=3)
    ax.plot(after, len(after) * [place - 0.2], "o", color="0.1", markersize=3)
    ax.plot(2 * [best_untreated[name].mean()], [place - 0.4, place + 0.4], color="C3",
            linewidth=3)
    ax.text(0.02, place - 0.2, f"{gains[name].mean():+.0f} points", color="white", fontsize=12,
            va="center")
ax.text(0.02, len(order) - 0.8, "untreated, at the end", color="0.1", fontsize=12, va="center")
ax.text(best_untreated[order[-1]].mean() + 0.01, len(order) - 0.42, "best epoch untreated",
        color="C3", fontsize=12, va="bottom", ha="right")
ax.set_yticks(range(len(order)), order, fontsize=12)
ax.set(xlabel="test accuracy", xlim=(0, 1), ylim=(-0.6, len(order) - 0.05))
beaten = sum(with_noise[name][1].mean() > best_untreated[name].mean() for name in noisy)
fig.suptitle(f"{winner.partition(': ')[2].capitalize()} gains most; {beaten} of {len(noisy)} beat "
             "an early stop (red)")
figures.save(fig, "emp-dropconnect-similar",
             caption=f"Each kind of noise (blue) beside its own untreated network (orange); "
                     f"{images} noisy {dataset}, {epochs} epochs, p = {drop:g}; bars: mean of "
                     f"{runs} runs, dots: runs. Red: the untreated network's best epoch in the "
                     "test. Fractional pooling: average of 12 passes.",
             alt="Five pairs of bars; in each the noisy network is better at the end, most with "
                 "fractional pooling; few pass the red line of the untreated network's best epoch.")

# %% tags=["fold"]
claims.check("emp-dropconnect-similar",
             "DropConnect makes the gap {gap:.1f} points smaller and gains {gain:.1f} points in "
             "the test; dropout {as_dropout:.1f} and {drop:.1f}.",
             gap=(closes["weights: DropConnect"], ">", 2), gain=gains["weights: DropConnect"],
             as_dropout=(closes["units: dropout"], ">", 2), drop=gains["units: dropout"],
             seeds=seeds)
once = 100 * (both(drawn)[1] - alone["regions: fractional pooling"][1])
claims.check("emp-fractional-pooling-regularises",
             "Regions drawn at each pass make the gap {gap:.1f} points smaller than the same "
             "regions always, and gain {gain:.1f} points in the test as an average of 12 passes; "
             "with one pass {one:.1f}.", gap=(closes["regions: fractional pooling"], ">", 10),
             gain=(gains["regions: fractional pooling"], ">", 5), one=once, seeds=seeds)
dropout_gain = gains["units: dropout"]
ahead = {name: 100 * (with_noise[name][1] - best_untreated[name]) for name in noisy}
claims.check("emp-regularisation-reduces-overfit.early",
             "Against the best epoch of the untreated network fractional pooling is {pool:+.1f} "
             "points, noise on the pixels {noise:+.1f}, dropout {drop:+.1f}, DropConnect "
             "{connect:+.1f} and stochastic depth {depth:+.1f}.",
             pool=ahead["regions: fractional pooling"], noise=ahead["pixels: noise"],
             drop=(ahead["units: dropout"], "in", (-6, 6)), connect=ahead["weights: DropConnect"],
             depth=(ahead["layers: stochastic depth"], "<", 0), seeds=seeds, on="mean")
claims.check("emp-regularisation-reduces-overfit.noise",
             "Noise on the pixels gains {noise:.1f} points, stochastic depth {depth:.1f}.",
             noise=(gains["pixels: noise"], ">", 2), depth=gains["layers: stochastic depth"],
             seeds=seeds)

# %% tags=["fold"]
grid = 3 * torch.randn(2, 25, 25, 4, generator=torch.Generator().manual_seed(seed))
pools = [fractional_max_pool(grid, 17, torch.Generator().manual_seed(lot)) for lot in (0, 0, 1)]
torchs = nn.FractionalMaxPool2d(2, output_ratio=1 / 1.4)(grid.permute(0, 3, 1, 2))
claims.check("eq-fractional-max-pool",
             "25 x 25 pooled by 1.4 is {ours} on a side, as in torch; the same lot gives the same "
             "({same:.0e} apart), another lot does not ({other:.1f}).",
             ours=(pools[0].shape[1], "==", torchs.shape[-1]),
             same=((pools[0] - pools[1]).abs().max().item(), "==", 0.0),
             other=((pools[0] - pools[2]).abs().max().item(), ">", 0))
score, law, by_units, by_weights = scores_by_lot(seed)
claims.check("eq-dropconnect",
             "The mean of a score is {score:.3f} without, {units:.3f} with dropout and "
             "{weights:.3f} with DropConnect; its deviation {a:.3f} and {b:.3f}, by the formula "
             "{law:.3f}.", score=score, law=law, units=(by_units.mean().item(), "~", score, 0.03),
             weights=(by_weights.mean().item(), "~", score, 0.03),
             a=(by_units.std().item(), "~", law, 0.03), b=(by_weights.std().item(), "~", law, 0.03))

# %% [markdown]
# For *one* score dropout and DropConnect are the same noise. They differ in what is forgotten together: a unit goes for all scores at once, a weight for one.
#
# The strongest in this table changes the picture: random regions squeeze and stretch it. That is done on purpose, before the network, by *data augmentation*: each time a picture is used it is changed a little, in a way that keeps its label.

# %% tags=["define", "ledger:eq-augmentations"]
def pca_lighting(photo, a):
    """AlexNet's: along the principal directions of the colours, a_i times their variance.

    photo (3, H, W) from 0 to 1; a (3,): drawn from N(0, 0.1) once for each use of a picture."""
    colours = photo.flatten(1)  # (3, pixels); for a data set: those of all its pictures
    values, vectors = torch.linalg.eigh(torch.cov(colours))
    return photo + (vectors @ (a * values)).view(3, 1, 1)

# %% tags=["fold", "ledger:prac-augmentation-kinds"]
photo = data.photos()["chelsea"]
photo = change.resize(photo, [40], antialias=True)[:, :, 3:56].double() / 255
kinds = changes(photo, seed)
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.9))
pictures = F.pad(torch.stack(list(kinds.values())).clamp(0, 1), (2, 2, 2, 14), value=1.0)
sheet = torch.cat([torch.cat(list(row), 2) for row in pictures.split(7)], 1)  # two rows of seven
ax.imshow(change.to_pil_image(sheet).quantize(40).convert("RGB"))  # few colours: a small file
for place, name in enumerate(kinds):
    ax.text(57 * (place % 7) + 28, 56 * (place // 7) + 48, name, ha="center", fontsize=11.5)
ax.axis("off")
fig.suptitle("Thirteen changes after which it still is a cat")
figures.save(fig, "fig-augmentation-grid",
             caption="torchvision's transforms v2, and PCA lighting by hand with a forty times as "
                     "large a draw as AlexNet's, so that it shows. Photograph: skimage.data.",
             alt="A photograph of a cat and thirteen changed versions: moved, turned, bent, in "
                 "other light and colours, noisy, partly covered.")
values, vectors = torch.linalg.eigh(torch.cov(photo.flatten(1)))
lit = pca_lighting(photo, torch.tensor([0.0, 0.0, 1.0])) - photo
claims.check("eq-augmentations",
             "The photograph and its {count} changes are 3 x 40 x 53; PCA lighting by (0, 0, 1) "
             "adds one colour to all pixels (spread {spread:.0e}), as long as the largest "
             "variance, {length:.4f}.", spread=(lit.flatten(1).std(1).max().item(), "<=", 1e-12),
             count=(sum(x.shape == photo.shape for x in kinds.values()) - 1, "==", 13),
             length=(lit[:, 0, 0].norm().item(), "~", values[-1].item(), 1e-9), varies=True)

# %% [markdown]
# For digits: shifts by up to one pixel. The test is asked twice, with its own pictures and with shifted ones. And one more change, turning by 180 degrees at random. All labels are right now.

# %%
exercises.predict("08.p5", "Training pictures turned at random. A test 6 turned upside down is:",
                  ("mostly named 9", "mostly named 6", "named anything"))

shift, turn = lambda x: shifted(x, side), lambda x: turned(x, side)
kinds = {"shifted": shift, "turned": turn}
augmented = {name: trained(clean, augment=augment)[0] for name, augment in kinds.items()}
augmented["unchanged"] = clean_plain
with runtime.seeded(seed):
    x_shifted = shifted(x_test, side)
x_turned = x_test.flip(-1)

# %% tags=["fold"]
upside = {name: [share_named(networks, x_turned[y_test == 6], named) for named in (6, 9)]
          for name, networks in augmented.items()}
six = np.mean(upside["turned"], axis=1)
exercises.reveal("08.p5", "mostly named 6" if six[0] > 0.5 else "mostly named 9" if six[1] > 0.5
                 else "named anything", f"{six[0]:.0%} are named 6 and {six[1]:.0%} named 9.")
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.7), width_ratios=[1.15, 1])
for place, (name, x) in enumerate({"test": x_test, "shifted test": x_shifted}.items()):
    for step, (kind, colour) in enumerate({"unchanged": "C1", "shifted": "C0"}.items()):
        values = accuracy(augmented[kind], x, y_test)
        spot = place + 0.36 * (step - 0.5)
        axes[0].bar(spot, values.mean(), 0.34, color=colour)
        axes[0].plot(len(values) * [spot], values, "o", color="0.1", markersize=3)
axes[0].set_xticks([0, 1], ["test", "shifted test"], fontsize=12)
axes[0].set(ylabel="accuracy", ylim=(0, 1.04), title="blue: trained with shifts")
for step, (kind, colour) in enumerate({"unchanged": "C1", "turned": "C3"}.items()):
    for place, values in enumerate(upside[kind]):
        spot = place + 0.36 * (step - 0.5)
        axes[1].bar(spot, values.mean(), 0.34, color=colour)
        axes[1].plot(len(values) * [spot], values, "o", color="0.1", markersize=3)
axes[1].set_xticks([0, 1], ["named 6", "named 9"], fontsize=12)
axes[1].set(ylabel="share of upside-down sixes", ylim=(0, 1.04),
            title="red: trained with turns")
fig.suptitle("Shifts help on shifted digits; turns teach that an upside-down 6 is a 6")
figures.save(fig, "emp-augmentation-label-preserving",
             caption=f"{images} {dataset} with right labels, {epochs} epochs; orange: trained "
                     f"with the pictures as they are; bars: mean of {runs} runs, dots: runs.",
             alt="Left: on the test both are alike, on the shifted test the network trained with "
                 "shifts is far better. Right: trained with turns, upside-down sixes are named 6.")

# %% tags=["fold", "ledger:err-flip-keeps-label"]
original, moved = ({name: accuracy(networks, x, y_test)
                    for name, networks in augmented.items()} for x in (x_test, x_shifted))
claims.check("emp-augmentation-reduces-overfit",
             "Trained with shifts the network gains {moved:.1f} points on shifted test pictures "
             "and {original:.1f} on the test as it is.",
             moved=(100 * (moved["shifted"] - moved["unchanged"]), ">=", 20),
             original=100 * (original["shifted"] - original["unchanged"]), seeds=seeds)
pair = (y_test == 6) | (y_test == 9)
loses = [100 * (accuracy(augmented["unchanged"], x_test[mask], y_test[mask])
                - accuracy(augmented["turned"], x_test[mask], y_test[mask]))
         for mask in (pair, ~pair)]
claims.check("emp-augmentation-label-preserving",
             "Turned at random in training, upright sixes and nines lose {pair:.1f} points, the "
             "other digits {others:.1f}.", pair=(loses[0], ">", 0), others=loses[1], seeds=seeds,
             on="mean")
claims.check("emp-augmentation-label-preserving.nine",
             "An upside-down 6 is named 9 by {plain:.0%} without turns in training, by "
             "{turned:.0%} with them; those name it 6 in {six:.0%}.", plain=upside["unchanged"][1],
             turned=(upside["turned"][1], "<=", 0.3), six=(upside["turned"][0], ">=", 0.5),
             seeds=seeds)

# %% [markdown]
# **We now know** that forgetting works in many places. At the end of training all five kinds are ahead; against an untreated network that was stopped in time little is left, for some nothing. A change of the picture must keep its *label*, and that depends on the task: a cat upside down is a cat, a 6 is a 9.
# **This does not show** a ranking: the strength of each kind was not tuned, nor its learning rate and number of epochs.
#
# **Exercise 08.4.** Turning digits need not be wrong, if the labels turn with them: 0, 1 and 8 stay themselves, 6 and 9 change places. The others become no digits (2 and 5 only on a pocket calculator). Turn the pictures, with new labels, and leave out what has none.

# %%
def turned_digits(pictures, labels):
    """pictures (N, H, W), labels (N,) -> (turned pictures, their labels), in the old order."""
    ...

exercises.check("08.4", turned_digits)

# %% [markdown]
# ## 5 · Averaging on purpose
#
# Back to the question of section 3. Train four networks on the same pictures, wrong labels and all, each from random weights of its own; average their *probabilities*. If averaging as such is what helps in dropout, this should help as much.

# %%
exercises.predict("08.p6", "An average of four networks without dropout gains, against dropout:",
                  ("less than half as much", "about as much", "more"))

members = 4
shared = Task(*(part.repeat_interleave(members, 0)  # four networks for the same pictures
                for part in (task.x, task.given, task.true)))

def in_groups(networks):
    """Probabilities in the test, (runs, members, N, classes)."""
    return scores_of(networks, x_test).softmax(-1).unflatten(0, (runs, members))

independent = in_groups(trained(shared)[0])

# %% [markdown]
# Why should an average be better than its members? For the squared error there is an exact answer (A. Krogh and J. Vedelsby 1995):
#
# $$\text{error of the average} = \text{mean error of the members} - \text{mean squared distance of the members from their average}$$
#
# So the gain *is* the disagreement. Four networks that all begin with the *same* weights, and only meet the pictures in different orders, should disagree less and gain less.

# %%
with runtime.seeded(seed):
    alike = Networks(runs * members, (pixels, width, width, classes))
    for weight in alike.weights:
        weight.data = weight.data[::members].repeat_interleave(members, 0)  # one start a run
    train(alike, shared, epochs, rate, seed=seed)
same_start = in_groups(alike)
gain_own, apart_own = gained(independent, y_test)  # points, disagreement: (runs,)
gain_same, apart_same = gained(same_start, y_test)

# %% tags=["define", "ledger:eq-ensemble-average", "ledger:prac-ensembling-snapshots"]
def averaged(probabilities, labels):
    """(members, N, classes) -> accuracies and losses: mean of the members, and of their average."""
    whole = probabilities.mean(0)
    right = (probabilities.argmax(-1) == labels).double().mean(-1)  # (members,)
    rows = torch.arange(len(labels))
    losses = -probabilities[:, rows, labels].log().mean(-1)
    return {"accuracy": (right.mean().item(), (whole.argmax(-1) == labels).double().mean().item()),
            "loss": (losses.mean().item(), -whole[rows, labels].log().mean().item())}

# %% tags=["fold"]
exercises.reveal("08.p6", "less than half as much" if gain_own.mean() < dropout_gain.mean() / 2
                 else "about as much" if gain_own.mean() < 1.5 * dropout_gain.mean() else "more",
                 f"{gain_own.mean():.1f} points; dropout {dropout_gain.mean():.1f}.")
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.7), width_ratios=[1.2, 1])
bars = {"one start,\n4 orders": gain_same, "4 starts": gain_own, "dropout,\none network":
        dropout_gain}
for place, (name, values) in enumerate(bars.items()):
    axes[0].bar(place, values.mean(), 0.6, color="C0" if "drop" in name else "C2")
    axes[0].plot(len(values) * [place], values, "o", color="0.1", markersize=4)
axes[0].set_xticks(range(3), list(bars), fontsize=12)
axes[0].set(ylabel="points gained in the test")
for answers, true, colour, name in ((same_start, y_test, "0.5", "one start"),
                                    (independent, y_test, "C2", "4 starts"),
                                    (thin.transpose(0, 1), y_test[few], "C0", "thin networks")):
    terms = np.array([split(group, true) for group in answers])  # (runs, 3)
    axes[1].plot(terms[:, 2], terms[:, 0] - terms[:, 1], "o", color=colour, markersize=8)
    spot = terms[:, 2].mean()
    axes[1].text(spot + (0.012 if spot < 0.1 else -0.012), spot - 0.005, name, fontsize=12,
                 color="0.2", ha="left" if spot < 0.1 else "right")
apart_thin = terms[:, 2]
axes[1].plot([0, terms[:, 2].max()], [0, terms[:, 2].max()], color="0.6", linewidth=1, zorder=0)
axes[1].set(xlabel="disagreement", ylabel="squared error saved", title="saved = disagreement")
fig.suptitle("Four networks gain less than dropout; its thin networks disagree more")
figures.save(fig, "emp-ensemble-2-percent",
             caption=f"Averages of 4 networks on the same {images} noisy {dataset}; dots: {runs} "
                     f"runs, {epochs} epochs. Right: mean squared error of members minus "
                     "that of their average, against their mean squared distance from it; thin "
                     "networks: 128 of dropout, 200 pictures.",
             alt="Left: one start gains about nothing, four starts a few points, dropout more than "
                 "twice that. Right: all points lie on the diagonal; thin networks disagree most.")

# %% tags=["fold"]
claims.check("emp-ensemble-2-percent",
             "With wrong labels an average of 4 networks gains {gain:.1f} points over its members, "
             "those of one start {same:.1f}; they disagree by {apart:.3f} and {close:.3f}.",
             gain=(gain_own, ">", 0.5), same=(gain_same, "<", 1.5), apart=apart_own,
             close=apart_same, seeds=seeds)
claims.check("emp-ensemble-2-percent.dropout",
             "Dropout gains {drop:.1f} points, {more:.1f} more than the average of 4 networks for "
             "the same pictures. Its thin networks disagree by {thin:.2f}, {times:.1f} times as "
             "much.", drop=dropout_gain, more=(dropout_gain - gain_own, ">", 0), thin=apart_thin,
             times=(apart_thin / apart_own, ">", 1.5), seeds=seeds)
pairs = [averaged(group, y_test)["loss"] for group in independent]
off = max(abs(one - whole - apart) for one, whole, apart in
          (split(group, y_test) for group in [*independent, *same_start]))
claims.check("eq-ensemble-average",
             "The loss of the average is {whole:.2f}, the mean loss of the members {one:.2f}, "
             "{less:.2f} more. Squared errors: saved and disagreement differ by {off:.0e}.",
             one=[pair[0] for pair in pairs], whole=[pair[1] for pair in pairs],
             less=([pair[0] - pair[1] for pair in pairs], ">=", 0.1),
             off=runs * [off], seeds=seeds, varies=True)

# %% [markdown]
# Four networks cost four trainings. *Snapshots* come from one: let the learning rate fall to nearly 0 and jump up again, five times, and keep the network at the end of each fall.

# %%
cycle, snapshots = max(epochs // 4, 1), []

def sawtooth(epoch):
    """A half cosine from 0.2 down to nearly 0, anew in each cycle."""
    return 0.1 * (1 + math.cos(math.pi * (epoch % cycle + 0.5) / cycle))

def keep(networks):
    snapshots.append(scores_of(networks, x_test).softmax(-1))

trained(task, epochs=5 * cycle, rate=sawtooth, watch=keep)
snapshots = torch.stack(snapshots[cycle - 1::cycle])  # the ends: (5, runs, N, classes)

# %% tags=["fold"]
each = 100 * (snapshots.argmax(-1) == y_test).double().mean(-1).numpy()  # (5, runs)
together = 100 * (snapshots.mean(0).argmax(-1) == y_test).double().mean(-1).numpy()
claims.check("emp-snapshot-ensembles",
             "The average of 5 snapshots is {last:.1f} points better than the last of them, and "
             "{mean:.1f} better than a snapshot on average. The first alone, before the wrong "
             "labels were learnt, is {first:.1f} points better than the average.",
             last=(together - each[-1], ">", 0), mean=together - each.mean(0),
             first=each[0] - together, seeds=seeds, on="mean")

# %% [markdown]
# One can also average *views*: several crops of the same picture through the same network. AlexNet took ten (four corners, the centre, and all mirrored); ResNet ten at each of five scales. In training it drew one view at random.

# %% tags=["define", "ledger:prac-resnet-crops", "ledger:err-resnet-224x244"]
def fifty_views(photo):
    """50 views (50, 3, 224, 224): ten crops at each of five lengths of the shorter side."""
    views = []
    for length in (224, 256, 384, 480, 640):
        views += change.ten_crop(change.resize(photo, [length], antialias=True), [224])
    return torch.stack(views)

def training_view(photo, lot):
    """The shorter side of a random length, a random crop, mirrored or not."""
    length = int(torch.randint(256, 481, (), generator=lot))
    photo = change.resize(photo, [length], antialias=True)
    height, width = photo.shape[1:]
    top = int(torch.randint(height - 223, (), generator=lot))
    left = int(torch.randint(width - 223, (), generator=lot))
    photo = photo[:, top:top + 224, left:left + 224]
    return photo.flip(-1) if torch.rand((), generator=lot) < 0.5 else photo

# %% tags=["fold"]
cat = data.photos()["chelsea"]  # 300 x 451
views, square = fifty_views(cat), fifty_views(cat[:, :, :300])
claims.check("num-resnet-test-scales",
             "{count} views of {size} pixels a side; of a photograph of 300 x 451 {wide} of them "
             "differ, of a square one {square}: at 224 the crops of a square coincide.",
             count=(len(views), "==", 50), size=views.shape[-1],
             wide=(len(torch.unique(views.flatten(1), dim=0)), "==", 46),
             square=(len(torch.unique(square.flatten(1), dim=0)), "==", 42))
lot = torch.Generator().manual_seed(seed)
lengths = torch.randint(256, 481, (1000,), generator=lot).sort().values.double()
ideal = (torch.arange(1000) + 0.5) / 1000
distance = ((lengths - 255.5) / 225 - ideal).abs().max().item()
again = [training_view(cat, torch.Generator().manual_seed(seed)) for _ in range(2)]
claims.check("prac-resnet-crops",
             "1000 lengths lie from {low:.0f} to {high:.0f}, by at most {distance:.3f} off even (a "
             "chance of 1 % to be more than 0.051); the same lot gives the same {size} view, "
             "{apart:.0e} apart.", low=(lengths[0].item(), ">=", 256),
             high=(lengths[-1].item(), "<=", 480), distance=(distance, "<=", 0.054),
             size=(str(tuple(again[0].shape)), "==", "(3, 224, 224)"),
             apart=((again[0].double() - again[1].double()).abs().max().item(), "==", 0.0))

# %% [markdown]
# **We now know** what averaging brings: exactly the disagreement of its members. Four networks that have learnt the same wrong labels agree too much. Thin networks are poorer one by one, and disagree far more; so their average can gain what that of whole networks cannot.
# **This does not show** what many more networks bring; but of the squared error that infinitely many would save, four save three quarters on average. Nor does it show that ensembles bring little elsewhere: in competitions the last points often are theirs.
#
# **Exercise 08.5.** For any ensemble, the cross-entropy loss of the averaged probabilities is at most the mean of the members' losses (Jensen's inequality). Compute both.

# %%
def two_losses(probabilities, labels):
    """probabilities (M, N, K), labels (N,) -> (mean loss of members, loss of their average)."""
    ...

exercises.check("08.5", two_losses)

# %% [markdown]
# ## In practice
#
# - `nn.Dropout(0.5)` behind large fully connected layers, often 0.1 in transformers; `nn.Dropout2d` for maps. Always `network.eval()` for a test (lesson 07 gave the other reason).
# - Weight decay in nearly every training: `torch.optim.AdamW(..., weight_decay=...)`, often not on biases and normalisation layers.
# - Augmentation first: `torchvision.transforms.v2` (`RandomResizedCrop`, `RandAugment`, `MixUp`, `CutMix`). Look at a grid of what it makes, with the labels.
# - Stochastic depth in deep residual networks: `torchvision.ops.StochasticDepth`, `timm`'s `drop_path_rate`.
# - Keep pictures aside, watch the gap, keep the best epoch; an average of the *weights* over the last steps (`torch.optim.swa_utils`) costs no second network.
#
# ## History
#
# - 1990: L. Hansen and P. Salamon average neural networks. 1995: A. Krogh and J. Vedelsby show that the gain is the disagreement; C. Bishop, that small noise on the inputs acts as a penalty.
# - 2012: dropout (G. Hinton et al.), in the same year in AlexNet's fully connected layers, with shifts, mirror images and PCA lighting. 2014: the long paper (N. Srivastava et al.).
# - 2013: DropConnect (L. Wan et al.). 2014: fractional max-pooling (B. Graham). 2016: stochastic depth (G. Huang et al.). 2017: snapshot ensembles (G. Huang et al.).
# - 2017: C. Zhang et al. let large networks learn random labels by heart. 2019: M. Belkin et al. name double descent; the peak had been seen since 1989.
# - 2015 and later: networks with BatchNorm use little or no dropout in their convolutions; ResNet has none.
#
# ## Exercises that are left
#
# **08.6 Open.** Write the ten crops yourself: corners, centre, and the same mirrored, in torch's order (top left, top right, bottom left, bottom right, centre). For you: do ten shifted views of each test digit help our networks?

# %%
def ten_crops(photo, size):
    """photo (C, H, W) -> (10, C, size, size)."""
    ...

exercises.check("08.6", ten_crops)

# %% [markdown]
# **08.7 Open.** Look again at the first figure. What does it *not* show? (Think of the number of epochs: double it. Of the share of wrong labels; of the width; of a rate tuned for each kind.) Choose one, and measure it.
#
# ## Summary
#
# - Overfitting: a gap that opens while wrong labels are learnt by heart. Fitting is worst with just as many parameters as data; with many more, or with a penalty, it is good again.
# - Dropout strikes out units in training; the rest is scaled by one over the probability to *stay*. At test time nothing is struck out.
# - With wrong labels it gains, with right ones hardly; it takes longer. Stopping the untreated network at the right moment gains most of the same.
# - Its network stands the loss of units and comes close to an average of thin networks. An average of four networks without dropout gains far less: they agree too much.
# - Weights, layers, regions and pixels can be forgotten too. Here random regions gained most.
# - An augmentation must keep the label, and that depends on the task. Averages gain what their members disagree.

# %% [markdown]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | at test time multiply by the probability of the dropout | by the probability to **stay**, $1 - p$; the same only at 0.5 | section 2 |
# | sometimes nothing is multiplied at test time | true for **inverted** dropout only, which has divided in training | section 2 |
# | with dropout neurons "more quickly" build up relationships, and specialise | units are **sparser** and prefer classes more; learning takes **more** epochs, not fewer | sections 2 and 3 |
# | it works because it is an ensemble in one model | it is close to an average of thin networks, which **disagree** much; averaging as such does not do it: four whole networks gained far less | sections 3 and 5 |
# | data size ≈ parameter size: we overfit | right **at** that point (without a penalty); with many more parameters the error falls again | section 1 |
# | weight decay is useful for "generalization as well as regularization" | these two are the same; the paper's point was that it also lowered the **training** error. Here it raised the training loss | section 1; AlexNet, section 5 |
# | a symptom: 99 to 100 % in training and 50 % in the test | the symptom is the **gap**, not a certain number | first figure |
# | vertical flips and rotations keep the label | **depends on the task**: a turned 6 is a 9 | section 4 |
# | augmentation reduces overfitting | where the test varies as the training pictures do: shifts gain on **shifted** digits, and cost points on those as they are | section 4 |
# | independent models give 2 % extra | it depends on their **disagreement** | section 5 |
# | fractional max-pooling: not commonly used | right; here it was the **strongest** of five kinds of noise | section 4 |
# | random 224x244 patches | **224 × 224** | ResNet, section 3.4 |
#
# ## Sources
#
# - The notes: lectures 000 and 003 on dropout and augmentation, 001 and 002 on AlexNet, 004 on ensembles and regularisation (after CS231n, Stanford 2017).
# - G. Hinton, N. Srivastava, A. Krizhevsky, I. Sutskever and R. Salakhutdinov: Improving neural networks by preventing co-adaptation of feature detectors, 2012 (arXiv:1207.0580). N. Srivastava et al.: Dropout. JMLR 15, 2014.
# - A. Krizhevsky, I. Sutskever and G. Hinton: ImageNet classification with deep convolutional neural networks. NIPS 2012, sections 4 and 5. K. He et al., 2015 (arXiv:1512.03385), section 3.4.
# - L. Wan et al.: Regularization of neural networks using DropConnect. ICML 2013. B. Graham: Fractional max-pooling, 2014 (arXiv:1412.6071). G. Huang et al.: Deep networks with stochastic depth, 2016 (arXiv:1603.09382); Snapshot ensembles, 2017 (arXiv:1704.00109).
# - C. Zhang et al.: Understanding deep learning requires rethinking generalization, 2017 (arXiv:1611.03530). M. Belkin et al.: Reconciling modern machine-learning practice and the bias–variance trade-off. PNAS 2019 (arXiv:1812.11118).
# - L. Hansen and P. Salamon: Neural network ensembles. IEEE PAMI 1990. A. Krogh and J. Vedelsby: Neural network ensembles, cross validation, and active learning. NIPS 1994 (printed 1995). C. Bishop: Training with noise is equivalent to Tikhonov regularization. Neural Computation 7, 1995.
