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
# # 12 · VGG
# ### Why only 3×3?
#
# A kernel of 7×7 weights can hold any pattern of 7×7 pixels. Three kernels of 3×3 in a row look at the same square with 27 weights in place of 49.
# Odd: in the first figure the network with the smaller kernels has fewer weights, and it is better on both sides, on the pictures it was trained with and on new ones. It is also deeper: section 1 takes the two apart.
#
# **You will be able to**
# - put a stack of small kernels in the place of a large one, and say what is lost and what is gained;
# - build VGG's networks from one table, and count them;
# - say where such a network needs memory, and where its weights sit;
# - give a deep network a start from which it trains;
# - train and test at several scales.
#
# **You need** lesson 04 (convolutions and what they see), lesson 06 (first weights), lesson 07 (BatchNorm) and lesson 11 (AlexNet).
#
# **Words.** A *weight layer* is a convolution or a linear layer. A *seed* fixes all random numbers of a training. M is a million. *Top-1 error*: the share of pictures whose first guess is wrong; *top-5*: none of five guesses is right.
# Claims (✓) are made for the parameters below; with others the lesson shows what it measures and requires nothing.

# %% [markdown]
# **It costs** about 40 seconds of one processor core, no network connection, no GPU.

# %% tags=["parameters"]
seed: int = 100  # the first of the seeds of weights and order; at least 0
seed_count: int = 2  # how many seeds; 2 to 10
dataset: str = "digits"  # ; one of digits, mnist, fashion_mnist
images: int = 1344  # training pictures, at most; at least 320
width: int = 16  # channels of the small networks; 4 to 128
epochs: int = 12  # passes over the pictures in section 1; 1 to 200
start_epochs: int = 8  # passes in section 3; 1 to 200
scale_epochs: int = 8  # passes in section 4; 1 to 200

# %% tags=["imports", "fold"]
import math
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cnncourse import claims, cost, data, exercises, figures, models, runtime, training

# %% tags=["fold"]
# Pictures of 8 × 8. Of digits, training takes the first 1,344 of the file, the test the rest.
runtime.start(seed=seed)
figures.use_style()
if dataset == "digits":
    whole = data.digits()
    train8, test8 = whole[:images][:1344], whole[1344:]
else:
    train8, test8 = (data.load(dataset, part).subset(n, seed=0).resized(8)
                     for part, n in ((True, images), (False, 450)))
steps = len(train8) // 64  # mini-batches an epoch
seeds = list(range(seed, seed + seed_count))

# %% [markdown]
# The task: a digit of 8 to 14 pixels a side lies somewhere on 16 × 16 pixels, and every tenth pixel is noise. The test takes the end of the file: most of its pictures are from other sheets than those of the training (lesson 01).

# %% tags=["define", "fold"]
def cluttered(images, generator, side=16, smallest=8, largest=14, noise=0.1):
    """uint8 (N, 1, h, w), each at a random size and place among noise: uint8 (N, 1, side, side)."""
    n = len(images)
    sides = smallest + (largest - smallest) * torch.rand(n, generator=generator)  # in pixels
    corner = torch.rand(n, 2, generator=generator) * (side - sides)[:, None]  # x, y
    pixels = torch.arange(side) + 0.5
    look = (pixels - corner[:, :, None]) / sides[:, None, None] * 2 - 1  # -1 to 1 is the picture
    grid = torch.stack([look[:, 0, None, :].expand(-1, side, -1),
                        look[:, 1, :, None].expand(-1, -1, side)], dim=3)
    placed = F.grid_sample(images.to(grid), grid, align_corners=False)
    noisy = torch.rand(placed.shape, generator=generator) < noise
    grey = 255 * torch.rand(placed.shape, generator=generator)
    return torch.where(noisy, grey, placed).to(torch.uint8)

# %% tags=["fold"]
def clutter_set(pictures, number):
    """The same pictures and labels, cluttered."""
    generator = torch.Generator().manual_seed(number)
    return data.ImageSet(cluttered(pictures.images.cpu(), generator), pictures.labels.cpu(),
                         pictures.classes, "cluttered").to(pictures.device)

plain_train = clutter_set(train8, 0)
train = plain_train.normalised()
test = clutter_set(test8, 1).normalised(train.mean, train.std)

# %% [markdown]
# Four networks that differ in one place. Each begins with a 3×3 convolution with stride 2 (8 × 8 pixels are left) and ends with the average over the pixels and a linear layer. Between stand one 7×7 convolution, or three of 3×3 *without ReLU between them*, or three of 3×3, or three of 7×7. BatchNorm follows every convolution.

# %% tags=["define"]
def network(kernels, width, relu_between=True, classes=10):
    """kernels: sides of the convolutions in the middle, (7,) or (3, 3, 3)."""
    layers = [nn.Conv2d(1, width, 3, stride=2, padding=1, bias=False),
              nn.BatchNorm2d(width), nn.ReLU()]
    for place, kernel in enumerate(kernels, start=1):
        layers += [nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False),
                   nn.BatchNorm2d(width)]
        if relu_between or place == len(kernels):
            layers.append(nn.ReLU())
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]
    return nn.Sequential(*layers)

# %%
def trained(make, epochs=epochs):
    """One network from each seed; the learning rate falls from 0.1 to 0 along a cosine."""
    return training.repeat(
        make, train, seeds=seeds, epochs=epochs, batch_size=64, drop_last=True, progress=False,
        optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-3),
        scheduler=lambda optimizer: training.EachStep(
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)),
        together=False).models

# %%
def accuracy(net, pictures):
    """In percent."""
    return 100 * training.evaluate(net, pictures).accuracy

ARMS = {"one 7×7": ((7,), True), "three 3×3, no ReLU between": ((3, 3, 3), False),
        "three 3×3": ((3, 3, 3), True), "three 7×7": ((7, 7, 7), True)}
nets = {name: trained(partial(network, kernels, width, relu)) for name, (kernels, relu)
        in ARMS.items()}
tested = {name: [accuracy(net, test) for net in each] for name, each in nets.items()}
learnt = {name: [accuracy(net, train) for net in each] for name, each in nets.items()}

# %% tags=["nbval-varies", "fold"]
size = {name: sum(p.numel() for p in each[0].parameters()) for name, each in nets.items()}
big, stack = tested["one 7×7"], tested["three 3×3"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.9))
for place, name in enumerate(("one 7×7", "three 3×3")):
    colour = ("C1", "C0")[place]
    for shift, values in ((-0.12, learnt[name]), (0.12, tested[name])):
        filled = {"markerfacecolor": colour if shift > 0 else "white"}
        ax.plot(place + shift + np.linspace(-0.03, 0.03, len(values)), values, "o",
                color=colour, markersize=11, markeredgewidth=2, **filled)
