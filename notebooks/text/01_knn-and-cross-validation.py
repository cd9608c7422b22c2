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
# Lay two pictures over each other, add up the squared differences of their pixels, and take the root as their distance.
# Move a small digit to the right by a single pixel. Measured so, it is then farther from what it was than from a digit with another label (another *class*): the figure below shows it.
# Can the simplest rule of all, "take the label of the nearest picture", then read digits?
#
# (A line that begins with ✓ is a *claim*: the code above it measured its numbers. The small line below it says what was required of them; the lesson stops if it does not hold.)
#
# **It costs** about 40 seconds of one processor core, no network connection, no GPU.

# %% tags=["parameters"]
seed: int = 0  # of all that is drawn at random (the digits' test part is fixed); at least 0
dataset: str = "digits"  # the pictures; one of digits, mnist, fashion_mnist, cifar10, or a folder
image_size: int = 0  # pixels a side of the pictures; 0: as they are; 0 or 8 to 128
train_images: int = 1347  # training pictures, at most; at least 100
test_images: int = 450  # test pictures, at most; at least 50
fold_count: int = 5  # parts of the training pictures that take turns in validation; 2 to 20
margin: int = 4  # black pixels around each picture, within which it moves; 2 to 8
epochs: int = 8  # passes of a network over its training pictures; 1 to 200
width: int = 16  # filters in the first layer of those networks; 4 to 64
runs: int = 3  # networks trained for each comparison, each with a seed of its own; 2 to 10

# %% tags=["imports", "fold"]
import copy
import timeit
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.ndimage import rotate
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from torch import nn
from torch.nn import functional

from cnncourse import augment, claims, cost, data, exercises, figures, plots, runtime, training

# %% tags=["define", "fold"]
def pixels(images):
    """Pictures (N, C, H, W) as rows of floating point numbers (N, D), from 0 to 255."""
    return images.flatten(1).double().numpy()

def framed(part, margin):
    """The picture set with `margin` black pixels around each picture, so that moves lose no ink."""
    return replace(part, images=functional.pad(part.images, (margin,) * 4))

def l2_by_torch(test, train, p=2):
    """Distances (M, N) of rows (M, D) from rows (N, D), by torch's own function."""
    return torch.cdist(torch.tensor(test), torch.tensor(train), p=p).numpy()

def option(value, lowest, *steps):
    """The option that a measured value is: the lowest, or the last whose limit it passes."""
    for limit, name in zip(steps[::2], steps[1::2], strict=True):
        lowest = name if value > limit else lowest
    return lowest

def seconds(function, *arguments):
    """The fastest of five calls."""
    return min(timeit.repeat(lambda: function(*arguments), number=1, repeat=5))

def sheet_numbers(labels):
    """The sheet (N,) of each picture: a new one begins where labels run 1 to 9 after a pause."""
    starts = [0]
    for i in range(1, len(labels) - 8):
        if list(labels[i:i + 9]) == list(range(1, 10)) and i - starts[-1] > 50:
            starts.append(i - 1 if labels[i - 1] == 0 else i)  # one sheet has lost its first 0
    return np.searchsorted(starts, np.arange(len(labels)), side="right") - 1

def regions(ax, points, labels, k, names):
    """Draw the class that kNN gives each place of the plane."""
    low, high = points.min(axis=0) - 0.03, points.max(axis=0) + 0.03
    x, y = (np.linspace(*ends, 90) for ends in zip(low, high, strict=True))
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    index = np.unique(labels, return_inverse=True)[1]  # classes as 0, 1, 2 for the colours
    found = predict_knn(l2_no_loop(grid, points), index, k).reshape(90, 90)
    plots.decision_regions(ax, x, y, found, points=points, labels=index, names=names)
    for artist in (*ax.lines, *ax.collections):
        artist.set_rasterized(True)  # points and borders as one picture: a fifth of the bytes
    return ax

def noise_test(count, loudness, seed):
    """1-NN with `count` random numbers appended, `loudness` times as loud as a pixel.

    Returns the noise's part of the squared distances in units of the pixels' part, its mean and
    its spread over the training pictures; the nearest distance in average distances; the accuracy.
    """
    noisy_train = with_noise(train_pixels, count, loudness * pixel_spread, seed)
    noisy_test = with_noise(test_pixels, count, loudness * pixel_spread, seed + 1)
    table = l2_no_loop(noisy_test, noisy_train)
    noise = table**2 - distances**2  # (M, N)
    mean = noise.mean() / (distances**2).mean()
    spread = noise.std(axis=1).mean() / (distances**2).std(axis=1).mean()
    right = train_labels[table.argmin(axis=1)] == test_labels
    return mean, spread, (table.min(axis=1) / table.mean(axis=1)).mean(), right.mean()

def tilted(images, degrees):
    """The pictures (N, C, H, W) turned about their middle, as uint8."""
    return torch.from_numpy(rotate(images.numpy(), degrees, axes=(3, 2), reshape=False, order=1))

def steps_to_middle(ink):
    """By how many pixels a line of ink (n,) must move so that its centre is in the middle."""
    centre = (ink * torch.arange(len(ink))).sum() / ink.sum().clamp(min=1)
    return round((len(ink) - 1) / 2 - centre.item())

def random_moves(number):
    """A generator of random numbers for `anywhere`."""
    return torch.Generator().manual_seed(number)

def anywhere(images, generator):
    """Each picture moved at random by up to `margin` pixels each way; no ink is lost."""
    return augment.crop(images, margin, generator)

def littered(images, others, number, side=4):
    """Pictures (N, C, H, W), each with a piece of one of the `others` at a random place."""
    random, result = np.random.default_rng(number), images.clone()
    for picture in result:
        other = others[random.integers(len(others))]
        y, x = (random.integers(length - side + 1) for length in other.shape[1:])
        piece = other[:, y:y + side, x:x + side]
        y, x = (random.integers(length - side + 1) for length in picture.shape[1:])
        place = picture[:, y:y + side, x:x + side]
        place.copy_(torch.maximum(place, piece))
    return result

def patches(materials, count, side, seed):
    """Training patches from the left halves of photographs, test patches from the right halves."""
    random, photos = np.random.default_rng(seed), data.photos()
    parts = [], []
    for photo in (photos[name][:1, ::2, ::2] for name in materials):  # grey, half the resolution
        half = photo.shape[2] // 2
        for part, start in zip(parts, (0, half), strict=True):
            rows = random.integers(photo.shape[1] - side + 1, size=count)
            columns = start + random.integers(half - side + 1, size=count)
            part += [photo[:, y:y + side, x:x + side] for y, x in zip(rows, columns, strict=True)]
    labels = torch.arange(len(materials)).repeat_interleave(count)
    return [data.ImageSet(torch.stack(part), labels, materials, "patches") for part in parts]

def alike(rows):
    """Each picture less its mean, over its standard deviation: none is flatter."""
    return (rows - rows.mean(axis=1, keepdims=True)) / rows.std(axis=1, keepdims=True)

def with_noise(features, count, deviation, seed):
    """The rows (N, D) with `count` random numbers behind each, (N, D + count)."""
    noise = np.random.default_rng(seed).normal(0, deviation, (len(features), count))
    return np.hstack([features, noise])

