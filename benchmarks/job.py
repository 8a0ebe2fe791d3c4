# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""One model on one data set with one seed: fit, test, measure, export.

Reads a job as JSON from standard input and writes ``row.json`` into the job's folder. A process of its own per job
gives each an own peak of memory, and lets a failing one cost no other. ``run.py`` starts it.
"""

import inspect
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anomalib.metrics
import anomalib.models
import numpy as np
import torch
from anomalib.data import AnomalibDataModule, ImageBatch, get_datamodule
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from lightning import Callback, seed_everything
from lightning.pytorch.trainer.states import TrainerFn
from sklearn.metrics import precision_recall_curve, roc_curve
from torch.nn import functional as F  # noqa: N812  # torch's own idiom

import anomalib_ear  # registers Ear where the start-up hook is not installed

METRICS = {
    "image": ("AUROC", "AUPR", "F1Max"),
    "pixel": ("AUROC", "AUPRO", "AUPR", "F1Max"),
}
CPU = torch.device("cpu")
PACKAGES = ("anomalib", "lightning", "openvino", "timm", "torch", "torchvision")
CURVE_POINTS = 101
# Longest side in pixels of the maps that are kept for the report's gallery.
MAP_SIZE = 192
# The same image scored again and again: how much the score hangs on chance, and how long it takes.
REPEATED_IMAGES = 4
REPETITIONS = 4


class Collector(Callback):
    """Keep what the last test gave, before any post-processing.

    Attributes:
        paths: Path per image.
        labels: Whether an image is defective, ``(N,)`` bool.
        scores: Raw image scores, ``(N,)``.
        maps: Raw anomaly maps, ``(H, W)`` each; empty for models without.
        masks: Ground truth, ``(H, W)`` bool each; zeros where a good image has none.
    """

    def on_test_start(self, trainer: object, pl_module: object) -> None:
        """Begin anew."""
        del trainer, pl_module
        self.paths: list[str] = []
        self.labels: list[bool] = []
        self.scores: list[float] = []
        self.maps: list[torch.Tensor] = []
        self.masks: list[torch.Tensor] = []

    def on_test_batch_end(self, trainer: object, pl_module: object, outputs: ImageBatch, *args: object) -> None:
        """Keep a batch."""
        del trainer, pl_module, args
        self.paths += outputs.image_path
        self.labels += outputs.gt_label.flatten().bool().tolist()
        if outputs.anomaly_map is not None:
            maps = outputs.anomaly_map.detach().float().cpu().flatten(0, -3)  # (N, H, W)
            self.maps += maps
            masks = outputs.gt_mask if outputs.gt_mask is not None else torch.zeros_like(maps)
            self.masks += masks.cpu().flatten(0, -3).bool()
        scores = outputs.pred_score
        if scores is None:  # as anomalib's post-processor does it
            scores = outputs.anomaly_map.flatten(1).amax(dim=1)
        self.scores += scores.detach().flatten().double().tolist()

    def results(self) -> dict[str, Any]:
        """Return metrics, curves and scores.

        Raises:
            ValueError: If a score is not finite.
        """
        if not np.isfinite(self.scores).all() or not all(image_map.isfinite().all() for image_map in self.maps):
            msg = "the model gave scores or maps that are not finite"
            raise ValueError(msg)
        fields = {"image": ["pred_score", "gt_label"]}
        if self.maps and any(mask.any() for mask in self.masks):
            fields["pixel"] = ["anomaly_map", "gt_mask"]
        metrics = {f"{kind}_{name}": self._metric(name, fields[kind]) for kind in fields for name in METRICS[kind]}
        return {
            "metrics": metrics,
            "curves": self._pixel_curves() if "pixel" in fields else None,
            "labels": self.labels,
            "scores": self.scores,
        }

    def _metric(self, name: str, fields: list[str]) -> float:
        """Compute one of anomalib's metrics on scores brought to [0, 1], beyond which they apply a sigmoid."""
        metric = getattr(anomalib.metrics, name)(fields=fields)
        scores, maps = unit_range([torch.tensor(self.scores)])[0], unit_range(self.maps)
        for index, label in enumerate(self.labels):
            batch = {"pred_score": scores[index : index + 1].float(), "gt_label": torch.tensor([label])}
            if self.maps:
                batch |= {"anomaly_map": maps[index][None], "gt_mask": self.masks[index][None]}
                batch["image"] = torch.zeros(1, 3, *maps[index].shape)
            else:
                batch["image"] = torch.zeros(1, 3, 1, 1)
            metric.update(ImageBatch(**batch))
        return float(metric.compute())

    def _pixel_curves(self) -> dict[str, list[float]]:
        """Thin the pixels' curves to a fixed grid: true positive rate over false, precision over recall."""
        labels = torch.stack(self.masks).flatten().numpy()
        scores = torch.stack(self.maps).flatten().numpy()
        grid = np.linspace(0, 1, CURVE_POINTS)
        false_positives, true_positives, _ = roc_curve(labels, scores)
        precision, recall, _ = precision_recall_curve(labels, scores)
        return {
            "pixel_tpr": np.interp(grid, false_positives, true_positives).round(4).tolist(),
            "pixel_precision": np.interp(grid, recall[::-1], precision[::-1]).round(4).tolist(),
        }

    def save_maps(self, path: Path) -> None:
        """Keep small maps and masks for the report's gallery."""
        maps = torch.stack(self.maps)[:, None]
        scale = MAP_SIZE / max(maps.shape[-2:])
        small = F.interpolate(maps, scale_factor=min(scale, 1.0), mode="area").squeeze(1)
        masks = F.adaptive_max_pool2d(torch.stack(self.masks)[:, None].float(), small.shape[-2:]).squeeze(1)
        np.savez_compressed(path, maps=small.numpy(), masks=masks.bool().numpy())


