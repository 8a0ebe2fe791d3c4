# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Accuracy of scores and maps that no anomalib engine made."""

import torch
from anomalib.data import ImageBatch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from anomalib_ear import metrics


def measure(scores: Tensor, labels: Tensor, maps: Tensor, truth: Tensor) -> dict[str, float]:
    """Return image AUROC, pixel AUROC and AUPRO.

    Args:
        scores: ``(N,)``; more is more anomalous.
        labels: Whether an image is defective, ``(N,)`` bool; some data sets have defects without a marked pixel.
        maps: ``(N, 1, H, W)``.
        truth: Defective pixels, ``(N, H, W)`` bool.
    """
    measured = {"image_AUROC": float(binary_auroc(scores, labels.long()))}
    for name in ("AUROC", "AUPRO"):
        metric = getattr(metrics, name)(fields=["anomaly_map", "gt_mask"])
        for map_, mask in zip(maps.split(16), truth.split(16), strict=True):
            image = torch.zeros(len(map_), 3, *map_.shape[-2:])
            metric.update(ImageBatch(image=image, anomaly_map=map_, gt_mask=mask))
        measured[f"pixel_{name}"] = float(metric.compute())
    return measured
