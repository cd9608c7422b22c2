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
# # 15 · The zoo
# ### Which network for your budget?
#
# Each disc of the first figure is a network that was trained on ImageNet, a million photographs of 1000 kinds of things. To the right: more work for a picture. Upwards: more pictures named rightly. A larger disc: more numbers to store.
# Odd: the largest discs are not the highest. The network with the smallest disc, SqueezeNet (version 1.0), does *more* work than AlexNet (as torchvision builds it), which stores fifty times as many numbers. And two discs that are the same network, layer for layer, lie several points apart.
#
# **You will be able to**
# - count what a network costs in three currencies, and leave out what is beaten in the one that binds;
# - say where parameters sit, and what a squeezed module saves;
# - write a highway layer, and say what its gate does at the start of training;
# - compare two designs fairly: each at its own best learning rate;
# - drop layers in training, and say what is used in the test.
#
# **You need** lesson 04 (convolutions and their costs), lesson 06 (He's first weights), lesson 07 (BatchNorm) and lesson 14 (residual blocks).
#
# **Words.** A *multiply-add* is one product that is added to a sum. *Activations* are the numbers that layers put out for a picture. *Top-1* is the share of pictures whose first guess is right; *top-5*: the right class is among five guesses. M is a million, G a thousand million. A *seed* fixes all random numbers of a training.
# Claims (✓) are made for the parameters below; with others the lesson shows what it measures and requires nothing.

# %% [markdown]
# **It costs** about 35 seconds of one processor core, no network connection, no GPU.

# %% tags=["parameters"]
seed: int = 100  # the first of the seeds that judge; at least 0
judges: int = 2  # seeds that judge, after two others have chosen the learning rate; 2 to 10
dataset: str = "digits"  # the pictures; one of digits, mnist, fashion_mnist, cifar10, or a folder
image_size: int = 8  # pixels a side for the pictures of a folder; 8 to 64
images: int = 1344  # training pictures, at most; at least 320
width: int = 16  # units a layer in sections 3 and 4; 4 to 256
depth: int = 30  # layers in section 3; 6 to 100
blocks: int = 50  # residual blocks in section 4; 4 to 200
epochs: int = 3  # passes over the pictures in section 4, two for each of section 3; 1 to 100
fractal_epochs: int = 7  # passes in section 5; 1 to 100

# %% tags=["imports", "fold"]
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from cnncourse import claims, cost, data, exercises, figures, models, runtime, training, widgets

# %% tags=["fold"]
# Look; pictures as rows (N, pixels) with labels (N,).
device = runtime.start(seed=seed).device  # the processor, or a GPU if there is one
figures.use_style()
size = image_size if dataset not in ("digits", "mnist", "fashion_mnist", "cifar10") else None
train = data.load(dataset, True, size=size).subset(images, seed=0).normalised().to(device)
test = data.load(dataset, False, size=size).normalised(train.mean, train.std).to(device)
(x, y), (xt, yt) = [next(part.batches(len(part))) for part in (train, test)]
rows = x.flatten(1)
classes = len(train.classes)
guess = math.log(classes)  # the loss of guessing
choosers = [seed + judges, seed + judges + 1]  # they choose the learning rates
everyone = [*choosers, *range(seed, seed + judges)]  # the others judge

# %% [markdown]
# The costs are counted here, from the networks. The accuracies are *quoted*: torchvision publishes one for each file of weights, measured by its makers on the 50,000 validation pictures of ImageNet. Some networks have two files: V1, mostly trained much as in the papers, and V2, trained anew in 2021 or early in 2022 by longer recipes.

# %%
NAMES = ("alexnet", "squeezenet1_0", "vgg16", "vgg19", "googlenet", "resnet18", "resnet50",
         "resnet152", "wide_resnet50_2", "densenet121", "mobilenet_v3_large", "efficientnet_b0")

def built(name):
    """The network without memory for its numbers: enough to count."""
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        return torchvision.models.get_model(name, **options)

costs = {name: cost.table(built(name), (3, 224, 224)) for name in NAMES}

# %% tags=["fold"]
# Costs in three currencies, and the published accuracies: name -> number.
def outputs(table):
    """Numbers that convolutions and linear layers put out for one picture."""
    return sum(math.prod(row.output_shape) for row in table.rows
               if row.kind in ("Conv2d", "Linear"))

def published(name, version="V1", what="acc@1"):
    entry = torchvision.models.get_model_weights(name)[f"IMAGENET1K_{version}"]
    return entry.meta["_metrics"]["ImageNet-1K"][what]

params = {name: table.parameters for name, table in costs.items()}
work = {name: table.multiply_adds for name, table in costs.items()}
put_out = {name: outputs(table) for name, table in costs.items()}
top1 = {name: published(name) for name in NAMES}
LABELS = {"alexnet": "AlexNet", "squeezenet1_0": "SqueezeNet", "vgg16": "VGG-16",
          "vgg19": "VGG-19", "googlenet": "GoogLeNet", "resnet18": "ResNet-18",
          "resnet50": "ResNet-50", "resnet152": "ResNet-152", "wide_resnet50_2": "wide ResNet-50",
          "densenet121": "DenseNet-121", "mobilenet_v3_large": "MobileNet v3",
          "efficientnet_b0": "EfficientNet-B0"}
again = published("resnet50", "V2")
left = {"googlenet": (0, -17), "vgg16": (-14, -33), "resnet152": (54, -8), "vgg19": (22, -33),
        "wide_resnet50_2": (62, 9), "efficientnet_b0": (0, 11), "alexnet": (4, -25),
        "squeezenet1_0": (10, 7), "resnet18": (34, 10), "resnet50": (-46, 8),
        "densenet121": (52, -9), "mobilenet_v3_large": (0, -16)}  # points from disc to name

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.5))
for name in NAMES:
    new = name in ("mobilenet_v3_large", "efficientnet_b0")
    ax.scatter(work[name] / 1e9, top1[name], s=params[name] / 1e5, alpha=0.55,
               color="C2" if new else "C0", edgecolor="white")
    ax.annotate(LABELS[name], (work[name] / 1e9, top1[name]), left[name], fontsize=11.5,
                textcoords="offset points", ha="center", va="center")
ax.scatter(work["resnet50"] / 1e9, again, s=params["resnet50"] / 1e5, alpha=0.75, color="C1",
           edgecolor="white")
ax.annotate("", (work["resnet50"] / 1e9, again - 0.8), (work["resnet50"] / 1e9,
            top1["resnet50"] + 0.8), arrowprops={"arrowstyle": "->", "color": "0.2"})
ax.annotate("ResNet-50, trained anew", (work["resnet50"] / 1e9, again), (0, 15), fontsize=11.5,
            textcoords="offset points", ha="center", va="center")
ax.text(0.14, 82.5, "green: networks of 2019", color="#00695f", fontsize=12)
ax.set(xscale="log", xlabel="thousand million multiply-adds a picture", ylim=(51, 85.5),
       ylabel="top-1 on ImageNet (%)", xlim=(0.13, 45), xticks=[0.2, 0.5, 1, 2, 5, 10, 20],
       xticklabels=["0.2", "0.5", "1", "2", "5", "10", "20"])
ax.set_title("The largest discs are not the highest; training anew lifts one")
figures.save(fig, "fig-complexity-bubble",
             caption="Top-1 on ImageNet's validation pictures (published by torchvision for its "
                     "weights) against multiply-adds for a picture of 224 × 224 pixels "
                     "(counted here). Area of a disc: parameters. Green: networks of 2019. Orange: "
                     "the same ResNet-50, second weights.",
             alt="AlexNet and SqueezeNet lie lowest, VGG far right with large discs below "
                 "ResNet-50; EfficientNet-B0 and MobileNet v3 lie left and high; ResNet-50 trained "
                 "anew lies above every other disc.")

# %% tags=["fold"]
claims.check("fig-complexity-bubble",
             "VGG-19 has {size:.1f} times the parameters of ResNet-50 and does {work:.1f} times "
             "the work, for {points:.1f} points of top-1 less; the same ResNet-50 trained anew "
             "gains {anew:.1f} points. All of ResNet-152's further layers, trained the old way, "
             "gain {deep:.1f}.",
             size=(params["vgg19"] / params["resnet50"], ">", 5),
             work=(work["vgg19"] / work["resnet50"], ">", 4),
             points=(top1["resnet50"] - top1["vgg19"], ">", 3),
             anew=(again - top1["resnet50"], ">", 4),
             deep=(top1["resnet152"] - top1["resnet50"], "<", 3))

