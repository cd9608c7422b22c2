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
# # 19 · Semantic segmentation
# ### Which pixel belongs to what?
#
# A network that says "there is a two" has told you what, and not where. Here each *pixel* gets a name: ground, zero, one or two. The first figure shows what four trained networks paint over the same pictures, a colour for a name.
# Odd: the first one finds nearly every stroke and often calls it by a wrong name. The third knows most names and smears the strokes. Each lacks what the other has.
#
# **You will be able to**
# - score a map of names, and say why the share of right pixels flatters it;
# - turn a network for one window into one for the whole picture, and count what that saves;
# - enlarge a map in four ways by hand, one of them learnt;
# - say what a skip carries from the way down to the way up, and test it;
# - say what labelled pixels cost, and what a map of names cannot tell.
#
# **You need** lesson 04 (convolution, pooling, what a unit sees), lesson 07 (BatchNorm) and lesson 11 (a network that is trained, its loss).
#
# **Words.** A *map* holds a number for each place of a grid. N pictures with C channels of H × W pixels are an array (N, C, H, W). *Scores* are what a network puts out for each class; the largest decides. A *multiply-add* is one product that is added to a sum; M is a million. A *seed* fixes all random numbers of a training.
# Claims (✓) are made for the parameters below; with others the lesson shows what it measures and requires nothing.

# %% [markdown]
# **It costs** about 40 seconds of one processor core, no network connection, no GPU.

# %% tags=["parameters"]
seed: int = 100  # the first of the seeds of weights and order; at least 0
seed_count: int = 2  # how many seeds; 2 to 10
dataset: str = "digits"  # whose digits lie on the made pictures; one of digits, mnist
masks: str = ""  # a folder with your own pictures and masks in place of the made ones; any text
image_size: int = 32  # pixels a side, rounded down to a multiple of four; 32 to 192
pictures: int = 800  # made for training; at least 80
passes: int = 2  # over the training pictures, for windows and the way down; 1 to 100
up_passes: int = 1  # for each way up; 1 to 100
weight: float = 3.0  # of an object's pixel in the loss, the ground's has 1; above 0

# %% tags=["imports", "fold"]
import timeit

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import to_rgb
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

from cnncourse import claims, cost, data, exercises, figures, metrics, plots, runtime, scenes
from cnncourse import training, widgets

# %% tags=["fold"]
# Look; pictures with a class for each pixel, a part for training, another for the test.
runtime.start(seed=seed, device="cpu", memory_format="channels_last")
# (Bilinear enlargement has no repeatable gradient on CUDA, and the networks are small.)
figures.use_style()
side = image_size // 4 * 4
if not masks:
    train, test = (scenes.make(count, part, size=side, classes=3, objects=(1, 2),
                               heights=(12, 17), source=dataset).segmentation()
                   for count, part in ((pictures, True), (200, False)))
else:
    whole = data.masks_folder(masks, size=side)
    fifth = torch.arange(len(whole)) % 5 == 4  # every fifth picture is for the test
    train, test = whole[~fifth], whole[fifth]
train = train.normalised()
test = test.normalised(train.mean, train.std)
IGNORE = 255  # a pixel that nobody has named
names, channels = train.classes, train.images.shape[1]
classes = len(names)
seeds = list(range(seed, seed + seed_count))
(x, y), (xt, yt) = [next(part.batches(len(part))) for part in (train, test)]
weights = torch.tensor([1.0] + [weight] * (classes - 1)).to(x)

# %% [markdown]
# The task: one or two digits, 12 to 17 pixels high, on pictures of 32 × 32 pixels with a ground of brick, grass or gravel. The digits of the test were written on other sheets of paper, most likely by other hands (who wrote which sheet is not recorded); its grounds are other parts of the photographs than those of the training.
#
# The networks stand here because the first figure needs them. Pass over them now: sections 2 to 4 take them apart.

