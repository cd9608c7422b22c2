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
# # 04 · Convolution arithmetic
# ### What does a small filter see as it slides over a picture?
#
# A *filter* is a small picture of what it looks for.
# Laid over a window of a photograph, it multiplies pixel by pixel and adds everything up: one number, meant to be large where window and filter agree.
# We slide three filters of 7×7 numbers over a photograph.
# The first is drawn by hand: the stroke of a curve that bends to the right.
# The second is the same drawing, with one number subtracted from all of its 49.
# The third nobody drew: a linear classifier (lesson 02) learned it from 10,000 small windows of noise, every second one with the curve, faintly, and each window under a light of its own.
#
# (The whole lesson costs about 30 seconds of one core, most of them in section 5.)

# %% tags=["imports", "fold"]
import time
import timeit
import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import Image, display
from matplotlib.patches import Rectangle
from numpy.lib.stride_tricks import sliding_window_view
from skimage.feature import hog
from skimage.morphology import dilation as grey_dilation
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from torch import nn

from cnncourse import augment, claims, data, exercises, figures, runtime, training, widgets
from cnncourse.errors import ParameterError
from cnncourse.exercises import lesson_04

# %% tags=["define", "fold"]
DARK_ORANGE = "#b86b00"  # for letters
PENALTIES = (0.001, 0.01, 0.1, 1, 10)  # on the squared weights of the linear judge
CURVE_FILTER = np.array([  # the drawn filter of the lecture notes
    [0, 0, 0, 0, 0, 30, 0],
    [0, 0, 0, 0, 30, 0, 0],
    [0, 0, 0, 30, 0, 0, 0],
    [0, 0, 0, 30, 0, 0, 0],
    [0, 0, 0, 30, 0, 0, 0],
    [0, 0, 0, 30, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 0],
])
MOUSE_BACK = np.array([  # a window of a drawn mouse that contains the curve
    [0, 0, 0, 0, 0, 0, 30],
    [0, 0, 0, 0, 50, 50, 50],
    [0, 0, 0, 20, 50, 0, 0],
    [0, 0, 0, 50, 50, 0, 0],
    [0, 0, 0, 50, 50, 0, 0],
    [0, 0, 0, 50, 50, 0, 0],
    [0, 0, 0, 50, 50, 0, 0],
])
MOUSE_EAR = np.array([  # a window that does not
    [0, 0, 0, 0, 0, 0, 0],
    [0, 40, 0, 0, 0, 0, 0],
    [40, 0, 40, 0, 0, 0, 0],
    [40, 20, 0, 0, 0, 0, 0],
    [0, 50, 0, 0, 0, 0, 0],
    [0, 0, 50, 0, 0, 0, 0],
    [25, 25, 0, 50, 0, 0, 0],
])


def check_window(size, kernel_size, stride, padding, dilation):
    """Raises `ParameterError` when not even one window fits, or a number makes no sense."""
    span = dilation * (kernel_size - 1) + 1  # pixels from the first tap to the last
    if min(size, kernel_size, stride, dilation) < 1 or padding < 0:
        got = f"size {size}, kernel {kernel_size}, stride {stride}, padding {padding}"
        raise ParameterError("sizes, stride and dilation from 1 and padding from 0",
                             f"{got}, dilation {dilation}", where="output_size",
                             remedy="count in whole pixels")
    if span > size + 2 * padding:
        room = f"at most {size + 2 * padding} pixels (size {size}, padding {padding} twice)"
        got = f"a span of {span} (kernel {kernel_size}, dilation {dilation})"
        raise ParameterError(f"a window of {room}", got, where="output_size",
                             remedy="use a smaller kernel or dilation, or more padding")


def pad(images, padding, value=0):
    """(N, C, height, width) with `padding` pixels of `value` added on all four sides."""
    border = (padding, padding)
    return np.pad(images, ((0, 0), (0, 0), border, border), constant_values=value)


def show(fig, alt):
    """Show a figure that is not published, as sharp as those that are."""
    display(Image(figures.pictures(fig)[0], width=768, alt=alt))
    plt.close(fig)


def draw_answer(panel, answer, title, **text):
    """Answers at all places: red for large positive ones, blue for negative ones, white for 0."""
    limit = abs(answer).max()
    shades = np.round(16 * answer / limit) * limit / 16  # 33 of them: a smaller picture
    panel.imshow(shades, cmap=figures.DIVERGING, vmin=-limit, vmax=limit, interpolation="none")
    panel.set_title(title, **text)


def times_read(size, kernel_size, stride, padding, dilation):
    """For each place along a padded side, how many windows read it: (size + 2 padding,)."""
    starts = stride * np.arange(output_size(size, kernel_size, stride, padding, dilation))
    taps = dilation * np.arange(kernel_size)
    return np.bincount((starts[:, None] + taps).ravel(), minlength=size + 2 * padding)


def draw_reading(axes, reads, padding):
    """The padded picture with the number of windows that read each pixel; unread ones stand out."""
    counts, side = np.outer(reads, reads), len(reads)
    for (row, column), count in np.ndenumerate(counts):
        inside = padding <= row < side - padding and padding <= column < side - padding
        blue = plt.get_cmap("Blues")(0.08 + 0.4 * count / counts.max())
        colour = "0.88" if not inside else blue if count else "C3"
        axes.add_patch(Rectangle((column, row), 1, 1, ec="0.6", lw=0.7, fc=colour))
        if inside and side <= 16:
            axes.text(column + 0.5, row + 0.5, count, ha="center", va="center", fontsize=11,
                      color="0.2" if count else "white")
    axes.set(xlim=(-0.1, side + 0.1), ylim=(side + 0.1, -0.1), aspect="equal")
    axes.axis("off")


def noise(rim=4):
    """A picture of noise, 16×16, its outer `rim` pixels empty."""
    return F.pad(torch.randn(1, 1, 16 - 2 * rim, 16 - 2 * rim), [rim] * 4)


def distances(make, move=(1, 2), rim=4):
    """From the moved map to the map of the moved noise, for 20 layers with random weights."""
    values = []
    for run in range(20):
        torch.manual_seed(run)
        values.append(map_distance(make(), noise(rim), move))
    return values


def inner_distances(make, picture, move=(1, 2)):
    """The same for one picture, four pixels and more from its border."""
    inner, values = (..., slice(4, -4), slice(4, -4)), []
    for run in range(20):
        torch.manual_seed(run)
        layer = make()
        maps = layer(picture).roll(move, dims=(2, 3))[inner]
        other = layer(picture.roll(move, dims=(2, 3)))[inner]
        values.append(((other - maps).norm() / maps.norm()).item())
    return values


def unrelated(make, *pictures):
    """Mean distance between the maps of two pictures (or of noise), over 20 layers."""
    values = []
    for run in range(20):
        torch.manual_seed(run)
        layer = make()
        first, second = map(layer, pictures or (noise(), noise()))
        values.append(((second - first).norm() / first.norm()).item())
    return np.mean(values)


def cosine(window, filter_):
    """How alike two pictures are, contrast aside: -1 to 1; nothing is subtracted."""
    return float((window * filter_).sum() / np.sqrt((window**2).sum() * (filter_**2).sum()))


def col2im(columns, shape, height, width, stride=1, padding=0):
    """The transpose of `im2col`: columns are added to where they came from, pictures of `shape`."""
    n, c, tall, wide = shape
    rows = output_size(tall, height, stride, padding)
    places = output_size(wide, width, stride, padding)
    columns = columns.reshape(n, c, height, width, rows, places)
    padded = np.zeros((n, c, tall + 2 * padding, wide + 2 * padding), columns.dtype)
    for row, column in np.ndindex(height, width):  # one tap of all windows at a time
        down = slice(row, row + stride * rows, stride)
        right = slice(column, column + stride * places, stride)
        padded[:, :, down, right] += columns[:, :, row, column]
    return padded[:, :, padding : padding + tall, padding : padding + wide]


class LocallyConnected(nn.Module):
    """`nn.Conv2d(channels, filters, 3, padding=1)`, unshared: (N, C, H, H) to (N, K, H, H)."""

    def __init__(self, channels, filters, side):
        super().__init__()
        bound = (9 * channels) ** -0.5  # as torch draws the weights of a convolution
        weight = torch.empty(side**2, 9 * channels, filters).uniform_(-bound, bound)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(side**2, 1, filters))

    def forward(self, maps):
        n, _, rows, columns = maps.shape
        padded = F.pad(maps, [1] * 4).permute(2, 3, 0, 1)  # (rows + 2, columns + 2, N, C)
        taps = [padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3)]
        windows = torch.stack(taps, -1).reshape(rows * columns, n, -1)  # (places, N, 9 C)
        answers = torch.baddbmm(self.bias, windows, self.weight)  # (places, N, K)
        return answers.permute(1, 2, 0).reshape(n, -1, rows, columns)


def local_network():
    """The CNN of section 5 (its `width` and `side`), its convolutions locally connected."""
    layers = list(cnn())
    layers[0] = LocallyConnected(channels, width, side)
    layers[3] = LocallyConnected(width, 2 * width, side // 2)
    return nn.Sequential(*layers)


def edge_histograms(images):
    """HOG features: edges of 8 directions in 7×7 cells, scaled in blocks of 2×2 cells."""
    cell = -(-side // 7)  # rounded up, or the last pixels would never be read
    images = F.pad(images, [0, 7 * cell - side] * 2)
    options = {"orientations": 8, "pixels_per_cell": (cell, cell), "cells_per_block": (2, 2)}
    features = [hog(image, channel_axis=0, **options) for image in images.numpy()]
    return torch.tensor(np.stack(features)).to(images)


def size_of(network):
    """How many numbers it learns."""
    return sum(p.numel() for p in network.parameters())


def examples(count, light, run, pattern):
    """Noisy windows (count, 7, 7) and labels: 1 for every second one, which has the pattern."""
    generator = np.random.default_rng(run)
    labels = np.arange(count) % 2
    lit = generator.uniform(*light, size=(count, 1, 1))  # one brightness for all 49 pixels
    noise = 0.2 * generator.normal(size=(count, 7, 7))
    return lit + noise + 0.25 * labels[:, None, None] * pattern / 30, labels  # faint: 0.25


def learned_filter(light, run, pattern=CURVE_FILTER):
    """Weights (7, 7) of a linear classifier fitted until nothing changes; light: (low, high)."""
    windows, labels = examples(10_000, light, run, pattern)
    classifier = LogisticRegression(C=1e6, max_iter=2000, tol=1e-8)  # next to no penalty
    return classifier.fit(windows.reshape(-1, 49), labels).coef_.reshape(7, 7)

# %%
def slide(picture, filter_):
    """The answer of a filter at every place of a grey picture, both of them 2-D arrays."""
    windows = sliding_window_view(picture, filter_.shape)  # (rows, columns, 7, 7)
    return (windows * filter_).sum((2, 3))


photo = F.avg_pool2d(data.photos()["camera"][:1].double(), 3)[0].numpy()  # shrunk by three
photo = photo[18:168, 30:126]  # the man and his tripod; grey, 0..255
zero_mean = CURVE_FILTER - CURVE_FILTER.mean()  # the same drawing, minus one number
learned = learned_filter(light=(0, 1), run=0)
filters = {"as drawn": CURVE_FILTER, "minus its mean": zero_mean, "learned": learned}
on_photo = {name: slide(photo, filter_) for name, filter_ in filters.items()}

# %% tags=["fold"]
figures.use_style()
fig, axes = plt.subplots(1, 4, figsize=(figures.WIDTH, 3.4))
axes[0].imshow(photo, cmap="gray", interpolation="none")
axes[0].set_title("photo and filter", fontsize=12)
inset = axes[0].inset_axes([0.03, 0.03, 0.36, 0.36])
inset.imshow(CURVE_FILTER, cmap="gray", interpolation="none")
inset.set(xticks=[], yticks=[])
inset.spines[:].set(visible=True, color="C1", lw=2)
axes[0].add_patch(Rectangle((50.5, 115.5), 7, 7, fill=False, ec="C1", lw=1.5))  # its true size
for panel, (name, answers) in zip(axes[1:], on_photo.items(), strict=True):
    draw_answer(panel, answers, name, fontsize=12)
    panel.axis("off")
axes[0].axis("off")
title = "As drawn it follows the light; the other two favour thin bright details"
fig.suptitle(title, x=0.01, ha="left")
figures.save(fig, "emp-conv-detects-features.photo",
    caption="Three filters of 7×7, and their answers on a photograph (the camera man): a drawn "
    "curve, the same minus its mean, and one learned from examples. Red: large, blue: negative; "
    "each panel has its own scale. Small square: the filter's true size. Seed 0, CPU.",
    alt="The filter as drawn returns a blurred photograph; minus its mean, and learned, it answers "
    "to thin bright details, loudest on the tripod's leg and at the tip of the collar.")
rows, columns = np.indices(on_photo["learned"].shape)
there = (rows >= 40) & (rows < 55) & (columns < 35) | (rows >= 90) & (columns < 66)  # collar; leg
on_strokes = [int(there.flat[np.argsort(answers, axis=None)[-30:]].sum())
              for answers in on_photo.values()]
claims.check("emp-conv-detects-features.places", "Of the 30 largest answers on the photograph, "
    "those around the tripod's leg or the tip of the collar: as drawn {drawn}, minus its mean "
    "{balanced}, learned {fitted}. Of all places {chance:.0%} lie there.",
    drawn=(on_strokes[0], "==", 0), balanced=(on_strokes[1], ">=", 20),
    fitted=(on_strokes[2], ">=", 20), chance=(float(there.mean()), "<", 1 / 3), varies=True)

# %% [markdown]
# What is odd: the first filter was drawn to find a curve, and returns little but a blurred photograph.
# One subtraction later it is loudest on the tripod's leg and the collar's tip; so is the learned one.
# Why one number decides, what learning has to do with it, and what follows when a network slides hundreds of such filters, is this lesson.
#
# **You will be able to**
# - say what one number of a feature map means, and when a large one means little;
# - tell the size, the parameters and the multiplications of a layer before you run it;
# - write a convolution as a matrix product, and tell what its filters may share;
# - say what pooling does to a picture that moves, and calculate how much of the picture one unit sees;
# - test whether all that structure is worth having.
#
# **You need** arrays and their shapes, the dot product, a linear classifier trained by gradient descent, and a network with a hidden layer and ReLU (lessons 01 to 03).
#
# Sentences with a ✓ were checked by the code above them. They are required at the parameters below; where you change one, they are shown but not required.

# %% tags=["parameters"]
seed: int = 0  # of everything drawn once; at least 0
seeds: list = [0, 1]  # a network each, in every comparison; 2 or more values, each at least 0
dataset: str = "digits"  # of section 5; one of digits, mnist, fashion_mnist, cifar10, or a folder
image_size: int = 32  # pixels a side to which a folder's pictures are scaled; 8 to 64
limit: int = 1347  # training pictures of section 5, at most; at least 100
margin: int = 3  # black pixels around each picture, within which it moves; 0 to 16
width: int = 10  # filters in the first layer of the network; 1 to 128
epochs: int = 12  # passes over the training pictures; 1 to 200
batch_size: int = 32  # pictures in a step; 8 to 1024
learning_rate: float = 0.003  # of Adam; above 0

# %% [markdown]
# ## 1 · One number: how alike are filter and window?
#
# Leave the photograph for a moment and look at three windows of 7×7 pixels.
# A number is how much light a pixel has: 0 is black.
# The first two come from a drawing of a mouse in bright strokes: one from its back, with the curve, one from its ear, without.
# Each of the 49 numbers of a filter is called a *weight* or a *tap*; in the drawing six of the 49 are 30, the others 0.
# On the mouse's back the six meet pixels of 0, 50, 20, 50, 50 and 50, so the answer is $30 \cdot 220 = 6600$.
# A third window holds no curve at all, only plain bright paper.

# %%
def answer(window, filter_):
    """Multiply pixel by pixel, add everything up: a dot product of two pictures."""
    return float((window * filter_).sum())


print("mouse back:", round(answer(MOUSE_BACK, CURVE_FILTER)))
print("mouse ear: ", round(answer(MOUSE_EAR, CURVE_FILTER)))
exercises.predict("04.p1", "To a third window, plain paper of 50 everywhere, the filter answers",
                  ("about 0", "between 0 and 6600", "more than 6600"))

# %%
plain_paper = np.full((7, 7), 50)
windows_seen = {"mouse back": MOUSE_BACK, "mouse ear": MOUSE_EAR, "plain paper": plain_paper}
raw = {name: answer(window, CURVE_FILTER) for name, window in windows_seen.items()}
fair = {name: answer(window, zero_mean) for name, window in windows_seen.items()}
back, paper = raw["mouse back"], raw["plain paper"]
if paper > back:
    loud = "more than 6600"
else:
    loud = "about 0" if abs(paper) < 1 else "between 0 and 6600"
exercises.reveal("04.p1", loud, f"Plain paper gives {paper:.0f}.")

# %% tags=["fold", "ledger:fig-curve-filter"]
fig, axes = plt.subplots(1, 3, figsize=(figures.WIDTH, 3.6))
for panel, (name, window) in zip(axes, windows_seen.items(), strict=True):
    panel.imshow(window, cmap="gray", vmin=0, vmax=65, interpolation="none")
    for row, column in np.argwhere(window) if name != "plain paper" else ():
        panel.text(column, row, window[row, column], ha="center", va="center", fontsize=10,
                   color="0.1" if window[row, column] > 28 else "white")
    for row, column in np.argwhere(CURVE_FILTER):
        panel.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="C1", lw=2.5))
    title = f"{name}, 50 everywhere" if name == "plain paper" else name
    panel.set(title=title, xticks=[], yticks=[])
    panel.set_xlabel(f"as drawn: {raw[name]:.0f}\nminus its mean: {round(fair[name])}", fontsize=13)
