# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Good images with drawn defects, by which a study may choose settings without looking at test images.

Scratches, pits, stains and dents change the brightness as they do in ``SurfaceDemo``, the same in every process. They
are a proxy and no source of thresholds: such thresholds reject most good parts.
"""

from typing import cast

import numpy as np
import torch
from anomalib.data import AnomalibDataset, ImageItem
from anomalib.data.utils import LabelName, Split
from torchvision.tv_tensors import Image, Mask

from anomalib_ear.data.reading import read_image
from anomalib_ear.data.surfaces import DEFECTS
from anomalib_ear.data.thin_defects import keep_thin_defects

# Height and width in pixels, at least: defects are drawn in proportion, and on smaller images fall between the pixels.
_MIN_SIDE = 16


class SyntheticDefectDataset(AnomalibDataset):
    """Good images; half of them, chosen at random, get a defect drawn on them when they are read.

    Which images, and kind, place and shape of each defect, depend on the seed and on the order of the images alone.

    Args:
        dataset: Good images only; at least two, of 16 x 16 pixels or more.
        seed: Seed of the defects, 0 or more. Defaults to ``0``.

    Raises:
        ValueError: If an image is defective already, or there are fewer than two.
    """

    def __init__(self, dataset: AnomalibDataset, seed: int = 0) -> None:
        super().__init__(augmentations=keep_thin_defects(dataset.augmentations))
        if dataset.has_anomalous or len(dataset) < 2:
            msg = (
                "drawn defects need at least two images, all of them good; got "
                f"{len(dataset)} images{', some of them defective' if dataset.has_anomalous else ''}. "
                "Raise val_split_ratio or add images."
            )
            raise ValueError(msg)
        self.seed = seed
        samples = dataset.samples.copy()
        # At random: names often follow the position of the camera, and no position may be the defective one.
        lots = np.random.default_rng(seed).permutation(len(samples))
        kinds = list(DEFECTS)
        samples["label"] = [kinds[lot // 2 % len(kinds)] if lot % 2 else "good" for lot in lots]
        samples["label_index"] = [int(LabelName.ABNORMAL if lot % 2 else LabelName.NORMAL) for lot in lots]
        samples["split"] = Split.VAL.value
        samples["mask_path"] = ""  # masks are drawn, not read
        samples.attrs["task"] = "segmentation"
        self.samples = samples

    def __getitem__(self, index: int) -> ImageItem:
        """Read an image, draw its defect, and augment both.

        Raises:
            OSError: If the image cannot be read; names it.
            ValueError: If what it holds is not one photograph, or too small a one; names it.
        """
        sample = self.samples.iloc[index]
        image = cast("torch.Tensor", read_image(sample.image_path, as_tensor=True))  # (3, H, W)
        height, width = image.shape[-2:]
        if min(height, width) < _MIN_SIDE:
            msg = (
                f"'{sample.image_path}' has {width} x {height} pixels: defects are drawn on {_MIN_SIDE} x {_MIN_SIDE} "
                "or more."
            )
            raise ValueError(msg)
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
