# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Each configuration trains through the stock command, for a few steps."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from conftest import REPOSITORY, SHARED_DATA, cli, surface

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


def test_folder_held_out(surfaces: Path, tmp_path: Path) -> None:
    """A folder of good images needs its root only."""
    train("folder_held_out.yaml", "--data.root", surfaces, "--data.val_split_ratio", "0.2", cwd=tmp_path)


def test_kolektor_sdd2(tmp_path: Path) -> None:
    """KolektorSDD2 needs its root only."""
    root = tmp_path / "kolektor_sdd2"
    for folder in ("train", "test"):
        (root / folder).mkdir(parents=True)
        for number in range(20):
            image, mask = surface(number, defective=number % 5 == 0)
            Image.fromarray(image).save(root / folder / f"{number}.png")
            Image.fromarray(mask).save(root / folder / f"{number}_GT.png")
    train("kolektor_sdd2.yaml", "--data.root", root, cwd=tmp_path)


@pytest.mark.skipif(not (SHARED_DATA / "kolektor").is_dir(), reason="KolektorSDD's licence keeps it out of the project")
@pytest.mark.parametrize("config", ["kolektor.yaml", "kolektor_by_part.yaml"])
def test_kolektor(tmp_path: Path, config: str) -> None:
    """KolektorSDD needs its root only."""
    root = tmp_path / "kolektor"
    for part in ("kos01", "kos02", "kos03", "kos04"):
        shutil.copytree(SHARED_DATA / "kolektor" / part, root / part)
    train(config, "--data.root", root, cwd=tmp_path)
