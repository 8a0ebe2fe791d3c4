# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The tiles split by tile: no photograph lost, none of a tile on two sides."""

from pathlib import Path

import pytest

from benchmarks.split_magnetic_tile import DEFECTS, split

LIGHTS, TILES = 6, 50


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """Return photographs of 50 good tiles under six lights, numbered by tile, and a defect of each kind."""
    root = tmp_path / "tiles"
    (root / "good").mkdir(parents=True)
    for tile in range(TILES):
        for light in range(LIGHTS):
            (root / "good" / f"exp{light + 1}_num_{100 * tile + light}.jpg").touch()
    for kind in DEFECTS:
        for folder, suffix in ((root / kind, "jpg"), (root / "masks" / kind, "png")):
            folder.mkdir(parents=True)
            (folder / f"exp1_num_7.{suffix}").touch()
    return root


def tiles_of(folder: Path) -> set[int]:
    """Return the tiles that a folder has photographs of."""
    return {int(file.stem.split("_")[-1]) // 100 for file in folder.iterdir()}


def test_a_tile_is_on_one_side(tiles: Path, tmp_path: Path) -> None:
    """A fifth of the tiles is for testing, with all of their photographs; the others are for training."""
    output = tmp_path / "split"
    split(tiles, output)
    train, test = tiles_of(output / "good_train"), tiles_of(output / "good_test")
    assert train | test == set(range(TILES))
    assert not train & test
    assert len(test) == TILES // 5


def test_photographs_lie_in_folders_of_the_output(tiles: Path, tmp_path: Path) -> None:
    """Every photograph and mask can be read through a folder that is no link, so that rows name no other place."""
    output = tmp_path / "split"
    split(tiles, output)
    files = [path for path in output.rglob("*") if not path.is_dir()]
    assert len(files) == TILES * LIGHTS + 2 * len(DEFECTS)
    assert all(path.exists() and path.parent.resolve().is_relative_to(output.resolve()) for path in files)


def test_wrong_folders_are_named(tiles: Path, tmp_path: Path) -> None:
    """Nothing to split, or something in the way: one line, and nothing is written."""
    with pytest.raises(SystemExit, match="is empty"):
        split(tmp_path / "nowhere", tmp_path / "split")
    assert not (tmp_path / "split").exists()
    with pytest.raises(SystemExit, match="exists"):
        split(tiles, tiles)
