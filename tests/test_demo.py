# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The generated surfaces can be inspected by Ear."""

from pathlib import Path

from anomalib.engine import Engine

from anomalib_ear import Ear, SurfaceDemo


def test_ear_finds_the_defects(tmp_path: Path) -> None:
    """Two epochs at half the size do better than any global statistic may (0.75, see test_surface_demo.py)."""
    datamodule = SurfaceDemo(root=tmp_path / "data", num_workers=0)
    engine = Engine(max_epochs=2, default_root_dir=tmp_path, accelerator="cpu")
    metrics = engine.train(Ear(image_size=(128, 128), visualizer=False), datamodule=datamodule)[0]
    assert metrics["image_AUROC"] > 0.75
    assert metrics["pixel_AUROC"] > 0.85
