# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Split the magnetic tiles such that few good tiles are on both sides.

    python -m benchmarks.split_magnetic_tile --root FOLDER --output datasets/magnetic_tile_by_tile

Each tile was photographed under six lights (``exp1`` to ``exp6``). Numbers in the files' names count the photographs in
the order of the tiles, so that those of one tile lie side by side. The good ones are cut into runs of numbers, and a
fifth of the runs, drawn by lot, is for testing. The tiles at both ends of a run may be on both sides: 7 of the 35 that
are tested. The output has links, not copies.
"""

from pathlib import Path

import jsonargparse
import numpy as np

RUNS = 25
DEFECTS = ("blowhole", "break", "crack", "fray", "uneven")


def split(root: Path, output: Path, seed: int = 0) -> None:
    """Link the photographs of ``root`` into folders of ``output``, which must not exist; ``seed`` draws the lots."""
    good = sorted((root / "good").glob("*"), key=lambda file: int(file.stem.rsplit("_", 1)[-1]))
    if not good or output.exists():
        raise SystemExit(
            f"{output} exists; name another folder or remove it." if good else f"{root / 'good'} is empty."
        )
    test = set(np.random.default_rng(seed).permutation(RUNS)[: RUNS // 5].tolist())
    runs = enumerate(np.array_split(np.arange(len(good)), RUNS))
    folders = [("good_test" if index in test else "good_train", [good[i] for i in run]) for index, run in runs]
    folders += [(kind, sorted((root / kind).iterdir())) for name in DEFECTS for kind in (name, f"masks/{name}")]
    for folder, files in folders:
        (output / folder).mkdir(parents=True, exist_ok=True)
        for file in files:  # not the folder as one: an image is named by the folder that holds it
            (output / folder / file.name).symlink_to(file.resolve())


if __name__ == "__main__":
    jsonargparse.auto_cli(split, as_positional=False)
