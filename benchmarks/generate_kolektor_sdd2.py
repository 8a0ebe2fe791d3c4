# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Generate a data set with KolektorSDD2's layout, counts and sizes, to try what the real one asks of a machine.

    python benchmarks/generate_kolektor_sdd2.py FOLDER
    anomalib train --config configs/kolektor_sdd2.yaml --data.root FOLDER --trainer.max_epochs 1

The photographs are SurfaceDemo's brushed metal, so figures on them say nothing about KolektorSDD2. About 0.9 GB.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from anomalib_ear.data.kolektor_sdd2 import OFFICIAL_COUNTS
from anomalib_ear.data.surfaces import DEFECTS, render


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", metavar="FOLDER", type=Path, help="where to write; must not exist")
    root = parser.parse_args().root
    root.mkdir(parents=True)
    kinds = list(DEFECTS)
    for first, (folder, (count, defective)) in zip((10000, 20000), OFFICIAL_COUNTS.items(), strict=True):
        (root / folder).mkdir()
        for index in tqdm(range(count), desc=folder):
            rng = np.random.default_rng([first, index])
            size = (630 + int(rng.integers(-8, 9)), 230 + int(rng.integers(-4, 5)))
            kind = kinds[index % len(kinds)] if index < defective else None
            image, mask = render("brushed_metal", rng, defect=kind, size=size)
            while kind is not None and not mask.any():  # a thin one at the border may have no pixel
                image, mask = render("brushed_metal", rng, defect=kind, size=size)
            Image.fromarray(np.repeat(image[..., None], 3, axis=-1)).save(
                root / folder / f"{first + index}.png", compress_level=2
            )
            Image.fromarray(mask.astype(np.uint8) * 255).save(root / folder / f"{first + index}_GT.png")


if __name__ == "__main__":
    main()
