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
# ### What does a small filter compute as it slides over a picture, and where do the pixels go?
#
# **You will be able to**
# - say what one number of a feature map means, and when a large one means nothing;
# - tell the size, the parameters and the multiplications of a layer before running it;
# - write a convolution in three ways (loops, columns, one big matrix) and the two usual poolings, each with its backward pass;
# - say how much of the picture one unit sees, and why that structure is worth having.
#
# **You need** arrays and their shapes, the dot product, and a linear classifier trained by gradient descent (lessons 01 to 03).
#
# **It costs** about 40 seconds on two cores, nearly all of it in the last section, where networks are trained.

# %% tags=["parameters"]
seed: int = 0  # of everything drawn at random
dataset: str = "digits"  # or mnist, fashion_mnist, cifar10: pictures of the last section
limit: int = 1347  # training pictures of the last section, at most
margin: int = 3  # black pixels around each picture, within which it moves
width: int = 10  # filters in the first layer of the network that is trained
epochs: int = 24  # passes over the training pictures
batch_size: int = 32  # pictures in a step
learning_rate: float = 0.003  # of Adam
runs: int = 3  # networks trained for each comparison, seeds 0, 1, 2, ...
dtype: str = "float64"  # exact enough that the numbers below survive another processor

# %% tags=["imports"]
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.patches import Rectangle
from numpy.lib.stride_tricks import sliding_window_view
from skimage.feature import hog
from skimage.morphology import dilation as grey_dilation
from sklearn.linear_model import LogisticRegression
from torch import nn

from cnncourse import augment, claims, data, exercises, figures, runtime, training, widgets
from cnncourse.errors import ParameterError

# %%
figures.use_style()
random = np.random.default_rng(seed)
runtime.start(seed=seed, dtype=dtype)

# %% [markdown]
# ## 1 · One filter, one window
#
# A filter is a small picture of what it looks for.
# Laid over a window of the image, it multiplies pixel by pixel and adds everything up: a dot product of two pictures.
# Each of its numbers is a *weight*, or a *tap*.
# The lecture notes show a 7×7 filter for a curve, a window from the back of a drawn mouse that contains that curve, and another from its ear that does not.
# Here they are, with the notes' own numbers.

# %% tags=["define"]
CURVE_FILTER = np.array([
    [0, 0, 0, 0, 0, 30, 0],
    [0, 0, 0, 0, 30, 0, 0],
    [0, 0, 0, 30, 0, 0, 0],
    [0, 0, 0, 30, 0, 0, 0],
    [0, 0, 0, 30, 0, 0, 0],
    [0, 0, 0, 30, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 0],
])

# %% tags=["define"]
MOUSE_BACK = np.array([
    [0, 0, 0, 0, 0, 0, 30],
    [0, 0, 0, 0, 50, 50, 50],
    [0, 0, 0, 20, 50, 0, 0],
    [0, 0, 0, 50, 50, 0, 0],
    [0, 0, 0, 50, 50, 0, 0],
    [0, 0, 0, 50, 50, 0, 0],
    [0, 0, 0, 50, 50, 0, 0],
])

# %% tags=["define"]
MOUSE_EAR = np.array([
    [0, 0, 0, 0, 0, 0, 0],
    [0, 40, 0, 0, 0, 0, 0],
    [40, 0, 40, 0, 0, 0, 0],
    [40, 20, 0, 0, 0, 0, 0],
    [0, 50, 0, 0, 0, 0, 0],
    [0, 0, 50, 0, 0, 0, 0],
    [25, 25, 0, 50, 0, 0, 0],
])

# %% [markdown]
# Multiply and add.
# Each line of the output is a claim: the number measured, the number expected, and whether they agree; the lesson stops at one that fails.

# %%
claims.check("num-curve-filter-6600", int((MOUSE_BACK * CURVE_FILTER).sum()), "==", 4 * 50 * 30 + 20 * 30)
claims.check("num-curve-filter-0", int((MOUSE_EAR * CURVE_FILTER).sum()), "==", 0)

# %% [markdown]
# 6600 against 0: the filter has found its curve.
# Six of its taps are not zero; five of them meet ink and one meets nothing: the match is good and not perfect.
# Keep that in mind until section 3.
#
# **Predict.** What does the same filter answer to a window without any curve, one that is plain bright paper with the value 50 everywhere?

# %%
PAPER = np.full((7, 7), 50)
claims.check("num-curve-filter-6600.uniform", int((PAPER * CURVE_FILTER).sum()), "==", 9000,
             note="more than the curve itself")

# %% [markdown]
# 9000: plain brightness beats the very pattern the filter was made for.
# No tap of the printed filter is negative, so more light never makes the answer smaller.
# A filter that *detects* has to lose as much on light in the wrong places as it wins in the right ones: its taps must add up to zero.

# %%
zero_mean = CURVE_FILTER - CURVE_FILTER.mean()
claims.check("num-curve-filter-6600.zero-mean", float((MOUSE_BACK * zero_mean).sum()), "~", 4212.24, tolerance=0.01)
paper_answer = float(abs((PAPER * zero_mean).sum()))
claims.check("num-curve-filter-6600.zero-mean-paper", paper_answer, "<", 1e-9, varies=True, note="zero, but for rounding")
claims.check("num-curve-filter-0.zero-mean", float((MOUSE_EAR * zero_mean).sum()), "~", -1395.92, tolerance=0.01)

# %% [markdown]
# Now the filter says nothing about paper, and the ear speaks *against* the curve.
# The picture shows the three windows, and what each of the 49 products contributes.

# %%
def draw_numbers(axes, numbers, title, *, limit):
    """A small matrix as coloured cells with its numbers inside."""
    axes.imshow(numbers, cmap=figures.DIVERGING, vmin=-limit, vmax=limit)
    for (row, column), number in np.ndenumerate(numbers):
        ink = "white" if abs(number) > 0.5 * limit else "0.2"
        if number:
            axes.text(column, row, f"{number:.0f}", ha="center", va="center", color=ink,
                      fontsize=11 if limit < 100 else 9.5)
    axes.set(title=title, xticks=[], yticks=[])

# %% tags=["ledger:fig-curve-filter"]
fig, axes = plt.subplots(3, 3, figsize=(figures.WIDTH, 8.6))
names = {"mouse back": MOUSE_BACK, "mouse ear": MOUSE_EAR, "plain paper": PAPER}
for row, (name, window) in zip(axes, names.items(), strict=True):
    product, against = window * CURVE_FILTER, window * zero_mean
    draw_numbers(row[0], window, name, limit=75)
    for tap in np.argwhere(CURVE_FILTER):
        row[0].add_patch(Rectangle(tap[::-1] - 0.5, 1, 1, fill=False, ec="C0", lw=2.5))
    draw_numbers(row[1], product, f"× curve filter: {product.sum()}", limit=2200)
    draw_numbers(row[2], against, f"× zero-mean: {round(against.sum())}", limit=2200)
figures.save(fig, "fig-curve-filter",
             caption="Three windows with the taps of the filter outlined (left), their products with the notes' curve "
                     "filter (middle) and with that filter minus its mean (right). Zeros are left blank. No randomness.",
             alt="The raw filter gives 6600 on the curve, 0 on the ear and 9000 on plain paper; the zero-mean filter "
                 "gives 4212, -1396 and 0.")

# %% [markdown]
# One word before we slide.
# Mathematicians flip the filter, upside down and left to right, before they multiply; that is *convolution*.
# Networks do not flip; what they compute is *cross-correlation*, and everybody calls it convolution all the same.
# For a learned filter nothing changes, as the flipped filter is learned as easily.
# For a drawn one it matters: the curve scores less than 6600, and the ear no longer 0.

# %%
flipped = CURVE_FILTER[::-1, ::-1]
claims.check("num-curve-filter-0.flipped-back", int((MOUSE_BACK * flipped).sum()), "==", 3600)
claims.check("num-curve-filter-0.flipped-ear", int((MOUSE_EAR * flipped).sum()), "==", 2250)

# %% [markdown]
# ## 2 · How many windows are there?
#
# Slide a window of $F$ pixels along a row of $N$.
# The *stride* $S$ is how far it moves each time.
# The *padding* $P$ is a border added on both sides.
# The *dilation* $D$ is the distance from one tap to the next, usually 1; the window then spans $D(F-1)+1$ pixels.
# The first window starts at 0, the others follow at $S, 2S, 3S, \dots$ as long as they fit:
#
# $$O = \left\lfloor \frac{N + 2P - D(F-1) - 1}{S} \right\rfloor + 1$$
#
# The notes print the case $P = 0$, $D = 1$, which is $(N-F)/S + 1$.
# A filter is also called a *kernel*, so in the code $F$ is `kernel_size`.

# %% tags=["define"]
def output_size(size, kernel_size, stride=1, padding=0, dilation=1):
    """How many windows fit along one side: ``output_size(7, kernel_size=3, stride=2)`` is 3.

    Raises `ParameterError` when not even one does, or a number makes no sense.
    """
    span = dilation * (kernel_size - 1) + 1  # pixels from the first tap to the last
    if min(size, kernel_size, stride, dilation) < 1 or padding < 0:
        raise ParameterError("sizes, stride and dilation from 1 and padding from 0",
                             f"size {size}, kernel {kernel_size}, stride {stride}, padding {padding}, "
                             f"dilation {dilation}", where="output_size", remedy="count in whole pixels")
    if span > size + 2 * padding:
        raise ParameterError(f"a window of at most {size + 2 * padding} pixels (size {size}, padding {padding} twice)",
                             f"a span of {span} (kernel {kernel_size}, dilation {dilation})", where="output_size",
                             remedy="use a smaller kernel or dilation, or more padding")
    return (size + 2 * padding - span) // stride + 1

# %% [markdown]
# The notes' example: a 7×7 input and a 3×3 filter.
#
# **Predict** the output size at strides 1, 2 and 3.

# %%
def torch_output_size(size, kernel_size, **options):
    """What a real layer returns."""
    return nn.Conv2d(1, 1, kernel_size, **options)(torch.zeros(1, 1, size, size)).shape[-1]


for stride, expected in [(1, 5), (2, 3), (3, 2)]:
    measured = (output_size(7, 3, stride), torch_output_size(7, 3, stride=stride))
    claims.check(f"num-conv-7x7-stride{stride}", measured, "==", (expected, expected), note="(ours, torch)")

