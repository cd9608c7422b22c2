"""Scenes show what they say: boxes, masks, classes, colours and sentences are true of the pixels."""

from functools import partial

import numpy as np
import pytest
import torch

from cnncourse import augment, data, scenes
from cnncourse.errors import ParameterError, ShapeError

PARTS = ("images", "boxes", "labels", "colours", "masks", "mentions")


@pytest.fixture(scope="module")
def some():
    return scenes.make(400, train=True, seed=1)


@pytest.fixture(scope="module")
def crowded():
    return scenes.make(250, train=True, objects=(3, 3), gap=-6)


def equal(one, other):
    same = all(torch.equal(getattr(one, part), getattr(other, part)) for part in PARTS)
    return same and one.captions == other.captions and one.checksum == other.checksum


def test_the_same_arguments_give_the_same_scenes_and_fewer_are_the_first_of_more(some):
    assert equal(some, scenes.make(400, train=True, seed=1))
    few = scenes.make(30, train=True, seed=1)
    assert torch.equal(few.images, some.images[:30]) and few.captions == some.captions[:30]
    assert torch.equal(few.boxes, some.boxes[:30]) and torch.equal(few.masks, some.masks[:30])
    for other in (scenes.make(30, train=True, seed=2), scenes.make(30, train=False, seed=1)):
        assert not torch.equal(other.images, few.images)
    assert len({image.numpy().tobytes() for image in some.images}) == 400
    assert data.loaded()["scenes (train)"]


def test_shapes_types_and_ranges_are_those_of_the_docstring(some):
    assert some.images.shape == (400, 3, 48, 48) and some.images.dtype == torch.uint8
    assert some.boxes.shape == (400, 3, 4) and some.boxes.dtype == torch.float32
    assert some.labels.shape == some.colours.shape == (400, 3)
    assert some.masks.shape == (400, 48, 48) and some.masks.dtype == torch.uint8
    assert some.counts.unique().tolist() == [1, 2, 3]
    assert some.labels.max() == 9 and some.colours.max() == 3
    assert torch.equal(some.labels < 0, some.colours < 0)
    assert repr(some) == "Scenes('scenes', 400 images of 3 x 48 x 48, 1 to 3 of 10 classes in each)"
    one = scenes.make(50, train=False, objects=(1, 1), classes=4, size=40, heights=(10, 12))
    assert one.images.shape[2:] == (40, 40) and one.classes == ("zero", "one", "two", "three")
    heights = one.boxes[:, 0, 3] - one.boxes[:, 0, 1]
    assert 8 <= heights.min() and heights.max() <= 12 and one.labels.max() == 3


@pytest.mark.parametrize("which", ["some", "crowded"])
def test_boxes_lie_exactly_around_the_visible_ink_of_each_object(which, request):
    shown = request.getfixturevalue(which)
    for boxes, labels, masks in zip(shown.boxes, shown.labels, shown.masks, strict=True):
        assert int(masks.max()) == (labels >= 0).sum()
        for k, (box, label) in enumerate(zip(boxes, labels, strict=True)):
            rows, columns = (masks == k + 1).nonzero(as_tuple=True)
            if label < 0:
                assert len(rows) == 0 and box.tolist() == [0, 0, 0, 0]
                continue
            assert len(rows) >= 12  # of the thinnest one some is always seen
            ends = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            assert box.tolist() == [float(end) for end in ends]


def test_boxes_keep_their_distance_and_below_zero_they_may_overlap(some, crowded):
    from torchvision.ops import box_iou

    def overlaps(shown):
        found = []
        for boxes, count in zip(shown.boxes, shown.counts, strict=True):
            found += box_iou(boxes[:count], boxes[:count]).triu(1).flatten().tolist()
        return max(found)

    assert overlaps(some) == 0 and 0.05 < overlaps(crowded) < 0.6
    apart = scenes.make(60, train=True, objects=(2, 2), heights=(10, 14), gap=5)
    first, second = (
        boxes + torch.tensor([-2.0, -2, 2, 2]) for boxes in (apart.boxes[:, 0], apart.boxes[:, 1])
    )
    assert all(box_iou(a[None], b[None]) == 0 for a, b in zip(first, second, strict=True))


def test_every_object_has_the_colour_that_it_is_said_to_have(some):
    palette = torch.tensor(list(scenes.COLOURS.values())) * 255
    right = total = 0
    for image, colours, masks in zip(some.images, some.colours, some.masks, strict=True):
        for k, colour in enumerate(colours[colours >= 0]):
            pixels = image[:, masks == k + 1].float().T  # (pixels, 3)
            nearest = torch.cdist(pixels, palette).argmin(1).bincount(minlength=4).argmax()
            right, total = right + int(nearest == colour), total + 1
    assert right == total > 700


