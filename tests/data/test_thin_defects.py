# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Tests of masks that keep thin defects when they are resized."""

import pytest
import torch
from torchvision.transforms.v2 import Compose, RandomHorizontalFlip, Resize
from torchvision.tv_tensors import Image, Mask

from anomalib_ear.data.thin_defects import keep_thin_defects

NATIVE, EVALUATED = (630, 230), (608, 224)  # KolektorSDD2: height, width


def resized(mask: torch.Tensor, transform: Resize | Compose) -> tuple[torch.Tensor, torch.Tensor]:
    """Resize a blank image along with a mask, and return both."""
    blank = Image(torch.zeros(3, *mask.shape[-2:]))
    image, result = transform(blank, Mask(mask))
    return image, result


def scratches() -> list[torch.Tensor]:
    """Vertical scratches of one pixel's width, one at each column."""
    masks = torch.zeros(NATIVE[1], *NATIVE, dtype=torch.uint8)
    for column, mask in enumerate(masks):
        mask[100:110, column] = 1
    return list(masks)


def test_no_scratch_vanishes_at_the_default_size() -> None:
    """Wherever a scratch of one pixel's width lies, its mask is not empty after the resize."""
    assert all(resized(mask, keep_thin_defects(Resize(EVALUATED)))[1].any() for mask in scratches())


def test_stock_resize_loses_scratches() -> None:
    """By nearest neighbour alone, six of 230 vanish: the columns that are left out."""
    assert sum(not resized(mask, Resize(EVALUATED))[1].any() for mask in scratches()) == 6


@pytest.mark.parametrize("size", [(608, 224), (33, 17), (640, 256), (1260, 460)], ids=str)
def test_every_defective_pixel_is_kept_where_it_was(size: tuple[int, int]) -> None:
    """The mask stays 0 and 1, and each defective pixel marks the pixel on which its centre falls."""
    mask = (torch.rand(NATIVE, generator=torch.Generator().manual_seed(0)) > 0.999).to(torch.uint8)
    _, result = resized(mask, keep_thin_defects(Resize(size)))
    assert result.shape == size
    assert result.unique().tolist() == [0, 1]
    y, x = ((mask.nonzero() + 0.5) / torch.tensor(NATIVE) * torch.tensor(size)).long().unbind(1)
    assert result[y, x].all()


def test_large_defect_keeps_its_area() -> None:
    """A square is not dilated: its share of the image changes by less than the rounding of its sides."""
    mask = torch.zeros(NATIVE, dtype=torch.uint8)
    mask[200:300, 50:150] = 1
    _, result = resized(mask, keep_thin_defects(Resize(EVALUATED)))
    assert result.float().mean() == pytest.approx(mask.float().mean().item(), rel=0.03)


def test_image_and_other_transforms_are_as_before() -> None:
    """Only the mask's resize differs: the image is resized as before, and flips move both."""
    mask = torch.zeros(NATIVE, dtype=torch.uint8)
    mask[:, :20] = 1
    picture = Image(torch.rand(3, *NATIVE))
    stock = Compose([RandomHorizontalFlip(p=1), Resize(EVALUATED, antialias=True)])
    image, result = keep_thin_defects(stock)(picture, Mask(mask))
    torch.testing.assert_close(image, stock(picture))
    assert result[:, -19:].all()
    assert not result[:, :-21].any()


def test_resize_by_the_shorter_side() -> None:
    """A resize to one number keeps the aspect ratio of masks too."""
    _, result = resized(torch.ones(100, 50, dtype=torch.uint8), keep_thin_defects(Resize(25)))
    assert result.shape == (50, 25)


def test_no_augmentations_stay_none() -> None:
    """Without augmentations there is nothing to do."""
    assert keep_thin_defects(None) is None
