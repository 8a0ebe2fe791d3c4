# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The pictures that the line writes: marked as its own, under names that are not too long for a file system."""

import errno
import hashlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from anomalib_ear.deploy.scores import replace
from anomalib_ear.images import to_unit

# Stands near the beginning of every picture, so that none is taken for a photograph.
_MARK = "anomalib-ear picture"
# Bytes of a file that hold the mark.
_BEGINNING = 1024
# Longest side in pixels of a heat map.
PICTURE_SIZE = 1024
# A heat map's colours: the photograph's greys at 0.4 of their brightness, then dark red, red, yellow and white.
_SHADES = 128
_GREYS = np.repeat(np.linspace(0, 0.4, _SHADES)[:, None], 3, axis=1)
_PALETTE = np.concatenate([_GREYS, 3 * np.linspace(0.15, 1, _SHADES)[:, None] - np.arange(3)]).clip(0, 1)
# Bytes that file systems allow in a name.
_MAX_NAME_BYTES = 255
_OUR_SUFFIXES = {".jpg", ".png", ".part"}
_DIGEST_LENGTH = 16


class CannotWriteError(OSError):
    """A picture cannot be written, and the next ones would fail too."""


def heat_map(photograph: Image.Image, anomaly_map: NDArray[np.float32]) -> Image.Image:
    """Draw an anomaly map over its photograph, on a scale that is the same for all images.

    Args:
        photograph: The photograph.
        anomaly_map: ``(h, w)`` in [0, 1).

    Returns:
        The photograph in dim grey. Where the map is above 0.5, the threshold of pixels, it is red, and turns yellow and
        white towards 1. Mode RGB, at most ``PICTURE_SIZE`` pixels long.
    """
    photograph = photograph.convert("L")
    photograph.thumbnail((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.BILINEAR)
    level = Image.fromarray(anomaly_map).resize(photograph.size, Image.Resampling.BILINEAR)
    heat = (np.asarray(level) * 2 * _SHADES).astype(np.uint8)  # from _SHADES on it is hot
    picture = Image.fromarray(np.where(heat >= _SHADES, heat, np.asarray(photograph) // 2))
    picture.putpalette((_PALETTE * 255).round().astype(np.uint8).tobytes())
    return picture.convert("RGB")


def grey(pixels: NDArray[Any]) -> Image.Image:
    """Return a small grey copy of a photograph, to draw on.

    Args:
        pixels: As ``read_image`` gives them.

    Returns:
        Mode L, at most ``PICTURE_SIZE`` pixels long.
    """
    if pixels.dtype != np.uint8:
        pixels = (to_unit(pixels) * 255).round().astype(np.uint8)
    photograph = Image.fromarray(pixels).convert("L")
    photograph.thumbnail((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.BILINEAR)
    return photograph


def save(picture: Image.Image, path: Path) -> None:
    """Write a marked picture as a whole or not at all, in the format of its suffix, over no file but the line's own."""
    data = io.BytesIO()
    if path.suffix == ".png":
        info = PngImagePlugin.PngInfo()
        info.add_text("Software", _MARK)
        picture.save(data, format="PNG", compress_level=1, pnginfo=info)
    else:
        picture.save(data, format="JPEG", quality=90, comment=_MARK)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path) and not is_ours(path):
            raise FileExistsError(errno.EEXIST, "another file is there, move it away")
        replace(path, data.getvalue())
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}."
        raise CannotWriteError(msg) from error


def picture_path(folder: Path, name: Path, suffix: str) -> Path:
    """Return where a photograph's picture is written.

    The photograph's suffix stays, since there may be several of one stem. A name that would be too long for its picture
    is cut and gets a digest instead, and so does a folder that could be taken for a picture.
    """
    room = _MAX_NAME_BYTES - len(suffix + ".part")
    *folders, file = name.parts
    folders = [part if Path(part).suffix not in _OUR_SUFFIXES else _shortened(part, room) for part in folders]
    if len(os.fsencode(file)) > room:
        file = _shortened(file, room)
    return folder.joinpath(*folders, file + suffix)


def _shortened(name: str, room: int) -> str:
    """Cut a name to bytes that there is room for, and keep it apart from others by a digest."""
    data = os.fsencode(name)
    digest = hashlib.sha256(data).hexdigest()[:_DIGEST_LENGTH]
    return f"{data[: room - _DIGEST_LENGTH - 1].decode(errors='ignore')}~{digest}"


def is_ours(path: Path) -> bool:
    """Return whether the line wrote a picture; ``False`` for what cannot be read, which is reported when it is."""
    try:
        with path.open("rb") as file:
            return _MARK.encode() in file.read(_BEGINNING)
    except OSError:
        return False
