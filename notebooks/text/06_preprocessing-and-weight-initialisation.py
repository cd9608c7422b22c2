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
# The middle one learns. The first stands still; the last breaks at once, its loss is no finite number any more.
# Odd: before training, all three name *the same digit for every picture*. As classifiers they are equal, and yet two of them are broken.
#
# **You will be able to**
# - centre and scale pictures, along the right axis, with the right pictures' statistics;
# - say why hidden layers must not start with equal weights, and a single layer may;
# - tell from one product how large the numbers of a layer will be, and choose the weights accordingly;
# - derive the 2 of He's start, and the number for other functions;
# - test what is broken in a network that stands still.
#
# **You need** lesson 02 (softmax, loss), lesson 03 (gradients) and lesson 05 (ReLU, tanh, slopes).
#
# **Words.** The *deviation* is the standard deviation. The *size* of many numbers is their root mean square, $\sqrt{\text{mean of } x^2}$; if their mean is 0, it is the deviation. In code, `randn` draws from the normal distribution with mean 0 and deviation 1, and `rand` evenly between 0 and 1.
# Claims (✓) are made for the parameters below; with others the lesson shows what it measures and requires nothing.
#
# **It costs** about 30 seconds of one processor core, no network connection, no GPU.

# %% tags=["parameters"]
seed: int = 20  # the first of the seeds; at least 0
runs: int = 3  # networks for each setting, each with a seed of its own; 2 to 10
dataset: str = "digits"  # ; one of digits, mnist, fashion_mnist, cifar10, or a folder
image_size: int = 0  # pixels a side for the pictures of a folder, 0: as they are; 0 to 64
images: int = 1347  # training pictures, at most; at least 320
depth: int = 30  # hidden layers of the deep networks; 2 to 60
width: int = 90  # units a hidden layer; 8 to 512
epochs: int = 8  # passes over the training pictures; 2 to 100
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

# %%
runtime.start(seed=seed, dtype="float64")
size = image_size or None
train = data.load(dataset, True, size=size).subset(images, seed=seed).normalised()
test = data.load(dataset, False, size=size).normalised(train.mean, train.std)
pictures, labels = next(train.batches(len(train)))  # all, with mean 0 and deviation 1
inputs, classes = pictures[0].numel(), len(train.classes)
seeds = range(seed, seed + runs)
train, test

# %% [markdown]
# The networks are as plain as can be: matrices without biases, a ReLU behind each but the last.

# %% tags=["define"]
def deep(gain, layers=30, width=100, inputs=64, classes=10, factor=1.0):
    """`layers` hidden layers of ReLUs, and scores times `factor`; weights of gain / sqrt(n)."""
    sizes = [inputs] + layers * [width] + [classes]
    parts = [nn.Flatten()]
    for n, units in zip(sizes, sizes[1:], strict=False):
        matrix = nn.Linear(n, units, bias=False)
        nn.init.normal_(matrix.weight, std=gain / math.sqrt(n))
        parts += [matrix, nn.ReLU()]
    parts[-1] = Times(factor)  # no ReLU behind the scores
    return nn.Sequential(*parts)

