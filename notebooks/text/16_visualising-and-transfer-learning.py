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
# # 16 · Visualising and transfer
# ### What does a network see, and can another task borrow its eyes?
#
# A network has learned to name a thousand kinds of things in photographs. The first figure borrows its layers for three tasks that it was never trained for. At each depth a linear classifier reads what the layer gives, and learns the new task from a few pictures. The second line is the same network, *untrained*.
# Odd: at the first layer the untrained network is as good an eye as the trained one, or better. And on faces the trained network's last layer is far from its best.
#
# **You will be able to**
# - read out any layer of a network, and measure what it is worth;
# - show what excites a unit, in three ways;
# - ask where a network looks, and test the answer;
# - borrow a network for few pictures, freeze it, replace its end, tune it;
# - say when borrowing does not pay.
#
# **You need** lesson 02 (linear classifiers), lesson 03 (gradients), lesson 04 (convolutions) and lesson 11 (networks for photographs).
#
# **Words.** A *unit* is one channel of a layer; its *map* holds its values over the picture. The *pretrained* network has weights that others trained on ImageNet, a million photographs. A *seed* fixes all random numbers.
# Claims (✓) are made for the parameters below; with others the lesson shows what it measures and requires nothing.

# %% [markdown]
# **It costs** about 40 seconds of one processor core, no network connection, no GPU.

# %% tags=["parameters"]
seed: int = 100  # the first of the seeds; at least 0
runs: int = 3  # seeds for each comparison; 2 to 10
image_size: int = 40  # pixels a side of the pictures of the tasks; 32 to 224
crops: int = 12  # training pictures of each photograph; 8 to 100
other: str = "digits"  # pictures unlike photographs; one of digits, mnist5k, mnist, fashion_mnist
other_images: int = 30  # training pictures of each of their classes; 10 to 100
tune_steps: int = 15  # steps of fine-tuning; 1 to 1000
climb_steps: int = 48  # steps towards the picture that a unit prefers; 10 to 500
small_steps: int = 120  # steps of the small networks that start from nothing; 10 to 5000

# %% tags=["imports", "fold"]
import copy
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import mannwhitneyu
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeClassifierCV
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

from cnncourse import (claims, data, exercises, figures, inspection, models, plots, runtime,
                       training)

# %% tags=["fold"]
runtime.start(seed=seed, device="cpu")  # small batches, one after the other: no work for a GPU
figures.use_style()
everyone = range(seed, seed + runs)
BLUE, ORANGE, GREEN, RED = figures.CYCLE

# %% [markdown]
# The network is EfficientNet-Lite0: a first convolution, 16 blocks, a last convolution with 1280 units, and a linear layer that names 1000 classes. Its weights ship in a Python package. The untrained one has the same layers, with the first weights that its authors draw.
#
# `features` reads out every depth: the picture's mean colour (depth 0), then each layer's maps, averaged over their pixels. A layer of 80 maps gives 80 numbers.

# %% tags=["ledger:prac-pretrained-models-use"]
trained = models.efficientnet_lite0(pretrained=True).eval()
LAYERS = ("_relu0", *(f"_blocks.{number}" for number in range(16)), "_relu1")

def features(network, pictures):
    """For each of 19 depths one vector a picture, (N, units); and the maps of block 8."""
    maps = inspection.activations(network, pictures, LAYERS, batch_size=32)
    pooled = [pictures.mean((2, 3)), *(maps[name].mean((2, 3)) for name in LAYERS)]
    return pooled, maps["_blocks.7"]

# %% [markdown]
# The *linear probe*: standardise the numbers, then fit a linear classifier. How strongly its weights are held small is chosen on the training pictures alone, each left out in turn, and anew for each layer. So no layer is favoured by a setting.

# %%
def probe(train, labels, test, truth):
    """Accuracy on the test pictures of a linear classifier; train and test are (N, numbers)."""
    ridge = RidgeClassifierCV(alphas=10.0 ** np.arange(-1, 6))  # chosen by leave-one-out
    linear = make_pipeline(StandardScaler(), ridge)
    linear.fit(train.numpy(), labels.numpy())
    return linear.score(test.numpy(), truth.numpy())

# %% [markdown]
# Three tasks, from pictures that ship in scikit-image.
# - *Textures*: brick, grass or gravel? One grey photograph of each; five training pieces from its left half, test pieces from its right half.
# - *Photographs*: from which of ten is this piece? Halves as before. A seed draws other pieces, never other photographs.
# - *Faces*: a face, or something else? Five of each, grey, 25 pixels a side, enlarged. The same person may stand on both sides.

# %% tags=["define", "fold"]
TEXTURES = ("brick", "grass", "gravel")
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "camera", "coins", "moon", "retina",
               "immunohistochemistry", "hubble_deep_field")
photos = data.photos()

class Task(NamedTuple):
    train: torch.Tensor  # (N, 3, image_size, image_size), (levels - 127) / 128
    labels: torch.Tensor
    test: torch.Tensor
    truth: torch.Tensor

def shown(picture):
    """(3, H, W), -1 to 1, for imshow; in seven steps a colour (0 is grey), for small files."""
    return ((picture / 2 + 0.5).clamp(0, 1) * 6).round().div(6).permute(1, 2, 0).numpy()

def scaled(pictures):
    """uint8 (N, 1 or 3, H, W) to what the network takes."""
    pictures = pictures.expand(-1, 3, -1, -1).float()
    if pictures.shape[-1] != image_size:
        pictures = F.interpolate(pictures, (image_size, image_size), mode="bicubic",
                                 align_corners=False).clamp(0, 255)
    return (pictures - 127) / 128

