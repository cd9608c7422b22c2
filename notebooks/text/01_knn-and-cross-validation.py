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
# # 01 · kNN and cross-validation
# ### Can a picture be recognised by finding the one most like it?
#
# **You will be able to**
# - treat a picture as a list of numbers, and say what the distance of two pictures measures and what it misses;
# - write a k-nearest-neighbour classifier with loops, without loops, and in pieces that fit into memory;
# - choose k by cross-validation, and say why neither the training pictures nor the test pictures may choose it;
# - show which harmless changes of a picture break the method, and what a better representation repairs.
#
# **You need** Python, arrays and their shapes.
# Sections 7 and 8 train a small network; they need only that it learns from pictures, what is inside comes in later lessons.
#
# **Words.** "The notes" are the lecture notes whose sentences this course checks; where accuracies are compared, a *point* is one picture in a hundred.
#
# **It costs** about 35 seconds on two cores, most of them in section 7, where small networks are trained.

# %% tags=["parameters"]
seed: int = 0  # of everything drawn at random
dataset: str = "digits"  # or mnist, fashion_mnist, cifar10, or a folder with train/ and test/ in it
train_images: int = 1347  # training pictures, at most
test_images: int = 450  # test pictures, at most
fold_count: int = 5  # parts of the training pictures that take turns as validation set
margin: int = 4  # black pixels around each picture, within which it moves
epochs: int = 10  # passes over the training pictures, for the networks of section 7
width: int = 16  # filters in the first layer of those networks
runs: int = 3  # networks trained for each comparison, seeds 0, 1, 2, ...

# %% tags=["imports"]
import copy
import time
import tracemalloc
from dataclasses import replace
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.ndimage import rotate
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from torch import nn
from torch.nn import functional

from cnncourse import augment, claims, data, exercises, figures, plots, runtime, training, widgets

# %%
figures.use_style()
on_digits = dataset == "digits"  # where the sentences below are claimed
runtime.start(seed=seed, dtype="float64")

# %% [markdown]
# ## 1 · A picture is a block of numbers
#
# The digits come with scikit-learn: 1,797 of them, written on forms by 13 people, scanned as 32×32 black and white dots, and counted in blocks of 4×4.
# That makes 8×8 pixels with 17 grey levels, small enough that every number can be shown.

# %%
train = data.load(dataset, True).subset(train_images, seed=seed)
test = data.load(dataset, False).subset(test_images, seed=seed)
train, test

# %% tags=["ledger:fig-image-as-numbers"]
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.9))
top, left = ((side - 8) // 2 for side in train.images.shape[2:])
plots.picture_and_numbers(axes, train.images[0, 0, top:top + 8, left:left + 8])
axes[0].set_title(f"what we see: {train.classes[train.labels[0]]}")
axes[1].set_title("what the computer has")
figures.save(fig, "fig-image-as-numbers",
             caption=f"The first training picture of {dataset} and its middle 8 by 8 pixels: 0 is black, 255 white.",
             alt="A small grey picture beside the grid of its 64 pixel values.")

# %% [markdown]
# Some more, each with its label; and the mean and deviation of all training pixels, black as 0 and white as 1.

# %%
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.2))
names = [train.classes[label] for label in train.labels[:20]]
plots.image_grid(ax, train.images[:20], columns=10, labels=names)
figures.save(fig, "fig-image-as-numbers.examples", caption=f"Twenty training pictures of {dataset}.",
             alt="Two rows of ten small pictures with their labels.")
{"mean": train.statistics()[0].numpy().round(3), "deviation": train.statistics()[1].numpy().round(3)}

# %% [markdown]
# A colour picture has three such blocks, one each for red, green and blue.
# Even the smallest in common use, 32×32, is a long list, and a linear classifier over it (lesson 02) needs a weight for each number and class.
#
# The rows that follow are *claims*: sentences of the notes or of this lesson, checked by the code above them. To read `num-input-32x32x3: 3072 numbers == 3072 | holds`:
#
# - before the colon stands the name of the sentence, for looking it up;
# - then the measured number with its unit, and what it has to satisfy: equal to (`==`), at most (`<=`), within a tolerance (`~ 0.5 ± 0.1`), between two ends (`in [0, 1]`);
# - then the verdict. A claim that is false stops the lesson; *not claimed here* means that the sentence was not made for these parameters;
# - last a note, often on what the number is. "Varies with the machine" says that you may get another number; the verdict should be the same.
#
# A large array is printed as its shape, and compared entry by entry.
# Where something was repeated with several random seeds, their mean and range stand in brackets.

# %%
cat = data.photos()["chelsea"][:, 100:132, 150:182]  # one eye of a cat, (3, 32, 32)
linear = nn.Linear(cat.numel(), 10)
claims.check("num-input-32x32x3", cat.numel(), "==", 32 * 32 * 3, unit="numbers")
parameters = sum(p.numel() for p in linear.parameters())
claims.check("num-input-32x32x3.linear", parameters, "==", 30_730, unit="parameters")

# %% [markdown]
# Two parts are kept apart from the start.
# The **training** pictures may be looked at, measured and tried on as often as we like.
# The **test** pictures answer one question, once: how good is the result on pictures nobody has seen?
# Section 4 takes a third part, for **validation**, out of the training pictures.
# First, no test picture may also be a training picture.

# %% tags=["define"]
def pixels(images):
    """Pictures (N, C, H, W) as rows of floating point numbers (N, D), from 0 to 255."""
    return images.flatten(1).double().numpy()

# %%
train_pixels, test_pixels = pixels(train.images), pixels(test.images)
in_both = {row.tobytes() for row in train_pixels} & {row.tobytes() for row in test_pixels}
claims.check("prac-train-val-test-split", len(in_both), "==", 0, unit="pictures in both parts",
             given=on_digits, note=f"{len(train)} for training, {len(test)} for the test")

# %% [markdown]
# ## 2 · How far apart are two pictures?
#
# Lay one picture over the other and compare pixel by pixel.
# The two usual ways to add up the differences of pictures $a$ and $b$ with $D$ numbers each:
#
# $$L_1(a, b) = \sum_{d=1}^{D} |a_d - b_d| \qquad\qquad L_2(a, b) = \sqrt{\sum_{d=1}^{D} (a_d - b_d)^2}$$
#
# $L_1$ counts every difference by its size; $L_2$ lets large differences weigh more.
#
# **Predict.** Pictures are stored as bytes. What is `3 - 5` in bytes?

# %%
np.uint8([3]) - np.uint8([5]), np.float64([3]) - np.float64([5])

# %% [markdown]
# Bytes have no minus: the difference of two nearly equal greys becomes 254, and nothing warns.
# That is why `train_pixels` above are floating point numbers.
# Whole numbers up to $2^{53}$ are exact there, so that everything below is exact as well until the square root.
#
# Now the distance of every test picture to every training picture, as one table.
# First as one would say it:

