# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Procedural surfaces: three textures and four kinds of defects, from a random generator alone.

Everything is numpy in the frequency domain plus Pillow strokes, so the same generator state gives the same picture on
any machine and with any number of workers. Textures carry harmless marks of their own (grinding lines, pores, odd
tows) and drifting light, so that brightness by itself tells nothing about defects.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_SUPERSAMPLING = 4
_MASK_LEVEL = 0.3  # share of a soft defect's own peak above which a pixel counts as defective
_SENSOR_NOISE = 0.008
_FLOAT = 2  # crossings that a tow of the twill passes over, then under
# Marks this close to the x axis are grinding lines on brushed metal, hence harmless; no scratch runs there.
_ROLLING_CONE = np.deg2rad(25)


def smooth_noise(rng: Generator, size: tuple[int, int], sigma: tuple[float, float], angle: float = 0.0) -> FloatArray:
    """Draw Gaussian noise blurred by an anisotropic Gaussian; it wraps around at the borders.

    Args:
        rng: Source of randomness.
        size: Height and width in pixels.
        sigma: Blur across and along the direction ``angle``, in pixels.
        angle: Direction of the second blur against the x axis, in radians.

    Returns:
        ``(H, W)``, zero mean and unit standard deviation.
    """
    across, along = sigma
    fy, fx = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None, :]
    f_along, f_across = fx * np.cos(angle) + fy * np.sin(angle), fy * np.cos(angle) - fx * np.sin(angle)
    transfer = np.exp(-2 * np.pi**2 * ((along * f_along) ** 2 + (across * f_across) ** 2))
    transfer[0, 0] = 0
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(size)) * transfer, s=size)
    deviation = noise.std()
    return noise / deviation if deviation > 0 else noise


def grid(size: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """Return pixel coordinates ``y`` of shape ``(H, 1)`` and ``x`` of shape ``(1, W)``."""
    return np.arange(size[0], dtype=np.float64)[:, None], np.arange(size[1], dtype=np.float64)[None, :]


def stroke(points: FloatArray, values: Sequence[float], width: float, size: tuple[int, int]) -> FloatArray:
    """Draw an anti-aliased polyline.

    Args:
        points: ``(N, 2)`` corners as x, y in pixels; they may lie outside the image.
        values: ``N - 1`` opacities in [0, 1], one per segment.
        width: Line width in pixels, down to a quarter of a pixel.
        size: Height and width of the image in pixels.

    Returns:
        ``(H, W)`` opacity in [0, 1].
    """
    height, width_px = size
    canvas = Image.new("L", (width_px * _SUPERSAMPLING, height * _SUPERSAMPLING))
    draw = ImageDraw.Draw(canvas)
    corners = [(float(x), float(y)) for x, y in points * _SUPERSAMPLING]
    pen = max(1, round(width * _SUPERSAMPLING))
    for start, end, value in zip(corners[:-1], corners[1:], values, strict=True):
        draw.line([start, end], fill=round(255 * value), width=pen)
    return np.asarray(canvas.reduce(_SUPERSAMPLING), dtype=np.float64) / 255


def illumination(rng: Generator, size: tuple[int, int], channels: int = 1) -> FloatArray:
    """Draw light that differs from image to image: level, colour cast, slope and one broad highlight.

    Returns:
        ``(H, W, C)`` positive factors around 1.
    """
    y, x = grid(size)
    y, x = 2 * y / size[0] - 1, 2 * x / size[1] - 1  # -1..1
    theta, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0.04, 0.2)
    centre_y, centre_x, reach = rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0.7, 1.3)
    light = 1 + slope * (np.cos(theta) * x + np.sin(theta) * y)
    light = light + rng.uniform(0, 0.16) * np.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2) / (2 * reach**2))
    level = rng.uniform(0.75, 1.22)
    warmth = rng.normal(0, 0.012) * np.linspace(1, -1, channels) if channels > 1 else np.zeros(1)
    return np.asarray(level * light[..., None] * (1 + warmth))


