"""Scores against tables made by hand and against other libraries."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from cnncourse import metrics
from cnncourse.errors import ParameterError, ShapeError

LOGITS = torch.tensor(
    [[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.5, 0.2, 0.1], [0.0, 1.0, 2.0]]
)  # four images: 0, 1, 0, 2
LABELS = torch.tensor([0, 2, 1, 2])


def test_four_images_by_hand():
    assert metrics.accuracy(LOGITS, LABELS) == 0.5
    assert (
        metrics.top_k_accuracy(LOGITS, LABELS, 1) == 0.5
        and metrics.top_k_accuracy(LOGITS, LABELS, 2) == 1.0
    )
    assert metrics.confusion(LOGITS, LABELS, 3).tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 1]]
    ratios = metrics.intersection_over_union(metrics.confusion(LOGITS, LABELS, 3))
    assert ratios.tolist() == [0.5, 0.0, 0.5]


def test_tables_of_batches_add_up_to_the_table_of_the_set():
    torch.manual_seed(0)
    logits, labels = torch.randn(20, 4, 3, 3), torch.randint(4, (20, 3, 3))
    parts = sum(
        metrics.confusion(*pair, 4) for pair in zip(logits.split(7), labels.split(7), strict=True)
    )
    whole = metrics.confusion(logits, labels, 4)
    assert torch.equal(parts, whole) and whole.sum() == 180
    assert metrics.accuracy(logits, labels) == float(whole.diagonal().sum()) / 180


def test_scikit_learn_gives_the_same_table_and_average_precision():
    from sklearn.metrics import confusion_matrix, jaccard_score

    torch.manual_seed(0)
    predicted, labels = torch.randint(5, (200,)), torch.randint(5, (200,))
    table = metrics.confusion(predicted, labels, 5)
    assert table.tolist() == confusion_matrix(labels, predicted).tolist()
    ratios = metrics.intersection_over_union(table).tolist()
    assert ratios == pytest.approx(jaccard_score(labels, predicted, average=None))


def test_ignored_positions_count_nowhere_and_a_class_never_seen_has_no_ratio():
    labels = torch.tensor([0, 255, 1])
    assert metrics.accuracy(torch.tensor([0, 1, 0]), labels, ignore_index=255) == 0.5
    table = metrics.confusion(torch.tensor([0, 1, 0]), labels, 3, ignore_index=255)
    assert table.sum() == 2 and metrics.intersection_over_union(table)[2].isnan()


def test_a_network_that_answers_all_alike_is_not_right_at_the_top():
    assert metrics.top_k_accuracy(torch.zeros(4, 10), torch.zeros(4, dtype=torch.long), 5) == 0.0


def test_boxes_overlap_as_torchvision_says():
    from torchvision.ops import box_iou

    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 9, 2, 2, generator=generator).sort(2).values.flatten(2)
    torch.testing.assert_close(metrics.box_iou(*corners), box_iou(*corners))
    apart = metrics.box_iou(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[2.0, 2, 3, 3]]))
    assert apart.item() == 0.0


def test_numbers_that_are_none_do_not_score():
    nan, labels = torch.full((10, 5), math.nan), torch.zeros(10, dtype=torch.long)
    for k in (1, 4, 5):
        assert metrics.top_k_accuracy(nan, labels, k) == 0
    assert metrics.accuracy(nan, labels) == 0 and metrics.confusion(nan, labels, 5).sum() == 0
    half = LOGITS.clone()
    half[0, 2] = math.nan  # the first image was right: one of its logits is enough to spoil it
    assert metrics.accuracy(half, LABELS) == 0.25
    assert metrics.confusion(half, LABELS, 3).tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 1]]
    dense = torch.zeros(1, 2, 2, 2)
    dense[0, :, 0, 0] = math.nan
    assert metrics.accuracy(dense, torch.zeros(1, 2, 2)) == 0.75
    scores, right = torch.tensor([math.nan, 0.5]), torch.tensor([True, False])
    assert metrics.average_precision(scores, right, 1) == 0
    assert metrics.average_precision([math.nan, 0.5], [False, True], 1) == 1


NARROW = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool]


@pytest.mark.parametrize("dtype", NARROW)
def test_every_integer_type_gives_the_scores_of_int64(dtype):
    labels, predicted = torch.tensor([0, 1, 1, 0, 1]), torch.tensor([0, 0, 1, 0, 1])
    assert metrics.accuracy(predicted.to(dtype), labels.to(dtype)) == 0.8
    expected = metrics.confusion(predicted, labels, 21)
    assert torch.equal(metrics.confusion(predicted.to(dtype), labels, 21), expected)
    assert torch.equal(metrics.confusion(predicted, labels.to(dtype), 21), expected)
    assert metrics.top_k_accuracy(LOGITS, torch.tensor([0, 1, 0, 1]).to(dtype), 2) == 1.0
    right = torch.tensor([1, 0, 1]).to(dtype)
    assert metrics.average_precision(torch.tensor([3, 2, 1]), right, 2) == pytest.approx(5 / 6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_floating_point_type_gives_the_scores_of_float32(dtype):
    assert metrics.accuracy(LOGITS.to(dtype), LABELS) == 0.5
    assert metrics.top_k_accuracy(LOGITS.to(dtype), LABELS, 2) == 1.0
    boxes = torch.tensor([[0.0, 0, 200, 200], [100, 100, 300, 300]])  # areas beyond float16
    found = metrics.box_iou(boxes.to(dtype), boxes.to(dtype))
    torch.testing.assert_close(found, metrics.box_iou(boxes, boxes).to(found.dtype))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_boxes_of_whole_numbers_do_not_overflow(dtype):
    boxes = torch.tensor([[0, 0, 20, 20], [10, 10, 100, 100], [0, 90, 120, 100]])
    expected = metrics.box_iou(boxes.double(), boxes.double())
    found = metrics.box_iou(boxes.to(dtype), boxes.to(dtype))
    torch.testing.assert_close(found.double(), expected, atol=1e-7, rtol=0)


def test_arrays_and_lists_score_like_tensors():
    assert metrics.accuracy(LOGITS.numpy(), LABELS.tolist()) == 0.5
    assert metrics.accuracy(np.array([0, 1, 2], np.uint16), np.array([0, 1, 1])) == pytest.approx(
        2 / 3
    )
    assert metrics.confusion([0, 1, 1], np.array([0, 0, 1]), 2).tolist() == [[1, 1], [0, 1]]
    assert metrics.box_iou([[0, 0, 2, 2]], [[1, 1, 3, 3]]).item() == pytest.approx(1 / 7)
    assert metrics.average_precision([0.9, 0.8, 0.7], [True, False, True], 2) == pytest.approx(
        5 / 6
    )
    assert metrics.intersection_over_union([[1, 1], [0, 1]]).tolist() == [0.5, 0.5]


def test_boxes_without_an_area_overlap_by_nothing():
    boxes = torch.tensor([[1.0, 1, 1, 1], [0, 0, 2, 2], [2, 2, 1, 1]])
    expected = [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert metrics.box_iou(boxes, boxes).tolist() == expected


def test_labels_stored_as_bytes_are_counted_right():
    mask = torch.tensor([[0, 3, 15]], dtype=torch.uint8)
    assert torch.equal(
        metrics.confusion(mask, mask, 21), metrics.confusion(mask.long(), mask.long(), 21)
    )


def test_average_precision_by_hand():
    scores = torch.tensor([0.7, 0.9, 0.8])
    assert metrics.average_precision(scores, torch.tensor([True, True, False]), 2) == pytest.approx(
        (1 + 2 / 3) / 2
    )
    assert metrics.average_precision(scores, torch.tensor([True, True, True]), 3) == 1.0
    assert metrics.average_precision(scores[:0], torch.zeros(0, dtype=torch.bool), 3) == 0.0


def test_the_interval_over_seeds_is_students():
    mean, half = metrics.interval([0.90, 0.92, 0.94])
    assert mean == pytest.approx(0.92) and half == pytest.approx(
        4.302653 * 0.02 / math.sqrt(3), rel=1e-6
    )
    assert math.isnan(metrics.interval([0.5]).half)
    assert isinstance(mean, float) and metrics.interval(torch.tensor([0.9, 0.92, 0.94]))[
        0
    ] == pytest.approx(0.92)


def test_targets_between_classes_have_no_accuracy():
    assert metrics.accuracy(torch.eye(3), torch.tensor([0.0, 1.0, 2.0])) == 1
    for score in (metrics.accuracy, partial(metrics.top_k_accuracy, k=2)):
        with pytest.raises(ParameterError, match="whole numbers(.|\n)*got: +2.5"):
            score(torch.eye(3), torch.tensor([0.0, 1.0, 2.5]))


def test_an_interval_over_curves_is_one_for_each_point():
    runs = np.array([[0.5, 0.90], [0.7, 0.92], [0.6, 0.94]])
    mean, half = metrics.interval(runs)
    for place in (0, 1):
        assert (mean[place], half[place]) == pytest.approx(tuple(metrics.interval(runs[:, place])))
    assert np.isnan(metrics.interval(runs[:1]).half).all()


def test_a_column_of_several_runs_is_one_row_a_run():
    runs = [(None, {"loss": [3.0, 1.0]}), (None, {"loss": [2.0, 0.5]})]
    assert metrics.column(runs, "loss").tolist() == [[3.0, 1.0], [2.0, 0.5]]
    assert metrics.column([history for _, history in runs], "loss").shape == (2, 2)
    with pytest.raises(ShapeError, match="2, 2, 1"):
        metrics.column([*runs, (None, {"loss": [1.0]})], "loss")


def test_mistakes_are_named():
    with pytest.raises(ShapeError, match="classes lie on axis 1"):
        metrics.accuracy(torch.zeros(4, 3, 2), LABELS)
    with pytest.raises(ShapeError, match=r"logits\[:, 0\] > 0"):  # else all would be class 0
        metrics.accuracy(torch.ones(4, 1), torch.zeros(4, dtype=torch.long))
    for labels in ([0, -1, 1, 2], [0, 255, 1, 2]):
        with pytest.raises(ParameterError, match="pass ignore_index"):
            metrics.accuracy(LOGITS, labels)
    with pytest.raises(ParameterError, match="as many as there are logits"):
        metrics.top_k_accuracy(LOGITS, [0, 1, 2, 3], 1)
    with pytest.raises(ParameterError, match="at most 1 right"):
        metrics.average_precision([0.9, 0.8], [True, True], 1)
    with pytest.raises(ShapeError, match="one of both"):
        metrics.average_precision([0.9, 0.8], [True], 1)
    with pytest.raises(ParameterError, match="from 0 to 1"):
        metrics.confusion(LOGITS, LABELS, 2)
    with pytest.raises(ParameterError, match="at least one value"):
        metrics.accuracy(LOGITS[:0], LABELS[:0])
    with pytest.raises(ShapeError, match="box"):
        metrics.box_iou(torch.zeros(4), torch.zeros(1, 4))
    with pytest.raises(ParameterError, match="k from 1 to 3"):
        metrics.top_k_accuracy(LOGITS, LABELS, 4)
