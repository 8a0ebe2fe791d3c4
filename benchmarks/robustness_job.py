# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""One model on one data set with one seed: fit, then score the test images under every change.

Reads a job as ``job.py`` does, and leaves the same file.
"""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openvino
import torch
from anomalib.data import AnomalibDataset
from anomalib.data.utils import LabelName
from lightning.pytorch.trainer.states import TrainerFn
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupShuffleSplit
from torch import Tensor

from anomalib_ear.data import SyntheticDefectDataset
from benchmarks import job as benchmark
from benchmarks.changes import CLEAN, Change, View, changes
from benchmarks.ear import ENOUGH_IMAGES, Data, Model
from benchmarks.metrics import at_threshold, threshold
from benchmarks.store import Row, environment, finish

BATCH = 16
IN_VIEW = 0.25  # share of the defective pixels that must be in view under every change
FIELDS = ("pred_score", "anomaly_map")
HELD_OUT = "held-out images"  # what a row scores in place of the test images
DRAWS = 4  # times that defects are drawn on the held-out images
COMPARED = 3  # photographs by which an exported model is compared with torch's, under each change


class Photographs(NamedTuple):
    """Decoded photographs.

    Attributes:
        images: Of any sizes, uint8 ``(3, H, W)`` on one device.
        labels: Whether they are defective, ``(N,)``.
        paths: Their files.
        marked: Share of each that is marked as defective, ``(N,)``.
    """

    images: list[Tensor]
    labels: Tensor
    paths: list[str]
    marked: Tensor


def framed(data: Data, held_out_by: str | None) -> Data:
    """Let a datamodule's images be the middle of the photographs, and hold out whole parts where the data set says so.

    Args:
        data: The datamodule; it is set up once and for all.
        held_out_by: Pattern of the part in a file's name: of the parts that are not tested a fifth is held out, drawn
            with seed 0, in place of the datamodule's choice.
    """
    data.train_augmentations = data.val_augmentations = data.test_augmentations = View()
    data.setup(TrainerFn.FITTING)
    if held_out_by:
        every = data.train_data + data.val_data
        parts = [re.findall(held_out_by, Path(path).stem)[0] for path in every.samples.image_path]
        kept, held_out = next(GroupShuffleSplit(1, test_size=0.2, random_state=0).split(parts, groups=parts))
        data.train_data, data.val_data = every.subsample(kept.tolist()), every.subsample(held_out.tolist())
    return data


def photographs(dataset: AnomalibDataset, kinds: list[Change], device: torch.device) -> Photographs:
    """Decode whole photographs, without defective ones of which some change leaves too little in view."""
    whole = copy.copy(dataset)
    whole.augmentations = None
    kept: list[Any] = []
    item: Any
    for item in map(whole.__getitem__, range(len(whole))):
        mask = torch.zeros(1, 1) if item.gt_mask is None or not item.gt_label else item.gt_mask.squeeze() > 0
        if mask.any() and any(change.mask(mask, len(kept)).sum() < IN_VIEW * mask.sum() for change in kinds):
            continue
        image = (item.image * 255).round().to(torch.uint8).to(device)
        kept.append((image, bool(item.gt_label), item.image_path, float(mask.float().mean())))
    images, labels, paths, marked = map(list, zip(*kept, strict=True)) if kept else ([], [], [], [])
    return Photographs(images, torch.tensor(labels), paths, torch.tensor(marked))


@torch.no_grad()
def answers(model: Model, images: list[Tensor], change: Change) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield the raw score ``(1,)`` and map ``(1, h, w)``, of models that have maps, of every photograph, changed."""
    for start in range(0, len(images), BATCH):
        changed = [change(image, start + i)[None] / 255 for i, image in enumerate(images[start : start + BATCH])]
        said = model.model(torch.cat([model.pre_processor.transform(image) for image in changed]))
        raw = said.anomaly_map.flatten(1).amax(1) if said.pred_score is None else said.pred_score
        scores = raw.double().cpu().reshape(len(changed), 1)
        yield from zip(scores, [None] * len(changed) if said.anomaly_map is None else said.anomaly_map, strict=True)