def test_an_object_shows_the_digit_that_it_is_said_to_be():
    """Its mask, scaled back to 8 x 8, is nearest to pictures of its class: far above the chance of a tenth."""
    pool = data.digits()
    known = (pool.images[: scenes.TRAIN_DIGITS, 0].float() / 255).flatten(1)
    for train, least in ((True, 0.85), (False, 0.7)):
        shown = scenes.make(250, train=train, objects=(1, 1), heights=(20, 24))
        small = []
        for mask, box in zip(shown.masks, shown.boxes[:, 0].int().tolist(), strict=True):
            x1, y1, x2, y2 = box
            ink = (mask[y1:y2, x1:x2] > 0).float()[None, None]
            wide = round(8 * (x2 - x1) / (y2 - y1))
            ink = torch.nn.functional.interpolate(ink, (8, max(wide, 1)), mode="area")[0, 0]
            left = (8 - ink.shape[1]) // 2
            small.append(torch.nn.functional.pad(ink, (left, 8 - ink.shape[1] - left))[:, :8])
        nearest = torch.cdist(torch.stack(small).flatten(1), known).argmin(1)
        found = pool.labels[nearest] == shown.labels[:, 0]
        assert found.double().mean() > least


def test_sentences_are_true_of_the_boxes(some):
    seen = {"above": 0, "left of": 0, "and": 0}
    for caption, boxes, labels, colours in zip(
        some.captions, some.boxes, some.labels, some.colours, strict=True
    ):
        objects = {}
        for k in range(int((labels >= 0).sum())):
            x1, y1, x2, y2 = boxes[k].tolist()
            name = f"a {list(scenes.COLOURS)[colours[k]]} {some.classes[labels[k]]}"
            objects.setdefault(name, []).append(((x1 + x2) / 2, (y1 + y2) / 2))
        for joint in seen:
            if f" {joint} " in caption:
                seen[joint] += 1
                names = caption.split(f" {joint} ")
                break
        else:
            names = [caption]
        assert sorted(names) == sorted(name for name in objects for _ in objects[name])
        if len(names) == 2 and names[0] != names[1]:
            (ax, ay), (bx, by) = (objects[name][0] for name in names)
            assert (by - ay >= abs(bx - ax)) if joint == "above" else (bx - ax > abs(by - ay))
        if len(names) == 3 and len(objects) == 3:
            across = [objects[name][0][0] for name in names]
            assert across == sorted(across)
    assert min(seen.values()) > 30


def test_every_word_points_at_the_object_that_it_names(some):
    tints = list(scenes.COLOURS)
    for row, caption in enumerate(some.captions):
        words = caption.split()
        mentions = some.mentions[row].tolist()
        assert set(mentions[len(words) :]) <= {-1}
        for word, k in zip(words, mentions, strict=False):
            if k < 0:
                assert word in ("a", "and", "above", "left", "of")
            else:
                named = tints[some.colours[row, k]], some.classes[some.labels[row, k]]
                assert word in named
        named = [k for k in mentions if k >= 0]
        assert sorted(named) == sorted(2 * list(range(int(some.counts[row]))))


def test_training_and_test_scenes_share_no_digit_and_no_place_of_a_photograph():
    labels = data.digits().labels
    form = list(range(10)) * 3  # so begins a form
    assert labels[scenes.TRAIN_DIGITS :][:30].tolist() == form
    train, test = (scenes._glyphs("digits", part, 10, (14, 22))[0] for part in (True, False))
    assert (len(train), len(test)) == (1287, 510)
    kinds = [{glyph.numpy().tobytes() for glyph in part} for part in (train, test)]
    assert not kinds[0] & kinds[1]
    grounds = {part: scenes._grounds(part, 48) for part in (True, False)}
    for number, name in enumerate(scenes.TEXTURES):
        photo = data.photos()[name][0].float()
        left, right = photo.split([307, 205], 1)
        for part, place in ((True, left), (False, right)):
            found = torch.corrcoef(torch.stack([grounds[part][number].flatten(), place.flatten()]))
            assert found[0, 1] > 0.9999


