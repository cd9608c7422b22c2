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
# # 00 · History, landscape, frameworks
# ### How did we get here, and which dates are wrong?
#
# In 2012 a program called AlexNet named the things in photographs with far fewer errors than any before, and much of today's machine learning followed it. What was new in it? The first figure takes it apart. Each line begins in the year in which a part had been published, and ends in 2012. (The parts themselves are what later lessons are about; only their dates matter here.)
#
# Odd: most parts were old. The oldest is the perceptron of 1958, whose weights were learned from examples. Its rule of 1960 stands below, in a few lines. It reads handwritten digits.
#
# **You will be able to**
# - write the perceptron's rule, and say what it can and what it cannot learn;
# - place the networks of this course in time, and check a date that somebody tells you;
# - read "error 15.3 %": of how many networks, on which pictures?
# - say why graphics cards help, and what keeps them waiting;
# - tell a program that runs line by line from one that was recorded first.
#
# **You need** a little Python and NumPy (`@` multiplies matrices; `np.outer`, `np.where`). No lesson comes before this one. The table in section 6 explains the words of the course.

# %% [markdown]
# **How to read a lesson.** Run its cells in order (Shift+Enter). Closed cells hold drawing and bookkeeping; a click opens them. *Predict* asks first and shows afterwards: choose before you read on. In an exercise put your own code in the place of `...` and run the cell: it is checked at once, and `exercises.hint("00.1")` helps.
#
# Sentences with a ✓ were checked by the code above them, at the parameters below. Change a parameter and run everything again: the sentences are shown with the new numbers, but nothing is required of them.
#
# **It costs** about 20 seconds of one processor core, no network connection, no GPU.

# %% tags=["parameters"]
seed: int = 100  # the first of the seeds, which fix all random numbers; at least 0
runs: int = 5  # seeds: each learns in another order; 2 to 20
dataset: str = "digits"  # ; one of digits, mnist, fashion_mnist
images: int = 1344  # pictures to learn from, at most; 100 to 60000
passes: int = 20  # times that the learner goes through all of them; 1 to 100
units: int = 512  # random units in front of the learner in section 1; 1 to 5000
side: int = 1024  # rows and columns of the matrices that are timed; 64 to 8192
read_ms: float = 10.0  # milliseconds to read a picture in section 4; 1 to 100
step_ms: float = 60.0  # milliseconds for a step with eight pictures; 1 to 1000

# %% tags=["imports", "fold"]
import csv
import io
import multiprocessing
import operator
import subprocess
import sys
import tempfile
import time
import timeit
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import fx, nn
from torch.utils.data import DataLoader, Dataset

from cnncourse import claims, cost, data, diagrams, exercises, figures
from cnncourse import models, plots, runtime, widgets

# %% [markdown] tags=["ledger:prac-history-timeline"]
# The dates stand in a table, with their sources. (In a closed cell: open it. The third column says which part of AlexNet it is.)

# %% tags=["define", "fold"]
TIMELINE = """year|what|part|who|source
1943|a neuron as a sum with a threshold||McCulloch, Pitts|Bull. Math. Biophysics 5
1957|the perceptron, a report||Rosenblatt|Cornell Aeronautical Lab. 85-460-1
1958|the perceptron in print|weights learned from examples|Rosenblatt|Psychological Review 65
1959|cells of the cat's brain that prefer edges of one direction||Hubel, Wiesel|J. Physiology 148
1960|Adaline||Widrow, Hoff|IRE WESCON Convention Record 4
1960|the perceptron corrected only where it errs||Rosenblatt|Cornell Aeronautical Lab. VG-1196-G-4
1962|Madaline||Widrow and students|Widrow, Lehr, Proc. IEEE 78 (1990)
1969|ReLU in a network that sees|ReLU|Fukushima|IEEE Trans. SSC 5
1969|the book Perceptrons: limits of one layer||Minsky, Papert|MIT Press
1970|reverse mode: all slopes in one way back|backpropagation|Linnainmaa|master's thesis, Helsinki
1980|the Neocognitron|layers that share weights over places|Fukushima|Biol. Cybernetics 36
1982|reverse mode for networks||Werbos|his thesis of 1974 led there
1986|backpropagation made popular||Rumelhart, Hinton, Williams|Nature 323
1989|digits of zip codes|a convolutional network trained so|LeCun et al.|Neural Computation 1
1990|max-pooling|max-pooling|Yamaguchi et al.|ICSLP 1990
1998|LeNet-5|new pictures made from old|LeCun, Bottou, Bengio, Haffner|Proc. IEEE 86
2002|Torch||Collobert, Bengio, Mariéthoz|IDIAP report 02-46
2003|digits bent as if of rubber||Simard, Steinkraus, Platt|ICDAR
2006|a convolutional net on a GPU|a graphics card that trains it|Chellapilla et al.|IWFHR 2006
2007|Theano begins||University of Montréal|first paper: SciPy 2010
2009|ImageNet|millions of labelled photographs|Deng et al.|CVPR 2009
2010|a plain network of 12 million weights on a GPU||Cireşan et al.|Neural Comp. 22
2012|dropout|dropout|Hinton et al.|arXiv:1207.0580
2012|AlexNet wins the contest|local response normalisation|Krizhevsky et al.|NIPS 2012
2013|Caffe||Jia|Berkeley, December 2013
2014|VGG and GoogLeNet||Simonyan, Zisserman; Szegedy et al.|arXiv:1409.1556, 1409.4842
2015|TensorFlow||Google|9 November 2015
2015|ResNet||He et al.|arXiv:1512.03385
2017|PyTorch||Facebook|19 January 2017
2017|SENet wins the last contest||Hu, Shen, Sun|arXiv:1709.01507
2018|Variable and Tensor become one in PyTorch 0.4||the PyTorch team|24 April 2018
2019|TensorFlow 2 runs line by line||Google|30 September 2019
"""
events = list(csv.DictReader(io.StringIO(TIMELINE), delimiter="|"))

# %% tags=["fold"]
runtime.start(seed=seed)
figures.use_style()
parts = [event for event in events if event["part"]]
before = [event for event in parts if int(event["year"]) < 2012]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.5))
for row, event in enumerate(parts):
    year = int(event["year"])
    colour = "C1" if year == 2012 else "C0"
    ax.plot([year, 2012], [-row, -row], color=colour, linewidth=3)
    ax.plot(year, -row, "o", color=colour, markersize=8)
    ax.text(year - 0.9, -row, f"{event['part']} {year}", ha="right", va="center",
            fontsize=12, color="#a86200" if year == 2012 else "0.13")
ax.axvline(2012, color="0.5", linewidth=1)
ax.set(xlim=(1917, 2014), ylim=(-len(parts) + 0.3, 0.7), yticks=[],
       xticks=[1960, 1970, 1980, 1990, 2000, 2012])
ax.spines["left"].set_visible(False)
ax.set_title(f"{len(before)} of these {len(parts)} parts of AlexNet had been published before 2012")
figures.save(fig, "prac-history-timeline",
             caption="Parts of AlexNet (2012), our choice, each from the year of a publication "
                     "that had it; sources in the table above. Earlier ones may exist.",
             alt="Lines from 1958 (weights learned from examples), 1969, 1970, 1980, 1989, 1990, "
                 "1998, 2006 and 2009 to 2012; only dropout and local response normalisation "
                 "begin in 2012.")

# %% tags=["fold"]
ages = [2012 - int(event["year"]) for event in parts]
claims.check("prac-history-timeline",
             "{old} of these {all} parts are older than 2012, the oldest by {most} years, half of "
             "them by {half:.0f} or more.", old=(len(before), ">=", 9), all=len(parts),
             most=(max(ages), "==", 54), half=np.median(ages))

# %% [markdown]
# AlexNet put them together, on more than a million photographs. A first date is always "no later than": somebody may have had it before. (The normalisation has a relative of 2009.)
#
# ## 1 · A rule of 1960
#
# A grey picture is a row of numbers, one for each *pixel* (a point of the picture). A *unit* multiplies each by a number of its own, a *weight*, adds up, and says +1 if the sum is above a threshold, −1 if not. With one more input that is always 1, the threshold is a weight like the others, and the sum is compared with 0.
#
# Ten units, one for each digit; the unit with the largest sum names the picture. How are weights found? **Rosenblatt's rule:** show a picture. Where a unit is right, do nothing. Where it should have said +1, add the picture to its weights; where −1, take it away.
#
# (The rule is often dated 1958. In the paper of that year weights grow when a picture is shown, or are rewarded and punished; a perceptron that is corrected *only* where it errs stands in Rosenblatt's report of 1960.)

