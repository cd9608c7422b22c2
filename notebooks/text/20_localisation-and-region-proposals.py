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
# # 20 · Localisation and region proposals
# ### Where to look?
#
# The photographs below show sixteen things in boxes. A classifier could find them: cut out a window, ask what it shows, and move on. For one photograph that makes tens of thousands of windows of different places, sizes and shapes.
# Odd: a method that knows nothing of heads, cups or rockets, and only merges neighbouring patches that look alike, finds most of them with about a hundred boxes a photograph (section 1). And where one *does* look everywhere, a small network that passes once over each of a few smaller copies of the picture answers for tens of thousands of windows (section 3).
#
# **You will be able to**
# - say how well a box fits, and what share of objects a set of boxes covers;
# - write selective search: small regions, four similarities, a hierarchy of boxes;
# - choose a colour space by what it keeps when the light changes;
# - turn a classifier of windows into one convolution over the picture;
# - keep one box a thing, and score a detector by average precision;
# - train class and box with one trunk, and weigh the two losses.
#
# **You need** convolutions (lesson 04), softmax and cross-entropy (lesson 02), training (lessons 03 and 09). Lesson 19 is of use, not needed.
#
# **Words.** A *box* is (x1, y1, x2, y2): left, top, right and bottom edge, in pixels, y downwards. A *window* is a box that is tried; a *proposal* is a box that some cheap method suggests. *Recall* is the share of objects that are covered well enough. A *seed* fixes all random numbers of a training.
# A ✓ marks a sentence whose numbers were measured by the code above it. It is required for the parameters below; with others the lesson shows what it measures and requires nothing.
#
# **It costs** about 35 seconds of one processor core, no network connection, no GPU.

# %% tags=["parameters"]
seed: int = 100  # the first of the seeds; at least 0
runs: int = 2  # trainings of every network, each from a seed of its own; 2 to 10
steps: int = 200  # steps of each training in section 5; 20 to 5000
images: int = 2000  # training scenes in section 5; at least 64
source: str = "digits"  # the handwritten digits in the scenes; one of digits, mnist
box_weights: list[float] = [0.1, 6, 1000]  # of the box; 3 or more values, above 0, ascending
search_size: int = 256  # longer side of a photograph while regions are merged; 64 to 512
stride: int = 8  # pixels from window to window; 2 to 64
scene_count: int = 12  # scenes for the recall of section 1; 2 to 500

# %% tags=["imports", "fold"]
import colorsys
import itertools
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import skimage.color
import skimage.data
import skimage.segmentation
import skimage.transform
import torch
import torch.nn.functional as F
import torchvision
from scipy import ndimage
from scipy.special import gammaln
from torch import nn

from cnncourse import claims, cost, data, exercises, figures, metrics, models, plots, runtime
from cnncourse import scenes, widgets

# %% tags=["nbval-varies", "define", "fold"]
# The boxes drawn by hand, and all drawings; each is called where its figure stands.
BOXES = {
    "astronaut": {"head": (153, 15, 302, 188), "woman": (18, 15, 364, 512),
                  "flag": (0, 0, 98, 512), "shuttle": (353, 0, 473, 283),
                  "helmet": (280, 343, 510, 512), "badge": (133, 348, 210, 424),
                  "name plate": (277, 338, 330, 377), "collar": (112, 147, 306, 293)},
    "coffee": {"cup": (172, 17, 408, 308), "saucer": (75, 50, 479, 388),
               "spoon": (318, 66, 424, 326), "coffee": (203, 94, 372, 194)},
    "chelsea": {"eye": (133, 84, 206, 148), "other eye": (293, 108, 344, 165),
                "nose": (231, 222, 294, 268)},
    "rocket": {"rocket": (308, 126, 336, 408)},
}

def shown(ax, name, light=None, step=4):
    """Draw each step-th pixel of a photograph; boxes keep its own pixels."""
    part = photos[name][::step, ::step]
    height, width = photos[name].shape[:2]
    part = part if light is None else np.clip(light(part), 0, 1)
    ax.imshow(np.round(part * 5) / 5, cmap="gray",  # few shades keep the file small
              vmin=0, vmax=1, interpolation="none",
              extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    ax.set_axis_off()
    return ax


def frames(ax, boxes, colour, width):
    """Many boxes as one line."""
    x1, y1, x2, y2 = np.asarray(boxes, float).T - 0.5
    gap = np.full_like(x1, np.nan)
    ax.plot(np.stack([x1, x2, x2, x1, x1, gap], 1).round(1).ravel(),
            np.stack([y1, y1, y2, y2, y1, gap], 1).round(1).ravel(), color=colour, linewidth=width)


def draw_object_recognition_windows():
    fig, axes = plt.subplot_mosaic([["astronaut", "coffee"], ["astronaut", "chelsea"],
                                    ["astronaut", "rocket"]], figsize=(figures.WIDTH, 4.5),
                                   width_ratios=(1.7, 1))
    row_of_windows = [(x, 224, x + 64, 288) for x in range(0, 449, 8)]
    frames(axes["astronaut"], row_of_windows, "white", 0.6)
    for name, ax in axes.items():
        small = 4 if name == "astronaut" else 6
        plots.boxes(shown(ax, name, step=small), truth[name], width=2.2)
    fig.suptitle("Sixteen things; in white one row of windows of one size")
    figures.save(fig, "fig-object-recognition-windows",
                 caption="Four photographs with boxes drawn by hand before anything was computed, "
                         "and in white 57 windows of 64 × 64 pixels, 8 pixels from each to the "
                         "next.",
                 alt="An astronaut with eight boxes around head, suit, flag, shuttle, helmet, "
                     "badge, name plate and collar; a row of overlapping white windows; a cup "
                     "with saucer and spoon, a cat's eyes and nose, a rocket.")


def draw_proposals_reduce_work():
    fig, (left, ax) = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.3), width_ratios=(1, 1.25))
    shown(left, "astronaut", skimage.color.rgb2gray)  # grey: the boxes have the colours
    fits = metrics.box_iou(proposed["astronaut"], truth["astronaut"]).numpy()
    frames(left, proposed["astronaut"][:100], "#cfe3ff", 0.6)
    plots.boxes(left, proposed["astronaut"][:100][fits[:100].argmax(0)], colours="C2", width=2.6)
    plots.boxes(left, truth["astronaut"], colours="C1", width=1.6, style="--")
    left.set_title("dashed: by hand, green: best of 100", fontsize=12)
    ax.plot(counts[counts <= most], np.array(by_search)[counts <= most], color="C2", linewidth=3)
    ax.plot(counts, by_chance, color="C0", linewidth=3)
    ax.text(7, 0.92, "selective\nsearch", color="#00695f", fontsize=13, ha="center", va="center")
    ax.text(1500, 0.5, "windows\nby chance", color="C0", fontsize=13)
    ax.plot(list(grids), [each / things for each in grids.values()], "s--", color="0.4")
    ax.text(2600, 0.77, "coarse grids", color="0.3", fontsize=13, va="center")
    ax.axvline(100, color="0.6", linestyle=":")
    ax.set(xscale="log", xlabel="boxes a photograph", ylabel="share of things covered",
           ylim=(0, 1.05), xticks=[1, 10, 100, 1000, 10_000, 85_000])
    ax.minorticks_off()
    ax.set_xticklabels(["1", "10", "100", "1,000", "10,000", "85,000"], fontsize=11)
    fig.suptitle("A hundred proposals do what two thousand windows do")
    figures.save(fig, "emp-proposals-reduce-work",
                 caption=f"Left: the first 100 boxes of selective search (thin). Right: share of "
                         f"the {things} things covered (IoU at least 0.5), against the number of "
                         f"boxes a photograph; mean of twenty random orders. Windows by "
                         f"chance: the expected share; squares: grids of few shapes in steps of "
                         f"a third, half and quarter of the side.",
                 alt="Boxes crowd on the astronaut; the best ones fit the hand-drawn ones. The "
                     "curve of selective search is near 0.9 at 100 boxes; grids and windows by "
                     "chance rise later and end below one.")


def painted(left):
    """The picture of a stage: each region in its mean colour."""
    stage = at_stage(first_map, first_count, merge_list, left)
    _, dense = np.unique(stage, return_inverse=True)
    dense = dense.reshape(stage.shape)
    mean = [ndimage.mean(channel, dense, range(dense.max() + 1))
            for channel in np.moveaxis(shown_photo, 2, 0)]
    return np.stack(mean, 1)[dense], [all_regions[number].box for number in np.unique(stage)]

def stage_of(left):
    """One stage of the hierarchy with the boxes of its regions."""
    fig, ax = plt.subplots(figsize=(4.6, 4.6))
    picture, boxes = painted(left)
    plots.picture(ax, torch.from_numpy(picture).movedim(2, 0))
    if left <= 40:
        plots.boxes(ax, boxes, width=1.2)
    ax.set_title(f"{len(boxes)} regions left", fontsize=13)
    return fig, f"{len(boxes)} of {first_count} regions are left."


def again(number):
    """A region of the hierarchy, its histogram counted anew from its pixels."""
    members = {number}
    for new, (i, j) in reversed(list(enumerate(merge_list, first_count))):
        if new in members:
            members |= {i, j}
    mask = np.isin(first_map, list(members))
    return described(lab, np.where(mask, 1, 0))[1]


def draw_segmentation_hard():
    fig, axes = plt.subplot_mosaic([["kitten", "table"], ["chameleon", "table"]],
                                   figsize=(figures.WIDTH, 3.6), width_ratios=(1, 3.6))
    for kind in cue_scores:
        axes[kind].imshow((animal(kind, seed)[0] * 9).round() / 9, interpolation="none")
        axes[kind].set_axis_off()
    ax = axes["table"]
    plots.heat(ax, means, rows=list(cue_scores), format="{:.2f}", limits=(0, 1), fontsize=15)
    ax.set_aspect("auto")
    ax.xaxis.tick_top()
    ax.set_xticks(range(6), ["colour", "texture", "size,\nfill", "colour,\ntexture",
                             "texture,\nsize, fill", "all four"])
    ax.tick_params(labelsize=12.5)
    fig.suptitle("No single cue finds both; texture with size and fill does")
    figures.save(fig, "fig-segmentation-hard",
                 caption="Best IoU (in pixels) of any region with the ellipse, mean of five "
                         "pictures; size and fill alone know nothing of the picture's content.",
                 alt="Two striped pictures, one with an orange ellipse, one where the stripes "
                     "turn. A table of six sets of cues; the last two score above 0.5 in both "
                     "rows.")


def draw_colour_channels():
    fig, axes = plt.subplot_mosaic([[name, "table"] for name in LIGHTS],
                                   figsize=(figures.WIDTH, 4.0), width_ratios=(1, 4.6))
    for name, light in LIGHTS.items():
        shown(axes[name], "astronaut", light, step=8)
    ax = axes["table"]
    plots.heat(ax, moves.mean(0), rows=list(LIGHTS), columns=list(CHANNELS), format="{:.2f}",
               limits=(0, 1.5), fontsize=12.5)
    ax.set_aspect("auto")
    ax.xaxis.tick_top()
    ax.tick_params(labelsize=13)
    fig.suptitle("A common factor leaves hue and saturation; a coloured lamp does not")
    figures.save(fig, "fig-colour-channels",
                 caption="Mean change of each channel when the light changes, in units of the "
                         "channel's standard deviation in the photograph; mean of astronaut, "
                         "coffee and cat.",
                 alt="A table of three changes and nine channels. Halved values: zero for H and "
                     "S, not for the others. Haze: zero for H alone. Warm lamp: b and S change "
                     "most, R and V hardly.")


