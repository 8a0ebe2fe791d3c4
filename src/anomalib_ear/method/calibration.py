# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""From the difference between image and recovery to an anomaly map.

A defect-free surface differs from place to place (edges, texture, brightness) and from feature to feature. So residuals
are judged against those of defect-free images at the same place, in two steps. The Mahalanobis length weighs each
direction by how much it varies there, as PaDiM does with features themselves (Defard et al., ICPR 2021 workshops). This
length is then standardised by its own distribution there, which is close to log-normal.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own idiom

from anomalib_ear.method.detail import Detail, sharpen
from anomalib_ear.method.folds import Chosen, folds_of, regroup
from anomalib_ear.method.padding import pad_to_multiple

# Exponent of the generalised mean that scores an image; with infinity it would be the maximum.
SCORE_POWER = 64
# Side of the cells that have a second moment of their own, in positions of the residual and of the detail. With 1 the
# statistics of an image of 640 x 256 pixels would take half a gigabyte.
CELL = 2
DETAIL_CELL = 8
# Largest number of cells along height or width: large images have larger cells. A cell of 192 channels takes 0.15 MB.
MAX_CELLS = 20
# Each cell's second moment is drawn towards that over all cells, which weighs as much as this many residuals per
# direction: a cell with fewer has mostly the shared one.
PRIOR = 2
# Every direction has at least this share of the mean variance, even if it hardly varies.
RIDGE = 0.01
# Share of what a whole image deviates by that is taken off. Light, focus and noise lift all of a map, a defect lifts a
# part: an image deviates as a whole by what three quarters of its positions exceed.
SHARED = 0.5
# Standard deviations above the mean of defect-free surfaces at which the anomaly map reaches one half.
SIGMAS = 3.0
# Natural logarithm of the odds per standard deviation: small enough that the worst defects keep their order in float32.
STEEPNESS = 0.2
# Above this the logarithm of the odds grows only as a logarithm. Images that are like nothing in training lie hundreds
# of standard deviations off, and a map of ones would tell nothing.
_STRAIGHT = 8.0
_TINY = 1e-12

DIVERGED = (
    "training diverged: the loss or what is recovered is no longer a finite number. Lower learning_rate "
    "(--model.learning_rate) and train again."
)


def image_score(anomaly_map: Tensor) -> Tensor:
    """Score images by the generalised mean of their maps, a soft maximum (Radenović et al., TPAMI 41(7), 2019).

    CLAP takes the maximum, which a single pixel decides. The mean of the highest thousandth does about the same as
    this, but selecting a share of the pixels does not export for dynamic sizes.

    Args:
        anomaly_map: Shape ``(N, 1, H, W)``, values in [0, 1).

    Returns:
        Scores of shape ``(N,)`` in [0, 1), at most the map's maximum and near it.
    """
    highest = anomaly_map.amax(dim=(-3, -2, -1), keepdim=True).clamp(min=1e-12)
    # Relative to the maximum, because a small number to this power is 0 in float32.
    spread = (anomaly_map / highest).pow(SCORE_POWER).mean(dim=(-3, -2, -1)).pow(1 / SCORE_POWER)  # (N,)
    return highest.flatten() * spread


