"""What a network sees: activations, gradients, saliency, occlusion, top patches, projections, maximised pictures.

Layers are named as in `network.named_modules()`; "" is the whole network, whose units are the classes. A unit is the
number of a channel, or (channel, row, column) for one position of its map. Pictures are (N, C, H, W), or (C, H, W) for
one, of the network's dtype and on its device; results lie there too and lose N again for one picture.
Every network runs in evaluation mode and is left as it was: modes, gradients, weights and hooks. Of a layer that runs
several times in one pass (the ReLU of torchvision's residual blocks) the last output is meant.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnncourse.errors import ParameterError, ShapeError, nearest
from cnncourse.inspection.passing import (
    batch,
    first_weight,
    modules,
    of_unit,
    watched,
    whole,
)
from cnncourse.inspection.rules import Rule, receptive_fields

RULES = ("gradient", "guided", "deconvnet")
# Columns: brightness, red against blue, green against both (Ohta et al. 1980), with the ratios 10 : 3 : 1.5 of spreads.
COLOURS = ((0.58, 0.21, -0.06), (0.58, 0.0, 0.12), (0.58, -0.21, -0.06))


class Patch(NamedTuple):
    """The part of a picture that one position of a unit can see, and the unit's value there."""

    pixels: Tensor  # (C, height, width), cut off at the picture's edges
    activation: float
    picture: int  # which of the pictures
    top: int  # first row of the picture
    left: int  # first column
    row: int  # place in the unit's map
    column: int


class Maximised(NamedTuple):
    """The picture that a unit prefers, and how its score rose."""

    picture: Tensor  # (C, H, W), 0 to 1
    scores: list[float]  # one a step, of the picture as it was moved in that step


def activations(
    network: nn.Module, inputs: Tensor, layers: Sequence[str], *, batch_size: int | None = None
) -> dict[str, Tensor]:
    """What the named layers give for the pictures: name to tensor (N, ...), as a copy without a gradient.

    inputs: (N, C, H, W), (C, H, W), or (N, features). batch_size: so many at a time, for sets that do not fit at once.

    >>> activations(models.lenet5(), torch.zeros(2, 1, 32, 32), ["c1"])["c1"].shape
    torch.Size([2, 6, 28, 28])

    Raises `ParameterError` for a name that the network does not have or a layer that does not run, `ShapeError` for
    inputs of another dtype or device than the network's.
    """
    where = "inspection.activations"
    layers = [layers] if isinstance(layers, str) else list(layers)
    inputs, alone = batch(network, inputs, where, pictures=False)
    parts = []
    for some in inputs.split(whole(batch_size or len(inputs), "batch_size", where)):
        with torch.no_grad(), watched(network, layers, where) as seen:
            network(some.clone())
        parts.append(seen)
    joined = {name: torch.cat([part[name] for part in parts]) for name in layers}
    return {name: one[0] if alone else one for name, one in joined.items()}


def gradients(
    network: nn.Module,
    inputs: Tensor,
    unit: int | tuple[int, int, int],
    *,
    layer: str = "",
    at: str | None = None,
    rule: str = "gradient",
) -> Tensor:
    """The derivative of a unit's value with respect to the pixels, or to what the layer `at` gives; of that shape.

    unit: of `layer`; without one a class, whose score is the output before the softmax. Of a channel with a map, the
    largest value in each picture counts.
    rule: how the backward pass crosses ReLU and ReLU6, as modules and as functions. "gradient": where the input was
    between the bounds. "guided": there, and only positive values (Springenberg et al. 2015, section 3.4). "deconvnet":
    positive values wherever the input was (Zeiler and Fergus 2014, section 2.1). Other nonlinearities keep their
    derivative. A ReLU written as `clamp` or `where` is not recognised.

    >>> gradients(network, images, 3).shape == images.shape  # d score of class 3 / d pixels
    True
    >>> gradients(network, images, 3, at="c3")  # its share in the maps of c3, as Grad-CAM needs

    Raises `ParameterError` for an unknown layer, unit or rule, for an `at` on which the unit does not depend, and for a
    rule of ReLUs in a network where none runs.
    """
    where = "inspection.gradients"
    if rule not in RULES:
        remedy = nearest(str(rule), RULES)
        raise ParameterError(f"one of {', '.join(RULES)}", rule, where=where, remedy=remedy)
    inputs, alone = batch(network, inputs, where)
    _, slope = _backward(network, inputs, unit, layer, at, rule, where)
    return slope[0] if alone else slope


