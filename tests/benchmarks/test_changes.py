# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Each change does what its name says, to a photograph and to its mask."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from anomalib_ear.data.surface_demo import draw
from benchmarks.changes import CLEAN, Change, View, changes

SEEN = (128, 256)  # the size that the models see
CHANGES = changes(SEEN)


@pytest.fixture(scope="module")
def photograph() -> Tensor:
    """Return a coloured photograph, uint8 ``(3, 200, 256)``, in the middle of its range."""
    image, _ = draw("woven", "test", "good", 0, seed=0)
    return torch.from_numpy(image[:200] // 2 + 60).permute(2, 0, 1).contiguous()


@pytest.fixture(scope="module")
def middle(photograph: Tensor) -> Tensor:
    """Return its middle, 88 % of each side, as floats."""
    return photograph[:, 12:188, 16:241].float()  # 176 of 200, 225 of 256


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_result_is_a_photograph_of_one_size(photograph: Tensor, change: Change) -> None:
    """It has 8 bits, is the same twice, and leaves the photograph and torch's random numbers as they were."""
    before, state = photograph.clone(), torch.get_rng_state()
    changed = change(photograph, 3)
    assert (changed.dtype, changed.shape) == (torch.uint8, (3, 176, 225))
    assert torch.equal(changed, change(photograph, 3))
    assert torch.equal(photograph, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_unchanged_is_the_middle(photograph: Tensor, middle: Tensor) -> None:
    """To the last bit, and the same that the models are trained on."""
    assert torch.equal(CHANGES[CLEAN](photograph, 0).float(), middle)
    assert torch.equal(View()(photograph.float()), middle)


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("10 % darker", (0.9, 0.9, 0.9)),
        ("10 % brighter", (1.1, 1.1, 1.1)),
        ("20 % darker", (0.8, 0.8, 0.8)),
        ("20 % brighter", (1.2, 1.2, 1.2)),
        ("5 % redder", (1.05, 1, 0.95)),
        ("5 % bluer", (0.95, 1, 1.05)),
    ],
)
def test_light(photograph: Tensor, middle: Tensor, name: str, factors: tuple[float, ...]) -> None:
    """Each channel's mean is multiplied."""
    ratio = CHANGES[name](photograph, 0).float().mean((1, 2)) / middle.mean((1, 2))
    assert ratio.tolist() == pytest.approx(factors, abs=2e-3)


@pytest.mark.parametrize("sigma", [2, 5])
def test_noise(photograph: Tensor, middle: Tensor, sigma: int) -> None:
    """It has the deviation that is asked for, no mean, and differs between images; a grey photograph stays grey."""
    change = CHANGES[f"noise, σ {sigma}"]
    difference = change(photograph, 0).float() - middle
    assert float(difference.std()) == pytest.approx(sigma, rel=0.03)
    assert abs(float(difference.mean())) < 0.1
    assert not torch.equal(change(photograph, 0), change(photograph, 1))
    red, green, blue = change(photograph[:1].repeat(3, 1, 1), 0)
    assert torch.equal(red, green)
    assert torch.equal(red, blue)


@pytest.mark.parametrize("sigma", [1, 2])
def test_blur_is_counted_in_pixels_that_the_models_see(sigma: int) -> None:
    """A bright line, resized to what they see, has the deviation that is asked for."""
    line = torch.zeros(3, 200, 1000, dtype=torch.uint8)
    line[:, 100] = 255
    seen = F.resize(CHANGES[f"blur, σ {sigma}"](line, 0).float(), list(SEEN), antialias=True)
    profile = seen[0, :, 128] / seen[0, :, 128].sum()
    places = torch.arange(SEEN[0]) - (profile * torch.arange(SEEN[0])).sum()
    resized = 1 / 6  # variance that the resize adds, in pixels
    assert math.sqrt((profile * places**2).sum() - resized) == pytest.approx(sigma, rel=0.1)


@pytest.mark.parametrize(("percent", "down", "right", "left"), [(3, 6, 7, 8), (6, 12, 15, 16)])
def test_a_shifted_photograph_is_another_part_of_it(
    photograph: Tensor, percent: int, down: int, right: int, left: int
) -> None:
    """Bit for bit, in one of four directions, and in all of them over some images."""
    parts = {(y, x): photograph[:, 12 + y : 188 + y, 16 + x : 241 + x] for y in (down, -down) for x in (right, -left)}
    found = set()
    for index in range(20):
        shifted = CHANGES[f"shifted by {percent} %"](photograph, index)
        (here,) = [place for place, part in parts.items() if torch.equal(shifted, part)]
        found.add(here)
    assert len(found) == 4


@pytest.mark.parametrize("degrees", [2, 5])
@pytest.mark.parametrize("size", [(200, 200), (100, 400)], ids=["square", "long"])
def test_a_turned_photograph_has_no_invented_border(degrees: int, size: tuple[int, int]) -> None:
    """A bright photograph stays bright up to its corners; a line is turned by the angle."""
    change = CHANGES[f"turned by {degrees}°"]
    assert int(change(torch.full((3, *size), 200, dtype=torch.uint8), 0).min()) == 200
    line = torch.zeros(3, *size, dtype=torch.uint8)
    line[:, size[0] // 2 - 1 : size[0] // 2 + 1] = 255
    heights = change(line, 0)[0].float()
    centre = (heights * torch.arange(len(heights))[:, None]).sum(0) / heights.sum(0)
    middle = slice(len(centre) // 2 - 40, len(centre) // 2 + 40)
    slope = np.polyfit(np.arange(80), centre[middle].numpy(), 1)[0]
    assert abs(math.degrees(math.atan(slope))) == pytest.approx(degrees, abs=0.15)


@pytest.mark.parametrize("name", [CLEAN, "10 % darker", "shifted by 6 %", "turned by 5°", "blur, σ 2"])
@pytest.mark.parametrize("index", range(4))
def test_the_mask_goes_with_the_photograph(name: str, index: int) -> None:
    """A bright square is where its mask is."""
    mask = torch.zeros(200, 256, dtype=torch.uint8)
    mask[40:80, 150:210] = 1
    changed = CHANGES[name]((200 * mask).repeat(3, 1, 1), index)[0] > 80
    moved = CHANGES[name].mask(mask, index) > 0
    assert int((changed & moved).sum()) / int((changed | moved).sum()) > 0.9


def test_jpeg_loses_what_storing_once_loses(photograph: Tensor, middle: Tensor) -> None:
    """Grey levels of detail go, and storing the result again loses little more."""
    change, stored = CHANGES["JPEG, quality 50"], CHANGES["JPEG, quality 50"](photograph, 0)
    lost = float((stored.float() - middle).abs().mean())
    again = float((change.camera(stored).float() - stored.float()).abs().mean())
    assert 1 < lost < 10
    assert again < lost / 4


def test_highlights_are_clipped(photograph: Tensor, middle: Tensor) -> None:
    """At least 2 % of the values are the highest, and all below are as they were."""
    changed = CHANGES["highlights, 2 % clipped"](photograph, 0)
    highest = changed == changed.max()
    assert 0.02 <= float(highest.float().mean()) < 0.06
    assert torch.equal(changed[~highest].float(), middle[~highest].float())
