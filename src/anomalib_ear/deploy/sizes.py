# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The sizes of photographs, which a resize changes: one that lacks detail, or has another shape, is another picture."""

from collections.abc import Collection
from typing import NamedTuple

# Factor by which the aspect ratio may be beyond those of training, and a side below the least one. Up to it good parts
# that lie almost still are hardly rejected more often, beyond it ever more; textures bear any shape. The
# fewer rows and columns, the more defects are missed; there is no step at which that begins.
_TOLERANCE = 1.1
# A checkpoint and an exported model note the sizes of the training photographs by this name.
TRAINED_SIZES = "trained_sizes"
# How a sentence goes on that begins with the number of those that are doubted.
DOUBTFUL = "of another shape or light than in training, or smaller; such scores may mean little."

Size = tuple[int, int]


class TrainedSizes(NamedTuple):
    """What is known of the training photographs' sizes.

    Attributes:
        narrowest: Least aspect ratio, how many times as wide as high.
        widest: Greatest aspect ratio.
        height: Least height in pixels, of what the network looks at and of the photographs.
        width: Least width likewise.
    """

    narrowest: float
    widest: float
    height: float
    width: float

    @classmethod
    def of(cls, sizes: Collection[Size], seen: Size) -> "TrainedSizes":
        """Sum up photographs.

        Args:
            sizes: Their heights and widths in pixels.
            seen: To which the pre-processing resizes them.

        Returns:
            What they have in common.

        Raises:
            ValueError: If there is none.
        """
        ratios = [aspect_ratio(size) for size in sizes]
        heights, widths = zip(*sizes, seen, strict=True)
        return cls(min(ratios), max(ratios), min(heights), min(widths))


def aspect_ratio(size: Size) -> float:
    """Return how many times as wide as high it is; the size is height and width in pixels."""
    return size[1] / size[0]


def distortion(size: Size, other: Size) -> float:
    """Return by which factor, 1 or more, the aspect ratio changes."""
    ratio = aspect_ratio(size) / aspect_ratio(other)
    return max(ratio, 1 / ratio)


def doubt(size: Size, trained: TrainedSizes | None) -> str | None:
    """Say why the score of a photograph of this size may mean little.

    Args:
        size: Its height and width in pixels.
        trained: What is known of the training photographs; ``None`` if nothing is.

    Returns:
        ``None`` if within the tolerance it is as wide for its height as some of them and has as many pixels as the
        least, or as the network looks at, or if nothing is known of them.
    """
    if trained is None:
        return None
    found, ratio = f"{size[0]} x {size[1]} pixels (height x width)", aspect_ratio(size)
    if not trained.narrowest / _TOLERANCE <= ratio <= trained.widest * _TOLERANCE:
        known = " to ".join(dict.fromkeys(f"{bound:.3g}" for bound in trained[:2]))
        return (
            f"{found} are another shape than in training: {ratio:.3g} times as wide as high, there {known}. Crop or "
            "turn it to match; its score may mean little"
        )
    if size[0] * _TOLERANCE < trained.height or size[1] * _TOLERANCE < trained.width:
        return (
            f"{found} are fewer than the model was trained to look at, {trained.height:.0f} x {trained.width:.0f}. "
            "Enlarged it lacks their detail; small defects may be missed"
        )
    return None
