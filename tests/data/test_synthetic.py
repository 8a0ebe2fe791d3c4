# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Drawn defects on good images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.data import Folder
from anomalib.data.utils import read_image
from PIL import Image

from anomalib_ear.data import SyntheticDefectDataset


def folder(surfaces: Path, **arguments: object) -> Folder:
    """Datamodule on the good surfaces, ready for use."""
    datamodule = Folder("surface", "good", root=surfaces, num_workers=0, seed=0, **arguments)
    datamodule.setup()
    return datamodule


def drawn(surfaces: Path, seed: int = 0) -> SyntheticDefectDataset:
    """Good surfaces with drawn defects."""
    return SyntheticDefectDataset(folder(surfaces).train_data, seed=seed)


def test_half_is_defective(surfaces: Path) -> None:
    """Half of the images, chosen at random, have a defect, and all four kinds occur."""
    labels = list(drawn(surfaces).samples.label)
    assert labels.count("good") == len(labels) - len(labels) // 2
    assert set(labels) == {"good", "dent", "pit", "scratch", "stain"}


def test_defect_is_where_the_mask_is(surfaces: Path) -> None:
    """A defective image differs from its file, most of all within its mask; a good one is its file."""
    for item in drawn(surfaces):
        change = (item.image - read_image(item.image_path, as_tensor=True)).abs().mean(0)
        assert item.gt_mask.any() == item.gt_label
        if item.gt_label:
            assert change[item.gt_mask].mean() > 10 * change[~item.gt_mask].mean()
            assert 0 <= item.image.min() <= item.image.max() <= 1
        else:
            assert not change.any()


def test_every_process_sees_the_same(surfaces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defects depend on the seed alone, not on generators or the working directory."""
    seen = []
    for state in (1, 2):
        torch.manual_seed(state)
        np.random.seed(state)  # noqa: NPY002  the legacy state is what pandas draws from
        monkeypatch.chdir(surfaces if state == 2 else surfaces.parent)
        seen.append([item.image for item in drawn(surfaces)])
    torch.testing.assert_close(*seen, rtol=0, atol=0)


def test_other_seed_draws_other_defects(surfaces: Path) -> None:
    """The seed decides which images are defective and how."""
    first, second = (drawn(surfaces, seed=seed) for seed in (0, 1))
    assert any(not torch.equal(a.gt_mask, b.gt_mask) for a, b in zip(first, second, strict=True))


def test_too_few_images_are_refused(surfaces: Path) -> None:
    """One image cannot be both good and defective."""
    with pytest.raises(ValueError, match=r"at least two images.*got 1"):
        SyntheticDefectDataset(folder(surfaces).train_data.subsample([0]))


@pytest.mark.parametrize("size", [(1, 1), (15, 64), (64, 15)])
def test_images_on_which_no_defect_can_be_drawn_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    """The error names one, instead of a search without end for a defect that has a pixel."""
    (tmp_path / "good").mkdir()
    for index in range(8):
        Image.new("RGB", size).save(tmp_path / "good" / f"{index}.png")
    dataset = drawn(tmp_path)
    with pytest.raises(ValueError, match=rf"good/\d\.png' has {size[0]} x {size[1]} pixels: .* 16 x 16 or more"):
        list(dataset)


def test_defective_source_is_refused(surfaces: Path) -> None:
    """Defects are drawn on good images only."""
    with pytest.raises(ValueError, match="some of them defective"):
        SyntheticDefectDataset(folder(surfaces, abnormal_dir="defective").test_data)