class Statistics(nn.Module):
    """What residuals of defect-free images are like at each place.

    Args:
        dimensions: Channels of the residuals, ``K``.
        cell: Side of the cells that have a second moment of their own, in positions.

    Attributes:
        whitening: Per cell of ``cell`` × ``cell`` positions or more, the matrix that makes the second moment of
            defect-free residuals the identity, ``(rows, columns, K, K)``.
        mean: Mean logarithm of the length of defect-free residuals per position, ``(1, 1, h, w)``.
        std: Its standard deviation, same shape.
    """

    whitening: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, dimensions: int, cell: int) -> None:
        super().__init__()
        self.cell = cell
        self.register_buffer("whitening", torch.eye(dimensions).reshape(1, 1, dimensions, dimensions))
        self.register_buffer("mean", torch.zeros(1, 1, 1, 1))
        self.register_buffer("std", torch.ones(1, 1, 1, 1))

    @property
    def grid(self) -> tuple[int, int]:
        """Number of cells along height and width; residuals need at least as many positions."""
        rows, columns = self.whitening.shape[:2]
        return rows, columns

    def calibrate(self, parts: Sequence[Tensor]) -> None:
        """Take the statistics of defect-free residuals.

        Beside the residuals this takes a few times the memory of ``whitening``, and as much as a part in float32.

        Args:
            parts: Residuals of defect-free images, ``(n, K, h, w)`` each, of any floating type, as
                :func:`regroup` makes them.
        """
        k, *size = parts[0].shape[1:]
        sides = [max(self.cell, math.ceil(length / MAX_CELLS)) for length in size]
        grid = (math.ceil(size[0] / sides[0]), math.ceil(size[1] / sides[1]))
        device = self.whitening.device
        identity = torch.eye(k, device=device)
        moments = torch.zeros(grid[0] * grid[1], k, k, device=device)
        count = 0
        for part in parts:
            cells = to_cells(part, grid).flatten(0, 1)  # (cells, K, n')
            for index, cell in enumerate(cells):  # one by one, so that copies in float32 stay small
                moments[index] += cell.float() @ cell.float().T
            count += cells.shape[-1]
        mean = moments.mean(dim=0) / count
        moments = (moments + PRIOR * k * mean) / (count + PRIOR * k)
        ridge = RIDGE * mean.diagonal().mean() + _TINY
        factors = torch.linalg.cholesky(moments + ridge * identity)
        whitening = torch.linalg.solve_triangular(factors, identity.expand_as(factors), upper=False)
        self.whitening = whitening.reshape(*grid, k, k)
        lengths = torch.empty(sum(map(len, parts)), 1, *size, device=device)
        # Filled in place: small results that are kept between large ones that are freed would leave holes in memory.
        filled = 0
        for few in (few for part in parts for few in part.split(8)):
            lengths[filled : filled + len(few)] = self.length(few.float())
            filled += len(few)
        self.mean = lengths.mean(dim=0, keepdim=True)
        # Towards that of all positions together: a few images may agree at one of them by chance.
        shared = PRIOR / (len(lengths) + PRIOR)
        variance = (1 - shared) * (lengths - self.mean).square().mean(dim=0, keepdim=True)
        variance = variance + shared * lengths.var(correction=0)
        self.std = variance.sqrt().clamp(min=1e-3)

    def length(self, residuals: Tensor) -> Tensor:
        """Return the logarithm of the Mahalanobis length, ``(N, K, h, w)`` → ``(N, 1, h, w)``."""
        height, width = residuals.shape[-2:]
        k = residuals.shape[1]
        cells = to_cells(residuals, self.grid)  # (rows, columns, K, N·a·b)
        whitened = torch.bmm(self.whitening.reshape(-1, k, k), cells.flatten(0, 1))
        square = whitened.square().mean(dim=1)  # (cells, N·a·b)
        square = from_cells(square, self.grid, residuals)[..., :height, :width]
        return (square + _TINY).log() / 2

    def forward(self, residuals: Tensor) -> Tensor:
        """Return how far residuals lie above the mean of defect-free ones, in standard deviations.

        Args:
            residuals: Shape ``(N, K, h, w)``.

        Returns:
            Shape ``(N, 1, h, w)``, smoothed over 3 × 3 positions.
        """
        mean, std = (
            F.interpolate(statistic, size=residuals.shape[-2:], mode="bilinear", align_corners=False)
            for statistic in (self.mean, self.std)
        )
        deviation = (self.length(residuals) - mean) / std
        return F.avg_pool2d(deviation, 3, 1, 1, count_include_pad=False)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:  # noqa: ANN401
        take_sizes(self, ("whitening", "mean", "std"), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


class AnomalyMapGenerator(nn.Module):
    """Judge residuals, and the detail that sharpens their map, against defect-free images at the same place.

    Args:
        dimensions: Channels of the residual, ``K``.
    """

    def __init__(self, dimensions: int = 1) -> None:
        super().__init__()
        self.residual = Statistics(dimensions, CELL)
        self.detail = Statistics(Detail.dimensions, DETAIL_CELL)

    @property
    def grid(self) -> tuple[int, int]:
        """Number of cells along height and width; residuals need at least as many positions."""
        return self.residual.grid

    @property
    def is_calibrated(self) -> bool:
        """Whether it was ever calibrated."""
        return bool(self.residual.mean.any())

    def calibrate(self, residuals: Sequence[Tensor], details: Sequence[Tensor]) -> None:
        """Take the statistics of parts of both, see :meth:`Statistics.calibrate`."""
        self.residual.calibrate(residuals)
        self.detail.calibrate(details)

    def fit(self, evidence: Iterable[tuple[Tensor, Tensor]], copies: int, position: int) -> Tensor:
        """Take the statistics of all images, and score each image by those of others.

        Args:
            evidence: For batches of images the residual ``(N, K, h, w)`` and the detail ``(N, 12, h', w')``; ``copies``
                of each image follow each other, the first as it is.
            copies: How many there are of each image.
            position: Side in pixels of the square that one position of a residual stands for.

        Returns:
            Scores ``(n,)`` in [0, 1) of the images as they are, each by the statistics of images that are not like it,
            see :func:`folds_of`: what new parts would score.

        Raises:
            ValueError: If a residual is not finite.
        """
        # In half precision: residuals take as much memory as the images themselves.
        residuals, details = regroup(evidence)
        if not all(part.isfinite().all() for part in residuals):
            raise ValueError(DIVERGED)
        scores = torch.empty(sum(map(len, residuals)) // copies)
        folds = folds_of(residuals, details, copies)
        for fold in folds.unique() if len(folds) > 1 else []:
            others = (folds != fold).repeat_interleave(copies)
            self.calibrate(Chosen(residuals, others), Chosen(details, others))
            originals = torch.zeros_like(others)
            originals[::copies] = folds == fold
            held_out = (torch.cat(list(Chosen(parts, originals))) for parts in (residuals, details))
            size = (residuals[0].shape[-2] * position, residuals[0].shape[-1] * position)
            scores[folds == fold] = torch.cat([
                image_score(self(residual.float(), detail.float(), size))
                for residual, detail in zip(*(parts.split(8) for parts in held_out), strict=True)
            ]).to(scores)  # fmt: skip
        if len(folds):
            self.calibrate(residuals, details)
        return scores if len(folds) > 1 else scores[:0]

    def forward(self, residual: Tensor, detail: Tensor, size: tuple[int, int]) -> Tensor:
        """Map residuals to anomaly scores on one scale for all images.

        Args:
            residual: Residual of shape ``(N, K, h, w)``.
            detail: Detail of shape ``(N, 12, h', w')``.
            size: Height and width of the map in pixels.

        Returns:
            Anomaly map of shape ``(N, 1, *size)`` in [0, 1): 0.5 where a residual lies ``SIGMAS`` standard deviations
            above the mean of defect-free images, less its image's share. It does not saturate, so that the worst
            defects keep their order.
        """
        deviation = self.residual(residual)
        deviation = deviation - SHARED * lower_quartile(deviation)
        logit = STEEPNESS * (sharpen(deviation, self.detail(detail)) - SIGMAS)
        logit = torch.minimum(logit, _STRAIGHT + (logit - _STRAIGHT).clamp(min=0).log1p())
        return torch.sigmoid(F.interpolate(logit, size=size, mode="bilinear", align_corners=False))


def lower_quartile(deviation: Tensor) -> Tensor:
    """Return what three quarters of each map's positions exceed, ``(N, 1, h, w)`` → ``(N, 1, 1, 1)``."""
    positions = deviation.flatten(1)
    # Not quantile, which sorts all positions: exported it took 1.6 instead of 0.8 ms of an image of 2048 x 2048 pixels.
    lowest = positions.topk(positions.shape[1] // 4 + 1, dim=1, largest=False).values
    return lowest.amax(dim=1).reshape(-1, 1, 1, 1)


def take_sizes(module: nn.Module, names: tuple[str, ...], state_dict: dict[str, Tensor], prefix: str) -> None:
    """Give buffers the sizes that they have in a state, which depend on the training images."""
    for name in names:
        if (saved := state_dict.get(prefix + name)) is not None:
            setattr(module, name, torch.empty_like(saved, device=module.get_buffer(name).device))


def to_cells(residuals: Tensor, grid: tuple[int, int]) -> Tensor:
    """Sort positions into the cells of a grid.

    Args:
        residuals: Shape ``(N, K, h, w)``; the last row and column are repeated where the grid does not divide them.
        grid: Number of cells along height and width.

    Returns:
        Shape ``(*grid, K, N·a·b)`` with ``a`` × ``b`` positions per cell.
    """
    padded = pad_to_multiple(residuals, grid)
    n, k, h, w = padded.shape
    split = padded.reshape(n, k, grid[0], h // grid[0], grid[1], w // grid[1])
    return split.permute(2, 4, 1, 0, 3, 5).flatten(3)


def from_cells(cells: Tensor, grid: tuple[int, int], like: Tensor) -> Tensor:
    """Undo :func:`to_cells` for one value per position.

    Args:
        cells: Shape ``(rows · columns, N·a·b)``.
        grid: Number of cells along height and width.
        like: The residuals ``(N, K, h, w)`` that were sorted.

    Returns:
        Shape ``(N, 1, h', w')``, at the padded size.
    """
    n, _, h, w = like.shape
    a, b = (h + grid[0] - 1) // grid[0], (w + grid[1] - 1) // grid[1]
    return cells.reshape(*grid, n, a, b).permute(2, 0, 3, 1, 4).reshape(n, 1, grid[0] * a, grid[1] * b)
