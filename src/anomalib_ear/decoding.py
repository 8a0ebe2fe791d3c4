# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What Pillow's files hold, upright and at full range, or why not: for :mod:`anomalib_ear.images` and ``masks``.

Every error names the file.
"""

import os
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

# What files of photographs may hold, as Pillow calls it, whatever the suffix. MPO is a kind of
# JPEG; EPS, which has a program run, is not among them.
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")
# A header that asks for more is damaged or malicious; line scans of hundreds of megapixels are ordinary.
MAX_PIXELS = 2**30

_WHITE_8 = np.iinfo(np.uint8).max
_WHITE_16 = np.iinfo(np.uint16).max
_WHITE_12 = 2**12 - 1
# Tags of TIFF.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLES, _PLANES, _SAMPLE_FORMAT = 258, 262, 277, 284, 339
_WHITE_IS_ZERO, _SIGNED, _SEPARATE, _GREYS, _COLOURS = 0, 2, 2, {0, 1}, 3
# What turns a picture upright, by its EXIF orientation. Pillow's own function also writes the EXIF data anew, which
# fails where another tag of these is odd.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Orientations that exchange height and width.
_LYING = range(5, 9)
# Chunks of a PNG that may hold an orientation.
_METADATA = {b"eXIf", b"iTXt", b"tEXt", b"zTXt"}
_GREY = {"1", "L", "LA", "La"}
# The byte order that makes Pillow take the lower byte of 16 bits, by the one that makes it take the upper byte.
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_DEEP_COLOURS = {f"{bands};16" for bands in ("RGB", "RGBX", "RGBA")}
REMEDY = "save it with 8 or 16 bits per colour, or with floating-point values in [0, 1]."


class RefusedError(Exception):
    """Why a file is refused, as the end of a sentence that begins with its name; :func:`opened` makes that sentence."""


class _PillowLimit:
    """Lifts Pillow's limit of pixels, which belongs to the whole process, while somebody reads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._readers = 0
        self._limit: int | None = None

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Leave the limit as it was, once the last of several threads is done."""
        with self._lock:
            if self._readers == 0:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if self._readers == 0:
                    Image.MAX_IMAGE_PIXELS = self._limit


_PILLOW_LIMIT = _PillowLimit()


@contextmanager
def opened(path: str | Path) -> Iterator[ImageFile]:
    """Open a file of one picture; every error within names the file.

    Args:
        path: File.

    Yields:
        The picture, of which no more than the header is read.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it holds several pictures or too many pixels, and in place of a :class:`RefusedError`.
        MemoryError: If there is not enough memory.
    """
    try:
        with _PILLOW_LIMIT.lifted(), Image.open(path, formats=_FORMATS) as image:
            _check_pages(image)
            yield image
    except RefusedError as reason:
        msg = f"'{path}' {reason}"
        raise ValueError(msg) from None
    except MemoryError as error:  # not the file's fault
        msg = f"there is not enough memory to read '{path}'."
        raise MemoryError(msg) from error
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:  # the system's, which name the file
            error.filename = str(path)  # Pillow 11.0 names the one that a link leads to
            raise
        why = str(error) or repr(error)
        if isinstance(error, UnidentifiedImageError):
            why = f"it is no {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}. If it is an image, {REMEDY}"
        number = getattr(error, "errno", None)  # of the system's: a drive that does not answer, a full disk
        if number is None and not Path(path).stat().st_size:
            why = "it is empty."
        msg = f"cannot read '{path}': {why}"
        refused = OSError(msg)
        refused.errno = number
        raise refused from error


def _check_pages(image: ImageFile) -> None:
    """Refuse what is not one picture."""
    pages = getattr(image, "n_frames", 1)
    if pages > 1 and image.format != "MPO":
        msg = f"has {pages} pages or frames: save each as a file of its own."
        raise RefusedError(msg)
    if image.width * image.height > MAX_PIXELS:
        msg = f"has {image.width} x {image.height} pixels, more than {MAX_PIXELS}: cut it into tiles."
        raise RefusedError(msg)


def check_range(image: ImageFile) -> None:
    """Refuse integers whose white is not known, as far as the header tells, and what :func:`check_depth` refuses.

    Raises:
        RefusedError: If it is refused.
    """
    if (image.mode == "I" and image.format != "PPM") or _tag(image, _SAMPLE_FORMAT) == _SIGNED:
        msg = f"holds signed or 32-bit integers, whose white is not known: {REMEDY}"
        raise RefusedError(msg)
    check_depth(image)


def check_depth(image: ImageFile) -> None:
    """Refuse colours of more than 8 bits where Pillow would lose some, and bands where it would take the first alone.

    Raises:
        RefusedError: If it is refused.
    """
    bands, is_grey = _tag(image, _SAMPLES) or 1, _tag(image, _PHOTOMETRIC) in _GREYS
    if is_grey and bands >= _COLOURS > len(image.getbands()):
        msg = f"holds {bands} bands of grey, of which the first alone would be read: save it in colour."
        raise RefusedError(msg)
    if is_deep(image) and _tag(image, _PLANES) == _SEPARATE:
        msg = f"holds more than 8 bits per colour in separate planes, which would lose some: {REMEDY}"
        raise RefusedError(msg)
    if is_deep(image) and image.format != "PPM" and not all(_lower_byte(tile.args) for tile in image.tile):
        msg = f"holds more than 8 bits per colour in an uncommon arrangement, which would lose some: {REMEDY}"
        raise RefusedError(msg)
    if is_deep(image) and image.format == "PPM" and image.mode != "RGB":
        msg = f"is a PPM of {image.mode}, which is uncommon: save it as PNG or TIFF."
        raise RefusedError(msg)
    if is_deep(image) and image.tile[0].codec_name == "ppm_plain":
        msg = "holds more than 8 bits per colour as text, which would lose some: save it as a binary PPM."
        raise RefusedError(msg)


def _tag(image: ImageFile, tag: int) -> Any:  # noqa: ANN401
    """Return a tag's (first) value, ``None`` where it is missing or the file no TIFF."""
    value = image.tag_v2.get(tag) if isinstance(image, TiffImageFile) else None
    return value[0] if isinstance(value, tuple) else value


