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
# # 18 · Image captioning
# ### How does a picture become a sentence?
#
# The network of the first figure reads a picture and writes a sentence about it, word by word. Before each word it spreads its *attention* over the picture. The bright parts are where it looked.
# Odd: it was trained on pictures and their sentences, and its eye before that on single digits and their names. No frame was ever given to it. Yet before it names a digit it looks at that one, and at the other before it names the other.
#
# **You will be able to**
# - turn sentences into numbers, and train a network to write the next word;
# - let it write alone, greedily or with several drafts, and stop;
# - say how much of its sentences comes from the picture, and how much from the language;
# - write soft attention, and test what a map of it means;
# - score sentences with BLEU, and say what that score misses.
#
# **You need** lesson 04 (convolution, pooling), lesson 07 (BatchNorm), lesson 09 (Adam) and lesson 17 (LSTM, its gates, teacher forcing).
#
# **Words.** A *map* is a grid of places; each of our places holds 64 numbers, its *features*. *Scores* are what a network puts out for each word; *softmax* turns them into probabilities. A *seed* fixes all random numbers of a training.
# Claims (✓) are made for the parameters below; with others the lesson shows what it measures and requires nothing.

# %% [markdown]
# **It costs** about 40 seconds of one processor core, no network connection, no GPU.

# %% tags=["parameters"]
seed: int = 100  # the first of the seeds; at least 0
seed_count: int = 3  # trainings of each writer; 2 to 10
source: str = "digits"  # whose digits lie in the scenes; one of digits, mnist
classes: int = 5  # kinds of digits, from zero on; 2 to 10
image_size: int = 32  # pixels a side, rounded down to a multiple of four; 32 to 96
pictures: int = 3000  # with two digits and a sentence, for training; 200 to 100000
passes: int = 2  # of the writers over them; 1 to 100
eye_passes: int = 3  # of the eye over 2500 pictures with one digit; 1 to 100

# %% tags=["imports", "fold"]
import math
from collections import Counter
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cnncourse import claims, exercises, figures, plots, runtime, scenes, training, widgets

# %% tags=["fold"]
# Look; scenes of two digits for training and test, scenes of one digit for the eye.
runtime.start(seed=seed, device="cpu", memory_format="channels_last")
# (Many small steps one after the other: no work for a GPU.)
figures.use_style()
seeds = list(range(seed, seed + seed_count))
BLUE, ORANGE, GREEN, RED = figures.CYCLE
side = image_size // 4 * 4
look = {"size": side, "heights": (round(0.31 * side), round(0.47 * side)), "classes": classes,
        "source": source}
train = scenes.make(pictures, train=True, objects=(2, 2), **look)
test = scenes.make(400, train=False, objects=(2, 2), **look)
single = scenes.make(2500, train=True, objects=(1, 1), seed=1, **look)
single_test = scenes.make(400, train=False, objects=(1, 1), seed=1, **look)

def as_input(images):
    """uint8 pictures as numbers from -1 to 1."""
    return images.to(torch.get_default_dtype()) / 127.5 - 1

# %% [markdown]
# The task: two coloured handwritten digits on photographs of brick, grass or gravel, and one sentence. What is higher (or, where they lie rather side by side, further left) is named first: *a red three above a blue one*, *a green two left of a yellow zero*. The digits of the test were written on other sheets of paper (whether by other hands is not recorded), and its grounds are other parts of the same photographs.
#
# The network has two parts, here and in the next cells. Pass over them now: sections 1 to 4 take them apart. The first is the *eye*, or *encoder*: four convolutions, which make a grid of places, a quarter as wide as the picture.

