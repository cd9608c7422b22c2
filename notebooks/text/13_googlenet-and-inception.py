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
# # 13 · GoogLeNet and Inception
# ### How can a network be deeper, wider and cheaper at once?
#
# **The surprise.** The picture below counts three networks for the same photographs of 224 × 224 pixels (AlexNet: 227).
# AlexNet won the ImageNet contest of 2012, GoogLeNet that of 2014, and VGG-16 belongs to the team that came second in 2014.
#
# A *multiply-add* is one product that is added to a sum; a *top-5 error* is a picture whose class is not among five guesses.
#
# (**It costs** about 40 seconds of one core, without a network connection.)

# %% tags=["imports", "fold"]
import copy
import math
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from cnncourse import claims, cost, data, diagrams, exercises, figures
from cnncourse import models, plots, runtime, training
from cnncourse.models.inception_2014 import TABLE, loss_with_heads

# %% tags=["define", "fold"]
def weights(module):
    """How many weights its convolutions and linear layers have, without biases."""
    return sum(p.numel() for p in module.parameters() if p.dim() > 1)


def layers_in_a_row(table):
    """Convolutions and linear layers on the longest way through a network, from its costs."""
    longest = []
    for row in table.rows:
        before = max((longest[i] for i in row.inputs if i >= 0), default=0)
        longest.append(before + (row.kind in ("Conv2d", "Linear")))
    return max(longest)


def channels(table):
    """The most channels that a map of the network has."""
    return max(row.output_shape[0] for row in table.rows if len(row.output_shape) == 3)

# %% tags=["fold"]
figures.use_style()
with torch.device("meta"):  # counts without numbers: nothing is drawn or multiplied
    three = {"AlexNet": (models.alexnet_2012(), 227), "VGG-16": (models.vgg16(), 224),
             "GoogLeNet": (models.googlenet_2014(aux_logits=False), 224)}
tables = {name: cost.table(net, (3, side, side)) for name, (net, side) in three.items()}
counts = {
    "layers\nin a row": {name: layers_in_a_row(table) for name, table in tables.items()},
    "channels of the\nwidest map": {name: channels(table) for name, table in tables.items()},
    "million\nweights": {name: weights(net) / 1e6 for name, (net, _) in three.items()},
    "billion\nmultiply-adds": {n: table.multiply_adds / 1e9 for n, table in tables.items()},
}
fig, axes = plt.subplots(1, 4, figsize=(figures.WIDTH, 2.7), sharey=True)
shades = {"AlexNet": "0.6", "VGG-16": "C1", "GoogLeNet": "C0"}
for ax, (what, numbers) in zip(axes, counts.items(), strict=True):
    plots.bars(ax, numbers, colours=shades, format="{:.4g}", horizontal=True)
    ax.set_xlabel(what)
    ax.set(xticks=[], xlim=(0, 1.6 * max(numbers.values())))
axes[0].set_ylim(2.6, -0.6)
fig.suptitle("Deepest and widest of the three, and it has the fewest weights", x=0.01, ha="left")
figures.save(fig, "emp-inception-cheap-depth",
    caption="Three networks counted from their modules, biases left out; GoogLeNet without its "
    "auxiliary heads. Layers: convolutions and linear layers on the longest way from picture to "
    "answer. Nothing is trained here.",
    alt="AlexNet 8 layers, 61 million weights, 0.7 billion multiply-adds; VGG-16 16, 138, 15.5; "
    "GoogLeNet 22, 7.0, 1.6; its widest map has 1024 channels, AlexNet's 384, VGG's 512.")

# %% tags=["fold"]
deep, wide, heavy, busy = (list(numbers.values()) for numbers in counts.values())
claims.check("num-googlenet-5m", "GoogLeNet has {goog:.2f} million weights, VGG-16 {vgg:.1f} and "
    "AlexNet {alex:.2f} million: {ratio:.1f} times as many as GoogLeNet.",
    goog=(heavy[2], "in", (6.98, 7)), vgg=heavy[1], alex=heavy[0],
    ratio=(heavy[0] / heavy[2], "~", 8.72, 0.01))
claims.check("emp-inception-cheap-depth", "For one picture GoogLeNet needs {vgg:.0%} of the "
    "multiply-adds of VGG-16, and {alex:.1f} times those of AlexNet.",
    vgg=(busy[2] / busy[1], "<", 0.11), alex=(busy[2] / busy[0], ">", 2))
claims.quoted("arch-googlenet.error", "Top-5 error on the contest's test images: AlexNet 16.4 % "
    "(five networks, 2012), VGG 7.3 % and GoogLeNet 6.7 % (seven networks each, 2014)",
    "Krizhevsky et al. 2012, table 2; Simonyan and Zisserman 2015, table 7")

# %% [markdown]
# What is odd: more layers and wider maps should cost more of everything.
# GoogLeNet has about a ninth of AlexNet's weights, and a tenth of VGG's multiply-adds; against AlexNet's multiply-adds it is *not* cheaper. And its widest maps are small, 14 × 14 and 7 × 7 pixels; at 28 × 28 VGG has more channels (512, GoogLeNet 480).
# Where the savings come from, and what they cost, is this lesson.
#
# **You will be able to**
# - say what a 1×1 convolution computes, what it saves, and when it saves nothing;
# - count the cost of an inception module and find the mistakes in a published table;
# - tell when auxiliary heads help a deep network to start, and what helps as well;
# - read from the paper's six results what more crops and more networks gain at test time;
# - factorise a large filter, and say what smoothed labels ask for.
#
# **You need** convolutions and their costs (lesson 04), softmax and cross-entropy (02), He's start (06), the training loop with rates and momentum (09).
#
# Sentences with a ✓ were checked by the code above them. They are required at the parameters below; where you change one, they are shown but not required.

# %% tags=["parameters"]
seed: int = 0  # of what is drawn once; at least 0
dataset: str = "digits"  # for training; one of digits, mnist, fashion_mnist, cifar10, or a folder
image_size: int = 16  # pixels a side to which a folder's pictures are scaled; 8 to 64
images: int = 1344  # training images, at most; 256 to 60000
layers: int = 16  # linear layers in the chain of section 4; 3 to 60
width: int = 64  # numbers behind each of them; 2 to 1024
weak_gain: float = 0.7  # of section 4's weak start, He's is 2; above 0
epochs: int = 8  # passes over the training images; 1 to 200
batch_size: int = 64  # images a step; 8 to 1024
rates: list[float] = [0.03, 0.1, 0.3, 1.0]  # learning rates tried for every chain; each above 0
trial_seeds: list[int] = [0, 1]  # choose rates; 2 or more values, each at least 0, different
seeds: list[int] = [10, 11, 12]  # judge; 2 or more values, each at least 0, different

# %% tags=["fold"]
runtime.start(seed=seed)
size = None if dataset in ("digits", "mnist", "fashion_mnist", "cifar10") else image_size
train_set = data.load(dataset, train=True, size=size)
test_set = data.load(dataset, train=False, size=size)
train_set = train_set.subset(min(images, len(train_set)), seed=seed)
mean, std = train_set.statistics()
train_set, test_set = train_set.normalised(mean, std), test_set.normalised(mean, std)
colours, classes = len(mean), len(train_set.classes)  # channels of a picture; classes
few, few_labels = next(train_set.batches(64))
print(f"{dataset}: {len(train_set):,} training and {len(test_set):,} test images of "
      f"{few.shape[2]} × {few.shape[3]} pixels, {classes} classes")

# %% [markdown]
# ## 1 · What does a 1×1 convolution save?
#
# A convolution from $C$ to $K$ channels with a kernel of $F \times F$ gives $H^2 K$ numbers, each of them a sum of $F^2 C$ products.
# So it needs $H^2 \cdot K \cdot F^2 C$ multiply-adds.
# A 1×1 convolution looks at one pixel at a time: it mixes the pixel's channels, and does the same at every pixel.
# GoogLeNet puts it *in front* of a costly filter, to hand it fewer channels: a *reduction*.

# %% tags=["define"]
def multiply_adds(side, kernel, channels_in, channels_out):
    """Of a convolution whose maps have side × side pixels."""
    return side**2 * channels_out * kernel**2 * channels_in

# %%
direct = multiply_adds(28, 5, 192, 32)
print(f"5×5 from 192 to 32 channels, 28×28 pixels: {direct:,}")
exercises.predict("13.p1", "With a reduction to 16 channels in front, both layers together cost",
                  ("about half", "about a third", "about a tenth"))

# %%
reduction = multiply_adds(28, 1, 192, 16)
behind_it = multiply_adds(28, 5, 16, 32)
saving = direct / (reduction + behind_it)
names = {2: "about half", 3: "about a third", 10: "about a tenth"}
nearest = min(names, key=lambda factor: abs(math.log(saving / factor)))
exercises.reveal("13.p1", names[nearest], f"{direct:,} is {saving:.2f} times "
                 f"{reduction:,} + {behind_it:,} = {reduction + behind_it:,}.")