ax.text(-0.2, np.mean(learnt["one 7×7"]), "training pictures", fontsize=13, va="center",
        ha="right", color="#b06800")
ax.text(0.2, np.mean(big), "test pictures", fontsize=13, va="center", color="#b06800")
ax.text(1.2, np.mean(stack), "test pictures", fontsize=13, va="center", color="C0")
ax.text(0.8, np.mean(learnt["three 3×3"]), "training pictures", fontsize=13, va="center",
        ha="right", color="C0")
ax.set(xticks=(0, 1), xlim=(-0.9, 1.8), ylim=(min(big + stack) - 5, 102),
       ylabel="named rightly (%)")
ax.set_xticklabels([f"one 7×7\n{size['one 7×7']:,} parameters",
                    f"three 3×3\n{size['three 3×3']:,} parameters"], fontsize=13)
ax.set_title("Three small kernels: fewer weights, better on both sides")
figures.save(fig, "emp-small-kernels-deeper-better",
             caption=f"Accuracy on training (open) and test pictures (filled), {dataset} in "
                     f"clutter, {epochs} epochs, width {width}; a dot is a seed.",
             alt="On training and on test pictures three 3×3 lie clearly above one 7×7 in every "
                 "seed.")

# %% tags=["fold"]
gain = [b - a for a, b in zip(big, stack, strict=True)]
claims.check("emp-small-kernels-deeper-better",
             "With {fewer:.0f} % fewer parameters the three 3×3 name {stack:.1f} % of the test "
             "pictures, one 7×7 {big:.1f} %: {gain:.1f} points more. Training pictures: "
             "{stack_train:.1f} and {big_train:.1f} %. Guessing has 10 %.",
             fewer=(100 - 100 * size["three 3×3"] / size["one 7×7"], ">", 30), stack=stack,
             big=big, gain=(gain, ">", 2), stack_train=learnt["three 3×3"],
             big_train=learnt["one 7×7"], seeds=seeds, on="every", varies=True)

# %% [markdown]
# ## 1 · The same square
#
# Do both see the same square? Ask the gradient: which pixels change the number in the middle? And how many weights has each, with $C$ channels in and out?

# %%
def seen(kernels):
    """Pixels that reach the middle of a picture of 15 × 15 through these kernels."""
    layers = [nn.Conv2d(1, 1, kernel, padding=kernel // 2) for kernel in kernels]
    picture = torch.zeros(1, 1, 15, 15, requires_grad=True)
    nn.Sequential(*layers)(picture)[0, 0, 7, 7].backward()
    return int((picture.grad != 0).sum())

for kernels in ((5,), (3, 3), (7,), (3, 3, 3)):
    weights = sum(kernel**2 for kernel in kernels)
    print(f"{kernels!s:10} {seen(kernels):2} pixels, {weights:2} C² weights")

# %% tags=["fold"]
def stage_weights(kernels, channels):
    """Counted from real layers."""
    with torch.device("meta"):
        layers = [nn.Conv2d(channels, channels, kernel, bias=False) for kernel in kernels]
    return sum(layer.weight.numel() for layer in layers)

claims.table("num-params-3x3-stack-vs-7x7", "Weights of layers with 256 channels in and out, "
             "counted from torch's layers.",
             {"two 3×3, 18 C²": (stage_weights((3, 3), 256), 1_179_648),
              "one 5×5, 25 C²": (stage_weights((5,), 256), 1_638_400),
              "three 3×3, 27 C²": (stage_weights((3, 3, 3), 256), 1_769_472),
              "one 7×7, 49 C²": (stage_weights((7,), 256), 3_211_264)},
             columns=("layers", "counted", "expected"))

# %% [markdown]
# The same square, then, but not the same kernels. Take one channel and no ReLU: three 3×3 in a row are one convolution by a 7×7 kernel. Can they be *any* 7×7 kernel?
# We let the 27 weights move a little and ask in how many independent directions the 7×7 kernel moves: the rank of its derivative.

# %%
exercises.predict("12.p1", "A 7×7 kernel moves in 49 directions. Through 27 weights it moves in",
                  ("25 directions", "27 directions", "49 directions"))

# %%
def as_one(weights):
    """27 weights, as three 3×3 kernels in a row: what they do to one bright pixel, (7, 7)."""
    picture = torch.zeros(1, 1, 7, 7, dtype=torch.float64)
    picture[0, 0, 3, 3] = 1.0
    for kernel in weights.view(3, 1, 1, 3, 3):
        picture = F.conv2d(picture, kernel, padding=1)
    return picture[0, 0]

draws = torch.Generator().manual_seed(0)
weights = torch.randn(27, generator=draws, dtype=torch.float64)
slopes = torch.autograd.functional.jacobian(as_one, weights).view(49, 27)
rank = int(torch.linalg.matrix_rank(slopes))

# %% tags=["fold"]
exercises.reveal("12.p1", f"{rank} directions", "Making one kernel larger and another smaller by "
                 "the same factor changes nothing: two of the 27 are lost.")
claims.check("err-vgg-same-effect-7x7", "Three 3×3 kernels of one channel move the 7×7 kernel in "
             "{rank:d} of {all:d} directions.", rank=(rank, "==", 25), all=slopes.shape[0])

# %% [markdown]
# So, away from the picture's border, a stack can do *less* than a large kernel if nothing stands between its layers. (Near the border the zeros padded between its layers make a difference.) With $C$ channels in, between and out, as in our networks, it is $25\,C^2$ of $49\,C^2$ directions, the same share; only with more channels between than at the ends is it more.
# What makes up for it? VGG's authors name two things: fewer weights, and a ReLU after each layer. One of our networks separates them: it has as many weights as the stack, and only the ReLUs between its layers are taken out. Another is as deep as the stack, with large kernels.

# %%
exercises.predict("12.p2", "Without its inner ReLUs, the stack of three 3×3 compared with one 7×7:",
                  ("still better", "about equal (within 2 points)", "worse"))

# %% tags=["nbval-varies", "fold"]
linear = tested["three 3×3, no ReLU between"]
off = np.mean(linear) - np.mean(big)
side = "above" if off > 0 else "below"
exercises.reveal("12.p2", "worse" if off < -2 else "still better" if off > 2 else
                 "about equal (within 2 points)", f"It lies {abs(off):.1f} points {side}.")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.9))
for place, (name, values) in enumerate(tested.items()):
    colour = ("C1", "C2", "C0", "C3")[place]
    ax.plot(place + np.linspace(-0.06, 0.06, len(values)), values, "o", color=colour,
            markersize=11)
    ax.plot((place - 0.2, place + 0.2), [np.mean(values)] * 2, color=colour)
