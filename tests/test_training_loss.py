"""What a loss is a mean of, and which answers are right, against one pass over everything."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from training_toys import (
    a_network,
    a_set,
    failing,
    float64,  # noqa: F401  # every test computes in it
    same,
    sgd,
    weights,
)

from cnncourse import augment
from cnncourse.errors import ParameterError, ShapeError
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


# ---- no wrong scores


class Fixed(nn.Module):
    """Gives what it is given, as a network with one weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x * self.weight


def test_one_logit_with_class_indices_is_refused_or_has_no_accuracy():
    logit, labels = torch.randn(8, 1), torch.randint(2, (8,))
    with pytest.raises(ShapeError, match="at least two classes(.|\n)*binary_cross_entropy"):
        evaluate(Fixed(), (logit, labels))
    with pytest.raises(ShapeError, match="at least two classes"):
        evaluate(Fixed(), (logit[:, 0], labels))
    with pytest.raises(ShapeError, match="targets\\[:, None\\]"):
        evaluate(Fixed(), (logit, labels.double()), loss=nn.BCEWithLogitsLoss())

    def loss(outputs, targets):
        return F.binary_cross_entropy_with_logits(outputs.flatten(), targets.double())

    for outputs in (logit, logit[:, 0]):
        score = evaluate(Fixed(), (outputs, labels), loss=loss)
        assert score.accuracy is None and score.loss == pytest.approx(float(loss(outputs, labels)))


def test_regression_on_whole_numbers_has_no_accuracy():
    counts = torch.randint(20, (30,))
    two = torch.randn(30, 2)  # a mean and a logarithm of a variance
    for outputs, loss in (
        (two, lambda a, b: F.gaussian_nll_loss(a[:, 0], b.double(), a[:, 1].exp())),
        (two, lambda a, b: F.mse_loss(a.sum(1), b.double())),
        (two[:, :1], lambda a, b: F.mse_loss(a[:, 0], b.double())),
        (two[:, 0], nn.MSELoss()),
        (two[:, 0], nn.PoissonNLLLoss()),
        (two[:, 0], F.l1_loss),
    ):
        assert evaluate(Fixed(), (outputs, counts), loss=loss).accuracy is None


def test_a_loss_of_one_s_own_on_classes_has_an_accuracy():
    scores, labels = torch.randn(30, 4), torch.randint(4, (30,))

    def hinge(outputs, targets):
        right = outputs.gather(1, targets[:, None])
        return (outputs - right + 1).clamp(min=0).sum(1).mean() - 1

    right = float((scores.argmax(1) == labels).double().mean())
    for loss in (hinge, nn.MultiMarginLoss(), F.multi_margin_loss):
        assert evaluate(Fixed(), (scores, labels), batch_size=7, loss=loss).accuracy == right


def test_outputs_that_are_no_numbers_are_never_right():
    logits, labels = torch.randn(10, 5), torch.zeros(10, dtype=torch.long)
    logits[:, 0] = 9.0
    logits[::2] = math.nan
    assert evaluate(Fixed(), (logits, labels)).accuracy == 0.5
    logits[1, 3] = math.nan  # one of five
    assert evaluate(Fixed(), (logits, labels)).accuracy == 0.4
    answers = torch.tensor([[math.nan, -1.0]] * 4)
    score = evaluate(Fixed(), (answers, torch.zeros(4, 2)), loss=nn.BCEWithLogitsLoss())
    assert score.accuracy == 0.5


# ---- targets that are more than a tensor


class Boxes(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(36, 4)

    def forward(self, x):
        return self.last(x.flatten(1))


def in_dicts(outputs, targets):
    return F.mse_loss(outputs, targets["boxes"]) + targets["more"][0].mean()


def in_list(outputs, targets):
    return torch.stack(
        [
            F.mse_loss(one, target["boxes"].mean(0))
            for one, target in zip(outputs, targets, strict=True)
        ]
    ).mean()


def test_targets_in_dicts_and_lists_move_with_their_images_and_get_no_accuracy():
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(50, 1, 6, 6, generator=generator)
    boxes = images.flatten(1)[:, :4].float()  # so that each belongs to its image
    tree = {"boxes": boxes, "more": (torch.zeros(50), torch.zeros(50, 2, dtype=torch.long))}
    each = [
        {"boxes": box.expand(row % 3 + 1, 4), "name": str(row)} for row, box in enumerate(boxes)
    ]
    losses = []
    for targets, loss in ((boxes, F.mse_loss), (tree, in_dicts), (each, in_list)):
        torch.manual_seed(0)
        model = Boxes()
        history = fit(
            model,
            (images, targets),
            (images, targets),
            optimizer=sgd(model),
            epochs=2,
            batch_size=16,
            loss=loss,
        )
        assert history.train_accuracy == history.valid_accuracy == [None, None]
        losses.append(history.train_loss + history.valid_loss)
    assert losses[1] == pytest.approx(losses[0], abs=1e-12)
    assert losses[2] == pytest.approx(losses[0], abs=1e-12)
    with pytest.raises(ShapeError, match="50 rows"):
        evaluate(Boxes(), (images, {"boxes": boxes[:40]}), loss=in_dicts)
    with pytest.raises(ShapeError, match="targets in one tensor"):
        evaluate(Boxes(), (images, tree), loss=F.mse_loss)


def test_targets_in_dicts_come_through_a_loader():
    class Set(torch.utils.data.Dataset):
        def __len__(self):
            return 20

        def __getitem__(self, row):
            return torch.full((1, 6, 6), float(row)), {"boxes": torch.full((4,), float(row))}

    seen = []

    def loss(outputs, targets):
        seen.append(targets["boxes"])
        return F.mse_loss(outputs, targets["boxes"])

    model = Boxes()
    fit(model, DataLoader(Set(), 8), optimizer=sgd(model, 1e-4), epochs=1, loss=loss)
    assert [len(boxes) for boxes in seen] == [8, 8, 4] and seen[0].dtype == torch.float64


def test_masks_move_with_their_pictures():
    images = torch.rand(40, 1, 6, 6)
    masks = (images[:, 0] > 0.5).long()
    change = augment.compose(partial(augment.crop, padding=2), augment.flip)

    class Threshold(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x):
            return torch.cat([0.5 - x, x - 0.5], 1) * self.weight * 100

    model = Threshold()
    options = {"optimizer": sgd(model, 1e-9), "epochs": 1, "batch_size": 16, "augment": change}
    assert fit(model, (images, masks), **options).train_accuracy == [1.0]
    with pytest.raises(ParameterError, match="changes targets too"):
        options["augment"] = lambda images, *, generator: images.flip(-1)
        fit(model, (images, masks), **options)
