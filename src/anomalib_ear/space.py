# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The space in which an image is recovered: what the U-Net sees and what the residual is measured in.

A space maps an image ``(N, C, H, W)`` in [0, 1] to standardised features ``(N, D, H/stride, W/stride)``: mean 0 and
variance 1 per channel over the training images. Standardising is what makes the loss and the residual independent of
a surface's brightness and contrast.
"""

from torch import Tensor, nn


class PixelSpace(nn.Module):
    """The image's own pixels, standardised per channel.

    The statistics are those of the training batches, averaged over all of them: batch normalisation without its
    affine part does just that, and costs no pass of its own over the data.

    Args:
        channels: Channels of the image.
    """

    stride = 1

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.channels = channels
        # eps far below the variance of an 8-bit step, (1/255)², so that faint surfaces are standardised too.
        self.standardise = nn.BatchNorm2d(channels, affine=False, momentum=None, eps=1e-8)

    def forward(self, image: Tensor) -> Tensor:
        """Standardise an image.

        Args:
            image: Image of shape ``(N, C, H, W)``, values in [0, 1].

        Returns:
            Standardised image of shape ``(N, C, H, W)``.
        """
        return self.standardise(image)  # type: ignore[no-any-return]

    def to_image(self, standardised: Tensor) -> Tensor:
        """Undo the standardisation, to show a recovery as a picture.

        Args:
            standardised: Shape ``(N, C, H, W)``.

        Returns:
            Image of shape ``(N, C, H, W)``, clamped to [0, 1].
        """
        mean, variance = self.standardise.get_buffer("running_mean"), self.standardise.get_buffer("running_var")
        return (standardised * variance.sqrt().view(-1, 1, 1) + mean.view(-1, 1, 1)).clamp(0, 1)
