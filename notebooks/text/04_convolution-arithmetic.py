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
# Laid over a window of a photograph, it multiplies pixel by pixel and adds everything up: one number, large where window and filter agree.
# The filter below is 7×7 numbers, drawn by hand: the stroke of a curve that bends to the right.
# We slide it over a photograph, twice. The second time we have subtracted one number from all of its 49.
#
# (The whole lesson costs about 40 seconds of one core, most of them in section 5.)

# %% tags=["imports", "fold"]
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
from cnncourse.exercises import lesson_04

# %% tags=["define", "fold"]
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

# %%
def slide(picture, filter_):
    """The answer of a filter at every place of a grey picture, both of them 2-D arrays."""
    picture, filter_ = (torch.as_tensor(part).double()[None, None] for part in (picture, filter_))
    return F.conv2d(picture, filter_)[0, 0].numpy()


photo = F.avg_pool2d(data.photos()["camera"][:1].double(), 3)[0].numpy()  # grey, 0..255
photo = photo[18:168, 30:126]  # the man and his tripod
zero_mean = CURVE_FILTER - CURVE_FILTER.mean()  # the same drawing, minus one number
on_photo = {"as drawn": slide(photo, CURVE_FILTER), "minus its mean": slide(photo, zero_mean)}

# %% tags=["fold"]
figures.use_style()


def draw_answer(panel, answer, title, **text):
    """Answers at all places: red for large positive ones, blue for negative ones, white for 0."""
    limit = abs(answer).max()
    panel.imshow(answer, cmap=figures.DIVERGING, vmin=-limit, vmax=limit)
    panel.set_title(title, **text)


fig, axes = plt.subplots(1, 3, figsize=(figures.WIDTH, 4.1))
axes[0].imshow(photo, cmap="gray")
axes[0].set_title("a photograph, and the filter", fontsize=12)
inset = axes[0].inset_axes([0.03, 0.03, 0.3, 0.3])
inset.imshow(CURVE_FILTER, cmap="gray")
inset.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
inset.spines[:].set(visible=True, color="C1", lw=2)
draw_answer(axes[1], on_photo["as drawn"], "as drawn: a blurred photo", fontsize=12)
draw_answer(axes[2], on_photo["minus its mean"], "minus its mean: strokes", fontsize=12)
for panel in axes:
    panel.axis("off")
fig.suptitle("One subtraction turns a blur into a finder of strokes", x=0.01, ha="left")
figures.save(fig, "emp-conv-detects-features.photo",
    caption="A 7×7 filter of a curve, and its answers at every place of a photograph (the camera "
    "man), before and after subtracting its mean. Red: large, blue: negative, "
    "white: 0. No randomness.", alt="The filter as drawn returns a blurred photograph; minus its "
    "mean it answers to thin bright strokes that lean its way: the leg and the collar.")

# %% [markdown]
# What is odd: a filter drawn to find a curve answers with a blurred copy of the photograph, sky and grass included.
# One subtraction later it answers to thin bright strokes that lean its way: the tripod's leg and the collar.
# Why that is so, what a filter does that is *learned* instead of drawn, and what follows when a network slides hundreds of such filters, is this lesson.
#
# **You will be able to**
# - say what one number of a feature map means, and when a large one means nothing;
# - tell the size, the parameters and the multiplications of a layer before you run it;
# - write a convolution and its gradient as matrix products;
# - say what pooling does to a picture that moves, and how much of the picture one unit sees;
# - test whether all that structure is worth having.
#
# **You need** arrays and their shapes, the dot product, and a linear classifier trained by gradient descent (lessons 01 to 03).
#
# Sentences with a ✓ were checked by the code above them. They are required at the parameters below; where you change one, they are shown but not required.

# %% tags=["parameters"]
seed: int = 0  # of everything drawn once; at least 0
seeds: list = [0, 1, 2]  # a network each, in every comparison; 2 or more values, each at least 0
dataset: str = "digits"  # of section 5; one of digits, mnist, fashion_mnist, cifar10, or a folder
picture_size: int = 32  # pixels a side to which a folder's pictures are scaled; 8 to 64
limit: int = 1347  # training pictures of section 5, at most; at least 100
margin: int = 3  # black pixels around each picture, within which it moves; 0 to 16
width: int = 10  # filters in the first layer of the network; 1 to 128
epochs: int = 14  # passes over the training pictures; 1 to 200
batch_size: int = 32  # pictures in a step; at least 1
learning_rate: float = 0.003  # of Adam; above 0

# %% [markdown]
# ## 1 · One number: how alike are filter and window?
#
# Leave the photograph for a moment and look at three windows of 7×7 pixels.
# A number is how much light a pixel has: 0 is black.
# The first is cut from the back of a mouse, drawn in bright strokes, and contains the curve; the second is from its ear and does not.
# Each number of the filter is called a *weight* or a *tap*; six of its 49 are not zero.
# A third window holds no curve at all, only plain bright paper.

# %%
def answer(window, filter_):
    """Multiply pixel by pixel, add everything up: a dot product of two pictures."""
    return float((window * filter_).sum())


print("mouse back:", answer(MOUSE_BACK, CURVE_FILTER))
print("mouse ear: ", answer(MOUSE_EAR, CURVE_FILTER))
exercises.predict("04.p1", "To a third window, plain paper of 50 everywhere, the filter answers",
                  ("about 0", "between 0 and 6600", "more than 6600"))

# %%
plain_paper = np.full((7, 7), 50)
windows_seen = {"mouse back": MOUSE_BACK, "mouse ear": MOUSE_EAR, "plain paper": plain_paper}
raw = {name: answer(window, CURVE_FILTER) for name, window in windows_seen.items()}
fair = {name: answer(window, zero_mean) for name, window in windows_seen.items()}
paper, back = raw["plain paper"], raw["mouse back"]
exercises.reveal(
    "04.p1",
    "more than 6600" if paper > back else "between 0 and 6600" if paper > 1 else "about 0",
    f"Plain paper gives {paper:.0f}.",
)

# %% tags=["fold", "ledger:fig-curve-filter"]
fig, axes = plt.subplots(1, 3, figsize=(figures.WIDTH, 3.6))
for panel, (name, window) in zip(axes, windows_seen.items(), strict=True):
    panel.imshow(window, cmap="gray", vmin=0, vmax=65)
    for row, column in np.argwhere(window) if name != "plain paper" else ():
        panel.text(column, row, window[row, column], ha="center", va="center", fontsize=10,
                   color="0.1" if window[row, column] > 28 else "white")
    for row, column in np.argwhere(CURVE_FILTER):
        panel.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="C1", lw=2.5))
    title = f"{name}, 50 everywhere" if name == "plain paper" else name
    panel.set(title=title, xticks=[], yticks=[])
    panel.set_xlabel(f"as drawn: {raw[name]:.0f}\nminus its mean: {round(fair[name])}", fontsize=13)
fig.suptitle("As drawn, the filter likes blank paper better than its curve", x=0.01, ha="left")
figures.save(fig, "fig-curve-filter", caption="Three windows with the six taps of the filter "
    "outlined, and below each the answers of the filter as drawn and minus its mean. Zeros are "
    "left blank. No randomness.", alt="As drawn: 6600 on the mouse's back, 0 on its ear, 9000 on "
    "plain paper; minus its mean 4212, -1396, 0.")
claims.check("num-curve-filter-6600", "As drawn, the filter answers {curve:.0f} to the curve, "
    "{ear:.0f} to the ear and {paper:.0f} to paper.", curve=(back, "==", 6600),
    ear=(raw["mouse ear"], "==", 0), paper=(paper, "==", 9000))
curve, ear, paper = (round(number, 2) + 0.0 for number in fair.values())
claims.check("num-curve-filter-0", "Minus its mean it answers {curve:.0f} to the curve, {ear:.0f} "
    "to the ear and {paper:.0f} to paper.", curve=(curve, "==", 4212.24),
    ear=(ear, "==", -1395.92), paper=(paper, "==", 0))
light = slide(photo, np.ones((7, 7))).ravel()
near = {name: np.corrcoef(values.ravel(), light)[0, 1] for name, values in on_photo.items()}
claims.check("emp-conv-detects-features.photo", "On the photograph its answers have a correlation "
    "of {drawn:.2f} with the brightness of the windows; minus its mean {fair:.2f}.",
    drawn=(near["as drawn"], ">", 0.95), fair=(near["minus its mean"], "<", 0.2))

# %% [markdown]
# No tap of the drawn filter is negative, so more light never lowers its answer.
# Where the light may differ from place to place, a filter that *detects* must lose as much by light in the wrong pixels as it wins in the right ones: its taps must add up to zero.
# Subtracting the mean does exactly that.
# That is why the first answer on the photograph was the photograph: as drawn, the filter measures little but brightness.
#
# ### Sliding
#
# A convolutional layer asks this question at every place of every picture, with every filter.
# Here is the whole layer with nothing left out.
# A window is as deep as the picture has *channels* (three for colour), and so is each filter; a filter adds one more number, its *bias*.
# The answers of one filter are its *feature map*; one number of a map is a *unit*.
# Below the code, the mouse's back stands in a dark picture whose right half is bright paper, and the filter slides over it.
# In shapes, $N$ pictures with $C$ channels of $H \times H$ pixels and $K$ filters of $F \times F$ give $K$ maps of $O \times O$ each; the code takes oblong ones too.

