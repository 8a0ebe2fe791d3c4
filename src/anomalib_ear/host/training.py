# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The course of a training, however it ends: by epochs, steps, time, early stopping or an interruption."""

import logging
import math
from collections.abc import Sized
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from anomalib.data import AnomalibDataModule, ImageBatch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    EarlyStopping,
    LearningRateFinder,
    ModelCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DistributedSampler, IterableDataset, RandomSampler, SequentialSampler

from anomalib_ear.host.schedule import Start
from anomalib_ear.host.sizes import check_photographs, warn_of_mixed_batches
from anomalib_ear.method.calibration import DIVERGED

if TYPE_CHECKING:
    from anomalib_ear.host.lightning_model import Ear

logger = logging.getLogger(__name__)


_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
_AVERAGING = (StochasticWeightAveraging, WeightAveraging)
# These draw from all of a data set.
_SAMPLERS = (RandomSampler, SequentialSampler, DistributedSampler)
_FINDERS = (BatchSizeFinder, LearningRateFinder)
# How the names begin of checkpoints that these write before their trials.
_TRIALS = (".lr_find_", ".scale_batch_size_")


class TrainingCallback(Callback):
    """What training needs between its steps: a finite loss, and calibration by all training images.

    This is a callback because the finders of learning rates and batch sizes switch the other callbacks off in a trial,
    which may diverge and needs no calibration.
    """

    def __init__(self) -> None:
        super().__init__()
        self._every_n_epochs: int | None = None
        self._validated_step = -1
        self._threshold: float = math.nan

    def on_train_start(self, trainer: Trainer, pl_module: "Ear") -> None:  # type: ignore[override]
        """Begin with the statistics of these images, and with the learning rate that was found or given since.

        Raises:
            TypeError: If it is not known how many images there are, or a sampler may leave some out.
        """
        loader = trainer.train_dataloader
        dataset = getattr(loader, "dataset", None)
        if not isinstance(dataset, Sized) or isinstance(dataset, IterableDataset):
            msg = (
                "train_dataloaders must be one DataLoader of a data set with a length, not of an iterable one: all of "
                "it calibrates Ear."
            )
            raise TypeError(msg)
        batches = getattr(loader, "batch_sampler", None)
        sampler = getattr(loader, "sampler", None) if batches is None else getattr(batches, "sampler", batches)
        if not isinstance(sampler, _SAMPLERS):
            msg = (
                f"train_dataloaders draws by a {type(sampler).__name__}, but all of its data set calibrates Ear: give "
                "it a torch.utils.data.Subset of the photographs to learn from, without a sampler."
            )
            raise TypeError(msg)
        warn_of_mixed_batches(loader)
        self._every_n_epochs, self._validated_step = trainer.check_val_every_n_epoch, -1
        pl_module.start = Start.of(trainer)
        pl_module.begin()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: "Ear") -> None:  # type: ignore[override]
        """Have the last epoch validated, whatever the interval: the checkpoint is written after a validation."""
        del pl_module
        if trainer.current_epoch + 1 == trainer.max_epochs and trainer.check_val_every_n_epoch is not None:
            trainer.check_val_every_n_epoch = 1

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
            self._validated_step = trainer.global_step
            pl_module.calibrate(full=may_be_kept(trainer))
        else:
            _check(pl_module, trainer.val_dataloaders)
            _warn_of_training_images(trainer, pl_module, trainer.val_dataloaders)
            self._threshold = _threshold(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: "Ear") -> None:  # type: ignore[override]
        """Say so if a validation outside training has put another threshold in place of the trained one."""
        before, now = self._threshold, _threshold(pl_module)
        is_fitting = trainer.state.fn == TrainerFn.FITTING
        if is_fitting or math.isnan(before) or math.isclose(before, now, rel_tol=1e-4) or not trainer.is_global_zero:
            return
        logger.warning(
            "This validation has given another threshold: raw scores above %.4g are defective now, before it was %.4g. "
            "What this model tests, predicts and exports from here on has the new one; the checkpoint has the old.",
            *(now, before),
        )

    def on_test_start(self, trainer: Trainer, pl_module: "Ear") -> None:  # type: ignore[override]
        """Refuse an untrained model before the first image is read, and say which images it was trained on."""
        _check(pl_module, trainer.test_dataloaders)
        _warn_without_threshold(trainer, pl_module)
        _warn_of_training_images(trainer, pl_module, trainer.test_dataloaders)

    def on_predict_start(self, trainer: Trainer, pl_module: "Ear") -> None:  # type: ignore[override]
        """Refuse an untrained model, and photographs that cannot be read, before the first is scored."""
        _check(pl_module, trainer.predict_dataloaders)
        _warn_without_threshold(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: "Ear") -> None:  # type: ignore[override]
        """Say so if there was nothing to learn in."""
        before = pl_module.start.steps
        if before and trainer.global_step == before:
            logger.warning(
                "Nothing was learned: the training was complete after %d epochs and %d steps. Give a larger "
                "--trainer.max_epochs, max_steps or max_time to go on.",
                trainer.current_epoch,
                before,
            )
        elif trainer.global_step <= 1:  # the first step's learning rate is 0
            logger.warning(
                "Nothing was learned: the training had %d steps. Give more epochs or photographs, or let "
                "accumulate_grad_batches be smaller.",
                trainer.global_step,
            )

    def on_train_end(self, trainer: Trainer, pl_module: "Ear") -> None:  # type: ignore[override]
        """Calibrate where neither a validation nor a checkpoint asked for it, and say what is missing without one."""
        trainer.check_val_every_n_epoch = self._every_n_epochs
        pl_module.calibrate()
        if not trainer.is_global_zero:
            return
        if self._validated_step not in (-1, trainer.global_step):
            logger.warning(
                "The last validation was at step %d of %d. The checkpoint that was written after it has its threshold, "
                "later weights have none. Let --trainer.check_val_every_n_epoch or val_check_interval be smaller.",
                self._validated_step,
                trainer.global_step,
            )
        else:
            _warn_without_threshold(trainer, pl_module)
        if not pl_module.is_calibration_full:
            logger.warning(
                "A callback stopped the training after the validation of an epoch that was not to be the last: two "
                "copies of each photograph calibrate the model, not all, and it finds less. Let it set "
                "trainer.should_stop before the epoch ends, or take an EarlyStopping."
            )