class Times(nn.Module):
    """All numbers times one factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x

# %% tags=["fold"]
# A deep network for these pictures, and its training.
def net(gain, factor=1.0):
    return deep(gain, depth, width, inputs, classes, factor)

def learn(make, rate=rate, epochs=epochs, optimizer=None, seeds=seeds, rates=None):
    """Train one network a seed by SGD with momentum 0.9."""
    def sgd(weights, rate=rate):
        return torch.optim.SGD(weights, lr=rate, momentum=0.9)
    return training.repeat(make, train, test, seeds=seeds, epochs=epochs, batch_size=64,
                           drop_last=True, progress=False, optimizer=optimizer or sgd,
                           learning_rates=rates)

# %%
gains = {"1": 1.0, "√2": math.sqrt(2), "2": 2.0}
learnt = {name: learn(lambda gain=gain: net(gain)) for name, gain in gains.items()}

# %%
by_layer, named = {}, {}
with torch.no_grad():
    for name, gain in gains.items():
        with runtime.seeded(seed):
            untrained = net(gain)
        x, by_layer[name] = pictures, [pictures.square().mean().sqrt().item()]
        for part in untrained:
            x = part(x)
            if isinstance(part, nn.ReLU):
                by_layer[name].append(x.square().mean().sqrt().item())  # size of the numbers
        named[name] = x.argmax(1)  # the digit that it names

# %% tags=["fold"]
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.3))
losses = {name: [history["train_loss"] for history in result] for name, result in learnt.items()}
for name, sizes in by_layer.items():
    axes[0].plot(range(depth + 1), sizes, color=COLOURS[name])
    axes[0].text(depth * 1.02, sizes[-1], f"{name} / √n", color=DARK[name], fontsize=13,
                 va="center")
axes[0].set(yscale="log", xlabel="hidden layer (0: pixels)", ylabel="size of its numbers",
            xlim=(0, depth * 1.3), title="before training")
axes[0].minorticks_off()
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
axes[1].text(1, 0.2, "2 / √n: no finite loss", color="C3", fontsize=13)
axes[1].set(xlabel="epoch", ylabel="training loss", ylim=(0, 2.8), xlim=(0.5, epochs + 0.5),
            title=f"training, {runs} seeds each")
fig.suptitle(f"Through {depth} layers a factor of √2 in the weights decides")
figures.save(fig, "emp-he-fixes-relu",
             caption=f"{depth} hidden layers of {width} ReLUs without biases, {dataset}, SGD with "
                     f"momentum 0.9, learning rate {rate:g}, batches of 64. Left: root mean "
                     "square of a layer's outputs, first seed. Right: each line one seed.",
             alt="Left, in a logarithmic plot, the numbers fall to a 30,000th, stay, or grow "
                 "30,000-fold with depth. Right only the middle network's loss falls.")

# %% tags=["fold"]
ends = {name: result.last("train_loss") for name, result in learnt.items()}
broken = sum(not math.isfinite(loss) for loss in ends["2"])
same = np.mean([(named[name] == named["√2"]).double().mean().item() for name in ("1", "2")])
claims.check("emp-he-fixes-relu",
             "After {epochs} epochs the training loss is {right:.2f} with √2/√n and {small:.3f} "
             "with 1/√n (guessing: {guess:.3f}); the test accuracy {accuracy:.0%} and "
             "{stuck:.0%}.",
             epochs=epochs, right=(ends["√2"], "<=", 1.6), small=(ends["1"], ">=", 2.2),
             guess=math.log(classes), accuracy=(learnt["√2"].last("valid_accuracy"), ">=", 0.4),
             stuck=(learnt["1"].last("valid_accuracy"), "<=", 0.2), seeds=runs, on="every")
claims.check("emp-large-init-explodes.deep",
             "With 2/√n {broken} of {runs} networks lose every finite number.",
             broken=(broken, "==", runs), runs=runs)
claims.check("emp-he-fixes-relu.same",
             "Untrained, first seed: the digits named with 1/√n and 2/√n are those named with "
             "√2/√n in {same:.1%} of the pictures.", same=(same, ">=", 0.999))

# %% [markdown]
# The claim about equal digits has a simple reason: ReLU does not know units. Double all weights of a layer, and all of its outputs double.
# So what *is* broken? We come back to these networks in section 5.
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
    return centred(x) @ axes / variances.sqrt()

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

# %% tags=["fold"]
off = max(centred(cloud).mean(0).abs().max().item(), whitened(cloud).mean(0).abs().max().item())
round_ = (torch.cov(whitened(cloud).T) - torch.eye(2)).abs().max().item()
flat = pictures.flatten(1)
print("mean image", tuple(pictures.mean(0).shape), " mean of each channel",
      tuple(pictures.mean((0, 2, 3)).shape))
claims.check("eq-preprocessing",
             "Centred, all column means are 0 up to {off:.0e}; whitened, the covariances are "
             "those of a round cloud up to {round:.0e}.",
             off=(off, "<=", 1e-12), round=(round_, "<=", 1e-10), varies=True)
square = np.arange(9.0).reshape(3, 3) ** 2  # as many rows as columns
wrong = square - np.mean(square, axis=1)  # the notes' line
try:
    stopped = str(np.ones((3, 2)) - np.mean(np.ones((3, 2)), axis=1))
except Exception as error:
    stopped = type(error).__name__
claims.check("err-preprocess-axis",
             "`x - np.mean(x, axis=1)` ends in a {error} for a 3×2 table; for a 3×3 table it runs, "
             "and leaves column means up to {left:.0f}.",
             error=(stopped, "==", "ValueError"), left=(abs(wrong.mean(0)).max(), ">", 1))

# %% [markdown]
# What does it buy? We train one matrix with softmax (lesson 02) by gradient descent on 500 pictures, at nine learning rates, and count steps until the loss is 0.15.
# Once on centred pixels; once after adding 5 to each of them. Both have the same information, and the same scores can be reached (the bias takes up the 5).

# %% tags=["define"]
def steps_to(x, labels, rate, shorten=None, goal=0.15, most=300):
    """Steps of gradient descent until the softmax loss on x (N, D) is below goal; inf if never.

    shorten = (direction (D + 1,), times): along this direction, steps are so many times shorter.
    """
    x = torch.cat([x, torch.ones(len(x), 1)], 1)  # the last column: the bias
    weights = torch.zeros(x.shape[1], int(labels.max()) + 1)
    wanted = F.one_hot(labels).to(x)
    for step in range(most):
        loss = F.cross_entropy(x @ weights, labels).item()
        if loss < goal or not math.isfinite(loss):
            return step if loss < goal else math.inf
        gradient = x.T @ (torch.softmax(x @ weights, 1) - wanted) / len(x)
        if shorten:
            direction, times = shorten
            along = torch.outer(direction, direction @ gradient)
            gradient = gradient - along + along / times
        weights = weights - rate * gradient
    return math.inf

# %%
rates = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]
some, digits = centred(flat)[:500], labels[:500]
bright = pictures * train.std.view(-1, 1, 1) + train.mean.view(-1, 1, 1)  # as it was, 0 to 1
versions = {"brightness 0 to 1": bright[:500].flatten(1), "centred": some,
            "centred, plus 5": some + 5}
needed = {name: [steps_to(x, digits, rate) for rate in rates] for name, x in versions.items()}
{name: min(steps) for name, steps in needed.items()}

# %% [markdown]
# Why? Here is a suspect. After adding 5, *one* direction is far longer than all others: that in which all pixels rise together. A step that is short enough for it is too short for the rest.
# The test: leave the 5 where it is, and shorten the steps in this one direction only.

# %%
exercises.predict("06.p1", "Plus 5, steps shortened in one direction. The goal within 300 steps:",
                  ("out of reach still", "reached, but in twice the steps", "as soon as centred"))

# %%
table = torch.cat([some + 5, torch.ones(len(some), 1)], 1)
mean_squares, directions = torch.linalg.eigh(table.T @ table / len(some))  # ascending
longest, second = mean_squares[-1].item(), mean_squares[-2].item()
shorten = directions[:, -1], longest / second
needed["plus 5, one direction shortened"] = [
    steps_to(some + 5, digits, rate, shorten) for rate in rates]

# %% tags=["fold"]
fewest = {name: min(steps) for name, steps in needed.items()}
mended, ideal = fewest["plus 5, one direction shortened"], fewest["centred"]
exercises.reveal("06.p1", "out of reach still" if math.isinf(mended) else "as soon as centred"
                 if mended < 1.5 * ideal else "reached, but in twice the steps",
                 f"Centred {ideal} steps, shortened in one direction {mended}.")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.0))
looks = {"brightness 0 to 1": ("C2", "D-"), "centred": ("C0", "o-"),
         "centred, plus 5": ("C3", "s-"), "plus 5, one direction shortened": ("C3", "x--")}
for name, steps in needed.items():
    colour, style = looks[name]
    ax.plot(rates, [min(number, 420) for number in steps], style, color=colour, label=name,
            markersize=9, clip_on=False)
ax.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="steps to a loss of 0.15",
       ylim=(2, 600))
ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
ax.set_yticks([3, 10, 30, 100, 420], ["3", "10", "30", "100", "not in 300"])
ax.minorticks_off()
ax.legend(loc="lower left", fontsize=12)
ax.set_title("An offset of 5 is ruinous; shorter steps in one direction undo it")
figures.save(fig, "emp-zero-centering-helps",
             caption=f"One matrix with softmax, full-batch gradient descent on 500 {dataset} from "
                     "weights of 0. No randomness but the choice of the pictures.",
             alt="With the offset no rate reaches the goal in 300 steps; with steps shortened in "
                 "one direction the curve lies on that of centred pixels.")

# %% tags=["fold"]
claims.check("emp-zero-centering-helps",
             "At the best of nine learning rates centred pixels need {centred} steps, brightness "
             "{raw}, pixels plus 5 {shifted} (inf: more than 300), and with one direction "
             "shortened {mended}.", centred=ideal, raw=fewest["brightness 0 to 1"],
             shifted=(fewest["centred, plus 5"], ">", 300),
             mended=(mended, "<=", 1.5 * ideal))
toward = abs((table.mean(0) / table.mean(0).norm() @ directions[:, -1]).item())
claims.check("emp-zero-centering-helps.direction",
             "Plus 5, the mean square along the longest direction is {longest:,.0f}, along the "
             "next {second:.1f}; the cosine between the longest and the mean is {cosine:.3f}.",
             longest=(longest, ">=", 100 * second), second=second, cosine=(toward, ">=", 0.99))

# %% [markdown]
# Scaling is another matter. For a table of ages and incomes it makes columns comparable. For pictures all columns have the same unit already, and a column that hardly ever changes is blown up:

# %% tags=["fold", "ledger:prac-normalise-images"]
unseen = next(test.batches(len(test)))[0].flatten(1)
mean, deviation = flat.mean(0), flat.std(0)
changing = deviation > 0
each = ((unseen - mean)[:, changing] / deviation[changing]).abs().max().item()
together = (unseen - mean).abs().max().item()
claims.check("prac-normalise-images",
             "Each pixel divided by its own deviation, the largest number in the test set is "
             "{each:.0f}; all divided by one, {together:.1f}. ({still} pixels never change in "
             "training: their deviation is 0.)",
             each=(each, ">=", 10), together=(together, "<=", 5), still=int((~changing).sum()))

# %% [markdown]
# So for pictures: subtract a mean (of each pixel: the *mean image*, or of each channel: three numbers) and divide, if at all, each channel by one number.
# Whichever it is, the numbers come from the *training* pictures, and the test pictures get the same.
#
# **We now know** that an offset costs steps, because it makes one direction steep; and along which axis to subtract.
# **This does not show** that plain brightness is ruinous: at its own best rate it needs more steps, and arrives. (Its numbers are smaller too, so its best rate is another.)
#
# **Exercise 06.1.** `train` (N, D) and `test` (M, D), arrays of numpy. Return both with the training columns centred and scaled. Columns that never change in training are centred only.

# %%
def prepared(train, test):
    """Both tables, centred and scaled by the training columns."""
    ...

exercises.check("06.1", prepared)

# %% [markdown]
# ## 2 · Zero: equals stay equal
#
# Now the weights. Why random at all? The matrix above started at 0 and learnt well. Here it does so on all training pictures. Beside it: a network with one hidden layer of 32 ReLUs, all weights 0; and the same with all weights 0.1.

# %% tags=["define"]
def small(start, inputs=64, classes=10, units=32):
    """One hidden layer of ReLUs, and scores; start(weight) sets the weights, biases are 0."""
    layers = nn.Linear(inputs, units), nn.Linear(units, classes)
    for layer in layers:
        start(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1])

# %% tags=["fold"]
def single():
    """One matrix, all weights 0."""
    layer = nn.Linear(inputs, classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.Flatten(), layer)

def hidden(start, epochs=3 * epochs):
    """A hidden layer, trained three times as long as the deep networks."""
    return learn(lambda: small(start, inputs, classes), 0.02, epochs)

# %%
shallow = {"one matrix, all 0": learn(single, 0.02), "all 0": hidden(nn.init.zeros_, epochs),
           "all 0.1": hidden(lambda w: nn.init.constant_(w, 0.1))}
{name: f"{np.mean(result.last('valid_accuracy')):.0%}" for name, result in shallow.items()}

# %% [markdown]
# With all weights 0 the hidden units put out 0, and nothing flows back through weights of 0: only the last bias gets a gradient.
# With all weights 0.1 the gradients are not 0. But two hidden units with the same weights compute the same number, get the same gradient, take the same step: they have the same weights for ever. 32 units are one, 32 times.
#
# How different must they be? We add noise with a deviation of one millionth to each 0.1.

# %%
exercises.predict("06.p2", "All weights 0.1, plus noise of a millionth. In the end the network is:",
                  ("about as good as a random start", "far behind, better than equal weights",
                   "as bad as equal weights"))

# %%
shallow |= {"0.1 ± a millionth": hidden(lambda w: nn.init.normal_(w, 0.1, 1e-6)),
            "0.1 ± a thousandth": hidden(lambda w: nn.init.normal_(w, 0.1, 1e-3)),
            "random": hidden(nn.init.kaiming_normal_)}  # of section 4
right = {name: np.array([history["valid_accuracy"] for history in result])  # (runs, epochs)
         for name, result in shallow.items()}

# %% tags=["fold"]
equal, tiny, random_ = (right[name][:, -1].mean()
                        for name in ("all 0.1", "0.1 ± a millionth", "random"))
exercises.reveal("06.p2", "about as good as a random start" if tiny > random_ - 0.1 else
                 "far behind, better than equal weights" if tiny > equal + 0.1 else
                 "as bad as equal weights",
                 f"Equal {equal:.0%}, with noise {tiny:.0%}, random {random_:.0%}.")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.2))
colours = {"random": "C0", "0.1 ± a thousandth": "C2", "0.1 ± a millionth": "C1", "all 0.1": "C3"}
for name, colour in colours.items():
    rows, places = right[name], np.arange(1, 3 * epochs + 1)
    ax.plot(places, rows.mean(0), color=colour)
    ax.fill_between(places, rows.min(0), rows.max(0), color=colour, alpha=0.2, linewidth=0)
    after = int((rows.mean(0) > 0.5).argmax())  # where it passes 50 %
    spots = {"random": (2.2, 0.7, "left"), "0.1 ± a thousandth": (after + 0.4, 0.5, "right"),
             "0.1 ± a millionth": (after + 1.6, 0.5, "left"),
             "all 0.1": (3 * epochs, right[name][:, -1].max() + 0.06, "right")}
    across, up, side = spots[name]
    ax.text(across, up, name, color="#b06800" if colour == "C1" else colour, fontsize=13, ha=side)
ax.axhline(1 / classes, color="0.35", linestyle=":", linewidth=1.5)
ax.text(places[-1], 1 / classes - 0.05, "guessing", fontsize=12, ha="right")
ax.set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1.05), xlim=(0.5, 3 * epochs + 0.5))
ax.set_title("Equal units stay equal; a millionth of difference is enough, later")
figures.save(fig, "emp-zero-init-symmetry",
             caption=f"One hidden layer of 32 ReLUs, {dataset}, SGD with momentum 0.9, learning "
                     f"rate 0.02, batches of 64; mean and range of {runs} seeds.",
             alt="From equal weights the accuracy stays low; with noise of a thousandth or a "
                 "millionth it jumps up after several epochs; from a random start at once.")

# %% tags=["fold"]
def apart(network):
    """Largest difference between the weights of two units in the first layer."""
    weight = network[1].weight
    return (weight - weight[:1]).abs().max().item()

def arrival(name):
    """The first epoch in which each network names 80 % of the test pictures."""
    return [int(row.argmax()) + 1 if row.any() else math.inf for row in right[name] > 0.8]

nothing = small(nn.init.zeros_, inputs, classes)
F.cross_entropy(nothing(pictures), labels).backward()
slopes = {name: parameter.grad.abs().max().item() for name, parameter in nothing.named_parameters()}
last = slopes.pop("3.bias")
claims.check("emp-zero-init-symmetry",
             "After {epochs} epochs units that began with 0.1 differ by {equal:.0e} at most; the "
             "networks name {right:.0%} of the test pictures (guessing: {guess:.0%}). After "
             "{fewer} epochs a hidden layer from 0 names {zero:.0%}, one matrix from 0 {one:.0%}.",
             epochs=3 * epochs, fewer=epochs,
             equal=(max(map(apart, shallow["all 0.1"].models)), "<=", 1e-12),
             right=(equal, "<=", 0.5), guess=1 / classes,
             zero=(right["all 0"][:, -1].mean(), "<=", 0.2),
             one=(right["one matrix, all 0"][:, -1].mean(), ">=", 0.85), varies=True)
claims.check("emp-zero-init-symmetry.zero",
             "All weights 0: the last bias gets a gradient of up to {last:.3f}, every other "
             "parameter {rest:.0f}.", last=(last, ">", 0), rest=(max(slopes.values()), "==", 0))
claims.check("emp-zero-init-symmetry.noise",
             "80% of the test pictures are right after {random:.0f} epochs from a random start, "
             "after {thousandth:.0f} with noise of a thousandth, {millionth:.0f} with a millionth.",
             random=np.mean(arrival("random")),
             thousandth=(np.mean(arrival("0.1 ± a thousandth")), ">", np.mean(arrival("random"))),
             millionth=(np.mean(arrival("0.1 ± a millionth")), ">",
                        np.mean(arrival("0.1 ± a thousandth"))))

# %% [markdown]
# **We now know** why hidden weights are random: units must differ from the start, and training makes much of very little. But that takes its time.
# **This does not show** that zero is bad as such. One matrix has nothing to break: its units are told apart by their labels. Biases start at 0 as a rule.
#
# **Exercise 06.2.** Units with equal incoming weights are one unit. Two layers without biases: `first` (U, I), then ReLU, then `second` (C, U). Return the smallest pair that computes the same: one row for each *different* row of `first`, in order of first appearance.

# %%
def merged(first, second):
    """(V, I) and (C, V) with V different rows, and the same scores."""
    ...

exercises.check("06.2", merged)

# %% [markdown]
# ## 3 · Too small, too large
#
# Random, then, but how large? Send 500 random inputs through ten layers of 500 units with tanh, and look at every layer.
# On the way back a random gradient starts at the top; we measure how large it arrives at each layer.

# %% tags=["define"]
def through(bend, draw, layers=10, n=500, seed=0):
    """Activations of each layer, and sizes of the gradient at each layer's weighted sums."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, n, generator=g).requires_grad_()  # n inputs of n numbers
    sums, activations = [], []
    for _ in range(layers):
        sums.append(x @ draw(n, g))
        sums[-1].retain_grad()
        x = bend(sums[-1])
        activations.append(x.detach())
    x.backward(torch.randn(n, n, generator=g))
    return activations, np.array([z.grad.square().mean().sqrt().item() for z in sums])