# %% tags=["define", "fold"]
def output_size(size, kernel_size, stride=1, padding=0, dilation=1):
    """How many windows fit along one side: ``output_size(7, kernel_size=3, stride=2)`` is 3.

    Raises `ParameterError` when not even one does, or a number makes no sense.
    """
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
    return (size + 2 * padding - span) // stride + 1


def pad(images, padding, value=0):
    """(N, C, H, W) with `padding` pixels of `value` added on all four sides."""
    border = (padding, padding)
    return np.pad(images, ((0, 0), (0, 0), border, border), constant_values=value)

# %% tags=["define"]
def conv2d_naive(images, weight, bias=None, stride=1, padding=0):
    """Pictures (N, C, H, H) and filters (K, C, F, F) give maps (N, K, O, O)."""
    padded = pad(images, padding)  # section 2
    sides = zip(images.shape[2:], weight.shape[2:], strict=True)
    map_shape = [output_size(size, kernel, stride, padding) for size, kernel in sides]  # section 2
    output = np.zeros((len(images), len(weight), *map_shape))
    height, width = weight.shape[2:]
    for image, filter_, row, column in np.ndindex(output.shape):
        top, left = row * stride, column * stride
        window = padded[image, :, top : top + height, left : left + width]  # (C, F, F)
        output[image, filter_, row, column] = (window * weight[filter_]).sum()
    return output if bias is None else output + bias[:, None, None]

# %% tags=["fold"]
random = np.random.default_rng(seed)
runtime.start(seed=seed)
images, weight, bias = (random.normal(size=size) for size in [(2, 3, 8, 8), (4, 3, 3, 3), 4])
ours = conv2d_naive(images, weight, bias, stride=2, padding=1)
torchs = F.conv2d(*map(torch.tensor, (images, weight, bias)), stride=2, padding=1).numpy()
claims.check("eq-conv2d-naive-im2col", "The four nested loops and torch differ by less than "
    "{difference:.0e} anywhere.", difference=(float(abs(ours - torchs).max()), "<", 1e-12),
    varies=True)
answers = on_photo["minus its mean"]
rows, columns = np.unravel_index(np.argsort(answers.ravel())[-30:], answers.shape)
on_leg = rows >= 90  # of the bright places below, the leg alone is among them
on_collar = (rows >= 40) & (rows < 55) & (columns < 35)
windows = sliding_window_view(photo, (7, 7))
even = windows.std((2, 3)) < 5  # of 256 shades: sky, coat, grass
claims.check("emp-conv-detects-features.places", "Minus its mean, {leg} of its 30 largest answers "
    "on the photograph lie on the tripod's leg and {collar} on the collar; where a window is even, "
    "the answer is {quiet:.1%} of the largest, on average.", leg=(int(on_leg.sum()), ">=", 15),
    collar=(int(on_collar.sum()), ">=", 5),
    quiet=(float(abs(answers[even]).mean() / answers.max()), "<", 0.02))
mirrored = slide(photo, np.ascontiguousarray(zero_mean[:, ::-1]))
claims.check("emp-conv-detects-features.mirrored", "The largest answer is {curve:,.0f}; that of "
    "the mirrored filter, bending to the left, is {mirrored:,.0f}.", curve=float(answers.max()),
    mirrored=(float(mirrored.max()), ">", float(answers.max())))
scene = np.zeros((21, 31))
scene[7:14, 4:11] = MOUSE_BACK  # the curve on the left
scene[:, 16:] = 50  # paper on the right
searched = {"as drawn": slide(scene, CURVE_FILTER), "minus its mean": slide(scene, zero_mean)}
loudest = {name: np.argwhere(values > values.max() - 1e-6) for name, values in searched.items()}

# %% tags=["fold"]
fig, axes = plt.subplot_mosaic("abcd;rrff", figsize=(figures.WIDTH, 4.8), height_ratios=(1, 1.7))
for name, column in zip("abcd", (0, 4, 11, 18), strict=True):
    axes[name].imshow(scene, cmap="gray", vmax=65)
    axes[name].add_patch(Rectangle((column - 0.5, 7.5), 7, 7, fill=False, ec="C1", lw=2.5))
    axes[name].set_title(f"answer {searched['as drawn'][8, column]:.0f}", color="C1", loc="center")
for name, (title, values) in zip("rf", searched.items(), strict=True):
    shown = axes[name].imshow(values, cmap=figures.DIVERGING, vmin=-9000, vmax=9000)
    row, column = loudest[title][0]
    if len(loudest[title]) == 1:
        axes[name].plot(column, row, "o", ms=15, mfc="none", mec="C1", mew=2.5)
    count = len(loudest[title])
    axes[name].set_title(f"{title}: loudest {count} time{'s' if count > 1 else ''}", loc="center")
for panel in axes.values():
    panel.set(xticks=[], yticks=[])
fig.colorbar(shown, ax=[axes["r"], axes["f"]], label="answer", ticks=(-9000, 0, 9000), pad=0.02)
fig.suptitle("As drawn: as loud on paper as on the curve; minus its mean: on the curve alone",
             x=0.01, ha="left", fontsize=14)
plt.show()  # above: four steps of the filter as drawn; below: the maps of all 375 answers
on_paper = int((loudest["as drawn"][:, 1] >= 11).sum())  # their windows touch it
claims.check("num-curve-filter-6600.search", "The largest answer of the filter as drawn, 9000, "
    "stands at {count} places, {paper} of them on the paper.",
    count=(len(loudest["as drawn"]), "==", 181), paper=(on_paper, "==", 180))
(row, column), *others = loudest["minus its mean"]
claims.check("emp-conv-detects-features", "Minus its mean it is loudest in row {row}, column "
    "{column}, and at {others} other places.", row=(int(row), "==", 8),
    column=(int(column), "==", 4), others=(len(others), "==", 0))

# %% [markdown]
# "A filter answers loudly where its pattern is" holds once the filter adds up to zero.
# And it has found something else: we put the window of the mouse's back at (7, 4), and the answer is largest at (8, 4).
# The window was cut one pixel too high; one pixel lower all six taps meet the stroke.
#
# ### Would a network find this out by itself?
#
# Nobody draws the filters of a network.
# It sees examples, right and wrong, and gradient descent sets the weights, here those of a single filter.
# The examples are windows of noise; every second one contains a faint curve.
# In one world all sheets are equally lit; in the other each sheet has its own light.

# %% tags=["define"]
STROKE = torch.tensor(CURVE_FILTER).double() / 30


def sheets(count, light, generator):
    """Noisy windows (count, 1, 7, 7), half of them with a faint curve, and their labels 1 and 0."""
    labels = torch.arange(count) % 2
    noise = 0.2 * torch.randn(count, 1, 7, 7, generator=generator, dtype=torch.float64)
    lit = light * torch.rand(count, 1, 1, 1, generator=generator, dtype=torch.float64)
    return noise + lit + 0.5 * labels.view(-1, 1, 1, 1) * STROKE, labels.double()

