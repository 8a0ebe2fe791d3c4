# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What sharpens the anomaly map: responses of an image to small filters, at a stride of 4 pixels.

Features at a stride of 16 pixels say that something is wrong, and only about where. Edges and spots of a few pixels say
where, but are no reason to reject a part: grain has them everywhere. So the detail only lowers the map around what
stands out of its neighbourhood.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_ear.method.losses import gradient
from anomalib_ear.method.resampling import add_three

# Side in pixels of the square that a position of the detail stands for.
STRIDE = 4
# The image itself, and what is left of it after one and two halvings.
SCALES = 3
# Side in pixels, at each scale, of the surroundings that a spot differs from: three times three.
SURROUNDINGS = 9
# Weight of the detail in the map. With 1 outlines are finer, and blots that differ inside from good surfaces get holes.
WEIGHT = 0.5
# Side of the neighbourhood that detail must stand out of, in positions: about that which one feature sees.
NEIGHBOURHOOD = 13


class Detail(nn.Module):
    """Responses to edges along both axes and to spots, at three scales, standardised over the training images."""

    dimensions = 4 * SCALES

    def __init__(self) -> None:
        super().__init__()
        self.standardise = nn.BatchNorm2d(self.dimensions, affine=False, momentum=None, eps=1e-8)

    def forward(self, image: Tensor) -> Tensor:
        """Filter an image.

        Args:
            image: Shape ``(N, C, H, W)``, values in [0, 1]; ``H`` and ``W`` multiples of 4.

        Returns:
            Shape ``(N, 12, H/4, W/4)``, mean 0 and variance 1 over the training images.
        """
        grey = image.mean(dim=1, keepdim=True)
        responses = []
        for scale in range(SCALES):
            if scale:
                grey = F.avg_pool2d(grey, 2)
            around = F.pad(grey, (SURROUNDINGS // 2,) * 4, mode="replicate")
            for dim in (-2, -1):
                around = add_three(add_three(around, dim), dim, step=3)  # nine in a row
            spots = grey - around / SURROUNDINGS**2
            response = torch.cat([gradient(grey).abs(), spots, spots.abs()], dim=1)
            # As images of one channel: exported, that takes half of the time.
            pooled = F.avg_pool2d(response.flatten(0, 1).unsqueeze(1), STRIDE >> scale)
            responses.append(pooled.unflatten(0, (-1, 4)).squeeze(2))
        standardised: Tensor = self.standardise(torch.cat(responses, dim=1))
        return standardised


def sharpen(deviation: Tensor, detail: Tensor) -> Tensor:
    """Lower a map where the detail is below its highest value near by; the highest peaks stay.

    Args:
        deviation: Standard deviations above the mean of defect-free images, ``(N, 1, h, w)``.
        detail: The same of the detail, ``(N, 1, h', w')``.

    Returns:
        Shape ``(N, 1, h', w')``.
    """
    coarse = F.interpolate(deviation, size=detail.shape[-2:], mode="bilinear", align_corners=False)
    margin = NEIGHBOURHOOD // 2
    highest = F.max_pool2d(detail, (NEIGHBOURHOOD, 1), 1, (margin, 0))  # one axis after the other: a fifth of the time
    highest = F.max_pool2d(highest, (1, NEIGHBOURHOOD), 1, (0, margin))
    return coarse + WEIGHT * (detail - highest)
