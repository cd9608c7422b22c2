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
# # 06 · Preprocessing and weight initialisation
# ### How can a network be broken before it has learnt anything?
#
# A network begins with random weights.
# Below, three networks of 30 layers begin with *the same* random numbers, only multiplied by another factor: in a layer with $n$ inputs the weights have a standard deviation of $1/\sqrt n$, $\sqrt 2/\sqrt n$ or $2/\sqrt n$.
# All three are trained with the same learning rate. The middle one learns; the first stands still; the last breaks in its first steps, its loss is no finite number any more.
# Odd: before training, they name *for each picture the same digit as one another*. As classifiers they are equal (equally poor: few of the ten digits are named at all), and yet two of them do not learn.
#
# **You will be able to**
# - centre and scale pictures, along the right axis, with the right pictures' statistics;
# - say which equal weights stay equal, and why a single matrix may start at 0;
# - tell from one product how large the numbers of a layer will be, and choose the weights accordingly;
# - derive the 2 of He's start, and the number for other functions;
# - test what is broken in a deep network that stands still.
#
# **You need** lesson 02 (softmax, loss), lesson 03 (gradients), lesson 04 (convolutions: channels and windows, for exercise 06.3) and lesson 05 (ReLU, tanh, slopes).
#
# **Words.** A *unit* is one neuron of a layer: a weighted sum and the function behind it, its *bend*. The *deviation* is the standard deviation. The *size* of many numbers is their root mean square, $\sqrt{\text{mean of } x^2}$; if their mean is 0, it is the deviation. In code, `randn` draws from the normal distribution with mean 0 and deviation 1, and `rand` evenly between 0 and 1.
# Claims (✓) are made for the parameters below; with others the lesson shows what it measures and requires nothing.
#
# **It costs** about 30 seconds of one processor core, no network connection, no GPU.

# %% tags=["parameters"]
seed: int = 100  # the first of the seeds; at least 0
runs: int = 3  # networks for each setting, each with a seed of its own; 2 to 10
dataset: str = "digits"  # ; one of digits, mnist, fashion_mnist, cifar10, or a folder
image_size: int = 0  # pixels a side for the pictures of a folder, 0: as they are; 0 or 8 to 64
images: int = 1347  # training pictures, at most; at least 320
depth: int = 30  # hidden layers of the deep networks; 2 to 60
width: int = 72  # units a hidden layer; 8 to 512
epochs: int = 7  # passes over the training pictures; 2 to 100
rate: float = 0.0015  # learning rate of the deep networks; above 0

# %% tags=["imports", "fold"]
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cnncourse import claims, data, exercises, figures, runtime, training, widgets

# %% tags=["fold"]
figures.use_style()
COLOURS = {"1": "C1", "√2": "C0", "2": "C3"}
DARK = {"1": "#b06800", "√2": "C0", "2": "C3"}  # for letters

def histograms(ax):
    """Histograms by layer of the three networks' outputs above 0, side by side."""
    shown = np.unique(np.linspace(1, depth, 6).round().astype(int))  # layers
    wide = 0.3 * depth / len(shown)  # of a histogram
    for place, (name, layers) in enumerate(outputs.items()):
        spots = shown + (place - 1) * wide
        for spot, layer in zip(spots, shown, strict=True):
            x = layers[layer - 1]
            counts, edges = np.histogram(x[x > 0].log10().numpy(), 60, (-9, 7))
            half = 0.55 * wide * counts / max(counts.max(), 1)
            ax.fill_betweenx(10 ** ((edges[1:] + edges[:-1]) / 2), spot - half, spot + half,
                                  color=COLOURS[name], linewidth=0)
        ax.plot(spots, [rms(layers[layer - 1]) for layer in shown], color=COLOURS[name],
                     linewidth=1)
        ax.text(depth + 2 * wide, rms(layers[-1]), f"{name} / √n", color=DARK[name],
                     fontsize=13, va="center")
    ax.set(yscale="log", xlabel="hidden layer", ylabel="its outputs above 0", ylim=(1e-8, 1e6),
                xlim=(1 - 2 * wide, depth * 1.42), title="before training", xticks=shown)
    ax.set_yticks([1e-8, 1e-6, 1e-4, 1e-2, 1, 1e2, 1e4, 1e6])
    ax.minorticks_off()

# %%
runtime.start(seed=seed, dtype="float64")
size = image_size or None
train = data.load(dataset, True, size=size).subset(images, seed=seed).normalised()
test = data.load(dataset, False, size=size).normalised(train.mean, train.std)
pictures, labels = next(train.batches(len(train)))  # all, minus one number, divided by one
inputs, classes = pictures[0].numel(), len(train.classes)
seeds = range(seed, seed + runs)
train, test

# %% [markdown]
# The networks are as plain as can be: matrices without biases, a ReLU behind each but the last.

# %% tags=["define"]
def deep(gain, layers=30, width=100, inputs=64, classes=10, factor=1.0, bend=nn.ReLU):
    """`layers` hidden layers with a bend, and scores times `factor`; weights of gain / sqrt(n)."""
    sizes = [inputs] + layers * [width] + [classes]
    parts = [nn.Flatten()]
    for n, units in zip(sizes, sizes[1:], strict=False):
        matrix = nn.Linear(n, units, bias=False)
        nn.init.normal_(matrix.weight, std=gain / math.sqrt(n))
        parts += [matrix, bend()]
    parts[-1] = Times(factor)  # behind the scores no bend, but a factor: 1 until section 5
    return nn.Sequential(*parts)

class Times(nn.Module):
    """All numbers times one factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x

# %% tags=["fold"]
# Deep networks for these pictures, their training, and a picture of layers.
def net(gain, factor=1.0):
    return deep(gain, depth, width, inputs, classes, factor)

def learn(make, rate=rate, epochs=epochs, seeds=seeds, rates=None):
    """Train one network a seed by SGD with momentum 0.9."""
    def sgd(weights, rate=rate):
        return torch.optim.SGD(weights, lr=rate, momentum=0.9)
    together = None if len(set(seeds)) > 1 else False  # of one seed: those that break end early
    return training.repeat(make, train, test, seeds=seeds, epochs=epochs, batch_size=64,
                           drop_last=True, progress=False, optimizer=sgd, learning_rates=rates,
                           together=together)

def strips(ax, layers, high, colour):
    """A histogram for each layer from -high to high, upright, each as wide as its largest bin."""
    for place, values in enumerate(layers, 1):
        counts, edges = np.histogram(values.numpy(), 42, (-high, high))
        wide = np.maximum(0.45 * counts / max(counts.max(), 1), 0.025) * (counts > 0)
        middle = (edges[1:] + edges[:-1]) / 2
        ax.fill_betweenx(middle, place - wide, place + wide, color=colour, linewidth=0, step="mid",
                         rasterized=True)
    ax.set(ylim=(-high, high), xlim=(0.4, len(layers) + 0.6))
    ax.set_xticks(range(1, len(layers) + 1, 3))

def ten_tanh(deviation=None):
    """Ten tanh layers; weights of this deviation, or of 1 / sqrt(n)."""
    network = deep(1.0, 10, width, inputs, classes, bend=nn.Tanh)
    for weight in network.parameters() if deviation else ():
        nn.init.normal_(weight, std=deviation)
    return network

# %%
def rms(x):
    """Size: the root of the mean square."""
    return x.square().mean().sqrt().item()

gains = {"1": 1.0, "√2": math.sqrt(2), "2": 2.0}
learnt = {name: learn(lambda gain=gain: net(gain)) for name, gain in gains.items()}

# %%
outputs, named = {}, {}
with torch.no_grad():
    for name, gain in gains.items():
        with runtime.seeded(seed):
            untrained = net(gain)
        x, outputs[name] = pictures, []
        for part in untrained:
            x = part(x)
            if isinstance(part, nn.ReLU):
                outputs[name].append(x)  # of one layer: (pictures, units)
        named[name] = x.argmax(1)  # the digit that it names
for name, digits in named.items():
    same = (digits == named["√2"]).double().mean()
    print(f"{name}/√n: named are the digits {digits.unique().tolist()}, "
          f"for {same:.0%} of the pictures the digit that √2/√n names")

# %% tags=["fold"]
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.6), width_ratios=(1.25, 1))
losses = {name: [history["train_loss"] for history in result] for name, result in learnt.items()}
histograms(axes[0])
for name, rows in losses.items():
    for row in rows:
        axes[1].plot(range(1, len(row) + 1), row, color=COLOURS[name])
axes[1].axhline(math.log(classes), color="0.35", linestyle=":", linewidth=1.5)
axes[1].text(0.6, math.log(classes) + 0.12, "guessing", fontsize=12)
middle = losses["√2"]
at = epochs // 2 - 1  # below the lines, in the middle
axes[1].text(at + 1, min(row[at] for row in middle) - 0.5, "√2 / √n", color="C0", fontsize=13,
             ha="right")
axes[1].text(epochs, math.log(classes) + 0.12, "1 / √n", color=DARK["1"], fontsize=13, ha="right")
axes[1].text(epochs, 2.79, "2 / √n: no finite loss", color="C3", fontsize=13, ha="right")
axes[1].set(xlabel="epoch", ylabel="training loss", ylim=(0, 3), xlim=(0.5, epochs + 0.5),
            title=f"training, {runs} seeds each")
fig.suptitle(f"Through {depth} layers a factor of √2 in the weights decides")
figures.save(fig, "emp-he-fixes-relu",
             caption=f"{depth} hidden layers of {width} ReLUs without biases, {dataset}, SGD with "
                     f"momentum 0.9, learning rate {rate:g}, batches of 64. Left: histograms of "
                     "the outputs above 0 of some layers (about half of the outputs are 0), the "
                     "three networks side by side at each layer, each histogram as wide as its "
                     "largest bin; lines: root mean square; first seed. Right: each line one "
                     "seed.",
             alt="Left, on a logarithmic axis, the histograms fall with depth, stay near 1 or grow "
                 "by powers of ten. Right only the middle network's loss falls.")

# %% tags=["fold"]
ends = {name: result.last("train_loss") for name, result in learnt.items()}
unfinished = sum(not math.isfinite(loss) for loss in ends["2"])
top = {name: rms(layers[-1]) / rms(layers[0]) for name, layers in outputs.items()}

@torch.no_grad()
def size_kept(seed):
    """Size of the last hidden layer divided by that of the first, with √2/√n."""
    with runtime.seeded(seed):
        parts = list(net(math.sqrt(2)))
    first = nn.Sequential(*parts[:3])(pictures)  # flatten, matrix, ReLU
    return rms(nn.Sequential(*parts[3:-2])(first)) / rms(first)

claims.check("emp-he-fixes-relu",
             "After {epochs} epochs the training loss is {right:.2f} with √2/√n and {small:.3f} "
             "with 1/√n (guessing: {guess:.3f}); the test accuracy {accuracy:.0%} and "
             "{stuck:.0%}.",
             epochs=epochs, right=(ends["√2"], "<=", 1.8), small=(ends["1"], ">=", 2.2),
             guess=math.log(classes), accuracy=(learnt["√2"].last("valid_accuracy"), ">=", 0.3),
             stuck=(learnt["1"].last("valid_accuracy"), "<=", 0.2), seeds=runs, on="every")
claims.check("emp-large-init-explodes.deep",
             "With 2/√n, at the same rate, {unfinished} of {runs} networks end without a finite "
             "loss.", unfinished=(unfinished, "==", runs), runs=runs)
claims.check("emp-he-fixes-relu.thirty",
             "Untrained, first seed: from layer 1 to layer {depth} the size is multiplied by "
             "{small:.0e} with 1/√n and by {large:,.0f} with 2/√n; with √2/√n by {right:.2f}.",
             depth=depth, small=(top["1"], "<=", 1e-3), large=(top["2"], ">=", 1000),
             right=([size_kept(seed + place) for place in range(10)], "in", (0.1, 10)), seeds=10,
             on="every")

# %% [markdown]
# That they name the same digits has a simple reason: ReLU does not mind a factor. Double all weights of a layer, and all of its outputs double; which score is the largest does not change.
# (With √2/√n the size is kept, but not to the digit: it depends on the seed how far chance moves it.)
# So what *is* broken? To answer that we need to know what inputs do (section 1) and what weights do (2 to 4); in section 5 we come back to these networks.
#
# ## 1 · The data first
#
# A unit's sum depends on its weights and on its inputs. The inputs we can choose.
# $N$ pictures with $D$ numbers each make a table $x$ of shape $(N, D)$: a picture is a row. *Centring* moves the mean of each column to 0. *Scaling* divides each column by its deviation. *Whitening* turns the cloud onto its own axes (the directions of its largest and smallest spread) and divides there.

# %% tags=["define", "ledger:eq-preprocessing"]
def centred(x):
    """Each column of x (N, D) minus its mean."""
    return x - x.mean(0)  # axis 0: the mean runs over the pictures

def scaled(x):
    """Centred, each column with deviation 1; a column that never changes stays 0."""
    deviation = x.std(0)
    return centred(x) / torch.where(deviation > 0, deviation, 1.0)

def whitened(x):
    """Centred, turned onto the cloud's own axes, deviation 1 along each of them."""
    variances, axes = torch.linalg.eigh(torch.cov(x.T))
    return centred(x) @ axes / (variances + 1e-9).sqrt()  # no spread: stays 0