# %% tags=["define", "ledger:eq-knn-l1-l2"]
def l2_two_loops(test, train):
    """Euclidean distances (M, N) of each row of test (M, D) from each row of train (N, D)."""
    distances = np.empty((len(test), len(train)))
    for i in range(len(test)):
        for j in range(len(train)):
            distances[i, j] = np.sqrt(((test[i] - train[j]) ** 2).sum())
    return distances

# %% [markdown]
# The inner loop can go: subtracting one picture from all training pictures at once is one operation, by broadcasting $(N, D) - (D)$.

# %% tags=["define"]
def l2_one_loop(test, train):
    """Like `l2_two_loops`, one test picture against all training pictures at a time."""
    distances = np.empty((len(test), len(train)))
    for i in range(len(test)):
        distances[i] = np.sqrt(((train - test[i]) ** 2).sum(axis=1))
    return distances

# %% [markdown]
# Both loops at once would make a block of $M \times N \times D$ differences: 310 MB here, and far more for MNIST (exercise 01.1).
# The binomial formula avoids it. With $\|a\|^2 = \sum_d a_d^2$,
#
# $$\|a - b\|^2 = \|a\|^2 - 2\, a \cdot b + \|b\|^2,$$
#
# and the middle term, for all pairs, is one matrix product, the operation that processors do best.

# %% tags=["define"]
def l2_no_loop(test, train):
    """Like `l2_two_loops`, from one matrix product; holds a few tables of (M, N) numbers."""
    squares = (test**2).sum(axis=1)[:, None] - 2 * test @ train.T + (train**2).sum(axis=1)
    return np.sqrt(np.maximum(squares, 0))  # rounding can push the square of a distance near 0 below it

# %% [markdown]
# Absolute values do not multiply out, so $L_1$ keeps one loop.

# %% tags=["define"]
def l1_distances(test, train):
    """Manhattan distances (M, N) of each row of test (M, D) from each row of train (N, D)."""
    return np.stack([np.abs(train - picture).sum(axis=1) for picture in test])

# %% [markdown]
# Three ways to one table must agree, here to the last bit, and with the library's function.

# %%
few, some = test_pixels[:20], train_pixels[:300]
two_loops, one_loop, no_loop = (way(few, some) for way in (l2_two_loops, l2_one_loop, l2_no_loop))
l1_library, l2_library = (torch.cdist(torch.tensor(few), torch.tensor(some), p=p) for p in (1, 2))
claims.check("eq-knn-l1-l2", one_loop, "==", two_loops, note="one loop and two loops")
claims.check("eq-knn-l1-l2.no-loop", no_loop, "==", two_loops, note="no loop and two loops")
claims.check("eq-knn-l1-l2.torch", no_loop, "~", l2_library, tolerance=1e-6, note="no loop and torch")
claims.check("eq-knn-l1-l2.l1", l1_distances(few, some), "~", l1_library, tolerance=1e-6, note="L1 and torch")

# %% [markdown]
# They differ in time: the same 6,000 distances, each way run five times, the fastest counted.