# %% [markdown]
# At stride 3 the notes get $(7-3)/3+1 = 2.33$ and conclude that it "doesn't work".
# They are right that the windows do not end at the border.
# But no framework refuses: it rounds down, returns 2×2, and says nothing about the pixels that no window reaches.
# They are easy to find: a pixel that is never read has no influence on the output, so its gradient is exactly zero.

# %%
image = torch.ones(1, 1, 7, 7, requires_grad=True)
F.conv2d(image, torch.ones(1, 1, 3, 3), stride=3).sum().backward()
gradient = image.grad[0, 0].int().numpy()
print(gradient)

# %%
claims.check("num-conv-7x7-stride3.unrounded", (7 - 3) / 3 + 1, "~", 2.333, tolerance=1e-3)
claims.check("err-stride3-dont-work", int((gradient == 0).sum()), "==", 13,
             unit="of 49 pixels never read", note="the last row and the last column")

# %% [markdown]
# The figure shows every step of a window along the top rows.
# Stride 1 and 2 end exactly at the border; stride 3 stops short of it, because a third window would stick out.

# %%
def draw_step(axes, size, start, kernel_size, *, unused=()):
    """One position of the window on a grid; it is hatched when it does not fit."""
    fits = start + kernel_size <= size
    for row, column in np.ndindex(size, size):
        lost = row in unused or column in unused
        axes.add_patch(Rectangle((column, row), 1, 1, ec="0.75", lw=0.8, fc="C3" if lost else "white"))
    look = {"fc": "C1", "alpha": 0.75} if fits else {"fc": "none", "hatch": "//"}
    axes.add_patch(Rectangle((start, 0), kernel_size, kernel_size, ec="C1" if fits else "C3", lw=2, **look))
    axes.set(xlim=(-0.1, size + 2.2), ylim=(size + 0.1, -0.1), aspect="equal")
    axes.axis("off")

# %% tags=["ledger:fig-conv-stride-padding"]
fig, axes = plt.subplots(3, 5, figsize=(figures.WIDTH, 5.4))
for row, stride in zip(axes, (1, 2, 3), strict=True):
    count = output_size(7, 3, stride)
    starts = [step * stride for step in range(count + (stride == 3))]
    for panel, start in zip(row, starts, strict=False):
        draw_step(panel, 7, start, 3, unused=(6,) if stride == 3 else ())
    row[0].set_title(f"stride {stride}: {count} × {count}")
    for panel in row[len(starts):]:
        panel.axis("off")
figures.save(fig, "fig-conv-stride-padding",
             caption="The windows of a 3×3 filter along the top row of a 7×7 image, step by step. Magenta: pixels that no "
                     "window reads at stride 3, and the window that would not fit.",
             alt="Five steps at stride 1, three at stride 2; at stride 3 two fit, the third sticks out and the last "
                 "row and column are never read.")

# %% [markdown]
# The formula against torch, on some two hundred combinations of size, kernel, stride, padding and dilation:

# %% tags=["ledger:eq-conv-output-size"]
cases = [(size, kernel, stride, padding, dilation)
         for size in (5, 8, 13) for kernel in (1, 2, 3, 5) for stride in (1, 2, 3) for padding in (0, 1, 2)
         for dilation in (1, 2) if dilation * (kernel - 1) < size + 2 * padding]
ours = [output_size(*case) for case in cases]
real = [torch_output_size(case[0], case[1], stride=case[2], padding=case[3], dilation=case[4]) for case in cases]
claims.check("eq-conv-output-size", sum(a == b for a, b in zip(ours, real, strict=True)), "==", len(cases),
             unit=f"of {len(cases)} cases agree with torch")

# %% [markdown]
# ### Explore it
#
# In JupyterLab there are sliders above the picture; on a printed or published page it stands still, at the stride that does not fit.
# On the left each pixel says how many windows read it, and the padding is grey; on the right stands the output.
# The first window and its taps are orange, and so is the last window, dashed.
#
# Things to look for:
#
# - a stride larger than the kernel;
# - a kernel larger than the picture;
# - at stride 1, a corner pixel, which one window reads, while nine read a pixel inside;
# - dilation 2 together with stride 2, of which more below.

# %%
def times_read(size, kernel_size, stride, padding, dilation):
    """For each place along a padded row, the number of windows that read it: shape (size + 2 padding,)."""
    starts = stride * np.arange(output_size(size, kernel_size, stride, padding, dilation))
    taps = dilation * np.arange(kernel_size)
    return np.bincount((starts[:, None] + taps).ravel(), minlength=size + 2 * padding)

# %%
def draw_reading(axes, reads, padding):
    """The padded image with the number of windows that read each pixel; pixels that none reads stand out."""
    counts = np.outer(reads, reads)
    side = len(reads)
    for (row, column), count in np.ndenumerate(counts):
        inside = padding <= row < side - padding and padding <= column < side - padding
        colour = "C3" if inside and not count else plt.get_cmap("Blues")(0.08 + 0.4 * count / counts.max())
        axes.add_patch(Rectangle((column, row), 1, 1, ec="0.6", lw=0.7, fc=colour if inside else "0.88"))
        if inside and side <= 16:
            axes.text(column + 0.5, row + 0.5, count, ha="center", va="center", fontsize=11,
                      color="0.2" if count else "white")
    axes.set(xlim=(-0.1, side + 0.1), ylim=(side + 0.1, -0.1), aspect="equal")
    axes.axis("off")

# %%
def draw_ends(axes, kernel, dilation, last):
    """The first window with its taps, and the last one, which starts at `last` (dashed)."""
    rows, columns = np.divmod(np.arange(kernel**2), kernel)
    axes.plot(dilation * columns + 0.82, dilation * rows + 0.2, "o", color="C1", markersize=5)
    span = dilation * (kernel - 1) + 1
    for start, line in ((0, "-"), (last, "--")):
        axes.add_patch(Rectangle((start, start), span, span, fill=False, ec="C1", lw=2.5, ls=line))

# %%
def draw_convolution(size, kernel, stride, padding, dilation):
    """The picture of the explorer and the sentence below it."""
    side = output_size(size, kernel, stride, padding, dilation)
    reads = times_read(size, kernel, stride, padding, dilation)
    fig, (left, right) = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.6), width_ratios=(3, 2))
    draw_reading(left, reads, padding)
    draw_ends(left, kernel, dilation, stride * (side - 1))
    for row, column in np.ndindex(side, side):
        right.add_patch(Rectangle((column, row), 1, 1, ec="white", lw=1, fc="C2"))
    right.set(xlim=(-0.1, max(side, 5) + 0.1), ylim=(max(side, 5) + 0.1, -0.1), aspect="equal")
    right.axis("off")
    unread = size**2 - np.count_nonzero(reads[padding:padding + size]) ** 2
    left.set_title(f"input {size} × {size}" + f", padded to {len(reads)} × {len(reads)}" * bool(padding))
    right.set_title(f"output {side} × {side}")
    return fig, f"output size {side} x {side}; {unread} of {size**2} pixels are never read"

# %% tags=["explorer"]
widgets.explore(draw_convolution, size=widgets.Slider(7, 1, 14), kernel=widgets.Slider(3, 1, 7),
                stride=widgets.Slider(3, 1, 5), padding=widgets.Slider(0, 0, 3), dilation=widgets.Slider(1, 1, 3))

# %% [markdown]
# Dilation 2 puts the taps on every second pixel, and stride 2 moves them by two: no window ever touches the pixels in between.
# With padding 1 a 7×7 picture loses 40 of its 49.
# The output size gives no hint of it.

# %%
read = np.count_nonzero(times_read(7, 3, stride=2, padding=1, dilation=2)[1:-1]) ** 2
claims.check("eq-conv-output-size.stride-and-dilation", int(read), "==", 9, unit="of 49 pixels are read")

# %% [markdown]
# ## 3 · Slide it over the whole picture
#
# The whole layer in one sentence: for every image, every filter and every place, cut out the window, multiply it by the filter, add it up.
# The window is as deep as the image has channels, and so is each filter; the result has one channel for each filter, called its *feature map*.
# One number of a map is a *unit*.
#
# Shapes are written with letters: $N$ images of $C$ channels and $H \times W$ pixels, $K$ filters of $R \times S$, maps of $H' \times W'$.
# (In a shape, $N$ counts images and $S$ is the width of a filter; in the formula above they were the input's size and the stride.)

# %% tags=["define"]
def pad(images, padding, value=0):
    """(N, C, H, W) with `padding` pixels of `value` added on all four sides."""
    return np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)), constant_values=value)

# %% tags=["define"]
def conv2d_naive(images, weight, bias=None, stride=1, padding=0):
    """Images (N, C, H, W) and filters (K, C, R, S) give (N, K, H', W'): a dot product for each place."""
    n, _, height, width = images.shape
    k, _, r, s = weight.shape
    padded = pad(images, padding)
    output = np.zeros((n, k, output_size(height, r, stride, padding), output_size(width, s, stride, padding)))
    for image, filter_, row, column in np.ndindex(output.shape):
        top, left = row * stride, column * stride
        window = padded[image, :, top:top + r, left:left + s]  # (C, R, S)
        output[image, filter_, row, column] = (window * weight[filter_]).sum()
    return output if bias is None else output + bias[:, None, None]

# %%
images, weight, bias = random.normal(size=(2, 3, 8, 7)), random.normal(size=(4, 3, 3, 2)), random.normal(size=4)
ours = conv2d_naive(images, weight, bias, stride=2, padding=1)
real = F.conv2d(*map(torch.tensor, (images, weight, bias)), stride=2, padding=1)
print(ours.shape)
claims.check("eq-conv2d-naive-im2col", float(abs(ours - real.numpy()).max()), "<", 1e-12, varies=True,
             note="largest difference from torch")

# %% [markdown]
# Now the curve detector can search.
# We hide the mouse's back on the left of a dark picture, cover the right half with bright paper, and slide the raw and the zero-mean filter over it.
#
# **Predict.** Where does each of them answer loudest?

# %%
scene = np.zeros((1, 1, 21, 31))
scene[0, 0, 7:14, 4:11] = MOUSE_BACK
scene[0, 0, :, 16:] = 50
answers = {"raw filter": conv2d_naive(scene, CURVE_FILTER[None, None])[0, 0],
           "zero-mean filter": conv2d_naive(scene, zero_mean[None, None])[0, 0]}
places = {name: np.unravel_index(answer.argmax(), answer.shape) for name, answer in answers.items()}

