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


def train(config: str, *arguments: str | Path, cwd: Path, environment: dict[str, str]) -> None:
    """Run one configuration."""
    command = ("train", "--config", REPOSITORY / "configs" / config, *arguments, *FEW_STEPS)
    done = cli(*command, cwd=cwd, environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "image_AUROC" in done.stdout
    assert list(cwd.rglob("model.ckpt"))


def test_demo(tmp_path: Path) -> None:
    """The demo needs nothing but the package: no network, nothing downloaded before."""
    train("demo.yaml", cwd=tmp_path, environment={"HF_HOME": str(tmp_path / "nothing"), "HF_HUB_OFFLINE": "1"})


def test_folder(surfaces: Path, tmp_path: Path, backbone: dict[str, str]) -> None:
    """A folder of one's own needs its root only."""
    train("folder.yaml", "--data.root", surfaces, cwd=tmp_path, environment=backbone)


def test_folder_held_out(surfaces: Path, tmp_path: Path, backbone: dict[str, str]) -> None:
    """A folder of good images needs its root only."""
    train(
        "folder_held_out.yaml",
        "--data.root",
        surfaces,
        "--data.val_split_ratio",
        "0.2",
        cwd=tmp_path,
        environment=backbone,
    )


def test_kolektor_sdd2(tmp_path: Path, backbone: dict[str, str]) -> None:
    """KolektorSDD2 needs its root only."""
    root = tmp_path / "kolektor_sdd2"
    for folder in ("train", "test"):
        (root / folder).mkdir(parents=True)
        for number in range(20):
            image, mask = surface(number, defective=number % 5 == 0)
            Image.fromarray(image).save(root / folder / f"{number}.png")
            Image.fromarray(mask).save(root / folder / f"{number}_GT.png")
    train("kolektor_sdd2.yaml", "--data.root", root, cwd=tmp_path, environment=backbone)


@pytest.mark.skipif(not (SHARED_DATA / "kolektor").is_dir(), reason="KolektorSDD's licence keeps it out of the project")
@pytest.mark.parametrize("config", ["kolektor.yaml", "kolektor_by_part.yaml"])
def test_kolektor(tmp_path: Path, config: str, backbone: dict[str, str]) -> None:
    """KolektorSDD needs its root only."""
    root = tmp_path / "kolektor"
    for part in ("kos01", "kos02", "kos03", "kos04"):
        shutil.copytree(SHARED_DATA / "kolektor" / part, root / part)
    train(config, "--data.root", root, cwd=tmp_path, environment=backbone)


@pytest.mark.skipif(
    not (SHARED_DATA / "magnetic_tile").is_dir(), reason="the tiles' photographs are not licensed for the project"
)
def test_magnetic_tile(tmp_path: Path, backbone: dict[str, str]) -> None:
    """The magnetic tiles need their root only."""
    root = tmp_path / "tiles"
    for folder in ("good", "blowhole", "break", "crack", "fray", "uneven"):
        (root / folder).mkdir(parents=True)
        for file in sorted((SHARED_DATA / "magnetic_tile" / folder).iterdir())[:20]:
            shutil.copy(file, root / folder)
            mask = SHARED_DATA / "magnetic_tile" / "masks" / folder / f"{file.stem}.png"
            if mask.exists():
                (root / "masks" / folder).mkdir(parents=True, exist_ok=True)
                shutil.copy(mask, root / "masks" / folder)
    train("magnetic_tile.yaml", "--data.root", root, cwd=tmp_path, environment=backbone)