ax.set(xticks=range(4), xlim=(-0.5, 3.5), ylabel="named rightly (%)")
labels = ("one 7×7\n", "three 3×3,\nno ReLU between", "three 3×3\n", "three 7×7\n")
ax.set_xticklabels([f"{label}\n{size[name]:,} parameters" for label, name
                    in zip(labels, tested, strict=True)], fontsize=12)
ax.set_title("Layers with ReLUs make the difference; small kernels make them cheap")
figures.save(fig, "emp-two-relus-in-stack",
             caption=f"Test accuracy, {dataset} in clutter, {epochs} epochs; dots: seeds, lines: "
                     "means.",
             alt="The stack without inner ReLUs lies lowest, then one 7×7; three 3×3 and three "
                 "7×7 lie highest, close together.")

# %% tags=["fold"]
claims.check("emp-two-relus-in-stack",
             "Three 3×3 name {stack:.1f} % of the test pictures; the same without the ReLUs "
             "between {linear:.1f} %: {lost:.1f} points fewer. One 7×7: {big:.1f} %.",
             stack=stack, linear=linear, big=big,
             lost=([a - b for a, b in zip(stack, linear, strict=True)], ">", 5), seeds=seeds,
             on="every", varies=True)
large = tested["three 7×7"]
claims.check("emp-two-relus-in-stack.deep",
             "As deep as the stack, but of large kernels, three 7×7 name {large:.1f} %: "
             "{apart:.1f} points from the stack, with {times:.1f} times its parameters.",
             large=large, apart=([abs(a - b) for a, b in zip(stack, large, strict=True)], "<", 5),
             times=(size["three 7×7"] / size["three 3×3"], ">", 4), seeds=seeds, on="every",
             varies=True)
claims.quoted("emp-small-kernels-deeper-better.paper",
              "The network B with one 5×5 in place of each pair of 3×3 has a top-1 error "
              "7 % higher (one crop in the middle)", "Simonyan and Zisserman 2015, section 4.1")

# %% [markdown]
# So fewer weights alone are no gain: without its inner ReLUs, and nothing else changed, the same stack falls below the large kernel. Nor are small kernels alone the gain: three large ones, as deep (and with a wider view, 19 pixels a side), do about as well. What pays here is more layers that look at neighbours, with ReLUs between them, and with small kernels these cost least.
#
# **We now know** that a stack sees the same square with fewer weights, that it is not the same as one large kernel, and that here its gain goes with its layers and their ReLUs.
# **This does not show** that 3×3 always wins. One width, one learning rate and one short training; at 0.03 and at 0.3 we found the same order of stack and 7×7. One 7×7 with two 1×1 behind it, as deep as the stack, with as many ReLUs and the same view, came only about half way to it: depth and ReLUs alone are about half of the gain. In a larger network (three stages, the first on 16 × 16 pixels) 7×7 was ahead after 8 passes and behind after 25. On digits without clutter 3×3 and 5×5 came to the same.
#
# **Exercise 12.1.** Two layers in one. Two convolutions without ReLU between and without borders are *one* convolution. `first` has shape (M, C, k, k), `second` (K, M, l, l), as in torch. Return the kernel of shape (K, C, k + l − 1, k + l − 1) that does the work of both.

# %%
def merged(first, second):
    """One kernel for: first, then second (arrays of numpy, cross-correlation as in torch)."""
    ...

exercises.check("12.1", merged)

# %% [markdown]
# ## 2 · One table, six networks
#
# VGG is a table. A column is a network: words for convolutions, and after each line a pooling that halves the side. "conv3-64" is a 3×3 convolution with 64 channels out. All end with three linear layers of 4096, 4096 and 1000. Five columns follow; the sixth network, A-LRN, is A with one local response normalisation (lesson 07) after its first convolution.

# %%
TABLE = {
    "A": "conv3-64 | conv3-128 | conv3-256 ×2 | conv3-512 ×2 | conv3-512 ×2",
    "B": "conv3-64 ×2 | conv3-128 ×2 | conv3-256 ×2 | conv3-512 ×2 | conv3-512 ×2",
    "C": "conv3-64 ×2 | conv3-128 ×2 | conv3-256 ×2 conv1-256 | conv3-512 ×2 conv1-512 "
         "| conv3-512 ×2 conv1-512",
    "D": "conv3-64 ×2 | conv3-128 ×2 | conv3-256 ×3 | conv3-512 ×3 | conv3-512 ×3",
    "E": "conv3-64 ×2 | conv3-128 ×2 | conv3-256 ×4 | conv3-512 ×4 | conv3-512 ×4"}

# %% tags=["define"]
def weight_layers(net):
    return [part for part in net.modules() if isinstance(part, (nn.Conv2d, nn.Linear))]

def vgg(column):
    """The network of one column, for pictures of 3 × 224 × 224."""
    layers, channels = [], 3
    words = column.replace(" ×", "×").split()
    for word in [*words, "|"]:
        if word == "|":
            layers.append(nn.MaxPool2d(2))
            continue
        name, _, times = word.partition("×")
        kernel, out = int(name[4]), int(name[6:])
        for _ in range(int(times or 1)):
            layers += [nn.Conv2d(channels, out, kernel, padding=kernel // 2), nn.ReLU()]
            channels = out
    ends = [nn.Linear(channels * 7 * 7, 4096), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4096, 1000)]
    return nn.Sequential(*layers, nn.Flatten(), *ends)

# %%
exercises.predict("12.p3", "E has twice the convolutions of A (16 and 8). Its parameters are",
                  ("about 10 % more", "about 50 % more", "about twice as many"))

# %%
with torch.device("meta"):  # counts without numbers: nothing is drawn
    built = {letter: vgg(column) for letter, column in TABLE.items()}

def parameters(net):
    return sum(p.numel() for p in net.parameters())

# %% tags=["fold", "ledger:num-vgg-layer-counts", "ledger:arch-vgg-table"]
ratio = parameters(built["E"]) / parameters(built["A"])
exercises.reveal("12.p3", "about 10 % more" if ratio < 1.25 else "about 50 % more" if ratio < 1.75
                 else "about twice as many", f"They are {100 * ratio - 100:.0f} % more.")
with torch.device("meta"):
    lrn, bn = models.build("vgg11_lrn"), models.build("vgg16_bn")
EXPECTED = {"A": 132_863_336, "B": 133_047_848, "C": 133_638_952, "D": 138_357_544,
            "E": 143_667_240}
DEPTHS = {"A": 11, "B": 13, "C": 16, "D": 16, "E": 19}
claims.table("arch-vgg-table", "Weight layers and parameters, counted; expected: the paper's "
             "depths, and torchvision's numbers for A, B, D, E.",
             {letter: ([len(weight_layers(net)), parameters(net)],
                       [DEPTHS[letter], EXPECTED[letter]]) for letter, net in built.items()}
             | {"A-LRN": ([len(weight_layers(lrn)), parameters(lrn)], [11, 132_863_336]),
                "D with BatchNorm": ([len(weight_layers(bn)), parameters(bn)],
                                     [16, 138_365_992])},
             columns=("network", "counted", "expected"))

# %% tags=["fold"]
BLUE, PALE = "#0072b2", "#cfe3f1"
def sides_of(line):
    """The sides of a stage's kernels, as text: "3  3  1"."""
    words = [word.partition("×") for word in line.replace(" ×", "×").split()]
    return "  ".join("  ".join(name[4] * int(times or 1)) for name, _, times in words)

fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.9))
for across, (letter, column) in enumerate(TABLE.items()):
    for down, line in enumerate(column.split("|")):
        kernels = sides_of(line)
        new = across and kernels != sides_of(list(TABLE.values())[across - 1].split("|")[down])
        ax.text(across, -down, kernels, ha="center", va="center", fontsize=15,
                color="white" if new else "0.15", bbox={"boxstyle": "round,pad=0.35",
                "facecolor": BLUE if new else PALE, "edgecolor": "none"})
    ax.text(across, 0.9, f"{letter}\n{DEPTHS[letter]} layers", ha="center", va="center",
            fontsize=13.5)
    ax.text(across, -5.0, f"{parameters(built[letter]) / 1e6:.1f} M", ha="center", va="center",
            fontsize=13.5)