# %%
def seconds(function, *arguments):
    """The fastest of five calls."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return min(times)

two, one, none = (seconds(way, few, some) for way in (l2_two_loops, l2_one_loop, l2_no_loop))
claims.check("eq-knn-l1-l2.one-loop-time", two / one, ">", 2, varies=True, given=on_digits,
             unit="times as fast as two loops")
claims.check("eq-knn-l1-l2.no-loop-time", two / none, ">", 10, varies=True, given=on_digits,
             unit="times as fast as two loops")

# %% [markdown]
# ## 3 · The neighbours vote
#
# kNN with $k = 1$ is written 1-NN.
# Training is: keep the pictures.
# To name a new one, find the $k$ training pictures at the smallest distance and let their labels vote.

# %% tags=["define"]
def nearest(distances, k):
    """Columns (M, k) of the k smallest distances in each row of (M, N), nearest first."""
    return np.argsort(distances, axis=1, kind="stable")[:, :k]  # equal ones: in the order of their columns

# %% [markdown]
# What if two classes get the same number of votes?
# Any rule will do, if it is written down: the smaller label wins, as in scikit-learn.

# %% tags=["define"]
def predict_knn(distances, labels, k):
    """The most frequent of the k nearest labels (M,), for distances (M, N) and labels (N,).

    A tie goes to the smaller label.
    """
    votes = labels[nearest(distances, k)]  # (M, k)
    classes = np.unique(votes)
    counts = (votes[:, :, None] == classes).sum(axis=1)  # (M, classes)
    return classes[counts.argmax(axis=1)]  # argmax takes the first of equals

# %%
train_labels, test_labels = train.labels.numpy(), test.labels.numpy()
distances = l2_no_loop(test_pixels, train_pixels)
accuracy = (predict_knn(distances, train_labels, k=1) == test_labels).mean()
claims.check("emp-knn-poor-for-images.aligned", accuracy, ">=", 0.97, given=on_digits,
             note="1-NN, digits centred in their frames")

# %% [markdown]
# More than 98 of 100 digits are right, from a rule without any learning.
# The notes say that kNN solves the problem "poorly", and here it does not.
# Keep that in mind; sections 6 and 7 come back to it.
#
# Whom does it ask? In each row a test picture, then its five nearest training pictures; the last two rows are mistakes.

# %%
order = nearest(distances, 5)
wrong = np.flatnonzero(train_labels[order[:, 0]] != test_labels)[:2]
rows = np.concatenate([np.arange(2), wrong])
shown = torch.cat([torch.cat([test.images[row:row + 1], train.images[order[row]]]) for row in rows])
names = []
for row in rows:
    names.append(f"it is {test.classes[test_labels[row]]}")
    names += [f"{distances[row, n]:.0f}: {train.classes[train_labels[n]]}" for n in order[row]]

# %%
fig, ax = plt.subplots(figsize=(figures.WIDTH, 6.2))
plots.image_grid(ax, shown, columns=6, labels=names)
figures.save(fig, "emp-knn-poor-for-images.neighbours",
             caption="Test pictures (left) and their five nearest training pictures, each with its L2 distance "
                     f"and label; {dataset}.",
             alt="The nearest pictures look alike; in the two mistakes too, and there they have another label.")

# %% [markdown]
# ## 4 · Which k?
#
# Nothing in the method says which $k$ to take: $k$ and the distance are **hyperparameters**, chosen by us.
# To see what $k$ does, squeeze each picture into two numbers and draw the plane: which part of its ink lies in the upper half, and which in the left half.
# Three classes are enough.

# %% tags=["define"]
def ink_shares(images):
    """For each picture of (N, C, H, W) the shares of its ink in the upper and in the left half, (N, 2)."""
    ink = images.sum(axis=1).astype(float) + 1e-9  # (N, H, W)
    height, width = ink.shape[1:]
    upper, left = ink[:, : height // 2].sum((1, 2)), ink[:, :, : width // 2].sum((1, 2))
    return np.stack([upper, left], axis=1) / ink.sum((1, 2))[:, None]

# %%
CLASSES = (6, 7, 8)
chosen, chosen_test = (np.isin(labels, CLASSES) for labels in (train_labels, test_labels))
plane, plane_labels = ink_shares(train.images.numpy())[chosen], train_labels[chosen]
plane_test, plane_test_labels = ink_shares(test.images.numpy())[chosen_test], test_labels[chosen_test]
plane.shape, plane_test.shape

# %% [markdown]
# Every place of the plane gets the class that kNN would give it.
# The points are 120 of the training pictures.

# %% tags=["define"]
def regions(ax, points, labels, k, distance=l2_no_loop, degrees=0, names=None):
    """Draw the class that kNN gives each place of the plane, measured along axes turned by degrees."""
    low, high = points.min(axis=0) - 0.03, points.max(axis=0) + 0.03
    x, y = (np.linspace(*ends, 140) for ends in zip(low, high, strict=True))
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    turn = turned(degrees)
    kinds, index = np.unique(labels, return_inverse=True)  # classes as 0, 1, 2 for the colours
    found = predict_knn(distance(grid @ turn, points @ turn), index, k)
    found = found.reshape(140, 140)
    return plots.decision_regions(ax, x, y, found, points=points, labels=index, names=names)

# %% tags=["define"]
def turned(degrees):
    """The matrix (2, 2) that turns the axes of the plane."""
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

# %%
names = [train.classes[label] for label in CLASSES]
points, point_labels = plane[:120], plane_labels[:120]
fig, axes = plt.subplots(2, 2, figsize=(figures.WIDTH, 6.6), sharex=True, sharey=True)
for ax, k in zip(axes.flat, (1, 3, 5, 25), strict=True):
    regions(ax, points, point_labels, k, names=names).set_title(f"k = {k}")
fig.supxlabel("share of the ink in the upper half")
fig.supylabel("share of the ink in the left half")
fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
figures.save(fig, "fig-knn-decision-regions",
             caption="What kNN answers at each place, with 120 training pictures of three classes "
                     f"({', '.join(names)}) of {dataset}; L2.",
             alt="With k = 1 the regions are ragged, with islands around single points; with k = 25 they are smooth.")

# %% [markdown]
# With $k = 1$ every point owns the ground around it, and a stray picture makes an island of its class in foreign land.
# A larger $k$ outvotes the strays: the borders become smooth.
# Too large, and small provinces vanish altogether: with $k$ = all, everything is the class with most pictures.
#
# **Predict.** What is the accuracy of $k = 1$ on the training pictures themselves?

# %%
def among_themselves(features, labels, k):
    """Accuracy on pictures that are their own neighbours."""
    return (predict_knn(l2_no_loop(features, features), labels, k) == labels).mean()

claims.check("emp-knn-train-accuracy", among_themselves(plane, plane_labels, 1), "==", 1.0,
             given=on_digits, note="two numbers a picture")
claims.check("err-cv-training-values.pixels", among_themselves(train_pixels, train_labels, 1), "==", 1.0,
             given=on_digits, note="all pixels")

# %% [markdown]
# It is perfect, and says nothing: each picture is its own nearest neighbour.
# Whoever chooses $k$ by the training pictures chooses 1, always.
# Whoever chooses it by the test pictures has used them up: the best of many results is good partly by luck, and the number is no longer an answer about unseen pictures.
#
# **Cross-validation** makes unseen pictures out of training pictures.
# Cut them into $f$ parts called folds, let each fold in turn be the validation set for the others, and average.

# %% tags=["define", "ledger:eq-kfold-cv"]
def folds(count, parts, seed=0):
    """`parts` arrays of indices that together hold each of 0 ... count - 1 once, in random order."""
    return np.array_split(np.random.default_rng(seed).permutation(count), parts)

# %%
parts = folds(len(train), fold_count, seed)
sizes = [len(part) for part in parts]
each_once = sorted(np.concatenate(parts)) == list(range(len(train)))
claims.check("eq-kfold-cv", each_once, "==", True, note="each picture is in one fold")
claims.check("eq-kfold-cv.sizes", max(sizes) - min(sizes), "<=", 1, note=f"sizes {', '.join(map(str, sizes))}")

# %% [markdown]
# One row of results for each fold, one column for each $k$.

# %% tags=["define", "ledger:prac-cv-folds"]
def cross_validate(features, labels, ks, parts, distance=l2_no_loop):
    """Validation accuracy (folds, ks): each fold judged by the neighbours it has in the others."""
    scores = np.empty((len(parts), len(ks)))
    for i, valid in enumerate(parts):
        rest = np.concatenate(parts[:i] + parts[i + 1:])
        distances = distance(features[valid], features[rest])
        scores[i] = [(predict_knn(distances, labels[rest], k) == labels[valid]).mean() for k in ks]
    return scores

# %%
ks = [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100]
pixel_scores = cross_validate(train_pixels, train_labels, ks, parts)
plane_scores = cross_validate(plane, plane_labels, ks, folds(len(plane), fold_count, seed))
scores = {"all pixels": pixel_scores, "two numbers": plane_scores}
best_k = {name: ks[of.mean(axis=0).argmax()] for name, of in scores.items()}
best_k

# %% [markdown]
# Beside the validation accuracy, what the training pictures would say.

# %%
train_scores = {"all pixels": [among_themselves(train_pixels, train_labels, k) for k in ks],
                "two numbers": [among_themselves(plane, plane_labels, k) for k in ks]}

# %%
def draw_scores(ax, name):
    """Accuracy over k: training pictures, validation with its deviation over the folds, and the choice."""
    mean, deviation = scores[name].mean(axis=0), scores[name].std(axis=0, ddof=1)
    ax.axvline(best_k[name], color=figures.COLOUR["muted"], linewidth=6, alpha=0.4, label="chosen k")
    ax.plot(ks, train_scores[name], "--", color=figures.COLOUR["train"], label="training pictures")
    ax.errorbar(ks, mean, deviation, fmt="o-", color=figures.COLOUR["valid"], capsize=3, label="validation")
    ax.set(xscale="log", xlabel="k", title=name, xlim=(0.85, 120))
    ax.set_xticks([1, 3, 10, 30, 100], [1, 3, 10, 30, 100])

# %%
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.2))
for ax, name in zip(axes, scores, strict=True):
    draw_scores(ax, name)
axes[0].set_ylabel("accuracy")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
figures.save(fig, "fig-knn-decision-regions.cross-validation",
             caption=f"Accuracy on the training pictures, and mean and deviation over {fold_count} folds: {dataset}, "
                     f"all pixels of {len(train)} pictures, and two numbers of {len(plane)}.",
             alt="Training accuracy is 1 at k = 1 and falls; from two numbers a picture, validation is best at a much larger k.")

# %% [markdown]
# On all pixels the classes hardly touch: a small $k$ is best, and a large one blurs.
# On two numbers they overlap, strays are common, and $k = 1$, the favourite of the training pictures, loses clearly.

# %%
plane_mean = plane_scores.mean(0)
by_training = ks[int(np.argmax(train_scores["two numbers"]))]
claims.check("err-cv-training-values", by_training, "==", 1, given=on_digits, note="k by training accuracy")
claims.check("err-cv-training-values.loss", plane_mean.max() - plane_mean[0], ">=", 0.03, given=on_digits,
             note="validation accuracy that the choice k = 1 gives away, two numbers")
pixel_mean = pixel_scores.mean(0)
claims.check("emp-knn-train-accuracy.k100", pixel_mean[0] - pixel_mean[-1], ">=", 0.05, given=on_digits,
             note="validation accuracy lost from k = 1 to k = 100, all pixels")

# %% [markdown]
# The choice is made, so now the test pictures.
# Section 3 asked them about $k = 1$ already, as a first look that chose nothing; in your own work ask them once, here.

# %%
k = best_k["all pixels"]
test_accuracy = (predict_knn(distances, train_labels, k) == test_labels).mean()
claims.check("prac-cv-folds", test_accuracy - pixel_mean.max(), "in", (-0.02, 0.02), given=on_digits,
             note=f"test minus validation accuracy at k = {k}: the estimate was honest")

# %% [markdown]
# To judge cross-validation itself, as a method, we look for once at what every $k$ would have given, and never choose by it.

# %%
every_k = np.array([(predict_knn(distances, train_labels, k) == test_labels).mean() for k in ks])
claims.check("emp-cv-chooses-k", every_k.max() - test_accuracy, "<=", 0.01, given=on_digits,
             note="test accuracy between the chosen and the best k, all pixels")

# %% [markdown]
# ## 5 · Which distance?
#
# The notes recommend $L_2$ for "non coordinate points" and $L_1$ for "coordinate points".
# What can that mean?
# Turn the axes of the plane, as if we had measured the ink along diagonals, and measure again.

# %%
fig, axes = plt.subplots(2, 2, figsize=(figures.WIDTH, 6.6), sharex=True, sharey=True)
for row, (name, distance) in zip(axes, {"L1": l1_distances, "L2": l2_no_loop}.items(), strict=True):
    for ax, degrees in zip(row, (0, 45), strict=True):
        regions(ax, points, point_labels, 1, distance, degrees, names)
        ax.set_title(f"{name}, axes turned by {degrees}°")
fig.supxlabel("share of the ink in the upper half")
fig.supylabel("share of the ink in the left half")
fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
figures.save(fig, "fig-knn-decision-regions.axes",
             caption=f"1-NN along the given axes and along axes turned by 45°; 120 pictures of {dataset}.",
             alt="Turning the axes leaves the regions of L2 unchanged and moves the borders of L1.")

# %% [markdown]
# The $L_2$ regions do not move: a length is a length, from whatever side one looks.
# The $L_1$ borders follow the axes, in steps and diagonals.
# The same with all pixels: mix them by a random rotation of the space of pictures, and ask who the nearest neighbour is.

# %%
dimensions = train_pixels.shape[1]
mixed, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(dimensions, dimensions)))  # a random rotation
same = {}
for name, distance in {"L1": l1_distances, "L2": l2_no_loop}.items():
    before = nearest(distance(test_pixels, train_pixels), 1)
    same[name] = (before == nearest(distance(test_pixels @ mixed, train_pixels @ mixed), 1)).mean()

# %%
claims.check("emp-l1-l2-axis-dependence", same["L2"], ">=", 0.99, note="L2 finds the same neighbour")
claims.check("emp-l1-l2-axis-dependence.l1", same["L1"], "<=", 0.9, given=on_digits,
             note="L1 finds the same neighbour")

# %% [markdown]
# So the recommendation turns into a question about the data: do the axes mean something by themselves, as "pixel 17", "age" or "income" do?
# Then $L_1$, which adds up their differences one by one, can be the better one; otherwise a distance that depends on the axes depends on an accident.
# Which one is better is then measured, like $k$: here the two are nearly equal.

# %%
l1_scores = cross_validate(train_pixels, train_labels, [1, 3, 5], parts, l1_distances)
l2_scores = cross_validate(train_pixels, train_labels, [1, 3, 5], parts)
gap = abs(l1_scores.mean(0).max() - l2_scores.mean(0).max())
claims.check("err-knn-l1-l2-wording", gap, "<=", 0.02, given=on_digits,
             note="difference of L1 and L2 in validation accuracy, each at its best k of 1, 3, 5")

# %% [markdown]
# Try it: move $k$ and the axes.

# %%
def explorer(k, metric, degrees):
    """The decision regions for one setting, and in words how many other pictures they get right."""
    distance = {"L1": l1_distances, "L2": l2_no_loop}[metric]
    fig, ax = plt.subplots(figsize=(6.4, 4.6))
    regions(ax, points, point_labels, k, distance, degrees, names)
    ax.set(xlabel="share of the ink in the upper half", ylabel="share of the ink in the left half")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    turn = turned(degrees)
    found = predict_knn(distance(plane[120:] @ turn, points @ turn), point_labels, k)
    right = (found == plane_labels[120:]).mean()
    return fig, (f"k = {k}, {metric}, axes turned by {degrees}°: {right:.0%} of the {len(found)} training pictures "
                 "that are not drawn are named right")

# %%
widgets.explore(explorer, k=widgets.Slider(5, 1, 60), metric=widgets.Choice("L2", ("L1", "L2")),
                degrees=widgets.Slider(0, 0, 90, 5, "axes turned by (°)"))

# %% [markdown]
# ## 6 · What breaks it
#
# A digit stays the same digit when it moves, tilts, or is written with a fainter pen.
# Give each picture a black margin, so that no ink gets lost, and change the test pictures only.

# %%
def framed(part):
    """The same pictures with a margin of black pixels."""
    return replace(part, images=functional.pad(part.images, (margin,) * 4))

framed_train, framed_test = framed(train), framed(test)
framed_train, framed_test

# %% tags=["define"]
def tilted(images, degrees):
    """The pictures (N, C, H, W) turned about their middle, as uint8."""
    return torch.from_numpy(rotate(images.numpy(), degrees, axes=(3, 2), reshape=False, order=1))

# %%
changes = {
    "as it was": lambda images: images,
    "moved by 1 pixel": lambda images: augment.shift(images, 1, 0),
    "moved by 2 pixels": lambda images: augment.shift(images, 2, 0),
    "tilted by 30°": lambda images: tilted(images, 30),
    "a quarter as bright": lambda images: images // 4,
    "60 brighter all over": lambda images: (images.int() + 60).clamp_max(255).to(torch.uint8),
}

# %% [markdown]
# For each change: how far is a picture from its own changed copy, and how many are named right?
# The scale to compare with is the distance to the nearest training picture of **another** class.

# %%
def knn_accuracy(asked, known):
    """Accuracy of 1-NN for the test pictures' features, asked among the training pictures'."""
    return (predict_knn(l2_no_loop(asked, known), train_labels, k=1) == test_labels).mean()

# %%
stored, asked = pixels(framed_train.images), pixels(framed_test.images)
table = l2_no_loop(asked, stored)
to_another_class = np.where(train_labels == test_labels[:, None], np.inf, table).min(axis=1)  # (M,)
own_copy, right = {}, {}
for name, change in changes.items():
    changed = pixels(change(framed_test.images))
    own_copy[name] = np.sqrt(((changed - asked) ** 2).sum(axis=1))
    right[name] = knn_accuracy(changed, stored)

# %%
example = framed_test.images[:1]
labels = [f"{name}\ndistance {own_copy[name][0]:.0f}\n{right[name]:.0%} right" for name in changes]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 5.6))
changed = torch.cat([change(example) for change in changes.values()])
plots.image_grid(ax, changed, columns=3, labels=labels, gap=0.3)
figures.save(fig, "prac-challenges-of-classification",
             caption="One test picture after each change, its distance from the picture as it was, and the share of "
                     f"all test pictures that 1-NN still names right; {dataset}. To the nearest picture of another "
                     f"class it is {to_another_class[0]:.0f}.",
             alt="Moved by two pixels a picture is farther from itself than from other classes, and 1-NN fails.")

# %%
farther = {name: (own_copy[name] > to_another_class).mean() for name in changes}
claims.check("prac-challenges-of-classification", farther["moved by 1 pixel"], ">=", 0.95, given=on_digits,
             note="pictures that are nearer to another class than to their own copy, moved by 1 pixel")
claims.check("prac-challenges-of-classification.tilt", farther["tilted by 30°"], ">=", 0.9, given=on_digits,
             note="the same, tilted by 30°")
claims.check("prac-challenges-of-classification.dark", right["a quarter as bright"], "<=", 0.6,
             given=on_digits, note="accuracy, a quarter as bright")
claims.check("prac-challenges-of-classification.light", right["60 brighter all over"], ">=", 0.9,
             given=on_digits, note="accuracy, 60 brighter all over")

# %% [markdown]
# Pixel distance does not know what a digit is.
# Ink that moves one pixel aside is paid for twice, where it was and where it is now, and the copy is farther away than a picture of another class.
#
# The last change surprises: every copy is far from its original, and yet nearly all are named right.
# Most of the added distance is the same towards **all** training pictures, and that does not change who is nearest.
# The rest depends on how much ink a training picture has, and costs a few digits.
#
# ## 7 · A classifier that does not mind
#
# Now the test pictures come moved: each by its own random number of pixels to the left or right and up or down, at most `margin`.

# %%
def anywhere(images, generator):
    """Each picture moved at random by up to `margin` pixels; no ink is lost."""
    return augment.crop(images, margin, generator)

generator = torch.Generator().manual_seed(seed)
moved_test = replace(framed_test, images=anywhere(framed_test.images, generator))
moved = pixels(moved_test.images)
knn_moved = knn_accuracy(moved, stored)
claims.check("emp-knn-poor-for-images.moved", knn_moved, "<=", 0.3, given=on_digits,
             note="1-NN among pictures in the middle, asked about moved ones")

# %% [markdown]
# kNN has one remedy: store the moved copies too.
# With a margin of 4 there are 81 places for each picture, 109,107 pictures in all, and the table of distances no longer fits comfortably.
# So go through the training pictures in pieces, and keep the best $k$ so far.

# %% tags=["define"]
def nearest_in_chunks(test, train, k, chunk=2048):
    """Distances and row numbers, both (M, k), of the k nearest rows of train, nearest first.

    Holds (M, chunk) distances at a time. train may be bytes: one piece at a time becomes test's kind of number.
    """
    best, rows = np.empty((len(test), 0), test.dtype), np.empty((len(test), 0), int)
    for start in range(0, len(train), chunk):
        piece = train[start:start + chunk].astype(test.dtype, copy=False)
        squares = test @ (-2 * piece.T)
        squares += np.einsum("nd,nd->n", piece, piece)  # the test picture's own square is added at the end
        near = smallest(squares, k)
        best = np.concatenate([best, np.take_along_axis(squares, near, 1)], axis=1)  # (M, 2k)
        rows = np.concatenate([rows, near + start], axis=1)
        keep = smallest(best, k)
        best, rows = np.take_along_axis(best, keep, 1), np.take_along_axis(rows, keep, 1)
    order = np.lexsort((rows, best))  # nearest first; equal distances by their row
    best, rows = np.take_along_axis(best, order, 1), np.take_along_axis(rows, order, 1)
    return np.sqrt(np.maximum(best + np.einsum("md,md->m", test, test)[:, None], 0)), rows

# %% tags=["define"]
def smallest(table, k):
    """Columns of the k smallest numbers in each row, in any order; all columns where there are no more than k."""
    if k >= table.shape[1]:
        return np.argsort(table, axis=1)
    return np.argpartition(table, k - 1, axis=1)[:, :k]  # cheaper than a sort

# %% [markdown]
# It finds the neighbours that the whole table finds, and holds only a piece of it.

# %%
table = l2_no_loop(moved, stored)
_, found = nearest_in_chunks(moved, stored, k=5, chunk=200)
of_found, of_nearest = (np.take_along_axis(table, columns, axis=1) for columns in (found, nearest(table, 5)))
claims.check("eq-knn-l1-l2.chunked", of_found, "~", of_nearest, tolerance=1e-6,
             note="the five smallest distances of each picture")

# %%
places = range(-margin, margin + 1)
everywhere = torch.cat([augment.shift(framed_train.images, dx, dy) for dx in places for dy in places])
everywhere = everywhere.flatten(1).numpy()  # bytes

# %%
tracemalloc.start()
_, found = nearest_in_chunks(moved.astype(np.float32), everywhere, k=1)
peak = tracemalloc.get_traced_memory()[1]
tracemalloc.stop()
whole_table = len(moved) * len(everywhere) * 8  # bytes
claims.check("eq-knn-l1-l2.memory", whole_table / peak, ">", 5, varies=True, given=on_digits,
             note=f"bytes of the table of {len(moved)} x {len(everywhere):,} distances for each byte held")

# %%
copies = len(places) ** 2
knn_everywhere = (np.tile(train_labels, copies)[found[:, 0]] == test_labels).mean()
claims.check("emp-knn-poor-for-images.everywhere", knn_everywhere, ">=", 0.97, given=on_digits,
             note=f"1-NN among {copies} copies of each picture, one for each place")

# %% [markdown]
# With 81 times the memory and 81 times the work for each question, kNN is as good as before; and that was for moving alone, not for tilting, thicker pens or another background.
#
# A convolutional network looks for the same strokes everywhere (lesson 04 takes it apart).
# This one has two layers of 3×3 filters, and keeps of each map only its largest answer, wherever that was.

# %% tags=["define"]
class SmallNetwork(nn.Module):
    """Two convolutions and a linear layer: (N, C, H, W) to class scores (N, classes)."""

    def __init__(self, channels, classes, width):
        super().__init__()
        self.first = nn.Conv2d(channels, width, kernel_size=3, padding=1)
        self.second = nn.Conv2d(width, 2 * width, kernel_size=3, padding=1)
        self.head = nn.Linear(2 * width, classes)

    def features(self, images):
        """The largest answer of each of the second layer's filters, (N, 2 * width)."""
        maps = functional.max_pool2d(functional.relu(self.first(images)), 2)
        return functional.relu(self.second(maps)).amax(dim=(2, 3))

    def forward(self, images):
        return self.head(self.features(images))

