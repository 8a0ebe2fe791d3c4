# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Each configuration trains through the stock command, for a few steps."""

import shutil
from pathlib import Path

import pytest

from conftest import REPOSITORY, SHARED_DATA, cli

FEW_STEPS = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.limit_test_batches", "2",
             "--data.num_workers", "0"]  # fmt: skip


def train(config: str, *arguments: str | Path, cwd: Path) -> None:
    """Run one configuration."""
    done = cli("train", "--config", REPOSITORY / "configs" / config, *arguments, *FEW_STEPS, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "image_AUROC" in done.stdout
    assert list(cwd.rglob("model.ckpt"))


def test_demo(tmp_path: Path) -> None:
    """The demo needs nothing but the package."""
    train("demo.yaml", cwd=tmp_path)


def test_folder(surfaces: Path, tmp_path: Path) -> None:
    """A folder of one's own needs its root only."""
    train("folder.yaml", "--data.root", surfaces, cwd=tmp_path)


@pytest.mark.skipif(not (SHARED_DATA / "kolektor").is_dir(), reason="KolektorSDD's licence keeps it out of the project")
def test_kolektor(tmp_path: Path) -> None:
    """KolektorSDD needs its root only."""
    root = tmp_path / "kolektor"
    for part in ("kos01", "kos02", "kos03"):
        shutil.copytree(SHARED_DATA / "kolektor" / part, root / part)
    train("kolektor.yaml", "--data.root", root, cwd=tmp_path)
