# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Make parts move that lie still: crop each photograph of KolektorSDD at a place of its own.

    python -m benchmarks.recrop --root datasets/kolektor --output datasets/kolektor_moving

The output has KolektorSDD's layout. A crop has 80 % of each side; its place is drawn by lot, the same for the same
photograph, so that photographs of two parts that are identical stay so, and the split by part finds them. A defect that
is not in the crop is not in its mask, so that the image counts as good.
"""

import hashlib
from pathlib import Path

import jsonargparse
import numpy as np
from PIL import Image

SHARE = 0.8


def recrop(root: Path, output: Path) -> None:
    """Write a crop of each photograph of ``root``, and of its mask, to ``output``, which must not exist."""
    photographs = sorted(root.glob("kos*/*.jpg"))
    if not photographs or output.exists():
        raise SystemExit(
            f"{output} exists; name another folder or remove it."
            if photographs
            else f"{root} has no photographs of KolektorSDD, such as kos01/Part0.jpg."
        )
    for photograph in photographs:
        image = Image.open(photograph)
        rng = np.random.default_rng([*hashlib.sha256(photograph.read_bytes()).digest()])
        width, height = (round(SHARE * side) for side in image.size)
        left, top = (int(rng.integers(side - kept + 1)) for side, kept in zip(image.size, (width, height), strict=True))
        box, folder = (left, top, left + width, top + height), output / photograph.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        image.crop(box).save(folder / photograph.name, quality=100)
        mask = photograph.with_name(f"{photograph.stem}_label.bmp")
        Image.open(mask).crop(box).save(folder / mask.name)


if __name__ == "__main__":
    jsonargparse.auto_cli(recrop, as_positional=False)