# %%
def trained(part, number, change=None):
    """A network trained on `part`, its pictures changed anew in each epoch; number: its seed."""
    torch.manual_seed(number)
    network = SmallNetwork(part.images.shape[1], len(part.classes), width)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    training.fit(network, part, optimizer=optimizer, epochs=epochs, batch_size=64, augment=change,
                 progress=False)
    return network

# %% [markdown]
# Twice three networks: one kind sees the training pictures in the middle only, the other sees them moved, at another place in each epoch (pass over the pictures).
# The number below is that of the parameters of one network.

# %%
centred_networks = [trained(framed_train, seed + number) for number in range(runs)]
moving_networks = [trained(framed_train, seed + number, anywhere) for number in range(runs)]
sum(p.numel() for p in centred_networks[0].parameters())

# %% [markdown]
# To be fair, kNN also gets what those networks saw: as many randomly moved copies as there were epochs.

# %%
generator = torch.Generator().manual_seed(seed)
seen = torch.cat([anywhere(framed_train.images, generator) for _ in range(epochs)]).flatten(1).numpy()
seen_labels = np.tile(train_labels, epochs)

def accuracy_in_chunks(images, known, labels):
    """Accuracy of 1-NN on the test pictures as they are in `images`, among the rows of `known`."""
    _, found = nearest_in_chunks(pixels(images).astype(np.float32), known, k=1)
    return (labels[found[:, 0]] == test_labels).mean()