# %% tags=["define"]
def threshold(sums):
    """+1 where a sum is above 0, -1 elsewhere."""
    return np.where(sums > 0, 1.0, -1.0)

def learn(inputs, targets, passes, stream, says=threshold, rate=0.5):
    """Weights (K, D) of K units, from inputs (N, D) and what each should say (N, K).

    stream: NumPy's random numbers. An error is 0, 2 or -2; half of it is the picture once.
    """
    weights = np.zeros((targets.shape[1], inputs.shape[1]))
    for _ in range(passes):
        for n in stream.permutation(len(inputs)):  # all of them, in a new order
            error = targets[n] - says(weights @ inputs[n])  # (K,)
            weights += rate * np.outer(error, inputs[n])
    return weights

# %% tags=["fold"]
# Pictures as rows (N, D) with a 1 in front; targets (N, 10) of +1 and -1.
def with_one(rows):
    return np.column_stack([np.ones(len(rows)), rows])

train = data.load(dataset, True).subset(images, seed=0)
test = data.load(dataset, False)
(x, y), (xt, yt) = [next(part.batches(len(part))) for part in (train, test)]
rows, rows_test = [part.flatten(1).double().numpy() for part in (x, xt)]
names, names_test = y.numpy(), yt.numpy()
targets = np.where(names[:, None] == np.arange(10), 1.0, -1.0)
inputs, inputs_test = with_one(rows), with_one(rows_test)
seeds = range(seed, seed + runs)

def accuracy(weights, inputs):
    """Share of the test pictures that the largest sum names rightly."""
    return float(((inputs @ weights.T).argmax(1) == names_test).mean())

print(f"{dataset}: {len(rows):,} pictures to learn from, {len(rows_test):,} new ones to test, "
      f"{rows.shape[1]} pixels each")

# %%
exercises.predict("00.p1", "Of 100 new pictures, ten such units name rightly about",
                  ("20", "60", "90"))

# %%
streams = [np.random.default_rng(number) for number in seeds]
direct = [accuracy(learn(inputs, targets, passes, stream), inputs_test) for stream in streams]
shuffled = [accuracy(learn(inputs, stream.permutation(targets), passes, stream), inputs_test)
            for stream in streams[:3]]  # each picture gets the answer of another

# %% tags=["fold"]
closest = min((20, 60, 90), key=lambda guess: abs(guess - 100 * np.mean(direct)))
exercises.reveal("00.p1", str(closest), f"{100 * np.mean(direct):.0f} of 100, the mean of {runs} "
                 f"orders; guessing gives 10.")

# %% [markdown]
# Is it the rule, or would any weights do? In `shuffled` the answers were dealt out anew among the pictures: the same rule, the same pictures, nothing to learn.
#
# Rosenblatt's machine, the Mark I, did not feed pixels to the units that learn. Its 400 photocells were wired to 512 "association units" in between, at random, and those wires stayed as they were. Does such a fixed layer of random units help? Each of ours sums the pixels with random weights and says 1 or 0.

# %% tags=["define"]
def random_units(rows, units, stream):
    """A fixed layer: each unit says 1 where its own random sum is above 0; (N, units)."""
    weights = stream.normal(size=(units, rows.shape[1]))
    thresholds = stream.normal(size=units)
    return ((rows - rows.mean()) @ weights.T > thresholds).astype(float)

# %%
behind = []
for number in seeds[:3]:
    stream = np.random.default_rng(number)
    both = random_units(np.concatenate([rows, rows_test]), units, stream)
    seen, new = with_one(both[:len(rows)]), with_one(both[len(rows):])
    behind.append(accuracy(learn(seen, targets, passes, stream), new))

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.3))
shown = {f"behind {units} random units": behind, "from the pixels": direct,
         "answers shuffled": shuffled}
for row, (name, values) in enumerate(shown.items()):
    ax.barh(row, np.mean(values), 0.6, color="0.75" if row == 2 else "C0")
    ax.plot(values, [row] * len(values), "o", color="C1", markeredgecolor="white")
    ax.text(max(values) + 0.015, row, f"{np.mean(values):.1%}", va="center", fontsize=13)
ax.axvline(0.1, color="0.35", linestyle=":")
ax.text(0.11, 2.5, "guessing", fontsize=12, va="center")
ax.set(yticks=range(3), xlim=(0, 1.13), ylim=(-0.5, 2.8), xticks=[0, 0.25, 0.5, 0.75, 1],
       xlabel="share of new pictures named rightly")
ax.set_yticklabels(list(shown), fontsize=12.5)
ax.set_title("A rule of 1960 reads digits; random units in front of it help")
figures.save(fig, "arch-perceptron-adaline",
             caption=f"Rosenblatt's rule, {passes} passes over {len(rows):,} pictures "
                     f"({dataset}). Bars: means; dots: single seeds.",
             alt="Nine of ten new digits are named rightly from the pixels, a few more behind "
                 "random units, one of ten where the answers were shuffled.")

# %% tags=["fold"]
claims.check("arch-perceptron-adaline",
             "Ten units name {right:.1%} of new pictures rightly, with shuffled answers "
             "{luck:.1%} ({orders} orders). Guessing: 10 %.", right=(direct, ">=", 0.85),
             luck=(float(np.mean(shuffled)), "<=", 0.2), orders=len(shuffled), seeds=runs,
             on="every")
gain = [100 * (with_units - without) for with_units, without in zip(behind, direct, strict=False)]
claims.check("arch-perceptron-adaline.units",
             "Behind {count} fixed random units it is {right:.1%}, {gain:.1f} points more in the "
             "same {passes} passes.", count=units, passes=passes, right=(behind, ">=", 0.93),
             gain=(gain, ">", 0), seeds=len(behind), on="mean")

# %% [markdown]
# **We now know** that a rule that only corrects errors learns to read these small digits, and that it is the answers it learns from.
# **This does not show** that it reads *well*: lesson 01 does better by comparing pictures, and larger pictures are another matter. Nor does it show that it reads *new hands*: in `digits` the same people wrote on both sides (lesson 01 measures what that is worth).
#
# **Exercise 00.1.** When does the rule come to rest? Write `corrections`: one unit, weights 0 at first; go through the inputs in their order, again and again, until a whole pass corrects nothing. Return how many corrections it took in all, or `None` if after `most` passes there still was one. (A sum of 0 says −1.)

# %%
def corrections(inputs, targets, most=1000):
    """inputs (N, D) with the 1 in front, targets (N,) of +1 and -1."""
    ...

exercises.check("00.1", corrections)

# %% [markdown]
# ## 2 · Four points that it cannot learn
#
# Two inputs, each −1 or +1. Say +1 if they *differ*. This is called XOR, "either … or". We show the four points in turn, again and again.

# %%
points = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
differ = np.array([[-1], [1], [1], [-1]])  # (4, 1): one unit
four = with_one(points)  # (4, 3)
exercises.predict("00.p2", "After many passes the weights", ("settle", "grow and grow",
                                                             "go round and round"))

# %%
weights, after, still_wrong = np.zeros((1, 3)), [], []
for _ in range(100):
    for n in range(4):
        error = differ[n] - threshold(weights @ four[n])
        weights = weights + 0.5 * np.outer(error, four[n])
        still_wrong.append(bool(error.any()))
        after.append(tuple(weights[0].tolist()))
print("after each point of the last pass:", *after[-4:])

# %% tags=["fold"]
same = after[-4:] == after[-8:-4]
size = np.abs(after).max()
exercises.reveal("00.p2", "settle" if not any(still_wrong[-4:]) else
                 "go round and round" if same else "grow and grow",
                 f"In each of the last two passes it corrected {sum(still_wrong[-4:])} times, "
                 f"the same way; no weight was ever larger than {size:.0f}.")

