# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Training on several processes: one calibration for all of them, and no image counted twice.

Lightning gives each process as many images as the others and repeats some for that, which thresholds and metrics would
count twice. Its sampler for predictions repeats none; processes may then end with different numbers of batches, which
is safe where nothing is learned.
"""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor, nn
from torch.utils.data import DataLoader


def evaluate_once(trainer: Trainer) -> None:
    """Let validation and test look at each image once; does nothing in a single process."""
    datamodule = getattr(trainer, "datamodule", None)
    if trainer.world_size == 1 or datamodule is None:
        return
    for name in ("val_dataloader", "test_dataloader"):
        original = getattr(datamodule, name)
        setattr(datamodule, name, lambda original=original: _unrepeated(original(), trainer))


def _unrepeated(loader: Any, trainer: Trainer) -> Any:  # noqa: ANN401  the host's: a loader, several, or none
    if isinstance(loader, list | tuple):
        return [_unrepeated(each, trainer) for each in loader]
    if not isinstance(loader, DataLoader):
        return loader
    count, processes = len(loader.dataset), trainer.world_size  # type: ignore[arg-type]  # of a known length
    if count < processes:
        msg = (
            f"{count} images to validate or test cannot be shared by {processes} processes: give --trainer.devices "
            f"{max(count, 1)} at most."
        )
        raise ValueError(msg)
    return DataLoader(
        loader.dataset,
        loader.batch_size,
        sampler=UnrepeatedDistributedSampler(loader.dataset, processes, trainer.global_rank, shuffle=False),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
    )


def compute_once(trainer: Trainer, model: nn.Module, compute: Callable[[], Tensor]) -> Tensor:
    """Compute something that changes a model in the first process, and bring all others to the same state.

    Args:
        trainer: Runs the training.
        model: The model.
        compute: Changes the model.

    Returns:
        What ``compute`` returns, in every process.
    """
    if trainer.world_size == 1:
        return compute()
    # Each process has seen other images: what batch normalisation counted is that of the first one from now on.
    computed = (compute(), model.state_dict()) if trainer.is_global_zero else (torch.empty(0), {})
    result, state = trainer.strategy.broadcast(computed)
    model.load_state_dict(state)
    return result