def draw_overfeat_png():
    fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.9))
    for ax, size, out in zip(axes, (14, 16), (1, 2), strict=True):
        inner = (size - 4) // 2
        for left, side, colour, words in ((0, size, "C0", "pixels"), (19, inner, "C1", "maps"),
                                          (29, out, "C2", "answers")):
            top = 8 - side / 2
            ends = np.tile([0, side, np.nan], side + 1)
            lines = np.repeat(np.arange(side + 1), 3)
            ax.plot(left + ends, top + lines, color="0.8", linewidth=0.6)
            ax.plot(left + lines, top + ends, color="0.8", linewidth=0.6)
            ax.add_patch(plt.Rectangle((left, top), side, side, fill=False, edgecolor=colour,
                                       linewidth=2))
            ax.text(left + side / 2, 18.8 if left == 0 else 14.2 if left == 19 else 3.2,
                    f"{side} × {side} {words}", ha="center", va="center", fontsize=11.5,
                    color={"C1": "#a86200"}.get(colour, colour))
        for left, top, side in ((size - 14, 8 - size / 2 + size - 14, 14),
                                (19 + (size - 14) // 2, 8 - (size - 4) / 4 + (size - 14) / 2, 5),
                                (29 + out - 1, 8 - out / 2 + out - 1, 1)):
            ax.add_patch(plt.Rectangle((left, top), side, side, color="C3", alpha=0.35))
        ax.set(xlim=(-0.5, 35), ylim=(20, -0.5), aspect="equal")
        ax.set_axis_off()
    fig.suptitle("Two pixels more each way: four windows for 1.5 times the work of one")
    figures.save(fig, "fig-overfeat-png",
                 caption="Left: one window of 14 × 14 pixels gives 5 × 5 maps and one answer. "
                         "Right: the same weights on 16 × 16 pixels give 6 × 6 maps and 2 × 2 "
                         "answers. Red: what the lower right answer sees.",
                 alt="Two rows of squares: input, maps, answers; in the right one the red part, "
                     "one window, is the lower right part of each.")


def draw_detector_then_recogniser():
    fig, axes = plt.subplots(1, 3, figsize=(figures.WIDTH, 3.3))
    looks = ((first, f"P-Net: {len(first)}"), (second, f"R-Net: {len(second)}"),
             (third, f"O-Net: {len(third)}"))
    for ax, (boxes, title) in zip(axes, looks, strict=True):
        frames(shown(ax, "astronaut", step=6), boxes, "C1", 1.5)
        ax.set_title(title, fontsize=13)
    if marks is not None:
        axes[2].plot(*marks[0].T.numpy(), "o", color="C1", markersize=3.5)
    fig.suptitle(f"{window_count_here:,} windows; three looks leave the one face")
    figures.save(fig, "prac-detector-then-recogniser",
                 caption="MTCNN's three networks on one photograph: boxes that each one keeps, "
                         "after suppression. Dots: the five points that O-Net marks.",
                 alt="About a hundred boxes, then four, then one around the face with dots at "
                     "eyes, nose and mouth.")


def draw_nms_iou_map():
    fig, (left, ax) = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.0), width_ratios=(1, 1.15))
    left.imshow((sheet[:300:2, :300:2] * 9).round(), cmap="gray", interpolation="none",
                extent=(-0.5, 299.5, 299.5, -0.5))
    left.set_axis_off()
    final, _ = stages["R-Net, suppressed"]
    inside = final[(final[:, 2] < 304) & (final[:, 3] < 304)]
    plots.boxes(left, inside, width=1.8)
    left.set_title("a part of the sheet, R-Net", fontsize=12.5)
    styles = (("C0", "--"), ("C0", "-"), ("C1", "--"), ("C1", "-"), ("C3", "-"))
    for (boxes, scores), (colour, style) in zip(stages.values(), styles, strict=True):
        best, recall = precision_recall(matched(boxes, scores, face_boxes), len(face_boxes))
        ax.step(np.append(0, recall), np.append(best[0], best), where="pre", color=colour,
                linestyle=style, linewidth=2.5)
    ax.text(0.3, 0.46, f"P-Net\nAP {ap['P-Net']:.2f}", color="C0", fontsize=12.5)
    ax.text(0.5, 0.66, f"suppressed\nAP {after:.2f}", color="C0", fontsize=12.5)
    ax.text(0.3, 1.03, f"R-Net: {ap['R-Net']:.2f}, suppressed {ap['R-Net, suppressed']:.2f}",
            color="#a86200", fontsize=12)
    ax.text(0.14, 0.87, f"O-Net: {ap['O-Net']:.2f}", color="C3", fontsize=12.5)
    ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.12))
    fig.suptitle("Suppression alone doubles the average precision")
    figures.save(fig, "eq-nms-iou-map",
                 caption=f"Right: precision over recall on the sheet of 100 faces and 100 others "
                         f"({sheet_windows:,} windows); dashed: before suppression.",
                 alt="The dashed curve of P-Net lies far below the one after suppression; R-Net's "
                     "lie near one.")


def draw_localisation_loss():
    fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.9))
    for column, name, colour, style in ((0, "accuracy of the class", "C0", "-"),
                                        (1, "IoU of the box", "C1", "-")):
        values = np.array([scores[weight][:, column] for weight in box_weights])  # (weights, runs)
        ax.plot(box_weights, values.mean(1), "o-", color=colour, linewidth=3, markersize=8)
        ax.fill_between(box_weights, values.min(1), values.max(1), color=colour, alpha=0.2)
        ax.text(box_weights[-column], values[-column].mean() + 0.05, name, fontsize=13,
                ha=("left", "right")[column], color=("C0", "#a86200")[column])
    ax.axhline(0.25, color="C0", linestyle=":")
    ax.axhline(blind, color="C1", linestyle=":")
    ax.text(box_weights[-1], 0.12, "dotted: guessing a class,\nthe mean training box",
            fontsize=11.5, ha="right", va="center")
    ax.set(xscale="log", xlabel="weight of the box's loss", ylabel="on test scenes", ylim=(0, 1.08))
    ax.minorticks_off()
    ax.set_title("Too little weight loses the box, too much the class")
    figures.save(fig, "eq-localisation-loss",
                 caption=f"Accuracy and IoU after {steps} steps against the weight of the box's "
                         f"loss; band: lowest to highest of {runs} seeds.",
                 alt="Accuracy is high for small weights and falls to guessing; IoU rises from "
                     "little above the mean box to its highest values.")


def draw_localisation_heads():
    fig, axes = plt.subplots(1, 6, figsize=(figures.WIDTH, 2.3))
    for place, ax in enumerate(axes.flat):
        pixels = ((xt[place] / 4 + 0.5) * 4).round() / 4  # few shades keep the file small
        ax.imshow(pixels.permute(1, 2, 0), interpolation="none")
        ax.set_axis_off()
        plots.boxes(ax, boxes_t[place] * 24, colours="white", width=2.4, style="--")
        plots.boxes(ax, numbers[place] * 24, colours="C1", width=2.4)
        right = int(logits[place].argmax()) == int(labels_t[place])
        ax.set_title(f"says {int(logits[place].argmax())}", fontsize=13,
                     color="0.1" if right else "C3")
    fig.suptitle("One trunk, two heads: a class and a box for each picture")
    figures.save(fig, "fig-localisation-heads",
                 caption=f"Six test scenes: true box (white, dashed), predicted box (orange) "
                         f"and predicted class (magenta if wrong); weight {middle_weight:g}, "
                         f"first seed.",
                 alt="Six small pictures with a digit each; the orange boxes overlap the "
                     "dashed ones, some more than others.")

# %% tags=["define", "fold"]
# Tools by section: recall; edges, histograms and neighbours of regions, stages of a hierarchy;
# lights and animals; cutting out windows; scenes with one digit; the networks of the last section.
# Recall: of boxes in their order, and expected for windows drawn by chance.
def covers(boxes, name):
    """Does box i cover thing j of a photograph? bool (boxes, things)."""
    return metrics.box_iou(boxes, truth[name]).numpy() >= 0.5


def covered_by_first(hits, count):
    """How many things the first boxes cover; hits is a list, one (boxes, things) a picture."""
    return sum(int(hit[:count].any(0).sum()) for hit in hits)


def expected_by_chance(hits, count):
    """The mean of that over all orders of the boxes (drawn without putting back)."""
    total = 0.0
    for hit in hits:
        number, wrong = len(hit), len(hit) - hit.sum(0)
        n = min(count, number)
        missed = np.exp(gammaln(wrong + 1) - gammaln(np.maximum(wrong - n, 0) + 1)
                        - gammaln(number + 1) + gammaln(number - n + 1))
        total += float((1 - np.where(wrong >= n, missed, 0)).sum())
    return total


def coarse_grid(sides, share):
    """Windows of three shapes in steps of a share of the side: how many a photograph, and hits."""
    numbers, hits = [], []
    for name, photo in photos.items():
        boxes = np.concatenate([windows(*photo.shape[:2], side // share, (side,), (0.5, 1, 2))
                                for side in sides])
        numbers.append(len(boxes))
        hits.append(covers(boxes, name))
    return np.mean(numbers), covered_by_first(hits, None)


def same_shapes_elsewhere(found, number, seed):
    """How many things the first proposals cover when each is moved to a random place."""
    stream, hits = np.random.default_rng(seed), []
    for name, photo in photos.items():
        boxes = in_order(found[name], seed)[:number]
        side = boxes[:, 2:] - boxes[:, :2]
        corner = stream.random(side.shape) * (photo.shape[1::-1] - side)
        hits.append(covers(np.concatenate([corner, corner + side], 1), name))
    return covered_by_first(hits, number)


def of_one_strategy(found, which, seed):
    """How many things one strategy alone covers with its first 100 boxes (five orders), and all."""
    hits = [[covers(in_order(parts[which:which + 1], seed + number), name)
             for name, parts in found.items()] for number in range(5)]
    return (np.mean([covered_by_first(each, 100) for each in hits]),
            covered_by_first(hits[0], None))


def edges_of(picture):
    """Edges (weight, pixel, pixel) between each pixel and its eight neighbours, by weight."""
    number = np.arange(picture[..., 0].size).reshape(picture.shape[:2])
    found = []
    for one, other in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:]),
                       (np.s_[:-1, :-1], np.s_[1:, 1:]), (np.s_[1:, :-1], np.s_[:-1, 1:])):
        distance = np.linalg.norm(picture[one] - picture[other], axis=2)
        found.append((distance.ravel(), number[one].ravel(), number[other].ravel()))
    weight, p, q = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.argsort(weight, kind="stable")
    return list(zip(weight[order].tolist(), p[order].tolist(), q[order].tolist(), strict=True))


def shrunk(photo, side):
    """A photograph with its longer side scaled to so many pixels."""
    scale = side / max(photo.shape[:2])
    shape = [round(scale * length) for length in photo.shape[:2]]
    return skimage.transform.resize(photo, shape, anti_aliasing=True)


# Histograms, neighbours, and the pictures of a hierarchy.
SPACES = {"RGB": lambda rgb: rgb, "HSV": skimage.color.rgb2hsv,
          "grey": lambda rgb: np.repeat(skimage.color.rgb2gray(rgb)[..., None], 3, 2),
          "Lab": lambda rgb: (skimage.color.rgb2lab(rgb) + [0, 100, 100]) / [100, 200, 200]}


def histograms(channels, bins, labels, count):
    """Each region's shares of values in bins from 0 to 1, channel by channel: (count, all bins)."""
    flat, parts = labels.ravel(), []
    for channel in channels:
        place = np.clip((channel * bins).astype(int), 0, bins - 1).ravel()
        table = np.bincount(flat * bins + place, minlength=count * bins).reshape(count, bins)
        parts.append(table)
    whole = np.concatenate(parts, 1).astype(float)
    return whole / whole.sum(1, keepdims=True)


def described(picture, labels):
    """The regions of a label map (H, W), numbered from 0, in a picture (H, W, 3)."""
    count = int(labels.max()) + 1
    channels, slopes = np.moveaxis(picture, 2, 0), []
    for channel in channels:
        down = ndimage.gaussian_filter(channel, 1, order=(1, 0))
        right = ndimage.gaussian_filter(channel, 1, order=(0, 1))
        for angle in np.arange(8) * np.pi / 4:
            slope = np.maximum(right * np.cos(angle) + down * np.sin(angle), 0)
            slopes.append(slope / max(slope.max(), 1e-12))
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels + 1)]
    sizes = np.bincount(labels.ravel(), minlength=count).astype(float)
    return [Region(*each) for each in zip(sizes, boxes, histograms(channels, 25, labels, count),
                                          histograms(slopes, 10, labels, count), strict=True)]


