# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""A contact sheet of what Ear missed and what it took for a defect, with every step of the method.

    python -m benchmarks.failures --run results/benchmark/KolektorSDD-Ear-0 --output sheet.png

Left the defective images of the lowest scores, lowest first, right the good ones of the highest.
"""

import json
from itertools import zip_longest
from pathlib import Path

import jsonargparse
import numpy as np
import torch
from anomalib.data import ImageBatch
from anomalib.visualization.image.functional import add_text_to_image, create_image_grid
from PIL import Image
from torch.nn import functional as F  # noqa: N812  # torch's own idiom

from benchmarks.ear import TITLE_SIZE, Ear, Item, Model, draw
from benchmarks.job import build_data, prepare
from benchmarks.speed import checkpoint


def sheet(run: Path, output: Path, count: int = 8) -> None:
    """Write the picture, and print which images are on it.

    Args:
        run: Folder that ``run.py`` left of a row of Ear.
        output: Picture to write.
        count: Images of each kind, at most.
    """
    trained = Ear.load_from_checkpoint(checkpoint(run), visualizer=False).eval()
    data = build_data(json.loads((run / "job.json").read_text()))
    prepare(data, proxy=False)
    with np.load(run / "images.npz") as kept:
        scores, defective, images = kept["scores"], kept["labels"], kept["images"]
    order = scores.argsort()
    misses, alarms = order[defective[order]][:count], order[~defective[order]][::-1][:count]
    panels: list[Image.Image] = []
    columns = 0
    for pair in zip_longest(misses, alarms):
        drawn = [
            steps(trained, data.test_data[int(index)], f"{kind}: {scores[index]:.3f}") if index is not None else []
            for index, kind in zip(pair, ("missed", "good"), strict=True)
        ]
        blank = Image.new("RGB", (drawn[0] or drawn[1])[0].size, "white")
        width = max(map(len, drawn))
        panels += [panel for some in drawn for panel in (some or [blank] * width)]
        columns = 2 * width
    create_image_grid(panels, nrow=columns).save(output)
    print("missed, lowest score first:", *images[misses], sep="\n  ")
    print("false alarms, highest score first:", *images[alarms], sep="\n  ")


@torch.no_grad()
def steps(model: Model, item: Item, caption: str) -> list[Image.Image]:
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