def brushed_metal(rng: Generator, size: tuple[int, int]) -> FloatArray:
    """Draw brushed steel: streaks along x, with grinding lines in the same direction as harmless marks.

    Returns:
        ``(H, W, 1)`` grey values around 0.5.
    """
    angle = rng.normal(0, np.deg2rad(1.0))
    surface = 0.52 + 0.012 * smooth_noise(rng, size, (0.6, 35), angle)
    surface += 0.022 * smooth_noise(rng, size, (2.5, 90), angle) + 0.006 * smooth_noise(rng, size, (0.5, 1.5), angle)
    height, width = size
    for _ in range(rng.integers(4, 13)):
        length, slant = rng.uniform(0.2, 1.2) * width, angle + rng.normal(0, np.deg2rad(1.2))
        start = np.array([rng.uniform(-0.2, 0.9) * width, rng.uniform(0, height)])
        steps = np.linspace(0, length, 13)[:, None]
        points = start + steps * np.array([np.cos(slant), np.sin(slant)])
        fade = np.sin(np.linspace(0, np.pi, 14)[1:-1]) ** 0.5
        depth = rng.choice([-1, 1]) * rng.uniform(0.03, 0.08)
        surface += depth * stroke(points, list(fade), rng.uniform(0.5, 1.3), size)
    return surface[..., None]


def cast_iron(rng: Generator, size: tuple[int, int]) -> FloatArray:
    """Draw sand-cast iron: grains lit from the side, with pinholes and sparkles as harmless marks.

    Returns:
        ``(H, W, 1)`` grey values around 0.42.
    """
    relief = 0.55 * smooth_noise(rng, size, (1.5, 1.5)) + 1.6 * smooth_noise(rng, size, (3.2, 3.2))
    lit = np.roll(relief, 1, axis=(0, 1)) - np.roll(relief, -1, axis=(0, 1))  # slope towards the upper left
    surface = 0.42 + 0.018 * lit / lit.std() + 0.008 * smooth_noise(rng, size, (1.0, 1.0))
    surface += 0.010 * smooth_noise(rng, size, (9, 9))
    y, x = grid(size)
    marks = int(size[0] * size[1] / 65536 * rng.uniform(20, 44))
    for _ in range(marks):
        centre_y, centre_x, radius = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(0.6, 1.1)
        depth = rng.uniform(0.03, 0.07) * rng.choice([-1, -1, 1])
        top, left = max(0, int(centre_y) - 5), max(0, int(centre_x) - 5)
        window = (slice(top, top + 11), slice(left, left + 11))
        spot = np.exp(-((y[window[0]] - centre_y) ** 2 + (x[:, window[1]] - centre_x) ** 2) / (2 * radius**2))
        surface[window] += depth * spot
    return np.asarray(surface[..., None])


def woven(rng: Generator, size: tuple[int, int]) -> FloatArray:
    """Draw a twill laminate in colour: two sets of tows, unevenly thick and bright, a few of them odd.

    Returns:
        ``(H, W, 3)`` RGB values around 0.45.
    """
    y, x = grid(size)
    angle, pitch = rng.normal(0, np.deg2rad(1.2)), rng.uniform(12.5, 13.5)
    x_bent = x + 0.9 * smooth_noise(rng, size, (16, 16)) + rng.uniform(0, 64)
    y_bent = y + 0.9 * smooth_noise(rng, size, (16, 16)) + rng.uniform(0, 64)
    u = (x_bent * np.cos(angle) + y_bent * np.sin(angle)) / pitch + 8  # warp tows are counted along u, weft along v
    v = (y_bent * np.cos(angle) - x_bent * np.sin(angle)) / pitch + 8
    i, j = np.floor(u).astype(int), np.floor(v).astype(int)
    warp_on_top = np.mod(i - j, 2 * _FLOAT) < _FLOAT
    across = np.where(warp_on_top, u - i, v - j) - 0.5
    # The middle of a float lies highest and catches the light.
    along = np.where(warp_on_top, np.mod(v - i + 1, 2 * _FLOAT), np.mod(u - j, 2 * _FLOAT) - _FLOAT) / _FLOAT  # 0..1
    profile = np.sqrt(np.clip(1 - (1.75 * across) ** 2, 0.05, 1)) * (0.72 + 0.28 * np.sin(np.pi * along))
    fibres = np.where(warp_on_top, smooth_noise(rng, size, (0.5, 9), np.pi / 2), smooth_noise(rng, size, (0.5, 9)))
    counts = int(max(i.max(), j.max())) + 1
    shade = np.where(warp_on_top, rng.normal(1, 0.02, counts)[i], rng.normal(0.9, 0.02, counts)[j])
    odd = rng.uniform(0.94, 1.06, 2)
    shade = shade * np.where(warp_on_top & (i == rng.integers(8, counts)), odd[0], 1)
    shade = shade * np.where(~warp_on_top & (j == rng.integers(8, counts)), odd[1], 1)
    grey = 0.10 + 0.46 * profile * shade + 0.010 * fibres
    return np.asarray(grey[..., None] * np.array([1.06, 0.99, 0.86]))


