# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Recovery loss: zero for equal images, and sensitive to what each of its terms is there for."""

import pytest
import torch

from anomalib_ear.method.losses import EarLoss, gradient, msgms_loss, ssim_loss


@pytest.fixture
def image() -> torch.Tensor:
    """Return a standardised colour image, odd and rectangular."""
    return torch.randn(2, 3, 41, 64, generator=torch.Generator().manual_seed(0))


def test_equal_images_lose_nothing(image: torch.Tensor) -> None:
    """The loss of a perfect recovery is zero."""
    torch.testing.assert_close(EarLoss()(image, image), torch.tensor(0.0), atol=1e-5, rtol=0)


def test_a_worse_recovery_loses_more(image: torch.Tensor) -> None:
    """The loss grows with the distance from the image."""
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    losses = [EarLoss()(image + amount * noise, image).item() for amount in (0.0, 0.1, 0.5, 1.0)]
    assert losses == sorted(losses)
    assert losses[1] > 0.01


def test_gradient_of_a_ramp_is_its_slope() -> None:
    """Along the width, a ramp that rises by 2 per pixel has a central difference of 4 and none along the height."""
    ramp = 2 * torch.arange(8.0).expand(1, 1, 8, 8)
    inside = gradient(ramp)[0, :, 1:-1, 1:-1]
    torch.testing.assert_close(inside[0].abs(), torch.full((6, 6), 4.0))
    torch.testing.assert_close(inside[1], torch.zeros(6, 6))


def test_msgms_ignores_a_constant_offset(image: torch.Tensor) -> None:
    """Gradients do not see brightness: that is what the squared error is for."""
    assert msgms_loss(image + 1, image) < 1e-6
    assert EarLoss()(image + 1, image) > 0.9


def test_gradients_flow_to_the_recovery(image: torch.Tensor) -> None:
    """The loss is differentiable, also where the recovery is flat."""
    recovered = torch.zeros_like(image, requires_grad=True)
    EarLoss()(recovered, image).backward()
    assert recovered.grad is not None
    assert recovered.grad.isfinite().all()
    assert recovered.grad.abs().sum() > 0


def test_ssim_of_unrelated_images_is_near_zero_and_of_a_negative_below(image: torch.Tensor) -> None:
    """Structure that is absent costs about one, structure that is reversed costs more."""
    image = image[:, :1]
    other = torch.randn(image.shape, generator=torch.Generator().manual_seed(2))
    assert abs(ssim_loss(other, image) - 1) < 0.05
    assert ssim_loss(5 - image, 5 + image) > 1.5


def test_ssim_does_not_forgive_lost_contrast(image: torch.Tensor) -> None:
    """A recovery with a tenth of the contrast is nearly as bad as none."""
    image = image[:, :1]
    assert ssim_loss(image / 10, image) > 0.7