# %% [markdown]
# Nor can another rule help: there are no such weights. Call the rows of the four points $a, b, c, d$. They lie so that $a + d = b + c$. If a unit's sums for $b$ and $c$ are above 0, so is their total; it is also the total for $a$ and $d$, and then one of these is above 0 too.
#
# In the plane of the two inputs, the places where a unit's sum is just 0 form a *straight line*, with +1 on one side of it. If the line is the reason, a border that can bend must help; that can be tested with the same rule. Three ways: the product of the two inputs as a third; random units in front, as in section 1; several units that vote.
#
# The last was **Madaline** (1962): *many Adalines*. Three units; the majority answers, and this vote is fixed. If the answer is wrong, one unit is corrected: of those that voted wrong, the one whose sum is closest to 0, since it is easiest to turn round.

# %% tags=["define"]
def madaline(inputs, targets, passes, stream, units=3, rate=0.5):
    """Weights (units, D), and whether the majority ended right on all rows."""
    weights = stream.normal(size=(units, inputs.shape[1]))
    for _ in range(passes):
        for n in stream.permutation(len(inputs)):
            sums = weights @ inputs[n]  # (units,)
            if threshold(threshold(sums).sum()) == targets[n]:
                continue
            wrong = np.flatnonzero(threshold(sums) != targets[n])
            chosen = wrong[np.abs(sums[wrong]).argmin()]  # the least sure of them
            weights[chosen] += rate * (targets[n] - sums[chosen]) * inputs[n]
    answers = threshold(threshold(inputs @ weights.T).sum(1))
    return weights, bool((answers == targets).all())

# %%
starts = [np.random.default_rng(number) for number in range(seed, seed + 50)]
voted = [madaline(four, differ[:, 0], 100, stream) for stream in starts]
product = with_one(np.column_stack([points, points[:, 0] * points[:, 1]]))
ways = {"the line alone": [four] * 50, "with the product": [product] * 50,
        "behind 20 random units": [with_one(random_units(points, 20, s)) for s in starts]}
learned = {}  # in how many of 50 starts all four are right
for name, several in ways.items():
    right = [threshold(one @ learn(one, differ, 100, stream).T) == differ
             for one, stream in zip(several, starts, strict=True)]
    learned[name] = sum(bool(found.all()) for found in right)
learned["three that vote"] = sum(done for _, done in voted)
print(learned)

# %% [markdown]
# **Adaline**, of the same year as the rule, had one more idea. Rosenblatt takes the error *behind* the threshold: right or wrong. Widrow and Hoff take it *before*: how far is the sum from what it should be? In our code it is one argument: `says` gives back the sum itself. This *delta rule* rests only where every sum is exactly what it should be, but its error is a number that can fall bit by bit. It is gradient descent (an idea of Cauchy's, 1847; lesson 02) with one example at a time.

# %%
def the_sum(sums):
    return sums

adaline = learn(four, differ, 2000, np.random.default_rng(seed), says=the_sum, rate=0.01)
best = np.linalg.lstsq(four, differ, rcond=None)[0].T  # least squared error, computed at once
print("Adaline on XOR:", adaline.round(2) + 0.0, "  best possible:", best.round(2) + 0.0)
by_adaline = [accuracy(learn(inputs, targets, passes, np.random.default_rng(number),
                             says=the_sum, rate=0.2 / rows.shape[1]), inputs_test)
              for number in seeds[:3]]

# %% tags=["fold", "nbval-rtol=1e-6"]
line = np.linspace(-1.7, 1.7, 120)
plane = np.array([[a, b] for b in line for a in line])
grid = with_one(plane)
bent = learn(product, differ, 200, np.random.default_rng(seed), says=the_sum, rate=0.05)
votes = threshold(threshold(grid @ voted[0][0].T).sum(1))
curved = with_one(np.column_stack([plane, plane[:, 0] * plane[:, 1]]))
regions = {"one unit: a line": threshold(grid @ np.array(after[-1])),
           "three that vote": votes, "with the product": threshold(curved @ bent.T)[:, 0]}
fig, axes = plt.subplots(1, 3, figsize=(figures.WIDTH, 3.2))
for ax, (name, said) in zip(axes, regions.items(), strict=True):
    plots.decision_regions(ax, line, line, (said > 0).reshape(120, 120).astype(int),
                           points=points, labels=(differ[:, 0] > 0).astype(int))
    for marker in ax.lines:
        marker.set_markersize(13)
    ax.set(xticks=[-1, 1], yticks=[-1, 1], xlabel=name, aspect="equal")
fig.suptitle("No line separates the two kinds; a vote or a bend does", x=0.01, ha="left")
figures.save(fig, "arch-perceptron-adaline.xor",
             caption="XOR: points whose inputs differ (orange squares) or not (blue discs), and "
                     "what each learner says of every place: Rosenblatt's rule after 100 passes, "
                     "Madaline, Adaline with the product.",
             alt="One straight border leaves at least one of the four points on the wrong side; "
                 "three voting units, and a unit with the product of both inputs, separate them.")

# %% tags=["fold"]
tries = np.random.default_rng(seed).normal(size=(10_000, 3))
most = int((threshold(tries @ four.T) == differ[:, 0]).sum(1).max())
claims.check("err-madaline-person",
             "All four points are learned in {line} of 50 starts by one unit on the two inputs, "
             "in {product} with the product as a third, in {random} behind 20 random units, in "
             "{vote} by Madaline. Of 10,000 random lines none has more than {most} right.",
             line=(learned["the line alone"], "==", 0),
             product=(learned["with the product"], "==", 50),
             random=(learned["behind 20 random units"], ">=", 40),
             vote=(learned["three that vote"], ">=", 40), most=(most, "==", 3))
claims.check("arch-perceptron-adaline.delta",
             "On XOR Adaline's weights end within {gap:.3f} of the best, which are 0: it says "
             "nothing. On {name} it names {right:.1%} rightly (mean of three orders), the "
             "threshold's rule {other:.1%}.", name=dataset,
             gap=(float(np.abs(adaline - best).max()), "<=", 0.05),
             right=(float(np.mean(by_adaline)), ">=", 0.88), other=float(np.mean(direct)))

# %% [markdown]
# **We now know** what one unit cannot do, that a fixed layer in front or a fixed vote behind mends it, and that one layer of weights was learned in all of this. How to correct weights *in between*, when the error is known only at the end, was the open question until backpropagation (lesson 03).
# **This does not show** that the three ways work for harder tasks; here there are four points.
#
# **Exercise 00.2.** Build XOR by hand from three units: two that see the inputs, and a third that sees what they say (+1 or −1). Return their weights, each as (weight of the constant 1, first, second).

# %%
def xor_by_hand():
    """Three triples: first unit, second unit, the unit behind them."""
    ...

exercises.check("00.2", xor_by_hand)

# %% [markdown] tags=["ledger:num-imagenet-15m-22k"]
# ## 3 · Whose error, on which pictures?
#
# From 2010 to 2017 there was a contest every year, *ILSVRC*: name what is in a photograph, 1000 kinds, five guesses. The *top-5 error* is the share of photographs whose kind is not among the five. Teams try things out on *validation pictures*, whose answers they have; the *test pictures*, whose answers are kept back, decide. The photographs come from *ImageNet*, a collection of over 15 million in roughly 22,000 kinds. In a *convolutional network* (lesson 04) small groups of weights are moved over the picture; its *depth* is the number of layers of weights on the way from picture to answer.

# %% tags=["define", "fold"]
CONTEST = """year|team|error|networks|note
2010|NEC-UIUC|28.2|0|features made by hand
2011|XRCE|25.8|0|features made by hand
2012|AlexNet|15.3|7|two of the seven had learned from more of ImageNet before
2013|Clarifai|11.7|several|11.2 with more pictures
2014|GoogLeNet|6.67|7|VGG, second: 7.32, also seven
2015|ResNet|3.57|6|
2016|Trimps-Soushen|2.99|several|
2017|SENet|2.25|several|
"""
contest = list(csv.DictReader(io.StringIO(CONTEST), delimiter="|"))
SINGLE = {2012: 18.2, 2014: 7.89, 2015: 4.49}  # one network, validation pictures

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.1))
for entry in contest:
    year, error = int(entry["year"]), float(entry["error"])
    ax.bar(year, error, 0.62, color="0.75" if entry["networks"] == "0" else "C0")
    name = entry["team"].replace("Trimps-", "Trimps-\n")
    ax.text(year, max(error, SINGLE.get(year, 0), 5.1) + 0.6, f"{name}\n{entry['error']}",
            ha="center", va="bottom", fontsize=11)
