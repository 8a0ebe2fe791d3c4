# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Detail: fine edges and spots sharpen the map and raise no alarm of their own."""

import torch

from anomalib_ear.method.detail import STRIDE, Detail, sharpen


def grain(count: int = 8) -> torch.Tensor:
    """Return random grain ``(count, 3, 64, 96)`` in [0, 1]."""
    return 0.5 + 0.05 * torch.rand(count, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_training_images_are_standardised() -> None:
    """Every response has mean 0 and variance 1, one position per square of 4 pixels."""
    detail = Detail()(grain())
    assert detail.shape == (8, Detail.dimensions, 64 // STRIDE, 96 // STRIDE)
    torch.testing.assert_close(detail.mean(dim=(0, 2, 3)), torch.zeros(Detail.dimensions), atol=1e-4, rtol=0)
    torch.testing.assert_close(detail.var(dim=(0, 2, 3)), torch.ones(Detail.dimensions), atol=0.01, rtol=0)


def test_a_hairline_is_where_the_detail_is() -> None:
    """A line of one pixel moves the detail of its row, and none three positions away."""
    detail = Detail()
    detail(grain())
    detail.eval()
    scratched = grain(1)
    scratched[..., 33, :] -= 0.2
    change = (detail(scratched) - detail(grain(1))).square().mean(dim=(0, 1, 3))
    assert change.argmax() == 33 // STRIDE
    assert change[33 // STRIDE] > 5 * change[:4].max()


def test_a_map_is_lowered_around_what_stands_out() -> None:
    """A coarse blot keeps its height where the detail has its line, and loses some beside it."""
    blot = torch.zeros(1, 1, 8, 12)
    blot[..., 3:5, 4:8] = 10
    line = torch.zeros(1, 1, 32, 48)
    line[..., 15, 16:32] = 8
    sharpened = sharpen(blot, line)[0, 0]
    assert sharpened.shape == (32, 48)
    assert sharpened[15, 24] == 10
    assert sharpened[18, 24] < 7


def test_detail_alone_raises_nothing() -> None:
    """Where the coarse map sees nothing, the finest edge leaves the map as it is at its highest."""
    line = torch.zeros(1, 1, 32, 48)
    line[..., 15, :] = 100
    assert sharpen(torch.zeros(1, 1, 8, 12), line).max() == 0