fig.suptitle("As drawn, it likes blank paper better than the mouse's back", x=0.01, ha="left")
figures.save(fig, "fig-curve-filter", caption="Three windows with the six bright taps of the "
    "filter outlined, and below each its answers as drawn and minus its mean. Zeros are left "
    "blank. No randomness.", alt="As drawn: 6600 on the mouse's back, 0 on its ear, 9000 on "
    "plain paper; minus its mean 4212, -1396, 0.")
claims.check("num-curve-filter-6600", "As drawn, the filter answers {curve:.0f} to the curve, "
    "{ear:.0f} to the ear and {paper:.0f} to paper.", curve=(back, "==", 6600),
    ear=(raw["mouse ear"], "==", 0), paper=(paper, "==", 9000))
curve, ear, blank = fair.values()
claims.check("num-curve-filter-0", "Minus its mean it answers {curve:.0f} to the curve, {ear:.0f} "
    "to the ear and {paper:.0f} to paper.", curve=(curve, "~", 4212, 0.5),
    ear=(ear, "~", -1396, 0.5), paper=(abs(blank), "~", 0, 1e-9))
light = slide(photo, np.ones((7, 7))).ravel()
near = {name: np.corrcoef(on_photo[name].ravel(), light)[0, 1] for name in filters}
claims.check("emp-conv-detects-features.photo", "On the photograph the answers as drawn have a "
    "correlation of {drawn:.2f} with the brightness of the windows, minus the mean {fair:.2f}.",
    drawn=(near["as drawn"], ">", 0.95), fair=(near["minus its mean"], "<", 0.2))

# %% [markdown]
# No tap of the drawn filter is negative, so more light never lowers its answer: on the photograph it measures little but brightness (last ✓; a correlation is 1 where two things rise and fall together, 0 where they do not).
# Minus its mean, its 49 taps add up to zero: the same light more on all pixels changes nothing, and paper leaves it cold.

# %% [markdown]
# ### Sliding
#
# A convolutional layer asks this question at every place of every picture, with every filter.
# A window is as deep as the picture has *channels* (three for colour), and so is each filter.
# All products of window and filter are added into *one* number, and one more number, the *bias*: so a filter gives one map, however many channels go in.
# (A pixel of red 1, green 2, blue 3 under a 1×1 filter of 10, 0 and 5 gives $1\cdot 10 + 2\cdot 0 + 3\cdot 5 = 25$, not three numbers.)
# The answers of one filter are its *feature map*; one number of a map is a *unit*.
# In shapes, $N$ pictures with $C$ channels of $H \times H$ pixels and $K$ filters of $F \times F$ give $K$ maps of $O \times O$ each; the code takes oblong ones too.
#
# Here is the whole layer, `conv2d_naive`. `np.ndindex` runs four nested loops in one: over pictures, filters, rows and columns of the map.
# Stride, padding and dilation are the matter of section 2; until then read them as 1, 0 and 1.
# How many windows fit along a side, `output_size` tells; why, is section 2's matter too.
# Below the layer, the mouse's back stands in a dark picture whose right half is bright paper, and the drawn filter slides over it.

# %% tags=["define"]
def output_size(size, kernel_size, stride=1, padding=0, dilation=1):
    """How many windows fit along one side: ``output_size(7, kernel_size=3, stride=2)`` is 3."""
    check_window(size, kernel_size, stride, padding, dilation)  # refuses what cannot be
    span = dilation * (kernel_size - 1) + 1  # pixels from the first tap to the last
    return (size + 2 * padding - span) // stride + 1  # // rounds down


def conv2d_naive(images, weight, bias=None, stride=1, padding=0):
    """Pictures (N, C, H, H) and filters (K, C, F, F) give maps (N, K, O, O)."""
    padded = pad(images, padding)
    sides = zip(images.shape[2:], weight.shape[2:], strict=True)
    map_shape = [output_size(size, kernel, stride, padding) for size, kernel in sides]
    output = np.zeros((len(images), len(weight), *map_shape))
    height, width = weight.shape[2:]
    for image, filter_, row, column in np.ndindex(output.shape):
        top, left = row * stride, column * stride
        window = padded[image, :, top : top + height, left : left + width]  # (C, F, F)
        output[image, filter_, row, column] = (window * weight[filter_]).sum()
    return output if bias is None else output + bias[:, None, None]

# %% tags=["fold"]
scene = np.zeros((21, 31))
scene[7:14, 4:11], scene[:, 16:] = MOUSE_BACK, 50  # the curve on the left, paper on the right
maps = conv2d_naive(scene[None, None], np.stack([CURVE_FILTER, zero_mean])[:, None])[0]
searched = {"as drawn": maps[0], "minus its mean": maps[1]}  # (15, 25) each
loudest = {name: np.argwhere(values > values.max() - 1e-6) for name, values in searched.items()}
fig, axes = plt.subplot_mosaic("abcd;rrff", figsize=(figures.WIDTH, 4.5), height_ratios=(1, 1.7))
for name, column in zip("abcd", (0, 4, 11, 18), strict=True):
    axes[name].imshow(scene, cmap="gray", vmax=65)
    axes[name].add_patch(Rectangle((column - 0.5, 7.5), 7, 7, fill=False, ec="C1", lw=2.5))
    axes[name].set_title(f"as drawn: {maps[0, 8, column]:.0f}", color=DARK_ORANGE, loc="center")
for name, (title, values) in zip("rf", searched.items(), strict=True):
    shown = axes[name].imshow(values, cmap=figures.DIVERGING, vmin=-9000, vmax=9000)
    axes[name].set_title(f"{title}: places at maximum {len(loudest[title])}", loc="center")
    if len(loudest[title]) == 1:
        axes[name].plot(*loudest[title][0][::-1], "o", ms=15, mfc="none", mec="C1", mew=2.5)
for panel in axes.values():
    panel.set(xticks=[], yticks=[])
fig.colorbar(shown, ax=[axes["r"], axes["f"]], label="answer", ticks=(-9000, 0, 9000), pad=0.02)
title = "As drawn it is as loud on paper; minus its mean, loudest on the curve"
fig.suptitle(title, x=0.01, ha="left")
show(fig, alt="Four steps of the filter as drawn; its map is red on all of the paper and on the "
     "curve; minus its mean the curve is reddest, and only the paper's edge answers besides.")
claims.check("num-curve-filter-6600.search", "As drawn, it gives its maximum at {count} places, "
    "{paper} of them on paper.", count=(len(loudest["as drawn"]), "==", 181),
    paper=(int((loudest["as drawn"][:, 1] >= 11).sum()), "==", 180))
(row, column), *others = loudest["minus its mean"]
claims.check("emp-conv-detects-features", "Minus its mean it is loudest in row {row}, column "
    "{column}, {others} other places are as loud, and the edge of the paper gets {edge:.0%} of "
    "that.", row=(int(row), "==", 8), column=(int(column), "==", 4), others=(len(others), "==", 0),
    edge=(float(values[:, 11:].max() / values.max()), "in", (0.5, 0.65)))

# %% [markdown]
# Once the filter adds up to zero, it is loudest on the curve; the paper's edge comes second.
# And it has found something else: we put the mouse's back at (7, 4), and the answer is largest at (8, 4).
# The window was cut one pixel too high.
#
# ### Do examples teach the same?
#
# Nobody draws the filters of a network: they are learned from examples with and without the pattern.
# So was the third filter of the first picture.
# Its windows (`examples`, among the folded tools at the top) are noise; every second one has the curve added, at a quarter of its brightness.
# A linear classifier learns to tell the two apart (`learned_filter`); its 49 weights are the filter.
# The light varied: each window got a number between 0 and 1, added to all of its 49 pixels.
# Now the control: every window gets 0.5, the mean of before. All else stays as it was, also the fit to its end.
# How far do the 49 weights cancel? We divide their sum by the sum of their absolute values: 1 or −1 if all have one sign, 0 if they cancel.

# %%
def balance(weights):
    """What is left when the weights are added up, as a share of their sizes: 0 if they cancel."""
    return float(weights.sum() / abs(weights).sum())


varied = [learned_filter((0, 1), run) for run in seeds]
print("light varied, left of the weights:", [f"{balance(weights):.1%}" for weights in varied])
exercises.predict("04.p2", "Learned in equal light, the weights add up to",
                  ("about zero again", "clearly more than zero", "clearly less than zero"))

# %%
equal = [learned_filter((0.5, 0.5), run) for run in seeds]
little = [learned_filter((0.45, 0.55), run) for run in seeds]
summing_to_zero = [learned_filter((0.5, 0.5), run, pattern=zero_mean) for run in seeds]
left = np.mean([balance(weights) for weights in equal])
either = "clearly more than zero" if left > 0 else "clearly less than zero"
exercises.reveal("04.p2", "about zero again" if abs(left) < 0.1 else either,
                 f"{left:.0%} of the weights' sizes is left when they are added up.")

# %% tags=["fold"]
fig, axes = plt.subplots(1, 4, figsize=(figures.WIDTH, 2.6), width_ratios=(1, 5 / 3, 1, 5 / 3),
                         subplot_kw={"xticks": [], "yticks": [], "frame_on": False})
for pair, (weights, *_), world in ((axes[:2], equal, "equal"), (axes[2:], varied, "varied")):
    draw_answer(pair[0], weights, f"{world} light", fontsize=12)
    pair[0].set_xlabel(f"add up to {balance(weights):.0%}\nof their sizes", fontsize=12)
    seen = slide(photo[90:], weights)
    follows = np.corrcoef(seen.ravel(), slide(photo[90:], np.ones((7, 7))).ravel())[0, 1]
    draw_answer(pair[1], seen, "answers", fontsize=12)
    pair[1].set_xlabel(f"correlation with\nbrightness: {follows:.2f}", fontsize=12)
fig.suptitle("Learned where light varies widely, the weights cancel (seed 0)", x=0.01, ha="left")
figures.save(fig, "emp-conv-detects-features.learned", caption="49 weights, fitted to 10,000 "
    "windows with and without a faint curve, and their answers on the photograph's lower part; "
    f"light 0.5 (left) or in 0 to 1. Below: the sum over that of the sizes. Seed {seeds[0]}, CPU.",
    alt="Both learned filters show the curve; with varied light the rest is negative.")
claims.check("emp-conv-detects-features.learned", "Of the weights' sizes {equal:.0%} is left when "
    "they are added up in equal light; {little:.0%} where it varies from 0.45 to 0.55, and "
    "{varied:.0%} from 0 to 1. (Noise of a pixel: standard "
    "deviation 0.2.)", seeds=seeds, on="every", varies=True,
    equal=([balance(weights) for weights in equal], ">", 0.5),
    little=([balance(weights) for weights in little], "in", (0.2, 0.5)),
    varied=([abs(balance(weights)) for weights in varied], "<", 0.05))
claims.check("emp-conv-detects-features.evidence", "Where the pattern itself adds up to zero, "
    "{left:.0%} is left in equal light.", seeds=seeds, on="every", varies=True,
    left=([abs(balance(weights)) for weights in summing_to_zero], "<", 0.1))
claims.check("emp-conv-detects-features.alike", "The cosine says how alike two filters are, 1: the "
    "same up to a factor. Learned where light varied, and the drawing minus its mean: {fair:.3f}; "
    "learned in equal light, and the drawing: {drawn:.3f}; the two drawings: {each:.3f}.",
    fair=([cosine(weights, zero_mean) for weights in varied], ">", 0.97),
    drawn=([cosine(weights, CURVE_FILTER) for weights in equal], ">", 0.97),
    each=cosine(CURVE_FILTER, zero_mean), seeds=seeds, on="every", varies=True)

# %% [markdown]
# In equal light a window with a curve is simply brighter, so the sum of its pixels is evidence, and the fit uses it.
# The test: let the pattern itself add up to zero. Then the sum says nothing, and the weights cancel in equal light too (second ✓).
# The more the light varies, the more the sum misleads, and the less of it is left: the fit arrives near the drawing minus its mean.
#
# **We now know** that one answer is a dot product, and that where light varies widely a fitted detector's weights cancel.
# **This does not show** how soon that happens in a training that is stopped early, nor that zero sum is enough.

