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
# Now the same network, the same pictures; but in each step about half of its units are struck out, each by its own lot and for each picture anew. That is *dropout*.
# Odd: it is hindered at each step, and in the end it names *new* digits better. The first figure shows both. Then we ask how much of that is left against networks that were stopped in time or held back by other means, and look for the reason.
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
# **Words.** *Test*: pictures that no network was trained with (probably by the same hands as the training pictures, lesson 01; for strangers all accuracies would be lower). *Gap*: accuracy in training minus accuracy in the test, in points (hundredths). (In training *right* means: as the given label says. A network that learns no wrong label by heart can therefore have a gap *below* 0.) *Overfitting*: what is learnt holds for the training pictures only. *Regularisation*: whatever is done against it. *Guessing* is right for one digit in ten. *95 % interval* of a mean: if such runs were drawn again and again, 95 of 100 such intervals would hold the mean of all possible runs.
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

from cnncourse import claims, data, exercises, figures, metrics, plots, runtime, widgets

# %%
runtime.start(seed=seed, dtype="float64")
everything = data.load(dataset, True).normalised()  # mean 0, deviation 1
test = data.load(dataset, False).normalised(everything.mean, everything.std)
test = test.subset(450, seed=seed)
kept_aside = 100  # further pictures for each run, labels as wrong as the others: they choose, later
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

    def part(self, start, stop):
        return Task(*(x[:, start:stop] for x in (self.x, self.given, self.true)))

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
# Each run gets its own 200 pictures, and its own lot decides which labels are wrong; a wrong label is one of the other classes. 100 more are *kept aside*: never trained with, with wrong labels of their own. They choose when to stop.
# The networks of all runs are trained side by side: each weight matrix has one more axis, the run. Otherwise nothing is new: two hidden layers with ReLU, and scores.
# Two places are left open for forgetting, `units` and `mask` (of weights); by default (`nn.Identity`) nothing happens there.
# Training is SGD on batches of 50, each step with nine tenths of the last one added (*momentum*, lesson 09).

# %% tags=["define"]
class Networks(nn.Module):
    """One network for each run: two hidden layers of ReLUs, and scores."""

    def __init__(self, runs, sizes=(64, 128, 128, 10), units=None, mask=None):
        super().__init__()
        pairs = list(itertools.pairwise(sizes))
        self.weights = nn.ParameterList(
            torch.randn(runs, n, m) * math.sqrt(2 / n) for n, m in pairs)  # He's rule
        self.biases = nn.ParameterList(torch.zeros(runs, 1, m) for _, m in pairs)
        self.units = units or nn.Identity()
        self.mask = mask or nn.Identity()

    def forward(self, x):  # (runs, N, pixels), or (N, pixels): the same for all
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = torch.relu(x @ self.mask(weight) + bias)
            x = self.units(x)  # here dropout strikes out
        return x @ self.mask(self.weights[-1]) + self.biases[-1]  # (runs, N, classes)

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
        "PCA lighting": pca_lighting(photo, torch.tensor([0.0, 2.0, 4.0])),
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

def averaged(probabilities, labels):
    """(members, N, classes) -> accuracies and losses: mean of the members, and of their average."""
    whole = probabilities.mean(0)
    right = (probabilities.argmax(-1) == labels).double().mean(-1)  # (members,)
    rows = torch.arange(len(labels))
    losses = -probabilities[:, rows, labels].log().mean(-1)
    return {"accuracy": (right.mean().item(), (whole.argmax(-1) == labels).double().mean().item()),
            "loss": (losses.mean().item(), -whole[rows, labels].log().mean().item())}

def training_view(photo, lot):
    """The shorter side of a random length, a random crop, mirrored or not."""
    length = int(torch.randint(256, 481, (), generator=lot))
    photo = change.resize(photo, [length], antialias=True)
    height, width = photo.shape[1:]
    top = int(torch.randint(height - 223, (), generator=lot))
    left = int(torch.randint(width - 223, (), generator=lot))
    photo = photo[:, top:top + 224, left:left + 224]
    return photo.flip(-1) if torch.rand((), generator=lot) < 0.5 else photo

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
both_parts = noisy_task(everything, images + kept_aside, wrong_share, seeds)
task, aside = both_parts.part(0, images), both_parts.part(images, None)
clean = Task(task.x, task.true, task.true)  # the same pictures, all labels right
right_labels = (task.given == task.true).double().mean().item()

def trained(task, units=None, mask=None, epochs=epochs, make=None, **options):
    """(networks, what was watched) after training; `make()` builds networks of another kind."""
    with runtime.seeded(seed):
        networks = (Networks(len(task.x), (pixels, width, width, classes), units, mask)
                    if make is None else make())
        seen = train(networks, task, epochs, **({"rate": rate, "seed": seed} | options))
    return networks, np.array(seen)

def test_accuracy(networks):
    return accuracy(networks, x_test, y_test)

def learnt(networks):
    return accuracy(networks, clean.x, clean.true)

def scores_in(task, aside):
    """A function that says of networks: training accuracy, wrong labels repeated, test accuracy,
    accuracy on the pictures kept aside, by the labels these were given."""
    return lambda networks: np.stack([*repeated(networks, task), test_accuracy(networks),
                                      accuracy(networks, aside.x, aside.given)])

# %%
scores = scores_in(task, aside)  # after each epoch: in training, in the test, aside
plain, plain_curves = trained(task, watch=scores)
forgetful, forgetful_curves = trained(task, units=Dropout(drop), watch=scores)
curves = {"without dropout": plain_curves,  # (epochs, 4 scores, runs)
          "with dropout": forgetful_curves}

# %% tags=["fold"]
TRAIN, TEST, WRONG = "C0", "C2", "C3"
BARE, TREATED = "C1", "#4c9be8"  # without and with a remedy
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
    ax.axhline(right_labels, color="0.35", linestyle=":", linewidth=1.5)
    best = means[:, 2].argmax()
    ax.plot(epoch[best], means[best, 2], "o", color=TEST, markersize=9)
axes[0].set_ylabel("share of pictures")
higher = 100 * (forgetful_curves - plain_curves)[-1, 2].mean()
for ax, words, height, colour in ((axes[1], "wrong labels repeated", 0.08, WRONG),
                                  (axes[1], "right in the test", 0.96, "#00786c"),
                                  (axes[0], "training labels", 0.93, TRAIN),
                                  (axes[0], "dotted: right labels", 0.08, "0.3")):
    ax.text(epochs * 0.98, height, words, color=colour, ha="right", va="center", fontsize=12)
fig.suptitle(f"With dropout fewer wrong labels are learnt, and the test gains {higher:.0f} points")
figures.save(fig, "emp-dropout-reduces-overfitting",
             caption=f"Two hidden layers of {width} units, {images} {dataset} with wrong labels "
                     f"(probability {wrong_share:g}); lines: mean of {runs} runs, bands: lowest "
                     "to highest; dots: best epoch in the test; grey: the gap; dotted: the share "
                     "of right training labels.",
             alt="Without dropout the wrong labels are learnt in 20 epochs while the test accuracy "
                 "falls; with dropout fewer are learnt and the test accuracy stays higher.")