# %% tags=["fold", "ledger:num-inception-5x5-bottleneck"]
widths = np.arange(1, 193)
both = multiply_adds(28, 1, 192, widths) + multiply_adds(28, 5, widths, 32)
last = int(widths[both < direct].max())
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.6))
ax.plot(widths, both / 1e6, color="C0")
ax.text(78, 66, "1×1, then 5×5", color="C0", ha="right")
ax.axhline(direct / 1e6, color="C1", dashes=(4, 2))
ax.text(2, direct / 1e6 + 3, "5×5 alone", color="#b86b00")
for place, words in ((16, "GoogLeNet's 3a"), (last, f"{last} channels")):
    ax.plot(place, both[place - 1] / 1e6, "o", color="C0", ms=8)
    ax.annotate(words, (place, both[place - 1] / 1e6), (10, -10), textcoords="offset points")
ax.set(xlabel="channels behind the reduction", ylabel="million multiply-adds", ylim=(-8, 160))
ax.set_title(f"To 16 channels it costs a tenth; above {last} it saves nothing")
figures.save(fig, "num-inception-5x5-bottleneck", caption="The cost of a 5×5 convolution from 192 "
    "to 32 channels at 28×28 pixels, alone and behind a 1×1 reduction. Counted, no randomness.",
    alt="The cost of the pair rises in a straight line; it meets that of the 5×5 at 154 channels.")

# %% tags=["fold"]
layers_of = {"5×5 alone": nn.Conv2d(192, 32, 5, padding=2), "1×1 to 16": nn.Conv2d(192, 16, 1),
             "5×5 from 16": nn.Conv2d(16, 32, 5, padding=2)}
costs = {name: cost.table(layer, (layer.in_channels, 28, 28)).multiply_adds
         for name, layer in layers_of.items()}
claims.table("num-inception-5x5-direct", "Multiply-adds of real layers, traced; the lecture's "
    "products.", {"5×5 alone": (costs["5×5 alone"], 120_422_400),
    "1×1 to 16": (costs["1×1 to 16"], 2_408_448), "5×5 from 16": (costs["5×5 from 16"], 10_035_200),
    "1×1 and 5×5": (costs["1×1 to 16"] + costs["5×5 from 16"], 12_443_648)},
    columns=("layer", "traced", "the notes"))
grown = [[cost.table(nn.Conv2d(a * more, b * more, 3, padding=1), (a * more, 28, 28)).multiply_adds
          for more in (1, 2)] for a, b in ((64, 64), (64, 128))]
first = [cost.table(nn.Conv2d(3, n, 3, padding=1), (3, 28, 28)).multiply_adds for n in (64, 128)]
claims.check("emp-quadratic-compute-in-filters", "Twice the filters in two layers, one behind the "
    "other: the second costs {second:.0f} times as much, the first, which reads a picture's "
    "three colours, {fixed:.0f} times.",
    second=(grown[1][1] / grown[1][0], "==", 4), fixed=(first[1] / first[0], "==", 2))

# %% [markdown]
# The saving is not free of charge, and not always there.
# Reduced to 155 channels or more, the pair costs more than the 5×5 alone.
# And a pair can compute less: what the 5×5 sees are 16 mixtures of the 192 channels, and nothing else of them.
#
# **Exercise 13.1** For a kernel of `kernel` × `kernel` from `channels_in` to `channels_out`: what is the largest reduction, in channels, with which the pair is still cheaper than the convolution alone?
# (0 where none is.)

# %%
def widest_reduction(kernel, channels_in, channels_out):
    """A whole number of channels; for kernel 5, 192 to 32 channels it is 154."""
    ...


exercises.check("13.1", widest_reduction)

# %% [markdown]
# ### Do 32 channels hold 32 different things?
#
# A reduction does little harm where channels repeat each other. Do they?
# We train a small network (`small_net`, folded: three convolutions with 32 channels) on the pictures, and cut it open behind its second convolution.
# There every pixel has 32 numbers.
# `best_mixtures` finds the 16 mixtures of them that keep most of the *variance* (the spread around the mean): the principal components.
# Now the intervention: two 1×1 convolutions, 32 → 16 → 32, stand in the middle of the trained network (`with_mixtures`), and nothing is trained again. Then the same with 8.
# The yardstick: as many mixtures drawn at random.

# %% tags=["define", "fold"]
def small_net(width=32):
    """Three 3×3 convolutions, a pooling behind the first, the average, a linear layer."""
    network = nn.Sequential(
        nn.Conv2d(colours, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return network


def train_small(label_smoothing=0.0):
    """A small_net from each seed, trained."""
    loss = partial(F.cross_entropy, label_smoothing=label_smoothing)
    return training.repeat(small_net, train_set, optimizer=partial(torch.optim.SGD, lr=0.03,
        momentum=0.9), seeds=seeds, epochs=epochs, batch_size=batch_size, loss=loss,
        drop_last=True, progress=False).models


def accuracy(network):
    """On the test images, in percent."""
    return 100 * training.evaluate(network, test_set).accuracy


def pixels(network):
    """The numbers behind the second convolution, of every pixel of 300 images: (pixels, 32)."""
    maps = training.predict(network[:5], next(train_set.batches(300))[0])
    return maps.permute(0, 2, 3, 1).flatten(0, 2).double().cpu()


def with_mixtures(network, directions):
    """The network with 32 → k → 32 channels behind its second ReLU; directions: (32, k)."""
    centre = pixels(network).mean(0)
    keep = directions @ directions.T  # both 1×1 convolutions in one matrix
    squeeze = nn.Conv2d(len(keep), len(keep), 1)
    with torch.no_grad():
        squeeze.weight.copy_(keep[:, :, None, None])
        squeeze.bias.copy_(centre - keep @ centre)
    return nn.Sequential(*network[:5], squeeze, *network[5:])

# %% tags=["define"]
def best_mixtures(values, number):
    """The directions of largest variance of values (n, C): (C, number), and their share of it."""
    variances, directions = torch.linalg.eigh(torch.cov(values.T))  # ascending
    return directions[:, -number:], float(variances[-number:].sum() / variances.sum())

# %%
small = train_small()
whole = [accuracy(network) for network in small]
best, chance = {16: [], 8: []}, {16: [], 8: []}  # accuracy of each network through 16 and 8
for network, run in zip(small, seeds, strict=True):
    for number in (16, 8):
        directions, _ = best_mixtures(pixels(network), number)
        best[number].append(accuracy(with_mixtures(network, directions)))
        drawn = torch.randn(32, number, generator=torch.Generator().manual_seed(run)).double()
        directions = torch.linalg.qr(drawn).Q  # made orthogonal, of length 1
        chance[number].append(accuracy(with_mixtures(network, directions)))

# %% tags=["fold"]
share = [100 * best_mixtures(pixels(network), 8)[1] for network in small]
shuffled_share = []
for network in small:
    generator = torch.Generator().manual_seed(0)
    columns = [column[torch.randperm(len(column), generator=generator)]
               for column in pixels(network).T]
    shuffled_share.append(100 * best_mixtures(torch.stack(columns, 1), 8)[1])
claims.check("emp-sparse-structure-dense", "The best 8 of 32 mixtures keep {kept:.0f} % of the "
    "variance, and {alone:.0f} % where each channel's values are shuffled over the pixels.",
    kept=(share, ">", 55), alone=shuffled_share, seeds=seeds, varies=True)
claims.check("emp-sparse-structure-dense.gain", "So {more:.0f} points of it go with channels that "
    "vary together.", more=([a - b for a, b in zip(share, shuffled_share, strict=True)], ">", 10),
    seeds=seeds, on="every", varies=True)
claims.check("emp-sparse-structure-dense.squeezed", "Test accuracy on {name}: {whole:.1f} % as "
    "trained; {half:.1f} % through the best 16 mixtures, {luck:.1f} % through 16 at random; "
    "{eight:.1f} % through the best 8, {least:.1f} % through 8 at random.", name=dataset,
    whole=(whole, ">", 90), half=(best[16], ">", 88), luck=chance[16], eight=best[8],
    least=(chance[8], "<", 70), seeds=seeds, on="every", varies=True)
claims.check("emp-sparse-structure-dense.lost", "Through the best 16 a network loses {half:.1f} "
    "points, through 16 at random {luck:.1f}.", seeds=seeds, varies=True, on="mean",
    half=([a - b for a, b in zip(whole, best[16], strict=True)], "<", 4),
    luck=([a - b for a, b in zip(whole, chance[16], strict=True)], ">", 8))

# %% [markdown]
# We now know: in these networks channels partly repeat each other, and half of them could be mixed away at little cost; three quarters cost more.
# GoogLeNet's authors argued in this way: units that vary together may be drawn together (Arora et al. 2013).
# This does not show that their network is the best such design; its success is the only evidence for that, and an indirect one.
#
# ## 2 · The module
#
# An *inception module* lets several filters look at the same maps: 1×1, 3×3, 5×5, and a maximum over 3×3 (stride 1).
# Padding keeps the size, so that the outputs can be laid behind each other as channels: they are *concatenated*.
# First the naive one.

# %% tags=["define", "ledger:eq-inception-module"]
def conv_relu(channels_in, channels_out, kernel):
    """A convolution that keeps the size, and its ReLU."""
    convolution = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2)
    return nn.Sequential(convolution, nn.ReLU())


class Naive(nn.Module):
    """(N, C, H, W) -> (N, n1 + n3 + n5 + C, H, W)."""

    def __init__(self, channels_in, n1, n3, n5):
        super().__init__()
        self.one = conv_relu(channels_in, n1, 1)
        self.three = conv_relu(channels_in, n3, 3)
        self.five = conv_relu(channels_in, n5, 5)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)

    def forward(self, x):
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], dim=1)

