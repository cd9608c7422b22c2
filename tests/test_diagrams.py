"""Diagrams say what the network does, and nothing in them overlaps or is cut off."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
from torch import nn

from cnncourse import cost, diagrams, figures, models
from cnncourse.diagrams.boxes import graph
from cnncourse.diagrams.side_by_side import Column
from cnncourse.diagrams.wiring import Branches, count_boxes, series
from cnncourse.errors import CourseError, ParameterError, ShapeError
from cnncourse.models.inception_2014 import Inception, NaiveInception
from cnncourse.models.resnet import BasicBlock, Bottleneck

matplotlib.use("agg")
IMAGE = (3, 224, 224)


@pytest.fixture(autouse=True)
def clean_figures():
    with matplotlib.rc_context():
        figures.use_style()
        yield
    plt.close("all")


def naive():
    return NaiveInception(256, 128, 192, 96)


def inception():
    return models.googlenet_2014().inception3a


def plain_block():
    return BasicBlock(64, 64, residual=False)


PICTURES = {
    "AlexNet with two towers": lambda: diagrams.draw(
        models.alexnet_2012(), (3, 227, 227), level="network", title="AlexNet"
    ),
    "naive inception": lambda: diagrams.draw(
        naive(), (256, 28, 28), title="naive inception", costs=True
    ),
    "inception with bottlenecks": lambda: diagrams.draw(
        inception(), (192, 28, 28), title="inception 3a"
    ),
    "GoogLeNet, every layer": lambda: diagrams.draw(
        models.googlenet_2014(), IMAGE, level="graph", title="GoogLeNet", training=True
    ),
    "GoogLeNet, blocks": lambda: diagrams.draw(
        models.googlenet_2014(), IMAGE, level="stage", title="GoogLeNet", training=True
    ),
    "plain beside residual block": lambda: diagrams.beside(
        [
            ("plain block", plain_block(), (64, 56, 56)),
            ("residual block", BasicBlock(64, 64), (64, 56, 56)),
            ("stride 2", BasicBlock(64, 128, 2), (64, 56, 56)),
        ]
    ),
    "bottleneck": lambda: diagrams.draw(Bottleneck(256, 64), (256, 56, 56), title="bottleneck"),
    "VGG-19, plain-34, ResNet-34": lambda: diagrams.columns(
        [
            ("VGG-19", models.vgg19(), IMAGE),
            ("plain-34", models.plain34(), IMAGE),
            ("ResNet-34", models.resnet34(), IMAGE),
        ]
    ),
    "revolution of depth": lambda: diagrams.depths(
        [
            ("AlexNet", models.alexnet(), IMAGE),
            ("VGG-19", models.vgg19(), IMAGE),
            ("GoogLeNet", models.googlenet_2014(), IMAGE),
            ("ResNet-152", models.resnet152(), IMAGE),
        ]
    ),
    "ResNet-34 as volumes": lambda: diagrams.draw(
        models.resnet34(), IMAGE, level="network", title="ResNet-34"
    ),
    "VGG-16 as volumes": lambda: diagrams.draw(
        models.vgg16(), IMAGE, level="network", title="VGG-16"
    ),
    "ResNet-20, folded": lambda: diagrams.draw(
        models.resnet_cifar(20), (3, 32, 32), title="ResNet-20"
    ),
    "pre-activation": lambda: diagrams.draw(models.preact_resnet_cifar(20), (3, 32, 32)),
    "Inception-v3": lambda: diagrams.draw(
        models.inception_v3(), (3, 299, 299), level="graph", title="Inception-v3"
    ),
    "dense blocks": lambda: diagrams.draw(models.densenet_cifar(13, 8), (3, 32, 32)),
    "GoogLeNet in a column": lambda: diagrams.columns(
        [("GoogLeNet", models.googlenet_2014(), IMAGE)]
    ),
}


def on_meta(picture):
    with torch.device("meta"):
        return picture()


def flaws(fig) -> list[str]:
    """Texts that touch each other, leave the figure, or lie on the border of a box, measured by the renderer."""
    renderer = fig.canvas.get_renderer()
    texts = [t for ax in fig.axes for t in ax.texts if t.get_text()]
    patches = [
        p for ax in fig.axes for p in ax.patches if isinstance(p, (FancyBboxPatch, Circle, Polygon))
    ]
    names = [repr(t.get_text()) for t in texts] + [type(p).__name__ for p in patches]
    edges = np.array(
        [t.get_window_extent(renderer).padded(-0.5).extents for t in texts]
        + [p.get_window_extent(renderer).padded(-0.7).extents for p in patches]
    )
    low, high = edges[:, :2], edges[:, 2:]
    out = (low < fig.bbox.extents[:2]).any(1) | (high > fig.bbox.extents[2:]).any(1)
    meet = (low[:, None] < high[None]).all(2) & (low[None] < high[:, None]).all(2)
    inside = (low[:, None] >= low[None]).all(2) & (high[:, None] <= high[None]).all(
        2
    )  # the first in the second
    found = [f"{names[i]} leaves the figure" for i in np.flatnonzero(out)]
    solid = [isinstance(p, (FancyBboxPatch, Circle)) and p.get_facecolor()[3] > 0 for p in patches]
    for i, j in zip(*np.nonzero(np.triu(meet, 1)), strict=True):
        if j < len(texts):
            found.append(f"{names[i]} touches {names[j]}")
        elif i < len(texts) and not inside[i, j]:
            found.append(f"{names[i]} lies on the border of a box")
        elif i >= len(texts) and solid[i - len(texts)] and solid[j - len(texts)]:
            found.append("two boxes overlap")
    for ax in fig.axes:
        for line in (p for p in ax.patches if type(p) is PathPatch and p.get_facecolor()[3] == 0):
            path = line.get_transform().transform_path(line.get_path()).interpolated(12)
            points = path.vertices[:, None]
            through = ((points > low + 1.5) & (points < high - 1.5)).all(2).any(0)
            found += [
                f"a line runs through {names[i]}"
                for i in np.flatnonzero(through)
                if i < len(texts) or solid[i - len(texts)]
            ]
    return found


def words(fig) -> list[str]:
    return [t.get_text() for ax in fig.axes for t in ax.texts]


@pytest.mark.parametrize("name", PICTURES)
def test_nothing_overlaps_or_is_cut_off(name):
    assert flaws(on_meta(PICTURES[name])) == []


def test_the_search_for_flaws_finds_planted_ones():
    fig = on_meta(PICTURES["bottleneck"])
    ax = fig.axes[0]
    x, y = ax.texts[1].get_position()
    ax.text(x + 0.05, y, "1×1", fontsize=11)
    assert any("touches" in flaw for flaw in flaws(fig))
    ax.text(-0.2, 1, "cut off", fontsize=11)
    assert any("leaves" in flaw for flaw in flaws(fig))
    box = next(p for p in ax.patches if isinstance(p, FancyBboxPatch))
    box.set_width(box.get_width() / 2)
    assert any("border" in flaw for flaw in flaws(fig))


LECTURE = list(PICTURES)[:9]


@pytest.mark.parametrize(
    "name", [name for name in LECTURE if name != "GoogLeNet, blocks"]
)  # for paper and scrolling
def test_letters_of_a_lecture_picture_are_readable_from_the_last_row(name):
    fig = on_meta(PICTURES[name])
    wide = fig.get_size_inches()[0]
    smallest = min(t.get_fontsize() for ax in fig.axes for t in ax.texts)
    pixels = smallest / 72 * 1920 / max(wide, 8)  # on a projector 1920 pixels wide
    assert pixels > 22


def test_the_same_network_gives_the_same_bytes():
    def both():
        return figures.pictures(on_meta(PICTURES["plain beside residual block"]))

    assert both() == both()


def test_shapes_kernels_and_strides_come_from_the_trace():
    with torch.device("meta"):
        said = words(diagrams.draw(BasicBlock(8, 24, 2), (8, 20, 12)))
    assert "8×20×12" in said and said.count("24×10×6") == 2
    assert "3×3 conv, 24, /2" in said and "1×1 conv, 24, /2" in said and "+" in said


def test_a_plain_block_has_no_shortcut_and_a_residual_block_has_one():
    def lines(residual):
        with torch.device("meta"):
            boxes = graph(cost.table(BasicBlock(8, 8, residual=residual), (8, 6, 6)))
        return series(boxes)

    assert not any(isinstance(item, Branches) for item in lines(False))
    branch = lines(True)[0]
    assert branch.straight and len(branch.paths) == 1 and len(branch.paths[0]) == 2


def test_the_four_ways_of_an_inception_module_stand_side_by_side():
    with torch.device("meta"):
        boxes = graph(cost.table(inception(), (192, 28, 28)))
    branches = series(boxes)[0]
    assert [len(path) for path in branches.paths] == [1, 2, 2, 2] and not branches.straight
    assert boxes[branches.join].shape == (256, 28, 28)


def test_costs_in_the_boxes_are_those_of_the_lecture():
    said = words(on_meta(PICTURES["naive inception"]))
    for millions in ("25.7", "346.8", "481.7"):
        assert f"{millions} M multiply-adds" in said
    assert "256×28×28" in said and "672×28×28" in said


def test_equal_blocks_are_folded_with_their_number():
    with torch.device("meta"):
        net = models.resnet34()
        folded = words(diagrams.draw(net, IMAGE, level="network"))
        all_blocks = words(diagrams.draw(net, IMAGE, level="stage", fold=False))
    assert [w for w in folded if "BasicBlock" in w] == [f"BasicBlock ×{n}" for n in (3, 4, 6, 3)]
    assert all_blocks.count("BasicBlock") == 16


def test_towers_exist_only_where_a_layer_has_groups():
    def volumes(name):
        with torch.device("meta"):
            fig = diagrams.draw(
                models.build(name), models.input_shape(name), level="network", fold=False
            )
        return sum(isinstance(p, Polygon) for p in fig.axes[0].patches) // 3

    assert volumes("alexnet_ungrouped") == 9  # the input, 5 convolutions, 3 linear layers
    assert volumes("alexnet_2012") == 9 + 7  # all but the input and the last layer are halved


def test_both_auxiliary_heads_are_drawn_in_training_only():
    with torch.device("meta"):
        net = models.googlenet_2014()
        assert (
            words(diagrams.draw(net, IMAGE, level="stage", training=True)).count("AuxiliaryHead")
            == 2
        )
        assert words(diagrams.draw(net, IMAGE, level="stage")).count("AuxiliaryHead") == 0


def test_depths_are_the_numbers_of_the_papers():
    with torch.device("meta"):
        nets = [
            models.alexnet(),
            models.vgg19(),
            models.googlenet_2014(),
            models.resnet34(),
            models.resnet152(),
        ]
        assert [Column(net, IMAGE).depth for net in nets] == [8, 19, 22, 34, 152]


def test_columns_name_sizes_and_cost():
    with torch.device("meta"):
        said = words(
            diagrams.columns(
                [("VGG-19", models.vgg19(), IMAGE), ("ResNet-34", models.resnet34(), IMAGE)]
            )
        )
        arcs = Column(models.resnet34(), IMAGE).arcs
    assert (
        "19.6 G multiply-adds" in said
        and "34 weight layers" in said
        and "224×224" in said
        and "7×7" in said
    )
    assert len(arcs) == 16 and sum(dashed for *_, dashed in arcs) == 3


def test_a_diagram_fits_into_given_axes():
    fig, ax = plt.subplots(figsize=(3, 3), layout="none")
    with torch.device("meta"):
        same = diagrams.draw(Bottleneck(256, 64), (256, 56, 56), title="bottleneck", ax=ax)
    assert same is fig and flaws(fig) == []
    assert max(t.get_fontsize() for t in ax.texts) < 11


def test_functional_networks_are_drawn_as_modules_are():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(8, 8, 3, 3))

        def forward(self, x):
            return x + nn.functional.relu(nn.functional.conv2d(x, self.weight, padding=1))

    said = words(diagrams.draw(Functional(), (8, 6, 6)))
    assert "3×3 conv, 8" in said and "ReLU" in said and "+" in said


def test_bad_input_says_what_to_do():
    with pytest.raises(ParameterError, match="did you mean 'block'"):
        diagrams.draw(plain_block(), (64, 8, 8), level="blok")
    with pytest.raises(ShapeError, match="64 channels"):
        diagrams.draw(plain_block(), (3, 8, 8))
    for empty in (diagrams.columns, diagrams.depths, diagrams.beside):
        with pytest.raises(ParameterError, match="at least one|list of them"):
            empty([])
    with pytest.raises(CourseError):
        diagrams.draw("resnet18", IMAGE)


class Captioner(nn.Module):
    """Two inputs, and a layer whose output is a tuple."""

    def __init__(self):
        super().__init__()
        self.look = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.words, self.tell = nn.Embedding(20, 8), nn.LSTM(8, 16, batch_first=True)
        self.choose = nn.Linear(16, 20)

    def forward(self, image, words):
        seen = self.look(image).flatten(1)[:, None]
        return self.choose(self.tell(torch.cat([seen, self.words(words)], 1))[0])


class Sum(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x, y):
        return self.conv(x) + self.conv(y)


@pytest.mark.parametrize("level", diagrams.LEVELS)
def test_several_inputs_and_outputs_are_drawn_at_every_level(level):
    text = torch.zeros(1, 5, dtype=torch.long)
    for net, inputs in (
        (Captioner(), [(3, 32, 32), text]),
        (nn.LSTM(6, 8, batch_first=True), torch.zeros(1, 5, 6)),
        (Sum(), [(3, 8, 8), (3, 8, 8)]),
    ):
        assert diagrams.draw(net, inputs, level=level).axes[0].patches


class Halves(nn.Module):
    """Two layers that write into one tensor, and a layer that reads it."""

    def __init__(self, fresh):
        super().__init__()
        self.a, self.b, self.last = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3), nn.Conv2d(6, 2, 1)
        self.fresh = fresh

    def forward(self, x):
        shape = len(x), 6, x.shape[2] - 2, x.shape[3] - 2
        out = torch.zeros(shape, device=x.device) if self.fresh else x.new_zeros(shape)
        out[:, :3] = self.a(x)
        out[:, 3:] = self.b(x)
        return self.last(out)


@pytest.mark.parametrize("fresh", [True, False])
def test_layers_that_write_into_slices_of_a_tensor_are_drawn(fresh):
    said = words(diagrams.draw(Halves(fresh), (3, 8, 8)))
    assert said.count("3×3 conv, 3") == 2 and "1×1 conv, 2" in said


def test_a_layer_that_reads_no_input_is_left_out_with_a_warning():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.start, self.conv = nn.Linear(3, 6), nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x):
            return self.conv(x) + self.start(torch.ones(1, 1, 4, 3, device=x.device))

    with pytest.warns(UserWarning, match="not drawn.*start"):
        diagrams.draw(Constant(), (3, 4, 6))


class Random(nn.Module):
    """Layers that each read some of the outputs before them."""

    def __init__(self, reads):
        super().__init__()
        self.reads = reads
        self.layers = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in reads)

    def forward(self, x):
        made = [x]
        for read, layer in zip(self.reads, self.layers, strict=True):
            chosen = {i % len(made) for i in read}
            made.append(layer(sum(made[i] for i in sorted(chosen))))
        return torch.cat([made[-1], made[len(made) // 2]], 1)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3), min_size=1, max_size=7))
def test_any_wiring_can_be_drawn_and_shows_every_layer(reads):
    with torch.device("meta"):
        net = Random(reads)
    boxes = graph(cost.table(net, (4, 8, 8)))
    assert count_boxes(series(boxes)) == len(boxes) - 1  # all but the input
    fig = diagrams.draw(net, (4, 8, 8), fold=False)
    try:
        assert words(fig).count("3×3 conv, 4") == len(reads)
        assert flaws(fig) == []
    finally:
        plt.close(fig)


def test_the_modules_of_the_lecture_notes_agree_with_their_counts():
    with torch.device("meta"):
        assert cost.table(naive(), (256, 28, 28)).multiply_adds == 854_196_224
        assert isinstance(inception(), Inception)