def neighbours_of(labels):
    """Pairs of regions that touch."""
    pairs = np.concatenate([np.stack([labels[:, :-1].ravel(), labels[:, 1:].ravel()], 1),
                            np.stack([labels[:-1].ravel(), labels[1:].ravel()], 1)])
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], 1)
    return [tuple(pair) for pair in np.unique(pairs, axis=0).tolist()]


def depth_of(first, merges):
    """The longest way from the whole picture down to a first region."""
    depths = [0] * first
    for i, j in merges:
        depths.append(1 + max(depths[i], depths[j]))
    return depths[-1]


def at_stage(labels, first, merges, left):
    """The label map when so many regions are left, with numbers as in the hierarchy."""
    now = np.arange(first)
    for number, (i, j) in enumerate(merges[:max(first - left, 0)], first):
        now[(now == i) | (now == j)] = number
    return now[labels]


LIGHTS = {"half the values": lambda rgb: 0.5 * rgb, "haze": lambda rgb: 0.7 * rgb + 0.3,
          "warm lamp": lambda rgb: rgb * [1, 0.85, 0.6]}
CHANNELS = ("R", "G", "B", "H", "S", "V", "L", "a", "b")

def channels_of(rgb):
    """All nine channels, (9, H, W)."""
    spaces = (rgb, skimage.color.rgb2hsv(rgb), skimage.color.rgb2lab(rgb))
    return np.concatenate([np.moveaxis(space, 2, 0) for space in spaces])

def change(photo, light):
    """Mean change of each channel, in standard deviations of that channel: (9,)."""
    now, then = channels_of(photo), channels_of(light(photo))
    moved = np.abs(then - now)
    moved[3] = np.minimum(moved[3], 1 - moved[3])  # hue is a circle
    return moved.mean((1, 2)) / now.std((1, 2))


def colours_of(patch, space):
    flat_map = np.zeros(patch.shape[:2], int)
    return histograms(np.moveaxis(SPACES[space](patch), 2, 0), 25, flat_map, 1)[0]


SIDE = 96
CUES = {"colour": "C", "texture": "T", "size, fill": "SF", "colour, texture": "CT",
        "texture, size, fill": "TSF", "all four": "CTSF"}

def animal(kind, number):
    """A picture (96, 96, 3) with noise, and the mask of its ellipse."""
    stream = np.random.default_rng(number)
    y, x = np.mgrid[:SIDE, :SIDE]
    (cx, cy), (rx, ry) = stream.integers(38, 58, 2), stream.integers(18, 26, 2)
    mask = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1
    along, across = (0.12 * np.sign(np.sin(2 * np.pi * (axis + 0.25) / 6)) for axis in (x, y))
    ground, fur = np.array([0.45, 0.5, 0.45]), np.array([0.75, 0.5, 0.3])
    colour = np.where(mask[..., None], fur, ground) if kind == "kitten" else ground
    stripes = np.where(mask, across, along) if kind == "chameleon" else along
    noise = 0.02 * stream.normal(size=(SIDE, SIDE, 3))
    return np.clip(colour + stripes[..., None] + noise, 0, 1), mask


def best_regions(picture, mask):
    """The best IoU, in pixels, of a region with the mask, for each set of cues."""
    place, scores = np.arange(SIDE) // 8, {}
    labels = place[:, None] * (SIDE // 8) + place
    first, touching = described(SPACES["Lab"](picture), labels), neighbours_of(labels)
    for name, cues in CUES.items():
        _, merges = hierarchy(first, touching, labels.size, cues)
        masks = [labels == number for number in range(len(first))]
        for i, j in merges:
            masks.append(masks[i] | masks[j])
        scores[name] = max((mask & region).sum() / (mask | region).sum() for region in masks)
    return scores


def squared(boxes):
    """The square around each box, with the same centre."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) / 2
    return torch.cat([centre - half, centre + half], 1)


def cut(image, boxes, side):
    """Parts of an image (1, 3, H, W), black beyond its edge, scaled to (N, 3, side, side)."""
    height, width = image.shape[2:]
    parts = [torch.zeros(0, 3, side, side)]
    for x1, y1, x2, y2 in boxes.round().long().tolist():
        inner = image[:, :, max(y1, 0):max(y2, 0), max(x1, 0):max(x2, 0)]
        if min(inner.shape[2:]) == 0:
            inner = image.new_zeros(1, 3, 1, 1)
        else:
            inner = F.pad(inner, (max(-x1, 0), max(x2 - width, 0),
                                  max(-y1, 0), max(y2 - height, 0)))
        parts.append(F.interpolate(inner, (side, side), mode="area"))
    return torch.cat(parts)


# Scenes with one digit; boxes and extreme points in shares of the picture's side.
def single_scenes(count, train):
    """Images (N, 3, 24, 24), labels (N,), boxes (N, 4), and points (N, 8)."""
    drawn = scenes.make(count, train, size=24, objects=(1, 1), heights=(10, 16), classes=4,
                        source=source)
    points = []
    for mask in drawn.masks > 0:
        rows, columns = torch.where(mask)
        ends = torch.stack([rows.argmin(), rows.argmax(), columns.argmin(), columns.argmax()])
        points.append(torch.stack([columns[ends], rows[ends]], 1).flatten() + 0.5)
    pictures = (4 * (drawn.images.float() / 255 - 0.5)).to(memory_format=torch.channels_last)
    return pictures, drawn.labels[:, 0], drawn.boxes[:, 0] / 24, torch.stack(points) / 24


def built(number, numbers=4):
    with runtime.seeded(number):
        return TwoHeads(numbers=numbers).to(memory_format=torch.channels_last)

def score(network):
    """Accuracy of the class and mean IoU of the box, on test scenes."""
    with torch.no_grad():
        logits, numbers = network(xt)
    return (metrics.accuracy(logits, labels_t),
            metrics.box_iou(numbers, boxes_t).diagonal().mean().item())


def centre_error(network):
    """Mean error of the centre across and down, in pixels."""
    with torch.no_grad():
        numbers = network(xt)[1]
    centres = [(part[:, :2] + part[:, 2:]) / 2 for part in (numbers, boxes_t)]
    return 24 * (centres[0] - centres[1]).abs().mean().item()

def near(network_points):
    """Share of points within 2 pixels of the true ones."""
    apart = 24 * (network_points - points_t).view(-1, 4, 2).norm(dim=2)
    return (apart < 2).float().mean().item()


def global_classifier(side):
    """The network of the notes, without memory for its numbers, for pictures of side × side."""
    layers, channels = [], 3
    with torch.device("meta"):
        for width in (64, 128, 256, 512, 1024, 2048):
            for _ in range(2):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width),
                           nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        body, flat = nn.Sequential(*layers), 2048 * (side // 64) ** 2
        head = nn.Sequential(nn.Flatten(), nn.Linear(flat, 4096), nn.BatchNorm1d(4096), nn.ReLU(),
                             nn.Linear(4096, 4096), nn.BatchNorm1d(4096), nn.ReLU(),
                             nn.Linear(4096, 1000))
    return nn.Sequential(body, head)


def overfeat_parameters(layers):
    """Sum over layers given as (inputs, outputs, kernel)."""
    return sum(inputs * outputs * kernel**2 + outputs for inputs, outputs, kernel in layers)

ACCURATE = [(3, 96, 7), (96, 256, 7), (256, 512, 3), (512, 512, 3), (512, 1024, 3), (1024, 1024, 3),
            (1024, 4096, 5), (4096, 4096, 1), (4096, 1000, 1)]
QUICK = [(3, 96, 11), (96, 256, 5), (256, 512, 3), (512, 1024, 3), (1024, 1024, 3), (1024, 3072, 6),
         (3072, 4096, 1), (4096, 1000, 1)]

# %% tags=["fold"]
# Photographs with values from 0 to 1, (H, W, 3), and the boxes that were drawn by hand.
runtime.start(seed=seed)
figures.use_style()
seeds = list(range(seed, seed + runs))
library = data.photos()
photos = {name: library[name].permute(1, 2, 0).numpy() / 255 for name in BOXES}
truth = {name: np.array(list(boxes.values()), float) for name, boxes in BOXES.items()}
things = sum(len(boxes) for boxes in truth.values())
draw_object_recognition_windows()

# %% [markdown]
# ## 1 · Everywhere, or where the picture suggests?
#
# When does a box cover a thing? The usual measure is *intersection over union*, IoU: the area that two boxes share, divided by the area that they cover together. It is 1 for equal boxes and 0 for boxes that do not meet. From 0.5 on we say that the thing is *covered*.

# %% tags=["define", "ledger:eq-nms-iou-map"]
def iou(a, b):
    """Intersection over union of two boxes (x1, y1, x2, y2)."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)  # boxes that do not meet share nothing
    area_a = (a[2] - a[0]) * (a[3] - a[1])
    area_b = (b[2] - b[0]) * (b[3] - b[1])
    return shared / (area_a + area_b - shared)  # what both have is counted once

# %% tags=["fold"]
stream = np.random.default_rng(3)
spots = stream.integers(0, 60, (40, 2))
tried = np.concatenate([spots, spots + stream.integers(1, 40, (40, 2))], 1).astype(float)
own = torch.tensor([[iou(a, b) for b in tried] for a in tried])
claims.check("eq-nms-iou-map",
             "Two squares of 2 × 2 that share one pixel: {seventh:.4f}, a seventh. For 1,600 pairs "
             "of boxes these lines differ by {off:.0e} from torchvision.ops.box_iou and by "
             "{ours:.0e} from metrics.box_iou.",
             seventh=(iou((0, 0, 2, 2), (1, 1, 3, 3)), "~", 1 / 7, 1e-12),
             off=((own - torchvision.ops.box_iou(*[torch.from_numpy(tried)] * 2)).abs().max()
                  .item(), "<=", 1e-12),
             ours=((own - metrics.box_iou(tried, tried)).abs().max().item(), "<=", 1e-12))

# %% [markdown]
# Now the windows. Eight sizes, from 32 × 32 to 362 × 362 pixels, each also lying and standing (twice or four times as high as wide, or as wide as high, with the same area): 40 shapes. Each is moved over the picture in steps of 8 pixels.

# %%
exercises.predict("20.p1", "40 shapes, every 8 pixels, on the astronaut's 512 × 512 pixels: how "
                  "many windows?", ("about 8,000", "about 80,000", "about 800,000"))

# %% tags=["define", "fold"]
SIDES = (32, 45, 64, 91, 128, 181, 256, 362)  # pixels: the root of the window's area
RATIOS = (0.25, 0.5, 1, 2, 4)  # height / width

def windows(height, width, stride, sides=SIDES, ratios=RATIOS):
    """All windows of these shapes inside a picture: (number, 4)."""
    found = []
    for side, ratio in itertools.product(sides, ratios):
        w, h = round(side / ratio**0.5), round(side * ratio**0.5)
        x, y = np.meshgrid(np.arange(0, width - w + 1, stride),
                           np.arange(0, height - h + 1, stride))
        found.append(np.stack([x, y, x + w, y + h], -1).reshape(-1, 4))
    return np.concatenate(found).astype(float)

# %%
everywhere = {name: windows(*photo.shape[:2], stride) for name, photo in photos.items()}
print({name: len(boxes) for name, boxes in everywhere.items()})

# %% tags=["fold"]
everywhere_hits = [covers(everywhere[name], name) for name in photos]
square = [hit[np.isclose(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1])]
          for hit, box in zip(everywhere_hits, everywhere.values(), strict=True)]
best_window = {thing: metrics.box_iou(everywhere[name], [box]).max().item()
               for name, boxes in BOXES.items() for thing, box in boxes.items()}
count = len(everywhere["astronaut"])
exercises.reveal("20.p1", "about 8,000" if count < 25_000 else "about 80,000"
                 if count < 250_000 else "about 800,000", f"{count:,} windows.")
resnet = cost.table(models.resnet18(), (3, 224, 224)).multiply_adds
claims.check("emp-sliding-window-detection-slow",
             "The astronaut has {count:,} windows. ResNet-18, a common classifier (lesson 14), on "
             "each, scaled to 224 × 224 pixels, would multiply and add {work:.0f} million million "
             "times.",
             count=(count, "==", 84_781), work=(count * resnet / 1e12, ">", 100))
