# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The pictures that the line writes: marked as its own, under names that are not too long for a file system."""

import errno
import hashlib
import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from anomalib_ear.deploy.files import replace
from anomalib_ear.images import SUFFIXES

# Stands near the beginning of every picture, so that none is taken for a photograph.
_MARK = "anomalib-ear picture"
# Bytes of a file that hold the mark.
_BEGINNING = 1024
# Lengths in pixels that the longer side of a photograph in a picture may have; a smaller one is enlarged.
_MIN_SIZE, _MAX_SIZE = 384, 1024
_LINE = (255, 40, 40)
# A map's longer side where defects are looked for; its features are coarser.
_MAP_SIZE = 256
# Share of a region's highest log-odds that a defect has, and the rest of the region has not.
_SHARE = 0.5
# Share of the map's highest value at which the line is, if a part is defective and its map nowhere above the threshold.
_PEAK = 0.9
# A line's width as a share of the longer side.
_LINE_WIDTH = 1 / 400
# Background of the caption and colour of the frame, by whether the part is defective; red-green blindness tells them.
_COLOURS = {False: (0, 105, 85), True: (205, 50, 0)}
_FONT_SIZE, _MARGIN = 20, 6
_FRAME = 8
# Bytes that file systems allow in a name.
_MAX_NAME_BYTES = 255
_OUR_SUFFIXES = {".jpg", ".png", ".part"}
_DIGEST_LENGTH = 16


class CannotWriteError(OSError):
    """A picture cannot be written or removed, and the next ones would fail too."""


def heat_map(
    photograph: Image.Image,
    anomaly_map: NDArray[np.float32],
    score: float,
    threshold: float,
    pixel_threshold: float = 0.5,
) -> Image.Image:
    """Outline the defects of a defective part, see :func:`defects`, and say what the part is.

    The line is drawn around the defects, not on them.

    Args:
        photograph: As ``small_copy`` gives it.
        anomaly_map: ``(h, w)`` in [0, 1).
        score: The part's.
        threshold: Score above which a part is defective.
        pixel_threshold: Threshold of pixels, in [0, 1].

    Returns:
        Mode RGB.
    """
    is_defective = score > threshold
    if is_defective:
        pixels = np.array(photograph)
        draw_outline(pixels, defects(anomaly_map, photograph.size, score, threshold, pixel_threshold))
        photograph = Image.fromarray(pixels)
    return captioned(photograph, score, threshold, is_defective=is_defective)


def defects(
    anomaly_map: NDArray[np.float32],
    size: tuple[int, int],
    score: float,
    threshold: float = 0.5,
    pixel_threshold: float = 0.5,
) -> NDArray[np.bool_]:
    """Tell the defects of a defective part from what lies around them.

    A single place above the threshold of pixels makes no part defective, so each region above it is judged as the part
    is: it has a defect if it lies below the map's highest place, in log-odds, by less than the part's score lies above
    the threshold. A feature looks at more than its place, so a map is high around a defect too, and the more so the
    worse the defect is. So the defect is that part of the region which has at least half of its highest log-odds,
    counted from the threshold's. Where no region is above it, the map's highest place is taken.

    Args:
        anomaly_map: ``(h, w)`` in [0, 1).
        size: Width and height of what is returned.
        score: The part's.
        threshold: Score above which a part is defective.
        pixel_threshold: Threshold of pixels, in [0, 1].

    Returns:
        Mask of shape ``(height, width)``.
    """
    smaller = Image.fromarray(anomaly_map)
    smaller.thumbnail((_MAP_SIZE, _MAP_SIZE), Image.Resampling.BILINEAR)
    values = np.asarray(smaller)
    above = (_log_odds(values) - _log_odds(pixel_threshold)).clip(0)
    if above.any():
        highest = _highest_of_region(above)
        bound = above.max() - (_log_odds(score) - _log_odds(threshold))
        has_defect = (highest > bound) | (highest == above.max())
        share, least = np.where(has_defect, above / np.where(above, highest, 1), 0), _SHARE
    else:
        values = values.clip(1e-6)
        share, least = values / values.max(), _PEAK
    return np.asarray(Image.fromarray(share.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)) > least


