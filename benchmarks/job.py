# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""One model on one data set with one seed: fit, test, measure, export.

Reads a job as JSON from standard input and writes ``row.json`` into its folder. ``run.py`` starts a process for each
job, so that each has a peak of memory of its own, and one that fails costs no other.
"""

import inspect
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import anomalib.models
import numpy as np
import torch
from anomalib.data import ImageBatch, get_datamodule
from anomalib.engine import Engine
from lightning import seed_everything
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.tv_tensors import Mask

from anomalib_ear.data import SyntheticDefectDataset
from benchmarks.ear import Data, Model
from benchmarks.metrics import measure, shares
from benchmarks.store import Row, command, environment, finish

MAP_SIZE = 192  # longest side in pixels of the maps that are kept for the report's gallery
ONNX = {"dynamic_shapes": None, "opset_version": 18}  # with a dynamic batch some models export for batches of 2 only


def examples(model: Model, dataset: Data) -> Iterator[ImageBatch]:
    """Yield the images of a data set one by one, at the model's size."""
    for item in map(dataset.__getitem__, range(len(dataset))):
        size = item.image.shape[-2:]
        truth = torch.zeros(1, *size) if item.gt_mask is None else item.gt_mask.reshape(1, *size)
        image, mask = model.pre_processor.transform(item.image, Mask(truth))
        yield ImageBatch(image[None], gt_label=item.gt_label[None], gt_mask=mask > 0, image_path=[item.image_path])


@torch.no_grad()
def answers(model: Callable[[Tensor], Any], some: Iterable[Any]) -> dict[str, Any]:
    """Ask a network for ``pred_score``, ``anomaly_map`` or both of every example; returns what ``measure`` takes."""
    scores, maps, labels, masks, paths = [], [], [], [], []
    for example in some:
        said = model(example.image)
        if said.anomaly_map is not None:
            maps.append(said.anomaly_map.float().cpu().reshape(1, 1, *example.image.shape[-2:]))
        score = said.anomaly_map.amax() if said.pred_score is None else said.pred_score
        scores.append(score.double().cpu().reshape(1))
        labels.append(example.gt_label.bool())
        masks.append(example.gt_mask)
        paths += example.image_path
    said = {"scores": torch.cat(scores), "labels": torch.cat(labels), "truth": torch.cat(masks), "images": paths}
    return said | {"maps": torch.cat(maps) if maps else None}


def read(folder: Path) -> Row:
    """Read the job of a folder that ``run.py`` left, with its ``checkpoint``, for a new row of it."""
    job: Row = json.loads((folder / "job.json").read_text())
    checkpoint = next(folder.rglob("model.ckpt"), None)
    if checkpoint is None:
        sys.exit(f"no checkpoint in {folder}: make the row with `python -m benchmarks.run`, which leaves one there.")
    return job | {"command": command(), "checkpoint": checkpoint}


def build_data(job: Row) -> Data:
    """Build the datamodule of a job, without reading anything."""
    asked = job["arguments"]
    arguments = asked["data"] | ({"root": job["root"]} if job.get("root") else {})
    seed_everything(asked["data"].get("seed") or 0, verbose=False)
    return get_datamodule({"class_path": asked["datamodule"], "init_args": arguments})


def load_data(job: Row) -> Data:
    """Build and split the data of a job, and refuse those on which nothing can be measured."""
    data = build_data(job)
    data.prepare_data()
    data.setup("fit")
    if not (data.test_data.has_normal and data.test_data.has_anomalous):
        sys.exit(
            "metrics need good and defective images, and there is only one kind to test on; without defective "
            "photographs set `test_split_mode: synthetic`"
        )
    return data


def build_model(job: Row) -> Model:
    """Build the model of a job; the seed is given to it where it has an argument for it."""
    asked = job["arguments"]
    seed_everything(asked["seed"], verbose=False)
    cls = getattr(anomalib.models, asked["class"])
    arguments = asked["model"] | {"visualizer": False, "evaluator": False}
    if "seed" in inspect.signature(cls).parameters:
        arguments.setdefault("seed", asked["seed"])
    # Every model sees the whole image. MH-PatchCore's own pre-processor cuts out the middle.
    source = anomalib.models.Patchcore if cls is anomalib.models.MHPatchcore else cls
    return cls(**arguments, pre_processor=source.configure_pre_processor(image_size=tuple(asked["image_size"])))