def ink_shares(images):
    """The shares of ink in the upper and in the left half of pictures (N, C, H, W), as (N, 2)."""
    ink = images.sum(axis=1).astype(float) + 1e-9  # (N, H, W); an empty picture divides by no 0
    height, width = ink.shape[1:]
    upper = ink[:, : height // 2].sum(axis=(1, 2))
    left = ink[:, :, : width // 2].sum(axis=(1, 2))
    return np.stack([upper, left], axis=1) / ink.sum(axis=(1, 2))[:, None]

def ink_centres(images):
    """The centre (N, 2), as x and y, of the ink of pictures (N, C, H, W)."""
    ink = images.double().sum(dim=1).numpy() + 1e-9  # (N, H, W); an empty picture divides by no 0
    y, x = np.indices(ink.shape[1:])
    return np.stack([(ink * axis).sum(axis=(1, 2)) / ink.sum(axis=(1, 2)) for axis in (x, y)], 1)

def nearest_in_pieces(test, train, size=4096):
    """The row (M,) of the nearest training picture; holds (M, size) distances at a time."""
    best, row = np.full(len(test), np.inf), np.zeros(len(test), int)
    for start in range(0, len(train), size):
        distances = l2_no_loop(test, train[start:start + size].astype(test.dtype))
        smallest = distances.min(axis=1)
        nearer = smallest < best  # of equals the earlier row stays, as in `nearest`
        best[nearer] = smallest[nearer]
        row[nearer] = start + distances.argmin(axis=1)[nearer]
    return row

def accuracy_over_k(known, names, new, right):
    """As `predict_knn` for each k of `ks`, from one sorting of the table: accuracies (ks,)."""
    votes = names[nearest(l2_no_loop(new, known), max(ks))]  # (M, largest k)
    classes = np.unique(names)
    counts = (votes[:, :, None] == classes).cumsum(axis=1)  # of the first 1, 2, 3, ... votes
    last = np.minimum(ks, votes.shape[1]) - 1
    return (classes[counts[:, last].argmax(axis=2)] == right[:, None]).mean(axis=0)

def another_split(number):
    """Test accuracies (ks,) in another random split, and the place in ks that its folds choose."""
    both, names = np.vstack([plane, plane_test]), np.append(plane_labels, plane_test_labels)
    order = np.random.default_rng(number).permutation(len(both))
    old, new = order[:len(plane)], order[len(plane):]
    scores = []
    for part in folds(len(old), fold_count, number):
        rest, valid = np.delete(old, part), old[part]
        scores.append(accuracy_over_k(both[rest], names[rest], both[valid], names[valid]))
    tested = accuracy_over_k(both[old], names[old], both[new], names[new])
    return tested, np.mean(scores, axis=0).argmax()

def draw_choice():
    """The accuracies of training, validation and test over k, of section 3."""
    error = plane_scores.std(axis=0, ddof=1) / fold_count**0.5
    blue, orange, green = (figures.COLOUR[name] for name in ("train", "valid", "test"))
    large = {"fontsize": 13}
    _, ax = plt.subplots(figsize=(figures.WIDTH, 3.7))
    ax.set(xscale="log", xlabel="k", ylabel="accuracy", xlim=(0.85, 130), ylim=(0.62, 1.03))
    ax.set_xticks([1, 3, 10, 30, 100], [1, 3, 10, 30, 100])
    ax.minorticks_off()
    ax.plot(ks, plane_train, color=blue)
    ax.errorbar(ks, plane_mean, error, fmt="o-", color=orange, capsize=3)
    for k, star, others in ((1, right_one, tested[:, 0]), (best_k, right_chosen, by_choice)):
        ax.plot([k * 1.07] * 2, [others.min(), others.max()], color="0.7", linewidth=7, zorder=1)
        ax.plot(k * 1.07, others.mean(), "_", color="0.2", markersize=14, zorder=2)
        ax.plot(k, star, "*", markersize=18, color=green, zorder=5)
    ax.text(1.6, 0.96, "training", color=blue, **large)
    ax.text(2.4, 0.71, f"validation, {fold_count} folds", color="#b86b00", **large)
    ax.text(best_k * 0.9, right_chosen, f"test, k = {best_k}", color=green, ha="right",
            va="center", **large)
    ax.text(1.17, right_one + 0.035, "test, k = 1", color=green, va="center", **large)
    grey = {"color": "0.35", "fontsize": 12, "va": "center"}
    ax.text(1.2, tested[:, 0].min() + 0.01, "20 other splits", **grey)

class SmallNetwork(nn.Module):
    """Two convolutions and a linear layer: (N, C, H, W) to class scores (N, classes)."""

    def __init__(self, channels, classes, width):
        super().__init__()
        self.first = nn.Conv2d(channels, width, kernel_size=3, padding=1)  # H and W stay
        self.second = nn.Conv2d(width, 2 * width, kernel_size=3, padding=1)
        self.head = nn.Linear(2 * width, classes)

    def maps(self, images):
        """The answers of the second layer's filters at all places, (N, 2 * width, H / 2, W / 2)."""
        answers = functional.relu(self.first(images))  # (N, width, H, W); relu: below 0 becomes 0
        return self.second(functional.max_pool2d(answers, 2))  # the largest of each 2 x 2 places

    def features(self, images):
        """The largest answer of each of the second layer's filters, (N, 2 * width)."""
        largest = self.maps(images).flatten(2).max(dim=2).values
        return functional.relu(largest)

    def forward(self, images):
        return self.head(self.features(images))

def untrained(part, number):
    """A new network for the pictures of `part`; number: its seed."""
    torch.manual_seed(number)
    return SmallNetwork(part.images.shape[1], len(part.classes), width)

def trained(network, part, passes, batch_size=64):
    """The network, trained on `part` in so many passes."""
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    training.fit(network, part, optimizer=optimizer, epochs=passes, batch_size=batch_size,
                 progress=False)
    return network

def network_accuracy(network, images):
    return training.evaluate(network, replace(framed_test, images=images)).accuracy

def right_of(networks):
    """The networks' accuracies on the moved test pictures, and with litter."""
    return [[network_accuracy(each, part.images) for each in networks]
            for part in (moved_test, littered_test)]

def moved_copies(number):
    """As many randomly moved copies of each framed training picture as there are epochs."""
    moves = random_moves(number)
    images = torch.cat([anywhere(framed_train.images, moves) for _ in range(epochs)])
    return replace(framed_train, images=images, labels=train.labels.repeat(epochs))

def right_among(rows, known, labels):
    """1-NN's accuracies for moved test digits and for littered ones, (2 * M, D) together, asked
    among rows of bytes; and the rows (M,) found for the moved ones."""
    found = nearest_in_pieces(rows, known)
    return (labels[found].reshape(2, -1) == test_labels).mean(axis=1), found[:len(test)]

def pushed_by(images, guides):
    """Pictures (N, C, H, W), each moved as its guide must move for its ink to be centred."""
    steps = [[steps_to_middle(guide.double().sum(dim=0).sum(dim=axis)) for axis in (1, 0)]
             for guide in guides]
    return torch.stack([picture.roll(move, dims=(1, 2))
                        for picture, move in zip(images, steps, strict=True)])

def pulled_aside(images, littered):
    """Which picture shows best how litter pulls the centre of the ink (the first without any).

    Of those whose litter keeps two black pixels from the rest, and which are not yet in the
    middle with it, the one whose centre is pulled farthest.
    """
    own, all_ink = ink_centres(images), ink_centres(littered)
    litter = (littered != images).double()
    near = functional.max_pool2d((images > 0).double(), 5, stride=1, padding=2)  # two around
    apart = ((near * litter).flatten(1).sum(dim=1) == 0) & (litter.flatten(1).sum(dim=1) > 4)
    middle = (np.array(images.shape[:1:-1]) - 1) / 2  # x, y
    pulled = np.abs(all_ink - own).sum(axis=1)
    fit = apart.numpy() & (np.abs(all_ink - middle) > 1).all(axis=1)
    return int(np.argmax(np.where(fit, pulled, 0)))

def mark_middle(pictures, guides):
    """On pictures drawn by `captioned`, a cross at the middle and a ring at the guide's centre."""
    height, width = pictures[0].shape[1:]
    for place, (x, y) in enumerate(ink_centres(torch.stack(guides))):
        left = 1.35 * place
        plt.plot(left + 0.5, -height / width / 2, "+", color="C1", markersize=17,
                 markeredgewidth=2.5)
        plt.plot(left + (x + 0.5) / width, -(y + 0.5) / width, "o", color="C0", markersize=13,
                 markerfacecolor="none", markeredgewidth=2.5)

def patch_accuracy(new, known):
    """Accuracy of 1-NN for the test patches' features, asked among the training patches'."""
    return (patch_labels[l2_no_loop(new, known).argmin(axis=1)] == patch_labels).mean()

def in_each_draw(change):
    """The labels (draws, M) that 1-NN gives the test patches, on their changed pixels."""
    tables = (l2_no_loop(change(pixels(new.images)), change(pixels(known.images)))
              for known, new in draws)
    return np.stack([patch_labels[table.argmin(axis=1)] for table in tables])

def mean_and_contrast(rows):
    return np.stack([rows.mean(axis=1), rows.std(axis=1)], axis=1)

def as_it_is(rows):
    return rows

def sorted_alike(rows):
    return np.sort(alike(rows))

def all_places(network, part):
    """What the layers before the maximum answer at all places, (N, filters * places)."""
    whole = copy.deepcopy(network)
    whole.features, whole.head = lambda images: whole.maps(images).relu().flatten(1), nn.Identity()
    return training.predict(whole, part).cpu().numpy()

def keeping_places(network):
    """1-NN's accuracies for moved and for centred test digits: among the answers at all places,
    and among the largest of each filter, which are the features."""
    known, *asked = (all_places(network, part) for part in (framed_train, moved_test, framed_test))
    largest, *others = (rows.reshape(len(rows), 2 * width, -1).max(axis=2)
                        for rows in (known, *asked))
    return ([knn_accuracy(rows, known) for rows in asked],
            [knn_accuracy(rows, largest) for rows in others])

def split_accuracy(order):
    """1-NN trained on the first 1,347 pictures of an order and tested on the last 450."""
    table = every_distances[np.ix_(order[1347:], order[:1347])]
    return (every_labels[order[:1347]][table.argmin(axis=1)] == every_labels[order[1347:]]).mean()

def patch_space(network):
    """1-NN's accuracy on the patches, among the features of a network."""
    return patch_accuracy(features_of(network, patch_test), features_of(network, patch_train))

def trained_on_patches(number):
    return trained(untrained(patch_train, number), patch_train, epochs, batch_size=32)

def bar_panels(panels, colours, label="accuracy (dotted: guessing)"):
    """One panel of bars for each name of `panels`; its values in the order of `colours`."""
    height = 3.8 if len(colours) < 6 else 4.6
    fig, axes = plt.subplots(1, len(panels), figsize=(figures.WIDTH, height), sharex=True,
                             sharey=True)
    for ax, (title, values) in zip(axes, panels.items(), strict=True):
        bars = dict(zip(colours, values, strict=True))
        plots.bars(ax, bars, horizontal=True, format="{:.2f}", colours=colours)
        guess = 1 / 3 if title == "photographs" else 1 / len(train.classes)
        ax.axvline(guess, color=figures.COLOUR["ink"], linewidth=1.5, linestyle=":")
        ax.set(title=title, xlim=(0, 1.25), xticks=(0, 1))
    axes[0].set_ylim(len(colours) - 0.5, -0.5)  # shared: the first on top
    fig.supxlabel(label, fontsize=12)

def captioned(images, names, columns, height, fontsize=13):
    """A grid of pictures, each with its name below; the title is still to be set."""
    _, ax = plt.subplots(figsize=(figures.WIDTH, height))
    plots.image_grid(ax, torch.stack(images), columns=columns, labels=names, gap=0.35,
                     fontsize=fontsize)

def nearest_of(features, allowed):
    """Distance (M,) of changed test pictures from the nearest training picture allowed (M, N)."""
    return np.where(allowed, l2_by_torch(features, stored), np.inf).min(axis=1)

def nearer_to_another(dx, dy):
    """Share of the test pictures that a move takes nearer to another class than to themselves."""
    rows = pixels(augment.shift(framed_test.images, dx, dy))
    return (nearest_of(rows, ~same_class) < np.linalg.norm(rows - asked, axis=1)).mean()

def when_moved(steps):
    """1-NN's accuracies for test pictures moved left, down and up by so many pixels."""
    return [knn_accuracy(pixels(augment.shift(framed_test.images, steps * dx, steps * dy)), stored)
            for dx, dy in ((-1, 0), (0, 1), (0, -1))]

def in_other_splits(count):
    """Test accuracies (count, ks) in other splits; the place in ks that their folds choose."""
    splits = [another_split(number) for number in range(seed + 1, seed + 1 + count)]
    return np.array([tested for tested, _ in splits]), np.array([place for _, place in splits])

def draw_withheld(another, block):
    """Bars of 1-NN's mistakes, by what was withheld."""
    withheld = {"nothing": [free], f"another sheet\n({len(another)} ways)": another,
                f"a block across\nborders ({len(block)} ways)": block,
                "the own sheet": [without_own]}
    fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.6))
    colours = dict(zip(withheld, ["0.6"] * 3 + ["C1"], strict=True))
    plots.bars(ax, withheld, horizontal=True, format="{:.0f}", colours=colours)
    ax.set(xlabel="mistakes of 1-NN in 1,797 digits", xlim=(0, 75),
           xticks=(0, 20, 40, 60))
    return fig, ax

def both_that_saw(number, network):
    """1-NN and the network that saw the moves of this seed: accuracies moved, and with litter."""
    seen = moved_copies(number)
    by_knn, _ = right_among(both_rows, seen.images.flatten(1).numpy(), seen.labels.numpy())
    return (*by_knn, network_accuracy(network, moved_test.images),
            network_accuracy(network, littered_test.images))

def without_other_parts():
    """Mistakes of 1-NN without another sheet, and without a block across the borders of sheets."""
    another = [mistakes(itself | ((sheet[:, None] + step) % sheets == sheet))
               for step in range(1, sheets)]
    blocks = [np.roll(sheet, later) for later in range(16, 113, 16)]  # every cut so much later
    return another, [mistakes(block[:, None] == block) for block in blocks]

def draw_litter(clean, littered):
    """A moved picture (1, C, H, W) and itself with litter, both before and after pushing back."""
    strip = {"moved": clean, "pushed back": centred(clean), "moved, with litter": littered,
             "pushed back\nwith litter": centred(littered)}
    alone = [clean, centred(clean), clean, pushed_by(clean, littered)]  # the digit without litter
    captioned([images[0] for images in strip.values()], list(strip), columns=4, height=2.75)
    mark_middle([images[0] for images in strip.values()], [images[0] for images in alone])
    plt.title("Litter pulls the centre of the ink to its side, and the digit is pushed aside")

def draw_spaces(panels):
    """Bars of 1-NN's accuracies in the four spaces of section 8, a panel for each task."""
    bar_panels(panels, {"pixels": "C1", "sorted\npixels": "C3", "features,\nuntrained": "0.6",
                        "features,\ntrained": "C0"}, "accuracy of 1-NN (dotted: guessing)")
    plt.suptitle("Pixels serve digits, sorting photographs, features trained for the task both")

def of_all_that_saw():
    """What `both_that_saw` measures, for each seed, (4, runs)."""
    pairs = zip(numbers, moving_networks, strict=True)
    return np.array([both_that_saw(*pair) for pair in pairs]).T

def draw_remedies(*accuracies):
    """Bars of the accuracies, moved and with litter, of each remedy of section 6."""
    names = ("1-NN, pixels", "1-NN,\npushed back", "1-NN, copies\nat all places",
             "network,\nsaw no moves", f"1-NN, saw\n{epochs} moves",
             f"network, saw\n{epochs} moves")
    ways = dict(zip(names, accuracies, strict=True))
    bar_panels({title: [both[part] for both in ways.values()]
                for part, title in enumerate(("moved", "moved, with litter"))},
               dict(zip(ways, ("C1", "C1", "C1", "C0", "C1", "C0"), strict=True)))

def draw_spaces_of_moved(*accuracies):
    """Bars of the accuracies on moved digits, of section 7."""
    bars = dict(zip(("linear layer, pixels", "1-NN, pixels", "untrained, all places",
                     "features, untrained", "features, no moves", "features, moves"),
                    accuracies, strict=True))
    fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.2))
    plots.bars(ax, bars, horizontal=True, format="{:.2f}",
               colours=dict(zip(bars, ("0.3", "C1", "0.6", "0.6", "C0", "C0"), strict=True)))
    guess = 1 / len(train.classes)
    ax.axvline(guess, color=figures.COLOUR["ink"], linewidth=1.5, linestyle=":")
    ax.set(xlim=(0, 1.1), xticks=(0, 1), xlabel="accuracy (dotted: guessing)")
    return fig

def linear_layer():
    """Accuracies of a linear layer on pixels, trained in the middle: moved, and in the middle."""
    layer = LogisticRegression(max_iter=2000).fit(stored / 255, train_labels)
    return [layer.score(rows / 255, test_labels) for rows in (moved, asked)]

def spaces_of(networks):
    """1-NN's accuracies (2, runs) in the networks' features: moved digits, and in the middle."""
    return np.transpose([in_space_of(each, moved_test, framed_test) for each in networks])

def asked_back(networks):
    """The networks' accuracies (runs,) on moved digits that are pushed back."""
    images = torch.from_numpy(back).reshape(moved_test.images.shape).to(torch.uint8)
    return np.array([network_accuracy(network, images) for network in networks])

def by_centres_of(images, guides):
    """1-NN's accuracy for pictures pushed back by the centres of their guides' ink."""
    return knn_accuracy(pixels(pushed_by(images, guides)), home)

def grey_examples():
    """Two patches for which plain grey is best, with their nearest and grey; names for all."""
    known, new = (pixels(part.images) for part in draws[0])
    train_part, test_part = draws[0]
    table, (to_grey, _) = l2_no_loop(new, known), distances_of_grey(draws[0])
    grey = torch.full_like(test_part.images[0], round(float(known.mean())))
    shown, names = [], []
    for label in (1, 2):  # the first such patch of grass and the first of gravel
        at = int(np.argmax((to_grey < table.min(axis=1)) & (patch_labels == label)))
        answer = table[at].argmin()
        shown += [test_part.images[at], train_part.images[answer], grey]
        names += [f"asked:\n{test_part.classes[label]}",
                  f"nearest: {test_part.classes[patch_labels[answer]]}\nat {table[at].min():.0f}",
                  f"grey\nat {to_grey[at]:.0f}"]
    return shown, names

def distances_of_grey(draw, change=as_it_is):
    """Distances (M,) of the test patches of a draw from plain grey, and from the nearest."""
    known, new = (change(pixels(part.images)) for part in draw)
    grey = np.full_like(known[:1], known.mean())
    return l2_no_loop(new, grey)[:, 0], l2_no_loop(new, known).min(axis=1)

