# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Resize: the exported one computes what training computed, at any size."""

import logging

import pytest
import torch
from torchvision.transforms.v2 import CenterCrop, Compose, InterpolationMode, Resize
from torchvision.transforms.v2.functional import resize

from anomalib_ear.deploy.resize import ExportableResize, exportable_transform


@pytest.mark.parametrize("size", [(1270, 500), (31, 47), (640, 256), (200, 600)], ids=str)
@pytest.mark.parametrize("target", [(640, 256), (64, 64)], ids=str)
def test_equals_torchvision_with_antialias(size: tuple[int, int], target: tuple[int, int]) -> None:
    """Down, up and mixed resizes agree with torchvision's antialiased one."""
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        ExportableResize(target)(image), resize(image, list(target), antialias=True), atol=1e-5, rtol=0
    )


def test_replaces_the_antialiased_resize_within_a_composition() -> None:
    """The steps around the resize stay."""
    transform = exportable_transform(Compose([Resize((32, 48), antialias=True), CenterCrop(16)]))
    assert transform is not None
    image = torch.rand(1, 3, 100, 90, generator=torch.Generator().manual_seed(0))
    expected = CenterCrop(16)(resize(image, [32, 48], antialias=True))
    torch.testing.assert_close(transform(image), expected, atol=1e-5, rtol=0)


def test_says_when_a_resize_cannot_be_kept(caplog: pytest.LogCaptureFixture) -> None:
    """A bicubic resize exports without antialias, and a warning says so."""
    with caplog.at_level(logging.WARNING):
        exportable_transform(Resize((64, 64), InterpolationMode.BICUBIC))
    assert "antialias" in caplog.text


def test_no_transform_stays_none() -> None:
    """A model without pre-processing exports without one."""
    assert exportable_transform(None) is None
