# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0
"""Pre-training of the attention: the digit must be named from what the attention lets through.

Follows Park et al., IEEE T-IA 59(3), 2023, in learning the attention from MNIST labels alone, never from digit pixels.
Ours: before the classifier sees the features, the attention blends them with noise, and a mean attention above 0
costs; Schulz et al., "Restricting the flow" (arXiv:2001.00396), use such a bottleneck to explain trained networks.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.datasets import MNIST
from tqdm import tqdm

from anomalib_ear.attention import SpatialAttention, read_weights
from anomalib_ear.pretraining.canvas import SurfaceCanvas, clean_canvas

PEAK_RATE = 3e-3
"""Highest learning rate of the one-cycle schedule."""
SPARSITY = 0.3
"""Cost of an attention of 1 everywhere, in nats of the classification loss."""


class DigitClassifier(nn.Module):
    """Names the digit on a canvas from the features that the attention lets through.

    Args:
        normalise: Train with batch normalisation, which :meth:`folded` merges into the convolutions.
    """

    def __init__(self, *, normalise: bool = False) -> None:
        super().__init__()
        self.attention = SpatialAttention()
        sizes = [self.attention.logit.in_channels, 48, 48, 64]
        strides = [2, 1, 1]
        self.head = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(before, after, 3, stride, padding=1), nn.ReLU())
                for before, after, stride in zip(sizes, sizes[1:], strides, strict=False)
            ),
        )
        self.digit = nn.Linear(sizes[-1], 10)
        if normalise:
            for block in self._blocks():
                block.insert(1, nn.BatchNorm2d(cast("nn.Conv2d", block[0]).out_channels))

    def forward(self, canvas: Tensor) -> tuple[Tensor, Tensor]:
        """Return class scores ``(B, 10)`` and the attention ``(B, 1, h, w)`` at stride 4 for ``(B, 1, H, W)``."""
        features, attention = self.attention.attend(canvas)
        passed = features * attention
        if self.training:  # noise in place of what is held back: a low attention then hides, instead of only scaling
            passed = passed + (1 - attention) * torch.randn_like(features)
        scores: Tensor = self.digit(self.head(passed).amax((2, 3)))
        return scores, attention

    def folded(self) -> "DigitClassifier":
        """Return the same function in evaluation mode, without batch normalisation."""
        self.eval()
        for block in self._blocks():
            block[0] = fuse_conv_bn_eval(cast("nn.Conv2d", block[0]), cast("nn.BatchNorm2d", block.pop(1)))
        return self

    def _blocks(self) -> list[nn.Sequential]:
        return [*self.attention.blocks, *self.head]


def train(digits: Tensor, labels: Tensor, *, epochs: int, batch_size: int, device: torch.device) -> DigitClassifier:
    """Return a classifier trained on surfaces with digits, drawing from torch's global random state.

    Args:
        digits: ``(N, 28, 28)`` uint8.
        labels: ``(N,)``, 0 to 9.
        epochs: Times that each digit is shown.
        batch_size: Digits per step.
        device: Where to train.
    """
    model = DigitClassifier(normalise=True).to(device).to(memory_format=torch.channels_last)
    canvas = SurfaceCanvas(device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE)
    batches = tqdm(list(_batches(len(digits), epochs, batch_size)), desc="pre-training", unit="step")
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=len(batches))
    for chosen in batches:
        loss = _loss(model, canvas(_to_float(digits[chosen]).to(device)), labels[chosen].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        batches.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return model.folded()


@torch.inference_mode()
def accuracy(model: DigitClassifier, digits: Tensor, labels: Tensor) -> float:
    """Return the share of digits ``(N, 28, 28)`` uint8 named rightly in the middle of a black canvas."""
    device = next(model.parameters()).device
    right = 0
    for chosen in torch.arange(len(digits)).split(500):
        scores, _ = model(clean_canvas(_to_float(digits[chosen])).to(device))
        right += int((scores.argmax(1).cpu() == labels[chosen]).sum())
    return right / len(digits)


def load_mnist(root: Path, *, train: bool, download: bool = False) -> tuple[Tensor, Tensor]:
    """Return digits ``(N, 28, 28)`` uint8 and labels ``(N,)`` of a split of MNIST.

    Raises:
        FileNotFoundError: The unpacked files are not under ``root``, and ``download`` is off.
    """
    try:
        data = MNIST(root, train=train, download=download)
    except RuntimeError as error:
        folder = Path(root) / "MNIST" / "raw"
        msg = f"MNIST could not be read from {str(folder)!r}; name its parent with --root, or fetch it with --download."
        raise FileNotFoundError(msg) from error
    return data.data, data.targets


def mnist_checksum(root: Path) -> str:
    """Return the sha256 over the four unpacked files of MNIST, in the order of their names."""
    sha = hashlib.sha256()
    for file in sorted((Path(root) / "MNIST" / "raw").glob("*-ubyte")):
        sha.update(file.read_bytes())
    return sha.hexdigest()


def load_classifier(file: Path) -> DigitClassifier:
    """Return the classifier of a weights file in evaluation mode."""
    model = DigitClassifier()
    model.load_state_dict(read_weights(file)[0])
    return model.eval()


def _batches(count: int, epochs: int, batch_size: int) -> Iterator[Tensor]:
    """Yield the shuffled indices of each step; the last step of an epoch may be smaller, but never a single digit."""
    for _ in range(epochs):
        yield from (chosen for chosen in torch.randperm(count).split(batch_size) if len(chosen) > 1)


def _loss(model: DigitClassifier, canvas: Tensor, label: Tensor) -> Tensor:
    with torch.autocast(canvas.device.type, torch.bfloat16):
        scores, attention = model(canvas.to(memory_format=torch.channels_last))
    loss: Tensor = functional.cross_entropy(scores.float(), label) + SPARSITY * attention.float().mean()
    return loss


def _to_float(digits: Tensor) -> Tensor:
    return digits[:, None].float() / 255
