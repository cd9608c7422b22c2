"""Drawing functions: what stands on the axes is what was passed, and it can be read."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from cnncourse import figures, plots
from cnncourse.errors import ShapeError


@pytest.fixture
def ax():
    figures.use_style()
    yield plt.figure().add_subplot()
    plt.close("all")


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_plots_work_without_torch():
    script = "import sys, cnncourse.plots, cnncourse.figures; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_curves_draw_the_mean_over_seeds_and_the_range_around_it(ax):
    runs = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 8.0]])
    assert plots.curves(ax, {"plain": runs, "residual": [0, 0, 1]}) is ax
    lines = {line.get_label(): line for line in ax.get_lines()}
    np.testing.assert_allclose(lines["plain"].get_ydata(), [2, 3, 5.5])
    np.testing.assert_allclose(lines["plain"].get_xdata(), [1, 2, 3])
    assert lines["plain"].get_color() == figures.COLOUR["plain"]
    (band,) = ax.collections  # one seed has no band
    corners = band.get_paths()[0].vertices
    assert corners[:, 1].min() == 1 and corners[:, 1].max() == 8


def test_labels_at_the_ends_of_lines_do_not_overlap(ax):
    plots.curves(ax, {f"net {index}": [1.0, 0.01 * index] for index in range(5)} | {"high": [1, 1]})
    fig = ax.figure
    fig.draw_without_rendering()
    boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.y0)
    assert len(boxes) == 6
    assert all(lower.y1 <= upper.y0 + 1 for lower, upper in zip(boxes, boxes[1:], strict=False))
    assert all(0 <= box.y0 and box.y1 <= fig.bbox.y1 and box.x1 <= fig.bbox.x1 for box in boxes)


def test_labels_follow_when_the_limits_change(ax):
    plots.curves(ax, {"plain": [0, 1]})
    before = ax.texts[0].xy[1]
    ax.set_ylim(0, 10)
    plots.label_ends(ax)
    assert len(ax.texts) == 1 and before > 0.9 and ax.texts[0].xy[1] == pytest.approx(0.1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.01, 0.12))
def test_spread_places_are_apart_inside_and_in_order(places, gap):
    moved = plots.spread(places, gap)
    order = np.argsort(places, kind="stable")
    assert (np.diff(moved[order]) >= gap - 1e-9).all()
    assert moved.min() >= -1e-9 and moved.max() <= 1 + 1e-9
    if len(places) == 1 or np.diff(np.sort(places)).min() >= gap:
        np.testing.assert_allclose(moved, places)


def test_seeds_of_different_lengths_are_refused_by_name(ax):
    with pytest.raises(ShapeError, match="'plain'"):
        plots.curves(ax, {"plain": [1, 2, 3]}, x=[1, 2])
    with pytest.raises(ShapeError, match="same length"):
        plots.curves(ax, {"plain": [[1, 2], [1, 2, 3]]})


@pytest.mark.parametrize("horizontal", [False, True])
def test_bars_carry_their_values(ax, horizontal):
    plots.bars(ax, {"plain": [0.5, 0.7], "residual": 0.01}, format="{:.0%}", horizontal=horizontal)
    assert texts(ax) == ["60%", "1%"]
    lengths = [bar.get_width() if horizontal else bar.get_height() for bar in ax.patches]
    np.testing.assert_allclose(lengths, [0.6, 0.01])


def test_bars_of_equal_runs_whose_mean_is_rounded(ax):
    runs = [0.1] * 3  # their mean is 0.10000000000000002
    assert np.mean(runs) > max(runs)
    plots.bars(ax, {"equal": runs})
    assert ax.patches[0].get_height() == 0.1


def test_heat_writes_every_value_where_it_stands(ax):
    plots.heat(ax, [[1, 2, 3], [4, 5, -0.04]], format="{:.1f}", rows=["a", "b"])
    found = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in ax.texts}
    assert found == {
        (0, 0): "1.0",
        (0, 1): "2.0",
        (0, 2): "3.0",
        (1, 0): "4.0",
        (1, 1): "5.0",
        (1, 2): "0.0",
    }


def test_letters_stand_out_from_their_cell(ax):
    plots.pixel_values(ax, np.array([[0, 255], [100, 180]]))
    assert [text.get_color() for text in ax.texts] == [
        "white",
        figures.COLOUR["ink"],
        "white",
        figures.COLOUR["ink"],
    ]


def test_signed_numbers_have_white_at_zero(ax):
    plots.heat(ax, [[-1.0, 3.0]], signed=True)
    assert ax.images[0].get_clim() == (-3, 3)


def test_an_image_grid_shows_every_image_with_its_label(ax):
    images = np.zeros((5, 3, 4, 4), np.uint8)
    plots.image_grid(ax, images, columns=3, labels=list("abcde"))
    assert len(ax.images) == 5 and texts(ax) == list("abcde")
    tops = [image.get_extent()[3] for image in ax.images]
    assert tops[0] == tops[2] > tops[3]


def test_tensors_and_arrays_draw_the_same(ax):
    torch = pytest.importorskip("torch")
    other = ax.figure.add_subplot()
    plots.image_grid(
        ax, torch.rand(2, 1, 3, 3, requires_grad=True, generator=torch.Generator().manual_seed(0))
    )
    plots.image_grid(
        other, torch.rand(2, 1, 3, 3, generator=torch.Generator().manual_seed(0)).numpy()
    )
    np.testing.assert_array_equal(ax.images[1].get_array(), other.images[1].get_array())


def test_images_of_four_channels_are_refused(ax):
    with pytest.raises(ShapeError, match=r"\(2, 4, 8, 8\)"):
        plots.image_grid(ax, np.zeros((2, 4, 8, 8)))


def test_decision_regions_show_classes_and_points(ax):
    x, y = np.linspace(0, 1, 4), np.linspace(0, 1, 3)
    classes = np.array([[0, 0, 1, 1]] * 3)
    plots.decision_regions(
        ax, x, y, classes, points=[[0.1, 0.1], [0.9, 0.9]], labels=[0, 1], names=["cat", "dog"]
    )
    assert [line.get_label() for line in ax.get_lines()] == ["cat", "dog"]
    with pytest.raises(ShapeError, match="3, 4"):
        plots.decision_regions(ax, x, y, classes.T)


def test_boxes_frame_whole_pixels_with_their_labels(ax):
    plots.picture(ax, np.zeros((4, 6)))
    plots.boxes(ax, [[0, 0, 6, 4], [2, 1, 5, 3]], labels=["all", "part"], colours=["C0", "C1"])
    frames = [(*frame.get_xy(), frame.get_width(), frame.get_height()) for frame in ax.patches]
    assert frames == [(-0.5, -0.5, 6, 4), (1.5, 0.5, 3, 2)]
    assert ax.images[0].get_extent() == [-0.5, 5.5, 3.5, -0.5]  # the first frames the picture
    assert texts(ax) == ["all", "part"]
    assert plots.boxes(ax, np.zeros((0, 4))) is ax and len(ax.patches) == 2