# %% [markdown]
# ### Contrast and shape
#
# Similar shapes get large answers, too: on the tripod's leg the mirrored filter gets four fifths of the filter's own answer, six taps at random places about half, and turned by half a turn it gets even more than the filter itself (first ✓ below).
# (Both drawings lie along the straight, slanted leg; whether that is the reason was not tested.)
# So a large answer alone does not prove the shape.
#
# Zero sum cures brightness, but neither this nor contrast: a corner of bright paper can beat a faint curve (second ✓ below).
# The remedy for contrast: subtract the mean from the *window* too, and divide by the length of both, the root of the sum of squares.
# What remains is the cosine of the angle between window and filter. (A window of 49 equal pixels has length 0 then: its answer is 0.)

# %% tags=["fold"]
turns = (zero_mean, zero_mean[:, ::-1], zero_mean[::-1, ::-1])  # mirrored; by half a turn
at_leg = sliding_window_view(photo[90:, 38:73], (7, 7))
by_sum = [(at_leg * turn).sum((2, 3)).max() for turn in turns]
ordered = np.tile(30.0 * (np.arange(49) < 6), (200, 1))  # as many bright taps
scattered = np.random.default_rng(0).permuted(ordered, axis=1)  # at places drawn by chance
scattered -= scattered.mean(1, keepdims=True)
by_chance = np.median((at_leg.reshape(-1, 49) @ scattered.T).max(0))
claims.check("emp-conv-detects-features.mirrored", "On the tripod's leg the mirrored filter gets "
    "{mirrored:.0%} of the filter's largest answer, turned by half a turn {turned:.0%}, six taps "
    "at random places {chance:.0%} (median of 200).",
    mirrored=(by_sum[1] / by_sum[0], "in", (0.7, 0.95)), turned=(by_sum[2] / by_sum[0], ">", 1),
    chance=(by_chance / by_sum[0], "<", 0.7))
faint = 0.6 * scene[8:15, 4:11]  # the curve at 30 instead of 50
corner = scene[14:21, 13:20] * (np.arange(7) < 6)[:, None]  # paper that ends at the left and below
summed = [answer(window, zero_mean) for window in (faint, corner)]
cosines = [cosine(window - window.mean(), zero_mean) for window in (faint, corner)]
claims.check("emp-conv-detects-features.contrast", "Faint curve against corner of paper: "
    "{faint:.0f} to {corner:.0f} by the sum, {alike:.2f} to {edge:.2f} by the cosine.",
    faint=(summed[0], "~", 4033, 1), corner=(summed[1], "~", 4592, 1),
    alike=(cosines[0], "~", 0.65, 0.01), edge=(cosines[1], "~", 0.38, 0.01))
image, patterns = lesson_04.puzzle()
fig, axes = plt.subplot_mosaic("PPPP0123;PPPP4567", figsize=(figures.WIDTH, 4.2))
axes["P"].imshow(image[0, 0], cmap="gray", vmax=70)
for number in range(8):
    axes[f"{number}"].imshow(patterns[number, 0], cmap="gray", vmax=1.2)
    axes[f"{number}"].set_title(f"{number}")
for panel in axes.values():
    panel.axis("off")
fig.suptitle("The brightest places hide none of the eight patterns", x=0.01, ha="left")
show(fig, alt="A dark picture with eight thin patterns and two bright blocks; the eight filters.")

# %% [markdown]
# **Exercise 04.1** Eight filters, and a picture in which each of their patterns is hidden once: some are faint, two stand on a brighter ground. The bright paper means nothing.
# `image, patterns = lesson_04.puzzle()` gives arrays (1, 1, 64, 64) and (8, 1, 7, 7).
# Return the top left corner of the window in which each pattern stands: an array (8, 2) of row and column.
# `exercises.hint("04.1")` gives a first step, `exercises.solution("04.1")` the reference solution.

# %%
def which_fires_where(image, patterns):
    """(1, 1, 64, 64) and (8, 1, 7, 7) to (8, 2): row and column of each pattern's window."""
    ...


exercises.check("04.1", which_fires_where)

# %% [markdown]
# ## 2 · How many windows are there?
#
# Slide a window of $F$ pixels along a side of $H$.
# The *stride* $S$ is how far it moves each time.
# The *padding* $P$ is a border added at both ends.
# The *dilation* $D$ is the distance from one tap to the next, usually 1; the window then spans $D(F-1)+1$ pixels.
# The first window starts at the first pixel of the padded side, the others $S, 2S, 3S, \dots$ further on.
# The last may start $H + 2P - D(F-1) - 1$ further on; count the multiples of $S$ up to there, and the first window:
#
# $$O = \left\lfloor \frac{H + 2P - D(F-1) - 1}{S} \right\rfloor + 1$$
#
# In code a filter is also called a *kernel*, so $F$ is `kernel_size`.
# It is what `output_size` calculated in section 1; `//` in its last line rounds down.
# For 7 pixels and 3 taps at stride 3 the fraction $(7-3)/3 = 1.33$ is not whole.
# (Dumoulin and Visin 2016 draw every case.)

# %%
exercises.predict("04.p3", "torch, a 3×3 filter at stride 3 on 7×7 pixels: unread, of the 49, are",
                  ("none", "7", "13", "all: it raises an error"))

# %%
image = torch.ones(1, 1, 7, 7, requires_grad=True)  # a pixel never read has no gradient
output = F.conv2d(image, torch.ones(1, 1, 3, 3), stride=3)
output.sum().backward()
unread = int((image.grad == 0).sum())
shape = f"{output.shape[2]}×{output.shape[3]}"
exercises.reveal("04.p3", str(unread or "none"), f"A {shape} map, without a word: two windows "
                 f"cover six rows and six columns, and {unread} pixels are unread.")

# %% tags=["fold"]
def draw_step(axes, left, top, start, kernel_size, unused=()):
    """One position of the window on a 7×7 grid at (left, top); hatched where it does not fit."""
    for first in unused:
        axes.add_patch(Rectangle((left + first, top), 1, 7, fc="C3", alpha=0.6))
        axes.add_patch(Rectangle((left, top + first), 7, 1, fc="C3", alpha=0.6))
    x, y = [], []
    for line in range(8):  # one path for the whole grid
        x += [left, left + 7, None, left + line, left + line, None]
        y += [top + line, top + line, None, top, top + 7, None]
    axes.plot(x, y, color="0.7", lw=0.8)
    fits = start + kernel_size <= 7
    look = {"fc": "C1", "alpha": 0.75} if fits else {"fc": "none", "hatch": "//"}
    look = {"ec": "C1" if fits else "C3", "lw": 2, **look}
    axes.add_patch(Rectangle((left + start, top), kernel_size, kernel_size, **look))


fig, axes = plt.subplots(figsize=(figures.WIDTH, 4.3))
for stride in (1, 2, 3):
    count, top, lost = output_size(7, 3, stride), 9 * (stride - 1), (6,) if stride == 3 else ()
    for step in range(count + (stride == 3)):
        draw_step(axes, 10.5 * step, top, step * stride, 3, lost)
    axes.text(-1, top + 3.5, f"stride {stride}:\n{count} × {count}", ha="right", va="center")
axes.set(xlim=(-9, 50), ylim=(25.5, -0.5), aspect="equal")
axes.axis("off")
claims.check("err-stride3-dont-work", "At stride 3, {unread} of 49 pixels are never read.",
    unread=(unread, "==", 13))
fig.suptitle("Stride 3 stops short: the last row and column are never read", x=0.01, ha="left")
figures.save(fig, "fig-conv-stride-padding", caption="The windows of a 3×3 filter along the top "
    "rows of a 7×7 picture, step by step. Magenta: pixels that no window reads at stride 3, and "
    "the window that would not fit.", alt="Five steps at stride 1, three at stride 2; at stride 3 "
    "two fit, the third sticks out and the last row and column are never read.")

# %% tags=["fold", "explorer"]
def draw_convolution(size, kernel, stride, padding, dilation):
    """The picture of the explorer and the sentence below it."""
    side = output_size(size, kernel, stride, padding, dilation)
    reads = times_read(size, kernel, stride, padding, dilation)
    fig, (left, right) = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.3), width_ratios=(3, 2))
    draw_reading(left, reads, padding)
    span = dilation * (kernel - 1) + 1
    for start, line in ((0, "-"), (stride * (side - 1), "--")):
        left.add_patch(Rectangle((start, start), span, span, fill=False, ec="C1", lw=2.5, ls=line))
    right.hlines(range(side + 1), 0, side, color="white", lw=1)
    right.vlines(range(side + 1), 0, side, color="white", lw=1)
    right.add_patch(Rectangle((0, 0), side, side, fc="C2"))
    right.set(xlim=(-0.1, max(side, 5) + 0.1), ylim=(max(side, 5) + 0.1, -0.1), aspect="equal")
    right.axis("off")
    unread = size**2 - np.count_nonzero(reads[padding : padding + size]) ** 2
    padded = f", padded to {len(reads)} × {len(reads)}" if padding else ""
    left.set_title(f"picture {size} × {size}{padded}")
    right.set_title(f"map {side} × {side}")
    return fig, f"map {side} x {side}; {unread} of {size**2} pixels are never read"


widgets.explore(draw_convolution, size=widgets.Slider(7, 1, 14),
                kernel=widgets.Slider(3, 1, 7, kept=(1, 3, 5)),
                stride=widgets.Slider(2, 1, 5, kept=(1, 2, 3)),
                padding=widgets.Slider(1, 0, 3, kept=(0, 1)),
                dilation=widgets.Slider(2, 1, 3, kept=(1, 2)))

# %% [markdown]
# In JupyterLab there are sliders above this picture; on a printed page it stands still.
# Each pixel says how many windows read it; the padding is grey. Orange: the first window, and dashed the last; green: the map.
# As it stands, with dilation 2 *and* stride 2, the taps lie on every second pixel and move by two, so no window ever touches the pixels in between.
# The size of the map gives no hint of it.
#
# **Exercise 04.2** How many pixels of a `size`×`size` picture does no window read?
# Settings in which no window fits are not asked for.
# For a 7×7 picture, kernel 3 and stride 3 the answer is 13; with stride 2, padding 1 and dilation 2 it is 40.

# %%
def unread_pixels(size, kernel_size, stride=1, padding=0, dilation=1):
    """A whole number: pixels of a size × size picture that no window touches."""
    ...


exercises.check("04.2", unread_pixels)

# %% [markdown]
# ### The border
#
# Without padding a map has $F-1$ rows and $F-1$ columns fewer than its picture: 32×32 pixels survive seven layers of 5×5.
# *Same* padding, $P = (F-1)/2$ at stride 1, gives back what the filter takes. At dilation 1, with the same $P$ on both sides, it needs an odd filter.
# The border is filled with zeros unless one asks for something else: *replicate* repeats the last pixel, *reflect* mirrors the picture at its last pixel, *circular* goes on with the other side.
# Does it matter? Take a ramp, brighter by 1 with every column, and a filter that measures its slope, half the difference of the right and the left neighbour.
# Every honest answer is 1. In the last column the pixel is 7, its left neighbour 6, and the right one is what the padding invents: zeros give $(0-6)/2 = -3$, replicate $(7-6)/2 = 0.5$, reflect $(6-6)/2 = 0$, circular $(0-6)/2 = -3$.

# %% tags=["fold"]
MODES = {"zeros": "constant", "replicate": "edge", "reflect": "reflect", "circular": "wrap"}
ramp = np.tile(np.arange(8.0), (8, 1))
slope = np.array([[-0.5, 0, 0.5]])  # half the difference of the two neighbours
framed = {name: np.pad(ramp, ((0, 0), (1, 1)), mode=mode) for name, mode in MODES.items()}
steep = {name: slide(values, slope)[0] for name, values in framed.items()}
fig, axes = plt.subplots(1, 4, figsize=(figures.WIDTH, 2.8), sharey=True)
for panel, (name, values) in zip(axes, steep.items(), strict=True):
    wrong = ~np.isclose(values, 1)
    panel.axhline(1, color="0.7", lw=1)
    panel.bar(range(8), values, color=np.where(wrong, "C3", "C0"))
    panel.plot(np.flatnonzero(wrong), values[wrong], "o", color="C3")
    panel.set(title=name, xlabel="column", xticks=(0, 7))
axes[0].set_ylabel("measured slope")
axes[2].text(3.5, -0.8, "grey line:\ntrue slope", color="0.35", ha="center", va="center")
fig.suptitle("Each of torch's four paddings invents something at the border", x=0.01, ha="left")
figures.save(fig, "emp-padding-border-artefact", caption="The slope of a ramp that rises by 1 a "
    "pixel, measured under four kinds of padding. Blue: right. Magenta, with a dot: invented by "
    "the border. No randomness.", alt="Inside all four measure 1. Zeros and circular padding "
    "invent a cliff, replicate halves the slope, reflect sets it to 0.")
right = {"zeros": 4, "replicate": 0.5, "reflect": 1, "circular": 4}  # by hand
claims.table("emp-padding-border-artefact", "How far the measured slope is off at the border.",
             {name: (float(abs(steep[name] - 1).max()), right[name]) for name in MODES},
             columns=("padding", "measured", "by hand"), tolerance=1e-9)

# %% tags=["fold", "ledger:num-conv-7x7-stride1", "ledger:num-conv-7x7-stride2", "ledger:num-conv-7x7-stride3", "ledger:prac-zero-pad-same"]
def torch_output_size(size, kernel_size, *options):
    """What a real layer returns."""
    return nn.Conv2d(1, 1, kernel_size, *options)(torch.zeros(1, 1, size, size)).shape[-1]


cases = [(size, kernel, stride, padding, dilation)
         for size in (5, 8, 13) for kernel in (1, 2, 3, 5) for stride in (1, 2, 3)
         for padding in (0, 1, 2) for dilation in (1, 2)
         if dilation * (kernel - 1) < size + 2 * padding]
agree = sum(output_size(*case) == torch_output_size(*case) for case in cases)
one, two, three = (torch_output_size(7, 3, stride) for stride in (1, 2, 3))
claims.check("eq-conv-output-size", "Stride 1 gives {one} windows a side, stride 2 gives {two}, "
    "stride 3 gives {three}; in {agree} of {cases} settings of size, kernel, stride, padding and "
    "dilation the formula and torch agree.", one=(one, "==", 5), two=(two, "==", 3),
    three=(three, "==", 2), agree=(agree, "==", len(cases)), cases=len(cases))
sides = [torch_output_size(32, 4 * layer + 1) for layer in range(1, 8)]  # n layers of 5×5
fifteen = nn.Sequential(*[nn.Conv2d(1, 1, 3) for _ in range(15)])
shrinking = fifteen(torch.zeros(1, 1, 32, 32)).shape[-1]
claims.check("emp-shrinking-without-padding", "Of 32 pixels a side, one unpadded 5×5 layer "
    "leaves {first} and seven leave {last}; 15 layers of 3×3 leave {left}.",
    first=(sides[0], "==", 28), last=(sides[-1], "==", 4), left=(shrinking, "==", 2))
