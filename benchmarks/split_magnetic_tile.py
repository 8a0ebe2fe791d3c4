# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Split the magnetic tiles so that no good tile is on both sides.

    python -m benchmarks.split_magnetic_tile --root FOLDER --output datasets/magnetic_tile_by_tile

Each tile was photographed under six lights (``exp1`` to ``exp6``). The numbers in the files' names follow the tiles, so
the photographs of one tile have neighbouring numbers. The good ones are cut into runs of numbers, and a fifth of the
runs, chosen at random, is for testing. The output has links, not copies.
"""

from pathlib import Path

import jsonargparse
import numpy as np

RUNS = 25
DEFECTS = ("blowhole", "break", "crack", "fray", "uneven")


def split(root: Path, output: Path, seed: int = 0) -> None:
    """Link the photographs into ``good_train``, ``good_test``, the defects' folders and ``masks``.

    Args:
        root: Folder of the tiles, with ``good``.
        output: Folder to write, which must not exist.
        seed: Seed of the choice.
    """
    good = sorted((root / "good").glob("*"), key=lambda file: int(file.stem.rsplit("_", 1)[-1]))
    if not good or output.exists():
        reason = f"{output} exists; name another folder or remove it." if good else f"{root / 'good'} is empty."
        raise SystemExit(reason)
    test = set(np.random.default_rng(seed).permutation(RUNS)[: RUNS // 5].tolist())
    for index, run in enumerate(np.array_split(np.arange(len(good)), RUNS)):
        for position in run:
            link(good[position], output / ("good_test" if index in test else "good_train"))
    # Files, not folders: an image is named by the folder that holds it.
    for folder in (path for kind in DEFECTS for path in (Path(kind), Path("masks", kind))):
        for file in sorted((root / folder).iterdir()):
            link(file, output / folder)


def link(file: Path, folder: Path) -> None:
    """Link to a file from a folder, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file.name).symlink_to(file.resolve())


if __name__ == "__main__":
    jsonargparse.auto_cli(split, as_positional=False)
