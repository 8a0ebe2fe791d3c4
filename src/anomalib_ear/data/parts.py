# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""A procedural part that does not lie still: a yellow-chromated bracket on a conveyor belt, with five kinds of defects.

Outlines are signed distances, so edges are anti-aliased and the masks of missing and bent features follow from the
drawing itself. One generator draws the part, another one its defect, a third one the camera: the same generator gives
the same part at the same place under the same light, with a defect or without.

Good parts differ too: place, rotation, dimensions within a tolerance, tint, brushing, grinding lines, print that wears
off, dust, and the belt.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from anomalib_ear.data.surfaces import (
    BoolArray,
    FloatArray,
    dent,
    grid,
    photograph,
    scratch,
    smooth_noise,
    stain,
    stroke,
)

MAX_SHIFT = 0.06  # of the image's side, in either direction
MAX_ROTATION = 6.0  # degrees, in either direction
_UNITS = 230  # lengths of a part are pixels of an image of this side
_MASK_LEVEL = 0.3  # change of coverage above which a pixel counts as defective
_CONTRAST: Mapping[str, float] = MappingProxyType({"scratch": 1.3, "dent": 1.2})  # of a flat surface's defect
_HUE = (np.deg2rad(30), np.deg2rad(50))  # how far a discolouration turns the hue
_LUMA = np.array([0.299, 0.587, 0.114])  # as Pillow and OpenCV turn RGB into grey


@dataclass(frozen=True)
class Box:
    """Rectangle with rounded corners in the part's plane; a circle if its sides and radius are equal.

    Args:
        u: Centre along the part's length.
        v: Centre across it, downwards.
        half_u: Half the length.
        half_v: Half the width.
        radius: Radius of the corners.
        angle: Rotation in radians. Defaults to ``0``.
        tilt: Relative change of brightness, because the feature is bent out of the plane. Defaults to ``0``.
    """

    u: float
    v: float
    half_u: float
    half_v: float
    radius: float
    angle: float = 0.0
    tilt: float = 0.0

    def distance(self, u: FloatArray, v: FloatArray) -> FloatArray:
        """Return the signed distance ``(H, W)`` of points from the outline, negative within."""
        du, dv = u - self.u, v - self.v
        if self.angle:
            cos, sin = np.cos(self.angle), np.sin(self.angle)
            du, dv = du * cos + dv * sin, dv * cos - du * sin
        past_u, past_v = np.abs(du) - (self.half_u - self.radius), np.abs(dv) - (self.half_v - self.radius)
        outside = np.sqrt(np.maximum(past_u, 0) ** 2 + np.maximum(past_v, 0) ** 2)  # hypot takes four times as long
        return np.asarray(outside + np.minimum(np.maximum(past_u, past_v), 0) - self.radius)


@dataclass(frozen=True)
class Fold:
    """A corner of the plate that is bent up or down.

    Args:
        towards: Unit vector from the part's centre towards the corner.
        offset: Distance of the fold from the centre along that vector.
        shrink: Share by which what lies beyond looks shorter.
        tilt: Relative change of its brightness.
    """

    towards: tuple[float, float]
    offset: float
    shrink: float
    tilt: float

    def beyond(self, u: FloatArray, v: FloatArray) -> FloatArray:
        """Return how far points lie beyond the fold, 0 on the near side."""
        return np.maximum(u * self.towards[0] + v * self.towards[1] - self.offset, 0)


