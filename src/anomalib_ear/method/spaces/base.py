# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The space in which an image is recovered: what the U-Net sees and what the residual is measured in.

A space maps an image ``(N, C, H, W)`` in [0, 1] to standardised features ``(N, D, H/stride, W/stride)``: mean 0 and
variance 1 per channel over the training images, which makes loss and residual independent of a surface's brightness and
contrast. EAR recovers pixels. Grain cannot be predicted pixel by pixel, but features that summarise it can: the same
excision and recovery of a frozen network's features finds defects that pixels do not show.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from anomalib_ear.method.attention import build_attention, load_attention


class Space(nn.Module, ABC):
    """What is recovered.

    The statistics that standardise are those of the training batches, averaged over all of them: batch normalisation
    without its affine part does just that, and costs no pass of its own over the data.

    Args:
        features: Channels to standardise.
        eps: Added to their variances.

    Attributes:
        channels: Channels of the image, ``C``.
        attention: Frozen network that gives the attention; ``None`` for none.
        dimensions: Channels of the space, ``D``.
        stride: Side in pixels of the square that one position stands for.
        multiple: Height and width of an image must be multiples of this, in pixels.
        residual_stride: Height and width of features must be multiples of this to compare them.
        residual_dimensions: Channels of the residual, ``K``.
        unet_channels: Channels per level of the U-Net that suit the space.
        patch_size: Side of the patches that this U-Net's shallowest level works on, in positions.
        dilation: Radius by which excised regions grow, in positions.
    """

    channels = 3
    stride: int
    multiple: int
    residual_stride: int
    residual_dimensions: int
    unet_channels: tuple[int, ...]
    patch_size: int
    dilation: int

    def __init__(self, features: int, eps: float) -> None:
        super().__init__()
        self.attention: nn.Module | None = None
        self.attention_name: str | None = None
        self.dimensions = features
        self.standardise = nn.BatchNorm2d(features, affine=False, momentum=None, eps=eps)

    def use_attention(self, name: str) -> None:
        """Give the features an attention, with random weights until :meth:`load_pretrained`.

        Args:
            name: As for :func:`~anomalib_ear.method.attention.build_attention`.
        """
        self.attention = build_attention(name)
        self.attention_name = name

    @abstractmethod
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map images to standardised features and their attention.

        Args:
            image: Image of shape ``(N, C, H, W)``, values in [0, 1], ``H`` and ``W`` multiples of ``multiple``.

        Returns:
            Features of shape ``(N, D, H/stride, W/stride)``, and attention ``(N, 1, H/stride, W/stride)`` or ``None``.
        """

    @abstractmethod
    def loss(self, recovered: Tensor, target: Tensor) -> Tensor:
        """Compare a recovery ``(N, D, h, w)`` with the features: a scalar, 0 where they are equal."""

    @abstractmethod
    def residual(self, target: Tensor, recovered: Tensor) -> Tensor:
        """Return what differs, ``(N, K, h/residual_stride, w/residual_stride)``."""

    @abstractmethod
    def to_image(self, features: Tensor) -> Tensor:
        """Show features ``(N, D, h, w)`` as a picture ``(N, 3, h, w)`` in [0, 1]."""

    def load_pretrained(self) -> None:
        """Load the weights that the space needs, when training starts; a checkpoint brings them.

        Raises:
            FileNotFoundError: If they are missing and cannot be downloaded.
            ValueError: If a file of weights does not fit its network.
        """
        if self.attention is not None and self.attention_name is not None:
            self.attention.load_state_dict(load_attention(self.attention_name).state_dict())
