# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Tests of validation on held-out good images with drawn defects."""

from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.data import get_datamodule
from anomalib.data.utils import read_image

from anomalib_ear.data import HeldOutFolder, SyntheticDefectDataset


def set_up(surfaces: Path, **arguments: object) -> HeldOutFolder:
    """Datamodule on 20 good surfaces, without the defective ones, ready for use."""
    defaults = {"val_split_ratio": 0.5, "num_workers": 0, "normal_split_ratio": 0.2}
    datamodule = HeldOutFolder("surface", "good", root=surfaces, **(defaults | arguments))
    datamodule.setup()
    return datamodule


def paths(dataset: object) -> set[str]:
    """Files of a dataset."""
    return set(dataset.samples.image_path)


def test_validation_is_held_out_and_half_defective(surfaces: Path) -> None:
    """Training, validation and test share no image; half of validation is defective, of all four kinds."""
    datamodule = set_up(surfaces)
    parts = [paths(part) for part in (datamodule.train_data, datamodule.val_data, datamodule.test_data)]
    assert [len(part) for part in parts] == [8, 8, 4]
    assert len(set.union(*parts)) == 20
    assert sorted(datamodule.val_data.samples.label) == [
        "dent",
        "good",
        "good",
        "good",
        "good",
        "pit",
        "scratch",
        "stain",
    ]


def test_defect_is_where_the_mask_is(surfaces: Path) -> None:
    """A defective image differs from its file, most of all within its mask; a good one is its file."""
    for item in set_up(surfaces).val_data:
        change = (item.image - read_image(item.image_path, as_tensor=True)).abs().mean(0)
        assert item.gt_mask.any() == item.gt_label
        if item.gt_label:
            assert change[item.gt_mask].mean() > 10 * change[~item.gt_mask].mean()
            assert 0 <= item.image.min() <= item.image.max() <= 1
        else:
            assert not change.any()


@pytest.mark.parametrize("seed", [0, None], ids=str)
def test_every_process_sees_the_same(surfaces: Path, seed: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Split and defects depend on the seed alone, not on generators or the working directory."""
    seen = []
    for state in (1, 2):
        torch.manual_seed(state)
        np.random.seed(state)  # noqa: NPY002  the legacy state is what pandas draws from
        monkeypatch.chdir(surfaces if state == 2 else surfaces.parent)
        seen.append([item.image for item in set_up(surfaces, seed=seed).val_data])
    torch.testing.assert_close(*seen, rtol=0, atol=0)


def test_other_seed_draws_other_defects(surfaces: Path) -> None:
    """The seed decides which images are defective and how."""
    dataset = set_up(surfaces, val_split_mode="none").train_data
    first, second = (SyntheticDefectDataset(dataset, seed=seed) for seed in (0, 1))
    assert any(not torch.equal(a.gt_mask, b.gt_mask) for a, b in zip(first, second, strict=True))


def test_too_few_images_are_refused(surfaces: Path) -> None:
    """One held-out image cannot be both good and defective."""
    with pytest.raises(ValueError, match=r"at least two held-out images.*got 1.*val_split_ratio"):
        set_up(surfaces, val_split_ratio=0.1)


def test_defective_source_is_refused(surfaces: Path) -> None:
    """Defects are drawn on good images only."""
    test_data = set_up(surfaces, abnormal_dir="defective").test_data
    with pytest.raises(ValueError, match="some of them defective"):
        SyntheticDefectDataset(test_data)


def test_other_modes_are_those_of_folder(surfaces: Path) -> None:
    """from_test takes validation images from test, as in the host's Folder."""
    datamodule = set_up(surfaces, abnormal_dir="defective", val_split_mode="from_test")
    assert (len(datamodule.val_data), len(datamodule.test_data)) == (5, 5)


def test_get_datamodule(surfaces: Path) -> None:
    """It is found by its short name, in a configuration as in Python."""
    config = {"class_path": "HeldOutFolder", "init_args": {"name": "a", "normal_dir": "good", "root": str(surfaces)}}
    assert isinstance(get_datamodule({"data": config}), HeldOutFolder)
