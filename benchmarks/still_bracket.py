# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Draw good brackets of SurfaceDemo that all lie at one place: the parts that a change of place surprises most.

    python -m benchmarks.still_bracket --output datasets/still_bracket

The data set ``still_bracket`` has no defective photographs, so it serves choices by good images alone.
"""

from pathlib import Path

import jsonargparse
import numpy as np
from PIL import Image

from anomalib_ear.data import parts

COUNT = 200


def draw(output: Path, seed: int = 0) -> None:
    """Write photographs to ``output/good``; ``output`` must not exist."""
    if output.exists():
        msg = f"{output} exists; name another folder or remove it."
        raise SystemExit(msg)
    (output / "good").mkdir(parents=True)
    for index, rng in enumerate(np.random.default_rng(seed).spawn(COUNT)):
        image, _ = parts.render(rng, freedom=0)
        Image.fromarray(image).save(output / "good" / f"{index:03}.png")


if __name__ == "__main__":
    jsonargparse.auto_cli(draw, as_positional=False)
