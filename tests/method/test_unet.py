# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Skip-gated U-Net: gates hold back what they should, exactly, and only at inference."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from anomalib_ear.method.unet import SkipGatedUNet

CHANNELS = (4, 6, 8)
GATES = pytest.mark.parametrize("gates", list(itertools.product([False, True], repeat=2)), ids=str)


@pytest.fixture(params=[1, 2], ids=["patch1", "patch2"])
def unet(request: pytest.FixtureRequest) -> SkipGatedUNet:
    """Return a small network whose batch norms have seen data."""
    torch.manual_seed(0)
    net = SkipGatedUNet(3, 2, CHANNELS, patch_size=request.param)
    net(torch.randn(4, 3, 32, 32))
    return net.eval()


def with_zeros_for_closed_skips(net: SkipGatedUNet, x: Tensor) -> Tensor:
    """Compute the network as the paper words it: the decoder sees zeros in place of a closed skip."""
    x = nn.functional.pixel_unshuffle(x, net.patch_size)
    skips = []
    for level, block in enumerate(net.encoder):
        x = block(x if level == 0 else nn.functional.max_pool2d(x, 2))
        skips.append(x)
    for level in (1, 0):
        up = nn.functional.interpolate(x, scale_factor=2)
        x = net.decoder[level].convs(torch.cat([up, skips[level] * net.gates[level]], dim=1))
    return nn.functional.pixel_shuffle(net.head(x), net.patch_size)


@GATES
def test_a_closed_gate_equals_zeros_in_place_of_the_skip(unet: SkipGatedUNet, gates: tuple[bool, ...]) -> None:
    """Cutting the convolution is the same function as feeding it zeros, for every setting of the gates."""
    unet.gates = gates
    x = torch.randn(2, 3, 24, 40)
    torch.testing.assert_close(unet(x), with_zeros_for_closed_skips(unet, x), rtol=1e-5, atol=1e-5)


@GATES
def test_training_has_every_skip_on(unet: SkipGatedUNet, gates: tuple[bool, ...]) -> None:
    """In training mode the gates change nothing."""
    x = torch.randn(2, 3, 16, 16)
    expected = unet.train()(x)
    unet.gates = gates
    torch.testing.assert_close(unet(x), expected)


def test_fine_detail_passes_an_open_shallow_skip_only(unet: SkipGatedUNet) -> None:
    """With all gates closed the output no longer depends on detail that the pooling drops."""
    x = torch.zeros(1, 3, 16, 16)
    swapped = x.clone()
    swapped[..., 0::2, :], swapped[..., 1::2, :] = 0.5, -0.5
    unet.gates = (True, True)
    leaked = (unet(x) - unet(swapped)).abs().mean()
    unet.gates = (False, False)
    assert (unet(x) - unet(swapped)).abs().mean() < leaked


@pytest.mark.parametrize("gates", [(), (True,), (True, False, True)], ids=len)
def test_a_wrong_number_of_gates_is_refused(unet: SkipGatedUNet, gates: tuple[bool, ...]) -> None:
    """The error says how many gates there are."""
    with pytest.raises(ValueError, match="2 skip connections"):
        unet.gates = gates


@pytest.mark.parametrize("channels", [(), (8,), (8, 0)], ids=str)
def test_too_few_levels_are_refused(channels: tuple[int, ...]) -> None:
    """A network without a skip is no U-Net."""
    with pytest.raises(ValueError, match="channels"):
        SkipGatedUNet(3, 3, channels)


def test_every_parameter_learns() -> None:
    """After a backward pass in training mode each parameter has a gradient."""
    net = SkipGatedUNet(3, 3, CHANNELS)
    net(torch.randn(2, 3, 16, 16)).square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []
