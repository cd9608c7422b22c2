"""Published sets are checked file by file; a failure names its remedy and leaves nothing half-written."""

import gzip
import hashlib
import io
import os
import struct
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torchvision

from cnncourse import data
from cnncourse.data import downloaded
from cnncourse.errors import DataError, ParameterError

REAL = Path(os.environ.get("CNNCOURSE_DATA", "/nonexistent"))


def needs(*parts):
    place = REAL.joinpath(*parts)
    return pytest.mark.skipif(
        not place.exists(),
        reason=f"real data not found: set CNNCOURSE_DATA to a folder with {'/'.join(parts)}",
    )


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
        downloaded._IDX_SHA256,
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
