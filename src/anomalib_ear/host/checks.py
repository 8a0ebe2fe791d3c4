# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Checks of a data set before training: of photographs the headers, of masks also what they mark."""

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from anomalib import TaskType
from anomalib.data import AnomalibDataset, Folder
from anomalib.data.errors import MisMatchError
from anomalib.data.utils import LabelName, ValSplitMode
from anomalib.data.utils.path import resolve_path
from lightning.pytorch.trainer.states import TrainerFn
from torchvision.transforms.v2 import Resize, Transform
from torchvision.tv_tensors import Image

from anomalib_ear.deploy.files import sha256
from anomalib_ear.deploy.photographs import doubts
from anomalib_ear.deploy.pre_processing import resized, steps
from anomalib_ear.deploy.sizes import Size, TrainedSizes, distortion, doubt
from anomalib_ear.images import MASK_FOLDERS, SUFFIXES, read_image, read_size, to_unit
from anomalib_ear.masks import read_mask, read_mask_size

logger = logging.getLogger(__name__)

# Factor by which a resize may change the aspect ratio without a warning.
_TOLERANCE = 1.05
# Advised sizes are multiples of this, to which the default model pads.
_MULTIPLE = 64
# An advised size may have this many times the area that was asked for.
_MAX_GROWTH = 3
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
    trained = [path for path in _photographs(getattr(datamodule, "train_data", None)) if path in sizes]
    size = resized(transform)
    if size is None:
        _check_network_size(datamodule, sizes, transform)
    else:
        squashed = [sizes[path] for path in trained]
        _warn_of_squashing(squashed, size, getattr(datamodule, "train_augmentations", None))
    _warn_of_augmentations(datamodule)
    _warn_of_test_images(datamodule)
    _warn_of_darkness(trained)
    _warn_of_strange_masks(masks)
    if isinstance(datamodule, Folder):
        _warn_of_other_files(datamodule)
        if datamodule.mask_dir is None:
            _warn_of_masks(datamodule)


def trained_sizes(datamodule: Any, transform: Transform | None) -> TrainedSizes | None:  # noqa: ANN401  anybody's
    """Return what is to be known of the training photographs' sizes.

    Args:
        datamodule: Any datamodule.
        transform: The model's transform.

    Returns:
        ``None`` if the images are no files.
    """
    sizes = [read_size(path) for path in _photographs(getattr(datamodule, "train_data", None))]
    if not sizes:
        return None
    resizes = [step for step in steps(transform) if isinstance(step, Resize)]
    # Without a height and a width to resize to, all of them have been seen to reach the network in one size.
    return TrainedSizes.of(sizes, resized(transform) or _transformed(sizes[0], *resizes))


def check_photographs(dataset: Any, trained: TrainedSizes | None) -> None:  # noqa: ANN401  anybody's
    """Check the headers of photographs, and name one whose size makes its score doubtful.

    Args:
        dataset: Data set of files; of others nothing is checked.
        trained: What ``trained_sizes`` returned.

    Raises:
        OSError: If a photograph cannot be read; names it.
        ValueError: If what a file holds is not one photograph; names it.
    """
    photographs = _photographs(dataset)
    found = ((path, doubt(read_size(path), trained)) for path in photographs)
    others = [(path, text) for path, text in found if text is not None]
    if others:
        logger.warning("%d of %d photographs, such as '%s': %s.", len(others), len(photographs), *others[0])


def warn_of_mixed_batches(loader: Any) -> None:  # noqa: ANN401  anybody's
    """Say if a loader's photographs differ in size: the host resizes a batch to its largest, the model does it again.

    Datamodules that the host has resize each photograph before.

    Args:
        loader: Loader of a data set of files; of others nothing is checked.
    """
    dataset = getattr(loader, "dataset", None)
    # Not the loader's own batch_size, which Lightning's loader of a prediction has not.
    is_single = getattr(getattr(loader, "batch_sampler", None), "batch_size", None) == 1
    if is_single or getattr(dataset, "augmentations", None) is not None:
        return
    photographs = {read_size(path): path for path in _photographs(dataset)}
    if len(photographs) > 1:
        (one, first), (other, second), *_ = photographs.items()
        logger.warning(
            "'%s' has %d x %d pixels (height x width), '%s' %d x %d. In one batch they are resized twice, and what is "
            "scored depends on the batch: give the data set a Resize as its augmentations, or its loader batch_size=1.",
            *(first, *one, second, *other),
        )