# %% tags=["define", "ledger:arch-captioner"]
def layer(inputs, outputs, stride=1):
    """A convolution of 3 × 3, BatchNorm, ReLU."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())

class Eye(nn.Module):
    """From a picture (N, 3, H, W) to features (N, 64, H/4, W/4), and to names of one object."""

    def __init__(self, names):
        super().__init__()
        self.features = nn.Sequential(layer(3, 16, stride=2), layer(16, 32), nn.MaxPool2d(2),
                                      layer(32, 64), layer(64, 64))
        self.name = nn.Linear(64, names)

    def forward(self, x):
        return self.name(self.features(x).amax((2, 3)))  # the largest over all places

# %% [markdown]
# The second is the *writer*, or *decoder*: an LSTM, which gets the last word and what it sees, and scores the next word. It comes in three kinds, which differ in what they see.

# %% tags=["define", "ledger:eq-soft-attention"]
class Writer(nn.Module):
    """Scores the next word. sees: "places" (attention), "vector" (one for all words), "nothing"."""

    def __init__(self, sees, places, words, width=64, units=96, keys=24):
        super().__init__()
        self.sees = sees
        self.gist = nn.Linear(places * width, width)  # the whole map in one vector
        self.begin = nn.Linear(width, 2 * units)
        self.where = nn.Parameter(0.1 * torch.randn(places, width))  # learnt, a vector a place
        self.key, self.query = nn.Linear(width, keys), nn.Linear(units, keys)
        self.match = nn.Linear(keys, 1)
        self.embed = nn.Embedding(words, 32)  # 32 numbers for each word, learnt
        self.gates = nn.Linear(32 + width + units, 4 * units)
        nn.init.ones_(self.gates.bias[units:2 * units].detach())  # forget gates (lesson 17)
        self.out = nn.Linear(units + width, words)

    def look(self, features):
        """From (N, 64, h, w): what may be looked at, (N, L, 64), with its keys; the first state."""
        places = features.flatten(2).transpose(1, 2)  # (N, L, 64), L = h * w
        if self.sees == "nothing":
            places = torch.zeros_like(places)
        gist = self.gist(places.flatten(1))  # (N, 64)
        seen = places + self.where if self.sees == "places" else gist[:, None]
        h, c = torch.tanh(self.begin(gist)).chunk(2, 1)
        return (seen, self.key(seen)), (h, c)

    def attend(self, seen, h, allowed=None):
        """Weights (N, L), which sum to 1, and the weighted mean of what is seen, (N, 64)."""
        values, keys = seen
        fit = self.match(torch.tanh(keys + self.query(h)[:, None]))[:, :, 0]  # (N, L)
        if allowed is not None:
            fit = fit.masked_fill(~allowed, -torch.inf)
        weights = fit.softmax(1)
        return weights, (weights[:, None] @ values)[:, 0]

    def step(self, word, state, seen, allowed=None):
        """The last word (N,) and state; scores (N, words), the next state, weights."""
        h, c = state
        weights, context = self.attend(seen, h, allowed)
        i, f, g, o = self.gates(torch.cat([self.embed(word), context, h], 1)).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return self.out(torch.cat([h, context], 1)), (h, c), weights

    def forward(self, features, words):
        """Scores (N, words, T) of the word after each of words (N, T)."""
        seen, state = self.look(features)
        scores = []
        for place in range(words.shape[1]):
            each, state, _ = self.step(words[:, place], state, seen)
            scores.append(each)
        return torch.stack(scores, 2)

# %% tags=["define"]
WORDS = ["<pad>", "<start>", "<end>", "a", "above", "left", "of", *scenes.COLOURS,
         *scenes.NUMBERS]
PAD, START, END = 0, 1, 2
LONGEST = 9  # words of "a red three left of a blue one", and <end>

def numbers_of(captions):
    """Sentences as numbers (N, 1 + LONGEST): <start>, the words, <end>, and <pad> to fill up."""
    rows = torch.full((len(captions), 1 + LONGEST), PAD)
    for row, caption in zip(rows, captions, strict=True):
        words = ["<start>", *caption.split(), "<end>"]
        row[:len(words)] = torch.tensor([WORDS.index(word) for word in words])
    return rows

# %% [markdown]
# The eye learns first, to name the digit and the colour in pictures that hold only one. Then it stays as it is (*frozen*), and its features are computed once for all pictures. Captioning networks of 2015 did the same: their eyes were trained on ImageNet.

# %% tags=["fold"]
def risen(optimiser, rate, count):
    """A learning rate that rises for a seventh of `count` steps and falls to 0."""
    return torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=count, pct_start=0.15)

def two_names(scores, goal):
    """Cross-entropy of the digit and of the colour; goal (N, 2)."""
    return (F.cross_entropy(scores[:, :classes], goal[:, 0])
            + F.cross_entropy(scores[:, classes:], goal[:, 1]))

def batches_of(count, size):
    """Whole batches in one pass."""
    return max(1, count // size)

# %%
with runtime.seeded(seed):
    eye = Eye(classes + 4).to(memory_format=torch.channels_last)
optimiser = torch.optim.Adam(eye.parameters(), 0.003)
goal = torch.stack([single.labels[:, 0], single.colours[:, 0]], 1)  # digit, colour
training.fit(eye, (as_input(single.images), goal), optimizer=optimiser, epochs=eye_passes,
             batch_size=64, drop_last=True, loss=two_names, progress=False,
             scheduler=risen(optimiser, 0.003, eye_passes * batches_of(2500, 64)))
features, features_test = (training.predict(eye.features, as_input(part.images), 200)
                           for part in (train, test))  # (N, 64, h, w)

# %% tags=["nbval-varies", "fold"]
named_alone = training.predict(eye, as_input(single_test.images), 200)  # (N, digits and colours)
digit, colour = named_alone[:, :classes].argmax(1), named_alone[:, classes:].argmax(1)
digit_right = (digit == single_test.labels[:, 0]).float().mean().item()
colour_right = (colour == single_test.colours[:, 0]).float().mean().item()
print(f"New pictures with one digit: the eye names {digit_right:.0%} of the digits rightly, "
      f"{colour_right:.0%} of the colours.")

# %% [markdown]
# And then the writers: all three kinds on the same sentences and in the same number of steps, from the same seeds; the one that sees nothing from the first seed alone. All look through the one eye trained above: the ranges over seeds below are those of the writers, not of the eye.

# %%
spelt, spelt_test = numbers_of(train.captions), numbers_of(test.captions)
RATES = {"places": 0.01, "vector": 0.006, "nothing": 0.01}
LOSS = partial(F.cross_entropy, ignore_index=PAD)
places = features.shape[2] * features.shape[3]
steps = passes * batches_of(pictures, 32)
writers = {}
for sees, rate in RATES.items():
    few = seeds[:1] if sees == "nothing" else seeds
    writers[sees] = training.repeat(
        lambda: Writer(sees, places, len(WORDS)),
        ((features, spelt[:, :-1]), spelt[:, 1:]), seeds=few, epochs=passes, batch_size=32,
        drop_last=True, loss=LOSS, progress=False,
        optimizer=lambda weights: torch.optim.Adam(weights, rate),
        scheduler=lambda optimiser: risen(optimiser, rate, steps)).models

# %% tags=["define"]
@torch.no_grad()
def write(net, features, first=(), allowed=None):
    """Words (N, LONGEST) written alone, greedily, and where it looked, (N, LONGEST, L).

    first: numbers of words (N,) put into its mouth to begin with. allowed: places (N, L).
    """
    seen, state = net.look(features)
    word = torch.full((len(features),), START)
    words, maps = [], []
    for place in range(LONGEST):
        scores, state, weights = net.step(word, state, seen, allowed)
        word = first[place] if place < len(first) else scores.argmax(1)
        words.append(word)
        maps.append(weights)
    return torch.stack(words, 1), torch.stack(maps, 1)

# %%
alone = {sees: [write(net, features_test) for net in nets] for sees, nets in writers.items()}

# %% tags=["fold"]
def sentence(row):
    """The words of a row of numbers, up to <end>."""
    words = [WORDS[number] for number in row.tolist()]
    return words[:words.index("<end>")] if "<end>" in words else words

def right_sentences(words, goal=spelt_test[:, 1:]):
    """Which sentences (N,) agree with the right ones in every word up to <end>."""
    return ((words == goal) | (goal == PAD)).all(1)

def right_words(words, goal=spelt_test[:, 1:]):
    """The share of right words, <end> included, by their place in the sentence."""
    return ((words == goal) & (goal != PAD)).sum().item() / max(1, (goal != PAD).sum().item())

def pairs_of(words):
    """The set of (colour, digit) that a list of words names."""
    colours = set(scenes.COLOURS)
    return {(one, other) for one, other in zip(words, words[1:], strict=False) if one in colours}

def in_cells(boxes):
    """Which share of each place of the map a box covers, (N, K, L), from boxes (N, K, 4)."""
    edges = torch.arange(side // 4) * 4.0
    spans = []
    for low, high in ((boxes[..., 0], boxes[..., 2]), (boxes[..., 1], boxes[..., 3])):
        begin, end = (torch.stack([edge] * len(edges), -1) for edge in (low, high))
        spans.append((torch.minimum(end, edges + 4) - torch.maximum(begin, edges)).clamp(0) / 4)
    across, down = spans
    return (down[..., :, None] * across[..., None, :]).flatten(-2)

inside = in_cells(test.boxes)  # (N, 2, L)
says = {"above": [], "left": []}  # test pictures, by the word between, written rightly
for row in right_sentences(alone["places"][0][0]).nonzero()[:, 0].tolist():
    says["above" if "above" in test.captions[row] else "left"].append(row)
SHOWN = [(rows or [0])[0] for rows in says.values()]

# %% tags=["nbval-varies", "fold"]
def lit(image, weights):
    """A picture (3, H, W) as bright as the attention (L,) on it, the strongest place as it is."""
    grid = weights.view(1, 1, side // 4, side // 4)
    grid = F.interpolate(grid, size=(side, side), mode="bilinear")[0, 0]
    light = 0.25 + 0.75 * (grid / grid.max())
    return (image.float() / 255 * light).clamp(0, 1)

def word_by_word(axes, row, words, maps):
    """The picture and its words, each with its map and the box of what it names."""
    plots.picture(axes[0], test.images[row])
    for ax in axes[1:]:
        ax.set_axis_off()
    for place, word in enumerate(sentence(words[row])[:len(axes) - 1]):
        ax = axes[1 + place]
        plots.picture(ax, lit(test.images[row], maps[row, place]))
        ax.set_title(word, loc="center", fontsize=13)
        named = test.mentions[row, place].item() if place < test.mentions.shape[1] else -1
        if named >= 0:
            plots.boxes(ax, test.boxes[row, named][None], colours="white", width=1.5)

fig, axes = plt.subplots(2, 9, figsize=(figures.WIDTH, 2.9))
for line, row in zip(axes, SHOWN, strict=True):
    word_by_word(line, row, *alone["places"][0])
fig.suptitle("The light moves to the digit that is being named", x=0.01,
             ha="left", fontsize=14)
figures.save(fig, "emp-attention-looks-at-regions",
             caption="For each form of sentence the first test picture that the first seed's "
                     "writer described rightly. Left: the picture. Then word by word: bright "
                     "where the attention is; white frame: the box of the digit that the word "
                     "names, which no network was ever given.",
             alt="Two rows of small pictures, one a word. At colours and digits the bright spot "
                 "lies in the white frame, first on one digit and later on the other.")

# %% tags=["fold"]
def attention_shares(words, maps):
    """Mean attention in a box while a colour or digit of it is said rightly.

    Of the digit named, of the other one, by the area of the named one, and in the named one's
    box by the maps of the next picture.
    """
    who = F.pad(test.mentions, (0, LONGEST - test.mentions.shape[1]), value=-1)
    rows, at = ((words == spelt_test[:, 1:]) & (who >= 0)).nonzero(as_tuple=True)
    named = who[rows, at]
    own, other = inside[rows, named], inside[rows, 1 - named]
    return {"own": (maps[rows, at] * own).sum(1).mean().item(),
            "other": (maps[rows, at] * other).sum(1).mean().item(),
            "area": own.mean().item(),
            "foreign": (maps[(rows + 1) % len(maps), at] * own).sum(1).mean().item()}

shares = [attention_shares(*each) for each in alone["places"]]
claims.check("emp-attention-looks-at-regions",
             "While the writers say a colour or a digit rightly, {own:.0%} of their attention lies "
             "in the box of the digit that the word names and {other:.0%} in the other's; evenly "
             "spread it would be {area:.0%}, with the map of another picture {foreign:.0%}.",
             seeds=seeds, on="every", varies=True,
             own=([each["own"] for each in shares], ">=", 0.45),
             other=([each["other"] for each in shares], "<=", 0.35),
             area=[each["area"] for each in shares],
             foreign=([each["foreign"] for each in shares], "<=", 0.35))

# %% [markdown]
# ## 1 · Words as numbers
#
# Each word has a number, its place in a list. Three entries are no words: `<start>`, `<end>`, and `<pad>`, which fills short sentences up, so that many fit into one array.

# %%
for number in (0, 1):
    print(test.captions[number], "→", numbers_of(test.captions)[number].tolist())

# %% [markdown]
# The task at each place: from the picture and all words *before*, the next word. In training the network reads the *right* words before, whatever it would have said itself. This is *teacher forcing* (lesson 17): inputs are the row without its last number, targets the row without its first.
#
# The loss is the cross-entropy, minus the logarithm of the probability of the right word, averaged over words. `<pad>` is no word: it must not count. That is what `ignore_index` does.

# %%
net = writers["places"][0]
with torch.no_grad():
    scores = net(features_test, spelt_test[:, :-1])  # (N, words, T)
targets = spelt_test[:, 1:]
masked = F.cross_entropy(scores, targets, ignore_index=PAD)
unmasked = F.cross_entropy(scores, targets)

# %% tags=["nbval-varies", "fold"]
by_hand, real = 0.0, 0
for row, goals in zip(scores, targets.tolist(), strict=True):
    for place, goal_word in enumerate(goals):
        if goal_word != PAD:
            column = row[:, place].double()
            by_hand += (column.exp().sum().log() - column[goal_word]).item()
            real += 1
pads = 1 - real / targets.numel()
moved = scores.clone()
moved[:, 0] = moved[:, 0].where(targets != PAD, 50.0)  # at pads, <pad> becomes certain
claims.check("eq-caption-model",
             "The loss without pads is {masked:.3f} for a word, as by hand (difference {off:.0e}); "
             "{pads:.0%} of the places are pads. If the pads counted it would be {all:.2f}. "
             "Changed scores at the pads change the masked loss by {change:.0e}.",
             masked=masked.item(), off=(abs(masked.item() - by_hand / real), "<=", 1e-5),
             pads=(pads, ">", 0.01), all=(unmasked.item(), ">", masked.item() + 0.05),
             change=(abs(F.cross_entropy(moved, targets, ignore_index=PAD).item()
                         - masked.item()), "<=", 1e-6), varies=True)

# %% [markdown]
# (This network was trained without the pads, so nothing taught it what to say there: the larger loss with pads says nothing about its words.) Note the mean: over all words of the batch, not first over each sentence. A long sentence counts more, as it has more words.
#
# **We now know** how sentences become arrays, and a loss that counts words only.
# **This does not show** what the network says when nobody hands it the right words.
#
# **Exercise 18.1.** The masked loss with numpy. `scores` (N, T, V) holds a score for each of V words at each of T places, `targets` (N, T) the numbers of the right words, 0 for `<pad>`. Return the mean of minus the logarithm of the right word's probability, over all places that are no pads.

# %%
def masked_loss(scores, targets):
    """One number: the mean over all words of all sentences."""
    ...

exercises.check("18.1", masked_loss)

# %% [markdown]
# ## 2 · Writing alone
#
# When a picture is new there are no right words to read. The writer must read its *own* last word: it begins with `<start>`, takes the likeliest word, reads it, goes on, and stops at `<end>`. Taking the likeliest each time is called *greedy*. A wrong word then is not only wrong; it is also read.

# %% tags=["nbval-varies"]
with torch.no_grad():
    taught = [right_words(net(features_test, spelt_test[:, :-1]).argmax(1))
              for net in writers["places"]]
print("next word right after right words:", [round(share, 3) for share in taught])

# %%
exercises.predict("18.p1", "That was the share of right words after right words. Reading its own "
                  "words, the writer gets", ("as many right", "some 5 to 20 points fewer",
                                             "hardly any right"))

# %% tags=["nbval-varies"]
own = [right_words(words) for words, _ in alone["places"]]
print("word right when it writes alone:", [round(share, 3) for share in own])

# %% tags=["nbval-varies", "fold"]
EXAMPLES = range(min(8, len(test)))
fig, axes = plt.subplots(2, 4, figsize=(figures.WIDTH, 3.7))
exactly = right_sentences(alone["places"][0][0])
for row, ax in zip(EXAMPLES, axes.flat, strict=False):
    plots.picture(ax, test.images[row])
    said = " ".join(sentence(alone["places"][0][0][row]))
    where = said.find("above") if "above" in said else said.find("left")
    ax.set_title(f"{said[:where]}\n{said[where:]}", fontsize=12.5, loc="center",
                 color=figures.COLOUR["ink"] if exactly[row] else RED)
count = int(exactly[:len(EXAMPLES)].sum())
fig.suptitle(f"Of eight new pictures {count} get the right sentence (magenta: wrong)", x=0.01,
             ha="left", fontsize=14)
figures.save(fig, "fig-caption-examples",
             caption="The first eight test pictures and what the first seed's writer with "
                     "attention says about them; in magenta where a word is wrong. Truth: "
                     + "; ".join(test.captions[row] for row in EXAMPLES) + ".",
             alt="Eight pictures of two coloured digits, each with its sentence above, "
                 f"{len(EXAMPLES) - count} of them in magenta.")

# %% [markdown]
# Where are the words lost? A wrong digit is one wrong word. The word between the digits weighs more: our writers rarely say *above*, the less frequent one, and *left of* is two words. Where it stands in place of *above*, all later words stand one place further on, and count as wrong.
#
# The test of this reason: put the three right words before it and the right one between into the writer's mouth, and let it go on alone from there.

# %%
helped = []
for net in writers["places"]:
    words, _ = write(net, features_test, first=spelt_test[:, 1:5].T)  # four right words
    helped.append(words)

# %% tags=["nbval-varies", "fold"]
lost = np.mean(taught) - np.mean(own)
exercises.reveal("18.p1", "as many right" if lost < 0.03 else "some 5 to 20 points fewer"
                 if lost < 0.3 else "hardly any right",
                 f"{np.mean(taught):.0%} with the right words, {np.mean(own):.0%} with its own.")
late = slice(4, None)  # the words after the first one between the digits
goal_late = spelt_test[:, 1:][:, late]
wrong_between = [words[:, 3] != spelt_test[:, 4] for words, _ in alone["places"]]
after_wrong, cured = ([right_words(words[rows][:, late], goal_late[rows])
                       for words, rows in zip(each, wrong_between, strict=True)]
                      for each in ([words for words, _ in alone["places"]], helped))
claims.check("eq-caption-model.alone",
             "Reading the right words the writers get {taught:.0%} of the next words right, "
             "reading their own {own:.0%}, and {whole:.0%} of the sentences in every word.",
             seeds=seeds, on="every", varies=True, taught=(taught, ">=", 0.85),
             own=(own, ">=", 0.6),
             whole=([right_sentences(words).float().mean().item()
                     for words, _ in alone["places"]], ">=", 0.25))

# %% tags=["fold"]
LEFT = WORDS.index("left")
claims.check("eq-caption-model.between",
             "Their fourth word is “left” in {says:.0%} of the pictures ({true:.0%} would be "
             "right), and wrong in {share:.0%}. There {after:.0%} of the words behind it stand in "
             "their right place; with four right words put into their mouth {cured:.0%} do.",
             seeds=seeds, on="every", varies=True,
             true=(spelt_test[:, 4] == LEFT).float().mean().item(),
             says=([(words[:, 3] == LEFT).float().mean().item() for words, _ in alone["places"]],
                   ">=", 0.8),
             share=[rows.float().mean().item() for rows in wrong_between],
             after=(after_wrong, "<=", 0.4), cured=(cured, ">=", 0.6))
last = [tuple(caption.split()[-2:]) for caption in test.captions]  # the second colour and digit
seconds = [torch.tensor([pair in pairs_of(sentence(row))
                         for row, pair in zip(words, last, strict=True)])
           for words, _ in alone["places"]]  # is it named anywhere, (N,)
claims.check("eq-caption-model.second",
             "Yet behind a wrong fourth word the second digit is still named, with its colour, in "
             "{wrong:.0%} of the pictures; behind a right one in {right:.0%}.",
             seeds=seeds, on="every", varies=True,
             wrong=([(said & rows).sum().item() / max(1, rows.sum().item())
                     for said, rows in zip(seconds, wrong_between, strict=True)], ">=", 0.6),
             right=[(said & ~rows).sum().item() / max(1, (~rows).sum().item())
                    for said, rows in zip(seconds, wrong_between, strict=True)])

# %% tags=["fold"]
ends = [[row.tolist().index(END) if END in row.tolist() else -1 for row in words]
        for words, _ in alone["places"]]
claims.check("eq-caption-model.end",
             "{ended:.1%} of the sentences come to an <end> within {longest} words.",
             seeds=seeds, on="every", longest=LONGEST,
             ended=([np.mean([place >= 0 for place in each]) for each in ends], ">=", 0.97))

# %% [markdown]
# **We now know** that fewer words stand in their right place when a writer reads its own, and that much of it is the shift behind one wrong word: the second digit is still named.
# **This does not show** that reading its own words harms what it says (that would be *exposure bias*). Scores that forgive a shift come in section 5.
#
# **Exercise 18.2.** Write greedily for one picture. `step(word, state)` returns a list of scores, one for each word's number, and the next state; begin with `start` and the state `None`. Return the list of numbers written, without `start` and without `end`; stop at `end` or after `longest` words.

# %%
def greedy(step, start, end, longest):
    """The numbers of the words, a list."""
    ...

exercises.check("18.2", greedy)

# %% [markdown]
# ## 3 · Is the picture used?
#
# A sentence may sound right because of the language alone. So we train the same writer, from the same seeds and in as many steps, with *nothing* to see: its features are zeros. It is a *language model* of our sentences.

# %%
exercises.predict("18.p2", "What share of words does the writer that sees nothing get right?",
                  ("about a tenth", "about half", "nearly all"))

# %%
blind = right_words(alone["nothing"][0][0])
print(f"words right without a picture: {blind:.3f}")
print("it says to every picture:", " ".join(sentence(alone["nothing"][0][0][0])))

# %% [markdown]
# Between the two stands the writer that sees *one vector*: a layer that reads the whole map writes 64 numbers about it, and these stay the same for all words. It may look at everything, but only once. Captioning began with one vector (*Show and Tell*; read there before the first word, here before each).
#
# And one more test, without any training: the writer with attention gets the features of *another* test picture.

# %% tags=["ledger:emp-captioning-cnn-rnn"]
other_picture = [write(net, features_test.roll(1, 0)) for net in writers["places"]]
written = alone | {"another picture": other_picture}
whole = {sees: [right_sentences(words).float().mean().item() for words, _ in each]
         for sees, each in written.items()}
single_words = {sees: [right_words(words) for words, _ in each] for sees, each in written.items()}

# %% tags=["nbval-varies", "fold"]
exercises.reveal("18.p2", "about half" if 0.35 < blind < 0.75 else "about a tenth"
                 if blind <= 0.35 else "nearly all",
                 f"It is {blind:.0%}: much of a sentence is in every sentence.")
NAMES = {"nothing": "sees nothing", "another picture": "attention,\nanother picture",
         "vector": "sees one vector", "places": "attention"}
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.9), sharey=True)
for ax, values, title in ((axes[0], single_words, "words right"),
                          (axes[1], whole, "whole sentences right")):
    plots.bars(ax, {NAMES[sees]: values[sees] for sees in NAMES}, horizontal=True,
               format="{:.1%}" if values is whole else "{:.0%}",
               colours={NAMES["nothing"]: figures.COLOUR["muted"],
                        NAMES["another picture"]: figures.COLOUR["muted"],
                        NAMES["vector"]: ORANGE, NAMES["places"]: BLUE})
    ax.set_title(title, fontsize=13)
    ax.set(xlim=(0, 1.1), xticks=[0, 0.5, 1], xticklabels=["0", "50 %", "100 %"])
fig.suptitle("Right words say little; by whole sentences attention is far ahead",
             x=0.01, ha="left", fontsize=14)
figures.save(fig, "emp-captioning-cnn-rnn",
             caption=f"Three writers, trained alike in {steps} steps of 32 pictures, and the one "
                     f"with attention on the features of another picture; 400 test pictures. Bars: "
                     f"mean of {seed_count} seeds, from the lowest to the highest; one seed for "
                     "the writer that sees nothing.",
             alt="Left, words right: about half without the right picture, about four fifths with "
                 "one vector and with attention. Right, whole sentences: near zero without the "
                 "right picture, some with one vector, most with attention.")

# %% tags=["fold"]
claims.check("emp-captioning-cnn-rnn",
             "Whole sentences right: {places:.0%} with attention, {vector:.0%} with one vector, "
             "{nothing:.1%} without a picture, {other:.1%} with another picture's features; "
             "without a picture {words:.0%} of the words are right all the same.",
             seeds=seeds, on="every", varies=True, places=(whole["places"], ">=", 0.25),
             vector=(whole["vector"], "<=", 0.22), nothing=(whole["nothing"][0], "<=", 0.02),
             other=(whole["another picture"], "<=", 0.03),
             words=(blind, ">=", 0.4))
between = {sees: [(words[:, 3] == spelt_test[:, 4]).float().mean().item() for words, _ in each]
           for sees, each in written.items()}
claims.check("emp-captioning-cnn-rnn.words",
             "By single words the two are near: {vector:.0%} right with one vector, {places:.0%} "
             "with attention. The fourth word, the first between the digits, is right in "
             "{vector4:.0%} with one vector, in {places4:.0%} with attention and in {nothing:.0%} "
             "without a picture.", seeds=seeds, on="every", varies=True,
             vector=(single_words["vector"], ">=", 0.7), places=(single_words["places"], "<=", 0.9),
             vector4=(between["vector"], ">=", 0.8), places4=(between["places"], "<=", 0.86),
             nothing=(between["nothing"][0], "<=", 0.8))

# %% [markdown]
# So the picture is used, and the share of right words says little. By that share one vector is near. Where *above* and *left of* are to be told apart it is even better, and attention only a little better than no picture. What one vector lacks are digits with their colours (section 5). Each writer has its own learning rate: from 0.001 to 0.02 none of those tried did clearly better on two other seeds (tried while the lesson was written, not shown here).
#
# **We now know** how to ask whether a picture is used: take it away, and exchange it.
# **This does not show** that one vector cannot do it: with more training it may catch up. Here all had the same number of steps.
#
# ## 4 · Soft attention
#
# Before each word the writer with attention asks the map a question. With $h$ the state of its LSTM and $a_l$ the features at place $l$:
#
# $$e_l = v^T \tanh(W_a a_l + W_h h), \qquad \alpha_l = \frac{e^{e_l}}{\sum_k e^{e_k}}, \qquad z = \sum_l \alpha_l a_l$$
#
# The weights $\alpha$ are positive and sum to 1: that is the light in the first figure. The weighted mean $z$ goes into the LSTM beside the last word. (To $a_l$ we add a learnt vector for each place, so that the writer can tell left from right.) All of it is smooth, so gradients flow through it, and nobody needs to say where to look. This is the method `attend` of the writer.

# %% tags=["fold"]
with torch.no_grad():
    seen, state = net.look(features_test[:5])
    h = torch.randn(5, state[0].shape[1], generator=torch.Generator().manual_seed(0))
    weights, context = net.attend(seen, h)
    W_a, W_h, v = (part.weight.double().numpy() for part in (net.key, net.query, net.match))
    bias = (net.key.bias + net.query.bias).double().numpy()
worst, worst_mean = 0.0, 0.0
for row in range(5):
    spots = seen[0][row].double().numpy()
    e = [float((v @ np.tanh(W_a @ a + W_h @ h[row].double().numpy() + bias)).item()) for a in spots]
    alpha = np.exp(e) / np.exp(e).sum()
    z = sum(share * a for share, a in zip(alpha, spots, strict=True))
    worst = max(worst, np.abs(alpha - weights[row].numpy()).max())
    worst_mean = max(worst_mean, np.abs(z - context[row].numpy()).max())
sums = torch.stack([maps.sum(2) for _, maps in alone["places"]])
claims.check("eq-soft-attention",
             "The formulas in loops, place by place, differ from `attend` by {weights:.0e} in the "
             "weights and {mean:.0e} in the weighted mean; all weights of {count:,} words sum to 1 "
             "to {sum:.0e}, and the smallest is {least:.0e}.",
             weights=(float(worst), "<=", 1e-5), mean=(float(worst_mean), "<=", 1e-4),
             count=sums.numel(), sum=((sums - 1).abs().max().item(), "<=", 1e-5),
             least=(min(maps.min().item() for _, maps in alone["places"]), ">", 0), varies=True)

# %% [markdown]
# Look at more of it: another picture, another word.

# %% tags=["nbval-ignore-output", "fold"]
def light_on(picture, word):
    """Where the first seed's writer looks before its word number `word` of a test picture."""
    words, maps = alone["places"][0]
    said = sentence(words[picture]) or ["<end>"]
    place = min(word, len(said)) - 1
    fig, axes = plt.subplots(1, 2, figsize=(5.2, 2.9))
    plots.picture(axes[0], test.images[picture])
    plots.picture(axes[1], lit(test.images[picture], maps[picture, place]))
    axes[1].set_title(f"before “{said[place]}”", fontsize=13, loc="center")
    fig.suptitle(" ".join(said), fontsize=13)
    share = (maps[picture, place] * inside[picture].sum(0)).sum().item()
    return fig, (f"It writes: {' '.join(said)}. The truth: {test.captions[picture]}. Before "
                 f"“{said[place]}” {share:.0%} of the attention lies on the two digits.")