def who_answers(draw):
    """Of a draw of patches: for which share of each class grey is nearer, (3,), and for which of
    all if they are sorted; the contrast of each class, (3,); the contrast of the answers, in
    average contrasts; how often the flatter half of the brick answers, and the other half."""
    known, new = (pixels(part.images) for part in draw)
    to_grey, to_nearest = distances_of_grey(draw)
    grey = (to_grey < to_nearest).reshape(3, -1).mean(axis=1)
    to_grey, to_nearest = distances_of_grey(draw, np.sort)
    rows = l2_no_loop(new, known).argmin(axis=1)
    spread = known.std(axis=1)
    count = np.bincount(rows, minlength=len(known))  # how often each stored patch answers
    bricks = np.argsort(spread[:len(known) // 3])  # the flattest first
    flatter, other = (count[half].sum() for half in np.array_split(bricks, 2))
    return (*grey, (to_grey < to_nearest).mean(), *spread.reshape(3, -1).mean(axis=1),
            spread[rows].mean() / spread.mean(), flatter, other)

def all_answers():
    """Of all draws: grey by class (3, 5), grey if sorted (5,), contrasts of the classes (3, 5),
    contrast and two counts (3, 5), see `who_answers`; and the share of each class named right."""
    facts = np.array([who_answers(draw) for draw in draws]).T  # (10, 5)
    rights = [(answers == label)[:, patch_labels == label].mean(axis=1) for label in range(3)]
    return facts[:3], facts[3], facts[4:7], facts[7:], rights

def claim_spaces():
    """Two claims: 1-NN in the features of networks that saw no moves and that saw moves."""
    for kind, name, space, own, limit in (
            ("features", "saw no moves", np.array(middle_in_space), np.array(middle_moved), 10),
            ("features-moves", "saw moves", moving_in_space, network_saw, 3)):
        claims.check(f"emp-good-representation-helps.{kind}",
                     f"Among features of networks that {name} 1-NN is right in {{space:.1%}} of "
                     "the moved digits; their own last layer is {lead:+.1f} points better.",
                     space=(space, ">=", 0.6), lead=(100 * (own - space), "in", (-limit, limit)),
                     seeds=runs, on="every")

def grey_wins_of_more(count=1000):
    """The share of the first draw's test patches nearer to grey, with more patches stored."""
    more, _ = patches(draws[0][0].classes, count, side=16, seed=seed)
    to_grey, _ = distances_of_grey(draws[0])
    table = l2_no_loop(pixels(draws[0][1].images), pixels(more.images))
    return (to_grey < table.min(axis=1)).mean()

def rotation(count, number):
    """A random rotation of rows of `count` numbers, as a matrix (count, count)."""
    return np.linalg.qr(np.random.default_rng(number).normal(size=(count, count)))[0]

def on_random_directions(number, count=20):
    """1-NN's accuracy on so many random mixtures of the pixels."""
    directions = np.random.default_rng(number).normal(size=(train_pixels.shape[1], count))
    return knn_accuracy(test_pixels @ directions, train_pixels @ directions)

def kept_after(turn, distance, before):
    """Share of the test pictures whose nearest row `before` (M,) the rotation does not change."""
    return (before == distance(test_pixels @ turn, train_pixels @ turn).argmin(axis=1)).mean()

def middling(values):
    """The place of the value that lies nearest to the median; nan does not count."""
    values = np.where(np.isnan(values).all(), 0, values)  # with nothing to choose from, the first
    return int(np.nanargmin(abs(values - np.nanmedian(values))))

def in_cells(questions, pictures, landmarks, count=3):
    """Approximate search: the row (M,) found for each question, and the distances computed.

    Each picture lies in the cell of its nearest landmark; a question looks into `count` cells.
    """
    kind = questions.dtype
    cell = np.concatenate([l2_no_loop(piece.astype(kind), landmarks).argmin(axis=1)
                           for piece in np.array_split(pictures, 30)])
    members = [np.flatnonzero(cell == number) for number in range(len(landmarks))]
    found, looked_at = np.empty(len(questions), int), 0
    for i, cells in enumerate(nearest(l2_no_loop(questions, landmarks), count)):
        inside = np.concatenate([members[number] for number in cells])
        found[i] = inside[l2_no_loop(questions[i:i + 1], pictures[inside].astype(kind)).argmin()]
        looked_at += len(landmarks) + len(inside)
    return found, looked_at

# %%
runtime.start(seed=seed, dtype="float64")
train = data.load(dataset, True, size=image_size or None).subset(train_images, seed=seed)
test = data.load(dataset, False, size=image_size or None).subset(test_images, seed=seed)
train_pixels, test_pixels = pixels(train.images), pixels(test.images)  # as rows
train_labels, test_labels = train.labels.numpy(), test.labels.numpy()
framed_train, framed_test = framed(train, margin), framed(test, margin)  # room to move in
stored, asked = pixels(framed_train.images), pixels(framed_test.images)  # as rows, too
train, test

# %% tags=["fold"]
figures.use_style()
same_class = train_labels == test_labels[:, None]  # (M, N)
aside_test = augment.shift(framed_test.images, 1, 0)
aside = pixels(aside_test)
own = np.linalg.norm(aside - asked, axis=1)  # from the moved picture to its original
to_other, to_same = (nearest_of(aside, who) for who in (~same_class, same_class))
place = middling(np.where(to_other < to_same, own / to_other, np.nan))  # of the misread ones
row = l2_by_torch(aside, stored)[place]
kin, stranger = (np.where(who[place], row, np.inf).argmin() for who in (same_class, ~same_class))
name, other = test.classes[test_labels[place]], train.classes[train_labels[stranger]]
captioned([aside_test[place], framed_test.images[place], *framed_train.images[[kin, stranger]]],
          [f"a {name}, moved\nright by one", f"before it moved:\n{own[place]:.0f} away",
           f"nearest {name}:\n{to_same[place]:.0f} away",
           f"nearest of all, a {other}:\n{to_other[place]:.0f} away"], columns=4, height=2.75)
closer = (to_other < own).mean()
plt.title(f"One pixel right, {closer:.0%} are nearer to another class than to themselves")
figures.save(plt.gcf(), "emp-knn-poor-for-images.surprise",
             caption="A moved test picture, one of those that 1-NN then names wrong; its original; "
                     "the nearest training pictures of its class and of all. Distances from "
                     f"the moved one (average: {row.mean():.0f}); {dataset}.",
             alt="A moved picture, its original, and two training pictures that are nearer.")
claims.check("emp-knn-poor-for-images.surprise",
             "Moved right by one pixel, {other:.0%} of the test pictures have a training picture "
             "of another class nearer than their own original.", other=(closer, ">=", 0.95))
nearby = [nearer_to_another(*step) for step in ((-1, 0), (0, 1), (0, -1))]  # left, down, up
claims.check("emp-knn-poor-for-images.directions",
             "Moved left, down or up, it is {low:.0%} to {high:.0%} of them.",
             low=(min(nearby), ">=", 0.75), high=max(nearby))

# %% [markdown]
# This lesson finds out where the rule works, where it breaks, and why.
#
# **You will be able to**
# - say how a k-nearest-neighbour classifier answers, and compute all its distances with loops and with one matrix product;
# - say what a test accuracy promises, and show when it promises too much;
# - choose k by cross-validation, and say why neither training nor test pictures may choose it;
# - name harmless changes of a picture that this distance cannot bear, and find numbers to compare that do bear them.
#
# **You need** Python, numpy's arrays and their shapes. Of the small networks in sections 6 to 8 you need only believe that they learn from pictures.
# Take two sittings of about 90 minutes: sections 1 to 4 first, 5 to 8 another day.
# At a first reading you may skip the table of noise in section 4, the light in section 5, and "Also in the lectures".
#
# **Words.** *Training pictures* are stored with their labels; *test pictures* are the questions. *1-NN* answers with the label of the nearest training picture, *kNN* lets the k nearest vote.
# *Accuracy* is the share of right answers; differences of accuracies are in *points* (from 90 % to 87 % are 3 points).
#
# **Sizes**, in the comments of the code: N training pictures and M test pictures, each a row of D numbers. As pictures they are (N, C, H, W): C *channels* (1 if grey, 3 if in colour), H rows and W columns of pixels.
#
# With other parameters than those above, the lesson shows what it measures and requires nothing.
# Section 2, the wines of section 4 and the photographs of section 8 bring their own data.

# %% [markdown]
# ## 1 · A picture is a row of numbers, and rows have distances
#
# For two pictures $a$ and $b$ of $D$ numbers there are two usual ways to add up the differences:
#
# $$L_1(a, b) = \sum_{d=1}^{D} |a_d - b_d| \qquad\qquad L_2(a, b) = \sqrt{\sum_{d=1}^{D} (a_d - b_d)^2}$$
#
# The digits come with scikit-learn: 1,797 of them, written on forms, scanned, and counted down to 8×8 pixels.
#
# (One trap: pictures are stored as bytes, and bytes know no minus. `np.uint8([3]) - np.uint8([5])` is 254, and nothing warns. That is why `pixels` makes floating point numbers.)

# %% tags=["fold", "ledger:fig-image-as-numbers"]
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4))
top, left = ((side - 8) // 2 for side in train.images.shape[2:])
plots.picture_and_numbers(axes, train.images[0, 0, top:top + 8, left:left + 8])
axes[0].set_title(f"We see a {train.classes[train_labels[0]]}")
axes[1].set_title("The computer has 64 numbers")
figures.save(fig, "fig-image-as-numbers",
             caption=f"The first training picture of {dataset}, its middle 8 by 8 pixels: 0 is "
                     "black, 255 white.",
             alt="A small grey picture beside the grid of its 64 pixel values.")
exercises.predict("01.p1", "1-NN gets new digits, not moved. How many of 100 does it read right?",
                  ("less than 85", "85 to 95", "more than 95"))

# %% [markdown]
# The distance of every test picture to every training picture, as one would say it: two loops.
# Then a picture minus *all* training pictures in one operation (broadcasting: $(N, D) - (D,)$); the inner loop is gone.
#
# The last loop goes by algebra. With $\|a\|^2$ for the sum of the squares of $a$: $\|a - b\|^2 = \|a\|^2 - 2\, a \cdot b + \|b\|^2$, and the middle term, for all pairs at once, is one matrix product, the thing that processors do best.
# (`[:, None]` makes a column of the first term; column, table and row add up to a table. $L_1$ keeps its loop: absolute values do not multiply out.)

# %% tags=["define", "ledger:eq-knn-l1-l2"]
def l2_two_loops(test, train):
    """Euclidean distances (M, N) of each row of test (M, D) from each row of train (N, D)."""
    distances = np.empty((len(test), len(train)))
    for i in range(len(test)):
        for j in range(len(train)):
            distances[i, j] = np.sqrt(((test[i] - train[j]) ** 2).sum())
    return distances

def l2_one_loop(test, train):
    """The same, one test picture against all training pictures at a time."""
    return np.stack([np.sqrt(((train - picture) ** 2).sum(axis=1)) for picture in test])

def l1_distances(test, train):
    """Manhattan distances (M, N): absolute values instead of squares."""
    return np.stack([np.abs(train - picture).sum(axis=1) for picture in test])

def l2_no_loop(test, train):
    """Euclidean distances (M, N), from one matrix product."""
    squares = ((test**2).sum(axis=1)[:, None]  # (M, 1): a column
               - 2 * test @ train.T  # (M, N): each test row with each training row
               + (train**2).sum(axis=1))  # (N,): a row
    return np.sqrt(np.maximum(squares, 0))  # rounding can push a square of nearly 0 below 0

# %% [markdown]
# Now the classifier. Training is: keep the pictures.
# To name a new one, find the $k$ training pictures at the smallest distance, and let their labels vote.

# %% tags=["define"]
def nearest(distances, k):
    """Columns (M, k) of the k smallest distances in each row of (M, N), nearest first."""
    return np.argsort(distances, axis=1, kind="stable")[:, :k]  # equals: the earlier column first

def predict_knn(distances, labels, k):
    """The most frequent of the k nearest labels (M,); a tie goes to the smaller label."""
    votes = labels[nearest(distances, k)]  # (M, k)
    classes = np.unique(votes)
    is_for = votes[:, :, None] == classes  # (M, k, classes): is this vote for this class?
    return classes[is_for.sum(axis=1).argmax(axis=1)]  # most votes; of equals the first

# %%
table, names = np.array([[3.0, 1.0, 2.0, 4.0]]), np.array([5, 7, 5, 9])
print("the three nearest vote 7, 5, 5:", predict_knn(table, names, k=3))

distances = l2_no_loop(test_pixels, train_pixels)  # (M, N)
accuracy = (predict_knn(distances, train_labels, k=1) == test_labels).mean()
exercises.reveal("01.p1", option(accuracy, "less than 85", 0.85, "85 to 95", 0.95, "more than 95"),
                 f"Misread are {(1 - accuracy) * len(test):.0f} of {len(test)}.")

# %% tags=["fold"]
few, some = test_pixels[:20], train_pixels[:300]
ways = {l2_two_loops: 2, l2_one_loop: 2, l2_no_loop: 2, l1_distances: 1}
gaps = [np.abs(way(few, some) - l2_by_torch(few, some, p=p)).max() for way, p in ways.items()]
claims.check("eq-knn-l1-l2",
             "In 20 × 300 distances each of the four functions agrees with torch.cdist, within "
             "{gap:.0e}.", gap=(max(gaps), "<=", 1e-6), varies=True)
two, one, none = (seconds(way, few, some) for way in (l2_two_loops, l2_one_loop, l2_no_loop))
claims.check("eq-knn-l1-l2.time",
             "Without the inner loop it is {one:.0f} times as fast, without any {none:.0f} times.",
             one=(two / one, ">", 2), none=(two / none, ">", 10), varies=True)
claims.check("emp-knn-poor-for-images.aligned",
             "1-NN names {right:.1%} of the test digits right, without having learned anything.",
             right=(accuracy, ">=", 0.97))
by_size = [(train_labels[distances[:, :n].argmin(axis=1)] == test_labels).mean()
           for n in (50, 400)]
claims.check("emp-knn-poor-for-images.few",
             "With the first 50 training pictures {fifty:.0%} are right, with 400 {more:.0%}.",
             fifty=(by_size[0], ">=", 0.8), more=(by_size[1], ">=", 0.93))
x, y = ink_centres(test.images).std(axis=0)
claims.check("emp-knn-poor-for-images.centre",
             "The centre of the digits' ink varies by {x:.1f} pixels in x and {y:.1f} in y "
             "(standard deviation: how far numbers usually lie from their mean).",
             x=(x, "<=", 0.5), y=(y, "<=", 0.5))

# %% [markdown]
# How can a distance that puts a moved digit far from itself be so good? These digits hardly move: the centre of their ink is nearly at one place. (Section 5 moves them, and the rule fails.)
# And they vary little: 50 stored pictures already suffice for most.
# One pixel is also much here, an eighth of the picture. On MNIST's 28×28 pixels it does less harm: section 8 has the numbers.
#
# **We now know** that on centred digits the nearest picture nearly always has the right label.
# **This does not show** that the number holds for *your* handwriting. That is the next question.
#
# **Exercise 01.1.** Someone writes `np.sqrt(((test[:, None] - train) ** 2).sum(-1))` for MNIST: 10,000 test and 60,000 training pictures of 784 numbers in float64.
# How many bytes does the block of differences take, before the sum? A product such as `10_000 * ...` will do.

# %%
answer = ...
exercises.check("01.1", answer)

# %% [markdown]
# ## 2 · Whose handwriting was it?
#
# Two parts were kept apart from the start: **training** pictures, which we may look at and try things on as often as we like, and **test** pictures, which in an honest project answer one question, once.
# No picture stands in both. Is the test then fair?
# It was drawn *at random* from one file. Look at the labels in the order of that file:

# %%
every = data.digits()
every_pixels, every_labels = pixels(every.images), every.labels.numpy()
for start in (0, 130, 256, 386):
    before = every_labels[max(0, start - 2):start]
    print(f"{start:3}:", *before, "|", *every_labels[start:start + 32])

# %% [markdown]
# At each bar begins 0 1 2 3 4 5 6 7 8 9, three times over. So it goes on through the file, but for two slips (one lacks its first 0, one a 7 and an 8): forms, filled in one after the other.
# Cut the file at each such beginning (the folded `sheet_numbers` does), and call each of the 14 pieces a *sheet*.
#
# The experiment: ask each of the 1,797 pictures for its nearest neighbour among all others, and count the mistakes.
# Then once more, with the neighbours on its **own sheet** out of bounds.
#
# Fewer neighbours could by themselves cost mistakes. So there are two yardsticks, which withhold about as many:
# - **another** sheet; each other sheet has its turn;
# - a **block** as long as a sheet, with its borders 16, 32, ... 112 pictures behind those of the sheets: a part of it is the own sheet, the rest is not.

# %% tags=["fold"]
exercises.predict("01.p2", "Without the own sheet, the number of mistakes",
                  ("stays about the same", "grows by half", "doubles, or worse"))

# %%
every_distances = l2_no_loop(every_pixels, every_pixels)  # (1797, 1797)
itself = np.eye(len(every), dtype=bool)
sheet = sheet_numbers(every_labels)
sheets = sheet.max() + 1

def mistakes(banned):
    """How often 1-NN errs when j may not answer for i, wherever banned[i, j]."""
    answer = np.where(banned, np.inf, every_distances).argmin(axis=1)
    return int((every_labels[answer] != every_labels).sum())

free = mistakes(itself)
without_own = mistakes(sheet[:, None] == sheet)
times = without_own / free
exercises.reveal("01.p2", option(times, "stays about the same", 1.2, "grows by half", 1.8,
                                 "doubles, or worse"), f"{without_own} mistakes, before {free}.")

# %% tags=["fold"]
without_another, without_block = without_other_parts()
fig, ax = draw_withheld(without_another, without_block)
ax.set_title(f"Without its own sheet, {times:.1f} times the mistakes")
figures.save(fig, "prac-train-val-test-split",
             caption="Mistakes of 1-NN on all 1,797 digits, each asked of all others, with about "
                     "130 neighbours withheld (several ways: mean and range).",
             alt="Withholding the own sheet multiplies the mistakes; another sheet does not.")
claims.check("prac-train-val-test-split",
             "Without its own sheet 1-NN makes {times:.1f} times the mistakes: {own} instead of "
             "{free}.", times=(times, ">=", 2.5), own=without_own, free=free)
nearest_sheet = sheet[np.where(itself, np.inf, every_distances).argmin(axis=1)]
claims.check("prac-train-val-test-split.own",
             "Of the nearest neighbours {own:.0%} are on the own sheet; by chance it would be "
             "{chance:.0%}.", own=((nearest_sheet == sheet).mean(), ">=", 0.4),
             chance=((sheet[:, None] == sheet).mean(), "<=", 0.1))
claims.check("prac-train-val-test-split.another",
             "Without another sheet it makes {low} to {high} mistakes.",
             low=(min(without_another), ">=", 16), high=(max(without_another), "<=", 26))
claims.check("prac-train-val-test-split.block",
             "Without a block that begins 64 pictures behind a sheet it makes {middle} mistakes, "
             "without one that begins 16 or 112 behind {early} and {late}.",
             middle=(without_block[3], "<=", 35), early=(without_block[0], ">=", 36),
             late=(without_block[-1], ">=", 36))
in_order = split_accuracy(np.arange(len(every)))
at_random = [split_accuracy(np.random.default_rng(i).permutation(len(every))) for i in range(10)]
claims.check("prac-train-val-test-split.order",
             "Trained on the first 1,347 of the file and tested on the last 450, 1-NN is right in "
             "{order:.1%}; in ten random splits of these sizes in at least {worst:.1%}.",
             order=(in_order, "<=", 0.97), worst=(min(at_random), ">=", 0.97))

# %% [markdown]
# With the own sheet at hand 1-NN makes a third of the mistakes. Withholding another sheet makes no difference on average. The block lies in between, and costs least where about half of it is the own sheet: the cuts are real borders in the file.
# So 1-NN leans on the sheet, most likely on the hand that filled it.
# (That is a guess: the data's description says that 13 people wrote, not who wrote what, and we count one sheet more than people.)
#
# **We now know** that a test promises only what its split promises. A random split tells of *new digits by known writers*; for *new writers*, whole writers must be kept out. The same goes for patients, cameras, streets.
# **This does not show** that random splits are wrong: they are right if your users are the people in your file.
# From here on we ask the random test pictures again and again, to compare methods with each other. Read those accuracies as "for known writers", and a little flattering.
#
# **Exercise 01.2.** Write the split that answers for new writers: no group on both sides. Then use it: `known, new = split_by_group(sheet, 4, seed=0)`, and
# `(every_labels[known][every_distances[np.ix_(new, known)].argmin(axis=1)] == every_labels[new]).mean()` is the accuracy for sheets never seen.
# (`np.ix_(new, known)` takes the rows `new` and the columns `known` of the table.)

# %%
def split_by_group(groups, test_groups, seed):
    """Indices (train, test) of rows; the test: all of `test_groups` groups, drawn by seed."""
    ...

exercises.check("01.2", split_by_group)

# %% [markdown]
# ## 3 · Which k?
#
# The method does not say which $k$ to take: $k$ and the distance are **hyperparameters**, chosen by us.
# To *see* what $k$ does, squeeze each picture into two numbers: which part of its ink lies in the upper half, and which in the left half.
# Numbers that are computed from a picture are called *features*. They give the picture a place in a *space*, here a plane, and there distances can be measured. (All the pixels are features, too.)
# Three classes are enough: `plane` (400, 2) holds the two features of their training pictures, `plane_labels` the classes, `plane_test` and `plane_test_labels` those of the test pictures.

# %% tags=["fold"]
three = [number % len(train.classes) for number in (6, 7, 8)]  # the classes 6, 7 and 8
in_train, in_test = np.isin(train_labels, three), np.isin(test_labels, three)
plane = ink_shares(train.images.numpy())[in_train]  # (400, 2): upper, left
plane_test = ink_shares(test.images.numpy())[in_test]
plane_labels, plane_test_labels = train_labels[in_train], test_labels[in_test]
three = sorted(set(three))  # fewer if the pictures have fewer classes
three_names = [train.classes[label] for label in three]
points, point_labels = plane[:100], plane_labels[:100]
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 2.9), sharex=True, sharey=True)
for ax, k in zip(axes, (1, 15), strict=True):
    regions(ax, points, point_labels, k, names=three_names).set_title(f"k = {k}")
