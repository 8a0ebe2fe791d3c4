# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""One scene in files of many kinds, and files that cannot be photographs."""

from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image

# Stored so, the orientation of the same number shows the scene upright.
_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
ORIENTATION = 274


def write_turned(image: Image.Image, path: Path, orientation: int) -> None:
    """Write an image as a camera that was held otherwise does."""
    stored = image.transpose(_STORED[orientation]) if orientation in _STORED else image
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"tiffinfo": {ORIENTATION: orientation}} if path.suffix == ".tif" else {"exif": exif, "quality": 98}
    stored.save(path, **options)


def write_pnm(path: Path, pixels: np.ndarray, white: int) -> None:
    """Write a binary PGM or PPM, ``(H, W)`` or ``(H, W, 3)``."""
    header = f"P{5 if pixels.ndim == 2 else 6}\n# a comment\n{pixels.shape[1]} {pixels.shape[0]}\n{white}\n"
    path.write_bytes(header.encode() + pixels.astype(">u2" if white > 255 else "u1").tobytes())


def write_exact(folder: Path, grey: np.ndarray) -> None:
    """Write a grey scene ``(H, W)``, uint8, in every lossless kind that holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    colour = np.repeat(grey[..., None], 3, axis=-1)
    deep, deep_colour = grey.astype(np.uint16) * 257, colour.astype(np.uint16) * 257
    small, large = Image.fromarray(grey), Image.fromarray(colour)
    opaque = Image.new("L", small.size, 255)
    small.save(folder / "grey.png")
    large.save(folder / "colour.png")
    small.save(folder / "grey.bmp")
    large.save(folder / "colour.webp", lossless=True)
    small.save(folder / "grey.tif")
    small.save(folder / "grey_white_is_zero.tif", tiffinfo={262: 0})
    large.save(folder / "colour_lzw.tif", compression="tiff_lzw")
    small.convert("P").save(folder / "palette.png")
    small.convert("P").save(folder / "palette_transparent.png", transparency=3)
    Image.merge("LA", (small, opaque)).save(folder / "grey_alpha.png")
    large.convert("RGBA").save(folder / "colour_alpha.png")
    write_pnm(folder / "grey.pgm", grey, 255)
    write_pnm(folder / "colour.ppm", colour, 255)
    Image.fromarray(deep).save(folder / "grey16.png")
    cv2.imwrite(str(folder / "colour16.png"), deep_colour)
    cv2.imwrite(str(folder / "colour_alpha16.png"), np.dstack([deep_colour, np.full_like(deep, 65535)]))
    write_pnm(folder / "grey16.pgm", deep, 65535)
    write_pnm(folder / "grey_of_510.pgm", 2 * grey.astype(np.uint16), 510)
    write_pnm(folder / "colour16.ppm", deep_colour, 65535)
    for order, name in (("<", "little"), (">", "big")):
        tifffile.imwrite(folder / f"grey16_{name}.tif", deep, byteorder=order)
        tifffile.imwrite(folder / f"colour16_{name}.tif", deep_colour, byteorder=order, photometric="rgb")
        tifffile.imwrite(folder / f"float_{name}.tif", grey / np.float32(255), byteorder=order)
    tifffile.imwrite(folder / "grey16_zip.tif", deep, compression="zlib")
    tifffile.imwrite(folder / "grey16_white_is_zero.tif", 65535 - deep, photometric="miniswhite")
    tifffile.imwrite(folder / "colour16_tiled.tif", deep_colour, photometric="rgb", compression="zlib", tile=(32, 32))
    for orientation in range(1, 9):
        for suffix in (".png", ".tif"):
            write_turned(large, folder / f"turned_{orientation}{suffix}", orientation)
        stored = Image.fromarray(deep)
        write_turned(stored, folder / f"turned16_{orientation}.png", orientation)
    # The orientation may also stand behind the pixels.
    data = (folder / "turned_6.png").read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    (folder / "turned_6_behind.png").write_bytes(data[:start] + data[end:-12] + data[start:end] + data[-12:])


def write_lossy(folder: Path, grey: np.ndarray) -> None:
    """Write a grey scene ``(H, W)``, uint8, in the kinds that change it a little."""
    folder.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(grey)
    image.save(folder / "grey.jpg", quality=98)
    image.convert("RGB").save(folder / "colour.jpeg", quality=98)
    image.convert("RGB").convert("CMYK").save(folder / "cmyk.jpg", quality=98)
    image.save(folder / "two.jpg", format="MPO", save_all=True, append_images=[Image.new("L", image.size)], quality=98)
    for orientation in range(1, 9):
        write_turned(image, folder / f"turned_{orientation}.jpg", orientation)
    # Beside its orientation, a camera has the resolution as text, where a number belongs.
    tags = b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" + b"\x1a\x01\x02\0\x03\0\0\x0072\0\0"
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + tags + b"\0\0\0\0"
    image.transpose(_STORED[6]).save(folder / "turned_odd.jpg", exif=exif, quality=98)


def write_refused(folder: Path, grey: np.ndarray) -> None:
    """Write files that are not one photograph of known range, from a scene ``(H, W)``, uint8."""
    folder.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(grey)
    deep = np.repeat(grey[None].astype(np.uint16), 3, axis=0) * 257
    for name in ("pages.tif", "frames.png", "frames.webp"):
        image.save(folder / name, save_all=True, append_images=[Image.new("L", image.size, 9)])
    tifffile.imwrite(folder / "int32.tif", grey.astype(np.int32))
    tifffile.imwrite(folder / "uint32.tif", grey.astype(np.uint32) * 2**24)
    tifffile.imwrite(folder / "int16.tif", grey.astype(np.int16))
    tifffile.imwrite(folder / "int8.tif", (grey // 2).astype(np.int8))
    tifffile.imwrite(folder / "planes16.tif", deep, photometric="rgb", planarconfig="separate")
    tifffile.imwrite(folder / "float_of_255.tif", grey.astype(np.float32))
    tifffile.imwrite(folder / "float_below_0.tif", grey / np.float32(255) - 1)
    tifffile.imwrite(folder / "float_nan.tif", np.full(grey.shape, np.nan, np.float32))
    tifffile.imwrite(folder / "float_colour.tif", np.zeros((*grey.shape, 3), np.float32), photometric="rgb")
    write_pnm(folder / "above_white.pgm", np.full(grey.shape, 1001, np.uint16), 1000)
    (folder / "text16.ppm").write_text("P3\n1 1\n65535\n1 2 3\n")
    (folder / "alpha16.ppm").write_bytes(b"PyRGBA\n1 1\n65535\n" + bytes(8))
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("not an image")
    for name, pixels in (("cut.png", image), ("cut.jpg", image), ("cut.bmp", image), ("cut.tif", image)):
        pixels.save(folder / name)
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])
    write_pnm(folder / "cut.ppm", np.moveaxis(deep, 0, -1), 65535)
    data = (folder / "cut.ppm").read_bytes()
    (folder / "cut.ppm").write_bytes(data[: len(data) // 2])
