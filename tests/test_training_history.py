"""The rows and columns of a history."""

import pytest
from training_toys import (
    a_network,
    a_set,
    float64,  # noqa: F401  # every test computes in it
    sgd,
)

from cnncourse.errors import (
    ParameterError,
)
from cnncourse.training import History, fit


def test_a_history_gives_rows_columns_and_the_same_floats_after_a_file(tmp_path):
    model = a_network()
    history = fit(model, a_set(), a_set(seed=1), optimizer=sgd(model), epochs=2, batch_size=16)
    assert (
        history["epoch"] == history.epoch == [1, 2]
        and history[-1]["train_loss"] == history.train_loss[1]
    )
    assert (
        isinstance(history[:1], History)
        and History.load(history.save(tmp_path / "history.json")) == history
    )
    assert "seconds" not in history._repr_html_() and "train loss" in history._repr_html_()
    with pytest.raises(ParameterError, match="did you mean 'train_loss'"):
        history["trian_loss"]


def test_a_file_holds_steps_and_added_columns_too(tmp_path):
    model = a_network()
    history = fit(
        model,
        a_set(),
        optimizer=sgd(model),
        epochs=2,
        batch_size=16,
        on_epoch=lambda history: history[-1].update(iou=0.5),
    )
    loaded = History.load(history.save(tmp_path / "history.json"))
    assert loaded.steps == history.steps and len(loaded.steps["loss"]) == 8
    assert loaded.iou == [0.5, 0.5] and loaded.columns[-1] == "iou"
    assert loaded.diverged is None and not loaded.interrupted