def _photographs(dataset: Any) -> list[str]:  # noqa: ANN401  anybody's
    """Return the paths of a data set's photographs; none of videos, and where there are no files."""
    is_labelled = isinstance(dataset, AnomalibDataset)
    paths = dataset.samples.image_path if is_labelled else getattr(dataset, "image_filenames", ())
    return [str(path) for path in paths if Path(path).suffix.lower() in SUFFIXES]


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


def _check_network_size(datamodule: Any, sizes: Mapping[str, Size], transform: Transform | None) -> None:  # noqa: ANN401
    """Refuse photographs that would reach the network in several sizes: statistics of places have one."""
    seen: dict[Size, str] = {}
    for name in ("train", "val", "test"):
        subset = getattr(datamodule, f"{name}_data", None)
        if isinstance(subset, AnomalibDataset):
            paths = {sizes[path]: path for path in subset.samples.image_path if path in sizes}
            for size, path in paths.items():
                seen.setdefault(_transformed(size, getattr(datamodule, f"{name}_augmentations", None), transform), path)
    if len(seen) > 1:
        (one, first), (other, second), *_ = seen.items()
        msg = (
            f"'{first}' would reach the network with {one[0]} x {one[1]} pixels (height x width), '{second}' with "
            f"{other[0]} x {other[1]}: let the pre-processor resize to a height and a width."
        )
        raise ValueError(msg)


def _warn_of_squashing(sizes: list[Size], image_size: Size, augmentations: Transform | None) -> None:
    """Say which image size would keep the photographs' aspect ratio, and whether it differs between them."""
    if not sizes:
        return
    ordered = sorted(sizes, key=lambda size: size[1] / size[0])
    usual = ordered[len(ordered) // 2]
    varied = max(distortion(size, usual) for size in (ordered[0], ordered[-1])) > _TOLERANCE
    if augmentations is None and varied:
        logger.warning(
            "Photographs differ in shape, %d x %d to %d x %d pixels (height x width). All are squashed to %d x %d.",
            *(*ordered[0], *ordered[-1], *image_size),
        )
    cropped = _transformed(usual, augmentations)
    advised = advise_size(cropped, math.prod(image_size))
    if distortion(cropped, image_size) > max(_TOLERANCE, distortion(cropped, advised)):
        logger.warning(
            "%s of %d x %d pixels (height x width) are squashed to %d x %d. "
            "--model.image_size '[%d,%d]' keeps their shape.",
            "Most photographs, like those" if varied else "Photographs",
            *(*cropped, *image_size, *advised),
        )


def _transformed(size: Size, *transforms: Transform | None) -> Size:
    """Return the size that a photograph has after transforms, which may crop."""
    image = Image(torch.zeros(3, *size))
    for transform in filter(None, transforms):
        image = transform(image)
    height, width = image.shape[-2:]
    return height, width


def advise_size(photograph: Size, area: int) -> Size:
    """Return the size to which photographs should be resized.

    Args:
        photograph: Height and width in pixels.
        area: Number of pixels that the model was to look at.

    Returns:
        Height and width in multiples of 64. Their ratio is the photograph's within 5 %, or as near as can be. Their
        area is as near as possible to the one given, or to the photograph's own where that is smaller.
    """
    wanted = max(min(area, math.prod(photograph)), _MULTIPLE**2)
    most = max(_MAX_GROWTH * area // _MULTIPLE**2, 1)
    candidates = [
        (_MULTIPLE * rows, _MULTIPLE * columns) for rows in range(1, most + 1) for columns in range(1, most // rows + 1)
    ]
    near = [size for size in candidates if distortion(photograph, size) <= _TOLERANCE]
    if not near:
        return min(candidates, key=lambda size: distortion(photograph, size))
    return min(near, key=lambda size: abs(math.log(math.prod(size) / wanted)))


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
