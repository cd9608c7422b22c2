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
# # 03 · Backprop and computational graphs
# ### How does one number at the end tell every weight what to do?
#
# A network answers, and one number, the loss, says how wrong the answer was. Each of a million weights now has to know: up or down, and how urgently?
# The plain way is to ask them one by one: nudge a weight, run the whole network again, see whether the loss moved. That is a million runs for one step of learning.
# The first figure shows what it costs to tell *all* of them at once: counted in multiplications, less than three runs, however many weights there are.
# This lesson finds out how that is possible.
#
# **You will be able to**
# - compute the slopes of any formula by hand, backwards through its graph;
# - extend an autograd (the part of torch that finds slopes) of about 40 lines, and say why it is cheap;
# - mend and write `backward` for layers, and carry it on to the input of a network;
# - find a wrong gradient, also where the network learns in spite of it.
#
# **You need** the slope (derivative) of a function of one number, products of matrices, and from lesson 02 the softmax loss, *probability minus truth*, and steps against the slope.
#
# **Words.** The *slope* of $f$ for $x$ is by how much $f$ moves, for each unit that $x$ moves: $df/dx$. The *gradient* is the list of all slopes of one number.
# A *pass* is one run of a network, from pictures to loss. A *step* is one step of gradient descent; what a formula is made of, sums and products, are *operations*.
# A line that begins with ✓ is a *claim*: the code above measured its numbers, and the lesson stops if they are not as required.
# Claims are made for the parameters below; with others the lesson shows what it measures and requires nothing.
#
# **It costs** about 35 seconds of one processor core, no network connection, no GPU.

# %% tags=["parameters"]
seed: int = 0  # of everything drawn at random; at least 0
points: int = 100  # points on each arm of the spiral; 20 to 1000
hidden: int = 64  # units in the hidden layer of the spiral's networks; 4 to 512
steps: int = 1000  # of gradient descent on the spiral; 100 to 20000
rate: float = 1.0  # learning rate: how far a step goes; above 0, at most 3
runs: int = 3  # networks for each comparison, with points and weights of their own; 2 to 20
dataset: str = "digits"  # from the end of section 3 on; one of digits, mnist, fashion_mnist
pictures: int = 1347  # training pictures, at most; 100 to 60000
units: int = 24  # hidden units in the networks of sections 4 to 6 that read pictures; 2 to 256
picture_steps: int = 200  # of gradient descent on the pictures; 10 to 5000
picture_rate: float = 0.45  # learning rate on the pictures; above 0, at most 3

# %% tags=["imports", "fold"]
import copy
import math
import timeit

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from cnncourse import claims, data, exercises, figures, plots, runtime, widgets

# %% tags=["define", "fold"]
WIDTHS = 2, 8, 32, 128, 512, 1024  # units a layer, first figure
BACK, ASK = "C3", "C1"  # colours: slopes that come backwards; slopes by asking one by one
LOCAL = "C2"  # slopes of single operations
LARGE = {"fontsize": 14}

def torch_network(width):
    """64 numbers, two hidden layers of `width` units, ten scores."""
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                         nn.Linear(width, 10))

def multiplications(call):
    """Multiplications in the matrix products of a call, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() // 2  # it counts additions, too

def seconds(function, repeats=3):
    """The fastest of a few calls."""
    return min(timeit.repeat(function, number=1, repeat=repeats))

def one_pass(network, ask_rows=False):
    """From rows to loss, with torch; the slopes of the rows are asked for, too, if ask_rows."""
    rows, labels = torch.rand(256, 64, requires_grad=ask_rows), torch.randint(10, (256,))
    return functional.cross_entropy(network(rows), labels)

def cost_in_passes(network, ask_rows=False):
    """Multiplications for the slopes of all weights, in those of one pass."""
    forward = multiplications(lambda: one_pass(network))
    return multiplications(lambda: one_pass(network, ask_rows).backward()) / forward

def places(last):
    """Where to draw each node: {node: (column, row)}; parts left of what is made of them."""
    order, column, row, inputs = in_order(last, {}), {}, {}, 0
    for node in order:
        column[node] = 1 + max((column[part] for part in node.parts), default=-1)
    for node in reversed(order):
        if not node.parts:  # an input stands close to its first use
            column[node] = min(column[user] for user in order if node in user.parts) - 1
    for node in order:
        rows = [row[part] for part in node.parts]
        row[node] = sum(rows) / len(rows) if rows else -inputs
        inputs += not node.parts
    return {node: (column[node], row[node]) for node in order}

def edges(last):
    """How often backward multiplies: once for each part of each node."""
    return sum(len(node.parts) for node in in_order(last, {}))

def backward_overwriting(last):
    """backward with = in place of +=: the way visited last wins."""
    order = in_order(last, {})
    last.grad = 1.0
    for node in reversed(order):
        for part, slope in zip(node.parts, node.slopes, strict=True):
            part.grad = slope * node.grad

def forks_in_a_row(count):
    """x, then count times: the number so far plus its sigmoid."""
    node = first = Node(0.1)
    for _ in range(count):
        node = node + sigmoid(node)  # two ways from here to the last one
    return node, first

def neuron_at(value):
    """The neuron of section 1 with another w0, and nothing else changed."""
    return sigmoid(Node(value * -1.0 + 6.0 - 3.0)).value

def neuron_in_float32(value):
    """The same with numbers of 7 digits."""
    return np.float32(1) / (np.float32(1) + np.exp(np.float32(value) - np.float32(3)))

def ranges(runs):
    """The runs of each name; one of them where all are equal, which has no range to draw."""
    return {name: values if max(values) > min(values) else values[:1]
            for name, values in runs.items()}

def short(number):
    """Whole numbers as they are, others with two digits behind the point."""
    return f"{number:{'.0f' if number == round(number) else '.2f'}}".replace("-", "−")

def draw_graph(ax, last, fontsize=13):
    """A graph: values above the nodes (left of the inputs), slopes of the end below them, and
    on each edge the slope of that one operation."""
    place, numbers = places(last), {"fontsize": fontsize, "fontweight": "bold", "va": "center"}
    for node, (column, row) in place.items():
        for part, slope in zip(node.parts, node.slopes, strict=True):
            before, height = place[part]
            free = [(1.05 + 0.3 * len(each.name)) * fontsize for each in (part, node)]  # points
            ax.annotate("", (column, row), place[part],
                        arrowprops={"arrowstyle": "-|>", "color": "0.6", "lw": 1.5,
                                    "shrinkA": free[0], "shrinkB": free[1]})
            level = height == row  # then the number stands above its edge, else on it
            ax.annotate(short(slope), ((before + column) / 2, (height + row) / 2),
                        (0, 0.75 * fontsize if level else 0), textcoords="offset points",
                        ha="center", va="center", color=LOCAL, fontsize=fontsize,
                        bbox=None if level else {"fc": "white", "ec": "none", "pad": 1})
        ax.text(column, row, node.name, ha="center", va="center", fontsize=fontsize + 1,
                bbox={"boxstyle": "round", "fc": "white" if node.parts else "0.93", "ec": "0.4",
                      "pad": 0.3})
        for number, side, colour in ((node.value, 1, "C0"), (node.grad, -1, BACK)):
            if node.parts:
                shift = 1.75 * fontsize * side
                ax.annotate(short(number), (column, row), (0, shift), ha="center", color=colour,
                            textcoords="offset points", **numbers)
            else:
                shift = -1.4 * fontsize, 0.62 * fontsize * side
                ax.annotate(short(number), (column, row), shift, ha="right", color=colour,
                            textcoords="offset points", **numbers)
    columns, rows = zip(*place.values(), strict=True)
    ax.set(xlim=(min(columns) - 0.7, max(columns) + 0.4), ylim=(min(rows) - 0.8, 0.6))
    ax.axis("off")
    for text, at, colour, side in (("values, forward →", 0.0, "C0", "left"),
                                   ("slopes of one operation", 0.46, LOCAL, "center"),
                                   ("← slopes of the end, backward", 1.0, BACK, "right")):
        ax.text(at, 0.0, text, color=colour, ha=side, va="bottom", transform=ax.transAxes,
                fontsize=fontsize)

def draw_neuron(ax, weights):
    """Two inputs, their weights as lines as thick as they are large, the sum and the bend."""
    for row, weight in enumerate(weights):
        ax.plot((0.1, 1), (-row, -0.5), color="C1", linewidth=2 * weight, zorder=1)
        ax.text(0.48, -0.19 - 0.62 * row, f"w{row} = {weight}", ha="center", va="center",
                color="C1", bbox={"fc": "white", "ec": "none", "pad": 1}, fontsize=14)
        ax.text(0, -row, f"x{row}", ha="center", va="center", fontsize=14,
                bbox={"boxstyle": "round", "fc": "0.93", "ec": "0.4"})
    ax.annotate("", (2.0, -0.5), (1.2, -0.5), arrowprops={"arrowstyle": "-|>", "lw": 2})
    ax.text(1.05, -0.5, "Σ, bend", ha="center", va="center", fontsize=14,
            bbox={"boxstyle": "circle", "fc": "white", "ec": "0.2"})
    ax.set(xlim=(-0.2, 2.05), ylim=(-1.3, 0.3))
    ax.axis("off")

def draw_answers(ax, degrees, response, own):
    """What a neuron answers to inputs of all directions, and the direction of its weights."""
    ax.plot(degrees, response, color="C2")
    ax.axvline(own, color="C1", linestyle=":")
    ax.text(own - 8, 3.6, "direction of w", color="C1", ha="right", fontsize=14)
    ax.set(xlabel="direction of the input (degrees)", ylabel="answer, max(0, w · x)",
           xticks=(-180, -90, 0, 90, 180), ylim=(0, 3.9))

def draw_ways(ax, forks, walked, visited):
    """Products for one slope over the number of forks, way by way and by backprop."""
    ax.set(yscale="log", xlabel="forks in a row", ylabel="products", ylim=(1, 1e6),
           xlim=(0.5, 16.5))
    ax.minorticks_off()
    ax.plot(forks, walked, "o-", color=ASK)
    ax.plot(forks, visited, "s-", color=BACK)
    ax.text(11, walked[10] * 2.5, "each way by itself", color=ASK, ha="right", **LARGE)
    ax.text(11, visited[10] * 2, "backprop", color=BACK, **LARGE)

def draw_errors(ax, nudges, one_side, central, coarse, in_32):
    """Errors of differences over the nudge: to one side, central, central in float32."""
    ax.set(xscale="log", yscale="log", xlabel="larger ←   nudge h   → smaller",
           ylabel="relative error of the slope", ylim=(1e-13, 3))
    ax.invert_xaxis()
    ax.plot(nudges, np.maximum(one_side, 1e-13), "o-", color="C1", markersize=4)
    ax.plot(nudges, np.maximum(central, 1e-13), "s-", color="C0", markersize=4)
    ax.plot(coarse, in_32, "^--", color="C2", markersize=4)
    ax.text(1e-6, 4e-6, "one side: h", color="C1", fontsize=14)
    ax.text(0.08, 1e-10, "central: h²", color="C0", fontsize=14)
    ax.text(1.2e-7, 0.3, "central, float32", color="C2", fontsize=14, va="center")
    ax.plot(nudges[10:], 1e-16 / nudges[10:], ":", color="0.4")
    ax.text(3e-10, 1e-9, "dotted: 1/h, rounding", color="0.4", fontsize=14)

def draw_check(left, right, shown, checked):
    """Bars of what was learned; beside them the errors in the gradient check."""
    names = list(shown)  # first the right gradient, at last the yardstick
    colours = dict.fromkeys(names, "C1") | {names[0]: "C0", names[-1]: "0.7"}
    plots.bars(left, ranges(shown), horizontal=True, format="{:.2f}", colours=colours)
    left.axvline(0.1, color="0.13", linewidth=1.5, linestyle=":")
    left.set(xlabel="test pictures right\n(dotted: guessing)", xlim=(0, 1.3))
    left.set_xticks([0, 0.5, 1])
    for place, (name, error) in enumerate(checked.items()):
        right.plot((1e-13, error), (place, place), color=colours[name], linewidth=2)
        right.plot(error, place, "o", color=colours[name], markersize=9)
    right.axvline(1e-7, color="0.13", linewidth=1.5, linestyle=":")
    for word, at, side in (("passes", 3e-8, "right"), ("fails", 3e-7, "left")):
        right.text(at, len(names) - 1, word, ha=side, va="center", fontsize=14)
    right.set(xscale="log", xlim=(1e-13, 10), xlabel="error in the\ngradient check")
    right.set_xticks([1e-12, 1e-6, 1])
    right.tick_params(axis="y", length=0)

def draw_alignment(ax, cosines, labels):
    """How well the slopes sent back point the right way: mean of the runs, every fifth step."""
    for runs_of_steps, label, colour, shift in zip(cosines, labels, ("C1", "C2", "0.4"),
                                                   (0.13, -0.28, -0.28), strict=True):
        mean = runs_of_steps.mean(axis=0)  # over the runs
        ax.plot(np.arange(0, len(mean), 5), mean[::5], color=colour, linewidth=1.5)
        ax.text(len(mean), mean[-20:].mean() + shift, label, color=colour, ha="right",
                va="center", fontsize=14)
    ax.axhline(0, color="0.13", linewidth=1.5, linestyle=":")
    ax.set(xlabel="step", ylabel="cosine with the right slopes", ylim=(-0.48, 1))

def print_hierarchy(network):
    """The network, its layers, their neurons, the operations of one."""
    layers = [gate.weights[0].shape for gate in network.gates if gate.weights]
    total = sum(each.size for gate in network.gates for each in gate.weights)
    print(f"network: {len(layers)} layers, {total} weights and offsets")
    for number, (inputs, outputs) in enumerate(layers, 1):
        operations = "× " * inputs if inputs < 5 else f"{inputs} times ×, "
        operations += "+ " * inputs if inputs < 5 else f"{inputs} times +"
        bend = "max" if number < len(layers) else ""
        print(f"  layer {number}: {outputs} neurons, each of the operations {operations}{bend}")

def random_graph(number, count=40):
    """The same random operations, our nodes and torch: two lists of inputs, two ends."""
    random = np.random.default_rng([seed, number])
    values = random.normal(size=4)
    ours = [Node(float(value)) for value in values]
    theirs = [torch.tensor(value, requires_grad=True) for value in values]
    mine, torchs = list(ours), list(theirs)
    for _ in range(count):
        kind, i, j = random.integers(5), *random.integers(len(mine), size=2)
        a, b, c, d = mine[i], mine[j], torchs[i], torchs[j]
        if kind == 0:
            mine.append(a + b), torchs.append(c + d)
        elif kind == 1:
            mine.append(sigmoid(a) * b), torchs.append(torch.sigmoid(c) * d)
        elif kind == 2:
            mine.append(exp(times(sigmoid(a), -1))), torchs.append(torch.exp(-torch.sigmoid(c)))
        elif kind == 3:
            mine.append(one_over(plus(a * a, 1))), torchs.append(1 / (c * c + 1))
        else:
            mine.append(times(a, 0.5) + times(b, -0.5)), torchs.append(0.5 * c - 0.5 * d)
    for extra, more in zip(mine[4:-1], torchs[4:-1], strict=True):  # the end uses all of them
        mine[-1], torchs[-1] = mine[-1] + extra, torchs[-1] + more
    return ours, mine[-1], theirs, torchs[-1]

def pixels(pictures):
    """A set of pictures as rows of numbers from 0 to 1, and their labels."""
    return pictures.images.flatten(1).double().numpy() / 255, pictures.labels.numpy()

def accuracy(network, x, labels):
    return (network.forward(x).argmax(axis=1) == labels).mean()

def spiral(points, random, arms=3):
    """Points (arms * points, 2) on arms that wind around the middle, and their arms' numbers."""
    radius = np.tile(np.linspace(0.1, 1, points), arms)
    labels = np.repeat(np.arange(arms), points)
    angle = 4 * (labels + radius) + random.normal(0, 0.2, len(labels))  # radians
    return np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1), labels