@dataclass(frozen=True)
class Bracket:
    """Features of one bracket: a plate with tabs, cut-outs of which the first is the bore, and printed bars."""

    plate: Box
    tabs: tuple[Box, ...]
    cutouts: tuple[Box, ...]
    marking: tuple[Box, ...]
    fold: Fold | None = None

    def flattened(self, u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return where points of the picture lie on the unbent plate."""
        if self.fold is None:
            return u, v
        longer = self.fold.beyond(u, v) * self.fold.shrink / (1 - self.fold.shrink)
        return u + longer * self.fold.towards[0], v + longer * self.fold.towards[1]

    def distance(self, u: FloatArray, v: FloatArray) -> FloatArray:
        """Return the signed distance ``(H, W)`` of points from the outline, holes included; negative on the metal."""
        flat = self.flattened(u, v)
        outline = np.minimum.reduce([self.plate.distance(*flat), *(tab.distance(u, v) for tab in self.tabs)])
        return np.asarray(np.maximum.reduce([outline, *(-hole.distance(*flat) for hole in self.cutouts)]))


def _circle(u: float, v: float, radius: float) -> Box:
    return Box(u, v, radius, radius, radius)


def _bars(u: float, v: float) -> tuple[Box, ...]:
    """Lay out the print, ``E7`` and a bar below it, from its upper left corner."""
    upright, across = (1.3, 6.0, 0.6), (4.0, 1.2, 0.6)
    letter = [Box(u, v + 6, *upright), *(Box(u + 4, v + dv, *across) for dv in (1, 6, 11))]
    figure = [Box(u + 17, v + 1, *across), Box(u + 18, v + 6.5, 1.3, 6.2, 0.6, np.deg2rad(24))]
    return (*letter, *figure, Box(u + 10, v + 17, 11, 1.2, 0.6))


NOMINAL = Bracket(
    plate=Box(0, 0, 70, 42, 9),
    tabs=tuple(Box(u, -46, 7, 10, 2.5) for u in (-38, -4, 34)),
    cutouts=(
        _circle(-34, 5, 17),
        _circle(55, -28, 5.5),
        _circle(55, 28, 5.5),
        Box(18, 20, 18, 4.5, 4.5),
        _circle(-12, 43, 6),
        _circle(34, 43, 6),
    ),
    marking=_bars(4, -22),
)


def _within_tolerance(rng: Generator, box: Box) -> Box:
    shift, growth = rng.normal(0, 0.25, 2), rng.normal(1, 0.012)
    sides = {name: getattr(box, name) * growth for name in ("half_u", "half_v", "radius")}
    return replace(box, u=box.u + shift[0], v=box.v + shift[1], **sides)


def _manufacture(rng: Generator) -> Bracket:
    """Draw the dimensions of a good part."""
    marking_shift = rng.normal(0, 0.6, 2)
    return Bracket(
        plate=_within_tolerance(rng, NOMINAL.plate),
        tabs=tuple(_within_tolerance(rng, tab) for tab in NOMINAL.tabs),
        cutouts=tuple(_within_tolerance(rng, hole) for hole in NOMINAL.cutouts),
        marking=tuple(replace(bar, u=bar.u + marking_shift[0], v=bar.v + marking_shift[1]) for bar in NOMINAL.marking),
    )


def _without(features: tuple[Box, ...], index: int) -> tuple[Box, ...]:
    return features[:index] + features[index + 1 :]


def _with(features: tuple[Box, ...], index: int, feature: Box) -> tuple[Box, ...]:
    return (*features[:index], feature, *features[index + 1 :])


def missing(rng: Generator, part: Bracket) -> Bracket:
    """Leave out a tab, a hole, the slot, a notch or the print."""
    lot = int(rng.integers(len(part.tabs) + len(part.cutouts)))
    if lot == 0:  # in the place of the bore, which is always there
        return replace(part, marking=())
    if lot < len(part.cutouts):
        return replace(part, cutouts=_without(part.cutouts, lot))
    return replace(part, tabs=_without(part.tabs, lot - len(part.cutouts)))


def _bent_tab(rng: Generator, part: Bracket) -> Bracket:
    index = int(rng.integers(len(part.tabs)))
    tab, angle = part.tabs[index], rng.choice([-1, 1]) * np.deg2rad(rng.uniform(18, 40))
    lever = tab.half_v - 6  # from the tab's centre to its hinge, which is on the plate's edge
    place = {"u": tab.u + lever * np.sin(angle), "v": tab.v + lever * (1 - np.cos(angle)), "angle": angle}
    tilted = replace(tab, **place, tilt=rng.choice([-1, 1]) * rng.uniform(0.15, 0.35))
    return replace(part, tabs=_with(part.tabs, index, tilted))


def _bent_corner(rng: Generator, part: Bracket) -> Bracket:
    plate = part.plate
    corner = np.array([plate.u + rng.choice([-1, 1]) * plate.half_u, plate.v + rng.choice([-1, 1]) * plate.half_v])
    slant = np.deg2rad(rng.uniform(35, 55))
    towards = np.sign(corner) * np.array([np.cos(slant), np.sin(slant)])
    offset = float(corner @ towards - rng.uniform(12, 16))
    tilt = rng.choice([-1, 1]) * rng.uniform(0.15, 0.35)
    return replace(part, fold=Fold((float(towards[0]), float(towards[1])), offset, rng.uniform(0.15, 0.3), tilt))


def _bent_hole(rng: Generator, part: Bracket) -> Bracket:
    index = int(rng.integers(1, 4))  # one of the small holes, or the slot
    hole = part.cutouts[index]
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1.4, 1.8)
    if hole.half_u > hole.half_v:
        deformed = replace(hole, angle=rng.choice([-1, 1]) * np.deg2rad(rng.uniform(12, 24)))
    else:
        deformed = replace(hole, half_u=hole.half_u * stretch, angle=angle)
    return replace(part, cutouts=_with(part.cutouts, index, deformed))


def bent(rng: Generator, part: Bracket) -> Bracket:
    """Bend a tab or a corner, or deform a hole or the slot."""
    bends = (_bent_tab, _bent_corner, _bent_hole)
    return bends[rng.choice(len(bends), p=(0.4, 0.3, 0.3))](rng, part)


_SHAPE_DEFECTS: Mapping[str, Callable[[Generator, Bracket], Bracket]] = MappingProxyType(
    {"missing": missing, "bent": bent},
)
DEFECTS = ("scratch", "dent", *_SHAPE_DEFECTS, "colour")


@dataclass(frozen=True)
class View:
    """How a camera sees the plane of a part.

    Args:
        u: Coordinate along the part of each pixel ``(H, W)``.
        v: Coordinate across it.
        angle: Rotation of the part in radians.
        scale: Pixels per unit of length.
    """

    u: FloatArray
    v: FloatArray
    angle: float
    scale: float

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.u.shape[0], self.u.shape[1]

    def coverage(self, distance: FloatArray, softness: float = 1.0) -> FloatArray:
        """Turn signed distances into opacity in [0, 1], 0.5 on the outline; an edge is ``softness`` pixels wide."""
        return np.clip(0.5 - distance * self.scale / softness, 0, 1)

    def covered(self, boxes: tuple[Box, ...]) -> FloatArray:
        """Return the opacity ``(H, W)`` of several boxes together."""
        each = [self.coverage(box.distance(self.u, self.v)) for box in boxes]
        return np.asarray(np.maximum.reduce(each or [np.zeros(self.size)]))


def _pose(rng: Generator, size: tuple[int, int], freedom: float) -> View:
    y, x = grid(size)
    scale = min(size) / _UNITS
    centre_y, centre_x = (np.array(size) - 1) / 2 + freedom * rng.uniform(-MAX_SHIFT, MAX_SHIFT, 2) * min(size)
    angle = freedom * np.deg2rad(rng.uniform(-MAX_ROTATION, MAX_ROTATION))
    dx, dy = (x - centre_x) / scale, (y - centre_y) / scale
    return View(dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle), angle, scale)


def turn_hue(colours: FloatArray, angle: FloatArray | float) -> FloatArray:
    """Turn the hue of colours and leave luminance and saturation as they are.

    Args:
        colours: RGB values ``(H, W, 3)``.
        angle: Angle in the plane of Cb and Cr, in radians; ``(H, W)`` or one for all.

    Returns:
        RGB values ``(H, W, 3)``.
    """
    luma = (colours * _LUMA).sum(axis=-1)
    blue, red = (colours[..., 2] - luma) / 1.772, (colours[..., 0] - luma) / 1.402
    blue, red = blue * np.cos(angle) - red * np.sin(angle), blue * np.sin(angle) + red * np.cos(angle)
    change = np.stack([1.402 * red, -(0.299 * 1.402 * red + 0.114 * 1.772 * blue) / 0.587, 1.772 * blue], axis=-1)
    return np.asarray(luma[..., None] + change)


def _belt(rng: Generator, size: tuple[int, int]) -> FloatArray:
    """Draw the conveyor: a coarse weave, worn along its way."""
    y, x = grid(size)
    pitch, phase = rng.uniform(5.4, 5.8), rng.uniform(0, 2 * np.pi, 2)
    weave = np.sin(2 * np.pi * x / pitch + phase[0]) * np.sin(2 * np.pi * y / pitch + phase[1])
    worn = 0.05 * smooth_noise(rng, size, (2, 60)) + 0.06 * smooth_noise(rng, size, (14, 14))
    grey = 0.20 * (1 + 0.10 * weave + worn + 0.05 * rng.standard_normal(size))
    return np.asarray(grey[..., None] * np.array([0.92, 1.03, 1.05]))


def _metal(rng: Generator, view: View) -> FloatArray:
    """Draw the plate's surface: rolled along the part, ground here and there, of a yellow that differs a little."""
    size, angle = view.size, view.angle
    grey = 0.47 * (
        1 + 0.025 * smooth_noise(rng, size, (0.7, 25), angle) + 0.02 * smooth_noise(rng, size, (3, 60), angle)
    )
    for _ in range(rng.integers(3, 9)):
        length, slant = rng.uniform(0.1, 0.4) * size[1], angle + rng.normal(0, np.deg2rad(2))
        start = rng.uniform(0.15, 0.8, 2) * np.array(size[::-1])
        points = start + np.linspace(0, length, 9)[:, None] * np.array([np.cos(slant), np.sin(slant)])
        fade = np.sin(np.linspace(0, np.pi, 10)[1:-1]) ** 0.5
        depth = rng.choice([-1, 1]) * rng.uniform(0.02, 0.05)
        grey = grey + depth * stroke(points, list(fade), rng.uniform(0.5, 1.2), size)
    saturation = rng.normal(1, 0.07)
    yellow = np.array([1.09, 1.03, 0.61])
    colours = grey[..., None] * (1 + saturation * (yellow / (yellow * _LUMA).sum() - 1))
    return turn_hue(colours, rng.normal(0, 0.05) + 0.05 * smooth_noise(rng, size, (22, 22)))


def _dust(rng: Generator, size: tuple[int, int]) -> FloatArray:
    """Draw grains and fibres of dust: what they add to the brightness, ``(H, W)``."""
    dust = np.zeros(size)
    for _ in range(rng.integers(6, 26)):
        y, x = (int(rng.integers(side)) for side in size)
        dust[y : y + int(rng.integers(1, 3)), x : x + int(rng.integers(1, 3))] += rng.uniform(0.03, 0.12)
    for _ in range(rng.integers(0, 4)):
        turns = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.35, 9))
        moves = 1.6 * np.stack([np.cos(turns), np.sin(turns)], axis=1)
        points = rng.uniform(0.05, 0.95, 2) * np.array(size[::-1]) + np.cumsum(moves, axis=0)
        dust += rng.uniform(0.05, 0.12) * stroke(points, [1.0] * 8, rng.uniform(0.5, 0.9), size)
    return dust