# %% tags=["fold"]
cloud = torch.randn(300, 2, generator=torch.Generator().manual_seed(seed))
cloud = cloud @ torch.tensor([[1.6, 0.5], [0.0, 0.35]]) + torch.tensor([2.5, 2.0])
versions = {"as it comes": cloud, "centred": centred(cloud), "scaled": scaled(cloud),
            "whitened": whitened(cloud)}
fig, axes = plt.subplots(1, 4, figsize=(figures.WIDTH, 3.0), sharex=True, sharey=True)
for ax, (name, points) in zip(axes, versions.items(), strict=True):
    ax.axhline(0, color="0.7", linewidth=1)
    ax.axvline(0, color="0.7", linewidth=1)
    ax.plot(*points.T, ".", color="C0", markersize=4, alpha=0.6, rasterized=True)
    ax.set(title=name, box_aspect=1, xlim=(-5.5, 7.5), ylim=(-6.5, 6.5), xlabel="first column")
    ax.title.set_fontsize(13)
axes[0].set_ylabel("second column")
fig.suptitle("Centring moves the cloud, scaling evens its axes, whitening makes it round")
figures.save(fig, "eq-preprocessing",
             caption="300 points drawn from a normal distribution, and what the three functions "
                     "above make of them.",
             alt="Four clouds: off the centre; around 0; around 0 with equal deviations, still "
                 "slanted; round.")

# %% [markdown]
# What does centring buy? We train one matrix with softmax (lesson 02) by gradient descent on 500 pictures, at nine learning rates, and count steps until the loss is 0.15. The pictures are
# - *brightness*: from 0 to 1, as they come;
# - *centred*: brightness, each pixel minus its mean;
# - *centred, divided*: all centred pixels divided by one number, the deviation of all brightness;
# - *plus 5*: centred and divided, then 5 added to each pixel;
# - *whitened*.
#
# All hold the same information, and the same scores can be reached (the bias takes up the 5).

# %% tags=["define"]
def shortened(gradient, direction, times):
    """The gradient, with its part along one direction (of length 1) divided by times."""
    part = torch.outer(direction, direction @ gradient)  # the part along this direction
    return gradient - part + part / times

# %% tags=["define", "fold"]
def steps_to(x, labels, rate, shorten=None, goal=0.15, most=100):
    """Steps of gradient descent until the softmax loss on x (N, D) is below goal; inf if never.

    shorten = (direction (D + 1,), times): along this direction, steps are divided by times.
    """
    x = torch.cat([x, torch.ones(len(x), 1)], 1)  # the last column: the bias
    weights = torch.zeros(x.shape[1], int(labels.max()) + 1)
    wanted = F.one_hot(labels).to(x)
    for step in range(most):
        logs = torch.log_softmax(x @ weights, 1)
        loss = F.nll_loss(logs, labels).item()
        if loss < goal or not math.isfinite(loss):
            return step if loss < goal else math.inf
        gradient = x.T @ (logs.exp() - wanted) / len(x)
        if shorten:
            gradient = shortened(gradient, *shorten)
        weights = weights - rate * gradient
    return math.inf

def directions(x):
    """The longest and the second-longest direction of x with its bias column, and how many times
    the mean square along the longest exceeds that along the second."""
    table = torch.cat([x, torch.ones(len(x), 1)], 1)
    squares, axes = torch.linalg.eigh(table.T @ table / len(x))  # mean squares, ascending
    return axes[:, -1], axes[:, -2], (squares[-1] / squares[-2]).item()

# %%
flat, digits = pictures.flatten(1)[:500], labels[:500]
rates = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]
some = centred(flat)
bright = pictures[:500] * train.std.view(-1, 1, 1) + train.mean.view(-1, 1, 1)  # as it was, 0 to 1
bright = bright.flatten(1)
versions = {"brightness": bright, "centred": centred(bright), "centred, divided": some,
            "plus 5": some + 5, "whitened": whitened(flat)}
needed = {name: [steps_to(x, digits, rate) for rate in rates] for name, x in versions.items()}
{name: min(steps) for name, steps in needed.items()}  # inf: not in 100 steps

# %% [markdown]
# Why does the 5 do so much harm? Two suspects. After adding 5, all data have *one sign*. And *one direction* is far longer than all others: that in which all pixels rise together; a step that is short enough for it is too short for the rest.
#
# The first test: add 5 to one half of the pixels and −5 to the other, so that the signs are mixed and an offset is left.
# The second: leave the 5 where it is, but shorten the steps in the longest direction only. We divide them by how many times the *mean square* along it exceeds that along the second-longest (what a step does to the scores goes with the square: once for the gradient, once for the scores). For comparison, we divide by as much in the second only.

# %%
exercises.predict("06.p1", "Plus 5, steps shortened in one direction. The goal within 100 steps:",
                  ("out of reach still", "reached, but in twice the steps", "as soon as centred"))

# %%
longest, second, times = directions(some + 5)
needed["plus 5, longest direction shortened"] = [
    steps_to(some + 5, digits, rate, (longest, times)) for rate in rates]
needed["plus 5, second-longest shortened"] = [
    steps_to(some + 5, digits, rate, (second, times)) for rate in rates]
print(f"plus 5: the mean square along the longest direction is {times:.0f} times the second's")

mixed = some + 5 * (1 - 2 * (torch.arange(inputs) % 2))  # plus 5, minus 5, plus 5, ...
needed["plus or minus 5"] = [steps_to(mixed, digits, rate) for rate in rates]

# %% tags=["fold"]
for name, x in {"plus or minus 5": mixed, "brightness": bright}.items():
    longest, _, times = directions(x)
    needed[f"{name}, longest shortened"] = [
        steps_to(x, digits, rate, (longest, times)) for rate in rates]
