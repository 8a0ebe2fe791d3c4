# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the pixel metrics in constant memory, against anomalib's own."""

import anomalib.metrics
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.metrics import AnomalibMetric

from anomalib_ear import Ear, metrics
from anomalib_ear.host.post_processing import EarPostProcessor

FIELDS = {"fields": ["anomaly_map", "gt_mask"], "prefix": "pixel_"}
NAMES = ("AUROC", "AUPRO", "F1AdaptiveThreshold")


def batches(kind: str) -> list[ImageBatch]:
    """Four batches of three images whose maps tell the defects more or less well."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for index in range(4):
        mask = torch.zeros(3, 40, 30, dtype=torch.bool)
        if kind != "normal":
            mask[0, 3:9, 4:20] = True
            mask[1, 30:33, 2:4] = True
            mask[1, 10:12, 20:25] = True
        if kind == "defective":
            mask[:] = True
        noise = torch.rand(3, 40, 30, generator=generator)
        maps = {
            "ties": (noise * 5).round() / 5,
            "perfect": 0.4 * noise + 0.5 * mask,
            "low": 1e-3 * (noise + 0.5 * mask),
        }.get(kind, 0.7 * noise + 0.3 * mask * torch.rand(3, 40, 30, generator=generator))
        made.append(
            ImageBatch(
                image=torch.zeros(3, 3, 40, 30),
                anomaly_map=maps[:, None] if index % 2 else maps,
                gt_mask=mask,
            )
        )
    return made


def computed(metric: AnomalibMetric, kind: str) -> torch.Tensor:
    """Value of a metric after all batches."""
    for batch in batches(kind):
        metric.update(batch)
    return metric.compute()


@pytest.mark.parametrize("kind", ["overlapping", "ties", "perfect", "low"])
@pytest.mark.parametrize("name", NAMES)
def test_value_is_that_of_anomalib(name: str, kind: str) -> None:
    """Up to the rounding of scores to a millionth, the values are the same."""
    ours = computed(getattr(metrics, name)(**FIELDS), kind)
    theirs = computed(getattr(anomalib.metrics, name)(**FIELDS), kind)
    atol = 3e-4 if kind == "low" and name != "F1AdaptiveThreshold" else 2e-6  # a thousandth of the levels
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


@pytest.mark.parametrize("kind", ["normal", "defective"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:.*means nothing", "ignore:No (positive|negative) samples")
def test_one_kind_of_pixels_alone(name: str, kind: str) -> None:
    """Without defective or without normal pixels the values are those of anomalib too, but for one."""
    ours = computed(getattr(metrics, name)(**FIELDS), kind)
    if (name, kind) == ("F1AdaptiveThreshold", "normal"):
        assert ours.isnan()  # anomalib's takes the highest pixel
        return
    theirs = computed(getattr(anomalib.metrics, name)(**FIELDS), kind)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("limit", [0.01, 0.3, 1.0])
def test_aupro_has_a_limit(limit: float) -> None:
    """The false positive rate can be limited as in anomalib."""
    ours, theirs = (
        computed(source.AUPRO(**FIELDS, fpr_limit=limit), "overlapping") for source in (metrics, anomalib.metrics)
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_scores_outside_the_unit_range_are_refused(name: str, value: float) -> None:
    """The error says what is wrong."""
    batch = batches("overlapping")[0]
    batch.anomaly_map = torch.full_like(batch.anomaly_map, value)
    with pytest.raises(ValueError, match=r"within \[0, 1\], got"):
        getattr(metrics, name)(**FIELDS).update(batch)


@pytest.mark.parametrize("name", NAMES)
def test_state_does_not_grow(name: str) -> None:
    """A metric holds as much after many images as after one."""
    metric = getattr(metrics, name)(**FIELDS)
    sizes = []
    for batch in batches("overlapping"):
        metric.update(batch)
        sizes.append(sum(state.numel() for state in metric.metric_state.values()))
    assert len(set(sizes)) == 1


def test_ear_uses_them_by_default() -> None:
    """Nothing of Ear's own keeps every pixel, and metrics have the host's names."""
    names = [metric.name for metric in Ear.configure_evaluator().test_metrics]
    assert names == ["image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_F1Score"]
    keeping = (anomalib.metrics.AUROC, anomalib.metrics.F1AdaptiveThreshold)
    for holder in (Ear.configure_evaluator(), EarPostProcessor()):
        kept = [module for module in holder.modules() if isinstance(module, keeping)]
        assert all("anomaly_map" not in module.fields for module in kept)