def torch_slopes(network, x, labels):
    """The gradient by torch's autograd for a copy of our network, in our order."""
    layers, places = [], []
    for gate in network.gates:
        if gate.weights:
            W, b = (torch.tensor(each) for each in gate.weights)
            layer = nn.Linear(*W.shape)
            layer.weight.data, layer.bias.data = W.T.clone(), b.clone()
            places += [layer.weight, layer.bias]
        layers.append(layer if gate.weights else nn.ReLU())
    scores = nn.Sequential(*layers)(torch.tensor(x))
    slopes = torch.autograd.grad(functional.cross_entropy(scores, torch.tensor(labels)), places)
    return [slope.numpy().T for slope in slopes]  # a vector is its own transpose

def our_slopes(network, x, labels):
    loss = SoftmaxLoss()
    loss.forward(network.forward(x), labels)
    network.backward(loss.backward())
    return [grad for gate in network.gates for grad in gate.grads]

def fresh_accuracy(make, number, rate):
    """Train make(random) on one spiral; accuracy on new points of the same arms."""
    random = np.random.default_rng([seed, 4, number])
    known, fresh = spiral(points, random), spiral(points, random)
    net = make(random)
    train(net, *known, steps, rate)
    return accuracy(net, *fresh)

# %% tags=["fold"]
runtime.start(seed=seed, dtype="float64")
figures.use_style()
nets = [torch_network(width) for width in WIDTHS]
counts = [sum(weights.numel() for weights in net.parameters()) for net in nets]
by_backprop = [cost_in_passes(net) for net in nets]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.2))
ax.set(xscale="log", yscale="log", xlabel="weights in the network", ylim=(0.7, 5e6))
ax.set_ylabel("multiplications for all\nslopes, in passes")
ax.minorticks_off()
ax.plot(counts, np.add(counts, 1), "o-", color=ASK)
ax.plot(counts, by_backprop, "s-", color=BACK)
ax.text(counts[-1] / 4, counts[-1], "one weight at a time", color=ASK, ha="right", **LARGE)
ax.text(counts[-1] / 4, 6, f"backprop: {by_backprop[0]:.1f} to {by_backprop[-1]:.1f}", color=BACK,
        ha="right", **LARGE)
ax.set_title("A million slopes for the price of three passes")
figures.save(fig, "emp-numeric-gradient-slow-accurate",
             caption="Multiplications for the slopes of all weights, in those of one pass: nudging "
                     "one weight after the other (a pass for each, and one without a nudge), and "
                     "by backprop (counted). Networks 64-w-w-10, 256 rows.",
             alt="Asking weight by weight costs as many passes as there are weights, up to a "
                 "million; backprop stays below three.")
with_rows = [cost_in_passes(net, ask_rows=True) for net in nets]
clock = seconds(lambda: one_pass(nets[-1]).backward()) / seconds(lambda: one_pass(nets[-1]))
claims.check("emp-numeric-gradient-slow-accurate.cost",
             "Backprop finds all {count:,} slopes for the multiplications of {passes:.2f} passes. "
             "By the clock, which counts all the rest, too: {clock:.1f} passes here.",
             count=counts[-1], passes=(max(by_backprop), "<=", 3),
             clock=clock, varies=True)

# %% [markdown]
# ## 1 · Backwards through a formula
#
# Take $f(x, y, z) = (x + y)\,z$ at $x = -2$, $y = 5$, $z = -4$. So $f = -12$.

# %%
exercises.predict("03.p1", "x grows a little, from −2 towards 0. Then f:",
                  ("falls", "stays", "rises"))

# %%
def f(x, y, z):
    return (x + y) * z

h = 0.001  # ask it: nudge x by h, compute everything again, divide what happened by h
asked_x = (f(-2 + h, 5, -4) - f(-2, 5, -4)) / h
exercises.reveal("03.p1", "falls" if asked_x < -0.5 else "rises" if asked_x > 0.5
                 else "stays", f"The slope of f for x is {asked_x:.3f}.")

# %% [markdown]
# The same for $y$ and for $z$: three questions, three new computations of $f$. Now without asking.
#
# Break $f$ into single operations: $q = x + y$, then $f = q z$. Each alone has slopes that one knows by heart:
#
# - a sum moves as much as each of its parts: $dq/dx = 1$, $dq/dy = 1$;
# - a product moves by the *other* factor: $df/dq = z = -4$, $df/dz = q = 3$.
#
# And along a chain slopes multiply: if $f$ moves by −4 for each unit of $q$, and $q$ by 1 for each unit of $x$, then $f$ moves by −4 · 1 for each unit of $x$. That is the **chain rule**, $\frac{df}{dx} = \frac{df}{dq}\,\frac{dq}{dx}$.
#
# So let each number remember what it was made of, its *parts*, and the slopes of that one operation.
# Such a number is a **node**. An arrow from each part to what is made of it is an *edge*; nodes and edges are the **computational graph**.

# %% tags=["define", "ledger:eq-micro-autograd"]
class Node:
    """A number that knows its parts, and how much each of them moves it."""

    def __init__(self, value, parts=(), slopes=(), name=""):
        self.value, self.name = value, name
        self.parts = parts  # the nodes it was computed from
        self.slopes = slopes  # d value / d part, for each part
        self.grad = 0.0  # d (the number at the end) / d value: backward fills it in

    def __add__(self, other):
        return Node(self.value + other.value, (self, other), (1.0, 1.0), "+")

    def __mul__(self, other):
        return Node(self.value * other.value, (self, other), (other.value, self.value), "×")

def in_order(node, order):
    """Append node to order, after all that it was made of, each node once."""
    if node not in order:
        for part in node.parts:
            in_order(part, order)
        order[node] = True  # a dictionary keeps the order, and finds quickly
    return order

def backward(last):
    """Give each node its grad, the slope of `last` for it, from the end to the beginning."""
    order = in_order(last, {})
    for node in order:
        node.grad = 0.0
    last.grad = 1.0  # the end moves by 1 for each unit of itself
    for node in reversed(order):
        for part, slope in zip(node.parts, node.slopes, strict=True):
            part.grad += slope * node.grad  # the chain rule, along one edge

# %%
x, y, z = Node(-2.0, name="x"), Node(5.0, name="y"), Node(-4.0, name="z")
end = (x + y) * z
backward(end)
x.grad, y.grad, z.grad

# %% tags=["fold"]
nudged = {"x": asked_x, "y": (f(-2, 5 + h, -4) - f(-2, 5, -4)) / h,
          "z": (f(-2, 5, -4 + h) - f(-2, 5, -4)) / h}