for year, error in SINGLE.items():
    ax.plot([year - 0.31, year + 0.31], [error, error], color="C1", linewidth=3)
ax.axhline(5.1, color="0.35", linestyle=":")
ax.text(2017.55, 5.5, "one\nperson\n5.1", fontsize=11.5, va="bottom")
ax.text(2013.1, 22.0, "orange: one network alone", color="#a86200", fontsize=12)
ax.text(2013.1, 24.5, "blue: convolutional networks, averaged", color="C0", fontsize=12)
ax.text(2013.1, 27.0, "grey: features made by hand", color="0.4", fontsize=12)
ax.set(ylim=(0, 34), xticks=range(2010, 2018), ylabel="top-5 error (%)", xlim=(2009.4, 2018.5))
ax.set_title("From 28.2 to 2.25 %: each blue winner is several networks, averaged")
figures.save(fig, "fig-ilsvrc-results",
             caption="Winners of the contest's classification, error on its test pictures (2012 "
                     "with more of ImageNet to learn from; without: 16.4). Orange: one network "
                     "of the same kind on validation pictures, its answers averaged over 10 "
                     "cut-outs of each (AlexNet), 144 (GoogLeNet), several sizes (ResNet). Quoted.",
             alt="28.2 % in 2010, 25.8, 15.3 in 2012, 11.7, 6.67, 3.57, 2.99, 2.25 in 2017; one "
                 "AlexNet alone 18.2, one GoogLeNet 7.89, one ResNet 4.49.")

# %% tags=["fold"]
claims.quoted("num-ilsvrc-top5-table",
              "Top-5 error of AlexNet: one network 18.2 % (validation pictures); five 16.4 % "
              "(validation, and test); seven, two of which had learned from all of ImageNet's "
              "pictures of 2011 before, 15.4 % (validation), 15.3 % (test). Second in 2012: "
              "26.2 %.",
              "Krizhevsky, Sutskever and Hinton 2012, abstract and table 2")
claims.quoted("num-ilsvrc-images-1431167",
              "1,281,167 pictures to train, 50,000 to validate, 100,000 to test: 1,431,167",
              "the data of ILSVRC 2012 (Russakovsky et al. 2015, table 2)")
claims.quoted("num-imagenet-15m-22k",
              "over 15 million labelled pictures in roughly 22,000 categories",
              "Krizhevsky, Sutskever and Hinton 2012, section 2")

# %% [markdown]
# So "15.3 %" and "18.2 %" are both AlexNet's: seven networks on the test pictures, one network on the validation pictures. Ask for both before you compare, and for the cut-outs of each picture (*crops*) over which the answers were averaged.
#
# The networks themselves we need not quote: the course has them, and counts.

# %%
with torch.device("meta"):  # networks without numbers: enough to count
    nets = {"AlexNet": models.alexnet_2012(), "VGG-19": models.vgg19(),
            "GoogLeNet": models.googlenet_2014(aux_logits=False), "ResNet-152": models.resnet152()}
sides = {"AlexNet": 227}  # pixels; the others read 224 x 224
tables = {name: cost.table(net, (3, sides.get(name, 224), sides.get(name, 224)))
          for name, net in nets.items()}

# %% tags=["define", "fold"]
def depth(table):
    """Convolutions and linear layers on the longest way through a network, from its costs."""
    longest = []
    for row in table.rows:
        before = max((longest[i] for i in row.inputs if i >= 0), default=0)
        longest.append(before + (row.kind in ("Conv2d", "Linear")))
    return max(longest)

# %% tags=["fold"]
fig = diagrams.depths([(name, net, (3, sides.get(name, 224), sides.get(name, 224)))
                       for name, net in nets.items()])
for patch in fig.axes[0].patches:
    patch.set_rasterized(True)  # hundreds of stripes: small as a picture
width, height = fig.get_size_inches()
fig.set_size_inches(width, height + 0.4)  # room for the title
fig.set_layout_engine("none")
fig.axes[0].set_position([0, 0, 1, height / (height + 0.4)])
fig.text(0.01, 0.985, "From 8 to 152 layers in three years", fontsize=14, va="top")
figures.save(fig, "fig-revolution-of-depth",
             caption="Four winners and runners-up of 2012, 2014 (two) and 2015, drawn from their "
                     "modules; a stripe is a layer, its height grows with the side of its maps.",
             alt="AlexNet has 8 layers of weights, VGG-19 19, GoogLeNet 22, ResNet-152 152.")
counted = {name: depth(table) for name, table in tables.items()}
claims.table("num-depth-revolution", "Layers of weights in a row, counted in the networks.",
             {name: (counted[name], told) for name, told in
              {"AlexNet": 8, "VGG-19": 19, "GoogLeNet": 22, "ResNet-152": 152}.items()},
             columns=("network", "counted", "its paper"))
plain = [841, 2500, 2000, 1500, 1000, 500, 10]  # 29 x 29 pixels, five layers, ten digits
millions = sum((a + 1) * b for a, b in zip(plain, plain[1:], strict=False)) / 1e6
claims.check("arch-ciresan-gpu-2010",
             "Cireşan's plain network of 2010, 2500-2000-1500-1000-500-10 units behind 29 × 29 "
             "pixels, has {here:.3f} million weights; its paper says 12.11.",
             here=(millions, "~", 12.11, 0.01))
sizes = {name: table.parameters for name, table in tables.items()}
claims.check("num-depth-revolution.weights",
             "ResNet-152 is {deeper:.0f} times as deep as AlexNet, with {share:.2f} times its "
             "weights.", deeper=(counted["ResNet-152"] / counted["AlexNet"], ">=", 10),
             share=(sizes["ResNet-152"] / sizes["AlexNet"], "<=", 1.1))

# %% tags=["fold"]
NETS = [(1989, "zip codes", 4, 9760), (1998, "LeNet-5", 7, 60_000),
        (2010, "plain, on a GPU", 6, round(millions * 1e6)),
        *[(year, name, counted[name], tables[name].parameters) for name, year in
          {"AlexNet": 2012, "VGG-19": 2014, "GoogLeNet": 2014, "ResNet-152": 2015}.items()]]

def known_in(year):
    """Depth and weights of the networks that were known in a year."""
    fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.7))
    old = [net for net in NETS if net[0] <= year]
    for born, name, layers, size in old:
        ax.plot(layers, size, "o", color="C0", markersize=10)
        left = name in ("AlexNet", "plain, on a GPU")  # room on that side
        ax.annotate(f"{name} {born}", (layers, size), (-9 if left else 9, 5), fontsize=12,
                    ha="right" if left else "left", textcoords="offset points")
    ax.set(xscale="log", yscale="log", xlim=(1, 600), ylim=(3e3, 9e8), ylabel="weights",
           xlabel="layers of weights in a row", xticks=[4, 8, 20, 50, 150])
    ax.set_xticklabels([4, 8, 20, 50, 150])
    ax.minorticks_off()
    ax.set_title(f"Known by {year}: {len(old)} of {len(NETS)} networks")
    return fig, "; ".join(f"{name} {layers} layers" for _, name, layers, _ in old) + "."

years = (1989, 1998, 2003, 2010, 2012, 2014, 2015, 2017)
widgets.explore(known_in, year=widgets.Slider(2015, 1989, 2017, label="year", kept=years))

# %% [markdown]
# (Layers of the first three as their papers count them.)
#
# **We now know** whose error is meant, and that from AlexNet to ResNet-152 depth grew while the number of weights did not. (From 1989 to 2012 it was the other way round: twice the depth, thousands of times the weights.)
# **This does not show** *why* errors fell: depth, more computing, better training and averaging all changed together. Lessons 11 to 15 take them apart.
#
# **Exercise 00.3.** Somebody writes: "1980 Neocognitron. 1986 backpropagation is made popular. 1998 LeCun's convolutional network reads digits of zip codes. 2010 Theano begins. 2012 AlexNet. 2014 ResNet. 2017 PyTorch." Three years are wrong. Ask `events` (each has `year`, `what`, `who`, `source`), and return a dictionary from the wrong year to the right one.

# %%
wrong_years = ...  # such as {1900: 1901, ...}

exercises.check("00.3", wrong_years)

# %% [markdown]
# ## 4 · What a graphics card changes
#
# A graphics card (*GPU*) has thousands of small processors. That helps only where there is much to do that need not wait. Each number of a matrix product is a sum of its own: here we compute it in blocks, in random order, and compare.

