"""Scores against tables made by hand and against other libraries."""

import math

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
    assert metrics.top_k_accuracy(torch.full((10, 5), math.nan), torch.arange(10) % 5, 1) == 0


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


def test_mistakes_are_named():
    with pytest.raises(ShapeError, match="classes lie on axis 1"):
        metrics.accuracy(torch.zeros(4, 3, 2), LABELS)
    with pytest.raises(ParameterError, match="from 0 to 1"):
        metrics.confusion(LOGITS, LABELS, 2)
    with pytest.raises(ParameterError, match="at least one value"):
        metrics.accuracy(LOGITS[:0], LABELS[:0])
    with pytest.raises(ShapeError, match="box"):
        metrics.box_iou(torch.zeros(4), torch.zeros(1, 4))
    with pytest.raises(ParameterError, match="k from 1 to 3"):
        metrics.top_k_accuracy(LOGITS, LABELS, 4)
