"""Your own pictures with masks: what was drawn comes back pixel by pixel, and every mistake is named."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from cnncourse import augment, data
from cnncourse.errors import DataError, ParameterError

NAMES = ("road", "sky", "car")


def streets(root, count=3, size=(8, 12), names=NAMES, folders=("images", "masks")):
    """`count` pictures whose red is 50 times the class, their masks with a palette; the class numbers (N, H, W)."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
    drawn = np.random.default_rng(0).integers(0, 3, (count, *size), np.uint8)
    drawn[:, 0, 0] = 255
    for i, mask in enumerate(drawn):
        picture = np.stack([mask * 50, mask * 0, mask * 0 + 9], -1)
        Image.fromarray(picture).save(root / folders[0] / f"{i}.png")
        paint(root / folders[1] / f"{i}.png", mask)
    if names:
        (root / "classes.txt").write_text("\n".join(names) + "\n")
    return drawn


def paint(file, mask):
    image = Image.fromarray(mask)
    image.putpalette([(37 * i) % 256 for i in range(768)])  # colours that are not the numbers
    image.save(file)


@pytest.mark.parametrize("palette", [True, False])
def test_what_was_drawn_comes_back_pixel_by_pixel(tmp_path, palette):
    drawn = streets(tmp_path / "streets")
    if not palette:
        for i, mask in enumerate(drawn):
            Image.fromarray(mask).save(tmp_path / f"streets/masks/{i}.png")
    found = data.masks_folder(tmp_path / "streets")
    assert found.images.shape == (3, 3, 8, 12) and found.classes == NAMES
    assert found.labels.dtype == torch.int64 and found.labels.tolist() == drawn.tolist()
    known = found.labels != 255
    assert torch.equal(found.images[:, 0][known].long(), found.labels[known] * 50)
    assert data.loaded()["streets"] == found.checksum


def test_one_changed_pixel_of_a_mask_changes_the_checksum(tmp_path):
    drawn = streets(tmp_path)
    first = data.masks_folder(tmp_path).checksum
    drawn[1, 4, 4] = (drawn[1, 4, 4] + 1) % 3
    paint(tmp_path / "masks/1.png", drawn[1])
    assert data.masks_folder(tmp_path).checksum != first


def test_a_mask_is_scaled_and_cropped_like_its_picture_without_mixing_classes(tmp_path):
    streets(tmp_path, count=1)
    mask = np.zeros((32, 64), np.uint8)
    mask[8:24, 24:40] = 2  # around the middle, in a wide picture
    Image.fromarray(np.dstack([mask * 100] * 3)).save(tmp_path / "images/0.png")
    paint(tmp_path / "masks/0.png", mask)
    found = data.masks_folder(tmp_path, size=16)
    assert found.labels.shape == (1, 16, 16) and found.labels.unique().tolist() == [0, 2]
    assert torch.equal(found.images[0, 0] > 100, found.labels[0] == 2)


def test_it_trains_and_moves_under_augmentation(tmp_path):
    streets(tmp_path)
    found = data.masks_folder(tmp_path)
    pictures, masks = next(found.batches(3, torch.Generator().manual_seed(0), augment=augment.flip))
    known = masks != 255
    assert torch.allclose(pictures[:, 0][known] * 255, masks[known] * 50.0, atol=1e-3)
    logits = F.one_hot(masks.where(known, 0), 3).movedim(-1, 1) * 100.0
    assert F.cross_entropy(logits, masks, ignore_index=255) < 1e-6


def test_the_layout_of_pascal_voc_leaves_pictures_without_a_mask_out(tmp_path):
    drawn = streets(tmp_path, folders=("JPEGImages", "SegmentationClass"))
    (tmp_path / "SegmentationClass/1.png").unlink()
    assert data.masks_folder(tmp_path).labels.tolist() == drawn[[0, 2]].tolist()


def test_names_come_from_the_argument_the_file_or_the_numbers(tmp_path):
    streets(tmp_path / "train", names=None)
    assert data.masks_folder(tmp_path / "train").classes == ("0", "1", "2")
    (tmp_path / "classes.txt").write_text("road\n\nsky\r\ncar\nbus\n", newline="")
    assert data.masks_folder(tmp_path / "train").classes == (*NAMES, "bus")
    assert data.masks_folder(tmp_path / "train", classes="abc").classes == ("a", "b", "c")
    with pytest.raises(ParameterError, match="2 to 255 different names"):
        data.masks_folder(tmp_path / "train", classes=("road", "road", "car"))


def harm_no_mask(root, drawn):
    (root / "masks/1.png").unlink()


def harm_no_picture(root, drawn):
    (root / "images/1.png").unlink()


def harm_size(root, drawn):
    paint(root / "masks/1.png", drawn[1].T.copy())


def harm_value(root, drawn):
    drawn[1, 2, 3:5] = 7
    paint(root / "masks/1.png", drawn[1])


def harm_colours(root, drawn):
    Image.fromarray(np.dstack([drawn[1]] * 3)).save(root / "masks/1.png")


def harm_jpeg(root, drawn):
    (root / "masks/1.png").unlink()
    Image.fromarray(drawn[1]).save(root / "masks/1.jpg")


def harm_16_bits(root, drawn):
    Image.fromarray(drawn[1].astype(np.uint16) * 300).save(root / "masks/1.png")


def harm_cut(root, drawn):
    content = (root / "masks/1.png").read_bytes()
    (root / "masks/1.png").write_bytes(content[: len(content) - 30])


@pytest.mark.parametrize(
    "harm, said, file",
    [
        (harm_no_mask, "no mask called 1 in masks/", "images/1.png"),
        (harm_no_picture, "no picture called 1 in images/", "masks/1.png"),
        (harm_size, "12 x 8", "masks/1.png"),
        (harm_value, "7 at 2 pixels", "masks/1.png"),
        (harm_colours, "colours .RGB.", "masks/1.png"),
        (harm_jpeg, "JPEG has changed the numbers", "masks/1.jpg"),
        (harm_16_bits, "class numbers of 8 bits", "masks/1.png"),
        (harm_cut, "cannot be decoded", "masks/1.png"),
    ],
)
def test_a_mistake_is_named_with_its_file(tmp_path, harm, said, file):
    harm(tmp_path, streets(tmp_path))
    with pytest.raises(DataError, match=said) as raised:
        data.masks_folder(tmp_path)
    assert str(tmp_path / file) in str(raised.value)


@pytest.mark.parametrize("object_value", [255, 128])
def test_a_mask_of_black_and_white_is_refused_before_it_trains_on_nothing(tmp_path, object_value):
    drawn = streets(tmp_path, names=None)
    for i, mask in enumerate(drawn):
        Image.fromarray(np.where(mask > 0, object_value, 0).astype(np.uint8)).save(
            tmp_path / f"masks/{i}.png"
        )
    with pytest.raises(DataError, match="write 1 where the object is"):
        data.masks_folder(tmp_path)


def test_a_folder_without_the_two_parts_says_how_they_must_lie(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        data.masks_folder(tmp_path / "typo")
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=r"its mask into masks/001\.png"):
        data.masks_folder(tmp_path)
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match="at least one picture with its mask"):
        data.masks_folder(tmp_path)
