# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What several test files share: tiny surfaces on disk and Ear trained on them."""

import os
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file

from forks import ForkServer, Result

REPOSITORY = Path(__file__).parents[1]
# Photographs whose licences keep them out of the project; tests on them skip without.
SHARED_DATA = Path(os.environ.get("ANOMALIB_EAR_TEST_DATA", "not given"))
SIZE = (70, 104)  # height, width: neither a multiple of the network's stride


# Files whose tests take a minute or more, the longest first.
LONG = (
    "test_case_study", "test_training", "test_run", "test_bulk", "test_export", "test_lightning_model", "test_configs",
    "test_registration", "test_pre_processing", "test_drift", "test_robustness", "test_dino", "test_infer",
    "test_few_photographs", "test_images", "test_watching", "test_surface_demo", "test_ddp", "test_served",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long, then those of most tests: so no process is alone with one at the end."""
    tests = Counter(item.path for item in items)
    place = {name: index for index, name in enumerate(LONG)}
    items.sort(key=lambda item: (place.get(item.path.stem, len(LONG)), -tests[item.path]))


@cache
def fork_server() -> ForkServer:
    """Return the one of this process. timm would read the Hugging Face cache's place before a test sets it."""
    libraries = (
        "cv2",
        "jsonargparse",
        "kornia",
        "lightning.pytorch",
        "omegaconf",
        "onnx",
        "openvino",
        "pandas",
        "sklearn",
        "tifffile",
    )
    return ForkServer(sys.executable, libraries, os.environ, REPOSITORY)


def cli(*args: str | Path, cwd: Path, environment: dict[str, str] | None = None) -> Result:
    """Run the stock ``anomalib`` command in a process of its own."""
    variables = os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "COLUMNS": "200"} | (environment or {})
    return fork_server().run(
        f"import os, sys; os.chdir({str(cwd)!r}); os.environ.clear(); os.environ.update({variables!r}); "
        f"sys.path.insert(0, {str(REPOSITORY / 'src')!r}); sys.argv = {['anomalib', *map(str, args)]!r}; "
        "import anomalib_ear, anomalib.cli.cli as c; c.main()"
    )


def surface(seed: int, *, defective: bool) -> tuple[np.ndarray, np.ndarray]:
    """Draw a lit, grained surface ``(H, W, 3)`` and the mask ``(H, W)`` of its dark blot, both uint8."""
    rng = np.random.default_rng(seed)
    image = 140 + 30 * np.sin(np.arange(SIZE[1]) / 25) + rng.normal(0, 6, SIZE)
    mask = np.zeros(SIZE, np.uint8)
    if defective:
        y, x = rng.integers(10, 40, 2)
        mask[y : y + 12, x : x + 14] = 255
        image[mask > 0] -= 70
    return np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1), mask


@pytest.fixture(scope="session")
def surfaces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``good`` (20) and ``defective`` (6) surfaces, and the masks of the latter."""
    root = tmp_path_factory.mktemp("surfaces")
    for kind in ("good", "defective", "masks"):
        (root / kind).mkdir()
    for index in range(26):
        image, mask = surface(index, defective=index >= 20)
        Image.fromarray(image).save(root / ("defective" if mask.any() else "good") / f"{index:03}.png")
        if mask.any():
            Image.fromarray(mask).save(root / "masks" / f"{index:03}.png")
    return root


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment in which timm finds a ResNet-18 of random weights where it looks for ImageNet's."""
    home = tmp_path_factory.mktemp("huggingface")
    repository = home / "hub" / "models--timm--resnet18.a1_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    torch.manual_seed(0)
    save_file(timm.create_model("resnet18").state_dict(), snapshot / "model.safetensors")
    return {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="session")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of a machine without network and with an empty cache."""
    return {"HF_HOME": str(tmp_path_factory.mktemp("empty")), "HF_HUB_OFFLINE": "1"}


def use(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Set in this process what the environment sets in a new one."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(Path(environment["HF_HOME"], "hub")))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


class Run(NamedTuple):
    """A finished training.

    Attributes:
        root: Working directory of the command.
        checkpoint: What it wrote.
        output: What it printed.
    """

    root: Path
    checkpoint: Path
    output: str


def folder_arguments(surfaces: Path) -> list[str]:
    """Return the command line's part that names the tiny surfaces."""
    return [
        *("--data", "Folder", "--data.name", "surface", "--data.root", str(surfaces)),
        *("--data.normal_dir", "good", "--data.abnormal_dir", "defective", "--data.mask_dir", "masks"),
        *("--data.train_batch_size", "4", "--data.eval_batch_size", "3", "--data.num_workers", "0"),
        *("--data.val_split_mode", "from_train", "--data.val_split_ratio", "0.2", "--data.seed", "0"),
    ]


@pytest.fixture(scope="session", params=["pixels", "tf_efficientnet_lite0"])
def run(
    request: pytest.FixtureRequest, surfaces: Path, backbone: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """Return a run of ``anomalib train --model Ear`` in each kind of space, with settings other than the defaults."""
    root = tmp_path_factory.mktemp("run")
    done = cli(
        "train", "--model", "Ear", "--model.space", request.param, "--model.image_size", "[64,96]",
        "--model.channels", "[4,8,8]", "--model.excised_share", "0.2",
        "--model.mosaic_size", "4",
        "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu",
        *folder_arguments(surfaces), cwd=root, environment=backbone,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(root, next(root.rglob("model.ckpt")).resolve(), done.stdout + done.stderr)
