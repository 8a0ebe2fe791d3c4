# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The one way in which photographs are read, in training and on the line; needs only numpy and pillow.

A photograph is read at its file's own full range and upright, as a viewer shows it. What cannot be read so is refused
by name: files of several pages, integers or floats whose white is unknown, damaged files. Of a phone's MPO file the
first picture is the photograph. Transparency is left out: a photograph's pixels are the colours that the file holds.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomalib_ear.decoding import (
    REMEDY,
    RefusedError,
    check_range,
    decode,
    is_deep,
    opened,
    orientation,
    to_colours,
    upright_size,
)

# Suffixes, in lower case, of what counts as a photograph: anomalib's, so that training and the line see the same files.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
# Folders of masks, as users name them.
MASK_FOLDERS = ("masks", "mask", "ground_truth")
# How names of masks beside their photographs end, without the suffix.
MASK_NAME = re.compile(r"_(label|GT|mask)$")
# What a user may not expect. Each ends a sentence that begins with the file's name.
NOTES = (
    "is turned upright, as its EXIF orientation says and viewers do; anomalib's own reader leaves it lying",
    "is read at its full range; anomalib's own reader cuts off all but 8 bits",
    "has transparent pixels, which are read in the colours that they hide",
)


class DecodedPhotograph(NamedTuple):
    """A photograph as it is read.

    Attributes:
        pixels: ``(H, W)`` if grey or ``(H, W, 3)`` if RGB; uint8 or uint16 of full range, or float32 in [0, 1].
        notes: Those of ``NOTES`` that apply.
    """

    pixels: NDArray[Any]
    notes: tuple[str, ...]


def read_image(path: str | Path) -> NDArray[Any]:
    """Read a photograph upright and at its full range.

    Args:
        path: File.

    Returns:
        ``(H, W)`` if grey or ``(H, W, 3)`` if RGB; uint8 or uint16 of full range, or float32 in [0, 1].

    Raises:
        OSError: If the file cannot be read; names it.
        ValueError: If what it holds is not one photograph of known range; names it.
    """
    return read_photograph(path).pixels


def read_photograph(path: str | Path) -> DecodedPhotograph:
    """Read a photograph as :func:`read_image` does, and note what is special about it."""
    with opened(path) as image:
        check_range(image)
        deep = is_deep(image) or image.mode.startswith(("I", "F"))
        pixels = decode(image, path, to_colours)
        turned = orientation(image) != 1
        is_transparent = image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] != 255
        if pixels.dtype == np.float32 and not (pixels.min() >= 0 and pixels.max() <= 1):  # false for NaN
            msg = f"has floating-point values outside [0, 1], of {pixels.min():g} to {pixels.max():g}: {REMEDY}"
            raise RefusedError(msg)
    special = zip(NOTES, (turned, deep, is_transparent), strict=True)
    return DecodedPhotograph(pixels, tuple(note for note, applies in special if applies))


def to_unit(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Scale what :func:`read_image` gives to [0, 1]: 255 or 65535 becomes 1.

    Args:
        pixels: Array of any shape; uint8, uint16, or float32 in [0, 1].

    Returns:
        The same shape in [0, 1].
    """
    if pixels.dtype == np.float32:
        return np.array(pixels, np.float32)  # writable, as torch wants it
    scaled: NDArray[np.float32] = pixels.astype(np.float32)
    scaled *= np.float32(1 / np.iinfo(pixels.dtype).max)  # to the last bit as torchvision does it
    return scaled


def read_size(path: str | Path) -> tuple[int, int]:
    """Read height and width of an upright photograph from its header, which is checked too.

    Raises:
        OSError: If the header cannot be read; names the file.
        ValueError: If it is not one photograph of known range; names the file.
    """
    with opened(path) as image:
        check_range(image)
        return upright_size(image)