widgets.explore(light_on, picture=widgets.Slider(SHOWN[0], 0, len(test) - 1, 1, "test picture",
                                                 kept=(SHOWN[0],)),
                word=widgets.Slider(2, 1, 8, 1, "word", kept=(1, 2, 3, 4, 6, 7)))

# %% tags=["nbval-varies", "fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.4))
LABELS = {"own": "the digit that is named", "foreign": "the same, map of\nanother picture",
          "other": "the other digit", "area": "the named one, if the\nlight were even"}
plots.bars(ax, {LABELS[name]: [each[name] for each in shares] for name in LABELS}, horizontal=True,
           format="{:.0%}", colours={LABELS["own"]: BLUE, LABELS["other"]: ORANGE,
                                     LABELS["foreign"]: figures.COLOUR["muted"],
                                     LABELS["area"]: figures.COLOUR["muted"]})
ax.set(xlim=(0, 1), xlabel="share of the attention inside the box", xticks=[0, 0.5, 1],
       xticklabels=["0", "50 %", "100 %"])
ax.set_title("Most of the light falls on the digit that is named")
figures.save(fig, "emp-attention-looks-at-regions.shares",
             caption="Share of the attention inside a box, while a colour or a digit is said "
                     f"rightly, over 400 test pictures; mean of {seed_count} seeds, from the "
                     "lowest to the highest.",
             alt="The longest bar is the digit that is named; the other digit, the map of another "
                 "picture and even light have short bars.")

