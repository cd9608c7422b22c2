"""Your own pictures: everything is read or named, and both parts of a folder fit together."""

import os
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnncourse import data
from cnncourse.errors import DataError, ParameterError

REAL = Path(os.environ.get("CNNCOURSE_DATA", "/nonexistent"))


def needs(*parts):
    place = REAL.joinpath(*parts)
    return pytest.mark.skipif(
        not place.exists(),
        reason=f"real data not found: set CNNCOURSE_DATA to a folder with {'/'.join(parts)}",
    )


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def square(side=4, channels=3, value=0):
    shape = (side, side) if channels == 1 else (side, side, channels)
    return np.full(shape, value, np.uint8)


def test_a_folder_of_class_folders_becomes_a_set_in_alphabetical_order(tmp_path):
    random = np.random.default_rng(0)
    names = ("dog/1.png", "dog/2.png", "cat/1.png", "cat/2.png")
    pictures = {name: random.integers(0, 256, (5, 6, 3), np.uint8) for name in names}
    for name, array in pictures.items():
        save(tmp_path / name, array)
    (tmp_path / "cat/notes.txt").write_text("left alone")
    pets = data.image_folder(tmp_path)
    assert pets.classes == ("cat", "dog") and pets.labels.tolist() == [0, 0, 1, 1]
    for image, name in zip(pets.images, sorted(pictures), strict=True):
        assert torch.equal(image, torch.from_numpy(pictures[name]).permute(2, 0, 1))
    assert data.loaded()[tmp_path.name] == pets.checksum == data.image_folder(tmp_path).checksum


def test_grey_pictures_stay_one_channel_and_mixed_ones_become_three(tmp_path):
    save(tmp_path / "a/1.png", square(channels=1, value=7))
    assert data.image_folder(tmp_path).images.shape == (1, 1, 4, 4)
    save(tmp_path / "a/2.JPG", square())
    mixed = data.image_folder(tmp_path)
    assert mixed.images.shape == (2, 3, 4, 4) and mixed.images[0].unique().tolist() == [7]


def test_palette_transparent_and_16_bit_pictures_are_read(tmp_path):
    Path(tmp_path / "a").mkdir()
    Image.fromarray(square(value=51)).convert("P").save(tmp_path / "a/1.png")
    save(tmp_path / "a/2.png", np.dstack([square(value=51), square(channels=1, value=255)]))
    Image.fromarray(np.full((4, 4), 51 * 256 + 3, np.uint16)).save(tmp_path / "a/3.png")
    assert (data.image_folder(tmp_path).images.int() - 51).abs().max() <= 1


@pytest.mark.parametrize("kind", ["webp", "tiff", "bmp", "gif", "ppm", "jfif"])
def test_every_common_kind_of_picture_is_read(kind, tmp_path):
    array = np.zeros((6, 8, 3), np.uint8)
    array[:, 4:] = (200, 30, 60)
    save(tmp_path / f"a/1.{kind}", array)
    save(tmp_path / "a/2.PNG", array)
    images = data.image_folder(tmp_path).images.int()
    assert (images[0] - images[1]).abs().double().mean() < 8  # JPEG and WebP lose a little


def test_the_name_says_picture_and_the_content_says_which_kind(tmp_path):
    Path(tmp_path / "a").mkdir()
    Image.fromarray(square(value=51)).save(tmp_path / "a/from_the_web.jpg", format="PNG")
    assert data.image_folder(tmp_path).images.unique().tolist() == [51]


@pytest.mark.parametrize("kind", ["heic", "avif", "SVG"])
def test_a_kind_that_is_not_read_is_named_instead_of_skipped(kind, tmp_path):
    save(tmp_path / "a/1.png", square())
    (tmp_path / f"a/2.{kind}").write_bytes(b"something")
    with pytest.raises(DataError, match="convert it to PNG or JPEG") as caught:
        data.image_folder(tmp_path)
    assert f"a/2.{kind}" in str(caught.value)


def test_what_archives_and_systems_leave_behind_is_neither_class_nor_picture(tmp_path):
    save(tmp_path / "a/1.png", square())
    save(tmp_path / "a/@eaDir/1.png", square(2))
    for litter in ("__MACOSX/a/._1.png", "a/._1.png", "a/Thumbs.db", ".ipynb_checkpoints/x.png"):
        (tmp_path / litter).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / litter).write_bytes(b"not a picture")
    pictures = data.image_folder(tmp_path)
    assert len(pictures) == 1 and pictures.classes == ("a",)


def test_a_picture_beside_the_class_folders_is_named(tmp_path):
    save(tmp_path / "a/1.png", square())
    save(tmp_path / "cover.png", square())
    with pytest.raises(DataError, match="cover.png beside the class folders"):
        data.image_folder(tmp_path)


