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
# # 22 · Unsupervised learning and GANs
# ### What can be learnt without labels, and how would we know?
#
# The first figure shows real digits and three imitations of them. One imitation comes from a *generative adversarial network*, GAN, the subject of section 4. Beside each row stand the marks that four judges give.
# Odd: the imitation with the best marks has learnt nothing at all. It copies, and adds a little noise. One judge alone finds that out.
#
# **You will be able to**
# - compress pictures with principal components and with an autoencoder, and say when the two are the same;
# - group pictures, find the odd one out, and say how good that is against chance;
# - train a restricted Boltzmann machine, and say what pretraining with it was good for;
# - read a GAN's loop, and see when it fails;
# - judge samples, and say what each judge does not see.
#
# **You need** lesson 03 (gradients), lesson 06 (first weights), lesson 07 (BatchNorm) and lesson 09 (Adam).

# %% [markdown]
# **Words.** *Unsupervised*: the training sees pictures $x$ without their labels. Labels are used in this lesson to *judge*, to train the judges, and to set up comparisons: evenly many copies of each digit, one digit that is usual, and in section 3 a training with few labels. A *code* is the short list of numbers a picture is compressed to. To *sample* is to make a new picture at random. A *seed* fixes all random numbers of a training.
#
# **It costs** about 40 seconds of one processor core, no network connection, no GPU. Claims (✓) are made for the parameters below; with others the lesson shows what it measures and requires nothing.

# %% tags=["parameters"]
seed: int = 100  # the first of the seeds; at least 0
runs: int = 3  # seeds of each training; 2 to 10
dataset: str = "digits"  # pictures; one of digits, mnist, fashion_mnist
image_size: int = 8  # their side in pixels; 8 to 28
pictures: int = 1347  # to learn from, at most; 500 to 60000
samples: int = 450  # pictures in each row that is judged, at most; 100 to 5000
code: int = 4  # numbers that a picture is compressed to; 2 to 32
gan_steps: int = 1300  # of training for the GAN of digits; 50 to 200000
ring_steps: int = 1200  # and for the GAN of the ring; 50 to 50000
labelled: int = 100  # labels for the nets that are pretrained; 30 to 500

# %% tags=["imports", "fold"]
import copy
import math
from functools import cache
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F

from cnncourse import claims, data, exercises, figures, plots, runtime, training, widgets

# %% tags=["fold"]
runtime.start(seed=seed, device="cpu")  # small steps one after the other: no work for a GPU
figures.use_style()
everyone = list(range(seed, seed + runs))
BLUE, ORANGE, GREEN, RED = figures.CYCLE
INK, MUTED = figures.COLOUR["ink"], figures.COLOUR["muted"]

# %% [markdown]
# Scikit-learn's digits: 1,347 to learn from and 450 that no training sees, drawn at random, but about 45 of each digit. The same hands wrote both. Numbers go from −1 (paper) to 1 (ink), and each picture is one row of 64 of them.

# %%
learnt, fresh = (data.load(dataset, part, size=image_size) for part in (True, False))
y, y_fresh = learnt.labels[:pictures], fresh.labels
x, x_fresh = (part.images.flatten(1) / 127.5 - 1 for part in (learnt[:pictures], fresh))
pixels = x.shape[1]
many = min(samples, len(x), len(x_fresh))
print(f"{len(x)} pictures to learn from, {len(x_fresh)} fresh ones, {pixels} pixels each")

# %% tags=["define", "fold"]
class Layer(nn.Module):
    """S linear or BatchNorm layers side by side: x (S, N, inputs) gives (S, N, outputs).

    BatchNorm uses the mean and spread of the batch it is given, always.
    """

    def __init__(self, layers):
        super().__init__()
        self.norm = isinstance(layers[0], nn.BatchNorm1d)
        weights = [layer.weight if self.norm else layer.weight.T for layer in layers]
        self.weight = nn.Parameter(torch.stack(weights).detach().clone())
        self.bias = nn.Parameter(torch.stack([layer.bias for layer in layers]).detach()[:, None])

    def forward(self, x):
        if not self.norm:
            return torch.baddbmm(self.bias, x, self.weight)
        spread, mean = torch.var_mean(x, dim=1, keepdim=True, correction=0)
        return (x - mean) * (torch.rsqrt(spread + 1e-5) * self.weight[:, None]) + self.bias

def side_by_side(nets):
    """Networks of one form, nn.Sequential, as one."""
    return nn.Sequential(*[layers[0] if not list(layers[0].parameters()) else Layer(layers)
                           for layers in zip(*nets, strict=True)])

def together(make):
    """The networks that `make` builds, one for each seed of `everyone`, side by side."""
    nets = []
    for number in everyone:
        with runtime.seeded(number):
            nets.append(make())
    return side_by_side(nets)

def adam(net, rate, betas=(0.9, 0.999)):
    return torch.optim.Adam(net.parameters(), rate, betas=betas, fused=True)  # fused: faster

def update(optimiser, loss):
    """One step down the slope of the loss."""
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()

# %% [markdown]
# Here is the GAN; section 4 explains it. A *generator* G turns 16 random numbers into a picture. A *discriminator* D gives a picture one score: high if it takes it for real. They train in turns, D to tell real from made, G to be taken for real. Two common habits: what D sees gets a little noise (`blur`), and the samples come from a G whose weights are averaged over the last steps. They are not tested here.
#
# (The networks of this lesson are small, so for most of them one for each seed is trained *at once*: tensors have one more dimension in front, S seeds, N pictures, and then the numbers of a picture. The folded `together(make)` builds what `make` describes once for each seed, side by side.)

# %% tags=["define", "ledger:arch-gan"]
def generator():
    return nn.Sequential(nn.Linear(16, 128), nn.BatchNorm1d(128), nn.ReLU(),
                         nn.Linear(128, 128), nn.BatchNorm1d(128), nn.ReLU(),
                         nn.Linear(128, pixels), nn.Tanh())  # -1 to 1, as the pictures

def discriminator(inputs=None, width=128):
    return nn.Sequential(nn.Linear(inputs or pixels, width), nn.LeakyReLU(0.2),
                         nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 1))

# %% tags=["define", "ledger:prac-gan-alternation"]
def d_loss(on_real, on_made):
    """Cross-entropy of D from its scores (S, N, 1); its chance for "real" is sigmoid(score)."""
    return F.softplus(-on_real).mean((1, 2)) + F.softplus(on_made).mean((1, 2))  # (S,)

def g_loss(on_made):
    """G wants "real" for what it made: -ln sigmoid(score) = softplus(-score)."""
    return F.softplus(-on_made).mean((1, 2))

def alternate(G, D, real, noise, rate, steps, blur=0.3, beta=0.0, d_steps=1, g_steps=1,
              watch=lambda *seen: None):
    """Train D and G in turns; real() and noise() give batches (S, N, ...)."""
    for_d, for_g = adam(D, rate, (beta, 0.999)), adam(G, rate, (beta, 0.999))
    for step in range(steps):
        for _ in range(d_steps):
            on_real, on_made = D(blurred(real(), blur)), D(blurred(G(noise()).detach(), blur))
            update(for_d, d_loss(on_real, on_made).sum())
        for _ in range(g_steps):
            update(for_g, g_loss(D(blurred(G(noise()), blur))).sum())
        watch(step, on_real.detach(), on_made.detach())

# %% tags=["define", "fold"]
def blurred(x, spread):
    """With a little noise: D sees nothing, real or made, without it."""
    return x + spread * torch.randn_like(x)

def train_gan(G, D, real, numbers, steps, rate, batch, keep=(), averaged=True, **turns):
    """`alternate` on the rows `real`; what was seen on the way, and G with averaged weights.

    numbers: how many random numbers G reads. keep: the steps after which samples are kept.
    """
    seeds, average = len(everyone), copy.deepcopy(G)
    seen = SimpleNamespace(steps=[], real=[], made=[], loss=[], kept={}, G=average, D=D)

    def batch_of_real():
        return real[torch.randint(len(real), (seeds, batch))]

    def batch_of_noise():
        return torch.randn(seeds, batch, numbers)

    def watch(step, on_real, on_made):
        with torch.no_grad():
            share = max(0.005, 50 / (step + 50)) if averaged else 1.0  # of the last steps
            torch._foreach_lerp_(list(average.parameters()), list(G.parameters()), share)
        if step % 20 == 0:
            seen.steps.append(step)
            seen.real.append(on_real.sigmoid().mean((1, 2)))
            seen.made.append(on_made.sigmoid().mean((1, 2)))
            seen.loss.append(d_loss(on_real, on_made))
        if step + 1 in keep:
            seen.kept[step + 1] = sampled(average, numbers)

    with runtime.seeded(everyone[0]):
        alternate(G, D, batch_of_real, batch_of_noise, rate, steps, watch=watch, **turns)
    for name in ("real", "made", "loss"):
        setattr(seen, name, torch.stack(getattr(seen, name)))  # (records, S)
    return seen

def sampled(G, numbers, count=None):
    """(S, count, ...) from random numbers that no training has seen."""
    stream = torch.Generator().manual_seed(10**6)
    with torch.no_grad():
        return G(torch.randn(len(everyone), count or many, numbers, generator=stream))

# %%
moments = sorted({20, 100, 400, gan_steps} & set(range(1, gan_steps + 1)))
gan = train_gan(together(generator), together(discriminator), x, numbers=16, steps=gan_steps,
                rate=0.001, batch=32, keep=moments)

# %% [markdown]
# The two rivals need no training. One draws from the *Gaussian* that has the mean and the covariances of the learnt pictures. The other takes learnt pictures and adds noise; it takes them in proportion of the ten digits, as the fresh ones are.

# %%
stream = torch.Generator().manual_seed(seed)
lengths, directions = torch.linalg.eigh(torch.cov(x.T))
loose = torch.randn(runs, many, pixels, generator=stream) * lengths.clamp(min=0).sqrt()
order = torch.rand(runs, len(x), generator=stream).argsort(dim=1)  # as shuffled cards
order = order.gather(1, y[order].argsort(dim=1, stable=True))  # now digit by digit
order = order[:, torch.linspace(0, len(x) - 1, many).long()]  # and evenly many of each

def copies(spread):
    return (x[order] + spread * torch.randn(runs, many, pixels, generator=stream)).clamp(-1, 1)