# %% tags=["define"]
def layer(inputs, outputs, padding=1, gap=1):
    """A convolution of 3 × 3, BatchNorm, ReLU; gap: from one weight to the next, in pixels."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=padding, dilation=gap, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())

class Window(nn.Module):
    """Scores of a pixel from the window around it; all layers work on every pixel."""

    def __init__(self, gaps, classes, channels=3, width=8):
        super().__init__()
        self.reach = sum(gaps)  # how far a window goes to each side, in pixels
        steps = [layer(channels, width, 0, gaps[0])]
        steps += [layer(width, width, 0, gap) for gap in gaps[1:]]
        self.layers = nn.Sequential(*steps, nn.Conv2d(width, classes, 1))

    def forward(self, x):
        return self.layers(F.pad(x, (self.reach,) * 4))  # zeros around the picture, once

# %% tags=["define"]
class Down(nn.Module):
    """Two poolings on the way down; most layers work on a sixteenth of the places."""

    def __init__(self, classes, channels=3):
        super().__init__()
        self.fine = layer(channels, 16)
        self.middle = layer(16, 32)
        self.coarse = nn.Sequential(layer(32, 64), layer(64, 64), layer(64, 32))
        self.name = nn.Conv2d(32, classes, 1)

    def maps(self, x):
        fine = self.fine(x)  # (N, 16, H, W)
        x, fine_places = F.max_pool2d(fine, 2, return_indices=True)
        middle = self.middle(x)  # (N, 32, H/2, W/2)
        x, middle_places = F.max_pool2d(middle, 2, return_indices=True)
        return self.coarse(x), middle, middle_places, fine, fine_places

    def forward(self, x):
        coarse = self.name(self.maps(x)[0])  # (N, classes, H/4, W/4)
        return F.interpolate(coarse, scale_factor=4, mode="bilinear")

# %% tags=["define"]
class Up(nn.Module):
    """From the maps of the way down to scores: twice as large, a layer; twice as large, a layer."""

    def __init__(self, ways, classes, skips=False):
        super().__init__()
        self.way1, self.way2 = ways  # each takes (map, places of the maxima)
        twice = 2 if skips else 1
        self.skips = skips
        self.first, self.second = layer(32 * twice, 16), layer(16 * twice, 16)
        self.name = nn.Conv2d(16, classes, 1)

    def forward(self, x, middle, middle_places, fine, fine_places):
        x = self.way1(x, middle_places)  # (N, 32, H/2, W/2)
        x = self.first(torch.cat([x, middle], 1) if self.skips else x)
        x = self.way2(x, fine_places)  # (N, 16, H, W)
        x = self.second(torch.cat([x, fine], 1) if self.skips else x)
        return self.name(x)

def bilinear(x, places=None, factor=2):
    return F.interpolate(x, scale_factor=factor, mode="bilinear")

# %% tags=["fold"]
def loss(scores, labels):
    """Cross-entropy of pixels, those of objects weighted; what nobody has named is left out."""
    return F.cross_entropy(scores, labels, weight=weights, ignore_index=IGNORE)

def fitted(make, images, number, rate, epochs):
    """A network trained by Adam; the rate rises and falls (OneCycleLR)."""
    with runtime.seeded(number):
        net = make().to(memory_format=torch.channels_last)
        step = torch.optim.Adam(net.parameters(), rate)
        total = epochs * -(-len(images[1] if isinstance(images, tuple) else images) // 8)
        rise = torch.optim.lr_scheduler.OneCycleLR(step, rate, total_steps=total)
        training.fit(net, images, None, optimizer=step, scheduler=rise, epochs=epochs,
                     batch_size=8, loss=loss, progress=False)
    return net.eval()

def mean_and_strokes(scores):
    """Mean IoU, and IoU of objects against ground whatever their names; both in percent."""
    table = metrics.confusion(scores, yt, classes, ignore_index=IGNORE).double()
    mean = metrics.intersection_over_union(table).nanmean()
    return 100 * mean.item(), 100 * (table[1:, 1:].sum() / (table.sum() - table[0, 0])).item()

def maps_of(net, images):
    """All maps of the way down, for pictures (N, C, H, W)."""
    with torch.no_grad():
        parts = [net.maps(batch) for batch in images.split(100)]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))

# %% tags=["fold"]
SMALL, LARGE = (1, 1, 1, 1, 1), (1, 1, 2, 4, 4)  # gaps: windows of 11 and of 25 pixels a side
UP_RATE = 0.02  # learning rate of every way up
nets = {name: [] for name in ("small", "large", "down", "skips")}
maps, maps_test = [], []  # of each seed's way down
for number in seeds:
    for name, gaps in (("small", SMALL), ("large", LARGE)):
        nets[name].append(fitted(lambda: Window(gaps, classes, channels), train, number, 0.01,
                                 passes))
    down = fitted(lambda: Down(classes, channels), train, number, 0.006, passes)
    nets["down"].append(down)
    maps.append(maps_of(down, x))
    maps_test.append(maps_of(down, xt))
    nets["skips"].append(fitted(lambda: Up((bilinear, bilinear), classes, skips=True),
                                (maps[-1], y), number, UP_RATE, up_passes))

with torch.no_grad():
    out = {name: [net(xt) for net in nets[name]] for name in ("small", "large", "down")}
    out["skips"] = [net(*part) for net, part in zip(nets["skips"], maps_test, strict=True)]
means, strokes = ({name: [mean_and_strokes(scores)[which] for scores in each]
                   for name, each in out.items()} for which in (0, 1))

# %% tags=["fold"]
class Whole(nn.Module):
    """Way down and way up as one network, to count it."""

    def __init__(self, down, up):
        super().__init__()
        self.down, self.up = down, up

    def forward(self, x):
        return self.up(*self.down.maps(x))

shape = (channels, side, side)
whole = Whole(nets["down"][0], nets["skips"][0]).eval()
work = {name: cost.table(net, shape).multiply_adds / 1e6 for name, net in
        (("small", nets["small"][0]), ("large", nets["large"][0]), ("down", nets["down"][0]),
         ("skips", whole))}
PALETTE = np.array([to_rgb(colour) for colour in
                    ("0.88", "C0", "C1", "C2", "C3", "0.2", "0.55")])

def painted(labels):
    """Maps of classes (N, H, W) as colours (N, 3, H, W); what nobody has named is white."""
    labels = torch.as_tensor(labels).numpy()
    colours = PALETTE[np.where(labels > 0, (labels - 1) % 6 + 1, 0)]
    return np.where((labels == IGNORE)[..., None], 1.0, colours).transpose(0, 3, 1, 2)

def as_seen(images):
    """Normalised pictures back in 0..1, as (N, 3, H, W)."""
    mean, std = (torch.as_tensor(v).view(1, -1, 1, 1) for v in (train.mean, train.std))
    return (images * std + mean).clamp(0, 1).expand(-1, 3, -1, -1).numpy()

# %% tags=["nbval-varies", "fold"]
SHOWN = list(range(min(3, len(yt))))  # test pictures
rows = [as_seen(xt[SHOWN]), painted(yt[SHOWN])]
rows += [painted(out[name][0][SHOWN].argmax(1)) for name in ("small", "large", "down", "skips")]
fig, axes = plt.subplots(len(SHOWN), 6, figsize=(figures.WIDTH, 4.5), squeeze=False)
heads = ["picture", "truth", "window 11", "window 25", "down", "down, up,\nskips"]
for column, (head, each) in enumerate(zip(heads, rows, strict=True)):
    for row, ax in enumerate(axes[:, column]):
        plots.picture(ax, each[row])
    axes[0, column].set_title(head, fontsize=12, loc="center")
for column, name in enumerate(("small", "large", "down", "skips"), 2):
    axes[-1, column].text(0.5, -0.09, f"{np.mean(means[name]):.0f} %\n{work[name]:.0f} M",
                          transform=axes[-1, column].transAxes, ha="center", va="top",
                          fontsize=12.5)
axes[-1, 1].text(0.95, -0.09, "mean IoU\nmultiply-adds", transform=axes[-1, 1].transAxes,
                 ha="right", va="top", fontsize=12.5)
for place, name in enumerate(names[1:4]):
    axes[-1, 0].text(0.1, -0.09 - 0.23 * place, name, color=PALETTE[place + 1], fontsize=12.5,
                     transform=axes[-1, 0].transAxes, va="top", fontweight="bold")
fig.suptitle("Small windows find strokes, the way down finds names; skips join both", x=0.01,
             ha="left", fontsize=14)
figures.save(fig, "arch-fcn-segmenter",
             caption="The first three test pictures, the truth, and what four networks paint; a "
                     f"colour for a name ({', '.join(names[1:4])}: blue, orange, green). Below: "
                     f"mean intersection over union on {len(xt)} test pictures ({seed_count} "
                     "seeds) and millions of multiply-adds a picture.",
             alt="The window of 11 pixels paints thin strokes in mixed colours; the window of 25 "
                 "mostly one colour; the way down paints thick blobs, mostly of one colour; with "
                 "skips strokes are thin and of one colour.")

# %% tags=["fold"]
claims.check("arch-fcn-segmenter",
             "Strokes, whatever they are called, are found with an IoU of {thin:.0f} % by windows "
             "of 11 pixels and {thick:.0f} % by the way down. With their names the order turns: "
             "mean IoU {small:.0f} % and {down:.0f} %. Down and up with skips: strokes "
             "{both:.0f} %, names {skips:.0f} %.", seeds=seeds, on="every", varies=True,
             thin=(strokes["small"], ">=", 82), thick=(strokes["down"], "<=", 74),
             small=(means["small"], "<=", 62), down=(means["down"], ">=", 62),
             both=(strokes["skips"], ">=", 80), skips=(means["skips"], ">=", 75))

# %% [markdown]
# ## 1 · How good is a map?
#
# The network puts out scores for every class at every pixel. Its loss is the *cross-entropy* of each pixel, minus the logarithm of the share that the right class gets, averaged over pixels (some of them weighted, see below).
#
# Two ways to score the map of the largest scores. *Pixel accuracy* is the share of right pixels. *Intersection over union* (IoU) of a class: the pixels that are of this class *and* are called so, divided by the pixels that are of it *or* are called so. The *mean IoU* is the mean over the classes that occur.

# %%
exercises.predict("19.p1", "A map that says \"ground\" everywhere. Its pixel accuracy on our test "
                  "pictures:", ("about a quarter", "about half", "more than 80 %"))

# %%
nothing = torch.zeros_like(yt)
share = metrics.accuracy(nothing, yt, ignore_index=IGNORE)
table = metrics.confusion(nothing, yt, classes, ignore_index=IGNORE)
print(f"pixel accuracy {share:.1%}, mean IoU "
      f"{metrics.intersection_over_union(table).nanmean():.1%}")

# %% tags=["fold"]
exercises.reveal("19.p1", "more than 80 %" if share > 0.8 else "about half" if share > 0.37 else
                 "about a quarter", f"It is {share:.0%}: most pixels are ground.")
mean = metrics.intersection_over_union(table).nanmean().item()
hand = torch.tensor([[[[2.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]]])  # scores (1, 2, 2, 2)
truth = torch.tensor([[[0, 1], [0, 1]]])
own = np.mean([-np.log(1 / (1 + np.exp(-2))), -np.log(1 / (1 + np.exp(-1))), np.log(2), np.log(2)])
counted = metrics.confusion(hand, truth, 2)
claims.table("eq-pixelwise-cross-entropy", "Four pixels by hand: the right class leads by 2, by 1 "
             "and twice not at all (there class 0 is called, once wrongly).",
             {"loss": (F.cross_entropy(hand, truth).item(), float(own)),
              "pixel accuracy": (metrics.accuracy(hand, truth), 3 / 4),
              "IoU of class 0": (metrics.intersection_over_union(counted)[0].item(), 2 / 3),
              "IoU of class 1": (metrics.intersection_over_union(counted)[1].item(), 1 / 2)},
             columns=("what", "torch, metrics", "by hand"), tolerance=1e-6)
claims.check("eq-pixelwise-cross-entropy.ground",
             "Calling every pixel ground is right at {share:.0%} of the pixels and has a mean IoU "
             "of {mean:.0%}.", share=(share, ">", 0.8), mean=(mean, "<", 0.3))

# %% [markdown]
# So a network that finds nothing looks good by pixel accuracy. Mean IoU counts every class alike, rare or not, and both a miss and a false alarm cost.
#
# The *loss* counts pixels. Where classes are rare one can weight theirs: `F.cross_entropy(scores, labels, weight=…)`. Here a pixel of a digit counts three times. The weight also decides how thick strokes come out: run the lesson with `-p weight 1` and compare the first figure.
#
# **We now know** how to train and to score a map.
# **This does not show** where the mistakes lie: a border off by one pixel and a missed object can cost the same.
#
# **Exercise 19.1.** The mean IoU of two maps of class numbers (arrays of the same shape). Pixels whose truth is 255 count nowhere; a class that occurs in neither map is left out of the mean.

# %%
def mean_iou(predicted, truth, classes):
    """The mean over classes 0 to classes - 1 that occur."""
    ...

exercises.check("19.1", mean_iou)

# %% [markdown]
# ## 2 · A window for each pixel
#
# The first idea needs nothing new: cut out a window around a pixel, let a network name its middle, go on to the next pixel. Our small network sees 11 × 11 pixels: five convolutions of 3 × 3 without a border, each takes one pixel off all around, and one value is left. For 32 × 32 pixels that are 1024 windows, which overlap almost wholly.
#
# The second idea: run the *same layers, with the same weights*, once over the whole picture, with five rows of zeros around it.

# %%
exercises.predict("19.p2", "The scores of 1024 windows, one by one, and of one run over the "
                  "picture differ", ("nowhere, but for rounding", "near the border", "everywhere"))

# %% tags=["nbval-varies"]
net = nets["small"][0]
edge = 2 * net.reach + 1  # 11 pixels

def one_by_one(picture):
    """Scores (classes, H, W) from a window around each pixel of (C, H, W)."""
    around = F.pad(picture, (net.reach,) * 4)
    windows = around.unfold(1, edge, 1).unfold(2, edge, 1)  # (C, H, W, 11, 11)
    windows = windows.permute(1, 2, 0, 3, 4).flatten(0, 1)  # (H * W, C, 11, 11)
    return net.layers(windows)[:, :, 0, 0].T.reshape(classes, side, side)

with torch.no_grad():
    windows, at_once = one_by_one(xt[0]), net(xt[:1])[0]
print(f"largest difference {(windows - at_once).abs().max():.1e}, "
      f"largest score {at_once.abs().max():.1f}")

# %% tags=["fold"]
off = (windows - at_once).abs() / at_once.abs().max()
inner = off[:, net.reach:-net.reach, net.reach:-net.reach].max()
exercises.reveal("19.p2", "nowhere, but for rounding" if off.max() < 1e-4 else "near the border"
                 if inner < 1e-4 else "everywhere", "The zeros stand around the picture, not "
                 "around each layer, so both read the same numbers.")
one = cost.table(net.layers, (channels, edge, edge)).multiply_adds * side**2 / 1e6
with torch.no_grad():
    slow, fast = (min(timeit.repeat(run, number=1, repeat=3)) for run in
                  (lambda: one_by_one(xt[0]), lambda: net(xt[:1])))
large = nets["large"][0]
reach = 2 * large.reach + 1
one_large = cost.table(large.layers, (channels, reach, reach)).multiply_adds * side**2 / 1e6
claims.check("emp-seg-sliding-window-inefficient",
             "One run gives the scores of {count} windows, to {off:.0e} of the largest; it does "
             "{once:.1f} M multiply-adds in place of {all:.0f} M, {times:.0f} times fewer, and "
             "is {faster:.0f} times faster. With windows of {reach} pixels: {more:.0f} times "
             "fewer.", count=side**2, off=(off.max().item(), "<", 1e-4), once=work["small"],
             all=one, times=(one / work["small"], ">", 20), faster=(slow / fast, ">", 3),
             reach=reach, more=(one_large / work["large"], ">", 60), varies=True)

# %% [markdown]
# Neighbouring windows share most of their pixels, and so most of their products. The windows compute them again for each pixel; the convolution computes them once.
#
# When is it *not* the same? Below, in a net with random weights: with zeros around *each layer*, and with a pooling in it, which keeps every second pixel.

# %% tags=["fold", "ledger:eq-sliding-window-seg"]
stream = torch.Generator().manual_seed(0)
kernels = [torch.randn(4, c, 3, 3, generator=stream, dtype=torch.float64) for c in (2, 4)]
toy = torch.randn(1, 2, 16, 16, generator=stream, dtype=torch.float64)

def two_layers(picture, around=0, pool=None):
    first = F.relu(F.conv2d(picture, kernels[0], padding=around))
    first = first if pool is None else F.max_pool2d(first, 2, pool)
    return F.conv2d(first, kernels[1], padding=around)

def by_windows(picture, edge, pool=None):
    """One window of `edge` pixels a time, from the upper left one on."""
    spots = picture.shape[2] - edge + 1
    return torch.cat([two_layers(picture[:, :, i:i + edge, j:j + edge], pool=pool)
                      for i in range(spots) for j in range(spots)], 2).view(4, spots, spots)

# %% tags=["nbval-varies", "fold"]
plain = by_windows(toy, 5)
padded = two_layers(toy, around=1)[0, :, 2:-2, 2:-2]
all_padded = by_windows(F.pad(toy, (2, 2, 2, 2)), 5)
windows8 = by_windows(toy, 8, pool=2)  # (4, 9, 9)
pooled = two_layers(toy, pool=2)[0]  # (4, 5, 5): every second place
stitched = torch.zeros_like(windows8)
for i in (0, 1):
    for j in (0, 1):
        shifted = two_layers(toy[:, :, i:, j:], pool=2)[0]
        part = stitched[:, i::2, j::2]
        part.copy_(shifted[:, :part.shape[1], :part.shape[2]])
claims.check("eq-sliding-window-seg",
             "Without borders, run once and windows agree to {plain:.0e}. Zeros around each layer: "
             "inside still {inside:.0e}, near the border off by up to "
             "{border:.0%} of the largest score. With a pooling, one "
             "run gives every second window, to {every:.0e}; four runs on pictures shifted by a "
             "pixel give the rest (shift and stitch), to {stitch:.0e}.",
             plain=((two_layers(toy)[0] - plain).abs().max().item(), "<", 1e-10),
             inside=((padded - plain).abs().max().item(), "<", 1e-10),
             border=(((two_layers(toy, around=1)[0] - all_padded).abs().max()
                      / all_padded.abs().max()).item(), ">", 0.1),
             every=((pooled - windows8[:, ::2, ::2]).abs().max().item(), "<", 1e-10),
             stitch=((stitched - windows8).abs().max().item(), "<", 1e-10))

# %% [markdown]
# Why does the small window get the names wrong? It may be that 11 pixels are too few to tell a zero from a two: a piece of a curve looks alike in both. The test: let it see more, and keep all else. *Gaps* between the weights of a kernel (a *dilated* or *atrous* convolution) make the window 25 pixels wide, with as many layers and weights.

# %% tags=["fold"]
same = [sum(p.numel() for p in nets[name][0].parameters()) for name in ("small", "large")]
claims.check("arch-fcn-segmenter.view",
             "With {weights:,} parameters each ({equal:d} more), trained alike: windows of 25 "
             "pixels have a mean IoU of {large:.0f} %, {gain:.0f} points more than windows of 11; "
             "strokes, whatever they are called, change by {strokes:+.0f}.",
             weights=same[0], equal=(same[1] - same[0], "==", 0), large=means["large"],
             gain=([b - a for a, b in zip(means["small"], means["large"], strict=True)], ">=", 8),
             strokes=([b - a for a, b in zip(strokes["small"], strokes["large"], strict=True)],
                      "in", (-6, 6)), seeds=seeds, on="every", varies=True)

# %% [markdown]
# So the view decides about the names here, and hardly about the strokes.
#
# **We now know** that a net for windows is a net for pictures, many times cheaper, if no border stands between; and that names need a wide view.
# **This does not show** that windows are bad: run at once and with gaps they are a good network, and *DeepLab* is built with gaps.
#
# **Exercise 19.2.** A linear classifier for windows: `weight` (classes, C·k·k) and `bias` (classes,) name a window (C, k, k) laid out as one row. Return the scores (classes, H − k + 1, W − k + 1) for all windows of `picture` (C, H, W), by one `F.conv2d`.

# %%
def all_windows(picture, weight, bias, k):
    """Scores of all windows at once (tensors)."""
    ...

exercises.check("19.2", all_windows)

# %% [markdown]
# ## 3 · Down, and four ways up
#
# A wide view can also be had by *pooling*: after two poolings a step is four pixels wide (our last unit sees 34 pixels a side), and there are a sixteenth as many places. There one can afford many channels. The third idea: go down, think there, come up again.

# %%
exercises.predict("19.p3", "The same convolutions as on the way down, without the two poolings, "
                  "all on full resolution: how many times the multiply-adds?",
                  ("about 3", "about 13", "about 60"))

# %%
down = nets["down"][0]
full = nn.Sequential(down.fine, down.middle, down.coarse, down.name)  # no pooling between them
costs = {"with poolings": cost.table(down, shape), "without": cost.table(full, shape)}
for name, each in costs.items():
    print(f"{name:14} {each.multiply_adds / 1e6:6.1f} M multiply-adds")

# %% tags=["fold", "ledger:prac-seg-ideas-progression"]
def kept(table):
    """Numbers that the convolutions put out, to be kept for the way back."""
    return sum(int(np.prod(row.output_shape)) for row in table.rows if row.kind == "Conv2d")

times = costs["without"].multiply_adds / costs["with poolings"].multiply_adds
exercises.reveal("19.p3", "about 3" if times < 6 else "about 13" if times < 30 else "about 60",
                 f"{times:.1f} times: three of five convolutions of 3 × 3 work on a sixteenth "
                 "of the places.")


def coarsened(edge):
    """The true maps, averaged over squares of edge × edge and enlarged: IoU of the strokes."""
    true = F.one_hot(yt.masked_fill(yt == IGNORE, 0), classes).permute(0, 3, 1, 2).float()
    return mean_and_strokes(bilinear(F.avg_pool2d(true, edge), factor=edge))[1]

memory = kept(costs["without"]) / kept(costs["with poolings"])
claims.check("emp-seg-fullres-expensive",
             "On full resolution the same convolutions do {times:.1f} times the multiply-adds and "
             "put out {memory:.1f} times the numbers.", times=(times, ">", 5),
             memory=(memory, ">", 5))
claims.check("emp-seg-fullres-expensive.places",
             "The true maps themselves, averaged to {coarse} × {coarse} places and enlarged again: "
             "strokes with an IoU of {four:.0f} %; to {middle} × {middle} places: {two:.0f} %.",
             coarse=side // 4, middle=side // 2, four=(coarsened(4), "<", 60),
             two=(coarsened(2), ">", 80))
for name, words in (("windows of 11, one by one", one), ("the same, run once", work["small"]),
                    ("windows of 25, one by one", one_large),
                    ("the same, run once", work["large"]),
                    ("wide layers on full resolution", costs["without"].multiply_adds / 1e6),
                    ("the same layers, down (times four at the end)", work["down"]),
                    ("down and up, with skips", work["skips"])):
    print(f"{name:46} {words:8.1f} M multiply-adds")

# %% [markdown]
# The way down ends on 8 × 8 places. Its scores are enlarged four times (*bilinear*: straight lines between neighbours). Even the truth loses its strokes that way, as the second claim above says. (It is no upper limit: scores may be sharper than averages.) How else can a small map become a large one? Four ways, for a factor of two:
#
# - *nearest neighbour*: write each number four times;
# - *bed of nails*: write it once, at the upper left, and zeros beside it;
# - *max unpooling*: write it where the maximum stood when the way down pooled, and zeros beside it;
# - *transposed convolution*: each number stamps a kernel, times itself; where stamps overlap, they add up. The kernel is learnt.

# %% tags=["define"]
def nearest(x, places=None):
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

def nails(x, places=None):
    large = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    large[:, :, ::2, ::2] = x
    return large

def unpool(x, places):
    """places (N, C, h, w): where in the flattened large map each maximum stood."""
    n, c, h, w = x.shape
    large = x.new_zeros(n, c, 4 * h * w)
    return large.scatter(2, places.flatten(2), x.flatten(2)).view(n, c, 2 * h, 2 * w)

def transposed(x, kernel, stride=2):
    """Each number of x (N, C, h, w) stamps the kernel (k, k); stamps lie `stride` apart."""
    n, c, h, w = x.shape
    k = len(kernel)
    large = x.new_zeros(n, c, stride * (h - 1) + k, stride * (w - 1) + k)
    for i in range(h):
        for j in range(w):
            spot = large[:, :, stride * i:stride * i + k, stride * j:stride * j + k]
            spot += x[:, :, i:i + 1, j:j + 1] * kernel
    return large

# %% tags=["fold", "ledger:num-upsample-nearest-example", "ledger:num-upsample-bed-of-nails-example"]
four = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
places = torch.tensor([[[[1, 6], [8, 15]]]])  # where four maxima stood in a map of 4 × 4
ones = torch.ones(3, 3)
grids = {"nearest": nearest(four), "bed of nails": nails(four),
         "max unpooling": unpool(four, places),
         "transposed": transposed(four, ones)}
fig, axes = plt.subplots(1, 4, figsize=(figures.WIDTH, 2.9))
for ax, (name, grid) in zip(axes, grids.items(), strict=True):
    plots.heat(ax, grid[0, 0], format="{:.0f}", limits=(0, 10), cmap="Blues", fontsize=13)
    ax.set(xticks=[], yticks=[])
    ax.set_title(name, fontsize=12, loc="center")
fig.suptitle("From four numbers, 1 2 / 3 4, four different pictures", x=0.01, ha="left",
             fontsize=14)
figures.save(fig, "fig-upsampling-examples",
             caption="The map 1 2 / 3 4 enlarged by a factor of two. For unpooling the maxima had "
                     "stood at four places of our choice. The transposed convolution stamps a "
                     "kernel of nine ones two pixels apart: 5 × 5 numbers, sums where stamps "
                     "overlap.",
             alt="Nearest: blocks of equal numbers. Nails: numbers at upper left corners, zeros. "
                 "Unpooling: numbers at other places, zeros. Transposed: sums in the rows and "
                 "columns where stamps overlap, 10 in the middle.")

# %% tags=["fold"]
wanted = {"nearest": F.interpolate(four, scale_factor=2, mode="nearest"),
          "bed of nails": F.conv_transpose2d(four, torch.tensor([[[[1.0, 0], [0, 0]]]]), stride=2),
          "max unpooling": F.max_unpool2d(four, places, 2),
          "transposed": F.conv_transpose2d(four, ones[None, None], stride=2)}
claims.table("eq-nearest-bed-unpool", "Numbers of the grids above that are those of torch.",
             {name: (int((grids[name] == wanted[name]).sum()), wanted[name].numel())
              for name in grids}, columns=("way", "equal", "of"))
parts = maps[0]
again = F.max_pool2d(unpool(F.max_pool2d(parts[3][:50], 2), parts[4][:50]), 2)
claims.check("eq-nearest-bed-unpool.back",
             "Pooling what was unpooled gives back the pooled map: difference {off:.0f}, on 50 "
             "maps of a trained way down (none of their numbers is below zero).",
             off=((again - F.max_pool2d(parts[3][:50], 2)).abs().max().item(), "==", 0))

# %% [markdown]
# **Exercise 19.3.** Pool and unpool by hand, with numpy. `x` is (H, W) with even sides. Return the map of the same size in which each maximum of a 2 × 2 square stands where it stood, and zeros elsewhere. Of equal maxima the first counts, row by row.

# %%
def kept_maxima(x):
    """x with all but the maximum of each 2 × 2 square set to 0."""
    ...

exercises.check("19.3", kept_maxima)

# %% [markdown]
# The transposed convolution is also called *deconvolution*, as if it undid a convolution. It does not. In one dimension a convolution is a matrix $A$ times the picture; the transposed convolution is $A^T$, the same numbers with rows and columns exchanged. That is what `backward` uses. Nothing can undo this $A$: it makes three numbers of seven. A fair test goes the other way, three to seven and by $A$ to three again: after the transpose one does not get back what one began with. After another matrix, the *pseudo-inverse*, one does.

# %%
kernel, stride = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), 2
A = torch.zeros(3, 7, dtype=torch.float64)  # seven numbers in, three out
for row in range(3):
    A[row, stride * row:stride * row + 3] = kernel
print(A.int().numpy())
small = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
large = A.T @ small
print("transposed:", large.int().tolist())
print("and small again:", (A @ large).int().tolist())

# %% tags=["nbval-varies", "fold", "ledger:err-transpose-reverse"]
stream = torch.Generator().manual_seed(3)
draw = lambda *size: torch.randn(*size, generator=stream, dtype=torch.float64)  # noqa: E731
picture, other, kernel2 = draw(1, 2, 9, 9), draw(1, 3, 4, 4), draw(3, 2, 3, 3)
forth = F.conv2d(picture, kernel2, stride=2)
back = F.conv_transpose2d(other, kernel2, stride=2)
line = F.conv_transpose1d(small[None, None], kernel[None, None], stride=2)[0, 0]
claims.check("eq-transposed-convolution",
             "⟨conv x, y⟩ and ⟨x, transposed conv y⟩ differ by {off:.0e}; the matrix's transpose "
             "and torch's function by {line:.0f}.",
             off=(abs((forth * other).sum() - (picture * back).sum()).item(), "<", 1e-10),
             line=((A.T @ small - line).abs().max().item(), "==", 0))
again = A @ large
best = (again * small).sum() / (again * again).sum()  # the best factor
lost = ((small - best * again).norm() / small.norm()).item()
undone = A @ (torch.linalg.pinv(A) @ small)
claims.check("err-transpose-reverse",
             "Enlarged by the transpose and made small again by A, 1 0 1 comes back as {again}: "
             "even times the best factor it misses by {lost:.0%} of its length. Enlarged by the "
             "pseudo-inverse it comes back to {off:.0e}.", again=tuple(again.int().tolist()),
             lost=(lost, ">", 0.2), off=((undone - small).abs().max().item(), "<", 1e-10))
sizes = {}
for side_in, step, pad, k, extra in ((4, 2, 0, 3, 0), (4, 2, 1, 3, 0), (4, 2, 1, 3, 1),
                                     (8, 2, 1, 4, 0), (5, 3, 1, 5, 2)):
    shape_out = F.conv_transpose1d(torch.ones(1, 1, side_in), torch.ones(1, 1, k), stride=step,
                                   padding=pad, output_padding=extra).shape[2]
    sizes[f"{side_in} in, stride {step}, padding {pad}, kernel {k}, extra {extra}"] = (
        shape_out, (side_in - 1) * step - 2 * pad + k + extra)
claims.table("eq-transposed-convolution.size", "Size of a transposed convolution: (n − 1) s − 2 p "
             "+ k + output_padding.", sizes, columns=("what", "torch", "formula"))

# %% [markdown]
# Up and down again is not what one began with; with the pseudo-inverse it is. (Why *output_padding*? With stride 2 a convolution makes 4 numbers of 9 and of 10; the way back must be told which.)
#
# Look at the fourth grid again: with a kernel of 3 and a stride of 2 some places get one stamp, some two, some four. Where all weights of the kernel are equal, a constant map comes out as a *checkerboard*.
#
# A kernel of 4 covers every inner place four times. With the numbers 1/4, 3/4, 3/4, 1/4 in both directions it even *is* bilinear enlargement. We begin there, as the authors of the fully convolutional networks did, and train.

# %%
exercises.predict("19.p4", "A transposed convolution, kernel 4, stride 2, begun as bilinear and "
                  "trained: a constant map comes out", ("constant", "as a checkerboard"))

# %% tags=["define"]
class Stamps(nn.ConvTranspose2d):
    """A learnt transposed convolution that doubles the sides; it begins as bilinear."""

    def __init__(self, channels):
        super().__init__(channels, channels, 4, stride=2, padding=1)
        line = torch.tensor([0.25, 0.75, 0.75, 0.25])
        with torch.no_grad():
            self.weight.zero_()  # (channels in, channels out, 4, 4)
            self.bias.zero_()
            for channel in range(channels):
                self.weight[channel, channel] = torch.outer(line, line)

    def forward(self, x, places=None):
        return super().forward(x)

# %%
WAYS = {"bed of nails": (nails, nails), "bilinear": (bilinear, bilinear),
        "transposed": (Stamps, Stamps), "unpooling": (unpool, unpool)}

def made(name, skips=False):
    """A way up; learnt stamps are made anew, for 32 and 16 channels."""
    ways = (Stamps(32), Stamps(16)) if name == "transposed" else WAYS[name]
    return Up(ways, classes, skips)

ups = {name: [fitted(lambda: made(name), (part, y), number, UP_RATE, up_passes)
              for number, part in zip(seeds, maps, strict=True)] for name in WAYS}

# %% tags=["nbval-varies", "fold", "ledger:emp-transpose-conv-checkerboard"]
def unevenness(way, mean):
    """Spread of the four places of a 2 × 2 square on a constant map, relative to the mean size."""
    with torch.no_grad():
        large = way(mean.view(1, -1, 1, 1).expand(-1, -1, 8, 8))[0, :, 4:-4, 4:-4]
    phases = torch.stack([large[:, i::2, j::2].mean((1, 2)) for i in (0, 1) for j in (0, 1)])
    return ((phases - phases.mean(0)).norm() / phases.norm()).item()

mean_maps = [part[0].mean((0, 2, 3)) for part in maps]
trained = [unevenness(up.way1, mean) for up, mean in zip(ups["transposed"], mean_maps, strict=True)]
smooth = [unevenness(bilinear, mean) for mean in mean_maps]
begun = [unevenness(Stamps(32).to(mean), mean) for mean in mean_maps]
exercises.reveal("19.p4", "as a checkerboard" if min(trained) > 0.02 else "constant",
                 f"The four places of a square differ by {np.mean(trained):.0%} of the output's "
                 "size: every place gets as many stamps, but of other weights.")
claims.check("emp-transpose-conv-checkerboard",
             "A constant map of the mean activations, enlarged: the four places of a 2 × 2 square "
             "differ by {begun:.0e} of the output's size before training, by {trained:.0%} after "
             "it, and by {smooth:.0e} with bilinear, which is not learnt.",
             begun=(begun, "<", 1e-5), trained=(trained, ">", 0.15), smooth=(smooth, "<", 1e-5),
             seeds=seeds, on="every", varies=True)
counts = {k: transposed(torch.ones(1, 1, 6, 6), torch.ones(k, k))[0, 0, 4:8, 4:8] for k in (3, 4)}
bend = torch.tensor([0.25, 0.75, 0.75, 0.25])
noise = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(1))
stamped = F.conv_transpose2d(noise, torch.outer(bend, bend)[None, None], stride=2, padding=1)
claims.check("emp-transpose-conv-checkerboard.stamps",
             "Stamps on an inner place, stride 2: {three} with kernel 3, {four} with kernel 4. The "
             "kernel 1/4, 3/4, 3/4, 1/4 in both directions is bilinear enlargement, to {off:.0e} "
             "inside the border.",
             three=(sorted(set(counts[3].int().flatten().tolist())), "==", [1, 2, 4]),
             four=(sorted(set(counts[4].int().flatten().tolist())), "==", [4]),
             off=((stamped - bilinear(noise))[:, :, 2:-2, 2:-2].abs().max().item(), "<", 1e-6))

# %% [markdown]
# **We now know** four ways up, that the transposed convolution is no inverse, and that an even count of stamps does not keep the output even: training brought the pattern in. Bilinear enlargement, then a convolution, has none on a constant map.
# **This does not show** that the pattern harms: the layers behind it can learn to even it out. Section 4 measures.
#
# **Exercise 19.4.** A transposed convolution in one dimension, by stamps (numpy): `x` (n,), `kernel` (k,), `stride`, and `padding`: so many numbers are cut off *at both ends* of the result.

# %%
def transposed_1d(x, kernel, stride, padding):
    """The stamps added up, without `padding` numbers at each end."""
    ...

exercises.check("19.4", transposed_1d)

# %% [markdown]
# ## 4 · Which way up?
#
# Unpooling remembers where the maxima stood; that should help to find the strokes again. A *skip* does something simpler: it puts the whole finer map of the way down beside the enlarged one (`torch.cat`), and the next layer reads both.
#
# The comparison: one trained way down, kept as it is; above it each way up, the same layers, as many steps. (Learnt stamps have weights of their own on top, and a layer behind a skip reads twice the channels.) Without skips there are four ways (nearest neighbour, tried before, lay beside bilinear); with skips, bilinear. A test goes with it: *blurred* skips, whose maps are first pooled to the places of the coarse map and enlarged again. They carry as many channels, and no finer places. (Tried before, with seeds 0 and 1 and rates of 0.003, 0.01, 0.03 and 0.1: every way did best at 0.01 or at 0.03, and nearly alike at both. All get 0.02.)

# %%
exercises.predict("19.p5", "Skips gain mean IoU over plain bilinear. Of this gain, blurred skips "
                  "keep", ("more than two thirds", "about half", "less than a third"))

# %%
def blurred(part):
    """The same maps, but the finer ones keep no finer places than the coarse one."""
    coarse, middle, middle_places, fine, fine_places = part
    middle = bilinear(F.max_pool2d(middle, 2), factor=2)
    fine = bilinear(F.max_pool2d(fine, 4), factor=4)
    return coarse, middle, middle_places, fine, fine_places

ups["skips"] = nets["skips"]
ups["skips, blurred"] = [fitted(lambda: made("bilinear", skips=True), (blurred(part), y), number,
                                UP_RATE, up_passes)
                         for number, part in zip(seeds, maps, strict=True)]

# %% tags=["nbval-varies", "fold"]
def answers(name):
    """Scores on the test pictures, one tensor a seed."""
    parts = [blurred(part) for part in maps_test] if "blurred" in name else maps_test
    with torch.no_grad():
        return [up(*part) for up, part in zip(ups[name], parts, strict=True)]

up_out = {name: answers(name) for name in ups}
up_mean, up_strokes = ({name: [mean_and_strokes(scores)[which] for scores in each]
                        for name, each in up_out.items()} for which in (0, 1))
near = F.max_pool2d((yt > 0).float()[:, None], 3, 1, 1)[:, 0] > 0  # at most a pixel from an object
inside = -F.max_pool2d(-(yt > 0).float()[:, None], 3, 1, 1)[:, 0] > 0  # no ground around
at_border = near & ~inside

def border_iou(scores):
    """Mean IoU on the pixels at the objects' borders, in percent."""
    masked = yt.masked_fill(~at_border, IGNORE)
    table = metrics.confusion(scores, masked, classes, ignore_index=IGNORE)
    return 100 * metrics.intersection_over_union(table).nanmean().item()

