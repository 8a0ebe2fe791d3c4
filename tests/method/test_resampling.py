# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Resampling gives torch's values: only the exported model is another."""

from fractions import Fraction

import pytest
import torch
from torch.nn import functional

from anomalib_ear.method.resampling import add_three, enlarge, shrink


def image(channels: int, *size: int) -> torch.Tensor:
    """Return noise ``(2, channels, *size)`` in [0, 1]."""
    return torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(1, 1), (5, 2), (16, 24)], ids=str)
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_enlarging_interpolates(factor: int, size: tuple[int, int]) -> None:
    """Between positions and at the borders, whatever the factor."""
    expected = functional.interpolate(image(1, *size), scale_factor=factor, mode="bilinear")
    torch.testing.assert_close(enlarge(image(1, *size), factor), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [Fraction(1, 3), Fraction(1, 2), Fraction(3, 4), Fraction(1)], ids=str)
def test_shrinking_interpolates(scale: Fraction) -> None:
    """Of every channel of every image."""
    expected = functional.interpolate(image(3, 24, 36), scale_factor=float(scale), mode="bilinear")
    torch.testing.assert_close(shrink(image(3, 24, 36), scale), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dim", [-2, -1])
@pytest.mark.parametrize("step", [1, 3])
def test_three_neighbours_are_added(dim: int, step: int) -> None:
    """A one counts wherever one of three places falls on it."""
    spot = torch.zeros(1, 1, 9, 9)
    spot[..., 4, 4] = 1
    added = add_three(spot, dim, step)
    assert added.shape[dim] == 9 - 2 * step
    assert added.sum() == (3 if step == 1 else 1)