rows = {"real, fresh": x_fresh[None, :many], "GAN": gan.kept[gan_steps],
        "Gaussian": (x.mean(0) + loose @ directions.T).clamp(-1, 1),
        "copies, noise 0.05": copies(0.05)}

# %% [markdown]
# Four judges. The first three use a classifier that was trained on the learnt pictures *with* their labels (three of them, means are shown):
# - **sure**: the share of pictures that it gives a class with a chance above 0.9;
# - **FID**, *Fréchet distance*: how far the 64 numbers of its last layer but one are, in mean and covariance, from those of the learnt pictures;
# - **rarest class**: the share of the digit that comes least often; the fresh pictures are split evenly over the digits, and so are the copies. Drawing at random has less, by chance alone;
# - **nearest**: the distance in pixels to the nearest learnt picture, median.

# %% tags=["define"]
def frechet(a, b):
    """Squared distance between the Gaussians with the means and covariances of a and b, (N, F)."""
    a, b = a.double(), b.double()
    one, other = torch.cov(a.T), torch.cov(b.T)
    roots = torch.linalg.eigvals(one @ other).real.clamp(min=0).sqrt()  # of sqrt(one @ other)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + one.trace() + other.trace() - 2 * roots.sum()

def nearest(rows, learnt):
    """The distance (N,) of each row to the nearest learnt one."""
    return torch.cdist(rows, learnt).min(dim=1).values

def classifier():
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 128), nn.ReLU(),
                         nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))

# %% tags=["fold"]
judges = training.repeat(classifier, (x, y), (x_fresh, y_fresh), seeds=everyone,
                         optimizer=lambda p: torch.optim.Adam(p, 0.002), epochs=12,
                         batch_size=64, progress=False)

def marks(row):
    """sure, FID, rarest class, nearest of one set of pictures (N, pixels)."""
    each = []
    with torch.no_grad():
        for judge in judges.models:
            judge.eval()
            features = judge[:-1](row)
            chances = judge[-1](features).softmax(1)
            counts = torch.bincount(chances.argmax(1), minlength=10)
            each.append([(chances.max(1).values > 0.9).float().mean().item(),
                         frechet(features, judge[:-1](x)).item(), counts.min().item() / len(row)])
    return [*np.mean(each, axis=0), nearest(row, x).median().item()]

JUDGES = ("sure", "FID", "rarest class", "nearest")
marked = {name: np.array([marks(row) for row in sets]) for name, sets in rows.items()}  # (S, 4)

# %% tags=["nbval-varies", "fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.0))
shown = torch.cat([sets[0, ::many // 7][:7] for sets in rows.values()])
plots.image_grid(ax, shown.reshape(-1, image_size, image_size), columns=7, limits=(-1, 1), gap=0.08)
ax.set(xlim=(-2.6, 15.3), ylim=(-4.9, 0.65))
FORMATS = "{:.0%}", "{:.1f}", "{:.1%}", "{:.2f}"
for column, (judge, form) in enumerate(zip(JUDGES, FORMATS, strict=True)):
    place = 8.6 + 1.9 * column
    ax.text(place, 0.2, judge, ha="center", fontsize=11)
    true = marked["real, fresh"][0, column]
    off = {name: abs(values[:, column].mean() - true) for name, values in marked.items()
           if name != "real, fresh"}
    for line, (name, values) in enumerate(marked.items()):
        best = name == min(off, key=off.get)
        ax.text(place, -1.08 * line - 0.5, form.format(values[:, column].mean()), ha="center",
                va="center", fontsize=13, color=BLUE if best else INK,
                fontweight="bold" if best else "normal")
for line, name in enumerate(rows):
    ax.text(-0.15, -1.08 * line - 0.5, name.replace(", ", ",\n"), ha="right", va="center",
            fontsize=11)
ax.text(15.2, -4.75, "bold: of the three imitations, nearest to the mark of the fresh real "
        "pictures", fontsize=10.5, ha="right", color=BLUE)
ax.set_title("Copies come nearest to the real marks, but for their distance to what was learnt",
             fontsize=12.5)
figures.save(fig, "arch-gan",
             caption=f"Real digits that no training saw, and three imitations, {many} of each with "
                     f"four marks (means of {runs} seeds; GAN after {gan_steps} steps).",
             alt="Four rows of digits with their marks. The copies have the best marks of the "
                 "imitations in three columns; in the last, nearest, they are far below the real "
                 "pictures and the GAN is closest to them.")

# %% tags=["nbval-varies", "fold"]
def mark(name, judge):
    """The marks of one judge, one a seed; a single set of pictures repeats."""
    values = marked[name][:, JUDGES.index(judge)]
    return np.repeat(values, runs).tolist() if len(values) == 1 else values.tolist()

claims.check("arch-gan.marks",
             "Sure: {copies:.0%} of the copies, {gan:.0%} of the GAN's and {gauss:.0%} of the "
             "Gaussian's pictures, {real:.0%} of fresh ones.", seeds=runs, on="every",
             copies=(mark("copies, noise 0.05", "sure"), ">=", 0.8),
             gan=(mark("GAN", "sure"), "in", (0.5, 0.8)),
             gauss=(mark("Gaussian", "sure"), "<=", 0.5), real=mark("real, fresh", "sure")[0])
claims.check("arch-gan.fid",
             "After {steps} steps the GAN's FID is {gan:.1f}; the Gaussian's is {gauss:.1f}, that "
             "of fresh real pictures {real:.1f}.", steps=gan_steps, seeds=runs, on="every",
             gan=(mark("GAN", "FID"), "<=", 0.5 * marked["Gaussian"][:, 1].mean()),
             gauss=marked["Gaussian"][:, 1].mean(), real=marked["real, fresh"][0, 1])
claims.check("arch-gan.nearest",
             "The median distance to the nearest learnt picture is {copies:.2f} for copies, "
             "{gan:.2f} for the GAN, and {real:.2f} for fresh real pictures.", seeds=runs,
             on="every", copies=(mark("copies, noise 0.05", "nearest"), "<=", 0.7),
             gan=(mark("GAN", "nearest"), ">=", 2.0), real=mark("real, fresh", "nearest")[0])
at_random = np.random.default_rng(seed).multinomial(many, np.bincount(y) / len(y), 1000)
claims.check("arch-gan.rarest",
             "In the rarest class are {gan:.1%} of the GAN's pictures; of {many} real ones drawn "
             "at random it would be {chance:.1%}, and it is {real:.1%} of the fresh ones, split "
             "evenly.", many=many, seeds=runs, on="every",
             gan=(mark("GAN", "rarest class"), ">=", 0.02),
             chance=at_random.min(1).mean() / many, real=mark("real, fresh", "rarest class")[0])

# %% [markdown]
# So a good mark alone proves nothing; section 5 comes back to the judges. First: what is there to learn without labels at all? Fewer numbers (1), groups (2), chances (3), and pictures (4).
#
# ## 1 · Fewer numbers
#
# Compress a picture to a few numbers, its code, and back again. What is lost? *Principal components*, PCA, choose the flat space of `code` dimensions in which the pictures lose least squared distance. The singular value decomposition gives its directions, the most important first.

# %%
mean = x.mean(0)
components = torch.linalg.svd(x - mean, full_matrices=False).Vh[:code]  # (code, pixels)

def through_pca(rows):
    return (rows - mean) @ components.T @ components + mean

def error(rebuilt, rows):
    """Mean squared error of a pixel."""
    return ((rebuilt - rows) ** 2).mean().item()

print(f"{code} numbers: {error(through_pca(x_fresh), x_fresh):.4f}, "
      f"none: {error(mean.expand_as(x_fresh), x_fresh):.4f}")

# %% [markdown]
# An *autoencoder* is a network that learns to return its input through a narrow layer. Take the simplest one: two linear layers, pixels → code → pixels, nothing else. `LBFGS` is an optimiser that goes down to the very bottom of small problems.

# %% tags=["define", "fold"]
def linear_autoencoder(rows, width, number, iterations=400):
    """Two linear layers, trained on all rows at once in double precision."""
    with runtime.seeded(number):
        net = nn.Sequential(nn.Linear(rows.shape[1], width), nn.Linear(width, rows.shape[1]))
    rows, net = rows.double(), net.double()
    optimiser = torch.optim.LBFGS(net.parameters(), max_iter=iterations, history_size=20,
                                  line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def loss():
        optimiser.zero_grad()
        value = ((net(rows) - rows) ** 2).mean()
        value.backward()
        return value

    optimiser.step(loss)
    return net

def angle(one, other):
    """The largest angle between two spaces, in degrees; their directions are the rows."""
    one, other = (torch.linalg.qr(rows.double().T).Q for rows in (one, other))
    outside = one - other @ (other.T @ one)  # what of one lies outside of the other
    return math.degrees(math.asin(min(1.0, torch.linalg.matrix_norm(outside, 2).item())))

# %% tags=["nbval-varies", "fold"]
linear = [linear_autoencoder(x, code, number) for number in everyone]
with torch.no_grad():
    of_linear = [error(net(x_fresh.double()), x_fresh) for net in linear]
of_pca = error(through_pca(x_fresh), x_fresh)
claims.check("eq-autoencoder",
             "The space that the linear autoencoder's second layer spans and that of the first "
             "{code} components differ by at most {angle:.2f} degrees; a space drawn at random "
             "and the components' by {chance:.0f}.", code=code, seeds=runs, on="every",
             angle=([angle(net[1].weight.detach().T, components) for net in linear], "<=", 5.0),
             chance=angle(torch.randn(code, pixels, generator=stream), components))
claims.check("eq-autoencoder.error",
             "Squared error a pixel on fresh pictures: {linear:.4f} for the linear autoencoder, "
             "{pca:.4f} for PCA.", linear=(of_linear, "~", of_pca, 0.001), pca=of_pca, seeds=runs,
             on="every")

# %% [markdown]
# The same space: trained on squared error, and to the bottom, the linear autoencoder finds PCA's space. (Not its weights: any mixture of the directions does as well in the code. And the space is the only best one if the pictures vary more along its last direction than along the next one, as here. It is slow to the bottom: of ten other sets of seeds, in as many iterations, five held the 5 degrees and all held PCA's error.) Now a *deep* autoencoder: a layer of 128 units with ReLU before the code and another after it. And the same one with the two ReLUs taken out.

# %% tags=["define"]
def deep(middle=nn.ReLU, width=None):
    return nn.Sequential(nn.Linear(pixels, 128), middle(), nn.Linear(128, width or code),
                         nn.Linear(width or code, 128), middle(), nn.Linear(128, pixels))

def train_to_return(net, spoilt=0.0, steps=700, rate=0.003):
    """The net learns to return the clean rows; `spoilt` is the noise on what it reads."""
    optimiser = adam(net, rate)
    with runtime.seeded(everyone[0]):
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = rate * (1 - step / steps)
            batch = x[torch.randint(len(x), (runs, 64))]
            made = net(batch + spoilt * torch.randn_like(batch))
            update(optimiser, ((made - batch) ** 2).mean((1, 2)).sum())
    return net

# %%
exercises.predict("22.p1", "The deep autoencoder without its ReLUs, four linear layers: its error "
                  "on fresh pictures, against PCA with as long a code?",
                  ("much lower", "nearly the same", "much higher"))

def errors(net, read=x_fresh):
    """One a seed, against the clean fresh pictures."""
    with torch.no_grad():
        return [error(made, x_fresh) for made in net(read.expand(runs, -1, -1))]

curved = train_to_return(together(deep))
straight = train_to_return(together(lambda: deep(middle=nn.Identity)))

# %% tags=["nbval-varies", "fold"]
of_curved, of_straight = errors(curved), errors(straight)
ratio = np.mean(of_straight) / of_pca
exercises.reveal("22.p1", "much lower" if ratio < 0.8 else "much higher" if ratio > 1.25
                 else "nearly the same", f"It is {ratio:.2f} times PCA's.")
fig, (ax, shown) = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.0), width_ratios=(1, 1.1))
plots.bars(ax, {"PCA": of_pca, "linear": of_linear, "deep,\nno ReLU": of_straight,
                "deep": of_curved}, colours={"deep": BLUE, "PCA": MUTED, "linear": ORANGE,
                                             "deep,\nno ReLU": ORANGE}, format="{:.3f}")
ax.set_ylabel("squared error of a fresh pixel")
with torch.no_grad():
    lines = [x_fresh[:6], through_pca(x_fresh[:6]), curved(x_fresh[:6].expand(runs, -1, -1))[0]]
plots.image_grid(shown, torch.cat(lines).reshape(-1, image_size, image_size), columns=6,
                 limits=(-1, 1), gap=0.08)
for line, name in enumerate(("real", "PCA", "deep")):
    shown.text(-0.15, -(line + 0.47) * 1.08, name, ha="right", va="center", fontsize=12)
fig.suptitle(f"With {code} numbers a picture, depth gains on PCA only with a bend in it",
             fontsize=13, x=0.01, ha="left")
figures.save(fig, "eq-autoencoder",
             caption=f"Left: error of compressing fresh digits to {code} numbers and back; "
                     f"bars: mean of {runs} seeds, lines: lowest and highest. Right: six of them.",
             alt="Three bars of nearly equal height, for PCA, the linear and the deep autoencoder "
                 "without ReLU, and a much lower one for the deep autoencoder with ReLU.")
claims.check("arch-autoencoders",
             "On fresh pictures the deep autoencoder has {curved:.2f} of PCA's error; without its "
             "ReLUs {straight:.2f}.", seeds=runs, on="every",
             curved=([value / of_pca for value in of_curved], "<=", 0.8),
             straight=([value / of_pca for value in of_straight], "in", (0.97, 1.1)))

# %% [markdown]
# The bend is the reason: with it taken out, the same depth and width gain nothing. (Layers without a bend are one linear map, and on the learnt pictures none through so short a code loses less than PCA.)
#
# A *denoising* autoencoder reads a spoilt picture and must return the clean one. Here a pixel gets noise of spread 1, half of the way from paper to ink. Three rivals: PCA, with its few numbers; the very same network, trained without noise; and the best linear map for this very task. That map follows from the covariances $C$ of the learnt pictures: the noise adds 1 to each pixel's variance, and the map is $(C + I)^{-1} C$.

# %%
denoiser = train_to_return(together(lambda: deep(width=32)), spoilt=1.0)
unspoilt = train_to_return(together(lambda: deep(width=32)))
with runtime.seeded(seed):
    spoilt_fresh = x_fresh + torch.randn_like(x_fresh)
C = torch.cov(x.T)  # (pixels, pixels)
straight_map = torch.linalg.solve(C + torch.eye(pixels), C)
cleaned = (spoilt_fresh - mean) @ straight_map + mean

# %% tags=["nbval-varies", "fold"]
of_denoiser, of_plain = errors(denoiser, spoilt_fresh), errors(unspoilt, spoilt_fresh)
of_mean = error(mean.expand_as(x_fresh), x_fresh)
claims.check("arch-autoencoders.denoising",
             "Squared error to the clean fresh pictures: {denoiser:.3f} for the denoising "
             "autoencoder, {linear:.3f} for the best linear map, {pca:.3f} for PCA, {plain:.3f} "
             "for the same network trained without noise, {mean:.3f} for the mean picture, "
             "{nothing:.2f} for doing nothing.", mean=of_mean,
             denoiser=(of_denoiser, "<=", 0.95 * error(cleaned, x_fresh)),
             plain=(of_plain, ">=", of_mean),
             linear=error(cleaned, x_fresh), pca=error(through_pca(spoilt_fresh), x_fresh),
             nothing=error(spoilt_fresh, x_fresh), seeds=runs, on="every")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.5))