def _log_odds(values: NDArray[np.float32] | float) -> NDArray[np.float64]:
    """Return the natural logarithm of the odds of values in [0, 1], finite at either end."""
    inner = np.clip(np.asarray(values, np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(inner / (1 - inner)))


def _highest_of_region(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the highest value of the connected region above 0 that a place is in."""
    highest, before = values, None
    while before is None or (highest > before).any():
        before = highest
        highest = np.where(values, _grown(before, 1), 0)
    return highest


def draw_outline(pixels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    """Draw a red line around a mask; it has a dark edge, so that it is seen on every colour.

    Args:
        pixels: ``(H, W, 3)``; changed in place.
        mask: ``(H, W)``.
    """
    if not mask.any():
        return
    width = max(2, round(max(mask.shape) * _LINE_WIDTH))
    inside = np.zeros_like(mask)  # where the mask goes on beyond the photograph the line is on its border
    inside[width:-width, width:-width] = mask[width:-width, width:-width]
    # Most masks are small, and so is what has to be looked at.
    around = tuple(
        slice(max(0, places[0] - 2 * width), places[-1] + 2 * width + 1)
        for places in (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    )
    line = _grown(mask[around], width)
    pixels[around][_grown(line, 1) & ~line] = 0
    pixels[around][line & ~inside[around]] = _LINE


def _grown(values: NDArray[Any], width: int) -> NDArray[Any]:
    """Return the highest value around each place; a mask becomes larger on all sides."""
    for _ in range(width):
        higher = values.copy()
        np.maximum(higher[1:], values[:-1], out=higher[1:])
        np.maximum(higher[:-1], values[1:], out=higher[:-1])
        values = higher.copy()
        np.maximum(values[:, 1:], higher[:, :-1], out=values[:, 1:])
        np.maximum(values[:, :-1], higher[:, 1:], out=values[:, :-1])
    return values


def captioned(picture: Image.Image, score: float, threshold: float, *, is_defective: bool) -> Image.Image:
    """Put a picture into a frame that tells good from defective at a glance, and its score over it.

    Args:
        picture: Any; mode RGB.
        score: The part's.
        threshold: Score above which a part is defective.
        is_defective: Whether this one is.

    Returns:
        A larger picture.
    """
    text = f"{'DEFECTIVE' if is_defective else 'good'}  {score:.3f}  (threshold {threshold:g})"
    font = ImageFont.load_default(_FONT_SIZE)
    frame, height = _FRAME, _FONT_SIZE + 2 * _MARGIN
    width = max(picture.width, math.ceil(font.getlength(text)) + 2 * _MARGIN)
    framed = Image.new("RGB", (width + 2 * frame, picture.height + height + frame), _COLOURS[is_defective])
    framed.paste(picture, (frame + (width - picture.width) // 2, height))
    ImageDraw.Draw(framed).text((framed.width // 2, height // 2), text, fill="white", font=font, anchor="mm")
    return framed


def small_copy(pixels: NDArray[Any]) -> Image.Image:
    """Return a copy of a photograph of the size of pictures, to draw on.

    Args:
        pixels: ``(H, W)`` or ``(H, W, 3)``; uint8 or uint16 of full range, or floats in [0, 1].

    Returns:
        Mode RGB.
    """
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    elif pixels.dtype != np.uint8:
        pixels = (pixels * 255).round().astype(np.uint8)
    photograph = Image.fromarray(pixels)
    photograph.thumbnail((_MAX_SIZE, _MAX_SIZE), Image.Resampling.BILINEAR)
    if max(photograph.size) < _MIN_SIZE:
        factor = math.ceil(_MIN_SIZE / max(photograph.size))  # whole, so that each pixel stays a square
        size = (factor * photograph.width, factor * photograph.height)
        photograph = photograph.resize(size, Image.Resampling.NEAREST)
    return photograph.convert("RGB")


def save(picture: Image.Image, path: Path) -> None:
    """Write a marked picture as a whole or not at all, in the format of its suffix, over no file but the line's own."""
    data = io.BytesIO()
    if path.suffix == ".png":
        info = PngImagePlugin.PngInfo()
        info.add_text("Software", _MARK)
        picture.save(data, format="PNG", compress_level=1, pnginfo=info)
    else:
        # At full resolution of colours, which thin lines lose else.
        picture.save(data, format="JPEG", quality=90, subsampling=0, comment=_MARK)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path) and not is_ours(path):
            raise FileExistsError(errno.EEXIST, "another file is there, move it away")
        replace(path, data.getvalue(), is_durable=False)  # it can be drawn again
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}."
        raise CannotWriteError(msg) from error


def picture_path(folder: Path, name: Path, ending: str) -> Path:
    """Return where a photograph's picture is written.

    It depends on the photograph's name alone, and no two have the same. ``008.png`` becomes ``008`` with the ending; a
    photograph of another suffix keeps this as part of its name, as in ``008_jpg``, and so does a PNG whose name would
    then look like that. A name that would be too long for its picture is cut and gets a digest instead, and so does a
    folder that could be taken for a picture.
    """
    room = _MAX_NAME_BYTES - len(ending + ".part")
    *folders, file = name.parts
    folders = [part if Path(part).suffix not in _OUR_SUFFIXES else _shortened(part, room) for part in folders]
    looks_suffixed = f".{name.stem.rpartition('_')[2].lower()}" in SUFFIXES
    base = name.stem if name.suffix == ".png" and not looks_suffixed else f"{name.stem}_{name.suffix[1:]}"
    if len(os.fsencode(base)) > room:
        base = _shortened(file, room)
    return folder.joinpath(*folders, base + ending)


def _shortened(name: str, room: int) -> str:
    """Cut a name to bytes that there is room for, and keep it apart from others by a digest."""
    data = os.fsencode(name)
    digest = hashlib.sha256(data).hexdigest()[:_DIGEST_LENGTH]
    return f"{data[: room - _DIGEST_LENGTH - 1].decode(errors='ignore')}~{digest}"


def remove(path: Path) -> None:
    """Remove a picture, if it is there and the line's own."""
    try:
        if is_ours(path):
            path.unlink()
    except OSError as error:
        msg = f"cannot remove {path}: {error.strerror}."
        raise CannotWriteError(msg) from error


def is_ours(path: Path) -> bool:
    """Return whether the line wrote a picture; ``False`` for what cannot be read, which is reported when it is."""
    try:
        with path.open("rb") as file:
            return _MARK.encode() in file.read(_BEGINNING)
    except OSError:
        return False
