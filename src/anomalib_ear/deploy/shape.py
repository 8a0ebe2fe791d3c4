# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The shape of photographs, which a resize changes: one of another shape than in training becomes another picture."""

from collections.abc import Iterable, Sequence

# Factor by which the aspect ratio may be beyond those of training. Up to it good parts that lie almost still are hardly
# rejected more often, beyond it ever more; textures bear any.
_TOLERANCE = 1.1
# An exported model notes the least and the greatest aspect ratio of its training photographs by this name.
ASPECT_RATIOS = "aspect_ratios"
# How a sentence goes on that begins with their number.
DOUBTFUL = "of another shape than in training; such scores may mean little."

Size = tuple[int, int]
Span = tuple[float, float]


def aspect_ratio(size: Size) -> float:
    """Return how many times as wide as high it is; the size is height and width in pixels."""
    return size[1] / size[0]


def distortion(size: Size, other: Size) -> float:
    """Return by which factor, 1 or more, the aspect ratio changes."""
    ratio = aspect_ratio(size) / aspect_ratio(other)
    return max(ratio, 1 / ratio)


def span(sizes: Iterable[Size]) -> Span | None:
    """Return the least and the greatest aspect ratio; ``None`` if there is no size."""
    ratios = [aspect_ratio(size) for size in sizes]
    return (min(ratios), max(ratios)) if ratios else None


def other_shape(size: Size, trained: Sequence[float] | None) -> str | None:
    """Say that a photograph has another shape than those that a model was trained on.

    Args:
        size: Its height and width in pixels.
        trained: Least and greatest aspect ratio of the training photographs; ``None`` if not known.

    Returns:
        ``None`` if its aspect ratio lies between these, within the tolerance, or if they are not known.
    """
    if not trained:
        return None
    least, greatest = trained
    ratio = aspect_ratio(size)
    if least / _TOLERANCE <= ratio <= greatest * _TOLERANCE:
        return None
    known = " to ".join(dict.fromkeys(f"{bound:.3g}" for bound in trained))
    return (
        f"{size[0]} x {size[1]} pixels (height x width) are another shape than in training: {ratio:.3g} times as wide "
        f"as high, there {known}. Crop or turn it to match; its score may mean little"
    )
