"""Batches of sets and of DataLoaders."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset
from training_toys import (
    a_network,
    a_set,
    as_loader,
    float64,  # noqa: F401  # every test computes in it
    same,
    sgd,
    weights,
)

from cnncourse.errors import (
    ParameterError,
    ShapeError,
)
from cnncourse.training import evaluate, fit, predict
from cnncourse.training.order import several


def test_a_shuffled_loader_gives_the_same_weights_every_time_and_is_left_as_it_was():
    images, runs = a_set(), []
    for _ in range(2):
        model = a_network()
        torch.manual_seed(len(runs))
        loader = as_loader(images, batch_size=16, shuffle=True)
        fit(
            model,
            loader,
            as_loader(images, batch_size=16),
            optimizer=sgd(model),
            epochs=2,
            batch_size=16,
        )
        runs.append(weights(model))
        assert loader.sampler.generator is None
    assert same(*runs)


def test_a_loader_in_order_gives_the_weights_of_a_hand_written_loop():
    images, ours, theirs = a_set(), a_network(), a_network()
    loader = as_loader(images, batch_size=16)
    fit(ours, loader, optimizer=sgd(ours), epochs=1, batch_size=16)
    optimizer = sgd(theirs)
    for batch, labels in loader:
        optimizer.zero_grad()
        F.cross_entropy(theirs(batch.double()), labels).backward()
        optimizer.step()
    assert same(weights(ours), weights(theirs))


def test_a_loader_with_workers_gives_the_numbers_of_one_without():
    images, results = a_set(20), []
    for workers in (0, 1):
        model = a_network()
        fit(
            model,
            as_loader(images, batch_size=8, shuffle=True, num_workers=workers),
            optimizer=sgd(model),
            epochs=1,
            batch_size=8,
        )
        results.append(weights(model))
    assert same(*results)


def test_predict_refuses_a_loader_that_shuffles():
    with pytest.raises(ParameterError, match="shuffle=False"):
        predict(a_network(), as_loader(a_set(), batch_size=8, shuffle=True))


def test_a_stream_without_a_length_is_refused():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield torch.zeros(1, 6, 6), 0

    with pytest.raises(ShapeError, match="give its data set a __len__"):
        evaluate(a_network(), DataLoader(Stream(), batch_size=2))


def test_seeds_of_rows_are_the_same_wherever_one_begins():
    seeds = several(0, 5, 1, 2, 3)
    assert several(3, 2, 1, 2, 3) == seeds[3:] and len(set(seeds)) == 5
    assert not set(seeds) & set(several(0, 5, 1, 2, 4))


class Noisy(TensorDataset):
    """A set of tensors with noise, as a student derives it."""

    def __getitem__(self, row):
        picture, label = super().__getitem__(row)
        return picture + torch.rand(()), label


@pytest.mark.parametrize("part", [False, True])
def test_what_a_set_draws_is_decided_by_the_seed_also_where_its_base_class_draws_nothing(part):
    tensors = a_set().images.double(), a_set().labels

    def trained(kind, drawn_before):
        whole = kind(*tensors)
        model = a_network()
        loader = DataLoader(Subset(whole, range(20)) if part else whole, 8, shuffle=True)
        torch.manual_seed(drawn_before)
        fit(model, loader, optimizer=sgd(model), epochs=1, batch_size=8)
        return weights(model)

    assert same(trained(Noisy, 1), trained(Noisy, 2))
    assert same(trained(TensorDataset, 1), trained(TensorDataset, 2))
    assert not same(trained(Noisy, 1), trained(TensorDataset, 1))
