# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Tests of KolektorSDD split by part."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from anomalib.data import AnomalibDataModule, Kolektor
from anomalib.data.datasets.image.kolektor import make_kolektor_dataset
from PIL import Image

from anomalib_ear.data import KolektorByPart, KolektorSDD2, SurfaceDemo
from anomalib_ear.data.duplicates import find_duplicates
from conftest import SHARED_DATA

TWINS = {"kos02": "kos07", "kos03": "kos09"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """KolektorSDD in small: nine parts of three good images and a defective one, two of them twins of others."""
    root = tmp_path_factory.mktemp("kolektor")
    rng = np.random.default_rng(0)
    for part in range(1, 10):
        folder = root / f"kos{part:02}"
        folder.mkdir()
        for number in range(4):
            mask = np.zeros((60, 25), np.uint8)
            mask[20:30, 5:20] = 255 * (number == part % 4)
            image = rng.integers(60, 140, mask.shape, dtype=np.uint8) + mask // 4
            Image.fromarray(image).save(folder / f"Part{number}.jpg")
            Image.fromarray(mask).save(folder / f"Part{number}_label.bmp")
    for part, twin in TWINS.items():
        shutil.copy(root / part / "Part0.jpg", root / twin / "Part3.jpg")
    return root


def set_up(root: Path, **arguments: object) -> KolektorByPart:
    """Datamodule, ready for use."""
    datamodule = KolektorByPart(root=root, num_workers=0, **arguments)
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def parts(dataset: object) -> set[str]:
    """Parts that a dataset has images of."""
    return set(dataset.samples["item"])


def check_sides(datamodule: KolektorByPart) -> None:
    """No part and no image is on two sides."""
    sides = [datamodule.train_data, datamodule.val_data, datamodule.test_data]
    assert len(set.union(*map(parts, sides))) == sum(len(parts(side)) for side in sides)
    paths = {Path(path): index for index, side in enumerate(sides) for path in side.samples.image_path}
    assert all(len({paths[path] for path in same}) == 1 for same in find_duplicates(list(paths)).values())
    assert not datamodule.train_data.has_anomalous


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_parts_and_twins_stay_on_one_side(root: Path, fold: int) -> None:
    """No part is on two sides, nor an image that two parts share."""
    datamodule = set_up(root, fold=fold, val_split_ratio=0.4)
    check_sides(datamodule)
    for part, twin in TWINS.items():
        assert (part in parts(datamodule.test_data)) == (twin in parts(datamodule.test_data))


def test_folds_test_every_image_once(root: Path) -> None:
    """The three folds together test all 36 images."""
    tested = [
        path for fold in range(3) for path in set_up(root, fold=fold, val_split_ratio=0.4).test_data.samples.image_path
    ]
    assert len(tested) == len(set(tested)) == 36


def test_seed_moves_the_held_out_parts_only(root: Path) -> None:
    """Who is tested never changes; who validates does."""
    first, second = (set_up(root, seed=seed, val_split_ratio=0.4) for seed in (0, 3))
    assert parts(first.test_data) == parts(second.test_data)
    assert parts(first.val_data) != parts(second.val_data)


def test_validation_is_on_good_images_of_held_out_parts(root: Path) -> None:
    """Thresholds come from good images of parts that are neither trained on nor tested."""
    datamodule = set_up(root)
    assert parts(datamodule.val_data)
    assert not datamodule.val_data.has_anomalous
    assert not parts(datamodule.val_data) & (parts(datamodule.train_data) | parts(datamodule.test_data))


def test_nothing_is_held_out_where_it_is_not_needed(root: Path) -> None:
    """Without a validation set every part beside the test is trained on."""
    datamodule = set_up(root, val_split_mode="none")
    assert len(parts(datamodule.train_data) | parts(datamodule.test_data)) == 9


@pytest.mark.parametrize("fold", [-1, 3, None], ids=str)
def test_other_folds_are_refused(fold: object) -> None:
    """The error names the accepted values."""
    with pytest.raises(ValueError, match=r"fold must be one of \[0, 1, 2\], got"):
        KolektorByPart(fold=fold)


@pytest.mark.parametrize("datamodule", [KolektorByPart, KolektorSDD2, SurfaceDemo])
@pytest.mark.parametrize("ratio", [0, 1, -0.1, float("nan")])
def test_shares_that_anomalib_takes_for_others_are_refused(datamodule: type, ratio: float) -> None:
    """It takes 0 for a half; the error says how to have no validation."""
    with pytest.raises(ValueError, match=r"val_split_ratio must be above 0 and below 1, got .*'none'"):
        datamodule(val_split_ratio=ratio)


def test_too_few_parts_are_refused(root: Path, tmp_path: Path) -> None:
    """A folder of one part cannot be split."""
    shutil.copytree(root / "kos01", tmp_path / "kos01")
    with pytest.raises(ValueError, match="1 parts, too few"):
        set_up(tmp_path)


def test_from_config(root: Path, tmp_path: Path) -> None:
    """It is found by its short name."""
    config = tmp_path / "data.yaml"
    config.write_text(f"class_path: KolektorByPart\ninit_args:\n  root: {root}\n  fold: 2\n")
    assert AnomalibDataModule.from_config(config).fold == 2


@pytest.mark.skipif(not (SHARED_DATA / "kolektor").is_dir(), reason="KolektorSDD's licence keeps it out of the project")
class TestKolektorSDD:
    """The data set itself."""

    @pytest.mark.parametrize("fold", [0, 1, 2])
    def test_no_twin_leaks(self, fold: int) -> None:
        """All three folds are clean, and have 16 or more defective test images."""
        datamodule = set_up(SHARED_DATA / "kolektor", fold=fold)
        check_sides(datamodule)
        assert datamodule.test_data.samples.label_index.sum() >= 16

    def test_stock_split_leaks(self) -> None:
        """The host's split has images on both sides: the reason for this one."""
        samples = make_kolektor_dataset(SHARED_DATA / "kolektor")
        split = {Path(path): part for path, part in zip(samples.image_path, samples.split, strict=True)}
        leaks = [same for same in find_duplicates(list(split)).values() if len({split[path] for path in same}) > 1]
        assert leaks
        assert issubclass(KolektorByPart, Kolektor)
