# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Split the magnetic tiles such that no tile is in both training and test.

    python -m benchmarks.split_magnetic_tile --root FOLDER --output datasets/magnetic_tile_by_tile

Each tile was photographed under six lights, one after the other; names hold the light and a number that grows with
time (``exp6_num_1012.jpg``). Where photographs of two tiles alternate, or one is missing, names do not tell which
tile a photograph shows. But where the sixth light is followed by the first, one tile ends and another begins. What
lies between two such places, one tile or a few, is kept together. It is for testing if one of its photographs shows a
defect; of the others a fifth is, drawn by lot. The output has links, not copies. Those of good photographs begin with
the number of the tile, or of the few (``tile_007_exp6_num_1012.jpg``).
"""

from itertools import pairwise
from pathlib import Path

import jsonargparse
from sklearn.model_selection import train_test_split

DEFECTS = ("blowhole", "break", "crack", "fray", "uneven")


def tiles(photographs: list[Path]) -> list[list[Path]]:
    """Return the photographs by tile, or by the few tiles that names do not tell apart."""
    photographs = sorted(photographs, key=lambda file: (int(file.stem.rsplit("_", 1)[-1]), file.name))
    lights = [file.name.split("_", 1)[0] for file in photographs]
    ends = [i for i, both in enumerate(pairwise(lights), 1) if both == ("exp6", "exp1")]
    return [photographs[start:end] for start, end in pairwise([0, *ends, len(photographs)])]


def split(root: Path, output: Path, seed: int = 0) -> None:
    """Link the photographs of ``root`` into folders of ``output``, which must not exist; ``seed`` draws the lots."""
    good = set((root / "good").glob("*"))
    if not good or output.exists():
        raise SystemExit(
            f"{output} exists; name another folder or remove it." if good else f"{root / 'good'} is empty."
        )
    every = tiles([*good, *(file for name in DEFECTS for file in (root / name).iterdir())])
    without_defect = [i for i, tile in enumerate(every) if good.issuperset(tile)]
    train, _ = train_test_split(without_defect, test_size=0.2, random_state=seed)
    links = {
        Path("good_train" if i in train else "good_test", f"tile_{i:03}_{file.name}"): file
        for i, tile in enumerate(every)
        for file in good.intersection(tile)
    }
    folders = [folder for name in DEFECTS for folder in (name, f"masks/{name}")]
    links |= {file.relative_to(root): file for folder in folders for file in (root / folder).iterdir()}
    for link, file in links.items():  # not a folder as one: an image is named by the folder that holds it
        (output / link).parent.mkdir(parents=True, exist_ok=True)
        (output / link).symlink_to(file.resolve())


if __name__ == "__main__":
    jsonargparse.auto_cli(split, as_positional=False)