claims.check("prac-detector-then-recogniser.shapes",
             "With five shapes of each size {all_shapes:d} of the {things} things are covered by "
             "some window, with squares alone {square:d}. The rocket, ten times as high as wide, "
             "is not: its best IoU is {rocket:.2f}.",
             all_shapes=(covered_by_first(everywhere_hits, None), "==", 15), things=things,
             square=(covered_by_first(square, None), "<=", 14),
             rocket=(best_window["rocket"], "<", 0.5))

# %% [markdown]
# Each new shape costs thousands of windows, and things of odd shape are missed even so. The other way round: cut the picture into regions by what it shows, and let *regions* propose boxes. Regions have any shape and size.
#
# **Step 1: small regions.** P. Felzenszwalb and D. Huttenlocher take pixels as points, and join each to its eight neighbours by an *edge*, whose weight is the distance of the two colours. The edges are visited from the lightest to the heaviest. Two regions are merged if the edge between them is not much heavier than what is inside them anyway.

# %% tags=["define", "ledger:eq-unsup-felzenszwalb"]
def felzenszwalb(edges, pixels, k, min_size):
    """The region of each pixel, from edges (weight, pixel, pixel) sorted by weight."""
    leader = list(range(pixels))  # leads, step by step, to the first pixel of the region
    size, inside = [1] * pixels, [0.0] * pixels  # inside: the heaviest edge merged so far

    def root(pixel):
        while leader[pixel] != pixel:
            pixel = leader[pixel]
        return pixel

    def merge_if(wanted):
        for weight, p, q in edges:
            a, b = root(p), root(q)
            if a != b and wanted(a, b, weight):
                leader[b], size[a], inside[a] = a, size[a] + size[b], weight

    merge_if(lambda a, b, w: w <= min(inside[a] + k / size[a], inside[b] + k / size[b]))
    merge_if(lambda a, b, w: min(size[a], size[b]) < min_size)  # crumbs go to a neighbour
    return [root(pixel) for pixel in range(pixels)]

# %% [markdown]
# The term $k / \text{size}$ lets small regions merge easily; a larger $k$ gives larger regions. Is it what scikit-image does? We count regions in a hand-made picture, and in the astronaut, shrunk to 128 × 128 pixels and smoothed a little.

# %% tags=["fold"]
flat = np.zeros((40, 40, 3))
flat[:20, :20], flat[20:, :15] = (1, 0, 0), (0, 1, 0)
flat[5:12, 25:35], flat[25:27, 30:32] = (0, 0, 1), (1, 1, 1)
small = shrunk(photos["astronaut"], 128)
soft = np.stack([ndimage.gaussian_filter(channel, 0.8) for channel in np.moveaxis(small, 2, 0)], 2)
counted = {}
for what, given, whole, sigma, k, least in (
        ("squares", flat, flat, 0, 100, 1), ("squares, 10 pixels at least", flat, flat, 0, 100, 10),
        ("astronaut, k 50", soft, small, 0.8, 50, 20),
        ("astronaut, k 100", soft, small, 0.8, 100, 20),
        ("astronaut, k 300", soft, small, 0.8, 300, 20)):
    here = felzenszwalb(edges_of(given), given[..., 0].size, k / 255, least)
    theirs = skimage.segmentation.felzenszwalb(whole, scale=k, sigma=sigma, min_size=least)
    counted[what] = (len(set(here)), int(theirs.max()) + 1)
claims.table("eq-unsup-felzenszwalb", "Regions found by the lines above and by scikit-image.",
             counted, columns=("picture", "here", "scikit-image"))

# %% [markdown]
# **Step 2: merge what is alike.** *Selective search* (J. Uijlings and others) starts from such regions. Again and again it takes the two *neighbouring* regions that are most similar, and merges them, until one region is left. Each region on the way gives a box.
# Four things count as similar, each a number from 0 to 1:
# - *colour*: how much two histograms of colour share (25 bins for each of three channels);
# - *texture*: the same for histograms of slopes, in eight directions;
# - *size*: small regions go first;
# - *fill*: two regions that leave few gaps in their common box.

# %% tags=["define"]
class Region(NamedTuple):
    size: float  # pixels
    box: tuple  # x1, y1, x2, y2
    colour: np.ndarray  # (75,), sums to 1
    texture: np.ndarray  # (240,), sums to 1

def similarity(a, b, pixels, cues):
    """Sum of the chosen similarities of two regions in a picture of so many pixels."""
    x1, y1, x2, y2 = around(a.box, b.box)
    gaps = (x2 - x1) * (y2 - y1) - a.size - b.size
    each = {"C": np.minimum(a.colour, b.colour).sum(), "T": np.minimum(a.texture, b.texture).sum(),
            "S": 1 - (a.size + b.size) / pixels, "F": 1 - gaps / pixels}
    return sum(each[cue] for cue in cues)

def around(a, b):  # the smallest box that holds both
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])

def merged(a, b):
    """One region of two: no pixel is looked at again."""
    size = a.size + b.size
    return Region(size, around(a.box, b.box), (a.size * a.colour + b.size * b.colour) / size,
                  (a.size * a.texture + b.size * b.texture) / size)

# %% tags=["define"]
def hierarchy(regions, neighbours, pixels, cues):
    """All regions, the merged ones behind those given, and the pairs that were merged."""
    regions, merges = list(regions), []
    alike = {(i, j): similarity(regions[i], regions[j], pixels, cues) for i, j in neighbours}
    while alike:
        i, j = max(alike, key=alike.get)
        merges.append((i, j))
        regions.append(merged(regions[i], regions[j]))
        new = len(regions) - 1
        ended = [pair for pair in alike if i in pair or j in pair]
        for pair in ended:
            del alike[pair]
        for other in {number for pair in ended for number in pair} - {i, j}:  # its neighbours now
            alike[other, new] = similarity(regions[other], regions[new], pixels, cues)
    return regions, merges

# %% [markdown]
# **Step 3: not one hierarchy, several.** The search runs with several colour spaces, sets of cues and values of $k$, since what separates one thing may not separate another (section 2). All boxes go into one list. A box that was merged late, so a large one, tends to come early; a random factor mixes the order. (Each of four sets of first regions serves two hierarchies, and is counted twice in the numbers printed below.)

# %% tags=["define", "fold"]
def strategies(picture, spaces=("HSV", "Lab"), scales=(50, 100), cue_sets=("CTSF", "TSF")):
    """Each strategy's boxes in a picture (H, W, 3), as they are merged; those of first regions."""
    found, starts = [], []
    for space, k in itertools.product(spaces, scales):
        changed = SPACES[space](picture)
        labels = skimage.segmentation.felzenszwalb(changed, scale=k, sigma=0.8, min_size=20)
        first, touching = described(changed, labels), neighbours_of(labels)
        starts += len(cue_sets) * [region.box for region in first]
        for cues in cue_sets:
            regions, _ = hierarchy(first, touching, labels.size, cues)
            found.append(np.array([region.box for region in regions], float))
    return found, np.array(starts, float)

def in_order(found, seed):
    """All boxes in one list, each once; late merges tend to come early."""
    stream = np.random.default_rng(seed)
    ranks = [np.arange(len(boxes), 0, -1) * stream.random(len(boxes)) for boxes in found]
    ordered = np.concatenate(found)[np.argsort(np.concatenate(ranks))]
    _, first_seen = np.unique(ordered, axis=0, return_index=True)
    return ordered[np.sort(first_seen)]

# %%
exercises.predict("20.p2", "Selective search on each photograph, its first 100 boxes: of the "
                  "sixteen things, how many are covered?", ("about 4", "about 9", "nearly all"))

# %%
found, proposed, unmerged = {}, {}, {}
for name, photo in photos.items():
    picture = shrunk(photo, search_size)
    scale = photo.shape[1] / picture.shape[1]  # back to the photograph's pixels
    boxes, starts = strategies(picture)
    found[name], unmerged[name] = [scale * part for part in boxes], scale * starts
    proposed[name] = in_order(found[name], seed)
    print(f"{name:10} {len(starts):6,} first regions, {len(proposed[name]):6,} different "
          "boxes")
orders = [[covers(in_order(boxes, seed + number), name) for name, boxes in found.items()]
          for number in range(20)]  # the same boxes in twenty random orders

# %% tags=["fold"]
hundred = [covered_by_first(hits, 100) for hits in orders]
usual = np.mean(hundred)
exercises.reveal("20.p2", "about 4" if usual < 7 else "about 9" if usual < 12 else "nearly all",
                 f"{usual:.1f} of {things}, on average of twenty random orders.")
counts = np.unique(np.geomspace(1, max(map(len, everywhere.values())), 60).astype(int))
by_search = [np.mean([covered_by_first(hits, n) for hits in orders]) / things for n in counts]
by_chance = [expected_by_chance(everywhere_hits, n) / things for n in counts]
most = max(len(boxes) for boxes in proposed.values())
grids = dict(coarse_grid(sides, share) for sides, share in (
    ((181, 362), 3), ((64, 128, 256, 362), 2), ((64, 128, 256, 362), 4)))
draw_proposals_reduce_work()
elsewhere = [same_shapes_elsewhere(found, 100, seed + number) for number in range(20)]
enough = next((int(n) for n in np.geomspace(100, 80_000, 200).round(-2)
               if expected_by_chance(everywhere_hits, int(n)) >= min(usual, 14)), None)
alone = sum(int(covers(unmerged[name], name).any(0).sum()) for name in photos)
claims.check("emp-proposals-reduce-work",
             "The first 100 proposals of each photograph cover {hundred:.1f} of {things} things, "
             "their shapes at random places {elsewhere:.1f}, 100 random windows {chance:.1f} on "
             "average. As many as the proposals takes about {enough:,} random windows. All first "
             "regions, without any merging, cover {alone:d}.",
             hundred=(hundred, ">=", 12), things=things, elsewhere=(elsewhere, "<=", 9),
             chance=(expected_by_chance(everywhere_hits, 100), "<=", 6), enough=(enough, ">", 1000),
             alone=(alone, "<", 14), seeds=20, on="mean")
few, some, many = grids
claims.check("emp-proposals-reduce-work.grid",
             "Windows need not be random: coarse grids, three shapes and steps of a third, half or "
             "quarter of the side, cover {covered} with {few:.0f} windows a photograph, {more} "
             "with {some:.0f} and {most} with {many:,.0f}.",
             covered=(grids[few], "<=", 10), few=few, more=(grids[some], "<=", 13), some=some,
             most=grids[many], many=many)

# %% [markdown]
# Sixteen things, boxed by one person who chose what stands out, are few. On *scenes*, handwritten digits on photographs of brick, grass and gravel (96 × 96 pixels, two to four digits, heights of 14 to 36 pixels), boxes are known exactly. One strategy is enough there; the windows have the digits' sizes and the three middle shapes.

# %% tags=["fold"]
SCENE_WINDOWS = windows(96, 96, 6, (13, 18, 25, 34), (0.5, 1, 2))
drawn = scenes.make(scene_count, train=False, seed=seed, size=96, objects=(2, 4), heights=(14, 36),
                    source=source)
objects = [drawn.boxes[row, :drawn.counts[row]].double() for row in range(len(drawn))]
digits = sum(map(len, objects))
window_hits = [metrics.box_iou(SCENE_WINDOWS, true).numpy() >= 0.5 for true in objects]
scene_recall = {"windows": expected_by_chance(window_hits, 50) / digits}
for name, space in (("HSV", "HSV"), ("grey", "grey")):
    hits = []
    for row, true in enumerate(objects):
        picture = drawn.images[row].permute(1, 2, 0).numpy() / 255
        parts, _ = strategies(picture, (space,), (100,), ("CTSF",))
        proposals = in_order(parts, seed + row)
        hits.append(metrics.box_iou(proposals, true).numpy() >= 0.5)
    scene_recall[name] = covered_by_first(hits, 50) / digits