# %% [markdown]
# A bright spot on a digit does not prove that the word comes from there. The features around it know of it too, and the writer began with a vector of the whole map. Three interventions:
#
# 1. *Cover* one digit in the picture with the colour of the ground. Is it still named, with its colour? Is the other one?
# 2. Leave the picture, and *forbid* the attention the places of one digit's box.
# 3. Leave the picture, and *hold* the attention on the box of one digit for the whole sentence. Which colours and digits are said?

# %%
exercises.predict("18.p3", "One digit is covered in the picture. Who is still named rightly, with "
                  "colour and digit?", ("neither", "only the other one", "both"))

# %%
def covered(scene, k):
    """The pictures with object k painted over in the mean colour of the ground, 1 pixel more."""
    images = scene.images.clone()
    for image, mask, box in zip(images, scene.masks, scene.boxes[:, k].int().tolist(), strict=True):
        ground = image[:, mask == 0].float().mean(1).round().to(torch.uint8)
        x1, y1, x2, y2 = box
        part = image[:, max(0, y1 - 1):y2 + 1, max(0, x1 - 1):x2 + 1]
        part[:] = ground[:, None, None]
    return images

def named(words, k):
    """For which test pictures (N,) the sentence names object k with its colour and digit."""
    tints = list(scenes.COLOURS)
    truth = zip(test.colours[:, k].tolist(), test.labels[:, k].tolist(), strict=True)
    return torch.tensor([(tints[colour], scenes.NUMBERS[label]) in pairs_of(sentence(row))
                         for row, (colour, label) in zip(words, truth, strict=True)])

