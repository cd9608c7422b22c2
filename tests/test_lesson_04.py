"""The functions of lesson 04 against torch, forward and backward, and its exercises against planted mistakes."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cnncourse import exercises, lab
from cnncourse.errors import ParameterError
from cnncourse.exercises import Wrong, lesson_04

lesson = lab.definitions("04")
several = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def layers(draw):
    """(images, weight, bias or None, stride, padding) of a random layer whose filter fits."""
    stride, padding = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    r, s = (draw(st.integers(1, min(5, size + 2 * padding))) for size in (height, width))
    n, c, k = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bias = generator.normal(size=k) if draw(st.booleans()) else None
    return (
        generator.normal(size=(n, c, height, width)),
        generator.normal(size=(k, c, r, s)),
        bias,
        stride,
        padding,
    )


@st.composite
def poolings(draw):
    """(images, kernel_size, stride or None), with ties in half of the images."""
    kernel_size, stride = draw(st.integers(1, 4)), draw(st.sampled_from([None, 1, 2, 3]))
    height, width = (draw(st.integers(kernel_size, 9)) for _ in range(2))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images = generator.normal(size=(2, draw(st.integers(1, 3)), height, width))
    return (images.round() if draw(st.booleans()) else images), kernel_size, stride


def as_tensors(*arrays):
    return [None if array is None else torch.tensor(array, requires_grad=True) for array in arrays]


# Sizes


@several
@given(
    st.integers(1, 20), st.integers(1, 7), st.integers(1, 5), st.integers(0, 4), st.integers(1, 3)
)
def test_the_output_size_is_that_of_a_real_layer_and_where_torch_refuses_we_do(
    size, kernel, stride, padding, dilation
):
    if dilation * (kernel - 1) + 1 > size + 2 * padding:
        with pytest.raises(ParameterError, match="smaller kernel"):
            lesson.output_size(size, kernel, stride, padding, dilation)
        return
    with torch.device("meta"):
        real = nn.Conv2d(1, 1, kernel, stride, padding, dilation)(torch.empty(1, 1, size, size))
    assert lesson.output_size(size, kernel, stride, padding, dilation) == real.shape[-1]


@pytest.mark.parametrize("numbers", [(0, 1), (3, 0), (3, 1, 0), (3, 1, 1, -1), (3, 1, 1, 0, 0)])
def test_a_size_that_makes_no_sense_is_refused_with_the_numbers_in_the_message(numbers):
    with pytest.raises(ParameterError, match=f"size {numbers[0]}, kernel {numbers[1]}"):
        lesson.output_size(*numbers)


# Convolution


@several
@given(layers())
def test_both_convolutions_give_the_numbers_of_torch(layer):
    images, weight, bias, stride, padding = layer
    real = F.conv2d(*as_tensors(images, weight, bias), stride, padding).detach().numpy()
    for convolution in (lesson.conv2d_naive, lesson.conv2d_im2col):
        ours = convolution(images, weight, bias, stride, padding)
        assert ours.shape == real.shape
        np.testing.assert_allclose(ours, real, atol=1e-12)


@several
@given(layers())
def test_the_gradients_of_a_convolution_are_those_of_autograd(layer):
    images, weight, bias, stride, padding = layer
    bias = np.zeros(len(weight)) if bias is None else bias
    tensors = as_tensors(images, weight, bias)
    output = F.conv2d(*tensors, stride, padding)
    grad_output = np.random.default_rng(0).normal(size=tuple(output.shape))
    output.backward(torch.tensor(grad_output))
    for ours, tensor in zip(
        lesson.conv2d_backward(grad_output, images, weight, stride, padding), tensors, strict=True
    ):
        assert ours.shape == tensor.shape
        np.testing.assert_allclose(ours, tensor.grad.numpy(), atol=1e-11)


def test_a_convolution_keeps_float32_and_changes_none_of_its_inputs():
    images, weight, bias = (
        np.ones(shape, np.float32) for shape in ((1, 2, 5, 5), (3, 2, 3, 3), (3,))
    )
    output = lesson.conv2d_im2col(images, weight, bias, padding=1)
    gradients = lesson.conv2d_backward(output, images, weight, 1, 1)
    assert {array.dtype for array in (output, *gradients)} == {np.dtype("float32")}
    assert all((array == 1).all() for array in (images, weight, bias))


@several
@given(st.integers(3, 7), st.integers(1, 2), st.integers(0, 2))
def test_the_matrix_of_a_convolution_does_the_same_and_its_transpose_is_the_backward_pass(
    size, stride, padding
):
    generator = np.random.default_rng(size)
    weight, image = generator.normal(size=(2, 2, 3, 3)), generator.normal(size=(1, 2, size, size))
    matrix = lesson.as_matrix(weight, size, stride, padding)
    output = lesson.conv2d_naive(image, weight, None, stride, padding)
    np.testing.assert_allclose(matrix @ image.ravel(), output.ravel(), atol=1e-12)
    grad_image = lesson.conv2d_backward(output, image, weight, stride, padding)[0]
    np.testing.assert_allclose(matrix.T @ output.ravel(), grad_image.ravel(), atol=1e-11)


def test_a_filter_larger_than_the_picture_is_refused_by_both_convolutions():
    for convolution in (lesson.conv2d_naive, lesson.conv2d_im2col):
        with pytest.raises(ParameterError, match="smaller kernel or dilation, or more padding"):
            convolution(np.ones((1, 1, 3, 3)), np.ones((1, 1, 5, 5)))


# Pooling


@several
@given(poolings())
def test_pooling_gives_the_numbers_of_torch_forwards_and_backwards_with_ties(pooling):
    images, kernel_size, stride = pooling
    for forward, backward, real in [
        (lesson.max_pool2d, lesson.max_pool2d_backward, F.max_pool2d),
        (lesson.avg_pool2d, lesson.avg_pool2d_backward, F.avg_pool2d),
    ]:
        (tensor,) = as_tensors(images)
        output = real(tensor, kernel_size, stride)
        grad_output = np.random.default_rng(0).normal(size=tuple(output.shape))
        output.backward(torch.tensor(grad_output))
        ours = forward(images, kernel_size, stride)
        np.testing.assert_allclose(ours, output.detach().numpy(), atol=1e-12)
        ours = backward(grad_output, images, kernel_size, stride)
        np.testing.assert_allclose(ours, tensor.grad.numpy(), atol=1e-12)


def test_a_locally_connected_layer_with_equal_filters_everywhere_is_the_convolution():
    conv = nn.Conv2d(2, 3, 3, padding=1)
    local = lesson.LocallyConnected(2, 3, side=5)
    shared = conv.weight.detach().reshape(3, -1).T  # (9 C, K)
    with torch.no_grad():
        local.weight.copy_(shared.expand(25, -1, -1))
        local.bias.copy_(conv.bias.expand(25, 1, 3))
    maps = torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(local(maps), conv(maps), atol=1e-5, rtol=0)
    with torch.no_grad():
        local.weight[12] += 1  # the filter of the middle place alone
    changed = (local(maps) - conv(maps)).abs().amax((0, 1)) > 1e-4
    assert changed.nonzero().tolist() == [[2, 2]]


def test_the_learned_filter_balances_its_weights_only_where_light_varies():
    def balance(light):
        weights = lesson.learned_filter(light, run=7)
        return float(weights.sum() / abs(weights).sum())

    assert abs(balance((0, 1))) < 0.05
    assert min(balance((light, light)) for light in (0, 0.5, 1)) > 0.5


def test_counted_paths_are_those_of_a_stack_of_ones():
    signal = torch.zeros(1, 1, 7, dtype=torch.float64)
    signal[..., 3] = 1
    ones = torch.ones(1, 1, 3, dtype=torch.float64)
    paths = F.conv1d(F.conv1d(F.conv1d(signal, ones, padding=1), ones, padding=1), ones, padding=1)
    expected = paths[0, 0].sqrt() / paths.sqrt().sum()
    np.testing.assert_allclose(lesson.by_paths(3), expected.numpy(), atol=1e-12)


# Receptive fields


@several
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=4))
def test_the_receptive_field_is_what_the_gradient_of_one_unit_reaches(stack):
    stack = [(max(pair), pair[1]) for pair in stack]  # a kernel below its stride leaves gaps
    layers = [nn.Conv1d(1, 1, *pair, bias=False, dtype=torch.float64) for pair in stack]
    for layer in layers:
        nn.init.ones_(layer.weight)
    signal = torch.ones(
        1, 1, lesson.receptive_field(stack) + 40, dtype=torch.float64, requires_grad=True
    )
    output = nn.Sequential(*layers)(signal)
    output[0, 0, output.shape[-1] // 2].backward()
    assert int((signal.grad > 0).sum()) == lesson.receptive_field(stack)


# Exercises

FIRES, UNREAD, LAYER, CONV2D, FIELD = (
    inspect.getsource(exercise.solution) for exercise in lesson_04.EXERCISES
)
PLANTED = [  # exercise, source, what is right, the mistake, a word of the message
    ("04.2", UNREAD, "size**2 - rows_read**2", "rows_read**2", "count the others"),
    ("04.2", UNREAD, "size**2 - rows_read**2", "(size - rows_read) ** 2", "its row or its column"),
    ("04.2", UNREAD, "start + dilation * tap", "start + tap", "dilation 2"),
    ("04.2", UNREAD, "touched & set(range(size))", "touched", "padding 1"),
    ("04.2", UNREAD, "range(-padding, ", "range(0, ", "stride 4"),
    ("04.2", UNREAD, "- span + 1, stride", "- span + 1, 1", "expected 13"),
    ("04.2", UNREAD, "padding - span + 1", "padding", "expected 13"),
    (
        "04.4",
        CONV2D,
        "weight.reshape(k, -1)",
        "weight[:, :, ::-1, ::-1].reshape(k, -1)",
        "not flipped",
    ),
    (
        "04.4",
        CONV2D,
        "weight.reshape(k, -1)",
        "weight.transpose(0, 2, 3, 1).reshape(k, -1)",
        "three channels",
    ),
    ("04.4", CONV2D, "bias is not None", "False", "with a bias"),
    ("04.4", CONV2D, "(padding, padding), (padding, padding)", "(0, 0), (0, 0)", "padding"),
    (
        "04.4",
        CONV2D,
        "(padding, padding), (padding, padding)",
        "(padding, 0), (padding, 0)",
        "padding",
    ),
    ("04.4", CONV2D, "i * dilation, j * dilation", "i, j", "dilation"),
    (
        "04.4",
        CONV2D,
        "(wide - 1) - 1) // stride",
        "(wide - 1) - 1 + stride - 1) // stride",
        "with stride",
    ),
    ("04.4", CONV2D, "bias[:, None]", "bias.sum()", "with a bias"),
    (
        "04.3",
        LAYER,
        "- kernel_size) // stride",
        "- kernel_size + stride - 1) // stride",
        "output side",
    ),
    ("04.3", LAYER, "- kernel_size) // stride", "- kernel_size) / stride", "output side"),
    ("04.3", LAYER, "weights + filters", "weights", "number of parameters"),
    ("04.3", LAYER, "side**2 * weights", "weights", "once at each of the side² places"),
    ("04.3", LAYER, "weights + filters", "weights + 1", "9 fewer: has every filter its own bias?"),
    ("04.3", LAYER, "weights + filters", "76", "760"),
    ("04.3", LAYER, "2 * padding", "padding", "output side"),
    (
        "04.3",
        LAYER,
        "side**2 * weights",
        "side**2 * (weights + filters)",
        "number of multiplications",
    ),
    ("04.3", LAYER, "kernel_size**2 * channels", "kernel_size**2", "number of parameters"),
    ("04.5", FIELD, "jump *= stride", "jump += stride", "two 3×3"),
    ("04.5", FIELD, "jump *= stride", "jump = stride", "VGG-16"),
    ("04.5", FIELD, "(kernel - 1) * jump", "kernel * jump", "two 3×3"),
    ("04.5", FIELD, "(kernel - 1) * jump", "(kernel - 1)", "stride"),
    ("04.5", FIELD, "dilation * (kernel", "(kernel", "dilation 2"),
    ("04.5", FIELD, 'hasattr(module, "kernel_size")', 'hasattr(module, "weight")', "pooling 2×2"),
    (
        "04.1",
        FIRES,
        "filters - filters.mean((1, 2, 3), keepdims=True)",
        "filters[:, :, ::-1, ::-1]",
        "do not fire",
    ),
    ("04.1", FIRES, "/ np.maximum(length, 1e-9)", "", "divide by the length"),
    ("04.1", FIRES, "axis=1)", "axis=1)[:, ::-1]", "row first"),
    ("04.1", FIRES, "axis=1)", "axis=1) + 3", "top left"),
    ("04.1", FIRES, "axis=1)", "axis=1).T", "shape"),
]


@pytest.mark.parametrize("exercise", lesson_04.EXERCISES, ids=lambda exercise: exercise.id)
def test_the_reference_solution_is_accepted_and_a_stub_is_not_attempted(exercise, capsys):
    exercises.check(exercise.id, *exercise.answers())
    assert capsys.readouterr().out.startswith(f"{exercise.id} right: ")
    exercises.check(exercise.id, ...)
    assert "not attempted" in capsys.readouterr().out and len(exercise.hints) >= 2


@pytest.mark.parametrize(
    ("id", "source", "right", "mistake", "word"),
    PLANTED,
    ids=[f"{row[0]}-{number}" for number, row in enumerate(PLANTED)],
)
def test_a_planted_mistake_is_refused_and_the_message_names_its_place(
    id, source, right, mistake, word
):
    assert source.count(right) >= 1
    names = {"np": np}
    exec(source.replace(right, mistake), names)
    answer = next(value for name, value in names.items() if name.startswith("solve"))
    with pytest.raises((Wrong, ValueError)) as error:
        exercises.find(id).check(answer)
    if error.type is Wrong:
        assert word in str(error.value)


def test_sizes_of_a_layer_may_be_integers_of_numpy_and_one_number_alone_is_told_what_is_missing(
    capsys,
):
    def with_numpy(*layer):
        return tuple(np.int64(number) for number in lesson_04.solve_layer(*layer))

    exercises.check("04.3", with_numpy)
    assert "04.3 right" in capsys.readouterr().out
    exercises.check("04.3", lambda *layer: 760)
    assert "return three numbers" in capsys.readouterr().out


def test_a_convolution_of_torch_is_no_answer_to_the_exercise_that_writes_one(capsys):
    def one_line(images, weight, bias=None, stride=1, padding=0, dilation=1):
        arrays = [None if part is None else torch.tensor(part) for part in (images, weight, bias)]
        return F.conv2d(*arrays, stride, padding, dilation).numpy()

    def unfolded(images, weight, bias=None, stride=1, padding=0, dilation=1):
        return F.unfold(torch.tensor(images), weight.shape[2:], dilation, padding, stride).numpy()

    def as_layer(images, weight, bias=None, stride=1, padding=0, dilation=1):
        layer = nn.Conv2d(*weight.shape[1::-1], weight.shape[2:], stride, padding, dilation)
        return layer.double()(torch.tensor(images)).detach().numpy()

    for cheat in (one_line, unfolded, as_layer):
        exercises.check("04.4", cheat)
        assert "which is what you are to write" in capsys.readouterr().out


def test_the_puzzle_refuses_raw_filters_zero_mean_alone_and_cosines_without_subtracting_a_mean():
    image, filters = lesson_04.puzzle()
    zero_mean = filters - filters.mean((1, 2, 3), keepdims=True)
    for used, reason in (
        (filters, "touches the bright paper"),
        (zero_mean, "length of the window"),
    ):
        answers = lesson.conv2d_im2col(image, used)[0]
        places = [np.unravel_index(answer.argmax(), answer.shape) for answer in answers]
        with pytest.raises(Wrong, match=reason):
            lesson_04.check_which_fires(lambda image, filters, places=places: places)
    windows = np.lib.stride_tricks.sliding_window_view(image[0, 0], (7, 7))
    length = np.maximum(np.sqrt((windows**2).sum((2, 3))), 1e-9)  # no mean subtracted
    answers = np.einsum("ijrs,krs->kij", windows, filters[:, 0]) / length
    places = [np.unravel_index(answer.argmax(), answer.shape) for answer in answers]
    with pytest.raises(Wrong, match=r"filters \[1, 5\] .* brighter ground"):
        lesson_04.check_which_fires(lambda image, filters: places)
    with pytest.raises(Wrong, match="did you divide by it"):  # argmax takes nan for the largest
        lesson_04.check_which_fires(lambda image, filters: np.full((8, 2), (0, 7)))