fewest = {name: min(steps) for name, steps in needed.items()}
ideal, mended = fewest["centred, divided"], fewest["plus 5, longest direction shortened"]
exercises.reveal("06.p1", "out of reach still" if math.isinf(mended) else "as soon as centred"
                 if mended < 1.5 * ideal else "reached, but in twice the steps",
                 f"Centred {ideal} steps, shortened in one direction {mended}.")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.6))
order = ["whitened", "centred, divided", "centred", "brightness",
         "brightness, longest shortened", "plus 5", "plus 5, second-longest shortened",
         "plus 5, longest direction shortened",
         "plus or minus 5", "plus or minus 5, longest shortened"]
for place, name in enumerate(order):
    steps, bare = fewest[name], name in ("brightness", "plus 5", "plus or minus 5")
    ax.barh(place, min(steps, 100), color="C3" if bare or "second" in name else "C0", height=0.7)
    ax.text(min(steps, 100) * 1.08, place, "more than 100" if math.isinf(steps) else f"{steps}",
            va="center", fontsize=13)
ax.set_yticks(range(len(order)), order, fontsize=12.5)
ax.set(xscale="log", xlim=(0.6, 500), xlabel="steps to a loss of 0.15, at the best of nine rates")
ax.set_xticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
ax.minorticks_off()
ax.invert_yaxis()
fig.suptitle("An offset of 5 is ruinous; shorter steps in its longest direction undo it")
figures.save(fig, "emp-zero-centering-helps",
             caption=f"One matrix with softmax, full-batch gradient descent on 500 {dataset} from "
                     "weights of 0. No randomness but the choice of the pictures.",
             alt="With an offset no rate reaches the goal in 100 steps; with the longest direction "
                 "shortened as few are needed as for centred pixels; with the second, none does.")

# %% tags=["fold"]
reached = {name: int(np.isfinite(steps).sum()) for name, steps in needed.items()}  # rates
claims.check("emp-zero-centering-helps",
             "Steps at the best of nine learning rates: centred {centred}, brightness {raw} "
             "({short} with its longest direction shortened). Plus 5, {offset} of the nine reach "
             "the goal in 100 steps; with the second-longest direction shortened {second}; with "
             "the longest shortened the best needs {mended} steps, whitened {white}.",
             white=(fewest["whitened"], "<=", ideal),
             centred=(fewest["centred"], "<=", fewest["brightness"] // 2),
             raw=(fewest["brightness"], "<=", 100), mended=(mended, "<=", ideal + 2),
             short=(fewest["brightness, longest shortened"], "<=", fewest["brightness"] // 2),
             offset=(reached["plus 5"], "==", 0),
             second=(reached["plus 5, second-longest shortened"], "==", 0))
claims.check("emp-zero-centering-helps.signs",
             "Plus 5 on one half of the pixels, minus 5 on the other: {count} of nine rates reach "
             "the goal in 100 steps; with the longest direction shortened the best needs {mended}.",
             mended=(fewest["plus or minus 5, longest shortened"], "<=", ideal + 2),
             count=(reached["plus or minus 5"], "==", 0))

# %% [markdown]
# Mixed signs did not help, shorter steps along the longest direction did: it is the length of this one direction that costs the steps here. That plain brightness needs more steps than centred has the same reason.
# (Signs alone cannot matter to this matrix: if all signs in a column are turned, its weights turn with it, and from weights of 0 gradient descent takes the same steps.)
# Whitening makes *all* directions equally long, and still fewer steps do. But it needs a table of $D \times D$ numbers: for colour pictures of 224×224, 150,528². For pictures it is hardly ever done.
#
# What does *scaling* buy? First a table whose columns are measured on different scales (ages and incomes, say): we multiply every second centred column by 10. Then pictures, where all pixels share one scale already. There we train a network with one hidden layer, and divide the centred pixels by nothing, by one number, or each pixel by its own deviation. Smaller numbers want larger steps: each way is trained at three learning rates, around the one that suits it, and counted at its best. (Which is best, the test pictures say, for all three ways alike, so all three numbers flatter a little; lesson 01 chose by validation pictures.)

# %%
stretch = 1 + 9 * (torch.arange(inputs) % 2)  # 1, 10, 1, 10, ...
tables = {"one scale": some, "two scales": some * stretch,
          "two scales, scaled": scaled(some * stretch)}
by_scale = {name: min(steps_to(x, digits, rate) for rate in rates) for name, x in tables.items()}
by_scale  # steps at the best of nine rates

# %% tags=["define"]
def small(first, second, inputs=64, classes=10, units=32):
    """One hidden layer of ReLUs, and scores; first and second set the weights, biases are 0."""
    layers = nn.Linear(inputs, units), nn.Linear(units, classes)
    for layer, start in zip(layers, (first, second), strict=True):
        start(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1])

# %% tags=["fold"]
class Prepared(nn.Module):
    """Pictures minus a mean image, divided by a number, or by one number a pixel."""

    def __init__(self, mean, divisor):
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("divisor", divisor.clone())

    def forward(self, x):
        return (x - self.mean) / self.divisor

random_start = nn.init.kaiming_normal_  # of section 4

def prepared_by(divisor, rates):
    """Test accuracies of the small network, divided so: for each learning rate one a seed."""
    def make():
        return nn.Sequential(Prepared(pictures.mean(0), divisor),
                             *small(random_start, random_start, inputs, classes))
    result = learn(make, epochs=3 * epochs // 2, seeds=list(seeds) * len(rates),
                   rates=[rate for rate in rates for _ in seeds])
    shares = np.reshape(result.last("valid_accuracy"), (len(rates), runs))
    return dict(zip(rates, shares, strict=True))

deviation = pictures.std(0)  # of each pixel; `pictures` are divided by one number already
own_scale = torch.where(deviation > 0, deviation, 1.0)
undone = (1 / train.std).view(-1, 1, 1).to(deviation).expand_as(deviation)  # undoes it

# %% tags=["nbval-varies"]
divided = {"by nothing": prepared_by(undone, [0.15, 0.4, 1.0]),  # learning rates
           "by one number": prepared_by(torch.ones_like(undone), [0.06, 0.15, 0.4]),
           "each pixel by its own": prepared_by(own_scale, [0.06, 0.15, 0.4])}
for name, by_rate in divided.items():
    for tried, shares in by_rate.items():
        print(f"{name}, rate {tried:g}: {shares.mean():.1%} ({shares.min():.1%} "
              f"to {shares.max():.1%})")

# %% tags=["fold", "ledger:prac-normalise-images"]
claims.check("prac-normalise-images.units",
             "Every second column ten times as long: {mixed} steps at the best of nine rates, "
             "instead of {one}; each column divided by its deviation: {mended}.",
             one=by_scale["one scale"],
             mixed=(by_scale["two scales"], ">=", 2 * by_scale["one scale"]),
             mended=(by_scale["two scales, scaled"], "<=", by_scale["one scale"] + 2))
rate_of = {name: max(by_rate, key=lambda rate: np.nan_to_num(by_rate[rate]).mean())
           for name, by_rate in divided.items()}  # the best rate
best = {name: by_rate[rate_of[name]].mean() for name, by_rate in divided.items()}
unseen = next(test.batches(len(test)))[0]
each = ((unseen - pictures.mean(0)) / own_scale)[:, deviation > 0].abs().max().item()
together = (unseen - pictures.mean(0)).abs().max().item()
claims.check("prac-normalise-images",
             "Hidden layer, {epochs} epochs, mean of {runs} seeds, each way at the best of its "
             "three rates: without division {none:.1%} of the test pictures are right (rate "
             "{slow:g}), with one number {one:.1%} (rate {fast:g}), with each pixel's own {own:.1%}"
             " (one picture: {unit:.1%}).",
             slow=rate_of["by nothing"], fast=rate_of["by one number"],
             epochs=3 * epochs // 2, runs=runs, unit=1 / len(test),
             one=(best["by one number"], ">=", 0.93),
             own=(best["each pixel by its own"], "<=", round(best["by one number"] + 0.005, 3)),
             none=(best["by nothing"], "~", round(best["by one number"], 3), 0.015))
claims.check("prac-normalise-images.largest",
             "Each pixel divided by its own deviation, the largest number in the test set is "
             "{each:.0f}; all divided by one, {together:.1f}. ({still} pixels never change in "
             "training: their deviation is 0.)",
             each=(each, ">=", 10), together=(together, "<=", 5),
             still=int((deviation == 0).sum()))

# %% [markdown]
# Dividing each pixel by its own deviation has a danger, too: a pixel that is almost always 0 in training has a tiny deviation, and one test picture with ink there becomes a huge number.
# So for pictures: subtract a mean (of each pixel: the *mean image*, or of each channel: three numbers) and divide, if at all, each channel by one number.
# Whichever it is, the numbers come from the *training* pictures, and the test pictures get the same.

# %% tags=["fold"]
colour = torch.zeros(5, 3, 8, 8)  # five colour pictures
print("mean image", tuple(pictures.mean(0).shape), "and", tuple(colour.mean(0).shape),
      " mean of each channel", tuple(pictures.mean((0, 2, 3)).shape), "and",
      tuple(colour.mean((0, 2, 3)).shape))
square = np.arange(9.0).reshape(3, 3) ** 2  # as many rows as columns
wrong = square - np.mean(square, axis=1)  # the notes' line
try:
    stopped = str(np.ones((3, 2)) - np.mean(np.ones((3, 2)), axis=1))
except Exception as error:
    stopped = type(error).__name__  # its name is the answer
upright = square.T - square.T.mean(axis=1, keepdims=True)  # a picture is a column
claims.check("err-preprocess-axis",
             "`x - np.mean(x, axis=1)` ends in a {error} for a 3×2 table; for a 3×3 table it runs, "
             "and leaves column means up to {left:.0f}. Where pictures are columns, axis 1 is "
             "right, with `keepdims=True`: the means left are {columns:.0f}.",
             error=(stopped, "==", "ValueError"), left=(abs(wrong.mean(0)).max(), ">", 1),
             columns=(abs(upright.mean(1)).max(), "<=", 1e-9))

# %% [markdown]
# **We now know** that an offset costs steps here because it makes one direction long, whatever the signs; that scaling helps where columns are measured on different scales; and along which axis to subtract.
# **This does not show** that pictures must be divided: in this network one number moved the learning rate that suits and changed little else (the ✓ above); one number a pixel gained nothing. Nor that an offset hurts every optimiser as much as plain gradient descent.
#
# **Exercise 06.1.** `train` (N, D) and `test` (M, D), arrays of numpy. Return both with the training columns centred and scaled. Columns that never change in training are centred only.

# %%
def prepared(train, test):
    """Both tables, centred and scaled by the training columns."""
    ...

exercises.check("06.1", prepared)

# %% [markdown]
# ## 2 · Zero: which equals stay equal?
#
# Now the weights. Why random at all? The matrix above started at 0 and learnt well. Beside it we set the network with one hidden layer of 32 ReLUs from section 1: all weights of both layers 0; or all 0.1; or 0.1 in *one* layer, and random weights in the other.

# %% tags=["fold"]
def single():
    """One matrix, all weights 0."""
    layer = nn.Linear(inputs, classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.Flatten(), layer)

def hidden(first, second=None, epochs=3 * epochs, units=32):
    """A hidden layer, trained three times as long as the deep networks; second: like first."""
    return learn(lambda: small(first, second or first, inputs, classes, units), 0.02, epochs)

def hidden_from(deviation, rates):
    """Test accuracies from weights of this deviation: for each learning rate one a seed."""
    def make():
        return small(start, start, inputs, classes)
    def start(weight):
        nn.init.normal_(weight, std=deviation)
    result = learn(make, epochs=2 * epochs, seeds=list(seeds) * len(rates),
                   rates=[rate for rate in rates for _ in seeds])
    shares = np.nan_to_num(result.last("valid_accuracy"))  # no finite loss: 0
    return dict(zip(rates, shares.reshape(len(rates), runs), strict=True))

def tenth(weight):
    nn.init.constant_(weight, 0.1)

def apart(network):
    """Largest difference between the weights of two units in the first layer."""
    weight = network[1].weight
    return (weight - weight[:1]).abs().max().item()

def arrival(name):
    """The first epoch in which each network names 80 % of the test pictures."""
    return [int(row.argmax()) + 1 if row.any() else math.inf for row in right[name] > 0.8]

# %%
exercises.predict("06.p2", "First layer all 0.1 (32 equal units), second layer random. It ends:",
                  ("as bad as with equal weights in both", "in between",
                   "about as good as with random weights in both"))

# %%
shallow = {"one matrix, all 0": learn(single, 0.02), "both 0": hidden(nn.init.zeros_, None, epochs),
           "both 0.1": hidden(tenth), "a single unit": hidden(tenth, units=1),
           "first 0.1, second random": hidden(tenth, random_start),
           "first random, second 0.1": hidden(random_start, tenth, epochs),
           "both random": hidden(random_start)}
ended = {name: np.mean(result.last("valid_accuracy")) for name, result in shallow.items()}
low, half, high = ended["both 0.1"], ended["first 0.1, second random"], ended["both random"]
exercises.reveal("06.p2", "about as good as with random weights in both" if half > high - 0.05 else
                 "in between" if half > low + 0.05 else "as bad as with equal weights in both",
                 f"Both equal {low:.0%}, one layer random {half:.0%}, both random {high:.0%}.")

# %% [markdown]
# With all weights 0 the hidden units put out 0, and nothing flows back through weights of 0: only the last bias gets a gradient.
# With all weights 0.1 the gradients are not 0. But two hidden units whose incoming *and outgoing* weights are equal compute the same number, are sent the same gradient and take the same step: in exact arithmetic they stay equal for ever. The 32 units are one, 32 times, and end no better than a single unit. (Nor do they walk just its way: 32 outputs of one size add up, and so do their steps.)
# One random layer of the two is enough. Equal units with random outgoing weights compute the same number, but what comes back to them (lesson 03) is multiplied by *different* weights: after one step they differ. And behind a random first layer the units compute different numbers from the start, whatever follows.
#
# And how large must a difference be? We add noise with a deviation of one millionth to each 0.1, in both layers.

# %%
exercises.predict("06.p7", "All weights 0.1, plus noise of a millionth. In the end the network is:",
                  ("about as good as a random start", "far behind, better than equal weights",
                   "as bad as equal weights"))

# %%
shallow["0.1 ± a millionth"] = hidden(lambda w: nn.init.normal_(w, 0.1, 1e-6))
right = {name: np.array([history["valid_accuracy"] for history in result])  # (runs, epochs)
         for name, result in shallow.items()}

# %% tags=["fold"]
tiny = right["0.1 ± a millionth"][:, -1].mean()
exercises.reveal("06.p7", "about as good as a random start" if tiny > high - 0.1 else
                 "far behind, better than equal weights" if tiny > low + 0.1 else
                 "as bad as equal weights",
                 f"Equal {low:.0%}, with noise {tiny:.0%}, random {high:.0%}.")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.2))