with torch.no_grad():
    lines = {"spoilt": spoilt_fresh[:10],
             f"best linear\nmap, {error(cleaned, x_fresh):.3f}": cleaned[:10],
             f"denoising,\n{np.mean(of_denoiser):.3f}":
                 denoiser(spoilt_fresh[:10].expand(runs, -1, -1))[0], "real": x_fresh[:10]}
plots.image_grid(ax, torch.cat(list(lines.values())).reshape(-1, image_size, image_size),
                 columns=10, limits=(-1, 1), gap=0.08)
for line, name in enumerate(lines):
    ax.text(-0.15, -(line + 0.47) * 1.08, name, ha="right", va="center", fontsize=12)
fig.suptitle("The denoising autoencoder comes nearer to the real digits than the best linear map",
             fontsize=13, x=0.01, ha="left")
figures.save(fig, "arch-autoencoders",
             caption="Ten fresh digits with noise of spread 1 on every pixel, what two cleaners "
                     "make of them, and the digits themselves. Numbers: squared error of a pixel, "
                     "all fresh digits.",
             alt="Noisy digits; the linear map's are grey and smeared, the denoising autoencoder's "
                 "are somewhat clearer; the real ones stand below.")

# %% [markdown]
# **We now know** that a linear autoencoder finds PCA's space, and that a bend makes the deep one better. The denoiser owes its cleaning to the noise in its training: without it the same network does worse than the mean picture for everything.
# **This does not show** that the deep autoencoder's code is good for anything else, or that with a longer code the bend would gain as much.
#
# **Exercise 22.1.** Write PCA: learn mean and `k` directions from `learnt` (N, D), and return `rows` (M, D) compressed to k numbers and rebuilt. NumPy arrays; `np.linalg.svd(a, full_matrices=False)` returns U, the lengths, and the directions as *rows*.

# %%
def rebuilt(rows, learnt, k):
    """rows, compressed to k numbers each and back."""
    ...

exercises.check("22.1", rebuilt)

# %% [markdown]
# ## 2 · Groups, and the odd one out
#
# *k-means* looks for k centres. In turns it gives each picture to its nearest centre, and moves each centre to the mean of its pictures.

# %% tags=["define", "ledger:eq-clustering-anomaly"]
def k_means(rows, k, stream, turns=25):
    """The group of each row (N,), and the centres (k, D)."""
    centres = rows[torch.randperm(len(rows), generator=stream)[:k]]
    for _ in range(turns):
        group = torch.cdist(rows, centres).argmin(dim=1)
        for each in group.unique():
            centres[each] = rows[group == each].mean(dim=0)
    return group, centres

# %% [markdown]
# How would we know that the groups mean something? Give each group the label that most of its pictures have; the *purity* is the share of pictures whose label is that of their group. It rises with k by itself: with as many groups as pictures it is 1. So the yardstick is the purity of the same groups when the labels are shuffled.

# %%
def purity(group, labels):
    counts = torch.zeros(int(group.max()) + 1, 10)
    counts.index_put_((group, labels), torch.tensor(1.0), accumulate=True)
    return counts.max(dim=1).values.sum().item() / len(labels)

sizes, part, part_labels = (5, 10, 20, 50), x[:2000], y[:2000]
pure, by_chance = [], []  # (S, sizes)
for number in everyone:
    stream = torch.Generator().manual_seed(number)
    groups = [k_means(part, k, stream) for k in sizes]
    shuffled = part_labels[torch.randperm(len(part), generator=stream)]
    pure.append([purity(group, part_labels) for group, _ in groups])
    by_chance.append([purity(group, shuffled) for group, _ in groups])

# %% [markdown]
# *Anomaly detection*: learn what is usual, then ask of each new picture how badly it fits. Here "usual" is one digit; PCA with 8 components learns its pictures, and the error of a fresh picture is its oddness. The mark is the *AUROC*: the chance that an odd picture gets a larger error than a usual one. Guessing has 0.5.
#
# We turn the task round as well: nine digits are usual, and the tenth is odd.

# %%
def oddness(usual, rows, k=8):
    """Squared distance (M,) of each row to the space of k components of the usual ones."""
    centre = usual.mean(0)
    axes = torch.linalg.svd(usual - centre, full_matrices=False).Vh[:k]
    away = rows - centre
    return ((away - away @ axes.T @ axes) ** 2).sum(dim=1)

one_usual, nine_usual = [], []
for digit in range(10):
    odd = y_fresh != digit
    one_usual.append(roc_auc_score(odd, oddness(x[y == digit], x_fresh)))
    nine_usual.append(roc_auc_score(~odd, oddness(x[y != digit], x_fresh)))

