# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Checks of a data set before training: of photographs the headers, of masks also what they mark."""

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from anomalib import TaskType
from anomalib.data import AnomalibDataset, Folder
from anomalib.data.errors import MisMatchError
from anomalib.data.utils import LabelName, ValSplitMode
from anomalib.data.utils.path import resolve_path
from lightning.pytorch.trainer.states import TrainerFn
from torchvision.transforms.v2 import Transform

from anomalib_ear.deploy.files import sha256
from anomalib_ear.deploy.photographs import doubts
from anomalib_ear.deploy.pre_processing import resized
from anomalib_ear.deploy.sizes import Size
from anomalib_ear.host.sizes import check_network_size, photograph_paths, warn_of_squashing
from anomalib_ear.images import MASK_FOLDERS, SUFFIXES, read_image, read_size, to_unit
from anomalib_ear.masks import read_mask, read_mask_size

logger = logging.getLogger(__name__)

# A mask that marks a larger share of its picture may be inverted.
_MAX_MARKED = 0.5
# Photographs with nothing above this share of white are said to be dark: 14 bits in a file of 16 reach a quarter.
_DARK = 0.25
# Of so many photographs the pixels are looked at, since reading takes time.
_LOOKED_AT = 8


def check_datamodule(datamodule: Any, transform: Transform | None = None) -> None:  # noqa: ANN401  anybody's
    """Check the photographs and masks of a datamodule that is set up.

    Args:
        datamodule: Any datamodule; what is not known of it is not checked.
        transform: The model's transform in training; decides in which sizes photographs reach the network.

    Raises:
        OSError: If a photograph or mask cannot be read, or a mask is missing; names it.
        ValueError: If what a file holds is not one photograph or mask, or it is both good and defective; names it. If
            photographs would reach the network in several sizes; names two.
        MisMatchError: If a mask has another size than its photograph; names both.
    """
    sizes: dict[str, Size] = {}
    masks: dict[str, None] = {}
    every = (getattr(datamodule, name, None) for name in ("train_data", "val_data", "test_data"))
    subsets = [subset for subset in every if isinstance(subset, AnomalibDataset)]
    labels = _check_labels(subsets)
    for subset in subsets:
        _check_subset(subset, sizes, masks)
    _check_copies(labels)
    trainer = getattr(datamodule, "trainer", None)
    if trainer is None or trainer.state.fn != TrainerFn.FITTING:
        return
    trained = [path for path in photograph_paths(getattr(datamodule, "train_data", None)) if path in sizes]
    size = resized(transform)
    if size is None:
        check_network_size(datamodule, sizes, transform)
    else:
        squashed = [sizes[path] for path in trained]
        warn_of_squashing(squashed, size, getattr(datamodule, "train_augmentations", None))
    _warn_of_augmentations(datamodule)
    _warn_of_test_images(datamodule)
    _warn_of_darkness(trained)
    _warn_of_strange_masks(masks)
    if isinstance(datamodule, Folder):
        _warn_of_other_files(datamodule)
        if datamodule.mask_dir is None:
            _warn_of_masks(datamodule)


def _check_labels(subsets: Iterable[AnomalibDataset]) -> dict[Path, int]:
    """Refuse a photograph that is both good and defective; returns the label of each."""
    labels: dict[Path, int] = {}
    for subset in filter(_reads_files, subsets):
        for path, label in zip(subset.samples.image_path, subset.samples.label_index, strict=True):
            if labels.setdefault(Path(path).resolve(), label) != label:
                msg = f"'{path}' is among the good and among the defective photographs: keep them in different folders."
                raise ValueError(msg)
    return {path: label for path, label in labels.items() if path.suffix.lower() in SUFFIXES}


def _check_copies(labels: Mapping[Path, int]) -> None:
    """Refuse a photograph of which one copy is good and another one defective."""
    kinds = defaultdict(set)
    for path, label in labels.items():
        kinds[path.stat().st_size].add(label)
    contents: dict[str, Path] = {}
    for path in sorted(labels, key=lambda path: (labels[path], path)):
        if len(kinds[path.stat().st_size]) == 1:  # no copy has another size, and reading all takes time
            continue
        good = contents.setdefault(sha256(path), path)
        if labels[good] != labels[path]:
            msg = f"'{good}' and '{path}' are one photograph, good and defective: remove it where it is wrong."
            raise ValueError(msg)