def learned_filter(light, run, steps=250):
    """Train one filter to tell sheets with a curve from sheets without: its weights (7, 7)."""
    torch.manual_seed(run)
    generator = torch.Generator().manual_seed(run)
    layer = nn.Conv2d(1, 1, 7, dtype=torch.float64)  # 49 random weights and a bias
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
    for _ in range(steps):
        windows, labels = sheets(128, light, generator)
        loss = F.binary_cross_entropy_with_logits(layer(windows).flatten(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return layer.weight.detach()[0, 0].numpy()

# %%
exercises.predict("04.p2", "The learned weights add up to about zero where the light is",
                  ("equal", "varied", "either", "neither"))

# %%
def balance(weights):
    """The sum of the weights over that of their sizes: 1 if all are positive, 0 if they cancel."""
    return float(weights.sum() / abs(weights).sum())


learned = {light: [learned_filter(light, run) for run in seeds] for light in (0, 1)}
equal_light, varied_light = ([balance(weights) for weights in learned[light]] for light in (0, 1))
when_equal, when_varied = (max(np.abs(left)) < 0.1 for left in (equal_light, varied_light))
exercises.reveal(
    "04.p2",
    ("either" if when_equal else "varied") if when_varied else "equal" if when_equal else "neither",
    f"{np.mean(equal_light):+.0%} of their sizes is left in equal light, "
    f"{np.mean(varied_light):+.0%} in varied light.",
)

# %% tags=["fold"]
fig, axes = plt.subplots(1, 4, figsize=(figures.WIDTH, 2.9), width_ratios=(1, 1.4, 1, 1.4))
for pair, light, world in ((axes[:2], 0, "light equal"), (axes[2:], 1, "light varies")):
    weights = learned[light][0]
    draw_answer(pair[0], weights, f"{world}:\n{abs(balance(weights)):.0%} left", fontsize=12)
    found = "finds strokes" if light else "finds light"
    draw_answer(pair[1], slide(photo[90:], weights), found, fontsize=12)
for panel in axes:
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)
fig.suptitle("Where light varies, learning makes the weights cancel", x=0.01, ha="left")
figures.save(fig, "emp-conv-detects-features.learned",
    caption="A filter of 49 weights learned in 250 steps from sheets with and without a curve, and "
    "its answers on the photograph; equal light (left), light that varies (right). Left: what "
    "remains of the weights' sizes when they are added up. Seed 0, CPU.",
    alt="Both learned filters show the curve; with varying light the rest of the filter is "
    "negative, the weights cancel, and on the photograph it picks out the tripod's leg.")
alike = [np.corrcoef(weights.ravel(), CURVE_FILTER.ravel())[0, 1] for weights in learned[1]]
claims.check("emp-conv-detects-features.learned", "Where the light varies, {varied:.0%} of the "
    "weights' size is left when they are added up; where all sheets are equally lit, {equal:.0%}. "
    "(250 steps)", varied=(np.abs(varied_light), "<", 0.1), equal=(equal_light, ">", 0.5),
    seeds=seeds, on="every", varies=True)
claims.check("emp-conv-detects-features.alike", "The correlation of the filter learned in varying "
    "light with the drawn one is {alike:.3f}.", alike=(alike, ">", 0.97), seeds=seeds, on="every",
    varies=True)

# %% [markdown]
# So the zero sum is no trick of ours: it is what learning arrives at *where light carries no news*.
#
# **We now know** that one answer is a dot product, that a detector has negative weights around its pattern, and that examples teach it so.
# **This does not show** that zero sum is enough.
# On the photograph a *straight* leg is among the loudest places, and the mirrored filter is louder still.
# The answer grows with contrast, so bright strokes of another shape, even a corner of the paper, can beat a faint curve.
# The remedy: subtract the mean from the *window* too, and divide by the length of both, the root of the sum of squares.
# What remains is the cosine of the angle between window and filter.
#
# **Exercise 04.1** Eight filters, and a picture in which each of their patterns is hidden once, some faint, beside bright paper that means nothing.
# `image, filters = lesson_04.puzzle()` gives arrays (1, 1, 64, 64) and (8, 1, 7, 7).
# Return the top left corner of the window in which each pattern stands: an array (8, 2) of row and column.
# `exercises.hint("04.1")` gives a first step, `exercises.solution("04.1")` the reference solution.

# %% tags=["fold"]
def cosine(window, filter_):
    """How alike two pictures are, brightness and contrast aside: -1 to 1."""
    window, filter_ = window - window.mean(), filter_ - filter_.mean()
    return float((window * filter_).sum() / np.sqrt((window**2).sum() * (filter_**2).sum()))


faint = 0.6 * scene[8:15, 4:11]  # the curve at 30 instead of 50
corner = scene[14:21, 13:20] * (np.arange(7) < 6)[:, None]  # paper that ends at the left and below
summed = [answer(window, zero_mean) for window in (faint, corner)]
cosines = [cosine(window, zero_mean) for window in (faint, corner)]
claims.check("emp-conv-detects-features.contrast", "Faint curve against corner of paper: "
    "{faint:.0f} to {corner:.0f} by the sum, {alike:.2f} to {edge:.2f} by the cosine.",
    faint=(summed[0], "~", 4033.47, 0.01), corner=(summed[1], "~", 4591.84, 0.01),
    alike=(cosines[0], "~", 0.650, 1e-3), edge=(cosines[1], "~", 0.381, 1e-3))
image, filters = lesson_04.puzzle()
fig, axes = plt.subplots(1, 9, figsize=(figures.WIDTH, 2.7), width_ratios=[3.6] + [1] * 8)
axes[0].imshow(image[0, 0], cmap="gray", vmax=70)
for number, panel in enumerate(axes[1:]):
    panel.imshow(filters[number, 0], cmap="gray", vmax=1.2)
    panel.set_title(f"{number}")
for panel in axes:
    panel.axis("off")
fig.suptitle("The brightest places hide none of the eight patterns", x=0.01, ha="left")
plt.show()

# %%
def which_fires_where(image, filters): ...


exercises.check("04.1", which_fires_where)

# %% [markdown]
# ## 2 · How many windows are there?
#
# Slide a window of $F$ pixels along a side of $H$.
# The *stride* $S$ is how far it moves each time.
# The *padding* $P$ is a border added at both ends.
# The *dilation* $D$ is the distance from one tap to the next, usually 1; the window then spans $D(F-1)+1$ pixels.
# The first window starts at 0, the others at $S, 2S, 3S, \dots$ as long as they fit:
#
# $$O = \left\lfloor \frac{H + 2P - D(F-1) - 1}{S} \right\rfloor + 1$$
#
# In code a filter is also called a *kernel*, so $F$ is `kernel_size`.
# For 7 pixels and 3 taps at stride 3 the fraction is not whole: $(7-3)/3 + 1 = 2.33$ windows.

# %%
exercises.predict("04.p3", "A layer of torch with a 3×3 filter and stride 3, on 7×7 pixels:",
                  ("raises an error", "gives 2×2 of all pixels", "gives 2×2 and skips some pixels"))

# %%
image = torch.ones(1, 1, 7, 7, requires_grad=True)  # a pixel never read has no gradient
output = F.conv2d(image, torch.ones(1, 1, 3, 3), stride=3)
output.sum().backward()
unread = int((image.grad == 0).sum())
exercises.reveal(
    "04.p3",
    "gives 2×2 and skips some pixels" if unread else "gives 2×2 of all pixels",
    f"It gives {tuple(output.shape[2:])}, without a word; {unread} of 49 pixels are never read.",
)

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

# %% tags=["fold"]
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


widgets.explore(draw_convolution, size=widgets.Slider(7, 1, 14), kernel=widgets.Slider(3, 1, 7),
                stride=widgets.Slider(2, 1, 5), padding=widgets.Slider(1, 0, 3),
                dilation=widgets.Slider(2, 1, 3))

# %% [markdown]
# In JupyterLab there are sliders above this picture; on a printed page it stands still.
# Each pixel says how many windows read it; the padding is grey.
# As it stands, with dilation 2 *and* stride 2, the taps lie on every second pixel and move by two, so no window ever touches the pixels in between.
# The size of the map gives no hint of it.
#
# **Exercise 04.2** How many pixels of a `size`×`size` picture does no window read?
# Settings in which no window fits are not asked for.
# For a 7×7 picture, kernel 3 and stride 3 the answer is 13; with stride 2, padding 1 and dilation 2 it is 40.

# %%
def unread_pixels(size, kernel_size, stride=1, padding=0, dilation=1): ...


exercises.check("04.2", unread_pixels)

# %% [markdown]
# ### The border
#
# Without padding a map has $F-1$ rows and $F-1$ columns fewer than its picture: 32×32 pixels survive seven layers of 5×5.
# *Same* padding, $P = (F-1)/2$ at stride 1, gives back what the filter takes; it needs an odd filter.
# The border is filled with zeros unless one asks for something else.
# Does it matter? Take a ramp, brighter by 1 with every column, and a filter that measures its slope.
# Every honest answer is 1.

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
fig.suptitle("Each of torch's four paddings invents something at the border", x=0.01, ha="left")
figures.save(fig, "emp-padding-border-artefact", caption="The slope of a ramp that rises by 1 a "
    "pixel, measured under four kinds of padding. Blue: right. Magenta, with a dot: invented by "
    "the border. No randomness.", alt="Inside all four measure 1. Zeros and circular padding "
    "invent a cliff, replicate halves the slope, reflect sets it to 0.")
flat = {}
for name in MODES:  # a constant picture, blurred by torch's own layer
    layer = nn.Conv2d(1, 1, 3, padding=1, padding_mode=name, bias=False, dtype=torch.float64)
    nn.init.constant_(layer.weight, 1 / 9)
    flat[name] = layer(torch.ones(1, 1, 6, 6, dtype=torch.float64))[0, 0].detach().numpy()
found = {name: (round(float(flat[name].min()), 2), round(float(abs(steep[name] - 1).max()), 9))
         for name in MODES}
right = {"zeros": (0.44, 4), "replicate": (1, 0.5), "reflect": (1, 1), "circular": (1, 4)}
claims.table("emp-padding-border-artefact", "The least of a blurred constant 1, and the largest "
             "error of the ramp's slope.", {name: (found[name], right[name]) for name in MODES},
             columns=("padding", "measured", "expected"))

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
# Move the picture, and the map moves along; nothing else changes.
# This is called *equivariance*: the layer need not learn a curve anew for every place where it may stand.
# A fully connected (*dense*) layer of the same shape, random like the filter, knows nothing of it.

# %%
picture = torch.zeros(1, 1, 16, 16)
picture[..., 4:12, 4:12] = torch.randn(8, 8)  # the rim is empty, so nothing is lost by a move
moved = picture.roll((1, 2), dims=(2, 3))  # one down, two to the right
layers = {
    "conv": nn.Conv2d(1, 1, 3, padding=1),
    "stride 2": nn.Sequential(
        nn.Conv2d(1, 1, 3, stride=2, padding=1),
        nn.Upsample(scale_factor=2),  # back to 16×16
    ),
    "dense": nn.Sequential(nn.Flatten(), nn.Linear(256, 256)),
}
gaps = {}
for name, layer in layers.items():
    maps, maps_moved = layer(picture).view(16, 16), layer(moved).view(16, 16)
    gap = (maps_moved - maps.roll((1, 2), dims=(0, 1))).norm() / maps.norm()
    gaps[name] = float(gap.detach())

# %% tags=["fold"]
even_move = picture.roll((2, 2), dims=(2, 3))
with torch.no_grad():
    strided, strided_moved = layers["stride 2"](picture), layers["stride 2"](even_move)
even = float((strided_moved - strided.roll((2, 2), dims=(2, 3))).norm() / strided.norm())
claims.check("eq-conv-as-matrix.even", "At stride 2, after a move by two pixels down and two to "
    "the right, the maps are {even:.2f} apart.", even=(even, "<", 1e-6), varies=True)
claims.check("eq-conv-as-matrix.equivariance", "From the moved map, the map of the moved picture "
    "is {conv:.2f} of its size apart for the convolution, {strided:.2f} at stride 2, {dense:.2f} "
    "for the dense layer; two unrelated maps of one size would be about {unrelated:.2f} apart.",
    conv=(gaps["conv"], "<", 1e-6), strided=(gaps["stride 2"], ">", 0.5),
    dense=(gaps["dense"], ">", 1), unrelated=2**0.5, varies=True)

# %% [markdown]
# The convolution's two maps are the same up to rounding; those of the dense layer have about as little in common as two unrelated maps, which are $\sqrt 2$ apart.
# At stride 2 a move by one pixel falls between the places of the map: there equivariance holds for even moves only.
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
same = np.allclose(matrix @ small.ravel(), conv2d_naive(small, nine).ravel())
fig, axes = plt.subplots(figsize=(figures.WIDTH, 4))
axes.imshow(np.where(matrix == 0, np.nan, matrix), cmap=figures.SEQUENTIAL)
axes.set(xlabel="pixel of the 6×6 picture", ylabel="place in the 4×4 map", xticks=range(0, 36, 6),
         yticks=range(0, 16, 4), title="Mostly zeros, and only nine different weights")
axes.hlines(np.arange(0, 16, 4) - 0.5, -0.5, 35.5, color="0.8", lw=0.8)
axes.vlines(np.arange(0, 36, 6) - 0.5, -0.5, 15.5, color="0.8", lw=0.8)
figures.save(fig, "eq-conv-as-matrix", caption="A 3×3 convolution of a 6×6 picture, written as a "
    "matrix. White: zero. Each colour is one of nine weights. Lines: rows of the picture and of "
    "the map. No randomness.", alt="A band matrix made of smaller band matrices: most entries are "
    "zero, and the others repeat nine numbers along diagonals.")
claims.check("eq-conv-as-matrix", "Matrix times picture is the convolution: {same}. Of {entries} "
    "entries {used} are not zero, and they hold {different} different numbers.",
    same=(same, "==", True), entries=matrix.size, used=(int((matrix != 0).sum()), "==", 144),
    different=(len(np.unique(matrix)) - 1, "==", 9))
wide = nn.Linear(3 * 4 * 4, 10, dtype=torch.float64)  # and a dense layer is a convolution
blocks = torch.randn(2, 3, 4, 4, dtype=torch.float64)
as_filters = F.conv2d(blocks, wide.weight.view(10, 3, 4, 4), wide.bias)
apart = wide(blocks.flatten(1)) - as_filters.flatten(1)
claims.check("eq-conv-as-matrix.dense-is-conv", "A dense layer and a convolution whose filters are "
    "as large as the picture differ by {gap:.0e}.",
    gap=(float(apart.detach().abs().max()), "<", 1e-12), varies=True)

# %% [markdown]
# White is what "looks at a window only" saves; the repeated diagonals are what "one filter for all windows" saves.
#
# ### Counting
#
# A filter runs through *all* channels of its input, so it has $F^2 C$ weights and one bias; a layer has $K(F^2 C + 1)$ parameters.
# Each weight multiplies once at each of the $O^2$ places: $O^2 K F^2 C$ multiplications.
# Parameters say what is stored, multiplications what is done.

# %% tags=["fold", "ledger:num-conv-28x28x6", "ledger:num-pad-36x36x3", "ledger:num-conv-10-filters-output", "ledger:err-conv-formula-no-pad", "ledger:num-conv-params-per-filter-76", "ledger:err-conv-76x10"]
def by_rule(size, channels, filters, kernel_size, padding=0):
    """Shape of the map, and number of parameters, before anything is run."""
    side = output_size(size, kernel_size, padding=padding)
    return (filters, side, side), filters * (kernel_size**2 * channels + 1)


def by_torch(size, channels, filters, kernel_size, padding=0):
    """The same, of a real layer."""
    layer = nn.Conv2d(channels, filters, kernel_size, padding=padding)
    maps = F.relu(layer(torch.zeros(1, channels, size, size)))  # ReLU keeps the shape
    return tuple(maps.shape[1:]), sum(p.numel() for p in layer.parameters())


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
dense = sum(p.numel() for p in nn.Linear(3072, 4704, device="meta").parameters())
claims.check("num-conv-28x28x6.dense", "The first of the five has {count} parameters; a dense "
    "layer to the same map would have {dense:,}, {ratio:,} times as many.",
    count=(by_torch(32, 3, 6, 5)[1], "==", 456), dense=(dense, "==", 14_455_392),
    ratio=round(dense / by_torch(32, 3, 6, 5)[1]))

# %% [markdown]
# **Exercise 04.3** Before you build a layer, say what it will be: return the side of its map, its parameters, and its multiplications for one picture.
# Pictures and filters are square; multiplications with the zeros of the padding count, biases do not multiply.
# Ten filters of 5×5 with padding 2 on 32×32×3 must give `(32, 760, 768000)`.

# %%
def layer_size(size, channels, filters, kernel_size, stride=1, padding=0): ...


exercises.check("04.3", layer_size)

# %% [markdown]
# ### Without loops, and backwards
#
# Four nested loops in Python are slow.
# But write the windows of a picture side by side, as the columns of a matrix: then one matrix product does all the dot products.
# This is *im2col* (image to columns).
# It copies each pixel up to $F^2$ times and is still worth it, because few things on a computer are tuned as well as a matrix product.

# %% tags=["define"]
def im2col(images, height, width, stride=1, padding=0):
    """Each window as a column: (N, C, H, H) gives (N, C · height · width, O · O)."""
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
# Now the gradients follow by hand.
# Let $X$ be the columns, $W$ the filters as rows, and $Y = WX$ the map: at place $p$ the answer of filter $k$ is $y_{kp} = \sum_i w_{ki} x_{ip}$.
# Suppose we know $g_{kp}$, how much the loss grows with $y_{kp}$.
# Turning up $w_{ki}$ a little changes the answer at *every* place $p$, by $x_{ip}$ each.
# So its gradient is $\sum_p g_{kp} x_{ip}$: a shared weight collects from all places where it is used. In one product, that is $G X^\top$.
# In the same way $x_{ip}$ acts on all filters, by $w_{ki}$: its gradient is $\sum_k w_{ki} g_{kp}$, that is $W^\top G$.
# These are gradients of the *columns*; a pixel that was copied nine times gets the sum of nine (`col2im`, the transpose of im2col).

# %% tags=["fold", "define"]
def col2im(columns, shape, height, width, stride=1, padding=0):
    """The transpose of `im2col`: columns are added to where they came from, pictures of `shape`."""
    n, c, h, w = shape
    rows = output_size(h, height, stride, padding)
    places = output_size(w, width, stride, padding)
    columns = columns.reshape(n, c, height, width, rows, places)
    padded = np.zeros((n, c, h + 2 * padding, w + 2 * padding), columns.dtype)
    for row, column in np.ndindex(height, width):  # one tap of all windows at a time
        down = slice(row, row + stride * rows, stride)
        right = slice(column, column + stride * places, stride)
        padded[:, :, down, right] += columns[:, :, row, column]
    return padded[:, :, padding : padding + h, padding : padding + w]

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
grad_output = random.normal(size=ours.shape)
by_hand = conv2d_backward(grad_output, images, weight, stride=2, padding=1)
tensors = [torch.tensor(array, requires_grad=True) for array in (images, weight, bias)]
F.conv2d(*tensors, stride=2, padding=1).backward(torch.tensor(grad_output))
autograd = [tensor.grad.numpy() for tensor in tensors]
gap = max(float(abs(one - two).max()) for one, two in zip(by_hand, autograd, strict=True))
forward = float(abs(conv2d_im2col(images, weight, bias, 2, 1) - ours).max())
claims.check("eq-conv2d-naive-im2col.backward", "im2col and the loops differ by {forward:.0e}, the "
    "three gradients and autograd by {gap:.0e}.", forward=(forward, "<", 1e-12),
    gap=(gap, "<", 1e-12), varies=True)
towards = random.normal(size=(1, 1, 4, 4))
transposed = matrix.T @ towards.ravel() - conv2d_backward(towards, small, nine)[0].ravel()
claims.check("eq-conv-as-matrix.transpose", "Backwards, the picture's gradient is the transposed "
    "matrix's, to {gap:.0e}.", gap=(float(abs(transposed).max()), "<", 1e-12), varies=True)

# %% [markdown]
# **We now know** what one filter for all places buys: equivariance, 456 parameters instead of 14 million, and a gradient that sums over all places.
# **This does not show** that less is better; section 5 asks that.
#
# **Exercise 04.4** Write `conv2d` by im2col, in NumPy, for filters with a *dilation*: the taps stand `dilation` pixels apart.
# Images (N, C, height, width) and weight (K, C, rows, columns) need not be square, bias is (K,) or None; the result is (N, K, height, width) of the maps.

# %%
def my_conv2d(images, weight, bias=None, stride=1, padding=0, dilation=1): ...


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
average = grid.reshape(2, 2, 2, 2).mean((1, 3))
panels = {"4 × 4": grid[0, 0], "max 2 × 2 / 2": largest, "average 2 × 2 / 2": average}
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
# A maximum does not say where in its window it stood, so a move within the window goes unnoticed.
# A move across a window's edge does not.
# Digits of 8×8 stand in the middle of dark boards, and we look at them through eight fixed edge filters.
# The yardstick is the nearest neighbour of lesson 01: every test digit is moved and takes the class of the training digit whose feature maps are closest to its own.
# A moved digit may find a wrong neighbour; the question is how many do with pooling, and how many without.

# %% tags=["fold", "define"]
def edge_filters(count=8):
    """Filters (count, 1, 5, 5) that answer to an edge in each direction; each adds up to zero."""
    y, x = np.mgrid[-2:3, -2:3]
    angles = 2 * np.pi * np.arange(count) / count
    slope = np.cos(angles)[:, None, None] * x + np.sin(angles)[:, None, None] * y
    return (slope * np.exp(-(x**2 + y**2) / 4))[:, None]


def edge_maps(pictures, down=0, right=0):
    """Digits on boards of 20×20, moved, seen through edge filters and ReLU: (N, 8, 20, 20)."""
    boards = np.zeros((len(pictures), 1, 20, 20))
    boards[:, :, 6 + down : 14 + down, 6 + right : 14 + right] = pictures.images.numpy() / 255
    maps = np.maximum(conv2d_im2col(boards, edge_filters(), padding=2), 0)
    return maps.astype(np.float32)


def pooled_maps(maps, pooling, grid):
    """Pooled and flattened, when the grid of windows begins `grid` pixels before the map."""
    border = (grid, -grid % 4)
    maps = np.pad(maps, ((0, 0), (0, 0), border, border))
    return torch.tensor(pooling(maps)).flatten(1)


def survival(pooling, grids=1):
    """Share that the nearest neighbour gets right, moved by 0 to 3 pixels, mean of grids: (4,)."""
    shares = np.zeros((grids, 4, len(steps)))
    for grid, move, step in np.ndindex(shares.shape):
        if move == step == 0:
            stored = pooled_maps(known_maps, pooling, grid)
        if move == 0 < step:  # not moved: the same in all directions
            shares[grid, 0, step] = shares[grid, 0, 0]
            continue
        shown = pooled_maps(moved_maps[move][step], pooling, grid)
        nearest = torch.cdist(shown, stored).argmin(1)
        shares[grid, move, step] = (known.labels[nearest] == asked.labels).float().mean()
    return shares.mean((0, 2))

# %%
known, asked = data.digits(train=True), data.digits(train=False)
known_maps, steps = edge_maps(known), [(1, 0), (-1, 0), (0, 1), (0, -1)]  # down, up, right, left
moved_maps = [[edge_maps(asked, move * y, move * x) for y, x in steps] for move in range(4)]
survived = {"no pooling": survival(lambda maps: maps)}
print("no pooling, moved by 0 to 3 pixels:", survived["no pooling"].round(2))
exercises.predict("04.p4", "Moved by one pixel, with 2×2 max pooling the share that is right is",
                  ("5 points higher", "about the same", "5 points lower"))

# %%
survived["max 2×2"] = survival(lambda maps: max_pool2d(maps, 2), grids=2)
survived["max 4×4"] = survival(lambda maps: max_pool2d(maps, 4), grids=4)
survived["max over the map"] = survival(lambda maps: maps.max((2, 3)))
plain, pooled = survived["no pooling"][1], survived["max 2×2"][1]
gain = pooled - plain
exercises.reveal(
    "04.p4",
    "about the same" if abs(gain) < 0.025 else "5 points higher" if gain > 0 else "5 points lower",
    f"{pooled:.1%} with 2×2 pooling, {plain:.1%} without.",
)

# %% tags=["fold"]
fig, axes = plt.subplots(figsize=(figures.WIDTH, 4))
for scores, colour in zip(survived.values(), ("C0", "C1", "C3", "C2"), strict=True):
    axes.plot(range(4), scores, color=colour, marker="o")
axes.text(2.0, 0.81, "max over the whole map", color="C2")
axes.text(1.72, 0.43, "4×4", color="C3")
axes.text(2.06, 0.225, "2×2", color="C1")
axes.text(1.48, 0.34, "no pooling", color="C0", ha="right")
axes.axhline(0.1, color="0.4", ls=":", lw=1.5)
axes.text(0, 0.12, "guessing", color="0.4")
axes.set(xlabel="pixels moved", ylabel="nearest neighbour right", xticks=range(4), ylim=(0, 1.03),
         title="Windows do not rescue moved digits;\na maximum over the map does, at a price")
figures.save(fig, "emp-pooling-translation-invariance",
    caption="450 test digits, moved in four directions (mean), recognised by the nearest of 1,347 "
    "unmoved ones in the maps of eight fixed edge filters; windows: mean over the places of their "
    "grid. No randomness.", alt="Without pooling "
    "and with windows accuracy falls; with one maximum a map it is lower and stays the same.")
few, whole = known[:450], survived["max over the map"]
saved = 100 * (survived["max 4×4"] - survived["no pooling"])  # in points
distance = []  # a move of one pixel, over the mean distance between digits of different classes
for window in (1, 2, 4):
    maps = [max_pool2d(edge_maps(few, 0, right), window) for right in (0, 1)]
    before, after = (torch.tensor(part).flatten(1) for part in maps)
    between = torch.cdist(before, before)[few.labels[:, None] != few.labels].mean()
    distance.append(float((after - before).norm(dim=1).mean() / between))
claims.check("emp-pooling-translation-invariance", "A move by one pixel leaves {plain:.0%} right; "
    "2×2 windows change that by {two:+.1f} points, 4×4 by {four:+.1f}.", plain=(plain, "<", 0.8),
    two=(100 * gain, "in", (-2.5, 2.5)), four=(saved[1], "in", (-5, 5)))

# %% tags=["fold"]
claims.check("emp-pooling-translation-invariance.far", "At two and three pixels {two:.0%} and "
    "{three:.0%} are right without pooling; 4×4 windows save {saved_two:.0f} and {saved_three:.0f} "
    "points, and leave {wrong:.0%} wrong at two.", two=survived["no pooling"][2],
    three=survived["no pooling"][3], saved_two=(saved[2], ">", 5), saved_three=(saved[3], ">", 5),
    wrong=(1 - survived["max 4×4"][2], ">", 0.5))
mean_of_all = survival(lambda maps: maps.mean((2, 3)))
claims.check("emp-pooling-translation-invariance.whole", "One maximum a map gets {whole:.0%} "
    "right, moved or not, {price:.0f} points fewer than the whole maps of unmoved digits; one mean "
    "a map {mean:.0%}.", whole=(whole[1], ">", 0.7), mean=(mean_of_all[1], "<", 0.6),
    price=(100 * (survived["no pooling"][0] - whole[0]), ">", 10))
claims.check("emp-pooling-translation-invariance.distance",
    "The move is {one:.2f} of the distance between digits of different classes unpooled, {two:.2f} "
    "after 2×2 and {four:.2f} after 4×4.", one=(distance[0], "~", 0.93, 0.011),
    two=(distance[1], "~", 0.90, 0.011), four=(distance[2], "~", 0.83, 0.011))

# %% [markdown]
# Pooling does shrink the change, but it shrinks the distance between the classes nearly as much: at one pixel windows hardly help.
# At two or three pixels windows of 4×4, half a digit wide, save some digits and leave most wrong.
# (Where the grid of windows begins matters by a few points; the numbers are means over its places.)
# What makes a network indifferent to moves is two things together: convolution, which moves the map along with the digit (section 3), and a maximum or a mean over *all* of it.
# That the maximum over the map (or the mean) stays level is true by construction here: the whole digit stays on its dark board, and the largest answer with it.
# What had to be measured is the price, at move 0: how strong each edge is, but no longer where, tells 19 points fewer digits apart; by the mean, half of them are wrong.
#
# What windows do buy: a quarter of the numbers, and, as we see next, a longer view.
#
# ### Maximum or average?
#
# It depends on what is looked for.
# In one task, half of the noisy pictures hide a single bright pixel; in the other, half of them are a shade brighter all over.
# Both times a linear classifier sees four numbers a picture, pooled from 8×8 pixels each.

# %% tags=["fold"]
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


lead = {}
for task in ("one pixel", "density"):
    by_max = [pooled_accuracy(task, max_pool2d, run) for run in range(5)]
    by_average = [pooled_accuracy(task, avg_pool2d, run) for run in range(5)]
    lead[task] = 100 * np.subtract(by_max, by_average)
claims.check("emp-maxpool-vs-avgpool", "For one bright pixel the maximum leads by {one:.0f} "
    "points; for overall brightness the average leads by {density:.0f} points.",
    one=(lead["one pixel"], ">", 10), density=(-lead["density"], ">", 10), seeds=5, on="every",
    varies=True)

# %% [markdown]
# Hidden layers look for things; there the maximum was usual.
# The average came back at the end of networks, where the evidence of the whole picture is collected.
#
# ### How much of the picture does one unit see?
#
# A unit of the first 3×3 layer sees 3×3 pixels; one of the second sees a 3×3 window of those, which is 5×5 pixels.
# The width of the patch is the *receptive field*.
# Layer $l$ widens it by $F_l - 1$ steps of its own input, and such a step is as many pixels as the strides before it, multiplied: the *jump* $j$.
#
# $$r_l = r_{l-1} + (F_l - 1)\, j_{l-1}, \qquad j_l = j_{l-1} S_l, \qquad r_0 = j_0 = 1$$
#
# So two 3×3 layers see what one 5×5 layer sees (with 18 weights instead of 25 for each pair of channels), three see 7×7; with strides or pooling between them the view grows much faster.
# But seeing is not the same as minding.
# There are many more paths from a unit to the middle of its patch than to the rim, so the deeper the stack, the less its rim counts, as the picture below shows.

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

# %% tags=["fold"]
def influence(depth, networks=20):
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


shares = {depth: influence(depth) for depth in (2, 3, 10)}
fig, axes = plt.subplots(figsize=(figures.WIDTH, 3.4))
for depth, colour in ((3, "C1"), (10, "C0")):
    share, columns = shares[depth], np.arange(2 * depth + 1) - depth
    axes.plot(columns, share, color=colour, marker="o")
    alike, label = 1 / len(share), f"{depth} layers, field {len(share)}"
    axes.text(0.35 * depth + 0.5, 0.75 * share.max() + 0.01, label, color=colour)
    axes.hlines(alike, -depth, depth, color=colour, ls=":", lw=1.5)
    axes.text(-depth - 0.2, alike + 0.006, f"if all {len(share)}\ncounted alike", color=colour,
              ha="right" if depth == 3 else "left")
axes.set(xlabel="pixels from the middle", ylabel="share of the gradient", ylim=(0, 0.22),
         xticks=range(-10, 11, 5), title="The deeper, the less the rim counts")
plt.show()
two, three, ten = (float(share[0] + share[-1]) for share in shares.values())
claims.check("eq-receptive-field", "Untrained, the two outermost columns get {two:.0%} of the "
    "gradient with two layers of 3×3 (40 % if all counted alike), {three:.0%} with three (29 %) "
    "and {ten:.1%} with ten (10 %); there the middle 11 of 21 columns get {middle:.0%}.",
    two=(two, "<", 0.35), three=(three, "<", 0.2), ten=(ten, "<", 0.01),
    middle=(float(shares[10][5:16].sum()), ">", 0.8), varies=True)

# %% [markdown]
# **We now know** that windows of pooling save numbers and lengthen the view, and that indifference to moves comes from pooling *everything*, at a price.
# **This does not show** what a trained network makes of it: our filters were fixed, and the networks of the last figure untrained.
#
# **Exercise 04.5** A calculator for real networks: go through an `nn.Sequential` of convolutions, poolings and other layers, and return how many pixels a unit of the last layer sees along a side.
# Layers without a window leave it as it is; windows are square.
# Mind the dilation.
# VGG-16 up to its last pooling gives 212.

# %%
def field_of(network): ...


exercises.check("04.5", field_of)

# %% [markdown]
# ## 5 · Is the structure worth having?
#
# A convolution assumes two things about pictures: neighbouring pixels belong together, and what is true in one place is true in another.
# Handwritten digits move about on a dark square.
# A small convolutional network (CNN) and a fully connected one (MLP) with the *same number of parameters* learn to read them, from the same pictures with the same optimizer.
# Then all pictures have their pixels shuffled, each picture in the same way, and both learn anew.
# No information is lost; only the neighbourhood is gone.
# (The writers of the training digits also wrote test digits: these are no strangers' hands.)
#
# Three more rivals help to say why.
# A *locally connected* network looks at the same 3×3 windows as the CNN, but every place has filters of its own: neighbourhood without sharing.
# And from the time before 2012: a linear classifier on pixels (fitted until nothing changes), and one on features that a person designed, histograms of edge directions (HOG).

# %%
def on_boards(pictures):
    """Pictures at random places of larger boards: inputs (N, C, side, side) in 0..1, and labels."""
    padded = F.pad(pictures.images, [margin] * 4)
    moved = augment.crop(padded, margin, torch.Generator().manual_seed(seed))
    return moved.to(torch.get_default_dtype()) / 255, pictures.labels


named = dataset in ("digits", "mnist", "fashion_mnist", "cifar10")  # else a folder: scaled
parts = [data.load(dataset, part, size=None if named else picture_size) for part in (True, False)]
parts = [part.subset(limit, seed=seed) for part in parts]
boards = [on_boards(part) for part in parts]  # to train, to test
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
plt.show()

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


def accuracy(make, parts, run):
    """Test accuracy of a network trained from seed `run`."""
    runtime.start(seed=run)
    network = make().to(memory_format=torch.channels_last)  # the same numbers, sooner
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)  # faster
    training.fit(network, parts[0], optimizer=optimizer, epochs=epochs, batch_size=batch_size)
    return training.evaluate(network, parts[1]).accuracy

