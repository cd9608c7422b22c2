"""Data sets are whole, checked and explicit; a failure names its remedy and leaves nothing half-written."""

import gzip
import hashlib
import io
import os
import socket
import struct
import tarfile
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from cnncourse import augment, data
from cnncourse.data import ImageSet
from cnncourse.errors import DataError, ParameterError, ShapeError

REAL = Path(os.environ.get("CNNCOURSE_DATA", "/nonexistent"))


def needs(*parts):
    place = REAL.joinpath(*parts)
    return pytest.mark.skipif(
        not place.exists(),
        reason=f"real data not found: set CNNCOURSE_DATA to a folder with {'/'.join(parts)}",
    )


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(labels, channels=1, classes=3):
    """Images whose first value is their number, so that each can be told from the others."""
    n = len(labels)
    images = torch.zeros(n, channels, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(n)
    return ImageSet(images, torch.as_tensor(labels), tuple("abcdefgh"[:classes]), "numbered", "sum")


def numbers(images):
    return images.images[:, 0, 0, 0].tolist()


# --- sets that need no network --------------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("something asked for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def test_digits_are_the_1797_of_scikit_learn_scaled_to_bytes(no_network):
    from sklearn.datasets import load_digits

    digits = data.digits()
    assert digits.images.shape == (1797, 1, 8, 8)
    assert torch.equal(
        (digits.images[:, 0] / (255 / 16)).round(), torch.from_numpy(load_digits().images).float()
    )
    assert digits.labels.tolist() == load_digits().target.tolist()
    assert data.loaded()["digits"] == digits.checksum and len(digits.checksum) == 64


def test_digits_have_one_fixed_split_in_proportion_of_the_classes():
    train, test = data.load("digits", True), data.load("digits", False)
    assert (len(train), len(test)) == (1347, 450)
    share = data.digits().labels.bincount() * 450 / 1797
    assert (test.labels.bincount() - share).abs().max() <= 1
    first = data.load("digits", False)
    assert torch.equal(first.images, test.images) and torch.equal(first.labels, test.labels)


def test_photos_come_from_the_wheel_without_network_or_cache_folder(
    no_network, monkeypatch, tmp_path
):
    monkeypatch.setenv("SKIMAGE_DATADIR", str(tmp_path))
    photos = data.photos()
    assert len(photos) == 13
    for photo in photos.values():
        assert (
            photo.dtype == torch.uint8
            and photo.ndim == 3
            and len(photo) == 3
            and photo.is_contiguous()
        )
        assert photo.float().std() > 10
    assert torch.equal(photos["coins"][0], photos["coins"][2]) and not torch.equal(
        *photos["chelsea"][::2]
    )
    assert list(tmp_path.iterdir()) == []


# --- ImageSet -------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    labels=st.lists(st.integers(0, 2), min_size=2, max_size=60),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**31),
    stratified=st.booleans(),
)
def test_the_parts_of_a_split_share_no_image_and_cover_all(labels, share, seed, stratified):
    whole = numbered(labels)
    first, second = whole.split([share, 1 - share], seed=seed, stratified=stratified)
    assert sorted(numbers(first) + numbers(second)) == list(range(len(labels)))
    for part in (first, second):
        assert [labels[number] for number in numbers(part)] == part.labels.tolist()
    if stratified:
        expected = whole.labels.bincount(minlength=3) * len(first) / len(whole)
        assert ((first.labels.bincount(minlength=3) - expected).abs() <= 1.0001).all()


def test_a_split_is_random_repeats_with_its_seed_and_stays_in_order_without():
    whole = numbered([0, 1, 2] * 20)
    first, again = (whole.split([40, 20], seed=3)[1] for _ in range(2))
    assert numbers(first) == numbers(again) != numbers(whole.split([40, 20], seed=4)[1])
    assert numbers(first) == numbers(whole.split([40, 20], generator=seeded(3))[1])
    assert numbers(whole.split([40, 20])[0]) == list(range(40))