def saliency(
    network: nn.Module, image: Tensor, class_index: int, *, guided: bool = False
) -> Tensor:
    """How much each pixel moves the score of a class: (H, W), or (N, H, W) for several pictures.

    Of the channels the largest absolute value of d score / d pixel: Simonyan et al. 2014, section 3.1.
    guided: with guided backpropagation (see `gradients`), which shows edges well and depends little on the weights:
    try it with `randomised`.

    >>> saliency(network, images, 281).shape  # tabby
    torch.Size([1, 224, 224])

    Raises as `gradients` does.
    """
    slope = gradients(network, image, class_index, rule="guided" if guided else "gradient")
    return slope.abs().amax(-3)


def deconvnet(
    network: nn.Module, image: Tensor, layer: str, unit: int | tuple[int, int, int]
) -> Tensor:
    """One activation of a layer projected back to the pixels, of the picture's shape: what in it drove the unit.

    All other activations are set to 0, then each layer is undone: max-pooling puts every value back to where its
    maximum stood (the switches), ReLU is applied again, and the transposed filters follow: Zeiler and Fergus 2014,
    section 2.1. That is the backward pass with another rule at ReLU: the gradient of max-pooling puts values back to
    the maximum, the gradient of a convolution is the transposed one; only at ReLU the values themselves are rectified
    here, not masked by the forward pass. Biases play no part; BatchNorm is undone as a scale per channel.
    unit: of a channel the strongest position, in each picture. A unit that is silent there (0 or less) projects to 0.

    >>> deconvnet(network, images, "features.8", 17).shape == images.shape
    True

    Raises as `gradients` does.
    """
    where = "inspection.deconvnet"
    images, alone = batch(network, image, where)
    score, slope = _backward(network, images, unit, layer, None, "deconvnet", where)
    projection = score.clamp(min=0).reshape(-1, 1, 1, 1) * slope  # linear in the activation
    return projection[0] if alone else projection


def occlusion(
    network: nn.Module,
    image: Tensor,
    class_index: int,
    *,
    patch: int,
    stride: int,
    fill: float | Sequence[float] | Tensor | None = None,
    probability: bool = True,
    batch_size: int = 16,
) -> Tensor:
    """The probability of a class while a grey square hides one part of the picture after the other: (rows, columns).

    Value [i, j]: with the pixels from i * stride to i * stride + patch - 1 (rows) and j * stride to
    j * stride + patch - 1 (columns) hidden; rows = (H - patch) // stride + 1. To lay it over the picture:
    ``imshow(map, extent=(left, left + columns * stride, left + rows * stride, left))``, left = (patch - stride) / 2.
    patch, stride: pixels. fill: of the square, one number or one a channel in the units of the input; without it the
    picture's mean colour. probability: softmax of the outputs; False: the score before it.

    >>> occlusion(network, image, 967, patch=32, stride=16).shape  # (3, 224, 224)
    torch.Size([13, 13])

    Raises `ShapeError` for more than one picture, `ParameterError` for a square that does not fit.
    Source: Zeiler and Fergus 2014, section 4.2.
    """
    where = "inspection.occlusion"
    images, _ = batch(network, image, where)
    if len(images) != 1:
        remedy = "call it for each picture: images[0]"
        raise ShapeError("one picture", f"{len(images)} pictures", where=where, remedy=remedy)
    channels, height, width = images.shape[1:]
    if whole(patch, "patch", where) > min(height, width):
        expected, remedy = (
            f"a patch of at most {min(height, width)} pixels",
            "a seventh of the side",
        )
        raise ParameterError(expected, patch, where=f"argument patch of {where}", remedy=remedy)
    colour = images.mean((0, 2, 3)) if fill is None else torch.as_tensor(fill).to(images)
    if colour.numel() not in (1, channels):
        got, remedy = f"{colour.numel()} numbers", "one number fills all channels"
        raise ParameterError(
            f"one number or {channels}", got, where=f"argument fill of {where}", remedy=remedy
        )
    rows = range(0, height - patch + 1, whole(stride, "stride", where))
    columns = range(0, width - patch + 1, stride)
    places, values = [(top, left) for top in rows for left in columns], []
    for start in range(0, len(places), whole(batch_size, "batch_size", where)):
        some = places[start : start + batch_size]
        hidden = images.repeat(len(some), 1, 1, 1)
        for one, (top, left) in zip(hidden, some, strict=True):
            one[:, top : top + patch, left : left + patch] = colour.reshape(-1, 1, 1)
        outputs = activations(network, hidden, [""])[""]
        if outputs.ndim != 2:
            got, remedy = tuple(outputs.shape), "occlude a network that ends in classes"
            raise ShapeError("outputs (N, classes)", got, where=where, remedy=remedy)
        outputs = outputs.softmax(1) if probability else outputs
        values.append(of_unit(class_index, outputs, where).flatten())
    return torch.cat(values).reshape(len(rows), len(columns))