def normal(factor):
    """Weights (n, n) from the normal distribution, mean 0, times factor(n)."""
    return lambda n, g: factor(n) * torch.randn(n, n, generator=g)

def uniform(factor, middle=0.0):
    """Weights (n, n) evenly from 0 to 1, minus `middle`, times factor(n)."""
    return lambda n, g: factor(n) * (torch.rand(n, n, generator=g) - middle)

# %%
tenth = {"0.01 · randn": through(torch.tanh, normal(lambda n: 0.01), seed=seed),
         "1 · randn": through(torch.tanh, normal(lambda n: 1.0), seed=seed)}

def rms(x):
    return x.square().mean().sqrt().item()

full = (tenth["1 · randn"][0][-1].abs() > 0.99).double().mean().item()
print(f"0.01: size of layer 1 {rms(tenth['0.01 · randn'][0][0]):.2g}, "
      f"of layer 10 {rms(tenth['0.01 · randn'][0][-1]):.2g}")
print(f"1: {full:.0%} of layer 10 lie beyond ±0.99")

# %% [markdown]
# Too small: after ten layers hardly anything is left. Too large: tanh is *saturated*, most outputs lie where it is flat. There its slope is below 0.02, and in every layer the gradient is multiplied by the slope.

# %%
exercises.predict("06.p3", "1 · randn, tanh: from layer 10 back to layer 1 the gradient",
                  ("vanishes", "keeps its size", "grows"))

