# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Masking: single and deterministic by attention, or multiple and random for comparison.

Park et al., "Excision and Recovery" (arXiv 2310.04010): one mask from a pre-trained attention instead of many random
ones; the mosaic is the journal version's (Scientific Reports 14:18872). The first version does not state its
threshold. CLAP (arXiv 2411.07546) gives mean + 0.674·std, a quarter of the image if attention were normally
distributed; we ask for the share itself, so that "a tenth of the image" means that on every surface.

The rival that EAR's masking replaces is RIAD's (Zavrtanik et al., "Reconstruction by inpainting for visual anomaly
detection", Pattern Recognition 112, 2021, section 3.1): random disjoint masks that together excise every pixel once.

A mask is 1 where the image is excised and 0 where it is kept, everywhere in this package.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Halvings of the interval that holds the threshold: 2^-16 is below the step of an 8-bit attention picture.
_BISECTIONS = 16


def attention_mask(attention: Tensor, excised_share: float, dilation: int = 0) -> Tensor:
    """Mask the most attended share of each image.

    The threshold is found by bisection, not by sorting: it needs only comparisons and means, which export to ONNX for
    any image size and give the same mask in every backend.

    Args:
        attention: Attention map of shape ``(N, 1, H, W)``, any range.
        excised_share: Share of the image's pixels to excise before dilation, in (0, 1). Where the map is constant over
            a larger share than this, less is excised, down to nothing.
        dilation: Radius in pixels by which each excised region grows on all sides.

    Returns:
        Mask of shape ``(N, 1, H, W)``, 1 = excised, 0 = kept, of the attention's dtype.
    """
    low = attention.amin(dim=(-3, -2, -1), keepdim=True)  # (N, 1, 1, 1)
    high = attention.amax(dim=(-3, -2, -1), keepdim=True)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        too_many = (attention > middle).to(attention.dtype).mean(dim=(-3, -2, -1), keepdim=True) > excised_share
        low, high = torch.where(too_many, middle, low), torch.where(too_many, high, middle)
    mask = (attention > high).to(attention.dtype)
    if dilation:
        mask = F.max_pool2d(mask, kernel_size=2 * dilation + 1, stride=1, padding=dilation)
    return mask


def mosaic(image: Tensor, size: int) -> Tensor:
    """Replace each block of ``size`` × ``size`` pixels by its mean.

    Args:
        image: Image or features of shape ``(N, D, H, W)``; ``H`` and ``W`` multiples of ``size``.
        size: Side of a block in pixels.

    Returns:
        Mosaic of the same shape.
    """
    return F.interpolate(F.avg_pool2d(image, size), scale_factor=size, mode="nearest")


class Excision(NamedTuple):
    """One image excised once, by a single mask or by disjoint ones that together excise all of it.

    Attributes:
        obscured: Obscured images, one per mask, ``(N, D, h, w)`` each.
        masks: Masks, ``(N, 1, h, w)`` each, 1 = excised.
    """

    obscured: Sequence[Tensor]
    masks: Sequence[Tensor]

    def compose(self, recovered: Sequence[Tensor]) -> Tensor:
        """Take from each recovery what its mask excised.

        Args:
            recovered: One recovery per mask, ``(N, D, h, w)`` each.

        Returns:
            Shape ``(N, D, h, w)``; a single recovery as it is, since its mask need not excise every pixel.
        """
        if len(recovered) == 1:
            return recovered[0]
        return torch.stack([part * mask for part, mask in zip(recovered, self.masks, strict=True)]).sum(dim=0)


class AttentionMasking(nn.Module):
    """The method's single deterministic mask: excise the most attended region.

    Args:
        excised_share: Share of the image's pixels to excise, in (0, 1).
        dilation: Radius in pixels by which each excised region grows.
        mosaic_size: Side in pixels of the mosaic blocks that stand in an excised place, each the mean of the image
            there (Scientific Reports 14:18872); ``None`` for emptiness (0, the mean of the standardised image).

    Attributes:
        stride: Height and width of an image must be multiples of this, in pixels.

    Raises:
        ValueError: If an argument is outside its range.
    """

    def __init__(self, *, excised_share: float = 0.1, dilation: int = 2, mosaic_size: int | None = None) -> None:
        super().__init__()
        if not 0 < excised_share < 1:
            msg = f"excised_share must lie in (0, 1), got {excised_share}. Give masking=none for no masking."
            raise ValueError(msg)
        if mosaic_size is not None and mosaic_size < 1:
            msg = f"mosaic_size must be 1 pixel or more, or null for empty places, got {mosaic_size}."
            raise ValueError(msg)
        self.excised_share = excised_share
        self.dilation = dilation
        self.mosaic_size = mosaic_size
        self.stride = mosaic_size or 1

    def forward(self, image: Tensor, attention: Tensor | None) -> list[Excision]:
        """Obscure an image.

        Args:
            image: Standardised image of shape ``(N, D, H, W)``.
            attention: Attention map of shape ``(N, 1, H, W)``.

        Returns:
            One excision by one mask.

        Raises:
            ValueError: If there is no attention.
        """
        if attention is None:
            msg = "masking by attention needs a space with an attention: call its use_attention."
            raise ValueError(msg)
        mask = attention_mask(attention, self.excised_share, self.dilation)
        filling = torch.zeros_like(image) if self.mosaic_size is None else mosaic(image, self.mosaic_size)
        return [Excision([torch.where(mask > 0, filling, image)], [mask])]


class NoMasking(nn.Module):
    """Excise nothing: the U-Net sees the image itself."""

    stride = 1

    def forward(self, image: Tensor, attention: Tensor | None) -> list[Excision]:
        """Return the image ``(N, D, H, W)`` with an empty mask."""
        del attention
        return [Excision([image], [torch.zeros_like(image[:, :1])])]


class RandomMasking(nn.Module):
    """Excise every pixel once, by several random disjoint masks, as RIAD does.

    An image is divided into square cells, which are shared out at random, as many to each mask. This is done once for
    each size of cells, and the residual is averaged over the sizes. Sizes and number of masks are RIAD's: 4 × 3 passes
    per image. In training each batch draws one size. Excised places are empty.

    Attributes:
        stride: Height and width of an image must be multiples of this, in pixels.
    """

    SIZES = (2, 4, 8, 16)  # sides of a cell in pixels
    MASKS = 3

    stride = max(SIZES)

    def forward(self, image: Tensor, attention: Tensor | None) -> list[Excision]:
        """Obscure an image, differently at every call.

        Args:
            image: Standardised image of shape ``(N, D, H, W)``; ``H`` and ``W`` multiples of the largest cell.
            attention: Not used.

        Returns:
            One excision for each size of cells, in training for one of them; its masks add up to 1 everywhere.
        """
        del attention
        sizes: tuple[int, ...] = self.SIZES
        if self.training:
            sizes = (sizes[int(torch.randint(len(sizes), ()))],)
        masks = [disjoint_masks(image, size, self.MASKS) for size in sizes]
        return [Excision([image * (1 - mask) for mask in disjoint], disjoint) for disjoint in masks]


def disjoint_masks(image: Tensor, size: int, number: int) -> list[Tensor]:
    """Share out the cells of an image among masks at random: each cell to one mask, as many to each.

    Args:
        image: Shape ``(N, D, H, W)``, ``H`` and ``W`` multiples of ``size``.
        size: Side of a cell in pixels.
        number: How many masks.

    Returns:
        Masks of shape ``(N, 1, H, W)``, 1 = excised, of the image's dtype.
    """
    n, _, h, w = image.shape
    order = torch.rand(n, h // size * (w // size), device=image.device).argsort(dim=1).argsort(dim=1)
    group = (order % number).reshape(n, 1, h // size, w // size).to(image.dtype)
    group = F.interpolate(group, scale_factor=size, mode="nearest")  # (N, 1, H, W)
    return [(group == index).to(image.dtype) for index in range(number)]


# Names of the masking without attention; any other is that of an attention.
WITHOUT_ATTENTION: dict[str, Callable[[], RandomMasking | NoMasking]] = {"random": RandomMasking, "none": NoMasking}