fig.supxlabel("share of ink in the upper half", fontsize=12)
axes[0].set_ylabel("share of ink in the left half")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
fig.suptitle("k = 1 makes islands of single pictures, k = 15 does not")
figures.save(fig, "fig-knn-decision-regions",
             caption="What kNN answers at each place, if it stores the first 100 of these training "
                     f"pictures (drawn); {dataset}, L2.",
             alt="With k = 1 the regions are ragged, with islands; with k = 15 there are none.")
exercises.predict("01.p3", f"All {len(plane)} training pictures stored: which k names new pictures "
                  "of these classes best?", ("1", "2 to 9", "10 or more"))

# %% [markdown]
# With $k = 1$ each stray picture makes an island of its class in foreign land. A larger $k$ outvotes the strays.
# Too large a $k$, and small provinces vanish: with $k$ = all, everything is the class with most pictures.
# (With k = 15 a tongue of 8s without an 8 in it reaches to the right: few pictures are stored out there, so the 15 nearest reach back to where the 8s are.)
# Which is best? Try it first on the training pictures themselves:

# %% tags=["ledger:emp-knn-train-accuracy"]
def among_themselves(features, labels, k):
    """Accuracy on pictures that may be their own neighbours."""
    return (predict_knn(l2_no_loop(features, features), labels, k) == labels).mean()

{k: among_themselves(plane, plane_labels, k).round(3).item() for k in (1, 3, 5, 30)}

# %% [markdown]
# A perfect score for $k = 1$, and it means nothing: each picture is its own nearest neighbour.
# The test pictures may not choose either: the best of many results is partly luck, and would no longer speak of *new* pictures. (How much better it would look is measured below, over many splits.)
#
# **Cross-validation** makes new pictures out of training pictures: cut them into $f$ parts called **folds**, let each in turn be the **validation set** for the others, and average.

# %% tags=["define", "ledger:eq-kfold-cv"]
def folds(count, parts, seed=0):
    """`parts` arrays of indices that together hold each of 0 ... count - 1 once, shuffled."""
    return np.array_split(np.random.default_rng(seed).permutation(count), parts)

def cross_validate(features, labels, ks, parts, distance=l2_no_loop):
    """Validation accuracy (folds, ks): each fold judged by the neighbours it has in the others."""
    scores = np.empty((len(parts), len(ks)))
    for i, valid in enumerate(parts):
        rest = np.concatenate(parts[:i] + parts[i + 1:])  # the other folds
        distances = distance(features[valid], features[rest])
        for j, k in enumerate(ks):
            scores[i, j] = (predict_knn(distances, labels[rest], k) == labels[valid]).mean()
    return scores

# %%
ks = [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100]
plane_scores = cross_validate(plane, plane_labels, ks, folds(len(plane), fold_count, seed))
plane_mean = plane_scores.mean(axis=0)  # over the folds
best_k = ks[plane_mean.argmax()]
exercises.reveal("01.p3", option(best_k, "1", 1, "2 to 9", 9, "10 or more"),
                 f"The folds choose k = {best_k}; validation accuracy {plane_mean.max():.2f}.")

test_table = l2_no_loop(plane_test, plane)  # the choice is made: now the test, and k = 1 beside it
right_chosen = (predict_knn(test_table, plane_labels, best_k) == plane_test_labels).mean()
right_one = (predict_knn(test_table, plane_labels, 1) == plane_test_labels).mean()
print(f"test: {right_chosen:.3f} with k = {best_k}, {right_one:.3f} with k = 1")

# %% tags=["fold"]
tested, choice = in_other_splits(20)  # (20, ks), (20,)
by_choice = tested[np.arange(20), choice]
plane_train = [among_themselves(plane, plane_labels, k) for k in ks]
draw_choice()
by_training = ks[int(np.argmax(plane_train))]
plt.title(f"Training pictures choose k = {by_training}, the folds k = {best_k}")
figures.save(plt.gcf(), "fig-knn-decision-regions.cross-validation",
             caption="Training pictures among themselves; validation (mean of the folds; bars: "
                     "their standard deviation over the root of their number, a rough measure of "
                     "chance); test (stars); colours are not classes here. Grey: range and mean "
                     f"of the test in 20 other splits. {len(plane)} training, {len(plane_test)} "
                     f"test pictures of {dataset}; guessing one of three: 0.33.",
             alt="Training accuracy is best at k = 1; validation at a larger k, and the test too.")