claims.check("emp-proposals-reduce-work.scenes",
             "On {scene_count} scenes with {digits} digits, 50 proposals cover {search:.0%}, 50 "
             "random windows out of {windows:,} cover {chance:.0%}. From grey pictures 50 "
             "proposals cover {grey:.0%}.", scene_count=scene_count, digits=digits,
             search=(scene_recall["HSV"], ">=", 0.75), windows=len(SCENE_WINDOWS),
             chance=(scene_recall["windows"], "<=", 0.4),
             grey=(scene_recall["grey"], "<=", scene_recall["HSV"] - 0.1))

# %% [markdown]
# Here is a hierarchy at work: every region in its mean colour. With the slider, merge further.

# %% tags=["fold", "not-drawn:fig-selective-search-hierarchy"]
lab = SPACES["Lab"](shrunk(photos["astronaut"], search_size))
first_map = skimage.segmentation.felzenszwalb(lab, scale=100, sigma=0.8, min_size=20)
first_regions, touching = described(lab, first_map), neighbours_of(first_map)
first_count = len(first_regions)
all_regions, merge_list = hierarchy(first_regions, touching, first_map.size, "CTSF")
shown_photo = shrunk(photos["astronaut"], search_size)

left_over = widgets.Slider(20, 2, 200, 1, "regions left", kept=(4, 20, 60, 200))
widgets.explore(stage_of, left=left_over)
middle = first_count + len(merge_list) // 2
recounted = again(middle)
drift = max(np.abs(recounted.colour - all_regions[middle].colour).max(),
            np.abs(recounted.texture - all_regions[middle].texture).max())
terms = {cue: [similarity(all_regions[i], all_regions[j], first_map.size, cue)
               for i, j in merge_list] for cue in "CTSF"}
six = Region(6, (0, 0, 3, 2), np.array([0.5, 0.5]), np.array([1.0, 0.0]))
two = Region(2, (3, 0, 4, 2), np.array([0.25, 0.75]), np.array([0.5, 0.5]))
by_hand = similarity(six, two, 20, "CTSF")
claims.check("eq-selective-search",
             "{first} regions need {merges} merges and give {boxes} boxes. All four similarities "
             "lie between {low:.3f} and {high:.3f}; a histogram merged from two differs by "
             "{drift:.0e} from one counted anew. Two hand-made regions: 0.75 + 0.5 + 0.6 + 1 = "
             "{by_hand:.2f}.",
             first=first_count, merges=(len(merge_list), "==", first_count - 1),
             boxes=(len(all_regions), "==", 2 * first_count - 1),
             low=(min(map(min, terms.values())), ">=", 0),
             high=(max(map(max, terms.values())), "<=", 1),
             drift=(drift, "<=", 1e-12), by_hand=(by_hand, "~", 2.85, 1e-12))

# %% [markdown]
# Why the term for size? Take it away, and one region eats its neighbours one by one: the tree of merges gets deep and lopsided. And why several strategies? We count boxes, and things covered.

# %% tags=["fold"]
depths = {}
for cues in ("CTSF", "CTF"):
    _, pairs = hierarchy(first_regions, touching, first_map.size, cues)
    depths[cues] = depth_of(first_count, pairs)
one = np.unique(found["astronaut"][2], axis=0)  # HSV, k = 100, all four cues
eight, limit = proposed["astronaut"], sum(len(boxes) for boxes in found["astronaut"])
single, single_all = zip(*[of_one_strategy(found, which, seed)
                           for which in range(len(found["astronaut"]))], strict=True)
claims.check("prac-selective-search-goals",
             "The deepest region lies {with_size:d} merges below the whole picture; without the "
             "term for size {without:d}. A perfectly balanced tree of {first} regions would have "
             "{least:d}.",
             with_size=(depths["CTSF"], "<", depths["CTF"]), without=depths["CTF"],
             first=first_count, least=int(np.ceil(np.log2(first_count))))
claims.check("num-rcnn-proposals-2k",
             "On the astronaut one strategy gives {one:,} different boxes, eight give {eight:,}, "
             "out of at most {limit:,} (each hierarchy has 2n − 1).",
             one=(len(one), "<=", len(found["astronaut"][2])),
             eight=(len(eight), ">", 2 * len(one)), limit=limit)
claims.check("num-rcnn-proposals-2k.recall",
             "The first 100 boxes of one strategy cover {worst:.1f} to {best:.1f} of {things} "
             "things, the first 100 of all eight {usual:.1f}. All boxes of one cover {few:d} to "
             "{more:d}, all boxes of the eight {every:d}.", worst=min(single),
             best=(max(single), ">=", usual - 1), things=things, usual=usual,
             few=(min(single_all), "<=", covered_by_first(orders[0], None)), more=max(single_all),
             every=covered_by_first(orders[0], None))
claims.quoted("num-rcnn-proposals-2k.paper",
              "About 2,100 boxes a picture in the fast mode, 10,097 in the thorough one, which "
              "covers 99 % of the objects; R-CNN takes about 2,000",
              "Uijlings et al. 2013; Girshick et al. 2014")

# %% [markdown]
# **We now know** that merging regions gives boxes that cover what stands out, of any shape, without a word about classes. More strategies give more boxes, and all their boxes together miss none of the sixteen, where one strategy alone misses up to two; among the first hundred they are no better than the best single one.
# **This does not show** that all things are found: the sixteen were chosen because they stand out, the order of the list is random, and IoU 0.5 is generous. Nor that two thousand windows are needed: we chose the sizes of the grids, and others cover as much with about half as many, or less with more. Nor that the search is fast: we have not measured its time. In lesson 21 a network proposes instead.
#
# **Exercise 20.1.** How many windows? Count them without building them: a picture of `height` × `width`, one window of `h` × `w`, moved by `stride`. A window must lie inside. If it does not fit, there is none.

# %%
def window_count(height, width, h, w, stride):
    """Number of places of one window."""
    ...

exercises.check("20.1", window_count)

# %% [markdown]
# ## 2 · Which cue, which colour?
#
# A tabby kitten on a stone differs from it by colour; its fur and the stone may have the same texture. A chameleon has the colour of the leaves and another texture. Two hand-made pictures of that kind: in one an ellipse differs by colour alone, in the other by the direction of its stripes alone.
# To see the cues and not the first step, we start from squares of 8 × 8 pixels and ask for the best IoU of any merged region with the ellipse (now counted in pixels).

# %% tags=["fold"]
cue_scores = {}
for kind in ("kitten", "chameleon"):
    each = [best_regions(*animal(kind, seed + number)) for number in range(5)]
    cue_scores[kind] = {name: [scores[name] for scores in each] for name in CUES}
means = np.array([[np.mean(values) for values in row.values()] for row in cue_scores.values()])
draw_segmentation_hard()
kitten, chameleon = cue_scores["kitten"], cue_scores["chameleon"]
claims.check("emp-segmentation-cues-fail",
             "The chameleon: colour alone {colour:.2f}, texture alone {texture:.2f}, both "
             "{both:.2f}; texture, size and fill {shape:.2f}; all four {four:.2f}. The kitten: "
             "colour alone {kitten_colour:.2f}, texture alone {kitten_texture:.2f}; texture, size "
             "and fill {kitten_shape:.2f}; all four {kitten_four:.2f}. Size and fill alone: "
             "{blind:.2f}.", shape=(chameleon["texture, size, fill"], ">=", 0.5),
             kitten_shape=(kitten["texture, size, fill"], ">=", 0.5),
             colour=(chameleon["colour"], "<=", 0.45), texture=chameleon["texture"],
             both=(chameleon["colour, texture"], "<=", 0.5),
             four=(chameleon["all four"], ">=", 0.5), kitten_colour=(kitten["colour"], ">=", 0.7),
             kitten_texture=kitten["texture"], kitten_four=(kitten["all four"], ">=", 0.7),
             blind=(kitten["size, fill"], "<=", 0.5), seeds=5, on="mean")

# %% [markdown]
# Call an IoU of 0.5 *found*: no single cue finds both. (Texture alone finds the kitten, since the edge of a colour is a slope, too.) Texture with size and fill finds both, without colour. Adding colour gains on the kitten and loses on the chameleon: no set is best for both, so the search runs with two. (Size and fill favour regions that grow evenly and fill their box, as an ellipse does; a thing with thin legs is not tried here.)
#
# **Colour when the light changes.** The histogram of colours must come from some colour space.
# - *RGB*: red, green, blue.
# - *HSV*: *hue* is the place on the circle of colours, red to yellow to green to blue to red; *saturation* is how far from grey; *value* is the largest of R, G and B.
# - *Lab*: *L* for lightness, *a* from green to red, *b* from blue to yellow, made so that equal distances look equally large.

# %%
exercises.predict("20.p3", "All of R, G and B are halved. Which channels of HSV change?",
                  ("all three", "value alone", "hue and value"))

# %%
orange = np.array([0.8, 0.4, 0.2])
for name, space in (("HSV", skimage.color.rgb2hsv), ("Lab", skimage.color.rgb2lab)):
    print(name, space(orange).round(2), "-> halved:", space(orange / 2).round(2))

# %% tags=["fold"]
before, after = skimage.color.rgb2hsv(orange), skimage.color.rgb2hsv(orange / 2)
changed_channels = [name for name, far in zip("HSV", np.abs(before - after), strict=True)
                    if far > 1e-9]
exercises.reveal("20.p3", {"V": "value alone", "HV": "hue and value"}.get("".join(changed_channels),
                 "all three"), f"Value: {before[2]:.1f} to {after[2]:.1f}.")
pixels = np.random.default_rng(1).random((200, 3))
single = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in pixels])
white, red = skimage.color.rgb2lab(np.ones(3)), skimage.color.rgb2hsv(np.array([1.0, 0, 0]))
claims.check("eq-colour-conversions",
             "For 200 random colours scikit-image's HSV differs from Python's colorsys by "
             "{off:.0e}; pure red has saturation {saturation:g} and value {value:g}, at hue "
             "{hue:g}; white has a lightness of {white:.2f}.",
             off=(np.abs(skimage.color.rgb2hsv(pixels) - single).max(), "<=", 1e-9),
             hue=(red[0], "==", 0.0),
             saturation=(red[1], "==", 1), value=(red[2], "==", 1),
             white=(white[0], "~", 100, 1e-3))
labs = skimage.color.rgb2lab(orange), skimage.color.rgb2lab(orange / 2)
claims.check("emp-colour-space-invariance",
             "This orange with R, G, B halved: hue {hue:.4f} and {same:.4f}, saturation "
             "{saturation:.2f} and {kept:.2f}, value {value:.1f} and {half:.1f}; a and b fall from "
             "{a:.1f} and {b:.1f} to {a2:.1f} and {b2:.1f}.",
             hue=before[0], same=(after[0], "~", before[0], 1e-9), saturation=before[1],
             kept=(after[1], "~", before[1], 1e-9), value=before[2],
             half=(after[2], "~", before[2] / 2, 1e-9), a=labs[0][1], b=labs[0][2],
             a2=(labs[1][1], "~", 20.62, 0.01), b2=(labs[1][2], "~", 25.94, 0.01))

# %% [markdown]
# On a whole photograph, with three changes: all values halved, as in a darker picture (values are not proportional to light: half the value is about a fifth of the light); haze, which takes the same share of R, G and B and adds the same to each; and a warm lamp, which takes most from blue. A change is measured against the spread of the channel over the photograph (its standard deviation): 1 means that light moves a pixel about as far as things differ.

# %% tags=["fold"]
moves = np.array([[change(photos[name][::2, ::2], light) for light in LIGHTS.values()]
                  for name in ("astronaut", "coffee", "chelsea")])  # (photos, lights, channels)
draw_colour_channels()
per = {name: dict(zip(CHANNELS, moves[:, row].T.tolist(), strict=True))
       for row, name in enumerate(LIGHTS)}