def top_patches(
    network: nn.Module,
    images: Tensor,
    layer: str,
    unit: int,
    count: int,
    *,
    per_picture: int = 1,
    batch_size: int = 64,
) -> list[Patch]:
    """The parts of the pictures that excite a unit most, strongest first: `count`, of each picture `per_picture`.

    unit: a channel of the layer. A part is the unit's receptive field at that position, found exactly: the pixels on
    which it can depend for some weights (convolutions and pooling as windows; statistics of normalisation left out, as
    in `cost.table`). At the picture's edges it is smaller. Units without a map see the whole picture.

    >>> [patch.pixels.shape for patch in top_patches(network, images, "c1", 0, count=2)]
    [torch.Size([1, 5, 5]), torch.Size([1, 5, 5])]

    Raises as `activations` does. Source: Zeiler and Fergus 2014, section 4 and figure 2; Girshick et al. 2014,
    section 3.1.
    """
    where = "inspection.top_patches"
    images, _ = batch(network, images, where)
    whole(count, "count", where), whole(per_picture, "per_picture", where)
    whole(unit, "unit", where, least=0)
    best, places = [], []
    for some in images.split(whole(batch_size, "batch_size", where)):
        maps = activations(network, some, [layer])[layer]
        values, order = of_unit(unit, maps, where).sort(dim=1, descending=True, stable=True)
        best.append(values[:, :per_picture])
        places.append(order[:, :per_picture])
    best, places = torch.cat(best), torch.cat(places)  # (N, per picture)
    order = best.flatten().argsort(dim=0, descending=True, stable=True)[:count]
    chosen = zip(
        order.tolist(),
        best.flatten()[order].tolist(),
        places.flatten()[order].tolist(),
        strict=True,
    )
    fields, patches = receptive_fields(network, images[:1], layer, unit, where), []
    for number, value, place in chosen:
        picture, (row, column) = (
            number // best.shape[1],
            divmod(place, maps.shape[-1] if maps.ndim == 4 else 1),
        )
        top, bottom, left, right = fields(row, column)
        pixels = images[picture, :, top:bottom, left:right].clone()
        patches.append(Patch(pixels, value, picture, top, left, row, column))
    return patches