# %% tags=["fold", "define"]
class LocallyConnected(nn.Module):
    """`nn.Conv2d(channels, filters, 3, padding=1)`, unshared: (N, C, H, H) to (N, K, H, H)."""

    def __init__(self, channels, filters, side):
        super().__init__()
        bound = (9 * channels) ** -0.5  # as torch draws the weights of a convolution
        weight = torch.empty(side**2, 9 * channels, filters).uniform_(-bound, bound)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(side**2, 1, filters))

    def forward(self, maps):
        windows = F.unfold(maps, 3, padding=1).permute(2, 0, 1).contiguous()  # (places, N, 9 C)
        answers = windows @ self.weight + self.bias  # (places, N, K)
        return answers.permute(1, 2, 0).reshape(len(maps), -1, *maps.shape[2:])


def local_network():
    """The CNN with locally connected layers in place of its convolutions."""
    layers = list(cnn())
    layers[0] = LocallyConnected(channels, width, side)
    layers[3] = LocallyConnected(width, 2 * width, side // 2)
    return nn.Sequential(*layers)


def size_of(network):
    """How many numbers it learns."""
    return sum(p.numel() for p in network.parameters())

# %%
hidden = round((size_of(cnn()) - classes) / (channels * side**2 + 1 + classes))
print("parameters: CNN", size_of(cnn()), "MLP", size_of(mlp(hidden)))
exercises.predict("04.p5", "More than 10 points are lost, when the pixels are shuffled, by",
                  ("the CNN", "the MLP", "both", "neither"))

# %%
contest = {
    "CNN": (cnn, boards),
    "CNN, shuffled": (cnn, shuffled),
    "MLP, same size": (lambda: mlp(hidden), boards),
    "MLP, shuffled": (lambda: mlp(hidden), shuffled),
    "MLP, 10 times larger": (lambda: mlp(10 * hidden), boards),
    "windows, not shared": (local_network, boards),
}
reached = {}  # test accuracies, one a seed
for name, (make, parts) in contest.items():
    runs = seeds[:2] if make is local_network else seeds  # it is the slowest
    reached[name] = np.array([accuracy(make, parts, run) for run in runs])

# %%
mean = {name: scores.mean() for name, scores in reached.items()}
cnn_lost = mean["CNN"] - mean["CNN, shuffled"]
mlp_lost = mean["MLP, same size"] - mean["MLP, shuffled"]
one = "the CNN" if cnn_lost > 0.1 else "the MLP" if mlp_lost > 0.1 else "neither"
exercises.reveal("04.p5", "both" if min(cnn_lost, mlp_lost) > 0.1 else one,
                 f"The CNN loses {100 * cnn_lost:.0f} points, the MLP {100 * mlp_lost:.0f}.")

# %% tags=["fold"]
def edge_histograms(images):
    """HOG features (N, 128): how strong the edges of 8 directions are in each of 4×4 cells."""
    cell = -(-side // 4)  # rounded up, or the last pixels would never be read
    images = F.pad(images, [0, 4 * cell - side] * 2)
    options = {"orientations": 8, "pixels_per_cell": (cell, cell), "cells_per_block": (1, 1)}
    features = [hog(image, channel_axis=0, **options) for image in images.numpy()]
    return torch.tensor(np.stack(features)).to(images)


designed = [(edge_histograms(images), labels) for images, labels in boards]
pixels = [(images.flatten(1), labels) for images, labels in boards]
for name, parts in {"pixels": pixels, "edge histograms": designed}.items():
    (inputs, labels), (unseen, truth) = parts
    classifier = LogisticRegression(max_iter=1000).fit(inputs.numpy(), labels.numpy())
    reached[f"linear on {name}"] = np.array([classifier.score(unseen.numpy(), truth.numpy())])
fig, axes = plt.subplots(figsize=(figures.WIDTH, 4.3))
ranking = sorted(reached, key=lambda name: reached[name].mean())
for height, name in enumerate(ranking):
    colour = {"CNN": "C0", "MLP": "C1", "win": "C3"}.get(name[:3], "C2")
    axes.barh(height, reached[name].mean(), color=colour, alpha=0.35)
    axes.plot(reached[name], [height] * len(reached[name]), "o", color=colour)
    axes.text(reached[name].max() + 0.015, height, f"{reached[name].mean():.0%}", va="center")
axes.axvline(1 / classes, color="0.4", ls=":", lw=1.5)
axes.text(1 / classes + 0.005, len(ranking) - 0.45, "guessing", color="0.4")
axes.set(yticks=range(len(ranking)), yticklabels=ranking, xlim=(0, 1.02), xlabel="test accuracy",
         ylim=(-0.6, len(ranking)), title="On pictures the CNN leads, shuffled it is behind")
figures.save(fig, "emp-prior-knowledge-better", caption="Test accuracy on digits at random places "
    "(8×8 digits on 14×14 boards, 1,347 to train, 450 to test, 14 epochs, CPU). Dots: seeds; bars: "
    "means; dotted: guessing.", alt="The CNN leads by far; shuffled it falls behind the MLP, which "
    "does not notice the shuffling; windows without sharing stay well below the CNN.")

# %% tags=["fold"]
points = {name: 100 * (reached["CNN"][: len(values)] - values) for name, values in reached.items()}
points["linear on edge histograms"] = 100 * (reached["CNN"] - reached["linear on edge histograms"])
claims.check("emp-prior-knowledge-better", "The CNN leads an MLP of its size by {same:.0f} points "
    "and one ten times larger by {larger:.0f} points.", same=(points["MLP, same size"], ">=", 20),
    larger=(points["MLP, 10 times larger"], ">=", 5), seeds=seeds, on="every", varies=True)
claims.check("emp-prior-knowledge-better.shuffled", "Shuffling costs the CNN {lost:.0f} points; "
    "there it is {behind:.0f} points behind the MLP.", lost=(points["CNN, shuffled"], ">=", 30),
    behind=(100 * (reached["MLP, shuffled"] - reached["CNN, shuffled"]), ">=", 1), seeds=seeds,
    on="every", varies=True)
claims.check("emp-prior-knowledge-better.sharing", "Without sharing, the same windows reach "
    "{local:.0%}: {lost:.0f} points below the CNN, with {count:,} parameters.",
    local=reached["windows, not shared"], lost=(points["windows, not shared"], ">=", 3),
    count=size_of(local_network()), seeds=seeds[:2], on="every", varies=True)
by_hand = reached["linear on edge histograms"] - reached["linear on pixels"]
claims.check("prac-end-to-end-pipeline", "On moving digits of 8×8 pixels designed features lead "
    "pixels by {designed:.0f} points; the learned ones of the CNN lead the designed by "
    "{learned:.0f} points.",
    designed=(100 * float(by_hand[0]), ">=", 10),
    learned=(points["linear on edge histograms"], ">=", 15), seeds=seeds, on="every", varies=True)

# %% [markdown]
# The MLP scores alike on shuffled pixels, up to luck, and one can do better than "up to luck".
# Shuffle the columns of its first weight matrix along with the pixels, and every number of its training stays the same: to an MLP the order of pixels does not exist.

# %%
runtime.start(seed=seed, dtype="float64")
plain, twin = mlp(hidden), mlp(hidden)
twin.load_state_dict(plain.state_dict())
with torch.no_grad():
    first = plain[1].weight.view(hidden, channels, -1)
    twin[1].weight.copy_(first[..., order].flatten(1))
losses = []
for network, parts in ((plain, boards), (twin, shuffled)):
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    exact = parts[0][0].double(), parts[0][1]
    history = training.fit(network, exact, optimizer=optimizer, epochs=2, batch_size=batch_size)
    losses.append(history.train_loss)
claims.check("emp-prior-knowledge-better.blind", "In two epochs the losses of an MLP on pictures "
    "and of its twin on shuffled ones differ by {gap:.0e}.",
    gap=(float(abs(np.subtract(*losses)).max()), "<", 1e-9), varies=True)

# %% [markdown]
# **We now know** that on these digits, after 14 epochs, the structure is worth more than ten times the parameters.
# Both halves of it count: without the neighbourhood the CNN falls behind the MLP; without sharing, at the same budget and with 30 times the parameters, it falls behind itself.
# **This does not show** what longer training would do: 14 epochs leave the small MLP far from trained out, and the learning rate was tuned for nobody.
# Nor does it show that structure always beats data.
# With 14 million pictures and more, transformers learn about neighbours by themselves (Dosovitskiy et al. 2021); here there are 1,347.
#
# ## In practice
#
# - `nn.Conv2d(64, 64, 3, padding="same")`: 3×3 almost everywhere, stride 2 instead of many poolings, `nn.AdaptiveAvgPool2d(1)` at the end, so that the picture's size is free.
# - Print the shapes, do not compute them: `torchinfo.summary(network, (1, 3, 224, 224))`, or a pass on `torch.device("meta")`.
# - Numbers of filters are usually multiples of 8 or 16; on one CPU we saw no gain for powers of two among them (timed below). `timm` rounds with `make_divisible(width, 8)`.
# - Where moves must not matter, blur before striding (`timm.layers.BlurPool2d`), and train on moved pictures (`torchvision.transforms.v2.RandomCrop(32, padding=4)`).
# - Libraries choose among im2col, FFT and Winograd themselves; `torch.backends.cudnn.benchmark = True` lets them try.
#
# ## History
#
# - 1962: Hubel and Wiesel find cells in the cat's visual cortex that answer to edges in a small patch, and others that answer wherever in the patch the edge lies.
# - 1980: Fukushima's Neocognitron stacks such layers, filters shared over all places, followed by layers that tolerate moves; learned without backpropagation.
# - 1989: LeCun and others train shared filters by backpropagation, on handwritten zip codes; 1998: LeNet-5.
# - 2006: Chellapilla, Puri and Simard write the convolution as one matrix product (im2col).
# - 2012: Krizhevsky, Sutskever and Hinton win ImageNet with 60 million parameters on two GPUs; designed features such as HOG (Dalal and Triggs 2005) go out of use.

# %% [markdown]
# ## Also in the lectures
#
# Smaller items of the lectures, checked here and used by later lessons: which layers have parameters, pooling backwards and its relatives, lazy layers, and the number of filters.
# The cells are folded.

# %% tags=["fold", "ledger:eq-fc-layer-shapes"]
kinds = [nn.Conv2d(8, 8, 3), nn.Linear(8, 8), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
         nn.AvgPool2d(2), nn.LocalResponseNorm(5), nn.Dropout(0.5), nn.Softmax(dim=1)]
learning = {type(kind).__name__: size_of(kind) for kind in kinds}
claims.check("prac-layer-types-with-params", "Of nine kinds of layers {learn} have parameters; "
    "{others} have none.",
    learn=(", ".join(name for name in learning if learning[name]), "==",
           "Conv2d, Linear, BatchNorm2d"),
    others=", ".join(name for name, count in learning.items() if not count))
columns, dense = random.normal(size=(12, 5)), random.normal(size=(4, 12))
in_rows = F.linear(torch.tensor(columns.T), torch.tensor(dense)).numpy()
claims.check("eq-fc-layer-shapes", "With examples in columns, as in the lectures, or in rows, as "
    "in torch, a dense layer has weights of shape {shape}, and the answers agree to {gap:.0e}.",
    shape=(tuple(nn.Linear(12, 4).weight.shape), "==", (4, 12)),
    gap=(float(abs(in_rows - (dense @ columns).T).max()), "<", 1e-12), varies=True)
flipped = CURVE_FILTER[::-1, ::-1]  # as a mathematician's convolution does first
claims.check("num-curve-filter-0.flipped", "Flipped, as in mathematics, the filter gives "
    "{back:.0f} and {ear:.0f}.", back=(answer(MOUSE_BACK, flipped), "==", 3600),
    ear=(answer(MOUSE_EAR, flipped), "==", 2250))
warnings.filterwarnings("ignore", message="Lazy modules")  # they are the point
with torch.device("meta"):  # layers that find out their input sizes themselves
    flex = nn.Sequential(
        nn.LazyConv2d(96, 11), nn.ReLU(), nn.MaxPool2d(2),
        nn.LazyConv2d(384, 3), nn.ReLU(), nn.LazyConv2d(384, 3), nn.ReLU(), nn.LazyConv2d(256, 3),
        nn.Flatten(), nn.LazyLinear(4096), nn.ReLU(), nn.LazyLinear(4096), nn.ReLU(),
        nn.LazyLinear(1000))
    flex(torch.empty(1, 3, 224, 224))
claims.check("arch-flex-lazy-layers", "The lectures' lazy sketch of AlexNet, without its strides, "
    "has {inputs:,} inputs to the first dense layer and {count:,} parameters; AlexNet has 61 "
    "million.", inputs=(flex[9].in_features, "==", 256 * 101 * 101),
    count=(size_of(flex), "==", 10_719_985_768))

# %% tags=["fold", "define"]
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

# %% tags=["fold"]
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
    "subsampling with a gain of 1/4 and no bias is a scaled average, to {gap:.0e}.",
    none=(size_of(nn.AvgPool2d(2)), "==", 0),
    gap=(float(abs(lenet - avg_pool2d(straight, 2)).max()), "<", 1e-9), varies=True)
pooled = max_pool2d(pad(photo[None, None], 1, -np.inf), 3, 1)[0, 0]
claims.check("emp-maxpool-morphology", "At stride 1, max pooling of a photograph and the grey "
    "dilation of image processing differ by {gap:.0f}.",
    gap=(float(abs(pooled - grey_dilation(photo, np.ones((3, 3)))).max()), "==", 0))

# %% tags=["fold"]
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.8))
for panel, kernel in zip(axes, (2, 3), strict=True):
    panel.hlines(range(8), 0, 7, color="0.8", lw=1)
    panel.vlines(range(8), 0, 7, color="0.8", lw=1)
    for row, column in np.ndindex(3, 3):
        place, side = (2 * column + 0.08, 2 * row + 0.08), kernel - 0.16
        look = {"fc": f"C{(row + column) % 2}", "ec": "none", "alpha": 0.3}
        panel.add_patch(Rectangle(place, side, side, **look))
    panel.set(title=f"{kernel} × {kernel} / 2: {'overlapping' if kernel == 3 else 'side by side'}",
              xlim=(-0.1, 7.1), ylim=(7.1, -0.1), aspect="equal")
    panel.axis("off")
