# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""In which sizes a data set's photographs are, and reach the network."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from anomalib.data import AnomalibDataset
from torchvision.transforms.v2 import Resize, Transform
from torchvision.tv_tensors import Image

from anomalib_ear.deploy.pre_processing import resized, steps
from anomalib_ear.deploy.sizes import Size, TrainedSizes, distortion, doubt
from anomalib_ear.images import SUFFIXES, read_size

logger = logging.getLogger(__name__)

# Factor by which a resize may change the aspect ratio without a warning.
_TOLERANCE = 1.05
# Advised sizes are multiples of this, to which the default model pads.
_MULTIPLE = 64
# An advised size may have this many times the area that was asked for.
_MAX_GROWTH = 3


def trained_sizes(datamodule: Any, transform: Transform | None) -> TrainedSizes | None:  # noqa: ANN401  anybody's
    """Return what is to be known of the training photographs' sizes.

    Args:
        datamodule: Any datamodule.
        transform: The model's transform.

    Returns:
        ``None`` if the images are no files.
    """
    sizes = [read_size(path) for path in photograph_paths(getattr(datamodule, "train_data", None))]
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
    photographs = photograph_paths(dataset)
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
    photographs = {read_size(path): path for path in photograph_paths(dataset)}
    if len(photographs) > 1:
        (one, first), (other, second), *_ = photographs.items()
        logger.warning(
            "'%s' has %d x %d pixels (height x width), '%s' %d x %d. In one batch they are resized twice, and what is "
            "scored depends on the batch: give the data set a Resize as its augmentations, or its loader batch_size=1.",
            *(first, *one, second, *other),
        )


def check_network_size(datamodule: Any, sizes: Mapping[str, Size], transform: Transform | None) -> None:  # noqa: ANN401
    """Refuse photographs that would reach the network in several sizes: statistics of places have one.

    Args:
        datamodule: Any datamodule.
        sizes: Height and width in pixels of each photograph, by its path.
        transform: The model's transform, which does not resize all to one height and width.

    Raises:
        ValueError: If they would; names two photographs.
    """
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


def warn_of_squashing(sizes: list[Size], image_size: Size, augmentations: Transform | None) -> None:
    """Say which image size would keep the photographs' aspect ratio, and whether it differs between them.

    Args:
        sizes: Heights and widths of the photographs in pixels.
        image_size: Height and width to which the model resizes.
        augmentations: What the datamodule does to training images before.
    """
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


def photograph_paths(dataset: Any) -> list[str]:  # noqa: ANN401  anybody's
    """Return the paths of a data set's photographs; none of videos, and where there are no files.

    Args:
        dataset: Data set of anomalib, labelled or for prediction.
    """
    is_labelled = isinstance(dataset, AnomalibDataset)
    paths = dataset.samples.image_path if is_labelled else getattr(dataset, "image_filenames", ())
    return [str(path) for path in paths if Path(path).suffix.lower() in SUFFIXES]


def _transformed(size: Size, *transforms: Transform | None) -> Size:
    """Return the size that a photograph has after transforms, which may crop."""
    image = Image(torch.zeros(3, *size))
    for transform in filter(None, transforms):
        image = transform(image)
    height, width = image.shape[-2:]
    return height, width
