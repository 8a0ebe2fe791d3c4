# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Pixel metrics whose memory does not grow with the number of images.

anomalib's keep every pixel and sort them all at the end: about 60 bytes per pixel, more than 8 GiB for the test set of
KolektorSDD2. Scores in [0, 1] rounded to one of 2^20 levels, finer than the float32 arithmetic that made them, fit into
histograms, from which the same figures follow exactly. torchmetrics' own ``thresholds`` go one by one where there are
more than 50 000 pixels, which takes too long for so many. Names and arguments are anomalib's.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from anomalib.metrics import AnomalibMetric
from anomalib.metrics import Evaluator as HostEvaluator
from anomalib.utils.cv import connected_components_cpu, connected_components_gpu
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import rank_zero_warn

LEVELS = 2**20

logger = logging.getLogger(__name__)


def to_levels(preds: Tensor) -> Tensor:
    """Round scores down to levels.

    Args:
        preds: Scores in [0, 1], any shape.

    Returns:
        Whole numbers in [0, LEVELS), flattened.

    Raises:
        ValueError: If a score is not a number in [0, 1].
    """
    preds = preds.detach().flatten().float()
    if not ((preds >= 0) & (preds <= 1)).all():
        msg = (
            f"pixel metrics need anomaly maps within [0, 1], got values from {preds.min():.3g} to {preds.max():.3g}. "
            "NaN comes from a training that diverged; other values from a model or post-processor that does not "
            "normalise: give such a model anomalib's own metrics (evaluator)."
        )
        raise ValueError(msg)
    return (preds * LEVELS).long().clamp_(max=LEVELS - 1)


def histogram(levels: Tensor) -> Tensor:
    """Count how often each level occurs; ``(LEVELS,)``."""
    return torch.bincount(levels, minlength=LEVELS)


