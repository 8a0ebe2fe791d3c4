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
from fractions import Fraction
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
        features: Channels to standardise.
        eps: Added to their variances.

    Attributes:
        channels: Channels of the image, ``C``.
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
        self.dimensions = features
        self.standardise = nn.BatchNorm2d(features, affine=False, momentum=None, eps=eps)

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """Map images to standardised features.

        Args:
            image: Image of shape ``(N, C, H, W)``, values in [0, 1], ``H`` and ``W`` multiples of ``multiple``.

        Returns:
            Features of shape ``(N, D, H/stride, W/stride)``.
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
            FileNotFoundError: If they cannot be had.
        """


class PixelSpace(Space):
    """The image's own pixels.

    CLAP (arXiv 2411.07546) scores EAR's recovery by multi-scale gradient magnitude similarity. That divides by local
    contrast and is blind to soft blotches; the residual here is the multi-scale gradient of the difference instead.
    """

    stride = multiple = 1
    residual_stride = 8
    residual_dimensions = 1
    unet_channels = (16, 32, 64, 96, 128)
    patch_size = 2
    dilation = 2

    SCALES = 4

    def __init__(self) -> None:
        # eps far below the variance of an 8-bit step, (1/255)², so that faint surfaces are standardised too.
        super().__init__(self.channels, eps=1e-8)
        self.recovery_loss = EarLoss()

    def forward(self, image: Tensor) -> Tensor:
        """Standardise the image."""
        return self.standardise(image)  # type: ignore[no-any-return]

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
    """Features of frozen networks, brought to a stride of 16 pixels, standardised and projected.

    The attention network looks at every image anyway, at five scales; what it sees of strokes adds to what a backbone
    sees of shapes. The backbone may look at a smaller image, since shapes need fewer pixels than strokes. A random
    projection to fewer directions keeps distances (Johnson and Lindenstrauss, 1984) and makes recovery, statistics and
    the exported model smaller; PaDiM picks channels at random for the same end.

    Args:
        backbone: Convolutional network of timm's, pre-trained on ImageNet, of which the features at strides 4, 8 and 16
            are taken, in its own pixels; ``None`` for those of the attention network alone.
        backbone_scale: Of the image's height and width, for the backbone; one of ``SCALES``.

    Raises:
        ValueError: If timm has no network of that name, or not with features at these strides, or for another scale.
    """

    stride = 16
    residual_stride = 1
    unet_channels = (64, 96, 128)
    patch_size = 1
    dilation = 0

    MOST_DIMENSIONS = 192
    SCALES = (0.5, 0.75, 1.0)
    BACKBONE: ClassVar[dict[str, Any]] = {"features_only": True, "out_indices": (1, 2, 3)}

    projection: Tensor

    def __init__(self, backbone: str | None = None, backbone_scale: float = 0.75) -> None:
        if backbone_scale not in self.SCALES:
            msg = f"backbone_scale must be one of {', '.join(map(str, self.SCALES))}, got {backbone_scale}."
            raise ValueError(msg)
        attention = SpatialAttention()
        features = attention.scales * attention.logit.in_channels
        network = None if backbone is None else _build_backbone(backbone, self.BACKBONE)
        if network is not None:
            features += sum(network.feature_info.channels())
        super().__init__(features, eps=1e-6)
        self.attention = attention.requires_grad_(requires_grad=False)
        # What the backbone looks at has whole strides then.
        self.multiple = self.stride * (1 if network is None else Fraction(backbone_scale).denominator)
        self.backbone_scale = backbone_scale
        self.name = backbone
        self.backbone = None if network is None else network.requires_grad_(requires_grad=False)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)
        directions = torch.eye(features)
        if features > self.MOST_DIMENSIONS:
            directions = nn.init.orthogonal_(torch.empty(self.MOST_DIMENSIONS, features))
        self.register_buffer("projection", directions)
        self.dimensions = self.residual_dimensions = len(directions)

    def forward(self, image: Tensor) -> Tensor:
        """Map images to standardised features, ``(N, C, H, W)`` → ``(N, D, H/16, W/16)``."""
        return self.attend(image)[0]

    def attend(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features ``(N, D, h, w)`` and the attention ``(N, 1, H, W)`` of one look."""
        size = (image.shape[-2] // self.stride, image.shape[-1] // self.stride)
        attended = self.attention.attend(image)
        features = combine([level for level, _ in attended], size)
        if self.backbone is not None:
            features = torch.cat([self._look(image, size), features], dim=1)
        features = self.standardise(features)
        if len(self.projection) < features.shape[1]:
            features = F.conv2d(features, self.projection[..., None, None])
        return features, self.attention.spread(attended, image)

    def _look(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the backbone's features at a height and width."""
        backbone = cast("nn.Module", self.backbone).eval()  # its own batch statistics, whatever mode the rest is in
        if self.backbone_scale != 1:
            image = F.interpolate(image, scale_factor=self.backbone_scale, mode="bilinear")
        levels = backbone((image - self.get_buffer("mean")) / self.get_buffer("std"))
        features = combine(levels, (levels[-1].shape[-2], levels[-1].shape[-1]))
        return features if self.backbone_scale == 1 else F.interpolate(features, size=size, mode="bilinear")

    def loss(self, recovered: Tensor, target: Tensor) -> Tensor:
        """Huber loss: a position that cannot be predicted does not outweigh the others."""
        return F.smooth_l1_loss(recovered, target)

    def residual(self, target: Tensor, recovered: Tensor) -> Tensor:
        """Subtract."""
        return target - recovered

    def to_image(self, features: Tensor) -> Tensor:
        """Average each third of the networks' channels, finest first, as red, green, blue: ± 1 standard deviation."""
        channels = F.conv2d(features, self.projection.T[..., None, None])
        thirds = [third.mean(dim=1) for third in channels.tensor_split(3, dim=1)]
        return (torch.stack(thirds, dim=1) / 2 + 0.5).clamp(0, 1)

    def load_pretrained(self) -> None:
        """Load the bundled attention, and ImageNet weights from the Hugging Face cache or hub."""
        self.attention.load_state_dict(load_attention().state_dict())
        if self.backbone is not None and self.name is not None:
            fallback = "The space 'attention' needs no download."
            network = load_pretrained(self.name, fallback=fallback, **self.BACKBONE)
            self.backbone.load_state_dict(network.state_dict())


def combine(levels: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Bring features of one image to one height and width, and stack them.

    Args:
        levels: ``(N, D', h', w')`` each; ratios of their sizes to ``size`` are powers of two.
        size: Height and width of the result.

    Returns:
        Shape ``(N, D, *size)``.
    """
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


def build_space(name: str, backbone_scale: float = 0.75) -> Space:
    """Build a space, with random weights where it has any.

    Args:
        name: ``"pixels"``, ``"attention"``, or the name of a convolutional network in timm.
        backbone_scale: Of the image's height and width, for the latter.

    Raises:
        ValueError: If there is none of that name, or not of that scale.
    """
    if name == "pixels":
        return PixelSpace()
    return FeatureSpace(None if name == "attention" else name, backbone_scale)


def _build_backbone(name: str, options: dict[str, Any]) -> "FeatureListNet":
    # Not anomalib's extractor, which would import every model of anomalib, this one among them.
    try:
        network = cast("FeatureListNet", timm.create_model(name, **options))
        strides = network.feature_info.reduction()
    except (RuntimeError, AttributeError, IndexError, AssertionError) as error:
        raise ValueError(_unknown(name)) from error
    if strides != [4, 8, 16]:
        raise ValueError(_unknown(name))
    return network.to(memory_format=torch.channels_last)  # takes 0.8 of the time


def _unknown(name: str) -> str:
    return (
        f"space must be 'pixels', 'attention' or a convolutional network of timm's with features at strides 4, 8 and "
        f"16, such as 'resnet18', got {name!r}."
    )