# %%
stream = np.random.default_rng(seed)
left, right = stream.integers(-9, 10, (2, 60, 60))  # whole numbers: no rounding
blocks = [(r, c) for r in range(0, 60, 20) for c in range(0, 60, 20)]
result = np.zeros_like(left)
for r, c in stream.permutation(blocks):  # whoever is free takes the next block
    result[r:r + 20, c:c + 20] = left[r:r + 20] @ right[:, c:c + 20]
print("numbers that differ:", int((result != left @ right).sum()))

# %% [markdown] tags=["ledger:prac-cpu-vs-gpu"]
# But the numbers must come from memory. Call a multiplication or an addition an *operation*; a number takes 4 bytes. Adding two arrays: one operation for 12 bytes (two numbers read, one written). Multiplying an $m \times k$ matrix by a $k \times m$ one: $2 m^2 k$ operations for $4 (m^2 + 2 m k)$ bytes. The larger $k$, the more is done with each number fetched.

# %%
exercises.predict("00.p3", "In one second this processor core does, of a large matrix product "
                  "compared with adding large arrays,",
                  ("fewer operations", "about as many", "at least five times as many"))

# %% tags=["define"]
def per_second(work, operations):
    """Operations in a second; the best of several tries, since others use the machine too."""
    return operations / min(timeit.repeat(work, number=1, repeat=7))

# %%
widths = [1, 2, 4, 8, 16, 32, 64, 128, 256]  # k
per_byte, rate = [], []
for k in widths:
    a, b, out = torch.randn(side, k), torch.randn(k, side), torch.empty(side, side)
    operations = 2 * side**2 * k
    per_byte.append(operations / (4 * (side**2 + 2 * side * k)))
    rate.append(per_second(lambda: torch.mm(a, b, out=out), operations))
adding = {}
for length in (2**14, 2**24):  # 192 kB, which stays near the processor, and 200 MB
    a, b, out = torch.randn(length), torch.randn(length), torch.empty(length)
    adding[length] = per_second(lambda: torch.add(a, b, out=out), length)

# %% tags=["fold"]
times = max(rate) / adding[2**24]
exercises.reveal("00.p3", "at least five times as many" if times >= 5 else
                 "about as many" if times >= 0.7 else "fewer operations",
                 "The numbers are in the figure and below it.")
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.0))
ax.plot(per_byte, np.array(rate) / 1e9, "o-", color="C0")
ax.plot([1 / 12, 1 / 12], np.array(list(adding.values())) / 1e9, "s", color="C1", markersize=9)
ax.text(0.1, adding[2**14] / 1e9, "adding short arrays", color="#a86200", va="center")
ax.text(0.1, adding[2**24] / 1e9, "adding long arrays", color="#a86200", va="center")
ax.text(per_byte[3], rate[3] / 1e9, "products with\nlarger and larger k  ", color="C0", ha="right",
        va="bottom")
if torch.cuda.is_available():
    big = torch.randn(4096, 4096, device="cuda")
    def on_gpu():
        big @ big
        torch.cuda.synchronize()
    speed = per_second(on_gpu, 2 * 4096**3) / 1e9
    ax.plot(4096 / 6, speed, "*", color="C2", markersize=16)
    ax.text(450, speed, "this machine's graphics card", color="C2", ha="right", va="center")
ax.set(xscale="log", yscale="log", xlabel="operations for each byte read or written",
       xlim=(0.06, 1500 if torch.cuda.is_available() else 150),
       ylabel="thousand million\noperations a second")
ax.set_title("The more is done with each byte the faster, up to a limit")
figures.save(fig, "prac-cpu-vs-gpu",
             caption="One core of the processor that made this page, float32, best of seven tries; "
                     f"matrices of {side} rows. The numbers differ from machine to "
                     "machine, and other work on it shows as dents.",
             alt="Operations a second rise with the operations for each byte, up to a limit; "
                 "adding long arrays is slowest, adding short ones faster.", varies=True)

# %% tags=["fold"]
claims.check("prac-cpu-vs-gpu",
             "The fastest product (k = {k}) does {times:.0f} times as many operations a second as "
             "adding arrays of 16 million numbers, and {narrow:.0f} times as many as with k = 1.",
             k=widths[int(np.argmax(rate))], times=(max(rate) / adding[2**24], ">=", 5),
             narrow=(max(rate) / rate[0], ">=", 1.5), varies=True)
claims.check("prac-cpu-vs-gpu.near",
             "The same additions on short arrays, which stay in the memory close to the "
             "processor: {near:.1f} times as many a second.",
             near=(adding[2**14] / adding[2**24], ">=", 1.2), varies=True)
claims.check("emp-parallel-independence-of-conv",
             "Nine blocks, each computed by itself and in random order, give the same product: "
             "{off} numbers differ.", off=(int((result != left @ right).sum()), "==", 0))
claims.quoted("emp-gpu-effective",
              "a graphics card trained the plain networks of 2010 about 50 times as fast as a "
              "processor",
              "Schmidhuber's page on the contests won by networks on graphics cards")

# %% [markdown]
# Short arrays are the intervention: the same additions, nothing fetched from far away, and more of them in a second. So waiting for memory is a part of the reason. The rest goes along with how often a product uses each number once it is there. A GPU has both: many processors, and fast memory *of its own*, into which everything must first be copied.
#
# **Exercise 00.4.** A layer multiplies `batch` rows of `inputs` numbers by its weights (`inputs` × `outputs`). Weights and rows are read once, the results written once, 4 bytes each. From which `batch` on are there at least `wanted` operations for each byte? Return the smallest one, or `None` if even a million rows are not enough. (This is one reason why pictures are computed in *batches*.)

# %%
def smallest_batch(inputs, outputs, wanted):
    """The smallest number of rows, 1 or more."""
    ...

exercises.check("00.4", smallest_batch)

# %% [markdown] tags=["ledger:prac-data-loading-fixes"]
# ### Who feeds it?
#
# While the GPU works, the next pictures must be read. Here reading a *batch* of eight takes longer than the *step* in which they are used; both are only *waits* (`time.sleep`), so that nothing but their order matters. PyTorch's `DataLoader` collects the pictures. With `num_workers=2` two more processes read ahead.

# %% tags=["define"]
class Album(Dataset):
    """Pictures that take a while to read; each tells when that was."""

    def __init__(self, pictures, seconds):
        self.pictures, self.seconds = pictures, seconds

    def __len__(self):
        return self.pictures

    def __getitem__(self, number):
        begin = time.monotonic()
        time.sleep(self.seconds)  # reading from the disk, unpacking
        return begin, time.monotonic()

# %% tags=["define", "fold"]
CAN_COPY = "fork" in multiprocessing.get_all_start_methods()  # not on Windows

def loader(album, workers):
    """Batches of eight; the workers are copies of this process where the system can copy it."""
    workers = workers if CAN_COPY else 0
    return DataLoader(album, batch_size=8, num_workers=workers,
                      multiprocessing_context="fork" if workers else None)

# %%
album = Album(pictures=8 * 20, seconds=read_ms / 1000)
history, took = {}, {}  # for each number of workers: when was what, and how long in all
for workers in (0, 1, 2):
    history[workers] = []
    for begins, ends in loader(album, workers):
        step = time.monotonic()
        time.sleep(step_ms / 1000)  # the GPU computes
        history[workers].append((float(min(begins)), float(max(ends)), step))
    first_step = history[workers][0][2]
    took[workers] = time.monotonic() - first_step  # without the start of the workers

# %% tags=["fold"]
fig, axes = plt.subplots(2, 1, figsize=(figures.WIDTH, 3.9), sharex=True)
for ax, workers in zip(axes, (0, 2), strict=True):
    zero = history[workers][0][0]  # the first picture
    for number, times_of in enumerate(history[workers]):
        begin, end, step = (moment - zero for moment in times_of)
        lane = 1 + (number % workers if workers else 0)
        ax.barh(-lane, end - begin, 0.8, begin, color="C0", edgecolor="white")
        ax.barh(0, step_ms / 1000, 0.8, step, color="C1", edgecolor="white")
    lanes = max(workers, 1)
    ax.set(yticks=[0, *range(-lanes, 0)], ylim=(-lanes - 0.6, 0.6),
           xlim=(0, history[0][6][2] - history[0][0][0]))
    ax.set_yticklabels(["GPU", *(["reads"] if not workers else ["worker 2", "worker 1"])],
                       fontsize=12)
