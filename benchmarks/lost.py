# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What a change takes from Ear: which defects are lost, and where good parts are rejected.

    python -m benchmarks.lost --runs '[results/robustness/SurfaceDemo__bracket-Ear-0]'

Reads the folders of rows of ``robustness.py``, which hold the models. A line of the table is a change, the mean over
the rows.
"""

import sys
from pathlib import Path
from typing import Any

import jsonargparse
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from benchmarks.changes import Change, changes
from benchmarks.ear import Ear, Model
from benchmarks.job import load_data, read
from benchmarks.metrics import kinds
from benchmarks.robustness_job import Photographs, answers, framed, photographs
from benchmarks.run import chosen

BORDER = 0.1  # share of a side; a map's peak that is nearer to an edge of the image lies at its border


def at_border(anomaly_map: Tensor) -> bool:
    """Say whether a map ``(h, w)`` is highest near an edge."""
    places = torch.tensor(torch.unravel_index(anomaly_map.argmax(), anomaly_map.shape))
    sides = torch.tensor(anomaly_map.shape)
    return bool((torch.minimum(places + 0.5, sides - places - 0.5) < BORDER * sides).any())


def outcome(model: Model, test: Photographs, change: Change) -> dict[str, float]:
    """Return what Ear, with its own threshold, makes of photographs under a change.

    Returns:
        ``rejected``: share of the good ones; ``rejected at the border``: share of the good ones that are rejected and
        whose map is highest near an edge. Image AUROC of defective ones against all good ones: ``all``, ``smaller``
        (those that are marked no more than the median one), ``larger``, and each kind of defect that has a folder of
        its own.
    """
    scores, maps = (torch.stack(each) for each in zip(*answers(model, test.images, change), strict=True))
    scores, good = scores.flatten(), ~test.labels
    alarms = good & (scores > model.post_processor.image_threshold.item())
    borders = torch.tensor([at_border(map_.squeeze()) for map_ in maps[alarms]])
    small = test.marked <= test.marked[test.labels].median()
    groups = {"all": test.labels, "smaller": test.labels & small, "larger": test.labels & ~small}
    aurocs = {
        name: float(roc_auc_score(group[group | good].numpy(), scores[group | good].numpy()))
        for name, group in groups.items()
        if group.any()
    }
    counts = {"rejected": alarms.sum(), "rejected at the border": borders.sum()}
    said = {name: float(count / good.sum()) for name, count in counts.items()}
    return said | aurocs | kinds(scores, test.labels, test.paths)


def lost(runs: list[Path], names: list[str] = []) -> None:  # noqa: B006  jsonargparse shows it
    """Print what Ear makes of each change, as a table of Markdown.

    Args:
        runs: Folders of rows of Ear in ``robustness.py``'s output, of one data set.
        names: Changes; without any all.
    """
    jobs = [read(folder) for folder in runs]
    of_ear = all(job["arguments"]["class"] == "Ear" and "held_out_by" in job["arguments"] for job in jobs)
    if len({job["dataset"] for job in jobs}) != 1 or not of_ear:
        sys.exit("runs must be folders of rows of Ear in robustness.py's output, one or more, all of one data set.")
    lines: list[dict[str, Any]] = []
    for job in jobs:
        every = changes(tuple(job["arguments"]["image_size"]))
        table = chosen(every, names or [*every])
        model = Ear.load_from_checkpoint(job["checkpoint"], visualizer=False).eval()
        data = framed(load_data(job), job["arguments"]["held_out_by"])
        test = photographs(data.test_data, list(every.values()), torch.device("cpu"))
        lines += [{"change": name} | outcome(model, test, change) for name, change in table.items()]
    print(pd.DataFrame(lines).groupby("change", sort=False).mean().to_markdown(floatfmt=".3f"))


if __name__ == "__main__":
    jsonargparse.auto_cli(lost, as_positional=False)