claims.check("err-cv-training-values",
             "Training accuracy chooses k = {by_training}, right in {one:.1%} of the test; "
             "the folds choose k = {by_folds}, right in {chosen:.1%}.",
             by_training=(by_training, "==", 1), one=(right_one, "<=", 0.8),
             by_folds=(best_k, ">=", 10), chosen=(right_chosen, ">=", 0.82))
left = (1 - by_choice) / (1 - tested[:, 0])
claims.check("prac-cv-folds",
             "In 20 other random splits, each with k chosen by its own folds, {best:.0%} to "
             "{worst:.0%} of the mistakes of k = 1 are left, on average {mean:.0%}.",
             best=(left.min(), ">=", 0.4), worst=(left.max(), "<=", 0.95),
             mean=(left.mean(), "<=", 0.8))
peeked = tested.max(axis=1) - by_choice
claims.check("emp-cv-chooses-k",
             "There the folds choose k from {low} to {high}. The best k in the test itself would "
             "look better by {flatter:.1f} points on average.",
             low=(ks[choice.min()], ">=", 5), high=(ks[choice.max()], "<=", 100),
             flatter=(100 * peeked.mean(), "in", (0.5, 3)))

# %% [markdown]
# One number, chosen by honest means, takes away a sixth to a half of the mistakes in these splits.
# With the chosen $k$ the star of our test part lies above all 20 other splits: our split was lucky. With $k = 1$ it lies among them. So this one pair of stars says little. That the chosen $k$ is better than $k = 1$ is seen in the other splits as well.
#
# **We now know** how to choose: training pictures are the neighbours, folds choose $k$, the test speaks once, at the end.
# **This does not show** that the chosen $k$ is *the* answer: other splits choose others.
#
# **Exercise 01.3.** Folds of one picture each: every picture is asked about with all others as its neighbours.
# From the table of distances of the training pictures among themselves this needs one call of `predict_knn`, if you prevent one thing.

# %%
def leave_one_out(distances, labels, k):
    """Accuracy over all pictures, each named by the others; distances (N, N), labels (N,)."""
    ...

exercises.check("01.3", leave_one_out)

# %% [markdown]
# ## 4 · Which numbers go in?
#
# The vote is simple; everything depends on the numbers that are compared. Two things can go wrong with them.
#
# **Units.** 178 Italian wines of three grape varieties, 13 measurements each (they come with scikit-learn), named by 1-NN.
# Here is the *standard deviation* of each measurement: how far it usually lies from its mean. One of the 13 will weigh most in every distance.
# (The wine that is asked helps to measure the deviation here; exercise 01.4 does not allow that.)

# %%
wine = load_wine()
wine_spread = wine.data.std(axis=0)  # (13,) standard deviations
in_own_units = (wine.data - wine.data.mean(axis=0)) / wine_spread

def named_by_others(features):
    """Accuracy of 1-NN on the wines, each asked of all others."""
    table = l2_no_loop(features, features)
    np.fill_diagonal(table, np.inf)  # nobody answers for himself
    return (wine.target[table.argmin(axis=1)] == wine.target).mean()

dict(zip(wine.feature_names, wine_spread.round(1).tolist(), strict=True))

# %% tags=["fold"]
proline = np.array(wine.feature_names) == "proline"
claims.check("emp-good-representation-helps.units",
             "As measured, 1-NN names {raw:.0%} of the wines. (Always the commonest variety: "
             "{guess:.0%}.)", raw=(named_by_others(wine.data), "<=", 0.8),
             guess=np.bincount(wine.target).max() / len(wine.target))
claims.check("emp-good-representation-helps.proline",
             "By proline and nothing else it names {proline:.0%}, by all else {without:.0%}.",
             proline=(named_by_others(wine.data[:, proline]), "<=", 0.75),
             without=(named_by_others(wine.data[:, ~proline]), ">=", 0.82))
claims.check("emp-good-representation-helps.standardised",
             "With only proline divided by its standard deviation {one:.0%}, with each measurement "
             "divided by its own {all:.0%}.",
             one=(named_by_others(wine.data / np.where(proline, wine_spread, 1)), ">=", 0.85),
             all=(named_by_others(in_own_units), ">=", 0.93))

# %% [markdown]
# Proline is counted in milligrams, by the hundred, so it weighs most. Leave it out, or only turn it down, and the wines are named better; with every measurement on one scale, better still.
# Units are an accident; dividing by the standard deviation removes it. (Pixels share one unit.)
#
# **Numbers that say nothing.** Append random numbers to each picture and call them *strangers*: each varies as much as a pixel does. The pixels are all still there.
#
# **Principal components** (PCA) are the directions along which the training rows vary most, that is, have the largest *variance* (the square of the standard deviation). A stranger varies by itself; pixels vary *together*, so along some directions their variance is many times that of one pixel. Instead of all numbers, compare only how far each row reaches along the first 20 of them.
# (numpy's `svd` finds these directions, longest first. The rows that are compared keep their mean: it moves all of them alike and changes no distance.)

# %% tags=["define"]
def principal_axes(features, count):
    """The `count` directions (D, count) of largest variance, and the share of it they keep."""
    centred = features - features.mean(axis=0)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)  # axes: one a row, longest first
    return axes[:count].T, (lengths[:count] ** 2).sum() / (lengths**2).sum()

# %% tags=["fold"]
exercises.predict("01.p4", f"1,024 strangers beside {train_pixels.shape[1]} pixels. How many of "
                  "100 does 1-NN read right?", ("less than 40", "40 to 80", "more than 80"))

# %%
def knn_accuracy(new, known):
    """Accuracy of 1-NN: features `new` of the test pictures among `known` of the training ones."""
    found = l2_no_loop(new, known).argmin(axis=1)  # the nearest: as `predict_knn` with k = 1
    return (train_labels[found] == test_labels).mean()

noise_counts, by_noise, by_pca = [0, 16, 64, 256, 1024], [], []
pixel_spread = train_pixels.std(axis=0).mean()  # the usual standard deviation of a pixel
for count in noise_counts:
    noisy_train = with_noise(train_pixels, count, pixel_spread, seed)
    noisy_test = with_noise(test_pixels, count, pixel_spread, seed + 1)
    components, _ = principal_axes(noisy_train, 20)
    by_noise.append(knn_accuracy(noisy_test, noisy_train))
    by_pca.append(knn_accuracy(noisy_test @ components, noisy_train @ components))
    print(f"{count:5} strangers: {by_noise[-1]:.2f} right; on 20 components {by_pca[-1]:.2f}")
share = by_noise[-1]
exercises.reveal("01.p4", option(share, "less than 40", 0.4, "40 to 80", 0.8, "more than 80"),
                 f"{share:.0%} are right; among 20 principal components {by_pca[-1]:.0%}.")

# %% [markdown]
# With many strangers everything is about equally far from everything: a face of the **curse of dimensionality**. Does *that* make the mistakes?
#
# Change how many strangers there are, and how loud they are (loudness 1: each varies as a pixel does).
# Each squared distance is the pixels' part plus the noise's part. Of the noise's part the table gives two numbers:
# its *mean* (the mean of the pixels' part is 1), and its *spread*, how far it differs from one training picture to the next (the spread of the pixels' part is 1).
# *Nearest* is the distance of the nearest picture, as a share of the average distance.

# %%
trials = {}
print("strangers  loudness | noise: mean  spread | nearest | right")
for count, loudness in [(0, 1), (1024, 1), (1024, 0.5), (64, 2)]:
    trials[count, loudness] = noise_test(count, loudness, seed)
    print("{:9} {:9} | {:11.1f} {:7.1f} | {:7.0%} | {:5.0%}".format(
        count, loudness, *trials[count, loudness]))

# %% tags=["fold"]
mixtures = np.random.default_rng(seed).normal(size=components.shape)
claims.check("emp-good-representation-helps",
             "With 1,024 strangers {noisy:.1%} are right; on 20 principal components {pca:.1%}; on "
             "20 random directions {random:.1%}.", noisy=(by_noise[-1], "<=", 0.8),
             pca=(by_pca[-1], ">=", 0.85),
             random=(knn_accuracy(noisy_test @ mixtures, noisy_train @ mixtures), "<=", 0.4))
claims.check("emp-good-representation-helps.concentration",
             "With 1,024 strangers at half the loudness the nearest picture is at {near:.0%} of "
             "the average distance, and {half:.0%} are right. With 64 at twice the loudness it is "
             "at {other:.0%}, and {loud:.0%} are right.",
             near=(trials[1024, 0.5][2], ">=", 0.82), half=(trials[1024, 0.5][3], ">=", 0.9),
             other=(trials[64, 2][2], "<=", 0.8), loud=(trials[64, 2][3], "<=", 0.85))
again = [noise_test(count, loudness, 10 * number + seed)[3]
         for number in range(3) for count, loudness in ((1024, 1), (64, 2))]
many, few = np.array(again).reshape(3, 2).T  # three seeds each
claims.check("emp-good-representation-helps.spread",
             "64 strangers, twice as loud, leave {few:.0%} right, 1,024 as loud as a pixel "
             "{many:.0%}.", few=(few, "<=", 0.85), many=(many, "<=", 0.75), seeds=3, on="every")
claims.check("emp-good-representation-helps.ratio",
             "Of the right answers that the 1,024 cost, the 64 cost {ratio:.0%}.",
             ratio=((accuracy - few) / (accuracy - many), "in", (0.55, 0.95)), seeds=3, on="every")

# %% [markdown]
# That distances are nearly alike need not make mistakes: in the third row they are *more* alike than in the fourth, and far more answers are right. (A number added to all distances would change no order.)
# - The third and the fourth row have the same mean of the noise; the fourth has more spread, and more mistakes.
# - The second and the fourth have about the same spread; the second has four times the mean, and somewhat more mistakes.
#
# So the spread is most of the matter, not all of it. What makes the rest we have not tested.
#
# Principal components win much of the loss back; as many random directions do not (the first ✓ above).
#
# **We now know** that kNN compares whatever we feed it, each number by its size, whether it matters or not.
# **This does not show** that PCA finds what *matters*: it finds what *varies*.
#
# **Exercise 01.4.** Divide training and test columns by their standard deviations, for a classifier that has never seen the test rows.

# %%
def standardise(train, test):
    """Both, (N, D) and (M, D), with each column less its mean, over its standard deviation."""
    ...

exercises.check("01.4", standardise)

# %% [markdown]
# ## 5 · Changes that change nothing, for us
#
# A digit stays the same digit when it moves, tilts, is written with a fainter pen or photographed in more light.
# Only the test pictures change. `asked` are the test pictures as rows, `stored` the training pictures; both have got a black frame of `margin` pixels, so that moving loses no ink.

# %%
changed = {
    "as it was": asked,
    "moved right by 1": pixels(augment.shift(framed_test.images, 1, 0)),
    "moved right by 2": pixels(augment.shift(framed_test.images, 2, 0)),
    "tilted by 30°": pixels(tilted(framed_test.images, 30)),
    "a quarter as bright": asked / 4,
}
right = {name: knn_accuracy(features, stored) for name, features in changed.items()}

# %% tags=["fold"]
names = ("as it was", "moved right\nby 1", "moved right\nby 2", "tilted\nby 30°",
         "a quarter\nas bright")
labels = [f"{name}\n{share:.0%}" for name, share in zip(names, right.values(), strict=True)]
example = int(np.argmax(test_labels == 3 % len(test.classes)))
shown = np.stack([features[example] for features in changed.values()])
shown = torch.from_numpy(shown).to(torch.uint8).reshape(-1, *framed_test.images.shape[1:])
captioned(list(shown), labels, columns=5, height=2.7)
plt.title(f"Moved by two pixels, 1-NN reads {right['moved right by 2']:.0%} right (guessing: "
          f"{1 / len(test.classes):.0%})")
figures.save(plt.gcf(), "prac-challenges-of-classification",
             caption="One test picture after each change (moves in pixels), and the share of all "
                     f"test pictures that 1-NN still names right; {dataset}.",
             alt="Moved by two pixels, tilted or darkened, many test pictures are named wrong.")
tilt = changed["tilted by 30°"]
nearer = nearest_of(tilt, ~same_class) < np.linalg.norm(tilt - asked, axis=1)  # than the original
claims.check("prac-challenges-of-classification",
             "Tilted by 30° {tilted:.0%} of the digits lie nearer to a digit of another class "
             "than to their own original.", tilted=(nearer.mean(), ">=", 0.8))
claims.check("prac-challenges-of-classification.accuracy",
             "1-NN names {one:.0%} right when they move right by one pixel, {two:.0%} by two.",
             one=(right["moved right by 1"], "<=", 0.8),
             two=(right["moved right by 2"], "<=", 0.3))
