# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Variation: each strength changes what its name says, up to its bound, and zero changes nothing."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from anomalib_ear.method.variation import DEFAULTS, NONE, Variation, draws_of


def vary(image: Tensor, **strengths: float) -> Tensor:
    """Vary 400 copies of an image by these strengths alone."""
    with draws_of(0):
        return Variation(**{**NONE, **strengths})(image.expand(400, -1, -1, -1))


@pytest.fixture
def dot() -> Tensor:
    """Return a bright square of 4 x 4 pixels in the middle of a dark image."""
    image = torch.zeros(1, 3, 80, 40)
    image[..., 38:42, 18:22] = 0.5
    return image


def places(image: Tensor) -> Tensor:
    """Return where the brightness lies on average, relative to the middle of the image, in pixels: ``(N, 2)``."""
    light = image.sum(dim=1)
    light = light / light.sum(dim=(1, 2), keepdim=True)
    y, x = (torch.arange(side) - (side - 1) / 2 for side in image.shape[-2:])
    return torch.stack([(light.sum(dim=2) * y).sum(dim=1), (light.sum(dim=1) * x).sum(dim=1)], dim=1)


def test_brightness_multiplies_all_channels_alike() -> None:
    """Copies are up to a tenth darker or brighter, evenly spread."""
    means = vary(torch.full((1, 3, 8, 8), 0.5), brightness=0.1).mean(dim=(2, 3)) / 0.5
    assert means.std(dim=1).max() < 1e-6
    assert 0.9 <= means.min() < 0.91
    assert 1.09 < means.max() <= 1.1


def test_colour_multiplies_each_channel() -> None:
    """Channels change apart from each other, by up to a tenth."""
    means = vary(torch.full((1, 3, 8, 8), 0.5), colour=0.1).mean(dim=(2, 3)) / 0.5
    assert means.std(dim=1).mean() > 0.03
    assert 0.9 <= means.min() < 0.91
    assert 1.09 < means.max() <= 1.1


def test_noise_is_of_every_strength_up_to_the_given_one() -> None:
    """Half of the copies have grain, up to the standard deviation asked for, as of grey and of colour cameras."""
    varied = vary(torch.full((1, 3, 32, 32), 0.5), noise=0.05)
    common, own = varied.mean(dim=1).std(dim=(1, 2)), (varied - varied.mean(dim=1, keepdim=True)).std(dim=(1, 2, 3))
    assert 0.4 < (common == 0).float().mean() < 0.6
    assert 0.045 < common.max() < 0.065
    assert 0.035 < own.max() < 0.045  # what three channels of 0.05 have beside their mean: the root of 2/3
    assert common[own.argmax()] < 0.065


def test_blur_softens_some_images() -> None:
    """About half of the images lose detail, the others none."""
    image = torch.rand(1, 3, 32, 32)
    changed = (vary(image, blur=1.0) - image).abs().amax(dim=(1, 2, 3)) > 1e-6
    assert 0.4 < changed.float().mean() < 0.6


def test_jpeg_loses_what_its_quality_loses() -> None:
    """Some images are compressed; the strongest loss is that of a file of the lowest quality."""
    image = torch.from_numpy(np.random.default_rng(0).integers(90, 160, (48, 48, 3), dtype=np.uint8))
    file = io.BytesIO()
    Image.fromarray(image.numpy()).save(file, "JPEG", quality=40)
    original = image.permute(2, 0, 1)[None] / 255
    stored = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255
    losses = (vary(original, jpeg=60) - original).std(dim=(1, 2, 3))
    assert 0.2 < (losses > 1e-6).float().mean() < 0.4
    assert abs(losses.max() / (stored - original).std() - 1) < 0.15


@pytest.mark.parametrize("shift", [0.05, 0.1])
def test_shift_is_a_share_of_each_side(dot: Tensor, shift: float) -> None:
    """Parts move along height and width by up to the share of each."""
    found = places(vary(dot, shift=shift)).abs().amax(dim=0)
    height, width = dot.shape[-2:]
    for most, side in zip(found.tolist(), (height, width), strict=True):
        assert 0.9 * shift * side < most <= 1.03 * shift * side  # a side may be counted from pixel to pixel


def test_rotation_is_in_degrees(dot: Tensor) -> None:
    """A dot at a distance from the middle goes along the arc to both sides."""
    moved = places(vary(torch.roll(dot, 20, dims=2), rotation=10))
    angles = torch.rad2deg(torch.atan2(moved[:, 1], moved[:, 0]))
    assert -10.2 < angles.min() < -9
    assert 9 < angles.max() < 10.2


def test_borders_reflect_the_image() -> None:
    """No strip that no camera would show comes in with a shift or a rotation: a bright part stays bright all over."""
    assert vary(torch.full((1, 3, 32, 32), 0.7), shift=0.2, rotation=20).min() > 0.69


def test_images_vary_apart_from_each_other(dot: Tensor) -> None:
    """A batch is not varied as a whole."""
    varied = Variation()(dot.expand(3, -1, -1, -1))
    assert not torch.equal(varied[0], varied[1])
    assert not torch.equal(varied[1], varied[2])


def test_defaults_stay_in_range() -> None:
    """Shape and range are the image's, also where it is black or white."""
    image = F.interpolate(torch.rand(8, 3, 4, 4).round(), size=(40, 24))
    varied = Variation()(image)
    assert varied.shape == image.shape
    assert varied.min() >= 0
    assert varied.max() <= 1


def test_mixed_precision_varies_alike(dot: Tensor) -> None:
    """A training in bfloat16 moves parts to the same place."""
    varied = []
    for enabled in (False, True):
        with draws_of(0), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            varied.append(Variation()(dot.expand(8, -1, -1, -1)))
    assert torch.equal(*varied)


@pytest.mark.parametrize("size", [(8, 8), (9, 64)], ids=str)
def test_small_images_are_varied(size: tuple[int, int]) -> None:
    """An image may be smaller than the kernel that blurs it."""
    image = torch.rand(16, 3, *size)
    assert Variation()(image).shape == image.shape


def test_all_zero_changes_nothing(dot: Tensor) -> None:
    """Switched off, images come back to the last bit."""
    assert torch.equal(Variation(**NONE)(dot), dot)


def test_only_what_is_given_changes() -> None:
    """What is left out keeps its default."""
    assert Variation(brightness=0).strengths == DEFAULTS | {"brightness": 0}


@pytest.mark.parametrize(
    ("strengths", "message"),
    [
        ({"brightnes": 0.1}, "brightness, colour, noise, blur, shift, rotation, jpeg"),
        ({"brightness": 1.5}, "brightness must be from 0 to 1, got 1.5"),
        ({"shift": -0.1}, "shift must be from 0 to 0.5, got -0.1"),
        ({"rotation": float("nan")}, "rotation must be from 0 to 180, got nan"),
    ],
)
def test_bad_strengths_are_named(strengths: dict[str, float], message: str) -> None:
    """A wrong name or number is refused with what would be right."""
    with pytest.raises(ValueError, match=message):
        Variation(**strengths)