def _paint(rng: Generator, part: Bracket, view: View) -> FloatArray:
    """Draw a part on the belt; what is random does not depend on the part's features.

    Returns:
        ``(H, W, 3)`` RGB values.
    """
    belt, metal, dust = _belt(rng, view.size), _metal(rng, view), _dust(rng, view.size)
    ink = rng.uniform(0.6, 0.75) * np.clip(1 + 0.15 * smooth_noise(rng, view.size, (2, 2)), 0, 1)  # it wears off
    light = np.deg2rad(rng.normal(45, 6))
    distance = part.distance(view.u, view.v)
    metal = metal * (1 + _shade(part, view))[..., None]
    metal = metal * (1 - (ink * view.covered(part.marking))[..., None] * (1 - np.array([0.35, 0.40, 0.62])))
    slope_y, slope_x = np.gradient(distance * view.scale)
    rim = np.exp(-(((distance + 1) / 1.3) ** 2)) * (np.cos(light) * slope_x + np.sin(light) * slope_y)  # -1..1
    metal = metal * (1 - 0.28 * rim)[..., None]
    thickness = max(1, round(3 * view.scale))
    shadow = view.coverage(np.roll(distance, thickness, axis=(0, 1)), softness=4)
    scene = belt * (1 - 0.45 * shadow)[..., None]
    opacity = view.coverage(distance)[..., None]
    return np.asarray(scene + opacity * (metal - scene) + dust[..., None])