one_pixel, two_pixels = when_moved(1), when_moved(2)
claims.check("prac-challenges-of-classification.directions",
             "Left, down or up: {low:.0%} to {high:.0%} by one pixel, {few:.0%} to {most:.0%} by "
             "two.", low=(min(one_pixel), ">=", 0.5), high=(max(one_pixel), "<=", 0.8),
             few=(min(two_pixels), ">=", 0.05), most=(max(two_pixels), "<=", 0.3))

# %% [markdown]
# Ink that moves aside is paid for twice: where it was and where it is now.
# Moved by one pixel, about two thirds are still read right: of the pictures that are now nearer than the original, the nearest is often of the right class.
#
# Light is odd. Let every pixel get the same amount (nothing is clipped at 255). So one might think: every training picture recedes alike, and the nearest stays the nearest.

# %% tags=["fold"]
exercises.predict("01.p5", "All test pixels brighter by 60. For how many test pictures is the "
                  "nearest training picture still the same?",
                  ("below 40 %", "40 to 75 %", "over 75 %"))

# %%
before = l2_no_loop(asked, stored).argmin(axis=1)
after = l2_no_loop(asked + 60, stored).argmin(axis=1)
kept = (before == after).mean()
same_label = (train_labels[before] == train_labels[after])[before != after].mean()
exercises.reveal("01.p5", option(kept, "below 40 %", 0.4, "40 to 75 %", 0.75, "over 75 %"),
                 f"It is the same for {kept:.0%}. Of the new neighbours {same_label:.0%} have the "
                 "label of the old one.")
for light, rows in {"before": before, "brighter": after}.items():
    print(f"{light}: {(train_labels[rows] != test_labels).sum()} of {len(test)} misread")

# %% [markdown]
# (Several times the mistakes, and still most are read right: 1-NN changes its mind far more often than its answer.)
#
# The algebra says what happens. For a question $x$ brighter by $c$, and a training picture $t$ of $D$ numbers,
#
# $$\|x + c - t\|^2 = \|x - t\|^2 + 2c\,\Big(\sum_d x_d - \sum_d t_d\Big) + D c^2 .$$
#
# $Dc^2$ and $\sum x$ are the same for every $t$. The term $-2c \sum t$ is not: it brings pictures with **much ink** nearer.
# To test it, leave the light on and take only the differences of ink away: from each *stored* picture subtract its own mean, so that every $\sum t$ is 0.

# %%
def without_mean(features):
    return features - features.mean(axis=1, keepdims=True)

for name, known in {"stored as they are": stored, "stored less mean": without_mean(stored)}.items():
    for amount in (0, 255):
        print(f"{name:18} | brighter by {amount:3} | {knn_accuracy(asked + amount, known):.2f}")

# %% tags=["fold"]
ink = stored.sum(axis=1)  # (N,)
brightest = l2_no_loop(asked + 255, stored).argmin(axis=1)
claims.check("prac-challenges-of-classification.light",
             "Brighter by 255, 1-NN is right in {bright:.0%}; the pictures it answers with hold "
             "{ink:.2f} times the ink of the average one.",
             bright=(knn_accuracy(asked + 255, stored), "<=", 0.5),
             ink=(ink[brightest].mean() / ink.mean(), ">=", 1.2))
claims.check("prac-challenges-of-classification.means",
             "In the same light, but with the stored pictures less their means, it is right in "
             "{without:.1%}.",
             without=(knn_accuracy(asked + 255, without_mean(stored)), ">=", 0.97))
dark = right["a quarter as bright"]
levelled = knn_accuracy(without_mean(asked / 4), without_mean(stored))
claims.check("prac-challenges-of-classification.quarter",
             "At a quarter of the light 1-NN is right in {dark:.0%}; with all means taken away "
             "{gain:.0f} points more, {levelled:.0%}.", dark=(dark, "<=", 0.6),
             gain=(100 * (levelled - dark), ">=", 4), levelled=(levelled, "<=", 0.7))

# %% [markdown]
# It takes both: light, and stored pictures with more ink than others. Without the differences of ink, light that is added equally does no harm.
# It works only if every pixel gets the same amount. At a quarter of the light bright pixels lose more than dark ones, and taking the means away helps little.
#
# **We now know** that the distance of pixels minds moves, tilts and light, and that one subtraction cures light that is added equally.
# **This does not show** a cure for moving. Section 6 looks for one.
#
# **Exercise 01.5.** A fainter pen *multiplies* the pixels. The cosine distance $1 - \frac{a \cdot b}{\|a\| \|b\|}$ compares directions and not lengths; write it for all pairs, without a loop.
# Then look what it does: `predict_knn(cosine_distances(changed["a quarter as bright"], stored), train_labels, 1)`, compared with `test_labels`.

# %%
def cosine_distances(test, train):
    """Distances (M, N) of each row of test (M, D) from each row of train (N, D)."""
    ...

exercises.check("01.5", cosine_distances)

# %% [markdown]
# ## 6 · Digits that move
#
# Now every test digit stands at its own random place in its frame. Stored are the training digits in the middle.
# First remedy: push each picture back, test and stored, so that the centre of its ink is in the middle.
#
# (These pictures are torch *tensors*: arrays with torch's functions. What numpy calls `axis` is `dim` there: `picture.sum(dim=0)` adds the channels. `roll` moves a picture.)

# %% tags=["define"]
def centred(images):
    """Pictures (N, C, H, W), each moved so that the centre of its ink is in the middle."""
    result = torch.empty_like(images)
    for i, picture in enumerate(images):
        ink = picture.double().sum(dim=0)  # (H, W)
        steps = steps_to_middle(ink.sum(dim=1)), steps_to_middle(ink.sum(dim=0))  # down, right
        result[i] = picture.roll(steps, dims=(1, 2))  # what leaves comes back opposite: black here
    return result

# %% tags=["fold"]
exercises.predict("01.p6", "Moved digits, pushed back to the middle. How many of 100 does 1-NN "
                  "read right?", ("below 50", "50 to 85", "above 85"))

# %%
moved_test = replace(framed_test, images=anywhere(framed_test.images, random_moves(seed)))
moved = pixels(moved_test.images)  # (M, D)
knn_moved = knn_accuracy(moved, stored)
back, home = pixels(centred(moved_test.images)), pixels(centred(framed_train.images))
knn_centred = knn_accuracy(back, home)
exercises.reveal("01.p6", option(knn_centred, "below 50", 0.5, "50 to 85", 0.85, "above 85"),
                 f"{knn_centred:.1%} are right; not pushed back {knn_moved:.1%}.")

# %% [markdown]
# A few lines, nothing learned, and moving is cured. What do they rely on? That the digit is the only bright thing on a black ground.
# So put *litter* into the picture: a piece of another digit, of 4×4 pixels, at a random place.
#
# Second remedy: **store** every training picture at every place (`copies`). Then litter should matter less, for nothing has to be pushed back.
# The table of all distances would take hundreds of megabytes, so the folded `nearest_in_pieces` goes through the copies piece by piece and keeps the nearest so far.
# The moved test pictures are now `moved_test`; with litter, `littered_test`.

# %% tags=["fold"]
littered_test = replace(framed_test, images=littered(moved_test.images, test.images, seed))
places = range(-margin, margin + 1)  # in x and in y
copies = torch.cat([augment.shift(framed_train.images, dx, dy) for dx in places for dy in places])
copies = copies.flatten(1).numpy()  # as rows; they stay bytes
copy_labels = np.tile(train_labels, len(places) ** 2)
at = pulled_aside(moved_test.images, littered_test.images)  # the picture to show
draw_litter(moved_test.images[at:at + 1], littered_test.images[at:at + 1])
figures.save(plt.gcf(), "emp-knn-poor-for-images.litter",
             caption=f"A test picture of {dataset}, a clear case, pushed back by the centre of all "
                     "its ink: without litter, and with a piece of another. Orange cross: the "
                     "middle of the frame; blue ring: the centre of the digit's own ink.",
             alt="Without litter the digit reaches the middle; with litter it ends aside of it.")
dirty = pixels(littered_test.images)
both_rows = np.vstack([moved, dirty]).astype(np.float32)  # exact: sums of whole numbers < 2**24
by_copies, exact = right_among(both_rows, copies, copy_labels)
by_centre = [knn_centred, knn_accuracy(pixels(centred(littered_test.images)), home)]
claims.check("emp-knn-poor-for-images.everywhere",
             "On moved digits 1-NN is right in {lost:.1%}, pushed back to the middle in "
             "{centred:.1%}, and with {count:,} copies at all places in {copies:.1%}.",
             lost=(knn_moved, "<=", 0.35), centred=(knn_centred, ">=", 0.95), count=len(copies),
             copies=(by_copies[0], ">=", 0.97))
claims.check("emp-knn-poor-for-images.litter",
             "With litter (one drawing): pushed back to the middle in {centred:.1%}, with the "
             "copies in {copies:.1%}.", centred=(by_centre[1], "<=", 0.65),
             copies=(by_copies[1], ">=", 0.9))
claims.check("emp-knn-poor-for-images.own-centre",
             "With the litter left in, but pushed back by the centre of the digit's own ink, "
             "{own:.1%} are right; without litter, but pushed as if it were there, {false:.1%}.",
             own=(by_centres_of(littered_test.images, moved_test.images), ">=", 0.93),
             false=(by_centres_of(moved_test.images, littered_test.images), "<=", 0.65))

# %% [markdown]
# It is the wrong centre that hurts, not the litter itself: with the right centre the litter does little (last ✓).
# The copies need no centre, at a price: a copy for every place to store and to compare.
#
# Third remedy: **learn** what to compare. A convolutional network lays small patterns, its *filters*, on every place of the picture (lesson 04 takes it apart).
# This one (`SmallNetwork`, folded) has two layers of 3×3 filters. After each layer answers below 0 become 0 (*relu*); between the layers only the largest of each 2×2 answers is kept. Of each filter of the second layer it keeps the largest answer of all, wherever that was: 32 features. A last layer weighs these features for each class.
#
# It is trained in two ways: on the training pictures in the middle, 8 times over; or once over 8 randomly moved copies of each.
# To be fair, a second 1-NN stores exactly those copies.

# %%
numbers = range(seed, seed + runs)  # the networks' seeds
middle_networks = [trained(untrained(train, number), framed_train, epochs) for number in numbers]
moving_networks = [trained(untrained(train, number), moved_copies(number), passes=1)
                   for number in numbers]

# %% tags=["fold"]
knn_saw, knn_saw_litter, network_saw, network_saw_litter = of_all_that_saw()
middle_moved, middle_dirty = right_of(middle_networks)
draw_remedies((knn_moved, knn_accuracy(dirty, stored)), by_centre, by_copies,
              (middle_moved, middle_dirty), (knn_saw, knn_saw_litter),
              (network_saw, network_saw_litter))
plt.suptitle(f"Pushed back, {by_centre[0]:.0%} of the moved digits are right; "
             f"with litter {by_centre[1]:.0%}")
figures.save(plt.gcf(), "emp-knn-poor-for-images.remedies",
             caption=f"Moved pictures of {dataset}, and with a piece of another digit in the "
                     f"picture (nobody had seen that). Bars with a range: {runs} seeds.",
             alt="Centring is as good as copies on moved digits, and worse with litter.")

claims.check("emp-knn-poor-for-images",
             "Trained in the middle only, the network is right in {network:.1%} of the moved "
             "digits, 1-NN in {knn:.1%}.", network=(middle_moved, ">=", 0.5),
             knn=(knn_moved, "<=", 0.35), seeds=runs, on="every")
claims.check("emp-knn-poor-for-images.seen",
             "Having seen the same moves, 1-NN is right in {knn:.1%}, the network in "
             "{network:.1%}: {lead:+.1f} points.", knn=(knn_saw, ">=", 0.85),
             network=(network_saw, ">=", 0.85),
             lead=(100 * (network_saw - knn_saw), "in", (-8, 8)), seeds=runs, on="every")
claims.check("emp-knn-poor-for-images.seen-litter",
             "With litter, which neither has seen, 1-NN is ahead by {ahead:.1f} points.",
             ahead=(100 * (knn_saw_litter - network_saw_litter), ">=", 3), seeds=runs, on="every")
middle_back, moving_back = asked_back(middle_networks), asked_back(moving_networks)
claims.check("emp-knn-poor-for-images.back",
             "Asked about digits that are pushed back, as 1-NN is, the networks trained in the "
             "middle are right in {middle:.1%}, those that saw moves in {moving:.1%}; 1-NN is "
             "ahead of the latter by {ahead:.1f} points.", middle=(middle_back, ">=", 0.8),
             moving=(moving_back, ">=", 0.85), ahead=(100 * (knn_centred - moving_back), ">=", 0),
             seeds=runs, on="every")

# %% [markdown]
# Without having seen moves the network bears them far better than 1-NN does.
# With the same moves seen, the two are within a few points of each other, and which is ahead changes with the seed.
# With litter that neither has seen, 1-NN does better.
#
# **We now know** three remedies for moving. Pushing back is cheap and needs a lone digit on black. Copies bear litter, and cost memory and time with every answer. A network pays mainly in training.
# **This does not show** that a network is needed for digits: pushed back and without litter, 1-NN is better, in most seeds that were tried also than the networks that saw moves, asked about pushed-back digits. Nor what either would do with litter in its training pictures.
#
# **Exercise 01.6.** Make 1-NN indifferent to moving without storing copies: let the distance of two pictures be the smallest over all places of the **test** picture, up to `reach` pixels each way.
# The check looks at the distances. For you: how many tables of distances does it cost, and what does it do to the accuracy on `moved_test`?
# (Arguments: `moved_test.images[:, 0].double().numpy()` and `framed_train.images[:, 0].double().numpy()`, `reach=margin`.)

