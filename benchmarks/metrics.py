# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The one place where a metric is computed, always from raw scores and maps."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anomalib.metrics
import numpy as np
import torch
from anomalib.data import ImageBatch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from benchmarks.ear import conformal_quantile
from benchmarks.ear import metrics as bounded

IMAGE: dict[str, Any] = {f"image_{name}": getattr(anomalib.metrics, name) for name in ("AUROC", "AUPR", "F1Max")}
PIXEL: dict[str, Any] = {  # the memory of ours does not grow with the number of images
    "pixel_AUROC": bounded.AUROC, "pixel_AUPRO": bounded.AUPRO,
    "pixel_AUPR": anomalib.metrics.AUPR, "pixel_F1Max": anomalib.metrics.F1Max,
}  # fmt: skip
BATCH = 16


def measure(
    scores: Tensor, labels: Tensor, maps: Tensor | None = None, truth: Tensor | None = None, images: Sequence[str] = ()
) -> dict[str, float]:
    """Measure what a model found; raises a ``ValueError`` if a score or map is not finite.

    Args:
        scores: ``(N,)``; more is more anomalous.
        labels: Whether an image is defective, ``(N,)`` bool; some data sets have defects without a marked pixel.
        maps: Anomaly maps, ``(N, 1, H, W)``, of models that have them.
        truth: Defective pixels, ``(N, H, W)`` bool.
        images: Path per image. Where each kind of defect has a folder of its own, its image AUROC is ``kind_FOLDER``.

    Returns:
        ``image_*``, ``scrapped``, ``missed`` and, where pixels are marked, ``pixel_*``.
    """
    if not scores.isfinite().all() or (maps is not None and not maps.isfinite().all()):
        msg = "the model gave scores or maps that are not finite."
        raise ValueError(msg)
    found = {name: compute(cls, pred_score=unit(scores), gt_label=labels) for name, cls in IMAGE.items()}
    if maps is not None and truth is not None and truth.any():
        found |= {name: compute(cls, anomaly_map=unit(maps), gt_mask=truth) for name, cls in PIXEL.items()}
    good, defective = scores[~labels].numpy(), scores[labels].numpy()
    found |= {"scrapped": scrapped(good, defective), "missed": missed(good, defective)}
    return found | kinds(scores, labels, images)


def compute(cls: Any, **fields: Tensor) -> float:  # noqa: ANN401
    """Compute one of anomalib's metrics, or one of ours, of fields of its batches."""
    metric = cls(fields=list(fields))
    for parts in zip(*(values.split(BATCH) for values in fields.values()), strict=True):
        metric.update(ImageBatch(torch.zeros(len(parts[0]), 3, 1, 1), **dict(zip(fields, parts, strict=True))))
    return float(metric.compute())


def unit(values: Tensor) -> Tensor:
    """Bring values to [0, 1], beyond which anomalib applies a sigmoid, by one line for all: no metric changes."""
    low, high = values.min(), values.max()
    return ((values - low) / (high - low).clamp(min=torch.finfo(values.dtype).tiny)).float()


def scrapped(good: NDArray[np.float64], defective: NDArray[np.float64], found: float = 0.95) -> float:
    """Return the share of good parts at or above the threshold that finds this share of the defective ones."""
    least = math.ceil(found * len(defective))  # defective parts that must be found
    return float(np.mean(good >= np.sort(defective)[-least]))


def missed(good: NDArray[np.float64], defective: NDArray[np.float64], alarms: float = 0.01) -> float:
    """Return the share of defective parts at or below the threshold that this share of the good ones exceeds."""
    most = math.floor(alarms * len(good))  # good parts that may alarm
    return float(np.mean(defective <= np.sort(good)[-1 - most]))


def threshold(good: Tensor) -> float:
    """Return the score that 5 % of new good images exceed; raises a ``ValueError`` if there are none.

    Fewer than 19 images are too few for 5 %: the best there is is the highest.
    """
    if not len(good):
        msg = "a threshold needs good images that are held out, and there are none."
        raise ValueError(msg)
    return float(conformal_quantile(good))


def at_threshold(scores: Tensor, labels: Tensor, limit: float) -> dict[str, Any]:
    """Measure scores ``(N,)`` of good and defective images, ``labels`` ``(N,)`` bool, against a threshold.

    Returns:
        ``image_AUROC``, and ``false_alarms`` and ``found``: how many good and how many defective images exceed the
        threshold, of how many.

    Raises:
        ValueError: If a score is not finite.
    """
    if not scores.isfinite().all():
        msg = "the model gave scores that are not finite."
        raise ValueError(msg)
    above = scores > limit
    of = {"false_alarms": ~labels, "found": labels}
    counts = {name: [int(above[those].sum()), int(those.sum())] for name, those in of.items()}
    return {"image_AUROC": float(roc_auc_score(labels.numpy(), scores.numpy())), **counts}


def shares(scores: Tensor, labels: Tensor, limit: float) -> dict[str, float]:
    """Return what share of good images, ``rejected``, and of defective ones, ``found``, exceeds a model's threshold.

    Args:
        scores: ``(N,)``; more is more anomalous.
        labels: Whether an image is defective, ``(N,)`` bool.
        limit: The threshold; NaN where validation gave none, and then nothing is returned.
    """
    if math.isnan(limit):
        return {}
    counts = at_threshold(scores, labels, limit)
    (alarms, good), (found, defective) = counts["false_alarms"], counts["found"]
    return {"rejected": alarms / good, "found": found / defective}


def kinds(scores: Tensor, labels: Tensor, images: Sequence[str]) -> dict[str, float]:
    """Return the image AUROC of each kind of defect, where each has a folder of its own, else nothing."""
    folders, defective = np.array([Path(image).parent.name for image in images]), labels.numpy()
    names = sorted(set(folders[defective])) if len(folders) else []
    if len(names) < 2 or set(names) & set(folders[~defective]):
        return {}
    chosen = {f"kind_{name}": (folders == name) | ~defective for name in names}
    return {name: float(roc_auc_score(defective[these], scores.numpy()[these])) for name, these in chosen.items()}
