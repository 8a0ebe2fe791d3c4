# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What is recovered and compared: pixels, or features of frozen networks."""

from collections.abc import Callable

from anomalib_ear.method.spaces.base import Space
from anomalib_ear.method.spaces.features import FeatureSpace
from anomalib_ear.method.spaces.pixels import PixelSpace

__all__ = ["SPACES", "FeatureSpace", "PixelSpace", "Space", "build_space"]

# Any other name is that of a network of timm's.
SPACES: dict[str, Callable[[], Space]] = {"pixels": PixelSpace, "mnist": FeatureSpace}


def build_space(name: str, backbone_scale: float = 0.75) -> Space:
    """Build a space, with random weights where it has any.

    Args:
        name: ``"pixels"``; ``"mnist"`` for the features of the attention network that comes with the package; or the
            name of a convolutional network in timm, for these and its own.
        backbone_scale: Share of the image's height and width at which the latter looks at it.

    Raises:
        ValueError: If there is none of that name, or not of that scale.
    """
    return SPACES[name]() if name in SPACES else FeatureSpace(name, backbone_scale)