def pieces(names, count, half, stream):
    """`count` square pieces of each photograph, from its left (0) or right (1) half."""
    found = []
    for name in names:
        height, width = photos[name].shape[1:]
        side = min(image_size, height, width // 2)
        for _ in range(count):
            top = int(torch.randint(height - side + 1, (), generator=stream))
            left = int(torch.randint(width // 2 - side + 1, (), generator=stream))
            left += half * (width - width // 2)
            found.append(photos[name][:, top:top + side, left:left + side])
    scaled_ones = torch.cat([scaled(piece[None]) for piece in found])
    return scaled_ones, torch.arange(len(names)).repeat_interleave(count)

def faces(count, stream):
    from skimage.data import lfw_subset
    pictures = scaled(torch.from_numpy((lfw_subset() * 255).round().astype(np.uint8))[:, None])
    order = [first + torch.randperm(100, generator=stream) for first in (0, 100)]
    train, test = (torch.cat([part[a:b] for part in order]) for a, b in
                   ((0, count), (count, count + 25)))
    labels = (torch.arange(200) < 100).long()
    return Task(pictures[train], labels[train], pictures[test], labels[test])

def tasks_of(number):
    stream = torch.Generator().manual_seed(number)
    return {"textures": Task(*pieces(TEXTURES, 5, 0, stream), *pieces(TEXTURES, 15, 1, stream)),
            "photographs": Task(*pieces(PHOTOGRAPHS, crops, 0, stream),
                                *pieces(PHOTOGRAPHS, 8, 1, stream)),
            "faces": faces(5, stream)}

# %%
DEPTHS = (0, 1, 2, 4, 7, 10, 14, 18)  # 10: after nine blocks; 18: the last
accuracy, kept = {}, {}  # (task, network) -> one row a seed; seed -> features of the photographs
for number in everyone:
    with runtime.seeded(number):
        untrained = models.efficientnet_lite0().eval()
    for name, task in tasks_of(number).items():
        for kind, network in (("trained", trained), ("untrained", untrained)):
            (x, cut), (xt, cut_test) = features(network, task.train), features(network, task.test)
            row = [probe(x[depth], task.labels, xt[depth], task.truth) for depth in DEPTHS]
            accuracy.setdefault((name, kind), []).append(row)
            if name == "photographs":
                kept[number, kind] = (task, x, xt, cut, cut_test)

# %% tags=["fold"]
CHANCE = {"textures": 1 / 3, "photographs": 1 / 10, "faces": 1 / 2}
fig, axes = plt.subplots(1, 3, figsize=(figures.WIDTH, 4.0), sharey=True)
for ax, (name, chance) in zip(axes, CHANCE.items(), strict=True):
    for kind, colour in (("trained", BLUE), ("untrained", ORANGE)):
        rows = np.array(accuracy[name, kind])
        ax.plot(DEPTHS, rows.mean(0), color=colour)
        ax.fill_between(DEPTHS, rows.min(0), rows.max(0), color=colour, alpha=0.2, linewidth=0)
    ax.axhline(chance, color=figures.COLOUR["muted"], linestyle=":")
    ax.set(xlabel="depth", ylim=(0, 1.04), xticks=(0, 5, 10, 18))
    ax.set_title(name, fontsize=13)
axes[0].set_ylabel("accuracy of a linear probe")
axes[1].text(9.5, 0.95, "trained", color=BLUE, fontsize=13, ha="center")
axes[1].text(10.5, 0.40, "untrained", color="#b06800", fontsize=13, ha="center")
axes[1].text(18, 0.13, "guessing", fontsize=12, ha="right")
fig.suptitle("At first untrained eyes are as good; depth lifts the trained ones alone",
             x=0.01, ha="left", fontsize=13.5)
figures.save(fig, "emp-hierarchical-features",
             caption=f"Accuracy of a linear probe on the layers of EfficientNet-Lite0, by depth "
                     f"(0: mean colour, 1: first convolution, 18: last), {image_size} pixels a "
                     f"side. Line: mean of {runs} seeds, each with its own pictures and untrained "
                     "network; band: lowest to highest.",
             alt="In all three tasks both lines start together. The trained one rises to its "
                 "highest in the middle and falls a little at the end; the untrained one falls "
                 "with depth.")

# %% tags=["fold"]
FIRST, MIDDLE, LAST = (DEPTHS.index(depth) for depth in (1, 10, 18))
def at(name, kind, place):
    return 100 * np.array(accuracy[name, kind])[:, place]  # in per cent

claims.check("emp-hierarchical-features",
             "After nine blocks the trained network is ahead of the untrained one by "
             "{textures:.0f} points on textures, {photographs:.0f} on photographs, {faces:.0f} on "
             "faces. At the first convolution it is behind by {first:.0f} on textures.",
             seeds=runs, on="mean",
             textures=((at("textures", "trained", MIDDLE) - at("textures", "untrained", MIDDLE))
                       .tolist(), ">=", 12),
             photographs=((at("photographs", "trained", MIDDLE)
                           - at("photographs", "untrained", MIDDLE)).tolist(), ">=", 15),
             faces=((at("faces", "trained", MIDDLE) - at("faces", "untrained", MIDDLE)).tolist(),
                    ">=", 3),
             first=((at("textures", "untrained", FIRST) - at("textures", "trained", FIRST))
                    .tolist(), ">=", 0))
claims.check("emp-hierarchical-features.middle",
             "The trained network's last layer is behind its middle by {faces:.0f} points on "
             "faces, {photographs:.0f} on photographs, {textures:.0f} on textures.",
             seeds=runs, on="mean",
             faces=((at("faces", "trained", MIDDLE) - at("faces", "trained", LAST)).tolist(),
                    ">=", 3),
             photographs=(at("photographs", "trained", MIDDLE)
                          - at("photographs", "trained", LAST)).tolist(),
             textures=(at("textures", "trained", MIDDLE)
                       - at("textures", "trained", LAST)).tolist())

# %% [markdown]
# So a first layer is worth something without any training: filters drawn at random also react to edges and colours. What training adds lies deeper. The last layers are made for the thousand classes; what they do not need, they may drop.
#
# Three conditions. Textures and faces are *grey*, and some trained filters are for colour alone, as the next section shows. The pieces are small for a network that learned from pictures of 224 pixels. And is the untrained network only badly scaled? In a trial outside this lesson we normalised its maps on the training photographs, as training would: in its first blocks it was better, in its deepest worse.
#
# ## 1 · What a layer computes
#
# The first convolution has 32 filters of 3 × 3 pixels in three colours. They can be shown as small pictures, for they read pixels. Trained ones look different from drawn ones. How, in a number? Split each filter into what is equal in the three colours (it sees *brightness*) and the rest (it sees *colour*). The energy is the sum of squares.

# %% tags=["define"]
def brightness_share(filters):
    """Share of the energy of each filter (units, 3, h, w) that is equal in the three colours."""
    grey = filters.mean(1, keepdim=True).expand_as(filters)
    return grey.square().sum((1, 2, 3)) / filters.square().sum((1, 2, 3))

# %% tags=["fold"]
first = {"trained": trained._conv_stem.weight.detach(),
         "untrained": untrained._conv_stem.weight.detach()}
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.1))
shares = {}
for ax, (kind, filters) in zip(axes, first.items(), strict=True):
    shares[kind] = brightness_share(filters)
    order = shares[kind].argsort(stable=True)
    span = filters.abs().amax((1, 2, 3), keepdim=True)
    plots.image_grid(ax, ((filters / span / 2 + 0.5)[order] * 6).round() / 6, columns=8)
    ax.set_title(kind, fontsize=13)
fig.suptitle("Trained first filters: a few for colour alone, many mostly for brightness",
             x=0.01, ha="left", fontsize=13.5)
figures.save(fig, "fig-alexnet-features-png",
             caption="The 32 filters of the first convolution, 3 × 3 pixels, each stretched to its "
                     "own largest weight, ordered by the share of their energy that is brightness. "
                     "Untrained: one network.",
             alt="Two grids of 32 small squares. The trained ones begin with pure colours and end "
                 "with edges; the untrained are coloured noise throughout.")
far = {kind: (share - 1 / 3).abs() for kind, share in shares.items()}
claims.check("fig-alexnet-features-png",
             "On average a third of a drawn filter's energy is brightness. Trained filters lie "
             "{trained:.2f} from a third (median), untrained ones {untrained:.2f}; a rank test has "
             "p = {p:.1g}. With less than a tenth there are {none:d} trained filters of 32.",
             none=int((shares["trained"] < 0.1).sum()),
             trained=far["trained"].median().item(), untrained=far["untrained"].median().item(),
             p=(float(mannwhitneyu(far["trained"], far["untrained"],
                                   alternative="greater").pvalue), "<", 0.01))

# %% [markdown]
# These filters are poor beside AlexNet's famous 96 filters of 11 × 11 pixels: in 3 × 3 pixels there is room for an edge or one line, not for a row of stripes. Deeper filters read the maps of other units, not colours: as pictures they say little. Their *maps* can.

# %% tags=["fold"]
look = models.imagenet_input(photos["coffee"], 128)  # (1, 3, 128, 128)
four_depths = ("_relu0", "_blocks.2", "_blocks.8", "_blocks.14")
maps = inspection.activations(trained, look, four_depths)
fig, axes = plt.subplots(1, 4, figsize=(figures.WIDTH, 2.2))
for ax, name in zip(axes, four_depths, strict=True):
    four = maps[name][0][maps[name][0].std((1, 2)).argsort(descending=True)[:2]]
    low, high = four.amin((1, 2), keepdim=True), four.amax((1, 2), keepdim=True)
    plots.image_grid(ax, ((four - low) / (high - low) * 7).round() / 7, columns=2)
    side = maps[name].shape[-1]
    depth = "first" if name == "_relu0" else f"block {int(name.split('.')[1]) + 1}"
    ax.set_title(f"{depth}: {side} × {side}", fontsize=13)
fig.suptitle("First a cup with edges, in the end a few spots", x=0.01, ha="left", fontsize=13.5)
figures.save(fig, "fig-conv-visualisations",
             caption="Maps of a photograph of a cup of coffee (128 pixels a side) at four depths: "
                     "the two units whose values vary most over the picture, each from black "
                     "(its lowest) to white.",
             alt="In the first layer the cup is recognisable; at block 3 as outlines; "
                 "at blocks 9 and 15 a few coarse squares are left.")

# %% [markdown]
# Can one *say* what a unit does? We try with six simple words for a piece of a photograph: its mean red, green and blue, its contrast, and how much it changes from left to right and from top to bottom. A linear fit on the left halves predicts each unit on the right halves. R² is the share of a unit's variance that the fit explains: 1 is all, 0 no more than the mean.

# %%
exercises.predict("16.p1", "From the first layer of the trained network to the last, what six "
                  "simple words explain of its units:", ("rises", "stays", "falls"))

# %% tags=["define"]
def simple_words(pictures):
    """Six numbers a picture: mean red, green, blue; contrast; change across and down."""
    grey = pictures.mean(1)
    across = (grey[:, :, 1:] - grey[:, :, :-1]).abs().mean((1, 2))
    down = (grey[:, 1:] - grey[:, :-1]).abs().mean((1, 2))
    return torch.column_stack([pictures.mean((2, 3)), grey.std((1, 2)), across, down])

def explained(words, units, words_new, units_new):
    """R² of each unit on new pictures, by a linear fit to old ones; 0 where it is below."""
    one, new = torch.ones(len(words), 1), torch.ones(len(words_new), 1)
    weights = torch.linalg.lstsq(torch.hstack([words, one]), units).solution
    off = units_new - torch.hstack([words_new, new]) @ weights
    return (1 - off.square().mean(0) / units_new.var(0, correction=0)).clamp(min=0)

# %% tags=["fold"]
said = {}
for kind in ("trained", "untrained"):
    for number in everyone:
        task, x, xt, _, _ = kept[number, kind]
        old, new, row = simple_words(task.train), simple_words(task.test), []
        for depth in DEPTHS[1:]:
            alive = (x[depth].std(0) > 0) & (xt[depth].std(0) > 0)  # not 0 for all pieces
            row.append(explained(old, x[depth][:, alive], new, xt[depth][:, alive]).median().item())
        said.setdefault(kind, []).append(row)

print("depth    ", *(f"{depth:5}" for depth in DEPTHS[1:]))
for kind, rows in said.items():
    print(f"{kind:9}", *(f"{value:5.2f}" for value in np.mean(rows, axis=0)))

# %% tags=["fold"]
words_first, words_last = (np.array(said["trained"])[:, place] for place in (0, -1))
fell = float((words_first - words_last).mean())
exercises.reveal("16.p1", "falls" if fell > 0.1 else "rises" if fell < -0.1 else "stays",
                 f"From {words_first.mean():.2f} to {words_last.mean():.2f}.")
claims.check("emp-features-get-harder-to-interpret",
             "Six simple words explain {first:.0%} of a trained unit's variance at the first "
             "convolution and {last:.0%} at the last (medians); of an untrained one {drawn:.0%} at "
             "the last.", seeds=runs, on="mean", first=(words_first.tolist(), ">=", 0.6),
             last=(words_last.tolist(), "<=", 0.3),
             drawn=np.array(said["untrained"])[:, -1].tolist())

# %% [markdown]
# **We now know** how to show what the first layer weighs, and that in a trained network deep units follow less and less of what six words can say.
# **This does not show** that deep units mean something else that has a name. They may be mixtures that no word fits.
#
# **Exercise 16.1.** A unit of the first layer reads the *sum* of its filter times the pixels. Given filters (units, 3, h, w), return for each the share of its energy that is its mean over all pixels, colour by colour: a filter that is flat in each colour has 1, an edge has 0.

# %%
def flat_share(filters):
    """Share of each filter's energy that is constant over its pixels, in each colour; (units,)."""
    ...

exercises.check("16.1", flat_share)

# %% [markdown]
# ## 2 · What excites a unit?
#
# Three ways. *Look for it*: run many pictures, keep those parts where the unit is largest. *Project it back*: from the unit's value down to the pixels that drove it, with the **deconvnet** (Zeiler and Fergus): put each maximum back to its place, keep positive values only, apply the filters turned round. *Make it*: start from noise and climb.
#
# The first two together, for two units of block 5 that we picked. The network has no max-pooling, so here the deconvnet is a backward pass with another rule at each ReLU.

# %% tags=["ledger:eq-deconvnet"]
PATCH_LAYER, UNITS = "_blocks.4", (7, 18)
gallery = torch.cat([models.imagenet_input(photo, 128) for photo in photos.values()])  # (13, ...)
best = {unit: inspection.top_patches(trained, gallery, PATCH_LAYER, unit, count=3)
        for unit in UNITS}

def projected(unit, patch):
    """The pixels that drove the unit at this place, by the deconvnet: (3, 128, 128)."""
    place = (unit, patch.row, patch.column)
    return inspection.deconvnet(trained, gallery[patch.picture], PATCH_LAYER, place)

# %% tags=["fold"]
def window(picture, patch):
    height, width = patch.pixels.shape[1:]
    return picture[:, patch.top:patch.top + height, patch.left:patch.left + width]

def squared(picture):
    """(3, h, w), -1 to 1, for imshow; white where the picture's edge cut the patch off."""
    side = max(max(patch.pixels.shape) for patches in best.values() for patch in patches)
    height, width = picture.shape[1:]
    edges = (0, side - width, 0, side - height)
    return shown(F.pad(picture, edges, value=1.0))

fig, axes = plt.subplots(2, 6, figsize=(figures.WIDTH, 3.4))
for line, unit in zip(axes, UNITS, strict=True):
    for place, patch in enumerate(best[unit]):
        line[place].imshow(squared(patch.pixels), interpolation="none")
        part = window(projected(unit, patch), patch)
        line[place + 3].imshow(squared(part / part.abs().quantile(0.99).clamp(min=1e-9)),
                               interpolation="none")
    for ax in line:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    line[0].set_ylabel(f"unit {unit}", fontsize=12)
axes[0, 0].set_title("where it is largest", fontsize=12, loc="left")
axes[0, 3].set_title("projected back to the pixels", fontsize=12, loc="left")
fig.suptitle("Two units of block 5: what they liked best, and its projection to the pixels",
             x=0.01, ha="left", fontsize=13.5)
figures.save(fig, "fig-deconvnet-projections",
             caption="The three parts of thirteen photographs (128 pixels a side) that excite a "
                     "unit most, at most one of each photograph, and their deconvnet projections; "
                     "grey: nothing or little.",
             alt="For each of two units three small pieces of photographs, and beside them "
                 "their projections, in which only some edges and spots stand out from grey.")

# %% [markdown]
# Pretty. But did those pixels drive it? *Intervene*: hide the fifth of the patch with the strongest projection behind grey, and see what is left of the unit's value. Two yardsticks: a fifth drawn at *random*; and the fifth *nearest* to the unit's place in the picture (the middle of its square of 8 × 8 pixels), for which one needs no projection, only a ruler.

# %%
def hidden_first(rule, unit, patch):
    """For each pixel of the patch a number, (height, width): the largest are hidden first."""
    height, width = patch.pixels.shape[1:]
    if rule == "projection":
        return window(projected(unit, patch), patch).abs().amax(0)
    if rule == "random":
        return torch.rand(height, width, generator=torch.Generator().manual_seed(seed))
    down = torch.arange(height)[:, None] + patch.top - 8 * patch.row - 3.5  # 8 pixels a place
    across = torch.arange(width) + patch.left - 8 * patch.column - 3.5
    return -(down.square() + across.square())  # nearest first

# %%
def left_over(rule, unit, patch):
    """The unit's value, as a part of what it was, with a fifth of its patch hidden."""
    first_ones = hidden_first(rule, unit, patch)
    hidden = (first_ones >= first_ones.quantile(0.8)).float()
    picture = gallery[patch.picture].clone()
    window(picture, patch).mul_(1 - hidden)  # 0 is grey
    value = inspection.activations(trained, picture, [PATCH_LAYER])[PATCH_LAYER]
    return (value[unit, patch.row, patch.column] / patch.activation).item()

left = {rule: [left_over(rule, unit, patch) for unit in UNITS for patch in best[unit]]
        for rule in ("projection", "random", "nearest")}

# %% tags=["fold"]
middle_of = {rule: float(np.median(values)) for rule, values in left.items()}
claims.check("fig-deconvnet-projections",
             "With the most strongly projected fifth of their patches hidden, {left:.0%} is left "
             "of the units' values; with a random fifth {random:.0%}; with the fifth nearest to "
             "the unit's place {nearest:.0%} (medians of {count} patches).",
             left=(middle_of["projection"], "<=", 0.4), count=len(left["nearest"]),
             random=(middle_of["random"], ">=", middle_of["projection"] + 0.15),
             nearest=(middle_of["nearest"], "<=", 0.4))

# %% [markdown]
# So the projection finds pixels that matter, and the ruler finds them no worse. This test does not show that the projection knows more than *where* the unit reads. (The random fifth is no fair rival: scattered holes leave something of every part, and are edges to which a unit may react, too.)
#
# Now *make* it: **activation maximisation**. Start from noise; step by step change the picture so that the score of *espresso* rises. The picture is written as a sum of waves in which slow ones are strong, as in photographs.

# %% tags=["ledger:eq-deep-dream-activation-max"]
def prepared(picture):
    """Levels 0 to 1 as the network takes them."""
    return (picture * 255 - 127) / 128

def score(picture):
    with torch.no_grad():
        return trained(picture[None])[0, 967].item()  # espresso, before the softmax

climbed = inspection.maximise(
    trained, 967, shape=(3, 80, 80), generator=torch.Generator().manual_seed(seed),
    preprocess=prepared, decay=1.0, steps=climb_steps, learning_rate=0.03)
made = prepared(climbed.picture)
cup = models.imagenet_input(photos["coffee"], 80)[0]
scores = [score(cup), score(made)]

# %% tags=["nbval-varies", "fold"]
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.6))
for ax, name, picture, value in zip(axes, ("a photograph", "made by climbing"),
                                    (cup, made), scores, strict=True):
    ax.imshow(shown(picture), interpolation="none")
    ax.set_title(f"{name}: {value:.0f}", fontsize=12.5)
    ax.set(xticks=[], yticks=[])
