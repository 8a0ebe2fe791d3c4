# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What a person sees: a glance tells good from defective, and an outline shows where without hiding what."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from anomalib_ear.deploy.pictures import defects, heat_map, picture_path, small_copy
from anomalib_ear.images import SUFFIXES

RED = (255, 40, 40)


def surface(height: int = 400, width: int = 600) -> np.ndarray:
    """Return a coloured photograph ``(H, W, 3)``, no pixel of which has a line's colour."""
    return np.random.default_rng(0).integers(0, 200, (height, width, 3), dtype=np.uint8)


def spot(level: float, size: int = 64) -> np.ndarray:
    """Return a map with one anomalous square in its middle."""
    anomaly_map = np.full((size, size), 0.1, np.float32)
    anomaly_map[3 * size // 8 : 5 * size // 8, 3 * size // 8 : 5 * size // 8] = level
    return anomaly_map


def drawn(
    anomaly_map: np.ndarray, score: float, threshold: float = 0.5
) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int]]:
    """Return a photograph, the part of its picture that shows it, and the colour of the frame."""
    photograph = small_copy(surface())
    picture = np.asarray(heat_map(photograph, anomaly_map, score, threshold))
    frame = (picture.shape[1] - photograph.width) // 2
    shown = picture[picture.shape[0] - frame - photograph.height : picture.shape[0] - frame, frame:-frame]
    return np.asarray(photograph), shown, tuple(picture[-1, -1].tolist())