TEXTURES: Mapping[str, Callable[[Generator, tuple[int, int]], FloatArray]] = MappingProxyType(
    {"brushed_metal": brushed_metal, "cast_iron": cast_iron, "woven": woven},
)


def _chance(rng: Generator, probability: float) -> bool:
    return bool(rng.random() < probability)


def scratch(rng: Generator, size: tuple[int, int]) -> tuple[FloatArray, BoolArray]:
    """Draw a thin jagged scratch that may begin at a border, mostly dark, fading along its way.

    Returns:
        Relative brightness change ``(H, W)``, about -0.3..0.3, and mask ``(H, W)``.
    """
    scale = min(size)
    step = scale / 64
    count = int(rng.integers(12, 40))
    heading = rng.uniform(_ROLLING_CONE, np.pi - _ROLLING_CONE) * rng.choice([-1, 1])
    start = rng.uniform(0.15, 0.85, 2) * np.array(size[::-1])
    if _chance(rng, 0.35):
        start[1], heading = (0, abs(heading)) if _chance(rng, 0.5) else (size[0] - 1, -abs(heading))
    kinks = rng.binomial(1, 0.08, count) * rng.normal(0, 0.6, count)
    turns = rng.normal(0, 0.22, count) + kinks
    headings = heading + 0.6 * np.cumsum(turns - turns.mean())
    headings = np.sign(heading) * np.clip(np.sign(heading) * headings, _ROLLING_CONE, np.pi - _ROLLING_CONE)
    moves = step * rng.uniform(0.6, 1.4, (count, 1)) * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    points = np.concatenate([start[None], start + np.cumsum(moves, axis=0)])
    values = np.clip(0.75 + 0.25 * np.cumsum(rng.normal(0, 0.5, count)), 0.45, 1)
    width = rng.uniform(1.2, 2.2)
    depth = rng.uniform(0.24, 0.42) * (1 if _chance(rng, 0.3) else -1)
    mask = stroke(points, [1.0] * count, width, size) > _MASK_LEVEL
    return depth * stroke(points, list(values), width, size), mask


def pits(rng: Generator, size: tuple[int, int]) -> tuple[FloatArray, BoolArray]:
    """Draw one to four ragged pits, dark with a lit far rim, close to each other.

    Returns:
        Relative brightness change ``(H, W)``, about -0.5..0.2, and mask ``(H, W)``.
    """
    y, x = grid(size)
    scale = min(size) / 256
    centre = rng.uniform(0.12, 0.88, 2) * np.array(size)
    change, mask = np.zeros(size), np.zeros(size, dtype=bool)
    for _ in range(rng.integers(1, 5)):
        dy, dx = y - centre[0], x - centre[1]
        radius, azimuth = np.hypot(dy, dx), np.arctan2(dy, dx)
        ragged = 1 + sum(rng.uniform(0, 0.16) * np.cos(k * azimuth + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 5))
        reach = radius / (ragged * rng.uniform(3.0, 5.5) * scale)  # 1 on the rim
        hole = 1 / (1 + np.exp(np.clip((reach - 1) * 9, -50, 50)))
        rim = np.exp(-(((reach - 1.15) / 0.22) ** 2)) * np.clip((dx + dy) / (radius + 1e-9), 0, 1)
        change += rng.uniform(0.16, 0.34) * (0.45 * rim - hole)
        mask |= hole > _MASK_LEVEL
        centre = np.clip(centre + rng.normal(0, 14 * scale, 2), 4, np.array(size) - 5)
    return change, mask