up_border = {name: [border_iou(scores) for scores in each] for name, each in up_out.items()}
gain = {name: np.array(values) - np.array(up_mean["bilinear"]) for name, values in up_mean.items()}
keep, full_gain = np.mean(gain["skips, blurred"]), np.mean(gain["skips"])
exercises.reveal("19.p5", "less than a third" if 3 * keep < full_gain else
                 "about half" if 3 * keep < 2 * full_gain else "more than two thirds",
                 f"Over bilinear, skips gain {full_gain:.1f} points, blurred ones {keep:.1f}.")

# %% tags=["nbval-varies", "fold"]
order = ["bed of nails", "bilinear", "transposed", "unpooling", "skips, blurred",
         "skips"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.1))
for place, name in enumerate(order):
    colour = "C1" if "skips" in name else "C0"
    values = up_mean[name]
    ax.plot(values, [place] * len(values), "o", color=colour, markersize=10)
ax.axvline(np.mean(means["down"]), color="0.4", linestyle=":")
ax.text(np.mean(means["down"]) + 0.3, -0.25, "way down alone", fontsize=12, color="0.3")
ax.set(yticks=range(len(order)), xlabel="mean IoU on test pictures (%)", ylim=(-0.6, 5.7))
ax.set_yticklabels(["bed of nails", "bilinear", "transposed", "max unpooling",
                    "bilinear + skips, blurred", "bilinear + skips"], fontsize=12.5)