looks = {"both random": ("C0", "-"), "first 0.1, second random": ("C0", "--"),
         "0.1 ± a millionth": ("C2", "-"), "a single unit": ("0.45", ":"), "both 0.1": ("C3", "-")}
spot = 2.0  # of a label: at the end of its line, below the label before
for name, (colour, style) in looks.items():
    rows, places = right[name], np.arange(1, 3 * epochs + 1)
    ax.plot(places, rows.mean(0), style, color=colour)
    spot = min(spot - 0.08, rows.mean(0)[-1] + 0.05)
    ax.text(places[-1] + 0.3, spot, name, color=colour, fontsize=13, va="center")
    ax.fill_between(places, rows.min(0), rows.max(0), color=colour, alpha=0.2, linewidth=0)
ax.axhline(1 / classes, color="0.35", linestyle=":", linewidth=1.5)
ax.text(places[-1], 1 / classes - 0.06, "guessing", fontsize=12, ha="right")
ax.set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1.1),
       xlim=(0.5, (3 * epochs + 0.5) * 1.52), xticks=range(3, 3 * epochs + 1, 3))
ax.set_title("One random layer is enough; a millionth of difference too, later")
figures.save(fig, "emp-zero-init-symmetry",
             caption=f"One hidden layer of 32 ReLUs (dotted: of one), {dataset}, SGD with momentum "
                     f"0.9, learning rate 0.02, batches of 64; mean and range of {runs} seeds.",
             alt="From equal weights in both layers the accuracy stays low, like that of a single "
                 "unit; with one random layer it rises as fast as with two; with noise of a "
                 "millionth it jumps up after several epochs.")

# %% tags=["nbval-varies", "fold"]
nothing = small(nn.init.zeros_, nn.init.zeros_, inputs, classes)
F.cross_entropy(nothing(pictures), labels).backward()
slopes = {name: parameter.grad.abs().max().item() for name, parameter in nothing.named_parameters()}
last = slopes.pop("3.bias")
claims.check("emp-zero-init-symmetry",
             "Both layers 0.1: after {epochs} epochs the units differ by {equal:.0g} at most; the "
             "networks name {right:.0%} of the test pictures (a single unit: {single:.0%}; "
             "guessing: {guess:.0%}). After {fewer} epochs a network from 0 names {zero:.0%}, one "
             "matrix from 0 {one:.0%}.",
             single=(right["a single unit"][:, -1].mean(), "in", (0.1, 0.5)),
             epochs=3 * epochs, fewer=epochs,
             equal=(max(map(apart, shallow["both 0.1"].models)), "<=", 1e-6),
             right=(low, "<=", 0.5), guess=1 / classes,
             zero=(right["both 0"][:, -1].mean(), "<=", 0.2),
             one=(right["one matrix, all 0"][:, -1].mean(), ">=", 0.85), varies=True)
claims.check("emp-zero-init-symmetry.zero",
             "All weights 0: the last bias gets a gradient of up to {last:.3f}, every other "
             "parameter {rest:.0f}.", last=(last, ">", 0), rest=(max(slopes.values()), "==", 0))
claims.check("emp-zero-init-symmetry.one-layer",
             "First layer 0.1 and second random: {first:.1%} of the test pictures are right after "
             "{epochs} epochs; first random and second 0.1: {second:.1%}; both random: {both:.1%}.",
             first=([*right["first 0.1, second random"][:, epochs - 1]], ">=", 0.9),
             second=([*right["first random, second 0.1"][:, -1]], ">=", 0.9), epochs=epochs,
             both=[*right["both random"][:, epochs - 1]], seeds=runs, on="every")
claims.check("emp-zero-init-symmetry.noise",
             "80% of the test pictures are right after {random:.1f} epochs from a random start, "
             "after {millionth:.1f} with noise of a millionth.", seeds=runs, on="every",
             random=(arrival("both random"), "<=", 6),
             millionth=(arrival("0.1 ± a millionth"), ">=", 9))