# %% tags=["ledger:fig-curve-filter"]
fig, axes = plt.subplots(1, 3, figsize=(figures.WIDTH, 2.3))
axes[0].imshow(scene[0, 0], cmap="gray", vmax=65)
axes[0].set_title("curve left, paper right")
for panel, (name, answer) in zip(axes[1:], answers.items(), strict=True):
    panel.imshow(answer, cmap=figures.DIVERGING, vmin=-9000, vmax=9000)
    row, column = places[name]
    panel.plot(column, row, "o", ms=13, mfc="none", mec="C1", mew=2.5, clip_on=False)
    panel.set_title(f"{name}: {answer.max():.0f}", pad=10)
for panel in axes:
    panel.set(xticks=[], yticks=[])
figures.save(fig, "fig-curve-filter.search",
             caption="A picture with the curve and bright paper, and the answers of the two filters; the circle marks "
                     "the largest (the first, where many are equal). Synthetic picture, no randomness.",
             alt="The raw filter answers loudest, 9000, all over the paper; the zero-mean filter on the curve.")

# %%
loudest = {name: tuple(int(number) for number in place) for name, place in places.items()}
claims.check("emp-conv-detects-features.raw", loudest["raw filter"][1], ">=", 11,
             note="column: the window lies on the paper")
claims.check("emp-conv-detects-features", loudest["zero-mean filter"], "==", (8, 4),
             note="we put the notes' window at (7, 4)")

# %% [markdown]
# "A filter responds strongly where its pattern is" is true of filters that add up to zero.
# With the filter as printed, every window on the paper is louder than the notes' window of the curve.
#
# But look at the row: the zero-mean filter is loudest at 8, and we put the notes' window at 7.
# The filter is right, and the notes' window is cut one pixel too high: one pixel lower all *six* taps meet ink.
# Nobody notices as long as the window is cut out by hand; sliding finds it.

# %%
torch_answer = F.conv2d(torch.tensor(scene), torch.tensor(CURVE_FILTER, dtype=torch.float64)[None, None])[0, 0]
claims.check("num-curve-filter-6600.conv2d", int(torch_answer[7, 4]), "==", 6600, note="torch, at the notes' window")
lower = scene[0, 0, 8:15, 4:11]
claims.check("num-curve-filter-6600.lower", int((lower * CURVE_FILTER).sum()), "==", 9000,
             note="one pixel below the notes' window")
claims.check("num-curve-filter-6600.lower-zero-mean", float((lower * zero_mean).sum()), "~", 6722.45, tolerance=0.01)

# %% [markdown]
# Is zero mean enough?
# The filter is quiet on paper, but not at its edges.
# A corner of a sheet gives 4592; the curve, drawn with ink of 30 instead of 50, gives only 4033.
# So the answer still grows with contrast.
# The remedy: subtract from the window its mean too, and divide by the lengths of both, the roots of their sums of squares.
# What remains is the cosine of the angle between window and filter, and the shape alone counts.

# %%
def cosine(window, filter_):
    """How alike two pictures are, brightness and contrast aside: -1 to 1."""
    window, filter_ = window - window.mean(), filter_ - filter_.mean()
    return float((window * filter_).sum() / np.sqrt((window**2).sum() * (filter_**2).sum()))


corner = np.where((np.arange(7)[:, None] < 6) & (np.arange(7) > 2), 50, 0)  # a sheet that ends at the left and below
faint = 0.6 * lower  # ink of 30
summed = [float((window * zero_mean).sum()) for window in (faint, corner)]
claims.check("emp-conv-detects-features.contrast", summed, "~", [4033.47, 4591.84], tolerance=0.01,
             note="faint curve, corner: contrast wins")
alike = [cosine(window, zero_mean) for window in (faint, corner)]
claims.check("emp-conv-detects-features.cosine", alike, "~", [0.650, 0.381], tolerance=1e-3,
             note="faint curve, corner: shape wins")

# %% [markdown]
# ## 4 · The border
#
# Without padding every layer makes the picture smaller, by $F-1$ pixels a side at stride 1.
#
# **Predict** how many layers of 5×5 a picture of 32×32 survives, and how many of 3×3.

# %%
def sizes(size, kernel_size):
    """The sizes of the maps through unpadded layers, until no window fits."""
    while size >= kernel_size:
        yield size
        size = output_size(size, kernel_size)
    yield size


print("5×5:", *sizes(32, 5))
print("3×3:", *sizes(32, 3))

# %%
claims.check("emp-shrinking-without-padding", list(sizes(32, 5)), "==", [32, 28, 24, 20, 16, 12, 8, 4])
claims.check("emp-shrinking-without-padding.3x3", list(sizes(32, 3))[15], "==", 2, unit="pixels after 15 layers of 3×3")

# %% [markdown]
# Seven layers of 5×5, fifteen of 3×3, and no window fits any more.
# So one pads.
# At stride 1, $P = (F-1)/2$ gives back what the filter takes: *same* padding.
# It needs an odd filter; for an even one the formula asks for half a pixel.

# %% tags=["ledger:prac-zero-pad-same"]
same = {kernel: (kernel - 1) // 2 for kernel in (1, 3, 5, 7)}
print({f"{kernel}×{kernel}": padding for kernel, padding in same.items()})
kept = [output_size(32, kernel, padding=padding) for kernel, padding in same.items()]
claims.check("num-same-padding-rule", [same[3], same[5], same[7]], "==", [1, 2, 3])
claims.check("prac-zero-pad-same", kept, "==", [32, 32, 32, 32])
claims.check("num-same-padding-rule.even", [output_size(32, 4, padding=1), output_size(32, 4, padding=2)], "==",
             [31, 33], note="an even filter gives one pixel less or one more, never 32")
padded = [(32 - 5) // 1 + 1, output_size(32, 5, padding=2), torch_output_size(32, 5, padding=2)]
claims.check("err-conv-formula-no-pad", padded, "==", [28, 32, 32], note="the notes' formula, ours, torch")

# %% [markdown]
# The notes' example: 32×32 pixels with 3 channels get a border of two zeros on every side, and three filters of 5×5 give 32×32 again.
# How their 228 parameters are counted is the subject of section 5.

# %%
volume = pad(np.ones((1, 3, 32, 32)), 2)
layer = nn.Conv2d(3, 3, 5)
claims.check("num-pad-36x36x3", volume.shape[1:], "==", (3, 36, 36), note="channels first")
claims.check("num-pad-36x36x3.output", tuple(layer(torch.tensor(volume, dtype=layer.weight.dtype)).shape[1:]), "==",
             (3, 32, 32))
claims.check("num-pad-36x36x3.parameters", sum(p.numel() for p in layer.parameters()), "==", 228)

# %% tags=["ledger:fig-conv-stride-padding"]
fig, axes = plt.subplots(figsize=(figures.WIDTH, 3.9))
axes.add_patch(Rectangle((0, 0), 36, 36, fc="0.88", ec="0.5"))
axes.add_patch(Rectangle((2, 2), 32, 32, fc="C0", alpha=0.35))
for row, column in [(0, 0), (0, 31), (31, 0), (31, 31)]:
    axes.add_patch(Rectangle((column, row), 5, 5, fc="none", ec="C1", lw=2.5))
    axes.plot(column + 2.5, row + 2.5, "o", ms=4, color="C1")
axes.text(18, 18, "32 × 32 × 3", ha="center", va="center", fontsize=14)
words = "the first and the last window of a row\nare centred on its first and last pixel:\n32 windows"
axes.text(37.5, 2.5, words, va="center")
axes.text(37.5, 18, "with two zeros on every side:\n36 × 36 × 3", va="center")
axes.set(xlim=(-0.5, 75), ylim=(36.5, -0.5), aspect="equal")
axes.axis("off")
figures.save(fig, "fig-conv-stride-padding.border",
             caption="The notes' padded volume, seen from the front, with the four windows of 5×5 in its corners.",
             alt="A square of 32 pixels in a frame of two zeros; the corner windows are centred on its corner pixels.")

# %% [markdown]
# What do the zeros do to the answer?
# Take a picture in which nothing happens, a constant 1, and a filter that averages nine pixels.
# Every honest answer is 1.

# %%
constant, average = np.ones((1, 1, 6, 6)), np.full((1, 1, 3, 3), 1 / 9)
answer = conv2d_naive(constant, average, padding=1)[0, 0]
print(answer.round(2))
claims.check("emp-padding-border-artefact", [answer[0, 0], answer[0, 3], answer[3, 3]], "~", [4 / 9, 6 / 9, 1],
             tolerance=1e-12, note="corner, edge, inside")

# %% [markdown]
# The border looks darker, as if there were a frame around the picture: "adding zeros gives another features to the edges", say the notes, and so it does.
# The alternatives repeat the last pixel, mirror the picture, or wrap it around like a globe.
# None of them invents a frame on a constant picture.
# Each invents something on a picture that changes, so let us look at a ramp, brighter by 1 with every column, and ask how steep it is.

# %%
MODES = {"zeros": "constant", "replicate": "edge", "reflect": "reflect", "circular": "wrap"}  # torch's name: numpy's
ramp = np.tile(np.arange(8.0), (8, 1))
slope = np.array([[-0.5, 0, 0.5]])  # difference of the two neighbours, halved: 1 everywhere on the ramp
framed = {name: np.pad(constant[0, 0], 1, mode=mode) for name, mode in MODES.items()}
blurred = {name: conv2d_naive(values[None, None], average)[0, 0] for name, values in framed.items()}
steep = {name: conv2d_naive(np.pad(ramp, ((0, 0), (1, 1)), mode=mode)[None, None], slope[None, None])[0, 0, 0]
         for name, mode in MODES.items()}

# %% tags=["ledger:emp-padding-border-artefact"]
fig, axes = plt.subplots(1, 4, figsize=(figures.WIDTH, 2.6), sharey=True)
for panel, (name, values) in zip(axes, steep.items(), strict=True):
    wrong = ~np.isclose(values, 1)
    panel.axhline(1, color="0.7", lw=1)
    panel.bar(range(8), values, color=np.where(wrong, "C3", "C0"))
    panel.plot(np.flatnonzero(wrong), values[wrong], "o", color="C3")
    panel.set(title=name, xlabel="column", xticks=(0, 7))
axes[0].set_ylabel("measured slope")
figures.save(fig, "emp-padding-border-artefact",
             caption="The slope of a ramp that rises by 1 per pixel, measured by a filter under four kinds of padding. "
                     "Blue: right. Magenta: invented by the border.",
             alt="Inside all four measure 1. Zeros and circular padding invent a cliff at the border, replicate halves "
                 "the slope, reflect sets it to 0.")

# %%
flat = [bool(np.allclose(blurred[name], 1)) for name in MODES]
claims.check("emp-padding-border-artefact.constant", flat, "==", [False, True, True, True], note=", ".join(MODES))
worst = [float(abs(steep[name] - 1).max()) for name in MODES]
claims.check("emp-padding-border-artefact.ramp", worst, "~", [4.0, 0.5, 1.0, 4.0], tolerance=1e-12,
             note="largest error on the ramp")
layers = [nn.Conv2d(1, 1, 3, padding=1, padding_mode=name, bias=False) for name in MODES]
for layer in layers:
    nn.init.constant_(layer.weight, 1 / 9)
real = [layer(torch.tensor(constant, dtype=layer.weight.dtype))[0, 0].detach().numpy() for layer in layers]
agree = [np.allclose(a, b) for a, b in zip(real, blurred.values(), strict=True)]
claims.check("emp-padding-border-artefact.torch", agree, "==", [True] * 4, note="torch pads the same way")

# %% [markdown]
# No padding is free of invention.
# Zeros are what frameworks pad with unless told otherwise, and a network can even make use of the frame: it tells a unit how far it is from the border (Islam et al. 2020).

# %% [markdown]
# ## 5 · Channels, filters, parameters
#
# Six filters of 5×5 on a colour picture of 32×32.
# A filter always runs through *all* channels of its input, so it has $5 \cdot 5 \cdot 3$ weights and one bias.
# In general a layer of $K$ filters on $C$ channels has $K(F^2 C + 1)$ parameters.
#
# **Predict** the output shape and the number of parameters; then do the same for ten filters of 5×5 on top of these six.

# %%
def parameters(module):
    """How many numbers a module learns."""
    return sum(p.numel() for p in module.parameters())


first, second = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 10, 5)
maps = first(torch.zeros(1, 3, 32, 32))
claims.check("num-conv-28x28x6", tuple(maps.shape[1:]), "==", (6, 28, 28))
claims.check("num-conv-28x28x6.relu", F.relu(maps).shape[1:], "==", (6, 28, 28), note="ReLU keeps the shape")
claims.check("num-conv-28x28x6.one", tuple(nn.Conv2d(3, 1, 5)(torch.zeros(1, 3, 32, 32)).shape[1:]), "==", (1, 28, 28))
claims.check("num-conv-28x28x6.parameters", parameters(first), "==", 456)
claims.check("num-conv-24x24x10", tuple(second(maps).shape[1:]), "==", (10, 24, 24))
claims.check("num-conv-24x24x10.parameters", parameters(second), "==", 1510)

# %% [markdown]
# The second layer's filters are 5×5×6, because the first layer made six maps.
# The notes give only the shape of its output, and that tells the number of its filters: ten.
#
# And what would a fully connected (*dense*) layer cost that turns the same picture into the same 28×28×6 numbers?

# %%
with torch.device("meta"):  # shapes without memory
    dense = nn.Linear(3 * 32 * 32, 6 * 28 * 28)
claims.check("num-conv-28x28x6.dense", parameters(dense), "==", 14_455_392)
claims.check("num-conv-28x28x6.ratio", round(parameters(dense) / parameters(first)), "==", 31_700, unit="times as many")

# %% [markdown]
# 456 against 14 million, for the same shape.
# Two ideas make the difference, and section 6 shows both in one picture: a unit looks at a window only, and all windows share one filter.
#
# Ten filters with padding, as in the notes:

# %%
layer = nn.Conv2d(3, 10, 5, padding=2)
one_filter = layer.weight[0].numel() + layer.bias[0].numel()
claims.check("num-conv-10-filters-output", tuple(layer(torch.zeros(1, 3, 32, 32)).shape[1:]), "==", (10, 32, 32))
claims.check("num-conv-params-per-filter-76", one_filter, "==", 5 * 5 * 3 + 1)
claims.check("num-conv-params-760", parameters(layer), "==", 760, note="the notes print 76 * 10 = 76")
claims.check("err-conv-76x10", one_filter * 10, "==", 760)

# %% [markdown]
# Parameters say how much is *stored*; they do not say how much is *done*.
# Every weight is used again at every output position: these 750 weights cost $32 \cdot 32 \cdot 750 = 768{,}000$ multiplications for one picture.

# %%
multiply_adds = 32 * 32 * layer.weight.numel()  # output positions × K × F × F × C
claims.check("eq-conv-output-size.multiply-adds", multiply_adds, "==", 768_000)

# %% [markdown]
# ### Which layers have parameters at all?
#
# Some of these layers are the subject of later lessons; here we only count what they learn.

# %% tags=["ledger:prac-layer-types-with-params"]
kinds = [nn.Conv2d(8, 8, 3), nn.Linear(8, 8), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2),
         nn.LocalResponseNorm(5), nn.Dropout(0.5), nn.Softmax(dim=1)]
