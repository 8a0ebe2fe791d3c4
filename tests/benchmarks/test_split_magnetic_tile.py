# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The tiles split by tile: no photograph lost, no tile on two sides."""

from pathlib import Path

import pytest

from benchmarks.split_magnetic_tile import DEFECTS, split

LIGHTS, TILES = 6, 50


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """Return photographs of 50 tiles under six lights, of which five show a defect under a light.

    Tiles 10 and 11 were photographed in turns, and of tile 20 the last light is missing. Times end with the tile.
    """
    root = tmp_path / "tiles"
    (root / "good").mkdir(parents=True)
    for tile in range(TILES):
        for light in range(1, LIGHTS + 1):
            time = 10_000 * tile + 200 * light + tile if tile != 11 else 100_511 + 200 * light
            if (tile, light) != (20, LIGHTS):
                (root / "good" / f"exp{light}_num_{time}.jpg").touch()
    for tile, kind in enumerate(DEFECTS, 30):
        for folder, suffix in ((root / kind, "jpg"), (root / "masks" / kind, "png")):
            folder.mkdir(parents=True)
            (folder / f"exp3_num_{10_000 * tile + 700 + tile}.{suffix}").touch()
    return root


def tiles_of(folder: Path) -> set[int]:
    """Return the tiles that a folder has photographs of."""
    return {int(file.stem.split("_")[-1]) % 100 for file in folder.iterdir()}


def numbers_of(folder: Path) -> set[int]:
    """Return the numbers that the split has written into the names."""
    return {int(file.name.split("_")[1]) for file in folder.iterdir()}


def test_a_tile_is_on_one_side(tiles: Path, tmp_path: Path) -> None:
    """Defective tiles and a fifth of the others are for testing, with all photographs; the others are for training."""
    output = tmp_path / "split"
    split(tiles, output)
    train, test = tiles_of(output / "good_train"), tiles_of(output / "good_test")
    assert train | test == set(range(TILES))
    assert not train & test
    assert set(range(30, 30 + len(DEFECTS))) < test
    train, test = (numbers_of(output / folder) for folder in ("good_train", "good_test"))
    assert not train & test
    assert len(test) - len(DEFECTS) == 9  # a fifth of 43, as two pairs of tiles have one number each


def test_tiles_that_names_do_not_tell_apart_stay_together(tiles: Path, tmp_path: Path) -> None:
    """Whatever is drawn, tiles in turns are on one side, as are a tile without its last light and the next one."""
    for seed in range(10):
        split(tiles, tmp_path / str(seed), seed)
        test = tiles_of(tmp_path / str(seed) / "good_test")
        assert len(test & {10, 11}) != 1
        assert len(test & {20, 21}) != 1


def test_photographs_lie_in_folders_of_the_output(tiles: Path, tmp_path: Path) -> None:
    """Every photograph and mask can be read through a folder that is no link, so that rows name no other place."""
    output = tmp_path / "split"
    split(tiles, output)
    files = [path for path in output.rglob("*") if not path.is_dir()]
    assert len(files) == TILES * LIGHTS - 1 + 2 * len(DEFECTS)
    assert all(path.exists() and path.parent.resolve().is_relative_to(output.resolve()) for path in files)


def test_wrong_folders_are_named(tiles: Path, tmp_path: Path) -> None:
    """Nothing to split, or something in the way: one line, and nothing is written."""
    with pytest.raises(SystemExit, match="is empty"):
        split(tmp_path / "nowhere", tmp_path / "split")
    assert not (tmp_path / "split").exists()
    with pytest.raises(SystemExit, match="exists"):
        split(tiles, tiles)