ax.set_title("Skips gain most, and blurred ones lose most of it again")
figures.save(fig, "emp-max-unpooling-best",
             caption=f"Six ways up over the same trained ways down, {up_passes} pass over "
                     f"{len(train)} pictures each; dots: {seed_count} seeds. Blurred: the skips "
                     "hold no finer places than the coarse map.",
             alt="Without skips all four ways lie within a few points of each other, unpooling "
                 "among the highest; with skips bilinear lies far above; with blurred skips it "
                 "falls back to near the others.")

# %% tags=["fold", "ledger:err-unpool-best"]
claims.check("emp-max-unpooling-best",
             "Over bilinear, max unpooling gains {unpool:.1f} points of mean IoU, learnt stamps "
             "{stamps:.1f}, bed of nails {nails:.1f}; bilinear with skips gains {skips:.1f}. "
             "Unpooling and bed of nails differ in the places alone: {places:.1f} points.",
             unpool=(gain["unpooling"].tolist(), "<=", 6), stamps=gain["transposed"].tolist(),
             nails=(gain["bed of nails"].tolist(), "<=", 1),
             places=((gain["unpooling"] - gain["bed of nails"]).tolist(), ">=", 0.5),
             skips=(gain["skips"].tolist(), ">=", 7), seeds=seeds, on="every", varies=True)
