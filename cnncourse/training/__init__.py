"""Training: `fit` a network, `evaluate` it, `predict` with it, and the `History` of what happened.

>>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
>>> history = training.fit(model, train, valid, optimizer=optimizer, epochs=3, batch_size=128)
>>> [round(accuracy, 2) for accuracy in history["valid_accuracy"]]
[0.47, 0.7, 0.81]

Data are an `ImageSet`, a pair of tensors (inputs, targets), or a `DataLoader` when they are too large for memory.
The machine (device, dtype, precision, seed) is what `runtime.start` set.

`loop` holds the loop itself, `batches` and `loader` what it reads, `loss` what it measures, `progress` the bar and the
failures, `checkpoint` stopping and going on, `distributed` several processes, `stacked` and `repeats` several seeds.
"""

from cnncourse.training.batches import batches
from cnncourse.training.checkpoint import Checkpoint
from cnncourse.training.frozen import frozen, thawed
from cnncourse.training.history import COLUMNS, History, Interrupted, last_history
from cnncourse.training.loop import evaluate, fit, lr_range_test, predict
from cnncourse.training.loss import Score
from cnncourse.training.progress import Divergence
from cnncourse.training.repeats import Repeats, repeat
from cnncourse.training.schedule import EachStep

__all__ = [
    "COLUMNS",
    "Checkpoint",
    "Divergence",
    "EachStep",
    "History",
    "Interrupted",
    "Repeats",
    "Score",
    "batches",
    "evaluate",
    "fit",
    "frozen",
    "last_history",
    "lr_range_test",
    "predict",
    "repeat",
    "thawed",
]