(kept,) = {torch_output_size(32, size, 1, (size - 1) // 2) for size in (1, 3, 5, 7)}  # one number
less, more = (torch_output_size(32, 4, 1, padding) for padding in (1, 2))
claims.check("num-same-padding-rule", "With padding (F-1)/2, kernels 1, 3, 5 and 7 keep "
    "{low} pixels at {low}; kernel 4 makes {less} or {more} of them.", low=(kept, "==", 32),
    less=(less, "==", 31), more=(more, "==", 33))

# %% [markdown]
# **We now know** that torch rounds down and drops pixels in silence, and that none of torch's four paddings is free of invention.
# **This does not show** that zeros are bad: a network can use the invented frame to learn how far it is from the border (Islam et al. 2020).
#
# ## 3 · One filter for all places
#
# Move the picture, and away from the border the map moves along, unchanged.
# This is called *equivariance*: the layer need not learn a curve anew for every place where it may stand.
#
# To measure it, compare the map of the moved picture with the moved map, in *lengths* of the map (root of the sum of squares).
# The layers have random weights and no bias; the pictures are noise, with an empty rim that keeps them away from the border.
# The yardstick: how far the maps of two unrelated pictures of noise are apart.
# A fully connected (*dense*) layer should be no better than that; what of a convolution at stride 2?

# %% tags=["define"]
def map_distance(layer, picture, move):
    """From the moved map to the map of the moved picture, in lengths of the map."""
    moved_map = layer(picture).roll(move, dims=(2, 3))
    map_of_moved = layer(picture.roll(move, dims=(2, 3)))
    return ((map_of_moved - moved_map).norm() / moved_map.norm()).item()

# %%
makers = {
    "convolution": lambda: nn.Conv2d(1, 1, 3, padding=1, bias=False),
    "at stride 2": lambda: nn.Sequential(  # and back to 16×16, by repeating each number
        nn.Conv2d(1, 1, 3, stride=2, padding=1, bias=False), nn.Upsample(scale_factor=2)),
    "dense": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(256, 256, bias=False), nn.Unflatten(1, (1, 16, 16))),
}
exercises.predict("04.p4", "At stride 2, noise moved by one pixel down, two right: the maps are",
                  ("the same", "at about half the yardstick", "as far apart as unrelated ones"))

# %% tags=["fold"]
random = np.random.default_rng(seed)
runtime.start(seed=seed)
apart_by = {"convolution": distances(makers["convolution"]),
            "convolution, no rim": distances(makers["convolution"], rim=0),
            "stride 2": distances(makers["at stride 2"]),
            "stride 2, even move": distances(makers["at stride 2"], (2, 2)),
            "dense": distances(makers["dense"])}
yardstick = np.mean([unrelated(make) for make in makers.values()])
unlike = np.mean(apart_by["stride 2"]) / unrelated(makers["at stride 2"])
close = "the same" if unlike < 0.25 else "at about half the yardstick"
exercises.reveal("04.p4", "as far apart as unrelated ones" if unlike > 0.75 else close, "They are "
                 f"{np.mean(apart_by['stride 2']):.2f} lengths apart, the mean of 20 layers.")
fig, axes = plt.subplots(figsize=(figures.WIDTH, 3.3))
for height, values in enumerate(apart_by.values()):
    inside = "white" if height in (2, 3) else None  # open dots: stride 2
    axes.plot(values, [-height] * 20, "o", color="C1" if height == 4 else "C0", mfc=inside,
              alpha=0.5)
axes.axvline(yardstick, color="0.4", ls=":", lw=1.5)
axes.text(yardstick + 0.02, 0, "unrelated (mean)", color="0.4", va="center")
axes.set(yticks=range(0, -5, -1), yticklabels=apart_by, ylim=(-4.5, 0.5), xlim=(-0.05, 2.05),
         xlabel="distance, in lengths of the map (20 layers, a dot each);\n"
         "moved one down and two right, in the fourth row two and two",
         title="Noise at stride 2: the map follows even moves only")
show(fig, alt="0 for the convolution and for even moves at stride 2; about 0.4 where the picture "
     "has no empty rim; around the yardstick for odd moves at stride 2 and for the dense layer.")

# %% tags=["fold"]
claims.check("eq-conv-as-matrix.equivariance", "Noise moved by one pixel down and two to the "
    "right: the maps are {conv:.2f} lengths apart for the convolution, {strided:.2f} at stride 2, "
    "{dense:.2f} for the dense layer. Maps of unrelated pictures: {unrelated:.2f}.",
    conv=(apart_by["convolution"], "<", 1e-5), strided=(apart_by["stride 2"], ">", 0.8),
    dense=(apart_by["dense"], ">", 1), unrelated=yardstick, seeds=20, on="every", varies=True)
around = distances(lambda: nn.Conv2d(1, 1, 3, padding=1, bias=False, padding_mode="circular"),
                   rim=0)
claims.check("eq-conv-as-matrix.border", "At stride 2 after a move by two and two: {even:.2f}. For "
    "the convolution where the picture has no empty rim: {border:.2f}; if it reads on at the "
    "opposite side (circular padding): {around:.2f}.",
    even=(apart_by["stride 2, even move"], "<", 1e-5), around=(around, "<", 1e-5),
    border=(apart_by["convolution, no rim"], "in", (0.2, 0.6)), seeds=20, on="every", varies=True)
pixels = torch.tensor(photo[:144, :96], dtype=torch.float32)[None, None]
pixels -= pixels.mean()  # the common brightness of all pixels does not move
stirred = pixels.flatten()[torch.randperm(144 * 96)].view_as(pixels)
claims.check("eq-conv-as-matrix.photo", "On the photograph minus its mean, away from its border, "
    "stride 2 leaves {photo:.2f} lengths; with its pixels shuffled {stirred:.2f}. Its upper and "
    "lower half are {halves:.2f} apart.",
    photo=(inner_distances(makers["at stride 2"], pixels), "<", 0.8),
    stirred=(inner_distances(makers["at stride 2"], stirred), ">", 1.2),
    halves=unrelated(makers["at stride 2"], pixels[..., :72, :], pixels[..., 72:, :]),
    seeds=20, varies=True)

# %% [markdown]
# At stride 2 a move by one pixel falls between the places of the map.
# Noise is a hard case: on the photograph the same move costs less, because there neighbours are alike. Shuffle its pixels, and it costs as much as noise (last ✓).
# And at the border a convolution is not equivariant: there zeros stand in for pixels. Our moves wrap around: what leaves at one side comes in at the other. Padding that reads on at the opposite side has no border for such moves, and is exact (second ✓); for a real move, which brings new pixels in, no padding is.
#
# And what does sharing save?
# A convolution is linear, so it *is* a dense layer, with a particular matrix: flattened picture in, flattened map out.
# To find the matrix, push each pixel through alone; what comes out is its column.

# %% tags=["define"]
def as_matrix(weight, size, stride=1, padding=0):
    """The matrix (K · O², C · size²) that is this convolution, for square pictures."""
    pixels = np.eye(weight.shape[1] * size**2)  # each pixel alone
    pictures = pixels.reshape(-1, weight.shape[1], size, size)
    maps = conv2d_naive(pictures, weight, None, stride, padding)
    return maps.reshape(len(pixels), -1).T

# %% tags=["fold"]
nine = np.arange(1.0, 10).reshape(1, 1, 3, 3)  # nine different weights, to be recognised
matrix = as_matrix(nine, size=6)
small = random.normal(size=(1, 1, 6, 6))
apart = float(abs(matrix @ small.ravel() - conv2d_naive(small, nine).ravel()).max())
fig, axes = plt.subplots(figsize=(figures.WIDTH, 4))
axes.imshow(np.where(matrix == 0, np.nan, matrix), cmap=figures.SEQUENTIAL, interpolation="none")
axes.set(xlabel="pixel of the 6×6 picture", ylabel="place in the 4×4 map", xticks=range(0, 36, 6),
         yticks=range(0, 16, 4), title="Mostly zeros, and only nine different weights")
axes.hlines(np.arange(0, 16, 4) - 0.5, -0.5, 35.5, color="0.8", lw=0.8)
axes.vlines(np.arange(0, 36, 6) - 0.5, -0.5, 15.5, color="0.8", lw=0.8)
key = axes.inset_axes([0.01, 0.05, 0.16, 0.3])
key.imshow(nine[0, 0], cmap=figures.SEQUENTIAL, interpolation="none")
key.set(xticks=[], yticks=[])
key.set_title("the filter", fontsize=12)
figures.save(fig, "eq-conv-as-matrix", caption="A 3×3 convolution of a 6×6 picture as a matrix; "
    "each row is one place of the map. White: zero; each colour is one of the nine weights.",
    alt="A band matrix made of smaller band matrices: most entries are zero, and the others "
    "repeat nine numbers along diagonals.")
claims.check("eq-conv-as-matrix", "Matrix times picture and the convolution differ by {apart:.0e}. "
    "Of {entries} entries {used} are not zero, and they hold {different} different numbers.",
    apart=(apart, "<", 1e-12), varies=True, entries=matrix.size,
    used=(int((matrix != 0).sum()), "==", 144),
    different=(len(np.unique(matrix)) - 1, "==", 9))
wide = nn.Linear(3 * 4 * 4, 10, dtype=torch.float64)  # and a dense layer is a convolution
blocks = torch.randn(2, 3, 4, 4, dtype=torch.float64)
as_filters = F.conv2d(blocks, wide.weight.view(10, 3, 4, 4), wide.bias)
unlike = wide(blocks.flatten(1)) - as_filters.flatten(1)
claims.check("eq-conv-as-matrix.dense-is-conv", "A dense layer and a convolution whose filters are "
    "as large as the picture differ by {gap:.0e}.",
    gap=(float(unlike.detach().abs().max()), "<", 1e-12), varies=True)

# %% [markdown]
# White is what "looks at a window only" saves; the repeated diagonals are what "one filter for all windows" saves.
# And the other way round: a filter as large as the picture has one place only, and *is* a dense layer (second ✓).
#
# ### Counting
#
# A filter runs through *all* channels of its input, so it has $F^2 C$ weights and one bias; a layer has $K(F^2 C + 1)$ parameters.
# Each weight multiplies once at each of the $O^2$ places: $O^2 K F^2 C$ multiplications.
# Parameters say what is stored, multiplications what is done.

# %% tags=["fold", "ledger:num-conv-28x28x6", "ledger:num-pad-36x36x3", "ledger:num-conv-10-filters-output", "ledger:err-conv-formula-no-pad", "ledger:num-conv-params-per-filter-76", "ledger:err-conv-76x10"]
def by_rule(size, channels, filters, kernel_size, padding=0):
    """The map and the number of parameters, before anything is run."""
    side = output_size(size, kernel_size, padding=padding)
    return f"{filters}×{side}×{side}, {filters * (kernel_size**2 * channels + 1)}"


def by_torch(size, channels, filters, kernel_size, padding=0):
    """The same, of a real layer."""
    layer = nn.Conv2d(channels, filters, kernel_size, padding=padding)
    maps = F.relu(layer(torch.zeros(1, channels, size, size)))  # ReLU keeps the shape
    return f"{'×'.join(map(str, maps.shape[1:]))}, {sum(p.numel() for p in layer.parameters())}"


layers = {
    "6 of 5×5 on 32×32×3": (32, 3, 6, 5),
    "1 of 5×5 on 32×32×3": (32, 3, 1, 5),
    "10 of 5×5 on 28×28×6": (28, 6, 10, 5),
    "10 of 5×5 on 32×32×3, padding 2": (32, 3, 10, 5, 2),
    "3 of 5×5 on 32×32×3, padding 2": (32, 3, 3, 5, 2),
}
claims.table("num-conv-24x24x10", "Map (channels first) and parameters, by torch and by the rule.",
             {name: (by_torch(*layer), by_rule(*layer)) for name, layer in layers.items()},
             columns=("filters", "torch", "rule"))
ten = nn.Conv2d(3, 10, 5, padding=2)
claims.check("num-conv-params-760", "Ten filters of 5×5×3 have {count} parameters, {one} each, and "
    "cost {work:,} multiplications a picture.",
    count=(sum(p.numel() for p in ten.parameters()), "==", 760),
    one=(ten.weight[0].numel() + ten.bias[0].numel(), "==", 76),
    work=(ten(torch.ones(1, 3, 32, 32))[0, 0].numel() * ten.weight.numel(), "==", 768_000))
six, fully = nn.Conv2d(3, 6, 5), nn.Linear(3072, 4704, device="meta")  # to the same map
few, many = (sum(p.numel() for p in layer.parameters()) for layer in (six, fully))
claims.check("num-conv-28x28x6.dense", "The first of the five has {few} parameters; a dense "
    "layer to the same map would have {many:,}, {ratio:,} times as many.", few=(few, "==", 456),
    many=(many, "==", 14_455_392), ratio=round(many / few))

# %% [markdown]
# **Exercise 04.3** Before you build a layer, say what it will be: return the side of its map, its parameters, and its multiplications for one picture.
# Pictures and filters are square; multiplications with the zeros of the padding count, biases do not multiply.
# Ten filters of 5×5 with padding 2 on 32×32×3 must give `(32, 760, 768000)`.

# %%
def layer_size(size, channels, filters, kernel_size, stride=1, padding=0):
    """Three whole numbers: side of the map, parameters, multiplications."""
    ...


exercises.check("04.3", layer_size)

# %% [markdown]
# ### Without loops, and backwards
#
# A loop over all places is slow in Python.
# Write the windows of a picture side by side, as the columns of a matrix: then one matrix product does all the dot products.
# This is *im2col* (image to columns): the picture of 3×3 pixels 1 2 3 / 4 5 6 / 7 8 9 has four windows of 2×2, and they become the four columns of
#
# $$\begin{pmatrix} 1 & 2 & 4 & 5 \\ 2 & 3 & 5 & 6 \\ 4 & 5 & 7 & 8 \\ 5 & 6 & 8 & 9 \end{pmatrix}$$
#
# A row holds what one tap of the filter meets, from place to place.
# It copies each pixel up to $F^2$ times and is far faster all the same: most of the gain is leaving the loops of Python, the rest a matrix product that a library has tuned to the processor (both timed [at the end](#Also-in-the-lectures)).

# %% tags=["define"]
def im2col(images, height, width, stride=1, padding=0):
    """Each window as a column: pictures (N, C, H, H) give (N, C · height · width, O · O)."""
    view = sliding_window_view(pad(images, padding), (height, width), axis=(2, 3))
    view = view[:, :, ::stride, ::stride]  # (N, C, O, O, height, width), nothing copied yet
    n, c, rows, columns = view.shape[:4]
    return view.transpose(0, 1, 4, 5, 2, 3).reshape(n, c * height * width, rows * columns)


def conv2d_im2col(images, weight, bias=None, stride=1, padding=0):
    """The numbers of `conv2d_naive` by one matrix product a picture."""
    height, width = weight.shape[2:]
    sides = zip(images.shape[2:], (height, width), strict=True)
    map_shape = [output_size(size, kernel, stride, padding) for size, kernel in sides]
    columns = im2col(images, height, width, stride, padding)
    output = weight.reshape(len(weight), -1) @ columns  # (K, C F²) @ (N, C F², O²)
    output = output.reshape(len(images), len(weight), *map_shape)
    return output if bias is None else output + bias[:, None, None]

# %% [markdown]
# Now the gradients follow by hand. A small case first: a picture $(a, b, c)$, a filter $(u, v)$, so the map is $(ua + vb,\; ub + vc)$.
# Let $g_1$ and $g_2$ be the gradients of the loss with respect to the two numbers of the map (lesson 03).
# Turning up $u$ a little changes *both* numbers, by $a$ and by $b$: its gradient is $g_1 a + g_2 b$. A shared weight collects from all places where it is used.
# Turning up $b$ changes the first number by $v$ and the second by $u$: its gradient is $g_1 v + g_2 u$. A pixel collects from all windows that read it.
#
# In matrices: $X$ are the columns of im2col, $W$ the filters as rows, $Y = WX$ the map, and $G$ the gradient of the loss with respect to $Y$, all for one picture.
# The filters' gradient is $G X^\top$, the sum over places, added up over the pictures; the bias, used at every place, gets the sum of $G$ over places.
# The columns' gradient is $W^\top G$, and a pixel that was copied nine times (3×3, stride 1) gets the sum of nine (`col2im`, among the folded tools at the top: the transpose of im2col).

# %% tags=["define"]
def conv2d_backward(grad_output, images, weight, stride=1, padding=0):
    """Gradients of images, weight and bias from that of the maps, (N, K, O, O)."""
    k, _, height, width = weight.shape
    grad = grad_output.reshape(*grad_output.shape[:2], -1)  # G: (N, K, O²)
    columns = im2col(images, height, width, stride, padding)  # X: (N, C F², O²)
    grad_weight = (grad @ columns.transpose(0, 2, 1)).sum(0).reshape(weight.shape)  # G Xᵀ
    grad_columns = weight.reshape(k, -1).T @ grad  # Wᵀ G
    grad_images = col2im(grad_columns, images.shape, height, width, stride, padding)
    return grad_images, grad_weight, grad_output.sum((0, 2, 3))

# %% tags=["fold"]
images, weight, bias = (random.normal(size=size) for size in [(2, 3, 8, 8), (4, 3, 3, 3), 4])
looped = conv2d_naive(images, weight, bias, stride=2, padding=1)
torchs = F.conv2d(*map(torch.tensor, (images, weight, bias)), stride=2, padding=1).numpy()
claims.check("eq-conv2d-naive-im2col", "The loop over all places and torch differ by less than "
    "{difference:.0e} anywhere.", difference=(float(abs(looped - torchs).max()), "<", 1e-12),
    varies=True)
grad_output = random.normal(size=looped.shape)
by_hand = conv2d_backward(grad_output, images, weight, stride=2, padding=1)
tensors = [torch.tensor(array, requires_grad=True) for array in (images, weight, bias)]
F.conv2d(*tensors, stride=2, padding=1).backward(torch.tensor(grad_output))
autograd = [tensor.grad.numpy() for tensor in tensors]
worst = max(float(abs(ours - real).max()) for ours, real in zip(by_hand, autograd, strict=True))
forward = float(abs(conv2d_im2col(images, weight, bias, 2, 1) - looped).max())
claims.check("eq-conv2d-naive-im2col.backward", "im2col and the loop differ by {forward:.0e}, the "
    "three gradients and autograd by {gap:.0e}.", forward=(forward, "<", 1e-12),
    gap=(worst, "<", 1e-12), varies=True)
towards = random.normal(size=(1, 1, 4, 4))
transposed = matrix.T @ towards.ravel() - conv2d_backward(towards, small, nine)[0].ravel()
claims.check("eq-conv-as-matrix.transpose", "Backwards, the picture's gradient is the transposed "
    "matrix's, to {gap:.0e}.", gap=(float(abs(transposed).max()), "<", 1e-12), varies=True)

# %% [markdown]
# **We now know** what one filter for all places buys: equivariance (away from the border, at stride 1), 456 parameters instead of 14 million, and a gradient that sums over all places.
# **This does not show** that less is better; section 5 asks that.
#
# **Exercise 04.4** Write `conv2d` in NumPy, im2col or not, for filters with a *dilation*: the taps stand `dilation` pixels apart.
# Images (N, C, height, width) and weight (K, C, rows, columns) need not be square, bias is (K,) or None; the result is (N, K, height, width) of the maps.

# %%
def my_conv2d(images, weight, bias=None, stride=1, padding=0, dilation=1):
    """(N, C, height, width) and (K, C, rows, columns) to the maps (N, K, height, width)."""
    ...


exercises.check("04.4", my_conv2d)

# %% [markdown]
# ## 4 · Seeing further: pooling and the receptive field
#
# *Pooling* also slides a window, and asks each channel by itself for the largest or the mean value.
# Usually the windows lie side by side: 2×2 at stride 2.

# %% tags=["define"]
def max_pool2d(images, kernel_size, stride=None):
    """The largest value of each window: (N, C, H, H) gives (N, C, O, O); stride: one window."""
    stride = stride or kernel_size
    view = sliding_window_view(images, (kernel_size, kernel_size), axis=(2, 3))
    return view[:, :, ::stride, ::stride].max((4, 5))


def avg_pool2d(images, kernel_size, stride=None):
    """The mean of each window: (N, C, H, H) gives (N, C, O, O)."""
    stride = stride or kernel_size
    view = sliding_window_view(images, (kernel_size, kernel_size), axis=(2, 3))
    return view[:, :, ::stride, ::stride].mean((4, 5))

# %% tags=["fold"]
grid = np.array([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]], float)[None, None]
fig, axes = plt.subplots(1, 3, figsize=(figures.WIDTH, 3.2), width_ratios=(2, 1, 1))
largest = max_pool2d(grid, 2)[0, 0]
average = avg_pool2d(grid, 2)[0, 0]
panels = {"4×4 pixels": grid[0, 0], "maximum of 2×2": largest, "average of 2×2": average}
for panel, (title, values) in zip(axes, panels.items(), strict=True):
    for (row, column), value in np.ndenumerate(values):
        block = (row, column) if len(values) == 2 else (row // 2, column // 2)
        colour = f"C{block[0] * 2 + block[1]}"
        panel.add_patch(Rectangle((column, row), 1, 1, fc=colour, alpha=0.35, ec="white", lw=3))
        bold = len(values) == 4 and value == largest[block]
        panel.text(column + 0.5, row + 0.5, f"{value:g}", ha="center", va="center", fontsize=17,
                   weight="bold" if bold else "normal")
    panel.set(title=title, xlim=(0, len(values)), ylim=(len(values), 0), aspect="equal")
    panel.axis("off")
fig.suptitle("The maximum keeps one pixel of each window, the average blends all four",
             x=0.01, ha="left", fontsize=14)
figures.save(fig, "fig-maxpool-png", caption="Pooling with windows of 2×2 at stride 2: each colour "
    "is a window, bold is its largest value, which alone gets the gradient. No randomness.",
    alt="From sixteen numbers max pooling keeps 6, 8, 3, 4; average pooling keeps 3.25, 5.25, 2, "
    "2.")

# %% [markdown]
# The maximum hangs on one pixel, so that one gets the whole gradient; the average shares it out evenly.
#
# ### Does pooling make a network blind to small moves?
#
# A maximum does not say where in its window it stood: where only the largest pixel moves, and stays in its window, nothing changes.
# Where a larger one enters, or the largest leaves, the maximum changes.
# Which prevails? Digits of 8×8 stand in the middle of dark boards, seen through eight fixed edge filters.
# The nearest neighbour of lesson 01 keeps the maps of all training digits. Every test digit is moved by one pixel, and takes the class of the maps closest to its own.
#
# Our windows are of 4×4. `every_window` takes the maximum of each one, wherever it begins; side by side means every fourth of these, and that grid may begin at 16 places.
# Three helpers are folded. `looked_at` makes the maps of the training digits and of the test digits, these unmoved and moved up, down, left and right; `pooled` pools all of them.
# `share_right` says how often each test digit is named rightly, the mean over the places of the grid and the moves.

# %% tags=["fold", "define"]
STEPS = [(1, 0), (-1, 0), (0, 1), (0, -1)]  # down, up, right, left


def edge_filters(count=8):
    """Filters (count, 1, 5, 5) that answer to an edge in each direction; each adds up to zero."""
    y, x = np.mgrid[-2:3, -2:3]
    angles = 2 * np.pi * np.arange(count) / count
    slope = np.cos(angles)[:, None, None] * x + np.sin(angles)[:, None, None] * y
    return (slope * np.exp(-(x**2 + y**2) / 4))[:, None]


def boards_of(pictures, down, right):
    """Digits on boards of 20×20, moved: (N, 1, 20, 20)."""
    boards = torch.zeros(len(pictures), 1, 20, 20)
    boards[:, :, 6 + down : 14 + down, 6 + right : 14 + right] = pictures.images / 255
    return boards


def edge_maps(pictures, down=0, right=0):
    """Moved digits seen through edge filters and ReLU: (N, 8, 20, 20)."""
    filters = torch.tensor(edge_filters()).float()
    return F.relu(F.conv2d(boards_of(pictures, down, right), filters, padding=2))


def dense_maps(pictures, down=0, right=0):
    """The same boards through a random dense layer and ReLU: (N, 8, 20, 20)."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(8 * 400, 400, generator=generator) / 20
    answers = F.linear(boards_of(pictures, down, right).flatten(1), weight)
    return F.relu(answers).view(-1, 8, 20, 20)


def influence(depth, seed, networks=20):
    """Share of the gradient in each column of the field, over random linear networks."""
    generator, side = torch.Generator().manual_seed(seed), 2 * depth + 1
    share = np.zeros(side)
    for _ in range(networks):
        maps = image = torch.zeros(1, 8, side, side, requires_grad=True)
        for _ in range(depth):
            maps = F.conv2d(maps, torch.randn(8, 8, 3, 3, generator=generator) / 72**0.5)
        maps.sum().backward()
        share += image.grad.abs().sum((0, 1, 2)).numpy()
    return share / share.sum()


def max_pool2d_backward(grad_output, images, kernel_size, stride=None):
    """The gradient of the images: all goes to the first largest pixel of a window, as in torch."""
    stride = stride or kernel_size
    view = sliding_window_view(images, (kernel_size, kernel_size), axis=(2, 3))
    view = view[:, :, ::stride, ::stride]
    winner = view.reshape(*view.shape[:4], -1).argmax(-1)  # argmax takes the first
    taps = (winner[..., None] == np.arange(kernel_size**2)) * grad_output[..., None]
    return col2im(taps.transpose(0, 1, 4, 2, 3), images.shape, kernel_size, kernel_size, stride)


def avg_pool2d_backward(grad_output, images, kernel_size, stride=None):
    """The gradient of the images: each pixel of a window gets the same share."""
    taps = np.repeat(grad_output[:, :, None], kernel_size**2, axis=2) / kernel_size**2
    return col2im(taps, images.shape, kernel_size, kernel_size, stride or kernel_size)


def lenet_subsampling(images, gain, bias):
    """LeNet-5's S layers, halving the side: a gain and a bias a map (LeCun et al. 1998, II.B)."""
    total = 4 * avg_pool2d(images, 2)
    return 1.7159 * np.tanh(2 / 3 * (gain[:, None, None] * total + bias[:, None, None]))


def by_paths(depth):
    """What each column of the field counts, if it is the square root of its paths to the unit."""
    paths = np.ones(1)
    for _ in range(depth):
        paths = np.convolve(paths, np.ones(3))  # each layer: from the left, straight on, the right
    return np.sqrt(paths) / np.sqrt(paths).sum()


def linear(stored, labels):
    """A judge: ridge regression on the stored maps, its penalty chosen with one left out."""
    classifier = RidgeClassifierCV(alphas=PENALTIES).fit(stored.numpy(), labels.numpy())
    return lambda shown: torch.tensor(classifier.predict(shown.numpy()))


def pictures_to_read():
    """Training and test pictures of the data set of section 5, at most `limit` of each."""
    named = dataset in ("digits", "mnist", "fashion_mnist", "cifar10")  # else a folder: scaled
    parts = [data.load(dataset, part, size=None if named else image_size) for part in (True, False)]
    return [part.subset(limit, seed=seed) for part in parts]


def looked_at(look, known, asked):
    """Maps and labels: of the known digits; of those asked, unmoved and moved in 4 directions."""
    shown = [look(asked, *step) for step in [(0, 0), *STEPS]]
    return (look(known), known.labels), (shown, asked.labels)


def pooled(views, pool):
    """What `looked_at` gives, with `pool` applied to all maps."""
    (stored, labels), (shown, truth) = views
    return (pool(stored), labels), ([pool(maps) for maps in shown], truth)


def whole_maximum(maps):
    """One number a map, its largest: (N, 8, 1, 1)."""
    return maps.amax((2, 3), keepdim=True)


def whole_mean(maps):
    """One number a map, its mean: (N, 8, 1, 1)."""
    return maps.mean((2, 3), keepdim=True)


def share_right(views, stride, judge):
    """How often each digit is named rightly, unmoved and moved by one pixel: (2, digits).

    Of the maps every `stride`-th row and column is kept: the mean over all places to begin.
    """
    (stored, labels), (shown, truth) = views
    unmoved, moved = [], []
    for down, right in np.ndindex(stride, stride):
        grid = np.s_[:, :, down::stride, right::stride]
        name = judge(stored[grid].flatten(1), labels)
        still, *others = [name(maps[grid].flatten(1)) == truth for maps in shown]
        unmoved.append(still)
        moved += others
    return np.stack([torch.stack(hits).double().mean(0) for hits in (unmoved, moved)])


def points(shares, others):
    """Mean difference at a move by one pixel, in points, and its standard error over the digits."""
    change = 100 * (shares[1] - others[1])  # digit by digit
    return change.mean(), change.std() / len(change) ** 0.5


def draw_shares(panel, results):
    """Bars: shares right at a move by one pixel, and points from no pooling; circles: unmoved."""
    colours = {"no pooling": "C0", "one maximum a map": "C2"}  # else windows
    for height, (name, shares) in enumerate(results.items()):
        panel.barh(-height, shares[1].mean(), color=colours.get(name, "C3"), alpha=0.4)
        panel.plot(shares[0].mean(), -height, "o", mfc="white", mec="0.3", ms=8)
        change, error = points(shares, results["no pooling"])
        if "4×4" in name:
            share, error = shares[1].mean(), error / 50  # two standard errors, as a share
            panel.errorbar(share, -height, xerr=error, color="0.1", capsize=5, lw=2)
            panel.text(share + error + 0.03, -height, f"{change:+.1f}", va="center")
        panel.text(0.14, -height, f"{shares[1].mean():.0%}", va="center")
    panel.axvline(0.1, color="0.4", ls=":", lw=1.5)
    panel.text(0.13, -3.75, "guessing", color="0.4", va="center")
    panel.set(xlim=(0, 1.04), ylim=(-4, 0.5), yticks=range(0, -4, -1), yticklabels=results,
              xlabel="share right (white: unmoved)\n+: points above no pooling", xticks=(0, 0.5, 1))


def noisy_pictures(task, count, generator):
    """Noise (count, 1, 16, 16); every second one hides a bright pixel, or is brighter all over."""
    pictures, labels = generator.normal(size=(count, 1, 16, 16)), np.arange(count) % 2
    if task == "density":
        return pictures + 0.15 * labels[:, None, None, None], labels
    rows, columns = generator.integers(16, size=(2, count))
    pictures[np.arange(count), 0, rows, columns] += 6 * labels
    return pictures, labels


def pooled_accuracy(task, pooling, run):
    """Of a linear classifier on the pooled pictures: 600 to learn from, 2000 to be tested on."""
    generator = np.random.default_rng(run)
    pictures, labels = noisy_pictures(task, 2600, generator)
    features = pooling(pictures, 8).reshape(2600, -1)
    classifier = LogisticRegression(max_iter=1000).fit(features[:600], labels[:600])
    return classifier.score(features[600:], labels[600:])


def kinds_of_layers():
    """One of each kind that the lectures list."""
    return [nn.Conv2d(8, 8, 3), nn.Linear(8, 8), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.AvgPool2d(2), nn.LocalResponseNorm(5), nn.Dropout(0.5), nn.Softmax(dim=1)]


def flexible_alexnet():
    """The lectures' sketch of AlexNet: layers that find out their input sizes themselves."""
    warnings.filterwarnings("ignore", message="Lazy modules")  # they are the point
    return nn.Sequential(
        nn.LazyConv2d(96, 11), nn.ReLU(), nn.MaxPool2d(2),
        nn.LazyConv2d(384, 3), nn.ReLU(), nn.LazyConv2d(384, 3), nn.ReLU(), nn.LazyConv2d(256, 3),
        nn.Flatten(), nn.LazyLinear(4096), nn.ReLU(), nn.LazyLinear(4096), nn.ReLU(),
        nn.LazyLinear(1000))

# %%
def nearest(stored, labels):
    """A judge: what is shown takes the class of the stored maps closest to its own."""
    return lambda shown: labels[torch.cdist(shown, stored).argmin(1)]


def every_window(maps):
    """The maximum of each 4×4 window, wherever it begins: (N, 8, 20, 20) to (N, 8, 17, 17)."""
    return F.max_pool2d(maps, 4, stride=1)


edges = looked_at(edge_maps, data.digits(train=True), data.digits(train=False))
maxima = pooled(edges, every_window)
unpooled = share_right(edges, 1, nearest)  # (2, 450)
print("nearest neighbour, no pooling, moved by 0 and 1 pixel:", unpooled.mean(1).round(2))
exercises.predict(
    "04.p5", "Moved by one pixel, with 4×4 maxima side by side, the nearest neighbour gets right",
    ("clearly more digits", "about as many", "clearly fewer digits"))

# %%
side_by_side = share_right(maxima, 4, nearest)
gain, error = points(side_by_side, unpooled)
moves = "clearly more digits" if gain > 0 else "clearly fewer digits"
exercises.reveal("04.p5", "about as many" if abs(gain) < 2.5 else moves,
                 f"The share changes by {gain:+.1f} points (clearly: by 2.5 or more).")

# %% [markdown]
# That was one judge, and windows that share no pixel. Now we change each of the two, and leave the size of the windows at 4×4.
# A second judge is linear, as the last layer of a network is, and fitted to the same maps (`linear`, folded, chooses its penalty by leaving out one unmoved training digit at a time).
# And at stride 2 each window shares half of its pixels with the next one: they *overlap*; their grid may begin at 4 places.
# The *standard error* of a change says how far it typically strays because just these 450 digits were asked: a change of less than twice that may be chance. (In the picture below, the shares are rounded to whole per cents; the changes beside them were taken before rounding.)

# %% tags=["fold"]
whole = pooled(edges, whole_maximum)
named = {"nearest neighbour": {"no pooling": unpooled, "4×4 side by side": side_by_side},
         "linear classifier": {"no pooling": share_right(edges, 1, linear),
                               "4×4 side by side": share_right(maxima, 4, linear)}}
for judge, results in zip((nearest, linear), named.values(), strict=True):
    results["4×4 at stride 2"] = share_right(maxima, 2, judge)
    results["one maximum a map"] = share_right(whole, 1, judge)
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.6), sharey=True)
for panel, (judge, results) in zip(axes, named.items(), strict=True):
    draw_shares(panel, results)
    panel.set_title(judge)
