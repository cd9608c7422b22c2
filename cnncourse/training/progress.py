"""What stands around the training loop: the progress bar, Ctrl-C, and failures with their remedy."""

from __future__ import annotations

import copy
import math
import re
import time
import traceback

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cnncourse import runtime
from cnncourse.errors import CourseError, MachineError, ParameterError, ShapeError, TrainingError
from cnncourse.training.checkpoint import finite
from cnncourse.training.history import History, Interrupted
from cnncourse.training.loss import Meter, Score, described
from cnncourse.training.order import out_of_memory
from cnncourse.training.stacked import Stacked


class Divergence(TrainingError):
    """The loss, or a weight, stopped being a finite number."""


class Watch:
    """Around the loop: the progress bar, Ctrl-C, and failures with their remedy."""

    pause = 0.25  # seconds between two looks at the loss, each of which waits for the device

    def __init__(
        self,
        model: nn.Module,
        batches,
        optimizer: Optimizer,
        history: History,
        epochs: int,
        progress: bool,
    ):
        self.model, self.batches, self.optimizer = model, batches, optimizer
        self.history, self.machine = history, runtime.current()
        self.shown = progress and self.machine.rank == 0 and runtime.interactive()
        self.epochs, self.epoch, self.bar = epochs, len(history) + 1, None
        self.next = time.perf_counter() + self.pause

    def __enter__(self) -> Watch:
        if self.shown:
            from tqdm.auto import tqdm

            steps = len(self.batches)
            self.bar = tqdm(
                total=steps * self.epochs,
                initial=steps * len(self.history),
                unit="step",
                leave=False,
                dynamic_ncols=True,
            )
        return self

    def step(self, epoch: int, meter: Meter) -> None:
        """After each step; now and then, look at the loss and move the bar."""
        self.epoch = epoch
        now = time.perf_counter()
        if now < self.next:
            return
        self.next = now + (self.pause if self.bar is not None else 4 * self.pause)
        loss = meter.losses[-1].nanmean().item()  # waits for the device, so not at every step
        if not math.isfinite(loss) and _bad(meter.steps()).any():
            self.finite(meter, Score(loss, None))  # of this process: the others are elsewhere
        if self.bar is not None:
            self.bar.n = (epoch - 1) * len(self.batches) + self.batches.latest[0]
            self.bar.set_postfix_str(f"epoch {epoch} of {self.epochs}, loss {loss:.3g}")

    def finite(self, meter: Meter, score: Score | None = None) -> Score:
        """The meter's score, if its loss is a number; `Divergence` with the step at which it stopped being one.

        Of several seeds at once, one that diverges is no reason to end the others.
        """
        score = meter.score() if score is None else score
        if torch.as_tensor(score.loss).isfinite().any():
            # The last gradient may have been no number, though its loss was one.
            if not isinstance(self.model, Stacked) and not finite(self.model):
                raise Divergence(
                    "finite weights",
                    "nan or inf among them",
                    where=f"end of epoch {self.epoch}",
                    remedy="a gradient was no number: look for sqrt(0), log(0) or 0 / 0 in the loss",
                )
            return score
        steps = meter.steps()
        if not (steps[:, 1] > 0).any():
            raise TrainingError(
                "targets that count",
                f"none in {len(steps)} steps",
                where=f"epoch {self.epoch}",
                remedy="all are the loss's ignore_index: check how the targets were made",
            )
        bad = _bad(steps)
        first = int(bad.nonzero()[0]) if bad.any() else None
        rate = float(self.optimizer.param_groups[0]["lr"])
        inputs = self.batches.latest[1] if first is None else self.batches.inputs_of(first)
        unclean = any(part.is_floating_point() and not part.isfinite().all() for part in inputs)
        step = "" if first is None else f", step {first + 1}"
        raise Divergence(
            "a finite loss",
            f"{score.loss} at learning rate {rate:g}",
            where=f"epoch {self.epoch}{step} of {len(self.batches)}",
            remedy="the inputs hold nan or inf: clean the data"
            if unclean
            else f"try learning rate {rate / 10:g}, or clip_gradient=1.0; "
            "lr_range_test shows where the loss climbs",
        )

    def __exit__(self, kind, error, trace) -> bool:
        if self.bar is not None:
            if error is None:  # a bar that is not full when it closes stays there in red
                self.bar.n = self.bar.total = len(self.batches) * len(self.history)
            self.bar.close()
        if isinstance(error, KeyboardInterrupt):
            self.history.interrupted = True
            raise Interrupted(self.history, self.epochs) from None
        if isinstance(error, Divergence):
            self.history.diverged = f"{error.where}: {error.got}"
            error.history = self.history
        if isinstance(error, RuntimeError | ValueError) and not isinstance(error, CourseError):
            self._explain(error)
        return False

    def _explain(self, error: Exception) -> None:
        where = f"epoch {self.epoch}, step {self.batches.latest[0]}"
        if out_of_memory(error):
            raise self._smaller(error, where) from error
        if "determinis" in str(error):
            raise MachineError(
                f"a deterministic form of every operation on {self.machine.device}",
                str(error).partition(".")[0],
                where=where,
                remedy="runtime.start(deterministic=False): the same seed then gives numbers that "
                "differ in their last digits from run to run; docs/training.md lists such operations",
            ) from error
        raise_shape(error, self.model, self.batches)

    def _smaller(self, error: RuntimeError, where: str) -> TrainingError:
        traceback.clear_frames(error.__traceback__)  # they hold the activations of the failed pass
        inputs, stacked = self.batches.latest[1], isinstance(self.model, Stacked)
        size, fits = self.batches.batch_size, None
        if inputs:  # none where the batch could not even be gathered
            size = inputs[0].shape[int(stacked)]
            fits = None if stacked else _fitting(self.model, inputs, self.machine)
        advice = f"batch_size={fits} fits (tried forward and backward)"
        return TrainingError(
            f"memory for a batch of {size} on {runtime.device_name(self.machine.device)}",
            str(error).splitlines()[0][:200],
            where=where,
            remedy=advice if fits else "lower batch_size",
        )