rows = {node.name: (node.grad, nudged[node.name]) for node in (x, y, z)}
claims.table("eq-chain-rule-xyz", "One walk back gives what three nudges give.", rows,
             columns=("input", "backprop", "nudged"), tolerance=1e-9)

# %% [markdown]
# The graph, drawn from its nodes: values above, slopes of the end below, on each edge the slope of that one operation. A factor $w = 2$ is put behind it. Change the numbers and watch: the slope of a factor is always the other factor, times what arrives from the end.

# %% tags=["fold", "not-drawn:fig-backprop-graph-xyz", "ledger:fig-backprop-graph-xyz"]
def xyzw_graph(x, y, z, w):
    last = (Node(x, name="x") + Node(y, name="y")) * Node(z, name="z") * Node(w, name="w")
    backward(last)
    fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.4))
    draw_graph(ax, last, fontsize=14)
    return fig, (f"(x + y) z w = {last.value}; the slope for z is the other factor, {x + y}, "
                 f"times the {w} that arrives: {(x + y) * w}")

widgets.explore(xyzw_graph, x=widgets.Slider(-2, -6, 6, kept=(-2, 0, 3)),
                y=widgets.Slider(5, -6, 6, kept=(-1, 2, 5)),
                z=widgets.Slider(-4, -6, 6, kept=(-4, 3)), w=widgets.Slider(2, -6, 6, kept=(-1, 2)))

# %% [markdown]
# **A bigger one.** The engine knows no formula, only operations. A few more of them, and it can do
#
# $$f = \frac{1}{1 + e^{-(w_0 x_0 + w_1 x_1 + w_2)}},$$
#
# which is a **neuron**: weights $w$ times inputs $x$, summed up, and bent by a function; this one, the *sigmoid*, pushes everything between 0 and 1.

# %% tags=["define"]
def exp(x):
    return Node(math.exp(x.value), (x,), (math.exp(x.value),), "exp")

def plus(x, number):
    return Node(x.value + number, (x,), (1.0,), f"+{number:g}")

def times(x, number):
    return Node(x.value * number, (x,), (number,), f"×{number:g}".replace("-", "−"))

def one_over(x):
    return Node(1 / x.value, (x,), (-1 / x.value**2,), "1/")

# %%
def in_four_operations(x):
    return one_over(plus(exp(times(x, -1)), 1))

numbers = {"w0": 2.0, "x0": -1.0, "w1": -3.0, "x1": -2.0, "w2": -3.0}
w0, x0, w1, x1, w2 = (Node(value, name=name) for name, value in numbers.items())
neuron = in_four_operations(w0 * x0 + w1 * x1 + w2)
backward(neuron)

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.5))
draw_graph(ax, neuron, fontsize=12)
ax.set_title("Back along each edge: what arrives, times the slope of one operation")
figures.save(fig, "fig-backprop-bigger-example",
             caption="The graph of a sigmoid neuron with two inputs, drawn from its nodes: values "
                     "above, slopes of the end below, on each edge the slope of the operation to "
                     "which it leads. All rounded to two digits.",
             alt="The value 0.73 comes out; slopes run back from 1 through 0.20 to -0.20, 0.39, "
                 "-0.39, -0.59 and 0.20 at the five inputs, on each edge times its own slope.")
tensors = {name: torch.tensor(value, requires_grad=True) for name, value in numbers.items()}
torch.sigmoid(tensors["w0"] * tensors["x0"] + tensors["w1"] * tensors["x1"]
              + tensors["w2"]).backward()
rows = {node.name: (node.grad, tensors[node.name].grad.item()) for node in (w0, x0, w1, x1, w2)}
claims.table("eq-bigger-sigmoid-example", "The slopes of the neuron agree with torch's.", rows,
             columns=("input", "here", "torch"), tolerance=1e-12)

# %% [markdown]
# **How small should an operation be?** As small or as large as one likes, if its slope is known. The whole sigmoid $s$ has the slope $s\,(1 - s)$, so four nodes can be one.
# Does it matter? For the result, no. But see what happens when the sum is −1000 ($e^{1000}$ is larger than any *float64*, the numbers of 64 bits and about 16 digits with which Python computes here):

# %% tags=["define"]
def sigmoid(x):
    """1 / (1 + exp(-x)) as one node; exp is only asked for numbers below 0."""
    small = math.exp(-abs(x.value))
    value = 1 / (1 + small) if x.value >= 0 else small / (1 + small)
    return Node(value, (x,), (value * (1 - value),), "σ")

# %% tags=["fold"]
try:
    in_four_operations(Node(-1000.0))
except OverflowError as error:
    print("four operations:", error, "- one operation:", sigmoid(Node(-1000.0)).value)

four, one = Node(1.0), Node(1.0)
backward(in_four_operations(four))
backward(sigmoid(one))
claims.check("prac-node-granularity",
             "One node or four, the slope is the same to {gap:.0e}; a graph with {fused} instead "
             "of {apart} nodes.",
             gap=(abs(four.grad - one.grad), "<=", 1e-15),
             fused=(len(in_order(sigmoid(one), {})), "==", 2),
             apart=(len(in_order(in_four_operations(four), {})), "==", 5), varies=True)

# %% [markdown]
# An operation that is one node can be computed in a safe way. For the same reason torch has one node for softmax *and its logarithm* (`log_softmax`, inside `cross_entropy`).
#
# **We now know** that one walk back through the graph gives the slopes for *all* inputs, each operation knowing its own slope only.
# **This does not show** what happens when a number is used twice; and every weight of a network is used many times.
#
# **Exercise 03.1.** Write the node of $\max(x, y)$, as in `Node(value, parts, slopes, name)`. Only one of the two moves the result.

# %%
def maximum(x, y):
    """The node of max(x, y), for nodes x and y."""
    ...

exercises.check("03.1", maximum, Node)

# %% [markdown]
# ## 2 · Where ways part, slopes add
#
# $f = x \cdot x + 3x$ uses $x$ three times. At $x = 2$ the slope is $2x + 3 = 7$.
# If $x$ moves, all three uses move at once, so $f$ moves by the **sum** of what they do. That is the `+=` in `backward`. Switch it off (folded: `backward` with `=` in its place, so that the way visited last wins):

# %%
x = Node(2.0, name="x")
fork = x * x + times(x, 3.0)
backward_overwriting(fork)
overwritten = x.grad
backward(fork)
added = x.grad
overwritten, added

# %% [markdown]
# So the slope for $x$ is a sum over **all ways** from the end back to $x$, each way the product of the slopes along it. One could compute just that (`by_ways`). For a test, let $x$ be followed by many *forks*, each adding to the number so far its sigmoid: two ways on from each. (Folded above: `forks_in_a_row`, and `edges`, which counts the products in `backward`, one for each edge.)

# %% tags=["define"]
def by_ways(last, first):
    """The slope of last for first as a sum over all ways, and the products that it took."""
    if last is first:
        return 1.0, 0
    total, products = 0.0, 0
    for part, slope in zip(last.parts, last.slopes, strict=True):
        below, more = by_ways(part, first)
        total += slope * below
        products += more + 1
    return total, products

# %%
exercises.predict("03.p2", "30 forks in a row: 2³⁰ ways, about a billion. Products in backward:",
                  ("about a hundred", "about a million", "about a billion"))

# %% tags=["fold"]
far, _ = forks_in_a_row(30)
exercises.reveal("03.p2", "about a hundred" if edges(far) < 10_000 else "about a million"
                 if edges(far) < 1e8 else "about a billion", f"It multiplies {edges(far)} times.")
fork_counts, walked, visited, gap = list(range(1, 17)), [], [], 0.0
for count in fork_counts:
    last, first = forks_in_a_row(count)
    backward(last)
    slope, products = by_ways(last, first)
    walked.append(products)
    visited.append(edges(last))
    gap = max(gap, abs(slope / first.grad - 1))
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.9))
draw_ways(ax, fork_counts, walked, visited)
ax.set_title("Ways double with each fork; backprop adds three products")
figures.save(fig, "eq-gradient-add-at-fork",
             caption="Products to find one slope, each way by itself (ways that run together from "
                     "the end share them so far) and by backprop; each number is the one before "
                     "plus its sigmoid. Three more edges a fork: two for the sum, one for the "
                     "sigmoid.",
             alt="Way by way the cost doubles with each fork; backprop's grows by three.")
claims.check("eq-gradient-add-at-fork",
             "With += the slope of x·x + 3x at 2 is {added:g}, with = it is {overwritten:g}.",
             added=(added, "==", 7.0), overwritten=(overwritten, "<", 7.0))
claims.check("eq-gradient-add-at-fork.ways",
             "16 forks: {walked:,} products way by way, {visited} by backprop, for the same slope "
             "(to {gap:.0e}).",
             walked=(walked[-1], ">=", 100_000), visited=(visited[-1], "==", 48),
             gap=(gap, "<=", 1e-12), varies=True)

# %% [markdown]
# That is the secret of the first figure. All ways that meet in a node are **added up before** going on, so each edge is walked once, not once for every way.
# `reversed(order)` sees to it: a node passes on its slope only after everybody who used it has added theirs.
#
# **Why three passes, and a little less?** Forward, a product $w \cdot x$ is one multiplication. Backward it is two, one for each of its two edges: the slope for $w$, and the slope for $x$.
# In the first layer $x$ comes from the picture, and nobody asks for its slope: there it is only one. So a network that is mostly first layer (the smallest of the first figure) costs little more than two passes. If that is the reason, the count must be 3 for every network as soon as the slopes of its rows are asked for, too.
#
# **And why from the end?** The walk starts with `last.grad = 1.0`, *one* number. What would ten ends cost, each of the ten scores of that network with slopes of its own? One forward pass and ten walks.

# %% tags=["fold"]
def ten_walks():
    scores = nets[-1](torch.rand(256, 64))  # (256, 10)
    for column in range(10):
        torch.autograd.grad(scores[:, column].sum(), nets[-1].parameters(), retain_graph=True)

ten_in_passes = multiplications(ten_walks) / multiplications(lambda: one_pass(nets[-1]))
worst, forks = 0.0, 0
for number in range(100):
    ours, mine, theirs, torchs = random_graph(number)
    backward(mine)
    slopes = torch.autograd.grad(torchs, theirs, allow_unused=True, materialize_grads=True)
    for node, slope in zip(ours, slopes, strict=True):
        worst = max(worst, abs(node.grad - slope.item()) / max(1, abs(slope.item())))
    uses = [part for node in in_order(mine, {}) for part in node.parts]
    forks += len(uses) - len(set(uses))
claims.check("emp-numeric-gradient-slow-accurate.rows",
             "With the slopes of the rows it is {least:.2f} to {most:.2f} passes for the six "
             "networks; without, {before:.2f} to {after:.2f}.",
             least=(min(with_rows), "==", 3.0), most=(max(with_rows), "==", 3.0),
             before=(min(by_backprop), "<=", 2.5), after=max(by_backprop))
claims.check("eq-micro-autograd.outputs",
             "Forward and one walk cost {one:.1f} passes; forward once and ten walks, for ten "
             "scores, {ten:.1f}.",
             one=(by_backprop[-1], "<=", 3), ten=(ten_in_passes, ">=", 15))
claims.check("eq-micro-autograd",
             "On 100 random graphs with {forks:,} forks our slopes differ from torch's by at most "
             "{worst:.0e} of their size.",
             forks=(forks, ">=", 1000), worst=(worst, "<=", 1e-12), varies=True)