# %% tags=["fold"]
fig, (left, right) = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.0), layout="constrained")
for values, name, colour, gap in ((pure, "k-means", BLUE, -0.09),
                                  (by_chance, "labels shuffled", MUTED, 0.04)):
    values = np.array(values)
    left.fill_between(sizes, values.min(0), values.max(0), color=colour, alpha=0.25, linewidth=0)
    left.plot(sizes, values.mean(0), "o-", color=colour)
    left.text(48, values.mean(0)[-1] + gap, name, color=colour, ha="right", fontsize=12)
left.set(xlabel="groups", ylabel="purity", ylim=(0, 1.02), xticks=sizes)
for digit in range(10):
    lift = 0.1 + 0.11 * (digit % 3)
    for height, values, colour in ((1, one_usual, BLUE), (0, nine_usual, ORANGE)):
        right.plot(values[digit], height, "o", color=colour)
    right.text(nine_usual[digit], lift, learnt.classes[digit][:2], fontsize=11, ha="center")
right.axvline(0.5, color=MUTED, linestyle=":")
right.text(0.51, -0.42, "guessing", fontsize=12)
right.set(xlabel="AUROC", ylim=(-0.5, 1.6), xlim=(0.45, 1.03), yticks=[0, 1],
          yticklabels=["nine\nusual", "one\nusual"])
fig.suptitle("Groups far purer than chance; the odd one is easy to find only among few usual ones",
             fontsize=12.5, x=0.01, ha="left")
figures.save(fig, "eq-clustering-anomaly",
             caption=f"Left: purity of k-means on the learnt digits ({runs} seeds, band: lowest to "
                     "highest), against shuffled labels. Right: how well the error of PCA (8 "
                     "components) tells odd fresh digits from usual ones; numbers: the digit "
                     "that is odd among nine.",
             alt="Purity rises from one half to above nine tenths, with shuffled labels from a "
                 "tenth to two tenths. AUROC lies near one where one digit is usual, and between "
                 "0.7 and one where nine are.")

# %% tags=["fold"]
claims.check("eq-clustering-anomaly.purity",
             "Ten groups have a purity of {purity:.2f}; with shuffled labels {chance:.2f}.",
             purity=([values[1] for values in pure], ">=", 0.55), seeds=runs, on="every",
             chance=([values[1] for values in by_chance], "<=", 0.25))
claims.check("eq-clustering-anomaly.auroc",
             "With one usual digit the AUROC is {one:.3f}, mean of the ten digits (lowest "
             "{low:.3f}); with nine usual ones {nine:.3f} (lowest {least:.3f}).",
             one=(float(np.mean(one_usual)), ">=", 0.98), low=(min(one_usual), ">=", 0.95),
             nine=(float(np.mean(nine_usual)), "<=", 0.92), least=min(nine_usual))

# %% [markdown]
# **We now know** that groups found without labels go along with the digits, and that "odd" depends on what is usual.
# **This does not show** that ten is the right number of groups. Without labels nobody tells k-means that; and the seeds differ. Nor does it show how well another detector, or another number of components, finds the odd one among nine.
#
# **Exercise 22.2.** Write the purity for NumPy arrays `groups` (N,) and `labels` (N,), both whole numbers from 0. Some groups may be empty.

# %%
def purity_of(groups, labels):
    """The share of rows whose label is the most frequent one of their group."""
    ...

exercises.check("22.2", purity_of)

# %% [markdown]
# ## 3 · Chances: the restricted Boltzmann machine
#
# So far nothing could *sample*. A *restricted Boltzmann machine*, RBM, gives every picture a chance. It has visible units $v$, the pixels, and hidden units $h$; all are 0 or 1. Each pair of states has an energy, and low energy is likely:
#
# $$E(v, h) = -b \cdot v - c \cdot h - v W h^T, \qquad p(v, h) = e^{-E(v, h)} / Z$$
#
# $Z$ is the sum of $e^{-E}$ over all states, so that the chances sum to 1. *Restricted*: no weights among the visible units, none among the hidden ones. So, given one side, the units of the other are independent:
#
# $$p(h = 1 \mid v) = \sigma(c + v W), \qquad p(v = 1 \mid h) = \sigma(b + h W^T)$$
#
# with σ the sigmoid. To draw one side from the other and back is a *Gibbs step*.
#
# The slope of the log-likelihood (the mean $\ln p(v)$ of the data) by $W$ is a difference: the mean of $v^T h$ as the data have it, minus its mean as the *model* has it ($v$ and $h$ are rows). The second needs a sum over all states. *Contrastive divergence*, CD-1, takes what one Gibbs step leads to instead.

# %% tags=["define", "ledger:eq-rbm-cd1"]
def cd1(v, W, b, c, stream):
    """The step of contrastive divergence for W, b, c; v (N, visible) holds zeros and ones."""
    h = torch.sigmoid(c + v @ W)  # chances, (N, hidden)
    drawn = torch.bernoulli(h, generator=stream)
    v1 = torch.bernoulli(torch.sigmoid(b + drawn @ W.T), generator=stream)  # the model's answer
    h1 = torch.sigmoid(c + v1 @ W)
    return (v.T @ h - v1.T @ h1) / len(v), (v - v1).mean(0), (h - h1).mean(0)

@cache
def hidden_states(units):
    """All states of hidden units, zeros and ones: (2^units, units)."""
    return torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * units)

def log_likelihood(v, W, b, c):
    """The mean ln p(v), exact: the sum over all hidden states is written out."""
    states = hidden_states(len(c)).to(W)  # (2^hidden, hidden)
    log_z = torch.logsumexp(states @ c + F.softplus(b + states @ W.T).sum(1), dim=0)
    return (v @ b + F.softplus(c + v @ W).sum(1)).mean() - log_z

# %% [markdown]
# A small RBM can be summed exactly: 16 pixels (the digits on 4×4, ink or no ink) and 8 hidden units. So we can ask CD-1 how good its step is. Beside it we train the same RBM with the true gradient, at the same rate, from the same start.

# %% tags=["fold"]
small = (F.adaptive_avg_pool2d(x.reshape(-1, 1, image_size, image_size), 4).flatten(1) > 0).float()
small = small[:2000]

def train_rbm(number, exact, steps=1000, rate=0.3):
    """Log-likelihood of all pictures, likeness of CD-1's step and of 50 to the gradient."""
    stream, way = torch.Generator().manual_seed(number), []
    W, b, c = 0.1 * torch.randn(16, 8, generator=stream), torch.zeros(16), torch.zeros(8)
    for step in range(steps):
        batch = small[torch.randint(len(small), (64,), generator=stream)]
        guess = cd1(batch, W, b, c, stream)
        if exact or step % 50 == 0:
            weights = [each.clone().requires_grad_() for each in (W, b, c)]
            slopes = torch.autograd.grad(log_likelihood(batch, *weights), weights)
        if step % 50 == 0:
            often = cd1(batch.repeat(50, 1), W, b, c, stream)  # the mean of 50 steps
            one, mean_of_50, slope = (torch.cat([each.flatten() for each in three])
                                      for three in (guess, often, slopes))
            alike = [F.cosine_similarity(each, slope, dim=0).item() for each in (one, mean_of_50)]
            way.append((log_likelihood(small, W, b, c).item(), *alike))
        W, b, c = [each + rate * way_up for each, way_up in
                   zip((W, b, c), slopes if exact else guess, strict=True)]
    return np.array(way)  # (records, 3)

with_cd, with_gradient = (np.array([train_rbm(number, exact) for number in everyone])
                          for exact in (False, True))  # (S, records, 3)

# %% tags=["fold"]
ink = small.mean(0).clamp(0.001, 0.999)
alone = (small @ ink.log() + (1 - small) @ (1 - ink).log()).mean().item()
_, count = small.unique(dim=0, return_counts=True)
ceiling = (count / len(small) * (count / len(small)).log()).sum().item()
fig, (left, right) = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.0), layout="constrained")
when = 50 * np.arange(with_cd.shape[1])
for ways, name, colour in ((with_gradient, "true gradient", ORANGE), (with_cd, "CD-1", BLUE)):
    left.plot(when, ways[:, :, 0].T, color=colour, alpha=0.8)
    left.text(len(when) * 50, ways[:, -1, 0].mean() + (-0.13 if name == "CD-1" else 0.06), name,
              color=colour, ha="right", fontsize=12)
for value, name in ((alone, "each pixel for itself"), (ceiling, "no model can have more")):
    left.axhline(value, color=MUTED, linestyle=":")
    left.text(len(when) * 50, value + 0.02, name, ha="right", fontsize=11)
left.set(xlabel="steps", ylabel="log-likelihood of a picture", ylim=(alone - 0.4, ceiling + 0.15))
right.axhline(0, color=MUTED, linestyle=":")
right.plot(when, with_cd[:, :, 1].T, ".", color=BLUE)
right.plot(when, with_cd[:, :, 2].T, "_", color=GREEN, markersize=9, markeredgewidth=2)
right.text(when[-1], -0.32, "one draw", color=BLUE, ha="right", fontsize=12)
right.text(when[-1], -0.52, "– mean of 50 draws", color=GREEN, ha="right", fontsize=12)
right.set(xlabel="steps", ylabel="cosine to the true gradient", ylim=(-1.02, 1.02))
fig.suptitle("CD-1's steps stray, mostly by chance; they climb about as high as the gradient",
             fontsize=13, x=0.01, ha="left")
figures.save(fig, "eq-rbm-cd1",
             caption=f"An RBM of 16 pixels and 8 hidden units, {runs} seeds. Left: exact "
                     "log-likelihood of the learnt pictures. Right: cosine between CD-1's step (or "
                     "the mean of 50) and the gradient of the same batch, along its training.",
             alt="Both curves climb from below the line of independent pixels to well above it, "
                 "close to each other. The cosines of single draws begin near one and scatter "
                 "later; those of the mean of 50 stay near one.")