# %%
def network_accuracy(network, images):
    """Accuracy of a network on the test pictures as they are in `images`."""
    return training.evaluate(network, replace(framed_test, images=images)).accuracy

def over_moves(accuracy):
    """accuracy(images) after moving by 0 ... margin pixels, the mean of right and down."""
    def moved_by(dx, dy):
        return accuracy(augment.shift(framed_test.images, dx, dy))
    return np.array([(moved_by(by, 0) + moved_by(0, by)) / 2 for by in range(margin + 1)])

# %%
results = {
    "kNN": over_moves(lambda images: knn_accuracy(pixels(images), stored)),
    "kNN, saw them moved": over_moves(lambda images: accuracy_in_chunks(images, seen, seen_labels)),
    "network": np.stack([over_moves(partial(network_accuracy, net)) for net in centred_networks]),
    "network, saw them moved": np.stack([over_moves(partial(network_accuracy, net)) for net in moving_networks]),
}

# %%
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.4))
ax.set(xlabel="test pictures moved by (pixels)", ylabel="accuracy", ylim=(0, 1.03))
ax.set_xticks(range(margin + 1))
plots.curves(ax, results, x=range(margin + 1), styles=dict.fromkeys(list(results)[1::2], "--"),
             colours=dict(zip(results, ("C1", "C1", "C0", "C0"), strict=True)))
