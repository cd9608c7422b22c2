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
# # 02 · Linear classifiers and losses
# ### What can one matrix know about a picture, and how is it told that it is wrong?
#
# Take all pictures of digits and shuffle their 64 pixels, all pictures in the same way.
# We can no longer read a single one. The classifier of this lesson does not even notice: the first figure shows it.
# It has never seen a picture. It has seen rows of numbers, and one matrix turns such a row into ten scores.
# What does that matrix know, how is it found, and what can it never know?
#
# **You will be able to**
# - read a row of the matrix as a picture of what counts for a class and what counts against it;
# - compute how wrong ten scores are, by the hinge loss and by cross-entropy, and say what each goes on asking for;
# - find the matrix by following the slope, and say why trying at random fails;
# - say why a loss of zero does not settle the matter, and what regularisation adds;
# - name pictures that no matrix can tell apart, and what to do then.
#
# **You need** lesson 01 (a picture as a row of numbers; training and test pictures), matrix products, and derivatives of one variable.
# Of the small networks in section 5 you need only believe that they learn; lesson 03 says how.
#
# **Words.** A *score* is the number a class gets for a picture; the class with the highest score is the answer.
# *Accuracy* is the share of right answers. A line that begins with ✓ is a *claim*: the code above measured its numbers, and the lesson stops if they are not as required.
# Claims are made for the parameters below; with others the lesson shows what it measures and requires nothing.
#
# **It costs** about 25 seconds of one processor core, no network connection, no GPU.

# %% tags=["parameters"]
seed: int = 0  # of everything drawn at random; at least 0
dataset: str = "digits"  # ; one of digits, mnist, fashion_mnist
train_images: int = 1347  # training pictures, at most; at least 200
test_images: int = 450  # test pictures, at most; at least 50
steps: int = 300  # steps down the slope with all training pictures; 10 to 5000
rate: float = 1.0  # length of such a step for cross-entropy; above 0
tries: int = 1000  # matrices tried at random; 10 to 100000
hidden: int = 64  # units of the two-layer network; 2 to 1024
runs: int = 5  # repetitions, each with its own random numbers; 2 to 10

# %% tags=["imports", "fold"]
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional

from cnncourse import claims, data, exercises, figures, plots, runtime, widgets

# %% tags=["define", "fold"]
def pixels(images):
    """Pictures (N, C, H, W) as rows (N, D) of floating point numbers from 0 to 1."""
    return images.flatten(1).double().numpy() / 255

def framed(rows, side, generator, reach=4):
    """Square pictures (N, side²), each at a random place of a board `reach` wider all round."""
    boards = np.zeros((len(rows), side + 2 * reach, side + 2 * reach))
    places = generator.integers(0, 2 * reach + 1, (len(rows), 2))
    for board, row, (y, x) in zip(boards, rows, places, strict=True):
        board[y:y + side, x:x + side] = row.reshape(side, side)
    return boards.reshape(len(rows), -1)