claims.check("emp-max-unpooling-best.border",
             "At most a pixel from an object's border the mean IoU is {bilinear:.0f} % with "
             "bilinear, {unpool:.0f} % with unpooling, {skips:.0f} % with skips.",
             bilinear=up_border["bilinear"], unpool=up_border["unpooling"],
             skips=(up_border["skips"], ">=", 62), seeds=seeds, on="every", varies=True)
claims.check("emp-max-unpooling-best.blurred",
             "Skips whose maps are blurred to the places of the coarse one, with as many channels "
             "and weights, gain {blurred:.1f} points in place of {skips:.1f}. Strokes, whatever "
             "they are called: {plain:.0f} % IoU without skips, {thick:.0f} % with blurred, "
             "{thin:.0f} % with skips.", plain=up_strokes["bilinear"],
             thick=(up_strokes["skips, blurred"], "<=", 77), thin=(up_strokes["skips"], ">=", 80),
             blurred=(gain["skips, blurred"].tolist(), "<=", 7), skips=gain["skips"].tolist(),
             seeds=seeds, on="every", varies=True)

# %% [markdown]
# So it is the finer *places* in the skips that bring the strokes back, not more channels or weights: blurred, they have as many.
# Max unpooling carries places too, of one number in four. Against a bed of nails, which differs in nothing else, they gain a few points.