# %% [markdown]
# ## 1 · Three currencies
#
# *Parameters* must be stored and sent: four bytes each in single precision. *Multiply-adds* take time and energy. *Activations* must be kept for the way back while a network trains. (Counted here: what convolutions and linear layers put out.) A budget may be tight in any one of them, and they order the networks differently.

# %%
exercises.predict("15.p1", "Which of these puts out the most numbers (activations) for a picture?",
                  ("AlexNet", "VGG-19", "ResNet-152"))

# %%
for name in NAMES:
    print(f"{LABELS[name]:16} {params[name] / 1e6:7.2f} M parameters {work[name] / 1e9:6.2f} G "
          f"multiply-adds {put_out[name] / 1e6:6.2f} M activations {top1[name]:5.1f} % top-1")

# %% tags=["fold"]
three = ("alexnet", "vgg19", "resnet152")
most = max(three, key=put_out.get)
exercises.reveal("15.p1", LABELS[most], "In millions: " + ", ".join(
    f"{LABELS[name]} {put_out[name] / 1e6:.1f}" for name in three) + ".")
ranked = {name: published(name, what="acc@5") for name in
          ("alexnet", "vgg16", "vgg19", "googlenet", "resnet18", "resnet50", "resnet152")}
good = [name for name, accuracy in ranked.items() if accuracy > 89]
lean = {what: min(good, key=what_of.get) for what, what_of in (("size", params), ("work", work))}
claims.check("emp-googlenet-most-efficient",
             "Of seven networks up to 2015, {heavy} has most parameters and most multiply-adds "
             "({work:.1f} G), but ResNet-152 most activations: {deep:.1f} M, VGG-19 {vgg:.1f} M. "
             "Of the {count} with a top-5 above 89 %, {least} has fewest parameters and "
             "multiply-adds; SqueezeNet has fewer of both, at {squeezed:.1f} % top-5.",
             heavy=(LABELS[max(ranked, key=lambda name: (params[name], work[name]))], "==",
                    "VGG-19"), work=(work["vgg19"] / 1e9, "~", 19.63, 0.01),
             deep=(put_out["resnet152"] / 1e6, "~", 22.56, 0.01),
             vgg=(put_out["vgg19"] / 1e6, "~", 14.86, 0.01), count=len(good),
             least=(" and ".join(sorted({LABELS[name] for name in lean.values()})), "==",
                    "GoogLeNet"),
             squeezed=(published("squeezenet1_0", what="acc@5"), "<", 89))

# %% [markdown]
# Which of them can one leave out? A network is *beaten* if another costs no more, has no lower accuracy, and is better in one of the two. What is left is the *frontier*. It depends on the currency, and on the list.

# %% tags=["define"]
def frontier(price, accuracy):
    """Names that no other network beats; both are dictionaries by name."""
    left = []
    for name in price:
        beaten = any(price[other] <= price[name] and accuracy[other] >= accuracy[name]
                     and (price[other], accuracy[other]) != (price[name], accuracy[name])
                     for other in price)
        if not beaten:
            left.append(name)
    return sorted(left, key=price.get)

# %% tags=["fold"]
CURRENCIES = {"parameters": (params, 1e6, "million parameters"),
              "multiply-adds": (work, 1e9, "thousand million multiply-adds"),
              "activations": (put_out, 1e6, "million activations")}

def map_of(across, until):
    """Price against accuracy for the networks up to a year, with the frontier."""
    prices, unit, label = CURRENCIES[across]
    old = [name for name in NAMES if until == "2019" or name not in
           ("mobilenet_v3_large", "efficientnet_b0")]
    best = frontier({name: prices[name] for name in old}, {name: top1[name] for name in old})
    fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.2))
    ax.plot([prices[name] / unit for name in best], [top1[name] for name in best], "o-",
            color="C0", markersize=9)
    for name in old:
        ax.plot(prices[name] / unit, top1[name], "o", color="C0" if name in best else "0.65")
        up = {"resnet18": 8, "resnet152": 8, "vgg16": 8, "mobilenet_v3_large": -21}.get(name, -11)
        ax.annotate(LABELS[name], (prices[name] / unit, top1[name]), (7, up), fontsize=11,
                    textcoords="offset points", color="0.1" if name in best else "0.4")
    ax.set(xscale="log", xlabel=label, ylabel="top-1 (%)", ylim=(53, 81))
    ax.set_title(f"Not beaten by {across}: {len(best)} of {len(old)} networks")
    return fig, f"Frontier: {', '.join(LABELS[name] for name in best)}."

widgets.explore(map_of, across=widgets.Choice("multiply-adds", tuple(CURRENCIES), "price",
                                              kept=tuple(CURRENCIES)),
                until=widgets.Choice("2017", ("2017", "2019"), "networks until",
                                     kept=("2017", "2019")))

# %% tags=["fold"]
until_2017 = NAMES[:-2]
edges = {what: {LABELS[name] for name in frontier({name: prices[name] for name in until_2017},
                                                 top1)}
         for what, (prices, _, _) in CURRENCIES.items()}
with_new = frontier(work, top1)
claims.check("fig-complexity-bubble.frontier",
             "Until 2017, {both:d} of {all:d} networks lie on the frontier by parameters and by "
             "multiply-adds. AlexNet lies on those by {alex} only. With the two of 2019, "
             "{left:d} of {new:d} are left by multiply-adds.",
             both=(len(edges["parameters"] & edges["multiply-adds"]), ">=", 3),
             all=len(until_2017),
             alex=(" and ".join(what for what in CURRENCIES if "AlexNet" in edges[what]), "==",
                   "multiply-adds and activations"),
             left=(len(with_new), "<=", 5), new=len(NAMES))

# %% [markdown]
# Are multiply-adds time? Not alone. Wide ResNet-50 and ResNet-152 do nearly the same work, one in 50 layers with more channels, the other in 152 that wait for each other. On a graphics card, that can be filled with many channels at once, the wide one's authors report it faster. Whether it is on your machine, only your machine can tell (`timeit.repeat`); here we count.

# %% tags=["ledger:arch-wide-resnet"]
def queue(name):
    """Convolutions that wait for each other; shortcuts' own stand beside others."""
    return sum(row.kind == "Conv2d" and "downsample" not in row.name for row in costs[name].rows)

queues = {name: queue(name) for name in ("wide_resnet50_2", "resnet152")}

# %% tags=["fold"]
claims.check("emp-wide-better",
             "Wide ResNet-50 has {wide:.1f} M parameters and {work:.2f} G multiply-adds, "
             "ResNet-152 {deep:.1f} M and {other:.2f} G; the published top-1 errors are "
             "{error:.1f} and {error_deep:.1f} %. In the wide one {short:d} convolutions wait for "
             "each other, in the deep one {long:d}.",
             wide=(params["wide_resnet50_2"] / 1e6, "~", 68.88, 0.01),
             work=(work["wide_resnet50_2"] / 1e9, "~", 11.40, 0.01),
             deep=(params["resnet152"] / 1e6, "~", 60.19, 0.01),
             other=(work["resnet152"] / 1e9, "~", 11.51, 0.01),
             error=(100 - top1["wide_resnet50_2"], "<", 100 - top1["resnet152"]),
             error_deep=100 - top1["resnet152"],
             short=(queues["wide_resnet50_2"], "==", 49), long=(queues["resnet152"], "==", 151))
second = {name: published(name, "V2") for name in queues}
claims.check("emp-wide-better.recipe",
             "With torchvision's second weights ResNet-152 is ahead, at {deep:.1f} % top-1 against "
             "{wide:.1f} %; with its first ones it was {behind:.1f} points behind.",
             deep=(second["resnet152"], ">", second["wide_resnet50_2"]),
             wide=second["wide_resnet50_2"],
             behind=(top1["wide_resnet50_2"] - top1["resnet152"], ">", 0))

