# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The one way in which photographs and masks are read, in training and on the line; needs only numpy and pillow.

A photograph is read at its file's own full range and upright, as a viewer shows it. What cannot be read so is refused
by name: files of several pages, integers or floats whose white is unknown, damaged files. Of a phone's MPO file the
first picture is the photograph. Transparency is left out: a photograph's pixels are the colours that the file holds.
"""

import os
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

# Suffixes, in lower case, of what counts as a photograph: anomalib's, so that training and the line see the same files.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
# Folders of masks, as users name them.
MASK_FOLDERS = ("masks", "mask", "ground_truth")
# What files of photographs may hold, as Pillow calls it, whatever the suffix. MPO is a kind of
# JPEG; EPS, which has a program run, is not among them.
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")
# A header that asks for more is damaged or malicious; line scans of hundreds of megapixels are ordinary.
MAX_PIXELS = 2**30

# What a user may not expect. Each ends a sentence that begins with the file's name.
NOTES = (
    "is turned upright, as its EXIF orientation says and viewers do; anomalib's own reader leaves it lying",
    "is read at its full range; anomalib's own reader cuts off all but 8 bits",
    "has transparent pixels, which are read in the colours that they hide",
)

_WHITE_8 = np.iinfo(np.uint8).max
_WHITE_16 = np.iinfo(np.uint16).max
_WHITE_12 = 2**12 - 1
# Tags of TIFF.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2
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
_REMEDY = "save it with 8 or 16 bits per colour, or with floating-point values in [0, 1]."


class DecodedPhotograph(NamedTuple):
    """A photograph as it is read.

    Attributes:
        pixels: ``(H, W)`` if grey or ``(H, W, 3)`` if RGB; uint8 or uint16 of full range, or float32 in [0, 1].
        notes: Those of ``NOTES`` that apply.
    """

    pixels: NDArray[Any]
    notes: tuple[str, ...]


class _Refused(Exception):  # noqa: N818  never seen by callers
    """Why a file cannot be a photograph or mask, as the end of a sentence that begins with its name."""


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
    with _opened(path) as image:
        _check_photograph(image)
        is_deep = _is_deep(image) or image.mode.startswith(("I", "F"))
        pixels = _pixels(image, path, _colours)
        is_turned = image.format != "TIFF" and _orientation(image) != 1  # Pillow itself turns TIFF upright
        is_transparent = (
            image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] != _WHITE_8
        )
    if pixels.dtype == np.float32 and not (pixels.min() >= 0 and pixels.max() <= 1):  # false for NaN
        msg = f"'{path}' has floating-point values outside [0, 1], of {pixels.min():g} to {pixels.max():g}: {_REMEDY}"
        raise ValueError(msg)
    special = zip(NOTES, (is_turned, is_deep, is_transparent), strict=True)
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
    with _opened(path) as image:
        _check_depth(image)
        is_lossy = image.format in {"JPEG", "MPO", "WEBP"} or image.info.get("compression") == "jpeg"
        pixels = _pixels(image, path, _with_alpha)
    if pixels.dtype.kind not in "u" and not pixels.min() >= 0:  # true for NaN
        msg = f"mask '{path}' has negative values: make normal pixels 0 and defective ones positive."
        raise ValueError(msg)
    try:
        return _shape(pixels, is_lossy=is_lossy)
    except _Refused as reason:
        msg = f"mask '{path}' {reason}"
        raise ValueError(msg) from None


def read_size(path: str | Path) -> tuple[int, int]:
    """Read height and width of an upright photograph from its header, which is checked too.

    Raises:
        OSError: If the header cannot be read; names the file.
        ValueError: If it is not one photograph of known range; names the file.
    """
    with _opened(path) as image:
        _check_photograph(image)
        return _upright_size(image)


def read_mask_size(path: str | Path) -> tuple[int, int]:
    """Read height and width of an upright mask, from its header where its shape is plain.

    Raises:
        OSError: If it cannot be read; names it.
        ValueError: If it is not one picture, or its shape cannot be told; names it.
    """
    with _opened(path) as image:
        if image.mode in {"1", "L"} and image.format not in {"JPEG", "MPO"} and not image.has_transparency_data:
            return _upright_size(image)
    height, width = read_mask(path).shape
    return height, width


def _upright_size(image: ImageFile) -> tuple[int, int]:
    if image.format == "PNG" and image.fp is not None and _ends_with_metadata(image.fp):
        image.load()
    is_lying = image.format != "TIFF" and _orientation(image) in _LYING
    return image.size if is_lying else image.size[::-1]


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


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, as far as it was read; 1, upright, where it is missing or damaged.

    Pillow keeps the first answer: of a PNG with metadata after its pixels ask when these are decoded.
    """
    try:
        orientation = int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))  # PNG's own getexif decodes
    except Exception:  # noqa: BLE001  as viewers do, whatever Pillow stumbles over
        return 1
    return orientation if orientation in range(1, 9) else 1


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
def _opened(path: str | Path) -> Iterator[ImageFile]:
    """Open a file of one picture; every error within names the file."""
    try:
        with _PILLOW_LIMIT.lifted(), Image.open(path, formats=_FORMATS) as image:
            _check_pages(image)
            yield image
    except _Refused as reason:
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
            why = f"it is no {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}. If it is an image, {_REMEDY}"
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
        raise _Refused(msg)
    if image.width * image.height > MAX_PIXELS:
        msg = f"has {image.width} x {image.height} pixels, more than {MAX_PIXELS}: cut it into tiles."
        raise _Refused(msg)