class _LevelMetric(Metric):
    """Histograms of the levels of normal and of defective pixels."""

    full_state_update = False
    normal: Tensor
    defective: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("normal", "defective"):
            self.add_state(name, torch.zeros(LEVELS, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add scores in [0, 1] and labels 0 or 1, of any shapes with as many elements."""
        levels, is_defective = to_levels(preds), target.flatten().bool()
        self.defective += histogram(levels[is_defective])
        self.normal += histogram(levels[~is_defective])

    def from_the_top(self) -> tuple[Tensor, Tensor]:
        """Numbers of normal and of defective pixels at or above each level, highest level first, in float64."""
        return _from_the_top(self.normal), _from_the_top(self.defective)


class _AUROC(_LevelMetric):
    def compute(self) -> Tensor:
        """Area under the ROC curve, 0 if there are no normal or no defective pixels (as in anomalib)."""
        normal, defective = self.from_the_top()
        if not (normal[-1] and defective[-1]):
            rank_zero_warn("AUROC of normal pixels only, or of defective ones only, means nothing: it is set to 0.")
            return torch.zeros((), device=self.normal.device)
        return _area(normal / normal[-1], defective / defective[-1]).to(self.normal.device, torch.float)


class AUROC(AnomalibMetric, _AUROC):  # type: ignore[misc]  # as anomalib combines them
    """Area under the ROC curve of scores in [0, 1], in constant memory."""


class _AUPRO(Metric):
    full_state_update = False
    normal: Tensor
    overlap: Tensor
    regions: Tensor

    def __init__(self, fpr_limit: float = 0.3) -> None:
        super().__init__()
        self.fpr_limit = fpr_limit
        self.add_state("normal", torch.zeros(LEVELS, dtype=torch.long), dist_reduce_fx="sum")
        # Each pixel of a region counts as its share of the region.
        self.add_state("overlap", torch.zeros(LEVELS), dist_reduce_fx="sum")
        self.add_state("regions", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add anomaly maps in [0, 1], ``(N, 1, H, W)`` or ``(N, H, W)``, and masks of 0 and 1, ``(N, H, W)``."""
        label = connected_components_gpu if target.is_cuda else connected_components_cpu
        regions = label(target.unsqueeze(1).float()).flatten().long()  # 0 for normal, then 1, 2, ...
        levels, is_defective = to_levels(preds), regions > 0
        self.normal += histogram(levels[~is_defective])
        sizes = torch.bincount(regions)
        share = 1 / sizes[regions[is_defective]]
        self.overlap += torch.bincount(levels[is_defective], weights=share, minlength=LEVELS)
        self.regions += int((sizes[1:] > 0).sum())

    def compute(self) -> Tensor:
        """Mean overlap with the regions up to the limit of the false positive rate; 0 without regions (as anomalib)."""
        normal = _from_the_top(self.normal)
        if not (normal[-1] and self.regions):
            rank_zero_warn("AUPRO without normal pixels or without defective regions means nothing: it is set to 0.")
            return torch.zeros((), device=self.normal.device)
        fpr, overlap = normal / normal[-1], _from_the_top(self.overlap) / self.regions.cpu()
        fpr, overlap = (torch.cat([curve.new_zeros(1), curve]) for curve in (fpr, overlap))
        end = int(torch.searchsorted(fpr, self.fpr_limit, right=True))  # the first beyond the limit
        if end < len(fpr):
            weight = (self.fpr_limit - fpr[end - 1]) / (fpr[end] - fpr[end - 1])
            at_limit = torch.lerp(overlap[end - 1], overlap[end], weight)
            fpr = torch.cat([fpr[:end], fpr.new_tensor([self.fpr_limit])])
            overlap = torch.cat([overlap[:end], at_limit[None]])
        return (_area(fpr, overlap) / fpr[-1]).to(self.normal.device, torch.float)


class AUPRO(AnomalibMetric, _AUPRO):  # type: ignore[misc]
    """Area under the per-region overlap curve of maps in [0, 1], in constant memory.

    Args:
        fpr_limit: False positive rate up to which the area is taken, in (0, 1].
    """


class _F1AdaptiveThreshold(_LevelMetric):
    lowest: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("lowest", torch.tensor(torch.inf), dist_reduce_fx="min")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add scores in [0, 1] and labels 0 or 1, of any shapes with as many elements."""
        super().update(preds, target)
        self.lowest = torch.minimum(self.lowest, preds.detach().min())

    def compute(self) -> Tensor:
        """Threshold of the highest F1 score; the lowest score without normal pixels, NaN without defective ones."""
        false_positives, true_positives = self.from_the_top()
        if not true_positives[-1]:
            return torch.tensor(torch.nan, device=self.normal.device)
        if not false_positives[-1]:
            return self.lowest
        # 2 TP / (2 TP + FP + FN), where TP + FN are all defective pixels.
        f1_score = 2 * true_positives / (true_positives + false_positives + true_positives[-1])
        # Of equal values argmax takes the first, which is a level that occurs; those below it may be empty.
        best = LEVELS - 1 - int(f1_score.argmax())
        return torch.tensor(best / LEVELS, device=self.normal.device)


class F1AdaptiveThreshold(AnomalibMetric, _F1AdaptiveThreshold):  # type: ignore[misc]
    """Threshold of the highest F1 score of scores in [0, 1], in constant memory.

    Without defective pixels there is none: a post-processor then takes the images'.
    """


def _from_the_top(counts: Tensor) -> Tensor:
    """Sum up a histogram from the highest level downwards, in float64, and therefore on the CPU: MPS has none."""
    return counts.cpu().double().flip(0).cumsum(0)


def _area(x: Tensor, y: Tensor) -> Tensor:
    """Area under a curve that begins at the origin."""
    x, y = (torch.cat([values.new_zeros(1), values]) for values in (x, y))
    return torch.trapezoid(y, x)


class _Labels(Metric):
    """How many normal and how many defective images or pixels there were."""

    full_state_update = False
    normal: Tensor
    defective: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("normal", "defective"):
            self.add_state(name, torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, target: Tensor) -> None:
        """Add labels 0 or 1, of any shape."""
        defective = target.bool().sum().to(self.defective.device)
        self.defective += defective
        self.normal += target.numel() - defective

    def compute(self) -> tuple[int, int]:
        """Numbers of normal and of defective ones."""
        return int(self.normal), int(self.defective)


class Evaluator(HostEvaluator):
    """anomalib's evaluator, which leaves out test metrics that mean nothing, and says why.

    Without a defective image no AUROC or F1 score tells anything, and 0 reads as if no defect were found.

    Args:
        test_metrics: Metrics of a prediction against ``gt_label`` or ``gt_mask``. Every one needs defective images or
            pixels, those with ``AU`` in their name, areas under a curve, normal ones too.
    """

    def __init__(self, test_metrics: Sequence[AnomalibMetric]) -> None:
        super().__init__(test_metrics=test_metrics)
        self._image_labels, self._pixel_labels = _Labels(), _Labels()

    def _labels(self) -> dict[str, _Labels]:
        return {"gt_label": self._image_labels, "gt_mask": self._pixel_labels}

    def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *args: Any) -> None:  # noqa: ANN401
        """Update the metrics, and count what they are measured on."""
        super().on_test_batch_end(trainer, pl_module, outputs, batch, *args)
        for target, labels in self._labels().items():
            found = getattr(batch, target, None)
            labels.update(torch.empty(0) if found is None else found)

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401  # the host's
        """Log the metrics that mean something, and say which do not."""
        del pl_module
        counts = {target: labels.compute() for target, labels in self._labels().items()}
        reasons: dict[str, list[str]] = {}
        for metric in cast("Iterable[Any]", self.test_metrics):
            target = next(field for field in metric.fields if field in counts)
            if reason := _why_not(metric.name, target, *counts[target]):
                reasons.setdefault(reason, []).append(metric.name)
                metric.reset()  # Lightning does so with those that are logged
                continue
            self.log(metric.name, metric)  # type: ignore[operator]  # Lightning gives it to callbacks
            if trainer.barebones:  # as the host does, because nothing is logged then
                trainer.callback_metrics[metric.name] = trainer.logged_metrics[metric.name] = metric.compute()
        for labels in self._labels().values():
            labels.reset()
        if reasons and trainer.is_global_zero:
            parts = (f"{', '.join(names)} ({reason})" for reason, names in reasons.items())
            logger.warning("Not computed: %s.", "; ".join(parts))


def _why_not(name: str, target: str, normal: int, defective: int) -> str:
    """Say why a metric means nothing; empty if it does mean something."""
    if not normal + defective:
        return "no masks" if target == "gt_mask" else "no labels"
    if not defective:
        return "no defective pixel in the masks" if target == "gt_mask" else "no defective image"
    if not normal and "AU" in name:
        return "no normal pixel in the masks" if target == "gt_mask" else "no good image"
    return ""
