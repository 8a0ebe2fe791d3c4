# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0
"""Digits on canvases that look like surfaces: varied scale, place, polarity and contrast over procedural textures.

Ours: the papers do not say how digits were shown to the network. Everything is plain torch on whole batches, because
making the canvases must not cost more than learning from them.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

CANVAS = 96
"""Height and width of a training canvas, in pixels; a digit of MNIST has 28."""


def clean_canvas(digits: Tensor) -> Tensor:
    """Return digits ``(B, 1, 28, 28)`` in the middle of black canvases ``(B, 1, 96, 96)``."""
    return functional.pad(digits, [(CANVAS - digits.shape[-1]) // 2] * 4)


class SurfaceCanvas:
    """Places digits on surfaces; draws from torch's global random state.

    Args:
        textures: Number of textures made beforehand; batches take them flipped and rolled.
        device: Where the canvases are made.
    """

    def __init__(self, *, textures: int = 2048, device: torch.device) -> None:
        self.device = device
        self.textures = torch.cat([self._make_textures(256) for _ in range(textures // 256)])

    def __call__(self, digits: Tensor) -> Tensor:
        """Return canvases ``(B, 1, 96, 96)`` in [0, 1] for digits ``(B, 1, 28, 28)`` in [0, 1]; a fifth are clean."""
        strokes = self._place(digits)
        roughness = self._uniform(strokes, 0, 0.4).square()
        contrast = torch.maximum(self._log_uniform(strokes, 0.04, 0.8), roughness / 2)
        surface = self._surface(strokes, roughness)
        canvas = (surface + self._coin(strokes, 0.5, -1, 1) * contrast * strokes).clamp(0, 1)
        return torch.where(self._coin(strokes, 0.2) > 0, clean_canvas(digits), canvas)

    def _place(self, digits: Tensor) -> Tensor:
        """Magnify 0.7 to 2.9 times, stretch, turn by up to 17 degrees and move, at most a little over the border."""
        scale = CANVAS / 28 / self._log_uniform(digits, 0.7, 2.9)
        stretch = self._log_uniform(digits, 0.85, 1.18)
        room = (scale - 0.6).clamp(min=0)  # a digit's strokes span 0.7 of its image
        x, y = self._uniform(digits, -1, 1) * room, self._uniform(digits, -1, 1) * room
        return self._warp(digits, scale * stretch, scale / stretch, self._uniform(digits, -0.3, 0.3), x, y)

    def _surface(self, like: Tensor, roughness: Tensor) -> Tensor:
        """Return brightness, texture, uneven light and, in a third of the canvases, the straight edge of a part."""
        light = self._uniform(like, 0, 0.3) * self._ramp(like) * self._coin(like, 0.5)
        edge = torch.sigmoid((self._ramp(like) - self._uniform(like, -0.8, 0.8)) * self._log_uniform(like, 5, 60))
        edge = edge * self._uniform(like, -0.4, 0.4) * self._coin(like, 0.3)
        return self._uniform(like, 0.2, 0.8) + roughness * self._texture(len(like)) + light + edge

    def _texture(self, count: int) -> Tensor:
        texture = self.textures[torch.randint(len(self.textures), (count,), device=self.device)]
        texture = texture.flip([axis for axis in (2, 3) if torch.rand(()) < 0.5])
        return texture.roll(torch.randint(CANVAS, (2,)).tolist(), (2, 3))

    def _make_textures(self, count: int) -> Tensor:
        """Return noise of four grain sizes, half of it drawn out in one direction; mean 0, deviation 1."""
        noise = torch.zeros(count, 1, CANVAS, CANVAS, device=self.device)
        for grain in (1, 2, 4, 8):
            octave = torch.randn(count, 1, CANVAS // grain, CANVAS // grain, device=self.device)
            octave = functional.interpolate(octave, size=(CANVAS, CANVAS), mode="bilinear")
            noise += octave * torch.rand(count, 1, 1, 1, device=self.device).square()
        drawn = self._coin(noise, 0.5)
        width = 0.7 * (drawn * self._log_uniform(noise, 0.02, 0.5) + 1 - drawn)
        zero = torch.zeros_like(width)
        noise = self._warp(noise, width, torch.full_like(width, 0.7), self._uniform(noise, 0, math.pi), zero, zero)
        noise = noise - noise.mean((2, 3), keepdim=True)
        return noise / (noise.std((2, 3), keepdim=True) + 1e-3)

    @staticmethod
    def _warp(image: Tensor, width: Tensor, height: Tensor, angle: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Sample a turned window of the image (relative size and place, each ``(B, 1, 1, 1)``) onto a canvas."""
        cos, sin = angle.cos(), angle.sin()
        rows = [torch.cat([cos * width, -sin * width, x], -1), torch.cat([sin * height, cos * height, y], -1)]
        theta = torch.cat(rows, 2)[:, 0]  # (B, 2, 3)
        grid = functional.affine_grid(theta, [len(image), 1, CANVAS, CANVAS], align_corners=False)
        padding = "zeros" if image.shape[-1] < CANVAS else "reflection"
        return functional.grid_sample(image, grid, padding_mode=padding, align_corners=False)

    def _ramp(self, like: Tensor) -> Tensor:
        """Return planes through 0 of slope 1 per half canvas and random direction."""
        axis = torch.linspace(-1, 1, CANVAS, device=self.device)
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