counts = {type(kind).__name__: parameters(kind) for kind in kinds}
for name, count in counts.items():
    print(f"{name:18} {count:4}")
claims.check("prac-layer-types-with-params", [name for name, count in counts.items() if count], "==",
             ["Conv2d", "Linear", "BatchNorm2d"])

# %% [markdown]
# Convolution, dense layers and batch normalisation learn; the others only have hyperparameters (a window, a rate) or nothing at all.
#
# The notes write a dense layer's data in columns, $X$ of shape $(D, M)$ for $M$ examples, with weights $(H, D)$.
# Torch writes examples in rows, $(M, D)$.
# The weights have the same shape either way:

# %%
D, M, H = 12, 5, 4
columns, dense = random.normal(size=(D, M)), random.normal(size=(H, D))
claims.check("eq-fc-layer-shapes", (dense @ columns).shape, "==", (H, M), note="columns, as in the notes")
claims.check("eq-fc-layer-shapes.torch", tuple(nn.Linear(D, H).weight.shape), "==", (H, D))
in_rows = F.linear(torch.tensor(columns.T), torch.tensor(dense)).numpy()
claims.check("eq-fc-layer-shapes.rows", bool(np.allclose(in_rows, (dense @ columns).T)), "==", True)

# %% [markdown]
# ### Letting the layers count for themselves
#
# The notes write an "approximate AlexNet" with *flex* layers, which find out their input size when they see the first picture.
# In torch they are called lazy.
# We can run that network on the *meta* device, where tensors have a shape and no contents.
#
# **Predict** how many parameters it has. AlexNet has 61 million.

# %%
warnings.filterwarnings("ignore", message="Lazy modules")
with torch.device("meta"):
    flex = nn.Sequential(
        nn.LazyConv2d(96, 11), nn.ReLU(), nn.MaxPool2d(2),
        nn.LazyConv2d(384, 3), nn.ReLU(), nn.LazyConv2d(384, 3), nn.ReLU(), nn.LazyConv2d(256, 3),
        nn.Flatten(), nn.LazyLinear(4096), nn.ReLU(), nn.LazyLinear(4096), nn.ReLU(), nn.LazyLinear(1000))
    shape = torch.empty(1, 3, 224, 224)
    for module in flex:
        shape = module(shape)
        if parameters(module) or isinstance(module, nn.MaxPool2d | nn.Flatten):
            print(f"{type(module).__name__:10} {str(tuple(shape.shape[1:])):16} {parameters(module):14,}")

# %%
claims.check("arch-flex-lazy-layers", flex[-5].in_features, "==", 256 * 101 * 101, note="counted by the layer itself")
claims.check("arch-flex-lazy-layers.parameters", parameters(flex), "==", 10_719_985_768)

# %% [markdown]
# 10.7 billion, for the sketch of a network that has 61 million.
# The sketch left out the stride of 4, two of the three poolings and one convolution.
# So the maps stay 101 pixels wide, and the first dense layer swallows 2,611,456 inputs.
# That is what lazy layers are good at, and what is dangerous about them: nothing complained.
#
# ### Must the number of filters be a power of two?
#
# The notes say so, "to vectorise well".
# The numbers are the time per filter of a layer with 60 to 64 filters, divided by that with 64.
# If 64 were special, the others would lie well above 1.
# Timings differ from machine to machine, so they are shown and not tested.

# %% tags=["ledger:prac-power-of-two-filters", "nbval-ignore-output"]
def seconds_per_filter(counts, repeats=30):
    """Shortest time of a 3×3 layer on 32 channels of 28×28 pixels, divided by its filters; in turns, to be fair."""
    picture, best = torch.randn(4, 32, 28, 28), dict.fromkeys(counts, np.inf)
    for filters in [*counts] * repeats:
        weight = torch.randn(filters, 32, 3, 3)
        start = time.perf_counter()
        F.conv2d(picture, weight)
        best[filters] = min(best[filters], (time.perf_counter() - start) / filters)
    return best


best = seconds_per_filter(range(60, 65))
print({filters: round(taken / best[64], 2) for filters, taken in best.items()})

# %% [markdown]
# ## 6 · The same thing without loops, and backwards
#
# Four nested loops in Python are slow.
# But write the windows of a picture side by side, as the columns of a matrix: then one matrix product does all the dot products.
# This trick is called *im2col*.
# It copies each pixel up to $F^2$ times and is still worth it, because few things on a computer are tuned as well as a matrix product.

# %% tags=["define"]
def windows(images, height, width, stride=1):
    """All windows without copying: (N, C, H, W) gives a view (N, C, H', W', height, width)."""
    return sliding_window_view(images, (height, width), axis=(2, 3))[:, :, ::stride, ::stride]

# %% tags=["define"]
def im2col(images, height, width, stride=1, padding=0):
    """Each window as a column: (N, C, H, W) gives (N, C · height · width, H' · W')."""
    view = windows(pad(images, padding), height, width, stride)
    n, c, rows, columns = view.shape[:4]
    return view.transpose(0, 1, 4, 5, 2, 3).reshape(n, c * height * width, rows * columns)

# %% tags=["define"]
def conv2d_im2col(images, weight, bias=None, stride=1, padding=0):
    """The same numbers as `conv2d_naive`, (N, C, H, W) and (K, C, R, S) to (N, K, H', W'), by matrix products."""
    k, c, r, s = weight.shape
    rows, places = (output_size(size, kernel, stride, padding)
                    for size, kernel in zip(images.shape[2:], (r, s), strict=True))
    view = windows(pad(images, padding), r, s, stride).transpose(0, 1, 4, 5, 2, 3)  # (N, C, R, S, H', W')
    output = np.empty((len(images), k, rows * places), np.result_type(images, weight))
    for image, columns in zip(output, view, strict=True):  # one picture's columns fit into the processor's cache
        np.matmul(weight.reshape(k, -1), columns.reshape(c * r * s, -1), out=image)  # (K, CRS) @ (CRS, H'W')
    if bias is not None:
        output += bias[:, None]
    return output.reshape(len(images), k, rows, places)

