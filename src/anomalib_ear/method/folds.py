# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Residuals and details of the images to calibrate by: in parts that memory holds once, and shared among folds.

A part is a tensor of some images. A fold is the images that are scored by the statistics of all others. Images that are
alike share a fold.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler
from torch import Tensor

# Images in a part.
PART = 64
# Folds, and groups of like images that they are made of.
FOLDS = 5
GROUPS = 25


def regroup(batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    """Collect residuals in one list of parts and details in another, in half precision.

    Each part is allocated at once and filled, because batches that are kept and joined leave holes in memory.

    Args:
        batches: Residuals ``(N, K, h, w)`` and details ``(N, 12, h', w')`` of the same images.

    Returns:
        Parts of the residuals and of the details, of ``PART`` images each; the last may have fewer.
    """
    kinds: tuple[list[Tensor], list[Tensor]] = ([], [])
    filled = PART
    for pair in (pair for batch in batches for pair in zip(*batch, strict=True)):
        if filled == PART:
            for parts, values in zip(kinds, pair, strict=True):
                parts.append(values.new_empty(PART, *values.shape, dtype=torch.half))
            filled = 0
        for parts, values in zip(kinds, pair, strict=True):
            parts[-1][filled] = values
        filled += 1
    for parts in kinds:
        parts[-1:] = [part[:filled] for part in parts[-1:]]
    return kinds


class Chosen(Sequence[Tensor]):
    """Some rows of parts, copied a part at a time, so that there are never two of all.

    Args:
        parts: Tensors ``(n, ...)``.
        rows: Which rows of all parts together, bool ``(N,)``.
    """

    def __init__(self, parts: Sequence[Tensor], rows: Tensor) -> None:
        self._parts, self._rows = parts, rows.split([len(part) for part in parts])

    def __len__(self) -> int:
        """Return the number of parts."""
        return len(self._parts)

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401  # a slice is never asked for
        """Return the rows of a part, ``(n', ...)``."""
        return self._parts[index][self._rows[index]]


def folds_of(residuals: Sequence[Tensor], details: Sequence[Tensor], copies: int) -> Tensor:
    """Share images among ``FOLDS`` folds, with like ones in the same fold.

    Photographs often show one part several times. If one of them were scored by the statistics of the others, it would
    score lower than a new part does.

    Args:
        residuals: Residuals of images, ``(n, K, h, w)`` each; ``copies`` of each image follow each other.
        details: Their detail, ``(n, 12, h', w')`` each.
        copies: How many there are of each image.

    Returns:
        Number of the fold of each image, ``(count,)``.
    """
    pairs = zip(residuals, details, strict=True)
    means = [torch.cat([kind.float().mean(dim=(-2, -1)) for kind in pair], dim=1) for pair in pairs]
    glance = torch.cat(means)[::copies] if means else torch.empty(0)
    count = len(glance)
    folds = torch.zeros(count, dtype=torch.int64)
    if count < 2:
        return folds
    images = StandardScaler().fit_transform(glance.cpu().numpy())
    if len(np.unique(images, axis=0)) > GROUPS:
        groups = KMeans(GROUPS, n_init=3, random_state=0).fit_predict(images)
    else:  # images beside each other are often of one part
        groups = np.arange(count) * FOLDS // count
    for number, (_, fold) in enumerate(GroupKFold(min(FOLDS, count)).split(images, groups=groups)):
        folds[fold] = number
    return folds
