# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What an export refuses, and what an exported model says of itself."""

from pathlib import Path

import onnx
import openvino
import pytest
import torch
from anomalib.deploy import CompressionType

from anomalib_ear import Ear
from anomalib_ear.export import describe


@pytest.fixture(scope="module")
def model() -> Ear:
    """Return Ear, calibrated but hardly trained, with a threshold for images and none for pixels."""
    torch.manual_seed(0)
    ear = Ear(space="pixels", image_size=(32, 32), channels=[4, 8], masking="none", visualizer=False)
    good = torch.rand(4, 3, 32, 32)
    ear.model.train()(good)
    ear.model.keep_for_calibration(good)
    ear.model.calibrate()
    ear.post_processor._image_threshold.fill_(0.4)
    return ear.eval()


@pytest.mark.parametrize("kind", ["to_onnx", "to_openvino", "to_torch"])
def test_a_model_that_is_not_trained_is_not_exported(kind: str, tmp_path: Path) -> None:
    """Its scores would mean nothing; the error says what is missing, and nothing is written."""
    with pytest.raises(ValueError, match="--ckpt_path"):
        getattr(Ear(space="pixels", visualizer=False), kind)(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_onnx_notes_precision_and_thresholds(model: Ear, tmp_path: Path) -> None:
    """Without one for pixels anomalib takes that of images."""
    read = onnx.load(model.to_onnx(tmp_path))
    noted = {entry.key: entry.value for entry in read.metadata_props if entry.key.startswith("anomalib_ear.")}
    assert noted.pop("anomalib_ear.precision") == "f32"
    assert {name: round(float(value), 6) for name, value in noted.items()} == {
        "anomalib_ear.image_threshold": 0.4,
        "anomalib_ear.pixel_threshold": 0.4,
    }


def test_thresholds_that_validation_did_not_give_are_not_noted() -> None:
    """A training without validation data has none."""
    assert describe(Ear(space="pixels", visualizer=False).post_processor) == {"precision": "f32"}
    assert describe(None) == {"precision": "f32"}


def test_openvino_notes_them_and_keeps_its_compression(model: Ear, tmp_path: Path) -> None:
    """Weights of half the size stay so."""
    sizes = {}
    for compression in (None, CompressionType.FP16):
        path = model.to_openvino(tmp_path / str(compression), compression_type=compression)
        read = openvino.Core().read_model(path)
        assert float(read.get_rt_info(["anomalib_ear", "image_threshold"]).astype(str)) == pytest.approx(0.4)
        assert read.get_rt_info(["anomalib_ear", "precision"]).astype(str) == "f32"
        assert sorted(file.name for file in path.parent.iterdir()) == ["model.bin", "model.xml"]
        sizes[compression] = path.with_suffix(".bin").stat().st_size
    assert sizes[CompressionType.FP16] < 0.7 * sizes[None]