# %%
images, weight, bias = random.normal(size=(2, 3, 8, 7)), random.normal(size=(4, 3, 3, 2)), random.normal(size=4)
columns = im2col(images, 3, 2, stride=2, padding=1)
print("columns", columns.shape, "from", images.shape)
difference = conv2d_im2col(images, weight, bias, 2, 1) - conv2d_naive(images, weight, bias, 2, 1)
claims.check("eq-conv2d-naive-im2col.im2col", float(abs(difference).max()), "<", 1e-12, varies=True)

# %% [markdown]
# On one thread this takes two to three times as long as torch's own convolution on layers of usual size; the loops take tens of times as long (`benchmarks/conv.py`).
#
# A convolution is linear in the picture.
# So there must be one matrix that does it all: flattened picture in, flattened map out.
# To find it, push each pixel through alone; what comes out is its column.

# %% tags=["define"]
def as_matrix(weight, size, stride=1, padding=0):
    """The matrix (K · H' · W', C · size²) that is this convolution, for square pictures."""
    pixels = np.eye(weight.shape[1] * size**2).reshape(-1, weight.shape[1], size, size)  # each pixel alone
    return conv2d_im2col(pixels, weight, None, stride, padding).reshape(len(pixels), -1).T

# %%
weight = np.arange(1.0, 10).reshape(1, 1, 3, 3)  # nine different weights, to be recognised
matrix = as_matrix(weight, size=6)
picture = random.normal(size=(1, 1, 6, 6))
same = np.allclose(matrix @ picture.ravel(), conv2d_im2col(picture, weight).ravel())
claims.check("eq-conv-as-matrix", bool(same), "==", True, note="matrix times picture = convolution")
claims.check("eq-conv-as-matrix.shape", matrix.shape, "==", (16, 36))
claims.check("eq-conv-as-matrix.nonzero", int((matrix != 0).sum()), "==", 16 * 9, unit="of 576 entries are not zero")
claims.check("eq-conv-as-matrix.shared", len(np.unique(matrix)) - 1, "==", 9, unit="different weights")

# %% tags=["ledger:eq-conv-as-matrix"]
fig, axes = plt.subplots(figsize=(figures.WIDTH, 4))
axes.imshow(np.where(matrix == 0, np.nan, matrix), cmap=figures.SEQUENTIAL)
axes.set(xlabel="pixel of the 6×6 picture", ylabel="place in the 4×4 map",
         xticks=range(0, 36, 6), yticks=range(0, 16, 4))
axes.hlines(np.arange(0, 16, 4) - 0.5, -0.5, 35.5, color="0.8", lw=0.8)
axes.vlines(np.arange(0, 36, 6) - 0.5, -0.5, 15.5, color="0.8", lw=0.8)
figures.save(fig, "eq-conv-as-matrix",
             caption="A 3×3 convolution of a 6×6 picture, written as a matrix. White: zero. Each colour is one of nine "
                     "weights. Lines: rows of the picture and of the map.",
             alt="A band matrix made of smaller band matrices: of 576 entries 144 are not zero, and they hold only "
                 "nine different numbers.")

# %% [markdown]
# This is the dense layer that the convolution *is*.
# White is what "looks at a window only" saves; the repeated diagonals are what "one filter for all windows" saves.
# A matrix with constant diagonals is called a Toeplitz matrix.
# Here the small matrices have them, and are repeated along the diagonals of the large one: it is *doubly block Toeplitz*.
#
# The other direction holds too: a dense layer is a convolution whose filter is as large as the picture.
# Written that way it can slide over a larger picture and answer at every place of it, not once for the whole.

# %%
dense = nn.Linear(3 * 4 * 4, 10)
as_conv = dense.weight.view(10, 3, 4, 4)
batch = torch.randn(2, 3, 4, 4)
equal = torch.allclose(dense(batch.flatten(1)), F.conv2d(batch, as_conv, dense.bias).flatten(1), atol=1e-5)
claims.check("eq-conv-as-matrix.dense-is-conv", equal, "==", True)
print("on a 9×9 picture the same layer answers", tuple(F.conv2d(torch.randn(1, 3, 9, 9), as_conv).shape))

# %% [markdown]
# ### Backwards
#
# The matrix tells what the gradient is before we have written a line: if $y = Mx$, then the gradient of $x$ is $M^\top$ times the gradient of $y$.
# What im2col has spread out is gathered again, and a pixel that was copied nine times gets a sum of nine.

# %% tags=["define"]
def col2im(columns, shape, height, width, stride=1, padding=0):
    """The transpose of `im2col`: columns are added to where they came from, images of `shape` (N, C, H, W)."""
    n, c, h, w = shape
    rows, places = output_size(h, height, stride, padding), output_size(w, width, stride, padding)
    columns = columns.reshape(n, c, height, width, rows, places)
    padded = np.zeros((n, c, h + 2 * padding, w + 2 * padding), columns.dtype)
    for row, column in np.ndindex(height, width):  # one tap of all windows at a time
        down, right = slice(row, row + stride * rows, stride), slice(column, column + stride * places, stride)
        padded[:, :, down, right] += columns[:, :, row, column]
    return padded[:, :, padding:padding + h, padding:padding + w]

# %% tags=["define"]
def conv2d_backward(grad_output, images, weight, stride=1, padding=0):
    """Gradients of images, weight and bias from that of the output, (N, K, H', W')."""
    k, _, r, s = weight.shape
    grad = grad_output.reshape(*grad_output.shape[:2], -1)  # (N, K, H'W')
    columns = im2col(images, r, s, stride, padding)  # (N, CRS, H'W')
    grad_weight = (grad @ columns.transpose(0, 2, 1)).sum(0).reshape(weight.shape)
    grad_columns = weight.reshape(k, -1).T @ grad  # (N, CRS, H'W')
    grad_images = col2im(grad_columns, images.shape, r, s, stride, padding)
    return grad_images, grad_weight, grad_output.sum((0, 2, 3))

# %%
images, weight, bias = random.normal(size=(2, 3, 8, 7)), random.normal(size=(4, 3, 3, 2)), random.normal(size=4)
grad_output = random.normal(size=conv2d_naive(images, weight, bias, 2, 1).shape)
ours = conv2d_backward(grad_output, images, weight, stride=2, padding=1)
tensors = [torch.tensor(array, requires_grad=True) for array in (images, weight, bias)]
F.conv2d(*tensors, stride=2, padding=1).backward(torch.tensor(grad_output))
difference = max(float(abs(a - b.grad.numpy()).max()) for a, b in zip(ours, tensors, strict=True))
claims.check("eq-conv2d-naive-im2col.backward", difference, "<", 1e-12, varies=True,
             note="largest difference from autograd")

# %%
weight, grad_output = np.arange(1.0, 10).reshape(1, 1, 3, 3), random.normal(size=(1, 1, 4, 4))
grad_picture = conv2d_backward(grad_output, picture, weight)[0]
same = np.allclose(matrix.T @ grad_output.ravel(), grad_picture.ravel())
claims.check("eq-conv-as-matrix.transpose", bool(same), "==", True, note="the backward pass is the transposed matrix")

# %% [markdown]
# ## 7 · Pooling
#
# Pooling also slides a window, and asks each channel by itself for the largest or the mean value.
# Usually the windows do not overlap: 2×2 at stride 2, written 2×2/2.

# %% tags=["define"]
def pool_windows(images, kernel_size, stride, padding, border):
    """The windows of a pooling layer, (N, C, H', W', kernel_size, kernel_size); no window lies in the padding alone."""
    if not 0 <= padding <= kernel_size // 2:
        raise ParameterError(f"a padding of at most half the window, {kernel_size // 2}", padding, where="pooling",
                             remedy="a window in the padding alone would see nothing")
    output_size(min(images.shape[2:]), kernel_size, stride or kernel_size, padding)
    return windows(pad(images, padding, border), kernel_size, kernel_size, stride or kernel_size)

# %% tags=["define"]
def max_pool2d(images, kernel_size, stride=None, padding=0):
    """The largest value of each window: (N, C, H, W) gives (N, C, H', W'); the stride is the window by default."""
    images = images.astype(np.result_type(images, np.float32))  # whole numbers have no minus infinity
    return pool_windows(images, kernel_size, stride, padding, -np.inf).max((4, 5))

# %% tags=["define"]
def avg_pool2d(images, kernel_size, stride=None, padding=0):
    """The mean of each window: (N, C, H, W) gives (N, C, H', W'); zeros of the padding count, as in torch."""
    return pool_windows(images, kernel_size, stride, padding, 0).mean((4, 5))

# %%
grid = np.array([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]], float)[None, None]
print("max", max_pool2d(grid, 2).tolist(), "average", avg_pool2d(grid, 2).tolist())