# %% tags=["fold", "ledger:eq-encoder-decoder-seg"]
claims.check("eq-encoder-decoder-seg",
             "Down and up with skips does {work:.1f} M multiply-adds, wide layers on full "
             "resolution {full:.1f} M; its mean IoU is {skips:.0f} %, of windows of 25 pixels "
             "{large:.0f} %.", work=(work["skips"], "<", costs["without"].multiply_adds / 4e6),
             full=costs["without"].multiply_adds / 1e6, skips=(means["skips"], ">=", 75),
             large=means["large"], seeds=seeds, on="every", varies=True)

# %% tags=["nbval-varies", "fold"]
def view_of(way, scene):
    """Picture, truth, answer and mistakes for one way up."""
    picture, label = xt[scene:scene + 1], yt[scene:scene + 1]
    answer = up_out[way][0][scene:scene + 1].argmax(1)
    wrong = (answer != label) & (label != IGNORE)
    panels = [as_seen(picture)[0], painted(label)[0], painted(answer)[0],
              np.where(wrong.numpy(), 0.1, 0.93).repeat(3, 0)]
    fig, axes = plt.subplots(1, 4, figsize=(figures.WIDTH, 2.7))
    heads = ("picture", "truth", way, f"{int(wrong.sum())} wrong")
    for ax, panel, head in zip(axes, panels, heads, strict=True):
        plots.picture(ax, panel)
        ax.set_title(head, fontsize=12, loc="center")
    return fig, f"{way}: {int(wrong.sum())} of {wrong.numel()} pixels are wrong."

