# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Training on several processes: as in one, for whoever looks at thresholds, metrics and files."""

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from PIL import Image

from anomalib_ear import Ear
from conftest import REPOSITORY, surface

# Each process writes what it knows at the end.
SCRIPT = """
import sys, torch
from test_ddp import data, engine, model
if __name__ == "__main__":
    engine, model, data = engine(devices=2, strategy="ddp", max_epochs=2), model(), data(sys.argv[1])
    engine.fit(model, datamodule=data)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    count = model.post_processor._image_threshold_metric.good_images
    metrics = engine.test(model, datamodule=data)[0]
    torch.save((state, count, metrics), f"rank{engine.trainer.global_rank}.pt")
"""
PATHS = (REPOSITORY / "src", REPOSITORY / "tests", Path(__file__).parent)
GOOD, DEFECTIVE = 21, 7


def model() -> Ear:
    """Return a small Ear."""
    return Ear(image_size=(64, 96), channels=[4, 8], visualizer=False)


def engine(**arguments: Any) -> Engine:  # noqa: ANN401
    """Return an engine for the CPU."""
    return Engine(accelerator="cpu", logger=False, enable_progress_bar=False, **arguments)


def data(root: str | Path) -> Folder:
    """Return images, those for validation and those for test odd in number."""
    return Folder(
        name="surface", root=root, normal_dir="good", abnormal_dir="defective", mask_dir="masks", num_workers=0,
        train_batch_size=4, eval_batch_size=1, val_split_mode="from_train", val_split_ratio=0.2, seed=0,
    )  # fmt: skip


class Trained(NamedTuple):
    """A training by two processes.

    Attributes:
        root: Its working directory.
        images: Folder of the images.
        ranks: State of the model, number of good images behind the threshold, and test metrics, of each process.
        output: What it printed.
    """

    root: Path
    images: Path
    ranks: list[tuple[dict[str, torch.Tensor], int, dict[str, float]]]
    output: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return a training by two processes."""
    root = tmp_path_factory.mktemp("two processes")
    for kind in ("good", "defective", "masks"):
        (root / "images" / kind).mkdir(parents=True)
    for index in range(GOOD + DEFECTIVE):
        image, mask = surface(index, defective=index >= GOOD)
        Image.fromarray(image).save(root / "images" / ("defective" if mask.any() else "good") / f"{index:03}.png")
        if mask.any():
            Image.fromarray(mask).save(root / "images" / "masks" / f"{index:03}.png")
    (root / "train.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "train.py", "images"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, PATHS))},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    ranks = [torch.load(root / f"rank{rank}.pt") for rank in range(2)]
    return Trained(root, root / "images", ranks, done.stdout + done.stderr)


def test_every_process_ends_with_the_same_model(trained: Trained) -> None:
    """Weights, statistics and thresholds, to the last digit."""
    first, second = (state for state, _, _ in trained.ranks)
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=0, equal_nan=True, msg=name)


def test_every_image_is_calibrated_by_once(trained: Trained) -> None:
    """All training images, whichever process has seen them, and no image for validation twice."""
    images = data(trained.images)
    images.setup()
    train, validation = len(images.train_data), len(images.val_data)
    assert validation % 2 == 1
    for state, count, _ in trained.ranks:
        assert len(state["post_processor._image_threshold_metric.training_scores"]) == train
        assert count == train + validation


def test_metrics_are_those_of_a_single_process(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No test image is counted twice."""
    monkeypatch.chdir(tmp_path)
    checkpoint = next(trained.root.rglob("model.ckpt"))
    images = data(trained.images)
    single = engine(devices=1).test(model(), datamodule=images, ckpt_path=checkpoint)[0]
    assert len(images.test_data) % 2 == 1
    for _, _, metrics in trained.ranks:
        assert metrics == pytest.approx(single, abs=1e-6)


def test_the_table_has_every_test_image_once(trained: Trained) -> None:
    """Each process scores a part of the images; there is one table of them all."""
    images = data(trained.images)
    images.setup()
    (table,) = trained.root.rglob("scores.csv")
    with table.open(newline="", encoding="utf-8") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert len(paths) == len(set(paths)) == len(images.test_data)


def test_there_is_one_run_folder_and_one_warning(trained: Trained) -> None:
    """The latest run is the one with the checkpoint, and no process repeats what the first one says."""
    runs = trained.root / "results" / "Ear" / "surface"
    assert sorted(path.name for path in runs.iterdir()) == ["latest", "v0"]
    assert (runs / "latest" / "weights" / "lightning" / "model.ckpt").exists()
    assert trained.output.count("The threshold rests on") == 1