# %%
gradient = tenth["1 · randn"][1]
growth = gradient[0] / gradient[-1]
exercises.reveal("06.p3", "grows" if growth > 10 else "vanishes" if growth < 0.1 else
                 "keeps its size", f"At layer 1 it is {growth:,.0f} times as large as at layer 10.")

# %% [markdown]
# Lesson 05 had the law: a layer multiplies the gradient by about $\sqrt n$ · deviation of the weights · size of the slopes. Most slopes are tiny here, but not all, and the weights are huge.
# So what is wrong with such a network? Move an input by a hundredth, and compare the outputs.

# %%
def moved(draw, by=0.01):
    """How far layer 10 moves if the inputs move a little, in units of two unrelated inputs."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(500, 500, generator=g)
    near = x + by * torch.randn(500, 500, generator=g)
    for _ in range(10):
        weight = draw(500, g)
        x, near = torch.tanh(x @ weight), torch.tanh(near @ weight)
    return ((near - x).norm() / (x.roll(1, 0) - x).norm()).item()

jumps = {"1 · randn": moved(normal(lambda n: 1.0)),
         "randn / √n": moved(normal(lambda n: n**-0.5))}
{name: round(jump, 3) for name, jump in jumps.items()}

# %% [markdown]
# At the top of the large network a picture and its near copy are as good as unrelated: it cannot see that they are alike.
#
# Between 0.01 and 1 lies a size that neither loses nor adds. A weighted sum is $z = \sum_i w_i x_i$ over $n$ inputs. If the weights are independent and have **mean 0**, all mixed terms average out, and
#
# $$\text{mean of } z^2 = n \cdot \text{variance of } w \cdot \text{mean of } x^2 .$$
#
# So the size is multiplied by $\sqrt n$ · deviation, once a layer. It stays where the deviation is $1/\sqrt n$.
# The notes print `np.random.rand` in all their lines, and mean `randn`. Does it matter?

# %%
exercises.predict("06.p4", "0.01 · rand (even, from 0 to 0.01) in the tanh network; layer 10:",
                  ("vanishes, like 0.01 · randn", "keeps a middle size", "saturates"))

# %%
tenth["randn / √n"] = through(torch.tanh, normal(lambda n: n**-0.5), seed=seed)
tenth["0.01 · rand"] = through(torch.tanh, uniform(lambda n: 0.01), seed=seed)
centre = through(torch.tanh, uniform(lambda n: 0.01, middle=0.5), seed=seed)
sizes = {name: rms(layers[-1]) for name, (layers, _) in tenth.items()}
exercises.reveal("06.p4", "saturates" if sizes["0.01 · rand"] > 0.9 else
                 "vanishes, like 0.01 · randn" if sizes["0.01 · rand"] < 0.01 else
                 "keeps a middle size", f"Its size is {sizes['0.01 · rand']:.2f}; minus the "
                 f"mean of the weights, 0.01 · (rand − ½), it is {rms(centre[0][-1]):.0e}.")

# %% tags=["fold"]
def strips(ax, layers, low, high, colour):
    """A histogram for each layer, upright, side by side, each as wide as its largest bin."""
    for place, values in enumerate(layers, 1):
        counts, edges = np.histogram(values.numpy(), 31, (low, high))
        wide = 0.45 * counts / max(counts.max(), 1)
        middle = (edges[1:] + edges[:-1]) / 2
        ax.fill_betweenx(middle, place - wide, place + wide, color=colour, linewidth=0, step="mid")
    ax.set(ylim=(low, high), xlim=(0.4, len(layers) + 0.6))
    ax.set_xticks(range(1, len(layers) + 1, 3))

fig, axes = plt.subplots(2, 2, figsize=(figures.WIDTH, 4.5), sharex=True, sharey=True)
titles = {"0.01 · randn": "dies out", "1 · randn": "saturates", "randn / √n": "lives",
          "0.01 · rand": "one sign, saturates"}
colours = ("C1", "C3", "C0", "C2")
for ax, (name, (layers, _)), colour in zip(axes.flat, tenth.items(), colours, strict=True):
    strips(ax, layers, -1.05, 1.05, colour)
    ax.set_title(f"{name}: {titles[name]}", fontsize=13)
    ax.set_yticks([-1, 0, 1])
fig.supxlabel("layer")
fig.supylabel("output of tanh")
fig.suptitle("Between too small and too large lies 1/√n, if the mean is 0")
figures.save(fig, "fig-init-histograms",
             caption="Histograms of the outputs of ten layers of 500 tanh units for 500 random "
                     "inputs, one start each; each histogram is as wide as its largest bin.",
             alt="Top left the outputs shrink to a line at 0; top right they lie at -1 and 1; "
                 "bottom left they stay spread; bottom right all lie near 1, or all near -1.")

# %% tags=["fold", "ledger:err-init-comment-duplicated"]
claims.check("emp-small-random-init-collapses",
             "0.01 · randn, ten layers of 500 tanh: the size falls from {first:.2f} to "
             "{tenth:.0e}, and the gradient on its way back to {back:.0e} of what it was.",
             first=rms(tenth["0.01 · randn"][0][0]), tenth=(sizes["0.01 · randn"], "<=", 1e-6),
             back=(np.divide(*tenth["0.01 · randn"][1][[0, -1]]), "<=", 1e-5))
exploded = through(torch.relu, normal(lambda n: 1.0), seed=seed)[0]
claims.check("emp-large-init-explodes",
             "1 · randn: {full:.0%} of the tenth tanh layer lie beyond ±0.99, and the gradient is "
             "{growth:,.0f} times as large at layer 1 as at layer 10; with ReLU the size of layer "
             "10 is {relu:.0e}.", full=(full, ">=", 0.8), growth=(growth, ">=", 1000),
             relu=(rms(exploded[-1]), ">=", 1e10))
claims.check("emp-large-init-explodes.near",
             "Inputs moved by a hundredth: at layer 10 with 1 · randn they are {large:.2f} times "
             "as far apart as unrelated ones, with randn/√n {fit:.3f} times.",
             large=(jumps["1 · randn"], ">=", 0.7), fit=(jumps["randn / √n"], "<=", 0.05))
claims.check("err-init-rand-vs-randn",
             "0.01 · rand: the size of layer 10 is {even:.2f}; 0.01 · (rand − ½): {centred:.0e}; "
             "He's start with rand and ReLU: {he:.0e}.", even=(sizes["0.01 · rand"], ">=", 0.9),
             centred=(rms(centre[0][-1]), "<=", 1e-6),
             he=(rms(through(torch.relu, uniform(lambda n: (2 / n) ** 0.5), seed=seed)[0][-1]),
                 ">=", 1e8))
rows = {}
for name, factor in {"0.01": 0.01, "1": 1.0, "1/√n": 300**-0.5, "√(2/n)": (2 / 300) ** 0.5}.items():
    layers, _ = through(lambda z: z, normal(lambda n, f=factor: f), n=300, seed=seed)
    measured = (rms(layers[-1]) / rms(layers[0])) ** (1 / 9) / (300**0.5 * factor)
    rows[name] = (measured, 1.0)
claims.table("eq-init-schemes",
             "Ten linear layers of 300: measured factor a layer, divided by √n · deviation.", rows,
             columns=("deviation", "measured / law", "expected"), tolerance=0.02)

# %% [markdown]
# The rule needs only mean and deviation, not the normal distribution: evenly drawn weights, minus their mean, behave as normal ones do. With a mean of ½ all mixed terms add up instead, and the layer's numbers get one common sign.
#
# **We now know** the rule: the size is multiplied by $\sqrt n$ · deviation a layer, if weights have mean 0.
# **This does not show** what a bend does to the size. tanh takes a little away; ReLU takes more.
#
# **Exercise 06.3.** In a convolution one output is a sum over all channels of its window. Return the deviation $1/\sqrt n$ for a weight of shape (out, in) or (out, in, height, width); $n$ is the number of inputs of one unit, called its *fan-in*.

# %%
def xavier_deviation(shape):
    """1 / sqrt(fan-in) of a weight with this shape."""
    ...

exercises.check("06.3", xavier_deviation)

# %% [markdown]
# ## 4 · Why 2?
#
# Weights of deviation $1/\sqrt n$ are often called *Xavier's* start, after Xavier Glorot. In the first figure it failed: with ReLU.

# %%
exercises.predict("06.p5", "randn / √n with ReLU: each layer multiplies the size by about",
                  ("1", "0.71", "0.5"))

# %%
xavier, he = normal(lambda n: (1 / n) ** 0.5), normal(lambda n: (2 / n) ** 0.5)
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
# A weighted sum with random weights is as often negative as positive. ReLU sets the negative half to 0: half of the mean square is gone, and the size is multiplied by $\sqrt{1/2}$.
# The remedy, due to Kaiming He: weights with variance $2/n$ instead of $1/n$. The 2 gives back what ReLU takes.
# Is that the reason? Keep the negative half, as $|z|$: the outputs are as lopsided as those of ReLU, but nothing is lost. Then $1/n$ should do.

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.2))
looks = {"no bend, 1/n": ("0.5", "-"), "tanh, 1/n": ("C1", "-"), "ReLU, 1/n": ("C0", "--"),
         "ReLU, 2/n": ("C0", "-"), "|z|, 1/n": ("C2", "-")}
places = {"no bend, 1/n": 1.35, "|z|, 1/n": 0.97, "ReLU, 2/n": 0.66, "tanh, 1/n": 0.23,
          "ReLU, 1/n": 0.026}
for name, row in size_of.items():
    colour, style = looks[name]
    ax.plot(range(1, 11), row, style, color=colour, linewidth=2.5)
    ax.text(10.15, places[name], name, color="#b06800" if colour == "C1" else colour,
            fontsize=13, va="center")
ax.set(yscale="log", xlabel="layer", ylabel="size of its outputs", xlim=(0.8, 12), ylim=(0.015, 2))
ax.set_xticks(range(1, 11))
ax.set_yticks([0.03, 0.1, 0.3, 1], ["0.03", "0.1", "0.3", "1"])
ax.minorticks_off()
ax.set_title("ReLU loses half of the square in each layer; a 2 in the variance gives it back")
figures.save(fig, "emp-xavier-breaks-relu",
             caption="Root mean square of the outputs of ten layers of 500 units, 500 random "
                     "inputs, weights with variance 1/n or 2/n; one start each.",
             alt="No bend, absolute value and ReLU with 2/n stay near 1; tanh sinks slowly; ReLU "
                 "with 1/n falls to 0.03.")

# %% tags=["fold"]
halves = [((layer**2).mean() / 2).item() for layer in ways["no bend, 1/n"][0]]
claims.check("emp-xavier-preserves-variance",
             "Weights of variance 1/n, ten layers: without bend the size is multiplied by "
             "{linear:.2f}, with tanh it falls from {first:.2f} to {tenth:.2f}.",
             linear=(size_of["no bend, 1/n"][-1] / size_of["no bend, 1/n"][0], "in", (0.9, 1.1)),
             first=size_of["tanh, 1/n"][0], tenth=(size_of["tanh, 1/n"][-1], "in", (0.1, 0.4)))
claims.check("emp-xavier-breaks-relu",
             "With ReLU a layer multiplies the size by {relu:.3f} (√½ = {half:.3f}), with |z| by "
             "{both:.3f}.", relu=(a_layer["ReLU, 1/n"], "~", 0.5**0.5, 0.05), half=0.5**0.5,
             both=(a_layer["|z|, 1/n"], "~", 1.0, 0.05))
claims.check("emp-he-fixes-relu.size",
             "With ReLU and variance 2/n layer 10 has {ratio:.2f} times the size of layer 1.",
             ratio=(size_of["ReLU, 2/n"][-1] / size_of["ReLU, 2/n"][0], "in", (0.7, 1.4)))

# %% [markdown]
# In a live lab, turn the knobs yourself (a gain $g$ means a deviation of $g/\sqrt n$):

# %% tags=["fold"]
def every_layer(bend, gain):
    bends = {"tanh": torch.tanh, "ReLU": torch.relu, "none": lambda z: z}
    layers, back = through(bends[bend], normal(lambda n: gain * n**-0.5), n=200, seed=seed)
    figure, ax = plt.subplots(figsize=(figures.WIDTH, 3.2))
    strips(ax, layers, -2.0, 2.0, "C0")
    ax.set(xlabel="layer", ylabel="output", title=f"{bend}, gain {gain:g}")
    return figure, (f"Size of layer 10: {rms(layers[-1]):.2g}. The gradient is "
                    f"{back[0] / back[-1]:.2g} times as large at layer 1 as at layer 10.")

widgets.explore(every_layer, bend=widgets.Choice("tanh", ("tanh", "ReLU", "none"), "function"),
                gain=widgets.Slider(1.0, 0.2, 4.0, 0.1, "gain"))

# %% [markdown]
# ### Forward or backward?
#
# On the way back (lesson 03) a layer sums over its *outputs*, so there $1/n_\text{out}$ keeps the size. Where layers widen, one number cannot serve both ways. Glorot and Bengio proposed the compromise $2/(n_\text{in} + n_\text{out})$; this, not $1/n$, is what torch calls `xavier`.

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
drawn = {"xavier_normal_": (nn.init.xavier_normal_, (2 / 1200) ** 0.5),
         "xavier_uniform_": (nn.init.xavier_uniform_, (2 / 1200) ** 0.5),
         "kaiming_normal_, relu": (lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"),
                                   (2 / 400) ** 0.5),
         "nn.Linear as it comes": (lambda w: nn.Linear(400, 800).weight, (1 / 1200) ** 0.5)}
with runtime.seeded(seed), torch.no_grad():
    rows = {name: (start(torch.empty(800, 400)).std().item() / deviation, 1.0)
            for name, (start, deviation) in drawn.items()}
claims.table("eq-init-schemes.torch",
             "800×400 weights drawn by torch: their deviation, divided by √(2/1200), √(2/1200), "
             "√(2/400) and √(1/1200).", rows, columns=("torch", "measured / law", "expected"),
             tolerance=0.02)

# %% [markdown]
# The last row: `nn.Linear` by itself draws with a variance of $1/(3n)$, *less* than Xavier. In deep plain ReLU networks it must be set by hand.
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
# First the obvious remedy. Its numbers are small, so its gradients are small: raise the learning rate.

# %%
ladder = [0.01, 0.1, 1.0, 10.0]
raised = learn(lambda: net(1.0), epochs=min(epochs, 3), seeds=[seed] * 4, rates=ladder)
accuracies = dict(zip(ladder, raised.last("valid_accuracy"), strict=True))
{rate: "broken" if math.isnan(share) else f"{share:.0%}" for rate, share in accuracies.items()}

# %% [markdown]
# At none of these rates does it learn. ("Broken" means that the loss is no finite number any more.)
# Now leave all weights as they are, and multiply the *scores* by one number: each matrix is smaller by √2, so we take √2 once for each matrix.

# %%
factor = math.sqrt(2) ** (depth + 1)
exercises.predict("06.p6", f"1/√n, scores times {factor:,.0f}, half the learning rate. It learns:",
                  ("not at all", "better than guessing, worse than √2/√n", "exactly as √2/√n"))

# %%
repaired = learn(lambda: net(1.0, factor), rate / 2)
gap = np.abs(np.subtract([history["train_loss"] for history in repaired], losses["√2"]))

# %% tags=["fold"]
best = np.mean(repaired.last("valid_accuracy"))
exercises.reveal("06.p6", "exactly as √2/√n" if gap.max() < 1e-4 else "not at all"
                 if best < 2 / classes else "better than guessing, worse than √2/√n",
                 f"The two training losses differ by {gap.max():.0e} at most.")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.0))
for number, (one, other) in enumerate(zip(losses["√2"], repaired, strict=True)):
    ax.plot(range(1, epochs + 1), one, color="C0", linewidth=5, alpha=0.4,
            label=None if number else "√2 / √n")
    ax.plot(range(1, epochs + 1), other["train_loss"], "--", color="C1", linewidth=2,
            label=None if number else f"1 / √n, scores × {factor:,.0f}, half the rate")
for number, row in enumerate(losses["1"]):
    ax.plot(range(1, len(row) + 1), row, ":", color="C1", linewidth=2,
            label=None if number else "1 / √n")
ax.set(xlabel="epoch", ylabel="training loss", ylim=(0, 2.8))
ax.legend(loc="lower left", fontsize=13)
ax.set_title("One number behind the last layer mends all of them")
figures.save(fig, "emp-he-fixes-relu.one-number",
             caption=f"{depth} hidden layers of {width} ReLUs, {dataset}; {runs} seeds, one line "
                     f"each. Learning rates {rate:g} and {rate / 2:g}.",
             alt="The dashed lines of the mended networks lie on those of the network with larger "
                 "weights; without the factor the loss stays at guessing.")

# %% tags=["fold"]
claims.check("emp-he-fixes-relu.one-number",
             "With scores times {factor:,.0f} and half the learning rate, the training losses of "
             "{epochs} epochs differ from those with √2/√n by {gap:.0e} at most; without, by "
             "{without:.1f}.",
             epochs=epochs, factor=factor, gap=(gap.max(), "<=", 1e-6), varies=True,
             without=(np.mean(ends["1"]) - np.mean(ends["√2"]), ">=", 0.7))
claims.check("emp-he-fixes-relu.rate",
             "1/√n at learning rates from 0.01 to 10, one seed: the best names {best:.0%} of the "
             "test digits after {epochs} epochs, {lost} of {count} lose every finite number.",
             best=(np.nanmax(list(accuracies.values())), "<=", 0.25), count=len(ladder),
             epochs=min(epochs, 3), lost=int(np.isnan(list(accuracies.values())).sum()))

# %% [markdown]
# Nothing but size was lost. Dividing all matrices by √2 divides the scores by a known number; give it back, and the loss sees the same scores.
# The weights are smaller by √2. So their steps must be smaller by √2 too; but their gradients are *larger* by √2, and the learning rate has to make up for both: it is halved. Then the two networks walk the same way, step by step.
#
# And Adam, which divides each step by the size of its gradients (lesson 09)?

# %% tags=["fold"]
adam = {name: learn(lambda gain=gain: net(gain), epochs=max(2, epochs // 2), seeds=seeds[:2],
                    optimizer=lambda weights: torch.optim.Adam(weights, lr=3e-4))
        for name, gain in gains.items() if name != "2"}
by_adam = {name: result.last("train_loss") for name, result in adam.items()}
claims.check("emp-he-fixes-relu.adam",
             "With Adam at 0.0003, two seeds, {epochs} epochs: 1/√n comes to a loss of {small:.2f} "
             "and √2/√n to {right:.2f}: it moves, and stays behind.",
             epochs=max(2, epochs // 2), small=(np.mean(by_adam["1"]), "<=", 2.25),
             right=(np.mean(by_adam["√2"]), "<", np.mean(by_adam["1"])))

# %% [markdown]
# **We now know** what was broken in the plain deep network: not its function, only the size of its scores, and with it the size of every step.
# **This does not show** that initialisation decides in every network: BatchNorm (lesson 07) sets the size of each layer at each step, and shortcuts (lesson 14) carry it past the layers. Nor is √2/√n the best start here: we tried three.
#
# **Exercise 06.5.** A ReLU network without biases has `layers` matrices and learns with SGD at `rate`. Divide every matrix by `c`. Which factor on the scores, and which learning rate, give exactly the same training?

# %%
def same_way(layers, rate, c):
    """(factor, learning rate) for the network with all matrices divided by c."""
    ...

exercises.check("06.5", same_way)

# %% [markdown]
# ## In practice
#
# - Pictures: `torchvision.transforms.v2.Normalize(mean, std)`, one number a channel, from the training set. For pretrained networks use *their* numbers (`weights.transforms()`, or `timm.data.resolve_data_config`).
# - ReLU networks: `nn.init.kaiming_normal_(w, nonlinearity="relu")`; torchvision's ResNets use it with `mode="fan_out"`. Other functions: `nn.init.calculate_gain`.
# - `nn.Linear` and `nn.Conv2d` as they come are too small for deep plain ReLU networks; with normalisation layers it hardly matters.
# - Transformers: `nn.init.trunc_normal_(w, std=0.02)`. The last scale of a residual branch may start at 0 (torchvision: `zero_init_residual`).
# - A network that stands still: print the size of every layer's numbers before the first step.
#
# ## History
#
# - 1998: Y. LeCun, L. Bottou, G. Orr and K.-R. Müller, *Efficient BackProp*: centre and decorrelate the inputs, draw weights with deviation $1/\sqrt{n}$.
# - 2006: G. Hinton, S. Osindero and Y. Teh train deep networks layer by layer first, since a random start fails. 2010: X. Glorot and Y. Bengio look for the reason, and propose $2/(n_\text{in} + n_\text{out})$.
# - 2012: AlexNet draws with a fixed deviation of 0.01. 2014: VGG's deeper networks are started from a trained shallower one.
# - 2013: A. Saxe, J. McClelland and S. Ganguli: orthogonal matrices. 2015: K. He, X. Zhang, S. Ren and J. Sun derive the 2, and train a network of 30 layers that does not start with $1/n$.
# - 2015: BatchNorm; D. Mishkin and J. Matas measure each layer and divide (exercise 06.6). 2019: H. Zhang, Y. Dauphin and T. Ma train residual networks without normalisation by their start alone (*Fixup*).
#
# ## Exercises that are left
#
# **06.6 Open.** No formula for your function? Measure. `weights` is a list of matrices (in, out), `x` (N, in) some inputs, `bend` any function. Go through the layers and rescale each matrix by one number, so that the size of its outputs, *behind* the bend, is 1. Return the new matrices. (One division is exact only if the function does not know units. How would you treat tanh?)

# %%
def measured_start(weights, x, bend):
    """The matrices, each times one number, so that every layer's outputs have size 1."""
    ...

