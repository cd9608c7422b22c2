"""What to show when a network refuses its input: the layer in which it happened, and what to type."""

from __future__ import annotations

from torch import nn

from cnncourse.cost.rows import size_text
from cnncourse.errors import ShapeError


def refusal(
    error: Exception, place: str, module: nn.Module, got: str, received: tuple[int, ...]
) -> ShapeError:
    """The error to show for what `module` raised when it received a tensor of shape `received` (with the batch)."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    expected = "an input that the network can take"
    remedy = (
        f"correct the layer or the input: it received {size_text(received[1:])}, without the batch"
    )
    channels = getattr(module, "in_channels", None)
    if isinstance(channels, int) and len(received) > 2 and received[1] != channels:
        expected, got = f"{channels} channels", f"{received[1]}, in an input of {got}"
        remedy = f"give an input with {channels} channels, or build the network for {received[1]}"
    elif isinstance(module, nn.Linear) and received and received[-1] != module.in_features:
        expected, got = f"{module.in_features} features", f"{received[-1]}, from an input of {got}"
        remedy = "give the image size that the network was built for"
    elif "indices" in reason or "Long" in reason:
        remedy = "pass a tensor of whole numbers, with the batch as its first axis, in place of the shape"
    elif (
        "too small" in reason
        or "Kernel size can't be greater" in reason
        or "non-positive" in reason
    ):
        remedy = "give a larger image: the windows before this layer leave too few pixels"
    return ShapeError(expected, got, where=f"{place}: {reason}", remedy=remedy)
