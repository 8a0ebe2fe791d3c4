# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Normalised scores that keep every order, and thresholds that good images alone can give.

anomalib's post-processor shifts and clamps scores: whatever lies half the validation range above the threshold becomes
1, and metrics on tied scores flatter or punish a model. Ear's scores are ratios on one fixed scale, so one formula puts
the threshold at 0.5 and ties nothing.
"""

import logging
import math
from typing import Any

import torch
from anomalib.metrics import F1AdaptiveThreshold as HostThreshold
from anomalib.post_processing import PostProcessor
from lightning.pytorch import LightningModule, Trainer
from scipy.stats import betabinom, binom
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from anomalib_ear.deploy.threshold import FALSE_ALARMS
from anomalib_ear.host.metrics import F1AdaptiveThreshold
from anomalib_ear.method.place_statistics import take_sizes

# Fewer good images than these have no score that so few new ones exceed: even their highest is exceeded more often.
ENOUGH_IMAGES = math.ceil(1 / FALSE_ALARMS) - 1
# Probability below which it is no chance that so many validation images exceed what training images say.
CHANCE = 0.01

logger = logging.getLogger(__name__)

# Share of the way to the next lower score: more than rounding, and hardly a part scores in between.
_STEP = 0.001
_MARGIN = 1e-6  # keeps a threshold of exactly 0 or 1 from dividing by zero


class ImageThreshold(HostThreshold):
    """Threshold of the highest F1 score; of good images alone, the score that ``FALSE_ALARMS`` of new ones exceed.

    The host takes the highest score of good images. A single image decides it, and the more images there are, the
    higher it is and the less is found.

    Attributes:
        training_scores: Scores ``(n,)`` of the training images, each by the statistics of the others: a tenth of the
            photographs held out for validation is too few to tell what one in twenty exceeds. Where validation images
            score higher by more than chance, as other parts may, they do not count.
        good_scores: Scores ``(n,)`` of the good images of the last validation.
        good_images: Number of good images that the last threshold rests on; ``None`` where it rests on defective ones
            too, and before there is one.
        is_of_validation_alone: Whether the training images did not count.
    """

    training_scores: Tensor
    good_scores: Tensor

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401  # the host's
        super().__init__(**kwargs)
        self.register_buffer("training_scores", torch.empty(0))
        self.register_buffer("good_scores", torch.empty(0))
        self.good_images: int | None = None
        self.is_of_validation_alone = False

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:  # noqa: ANN401
        state_dict.setdefault(prefix + "good_scores", torch.empty(0))  # older checkpoints have none
        take_sizes(self, ("training_scores", "good_scores"), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def compute(self) -> Tensor:  # type: ignore[override]  # as the host's
        """Return the threshold, a scalar."""
        self.good_images = None
        self.good_scores = dim_zero_cat(self.preds)[~dim_zero_cat(self.target).bool()].clone()
        if dim_zero_cat(self.target).any():
            self.value = _below(super().compute(), dim_zero_cat(self.preds))
            return self.value
        training = self.training_scores.to(self.device)
        self.is_of_validation_alone = are_higher(self.good_scores, training)
        scores = self.good_scores if self.is_of_validation_alone else torch.cat([self.good_scores, training])
        self.good_images = len(scores)
        self.value = conformal_quantile(scores)
        return self.value


def _below(threshold: Tensor, scores: Tensor) -> Tensor:
    """Bring a threshold from the lowest score that it is to find to a little below it.

    The host counts scores from the threshold on as found when it chooses, and scores above it when it labels.

    Args:
        threshold: One of the scores.
        scores: Scores of all validation images, ``(n,)``.
    """
    lower = scores[scores < threshold]
    return torch.lerp(threshold, lower.max() if len(lower) else torch.zeros_like(threshold), _STEP)


def conformal_quantile(scores: Tensor) -> Tensor:
    """Return the score that a new good image exceeds with a probability of at most ``FALSE_ALARMS``.

    Of ``n`` exchangeable scores and a new one each is as likely to be the highest, so the ``k``-th lowest of ``n`` is
    exceeded with a probability of ``1 - k / (n + 1)`` (Vovk et al., "Algorithmic Learning in a Random World", 2005).

    Args:
        scores: Scores of good images, ``(n,)``. With fewer than ``ENOUGH_IMAGES`` the highest is too low.
    """
    rank = math.ceil((len(scores) + 1) * (1 - FALSE_ALARMS) - 1e-9)
    return scores.sort().values[min(rank, len(scores)) - 1]


def are_higher(scores: Tensor, than: Tensor) -> bool:
    """Return whether scores ``(m,)`` exceed the quantile of others ``(n,)`` more often than by chance.

    How many of ``m`` scores exceed the ``k``-th lowest of ``n`` that are exchangeable with them is distributed as a
    beta-binomial with ``m``, ``n + 1 - k`` and ``k``.
    """
    if not len(than):
        return False
    bound = conformal_quantile(than)
    rank = int((than <= bound).sum())
    above = int((scores > bound).sum())
    return bool(betabinom.sf(above - 1, len(scores), len(than) + 1 - rank, rank) < CHANCE)


def forget_thresholds(post_processor: PostProcessor) -> None:
    """Forget what validation gave, as in a new post-processor.

    Args:
        post_processor: The host's, or Ear's.
    """
    for value in post_processor.buffers(recurse=False):
        value.fill_(torch.nan)
    threshold = post_processor._image_threshold_metric
    if isinstance(threshold, ImageThreshold):
        threshold.good_scores = threshold.good_scores.new_empty(0)


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

    def take_training_scores(self, scores: Tensor) -> None:
        """Let the image threshold rest on scores of training images too, ``(n,)``; see :class:`ImageThreshold`."""
        self._image_threshold_metric.training_scores = scores

    @property
    def normalized_image_threshold(self) -> Tensor:
        """Threshold of the scores that are given: where they are not normalised the raw one."""
        raw = torch.nan_to_num(self.image_threshold, nan=0.5)
        return super().normalized_image_threshold if self.enable_normalization else raw

    @property
    def normalized_pixel_threshold(self) -> Tensor:
        """Threshold of the maps that are given: where they are not normalised the raw one."""
        raw = torch.nan_to_num(self.pixel_threshold, nan=0.5)
        return super().normalized_pixel_threshold if self.enable_normalization else raw

    @property
    def good_scores(self) -> Tensor:
        """Normalised scores ``(n,)`` of good images, each by statistics of others: what good parts score."""
        threshold = self._image_threshold_metric
        if not self.enable_normalization or not isinstance(threshold, ImageThreshold):
            return torch.empty(0)
        scores = torch.cat([threshold.good_scores, threshold.training_scores.to(threshold.good_scores.device)])
        normalised = self._normalize(scores, self.image_min, self.image_max, self._image_threshold)
        return torch.empty(0) if normalised is None else normalised[normalised.isfinite()]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute the thresholds, outside Lightning's inference mode: no training could change its tensors."""
        with torch.inference_mode(mode=False):
            super().on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say so if the threshold rests on too few good images to keep ``FALSE_ALARMS``, or not on training's.

        Also if it rests on defective ones, and more good ones exceed it than ``FALSE_ALARMS`` and chance allow.
        """
        del pl_module
        threshold = self._image_threshold_metric
        if not isinstance(threshold, ImageThreshold) or torch.isnan(self._image_threshold):
            return
        if not trainer.is_global_zero:
            return
        count = threshold.good_images
        if count is None:
            self._warn_of_false_alarms(threshold)
            return
        if threshold.is_of_validation_alone:
            logger.warning(
                "The good photographs for validation score higher than those for training, by more than chance: they "
                "show other parts or another light. The threshold rests on the %d of them alone. Train with more of "
                "their kind to find more.",
                count,
            )
        if count < ENOUGH_IMAGES:
            logger.warning(
                "The threshold rests on %d good photographs; %d are needed for %.0f %% false alarms. About one in %d "
                "good parts will be called defective: train with more photographs, those for validation counted in.",
                count,
                ENOUGH_IMAGES,
                100 * FALSE_ALARMS,
                count + 1,
            )

    def _warn_of_false_alarms(self, threshold: ImageThreshold) -> None:
        """Say so if the highest F1 score of a few validation images costs many good parts."""
        scores = torch.cat([threshold.good_scores, threshold.training_scores.to(threshold.good_scores.device)])
        above = int((scores > self.image_threshold).sum())
        if len(scores) and binom.sf(above - 1, len(scores), FALSE_ALARMS) < CHANCE:
            logger.warning(
                "%d of %d good photographs exceed the threshold, which gives the highest F1 score of the photographs "
                "for validation. Validate with more of both kinds, or with good ones alone (--data.val_split_mode "
                "from_train): then about %.0f %% of good parts exceed it.",
                *(above, len(scores), 100 * FALSE_ALARMS),
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
