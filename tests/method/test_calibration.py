# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Anomaly map: what is different is anomalous, measured against what is normal at that place."""

import math

import pytest
import torch

from anomalib_ear.method.calibration import SIGMAS, STEEPNESS, AnomalyMapGenerator, image_score
from anomalib_ear.method.detail import Detail
from anomalib_ear.method.place_statistics import Statistics

GRID = (10, 14)  # positions: not a multiple of a cell
SIZE = (80, 112)


class Calibrated:
    """A generator that knows residuals as normal; the detail says nothing."""

    def __init__(self, residuals: torch.Tensor) -> None:
        self.generator = AnomalyMapGenerator(residuals.shape[1])
        self.generator.calibrate([residuals], [self.flat(residuals)], torch.ones(len(residuals)))

    def __call__(self, residuals: torch.Tensor) -> torch.Tensor:
        """Map residuals to eight times their height and width."""
        return self.generator(residuals, self.flat(residuals))

    @staticmethod
    def flat(residuals: torch.Tensor) -> torch.Tensor:
        """Return detail without any."""
        n, _, h, w = residuals.shape
        return torch.zeros(n, Detail.dimensions, 2 * h, 2 * w)


def normal(count: int, dimensions: int = 5, seed: int = 0) -> torch.Tensor:
    """Draw residuals ``(count, dimensions, *GRID)`` whose channels depend on each other."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=torch.Generator().manual_seed(9))
    return torch.einsum("ij,njhw->nihw", mixing, torch.randn(count, dimensions, *GRID, generator=generator))


def test_normal_residuals_stay_below_a_half() -> None:
    """Residuals like those of the calibration are normal nearly everywhere, on images it has not seen."""
    anomaly_map = Calibrated(normal(64))(normal(16, seed=1))
    assert anomaly_map.shape == (16, 1, *SIZE)
    assert (anomaly_map > 0.5).float().mean() < 0.01


def test_half_is_reached_at_the_bound_of_normal_surfaces() -> None:
    """A residual whose logarithm is mean + SIGMAS·std of the defect-free ones scores 0.5."""
    noise = torch.randn(200, 1, *GRID, generator=torch.Generator().manual_seed(0))
    generator = Calibrated((0.3 * noise).exp())
    half = torch.zeros(1, 1, *GRID)
    half[..., : GRID[1] // 2] = SIGMAS * 0.3
    anomaly_map = generator(half.exp())[..., : SIZE[1] // 2 - 16]  # without what is smoothed across
    torch.testing.assert_close(anomaly_map, torch.full_like(anomaly_map, 0.5), atol=0.03, rtol=0)
    # Light or focus lift the whole map. That counts half, on one image as on another beside it.
    whole = torch.cat([torch.full_like(half, SIGMAS * 0.3), half]).exp()
    expected = 1 / (1 + math.exp(STEEPNESS * SIGMAS / 2))
    lifted = generator(whole)[:1]
    torch.testing.assert_close(lifted, torch.full_like(lifted, expected), atol=0.03, rtol=0)


def test_a_busy_place_is_judged_by_its_own_normality() -> None:
    """The same residual is more anomalous on the quiet half of a surface than on its busy half."""
    residuals = normal(32, 1)
    residuals[..., GRID[1] // 2 :] *= 10
    anomaly_map = Calibrated(residuals)(torch.full((1, 1, *GRID), 8.0))
    assert anomaly_map[0, 0, 40, 16] > anomaly_map[0, 0, 40, -16] + 0.1


def test_a_direction_that_never_varies_is_the_most_telling() -> None:
    """Of two residuals of one length, the one across what normal surfaces do is the more anomalous."""
    residuals = normal(64, 2)
    residuals[:, 1] = residuals[:, 0] + 0.1 * residuals[:, 1]  # the channels go together
    along, across = torch.tensor([[1.0, 1.0], [1.0, -1.0]])[..., None, None].expand(2, 2, *GRID).split(1)
    generator = Calibrated(residuals)
    assert generator(across).mean() > generator(along).mean() + 0.05


def test_a_defect_is_where_the_map_is_highest() -> None:
    """Position (3, 11) of the residual is that share of the map's height and width."""
    residuals = normal(1, seed=1)
    residuals[..., 3, 11] += 20
    y, x = divmod(Calibrated(normal(64))(residuals).flatten().argmax().item(), SIZE[1])
    assert abs(y - 8 * 3.5) <= 8
    assert abs(x - 8 * 11.5) <= 8


