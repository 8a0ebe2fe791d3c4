# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""One model on one data set with one seed: fit, test, measure, export.

Reads a job as JSON from standard input and writes ``rows.json`` into the job's folder. A process of its own per job
gives each an own peak of memory, and lets a failing one cost no other. ``run.py`` starts it.
"""

import inspect
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anomalib.models
import numpy as np
import torch
from anomalib.data import get_datamodule
from anomalib.engine import Engine
from lightning import seed_everything
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # torch's own idiom
from torchvision.tv_tensors import Mask

from benchmarks.ear import Data, Model, check_gates, set_gates
from benchmarks.metrics import measure
from benchmarks.store import Row, environment

# Longest side in pixels of the maps that are kept for the report's gallery.
MAP_SIZE = 192


class Example(NamedTuple):
    """A test image as the network takes it.

    Attributes:
        image: ``(1, 3, H, W)``.
        label: Whether it is defective.
        mask: Its defect, ``(1, H, W)`` bool.
        path: Its file.
    """

    image: Tensor
    label: bool
    mask: Tensor
    path: str


class Answers(NamedTuple):
    """What a model says of all test images, raw, and what is true; as ``metrics.measure`` takes it."""

    scores: Tensor
    labels: Tensor
    maps: Any
    truth: Tensor
    images: list[str]


def examples(model: Model, dataset: Data) -> Iterator[Example]:
    """Yield the images of a data set at the model's size."""
    for index in range(len(dataset)):
        item = dataset[index]
        size = item.image.shape[-2:]
        truth = torch.zeros(1, *size) if item.gt_mask is None else item.gt_mask.reshape(1, *size)
        image, mask = model.pre_processor.transform(item.image, Mask(truth))
        yield Example(image[None], bool(item.gt_label), mask > 0, item.image_path)


@torch.no_grad()
def answers(model: Callable[[Tensor], Any], some: Iterable[Example]) -> Answers:
    """Collect a network's answers to every example; it returns ``pred_score``, ``anomaly_map`` or both."""
    scores, maps, labels, masks, paths = [], [], [], [], []
    for example in some:
        said = model(example.image)
        if said.anomaly_map is not None:
            maps.append(said.anomaly_map.float().cpu().reshape(1, 1, *example.image.shape[-2:]))
        score = said.anomaly_map.amax() if said.pred_score is None else said.pred_score
        scores.append(score.double().cpu().reshape(1))
        labels.append(example.label)
        masks.append(example.mask)
        paths.append(example.path)
    return Answers(torch.cat(scores), torch.tensor(labels), torch.cat(maps) if maps else None, torch.cat(masks), paths)


def build_data(job: Row) -> Data:
    """Build the datamodule of a job, without reading anything."""
    asked = job["arguments"]
    arguments = asked["data"] | ({"root": job["root"]} if job.get("root") else {})
    seed_everything(asked["data"].get("seed") or 0, verbose=False)
    return get_datamodule({"class_path": asked["datamodule"], "init_args": arguments})


def prepare(data: Data, *, proxy: bool = False) -> None:
    """Split, and refuse data on which nothing can be measured."""
    data.prepare_data()
    data.setup("fit")
    for images in [data.test_data, *([data.val_data] if proxy else [])]:
        if not (images.has_normal and images.has_anomalous):
            msg = (
                "metrics need good and defective images, and there is only one kind to test on; without defective "
                "photographs set `test_split_mode: synthetic`, or `val_split_mode: synthetic` for the proxy"
            )
            raise ValueError(msg)


def build_model(job: Row) -> Model:
    """Build the model of a job; the seed is given to it where it has an argument for it.

    Raises:
        ValueError: If anomalib has no such model, or an argument does not fit it.
    """
    asked = job["arguments"]
    seed_everything(asked["seed"], verbose=False)
    cls = getattr(anomalib.models, asked["class"], None)
    if cls is None:
        msg = f"anomalib.models has no {asked['class']!r}"
        raise ValueError(msg)
    arguments = asked["model"] | {"visualizer": False, "evaluator": False}
    if "seed" in inspect.signature(cls).parameters:
        arguments.setdefault("seed", asked["seed"])
    model = cls(**arguments, pre_processor=cls.configure_pre_processor(image_size=tuple(asked["image_size"])))
    for gates in [*job.get("gates", []), asked["model"].get("skip_gates")]:
        if gates:
            check_gates(model, gates)
    return model