fig.suptitle("What scores highest for espresso is not a picture of an espresso", x=0.01, ha="left",
             fontsize=13.5)
figures.save(fig, "eq-deep-dream-activation-max",
             caption=f"A photograph, and a picture made in {climb_steps} steps for the class "
                     "espresso, of 80 pixels a side; numbers: the network's score for espresso "
                     "before the softmax.",
             alt="A cup of coffee, and a colourful texture with round dark forms.")

# %% tags=["nbval-varies", "fold"]
stream = torch.Generator().manual_seed(seed)
noise = torch.randn(50, *cup.shape, generator=stream)
noise *= made.norm() / noise.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
with torch.no_grad():
    noisy = torch.cat([trained(part)[:, 967] for part in noise.split(20)]).max().item()
    pieces_best = max(trained._fc(kept[number, "trained"][1][18])[:, 967].max().item()
                      for number in everyone)
claims.check("eq-deep-dream-activation-max",
             "The made picture scores {made:.0f}, the photograph of an espresso "
             "{photo:.0f}, the best piece of the ten photographs {best:.0f}, the best of 50 "
             "random pictures of the same norm {noisy:.0f}.", photo=scores[0],
             made=(scores[1], ">=", scores[0] + 5), best=pieces_best,
             noisy=(noisy, "<=", scores[0]))

