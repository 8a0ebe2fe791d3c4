# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""A contact sheet of what Ear finds hardest, with every step of the method.

    python -m benchmarks.failures --run results/benchmark/KolektorSDD-Ear-0 --output sheet.png

Left the defective images of the lowest raw scores, lowest first, right the good ones of the highest: these are missed,
or false alarms, first, wherever the threshold is.
"""

from itertools import zip_longest
from pathlib import Path
from typing import Any

import jsonargparse
import numpy as np
import torch
from anomalib.visualization.image.functional import add_text_to_image, create_image_grid
from PIL import Image

from benchmarks.ear import TITLE_SIZE, Ear, Model, draw
from benchmarks.job import examples, load_data, read


def sheet(run: Path, output: Path, count: int = 8) -> None:
    """Write the picture of a row of Ear, whose folder is ``run``, with ``count`` images of each kind at most."""
    job = read(run)
    trained: Model = Ear.load_from_checkpoint(job["checkpoint"], visualizer=False).eval()
    data = load_data(job).test_data
    with np.load(run / "images.npz") as kept:
        scores, defective, images = kept["scores"], kept["labels"], kept["images"]
    order = scores.argsort()
    lowest, highest = order[defective[order]][:count], order[~defective[order]][::-1][:count]
    left = [steps(trained, data[int(index)], f"defective: {scores[index]:.3f}") for index in lowest]
    right = [steps(trained, data[int(index)], f"good: {scores[index]:.3f}") for index in highest]
    blank = [Image.new("RGB", left[0][0].size, "white")] * len(left[0])
    panels = [panel for pair in zip_longest(left, right, fillvalue=blank) for some in pair for panel in some]
    create_image_grid(panels, nrow=2 * len(blank)).save(output)
    print("defective, lowest raw score first:", *images[lowest], sep="\n  ")
    print("good, highest raw score first:", *images[highest], sep="\n  ")


@torch.no_grad()
def steps(model: Model, item: Any, caption: str) -> list[Image.Image]:  # noqa: ANN401
    """Draw every step of the method on one test image."""
    (example,) = examples(model, [item])
    if item.gt_mask is None:
        example.gt_mask = None
    example.anomaly_map = model.model(example.image).anomaly_map
    panels = draw(model.model, example)[0]
    panels["Image"] = add_text_to_image(panels["Image"], caption, size=TITLE_SIZE, position=(10, 34))
    return list(panels.values())


if __name__ == "__main__":
    jsonargparse.auto_cli(sheet, as_positional=False)