def test_the_ground_is_a_photograph_and_contrast_is_its_deviation():
    smooth, rough = (
        scenes.make(100, train=True, contrast=value).images.float() for value in (0.0, 0.2)
    )
    ground = scenes.make(100, train=True).masks == 0
    inner = torch.nn.functional.max_pool2d((~ground).float()[:, None], 5, 1, 2)[:, 0] == 0
    deviation = [
        np.mean([image[0][place].std() for image, place in zip(images, inner, strict=True)]) / 255
        for images in (smooth, rough)
    ]
    assert abs(deviation[0] - 0.02) < 0.005 and 0.12 < deviation[1] < 0.25


def test_segmentation_gives_every_pixel_the_class_of_its_object(some):
    pixels = some.segmentation()
    assert pixels.classes == ("ground", *some.classes) and pixels.labels.dtype == torch.int64
    for row in range(20):
        expected = torch.zeros(48, 48, dtype=torch.int64)
        for k, label in enumerate(some.labels[row].tolist()):
            expected[some.masks[row] == k + 1] = label + 1
        assert torch.equal(pixels.labels[row], expected)
    change = augment.compose(partial(augment.crop, padding=6), augment.flip)
    images, labels = next(pixels.batches(32, torch.Generator().manual_seed(0), augment=change))
    assert images.shape == (32, 3, 48, 48) and labels.shape == (32, 48, 48)


def test_classification_labels_scenes_of_one_object():
    one = scenes.make(40, train=True, objects=(1, 1))
    assert one.classification().labels.tolist() == one.labels[:, 0].tolist()
    assert one.classification().classes == one.classes


def test_parts_and_single_scenes_keep_everything_together(some):
    part = some[torch.tensor([7, 3])]
    assert part.captions == (some.captions[7], some.captions[3]) and len(part) == 2
    assert torch.equal(part.masks[0], some.masks[7]) and torch.equal(part.boxes[1], some.boxes[3])
    twos = some[some.counts == 2]
    assert set(twos.counts.tolist()) == {2} and len(twos.captions) == len(twos)
    assert some[10:20].captions == some.captions[10:20]
    with pytest.raises(ShapeError, match="a mask of 400 values"):
        some[torch.ones(3, dtype=torch.bool)]
    image, target = some[int((some.counts == 3).nonzero()[0])]
    assert image.dtype == torch.float32 and image.max() <= 1
    assert target["boxes"].shape == (3, 4) and target["masks"].shape == (3, 48, 48)
    for box, mask in zip(target["boxes"], target["masks"], strict=True):
        x1, y1, x2, y2 = box.int().tolist()
        assert mask.sum() == mask[y1:y2, x1:x2].sum() > 0


def test_batches_shuffle_pictures_and_targets_together(some):
    seen = []
    for images, targets in some.batches(64, torch.Generator().manual_seed(0)):
        rows = targets["rows"]
        seen += rows.tolist()
        assert torch.equal((images * 255).round().byte(), some.images[rows])
        for name in ("boxes", "labels", "masks"):
            assert torch.equal(targets[name], getattr(some, name)[rows])
    assert seen != sorted(seen) == list(range(400))
    images, targets = next(some.batches(64))
    assert targets["rows"].tolist() == list(range(64))


def test_flipped_batches_have_boxes_around_their_flipped_masks(some):
    flip = partial(augment.flip, probability=1)
    images, targets = next(some.batches(64, torch.Generator().manual_seed(0), augment=flip))
    assert torch.equal(images, some.images[targets["rows"]].flip(-1) / 255)
    around = torch.stack([scenes._around(targets["masks"] == k + 1) for k in range(3)], 1)
    assert torch.equal(around, targets["boxes"])


def test_cropped_batches_have_boxes_that_hold_what_is_left_of_each_object(some):
    crop = partial(augment.crop, padding=20)
    lost = 0
    for _, targets in some.batches(100, torch.Generator().manual_seed(0), augment=crop):
        around = torch.stack([scenes._around(targets["masks"] == k + 1) for k in range(3)], 1)
        seen = around[..., 2] > 0
        assert (targets["boxes"][seen][:, :2] <= around[seen][:, :2]).all()
        assert (targets["boxes"][seen][:, 2:] >= around[seen][:, 2:]).all()
        assert (targets["labels"][seen] >= 0).all()
        lost += int(((some.labels[targets["rows"]] >= 0) & (targets["labels"] < 0)).sum())
    assert lost > 20