# %% tags=["fold"]
late, late_50 = with_cd[:, with_cd.shape[1] // 2:, 1:].transpose(2, 0, 1)  # (S, records) each
claims.check("eq-rbm-cd1.likelihood",
             "CD-1 brings the log-likelihood of a picture to {cd:.2f}, the true gradient in as "
             "many steps to {true:.2f}; pixels for themselves have {alone:.2f}.", seeds=runs,
             on="every", cd=(with_cd[:, -1, 0].tolist(), ">=", alone + 0.25), alone=alone,
             true=(with_gradient[:, -1, 0].tolist(), ">=", alone + 0.25))
claims.check("eq-rbm-cd1.direction",
             "In the second half of the training the cosine between CD-1's step and the gradient "
             "is {cosine:.2f} in the mean, and above 0 in {share:.0%} of the steps; that of the "
             "mean of 50 draws is {fifty:.2f}.", seeds=runs, on="every",
             fifty=(late_50.mean(1).tolist(), ">=", 0.75),
             cosine=(late.mean(1).tolist(), "in", (0.1, 0.9)),
             share=((late > 0).mean(1).tolist(), ">=", 0.7))

# %% [markdown]
# A single step strays because the answers are drawn by chance: the mean of 50 draws points nearly along the gradient. Most of what is left is the price of stopping after one Gibbs step. At this rate, in so many steps, it costs little; in the long run CD-1 need not end at the highest likelihood. What it saves is the sum over all states of one side: $2^8$ here, but $2^{64}$ with 64 pixels and 100 hidden units.
#
# **Exercise 22.3.** Write the step for W alone. `v0` (N, visible) are the pictures, `v1` (N, visible) the model's answers, already drawn; `W` (visible, hidden), `c` (hidden,). Use chances for the hidden units on both sides, and the mean over the N pictures.

# %%
def step_for_w(v0, v1, W, c):
    """The step of CD-1 for W, (visible, hidden)."""
    ...

exercises.check("22.3", step_for_w)

# %% [markdown]
# ### What pretraining was for
#
# Stack RBMs: train one on the pictures, a second on the chances of the first one's hidden units, and so on, each without labels. The stack is a *deep belief network*, DBN. In 2006 its weights became the start of a deep sigmoid network, which was then trained with labels. Four hidden layers of 100 units:

# %% tags=["define", "ledger:arch-rbm-dbn"]
def train_dbn(rows, widths, rate=0.1, passes=30):
    """[(W, c), ...] of stacked RBMs, one stack a seed: W (S, inputs, width), c (S, 1, width)."""
    layers, v = [], rows.expand(runs, -1, -1)  # (S, N, inputs), from 0 to 1
    for width in widths:
        W = 0.01 * torch.randn(runs, v.shape[2], width)
        b, c = torch.zeros(runs, 1, v.shape[2]), torch.zeros(runs, 1, width)
        for _ in range(passes * (len(rows) // 32)):
            batch = v[:, torch.randint(len(rows), (32,))]
            h = torch.sigmoid(batch @ W + c)
            v1 = torch.sigmoid(torch.bernoulli(h) @ W.mT + b)  # chances: less noise than draws
            h1 = torch.sigmoid(v1 @ W + c)
            W += rate * (batch.mT @ h - v1.mT @ h1) / 32
            b += rate * (batch - v1).mean(1, keepdim=True)
            c += rate * (h - h1).mean(1, keepdim=True)
        layers.append((W, c))
        v = torch.sigmoid(v @ W + c)  # what the next one reads
    return layers

# %%
widths = [100] * 4  # of the hidden layers
with runtime.seeded(seed):
    dbn = train_dbn((x[:5000] + 1) / 2, widths)

# %% [markdown]
# Then all are trained with 100 labels, by momentum SGD, 300 steps. Three rivals begin with weights drawn at random: N(0, 0.01), as was common; *Xavier*'s spread, times 4 since the sigmoid's slope is at most ¼; and ReLU with He's spread. Each has its own learning rate, the best of 0.01, 0.03, 0.1 and 0.3 on other seeds. (The pretrained one has had 30 passes over all pictures besides for each of its four RBMs, without labels.) A last one gets the pretrained weights, but in each matrix *shuffled*: the same numbers in other places; the biases stay. (For N(0, 0.01) and the shuffled ones no rate stood out on those seeds.)

# %% tags=["define", "fold"]
def first_weights(kind):
    """[(W, c), ...] of the hidden layers and the output layer, one for each seed."""
    layers, inputs = [], pixels
    for place, width in enumerate(widths):
        W, c = torch.randn(runs, inputs, width), torch.zeros(runs, 1, width)
        if kind in ("pretrained", "shuffled"):
            W, c = (each.clone() for each in dbn[place])
        if kind == "shuffled":
            W = W.flatten(1)[:, torch.randperm(inputs * width)].reshape(W.shape)
        spread = {"N(0, 0.01)": 0.01, "Xavier × 4": 4 * math.sqrt(2 / (inputs + width)),
                  "ReLU, He": math.sqrt(2 / inputs)}
        layers.append((W * spread.get(kind, 1.0), c))
        inputs = width
    last = 0.1 if kind == "ReLU, He" else 0.01
    return [*layers, (last * torch.randn(runs, inputs, 10), torch.zeros(runs, 1, 10))]

def scores(layers, rows, bend):
    for W, c in layers[:-1]:
        rows = bend(rows @ W + c)
    return rows @ layers[-1][0] + layers[-1][1]

def train_with_labels(kind, rate, chosen, steps=300):
    """Share of fresh pictures named rightly, one a seed; chosen (S, labels): what has labels."""
    layers, bend = first_weights(kind), torch.relu if kind == "ReLU, He" else torch.sigmoid
    weights = [weight.requires_grad_() for pair in layers for weight in pair]
    optimiser = torch.optim.SGD(weights, rate, momentum=0.9)
    for _ in range(steps):
        batch = chosen[:, torch.randint(chosen.shape[1], (32,))]  # (S, 32)
        out = scores(layers, (x[batch] + 1) / 2, bend)
        update(optimiser, runs * F.cross_entropy(out.flatten(0, 1), y[batch].flatten()))
    with torch.no_grad():
        out = scores(layers, (x_fresh + 1).expand(runs, -1, -1) / 2, bend)
    return (out.argmax(2) == y_fresh).float().mean(1).tolist()

# %%
exercises.predict("22.p2", "The pretrained weights, shuffled within each matrix: how does the "
                  "network do after the same training?",
                  ("as well as pretrained", "in between", "it guesses"))

rates = {"N(0, 0.01)": 0.1, "shuffled": 0.1, "pretrained": 0.3,
         "ReLU, He": 0.01, "Xavier × 4": 0.1}
with runtime.seeded(seed):
    chosen = torch.stack([torch.randperm(len(x))[:labelled] for _ in everyone])
    named = {kind: train_with_labels(kind, rate, chosen) for kind, rate in rates.items()}

# %% tags=["nbval-varies", "fold"]
of_shuffled, of_pretrained = np.mean(named["shuffled"]), np.mean(named["pretrained"])
exercises.reveal("22.p2", "it guesses" if of_shuffled < 0.25 else "as well as pretrained"
                 if of_shuffled > of_pretrained - 0.05 else "in between",
                 f"It names {of_shuffled:.0%} rightly; guessing has about 10 %.")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.9))
plots.bars(ax, named, colours={"pretrained": BLUE, "N(0, 0.01)": ORANGE, "shuffled": ORANGE,
                               "ReLU, He": GREEN, "Xavier × 4": GREEN}, format="{:.0%}")
ax.axhline(0.1, color=MUTED, linestyle=":")
ax.text(5.35, 0.12, "guessing", fontsize=11, ha="right")
ax.set(xlim=(-0.5, 5.4), ylim=(0, 1.02), ylabel="fresh digits named rightly")
ax.set_title("Pretraining let a deep sigmoid net learn; a better spread does it without")
figures.save(fig, "emp-unsup-pretraining-helps",
             caption=f"Four hidden layers of 100 units, {labelled} labels, 300 steps, {runs} seeds "
                     "(lines: lowest to highest); sigmoid but for one. “Shuffled”: the pretrained "
                     "weights in other places.",
             alt="Bars: N(0, 0.01) and shuffled stand at guessing, one tenth; pretrained, "
                 "ReLU with He's spread and Xavier times four between 0.8 and 0.9.")
claims.check("emp-unsup-pretraining-helps",
             "With {labelled} labels the pretrained sigmoid net names {pre:.0%} of the fresh "
             "digits rightly; begun at N(0, 0.01) it names {small:.0%}, from shuffled weights "
             "{shuffled:.0%}.", labelled=labelled, seeds=runs, on="every",
             pre=(named["pretrained"], ">=", 0.6), small=(named["N(0, 0.01)"], "<=", 0.25),
             shuffled=(named["shuffled"], "<=", 0.25))
claims.check("emp-unsup-pretraining-helps.superseded",
             "Without pretraining Xavier × 4 gets {xavier:.0%} and ReLU with He's spread "
             "{relu:.0%}, against {pre:.0%} with it.", seeds=runs, on="mean",
             xavier=(named["Xavier × 4"], ">=", float(of_pretrained) - 0.06),
             relu=(named["ReLU, He"], ">=", float(of_pretrained) - 0.06), pre=named["pretrained"])

# %% [markdown]
# The shuffled weights have the same spread and fail. So it is not the size alone: it matters which weight stands where, or how the weights fit the biases, which stayed in place. A start with the right spread does as well here, and such starts took the place of pretraining.
# (A *convolutional* DBN shares its weights over the picture; its form stands under "Also in the lectures".)
#
# **We now know** what an RBM is, and that CD-1 is a useful step, though a rough one. Pretraining solved a problem of the start.
# **This does not show** who is ahead by a few points: that hangs on the rates, the labels, and how long the RBMs learn. Nor what pretraining does where pictures are many, large, and labels few. There it lives on, with other tasks than the RBM's.

# %% [markdown]
# ## 4 · Two players: the GAN
#
# A GAN does not write chances down at all. It only samples. G turns noise $z$ into a picture $G(z)$; D answers with its chance that a picture is real. D wants the value $V$ high, G wants it low (E is the mean, over real pictures or over the noise):
#
# $$V(D, G) = \mathrm{E}_{\mathrm{real}}\,[\ln D(x)] + \mathrm{E}_{z}\,[\ln(1 - D(G(z)))]$$

# %% tags=["fold", "ledger:fig-gan-diagram"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.9))
PLACES = {"noise z": (0.0, 1.4, MUTED), "G": (1.9, 1.4, BLUE), "made": (3.8, 1.4, MUTED),
          "real": (3.8, 0.0, MUTED), "D": (6.0, 0.7, ORANGE), "chance\n“real”": (7.9, 0.7, MUTED)}
for name, (left, low, colour) in PLACES.items():
    ax.add_patch(plt.Rectangle((left, low), 1.15, 0.8, color=colour,
                               alpha=0.9 if colour != MUTED else 0.25, linewidth=0))
    ax.text(left + 0.575, low + 0.4, name, ha="center", va="center", fontsize=13,
            color="white" if name == "G" else INK)
for start, end in (((1.2, 1.8), (1.85, 1.8)), ((3.1, 1.8), (3.75, 1.8)), ((5.0, 1.7), (5.95, 1.25)),
                   ((5.0, 0.45), (5.95, 0.95)), ((7.2, 1.1), (7.85, 1.1))):
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": INK, "linewidth": 1.6})
ax.annotate("", (2.5, 2.25), (6.6, 1.55), arrowprops={
    "arrowstyle": "->", "color": RED, "linewidth": 1.8, "connectionstyle": "arc3,rad=0.35"})
ax.text(5.1, 2.72, "the slope for G comes through D", color=RED, fontsize=12, ha="center")
ax.set(xlim=(-0.1, 9.2), ylim=(-0.1, 3.0), aspect="equal")
ax.axis("off")
ax.set_title("G never sees a real picture: it learns from D's slope alone")
figures.save(fig, "fig-gan-diagram",
             caption="The two networks of a GAN. D learns from real and made pictures; G learns "
                     "from the slope of D's answer.",
             alt="Noise goes into G, which makes a picture; made and real pictures go into D, "
                 "which answers with a chance. A red arrow leads from D back to G.")

# %% [markdown]
# *Where would it end?* For a fixed G, call the density of real pictures $p$ and that of made ones $q$. The best D is $p / (p + q)$ at each place. Put in, $V$ becomes $-\ln 4$ plus twice the Jensen–Shannon divergence of $p$ and $q$, JS. It measures how far two distributions lie apart, and is 0 only if $p = q$ everywhere. Then D says ½ everywhere, and D's loss, $-V$, is 2 ln 2.

# %% tags=["fold", "ledger:eq-gan-losses"]
places = np.linspace(-8, 8, 4001)
p, q = (np.exp(-0.5 * ((places - centre) / spread) ** 2) for centre, spread in ((0, 1), (1.5, 1.3)))
p, q = p / p.sum(), q / q.sum()
D_best, mixed = p / (p + q), (p + q) / 2
divergence = 0.5 * (p * np.log(p / mixed)).sum() + 0.5 * (q * np.log(q / mixed)).sum()

def value(D, p, q):
    return (p * np.log(D)).sum() + (q * np.log(1 - D)).sum()

score = torch.tensor(np.log(p / q)).requires_grad_()  # D = sigmoid(score)
loss = (torch.tensor(p) * F.softplus(-score) + torch.tensor(q) * F.softplus(score)).sum()
slope = torch.autograd.grad(loss, score)[0].abs().max().item()
claims.table("num-gan-equilibrium-value", "On a line, in double precision.",
             {"D's loss, p = q": (-value(p / (p + p), p, p), 2 * math.log(2)),
              "the same, as a mean over both kinds": (-value(p / (p + p), p, p) / 2, 0.693147),
              "V at the best D, p ≠ q: −ln 4 + 2 JS": (value(D_best, p, q),
                                                      -math.log(4) + 2 * divergence),
              "the largest slope of D's loss at p / (p + q)": (slope, 0.0)},
             columns=("what", "here", "expected"), tolerance=1e-6)
claims.check("num-gan-equilibrium-value.best",
             "For p ≠ q the best D has V = {best:.4f}; D = ½ has {half:.4f}, and D moved by a "
             "tenth to each side at most {moved:.4f}.", best=value(D_best, p, q),
             half=(value(0.5 + 0 * p, p, q), "<", value(D_best, p, q)),
             moved=(max(value(0.9 * D_best, p, q), value(0.1 + 0.9 * D_best, p, q)), "<",
                    value(D_best, p, q)))

# %% [markdown]
# *Which loss for G?* To lower $V$ is the *minimax* loss. In its beginning G is bad, D is sure, and then the minimax loss is flat. So one usually takes the *non-saturating* loss, $-\ln D(G(z))$, as `g_loss` does. A third kind calls D an *energy* that is low for real pictures; its loss has a margin $m$, and a theory of its own: ½ and 2 ln 2 are not its marks.

# %% tags=["fold", "ledger:eq-gan-losses"]
print("slope of G's loss by D's score, where D's chance for “real” is")
print("                        0.01     0.50     0.99")
chances = torch.tensor([0.01, 0.5, 0.99], dtype=torch.float64)
slopes = {}
for name, of_score in (("minimax, ln(1 − D)", lambda s: F.logsigmoid(-s)),
                       ("non-saturating, −ln D", lambda s: F.softplus(-s))):
    score = torch.logit(chances).requires_grad_()
    slopes[name] = torch.autograd.grad(of_score(score).sum(), score)[0]
    print(f"{name:22s}", *(f"{value_:8.2f}" for value_ in slopes[name].tolist()))
minimax, saturating_not = slopes.values()
claims.check("eq-gan-losses",
             "Where D gives a made picture 1 %, the non-saturating loss has {ratio:.0f} times the "
             "slope of the minimax loss; at one half as much.",
             ratio=((saturating_not[0] / minimax[0]).item(), "~", 99.0, 1e-6))

# %% [markdown]
# Now a GAN that one can look into. The "pictures" are points on a plane: eight heaps on a ring. G has to find all eight.

# %% tags=["define"]
turn = torch.arange(8) * (2 * math.pi / 8)
heaps = 2 * torch.stack([turn.cos(), turn.sin()], dim=1)  # (8, 2), on a ring of radius 2
ring = heaps.repeat(500, 1)
ring = ring + 0.05 * torch.randn(ring.shape, generator=torch.Generator().manual_seed(0))

def ring_generator():
    return nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
                         nn.Linear(64, 2))

