# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0
"""Spatial attention that fires on strokes of any width, pre-trained on MNIST.

The idea is from Park et al., "Excision and Recovery" (arXiv:2310.04010) and IEEE T-IA 59(3), 2023: an attention learned
on digits points at what stands out on a surface. The papers publish neither layers nor weights, so the network is ours:
zero-mean filters whose rectified answers are scaled per image, which makes the map blind to polarity and contrast.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_ear.method.dino import DinoAttention
from anomalib_ear.method.padding import pad_to_multiple
from anomalib_ear.method.resampling import enlarge

BUNDLED_WEIGHTS = Path(__file__).parents[1] / "pretraining" / "mnist_attention.safetensors"
PRETRAINING_COMMAND = "python -m anomalib_ear.pretraining --root FOLDER --download --output FILE"
# timm's names of the attentions whose weights may have to be downloaded.
DINO = {"dino": "vit_small_patch16_224.dino", "dino8": "vit_small_patch8_224.dino"}
_PREFIX = "attention."
_DIGEST_KEY = "tensors_sha256"


class SpatialAttention(nn.Module):
    """Fully convolutional attention of an image pyramid, per image and without batch statistics.

    The same small network looks at the image at several scales, each half of the one before, and the attention is the
    mean over the scales: a defect's width is not known beforehand.

    Args:
        filters: Number of zero-mean filters in the first layer.
        channels: Number of channels of the layers that follow.
        depth: Number of 3 x 3 layers after the second stride; each widens the view by 8 pixels.
        scales: Number of scales. They share all weights.
    """

    def __init__(self, *, filters: int = 8, channels: int = 24, depth: int = 3, scales: int = 5) -> None:
        super().__init__()
        self.scales = scales
        self.filters = nn.Parameter(torch.randn(filters, 1, 6, 6) / 6)
        # Even kernels centre every output between pixels, as bilinear upsampling expects: the map is not shifted.
        # Borders are repeated, not reflected, because the coarsest scale may be a single pixel wide.
        layers = [nn.Conv2d(filters, channels, 4, stride=2, padding=1, padding_mode="replicate")]
        layers += [nn.Conv2d(channels, channels, 3, padding=1, padding_mode="replicate") for _ in range(depth)]
        self.blocks = nn.Sequential(*(nn.Sequential(layer, nn.ReLU()) for layer in layers))
        self.logit = nn.Conv2d(channels, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the attention of each pixel.

        Args:
            image: ``(N, C, H, W)`` with C = 1 or 3, any H and W, values in [0, 1].

        Returns:
            Attention ``(N, 1, H, W)`` in [0, 1]; the same for ``image`` and ``1 - image``, up to rounding.
        """
        return self.spread(self.attend(image), image)

    @staticmethod
    def spread(attended: Sequence[tuple[Tensor, Tensor]], image: Tensor) -> Tensor:
        """Merge the attention of all scales and bring it to the image's size, ``(N, 1, H, W)``."""
        attention = merge_scales([attention for _, attention in attended])
        attention = enlarge(attention, 4)
        return attention[..., : image.shape[-2], : image.shape[-1]]

    def attend(self, image: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return features ``(N, channels, h, w)`` and attention ``(N, 1, h, w)`` per scale, at stride 4 of it."""
        grey = pad_to_multiple(to_grey(image), 2 ** (self.scales - 1))  # so that every scale has a whole pixel
        attended = []
        for scale in range(self.scales):
            if scale:
                grey = F.avg_pool2d(grey, 2)
            features = self.blocks(self.respond(grey))
            attended.append((features, torch.sigmoid(self.logit(features))))
        return attended

    def respond(self, grey: Tensor) -> Tensor:
        """Return the strength of edges and lines at stride 2, relative to the image's mean strength.

        Args:
            grey: ``(N, 1, H, W)``.

        Returns:
            Responses ``(N, filters, h, w)``, at least 0, about 0.7 on average.
        """
        grey = F.pad(grey, (2, 5, 2, 5), mode="replicate")  # 3 more at the end, for scales of one pixel
        weight = self.filters - self.filters.mean((2, 3), keepdim=True)
        response = F.conv2d(grey, weight, stride=2).abs()  # zero mean, then abs: polarity drops out
        return torch.log1p(response / (response.mean((1, 2, 3), keepdim=True) + 1e-5))


def merge_scales(attentions: Sequence[Tensor]) -> Tensor:
    """Average the attention over scales.

    Args:
        attentions: ``(N, 1, h, w)`` each, finest first.

    Returns:
        Attention of the finest's shape.
    """
    size = attentions[0].shape[-2:]
    larger = [F.interpolate(coarse, size=size, mode="bilinear") for coarse in attentions[1:]]
    return torch.stack([attentions[0], *larger]).mean(dim=0)


def to_grey(image: Tensor) -> Tensor:
    """Average the channels and subtract the image's mean: ``(N, C, H, W)`` -> ``(N, 1, H, W)``."""
    if image.shape[1] not in {1, 3}:
        msg = (
            f"image has {image.shape[1]} channels; SpatialAttention takes (N, C, H, W) with C = 1 (grey) or 3 (colour)."
        )
        raise ValueError(msg)
    grey = image.mean(1, keepdim=True)
    return grey - grey.mean((2, 3), keepdim=True)  # keeps the digits of faint contrast in the sums that follow


def build_attention(name: Path | str = "mnist") -> nn.Module:
    """Return the network of an attention, frozen, with random weights.

    All have one protocol: an image ``(N, C, H, W)`` with C = 1 or 3 and values in [0, 1] gives ``(N, 1, H, W)``.

    Args:
        name: ``"mnist"``, ``"dino"``, ``"dino8"`` or the path of a file written by the pre-training command, which
            need not exist.

    Raises:
        ValueError: Neither a known name nor the path of a file.
    """
    if str(name) not in {"mnist", *DINO} and not Path(name).suffix:
        raise ValueError(_unknown(name))
    attention = DinoAttention(DINO[str(name)]) if str(name) in DINO else SpatialAttention()
    return attention.requires_grad_(requires_grad=False)


def load_attention(name: Path | str = "mnist") -> nn.Module:
    """Return an attention with its weights, frozen and in evaluation mode.

    Args:
        name: ``"mnist"`` for the weights in the package; ``"dino"`` or ``"dino8"`` for DINO's small transformer with
            patches of 16 or 8 pixels, from the Hugging Face cache or hub; or the path of a file written by the
            pre-training command.

    Raises:
        FileNotFoundError: Neither a known name nor a file, or DINO's weights cannot be had.
        ValueError: The file is not from the pre-training command, or was altered since.
    """
    if str(name) in DINO:
        return DinoAttention(DINO[str(name)], pretrained=True).eval()
    file = BUNDLED_WEIGHTS if str(name) == "mnist" else Path(name)
    if not file.is_file():
        raise FileNotFoundError(_unknown(name))
    tensors, _ = read_weights(file)
    attention = build_attention(name)
    try:
        attention.load_state_dict({k.removeprefix(_PREFIX): v for k, v in tensors.items() if k.startswith(_PREFIX)})
    except RuntimeError as error:
        raise ValueError(_unusable(file, "its tensors do not fit SpatialAttention")) from error
    return attention.eval()


def read_weights(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a weights file, after comparing its digest.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file is not from the pre-training command, or was altered since.
    """
    if not file.is_file():
        msg = f"no attention weights at {str(file)!r}; make them with: {PRETRAINING_COMMAND}"
        raise FileNotFoundError(msg)
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = dict(opened.metadata() or {})
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise ValueError(_unusable(file, "it is not a readable safetensors file")) from error
    if _DIGEST_KEY not in metadata:
        raise ValueError(_unusable(file, "the command did not write it"))
    if metadata[_DIGEST_KEY] != digest(tensors):
        raise ValueError(_unusable(file, "its tensors do not match the digest recorded in it"))
    return tensors, metadata


def write_weights(tensors: dict[str, Tensor], file: Path, metadata: dict[str, str]) -> None:
    """Write tensors and metadata, with the digest that :func:`read_weights` compares."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    file.write_bytes(save(tensors, metadata | {_DIGEST_KEY: digest(tensors)}))


def digest(tensors: dict[str, Tensor]) -> str:
    """Return the sha256 over name, type, shape and bytes of all tensors, in the order of their names."""
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.contiguous().numpy().tobytes())
    return sha.hexdigest()


def _unusable(file: Path, reason: str) -> str:
    """Return the text of the error about a file that exists but is of no use."""
    return f"cannot use {str(file)!r} as attention weights: {reason}. Make a new file with: {PRETRAINING_COMMAND}"


def _unknown(name: Path | str) -> str:
    """Return the text of the error about what is neither a known name nor a file."""
    choices = ", ".join(("mnist", *DINO))
    return (
        f"masking must be {choices}, random, none, or a file of weights, got {str(name)!r}; make one with: "
        f"{PRETRAINING_COMMAND}"
    )
