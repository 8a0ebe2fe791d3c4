# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the procedural bracket."""

from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from anomalib_ear.data.parts import DEFECTS, MAX_SHIFT, NOMINAL, missing, render, turn_hue

SEEDS = range(6)


@cache
def picture(seed: int, defect: str | None = None) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Picture ``(256, 256, 3)`` in 0..255 and mask ``(256, 256)``."""
    pixels, mask = render(np.random.default_rng(seed), defect=defect)
    return pixels.astype(np.float64), mask


def change(seed: int, defect: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """How far each pixel ``(256, 256)`` is from the same part without the defect, in grey levels, and the mask."""
    defective, mask = picture(seed, defect)
    return np.abs(defective - picture(seed)[0]).max(axis=2), mask


def luminance_and_chroma(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Y, Cb and Cr ``(H, W, 3)`` of RGB, in grey levels."""
    return np.asarray(Image.fromarray(pixels.astype(np.uint8)).convert("YCbCr"), dtype=np.float64)


def metal(seed: int) -> NDArray[np.bool_]:
    """Pixels ``(256, 256)`` of a good part, which is yellow, where the belt is bluish."""
    return yellow(picture(seed)[0])


def yellow(pixels: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which pixels ``(H, W)`` of a picture ``(H, W, 3)`` are more red than blue."""
    smooth = cv2.GaussianBlur(pixels, (0, 0), 1)
    return np.asarray(smooth[..., 0] > smooth[..., 2])


@pytest.mark.parametrize("defect", DEFECTS)
def test_picture_differs_from_the_sound_part_where_the_mask_is(defect: str) -> None:
    """A defect changes nearly all pixels of its mask, hardly one outside; place, light and noise stay."""
    for seed in SEEDS:
        difference, mask = change(seed, defect)
        assert 20 < mask.sum() < 0.15 * mask.size
        assert np.mean(difference[mask] > 3) > 0.7
        assert difference[mask].mean() > 20 * difference[~mask].mean()
        near = cv2.dilate(mask.astype(np.uint8), np.ones((31, 31))) > 0
        assert difference[~near].max() <= 2


@pytest.mark.parametrize("defect", DEFECTS)
def test_defect_is_on_the_part(defect: str) -> None:
    """A mask lies on the good part, or close to its edge where a feature is bent."""
    for seed in SEEDS:
        near = cv2.dilate(metal(seed).astype(np.uint8), np.ones((25, 25))) > 0
        assert near[picture(seed, defect)[1]].all()


def test_colour_defect_is_one_of_colour_alone() -> None:
    """Within its mask grey values stay as they are, chroma does not."""
    for seed in SEEDS:
        (defective, mask), (sound, _) = picture(seed, "colour"), picture(seed)
        grey, blue, red = (luminance_and_chroma(defective) - luminance_and_chroma(sound))[mask].T
        assert np.abs(grey).mean() < 0.6  # the rounding of three channels
        assert np.abs(grey).max() <= 3
        assert np.hypot(blue, red).mean() > 8


def test_hue_turns_at_equal_luminance_and_saturation() -> None:
    """Turning to and fro gives the colours again, and a half turn the complementary ones."""
    colours = np.random.default_rng(0).uniform(0.2, 0.6, (5, 7, 3))
    luma = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(turn_hue(turn_hue(colours, 0.9), -0.9), colours)
    np.testing.assert_allclose(turn_hue(colours, 0.9) @ luma, colours @ luma)
    np.testing.assert_allclose((turn_hue(colours, np.pi) + colours) / 2, np.repeat((colours @ luma)[..., None], 3, -1))


def test_parts_lie_at_other_places_but_wholly_in_the_picture() -> None:
    """Centres spread over most of the range, and no part touches the border."""
    parts = np.stack([metal(seed) for seed in range(30)])
    assert not parts[:, [0, 1, -2, -1]].any()
    assert not parts[:, :, [0, 1, -2, -1]].any()
    centres = np.array([np.argwhere(part).mean(axis=0) for part in parts]) / 256
    assert (np.ptp(centres, axis=0) > 1.5 * MAX_SHIFT).all()
    assert (np.ptp(centres, axis=0) < 2.5 * MAX_SHIFT).all()


def test_parts_without_freedom_lie_still() -> None:
    """Each is another part under another light, all at one place."""
    pictures = [render(np.random.default_rng(seed), freedom=0)[0] for seed in range(8)]
    centres = np.array([np.argwhere(yellow(pixels.astype(np.float64))).mean(axis=0) for pixels in pictures])
    assert (np.ptp(centres, axis=0) < 1).all()
    assert all(np.mean(pictures[0] != other) > 0.5 for other in pictures[1:])


def test_any_feature_but_the_bore_can_be_missing() -> None:
    """Among 200 draws each tab, each cut-out but the first, and the print are missing, one at a time."""
    drawn = [missing(np.random.default_rng(seed), NOMINAL) for seed in range(200)]
    lost = [set(NOMINAL.tabs + NOMINAL.cutouts) - set(part.tabs + part.cutouts) for part in drawn]
    assert {len(features) for features in lost} == {0, 1}
    assert set().union(*lost) == set(NOMINAL.tabs + NOMINAL.cutouts[1:])
    assert all(bool(features) == bool(part.marking) for features, part in zip(lost, drawn, strict=True))


@pytest.mark.parametrize("defect", [None, *DEFECTS])
def test_same_generator_gives_the_same_picture(defect: str | None) -> None:
    """Pictures depend on the generator and on nothing else."""
    (first, first_mask), (other, _) = (picture(seed, defect) for seed in (5, 6))
    again, again_mask = render(np.random.default_rng(5), defect=defect)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first_mask, again_mask)
    assert np.mean(first != other) > 0.5
    assert first_mask.any() == (defect is not None)


@pytest.mark.parametrize("size", [(96, 160), (73, 51)], ids=str)
@pytest.mark.parametrize("defect", [None, *DEFECTS])
def test_picture_has_any_size(defect: str | None, size: tuple[int, int]) -> None:
    """Pictures of other sizes are RGB in 8 bits as well."""
    pixels, mask = render(np.random.default_rng(0), defect=defect, size=size)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (*size, 3)
    assert mask.shape == size


def test_hardly_a_pixel_is_saturated() -> None:
    """Light, rims and dust stay within the camera's range."""
    pixels = np.stack([picture(seed)[0] for seed in range(12)])
    assert np.mean((pixels == 0) | (pixels == 255)) < 1e-3


def test_unknown_defect_is_refused() -> None:
    """The error names the known ones."""
    with pytest.raises(ValueError, match=r"defect must be .*'scratch'.*got 'pit'"):
        render(np.random.default_rng(0), defect="pit")