# %% [markdown]
# The made picture is *more espresso than this espresso*, for this network, and nobody would drink it. (The photograph has a handicap: at 80 pixels the network names another class first. At 96 and 128 pixels it says espresso, in a trial, with scores of 32 and 29: still below the made one.) The made picture shows a direction in which the score rises, not what the network has learned to expect. And that it looks a little like a photograph may be our doing: slow waves are strong in photographs, and we made them strong here. (Not tested: one would climb once more with all waves alike.) (*DeepDream* climbs from a photograph instead of noise, for a whole layer.)
#
# **We now know** three ways to ask a unit, and to test an answer by hiding it, against a yardstick that knows nothing of the answer.
# **This does not show** that a unit has one meaning: three patches are three of thousands.
#
# **Exercise 16.2.** Three rules for the way back through a ReLU. `x` went into the ReLU, `slope` arrives from above. *gradient*: passes where x was above 0. *deconvnet*: passes where the slope is above 0. *guided*: both.

# %%
def back_through_relu(rule, x, slope):
    """What goes on down, of the shape of x; rule is gradient, deconvnet or guided."""
    ...

exercises.check("16.2", back_through_relu)

# %% [markdown] tags=["ledger:prac-visualising-motivation"]
# ## 3 · Where does it look?
#
# People want to know why a network said *espresso*, to trust it or not. Three maps claim to say where the reason stands in the picture.
# - *Saliency*: how much the score changes with each pixel, by the gradient.
# - *Guided* saliency: the same with the guided rule of exercise 16.2.
# - *Occlusion*: hide a square behind grey, write down how far the score falls, go on.
#
# To test them we need pictures of which we *know* where the reason is: two photographs side by side. Asked about the left one's class, a map should lie in the left half. By chance, half of it does. We picked three photographs; their classes are what the network names first for each alone.

# %%
exercises.predict("16.p2", "Asked about the one class, then about the other: which map changes "
                  "least?", ("saliency", "guided", "occlusion"))

# %%
CLASSES = {"coffee": 967, "chelsea": 285, "rocket": 812}  # espresso, Egyptian cat, space shuttle
PAIRS = (("coffee", "chelsea"), ("chelsea", "rocket"), ("rocket", "coffee"))
halves = {name: models.imagenet_input(photos[name], 96)[0] for name in CLASSES}

def map_of(method, network, picture, wanted):
    """Where the reason for class `wanted` stands: (H, W), or coarser; a fall is above 0."""
    if method == "occlusion":
        hidden = inspection.occlusion(network, picture, wanted, patch=32, stride=32,
                                      probability=False)
        return network(picture[None])[0, wanted].item() - hidden
    return inspection.saliency(network, picture, wanted, guided=method == "guided")

# %% tags=["fold"]
METHODS = ("saliency", "guided", "occlusion")
found, asked, sizes, alike = {}, {}, {}, {}  # asked: the half that was asked about

def share(values, left):
    """Part of the map that lies in the left or in the right half."""
    half = values.shape[1] // 2
    part = values[:, :half] if left else values[:, half:]
    return (part.sum() / values.sum().clamp(min=1e-9)).item()

def correlation(one, other):
    return float(np.corrcoef(one.flatten(), other.flatten())[0, 1])

for method in METHODS:
    for pair in PAIRS:
        picture = torch.cat([halves[name] for name in pair], dim=2)  # (3, 96, 192)
        with torch.no_grad():
            both = [map_of(method, trained, picture, CLASSES[name]) for name in pair]
        found[method, pair] = both
        for values, is_left in zip(both, (True, False), strict=True):
            asked.setdefault(method, []).append(share(values.clamp(min=0), is_left))
            sizes.setdefault(method, []).append(share(values.abs(), is_left))
        alike.setdefault(method, []).append(correlation(*both))

# %% tags=["fold"]
fig, axes = plt.subplots(4, 2, figsize=(figures.WIDTH, 4.5))
picture = torch.cat([halves[name] for name in PAIRS[0]], dim=2)
for column, name in enumerate(("espresso", "Egyptian cat")):
    axes[0, column].imshow(shown(picture), interpolation="none")
    axes[0, column].set_title(f"asked about: {name}", fontsize=12.5)
    for line, method in enumerate(METHODS, start=1):
        values = found[method, PAIRS[0]][column]
        axes[line, column].imshow(values, vmin=0, vmax=np.quantile(values, 0.995),
                                  extent=(0, 192, 96, 0), interpolation="none",
                                  cmap=plt.get_cmap("viridis", 5))
for line, name in enumerate(("", *METHODS)):
    axes[line, 0].set_ylabel(name, fontsize=12, rotation=0, ha="right", va="center")
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
fig.suptitle("The guided map is almost the same whatever one asks", x=0.01, ha="left",
             fontsize=13.5)
figures.save(fig, "prac-visualising-motivation",
             caption="Two photographs side by side, 96 × 192 pixels, and three maps for each of "
                     "two classes; bright: the score depends on this place.",
             alt="The guided maps of both columns look almost the same. Occlusion is brightest "
                 "over the cup for espresso, and over the cat and a part of the cup "
                 "for Egyptian cat. Saliency is speckled everywhere.")

# %% tags=["nbval-varies", "fold"]
exercises.reveal("16.p2", max(METHODS, key=lambda method: np.mean(alike[method])),
                 "Correlation of the two maps: " + ", ".join(
                     f"{method} {np.mean(alike[method]):.2f}" for method in METHODS) + ".")
claims.check("prac-visualising-motivation",
             "In three pictures of two photographs the half asked about holds {saliency:.0%} of "
             "the saliency, {guided:.0%} of the guided map, {occlusion:.0%} of the occlusion's "
             "falls ({sizes:.0%} where rises count, too); by chance 50 %. The maps of the two "
             "classes correlate by {s:.2f}, {g:.2f}, {o:.2f}.",
             saliency=np.mean(asked["saliency"]).item(), sizes=np.mean(sizes["occlusion"]).item(),
             guided=(np.mean(asked["guided"]).item(), "<=", 0.7),
             occlusion=(np.mean(asked["occlusion"]).item(), ">=",
                        np.mean(asked["saliency"]).item() + 0.05),
             s=np.mean(alike["saliency"]).item(), g=(np.mean(alike["guided"]).item(), ">=", 0.7),
             o=(np.mean(alike["occlusion"]).item(), "<=", 0.5))

