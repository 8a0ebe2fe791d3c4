# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What a model was trained and validated on, so that later commands can tell whether they are given the same.

int8 takes statistics from training images and thresholds from validation images. Under another split these are images
of the wrong kind, and nothing but wrong labels would show it. Files are known by their content, so that a data set may
move and be renamed.
"""

import logging
from collections import Counter
from enum import Enum
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomalib.data import AnomalibDataset
from anomalib.data.utils.synthetic import SyntheticAnomalyDataset

from anomalib_ear.deploy.sizes import TrainedSizes

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from torch.utils.data import Dataset

# Attributes of datamodules that do not decide which image is in which split.
_INDIFFERENT = frozenset({"name", "root", "train_batch_size", "eval_batch_size", "num_workers"})

# Keys in a checkpoint.
_RECORD = "anomalib_ear_training_data"
_SIZES = "anomalib_ear_trained_sizes"

Record = dict[str, Any]

logger = logging.getLogger(__name__)


class TrainingData:
    """What a model was trained and validated on, as its checkpoints carry it.

    Attributes:
        sizes: What is known of the training photographs' sizes; ``None`` where they are no files.
    """

    def __init__(self) -> None:
        self.sizes: TrainedSizes | None = None
        self._record: Record | None = None
        self._noted: list[str] | None = None  # the files that the record is of

    def note(self, trainer: "Trainer | None") -> None:
        """Note the data of a trainer's present or last training; reads each file once per training."""
        train = getattr(getattr(trainer, "train_dataloader", None), "dataset", None)
        if trainer is None or train is None:
            return
        loaders = trainer.val_dataloaders
        validation = getattr(loaders[0] if isinstance(loaders, list) and loaders else loaders, "dataset", None)
        noted = files(train, validation)
        if noted == self._noted:
            return
        self._record, self._noted = None, noted
        try:
            self._record = record(train, validation, getattr(trainer, "datamodule", None))
        except OSError as error:  # must not cost the checkpoint
            logger.warning("What the model was trained on could not be noted: %s.", error)
        if self._record is not None and (count := copies(self._record)):
            logger.warning(
                "%d of the photographs for validation are copies of some for training. New good parts are none and "
                "may exceed the threshold more often. `python -m anomalib_ear.data.duplicates FOLDER` names them.",
                count,
            )

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Write it into a checkpoint."""
        if self._record is not None:
            checkpoint[_RECORD] = self._record
        if self.sizes is not None:
            checkpoint[_SIZES] = list(self.sizes)

    def load(self, checkpoint: dict[str, Any], *, is_fitting: bool) -> None:
        """Take over a checkpoint's.

        Args:
            checkpoint: The checkpoint.
            is_fitting: Whether a training is to go on: the sizes are then those of the data at hand.
        """
        self._record = checkpoint.get(_RECORD)
        if not is_fitting or self.sizes is None:
            noted = checkpoint.get(_SIZES)
            self.sizes = None if noted is None else TrainedSizes(*noted)

    def changes(self, trainer: "Trainer") -> str:
        """Say how the data of the training that begins differ from these; empty if not, or if that is not known."""
        before = self._record
        self.note(trainer)
        if before is None or self._record is None:
            return ""
        return "; ".join(filter(None, compare(before, self._record)))

    def among(self, dataset: "Dataset[Any] | None", datamodule: object) -> str:
        """Say how many images of a data set were trained on; empty if none, or if that is not known."""
        return "" if self._record is None else trained_on(self._record, dataset, datamodule)

    def insist_on(
        self,
        trainer: "Trainer | None",
        train: "Dataset[Any]",
        validation: "Dataset[Any] | None",
        datamodule: object,
    ) -> None:
        """Refuse data whose training images were not trained on, or whose validation images were.

        Args:
            trainer: Of the last training in this process, if there was one.
            train: Training images that are given.
            validation: Validation images that are given, if there are any.
            datamodule: Where they come from.

        Raises:
            ValueError: If they are such; says how many, and which settings differ.
        """
        self.note(trainer)
        if self._record is None:
            logger.warning("The model does not say what it was trained on: make sure that --data splits as then.")
            return
        given = record(train, validation, datamodule)
        if given is None:
            logger.warning("--data has no files: make sure that it splits as in training.")
            return
        error, warning = compare(self._record, given)
        if error:
            msg = (
                f"--data is not what the model was trained on: {error}. Give the training's --data with the same "
                "settings (and files), or train again."
            )
            raise ValueError(msg)
        if warning:
            logger.warning("--data differs from the training's: %s.", warning)


def record(train: "Dataset[Any] | None", validation: "Dataset[Any] | None", datamodule: object) -> Record | None:
    """Note what a model is trained and validated on.

    Args:
        train: Training images.
        validation: Validation images, if there are any.
        datamodule: Where they come from, if from one; its settings explain a difference.

    Returns:
        Plain data: ``train`` and ``validation``, digests of the images, and ``settings`` of the datamodule; ``None``
        if the training images are no files.
    """
    images = _digests(train)
    if images is None:
        return None
    return {"train": images, "validation": _digests(validation, labels=True), "settings": _settings(datamodule)}


def files(*datasets: "Dataset[Any] | None") -> list[str]:
    """Return the images' paths of data sets that have such."""
    return [path for dataset in datasets if isinstance(dataset, AnomalibDataset) for path in dataset.samples.image_path]