figures.save(fig, "emp-knn-poor-for-images",
             caption=f"Accuracy on test pictures moved to the right and down; {dataset}, {len(train)} training "
                     f"pictures, {runs} networks a line with the range of the seeds, {epochs} epochs.",
             alt="kNN falls to chance when pictures move by two pixels; the network falls most at odd distances.")

# %% [markdown]
# Of the two that saw pictures in the middle only, kNN is lost at two pixels, while the network loses far less, and that in a zigzag.
# Its pooling, which keeps the largest of every 2×2 answers, reads the picture in steps of two pixels, so that a move by two is invisible to it and a move by one is not, until at four the ink touches the edge of the frame and part of the answer falls outside.

# %%
lost_by_knn = results["kNN"][0] - knn_moved
centred_moved = np.array([network_accuracy(network, moved_test.images) for network in centred_networks])
lost_by_network = results["network"][:, 0] - centred_moved
claims.check("emp-knn-poor-for-images", lost_by_knn - lost_by_network, ">=", 0.4, seeds=runs, on="every",
             given=on_digits, note="accuracy that kNN loses more than the network, both trained in the middle")

# %% [markdown]
# Seeing moved pictures mends both, to within five points of each other.
# The price differs: the network still has its few thousand parameters, kNN stores and searches ten times the pictures.

# %%
knn_seen = accuracy_in_chunks(moved_test.images, seen, seen_labels)
network_seen = np.array([network_accuracy(network, moved_test.images) for network in moving_networks])
claims.check("emp-knn-poor-for-images.seen", network_seen - knn_seen, "in", (-0.05, 0.05), seeds=runs,
             on="every", given=on_digits, note=f"network minus kNN ({knn_seen:.3f}), both trained on moved pictures")
network_bytes = sum(p.nbytes for p in moving_networks[0].parameters())
claims.check("emp-knn-poor-for-images.bytes", seen.nbytes / network_bytes, ">", 50, given=on_digits,
             note="bytes that kNN keeps for each byte of the network, in float64")

# %% [markdown]
# What moved copies cannot teach is a background.
# Photographs are not black around the object: lay each moved digit over a piece of grass, gravel or brick, at two thirds of its brightness, in the training and in the test pictures alike.

# %%
photos, channels = data.photos(), train.images.shape[1]
grounds = torch.stack([photos[name][:channels, ::2, ::2] for name in ("grass", "gravel", "brick")])