# %% [markdown]
# **We now know** that there is no best network without a budget, that the three currencies order differently, and that a new training recipe moved ResNet-50 further than a hundred more layers did.
# **This does not show** which design is best when all are trained alike: the published accuracies come from different recipes. Nor that width beats depth: with their first files of weights the wide ResNet-50 is a little ahead of ResNet-152, with the second files a little behind (claim above). Its first file, too, is of another recipe, 256 epochs with a cosine rate, and its maker puts the gain at about 0.2 points: as much as the lead.
#
# **Exercise 15.1.** The best within a budget. `nets` is a list of (name, parameters, multiply-adds, accuracy). Return the name with the highest accuracy among those that fit *both* limits; of equal accuracies the one with fewer multiply-adds; `None` if nothing fits.

# %%
def within(nets, parameters, multiply_adds):
    """The best name that costs at most so many parameters and multiply-adds."""
    ...

exercises.check("15.1", within)

# %% [markdown]
# ## 2 · Where do the parameters sit?
#
# A convolution from $C$ to $K$ channels with $k × k$ weights has $k^2 C K$ of them, and $K$ biases. SqueezeNet's *fire module* saves twice: half of its expanding kernels have $k = 1$, and its 3×3 kernels read few channels $C$: a 1×1 convolution first *squeezes* to few channels; then 1×1 and 3×3 convolutions *expand* side by side, and their outputs are put behind each other (concatenated).
# The squeezing is the name. Is it also what makes the network so much smaller than AlexNet? Test: take only the fully connected layers out of AlexNet, and squeeze nothing: a 1×1 convolution to the 1000 classes, and the average over all places, as SqueezeNet ends.

# %%
exercises.predict("15.p2", "AlexNet's five convolutions, then 1×1 to 1000 classes and the average: "
                  "how many times fewer parameters than AlexNet?",
                  ("about 2", "about 7", "about 20"))

# %%
def parameters(net):
    return sum(p.numel() for p in net.parameters())

convolutions = built("alexnet").features
headless = nn.Sequential(convolutions, nn.Conv2d(256, 1000, 1), nn.AdaptiveAvgPool2d(1))
fire = models.squeezenet.Fire(128, 32, 128)  # 128 -> 32 -> 128 + 128 channels
direct = nn.Conv2d(128, 256, 3)  # the same channels in and out, without squeezing
print(f"{parameters(headless):,} without linear layers; a fire module {parameters(fire):,}, "
      f"a 3x3 convolution in its place {parameters(direct):,}")

# %% tags=["fold"]
times = params["alexnet"] / parameters(headless)
exercises.reveal("15.p2", "about 2" if times < 4 else "about 7" if times < 12 else "about 20",
                 f"{params['alexnet']:,} / {parameters(headless):,} = {times:.1f}.")
squeezed = params["squeezenet1_0"]
bars = {"AlexNet": params["alexnet"], "convolutions\n+ 1×1": parameters(headless),
        "SqueezeNet": squeezed}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.3))
ax.barh(range(3), [count / 1e6 for count in bars.values()], 0.6, color=["C0", "C1", "C2"])
for place, count in enumerate(bars.values()):
    ax.text(count / 1e6 * 1.06, place, f"{count / 1e6:.2f} M", va="center", fontsize=13)
ax.set(xscale="log", xlim=(0.7, 200), yticks=range(3), xlabel="parameters (million)",
       xticks=[1, 10, 100], xticklabels=["1", "10", "100"])
ax.set_yticklabels(bars, fontsize=12)
ax.invert_yaxis()
ax.set_title(f"SqueezeNet is {params['alexnet'] / squeezed:.0f}× smaller; {times:.0f}× come "
             "without squeezing")
figures.save(fig, "num-squeezenet-50x",
             caption="Parameters of AlexNet, of its convolutions with a 1×1 convolution and the "
                     "average in place of three linear layers (not trained), and of SqueezeNet.",
             alt="Bars on a logarithmic axis: 61 million, 2.7 million, 1.25 million.")

# %% tags=["fold", "ledger:arch-squeezenet"]
claims.check("num-squeezenet-50x",
             "SqueezeNet has {count:,} parameters, {ratio:.1f} times fewer than AlexNet, and takes "
             "{megabytes:.2f} MB at four bytes each. Leaving out AlexNet's linear layers saves "
             "{times:.1f} times, all the rest of the new design {rest:.1f} times more.",
             count=(squeezed, "==", 1_248_424),
             ratio=(params["alexnet"] / squeezed, "~", 48.9, 0.1),
             megabytes=(4 * squeezed / 1e6, "~", 4.99, 0.01),
             times=(times, ">", 20), rest=(parameters(headless) / squeezed, "<", 3))

# %% tags=["fold"]
linear = sum(parameters(layer) for layer in built("alexnet").classifier)
fires = [module for module in models.squeezenet1_0().modules()
         if isinstance(module, models.squeezenet.Fire)]
unsqueezed = squeezed + sum(
    parameters(nn.Conv2d(module.squeeze.in_channels, 2 * module.expand3x3.out_channels, 3))
    - parameters(module) for module in fires)
claims.check("num-squeezenet-50x.where",
             "Linear layers hold {share:.0f} % of AlexNet's parameters. With 3 × 3 convolutions of "
             "the same channels in place of its {fires} fire modules SqueezeNet would have "
             "{without:.1f} million, still {still:.1f} times fewer than AlexNet.",
             share=(100 * linear / params["alexnet"], ">", 90), fires=(len(fires), "==", 8),
             without=(unsqueezed / 1e6, "~", 8.01, 0.01),
             still=(params["alexnet"] / unsqueezed, ">", 5))
claims.check("num-squeezenet-50x.bits",
             "At 6 bits for each parameter it would take {six:.2f} MB; below 0.5 MB there are "
             "{bits:.1f} bits for each, so leaving weights out or shorter codes have to help.",
             six=(squeezed * 6 / 8e6, ">", 0.5), bits=(0.5e6 * 8 / squeezed, "<", 4))
claims.quoted("emp-squeezenet-alexnet-accuracy",
              "Top-1 57.5 % for SqueezeNet and 57.2 % for AlexNet; 4.8 MB without compression, "
              "0.66 MB with Deep Compression at 8 bits, 0.47 MB at 6 bits",
              "Iandola et al. 2016, table 2")
claims.check("emp-squeezenet-alexnet-accuracy.here",
             "torchvision's weights: {squeeze:.1f} % top-1 for SqueezeNet, {alex:.1f} % for "
             "AlexNet; the work is {work:.2f} times AlexNet's, in SqueezeNet's later version 1.1 "
             "{later:.2f} times.",
             squeeze=(top1["squeezenet1_0"], ">", top1["alexnet"]), alex=top1["alexnet"],
             work=(work["squeezenet1_0"] / work["alexnet"], ">", 1),
             later=(cost.table(built("squeezenet1_1"), (3, 224, 224)).multiply_adds
                    / work["alexnet"], "<", 1))

# %% [markdown]
# So most of the saving is not squeezing. Nearly all of AlexNet's parameters sit in three linear layers, and Network in Network had done without linear layers before, GoogLeNet with a single one of a million weights.
#
# A fire module does save: the one above has less than a sixth of the parameters of the convolution in its place. (Squeezing alone, with all expanding kernels 3×3, would leave a little more than a quarter.) SqueezeNet spends much of that on more layers and channels. (Whether AlexNet would stay as accurate without its linear layers, we have not tried.)
#
# *DenseNet* saves by keeping: a layer of a dense block reads the outputs of *all* earlier layers of the block, concatenated, and adds only $g$ new channels, its *growth*. So channels grow evenly, $c_0 + l g$, and no layer has to make again what an earlier one has made.

# %% tags=["fold"]
with torch.device("meta"):
    dense = models.densenet121()
read = [layer.conv1.in_channels for layer in dense.features.denseblock1.children()]
claims.table("arch-densenet", "DenseNet-121: stem 64 channels, growth 32.",
             {"parameters": (params["densenet121"], 7_978_856),
              "multiply-adds (G)": (round(work["densenet121"] / 1e9, 2), 2.83),
              "channels read by six layers of block 1": (read, [64 + 32 * i for i in range(6)])},
             columns=("what", "counted", "expected"))