# %% tags=["fold", "ledger:arch-inception-naive"]
naive = Naive(256, 128, 192, 96)
naive_costs = cost.table(naive, (256, 28, 28))
fig = diagrams.draw(naive, (256, 28, 28), costs=True,
                    title="Naive: 854 million multiply-adds, and more channels than came in")
figures.show(fig, alt="The naive module: a 1×1, a 3×3 and a 5×5 convolution and a max pooling side "
             "by side; 256 channels come in, 672 leave, and the 5×5 costs more than half.")
claims.table("num-inception-naive-854m", "The naive module on 256 maps of 28×28, traced; in "
    "millions the parts add up to 854.", {"1×1 to 128": (naive_costs["one"].multiply_adds,
    25_690_112), "3×3 to 192": (naive_costs["three"].multiply_adds, 346_816_512),
    "5×5 to 96": (naive_costs["five"].multiply_adds, 481_689_600),
    "together": (naive_costs.multiply_adds, 854_196_224)}, columns=("part", "traced", "expected"))
claims.check("num-inception-naive-concat-672", "It gives {depth} channels.",
    depth=(naive(torch.zeros(1, 256, 28, 28)).shape[1], "==", 672))
exercises.predict("13.p2", "A second naive module, same widths, reads what the first gives. It "
    "costs", ("as much", "one and a half times as much", "more than twice as much"))

# %%
second = cost.table(Naive(672, 128, 192, 96), (672, 28, 28)).multiply_adds
times = second / naive_costs.multiply_adds
answer = "as much" if times < 1.2 else "one and a half times as much"
exercises.reveal("13.p2", "more than twice as much" if times > 2 else answer,
                 f"It costs {times:.2f} times as much: the pool passes all its channels on.")

# %% [markdown]
# The real module has three 1×1 convolutions more: a reduction before the 3×3, another before the 5×5, and a *projection* behind the pooling.
# Each has its ReLU, so each is one more layer.

# %% tags=["define"]
class Inception(nn.Module):
    """(N, C, H, W) -> (N, n1 + n3 + n5 + pool, H, W)."""

    def __init__(self, channels_in, n1, reduce3, n3, reduce5, n5, pool):
        super().__init__()
        self.one = conv_relu(channels_in, n1, 1)
        self.three = nn.Sequential(conv_relu(channels_in, reduce3, 1), conv_relu(reduce3, n3, 3))
        self.five = nn.Sequential(conv_relu(channels_in, reduce5, 1), conv_relu(reduce5, n5, 5))
        pooling = nn.MaxPool2d(3, stride=1, padding=1)
        self.pool = nn.Sequential(pooling, conv_relu(channels_in, pool, 1))

    def forward(self, x):
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], dim=1)

# %% tags=["fold"]
module = Inception(256, 128, 64, 192, 64, 96, 64)
module_costs = cost.table(module, (256, 28, 28))
fig = diagrams.draw(module, (256, 28, 28), costs=True,
                    title="With three 1×1 convolutions: a third of the cost, 480 channels")
figures.save(fig, "fig-inception-modules", caption="The module with reductions to 64 channels and "
    "a projection to 64, on 256 maps of 28×28, drawn from the module.",
    alt="The 3×3 branch costs 13 and 87, the 5×5 branch 13 and 120 million; 480 channels come out.")
claims.check("num-inception-bottleneck-358m", "With reductions the module costs {cost:,} "
    "multiply-adds, {times:.2f} times less than the naive one, and gives {depth} channels.",
    cost=(module_costs.multiply_adds, "==", 271_351_808),
    times=(naive_costs.multiply_adds / module_costs.multiply_adds, ">", 3),
    depth=(module(torch.zeros(1, 256, 28, 28)).shape[1], "==", 480))

# %% [markdown]
# Which of the three saves how much? We take out one at a time.

# %%
side = 28
one = multiply_adds(side, 1, 256, 128)
three = multiply_adds(side, 1, 256, 64) + multiply_adds(side, 3, 64, 192)
five = multiply_adds(side, 1, 256, 64) + multiply_adds(side, 5, 64, 96)
pool = multiply_adds(side, 1, 256, 64)
full = one + three + five + pool
versions = {"as it is": full,
            "no reduction before 3×3": full - three + multiply_adds(side, 3, 256, 192),
            "no reduction before 5×5": full - five + multiply_adds(side, 5, 256, 96),
            "no projection behind pooling": full - pool}
for name, total in versions.items():
    print(f"{name:29} {total / 1e6:6.1f} million multiply-adds")

# %% [markdown]
# The two reductions save.
# The projection costs a little *here*; what it saves is in the next module, which reads 480 channels and not 672.
#
# We now know what each 1×1 is for. This does not show that these widths are good ones: they are the lecture's example.
#
# **Exercise 13.2** Write the cost of a module, with all its widths free.
# The lecture gives 358 million for the module above.

# %%
def module_cost(side, channels_in, n1, reduce3, n3, reduce5, n5, pool):
    """Multiply-adds of an inception module on channels_in maps of side × side."""
    ...


exercises.check("13.2", module_cost)

# %% [markdown]
# ## 3 · The whole table, recomputed
#
# GoogLeNet is nine such modules behind three convolutions, then the average over all 7 × 7 pixels, and one linear layer.
# The paper prints a table: for each row the widths, the weights and the multiply-adds ("ops").
# Below, every box is a convolution, a pooling, a linear layer or a concatenation (the rest is left out), drawn from the module; the two short chains at the bottom are for section 4.

# %% tags=["fold", "ledger:arch-googlenet"]
with torch.device("meta"):
    googlenet = models.googlenet_2014()
fig = diagrams.draw(googlenet, (3, 224, 224), level="graph", training=True,
                    title="Nine modules in a row; two heads branch off while it trains")
figures.save(fig, "fig-googlenet-structure", caption="GoogLeNet as its paper's table has it, drawn "
    "from the module in training; ReLU, normalisation and dropout are not drawn.",
    alt="Three convolutions, then modules 3a to 5b with four branches each; heads on 4a and 4d.")

# %%
layer_costs = cost.table(googlenet, (3, 224, 224))
costs = layer_costs.grouped()  # one row for each part
rows = {"conv1": ["conv1"], "conv2": ["conv2", "conv3"]}
rows |= {row: [f"inception{row}"] for row in TABLE}
rows |= {"linear": ["fc"]}
counted = {}
for row, parts in rows.items():
    here = [googlenet.get_submodule(part) for part in parts]
    ops = [line.multiply_adds for line in costs.rows if line.name in parts]
    counted[row] = (sum(map(weights, here)), sum(ops))

# %% tags=["fold", "ledger:num-googlenet-table-params", "ledger:num-googlenet-table-ops"]
# Weights in K = 1024, and multiply-adds in millions, as the paper's table 1 prints them.
PRINTED = {"conv1": (2.7, 34), "conv2": (112, 360), "3a": (159, 128), "3b": (380, 304),
           "4a": (364, 73), "4b": (437, 88), "4c": (463, 100), "4d": (580, 119), "4e": (840, 170),
           "5a": (1072, 54), "5b": (1388, 71), "linear": (1000, 1)}
off = {row: (100 * (PRINTED[row][0] * 1024 / w - 1), 100 * (PRINTED[row][1] * 1e6 / o - 1))
       for row, (w, o) in counted.items()}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.4))
for place, (row, pair) in enumerate(off.items()):
    for value, colour, mark, shift in zip(pair, ("C1", "C0"), "os", (-0.12, 0.12), strict=True):
        ax.plot(place + shift, value, mark, color=colour, ms=8)
ax.axhspan(-3, 3, color="0.9")
ax.axhline(0, color="0.5", lw=1)
ax.text(2, -45, "● weights", color="#b86b00")
ax.text(2, -60, "■ multiply-adds", color="C0")
ax.set_xticks(range(len(off)), off)
ax.set(ylabel="printed, beside counted, %", xlabel="row of the paper's table", ylim=(-80, 20))
ax.set_title("Three printed rows are 5 % or more off the count: conv1, 4c, 5a")
figures.save(fig, "num-googlenet-table-params", caption="The paper's printed numbers beside the "
    "count of a network built from the same table's widths (K = 1024); grey: within 3 %.",
    alt="All within three percent but conv1 (−71 %), 4c weights (−7 %), 5a (+5 and +6 %).")