# %% tags=["ledger:fig-maxpool-png"]
fig, axes = plt.subplots(1, 3, figsize=(figures.WIDTH, 3.4), width_ratios=(2, 1, 1))
for panel, values, title in [(axes[0], grid[0, 0], "4 × 4"), (axes[1], max_pool2d(grid, 2)[0, 0], "max 2 × 2 / 2"),
                             (axes[2], avg_pool2d(grid, 2)[0, 0], "average 2 × 2 / 2")]:
    for (row, column), value in np.ndenumerate(values):
        block = (row, column) if len(values) == 2 else (row // 2, column // 2)
        panel.add_patch(Rectangle((column, row), 1, 1, fc=f"C{block[0] * 2 + block[1]}", alpha=0.35, ec="white", lw=3))
        bold = len(values) == 4 and value == max_pool2d(grid, 2)[0, 0][block]
        panel.text(column + 0.5, row + 0.5, f"{value:g}", ha="center", va="center", fontsize=17,
                   weight="bold" if bold else "normal")
    panel.set(title=title, xlim=(0, len(values)), ylim=(len(values), 0), aspect="equal")
    panel.axis("off")
figures.save(fig, "fig-maxpool-png",
             caption="Pooling with windows of 2×2 at stride 2: each colour is a window, bold is its largest value.",
             alt="From sixteen numbers max pooling keeps 6, 8, 3, 4; average pooling keeps 3.25, 5.25, 2, 2.")

# %% [markdown]
# **Predict.** Backwards, which of the four pixels gets the gradient?
#
# The average shares it out evenly.
# The maximum depends on one pixel only, so that one gets everything, and where two are equally large, torch gives it to the first.

# %% tags=["define"]
def max_pool2d_backward(grad_output, images, kernel_size, stride=None, padding=0):
    """The gradient of the images: everything goes to the first largest pixel of each window."""
    stride = stride or kernel_size
    images = images.astype(np.result_type(images, np.float32))
    view = pool_windows(images, kernel_size, stride, padding, -np.inf)
    winner = view.reshape(*view.shape[:4], -1).argmax(-1)  # argmax takes the first
    taps = (winner[..., None] == np.arange(kernel_size**2)) * grad_output[..., None]  # (N, C, H', W', taps)
    return col2im(taps.transpose(0, 1, 4, 2, 3), images.shape, kernel_size, kernel_size, stride, padding)

# %% tags=["define"]
def avg_pool2d_backward(grad_output, images, kernel_size, stride=None, padding=0):
    """The gradient of the images: each pixel of a window gets the same share."""
    taps = np.repeat(grad_output[:, :, None], kernel_size**2, axis=2) / kernel_size**2
    return col2im(taps, images.shape, kernel_size, kernel_size, stride or kernel_size, padding)

# %%
images, ties = random.normal(size=(2, 3, 9, 9)), random.integers(0, 3, size=(2, 3, 9, 9)).astype(float)
worst = 0.0
for values in (images, ties):
    for kernel, stride in [(2, 2), (3, 2)]:  # apart, and overlapping
        for forward, backward, real in [(max_pool2d, max_pool2d_backward, F.max_pool2d),
                                        (avg_pool2d, avg_pool2d_backward, F.avg_pool2d)]:
            tensor = torch.tensor(values, requires_grad=True)
            output = real(tensor, kernel, stride)
            grad = random.normal(size=output.shape)
            output.backward(torch.tensor(grad))
            worst = max(worst, abs(forward(values, kernel, stride) - output.detach().numpy()).max(),
                        abs(backward(grad, values, kernel, stride) - tensor.grad.numpy()).max())
claims.check("eq-max-avg-pooling", float(worst), "<", 1e-12, varies=True,
             note="largest difference from torch, ties too")

# %% [markdown]
# AlexNet pooled with windows of 3×3 at stride 2, so that neighbours overlap by one row or column.
# Whether that generalises better is not measured here; the paper's own numbers are quoted below the figure.

# %% tags=["ledger:fig-overlap-pooling"]
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4))
for panel, kernel in zip(axes, (2, 3), strict=True):
    for row, column in np.ndindex(7, 7):
        panel.add_patch(Rectangle((column, row), 1, 1, fc="white", ec="0.8"))
    for row, column in np.ndindex(3, 3):
        panel.add_patch(Rectangle((2 * column + 0.08, 2 * row + 0.08), kernel - 0.16, kernel - 0.16, alpha=0.3,
                                  fc=f"C{(row + column) % 2}", ec="none"))
    panel.set(title=f"{kernel} × {kernel} / 2: {'overlapping' if kernel == 3 else 'side by side'}",
              xlim=(-0.1, 7.1), ylim=(7.1, -0.1), aspect="equal")
    panel.axis("off")
figures.save(fig, "fig-overlap-pooling",
             caption="Windows of 2×2 and of 3×3, both at stride 2, on a 7×7 map. Two colours "
                     "tell neighbours apart; darker: read by two or four windows.",
             alt="2×2 windows stand side by side and leave the last row and column out; 3×3 windows overlap by one "
                 "pixel and cover the map.")

# %%
claims.quoted("fig-overlap-pooling", "3×3/2 instead of 2×2/2 lowers the top-1 and top-5 errors by 0.4 and 0.3 points",
              "Krizhevsky et al. 2012, section 3.4")

# %% [markdown]
# ### Can pooling learn?
#
# The notes say that average pooling "might be learnable".
# Plain average pooling has no parameters.
# Its ancestor in LeNet-5, the layers S2 with 6 maps and S4 with 16, had two for each map, a gain and a bias, and squashed the result.

# %% tags=["define"]
def lenet_subsampling(images, gain, bias):
    """LeNet-5's S layers, (N, C, H, W) to (N, C, H/2, W/2): one gain and one bias a map (LeCun et al. 1998, II.B)."""
    total = windows(images, 2, 2, stride=2).sum((4, 5))
    return 1.7159 * np.tanh(2 / 3 * (gain[:, None, None] * total + bias[:, None, None]))

# %%
learned = {"S2": np.zeros((2, 6)), "S4": np.zeros((2, 16))}  # gain and bias of each map
claims.check("err-avgpool-learnable", parameters(nn.AvgPool2d(2)), "==", 0)
claims.check("eq-max-avg-pooling.lenet", [array.size for array in learned.values()], "==", [12, 32], note="S2 and S4")
small = 1e-4 * images[:, :, :8, :8]  # where tanh is straight, a gain of 1/4 makes it a scaled average
scaled = lenet_subsampling(small, np.full(3, 0.25), np.zeros(3)) / (1.7159 * 2 / 3)
same = np.allclose(scaled, avg_pool2d(small, 2), rtol=1e-6, atol=1e-12)
claims.check("eq-max-avg-pooling.lenet-average", bool(same), "==", True)

# %% [markdown]
# ### What max pooling is called elsewhere
#
# "Somewhat similar to morphological operations", say the notes.
# It is one: at stride 1, max pooling *is* the grey dilation of image processing, in which bright things grow, and at stride 2 it is every second pixel of it.
# (The word has nothing to do with the dilation of a filter.)

# %%
photo = data.photos()["camera"][:1].numpy().astype(float)
dilated = grey_dilation(photo[0], np.ones((3, 3)))
claims.check("emp-maxpool-morphology", float(abs(max_pool2d(photo[None], 3, 1, 1)[0, 0] - dilated).max()), "==", 0.0)
claims.check("emp-maxpool-morphology.strided", max_pool2d(photo[None], 3, 2, 1)[0, 0], "==", dilated[::2, ::2])

# %% [markdown]
# ### Does pooling make a network blind to small shifts?
#
# Take one bright pixel and move it one step to the right.
#
# **Predict** for how many of its places the output of 2×2/2 pooling stays exactly the same.

# %%
def unchanged(column):
    """Whether pooling overlooks that a pixel moves from `column` to the next."""
    before, after = np.zeros((2, 1, 1, 4, 16))
    before[0, 0, 1, column] = after[0, 0, 1, column + 1] = 1
    return bool((max_pool2d(before, 2) == max_pool2d(after, 2)).all())


claims.check("emp-pooling-translation-invariance.half", sum(unchanged(column) for column in range(14)), "==", 7,
             unit="of 14 places", note="within a window, not across its border")

# %% [markdown]
# Half of the time it notices nothing, half of the time everything changes.
# For real features the truth lies between.
# We move digits by one pixel, look at them through eight edge filters, and measure the change of the features, divided by their size: 0 if nothing changes.

# %% tags=["define"]
def edge_filters(count=8):
    """Filters (count, 1, 5, 5) that answer to an edge in each direction; each adds up to zero."""
    y, x = np.mgrid[-2:3, -2:3]
    angles = 2 * np.pi * np.arange(count) / count
    slope = np.cos(angles)[:, None, None] * x + np.sin(angles)[:, None, None] * y
    return (slope * np.exp(-(x**2 + y**2) / 4))[:, None]

# %%
def change(shift, pooling):
    """How much the features change, relative to their size, when digits move right by `shift` pixels."""
    maps = []
    for left in (6, 6 + shift):
        boards = np.zeros((200, 1, 20, 20))
        boards[:, :, 6:14, left:left + 8] = data.digits(train=True).images[:200].numpy() / 255
        maps.append(pooling(np.maximum(conv2d_im2col(boards, edge_filters(), padding=2), 0)))
    distance = np.linalg.norm((maps[1] - maps[0]).reshape(200, -1), axis=1)
    return float((distance / np.linalg.norm(maps[0].reshape(200, -1), axis=1)).mean()), maps[0][0].size


unpooled, pooled = change(1, lambda maps: maps), change(1, lambda maps: max_pool2d(maps, 2))
coarser, far = change(1, lambda maps: max_pool2d(maps, 4)), change(4, lambda maps: max_pool2d(maps, 2))
print("relative change: none {:.2f}, 2×2 {:.2f}, 4×4 {:.2f}".format(unpooled[0], pooled[0], coarser[0]))

# %%
claims.check("emp-pooling-translation-invariance", pooled[0] / unpooled[0], "<", 0.85,
             note="times the unpooled change, 1 px")
claims.check("emp-pooling-translation-invariance.coarser", coarser[0] / unpooled[0], "<", 0.65, note="4×4 windows")
claims.check("emp-pooling-translation-invariance.limit", far[0], ">", 1.0, note="a shift of 4 px is beyond the window")
claims.check("emp-pooling-translation-invariance.memory", unpooled[1] / pooled[1], "==", 4.0, unit="times fewer numbers")

# %% [markdown]
# So "translation invariant" is too strong a word.
# Pooling softens small shifts, by a fifth for 2×2 here.
# A digit that moves by 4 pixels is a different picture to it.
#
# ### Maximum or average?
#
# "Max pooling replaces average pooling" is the notes' line.
# It depends on what one looks for, and two tasks show it.
# In the first, half of the noisy pictures hide one bright pixel.
# In the second, half of them are a shade brighter all over.
# Both times a linear classifier has to tell the halves apart, and all it sees is 4 numbers, pooled from 8×8 pixels each.

# %%
def noisy_pictures(task, count, generator):
    """Noise (count, 1, 16, 16); every second one hides a bright pixel, or is brighter by 0.15 all over."""
    pictures, labels = generator.normal(size=(count, 1, 16, 16)), np.arange(count) % 2
    if task == "density":
        return pictures + 0.15 * labels[:, None, None, None], labels
    rows, columns = generator.integers(16, size=(2, count))
    pictures[np.arange(count), 0, rows, columns] += 6 * labels
    return pictures, labels

# %%
def pooled_accuracy(task, pooling, seed):
    """Accuracy of a linear classifier on the pooled pictures: 600 to learn from, 2000 to be tested on."""
    generator = np.random.default_rng(seed)
    (train, labels), (test, truth) = (noisy_pictures(task, count, generator) for count in (600, 2000))
    classifier = LogisticRegression(max_iter=1000).fit(pooling(train, 8).reshape(600, -1), labels)
    return classifier.score(pooling(test, 8).reshape(2000, -1), truth)


