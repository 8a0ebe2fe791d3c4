# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the pixel metrics in constant memory, against anomalib's own."""

import logging
import re
from pathlib import Path

import anomalib.metrics
import pytest
import torch
from anomalib.data import Folder, ImageBatch
from anomalib.engine import Engine
from anomalib.metrics import AnomalibMetric

from anomalib_ear import Ear
from anomalib_ear.host import metrics
from anomalib_ear.host.post_processing import EarPostProcessor
from conftest import cli

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
    """Without defective or without normal pixels the values are those of anomalib too, except for one."""
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


ALL = {"image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_F1Score"}


@pytest.fixture(scope="module")
def trained(surfaces: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ear, Path]:
    """Return a model that is hardly trained, and its checkpoint."""
    root = tmp_path_factory.mktemp("trained")
    model = Ear(space="pixels", image_size=(32, 32), channels=[4, 8], masking="none", visualizer=False)
    engine = Engine(max_epochs=1, default_root_dir=root, accelerator="cpu", logger=False)
    engine.fit(model, datamodule=folder(surfaces, abnormal_dir="defective", mask_dir="masks"))
    engine.trainer.save_checkpoint(root / "model.ckpt")
    return model, root / "model.ckpt"


def folder(surfaces: Path, **arguments: object) -> Folder:
    """Return the tiny surfaces, a fifth of the good ones for the test."""
    return Folder(
        **{"name": "surface", "root": surfaces, "normal_dir": "good", "normal_split_ratio": 0.2, "num_workers": 0}
        | {"val_split_mode": "from_train", "val_split_ratio": 0.2, "seed": 0, "eval_batch_size": 3}
        | arguments
    )


def outcome(model: Ear, datamodule: Folder, root: Path) -> dict[str, float]:
    """Return what a test prints, image by image."""
    engine = Engine(default_root_dir=root, accelerator="cpu", logger=False)
    return dict(engine.test(model, datamodule=datamodule)[0])


def test_metrics_that_mean_nothing_are_not_printed(
    trained: tuple[Ear, Path], surfaces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says why, and the next test of the same model is as if there had been no other."""
    model, _ = trained
    both = folder(surfaces, abnormal_dir="defective", mask_dir="masks")
    before = outcome(model, both, tmp_path)
    assert set(before) == ALL
    for given, printed, reasons in (
        ({}, set(), ["image_AUROC, image_F1Score (no defective image)", "pixel_AUROC, pixel_F1Score (no"]),
        ({"abnormal_dir": "defective"}, {"image_AUROC", "image_F1Score"}, ["pixel_AUROC, pixel_F1Score (no masks)"]),
    ):
        caplog.clear()
        assert set(outcome(model, folder(surfaces, **given), tmp_path)) == printed
        (said,) = [record for record in caplog.records if record.name == metrics.__name__]
        assert said.levelno == logging.WARNING
        assert all(reason in said.getMessage() for reason in reasons), said.getMessage()
    caplog.clear()
    assert outcome(model, both, tmp_path) == before
    assert not [record for record in caplog.records if record.name == metrics.__name__]


def test_without_good_images_there_is_an_f1_score_only(
    trained: tuple[Ear, Path], surfaces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Areas under curves need both kinds."""
    datamodule = folder(surfaces, abnormal_dir="defective", mask_dir="masks")
    datamodule.setup()
    defective = datamodule.test_data.samples.index[datamodule.test_data.samples.label_index == 1]
    datamodule.test_data = datamodule.test_data.subsample(list(defective))
    datamodule._is_setup = True
    assert set(outcome(trained[0], datamodule, tmp_path)) == {"image_F1Score", "pixel_AUROC", "pixel_F1Score"}
    assert "Not computed: image_AUROC (no good image)." in caplog.messages


def test_the_command_does_not_print_them_either(trained: tuple[Ear, Path], surfaces: Path, tmp_path: Path) -> None:
    """A zero would read as if nothing were found."""
    data = ("--data", "Folder", "--data.name", "surface", "--data.root", surfaces, "--data.normal_dir", "good",
            "--data.abnormal_dir", "null", "--data.num_workers", "0")  # fmt: skip
    done = cli("test", "--model", "Ear", "--model.visualizer", "false", "--ckpt_path", trained[1], *data, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Not computed: image_AUROC, image_F1Score (no defective image)" in done.stdout + done.stderr
    assert not re.search(r"(AUROC|F1Score)\W+\d", done.stdout)