def _bad(steps: Tensor) -> Tensor:
    """(steps,): which losses, of those that have a target that counts, are no number (of all seeds)."""
    return (~steps[:, 0].isfinite() & (steps[:, 1] > 0)).reshape(len(steps), -1).all(1)


def _fitting(model: nn.Module, inputs: tuple[Tensor, ...], machine: runtime.Runtime) -> int | None:
    """The largest of half, a quarter, ... of the batch whose forward and backward pass fit into memory."""
    model.zero_grad()
    trial, size = None, len(inputs[0]) // 2
    while size:
        if machine.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            if trial is None:
                trial = copy.deepcopy(model)
            with machine.autocast():
                outputs = trial(*(part[:size] for part in inputs))
            outputs.float().sum().backward()
            return size
        except RuntimeError as error:
            if not out_of_memory(error):
                return None
        outputs = None  # it holds what this trial has computed
        if trial is not None:
            trial.zero_grad()
        size //= 2
    return None


def raise_shape(error: Exception, model: nn.Module, batches) -> None:
    """Raise a `ShapeError` that names the layer, if the error is about shapes or dtypes inside the network."""
    text = str(error).splitlines()[0] if str(error) else ""
    if "more than 1 value per channel" in text:
        raise ParameterError(
            "at least two images in a batch that is normalised",
            f"one ({text})",
            where=f"step {batches.latest[0]} of {len(batches)}",
            remedy="drop_last=True, or another batch_size, so that no single image is left over",
        ) from error
    words = r"shape|size|dimension|channels|dtype|same type|be the same|[Ee]xpected.*(input|\dD)"
    if not re.search(words, text):
        return
    names = {id(module): name for name, module in model.named_modules()}
    layer, came = None, None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_locals.get("self")
        inside = frame.f_code.co_name in ("forward", "_conv_forward")
        if inside and isinstance(module, nn.Module) and id(module) in names:
            layer, came = module, frame.f_locals.get("input", frame.f_locals.get("x"))
    if layer is None:
        return
    got = described(came)
    if not isinstance(came, Tensor):
        got = ", ".join(described(part) for part in batches.latest[1])
    name = names[id(layer)]
    where = f"layer {name!r}: {str(layer).splitlines()[0]}" if name else type(layer).__name__
    remedy = "compare its in_channels or in_features with the input; cost.table lists all shapes"
    if isinstance(came, Tensor) and came.dtype == torch.uint8:
        remedy = "uint8 images are scaled by an ImageSet; in a pair of tensors do it yourself: images.float() / 255"
    raise ShapeError(
        "an input that this layer can take", f"{got} ({text[:160]})", where=where, remedy=remedy
    ) from error