def _check(model: "Ear", loaders: Any) -> None:  # noqa: ANN401  Lightning's
    """Refuse an untrained model and photographs that cannot be read, and say which have a doubtful size."""
    model.insist_on_training()
    for loader in _each(loaders):
        check_photographs(getattr(loader, "dataset", None), model.training_data.sizes)
        warn_of_mixed_batches(loader)


def _each(loaders: Any) -> list[Any]:  # noqa: ANN401  Lightning's
    """Return one loader, or several, as a list."""
    return list(loaders) if isinstance(loaders, list | tuple) else [loaders]


def _threshold(model: "Ear") -> float:
    """Return the threshold of raw scores; NaN if there is none."""
    return float(getattr(model.post_processor, "image_threshold", math.nan))


def _warn_without_threshold(trainer: Trainer, model: "Ear") -> None:
    """Say so if there is no threshold from good images."""
    threshold = getattr(model.post_processor, "image_threshold", None)
    is_asked = getattr(model.post_processor, "enable_thresholding", False)
    if not is_asked or threshold is None or not threshold.isnan() or not trainer.is_global_zero:
        return
    logger.warning(
        "Nothing was validated with these weights, so there is no threshold from good images: parts above 0.5, the "
        "bound of the training images, are called defective. Train with validation images (--data.val_split_mode "
        "from_train), or validate."
    )


