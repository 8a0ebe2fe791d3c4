# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""One picture of what Ear missed and what it took for a defect, with every step of the method.

python benchmarks/failures.py --results_file benchmarks/results/kolektor.jsonl --dataset KolektorSDD --output sheet.png

Needs the row's checkpoint, which ``run.py`` leaves in ``results/benchmark``, and the data. Left the defective images of
the lowest scores, lowest first, right the good ones of the highest.
"""

from pathlib import Path

import job
import jsonargparse
import numpy as np
import results
import torch
from anomalib.data import ImageBatch, ImageItem
from anomalib.visualization.image.functional import add_text_to_image, create_image_grid
from PIL import Image
from torch.nn import functional as F  # noqa: N812  # torch's own idiom

from anomalib_ear import Ear
from anomalib_ear.visualizer import TITLE_SIZE, draw


def sheet(results_file: Path, dataset: str, output: Path, model: str = "Ear", seed: int = 0, count: int = 8) -> None:
    """Write the picture, and print which images are on it.

    Args:
        results_file: Rows that ``run.py`` wrote.
        dataset: Label of the data set.
        output: Picture to write.
        model: Label of the model, an Ear.
        seed: Its seed, the first of the benchmark's, whose checkpoint is kept.
        count: Images of each kind.

    Raises:
        FileNotFoundError: If there is no such row, or its checkpoint is gone.
    """
    row = next((row for row in results.read(results_file) if results.key(row) == (dataset, model, seed)), None)
    if row is None or "maps" not in row:
        msg = f"{results_file} has no finished row of {model} on {dataset} with seed {seed}, its benchmark's first."
        raise FileNotFoundError(msg)
    checkpoint = next(Path(row["maps"]).parent.rglob("model.ckpt"), None)
    if checkpoint is None:
        msg = f"no checkpoint in {Path(row['maps']).parent}, as in a fresh clone; make the row anew: {row['command']}"
        raise FileNotFoundError(msg)
    trained = Ear.load_from_checkpoint(checkpoint, visualizer=False).eval()
    _, datamodule = job.build(row["spec"] | {"root": row["root"], "seed": seed})
    scores, defective = np.array(row["scores"]), np.array(row["labels"])
    order = scores.argsort()
    misses, alarms = order[defective[order]][:count], order[~defective[order]][::-1][:count]
    lines = [
        [
            *steps(trained, datamodule.test_data[int(miss)], f"missed: {scores[miss]:.3f}"),
            *steps(trained, datamodule.test_data[int(alarm)], f"good: {scores[alarm]:.3f}"),
        ]
        for miss, alarm in zip(misses, alarms, strict=True)
    ]
    create_image_grid([panel for line in lines for panel in line], nrow=len(lines[0])).save(output)
    print("missed, lowest score first:", *(row["images"][index] for index in misses), sep="\n  ")
    print("false alarms, highest score first:", *(row["images"][index] for index in alarms), sep="\n  ")


@torch.no_grad()
def steps(model: Ear, item: ImageItem, caption: str) -> list[Image.Image]:
    """Draw every step of the method on one test image."""
    image = model.pre_processor.transform(item.image)[None]
    truth = torch.zeros(1, 1, 1) if item.gt_mask is None else item.gt_mask.float().reshape(1, *item.gt_mask.shape[-2:])
    batch = ImageBatch(
        image=image,
        gt_mask=F.adaptive_max_pool2d(truth, image.shape[-2:]).bool(),
        anomaly_map=model.model(image).anomaly_map,
    )
    panels = draw(model.model, batch)[0]
    panels["Image"] = add_text_to_image(panels["Image"], caption, size=TITLE_SIZE, position=(10, 34))
    return list(panels.values())


if __name__ == "__main__":
    jsonargparse.auto_cli(sheet, as_positional=False)
