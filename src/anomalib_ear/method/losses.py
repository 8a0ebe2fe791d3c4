# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Recovery loss: L2 + SSIM + MSGMS, weighted 1:1:1.

The three terms and their weights follow RIAD (Zavrtanik et al., Pattern Recognition 112, 2021) and the code that EAR's
first author published for it; EAR itself names no loss in its abstract. As in RIAD, MSGMS sees the mean of the colour
channels; ours: SSIM does so too (a third of the time, and structure is seldom in the colour alone, which L2 watches).
Also ours: the constants of SSIM and MSGMS are given for images of range 1 and scaled here to standardised images, so
that faint surfaces weigh as much as vivid ones.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_ear.method.resampling import add_three

# Range of a standardised image (variance 1) that stands for the range 1 of an ordinary one: ± 2.5 standard deviations.
DYNAMIC_RANGE = 5.0
_GMS_CONSTANT = 0.0026  # Xue et al., "Gradient Magnitude Similarity Deviation", IEEE TIP 23(2), 2014


def gradient(image: Tensor) -> Tensor:
    """Prewitt gradient divided by three (central differences over two pixels, averaged over three lines), per channel.

    Args:
        image: Shape ``(N, D, H, W)``.

    Returns:
        Shape ``(N·D, 2, H, W)``: along the width, along the height.
    """
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate").flatten(0, 1).unsqueeze(1)  # (N·D, 1, H + 2, W + 2)
    lines, columns = add_three(padded, dim=-2) / 3, add_three(padded, dim=-1) / 3
    along_width, along_height = lines[..., :-2] - lines[..., 2:], columns[..., :-2, :] - columns[..., 2:, :]
    return torch.cat([along_width, along_height], dim=1)


def gradient_magnitude(image: Tensor) -> Tensor:
    """Magnitude of the Prewitt gradient, ``(N, D, H, W)`` → ``(N·D, 1, H, W)``."""
    return (gradient(image).square().sum(dim=1, keepdim=True) + 1e-8).sqrt()


def msgms_loss(recovered: Tensor, target: Tensor, scales: int = 4) -> Tensor:
    """One minus the gradient magnitude similarity, averaged over pixels and scales.

    Args:
        recovered: Standardised recovery, ``(N, D, H, W)``.
        target: Standardised image, ``(N, D, H, W)``.
        scales: Number of scales; each halves the one before.

    Returns:
        Scalar in [0, 1], 0 for equal images.
    """
    constant = _GMS_CONSTANT * DYNAMIC_RANGE**2
    loss = recovered.new_zeros(())
    for scale in range(scales):
        if scale:
            recovered, target = F.avg_pool2d(recovered, 2), F.avg_pool2d(target, 2)
        a, b = gradient_magnitude(recovered), gradient_magnitude(target)
        loss = loss + (1 - (2 * a * b + constant) / (a.square() + b.square() + constant)).mean()
    return loss / scales


def ssim_loss(recovered: Tensor, target: Tensor, window: int = 7, step: int = 4) -> Tensor:
    """One minus the structural similarity (Wang et al., IEEE TIP 13(4), 2004), averaged over windows.

    Square windows a few pixels apart in place of a Gaussian one at every pixel: kornia's took half of a training step
    on CPU, these a thirtieth of that.

    Args:
        recovered: Standardised recovery, ``(N, 1, H, W)``.
        target: Standardised image, ``(N, 1, H, W)``.
        window: Side of a window in pixels.
        step: Distance of windows in pixels.

    Returns:
        Scalar in [0, 2], 0 for equal images.
    """
    c1, c2 = (0.01 * DYNAMIC_RANGE) ** 2, (0.03 * DYNAMIC_RANGE) ** 2
    products = torch.cat([recovered, target, recovered.square(), target.square(), recovered * target], dim=1)
    mean_r, mean_t, square_r, square_t, product = F.avg_pool2d(products, window, step).unbind(dim=1)
    brightness = (2 * mean_r * mean_t + c1) / (mean_r.square() + mean_t.square() + c1)
    variance = square_r - mean_r.square() + square_t - mean_t.square()
    structure = (2 * (product - mean_r * mean_t) + c2) / (variance + c2)
    return (1 - brightness * structure).mean()


class EarLoss(nn.Module):
    """Sum of mean squared error, SSIM loss and MSGMS loss over the whole image."""

    def forward(self, recovered: Tensor, target: Tensor) -> Tensor:
        """Compare a recovery with the image.

        Args:
            recovered: Standardised recovery, ``(N, D, H, W)``, float32.
            target: Standardised image, ``(N, D, H, W)``, float32.

        Returns:
            Scalar, 0 for equal images.
        """
        l2 = F.mse_loss(recovered, target)
        recovered, target = recovered.mean(dim=1, keepdim=True), target.mean(dim=1, keepdim=True)
        return l2 + ssim_loss(recovered, target) + msgms_loss(recovered, target)
