# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What residuals of defect-free images are like at each place.

A defect-free surface differs from place to place (edges, texture, brightness) and from feature to feature. So residuals
are judged against those of defect-free images at the same place, in two steps. The Mahalanobis length weighs each
direction by how much it varies there, as PaDiM does with features themselves (Defard et al., ICPR 2021 workshops). This
length is then standardised by its own distribution there, which is close to log-normal.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_ear.method.padding import pad_to_multiple

# Largest number of cells along height or width: large images have larger cells. A cell of 192 channels takes 0.15 MB.
MAX_CELLS = 20
# Each cell's second moment is drawn towards that over all cells, which weighs as much as this many residuals per
# direction: a cell with fewer has mostly the shared one.
PRIOR = 2
# Every direction has at least this share of the mean variance, even if it hardly varies.
RIDGE = 0.01
# Rows of the triangular matrices that are multiplied at a time, as far as they are not zero: two thirds of the work and
# of what is exported.
BLOCK = 48
_TINY = 1e-12


class Statistics(nn.Module):
    """What residuals of defect-free images are like at each place.

    Args:
        dimensions: Channels of the residuals, ``K``.
        cell: Side of the cells that have a second moment of their own, in positions.

    Attributes:
        whitening: Per cell of ``cell`` × ``cell`` positions or more, the lower triangular matrix that makes the second
            moment of defect-free residuals the identity, ``(rows, columns, K, K)``.
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

    def calibrate(self, parts: Sequence[Tensor], weights: Tensor) -> None:
        """Take the statistics of defect-free residuals.

        Beside the residuals this takes a few times the memory of ``whitening``, and as much as a part in float32.

        Args:
            parts: Residuals of defect-free images, ``(n, K, h, w)`` each, of any floating type, as
                :func:`regroup` makes them.
            weights: How much each image counts, of all parts together, ``(N,)``, positive.
        """
        k, *size = parts[0].shape[1:]
        sides = [max(self.cell, math.ceil(length / MAX_CELLS)) for length in size]
        grid = (math.ceil(size[0] / sides[0]), math.ceil(size[1] / sides[1]))
        device = self.whitening.device
        identity = torch.eye(k, device=device)
        moments = torch.zeros(grid[0] * grid[1], k, k, device=device)
        weights = (weights / weights.mean()).to(device)  # so that a weight for all changes nothing
        count = 0.0
        for part, weight in zip(parts, weights.split([len(part) for part in parts]), strict=True):
            cells = to_cells(part, grid).flatten(0, 1)  # (cells, K, n')
            weight = weight.repeat_interleave(cells.shape[-1] // max(len(part), 1))  # noqa: PLW2901  # per residual
            for index, cell in enumerate(cells):  # one by one, so that copies in float32 stay small
                moments[index] += cell.float() * weight @ cell.float().T
            count += float(weight.sum())
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
        share = (weights / len(weights)).reshape(-1, 1, 1, 1)
        self.mean = (share * lengths).sum(dim=0, keepdim=True)
        # Towards that of all positions together: a few images may agree at one of them by chance.
        shared = PRIOR / (len(lengths) + PRIOR)
        variance = (1 - shared) * (share * (lengths - self.mean).square()).sum(dim=0, keepdim=True)
        overall = (share * (lengths - self.mean.mean()).square()).sum(dim=0).mean()
        variance = variance + shared * overall
        self.std = variance.sqrt().clamp(min=1e-3)

    def length(self, residuals: Tensor) -> Tensor:
        """Return the logarithm of the Mahalanobis length, ``(N, K, h, w)`` → ``(N, 1, h, w)``."""
        height, width = residuals.shape[-2:]
        k = residuals.shape[1]
        cells = to_cells(residuals, self.grid).flatten(0, 1)  # (cells, K, N·a·b)
        # The matrices come first. As the other factor OpenVINO is 0.8 ms faster, and holds them twice.
        matrices = self.whitening.flatten(0, 1)
        squares = []
        for start in range(0, k, BLOCK):
            block = matrices[:, start : start + BLOCK, : start + BLOCK]
            squares.append((block @ cells[:, : start + BLOCK]).square().sum(dim=1))  # (cells, N·a·b)
        square = from_cells(torch.stack(squares).sum(dim=0) / k, self.grid, residuals)[..., :height, :width]
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