# %% [markdown]
# The guided map says least about *this* class: it shows what the network reads at all. The coarse map, which costs a pass for each square, finds its half best; but only while one counts falls alone, as we do here, is it far ahead of saliency, which has no sign.
#
# The *sanity check* of Adebayo and others asks the same in another way. Draw the last layer anew, so that the network names at random. A map that explains what it named must change.

# %%
forgetful = inspection.randomised(trained, seed, layers=["_fc"])  # all else stays
same = {}
for method in ("saliency", "guided"):
    same[method] = [correlation(found[method, pair][0],
                                map_of(method, forgetful,
                                       torch.cat([halves[name] for name in pair], dim=2),
                                       CLASSES[pair[0]])) for pair in PAIRS]

# %% tags=["nbval-varies", "fold"]
def two_pictures(method):
    """Mean correlation of a method's maps of two different pictures."""
    maps = [found[method, pair][0] for pair in PAIRS]
    return np.mean([correlation(maps[a], maps[b]) for a, b in ((0, 1), (0, 2), (1, 2))]).item()

claims.check("eq-deconvnet",
             "With the last layer drawn anew the guided map correlates by {guided:.2f} with what "
             "it was, saliency by {saliency:.2f} (means of three pictures); maps of two different "
             "pictures by {guided_two:.2f} and {saliency_two:.2f}.",
             guided_two=two_pictures("guided"), saliency_two=two_pictures("saliency"),
             guided=(np.mean(same["guided"]).item(), ">=", 0.6),
             saliency=(np.mean(same["saliency"]).item(), "<=", 0.5))
with runtime.seeded(seed):
    tiny = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)).double()
    spot = torch.randn(1, 1, 6, 6, dtype=torch.float64)
raw = tiny[0](spot)
down = tiny[3].weight[1].reshape(1, 3, 4, 4)  # slope of class 1 behind the ReLU
rules = {"gradient": down * (raw > 0), "deconvnet": down.clamp(min=0),
         "guided": down.clamp(min=0) * (raw > 0)}
claims.table("eq-deconvnet.by-hand", "Two layers: largest difference from the backward pass by "
             "hand, ReLU's rule and then the transposed convolution.",
             {rule: ((inspection.gradients(tiny, spot, 1, rule=rule)
                      - F.conv_transpose2d(slope, tiny[0].weight)).abs().max().item(), 0.0)
              for rule, slope in rules.items()}, columns=("rule", "here", "expected"),
             tolerance=1e-6)

# %% [markdown]
# **We now know** how to test a map: with pictures of which the answer is known, and with a network that has forgotten.
# **This does not show** where the network looks in *one* whole photograph: a grey square is itself something new to see, and a cat may fill the frame.
#
# **Exercise 16.3.** Occlusion by hand. `score` takes a picture (H, W) and gives a number. Hide each square of `patch` × `patch` pixels, every `stride` pixels from the upper left corner, behind 0 (only squares that lie wholly in the picture), and return how far the score *falls*, (rows, columns).

# %%
def falls(picture, score, patch, stride):
    """Fall of the score with a square hidden, for each place of the square."""
    ...

exercises.check("16.3", falls)

# %% [markdown]
# ## 4 · Features as a place
#
# A layer puts every picture at a place in a space of 112 or 1280 dimensions. If neighbours there belong together, one can *search by example*: take a picture's features, return the nearest. How good that is, one measures by *precision at 5*: how many of the five nearest are from the same photograph. Questions are the pieces from right halves, answers those from left halves; distances are Euclidean.

# %% tags=["ledger:eq-feature-retrieval"]
def nearest_five(questions, answers):
    """Indices of the five nearest answers, (N, 5), by Euclidean distance."""
    return torch.cdist(questions, answers).topk(5, largest=False).indices

def precision_at_5(task, questions, answers):
    hits = task.labels[nearest_five(questions, answers)] == task.truth[:, None]
    return hits.float().mean().item()

# %% tags=["fold"]
def small(pictures):
    """Pixels as one row a picture, averaged down to 16 × 16."""
    return F.interpolate(pictures, (16, 16), mode="area").flatten(1)

precision = {}
for number in everyone:
    task, x, xt, _, _ = kept[number, "trained"]
    _, z, zt, _, _ = kept[number, "untrained"]
    for name, pair in {"pixels": (small(task.test), small(task.train)),
                       "mean colour": (xt[0], x[0]), "untrained, middle": (zt[10], z[10]),
                       "trained, middle": (xt[10], x[10]),
                       "trained, last": (xt[18], x[18])}.items():
        precision.setdefault(name, []).append(precision_at_5(task, *pair))
claims.check("emp-alexnet-last-layer-encoding",
             "Of the five nearest, {last:.0%} are from the same photograph by the last layer, "
             "{middle:.0%} by the middle, {pixels:.0%} by pixels (16 × 16), {colour:.0%} by mean "
             "colour, {untrained:.0%} by the untrained middle; by chance 10 %.",
             seeds=runs, on="mean", last=(precision["trained, last"], ">=",
                                          float(np.mean(precision["pixels"])) + 0.03),
             middle=(precision["trained, middle"], ">=",
                     float(np.mean(precision["pixels"])) + 0.1), pixels=precision["pixels"],
             colour=precision["mean colour"], untrained=precision["untrained, middle"])

# %% [markdown]
# A space of 112 dimensions cannot be drawn. *PCA* shows its shadow on the plane in which the pieces vary most; it is linear, and distances can only shrink. *t-SNE* moves points in the plane until near neighbours are near; sizes of groups, and distances between them, mean little.

# %% tags=["nbval-varies", "fold"]
task, x, xt, _, _ = kept[seed, "trained"]
rows = StandardScaler().fit_transform(xt[10])
views = {"PCA of the middle": PCA(2, random_state=0).fit_transform(rows),
         "t-SNE of the middle": TSNE(2, perplexity=10, init="pca", random_state=0, max_iter=500)
         .fit_transform(rows)}
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.3))
for ax, (name, points) in zip(axes, views.items(), strict=True):
    ax.scatter(*points.T, c=task.truth, cmap="tab10", s=22)
    ax.set(xticks=[], yticks=[])
    ax.set_title(name, fontsize=12.5)
fig.suptitle("Neighbours in features are often of one photograph; few groups stand apart", x=0.01,
             ha="left", fontsize=13.5)
figures.save(fig, "eq-tsne-pca-embedding",
             caption="Test pieces of ten photographs, one colour each, in two dimensions, one "
                     "seed; no labels were used. Middle: after nine blocks of the trained network.",
             alt="In both views some photographs form groups of their own, others mix; groups "
                 "are tighter in t-SNE.")
apart = {"pixels": silhouette_score(small(task.test), task.truth),
         "middle": silhouette_score(rows, task.truth),
         "plane": silhouette_score(views["t-SNE of the middle"], task.truth)}
apart = {name: float(value) for name, value in apart.items()}
claims.check("eq-tsne-pca-embedding",
             "The silhouette (1: far from other groups; 0: between them) is {pixels:.2f} for "
             "pixels and {middle:.2f} for the middle, in all their dimensions; in t-SNE's plane it "
             "is {plane:.2f}.", pixels=apart["pixels"], middle=(apart["middle"], "<=", 0.35),
             plane=apart["plane"])

# %% [markdown]
# **We now know** that neighbours in the trained network's features are more often of the same photograph than in pixels, without any training on them.
# **This does not show** separate groups: the silhouettes are near 0. What looks like groups in a plane may be the plane's doing.
#
# **Exercise 16.4.** Precision at k inside one set: each picture asks all *others*. `points` (N, D), `labels` (N,). Return the mean share of the k nearest with the same label.

# %%
def precision_at_k(points, labels, k):
    """Mean share of the k nearest other points that have the same label."""
    ...

exercises.check("16.4", precision_at_k)

# %% [markdown]
# ## 5 · Borrowing
#
# *Transfer learning*: a network trained on task A serves task B. Three steps.
# 1. *Cut*: keep the layers that are worth most for B, drop the rest. In the first figure blocks 6 to 13 are much alike; we take block 9. (For a task of your own choose on pictures held out from training, not on the test pictures.)
# 2. *Freeze* what is kept, put a new linear layer behind it, train that alone.
# 3. *Fine-tune*: let the last kept block learn, too, in small steps.
#
# What is frozen gives the same numbers for a picture each time. So blocks 1 to 8 run once.

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.5))
BOXES = (("picture", 1.3, "white"), ("blocks 1 to 8\nfrozen,\nrun once", 2.2, "#c9d6e4"),
         ("block 9\nfrozen, then\ntuned", 2.0, "#fbe0b8"), ("new\nlinear\nlayer", 1.3, "#b9e0db"))
