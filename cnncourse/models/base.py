"""What every network of the course shares: a check of its images, its widths, and published weights."""

from __future__ import annotations

import inspect
import pickle
import urllib.error
from pathlib import Path

import torch
from torch import nn

from cnncourse.errors import DataError, ParameterError, ShapeError, nearest


def whole(value: object, name: str, *, least: int = 1) -> int:
    """`value` if it is a whole number of at least `least`; otherwise a `ParameterError` that names the option."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ParameterError(
            f"a whole number of at least {least}",
            value,
            where=f"option {name}",
            remedy=f"write {name}={least} or more, without a fraction",
        )
    return value


def any_size(image_size: object) -> None:
    """Check the option `image_size` of a network that takes images of every size: it changes no layer."""
    if image_size is not None:
        whole(image_size, "image_size")


def one_of(value: object, name: str, choices: tuple) -> object:
    """`value` if it is one of `choices`; otherwise a `ParameterError` that lists them."""
    if value not in choices:
        raise ParameterError(
            f"one of {', '.join(map(repr, choices))}",
            value,
            where=f"option {name}",
            remedy=nearest(str(value), map(str, choices)),
        )
    return value


def scaled(channels: int, width: int, paper: int, *, multiple: int = 1) -> int:
    """The paper's number of channels for a network whose first convolution has `width` instead of `paper`.

    >>> scaled(512, 16, 64)
    128
    """
    return max(multiple, round(channels * width / paper / multiple) * multiple)


def check_images(network: nn.Module, images: torch.Tensor) -> None:
    """Raise a `ShapeError` unless `images` is (N, network.in_channels, H, W), large enough, and of a float dtype.

    `network.smallest` is the smallest side in pixels that reaches the last layer; a network whose linear layers fit
    one size only has it as `network.side`.
    """
    if isinstance(images, torch.fx.Proxy):  # a symbolic trace has no shapes to check
        return
    name, channels, least = type(network).__name__, network.in_channels, network.smallest
    if not isinstance(images, torch.Tensor):
        raise ShapeError(
            f"a tensor of shape (N, {channels}, H, W)",
            type(images).__name__,
            where=f"{name}.forward",
            remedy="make one of it: torch.as_tensor(images)",
        )
    if images.ndim != 4:
        raise ShapeError(
            f"images of shape (N, {channels}, H, W)",
            tuple(images.shape),
            where=f"{name}.forward",
            remedy="add the missing axis, for one image image[None]",
        )
    got = tuple(images.shape)
    if images.shape[1] != channels:
        raise ShapeError(
            f"{channels} input channels, as the network was built",
            f"{got[1]} in shape {got}",
            where=f"{name}.forward",
            remedy=f"build the network with in_channels={got[1]}",
        )
    side = getattr(network, "side", None)
    if side is not None and got[2:] != (side, side):
        raise ShapeError(
            f"images of {side} x {side} pixels, for which the linear layers were built",
            f"{got[2]} x {got[3]}",
            where=f"{name}.forward",
            remedy=f"resize the images to {side}, or build the network for them where it has image_size=",
        )
    if min(got[2:]) < least:
        raise ShapeError(
            f"images of at least {least} x {least} pixels",
            f"{got[2]} x {got[3]}",
            where=f"{name}.forward",
            remedy=f"enlarge the images to {least}, or build the network with image_size={min(got[2:])} "
            "where it has that option",
        )
    if not images.is_floating_point():
        raise ShapeError(
            "images of a float dtype",
            images.dtype,
            where=f"{name}.forward",
            remedy="divide by 255: images.float() / 255",
        )
    weight = next(network.parameters(), images)
    if images.device != weight.device:
        raise ShapeError(
            f"images on {weight.device}, where the network is",
            images.device,
            where=f"{name}.forward",
            remedy=f"move them: images.to({str(weight.device)!r})",
        )
    if images.dtype != weight.dtype and not torch.is_autocast_enabled(images.device.type):
        raise ShapeError(
            f"images of {weight.dtype}, as the weights are",
            images.dtype,
            where=f"{name}.forward",
            remedy=f"convert them: images.to({weight.dtype}), or the network likewise",
        )


def create(
    kind: type[nn.Module],
    name: str,
    options: dict,
    *,
    weights: object = None,
    progress: bool | None = None,
    **structure,
) -> nn.Module:
    """The network `kind(**structure, **options)`, filled with torchvision's `weights` when they are named.

    Raises `ParameterError` for an option the network does not have, for weights torchvision does not have, and
    for options that do not fit the weights; `DataError` when the weights cannot be fetched or read.
    """
    known = [
        option
        for option, parameter in inspect.signature(kind).parameters.items()
        if option not in structure and parameter.kind is not parameter.VAR_KEYWORD
    ]
    offered = [*known, *["weights"] * (progress is not None)]
    for option in options:
        if option not in known:
            raise ParameterError(
                f"an option of {name}: {', '.join(offered)}",
                option,
                where=f"{name}({option}=...)",
                remedy=nearest(option, known),
            )
    if weights is None:
        return kind(**structure, **options)
    entry = published(name, weights)
    classes = len(entry.meta["categories"])
    fitting = {
        "num_classes": classes,
        "in_channels": 3,
        "image_size": None,
        "width": inspect.signature(kind).parameters["width"].default,
    }
    for option, value in fitting.items():
        if option in options and options[option] != value:
            raise ParameterError(
                f"{option}={value}, for which these weights were trained",
                options[option],
                where=f"{name}(weights={entry.name!r})",
                remedy=f"leave {option} out, then replace the layer you want to train anew",
            )
    drop = ()
    if hasattr(
        kind, "published_options"
    ):  # networks with auxiliary heads, trained with an option of their own
        options, drop = kind.published_options(options)
    network = kind(**structure, **options)
    state = fetched(entry, progress)
    rename = getattr(kind, "current_keys", None)  # checkpoints older than today's names of layers
    try:
        network.load_state_dict(rename(state) if rename else state)
    except RuntimeError as cause:
        raise DataError(
            f"the weights {entry}",
            "a file with other layers",
            where=str(cached(entry)),
            remedy="delete this file and fetch it again",
        ) from cause
    for part in drop:
        delattr(network, part)
        network.aux_logits = False
    return network


def published(name: str, weights: object):
    """torchvision's entry for `weights` (a name such as "IMAGENET1K_V1", or the entry itself) of network `name`."""
    import torchvision.models  # here: a lesson without pretrained weights does not pay for the import

    entries = torchvision.models.get_model_weights(name)
    text = weights if isinstance(weights, str) else getattr(weights, "name", str(weights))
    if text not in entries.__members__ or not (isinstance(weights, str) or weights in entries):
        raise ParameterError(
            f"weights of {name}: {', '.join(entries.__members__)}",
            weights,
            where=f"{name}(weights=...)",
            remedy=nearest(text, entries.__members__),
        )
    return entries[text]


def cached(entry) -> Path:
    """The file in torch's cache that holds, or would hold, the weights of torchvision's `entry`."""
    return Path(torch.hub.get_dir()) / "checkpoints" / entry.url.rsplit("/", 1)[-1]


def fetched(entry, progress: bool) -> dict[str, torch.Tensor]:
    """The state dict of torchvision's `entry`, from torch's cache or by torchvision's download and checksum."""
    file = cached(entry)
    try:
        return entry.get_state_dict(progress=progress, check_hash=True, weights_only=True)
    except (urllib.error.URLError, TimeoutError) as cause:
        raise DataError(
            f"the weights {entry} from {entry.url}",
            f"no answer ({cause})",
            where=str(file),
            remedy="connect to the network, or copy the file there by hand from another machine",
        ) from cause
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError) as cause:
        raise DataError(
            f"a whole file of the weights {entry}",
            str(cause).splitlines()[0] if str(cause) else cause,
            where=str(file),
            remedy="delete this file and fetch it again",
        ) from cause