half, lamp = per["half the values"], per["warm lamp"]
claims.check("fig-colour-channels",
             "All values halved, in standard deviations, in each of three photographs: hue and "
             "saturation at most {hue:.2f} and {saturation:.2f}; at least {value:.2f} for value, "
             "{lightness:.2f} for L, {a:.2f} for a, {b:.2f} for b. Red moves by {red:.2f} on "
             "average, and a warm lamp moves saturation by at least {lamp:.2f}.",
             hue=(max(half["H"]), "<=", 1e-6), saturation=(max(half["S"]), "<=", 1e-6),
             value=(min(half["V"]), ">=", 0.5), lightness=(min(half["L"]), ">=", 0.5),
             a=(min(half["a"]), ">=", 0.2), b=(min(half["b"]), ">=", 0.2),
             red=float(np.mean(half["R"])), lamp=(min(lamp["S"]), ">=", 0.3))

# %% [markdown]
# What does that do to histograms of colour such as those of the search? Each of the sixteen things is cut out, shown again with all values halved, and we ask which of the sixteen histograms of the full values is the most similar. By chance, one would be right.

# %% tags=["fold"]
patches = [photos[name][y1:y2, x1:x2] for name, boxes in BOXES.items()
           for x1, y1, x2, y2 in boxes.values()]

known = {}
for space in SPACES:
    full = [colours_of(patch, space) for patch in patches]
    dark = [colours_of(0.5 * patch, space) for patch in patches]
    shared = np.array([[np.minimum(a, b).sum() for b in full] for a in dark])
    known[space] = int((shared.argmax(1) == np.arange(len(patches))).sum())
claims.check("emp-colour-space-invariance.things",
             "With halved values {hsv} of {things} things are most similar to themselves in HSV, "
             "{lab} in Lab, {rgb} in RGB.", hsv=(known["HSV"], ">=", 14), things=things,
             lab=(known["Lab"], "<=", 8), rgb=(known["RGB"], "<=", 5))

# %% [markdown]
# **We now know** that no cue alone finds both, and that hue and saturation survive a common *factor* of R, G and B exactly (until the values are rounded to bytes). Value does not: it *is* the brightness.
# **This does not show** that the search finds more in HSV (it compares regions of one picture, mostly in one light), nor that HSV is the best space: a coloured lamp moves saturation, the hue of nearly grey or nearly black pixels is noise, and Lab is nearer to what we see as different. So the search uses both.
#
# **Exercise 20.2.** From RGB to HSV, one colour with values from 0 to 1. Value is the largest, saturation is (largest − smallest) / largest, or 0 for black. For the hue, with $d$ = largest − smallest: $(G − B)/d$ if red is largest, $2 + (B − R)/d$ if green is, $4 + (R − G)/d$ if blue is; divide by 6, and take the remainder modulo 1. Grey has hue 0.

# %%
def to_hsv(r, g, b):
    """(hue, saturation, value), each from 0 to 1."""
    ...

exercises.check("20.2", to_hsv)

# %% [markdown]
# ## 3 · All windows in one pass
#
# Proposals avoid windows. *OverFeat* (P. Sermanet and others, 2013) makes them cheap instead. Two neighbouring windows share most of their pixels, so a convolutional network computes most of its maps twice. Run the convolutions once over the whole picture; what is left is the fully connected layer behind them. But that is a convolution too, whose kernel is as large as the map of one window.

# %% tags=["define", "ledger:arch-overfeat"]
def classifier(padding):
    """Windows of 14 × 14 pixels -> 4 classes: two convolutions, then a fully connected layer."""
    side = 5 + 2 * padding  # 14 -> 10 -> pool 5; with padding 14 -> 14 -> pool 7
    body = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2 * padding), nn.ReLU(), nn.MaxPool2d(2))
    return body, nn.Linear(8 * side * side, 4), side

def as_convolution(linear, channels, side):
    """The same layer as a kernel of side × side pixels: it can move."""
    conv = nn.Conv2d(channels, linear.out_features, side)
    conv.weight.data = linear.weight.data.view(-1, channels, side, side)
    conv.bias.data = linear.bias.data
    return conv

# %% tags=["nbval-varies"]
with runtime.seeded(seed), torch.no_grad():
    for padding in (0, 1):
        body, linear, side = classifier(padding)
        moving = nn.Sequential(body, as_convolution(linear, 8, side))
        larger = torch.rand(1, 3, 16, 16)  # two pixels more than a window
        maps = moving(larger)  # (1, 4, 2, 2)
        crops = torch.cat([larger[:, :, y:y + 14, x:x + 14] for y in (0, 2) for x in (0, 2)])
        alone = linear(body(crops).flatten(1))  # (4 windows, 4 classes)
        difference = (maps.flatten(2)[0].T - alone).abs().max().item()
        print(f"padding {2 * padding}: one window {tuple(moving(crops[:1]).shape[2:])}, larger "
              f"picture {tuple(maps.shape[2:])}, largest difference {difference:.1e}")
        if padding == 0:
            exact, output_map = difference, tuple(maps.shape[2:])

# %% tags=["nbval-varies", "fold"]
body, linear, side = classifier(0)
moving = nn.Sequential(body, as_convolution(linear, 8, side))
work = [cost.table(moving, (3, pixels, pixels)).multiply_adds for pixels in (14, 16)]
claims.check("eq-sliding-window-detector",
             "Each output equals the classifier on the window that starts 2 pixels (the network's "
             "stride) further: the largest difference is {exact:.0e}, for {work:.2f} times the "
             "multiply-adds of one window. With zero padding in the convolution it is "
             "{padded:.2f}.", work=(work[1] / work[0], "~", 1.5, 0.1),
             exact=(exact, "<=", 1e-5), padded=(difference, ">", 0.01))
draw_overfeat_png()

# %% [markdown]
# Padding breaks the equality: a window of its own is padded with zeros at its edge, where the picture goes on.
#
# Now a real one. *P-Net*, the first network of *MTCNN* (K. Zhang and others, 2016), says for 12 × 12 pixels whether they are a face. It has three convolutions without padding and no fully connected layer at all, so a photograph gives a map of answers, one every 2 pixels. Larger faces are found in smaller copies of the picture, a *pyramid*. Its trained weights come with a package.

# %% tags=["define", "ledger:emp-sliding-window-detection-slow"]
pnet, rnet, onet = (make(pretrained=True).eval() for make in
                    (models.mtcnn.pnet, models.mtcnn.rnet, models.mtcnn.onet))