# %% [markdown]
# **We now know** which equals stay equal: units with the same incoming and the same outgoing weights. One random layer of the two parts them at once, and here training made much of a millionth, in its time.
# **This does not show** that zero is bad as such. In one matrix the units are told apart by their labels. Biases start at 0 as a rule. Nor how rounding acts in larger networks and with fewer digits: it, too, is a difference (some processors round products of equal units differently, and in this training the units then part by billionths).
#
# **Exercise 06.2.** Units with equal incoming weights *compute* as one unit (they also *train* as one only if their outgoing weights are equal). Two layers without biases: `first` (U, I), then ReLU, then `second` (C, U). Return the smallest pair that computes the same: one row for each *different* row of `first`, in order of first appearance.

# %%
def merged(first, second):
    """(V, I) and (C, V) with V different rows, and the same scores."""
    ...

exercises.check("06.2", merged)

# %% [markdown]
# ## 3 · Too small, too large
#
# Random, then, but how large? Send 100 random inputs through ten layers of 500 units with tanh, and look at every layer.
# On the way back a random gradient starts at the top; we measure how large it arrives at each layer.

# %% tags=["define"]
def through(bend, draw, layers=10, n=500, seed=0, many=100):
    """Activations of each layer, and sizes of the gradient at each layer's weighted sums."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(many, n, generator=g).requires_grad_()  # many inputs of n numbers
    sums, activations = [], []
    for _ in range(layers):
        sums.append(x @ draw(n, g))
        sums[-1].retain_grad()
        x = bend(sums[-1])
        activations.append(x.detach())
    x.backward(torch.randn(many, n, generator=g))
    return activations, np.array([z.grad.square().mean().sqrt().item() for z in sums])

def normal(factor):
    """Weights (n, n) from the normal distribution, mean 0, with factor as deviation."""
    return lambda n, g: factor * torch.randn(n, n, generator=g)

def uniform(factor, middle=0.0):
    """Weights (n, n) evenly from 0 to 1, minus `middle`, times factor."""
    return lambda n, g: factor * (torch.rand(n, n, generator=g) - middle)

# %%
starts = {"0.01 · randn": through(torch.tanh, normal(0.01), seed=seed),
          "1 · randn": through(torch.tanh, normal(1.0), seed=seed)}
full = (starts["1 · randn"][0][-1].abs() > 0.99).double().mean().item()
print(f"0.01: size of layer 1 {rms(starts['0.01 · randn'][0][0]):.2g}, "
      f"of layer 10 {rms(starts['0.01 · randn'][0][-1]):.2g}")
print(f"1: {full:.0%} of layer 10 lie beyond ±0.99")

# %% [markdown]
# Too small: after ten layers hardly anything is left. Too large: tanh is *saturated*, most outputs lie where it is flat. There its slope is below 0.02, and in every layer the gradient is multiplied by the slope.

# %%
exercises.predict("06.p3", "1 · randn, tanh: from layer 10 back to layer 1 the gradient",
                  ("vanishes", "keeps its size", "grows"))

# %%
layers, gradient = starts["1 · randn"]
growth = gradient[0] / gradient[-1]
exercises.reveal("06.p3", "grows" if growth > 10 else "vanishes" if growth < 0.1 else
                 "keeps its size", f"At layer 1 it is {growth:,.0f} times as large as at layer 10.")
slope = np.mean([rms(1 - x**2) for x in layers[:-1]])  # tanh' = 1 - tanh²; layers 1 to 9
product = math.sqrt(500) * slope  # √n · deviation 1 · slopes
print(f"size of the slopes {slope:.3f}; √n {math.sqrt(500):.1f}; product {product:.2f}; "
      f"nine times: {product**9:,.0f}")

# %% [markdown]
# Lesson 05 had the law: a layer multiplies the gradient by about $\sqrt n$ · deviation of the weights · size of the slopes. Most slopes are nearly 0, but not all: the few outputs between make their size (a root mean square). Times $\sqrt n$ it is well above 1, nine times over.
#
# What does such a network make of inputs that are alike? Before training, move random inputs by a hundredth, and compare the outputs: how far apart are the moved and the unmoved, in units of two unrelated inputs? First at the input itself, then at layer 10.

# %%
def moved(draw, layers=10, by=0.01):
    """How far the last layer moves if the inputs move, in units of two unrelated inputs."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(300, 300, generator=g)
    near = x + by * torch.randn(300, 300, generator=g)
    for _ in range(layers):
        weight = draw(300, g)
        x, near = torch.tanh(x @ weight), torch.tanh(near @ weight)
    return ((near - x).norm() / (x.roll(1, 0) - x).norm()).item()

jumps = {"at the input": moved(normal(1.0), layers=0)}
for times in (1, 2, 3):
    jumps[f"{times} · randn / √n"] = moved(normal(times / math.sqrt(300)))
jumps["1 · randn"] = moved(normal(1.0))  # 300 units: 17 / √n
{name: round(jump, 3) for name, jump in jumps.items()}

# %% [markdown]
# 1/√n keeps the likeness; the larger the weights, the less of it arrives at the top; with 1 · randn an input and its near copy are as good as unrelated there. Does such a network learn? We train ten tanh layers on the digits, and beside them a small network, one hidden layer of ReLUs.

# %%
tried = [0.001, 0.01]  # learning rates, one seed
ten_layers = {"1 · randn": learn(lambda: ten_tanh(1.0), seeds=[seed] * 2, rates=tried),
              "randn / √n": learn(ten_tanh, seeds=[seed], rates=tried[1:])}
one_layer = {"1 · randn": hidden_from(1.0, rates=[0.02, 0.1]),
             "0.01 · randn": hidden_from(0.01, rates=[0.02, 0.1])}
for name, by_rate in one_layer.items():
    print(name, {rate: f"{shares.mean():.1%}" for rate, shares in by_rate.items()})

# %% tags=["nbval-varies", "fold", "ledger:err-init-comment-duplicated"]
tops = {name: np.nan_to_num(result.last("valid_accuracy")).max()  # no finite loss: 0
        for name, result in ten_layers.items()}
claims.check("emp-large-init-explodes.trained",
             "Ten tanh layers of {width}, {epochs} epochs, one seed: with 1 · randn, at the "
             "better of two learning rates, {large:.0%} of the test pictures are right, with "
             "randn/√n at one {fit:.0%}.",
             width=width, epochs=epochs, large=(tops["1 · randn"], "<=", 0.4),
             fit=(tops["randn / √n"], ">=", 0.85))
one, hundredth = (max(by_rate.values(), key=np.mean) for by_rate in one_layer.values())
claims.check("err-init-comment-duplicated",
             "One hidden layer of 32 ReLUs, {epochs} epochs, each start at the better of the rates "
             "0.02 and 0.1: with 1 · randn it names {one:.1%} of the test pictures, with "
             "0.01 · randn {hundredth:.1%}: {behind:.1f} points more.",
             epochs=2 * epochs, seeds=runs, on="mean",
             behind=(list(100 * (hundredth - one)), ">=", 1), one=(list(one), "in", (0.8, 0.96)),
             hundredth=(list(hundredth), ">=", 0.93))

# %% [markdown]
# The small network learns from 1 · randn as well, and ends a few points lower, each at its better rate (by the test pictures, as in section 1); at the smaller rate alone the distance is larger. The ten layers do not learn, at these rates (nor at 0.0001 and 0.00001: recorded once with other seeds, not computed here).
#
# Between 0.01 and 1 lies a size that neither loses nor adds. A weighted sum is $z = \sum_i w_i x_i$ over $n$ inputs. Its square is
#
# $$z^2 = \sum_i w_i^2 x_i^2 + \sum_{i \neq j} w_i w_j x_i x_j .$$
#
# If the weights have **mean 0** and are independent of each other and of the inputs, the second sum, the *mixed terms*, has mean 0. The first has $n$ terms, and
#
# $$\text{mean of } z^2 = n \cdot \text{variance of } w \cdot \text{mean of } x^2 .$$
#
# So the size is multiplied by $\sqrt n$ · deviation, once a layer. It stays where the deviation is $1/\sqrt n$.
# The condition matters: evenly drawn numbers from 0 to 1 (`rand`) have a mean of ½.

# %%
exercises.predict("06.p4", "0.01 · rand (even, from 0 to 0.01), 500 tanh units; layer 10:",
                  ("vanishes, like 0.01 · randn", "keeps a middle size", "saturates"))

# %%
starts["randn / √n"] = through(torch.tanh, normal(1 / math.sqrt(500)), seed=seed)
starts["0.01 · rand"] = through(torch.tanh, uniform(0.01), seed=seed)
centre = through(torch.tanh, uniform(0.01, middle=0.5), seed=seed)  # mean 0

# %% tags=["fold"]
narrow = {n: rms(through(torch.tanh, uniform(0.01), n=n, seed=seed)[0][-1])
          for n in (100, 200, 400)}  # layers of n units
sizes = {name: rms(layers[-1]) for name, (layers, _) in starts.items()}
exercises.reveal("06.p4", "saturates" if sizes["0.01 · rand"] > 0.9 else
                 "vanishes, like 0.01 · randn" if sizes["0.01 · rand"] < 0.01 else
                 "keeps a middle size", f"Its size is {sizes['0.01 · rand']:.2f}; minus the "
                 f"mean of the weights, 0.01 · (rand − ½), it is {rms(centre[0][-1]):.0e}.")

fig, axes = plt.subplots(2, 2, figsize=(figures.WIDTH, 4.5), sharex=True, sharey=True)
titles = {"0.01 · randn": "dies out", "1 · randn": "saturates", "randn / √n": "lives",
          "0.01 · rand": "one sign, saturates"}
colours = ("0.45", "C3", "C1", "C2")  # orange: 1/√n, as in the first figure
for ax, (name, (layers, _)), colour in zip(axes.flat, starts.items(), colours, strict=True):
    strips(ax, layers, 1.05, colour)
    ax.set_title(f"{name}: {titles[name]}", fontsize=13)
    ax.set_yticks([-1, 0, 1])