def score(model: Model, images: list[Tensor], change: Change) -> Tensor:
    """Return the raw score of every photograph, changed; ``(N,)``."""
    return torch.cat([score for score, _ in answers(model, images, change)])


@torch.no_grad()
def exported_differences(
    model: Model, folder: Path, images: list[Tensor], table: dict[str, Change]
) -> dict[str, float]:
    """Return by how much scores and maps of the exported model differ from torch's at most, under each change.

    Both take the changed photographs, evenly spaced ones of those tested, and resize them.
    """
    path = model.to_openvino(folder, onnx_kwargs=benchmark.ONNX)
    exported = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    chosen = np.linspace(0, len(images) - 1, COMPARED).astype(int).tolist()
    differences = {}
    for name, change in table.items():
        found = []
        for index in chosen:
            photograph = change(images[index].cpu(), index)[None] / 255
            expected, said = model(photograph), exported(photograph.numpy())
            found += [np.abs(said[field] - getattr(expected, field).numpy()).max() for field in FIELDS]
        differences[name] = float(max(found))
    return differences


def drawn(model: Model, dataset: AnomalibDataset, table: dict[str, Change], device: torch.device) -> dict[str, float]:
    """Return the image AUROC of defects that are drawn on good images, under each change.

    ``DRAWS`` times half of the good images of a data set get a defect; all are taken together.
    """
    good = dataset.subsample(np.flatnonzero(dataset.samples.label_index == LabelName.NORMAL).tolist())
    draws = [photographs(SyntheticDefectDataset(good, seed), [*table.values()], device) for seed in range(DRAWS)]
    labels = torch.cat([some.labels for some in draws])
    scores = {name: torch.cat([score(model, some.images, change) for some in draws]) for name, change in table.items()}
    return {name: float(roc_auc_score(labels.numpy(), values.numpy())) for name, values in scores.items()}


def run(job: Row) -> Row:
    """Do a job, which has its ``folder`` and the ``root`` of the data or ``None``."""
    asked, table = job["arguments"], changes(tuple(job["arguments"]["image_size"]))
    data, model = framed(benchmark.load_data(job), asked["held_out_by"]), benchmark.build_model(job)
    engine, metrics = benchmark.fit(job, model, data)
    device = engine.trainer.strategy.root_device
    model.to(device).eval()
    good = photographs(data.val_data, list(table.values()), device)
    good_images = [image for image, defective in zip(good.images, good.labels, strict=True) if not defective]
    if len(good_images) < ENOUGH_IMAGES:
        said = f"the threshold rests on {len(good_images)} held-out good images, fewer than {ENOUGH_IMAGES}"
        metrics["warning"] = said
    limit = threshold(score(model, good_images, table[CLEAN]))
    metrics |= {"threshold": limit, "held_out": len(good_images)}
    if asked["scored"] == HELD_OUT:
        alarms = {name: int((score(model, good_images, change) > limit).sum()) for name, change in table.items()}
        metrics["held_out_alarms"] = {name: [count, len(good_images)] for name, count in alarms.items()}
        metrics["drawn"] = drawn(model, data.val_data, table, device)
        return finish(job, environment(device), metrics)
    test = photographs(data.test_data, list(table.values()), device)
    metrics["left_out"] = len(data.test_data) - len(test.images)
    scores = {name: score(model, test.images, change) for name, change in table.items()}
    metrics["changes"] = {name: at_threshold(of, test.labels, limit) for name, of in scores.items()}
    if asked["class"] == "Ear":  # the others' own needs defective images for validation
        own = model.post_processor.image_threshold.item()
        metrics["own"] = {name: at_threshold(of, test.labels, own) for name, of in scores.items()}
        metrics["exported_difference"] = exported_differences(model.cpu(), Path(job["folder"]), test.images, table)
    return finish(job, environment(device), metrics)


if __name__ == "__main__":
    benchmark.main(run)