def maximise(
    network: nn.Module,
    unit: int | tuple[int, int, int],
    *,
    shape: tuple[int, int, int],
    generator: torch.Generator,
    layer: str = "",
    preprocess: Callable[[Tensor], Tensor] = lambda picture: picture,
    fourier: bool = True,
    steps: int = 150,
    learning_rate: float = 0.01,
    decay: float = 3.0,
    power: float = 1.3,
    jitter: int = 8,
    scales: tuple[float, float] = (0.9, 1.1),
) -> Maximised:
    """A picture that excites a unit as much as possible, by gradient ascent (Adam) from noise, and its scores.

    unit: of `layer`; without one a class, by its score before the softmax. Of a channel, the mean of its map.
    shape: (C, H, W) of the picture. preprocess: a batch of pictures 0 to 1 to what the network takes.
    The picture is the sigmoid of z; `decay` times the mean of z squared is taken off the score (Simonyan et al. 2014,
    section 2). fourier: z from its frequencies f, those of 1 / f ** power as strong as the lowest, in three colour axes
    of photographs (Olah et al. 2017, "preconditioning"); False: z itself, pixel by pixel.
    In every step the picture is enlarged by a factor within `scales` and moved by at most `jitter` pixels, grey beyond
    its edges; (1, 1) and 0 leave it. Noise and moves come from the generator: a generator of the processor gives the
    same ones for every device.

    >>> found = maximise(network, 985, shape=(3, 160, 160), generator=torch.Generator().manual_seed(0),
    ...                  preprocess=lambda picture: (picture * 255 - 127) / 128)  # a daisy of EfficientNet-Lite0
    >>> found.picture.shape, len(found.scores)
    (torch.Size([3, 160, 160]), 150)

    Raises `ParameterError` for an unknown unit or a setting out of its range.
    """
    where = "inspection.maximise"
    _check_settings(where, shape, steps, learning_rate, decay, jitter, scales)
    weight = first_weight(network)
    z, coefficients = _parametrisation(shape, fourier, power, generator, weight)
    optimizer, scores = torch.optim.Adam([coefficients], learning_rate), []
    for _ in range(steps):
        with torch.enable_grad():
            raw = z()
            moved = _moved(torch.sigmoid(raw), jitter, scales, generator)
            inputs, _ = batch(network, preprocess(moved), where)
            with watched(network, [layer], where) as seen:
                network(inputs)
            score = of_unit(unit, seen[layer], where).mean()
            loss = decay * raw.square().mean() - score
            (coefficients.grad,) = torch.autograd.grad(loss, coefficients)
        optimizer.step()
        scores.append(score.detach())
    with torch.no_grad():
        return Maximised(torch.sigmoid(z())[0], torch.stack(scores).tolist())


def randomised(network: nn.Module, seed: int, *, layers: Sequence[str] | None = None) -> nn.Module:
    """A copy whose weights are drawn anew, each layer as torch initialises it; BatchNorm's statistics are 0 and 1.

    A picture that explains a network must change when the network forgets what it learned: Adebayo et al. 2018,
    section 3. layers: only these and what is in them; from the last backwards, one more each time, is their cascade.
    Parameters of modules without `reset_parameters` are drawn from a normal distribution with their old spread. The
    same seed gives the same weights on every device; the random stream of the caller is not touched.

    >>> saliency(randomised(network, seed=0), image, 281)  # should not look like saliency(network, image, 281)

    Raises `ParameterError` for a name that the network does not have.
    """
    where = "inspection.randomised"
    names = list(modules(network, [""] if layers is None else layers, where))
    made = copy.deepcopy(network).cpu()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for name in names:
            for module in made.get_submodule(name).modules():
                if callable(getattr(module, "reset_parameters", None)):
                    module.reset_parameters()
                    continue
                for own in module.parameters(recurse=False):
                    own.normal_(0, float(own.std()) if own.numel() > 1 else 1.0)
    return made.to(first_weight(network).device)