def of_colour(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Return where a picture has a colour."""
    return (picture == colour).all(axis=-1)


def test_a_glance_tells_good_from_defective() -> None:
    """By the frame, whose colour does not depend on anything but the label; the threshold decides it."""
    good = {drawn(spot(level), score)[2] for level, score in ((0.1, 0.1), (0.9, 0.5), (0.4, 0.499))}
    defective = {drawn(spot(level), score)[2] for level, score in ((0.1, 0.501), (0.9, 0.999))}
    assert len(good) == len(defective) == 1
    assert drawn(spot(0.9), 0.7, threshold=0.8)[2] in good
    assert drawn(spot(0.1), 0.3, threshold=0.2)[2] in defective
    (good_colour,), (defective_colour,) = good, defective
    assert good_colour[1] > good_colour[0] < defective_colour[0] > defective_colour[1]


@pytest.mark.parametrize("size", [(400, 600), (8, 8), (600, 60)], ids=str)
def test_the_caption_says_label_score_and_threshold(size: tuple[int, int]) -> None:
    """Each of them changes it, and it has the room that it needs, even over a tiny or narrow photograph."""
    photograph = small_copy(surface(*size))
    said = [
        np.asarray(heat_map(photograph, spot(0.1), *values))[:32]
        for values in ((0.11, 0.5), (0.12, 0.5), (0.11, 0.6), (0.9, 0.5))
    ]
    for index, caption in enumerate(said):
        assert not any(np.array_equal(caption, other) for other in said[:index])
        background = caption[0, 0]
        written = (caption != background).any(axis=-1).any(axis=0)
        assert written[12:-12].any()
        assert not written[:6].any()
        assert not written[-6:].any()


def test_the_outline_hides_neither_the_defect_nor_a_colour() -> None:
    """It goes around what is anomalous; all else is the photograph, in its colours."""
    photograph, shown, _ = drawn(spot(0.7), 0.8)
    line = of_colour(shown, RED)
    rows, columns = np.nonzero(line)
    assert 0 < line.mean() < 0.02
    assert (rows.min() < 155, rows.max() >= 245) == (True, True)
    assert (columns.min() < 230, columns.max() >= 370) == (True, True)
    np.testing.assert_array_equal(shown[155:245, 230:370], photograph[155:245, 230:370])
    changed = (shown != photograph).any(axis=-1)
    assert changed.mean() < 0.04


def test_parts_below_the_threshold_stay_as_they_are() -> None:
    """A good part has no line, not even where a single place of its map is high."""
    for level, score, is_outlined in ((0.45, 0.4, False), (0.95, 0.4, False), (0.6, 0.51, True), (0.95, 0.9, True)):
        photograph, shown, _ = drawn(spot(level), score)
        assert of_colour(shown, RED).any() == is_outlined
        assert np.array_equal(shown, photograph) != is_outlined


def hill(height: float, row: int, column: int, size: int = 128) -> np.ndarray:
    """Return log-odds that fall off from a place, 0 at 40 pixels from it, as those of a scratch do."""
    rows, columns = np.ogrid[:size, :size]
    return height * (1 - np.hypot(rows - row, columns - column) / 40)


def probability(odds: np.ndarray | float) -> np.ndarray:
    """Return what has these log-odds."""
    return (1 / (1 + np.exp(-odds))).astype(np.float32)


def test_the_outline_leaves_out_what_only_surrounds_the_defect() -> None:
    """However bad the defect is; a weaker one elsewhere has its own outline."""
    for height in (0.5, 4.0):
        odds = np.maximum(hill(height, 40, 40), hill(0.4, 100, 100))
        mask = defects(probability(odds), (128, 128), score=probability(height - 0.2))
        assert mask[40, 40]
        assert mask[100, 100]
        assert mask[:70, :70].sum() == pytest.approx(np.pi * 20**2, rel=0.1)  # half of the height
        assert mask.sum() == pytest.approx(2 * np.pi * 20**2, rel=0.1)


def test_a_region_that_makes_no_part_defective_has_no_outline() -> None:
    """It is judged as the part is, whose score lies 0.3 below the map's highest place."""
    for height, threshold, is_outlined in ((0.25, 0.5, False), (0.35, 0.5, True), (0.35, 0.6, False), (1.5, 0.6, True)):
        odds = np.maximum(hill(2.0, 40, 40), hill(height, 100, 100))
        mask = defects(probability(odds), (128, 128), score=probability(2.0 - 0.3), threshold=threshold)
        assert mask[40, 40]
        assert mask[90:110, 90:110].any() == is_outlined
        _, shown, _ = drawn(
            probability(odds), float(probability(2.0 - 0.3)), threshold
        )  # 4.7 times as wide, 3.1 as high
        assert of_colour(shown, RED)[260:370, 390:550].any() == is_outlined


@pytest.mark.parametrize(
    ("level", "score", "threshold"), [(0.0, 0.9, 0.5), (0.9, 1e-7, 0.0), (0.9, 1.0, 1 - 5e-7), (0.6, 0.50001, 0.5)]
)
def test_every_defective_part_has_an_outline(level: float, score: float, threshold: float) -> None:
    """Though its map is black, or its score hardly above the threshold."""
    _, shown, _ = drawn(np.full((64, 64), level, np.float32), score, threshold)
    assert of_colour(shown, RED).any()


def test_the_threshold_of_pixels_decides_which_regions_there_are() -> None:
    """It is anomalib's own where scores are not normalised."""
    anomaly_map = spot(0.3)
    anomaly_map[:8, :8] = 0.2
    assert not defects(anomaly_map, (64, 64), 0.9, pixel_threshold=0.25)[:8, :8].any()
    assert defects(anomaly_map, (64, 64), 0.9, pixel_threshold=0.15)[:8, :8].any()
    for extreme in (0.0, 1.0):
        assert defects(anomaly_map, (64, 64), 0.9, pixel_threshold=extreme)[28:36, 28:36].all()


def test_a_defective_part_has_an_outline_wherever_its_map_is_low() -> None:
    """Its score is above the threshold, its map nowhere above the pixels': the highest place is outlined."""
    _, shown, _ = drawn(spot(0.3), 0.8)
    rows, columns = np.nonzero(of_colour(shown, RED))
    assert abs(rows.mean() - 200) < 5
    assert abs(columns.mean() - 300) < 5


def test_an_outline_that_leaves_the_photograph_goes_along_its_border() -> None:
    """A part that is anomalous everywhere has a line around it."""
    _, shown, _ = drawn(np.full((8, 8), 0.6, np.float32), 0.8)
    line = of_colour(shown, RED)
    assert line[0].all()
    assert line[-1].all()
    assert line[:, 0].all()
    assert line[:, -1].all()
    assert not line[10:-10, 10:-10].any()


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (15, 64), (2200, 3000), (3000, 40), (2, 5000), (1, 2000)], ids=str)
@pytest.mark.parametrize("level", [0.1, 0.9])
def test_pictures_of_every_size_can_be_looked_at(size: tuple[int, int], level: float) -> None:
    """Neither a stamp nor a poster, with the photograph's proportions."""
    photograph = small_copy(surface(*size))
    picture = heat_map(photograph, spot(level), level, 0.5)
    assert 384 <= max(picture.size) < 1100
    height, width = size
    assert photograph.width * height == pytest.approx(photograph.height * width, rel=0.01, abs=max(size))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_colours_are_those_of_the_photograph(dtype: type) -> None:
    """Whatever its depth, grey or coloured."""
    for pixels in (surface(), surface()[..., 0]):
        given = {np.uint8: pixels, np.uint16: pixels * np.uint16(257), np.float32: pixels / np.float32(255)}[dtype]
        expected = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)
        np.testing.assert_array_equal(np.asarray(small_copy(given)), expected)


def test_no_two_photographs_have_one_picture() -> None:
    """Whatever their suffixes, and if a name looks like another's picture."""
    stems = ["008"]
    for _ in range(2):
        stems += [f"{stem}_{end}" for stem in stems for end in ("png", "jpg", "PNG", "heat", "tiff")]
    suffixes = [*SUFFIXES, *(suffix.upper() for suffix in SUFFIXES)]
    names = [Path(stem + suffix) for stem, suffix in product(sorted(set(stems)), suffixes)]
    for ending in ("_heat.jpg", ".png"):
        assert len({picture_path(Path("folder"), name, ending) for name in names}) == len(names)
    assert picture_path(Path("heat_maps"), Path("a", "008.png"), "_heat.jpg") == Path("heat_maps", "a", "008_heat.jpg")
    assert picture_path(Path("heat_maps"), Path("008.jpg"), "_heat.jpg") == Path("heat_maps", "008_jpg_heat.jpg")
    assert picture_path(Path("anomaly_maps"), Path("008.png"), ".png") == Path("anomaly_maps", "008.png")