def stain(rng: Generator, size: tuple[int, int]) -> tuple[FloatArray, BoolArray]:
    """Draw a soft blotch of low contrast, mostly dark.

    Returns:
        Relative brightness change ``(H, W)``, about -0.2..0.2, and mask ``(H, W)``.
    """
    y, x = grid(size)
    scale = min(size) / 256
    centre, radius = rng.uniform(0.15, 0.85, 2) * np.array(size), rng.uniform(16, 34, 2) * scale
    envelope = 1 - np.hypot((y - centre[0]) / radius[0], (x - centre[1]) / radius[1])
    ragged = envelope + 0.22 * smooth_noise(rng, size, (6 * scale, 6 * scale))
    opacity = 1 / (1 + np.exp(-np.clip(ragged * 9, -50, 50)))
    # Far from the blotch the noise alone must not leave specks.
    opacity = opacity * np.clip(1 + envelope / 0.5, 0, 1)
    depth = rng.uniform(0.10, 0.19) * (1 if _chance(rng, 0.25) else -1)
    return depth * opacity, opacity > _MASK_LEVEL


def dent(rng: Generator, size: tuple[int, int]) -> tuple[FloatArray, BoolArray]:
    """Draw a dent: one flank in shadow, the other one lit, from a light in the upper left.

    Returns:
        Relative brightness change ``(H, W)``, about -0.3..0.3, and mask ``(H, W)``.
    """
    y, x = grid(size)
    scale = min(size) / 256
    centre, radius = rng.uniform(0.12, 0.88, 2) * np.array(size), rng.uniform(7, 14, 2) * scale
    dy, dx = (y - centre[0]) / radius[0], (x - centre[1]) / radius[1]
    hollow = np.exp(-0.5 * (dy**2 + dx**2))
    light = np.deg2rad(rng.normal(45, 12))
    flank = hollow * (np.cos(light) * dx + np.sin(light) * dy) / np.exp(-0.5)  # -1..1
    return rng.uniform(0.16, 0.26) * flank, np.hypot(dy, dx) < 2.2  # to a third of the peak


DEFECTS: Mapping[str, Callable[[Generator, tuple[int, int]], tuple[FloatArray, BoolArray]]] = MappingProxyType(
    {"scratch": scratch, "pit": pits, "stain": stain, "dent": dent},
)


# How strongly a defect shows: coarse grain and weave hide more than brushing does.
_CONTRAST: Mapping[str, float] = MappingProxyType({"brushed_metal": 1.0, "cast_iron": 1.4, "woven": 1.5})


def photograph(rng: Generator, surface: FloatArray) -> NDArray[np.uint8]:
    """Put a surface under drifting light and take its picture, with a sensor's noise.

    Args:
        rng: Source of randomness.
        surface: ``(H, W, C)`` values in [0, 1].

    Returns:
        Picture ``(H, W)`` of one channel or ``(H, W, 3)`` of three.
    """
    picture = surface * illumination(rng, (surface.shape[0], surface.shape[1]), surface.shape[2])
    picture = picture + rng.normal(0, _SENSOR_NOISE, picture.shape)
    pixels = np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)
    return pixels.squeeze(axis=2) if pixels.shape[2] == 1 else pixels


def render(
    texture: str,
    rng: Generator,
    *,
    defect: str | None = None,
    size: tuple[int, int] = (256, 256),
) -> tuple[NDArray[np.uint8], BoolArray]:
    """Draw one picture of a surface as a camera would take it.

    Args:
        texture: Name of a texture in ``TEXTURES``.
        rng: Source of randomness; the same state gives the same picture.
        defect: Name of a defect in ``DEFECTS``; ``None`` draws a good part.
        size: Height and width in pixels.

    Returns:
        tuple[NDArray[np.uint8], BoolArray]: Picture ``(H, W)`` if grey or ``(H, W, 3)`` if RGB, and mask ``(H, W)``,
        true where the part is defective.

    Raises:
        ValueError: If the texture or the defect is unknown.
    """
    if texture not in TEXTURES:
        msg = f"texture must be one of {list(TEXTURES)}, got {texture!r}"
        raise ValueError(msg)
    if defect is not None and defect not in DEFECTS:
        msg = f"defect must be None or one of {list(DEFECTS)}, got {defect!r}"
        raise ValueError(msg)
    surface = TEXTURES[texture](rng, size)
    mask = np.zeros(size, dtype=bool)
    if defect is not None:
        change, mask = DEFECTS[defect](rng, size)
        surface = surface * (1 + _CONTRAST[texture] * change[..., None])
    return photograph(rng, surface), mask