# %% tags=["fold"]
twins = torch.tensor([len(pairs_of(caption.split())) == 1 for caption in test.captions])
touched = inside > 0  # (N, 2, L): the places that a box touches
kept_words = {"covered": [], "covered, other": [], "forbidden": [], "forbidden, other": []}
hidden = [training.predict(eye.features, as_input(covered(test, k)), 200) for k in (0, 1)]
for net, (words, _) in zip(writers["places"], alone["places"], strict=True):
    both = torch.stack([named(words, k) for k in (0, 1)]) & ~twins  # (2, N): named before
    counts = Counter()
    for k in (0, 1):
        for way, said in (("covered", write(net, hidden[k])[0]),
                          ("forbidden", write(net, features_test, allowed=~touched[:, k])[0])):
            counts[way] += (named(said, k) & both[k]).sum().item()
            counts[f"{way}, other"] += (named(said, 1 - k) & both[1 - k]).sum().item()
    for name in kept_words:
        kept_words[name].append(counts[name] / max(1, both.sum().item()))

# %% tags=["nbval-varies", "fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.6))
LABELS = {"covered": "covered in the picture:\nthe covered digit",
          "covered, other": "the other one", "forbidden": "no attention on it:\nthis digit",
          "forbidden, other": "the other one "}
plots.bars(ax, {LABELS[name]: kept_words[name] for name in LABELS}, horizontal=True,
           format="{:.0%}", colours={label: BLUE if "," not in name else ORANGE
                                     for name, label in LABELS.items()})