for down, channels in enumerate((64, 128, 256, 512, 512)):
    ax.text(-0.75, -down, f"{channels} channels,\n{224 >> down} pixels", ha="right", va="center",
            fontsize=12)
ax.text(-0.75, -5.0, "parameters", ha="right", va="center", fontsize=12)
ax.set(xlim=(-1.9, 4.6), ylim=(-5.5, 1.5))
ax.axis("off")
ax.set_title("The number of layers nearly doubles, the parameters do not")
figures.save(fig, "fig-vgg-table",
             caption="VGG's configurations; a digit is a convolution's side, a box a stage, dark "
                     "where it differs from the column to its left. Five poolings and three "
                     "linear layers are the same in all. A-LRN: A with one normalisation.",
             alt="Five columns of five boxes; parameters 132.9, 133.0, 133.6, 138.4, 143.7 "
                 "million.")

# %% tags=["fold"]
channels = [max(int(word[6:]) for word in line.replace("×", " ").split() if "-" in word)
            for line in TABLE["D"].split("|")]
claims.check("emp-filters-double-after-pool", "Channels by stage: {channels}; {doubled:d} of the "
             "{count:d} steps from stage to stage double them.",
             channels=" ".join(map(str, channels)), count=len(channels) - 1,
             doubled=(sum(b == 2 * a for a, b in zip(channels, channels[1:], strict=False)),
                      "==", 3))

# %% [markdown]
# If not in the convolutions, where are the parameters? And where are the numbers that must be kept for a picture while it trains, the outputs of the layers?

# %%
exercises.predict("12.p4", "All outputs of VGG-16 (D) for one picture, four bytes a number, take",
                  ("about 15 MB", "about 60 MB", "about 100 MB"))

# %%
rows = cost.table(built["D"], (3, 224, 224)).rows
kept_rows = [row for row in rows if row.kind in ("Conv2d", "MaxPool2d", "Linear")]
values = [3 * 224 * 224] + [math.prod(row.output_shape) for row in kept_rows]  # input first
weights = [0] + [row.parameters for row in kept_rows]
print(f"{sum(values):,} numbers, {4 * sum(values) / 1e6:.1f} MB; {sum(weights):,} parameters")

# %% tags=["fold"]
megabytes = 4 * sum(values) / 1e6
exercises.reveal("12.p4", "about 15 MB" if megabytes < 35 else "about 60 MB" if megabytes < 80
                 else "about 100 MB", f"{sum(values):,} numbers take {megabytes:.1f} MB.")
fig, axes = plt.subplots(2, 1, figsize=(figures.WIDTH, 5.0), sharex=True)
kinds = ["input"] + [row.kind for row in kept_rows]
colours = [{"Conv2d": "C0", "MaxPool2d": "0.6", "Linear": "C1", "input": "0.3"}[k] for k in kinds]
axes[0].bar(range(len(values)), [value / 1e6 for value in values], color=colours)
axes[1].bar(range(len(weights)), [weight / 1e6 for weight in weights], color=colours)
axes[0].set(ylabel="outputs (M)")
axes[1].set(ylabel="parameters (M)", xticks=[1.5, 4.5, 8, 12, 16, 20])
axes[1].set_xticklabels(["stage 1", "2", "3", "4", "5", "linear"], fontsize=13)
axes[0].text(3.7, 2.7, "convolutions", color="C0", fontsize=13)
axes[1].text(18.4, 85, "linear layers", color="#b06800", fontsize=13, ha="right")
axes[0].set_title("VGG-16: memory for outputs early, parameters late")
figures.save(fig, "fig-vgg-memory-profile",
             caption="Numbers put out for one picture and parameters, layer by layer: input "
                     "(black), convolutions (blue), poolings (grey), linear layers (orange).",
             alt="The first two convolutions have by far the most outputs, the first linear layer "
                 "by far the most parameters.")

# %% tags=["fold", "ledger:err-vgg-96mb"]
linear_part = sum(row.parameters for row in kept_rows if row.kind == "Linear")
apart = sum(math.prod(row.output_shape) for row in rows if row.kind == "ReLU")
claims.check("num-vgg-memory-96mb", "Input and the outputs of convolutions, poolings and linear "
             "layers: {count:,} numbers, {megabytes:.2f} MB ({mib:.1f} MiB). With every ReLU's "
             "output stored beside them {with_relu:.0f} MB.", count=(sum(values), "==", 15_237_608),
             megabytes=(megabytes, "~", 60.95, 0.005), mib=4 * sum(values) / 2**20,
             with_relu=(4 * (sum(values) + apart) / 1e6, "in", (114, 116)))
claims.check("num-vgg-early-memory", "The first two convolutions put out {share:.0f} % of these "
             "numbers; all from the input to the second stage's convolutions {most:.0f} %.",
             share=(100 * (values[1] + values[2]) / sum(values), "~", 42.1, 0.1),
             most=(100 * sum(values[:6]) / sum(values), "~", 69, 1))
