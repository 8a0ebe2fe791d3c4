# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Padding to a network's stride."""

import torch
from torch import Tensor


def pad_to_multiple(image: Tensor, multiple: int | tuple[int, int]) -> Tensor:
    """Repeat the last row and column until height and width are multiples of a number, or of one number each.

    By indices, because the remainder in a traced ``pad`` is more than torch's export can reason about.

    Args:
        image: Shape ``(N, C, H, W)``.
        multiple: Number that the result's height and width are multiples of, or one for each of the two.

    Returns:
        Shape ``(N, C, H', W')``, the image at the top left.
    """
    multiples = (multiple, multiple) if isinstance(multiple, int) else multiple
    for dim, factor in zip((-2, -1), multiples, strict=True):
        size = image.shape[dim]
        if isinstance(size, int) and size % factor == 0:
            continue
        index = torch.arange((size + factor - 1) // factor * factor, device=image.device)
        image = image.index_select(dim, index.clamp(max=size - 1))
    return image
