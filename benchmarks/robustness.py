# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Models on a line that drifts: trained once, tested under every change of ``changes.py``.

    python -m benchmarks.robustness --datasets '[kolektor_by_part, surface_demo]' --seeds '[0, 1, 2]'
    python -m benchmarks.robustness --held_out true --models '["Ear", "Ear, varied by the bounds"]'

A row is a model on a data set with a seed. Its threshold is the score that 5 % of held-out good images, which are not
changed, exceed. Ear is also counted at its own, the one that training gives it. With ``--held_out true`` the held-out
good images are changed too, and such with drawn defects, and no test image is scored: settings are chosen by such rows.
"""

import sys
from pathlib import Path
from typing import Any

import jsonargparse
import pandas as pd

from benchmarks import plan, run, store
from benchmarks.changes import FRAME, changes
from benchmarks.robustness_job import HELD_OUT
from benchmarks.store import Row

MODELS = ["Ear", "Ear, no variation", "PatchCore, a thousandth", "PaDiM", "STFPM", "FRE"]
VALIDATION = 0.2  # of the good training images (or parts) that are held out, where the datamodule draws them


def wanted(job: Row, data: plan.Dataset, *, held_out: bool = False) -> Row:
    """Return the job of ``run.py`` with all that decides a row of this benchmark."""
    asked = job["arguments"]
    if "val_split_ratio" in asked["data"]:
        asked["data"]["val_split_ratio"] = VALIDATION
    asked |= {"frame": FRAME, "changes": list(changes(data.image_size)), "held_out_by": data.held_out_by}
    asked |= {"scored": HELD_OUT if held_out else "test images"}
    return job


def of_held_out(rows: list[Row]) -> pd.DataFrame:
    """Lay out what models make of held-out images: machines, data sets and changes down, measures and models across."""
    lines = [
        {"machine": row["machine"], "data set": row["dataset"], "change": change, "model": row["model"]}
        | {"good images rejected": above / of, "image AUROC of drawn defects": row["metrics"]["drawn"][change]}
        for row in rows
        for change, (above, of) in row["metrics"]["held_out_alarms"].items()
    ]
    return pd.DataFrame(lines).pivot_table(index=["machine", "data set", "change"], columns="model", sort=False)


def robustness(
    datasets: list[str] = ["kolektor_by_part", "magnetic_tile_by_tile", "surface_demo", "bracket"],  # noqa: B006
    models: list[str] = MODELS,
    seeds: list[int] = [0],  # noqa: B006
    roots: dict[str, Path] = {},  # noqa: B006
    trainer: dict[str, Any] = {},  # noqa: B006
    output: Path | None = None,
    again: bool = False,
    jobs: int = 1,
    held_out: bool = False,
) -> int:
    """Make the rows that are missing; ends with 1 if a row failed.

    Args:
        datasets: Data sets: names of files in ``benchmarks/datasets``, or paths of files of your own.
        models: Models of ``benchmarks/models.yaml``.
        seeds: Seeds of training.
        roots: Folder per data set, in place of its ``root``.
        trainer: Settings of Lightning's trainer for every row.
        output: File of the rows; ``results/robustness/robustness.jsonl``, or ``results/held_out/robustness.jsonl`` for
            held-out images. Logs and checkpoints go beside it.
        again: Whether to make every row again.
        jobs: How many rows are made at a time. They share the CPU's cores, unless ``OMP_NUM_THREADS`` is set.
        held_out: Whether the held-out good images are scored in place of the test images.
    """
    output = output or Path("results", "held_out" if held_out else "robustness", "robustness.jsonl")
    the_models, the_datasets = run.what(models, datasets, roots)
    by_label = {data.label: data for data in the_datasets.values()}
    every = run.jobs_of(the_models, the_datasets, seeds, roots, trainer)
    every = [wanted(job, by_label[job["dataset"]], held_out=held_out) for job in every]
    due, failed = run.make(every, output, again=again, module="benchmarks.robustness_job", at_once=jobs)
    made = [row for row in store.newest(store.read(output)) if "drawn" in row["metrics"]]
    if held_out and made:
        table = of_held_out(made)
        for measure in table.columns.unique(0):
            print(f"{measure}:\n{table[measure].to_string(float_format='{:.3f}'.format)}\n")
    print(f"Trained {due - failed} rows, {failed} failed, {len(every) - due} were there. Rows: {output}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(jsonargparse.auto_cli(robustness, as_positional=False))
