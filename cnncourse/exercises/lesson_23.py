"""Exercises of lesson 23: coordinates and pixels, the slope of a bilinear value, a theta that undoes another."""

from __future__ import annotations

import math

import numpy as np

from cnncourse.exercises import Exercise, Wrong, expect_same


def check_pixel_of(pixel_of) -> str:
    for size in (5, 8, 40):
        for x in (0.3, -1.0, -0.3, 0.0, 1.0):
            edges, centres = ((x + 1) * size - 1) / 2, (x + 1) * (size - 1) / 2
            for align_corners, right, other in ((False, edges, centres), (True, centres, edges)):
                hints = [
                    (other, "that is the other convention; False: -1 and 1 are the outer edges"),
                    (
                        (x + 1) * size / 2,
                        "pixel 0 has its centre at 0 and its left edge at -0.5: take away a half",
                    ),
                    (round(right), "the pixel may be a fraction: do not round"),
                    (right + 1, "pixels are counted from 0"),
                    (x * size / 2, "x = -1 is the left end: add 1 to x first"),
                ]
                what = f"x = {x:g} in {size} pixels, align_corners={align_corners}"
                expect_same(pixel_of(x, size, align_corners), right, what, hints=hints)
    return "with False x = 0 lies between the two middle pixels of an even row, and so it does with True"


def pixel_of(x, size, align_corners):
    if align_corners:
        return (x + 1) * (size - 1) / 2
    return ((x + 1) * size - 1) / 2


def _value(row, place):
    """The pixel at a whole place, 0 outside."""
    return float(row[place]) if 0 <= place < len(row) else 0.0


def check_slope_at(slope_at) -> str:
    stream = np.random.default_rng(2)
    for length in (4, 7):
        row = stream.random(length).round(2)
        last = length - 1
        for p in (0.4, 1.0, 1.7, last - 0.5, last + 0.3, float(last), -0.6, -3.2, length + 2.5):
            left = math.floor(p)
            near, far = _value(row, left), _value(row, left + 1)
            share = p - left
            hints = [
                (near - far, "right neighbour minus left one, not the other way round"),
                ((1 - share) * near + share * far, "that is the value; the slope does not blend"),
                (
                    float(row[max(min(left + 1, last), 0)] - row[max(min(left, last), 0)]),
                    "a pixel outside of the row is 0, not the last one",
                ),
                (float(row[(left + 1) % length] - row[left % length]), "no wrapping: outside is 0"),
                (0.0, "half inside there is one pixel left: its neighbour is 0, the slope is not"),
                ((far - _value(row, left - 1)) / 2, "bilinear: the two pixels around p only"),
            ]
            try:
                got = slope_at(row.copy(), p)
            except IndexError:
                raise Wrong(f"p = {p:g}: a neighbour outside of the row counts as 0") from None
            expect_same(got, near * -1 + far, f"p = {p:g} in a row of {length}", hints=hints)
    return "the slope jumps at every pixel: bilinear values bend there"


def slope_at(row, p):
    left = math.floor(p)
    values = [row[place] if 0 <= place < len(row) else 0.0 for place in (left, left + 1)]
    return values[1] - values[0]


def check_undo(undo) -> str:
    stream = np.random.default_rng(3)
    cases = [
        ("the identity", np.eye(2, 3)),
        ("a shift", np.array([[1.0, 0, 0.5], [0, 1, -0.2]])),
        ("half the width, shifted", np.array([[0.5, 0, 0.4], [0, 0.5, 0.1]])),
        ("a quarter turn, shifted", np.array([[0.0, -1, 0.3], [1, 0, 0.2]])),
        *[
            (f"a random one, {n}", np.eye(2, 3) + 0.4 * stream.standard_normal((2, 3)))
            for n in range(3)
        ],
    ]
    for what, theta in cases:
        square = theta[:, :2]
        back = np.linalg.inv(square)
        right = np.concatenate([back, -back @ theta[:, 2:]], 1)
        hints = [
            (
                np.concatenate([back, -theta[:, 2:]], 1),
                "the shift is turned and scaled too: multiply it by the inverse",
            ),
            (np.concatenate([back, back @ theta[:, 2:]], 1), "the shift goes back: minus"),
            (np.concatenate([back, theta[:, 2:]], 1), "the shift must go back as well"),
            (np.concatenate([square.T, -square.T @ theta[:, 2:]], 1), "the transpose is the inverse of a turn only"),
            (-theta, "a matrix is undone by its inverse, not by its negative"),
        ]  # fmt: skip
        shapes = [((3, 3), "return the first two rows"), ((2, 2), "the shift is missing")]
        got = np.asarray(undo(theta.copy()), float)
        expect_same(got, right, what, hints=hints, shapes=shapes)
    return "so the grid of one and the picture made with the other meet"


def undo(theta):
    back = np.linalg.inv(np.asarray(theta)[:, :2])
    return np.concatenate([back, -back @ np.asarray(theta)[:, 2:]], 1)


EXERCISES = [
    Exercise(
        "23.1",
        "From coordinates to pixels",
        (
            "False: the row is `size` pixels wide, from -0.5 to size - 0.5; True: from 0 to size - 1.",
            "(x + 1) / 2 is the share of the way; for False multiply by size and take away a half.",
        ),
        check_pixel_of,
        pixel_of,
    ),
    Exercise(
        "23.2",
        "The slope of what is read",
        (
            "left = math.floor(p); its right neighbour is left + 1.",
            "A place below 0 or from len(row) on has the value 0.",
        ),
        check_slope_at,
        slope_at,
    ),
    Exercise(
        "23.3",
        "Undo a theta",
        (
            "s = A t + b, so t = inverse of A times (s - b).",
            "np.linalg.inv(theta[:, :2]), and minus its product with theta[:, 2:].",
        ),
        check_undo,
        undo,
    ),
]