def unit_range(values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Bring values to [0, 1] by one increasing line for all, so that no metric changes."""
    if not values:
        return []
    low, high = min(value.min() for value in values), max(value.max() for value in values)
    return [(value - low) / (high - low).clamp(min=torch.finfo(value.dtype).tiny) for value in values]


def build(job: dict[str, Any]) -> tuple[AnomalibModule, AnomalibDataModule]:
    """Build data and model; the split and synthetic defects hang on the data set's seed, all else on the job's."""
    data = job["dataset"]
    arguments = data["arguments"] | ({"root": job["root"]} if job["root"] else {})
    seed_everything(data["arguments"].get("seed") or 0, verbose=False)
    datamodule = get_datamodule({"class_path": data["datamodule"], "init_args": arguments})
    datamodule.prepare_data()
    datamodule.setup(TrainerFn.FITTING)
    for images in [datamodule.test_data, *([datamodule.val_data] if data["proxy"] else [])]:
        if not (images.has_normal and images.has_anomalous):
            msg = (
                "metrics need good and defective images, and there is only one kind to test on; without defective "
                "photographs set `test_split_mode: synthetic`, or `val_split_mode: synthetic` for the proxy"
            )
            raise ValueError(msg)
    seed_everything(job["seed"], verbose=False)
    name = job["model"]["model"]
    cls = getattr(anomalib.models, name, None)
    if cls is None:
        msg = f"anomalib.models has no {name!r}"
        raise ValueError(msg)
    arguments = dict(job["model"]["arguments"]) | {"visualizer": False, "evaluator": False}
    if "seed" in inspect.signature(cls).parameters:
        arguments.setdefault("seed", job["seed"])
    pre_processor = cls.configure_pre_processor(image_size=tuple(data["image_size"]))
    return cls(**arguments, pre_processor=pre_processor), datamodule


def repeat(
    model: AnomalibModule, datamodule: AnomalibDataModule, good_scores: list[float], device: torch.device
) -> dict[str, float]:
    """Score a few images several times, one by one, where the model was trained.

    Returns:
        ``seconds_per_image``, the median in torch, and ``score_spread``, the standard deviation of one image's score
        over the repetitions, as a share of that of good images' scores.
    """
    count = min(REPEATED_IMAGES, len(datamodule.test_data))
    images = [datamodule.test_data[index].image[None].to(device) for index in range(count)]
    seconds, spreads = [], []
    model.eval().to(device)
    with torch.no_grad():
        model(images[0])  # the first pass is slower
        for image in images:
            scores = []
            for _ in range(REPETITIONS):
                start = time.perf_counter()
                scores.append(model(image).pred_score.item())
                seconds.append(time.perf_counter() - start)
            spreads.append(statistics.stdev(scores))
    model.cpu()
    return {
        "seconds_per_image": statistics.median(seconds),
        "score_spread": statistics.mean(spreads) / max(statistics.stdev(good_scores), 1e-12),
    }


def environment(device: torch.device = CPU) -> dict[str, Any]:
    """Describe the machine, with the device where that is not the CPU, and the versions."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), cpu)
    machine = f"{cpu}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return {
        "machine": f"{machine}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else machine,
        "python": platform.python_version(),
        "versions": {"anomalib-ear": anomalib_ear.__version__, **{package: version(package) for package in PACKAGES}},
    }


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Do one job.

    Args:
        job: ``model`` (name, arguments, trainer), ``dataset`` (datamodule, arguments, image size, proxy), ``seed``,
            ``trainer``, ``folder``, ``root`` of the data or ``None``, ``export``.

    Returns:
        What was measured.
    """
    folder = Path(job["folder"])
    model, datamodule = build(job)
    collector = Collector()
    trainer = {"accelerator": "cpu", **job["trainer"], **job["model"]["trainer"]}
    engine = Engine(**trainer, callbacks=[collector], logger=False, default_root_dir=folder)
    row: dict[str, Any] = {"arguments": plain(dict(model.hparams))}
    start = time.perf_counter()
    engine.fit(model, datamodule)
    row["fit_seconds"] = time.perf_counter() - start
    row["epochs"] = engine.trainer.current_epoch
    device = engine.trainer.strategy.root_device
    row["environment"] = environment(device)

    processor = model.post_processor
    flags = processor.enable_normalization, processor.enable_thresholding
    processor.enable_normalization = processor.enable_thresholding = False  # its clamping ties the highest scores
    start = time.perf_counter()
    engine.test(model, datamodule)
    row["test_seconds"] = time.perf_counter() - start
    row |= collector.results()
    good = [score for score, label in zip(collector.scores, collector.labels, strict=True) if not label]
    row |= repeat(model, datamodule, good, device)
    root = Path(datamodule.root)
    # Folders as they are on disk: some datamodules follow a root that is a link, others do not.
    images = [os.path.relpath(path.parent.resolve() / path.name, root.resolve()) for path in map(Path, collector.paths)]
    row |= {"root": str(root), "images": images}
    if job["export"] and collector.maps:
        collector.save_maps(folder / "maps.npz")
        row["maps"] = str(folder / "maps.npz")
    if job["dataset"]["proxy"]:
        engine.test(model, datamodule.val_dataloader())
        row["proxy"] = collector.results()["metrics"]
    row["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    processor.enable_normalization, processor.enable_thresholding = flags

    if job["export"]:
        try:
            # One image of one size: with a dynamic batch some of anomalib's models export for batches of 2 only.
            xml = engine.export(
                model,
                "openvino",
                export_root=folder,
                input_size=tuple(job["dataset"]["image_size"]),
                onnx_kwargs={"dynamic_shapes": None, "opset_version": 18},
            )
            row["model_bytes"] = sum(path.stat().st_size for path in (xml, xml.with_suffix(".bin")))
            row["exported"] = str(xml)
        except Exception as error:  # noqa: BLE001  a model without export still has its accuracy
            row["export_error"] = f"{type(error).__name__}: {error}"[:500]
    return row


def plain(value: Any) -> Any:  # noqa: ANN401  whatever a model takes
    """Reduce arguments to what JSON holds."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if not isinstance(item, torch.nn.Module)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


if __name__ == "__main__":
    the_job = json.load(sys.stdin)
    result = run(the_job)
    (Path(the_job["folder"]) / "row.json").write_text(json.dumps(result))
