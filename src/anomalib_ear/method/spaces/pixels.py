# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The image's own pixels, as the paper has it."""

from torch import Tensor
from torch.nn import functional as F

from anomalib_ear.method.losses import EarLoss, gradient_magnitude
from anomalib_ear.method.spaces.base import Space


class PixelSpace(Space):
    """The image's own pixels.

    CLAP (arXiv 2411.07546) scores EAR's recovery by multi-scale gradient magnitude similarity. That divides by local
    contrast and is blind to soft blotches; the residual here is the multi-scale gradient of the difference instead.
    """

    stride = multiple = 1
    residual_stride = 8
    residual_dimensions = 1
    unet_channels = (16, 32, 64, 96, 128)
    patch_size = 2
    dilation = 2

    SCALES = 4

    def __init__(self) -> None:
        # eps far below the variance of an 8-bit step, (1/255)², so that faint surfaces are standardised too.
        super().__init__(self.channels, eps=1e-8)
        self.recovery_loss = EarLoss()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Standardise the image, ``(N, 3, H, W)`` → ``(N, 3, H, W)`` and attention ``(N, 1, H, W)`` or ``None``."""
        return self.standardise(image), None if self.attention is None else self.attention(image)

    def loss(self, recovered: Tensor, target: Tensor) -> Tensor:
        """Sum mean squared error, SSIM loss and MSGMS loss."""
        return self.recovery_loss(recovered, target)  # type: ignore[no-any-return]

    def residual(self, target: Tensor, recovered: Tensor) -> Tensor:
        """Average the gradient magnitude of the difference over channels and squares, and sum it over scales.

        Args:
            target: Standardised image, ``(N, 3, H, W)``; ``H`` and ``W`` multiples of 8.
            recovered: Standardised recovery, ``(N, 3, H, W)``.

        Returns:
            Residual of shape ``(N, 1, H/8, W/8)``, 0 where the recovery equals the image up to a constant.
        """
        n, d, h, w = target.shape
        difference = target - recovered
        total = target.new_zeros(())
        for scale in range(self.SCALES):
            if scale:
                difference = F.avg_pool2d(difference, 2)
            magnitude = gradient_magnitude(difference).reshape(n, d, h >> scale, w >> scale).mean(dim=1, keepdim=True)
            total = total + F.avg_pool2d(magnitude, self.residual_stride >> scale)
        return total

    def to_image(self, features: Tensor) -> Tensor:
        """Undo the standardisation."""
        mean, variance = self.standardise.get_buffer("running_mean"), self.standardise.get_buffer("running_var")
        return (features * variance.sqrt().view(-1, 1, 1) + mean.view(-1, 1, 1)).clamp(0, 1)
