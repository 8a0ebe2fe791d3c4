# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""A small untrained model and smooth images for it."""

import torch

from anomalib_ear.method.masking import AttentionMasking, NoMasking
from anomalib_ear.method.model import EarModel
from anomalib_ear.method.spaces import PixelSpace
from anomalib_ear.method.unet import SkipGatedUNet
from anomalib_ear.method.variation import NONE, Variation


def build(*, masked: bool = True) -> EarModel:
    """Return a small untrained model."""
    torch.manual_seed(0)
    space = PixelSpace()
    if masked:
        space.use_attention("mnist")
        space.load_pretrained()
    masking = AttentionMasking(mosaic_size=4) if masked else NoMasking()
    return EarModel(
        space=space, masking=masking, unet=SkipGatedUNet(4, 3, (4, 6, 8), patch_size=2), variation=Variation(**NONE)
    )


def images(count: int, size: tuple[int, int] = (48, 80), contrast: float = 1.0) -> torch.Tensor:
    """Return smooth random images in [0, 1]."""
    noise = torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(1))
    return 0.5 + contrast * (torch.nn.functional.avg_pool2d(noise, 5, 1, 2) - 0.5)