fig.suptitle("Moved by one pixel: 4×4 windows help more where they overlap", x=0.01, ha="left")
figures.save(fig, "emp-pooling-translation-invariance", caption="450 test digits of 8×8, moved by "
    "one pixel, seen through eight fixed edge filters and named by two judges who know 1,347 "
    "unmoved digits: mean over four directions and all places of the grid. At stride 2 windows "
    "overlap. Beside the bars: points above no pooling; black: twice their standard error. No "
    "randomness.",
    alt="For both judges 4×4 at stride 2 gets more digits than 4×4 side by side, and one maximum a "
    "map, the same moved and unmoved, more still; unmoved it gets far fewer than the others.")
ranges = {"": ((-2, 2), 3), ".linear": ((8, 16), 18)}  # of the changes, in points
for (id_, (at_4, at_2)), (judge, results) in zip(ranges.items(), named.items(), strict=True):
    (beside, error_4), (closer, error_2) = (
        points(results[name], results["no pooling"]) for name in list(results)[1:3])
    claims.check(f"emp-pooling-translation-invariance{id_}", f"Moved by one pixel, the {judge} "
        "gets {plain:.0%} right without pooling. 4×4 maxima side by side change that by "
        "{beside:+.1f} points (standard error over the digits: {error_4:.1f}), at stride 2 by "
        "{closer:+.1f} ({error_2:.1f}).", plain=results["no pooling"][1].mean(), error_4=error_4,
        beside=(beside, "in", at_4), closer=(closer, ">=", at_2), error_2=error_2, varies=True)