fig.supxlabel("layer")
fig.supylabel("output of tanh")
fig.suptitle("Between too small and too large lies 1/√n, if the mean is 0")
figures.save(fig, "fig-init-histograms",
             caption="Histograms of the outputs of ten layers of 500 tanh units for 100 random "
                     "inputs, before training, one start each; each histogram is as wide as its "
                     "largest bin; a bin with few outputs is drawn a little wider than it is, so "
                     "that it can be seen.",
             alt="Top left the outputs shrink to a line at 0; top right they lie at -1 and 1; "
                 "bottom left they stay spread; bottom right all lie near 1, or all near -1.")

# %% tags=["fold"]
claims.check("emp-small-random-init-collapses",
             "0.01 · randn, ten layers of 500 tanh: the size falls from {first:.2f} to "
             "{tenth:.0e}, and the gradient on its way back to {back:.0e} of what it was.",
             first=rms(starts["0.01 · randn"][0][0]), tenth=(sizes["0.01 · randn"], "<=", 1e-6),
             back=(np.divide(*starts["0.01 · randn"][1][[0, -1]]), "<=", 1e-5))
exploded = through(torch.relu, normal(1.0), seed=seed)[0]
claims.check("emp-large-init-explodes",
             "1 · randn: {full:.0%} of the tenth tanh layer lie beyond ±0.99, and the gradient is "
             "{growth:,.0f} times as large at layer 1 as at layer 10 ({ratio:.2f} times what "
             "lesson 05's law says); with ReLU the size of layer 10 is {relu:.0e}.",
             ratio=(growth / product**9, "in", (0.7, 1.4)), full=(full, ">=", 0.8),
             growth=(growth, ">=", 1000),
             relu=(rms(exploded[-1]), ">=", 1e10))
claims.check("emp-large-init-explodes.near",
             "Inputs moved by a hundredth are {before:.3f} times as far apart as unrelated ones; "
             "at layer 10 with 1 · randn {large:.2f} times, with 3/√n {three:.2f}, with 1/√n "
             "{fit:.3f}.", before=jumps["at the input"],
             large=(jumps["1 · randn"], ">=", 0.7), three=jumps["3 · randn / √n"],
             fit=(jumps["1 · randn / √n"], "<=", 0.05))
claims.check("err-init-rand-vs-randn",
             "0.01 · rand, size of layer 10: {even:.2f} with 500 units a layer, {four:.2f} with "
             "400, {two:.2f} with 200 and {one:.0e} with 100. 0.01 · (rand − ½), 500 units: "
             "{centred:.0e}. √(2/n) · rand and ReLU, 500 units: {he:.0e}.",
             even=(sizes["0.01 · rand"], ">=", 0.9), four=narrow[400], two=narrow[200],
             one=(narrow[100], "<=", 0.01),
             centred=(rms(centre[0][-1]), "<=", 1e-6),
             he=(rms(through(torch.relu, uniform(math.sqrt(2 / 500)), seed=seed)[0][-1]),
                 ">=", 1e8))

# %% [markdown]
# The rule needs only mean and deviation, not the normal distribution: evenly drawn weights, minus their mean, behave as normal ones do. With a mean of ½ the mixed terms add up instead: 0.01 · rand multiplies the *mean* of $n$ numbers by $n \cdot 0.005$ a layer. For $n = 500$ that is 2.5 and all outputs of a picture get one sign; for $n = 100$ it is ½, and the network dies out.
#
# **We now know** the rule: the size is multiplied by $\sqrt n$ · deviation a layer, if weights have mean 0.
# **This does not show** what a bend does to the size. tanh takes a little away; ReLU takes more.
#
# **Exercise 06.3.** In a convolution one output is a sum over all channels of its window. Return the deviation $1/\sqrt n$ for a weight of shape (out, in) or (out, in, height, width); $n$ is the number of inputs of one unit, called its *fan-in*.

# %%
def fan_in_deviation(shape):
    """1 / sqrt(fan-in) of a weight with this shape."""
    ...

exercises.check("06.3", fan_in_deviation)

# %% [markdown]
# ## 4 · Why 2?
#
# Weights of deviation $1/\sqrt n$ are often called *Xavier's* start, after Xavier Glorot. In the first figure it failed: with ReLU.

# %%
exercises.predict("06.p5", "randn / √n with ReLU: each layer multiplies the size by about",
                  ("1", "0.71", "0.5"))

# %%
xavier, he = normal(1 / math.sqrt(500)), normal(math.sqrt(2 / 500))  # for n = 500
ways = {"no bend, 1/n": through(lambda z: z, xavier, seed=seed),
        "tanh, 1/n": through(torch.tanh, xavier, seed=seed),
        "ReLU, 1/n": through(torch.relu, xavier, seed=seed),
        "ReLU, 2/n": through(torch.relu, he, seed=seed),
        "|z|, 1/n": through(torch.abs, xavier, seed=seed)}
size_of = {name: [rms(layer) for layer in layers] for name, (layers, _) in ways.items()}
a_layer = {name: (row[-1] / row[0]) ** (1 / 9) for name, row in size_of.items()}
answers = {"1": 1.0, "0.71": 0.5**0.5, "0.5": 0.5}
nearest = min(answers, key=lambda word: abs(answers[word] - a_layer["ReLU, 1/n"]))
exercises.reveal("06.p5", nearest, f"It is {a_layer['ReLU, 1/n']:.3f}.")

# %% [markdown]
# A weighted sum with random weights is as often negative as positive, and as large. ReLU sets the negative half to 0: half of the mean square is gone, and the size is multiplied by $\sqrt{1/2}$.
# The remedy, due to Kaiming He: weights with variance $2/n$ instead of $1/n$. The 2 gives back what ReLU takes.
# Is that the reason? Keep the negative half, as $|z|$: no output is negative, as with ReLU, but nothing is lost. Then $1/n$ should do.
# (In a live lab, turn the knobs yourself below the figure; a gain $g$ means a deviation of $g/\sqrt n$.)

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.2))
looks = {"no bend, 1/n": "0.5", "tanh, 1/n": "C3", "ReLU, 1/n": "C1", "ReLU, 2/n": "C0",
         "|z|, 1/n": "C2"}
places = {"no bend, 1/n": 1.35, "|z|, 1/n": 0.97, "ReLU, 2/n": 0.66, "tanh, 1/n": 0.23,
          "ReLU, 1/n": 0.026}
for name, row in size_of.items():
    ax.plot(range(1, 11), row, color=looks[name], linewidth=2.5)
    ax.text(10.15, places[name], name, color=DARK["1"] if looks[name] == "C1" else looks[name],
            fontsize=13, va="center")
ax.set(yscale="log", xlabel="layer", ylabel="size of its outputs", xlim=(0.8, 12), ylim=(0.015, 2))
ax.set_xticks(range(1, 11))
ax.set_yticks([0.03, 0.1, 0.3, 1], ["0.03", "0.1", "0.3", "1"])
ax.minorticks_off()
ax.set_title("ReLU loses half of the square in each layer; a 2 in the variance gives it back")
figures.save(fig, "emp-xavier-breaks-relu",
             caption="Root mean square of the outputs of ten layers of 500 units, 100 random "
                     "inputs, weights with variance 1/n or 2/n; one start each.",
             alt="No bend, absolute value and ReLU with 2/n stay near 1; tanh sinks slowly; ReLU "
                 "with 1/n falls to 0.03.")

# %% tags=["fold"]
claims.check("emp-xavier-preserves-variance",
             "Weights of variance 1/n, ten layers: without bend the size is multiplied by "
             "{linear:.2f}, with tanh it falls from {first:.2f} to {tenth:.2f}.",
             linear=(size_of["no bend, 1/n"][-1] / size_of["no bend, 1/n"][0], "in", (0.9, 1.1)),
             first=size_of["tanh, 1/n"][0], tenth=(size_of["tanh, 1/n"][-1], "in", (0.1, 0.4)))
claims.check("emp-xavier-breaks-relu",
             "With ReLU a layer multiplies the size by {relu:.3f} (√½ = {half:.3f}), with |z| by "
             "{both:.3f}.", half=0.5**0.5,
             relu=(a_layer["ReLU, 1/n"], "~", round(0.5**0.5, 3), 0.05),
             both=(a_layer["|z|, 1/n"], "~", 1.0, 0.05))
claims.check("emp-he-fixes-relu.size",
             "With ReLU and variance 2/n layer 10 has {ratio:.2f} times the size of layer 1.",
             ratio=(size_of["ReLU, 2/n"][-1] / size_of["ReLU, 2/n"][0], "in", (0.7, 1.4)))
rows = {}
deviations = {"0.01": 0.01, "1": 1.0, "1/√n": 300**-0.5, "√(2/n)": (2 / 300) ** 0.5}
for place, (name, factor) in enumerate(deviations.items()):  # each with weights of its own
    layers, _ = through(lambda z: z, normal(factor), n=300, seed=seed + place)
    measured = (rms(layers[-1]) / rms(layers[0])) ** (1 / 9) / (300**0.5 * factor)
    rows[name] = (measured, 1.0)
claims.table("eq-init-schemes",
             "Ten linear layers of 300: measured factor a layer, divided by √n · deviation.", rows,
             columns=("deviation", "measured / law", "expected"), tolerance=0.02)