def test_scenes_on_their_own_device_are_the_same(some):
    assert equal(some.to("cpu"), some)


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU: scenes were not moved to one (pytest -m gpu)"
)
def test_scenes_on_a_gpu_give_the_same_parts_and_batches(some):
    moved = some.to("cuda")
    change = augment.compose(partial(augment.crop, padding=6), augment.flip)
    for shown in (moved, moved[moved.counts == 2], moved[5:50]):
        assert shown.images.is_cuda and len(shown.captions) == len(shown)
    batches = (
        shown.batches(64, torch.Generator().manual_seed(0), augment=change)
        for shown in (moved, some)
    )
    for (images, targets), (same, expected) in zip(*batches, strict=True):
        assert torch.allclose(images.cpu(), same, atol=1e-6)
        for name, value in expected.items():
            assert torch.equal(targets[name].cpu(), value)
    assert torch.equal(moved.segmentation().labels.cpu(), some.segmentation().labels)
    assert torch.equal(moved[3][1]["masks"].cpu(), some[3][1]["masks"])


def test_scenes_work_in_a_dataloader(some):
    loader = torch.utils.data.DataLoader(some, batch_size=8, collate_fn=lambda pairs: pairs)
    first = next(iter(loader))
    assert len(first) == 8 and torch.equal(first[2][1]["boxes"], some[2][1]["boxes"])


@pytest.mark.parametrize(
    "values",
    [
        {"count": 0},
        {"objects": (2, 1)},
        {"objects": (0, 1)},
        {"heights": (3, 9)},
        {"heights": (9, 60)},
        {"classes": 11},
    ],
    ids=str,
)
def test_values_that_are_none_are_refused_by_name(values):
    with pytest.raises(ParameterError, match=f"{next(iter(values))}="):
        scenes.make(**{"count": 4, "train": True} | values)


def test_too_many_digits_too_large_a_picture_and_colour_sets_are_refused_with_a_remedy(tmp_path):
    with pytest.raises(ParameterError, match="raise size, or lower objects"):
        scenes.make(2, train=True, size=24, objects=(3, 3), heights=(20, 22))
    with pytest.raises(ParameterError, match="at most 205 pixels"):
        scenes.make(2, train=False, size=300)
    from PIL import Image

    for part in ("train", "test"):
        (tmp_path / part / "cat").mkdir(parents=True)
        Image.new("RGB", (28, 28)).save(tmp_path / part / "cat/1.png")
    with pytest.raises(ParameterError, match="a set of grey pictures"):
        scenes.make(2, train=True, source=str(tmp_path))


def test_digits_may_come_from_a_folder_of_grey_pictures(tmp_path):
    from PIL import Image

    bar, ring = np.zeros((28, 28), np.uint8), np.zeros((28, 28), np.uint8)
    bar[4:24, 12:16] = ring[6:22, 6:22] = 255
    ring[10:18, 10:18] = 0
    for part in ("train", "test"):
        for name, array in (("Bar", bar), ("Ring", ring)):
            (tmp_path / part / name).mkdir(parents=True)
            Image.fromarray(array).save(tmp_path / part / name / "1.png")
    shown = scenes.make(40, train=True, source=str(tmp_path), objects=(1, 1), classes=2)
    assert shown.classes == ("bar", "ring") and "bar" in " ".join(shown.captions)
    shape = (shown.boxes[:, 0, 2:] - shown.boxes[:, 0, :2]).unbind(1)
    upright = shape[1] / shape[0]  # height / width
    assert (upright[shown.labels[:, 0] == 0] > 3).all() and (
        upright[shown.labels[:, 0] == 1] < 1.3
    ).all()


def test_shapes_too_dark_to_be_seen_are_left_out_and_a_set_of_nothing_else_is_refused(tmp_path):
    from PIL import Image

    dot, bar = np.zeros((28, 28), np.uint8), np.zeros((28, 28), np.uint8)
    bar[4:24, 12:16] = 255
    dot[4:24, 4:24] = 60  # nearly black but for one pixel
    dot[10, 10] = 255
    for part in ("train", "test"):
        for name, arrays in (("bar", (bar, dot)), ("dot", (dot,))):
            (tmp_path / part / name).mkdir(parents=True)
            for number, array in enumerate(arrays):
                Image.fromarray(array).save(tmp_path / part / name / f"{number}.png")
    shown = scenes.make(40, train=True, source=str(tmp_path), objects=(1, 1), classes=2)
    assert shown.labels.unique().tolist() == [0] and (shown.masks > 0).flatten(1).any(1).all()
    (tmp_path / "train/bar/0.png").unlink()
    with pytest.raises(ParameterError, match="bright shapes on black"):
        scenes.make(4, train=True, source=str(tmp_path), classes=2)