# %% [markdown]
# One walk for each number at the end, however many inputs; nudging is the other way round, one pass for each input, however many ends. Learning has a million weights and *one* loss.
#
# **We now know** that backprop is the chain rule, each edge once, thanks to sums at the forks. The cells with `Node`, `backward` and the operations are a whole autograd, and it agrees with torch's.
# **This does not show** its second price: until the walk back, all values on the way must be **kept** in memory. And `in_order` calls itself: a chain of thousands of nodes is too deep for Python.
#
# **Exercise 03.2.** With a pencil: $f = (x + y)\,(x z)$ at $x = 2$, $y = 1$, $z = -3$. Draw the graph, write the values, walk back. The slopes of $f$ for $x$, $y$ and $z$?

# %%
slopes = ...  # three numbers: (for x, for y, for z)
exercises.check("03.2", slopes)

# %% [markdown]
# ## 3 · Whole layers: forward and backward
#
# A node for each number would be slow. The same idea with arrays: a **gate** has `forward`, which computes and keeps what it will need, and `backward`, which turns the slopes of the loss for its *output* into those for its *input*.
#
# The most used gate computes $x W + b$ for $N$ rows $x$ at once, with weights $W$ and *offsets* $b$ (lesson 02: bias). Score $j$ of row $n$ is $\sum_i x_{ni} W_{ij} + b_j$. Let $g_{nj}$ be the slope of the loss for it. Then, by sections 1 and 2,
#
# - $W_{ij}$ is used in every row and moves the loss by $\sum_n x_{ni}\, g_{nj}$: all of them are $x^\mathsf{T} g$;
# - $b_j$ moves the loss by $\sum_n g_{nj}$;
# - $x_{ni}$ is used for every score and moves the loss by $\sum_j g_{nj} W_{ij}$: all of them are $g\, W^\mathsf{T}$.

# %% tags=["define", "ledger:eq-multiply-gate"]
class Linear:
    """x @ W + b: (N, inputs) to (N, outputs)."""

    def __init__(self, inputs, outputs, random):
        W = random.normal(size=(inputs, outputs)) * np.sqrt(2 / inputs)  # why so: lesson 06
        self.weights = [W, np.zeros(outputs)]

    def forward(self, x):
        self.x = x  # kept: the slopes for W need it
        W, b = self.weights
        return x @ W + b

    def backward(self, grad):  # (N, outputs)
        self.grads = [self.x.T @ grad, grad.sum(axis=0)]  # the shapes of W and b
        return grad @ self.weights[0].T  # (N, inputs)

class ReLU:
    """max(0, x), number by number."""

    weights = grads = ()

    def forward(self, x):
        self.passed = x > 0  # kept: slope 1 where x passed, else 0
        return x * self.passed

    def backward(self, grad):
        return grad * self.passed

# %% [markdown]
# At the end stands the loss of lesson 02. Softmax and logarithm are one gate, and its slope for each score is *probability minus truth*, as there; divided by $N$, for the loss is a mean.
# `SoftmaxLoss.backward` takes no slopes: it is the end, whose slope is 1.

# %% tags=["define"]
class SoftmaxLoss:
    """Mean of -log(probability of the right class), for scores (N, classes)."""

    def forward(self, scores, labels):
        shifted = scores - scores.max(axis=1, keepdims=True)  # the largest is 0: exp is safe
        logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        self.probabilities = np.exp(logs)  # (N, classes)
        self.truth = np.eye(scores.shape[1])[labels]  # (N, classes): a 1 for the right class
        return -(logs * self.truth).sum(axis=1).mean()

    def backward(self):
        return (self.probabilities - self.truth) / len(self.truth)

class Network:
    """Linear, ReLU, Linear, ... for sizes such as [2, 64, 3]: 2 numbers in, 3 scores out."""

    def __init__(self, sizes, random):
        self.gates = []
        for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
            self.gates += [Linear(inputs, outputs, random), ReLU()]
        self.gates.pop()  # the scores are not bent

    def forward(self, x):
        for gate in self.gates:
            x = gate.forward(x)
        return x

    def backward(self, grad):
        for gate in reversed(self.gates):
            grad = gate.backward(grad)

# %% [markdown]
# `Network([2, 64, 3], ...)` is the two-layer network $W_2 \max(0, W_1 x)$; with one layer more it is $W_3 \max(0, W_2 \max(0, W_1 x))$. (Offsets are left out here; and $x$ is a column, right of $W$, where our gates have rows, left of it.) Counted are the layers with weights; the 64 numbers between two of them are a *hidden* layer.
# Then training is short: forward, loss, backward, one step against the slope.

# %% tags=["define"]
def train(network, x, labels, steps, rate):
    """Gradient descent on all rows at once; returns the loss before each step."""
    loss, losses = SoftmaxLoss(), []
    for _ in range(steps):
        losses.append(loss.forward(network.forward(x), labels))
        network.backward(loss.backward())
        for gate in network.gates:
            for weights, grad in zip(gate.weights, gate.grads, strict=True):
                weights -= rate * grad
    return losses

# %% tags=["fold"]
random = np.random.default_rng([seed, 1])
x, labels = spiral(points, random)
apart, sizes = {}, {}
for shape in ([2, hidden, 3], [2, hidden, hidden, 3], [2, 10, 20, 10, 5, 3]):
    some = Network(shape, random)
    pairs = zip(our_slopes(some, x, labels), torch_slopes(some, x, labels), strict=True)
    apart[len(shape) - 1] = max(np.abs(here - there).max() for here, there in pairs)
    count = sum(each.size for gate in some.gates for each in gate.weights)
    twin = [nn.Linear(a, b) for a, b in zip(shape[:-1], shape[1:], strict=True)]
    expected = sum(each.numel() for layer in twin for each in layer.parameters())
    sizes["-".join(map(str, shape))] = (count, expected)
claims.check("eq-two-three-layer-net",
             "For 2, 3 and 5 layers the slopes of all weights differ from torch's by at most "
             "{two:.0e}, {three:.0e} and {five:.0e}.",
             two=(apart[2], "<=", 1e-12), three=(apart[3], "<=", 1e-12),
             five=(apart[5], "<=", 1e-12), varies=True)
claims.table("arch-mlp-dnn", "Weights and offsets of fully connected networks.", sizes,
             columns=("layers", "here", "torch"))

# %% [markdown]
# **Three arms of a spiral.** One layer draws straight borders between them (lesson 02). Can two layers do better?
# (Folded above: `spiral` makes the points, `accuracy` is the share of points named right, `fresh_accuracy` trains on one spiral and asks for *new points*: of the same arms, with angles drawn anew.)

# %%
x, labels = spiral(points, np.random.default_rng([seed, 2]))  # (N, 2), (N,); N = 3 · points
network = Network([2, hidden, 3], np.random.default_rng([seed, 3]))
snapshots = []
for more in (0, 10, 40, steps - 50):
    train(network, x, labels, more, rate)
    snapshots.append(copy.deepcopy(network))

# %% tags=["fold"]
grid = np.linspace(-1.25, 1.25, 150)
plane = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
fig, axes = plt.subplots(1, 4, figsize=(figures.WIDTH, 2.9), sharex=True, sharey=True)
for ax, step, snapshot in zip(axes, (0, 10, 50, steps), snapshots, strict=True):
    found = snapshot.forward(plane).argmax(axis=1).reshape(150, 150)
    plots.decision_regions(ax, grid, grid, found, points=x[::3], labels=labels[::3])
    ax.set(title=f"{step} steps:\n{accuracy(snapshot, x, labels):.0%} right", xticks=[], yticks=[])
    ax.set_aspect("equal")
    for drawn in (*ax.lines, *ax.collections):
        drawn.set_rasterized(True)
fig.suptitle("Step by step the slopes bend the borders around the arms")
figures.save(fig, "arch-2layer-relu-net",
             caption=f"What a network 2-{hidden}-3 answers at each place, and its accuracy on the "
                     f"training points (a third of them drawn); rate {rate:g}, all points at once. "
                     "Guessing point by point has 33%; an untrained network answers for whole "
                     "regions at once, and may do worse.",
             alt="At first a few straight wedges that cut through the arms; after 1,000 steps the "
                 "borders wind along the arms.")
spiral_runs = {"one layer": [2, 3], "two layers": [2, hidden, 3]}

reached = {name: [fresh_accuracy(lambda random, shape=shape: Network(shape, random), number, rate)
                  for number in range(runs)] for name, shape in spiral_runs.items()}
claims.check("arch-2layer-relu-net",
             "In {steps} steps two layers name {two:.1%} of new points of the spiral right, one "
             "{one:.1%}; guessing 33%.",
             steps=steps, two=(reached["two layers"], ">=", 0.95),
             one=(reached["one layer"], "<=", 0.7), seeds=runs, on="every", varies=True)

# %% [markdown]
# Nobody told the hidden neurons where to bend; one number, the loss, did.
# The same classes, with other sizes, read handwriting:

# %%
known, known_labels = pixels(data.load(dataset, True).subset(pictures, seed=seed))
asked, asked_labels = pixels(data.load(dataset, False))  # test pictures (M, pixels), (M,)
reader = Network([known.shape[1], hidden, 10], np.random.default_rng([seed, 5, 0]))
losses = train(reader, known, known_labels, picture_steps, picture_rate)  # before each step

# %% tags=["fold"]
def reading(between, number):
    """Share of test pictures read with these hidden layers, at the better of two rates."""
    rights = []
    for rate in (picture_rate, 3 * picture_rate):
        some = Network([known.shape[1], *between, 10], np.random.default_rng([seed, 5, number]))
        train(some, known, known_labels, picture_steps, rate)
        rights.append(accuracy(some, asked, asked_labels))
    return max(rights)

with_hidden = [reading([hidden], number) for number in range(runs)]
without = [reading([], number) for number in range(runs)]
claims.check("arch-mlp-dnn.digits",
             "The same gates, trained for {steps} steps on {count:,} {dataset}, each network at "
             "the better of two rates ({rate:g} and {triple:g}), name {two:.1%} of the test "
             "pictures right with a hidden layer of {hidden} and {one:.1%} without, {more:.1f} "
             "points more (the same {asked} test pictures); guessing 10%.",
             steps=picture_steps, count=len(known), dataset=dataset, hidden=hidden,
             rate=picture_rate, triple=3 * picture_rate, two=(with_hidden, ">=", 0.95),
             one=without, asked=len(asked),
             more=((100 * np.subtract(with_hidden, without)).tolist(), ">=", 0.8), seeds=runs,
             on="every", varies=True)

# %% [markdown]
# **We now know** that gates which know only their own slope, put in a row, are a network that learns.
# **This does not show** that it reads the hand of a stranger (lesson 01: the same writers may stand on both sides), nor that new points far outside of the spiral would be named right.
#
# **Exercise 03.3.** This gate multiplies, or should. Call `MultiplyGate().forward(2.0, 3.0)` in a cell of your own, read what Python says, and mend it. There is more than one mistake.

# %% tags=["ledger:err-multiplygate-self"]
class MultiplyGate:
    def forward(x, y):
        self.x, self.y = x, y
        return x * y

    def backward(dz):
        dx = self.x * dz
        dy = self.y * dz
        return [dx, dy]

mended = ...  # write MultiplyGate here when you think that it is right
exercises.check("03.3", mended)

