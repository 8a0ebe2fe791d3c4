# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What is recovered and compared: pixels, or features of frozen networks."""

from anomalib_ear.method.pretrained import INSTALLED
from anomalib_ear.method.spaces.base import Space
from anomalib_ear.method.spaces.features import FeatureSpace
from anomalib_ear.method.spaces.pixels import PixelSpace

__all__ = ["DEFAULT", "PIXELS", "FeatureSpace", "PixelSpace", "Space", "build_space"]

DEFAULT = INSTALLED
PIXELS = "pixels"


def build_space(name: str = DEFAULT, backbone_scale: float = 0.75) -> Space:
    """Build a space, with random weights where it has any.

    Args:
        name: ``"pixels"``, or the name of a convolutional network in timm, for its features.
        backbone_scale: Share of the image's height and width at which the latter looks at it.

    Raises:
        ValueError: If there is none of that name, or not of that scale.
    """
    return PixelSpace() if name == PIXELS else FeatureSpace(name, backbone_scale)
