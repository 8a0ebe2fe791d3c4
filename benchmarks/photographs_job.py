# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""A model on some good photographs of a data set, drawn several times: fit, then score others by the threshold.

Reads a job as ``job.py`` does, and leaves the same file.
"""

import functools
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks import job as benchmark
from benchmarks.ear import Ear, Model
from benchmarks.store import Row, environment, finish

UNSEEN, DEFECTIVE = 200, 150  # images to score at most
SCORED_AT_ONCE = 16
VALIDATION = 10  # of so many photographs one is held out, as configs/folder.yaml has it
Indices = NDArray[np.int64]


def draw(good: Indices, count: int, number: int) -> tuple[Indices, Indices, Indices]:
    """Draw photographs of good parts: to train with, to validate with, and unseen ones to test with.

    Larger counts contain smaller ones. Those to train with are in the data set's order, in which neighbours are often
    of one part, as in any training.
    """
    order = np.random.default_rng(number).permutation(good)
    held_out = max(1, count // VALIDATION)
    return np.sort(order[held_out:count]), np.sort(order[:held_out]), order[count:][-UNSEEN:]


@torch.no_grad()
def score(model: Model, loader: "DataLoader[Any]") -> Tensor:
    """Return the raw scores of all images, ``(N,)``."""
    images = (model.pre_processor.transform(batch.image).to(model.device) for batch in loader)
    return torch.cat([model.model(image).pred_score.cpu() for image in images])


def measure(job: Row, loaders: Sequence["DataLoader[Any]"]) -> tuple[Row, torch.device]:
    """Fit, and return the image AUROC, the shares that are rejected and found, and the device.

    Args:
        job: The job.
        loaders: Images for training, validation, and of unseen good and of defective parts.
    """
    model = benchmark.build_model(job)
    with tempfile.TemporaryDirectory() as folder:  # nobody needs the checkpoints
        engine, said = benchmark.fit(job | {"folder": folder}, model, *loaders[:2])
    device = engine.trainer.strategy.root_device
    model.to(device).eval()
    held_out, unseen, defective = (score(model, loader) for loader in loaders[1:])
    limit = model.post_processor.image_threshold.item()  # on raw scores
    said |= {"rejected": share(unseen > limit), "found": share(defective > limit)}
    labels = torch.cat([torch.zeros(len(unseen)), torch.ones(len(defective))])
    said["image_AUROC"] = float(roc_auc_score(labels, torch.cat([unseen, defective]).double()))
    said["rejected_by_held_out_alone"] = share(unseen > torch.quantile(held_out, 0.95))
    return said, device


def share(values: Tensor) -> float:
    """Return the share of those that are true."""
    return float(values.double().mean())


def run(job: Row) -> Row:
    """Do a job; each metric is a list with a value for each draw."""
    asked, data = job["arguments"], benchmark.load_data(job)
    count, draws = asked["photographs"], asked["draws"]
    whole = data.train_data + data.val_data + data.test_data
    whole.augmentations = Ear.configure_pre_processor(tuple(asked["image_size"])).transform
    good, bad = (np.flatnonzero(whole.samples.label_index == kind) for kind in (0, 1))
    if len(good) <= count:
        sys.exit(f"of {len(good)} good photographs none is left unseen by a training with {count}")
    item: Callable[[int], Any] = functools.cache(whole.__getitem__)  # decoded once for all draws and epochs
    load: Callable[..., DataLoader[Any]] = functools.partial(DataLoader, collate_fn=whole.collate_fn)
    metrics: Row = {
        "photographs": count,
        "unseen": min(len(good) - count, UNSEEN),
        "defective": min(len(bad), DEFECTIVE),
    }
    for number in range(draws * job["seed"], draws * (job["seed"] + 1)):
        defective = np.random.default_rng(number).permutation(bad)[:DEFECTIVE]
        parts = (*draw(good, count, number), defective)
        train, *others = ([item(index) for index in part.tolist()] for part in parts)
        loaders = [load(train, asked["data"]["train_batch_size"], shuffle=True)]
        said, device = measure(job, loaders + [load(part, SCORED_AT_ONCE) for part in others])
        for name, value in said.items():
            metrics.setdefault(name, []).append(value)
    return finish(job, environment(device), metrics)


if __name__ == "__main__":
    benchmark.main(run)