def is_deep(image: ImageFile) -> bool:
    """Return whether Pillow would leave out bits: it has no mode for colours of 16 bits."""
    if image.mode.startswith(("I", "F")) or not image.tile:
        return False
    if image.format == "PNG":
        return _rawmode(image.tile[0].args).endswith(";16B")
    if image.format == "PPM":
        return _maxval(image) > _WHITE_8
    return (_tag(image, _BITS_PER_SAMPLE) or 0) > 8


def _maxval(image: ImageFile) -> int:
    """Return the white of a PGM or PPM that Pillow does not take for plain 8 or 16 bits; else 0."""
    arguments: Any = image.tile[0].args if image.tile else None
    return int(arguments[1]) if isinstance(arguments, tuple) and image.format == "PPM" else 0


def _rawmode(arguments: Any) -> str:  # noqa: ANN401  Pillow's
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _lower_byte(arguments: Any) -> Any:  # noqa: ANN401  Pillow's
    """Return a decoder's arguments for the other byte of 16 bits; ``None`` if there are none."""
    rawmode = _rawmode(arguments)
    if rawmode[:-1] not in _DEEP_COLOURS:
        return None
    other = rawmode[:-1] + _OTHER_BYTE[rawmode[-1]]
    return (other, *arguments[1:]) if isinstance(arguments, tuple) else other


