# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Masking: the share that is excised, what stands in its place, and that nothing depends on chance."""

import pytest
import torch

from anomalib_ear.method.masking import AttentionMasking, RandomMasking, attention_mask, mosaic

SIZES = pytest.mark.parametrize("size", [(64, 64), (65, 131)], ids=["square", "odd"])


@SIZES
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_excises_the_share_that_was_asked_for(size: tuple[int, int], share: float) -> None:
    """The mask covers the share of the image within the bisection's step."""
    attention = torch.rand(3, 1, *size, generator=torch.Generator().manual_seed(0))
    assert attention_mask(attention, share).mean(dim=(1, 2, 3)).sub(share).abs().max() < 2e-3


def test_excises_what_is_attended_most() -> None:
    """Every excised pixel has more attention than every kept one."""
    attention = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    mask = attention_mask(attention, 0.1) > 0
    assert attention[mask].min() > attention[~mask].max()


def test_constant_attention_excises_nothing() -> None:
    """A map without a maximum has no region to excise."""
    assert attention_mask(torch.full((1, 1, 8, 8), 0.3), 0.1).sum() == 0


def test_each_image_has_its_own_threshold() -> None:
    """An image is masked alone as it is in a batch with a far more attended one."""
    attention = (
        torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1.0, 9.0])[:, None, None, None]
    )
    torch.testing.assert_close(attention_mask(attention, 0.1)[:1], attention_mask(attention[:1], 0.1), rtol=0, atol=0)


@pytest.mark.parametrize("dilation", [0, 1, 3])
def test_dilation_grows_a_point_by_its_radius(dilation: int) -> None:
    """A single excised pixel becomes a square of side 2·radius + 1."""
    attention = torch.zeros(1, 1, 16, 16)
    attention[0, 0, 8, 8] = 1
    assert attention_mask(attention, 0.01, dilation).sum() == (2 * dilation + 1) ** 2


def test_mosaic_keeps_each_block_s_mean() -> None:
    """A mosaic is constant within a block and has the image's block means."""
    image = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    blocks = mosaic(image, 8)[0, 0, :8, 8:16]
    torch.testing.assert_close(blocks, image[0, 0, :8, 8:16].mean().expand(8, 8))


@pytest.mark.parametrize(("mosaic_size", "expected"), [(None, 0.0), (8, 5.0)], ids=["empty", "mosaic"])
def test_mosaic_stands_where_the_image_was(mosaic_size: int | None, expected: float) -> None:
    """Excised pixels show the mosaic, kept ones the image."""
    image = torch.full((1, 3, 16, 16), 5.0)
    attention = torch.zeros(1, 1, 16, 16)
    attention[..., :4, :4] = 1
    (excision,) = AttentionMasking(excised_share=0.2, dilation=0, mosaic_size=mosaic_size)(image, attention)
    (obscured,), (mask,) = excision
    assert obscured[mask.expand_as(image) > 0].unique().tolist() == [expected]
    assert obscured[mask.expand_as(image) == 0].unique().tolist() == [5.0]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"excised_share": 0.0}, "excised_share"),
        ({"excised_share": 1.0}, "excised_share"),
        ({"excised_share": -0.1}, "excised_share"),
        ({"mosaic_size": 0}, "mosaic_size"),
    ],
    ids=str,
)
def test_an_argument_out_of_range_is_named(arguments: dict, named: str) -> None:
    """A wrong option is refused with its name."""
    with pytest.raises(ValueError, match=named):
        AttentionMasking(**arguments)


def test_masking_by_attention_says_that_it_needs_one() -> None:
    """Without attention it raises an error instead of excising anything."""
    with pytest.raises(ValueError, match="use_attention"):
        AttentionMasking()(torch.rand(1, 3, 8, 8), None)


class TestRandomMasking:
    """RIAD's masks."""

    def test_excise_every_pixel_once(self) -> None:
        """The masks of a size add up to one everywhere, and each excises a third of the cells of that size."""
        image = torch.rand(2, 3, 48, 96) + 1
        for size, excision in zip((2, 4, 8, 16), RandomMasking().eval()(image, None), strict=True):
            assert torch.equal(sum(excision.masks), torch.ones(2, 1, 48, 96))
            for obscured, mask in zip(*excision, strict=True):
                assert mask.mean().item() == pytest.approx(1 / 3)
                torch.testing.assert_close(mosaic(mask, size), mask, rtol=0, atol=0)
                assert torch.equal(obscured, torch.where(mask > 0, 0, image))

    def test_differ_between_calls_and_images(self) -> None:
        """Random masks differ from call to call, unlike the method's single mask."""
        masking, image = RandomMasking().eval(), torch.rand(2, 3, 32, 32)
        first, second = (masking(image, None)[0].masks[0] for _ in range(2))
        assert not torch.equal(first, second)
        assert not torch.equal(first[0], first[1])
