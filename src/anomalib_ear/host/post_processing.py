# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Normalised scores that keep every order, and thresholds that good images alone can give.

anomalib's post-processor shifts and clamps scores: whatever lies half the validation range above the threshold becomes
1, and metrics on tied scores flatter or punish a model. Ear's scores are ratios on one fixed scale, so one formula puts
the threshold at 0.5 and ties nothing.
"""

from typing import Any

import torch
from anomalib.metrics import F1AdaptiveThreshold as HostThreshold
from anomalib.post_processing import PostProcessor
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from anomalib_ear.host.metrics import F1AdaptiveThreshold

# Share of good images that alarm where the validation data has no others. The host takes their highest score. A single
# image decides it, and the more images there are, the higher it is and the less is found.
FALSE_ALARMS = 0.05

_MARGIN = 1e-6  # keeps a threshold of exactly 0 or 1 from dividing by zero


class ImageThreshold(HostThreshold):
    """Threshold of the highest F1 score; of good images alone, the score that ``FALSE_ALARMS`` of them exceed."""

    def compute(self) -> Tensor:  # type: ignore[override]  # as the host's
        """Return the threshold, a scalar."""
        if dim_zero_cat(self.target).any():
            return super().compute()
        self.value = torch.quantile(dim_zero_cat(self.preds), 1 - FALSE_ALARMS)
        return self.value


class EarPostProcessor(PostProcessor):
    """Post-processor whose normalisation is strictly increasing, and which needs no defective images for a threshold.

    A score ``s`` stands for the odds ``s / (1 - s)``; normalising divides them by the threshold's odds. Without a
    threshold (no validation data) scores stay as they are: 0.5 is then the bound of defect-free surfaces that the
    calibration gave.

    Args:
        **kwargs: As for anomalib's ``PostProcessor``.
    """

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401  # the host's
        super().__init__(**kwargs)
        self._image_threshold_metric = ImageThreshold(fields=["pred_score", "gt_label"], strict=False)
        # The host's keeps every pixel of the validation images.
        self._pixel_threshold_metric = F1AdaptiveThreshold(  # type: ignore[assignment]
            fields=["anomaly_map", "gt_mask"], strict=False
        )

    @staticmethod
    def _normalize(preds: Tensor | None, norm_min: Tensor, norm_max: Tensor, threshold: Tensor) -> Tensor | None:
        """Put the threshold at 0.5.

        Args:
            preds: Scores or maps in [0, 1).
            norm_min: Smallest validation score, not needed.
            norm_max: Largest validation score, not needed.
            threshold: Threshold in [0, 1), scalar; NaN for none.

        Returns:
            Scores of the same shape in [0, 1).
        """
        del norm_min, norm_max
        if preds is None:
            return None
        threshold = torch.nan_to_num(threshold, nan=0.5).clamp(_MARGIN, 1 - _MARGIN)
        above, below = preds * (1 - threshold), (1 - preds) * threshold
        return above / (above + below)
