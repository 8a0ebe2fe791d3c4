# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Normalised scores: the threshold at one half, no ties, no clamps."""

from functools import partial

import pytest
import torch
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.post_processing import PostProcessor
from lightning.pytorch import Trainer

from anomalib_ear.deploy.threshold import FALSE_ALARMS
from anomalib_ear.host.post_processing import EarPostProcessor, are_higher, conformal_quantile


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
    """Without a threshold scores stay raw: 0.5 is then the calibration's bound."""
    scores = torch.tensor([0.2, 0.7])
    torch.testing.assert_close(scored(processor(float("nan")), scores).pred_score, scores)


def validated(post_processor: PostProcessor, scores: torch.Tensor, defective: torch.Tensor) -> PostProcessor:
    """Let a post-processor find its thresholds on images whose maps are half their score, except at one pixel."""
    for some in torch.arange(len(scores)).split(7):
        maps = scores[some].reshape(-1, 1, 1, 1).repeat(1, 1, 4, 4) / 2
        maps[..., 1, 2] *= 2
        batch = ImageBatch(
            image=torch.zeros(len(some), 3, 4, 4),
            anomaly_map=maps,
            pred_score=scores[some],
            gt_label=defective[some],
            gt_mask=(maps[:, 0] == scores[some].reshape(-1, 1, 1)) & defective[some].reshape(-1, 1, 1),
        )
        post_processor.on_validation_batch_end(None, None, batch)
    post_processor.on_validation_epoch_end(None, None)
    return post_processor


def test_one_in_twenty_good_images_alarms_without_others() -> None:
    """A single conspicuous image does not set the threshold, and pixels have the same one."""
    scores = torch.cat([torch.linspace(0.1, 0.3, 98), torch.tensor([0.9])])[torch.randperm(99)]
    post_processor = validated(EarPostProcessor(), scores, torch.zeros(99, dtype=torch.bool))
    assert int((scores > post_processor.image_threshold).sum()) == 4  # and of 100, the new one counted in, 5
    assert post_processor.image_threshold == post_processor.pixel_threshold
    result = scored(post_processor, scores)
    assert int(result.pred_label.sum()) == int(result.pred_mask.sum()) == 4


@pytest.mark.parametrize(("count", "above"), [(1, 0), (18, 0), (19, 0), (38, 0), (39, 1), (59, 2), (100, 4), (250, 11)])
def test_so_many_scores_exceed_the_quantile(count: int, above: int) -> None:
    """With 19 the highest is the quantile, with 39 the second highest: a new score exceeds it once in twenty."""
    scores = torch.rand(count, generator=torch.Generator().manual_seed(count))
    assert int((scores > conformal_quantile(scores)).sum()) == above
    assert (above + 1) / (count + 1) <= FALSE_ALARMS or count < 19


@pytest.mark.parametrize("training", [10, 200])
@pytest.mark.parametrize("count", [1, 5, 40])
def test_chance_alone_makes_no_higher_scores(training: int, count: int) -> None:
    """Of pairs of alike scores one in a hundred, at most, is told to differ."""
    draw = partial(torch.rand, generator=torch.Generator().manual_seed(0))
    assert sum(are_higher(draw(count), draw(training)) for _ in range(2000)) <= 30


@pytest.mark.parametrize(("shift", "count", "rests_on"), [(0, 40, 240), (0, 4, 204), (0.5, 40, 40), (0.5, 4, 4)])
def test_validation_images_that_score_higher_decide_alone(shift: float, count: int, rests_on: int) -> None:
    """They are of parts that training has not seen; scores of training images would call too many defective."""
    generator = torch.Generator().manual_seed(0)
    training, held_out, new = (0.4 * torch.rand(n, generator=generator) for n in (200, count, 1000))
    post_processor = EarPostProcessor()
    post_processor.take_training_scores(training)
    validated(post_processor, held_out + shift, torch.zeros(count, dtype=torch.bool))
    assert post_processor._image_threshold_metric.good_images == rests_on
    assert (new + shift > post_processor.image_threshold).float().mean() < (0.08 if count == 40 else 0.3)


def test_with_defective_images_thresholds_are_the_hosts() -> None:
    """They are those of the highest F1 score, for images and for pixels."""
    scores = torch.linspace(0.1, 0.9, 40)
    defective = torch.arange(40) % 3 * torch.arange(40) > 30
    ours, theirs = (validated(kind(), scores, defective) for kind in (EarPostProcessor, PostProcessor))
    assert ours.image_threshold == pytest.approx(float(theirs.image_threshold), abs=5e-4)
    assert ours.pixel_threshold == pytest.approx(float(theirs.pixel_threshold), abs=2e-6)


@pytest.mark.parametrize("defective", [[0.8], [0.7, 0.8, 0.9], [0.26, 0.8, 0.999]], ids=str)
def test_the_weakest_defective_image_that_sets_the_threshold_is_called_defective(defective: list[float]) -> None:
    """By the raw score and by the normalised one, whatever its rounding."""
    good = [0.1, 0.15, 0.2, 0.25]
    scores = torch.tensor(good + defective)
    post_processor = validated(EarPostProcessor(), scores, torch.arange(len(scores)) >= len(good))
    result = scored(post_processor, scores)
    assert result.pred_label.tolist() == [False] * len(good) + [True] * len(defective)
    assert result.pred_score[len(good) :].min() > 0.5 + 5e-6


def test_without_normalisation_labels_are_by_the_raw_threshold() -> None:
    """The host would compare raw scores with 0.5, which is the threshold of normalised ones."""
    post_processor = validated(
        EarPostProcessor(enable_normalization=False), torch.full((40,), 0.7), torch.zeros(40).bool()
    )
    said = scored(post_processor, torch.tensor([0.65, 0.75]))
    assert said.pred_score.tolist() == pytest.approx([0.65, 0.75])
    assert said.pred_label.tolist() == [False, True]


@pytest.mark.parametrize(("lowest", "is_said"), [(0.2, True), (0.65, False)], ids=["many above", "few above"])
def test_a_threshold_that_many_good_images_exceed_is_said(
    lowest: float, caplog: pytest.LogCaptureFixture, *, is_said: bool
) -> None:
    """Where defective images validate, the highest F1 score of few of both kinds may take half of the good ones."""
    post_processor = EarPostProcessor()
    post_processor.take_training_scores(torch.linspace(0.1, 0.5, 60))
    validated(post_processor, torch.tensor([0.1, lowest, 0.7]), torch.tensor([False, True, True]))
    post_processor.on_train_end(Trainer(accelerator="cpu", logger=False), None)
    assert ("good photographs exceed the threshold" in caplog.text) is is_said