# %% tags=["fold"]
good = [row for row in off if row not in ("conv1", "4c", "5a")]
claims.check("num-googlenet-table-params", "In nine rows the printed weights are within "
    "{weights:.1f} % of the counted ones; in the ten rows but conv1 and 5a the multiply-adds "
    "within {ops:.2f} million.",
    weights=(max(abs(off[row][0]) for row in good), "<", 2),
    ops=(max(abs(counted[row][1] / 1e6 - PRINTED[row][1]) for row in off
             if row not in ("conv1", "5a")), "<", 1))
claims.check("err-googlenet-table-4c-5a", "4c has {c} weights ({ck:.1f}K, printed 463K), 5a {a} "
    "({ak:.0f}K, printed 1072K) and {ops:.1f} million multiply-adds (printed 54).",
    c=(counted["4c"][0], "==", 509_440), ck=counted["4c"][0] / 1024,
    a=(counted["5a"][0], "==", 1_042_432), ak=counted["5a"][0] / 1024,
    ops=(counted["5a"][1] / 1e6, "~", 51.1, 0.05))

# %% tags=["fold"]
with torch.device("meta"):
    separable = models.googlenet_2014(separable_stem=True)
stem = cost.table(separable, (3, 224, 224)).grouped()["conv1"]
claims.table("num-googlenet-conv1-27k", "The first convolution, as drawn and as one 7×7 with 8 "
    "maps for each colour and a 1×1 behind it; printed are 2.7K and 34 million.",
    {"7×7, weights": (counted["conv1"][0], 9_408),
     "7×7, multiply-adds": (counted["conv1"][1], 118_013_952),
     "separable, weights": (weights(separable.conv1), 2_712),
     "separable, multiply-adds": (stem.multiply_adds, 34_019_328)},
    columns=("what", "counted", "expected"))
claims.table("num-googlenet-table-channels", "Channels out of each module, traced.",
    {row: (line.output_shape[0], expected) for row, line, expected in zip(TABLE,
     [line for line in costs.rows if "inception" in line.name],
     [256, 480, 512, 512, 512, 528, 832, 832, 1024], strict=True)},
    columns=("module", "traced", "the table"))
claims.check("num-googlenet-table-ops", "All rows together: {weights:,} weights and {ops:,} "
    "multiply-adds; the printed columns add up to {printed:.0f}K and {million} million.",
    weights=(sum(w for w, _ in counted.values()), "==", 6_990_272),
    ops=(sum(o for _, o in counted.values()), "==", 1_582_671_872),
    printed=sum(w for w, _ in PRINTED.values()), million=(sum(o for _, o in PRINTED.values()),
    "==", 1502))

# %% [markdown]
# A network built from the table is the way to check the table.
# The printed pair for conv1 fits another layer, a separable one; whether the authors used it, the paper does not say. (The paper on BN-Inception, of 2015 and by one of the authors, tells of such a first layer, with 8 maps for each colour.)
#
# **Exercise 13.3** For 5a the paper prints 54 million multiply-adds, and in the column "5×5 reduce" 32.
# Keep all other widths of `TABLE["5a"]` (832 channels come in, 7 × 7 pixels): which number in that column would give the printed 54 million, rounded to a million? (Several numbers do; one of them stands in the next row of the table.)

# %%
reduce5 = ...
exercises.check("13.3", reduce5)

# %% [markdown]
# ### Deeper, wider, cheaper: where from?
#
# Now the intervention on the whole network: take out all reductions, so that 3×3 and 5×5 read everything that comes in.
# All widths that come out stay.

# %%
without, weights_without, depth = 0, 0, 192
for row, (n1, reduce3, n3, reduce5_, n5, pool) in TABLE.items():
    side = {"3": 28, "4": 14, "5": 7}[row[0]]
    for kernel, number in ((1, n1), (3, n3), (5, n5), (1, pool)):
        without += multiply_adds(side, kernel, depth, number)
        weights_without += multiply_adds(1, kernel, depth, number)  # at one pixel: its weights
    depth = n1 + n3 + n5 + pool  # what the next module reads
modules = sum(counted[row][1] for row in TABLE)
print(f"nine modules: {modules / 1e9:.2f} billion with reductions, {without / 1e9:.2f} without")

# %% tags=["fold", "ledger:err-googlenet-no-fc"]
reductions = sum(line.multiply_adds for line in layer_costs.rows
                 if line.name.startswith("inception") and line.name.endswith(
                     ("branch2.0.0", "branch3.0.0")))
claims.check("emp-inception-cheap-depth.without", "Without their reductions the nine modules would "
    "cost {times:.1f} times as much and the network would have {shallow} layers in a row, not "
    "{deep}; the reductions themselves take {share:.0%} of the modules' multiply-adds.",
    times=(without / modules, ">", 3), shallow=deep[2] - len(TABLE), deep=deep[2],
    share=(reductions / modules, "<", 0.35))
early = {name: sum(line.multiply_adds for line in table.rows
                   if len(line.output_shape) == 3 and line.output_shape[-1] >= 56)
         for name, table in tables.items()}  # on large maps
rest = sum(w for row, (w, _) in counted.items() if row not in TABLE)  # outside the modules
claims.check("emp-inception-cheap-depth.rest", "Without them all of GoogLeNet would still have "
    "{ops:.0%} of VGG-16's multiply-adds and {share:.0%} of AlexNet's weights. On maps of 56 × 56 "
    "pixels and more VGG-16 spends {vgg:.1f} billion multiply-adds, GoogLeNet {goog:.1f} billion.",
    ops=((busy[2] * 1e9 - modules + without) / (busy[1] * 1e9), "<", 1 / 3),
    share=((rest + weights_without) / (heavy[0] * 1e6), "<", 0.5),
    vgg=(early["VGG-16"] / 1e9, ">", busy[1] / 2), goog=(early["GoogLeNet"] / 1e9, "<", 1))
full_kinds = [line.kind for line in tables["GoogLeNet"].rows]
kinds = {kind: full_kinds.count(kind) for kind in ("Conv2d", "Linear", "cat", "MaxPool2d")}
claims.table("num-googlenet-22-layers", "Counted in the network as it answers, without heads.",
    {"layers in a row": (deep[2], 22), "convolutions": (kinds["Conv2d"], 57),
     "linear layers": (kinds["Linear"], 1), "max poolings": (kinds["MaxPool2d"], 13),
     "concatenations": (kinds["cat"], 9)}, columns=("what", "counted", "the paper's table"))

# %% tags=["fold"]
flat = nn.Linear(7 * 7 * 1024, 1000, device="meta")
claims.check("err-googlenet-no-fc", "The linear layer behind the average has {here:,} weights; on "
    "all 7×7 pixels it would have {flat:,}, {times:.1f} times the whole network.",
    here=(weights(googlenet.fc), "==", 1_024_000), flat=(weights(flat), "==", 50_176_000),
    times=(weights(flat) / (heavy[2] * 1e6), ">", 7))
with torch.device("meta"):
    nin = models.nin_imagenet()
nin_kinds = [type(layer).__name__ for layer in nin.modules()]
claims.check("arch-nin", "Network in network, a year earlier, has {linear} linear layers: "
    "{ones} of its {all} convolutions are 1×1, the last gives a map for each class, and the "
    "answer is the average of the map; {count:,} parameters.",
    linear=(nin_kinds.count("Linear"), "==", 0), all=nin_kinds.count("Conv2d"),
    ones=(sum(getattr(layer, "kernel_size", 0) == (1, 1) for layer in nin.modules()), "==", 8),
    count=(sum(p.numel() for p in nin.parameters()), "==", 7_595_176))
pixelwise, linear = nn.Conv2d(192, 16, 1).double(), nn.Linear(192, 16).double()
linear.load_state_dict({"weight": pixelwise.weight[:, :, 0, 0], "bias": pixelwise.bias})
x = torch.randn(2, 192, 5, 5, dtype=torch.float64)
claims.check("eq-1x1-conv", "A 1×1 convolution and one linear layer applied at each pixel differ "
    "by at most {apart:.0e}.", apart=((pixelwise(x) - linear(x.permute(0, 2, 3, 1)).permute(
    0, 3, 1, 2)).abs().max().item(), "<", 1e-12), varies=True)

# %% [markdown]
# That answers a part of the title. The reductions make it deeper (one more layer in a row for each module) and cheaper (the large filters read less).
# They are not the whole reason: without them it would still be far cheaper than VGG-16, and smaller than AlexNet.
# VGG-16 spends most of its multiply-adds on large maps; GoogLeNet's are down to 28 × 28 pixels after three convolutions.
# And averaging over pixels, taken from *network in network* (2013), stands in place of large linear layers.
# What this does not show: how accurate the network would be without reductions, or with plain layers of equal cost. Nothing was trained here; exercise 13.7 asks for it.

