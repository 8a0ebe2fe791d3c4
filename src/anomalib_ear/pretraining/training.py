# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0
"""Pre-training of the attention: the digit must be named from what the attention lets through, and outlined by it.

Park et al., IEEE T-IA 59(3), 2023, learn the attention from MNIST. Ours: before the classifier sees the features, the
attention blends them with noise (Schulz et al., "Restricting the flow", arXiv:2001.00396, use such a bottleneck to
explain trained networks), and the attention is told where on the canvas the strokes are.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.datasets import MNIST
from tqdm import tqdm

from anomalib_ear.method.attention import SpatialAttention, merge_scales
from anomalib_ear.method.precision import has_bfloat16
from anomalib_ear.pretraining.canvas import CanvasSettings, SurfaceCanvas, clean_canvas

# Highest learning rate of the one-cycle schedule.
PEAK_RATE = 3e-3
# Weight of the attention's cross-entropy against the strokes, per pixel, beside that of the digit's name.
OUTLINE_WEIGHT = 4.0
# Share of a digit's peak from which on a pixel counts as stroke.
STROKE = 0.3


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
        """Return class scores ``(N, 10)`` and the attention ``(N, 1, h, w)`` at stride 4 for ``(N, 1, H, W)``."""
        attended = self.attention.attend(canvas)
        seen = torch.stack([self._look(features, attention) for features, attention in attended])
        scores: Tensor = self.digit(seen.amax(dim=0))  # a digit is named at the scale that shows it best
        return scores, merge_scales([attention for _, attention in attended])

    def _look(self, features: Tensor, attention: Tensor) -> Tensor:
        passed = features * attention
        if self.training:  # noise in place of what is held back: a low attention then hides, instead of only scaling
            passed = passed + (1 - attention) * torch.randn_like(features)
        seen: Tensor = self.head(passed).amax((2, 3))
        return seen

    def folded(self) -> "DigitClassifier":
        """Return the same function in evaluation mode, without batch normalisation."""
        self.eval()
        for block in self._blocks():
            block[0] = fuse_conv_bn_eval(cast("nn.Conv2d", block[0]), cast("nn.BatchNorm2d", block.pop(1)))
        return self

    def _blocks(self) -> list[nn.Sequential]:
        return [*self.attention.blocks, *self.head]


def train(
    digits: Tensor,
    labels: Tensor,
    *,
    settings: CanvasSettings,
    steps: int,
    batch_size: int,
    device: torch.device,
) -> DigitClassifier:
    """Return a classifier and its attention trained on surfaces with digits, drawing from torch's global random state.

    Args:
        digits: ``(N, 28, 28)`` uint8.
        labels: ``(N,)``, 0 to 9.
        settings: How digits are shown.
        steps: Steps of the optimizer; half as many more train the classifier alone.
        batch_size: Canvases per step.
        device: Where to train.
    """
    model = DigitClassifier(normalise=True).to(device).to(memory_format=torch.channels_last)
    canvas = SurfaceCanvas(settings, device=device)

    def draw() -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(digits), (batch_size,))
        return _to_float(digits[chosen]).to(device), labels[chosen].to(device)

    def learn_on_surfaces() -> Tensor:
        drawn, label = draw()
        return _loss(model, *canvas(drawn), label)

    def learn_plain_digits() -> Tensor:
        drawn, label = draw()
        return F.cross_entropy(model(clean_canvas(drawn, settings.size))[0], label)

    _optimize(model, steps, learn_on_surfaces, "pre-training")
    model.folded()
    # The accuracy on plain digits then measures what the finished attention lets through.
    model.attention.requires_grad_(requires_grad=False)
    _optimize(model, steps // 2, learn_plain_digits, "classifier only")
    return model


def _optimize(model: nn.Module, steps: int, learn: Callable[[], Tensor], name: str) -> None:
    """Take steps down the loss that ``learn`` returns, with all parameters that require a gradient."""
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=PEAK_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=max(steps, 2))
    progress = tqdm(range(steps), desc=name, unit="step")
    for _ in progress:
        loss = learn()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)


@torch.inference_mode()
def accuracy(model: DigitClassifier, digits: Tensor, labels: Tensor, size: int = CanvasSettings().size) -> float:
    """Return the share of digits ``(N, 28, 28)`` uint8 named rightly in the middle of a black canvas."""
    device = next(model.parameters()).device
    right = 0
    for chosen in torch.arange(len(digits)).split(500):
        scores, _ = model(clean_canvas(_to_float(digits[chosen]), size).to(device))
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


def _loss(model: DigitClassifier, canvas: Tensor, strokes: Tensor, label: Tensor) -> Tensor:
    with torch.autocast(canvas.device.type, torch.bfloat16, enabled=has_bfloat16(canvas.device.type)):
        scores, attention = model(canvas.to(memory_format=torch.channels_last))
    outline = F.adaptive_max_pool2d((strokes > STROKE).float(), attention.shape[-2:])
    # Rounding may take a mean of sigmoids to 0 or 1, whose logarithm is infinite.
    attention = attention.float().clamp(1e-5, 1 - 1e-5)
    loss: Tensor = F.cross_entropy(scores.float(), label)
    return loss + OUTLINE_WEIGHT * F.binary_cross_entropy(attention, outline)


def _to_float(digits: Tensor) -> Tensor:
    return digits[:, None].float() / 255
