# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Models with few good photographs: what they find, and the share of unseen good parts that their threshold rejects.

    python -m benchmarks.photographs --seeds '[0, 1, 2, 3]'

A row is a model, a number of photographs of a data set and a seed, with several draws of the photographs.
"""

import copy
import sys
from pathlib import Path
from typing import Any

import jsonargparse

from benchmarks import run
from benchmarks.store import Row

DRAWS = 5  # of a row: a process of its own for each would take longer to start than to train
BATCH = 8  # as configs/folder.yaml has it
# Ear validates its last epoch whatever the interval, and the threshold is of the last validation alone. Those before it
# would calibrate and write a checkpoint each, for nothing.
INTERVAL = {"check_val_every_n_epoch": 1000}
QUIET = {"enable_progress_bar": False}


def wanted(job: Row, count: int) -> Row:
    """Return the job of ``run.py`` for a number of photographs."""
    job = copy.deepcopy(job)
    job["model"] += f", {count} photographs"
    job["arguments"]["data"]["train_batch_size"] = BATCH
    interval = INTERVAL if job["arguments"]["class"] == "Ear" else {}
    trainer = job["arguments"]["trainer"] | interval | QUIET
    job["arguments"] |= {"photographs": count, "draws": DRAWS, "trainer": trainer}
    return job


def photographs(
    datasets: list[str] = ["kolektor", "magnetic_tile"],  # noqa: B006  jsonargparse shows it
    models: list[str] = ["Ear"],  # noqa: B006
    counts: list[int] = [20, 30, 50, 100, 250],  # noqa: B006
    seeds: list[int] = [0],  # noqa: B006
    roots: dict[str, Path] = {},  # noqa: B006
    trainer: dict[str, Any] = {},  # noqa: B006
    output: Path = Path("results/photographs/photographs.jsonl"),
    again: bool = False,
    jobs: int = 1,
) -> int:
    """Make the rows that are missing; ends with 1 if a row failed.

    Args:
        datasets: Data sets: names of files in ``benchmarks/datasets``, or paths of files of your own. Only their images
            and the size of these count; numbers of epochs do not.
        models: Models of ``benchmarks/models.yaml``. Ear has its default number of epochs, PatchCore and others need
            one; give those that need more ``--trainer.max_epochs``.
        counts: Numbers of good photographs to train and validate with.
        seeds: Seeds; each has five draws of its own.
        roots: Folder per data set, in place of its ``root``.
        trainer: Settings of Lightning's trainer for every row.
        output: File of the rows. Logs go beside it.
        again: Whether to make every row again.
        jobs: How many rows are made at a time. They share the CPU's cores, unless ``OMP_NUM_THREADS`` is set.
    """
    the_models, the_datasets = run.what(models, datasets, roots)
    for data in the_datasets.values():  # their epochs are for all photographs
        data.trainer = {}
        data.per_class = {name: own | {"trainer": {}} for name, own in data.per_class.items()}
    some = run.jobs_of(the_models, the_datasets, seeds, roots, trainer)
    every = [wanted(job, count) for count in sorted(counts, reverse=True) for job in some]  # the longest first
    due, failed = run.make(every, output, again=again, module="benchmarks.photographs_job", at_once=jobs)
    print(f"Made {due - failed} rows, {failed} failed, {len(every) - due} were there. Rows: {output}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(jsonargparse.auto_cli(photographs, as_positional=False))