claims.check("num-vgg16-138m", "Of VGG-16's {all:,} parameters the three linear layers have "
             "{linear:,}, {share:.1f} %; E, with 19 layers, has {deep:,}.",
             all=(sum(weights), "==", 138_357_544), linear=(linear_part, "==", 123_642_856),
             share=(100 * linear_part / sum(weights), "~", 89.4, 0.05),
             deep=(parameters(built["E"]), "==", 143_667_240))
with torch.device("meta"):
    overfeat, fast = models.build("overfeat_accurate"), models.build("overfeat_fast")
claims.check("num-successors-140m", "OverFeat (2013) has {accurate:,} parameters in {layers:d} "
             "weight layers, its fast version {fast:,}; of VGG's six, those up to {low:.1f} M and "
             "{high:.1f} M have 11 and 19.", accurate=(parameters(overfeat), "==", 144_656_488),
             layers=(len(weight_layers(overfeat)), "==", 9),
             fast=(parameters(fast), "==", 145_920_872), low=parameters(built["A"]) / 1e6,
             high=(parameters(built["E"]) / 1e6, "<", 144))

# %% [markdown]
# Eight further layers cost little *storage*: the linear layers, which hold nearly all of it in A and most of it in E, are the same in A and E. They do cost work.
#
# Does the depth help? The paper's answer, measured on ImageNet's validation pictures:

# %% tags=["fold"]
work = {letter: cost.table(built[letter], (3, 224, 224)).multiply_adds for letter in "AE"}
claims.check("num-vgg-params-130-140m", "From A to E parameters grow {size:.2f}-fold, from "
             "{low:.1f} to {high:.1f} M, multiply-adds {work:.2f}-fold.",
             size=(ratio, "~", 1.08, 0.005), low=parameters(built["A"]) / 1e6,
             high=(parameters(built["E"]) / 1e6, ">", 140),
             work=(work["E"] / work["A"], "~", 2.58, 0.005))
ERROR = {"A": 29.6, "A-LRN": 29.7, "B": 28.7, "C": 28.1, "D": 27.0, "E": 27.3}  # S = Q = 256
JITTERED = {"C": 27.3, "D": 25.6, "E": 25.5}  # S from 256 to 512, Q = 384
source = "Simonyan and Zisserman 2015, table 3"
claims.quoted("emp-vgg-depth-helps", "Top-1 error, trained and tested at one scale (256): "
              + ", ".join(f"{name} {error} %" for name, error in ERROR.items())
              + "; trained at scales from 256 to 512: "
              + ", ".join(f"{name} {error} %" for name, error in JITTERED.items()), source)
claims.quoted("emp-vgg-c-better-than-b", "B, 13 layers: 28.7 %; C, three 1×1 convolutions more, "
              "same view: 28.1 %", source)
claims.quoted("emp-vgg-d-better-than-c", "C, 16 layers, three of them 1×1: 28.1 %; D, all 3×3: "
              "27.0 %", source)

# %% [markdown]
# From A to D the error falls; from D to E it no longer does, or hardly. C against B: three more layers with a ReLU, same view, a little better. D against C: the same depth with a wider view (and more weights), better again.
# One training each: how far two trainings of the same network lie apart, the paper does not say.
#
# **We now know** how VGG's networks come out of one table, that the last layers hold the parameters and the first ones the outputs.
# **This does not show** why depth helps; E shows that it stops helping. Lesson 14 goes on from there.
#
# **Exercise 12.2.** Count a column. `words` is a list such as `["conv3-64", "pool", "conv1-128", "fc-10"]` for pictures with `channels` channels of `side` × `side` pixels. Convolutions keep the side, "pool" halves it (rounding down), "fc-10" is a linear layer with 10 outputs that reads all that is there. Return the number of parameters, biases included.

# %%
def count(words, channels, side):
    """Parameters of the network that these words describe."""
    ...

exercises.check("12.2", count)

# %% [markdown]
# **Exercise 12.3.** How many pictures fit? Training with momentum keeps for each parameter three numbers (itself, its gradient, its velocity), and for each picture every output once. All numbers have four bytes. Return the largest batch that fits into `memory` bytes, 0 if none does.

# %%
def largest_batch(parameters, outputs, memory):
    """outputs: numbers put out for one picture."""
    ...

exercises.check("12.3", largest_batch)

# %% [markdown]
# ## 3 · A deep network needs a start
#
# VGG had no BatchNorm yet. Its authors drew first weights from one normal distribution for all layers (the paper says variance 0.01, which is a standard deviation of 0.1; AlexNet had a standard deviation of 0.01), trained A, and *lent* its first four convolutions and its three linear layers to the deeper networks. Here we look at one way a start can be bad: it is too weak.
# Here: plain chains of 3×3 convolutions on 8 × 8 pictures, without BatchNorm; one, two or three convolutions in each of three stages, and a linear layer. The first weights have the standard deviation of He's start (lesson 06), or 0.6 of it: the *weak* start.

# %% tags=["define"]
def chain(each, gain, width, classes=10):
    """each: convolutions in each of three stages; gain: of He's standard deviation."""
    layers, channels = [], 1
    for stage in range(3):
        for _ in range(each):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2) if stage < 2 else nn.AdaptiveAvgPool2d(1))
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width, classes))
    for part in weight_layers(net):
        nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
        nn.init.zeros_(part.bias)
        with torch.no_grad():
            part.weight *= gain
    return net

# %%
exercises.predict("12.p5", "With 0.6 of He's weights a chain of 4 layers trains well. One of 10, "
                  "in as many passes:",
                  ("trains as well", "trains, but slower", "stays at guessing"))

# %%
clean = train8.normalised()

def chains(make):
    """Trained from each seed: the losses of the last epoch, and the networks."""
    runs = training.repeat(make, clean, seeds=seeds, epochs=start_epochs, batch_size=64,
                           optimizer=partial(torch.optim.SGD, lr=0.03, momentum=0.9),
                           drop_last=True, progress=False, together=False)
    return runs.last("train_loss"), runs.models

he = {each: chains(partial(chain, each, 1.0, width)) for each in (1, 3)}
weak = {each: chains(partial(chain, each, 0.6, width)) for each in (1, 2, 3)}

# %% tags=["fold"]
guess = math.log(10)
deep = np.mean(weak[3][0])
exercises.reveal("12.p5", "stays at guessing" if deep > 0.95 * guess else "trains, but slower"
                 if deep > 1.5 * np.mean(he[3][0]) else "trains as well",
                 f"Its loss is {deep:.2f}; guessing has {guess:.2f}.")

