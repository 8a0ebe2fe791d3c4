# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Each configuration trains through the stock command, for a few steps."""

import json
import re
import shutil
from functools import cache
from pathlib import Path

import pytest
import yaml

from anomalib_ear import Ear
from conftest import REPOSITORY, SHARED_DATA, cli

CONFIGS = [*REPOSITORY.glob("configs/*.yaml"), *REPOSITORY.glob("benchmarks/datasets/*.yaml")]
SIZED = sorted(path for path in CONFIGS if "image_size" in path.read_text())

FEW_STEPS = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.limit_test_batches", "2",
             "--data.num_workers", "0"]  # fmt: skip


def train(config: str, *arguments: str | Path, cwd: Path, environment: dict[str, str]) -> str:
    """Run one configuration, and return what it printed."""
    command = ("train", "--model", "Ear", "--config", REPOSITORY / "configs" / config, *arguments, *FEW_STEPS)
    done = cli(*command, cwd=cwd, environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "image_AUROC" in done.stdout + done.stderr
    assert list(cwd.rglob("model.ckpt"))
    return done.stdout + done.stderr


def test_demo(tmp_path: Path) -> None:
    """The demo needs nothing but the package: no network, nothing downloaded before.

    Two epochs at half the size do better than any global statistic may (0.75, see test_surface_demo.py).
    """
    done = cli(
        "train", "--model", "Ear", "--config", REPOSITORY / "configs" / "demo.yaml", "--model.image_size", "[128,128]",
        "--model.visualizer", "false", "--trainer.max_epochs", "2", "--data.num_workers", "0",
        cwd=tmp_path, environment={"HF_HOME": str(tmp_path / "nothing"), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = {name: float(value) for name, value in re.findall(r"(\w+_AUROC)\W+([\d.]+)", done.stdout)}
    assert metrics["image_AUROC"] > 0.75
    assert metrics["pixel_AUROC"] > 0.85


def test_folder_of_good_photographs(surfaces: Path, tmp_path: Path, backbone: dict[str, str]) -> None:
    """A folder of good photographs needs its root only; what it cannot tell is not printed as 0."""
    arguments = ("--data.root", surfaces, "--data.abnormal_dir", "null")
    said = train("folder.yaml", *arguments, cwd=tmp_path, environment=backbone)
    assert "Not computed: image_AUROC, image_F1Score (no defective image)" in said
    assert "0.0" not in [word for line in said.splitlines() if "Score" in line for word in line.split()]


@pytest.mark.skipif(not (SHARED_DATA / "kolektor").is_dir(), reason="KolektorSDD's licence keeps it out of the project")
@pytest.mark.parametrize("config", ["kolektor.yaml", "kolektor_by_part.yaml"])
def test_kolektor(tmp_path: Path, config: str, backbone: dict[str, str]) -> None:
    """KolektorSDD needs its root only."""
    root = tmp_path / "kolektor"
    for part in ("kos01", "kos02", "kos03", "kos04"):
        shutil.copytree(SHARED_DATA / "kolektor" / part, root / part, ignore=shutil.ignore_patterns("Part[3-7]*"))
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


@cache
def stride(arguments: str) -> int:
    """Return what Ear pads images to multiples of."""
    return Ear(**json.loads(arguments), visualizer=False).model.stride


@pytest.mark.parametrize("path", SIZED, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_no_size_is_padded(path: Path) -> None:
    """Each configuration's image size is a multiple of the stride: padding would be computed for nothing."""
    config = yaml.safe_load(path.read_text())
    arguments = config.get("model", {}).get("init_args", {})
    size = arguments.pop("image_size", None) or config["image_size"]
    multiple = stride(json.dumps(arguments))
    assert all(side % multiple == 0 for side in size), f"{size} is padded to multiples of {multiple}"