# %% tags=["fold"]
def every_layer(bend, gain):
    bends = {"tanh": torch.tanh, "ReLU": torch.relu, "none": lambda z: z}
    layers, back = through(bends[bend], normal(gain / math.sqrt(200)), n=200, seed=seed)
    figure, ax = plt.subplots(figsize=(figures.WIDTH, 3.2))
    high = 1.05 if bend == "tanh" else 2.1  # bins end at ±1: tanh goes no further
    strips(ax, layers, high, "C0")
    outside = (layers[-1].abs() > high).double().mean().item()
    ax.set(xlabel="layer", ylabel="output", title=f"{bend}, gain {gain:g}")
    return figure, (f"Size of layer 10: {rms(layers[-1]):.2g}. The gradient is "
                    f"{back[0] / back[-1]:.2g} times as large at layer 1 as at layer 10. "
                    f"{outside:.0%} of layer 10's outputs lie outside the picture.")

functions = ("tanh", "ReLU", "none")
widgets.explore(every_layer, bend=widgets.Choice("tanh", functions, "function", kept=functions),
                gain=widgets.Slider(1.0, 0.2, 4.0, 0.1, "gain",
                                    kept=(0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 3.0, 4.0)))

# %% [markdown]
# ### Forward or backward?
#
# On the way back (lesson 03) a layer sums over its *outputs*, so there $1/n_\text{out}$ keeps the size. Where layers widen, one number cannot serve both ways. Glorot and Bengio proposed the compromise $2/(n_\text{in} + n_\text{out})$; this, not $1/n$, is what torch calls `xavier`. It keeps neither, and shares the error between both.
# Which to take? Where all layers are equally wide, the three are the same. Else either single way will do (He and co-authors, section 2.2): the other is then off by the root of last width over first, however many layers lie between.

# %% tags=["fold"]
def both_ways(variance, widths=(50, 100, 200, 400, 800)):
    """Factors by which the size changes forward, and the gradient's backward, without bend."""
    g = torch.Generator().manual_seed(seed)
    x = start = torch.randn(400, widths[0], generator=g).requires_grad_()
    for n, m in zip(widths, widths[1:], strict=False):
        x = x @ (variance(n, m) ** 0.5 * torch.randn(n, m, generator=g))
    top = torch.randn(x.shape, generator=g)
    x.backward(top)
    return rms(x.detach()) / rms(start.detach()), rms(start.grad) / rms(top)

fans = {"1/in": both_ways(lambda n, m: 1 / n), "1/out": both_ways(lambda n, m: 1 / m),
        "2/(in + out)": both_ways(lambda n, m: 2 / (n + m))}
claims.check("err-xavier-fan-in",
             "Four layers, each twice as wide as the one before: variance 1/in multiplies the "
             "numbers by {f:.2f} and the gradients by {b:.2f}; 1/out by {fo:.2f} and {bo:.2f}; "
             "2/(in + out) by {fg:.2f} and {bg:.2f}.",
             f=(fans["1/in"][0], "in", (0.85, 1.15)), b=(fans["1/in"][1], "in", (3.4, 4.6)),
             fo=(fans["1/out"][0], "in", (0.2, 0.3)), bo=(fans["1/out"][1], "in", (0.85, 1.15)),
             fg=(fans["2/(in + out)"][0], "in", (0.35, 0.55)),
             bg=(fans["2/(in + out)"][1], "in", (1.5, 2.1)))

# %% tags=["fold"]
laws = {"xavier_normal_: 2/(in + out)": (nn.init.xavier_normal_, 2 / 1200),
        "xavier_uniform_: 2/(in + out)": (nn.init.xavier_uniform_, 2 / 1200),
        "kaiming_normal_, relu: 2/in": (
            lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"), 2 / 400),
        "nn.Linear as it comes: 1/(3 in)": (lambda w: nn.Linear(400, 800).weight, 1 / 1200)}
with runtime.seeded(seed), torch.no_grad():
    rows = {name: (1e3 * start(torch.empty(800, 400)).var().item(), 1e3 * variance)
            for name, (start, variance) in laws.items()}
claims.table("eq-init-schemes.torch",
             "Variance of 800×400 weights drawn by torch, in thousandths.", rows,
             columns=("torch: variance", "measured", "by this law"), tolerance=0.05)

with runtime.seeded(seed), torch.no_grad():
    x = pictures
    for part in net(1.0):
        if isinstance(part, nn.Linear):
            part.reset_parameters()  # as torch makes it
        x = part(x)
        top["nn.Linear"] = rms(x) if isinstance(part, nn.ReLU) else top.get("nn.Linear")
claims.check("eq-init-schemes.default",
             "Untrained, {depth} layers of `nn.Linear` as it comes, without biases: the size in "
             "the last hidden layer is {default:.0e}, {share:.0e} of that with 1/√n.", depth=depth,
             default=top["nn.Linear"],
             share=(top["nn.Linear"] / rms(outputs["1"][-1]), "<=", 0.01))

# %% [markdown]
# So `nn.Linear` by itself draws with a variance of $1/(3n)$, a third of $1/n$. In the network of the first figure the numbers then shrink faster still.
#
# **We now know** where the 2 comes from, and when to expect another number.
# **This does not show** that a network with the right size learns.
#
# **Exercise 06.4.** A leaky ReLU keeps the negative half, times `slope`. Which deviation keeps the size, with $n$ inputs?

# %%
def leaky_deviation(n, slope):
    """Deviation of weights that keeps the size through a leaky ReLU."""
    ...

exercises.check("06.4", leaky_deviation)

# %% [markdown]
# ## 5 · Thirty layers again
#
# Back to the first figure. Is *size* really all that is broken? Perhaps the network with 1/√n has a worse function, or sees the pictures less well.
# First the obvious remedy, another learning rate alone: larger ones where the numbers are small, smaller ones where they are large.

# %% tags=["nbval-varies"]
ladder = {"1": [0.1, 2.0, 5.0, 20.0], "2": [1e-7, 1e-6, 1e-5, 1e-4]}
alone = {name: learn(lambda gain=gains[name]: net(gain), seeds=4 * [seed], rates=tried)
         for name, tried in ladder.items()}
for name, tried in ladder.items():
    for other, share in zip(tried, alone[name].last("valid_accuracy"), strict=True):
        print(f"{name}/√n, rate {other:g}:", "breaks" if math.isnan(share) else f"{share:.0%}")

# %% [markdown]
# (Breaks: its loss is no finite number any more.) None comes near the middle network: some break, the rest stay far below it (from where to where says the ✓ below).
# Now leave all weights as they are, and multiply the *scores* by one number: with 1/√n each matrix is smaller by √2, so we take √2 once for each matrix; with 2/√n we divide.

# %%
factor = math.sqrt(2) ** (depth + 1)  # 30 hidden layers have 31 matrices
exercises.predict("06.p6", f"1/√n, scores times {factor:,.0f}, half the rate (why half: below):",
                  ("does not learn", "better than guessing, worse than √2/√n",
                   "learns exactly as √2/√n"))

# %%
repaired = {"1": learn(lambda: net(1.0, factor), rate / 2, seeds=[seed]),
            "2": learn(lambda: net(2.0, 1 / factor), 2 * rate, seeds=[seed])}

# %% tags=["nbval-varies", "fold"]
gaps = {name: np.abs(np.subtract([history["train_loss"] for history in result],
                                 losses["√2"][:1])).max() for name, result in repaired.items()}
best = np.mean(repaired["1"].last("valid_accuracy"))
exercises.reveal("06.p6", "learns exactly as √2/√n" if gaps["1"] < 1e-4 else "does not learn"
                 if best < 2 / classes else "better than guessing, worse than √2/√n",
                 f"The training losses differ by {gaps['1']:.0e} at most.")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.0))
plain, times = dict(linewidth=5, alpha=0.4), f"{factor:,.0f}"
drawn = [("√2 / √n", losses["√2"][:1], "C0", "-", plain),
         (f"1 / √n, scores × {times}, half the rate",
          [h["train_loss"] for h in repaired["1"]], "C1", "--", {}),
         (f"2 / √n, scores / {times}, twice the rate",
          [h["train_loss"] for h in repaired["2"]], "C3", ":", dict(linewidth=3)),
         ("1 / √n as it is", losses["1"][:1], "C1", "-", {})]
for name, rows, colour, style, more in drawn:
    ax.plot(range(1, len(rows[0]) + 1), rows[0], style, color=colour, label=name, **more)
ax.set(xlabel="epoch", ylabel="training loss", ylim=(0, 2.8))
ax.legend(loc="lower left", fontsize=13)
ax.set_title("A factor on the scores and a fitting rate mend both networks")
figures.save(fig, "emp-he-fixes-relu.one-number",
             caption=f"{depth} hidden layers of {width} ReLUs, {dataset}, first seed. "
                     f"Learning rates {rate:g}, {rate / 2:g} and {2 * rate:g}. (2 / √n as it "
                     "is has no finite loss.)",
             alt="The lines of both mended networks lie on that of the network with √2/√n; "
                 "without the factor the loss stays at guessing.")

# %% tags=["nbval-varies", "fold"]
claims.check("emp-he-fixes-relu.one-number",
             "First seed: 1/√n with scores times {factor:,.0f} and half the learning rate: the "
             "training losses of {epochs} epochs differ from those with √2/√n by {small:.0e} at "
             "most; 2/√n with scores divided by it and twice the rate: by {large:.0e}. 1/√n as it "
             "is, all seeds: by {without:.1f}.", epochs=epochs, factor=factor,
             small=(gaps["1"], "<=", 1e-6),
             large=(gaps["2"], "<=", 1e-6), varies=True,
             without=(np.mean(ends["1"]) - np.mean(ends["√2"]), ">=", 0.7))