fig.suptitle("At stride 2, 3×3 windows overlap and miss no pixel", x=0.01, ha="left")
figures.save(fig, "fig-overlap-pooling", caption="Windows of 2×2 and of 3×3, both at stride 2, on "
    "a 7×7 map. Two colours tell neighbours apart; darker: read by two or four windows.",
    alt="2×2 windows stand side by side and leave the last row and column out; 3×3 windows overlap "
    "by one pixel and cover the map.")
claims.quoted("fig-overlap-pooling", "3×3/2 instead of 2×2/2 lowers AlexNet's top-1 and top-5 "
    "errors by 0.4 and 0.3 points.", "Krizhevsky et al. 2012, section 3.4")

# %% tags=["fold", "ledger:prac-power-of-two-filters", "nbval-ignore-output"]
def seconds_per_filter(counts, repeats=20):
    """Shortest time of a 3×3 layer on 32×28×28, divided by its filters; in turns, to be fair."""
    picture, best = torch.randn(4, 32, 28, 28), {filters: np.inf for filters in counts}
    weights = {filters: torch.randn(filters, 32, 3, 3) for filters in counts}
    for filters in [*counts] * repeats:
        start = time.perf_counter()
        F.conv2d(picture, weights[filters])
        best[filters] = min(best[filters], (time.perf_counter() - start) / filters)
    return best