# %% [markdown]
# ## 4 · Is it right?
#
# Nothing warns when a `backward` is wrong: it returns numbers of the right shape, and the loss may even fall.
# But there is a second, slow way to each slope, which needs no `backward`: nudging. If the two agree, `backward` belongs to `forward`. That is the **gradient check**.
#
# How large should the nudge be? Nudge to one side, or, twice the work, to both sides and take half of the difference (*central*):
#
# $$\frac{f(x + h) - f(x)}{h} \qquad\qquad \frac{f(x + h) - f(x - h)}{2h}$$
#
# (float32, torch's default, has about 7 digits where float64 has 16.)

# %%
exercises.predict("03.p3", "Central differences in float64 are most exact at h =",
                  ("0.1", "0.00001", "0.0000000000001"))

# %%
exact = w0.grad  # by backprop, at w0 = 2; neuron_at computes the neuron with another w0
nudges = 10.0 ** np.arange(-1, -15.5, -0.5)
one_side = [abs((neuron_at(2 + h) - neuron_at(2)) / h / exact - 1) for h in nudges]
central = [abs((neuron_at(2 + h) - neuron_at(2 - h)) / (2 * h) / exact - 1) for h in nudges]

# %% tags=["fold"]
best = nudges[np.argmin(central)]
exercises.reveal("03.p3", "0.1" if best > 1e-3 else "0.00001" if best > 1e-9
                 else "0.0000000000001",
                 f"Relative error {central[0]:.0e} at 0.1, {central[8]:.0e} at 0.00001, "
                 f"{central[24]:.0e} at 0.0000000000001.")
coarse = nudges[nudges > 3e-7]  # a smaller nudge changes no number of 7 digits
in_32 = [abs(float(neuron_in_float32(2 + h) - neuron_in_float32(2 - h)) / (2 * h) / exact - 1)
         for h in coarse]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.2))
draw_errors(ax, nudges, one_side, central, coarse, in_32)
ax.set_title("The smallest nudge is not the best: then rounding takes over")
figures.save(fig, "eq-numeric-gradient",
             caption="Error of the slope of the neuron for w0 by differences, against backprop's; "
                     "float64, and dashed with the 7 digits of float32.",
             alt="Errors fall with h, twice as steeply for central differences, and rise again "
                 "below 1e-5 or 1e-8; in float32 they rise much earlier.")

def steepness(errors, low, high):
    """Slope of log error over log h, for h from low to high."""
    chosen = (nudges >= low) & (nudges <= high)
    return np.polyfit(np.log10(nudges[chosen]), np.log10(np.array(errors)[chosen]), 1)[0]

claims.check("eq-numeric-gradient",
             "From h = 0.1 down to 1e-4 the error falls like h to the power {one:.2f} on one side "
             "and {both:.2f} centrally; below 1e-6 it goes like h to the power {rounding:.1f}.",
             one=(steepness(one_side, 0.9e-4, 0.2), "~", 1, 0.1),
             both=(steepness(central, 0.9e-4, 0.2), "~", 2, 0.1),
             rounding=(steepness(central, 0.9e-14, 1.1e-6), "~", -1, 0.3), varies=True)
claims.check("eq-numeric-gradient.digits",
             "With 16 digits the best of these nudges is {fine:.0e}, with 7 it is {rough:.0e}.",
             fine=(best, "<=", 1e-4), rough=(coarse[np.argmin(in_32)], ">=", 1e-3), varies=True)

# %% [markdown]
# **Why?** On one side, the bend of $f$ leaves an error like $h$; to both sides it cancels, and what is left is like $h^2$.
# At a tiny $h$ the two values of $f$ agree in nearly all of their digits: the difference is what rounding left, and dividing by $h$ enlarges it. The test of that is float32: with fewer digits the best nudge is larger.
# So $h = 10^{-5}$, central, in float64.
#
# The difference is set against the sizes of both gradients: $|a - b|\, / \,(|a| + |b|)$, with $|\cdot|$ the length.
# 0 is equal; 1 is opposite, or one of the two is nothing; two unrelated ones of equal length have about 0.7.
# Each array of weights is looked at apart, lest a large one hides a small one. (Folded below: `relative_error`, `gate_error` for one gate, `network_error` for a whole network.)

# %% tags=["define", "ledger:prac-gradient-check"]
def numeric_gradient(function, x, h=1e-5):
    """The slopes of function() for each number of the array x, which is nudged in place."""
    slopes = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        kept = x[place]
        x[place] = kept + h
        above = function()
        x[place] = kept - h
        below = function()
        x[place] = kept
        slopes[place] = (above - below) / (2 * h)
    return slopes

# %% tags=["define", "fold"]
def relative_error(one, other):
    """|one - other| / (|one| + |other|) of two arrays, with |.| their lengths."""
    sizes = np.linalg.norm(one) + np.linalg.norm(other)
    return np.linalg.norm(one - other) / sizes if sizes else 0.0

def network_error(network, x, labels):
    """The largest relative error among the arrays of weights."""
    loss, errors = SoftmaxLoss(), []

    def forward():
        return loss.forward(network.forward(x), labels)

    forward()
    network.backward(loss.backward())
    for gate in network.gates:
        for weights, grad in zip(gate.weights, gate.grads, strict=True):
            errors.append(relative_error(grad, numeric_gradient(forward, weights)))
    return max(errors)

def gate_error(gate, *inputs):
    """The largest relative error of a gate's backward, over its inputs (arrays)."""
    weights = np.random.default_rng(seed).normal(size=gate.forward(*inputs).shape)
    slopes = gate.backward(weights)
    slopes = slopes if isinstance(slopes, tuple) else (slopes,)

    def end():
        return (weights * gate.forward(*inputs)).sum()

    return max(relative_error(slope, numeric_gradient(end, each))
               for slope, each in zip(slopes, inputs, strict=True))

def cosine(a, b):
    """1: same direction, 0: unrelated, -1: opposite."""
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return (a * b).sum() / lengths if lengths else 0.0

def planted(sizes, place, kind, random):
    """A new network; the gate at `place` is of another kind, with the weights it would have."""
    network = Network(sizes, random)
    if kind:
        old = network.gates[place]
        network.gates[place] = kind(*old.weights[0].shape, random) if old.weights else kind()
        network.gates[place].weights = old.weights
    return network

class Reading:
    """A trained network, its accuracy on the test pictures, and its loss before each step."""

    def __init__(self, network, rate):
        self.network = network
        self.losses = train(network, known, known_labels, picture_steps, rate)
        self.right = accuracy(network, asked, asked_labels)

def read_pictures(place=None, kind=None, rate=None, offsets=0.0):
    """A Reading for each run, from a draw of its own; first offsets of the size `offsets`."""
    readings = []
    for number in range(runs):
        random = np.random.default_rng([seed, 6, number])
        network = planted([known.shape[1], units, 10], place, kind, random)
        network.gates[0].weights[1] += offsets * random.normal(size=units)
        readings.append(Reading(network, rate or picture_rate))
    return readings

def best_of_two_rates(place, kind):
    """The better accuracy of each run, at the learning rate and at three times as much."""
    rates = picture_rate, 3 * picture_rate
    rights = [[run.right for run in read_pictures(place, kind, rate)] for rate in rates]
    return np.max(rights, axis=0).tolist()

def spiral_accuracies(place, kind, offsets=0.0):
    """Accuracies on new points of the spiral, a run each; first offsets of the size `offsets`."""
    def make(random):
        network = planted([2, hidden, 3], place, kind, random)
        network.gates[0].weights[1] += offsets * random.normal(size=hidden)
        return network
    return [fresh_accuracy(make, number, rate) for number in range(runs)]

class HalfWeights(Linear):
    def backward(self, grad):
        below = super().backward(grad)
        self.grads[0] /= 2
        return below

class WrongSignOffset(Linear):
    def backward(self, grad):
        below = super().backward(grad)
        self.grads[1] *= -1
        return below

class NoOffset(Linear):
    def backward(self, grad):
        below = super().backward(grad)
        self.grads[1] *= 0
        return below

class NoMask(ReLU):
    def backward(self, grad):
        return grad

class Frozen(Linear):
    def backward(self, grad):
        below = super().backward(grad)
        self.grads = [0 * grad for grad in self.grads]  # right slopes below, no step here
        return below

def check_planted(place, kind):
    """The error in the gradient check of an untrained network for pictures, a gate replaced."""
    random = np.random.default_rng([seed, 7])
    network = planted([known.shape[1], units, 10], place, kind, random)
    return network_error(network, known[:20], known_labels[:20])

class Add:
    def forward(self, x, y):
        return x + y

    def backward(self, grad):
        return grad, grad

class Subtract:
    def forward(self, x, y):
        return x - y

    def backward(self, grad):
        return grad, -grad

class Multiply:
    def forward(self, x, y):
        self.x, self.y = x, y
        return x * y

    def backward(self, grad):
        return grad * self.y, grad * self.x

class Maximum:
    def forward(self, x, y):
        self.first = x > y
        return np.where(self.first, x, y)

    def backward(self, grad):
        return grad * self.first, grad * ~self.first

class Sigmoid:
    def forward(self, x):
        self.value = 1 / (1 + np.exp(-x))
        return self.value

    def backward(self, grad):
        return grad * self.value * (1 - self.value)

class Convolution:
    """An image (H, W) under a sliding kernel (h, w): (H - h + 1, W - w + 1). See lesson 04."""

    def forward(self, image, kernel):
        self.image, self.kernel = image, kernel
        windows = np.lib.stride_tricks.sliding_window_view(image, kernel.shape)
        return (windows * kernel).sum(axis=(2, 3))

    def backward(self, grad):
        for_image, for_kernel = np.zeros_like(self.image), np.zeros_like(self.kernel)
        height, width = self.kernel.shape
        for row, column in np.ndindex(grad.shape):  # each place used one window: forks add
            place = slice(row, row + height), slice(column, column + width)
            for_image[place] += grad[row, column] * self.kernel
            for_kernel += grad[row, column] * self.image[place]
        return for_image, for_kernel

class OtherKink(ReLU):
    """ReLU with slope 1 at exactly 0, which counts how often that was asked."""

    zeros = asked = 0

    def forward(self, x):
        self.zeros, self.asked = self.zeros + (x == 0).sum(), self.asked + x.size
        super().forward(x)
        self.passed = x >= 0
        return x * self.passed

def spiral_network(kind, number_type, steps):
    """A network for the spiral with this kind of bend, points and weights of this type."""
    network = planted([2, hidden, 3], 1, kind, np.random.default_rng([seed, 9]))
    for gate in network.gates:
        gate.weights = [each.astype(number_type) for each in gate.weights]
    train(network, x.astype(number_type), labels, steps, rate)
    return network

def distance(one, other):
    """The largest difference between the first weights of two networks."""
    return np.abs(one.gates[0].weights[0] - other.gates[0].weights[0]).max()

class Square:
    def forward(self, x):
        self.x = x
        return x**2

    def backward(self, grad):
        return grad * 2 * self.x

class Absolute:
    def forward(self, x):
        self.x = x
        return np.abs(x)

    def backward(self, grad):
        return grad * np.sign(self.x)

class Tanh:
    def forward(self, x):
        self.value = np.tanh(x)
        return self.value

    def backward(self, grad):
        return grad * (1 - self.value**2)