@pytest.mark.parametrize("pixels", [150, 3600])  # Pillow warns of the first, refuses the second
def test_a_picture_too_large_to_open_is_named(pixels, monkeypatch, tmp_path):
    save(tmp_path / "cat/scan.png", np.zeros((10, pixels // 10), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="at most 100 pixels") as caught:
        data.image_folder(tmp_path, size=8)
    assert "cat/scan.png" in str(caught.value) and "scale it down first" in str(caught.value)


def test_32_bit_pictures_are_named_instead_of_cut_off(tmp_path):
    Path(tmp_path / "a").mkdir()
    Image.fromarray(np.full((4, 4), 0.3, np.float32)).save(tmp_path / "a/depth.tiff")
    with pytest.raises(DataError, match="32-bit floating point"):
        data.image_folder(tmp_path)
    Image.fromarray(np.full((4, 4), 70000, np.int32)).save(tmp_path / "a/depth.tiff")
    with pytest.raises(DataError, match="more than 16 bits a pixel"):
        data.image_folder(tmp_path)


@pytest.mark.parametrize("size", [0, -3, True, 2.5, "64", (8, 0), (8,), (1, 2, 3)])
def test_a_size_that_is_none_is_refused_before_a_picture_is_read(size, tmp_path):
    (tmp_path / "pets/train").mkdir(parents=True)
    (tmp_path / "pets/test").mkdir(parents=True)
    for call in (data.image_folder, partial(data.load, train=True)):
        for place in (tmp_path / "pets", "digits")[: 1 + (call is not data.image_folder)]:
            with pytest.raises(ParameterError, match="argument size of data"):
                call(str(place), size=size)


def test_mixed_sizes_need_a_size_and_the_error_names_the_odd_one(tmp_path):
    save(tmp_path / "a/1.png", square(4, value=50))
    save(tmp_path / "b/2.png", np.full((8, 12, 3), 50, np.uint8))
    with pytest.raises(DataError, match="pass size=") as caught:
        data.image_folder(tmp_path)
    assert "b/2.png" in str(caught.value) and "8 x 12" in str(caught.value)
    fitted = data.image_folder(tmp_path, size=6)
    assert fitted.images.shape == (2, 3, 6, 6) and fitted.images.unique().tolist() == [50]
    assert data.image_folder(tmp_path, size=(3, 5)).images.shape == (2, 3, 3, 5)


def test_a_size_crops_around_the_middle_instead_of_squeezing(tmp_path):
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 200
    save(tmp_path / "a/1.png", wide)
    assert data.image_folder(tmp_path, size=4).images.min() > 190


@pytest.mark.parametrize("kind", ["png", "jpg", "tiff", "webp"])
def test_a_photograph_taken_sideways_is_turned_upright(kind, tmp_path):
    tall = np.zeros((4, 8, 3), np.uint8)
    tall[:, :4] = 255  # stored lying; mark 6 says: turn a quarter clockwise
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / f"a/1.{kind}", tall, exif=exif)
    image = data.image_folder(tmp_path).images[0]
    assert image.shape == (3, 8, 4) and image[:, :4].min() > 240 and image[:, 4:].max() < 15


@pytest.mark.parametrize("harm", ["cut short", "not a picture", "empty"])
def test_a_picture_that_cannot_be_read_is_named(harm, tmp_path):
    save(tmp_path / "a/good.jpg", np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    content = (tmp_path / "a/good.jpg").read_bytes()
    bad = tmp_path / "a/holiday.jpg"
    bad.write_bytes(
        {"cut short": content[: len(content) // 2], "not a picture": b"GIF89a text", "empty": b""}[
            harm
        ]
    )
    with pytest.raises(DataError, match="cannot be decoded") as caught:
        data.image_folder(tmp_path)
    assert str(bad) in str(caught.value) and "replace or remove it" in str(caught.value)


def test_missing_flat_and_empty_folders_say_how_pictures_must_lie(tmp_path):
    with pytest.raises(DataError, match="check the path"):
        data.image_folder(tmp_path / "typo")
    save(tmp_path / "flat/1.png", square())
    with pytest.raises(DataError, match="one folder for each class, like pictures/cat/001.jpg"):
        data.image_folder(tmp_path / "flat")
    (tmp_path / "pets/cat").mkdir(parents=True)
    with pytest.raises(DataError, match="class 'cat' is empty"):
        data.image_folder(tmp_path / "pets")


def test_load_takes_a_folder_with_train_and_test_in_it(tmp_path):
    for part, value in (("train", 1), ("test", 2)):
        save(tmp_path / part / "a/1.png", square(value=value))
    train = data.load(str(tmp_path), True)
    assert train.images.max() == 1 and train.name == tmp_path.name
    assert data.loaded()[f"{tmp_path.name} (train)"] == train.checksum
    assert data.load(str(tmp_path), False, size=2).images.shape == (1, 3, 2, 2)


def pets(root, train=("cat", "dog", "owl"), test=("cat", "owl"), second="test", **other):
    """A folder with two parts, whose pictures hold the place of their class in the alphabet's list."""
    for part, kinds in (("train", train), (second, test)):
        for kind in kinds:
            save(root / part / kind / "1.png", square(value=ord(kind[0])))
    return root


def test_both_parts_of_a_folder_have_the_classes_of_the_first(tmp_path):
    train, test = (data.load(str(pets(tmp_path)), part) for part in (True, False))
    assert train.classes == test.classes == ("cat", "dog", "owl")
    assert test.labels.tolist() == [0, 2]
    for part in (train, test):
        told = [ord(part.classes[label][0]) for label in part.labels]
        assert told == part.images[:, 0, 0, 0].tolist()


def test_a_class_that_only_the_test_part_has_is_named_before_training(tmp_path):
    pets(tmp_path, train=("cat", "dog"), test=("cat", "Dog"))
    for part in (True, False):
        with pytest.raises(DataError, match="another one, 'Dog'") as caught:
            data.load(str(tmp_path), part)
        assert "the classes of train/: cat, dog" in str(caught.value)


def test_both_parts_have_the_channels_of_the_richer_one(tmp_path):
    save(tmp_path / "train/a/1.png", square(channels=3, value=9))
    save(tmp_path / "test/a/1.png", square(channels=1, value=9))
    for part in (True, False):
        assert data.load(str(tmp_path), part).images.shape == (1, 3, 4, 4)


def test_parts_of_different_sizes_are_refused_whichever_is_asked_for_first(tmp_path):
    save(tmp_path / "train/a/1.png", square(4))
    save(tmp_path / "test/a/1.png", square(5))
    for part in (True, False):
        with pytest.raises(DataError, match="4 x 4 like 1.png") as caught:
            data.load(str(tmp_path), part)
        assert "test/a/1.png" in str(caught.value) and "its parameter size" in str(caught.value)
        assert data.load(str(tmp_path), part, size=4).images.shape == (1, 3, 4, 4)


@pytest.mark.parametrize("second", ["val", "valid", "validation"])
def test_the_second_part_may_be_a_validation_folder(second, tmp_path):
    assert data.load(str(pets(tmp_path, second=second)), False).labels.tolist() == [0, 2]


def test_one_folder_or_two_parts_each_error_names_the_other_function(tmp_path):
    pets(tmp_path)
    with pytest.raises(DataError, match=r"data\.load\('.*', train=True\)"):
        data.image_folder(tmp_path)
    with pytest.raises(DataError, match=r"data\.image_folder\('.*train'\)\.split") as caught:
        data.load(str(tmp_path / "train"), True)
    assert "cat, dog, owl" in str(caught.value)
    save(tmp_path / "trips/train/1.png", square())  # a class may be called train
    assert data.image_folder(tmp_path / "trips").classes == ("train",)


def test_relative_paths_start_where_the_course_was_called(monkeypatch, tmp_path):
    pets(tmp_path / "caller/pets")
    (tmp_path / "kernel").mkdir()
    monkeypatch.chdir(tmp_path / "kernel")
    with pytest.raises(ParameterError, match="or make the folder") as caught:
        data.load("pets", True)
    assert str(tmp_path / "kernel/pets") in str(caught.value)
    monkeypatch.setenv("CNNCOURSE_CWD", str(tmp_path / "caller"))
    assert len(data.load("pets", True)) == len(data.image_folder("pets/train")) == 3
    with pytest.raises(DataError, match="no such folder") as caught:
        data.load("./typo", True)
    assert str(tmp_path / "caller/typo") in str(caught.value)


@needs("cifar10-jpeg.tar.xz")
def test_three_classes_of_the_cifar10_pictures_are_read_as_a_folder(tmp_path):
    with tarfile.open(REAL / "cifar10-jpeg.tar.xz", "r|xz") as archive:
        for member in archive:  # a stream: stops long before the end of the archive
            if "/test/cat" in member.name:
                break
            archive.extract(member, tmp_path, filter="data")
    cifar = data.image_folder(tmp_path / "CIFAR10-jpeg/test")
    assert cifar.images.shape == (3000, 3, 32, 32) and cifar.classes == (
        "airplane",
        "automobile",
        "bird",
    )
    assert cifar.labels.bincount().tolist() == [1000] * 3
    mean, std = cifar.statistics()
    assert (0.4 < mean).all() and (mean < 0.6).all() and (0.2 < std).all() and (std < 0.3).all()