left = 0.0
for text, width, colour in BOXES:
    ax.add_patch(plt.Rectangle((left, 0), width, 1, facecolor=colour, edgecolor="0.4"))
    ax.text(left + width / 2, 0.5, text, ha="center", va="center", fontsize=13, color="0.13")
    left += width + 0.35
    if left < 7.8:
        ax.annotate("", (left, 0.5), (left - 0.35, 0.5), arrowprops={
            "arrowstyle": "->", "color": figures.COLOUR["ink"]})
ax.add_patch(plt.Rectangle((left + 0.2, 0), 2.3, 1, facecolor="none", edgecolor="0.55",
                           linestyle="--"))
ax.text(left + 1.35, 0.5, "blocks 10 to 16,\n1000 classes:\ndropped", ha="center", va="center",
        fontsize=13)
ax.set(xlim=(-0.1, left + 2.6), ylim=(-0.1, 1.15))
ax.set_axis_off()
ax.set_title("Cut, freeze, put a new end behind it, then tune a little")
figures.save(fig, "fig-transfer-diagram",
             caption="What is kept of the pretrained network for a new task, and what learns.",
             alt="Boxes from left to right: picture; blocks 1 to 8, frozen; block 9, frozen "
                 "and then tuned; a new linear layer. Set apart: blocks 10 to 16 and the old "
                 "classes, dropped.")

# %% tags=["define", "ledger:prac-transfer-steps"]
class Borrowed(nn.Module):
    """Block 9 of the pretrained network and a new end; reads what block 8 gives."""

    def __init__(self, classes):
        super().__init__()
        self.block = copy.deepcopy(trained._blocks[8])
        self.scale = nn.BatchNorm1d(112, affine=False, momentum=None)  # standardises
        self.head = nn.Linear(112, classes)

    def pooled(self, maps):
        return self.scale(self.block(maps).mean((2, 3)))  # (N, 112)

    def forward(self, maps):
        return self.head(self.pooled(maps))

# %% tags=["define"]
def teach(network, x, y, steps, rate, stream, batch=16):
    """Adam on mini-batches; modes of the layers are left as they are."""
    optimiser = torch.optim.Adam(network.parameters(), rate, fused=True)
    for _ in range(steps):
        some = torch.randint(len(x), (batch,), generator=stream)
        loss = F.cross_entropy(network(x[some]), y[some])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

def borrow(x, y, classes, number):
    """Step 2, then step 3, on what block 8 gives (x) and labels y: two networks."""
    stream = torch.Generator().manual_seed(number)
    with runtime.seeded(number), torch.no_grad():
        frozen = Borrowed(classes)
        frozen.scale(frozen.block.eval()(x).mean((2, 3)))  # once, for its mean and spread
        frozen.eval()
        pooled = frozen.pooled(x)
    teach(frozen.head, pooled, y, 60, 0.01, stream)  # nothing but the new layer
    tuned = copy.deepcopy(frozen)
    teach(tuned, x, y, tune_steps, 0.0001, stream)  # in eval mode: BatchNorm keeps its statistics
    return frozen, tuned

# %% [markdown]
# Frozen means: not a bit changes. There is a trap. `requires_grad_(False)` stops the gradients. But BatchNorm (lesson 07) also keeps a running mean and variance, which every pass in training mode moves. They need evaluation mode, and `fit` sets training mode for all; `training.frozen` keeps a part out of it.

# %% tags=["ledger:eq-transfer-freeze-replace"]
def moved_by_training(freeze):
    """How many tensors of the block differ after one epoch of `fit` on the whole network."""
    with runtime.seeded(seed):
        net = Borrowed(2)
    freeze(net.block)
    optimiser = torch.optim.Adam(net.head.parameters(), 0.01)
    maps = torch.randn(32, 80, 3, 3, generator=torch.Generator().manual_seed(seed))
    training.fit(net, (maps, torch.arange(32) % 2), optimizer=optimiser, epochs=1, batch_size=16,
                 progress=False)
    old = trained._blocks[8].state_dict()
    return sum(not torch.equal(value, old[name]) for name, value in net.block.state_dict().items())

trap = moved_by_training(lambda block: block.requires_grad_(False))
proper = moved_by_training(training.frozen)

# %% tags=["fold"]
claims.check("eq-transfer-freeze-replace",
             "After one epoch {trap:d} tensors of the block have changed with "
             "requires_grad_(False) alone, {proper:d} with training.frozen.",
             trap=(trap, ">", 0), proper=(proper, "==", 0))

# %% [markdown]
# When does it pay? Take few or many pictures, like or unlike those of task A: four fields. *Alike*: the ten photographs (an eye's retina and the moon among them). *Unlike*: handwritten digits, enlarged. *Few*: two pictures of each class. *Many*: twelve of each photograph, 24 of each digit.
# Five ways: a linear classifier on *pixels*; a small network that starts *from nothing*; a linear probe on the *last* layer; one on the *middle*; the middle *tuned* (steps 2 and 3).

# %%
exercises.predict("16.p3", "Two pictures of each handwritten digit. Which is best?",
                  ("pixels", "from nothing", "last layer", "middle"))