def on_ground(part, generator):
    """The pictures moved at random, over random windows of the photographs."""
    images = anywhere(part.images, generator)
    side = images.shape[-1]
    kinds = torch.randint(len(grounds), (len(images), 1), generator=generator)
    corners = torch.randint(grounds.shape[-1] - side, (len(images), 2), generator=generator)
    ground = torch.stack([grounds[kind, :, y:y + side, x:x + side]
                          for kind, y, x in torch.cat([kinds, corners], dim=1).tolist()])
    return replace(part, images=torch.maximum(images, ground // 3 * 2))

# %%
generator = torch.Generator().manual_seed(seed)
ground_train, ground_test = on_ground(framed_train, generator), on_ground(framed_test, generator)
fig, ax = plt.subplots(figsize=(figures.WIDTH, 1.9))
labels = [test.classes[label] for label in test_labels[:8]]
plots.image_grid(ax, ground_test.images[:8], columns=8, labels=labels)
figures.save(fig, "emp-knn-poor-for-images.ground",
             caption=f"Moved test pictures of {dataset} over grass, gravel and brick.",
             alt="Eight pictures at different places on grey textures.")

# %%
knn_ground = knn_accuracy(pixels(ground_test.images), pixels(ground_train.images))
ground_networks = [trained(ground_train, seed + number) for number in range(runs)]
network_ground = np.array([network_accuracy(network, ground_test.images) for network in ground_networks])
claims.check("emp-knn-poor-for-images.ground", network_ground - knn_ground, ">=", 0.2, seeds=runs, on="every",
             given=on_digits, note=f"the network's accuracy minus kNN's, which is {knn_ground:.3f}")

# %% [markdown]
# So the notes' sentence needs its condition.
# On digits that lie alike in their frames kNN is excellent; where they move, or lie over a background, it is poor, and in photographs objects do both.
# Are clothes harder than digits, even in the middle of their frames? `python -m cnncourse run 01 -p dataset fashion_mnist` in a terminal shows each number for them (it needs that data set, see the README).
#
# ## 8 · The same neighbours in a better space
#
# Is the vote of the neighbours to blame, or the space in which they are neighbours?
# Keep the vote and change the space.
# The notes tell of 70,000 samples with around 800 features, reduced to 40 before classification: MNIST.

# %%
claims.check("num-feature-reduction-800-40", [28 * 28, 60_000 + 10_000], "==", [784, 70_000],
             note="MNIST: pixels a picture, pictures")

# %% [markdown]
# **Principal component analysis** (PCA) finds the directions along which the training pictures differ most, one after another, each at a right angle to those before.
# They are the singular vectors of the centred pictures.

# %% tags=["define"]
def principal_axes(features, count):
    """Mean (D,), the first `count` axes (D, count), and the share of the variance that they keep."""
    mean = features.mean(axis=0)
    _, scales, axes = np.linalg.svd(features - mean, full_matrices=False)
    return mean, axes[:count].T, (scales[:count] ** 2).sum() / (scales**2).sum()

# %% [markdown]
# Against it stands a **random projection**, which needs no look at the pictures: as many random directions.

# %%
def projected(axes):
    """Accuracy of 1-NN after projecting all pictures on the axes (D, count)."""
    return knn_accuracy(test_pixels @ axes, train_pixels @ axes)

def random_axes(number, count):
    return np.random.default_rng(seed + number).normal(size=(train_pixels.shape[1], count))

counts = [2, 5, 10, 20, 40]
by_pca = np.array([projected(principal_axes(train_pixels, count)[1]) for count in counts])
by_chance = np.array([[projected(random_axes(number, count)) for count in counts] for number in range(5)])

# %%
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.9))
ax.set(xlabel="numbers kept of each picture", ylabel="accuracy of 1-NN", xticks=counts, ylim=(0, 1.1))
ax.axhline(results["kNN"][0], color=figures.COLOUR["muted"], linewidth=1)
ax.text(2, results["kNN"][0] + 0.015, f"all {train_pixels.shape[1]} pixels", va="bottom", fontsize=11)
plots.curves(ax, {"PCA": by_pca, "random projection": by_chance}, x=counts)
figures.save(fig, "emp-good-representation-helps",
             caption=f"1-NN after reducing pictures of {dataset} to a few numbers; random projections: mean and "
                     "range of 5.",
             alt="Ten principal components are nearly as good as all pixels; random directions need more.")

# %%
_, _, kept = principal_axes(train_pixels, 20)
claims.check("num-feature-reduction-800-40.pca", results["kNN"][0] - by_pca[3], "<=", 0.02, given=on_digits,
             note=f"accuracy lost from all pixels to 20 components, which keep {kept:.0%} of the variance")
claims.check("emp-good-representation-helps", by_pca[3] - by_chance[:, 3], ">=", 0.01, seeds=5, on="every",
             given=on_digits, note="accuracy by PCA minus random projection, 20 numbers each")

# %% [markdown]
# A third of the numbers does the same work, with a third of the multiplications in each comparison.
# Better than the pixels it is not: PCA forgets what varies little, but it knows nothing of moving.
#
# The network does.
# Throw away its last layer, and ask for the nearest neighbours in the space of its features: on the moved test pictures, with nothing stored but the training pictures in the middle.

# %%
def in_space_of(network):
    """Accuracy of 1-NN on the moved test pictures, measured between the network's features."""
    headless = copy.deepcopy(network)
    headless.head = nn.Identity()
    known, new = (training.predict(headless, part).cpu().numpy() for part in (framed_train, moved_test))
    return knn_accuracy(new, known)

# %%
_, axes, _ = principal_axes(stored, 20)
spaces = {
    "pixels": [knn_moved],
    "20 principal components": [knn_accuracy(moved @ axes, stored @ axes)],
    "features of a network": [in_space_of(network) for network in centred_networks],
    "features of a network\nthat saw them moved": [in_space_of(network) for network in moving_networks],
}

# %%
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.4))
colours = dict(zip(spaces, ("C1", "C2", "C0", "C0"), strict=True))
plots.bars(ax, spaces, horizontal=True, format="{:.2f}", colours=colours)
ax.set(xlabel="accuracy of 1-NN on moved test pictures", xlim=(0, 1.1))
figures.save(fig, "emp-good-representation-helps.spaces",
             caption=f"The same vote in four spaces; {dataset}, test pictures moved by up to {margin} pixels, "
                     f"{runs} networks: mean and range.",
             alt="In pixels 1-NN fails on moved pictures; in the features of a network it works.")

# %%
gain = np.array(spaces["features of a network\nthat saw them moved"]) - knn_moved
claims.check("emp-good-representation-helps.features", gain, ">=", 0.5, seeds=runs, on="every",
             given=on_digits, note="1-NN among features minus 1-NN among pixels, moved test pictures")