def _shade(part: Bracket, view: View) -> FloatArray:
    """Return by how much bent features are brighter, ``(H, W)`` relative."""
    shade, tilted = np.zeros(view.size), [tab for tab in part.tabs if tab.tilt]
    if not tilted and part.fold is None:
        return shade
    on_plate = view.coverage(part.plate.distance(*part.flattened(view.u, view.v)))
    for tab in tilted:
        shade += tab.tilt * view.covered((tab,)) * (1 - on_plate)
    if part.fold is not None:
        shade += part.fold.tilt * np.clip(part.fold.beyond(view.u, view.v) / 2, 0, 1) * on_plate
    return shade


def _changed(sound: Bracket, damaged: Bracket, view: View) -> BoolArray:
    """Return where two parts differ in outline, print or tilt."""
    opacity = view.coverage(damaged.distance(view.u, view.v))
    outline = np.abs(opacity - view.coverage(sound.distance(view.u, view.v)))
    ink = np.abs(view.covered(damaged.marking) - view.covered(sound.marking))
    tilted = [tab.tilt for tab in damaged.tabs] + ([damaged.fold.tilt] if damaged.fold else [])
    steepest = max(map(abs, tilted), default=0) or 1
    shade = np.abs(_shade(damaged, view)) / steepest * opacity
    return np.asarray(np.maximum.reduce([outline, ink, shade]) > _MASK_LEVEL)