def run(job: Row) -> list[Row]:
    """Do one job.

    Args:
        job: A row without results, and ``folder``, ``root`` of the data or ``None``, ``gates`` to test again with,
            and whether to ``export``.

    Returns:
        The row, and one for each further setting of the gates.
    """
    folder, asked = Path(job["folder"]), job["arguments"]
    data, model = build_data(job), build_model(job)
    prepare(data, proxy=asked["proxy"])
    seed_everything(asked["seed"], verbose=False)
    engine = Engine(**{"accelerator": "cpu", **asked["trainer"]}, logger=False, default_root_dir=folder)
    start = time.perf_counter()
    engine.fit(model, data)
    cost: dict[str, Any] = {"fit_seconds": time.perf_counter() - start, "epochs": engine.trainer.current_epoch}
    device = engine.trainer.strategy.root_device
    made = {name: job[name] for name in ("model", "dataset", "seed", "command", "fingerprint", "arguments")}
    made |= environment(device)
    found, said = test(model.to(device).eval(), data, proxy=asked["proxy"])
    save(said, folder / "images.npz", Path(data.root))
    cost["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    rows = []
    for gates in job["gates"]:
        set_gates(model, gates, data)
        changed = {"arguments": asked | {"model": asked["model"] | {"skip_gates": gates}}}
        label = f"{job['model']}: {''.join('01'[gate] for gate in gates)}"
        rows.append(made | changed | {"model": label, "metrics": test(model, data, proxy=asked["proxy"])[0]})
    if job["export"]:
        cost |= export(engine, model.cpu(), folder, asked["image_size"])
    return [made | {"metrics": found | cost}, *rows]


def test(model: Model, data: Data, *, proxy: bool) -> tuple[dict[str, float], Answers]:
    """Return what a trained model finds, and what it says of the test images."""

    def ask(image: Tensor) -> Any:  # noqa: ANN401
        return model.model(image.to(model.device))

    start = time.perf_counter()
    said = answers(ask, examples(model, data.test_data))
    found = {"test_seconds": time.perf_counter() - start} | measure(*said)
    if proxy:
        others = measure(*answers(ask, examples(model, data.val_data)))
        found |= {f"proxy_{name}": value for name, value in others.items()}
    return found, said


def save(said: Answers, path: Path, root: Path) -> None:
    """Keep scores, and small maps and masks, for the report and for contact sheets."""
    # Folders as they are on disk: some datamodules follow a root that is a link, others do not.
    images = [os.path.relpath(image.parent.resolve() / image.name, root.resolve()) for image in map(Path, said.images)]
    kept: dict[str, Any] = {
        "root": str(root),
        "images": images,
        "labels": said.labels.numpy(),
        "scores": said.scores.numpy(),
    }
    if said.maps is not None:
        small = F.interpolate(said.maps, scale_factor=min(MAP_SIZE / max(said.maps.shape[-2:]), 1.0), mode="area")
        masks = F.adaptive_max_pool2d(said.truth[:, None].float(), small.shape[-2:])
        kept |= {"maps": small.squeeze(1).numpy(), "masks": masks.squeeze(1).bool().numpy()}
    np.savez_compressed(path, **kept)


def export(engine: Engine, model: Model, folder: Path, image_size: list[int]) -> dict[str, Any]:
    """Export for OpenVINO; a model without export still has its accuracy."""
    # One image of one size: with a dynamic batch some of anomalib's models export for batches of 2 only.
    options = {"dynamic_shapes": None, "opset_version": 18}
    size: Any = tuple(image_size)
    try:
        xml = engine.export(model, "openvino", export_root=folder, input_size=size, onnx_kwargs=options)
    except Exception as error:  # noqa: BLE001
        return {"export_error": f"{type(error).__name__}: {error}"[:500]}
    return {"model_bytes": size_on_disk(Path(str(xml)))}


def size_on_disk(path: Path) -> int:
    """Return the bytes of an exported model's two files."""
    return sum(file.stat().st_size for file in (path, path.with_suffix(".bin")))


if __name__ == "__main__":
    the_job = json.load(sys.stdin)
    results = run(the_job)
    Path(the_job["folder"], "rows.json").write_text(json.dumps(results))