# %% [markdown]
# **We now know** where the parameters of a network sit, and that a factor of 49 has several causes, which one can take apart by counting.
# **This does not show** that fewer parameters are faster: SqueezeNet 1.0 does more multiply-adds than AlexNet, version 1.1 of nearly the same size does fewer.
#
# **Exercise 15.2.** Count a fire module: the parameters, biases included, of a fire module that reads $C$ channels, squeezes to $s$ and expands to $e$ channels by 1×1 and to $e$ by 3×3. No torch needed.

# %%
def fire_parameters(channels, squeeze, expand):
    """Parameters of a fire module; it puts out 2 * expand channels."""
    ...

exercises.check("15.2", fire_parameters)

# %% [markdown]
# ## 3 · Is it the gate?
#
# Half a year before ResNet, *highway networks* trained dozens of layers. A layer has two parts: $H(x)$, an ordinary layer with ReLU, and a *gate* $T(x)$ between 0 and 1, computed by a layer of its own with a sigmoid:
#
# $$y = T(x)\,H(x) + (1 - T(x))\,x$$
#
# With $T$ near 0 the layer copies, with $T$ near 1 it is the plain layer. It is the idea of the LSTM (lesson 17), across layers in place of time. ResNet then left the gate away: $y = x + H(x)$.

# %% tags=["define", "ledger:arch-highway-net"]
def plain(x, h, t):
    return h

def add(x, h, t):
    return x + h

def gate(x, h, t):
    return t * h + (1 - t) * x

# %% [markdown]
# The authors start the gates nearly closed: the bias of $T$ is negative. So a highway network *begins* as a copy. Do deep networks train because there is a gate, or because they begin as a copy? We try both starts with all three rules.
#
# - *far from a copy*: He's first weights in $H$; gates half open (bias 0);
# - *near a copy*: gates nearly closed (bias −4); for the sum, He's weights times 0.1; for the plain layer, the same plus the identity matrix (the inputs are not negative, so ReLU lets them pass).
#
# All networks of one kind are trained together: first axis of all arrays is the network.

# %% tags=["define"]
def start(rule, near, layers, width, inputs, classes, number):
    """First weights of one network; W and V hold those of H and T, one matrix a layer."""
    stream = torch.Generator().manual_seed(number)

    def he(*shape):  # (..., outputs, inputs)
        return torch.randn(*shape, generator=stream) * math.sqrt(2 / shape[-1])

    weights = {"first": he(width, inputs), "W": he(layers, width, width),
               "b": torch.zeros(layers, width, 1), "last": he(classes, width),
               "scores": torch.zeros(classes, 1)}
    if rule is gate:
        weights |= {"V": 0.4 * he(layers, width, width),  # smaller: the bias c rules at first
                    "c": torch.full((layers, width, 1), -4.0 if near else 0.0)}
    elif near:
        weights["W"] = 0.1 * weights["W"] + (torch.eye(width) if rule is plain else 0)
    return weights

def scores(p, pictures, rule):
    """Scores (networks, classes, N) for rows of pixels (N, inputs).

    torch.baddbmm(b, W, x) is W x + b for each network by itself.
    """
    x = torch.relu(p["first"] @ pictures.T)  # (networks, width, N)
    by_layer = {name: p[name].unbind(1) for name in "WbVc" if name in p}
    for layer in range(p["W"].shape[1]):
        h = torch.relu(torch.baddbmm(by_layer["b"][layer], by_layer["W"][layer], x))
        t = None
        if rule is gate:
            t = torch.sigmoid(torch.baddbmm(by_layer["c"][layer], by_layer["V"][layer], x))
        x = rule(x, h, t)
    return torch.baddbmm(p["scores"].expand(-1, -1, x.shape[2]), p["last"], x)

# %% tags=["define"]
def train_all(first, forward, rates, passes, size=64):
    """SGD for many networks at once, each at its own rate; losses on all training pictures."""
    p = {name: torch.stack([one[name] for one in first]).to(rows).requires_grad_()
         for name in first[0]}
    rates = torch.tensor(rates).to(rows)
    stream = torch.Generator().manual_seed(99)
    for _ in range(passes):
        for batch in torch.randperm(len(rows), generator=stream).to(y.device).split(size):
            if len(batch) < size:
                continue  # a small rest would upset BatchNorm
            loss = losses(forward(p, rows[batch]), y[batch]).sum()
            slopes = torch.autograd.grad(loss, list(p.values()))
            with torch.no_grad():
                for each, slope in zip(p.values(), slopes, strict=True):
                    each -= rates.view(-1, *[1] * (each.ndim - 1)) * slope
    with torch.no_grad():
        return losses(forward(p, rows), y), p

def losses(out, labels):
    """Cross-entropy of each network; out (networks, classes, N)."""
    return F.cross_entropy(out, labels.expand(len(out), -1), reduction="none").mean(1)

# %%
exercises.predict("15.p3", "Thirty layers with gates that begin half open, at the best of five "
                  "learning rates: after six epochs the network", ("has learnt", "guesses"))

# %%
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
nets = [(rate, number) for rate in RATES for number in everyone]

def at_best_rate(make, forward, passes):
    """(losses by rate and seed, rate chosen by the first two seeds, losses of the others)."""
    ended, _ = train_all([make(number) for _, number in nets], forward,
                         [rate for rate, _ in nets], passes)
    table = ended.double().cpu().nan_to_num(1e6, 1e6).view(len(RATES), -1).clamp(max=1e6).numpy()
    best = table[:, :2].mean(1).argmin()
    return table, RATES[best], table[best, 2:]

kinds = {(rule.__name__, near): at_best_rate(
    lambda number: start(rule, near, depth - 2, width, rows.shape[1], classes, number),
    lambda p, pictures: scores(p, pictures, rule), 2 * epochs)
    for near in (False, True) for rule in (plain, add, gate)}

# %% tags=["fold"]
open_gate = kinds["gate", False][2]
exercises.reveal("15.p3", "has learnt" if open_gate.mean() < 0.7 * guess else "guesses",
                 f"Its loss is {open_gate.mean():.2f}; guessing has {guess:.2f}.")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.3))
ax.axhline(guess, color="0.35", linestyle=":")
ax.text(2.45, guess * 1.07, "guessing", fontsize=12, ha="right")
TOP = 10
for near, colour, label in ((False, "C1", "far from a copy"), (True, "C0", "near a copy")):
    for place, rule in enumerate(("plain", "add", "gate")):
        values = kinds[rule, near][2]
        across = place + (-0.12, 0.12)[near] + np.linspace(-0.03, 0.03, len(values))
        shown = np.minimum(values, TOP)
        ax.plot(across, shown, "o", color=colour, markersize=10)
        if (values >= TOP).all():
            ax.text(across[-1] + 0.08, TOP, "no number", fontsize=12, color=colour, va="center")
ax.text(-0.42, 3.6, "begins far from a copy", color="#b06800", fontsize=13)
ax.text(-0.42, 0.2, "begins near a copy", color="C0", fontsize=13)
ax.set(yscale="log", xticks=range(3), xlim=(-0.5, 2.5), ylim=(0.06, 16),
       ylabel="training loss at its best rate", yticks=[0.1, 0.3, 1, 3, 10],
       yticklabels=["0.1", "0.3", "1", "3", "10"])
ax.set_xticklabels(["plain:  H", "sum:  x + H", "gate:  T H + (1 − T) x"], fontsize=13)
ax.set_title(f"{depth} layers: each rule trains if it begins near a copy")
figures.save(fig, "emp-highway-between",
             caption=f"Training loss after {2 * epochs} epochs of SGD, {dataset}, {depth} layers "
                     f"of {width} units without normalisation; each kind at the best of five "
                     f"rates, chosen by two seeds; dots: {judges} others.",
             alt="Far from a copy, plain and gate lie near guessing and the sum gives no number; "
                 "near a copy all three lie clearly below.")

# %% tags=["nbval-varies", "fold"]
claims.check("emp-highway-between",
             "{depth} layers, {epochs} epochs, each kind at the best of five rates. Begun far from "
             "a copy: plain {plain:.2f}, gate {gate:.2f} (guessing {guess:.2f}), the sum gives "
             "no number at these rates. Begun near one: plain {near_plain:.2f}, sum "
             "{near_sum:.2f}, gate {near_gate:.2f}.", depth=depth, epochs=2 * epochs, guess=guess,
             plain=(kinds["plain", False][2].tolist(), ">=", 1.5),
             gate=(open_gate.tolist(), ">=", 1.5),
             near_plain=(kinds["plain", True][2].tolist(), "<=", 1.6),
             near_sum=(kinds["add", True][2].tolist(), "<=", 0.8),
             near_gate=(kinds["gate", True][2].tolist(), "<=", 0.8), seeds=judges, on="every")
