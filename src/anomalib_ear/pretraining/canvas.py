# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0
"""Digits on canvases that look like surfaces: varied scale, place, polarity and contrast over procedural textures.

Ours: the papers do not say how digits were shown to the network. Everything is plain torch on whole batches, because
making the canvases must not cost more than learning from them.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from anomalib_ear.data.surfaces import TEXTURES

DIGIT = 28  # height and width of a digit of MNIST, in pixels
MIN_CANVAS = 96  # below, the coarsest scale of the attention sees next to nothing


Background = Literal["noise", "demo"]


class CanvasSettings(NamedTuple):
    """How digits are shown.

    Attributes:
        size: Height and width of a canvas, in pixels.
        digits: Times that a digit is on its canvas, at most; each is placed, scaled and coloured by itself.
        scale: Smallest and largest magnification of a digit.
        contrast: Smallest and largest difference in brightness between digit and surface.
        noise: Largest standard deviation of the surface's texture.
        background: ``"noise"`` of varied grain and direction, or the surfaces of the ``"demo"`` data.
    """

    size: int = 96
    digits: int = 3
    scale: tuple[float, float] = (0.7, 2.9)
    contrast: tuple[float, float] = (0.03, 0.8)
    noise: float = 0.16
    background: Background = "noise"


def clean_canvas(digits: Tensor, size: int) -> Tensor:
    """Return digits ``(N, 1, 28, 28)`` in the middle of black canvases ``(N, 1, size, size)``."""
    return F.pad(digits, [(size - DIGIT) // 2] * 4)


class SurfaceCanvas:
    """Places digits on surfaces; draws from torch's global random state.

    Args:
        settings: How digits are shown.
        count: Number of textures made beforehand, a multiple of 256; batches take them flipped and rolled.
        device: Where the canvases are made.
    """

    def __init__(self, settings: CanvasSettings, *, count: int = 1024, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        make = self._make_textures if settings.background == "noise" else self._draw_textures
        textures = torch.cat([make(256) for _ in range(count // 256)])
        textures = textures - textures.mean((2, 3), keepdim=True)
        self.textures = textures / (textures.std((2, 3), keepdim=True) + 1e-3)

    def __call__(self, digits: Tensor) -> tuple[Tensor, Tensor]:
        """Show digits.

        Args:
            digits: ``(N, 1, 28, 28)`` in [0, 1].

        Returns:
            Canvases ``(N, 1, size, size)`` in [0, 1], a fifth of them clean, and the digits' strokes on
            them, of the same shape and range.
        """
        roughness = self._uniform(digits, 0, math.sqrt(self.settings.noise)).square()
        texture = roughness * self._texture(len(digits))
        strokes = marks = torch.zeros_like(texture)
        for index in range(self.settings.digits):
            digit = self._place(digits) * (self._coin(digits, 0.6) if index else 1)
            contrast = torch.maximum(self._log_uniform(digits, *self.settings.contrast), roughness / 2)
            mark = digit * contrast * self._coin(digits, 0.5, -1, 1)
            marks = torch.where(digit > strokes, mark, marks)
            strokes = torch.maximum(strokes, digit)
        canvas = (self._light(digits) + texture + marks).clamp(0, 1)
        clean = clean_canvas(digits, self.settings.size)
        is_clean = self._coin(digits, 0.2) > 0
        return torch.where(is_clean, clean, canvas), torch.where(is_clean, clean, strokes)

    def _place(self, digits: Tensor) -> Tensor:
        """Magnify, stretch, turn by up to 17 degrees and move, at most a little over the border."""
        scale = self.settings.size / DIGIT / self._log_uniform(digits, *self.settings.scale)
        stretch = self._log_uniform(digits, 0.85, 1.18)
        room = (scale - 0.6).clamp(min=0)  # a digit's strokes span 0.7 of its image
        x, y = self._uniform(digits, -1, 1) * room, self._uniform(digits, -1, 1) * room
        return self._warp(digits, scale * stretch, scale / stretch, self._uniform(digits, -0.3, 0.3), x, y)

    def _light(self, like: Tensor) -> Tensor:
        """Return brightness, uneven light and, in a third of the canvases, the straight edge of a part."""
        light = self._uniform(like, 0, 0.3) * self._ramp(like) * self._coin(like, 0.5)
        edge = torch.sigmoid((self._ramp(like) - self._uniform(like, -0.8, 0.8)) * self._log_uniform(like, 5, 60))
        edge = edge * self._uniform(like, -0.4, 0.4) * self._coin(like, 0.3)
        return self._uniform(like, 0.2, 0.8) + light + edge

    def _texture(self, count: int) -> Tensor:
        texture = self.textures[torch.randint(len(self.textures), (count,), device=self.device)]
        texture = texture.flip([axis for axis in (2, 3) if torch.rand(()) < 0.5])
        return texture.roll(torch.randint(self.settings.size, (2,)).tolist(), (2, 3))

    def _make_textures(self, count: int) -> Tensor:
        """Return noise of four grain sizes, half of it drawn out in one direction."""
        size = self.settings.size
        noise = torch.zeros(count, 1, size, size, device=self.device)
        for grain in (1, 2, 4, 8):
            octave = torch.randn(count, 1, size // grain, size // grain, device=self.device)
            octave = F.interpolate(octave, size=(size, size), mode="bilinear")
            noise += octave * torch.rand(count, 1, 1, 1, device=self.device).square()
        drawn = self._coin(noise, 0.5)
        width = 0.7 * (drawn * self._log_uniform(noise, 0.02, 0.5) + 1 - drawn)
        zero = torch.zeros_like(width)
        return self._warp(noise, width, torch.full_like(width, 0.7), self._uniform(noise, 0, math.pi), zero, zero)

    def _draw_textures(self, count: int) -> Tensor:
        """Return surfaces of the demo data, in grey."""
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        size = (self.settings.size, self.settings.size)
        names = rng.choice(list(TEXTURES), count)
        drawn = np.stack([TEXTURES[name](rng, size).mean(axis=2, dtype=np.float64) for name in names])
        return torch.from_numpy(drawn).float()[:, None].to(self.device)

    def _warp(self, image: Tensor, width: Tensor, height: Tensor, angle: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Sample a turned window of the image (relative size and place, each ``(N, 1, 1, 1)``) onto a canvas."""
        cos, sin = angle.cos(), angle.sin()
        rows = [torch.cat([cos * width, -sin * width, x], -1), torch.cat([sin * height, cos * height, y], -1)]
        theta = torch.cat(rows, 2)[:, 0]  # (N, 2, 3)
        grid = F.affine_grid(theta, [len(image), 1, self.settings.size, self.settings.size], align_corners=False)
        padding = "zeros" if image.shape[-1] == DIGIT else "reflection"
        return F.grid_sample(image, grid, padding_mode=padding, align_corners=False)

    def _ramp(self, like: Tensor) -> Tensor:
        """Return planes through 0 of slope 1 per half canvas and random direction."""
        axis = torch.linspace(-1, 1, self.settings.size, device=self.device)
        angle = self._uniform(like, 0, 2 * math.pi)
        return angle.cos() * axis + angle.sin() * axis[:, None]

    @staticmethod
    def _uniform(like: Tensor, low: float, high: float) -> Tensor:
        return torch.empty(len(like), 1, 1, 1, device=like.device).uniform_(low, high)

    @classmethod
    def _log_uniform(cls, like: Tensor, low: float, high: float) -> Tensor:
        return cls._uniform(like, math.log(low), math.log(high)).exp()

    @classmethod
    def _coin(cls, like: Tensor, share: float, tails: float = 0, heads: float = 1) -> Tensor:
        """Return ``heads`` for about this share of the batch and ``tails`` for the others."""
        return torch.where(cls._uniform(like, 0, 1) < share, heads, tails)