ax.set(xlim=(0, 1.1), xlabel="still named, with colour and digit", xticks=[0, 0.5, 1],
       xticklabels=["0", "50 %", "100 %"])
ax.set_title("Covered or left dark, a digit is hardly named; the other one is")
figures.save(fig, "emp-attention-looks-at-regions.covered",
             caption="Of the digits that were named rightly: the share that still is when one "
                     "digit is covered in the picture (above), and when the attention may not go "
                     f"to the places of its box (below). Mean of {seed_count} seeds, from the "
                     "lowest to the highest.",
             alt="Short bars for the digit that is covered or forbidden, long ones for the other.")

# %% tags=["nbval-varies", "fold"]
exercises.reveal("18.p3", "both" if np.mean(kept_words["covered"]) > 0.5 else "only the other one"
                 if np.mean(kept_words["covered, other"]) > 0.5 else "neither",
                 f"The covered one in {np.mean(kept_words['covered']):.0%}, the other one in "
                 f"{np.mean(kept_words['covered, other']):.0%} of the cases.")
claims.check("emp-attention-looks-at-regions.covered",
             "Of the digits named rightly before, {own:.0%} are still named when they are covered "
             "in the picture, and {other:.0%} when the other digit is. With their box forbidden to "
             "the attention it is {shut:.0%}, with the other's box forbidden {free:.0%}.",
             seeds=seeds, on="every", varies=True, own=(kept_words["covered"], "<=", 0.25),
             other=(kept_words["covered, other"], ">=", 0.5),
             shut=(kept_words["forbidden"], "<=", 0.5),
             free=(kept_words["forbidden, other"], ">=", 0.6))

# %% [markdown]
# So the light is needed. Is it enough? Now the third test. And a fourth one: is it the light that decides, or the word read last? After *a* we put the colour of the *other* digit into the writer's mouth. Does it go on with that one's digit, or with the one it looks at?

# %%
rows = torch.arange(len(test))
first, other = test.mentions[:, 1], 1 - test.mentions[:, 1]  # the objects named first and second
tints, digits = test.colours + WORDS.index("red"), test.labels + WORDS.index("zero")
held = [write(net, features_test, allowed=touched[rows, other]) for net in writers["places"]]
misled = [write(net, features_test, first=[spelt_test[:, 1], tints[rows, other]])
          for net in writers["places"]]

# %% tags=["fold"]
apart = (tints[:, 0] != tints[:, 1]) & (digits[:, 0] != digits[:, 1])
alike = {"held": [], "free": [], "misled": [], "follows": [], "before": []}
for (still, _), (wrong, _), (words, _) in zip(held, misled, alone["places"], strict=True):
    pairs = {"held": (still, other), "free": (words, other), "misled": (wrong, first),
             "before": (words, first), "follows": (wrong, other)}
    for name, (said, k) in pairs.items():
        same = said[:, 2] == digits[rows, k]  # the third word: the digit named first
        if name in ("held", "free"):
            same &= said[:, 1] == tints[rows, k]  # and its colour
        alike[name].append(same[apart].float().mean().item())
claims.check("emp-attention-looks-at-regions.held",
             "Held on the digit that should be named second, the writers name it first, with its "
             "colour, in {held:.0%} of the pictures; free, in {free:.0%}.",
             seeds=seeds, on="every", varies=True, held=(alike["held"], ">=", 0.4),
             free=(alike["free"], "<=", 0.3))
claims.check("emp-attention-looks-at-regions.misled",
             "After the other digit's colour they name the digit that belongs there in "
             "{misled:.0%} of the pictures (with their own word before it in {before:.0%}), and "
             "the other digit in {follows:.0%}.", seeds=seeds, on="every", varies=True,
             misled=(alike["misled"], ">=", 0.4), before=alike["before"],
             follows=(alike["follows"], "<=", 0.35))

# %% [markdown]
# The false colour is read and changes little: the next word comes from the place that is looked at. (In this writer, as in the paper it follows, the place is chosen before the last word is read.)
#
# **We now know** what attention computes; that its light lies on the digit that is named; that covering or forbidding the place takes the name away; and that the light, not the last word, decides which digit is named.
# **This does not show** that a map of attention explains every network. A place of our map is computed from 25 × 25 of the 32 × 32 pixels: that a spot stands for what lies there is nothing that attention promises, and here the interventions showed it. Where features mix more, it may mean little. (There is a dispute: *Attention is not explanation*, 2019, and the reply of the same year, *Attention is not not explanation*.)
#
# **Exercise 18.3.** Today's attention measures the fit by a product. `keys` (L, d), `values` (L, m), `query` (d,), `allowed` (L,) True or False. The fit of a place is key · query / √d; places that are not allowed get the weight 0, the others share 1 by softmax. Return the pair (weights (L,), weighted mean of the values (m,)). The fits may be large.

# %%
def dot_attention(keys, values, query, allowed):
    """Weights and weighted mean, numpy."""
    ...

exercises.check("18.3", dot_attention)

# %% [markdown]
# ## 5 · Which sentence, and how good is it?
#
# Greedy takes the likeliest word each time. The likeliest *sentence* may begin with another word. A *beam search* keeps a few drafts: each is continued by its likeliest words, and the best `width` of all continuations stay. A draft's score is the sum of the logarithms of its words' probabilities. (Each word lowers it, so short sentences have it easier; in practice one often divides by the number of words, or a power of it.)

# %% tags=["define"]
@torch.no_grad()
def beam(net, features, width):
    """The likeliest sentence found for one picture (1, 64, h, w), and its log-probability."""
    seen, state = net.look(features)
    drafts, finished = [([START], 0.0, state)], []
    for _ in range(LONGEST):
        longer = []
        for words, score, state in drafts:
            scores, state, _ = net.step(torch.tensor(words[-1:]), state, seen)
            best = scores[0].log_softmax(0).topk(width)
            for log, word in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                longer.append(([*words, word], score + log, state))
        longer.sort(key=lambda draft: draft[1], reverse=True)
        finished += [draft for draft in longer[:width] if draft[0][-1] == END]
        drafts = [draft for draft in longer[:width] if draft[0][-1] != END]
    words, score, _ = max(finished or drafts, key=lambda draft: draft[1])
    return words[1:], score

# %%
net = writers["places"][0]
searched = {width: [beam(net, features_test[row:row + 1], width) for row in range(200)]
            for width in (1, 3)}