choices = ("bilinear", "unpooling", "skips")
widgets.explore(view_of, way=widgets.Choice("bilinear", choices, "way up", kept=choices),
                scene=widgets.Slider(SHOWN[-1], 0, len(yt) - 1, label="test picture",
                                     kept=(SHOWN[-1],)))

# %% [markdown]
# **We now know** that without skips the ways up lie close together here, and that skips gain far more than any of them, by the places they carry.
# **This does not show** an order of the ways in general. Two seeds, one short training, a way down that is not trained along (FCN and U-Net train all together). Windows of 25 pixels, which never go down, do about as well as down and up without skips: full resolution is cheap for layers of 8 channels, and a digit of 12 to 17 pixels fits into 25. Larger objects need wider views. And all ways up had one more pass of training than the windows.
#
# **Exercise 19.5.** Join as U-Net does. `coarse` is (C, h, w), `fine` (D, 2h, 2w) or a pixel larger in height or width or both. Enlarge the coarse map by nearest neighbour, cut from `fine` what lies beyond at the lower and right edge, and return both in one array, the enlarged map first.

# %%
def joined(coarse, fine):
    """(C + D, 2h, 2w), numpy."""
    ...

exercises.check("19.5", joined)

# %% [markdown]
# ## 5 · What a label costs, and what it leaves out
#
# Somebody has to name every pixel. How many pictures are needed? And need *all* pixels of a picture be named? We train the way down, as many steps each time: on a twentieth of the pictures with all pixels named; and on all pictures, but with only one pixel in twenty named, drawn by chance. That is about as many named pixels as a twentieth of the pictures has. The other pixels are 255 and count in no loss.

# %%
exercises.predict("19.p6", "The same number of named pixels: a twentieth of the pictures, or a "
                  "twentieth of the pixels of all pictures. Better on new pictures:",
                  ("few whole pictures", "many sparse pictures", "alike (within 2 points)"))

# %%
def named_by(few=None, share=1.0):
    """A training set: its first `few` pictures, or all with a share of the pixels named."""
    part = train[:few]
    drawn = torch.rand(part.labels.shape, generator=torch.Generator().manual_seed(seed))
    labels = part.labels.masked_fill(drawn > share, IGNORE)
    return next(part.batches(len(part)))[0], labels

whole_few = max(2, len(train) // 20)  # pictures
sets = {"few": named_by(whole_few), "sparse": named_by(share=0.05)}

# %% tags=["fold"]
learnt = {"all": means["down"]}
for name, (images, labels) in sets.items():
    rounds = passes * -(-len(train) // 8) // -(-len(images) // 8)  # as many steps
    learnt[name] = []
    for number in seeds:
        net = fitted(lambda: Down(classes, channels), ((images,), labels), number, 0.006, rounds)
        with torch.no_grad():
            learnt[name].append(mean_and_strokes(net(xt))[0])

# %% tags=["nbval-varies", "fold"]
ahead = np.mean(learnt["sparse"]) - np.mean(learnt["few"])
answer = ("many sparse pictures" if ahead > 2 else "few whole pictures" if ahead < -2 else
          "alike (within 2 points)")
exercises.reveal("19.p6", answer, f"Mean IoU {np.mean(learnt['sparse']):.0f} % against "
                 f"{np.mean(learnt['few']):.0f} %.")
pixels = side * side
where = {"few": whole_few * pixels, "all": len(train) * pixels}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.9))
ax.plot(list(where.values()), [np.mean(learnt[name]) for name in where], color="C0")
for name, at in where.items():
    ax.plot([at] * seed_count, learnt[name], "o", color="C0", markersize=9)
    ax.annotate(f"{at // pixels} pictures,\nall pixels", (at, min(learnt[name])), (0, -36),
                textcoords="offset points", ha="center", fontsize=12, color="C0")
ax.plot([where["few"]] * seed_count, learnt["sparse"], "s", color="C1", markersize=10)
ax.annotate(f"{len(train)} pictures,\na twentieth of the pixels", (where["few"],
            max(learnt["sparse"])), (0, 12), textcoords="offset points", ha="center",
            fontsize=12, color="#b06800")
ax.set(xscale="log", xlabel="named pixels", ylabel="mean IoU on test pictures (%)", ylim=(35, 85))
ax.margins(x=0.25)
ax.set_title("The same number of named pixels is worth more in many pictures")
figures.save(fig, "emp-seg-needs-data",
             caption=f"The way down after the same number of steps, trained on few or many "
                     f"pictures (blue), and on all with a twentieth of the pixels named (orange); "
                     f"dots: {seed_count} seeds.",
             alt="Mean IoU rises with the pictures; at the pixels of a twentieth of the pictures, "
                 "sparse labels in all of them lie far above, nearer to what all labels give.")

# %% tags=["fold"]
claims.check("emp-seg-needs-data",
             "Trained for as many steps: {few:.0f} % mean IoU with {n_few} pictures, {all:.0f} % "
             "with {n_all}. With {n_all} of which a twentieth of the pixels is named: "
             "{sparse:.0f} %, {ahead:.0f} points more than with {n_few} whole ones.",
             n_few=whole_few, n_all=len(train), few=learnt["few"], all=(learnt["all"], ">=", 62),
             sparse=learnt["sparse"], ahead=([a - b for a, b in zip(
                 learnt["sparse"], learnt["few"], strict=True)], ">=", 4),
             seeds=seeds, on="every", varies=True)
claims.quoted("emp-seg-needs-data.time", "An annotator needs 239.7 seconds to name all pixels of "
              "a picture of Pascal VOC, and 22.1 seconds for one point on each object class",
              "Bearman et al. 2016, arXiv:1506.02106")

# %% [markdown]
# So it is pictures that are scarce here, more than pixels. (Points drawn by chance also show where the ground is; an annotator who clicks only on objects gives other labels.)
#
# A last thing a map of names cannot tell: *how many*. Two zeros that touch are one patch of "zero". *Instance* segmentation names each object by itself, in a map of its own or by numbers.