# %% tags=["fold"]
(near, near_error), (line, line_error) = (
    points(results["4×4 at stride 2"], results["4×4 side by side"]) for results in named.values())
near_left, line_left = (1 - results["4×4 at stride 2"][1].mean() for results in named.values())
claims.check("emp-pooling-translation-invariance.overlap", "Moved by one pixel, 4×4 maxima at "
    "stride 2 instead of side by side: {near:+.1f} points (standard error {near_error:.1f}) for "
    "the nearest neighbour and {line:+.1f} ({line_error:.1f}) for the linear classifier; "
    "{near_left:.0%} and {line_left:.0%} are left wrong.", near=(near, ">=", 3),
    line=(line, ">=", 8), near_error=near_error, line_error=line_error,
    near_left=(near_left, "in", (0.25, 0.4)),
    line_left=(line_left, "in", (0.25, 0.4)), varies=True)
near_whole, line_whole = (
    results["one maximum a map"].mean(1) for results in named.values())
mean_of_all = share_right(pooled(edges, whole_mean), 1, nearest).mean(1)
change = max(map(np.ptp, (near_whole, line_whole, mean_of_all)))
claims.check("emp-pooling-translation-invariance.whole", "One maximum a map gets {near:.0%} of "
    "the digits right by the nearest neighbour ({price:.0f} points fewer than the whole maps, "
    "unmoved) and {line:.0%} by the linear classifier; one mean a map gets {mean:.0%} by the "
    "nearest. After a move all three change by {change:.1f} points.",
    near=(near_whole[0], ">", 0.7), line=line_whole[0], mean=(mean_of_all[0], "<", 0.6),
    price=(100 * (unpooled[0].mean() - near_whole[0]), ">", 10), change=(100 * change, "<", 0.5),
    varies=True)
not_along = looked_at(dense_maps, data.digits(train=True), data.digits(train=False))
still, moved = share_right(pooled(not_along, whole_maximum), 1, nearest).mean(1)
claims.check("emp-pooling-translation-invariance.dense", "One maximum a map of a random dense "
    "layer, whose maps do not move along, gets {still:.0%} unmoved and {moved:.0%} moved by one.",
    still=still, moved=(moved, "<", still / 2), varies=True)

# %% [markdown]
# Digits of 8×8 behind fixed edge filters, moved by one pixel: 4×4 maxima side by side help a linear classifier and not a nearest neighbour; at stride 2, where they overlap, they help both, and help more, and leave about a third of the digits wrong.
# Whether that is the overlap, or the four times as many numbers that are kept at stride 2, was not separated.
#
# One maximum a *map* is indifferent to the move, by two things together: a map that moves along with the digit (section 3), and pooling over *all* of it.
# Without a map that moves along, as in a random dense layer, the maxima change with the move too (last ✓; one draw of the layer).
# A mean over the map is as indifferent as the maximum, and gets fewer digits right by the nearest neighbour.
# That both stay level is true by construction, as the whole digit stays on its dark board.
# The price is paid by the unmoved digits: a maximum keeps how strong an edge is, and forgets where.
#
# What windows buy besides: side by side, 2×2 leave only a quarter of the numbers, and, as we see next, give a longer view.

# %% [markdown]
# ### How much of the picture does one unit see?
#
# A unit of the first 3×3 layer sees 3×3 pixels; one of the second sees a 3×3 window of those, which is 5×5 pixels.
# The width of the patch is the *receptive field*.
# Two units side by side see patches that begin some pixels apart: the *jump* $j$. Each stride multiplies it.
# A layer with windows of $F_l$ looks at $F_l$ such units, so it widens the patch by $F_l - 1$ jumps (with dilation $D$, by $D(F_l - 1)$).
#
# $$r_l = r_{l-1} + (F_l - 1)\, j_{l-1}, \qquad j_l = j_{l-1} S_l, \qquad r_0 = j_0 = 1$$
#
# So two 3×3 layers see what one 5×5 layer sees (from $C$ channels to $C$, by $18\,C^2$ weights instead of $25\,C^2$), three see 7×7; with strides or pooling between them the view grows much faster.
# The third row of the table below by hand: 3×3 ($r = 3$, $j = 1$), pooling 2×2 ($r = 4$, $j = 2$), 3×3 ($r = 4 + 2 \cdot 2 = 8$), pooling ($r = 8 + 1 \cdot 2 = 10$, $j = 4$).
# It is computed for two famous networks too, AlexNet (2012) and VGG-16 (2014), which have lessons of their own.

# %% tags=["define"]
def receptive_field(layers):
    """Pixels that one output unit sees along a side; layers: (kernel_size, stride) in order."""
    field, jump = 1, 1
    for kernel_size, stride in layers:
        field += (kernel_size - 1) * jump
        jump *= stride
    return field

# %% tags=["fold", "ledger:num-erf-three-3x3"]
def footprint(layers, size):
    """How wide a patch of pixels the gradient of the middle unit reaches."""
    image = torch.zeros(1, 1, size, size, requires_grad=True)
    maps = image
    for kernel_size, stride in layers:
        ones = torch.ones(1, 1, kernel_size, kernel_size) / kernel_size**2
        maps = F.conv2d(maps, ones, stride=stride)
    middle = maps.shape[-1] // 2
    maps[0, 0, middle, middle].backward()
    return int((image.grad[0, 0] > 0).any(0).sum())


VGG16 = [layer for count in (2, 2, 3, 3, 3) for layer in [(3, 1)] * count + [(2, 2)]]
ALEXNET = [(11, 4), (3, 2), (5, 1), (3, 2), (3, 1), (3, 1), (3, 1), (3, 2)]
stacks = {"two 3×3": [(3, 1)] * 2, "three 3×3": [(3, 1)] * 3,
          "two 3×3, each with 2×2 pooling": [(3, 1), (2, 2)] * 2,
          "AlexNet, to its last pooling": ALEXNET, "VGG-16, to its last pooling": VGG16}
claims.table(
    "num-erf-two-3x3", "The recurrence gives the width that the gradient of one unit reaches.",
    {name: (receptive_field(stack), footprint(stack, 300)) for name, stack in stacks.items()},
    columns=("layers", "recurrence", "gradient"))

# %% [markdown]
# But seeing is not the same as minding.
# A *path* leads from a pixel to the unit through one tap of each layer: with two layers 1, 2, 3, 2 and 1 paths start in the five columns, and most in the middle.
# The stacks of the picture below have random weights and no ReLU. Each path adds one random number, the product of its weights, to the gradient of its pixel.
# A sum of $n$ uncorrelated random numbers grows like $\sqrt n$, and a column's share of the gradient goes along with the square root of its number of paths.

# %% tags=["fold"]
shares = {depth: influence(depth, seed) for depth in (2, 3, 10)}
fig, axes = plt.subplots(figsize=(figures.WIDTH, 3.4))
for depth, colour in ((3, "C1"), (10, "C0")):
    pixels_away, by_gradient = np.arange(2 * depth + 1) - depth, shares[depth]
    alike, side = 1 / len(by_gradient), "right" if depth == 3 else "left"
    letters = DARK_ORANGE if depth == 3 else colour
    axes.plot(pixels_away, by_gradient, color=colour, marker="o")
    axes.text(0.35 * depth + 0.5, 0.75 * by_gradient.max() + 0.01, f"{depth} layers", color=letters)
    axes.hlines(alike, -depth, depth, color=colour, ls=":", lw=1.5)
    axes.text(-depth - 0.2, alike + 0.006, f"all {len(by_gradient)} alike", color=letters, ha=side)
    axes.plot(pixels_away, by_paths(depth), "+", color="0.2", ms=11)
axes.set(xlabel="pixels from the middle", ylabel="share of the gradient", ylim=(0, 0.22),
         xticks=range(-10, 11, 5), title="The deeper, the less the rim counts; crosses: from paths")
show(fig, alt="The shares fall from the middle to the rim, with ten layers to nearly nothing; what "
     "the square root of the number of paths gives, the crosses, lies on them.")
two, three, ten = (float(columns[0] + columns[-1]) for columns in shares.values())
claims.check("eq-receptive-field", "Untrained, the two outermost columns get {two:.0%} of the "
    "gradient with two layers of 3×3 ({two_alike:.0%} if all counted alike), {three:.0%} with "
    "three ({three_alike:.0%}) and {ten:.1%} with ten ({ten_alike:.0%}); counted paths predict "
    "every column to within {off:.3f}.",
    two=(two, "<", 0.35), three=(three, "<", 0.2), ten=(ten, "<", 0.01), varies=True,
    two_alike=2 / 5, three_alike=2 / 7, ten_alike=2 / 21,  # two of 2 · layers + 1 columns
    off=(max(abs(shares[n] - by_paths(n)).max() for n in shares), "<", 0.02))