# %% tags=["fold", "ledger:eq-caption-model"]
def exact(found):
    """The share of the first 200 test pictures with every word right."""
    return np.mean([words == [*goal[goal != PAD].tolist()]
                    for (words, _), goal in zip(found, spelt_test[:, 1:], strict=False)])

greedy_rows = alone["places"][0][0][:200]
same = np.mean([[WORDS[n] for n in words if n != END] == sentence(row)
                for (words, _), row in zip(searched[1], greedy_rows, strict=True)])
gain = np.array([three[1] - one[1] for one, three in zip(searched[1], searched[3], strict=True)])
claims.check("eq-caption-model.beam",
             "A beam of one is greedy in {same:.0%} of 200 pictures. Three drafts find a likelier "
             "sentence in {likelier:.0%}, a less likely one in {worse:.0%}; every word is right in "
             "{three:.0%}, greedily in {one:.0%} (one seed).",
             same=(float(same), ">=", 0.97), likelier=(float((gain > 1e-4).mean()), ">", 0),
             worse=(float((gain < -1e-4).mean()), "<=", 0.05), three=exact(searched[3]),
             one=exact(searched[1]), varies=True)

# %% [markdown]
# Three drafts find a likelier sentence now and then. Likelier by the network's own judgement: whether it is also more often right is another matter, and on so few pictures a difference above may be chance. Wider is not always better: for *Show and Tell* three drafts did best (2016).
#
# How good is a sentence? People would judge. The usual stand-in is *BLEU*, made for translations. Count the *n-grams* (runs of n words) of a sentence that also stand in a *reference*, each at most as often as there: their share is the precision $p_n$. Then
#
# $$\mathrm{BLEU} = B\,(p_1\,p_2\,p_3\,p_4)^{1/4}, \qquad B = \min(1, e^{1 - r/c})$$
#
# with $c$ the length of the sentence and $r$ that of the reference (of several, the nearest): $B$ punishes short sentences. Over many sentences all counts are summed first. It is made for many: on one, a single $p_n$ of 0 makes it 0, unless one *smooths* the counts, which we do not.

# %% tags=["define"]
def grams(words, n):
    return Counter(tuple(words[at:at + n]) for at in range(len(words) - n + 1))

def precision(candidates, references, n):
    """(found, of all) n-grams; references holds a list of sentences for each candidate."""
    found, total = 0, 0
    for words, goals in zip(candidates, references, strict=True):
        most = Counter()
        for goal in goals:
            most |= grams(goal, n)  # of each n-gram the largest count in one reference
        found += (grams(words, n) & most).total()  # the smaller count of both
        total += grams(words, n).total()
    return found, total

def bleu(candidates, references, longest=4):
    """BLEU in 0..1 of all sentences together; 0 if some kind of n-gram is never found."""
    pairs = [precision(candidates, references, n) for n in range(1, longest + 1)]
    if not all(found for found, _ in pairs):
        return 0.0
    c = sum(len(words) for words in candidates)
    r = sum(min((abs(len(goal) - len(words)), len(goal)) for goal in goals)[1]  # the nearest
            for words, goals in zip(candidates, references, strict=True))
    logs = sum(math.log(found / total) for found, total in pairs) / longest
    return min(1, math.exp(1 - r / c)) * math.exp(logs)

# %% tags=["fold"]
# The examples of the paper that introduced BLEU (Papineni et al. 2002, section 2.1).
GUIDE = ["it is a guide to action that ensures that the military will forever heed party commands",
         "it is the guiding principle which guarantees the military forces always being under the "
         "command of the party",
         "it is the practical guide for the army always to heed the directions of the party"]
FIRST = ("it is a guide to action which ensures that the military always obeys the commands of "
         "the party")
SECOND = "it is to insure the troops forever hearing the activity guidebook that party direct"
CAT = ["the cat is on the mat", "there is a cat on the mat"]

def in_words(candidate, goals, n):
    found, total = precision([candidate.split()], [[goal.split() for goal in goals]], n)
    return f"{found}/{total}"

claims.table("eq-caption-model.paper", "The examples of the paper of 2002, counted here.",
             {"candidate 1, single words": (in_words(FIRST, GUIDE, 1), "17/18"),
              "candidate 1, pairs": (in_words(FIRST, GUIDE, 2), "10/17"),
              "candidate 2, single words": (in_words(SECOND, GUIDE, 1), "8/14"),
              "candidate 2, pairs": (in_words(SECOND, GUIDE, 2), "1/13"),
              "the the the the the the the": (in_words(" ".join(["the"] * 7), CAT, 1), "2/7")},
             columns=("what", "here", "paper"))

# %%
exercises.predict("18.p4", "The truth is “a red three above a blue one”. Which gets the higher "
                  "BLEU, with runs up to four?",
                  ("a green three above a blue one", "a blue one below a red three",
                   "both the same"))

# %%
truth = "a red three above a blue one"
tries = {"the truth": truth, "a wrong colour": "a green three above a blue one",
         "exchanged": "a blue one above a red three",
         "true, other words": "a blue one below a red three"}
worth = {}
for name, words in tries.items():
    worth[name] = [bleu([words.split()], [[truth.split()]], longest) for longest in (1, 2, 4)]
    print(f"{words:32} BLEU of 1, 2, 4: " + "  ".join(f"{each:.2f}" for each in worth[name]))

# %% tags=["fold"]
exercises.reveal("18.p4", tries["a wrong colour"]
                 if worth["a wrong colour"][2] > worth["true, other words"][2]
                 else tries["true, other words"]
                 if worth["a wrong colour"][2] < worth["true, other words"][2]
                 else "both the same",
                 f"The false one {worth['a wrong colour'][2]:.2f}, the true one "
                 f"{worth['true, other words'][2]:.2f}: none of its runs of four words stands in "
                 "the reference.")
goals = [[caption.split()] for caption in test.captions]
scored = {sees: [[bleu([sentence(row) for row in words], goals, longest) for longest in (1, 4)]
                 for words, _ in each] for sees, each in written.items()}
one, four = ({sees: [each[place] for each in rows] for sees, rows in scored.items()}
             for place in (0, 1))
facts = {}  # of the (colour, digit) of both sides together, twice the common ones
for sees, each in written.items():
    facts[sees] = []
    for words, _ in each:
        said = [pairs_of(sentence(row)) for row in words]
        true = [pairs_of(goal[0]) for goal in goals]
        common = sum(len(a & b) for a, b in zip(said, true, strict=True))
        facts[sees].append(2 * common / (sum(map(len, said)) + sum(map(len, true))))

# %% tags=["nbval-varies", "fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.2))
for offset, (name, values, colour) in enumerate((("BLEU, single words", one, ORANGE),
                                                 ("BLEU, runs up to 4", four, GREEN),
                                                 ("colour and digit right", facts, BLUE))):
    at = np.arange(len(NAMES)) * 4 + offset
    means = [np.mean(values[sees]) for sees in NAMES]
    ax.barh(at, means, 0.85, color=colour)
    for y, mean in zip(at, means, strict=True):
        ax.text(mean + 0.01, y, f"{mean:.2f}", va="center", fontsize=12)
    ax.text(1.12, at[0], name, color=colour, fontsize=13, va="center", ha="right")
ax.set(yticks=np.arange(len(NAMES)) * 4 + 1, yticklabels=list(NAMES.values()), xlim=(0, 1.15),
       xlabel="score")