def _warn_of_training_images(trainer: Trainer, model: "Ear", loaders: Any) -> None:  # noqa: ANN401  Lightning's
    """Say so if the model is to be judged by images that it was trained on: a split without a seed is drawn anew."""
    for loader in _each(loaders) if trainer.is_global_zero else ():
        dataset = getattr(loader, "dataset", None)
        if text := model.training_data.among(dataset, getattr(trainer, "datamodule", None)):
            logger.warning(
                "%s. Figures of such images flatter the model: split as in training (--data.seed), or keep copies out.",
                text,
            )


def do_without_validation(datamodule: Any, *, is_asked: bool) -> None:  # noqa: ANN401  anybody's
    """Let a datamodule that splits off no validation images give none; anomalib's fail.

    Args:
        datamodule: Any datamodule that is set up.
        is_asked: Whether it is to give validation images.

    Raises:
        ValueError: If it is to give some, and has none.
    """
    is_the_host_s = getattr(type(datamodule), "val_dataloader", None) is AnomalibDataModule.val_dataloader
    if not is_the_host_s or hasattr(datamodule, "val_data"):
        return
    if is_asked:
        msg = f"there are no validation images: val_split_mode is '{datamodule.val_split_mode.value}'."
        raise ValueError(msg)
    datamodule.val_dataloader = MethodType(_validation, datamodule)


def _validation(datamodule: AnomalibDataModule) -> Any:  # noqa: ANN401  the host's
    return AnomalibDataModule.val_dataloader(datamodule) if hasattr(datamodule, "val_data") else []


def check_trainer(trainer: Trainer) -> None:
    """Refuse a trainer that would convert the network, or average its weights.

    Raises:
        ValueError: If it does.
    """
    if trainer.precision not in _PRECISIONS:
        msg = (
            f"--trainer.precision must be one of {', '.join(_PRECISIONS)}, got {trainer.precision}. Leave it out: Ear "
            "trains its U-Net in bfloat16 where the processor has it, and computes all else in float32."
        )
        raise ValueError(msg)
    every = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it in a connector
    if averaging := [type(callback).__name__ for callback in every if isinstance(callback, _AVERAGING)]:
        msg = (
            f"{averaging[0]} averages weights and the statistics that Ear takes of the training images: leave it out. "
            "The learning rate falls to 0 by itself."
        )
        raise ValueError(msg)


def insist_on_good(batch: ImageBatch) -> None:
    """Refuse training images that are labelled defective: what is learned from would not be found.

    Raises:
        ValueError: If there is one; names it where it has a path.
    """
    labels = batch.gt_label
    if labels is not None and labels.any():
        index = int(labels.flatten().nonzero()[0])
        which = batch.image_path[index] if batch.image_path else "an image"
        msg = f"{which} is labelled defective: Ear trains on good images only."
        raise ValueError(msg)


def refuse_finders(trainer: Trainer) -> None:
    """Refuse to go on from a checkpoint after trials: these forget where it was, and training begins anew.

    Raises:
        ValueError: If the trainer has a finder of learning rates or batch sizes.
    """
    if Path(trainer.ckpt_path or "").name.startswith(_TRIALS):  # the finder's own way back
        return
    every = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it in a connector
    if finders := [type(callback).__name__ for callback in every if isinstance(callback, _FINDERS)]:
        msg = f"{finders[0]} forgets where the checkpoint's training was: leave it out to go on from a checkpoint."
        raise ValueError(msg)


def may_be_kept(trainer: Trainer) -> bool:
    """Tell whether what the present epoch leaves may be the trained model.

    That is so if training ends with it, or if its validation decides whether it does or which checkpoint is the best.
    """
    epochs = trainer.current_epoch + 1
    if epochs == trainer.max_epochs or (trainer.should_stop and epochs >= (trainer.min_epochs or 0)):
        return True
    every = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it in a connector
    return any(isinstance(each, EarlyStopping | ModelCheckpoint) and each.monitor is not None for each in every)