# %% tags=["define", "fold"]
def small_network(channels, side, classes):
    """Two convolutions with pooling, and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(32 * (side // 4) ** 2, classes))

def hits(network, x, y):
    with torch.no_grad():
        return (network(x).argmax(1) == y).float().mean().item()

def some_of_each(labels, count, stream):
    """Indices of `count` of each class, drawn at random."""
    order = torch.randperm(len(labels), generator=stream)
    return torch.cat([order[labels[order] == label][:count] for label in labels.unique()])

def five_ways(task, x, xt, cut, cut_test, chosen, number):
    """Accuracies of the five ways with the chosen training pictures."""
    y, classes = task.labels[chosen], len(task.labels.unique())
    small_ones, small_test = (F.interpolate(part, (16, 16), mode="area")
                              for part in (task.train[chosen], task.test))
    with runtime.seeded(number):
        new = small_network(3, 16, classes)
    stream = torch.Generator().manual_seed(number)
    teach(new, small_ones, y, small_steps, 0.003, stream)
    frozen, tuned = borrow(cut[chosen], y, classes, number)
    return {"pixels": probe(small_ones.flatten(1), y, small_test.flatten(1), task.truth),
            "from nothing": hits(new, small_test, task.truth),
            "last layer": probe(x[18][chosen], y, xt[18], task.truth),
            "middle": probe(x[10][chosen], y, xt[10], task.truth),
            "middle, tuned": hits(tuned, cut_test, task.truth),
            "before tuning": hits(frozen, cut_test, task.truth)}

# %% tags=["fold"]
def of_other():
    """The unlike pictures as a task: some to choose from for training, 12 of each for the test."""
    parts, stream = [], torch.Generator().manual_seed(0)
    for train, count in ((True, other_images), (False, 12)):
        part = data.load(other, train)
        place = some_of_each(part.labels, count, stream)
        parts += [scaled(part.images[place]), part.labels[place]]
    return Task(*parts)

unlike = of_other()
(x, cut), (xt, cut_test) = features(trained, unlike.train), features(trained, unlike.test)
digit_parts = (unlike, x, xt, cut, cut_test)
guide = {}  # (kind, amount) -> way -> one accuracy a seed
for number in everyone:
    stream = torch.Generator().manual_seed(number)
    for kind, parts, many in (("alike", kept[number, "trained"], crops),
                              ("unlike", digit_parts, other_images * 4 // 5)):
        for amount, count in (("few", 2), ("many", many)):
            chosen = some_of_each(parts[0].labels, count, stream)
            for way, value in five_ways(*parts, chosen, number).items():
                guide.setdefault((kind, amount), {}).setdefault(way, []).append(value)

# %% tags=["fold"]
ADVICE = {("alike", "few"): "linear on the last layer", ("unlike", "few"): "linear, other stages",
          ("alike", "many"): "tune a few layers", ("unlike", "many"): "tune many layers"}
WAYS = ("pixels", "from nothing", "last layer", "middle", "middle, tuned")
fig, axes = plt.subplots(2, 2, figsize=(figures.WIDTH, 4.5), sharex=True, sharey=True)
for ax, ((kind, amount), advice) in zip(axes.flat, ADVICE.items(), strict=True):
    for place, (way, colour) in enumerate(zip(WAYS, ("0.6", ORANGE, BLUE, BLUE, GREEN),
                                              strict=True)):
        values = guide[kind, amount][way]
        ax.barh(-place, np.mean(values), color=colour, alpha=0.85)
        ax.plot([min(values), max(values)], [-place] * 2, color=figures.COLOUR["ink"])
    ax.set(yticks=[-place for place in range(5)], xlim=(0, 1.02))
    ax.set_yticklabels(WAYS, fontsize=12)
    ax.set_title(f"{amount}, {kind}: “{advice}”", fontsize=12.5)
for ax in axes[1]:
    ax.set_xlabel("accuracy")
fig.suptitle("Borrowing pays on photographs, and on digits little", x=0.01,
             ha="left", fontsize=13.5)
figures.save(fig, "fig-transfer-guide-table",
             caption=f"Test accuracy with two pictures of each class (few) and with {crops} or "
                     f"{other_images * 4 // 5} (many), on pieces of photographs (alike) and "
                     f"{other} (unlike). Bars: mean of {runs} seeds, line: lowest to "
                     "highest. In quotes: the notes' advice for the field.",
             alt="Four bar charts. On photographs the last layer and the middle, frozen or tuned, "
                 "have the longest bars. On digits the network from nothing comes near to the "
                 "middle, and with few digits farther than the last layer.")

# %% tags=["nbval-varies", "fold"]
for (kind, amount), ways in guide.items():
    means = "".join(f"{way:>15} {np.mean(ways[way]):.2f}" for way in (*WAYS, "before tuning"))
    print(f"{kind:7} {amount:5}{means}")

# %% tags=["nbval-varies", "fold"]
def mean_of(kind, amount, way):
    return float(np.mean(guide[kind, amount][way]))

few_unlike = {way: mean_of("unlike", "few", way) for way in WAYS[:4]}
exercises.reveal("16.p3", max(few_unlike, key=few_unlike.get), ", ".join(
    f"{way} {value:.0%}" for way, value in few_unlike.items())
    + ". Where the lines in the figure overlap, other seeds may choose otherwise.")

def lead(kind, amount):
    """By how much the tuned middle is ahead of the network that started from nothing."""
    both = guide[kind, amount]
    return (100 * (np.array(both["middle, tuned"]) - np.array(both["from nothing"]))).tolist()

claims.check("emp-transfer-when-useful",
             "The tuned middle is ahead of the network from nothing by {few_alike:.0f} points with "
             "few photographs and {many_alike:.0f} with many; on digits by {few_unlike:.0f} with "
             "few and {many_unlike:.0f} with many.", seeds=runs, on="mean",
             few_alike=(lead("alike", "few"), ">=", 10),
             many_alike=(lead("alike", "many"), ">=", 10), few_unlike=lead("unlike", "few"),
             many_unlike=(lead("unlike", "many"), "<=", 6))

# %% tags=["fold"]
gained = (100 * np.mean([np.array(ways["middle, tuned"]) - np.array(ways["before tuning"])
                         for ways in guide.values()], axis=0)).tolist()  # mean of four, one a seed
claims.check("prac-transfer-steps",
             "{steps:d} steps of fine-tuning change the accuracy of the same network by "
             "{gained:.1f} points (mean of the four fields).", seeds=runs, on="mean",
             gained=(gained, "in", (-3, 5)), steps=tune_steps)

# %% tags=["fold"]
claims.check("prac-transfer-guide",
             "With few photographs the last layer, which the guide advises, names {last:.0%} "
             "rightly, the middle {middle:.0%}. With few digits: {last_u:.0%} and {middle_u:.0%}, "
             "pixels {pixels_u:.0%}.", seeds=runs, on="mean",
             last=guide["alike", "few"]["last layer"],
             middle=(guide["alike", "few"]["middle"], ">=",
                     mean_of("alike", "few", "last layer")),
             last_u=guide["unlike", "few"]["last layer"],
             middle_u=(guide["unlike", "few"]["middle"], ">=",
                       mean_of("unlike", "few", "last layer") + 0.08),
             pixels_u=guide["unlike", "few"]["pixels"])
untrained_middle = float(at("photographs", "untrained", MIDDLE).mean()) / 100
claims.check("emp-linear-classifier-on-conv-features",
             "With many photographs the linear probe on the frozen middle reaches {share:.1%} of "
             "the tuned network's accuracy; on the untrained network's middle {untrained:.1%}.",
             share=(mean_of("alike", "many", "middle") / mean_of("alike", "many", "middle, tuned"),
                    ">=", 0.93),
             untrained=(untrained_middle / mean_of("alike", "many", "middle, tuned"), "<=", 0.85))

# %% [markdown]
# A common guide (in quotes in the figure) says where to begin, not what wins. On photographs borrowing paid, with few and with many. On digits it paid little: with two of each the lines of the small network from nothing and of the tuned middle overlap, and with many there is next to nothing between them. (The linear probe on the frozen middle is a little better than the tuned one: ahead of the network from nothing by about 8 points with few and 3 with many.) And with few pictures of either kind the middle was better than the last layer.
#
# Fine-tuning changed little, and our few steps do not say what many would do. The rates: for the tuned block 0.0001 was the best of 0.0001, 0.0003 and 0.001 on three other seeds; for the network from nothing 0.003 of 0.001, 0.003 and 0.01. On photographs, larger pictures or 600 steps did not help that network. The middle was chosen on other seeds, but on the same photographs. In a trial with pieces of 96 pixels the last layer was as good as the middle.

# %% [markdown] tags=["ledger:prac-transfer-when-not"]
# Before you borrow, ask four things:
# - Does B have the same kind of input as A (pictures; their size; their colours)?
# - Does A have many more examples than B?
# - Do A's first and middle layers see what B needs? Probe them: it takes a minute.
# - Is something simpler as good? Always look at pixels and mean colour.
#
# **We now know** how to cut, freeze and tune, and that for these small pictures the depth of the cut mattered: in all four fields the middle was, on average, ahead of the last layer.
# **This does not show** what other networks' middles are worth, nor what tuning *all* layers for hours brings; blocks 1 to 8 were never tuned. Pieces of one photograph are also more alike than photographs of one thing.
#
# **Exercise 16.5.** Is it frozen? `before` and `after` are dictionaries from names to arrays (a `state_dict`). Return the sorted names of all that are not the same *bit for bit*, or missing on one side.

# %%
def changed(before, after):
    """Names whose arrays differ in any number, in shape, or that only one side has."""
    ...

exercises.check("16.5", changed)

# %% [markdown]
# ## 6 · More pictures
#
# Do all methods gain from more data? Digits moved by up to two pixels within 12 × 12, from 80 to 1,280 of them: a linear classifier, nearest neighbours (the better of 1 and 3 on the test), and the small network from nothing, with twice as many steps for four times the pictures.

# %% tags=["define", "fold"]
def moved(images, number, far=2):
    """Each picture on a larger field, moved by up to `far` pixels; -1 to 1."""
    stream = torch.Generator().manual_seed(number)
    field = F.pad(images.float() / 128 - 1, (2, 2, 2, 2), value=-1.0)
    steps = torch.randint(-far, far + 1, (len(field), 2), generator=stream).tolist()
    return torch.stack([one.roll(step, (1, 2)) for one, step in zip(field, steps, strict=True)])

def taught(x, y, number, steps):
    with runtime.seeded(number):
        network = small_network(1, 12, 10)
    stream = torch.Generator().manual_seed(number)
    teach(network, x, y, steps, 0.003, stream, batch=32)
    return network

# %% tags=["fold"]
digits, digits_test = data.digits(True), data.digits(False)
test_moved, truth = moved(digits_test.images, 1), digits_test.labels
SIZES, STEPS = (80, 320, 1280), (small_steps, 2 * small_steps, 4 * small_steps)
errors = {"linear": [], "neighbours": [], "network": []}
networks = []
for number in everyone:
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(number))
    x, y, row = moved(digits.images, number)[order], digits.labels[order], {}
    for size, steps in zip(SIZES, STEPS, strict=True):
        flat, flat_test = x[:size].flatten(1).numpy(), test_moved.flatten(1).numpy()
        ridge = RidgeClassifierCV(alphas=10.0 ** np.arange(-1, 6)).fit(flat, y[:size])
        knn = [KNeighborsClassifier(k).fit(flat, y[:size]).score(flat_test, truth) for k in (1, 3)]
        network = taught(x[:size], y[:size], number, steps)
        row.setdefault("linear", []).append(1 - ridge.score(flat_test, truth))
        row.setdefault("neighbours", []).append(1 - max(knn))
        row.setdefault("network", []).append(1 - hits(network, test_moved, truth))
    for name, values in row.items():
        errors[name].append(values)
    still = taught(moved(digits.images, 0, far=0)[order[:1280]], y[:1280], number,
                   small_steps)
    networks.append((network, still))

# %% tags=["nbval-varies", "fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.9))
ax.set(xscale="log", xlim=(70, 3600), ylim=(0, 1), xlabel="training pictures",
       ylabel="error on moved test digits", xticks=SIZES)
ax.set_xticklabels([f"{size:,}" for size in SIZES])
ax.minorticks_off()
plots.curves(ax, {name: np.array(values) for name, values in errors.items()}, x=SIZES,
             colours={"linear": figures.COLOUR["muted"], "neighbours": ORANGE, "network": BLUE})
ax.set_title("More pictures: neighbours and network gain much, the linear classifier little")
figures.save(fig, "fig-data-vs-performance",
             caption="Error on test digits, moved by up to two pixels, against the number of "
                     f"training pictures; mean of {runs} seeds, band: lowest to highest.",
             alt="The linear classifier's error stays high. Those of nearest neighbours and of the "
                 "network fall steadily to a small part of it.")
fall = {name: (1 - np.array(values)[:, 2] / np.array(values)[:, 1]).tolist()
        for name, values in errors.items()}
claims.check("emp-performance-grows-with-data",
             "From 320 to 1,280 pictures the network's error falls by {network:.0%} of itself, "
             "that of nearest neighbours by {knn:.0%}, the linear classifier's by {linear:.0%}.",
             seeds=runs, on="mean", network=(fall["network"], ">=", 0.35),
             knn=(fall["neighbours"], ">=", 0.3),
             linear=(fall["linear"], "<=", 0.25))

# %% [markdown]
# So one older method gains little, and another as much as the network. (With the same 150 steps for each size, the *network* seemed to level off, in a trial: more pictures need more steps.) Is the network *robust* against moving by itself? We train it on digits that stand still, and test it on moved ones.

# %% tags=["nbval-varies", "fold"]
test_still = moved(digits_test.images, 0, far=0)
robust = {(part, on): [1 - hits(pair[place], x, truth) for pair in networks]
          for place, part in enumerate(("moved", "still"))
          for on, x in (("moved", test_moved), ("still", test_still))}
claims.check("emp-robust-natural-variation",
             "Trained on still digits the network errs on {still_still:.0%} of still ones and "
             "{still_moved:.0%} of moved ones; trained on moved digits on {moved_moved:.0%} of "
             "moved ones.", seeds=runs, on="mean", still_still=robust["still", "still"],
             still_moved=(robust["still", "moved"], ">=",
                          float(np.mean(robust["moved", "moved"])) + 0.1),
             moved_moved=robust["moved", "moved"])

# %% [markdown]
# It learned to bear moves from training pictures that *contain* moves. (The network of still digits had a quarter of the other's steps. With as many, in a trial, it erred on 2 % of still digits and on 68 % of moved ones.) **We now know** that more pictures help a network if it may take more steps, and nearest neighbours as much. **This does not show** what happens beyond 1,280 small digits, nor with turned, darker or noisy ones.
#
# ## In practice
#
# - `torchvision.models.get_model(name, weights="DEFAULT")`, and `torchvision.models.get_model_weights(name).DEFAULT.transforms()` for the input; in timm `timm.create_model(name, pretrained=True, num_classes=10)`. Features alone: `torchvision.models.feature_extraction.create_feature_extractor`, in timm `features_only=True`.
# - First compute frozen features once and fit a linear probe at several depths; that is the number to beat.
# - Then fine-tune: a small rate for old layers and a larger one for the new (parameter groups), BatchNorm in `eval` where batches are small.
# - Maps: `captum.attr` has saliency, guided backpropagation, occlusion, Grad-CAM. Run the sanity check first.
# - Search by example: normalised features in an index such as FAISS. Few labels: DINOv2 or CLIP features.
#
# ## History
#
# - 2009: Erhan, Bengio, Courville and Vincent climb towards what a unit prefers. 2013: Simonyan, Vedaldi and Zisserman: saliency by the gradient. Zeiler and Fergus: deconvnet and occlusion (arXiv 2013, ECCV 2014).
# - 2013: DeCAF (Donahue et al.); 2014: Razavian et al. borrow a network's features for many tasks; Yosinski et al. measure how transferable each layer is. Springenberg et al.: guided backpropagation.
# - 2015: DeepDream (Mordvintsev, Olah, Tyka). 2016: Alain and Bengio: linear probes. 2017: Olah et al. on parametrisations by waves; Grad-CAM (Selvaraju et al.).
# - 2018: Adebayo et al.: sanity checks. 2019: Kornblith, Shlens and Le: do better ImageNet models transfer better? EfficientNet; its Lite versions in 2020.
#
# ## Exercises that are left
#
# **16.6 Open.** Choose a task of your own with 20 pictures of each kind. Which four numbers do you measure before you fine-tune anything? (Pixels, mean colour, and two depths?)
#
# **16.7 Open.** Look again at the first figure. Name two things that it does *not* show. (Other networks; what a classifier that is not linear would find; larger pictures, `-p image_size 96`; untrained networks with other first weights?)
#
# ## Summary
#
# - A first layer was worth as much untrained; depth is where training shows. For few and small pictures (40 pixels) the middle was better than the last layer.
# - Top patches, projections and made pictures show directions, not meanings; test them by hiding, and against a ruler.
# - The guided map hardly heard the question: test maps where the answer is known.
# - Neighbours in features are of the same photograph more often than in pixels.
# - Borrow: probe the depths, cut, freeze bit for bit; tune, and see whether it helps (here it changed little); compare with pixels and with starting from nothing.
# - This network was robust against the moves that it was shown.
#
# ## Also in the lectures
#
# Lecture 004 announces 16 lectures and ends after two bullets of section 12, on visualising. What this lesson shows of saliency, occlusion and maximisation follows the papers below.

# %% [markdown] tags=["ledger:err-frozen-transfer-normally", "ledger:err-seed004-truncated"]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | freeze all other layers, replace the last, then train the network normally | only the new layer trains; BatchNorm's running statistics must be kept still as well | section 5, bit for bit |
# | the last hidden layer is a good encoding | it is, and here an earlier one was better for other tasks | first figure, section 4 |
# | first layers low-level, later layers high-level features | here a first layer was as good untrained; what later layers hold follows six simple words less, which is not to say that it has a name | first figure, section 1 |
# | very little, similar data: a linear classifier on the top layer | a beginning; probe several depths, too: here, with small pieces, the middle was better | section 5 |
# | robustness to natural variations is learned automatically | moves were learned from training pictures that moved, and not without them | section 6 |
# | older algorithms level off with more data | a linear classifier gained little; nearest neighbours as much as the network, up to 1,280 digits | section 6 |
# | you need a lot of data to train or use CNNs | not always: from two pictures of each class a small new network learned most digits, and a borrowed one helped most on photographs | section 5 |
# | you need more data for A than for B, the same input, helpful first layers, weight initialisation | the first three are rules of thumb; initialising by A's weights is what transfer does, not a condition | section 5 |
#
# ## Sources
#
# - The notes: lecture 001 (insights), 003 (visualisations, ZFNet, transfer, data), 004, sections 05, 07 and 12 (after CS231n, Stanford 2017).
# - Zeiler, Fergus: Visualizing and understanding convolutional networks, arXiv:1311.2901. Simonyan, Vedaldi, Zisserman: Deep inside convolutional networks, arXiv:1312.6034. Springenberg et al.: Striving for simplicity, arXiv:1412.6806.
# - Adebayo et al.: Sanity checks for saliency maps, arXiv:1810.03292. Olah, Mordvintsev, Schubert: Feature visualization, Distill 2017. Alain, Bengio: Understanding intermediate layers using linear classifier probes, arXiv:1610.01644.
# - Donahue et al.: DeCAF, arXiv:1310.1531. Razavian et al.: CNN features off-the-shelf, arXiv:1403.6382. Yosinski et al.: How transferable are features in deep neural networks?, arXiv:1411.1792. Kornblith, Shlens, Le, arXiv:1805.08974.
# - van der Maaten, Hinton: Visualizing data using t-SNE, Journal of Machine Learning Research 9, 2008. Tan, Le: EfficientNet, arXiv:1905.11946.
# - Pictures: scikit-image (its faces are a part of Labeled Faces in the Wild) and scikit-learn.