ax.invert_yaxis()
ax.set_title("A writer that sees nothing has a fair BLEU, and few facts right")
figures.save(fig, "eq-caption-model.bleu",
             caption="Three scores of the same sentences, for 400 test pictures, one reference "
                     f"each; mean of {seed_count} seeds. The third is the share of pairs (colour, "
                     "digit) that truth and sentence have in common.",
             alt="For the writers without the right picture BLEU is well above zero and the share "
                 "of right pairs is small; with attention all three are high.")
claims.check("eq-caption-model.bleu",
             "Without a picture BLEU is {one:.2f} on single words and {four:.2f} on runs up to "
             "four, and {facts:.1%} of the pairs of colour and digit are right; with one vector "
             "{vector:.0%} of the pairs, with attention {right:.0%} (BLEU {places:.2f} and "
             "{places4:.2f}).", seeds=seeds, on="every", varies=True,
             vector=(facts["vector"], "<=", 0.6),
             one=(one["nothing"][0], ">=", 0.45), four=(four["nothing"][0], ">=", 0.15),
             facts=(facts["nothing"][0], "<=", 0.15), places=(one["places"], ">=", 0.75),
             places4=four["places"], right=(facts["places"], ">=", 0.5))

# %% [markdown]
# A writer that sees nothing gets a fair BLEU: it has learnt the runs of words, not the pictures. In our example, with runs up to four, one wrong colour costs less than the true sentence with *below*; with runs up to two both cost the same, and the false sentence with the two digits exchanged costs least. Counting *facts*, pairs of colour and digit, tells the writers apart. (*SPICE*, 2016, does so for real sentences; *CIDEr*, 2015, weights rare n-grams higher; both want several references.)
#
# **We now know** how sentences are searched for and scored, and to keep a blind writer beside every score.
# **This does not show** how BLEU behaves with five references of free language, as in COCO; there paraphrases have a better chance.
#
# **Exercise 18.4.** Score facts. `sentence` and `truth` are lists of words; a fact is a colour followed directly by a word that is no colour, such as ("red", "three"). With A the *set* of facts of the sentence and B that of the truth, return 2 |A ∩ B| / (|A| + |B|), the F-score, and 0 if both are empty.

# %%
def facts_right(sentence, truth, colours=("red", "green", "blue", "yellow")):
    """A number from 0 to 1."""
    ...

exercises.check("18.4", facts_right)

# %% [markdown] tags=["ledger:prac-captioning-data-coco"]
# ## In practice
#
# - Begin with a trained model: BLIP or a vision-language model of the `transformers` library writes captions at once. Train your own for a language of your own.
# - Always report a writer that sees no picture, and one with exchanged pictures, beside the score.
# - In torch: `nn.LSTMCell` or `nn.TransformerDecoder`, `F.cross_entropy(…, ignore_index=pad)`, `nn.utils.rnn.pad_sequence`, `F.scaled_dot_product_attention`.
# - Data: COCO captions (`torchvision.datasets.CocoCaptions` reads them; annotations CC BY 4.0, the photographs under the terms of Flickr). It is not stored with this course, which works without a network; the preset `full` trains on more and larger scenes instead.
# - Score with several references and with people. Check objects and colours on their own: invented objects are a known fault (*object hallucination*).
#
# ## History
#
# - 2011: SBU, a million photographs of the web with captions; 2014: COCO; 2015: its captions, five to a photograph.
# - 2014/15: the first captioners made of CNN and RNN: Mao et al.; Vinyals et al. (*Show and Tell*); Karpathy and Fei-Fei; Donahue et al.
# - 2014: Bahdanau, Cho and Bengio, attention for translation. 2015: Xu et al. (*Show, Attend and Tell*): soft attention, and a hard kind that looks at one place.
# - 2017: transformers, whose attention is made of products; captioners followed. 2018: attention over detected objects (*Bottom-up and top-down*, Anderson et al.).
# - Related: *visual question answering* (2015) reads a question beside the picture; *DenseCap* (2016) describes regions.

# %% [markdown]
# ## Exercises that are left
#
# **18.5 Open.** Can a beam of two end with a *less* likely sentence than greedy? Take sentences of two words first, then of three, and invent the probabilities by hand. (Which draft may fall out, and when?)
#
# **18.6 Open.** Look at the first figure again. Name two things that it does *not* show. (Pictures whose sentence was wrong; the words *a* and *above*; other seeds; whether the light is needed?)
#
# ## Summary
#
# - A sentence is a row of numbers between `<start>` and `<end>`; the loss counts words and no pads.
# - In training a writer reads the right words, alone its own; one wrong word can shift all that follow.
# - About half of our words need no picture. Take the picture away, exchange it: that tells what it is used for.
# - Soft attention is a weighted mean whose weights answer a question of the writer. Here its light lay on the digit named; covering or forbidding the place took the name away, and holding the light on the other digit changed the name.
# - A beam can find likelier sentences, which need not be better ones. BLEU counts n-grams: a part of it is had without a picture, and in our example, with runs up to four, it preferred a false colour to a true sentence with *below*.

# %% [markdown] tags=["ledger:err-coco-biggest", "ledger:err-brnn-generator"]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | the biggest dataset for image captioning is Microsoft COCO | it was the standard one whose captions were written by people for it (about 120,000 photographs with five each in its training and validation parts), not the largest: SBU had a million captioned photographs in 2011. Larger since: Conceptual Captions (3.3 million, 2018), LAION-5B (2022) | Chen et al. 2015; Ordonez et al. 2011; Sharma et al. 2018; Schuhmann et al. 2022 |
# | CNNs and *bidirectional* RNNs generate descriptions of image regions | the bidirectional RNN reads finished sentences, to align their words with regions; the sentences are written by another RNN, in one direction, for a writer cannot read words that it has not yet written | Karpathy and Fei-Fei 2015, abstract; section 2 |
# | while it writes, the RNN looks at a specific part of the image, not the whole image | soft attention gives every place a weight above 0; how much lies on one part is to be measured (here, most of it on the digit named, while its colour or its name was said rightly) | section 4 |
#
# ## Sources
#
# - The notes: lecture 003 (generating image descriptions); lecture 004, section 10 (captioning; after CS231n, Stanford 2017).
# - Vinyals et al.: Show and tell, arXiv:1411.4555; its lessons of 2016, arXiv:1609.06647. Karpathy, Fei-Fei: Deep visual-semantic alignments, arXiv:1412.2306. Mao et al., arXiv:1412.6632. Donahue et al., arXiv:1411.4389.
# - Bahdanau, Cho, Bengio, arXiv:1409.0473. Xu et al.: Show, attend and tell, arXiv:1502.03044. Anderson et al., arXiv:1707.07998. Vaswani et al., arXiv:1706.03762. Li et al.: BLIP, arXiv:2201.12086.
# - Jain, Wallace: Attention is not explanation, arXiv:1902.10186. Wiegreffe, Pinter: Attention is not not explanation, arXiv:1908.04626.
# - Papineni et al.: BLEU, ACL 2002. Vedantam et al.: CIDEr, arXiv:1411.5726. Anderson et al.: SPICE, arXiv:1607.08822. Rohrbach et al.: Object hallucination, arXiv:1809.02156.
# - Ordonez, Kulkarni, Berg: Im2Text (SBU), NIPS 2011. Chen et al.: COCO captions, arXiv:1504.00325. Sharma et al.: Conceptual Captions, ACL 2018. Schuhmann et al.: LAION-5B, arXiv:2210.08402.
# - Antol et al.: VQA, arXiv:1505.00468. Johnson, Karpathy, Fei-Fei: DenseCap, arXiv:1511.07571.