SMALL = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
slow = [(rate, number) for rate in SMALL for number in everyone]
ended, _ = train_all([start(add, False, depth - 2, width, rows.shape[1], classes, number)
                      for _, number in slow], lambda p, pictures: scores(p, pictures, add),
                     [rate for rate, _ in slow], 2 * epochs)
claims.check("emp-highway-between.sum",
             "Of {count} trainings of the sum from He's weights at these rates, {finite:d} end "
             "with a loss below a million. At five more, from 10⁻⁸ to 10⁻⁴, some end with a "
             "number; the lowest is {slow:.1f}, and guessing has {guess:.2f}.",
             count=kinds["add", False][0].size, guess=guess,
             finite=(int((kinds["add", False][0] < 1e6).sum()), "==", 0),
             slow=(ended.nan_to_num(math.inf).min().item(), ">", guess))

# %% [markdown]
# At this depth and budget, between these starts, the start decides: the gate without its bias is no help, and a network without gate, or even without shortcut, trains when it begins near a copy. Which of the three near a copy gets furthest we leave open: two seeds of one rule lie further apart than some rules do.
# ResNet's sum begins with He's weights too, and trains. But its branches have BatchNorm (section 4), ours here have not; and a normalised branch adds little to a sum that has grown over many blocks, so at the start most of its blocks are nearer to a copy (De and Smith 2020).
#
# What does the start do to the gradient? On the way back each layer multiplies it. Here it is at the first layer, by depth, before any training. A fourth rule joins: *dense*, each layer reads all earlier ones.

# %% tags=["define", "fold"]
# The gradient at the first layer, for the three rules and for layers that read all before them.
def first_slope(rule, near, layers, number):
    """Length of the loss's gradient by the first layer's weights."""
    p = {name: value[None].to(rows).requires_grad_() for name, value in
         start(rule, near, layers, width, rows.shape[1], classes, number).items()}
    loss = losses(scores(p, rows[:256], rule), y[:256]).sum()
    return torch.autograd.grad(loss, p["first"])[0].norm().item()

def dense_slope(layers, number):
    """The same for layers of He's weights that read all before them; each adds 8 channels."""
    with runtime.seeded(number):
        x = rows[:256] @ (first := torch.randn(rows.shape[1], width).to(rows)
                          .mul_(math.sqrt(2 / rows.shape[1])).requires_grad_())
        for _ in range(layers):
            new = torch.randn(x.shape[1], 8).to(rows) * math.sqrt(2 / x.shape[1])
            x = torch.cat([x, torch.relu(x @ new)], 1)
        out = x @ (torch.randn(x.shape[1], classes).to(rows) / math.sqrt(x.shape[1]))
    return torch.autograd.grad(F.cross_entropy(out, y[:256]), first)[0].norm().item()

# %%
DEPTHS = (2, 10, 20, 40, 60)
slopes = {"plain": [[first_slope(plain, False, n, s) for n in DEPTHS] for s in everyone[2:]],
          "sum": [[first_slope(add, False, n, s) for n in DEPTHS] for s in everyone[2:]],
          "gate, bias −4": [[first_slope(gate, True, n, s) for n in DEPTHS] for s in everyone[2:]],
          "gate, bias 0": [[first_slope(gate, False, n, s) for n in DEPTHS] for s in everyone[2:]],
          "dense": [[dense_slope(n, s) for n in DEPTHS] for s in everyone[2:]]}

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.3))
middle = {name: np.exp(np.log(np.maximum(values, 1e-30)).mean(0))
          for name, values in slopes.items()}
STYLES = {"plain": "C1-", "sum": "C3-", "gate, bias −4": "C0-", "gate, bias 0": "C0--",
          "dense": "C2-"}
for name, values in middle.items():
    ax.plot(DEPTHS, values, STYLES[name], marker="o")
    apart = {"dense": 8, "plain": 1 / 5}.get(name, 1)  # names do not touch
    ax.text(61.5, values[-1] * apart, name, fontsize=12.5, va="center", color=STYLES[name][:2])
ax.set(yscale="log", xlabel="layers between the first and the last", xlim=(0, 80),
       ylabel="gradient at the first layer", xticks=DEPTHS)
ax.set_title("Untrained: closed gates and dense keep the gradient, He's sums do not")
figures.save(fig, "emp-shortcuts-trend",
             caption=f"Length of the gradient by the first layer's weights before training, "
                     f"mean of {judges} seeds (of the logarithm), 256 pictures; no "
                     "normalisation. Plain, sum and dense begin with He's weights.",
             alt="With depth the sum's gradient grows by many powers of ten, the half open gate's "
                 "falls by many, plain falls, and the closed gate's and dense stay.")
claims.check("emp-shortcuts-trend",
             "From 2 to 60 layers the gradient at the first layer changes by this power of ten: "
             "plain {plain:.1f}, gate half open {half:.1f}, gate nearly closed {closed:.1f}, "
             "dense {dense:.1f}, sum {sum:.1f} (mean of {count} seeds, untrained).",
             count=judges,
             plain=math.log10(middle["plain"][-1] / middle["plain"][0]),
             half=(math.log10(middle["gate, bias 0"][-1] / middle["gate, bias 0"][0]), "<", -4),
             closed=(math.log10(middle["gate, bias −4"][-1] / middle["gate, bias −4"][0]), "in",
                     (-2, 1)),
             dense=(math.log10(middle["dense"][-1] / middle["dense"][0]), "in", (-2, 2)),
             sum=(math.log10(middle["sum"][-1] / middle["sum"][0]), ">", 5))

# %% tags=["fold"]
layer = models.highway.Highway(lambda: nn.Linear(width, width), gate_bias=0.0).to(rows)
spot = torch.randn(64, width, generator=torch.Generator().manual_seed(1)).to(rows)

def with_bias(bias):
    nn.init.constant_(layer.gate.bias, bias)
    with torch.no_grad():
        return layer(spot)

with torch.no_grad():
    ordinary = torch.relu(layer.transform(spot))
claims.check("eq-highway",
             "A highway layer differs from its input by at most {copy:.0e} at gate bias −20, and "
             "from its plain layer by {plain:.0e} at +20.",
             copy=((with_bias(-20.0) - spot).abs().max().item(), "<", 1e-6),
             plain=((with_bias(20.0) - ordinary).abs().max().item(), "<", 1e-6))

# %% [markdown]
# **We now know** that highway's bias is not a detail, and that beginning near a copy is something a gate, a small branch or an identity matrix can give.
# **This does not show** which rule is best once each is well started: six epochs, thirty layers, small digits, no normalisation. Nor how negative the bias must be: we tried 0 and −4. Nor that the gradient's size is the reason: the figure has no sum and no plain stack near a copy.
#
# **Exercise 15.3.** A highway layer with numpy. `x` (N, D); `W`, `V` (D, D) and `b`, `c` (D,): $H = \text{ReLU}(x W + b)$, $T = \sigma(x V + c)$. Return $y$ and the share of $T$ that is above one half.

# %%
def highway(x, W, b, V, c):
    """(y, share of the gates that are more open than closed)."""
    ...

exercises.check("15.3", highway)

# %% [markdown]
# ## 4 · Keep the path clean
#
# In ResNet's block a ReLU follows the addition, $\text{ReLU}(x + F(x))$: what is negative cannot pass. The *pre-activation* block of 2016 moves BatchNorm and ReLU to the front of $F$, and nothing stands on the path: $x + F(x)$.
# To part two causes there is a block between: ResNet's own, only without the ReLU after the addition (*bare*). Each kind is trained at five learning rates; two seeds choose one of them, the others judge. (The layers of our networks here are counted as the first and two a block; the one that gives the scores is left out. In the 30 layers of section 3 and in ResNets of 110 or 1001 layers it is counted.)

# %% tags=["define"]
def norm(x, scale, shift):
    """BatchNorm for networks (networks, width, N), with the statistics of these N pictures."""
    flat = x.reshape(1, -1, x.shape[2])  # each unit of each network is a channel
    return F.batch_norm(flat, None, None, scale.flatten(), shift.flatten(), True).view_as(x)