exercises.check("06.6", measured_start)

# %% [markdown]
# **06.7 Open.** Look again at the first figure. Name two things that it does *not* show. (Which sentence would you have to drop if the networks had four layers, biases, or another learning rate? Change `depth` and `rate`, and look.)
#
# ## Summary
#
# - Centre along the axis that runs over the pictures. An offset makes one direction steep; pictures need one scale, not one a pixel.
# - Hidden units that start equal stay equal; the least difference grows, in time. A single matrix may start at 0.
# - A layer multiplies the size of its numbers by √n · deviation of its weights, if their mean is 0, and by what the bend keeps: √½ with ReLU.
# - So 1/n without bend, 2/n with ReLU. Large weights saturate tanh, and there the gradient grows.
# - In a deep ReLU network a wrong size is all that is wrong: one number behind the last layer, and a fitting learning rate, mend it.

# %% [markdown]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | `X -= np.mean(X, axis = 1)` | `axis=0` for a table (pictures, numbers): with 1 it stops, or subtracts the wrong numbers | section 1 |
# | weights from `np.random.rand` | `np.random.randn`; `rand` has mean ½, and with 0.01 nothing dies out, everything **saturates** | section 3 |
# | weights of deviation 1: "works OK for small networks" (copied from 0.01) | saturates tanh, explodes with ReLU, in ten layers | section 3 |
# | "explode with big numbers" | with ReLU; **tanh saturates**, and its gradients grow backwards although most slopes are nearly 0 | section 3 |
# | Xavier keeps the variance | without bend; with tanh it sinks slowly, with ReLU by half a layer | section 4 |
# | `rand(in, out) / sqrt(in)` is Xavier | `in` is a word of Python: the line cannot run. 1/in is the older, forward-only rule; Glorot and Bengio's is 2/(in + out) | section 4 |
# | equal weights: "the same gradient" | for **hidden** layers; from 0 these get none at all, and one matrix alone may start at 0 | section 2 |
# | we centre because data must not be all positive | and an offset makes one direction steep: that alone explains the loss of speed here | section 1 |
# | "in images we don't" divide by the deviation | not each pixel by its own; by one number **a channel** is common today | section 1, In practice |
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
