# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""From the difference between image and recovery to an anomaly map.

CLAP (arXiv 2411.07546) scores EAR's recovery by multi-scale gradient magnitude similarity. That divides by local
contrast and is blind to soft blotches; we take the multi-scale gradient of the difference instead. What a defect-free
surface shows is not the same everywhere (edges, texture, brightness), so the residual is judged against the residuals
of defect-free images at the same place.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own idiom

from anomalib_ear.loss import gradient_magnitude

SCALES = 4
# Side in pixels of the mean filter over the residual, as RIAD has it (Zavrtanik et al., 2021).
SMOOTHING = 21
# Exponent of the generalised mean that scores an image; with infinity it would be the maximum.
SCORE_POWER = 64
# Side in pixels of the cells in which the residual's statistics are taken: large enough that a few dozen images tell
# mean and spread, small enough to follow the parts of a product.
CELL = 32
# Standard deviations above the mean of defect-free surfaces at which the anomaly map reaches one half.
SIGMAS = 3.0


def residual(target: Tensor, recovered: Tensor) -> Tensor:
    """Gradient magnitude of the difference, averaged over channels, summed over scales and smoothed.

    Args:
        target: Standardised image, ``(N, D, H, W)``; ``H`` and ``W`` multiples of ``2 ** (SCALES - 1)``.
        recovered: Standardised recovery, ``(N, D, H, W)``.

    Returns:
        Residual of shape ``(N, 1, H, W)``, 0 where the recovery equals the image up to a constant.
    """
    n, d, h, w = target.shape
    difference = target - recovered
    total = target.new_zeros((n, 1, h, w))
    for scale in range(SCALES):
        if scale:
            difference = F.avg_pool2d(difference, 2)
        magnitude = gradient_magnitude(difference).reshape(n, d, h >> scale, w >> scale).mean(dim=1, keepdim=True)
        total = total + F.interpolate(magnitude, size=(h, w), mode="bilinear", align_corners=False)
    # A mean over a square, one axis after the other: the same sum with a tenth of the additions.
    total = F.avg_pool2d(total, (SMOOTHING, 1), 1, (SMOOTHING // 2, 0), count_include_pad=False)
    return F.avg_pool2d(total, (1, SMOOTHING), 1, (0, SMOOTHING // 2), count_include_pad=False)


def image_score(anomaly_map: Tensor) -> Tensor:
    """Score images by the generalised mean of their maps, a soft maximum (Radenović et al., TPAMI 41(7), 2019).

    CLAP takes the maximum, which hangs on a single pixel. The mean of the highest thousandth does about the same as
    this, but selecting a share of the pixels does not export for dynamic sizes.

    Args:
        anomaly_map: Shape ``(N, 1, H, W)``, values in [0, 1).

    Returns:
        Scores of shape ``(N,)`` in [0, 1), at most the map's maximum and near it.
    """
    highest = anomaly_map.amax(dim=(-3, -2, -1), keepdim=True).clamp(min=1e-12)
    # Relative to the maximum, because a small number to this power is none in float32.
    spread = (anomaly_map / highest).pow(SCORE_POWER).mean(dim=(-3, -2, -1)).pow(1 / SCORE_POWER)  # (N,)
    return highest.flatten() * spread


class AnomalyMapGenerator(nn.Module):
    """Judge residuals against those of defect-free images.

    Attributes:
        mean: Mean residual of defect-free images per cell, ``(1, 1, h, w)``.
        std: Its standard deviation, same shape.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones(1, 1, 1, 1))
        self.register_buffer("std", torch.zeros(1, 1, 1, 1))

    def calibrate(self, residuals: Tensor) -> None:
        """Take the statistics of defect-free residuals.

        Args:
            residuals: Residuals of ``K`` defect-free images, ``(K, 1, H, W)``.
        """
        size = (-(-residuals.shape[-2] // CELL), -(-residuals.shape[-1] // CELL))
        mean = F.adaptive_avg_pool2d(residuals.mean(dim=0, keepdim=True), size)
        square = F.adaptive_avg_pool2d(residuals.square().mean(dim=0, keepdim=True), size)
        self.mean = mean
        self.std = (square - mean.square()).clamp(min=0).sqrt()

    def forward(self, residuals: Tensor) -> Tensor:
        """Map residuals to anomaly scores on one scale for all images.

        Args:
            residuals: Residuals of shape ``(N, 1, H, W)``.

        Returns:
            Anomaly map of shape ``(N, 1, H, W)`` in [0, 1): 0.5 where the residual lies ``SIGMAS`` standard deviations
            above the mean of defect-free images. It never saturates, so that the worst defects keep their order.
        """
        bound = F.interpolate(
            self.mean + SIGMAS * self.std, size=residuals.shape[-2:], mode="bilinear", align_corners=False
        )
        return residuals / (residuals + bound)
