# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Validation without test images: held-out good images, half of them with a drawn defect.

anomalib's ``val_split_mode: synthetic`` holds good images out too, but draws its defects from unseeded generators, so
that every process gets other thresholds; it takes textures from ``./datasets/dtd`` if the working directory happens to
have them; and it blends the defects in at 1 to 20 per cent, which leaves many invisible. Here scratches, pits, stains
and dents change the brightness as they do in ``SurfaceDemo``, the same in every process.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from anomalib.data import AnomalibDataset, Folder, ImageItem
from anomalib.data.utils import LabelName, Split, ValSplitMode, random_split
from torchvision.tv_tensors import Image, Mask

from anomalib_ear.data.masks import ThinDefects, keep_thin_defects
from anomalib_ear.data.reading import read_image
from anomalib_ear.data.surfaces import DEFECTS


class SyntheticDefectDataset(AnomalibDataset):
    """Good images, half of them, chosen by lot, with a defect drawn on it when it is read.

    Which images, and kind, place and shape of each defect, depend on the seed and on the order of the images alone.

    Args:
        dataset (AnomalibDataset): Good images only; at least two.
        seed (int): Seed of the defects, 0 or more. Defaults to ``0``.

    Raises:
        ValueError: If an image is defective already, or there are fewer than two.
    """

    def __init__(self, dataset: AnomalibDataset, seed: int = 0) -> None:
        super().__init__(augmentations=keep_thin_defects(dataset.augmentations))
        if dataset.has_anomalous or len(dataset) < 2:
            msg = (
                "synthetic validation needs at least two held-out images, all of them good; got "
                f"{len(dataset)} images{', some of them defective' if dataset.has_anomalous else ''}. "
                "Raise val_split_ratio (--data.val_split_ratio) or add images."
            )
            raise ValueError(msg)
        self.seed = seed
        samples = dataset.samples.copy()
        # By lot, for names often tell the position of the camera: no kind of image may be the defective one.
        lots = np.random.default_rng(seed).permutation(len(samples))
        kinds = list(DEFECTS)
        samples["label"] = [kinds[lot // 2 % len(kinds)] if lot % 2 else "good" for lot in lots]
        samples["label_index"] = [int(LabelName.ABNORMAL if lot % 2 else LabelName.NORMAL) for lot in lots]
        samples["split"] = Split.VAL.value
        samples["mask_path"] = ""  # masks are drawn, not read
        samples.attrs["task"] = "segmentation"
        self.samples = samples

    def __getitem__(self, index: int) -> ImageItem:
        """Read an image, draw its defect, and augment both."""
        sample = self.samples.iloc[index]
        image = cast("torch.Tensor", read_image(sample.image_path, as_tensor=True))  # (3, H, W)
        height, width = image.shape[-2:]
        mask = torch.zeros(height, width, dtype=torch.uint8)
        if sample.label_index == LabelName.ABNORMAL:
            rng = np.random.default_rng([self.seed, index % len(self)])
            while not mask.any():  # a thin one at the border may have no pixel
                change, defective = DEFECTS[sample.label](rng, (height, width))
                mask = torch.from_numpy(defective).to(torch.uint8)
            image = Image((image * (1 + torch.from_numpy(change).float())).clamp(0, 1))
        mask = Mask(mask)
        if self.augmentations:
            image, mask = self.augmentations(image, mask)
        return ImageItem(
            image=image, gt_mask=mask, gt_label=torch.tensor(sample.label_index), image_path=sample.image_path
        )


class SyntheticValidation(ThinDefects):
    """Mix-in for datamodules: ``val_split_mode`` ``"synthetic"`` gives a :class:`SyntheticDefectDataset`."""

    def _hold_out(self) -> tuple[AnomalibDataset, AnomalibDataset]:
        """Split the training images into those to train on and good ones for validation."""
        train, held_out = random_split(self.train_data, self.val_split_ratio, seed=self.seed or 0)
        return train, held_out

    def _create_val_split(self) -> None:
        if self.val_split_mode == ValSplitMode.SYNTHETIC:
            self.train_data, held_out = self._hold_out()
            self.val_data = SyntheticDefectDataset(held_out, seed=self.seed or 0)
        else:
            super()._create_val_split()


class HeldOutFolder(SyntheticValidation, Folder):
    """The host's ``Folder``, validated on held-out good images, half of which get a drawn defect.

    Thresholds then need no defective photograph, and none of the test images.

    Args:
        name (str): Name of the dataset, used for logging and saving.
        normal_dir (str | Path | Sequence): Folder or folders of the good images.
        val_split_mode (ValSplitMode | str): How the validation set is made; the other modes are as in ``Folder``.
            Defaults to ``ValSplitMode.SYNTHETIC``.
        val_split_ratio (float): Share of the training images that is held out for validation.
            Defaults to ``0.1``.
        seed (int | None): Seed of splits and drawn defects; ``None`` counts as 0, so that every process agrees.
            Defaults to ``0``.
        **kwargs: As for ``Folder``.
    """

    def __init__(
        self,
        name: str,
        normal_dir: str | Path | Sequence[str | Path],
        val_split_mode: ValSplitMode | str = ValSplitMode.SYNTHETIC,
        val_split_ratio: float = 0.1,
        seed: int | None = 0,
        **kwargs: Any,  # noqa: ANN401  # the host's
    ) -> None:
        super().__init__(
            name,
            normal_dir,
            val_split_mode=val_split_mode,
            val_split_ratio=val_split_ratio,
            seed=seed or 0,
            **kwargs,
        )