class Leaky:
    def forward(self, x):
        self.x = x
        return np.where(self.x > 0, x, 0.1 * x)

    def backward(self, grad):
        return grad * np.where(self.x > -1, np.where(self.x > 0, 1, 0.1), 0)

# %% tags=["fold"]
random = np.random.default_rng([seed, 8])
one, other, kernel = (random.normal(size=size) for size in ((6, 5), (6, 5), (3, 2)))
gate_errors = {"Add": gate_error(Add(), one, other),
               "Subtract": gate_error(Subtract(), one, other),
               "Multiply": gate_error(Multiply(), one, other),
               "Maximum": gate_error(Maximum(), one, other),
               "Sigmoid": gate_error(Sigmoid(), one), "ReLU": gate_error(ReLU(), one),
               "Convolution": gate_error(Convolution(), one, kernel)}
claims.check("eq-multiply-gate",
             "The lectures' gates {names} (folded above) pass the check; the worst has an error of "
             "{worst:.0e}.",
             names=", ".join(gate_errors), worst=(max(gate_errors.values()), "<=", 1e-7),
             varies=True)

# %% [markdown]
# Now **plant mistakes**, of the kind that one makes, into networks that read pictures with a small hidden layer. A factor got lost (the slope of the first weights is halved); the last offsets climb instead of descending; the first offsets are forgotten; ReLU sends back everything, as if all had passed.
# And one that nobody would dare: on the way back the last layer uses **random numbers** in place of its weights. All that the first layer hears of the loss has gone through them.
#
# The yardstick is a network whose first layer is *never trained*: it stays as it was drawn, and only the last layer learns (at the better of two rates). (Folded above: the first four mistakes, `Frozen` for the yardstick; `read_pictures` trains such networks from several draws, `check_planted` checks one.)

# %% tags=["define"]
class OtherWeightsBack(Linear):
    def __init__(self, inputs, outputs, random):
        super().__init__(inputs, outputs, random)
        self.other = Linear(inputs, outputs, random).weights[0]  # drawn like W, and never trained
        self.cosines = []

    def backward(self, grad):
        right = super().backward(grad)  # (N, inputs)
        sent = grad @ self.other.T  # the same with the random numbers
        heard = self.x > 0  # where ReLU will let them pass
        self.cosines.append(cosine(sent * heard, right * heard))  # for later
        return sent

# %%
mistakes = {"none: right gradient": (None, None),  # the gate's place, and what it becomes
            "slope of first weights halved": (0, HalfWeights),
            "slope of last offsets: wrong sign": (2, WrongSignOffset),
            "first offsets forgotten": (0, NoOffset), "ReLU: sends back everything": (1, NoMask),
            "random weights on the way back": (2, OtherWeightsBack)}
never_trained = best_of_two_rates(0, Frozen)
print(f"first layer never trained: {np.mean(never_trained):.2f} of the test pictures right")
exercises.predict("03.p4", "Random weights on the way back: test pictures right (guessing 0.1):",
                  ("about 0.1", "about as without training the first layer", "above 0.9"))

# %%
readings, checked = {}, {}
for name, (place, kind) in mistakes.items():
    readings[name] = read_pictures(place, kind)  # some networks, trained with this gradient
    checked[name] = check_planted(place, kind)  # its error in the gradient check

# %% tags=["fold"]
learned = {name: [run.right for run in some] for name, some in readings.items()}
blind = np.mean(learned["random weights on the way back"])
exercises.reveal("03.p4", "above 0.9" if blind > 0.9 else "about 0.1" if blind < 0.3
                 else "about as without training the first layer", f"It is {blind:.2f} on average.")
fig, (left, right) = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.4), sharey=True)
draw_check(left, right, learned | {"first layer never trained": never_trained}, checked)
fig.suptitle("Five wrong gradients teach to read; the check finds all five")
figures.save(fig, "prac-gradient-check",
             caption=f"Networks pixels-{units}-10, {picture_steps} steps, {runs} runs: mean and "
                     "range (first layer never trained: at the better of two rates); the largest "
                     "relative error between backprop and central differences.",
             alt="Each of five wrong gradients teaches to name nearly as many pictures right as "
                 "the right one does; the check shows errors above 0.1 for all five.")

no_mistake, *planted_ones = mistakes
wrong = [checked[name] for name in planted_ones]
claims.check("prac-gradient-check",
             "The right gradient passes with {right:.0e}; the wrong ones have {low:.2f} or more.",
             right=(checked[no_mistake], "<=", 1e-7), low=(min(wrong), ">=", 0.1), varies=True)
claims.check("prac-gradient-check.learns",
             "Test pictures right in {steps} steps at rate {rate}: right gradient {none:.1%}, "
             "halved {half:.1%}, wrong sign {sign:.1%}, first offsets forgotten {offset:.1%}, "
             "everything sent back {all:.1%}, random way back {random:.1%}; first layer never "
             "trained, at the better of two rates, {never:.1%}.",
             steps=picture_steps, rate=picture_rate, none=(learned[no_mistake], ">=", 0.94),
             half=(learned["slope of first weights halved"], ">=", 0.93),
             sign=(learned["slope of last offsets: wrong sign"], ">=", 0.93),
             offset=(learned["first offsets forgotten"], ">=", 0.93),
             all=(learned["ReLU: sends back everything"], ">=", 0.92),
             random=(learned["random weights on the way back"], ">=", 0.92),
             never=(never_trained, "<=", 0.89), seeds=runs, on="every", varies=True)

# %% [markdown]
# With each of the five wrong gradients the loss falls and the pictures are read. Where it stays half as high again as it should, one looks for a better rate, not for a bug.
#
# How much a mistake costs is a matter of the task. On the spiral two of these five cost a great deal:

# %% tags=["fold"]
after = {name: [run.losses[-1] for run in some] for name, some in readings.items()}
small = Network([2, 100, 7, 3], np.random.default_rng([seed, 12]))  # about 1,000 weights
count = sum(each.size for gate in small.gates for each in gate.weights)
once = seconds(lambda: SoftmaxLoss().forward(small.forward(x), labels), repeats=100)
backprop = seconds(lambda: our_slopes(small, x, labels), repeats=100)
higher = np.divide([after[name] for name in planted_ones], after[no_mistake])
claims.check("prac-gradient-check.loss",
             "Meanwhile the training loss falls from {before:.1f} to {none:.2f} with the right "
             "gradient; halved {half:.2f}, wrong sign {sign:.2f}, first offsets forgotten "
             "{offset:.2f}, everything sent back {all:.2f}, random way back {random:.2f}: at most "
             "{higher:.1f} times as much.",
             before=np.mean([run.losses[0] for run in readings[no_mistake]]),
             none=(after[no_mistake], "<=", 0.15),
             **dict(zip(("half", "sign", "offset", "all", "random"),
                        (after[name] for name in planted_ones), strict=True)),
             higher=(higher.max(axis=0).tolist(), "<=", 2), seeds=runs, on="every", varies=True)
claims.check("prac-gradient-check.spiral",
             "New points of the spiral right in {steps} steps at rate {rate}, all offsets 0 at the "
             "start: right gradient {none:.1%}, everything sent back {all:.1%}, first offsets "
             "forgotten {offset:.1%}; one layer {one:.1%}.",
             steps=steps, rate=rate, none=(reached["two layers"], ">=", 0.95),
             all=(spiral_accuracies(1, NoMask), "<=", 0.88),
             offset=(spiral_accuracies(0, NoOffset), "<=", 0.75),
             one=reached["one layer"], seeds=runs, on="every", varies=True)
claims.check("emp-numeric-gradient-slow-accurate",
             "To nudge each of {count:,} weights to both sides takes {passes:,} passes; backprop "
             "took, by the clock, {back:.1f} of them here, {ratio:,.0f} times less.",
             count=count, passes=2 * count, back=(backprop / once, "<=", 5),
             ratio=2 * count * once / backprop, varies=True)

# %% [markdown]
# So nudging is for checking, on a small network and few examples; backprop is for learning.
#
# **We now know** how to trust a `backward`: compare it with central differences, in float64, array by array.
# **This does not show** that `forward` is right. Both ways use the same one: a bend left out there, or a wrong loss, passes the check.
#
# **Exercise 03.4.** Four gates, `Square`, `Absolute`, `Tanh` and `Leaky`, one of them with a planted mistake (folded above; find it by measuring). `gate_error(gate, x)` checks a gate at the numbers `x`; below 1e-7 it passes. At 0.5, 1.5 and 2.5 all four pass: `gate_error(Tanh(), np.array([0.5, 1.5, 2.5]))`.
# Who is it? Answer with the name. A gate may be right at some numbers and wrong at others; stay between −3 and 3. (Far out, where the slope of tanh nearly vanishes, rounding alone fails the check.)

# %%
guilty = ...
exercises.check("03.4", guilty)

# %% [markdown]
# ## 5 · Why does the random way back teach anything?
#
# Its name since 2014 is *feedback alignment*, and the name is the reason offered: the last weights come to resemble the random ones, and so what these send back comes to point the right way.
#
# That can be measured. At each step the **cosine** was kept between the slopes that are sent and those that the right weights would send, where ReLU lets them pass: what the first layer hears, and what it should. It is 1 for the same direction, 0 for unrelated ones, −1 for opposite ones.
#
# And it can be tested. **Take the resemblance out**: at every step, from the last weights of each hidden neuron, their part along the random numbers of that neuron. (A number that all classes share is left out of it: the slopes *probability minus truth* sum to 0, so it is never heard.)
# Two controls, folded below: taken out is *another* direction, that of the *next* neuron's random numbers; and the resemblance is taken out, but the *right* weights send back. (One direction a neuron each time; how much lies along it differs.)
#
# The yardstick is fair only with the same taken out: the resemblance goes, and **nothing** is sent back, so that the first layer is never trained.
# All of it goes at a third of the learning rate; what the full rate does is shown at the end.

# %% tags=["define"]
class NoResemblance(OtherWeightsBack):
    whose = 0  # along the random numbers of each neuron itself

    def forward(self, x):
        along = np.roll(self.other, self.whose, axis=0)  # (hidden, classes)
        along = along - along.mean(axis=1, keepdims=True)  # what all classes share is not heard
        along /= np.linalg.norm(along, axis=1, keepdims=True)  # each neuron's has length 1
        W = self.weights[0]
        W -= (W * along).sum(axis=1, keepdims=True) * along  # the part along them goes
        return super().forward(x)

# %% tags=["define", "fold"]
class AnotherDirection(NoResemblance):
    whose = 1  # along those of the next neuron

class RightWeightsBack(NoResemblance):
    def backward(self, grad):
        super().backward(grad)
        return grad @ self.weights[0].T

class NothingBack(NoResemblance):
    def backward(self, grad):
        return 0 * super().backward(grad)  # the first layer is never trained

def resemblance(network):
    """The cosine of each neuron's last weights with its random ones, class means off: the mean."""
    W, other = (each - each.mean(axis=1, keepdims=True)
                for each in (network.gates[2].weights[0], network.gates[2].other))
    return np.mean([cosine(*pair) for pair in zip(W, other, strict=True)])

def read_anew(before):
    """Test pictures right when a new, free last layer learns on the first layers of these runs."""
    rights = []
    for number, run in enumerate(before):
        random = np.random.default_rng([seed, 6, number])
        network = planted([known.shape[1], units, 10], 0, Frozen, random)
        network.gates[0].weights = run.network.gates[0].weights
        rights.append(Reading(network, picture_rate).right)
    return rights