def test_split_sizes_that_do_not_add_up_are_refused():
    whole = numbered([0, 1, 2])
    for sizes in ([1, 1], [0.5, 0.4], [4, -1], []):
        with pytest.raises(ParameterError, match="add up to 3, or fractions that add up to 1"):
            whole.split(sizes, seed=0)
    with pytest.raises(ParameterError, match="leave one of them out"):
        whole.split([1, 2], seed=0, generator=seeded())


def test_a_subset_keeps_the_proportions_and_never_grows():
    whole = numbered([0] * 30 + [1] * 20 + [2] * 10)
    assert whole.subset(12, seed=0).labels.bincount().tolist() == [6, 4, 2]
    assert whole.subset(99, seed=0) is whole


def test_parts_share_memory_so_a_split_holds_the_pictures_once():
    whole = data.digits()
    first, second = whole.split([1000, 797], seed=0)
    assert first.images.untyped_storage().data_ptr() == second.images.untyped_storage().data_ptr()
    assert first.images.untyped_storage().nbytes() == whole.images.nbytes
    assert whole[:10].images.data_ptr() == whole.images.data_ptr()
    assert whole.nbytes == 1797 * 64 + 1797 * 8


def test_indexing_takes_slices_indices_masks_and_single_images():
    whole = numbered([0, 1, 2, 0])
    assert numbers(whole[1:3]) == [1, 2]
    assert numbers(whole[torch.tensor([3, 0])]) == numbers(whole[[3, 0]]) == [3, 0]
    assert numbers(whole[whole.labels == 0]) == [0, 3]
    image, label = whole.normalised(mean=0, std=1 / 255)[3]
    assert image[0, 0, 0] == 3 and image.dtype == torch.float32 and label == 0


def test_batches_cover_each_image_once_with_its_label_in_an_order_from_the_generator():
    labels = [0, 1, 2] * 11
    whole = numbered(labels).normalised(mean=0, std=1 / 255)

    def seen(generator=None, **options):
        batches = list(whole.batches(8, generator, **options))
        for images, targets in batches:
            assert [labels[int(n)] for n in images[:, 0, 0, 0]] == targets.tolist()
        return [images[:, 0, 0, 0].int().tolist() for images, _ in batches]

    assert sum(seen(), []) == list(range(33))
    shuffled = seen(seeded(1))
    assert [len(batch) for batch in shuffled] == [8, 8, 8, 8, 1] and sorted(
        sum(shuffled, [])
    ) == list(range(33))
    assert shuffled == seen(seeded(1)) != seen(seeded(2))
    assert [len(batch) for batch in seen(seeded(1), drop_last=True)] == [8, 8, 8, 8]
    generator = seeded(1)
    assert seen(generator) != seen(generator)  # the second epoch has an order of its own


def test_batches_are_scaled_to_one_in_torchs_current_float_type():
    whole = data.digits()
    images, _ = next(whole.batches(1797))
    assert images.dtype == torch.float32 and images.min() == 0 and images.max() == 1
    assert torch.equal((images * 255).round().byte(), whole.images)
    try:
        torch.set_default_dtype(torch.float64)
        assert next(whole.batches(4))[0].dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert next(whole.batches(4, dtype=torch.bfloat16))[0].dtype == torch.bfloat16