# %% [markdown]
# **We now know** that pooling saves numbers and lengthens the view, and that windows of 4×4 do not make our maps blind to a move by one pixel: they help more at stride 2 than side by side, and even there leave about a third of the digits wrong.
# Exact indifference to moves came here only from pooling *everything*, at a price.
# **This does not show** what a trained network makes of it: our filters were fixed, and the networks of the last figure untrained.
#
# **Exercise 04.5** A calculator for real networks: go through an `nn.Sequential` of convolutions, poolings and other layers, and return how many pixels a unit of the last layer sees along a side.
# Layers without a window leave it as it is; windows are square.
# Mind the dilation.
# VGG-16 up to its last pooling gives 212.

# %%
def field_of(network):
    """A whole number: pixels along a side that a unit of the last layer sees."""
    ...


exercises.check("04.5", field_of)

# %% [markdown]
# ## 5 · Is the structure worth having?
#
# A convolution assumes two things about pictures: neighbouring pixels belong together, and what is true in one place is true in another.
# Handwritten digits stand at places of a dark square; each picture gets its place once, by chance, and keeps it.
# A small convolutional network (CNN) and a fully connected one with one hidden layer (MLP) and the *same number of parameters* learn to read them, from the same pictures with the same optimizer (Adam: gradient descent with a step size of its own for every weight; lesson 09 takes it apart).
# Then all pictures have their pixels shuffled, each picture in the same way, and both learn anew.
# No information is lost; only the neighbourhood is gone.
# (The writers of the training digits also wrote test digits: these are no strangers' hands.)
#
# More rivals help to say why.
# A *locally connected* network (`LocallyConnected`, among the folded tools at the top) looks at the same 3×3 windows as the CNN, but every place has filters of its own: neighbourhood without sharing. It too learns on pictures and on shuffled pixels.
# And from the time before 2012: a linear classifier on pixels (fitted to the optimum, with scikit-learn's usual penalty on the size of its weights), and one on features that a person designed, histograms of edge directions (HOG).

# %%
def on_boards(pictures):
    """Pictures at random places of larger boards: inputs (N, C, side, side) in 0..1, and labels."""
    padded = F.pad(pictures.images, [margin] * 4)
    moved = augment.crop(padded, margin, torch.Generator().manual_seed(seed))
    return moved.to(torch.get_default_dtype()) / 255, pictures.labels


parts = pictures_to_read()  # to train, to test
boards = [on_boards(part) for part in parts]
channels, side, classes = boards[0][0].shape[1], boards[0][0].shape[2], len(parts[0].classes)
order = torch.randperm(side * side, generator=torch.Generator().manual_seed(seed))
shuffled = [(inputs.flatten(2)[..., order].view_as(inputs), labels) for inputs, labels in boards]

# %% tags=["fold"]
fig, axes = plt.subplots(2, 6, figsize=(figures.WIDTH, 3))
for row, inputs in zip(axes, (boards[0][0], shuffled[0][0]), strict=True):
    for panel, image in zip(row, inputs, strict=False):
        panel.imshow(image.permute(1, 2, 0).squeeze(-1), cmap="gray")
        panel.axis("off")
fig.suptitle("The same pictures, their pixels shuffled in one way", x=0.01, ha="left")
show(fig, alt="Six digits at places of their own, and below the same as scattered dots.")