axes[1].set_xlabel("seconds")
axes[0].set_title("Alone, one waits for the other; two workers keep the GPU busy")
figures.save(fig, "fig-data-prefetch-timeline",
             caption=f"Measured: reading a batch of eight (blue, {read_ms:g} ms a picture) and "
                     f"a step (orange, {step_ms:g} ms), both waits. Above without workers, below "
                     "with two.",
             alt="Above, blue and orange bars take turns; below, orange bars follow each other "
                 "nearly without gaps while two rows of blue bars run ahead.", varies=True)

# %% tags=["fold"]
if CAN_COPY:
    claims.check("emp-data-loading-bottleneck",
                 "Reading a batch takes {read:.0f} ms, a step {step:.0f}. Pictures a second, from "
                 "the first step on: {none:.0f} without workers, {one:.0f} with one, {two:.0f} "
                 "with two, which is {gain:.1f} times as many as without.",
                 read=8 * read_ms, step=step_ms, none=len(album) / took[0],
                 one=len(album) / took[1], two=len(album) / took[2],
                 gain=(took[0] / took[2], ">=", 1.3), varies=True)
else:
    print("Not measured: this system cannot copy a process, so nothing was read ahead.")

# %% [markdown]
# **We now know** that a fast processor is fast only where much is done with each byte, and that reading can be hidden behind computing.
# **This does not show** how fast a GPU is (none was used for this page), nor how many workers pay: real reading needs cores and a disk, which waits do not.
#
# **Exercise 00.5.** Predict the times. Batch number $k$ = 0, 1, 2 … is read by worker $k$ modulo `workers`, one after the other, each in `read` seconds, and all workers start at once. The steps take `step` seconds each, in order, and each needs its batch. When is the last of `batches` steps done? With `workers=0` reading and step take turns.

# %%
def finished(batches, read, step, workers):
    """Seconds from the start to the end of the last step."""
    ...

exercises.check("00.5", finished)

# %% [markdown]
# ## 5 · Run it, or record it first?
#
# Networks are written with a *framework*: a library that computes with grids of numbers, on a graphics card too, and finds the slopes needed for learning. PyTorch is the one of this course; Theano and TensorFlow came before it. Around 2015 a program in these two worked in two steps. First, *describe* the computation, without numbers: that gives a *graph*, a list of operations. Then *run* it, with numbers put in. PyTorch simply runs each line. There is a way between: run once, with an example, and record what was done (*tracing*). Here it is, small: a number that writes on a tape what is done with it.

# %% tags=["define", "ledger:prac-tensorflow-two-steps"]
OPERATIONS = {"add": operator.add, "multiply": operator.mul, "relu": lambda x, _: max(x, 0.0)}

class Recorded:
    """A number that writes on a tape what is done with it."""

    def __init__(self, value, tape, step=("input", None, None, False)):
        self.value, self.tape, self.place = value, tape, len(tape)
        tape.append(step)

    def write(self, name, other):
        known = isinstance(other, Recorded)  # another number of the tape, or a constant
        value = OPERATIONS[name](self.value, other.value if known else other)
        step = (name, self.place, other.place if known else other, known)
        return Recorded(value, self.tape, step)

    def __add__(self, other):
        return self.write("add", other)

    def __mul__(self, other):
        return self.write("multiply", other)

    def relu(self):
        return self.write("relu", 0.0)

    def __gt__(self, other):  # `>` is answered at once: nothing is written
        return self.value > other

    __radd__, __rmul__ = __add__, __mul__

# %% tags=["define"]
def record(function, example):
    """The tape of a function, written while it computes the example."""
    tape = []
    function(Recorded(example, tape))
    return tape

def replay(tape, number):
    """Run the tape with another number; the function is no longer needed."""
    values = []
    for name, place, other, known in tape:
        if name == "input":
            values.append(number)
        else:
            values.append(OPERATIONS[name](values[place], values[other] if known else other))
    return values[-1]

# %%
def leaky(x):
    """x, but a tenth of it below 0."""
    if x > 0:
        return x * 1.0
    return x * 0.1

tape = record(leaky, 2.0)
print(tape)
print("3.0:", leaky(3.0), replay(tape, 3.0))
exercises.predict("00.p4", "leaky(-2.0) is -0.2. The tape gives", ("-0.2", "-2.0", "an error"))

# %%
played = replay(tape, -2.0)
exercises.reveal("00.p4", f"{played:.1f}", "The tape has one path only.")
print("-2.0:", leaky(-2.0), played)

# %% tags=["fold", "ledger:prac-static-dynamic-graphs"]
fig, axes = plt.subplots(1, 3, figsize=(figures.WIDTH, 3.3))
cases = (("run with 2", ["2", "2 > 0", "× 1.0", f"{leaky(2.0):g}"], "C0"),
         ("run with −2", ["−2", "−2 > 0", "× 0.1", f"{leaky(-2.0):g}"], "C0"),
         ("tape of 2, given −2", ["−2", f"× {tape[1][2]}", f"{played:g}"], "C1"))
for ax, (name, steps, colour) in zip(axes, cases, strict=True):
    for row, text in enumerate(steps):
        place = row if len(steps) == 4 or row == 0 else row + 1
        ax.text(0, -place, text.replace("-", "−"), ha="center", va="center", fontsize=14,
                bbox={"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": colour,
                      "linewidth": 2})
        if row:
            ax.annotate("", (0, -place + 0.28), (0, -place + 0.72 + (len(steps) == 3 and row == 1)),
                        arrowprops={"arrowstyle": "->", "color": "0.4"})
    ax.set(xlim=(-1, 1), ylim=(-3.5, 0.5))
    ax.set_axis_off()
    ax.set_title(name, loc="center")
fig.suptitle("A tape keeps the branch that it saw, and not the question", x=0.01, ha="left")
figures.save(fig, "fig-static-vs-dynamic",
             caption="leaky, run line by line with 2 and with −2, and its tape, recorded with 2 "
                     "and run with −2.",
             alt="Run line by line, 2 stays 2 and −2 becomes −0.2; the tape has no comparison and "
                 "gives −2.")

# %% [markdown]
# `torch.fx` sees the trap: like the programs of 2015 it records a module without any example, so an `if` on a number is refused. `torch.export` records a whole network with its weights, and the file runs in another process, in which our class does not exist.

# %% tags=["define"]
class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else 0.1 * x

class Two(nn.Module):
    """Two linear layers with a ReLU between them."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 8), nn.Linear(8, 1)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))

# %%
print(fx.symbolic_trace(Two()).code.strip())
try:
    fx.symbolic_trace(Branching())
    refused = False
except fx.proxy.TraceError:
    refused = True
print("an if on a number is refused:", refused)

# %%
ELSEWHERE = """
import sys, torch
net = torch.export.load(sys.argv[1]).module()
print(net(torch.tensor([[1.0, 2.0]])).item())
"""
with runtime.seeded(seed), tempfile.TemporaryDirectory() as folder:
    net, file = Two().eval(), Path(folder) / "two.pt2"
    torch.export.save(torch.export.export(net, (torch.zeros(1, 2),)), file)
    told = subprocess.run([sys.executable, "-c", ELSEWHERE, file], capture_output=True, text=True,
                          check=True).stdout
here = net(torch.tensor([[1.0, 2.0]])).item()

# %% tags=["fold"]
claims.check("err-dynamic-needs-code",
             "Another process without the class gives the same number (difference {off:.1g}); an "
             "`if` on a number was refused: {refused}. The tape of `leaky` is wrong by {wrong:.1f} "
             "for −2.",
             off=(abs(float(told) - here), "<=", 1e-5), refused=(refused, "==", True),
             wrong=(abs(played - leaky(-2.0)), ">=", 1), varies=True)
stretch = torch.tensor([3.0, -2.0], dtype=torch.float64, requires_grad=True)

class Cube(torch.autograd.Function):
    """An operation with its own way back."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, slope):
        return 3 * ctx.saved_tensors[0] ** 2 * slope

claims.check("prac-pytorch-abstractions",
             "A self-written operation passes the comparison with numerical slopes: {passed}. "
             "What was a Variable is a Tensor today: {same}.",
             passed=(torch.autograd.gradcheck(Cube.apply, (stretch,)), "==", True),
             same=(type(torch.autograd.Variable(torch.ones(1))) is torch.Tensor, "==", True))

