# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The course of a training, however it ends: by epochs, steps, time, early stopping or an interruption."""

import math
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.trainer.states import TrainerFn

from anomalib_ear.method.model import DIVERGED

if TYPE_CHECKING:
    from anomalib_ear.host.lightning_model import Ear

# Recovery is learned in a few dozen epochs.
DEFAULT_EPOCHS = 20
# The learning rate rises over this share of training; over this many steps where the length is unknown.
WARMUP = 0.1
WARMUP_STEPS = 100

_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


class TrainingCallback(Callback):
    """What training needs between its steps: a finite loss, and calibration by all training images.

    This is a callback because the finders of learning rates and batch sizes switch the other callbacks off in a trial,
    which may diverge and needs no calibration.
    """

    def on_train_start(self, trainer: Trainer, pl_module: "Ear") -> None:  # type: ignore[override]
        """Begin with the statistics of these images, and with the learning rate that was found or given since."""
        del trainer
        pl_module.begin()

    def on_train_batch_end(self, trainer: Trainer, pl_module: "Ear", outputs: Any, *args: Any) -> None:  # type: ignore[override]  # noqa: ANN401  # the host's
        """Stop a training that diverged, and validate one that ends within an epoch.

        Raises:
            ValueError: If the loss is not finite.
        """
        del pl_module, args
        if outputs and not torch.isfinite(outputs["loss"]).all():
            raise ValueError(DIVERGED)
        if trainer.global_step == trainer.max_steps:
            trainer.should_stop = True  # Lightning validates before it heeds this, but not where steps run out

    def on_validation_start(self, trainer: Trainer, pl_module: "Ear") -> None:  # type: ignore[override]
        """Calibrate before thresholds are taken; outside training insist that it was done."""
        if trainer.state.fn == TrainerFn.FITTING:
            pl_module.calibrate()
        else:
            pl_module.insist_on_training()

    def on_test_start(self, trainer: Trainer, pl_module: "Ear") -> None:  # type: ignore[override]
        """Refuse an untrained model before the first image is read."""
        del trainer
        pl_module.insist_on_training()

    def on_predict_start(self, trainer: Trainer, pl_module: "Ear") -> None:  # type: ignore[override]
        """Refuse an untrained model before the first image is read."""
        del trainer
        pl_module.insist_on_training()

    def on_train_end(self, trainer: Trainer, pl_module: "Ear") -> None:  # type: ignore[override]
        """Calibrate where neither a validation nor a checkpoint asked for it."""
        del trainer
        pl_module.calibrate()


def check_precision(trainer: Trainer) -> None:
    """Refuse a trainer that would convert the network.

    Raises:
        ValueError: If it does.
    """
    if trainer.precision not in _PRECISIONS:
        msg = (
            f"--trainer.precision must be one of {', '.join(_PRECISIONS)}, got {trainer.precision}. Leave it out: Ear "
            "trains its U-Net in bfloat16 where the processor has it, and computes all else in float32."
        )
        raise ValueError(msg)


def limit_epochs(trainer: Trainer) -> bool:
    """Set the number of epochs if there is no limit of any kind; return whether it did.

    Lightning turns ``None`` into 1000, which then looks as if somebody had asked for it.
    """
    limits = (trainer.max_epochs, trainer.min_steps, _time_share(trainer))
    if trainer.max_steps != -1 or any(limit is not None for limit in limits):
        return False
    trainer.fit_loop.max_epochs = max(DEFAULT_EPOCHS, trainer.min_epochs or 0)
    return True


def progress(trainer: Trainer, step: int) -> float | None:
    """Return how much of a training is done, in [0, 1] or beyond: by steps or by time, whichever is more.

    Args:
        trainer: Runs the training.
        step: Number of steps that were taken.

    Returns:
        ``None`` where the training has no known end.
    """
    steps = trainer.estimated_stepping_batches
    by_steps = step / steps if 0 < steps < math.inf else None
    shares = [share for share in (by_steps, _time_share(trainer)) if share is not None]
    return max(shares, default=None)


def one_cycle(done: float | None, step: int) -> float:
    """Return the share of the highest learning rate: it rises linearly, and falls to 0 as a cosine.

    Args:
        done: Share of the training that is done; ``None`` where it has no known end: the rate then stays.
        step: Number of steps that were taken.
    """
    if done is None:
        return min(step / WARMUP_STEPS, 1)
    if done < WARMUP:
        return done / WARMUP
    return (1 + math.cos(math.pi * min((done - WARMUP) / (1 - WARMUP), 1))) / 2


def _time_share(trainer: Trainer) -> float | None:
    """Return the share of ``max_time`` that is over; ``None`` where there is no such limit."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # Lightning sets it in a connector
        if isinstance(callback, Timer) and (remaining := callback.time_remaining()) is not None:
            elapsed = callback.time_elapsed()
            return elapsed / max(elapsed + remaining, 1e-9)
    return None
