# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Masks whose thin defects survive a resize.

torchvision resizes masks by nearest neighbour, which leaves out whole rows and columns as soon as the image shrinks: a
scratch of one pixel can vanish, and a defective image is then scored as one without a defective pixel. Here no
defective pixel is left out, whatever model asks for the resize.
"""

from typing import Any

import torch
from anomalib.data import AnomalibDataModule
from torch import Tensor
from torchvision.transforms.v2 import Compose, Transform
from torchvision.transforms.v2.functional import register_kernel, resize, resize_mask
from torchvision.tv_tensors import Mask, wrap


class DefectMask(Mask):  # type: ignore[misc]  # torchvision is untyped
    """Mask that torchvision's ``Resize`` shrinks without losing a defect; all else is as for ``Mask``."""


def resize_defect_mask(mask: Tensor, size: list[int], max_size: int | None = None) -> Tensor:
    """Resize by nearest neighbour, and mark the pixel on which each defective pixel's centre falls.

    When shrinking, every defective pixel marks exactly one; when enlarging, nearest neighbour marks that one anyway.

    Args:
        mask: Shape ``(..., H, W)``, 0 for normal.
        size: Height and width of the result in pixels, or the length of its shorter side alone, as for ``Resize``.
        max_size: Longest side of the result, as for ``Resize``.

    Returns:
        Shape ``(..., *size)``, with the mask's own values.
    """
    resized: Tensor = resize_mask(mask, size, max_size=max_size).clone()
    *others, y, x = mask.nonzero(as_tuple=True)
    height, width = mask.shape[-2:]
    # In integers: (y + 1/2) * size / height, rounded down.
    y_resized = (2 * y + 1) * resized.shape[-2] // (2 * height)
    x_resized = (2 * x + 1) * resized.shape[-1] // (2 * width)
    where, source = (*others, y_resized, x_resized), (*others, y, x)
    resized[where] = mask[source]
    return resized


@register_kernel(functional=resize, tv_tensor_cls=DefectMask)  # type: ignore[untyped-decorator]
def _resize_kernel(
    mask: DefectMask,
    size: list[int],
    interpolation: object = None,
    max_size: int | None = None,
    antialias: object = None,
) -> DefectMask:
    del interpolation, antialias
    resized: DefectMask = wrap(resize_defect_mask(mask.as_subclass(torch.Tensor), size, max_size), like=mask)
    return resized


class _MarkMasks(Transform):  # type: ignore[misc]
    """Turn masks into defect masks."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:  # noqa: ANN401  # torchvision's
        del params
        return inpt.as_subclass(DefectMask) if isinstance(inpt, Mask) else inpt


def keep_thin_defects(augmentations: Transform | None) -> Transform | None:
    """Let augmentations resize masks without losing a defect.

    Args:
        augmentations: Augmentations of image and mask, or ``None``.

    Returns:
        The same augmentations; only their resizes treat masks otherwise.
    """
    return None if augmentations is None else Compose([_MarkMasks(), augmentations])


class ThinDefects(AnomalibDataModule):
    """Mix-in for datamodules: the resize that a model brings along loses no defect."""

    def _update_augmentations(self) -> None:
        super()._update_augmentations()
        for name in ("train_data", "val_data", "test_data"):
            if subset := getattr(self, name, None):
                subset.augmentations = keep_thin_defects(subset.augmentations)