# %% [markdown]
# ## 4 · Do auxiliary heads help?
#
# In 2014 there was no BatchNorm and no He's start; the authors feared that through 22 layers too little gradient comes back.
# So while it trains, GoogLeNet has two *auxiliary heads*: small classifiers on the maps behind 4a and 4d.
# The loss is that of the network's answer, plus 0.3 times that of each head (`loss_with_heads`); afterwards the heads are thrown away.
#
# We build GoogLeNet with a quarter of its channels for pictures of 32 × 32 pixels, the real code with the real heads, and do not train it.
# All convolutions get weights of variance gain / fan-in (fan-in: the numbers that one output reads).
# Gain 2 is He's start: behind each layer and its ReLU the signal keeps its size. With the weak gain of 0.7 its square falls to about a third at each layer.

# %%
def gradient_lengths(network, loss):
    """The length of the loss's gradient by the weights of each row of the table, conv1 to 5b."""
    parts = [network.conv1, network.conv2, network.conv3]
    parts += [network.get_submodule(f"inception{row}") for row in TABLE]
    squares = []
    for part in parts:
        kernels = [p for p in part.parameters() if p.dim() > 1]
        gradients = torch.autograd.grad(loss, kernels, retain_graph=True)
        squares.append(sum(float(g.square().sum()) for g in gradients))
    return np.sqrt(squares)


exercises.predict("13.p3", "From the weak start, heads make the first convolution's gradient",
                  ("up to 2 times as long", "2 to 10 times as long", "over 10 times as long"))

# %% tags=["define", "fold"]
def quarter_googlenet(gain, seed):
    """GoogLeNet for 32 × 32 pixels, a quarter of the channels, no dropout, in float64."""
    torch.manual_seed(seed)
    network = models.googlenet_2014(num_classes=classes, in_channels=colours, width=16,
                                    image_size=32, dropout=0.0, dropout_aux=0.0)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=math.sqrt(gain / layer.weight[0].numel()))
    return network.double().train()

# %% tags=["nbval-varies"]
enlarged = F.interpolate(few[:8], (32, 32), mode="bilinear").double()
gains = {"weak": weak_gain, "He": 2}
alone, helped = {"weak": [], "He": []}, {"weak": [], "He": []}  # lengths for each seed
for start, gain in gains.items():
    for run in seeds:
        network = quarter_googlenet(gain, run)
        outputs = network(enlarged)
        main = F.cross_entropy(outputs.logits, few_labels[:8])
        alone[start].append(gradient_lengths(network, main))
        with_both = loss_with_heads(outputs, few_labels[:8])
        helped[start].append(gradient_lengths(network, with_both))
ratio = {start: np.array(helped[start]) / np.array(alone[start]) for start in gains}
first = ratio["weak"][:, 0]  # of the first convolution, for each seed
middle = "2 to 10 times as long" if first.mean() > 2 else "up to 2 times as long"
exercises.reveal("13.p3", "over 10 times as long" if first.mean() > 10 else middle,
                 f"{first.mean():.1f} times on average ({first.min():.1f} to {first.max():.1f}).")

# %% tags=["fold", "ledger:eq-aux-loss"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.2))
places = ["conv1", "conv2", "conv3", *TABLE]
for start, colour in (("weak", "C1"), ("He", "C0")):
    for lengths, dashes in ((alone[start], (None, None)), (helped[start], (3, 1.5))):
        rows_of_seeds = np.array(lengths)
        ax.plot(rows_of_seeds.mean(0), color=colour, dashes=dashes)
        ax.fill_between(range(12), rows_of_seeds.min(0), rows_of_seeds.max(0), color=colour,
                        alpha=0.15, lw=0)
ax.set_xticks(range(12), places, fontsize=11)
ax.set(yscale="log", ylabel="length of the gradient", xlabel="row of the table, input to output")
ax.text(7, 0.06, "He's start, dashed: with heads", color="C0", ha="center")
ax.text(7, np.mean(alone["weak"]) / 4, "weak start, dashed: with heads", color="#b86b00",
        ha="center")
ax.set_title("Heads lift a weak gradient; a better start lifts it far more")
figures.save(fig, "emp-aux-classifiers-help", caption="GoogLeNet with a quarter of its channels, "
    f"untrained: the gradient of the loss with and without heads, by row. Line: mean of "
    f"{len(seeds)} seeds, shade: lowest to highest; 8 pictures of {dataset}, float64, CPU.",
    alt="From the weak start the first gradient is thousands of times shorter than from He's; "
        "heads lift it several-fold up to 4d.")

# %% tags=["nbval-varies", "fold"]
gap = np.array(alone["He"])[:, 0] / np.array(alone["weak"])[:, 0]
claims.check("emp-aux-classifiers-help", "Untrained, heads make the first convolution's gradient "
    "{weak:.1f} times as long from the weak start and {he:.1f} times from He's; He's start without "
    "heads makes it {start:.0f} times as long as the weak start.",
    weak=(list(ratio["weak"][:, 0]), ">", 4), he=(list(ratio["He"][:, 0]), "<", 3.5),
    start=(list(gap), ">", 100), seeds=seeds, on="every")
claims.table("eq-aux-loss", "Parameters of the two heads, with biases, of the full network.",
    {name: (sum(p.numel() for p in googlenet.get_submodule(name).parameters()), expected)
     for name, expected in (("aux1", 3_188_840), ("aux2", 3_190_888))},
    columns=("head", "counted", "expected"))
kernel = network.conv1[0].weight
separate = [torch.autograd.grad(F.cross_entropy(o, few_labels[:8]), kernel, retain_graph=True)[0]
            for o in outputs]
sum_of_three = separate[0] + 0.3 * separate[1] + 0.3 * separate[2]
whole_gradient = torch.autograd.grad(with_both, kernel)[0]
claims.check("eq-aux-loss.sum", "The gradient with heads is the sum of three, the heads' times "
    "0.3: it differs from that by {apart:.0e} of its length.", varies=True, apart=(float(
    (whole_gradient - sum_of_three).norm() / whole_gradient.norm()), "<", 1e-10))

# %% [markdown]
# From the weak start the gradient is small in *all* rows, not only near the input.
# Heads lift it up to their own place and do nothing behind it; the start lifts it everywhere, far more.
#
# **Exercise 13.4** Write the loss of a network with heads.
# While it trains, `outputs` is a tuple (logits, head, head, …); otherwise it is the logits alone.

# %%
def heads_loss(outputs, labels, weight=0.3):
    """A number: cross-entropy of the logits, plus weight times that of each head."""
    ...


exercises.check("13.4", heads_loss)

# %% [markdown]
# ### Does it then train?
#
# A longer gradient is not yet a lower loss. To train many networks we take a cheap deep one: a *chain* of linear layers with ReLU, no normalisation, heads at a third and at two thirds of it.

# %% tags=["define"]
class Chain(nn.Module):
    """Linear layers with ReLU on the pixels: (N, C, H, W) -> logits, and the heads' in training."""

    def __init__(self, gain, heads=()):
        super().__init__()
        sizes = [few[0].numel()] + [width] * layers
        self.steps = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.heads = nn.ModuleDict({str(place): nn.Linear(width, classes) for place in heads})
        self.last = nn.Linear(width, classes)
        for layer in self.steps:
            nn.init.normal_(layer.weight, std=math.sqrt(gain / layer.in_features))
            nn.init.zeros_(layer.bias)

    def forward(self, images):
        x, answers = images.flatten(1), []
        for place, layer in enumerate(self.steps, 1):
            x = F.relu(layer(x))
            if self.training and str(place) in self.heads:
                answers.append(self.heads[str(place)](x))
        logits = self.last(x)
        return (logits, *answers) if answers else logits

# %% [markdown]
# Four kinds: weak start or He's, with heads or without.
# A gradient longer than 1 is shortened to 1 (`clip_gradient`), for all kinds alike.
# For each kind the seeds `trial_seeds` choose one of the `rates`: the one with the lowest mean training loss at the end.
# Other seeds then judge it. (Only the rates are chosen so: the weak gain and the clipping we settled beforehand, having seen some of the judging seeds.) What counts is the loss of the last classifier, on the training images; who guesses has the logarithm of the number of classes.

# %% tags=["define"]
def final_losses(gain, heads, rates, seeds):
    """Training losses after all epochs: (rates, seeds); nan where it diverged."""
    tried = [(rate, seed) for rate in rates for seed in seeds]
    repeats = training.repeat(
        partial(Chain, gain, heads), train_set, loss=loss_with_heads,
        optimizer=lambda weights, rate: torch.optim.SGD(weights, rate, momentum=0.9),
        seeds=[seed for _, seed in tried], learning_rates=[rate for rate, _ in tried],
        epochs=epochs, batch_size=batch_size, clip_gradient=1.0, drop_last=True, progress=False)
    losses = [training.evaluate(network, train_set).loss for network in repeats.models]
    return np.reshape(losses, (len(rates), len(seeds)))