def begin(blocks, width, inputs, classes, number):
    """He's first weights for two layers a block, with the scales and shifts of BatchNorm."""
    p = start(add, False, 2 * blocks, width, inputs, classes, number)
    del p["b"]  # BatchNorm has shifts
    return p | {"scale": torch.ones(2 * blocks + 1, width),
                "shift": torch.zeros(2 * blocks + 1, width)}

def residual(p, pictures, kind):
    """Scores of networks with blocks of a kind: "post", "bare" or "pre"."""
    x = p["first"] @ pictures.T  # (networks, width, N)
    W, scale, shift = (p[name].unbind(1) for name in ("W", "scale", "shift"))  # by layer

    def bn(x, place):
        return norm(x, scale[place], shift[place])

    if kind != "pre":
        x = torch.relu(bn(x, -1))
    for i in range(0, len(W), 2):
        if kind == "pre":
            h = W[i] @ torch.relu(bn(x, i))
            x = x + W[i + 1] @ torch.relu(bn(h, i + 1))
        else:
            h = torch.relu(bn(W[i] @ x, i))
            x = x + bn(W[i + 1] @ h, i + 1)
            x = torch.relu(x) if kind == "post" else x
    if kind == "pre":
        x = torch.relu(bn(x, -1))
    return torch.baddbmm(p["scores"].expand(-1, -1, x.shape[2]), p["last"], x)

# %%
exercises.predict("15.p4", "101 layers. At the smallest of five learning rates, 0.01, which has "
                  "the lower training loss?", ("ReLU after the addition", "pre-activation"))

# %%
def trained(kind, blocks):
    return at_best_rate(lambda number: begin(blocks, width, rows.shape[1], classes, number),
                        lambda p, pictures: residual(p, pictures, kind), epochs)

deep = {kind: trained(kind, blocks) for kind in ("post", "bare", "pre")}
shallow = {kind: trained(kind, max(blocks // 10, 1)) for kind in ("post", "pre")}

# %% tags=["nbval-varies", "fold"]
low = {kind: deep[kind][0][0].mean() for kind in deep}  # at the smallest rate
exercises.reveal("15.p4", "pre-activation" if low["pre"] < low["post"]
                 else "ReLU after the addition",
                 f"{low['post']:.2f} with the ReLU after the addition, {low['pre']:.2f} with "
                 "pre-activation. At its best rate each looks different.")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.3))
ax.axhline(guess, color="0.35", linestyle=":")
ax.text(0.0105, guess * 1.08, "guessing", fontsize=12)
for kind, colour, name in (("post", "C1", "ReLU after addition"), ("bare", "C2", "bare"),
                           ("pre", "C0", "pre-activation")):
    runs = np.minimum(deep[kind][0], 20)
    centre = np.median(runs, axis=1)
    ax.plot(RATES, centre, "o-", color=colour)
    ax.fill_between(RATES, runs.min(1), runs.max(1), color=colour, alpha=0.2, linewidth=0)
    at = {"post": (0.5, 1.4), "bare": (0.021, 0.33), "pre": (0.4, 0.45)}[kind]
    ax.text(*at, name, color={"C1": "#b06800", "C2": "#00695f"}.get(colour, colour), fontsize=13,
            ha="center" if kind != "pre" else "left")
ax.set(xscale="log", yscale="log", xlabel="learning rate", ylim=(0.08, 8),
       ylabel="training loss", xticks=RATES, xticklabels=[f"{rate:g}" for rate in RATES],
       yticks=[0.1, 0.3, 1, 3], yticklabels=["0.1", "0.3", "1", "3"])
ax.set_title(f"{2 * blocks + 1} layers: at rate 0.01 one would choose the wrong block")
figures.save(fig, "emp-preact-better",
             caption=f"Training loss after {epochs} epochs with {blocks} residual blocks, "
                     f"{dataset}; line: median of {len(everyone)} seeds, band: all of them. "
                     "Values out of the picture are larger or no numbers. In the end BatchNorm "
                     "uses the statistics of all training pictures.",
             alt="At a rate of 0.01 pre-activation is worst; its curve falls to the right and "
                 "ends lowest, at 1. The ReLU after the addition has its best at 0.03 to 0.1, "
                 "far above.")

# %% tags=["nbval-varies", "fold"]
claims.check("emp-preact-better",
             "{layers} layers, {epochs} epochs, each at the best of five rates: training loss "
             "{post:.2f} with a ReLU after the addition, {bare:.2f} without it, {pre:.2f} with "
             "pre-activation.", layers=2 * blocks + 1, epochs=epochs,
             post=(deep["post"][2].tolist(), ">=", 0.6),
             bare=(deep["bare"][2].tolist(), "<=", 0.6),
             pre=(deep["pre"][2].tolist(), "<=", 0.35), seeds=judges, on="every")
claims.check("emp-preact-better.shallow",
             "With a tenth of the blocks: {post:.2f} and {pre:.2f}. The difference is {less:.2f}, "
             "with all blocks {more:.2f}.", post=shallow["post"][2].tolist(),
             pre=shallow["pre"][2].tolist(), less=shallow["post"][2].mean()
             - shallow["pre"][2].mean(),
             more=(deep["post"][2].mean() - deep["pre"][2].mean(), ">",
                   shallow["post"][2].mean() - shallow["pre"][2].mean()), seeds=judges)

claims.check("emp-preact-better.rate",
             "All at rate {rate:g}: {post:.2f} with the ReLU after the addition, {bare:.2f} "
             "without it, {pre:.2f} with pre-activation, which is last there: {behind:.2f} behind.",
             rate=RATES[0], post=low["post"], bare=low["bare"], pre=low["pre"],
             behind=(low["pre"] - max(low["post"], low["bare"]), ">", 0))

# %% [markdown]
# Taking the ReLU off the path, and nothing else, takes away most of the difference; the new order, with a BatchNorm in front of the scores, the rest. So at this depth and budget the ReLU on the path is a cause. How much of the rest is the order's, we have not parted: the bare block overflows at the larger rates, where pre-activation is at its best (which may lie even higher than our largest), but it also has no BatchNorm in front of the scores.
# And mind the left edge: compared at that one rate, pre-activation, the best in the end, would have come last (so it is with most of the other seeds that were tried, not with all).
#
# What "clean" means can be said exactly: set all branches to zero, and see what comes through.

# %% tags=["ledger:arch-preact"]
with runtime.seeded(seed):
    net = models.preact_resnet_cifar(20, width=8, shortcut="A").double().eval()
    old = models.build("resnet20", width=8).double().eval()
    spot = torch.randn(2, 8, 8, 8, dtype=torch.float64)  # negative values too
with torch.no_grad():
    for block in (*net.layer1, *old.layer1):
        for part in (block.conv2, block.bn2):
            part.weight.zero_()  # F(x) = 0
    through = {"pre": net.layer1(spot), "post": old.layer1(spot)}

# %% tags=["fold"]
claims.check("arch-preact",
             "Three blocks with zero branches change their input by {pre:.0f} with pre-activation "
             "and by up to {post:.2f} with the ReLU after the addition: the negative half is cut.",
             pre=((through["pre"] - spot).abs().max().item(), "==", 0),
             post=((through["post"] - spot).abs().max().item(), ">", 1))
claims.check("arch-preact.size", "At 110 layers both have {count:,} parameters.",
             count=(sum(p.numel() for p in models.preact_resnet_cifar(110).parameters()), "==",
                    sum(p.numel() for p in models.build("resnet110").parameters())))

# %% [markdown]
# **We now know** one cause, by switching it off alone; and that a difference that is large at 101 layers is smaller at 11.
# **This does not show** a better accuracy on new pictures, or with longer training; for that see the paper's tables: on CIFAR-10 with 1001 layers 7.61 % test error for the old block and 4.92 % for the new one.
#
# **Exercise 15.4.** A fair comparison. `table` has the losses (rates, seeds) of one design; the first `count` seeds choose the rate (lowest mean; nan counts as infinitely bad), the others judge. Return the row of the rate and the mean of the judges there.

# %%
def fair(table, count):
    """(row of the rate chosen by the first `count` seeds, mean of the other seeds)."""
    ...

exercises.check("15.4", fair)

# %% [markdown]
# ## 5 · Drop layers
#
# *Stochastic depth* trains a ResNet in which each block is skipped by chance, anew for each mini-batch. Block $l$ of $L$ survives with probability $p_l = 1 - \frac{l}{L}(1 - p_L)$, with $p_L = 0.5$ in the end: early blocks nearly always, the last half of the time. In the test all blocks are used, each branch times $p_l$.

# %%
exercises.predict("15.p5", "Before training: is the gradient at the first layer larger with blocks "
                  "dropped than with all of them?", ("larger", "smaller"))

# %%
def first_gradient(net, draws):
    """Mean length of the gradient at the first convolution."""
    lengths = []
    for _ in range(draws):
        net.zero_grad()
        F.cross_entropy(net(x[:64]), y[:64]).backward()
        lengths.append(net.conv1.weight.grad.norm().item())
    return np.mean(lengths)

# %%
ratio = []
for number in everyone[2:]:
    with runtime.seeded(number):
        net = models.stochastic_depth_cifar(38, width=8, in_channels=x.shape[1],
                                            num_classes=classes).to(x)
        full = models.stochastic_depth_cifar(38, width=8, in_channels=x.shape[1], survival=1.0,
                                             num_classes=classes).to(x)
        full.load_state_dict(net.state_dict())  # the same weights, nothing dropped
        ratio.append(first_gradient(net, 4) / first_gradient(full, 1))

# %% tags=["nbval-varies", "fold", "ledger:arch-stochastic-depth-net"]
exercises.reveal("15.p5", "larger" if np.mean(ratio) > 1 else "smaller",
                 f"It is {np.mean(ratio):.2f} times that of the whole network.")
stream = np.random.default_rng(seed)
chances = np.array(models.stochastic_depth.survivals(54, 0.5))
alive = (stream.random((2000, 54)) < chances).sum(1)
claims.check("emp-stochastic-depth",
             "ResNet-110 has 54 blocks; (3 L − 1) / 4 = {expected:.2f} survive on average, in "
             "2,000 draws {drawn:.2f}. At 38 layers, untrained, the first layer's gradient is "
             "{ratio:.2f} times that of the whole network with the same weights.",
             seeds=judges, on="every",
             expected=(float(chances.sum()), "~", 40.25, 1e-6),
             drawn=(float(alive.mean()), "~", 40.25, 0.3),
             ratio=([float(each) for each in ratio], "<", 1))

# %% [markdown]
# So a quarter of the blocks' work is saved in training. A larger first gradient is *not* what it brings here, in an untrained network that has shortcuts; during training the authors report a larger one; that we have not measured.
# And why times $p_l$? For the sum before a ReLU the mean over many draws is $x + p F(x)$. After the ReLU it is not: the ReLU of a mean is at most the mean of ReLUs.

# %%
stream = torch.Generator().manual_seed(seed)
value, branch, survival = torch.tensor([0.3, -0.4, 1.0]), torch.tensor([-1.0, 1.0, 0.5]), 0.6
lives = (torch.rand(20_000, 1, generator=stream) < survival).float()
drawn = value + lives * branch  # (20000, 3)
whole = value + survival * branch
print("sum      ", drawn.mean(0).numpy().round(3), whole.numpy().round(3))
print("with ReLU", drawn.relu().mean(0).numpy().round(3), whole.relu().numpy().round(3))

# %% tags=["fold"]
error = drawn.std(0) / math.sqrt(len(drawn))
claims.check("eq-stochastic-depth",
             "20,000 draws: the mean of the sum is within {errors:.1f} standard errors of x + p F; "
             "after the ReLU it lies {above:.2f} above the test's output for the second number.",
             errors=(((drawn.mean(0) - whole) / error).abs().max().item(), "<", 3),
             above=((drawn.relu().mean(0) - whole.relu())[1].item(), ">", 0.02))
with runtime.seeded(seed):
    one = models.stochastic_depth_cifar(20, width=8, survival=1.0).eval()
    same = models.build("resnet20", width=8).eval()
same.load_state_dict(one.state_dict())
with torch.no_grad():
    spot = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    claims.check("eq-stochastic-depth.all",
                 "With survival 1 the network is the ResNet: outputs differ by {off:.0f}.",
                 off=((one(spot) - same(spot)).abs().max().item(), "==", 0))

# %% [markdown]
# *FractalNet* drops whole paths, and has no residual sums. A block has columns of 1, 2, 4 … convolutions side by side, which meet in *joins*: the mean of what arrives. *Drop-path* leaves out some inputs of joins, but never all of one, or, in half of the mini-batches, drawn by chance, runs one column alone. In the test the whole network is used. Or a single column? (BatchNorm's means are gathered anew for each, on the training pictures: those kept in training mix single columns and the whole, and fit neither.)

# %% tags=["define"]
def accuracy_of(net, column):
    """On test pictures, by one column or (None) all; BatchNorm's means are those of this path."""
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.reset_running_stats()
            part.momentum = None  # the mean of what it sees
    with torch.no_grad():
        net.train()(x, column=column)  # all training pictures once; no step
        return (net.eval()(xt, column=column).argmax(1) == yt).float().mean().item()

# %%
def columns(drop_path, number):
    """Accuracies on test pictures: each column alone, and the whole network."""
    with runtime.seeded(number):
        net = models.fractalnet_cifar(columns=3, blocks=2, width=8, image_size=x.shape[-1],
                                      in_channels=x.shape[1], num_classes=classes,
                                      dropouts=(0.0, 0.0), drop_path=drop_path).to(x)
        step = torch.optim.SGD(net.parameters(), lr=0.15, momentum=0.9)
        training.fit(net, train, None, optimizer=step, epochs=fractal_epochs, batch_size=64,
                     progress=False)
    net.drop_path = 0.0
    return [accuracy_of(net, column) for column in (0, 1, 2, None)]

alone = {drop: np.array([columns(drop, number) for number in everyone[2:4]])
         for drop in (0.15, 0.0)}  # (seeds, 4)

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.0))
for (drop, values), colour, off in zip(alone.items(), ("C0", "C1"), (-0.19, 0.19), strict=True):
    ax.bar(np.arange(4) + off, values.mean(0), 0.36, color=colour)
    for seed_values in values:
        ax.plot(np.arange(4) + off, seed_values, "o", color="0.15", markersize=5)
