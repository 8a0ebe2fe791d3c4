# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The one way in which masks are read: black is normal, whatever the format; needs only numpy and pillow."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomalib_ear.decoding import RefusedError, check_depth, decode, opened, to_colours, upright_size

_WHITE = np.array(255, np.uint8)


def read_mask(path: str | Path) -> NDArray[np.uint8]:
    """Read a mask upright: black is normal, all else is defective.

    Where the colours have no shape but the transparency has one, opaque pixels are defective. Of JPEG and WebP,
    whose shapes have noise around them, the brighter half is.

    Args:
        path: File.

    Returns:
        ``(H, W)``: 0 where normal, else 1 to 255.

    Raises:
        OSError: If the file cannot be read; names it.
        ValueError: If it is not one picture, or its shape cannot be told; names it.
    """
    with opened(path) as image:
        check_depth(image)
        is_lossy = image.format in {"JPEG", "MPO", "WEBP"} or image.info.get("compression") == "jpeg"
        pixels = decode(image, path, _with_alpha)
        if pixels.dtype.kind not in "u" and not pixels.min() >= 0:  # true for NaN
            msg = "is a mask with negative values: make normal pixels 0 and defective ones positive."
            raise RefusedError(msg)
        return _shape(pixels, is_lossy=is_lossy)


def read_mask_size(path: str | Path) -> tuple[int, int]:
    """Read height and width of an upright mask, from its header where its shape is plain.

    Raises:
        OSError: If it cannot be read; names it.
        ValueError: If it is not one picture, or its shape cannot be told; names it.
    """
    with opened(path) as image:
        if image.mode in {"1", "L"} and image.format not in {"JPEG", "MPO"} and not image.has_transparency_data:
            return upright_size(image)
    height, width = read_mask(path).shape
    return height, width


def _with_alpha(image: Image.Image) -> Image.Image:
    """Convert to grey or RGB, to RGBA if there is transparency; more than 8 bits stay."""
    if image.mode.startswith(("I", "F")):
        return image
    return image.convert("RGBA") if image.has_transparency_data else to_colours(image)


def _shape(pixels: NDArray[Any], *, is_lossy: bool) -> NDArray[np.uint8]:
    """Return the mask of :func:`read_mask`; of a lossy file, whose shapes have noise around them, the brighter half."""
    mask = _levels(pixels)
    level = mask.max() // 2 if is_lossy else 0
    mask = np.where(mask > level, mask, np.uint8(0))
    if mask.all() and mask.min() != mask.max():
        msg = "is a mask of several values without a black pixel: make normal pixels black, else all are defective."
        raise RefusedError(msg)
    return mask


def _levels(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return 0 for normal and 1 to 255 for defective pixels; 8-bit greys keep their values."""
    if pixels.ndim == 2:
        return pixels if pixels.dtype == np.uint8 else _white(pixels > 0)
    coloured: NDArray[np.bool_] = np.any(pixels[..., :3] > 0, axis=-1)
    if pixels.shape[-1] == 4 and not pixels[..., 3].all():
        return _white(_shape_of_alpha(pixels[..., :3], coloured, pixels[..., 3] > 0))
    if pixels.dtype != np.uint8:
        return _white(coloured)
    # The host's greys, but no colour is so dark that it counts as black.
    greys = np.asarray(Image.fromarray(np.ascontiguousarray(pixels[..., :3])).convert("L"))
    levels: NDArray[np.uint8] = np.maximum(greys, coloured)
    return levels


def _white(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return mask.astype(np.uint8) * _WHITE


def _shape_of_alpha(colours: NDArray[Any], coloured: NDArray[np.bool_], opaque: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return what is defective in a mask with transparent pixels, ``(H, W)``."""
    visible = colours[opaque]
    if len(visible) and ((visible == visible[0]).all() or coloured[opaque].all()):
        return opaque  # colours without a shape
    if not coloured[~opaque].any():
        return coloured  # the colours' own shape, with nothing of it hidden
    msg = "is a mask with one shape in its colours and another in its transparency: save it black and white."
    raise RefusedError(msg)
