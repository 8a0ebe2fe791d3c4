# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""An antialiased resize that exports, so that a deployed model sees the image that it was trained on.

anomalib resizes with antialias in training, test and ``anomalib predict``, but switches it off in the exported graph,
and OpenVINO ignores ONNX's antialias flag. On downscaled photographs that changes scores far more than any threshold
tolerates. Two matrix products with triangle weights do the same resize in plain operations.
"""

import copy
import logging

import torch
from anomalib.pre_processing.utils.transform import get_exportable_transform
from torch import Tensor, nn
from torchvision.transforms.v2 import Compose, InterpolationMode, Resize, Transform

logger = logging.getLogger(__name__)


def triangle_weights(reference: Tensor, out_size: int) -> Tensor:
    """Weights of an antialiased bilinear resize along one axis.

    Args:
        reference: Any tensor whose last axis has the input's length.
        out_size: Length of the output.

    Returns:
        Matrix of shape ``(out_size, in_size)`` whose rows sum to one.
    """
    source = torch.arange(reference.shape[-1], device=reference.device, dtype=torch.float32) + 0.5  # (in_size,)
    scale = torch.ones_like(source).sum() / out_size  # a tensor, since a traced length is no Python number
    centre = (torch.arange(out_size, device=reference.device, dtype=torch.float32) + 0.5) * scale  # (out_size,)
    distance = (source - centre.unsqueeze(1)).abs() / scale.clamp(min=1)  # (out_size, in_size)
    weights = (1 - distance).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)


class ExportableResize(nn.Module):
    """Resize as torchvision does with ``antialias=True``, in operations that every exporter knows.

    Args:
        size: Height and width of the result in pixels.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, image: Tensor) -> Tensor:
        """Resize images.

        Args:
            image: Shape ``(N, C, H, W)``.

        Returns:
            Shape ``(N, C, *size)``.
        """
        narrow = image @ triangle_weights(image, self.size[1]).T  # (N, C, H, w)
        return triangle_weights(narrow.mT, self.size[0]) @ narrow  # (N, C, h, w)


def exportable_transform(transform: Transform | None) -> Transform | nn.Module | None:
    """Make a pre-processing transform exportable without changing what it computes.

    Args:
        transform: The pre-processor's transform.

    Returns:
        The same steps, with each antialiased bilinear resize to a fixed height and width as
        :class:`ExportableResize`; the rest as anomalib converts it.
    """
    if isinstance(transform, Compose):
        steps = [exportable_transform(step) for step in transform.transforms]
        return steps[0] if len(steps) == 1 else Compose(steps)
    # One to a shorter side exports in a network of one size, where it does nothing.
    if isinstance(transform, Resize) and transform.antialias and len(transform.size or ()) == 2:
        if InterpolationMode(transform.interpolation) is InterpolationMode.BILINEAR:
            height, width = transform.size
            return ExportableResize((height, width))
        logger.warning(
            "%s exports without antialias: scores of the exported model will differ from the trained one's. "
            "Use Resize((height, width)) with bilinear interpolation.",
            transform,
        )
    return get_exportable_transform(copy.deepcopy(transform))