ax.axhline(1 / classes, color="0.35", linestyle=":")
ax.text(3.45, 1 / classes + 0.02, "guessing", fontsize=12)
ax.text(-0.37, 1.07, "with drop-path", color="C0", fontsize=13)
ax.text(0.75, 1.07, "without", color="#b06800", fontsize=13)
ax.set(xticks=range(4), ylim=(0, 1.17), ylabel="accuracy, test pictures", xlim=(-0.5, 4.1))
ax.set_xticklabels(["1 a block", "2 a block", "4 a block", "all columns"], fontsize=12.5)
ax.set_xlabel("used in the test: one column, by its convolutions a block, or all")
ax.set_title("After drop-path each column can work alone")
figures.save(fig, "emp-fractalnet-no-residual",
             caption=f"FractalNet of two blocks with three columns, {fractal_epochs} epochs, "
                     f"{dataset}; bars: mean of two seeds, dots: each. BatchNorm's means "
                     "are gathered anew for each path.",
             alt="With drop-path single columns have high accuracies and the whole network the "
                 "highest; without it single columns lie far lower, and the whole network is best "
                 "of all.")

# %% tags=["nbval-varies", "fold"]
single = {drop: values[:, :3].mean(1).tolist() for drop, values in alone.items()}
claims.check("emp-fractalnet-no-residual",
             "After {epochs} epochs single columns name {with_drop:.0%} of the test pictures "
             "rightly (mean of three) with drop-path, {without:.0%} without. The whole network: "
             "{full:.1%} with; without it {ahead:.1%} more.", epochs=fractal_epochs,
             with_drop=(single[0.15], ">=", 0.75), without=(single[0.0], "<=", 0.6),
             full=(alone[0.15][:, 3].tolist(), ">=", 0.9),
             ahead=((alone[0.0] - alone[0.15])[:, 3].tolist(), ">=", 0), seeds=2, on="every")
