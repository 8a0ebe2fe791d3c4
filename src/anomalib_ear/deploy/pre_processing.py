# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What a pre-processing does to photographs, and what of it an exported model has."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from anomalib.pre_processing import PreProcessor
from torch import nn
from torchvision.transforms.v2 import CenterCrop, Compose, Grayscale, Normalize, Resize, Transform

from anomalib_ear.deploy.resize import ExportableResize
from anomalib_ear.deploy.sizes import Size

# Steps that look at each pixel alone, so that it does not matter whether a resize comes before them or after.
_OF_PIXELS = (Grayscale, Normalize)


def steps(transform: Transform | None) -> list[Transform]:
    """Return the single steps of a transform, in order."""
    if isinstance(transform, Compose):
        return [step for each in transform.transforms for step in steps(each)]
    return [] if transform is None else [transform]


def check_transform(transform: Transform | None) -> None:
    """Refuse a pre-processing that would not be one and the same in training, from a checkpoint and in an export.

    anomalib resizes the images of training and test before all steps, and those of predict in their order. It restores
    a few kinds of steps only. A crop behind a resize of one side it exports with the sizes of the image that it traces.

    Raises:
        ValueError: If it is more than one resize, which a crop may follow, or leaves one channel.
    """
    if any(isinstance(step, Grayscale) and step.num_output_channels != 3 for step in steps(transform)):
        msg = "pre_processor has Grayscale of one channel, and Ear looks at three: use Grayscale(3)."
        raise ValueError(msg)
    every = [step for step in steps(transform) if type(step) not in _OF_PIXELS]
    kinds = [type(step) for step in every]
    if kinds in ([], [Resize]) or (kinds == [Resize, CenterCrop] and resized(transform) is not None):
        return
    msg = (
        f"pre_processor has {', '.join(map(str, every))}: it must be one Resize, which a CenterCrop may follow if it "
        "is to a height and a width. What varies images belongs to the data, such as --data.train_augmentations."
    )
    raise ValueError(msg)


def resized(transform: Transform | None) -> Size | None:
    """Return height and width to which a transform resizes; ``None`` if it does not, or only one side."""
    sizes: list[Sequence[int]] = [step.size or () for step in steps(transform) if isinstance(step, Resize)]
    return next(((size[0], size[1]) for size in sizes if len(size) == 2), None)


def has(pre_processor: nn.Module | None, kind: type[Transform]) -> bool:
    """Return whether a step of a pre-processing is of a kind."""
    return any(isinstance(step, kind) for step in steps(getattr(pre_processor, "transform", None)))


def is_only_resized(pre_processor: nn.Module | None) -> bool:
    """Return whether a pre-processing does nothing but resize, or nothing at all."""
    return all(isinstance(step, Resize) for step in steps(getattr(pre_processor, "transform", None)))


@contextmanager
def without_resize(pre_processor: nn.Module | None) -> Iterator[Size | None]:
    """Leave the resize out of what is exported.

    Yields:
        Its height and width, ``None`` where an exported pre-processing is more, or other, than one resize.
    """
    if not isinstance(pre_processor, PreProcessor) or not isinstance(pre_processor.export_transform, ExportableResize):
        yield None
        return
    transform = pre_processor.export_transform
    pre_processor.export_transform = None
    try:
        yield transform.size
    finally:
        pre_processor.export_transform = transform