def decode(image: ImageFile, path: str | Path, convert: Callable[[Image.Image], Image.Image]) -> NDArray[Any]:
    """Return the upright pixels of an opened image at full range.

    Args:
        image: The image.
        path: Its file.
        convert: Turns modes of 8 bits into those that are wanted, as :func:`to_colours` does.

    Returns:
        ``(H, W)`` if grey, else ``(H, W, C)``; uint8 or uint16 of full range, or what other numbers it holds.

    Raises:
        RefusedError: If values are above what the file calls white.
    """
    if _maxval(image) > _WHITE_8 and image.tile[0].codec_name == "ppm":
        return _binary_ppm(image)
    if is_deep(image):
        lower = [tile._replace(args=_lower_byte(tile.args)) for tile in image.tile]
        if all(tile.args for tile in lower):
            upper = np.asarray(convert(_upright(image))).astype(np.uint16)
            with Image.open(path, formats=_FORMATS) as again:
                again.tile = lower
                deep: NDArray[np.uint16] = upper << 8 | np.asarray(convert(_upright(again)))
                return deep
    bits, photometric = _tag(image, _BITS_PER_SAMPLE), _tag(image, _PHOTOMETRIC)
    pixels: NDArray[Any] = np.asarray(convert(_upright(image)))
    if image.mode == "I" and image.format == "PPM":
        return pixels.astype(np.uint16)
    if image.mode.startswith("I;16"):
        pixels = pixels.astype(np.uint16)  # of this machine's byte order
        if bits == 12:
            pixels = _stretch(pixels, _WHITE_12)
    white = 1 if image.mode == "F" else _WHITE_16
    is_inverted = image.mode.startswith(("I;16", "F")) and photometric == _WHITE_IS_ZERO
    return np.subtract(white, pixels, dtype=pixels.dtype) if is_inverted else pixels


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    turn = _TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def upright_size(image: ImageFile) -> tuple[int, int]:
    """Return height and width of an opened picture once it is upright."""
    if image.format == "PNG" and image.fp is not None and _ends_with_metadata(image.fp):
        image.load()
    return image.size if orientation(image) in _LYING else image.size[::-1]


def _ends_with_metadata(file: IO[bytes]) -> bool:
    """Return whether a PNG has metadata after its pixels, which Pillow finds when it decodes these."""
    position = file.tell()
    is_after_pixels = False
    try:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if is_after_pixels and kind in _METADATA:
                return True
            is_after_pixels |= kind == b"IDAT"
            file.seek(length + 4, os.SEEK_CUR)
        return False
    finally:
        file.seek(position)


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, as far as it was read; 1, upright, where it is missing or damaged.

    It is also 1 of TIFF, which Pillow itself turns upright. Pillow keeps the first answer: of a PNG with metadata after
    its pixels ask when these are decoded.
    """
    if image.format == "TIFF":
        return 1
    try:
        value = int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))  # PNG's own getexif decodes
    except Exception:  # noqa: BLE001  as viewers do, whatever Pillow stumbles over
        return 1
    return value if value in range(1, 9) else 1


def to_colours(image: Image.Image) -> Image.Image:
    """Convert to grey or RGB, as ``convert("RGB")`` would; more than 8 bits stay."""
    if image.mode.startswith(("I", "F")):
        return image
    return image.convert("L" if image.mode in _GREY else "RGB")


def _stretch(pixels: NDArray[Any], white: int) -> NDArray[np.uint16]:
    """Stretch 0 to ``white`` to the full range of 16 bits."""
    return ((pixels.astype(np.uint32) * _WHITE_16 + white // 2) // white).astype(np.uint16)


def _binary_ppm(image: Any) -> NDArray[np.uint16]:  # noqa: ANN401  Pillow's plug-in has attributes of its own
    """Read PGM or PPM of 16 bits, where Pillow is slow or leaves out bits."""
    tile = image.tile[0]
    white = tile.args[1]
    shape = (image.height, image.width, 3)[: 3 if image.mode == "RGB" else 2]
    image.fp.seek(tile.offset)
    data = image.fp.read(2 * int(np.prod(shape)))
    if len(data) < 2 * np.prod(shape):
        msg = "image file is truncated"
        raise OSError(msg)
    pixels = np.frombuffer(data, ">u2").reshape(shape)
    if pixels.max() > white:
        msg = f"has values above {white}, which its header calls white."
        raise RefusedError(msg)
    return _stretch(pixels, white)