shapes = {}
for count in (2, 3, 4):
    block = models.fractalnet.FractalBlock(count, 4, 4)
    found = sum(isinstance(part, nn.Conv2d) for part in block.modules())
    shapes[f"{count} columns"] = ([len(block.columns[-1]), found], [2 ** (count - 1), 2**count - 1])
claims.table("arch-fractalnet", "Longest path and number of convolutions of a fractal block.",
             shapes, columns=("block", "counted", "2^(C−1), 2^C − 1"))
with runtime.seeded(seed):
    empty = sum(len(models.fractalnet.alive(3, 0.9)) == 0 for _ in range(10_000))
claims.check("arch-fractalnet.alive", "In 10,000 draws that drop each of three inputs with 90 %, "
             "{empty:d} left a join empty.", empty=(empty, "==", 0))

# %% [markdown]
# What drop-path buys is that a part can be used alone. The whole network gains nothing by it in this short training. (The learning rate is the best of 0.05, 0.15 and 0.4 for the whole with drop-path, on two other seeds; without it the three were alike. Test digits are probably by the same hands as the training digits.)
#
# **We now know** what is dropped in training and kept in the test, and how a fractal's columns come to work alone.
# **This does not show** that dropping regularises, or that no residual sums are needed: in a fractal, too, every join has a short path to it. Our columns have at most eight layers, which is not deep.
#
# **Exercise 15.5.** Stochastic depth as `torchvision.ops.StochasticDepth` does it: in *training* the surviving branch is divided by its probability, in the test it is used as it is. `lives` is True or False (used in training only). Return the sum, without a ReLU.

# %%
def deep_or_not(x, branch, survival, lives, training):
    """x plus the branch as training or test want it."""
    ...

exercises.check("15.5", deep_or_not)

# %% [markdown]
# ## In practice
#
# - Choose by the budget that binds: memory of the phone (parameters), time (measure on the machine itself), memory in training (activations). `torchvision.models.get_model_weights(name)` has size, work and accuracy of each file of weights.
# - Start: `resnet50(weights="IMAGENET1K_V2")`; small: `mobilenet_v3_large`, `efficientnet_b0`; large: `convnext_tiny` and up, or a vision transformer. In timm: `timm.list_models(pretrained=True)`.
# - Compare designs under the same recipe, each at its own best rate; quoted accuracies come from different recipes.
# - Stochastic depth: `torchvision.ops.StochasticDepth`; in timm `drop_path_rate`.
# - Begin near a copy: `zero_init_residual=True` (each block's last BatchNorm begins with scale 0), LayerScale (in `convnext_tiny`). Without normalisation: Fixup, SkipInit.
#
# ## History
#
# - May 2015: highway networks (R. Srivastava, K. Greff, J. Schmidhuber). December 2015: ResNet.
# - February 2016: SqueezeNet; Inception-v4 and Inception-ResNet. March: pre-activation; stochastic depth. May: wide residual networks; FractalNet; A. Canziani, A. Paszke and E. Culurciello draw accuracy against operations as discs. August: DenseNet.
# - 2017: DenseNet is a best paper of CVPR; MobileNet. 2019: MobileNet v3, EfficientNet.
# - 2020: vision transformers. 2021: R. Wightman, H. Touvron and H. Jégou train ResNet-50 anew, to 80.4 % top-1. 2022: ConvNeXt.
#
# ## Exercises that are left
#
# **15.6 Open.** You may spend 500 million multiply-adds and 6 million parameters. Choose from the table of section 1; then say what you would measure before you sign.
#
# **15.7 Open.** Look again at the first figure of section 3. Name two things that it does *not* show. (Other depths, `-p depth 10`; a bias of −2; normalisation; more epochs; new pictures?)
#
# ## Summary
#
# - Three currencies, three orders; leave out what is beaten in the one that binds. The recipe of training may count as much as the design.
# - Most of SqueezeNet's fifty times is the missing linear layers; 0.5 MB needs compression on top.
# - A gate, a sum and even a plain stack of 30 layers trained here if they began near a copy, and hardly or not at all from far; a highway layer's negative bias is that start.
# - At 101 layers the ReLU on the path did harm, each block at its best rate; at the smallest rate pre-activation came last: one rate for all would have misled.
# - Stochastic depth saves a quarter of the blocks in training; it did not enlarge the first gradient here. Drop-path makes columns that work alone.

# %% [markdown]
# ## Also in the lectures

# %% tags=["fold", "ledger:err-inception-v4-residual"]
sums = {}
for name in ("inception_v4", "inception_resnet_v1", "inception_resnet_v2"):
    with torch.device("meta"):
        each = models.build(name)
    table = cost.table(each, (3, 299, 299))
    parts = {row.name: row.output_shape for row in table.grouped(1).rows}
    sums[name] = (sum(row.kind == "add" for row in table.rows), parts)
claims.table("arch-inception-v4", "Additions of two paths, counted in the traced networks; and "
             "channels and side of Inception-v4's stages for 299 × 299 pixels.",
             {"additions in Inception-v4": (sums["inception_v4"][0], 0),
              "additions in Inception-ResNet-v1": (sums["inception_resnet_v1"][0], 20),
              "additions in Inception-ResNet-v2": (sums["inception_resnet_v2"][0], 20),
              "v4, stage A": (sums["inception_v4"][1]["stage_a"], (384, 35, 35)),
              "v4, stage B": (sums["inception_v4"][1]["stage_b"], (1024, 17, 17)),
              "v4, stage C": (sums["inception_v4"][1]["stage_c"], (1536, 8, 8))},
             columns=("what", "counted", "the paper"))

# %% [markdown] tags=["ledger:err-squeezenet-compression"]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | Inception-v4 is ResNet + Inception | Inception-v4 has no residual sums; Inception-ResNet-v1 and v2, of the same paper, have | counted in "Also in the lectures" |
# | VGG: highest memory, most operations | most parameters and multiply-adds of the seven compared; the most activations has ResNet-152 | section 1 |
# | GoogLeNet: most efficient | of AlexNet, VGG, GoogLeNet and ResNets with a top-5 above 89 % it has fewest parameters and multiply-adds; SqueezeNet is smaller at a lower accuracy, later networks are better at less work | section 1 |
# | width beats depth: wide ResNet-50 outperforms ResNet-152 | at nearly the same work, with torchvision's first weights, by less than a quarter of a point, about what the wide one's own recipe is said to gain; with its second ones the deep one is ahead | section 1; metadata of the weights; torchvision's pull request 912 |
# | SqueezeNet needs no compression for < 0.5 MB | fifty times fewer parameters come without compression (5 MB); below 0.5 MB it takes Deep Compression | section 2 |
# | SqueezeNet 2017 | arXiv, February 2016 | Iandola et al. |
# | stochastic depth reduces vanishing gradients | fewer blocks to pass in training, yes; the authors report larger gradients at the first layer during training; untrained, at 38 layers, it was smaller here | section 5 |
# | FractalNet: residuals are not needed | its joins are means with short paths beside the long ones, so shortcuts of another kind | section 5 |
# | ResNet is the best default, trend to extreme depth | the view of 2017; since then wider, cheaper and attention networks, and better recipes for ResNet itself | section 1 (wider, cheaper, recipes); In practice and History (attention) |
#
# ## Sources
#
# - The notes: lecture 004, section 09 on architectures, section 10 on highway networks (after CS231n, Stanford 2017).
# - Srivastava, Greff, Schmidhuber: Highway networks, arXiv:1505.00387; Training very deep networks, arXiv:1507.06228.
# - Iandola et al.: SqueezeNet, arXiv:1602.07360. Szegedy et al.: Inception-v4, Inception-ResNet, arXiv:1602.07261.
# - He et al.: Identity mappings in deep residual networks, arXiv:1603.05027. Huang et al.: Deep networks with stochastic depth, arXiv:1603.09382.
# - Zagoruyko, Komodakis: Wide residual networks, arXiv:1605.07146. Larsson et al.: FractalNet, arXiv:1605.07648. Huang et al.: Densely connected convolutional networks, arXiv:1608.06993.
# - De, Smith: Batch normalization biases residual blocks towards the identity function in deep networks, arXiv:2002.10444.
# - Canziani, Paszke, Culurciello: An analysis of deep neural network models for practical applications, arXiv:1605.07678.
# - Wightman, Touvron, Jégou: ResNet strikes back, arXiv:2110.00476. torchvision: accuracies in the metadata of its weights.
