# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The space in which an image is recovered: what the U-Net sees and what the residual is measured in.

A space maps an image ``(N, C, H, W)`` in [0, 1] to standardised features ``(N, D, H/stride, W/stride)``: mean 0 and
variance 1 per channel over the training images, which makes loss and residual independent of a surface's brightness and
contrast. EAR recovers pixels. Grain cannot be predicted pixel by pixel, but features that summarise it can: the same
excision and recovery of a frozen network's features finds defects that pixels do not show.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own idiom

from anomalib_ear.attention import SpatialAttention, load_attention
from anomalib_ear.loss import EarLoss, gradient_magnitude
from anomalib_ear.pretrained import load_pretrained

if TYPE_CHECKING:
    from timm.models import FeatureListNet

# ImageNet's mean and standard deviation, by which timm's networks standardise images.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Space(nn.Module, ABC):
    """What is recovered.

    The statistics that standardise are those of the training batches, averaged over all of them: batch normalisation
    without its affine part does just that, and costs no pass of its own over the data.

    Args:
        dimensions: Channels of the space, ``D``.
        eps: Added to their variances.

    Attributes:
        channels: Channels of the image, ``C``.
        stride: Side in pixels of the square that one position stands for.
        residual_stride: Height and width of features must be multiples of this to compare them.
        residual_dimensions: Channels of the residual, ``K``.
        unet_channels: Channels per level of the U-Net that suit the space.
        patch_size: Side of the patches that this U-Net's shallowest level works on, in positions.
        dilation: Radius by which excised regions grow, in positions.
        mosaic_size: Side of a mosaic block, in positions; ``None`` where emptiness is the better hint.
    """

    channels = 3
    stride: int
    residual_stride: int
    residual_dimensions: int
    unet_channels: tuple[int, ...]
    patch_size: int
    dilation: int
    mosaic_size: int | None

    def __init__(self, dimensions: int, eps: float) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.standardise = nn.BatchNorm2d(dimensions, affine=False, momentum=None, eps=eps)

    def forward(self, image: Tensor) -> Tensor:
        """Map images to standardised features.

        Args:
            image: Image of shape ``(N, C, H, W)``, values in [0, 1], ``H`` and ``W`` multiples of ``stride``.

        Returns:
            Features of shape ``(N, D, H/stride, W/stride)``.
        """
        return self.standardise(self.extract(image))  # type: ignore[no-any-return]

    @abstractmethod
    def extract(self, image: Tensor) -> Tensor:
        """Map images to features, not standardised yet."""

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
            FileNotFoundError: If they cannot be had.
        """


class PixelSpace(Space):
    """The image's own pixels.

    CLAP (arXiv 2411.07546) scores EAR's recovery by multi-scale gradient magnitude similarity. That divides by local
    contrast and is blind to soft blotches; the residual here is the multi-scale gradient of the difference instead.
    """

    stride = 1
    residual_stride = 8
    residual_dimensions = 1
    unet_channels = (16, 32, 64, 96, 128)
    patch_size = 2
    dilation = 2
    mosaic_size = 8

    SCALES = 4

    def __init__(self) -> None:
        # eps far below the variance of an 8-bit step, (1/255)², so that faint surfaces are standardised too.
        super().__init__(self.channels, eps=1e-8)
        self.recovery_loss = EarLoss()

    def extract(self, image: Tensor) -> Tensor:
        """Return the image."""
        return image

    def loss(self, recovered: Tensor, target: Tensor) -> Tensor:
        """Sum mean squared error, SSIM loss and MSGMS loss."""
        return self.recovery_loss(recovered, target)  # type: ignore[no-any-return]

    def residual(self, target: Tensor, recovered: Tensor) -> Tensor:
        """Average the gradient magnitude of the difference over channels and squares, and sum it over scales.

        Args:
            target: Standardised image, ``(N, 3, H, W)``; ``H`` and ``W`` multiples of 8.
            recovered: Standardised recovery, ``(N, 3, H, W)``.

        Returns:
            Residual of shape ``(N, 1, H/8, W/8)``, 0 where the recovery equals the image up to a constant.
        """
        n, d, h, w = target.shape
        difference = target - recovered
        total = target.new_zeros(())
        for scale in range(self.SCALES):
            if scale:
                difference = F.avg_pool2d(difference, 2)
            magnitude = gradient_magnitude(difference).reshape(n, d, h >> scale, w >> scale).mean(dim=1, keepdim=True)
            total = total + F.avg_pool2d(magnitude, self.residual_stride >> scale)
        return total

    def to_image(self, features: Tensor) -> Tensor:
        """Undo the standardisation."""
        mean, variance = self.standardise.get_buffer("running_mean"), self.standardise.get_buffer("running_var")
        return (features * variance.sqrt().view(-1, 1, 1) + mean.view(-1, 1, 1)).clamp(0, 1)


class FeatureSpace(Space):
    """Features of a frozen network at several strides, all brought to a stride of 16 pixels.

    Args:
        dimensions: Channels of all features together.
    """

    stride = 16
    residual_stride = 1
    unet_channels = (64, 96, 128)
    patch_size = 1
    dilation = 0
    mosaic_size = None

    def __init__(self, dimensions: int) -> None:
        super().__init__(dimensions, eps=1e-6)
        self.residual_dimensions = dimensions

    def combine(self, levels: Sequence[Tensor], image: Tensor) -> Tensor:
        """Bring features ``(N, D', h', w')`` of strides that are powers of two to one stride."""
        size = (image.shape[-2] // self.stride, image.shape[-1] // self.stride)
        combined = []
        for level in levels:
            # What a neighbour sees belongs to a position too (as in PatchCore, Roth et al., CVPR 2022, section 3.1).
            features = F.avg_pool2d(level, 3, 1, 1, count_include_pad=False)
            ratio = level.shape[-1] // size[1]
            if ratio > 1:
                features = F.avg_pool2d(features, ratio)
            elif ratio < 1:
                features = F.interpolate(features, size=size, mode="bilinear", align_corners=False)
            combined.append(features)
        return torch.cat(combined, dim=1)

    def loss(self, recovered: Tensor, target: Tensor) -> Tensor:
        """Huber loss: a position that cannot be predicted does not outweigh the others."""
        return F.smooth_l1_loss(recovered, target)

    def residual(self, target: Tensor, recovered: Tensor) -> Tensor:
        """Subtract."""
        return target - recovered

    def to_image(self, features: Tensor) -> Tensor:
        """Average each third of the channels, the finest first, as red, green and blue: ± 1 standard deviation."""
        thirds = [third.mean(dim=1) for third in features.tensor_split(3, dim=1)]
        return (torch.stack(thirds, dim=1) / 2 + 0.5).clamp(0, 1)


class AttentionSpace(FeatureSpace):
    """Features of the attention network that comes with the package: five scales, nothing to download."""

    network: SpatialAttention

    def __init__(self) -> None:
        network = SpatialAttention()
        super().__init__(network.scales * network.logit.in_channels)
        self.network = network.requires_grad_(requires_grad=False)

    def extract(self, image: Tensor) -> Tensor:
        """Combine the features of all scales."""
        return self.combine([features for features, _ in self.network.attend(image)], image)

    def attend(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the standardised features ``(N, D, h, w)`` and the attention ``(N, 1, H, W)`` of one look."""
        attended = self.network.attend(image)
        features = self.combine([features for features, _ in attended], image)
        return self.standardise(features), self.network.spread(attended, image)

    def load_pretrained(self) -> None:
        """Load the bundled weights."""
        self.network.load_state_dict(load_attention().state_dict())


class BackboneSpace(FeatureSpace):
    """Features of a convolutional network of timm's, pre-trained on ImageNet, at strides 4, 8 and 16.

    Args:
        name: Name of the network in timm.

    Raises:
        ValueError: If timm has no network of that name, or not with features at these strides.
    """

    FEATURES: ClassVar[dict[str, Any]] = {"features_only": True, "out_indices": (1, 2, 3)}

    def __init__(self, name: str) -> None:
        # Not anomalib's extractor, which would import every model of anomalib, this one among them.
        try:
            network = cast("FeatureListNet", timm.create_model(name, **self.FEATURES))
            strides = network.feature_info.reduction()
        except (RuntimeError, AttributeError, IndexError, AssertionError) as error:
            raise ValueError(_unknown(name)) from error
        if strides != [4, 8, 16]:
            raise ValueError(_unknown(name))
        super().__init__(sum(network.feature_info.channels()))
        self.name = name
        self.network = network.requires_grad_(requires_grad=False)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)

    def extract(self, image: Tensor) -> Tensor:
        """Combine the features of all strides."""
        self.network.eval()  # its own batch statistics, whatever mode the rest is in
        return self.combine(self.network((image - self.get_buffer("mean")) / self.get_buffer("std")), image)

    def load_pretrained(self) -> None:
        """Load ImageNet weights from the Hugging Face cache or hub."""
        network = load_pretrained(self.name, fallback="The space 'attention' needs no download.", **self.FEATURES)
        self.network.load_state_dict(network.state_dict())


def build_space(name: str) -> Space:
    """Build a space, with random weights where it has any.

    Args:
        name: ``"pixels"``, ``"attention"``, or the name of a convolutional network in timm.

    Raises:
        ValueError: If there is none of that name.
    """
    if name == "pixels":
        return PixelSpace()
    return AttentionSpace() if name == "attention" else BackboneSpace(name)


def _unknown(name: str) -> str:
    return (
        f"space must be 'pixels', 'attention' or a convolutional network of timm's with features at strides 4, 8 and "
        f"16, such as 'resnet18', got {name!r}."
    )