# %% [markdown] tags=["ledger:prac-framework-comparison"]
# | framework | from, since | today |
# |---|---|---|
# | Torch (Lua) | 2002 | not developed any more; PyTorch took over its core |
# | Theano | Montréal, 2007 | version 1.0 in November 2017 was the last big one; forks: Aesara, PyTensor |
# | Caffe | Berkeley, December 2013 | not developed any more |
# | TensorFlow | Google, November 2015 | since version 2 (2019) it runs line by line, and records on demand (`tf.function`) |
# | MXNet | 2015, Amazon's choice 2016 | retired by the Apache foundation, September 2023 |
# | CNTK | Microsoft, April 2015 (on GitHub: January 2016) | not developed any more |
# | PaddlePaddle | Baidu, 2016 | developed |
# | PyTorch | Facebook, January 2017 | 1.0 in December 2018; this course |
# | Caffe2 | Facebook, 2017 | became a part of PyTorch in 2018 |
# | Keras | 2015 | version 3 (2023) runs on TensorFlow, JAX or PyTorch |
# | JAX | Google, 2018 | developed; records functions (`jax.jit`) |

# %% [markdown]
# **We now know** what a graph is, what recording loses, and what it gives: a program that runs without its source.
# **This does not show** that one is faster; that depends on what is done with the graph (`torch.compile`).
#
# **Exercise 00.6.** Write `leaky` so that every recording of it is right, whichever example it was recorded with: without `if`. A recorded number knows `+`, `*` and `.relu()` (itself, or 0 where it is below 0).

# %%
def leaky_without_if(x):
    """x above 0, a tenth of x below."""
    ...

exercises.check("00.6", leaky_without_if, record, replay)

# %% [markdown] tags=["ledger:arch-deep-q"]
# ## 6 · Kinds of tasks, and the words of the course
#
# *Supervised*: the answers are given, a class (*classification*) or a number (*regression*). *Unsupervised*: no answers; find groups (*clustering*) or what does not belong (*anomaly detection*). *Reinforcement*: act, and be rewarded later. (A *deep Q-network* is a network that estimates, for each possible action, the rewards to come: seven Atari games in 2013, 49 in 2015.)

# %% tags=["fold"]
stream = np.random.default_rng(seed)
cloud = stream.normal(size=(60, 2)) * 0.45 + np.repeat([[-1, -0.6], [1, 0.6]], 30, axis=0)
kind, across = np.repeat([-1.0, 1.0], 30), np.linspace(-2, 2, 30)
fig, axes = plt.subplots(1, 4, figsize=(figures.WIDTH, 2.6))
unit = learn(with_one(cloud), kind[:, None], 50, stream)[0]
for value, marker in ((-1, "o"), (1, "s")):
    axes[0].plot(*cloud[kind == value].T, marker, markersize=5)
axes[0].plot([-2, 2], [-(unit[0] + unit[1] * a) / unit[2] for a in (-2, 2)], color="0.2")
heights = 0.7 * across + stream.normal(size=30) * 0.3
axes[1].plot(across, heights, "o", markersize=5)
axes[1].plot(across, np.polyval(np.polyfit(across, heights, 1), across), color="0.2")
centres = cloud[[0, 59]]
for _ in range(5):  # k-means: nearest centre, then the mean of each group
    group = ((cloud[:, None] - centres) ** 2).sum(2).argmin(1)
    centres = np.array([cloud[group == g].mean(0) for g in (0, 1)])
axes[2].plot(*cloud.T, "o", color="0.6", markersize=5)
axes[2].plot(*centres.T, "*", color="C3", markersize=16)
crowd = np.concatenate([stream.normal(size=(50, 2)) * 0.4, [[1.7, -1.6]]])
odd = np.linalg.norm((crowd - crowd.mean(0)) / crowd.std(0), axis=1) > 3
axes[3].plot(*crowd[~odd].T, "o", color="0.6", markersize=5)
axes[3].plot(*crowd[odd].T, "D", color="C3", markersize=8)
for ax, title in zip(axes, ("a class", "a number", "groups", "what is odd"), strict=True):
    ax.set(xticks=[], yticks=[], xlim=(-2.3, 2.3), ylim=(-2.3, 2.3), xlabel=title, aspect="equal")
fig.suptitle("With answers: a class, a number. Without: groups, what is odd", x=0.01, ha="left")
figures.save(fig, "fig-ml-types",
             caption="Made-up points. A unit's line (Rosenblatt's rule), a fitted line, two "
                     "centres (k-means), and a point more than three spreads from the mean.",
             alt="Two kinds of points with a line between them; a line through points; two groups "
                 "with their centres; one point far from the others.")

# %% [markdown] tags=["ledger:prac-supervised-problem-types"]
# **Exercise 00.7.** Which kind is it: `"classification"`, `"regression"`, `"clustering"`, `"anomaly detection"` or `"reinforcement"`?
#
# `"spam"`: 10,000 e-mails, each marked as spam or not. `"rent"`: flats with size, place and rent. `"articles"`: a heap of newspaper articles, to be sorted into themes that nobody has named. `"pump"`: a year of a pump's vibrations, all of them healthy; ring a bell when it sounds different. `"chess"`: play, and hear at the end who won. `"age"`: photographs of people, with their age in years.

# %%
kinds = ...  # such as {"spam": "clustering", ...}

exercises.check("00.7", kinds)

# %% [markdown]
# **Words of the course**
#
# | word | in short | lesson |
# |---|---|---|
# | tensor | numbers in a grid of any number of directions; pictures: batch × channels × height × width, written N, C, H, W | 02, 04 |
# | channel | one number for each pixel: red, green, blue; later whatever a layer computes | 04 |
# | weight, parameter | a number that is learned | 02 |
# | layer, network | a function with weights; layers behind each other | 03 |
# | activation | what a unit puts out; also the function that bends it, such as ReLU: $\max(0, x)$ | 05 |
# | score, logit | what the last layer says for each class, before it becomes a probability | 02 |
# | loss | one number: how wrong; training makes it small | 02 |
# | gradient | the slope of the loss for every weight | 02, 03 |
# | learning rate, step | how far the weights go against the gradient; doing it once | 02, 09 |
# | batch, epoch | the pictures of one step; one pass over all of them | 09 |
# | training, validation, test set | to learn from; to choose by; to judge at the end, once | 01 |
# | overfitting | good on what was learned from, worse on what is new | 08 |
# | accuracy, top-5 error | share of right first guesses; share without the right one among five | 01, 11 |
# | convolution, pooling | the same few weights at every place; one number for a group of places | 04 |
# | multiply-add | a product that is added to a sum: what work is counted in | 04, 15 |
# | seed | the number that fixes all random numbers of a run | 01 |

# %% [markdown]
# ## In practice
#
# - Begin with the simplest thing that could work, as here: `sklearn.linear_model.Perceptron`, `LogisticRegression`; then compare.
# - PyTorch runs line by line (*eager*); `torch.compile` makes it faster, `torch.export` makes a file for elsewhere (TorchScript, `torch.jit`, is deprecated).
# - Is the GPU waiting? Time one step with the same batch again and again, then with the loader: `DataLoader(num_workers=…, pin_memory=True)`. Small data: keep them in memory. Large: a fast disk (SSD).
# - Large batches and matrices use a GPU, small ones leave it idle; the numbers are in half precision there (bfloat16).
# - A number from a paper: on which pictures, of how many networks and crops, trained on what?
#
# ## History
#
# - 1958: Rosenblatt's perceptron, first as a program on an IBM 704; 1960: shown as the machine Mark I, and corrected only where it errs. 1960: Adaline. 1969: Minsky and Papert's book on what one layer cannot do.
# - 1970: Linnainmaa's reverse mode; 1982 Werbos for networks; 1986 Rumelhart, Hinton and Williams.
# - 1980: Fukushima's Neocognitron; 1989: LeCun's network for zip codes, trained by backpropagation; 1998: LeNet-5.
# - 2009: ImageNet (Fei-Fei Li's group); 2010: Cireşan's networks on a graphics card; 2012: AlexNet.
# - 2014: VGG and GoogLeNet; 2015: ResNet; 2017: the last contest.
#
# ## Exercises that are left
#
# **00.8 Open.** Choose an entry of `events` and look for an earlier one of the same idea. Which word of the entry would have to change?
#
# **00.9 Open.** What does the figure of the contest *not* show? Name two things that changed from year to year besides the networks.
#
# ## Summary
#
# - Most parts of AlexNet were older than 2012; it put them together, on very many pictures, on graphics cards.
# - Rosenblatt's rule reads digits, and a fixed random layer in front of it helps. One layer cannot learn XOR: no weights exist for it.
# - An error rate needs its condition: how many networks, which pictures, how many crops.
# - Much arithmetic for each byte makes a processor fast; reading ahead keeps it fed.
# - A recording is a program without its source, and keeps only the branch that it saw.