def _check_subset(subset: AnomalibDataset, sizes: dict[str, Size], masks: dict[str, None]) -> None:
    """Check a subset's files, and note the sizes of its photographs and the masks of defective ones."""
    reads_masks = _reads_files(subset)
    is_segmentation = subset.samples.attrs.get("task") == TaskType.SEGMENTATION
    for sample in subset.samples.to_dict("records"):
        path = str(sample["image_path"])
        if Path(path).suffix.lower() not in SUFFIXES:  # a video, or a folder of its frames
            continue
        if path not in sizes:
            sizes[path] = read_size(path)
        if reads_masks and is_segmentation and sample["label_index"] == LabelName.ABNORMAL:
            _check_mask(path, sizes[path], str(sample["mask_path"]))
            masks[str(sample["mask_path"])] = None


def _reads_files(subset: AnomalibDataset) -> bool:
    """Return whether items are what the files hold: others may draw defects and masks, or have several masks."""
    return type(subset).__getitem__ is AnomalibDataset.__getitem__


def _check_mask(photograph: str, size: Size, mask: str) -> None:
    if not mask or not Path(mask).is_file():
        expected = f"'{mask}' is not there" if mask else "the data set names none"
        msg = f"no mask for '{photograph}': {expected}. Add it, or leave all masks out."
        raise FileNotFoundError(msg)
    if (found := read_mask_size(mask)) != size:
        hint = " Masks must stand upright, as viewers show the photograph." if found == size[::-1] else ""
        msg = f"mask '{mask}' has {found[1]} x {found[0]} pixels, its image '{photograph}' {size[1]} x {size[0]}.{hint}"
        raise MisMatchError(msg)


def _warn_of_strange_masks(masks: Iterable[str]) -> None:
    """Name masks that mark nothing, or seem to be inverted: figures of such look plausible."""
    shares = {mask: float((read_mask(mask) > 0).mean()) for mask in masks}
    empty = [mask for mask, share in shares.items() if share == 0]
    full = [mask for mask, share in shares.items() if share > _MAX_MARKED]
    if empty:
        logger.warning("%d masks of defective photographs mark nothing, such as '%s'.", len(empty), empty[0])
    if 2 * len(full) > len(shares):
        logger.warning(
            "%d of %d masks mark more than half of the picture, such as '%s'. Are they inverted? Normal is black.",
            *(len(full), len(shares), full[0]),
        )


def _warn_of_augmentations(datamodule: Any) -> None:  # noqa: ANN401  anybody's
    """Warn that augmentations of validation and test act on the datamodule's images only, not in predict or exports."""
    if any(getattr(datamodule, f"{name}_augmentations", None) for name in ("val", "test")):
        logger.warning(
            "The augmentations of validation and test change neither what `predict` sees nor what an exported model "
            "does. If both shall have a CenterCrop, give it behind a Resize in the model's pre_processor."
        )


def _warn_of_darkness(photographs: list[str]) -> None:
    """Say if all photographs are dark: a camera's 10, 12 or 14 bits may lie in files of 16, whose white is 65535."""
    some = photographs[:: math.ceil(len(photographs) / _LOOKED_AT)] if photographs else []
    brightest = max((to_unit(read_image(path).max(keepdims=True)).item() for path in some), default=1)
    if brightest < _DARK:
        logger.warning(
            "No pixel has more than %.1f %% of white in %d training photographs, such as '%s'. They are read as dark, "
            "and faint defects are lost. If files of 16 bits hold fewer, multiply their values so that 65535 is white.",
            *(100 * brightest, len(some), some[0]),
        )


def _warn_of_other_files(datamodule: Folder) -> None:
    """Say which files of the photographs' folders are left out, and which are taken for photographs but are none."""
    for name in ("normal_dir", "normal_test_dir", "abnormal_dir"):
        given = getattr(datamodule, name, None)
        for each in [given] if isinstance(given, str | Path) else given or ():
            for text in doubts(resolve_path(each, datamodule.root)):
                logger.warning("%s", text)


def _warn_of_test_images(datamodule: Any) -> None:  # noqa: ANN401  anybody's
    """Say so if the images for validation are those of the test."""
    if getattr(datamodule, "val_split_mode", None) == ValSplitMode.SAME_AS_TEST:
        logger.warning(
            "val_split_mode same_as_test takes thresholds from the test images: what is found at them flatters the "
            "model. from_train takes good images of training instead."
        )


def _warn_of_masks(datamodule: Folder) -> None:
    for name in MASK_FOLDERS:
        if datamodule.root is not None and (folder := Path(datamodule.root, name)).is_dir():
            logger.warning("The masks in '%s' are not used; --data.mask_dir %s has them used.", folder, name)
