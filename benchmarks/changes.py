# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What changes on a line: light, colour, noise, focus, place, compression and highlights, each at one or two strengths.

A change acts on the photograph at its own size, before any model resizes it, and its result has 8 bits again, as a
camera's has. Every image, changed or not, in training too, is a part of a larger photograph: the middle 88 % of each
side. A shifted one is another part of the same photograph, so that no border has to be invented. A turned one is the
middle of the turned photograph; only where its corners leave a long and narrow photograph, these are reflected.
Turning interpolates, which softens a photograph a little. Blur is counted in pixels of the size that the models see, so
that it is the same for every data set. Noise is the sensor's: per pixel of the photograph, and the same in all channels
of a grey one.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, Transform
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import Image, Mask

FRAME = 0.88  # share of each side of the photograph that a camera sees; twice the largest shift is left around it
CLEAN = "unchanged"


class View(Transform):  # type: ignore[misc]  # torchvision is untyped
    """What a camera sees of photograph and mask when the part lies elsewhere; by default the middle.

    Args:
        shift: Way of the part in each direction, as a share of the photograph's side; the two signs are drawn.
        degrees: Angle by which the part is turned; its sign is drawn.
    """

    def __init__(self, shift: float = 0, degrees: float = 0) -> None:
        super().__init__()
        self.shift, self.degrees = shift, degrees

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the signs, and find the frame: top, left, height, width."""
        signs = (2 * torch.randint(2, (3,)) - 1).tolist()
        sides = F.get_size(flat_inputs[0])
        lengths = [round(FRAME * side) for side in sides]
        starts = [
            min(max(round((side - length) / 2 + sign * self.shift * side), 0), side - length)
            for side, length, sign in zip(sides, lengths, signs, strict=False)
        ]
        return {"frame": [*starts, *lengths], "degrees": signs[2] * self.degrees}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:  # noqa: ANN401  # torchvision's
        """Turn and crop."""
        top, left, height, width = params["frame"]
        if params["degrees"]:
            angle = math.radians(abs(params["degrees"]))
            down, right = (  # how far the turned frame leaves the photograph
                max(0, math.ceil(math.cos(angle) * along + math.sin(angle) * across - side) + 1)
                for side, along, across in zip(F.get_size(inpt), (height, width), (width, height), strict=True)
            )
            inpt = F.pad(inpt, [right, down], padding_mode="reflect")
            inpt = F.rotate(inpt, params["degrees"], interpolation=InterpolationMode.BILINEAR)
            top, left = top + down, left + right
        return F.crop(inpt, top, left, height, width)


def same(image: Tensor) -> Tensor:
    """Change nothing."""
    return image


class Change(NamedTuple):
    """A change of a photograph.

    Attributes:
        kind: What is changed; a panel of the picture.
        level: How strongly, from 0; negative in one of two directions.
        higher: Whether it is the kind's higher strength.
        view: Where the part lies.
        optics: What happens to the whole photograph, uint8 ``(3, H, W)``.
        camera: What happens to the part of it that the camera sees, uint8 ``(3, h, w)``.
    """

    kind: str = ""
    level: float = 0
    higher: bool = False
    view: View = View()
    optics: Callable[[Tensor], Tensor] = same
    camera: Callable[[Tensor], Tensor] = same

    def __call__(self, image: Tensor, index: int) -> Tensor:
        """Change a photograph, uint8 ``(3, H, W)``; its ``index`` is the seed of what is drawn by lot."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(index)
            return self.camera(self.view(Image(self.optics(image))).as_subclass(Tensor))

    def mask(self, mask: Tensor, index: int) -> Tensor:
        """Return the part of a mask, ``(H, W)``, that goes with the changed photograph."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(index)
            return self.view(Mask(mask)).as_subclass(Tensor)  # type: ignore[no-any-return]


def quantized(values: Tensor) -> Tensor:
    """Round grey levels to 8 bits."""
    return values.round().clamp(0, 255).to(torch.uint8)


def gain(*channels: float) -> Callable[[Tensor], Tensor]:
    """Return the change of light by a factor per channel: red, green, blue."""
    return lambda image: quantized(image * torch.tensor(channels, device=image.device)[:, None, None])


def noise(sigma: float) -> Callable[[Tensor], Tensor]:
    """Return the change by Gaussian noise in grey levels, drawn on the CPU, so that every machine has the same."""

    def change(image: Tensor) -> Tensor:
        channels = 1 if (image == image[:1]).all() else 3
        return quantized(image + sigma * torch.randn(channels, *image.shape[1:]).to(image.device))

    return change


def blur(sigma: float, image_size: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    """Return the Gaussian blur in pixels of the size that the models see, height and width."""

    def change(image: Tensor) -> Tensor:
        values = image.float()
        for axis, seen in enumerate(image_size):  # one after the other: a kernel of both would take ten times as long
            own = sigma * FRAME * image.shape[1 + axis] / seen
            kernel = [1, 1]
            kernel[1 - axis] = 2 * math.ceil(3 * own) + 1  # torchvision's order: x, y
            values = F.gaussian_blur(values, kernel, own)
        return quantized(values)

    return change


def jpeg(quality: int) -> Callable[[Tensor], Tensor]:
    """Return the change by storing as JPEG."""
    return lambda image: F.jpeg(image.cpu(), quality).to(image.device)


def saturate(share: float) -> Callable[[Tensor], Tensor]:
    """Return the change by a sensor whose limit the greatest values, this share of all, reach: they become equal."""

    def change(image: Tensor) -> Tensor:
        below = torch.bincount(image.flatten(), minlength=256).cumsum(0) / image.numel()
        return image.clamp(max=int((below < 1 - share).sum()))  # the least that is at the limit

    return change


def changes(image_size: tuple[int, int]) -> dict[str, Change]:
    """Return the changes by name, for models that see images of a height and width in pixels."""
    table = {CLEAN: Change()}
    for percent in (10, 20):
        for sign, word in ((-1, "darker"), (1, "brighter")):
            camera = gain(*[1 + sign * percent / 100] * 3)
            table[f"{percent} % {word}"] = Change("brightness, %", sign * percent, percent == 20, camera=camera)
    table["5 % redder"] = Change("colour, % (bluer, redder)", 5, camera=gain(1.05, 1, 0.95))
    table["5 % bluer"] = Change("colour, % (bluer, redder)", -5, camera=gain(0.95, 1, 1.05))
    for sigma in (2, 5):
        table[f"noise, σ {sigma}"] = Change("noise, grey levels", sigma, sigma == 5, camera=noise(sigma))
    for sigma in (1, 2):
        table[f"blur, σ {sigma}"] = Change("blur, pixels", sigma, sigma == 2, optics=blur(sigma, image_size))
    for percent in (3, 6):
        table[f"shifted by {percent} %"] = Change("shift, % of the side", percent, percent == 6, View(percent / 100))
    for degrees in (2, 5):
        table[f"turned by {degrees}°"] = Change("rotation, degrees", degrees, degrees == 5, View(degrees=degrees))
    table["JPEG, quality 50"] = Change("JPEG", 1, camera=jpeg(50))
    table["highlights, 2 % clipped"] = Change("highlights", 1, camera=saturate(0.02))
    return table