def fit(job: Row, model: Model, *data: Data | DataLoader[Any]) -> tuple[Engine, Row]:
    """Fit the model of a job in its folder; returns the engine, which knows the device, and what the fit took.

    Args:
        job: The job, with its ``folder``.
        model: The model.
        *data: A datamodule, or loaders of the images for training and for validation.
    """
    seed_everything(job["arguments"]["seed"], verbose=False)
    settings = {"accelerator": "cpu", **job["arguments"]["trainer"]}
    engine = Engine(**settings, logger=False, default_root_dir=job["folder"])
    start = time.perf_counter()
    engine.fit(model, *data)  # type: ignore[arg-type]  # mypy takes them for all of its arguments
    return engine, {"fit_seconds": time.perf_counter() - start, "epochs": engine.trainer.current_epoch}


def run(job: Row) -> Row:
    """Do a job, which has its ``folder``, the ``root`` of the data or ``None`` and whether to ``export``."""
    folder, asked = Path(job["folder"]), job["arguments"]
    data, model = load_data(job), build_model(job)
    engine, metrics = fit(job, model, data)
    device = engine.trainer.strategy.root_device
    metrics |= test(model.to(device).eval(), data, folder, proxy=asked["proxy"])
    metrics["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if job["export"]:
        size: Any = tuple(asked["image_size"])
        try:
            xml = engine.export(model.cpu(), "openvino", export_root=folder, input_size=size, onnx_kwargs=ONNX)
            metrics["model_bytes"] = size_on_disk(Path(str(xml)))
        except Exception as error:  # noqa: BLE001  # a model without export still has its accuracy
            metrics["export_error"] = f"{type(error).__name__}: {error}"[:500]
    return finish(job, environment(device), metrics)


def test(model: Model, data: Data, folder: Path, *, proxy: bool) -> Row:
    """Return what a trained model finds, and keep in the folder what it says of the test images."""
    start = time.perf_counter()
    said = answers(lambda image: model.model(image.to(model.device)), examples(model, data.test_data))
    found = {"test_seconds": time.perf_counter() - start} | measure(**said)
    found |= shares(said["scores"], said["labels"], model.post_processor.image_threshold.item())
    save(said, folder / "images.npz", Path(data.root))
    if proxy:
        drawn = SyntheticDefectDataset(data.val_data)
        others = answers(lambda image: model.model(image.to(model.device)), examples(model, drawn))
        found |= {f"proxy_{name}": value for name, value in measure(**others).items()}
    return found


def save(said: dict[str, Any], path: Path, root: Path) -> None:
    """Keep scores, and small maps and masks, for the report and for contact sheets."""
    # Folders as they are on disk: some datamodules follow a root that is a link, others do not.
    files = [image.parent.resolve() / image.name for image in map(Path, said["images"])]
    images = [os.path.relpath(file, root.resolve()) for file in files]
    kept = {"root": str(root), "images": images, "labels": said["labels"], "scores": said["scores"]}
    if (maps := said["maps"]) is not None:
        small = F.interpolate(maps, scale_factor=min(MAP_SIZE / max(maps.shape[-2:]), 1.0), mode="area")
        masks = F.adaptive_max_pool2d(said["truth"][:, None].float(), small.shape[-2:])
        kept |= {"maps": small.squeeze(1), "masks": masks.squeeze(1).bool()}
    np.savez_compressed(path, **kept)


def size_on_disk(path: Path) -> int:
    """Return the bytes of an exported model's two files."""
    return sum(file.stat().st_size for file in (path, path.with_suffix(".bin")))


def main(do: Callable[[Row], Row]) -> None:
    """Do the job that standard input has, and leave its row in its folder."""
    the_job = json.load(sys.stdin)
    Path(the_job["folder"], "row.json").write_text(json.dumps(do(the_job)))


if __name__ == "__main__":
    main(run)