# %%
slow = picture_rate / 3
unlike = read_pictures(2, NoResemblance, slow)
another = read_pictures(2, AnotherDirection, slow)
exercises.predict("03.p5", "Random weights back, the resemblance taken out. Test pictures right:",
                  ("about as with it", "nearer to nothing sent back",
                   "far fewer than with nothing sent back"))

# %% tags=["fold"]
ways = {"random numbers": read_pictures(2, OtherWeightsBack, slow),
        "another direction taken out": another, "resemblance taken out": unlike}
rights = {name: [run.right for run in some] for name, some in ways.items()}
silent = read_pictures(2, NothingBack, slow)
nothing = [run.right for run in silent]
top, _, found, low = (np.mean(some) for some in (*rights.values(), nothing))
exercises.reveal("03.p5", "about as with it" if found > (top + low) / 2
                 else "nearer to nothing sent back" if found > low - 0.1
                 else "far fewer than with nothing sent back",
                 f"{found:.2f}; with it {top:.2f}, nothing sent back {low:.2f}.")
sent = {name: np.array([run.network.gates[2].cosines for run in some])  # (runs, steps)
        for name, some in ways.items()}
words = [f"{name}: {np.mean(some):.0%} right" for name, some in rights.items()]
words[2] += f" (nothing sent back: {low:.0%})"
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.8))
draw_alignment(ax, sent.values(), words)
ax.set_title("Without the resemblance, what is sent back does not turn the right way")
figures.save(fig, "prac-gradient-check.alignment",
             caption=f"Networks pixels-{units}-10 at rate {slow:.2g}: the cosine between the "
                     "slopes that the last layer sends back and those that its weights would "
                     "send, where ReLU lets them pass, and the share of test pictures right "
                     f"({runs} runs: means; nothing sent back: with the same taken out).",
             alt="The cosine rises from 0, also with another direction taken out; without the "
                 "resemblance it falls below 0, and few more pictures are read than with nothing "
                 "sent back.")

# %% tags=["fold"]
claims.check("prac-gradient-check.alignment",
             "Test pictures right in {steps} steps at rate {rate:.2g}: random numbers "
             "{random:.1%}, resemblance taken out {unlike:.1%}, nothing sent back {nothing:.1%}. "
             "Of the {gain:.1f} points that random numbers gain on nothing sent back, {left:.1f} "
             "are left without the resemblance.",
             steps=picture_steps, rate=slow, random=(rights["random numbers"], ">=", 0.88),
             unlike=(rights["resemblance taken out"], "<=", 0.85), nothing=nothing,
             gain=((100 * np.subtract(rights["random numbers"], nothing)).tolist(), ">=", 12),
             left=((100 * np.subtract(rights["resemblance taken out"], nothing)).tolist(),
                   "<=", 12),
             seeds=runs, on="mean", varies=True)
ends = {name: [run.losses[-1] for run in some] for name, some in ways.items()}
claims.check("prac-gradient-check.alignment-loss",
             "The training loss ends at {random:.2f}, {unlike:.2f} and {nothing:.2f}: without the "
             "resemblance, too, the first layer learns something.",
             random=(ends["random numbers"], "<=", 0.5),
             unlike=(ends["resemblance taken out"], ">=", 0.65),
             nothing=([run.losses[-1] for run in silent], ">=", 1), seeds=runs, on="every",
             varies=True)
right_back = [run.right for run in read_pictures(2, RightWeightsBack, slow)]
claims.check("prac-gradient-check.controls",
             "It is not the taking out alone: another direction taken out {another:.1%}; "
             "resemblance taken out, but the right weights on the way back {right:.1%}.",
             another=(rights["another direction taken out"], ">=", 0.88),
             right=(right_back, ">=", 0.88), seeds=runs, on="every", varies=True)
fast, still = read_pictures(2, NoResemblance), read_pictures(2, NothingBack)

# %% tags=["fold"]
last = {name: cosines[:, -20:].mean(axis=1).tolist() for name, cosines in sent.items()}
alike = {name: [resemblance(run.network) for run in some] for name, some in ways.items()}
claims.check("prac-gradient-check.cosines",
             "Cosine of the slopes sent back with the right ones, in the last 20 steps: random "
             "numbers {random:.2f}, another direction taken out {another:.2f}, resemblance taken "
             "out {unlike:.2f}.",
             random=(last["random numbers"], ">=", 0.4),
             another=(last["another direction taken out"], ">=", 0.4),
             unlike=(last["resemblance taken out"], "<=", 0.1), seeds=runs, on="every",
             varies=True)
claims.check("prac-gradient-check.resemblance",
             "Cosine of a neuron's last weights with its random ones, at the end: {random:.2f}; "
             "another direction taken out {another:.2f}.",
             random=(alike["random numbers"], ">=", 0.3),
             another=(alike["another direction taken out"], ">=", 0.3), seeds=runs, on="every",
             varies=True)
claims.check("prac-gradient-check.full-rate",
             "At the full rate, {rate:g}, with the resemblance taken out, the training loss goes "
             "from {before:.1f} to {after:.1f}, test pictures right {right:.1%}; with nothing "
             "sent back to {calm:.2f}, {kept:.1%}.",
             rate=picture_rate, before=np.mean([run.losses[0] for run in fast]),
             after=([run.losses[-1] for run in fast], ">=", 5),
             right=([run.right for run in fast], "<=", 0.6),
             calm=([run.losses[-1] for run in still], "<=", 2),
             kept=([run.right for run in still], ">=", 0.65), seeds=runs, on="every", varies=True)
claims.check("prac-gradient-check.read-anew",
             "In {steps} steps at rate {rate:g} a new, free last layer learns to read {freed:.1%} "
             "on first layers that learned without the resemblance, {drawn:.1%} on those as drawn.",
             steps=picture_steps, rate=picture_rate, freed=(read_anew(unlike), ">=", 0.9),
             drawn=(read_anew(silent), "<=", 0.87), seeds=runs, on="every", varies=True)

# %% [markdown]
# So the network needs the resemblance, neuron by neuron: without it most of the gain is gone (how much is left is much the same in these draws, but not with other seeds: one draw may keep nearly half of it, another lose more than all). At the full rate training the first layer without it does harm: the loss ends above where it began, and with nothing sent back it falls (last line but one).
#
# But is it the reason offered, that what is sent back comes to point the right way? Taking out did one thing more: it forbade the last weights to *read* a neuron along the direction in which the random numbers push it. So keep the first layers that learned without the resemblance, and give them a new last layer that is free (last line): they were good. What they had heard never came to point the right way, and it taught them all the same.
#
# **We now know** that random weights on the way back teach a first layer even where they do not come to point the right way, and that the last weights must be free to resemble them to make use of it. With random numbers, too, the cosine stays well below 1.
# **This does not show** how much the turning adds where the last weights are free (three draws are few: of ten other seeds about half keep both bounds of the last line), nor that it goes so in deeper networks, in more steps, or with other tasks.

# %% [markdown]
# ## 6 · Where there is no slope
#
# ReLU has a kink at 0: slope 0 on one side, 1 on the other, none in between. Our gate says 0 there, because `x > 0` is false; it could as well say 1.
# What if it did? (Folded above: `OtherKink`, the same gate with `x >= 0`, which also counts how often it was asked at exactly 0; `spiral_network` trains on the spiral with numbers of a given type.)

# %%
exercises.predict("03.p6", "Slope 1 instead of 0 at the kink, in float64. The trained weights are:",
                  ("the same to the last bit", "a little different", "quite different"))

# %%
usual = spiral_network(ReLU, np.float64, steps)
other = spiral_network(OtherKink, np.float64, steps)  # same start, same points

# %% tags=["fold"]
moved = distance(usual, other)
exercises.reveal("03.p6", "the same to the last bit" if moved == 0 else "a little different"
                 if moved < 0.1 else "quite different", f"The largest difference is {moved:g}.")
kink, few = other.gates[1], min(steps, 100)
coarse_usual = spiral_network(ReLU, np.float16, few)
coarse_other = spiral_network(OtherKink, np.float16, few)
claims.check("emp-backprop-enables-complex.kink",
             "In float64, of {asked:,} numbers that arrived at the ReLUs in {steps} steps {zeros} "
             "were exactly 0, and the two networks differ by {moved:g}.",
             asked=(kink.asked, ">=", 1_000_000), steps=steps, zeros=(kink.zeros, "==", 0),
             moved=(moved, "==", 0.0))
claims.check("emp-backprop-enables-complex.half",
             "In float16 (3 digits), of {asked:,} numbers in {few} steps {zeros} were exactly 0, "
             "and the two networks differ by {moved:.4f}.",
             asked=coarse_other.gates[1].asked, few=few,
             zeros=(coarse_other.gates[1].zeros, ">=", 30),
             moved=(distance(coarse_usual, coarse_other), ">", 0.0), varies=True)

# %% tags=["fold"]
claims.quoted("emp-backprop-enables-complex.float32",
              "We observe considerable variations of backpropagation outputs which occur around "
              "half of the time in 32 bits precision. The effect disappears with double precision, "
              "while it is systematic at 16 bits.",
              "D. Bertoin and others, NeurIPS 2021, abstract")
at_kink = gate_error(ReLU(), np.zeros(5))
t, above, below = np.array([-0.5, 0.0, 0.5]), ReLU(), ReLU()
identity = above.forward(t) - below.forward(-t)  # t itself
slopes_of_t = above.backward(1.0) + below.backward(1.0)  # + : minus times the minus of -t
claims.check("prac-gradient-check.kink",
             "At exactly 0 the check accuses a right ReLU: error {at_kink:.1f}; at random numbers "
             "{elsewhere:.0e}.",
             at_kink=(at_kink, ">=", 0.9), elsewhere=(gate_errors["ReLU"], "<=", 1e-7), varies=True)
claims.check("emp-backprop-enables-complex.on-kink",
             "max(0, t) - max(0, -t) differs from t by {apart:g}; by the gates its slope is "
             "{off:g} at t = 0.5, and {kink:g} at t = 0.",
             apart=(np.abs(identity - t).max(), "==", 0.0), off=(slopes_of_t[2], "==", 1.0),
             kink=(slopes_of_t[1], "==", 0.0))

# %% [markdown]
# A single missing point is no trouble **as long as nobody stands on it**: in float64 nobody did here, with fewer digits it happens. (Also where all inputs and offsets are 0; there the gradient check raises a false alarm.)
#
# Who does stand on it may get a wrong slope even where there is one: $\max(0, t) - \max(0, -t)$ is $t$ itself, with slope 1 everywhere, yet backprop has 0 at $t = 0$ (last line).
#
# Worse is a function that has a slope nearly everywhere, namely **zero**: a jump, 1 for positive numbers and 0 otherwise, as the first neurons had it. Its `backward` is right, and whatever lies below hears nothing.
# Now the intervention: keep the jump in `forward`, and let `backward` **pretend** that it was a ramp, with slope 1 between −1 and 1.

# %% tags=["define"]
class Jump(ReLU):
    def forward(self, x):
        self.x = x
        return (x > 0).astype(float)

    def backward(self, grad):
        return grad * 0  # the true slope

class PretendedRamp(Jump):
    def backward(self, grad):
        return grad * (np.abs(self.x) < 1)  # a slope that forward does not have