# %% [markdown]
# Now lend. A chain with two convolutions a stage, trained from the *weak* start, gives its six convolutions and its linear layer to the deep chain; the other three keep the weak start.

# %% tags=["define"]
def lend(shallow, deep):
    """The deep chain begins each stage with the shallow one's layers, and ends with its linear."""
    lenders, takers = weight_layers(shallow), weight_layers(deep)
    each, deep_each = len(lenders) // 3, len(takers) // 3
    for stage in range(3):
        for place in range(each):
            giver = lenders[stage * each + place]
            takers[stage * deep_each + place].load_state_dict(giver.state_dict())
    takers[-1].load_state_dict(lenders[-1].state_dict())
    return deep

# %%
lenders = iter(weak[2][1])  # one for each seed
borrowed, _ = chains(lambda: lend(next(lenders), chain(3, 0.6, width)))

# %% tags=["nbval-varies", "fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.0))
for chain_runs, colour, shift in ((he, "C0", -0.12), (weak, "C1", 0.12)):
    places = [3 * each + 1 + shift for each in chain_runs]
    for place, (losses, _) in zip(places, chain_runs.values(), strict=True):
        ax.plot([place] * len(losses), losses, "o", color=colour, markersize=11)
    ax.plot(places, [np.mean(losses) for losses, _ in chain_runs.values()], color=colour)
ax.plot([10.12] * len(borrowed), borrowed, "D", color="C2", markersize=11)
ax.axhline(guess, color="0.35", linestyle=":")
ax.text(4, guess + 0.06, "guessing", fontsize=12)
ax.text(8.7, np.mean(he[3][0]) + 0.12, "He", fontsize=13, color="C0")
ax.text(10.35, deep - 0.12, "0.6 of He", fontsize=13, color="#b06800", va="center")
ax.text(10.35, np.mean(borrowed), "0.6 of He,\nsix borrowed", fontsize=13, color="C2",
        va="center")
ax.set(xticks=(4, 7, 10), xlim=(3.4, 12.6), ylim=(0, 2.65), xlabel="weight layers",
       ylabel="training loss, last epoch")
ax.set_title(f"In {start_epochs} passes the weak start fails when deep; borrowed layers rescue it")
figures.save(fig, "emp-init-matters-deep-vgg",
             caption=f"Training loss in epoch {start_epochs}, {dataset}, 8 × 8 pixels, no "
                     f"normalisation, width {width}; dots: {len(seeds)} seeds. Diamonds: six of "
                     "nine convolutions from a trained chain of 7 layers.",
             alt="At 4 layers both starts end near 0; at 10 layers 0.6 of He's stays at the "
                 "loss of guessing, He's start and the borrowed layers lie clearly below.")

# %% tags=["fold"]
claims.check("emp-init-matters-deep-vgg",
             "In {epochs} epochs, loss with He's start and with 0.6 of it: at 4 layers {a:.2f} "
             "and {b:.2f}, at 10 layers {c:.2f} and {d:.2f} (guessing {guess:.2f}).",
             epochs=start_epochs, guess=guess, a=he[1][0], b=(weak[1][0], "<", 1),
             c=(he[3][0], "<", 1.8), d=(weak[3][0], ">", 1.9), seeds=seeds, on="every", varies=True)
claims.check("emp-vgg-pretrain-shallow",
             "Six of its nine convolutions borrowed, the chain of 10 layers comes to {lent:.2f} "
             "from the weak start, without them {weak:.2f}, and from He's start, with nothing "
             "borrowed, {he:.2f}.", lent=(borrowed, "<", 1.8), weak=(weak[3][0], ">", 1.9),
             he=(he[3][0], "<", 1.8), seeds=seeds, on="every", varies=True)

# %% [markdown]
# At the start, nine convolutions with 0.6 of He's weights shrink what passes through them to $0.6^9$ of what He's let through, a hundredth; with six of them lent, the other three to $0.6^3$, a fifth.
# Is it what the lender has *learnt* that helps, or only that its weights are larger? Let a chain lend that has learnt nothing: fresh, with He's start.

# %%
fresh, _ = chains(lambda: lend(chain(2, 1.0, width), chain(3, 0.6, width)))

# %% tags=["fold"]
claims.check("emp-vgg-pretrain-shallow.fresh", "Six convolutions borrowed from an untrained chain "
             "with He's start: {fresh:.2f}; from the trained one: {lent:.2f}.",
             fresh=(fresh, "<", 1.5), lent=borrowed, seeds=seeds, on="every", varies=True)

# %% [markdown]
# Untrained layers get the deep chain off guessing too: it needed weights that let the numbers through, and a lender that has learnt is one way to them. What its learning adds to that, two seeds cannot tell.
#
# **We now know** that a start which is good enough for a shallow chain may hold a deep one up, and that borrowed layers help, trained or not.
# **This does not show** that the weak chain is lost: given three times the passes (`-p start_epochs 24`) it leaves guessing by itself. Nor that VGG's start failed for the same reason (with a standard deviation of 0.1, all its layers but the first have larger weights than He's), or that He's start is always enough: with more layers it takes BatchNorm or shortcuts (lessons 07 and 14). VGG's authors add in their paper that Xavier's start (Glorot and Bengio 2010) makes lending unnecessary; in our narrower chains we did not test it here.
#
# **Exercise 12.4.** How weak is too weak? ReLU layers with $g$ times He's standard deviation change the mean square of what passes by $g^2$ each, on average. Return the largest number of such layers behind which the mean square is still at least `least` times what came in ($0 < g < 1$, $0 < $ `least` $ \le 1$).

# %%
def layers_until(gain, least):
    """How many layers keep the mean square at or above this share."""
    ...

exercises.check("12.4", layers_until)

# %% [markdown]
# ## 4 · Scales
#
# A photograph shows things at any size. VGG's training resizes each picture so that its shorter side is $S$, and cuts 224 × 224 pixels from it at random. *Scale jittering* draws $S$ anew for each picture from 256 to 512; VGG's jittered networks went on from one trained at 384, so they also trained longer. In the test, the shorter side is called $Q$; results at several $Q$ are averaged.

# %% tags=["define", "ledger:eq-scale-jitter"]
def scaled_crop(picture, shortest, generator, size=224):
    """float (C, H, W) -> (C, size, size): shorter side resized to `shortest`, cut at random."""
    height, width = picture.shape[1:]
    factor = shortest / min(height, width)
    sides = round(height * factor), round(width * factor)
    picture = F.interpolate(picture[None], size=sides, mode="bilinear", antialias=True)[0]
    top, left = (int(torch.randint(side - size + 1, (1,), generator=generator)) for side in sides)
    return picture[:, top:top + size, left:left + size]