def _check_photograph(image: ImageFile) -> None:
    """Refuse what is not of a known range, as far as the header tells."""
    if (image.mode == "I" and image.format != "PPM") or _tag(image, _SAMPLE_FORMAT) == _SIGNED:
        msg = f"holds signed or 32-bit integers, whose white is not known: {_REMEDY}"
        raise _Refused(msg)
    _check_depth(image)


def _check_depth(image: ImageFile) -> None:
    """Refuse colours of more than 8 bits where Pillow would lose some of these."""
    if _is_deep(image) and image.format != "PPM" and not all(_lower_byte(tile.args) for tile in image.tile):
        msg = f"holds more than 8 bits per colour in an uncommon arrangement, which would lose some: {_REMEDY}"
        raise _Refused(msg)
    if _is_deep(image) and image.format == "PPM" and image.mode != "RGB":
        msg = f"is a PPM of {image.mode}, which is uncommon: save it as PNG or TIFF."
        raise _Refused(msg)
    if _is_deep(image) and image.tile[0].codec_name == "ppm_plain":
        msg = "holds more than 8 bits per colour as text, which would lose some: save it as a binary PPM."
        raise _Refused(msg)


def _tag(image: ImageFile, tag: int) -> Any:  # noqa: ANN401
    """Return a tag's (first) value, ``None`` where it is missing or the file no TIFF."""
    value = image.tag_v2.get(tag) if isinstance(image, TiffImageFile) else None
    return value[0] if isinstance(value, tuple) else value


def _is_deep(image: ImageFile) -> bool:
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


def _pixels(image: ImageFile, path: str | Path, convert: Callable[[Image.Image], Image.Image]) -> NDArray[Any]:
    """Return the upright pixels of an opened image at full range.

    Args:
        image: The image.
        path: Its file.
        convert: Turns modes of 8 bits into those that are wanted.
    """
    if _maxval(image) > _WHITE_8 and image.tile[0].codec_name == "ppm":
        return _binary_ppm(image)
    if _is_deep(image):
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
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _colours(image: Image.Image) -> Image.Image:
    """Convert to grey or RGB, as ``convert("RGB")`` would; more than 8 bits stay."""
    if image.mode.startswith(("I", "F")):
        return image
    return image.convert("L" if image.mode in _GREY else "RGB")


def _with_alpha(image: Image.Image) -> Image.Image:
    """Convert to grey or RGB, to RGBA if there is transparency; more than 8 bits stay."""
    if image.mode.startswith(("I", "F")):
        return image
    return image.convert("RGBA") if image.has_transparency_data else _colours(image)


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
        raise _Refused(msg)
    return _stretch(pixels, white)


def _shape(pixels: NDArray[Any], *, is_lossy: bool) -> NDArray[np.uint8]:
    """Return the mask of :func:`read_mask`; of a lossy file, whose shapes have noise around them, the brighter half."""
    mask = _levels(pixels)
    level = mask.max() // 2 if is_lossy else 0
    mask = np.where(mask > level, mask, np.uint8(0))
    if mask.all() and mask.min() != mask.max():
        msg = "has several values but no black pixel, so that all would be defective: make normal pixels black."
        raise _Refused(msg)
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
    return mask.astype(np.uint8) * np.array(_WHITE_8, np.uint8)


def _shape_of_alpha(colours: NDArray[Any], coloured: NDArray[np.bool_], opaque: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return what is defective in a mask with transparent pixels, ``(H, W)``."""
    visible = colours[opaque]
    if len(visible) and ((visible == visible[0]).all() or coloured[opaque].all()):
        return opaque  # colours without a shape
    if not coloured[~opaque].any():
        return coloured  # the colours' own shape, with nothing of it hidden
    msg = "has one shape in its colours and another in its transparency: save it black and white, without transparency."
    raise _Refused(msg)