# %%
ramp = [run.right for run in read_pictures(1, PretendedRamp)]
jump = best_of_two_rates(1, Jump)

# %% tags=["fold"]
drawn = [run.right for run in read_pictures(1, Jump, offsets=0.5)]  # offsets not 0 at the start
shown = {"ReLU": learned[no_mistake], "jump,\nslope of a ramp": ramp,
         "jump,\ntrue slope 0": jump, "ReLU, first layer\nnever trained": never_trained}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.4))
plots.bars(ax, ranges(shown), horizontal=True, format="{:.2f}",
           colours=dict(zip(shown, ("C0", "C1", "C0", "0.7"), strict=True)))
ax.axvline(0.1, color="0.13", linewidth=1.5, linestyle=":")
ax.set(xlabel="test pictures right (dotted: guessing)", xlim=(0, 1.12))
ax.set_title("Under a jump the first layer learns by a false slope, not by the true one")
figures.save(fig, "emp-backprop-enables-complex",
             caption=f"Networks pixels-{units}-10 with three bends, {picture_steps} steps, {runs} "
                     "runs: mean and range. Orange: with a wrong gradient. True slope 0, and "
                     "never trained: at the better of two rates.",
             alt="ReLU reads nearly all pictures, and so does a jump with a pretended slope; far "
                 "behind is a jump with its true slope, whose first layer stays as drawn.")
claims.check("emp-backprop-enables-complex",
             "Test pictures right in {steps} steps: jump with its true slope "
             "{jump:.1%} at the better of two rates; at rate {rate:g} with the first offsets "
             "drawn {drawn:.1%}, with a pretended slope {ramp:.1%}, ReLU {relu:.1%}.",
             steps=picture_steps, rate=picture_rate, jump=(jump, "<=", 0.83),
             drawn=(drawn, "<=", 0.83), ramp=(ramp, ">=", 0.91),
             relu=(learned[no_mistake], ">=", 0.94), seeds=runs, on="every", varies=True)
claims.check("emp-backprop-enables-complex.spiral",
             "On the spiral a first layer as drawn can do: {hidden} jumps with true slope 0 name "
             "{zero:.1%} of new points right where all offsets begin at 0, and {drawn:.1%} where "
             "the first are drawn.",
             hidden=hidden, zero=(spiral_accuracies(1, Jump), "<=", 0.75),
             drawn=(spiral_accuracies(1, Jump, offsets=1.0), ">=", 0.9), seeds=runs, on="every",
             varies=True)

# %% [markdown]
# The jump in `forward` was not the trouble: with the same forward pass, a slope that says roughly where to go is enough. (With the true slope the last layer still learns, on jumps as they were drawn.)
#
# **We now know** that layers below a gate learn only if its slope is not zero everywhere, that one missing point hardly matters in float64, and that the slope need not even be the true one.
# **This does not show** that any pretended slope would do, nor that a first layer must learn at all: with enough drawn jumps, on the spiral, it need not.
#
# **Exercise 03.5.** Taking the largest number is a bend with kinks, too (*max pooling* in lesson 04). Forward it is `x.max(axis=1)`. Write its backward; where two are equal, let the first have it all.

# %%
def row_max_backward(x, grad):
    """The slopes (N, D) for x (N, D), given those (N,) for the largest of each row."""
    ...

exercises.check("03.5", row_max_backward)

# %% [markdown]
# ## Also in the lectures
#
# **A neuron as a filter, and the hierarchy.** The lectures draw one neuron, with its weights at the lines, and call it a filter. Among inputs of *equal length* it answers loudest to the one that points as its weights do (a longer one in another direction may be louder).
# Neurons side by side are a layer, layers in a row a network; and a neuron is made of operations such as those of section 1: the hierarchy is printed below the figure.

# %% tags=["fold", "not-drawn:fig-network-hierarchy", "ledger:fig-network-hierarchy"]
weights, direction = np.array([3.0, 1.5]), np.linspace(-np.pi, np.pi, 361)
circle = np.stack([np.cos(direction), np.sin(direction)], axis=1)  # inputs of length 1
response = np.maximum(circle @ weights, 0)
layer = nn.Linear(2, 1, bias=False)
layer.weight.data[:] = torch.tensor(weights)
by_torch = functional.relu(layer(torch.tensor(circle)))[:, 0].detach().numpy()
fig, (ax, right) = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.5), width_ratios=(1.1, 1))
draw_neuron(ax, weights)
degrees, own = np.rad2deg(direction), np.rad2deg(np.arctan2(weights[1], weights[0]))
draw_answers(right, degrees, response, own)
fig.suptitle("Of inputs of equal length, a neuron answers loudest to its own weights")
figures.save(fig, "fig-neuron",
             caption="A neuron with two inputs and no offset, and its answers, max(0, w · x), to "
                     "all inputs of length 1.",
             alt="The answer is largest where the input points in the direction of the weights, "
                 "and 0 where it points away.")
claims.check("eq-artificial-neuron",
             "nn.Linear with ReLU gives the same answers, to {gap:.0e}.",
             gap=(np.abs(response - by_torch).max(), "<=", 1e-12), varies=True)
print_hierarchy(Network([2, hidden, 3], np.random.default_rng(seed)))

# %% [markdown]
# ## In practice
#
# - `loss.backward()` is `backward` of section 1; torch builds the graph while `forward` runs. `optimizer.zero_grad()` comes before it, for `+=` also adds to the slopes of the *last* step.
# - `torch.no_grad()` and `torch.inference_mode()` keep nothing for a walk back: less memory where nothing is to be learned.
# - An operation of your own: `torch.autograd.Function` with `forward` and `backward`; check it with `torch.autograd.gradcheck` in float64.
# - Memory too small: `torch.utils.checkpoint` forgets values and computes them again on the way back.
# - Slopes of many outputs: `torch.func.jacrev` walks back once for each output, `jacfwd` forward once for each input. Pretended slopes ("straight-through") train networks of few bits.
#
# ## History
#
# - 1847: A. Cauchy walks against the slope. 1960: H. Kelley finds slopes backwards through time, for flight paths.
# - 1970: S. Linnainmaa describes the walk back through any computation, to follow rounding errors (in his master's thesis). 1974: P. Werbos proposes it for models that learn.
# - 1983: W. Baur and V. Strassen prove that all slopes cost at most a fixed multiple of the function.
# - 1986: D. Rumelhart, G. Hinton and R. Williams show hidden units that find features by it.
# - 2014 (in a journal 2016): T. Lillicrap and others train networks with random weights on the way back.
#
# ## Exercises that are left
#
# **03.6 Open.** The walk ends at the weights; let it go one gate further, to the **input**: by how much does the loss move, for each number of `x`? `Network.backward` throws that away. Write it from the gates.
# The check compares with differences. For you: on `reader`, which pixels of a digit matter most? Are they inked?

# %%
def input_gradient(network, loss, x, labels):
    """The slopes (N, D) of the loss for x (N, D)."""
    ...

exercises.check("03.6", input_gradient, Network, SoftmaxLoss)

# %% [markdown]
# **03.7 Open.** Look again at "Five wrong gradients teach to read". What does this figure *not* show? Take a deeper network, fewer steps, or the spiral, and find a place where the right gradient is far ahead. Two lines to start with:
#
#     network = Network([known.shape[1], 64, 32, 16, 10], np.random.default_rng(0))
#     network.gates[6] = OtherWeightsBack(16, 10, np.random.default_rng(1))  # gates 0, 2, 4, 6 are Linear
#
# And on the spiral: does it learn if the first *weights* are never trained, but the first offsets are?
#
# ## Summary
#
# - A formula is a graph of operations. Each knows its own slope; going backwards, slopes multiply along a way and add where ways meet.
# - Each edge is walked once, so all slopes of *one* number cost two to three passes, counted in multiplications, a million weights or ten. Walking each way by itself costs twice as much with each fork.
# - Layers are gates with `forward` and `backward`. In a row they are a network; a few dozen lines learn a spiral, and to read digits.
# - A falling loss proves no gradient: networks with five wrong ones learned to read. Central differences at $h = 10^{-5}$ in float64 find all of them.
# - Random weights on the way back taught to read. The last weights came to resemble them, and with that taken out most of the gain was gone; yet its first layer had learned: a new, free last layer read from it.
# - A kink did no harm in float64. Below a gate whose slope is zero nothing learns; below a pretended slope a layer can.

# %% [markdown] tags=["ledger:err-three-layer-paren", "ledger:err-differentiable-must", "ledger:err-multiplygate-self"]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | `class MultuplyGate`: `def forward(x, y)`, `def backward(dz)` | `class MultiplyGate`: `def forward(self, x, y)` and `def backward(self, dz)`, or Python raises a `TypeError` | in exercise 03.3 the call raises it (that dx and dy are exchanged there, too, is our own addition) |
# | in the same gate: "`self.y` is dx" | `self.y` is the **local slope** $dz/dx$; `dx` is that times `dz`, $dL/dx$ | section 1: slopes multiply along a way |
# | three layers: $W_3 \max(0, W_2 \max(0, W_1 x)$ | $W_3 \max(0, W_2 \max(0, W_1 x))$: a parenthesis was missing | section 3, `Network` and torch agree |
# | the components of a network must be differentiable | **continuous, and smooth piece by piece**, as ReLU and the maximum are, is enough for the walk back to give the true slope everywhere but on the kinks (there it may be wrong). For the layers *below* to learn, the slope must not be zero everywhere; it may even be a pretended one | section 6 (a kink, $\max(0, t) - \max(0, -t)$ at 0, a jump). Continuous: $z - 2\lfloor z \rfloor$, with $\lfloor z \rfloor$ for $z$ rounded down, has slope 1 almost everywhere, yet falls from 0.5 at $z = 0.5$ to −1.5 at 2.5: to follow its slope upwards leads down |
#
# ## Sources
#
# - The notes: lecture 001 on backpropagation, 003 on neurons and deep networks, 004 section 4 (after CS231n, Stanford 2017; the sigmoid neuron's numbers are from there).
# - A. Cauchy: Méthode générale pour la résolution des systèmes d'équations simultanées. Comptes rendus 25, 1847.
# - H. Kelley: Gradient theory of optimal flight paths. ARS Journal 30, 1960.
# - S. Linnainmaa: master's thesis, University of Helsinki, 1970; Taylor expansion of the accumulated rounding error. BIT 16, 1976.
# - P. Werbos: Beyond regression. PhD thesis, Harvard University, 1974.
# - W. Baur and V. Strassen: The complexity of partial derivatives. Theoretical Computer Science 22, 1983.
# - D. Rumelhart, G. Hinton and R. Williams: Learning representations by back-propagating errors. Nature 323, 1986.
# - T. Lillicrap, D. Cownden, D. Tweed and C. Akerman: Random feedback weights support learning in deep neural networks, 2014 (arXiv:1411.0247); Random synaptic feedback weights support error backpropagation for deep learning. Nature Communications 7, 2016.
# - D. Bertoin, J. Bolte, S. Gerchinovitz and E. Pauwels: Numerical influence of ReLU'(0) on backpropagation. NeurIPS 2021.
# - Y. Bengio, N. Léonard and A. Courville: Estimating or propagating gradients through stochastic neurons for conditional computation, 2013 (arXiv:1308.3432): pretended slopes.
# - A. Griewank and A. Walther: Evaluating derivatives. SIAM, second edition, 2008.