# %% tags=["define"]
def cnn():
    """Two convolutions with pooling and one dense layer."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(2 * width * (side // 4) ** 2, classes),
    )


def mlp(hidden):
    """One hidden layer that sees every pixel."""
    first, last = nn.Linear(channels * side**2, hidden), nn.Linear(hidden, classes)
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)


def accuracy(make, parts, run, rate=None):
    """Accuracy on test and on training pictures of a network trained from seed `run`."""
    runtime.start(seed=run)
    network = make().to(memory_format=torch.channels_last)  # the same numbers, sooner
    optimizer = torch.optim.Adam(network.parameters(), lr=rate or learning_rate, fused=True)
    training.fit(network, parts[0], optimizer=optimizer, epochs=epochs, batch_size=batch_size)
    return [training.evaluate(network, parts[part]).accuracy for part in (1, 0)]

# %%
# As many hidden units as give the MLP the CNN's number of parameters
hidden = round((size_of(cnn()) - classes) / (channels * side**2 + 1 + classes))
print("parameters: CNN", size_of(cnn()), "MLP", size_of(mlp(hidden)), "hidden units:", hidden)
exercises.predict("04.p6", "More than 10 points are lost, when the pixels are shuffled, by",
                  ("the CNN", "the MLP", "both", "neither"))

# %%
contest = {
    "CNN": (cnn, boards),
    "CNN, shuffled": (cnn, shuffled),
    "windows, not shared": (local_network, boards),
    "windows, shuffled": (local_network, shuffled),
    "MLP, same size": (lambda: mlp(hidden), boards),
    "MLP, shuffled": (lambda: mlp(hidden), shuffled),
    "MLP, 10 times larger": (lambda: mlp(10 * hidden), boards),
}
reached, trained = {}, {}  # accuracies on test and on training pictures, one a seed
for name, (make, pictures) in contest.items():
    runs = seeds[:1] if make is local_network else seeds  # it is the slowest
    both = [accuracy(make, pictures, run) for run in runs]
    reached[name], trained[name] = np.transpose(both)

# %% tags=["nbval-varies"]
mean = {name: scores.mean() for name, scores in reached.items()}
cnn_lost = mean["CNN"] - mean["CNN, shuffled"]
mlp_lost = mean["MLP, same size"] - mean["MLP, shuffled"]
if cnn_lost > 0.1:
    told = "both" if mlp_lost > 0.1 else "the CNN"
else:
    told = "the MLP" if mlp_lost > 0.1 else "neither"
exercises.reveal("04.p6", told,
                 f"The CNN loses {100 * cnn_lost:.0f} points, the MLP {100 * mlp_lost:.0f}.")

# %% tags=["nbval-varies", "fold"]
designed = [(edge_histograms(images), labels) for images, labels in boards]
as_they_are = [(images.flatten(1), labels) for images, labels in boards]
for name, pair in {"pixels": as_they_are, "edge histograms": designed}.items():
    (inputs, labels), (unseen, truth) = pair
    classifier = LogisticRegression(max_iter=1000).fit(inputs.numpy(), labels.numpy())
    reached[f"linear on {name}"] = np.array([classifier.score(unseen.numpy(), truth.numpy())])
fig, axes = plt.subplots(figsize=(figures.WIDTH, 4.4))
order_shown = list(reached)[::-1]
for height, name in enumerate(order_shown):
    colour = {"CNN": "C0", "MLP": "C1", "win": "C3"}.get(name[:3], "C2")
    axes.barh(height, reached[name].mean(), color=colour, alpha=0.35)
    axes.plot(reached[name], [height] * len(reached[name]), "o", color=colour)
    if name in trained:
        axes.plot(trained[name].mean(), height, "o", mfc="white", mec="0.3")
    axes.text(0.01, height, f"{reached[name].mean():.0%}", va="center")
axes.axvline(1 / classes, color="0.4", ls=":", lw=1.5)
axes.text(1 / classes + 0.005, len(order_shown) - 0.45, "guessing", color="0.4")
axes.set(yticks=range(len(order_shown)), yticklabels=order_shown, xlim=(0, 1.02),
         xlabel="accuracy (white: on the training pictures)", ylim=(-0.6, len(order_shown)))
title = "Structure beats ten times the parameters, until pixels are shuffled"
if max(mean, key=mean.get) != "CNN" or cnn_lost < 0.1:
    title = "Who reads best?"
fig.suptitle(title, x=0.01, ha="left")
figures.save(fig, "emp-prior-knowledge-better", caption=f"Test accuracy on {dataset} at random "
    f"places of {side}×{side} boards ({len(boards[0][1]):,} to train, {len(boards[1][1]):,} to "
    f"test, {epochs} epochs, CPU). Dots: seeds; bars: means; white: networks on "
    "their training pictures; dotted: guessing.",
    alt="The CNN leads by far; shuffled it falls behind the MLP, which does not notice the "
    "shuffling; windows without sharing lose less, and stay below the CNN.")

# %% tags=["fold"]
behind = {name: 100 * (reached["CNN"][: len(values)] - values) for name, values in reached.items()}
claims.check("emp-prior-knowledge-better", "After {epochs} epochs the CNN leads an MLP of its size "
    "by {same:.0f} points and one ten times larger by {larger:.0f}.", epochs=epochs,
    same=(behind["MLP, same size"], ">=", 20), larger=(behind["MLP, 10 times larger"], ">=", 5),
    seeds=seeds, on="every", varies=True)
faster = [accuracy(make, boards, seed, rate=0.01)[0] for make in
          (lambda: mlp(hidden), lambda: mlp(10 * hidden))]
claims.check("emp-prior-knowledge-better.rate", "At a learning rate of 0.01 (one run each, "
    "{epochs} epochs) the MLP of its size gets {small:.0%} and the larger {large:.0%}, {lead:.0f} "
    "points below the CNN at {rate}.", epochs=epochs, small=faster[0], large=faster[1],
    rate=learning_rate, lead=(100 * (mean["CNN"] - faster[1]), ">=", 3), varies=True)
shuffled_lead = 100 * (reached["MLP, shuffled"] - reached["CNN, shuffled"])
claims.check("emp-prior-knowledge-better.shuffled", "After {epochs} epochs shuffling costs the CNN "
    "{lost:.0f} points; there it is {worse:.0f} points behind the MLP.", epochs=epochs,
    lost=(behind["CNN, shuffled"], ">=", 30), worse=(shuffled_lead, ">=", 1), seeds=seeds,
    on="every", varies=True)
local, local_shuffled = (reached[f"windows, {kind}"][0] for kind in ("not shared", "shuffled"))
claims.check("emp-prior-knowledge-better.sharing", "One run, {epochs} epochs: windows without "
    "sharing reach {local:.0%}, with {count:,} parameters: {more:.0f} points above the same "
    "network on shuffled pixels, and {lost:.0f} below the CNN of the same seed. On shuffled pixels "
    "they are {ahead:.0f} above that CNN.", epochs=epochs, local=local,
    count=size_of(local_network()), more=(100 * (local - local_shuffled), ">=", 5),
    lost=(behind["windows, not shared"][0], ">=", 3),
    ahead=(100 * (local_shuffled - reached["CNN, shuffled"][0]), ">=", 10), varies=True)
fit_of = {name: trained[name] for name in ("CNN", "MLP, same size", "MLP, 10 times larger")}
cnn_fit, small_fit, large_fit = fit_of.values()
claims.check("emp-prior-knowledge-better.trained", "After {epochs} epochs, of their own training "
    "pictures the CNN gets {cnn:.0%}, the MLP of its size {small:.0%}, the larger one {large:.0%}.",
    epochs=epochs, cnn=cnn_fit, small=(small_fit, "<", 0.8), large=(large_fit, ">", 0.9),
    seeds=seeds, on="every", varies=True)

# %% tags=["fold"]
by_hand = float(reached["linear on edge histograms"][0] - reached["linear on pixels"][0])
ahead = 100 * (reached["CNN"] - reached["linear on edge histograms"])
claims.check("prac-end-to-end-pipeline", "These designed features (one setting, not tuned) "
    "lead pixels by {designed:.0f} points; "
    "the learned ones of the CNN, after {epochs} epochs, lead the designed by {learned:.0f}.",
    epochs=epochs, designed=(100 * by_hand, ">=", 10), learned=(ahead, ">=", 15), seeds=seeds,
    on="every", varies=True)
runtime.start(seed=seed, dtype="float64")
original, twin = mlp(hidden), mlp(hidden)
twin.load_state_dict(original.state_dict())
with torch.no_grad():
    first = original[1].weight.view(hidden, channels, -1)
    twin[1].weight.copy_(first[..., order].flatten(1))
losses = []
for network, pair in ((original, boards), (twin, shuffled)):
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    exact = pair[0][0].double(), pair[0][1]
    history = training.fit(network, exact, optimizer=optimizer, epochs=2, batch_size=batch_size)
    losses.append(history.train_loss)
claims.check("emp-prior-knowledge-better.blind", "Shuffle the columns of an MLP's first weight "
    "matrix along with the pixels: in two epochs the losses on pictures and on shuffled pixels "
    "differ by {gap:.0e}.", gap=(float(abs(np.subtract(*losses)).max()), "<", 1e-9), varies=True)

# %% [markdown]
# To an MLP the order of pixels does not exist (last ✓): what the shuffle changes in its bar is luck.
#
# **We now know** that on these digits, after 12 epochs, the structure is worth more than ten times the parameters.
# It has two halves. What windows that share nothing lose by the shuffle is what neighbourhood is worth to them, in windows and in pooling.
# From them to the CNN is the worth of sharing, fewer parameters included: it has a thirtieth of theirs (one run at one learning rate). On shuffled pixels the CNN falls below them; whether by sharing or by its size was not separated there either.
#
# **This does not show** what longer training would do: a higher learning rate already brings the small MLP closer (second ✓). (The second pooling drops the last row and column of its 7×7 maps, in silence, as section 2 warns.) There was one shuffle, one draw of the places, one learning rate for all but the two MLPs of the second ✓, and one run of the windows that share nothing. With ten other seeds, each with a shuffle and places of its own, the third ✓ held eight times (`benchmarks/RESULTS-seeds.md`).
# Nor does it show that structure always beats data.
# A later kind of network without such windows, the transformer, learns about neighbours mostly by itself from 14 million pictures and more, from patches of 16×16 pixels (Dosovitskiy et al. 2021).

# %% [markdown]
# ## In practice
#
# - `nn.Conv2d(64, 64, 3, padding=1)`: mostly 3×3 and 1×1 (with `groups=g` a filter sees only $C/g$ channels), `stride=2` instead of many poolings, `nn.AdaptiveAvgPool2d(1)` at the end, so that the picture's size is free.
# - Estimate the shapes, then print them to check: `torchinfo.summary(network, (1, 3, 224, 224))`, or a pass on `torch.device("meta")`, which computes shapes and nothing else.
# - Numbers of filters are usually multiples of 8 or 16; on one CPU, 80, 96 and 112 cost about as much a filter as 64 and 128 (timed below). `timm` rounds with `make_divisible(width, 8)`.
# - Where moves must not matter, blur before striding (Zhang 2019; `timm.layers.BlurPool2d`), and train on moved pictures (`torchvision.transforms.v2.RandomCrop(32, padding=4)`).
# - Libraries choose among im2col and other ways (by Fourier transform, by Winograd's scheme) themselves; `torch.backends.cudnn.benchmark = True` lets them try.
#
# ## History
#
# - 1962: Hubel and Wiesel find cells in the cat's visual cortex that answer to edges in a small patch, and others that answer wherever in the patch the edge lies.
# - 1980: Fukushima's Neocognitron stacks such layers, filters shared over all places, followed by layers that tolerate moves; learned without backpropagation.
# - 1989: LeCun and others train shared filters by backpropagation, on handwritten zip codes; 1998: LeNet-5.
# - 2006: Chellapilla, Puri and Simard write the convolution as one matrix product (im2col).
# - 2012: Krizhevsky, Sutskever and Hinton win the ImageNet contest (1.2 million photographs, 1000 classes) with AlexNet, 60 million parameters on two GPUs; designed features such as HOG (Dalal and Triggs 2005) go out of use.

# %% [markdown]
# ## Also in the lectures
#
# Smaller items: maximum or average, which layers have parameters, the turned filter, layers that find out their input size, pooling backwards and its relatives, and the number of filters.
# The notes' picture of overlapping windows is left out: 2×2 windows at stride 2 share no pixel, 3×3 windows share a row or a column.
# The cells are folded.
#
# Maximum or average? It depends on what is looked for.
# In one task, half of the noisy pictures hide one bright pixel; in the other, half are a shade brighter all over.
# Both times a linear classifier sees four numbers a picture, pooled from 8×8 pixels each.
# In hidden layers the maximum was usual; the average came back at the end of networks, where the evidence of the whole picture is collected.

# %% tags=["fold", "ledger:eq-fc-layer-shapes"]
found = {(task, pooling): [pooled_accuracy(task, pooling, run) for run in range(5)]
         for task in ("one pixel", "density") for pooling in (max_pool2d, avg_pool2d)}
claims.check("emp-maxpool-vs-avgpool", "One bright pixel: the maximum gets {one:.0%} right, the "
    "average {blurred:.0%}. A shade brighter: {peak:.0%} and {density:.0%}. Guessing gets 50 %.",
    one=(found["one pixel", max_pool2d], ">", 0.85), peak=(found["density", max_pool2d], "<", 0.7),
    blurred=(found["one pixel", avg_pool2d], "<", 0.7),
    density=(found["density", avg_pool2d], ">", 0.8), seeds=5, on="every", varies=True)
learning = {type(kind).__name__: size_of(kind) for kind in kinds_of_layers()}
claims.check("prac-layer-types-with-params", "Of nine kinds of layers {learn} have parameters; "
    "{others} have none.",
    learn=(", ".join(name for name in learning if learning[name]), "==",
           "Conv2d, Linear, BatchNorm2d"),
    others=", ".join(name for name, count in learning.items() if not count))
columns, rows = random.normal(size=(12, 5)), random.normal(size=(4, 12))
in_rows = F.linear(torch.tensor(columns.T), torch.tensor(rows)).numpy()
claims.check("eq-fc-layer-shapes", "With examples in columns, as in the lectures, or in rows, as "
    "in torch, a dense layer has weights of shape {shape}, and the answers agree to {gap:.0e}.",
    shape=(tuple(nn.Linear(12, 4).weight.shape), "==", (4, 12)),
    gap=(float(abs(in_rows - (rows @ columns).T).max()), "<", 1e-12), varies=True)
with torch.device("meta"):
    flex = flexible_alexnet()
    flex(torch.empty(1, 3, 224, 224))
    at_stride_4 = nn.Sequential(nn.Conv2d(3, 96, 11, stride=4), *flex[1:9])  # all else equal
    fewer = at_stride_4(torch.empty(1, 3, 224, 224)).shape[1]  # inputs to the first dense layer
claims.check("arch-flex-lazy-layers", "The lectures' sketch of AlexNet has {inputs:,} inputs to "
    "the first dense layer and {count:,} parameters; with AlexNet's stride of 4 {strided:,}, "
    "still far from AlexNet's 60 million: two poolings are missing too.",
    inputs=(flex[9].in_features, "==", 256 * 101 * 101),
    count=(size_of(flex), "==", 10_719_985_768),
    strided=(size_of(flex) - (256 * 101**2 - fewer) * 4096, "in", (480_000_000, 490_000_000)))

# %% tags=["fold", "not-drawn:fig-overlap-pooling"]
turned = CURVE_FILTER[::-1, ::-1]
claims.check("num-curve-filter-0.flipped", "Turned by half a turn, as a convolution of mathematics "
    "does, the drawn filter gives {back:.0f} on the mouse's back and {ear:.0f} on its ear.",
    back=(answer(MOUSE_BACK, turned), "==", 3600), ear=(answer(MOUSE_EAR, turned), "==", 2250))
ties = random.integers(0, 3, size=(2, 3, 9, 9)).astype(float)  # many equal maxima
worst = 0.0
for kernel, stride in [(2, 2), (3, 2)]:  # side by side, and overlapping
    for forward, backward, real in [(max_pool2d, max_pool2d_backward, F.max_pool2d),
                                    (avg_pool2d, avg_pool2d_backward, F.avg_pool2d)]:
        tensor = torch.tensor(ties, requires_grad=True)
        output = real(tensor, kernel, stride)
        grad = random.normal(size=output.shape)
        output.backward(torch.tensor(grad))
        worst = max(worst, abs(forward(ties, kernel, stride) - output.detach().numpy()).max(),
                    abs(backward(grad, ties, kernel, stride) - tensor.grad.numpy()).max())
claims.check("eq-max-avg-pooling", "Pooling and its gradients differ from torch by {worst:.0e}, "
    "ties and overlaps included.", worst=(float(worst), "<", 1e-12), varies=True)
straight = 1e-4 * ties[:, :, :8, :8]  # here tanh is straight
lenet = lenet_subsampling(straight, np.full(3, 0.25), np.zeros(3)) / (1.7159 * 2 / 3)
claims.check("err-avgpool-learnable", "Average pooling has {none} parameters; LeNet-5's "
    "subsampling with a gain of 1/4 and no bias is a scaled average, to {gap:.0e}, for inputs so "
    "small that its tanh is straight.", none=(size_of(nn.AvgPool2d(2)), "==", 0),
    gap=(float(abs(lenet - avg_pool2d(straight, 2)).max()), "<", 1e-9), varies=True)
dilated = max_pool2d(pad(photo[None, None], 1, -np.inf), 3, 1)[0, 0]
claims.check("emp-maxpool-morphology", "At stride 1, max pooling of a photograph and the grey "
    "dilation of image processing differ by {gap:.0f}.",
    gap=(float(abs(dilated - grey_dilation(photo, np.ones((3, 3)))).max()), "==", 0))
claims.quoted("fig-overlap-pooling", "3×3 windows at stride 2 instead of 2×2 lower "
    "AlexNet's errors by 0.4 points (first guess) and 0.3 (first five guesses).",
    "Krizhevsky et al. 2012, section 3.4")

# %% tags=["fold", "ledger:prac-power-of-two-filters", "nbval-ignore-output"]
def seconds_per_filter(counts, repeats):
    """Shortest time of a 3×3 layer on 32×28×28, divided by its filters; in turns, to be fair."""
    picture, best = torch.randn(4, 32, 28, 28), dict.fromkeys(counts, np.inf)
    weights = {filters: torch.randn(filters, 32, 3, 3) for filters in counts}
    for filters in [*counts] * repeats:
        start = time.perf_counter()
        F.conv2d(picture, weights[filters])
        best[filters] = min(best[filters], (time.perf_counter() - start) / filters)
    return best


runtime.start(seed=seed)
best = seconds_per_filter((64, 80, 96, 112, 128), repeats=40)
print("time a filter, relative to a layer of 64 filters, smallest of 40 turns:")
print(", ".join(f"{count}: {seconds / best[64]:.2f}" for count, seconds in best.items()))
images, weight = random.normal(size=(1, 16, 28, 28)), random.normal(size=(16, 16, 3, 3))
columns, rows = im2col(images, 3, 3), weight.reshape(16, -1)
ways = {"loop": lambda: conv2d_naive(images, weight), "im2col": lambda: im2col(images, 3, 3),
        "product, not tuned": lambda: np.einsum("kr,nrp->nkp", rows, columns),
        "product, tuned": lambda: rows @ columns}
for name, way in ways.items():
    print(f"{name}: {1000 * min(timeit.repeat(way, number=1, repeat=3)):.2f} ms")

# %% [markdown]
# These are times: they differ from machine to machine and from turn to turn, and are not checked.
# In the runs we saw, 80, 96 and 112 filters cost about as much a filter as 64 and 128: from 64 to 128, powers of two keep no advantage.
#
# ## Exercises
#
# Each check says what is wrong and how to see it; 04.1 to 04.5 stand after their sections.
# Three are open, without a check:
#
# **04.6** What does the bar chart of [section 5](#5-·-Is-the-structure-worth-having?) *not* show?
# Name one change that would let the MLP catch up, and try it: `margin = 0`, another `learning_rate`, more `epochs`, or newly moved pictures in every epoch (`augment=` of `training.fit`).
# And is the CNN still ahead of the windows that share nothing if all learn at `learning_rate = 0.01`?
#
# **04.7** The learned filter of the first picture answers to bright strokes on dark, such as the tripod's leg.
# Give it examples with a *dark* curve on a bright ground as well (in `examples`, every second pattern −1 times the curve), and look at its weights.
# Why can one filter not do both? How many filters could, followed by which layer?
#
# **04.8** `row = np.array([0, 3, 0, 0, 5, 1, 0, 2])`, as a picture `np.tile(row, (1, 1, 2, 1))` (two equal rows), becomes four numbers under `max_pool2d(picture, 2)`.
# Move the row to the right by one pixel, and by two; a zero enters for each pixel that leaves. After which of the two moves are the numbers the old ones, moved? Why?
# Find a row of eight in which a move by *one* pixel changes none of the four numbers.

# %% [markdown]
# ## Summary
#
# - A filter answers with its dot product with a window. As drawn it gives 6600 on the mouse's back and 9000 on plain paper. Fitted to examples whose light varies widely, its weights cancel; in equal light they do not, unless the pattern itself adds up to zero. Zero sum cures brightness, not contrast and not rivals of similar shape.
# - $\lfloor (H + 2P - D(F-1) - 1)/S \rfloor + 1$ windows fit along a side; what does not fit is skipped in silence, 13 of 49 pixels for 3×3 on 7×7 at stride 3. Each of torch's four paddings invents something.
# - One filter for all places is a sparse matrix with few different numbers: 456 parameters where a dense layer has 14,455,392; a map that moves with the picture, away from the border and at stride 1; and a gradient summed over all places.
# - Digits of 8×8 behind fixed edge filters, moved by one pixel: 4×4 maxima side by side help a linear classifier and not a nearest neighbour; at stride 2, where they overlap, they help both, and help more, and leave about a third of the digits wrong. A maximum over the whole map is indifferent to moves, at the price of where.
# - Receptive fields grow to 5, 7, 195 (AlexNet), 212 (VGG-16) pixels; the more layers, the less their rim counts, as the root of the number of paths does (random linear layers of 3×3).
# - With equal parameters and 12 epochs a CNN beats an MLP by at least 20 points on digits at random places and loses at least 30 when the pixels are shuffled (one shuffle, two networks). Windows without sharing (one run, one learning rate) lose less by the shuffle, and stay below the CNN.

# %% [markdown]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | all parameters = 76 · 10 = 76 | 76 · 10 = **760** | [counted](#Counting) |
# | 6600 is "a large number": the curve is there | plain paper gives 9000. Where the light may differ, a large answer can be mere brightness unless the filter adds up to zero; even then it grows with contrast, and rival shapes may be louder | [section 1](#1-·-One-number:-how-alike-are-filter-and-window?) |
# | a stride of 3 "doesn't work" on 7×7 with 3×3 | it does not tile; torch's convolution rounds down, returns 2×2 and never reads 13 of the 49 pixels | [section 2](#2-·-How-many-windows-are-there?) |
# | $(N-F)/S + 1$ | the case without padding and with whole result; in general $\lfloor (H + 2P - D(F-1) - 1)/S \rfloor + 1$, where $H$ is the notes' $N$ | 207 settings against torch, [section 2](#2-·-How-many-windows-are-there?) |
# | pad with $(F-1)/2$ to keep the size | for odd $F$, stride 1 and dilation 1 | [the border](#The-border) |
# | average pooling "might be learnable" | plain average pooling has no parameters; LeNet-5's subsampling had a gain and a bias a map | counted [here](#Also-in-the-lectures); LeCun et al. 1998, II.B |
# | pooling makes the network invariant to small translations | not by itself. Digits of 8×8 behind fixed edge filters, moved by one pixel: 4×4 maxima side by side help a linear classifier and not a nearest neighbour; at stride 2, where they overlap, they help both, and help more, and leave about a third of the digits wrong. A maximum of the whole map of an equivariant layer is indifferent by construction | [section 4](#Does-pooling-make-a-network-blind-to-small-moves?) |
# | max pooling replaces average pooling | depends on what is looked for; the average came back as the last layer | measured [here](#Also-in-the-lectures); Lin et al. 2014 |
# | the number of filters is a power of 2, "to vectorise well" | on one CPU, 80, 96 and 112 filters cost about as much a filter as 64 and 128: from 64 to 128, powers of two keep no advantage | timed [here](#Also-in-the-lectures) |
# | two and three 3×3 layers have an "effective" receptive field of 5 and 7 | that is the theoretical field; within it the two outermost columns get 30 and 15 % of the gradient, untrained, where equal shares are 40 and 29 %; with more layers far less | [section 4](#How-much-of-the-picture-does-one-unit-see?); Luo et al. 2016 |
#
# What the notes call convolution is, in mathematics, cross-correlation. With the filter turned by half a turn the drawn one would give 3600 and 2250 in place of 6600 and 0 ([here](#Also-in-the-lectures)).
#
# ## Sources
#
# - Hubel and Wiesel, *Receptive fields, binocular interaction and functional architecture in the cat's visual cortex*, J. Physiology 160, 1962.
# - Fukushima, *Neocognitron*, Biological Cybernetics 36, 1980.
# - LeCun et al., *Backpropagation applied to handwritten zip code recognition*, Neural Computation 1, 1989; *Gradient-based learning applied to document recognition*, Proceedings of the IEEE 86, 1998.
# - Dalal and Triggs, *Histograms of oriented gradients for human detection*, CVPR 2005.
# - Chellapilla, Puri and Simard, *High performance convolutional neural networks for document processing*, IWFHR 2006.
# - Krizhevsky, Sutskever and Hinton, *ImageNet classification with deep convolutional neural networks*, NIPS 2012.
# - Simonyan and Zisserman, *Very deep convolutional networks*, ICLR 2015, arXiv:1409.1556.
# - Lin, Chen and Yan, *Network in network*, ICLR 2014, arXiv:1312.4400.
# - Luo, Li, Urtasun and Zemel, *Understanding the effective receptive field in deep convolutional neural networks*, NIPS 2016, arXiv:1701.04128.
# - Dumoulin and Visin, *A guide to convolution arithmetic for deep learning*, 2016, arXiv:1603.07285.
# - Zhang, *Making convolutional networks shift-invariant again*, ICML 2019, arXiv:1904.11486.
# - Islam, Jia and Bruce, *How much position information do convolutional neural networks encode?*, ICLR 2020, arXiv:2001.08248.
# - Dosovitskiy et al., *An image is worth 16x16 words*, ICLR 2021, arXiv:2010.11929.
