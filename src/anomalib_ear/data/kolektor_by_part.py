# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""KolektorSDD split by part: no part, and no twin of a part, is on two sides.

anomalib's ``Kolektor`` splits image by image. Each of the 50 parts then has images on both sides, and two pairs of
parts are the same photographs (kos01 and kos26, kos27 and kos34), so that test images were trained on.
"""

from pathlib import Path
from typing import Any

import numpy as np
from anomalib.data import AnomalibDataset, Kolektor
from anomalib.data.datasets.image.kolektor import make_kolektor_dataset
from anomalib.data.utils import Split, TestSplitMode, ValSplitMode
from anomalib.utils.path import resolve_dataset_root
from pandas import DataFrame
from torchvision.transforms.v2 import Transform

from anomalib_ear.data.duplicates import find_duplicates
from anomalib_ear.data.splits import check_val_split_ratio
from anomalib_ear.data.thin_defects import ThinDefects, keep_thin_defects

FOLDS = 3
_ASSIGNMENT_SEED = 0  # of the folds, which are the same for everybody


def group_twins(parts: list[str], paths: list[Path]) -> list[list[str]]:
    """Group parts that share an image, byte for byte.

    Args:
        parts: Part of each image, such as ``"kos01"``.
        paths: The images, as many.

    Returns:
        Groups of parts, each part in one; a part without a twin is a group of its own. Sorted.
    """
    group = {part: {part} for part in parts}
    part_of = dict(zip(paths, parts, strict=True))
    for same in find_duplicates(paths).values():
        merged = set().union(*(group[part_of[path]] for path in same))
        group |= dict.fromkeys(merged, merged)
    return sorted({tuple(sorted(members)): sorted(members) for members in group.values()}.values())


def make_kolektor_by_part_dataset(
    root: str | Path,
    fold: int = 0,
    val_share: float = 0.1,
    seed: int = 0,
    split: str | Split | None = None,
) -> DataFrame:
    """List the samples of KolektorSDD with a split by part.

    Args:
        root: Path to the dataset root directory, with ``kosNN/PartM.jpg`` and ``kosNN/PartM_label.bmp``.
        fold: Which third of the parts is tested, 0, 1 or 2. Defaults to ``0``.
        val_share: Share of the other parts that is held out for validation, at least one unless the share is 0.
            Defaults to ``0.1``.
        seed: Seed of the choice of held-out parts. Defaults to ``0``.
        split: Split to keep: ``"train"``, the good images of the parts to train on; ``"val"``, the
            good images of the held-out parts; ``"test"``, all images of the fold; ``None``, all of these. Defective
            images of parts that are not tested are in none. Defaults to ``None``.

    Returns:
        As :func:`anomalib.data.datasets.image.kolektor.make_kolektor_dataset` returns it, with another
        column ``split``.

    Raises:
        ValueError: If ``fold`` is not 0, 1 or 2, or there are too few parts.
    """
    if fold not in range(FOLDS):
        msg = f"fold must be one of {list(range(FOLDS))}, got {fold!r}"
        raise ValueError(msg)
    samples = make_kolektor_dataset(root)
    groups = group_twins(list(samples["item"]), [Path(path) for path in samples.image_path])
    order = np.random.default_rng(_ASSIGNMENT_SEED).permutation(len(groups))
    others = [groups[index] for place, index in enumerate(order) if place % FOLDS != fold]
    n_held_out = max(1, round(val_share * len(others))) if val_share else 0
    if n_held_out >= len(others):
        msg = f"'{root}' has {len(groups)} parts, too few for a share of {val_share} for validation beside the test"
        raise ValueError(msg)
    chosen = np.random.default_rng(seed).permutation(len(others))
    held_out = {part for index in chosen[:n_held_out] for part in others[index]}
    trained = {part for index in chosen[n_held_out:] for part in others[index]}
    is_held_out, is_trained = samples["item"].isin(held_out), samples["item"].isin(trained)
    samples["split"] = np.select([is_held_out, is_trained], [Split.VAL.value, Split.TRAIN.value], Split.TEST.value)
    samples = samples[(samples.split == Split.TEST.value) | (samples.label_index == 0)].reset_index(drop=True)
    if split is not None:
        samples = samples[samples.split == Split(split).value].reset_index(drop=True)
    samples.attrs["task"] = "segmentation"  # last: operations above would lose it
    return samples


class KolektorByPartDataset(AnomalibDataset):
    """KolektorSDD split by part.

    Args:
        root: Path to the root of the dataset. ``None`` is anomalib's folder for data sets.
            Defaults to ``None``.
        augmentations: Augmentations of image and mask. Defaults to ``None``.
        split: Split to keep, see :func:`make_kolektor_by_part_dataset`. Defaults to ``None``.
        fold: Which third of the parts is tested. Defaults to ``0``.
        val_share: Share of the other parts that is held out. Defaults to ``0.1``.
        seed: Seed of the choice of held-out parts. Defaults to ``0``.
    """

    def __init__(
        self,
        root: Path | str | None = None,
        augmentations: Transform | None = None,
        split: str | Split | None = None,
        fold: int = 0,
        val_share: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(augmentations=keep_thin_defects(augmentations))
        self.root = resolve_dataset_root(root, "kolektor")
        self.split = split
        self.samples = make_kolektor_by_part_dataset(self.root, fold, val_share, seed, split)


class KolektorByPart(ThinDefects, Kolektor):
    """KolektorSDD split by part, validated on the good images of held-out parts.

    A third of the parts is tested, with all of their images; twins, parts that share a photograph, stay together. Of
    the other parts some are held out for validation, and the rest is trained on, its good images only. Quote the mean
    over the three folds: one has only 17 or so defective test images.

    Args:
        root: Path to the root of the dataset; it is downloaded as for ``Kolektor``.
            Defaults to ``"./datasets/kolektor"``.
        fold: Which third of the parts is tested, 0, 1 or 2; who is in which never changes.
            Defaults to ``0``.
        val_split_mode: ``"from_train"``: good images of the held-out parts. Other modes are
            anomalib's; no part is held out then.
            Defaults to ``ValSplitMode.FROM_TRAIN``.
        val_split_ratio: Share of the parts beside the test that is held out (of test images with
            ``"from_test"``).
            Defaults to ``0.1``.
        seed: Seed of the choice of held-out parts; ``None`` counts as 0, so that every process agrees.
            Defaults to ``0``.
        **kwargs: As for ``Kolektor``.

    Raises:
        ValueError: If ``fold`` is not 0, 1 or 2, or ``val_split_ratio`` not between 0 and 1.
    """

    def __init__(
        self,
        root: Path | str | None = "./datasets/kolektor",
        fold: int = 0,
        val_split_mode: ValSplitMode | str = ValSplitMode.FROM_TRAIN,
        val_split_ratio: float = 0.1,
        seed: int | None = 0,
        **kwargs: Any,  # noqa: ANN401  # the host's
    ) -> None:
        check_val_split_ratio(val_split_ratio)
        super().__init__(
            root=root,
            test_split_mode=TestSplitMode.FROM_DIR,
            val_split_mode=val_split_mode,
            val_split_ratio=val_split_ratio,
            seed=seed or 0,
            **kwargs,
        )
        if fold not in range(FOLDS):
            msg = f"fold must be one of {list(range(FOLDS))}, got {fold!r}"
            raise ValueError(msg)
        self.fold = fold

    def _part(self, split: Split) -> KolektorByPartDataset:
        holds_out = self.val_split_mode == ValSplitMode.FROM_TRAIN
        return KolektorByPartDataset(
            root=self.root,
            split=split,
            fold=self.fold,
            val_share=self.val_split_ratio if holds_out else 0,
            seed=self.seed or 0,
        )

    def _setup(self, _stage: str | None = None) -> None:
        self.train_data = self._part(Split.TRAIN)
        self.test_data = self._part(Split.TEST)

    def _create_val_split(self) -> None:
        if self.val_split_mode == ValSplitMode.FROM_TRAIN:
            self.val_data = self._part(Split.VAL)
        else:
            super()._create_val_split()