# %%
exercises.predict("13.p4", f"From the weak start, at its best rate, after {epochs} epochs: whose "
                  "loss is below three quarters of guessing's?",
                  ("neither", "only the chain's with heads", "both chains'"))

# %% tags=["nbval-varies"]
thirds = (layers // 3, 2 * layers // 3)
kinds = {"weak": (weak_gain, ()), "weak, heads": (weak_gain, thirds),
         "He": (2, ()), "He, heads": (2, thirds)}
trials, chosen, judged = {}, {}, {}
for kind, (gain, heads) in kinds.items():
    trials[kind] = final_losses(gain, heads, rates, trial_seeds)  # (rates, seeds)
    means = np.nan_to_num(trials[kind].mean(1), nan=np.inf)
    chosen[kind] = rates[int(means.argmin())]
    judged[kind] = final_losses(gain, heads, [chosen[kind]], seeds)[0]
guessing = math.log(classes)
learns = [judged[kind].mean() < 0.75 * guessing for kind in ("weak", "weak, heads")]
found = "both chains'" if all(learns) else "only the chain's with heads" if learns[1] else "neither"
exercises.reveal("13.p4", found, f"The losses are {judged['weak'].mean():.2f} without and "
                 f"{judged['weak, heads'].mean():.2f} with heads; guessing has {guessing:.2f}.")

# %% tags=["nbval-varies", "fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.8))
looks = {"weak": ("C1", "o-"), "weak, heads": ("C1", "s--"), "He": ("C0", "o-"),
         "He, heads": ("C0", "s--")}
for kind, (colour, look) in looks.items():
    ax.plot(rates, trials[kind].mean(1), look, color=colour, ms=8, lw=1.5)
ax.axhline(guessing, color="0.5", lw=1)
ax.text(0.8 * max(rates), guessing + 0.06, "guessing", color="0.35", ha="right", va="bottom")
for kind, words, place, shift, side in (
        ("weak", "weak start", 1, (0, 8), "center"), ("He", "He's start", -2, (-10, 4), "right"),
        ("weak, heads", "weak start, heads", 0, (10, 4), "left"),
        ("He, heads", "He's start, heads", -2, (10, -14), "left")):
    place = place if len(rates) > 1 else 0
    point = rates[place], np.nan_to_num(trials[kind].mean(1))[place]
    ax.annotate(words, point, shift, textcoords="offset points", ha=side,
                color="C0" if looks[kind][0] == "C0" else "#b86b00")
ax.set(xscale="log", xlabel="learning rate", ylabel="training loss", ylim=(0, 2.7))
ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
ax.minorticks_off()
ax.set_title(f"In {epochs} epochs, each at its best rate, only the weak start needs heads")
figures.save(fig, "emp-aux-classifiers-help.training", caption=f"Chains of {layers} linear layers "
    f"on {dataset}, {epochs} epochs: training loss of the last classifier by learning rate, mean "
    f"of {len(trial_seeds)} seeds; missing: training diverged. CPU.",
    alt="From the weak start without heads the loss is that of guessing at every rate; with heads "
    "it falls at 0.1; from He's start it falls at 0.03, with heads or without.")

# %% tags=["fold"]
claims.check("emp-aux-classifiers-help.training", "Chains of {layers} layers on {name}, {epochs} "
    "epochs, each kind at the best of {count} rates, other seeds: the training loss is {weak:.2f} "
    "from the weak start, {aid:.2f} with heads; {he:.2f} from He's start, {both:.2f} with heads; "
    "guessing has {guess:.2f}.", layers=layers, name=dataset, epochs=epochs, count=len(rates),
    weak=(list(judged["weak"]), ">", 1.8), aid=(list(judged["weak, heads"]), "<", 1.2),
    he=(list(judged["He"]), "<", 1.2), both=list(judged["He, heads"]), guess=guessing,
    seeds=seeds, on="every", varies=True)

# %% [markdown]
# We now know: from the weak start, a chain with heads learns in epochs in which the chain without them does not get below guessing, under SGD with momentum, at any rate we tried.
# A better start does that too, without heads. So may patience: given five times the epochs, a chain without heads may leave guessing as well (try `epochs = 40`). And so may an optimiser whose step does not depend on the gradient's length, such as Adam (lesson 09); we have not compared it here.
#
# This does not show what heads do for GoogLeNet's accuracy, nor from the start its authors used, which we do not know (0.7 is our choice), nor that they do nothing from He's start: a few seeds cannot tell the two blue losses apart. At a rate of 0.3, too large for it, He's start too had a lower loss with heads in the two trial seeds; whether that holds in others we did not ask.
# The authors later put their effect at half a point, one head being enough; in 2015 they saw none early in training, and took heads for regularisers (Szegedy et al., CVPR 2015, section 5; Rethinking, section 4).

# %% [markdown]
# ## 5 · More crops, or more networks?
#
# A *crop* is a square cut out of a picture. At test time a network may answer for several crops, and the answers (softmax) are averaged.
# So may several networks, trained alike but on other crops in another order: an *ensemble*. (Of the paper's seven, one was wider; we count its pass as one like the others.)
# Both are paid for in *passes*: one pass is one crop through one network.
# We cannot train seven GoogLeNets here. The paper gives six numbers; what follows from them, we compute.
# (Top-5 error in percent, on the contest's 50,000 validation images.)

# %%
ERROR = {(1, 1): 10.07, (1, 10): 9.15, (1, 144): 7.89,  # (networks, crops): percent
         (7, 1): 8.09, (7, 10): 7.62, (7, 144): 6.67}
exercises.predict("13.p5", "Fewer errors: seven networks with one crop each, or one with ten?",
                  ("seven networks", "ten crops", "within 0.2 points"))

# %%
gap = ERROR[1, 10] - ERROR[7, 1]
closer = "seven networks" if gap > 0 else "ten crops"
exercises.reveal("13.p5", "within 0.2 points" if abs(gap) <= 0.2 else closer,
                 f"{ERROR[7, 1]} % in seven passes, {ERROR[1, 10]} % in ten, "
                 "measured by the paper's authors, not here.")

# %% tags=["fold", "ledger:prac-googlenet-recipe", "ledger:emp-googlenet-ensemble-7"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.6))
for networks, colour in ((1, "C1"), (7, "C0")):
    passes = [networks * crops for crops in (1, 10, 144)]
    ax.plot(passes, [ERROR[networks, crops] for crops in (1, 10, 144)], "o-", color=colour)
    for x, crops in zip(passes, (1, 10, 144), strict=True):
        name = "1 crop" if crops == 1 else f"{crops} crops"
        ax.annotate(name, (x, ERROR[networks, crops]), (6, 6) if networks == 1 else (-6, -18),
                    textcoords="offset points", ha="left" if networks == 1 else "right")
ax.text(1, 9.3, "one network", color="#b86b00")
ax.text(300, 7.4, "seven networks", color="C0", ha="center")
ax.set_xscale("log")
ax.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
ax.set(xlabel="passes for a picture", ylabel="top-5 error, %", xlim=(0.8, 2500), ylim=(6, 10.6))
ax.set_title("Seven networks with one crop err less than one network with ten")
figures.save(fig, "emp-crops-diminishing-returns", caption="The six results of the paper's table 3 "
    "over what they cost at test time. Quoted, not measured here.",
    alt="One network: 10.07, 9.15, 7.89 % with 1, 10, 144 passes; seven: 8.09, 7.62, 6.67 %.")

# %% tags=["fold"]
early = (ERROR[1, 1] - ERROR[1, 10]) / 9
late = (ERROR[1, 10] - ERROR[1, 144]) / 134
claims.check("emp-crops-diminishing-returns", "Of one network, the first nine more crops gain "
    "{early:.3f} points each, the next 134 gain {late:.4f} each, {times:.0f} times less (quoted "
    "errors; though all 134 together gain more).", early=early, late=late,
    times=(early / late, ">", 5))
claims.check("emp-googlenet-ensemble-7", "Seven networks in place of one gain {one:.2f} points "
    "with one crop, {ten:.2f} with ten and {all:.2f} with 144; seven with ten crops, in 70 passes, "
    "err {fewer:.2f} points less than one with 144 (quoted errors).",
    fewer=(ERROR[1, 144] - ERROR[7, 10], ">", 0.2),
    one=(ERROR[1, 1] - ERROR[7, 1], ">", 1), ten=(ERROR[1, 10] - ERROR[7, 10], ">", 1),
    all=(ERROR[1, 144] - ERROR[7, 144], ">", 1))
claims.quoted("emp-googlenet-ensemble-7.quoted", "1 network with 1, 10, 144 crops: 10.07, 9.15, "
    "7.89 %; 7 networks: 8.09, 7.62, 6.67 %", "Szegedy et al. 2015, table 3")

# %% [markdown]
# On these six numbers, further networks beat further crops with fewer passes, twice: 7 passes against 10, and 70 against 144. But seven networks must be trained, and kept.
# Crops show *diminishing returns*: the later ones gain less on average.
# This does not show that it is so elsewhere: one design, one data set, no spread given.
#
# **Exercise 13.5** The paper's crops: the shorter side of a picture is scaled to 256, 288, 320 and 352 pixels.
# Of each scaled picture three squares are taken: left, middle, right (top, middle, bottom where it stands upright).
# Of each square six crops: its four corners and its middle, 224 × 224 each, and the whole square (to be scaled to 224). All of them also mirrored.
# Write the places for one scale, without mirrors: 18 triples, in any order; half pixels are rounded down.

# %%
def crop_places(height, width, side=224):
    """(top, left, size) of 18 squares in a scaled picture of height × width."""
    ...


exercises.check("13.5", crop_places)

# %% [markdown]
# ## 6 · Smaller filters, softer labels
#
# In 2015 two papers made the filters cheaper, and spent more than that on larger networks (counted below: each costs more than GoogLeNet's 1.58 billion multiply-adds; v3 also reads larger pictures).
# A 5×5 may be two 3×3, one behind the other; an $n \times n$ may be a $1 \times n$ and an $n \times 1$.
# Both see the same pixels.

# %%
exercises.predict("13.p6", "A 7×7, as 1×7 and 7×1 with equal channels, saves of its cost",
                  ("about a third", "about half", "more than two thirds"))
wide_pair = nn.Sequential(nn.Conv2d(64, 64, (1, 7), padding=(0, 3)),
                          nn.Conv2d(64, 64, (7, 1), padding=(3, 0)))
square = cost.table(nn.Conv2d(64, 64, 7, padding=3), (64, 17, 17)).multiply_adds
saved = 1 - cost.table(wide_pair, (64, 17, 17)).multiply_adds / square

# %%
some = "about a third" if saved < 0.42 else "about half"
exercises.reveal("13.p6", "more than two thirds" if saved > 2 / 3 else some,
                 f"It saves {saved:.0%}.")

# %% [markdown]
# What does a pair lose? With one channel and nothing between, the two filters make one: column times row, a matrix of rank 1.
# A kernel of rank 2 or 3 has no such pair. How near is the nearest?
# Every 3×3 kernel is a sum of at most three such products of a column and a row, none of which holds anything of the others. Their lengths are the kernel's *singular values*: the largest one's square, as a share of all their squares, is what the best pair keeps.

# %%
column, row = torch.randn(7, 1).double(), torch.randn(1, 7).double()
picture = torch.randn(1, 1, 20, 20).double()
pair = F.conv2d(F.conv2d(picture, row[None, None]), column[None, None])
apart = (pair - F.conv2d(picture, (column @ row)[None, None])).abs().max().item()


def kept_by_a_pair(network):
    """Of all 3×3 kernels behind the first layer: the share of squared weights, in percent."""
    kernels = [layer.weight.detach().flatten(0, 1) for layer in network[3:6:2]]  # (n, 3, 3) each
    sizes = torch.linalg.svdvals(torch.cat(kernels)) ** 2
    return 100 * float(sizes[:, 0].sum() / sizes.sum())

# %% tags=["fold", "ledger:arch-inception-v2-v3"]
torch.manual_seed(seed)
fresh = [kept_by_a_pair(small_net()) for _ in seeds]
claims.check("eq-factorised-conv-label-smoothing", "Row then column, and the kernel that is their "
    "product, differ by at most {apart:.0e}.", apart=(apart, "<", 1e-10), varies=True)
claims.check("eq-factorised-conv-label-smoothing.rank", "Of a 3×3 kernel's squared weights, "
    "the best pair keeps {trained:.0f} % in the trained networks of section 1, and {fresh:.0f} % "
    "in new ones.", trained=([kept_by_a_pair(net) for net in small], "in", (72, 85)),
    fresh=(fresh, "in", (72, 77)), seeds=seeds, varies=True)

# %% tags=["fold"]
with torch.device("meta"):
    family = {"BN-Inception": (models.bn_inception(), 224),
              "Inception-v3": (models.inception_v3(aux_logits=False), 299),
              "Inception-v4": (models.inception_v4(), 299)}
    with_head = models.inception_v3()
later = {name: cost.table(net, (3, side, side)) for name, (net, side) in family.items()}
for name, table in later.items():
    print(f"{name:13} {table.parameters:12,} parameters {table.multiply_adds / 1e9:6.2f} billion "
          f"multiply-adds, {layers_in_a_row(table)} layers in a row")
claims.check("arch-inception-v2-v3", "Inception-v3 has {count:,} parameters with its head; "
    "two 3×3 have {share:.0%} of the weights of a 5×5 with as many channels.",
    count=(sum(p.numel() for p in with_head.parameters()), "==", 27_161_264),
    share=(2 * weights(nn.Conv2d(64, 64, 3)) / weights(nn.Conv2d(64, 64, 5)), "==", 0.72))

# %% [markdown]
# A pair is a restriction: our trained kernels are hardly nearer to one than random kernels are.
# The nearest pair leaves out about a quarter of a trained kernel's squared weights; what that costs in accuracy we did not measure. In the paper pairs are trained from the start.
# There are many channels and a ReLU between the two, so a pair can also do what one kernel cannot.
#
# ### Softer labels
#
# Cross-entropy falls towards 0 as the right class's probability nears 1, which asks for ever larger logits.
# *Label smoothing* asks for less: the target is $1-\varepsilon$ on the right class, plus $\varepsilon / K$ on every one of the $K$ classes; the paper has $\varepsilon = 0.1$ and $K = 1000$.

# %%
probability = torch.linspace(0.5, 0.99, 491, dtype=torch.float64)  # of the right class, of 10
others = ((1 - probability) / 9)[:, None].expand(-1, 9)
logits = torch.cat([probability[:, None], others], 1).log()
right = torch.zeros(len(logits), dtype=torch.long)
curves = {smoothing: F.cross_entropy(logits, right, label_smoothing=smoothing, reduction="none")
          for smoothing in (0.0, 0.1)}
best_at = float(probability[curves[0.1].argmin()])

# %% tags=["fold", "ledger:prac-label-smoothing-modern"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.3))
ax.plot(probability, curves[0.0], color="C1")
ax.plot(probability, curves[0.1], color="C0")
ax.plot(best_at, curves[0.1].min(), "o", color="C0", ms=8)
ax.text(0.55, 0.35, "plain labels", color="#b86b00", ha="left")
ax.text(0.62, 0.8, "smoothed by 0.1", color="C0", ha="left")
ax.annotate(f"lowest at {best_at:.2f}", (best_at, float(curves[0.1].min())), (-10, 14),
            textcoords="offset points", ha="right")
ax.set(xlabel="probability of the right class, of ten", ylabel="loss", ylim=(0, 1))
ax.set_title("Smoothed labels: beyond 0.91, more certainty costs")
figures.save(fig, "eq-factorised-conv-label-smoothing", caption="Cross-entropy of one picture, "
    "ten classes, the wrong ones equally likely; with plain labels and with labels smoothed by 0.1",
    alt="With plain labels the loss falls all the way; smoothed, it is lowest at 0.91.")

# %% tags=["fold"]
target = torch.full((10,), 0.01, dtype=torch.float64)
target[0] += 0.9
claims.check("eq-factorised-conv-label-smoothing.entropy", "The smallest loss is {least:.4f} and "
    "not 0: the entropy of the target, {entropy:.4f}; it lies at a probability of {best:.2f}.",
    least=(float(curves[0.1].min()), "~", float(-(target * target.log()).sum()), 1e-6),
    entropy=float(-(target * target.log()).sum()), best=(best_at, "~", 0.91, 1e-3))
smooth = train_small(label_smoothing=0.1)
pictures = next(test_set.batches(len(test_set)))[0]
sure = {"plain": [], "smooth": []}
for name, networks in (("plain", small), ("smooth", smooth)):
    for network in networks:
        answers = training.predict(network, pictures).softmax(1)
        sure[name].append(100 * answers.max(1).values.mean().item())
claims.check("prac-label-smoothing-modern", "On {name} (test, {epochs} epochs) networks with plain "
    "labels are right in {a:.1f} % and sure by {sure:.1f} % on average; with smoothed ones right "
    "in {b:.1f} % and sure by {less:.1f} %.", name=dataset, epochs=epochs, a=whole,
    sure=sure["plain"],
    b=[accuracy(network) for network in smooth], less=(sure["smooth"], "<", 93), seeds=seeds,
    varies=True)

# %% [markdown]
# "Sure" is the largest of the ten probabilities. A *calibrated* network is as sure as it is right.
# On these easy pictures ours are less sure than right already with plain labels, and smoothed labels widen the gap; where a network is too sure, the same push may help. The accuracies overlap.
# The paper gained 0.2 points of top-1 and top-5 error on ImageNet.
#
# **Exercise 13.6** Write the smoothed targets, with a row for each label.

# %%
def smoothed(labels, num_classes, smoothing=0.1):
    """Labels (N,) of whole numbers give targets (N, num_classes), each row adding up to 1."""
    ...


exercises.check("13.6", smoothed)

# %% [markdown]
# ## In practice
#
# - `torchvision.models.googlenet(weights="IMAGENET1K_V1")` is not the paper's network: BatchNorm everywhere, and 3×3 where the paper has 5×5. `inception_v3` wants pictures of 299 × 299. Both return a tuple while training if `aux_logits=True`.
# - Reductions live on as *bottlenecks*: ResNet-50 (lesson 14) and SqueezeNet. Count with `cost.table`, or `torch.utils.flop_counter.FlopCounterMode` (2 FLOPs each).
# - `torchvision.transforms.RandomResizedCrop(224)`: its defaults, 8 to 100 % of the area and sides of 3:4 to 4:3, are the crops that GoogLeNet's authors recommend for training.
# - `nn.CrossEntropyLoss(label_smoothing=0.1)` is in most of today's recipes, torchvision's among them.
# - Auxiliary heads: rarely for classification today, in networks with BatchNorm and shortcuts; they live on in segmentation (`fcn_resnet50(aux_loss=True)`) and detection.
#
# ## History
#
# - December 2013: *network in network* (Lin, Chen, Yan): 1×1 convolutions, the average over maps.
# - September 2014: GoogLeNet wins the contest (ILSVRC 2014) in classification with 6.67 % top-5 error; the paper appears at CVPR in June 2015. The capital L honours LeNet.
# - February 2015: *BN-Inception* (Ioffe, Szegedy): BatchNorm, two 3×3 for each 5×5. He's start is of the same month.
# - December 2015: *Rethinking the Inception architecture*: a v2 of its own and v3, factorised filters, smoothed labels. It finds that heads do not help early in training.
# - February 2016: Inception-v4 (without shortcuts) and Inception-ResNet (with them) (Szegedy, Ioffe, Vanhoucke, Alemi): with shortcuts training is faster.
#
# ## Exercises
#
# 13.1 to 13.6 stand in their sections. Left are two without a check.
#
# **13.7 Open: at equal cost.** Build two networks for the pictures of this lesson with equal multiply-adds, one of plain 3×3 layers, one of `Inception` modules.
# Tune the learning rate of both in the same way, with seeds that do not judge. Which differences are larger than the spread over seeds?
#
# **13.8 Open: what does this figure *not* show?** Look at the first figure again.
# Name three sentences about GoogLeNet that one might read from it and that it does not support: about time on a real machine, about accuracy, about which part saves.
#
# ## Summary
#
# - A reduction by 1×1 in front of a 5×5 costs a tenth in GoogLeNet's 3a; above 154 channels it would save nothing (section 1).
# - Behind the second layer of our small trained networks, the best 16 mixtures of 32 channels suffice for nearly the same accuracy; 16 at random do not (section 1).
# - The module with 1×1 convolutions costs a third of the naive one, and its depth is chosen, not inherited (section 2).
# - Three rows of the paper's table are 5 % or more off what its own columns give (most others up to 1.8 %); the network has 7.0 million weights, not 5 (section 3).
# - The reductions make it deeper and cheaper; that it is ten times cheaper than VGG-16 comes also from small maps early on, and its few weights mostly from the average over pixels (section 3).
# - From a weak start heads lift the gradient; with them a deep chain learns under SGD in a few epochs, in which without them it does not get below guessing. He's start does the same without heads (section 4).
# - In the paper's numbers seven networks with one crop err less than one with ten, and with ten less than one with 144; the later crops gain less each (section 5).
# - A factorised 7×7 saves 71 %, and restricts the kernel; smoothed labels have their smallest loss below certainty (section 6).

# %% [markdown]
# ## Also in the lectures
#
# Are filters wasted where many weights end up near zero?
# We set the smaller half of each convolution's weights to zero in the trained networks of section 1, and for comparison a random half. Most of the accuracy stays without the smaller half, so many *weights* are spare; that whole *filters* are, this does not show.

# %% tags=["fold", "ledger:emp-zero-weights-waste"]
def pruned(network, score):
    """A copy without the half of each convolution's weights that score lowest."""
    network = copy.deepcopy(network)
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            points = score(layer.weight.data)
            layer.weight.data[points <= points.flatten().median()] = 0
    return network


torch.manual_seed(0)
halved = {"small": [accuracy(pruned(net, torch.abs)) for net in small],
          "random": [accuracy(pruned(net, torch.rand_like)) for net in small]}
claims.check("emp-zero-weights-waste", "Test accuracy on {name}: {whole:.1f} % as trained, "
    "{small:.1f} % without the smaller half of the weights, {chance:.1f} % without a random "
    "half, not trained again.", name=dataset, whole=whole, small=(halved["small"], ">", 80),
    chance=(halved["random"], "<", 65), seeds=seeds, on="every", varies=True)
claims.quoted("prac-googlenet-recipe", "Training: asynchronous SGD on CPUs (DistBelief), momentum "
    "0.9, the rate 4 % lower every 8 epochs, averaged weights; \"few high-end GPUs within a week\" "
    "is an estimate. Detection: an R-CNN with GoogLeNet as its classifier",
    "Szegedy et al. 2015, sections 6 and 8")

# %% [markdown] tags=["ledger:err-googlenet-gpu-week", "ledger:err-inception-358m", "ledger:err-googlenet-5m", "ledger:err-googlenet-conv1-row", "ledger:err-googlenet-year", "ledger:err-googlenet-aux-count", "ledger:err-googlenet-100-layers", "ledger:err-separable-ambiguous"]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | with bottlenecks the example needs 358 M operations | 271.4 M; 358 M has the 86.7 M of the 3×3 twice | [section 2](#2-·-The-module), exercise 13.2 |
# | 25 M + 346 M + 482 M = 854 M | the total is right; the parts are cut off or rounded, and as printed add up to 853 | [section 2](#2-·-The-module) |
# | only 5 million parameters, 12 times fewer than AlexNet | 7.0 million, 8.7 times fewer; "12 times" is the paper's own | [first figure](#13-·-GoogLeNet-and-Inception) |
# | the first convolution has 2.7K parameters and 34M operations | 9,408 and 118 M; the printed pair, copied from the paper, fits a separable convolution | [section 3](#3-·-The-whole-table,-recomputed) |
# | 4c: 463K; 5a: 1072K and 54M | 497.5K; 1018K and 51 M, by the same table's widths | [section 3](#3-·-The-whole-table,-recomputed) |
# | no fully connected layers | one of 1024 × 1000, and two in each head while training | [section 3](#3-·-The-whole-table,-recomputed) |
# | over 100 layers in total | "about 100 building blocks" in the paper; 57 convolutions, 14 poolings, 9 concatenations and a few more make about 85, without ReLUs | [counted](#3-·-The-whole-table,-recomputed) |
# | auxiliary classifiers at the beginning, middle and end | two, behind 4a and 4d, weight 0.3; at the end stands the classifier itself | paper, section 5; [section 4](#4-·-Do-auxiliary-heads-help?) |
# | trained on a few high-end GPUs within a week | trained on CPUs; the GPUs are the authors' rough estimate | paper, section 6 |
# | GoogleNet (2015); won with VGGNet | GoogLeNet; won ILSVRC 2014 in classification, before VGG; published at CVPR 2015 | contest's results; paper |
# | separable convolutions for large footprints | in Inception-v3: 1×n then n×1, separable in space; not the depthwise ones | [section 6](#6-·-Smaller-filters,-softer-labels) |
# | v2 is batch-normalised Inception | so the paper on Inception-v4 (2016) calls it; before that the Rethinking paper (2015) gave the name v2 to a model of its own | arXiv:1602.07261; arXiv:1512.00567, section 6 |
#
# ## Sources
#
# - Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich: Going deeper with convolutions. CVPR 2015, arXiv:1409.4842.
# - Lin, Chen, Yan: Network in network. ICLR 2014, arXiv:1312.4400.
# - Ioffe, Szegedy: Batch normalization. ICML 2015, arXiv:1502.03167.
# - Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception architecture for computer vision. CVPR 2016, arXiv:1512.00567.
# - Szegedy, Ioffe, Vanhoucke, Alemi: Inception-v4, Inception-ResNet and the impact of residual connections on learning. AAAI 2017, arXiv:1602.07261.
# - Arora, Bhaskara, Ge, Ma: Provable bounds for learning some deep representations. ICML 2014, arXiv:1310.6343.
# - He, Zhang, Ren, Sun: Delving deep into rectifiers. ICCV 2015, arXiv:1502.01852.
# - Simonyan, Zisserman: Very deep convolutional networks. ICLR 2015, arXiv:1409.1556.
# - Krizhevsky, Sutskever, Hinton: ImageNet classification with deep convolutional neural networks. NIPS 2012.
# - Lecture notes 000 to 004, the parts on GoogLeNet and Inception.
