# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""U-Net whose skip connections can be switched off one by one at inference.

Park et al., "Excision and Recovery" (arXiv 2310.04010): all skips on in training, shallow ones off at inference, so
that defects cannot leak through them. Layers and sizes are ours; the paper's abstract does not give them.

A closed gate means that the decoder sees zeros in place of the skip. Since ``conv(concat(up, 0))`` equals the
convolution with the skip's input channels cut away, a closed gate is computed that way: same function, less work, and
an exported graph holds none of it.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Build convolution, batch norm and ReLU, twice.

    Zero padding: replicate padding made a training step 2.4 times slower on CPU.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class DecoderBlock(nn.Module):
    """Upsample by two, join the skip if its gate is open, convolve twice.

    Args:
        deep_channels: Channels of the deeper level.
        skip_channels: Channels of the skip, and of the result.
    """

    def __init__(self, deep_channels: int, skip_channels: int) -> None:
        super().__init__()
        self.deep_channels = deep_channels
        self.convs = conv_block(deep_channels + skip_channels, skip_channels)

    def forward(self, deep: Tensor, skip: Tensor | None) -> Tensor:
        """Decode one level.

        Args:
            deep: Deeper level, ``(N, deep_channels, H/2, W/2)``.
            skip: Encoder's level, ``(N, skip_channels, H, W)``, or ``None`` where the gate is closed.

        Returns:
            Decoded level, ``(N, skip_channels, H, W)``.
        """
        up = F.interpolate(deep, scale_factor=2, mode="nearest")  # (N, deep_channels, H, W)
        if skip is not None:
            return self.convs(torch.cat([up, skip], dim=1))  # type: ignore[no-any-return]
        weight = self.convs[0].get_parameter("weight")[:, : self.deep_channels]
        return self.convs[1:](F.conv2d(up, weight, padding=1))  # type: ignore[no-any-return]


class SkipGatedUNet(nn.Module):
    """U-Net with one gate per skip connection.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        channels: Channels per level, shallowest first; two levels or more.
        patch_size: Side in pixels of the patches that the shallowest level works on. With 2 the network costs a
            quarter and no pixel is lost: the patch's pixels become channels on the way in and pixels again on the
            way out (Shi et al., "Real-Time Single Image and Video Super-Resolution", CVPR 2016).

    Attributes:
        gates: One value per skip, shallowest first, ``True`` = open. :meth:`forward` heeds them in evaluation mode; in
            training mode every skip is on. Plain data: assign to change a trained network.
        stride: Input height and width must be multiples of this, in pixels.

    Raises:
        ValueError: If there are fewer than two levels.
    """

    def __init__(self, in_channels: int, out_channels: int, channels: Sequence[int], *, patch_size: int = 1) -> None:
        super().__init__()
        if len(channels) < 2 or min(channels) < 1:  # one level has no skip
            msg = f"channels must give a positive number for each of two or more levels, got {list(channels)}."
            raise ValueError(msg)
        self.stride = patch_size * 2 ** (len(channels) - 1)
        self.patch_size = patch_size
        first = in_channels * patch_size**2
        self.encoder = nn.ModuleList(conv_block(before, after) for before, after in pairwise((first, *channels)))
        self.decoder = nn.ModuleList(DecoderBlock(deep, shallow) for shallow, deep in pairwise(channels))
        self.head = nn.Conv2d(channels[0], out_channels * patch_size**2, 1)
        self._gates = (True,) * (len(channels) - 1)

    @property
    def gates(self) -> tuple[bool, ...]:
        """Gate per skip, shallowest first, ``True`` = open."""
        return self._gates

    @gates.setter
    def gates(self, gates: Sequence[bool]) -> None:
        if len(gates) != len(self._gates) or not all(isinstance(gate, bool) for gate in gates):
            msg = (
                f"skip_gates must give true or false for each of the {len(self._gates)} skip connections, shallowest "
                f"first, got {len(gates)}: {list(gates)}."
            )
            raise ValueError(msg)
        self._gates = tuple(gates)

    def forward(self, x: Tensor) -> Tensor:
        """Map an input to an output of the same height and width.

        Args:
            x: Input of shape ``(N, in_channels, H, W)``, ``H`` and ``W`` multiples of ``stride``.

        Returns:
            Output of shape ``(N, out_channels, H, W)``.
        """
        return self.decode(self.encode(x), (True,) * len(self._gates) if self.training else self._gates)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Compute every level's features, shallowest first; all but the last are skips."""
        x = F.pixel_unshuffle(x, self.patch_size)
        levels = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else F.max_pool2d(x, 2))
            levels.append(x)
        return levels

    def decode(self, levels: Sequence[Tensor], gates: Sequence[bool]) -> Tensor:
        """Compute the output from the encoder's levels, with the skips whose gates are open."""
        x = levels[-1]
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](x, levels[level] if gates[level] else None)
        return F.pixel_shuffle(self.head(x), self.patch_size)