# %% [markdown] tags=["ledger:prac-applications-list", "ledger:prac-usage-requirements"]
# ## Also in the lectures
#
# **Used for** (with the year of a publication): speech (Google, 2012: error down by over 20 %; voicemail, 2015: by 49 %), search in one's own photographs without tags (Google, 2013), roofs fit for solar panels (Project Sunroof), diabetic eye disease (Gulshan et al., JAMA 2016), traffic signs, faces, captions, translation, Atari games.
#
# **What it needs**: many good examples; a goal that can be measured; enough computing. **What changed** since 1989: more data, faster machines, better methods. It shines where a single pixel or letter means little and many together mean something; its weakness is that it needs so many examples and does not say why.

# %% [markdown] tags=["ledger:prac-people-companies", "ledger:prac-references-courses", "ledger:prac-open-research-notes", "ledger:fig-google-trend-nips-growth", "not-drawn:fig-google-trend-nips-growth"]
# **People** (and where they were in 2017): Geoffrey Hinton (Toronto, Google), Yann LeCun (New York University, Facebook), Yoshua Bengio (Montréal), Andrew Ng (Stanford; Baidu until March), Jürgen Schmidhuber (IDSIA, NNAISENSE), Fei-Fei Li (Stanford, on leave at Google). Hinton, LeCun and Bengio received the Turing Award of 2018.
#
# **To read**: Stanford's course CS231n; Schmidhuber, Deep learning in neural networks: an overview (2015); A. Kurenkov, A "brief" history of neural nets and deep learning; E. Culurciello, A brief history of neural network architectures. **Open in 2017**, and for the most part now: how to begin (lesson 06), simpler designs (15), why it works at all.
#
# Left out: curves of Google searches and of the growth of the conference NIPS; their data are not in the lectures.

# %% tags=["fold", "ledger:prac-brain-analogy"]
# A filter like the cells that Hubel and Wiesel found: it prefers a bar of one direction.
v, u = np.mgrid[-10:11, -10:11]
gabor = np.exp(-(u**2 + v**2) / 40) * np.cos(0.6 * u)  # prefers upright bars
angles = np.arange(-90, 91, 5)
away = [u * np.cos(np.deg2rad(a)) + v * np.sin(np.deg2rad(a)) for a in angles]  # from its middle
bars = np.exp(-(np.array(away) ** 2) / 2)  # bright in the middle, soft edges
answer = np.maximum([(gabor * bar).sum() for bar in bars], 0)  # a cell cannot fire less than 0
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.0))
ax.plot(angles, answer / answer.max(), color="C0")
ax.set(xlabel="direction of the bar (degrees from upright)", ylabel="answer", ylim=(-0.05, 1.1),
       xticks=[-90, -45, 0, 45, 90])
ax.set_title("A striped filter answers bars of one direction, as some cells do")
figures.save(fig, "prac-brain-analogy",
             caption="A striped filter (Gabor filter, 21 × 21 pixels) laid over bars of 37 "
                     "directions; sums below 0 count as 0. Computed, not measured on a cell.",
             alt="The answer is largest for upright bars and nearly nothing for lying ones.")
claims.check("prac-brain-analogy",
             "Lying bars get {part:.0%} of the answer to upright ones. The likeness to cells ends "
             "there: these weights were written down.", part=(answer[0] / answer.max(), "<=", 0.2))

# %% [markdown] tags=["ledger:err-paralyzed", "ledger:err-cnn-invented-1997", "ledger:err-1998-introduced-cnn", "ledger:err-backprop-1986", "ledger:err-hubel-wiesel-years", "ledger:err-hinton-names", "ledger:err-typos-names", "ledger:err-theano-2010-dates", "ledger:err-pytorch-beta"]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | CNN invented in 1997 by LeCun | Fukushima's Neocognitron had layers that share weights in 1980; LeCun and others trained such a network by backpropagation in 1989; LeNet-5 is of 1998 | the papers in the table at the top |
# | the paper of 1998 introduced CNNs; zip letters | it describes LeNet-5, after ten years of such networks; the zip codes of 1989 are digits | LeCun et al. 1989, 1998 |
# | first perceptron machine 1957 | 1957 is the first report, 1958 the paper and the program; the machine Mark I was shown in 1960, the year of the report with the rule of section 1 | Rosenblatt 1957, 1958, 1960 |
# | MLP developed in 1960 by Adaline/Madaline | Adaline (Widrow and Hoff, 1960) is one unit; Madaline (Widrow's group, from 1962) several with a fixed vote. They are machines, not people, and only one layer of weights learns | section 2; Widrow and Lehr 1990 |
# | backprop developed in 1986 by Rumeelhart | Rumelhart, Hinton and Williams made it popular in 1986; Linnainmaa had reverse mode in 1970, Werbos proposed it for networks (thesis 1974, paper 1982) | their papers |
# | Hubel and Wisel: 1962, or 1959 to 1968 | Wiesel. Both: edges of one direction 1959; simple and complex cells and columns 1962; the monkey 1968 | J. Physiology 148, 160, 195 |
# | AlexNet's error is 15.4 or 16.4 | both: seven networks (two of them with more pictures) or five, on validation pictures; 15.3 is the seven's on test pictures. One network: 18.2 | section 3 |
# | 1,431,167 images | of all three parts; 1,281,167 of them are for training. AlexNet's paper says 150,000 test images: that is the number of the contest of 2010 | section 3 |
# | Theano began in 2010 | its first paper is of 2010; the work began in 2007 | Theano's release history |
# | Google's word errors down by more than 30 %, August 2012 and 2015 | the post of 2012 says over 20 %, the one on voicemail of 2015 followed an announced 49 % | the posts |
# | a dynamic graph always needs the code | true of PyTorch early in 2017; `torch.export` writes a file that runs without the class | section 5 |
# | PyTorch is beta; Variables; Visdom | of its time: Variable and Tensor became one in 0.4 (April 2018), 1.0 came in December 2018; TensorBoard is supported | section 5; release notes |
# | convolution can be paralyzed; rabid changes | parallelised; rapid | – |
# | Geoffrey Hilton, Jeoferry Hilton, New Yourk | Geoffrey Hinton, New York | – |
# | Standford, Nestrov, Denese, SDD, SGS, ephocs, MultuplyGate | Stanford, Nesterov, Dense, SSD, SGD, epochs, MultiplyGate | – |
#
# ## Sources
#
# - The notes: lectures 000, 001, 003, and 004 (sections 01, 05 and 08, after CS231n, Stanford 2017).
# - F. Rosenblatt: The perceptron, a probabilistic model for information storage and organization in the brain, Psychological Review 65 (1958); On the convergence of reinforcement procedures in simple perceptrons, Cornell Aeronautical Laboratory VG-1196-G-4 (1960). B. Widrow, M. Lehr: 30 years of adaptive neural networks, Proc. IEEE 78 (1990).
# - O. Russakovsky et al.: ImageNet large scale visual recognition challenge, IJCV 115 (2015), arXiv:1409.0575: data, winners to 2014, one person's 5.1 %. Winner of 2016: the contest's page of results. 2017: J. Hu et al., arXiv:1709.01507.
# - A. Krizhevsky, I. Sutskever, G. Hinton, NIPS 2012; C. Szegedy et al., arXiv:1409.4842; K. He et al., arXiv:1512.03385: errors of one network and of several.
# - D. Cireşan et al., arXiv:1003.0358, and Neural networks: tricks of the trade (2012). J. Schmidhuber: Who invented backpropagation? (2014, updated).
# - V. Mnih et al.: arXiv:1312.5602; Nature 518 (2015). PyTorch: migration guide of 0.4; documentation of torch.export.
