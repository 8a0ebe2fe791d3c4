# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Normalised scores: the threshold at one half, no ties, no clamps."""

import pytest
import torch
from anomalib.data import InferenceBatch

from anomalib_ear.post_processing import EarPostProcessor


def processor(threshold: float) -> EarPostProcessor:
    """Return a post-processor that has found a threshold."""
    post_processor = EarPostProcessor()
    post_processor._image_threshold.fill_(threshold)  # what a validation sets
    return post_processor


def scored(post_processor: EarPostProcessor, scores: torch.Tensor) -> InferenceBatch:
    """Post-process scores as the exported graph does."""
    return post_processor(InferenceBatch(pred_score=scores, anomaly_map=scores.reshape(-1, 1, 1, 1)))


@pytest.mark.parametrize("threshold", [0.01, 0.5, 0.93])
def test_the_threshold_becomes_one_half(threshold: float) -> None:
    """Scores above the threshold exceed 0.5 and are labelled anomalous, others do not."""
    result = scored(processor(threshold), torch.tensor([threshold * 0.9, threshold * 1.05]))
    assert result.pred_score[0] < 0.5 < result.pred_score[1]
    assert result.pred_label.tolist() == [False, True]


@pytest.mark.parametrize("threshold", [0.01, 0.5, 0.93])
def test_order_is_kept_everywhere(threshold: float) -> None:
    """Normalisation is strictly increasing, also far above the threshold."""
    scores = torch.linspace(0, 0.999, 200)
    normalised = scored(processor(threshold), scores).pred_score
    assert (normalised.diff() > 0).all()
    assert normalised.min() >= 0
    assert normalised.max() < 1


def test_without_validation_scores_stay() -> None:
    """No threshold: the raw scale, whose 0.5 is the calibration's bound."""
    scores = torch.tensor([0.2, 0.7])
    torch.testing.assert_close(scored(processor(float("nan")), scores).pred_score, scores)
