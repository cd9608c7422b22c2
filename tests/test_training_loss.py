"""What a loss is a mean of, and which answers are right, against one pass over everything."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training_toys import (
    a_network,
    a_set,
    failing,
    float64,  # noqa: F401  # every test computes in it
    same,
    sgd,
    weights,
)

from cnncourse.errors import (
    ShapeError,
)
from cnncourse.training import evaluate, fit, predict


def test_regression_has_a_loss_and_no_accuracy():
    torch.manual_seed(0)
    inputs = torch.randn(40, 2)
    model = nn.Linear(2, 1)
    history = fit(
        model,
        (inputs, inputs.sum(1, keepdim=True)),
        optimizer=sgd(model, 0.1),
        epochs=30,
        batch_size=10,
        loss=F.mse_loss,
    )
    assert history["train_loss"][-1] < 1e-4 and history["train_accuracy"][-1] is None


def test_yes_or_no_targets_are_scored_one_by_one():
    logits = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert evaluate(nn.Identity(), (logits, targets), loss=nn.BCEWithLogitsLoss()).accuracy == 0.75


def test_ignored_positions_of_dense_and_sequence_targets_count_neither_in_loss_nor_in_accuracy():
    torch.manual_seed(0)
    logits = torch.randn(5, 4, 3, 3)
    targets = torch.randint(4, (5, 3, 3))
    targets[0], targets[3, 0] = 255, 255  # 9 + 3 of 45 pixels
    loss = nn.CrossEntropyLoss(ignore_index=255)
    score = evaluate(nn.Identity(), (logits, targets), batch_size=2, loss=loss)
    counted = targets != 255
    assert score.loss == pytest.approx(float(loss(logits, targets)), abs=1e-12)
    assert score.accuracy == pytest.approx(
        float((logits.argmax(1) == targets)[counted].double().mean()), abs=1e-12
    )
    words = torch.randint(4, (5, 7))  # 0 is the padding, and also what a network may answer
    score = evaluate(
        nn.Identity(),
        (torch.zeros(5, 4, 7), words),
        batch_size=2,
        loss=partial(F.cross_entropy, ignore_index=0),
    )
    assert score.accuracy == 0 and score.loss == pytest.approx(math.log(4))


def test_torch_s_own_index_to_leave_out_needs_no_word():
    inputs, targets = torch.randn(40, 4, 5), torch.randint(3, (40, 5))
    targets[torch.rand(targets.shape) < 0.5] = -100
    model = nn.Conv1d(4, 3, 1)
    score = evaluate(model, (inputs, targets), batch_size=7)
    assert score.loss == pytest.approx(F.cross_entropy(model(inputs), targets).item(), abs=1e-12)
    assert score.accuracy == pytest.approx(
        (model(inputs).argmax(1) == targets)[targets != -100].double().mean()
    )


def test_classes_on_another_axis_give_no_accuracy_rather_than_a_wrong_one():
    model, targets = nn.Linear(5, 5), torch.randint(5, (20, 5))
    score = evaluate(
        model,
        (F.one_hot(targets, 5).double(), targets),
        loss=lambda outputs, targets: F.cross_entropy(outputs.flatten(0, 1), targets.flatten()),
    )
    assert score.accuracy is None


def test_a_loss_made_from_torch_s_is_known_for_what_it_is():
    class Mine(nn.CrossEntropyLoss):
        pass

    weight = torch.tensor([1.0, 5.0, 20.0])
    model = a_network()
    assert evaluate(model, a_set(), batch_size=7, loss=Mine(weight)).loss == pytest.approx(
        evaluate(model, a_set(), loss=nn.CrossEntropyLoss(weight)).loss, abs=1e-12
    )


def test_class_weights_give_the_loss_of_one_pass_whatever_the_batches():
    images, model = a_set(), a_network().eval()
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.2]), ignore_index=1)
    outputs = predict(model, images)
    score = evaluate(model, images, batch_size=7, loss=loss)
    assert score.loss == pytest.approx(loss(outputs, images.labels).item(), abs=1e-12)
    counted = images.labels != 1
    assert score.accuracy == pytest.approx(
        (outputs.argmax(1) == images.labels)[counted].double().mean().item()
    )


class TwoHeads(nn.Module):
    """Like GoogLeNet: while it trains, an auxiliary head speaks too."""

    def __init__(self):
        super().__init__()
        self.main, self.auxiliary = nn.Linear(36, 3), nn.Linear(36, 3)

    def forward(self, x):
        x = x.flatten(1)
        return (self.main(x), self.auxiliary(x)) if self.training else self.main(x)


def test_a_network_with_several_outputs_learns_by_a_loss_of_its_own_and_is_scored_by_the_first():
    def both(outputs, targets):
        if isinstance(outputs, torch.Tensor):
            return F.cross_entropy(outputs, targets)
        return F.cross_entropy(outputs[0], targets) + 0.3 * F.cross_entropy(outputs[1], targets)

    model, images = TwoHeads(), a_set()
    before = weights(model.auxiliary)
    history = fit(model, images, images, optimizer=sgd(model), epochs=1, batch_size=16, loss=both)
    assert not same(weights(model.auxiliary), before) and history[-1]["train_accuracy"] > 0
    model.train()
    assert torch.equal(predict(model, images), model.eval()(next(images.batches(50))[0]))
    assert "0.3 * F.cross_entropy(outputs[1]" in failing(TwoHeads(), error=ShapeError)


def test_a_network_with_two_inputs_gets_both():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(3, 2)

        def forward(self, image, word):
            return self.last(torch.cat([image, word[:, None]], 1))

    model = Both()
    inputs = torch.randn(20, 2), torch.randn(20)
    history = fit(
        model, (inputs, torch.randint(2, (20,))), optimizer=sgd(model), epochs=1, batch_size=8
    )
    assert len(history) == 1 and predict(model, (inputs, torch.zeros(20))).shape == (20, 2)
