# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Anomaly map: what is different is anomalous, measured against what is normal at that place."""

import pytest
import torch

from anomalib_ear.anomaly_map import SIGMAS, AnomalyMapGenerator, image_score, residual

SIZE = (64, 96)


def test_equal_images_have_no_residual() -> None:
    """A perfect recovery leaves nothing but the square root's guard."""
    image = torch.randn(2, 3, *SIZE)
    assert residual(image, image).max() < 1e-3


def test_residual_is_largest_where_the_images_differ() -> None:
    """A small blob that was not recovered is where the residual has its maximum."""
    target = torch.zeros(1, 3, *SIZE)
    target[..., 20:26, 50:56] = 1
    y, x = divmod(residual(target, torch.zeros_like(target)).flatten().argmax().item(), SIZE[1])
    assert 16 <= y < 30
    assert 46 <= x < 60


def test_half_is_reached_at_the_bound_of_normal_surfaces() -> None:
    """A residual of mean + SIGMAS·std of the defect-free ones scores 0.5."""
    residuals = torch.rand(16, 1, *SIZE, generator=torch.Generator().manual_seed(0)) + 1
    generator = AnomalyMapGenerator()
    generator.calibrate(residuals)
    bound = (residuals.mean() + SIGMAS * residuals.std()).expand(1, 1, *SIZE)
    torch.testing.assert_close(generator(bound), torch.full((1, 1, *SIZE), 0.5), atol=0.02, rtol=0)


def test_a_busy_place_is_judged_by_its_own_normality() -> None:
    """The same residual is more anomalous on the quiet half of a surface than on its busy half."""
    residuals = torch.rand(16, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    residuals[..., SIZE[1] // 2 :] *= 10
    generator = AnomalyMapGenerator()
    generator.calibrate(residuals)
    anomaly_map = generator(torch.ones(1, 1, *SIZE))
    assert anomaly_map[0, 0, 32, 8] > anomaly_map[0, 0, 32, -8] + 0.2


@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_the_worst_defects_keep_their_order(scale: float) -> None:
    """The map stays below one and grows with the residual, however large."""
    generator = AnomalyMapGenerator()
    lower, higher = generator(torch.tensor([scale, 1.01 * scale]).reshape(2, 1, 1, 1))
    assert lower < higher < 1


@pytest.mark.parametrize("level", [1e-6, 0.5, 0.999])
def test_a_constant_map_scores_its_value(level: float) -> None:
    """However small the values are, a flat map's score is its value."""
    torch.testing.assert_close(image_score(torch.full((2, 1, 64, 96), level)), torch.full((2,), level))


def test_a_defect_scores_more_than_a_lone_pixel() -> None:
    """Of two maps with one maximum, the one with the larger region scores higher, and both stay near the maximum."""
    maps = torch.full((2, 1, 256, 256), 0.1)
    maps[0, 0, 100, 100] = 0.9
    maps[1, 0, 100:110, 100:110] = 0.9
    pixel, region = image_score(maps)
    assert 0.7 < pixel < region < 0.9
