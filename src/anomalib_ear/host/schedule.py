# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""How long a training is and how far, by epochs, steps or time, and the learning rate that follows from it."""

import math
from typing import NamedTuple

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer

# Recovery is learned in a few dozen epochs.
DEFAULT_EPOCHS = 20
# The learning rate rises over this share of training; over this many steps where the length is unknown.
WARMUP = 0.1
WARMUP_STEPS = 100


def limit_epochs(trainer: Trainer) -> bool:
    """Set the number of epochs if there is no limit of any kind; return whether it did.

    Lightning turns ``None`` into 1000, which then looks as if somebody had asked for it.
    """
    limits = (trainer.max_epochs, trainer.min_steps, _time_share(trainer))
    if trainer.max_steps != -1 or any(limit is not None for limit in limits):
        return False
    trainer.fit_loop.max_epochs = max(DEFAULT_EPOCHS, trainer.min_epochs or 0)
    return True


class Start(NamedTuple):
    """Where a training begins.

    Attributes:
        steps: Steps that were taken before.
        epochs: How many epochs, and parts of one, those were; ``None`` until the first batch is due.
    """

    steps: int = 0
    epochs: float | None = None

    @classmethod
    def of(cls, trainer: Trainer) -> "Start":
        """Return where a trainer is that goes on, in epochs of as many batches as they have now."""
        progress, batches = trainer.fit_loop.epoch_loop.batch_progress, trainer.num_training_batches
        # Lightning goes on at the batch of this number, whatever was in the batches before it, or begins the epoch.
        is_within = not progress.is_last_batch and progress.current.ready < batches < math.inf
        return cls(trainer.global_step, trainer.current_epoch + (progress.current.ready / batches if is_within else 0))


def _epochs(trainer: Trainer, step: int, start: Start) -> float | None:
    """Return how many epochs are done after a step; ``None`` where the length of one is not known."""
    if not 0 < trainer.num_training_batches < math.inf:
        return None
    steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    return step / steps if start.epochs is None else start.epochs + (step - start.steps) / steps


def progress(trainer: Trainer, step: int, start: Start) -> float | None:
    """Return how much of a training is done, in [0, 1] or beyond: by epochs, steps or time, whichever is most.

    Args:
        trainer: Runs the training.
        step: Number of steps that were taken, also before.
        start: Where the training began.

    Returns:
        ``None`` where the training has no known end.
    """
    _ = trainer.estimated_stepping_batches  # counts the batches where that was not done yet
    shares = [_time_share(trainer), step / trainer.max_steps if trainer.max_steps > 0 else None]
    epochs = _epochs(trainer, step, start)
    if epochs is not None and trainer.max_epochs is not None and trainer.max_epochs >= 0:
        shares.append(epochs / max(trainer.max_epochs, 1))
    return max((share for share in shares if share is not None), default=None)


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