scores = {(task, name): np.array([pooled_accuracy(task, pooling, seed) for seed in range(5)])
          for task in ("one pixel", "density") for name, pooling in (("max", max_pool2d), ("average", avg_pool2d))}

# %%
for (task, name), values in scores.items():
    print(f"{task:9} {name:8} {values.mean():.2f}")
claims.check("emp-maxpool-vs-avgpool", scores["one pixel", "max"] - scores["one pixel", "average"], ">=", 0.10, seeds=5,
             on="every", varies=True, note="one bright pixel: max wins")
claims.check("emp-maxpool-vs-avgpool.density", scores["density", "average"] - scores["density", "max"], ">=", 0.10,
             seeds=5, on="every", varies=True, note="overall brightness: average wins")

# %% [markdown]
# A maximum finds the one thing that is there; an average measures how much of everything there is.
# Hidden layers look for things, and there max pooling won.
# The average came back at the end of the network, where the evidence of the whole picture is collected; NiN, GoogLeNet and ResNet, networks of later lessons, do so.

# %% [markdown]
# ## 8 · How much of the picture does one unit see?
#
# A unit of the first 3×3 layer sees 3×3 pixels.
# One of the second layer sees a 3×3 window of those.
#
# **Predict** how wide a patch of pixels that makes, and how wide it is for three layers.
#
# The width of the patch is the *receptive field*.
# Layer $l$ widens it by its kernel minus one, $F_l - 1$, measured in steps of its own input.
# Such a step is as many pixels as the strides before it, multiplied: the *jump* $j$.
#
# $$r_l = r_{l-1} + (F_l - 1)\, j_{l-1}, \qquad j_l = j_{l-1} S_l, \qquad r_0 = j_0 = 1$$

# %% tags=["define"]
def receptive_field(layers):
    """Pixels that one output unit sees along a side; layers: (kernel_size, stride) from first to last.

    A dilated layer counts with the span of its taps: ``(dilation * (kernel_size - 1) + 1, stride)``.
    """
    field, jump = 1, 1
    for kernel_size, stride in layers:
        field += (kernel_size - 1) * jump
        jump *= stride
    return field

# %% [markdown]
# The recurrence can be checked by experiment.
# Send a gradient back from the middle unit of the output; every pixel it reaches has been seen.

# %%
def footprint(layers, size):
    """The width of the patch of pixels that the gradient of the middle unit reaches."""
    image = torch.zeros(1, 1, size, size, requires_grad=True)
    maps = image
    for kernel_size, stride in layers:
        maps = F.conv2d(maps, torch.full((1, 1, kernel_size, kernel_size), kernel_size**-2.0), stride=stride)
    middle = maps.shape[-1] // 2
    maps[0, 0, middle, middle].backward()
    return int((image.grad[0, 0] > 0).any(0).sum())

# %%
for count, name in [(2, "num-erf-two-3x3"), (3, "num-erf-three-3x3")]:
    stack = [(3, 1)] * count
    seen = (receptive_field(stack), footprint(stack, 15))
    claims.check(name, seen, "==", (2 * count + 1, 2 * count + 1), note="(recurrence, gradient)")

# %% [markdown]
# Two 3×3 layers see what one 5×5 layer sees, three see 7×7, with fewer weights and more non-linearities in between: VGG's argument.
# With strides the view grows much faster.
# Here are the notes' two large networks up to their last pooling, and a hundred random stacks.

# %%
VGG16 = [layer for convolutions in (2, 2, 3, 3, 3) for layer in [(3, 1)] * convolutions + [(2, 2)]]
ALEXNET = [(11, 4), (3, 2), (5, 1), (3, 2), (3, 1), (3, 1), (3, 1), (3, 2)]
claims.check("eq-receptive-field.vgg16", (receptive_field(VGG16), footprint(VGG16, 280)), "==", (212, 212))
claims.check("eq-receptive-field.alexnet", (receptive_field(ALEXNET), footprint(ALEXNET, 300)), "==", (195, 195))

# %%
stacks = [random.integers(1, (5, 3), size=(random.integers(1, 5), 2)).tolist() for _ in range(100)]
stacks = [[(max(kernel, stride), stride) for kernel, stride in stack] for stack in stacks]
agree = sum(receptive_field(stack) == footprint(stack, 100) for stack in stacks)
claims.check("eq-receptive-field", agree, "==", 100, unit="of 100 random stacks agree")

# %% [markdown]
# (The kernel is never smaller than its stride here: otherwise there are gaps, and the recurrence counts the span, not the pixels.)
#
# The notes call this the *effective* receptive field.
# Today that name is used for something else: those pixels that really *matter*.
# There are many more paths from the output to the middle of the patch than to its rim, so the middle weighs more (Luo et al. 2016).

# %%
def influence(depth, networks=30):
    """Share of the gradient in each column of the receptive field, averaged over random networks of 3×3 layers."""
    generator, side = torch.Generator().manual_seed(seed), 2 * depth + 1
    share = np.zeros(side)
    for _ in range(networks):
        image = torch.zeros(1, 8, side, side, requires_grad=True)
        maps = image
        for _ in range(depth):
            maps = F.conv2d(maps, torch.randn(8, 8, 3, 3, generator=generator) / 72**0.5)
        maps.sum().backward()
        share += image.grad.abs().sum((0, 1, 2)).numpy()
    return share / share.sum()

# %% tags=["ledger:eq-receptive-field"]
depths = {depth: influence(depth) for depth in (3, 10)}
fig, axes = plt.subplots(figsize=(figures.WIDTH, 3.4))
for (depth, share), colour in zip(depths.items(), ("C1", "C0"), strict=True):
    axes.plot(np.arange(2 * depth + 1) - depth, share, color=colour, marker="o")
    axes.text(depth / 2 + 0.1, share.max() * 0.85, f"{depth} layers, field {2 * depth + 1}", color=colour)
axes.set(xlabel="pixels from the middle", ylabel="share of the gradient", ylim=(0, 0.22), xticks=range(-10, 11, 5))
figures.save(fig, "eq-receptive-field",
             caption="How much each column of the receptive field matters to the output: mean absolute gradient of "
                     "30 random linear networks of 3×3 layers with 8 channels, seed 0, CPU.",
             alt="A bell around the middle: the rim of a receptive field of 21 pixels hardly matters.")

# %%
middle = float(depths[10][5:16].sum())
rim = float(depths[10][0] + depths[10][-1])
claims.check("num-erf-three-3x3.effective", middle, ">", 0.8, note="share of the middle 11 of 21 columns")
claims.check("num-erf-two-3x3.effective", rim, "<", 0.01, note="share of the two outermost columns")

# %% [markdown]
# The middle half of the field holds more than four fifths of the gradient, the two columns at its rim less than a hundredth.

# %% [markdown]
# ## 9 · Is the structure worth having?
#
# "It's better to encode prior knowledge about the structure of images", say the notes, than to let a network learn everything.
# A convolution encodes two pieces of it: neighbouring pixels belong together, and what is true in one place is true in another.
#
# Here is a test that can fail.
# Handwritten digits move about on a dark square.
# A small convolutional network (CNN) and a fully connected one (MLP) with the *same number of parameters* learn to read them.
# Then we shuffle the pixels of all pictures, each picture in the same way, and train anew.
# No information is lost; only the neighbourhood is gone.
#
# **Predict** which of the two suffers.

# %%
def on_boards(pictures):
    """The pictures at random places of a larger board: inputs (N, C, H + 2 margin, W + 2 margin) in 0..1, labels."""
    padded = F.pad(pictures.images, [margin] * 4)
    moved = augment.crop(padded, margin, torch.Generator().manual_seed(seed))  # a window that moves by up to `margin`
    return moved.to(torch.get_default_dtype()) / 255, pictures.labels


train, test = (on_boards(data.load(dataset, part).subset(limit, seed=seed)) for part in (True, False))
channels, side = train[0].shape[1], train[0].shape[2]
classes = int(train[1].max()) + 1
print("train", tuple(train[0].shape), "test", tuple(test[0].shape))

# %%
fig, axes = plt.subplots(2, 8, figsize=(figures.WIDTH, 2.2))
shuffle = torch.randperm(side * side, generator=torch.Generator().manual_seed(seed))
shuffled = [(images.flatten(2)[..., shuffle].view_as(images), labels) for images, labels in (train, test)]
for row, images in zip(axes, (train[0], shuffled[0][0]), strict=True):
    for panel, image in zip(row, images, strict=False):
        panel.imshow(image.permute(1, 2, 0).squeeze(-1), cmap="gray")
        panel.axis("off")
figures.save(fig, "emp-prior-knowledge-better.pictures",
             caption="Above: digits at random places. Below: the same pictures, all with their pixels shuffled in one way.",
             alt="Digits that a person reads at once, and the same pixels as noise.")