@pytest.mark.parametrize("grid", [(10, 14), (20, 28), (13, 9), (1, 1)], ids=str)
def test_images_of_another_size_use_the_statistics_of_their_places(grid: tuple[int, int]) -> None:
    """The bound is that of the same share of height and width."""
    residuals = normal(32, 1)
    residuals[..., GRID[1] // 2 :] *= 10
    anomaly_map = Calibrated(residuals)(torch.full((2, 1, *grid), 8.0))
    assert anomaly_map.shape == (2, 1, 8 * grid[0], 8 * grid[1])
    assert anomaly_map.isfinite().all()
    if grid[1] > 4:
        assert anomaly_map[..., : 2 * grid[1]].mean() > anomaly_map[..., -2 * grid[1] :].mean() + 0.1


def test_large_images_have_no_more_cells_than_small_ones() -> None:
    """The statistics of a large image take no more memory: their number is bounded."""
    residuals = torch.randn(2, 1, 100, 230, generator=torch.Generator().manual_seed(0))
    generator = Calibrated(residuals)
    rows, columns = generator.generator.residual.whitening.shape[:2]
    assert rows <= 20
    assert columns <= 20
    assert generator(residuals).shape == (2, 1, 800, 1840)


@pytest.mark.parametrize("count", [1, 2])
def test_one_image_is_enough_to_calibrate(count: int) -> None:
    """Too few images for the spread at a place borrow it from the other places."""
    anomaly_map = Calibrated(normal(count, 8))(normal(4, 8, seed=1))
    assert anomaly_map.isfinite().all()
    assert anomaly_map.mean() < 0.6


def test_flat_residuals_calibrate() -> None:
    """Surfaces that are recovered without any residual do not divide by zero."""
    anomaly_map = Calibrated(torch.zeros(4, 3, *GRID))(torch.ones(1, 3, *GRID))
    assert anomaly_map.isfinite().all()
    assert anomaly_map.min() > 0.5


@pytest.mark.parametrize("scale", [1e1, 1e2, 1e3])
def test_the_worst_defects_keep_their_order(scale: float) -> None:
    """The map stays below one and grows with the residual, however large."""
    residuals = torch.tensor([scale, 1.1 * scale]).reshape(2, 1, 1, 1).expand(2, 1, *GRID)
    lower, higher = Calibrated(normal(64, 1))(residuals).mean(dim=(1, 2, 3))
    assert lower < higher < 1


def test_what_is_like_nothing_in_training_keeps_its_order_too() -> None:
    """Lengths of many channels vary little, so that another kind of image is hundreds of standard deviations off."""
    generator = Calibrated(normal(16, 192))
    low, high = (generator(scale * normal(1, 192, seed=1)) for scale in (50, 100))
    assert (low < high).all()
    assert high.max() < 1


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


@pytest.mark.parametrize("copies", [1, 2])
def test_new_parts_score_like_those_of_training(copies: int) -> None:
    """What one in twenty photographs of training exceeds few of new parts do, though training has six of each part."""
    generator = torch.Generator().manual_seed(0)

    def photographs(parts: int, each: int) -> tuple[torch.Tensor, torch.Tensor]:
        own = torch.randn(parts, 1, 16, 1, 1, generator=generator).expand(-1, each, -1, -1, -1).flatten(0, 1)
        noise = torch.randn(parts * each, 16, 4, 4, generator=generator)
        return own + 0.2 * noise, 0.1 * torch.randn(parts * each, Detail.dimensions, 16, 16, generator=generator)

    training, order = photographs(30, 6), torch.randperm(180, generator=generator).repeat_interleave(copies)
    generator_of_maps = AnomalyMapGenerator(16)
    evidence = zip(*(kind[order].split(8 * copies) for kind in training), strict=True)
    scores = generator_of_maps.fit(evidence, copies)
    assert len(scores) == 180
    new = image_score(generator_of_maps(*photographs(400, 1)))
    assert (new > scores.quantile(0.95)).float().mean() < 0.15  # 0.63 with folds that do not look at the images


@pytest.mark.parametrize(("count", "weight"), [(100, 1), (500, 4), (1000, 8)])
def test_many_photographs_weigh_more_than_their_copies(count: int, weight: int) -> None:
    """Where there are many photographs the map is standardised by them, where there are few by the copies as well."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.tensor([1.0, 3.0]).repeat(count).reshape(-1, 1, 1, 1)  # a varied copy differs three times as much
    residuals = wide * torch.randn(2 * count, 4, 4, 4, generator=generator)
    details = torch.randn(2 * count, Detail.dimensions, 16, 16, generator=generator)
    generator_of_maps = AnomalyMapGenerator(4)
    generator_of_maps.fit(zip(residuals.split(8), details.split(8), strict=True), 2)
    whitening = generator_of_maps.residual.whitening
    variance = (whitening.diagonal(dim1=-2, dim2=-1) ** -2).mean()
    torch.testing.assert_close(variance, torch.tensor((weight + 9.0) / (weight + 1)), rtol=0.05, atol=0)


def test_a_weight_for_all_changes_nothing() -> None:
    """Statistics depend on how photographs weigh among each other alone."""
    residuals = torch.randn(20, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    once, fivefold = Statistics(4, 2), Statistics(4, 2)
    once.calibrate([residuals], torch.ones(20))
    fivefold.calibrate([residuals], torch.full((20,), 5.0))
    for name, value in once.state_dict().items():
        torch.testing.assert_close(fivefold.state_dict()[name], value)
