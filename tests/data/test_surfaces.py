# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the procedural surfaces."""

import numpy as np
import pytest

from anomalib_ear.data.surfaces import DEFECTS, TEXTURES, illumination, render, smooth_noise, stroke

SIZES = [(256, 256), (96, 160), (73, 51)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("texture", TEXTURES)
def test_texture_fills_any_size_without_clipping(texture: str, size: tuple[int, int]) -> None:
    """A texture has the size asked for and stays inside the camera's range before the light is applied."""
    surface = TEXTURES[texture](np.random.default_rng(0), size)
    assert surface.shape[:2] == size
    assert surface.shape[2] in (1, 3)
    assert 0 < surface.min() < surface.max() < 1


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("defect", DEFECTS)
def test_defect_changes_brightness_under_its_mask(defect: str, size: tuple[int, int]) -> None:
    """A defect has a small mask, and brightness changes far more inside it than outside."""
    for seed in range(10):
        change, mask = DEFECTS[defect](np.random.default_rng(seed), size)
        assert change.shape == mask.shape == size
        assert 0 < mask.mean() < 0.2
        assert np.abs(change[mask]).mean() > 10 * np.abs(change[~mask]).mean()


def test_dent_is_bright_on_one_side_and_dark_on_the_other() -> None:
    """A dent's shading adds up to about nothing."""
    change, mask = DEFECTS["dent"](np.random.default_rng(3), (256, 256))
    assert change[mask].max() > 0.1
    assert change[mask].min() < -0.1
    assert abs(change.sum()) < 0.2 * np.abs(change).sum()


def test_scratches_are_dark_or_bright_and_some_begin_at_a_border() -> None:
    """Among 60 scratches most are dark, some are bright, and some touch the border."""
    drawn = [DEFECTS["scratch"](np.random.default_rng(seed), (256, 256)) for seed in range(60)]
    dark = np.mean([change.sum() < 0 for change, _ in drawn])
    at_border = np.mean([mask[0].any() or mask[-1].any() for _, mask in drawn])
    assert 0.5 < dark < 0.95
    assert 0.2 < at_border < 0.8


@pytest.mark.parametrize("texture", TEXTURES)
def test_same_generator_state_gives_the_same_picture(texture: str) -> None:
    """Pictures depend on the generator's state and on nothing else."""
    first, first_mask = render(texture, np.random.default_rng(5), defect="pit")
    again, again_mask = render(texture, np.random.default_rng(5), defect="pit")
    other, _ = render(texture, np.random.default_rng(6), defect="pit")
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first_mask, again_mask)
    assert np.mean(first != other) > 0.5


@pytest.mark.parametrize(
    ("texture", "shape"),
    [("brushed_metal", (64, 80)), ("cast_iron", (64, 80)), ("woven", (64, 80, 3))],
)
def test_picture_is_8_bit_grey_or_rgb(texture: str, shape: tuple[int, ...]) -> None:
    """Metal surfaces are grey pictures, the laminate is RGB."""
    picture, _ = render(texture, np.random.default_rng(0), size=(64, 80))
    assert picture.dtype == np.uint8
    assert picture.shape == shape


def test_good_part_has_an_empty_mask() -> None:
    """Without a defect nothing is marked, harmless marks included."""
    _, mask = render("cast_iron", np.random.default_rng(0))
    assert not mask.any()


@pytest.mark.parametrize("texture", TEXTURES)
def test_light_and_texture_use_the_range_without_saturation(texture: str) -> None:
    """Hardly any pixel of a good part is black or white."""
    pictures = np.stack([render(texture, np.random.default_rng(seed))[0] for seed in range(12)])
    assert np.mean((pictures == 0) | (pictures == 255)) < 1e-3


def test_illumination_drifts_between_and_within_images() -> None:
    """Light differs by more than 5 percent from image to image and from corner to corner."""
    lights = np.stack([illumination(np.random.default_rng(seed), (64, 96), 3) for seed in range(30)])
    assert lights.shape == (30, 64, 96, 3)
    assert lights.mean(axis=(1, 2, 3)).std() > 0.05
    assert np.ptp(lights, axis=(1, 2)).mean() > 0.05


def test_smooth_noise_is_standardised_and_runs_along_its_direction() -> None:
    """Noise has mean 0 and deviation 1, and neighbours along the blur are more alike than across it."""
    noise = smooth_noise(np.random.default_rng(0), (128, 101), (1, 12))
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, 1], atol=1e-9)
    assert np.abs(np.diff(noise, axis=1)).mean() < 0.3 * np.abs(np.diff(noise, axis=0)).mean()


def test_stroke_has_its_width_and_opacity() -> None:
    """A horizontal line of width 2 and opacity 0.5 covers two rows by half."""
    line = stroke(np.array([[-5.0, 10.0], [70.0, 10.0]]), [0.5], 2, (20, 64))
    np.testing.assert_allclose(line.sum(axis=0), 2 * 0.5, atol=0.02)


@pytest.mark.parametrize(
    ("texture", "defect", "message"),
    [
        ("glass", "dent", r"texture must be .*'woven'.* got 'glass'"),
        ("woven", "crack", r"defect .*'stain'.* got 'crack'"),
    ],
    ids=["texture", "defect"],
)
def test_unknown_name_is_refused_with_the_known_ones(texture: str, defect: str, message: str) -> None:
    """The error names the argument, the accepted values and the value received."""
    with pytest.raises(ValueError, match=message):
        render(texture, np.random.default_rng(0), defect=defect)
