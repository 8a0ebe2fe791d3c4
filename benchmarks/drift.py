# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""When the line says that light or camera have changed: good parts of SurfaceDemo, unchanged and changed.

    python -m benchmarks.drift --model model.xml --category bracket

The model is one that was trained on the category. The parts are drawn for this and were in no training. Changes are
those of benchmarks.robustness. Directions of a shift or turn are drawn anew for each part, and what comes into view is
reflected.
"""

from pathlib import Path

import jsonargparse
import numpy as np
import pandas as pd
import torch
from torchvision.transforms.v2 import functional as F

from anomalib_ear.data.surface_demo import draw
from anomalib_ear.deploy.drift import SCORE, DriftWatch, measure
from anomalib_ear.deploy.runtime import DeployedModel
from benchmarks.changes import CLEAN, FRAME, changes

# Beyond the numbers of the parts that the data set has.
_FIRST = 1000


def part(category: str, number: int) -> torch.Tensor:
    """Draw a photograph of a good part whose middle is what the camera sees, uint8 ``(3, H, W)``."""
    pixels = torch.from_numpy(np.atleast_3d(draw(category, "test", "good", _FIRST + number, seed=0)[0]).copy())
    image = pixels.permute(2, 0, 1).expand(3, -1, -1).contiguous()
    around = round(image.shape[-1] / FRAME) - image.shape[-1]
    padded: torch.Tensor = F.pad(image, [around - around // 2] * 2 + [around // 2] * 2, padding_mode="reflect")
    return padded


def main(model: Path, category: str, count: int = 200, unchanged: int = 200) -> None:
    """Print the table.

    Args:
        model: Exported model (.xml).
        category: SurfaceDemo's category that it was trained on.
        count: Number of photographs of each change.
        unchanged: Number of photographs without a change.
    """
    deployed = DeployedModel(model)
    rows = []
    for name, change in changes(deployed.size or (256, 256)).items():
        watch, alarms, first = DriftWatch(deployed.good, deployed.threshold), 0, ""
        number = unchanged if name == CLEAN else count
        for index in range(number):
            pixels = change(part(category, index), index).permute(1, 2, 0).numpy()
            image = deployed.prepare(np.ascontiguousarray(pixels))
            prediction = deployed.infer(image)
            alarms += prediction.is_defective
            changed = watch.add({SCORE: prediction.score} | measure(image))
            if changed and not first:
                first = f"{changed}, after {index + 1}"
        rows.append({"change": name, "photographs": number, "alarms, %": 100 * alarms / number, "warns": first or "no"})
        print(rows[-1], flush=True)
    print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".1f"))


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