# %%
def shifted_distances(test, train, reach):
    """Smallest L2 distances (M, N) of test (M, H, W) from train (N, H, W), over all moves of test.

    Moves by up to reach pixels in x and in y; what leaves the frame is lost, black comes in.
    """
    ...

exercises.check("01.6", shifted_distances)

# %% [markdown]
# ## 7 · What had the network learned?
#
# It had never seen a move, and read most moved digits. Was it its features, or its last layer?
# Throw the last layer away (`nn.Identity()` in its place hands on what it gets), take the 32 features of each picture, and ask **1-NN in that space**.
# Only the training pictures in the middle are stored; the questions are the moved ones.

# %% tags=["fold"]
exercises.predict("01.p7", "1-NN among the features of a network that saw no moves. How many of "
                  "100 moved digits are right?", ("less than 35", "35 to 60", "more than 60"))

# %%
def features_of(network, part):
    """What the network's last layer gets to see of each picture, (N, 32)."""
    headless = copy.deepcopy(network)
    headless.head = nn.Identity()
    return training.predict(headless, part).cpu().numpy()

def in_space_of(network, *parts):
    """1-NN's accuracies on parts of the test, among features of training digits in the middle."""
    known = features_of(network, framed_train)
    return [knn_accuracy(features_of(network, part), known) for part in parts]

middle_in_space = [in_space_of(network, moved_test)[0] for network in middle_networks]
exercises.reveal("01.p7", option(np.mean(middle_in_space), "less than 35", 0.35, "35 to 60", 0.6,
                                 "more than 60"), f"{np.mean(middle_in_space):.1%} are right.")

# %% tags=["fold"]
fresh_networks = [untrained(train, number) for number in numbers]
moving_in_space, moving_centred = spaces_of(moving_networks)
fresh = np.array([keeping_places(network) for network in fresh_networks])  # (runs, 2, 2)
kept_places, (fresh_in_space, fresh_centred) = fresh[:, 0], fresh[:, 1].T
layer_moved, layer_centred = linear_layer()
fig = draw_spaces_of_moved(layer_moved, knn_moved, kept_places[:, 0], fresh_in_space,
                           middle_in_space, moving_in_space)
fig.suptitle(f"Moved digits: {knn_moved:.0%} right among pixels, "
             f"{np.mean(middle_in_space):.0%} in features")
figures.save(fig, "emp-good-representation-helps.moved",
             caption=f"Moved {dataset}, stored in the middle. All but the first bar: 1-NN, among "
                     "pixels, the largest answer of each filter (features), or its answers at all "
                     f"places; moves: seen in training or not; ranges: {runs} seeds.",
             alt="Among learned features moved digits are read, among pixels they are not.")
claim_spaces()
claims.check("emp-good-representation-helps.layer",
             "A linear layer on the pixels (logistic regression), trained in the middle, is right "
             "in {layer:.1%} of them, in {centred:.1%} when nothing moves.",
             layer=(layer_moved, "<=", 0.25), centred=(layer_centred, ">=", 0.93))
claims.check("emp-good-representation-helps.fresh",
             "Among features of untrained networks {fresh:.1%} of the moved digits are right, "
             "{ahead:.1f} points more than among pixels.", fresh=(fresh_in_space, ">=", 0.2),
             ahead=([100 * (share - knn_moved) for share in fresh_in_space], ">=", 5),
             seeds=runs, on="every")
claims.check("emp-good-representation-helps.places",
             "With the second layer's answers at all places, not only the largest, the same "
             "untrained layers give {moved:.1%}; of the centred digits {centred:.1%} are then "
             "right, {lost:.1f} points more than with the largest only.",
             moved=(kept_places[:, 0], "<=", 0.25), centred=(kept_places[:, 1], ">=", 0.95),
             lost=(100 * (kept_places[:, 1] - fresh_centred), ">=", 5), seeds=runs, on="every")

# %% [markdown]
# It was the features. A last layer on pixels fails. In the features of networks that saw moves, 1-NN is within 3 points of their own last layer; of those that saw none, within 10, and either may be ahead.
# A part of this is built in: untrained layers bear moves better than pixels, if they keep the largest answers and forget where those were. On centred digits the same forgetting loses. What the network learns adds the rest.
#
# **We now know** that the vote of neighbours was not the weak part here: in a good space the same vote works.
# **This does not show** which features to take for other pictures than these.
#
# **Exercise 01.7.** Write 1-NN in *any* space. Then ask it about litter, in the space of a network that saw moves:
# `named_in_space(lambda part: features_of(moving_networks[0], part), littered_test, framed_train, train_labels)`, compared with `test_labels`.
# Does it bear litter better than the network itself does (last figure of section 6)? What minds the litter then, the features or the last layer?

# %%
def named_in_space(space, new, known, known_labels):
    """Labels (M,) of the known pictures nearest to new ones; space(pictures): features (N, F)."""
    ...

exercises.check("01.7", named_in_space)

# %% [markdown]
# ## 8 · Photographs
#
# Digits on black are an easy world. Here are three photographs, of a brick wall, grass and gravel: which is a patch of 16×16 pixels from?
# (The *contrast* of a patch is the standard deviation of its pixels.)
# Training patches come from the left half of each photograph, test patches from the right half: the same photographs, but no common pixel. Guessing gives 0.33.
# The places of the patches are drawn at random, five times; the folded `in_each_draw` asks 1-NN in each draw.

# %%
draws = [patches(("brick", "grass", "gravel"), count=200, side=16, seed=number)
         for number in range(seed, seed + 5)]  # each: 600 training and 600 test patches
patch_labels = draws[0][0].labels.numpy()  # of all: the same order
answers = in_each_draw(as_it_is)  # (5, 600) labels
patch_pixels = (answers == patch_labels).mean(axis=1)
print(f"1-NN on patches: {patch_pixels.mean():.0%} ({patch_pixels.min():.0%} to "
      f"{patch_pixels.max():.0%}) are right")

# %% tags=["fold"]
grey_by_class, grey_sorted, contrasts, (contrast, flatter, other), rights = all_answers()
grey_wins = grey_by_class.mean(axis=0)
captioned(*grey_examples(), columns=6, height=2.05, fontsize=12)
plt.title(f"For {grey_wins.mean():.0%} of the patches plain grey is nearer than all 600 stored")
figures.save(plt.gcf(), "emp-knn-poor-for-images.card",
             caption="The first such patch of grass and of gravel, its nearest of 600, and grey "
                     "(the mean of all training pixels). Means of five draws; brick {:.0%}, grass "
                     "{:.0%}, gravel {:.0%}.".format(*grey_by_class.mean(axis=1)),
             alt="Plain grey is nearer to the test patch than the nearest training patch.")
claims.check("emp-knn-poor-for-images.card",
             "For {card:.0%} of the patches a plain grey one is nearer than the nearest of 600 "
             "training patches.", card=(grey_wins, ">=", 0.4), seeds=5, on="every")
claims.check("emp-knn-poor-for-images.more",
             "With 3,000 stored patches instead of 600 (one draw) it is still {card:.0%}.",
             card=(grey_wins_of_more(), "in", (0.25, 0.5)))
claims.check("emp-knn-poor-for-images.flat",
             "On average a brick patch has a contrast of {brick:.0f}, gravel {gravel:.0f}, grass "
             "{more:.0f} more than brick; the patches that answer have {flat:.2f} times the "
             "average.", brick=contrasts[0], gravel=contrasts[2], seeds=5, on="every",
             more=(contrasts[1] - contrasts[0], ">=", 4), flat=(contrast, "<=", 0.9))
claims.check("emp-knn-poor-for-images.flatter",
             "Of the stored brick patches the flatter half answers {flatter:.0f} times, the other "
             "half {other:.0f} times: {ratio:.1f} to 1.", flatter=flatter, other=other,
             ratio=(flatter / other, ">=", 1.4), seeds=5, on="every")
claims.check("emp-knn-poor-for-images.recall",
             "Of the answers {raw:.0%} are brick (a third of the patches are): {brick:.0%} of the "
             "brick is named right, {grass:.0%} of the grass, {gravel:.0%} of the gravel.",
             raw=((answers == 0).mean(axis=1), ">=", 0.6), brick=(rights[0], ">=", 0.9),
             grass=(rights[1], "<=", 0.3), gravel=(rights[2], "<=", 0.6), seeds=5, on="every")

# %% [markdown]
# Nobody's grass lies blade on blade with other grass. Take two pixels that have nothing to do with each other, each usually $\sigma$ from the mean: they are $\sqrt{2}\,\sigma$ from each other (squares of independent differences add up: $\sigma^2 + \sigma^2$), but each only $\sigma$ from the mean itself, that is from grey.
# So flat patches are near to everybody. Here the flat ones are bricks (and among the bricks the flatter half answers more often): they answer for grass and gravel, too.
#
# Two things can be changed. Give all patches *one mean and contrast*: then none is flatter.
# Or *sort* the 256 pixels of each patch from dark to light, so that nobody could tell what it shows: then they are no longer compared **place by place**.

# %% tags=["fold"]
exercises.predict("01.p8", "On patches with sorted pixels, compared with before, 1-NN is",
                  ("worse", "about the same", "much better"))

# %%
by_change = {"as they are": answers, "one mean, contrast": in_each_draw(alike),
             "sorted": in_each_draw(np.sort), "both": in_each_draw(sorted_alike)}
patch_sorted = (by_change["sorted"] == patch_labels).mean(axis=1)  # (5,)
gain = patch_sorted.mean() - patch_pixels.mean()
exercises.reveal("01.p8", option(gain, "worse", -0.1, "about the same", 0.1, "much better"),
                 f"{patch_pixels.mean():.2f} before, {patch_sorted.mean():.2f} sorted.")

print("patches            | right | of the answers: brick, grass, gravel")
for name, found in by_change.items():
    shares = [(found == label).mean() for label in range(3)]
    print("{:18} | {:5.0%} | {:22.0%} {:6.0%} {:7.0%}".format(
        name, (found == patch_labels).mean(), *shares))

# %% tags=["fold"]
patch_train, patch_test = draws[0]
patch_fresh = [patch_space(untrained(patch_train, number)) for number in numbers[:2]]
patch_trained = [patch_space(trained_on_patches(number)) for number in numbers[:2]]
draw_spaces({
    f"{dataset}, centred": (accuracy, knn_accuracy(np.sort(asked), np.sort(stored)),
                            fresh_centred, moving_centred),
    "photographs": (patch_pixels, patch_sorted, patch_fresh, patch_trained)})
figures.save(plt.gcf(), "emp-good-representation-helps.spaces",
             caption=f"1-NN. Trained: {runs} networks that saw {epochs} moves ({dataset}), 2 that "
                     "saw the first of five draws of patches.",
             alt="Pixels serve centred digits, sorted pixels photographs, trained features both.")
claims.check("emp-knn-poor-for-images.photographs",
             "On patches (first draw) 1-NN is right in {new:.1%} among features of untrained "
             "networks and in {network:.1%} of trained ones.", new=(patch_fresh, ">=", 0.6),
             network=(patch_trained, ">=", 0.75), seeds=2, on="every")
by_change["two"] = in_each_draw(mean_and_contrast)
_, patch_alike, _, patch_both, patch_two = (
    (found == patch_labels).mean(axis=1) for found in by_change.values())
claims.check("emp-knn-poor-for-images.sorted",
             "Sorted, {sorted:.1%} of the patches are right, {brick:.0%} of the answers are brick, "
             "and plain grey is nearer for {grey:.0%}. Mean and contrast alone, two numbers, give "
             "{two:.1%}.", sorted=(patch_sorted, ">=", 0.7), two=(patch_two, ">=", 0.55),
             brick=((by_change["sorted"] == 0).mean(axis=1), "in", (0.25, 0.42)),
             grey=(grey_sorted, "<=", 0.02), seeds=5, on="every")
claims.check("emp-knn-poor-for-images.places",
             "One mean and contrast for all wins {alike:.1f} points, sorting {sorted:.1f}; to "
             "sorted patches it adds {both:+.1f}.", seeds=5, on="every",
             alike=(100 * (patch_alike - patch_pixels), "in", (3, 18)),
             sorted=(100 * (patch_sorted - patch_pixels), ">=", 22),
             both=(100 * (patch_both - patch_sorted), "in", (-5, 4)))

