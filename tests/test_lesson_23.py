"""Lesson 23: grid, sampler and slopes against torch; pictures and thetas; its exercises against mistakes."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from lesson_checks import planted
from torch.nn import functional as F

from cnncourse import exercises, lab
from cnncourse.exercises import lesson_23 as solutions

pytestmark = pytest.mark.usefixtures("in_float64")
LESSON = exercises.of_lesson("23")


@cache
def lesson():
    return lab.definitions("23")


# --- definitions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("size", [2, 7, 20])
def test_the_grid_is_that_of_torch(corners, size):
    theta = torch.randn(3, 2, 3)
    theirs = F.affine_grid(theta, (3, 1, size, size), align_corners=corners)
    torch.testing.assert_close(lesson().affine_grid(theta, size, corners), theirs)


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("reach", [0.5, 1.0, 2.5])
def test_the_sampler_is_that_of_torch(corners, reach):
    picture, grid = torch.randn(9, 6), (torch.rand(7, 4, 2) * 2 - 1) * reach
    theirs = F.grid_sample(picture[None, None], grid[None], align_corners=corners)[0, 0]
    torch.testing.assert_close(lesson().sample(picture, grid, corners), theirs)


def test_the_slopes_are_those_of_autograd():
    for _ in range(5):
        picture, upstream = torch.rand(8, 8), torch.randn(5, 5)
        theta = torch.eye(2, 3) + 0.4 * torch.randn(2, 3)
        ours = lesson().slopes(picture, theta, 5, upstream)
        leaves = [picture.requires_grad_(), theta.requires_grad_()]
        grid = F.affine_grid(theta[None], (1, 1, 5, 5), align_corners=False)
        read = F.grid_sample(picture[None, None], grid, align_corners=False)[0, 0]
        theirs = torch.autograd.grad((read * upstream).sum(), leaves)
        torch.testing.assert_close(ours, theirs)


def test_exactly_on_a_pixel_the_slope_is_the_one_to_the_right_as_in_torch():
    picture, size = torch.rand(8, 8), 8  # the identity: every place is a pixel's centre
    theta = torch.eye(2, 3)
    grid = lesson().affine_grid(theta[None], size).requires_grad_()
    read = F.grid_sample(picture[None, None], grid, align_corners=False)
    by_x = torch.autograd.grad(read.sum(), grid)[0][0, ..., 0]
    right = F.pad(picture, (0, 1))[:, 1:] - picture
    torch.testing.assert_close(by_x, right * size / 2)
    ours = lesson().slopes(picture, theta, size, torch.ones(size, size))[1]
    assert ours[0, 2].item() == pytest.approx(by_x.sum().item())


def test_the_tools_and_the_order_of_two_thetas():
    first, second = lesson().theta_of(0.2, -0.1, 30, 0.8), lesson().theta_of(-0.4, 0.3, -70, 1.2)
    both = lesson().composed(first.double(), second.double())
    point = torch.tensor([0.3, -0.6, 1.0])
    middle = torch.cat([second[0].double() @ point, torch.ones(1)])
    torch.testing.assert_close(both[0] @ point, first[0].double() @ middle)
    assert lesson().angles(both).item() == pytest.approx(-40, abs=1e-4)
    assert lesson().circular_spread(torch.tensor([179.0, -179.0])) == pytest.approx(1, abs=1e-6)


def test_a_picture_is_undone_by_the_inverse_of_its_theta():
    digit = F.pad(torch.ones(1, 1, 8, 8), [16] * 4)
    offset, angle = torch.tensor([[0.3, -0.2]]), torch.tensor([math.pi / 3])
    made = lesson().placed(digit, offset, angle)
    picture = F.grid_sample(digit, lesson().affine_grid(made, 40), align_corners=False)
    middle = [lesson().centre(picture[0, 0])[axis] for axis in (0, 1)]
    assert middle == pytest.approx([19.5 + 20 * 0.3, 19.5 - 20 * 0.2], abs=0.05)
    back = torch.as_tensor(solutions.undo(made[0].numpy()))[None]
    again = F.grid_sample(picture, lesson().affine_grid(back, 40), align_corners=False)
    assert (again - digit).abs().mean() < 0.01
    torch.testing.assert_close(
        lesson().composed(made, back), torch.eye(2, 3)[None], atol=1e-12, rtol=0
    )


def test_the_start_is_the_identity_and_a_window_only_moves():
    pictures = torch.rand(4, 1, 40, 40)
    network = lesson().Transformer()
    torch.testing.assert_close(network.theta(pictures), torch.eye(2, 3).expand(4, 2, 3))
    torch.testing.assert_close(network(pictures), network.classifier(F.avg_pool2d(pictures, 2)))
    window = lesson().Transformer(zoom=0.5, only_shift=True)
    torch.nn.init.normal_(window.localise[-1].weight)
    theta = window.theta(pictures)
    torch.testing.assert_close(theta[:, :, :2], 0.5 * torch.eye(2).expand(4, 2, 2))
    assert theta[:, :, 2].std() > 0


# --- exercises ------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", LESSON)
def test_the_solution_is_right(id):
    assert LESSON[id].check(*LESSON[id].answers())


def slope_inside(row, p):
    left = math.floor(p)
    return row[left + 1] - row[left]


MISTAKES = {
    "23.1": [
        ("other convention", lambda x, size, corners: solutions.pixel_of(x, size, not corners)),
        ("take away a half", lambda x, size, corners: (x + 1) * size / 2),
        ("do not round", lambda x, size, corners: round(solutions.pixel_of(x, size, corners))),
        ("counted from 0", lambda x, size, corners: solutions.pixel_of(x, size, corners) + 1),
    ],
    "23.2": [
        ("not the other way round", lambda row, p: -solutions.slope_at(row, p)),
        ("does not blend", lambda row, p: np.interp(p, range(-1, len(row) + 1), [0, *row, 0])),
        ("counts as 0", slope_inside),
        ("outside", lambda row, p: (lambda last, left: row[max(min(left + 1, last), 0)]
                                    - row[max(min(left, last), 0)])(len(row) - 1, math.floor(p))),
    ],
    "23.3": [
        ("multiply it by the inverse", lambda theta: np.concatenate(
            [np.linalg.inv(theta[:, :2]), -theta[:, 2:]], 1)),
        ("minus", lambda theta: solutions.undo(theta) * [1, 1, -1]),
        ("transpose", lambda theta: np.concatenate(
            [theta[:, :2].T, -theta[:, :2].T @ theta[:, 2:]], 1)),
        ("not by its negative", lambda theta: -theta),
        ("first two rows", lambda theta: np.linalg.inv(np.vstack([theta, [0, 0, 1]]))),
    ],
}  # fmt: skip


@planted(MISTAKES)
def test_a_mistake_is_told(id, answer, words):
    from cnncourse.exercises import Wrong

    with pytest.raises(Wrong, match=words):
        LESSON[id].check(answer)