def ring_gan(steps, G=None, keep=(), **turns):
    G = G or together(ring_generator)
    return train_gan(G, together(lambda: discriminator(2, 64)), ring, numbers=4, steps=steps,
                     rate=0.004, batch=64, keep=keep, averaged=False, blur=0.15, beta=0.5,
                     **turns)

def on_heaps(points):
    """How many heaps hold at least 2 % of the points within 0.25; the share of all that lies so."""
    away, which = torch.cdist(points, heaps).min(dim=1)
    shares = torch.bincount(which[away < 0.25], minlength=8) / len(points)
    return int((shares >= 0.02).sum()), shares.sum().item()

# %%
exercises.predict("22.p3", "G takes five steps after each step of D, as many of its own in all. "
                  "How many of the eight heaps does it reach?", ("all eight", "3 to 7", "0 to 2"))

few = ring_steps // 5
in_turns = ring_gan(ring_steps, keep=[ring_steps // 15, few, ring_steps])
hasty = ring_gan(few, g_steps=5, keep=[few])

# %% tags=["nbval-varies", "fold"]
untrained = sampled(together(ring_generator), 4)
found = {name: [on_heaps(points) for points in sets] for name, sets in (
    ("in turns", in_turns.kept[ring_steps]), ("as few", in_turns.kept[few]),
    ("hasty", hasty.kept[few]), ("untrained", untrained))}
reached = {name: [heaps_ for heaps_, _ in pairs] for name, pairs in found.items()}
of_hasty = np.mean(reached["hasty"])
exercises.reveal("22.p3", "0 to 2" if of_hasty < 2.5 else "3 to 7" if of_hasty < 7.5
                 else "all eight", f"It reaches {of_hasty:.1f}, mean of {runs} seeds.")
shots = {"before": untrained, **{f"{step:,} of each": points
                                 for step, points in in_turns.kept.items()},
         f"{5 * few:,} of G,\n{few} of D": hasty.kept[few]}
fig, axes = plt.subplots(1, len(shots), figsize=(figures.WIDTH, 2.5), sharey=True)
for ax, (name, points) in zip(axes, shots.items(), strict=True):
    ax.plot(*heaps.T, "o", color=ORANGE, markersize=11, alpha=0.35)
    ax.plot(*points[0, :300].T, ".", color=RED if "of D" in name else BLUE, markersize=3,
            rasterized=True)
    ax.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xticks=[], yticks=[])
    ax.set_xlabel(name, fontsize=11.5)
fig.suptitle("Step for step G finds the heaps; with five steps for one of D it collapses",
             fontsize=13, x=0.01, ha="left")
figures.save(fig, "fig-gan-diagram.ring",
             caption=f"Samples of G (points, seed {seed}) while training on eight heaps (orange). "
                     "Last: G takes five steps for each one of D.",
             alt="Five pictures of the ring: the points begin in the middle, spread, and lie on "
                 "all eight heaps; in the last they lie in one place.")

# %% tags=["nbval-varies", "fold"]
def spread(points):
    """The mean distance to their middle."""
    return (points - points.mean(0)).norm(dim=1).mean().item()

claims.check("emp-gan-discriminator-shapes-generator",
             "After {steps} steps in turns G reaches {modes:.1f} of 8 heaps, before training "
             "{before:.1f}; with five steps for one of D, {hasty:.1f}.",
             steps=ring_steps, seeds=runs, on="mean",
             modes=(reached["in turns"], ">=", 6), before=(reached["untrained"], "<=", 2),
             hasty=(reached["hasty"], "<=", 3))
claims.check("emp-gan-discriminator-shapes-generator.collapse",
             "With five steps for one of D the points lie {hasty:.2f} from their own middle, in "
             "the mean; with as few steps of D, one for one, {few:.2f} (and reach {reached:.1f} "
             "heaps); on the ring it is 2.", seeds=runs, on="mean", reached=reached["as few"],
             hasty=([spread(points) for points in hasty.kept[few]], "<=", 1.0),
             few=([spread(points) for points in in_turns.kept[few]], ">=", 1.3))
claims.check("emp-gan-discriminator-shapes-generator.share",
             "In turns {share:.0%} of the points lie on a heap; of points spread evenly over the "
             "ring {even:.0%} would.", seeds=runs, on="mean",
             share=([share for _, share in found["in turns"]], ">=", 0.45),
             even=on_heaps(2 * F.normalize(torch.randn(20000, 2)))[1])

# %% tags=["nbval-varies", "fold"]
at_end = {name: (run.real[-10:].mean(0), run.made[-10:].mean(0), run.loss[-10:].mean(0))
          for name, run in (("in turns", in_turns), ("hasty", hasty))}
claims.check("emp-gan-discriminator-shapes-generator.half",
             "In turns, D ends at {real:.2f} for real points and {made:.2f} for made ones, with a "
             "loss of {loss:.2f} (2 ln 2 is {theory:.3f}).", seeds=runs, on="every",
             real=(at_end["in turns"][0].tolist(), "in", (0.4, 0.65)),
             made=(at_end["in turns"][1].tolist(), "in", (0.35, 0.6)),
             loss=(at_end["in turns"][2].tolist(), "~", 2 * math.log(2), 0.25),
             theory=2 * math.log(2))

# %% [markdown]
# D says about one half, and its loss is not far from 2 ln 2: as the theory has it for a perfect G. May we read off the loss, then, that G is good? Look at the G that collapsed. Then hold each G still, give it a *new* D, and train D alone (`g_steps=0`).

# %%
exercises.predict("22.p4", "D's mean chance for “real” on what the collapsed G makes, at the "
                  "end of that training:", ("near 0", "near one half", "near 1"))

def against_a_new_d(G):
    """The loss of a new D, trained while G is held still, one a seed."""
    return ring_gan(200, G=G, g_steps=0).loss[-5:].mean(0).tolist()

renewed = {"in turns": against_a_new_d(in_turns.G), "hasty": against_a_new_d(hasty.G),
           "untrained": against_a_new_d(together(ring_generator))}

# %% tags=["nbval-varies", "fold"]
chance_hasty = at_end["hasty"][1].mean().item()
exercises.reveal("22.p4", "near 0" if chance_hasty < 0.25 else "near 1" if chance_hasty > 0.75
                 else "near one half", f"It is {chance_hasty:.2f}; the loss is "
                 f"{at_end['hasty'][2].mean():.2f}.")
claims.check("emp-gan-discriminator-shapes-generator.new",
             "The collapsed G's own D ends at {own:.2f} for made points, with a loss of "
             "{own_loss:.2f}. A new D, trained on the same G held still, gets the loss to "
             "{new:.2f}; against the G that was trained in turns to {good:.2f}, against the "
             "untrained one to "
             "{bad:.2f}.", seeds=runs, on="mean",
             own=(at_end["hasty"][1].tolist(), "in", (0.3, 0.7)),
             own_loss=(at_end["hasty"][2].tolist(), ">=", 1.2),
             bad=(renewed["untrained"], "<=", 1.0), new=(renewed["hasty"], "<=", 1.0),
             good=(renewed["in turns"], ">=", 1.2))

# %% [markdown]
# One half has two readings: D *cannot* tell, or D has *not yet* told. G moves on before D has learnt where it is. With G held still, a new D tells what the collapsed G makes from the real points in 200 steps; the D of its training had 240, but against a G that moved. And *cannot tell* is not *perfect*: the G trained in turns leaves about a third of its points off the heaps, where the real ones all lie, and the new D, which sees everything with noise, hardly tells.
#
# **We now know** the loop and its balance, and that a GAN's own loss does not say how good its samples are.
# **This does not show** that one step for one is right everywhere; with other rates and widths the balance lies elsewhere.
#
# **Exercise 22.4.** Compute V for the best D from two arrays of chances `p` and `q`, each with sum 1. Either may have zeros; 0 · ln 0 counts as 0.

# %%
def best_value(p, q):
    """V(D, G) at D = p / (p + q): a number."""
    ...

exercises.check("22.4", best_value)

# %% [markdown]
# ## 5 · Judges of samples
#
# The marks have no meaning by themselves. FID depends on the classifier and on the number of samples; so the yardstick is the mark of as many *fresh real* pictures. And each judge has a blind spot. We cheat them one by one.

# %%
with torch.no_grad():
    sure_of = judges.models[0](x).softmax(1).max(1).values.round(decimals=3)
best_of = torch.stack([x[torch.where(y == digit, sure_of, -1.0).argmax()] for digit in range(10)])
cheats = {"one picture, again and again": best_of[:1].repeat(many, 1),
          "ten pictures, one of each digit": best_of.repeat(many // 10 + 1, 1)[:many],
          "learnt pictures, as they are": x[order[0]],
          "copies, noise 0.05": rows["copies, noise 0.05"][0],
          "copies, noise 0.3": copies(0.3)[0],
          "copies, moved by one pixel": x[order[0]].reshape(-1, image_size, image_size)
                                        .roll(1, dims=2).flatten(1)}
cheated = {name: marks(row) for name, row in cheats.items()}
spreads = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
line = np.array([marks(copies(spread)[0]) for spread in spreads])
print(f"{'':33s}" + "".join(f"{judge:>14s}" for judge in JUDGES))
for name, row in {**cheated, "real, fresh": marked["real, fresh"][0]}.items():
    print(f"{name:33s}{row[0]:14.0%}{row[1]:14.1f}{row[2]:14.1%}{row[3]:14.2f}")

# %% tags=["nbval-varies", "fold"]
one, ten, same, _, _, moved = cheated.values()
real_fid = marked["real, fresh"][0, 1]
claims.check("arch-gan.cheats",
             "Ten pictures again and again: {sure:.0%} sure and {rarest:.1%} in the rarest "
             "class, better than fresh real ones ({real:.0%}, {real_rarest:.1%}), and an FID of "
             "{fid:.1f}.",
             sure=(ten[0], ">=", marked["real, fresh"][0, 0]), rarest=(ten[2], ">=", 0.09),
             real=marked["real, fresh"][0, 0], real_rarest=marked["real, fresh"][0, 2],
             fid=(ten[1], ">=", 5 * real_fid))
claims.check("arch-gan.copied",
             "The learnt pictures themselves have an FID of {fid:.2f} (fresh ones {real:.2f}); "
             "their distance to the nearest is {nearest:.1f}.", fid=(same[1], "<=", 2 * real_fid),
             real=real_fid, nearest=(same[3], "~", 0.0, 1e-2))
claims.check("arch-gan.judges",
             "At the distance of fresh real pictures, copies need so much noise that their FID is "
             "{copies:.1f}; the GAN, a little farther out, has {gan:.1f}.",
             copies=(float(np.interp(marked["real, fresh"][0, 3], line[:, 3], line[:, 1])), ">=",
                     1.5 * float(np.mean(mark("GAN", "FID")))), gan=np.mean(mark("GAN", "FID")))
claims.check("arch-gan.moved",
             "Copies moved by one pixel lie {moved:.2f} from the nearest learnt picture, fresh "
             "real ones {real:.2f}; their FID is {fid:.0f}.", fid=(moved[1], ">=", 20 * real_fid),
             moved=(moved[3], ">=", 1.2 * marked["real, fresh"][0, 3]),
             real=marked["real, fresh"][0, 3])

# %% tags=["nbval-varies", "fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.3))
ax.plot(line[:, 3], line[:, 1], "o-", color=ORANGE)
for noisy, (_, fid, _, distance) in zip(spreads, line, strict=True):
    ax.text(distance - 0.05, fid * 1.15, f"{noisy:g}", fontsize=11, color=ORANGE, ha="right")
ax.text(-0.1, line[4, 1] * 1.6, "copies, by their noise", color=ORANGE, fontsize=12.5)
way = np.array([np.mean([marks(row) for row in sets], axis=0) for sets in gan.kept.values()])
ax.plot(way[:, 3], way[:, 1], ":", color=BLUE)
ax.text(way[0, 3] + 0.06, way[0, 1], f"GAN, {min(gan.kept)} steps", color=BLUE, fontsize=11)
for name, colour, text in (("GAN", BLUE, f"GAN, {gan_steps:,} steps"),
                           ("Gaussian", GREEN, "Gaussian"), ("real, fresh", INK, "real, fresh")):
    points = marked[name]
    ax.plot(points[:, 3], points[:, 1], "s", color=colour, markersize=8)
    ax.text(points[:, 3].mean() + 0.12, points[:, 1].mean() * 0.9, text, color=colour,
            fontsize=12.5)
ax.set(yscale="log", xlabel="median distance to the nearest learnt picture", ylabel="FID",
       xlim=(-0.15, way[:, 3].max() + 1))
ax.set_title("Two judges together: no noise brings the copies to where real pictures are")
figures.save(fig, "arch-gan.judges",
             caption=f"FID and distance to the nearest learnt picture, {many} pictures each; "
                     "copies with noise from 0 to 0.5, the GAN (dotted: while training), the "
                     "Gaussian (squares: seeds), and fresh real pictures.",
             alt="The line of copies begins at distance zero with a low FID and climbs to the "
                 "right; the fresh real pictures lie below it at distance two, the GAN near them.")

# %% [markdown]
# **Exercise 22.5.** Write a judge of copies. `made` (M, D), `learnt` (N, D), `fresh` (K, D), NumPy arrays. Return the share of made rows that lie *closer* to their nearest learnt row than half of the fresh rows do (closer than the median). For fresh rows that share is about one half.

# %%
def suspicious(made, learnt, fresh):
    """The share of made rows that are closer to a learnt one than is usual."""
    ...

exercises.check("22.5", suspicious)

# %% [markdown]
# *Walk through the noise.* If G had learnt single pictures by heart, one would expect it to stand still on the way from one noise to another, and then to change quickly. Move along it (this is a look, not a test).
#
# *Is D good for something else?* The lectures say: D knows what real pictures are like, so its hidden layer gives features. A linear classifier on D's last hidden layer, on that of a D before any training, and on the pixels, each with few labels and brought to the same spread (below the walk):

# %% tags=["nbval-varies", "fold"]
def walk(way):
    """Six walks of the GAN of the first seed, from one noise to another."""
    stream = torch.Generator().manual_seed(seed)
    start, end = torch.randn(2, 64, 16, generator=stream)
    angle = torch.tensor(way * math.pi / 2)
    with torch.no_grad():
        noise = (angle.cos() * start + angle.sin() * end).expand(runs, -1, -1)
        made = gan.G(noise)[0]
        step = (made - gan.G(start.expand(runs, -1, -1))[0]).norm(dim=1).median().item()
    fig, ax = plt.subplots(figsize=(figures.WIDTH, 1.9))
    plots.image_grid(ax, made[:6].reshape(-1, image_size, image_size), columns=6, limits=(-1, 1))
    ax.set_title(f"{way:.0%} of the way from one noise to another")
    return fig, (f"At {way:.0%} of the way the median distance to the start is {step:.2f} "
                 f"(between fresh real pictures: {apart:.2f}).")

apart = torch.cdist(x_fresh[:100], x_fresh[100:200]).median().item()
widgets.explore(walk, way=widgets.Slider(0.5, 0.0, 1.0, 0.05, "way",
                                         kept=(0.0, 0.5, 1.0)))

# %% tags=["nbval-varies", "fold"]
def probe(of_learnt, of_fresh, which):
    """Share of fresh pictures that logistic regression names rightly; `which` rows have labels."""
    scale = of_learnt.std()  # to one spread: the model's penalty punishes small features
    model = LogisticRegression(max_iter=1000).fit(of_learnt[which] / scale, y[which])
    return model.score(of_fresh / scale, y_fresh)

def features(D, rows):
    with torch.no_grad():
        return D[:-1](rows.expand(runs, -1, -1))  # (S, N, 128)

of_d = {"trained D": gan.D, "untrained D": together(discriminator)}
probed = {name: [probe(features(D, x)[place], features(D, x_fresh)[place], chosen[place])
                 for place in range(runs)] for name, D in of_d.items()}
probed["pixels"] = [probe(x, x_fresh, which) for which in chosen]
claims.check("emp-gan-features",
             "With {labelled} labels a linear classifier names {trained:.0%} of the fresh digits "
             "rightly from the trained D's features, {untrained:.0%} from the untrained D's, "
             "{pixels:.0%} from the pixels.", labelled=labelled, seeds=runs, on="mean",
             trained=(probed["trained D"], ">=", float(np.mean(probed["untrained D"])) + 0.02),
             untrained=probed["untrained D"],
             pixels=(probed["pixels"], ">=", float(np.mean(probed["trained D"])) - 0.05))

# %% [markdown]
# So training gave D something; but on these digits the pixels do about as well.
#
# **We now know** that each judge can be cheated, that fresh real pictures are the yardstick, and that the distance to what was learnt belongs to every report.
# **This does not show** that the GAN is better or worse than another way of sampling of our time, on larger pictures. And the fresh pictures are by the same hands as the learnt ones; new hands may lie farther out.
#
# ## In practice
#
# - Compress and look: `sklearn.decomposition.PCA`; group: `sklearn.cluster.KMeans` with several starts; find the odd: `sklearn.ensemble.IsolationForest`, or the error of an autoencoder.
# - To pretrain without labels today: *self-supervised* tasks on many pictures (masked pictures, MAE; two views of one picture, SimCLR, DINO). `timm.create_model("vit_base_patch14_dinov2", pretrained=True)` loads such weights.
# - For pictures from noise: mostly *diffusion models*, where a denoiser is applied again and again. GANs where one fast pass counts.
# - Report FID with the number of samples, the network behind the features, and the FID of real against real. `torchmetrics.image.fid.FrechetInceptionDistance` takes Inception v3.
# - Show, beside the samples, the nearest pictures that were learnt, in pixels and in features.
#
# ## History
#
# - 1901: Pearson, principal components; 1933 Hotelling. 1989: Baldi and Hornik show that the linear autoencoder finds their space.
# - 1986: Smolensky's *harmonium*, later called RBM. 2002: Hinton, contrastive divergence.
# - 2006: Hinton, Osindero and Teh stack RBMs to deep belief networks; Hinton and Salakhutdinov pretrain deep autoencoders. 2008: Vincent and others, denoising autoencoders. 2009: Lee and others, the convolutional DBN.
# - 2010: Glorot and Bengio's first weights; 2011: rectifiers (Glorot, Bordes, Bengio). Pretraining with RBMs fades.
# - 2014: Goodfellow and others, GANs. 2015: DCGAN (Radford, Metz, Chintala). 2017: FID (Heusel and others). 2020: denoising diffusion (Ho, Jain, Abbeel).
#
# ## Exercises that are left
#
# **22.6 Open.** Invent a sixth cheat: pictures that learnt nothing, with good marks from all four judges. (Begin with the copies moved by one pixel. What would a fifth judge have to look at?)
#
# **22.7 Open.** Look again at the first figure. Name two things that it does *not* show. (Other numbers of samples; a judge that was trained on other pictures; pictures larger than 8×8; is there a digit the GAN draws badly?)
#
# ## Summary
#
# - A linear autoencoder finds PCA's space; a bend makes the deep one better; trained on noise it cleans.
# - Groups and oddness need a yardstick: shuffled labels, guessing, and what counts as usual.
# - An RBM gives chances; a step of CD-1 is, in the mean, nearly uphill. Stacked RBMs made deep sigmoid networks trainable; a start with the right spread does it without.
# - In a GAN the loop's balance decides. D at one half can mean that G is good as far as this D can see, or that D is late.
# - Samples are judged beside fresh real pictures, by several judges, and by their distance to what was learnt.
#
# ## Also in the lectures
#
# *Convolutional DBN.* Its RBMs share their weights: a hidden map is a convolution of the picture. *Probabilistic max-pooling* lets at most one unit of a 2×2 block be on; the pooled unit is on if one of them is. Only its form is shown here.
#
# *De-convolutional networks.* An autoencoder may be convolutional: `nn.Conv2d` with stride 2 on the way down, `nn.ConvTranspose2d` on the way up. One is trained below.
#
# *Named in the lectures, not built here:* the deep Boltzmann machine, which has several hidden layers and no arrows at all; and deep stacking networks, where each small network also reads the answers of those before it.

# %% tags=["define", "fold", "ledger:arch-conv-dbn"]
def conv_rbm(v, W, c):
    """Chances of hidden maps and of pooled ones; v (N, 1, H, W), W (maps, 1, k, k), c (maps,).

    In each block of 2 x 2 at most one unit is on: softmax of the four inputs and of a fifth, 0.
    """
    inputs = F.conv2d(v, W, c)  # (N, maps, h, w), h and w even
    blocks = F.pixel_unshuffle(inputs, 2).unflatten(1, (len(c), 4))  # (N, maps, 4, h/2, w/2)
    with_off = torch.cat([blocks, torch.zeros_like(blocks[:, :, :1])], dim=2)
    chances = with_off.softmax(dim=2)
    return chances[:, :, :4], 1 - chances[:, :, 4]

# %% tags=["fold"]
as_maps = x.reshape(-1, 1, image_size, image_size)
rebuilt_by_maps = []
for number in everyone:
    with runtime.seeded(number):
        net = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(),
                            nn.Conv2d(8, 8, 3, stride=2, padding=1),
                            nn.ConvTranspose2d(8, 8, 2, stride=2), nn.ReLU(),
                            nn.ConvTranspose2d(8, 1, 2, stride=2),
                            nn.Upsample((image_size, image_size)))  # where 4 divides, as it is
        optimiser = adam(net, 0.01)
        for _ in range(120):
            batch = as_maps[torch.randint(len(x), (64,))]
            update(optimiser, F.mse_loss(net(batch), batch))
    with torch.no_grad():
        made = net(x_fresh.reshape(-1, 1, image_size, image_size)).flatten(1)
    rebuilt_by_maps.append(error(made, x_fresh))
claims.check("arch-autoencoders.conv",
             "After 120 steps a convolutional autoencoder rebuilds fresh digits with a squared "
             "error of {conv:.3f} a pixel; the mean picture has {mean:.3f}.", seeds=runs,
             on="every",
             conv=(rebuilt_by_maps, "<=", 0.5 * error(mean.expand_as(x_fresh), x_fresh)),
             mean=error(mean.expand_as(x_fresh), x_fresh))

# %% [markdown] tags=["ledger:err-gan-low-for-real", "ledger:err-lee-2012"]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | D is trained to take low values for real images, higher values for everything else | a convention, not an error: there D is an *energy*. In Goodfellow et al. (2014) D is the chance that a picture is real: high for real, low for made | section 4; arXiv:1406.2661, and arXiv:1609.03126 for the energy |
# | convolutional deep belief networks: Lee et al., 2012 | ICML 2009; a longer article appeared in Communications of the ACM in October 2011 | Sources |
# | one can train a deep network by using RBMs to initialise the weights | true against a start at N(0, 0.01); a start with the right spread, or ReLU, needs no pretraining | section 3 |
# | the discriminator can be used as a feature extractor | its features beat those of an untrained D; on these digits they do about as well as the pixels | section 5 |
#
# ## Sources
#
# - The notes: lecture 003, on types of networks and generative adversarial networks; lecture 004, section 5.
# - Pearson: On lines and planes of closest fit to systems of points in space, Philosophical Magazine 2, 1901. Baldi, Hornik: Neural networks and principal component analysis: learning from examples without local minima, Neural Networks 2, 1989.
# - Smolensky, in Parallel Distributed Processing 1, 1986. Hinton: Training products of experts by minimizing contrastive divergence, Neural Computation 14, 2002.
# - Hinton, Osindero, Teh: A fast learning algorithm for deep belief nets, Neural Computation 18, 2006. Hinton, Salakhutdinov: Reducing the dimensionality of data with neural networks, Science 313, 2006.
# - Vincent, Larochelle, Bengio, Manzagol: Extracting and composing robust features with denoising autoencoders, ICML 2008. Lee, Grosse, Ranganath, Ng: Convolutional deep belief networks for scalable unsupervised learning of hierarchical representations, ICML 2009, pages 609–616; the same authors: Unsupervised learning of hierarchical representations with convolutional deep belief networks, Communications of the ACM 54, 2011.
# - Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks, AISTATS 2010. Glorot, Bordes, Bengio: Deep sparse rectifier neural networks, AISTATS 2011.
# - Goodfellow et al.: Generative adversarial nets, arXiv:1406.2661. Zhao, Mathieu, LeCun: Energy-based generative adversarial network, arXiv:1609.03126. Radford, Metz, Chintala: Unsupervised representation learning with deep convolutional generative adversarial networks, arXiv:1511.06434. Heusel et al.: GANs trained by a two time-scale update rule converge to a local Nash equilibrium, arXiv:1706.08500. Ho, Jain, Abbeel: Denoising diffusion probabilistic models, arXiv:2006.11239.
# - The digits: Alpaydin and Kaynak, Optical recognition of handwritten digits, UCI 1998 (CC BY 4.0), as scikit-learn ships them.