def copies(trained: Record) -> int:
    """Count the validation images that the model was trained on, under another name."""
    return (Counter(_images(trained["validation"])) & Counter[str](trained["train"])).total()


def compare(trained: Record, given: Record) -> tuple[str, str]:
    """Say how the data that are given differ from those that a model was trained and validated on.

    Args:
        trained: The model's record.
        given: Record of the data that are given.

    Returns:
        What must not differ but does, and what else differs; each empty if there is nothing.
    """
    train, now = Counter[str](trained["train"]), Counter[str](given["train"])
    validation, now_validation = (Counter(_images(each["validation"])) for each in (trained, given))
    strangers, leaked = now - train, now_validation & (train - validation)
    errors, warnings = [], []
    if strangers:
        held_out = (strangers & validation).total()
        errors.append(
            f"{strangers.total()} of {now.total()} training images were not trained on"
            f"{f' ({held_out} of them validated)' if held_out else ''}"
        )
    if leaked:
        errors.append(f"{leaked.total()} of {now_validation.total()} validation images were trained on")
    if missing := (train - now).total():
        warnings.append(f"{missing} of {train.total()} images that were trained on are not among the training images")
    if None in (trained["validation"], given["validation"]):
        if (trained["validation"] is None) != (given["validation"] is None):
            warnings.append("the validation images cannot be compared, for they are drawn anew by every process")
    elif Counter(trained["validation"]) != Counter(given["validation"]) and not leaked:
        same = (Counter(trained["validation"]) & Counter(given["validation"])).total()
        warnings.append(
            f"of {len(trained['validation'])} validation images {same} are the same, with the same label and mask, "
            f"among {len(given['validation'])}: the threshold is another"
        )
    settings = trained["settings"], given["settings"]
    return _sentence(errors, *settings), _sentence(warnings, *settings)


def trained_on(trained: Record, dataset: "Dataset[Any] | None", datamodule: object) -> str:
    """Say how many images of a data set a model was trained on; empty if none, or if that cannot be told.

    Args:
        trained: The model's record.
        dataset: Images to judge the model by.
        datamodule: Where they come from, if from one; its settings explain it.
    """
    images, known = _digests(dataset) or [], {*trained["train"]}
    count = sum(image in known for image in images)
    parts = [f"{count} of {len(images)} photographs were trained on"] if count else []
    return _sentence(parts, trained["settings"], _settings(datamodule))


def _sentence(parts: list[str], before: dict[str, Any], after: dict[str, Any]) -> str:
    """Join what differs, and the settings that may be why."""
    if not parts:
        return ""
    why = [
        f"{name} is {after.get(name)!r}, was {before.get(name)!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    return "; ".join(parts) + (f" ({', '.join(why)})" if why else "")


def _settings(datamodule: object) -> dict[str, Any]:
    """Return the plain ones of a datamodule's settings, and its kind."""
    if datamodule is None:
        return {}
    values = {name: value.value if isinstance(value, Enum) else value for name, value in vars(datamodule).items()}
    plain = {name: value for name, value in values.items() if isinstance(value, bool | int | float | str | None)}
    settings = {name: value for name, value in plain.items() if not name.startswith("_") and name not in _INDIFFERENT}
    return {"datamodule": type(datamodule).__name__} | settings


def _digests(dataset: "Dataset[Any] | None", *, labels: bool = False) -> list[str] | None:
    """Return a digest of each file of a dataset, with its label and mask if asked for; ``None`` if there is no file."""
    if dataset is None:
        return []
    if not isinstance(dataset, AnomalibDataset) or isinstance(dataset, SyntheticAnomalyDataset):
        return None
    samples = dataset.samples
    images = [_digest(path) for path in samples.image_path]
    if not labels:
        return images
    masks = samples.mask_path if "mask_path" in samples else [""] * len(images)
    kinds = samples.label_index if "label_index" in samples else [0] * len(images)
    return [
        f"{image} {int(kind)} {_digest(mask) if isinstance(mask, str) and mask else ''}"
        for image, kind, mask in zip(images, kinds, masks, strict=True)
    ]


def _digest(path: str) -> str:
    return blake2b(Path(path).read_bytes(), digest_size=8).hexdigest()


def _images(digests: list[str] | None) -> list[str]:
    """Return the images' part of digests with labels."""
    return [digest.split(" ")[0] for digest in digests or ()]