# %% tags=["fold"]
photo = data.photos()["chelsea"].float() / 255
generator = torch.Generator().manual_seed(3)
fig, axes = plt.subplots(1, 4, figsize=(figures.WIDTH, 3.1))
for ax, shortest in zip(axes, (256, 320, 416, 512), strict=True):
    crop = scaled_crop(photo, shortest, generator)[:, ::2, ::2]
    ax.imshow(crop.permute(1, 2, 0).clamp(0, 1).numpy())
    ax.axis("off")
    ax.set_title(f"S = {shortest}", fontsize=14)
fig.suptitle("The larger S, the less of the picture a crop shows", fontsize=16)
figures.save(fig, "fig-scale-jitter",
             caption="Crops of 224 × 224 pixels at random places from one photograph (a cat, "
                     "scikit-image), resized to a shorter side S.",
             alt="At 256 an eye, whiskers and nose of a cat, at 512 an eye alone.")

# %% [markdown]
# Here in small: a digit lies in the middle of a frame of 16 × 16 pixels. A smaller one has a black margin, of a larger one the edge is cut off. One network is trained with digits of 16 pixels only, one with sizes drawn evenly from 8 to 20 pixels. Both are tested at scales from 8 to 24.

# %% tags=["define"]
def framed(pictures, side, size=16):
    """float (N, 1, h, w) resized to side × side, in the middle of size × size (cut or padded)."""
    resized = F.interpolate(pictures, size=(side, side), mode="bilinear", antialias=True)
    before = (size - side) // 2  # below 0: cut
    after = size - side - before
    return F.pad(resized, (before, after, before, after))

# %%
exercises.predict("12.p6", "Trained at 16 pixels alone, where it names nearly all, and tested "
                  "at 10 pixels it names", ("above 80 %", "50 to 80 %", "below 50 %"))

# %%
x, y = train8.images.float() / 255, train8.labels
xt, yt = test8.images.float() / 255, test8.labels
SIDES = (8, 10, 12, 14, 16, 18, 20, 24)

# %%
def trained_at(scales, number):
    """A small network; each picture of a mini-batch has its own scale, drawn from the list."""
    at = torch.stack([framed(x, side) for side in scales])  # (scales, N, 1, 16, 16)
    with runtime.seeded(number):
        net = network((3, 3), width).to(x)
        step = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
        slower = torch.optim.lr_scheduler.CosineAnnealingLR(step, scale_epochs * steps)
        for _ in range(scale_epochs):
            for batch in torch.randperm(len(x)).split(64)[:steps]:
                drawn = torch.randint(len(scales), batch.shape)  # places in the list
                loss = F.cross_entropy(net(at[drawn, batch]), y[batch])
                step.zero_grad()
                loss.backward()
                step.step()
                slower.step()
    return net.eval()

# %%
def at_sides(net):
    """Probabilities of the classes for the test pictures at each side."""
    with torch.no_grad():
        return {side: net(framed(xt, side)).softmax(1) for side in SIDES}

def right(probabilities):
    return 100 * (probabilities.argmax(1) == yt).double().mean().item()

fixed = [at_sides(trained_at([16], number)) for number in seeds]
jittered = [at_sides(trained_at(range(8, 21), number)) for number in seeds]
several = [right(each[12] + each[16] + each[20]) for each in jittered]

# %% tags=["nbval-varies", "fold"]
curves = {name: np.array([[right(each[side]) for side in SIDES] for each in each_seed])
          for name, each_seed in (("fixed", fixed), ("jittered", jittered))}
ten = curves["fixed"][:, SIDES.index(10)].mean()
exercises.reveal("12.p6", "above 80 %" if ten > 80 else "50 to 80 %" if ten >= 50 else
                 "below 50 %", f"It names {ten:.0f} % of them.")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.9))
for (_, table), colour in zip(curves.items(), ("C1", "C0"), strict=True):
    ax.plot(SIDES, table.mean(0), "o-", color=colour)
    ax.fill_between(SIDES, table.min(0), table.max(0), color=colour, alpha=0.2, linewidth=0)
ax.axhline(10, color="0.35", linestyle=":")
ax.text(20.5, 12, "guessing", fontsize=12)
ax.text(8, 95, "trained at 8 to 20", fontsize=13, color="C0")
ax.text(14.5, 40, "trained at 16", fontsize=13, color="#b06800", va="center")
ax.set(xlabel="side of the test digits (pixels)", ylabel="named rightly (%)", xticks=SIDES,
       ylim=(0, 108))
ax.set_title("One training scale fails on small digits; jitter covers a range")
figures.save(fig, "emp-scale-jittering-helps",
             caption=f"Test accuracy by scale, {dataset}, {scale_epochs} epochs, width {width}; "
                     f"mean and range of {len(seeds)} seeds.",
             alt="With jitter the curve is high from 10 to 20 pixels; without it, it is highest "
                 "at 16 and falls steeply to near guessing at 8.")

# %% tags=["fold"]
def column(name, side):
    return curves[name][:, SIDES.index(side)].tolist()

claims.check("emp-scale-jittering-helps",
             "Tested at 10 pixels, the network trained at 16 names {fixed:.0f} %, the jittered "
             "one {jittered:.0f} %, {gain:.0f} points more; at 16 pixels {fixed16:.1f} and "
             "{jittered16:.1f} %.",
             fixed=column("fixed", 10), jittered=column("jittered", 10),
             gain=((curves["jittered"] - curves["fixed"])[:, SIDES.index(10)].tolist(), ">", 30),
             fixed16=(column("fixed", 16), ">", 90), jittered16=(column("jittered", 16), ">", 80),
             seeds=seeds, on="every", varies=True)
three = np.mean([column("jittered", side) for side in (12, 16, 20)], axis=0)
best = curves["jittered"].max(1)  # of the eight scales
claims.check("emp-scale-jittering-helps.test",
             "The jittered network's probabilities averaged over test scales 12, 16 and 20: "
             "{several:.1f} %. One of the three alone, on average: {single:.1f} %, {gain:.1f} "
             "points less. The best of all eight scales alone: {best:.1f} %.", several=several,
             single=three.tolist(), best=best.tolist(),
             gain=((np.array(several) - three).tolist(), ">", 0), seeds=seeds, on="every",
             varies=True)
claims.quoted("emp-scale-jittering-helps.paper",
              "Top-1 error of D at one test scale: trained at 256 27.0 %, at 384 26.8 %, at 256 to "
              "512 25.6 %; the last at three test scales 24.8 %",
              "Simonyan and Zisserman 2015, tables 3 and 4")

