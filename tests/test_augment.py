"""Augmentation changes pictures and the places told of them alike; it keeps shape, dtype and range and never wraps."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnncourse import augment, data
from cnncourse.errors import ParameterError, ShapeError

STEPS = {
    "flip": augment.flip,
    "crop": partial(augment.crop, padding=3),
    "jitter": augment.jitter,
    "cutout": partial(augment.cutout, size=3),
    "noise": partial(augment.noise, std=0.2),
    "all": augment.compose(
        partial(augment.crop, padding=2),
        augment.flip,
        augment.jitter,
        partial(augment.cutout, size=2),
        partial(augment.noise, std=0.05),
    ),
}
DTYPES = (torch.uint8, torch.float32, torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(shape, dtype=torch.uint8, seed=0):
    images = torch.randint(0, 256, shape, generator=seeded(seed), dtype=torch.uint8)
    return images if dtype == torch.uint8 else images.to(dtype) / 255


shapes = st.tuples(st.integers(1, 5), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))


@settings(deadline=None, max_examples=40)
@given(
    shape=shapes,
    dtype=st.sampled_from(DTYPES),
    step=st.sampled_from(sorted(STEPS)),
    seed=st.integers(0, 2**31),
)
def test_every_step_keeps_shape_dtype_and_range_and_its_input(shape, dtype, step, seed):
    images = pictures(shape, dtype, seed)
    before = images.clone()
    out = STEPS[step](images, generator=seeded(seed))
    assert out.shape == images.shape and out.dtype == dtype
    assert out.min() >= 0 and out.max() <= (255 if dtype == torch.uint8 else 1)
    assert torch.equal(images, before)


@pytest.mark.parametrize("step", sorted(STEPS))
def test_the_same_generator_state_gives_the_same_batch_and_another_gives_another(step):
    images = pictures((16, 3, 8, 8))
    first, again, other = (STEPS[step](images, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


@settings(deadline=None, max_examples=40)
@given(
    shape=shapes,
    padding=st.integers(0, 6),
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from(DTYPES),
)
def test_a_crop_is_a_window_of_the_padded_picture_so_nothing_wraps_around(
    shape, padding, seed, dtype
):
    images = pictures(shape, dtype, seed)
    out = augment.crop(images, padding, seeded(seed))
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    _, _, height, width = shape
    for picture, whole in zip(out, padded, strict=True):
        assert any(
            torch.equal(picture, whole[:, top : top + height, left : left + width])
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
        )


def test_crops_reach_every_offset_and_each_picture_moves_on_its_own():
    marker = torch.zeros(2000, 1, 5, 5, dtype=torch.uint8)
    marker[:, :, 2, 2] = 1
    places = augment.crop(marker, 2, seeded()).flatten(1).argmax(1)
    assert len(places.unique()) == 25  # each of the 5 x 5 offsets
    assert places.bincount(minlength=25).min() > 2000 / 25 / 2


def test_a_crop_fills_with_the_value_asked_for():
    out = augment.crop(torch.zeros(50, 1, 4, 4), 4, seeded(), fill=0.5)
    assert set(out.unique().tolist()) == {0.0, 0.5}


def test_flips_are_per_image_and_about_half_of_them():
    images = pictures((400, 1, 3, 4))
    out = augment.flip(images, seeded())
    same = (out == images).flatten(1).all(1)
    mirrored = (out == images.flip(-1)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert 0.4 < (mirrored & ~same).double().mean() < 0.6


def test_flip_probability_zero_and_one_change_nothing_and_everything():
    images = pictures((20, 3, 4, 5))
    assert torch.equal(augment.flip(images, seeded(), probability=0), images)
    assert torch.equal(augment.flip(images, seeded(), probability=1), images.flip(-1))


@given(dx=st.integers(-7, 7), dy=st.integers(-7, 7))
def test_a_shift_moves_by_whole_pixels_fills_and_comes_back_without_the_lost_ones(dx, dy):
    images = pictures((2, 3, 4, 5)).clamp_min(1)
    out = augment.shift(images, dx, dy)
    expected = torch.zeros_like(images)
    for y in range(4):
        for x in range(5):
            if 0 <= y - dy < 4 and 0 <= x - dx < 5:
                expected[:, :, y, x] = images[:, :, y - dy, x - dx]
    assert torch.equal(out, expected)


def test_noise_has_the_mean_and_deviation_asked_for_and_differs_between_pictures():
    grey = torch.full((50, 1, 20, 20), 0.5, dtype=torch.float64)
    out = augment.noise(grey, 0.1, seeded())
    assert abs(out.mean() - 0.5) < 0.003 and abs(out.std() - 0.1) < 0.003
    assert not torch.equal(out[0], out[1])
    levels = augment.noise(
        torch.full((50, 1, 20, 20), 128, dtype=torch.uint8), 0.1, seeded()
    ).double()
    assert abs(levels.mean() - 128) < 1 and abs(levels.std() - 25.5) < 1


def test_brightness_scales_the_mean_and_contrast_keeps_it():
    images = (
        pictures((200, 1, 8, 8), torch.float64) * 0.2 + 0.4
    )  # stays inside 0..1, so nothing is clamped
    before = images.mean((1, 2, 3))
    dark = augment.jitter(images, seeded(), brightness=0.2, contrast=0)
    factors = dark.mean((1, 2, 3)) / before
    assert factors.min() >= 0.8 and factors.max() <= 1.2 and factors.std() > 0.05
    assert torch.allclose(dark, images * factors.view(-1, 1, 1, 1))
    flat = augment.jitter(images, seeded(), brightness=0, contrast=0.5)
    assert torch.allclose(flat.mean((1, 2, 3)), before)
    assert 0.5 <= (flat.std((1, 2, 3)) / images.std((1, 2, 3))).min() < 0.6


def test_a_cutout_covers_one_square_and_less_only_at_the_edge():
    out = augment.cutout(torch.ones(300, 2, 9, 9), 3, seeded())
    holes = out == 0
    assert torch.equal(holes[:, 0], holes[:, 1])
    areas = holes[:, 0].flatten(1).sum(1)
    assert areas.max() == 9 and areas.min() == 4  # a corner leaves 2 x 2 of the 3 x 3
    rows, columns = holes[:, 0].any(2).sum(1), holes[:, 0].any(1).sum(1)
    assert torch.equal(rows * columns, areas)


def test_batches_augment_what_they_yield_and_leave_labels_and_set_alone():
    digits = data.digits()
    before = digits.images.clone()
    plain = list(digits.batches(200, seeded()))
    right = lambda images, generator: augment.shift(images, 1, 0)  # noqa: E731
    changed = list(digits.batches(200, seeded(), augment=right))
    for (images, labels), (moved, same) in zip(plain, changed, strict=True):
        assert torch.equal(labels, same)
        assert torch.equal(moved[..., 1:], images[..., :-1])
    assert torch.equal(digits.images, before)


def test_a_single_picture_and_a_negative_padding_are_refused_with_the_remedy():
    with pytest.raises(ShapeError, match=r"images\[None\]"):
        augment.flip(torch.zeros(3, 8, 8), seeded())
    with pytest.raises(ShapeError, match="uint8 or floating point"):
        augment.noise(torch.zeros(1, 3, 8, 8, dtype=torch.int64), 0.1, seeded())
    with pytest.raises(ParameterError, match="try padding=4"):
        augment.crop(torch.zeros(1, 3, 8, 8), -1, seeded())


# --- targets move with their pictures -------------------------------------------------------------------------------


def dots(n=40, size=12, seed=0):
    """Pictures with one 3 x 4 block each, its mask, and its box as x1, y1, x2, y2."""
    top = torch.randint(size - 2, (n,), generator=seeded(seed))
    left = torch.randint(size - 3, (n,), generator=seeded(seed + 1))
    images = torch.zeros(n, 1, size, size, dtype=torch.uint8)
    for image, row, column in zip(images, top, left, strict=True):
        image[0, row : row + 3, column : column + 4] = 200
    boxes = torch.stack([left, top, left + 4, top + 3], 1).float()
    return images, (images[:, 0] > 0), boxes


def tight(mask):
    """The box around a mask (H, W), None where it is empty."""
    if not mask.any():
        return None
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    return [float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)]


MOVES = {
    "flip": augment.flip,
    "crop": partial(augment.crop, padding=6),
    "shift": lambda images, generator, targets: augment.shift(images, 5, -4, targets=targets),
    "both": augment.compose(partial(augment.crop, padding=6), augment.flip),
}


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.uint8])
@pytest.mark.parametrize("move", sorted(MOVES))
def test_a_mask_moves_exactly_as_its_picture(move, dtype):
    images, masks, _ = dots()
    images, moved = MOVES[move](images, generator=seeded(3), targets=masks.to(dtype) * 1)
    assert not torch.equal(moved.bool(), masks)
    assert torch.equal(images[:, 0] > 0, moved.bool())


@pytest.mark.parametrize("move", ["flip", "crop", "shift"])
def test_boxes_labels_and_masks_of_a_list_stay_with_the_object_and_leave_with_it(move):
    images, masks, boxes = dots()
    targets = [
        {"boxes": box[None], "labels": torch.tensor([number]), "masks": mask[None]}
        for number, (box, mask) in enumerate(zip(boxes, masks, strict=True))
    ]
    images, moved = MOVES[move](images, generator=seeded(3), targets=targets)
    gone = 0
    for number, (image, own) in enumerate(zip(images, moved, strict=True)):
        expected = tight(image[0] > 0)
        if expected is None:
            assert [len(value) for value in own.values()] == [0, 0, 0]
            gone += 1
        else:
            assert own["boxes"].tolist() == [expected] and own["labels"].tolist() == [number]
            assert torch.equal(own["masks"][0], image[0] > 0)
    assert gone == 0 if move == "flip" else gone > 0
    assert torch.equal(targets[0]["boxes"][0], boxes[0])  # the given targets stay


@pytest.mark.parametrize("move", ["flip", "crop", "shift"])
def test_batched_boxes_say_what_the_list_says_and_lost_ones_get_label_minus_one(move):
    images, masks, boxes = dots()
    filled = torch.cat([boxes[:, None], torch.zeros(40, 1, 4)], 1)  # one real box, one empty row
    labels = torch.stack([torch.arange(40), torch.full((40,), -1)], 1)
    targets = {"labels": labels, "boxes": filled, "masks": masks, "scene": torch.arange(40)}
    images, moved = MOVES[move](images, generator=seeded(3), targets=targets)
    assert list(moved) == list(targets) and torch.equal(moved["scene"], targets["scene"])
    for number, image in enumerate(images):
        expected = tight(image[0] > 0)
        assert moved["boxes"][number].tolist() == [expected or [0.0] * 4, [0.0] * 4]
        assert moved["labels"][number].tolist() == [-1 if expected is None else number, -1]


def test_several_objects_a_picture_and_none_are_cut_at_the_frame():
    images = torch.zeros(2, 1, 10, 10, dtype=torch.uint8)
    boxes = torch.tensor([[0.0, 0, 4, 4], [6, 6, 10, 10], [0, 5, 2, 9]])
    targets = [
        {"boxes": boxes, "labels": torch.tensor([7, 8, 9])},
        {"boxes": boxes[:0], "labels": torch.tensor([], dtype=torch.int64)},
    ]
    _, (first, second) = augment.shift(images, -2, 0, targets=targets)
    assert first["boxes"].tolist() == [[0, 0, 2, 4], [4, 6, 8, 10]]
    assert first["labels"].tolist() == [7, 8] and second["boxes"].shape == (0, 4)


@pytest.mark.parametrize("step", ["jitter", "cutout", "noise"])
def test_what_moves_nothing_takes_any_targets_and_leaves_them(step):
    images, masks, _ = dots()
    captions = ["a three left of a seven"] * len(images)
    for targets in (masks, captions):
        changed, same = STEPS[step](images, generator=seeded(), targets=targets)
        assert same is targets and not torch.equal(changed, images)
    assert torch.equal(changed, STEPS[step](images, generator=seeded()))


@pytest.mark.parametrize(
    "targets",
    [
        ["a three left of a seven"] * 40,
        {"captions": ["a three left of a seven"] * 40},
        torch.zeros(40, 4),  # a box for each picture, or four numbers of no place
        torch.zeros(40, 6, 6),
        {"boxes": torch.zeros(40, 4)},
        [{"labels": torch.zeros(1)}] * 40,
        [{"boxes": torch.zeros(2, 4), "labels": torch.zeros(1)}] * 40,
        [{"boxes": torch.zeros(1, 4)}] * 39,
    ],
    ids=lambda targets: augment._described(targets),
)
@pytest.mark.parametrize("move", sorted(MOVES))
def test_targets_that_cannot_be_moved_are_refused(move, targets):
    images, *_ = dots()
    with pytest.raises(ShapeError, match="argument targets of augment"):
        MOVES[move](images, generator=seeded(), targets=targets)


def test_batches_move_masks_with_their_pictures_and_refuse_a_change_that_forgets_them():
    images, masks, _ = dots()
    scenes = data.ImageSet(images, masks.long(), ("ground", "block"), "blocks")
    change = augment.compose(partial(augment.crop, padding=3), augment.flip)
    for pictures, targets in scenes.batches(16, seeded(1), augment=change):
        assert torch.equal(pictures[:, 0] > 0, targets.bool())

    def upside_down(images, generator):
        return images.flip(-2)

    with pytest.raises(ParameterError, match="give your function an argument targets"):
        next(scenes.batches(16, seeded(1), augment=upside_down))
    with pytest.raises(ParameterError, match="upside_down"):
        next(scenes.batches(16, seeded(1), augment=augment.compose(augment.flip, upside_down)))
    labels = torch.arange(40)
    for targets in (labels, (labels, labels), {"class": labels, "colour": labels}):
        assert augment.applied(upside_down, images, targets, seeded())[1] is targets
    labelled = data.ImageSet(images, torch.zeros(40).long(), ("a",), "blocks")
    assert len(next(labelled.batches(16, seeded(1), augment=upside_down))[0]) == 16


def test_the_draws_are_the_same_with_and_without_targets():
    images, masks, _ = dots()
    for move in ("flip", "crop", "both"):
        alone = MOVES[move](images, generator=seeded(5))
        assert torch.equal(alone, MOVES[move](images, generator=seeded(5), targets=masks)[0])
