# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Varied copies of training images: what a line does to good parts within weeks, which is no defect.

Lamps age, cameras are exchanged, lenses get dusty, and parts do not lie still. A model that sees the training images as
they are calls all of that defective. So the U-Net learns from varied copies, and the anomaly map is calibrated by them.
"""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

import torch
from kornia.augmentation import RandomAffine, RandomGaussianBlur
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image


class Strengths(TypedDict, total=False):
    """How far images are varied at most; what is left out has its default, and 0 switches it off.

    Args:
        brightness: Relative change of the brightness.
        colour: Relative change of each colour channel on top of that.
        noise: Standard deviation of the camera's noise, as a share of the range from black to white: of that which all
            channels share, and of each channel's own. Half of the images have it.
        blur: Standard deviation of the blur, in pixels of the resized image. Half of the images are blurred.
        shift: Shift along height and width, as a share of each.
        rotation: Rotation to either side, in degrees.
        jpeg: What the quality of JPEG's compression loses of 100. Three images in ten are compressed.
    """

    brightness: float
    colour: float
    noise: float
    blur: float
    shift: float
    rotation: float
    jpeg: float


# A fifth to three fifths beyond what a line is to stand: 20 % of light, 5 % of colour, 5 grey levels of noise, a blur
# of 2 pixels, 6 % of the side, 5 degrees, JPEG's quality of 50. At that bound noise, blur and JPEG still have good
# parts rejected; twice as far finds fewer defects. Chosen by good images alone.
DEFAULTS: Strengths = {
    "brightness": 0.3,
    "colour": 0.06,
    "noise": 0.025,
    "blur": 3.0,
    "shift": 0.08,
    "rotation": 8.0,
    "jpeg": 75.0,
}
NONE: Strengths = {"brightness": 0, "colour": 0, "noise": 0, "blur": 0, "shift": 0, "rotation": 0, "jpeg": 0}

# Strengths from here on make no image of the same part.
_LIMITS: Strengths = {"brightness": 1, "colour": 1, "noise": 1, "blur": 10, "shift": 0.5, "rotation": 180, "jpeg": 99}
_MIN_BLUR = 0.4  # pixels; less changes nothing
_BLURRED = 0.5  # share of the images that are blurred
_NOISY = 0.5  # share of the images that have more noise: others are smoother than any with noise would be
_COMPRESSED = 0.3  # share of the images that are compressed


class Variation(nn.Module):
    """Vary light, colour, noise, focus, place and compression, each image by draws of its own from torch's generator.

    What comes into view at a border is the reflection of what is inside.

    Args:
        **strengths: See :class:`Strengths`.

    Raises:
        ValueError: If a strength has another name, or is outside its range.
    """

    def __init__(self, **strengths: float) -> None:
        super().__init__()
        for name, strength in strengths.items():
            if name not in DEFAULTS:
                msg = f"variation has {', '.join(DEFAULTS)}, but no {name!r}."
                raise ValueError(msg)
            limit = _LIMITS[name]  # type: ignore[literal-required]
            if isinstance(strength, bool | str | None) or not 0 <= strength <= limit:
                msg = f"variation's {name} must be from 0 to {limit}, got {strength!r}."
                raise ValueError(msg)
        self.strengths: Strengths = {**DEFAULTS, **strengths}  # type: ignore[typeddict-item]
        shift, rotation, blur = (self.strengths[name] for name in ("shift", "rotation", "blur"))
        self.move = RandomAffine(rotation, translate=(shift, shift), padding_mode="reflection", p=1.0)
        self.blur = RandomGaussianBlur(
            2 * math.ceil(3 * blur) + 1,
            (min(_MIN_BLUR, blur), max(blur, 1e-3)),
            border_type="replicate",  # a reflection needs images that are larger than the kernel
            p=_BLURRED if blur else 0.0,
        )
        self.is_on = any(self.strengths.values())

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Vary images.

        Args:
            image: Shape ``(N, C, H, W)``, values in [0, 1].

        Returns:
            Same shape and range.
        """
        if not self.is_on or not len(image):
            return image
        with torch.autocast(image.device.type, enabled=False):  # in bfloat16 positions would be off by pixels
            return self._vary(image)

    def _vary(self, image: Tensor) -> Tensor:
        n, c = image.shape[:2]
        brightness, colour, noise = (self.strengths[name] for name in ("brightness", "colour", "noise"))
        if self.strengths["shift"] or self.strengths["rotation"]:
            image = self.move(image)
        image = self.blur(image)
        gain = (1 + brightness * _uniform(n, 1)) * (1 + colour * _uniform(n, c))
        # That of a grey camera is the same in all channels. Drawn where the generator is.
        common, own = (torch.rand(n, 1, 1, 1) * torch.randn(n, k, *image.shape[2:]) for k in (1, c))
        grain = noise * (common + own) * (torch.rand(n, 1, 1, 1) < _NOISY)
        return self._compress((image * gain.to(image) + grain.to(image)).clamp(0, 1))

    def _compress(self, image: Tensor) -> Tensor:
        """Store some of the images as JPEG; kornia's differentiable imitation takes sixteen times as long."""
        compressed = torch.rand(len(image)) < _COMPRESSED
        qualities = 100 - self.strengths["jpeg"] * torch.rand(len(image))
        if not self.strengths["jpeg"]:
            return image
        stored = [
            as_jpeg(one, round(float(quality))) if chosen else one
            for one, chosen, quality in zip(image, compressed, qualities, strict=True)
        ]
        return torch.stack(stored)


def as_jpeg(image: Tensor, quality: int) -> Tensor:
    """Store an image ``(C, H, W)`` in [0, 1] as JPEG, 8 bits and coarser colours included, and read it again."""
    file = io.BytesIO()
    to_pil_image((image * 255).round().to("cpu", torch.uint8)).save(file, "JPEG", quality=quality)
    stored: Tensor = pil_to_tensor(Image.open(file))
    return stored.to(image) / 255


@contextmanager
def draws_of(number: int) -> Iterator[None]:
    """Draw what belongs to an image, the same each time, and leave the generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)
        yield


def _uniform(n: int, c: int) -> Tensor:
    """Draw from -1 to 1, ``(n, c, 1, 1)``."""
    return 2 * torch.rand(n, c, 1, 1) - 1