# %% tags=["fold"]
without, with_dropout = curves["without dropout"], curves["with dropout"]
claims.check("emp-overfit-symptom",
             "{weights:,} weights learn {images} pictures, {wrong:.0%} of them with a wrong label: "
             "after {epochs} epochs they repeat {train:.1%} of the labels, {learnt:.1%} of the "
             "wrong ones, and are right in the test for {test:.1%}.",
             weights=sum(weight[0].numel() for weight in plain.parameters()), images=images,
             wrong=1 - right_labels, epochs=epochs, train=(without[-1, 0], ">=", 0.99),
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
# The grey area is the gap. Without dropout it opens just while the wrong labels are learnt. A network that repeats the right labels and none of the wrong ones would stay at the dotted line in training; only learning by heart leads above it.
# The simplest case of the same thing: a few noisy points, and polynomials of higher and higher degree through them.

# %% tags=["fold"]
lot = np.random.default_rng(seed)
x_few, x_many = np.linspace(-1, 1, 15), np.linspace(-1, 1, 160)
def curve(x):
    return np.sin(3 * x)
degrees, shown = range(15), {1: "0.55", 3: "0.13", 14: BARE}
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
    axes[0].text(0.15, height, f"degree {degree}", fontsize=13,
                 color={1: "0.4", 3: "0.13", 14: "#a86300"}[degree])
axes[0].set(ylim=(-2.2, 2.2), xlabel="x", ylabel="y", title="15 points, three polynomials")
axes[1].fill_between(degrees, *middle, color="0.9")
for row, (name, colour) in enumerate({"training": TRAIN, "test": TEST}.items()):
    axes[1].plot(degrees, middle[row], color=colour)
    axes[1].text((6, 6)[row], (0.06, 0.4)[row], name, color=("C0", "#00786c")[row],
                 fontsize=13)
axes[1].axhline(0.25, color="0.4", linestyle=":")
axes[1].text(0, 0.1, "dotted: noise", fontsize=12)
axes[1].text(12, 1.12, f"degree 14: {middle[1, 14]:.1f}", color="#00786c", fontsize=12, ha="right",
             va="center")
axes[1].set(xlabel="degree", ylabel="error", ylim=(0, 1.2), title="error; grey: the gap",
            xticks=(0, 3, 7, 10, 14))
fig.suptitle(f"Degree 14 meets every point; new points are met best by degree {best}")
figures.save(fig, "fig-overfitting-curve",
             caption="Left: one set of 15 points of a sine curve with noise of 0.25. Right: root "
                     "mean squared error, median of 50 such sets; dotted: the noise alone.",
             alt="The polynomial of degree 14 passes through all points and swings between them; "
                 "its training error is 0 and its test error by far the largest.")

# %% [markdown]
# Degree 14 has 15 coefficients for 15 points. Is that the rule: overfitting comes when there are *as many parameters as data*, and gets worse with more?
# A test with digits: a hidden layer whose weights are random and *stay* random; only the scores behind it are fitted, by least squares, all at once. Its number of parameters (for each class) is the number of random units.
# If more than one matrix fits all labels, the *shortest* is taken: the one with the smallest sum of squares. `torch.linalg.pinv` (the pseudo-inverse) gives it.

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
for (column, count), run in itertools.product(enumerate(counts), range(runs)):
    target = F.one_hot(task.given[run], classes) - 1 / classes
    units, units_test = random_units(task.x[run], count), random_units(x_test, count)
    for row, penalty in enumerate(penalties):
        named = (units_test @ fitted(units, target.double(), penalty)).argmax(1)
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
for row, (name, colour) in enumerate({"shortest fit": BARE, "with a penalty": TREATED}.items()):
    ax.plot(counts, errors[row], "o-", color=colour, markersize=5)
    ax.fill_between(counts, wrong_in_test[row].min(1), wrong_in_test[row].max(1), color=colour,
                    alpha=0.15, linewidth=0)
ax.text(counts[at] * 1.2, errors[0, at], "shortest fit", color="#a86300", fontsize=13)
ax.text(counts[0], 0.06, "with a penalty on the weights", color="#1e6bb8", fontsize=13)
ax.axvline(images, color="0.5", linestyle=":", linewidth=1.5)
ax.text(images * 1.04, 0.02, "as many as pictures", fontsize=12)
ax.set(xscale="log", xlabel="random units (parameters for each class)", ylabel="test error",
       ylim=(0, 1))
ax.set_xticks([25, 50, 100, 200, 400, 800, 1600, 3200] if images == 200 else counts[::3],
              minor=False)
ax.xaxis.set_major_formatter("{x:.0f}")
ax.minorticks_off()
ax.set_title("Worst with as many parameters as pictures; with many more it is better again")
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
# This is called *double descent*. Has it to do with the length? At 200 units hardly more than one matrix fits all labels, however long it is; at 3200 there are many, and we take the shortest.
# The test: at 3200 units add to the shortest matrix a random one that changes *no* training score (`units @ extra` is 0): once, 3 and 10 times as long as the shortest, and as long as the fit at 200 units. All labels are still fitted.

# %%
longer, times_as_long = np.zeros((4, runs)), np.zeros(runs)  # test errors; length at the peak
for run, x in enumerate(task.x):
    target = F.one_hot(task.given[run], classes) - 1 / classes
    units, units_test = random_units(x, counts[-1]), random_units(x_test, counts[-1])
    inverse = units.T @ torch.linalg.inv(units @ units.T)  # pinv, with more units than pictures
    shortest = inverse @ target
    at_peak = fitted(random_units(x, images), target, 0.0)
    times_as_long[run] = at_peak.norm() / shortest.norm()
    extra = torch.randn(shortest.shape, generator=torch.Generator().manual_seed(run))
    extra = extra - inverse @ (units @ extra)  # units @ extra is now 0
    extra = extra / extra.norm() * shortest.norm()  # as long as the shortest
    for row, times in enumerate((1, 3, 10, times_as_long[run])):
        named = (units_test @ (shortest + times * extra)).argmax(1)
        longer[row, run] = (named != y_test).double().mean()

# %% tags=["fold"]
claims.check("err-overparam-overfit",
             "At {images} units the shortest fit is {times:.0f} times as long as at {most:d}. A "
             "part there that changes no training score, 1, 3 and 10 times as long as the "
             "shortest, makes the test error {one:.0%}, {three:.0%} and {ten:.0%} instead of "
             "{short:.0%}; one as long as the fit at {images}, {long:.0%}.", images=images,
             most=counts[-1], times=(times_as_long, ">=", 10), one=longer[0], three=longer[1],
             ten=(longer[2], ">=", 0.5), long=(longer[3], ">=", 0.7), short=wrong_in_test[0, -1],
             seeds=seeds, on="mean")

# %% [markdown]
# So length that no label asks for spoils the test: as much as the shortest hardly, many times as much badly; the training scores stay the same. (Multiplied as a whole the matrix would be long, too, and name every digit as before.) At 200 units it is the labels that ask for the length. There a penalty shortens the matrix, which then fits the labels only nearly, and the peak is gone.
# In training by SGD the same penalty is called *weight decay* (L2, lesson 02): at each step all weights shrink a little. How much is good for our network?

# %% tags=["define", "fold"]
# end_and_stop: accuracies (4, runs): in training and in the test at the end; then, for section 2,
# in the test and on the pictures kept aside, with the weights that were best on these
class Keep:
    """Watches training: for each run the weights that are best on the pictures kept aside."""

    def __init__(self, aside):
        self.aside, self.best = aside, np.full(len(aside.x), -1.0)

    def __call__(self, networks):
        if not hasattr(self, "weights"):
            self.weights = [weight.detach().clone() for weight in networks.parameters()]
        now = accuracy(networks, self.aside.x, self.aside.given)
        better = torch.from_numpy(now > self.best)
        self.best = np.maximum(now, self.best)
        for kept, weight in zip(self.weights, networks.parameters(), strict=True):
            kept[better] = weight.detach()[better]

def end_and_stop(task, aside, **options):
    """Accuracies (4, runs): in training and in the test at the end, in the test stopped, on the
    pictures kept aside when stopped; and the stopped networks."""
    keep = Keep(aside)
    networks, _ = trained(task, watch=keep, **options)
    at_end = accuracy(networks, task.x, task.given), test_accuracy(networks)
    for weight, kept in zip(networks.parameters(), keep.weights, strict=True):
        weight.data = kept
    return np.stack([*at_end, test_accuracy(networks), keep.best]), networks

def end_and_stop_of(curves):
    """The same accuracies for curves of all epochs."""
    return np.stack([curves[-1, 0], curves[-1, 2], stopped(curves), curves[:, 3].max(axis=0)])

# %%
gentle, _ = trained(task, decay=0.003)
decayed = {}  # by weight decay: accuracies, in training and in the test first
for decay in (0.03, 0.1, 0.3):
    decayed[decay], _ = end_and_stop(task, aside, decay=decay)

# %% tags=["fold", "ledger:err-wd-summary"]
in_test = {0.0: plain_curves[-1, 2]} | {decay: values[1] for decay, values in decayed.items()}
gain = {decay: 100 * (values - in_test[0.0]) for decay, values in in_test.items()}  # (runs,) each
gaps = [100 * (plain_curves[-1, 0] - in_test[0.0]), 100 * (decayed[0.03][0] - in_test[0.03])]
losses = [training_loss(networks, task) for networks in (plain, gentle)]
claims.check("emp-regularisation-reduces-overfit",
             "At rate {rate:g} a weight decay of 0.03 makes the gap {gap:.1f} points smaller and "
             "the test accuracy {gain:.1f} points higher, one of 0.1 by {more:.1f}; with 0.3 the "
             "test accuracy is {loss:.1f} points lower than with 0.03.", rate=rate,
             gap=(gaps[0] - gaps[1], ">=", 10), gain=(gain[0.03], ">", 2), more=gain[0.1],
             loss=(gain[0.03] - gain[0.3], ">=", 10), seeds=seeds)
claims.check("emp-weight-decay-reduces-train-error",
             "A weight decay of 0.003 does not lower the training loss here: after {epochs} "
             "epochs it is {none:.4f} without and {small:.4f} with it, {ratio:.1f} times as large.",
             epochs=epochs, none=losses[0], small=losses[1], ratio=(losses[1] / losses[0], ">", 1),
             seeds=seeds)
claims.quoted("emp-weight-decay-reduces-train-error.paper", "We found that this small amount of "
              "weight decay was important for the model to learn. In other words, weight decay "
              "here is not merely a regularizer: it reduces the model's training error.",
              "Krizhevsky, Sutskever and Hinton 2012, section 5")

# %% [markdown]
# **We now know** what overfitting looks like: labels learnt by heart, with a gap that opens while the wrong ones are learnt. In least-squares fits without a penalty it is worst where the parameters just suffice to fit everything. Weight decay reduces it, up to a point: too much and the network cannot learn.
# **This does not show** that larger is always better: these fits have no early end and no other remedy.
#
# **Exercise 08.1.** Look at the dots in the first figure: the test accuracy without dropout was highest early. *Early stopping* uses that. Pictures that were kept aside give an accuracy after each epoch; stop once `patience` epochs in a row have brought no new best, and keep the weights of the best epoch so far. Which epoch (counted from 0) is that?

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
    ax.set(title="one picture, one step" if thin else "the whole network", xlim=(-0.4, 3.4),
           ylim=(-0.28, 1.12))
    ax.axis("off")
fig.suptitle("For each picture other hidden units are missing, with all their weights")
figures.save(fig, "fig-dropout-networks",
             caption="Crosses: hidden units struck out, each with probability p.",
             alt="Left a network with two hidden layers of four units; right the same layout with "
                 "some hidden units crossed out and their lines gone.")

# %% [markdown]
# At test time nothing is struck out: the answer should not depend on chance. But then more units arrive at the next layer than it was trained with (with $p = 1/2$ twice as many), so the numbers must be scaled.
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
# How large should $p$ be? And does dropout help *because* it hinders learning the wrong labels? If so, little of its gain must be left once all labels are right.
# With right labels there are fewer errors to remove, so we compare *shares*: of the untreated network's errors, how many does dropout remove?

# %%
exercises.predict("08.p2", "All 200 labels right: the share of errors removed, against before?",
                  ("as large", "about half", "a quarter or less"))

forgetting = {}  # by p: accuracies, in training and in the test first
for other in (0.2, 0.8):
    forgetting[other], _ = end_and_stop(task, aside, units=Dropout(other))

clean_plain, clean_curves = trained(clean, watch=learnt)  # (epochs, runs)
clean_dropout, clean_dropout_curves = trained(clean, units=Dropout(drop), watch=learnt)

# %% tags=["fold"]
ends = {p: values[1] for p, values in forgetting.items()} | {drop: forgetful_curves[-1, 2]}
gain = {p: 100 * (values - plain_curves[-1, 2]) for p, values in ends.items()}
clean_right = test_accuracy(clean_plain)
clean_gain = 100 * (test_accuracy(clean_dropout) - clean_right)
of_errors = [gain[drop].mean() / (100 - 100 * plain_curves[-1, 2].mean()),
             clean_gain.mean() / (100 - 100 * clean_right.mean())]
share = of_errors[1] / of_errors[0]
exercises.reveal("08.p2", "as large" if share > 0.75 else "about half" if share > 0.25 else
                 "a quarter or less",
                 f"{of_errors[0]:.0%} of the errors with wrong labels, {of_errors[1]:.0%} without.")
claims.check("prac-dropout-half",
             "With wrong labels, at rate {rate:g} and after {epochs} epochs, the gain over no "
             "dropout is {low:.1f} points at p = 0.2, {half:.1f} at {drop:g} and {high:.1f} at "
             "0.8.", rate=rate, epochs=epochs, low=gain[0.2], drop=drop,
             half=(gain[drop], ">", 2), high=gain[0.8], seeds=seeds)
claims.check("emp-dropout-reduces-overfitting.clean",
             "With all labels right, dropout gains {clean:.1f} points; with wrong labels "
             "{more:.1f} points more than that.", clean=clean_gain,
             more=(gain[drop] - clean_gain, ">", 2), seeds=seeds)

# %% [markdown]
# So most of dropout's gain here goes with the wrong labels. ($p = 0.8$ is too much, in these epochs.)
#
# But so far the untreated network was trained to the end. A fair rival may *stop early* (exercise 08.1), may use weight decay, and has a learning rate and a strength of its own. The test must choose none of them: the pictures kept aside do. Three rates are tried, and two strengths of each remedy; all runs together choose these, each run its own stop.

# %% tags=["define"]
def stopped(curves):
    """Test accuracy (runs,) after the epoch that is best on the pictures kept aside."""
    best = curves[:, 3].argmax(axis=0)  # (runs,), epochs from 0
    return curves[best, 2, range(curves.shape[2])]

# %%
exercises.predict("08.p3", "Both stopped in time, each at its best rate: over the untreated "
                  "network dropout gains", ("less than 1 point", "1 to 6 points", "more"))

rivals = {"untreated": {}, "decay 0.03": {"decay": 0.03}, "decay 0.1": {"decay": 0.1},
          "dropout 0.2": {"units": Dropout(0.2)}, f"dropout {drop:g}": {"units": Dropout(drop)}}
bare, dropped = end_and_stop_of(plain_curves), end_and_stop_of(forgetful_curves)
known = [bare, decayed[0.03], decayed[0.1], forgetting[0.2], dropped]  # at `rate`
tried = {(name, rate): values for name, values in zip(rivals, known, strict=False)}
rates = [rate / 10, rate / 3, rate]
for name, step in itertools.product(rivals, rates[:2]):
    tried[name, step], _ = end_and_stop(task, aside, rate=step, **rivals[name])

# %% tags=["fold"]
order = sorted(tried, key=lambda key: tried[key][3].mean())  # by the pictures kept aside
chosen = {key[0].split()[0]: key for key in order}  # rate and strength: the best comes last
tuned = {kind: tried[key][2] for kind, key in chosen.items()}  # (runs,)
ahead = {kind: 100 * (tuned["dropout"] - values) for kind, values in tuned.items()}
left = ahead["untreated"].mean()
exercises.reveal("08.p3", "less than 1 point" if left < 1 else "more" if left > 6 else
                 "1 to 6 points", f"{left:.1f} points; at the end it was {gain[drop].mean():.1f}.")
print("Right in the test, %: at the end -> stopped in time (means of the runs)",
      " " * 14 + "".join(f"rate {step:<11g}" for step in rates), sep="\n")
for name in rivals:
    pairs = [100 * tried[name, step][1:3].mean(axis=1) for step in rates]
    print(f"{name:14}" + "".join(f"{at_end:.1f} -> {in_time:<8.1f}" for at_end, in_time in pairs))
print("Chosen aside: " + "; ".join(f"{name}, rate {step:g}" for name, step in chosen.values()))
most = images * 3 // 4  # the others, taken out of the training pictures, choose
frugal = end_and_stop(task.part(0, most), task.part(most, None))[0][2]
claims.check("emp-dropout-reduces-overfitting.early",
             "Rate, strength and stop chosen by {count} further pictures, the untreated network "
             "is right for {bare:.1%}, weight decay for {decay:.1%}, dropout for {drop:.1%}: "
             "{ahead:.1f} points ahead of the untreated and {more:.1f} of weight decay, with a "
             "95 % interval of {half:.1f} to either side.", count=kept_aside, seeds=seeds,
             bare=tuned["untreated"], decay=tuned["decay"], drop=tuned["dropout"],
             ahead=(ahead["untreated"], ">", 0), more=ahead["decay"],
             half=metrics.interval(ahead["decay"]).half)
claims.check("emp-dropout-reduces-overfitting.stop",
             "At rate {rate:g} alone the stop brings the untreated network {stop:.1f} points, and "
             "dropout is {left:.1f} ahead. If of the {images} pictures {less} train and {few} "
             "choose, the stopped network has {frugal:.1%} instead of {stopped:.1%}.",
             rate=rate, stop=(100 * (bare[2] - bare[1]), ">", 2), less=most, few=images - most,
             left=100 * (dropped[2] - bare[2]), images=images, frugal=frugal, seeds=seeds,
             stopped=bare[2], on="mean")

# %% [markdown]
# Most of the gain is the stop, and a lower rate. Over an untreated network a few points of dropout are left in these runs; over a weight decay tuned in the same way nothing that they could tell from chance. The stop is not free: it needs pictures, and taken out of the training pictures they are missed.
#
# Dropout's price is time. At the same rate: how many epochs until the clean training pictures are learnt?

# %% tags=["fold", "ledger:err-dropout-sparsity-claims"]
def learnt_after(curves):
    """The first epoch, from 1, after which 98 % of the training labels are right, else nan."""
    known = curves >= 0.98
    return np.where(known.any(axis=0), known.argmax(axis=0) + 1.0, np.nan)

plain_epochs, dropout_epochs = learnt_after(clean_curves), learnt_after(clean_dropout_curves)
claims.check("emp-dropout-longer-training",
             "At rate {rate:g} 98 % of {images} clean training labels are right after {none:.1f} "
             "epochs without dropout and {drop:.1f} with it, {ratio:.2f} times as many.",
             rate=rate, images=images,
             none=plain_epochs, drop=dropout_epochs,
             ratio=(dropout_epochs / plain_epochs, ">", 1.1), seeds=seeds)

# %% [markdown]
# **We now know** the layer, its scaling and its price: more epochs at the same rate. With wrong labels it gains, with right ones far less; against an untreated network, tuned and stopped in time, a few points are left in these runs, against a tuned weight decay none that are sure.
# **This does not show** that a few points are left for other seeds (with some that were tried they were not), or that dropout and weight decay are equal: these runs are too few to tell. Nor that dropout is useless on clean data: with more classes, larger pictures and far larger networks the untreated network overfits without any wrong label; AlexNet's authors report it.
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
exercises.predict("08.p4", "Half of all hidden units removed. The network without dropout:",
                  ("loses fewer points than the other", "loses as many", "loses more"))

stop = 1 + plain_curves[:, 3].mean(axis=1).argmax()  # best epoch on the pictures kept aside
early, _ = trained(task, epochs=int(stop))  # the untreated network, stopped
removed = {}
for name, networks in (("without dropout", plain), ("stopped", early), ("with dropout", forgetful)):
    half_gone = without_units(networks, 0.5, x_test, y_test, seed)
    removed[name] = np.array([test_accuracy(networks), half_gone])  # (2, runs)

# %% tags=["fold"]
lost = {name: 100 * (values[0] - values[1]) for name, values in removed.items()}
more = (lost["without dropout"] - lost["with dropout"]).mean()
exercises.reveal("08.p4", "loses more" if more > 3 else "loses as many" if more > -3 else
                 "loses fewer points than the other",
                 f"{lost['without dropout'].mean():.0f} points, with dropout "
                 f"{lost['with dropout'].mean():.0f}.")
claims.check("emp-dropout-redundancy",
             "With half of the hidden units removed the network without dropout has {none:.1%} in "
             "the test and loses {lost:.0f} points; the one with dropout has {drop:.1%} and loses "
             "{fewer:.0f}. Stopped after epoch {stop:d} the network without dropout loses "
             "{early:.0f}, {less:.0f} more than with dropout.",
             none=removed["without dropout"][1], drop=removed["with dropout"][1],
             lost=lost["without dropout"], fewer=lost["with dropout"], stop=stop,
             early=lost["stopped"], less=(lost["stopped"] - lost["with dropout"], ">=", 8),
             seeds=seeds)
zeros, prefers = {}, {}
for name, networks in (("without", plain), ("stopped", early), ("with", forgetful)):
    zeros[name], prefers[name] = activity(networks, x_test, y_test)
claims.check("emp-dropout-specialisation",
             "Without dropout {plain:.1%} of the hidden outputs are 0, stopped {early:.1%}, with "
             "dropout {drop:.1%}, {more:.1f} points more than stopped; the preference of units for "
             "a class is {choosy:.2f}, {soon:.2f} and {drops:.2f}.", plain=zeros["without"],
             early=zeros["stopped"], drop=zeros["with"],
             more=(100 * (zeros["with"] - zeros["stopped"]), ">=", 10), choosy=prefers["without"],
             soon=prefers["stopped"], drops=(prefers["with"], ">=", 0.6), seeds=seeds)

# %% [markdown]
# So it is not only that the network has overfitted less: stopped in time it loses as much. But then, dropout has trained its network for just this removal.
# Its units also differ: they are silent (0) more often, and choosier. (*Preference*: 0 if a unit's mean output is the same for all classes, 1 if it answers one class only.) Stopping in time does little of either.
#
# The second reason: each step trains another thin network, and the whole network at test time is like an *average* of them all. For a single matrix of scores with a softmax this is exact: with $p = 1/2$ the *geometric* mean of all $2^n$ masked answers, divided by its sum, equals the one scaled answer (else each mask counts by its probability). With ReLUs in between nothing guarantees it. How close is it?
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
thin = thin_answers(forgetful, x_test[few], 64, seed)
average = thin.mean(0)  # (runs, 200, classes)
scaled = scores_of(forgetful, x_test[few]).softmax(-1)
sizes = [1, 4, 64]
of_average = [(thin[:size].mean(0).argmax(-1) == y_test[few]).double().mean(-1) for size in sizes]
of_scaled = (scaled.argmax(-1) == y_test[few]).double().mean(-1)

# %% tags=["fold"]
to_scaled = divergence(average, scaled)
geometric = thin.clamp(min=1e-300).log().mean(0).softmax(-1)
to_single = np.mean([divergence(average, one) for one in thin[:16]], axis=0)
claims.check("emp-dropout-ensemble",
             "The average of 64 thin networks lies at a divergence of {scaled:.3f} from the "
             "scaled network and of {single:.3f} from a single thin one, a share of {share:.2f}. "
             "Their geometric mean lies at {geometric:.3f} from the scaled network.",
             scaled=to_scaled, single=to_single, share=(to_scaled / to_single, "<", 0.5),
             geometric=(divergence(geometric, scaled), "<", 0.05), seeds=seeds)
values = torch.stack(of_average).numpy()  # (sizes, runs)
claims.check("emp-dropout-ensemble.accuracy",
             "On 200 test pictures one thin network is right for {one:.1%}, the average of 4 for "
             "{four:.1%}, that of 64 for {many:.1%}, the whole network for {whole:.1%}, "
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

widgets.explore(opinions,
                picture=widgets.Slider(7, 0, 199, 1, "picture", kept=tuple(range(0, 10))),
                thin_networks=widgets.Slider(12, 1, 100, 1, "thin networks", kept=(1, 3, 12, 100)))

# %% [markdown]
# **We now know** that both descriptions are true of our network: it stands the loss of units better, and one pass comes close to an average of many thin networks.
# **This does not show** that either is *why* the test is better: both go along with it. Section 5 asks what an average of networks is worth that were trained *without* dropout.
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
# Each needs an untreated network of its own kind. Fractional pooling has a convolution, so its untreated network has the same regions at each step. In the test both have these: one pass, like the others.
# By chance alone a mean of runs is above 0 every second time. *Clearly* is to mean: its 95 % interval lies above 0. (All runs share the test pictures; with others the numbers would differ.)

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

    Regions are drawn at each step of training, and by the fixed `lot` in evaluation; with
    `frozen` in training too."""

    def __init__(self, runs, side=8, classes=10, maps=8, frozen=False, lot=0):
        super().__init__()
        self.side, self.parts, self.frozen, self.lot = side, round(side / 1.6), frozen, lot
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
        fixed = self.frozen or not self.training
        lot = torch.Generator().manual_seed(self.lot) if fixed else None
        pooled = fractional_max_pool(maps, self.parts, lot)
        return pooled.flatten(2) @ self.scores + self.offset

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
exercises.predict("08.p5", "All stopped in time, at one rate. Of five kinds of noise clearly gain:",
                  ("none or one", "two or three", "four or five"))

def scores_of_kind(**options):
    return end_and_stop(task, aside, **options)[0]

size = (runs, pixels, 100, classes)
residual = scores_of_kind(make=lambda: ResidualNetworks(*size))
shallow = scores_of_kind(make=lambda: ResidualNetworks(*size, p=drop))
frozen = scores_of_kind(make=lambda: PoolingNetworks(runs, side, classes, frozen=True))
pooled, pooling = end_and_stop(task, aside, make=lambda: PoolingNetworks(runs, side, classes))
connected = scores_of_kind(mask=DropConnect(drop, pixels))
blurred = scores_of_kind(augment=pixel_noise)
pairs = {"dropout": (dropped, bare), "DropConnect": (connected, bare),
         "pixel noise": (blurred, bare), "stochastic depth": (shallow, residual),
         "fractional pooling": (pooled, frozen)}  # with noise, and without

# %% tags=["fold"]
late = {name: 100 * (noisy - calm)[1] for name, (noisy, calm) in pairs.items()}
in_time = {name: 100 * (noisy - calm)[2] for name, (noisy, calm) in pairs.items()}
closes = {name: 100 * np.subtract(*(calm - noisy)[:2])
          for name, (noisy, calm) in pairs.items()}  # points by which the gap is smaller
sure = {name: metrics.interval(gain) for name, gain in in_time.items()}  # 95 %
gaining = sum(gain.mean > gain.half for gain in sure.values())
most = max(gain.mean for gain in sure.values())
exercises.reveal("08.p5", ("none or one", "two or three", "four or five")[gaining // 2],
                 f"{gaining}, by {most:.1f} points at most on average.")
order = sorted(pairs, key=lambda name: in_time[name].mean())
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.4))
for place, name in enumerate(order):
    ax.barh(place + 0.2, late[name].mean(), 0.37, color="0.8")
    ax.barh(place - 0.2, in_time[name].mean(), 0.37, color=TREATED)
    ax.plot(in_time[name], runs * [place - 0.2], "o", color="0.1", markersize=4)
ax.errorbar([sure[name].mean for name in order], np.arange(len(order)) - 0.2, fmt="none",
            xerr=[sure[name].half for name in order], color="0.1", linewidth=1.5, capsize=7)
ax.axvline(0, color="0.35", linewidth=1)
ax.text(0.02, 0.72, "grey: at the end\nblue: both stopped\nline: 95 % interval", fontsize=12,
        transform=ax.transAxes)
ax.set_yticks(range(len(order)), [name.replace(" ", "\n") for name in order], fontsize=12)
ax.set(xlabel="points gained over the same network without noise", ylim=(-0.6, len(order) - 0.4))
fig.suptitle(f"Stopped in time, {gaining} of {len(pairs)} kinds of noise clearly gain, at one rate")
figures.save(fig, "emp-dropconnect-similar",
             caption=f"{images} noisy {dataset}, {epochs} epochs, rate {rate:g}, p = {drop:g}; "
                     f"bars: mean of {runs} runs; dots (stopped): runs; lines: 95 % interval of "
                     f"the mean. Stopped by {kept_aside} pictures kept aside; one pass a test.",
             alt="Five pairs of bars: points gained in the test at the end of training, and with "
                 "both networks stopped in time; these are a few points, some not clear of 0.")

# %% tags=["fold"]
pooling.train()  # draws regions
with torch.no_grad(), runtime.seeded(seed):
    passes = torch.stack([pooling(x_test).softmax(-1) for _ in range(4)])
more_passes = (passes.mean(0).argmax(-1) == y_test).double().mean(-1).numpy()
unlike = late["DropConnect"] - late["dropout"]
claims.check("emp-dropconnect-similar",
             "At the end DropConnect makes the gap {gap:.1f} points smaller and gains {gain:.1f} "
             "points in the test; dropout {as_dropout:.1f} and {drop:.1f}: {unlike:+.1f} points "
             "apart.", gap=(closes["DropConnect"], ">", 10),
             gain=(late["DropConnect"], ">", 2), as_dropout=closes["dropout"],
             drop=late["dropout"], unlike=(unlike, "in", (-6, 6)), seeds=seeds, on="mean")
claims.check("emp-fractional-pooling-regularises",
             "Regions drawn at each step make the gap {gap:.1f} points smaller than the same "
             "regions always, and gain {gain:.1f} points in the test at the end. Both stopped in "
             "time it is {stop:+.1f}, and {many:+.1f} for an average of 4 passes with new regions.",
             gap=(closes["fractional pooling"], ">", 10), gain=(late["fractional pooling"], ">", 0),
             stop=in_time["fractional pooling"],
             many=100 * (more_passes - frozen[2]), seeds=seeds, on="mean")
claims.check("emp-regularisation-reduces-overfit.early",
             "Both stopped in time, dropout gains {drop:.1f} points, noise on the pixels "
             "{noise:.1f}, DropConnect {connect:.1f}, stochastic depth {depth:.1f} (at the end "
             "{end:.1f}).", drop=(in_time["dropout"], ">", 0),
             noise=(in_time["pixel noise"], ">", 0),
             connect=in_time["DropConnect"],
             depth=in_time["stochastic depth"], end=late["stochastic depth"], seeds=seeds)

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
# For *one* score dropout and DropConnect are the same noise. Two things differ: a unit goes for all scores at once, a weight for one; and our DropConnect draws one lot a step, dropout one for each picture.
#
# Noise on the pixels changes the *picture*, and random regions are like a small distortion of its maps. That is done on purpose, before the network, by *data augmentation*: each time a picture is used it is changed a little, in a way that keeps its label.

# %% tags=["define", "ledger:eq-augmentations"]
def pca_lighting(photo, a):
    """AlexNet's: along the principal directions of the colours, a_i times their variance.

    photo (3, H, W) from 0 to 1; a (3,): drawn from N(0, 0.1) once for each use of a picture."""
    colours = photo.flatten(1)  # (3, pixels); for a data set: those of all its pictures
    values, vectors = torch.linalg.eigh(torch.cov(colours))
    return photo + (vectors @ (a * values)).view(3, 1, 1)

# %% tags=["nbval-varies", "fold", "ledger:prac-augmentation-kinds"]
photo = data.photos()["chelsea"]
photo = change.resize(photo, [40], antialias=True)[:, :, 3:56].double() / 255
kinds = changes(photo, seed)
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.9))
pictures = F.pad(torch.stack(list(kinds.values())).clamp(0, 1), (2, 2, 2, 14), value=1.0)
sheet = torch.cat([torch.cat(list(row), 2) for row in pictures.split(7)], 1)  # two rows of seven
ax.imshow(change.to_pil_image(sheet).quantize(28).convert("RGB"))  # few colours: a small file
for place, name in enumerate(kinds):
    ax.text(57 * (place % 7) + 28, 56 * (place // 7) + 48, name, ha="center", fontsize=11.5)
ax.axis("off")
fig.suptitle("Thirteen changes after which it still is a cat")
figures.save(fig, "fig-augmentation-grid",
             caption="torchvision's transforms v2, and PCA lighting by hand with (0, 2, 4): up to "
                     "forty times AlexNet's deviation, so that it shows. Photograph: skimage.data.",
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
# For digits: shifts by up to one pixel, with wrong labels and with right ones. We ask the test as it is and a shifted one. Changed pictures take longer to learn, so with right labels the shifted training goes on three times as long (the other has learnt all its labels long before its end). And one more change: turning by 180 degrees at random.

# %%
exercises.predict("08.p6", "Training pictures turned at random. A test 6 turned upside down is:",
                  ("mostly named 9", "mostly named 6", "named anything"))

shift, turn = lambda x: shifted(x, side), lambda x: turned(x, side)
augmented = {"unchanged": clean_plain}
augmented["turned"] = trained(clean, augment=turn)[0]
short = trained(clean, augment=shift)[0]
augmented["shifted"] = trained(clean, augment=shift, epochs=3 * epochs)[0]
noisy_shifts = scores_of_kind(augment=shift)
with runtime.seeded(seed):
    x_shifted = shifted(x_test, side)
x_turned, both_kinds = x_test.flip(-1), ("unchanged", "shifted")

# %% tags=["fold"]
upside = {name: [share_named(networks, x_turned[y_test == 6], named) for named in (6, 9)]
          for name, networks in augmented.items()}
six = np.mean(upside["turned"], axis=1)
exercises.reveal("08.p6", "mostly named 6" if six[0] > 0.5 else "mostly named 9" if six[1] > 0.5
                 else "named anything", f"{six[0]:.0%} are named 6 and {six[1]:.0%} named 9.")
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.9), width_ratios=[1.5, 1])
groups = {"wrong\nlabels,\nend": (bare[1], noisy_shifts[1]),
          "wrong\nlabels,\nstopped": (bare[2], noisy_shifts[2]),
          "right\nlabels": [test_accuracy(augmented[kind]) for kind in both_kinds],
          "right\nlabels,\nshifted test": [accuracy(augmented[kind], x_shifted, y_test)
                                          for kind in both_kinds]}
def bars(ax, place, step, values, colour):
    ax.bar(place + 0.36 * (step - 0.5), values.mean(), 0.34, color=colour)
    ax.plot(runs * [place + 0.36 * (step - 0.5)], values, "o", color="0.1", markersize=3)
for place, group in enumerate(groups.values()):
    for step, values in enumerate(group):
        bars(axes[0], place, step, values, (BARE, TREATED)[step])
axes[0].set_xticks(range(4), list(groups), fontsize=11.5)
axes[0].set(ylabel="accuracy", ylim=(0, 1.04), title="blue: trained with shifts")
for step, (kind, colour) in enumerate({"unchanged": BARE, "turned": "0.6"}.items()):
    for place, values in enumerate(upside[kind]):
        bars(axes[1], place, step, values, colour)
axes[1].set_xticks([0, 1], ["named 6", "named 9"], fontsize=12)
axes[1].set(ylabel="share of upside-down sixes", ylim=(0, 1.04), title="grey: trained with turns")
fig.suptitle("Shifts help with shifted digits; turns teach that an upside-down 6 is a 6")
figures.save(fig, "emp-augmentation-label-preserving",
             caption=f"{images} {dataset}, {epochs} epochs (blue, right labels: {3 * epochs}); "
                     f"orange: unchanged pictures; bars: mean of {runs} runs, dots: runs.",
             alt="Left: shifts help much on the shifted test, elsewhere only with wrong labels at "
                 "the end of training. Right: with turns, upside-down sixes are named 6.")

# %% tags=["fold", "ledger:err-flip-keeps-label"]
moved = {name: accuracy(augmented[name], x_shifted, y_test) for name in both_kinds}
original = {name: test_accuracy(augmented[name]) for name in both_kinds}
shift_gaps = [100 * (learnt(augmented[name]) - original[name]) for name in both_kinds]
claims.check("emp-augmentation-reduces-overfit",
             "With wrong labels shifts lower the gap from {none:.1f} points to {gap:.1f} and gain "
             "{gain:.1f} points on the test as it is after {epochs} epochs, {stop:+.1f} if both "
             "are stopped in time.", epochs=epochs, none=100 * np.subtract(*bare[:2]),
             gap=(100 * np.subtract(*noisy_shifts[:2]), "<=", 15),
             gain=(100 * (noisy_shifts - bare)[1], ">", 0), stop=100 * (noisy_shifts - bare)[2],
             seeds=seeds)
claims.check("emp-augmentation-reduces-overfit.right",
             "With right labels the gap is {none:.1f} points without and {gap:.1f} with shifts; "
             "they change the test as it is by {short:+.1f} points in {epochs} epochs and by "
             "{original:+.1f} in {long}, the shifted one by {moved:+.1f}.", none=shift_gaps[0],
             gap=shift_gaps[1], epochs=epochs, long=3 * epochs,
             short=100 * (test_accuracy(short) - original["unchanged"]), seeds=seeds,
             original=(100 * (original["shifted"] - original["unchanged"]), ">", -4),
             moved=(100 * (moved["shifted"] - moved["unchanged"]), ">=", 20))
pair = (y_test == 6) | (y_test == 9)
loses = [100 * np.subtract(*(accuracy(augmented[kind], x_test[mask], y_test[mask])
                             for kind in ("unchanged", "turned"))) for mask in (pair, ~pair)]
claims.check("emp-augmentation-label-preserving",
             "Turned at random in training, upright sixes and nines lose {pair:.1f} points, the "
             "other digits {others:.1f}, {more:.1f} less.", pair=loses[0], others=loses[1],
             more=(loses[0] - loses[1], ">", 0), seeds=seeds, on="mean")
claims.check("emp-augmentation-label-preserving.nine",
             "An upside-down 6 is named 9 by {plain:.0%} without turns in training, by "
             "{turned:.0%} with them; those name it 6 in {six:.0%}.", plain=upside["unchanged"][1],
             seeds=seeds, turned=(upside["turned"][1], "<=", 0.3),
             six=(upside["turned"][0], ">=", 0.5))

# %% [markdown]
# **We now know** that noise works in several places, at one rate; how much it seems to gain depends on whether its rival was stopped in time. Shifts as well: on the test as it is, with wrong labels, nothing of their gain is left once both are stopped in time; with right labels most of their cost is gone after three times as many epochs. On shifted digits they help much. A change of the picture must keep its *label*, and that depends on the task: a cat upside down is a cat, a 6 is a 9.
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
# Back to section 3: what is an average worth? Train four networks on the same pictures, wrong labels and all, each from random weights of its own, and average their *probabilities*.
# We compare one with one and four with four; untreated and with dropout, each stopped at the epoch that was best for *single* networks on the pictures kept aside.

# %%
exercises.predict("08.p7", "Four untreated networks, stopped, averaged, against one with dropout:",
                  ("behind", "within one point", "ahead by more than a point"))

members = 4
shared = Task(*(part.repeat_interleave(members, 0)  # four networks for the same pictures
                for part in (task.x, task.given, task.true)))

def in_groups(networks):
    """Probabilities in the test, (runs, members, N, classes)."""
    return scores_of(networks, x_test).softmax(-1).unflatten(0, (runs, members))

stop_dropout = int(1 + forgetful_curves[:, 3].mean(axis=1).argmax())
groups = {"4 to the end": in_groups(trained(shared)[0]),
          "4 stopped": in_groups(trained(shared, epochs=stop)[0]),
          "4 with dropout": in_groups(trained(shared, Dropout(drop), epochs=stop_dropout)[0])}

# %% [markdown]
# Why should an average be better than its members? For the squared error there is an exact answer (A. Krogh and J. Vedelsby 1995):
#
# $$\text{error of the average} = \text{mean error of the members} - \text{mean squared distance of the members from their average}$$
#
# The squared error saved *is* the disagreement. Are the *points* gained, too, more where the members disagree more? Three more groups to see:
# - the same *first weights*, only the order of the pictures differs;
# - four *thin* networks of section 3;
# - four *snapshots* of one training: let the learning rate fall to nearly 0 and jump up again, and keep the network at the end of each fall.

# %% tags=["ledger:prac-ensembling-snapshots"]
with runtime.seeded(seed):
    alike = Networks(runs * members, (pixels, width, width, classes))
    for weight in alike.weights:
        weight.data = weight.data[::members].repeat_interleave(members, 0)  # one start a run
    train(alike, shared, stop, rate, seed=seed)

cycle, snapshots, repeats = max(epochs // 4, 1), [], []
passed = itertools.count(1)

def sawtooth(epoch):
    """A half cosine from 0.2 down to nearly 0, anew in each cycle."""
    return 0.1 * (1 + math.cos(math.pi * (epoch % cycle + 0.5) / cycle))

def keep(networks):
    if next(passed) % cycle == 0:  # the end of a fall
        snapshots.append(scores_of(networks, x_test).softmax(-1))
        repeats.append(repeated(networks, task)[1])  # of the wrong labels

_ = trained(task, epochs=members * cycle, rate=sawtooth, watch=keep)

# %% tags=["fold"]
groups["one start"] = in_groups(alike)
groups["4 snapshots"] = torch.stack(snapshots, dim=1)
groups["4 thin"] = thin_answers(forgetful, x_test, members, seed).transpose(0, 1)
one, whole, gained_by, apart = {}, {}, {}, {}  # points and disagreement, (runs,) each
for name, answers in groups.items():
    whole[name] = 100 * (answers.mean(1).argmax(-1) == y_test).double().mean(1).numpy()
    gained_by[name], apart[name] = gained(answers, y_test)
    one[name] = whole[name] - gained_by[name]
against_one = whole["4 stopped"] - one["4 with dropout"]
exercises.reveal("08.p7", "behind" if against_one.mean() < -1 else "within one point"
                 if against_one.mean() <= 1 else "ahead by more than a point",
                 f"{against_one.mean():+.1f} points; at the end of training "
                 f"{(whole['4 to the end'] - one['4 with dropout']).mean():+.1f}.")
claims.check("emp-ensemble-2-percent",
             "With wrong labels an average of 4 networks trained to the end gains {end:.1f} points "
             "over its members, of 4 stopped in time {gain:.1f}, of 4 with dropout {drop:.1f}.",
             end=(gained_by["4 to the end"], ">", 0.5), gain=(gained_by["4 stopped"], ">", 1),
             drop=(gained_by["4 with dropout"], ">", 0.5), seeds=seeds)
claims.check("emp-ensemble-2-percent.dropout",
             "One with one, dropout is {one:.1f} points ahead of the stopped network; four with "
             "four {four:.1f}. The average of 4 stopped networks, {short} epochs in all, is "
             "{ahead:+.1f} points from one with dropout, {long} epochs.",
             short=int(members * stop), long=stop_dropout,
             one=(one["4 with dropout"] - one["4 stopped"], ">", 0),
             four=whole["4 with dropout"] - whole["4 stopped"], ahead=(against_one, ">", -2),
             seeds=seeds, on="mean")

# %% tags=["fold"]
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.0), width_ratios=[1, 1.25])
for place, name in enumerate(("4 to the end", "4 stopped", "4 with dropout")):
    colour = TREATED if "dropout" in name else BARE
    for step, values in enumerate((one[name], whole[name])):
        spot = place + 0.4 * (step - 0.5)
        axes[0].bar(spot, values.mean(), 0.37, color=colour, alpha=(0.45, 1)[step])
        axes[0].plot(runs * [spot], values, "o", color="0.1", markersize=3)
axes[0].set_xticks(range(3), ["to the\nend", "stopped", "dropout,\nstopped"], fontsize=12)
axes[0].set(ylabel="right in the test, %", ylim=(0, 100), title="pale: one; full: average of 4")
for name, (x, y) in {"4 to the end": (0.068, 5.2), "one start": (0.014, -1.1), "4 stopped":
                     (0.034, 9.0), "4 with dropout": (0.021, 6.1), "4 snapshots": (0.06, -1.1),
                     "4 thin": (0.08, 12)}.items():
    colour = TREATED if name in ("4 thin", "4 with dropout") else BARE
    marker = {"4 to the end": "s", "4 snapshots": "^"}.get(name, "o")
    axes[1].plot(apart[name], gained_by[name], marker, color=colour, markersize=7)
    axes[1].text(x, y, name, fontsize=12, ha="center",
                 color="#1e6bb8" if colour == TREATED else "#a86300")
axes[1].set(xlabel="disagreement", ylabel="points gained", title="marks: runs", ylim=(-2, 16))
fig.suptitle("Four stopped networks, averaged, reach dropout; four at the end do not")
figures.save(fig, "emp-ensemble-2-percent",
             caption=f"Averages of 4 networks on the same {images} noisy {dataset}, rate {rate:g}; "
                     f"{runs} runs; the end: {epochs} epochs, stopped: {stop}, dropout: "
                     f"{stop_dropout}. Right: mean squared distance of members from their average.",
             alt="Left: stopped networks and networks with dropout both gain by averaging; those "
                 "trained to the end stay below. Right: points gained against disagreement.")

# %% tags=["fold"]
claims.check("emp-ensemble-2-percent.points",
             "4 networks trained to the end disagree {times:.1f} times as much as 4 stopped in "
             "time, and gain {less:.1f} points less; 4 snapshots disagree by {snaps:.3f}, as "
             "against {own:.3f}, and gain {gain:.1f} points.",
             times=(apart["4 to the end"] / apart["4 stopped"], ">", 1.2),
             less=(gained_by["4 stopped"] - gained_by["4 to the end"], ">", 0),
             snaps=apart["4 snapshots"], own=apart["4 stopped"], gain=gained_by["4 snapshots"],
             seeds=seeds, on="mean")
claims.check("emp-ensemble-2-percent.apart",
             "From one start they disagree by {close:.3f} and gain {same:.1f} points, from four by "
             "{own:.3f}, {times:.1f} times as much; four thin ones by {thin:.3f}, and gain "
             "{many:.1f}.", close=apart["one start"], same=gained_by["one start"],
             own=apart["4 stopped"], times=(apart["4 stopped"] / apart["one start"], ">", 1.5),
             thin=apart["4 thin"], many=(gained_by["4 thin"], ">", 5), seeds=seeds)
losses = np.array([averaged(group, y_test)["loss"] for group in groups["4 to the end"]])
off = max(abs(one - whole - apart) for one, whole, apart in
          (split(group, y_test) for answers in groups.values() for group in answers))
claims.check("eq-ensemble-average",
             "To the end: the loss of the average is {whole:.2f}, the mean loss of the members "
             "{one:.2f}, {less:.2f} more. Squared error saved and disagreement differ by {off:.0e}"
             ".", one=losses[:, 0], whole=losses[:, 1],
             less=(losses[:, 0] - losses[:, 1], ">=", 0.1),
             off=(runs * [off], "<=", 1e-12), seeds=seeds, varies=True)
each = 100 * (groups["4 snapshots"].argmax(-1) == y_test).double().mean(-1).numpy()
claims.check("emp-snapshot-ensembles",
             "The average of 4 snapshots is {last:.1f} points better than the last of them, which "
             "repeats {all:.0%} of the wrong labels. The first alone repeats {learnt:.0%} of them, "
             "and is {first:.1f} points better than the average.", all=repeats[-1],
             last=(whole["4 snapshots"] - each[:, -1], ">", 0), learnt=repeats[0],
             first=each[:, 0] - whole["4 snapshots"], seeds=seeds, on="mean")

# %% [markdown]
# So the squared error saved follows the disagreement, and the points need not: networks stopped in time disagree less than networks at the end, and their average gains more. And one early network may be worth more than an average with late ones.
#
# One can also average *views* of a picture: AlexNet took ten crops (four corners, the centre, and all mirrored). ResNet did so for comparisons; for its best results it ran over whole pictures of five sizes. In training it drew one view at random.

# %% tags=["fold", "ledger:err-resnet-224x244"]
cat = data.photos()["chelsea"]  # 300 x 451
claims.quoted("num-resnet-test-scales", "For best results, we adopt the fully-convolutional form "
              "..., and average the scores at multiple scales (images are resized such that the "
              "shorter side is in {224, 256, 384, 480, 640}).", "He et al. 2015, section 3.4")
drawn = [training_view(cat, torch.Generator().manual_seed(lot)) for lot in (seed, seed, seed + 1)]
claims.check("prac-resnet-crops",
             "The same lot gives the same {size} view, {apart:.0e} apart; another lot another, "
             "{other:.0f} of 255 apart.", size=(str(tuple(drawn[0].shape)), "==", "(3, 224, 224)"),
             apart=((drawn[0].double() - drawn[1]).abs().max().item(), "==", 0.0),
             other=((drawn[0].double() - drawn[2]).abs().max().item(), ">", 0))

# %% [markdown]
# **We now know** that averaging four networks of their own starts gains here, and more where they were stopped in time than at the end; then it reaches one network with dropout at this rate, for no more training epochs but four passes in the test. An average of four with dropout is better still.
# **This does not show** that dropout helps *because* it averages; only that an average can be worth as much. Nor does it show what many more networks bring, or another rate.
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
# - 1990: L. Hansen and P. Salamon combine the answers of several neural networks. 1995: A. Krogh and J. Vedelsby show that the gain is the disagreement; C. Bishop, that small noise on the inputs acts as a penalty.
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
# - Overfitting: a gap that opens while wrong labels are learnt by heart. A least-squares fit errs most in the test with just as many parameters as data, where it is very long; with many more, or with a penalty, the test is better again.
# - Dropout strikes out units in training; the rest is scaled by one over the probability to *stay*. At test time nothing is struck out.
# - With wrong labels it gains, with right ones far less; at the same rate it takes longer. Compared at the end it gains far more than against an untreated network with a tuned rate that is stopped in time; from weight decay, tuned in the same way, these runs could not tell it.
# - Its network stands the loss of units better, and comes close to an average of thin networks. At the same rate an average of four untreated networks, stopped in time, reaches one network with dropout; four with dropout are better still.
# - Weights, layers, regions and pixels can be forgotten too. Compared at one rate, with both networks stopped in time, a few points are left, for some kinds none that are clear of chance.
# - An augmentation must keep the label, and that depends on the task. Of squared error an average saves what its members disagree; the points need not follow.

# %% [markdown]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | at test time multiply by the probability of the dropout | by the probability to **stay**, $1 - p$; the same only at 0.5 | [section 2](#2-·-Dropout:-strike-out,-and-scale) |
# | sometimes nothing is multiplied at test time | true for **inverted** dropout only, which has divided in training | [section 2](#2-·-Dropout:-strike-out,-and-scale) |
# | with dropout neurons "more quickly" build up relationships, and specialise | units are **sparser** and prefer classes more; at the same rate learning takes **more** epochs, not fewer | [section 2](#2-·-Dropout:-strike-out,-and-scale); [section 3](#3-·-Inside:-redundancy,-and-an-average-of-networks) |
# | it works because it is an ensemble in one model | it is **close** to an average of thin networks; that this is *why* it works is not shown: at the same rate an average of four untreated networks, stopped in time, is worth as much, of four trained to the end far less | [section 3](#3-·-Inside:-redundancy,-and-an-average-of-networks); [section 5](#5-·-Averaging-on-purpose) |
# | data size ≈ parameter size: we overfit | right **at** that point (without a penalty); with many more parameters the error falls again | [section 1](#1-·-Overfitting,-and-what-the-number-of-parameters-has-to-do-with-it) |
# | weight decay is useful for "generalization as well as regularization" | these two are the same; the paper's point was that it also lowered the **training** error. Here it raised the training loss | [section 1](#1-·-Overfitting,-and-what-the-number-of-parameters-has-to-do-with-it); AlexNet, section 5 |
# | a symptom: 99 to 100 % in training and 50 % in the test | the symptom is the **gap**, not a certain number | first figure |
# | vertical flips and rotations keep the label | **depends on the task**: a turned 6 is a 9 | [section 4](#4-·-Noise-elsewhere:-weights,-layers,-regions,-pictures) |
# | augmentation reduces overfitting | it depends: with wrong labels shifts closed the **gap** and gained at the end, nothing if both are stopped in time; with right ones the gap stayed, and most of what they cost on the test as it is was gone after a longer training. What they gain is a **shifted** test | [section 4](#4-·-Noise-elsewhere:-weights,-layers,-regions,-pictures) |
# | independent models give 2 % extra | it depends on the models: here independent ones gained more where they were stopped in time than at the end; snapshots, or networks from one start, gained less than either | [section 5](#5-·-Averaging-on-purpose) |
# | fractional max-pooling: not commonly used | right; here, with one pass in the test, it gained at the end of training, but not against a network that was stopped in time | [section 4](#4-·-Noise-elsewhere:-weights,-layers,-regions,-pictures) |
# | ResNet's test: ten crops at each of five scales | ten crops for comparisons; for the best results **fully convolutional**, averaged over five scales | ResNet, section 3.4 |
# | random 224x244 patches | **224 × 224** | ResNet, section 3.4 |
#
# ## Sources
#
# - The notes: lectures 000 and 003 on dropout and augmentation, 001 and 002 on AlexNet, 004 on ensembles and regularisation (after CS231n, Stanford 2017).
# - G. Hinton, N. Srivastava, A. Krizhevsky, I. Sutskever and R. Salakhutdinov: Improving neural networks by preventing co-adaptation of feature detectors, 2012 (arXiv:1207.0580). N. Srivastava et al.: Dropout. JMLR 15, 2014.
# - A. Krizhevsky, I. Sutskever and G. Hinton: ImageNet classification with deep convolutional neural networks. NIPS 2012, sections 4 and 5. K. He et al., 2015 (arXiv:1512.03385), section 3.4.
# - L. Wan et al.: Regularization of neural networks using DropConnect. ICML 2013. B. Graham: Fractional max-pooling, 2014 (arXiv:1412.6071). G. Huang et al.: Deep networks with stochastic depth, 2016 (arXiv:1603.09382); Snapshot ensembles, 2017 (arXiv:1704.00109).
# - C. Zhang et al.: Understanding deep learning requires rethinking generalization, 2017 (arXiv:1611.03530). M. Belkin et al.: Reconciling modern machine-learning practice and the classical bias–variance trade-off. PNAS 2019 (arXiv:1812.11118).
# - L. Hansen and P. Salamon: Neural network ensembles. IEEE PAMI 1990. A. Krogh and J. Vedelsby: Neural network ensembles, cross validation, and active learning. NIPS 1994 (printed 1995). C. Bishop: Training with noise is equivalent to Tikhonov regularization. Neural Computation 7, 1995.