runtime.start(seed=seed)
best = seconds_per_filter((60, 61, 62, 63, 64, 65, 80, 96, 112, 128, 144))
print("time a filter, relative to a layer of 64 filters:")
print({count: round(taken / best[64], 2) for count, taken in best.items()})

# %% [markdown]
# The last line is a time, so it differs from machine to machine and is not checked.
# On the machine that printed it, all multiples of 16 cost about the same a filter, 61 to 63 little more, and 60 and 65 a tenth to a quarter more.
# So on one CPU we saw no gain for powers of two: 80 and 96 are none, and lose nothing.
#
# ## Exercises
#
# Each check says what is wrong and how to see it; 04.1 to 04.5 stand after their sections.
# Two are open, without a check:
#
# **04.6** What does the last figure *not* show?
# Name one change that would let the MLP catch up, and try it: `margin = 0`, another `learning_rate`, more `epochs`, or newly moved pictures in every epoch (`augment=` of `training.fit`).
#
# **04.7** The learned filter of section 1 answers to bright strokes on dark, such as the tripod's leg.
# Give it examples with a *dark* curve on a bright ground as well, and look at its weights.
# Why can one filter not do both, and how many filters and which layer after them would?
#
# ## Summary
#
# The numbers were checked above, at the default parameters and under the conditions named there.
#
# - A filter answers with its dot product with a window. As drawn it gives 6600 on its curve and 9000 on plain paper; a detector's weights add up to zero, and learning finds that where light varies.
# - $\lfloor (H + 2P - D(F-1) - 1)/S \rfloor + 1$ windows fit along a side; what does not fit is skipped in silence, 13 of 49 pixels for 7×7 at stride 3. Each of torch's four paddings invents something.
# - One filter for all places is a sparse matrix with few different numbers: 456 parameters where a dense layer has 14,455,392, a map that moves with the picture, and a gradient summed over all places.
# - For digits of 8×8 and fixed filters, pooling windows hardly help at a move of one pixel and 4×4 some at two or three; a maximum over the whole map is indifferent to moves, at the price of where. Receptive fields grow to 5, 7, 195 (AlexNet), 212 (VGG-16) pixels; the more layers, the less their rim counts (random linear layers of 3×3).
# - With equal parameters and 14 epochs a CNN beats an MLP by at least 20 points on digits that move and loses at least 30 when the pixels are shuffled; without the sharing (two seeds, 30 times the parameters) it stays behind.
#
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | all parameters = 76 · 10 = 76 | 76 · 10 = **760** | [counted](#Counting) |
# | 6600 is "a large number": the curve is there | plain paper gives 9000. A large answer means "pattern present" only if the filter adds up to zero, and even then it grows with contrast | [section 1](#1-·-One-number:-how-alike-are-filter-and-window?) |
# | a stride of 3 "doesn't work" on 7×7 with 3×3 | it does not tile; frameworks round down, return 2×2 and never read 13 of the 49 pixels | [section 2](#2-·-How-many-windows-are-there?) |
# | $(N-F)/S + 1$ | the case without padding and with whole result; in general $\lfloor (H + 2P - F)/S \rfloor + 1$, where $H$ is the notes' $N$ | 207 settings against torch, [section 2](#2-·-How-many-windows-are-there?) |
# | pad with $(F-1)/2$ to keep the size | for odd $F$ and stride 1 | [the border](#The-border) |
# | average pooling "might be learnable" | plain average pooling has no parameters; LeNet-5's subsampling had a gain and a bias a map | counted [here](#Also-in-the-lectures); LeCun et al. 1998, II.B |
# | pooling makes the network invariant to small translations | not by itself: with digits of 8×8 and fixed filters, windows change little at one pixel, and at two or three 4×4 leaves most wrong; a maximum of the whole map is indifferent by construction | [section 4](#Does-pooling-make-a-network-blind-to-small-moves?) |
# | max pooling replaces average pooling | depends on what is looked for; the average came back as the last layer | [section 4](#Maximum-or-average?); Lin et al. 2014 |
# | the number of filters is a power of 2, "to vectorise well" | on one CPU we saw no gain for powers of two among the multiples of 16 | timed [here](#Also-in-the-lectures) |
# | two and three 3×3 layers have an "effective" receptive field of 5 and 7 | that is the theoretical field; within it the two outermost columns get 30 and 15 % of the gradient, untrained, where equal shares are 40 and 29 %; with more layers far less | [section 4](#How-much-of-the-picture-does-one-unit-see?); Luo et al. 2016 |
#
# What the layers compute is, in the words of mathematics, cross-correlation: a convolution would flip the filter first. For learned filters nothing changes; the drawn one would give 3600 and 2250 in place of 6600 and 0.
#
# ## Sources
#
# - Hubel and Wiesel, *Receptive fields, binocular interaction and functional architecture in the cat's visual cortex*, J. Physiology 160, 1962.
# - Fukushima, *Neocognitron*, Biological Cybernetics 36, 1980.
# - LeCun et al., *Backpropagation applied to handwritten zip code recognition*, Neural Computation 1, 1989; *Gradient-based learning applied to document recognition*, Proceedings of the IEEE 86, 1998.
# - Dalal and Triggs, *Histograms of oriented gradients for human detection*, CVPR 2005.
# - Chellapilla, Puri and Simard, *High performance convolutional neural networks for document processing*, IWFHR 2006.
# - Krizhevsky, Sutskever and Hinton, *ImageNet classification with deep convolutional neural networks*, NIPS 2012.
# - Lin, Chen and Yan, *Network in network*, ICLR 2014, arXiv:1312.4400.
# - Luo, Li, Urtasun and Zemel, *Understanding the effective receptive field in deep convolutional neural networks*, NIPS 2016, arXiv:1701.04128.
# - Dumoulin and Visin, *A guide to convolution arithmetic for deep learning*, 2016, arXiv:1603.07285.
# - Zhang, *Making convolutional networks shift-invariant again*, ICML 2019, arXiv:1904.11486.
# - Islam, Jia and Bruce, *How much position information do convolutional neural networks encode?*, ICLR 2020, arXiv:2001.08248.
# - Dosovitskiy et al., *An image is worth 16x16 words*, ICLR 2021, arXiv:2010.11929.