# %% tags=["fold"]
crowd = scenes.make(60, True, seed=seed, classes=1, objects=(2, 2), heights=(18, 22), gap=-6)
semantic = crowd.segmentation().labels
everywhere = np.ones((3, 3))  # neighbours at the side and at the corner

def patches(mask):
    """How many connected patches a map of True and False has."""
    return ndimage.label(np.asarray(mask), everywhere)[1]

by_name = np.array([patches(labels > 0) for labels in semantic])
by_object = crowd.counts.numpy()
touching = np.flatnonzero(by_name < by_object)
apart = np.flatnonzero(by_name == by_object)
shown = [touching[0], apart[0]]
fig, axes = plt.subplots(2, 3, figsize=(figures.WIDTH, 4.4))
for row, scene in zip(axes, shown, strict=True):
    panels = (crowd.images[scene].numpy() / 255, painted(semantic[scene][None])[0],
              painted(crowd.masks[scene][None].long())[0])
    heads = ("picture", f"patches of \"zero\": {by_name[scene]}",
             f"objects: {by_object[scene]}")
    for ax, panel, head in zip(row, panels, heads, strict=True):
        plots.picture(ax, panel)
        ax.set_title(head, fontsize=12, loc="center")
fig.suptitle("Zeros that touch are one patch of names, and two objects", x=0.01, ha="left",
             fontsize=14)
figures.save(fig, "fig-semantic-segmentation-cows",
             caption="Two zeros that touch (above) and two that do not: picture, the class of each "
                     "pixel (semantic), the object of each pixel (instance).",
             alt="Above, the map of classes shows one patch where the map of objects shows two; "
                 "below both show two.")

# %% tags=["fold"]
claims.check("fig-semantic-segmentation-cows",
             "Of {all} made pictures with two zeros that may overlap, {merged} have fewer patches "
             "of \"zero\" than objects, in the true maps of names.", all=len(crowd),
             merged=(len(touching), ">=", 10))

# %% [markdown]
# That is no fault of a network: these are the *true* maps. Lesson 21 gives each object a mask.
#
# **We now know** that many pictures with few named pixels can be worth more than few with all, and that classes of pixels do not count objects.
# **This does not show** how many pictures *you* need: real things vary more than our digits. Pictures and pixels were drawn once, and steps and learning rate were not chosen anew for each set.
#
# **Exercise 19.6.** From objects to names. `masks` (H, W) holds 0 for the ground and k + 1 for object k, `labels` the class of each object, a list. Return the map of names, class c as c + 1 and the ground as 0; and the number of pairs of *neighbouring pixels* (side by side, or one above the other) that belong to different objects but have the same name: there two objects are merged. (Corners do not count here. The figure's patches are joined at corners too: its upper two zeros touch at a corner only, and their number is 0.)

# %%
def names_and_merges(masks, labels):
    """(map of names, number of pairs), numpy."""
    ...

exercises.check("19.6", names_and_merges)

# %% [markdown]
# ## In practice
#
# - Start from a trained network: `torchvision.models.segmentation.deeplabv3_resnet50(weights="DEFAULT")`, `fcn_resnet50`, `lraspp_mobilenet_v3_large` for a phone; scores are in the output's `"out"`. U-Nets over many trunks: `segmentation_models_pytorch.Unet`.
# - Your own data: `cnncourse.data.masks_folder(path, size=64)` reads pictures and masks; this lesson runs on them, ten pictures or more (the fewer, the more passes): `python -m cnncourse run 19 -p masks path -p passes 50 -p up_passes 30`. Pascal VOC: `torchvision.datasets.VOCSegmentation`.
# - Unnamed pixels: `F.cross_entropy(…, ignore_index=255)`. Rare classes: `weight=`, or a loss on overlap (Dice).
# - Picture and mask move together: `torchvision.transforms.v2` with `tv_tensors.Mask`, masks by nearest neighbour, never bilinear.
# - Up: bilinear and a convolution, with skips; a transposed convolution whose stride divides the size of its kernel. Objects one by one: `torchvision.models.detection.maskrcnn_resnet50_fpn_v2` (lesson 21).
#
# ## History
#
# - 2012: D. Cireşan and others name pixels of electron microscopy by windows around them, and win a contest.
# - November 2014: *fully convolutional networks* (J. Long, E. Shelhamer, T. Darrell): classifiers run over whole pictures, with skips. December: *DeepLab* (L.-C. Chen and others), with gaps.
# - May 2015: *U-Net* (O. Ronneberger, P. Fischer, T. Brox), for cells; H. Noh, S. Hong, B. Han unpool and deconvolve. November: *SegNet* (V. Badrinarayanan, A. Kendall, R. Cipolla; a first version in May with A. Handa) unpools with remembered places.
# - 2016: A. Odena, V. Dumoulin, C. Olah describe checkerboards, and enlargement before convolution as a cure. 2017: *Mask R-CNN*.
# - 2021: transformers such as SegFormer. 2023: *Segment Anything* trained with more than a thousand million masks, for points and boxes that a user gives.
#
# ## Exercises that are left
#
# **19.7 Open.** Streets, 2048 × 1024 pixels, ten classes, poles two pixels wide, and a budget of a second a picture on a small computer. Which design, and what would you measure first?
#
# **19.8 Open.** Look again at the figure of section 4. Name two things that it does *not* show. (More seeds, `-p seed_count 5`; longer training, `-p up_passes 4`; larger pictures; the way down trained along?)
#
# ## Summary
#
# - Pixel accuracy flatters a map that finds nothing; mean IoU does not.
# - A network for windows, run once over the picture, gives the same scores at a fraction of the work, if its layers have no borders of their own (with a pooling: those of every second window).
# - Names need a wide view, by gaps or by going down; strokes need fine places.
# - Four ways up: nearest, nails, unpooling, transposed convolution, which is a transpose and no inverse.
# - Skips brought the strokes back, by their finer places; the ways up without them lay close together.
# - Here many sparsely named pictures were worth more than a few named wholly.

# %% [markdown]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | max unpooling seems to be the best way up | one of several: here it was ahead of bilinear by a few points without skips, and far below bilinear with skips; FCN and U-Net use skips, with bilinear or transposed enlargement | section 4 |
# | transposed convolution makes the reverse of a convolution | it is its transpose (adjoint), which the gradient uses; enlarged by it and made small again a map is not what it was; enlarged by the pseudo-inverse it is. What a convolution with a stride left out, neither gives back | section 3 |
# | nobody uses sliding windows for pixels | cutting windows out one by one, no; the same network run once gives the same scores | section 2 |
# | nobody uses convolutions at the picture's resolution | dear if the layers are wide; narrow ones with gaps were affordable here and did about as well as the way down | sections 2 and 3 |
#
# ## Sources
#
# - The notes: lecture 004, section 11 on segmentation (after CS231n, Stanford 2017).
# - Cireşan, Giusti, Gambardella, Schmidhuber: Deep neural networks segment neuronal membranes in electron microscopy images, NIPS 2012.
# - Long, Shelhamer, Darrell: Fully convolutional networks for semantic segmentation, arXiv:1411.4038. Ronneberger, Fischer, Brox: U-Net, arXiv:1505.04597.
# - Chen et al.: Semantic image segmentation with deep convolutional nets and fully connected CRFs, arXiv:1412.7062. Badrinarayanan, Handa, Cipolla: SegNet, arXiv:1505.07293; Badrinarayanan, Kendall, Cipolla: SegNet, arXiv:1511.00561. Noh, Hong, Han: Learning deconvolution network, arXiv:1505.04366.
# - Dumoulin, Visin: A guide to convolution arithmetic for deep learning, arXiv:1603.07285. Odena, Dumoulin, Olah: Deconvolution and checkerboard artifacts, Distill 2016.
# - Bearman, Russakovsky, Ferrari, Fei-Fei: What's the point, arXiv:1506.02106. Everingham et al.: The Pascal visual object classes challenge: a retrospective, 2015. Kirillov et al.: Segment anything, arXiv:2304.02643.