# %% [markdown]
# Averaging over test scales beats what these scales do alone, on average, and comes near the best one; that one is not known before. The price of jitter, in so short a training: at 16 pixels the jittered network names fewer than the one that saw nothing else.
#
# **We now know** that a network trained at one scale falls off away from it, in this frame at smaller digits first, and that showing it a range of scales makes it serve that range.
# **This does not show** that it has learnt "the same at any size": at 24 pixels, larger than anything it has seen and cut to the middle 16, the jittered network too names far fewer. Nor that size alone is at work: with it the margin changes: at 14 pixels, with one black pixel around the digit, the network trained at 16 already names fewer than half. (That 12 pixels lie above 14 in the figure need not be so with other seeds.) In a wider frame, where a digit of 18 pixels is not cut, a trial with one seed named far fewer at 18 than here.
#
# **Exercise 12.5.** Before the cut. A picture of `height` × `width` pixels is resized so that its shorter side is `shortest` (the longer one in proportion, rounded); then `size` × `size` pixels are cut. Return (places, share): in how many places the cut can lie, and what share of the resized picture's pixels it shows.

# %%
def crop_places(height, width, shortest, size):
    """How many places, and the share of the picture."""
    ...

exercises.check("12.5", crop_places)

# %% [markdown] tags=["ledger:prac-vgg-recipe"]
# ## In practice
#
# - VGG as a source of features and losses (style transfer, perceptual loss): `torchvision.models.vgg16(weights="IMAGENET1K_V1").features`. To train anew: `vgg16_bn`, with BatchNorm, needs no lending.
# - For naming pictures take a ResNet (lesson 14): fewer parameters, less work, lower error. Small kernels stayed; 7×7 lives on in first layers, and depthwise in ConvNeXt.
# - Scale jitter: `torchvision.transforms.v2.RandomResizedCrop`; deeper starts: `nn.init.kaiming_normal_`.
# - VGG's recipe: as AlexNet's in momentum 0.9, weight decay 0.0005, dropout 0.5 and a rate of 0.01 cut by ten three times; mini-batches of 256 (AlexNet: 128) and 74 epochs (about 90), with lent layers and jitter; a changed Caffe, four Titan Black cards, two to three weeks a network.
#
# ## History
#
# - 2011: D. Cireşan and others train networks with small kernels, shallower and on small pictures; VGG's authors name them. 2013: OverFeat and ZFNet.
# - 4 September 2014: K. Simonyan and A. Zisserman (Oxford) put VGG on arXiv (1409.1556); published at ICLR 2015.
# - ILSVRC 2014: first in localisation (25.3 % error), second in classification (7.3 % top-5, seven networks) behind GoogLeNet (6.7 %). After the deadline two networks came to 6.8 %.
# - 2015: He's start (February) trains deep ReLU networks directly; BatchNorm (February) makes the start matter less; ResNet (December).
#
# ## Exercises that are left
#
# **12.6 Open.** Look again at the first figure. Name two things that it does *not* show. (Other widths, `-p width 32`; more passes; a large kernel with BatchNorm and a 1×1 after it; pictures without clutter?)
#
# **12.7 Open.** Your card has 8 GB. You may take one network of the table and any picture size. Use 12.3: which do you train, with which batch, and what would you give up first?
#
# ## Summary
#
# - Three 3×3 see what one 7×7 sees, with 27 in place of 49 weights. Without ReLUs between, and away from the border, that is all they are: a restricted 7×7. In clutter, at equal training, the stack with its ReLUs won clearly; three 7×7 did as well as it, with five times the weights.
# - VGG is one table: from 11 to 19 weight layers at nearly the same number of parameters, for nine tenths of VGG-16's are in three linear layers.
# - Outputs fill memory early, parameters late: 61 MB for a picture, 42 % of it in two convolutions.
# - A start that serves 4 layers can hold up 10. Borrowed layers helped, trained or not; so does a better start.
# - Trained at one scale, a network fails on smaller digits in our frame (size and margin change together); trained at a range, it serves the range, at some cost at that one scale.

# %% [markdown] tags=["ledger:err-vgg-won", "ledger:err-vgg-batch-gd", "ledger:err-vgg-doubles", "ledger:err-vgg-19-138", "ledger:err-vgg-jitter-set", "ledger:err-vgg-c-last-few"]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | 96 MB of memory per image | the outputs they list are 15.2 M numbers, 61 MB in single precision; 96 MB would be 24 M numbers. With every ReLU stored separately it is 115 MB | section 2 |
# | 19 layers, 138 M parameters | 138 M is VGG-16; VGG-19 has 143.7 M | section 2 |
# | 130–140 M parameters, up to 19 layers | 132.9 to 143.7 M | section 2 |
# | successors of AlexNet that added more layers had 140 M+ | OverFeat (144.7 M) has nine weight layers, one more than AlexNet; it grew by width | section 2, counted |
# | won 2014 with GoogLeNet | second in classification (7.3 %, GoogLeNet 6.7 %), first in localisation | the paper's abstract and table 7 |
# | filters double after each pooling | after the first three; 512 stays 512 after the fourth | section 2 |
# | three 3×3 have the same effect as 7×7 | the same square is seen; without ReLUs and at equal channels they reach 25 of 49 directions, and with ReLUs they are no convolution by one kernel | section 1 |
# | trained with batch gradient descent | mini-batches of 256, with momentum | the paper, section 3.1 |
# | jitter: shortest side in {256, 512} | drawn from the whole range 256 to 512; single-scale training used 256 or 384 | the paper, section 3.1 |
# | C: the last few are 1×1 | one layer in each of stages 3, 4 and 5, the last convolution there | section 2, the table |
# | bad starts get stuck in local minima | in our chain a bad start goes with a signal that shrinks from layer to layer; it stays long at the loss of guessing, and with more passes it leaves it | section 3 |
# | a trained shallow network starts the deeper ones | so they did; it is not needed with Xavier's start, say the authors, nor here with He's | section 3; the paper, section 3.1 |
#
# ## Sources
#
# - The notes: lecture 001 (VGG), lecture 003 (VGG Net), lecture 004 (section 09, after CS231n).
# - Simonyan, Zisserman: Very deep convolutional networks for large-scale image recognition, ICLR 2015, arXiv:1409.1556.
# - Sermanet et al.: OverFeat, arXiv:1312.6229. Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks, AISTATS 2010. He et al.: Delving deep into rectifiers, arXiv:1502.01852.
# - Cireşan et al.: Flexible, high performance convolutional neural networks for image classification, IJCAI 2011.
# - Pictures: scikit-learn's digits (Alpaydin and Kaynak 1998); the cat Chelsea (Stéfan van der Walt, CC0), scikit-image.