def _backward(
    network: nn.Module, inputs: Tensor, unit, layer: str, at: str | None, rule: str, where: str
) -> tuple[Tensor, Tensor]:
    """The unit's value in each picture (N,), and its slope by the rule with respect to the inputs or to layer `at`."""
    names = [layer] if at is None else [layer, at]
    crossing = nullcontext() if rule == "gradient" else Rule(rule)
    pixels = inputs.detach().clone().requires_grad_()
    with torch.enable_grad():
        with watched(network, names, where) as seen, crossing:
            network(pixels.clone())  # layers may work in place
        score = of_unit(unit, seen[layer], where).max(1).values  # of equal ones, one
        goal = pixels if at is None else seen[at]
        (slope,) = torch.autograd.grad(score.sum(), goal, allow_unused=True)
    if slope is None:
        raise ParameterError(
            f"a layer before {layer or 'the output'!r}, on which its units depend",
            at or "the pixels",
            where=f"argument at of {where}",
            remedy="exchange at and layer, or name a layer on the way between them",
        )
    if rule != "gradient" and not crossing.met:
        raise ParameterError(
            f"a network with ReLU or ReLU6 for the rule {rule!r}",
            f"none in {type(network).__name__}",
            where=where,
            remedy="take rule='gradient', or write the ReLU as nn.ReLU, F.relu or torch.relu",
        )
    return score.detach(), slope.detach()


def _parametrisation(
    shape: tuple[int, int, int],
    fourier: bool,
    power: float,
    generator: torch.Generator,
    like: Tensor,
) -> tuple[Callable[[], Tensor], Tensor]:
    """The function that makes z (1, C, H, W), and the coefficients that it makes it of, drawn small."""
    channels, height, width = shape

    def drawn(*sizes: int) -> Tensor:
        noise = torch.randn(sizes, generator=generator, device=generator.device)
        return (0.01 * noise).to(like.device, like.dtype).requires_grad_()

    if not fourier:
        pixels = drawn(1, channels, height, width)
        return lambda: 1 * pixels, pixels
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    frequency = (rows**2 + columns**2).sqrt().clamp(min=1 / max(height, width))  # cycles per pixel
    strength = (frequency**-power).to(like)[..., None]
    colours = torch.tensor(COLOURS).to(like) if channels == 3 else None
    waves = drawn(1, channels, *frequency.shape, 2)  # real and imaginary parts

    def z() -> Tensor:
        spectrum = torch.view_as_complex(waves * strength)
        made = torch.fft.irfft2(spectrum, s=(height, width), norm="ortho")
        return made if colours is None else torch.einsum("nchw,dc->ndhw", made, colours)

    return z, waves


def _moved(
    picture: Tensor, jitter: int, scales: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """The picture enlarged about its centre and moved, grey (1/2) where nothing is left; of the same size."""
    sides, edges = picture.shape[-2:], []
    place = {"generator": generator, "device": generator.device}
    scale = scales[0] + (scales[1] - scales[0]) * float(torch.rand((), **place))
    new = [max(1, round(side * scale)) for side in sides]
    if new != list(sides):
        picture = F.interpolate(picture, new, mode="bilinear", align_corners=False)
    for side, length in zip(sides, new, strict=True):
        before = (side - length) // 2 + int(torch.randint(-jitter, jitter + 1, (), **place))
        edges = [before, side - length - before, *edges]  # columns first; below 0: cut off
    return F.pad(picture, edges, value=0.5)


def _check_settings(where: str, shape, steps, learning_rate, decay, jitter, scales) -> None:
    """The settings of `maximise` are within their ranges."""
    if len(shape) != 3:
        remedy = "shape=(3, 160, 160)"
        raise ShapeError("(C, H, W)", shape, where=f"argument shape of {where}", remedy=remedy)
    for side in shape:
        whole(side, "shape", where)
    whole(steps, "steps", where), whole(jitter, "jitter", where, least=0)
    fit = {
        "learning_rate": (learning_rate > 0, "a number above 0", learning_rate, "0.01"),
        "decay": (decay >= 0, "a number of at least 0", decay, "3.0"),
        "scales": (
            0 < scales[0] <= scales[1],
            "two factors above 0, ascending",
            scales,
            "(0.9, 1.1)",
        ),
    }
    for name, (fits, expected, value, good) in fit.items():
        if not fits:
            remedy = f"{name}={good} is a start"
            raise ParameterError(
                expected, value, where=f"argument {name} of {where}", remedy=remedy
            )