def trained_network(rows, labels, classes, units, seed, epochs=150):
    """A two-layer network, trained on rows (N, D) and labels (N,)."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(rows.shape[1], units), nn.ReLU(), nn.Linear(units, classes))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    inputs, targets = torch.tensor(rows), torch.tensor(labels)
    for _ in range(epochs):
        optimizer.zero_grad()
        functional.cross_entropy(network(inputs), targets).backward()
        optimizer.step()
    return lambda rows: network(torch.tensor(rows)).detach().numpy()  # rows to scores

def templates(ax, weights, side, labels=None, columns=None):
    """Rows of weights (N, side²) as pictures: red counts for the class, blue against it."""
    limit = np.abs(weights).max()
    shades = plt.get_cmap(figures.DIVERGING)(0.5 + weights / (2 * limit))[..., :3]
    pictures = shades.reshape(-1, side, side, 3).transpose(0, 3, 1, 2)
    return plots.image_grid(ax, pictures, columns=columns, labels=labels, fontsize=12)

# %%
runtime.start(seed=seed, dtype="float64")
train = data.load(dataset, True).subset(train_images, seed=seed)
test = data.load(dataset, False).subset(test_images, seed=seed)
x_train, x_test = pixels(train.images), pixels(test.images)  # (N, D), (M, D)
y_train, y_test = train.labels.numpy(), test.labels.numpy()
classes, side = len(train.classes), train.images.shape[-1]
train, test

# %% [markdown]
# The shortest way to a matrix is **least squares**: the score of the true class should be 1, the others 0, and the squared differences, summed over all pictures, as small as can be.
# That is a system of linear equations, one call of `np.linalg.solve`. (A small price on large weights keeps those of pixels that are hardly ever lit at bay.)

# %% tags=["define"]
def with_one(rows):
    """Rows (N, D) with a 1 behind each: (N, D + 1)."""
    return np.hstack([rows, np.ones((len(rows), 1))])

def least_squares(rows, labels, classes, price=100.0):
    """The matrix W (C, D) whose scores rows @ W.T come nearest to 1 (true class) and 0."""
    targets = np.eye(classes)[labels]  # (N, C): a 1 in the column of the true class
    squares = rows.T @ rows + price * np.eye(rows.shape[1])  # the price of weights: section 4
    return np.linalg.solve(squares, rows.T @ targets).T

def accuracy(W, rows, labels):
    """Share of rows whose highest score is that of the true class."""
    return ((rows @ W.T).argmax(axis=1) == labels).mean()

# %%
random = np.random.default_rng(seed)
order = random.permutation(x_train.shape[1])  # one new order of the pixels, for all pictures
W = least_squares(with_one(x_train), y_train, classes)
W_shuffled = least_squares(with_one(x_train[:, order]), y_train, classes)
scores = with_one(x_test) @ W.T  # (M, C)
scores_shuffled = with_one(x_test[:, order]) @ W_shuffled.T

# %% tags=["fold"]
figures.use_style()
plain, mixed = ((s.argmax(axis=1) == y_test).mean() for s in (scores, scores_shuffled))
apart = np.abs(scores - scores_shuffled).max()
shown = np.concatenate([x_test[:8], x_test[:8, order]]).reshape(-1, side, side)
said = scores.argmax(axis=1)[:8].tolist() + scores_shuffled.argmax(axis=1)[:8].tolist()
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.3))
plots.image_grid(ax, shown, columns=8, labels=[f"says {train.classes[s]}" for s in said],
                 fontsize=13)
ax.set_title("Shuffled all in one way: we read nothing, the matrix loses nothing")
figures.save(fig, "emp-linear-limits.surprise",
             caption=f"Eight test pictures (above) and the same with shuffled pixels, with the "
                     f"answers of two matrices, one found from ordinary and one from shuffled "
                     f"training pictures; {dataset}. In the test {plain:.1%} and {mixed:.1%} are "
                     "right.",
             alt="Shuffled digits are unreadable for us, and the matrix gives the same answers.")
differ = int((scores.argmax(axis=1) != scores_shuffled.argmax(axis=1)).sum())
claims.check("emp-linear-limits.surprise",
             "The matrix is right in {plain:.1%} of the test pictures. Of {count} answers {differ} "
             "change when pixels are shuffled in training and test, and no score by more than "
             "{apart:.0e}.",
             plain=(plain, ">=", 0.9), count=len(test), differ=(differ, "==", 0),
             apart=(apart, "<=", 1e-9), varies=True)

# %% [markdown]
# The columns of the matrix have been shuffled along with the pixels, and a sum does not ask for the order of its terms.
# What if every picture gets an order **of its own**?

# %%
exercises.predict("02.p1", "Each picture shuffled in its own way. Of 100 the matrix names right:",
                  ("about 95", "about 50", "about 10"))

# %%
own_train, own_test = (random.permuted(rows, axis=1) for rows in (x_train, x_test))
W_own = least_squares(with_one(own_train), y_train, classes)
own = accuracy(W_own, with_one(own_test), y_test)
exercises.reveal("02.p1", "about 95" if own > 0.7 else "about 50" if own > 0.3 else "about 10",
                 f"{100 * own:.0f} of 100; guessing gives {100 / classes:.0f}.")

# %% [markdown]
# So the matrix needs every pixel in *its* place, though any place will do. All it knows is which numbers are large together with which label.
#
# ## 1 · A row of the matrix is a picture
#
# For a picture $x$ of $D$ numbers, $C$ classes get their scores by
#
# $$s = W x + b, \qquad W \text{ is } C \times D, \quad b \text{ has } C \text{ numbers.}$$
#
# Each class has one row of $W$, with a weight for each pixel, and one *bias* in $b$: what the class scores on a black picture.
# The **bias trick** makes one matrix of both: put a 1 behind each picture (`with_one`) and $b$ into a last column of $W$.

# %% tags=["ledger:eq-linear-score", "ledger:err-w-shape"]
weights, bias = W[:, :-1], W[:, -1]  # (C, D), (C,)
apart = np.abs((x_test @ weights.T + bias) - with_one(x_test) @ W.T).max()
print("W with its bias column:", W.shape, "| without:", weights.shape, "| bias:", bias.shape)
claims.check("eq-linear-score", "Scores with and without the bias trick differ by at most "
             "{apart:.0e}.", apart=(apart, "<=", 1e-12), varies=True)

# %% [markdown]
# A row has as many weights as the picture has pixels, so it can be looked at: red where ink speaks **for** the class, blue where it speaks **against** it. Such a row is called a *template*.
# Is it just the typical picture? Compare it with the mean of the training pictures.

# %% tags=["fold"]
means = np.stack([x_train[y_train == c].mean(axis=0) for c in range(classes)])
fig, axes = plt.subplots(2, 1, figsize=(figures.WIDTH, 3.4))
plots.image_grid(axes[0], means.reshape(-1, side, side))
axes[0].set_title("The mean picture of each class ...", fontsize=13)
templates(axes[1], weights, side, labels=list(train.classes))
axes[1].set_title("... and its template: what counts for it (red) and against it (blue)",
                  fontsize=13)
figures.save(fig, "fig-linear-templates",
             caption=f"Mean training pictures, and the rows of the matrix found by least squares; "
                     f"{dataset}, {len(train)} training pictures, one colour scale for all rows.",
             alt="The mean pictures look like digits; the templates only mark telling pixels.")
W_mean = np.hstack([means, -0.5 * (means**2).sum(axis=1, keepdims=True)])
with_means = accuracy(W_mean, with_one(x_test), y_test)
whole = data.digits()
file_rows, file_labels = with_one(pixels(whole.images)), whole.labels.numpy()

def split_accuracy(order):
    """Least squares on the first 1,347 digits of an order, tested on the last 450."""
    first, last = order[:1347], order[1347:]
    W = least_squares(file_rows[first], file_labels[first], 10)
    return accuracy(W, file_rows[last], file_labels[last])

in_order = split_accuracy(np.arange(len(whole)))
at_random = [split_accuracy(np.random.default_rng(i).permutation(len(whole))) for i in range(10)]
claims.check("eq-linear-score.templates",
             "The matrix made of mean pictures is right in {means:.1%}, that of least squares in "
             "{squares:.1%}.", means=(with_means, "<=", plain - 0.01), squares=plain)
claims.check("eq-linear-score.hands",
             "Tested on the last 450 digits of the file, mostly other writers, least squares is "
             "right in {order:.1%}; in ten random splits in {worst:.1%} to {best:.1%}.",
             order=in_order, worst=(min(at_random), ">=", in_order + 0.01), best=max(at_random))

# %% [markdown]
# A template is not what is typical but what **tells apart**: the middle of a 0 is blue: ink there means "anything but 0".
# The corners are pale: what is black in every picture tells nothing.
# (All our tests have the same writers on both sides, as in lesson 01; for new writers take some points off. The comparisons below are among equals.)
#
# **We now know** what one matrix knows: one picture of weights per class, and a sum.
# **This does not show** how much better a matrix could be: least squares is one way to choose it.
#
# **Exercise 02.1.** The mean pictures make a matrix too: "the class whose mean picture is nearest" is a linear classifier. Find its bias.
# (Begin with $\|x - m\|^2 = \|x\|^2 - 2\, m \cdot x + \|m\|^2$. Which term is the same for all classes?)

# %%
def nearest_mean_matrix(rows, labels):
    """W (C, D + 1) whose highest score on (x, 1) is that of the class with the nearest mean.

    rows (N, D), labels (N,) from 0 to C - 1; the last column of W is the bias.
    """
    ...

exercises.check("02.1", nearest_mean_matrix)

# %% [markdown]
# ## 2 · Two ways of being wrong
#
# Least squares asks for scores of exactly 1 and 0; a true class that scores 5 is punished for being *too right*.
# But only the order of the scores matters. A **loss** should say how wrong the order is, as one number per picture.
#
# **The hinge loss** (also: SVM loss) looks at each other class $j$: the true score $s_y$ should be larger by a *margin*, usually 1. What is missing is summed up:
#
# $$L = \sum_{j \ne y} \max(0,\ s_j - s_y + 1)$$
#
# **The squared hinge** squares each term before the sum.

# %% tags=["define", "ledger:eq-hinge", "ledger:eq-squared-hinge"]
def missing(scores, labels, margin=1.0):
    """What each class lacks to be a margin below the true one, (N, C); 0 where nothing lacks."""
    picture = np.arange(len(scores))
    true = scores[picture, labels][:, None]  # (N, 1)
    lack = np.maximum(0, scores - true + margin)
    lack[picture, labels] = 0  # the true class is not compared with itself
    return lack

def hinge(scores, labels, margin=1.0):
    """Hinge losses (N,) of scores (N, C)."""
    return missing(scores, labels, margin).sum(axis=1)

def squared_hinge(scores, labels, margin=1.0):
    return (missing(scores, labels, margin) ** 2).sum(axis=1)

# %%
cat = np.array([[-96.8, 437.9, 61.95]])  # a picture of a cat; scores of cat, dog and frog
print("missing:", missing(cat, [0]))
print("hinge:", hinge(cat, [0]), " squared:", squared_hinge(cat, [0]))
print("right, but by too little:", hinge(np.array([[3.0, 2.5]]), [0]))

# %% tags=["fold", "ledger:err-hinge-zero-condition"]
claims.check("num-hinge-cat-69545", "The cat's hinge loss is {dog:.2f} + {frog:.2f} = {total:.2f}.",
             dog=(missing(cat, [0])[0, 1], "~", 437.9 + 96.8 + 1, 1e-9),
             frog=(missing(cat, [0])[0, 2], "~", 61.95 + 96.8 + 1, 1e-9),
             total=(hinge(cat, [0])[0], "~", 695.45, 1e-9))
claims.check("num-hinge-cat-squared", "Its squared hinge loss is {total:,.2f}.",
             total=(squared_hinge(cat, [0])[0], "~", 535.7**2 + 159.75**2, 1e-6))
claims.check("err-hinge-predicted-class",
             "A sum that left out the class with the highest score, instead of the true one, "
             "would give the cat {wrong:.2f}.",
             wrong=(hinge(cat, cat.argmax(axis=1))[0], "<=", 1))

# %% [markdown]
# **Softmax and cross-entropy** read scores as probabilities: make each positive by the exponential, divide by the sum.
#
# $$p_k = \frac{e^{s_k}}{\sum_j e^{s_j}}, \qquad L = -\ln p_y$$
#
# $L$ is 0 only if the true class has all the probability, and grows without end as that probability goes to 0.
#
# As the formula is written it breaks when scores are large. The second version below the figure shifts all scores so that the highest is 0; that changes no probability, as numerator and denominator are divided by the same number.

# %% tags=["fold"]
three = np.array([1.2, 0.9, 0.4])
stages = {"scores": three, "exponentials": np.exp(three),
          "divided by their sum": np.exp(three) / np.exp(three).sum()}
fig, axes = plt.subplots(1, 3, figsize=(figures.WIDTH, 3.2))
for ax, (title, values) in zip(axes, stages.items(), strict=True):
    named = dict(zip(("class 1", "class 2", "class 3"), values, strict=True))
    plots.bars(ax, named, format="{:.2f}", colours=dict.fromkeys(named, "C0"))
    ax.set_title(title)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
fig.suptitle("Softmax: exponentials make scores positive, their sum makes them shares")
figures.save(fig, "fig-softmax-bars", caption="Three scores on their way to three probabilities.",
             alt="Scores 1.2, 0.9, 0.4 become the probabilities 0.46, 0.34 and 0.21.")

# %% tags=["define", "ledger:eq-softmax-cross-entropy"]
def softmax_as_written(scores):
    return np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)

def log_softmax(scores):
    """Logarithms of the probabilities: no exponential larger than e^0."""
    shifted = scores - scores.max(axis=-1, keepdims=True)  # the highest is now 0
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))

def softmax(scores):
    return np.exp(log_softmax(scores))

def cross_entropy(scores, labels):
    """Cross-entropy losses (N,) of scores (N, C)."""
    return -log_softmax(scores)[np.arange(len(scores)), labels]

# %%
large = np.array([123.0, 456.0, 789.0])
with np.errstate(over="ignore", invalid="ignore"):  # the overflow is the point here
    print("as written:", softmax_as_written(large))
print("shifted:   ", softmax(large), " loss if the first is true:", cross_entropy(large[None], [0]))

# %% tags=["fold"]
with np.errstate(over="ignore", invalid="ignore"):
    broken = softmax_as_written(large)
claims.check("num-softmax-overflow",
             "As written, softmax of [123, 456, 789] has {broken} entry that is no number; shifted "
             "it is right: the first has the probability {tiny:.3e} and the loss {loss:.0f}. The "
             "exponential overflows above {double:.2f}, in float32 above {single:.2f}.",
             broken=(int(np.isnan(broken).sum()), "==", 1),
             tiny=(softmax(large)[0], "~", np.exp(-666.0), 1e-300),
             loss=(cross_entropy(large[None], [0])[0], "==", 666.0),
             double=(np.log(np.finfo(np.float64).max), "~", 709.78, 0.005),
             single=(np.log(float(np.finfo(np.float32).max)), "~", 88.72, 0.005))
claims.check("num-softmax-three-scores",
             "Softmax of [1.2, 0.9, 0.4] is {a:.3f}, {b:.3f}, {c:.3f}.",
             a=(softmax(three)[0], "~", 0.46, 0.005), b=(softmax(three)[1], "~", 0.34, 0.005),
             c=(softmax(three)[2], "~", 0.21, 0.005))
claims.check("err-softmax-rounding", "Its third entry rounds to {third}.",
             third=(round(float(softmax(three)[2]), 2), "==", 0.21))

# %% [markdown]
# Move the scores and watch the two: when does the hinge fall silent, and does cross-entropy ever?

# %% tags=["fold", "nbval-rtol=1e-6"]
def draw_losses(cat, dog, frog):
    """Scores of three classes, of which the cat is true, and their losses."""
    scores = np.array([[cat, dog, frog]])
    fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.4))
    named = dict(zip(("cat\n(true)", "dog", "frog"), scores[0], strict=True))
    colours = dict(zip(named, ("C0", "0.55", "0.55"), strict=True))
    plots.bars(axes[0], named, format="{:.1f}", colours=colours)
    axes[0].axhline(cat - 1, color="C1", linestyle="--")
    axes[0].set(title="others should stay below the line", ylim=(-5.5, 6.5))
    losses = [loss(scores, [0])[0] for loss in (hinge, squared_hinge, cross_entropy)]
    named = dict(zip(("hinge", "squared\nhinge", "cross-\nentropy"), losses, strict=True))
    plots.bars(axes[1], named, format="{:.2f}", colours=dict.fromkeys(named, "C1"))
    axes[0].set_ylabel("score")
    axes[1].set(title="losses of this picture", ylim=(0, max(3, 1.2 * max(losses))))
    return fig, "hinge {:.2f}, squared hinge {:.2f}, cross-entropy {:.3f}".format(*losses)

widgets.explore(draw_losses, cat=widgets.Slider(2.0, -5, 5, 0.1),
                dog=widgets.Slider(1.4, -5, 5, 0.1), frog=widgets.Slider(-1.0, -5, 5, 0.1))

# %%
exercises.predict("02.p2", "The true class leads by 10. Raise its score by 0.001; what falls:",
                  ("the hinge loss", "cross-entropy", "both", "neither"))

# %%
led, raised = np.array([[10.0, 0.0, 0.0]]), np.array([[10.001, 0.0, 0.0]])
hinge_falls = (hinge(led, [0]) - hinge(raised, [0]))[0]
entropy_falls = (cross_entropy(led, [0]) - cross_entropy(raised, [0]))[0]
falls = {(True, True): "both", (True, False): "the hinge loss",
         (False, True): "cross-entropy", (False, False): "neither"}
exercises.reveal("02.p2", falls[hinge_falls > 0, entropy_falls > 0],
                 f"The hinge loss falls by {hinge_falls:.0f}, cross-entropy by "
                 f"{entropy_falls:.0e}.")

# %% tags=["fold"]
lead = np.linspace(-3, 4, 141)
pairs = np.stack([lead, np.zeros_like(lead)], axis=1)  # the true class leads by `lead`
none = np.zeros(len(lead), dtype=int)
series = {"hinge": hinge(pairs, none), "squared hinge": squared_hinge(pairs, none),
          "cross-entropy": cross_entropy(pairs, none), "least squares": (lead - 1) ** 2 / 2}
colours = dict(zip(series, ("C0", "C3", "C1", "C2"), strict=True))
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.9))
ax.set(xlim=(-3, 4), ylim=(0, 6), xlabel="lead of the true class over the other", ylabel="loss")
plots.curves(ax, series, x=lead, colours=colours, labels=False)
bold = {"fontsize": 13, "fontweight": "bold"}
ax.text(-2.4, 3.5, "hinge", color="C0", **bold)
ax.text(-1.2, 5.4, "squared hinge", color="C3", **bold)
ax.text(-2.95, 1.3, "cross-entropy", color="C1", **bold)
ax.text(2.45, 2.9, "least squares\n(to 1 and 0)", color="C2", ha="right", **bold)
ax.set_title("Hinge is content at 1, cross-entropy never, least squares objects to more")
figures.save(fig, "eq-hinge.curves",
             caption="The losses of two classes against the lead of the true one.",
             alt="Hinge is 0 from 1 on; cross-entropy only nears 0; least squares rises again.")

# %% [markdown]
# On the wrong side the hinge pulls with constant force, cross-entropy with almost the same; the squared hinge pulls the harder the more wrong a picture is.
# Where no score has been learnt yet, all ten are nearly equal, and both losses can be foretold: $C - 1$ and $\ln C$. That is the first thing to check in any training.
#
# **Why the logarithm?** Read $p_y$ as the probability that the model gives to the true label. To all labels at once it gives the *product* of these: their **likelihood**. The best model is the one under which what happened was likeliest.
# The logarithm turns the product into a sum, with one term a picture, and that is what the sum of cross-entropies is (with a minus, so that less is better).

# %% tags=["nbval-rtol=1e-6"]
small = np.random.default_rng(seed).normal(0, 1e-3, W.shape)
at_start = with_one(x_train) @ small.T  # (N, C)
p_true = softmax(at_start)[np.arange(len(train)), y_train]  # (N,)
print("likelihood of 100 labels:", np.prod(p_true[:100]), " of all:", np.prod(p_true))
print("sum of cross-entropies of all:", cross_entropy(at_start, y_train).sum())

# %% tags=["fold", "ledger:eq-cross-entropy-mle", "ledger:eq-average-loss", "ledger:err-loss-formula-missing-l"]
claims.check("num-hinge-initial-loss",
             "With small random weights the mean hinge loss is {hinge:.3f} and the mean "
             "cross-entropy {entropy:.4f}; ten equal scores give 9 and ln 10 = {log:.4f}.",
             hinge=(hinge(at_start, y_train).mean(), "~", classes - 1, 0.01 * (classes - 1)),
             entropy=(cross_entropy(at_start, y_train).mean(), "~", np.log(classes), 0.01),
             log=np.log(classes))
outlier = np.array([[0.0, 49.0], [0.0, 49.001]])  # lacks 50, and a thousandth more
pull = [1000 * np.diff(loss(outlier, [0, 0]))[0] for loss in (hinge, squared_hinge)]
claims.check("emp-squared-hinge-sometimes-better.pull",
             "A picture that lacks 50 pulls with force {plain:.1f} under the hinge and with "
             "{squared:.1f} under the squared hinge.",
             plain=(pull[0], "~", 1, 1e-6), squared=(pull[1], "~", 100, 0.01))
few = cross_entropy(at_start[:100], y_train[:100]).sum()
claims.check("eq-cross-entropy-mle",
             "For 100 labels minus the logarithm of the likelihood and the sum of cross-entropies "
             "differ by {apart:.0e}; the likelihood of all is too small for a float64: {product}.",
             apart=(abs(-np.log(np.prod(p_true[:100])) - few), "<=", 1e-10),
             product=(np.prod(p_true), "==", 0.0), varies=True)

# %% [markdown]
# **We now know** two ways of being wrong: by a missing margin, and by a missing probability. Cross-entropy is maximum likelihood.
# **This does not show** which finds the better matrix. The next section does.
#
# **Exercise 02.2.** With two classes one score $z$ is enough: the probability of class 1 is the *sigmoid* $1 / (1 + e^{-z})$ (softmax of $[z, 0]$), and $L = -t \ln p - (1 - t) \ln(1 - p)$ for a label $t$ of 0 or 1.
# Write it so that it survives $z = \pm 1000$.

# %%
def binary_cross_entropy(score, target):
    """Losses of scores z (N,) and labels t (N,), 0 or 1."""
    ...

exercises.check("02.2", binary_cross_entropy)

# %% [markdown]
# ## 3 · Finding the matrix
#
# A loss turns learning into a search: for the matrix at which the mean loss over the training pictures is lowest.
# **Strategy one:** try matrices at random and keep the best.

# %% tags=["define", "ledger:eq-random-search-optimisation"]
def random_search(rows, labels, classes, tries, generator):
    """The best of `tries` random matrices, and the lowest loss after each try."""
    lowest, best, history = np.inf, None, []
    for _ in range(tries):
        W = generator.normal(0, 0.1, (classes, rows.shape[1]))  # of 0.03 to 1 the best scale
        loss = cross_entropy(rows @ W.T, labels).mean()
        if loss < lowest:
            lowest, best = loss, W
        history.append(lowest)
    return best, history

# %%
exercises.predict("02.p3", f"The best of {tries} random matrices names right, of 100 test digits:",
                  ("fewer than 30", "30 to 60", "more than 60"))

# %%
rows_train, rows_test = with_one(x_train), with_one(x_test)  # from here on always with the 1
searches = [random_search(rows_train, y_train, classes, tries, np.random.default_rng(seed + run))
            for run in range(runs)]
by_luck = [accuracy(best, rows_test, y_test) for best, _ in searches]
mean_luck = np.mean(by_luck)
exercises.reveal("02.p3", "fewer than 30" if mean_luck < 0.3 else "30 to 60" if mean_luck < 0.6
                 else "more than 60", f"{100 * mean_luck:.0f} of 100, the mean of {runs} searches.")

# %% [markdown]
# **Strategy two:** follow the slope. How does the loss of one picture change with each of its scores?
#
# - *Cross-entropy:* by $p_k$ for every class, and for the true one by $p_y - 1$. Probability that is in the wrong place pushes.
# - *Hinge:* by 1 for each class that comes too close, and for the true one by minus their number.
#
# A score is a sum of weight × pixel, so a weight's slope is (slope of its score) × (its pixel), averaged over the pictures. That is one matrix product.
#
# (A formula for a slope is checked by differences: change one weight by $h = 10^{-5}$ up and down, and divide the difference of the losses by $2h$. That takes two losses a weight: good for a check, too slow for anything else.)

# %% tags=["define"]
def cross_entropy_slope(scores, labels):
    """Slopes (N, C) of the losses with respect to the scores."""
    slope = softmax(scores)
    slope[np.arange(len(scores)), labels] -= 1
    return slope

def hinge_slope(scores, labels):
    slope = (missing(scores, labels) > 0).astype(float)  # 1 for each class that is too close
    slope[np.arange(len(scores)), labels] = -slope.sum(axis=1)
    return slope

def descend(slope, rows, labels, start, steps, rate, l2=0.0):
    """W after `steps` steps down the slope of the mean loss + l2 · (sum of squared weights)."""
    W = start.copy()  # (C, D + 1)
    for _ in range(steps):
        uphill = slope(rows @ W.T, labels).T @ rows / len(rows)  # (C, D + 1)
        uphill[:, :-1] += 2 * l2 * W[:, :-1]  # section 4; not for the biases
        W -= rate * uphill
    return W

# %%
nothing = np.zeros((classes, rows_train.shape[1]))  # all weights 0
W = descend(cross_entropy_slope, rows_train, y_train, nothing, steps, rate)
accuracy(W, rows_train, y_train), accuracy(W, rows_test, y_test)

# %% tags=["fold"]
def by_differences(loss, W, rows, labels, h=1e-5):
    """The slope of the mean loss for each weight, from the loss alone."""
    slope = np.empty_like(W)
    for place in np.ndindex(W.shape):
        ends = []
        for change in (h, -h):
            moved = W.copy()
            moved[place] += change
            ends.append(loss(rows @ moved.T, labels).mean())
        slope[place] = (ends[0] - ends[1]) / (2 * h)
    return slope

few_rows, few_labels = rows_train[:50], y_train[:50]
somewhere = np.random.default_rng(seed).normal(0, 0.5, W.shape)
by_torch = {"hinge": lambda s, y: classes * functional.multi_margin_loss(s, y),
            "cross-entropy": functional.cross_entropy}
for name, loss, slope in (("hinge", hinge, hinge_slope),
                          ("cross-entropy", cross_entropy, cross_entropy_slope)):
    scores = torch.tensor(few_rows @ somewhere.T, requires_grad=True)
    by_torch[name](scores, torch.tensor(few_labels)).backward()
    formula = slope(few_rows @ somewhere.T, few_labels).T @ few_rows / 50
    checked = by_differences(loss, somewhere, few_rows, few_labels)
    claims.check("eq-hinge.slope" if loss is hinge else "eq-softmax-cross-entropy.slope",
                 "The {count} slopes of the {name} loss: formula and differences are at most "
                 "{difference:.0e} apart, formula and torch {torch:.0e}.",
                 count=formula.size, name=name,
                 difference=(np.abs(formula - checked).max(), "<=", 1e-7),
                 torch=(np.abs(formula - scores.grad.numpy().T @ few_rows).max(), "<=", 1e-12),
                 varies=True)

# %% tags=["fold"]
curve, W_now = [], nothing
for _ in range(100):
    curve.append(cross_entropy(rows_train @ W_now.T, y_train).mean())
    W_now = descend(cross_entropy_slope, rows_train, y_train, W_now, 1, rate)
after_100 = accuracy(W_now, rows_test, y_test)

def stepwise_search(rows, labels, classes, tries, generator):
    """Random steps from where one is, each kept if it lowers the loss."""
    W = np.zeros((classes, rows.shape[1]))
    lowest, history = cross_entropy(rows @ W.T, labels).mean(), []
    for _ in range(tries):
        there = W + generator.normal(0, 0.05, W.shape)
        loss = cross_entropy(rows @ there.T, labels).mean()
        if loss < lowest:
            W, lowest = there, loss
        history.append(lowest)
    return W, history

walks = [stepwise_search(rows_train, y_train, classes, tries, np.random.default_rng(seed + run))
         for run in range(runs)]
by_walk = [accuracy(best, rows_test, y_test) for best, _ in walks]

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.0))
ax.set(xscale="log", xlim=(1, tries), ylim=(0, 3.3), xlabel="matrices tried, or steps taken",
       ylabel="mean cross-entropy")
plots.curves(ax, {"luck": [h for _, h in searches], "steps": [h for _, h in walks]},
             x=np.arange(1, tries + 1), colours={"luck": "C1", "steps": "C3"}, labels=False)
ax.plot(range(1, 101), curve, color="C0")
ax.axhline(np.log(classes), color=figures.COLOUR["muted"], linestyle="--")
ax.text(tries, np.log(classes) + 0.04, "all scores equal", color="0.35", ha="right", fontsize=12)
ax.text(1.4, 2.75, f"random matrices: {np.mean(by_luck):.0%} right", color="C1", **bold)
ax.text(0.12 * tries, 0.3, f"random steps,\nkept if better:\n{np.mean(by_walk):.0%} right",
        color="C3", **bold)
ax.text(1.3, 0.3, f"down the slope: {after_100:.0%} right", color="C0", **bold)
ax.set_title("Following the slope needs 100 steps; luck gets nowhere in 1,000 tries")
figures.save(fig, "emp-random-search-of-weights-bad.race",
             caption=f"Lowest loss so far (mean and range of {runs} searches), loss down the "
                     f"slope, and accuracies in the test; {dataset}. A step down the slope costs "
                     "about as much as two or three tries.",
             alt="Random matrices stay above 2.2; the slope reaches 0.3 after 100 steps.")

# %% tags=["fold"]
claims.check("emp-random-search-of-weights-bad",
             "The best of {tries} random matrices is right in {luck:.1%} of the test, {tries} "
             "random steps lead to {walk:.1%}, 100 steps down the slope to {slope:.1%}.",
             tries=tries, luck=(by_luck, "<=", 0.4), walk=(by_walk, "in", (0.6, 0.93)),
             slope=(after_100, ">=", 0.94), seeds=runs, on="every")

# %% [markdown]
# **Why is luck so bad?** A direction in the space of $n$ weights has $n$ components, and a random one shares little with the slope. Measure the cosine of the angle between the slope and random directions, for all 650 weights and for 2 of them:

# %% tags=["nbval-rtol=1e-6"]
uphill = cross_entropy_slope(rows_train @ nothing.T, y_train).T @ rows_train  # (C, D + 1)

def mean_cosine(slope, generator, draws=2000):
    """Mean size of the cosine between a slope and random directions."""
    directions = generator.normal(size=(draws, slope.size))
    lengths = np.linalg.norm(directions, axis=1) * np.linalg.norm(slope)
    return np.abs(directions @ slope.ravel() / lengths).mean()

of_all = mean_cosine(uphill, np.random.default_rng(seed))
middle = side * side // 2 + side // 2  # a pixel in the middle of the picture
of_two = mean_cosine(uphill[:2, middle], np.random.default_rng(seed))
of_all, of_two

# %% tags=["fold"]
claims.check("emp-random-search-of-weights-bad.cosine",
             "A random direction goes along the slope with {all:.1%} of its length where there "
             "are 650 weights, and with {two:.0%} where there are 2.",
             all=(of_all, "<=", 0.05), two=(of_two, ">=", 0.55))

def redrawn(run):
    """Training and test pictures drawn anew from both, with the 1: rows, labels, rows, labels."""
    mix = np.random.default_rng(100 + seed + run).permutation(len(train) + len(test))
    rows = np.concatenate([rows_train, rows_test])[mix]
    labels = np.concatenate([y_train, y_test])[mix]
    return rows[:len(train)], labels[:len(train)], rows[len(train):], labels[len(train):]

squared_hinge_slope = exercises.find("02.3").solution  # yours to write, below

# %% tags=["fold"]
contest = {"hinge": [], "squared": [], "entropy": [], "squares": []}
spoiled = {"hinge": [], "squared": []}
for run in range(runs):
    rows, labels, new_rows, new_labels = redrawn(run)
    generator = np.random.default_rng(seed + run)
    wrong = np.where(generator.random(len(labels)) < 0.2,
                     generator.integers(0, classes, len(labels)), labels)
    for name, slope, pace in (("hinge", hinge_slope, 0.3), ("squared", squared_hinge_slope, 0.05),
                              ("entropy", cross_entropy_slope, 2.0)):
        found = descend(slope, rows, labels, nothing, steps, pace * rate)
        contest[name].append(accuracy(found, new_rows, new_labels))
        if name in spoiled:
            found = descend(slope, rows, wrong, nothing, steps, pace * rate)
            spoiled[name].append(accuracy(found, new_rows, new_labels))
    contest["squares"].append(accuracy(least_squares(rows, labels, classes), new_rows, new_labels))
three_losses = np.array([contest[name] for name in ("hinge", "squared", "entropy")])
claims.check("fig-linear-templates.contest",
             "In {runs} redrawn splits least squares is right in {squares:.1%} and, after {steps} "
             "steps, hinge in {hinge:.1%}, squared hinge in {squared:.1%}, cross-entropy in "
             "{entropy:.1%}: means within {losses:.1%}, while the splits are {splits:.1%} apart.",
             squares=(contest["squares"], "<=", np.mean(contest["entropy"]) - 0.01), steps=steps,
             hinge=contest["hinge"], squared=contest["squared"], entropy=contest["entropy"],
             losses=(np.ptp(three_losses.mean(axis=1)), "<=", 0.01), runs=runs, seeds=runs,
             splits=(np.ptp(three_losses, axis=1).mean(), ">=", 0.01), on="mean", varies=True)
claims.check("emp-squared-hinge-sometimes-better",
             "With a fifth of the training labels drawn at random hinge falls to {hinge:.1%}, "
             "squared hinge to {squared:.1%}.",
             hinge=(spoiled["hinge"], "<=", np.mean(contest["hinge"]) - 0.02),
             squared=(spoiled["squared"], "<=", np.mean(contest["squared"]) - 0.02), seeds=runs,
             varies=True)

# %% [markdown]
# **We now know** how a matrix is found: a loss, its slope, many small steps downhill. The slope tells all 650 weights at once what to do; a random try tells nothing.
# Which of the three losses one takes matters less than which pictures one happened to draw.
# **This does not show** how large a step should be (lesson 09), nor how slopes are found where there is more than one matrix (lesson 03).
#
# **Exercise 02.3.** The slope of the **squared** hinge with respect to the scores. `missing` does most of it.

# %%
def squared_hinge_slope_here(scores, labels):
    """Slopes (N, C) of the squared hinge losses of scores (N, C) with margin 1."""
    ...

exercises.check("02.3", squared_hinge_slope_here)

# %% [markdown]
# ## 4 · Zero loss, and still many matrices
#
# A hundred training pictures, the hinge loss, and a matrix that brings it to 0: every picture right, every margin kept.
# Is the matter settled? Start the descent twice: from all zeros, and from large random weights.

# %%
exercises.predict("02.p4", "Two matrices, both with loss 0. Of 100 test digits they disagree on:",
                  ("0 or 1", "about 5", "about 20"))

# %%
def two_starts(l2, run):
    """Two matrices, from zeros and from large random weights, and 100 pictures they learn from."""
    generator = np.random.default_rng(seed + run)
    few = generator.choice(len(train), 100, replace=False)
    found = []
    for W in (nothing, generator.normal(0, 1, nothing.shape)):
        for pace in (0.1, 0.01):  # large steps, then small ones
            W = descend(hinge_slope, rows_train[few], y_train[few], W, 2000, pace * rate, l2)
        found.append(W)
    return found, few

# %%
def disagreement(result):
    """The share of test pictures to which the two matrices give different answers."""
    first, second = ((rows_test @ W.T).argmax(axis=1) for W in result[0])
    return (first != second).mean()

pairs_plain = [two_starts(0.0, run) for run in range(runs)]
apart = np.mean([disagreement(pair) for pair in pairs_plain])
exercises.reveal("02.p4", "about 20" if apart > 0.1 else "about 5" if apart > 0.02 else "0 or 1",
                 f"On {100 * apart:.0f} of 100.")

# %% [markdown]
# The training pictures do not decide between the two. Nor between $W$ and $2W$: twice the scores, twice the margins, still 0. The descent stops at the first matrix without loss that it meets, and what the start brought along is still in it.
#
# So we say which matrix we *want*: the one with small weights. **Regularisation** adds to the loss a price for weights,
#
# $$\frac{1}{N} \sum_i L_i + \lambda R(W), \qquad R_{L2} = \sum w^2, \qquad R_{L1} = \sum |w|,$$
#
# and the *regularisation strength* $\lambda$ says how dear weights are. (Both prices at once: *elastic net*. Biases are free: they only say how frequent a class is or how bright the pictures are.)

# %%
pairs_priced = [two_starts(0.03, run) for run in range(runs)]

# %% tags=["fold"]
def right(results, which):
    """Test accuracies of the first or second matrix of each run."""
    return [accuracy(found[which], rows_test, y_test) for found, _ in results]

def highest_loss(results, factor):
    """The highest mean hinge loss of the found matrices, times a factor, on their 100 pictures."""
    return max(hinge(factor * rows_train[few] @ W.T, y_train[few]).mean()
               for found, few in results for W in found)

starts = [np.random.default_rng(seed + run) for run in range(runs)]
kept = []
for generator, (found, _) in zip(starts, pairs_plain, strict=True):
    generator.choice(len(train), 100, replace=False)  # as in two_starts
    far = generator.normal(0, 1, nothing.shape)
    kept.append((far * found[1]).sum() / np.linalg.norm(far) / np.linalg.norm(found[1]))

# %% tags=["fold"]
names = ["no price, from zeros", "no price, from afar", "L2, from zeros", "L2, from afar"]
four = [*pairs_plain[0][0], *pairs_priced[0][0]]
fig, axes = plt.subplots(1, 4, figsize=(figures.WIDTH, 3.0))
for ax, name, found in zip(axes, names, four, strict=True):
    templates(ax, found[:1, :-1], side)
    ax.set_title(name.replace(", ", "\n"), fontsize=13)
    share = accuracy(found, rows_test, y_test)
    ax.text(0.5, -0.04, f"{share:.0%} right", transform=ax.transAxes, ha="center", va="top",
            fontsize=13)
fig.suptitle("Zero loss leaves the matrix open; a price on weights closes it")
figures.save(fig, "emp-zero-loss-not-unique",
             caption="The template of the first class after 4,000 steps from two starts, without "
                     f"and with L2 (strength 0.03), and accuracies in the test; hinge, 100 "
                     f"training pictures of {dataset}. Each with a colour scale of its own.",
             alt="Without a price one of two zero-loss templates is noise; with L2 both are equal.")

# %% tags=["fold"]
claims.check("emp-zero-loss-not-unique",
             "Without a price all losses are {loss:.3f} (and of 2 W {double:.3f}); right in the "
             "test are {near:.1%} from zeros and {far:.1%} from afar, and on {apart:.1%} the two "
             "disagree. The cosine between a matrix from afar and its start is {cosine:.2f}.",
             loss=(highest_loss(pairs_plain, 1), "<=", 1e-3),
             double=(highest_loss(pairs_plain, 2), "<=", 1e-3),
             near=(right(pairs_plain, 0), ">=", 0.8), far=(right(pairs_plain, 1), "<=", 0.85),
             apart=([disagreement(pair) for pair in pairs_plain], ">=", 0.1),
             cosine=(kept, ">=", 0.7), seeds=runs, on="every", varies=True)
claims.check("emp-regularisation-prefers-small.starts",
             "With L2 of strength 0.03 right are {near:.1%} from zeros and {far:.1%} from afar, "
             "and they disagree on {apart:.1%}.",
             near=right(pairs_priced, 0), far=(right(pairs_priced, 1), ">=", 0.8),
             apart=([disagreement(pair) for pair in pairs_priced], "<=", 0.03), seeds=runs,
             on="every", varies=True)

# %% [markdown]
# With a price, both starts end at (nearly) the same matrix, and noise has become a template. (It hardly lifted the better of the two. It made the bad start be forgotten.)
#
# **Which weights die?** $L2$ pulls at a weight with force $2 \lambda w$, which fades as the weight shrinks; $L1$ pulls with force $\lambda$, however small the weight is, until it is 0.
# Written as a slope, $L1$ would overshoot 0 and jitter around it. So after each step all weights move towards 0 by that force, and stop there:

# %% tags=["define"]
def descend_l1(slope, rows, labels, start, steps, rate, l1):
    """W after `steps` steps down the slope of the mean loss + l1 · (sum of |weights|)."""
    W = start.copy()
    for _ in range(steps):
        W = descend(slope, rows, labels, W, 1, rate)
        sizes = np.maximum(np.abs(W[:, :-1]) - rate * l1, 0)  # 0 is as far as it goes
        W[:, :-1] = np.sign(W[:, :-1]) * sizes
    return W

# %% tags=["fold"]
def as_slope(l1):
    """The same with the force as part of the slope: it jitters."""
    W = nothing.copy()
    for _ in range(steps):
        force = np.sign(W)
        force[:, -1] = 0
        W = descend(cross_entropy_slope, rows_train, y_train, W, 1, rate) - rate * l1 * force
    return W

strengths = [1e-4, 1e-3, 1e-2, 1e-1]
common = cross_entropy_slope, rows_train, y_train, nothing, steps, rate
by_l1 = [descend_l1(*common, strength)[:, :-1] for strength in strengths]
by_l2 = [descend(*common, strength)[:, :-1] for strength in strengths]
black = (x_train == 0).all(axis=0)  # pixels that are black in every training picture

def zeros(weights):
    """Share of the weights that are exactly 0, of pixels that are ever lit."""
    return (weights[:, ~black] == 0).mean()

# %% tags=["fold"]
fig, axes = plt.subplots(1, 3, figsize=(figures.WIDTH, 3.3), width_ratios=(1.5, 1, 1))
axes[0].set(xscale="log", xlabel="strength", ylabel="weights that are exactly 0", ylim=(-0.05, 1))
axes[0].plot(strengths, [zeros(w) for w in by_l1], "o-", color="C1")
axes[0].plot(strengths, [zeros(w) for w in by_l2], "o-", color="C0")
axes[0].text(1.2e-4, 0.75, "L1", color="C1", **bold)
axes[0].text(2e-2, 0.05, "L2", color="C0", **bold)
axes[0].yaxis.set_major_formatter("{x:.0%}")
for ax, name, found in ((axes[1], "L1", by_l1[2]), (axes[2], "L2", by_l2[2])):
    largest = np.abs(found).max(axis=0).reshape(side, side)
    plots.heat(ax, np.where(largest > 0, largest, np.nan), format=None, limits=(0, largest.max()))
    ax.set_facecolor("0.85")
    ax.set_title(f"{name}, 0.01: {(largest == 0).sum()} pixels\nunused (grey)", fontsize=12)
fig.suptitle("L1 switches pixels off; L2 makes all weights small and none 0")
figures.save(fig, "emp-regularisation-prefers-small",
             caption=f"Left: weights of lit pixels that are exactly 0 after {steps} steps. Right: "
                     "the largest weight that any class has for each pixel (yellow: large); "
                     f"{dataset}.",
             alt="L1 leaves half of the pixels unused, L2 only those that are always black.")

# %% tags=["fold"]
lengths = [np.linalg.norm(w) for w in by_l2]
right_l1, right_l2 = (accuracy(descend_any(*common, 1e-3), rows_test, y_test)
                      for descend_any in (descend_l1, descend))
claims.check("emp-regularisation-prefers-small",
             "From strength 0.0001 to 0.1 of L2 the length of W falls from {first:.1f} to "
             "{last:.1f}, at each tenfold at least by the factor {least:.2f}.",
             first=lengths[0], last=(lengths[-1], "<=", 0.3 * lengths[0]),
             least=(min(np.divide(lengths[:-1], lengths[1:])), ">", 1))
one, four = (torch.tensor(w, requires_grad=True) for w in ([1.0, 0, 0, 0], [0.25] * 4))
(0.3 * (one.abs().sum() + 2 * (one**2).sum())).backward()  # elastic net: λ (|w| + β w²)
by_parts = 0.3 * np.sign(1.0) + 0.6 * 2 * 1.0  # strengths 0.3 of L1 and 0.6 of L2
claims.check("eq-regularisers",
             "L2 asks {one:.2f} for one weight of 1 and {four:.2f} for four of a quarter, L1 "
             "{sum_one:.0f} and {sum_four:.0f}. Elastic net with strength 0.3 and β = 2 pulls at "
             "the weight 1 with {pull:.2f}.",
             one=((one**2).sum().item(), "==", 1.0), four=((four**2).sum().item(), "==", 0.25),
             sum_one=one.abs().sum().item(), sum_four=(four.abs().sum().item(), "==", 1.0),
             pull=(one.grad[0].item(), "~", by_parts, 1e-12))
claims.check("emp-regularisation-prefers-small.zeros",
             "At 0.001 L1 makes {l1:.0%} of the weights of lit pixels exactly 0, L2 {l2:.0%}, L1 "
             "as a slope {jitter:.0%}; right in the test: {right_l1:.1%} and {right_l2:.1%}.",
             l1=(zeros(by_l1[1]), ">=", 0.3), l2=(zeros(by_l2[1]), "<=", 0.01),
             jitter=(zeros(as_slope(1e-3)[:, :-1]), "<=", 0.05),
             right_l1=(right_l1, ">=", right_l2 - 0.03), right_l2=right_l2)

# %% [markdown]
# One weight or four? $w = (1, 0, 0, 0)$ and $w = (¼, ¼, ¼, ¼)$ give the picture $(1, 1, 1, 1)$ the same score 1. $L2$ asks 1 for the first and ¼ for the second, and so spreads weight over pixels that say the same; $L1$ asks 1 for both.
#
# **We now know** why a loss of zero is not the end: it leaves freedom, and the price decides what becomes of it.
# **This does not show** that regularisation raises the accuracy: it did not here. Lesson 08 is about when it does.
#
# **Exercise 02.4.** Of all matrices $c\,W$ with $c > 0$, many have hinge loss 0. Find the smallest such $c$ (the cheapest of them), from the scores of $W$.

# %%
def smallest_factor(scores, labels):
    """The smallest c with hinge(c * scores, labels) == 0 for all pictures.

    scores (N, C), in which every true class leads.
    """
    ...

exercises.check("02.4", smallest_factor)

# %% [markdown]
# ## 5 · What no matrix can do
#
# One template a class. So what about a class that looks in two ways?
# Take the negative of every test picture: black for white, $1 - x$. For us it is hardly harder to read. Ask the matrix of section 3, which has seen ordinary digits only.

# %%
exercises.predict("02.p5", "Of 100 negatives the matrix names right:",
                  ("about 90", "about 10", "about 0"))

# %%
negative_test = with_one(1 - x_test)
on_negatives = accuracy(W, negative_test, y_test)
exercises.reveal("02.p5", "about 90" if on_negatives > 0.5 else "about 10" if on_negatives > 0.05
                 else "about 0", f"{100 * on_negatives:.0f} of 100, of {len(test)} pictures.")

# %% [markdown]
# Worse than guessing! The reason is one line of algebra: for each class the scores of a picture and of its negative add up to
#
# $$(w \cdot x + b) + (w \cdot (1 - x) + b) = w \cdot 1 + 2b,$$
#
# the same number for every picture. What scores high on $x$ must score low on $1 - x$: the winner becomes (nearly) the last.
# For both to be right, the true class must lead every other one twice, so its sum must be the largest of all: that holds for **one class only**, whatever the matrix.
#
# And if negatives are in the training pictures, half and half? Each template would have to be red and blue in the same place.

# %%
def half_negative(rows, generator):
    """Each picture with probability 1/2 as its negative."""
    return np.where(generator.random((len(rows), 1)) < 0.5, 1 - rows, rows)

both_train = half_negative(x_train, np.random.default_rng(seed))
both_test = half_negative(x_test, np.random.default_rng(seed + 1))
W_both = descend(cross_entropy_slope, with_one(both_train), y_train, nothing, 1000, rate / 2)
linear_both = accuracy(W_both, with_one(both_test), y_test)
linear_fitted = accuracy(W_both, with_one(both_train), y_train)
linear_both, linear_fitted

# %% [markdown]
# It cannot even learn its training pictures. Give it a second layer (64 templates, of which each answers 0 where its sum is negative, and a second matrix on top), or leave the matrix alone and change the numbers: of each pixel only its distance from grey, $|x - ½|$, which is equal for a picture and its negative.

# %%
networks = [trained_network(both_train, y_train, classes, hidden, seed + run) for run in range(3)]
network_both = [(network(both_test).argmax(axis=1) == y_test).mean() for network in networks]
grey_train, grey_test = (with_one(2 * np.abs(x - 0.5)) for x in (both_train, both_test))
W_grey = descend(cross_entropy_slope, grey_train, y_train, nothing, 1000, rate)
grey_both = accuracy(W_grey, grey_test, y_test)
network_both, grey_both

# %% tags=["fold"]
ordinary = accuracy(W, rows_test, y_test)
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.9), width_ratios=(1, 2.2))
shown = np.concatenate([x_test[:3], 1 - x_test[:3]]).reshape(-1, side, side)
shown = shown[[0, 3, 1, 4, 2, 5]]  # each beside its negative
answers = [train.classes[s] for s in
           (with_one(shown.reshape(6, -1)) @ W.T).argmax(axis=1)]
edged = np.pad(np.kron(shown, np.ones((1, 5, 5))), ((0, 0), (1, 1), (1, 1)), constant_values=0.6)
plots.image_grid(axes[0], edged, columns=2, labels=[f"says {a}" for a in answers], fontsize=13)
values = {"ordinary": [ordinary], "negatives": [on_negatives],
          "half negative,\nlinear": [linear_both],
          "half negative,\nlinear in |x − ½|": [grey_both],
          "half negative,\ntwo layers": network_both}
colours = dict(zip(values, ("C1", "C1", "C1", "C2", "C0"), strict=True))
plots.bars(axes[1], values, horizontal=True, format="{:.0%}", colours=colours)
axes[1].axvline(1 / classes, color=figures.COLOUR["ink"], linestyle=":")
axes[1].set(xlim=(0, 1.15), xlabel="accuracy in the test (dotted: guessing)")
axes[1].xaxis.set_major_formatter("{x:.0%}")
axes[1].set_xticks([0, 0.5, 1])
fig.suptitle("On negatives the matrix is never right; training on both hardly helps")
figures.save(fig, "emp-linear-limits",
             caption="Left: what the matrix of section 3 says to three test pictures and their "
                     f"negatives. Right: accuracies; the lower three were trained on {len(train)} "
                     f"pictures, half of them negatives (the network three times); {dataset}.",
             alt="The matrix reads ordinary digits, no negative, and few if trained on both; a "
                 "network with two layers reads both.")

# %% tags=["fold"]
scores_negative = negative_test @ W.T
true_negative = scores_negative[np.arange(len(test)), y_test][:, None]
place = 1 + (scores_negative > true_negative).sum(axis=1)
sums = rows_test @ W.T + scores_negative  # (M, C)
twice = [(with_one(x) @ W_both.T).argmax(axis=1) == y_test for x in (x_test, 1 - x_test)]
read_twice = y_test[twice[0] & twice[1]]
claims.check("emp-linear-limits",
             "Right are {ordinary:.1%} of the ordinary digits and {negative:.1%} of their "
             "negatives, where the true class takes place {place:.1f} of 10 in the mean; the sum "
             "of the two scores differs between pictures by at most {spread:.0e}.",
             ordinary=(ordinary, ">=", 0.94), negative=(on_negatives, "<=", 0.02),
             place=(place.mean(), ">=", 9), spread=(np.ptp(sums, axis=0).max(), "<=", 1e-9),
             varies=True)
claims.check("emp-linear-limits.both",
             "Trained on both the matrix is right in {linear:.1%} (of its own training pictures "
             "in {fitted:.1%}; in both forms it reads {pairs:.1%} of the pictures, of {one} "
             "class), on |x − ½| in {grey:.1%}, the two-layer network in {network:.1%}.",
             linear=(linear_both, "<=", 0.4), fitted=(linear_fitted, "<=", 0.6),
             pairs=len(read_twice) / len(test), one=(len(set(read_twice)), "<=", 1),
             grey=(grey_both, ">=", 0.8), network=(network_both, ">=", 0.93), seeds=3, on="every",
             varies=True)

# %% [markdown]
# In two dimensions one can see it: the border between two linear scores is a straight line, wherever it lies. And a class that *moves* has as many looks as places; its template is the blur of them all.

# %% tags=["fold"]
generator = np.random.default_rng(seed)
ring_labels = np.arange(160) % 2
angle = generator.uniform(0, 2 * np.pi, 160)
radius = np.where(ring_labels == 0, 1.0, 2.0) + generator.normal(0, 0.15, 160)
rings = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
W_rings = descend(cross_entropy_slope, with_one(rings), ring_labels, np.zeros((2, 3)), 500, 0.5)
net_rings = trained_network(rings, ring_labels, 2, 16, seed, epochs=300)
axis = np.linspace(-2.7, 2.7, 120)
grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
answers = {"one matrix": lambda x: with_one(x) @ W_rings.T, "two layers": net_rings}
shares = {name: (scores(rings).argmax(axis=1) == ring_labels).mean()
          for name, scores in answers.items()}
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 4.2), sharey=True)
for ax, (name, scores) in zip(axes, answers.items(), strict=True):
    plots.decision_regions(ax, axis, axis, scores(grid).argmax(axis=1).reshape(120, 120),
                           points=rings, labels=ring_labels)
    for points in ax.get_lines():
        points.set_rasterized(True)
    ax.set(title=f"{name}: {shares[name]:.0%} of them right", xlabel="first number", aspect="equal")
axes[0].set_ylabel("second number")
fig.suptitle("A ring around a ring: no straight line parts them")
figures.save(fig, "emp-linear-limits.rings",
             caption="160 points of two classes, and the answers of a linear classifier and of a "
                     "network with 16 hidden units at every place.",
             alt="A straight line gets half of two rings right, a small network nearly all.")

# %% tags=["fold"]
generator = np.random.default_rng(seed)
moved_train, moved_test = (framed(x, side, generator) for x in (x_train, x_test))
W_moved = descend(cross_entropy_slope, with_one(moved_train), y_train,
                  np.zeros((classes, moved_train.shape[1] + 1)), 600, rate)
moved = accuracy(W_moved, with_one(moved_test), y_test)
moved_fitted = accuracy(W_moved, with_one(moved_train), y_train)
claims.check("emp-linear-limits.rings", "Of 160 points of two rings the matrix gets {line:.0%} "
             "right, the two-layer network {network:.0%}.",
             line=(shares["one matrix"], "<=", 0.65), network=(shares["two layers"], ">=", 0.98),
             varies=True)
network = trained_network(moved_train, y_train, classes, hidden, seed)
network_moved = (network(moved_test).argmax(axis=1) == y_test).mean()
claims.check("emp-linear-limits.moved",
             "On digits that lie up to 4 pixels off the middle, in training as in the test, a "
             "matrix is right in {moved:.1%} (of its training pictures in {fitted:.1%}); the "
             "two-layer network in {network:.1%}.",
             moved=(moved, "<=", 0.35), fitted=moved_fitted, network=(network_moved, "<=", 0.7),
             varies=True)

# %% [markdown]
# **We now know** the limit: one template and a sum. No loss, no step size and no regularisation lifts it, as all of them only choose *which* matrix, and the algebra holds for each.
# Either somebody finds better numbers to put in, or more layers find them. For digits that move even the second layer is not much help; convolutions (lesson 04) are.
# **This does not show** that photographs are like negatives. It shows one way to be beyond a matrix; many ways together make a photograph.
#
# **Exercise 02.5.** $|x - ½|$ is blind to negatives, but it costs several points. Find features that are equal for a picture and its negative and lose less.
# (What do the corners of a digit tell you about the picture?)

# %%
def blind_to_negatives(rows):
    """Features (N, any number) of rows (N, 64) from 0 to 1, the same for x and 1 - x."""
    ...

exercises.check("02.5", blind_to_negatives)

# %% [markdown]
# ## Also in the lectures
#
# The losses of regression and of two classes, each in the normalisation of its lecture and in that of torch; sigmoid and softmax; biases and weight decay in optimizers.

# %% tags=["fold", "ledger:err-mse-half", "ledger:err-bce-cce-normalisation"]
generator = np.random.default_rng(seed)
predicted, wanted = generator.normal(size=(2, 6))
share, yes = generator.uniform(0.05, 0.95, 6), generator.integers(0, 2, 6)
z = generator.normal(size=(6, 4))
p, y = softmax(z), generator.integers(0, 4, 6)
one_hot = np.eye(4)[y]
as_tensor = torch.tensor
rows = {
    "MSE, 1/2N (lecture 001)": (((predicted - wanted) ** 2).sum() / 12, functional.mse_loss(
        as_tensor(predicted), as_tensor(wanted)).item() / 2),
    "MSE, 1/n (lecture 003)": (((predicted - wanted) ** 2).sum() / 6, functional.mse_loss(
        as_tensor(predicted), as_tensor(wanted)).item()),
    "binary CE, mean": (-(yes * np.log(share) + (1 - yes) * np.log(1 - share)).mean(),
                        functional.binary_cross_entropy(as_tensor(share),
                                                        as_tensor(yes).double()).item()),
    "categorical CE, sum (lecture 001)": (-(one_hot * np.log(p)).sum(), functional.nll_loss(
        as_tensor(np.log(p)), as_tensor(y), reduction="sum").item()),
    "cross-entropy of scores, mean": (cross_entropy(z, y).mean(), functional.cross_entropy(
        as_tensor(z), as_tensor(y)).item()),
    "hinge, mean": (hinge(z, y).mean(), 4 * functional.multi_margin_loss(
        as_tensor(z), as_tensor(y)).item()),
    "squared hinge, mean": (squared_hinge(z, y).mean(), 4 * functional.multi_margin_loss(
        as_tensor(z), as_tensor(y), p=2).item()),
}
claims.table("eq-mse-losses", "Each loss as its lecture writes it agrees with torch (whose hinge "
             "loss divides by the number of classes: times 4 here).", rows,
             columns=("loss of 6 rows", "here", "torch"), tolerance=1e-9)

# %% tags=["fold", "ledger:eq-binary-cross-entropy", "ledger:eq-categorical-cross-entropy"]
two = np.stack([z[:, 0], np.zeros(6)], axis=1)
claims.check("eq-sigma-formula-seed003",
             "Softmax of [z, 0] and the sigmoid of z differ by at most {apart:.0e}.",
             apart=(np.abs(softmax(two)[:, 0] - torch.sigmoid(as_tensor(z[:, 0])).numpy()).max(),
                    "<=", 1e-12), varies=True)
cat_dog_bird = softmax(np.log([0.80, 0.15, 0.05]))
claims.check("num-class-probs-sum",
             "Scores ln .80, ln .15 and ln .05 give the probabilities {cat:.2f} for cat, "
             "{dog:.2f} for dog and {bird:.2f} for bird.", cat=(cat_dog_bird[0], "~", 0.80, 1e-12),
             dog=(cat_dog_bird[1], "~", 0.15, 1e-12), bird=(cat_dog_bird[2], "~", 0.05, 1e-12))

def regression_of(seed):
    """Accuracies of a logistic regression of one number, with the bias free, and with its price."""
    generator = np.random.default_rng(seed)
    labels = np.repeat([0, 1], 100)
    numbers = (10 + labels + generator.normal(0, 0.3, 200))[:, None]  # far from 0
    free = LogisticRegression().fit(numbers, labels)
    priced = LogisticRegression(fit_intercept=False).fit(with_one(numbers), labels)
    return free.score(numbers, labels), priced.score(with_one(numbers), labels)

free, priced = zip(*(regression_of(100 + seed + run) for run in range(runs)), strict=True)
claims.check("prac-bias-not-regularised",
             "Two classes around 10 and 11: with a free bias {free:.1%} are right, with L2 on the "
             "bias too {priced:.1%}, that is {lost:.1%} fewer.",
             free=free, priced=priced, lost=(np.subtract(free, priced), ">", 0), seeds=runs)

# %% tags=["fold"]
def after_steps(optimizer, price=0.0, **options):
    """Three weights after 20 steps on a small cross-entropy, with L2 in the loss or in options."""
    w = torch.ones(3, 4, requires_grad=True)
    optimizer = optimizer([w], lr=0.1, **options)
    for _ in range(20):
        optimizer.zero_grad()
        loss = functional.cross_entropy(as_tensor(z) @ w.T, as_tensor(y % 3))
        (loss + price * (w**2).sum()).backward()
        optimizer.step()
    return w.detach().numpy()

sgd = np.abs(after_steps(torch.optim.SGD, price=0.1)
             - after_steps(torch.optim.SGD, weight_decay=0.2)).max()
adam = np.abs(after_steps(torch.optim.Adam, price=0.1)
              - after_steps(torch.optim.AdamW, weight_decay=0.2)).max()
claims.check("err-lambda-is-term",
             "After 20 steps L2 in the loss and weight decay differ by {sgd:.0e} with SGD, and by "
             "{adam:.2f} between Adam and AdamW.", sgd=(sgd, "<=", 1e-12), adam=(adam, ">=", 0.05),
             varies=True)

# %% [markdown]
# ## In practice
#
# - `nn.Linear(D, C)` holds $W$ and $b$; `nn.CrossEntropyLoss` takes **scores** (logits), not probabilities, and shifts them itself. `nn.Softmax` in front of it is a common mistake.
# - Several labels at once (a cat *and* a dog): one sigmoid a class, `nn.BCEWithLogitsLoss`. Hinge: `nn.MultiMarginLoss`, or scikit-learn's `LinearSVC`.
# - Before training: is the loss near $\ln C$? If not, look at the last layer, the labels and the scale of the inputs.
# - L2 is `weight_decay` in `torch.optim.SGD` and `AdamW`, with biases (and normalisation layers) in a parameter group of their own with 0; timm does so by itself.
# - `LogisticRegression` on the features of a pretrained network, a *linear probe*, is how features are judged. It is also the baseline to beat.
#
# ## History
#
# - 1936: R. Fisher tells iris species apart by a linear combination of four measurements. 1958: D. Cox on logistic regression; F. Rosenblatt's perceptron learns a linear border from its mistakes.
# - 1969: M. Minsky and S. Papert publish what perceptrons of one layer cannot compute.
# - 1970: A. Hoerl and R. Kennard: ridge regression (L2). 1996: R. Tibshirani: the lasso (L1). 2005: H. Zou and T. Hastie: elastic net.
# - 1990: J. Bridle gives softmax its name. 1995: C. Cortes and V. Vapnik: support vector machines with the hinge loss.
# - 1999: J. Weston and C. Watkins: the hinge loss of this lesson, for many classes. 2019: I. Loshchilov and F. Hutter part weight decay from L2 (AdamW).
#
# ## Exercises that are left
#
# **02.6 Open.** Shuffle all pixels in one way, for 1-NN (lesson 01), for the two-layer network of section 5, and for a network with a 3×3 convolution (lesson 04). Who notices? Say it before you measure, and why.
#
# **02.7 Open.** Look again at "Following the slope needs 100 steps; luck gets nowhere in 1,000 tries". What does this figure *not* show?
# (What does a step cost, and a try? What if there were 2 weights, or 60 million? And what is not in the picture at all: pictures that were not trained on.)
#
# ## Summary
#
# - One matrix knows one template per class and adds up; the order of the pixels means nothing to it.
# - The hinge loss asks for a margin and then falls silent; cross-entropy is minus the logarithm of the true label's probability, and never falls silent. At the start they are $C - 1$ and $\ln C$.
# - Shift the scores before the exponential. Their largest must be 0.
# - Down the slope 100 steps find what 1,000 random tries do not, for a random direction hardly goes along the slope.
# - Zero loss leaves many matrices; a price on the weights chooses. L2 makes all small, L1 switches off.
# - A picture and its negative have scores with a fixed sum: what no matrix can do, a second layer or better features can.

# %% [markdown] tags=["ledger:err-linear-svm-curse", "ledger:err-softmax-linear-regression", "ledger:err-softmax-log-near-one", "ledger:err-sigmoid-two-classes", "ledger:err-softmax-divides-squashed", "ledger:err-elastic-net"]
# ## Corrections
#
# | the notes say | correct | how we know |
# |---|---|---|
# | the hinge loss sums over all classes except the **predicted** one | except the **true** one | section 2: the cat would have a loss of 0 |
# | the loss is zero whenever the prediction is right | only if the true score leads by the **margin** | section 2: scores 3 and 2.5 have a loss of 0.5 |
# | $w$ has the shape of $x$, and $b$ is 1 | for $C$ classes $W$ is $C × D$, and $b$ has $C$ numbers | section 1 |
# | $\lambda$ is the regularisation term, and regularisation is called weight decay | $\lambda$ is its **strength**, $\lambda R(W)$ the term; weight decay is the L2 case, and equal to it with plain SGD only | "Also in the lectures": Adam and AdamW part |
# | softmax is like **linear** regression for more than two classes | it generalises **logistic** regression | softmax of $[z, 0]$ is the sigmoid |
# | the logarithm should be near 1, so a minus is added | the **probability** should be near 1, its logarithm near 0; the minus makes the loss positive | section 2, the curves |
# | the sigmoid handles two classes only | one sigmoid a class serves **several labels at once**; softmax is for classes that exclude each other | `BCEWithLogitsLoss` |
# | softmax squashes each output, then divides | it divides **exponentials** by their sum; no sigmoid is involved | section 2, the bars |
# | the curse of dimensionality limits the linear SVM | what limits it is **one template a class** | section 5: with the same 64 numbers two layers do it |
# | elastic net is $\beta \sum w^2 + \sum \lvert w \rvert$ | right within $\lambda R(W)$: strengths $\lambda\beta$ and $\lambda$; pure L2 is out of its reach | $\lambda > 0$ always keeps some L1 |
# | mean squared error is the default loss of MATLAB's regression layer | **half** the squared error, averaged over the mini-batch; same minimum | MATLAB's documentation |
# | small slips: $L_i = (f(x_i, W), y_i)$ lacks the $L$ before it; softmax of [1.2, 0.9, 0.4] ends with 0.21; categorical cross-entropy lacks the $1/N$ that the binary one has, and both put the hat on the target | | section 2, "Also in the lectures" |
#
# ## Sources
#
# - The notes: lecture 001 on loss functions, 002 on maximum likelihood, 003 on softmax and regression layers, 004 on linear classifiers, losses and optimisation (after CS231n, Stanford 2017).
# - R. Fisher: The use of multiple measurements in taxonomic problems. Annals of Eugenics 7, 1936.
# - D. Cox: The regression analysis of binary sequences. Journal of the Royal Statistical Society B 20, 1958. F. Rosenblatt: The perceptron. Psychological Review 65, 1958.
# - M. Minsky and S. Papert: Perceptrons. MIT Press, 1969.
# - A. Hoerl and R. Kennard: Ridge regression. Technometrics 12, 1970. R. Tibshirani: Regression shrinkage and selection via the lasso. JRSS B 58, 1996. H. Zou and T. Hastie: Regularization and variable selection via the elastic net. JRSS B 67, 2005.
# - J. Bridle: Probabilistic interpretation of feedforward classification network outputs. Neurocomputing, Springer, 1990. C. Cortes and V. Vapnik: Support-vector networks. Machine Learning 20, 1995.
# - J. Weston and C. Watkins: Support vector machines for multi-class pattern recognition. ESANN 1999. I. Loshchilov and F. Hutter: Decoupled weight decay regularization. ICLR 2019.
# - E. Alpaydin and C. Kaynak: Optical recognition of handwritten digits, UCI Machine Learning Repository, 1998.
