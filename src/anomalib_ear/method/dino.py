# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Attention of a vision transformer that was pre-trained on ImageNet without labels.

DINO is by Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (ICCV 2021): the class token of
its last block attends to objects. Park et al. mask by it in the journal version of EAR (Scientific Reports 14:18872,
2024). Network and weights are timm's. The maps equal timm's up to rounding, but they export, and need no matrix of all
tokens by all tokens.
"""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import timm
import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_ear.method.padding import pad_to_multiple
from anomalib_ear.method.pretrained import load_pretrained

if TYPE_CHECKING:
    from timm.layers.attention import Attention


class DinoAttention(nn.Module):
    """Attention of the class token in DINO's last block, the mean over its heads; frozen.

    Args:
        name: timm's name of the network, ``"vit_small_patch16_224.dino"`` or ``"vit_small_patch8_224.dino"``.
        pretrained: Whether to load DINO's weights from the Hugging Face cache, else its hub; without, they are random.

    Attributes:
        stride: Side of a patch in pixels, and so the resolution of the attention.

    Raises:
        FileNotFoundError: With ``pretrained``, if the weights are not in the cache and the hub cannot be reached.
        ValueError: With ``pretrained``, if the file of weights is not DINO's.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str = "vit_small_patch16_224.dino", *, pretrained: bool = False) -> None:
        super().__init__()
        self.vit = _create(name, pretrained=pretrained).requires_grad_(requires_grad=False)
        self.stride = self.vit.patch_embed.patch_size[0]
        config = cast("dict[str, Any]", self.vit.pretrained_cfg)
        self.register_buffer("mean", torch.tensor(config["mean"]).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config["std"]).reshape(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return the attention of each pixel.

        Args:
            image: ``(N, C, H, W)`` with C = 1 or 3, any H and W, values in [0, 1].

        Returns:
            Attention ``(N, 1, H, W)`` in [0, 1]. That of an image's patches sums to at most 1; the rest is the class
            token's attention to itself.
        """
        if image.shape[1] not in {1, 3}:
            msg = f"image has {image.shape[1]} channels; DinoAttention takes (N, C, H, W) with C = 1 or 3."
            raise ValueError(msg)
        exporting = torch.compiler.is_exporting()  # into a graph that has neither autocast nor a way to say so
        with nullcontext() if exporting else torch.autocast(image.device.type, enabled=False):
            padded = pad_to_multiple(image, self.stride)
            patches = self.vit.patch_embed((padded - self.mean) / self.std)  # (N, h, w, D)
            height, width = patches.shape[1:3]
            tokens = self.vit.blocks[:-1](self._embed(patches))  # (N, 1 + hw, D)
            attention = class_attention(cast("Block", self.vit.blocks[-1]), tokens)  # (N, hw)
            attention = attention.reshape(-1, 1, height, width)
            attention = F.interpolate(attention, scale_factor=self.stride, mode="bilinear")
        return attention[..., : image.shape[-2], : image.shape[-1]]

    def _embed(self, patches: Tensor) -> Tensor:
        """Add the positions and put the class token first: ``(N, h, w, D)`` -> ``(N, 1 + hw, D)``.

        timm does the same with an antialiased bicubic resize, which OpenVINO computes without antialias.
        """
        vit = self.vit
        assert vit.cls_token is not None  # noqa: S101 - DINO has both, timm's other transformers need not
        assert vit.pos_embed is not None  # noqa: S101
        first, grid = vit.pos_embed[:, :1], vit.pos_embed[:, 1:]
        grid = grid.reshape(*vit.patch_embed.grid_size, -1)  # (14, 14, D) for patches of 16 pixels
        rows, columns = (
            cubic_weights(trained, wanted, grid)
            for trained, wanted in zip(grid.shape[:2], patches.shape[1:3], strict=True)
        )
        patches = patches + torch.einsum("hi,wj,ijd->hwd", rows, columns, grid)
        classes = (vit.cls_token + first).expand(patches.shape[0], -1, -1)
        return torch.cat([classes, patches.flatten(1, 2)], dim=1)


def class_attention(block: Block, tokens: Tensor) -> Tensor:
    """Return how much a block's class token attends to each other token, the mean over its heads.

    Computes only the class token's query, and no values: far less than the block does.

    Args:
        block: Block of a transformer of timm's.
        tokens: The block's input ``(N, 1 + T, D)``, class token first.

    Returns:
        Attention ``(N, T)`` in [0, 1]; a row and the class token's attention to itself add up to 1.
    """
    attention = cast("Attention", block.attn)
    weights, biases = attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3)
    tokens = block.norm1(tokens)
    query, key = (
        F.linear(part, weight, bias).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for part, weight, bias in zip((tokens[:, :1], tokens), weights, biases, strict=False)  # values are left out
    )  # (N, heads, 1, d) and (N, heads, 1 + T, d)
    result = (query * attention.scale @ key.mT).softmax(dim=-1)  # (N, heads, 1, 1 + T)
    return cast("Tensor", result[:, :, 0, 1:].mean(dim=1))


def cubic_weights(in_size: int, out_size: int, like: Tensor) -> Tensor:
    """Weights of an antialiased bicubic resize along one axis, as torch's ``interpolate`` has them.

    Args:
        in_size: Length of the input.
        out_size: Length of the output; may be a traced one.
        like: Gives device and dtype.

    Returns:
        Matrix of shape ``(out_size, in_size)`` whose rows sum to one.
    """
    source = torch.arange(in_size, device=like.device) + 0.5  # (in_size,)
    target = torch.arange(out_size, device=like.device) + 0.5  # (out_size,)
    scale = in_size / torch.ones_like(target).sum()  # a tensor, since a traced length is no Python number
    x = (source - (target * scale).unsqueeze(1)).abs() / scale.clamp(min=1)  # (out_size, in_size)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((2.5 - 0.5 * x) * x - 4) * x + 2  # Keys' kernel with a = -1/2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    return (weights / weights.sum(dim=1, keepdim=True)).to(like.dtype)


def _create(name: str, *, pretrained: bool) -> VisionTransformer:
    """Build a network without a head."""
    arguments: dict[str, Any] = {"num_classes": 0, "dynamic_img_size": True}
    if pretrained:
        vit = load_pretrained(name, fallback="Masking by 'mnist' needs no download.", **arguments)
    else:
        vit = timm.create_model(name, **arguments)
    return cast("VisionTransformer", vit)