def _drawn_on(
    metal: FloatArray,
    rng: Generator,
    defect: Callable[[Generator, tuple[int, int]], tuple[FloatArray, BoolArray]],
    share: float,
) -> tuple[FloatArray, BoolArray]:
    """Draw a surface's defect until at least a share of it lies on the part; leave out the rest."""
    while True:
        change, mask = defect(rng, (metal.shape[0], metal.shape[1]))
        on_part = mask & (metal > 0.5)
        if on_part.any() and on_part.sum() >= share * mask.sum():
            return change * metal, on_part


def _damaged_surface(rng: Generator, scene: FloatArray, metal: FloatArray, defect: str) -> tuple[FloatArray, BoolArray]:
    """Scratch, dent or discolour the part, whose opacity is ``metal``."""
    if defect == "colour":
        change, mask = _drawn_on(metal, rng, stain, 0.6)
        angle = rng.choice([-1, 1]) * rng.uniform(*_HUE)
        return turn_hue(scene, angle * np.abs(change) / np.abs(change).max()), mask
    draw, share = {"scratch": (scratch, 0.5), "dent": (dent, 0.9)}[defect]
    change, mask = _drawn_on(metal, rng, draw, share)
    return scene * (1 + _CONTRAST[defect] * change[..., None]), mask


def render(
    rng: Generator, *, defect: str | None = None, size: tuple[int, int] = (256, 256), freedom: float = 1.0
) -> tuple[NDArray[np.uint8], BoolArray]:
    """Draw one picture of a bracket as a camera would take it.

    Args:
        rng: Source of randomness; the same fresh generator gives the same picture, and the same part with
            and without a defect.
        defect: One of ``DEFECTS``; ``None`` draws a good part.
        size: Height and width in pixels.
        freedom: Share of the range of poses; with 0 every bracket lies still.

    Returns:
        tuple[NDArray[np.uint8], BoolArray]: RGB picture ``(H, W, 3)`` and mask ``(H, W)``, true where the part is
        defective.

    Raises:
        ValueError: If the defect is unknown.
    """
    if defect is not None and defect not in DEFECTS:
        msg = f"defect must be None or one of {list(DEFECTS)}, got {defect!r}"
        raise ValueError(msg)
    for_part, for_defect, for_camera = rng.spawn(3)
    view, sound = _pose(for_part, size, freedom), _manufacture(for_part)
    damage = _SHAPE_DEFECTS.get(defect) if defect else None
    part = damage(for_defect, sound) if damage else sound
    scene, mask = _paint(for_part, part, view), np.zeros(size, dtype=bool)
    if damage:
        mask = _changed(sound, part, view)
    elif defect:
        metal = view.coverage(sound.distance(view.u, view.v))
        scene, mask = _damaged_surface(for_defect, scene, metal, defect)
    return photograph(for_camera, scene), mask