# %% [markdown]
# Sorting alone wins it all: brick no longer answers for the others, though the bricks are as flat as before. Equalising alone wins less than half of that, and after sorting nothing.
# So flat patches are near to everybody only where pixels are compared **place by place**, as the √2 said of pixels that have nothing to do with each other. Uneven contrast makes it worse there, and costs nothing once the places are forgotten.
#
# What to forget depends on the task. For digits the arrangement of the pixels counts, and sorting destroys it; where the whole digit stands does not. For these patches the values alone go far.
#
# **Larger sets.** The same functions on 5,000 training and 1,000 test pictures, one draw each, with seed 0:
#
# | pictures | 1-NN | moved right by 1 | by 2 | by 3 |
# |---|---|---|---|---|
# | MNIST, digits, 28×28 | 94 % | 88 % | 67 % | 40 % |
# | Fashion-MNIST, clothes, 28×28 | 77 % | 72 % | 58 % | 43 % |
# | CIFAR-10, photographs, 32×32 in colour | 27 % | 26 % | 26 % | 21 % |
#
# On clothes that lie straight on black, 1-NN does *not* fail. On animals and vehicles at any place before any ground it does; guessing gives 10 %.
# (The tests of this lesson measure all rows again where the sets are present: within 0.6 points; within 2 points on CIFAR-10, which was measured on JPEG copies. The preset `full` runs this lesson on CIFAR-10.)
#
# **We now know** that pixels do poorly as neighbours on the photographs we tried, and that a space which forgets the right thing helps: sorted pixels on these patches, learned features on moved digits and on these patches.
# **This does not show** how any of them would do on a *new* photograph of grass: both sides come from the same three. Nor why pixels fail on CIFAR-10: there plain grey is nearest for 2 %, and sorted pixels are right in 16 %, worse than before.

# %% [markdown]
# ## Also in the lectures
#
# **L1 or L2.** Two numbers can be measured along other axes: instead of "upper" and "left", along the diagonals. All pixels at once are mixed by a random rotation.
# $L_2$ does not notice a rotation: a length is a length from whatever side one looks. $L_1$ does. (A change of *units*, as with the wines, both notice.) Which of the two is better is measured, like $k$.
#
# **Fewer numbers.** The 20 directions of largest variance serve 1-NN about as well as all 64 pixels; 20 random ones cost some points. (A colour picture of 32×32 pixels is 3,072 numbers.)
#
# **Other classifiers** that need no tuning come close to 1-NN on these digits, or reach it.

# %% tags=["fold"]
turns = [rotation(train_pixels.shape[1], number) for number in range(seed, seed + 3)]
by_l1, by_l2 = (distance(test_pixels, train_pixels).argmin(axis=1)
                for distance in (l1_distances, l2_no_loop))
claims.check("emp-l1-l2-axis-dependence",
             "After a random rotation L2 finds the same neighbour for {l2:.0%} of the test "
             "pictures, L1 for {l1:.0%}. (L1 and L2 themselves agree on {both:.0%}.)",
             l2=([kept_after(turn, l2_no_loop, by_l2) for turn in turns], ">=", 0.99),
             l1=([kept_after(turn, l1_distances, by_l1) for turn in turns], "<=", 0.85),
             both=(by_l1 == by_l2).mean(), seeds=len(turns), on="every")
parts = folds(len(train), fold_count, seed)
best = [cross_validate(train_pixels, train_labels, [1, 3], parts, distance).mean(axis=0).max()
        for distance in (l1_distances, l2_no_loop)]
claims.check("err-knn-l1-l2-wording",
             "In the folds, each at its best k, L1 and L2 differ by {gap:.1f} points.",
             gap=(100 * abs(best[0] - best[1]), "<=", 2))
components, _ = principal_axes(train_pixels, 20)
with_pca = knn_accuracy(test_pixels @ components, train_pixels @ components)
by_chance = [on_random_directions(number) for number in range(seed, seed + 5)]
claims.check("num-feature-reduction-800-40",
             "On 20 principal components of the pixels 1-NN is right in {pca:.1%}, {lead:.1f} "
             "points ahead of 20 random directions.", pca=(with_pca, ">=", 0.97),
             lead=([100 * (with_pca - share) for share in by_chance], ">=", 1), seeds=5, on="every")
machines = (LogisticRegression(max_iter=2000), RandomForestClassifier(random_state=seed), SVC())
line, forest, svm = (machine.fit(train_pixels / 255, train_labels)
                     .score(test_pixels / 255, test_labels) for machine in machines)
claims.check("emp-classic-ml-cheap-good",
             "With scikit-learn's settings logistic regression is right in {line:.1%}, a random "
             "forest in {forest:.1%}, a support vector machine in {svm:.1%}, 1-NN in {knn:.1%}.",
             line=(line, ">=", 0.94), forest=(forest, ">=", 0.94), svm=(svm, ">=", 0.97),
             knn=(accuracy, ">=", 0.97))

# %% [markdown]
# **Cost.** What 1-NN and the network of section 6 multiply and keep: a table. (Each training step is counted as three answers, each weight as 4 bytes.)
# Read down its last column: the network is cheap to ask beside the copies; 1-NN that pushes back asks for about as much and, without litter, is right more often.
#
# **Large collections.** *Approximate search* gives up the promise to find the very nearest. Choose 300 of the copies of section 6 as landmarks and put every copy into the *cell* of its nearest landmark; a question then looks only into the 3 cells whose landmarks are nearest to it.

# %% tags=["fold"]
work = cost.table(middle_networks[0], tuple(framed_test.images.shape[1:]))
per_network, per_copies = work.multiply_adds, epochs * stored.size
training_work = 3 * per_network * epochs * len(stored)  # forward, and about twice as much backward
weights = sum(p.numel() for p in middle_networks[0].parameters())
print("multiplications, and what is kept:")
print(f"{'':21}{'to train':>15}{'to store':>18}{'for an answer':>15}")
for name, *row in (
        ("1-NN, all copies", "0", f"{copies.size:,} bytes", f"{copies.size:,}"),
        ("1-NN, saw moves", "0", f"{per_copies:,} bytes", f"{per_copies:,}"),
        ("1-NN, pushed back", "0", f"{stored.size:,} bytes", f"{stored.size:,}"),
        ("network, saw moves", f"{training_work:,}", f"{4 * weights:,} bytes", f"{per_network:,}")):
    print(f"{name:21}", "{:>14}{:>18}{:>15}".format(*row))
claims.check("emp-knn-poor-for-images.cost",
             "For an answer 1-NN multiplies {times:.1f} times as often as the network among the "
             "pictures that both saw, and {back:.1f} times as often when it pushes back.",
             times=(per_copies / per_network, ">=", 5), back=(stored.size / per_network, "<=", 2))
claims.check("emp-knn-poor-for-images.memory",
             "The pictures that both saw take {times:.0f} times the memory of the network's "
             "weights.", times=(per_copies / weights / 4, ">=", 50))
chosen = np.random.default_rng(seed).choice(len(copies), 300, replace=False)
found, looked_at = in_cells(both_rows[:len(test)], copies, copies[chosen].astype(np.float32))
claims.check("eq-knn-l1-l2.approximate",
             "With 300 landmarks a question computes {share:.1%} of the distances, finds "
             "the same neighbour for {same:.0%} of the digits, and is right in {right:.1%}.",
             share=(looked_at / len(moved) / len(copies), "<=", 0.05),
             same=((exact == found).mean(), ">=", 0.9),
             right=((copy_labels[found] == test_labels).mean(), ">=", 0.96))

# %% [markdown] tags=["ledger:num-input-32x32x3"]
# ## In practice
#
# - `KNeighborsClassifier` behind `StandardScaler` in one `make_pipeline` (scikit-learn), so that each fold scales by its own training part; `GridSearchCV` chooses k.
# - `GroupKFold` where several rows come from one person, camera or place; `TimeSeriesSplit` where they come one after the other in time; otherwise `StratifiedKFold`: each fold has the classes in the same shares.
# - For pictures, neighbours are sought among *features*: `timm.create_model(..., pretrained=True, num_classes=0)`, or torchvision's `create_feature_extractor`.
# - Millions of vectors: approximate search, `faiss.IndexIVFFlat` (the cells above) or `faiss.IndexHNSWFlat` (a graph of neighbours).
# - 1-NN and a logistic regression come first: a network has to beat them.
#
# ## History
#
# - 1901: K. Pearson finds principal components. 1933: H. Hotelling names them.
# - 1951: E. Fix and J. Hodges write down the rule of nearest neighbours. 1957: R. Bellman speaks of the curse of dimensionality.
# - 1967: T. Cover and P. Hart: with ever more data, 1-NN errs at most twice as often as the best possible rule.
# - 1974: M. Stone on cross-validatory choice.
# - 1998: on MNIST LeNet-5 errs in 0.95 % (LeCun et al.). P. Indyk and R. Motwani publish hashing for approximate neighbours.

# %% [markdown] tags=["ledger:err-cv-flood", "ledger:err-number-grid-not-image"]
# ## Exercises that are left
#
# **01.8 Open.** Look again at the last figure, of the four spaces.
# What does this figure *not* show? Name something that both halves of a photograph share and that a traveller with another camera would not find; and say what you would withhold, as in section 2, to measure what it is worth.
#
# <details><summary>One answer</summary>
#
# Both halves share the light of that hour, the camera's focus and sharpening, the distance to the ground, and the one lawn. With many photographs of each material one would withhold *whole photographs* (`split_by_group` with the photograph as group), and compare with withholding as many random patches.
# The figure also does not show what a space costs, nor how it does with litter.
#
# </details>
#
# **01.9 Open.** No network here had seen litter in training. Show it some: `seen = moved_copies(seed)`, then `seen = replace(seen, images=littered(seen.images, train.images, seed))`,
# and `network_accuracy(trained(untrained(train, seed), seen, passes=1), littered_test.images)`. What must 1-NN be given before the two may be compared?
#
# <details><summary>One answer</summary>
#
# The same littered copies, not clean ones: `right_among(both_rows, seen.images.flatten(1).numpy(), seen.labels.numpy())`. And more than one seed.
#
# </details>
#
# ## Summary
#
# - A picture is a row of numbers; kNN names it by the nearest rows. All distances at once are one matrix product.
# - On centred digits 1-NN is right in 99 of 100, partly because it leans on the sheet: without its own it makes about three times as many mistakes.
# - Training accuracy chooses k = 1. On two numbers a picture the folds choose a larger k, which takes away a sixth to a half of the mistakes.
# - Distances weigh whatever they are fed: units, noise and light change who is near. Dividing by the standard deviation, principal components, taking each mean away: each helps against one of them.
# - Moved right by one pixel, nearly every 8×8 digit is nearer to another class than to itself; moved by two, 1-NN reads hardly more than by guessing. Pushing the ink back to the middle cures that, as long as nothing else is in the picture; copies at all places bear litter, too.
# - A network shown the same moves reads about as well as 1-NN that stores them (worse where litter comes in that neither saw), and is cheaper to ask. In the features of a network that saw moves 1-NN reads moved digits within 3 points as well as the network itself, of one that saw none within 10.
# - For more than half of the patches of three photographs plain grey is nearer than all 600 stored. Sorting the pixels cures it: flat patches are near to everybody only where place is compared with place. On CIFAR-10's photographs 1-NN among pixels is right in about a quarter, for reasons that are not shown here.

# %% [markdown]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | choose the hyperparameters that give "the best training values (Average over all folds)" | a slip of wording: the best mean **validation** score; by training accuracy $k = 1$ wins or ties wherever no two equal pictures have different labels | section 3 |
# | $L_2$ is best for "non coordinate points", $L_1$ for "coordinate points" | a **rotation** of the axes changes $L_1$ and not $L_2$; a change of units changes both; which is better is measured | section 4 (units), "Also in the lectures" |
# | kNN solves image classification poorly | among pixels: very well on centred digits, fairly on Fashion-MNIST; poorly where things **move** and nothing is done about it, and on **photographs** | sections 1, 6 and 8 |
# | train on f − 1 folds and test on the remaining "flood" | the remaining **fold** | a slip |
# | a grid of numbers as "what the computer sees" | it is the grid of **Project Euler's problem 11**, with copying errors; the numbers of a picture stand in section 1 | compared with the problem's text |
#
# ## Sources
#
# - The notes: lecture 003 on images as numbers and reducing features, lecture 004 on kNN, distances and cross-validation (after CS231n, Stanford 2017).
# - K. Pearson: On lines and planes of closest fit to systems of points in space. Philosophical Magazine 2, 1901. H. Hotelling: Analysis of a complex of statistical variables into principal components. Journal of Educational Psychology 24, 1933.
# - E. Fix and J. Hodges: Discriminatory analysis, nonparametric discrimination. USAF School of Aviation Medicine, report 4, 1951.
# - T. Cover and P. Hart: Nearest neighbor pattern classification. IEEE Transactions on Information Theory 13, 1967.
# - M. Stone: Cross-validatory choice and assessment of statistical predictions. Journal of the Royal Statistical Society B 36, 1974.
# - R. Bellman: Dynamic programming. Princeton University Press, 1957.
# - Y. LeCun, L. Bottou, Y. Bengio and P. Haffner: Gradient-based learning applied to document recognition. Proceedings of the IEEE 86, 1998, section III.
# - P. Indyk and R. Motwani: Approximate nearest neighbors. STOC 1998. J. Johnson, M. Douze and H. Jégou: Billion-scale similarity search with GPUs, 2017 (arXiv:1702.08734).
# - E. Alpaydin and C. Kaynak: Optical recognition of handwritten digits, UCI Machine Learning Repository, 1998. M. Forina et al.: Wine, UCI, 1991.
# - Project Euler, problem 11: largest product in a grid.