# %%
def cnn():
    """Two convolutions with pooling and one dense layer."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(2 * width * (side // 4) ** 2, classes))


def mlp(hidden):
    """One hidden layer that sees every pixel."""
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * side**2, hidden), nn.ReLU(), nn.Linear(hidden, classes))


equal = round((parameters(cnn()) - classes) / (channels * side**2 + 1 + classes))  # hidden units for the same number
claims.check("emp-prior-knowledge-better.parameters", parameters(mlp(equal)) / parameters(cnn()), "in", (0.95, 1.05),
             note="the MLP's parameters over the CNN's")

# %%
def accuracy(make, parts, run):
    """Test accuracy of a network trained from seed `run`."""
    runtime.start(seed=run, dtype=dtype)
    network = make()
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    training.fit(network, parts[0], optimizer=optimizer, epochs=epochs, batch_size=batch_size)
    return training.evaluate(network, parts[1]).accuracy


contest = {"CNN": (cnn, (train, test)), "CNN, shuffled": (cnn, shuffled),
           "MLP": (lambda: mlp(equal), (train, test)), "MLP, shuffled": (lambda: mlp(equal), shuffled),
           "MLP, 10 times larger": (lambda: mlp(10 * equal), (train, test))}
reached = {name: np.array([accuracy(make, parts, run) for run in range(runs)])
           for name, (make, parts) in contest.items()}

# %% [markdown]
# And one more rival, the one that deep learning replaced.
# Before 2012 a person designed the features, such as histograms of edge directions (HOG), and only a linear classifier on top was learned.
# We give it the same pictures, and a linear classifier on raw pixels for comparison.

# %%
def edge_histograms(images):
    """HOG features (N, 128): how strong the edges of 8 directions are in each cell of a 4×4 grid."""
    cell = -(-side // 4)  # rounded up, and the picture filled up, or the last pixels would never be read
    images = F.pad(images, [0, 4 * cell - side] * 2)
    options = {"orientations": 8, "pixels_per_cell": (cell, cell), "cells_per_block": (1, 1)}
    return torch.tensor(np.stack([hog(image, channel_axis=0, **options) for image in images.numpy()])).to(images)


designed = [(edge_histograms(images), labels) for images, labels in (train, test)]
raw = [(images.flatten(1), labels) for images, labels in (train, test)]
for name, parts in {"linear on pixels": raw, "linear on edge histograms": designed}.items():
    linear = lambda: nn.Linear(parts[0][0].shape[1], classes)
    reached[name] = np.array([accuracy(linear, parts, run) for run in range(runs)])

# %% tags=["ledger:emp-prior-knowledge-better", "ledger:prac-end-to-end-pipeline"]
fig, axes = plt.subplots(figsize=(figures.WIDTH, 4.2))
order = sorted(reached, key=lambda name: reached[name].mean())
for height, name in enumerate(order):
    colour = "C0" if name.startswith("CNN") else "C1" if name.startswith("MLP") else "C2"
    axes.barh(height, reached[name].mean(), color=colour, alpha=0.35)
    axes.plot(reached[name], [height] * runs, "o", color=colour)
    axes.text(reached[name].max() + 0.015, height, f"{reached[name].mean():.0%}", va="center")
axes.axvline(1 / classes, color="0.4", ls=":", lw=1.5)
axes.set(yticks=range(len(order)), yticklabels=order, xlim=(0, 1), xlabel="test accuracy")
figures.save(fig, "emp-prior-knowledge-better",
             caption="Test accuracy on digits at random places (8×8 digits on 14×14 boards, 1347 to train, 450 to test, "
                     "CPU). Dots: seeds; bars: means; dotted: guessing.",
             alt="The CNN leads by far and falls behind the MLP when the pixels are shuffled; the MLP does not notice "
                 "the shuffling.")

# %%
usual = dataset == "digits" and epochs >= 20 and runs >= 2
shared = {"seeds": runs, "on": "every", "given": usual}  # every single seed has to agree
lead = {name: reached["CNN"] - values for name, values in reached.items()}
claims.check("emp-prior-knowledge-better", lead["MLP"], ">=", 0.2, note="CNN over MLP, same size", **shared)
claims.check("emp-prior-knowledge-better.larger", lead["MLP, 10 times larger"], ">=", 0.05,
             note="CNN over an MLP ten times larger", **shared)
claims.check("emp-prior-knowledge-better.shuffled", lead["CNN, shuffled"], ">=", 0.3, note="lost by shuffling", **shared)
claims.check("emp-prior-knowledge-better.burden", reached["MLP"] - reached["CNN, shuffled"], ">=", 0.03,
             note="on shuffled pixels the MLP leads", **shared)
claims.check("prac-end-to-end-pipeline", lead["linear on edge histograms"], ">=", 0.15,
             note="learned features over designed ones", **shared)
claims.check("prac-end-to-end-pipeline.designed", reached["linear on edge histograms"] - reached["linear on pixels"],
             ">=", 0.1, note="designed features over pixels", **shared)

# %% [markdown]
# The CNN wins with the same number of parameters and still wins against ten times as many.
# On shuffled pixels its advantage turns into a burden: it insists on neighbours that are none.
# Designed features beat raw pixels, and the learned ones of the CNN beat the designed.
#
# The MLP is as accurate on shuffled pixels, up to luck, and we can do better than "up to luck".
# Shuffle the columns of its first weight matrix along with the pixels, and every number of its training stays the same:
# to an MLP the order of pixels does not exist.

# %%
runtime.start(seed=seed, dtype=dtype)
plain, twin = mlp(equal), mlp(equal)
twin.load_state_dict(plain.state_dict())
with torch.no_grad():
    twin[1].weight.copy_(plain[1].weight.view(equal, channels, -1)[..., shuffle].flatten(1))
losses = []
for network, parts in ((plain, (train, test)), (twin, shuffled)):
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    history = training.fit(network, parts[0], optimizer=optimizer, epochs=2, batch_size=batch_size)
    losses.append(history.train_loss)
claims.check("emp-prior-knowledge-better.blind", float(abs(np.subtract(*losses)).max()), "<", 1e-9, varies=True,
             given=dtype == "float64", note="difference of the losses, pixels in order and shuffled")

# %% [markdown]
# What does not follow: that designed features are useless, or that structure always beats data.
# With enough pictures a transformer can learn about neighbours by itself (Dosovitskiy et al. 2021, with 14 million and more); here there are 1347.
#
# ## Errata
#
# | the notes say | correct |
# |---|---|
# | all parameters = 76 · 10 = 76 | 76 · 10 = **760** |
# | a stride of 3 "doesn't work" on 7×7 with 3×3 | it does not tile; frameworks round down, return **2×2** and never read 13 of the 49 pixels |
# | average pooling "might be learnable" | plain average pooling has **0** parameters; LeNet-5's subsampling had a gain and a bias for each map (12 in S2, 32 in S4) |
# | 6600 is "a large number", so the curve is there | plain paper gives **9000**, and so does the curve one pixel below the notes' window; for a large answer to mean "pattern present" the filter must add up to zero, and even then the answer grows with contrast |
#
# Small slips: the output formula is printed for no padding, and in general it is $\lfloor (N - F + 2P)/S \rfloor + 1$; "same" padding $(F-1)/2$ exists for odd $F$ only; what the layers compute is cross-correlation.
#
# ## Summary
#
# Every number below is checked by a claim above, at the default parameters.
#
# - A filter answers with its dot product with a window: 6600 on the curve, 0 on the ear, but 9000 on plain paper; with zero mean 4212, −1396 and 0.
# - $\lfloor (N + 2P - D(F-1) - 1)/S \rfloor + 1$ windows fit: 5, 3 and 2 for 7×7 with 3×3 at strides 1, 2, 3, where the last leaves 13 pixels unread.
# - Padding $(F-1)/2$ keeps the size; every kind of padding invents something at the border.
# - A layer has $K(F^2 C + 1)$ parameters: 456, 1510, 228 and 760 for those of the notes; a dense layer in place of the first has 14,455,392.
# - A convolution is a sparse matrix (144 of 576 entries, nine different weights), im2col computes it as one product, and its transpose is the backward pass.
# - Pooling has no parameters; its maximum is a grey dilation, beats the average by at least 10 points at finding one bright pixel, and loses by at least 10 on overall brightness.
# - Pooling softens a shift by one pixel, and overlooks the step of a single bright pixel at exactly half of its places.
# - The receptive field grows by $(F-1)$ times the jump: 5, 7, 212 (VGG-16), 195 (AlexNet); its rim hardly counts.
# - With equal parameters a CNN beats an MLP by at least 20 points on digits that move, and loses at least 30 when the pixels are shuffled; the MLP cannot notice.
#
# ## Exercises
#
# Each check says what is wrong and how to see it.
# `exercises.hint("04.1")` gives a first step, `exercises.solution("04.1")` the reference solution.
#
# **04.1 (change)** Write `conv2d` by im2col for filters with a *dilation*: the taps stand `dilation` pixels apart.
# All are NumPy arrays: images (N, C, H, W), weight (K, C, R, S), bias (K,) or None; the result is (N, K, H', W').

# %%
def my_conv2d(images, weight, bias=None, stride=1, padding=0, dilation=1): ...


exercises.check("04.1", my_conv2d)

# %% [markdown]
# **04.2 (predict)** Before you build a layer, say what it will be: return the output side, the number of parameters and the multiplications for one picture.
# Pictures and filters are square; multiplications with the zeros of the padding count, the biases do not multiply.
# Ten filters of 5×5 with padding 2 on 32×32×3 must give `(32, 760, 768000)`.

# %%
def my_layer(size, channels, filters, kernel_size, stride=1, padding=0): ...


exercises.check("04.2", my_layer)

# %% [markdown]
# **04.3 (extend)** A calculator for real networks: go through an `nn.Sequential` of convolutions, poolings and other layers, and return how many pixels a unit of the last layer sees along a side.
# Layers without a window leave it as it is; windows are square.
# Mind the dilation.
# VGG-16 up to its last pooling gives 212.

# %%
def my_receptive_field(network): ...


exercises.check("04.3", my_receptive_field)

# %% [markdown]
# **04.4 (open)** Eight filters and one picture in which each of their patterns is hidden once, some faint, beside bright paper that means nothing.
# `image, filters = lesson_04.puzzle()` gives arrays (1, 1, 64, 64) and (8, 1, 7, 7).
# Return the top left corner of the window in which each pattern stands: an array (8, 2) of row and column.

# %% tags=["ledger:emp-conv-detects-features"]
from cnncourse.exercises import lesson_04

image, filters = lesson_04.puzzle()
fig, axes = plt.subplots(1, 9, figsize=(figures.WIDTH, 2.3), width_ratios=[3.6] + [1] * 8)
axes[0].imshow(image[0, 0], cmap="gray", vmax=70)
for number, panel in enumerate(axes[1:]):
    panel.imshow(filters[number, 0], cmap="gray", vmax=1.2)
    panel.set_title(f"{number}")
for panel in axes:
    panel.axis("off")
figures.save(fig, "emp-conv-detects-features.puzzle",
             caption="The picture of exercise 04.4 and its eight filters.",
             alt="A dark picture with eight small strokes and two bright squares, and eight filters of strokes.")

# %%
def which_fires_where(image, filters): ...


exercises.check("04.4", which_fires_where)

# %% [markdown]
# ## Sources
#
# - Dumoulin and Visin 2016, *A guide to convolution arithmetic for deep learning*: sizes, strides, dilation.
# - Chellapilla, Puri and Simard 2006, *High performance convolutional neural networks for document processing*: im2col.
# - LeCun, Bottou, Bengio and Haffner 1998, *Gradient-based learning applied to document recognition*, section II.B: subsampling.
# - Krizhevsky, Sutskever and Hinton 2012, *ImageNet classification with deep convolutional neural networks*, section 3.4: overlapping pooling.
# - Simonyan and Zisserman 2014, *Very deep convolutional networks for large-scale image recognition*: stacks of 3×3.
# - Luo, Li, Urtasun and Zemel 2016, *Understanding the effective receptive field in deep convolutional neural networks*.
# - Islam, Jia and Bruce 2020, *How much position information do convolutional neural networks encode?*: what zeros at the border are good for.
# - Dosovitskiy and others 2021, *An image is worth 16×16 words: transformers for image recognition at scale*: structure against data.