# %% [markdown]
# Here the vote was not the problem, the space was.
# Finding such spaces is what most layers of a deep network do, and what most of this course is about.
#
# ## 9 · Before reaching for a network
#
# The notes say that support vector machines and ensembles of trees are easy and usually reasonably good.
# Here they are with the library's own settings, only with enough steps for the regression to end:

# %%
machines = {"logistic regression": LogisticRegression(max_iter=2000),
            "random forest": RandomForestClassifier(random_state=seed), "support vector machine": SVC()}
rivals = {name: machine.fit(train_pixels / 255, train_labels).score(test_pixels / 255, test_labels)
          for name, machine in machines.items()}
rivals[f"kNN, k = {k}"] = test_accuracy

# %%
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.9))
colours = dict(zip(rivals, ("C2", "C2", "C2", "C1"), strict=True))
plots.bars(ax, rivals, horizontal=True, format="{:.3f}", colours=colours)
ax.set(xlabel="accuracy on the test pictures as they were", xlim=(0, 1.12))
figures.save(fig, "emp-classic-ml-cheap-good",
             caption=f"Four classifiers from all pixels; {dataset}, {len(train)} training pictures.",
             alt="All four classifiers are within a few points of each other.")
claims.check("emp-classic-ml-cheap-good", min(rivals.values()), ">=", 0.95, given=on_digits,
             note="the worst of the four")

# %% [markdown]
# All within a few points of each other, after seconds.
# Such a baseline costs a few lines and tells what a network has to beat.

# %% [markdown] tags=["ledger:err-cv-flood", "ledger:err-number-grid-not-image"]
# ## Errata
#
# | the notes say | correct |
# |---|---|
# | choose the hyperparameters with the best training values | choose by the best **mean validation** score: by training values $k = 1$ always wins, with accuracy 1 |
# | $L_2$ is best for "non coordinate points", $L_1$ for "coordinate points" | $L_1$ **depends on the axes**, so use it where each axis means something; $L_2$ does not change when the axes turn |
# | kNN solves image classification poorly | 0.989 on aligned digits; poor where objects **move or have a background**, as in photographs |
#
# Small slips: the "flood" of the notes is a **fold**; the grid of numbers shown as "what the computer sees" is not a picture but the grid of Project Euler's problem 11, with copying errors (the real thing stands in section 1).
#
# ## Summary
#
# Each sentence is checked by a claim above, for the digits and the default parameters.
#
# - A 32×32 colour picture is 3,072 numbers, and a linear classifier of 10 classes over it has 30,730 parameters.
# - Distances with two loops, one loop and none agree; one matrix product is more than ten times as fast as two loops, and going through the training pictures in pieces takes less than a fifth of the memory of the whole table.
# - On its own training pictures 1-NN is always right, which says nothing; five folds choose a $k$ whose test accuracy is within one point of the best.
# - Turning the axes leaves the neighbours of $L_2$ and changes those of $L_1$.
# - Moved by one pixel, nearly every digit is farther from itself than from some digit of another class.
# - On aligned digits 1-NN is right in more than 97 of 100 cases, on moved ones in fewer than 30. A network that never saw a moved picture either loses less by moving, by at least 40 points.
# - Over photographs of grass, gravel and brick a network is right in at least 20 cases of 100 more than 1-NN.
# - 20 principal components are as good as 64 pixels to within 2 points.
# - On moved pictures 1-NN is right in at least 50 cases of 100 more among the features of a network that saw moved pictures than among pixels.
#
# ## Exercises
#
# **01.1 Predict.** Someone writes `np.sqrt(((test[:, None] - train) ** 2).sum(-1))` for MNIST, 10,000 test and 60,000 training pictures of 784 numbers in float64.
# How many bytes does the block of differences take, before the sum?
# The exact number is asked for; a product such as `10_000 * ...` will do.

# %%
answer = ...
exercises.check("01.1", answer)

# %% [markdown]
# **01.2 Change.** The cosine distance $1 - \frac{a \cdot b}{\|a\| \|b\|}$ compares directions and not lengths.
# Write it for all pairs, without a loop.
# Then name the darkened test pictures with it: `dark = pixels(changes["a quarter as bright"](framed_test.images))`, and
# `(predict_knn(cosine_distances(dark, stored), train_labels, k=1) == test_labels).mean()` is the accuracy; $L_2$ had 0.40.

# %%
def cosine_distances(test, train):
    """Distances (M, N) of each row of test (M, D) from each row of train (N, D)."""
    ...

exercises.check("01.2", cosine_distances)

# %% [markdown]
# **01.3 Extend.** Take folds of one picture each: every picture is asked about with all others as its neighbours.
# From the table of distances of the training pictures among themselves this needs one call of `predict_knn`, if you prevent one thing.
# Return the accuracy.

# %%
def leave_one_out(distances, labels, k):
    """Accuracy over all pictures, each named by the others; distances (N, N), labels (N,)."""
    ...

exercises.check("01.3", leave_one_out)

# %% [markdown]
# **01.4 Open.** Make kNN indifferent to moving without storing copies: let the distance of two pictures be the smallest over all places of the **test** picture, up to `reach` pixels each way.
# What does it cost, and what does it do to the accuracy on `moved_test`?
# The check looks at the distances; the accuracy is for you.
# Both arguments are arrays (M, H, W) and (N, H, W), without the axis of channels: `moved_test.images[:, 0].double().numpy()` and `framed_train.images[:, 0].double().numpy()`, with `reach=margin`.

# %%
def shifted_distances(test, train, reach):
    """Smallest L2 distances (M, N) of test (M, H, W) from train (N, H, W).

    test moves by up to reach pixels in x and in y; what leaves the frame is lost, black comes in.
    """
    ...

exercises.check("01.4", shifted_distances)

# %% [markdown]
# ## Sources
#
# - The notes: lecture 003 on images as numbers and reducing features, lecture 004 on kNN, distances and cross-validation (after CS231n, Stanford 2017, lecture 2 and its first assignment).
# - T. Cover and P. Hart: Nearest neighbor pattern classification. IEEE Transactions on Information Theory 13, 1967.
# - M. Stone: Cross-validatory choice and assessment of statistical predictions. Journal of the Royal Statistical Society B 36, 1974.
# - E. Alpaydin and C. Kaynak: Optical recognition of handwritten digits. UCI Machine Learning Repository, 1998.
# - Y. LeCun, L. Bottou, Y. Bengio and P. Haffner: Gradient-based learning applied to document recognition. Proceedings of the IEEE 86, 1998; kNN on MNIST is in its section III.
# - Project Euler, problem 11: largest product in a grid.