def test_normalised_batches_have_mean_zero_and_deviation_one_in_each_channel():
    images = torch.randint(
        0, 256, (5000, 3, 4, 4), generator=seeded(), dtype=torch.uint8
    ) // torch.tensor([1, 2, 4], dtype=torch.uint8).view(-1, 1, 1)
    colour = ImageSet(images, torch.zeros(5000).long(), ("a",), "colour")
    mean, std = colour.statistics()
    reference = images.double() / 255
    assert torch.allclose(mean, reference.mean((0, 2, 3)), atol=1e-12)
    assert torch.allclose(std, reference.std((0, 2, 3), correction=0), atol=1e-12)
    batch, _ = next(colour.normalised().batches(5000, dtype=torch.float64))
    assert (
        batch.mean((0, 2, 3)).abs().max() < 1e-12
        and (batch.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-12
    )
    part = colour[:7].normalised(mean, std)  # another part keeps the numbers it was given
    assert torch.allclose(next(part.batches(7, dtype=torch.float64))[0], batch[:7])
    with pytest.raises(ParameterError, match="standard deviation above 0"):
        ImageSet(images * 0, colour.labels, ("a",), "black").normalised()


class _Largest(TorchDispatchMode):
    bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and not function._schema.is_mutable:
            self.bytes = max(self.bytes, out.untyped_storage().nbytes())
        return out


def test_a_pass_over_the_batches_never_makes_a_second_copy_of_the_data():
    whole = data.digits()
    images, labels = whole.images.clone(), whole.labels.clone()
    big = ImageSet(images.repeat(20, 1, 1, 1), labels.repeat(20), whole.classes, "big").normalised()
    with _Largest() as largest:
        for _ in big.batches(64, seeded()):
            pass
    assert (
        largest.bytes <= big.labels.nbytes
    )  # the order of the images is the largest thing ever made
    assert largest.bytes < big.images.nbytes / 4


def test_an_image_set_refuses_what_does_not_fit_and_says_what_to_do():
    images, labels = torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.zeros(4).long()
    with pytest.raises(ShapeError, match=r"uint8 \(N, C, H, W\)"):
        ImageSet(images.float(), labels, ("a",), "x")
    with pytest.raises(ShapeError, match="add the missing axis"):
        ImageSet(images[:, 0], labels, ("a",), "x")
    with pytest.raises(ShapeError, match="4 labels"):
        ImageSet(images, labels[:3], ("a",), "x")
    with pytest.raises(ShapeError, match="count the classes from 0"):
        ImageSet(images, labels + 1, ("a",), "x")
    whole = ImageSet(images, labels, ("a",), "x")
    with pytest.raises(ParameterError, match="at least 1"):
        next(whole.batches(0))
    with pytest.raises(ParameterError, match="manual_seed"):
        next(whole.batches(2, augment=lambda images, generator: images))
    assert ImageSet(images, torch.zeros(4, 2, 2), (), "masks")[:2].labels.shape == (2, 2, 2)


def test_the_representation_is_one_line_with_the_memory_it_takes():
    assert (
        repr(data.digits())
        == "ImageSet('digits', 1797 images of 1 x 8 x 8, 10 classes, cpu, 129,384 bytes)"
    )


def test_a_set_works_in_a_dataloader():
    images, labels = next(iter(torch.utils.data.DataLoader(data.digits(), batch_size=5)))
    expected, same = next(data.digits().batches(5))
    assert torch.equal(images, expected) and torch.equal(labels, same)


def test_to_the_same_device_is_the_same_set():
    whole = data.digits().normalised()
    assert whole.to("cpu") is whole


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU: a set was not moved to one (pytest -m gpu)"
)
@pytest.mark.filterwarnings(
    "ignore:Synchronization debug mode"
)  # torch says once that it is a prototype
def test_a_set_on_a_gpu_gives_the_same_batches_without_waiting_for_the_device():
    whole = data.digits().normalised()
    moved = whole.to("cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        batches = list(moved.batches(100, seeded(), augment=partial(augment.crop, padding=1)))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = list(whole.batches(100, seeded(), augment=partial(augment.crop, padding=1)))
    for (images, labels), (same, targets) in zip(batches, expected, strict=True):
        assert torch.allclose(images.cpu(), same, atol=1e-6) and torch.equal(labels.cpu(), targets)


# --- named sets: missing, altered, cut short, no network ------------------------------------------------------------


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(ParameterError, match="did you mean 'fashion_mnist'"):
        data.load("fashion-mnist", True)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_a_missing_set_says_how_to_get_it_and_where_to_put_it(name, monkeypatch, tmp_path):
    monkeypatch.setenv("CNNCOURSE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(
        DataError, match=rf"data\.{name}\(download=True\) fetches them; or put them there"
    ) as caught:
        data.load(name, True)
    assert "is missing" in str(caught.value) and str(tmp_path / "nowhere") in str(caught.value)
    assert not (tmp_path / "nowhere").exists()  # asking without download=True touches nothing


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_without_a_network_a_download_says_so_and_leaves_nothing(name, monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setenv("CNNCOURSE_DATA", str(tmp_path))
    with pytest.raises(DataError, match="no connection") as caught:
        data.load(name, True, download=True)
    assert "check the network; or copy the files by hand" in str(caught.value)
    assert "digits and photos need no network" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def idx(array):
    return (
        struct.pack(">HBB", 0, 8, array.ndim)
        + struct.pack(f">{array.ndim}i", *array.shape)
        + array.tobytes()
    )


class Response(io.BytesIO):
    def __init__(self, content, url):
        super().__init__(content)
        self.url, self.length = url, len(content)


@pytest.fixture
def small_mnist(monkeypatch, tmp_path):
    """MNIST's files with 6 + 4 pictures, served from memory; returns {file name: packed bytes} to tamper with."""
    random = np.random.default_rng(0)
    files = {}
    for part, count in (("train", 6), ("t10k", 4)):
        files[f"{part}-images-idx3-ubyte"] = idx(random.integers(0, 256, (count, 28, 28), np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = idx(random.integers(0, 10, count, np.uint8))
    packed = {f"{name}.gz": gzip.compress(content) for name, content in files.items()}
    sums = [(name, hashlib.md5(content).hexdigest()) for name, content in packed.items()]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", sums)
    monkeypatch.setitem(
        data._IDX_SHA256,
        "MNIST",
        {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    )

    def urlopen(request, *args, **kwargs):
        url = request.full_url
        return Response(packed[url.rsplit("/", 1)[1]], url)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setenv("CNNCOURSE_DATA", str(tmp_path))
    return packed


def test_a_download_puts_four_checked_files_in_place_and_nothing_else(small_mnist, tmp_path):
    train = data.mnist(True, download=True)
    assert train.images.shape == (6, 1, 28, 28) and len(data.mnist(False)) == 4
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file()) == sorted(
        name.removesuffix(".gz") for name in small_mnist
    )
    assert data.loaded()["mnist (train)"] == train.checksum


def test_a_download_altered_on_its_way_is_refused_and_leaves_nothing(small_mnist, tmp_path):
    small_mnist["t10k-labels-idx1-ubyte.gz"] = gzip.compress(b"something else")
    with pytest.raises(DataError, match="another checksum than the published one"):
        data.mnist(download=True)
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_stops_halfway_leaves_nothing(small_mnist, monkeypatch, tmp_path):
    served = urllib.request.urlopen

    def interrupted(request, *args, **kwargs):
        if "t10k-images" in request.full_url:
            raise KeyboardInterrupt
        return served(request)

    monkeypatch.setattr(urllib.request, "urlopen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.mnist(download=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("harm", ["cut short", "altered"])
def test_a_file_that_is_cut_short_or_altered_is_named_and_download_mends_it(
    harm, small_mnist, tmp_path
):
    data.mnist(download=True)
    file = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content[:-50] if harm == "cut short" else content)
    with pytest.raises(DataError, match="cut short or altered") as caught:
        data.mnist()
    assert str(file) in str(
        caught.value
    ) and "remove this file, then data.mnist(download=True)" in str(caught.value)
    file.unlink()
    assert len(data.mnist(download=True)) == 6


def small_cifar(folder):
    """CIFAR-10's layout with 2 pictures a batch; returns nothing, patches nothing."""
    import pickle

    random = np.random.default_rng(0)
    kind, place = torchvision.datasets.CIFAR10, folder / "cifar-10-batches-py"
    place.mkdir(parents=True)
    for name, _ in [*kind.train_list, *kind.test_list]:
        batch = {"data": random.integers(0, 256, (2, 3072), np.uint8), "labels": [3, 9]}
        (place / name).write_bytes(pickle.dumps(batch))
    (place / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    return {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in place.iterdir()}


def test_cifar10_is_read_channel_first_after_its_checksums_were_checked(monkeypatch, tmp_path):
    sums = small_cifar(tmp_path)
    monkeypatch.setenv("CNNCOURSE_DATA", str(tmp_path))
    kind = torchvision.datasets.CIFAR10
    with pytest.raises(DataError, match="cut short or altered"):
        data.cifar10()
    monkeypatch.setattr(kind, "train_list", [[name, sums[name]] for name, _ in kind.train_list])
    monkeypatch.setattr(kind, "test_list", [[name, sums[name]] for name, _ in kind.test_list])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": sums["batches.meta"]})
    train = data.cifar10()
    assert (
        train.images.shape == (10, 3, 32, 32)
        and train.images.is_contiguous()
        and train.classes[0] == "a"
    )
    first = np.random.default_rng(0).integers(0, 256, (2, 3072), np.uint8)[0]
    assert train.images[0].flatten().tolist() == first.tolist()


def test_the_data_folder_is_the_users_cache_unless_cnncourse_data_is_set(monkeypatch, tmp_path):
    monkeypatch.delenv("CNNCOURSE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data.root() == tmp_path / "cnncourse"
    monkeypatch.setenv("CNNCOURSE_DATA", "~/pictures")
    assert data.root() == Path.home() / "pictures"


# --- your own pictures ----------------------------------------------------------------------------------------------


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


def test_a_photograph_taken_sideways_is_turned_upright(tmp_path):
    tall = np.zeros((4, 8, 3), np.uint8)
    tall[:, :4] = 255  # stored lying; mark 6 says: turn a quarter clockwise
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "a/1.png", tall, exif=exif)
    image = data.image_folder(tmp_path).images[0]
    assert image.shape == (3, 8, 4) and image[:, :4].min() == 255 and image[:, 4:].max() == 0


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


# --- real files -----------------------------------------------------------------------------------------------------


@needs("MNIST", "raw")
def test_the_real_mnist_is_whole():
    train, test = data.mnist(True), data.mnist(False)
    assert train.images.shape == (60000, 1, 28, 28) and test.images.shape == (10000, 1, 28, 28)
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    mean, std = train.statistics()
    assert abs(mean.item() - 0.1307) < 5e-5 and abs(std.item() - 0.3081) < 5e-5
    assert train.labels.bincount().tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]


@needs("FashionMNIST", "raw")
def test_the_real_fashion_mnist_is_whole():
    train, test = data.fashion_mnist(True), data.fashion_mnist(False)
    assert (
        train.labels.bincount().tolist() == [6000] * 10
        and test.labels.bincount().tolist() == [1000] * 10
    )
    assert train.classes[9] == "Ankle boot" and train.labels[0] == 9
    mean, std = train.statistics()
    assert abs(mean.item() - 0.2860) < 5e-5 and abs(std.item() - 0.3530) < 5e-5


@needs("MNIST", "raw", "t10k-images-idx3-ubyte")
def test_the_real_mnist_cut_short_by_one_byte_is_refused(monkeypatch, tmp_path):
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    for file in (REAL / "MNIST/raw").iterdir():
        (raw / file.name).symlink_to(file)
    shorter = raw / "t10k-images-idx3-ubyte"
    content = shorter.read_bytes()
    shorter.unlink()
    shorter.write_bytes(content[:-1])
    monkeypatch.setenv("CNNCOURSE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"7,840,015 bytes\): cut short or altered"):
        data.mnist(False)


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