def moved(boxes, shift):
    """Boxes moved by what the network says, in widths and heights of each box."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes + shift * torch.cat([sides, sides], 1)

@torch.no_grad()
def propose(image, smallest, least=0.6, factor=0.709):
    """Boxes, their probabilities and the number of windows; image (1, 3, H, W)."""
    boxes, scores, seen, scale = [], [], 0, 12 / smallest
    while min(image.shape[2:]) * scale >= 12:
        size = [round(side * scale) for side in image.shape[2:]]
        found = pnet(F.interpolate(image, size, mode="area"))
        rows, columns = torch.where(found.probability[0] > least)
        corner = 2 * torch.stack([columns, rows], 1)  # one window every 2 pixels
        window = torch.cat([corner, corner + 12], 1)
        boxes.append(moved(window, found.box[0, :, rows, columns].T) / scale)
        scores.append(found.probability[0, rows, columns])
        seen, scale = seen + found.probability.numel(), scale * factor
    return torch.cat(boxes), torch.cat(scores), seen

# %%
exercises.predict("20.p4", "P-Net on 100 × 100 pixels in one pass, against each of its windows "
                  "alone: the multiply-adds are",
                  ("the same", "about 6 times fewer", "about 100 times fewer"))

# %%
astronaut = models.mtcnn.to_input(library["astronaut"])  # (1, 3, 512, 512), about -1 to 1
part = astronaut[:, :, 50:150, 170:270]
with torch.no_grad():
    answers = pnet(part).probability[0]  # (45, 45)
    crops = torch.cat([part[:, :, y:y + 12, x:x + 12] for y in range(0, 89, 2)
                       for x in range(0, 89, 2)])
    separate = pnet(crops).probability.flatten()
    faces, face_scores, window_count_here = propose(astronaut, smallest=20)
print(f"{len(crops):,} windows of the part; in the pyramid {window_count_here:,}, of which "
      f"{len(faces)} are above 0.6")

# %% tags=["nbval-varies", "fold"]
whole = cost.table(pnet, (3, 100, 100)).multiply_adds
saved = len(crops) * cost.table(pnet, (3, 12, 12)).multiply_adds / whole
exercises.reveal("20.p4", "the same" if saved < 2 else "about 6 times fewer" if saved < 30
                 else "about 100 times fewer", f"{saved:.1f} times fewer.")
claims.check("eq-sliding-window-detector.pnet",
             "The {windows:,} windows alone differ by {off:.0e} from the answers of one pass, "
             "which takes {saved:.1f} times fewer multiply-adds.",
             windows=(len(crops), "==", answers.numel()),
             off=((answers.flatten() - separate).abs().max().item(), "<=", 1e-4),
             saved=(saved, "~", 5.9, 0.3))
with torch.no_grad():
    places = [pnet.conv1(given)[0, 0].numel() for given in (crops[:1], part)]
claims.check("eq-sliding-window-detector.shared",
             "The first convolution works at {alone} places for a window alone and at "
             "{shared:.1f} for each window in one pass; the last ones at one, either way.",
             alone=(places[0], "==", 100), shared=(places[1] / answers.numel(), "<", 10))

# %% [markdown]
# Six and not a hundred: the early layers are shared by many windows, the last ones by none. The claim above counts places at which the first convolution works.
#
# P-Net is tiny and makes many mistakes. A *cascade* lets larger networks look again, but only at what is left: *R-Net* at 24 × 24 pixels, *O-Net* at 48 × 48, which also marks eyes, nose and mouth. Between them stands a rule that keeps one of several overlapping boxes; it is the subject of section 4.

# %% tags=["define", "fold"]
@torch.no_grad()
def look_again(network, image, boxes, least):
    """What a larger network keeps: boxes, probabilities, and what it found."""
    boxes = squared(boxes)
    if len(boxes) == 0:
        return boxes, boxes[:, 0], None
    found = network(cut(image, boxes, network.side))
    keep = found.probability > least
    marks = None
    if found.landmarks is not None:  # (N, 5, 2), in sides of the box
        sides = (boxes[:, 2:] - boxes[:, :2])[keep, None]
        marks = boxes[keep, None, :2] + found.landmarks[keep] * sides
    return moved(boxes, found.box)[keep], found.probability[keep], marks

def one_each(boxes, scores, limit=0.5):
    kept = torchvision.ops.nms(boxes, scores, limit)  # section 4
    return boxes[kept], scores[kept]

# %%
first, first_scores = one_each(faces, face_scores)
second, second_scores = one_each(*look_again(rnet, astronaut, first, 0.7)[:2])
third, third_scores, marks = look_again(onet, astronaut, second, 0.7)
print(window_count_here, "windows ->", len(faces), len(first), len(second), len(third))

# %% tags=["fold"]
draw_detector_then_recogniser()
scales = [12 / 20 * 0.709**level for level in range(10)]  # as many as propose visits
pixels = sum(round(512 * scale) ** 2 for scale in scales)
pyramid_work = whole * pixels / 100**2  # nearly: the work grows with the pixels
r_work, o_work = (cost.table(net, (3, net.side, net.side)).multiply_adds for net in (rnet, onet))
cascade = pyramid_work + len(first) * r_work + len(second) * o_work
claims.check("prac-detector-then-recogniser",
             "{windows:,} windows, {p} boxes above 0.6, {kept} after suppression, {r} after "
             "R-Net, {o} after O-Net. The cascade takes about {cascade:.0f} million "
             "multiply-adds (one pass of ResNet-18: {common:.0f} million); O-Net on every window, "
             "each cut out by itself, over {times:,d} times as many.", common=resnet / 1e6,
             windows=(window_count_here, "==", 42_721), p=len(faces), kept=(len(first), "<", 200),
             r=(len(second), "<", 20), o=(len(third), "==", 1),
             cascade=(cascade / 1e6, "<", resnet / 1e6),
             times=(int(window_count_here * o_work / cascade / 100) * 100, ">=", 500))
quiet = {}
for name in ("camera", "coffee", "chelsea", "rocket"):
    picture = models.mtcnn.to_input(library[name])
    some = one_each(*propose(picture, smallest=20)[:2])[0]
    some = one_each(*look_again(rnet, picture, some, 0.7)[:2])[0]
    quiet[name] = len(look_again(onet, picture, some, 0.7)[0])
claims.check("prac-detector-then-recogniser.others",
             "In three photographs without a face and one of a man seen from the side it finds "
             "{found}: the man is missed.", found=(sum(quiet.values()), "==", 0))

# %% [markdown]
# **We now know** that a network of convolutions without padding is a sliding window, to rounding; and that a cheap look first makes an expensive one affordable.
# **This does not show** that one pass always saves six times: it depends on window, stride and pooling. And P-Net has square windows of one size: other things need other shapes, or boxes that are moved further (lesson 21).
#
# **Exercise 20.3.** Which pixels does answer (row, column) of a fully convolutional network see? Given its layers as (kernel, stride), in order and without padding, return (x1, y1, x2, y2). P-Net is `[(3, 1), (2, 2), (3, 1), (3, 1), (1, 1)]`.

# %%
def seen_by(layers, row, column):
    """The window behind one answer, in pixels of the input; x2 and y2 are one past the last."""
    ...

exercises.check("20.3", seen_by)

# %% [markdown]
# ## 4 · One box a thing, and a score
#
# A detector answers many times for one face. *Non-maximum suppression* keeps the box with the highest score, drops all that overlap it by more than a limit, and goes on with what is left.

# %% tags=["define"]
def suppressed(boxes, scores, limit):
    """Places of the boxes that stay, best first."""
    order, kept = scores.argsort(descending=True, stable=True).tolist(), []
    while order:
        best = order.pop(0)
        kept.append(best)
        overlap = metrics.box_iou(boxes[[best]], boxes[order])[0].tolist()
        order = [place for place, share in zip(order, overlap, strict=True) if share <= limit]
    return kept

# %% [markdown]
# What is a second box on the same face worth? Nothing: it is an error. So a detection is *right* if its IoU with an object is at least 0.5 **and** nobody with a higher score has found that object. We walk down the list of detections, best score first. *Precision* is the share of right ones so far, *recall* the share of objects found so far. *Average precision* (AP) is the area under precision over recall, where precision counts as the best that is reached at this recall or a larger one.

# %% tags=["define"]
def matched(boxes, scores, objects, least=0.5):
    """For each detection, best score first: is it right?"""
    found, right = set(), []
    for overlap in metrics.box_iou(boxes[scores.argsort(descending=True, stable=True)], objects):
        which = int(overlap.argmax())
        good = overlap[which].item() >= least and which not in found
        found |= {which} if good else set()
        right.append(good)
    return np.array(right)

def precision_recall(right, positives):
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]  # from here on
    return best, hits / positives

def area(right, positives):
    best, _ = precision_recall(right, positives)
    return (best * right).sum() / positives  # each right one is a step of 1 / positives

# %% tags=["fold"]
stream = np.random.default_rng(seed)
differences = []
for _ in range(50):
    drawn = stream.random(30) < 0.4
    differences.append(abs(area(drawn, 15 + drawn.sum()) - metrics.average_precision(
        np.arange(30, 0, -1.0), drawn, int(15 + drawn.sum()))))
kept_here = suppressed(faces, face_scores, 0.5)
kept_there = torchvision.ops.nms(faces, face_scores, 0.5).tolist()
claims.check("eq-nms-iou-map.ap",
             "Right, wrong, right with two objects: 1 · ½ + ⅔ · ½ = {hand:.4f}. In 50 random "
             "lists the lines differ by {off:.0e} from metrics.average_precision. Of "
             "P-Net's {all} boxes suppression keeps {kept}, {same} of them as torchvision.ops.nms.",
             hand=(area(np.array([True, False, True]), 2), "~", 5 / 6, 1e-12),
             off=(max(differences), "<=", 1e-12), kept=len(kept_here), all=len(faces),
             same=(len(set(kept_here) & set(kept_there)), "==", len(kept_there)))

# %% [markdown]
# A test with many faces: a sheet of 200 small grey pictures from *Labeled Faces in the Wild*, 100 with a face and 100 without, enlarged three times. The picture's box counts as the object. (Faces of this set may have been among those that MTCNN was trained on; here it serves to compare stages, not to praise them.)

# %% tags=["fold"]
tiles = skimage.data.lfw_subset()  # 100 faces, then 100 without, (200, 25, 25)
order = np.random.default_rng(0).permutation(200)
zoomed = F.interpolate(torch.tensor(tiles[order]).float()[:, None], scale_factor=3, mode="bicubic")
sheet = zoomed.clamp(0, 1).view(10, 20, 75, 75).permute(0, 2, 1, 3).reshape(750, 1500)
sheet_input = models.mtcnn.to_input((sheet * 255).round().byte()[None].repeat(3, 1, 1))
rows, columns = np.divmod(np.flatnonzero(order < 100), 20)
face_boxes = 75.0 * torch.tensor(np.stack([columns, rows, columns + 1, rows + 1], 1))

# %%
exercises.predict("20.p5", "P-Net's boxes on the sheet have an AP of about 0.4. After suppression "
                  "alone, with the same network, it is", ("about 0.4", "about 0.6", "about 0.85"))

# %% tags=["nbval-varies"]
stages = {}
boxes, scores, sheet_windows = propose(sheet_input, smallest=37)
stages["P-Net"] = boxes, scores
kept = suppressed(boxes, scores, 0.5)
stages["P-Net, suppressed"] = boxes[kept], scores[kept]
boxes, scores, _ = look_again(rnet, sheet_input, boxes[kept], 0.7)
stages["R-Net"] = boxes, scores
kept = suppressed(boxes, scores, 0.5)
stages["R-Net, suppressed"] = boxes[kept], scores[kept]
stages["O-Net"] = look_again(onet, sheet_input, boxes[kept], 0.7)[:2]
ap = {}
for name, (boxes, scores) in stages.items():
    right = matched(boxes, scores, face_boxes)
    ap[name] = area(right, len(face_boxes))
    print(f"{name:18} {len(boxes):5} boxes, {right.sum():3} of 100 faces, AP {ap[name]:.3f}")

# %% tags=["nbval-varies", "fold"]
after = ap["P-Net, suppressed"]
exercises.reveal("20.p5", "about 0.4" if after < 0.5 else "about 0.6" if after < 0.72
                 else "about 0.85", f"AP {ap['P-Net']:.2f} before, {after:.2f} after.")
draw_nms_iou_map()
found_before, found_after = (int(matched(*stages[name], face_boxes).sum())
                             for name in ("P-Net", "P-Net, suppressed"))
claims.check("eq-nms-iou-map.sheet",
             "P-Net finds {before:d} of 100 faces in {many:,} boxes, AP {raw:.2f}. Suppression "
             "leaves {few} boxes and {after:d} faces, AP {better:.2f}. With R-Net and "
             "suppression: {r:.2f}; then O-Net: {o:.2f}.",
             before=(found_before, ">=", 95), many=len(stages["P-Net"][0]),
             raw=(ap["P-Net"], "<=", 0.5), few=len(stages["P-Net, suppressed"][0]),
             after=(found_after, "<=", found_before), better=(after, ">=", 0.75),
             r=(ap["R-Net, suppressed"], ">=", 0.95), o=(ap["O-Net"], "<", ap["R-Net, suppressed"]))
open_boxes, open_scores, _ = look_again(onet, sheet_input, stages["R-Net, suppressed"][0], 0.1)
open_right = matched(*one_each(open_boxes, open_scores), face_boxes)
claims.check("eq-nms-iou-map.threshold",
             "O-Net with a threshold of 0.7 keeps {few} faces, AP {low:.3f}; with 0.1 and "
             "suppression {more:d} faces, AP {high:.3f}.", low=ap["O-Net"],
             few=int(matched(*stages["O-Net"], face_boxes).sum()),
             more=int(open_right.sum()), high=(area(open_right, 100), ">", ap["O-Net"]))

# %% [markdown]
# Suppression finds *fewer* faces and scores far higher: nearly all wrong boxes lay on faces that had a right one too, as doubles or as boxes that fit badly. The last network does not raise AP here. A part of that is its threshold: with 0.1 in place of 0.7 it keeps more faces and has a higher AP (claim), since AP counts what is missing. The rest is a face or two of a hundred, too few to rank R-Net and O-Net.
#
# **We now know** what AP rewards: right boxes first, one a thing.
# **This does not show** that suppression is harmless: of two faces that overlap by more than the limit, one is lost. With several classes it is done for each; the mean of their APs is called *mAP*.
#
# **Exercise 20.4.** VOC 2007 took eleven points in place of the area: for each recall 0, 0.1, …, 1 the best precision at this recall or a larger one (0 if it is never reached), and the mean of the eleven. `right` is sorted, best score first. (Compare recalls with a slack of 1e-9: 0.3 is no exact number.)

# %%
def eleven_points(right, positives):
    """The average precision of VOC 2007."""
    ...

exercises.check("20.4", eleven_points)

# %% [markdown]
# ## 5 · One thing: class and box from one trunk
#
# If a picture holds just *one* thing, no search is needed. A network may say what it is, and where: four numbers. Such a network has a shared *trunk* of convolutions and two *heads*. We train on scenes of 24 × 24 pixels with one digit, 0 to 3, of any place and of heights from 10 to 16 pixels. Test digits come from other sheets than those of training, so probably from other hands (lesson 01: who wrote what is not recorded).

# %% tags=["define", "ledger:arch-class-loc-net"]
def block(inputs, outputs, stride=1):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
                         nn.BatchNorm2d(outputs), nn.ReLU())

class TwoHeads(nn.Module):
    def __init__(self, classes=4, numbers=4):
        super().__init__()
        self.trunk = nn.Sequential(block(3, 12, 2), block(12, 24), nn.MaxPool2d(2), block(24, 48))
        self.kind = nn.Linear(48, classes)  # what: the strongest answer of each channel
        self.place = nn.Linear(48 * 6 * 6, numbers)  # where: all places of all channels

    def forward(self, images):  # (N, 3, 24, 24)
        maps = self.trunk(images)  # (N, 48, 6, 6)
        return self.kind(maps.amax((2, 3))), self.place(maps.flatten(1))

# %% [markdown]
# The loss is a sum: cross-entropy for the class, and a squared error for the box, whose numbers are shares of the picture's side. They have no common unit, so there is a weight between them:
#
# $$L = L_\text{class} + \lambda\, L_\text{box}$$

# %% tags=["define"]
def fit(network, number, places, weight, steps, class_weight=1.0):
    """Train both heads with Adam; the learning rate rises to 0.01 and falls again."""
    torch.manual_seed(number)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    for _ in range(steps):
        batch = torch.randint(0, len(x), (32,))
        logits, numbers = network.train()(x[batch])
        loss = (class_weight * F.cross_entropy(logits, labels[batch])
                + weight * F.mse_loss(numbers, places[batch]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()

# %% tags=["fold"]
x, labels, boxes_true, points_true = single_scenes(images, True)
xt, labels_t, boxes_t, points_t = single_scenes(400, False)

blind = metrics.box_iou(boxes_true.mean(0)[None], boxes_t).mean().item()  # the mean training box

# %%
exercises.predict("20.p6", "The box's loss gets a weight of 1000. What suffers, after as many "
                  "steps?", ("the class", "the box", "neither"))

# %% tags=["nbval-varies"]
nets = {weight: [fit(built(number), number, boxes_true, weight, steps) for number in seeds]
        for weight in box_weights}
scores = {weight: np.array([score(net) for net in group]) for weight, group in nets.items()}
for weight, values in scores.items():
    print(f"weight {weight:6}: accuracy {values[:, 0].mean():.2f}, IoU {values[:, 1].mean():.2f}")
print(f"always the mean training box: IoU {blind:.2f}")

# %% tags=["fold"]
low, middle_weight, high = box_weights[0], box_weights[len(box_weights) // 2], box_weights[-1]
drops = {"the class": scores[middle_weight][:, 0].mean() - scores[high][:, 0].mean(),
         "the box": scores[middle_weight][:, 1].mean() - scores[high][:, 1].mean()}
worst = max(drops, key=drops.get)
exercises.reveal("20.p6", worst if drops[worst] > 0.05 else "neither",
                 f"From weight {middle_weight:g} to {high:g} the accuracy changes by "
                 f"{-drops['the class']:+.2f}, the IoU by {-drops['the box']:+.2f}.")
draw_localisation_loss()

# %% tags=["nbval-varies", "fold"]
with runtime.seeded(seed):
    fresh = TwoHeads()
    logits, numbers = fresh(x[:256])
lengths = []
for loss in (F.cross_entropy(logits, labels[:256]), F.mse_loss(numbers, boxes_true[:256])):
    grads = torch.autograd.grad(loss, list(fresh.trunk.parameters()), retain_graph=True)
    lengths.append(torch.cat([grad.flatten() for grad in grads]).norm().item())
claims.check("eq-localisation-loss",
             "Weight {low:g}: accuracy {low_class:.2f}, IoU {low_box:.2f}; weight {middle:g}: "
             "{class_right:.2f} and {box_right:.2f}; weight {high:g}: {high_class:.2f} and "
             "{high_box:.2f}. Before the first step the trunk's gradient from the class is "
             "{ratio:.1f} times as long as that from the box.",
             low=low, middle=middle_weight, high=high,
             low_class=(scores[low][:, 0].tolist(), ">=", 0.85),
             low_box=(scores[low][:, 1].tolist(), "<=", 0.5),
             class_right=(scores[middle_weight][:, 0].tolist(), ">=", 0.75),
             box_right=(scores[middle_weight][:, 1].tolist(), ">=", 0.42),
             high_class=(scores[high][:, 0].tolist(), "<=", 0.6),
             high_box=scores[high][:, 1].tolist(), ratio=lengths[0] / lengths[1],
             seeds=seeds, on="every")
claims.check("emp-local-regression-works",
             "With weight {middle:g} one network names {accuracy:.0%} of the test digits and "
             "boxes them with a mean IoU of {fit:.2f}; the mean training box has {blind:.2f}.",
             middle=middle_weight, accuracy=(scores[middle_weight][:, 0].tolist(), ">=", 0.75),
             fit=(scores[middle_weight][:, 1].tolist(), ">=", blind + 0.2), blind=blind,
             seeds=seeds, on="every")
best_net = nets[middle_weight][0]
with torch.no_grad():
    logits, numbers = best_net(xt[:6])
draw_localisation_heads()

# %% [markdown]
# Only the *balance* of the two losses was changed: Adam's steps do not grow when the whole loss is multiplied (lesson 09).
#
# The same works for any few numbers. Four *points* of each digit, its highest, lowest, leftmost and rightmost, are eight numbers: DeepPose (2013) predicted the joints of a person like that. And does a trunk that already knows the classes learn boxes sooner?

# %% tags=["nbval-varies", "fold"]
posers = [fit(built(number, 8), number, points_true, 1.0, steps * 2 // 3, 0.0) for number in seeds]
with torch.no_grad():
    pose = [near(net(xt)[1]) for net in posers]
pose_blind = near(points_true.mean(0).expand_as(points_t))
claims.check("prac-cnn-regression",
             "The predicted box's centre is {error:.2f} pixels off across or down, on average.",
             error=([centre_error(net) for net in nets[middle_weight]], "<", 2), seeds=seeds,
             on="every")
claims.check("prac-pose-as-regression",
             "After {count:d} steps {near:.0%} of the extreme points are predicted within 2 "
             "pixels; at their mean places {blind:.0%} would be.", count=steps * 2 // 3,
             near=(pose, ">=", 0.25), blind=pose_blind, seeds=seeds, on="every")
short = max(steps // 3, 20)
arms = {"new": [], "trained for classes": []}
for net, number in zip(nets[low], seeds, strict=True):
    start = built(number + 50)
    arms["new"].append(score(fit(start, number, boxes_true, middle_weight, short)))
    start = built(number + 50)
    start.trunk.load_state_dict(net.trunk.state_dict())
    start.kind.load_state_dict(net.kind.state_dict())
    arms["trained for classes"].append(score(fit(start, number, boxes_true, middle_weight, short)))
new, trained = (np.array(values) for values in arms.values())
claims.check("emp-multitask-pretraining",
             "After {short} steps with both losses: a trunk and class head trained before (weight "
             "{low:g}) have an accuracy of {before:.2f}, new ones {new:.2f}; the boxes' IoU is "
             "{box:.2f} and {box_new:.2f}, so {lead:+.2f} for the earlier training.", short=short,
             low=low, box=trained[:, 1].tolist(), before=(trained[:, 0].tolist(), ">=", 0.75),
             new=(new[:, 0].tolist(), "<=", 0.7), box_new=new[:, 1].tolist(),
             lead=((trained - new)[:, 1].tolist(), "<=", 0.05), seeds=seeds, on="every")

# %% [markdown]
# **We now know** that class and place can be learned together, and that in so many steps the weight between the losses decides which of the two is learned well.
# **This does not show** that an earlier training for *classes* helps the *box*: here it did not. (That the class is ahead is no surprise: its head had been trained for all those steps before. A trunk trained on a million photographs is another matter; lesson 16.) And it holds for one thing a picture: with two, which one should the four numbers be?
#
# **Exercise 20.5.** With K things in a picture and K predicted boxes the order must not matter. Return the smallest mean squared error over all orders of the true boxes, for `predicted` and `true` of shape (K, 4).

# %%
def error_of_set(predicted, true):
    """Mean squared error for the best order of the true boxes."""
    ...

exercises.check("20.5", error_of_set)

# %% [markdown]
# ## In practice
#
# - Overlap and suppression: `torchvision.ops.box_iou`, `torchvision.ops.batched_nms` (for each class its own); scores: `torchmetrics` or `pycocotools` (COCO takes the mean over IoU 0.5, 0.55, …, 0.95).
# - Regions: `skimage.segmentation.felzenszwalb`, `slic`; selective search ships in OpenCV's contributed modules.
# - Boxes are regressed with `F.smooth_l1_loss` or `torchvision.ops.complete_box_iou_loss`, seldom with a plain squared error.
# - One thing a picture, always there: two heads are enough. Few, cheap to tell from the ground: a cascade. Everything else: a detector (lesson 21).
# - Fully connected layers over larger pictures: turn them into convolutions, or replace them by the mean over all places (lesson 13).
#
# ## History
#
# - 2001: P. Viola and M. Jones find faces with a cascade of windows. 2005: N. Dalal and B. Triggs, histograms of gradients for people.
# - 2004: P. Felzenszwalb and D. Huttenlocher, *Efficient graph-based image segmentation*.
# - 2011: K. van de Sande, J. Uijlings, T. Gevers and A. Smeulders, segmentation as selective search (1,536 boxes a picture); 2013: the version with several strategies.
# - December 2013: OverFeat; it won the localisation task of ILSVRC 2013. November 2013: R-CNN, on boxes of selective search.
# - 2016: MTCNN (K. Zhang, Z. Zhang, Z. Li, Y. Qiao). 2015: Faster R-CNN lets the network propose (lesson 21).
#
# ## Exercises that are left
#
# **20.6 Open.** A factory's camera sees one bottle at a time, always upright, on a moving belt; a drone sees sheep on a meadow, a hundred at a time. Choose a method of this lesson for each, and say which number you would measure first.
#
# **20.7 Open.** Look again at the curves of "A hundred proposals do what two thousand windows do". Name two things that they do *not* show. (Who drew the boxes? IoU 0.7? Which windows? What happens after?)
#
# ## Summary
#
# - IoU says how well a box fits; recall says what share of things a set of boxes covers.
# - Merging similar neighbours gives boxes of any shape; on four photographs a hundred of them in each covered what takes one to two and a half thousand windows. No single cue found both kitten and chameleon.
# - Halving R, G and B leaves hue and saturation as they are, and no other channel of RGB, HSV or Lab.
# - Convolutions without padding *are* a sliding window. A cascade spends its expensive networks on what is left.
# - Suppression removes further boxes on the same thing, doubles and bad fits; AP counts them as errors, and doubled here when most were gone.
# - Class and box share a trunk; the weight between their losses must be chosen.

# %% [markdown]
# ## Also in the lectures
#
# The first notes classify the whole picture: six blocks of two convolutions, BatchNorm and ReLU with a pooling each, then three fully connected layers. What stands before them depends on the size of the picture.

# %% tags=["fold", "ledger:arch-global-classification", "ledger:err-seed000-2048x4x4"]
rows = {}
for side, expected in ((256, 230_603_048), (224, 171_882_792)):
    table = cost.table(global_classifier(side), (3, side, side))
    parts = {row.name: row.output_shape for row in table.grouped(1).rows}
    rows[f"{side} × {side}"] = ((parts["0"], table.parameters),
                                ((2048, side // 64, side // 64), expected))
claims.table("num-seed000-global-2048x4x4", "Maps before the dense layers, and parameters.",
             rows, columns=("picture", "counted", "expected"))

claims.table("arch-overfeat", "Parameters of OverFeat, its dense layers as convolutions.",
             {"accurate": (overfeat_parameters(ACCURATE), 144_656_488),
              "fast": (overfeat_parameters(QUICK), 145_920_872)},
             columns=("model", "counted", "expected"))

# %% [markdown] tags=["ledger:prac-detection-progression", "ledger:err-loss-linear-l2", "ledger:err-hsv-value-invariant", "ledger:err-proposal-count", "ledger:err-imagenet-number-classes"]
# | what is in the picture | what to run | passes of a network | what it cannot do |
# |---|---|---|---|
# | one thing, fills it | global classification | 1 | say where |
# | one thing, somewhere | class and box, one trunk (section 5) | 1 | a second thing |
# | many of one shape | sliding window as a convolution, pyramid (section 3) | 1 a scale | odd shapes |
# | many of any shape | proposals, then a classifier (section 1, lesson 21) | 1 a proposal, or 1 | things that do not stand out |
# | which pixels? | segmentation (lesson 19) | 1 | tell touching things apart |
#
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | value (of HSV) is insensitive to brightness changes | value is the brightness: with R, G and B halved it is halved. Hue and saturation are what stays | section 2 |
# | Lab is somewhat invariant to changes in brightness | L is not; a and b shrink with the light as well | section 2 |
# | regression (linear loss) for the box; loss = softmax loss + L2 loss | the box's loss is a squared error, not linear, and the two are weighted: in our 200 steps, with too small or too large a weight one of them was hardly learned | section 5 |
# | often the first layers are pretrained | usual for trunks trained on ImageNet; in our small test it did not help the box | section 5 |
# | selective search gives 1000 proposals (004), about 2,000 (003) | both numbers are in use: it depends on the strategies; R-CNN used about 2,000 | section 1; Uijlings et al.; Girshick et al. |
# | a batch of (2048, 4, 4) before the dense layers | for pictures of 256 × 256 pixels (to 319); at 224 it is 3 × 3 | "Also in the lectures" |
# | "one or mode different" objects | one or more | a slip of the pen |
#
# ## Sources
#
# - The notes: lectures 000 (localisation), 003 (regression, object recognition, selective search) and 004 (localisation and detection).
# - Felzenszwalb, Huttenlocher: Efficient graph-based image segmentation, International Journal of Computer Vision 59, 2004.
# - van de Sande, Uijlings, Gevers, Smeulders: Segmentation as selective search for object recognition, ICCV 2011. Uijlings, van de Sande, Gevers, Smeulders: Selective search for object recognition, International Journal of Computer Vision 104, 2013 (kittens, chameleon and car are its figure 1).
# - Sermanet et al.: OverFeat, arXiv:1312.6229. Girshick et al.: Rich feature hierarchies, arXiv:1311.2524. Ren et al.: Faster R-CNN, arXiv:1506.01497.
# - Zhang, Zhang, Li, Qiao: Joint face detection and alignment using multitask cascaded convolutional networks, arXiv:1604.02878; weights: package facenet-pytorch.
# - Toshev, Szegedy: DeepPose, arXiv:1312.4659. Everingham et al.: The PASCAL visual object classes challenge: a retrospective, 2015.
# - Viola, Jones: Rapid object detection using a boosted cascade of simple features, CVPR 2001. Dalal, Triggs: Histograms of oriented gradients for human detection, CVPR 2005.