shares = np.concatenate([result.last("valid_accuracy") for result in alone.values()])
claims.check("emp-he-fixes-relu.rate",
             "First seed, {epochs} epochs, another rate alone (1/√n at four from 0.1 to 20, "
             "2/√n at four from 1e-7 to 1e-4): {lost} of eight networks end without a finite loss, "
             "the others name {worst:.0%} to {best:.0%} of the test pictures (√2/√n at its rate "
             "{right:.0%}, guessing {guess:.0%}).", epochs=epochs, lost=int(np.isnan(shares).sum()),
             best=(np.nan_to_num(shares).max(), "<=", 0.35), guess=1 / classes,
             worst=np.nan_to_num(shares, nan=1).min(),
             right=learnt["√2"].last("valid_accuracy")[0])

# %% [markdown]
# Nothing but size was lost. Dividing all matrices by √2 divides the scores by a known number; give it back, and the loss sees the same scores.
# The weights are smaller by √2. So their steps must be smaller by √2 too; but their gradients are *larger* by √2, and the learning rate has to make up for both: it is halved. Then the two networks walk the same way, step by step.
# By the same arithmetic the factor alone, at the old rate, gives the way of √2/√n at *another* rate: twice as large for 1/√n, half as large for 2/√n.
# Why did no rate that we tried do without the factor? We have not tested it. A rate belongs to a size; without the factor the size of the scores would have to change by powers of ten while the network learns.
#
# **We now know** what was broken in the plain deep networks: not their function, only the size of their scores, and with it the size of every step.
# This is exact for ReLU without biases or weight decay, for SGD (with momentum), and for *one* common factor in all matrices; with another factor in each layer, each needs its own rate.
# **This does not show** that initialisation decides in every network: BatchNorm (lesson 07) sets the size of each layer at each step, and shortcuts (lesson 14) carry it past the layers. Nor do we know whether √2/√n is the best start here: we tried three. How far it gets in these few epochs is chance, too: nine networks with the seeds 200 to 202, 300 to 302 and 400 to 402 (recorded once, not computed here) named between 34 and 67 % of the test pictures.
#
# **Exercise 06.5.** A ReLU network without biases has `layers` matrices and learns with SGD at `rate`. Divide every matrix by `c`. Which factor on the scores, and which learning rate, give exactly the same training?

# %%
def same_way(layers, rate, c):
    """(factor, learning rate) for the network with all matrices divided by c."""
    ...

exercises.check("06.5", same_way)

# %% [markdown]
# **Exercise 06.6.** A network of ReLUs without biases stands still. `weights` is a list of matrices (in, out), `x` (N, in) its inputs. All matrices were drawn with He's deviation, but *one* was multiplied by a wrong number. Send `x` through and look at the sizes. Return the number of the broken matrix, from 1, and the factor that mends it (within 20 %).

# %%
def broken(weights, x):
    """(number of the broken matrix from 1, factor by which it must be multiplied)."""
    ...

exercises.check("06.6", broken)

# %% [markdown]
# ## In practice
#
# - Pictures: `torchvision.transforms.v2.Normalize(mean, std)`, one number a channel, from the training set. For pretrained networks use *their* numbers (`weights.transforms()`, or `timm.data.resolve_data_config`).
# - ReLU networks: `nn.init.kaiming_normal_(w, nonlinearity="relu")`; torchvision's ResNets use it with `mode="fan_out"`. Other functions: `nn.init.calculate_gain`.
# - `nn.Linear` and `nn.Conv2d` as they come start with smaller weights than He's (a sixth of the variance); with normalisation layers it matters less (lesson 07).
# - Transformers: `nn.init.trunc_normal_(w, std=0.02)`. The last scale of a residual branch may start at 0 (torchvision: `zero_init_residual`).
# - A network that stands still: print the size of every layer's numbers before the first step.
#
# ## History
#
# - 1998: Y. LeCun, L. Bottou, G. Orr and K.-R. Müller, *Efficient BackProp*: centre and decorrelate the inputs, draw weights with deviation $1/\sqrt{n}$.
# - 2006: G. Hinton, S. Osindero and Y. Teh train deep networks layer by layer first, since a random start fails. 2010: X. Glorot and Y. Bengio look for the reason, and propose $2/(n_\text{in} + n_\text{out})$.
# - 2012: AlexNet draws with a fixed deviation of 0.01. 2014: VGG's network of 11 layers starts from random numbers, the deeper ones take over its first four and last three trained layers; after submission the authors found that Glorot and Bengio's start does without (their section 3.1).
# - 2013: A. Saxe, J. McClelland and S. Ganguli: orthogonal matrices. 2015: K. He, X. Zhang, S. Ren and J. Sun derive the 2, and train a network of 30 layers that does not start with $1/n$.
# - 2015: BatchNorm; D. Mishkin and J. Matas measure each layer and divide (exercise 06.7). 2019: H. Zhang, Y. Dauphin and T. Ma train residual networks without normalisation by their start alone (*Fixup*).
#
# ## Exercises that are left
#
# **06.7 Open.** No formula for your function? Measure. `weights` is a list of matrices (in, out), `x` (N, in) some inputs, `bend` any function. Go through the layers and rescale each matrix by one number, so that the size of its outputs, *behind* the bend, is 1. Return the new matrices. (One division is exact only if the function does not mind a factor. How would you treat tanh? The answer comes with the ✓.)

# %%
def measured_start(weights, x, bend):
    """The matrices, each times one number, so that every layer's outputs have size 1."""
    ...

exercises.check("06.7", measured_start)

# %% [markdown]
# **06.8 Open.** Look again at the first figure. Name two things that it does *not* show. (Which sentence would you have to drop if the networks had four layers, biases, or another learning rate? Change `depth` and `rate`, and look.)
#
# ## Summary
#
# - Centre along the axis that runs over the pictures. An offset makes one direction long, and plain gradient descent slow. Scaling each column helps where columns are measured on different scales; pixels share one.
# - Hidden units with equal incoming *and* outgoing weights stay equal; one random layer of the two parts them. A difference of a millionth grew, in time. A single matrix may start at 0.
# - A layer multiplies the size of its numbers by √n · deviation of its weights, if their mean is 0, and by what the bend keeps: √½ with ReLU.
# - So 1/n without bend, 2/n with ReLU. Large weights saturate tanh, and there the gradient grows; ten such layers did not learn at the rates tried; a single hidden layer of ReLUs did, less well than from small weights.
# - In a deep ReLU network without biases, under SGD, one wrong factor in all matrices changes only the size: a number behind the last layer and a fitting rate undo it exactly.

# %% [markdown]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | `X -= np.mean(X, axis = 1)` | `axis=0` for a table whose rows are pictures: with 1 it stops, or subtracts the wrong numbers; with pictures as columns `axis=1, keepdims=True` | section 1 |
# | weights from `np.random.rand` in all lines | `np.random.randn`; `rand` has mean ½: with 0.01 and 500 units a layer nothing dies out, everything **saturates** (with 100 it does die out) | section 3 |
# | `1 * np.random.rand`, meant as `randn`: "works OK for small networks" (copied from 0.01) | with one hidden layer of 32 it learns, less well than from 0.01, each at the better of two rates (points: section 3); ten layers saturate (tanh: did not learn) or explode (ReLU) | section 3 |
# | "explode with big numbers" | with ReLU; **tanh saturates**, and its gradients grow backwards although most slopes are nearly 0 | section 3 |
# | Xavier keeps the variance | without bend; with tanh it sinks slowly, with ReLU each layer halves the mean square | section 4 |
# | `rand(in, out) / sqrt(in)` is Xavier | `in` is a word of Python: the line cannot run. 1/in is the older, forward-only rule; Glorot and Bengio's is 2/(in + out) | section 4 |
# | equal weights: "the same gradient" | for hidden units with equal incoming **and** outgoing weights; with one random layer the network learns. With all weights 0 they get no gradient at all, and one matrix alone may start at 0 | section 2 |
# | we centre because data must not be all positive | mixed signs do not help, in one matrix with softmax: an offset makes one direction long, and that costs the steps | section 1 |
# | "in images we don't" divide by the deviation | not each pixel by its own (it gains nothing here); by one number **a channel** is common today | section 1, In practice |
#
# ## Sources
#
# - The notes: lecture 004 on data preprocessing and weight initialisation (after CS231n, Stanford 2017), lectures 001 and 002 on AlexNet and VGG.
# - Y. LeCun, L. Bottou, G. Orr and K.-R. Müller: Efficient BackProp. In: Neural Networks: Tricks of the Trade, 1998.
# - G. Hinton, S. Osindero and Y. Teh: A fast learning algorithm for deep belief nets. Neural Computation 18, 2006.
# - X. Glorot and Y. Bengio: Understanding the difficulty of training deep feedforward neural networks. AISTATS 2010.
# - A. Krizhevsky, I. Sutskever and G. Hinton: ImageNet classification with deep convolutional neural networks. NIPS 2012. K. Simonyan and A. Zisserman: Very deep convolutional networks for large-scale image recognition, 2014 (arXiv:1409.1556).
# - A. Saxe, J. McClelland and S. Ganguli: Exact solutions to the nonlinear dynamics of learning in deep linear neural networks, 2013 (arXiv:1312.6120).
# - K. He, X. Zhang, S. Ren and J. Sun: Delving deep into rectifiers, 2015 (arXiv:1502.01852), section 2.2. D. Mishkin and J. Matas: All you need is a good init, 2015 (arXiv:1511.06422).
# - H. Zhang, Y. Dauphin and T. Ma: Fixup initialization, 2019 (arXiv:1901.09321).
