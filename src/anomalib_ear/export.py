# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What an exported model says of itself: the precision and the thresholds that its scores were made with.

OpenVINO chooses bfloat16 by itself where there is AMX, and scores drift; and a normalised score can only be undone with
the threshold that normalised it.
"""

import tempfile
from pathlib import Path

import onnx
import openvino
from torch import nn

# Section of the metadata.
SECTION = "anomalib_ear"


def describe(post_processor: nn.Module | None) -> dict[str, str]:
    """Return the metadata of a model.

    Args:
        post_processor: anomalib's, with the thresholds of the validation data, NaN where there were none.
    """
    # Validation and test run in float32 on every machine; only the U-Net's training steps do not.
    metadata = {"precision": "f32"}
    for kind in ("image", "pixel"):
        threshold = getattr(post_processor, f"{kind}_threshold", None)
        if threshold is not None and not threshold.isnan():
            metadata[f"{kind}_threshold"] = repr(float(threshold))
    return metadata


def note_in_onnx(path: Path, metadata: dict[str, str]) -> None:
    """Add metadata to an ONNX model."""
    model = onnx.load(path)
    for name, value in metadata.items():
        model.metadata_props.add(key=f"{SECTION}.{name}", value=value)
    onnx.save(model, path)


def note_in_openvino(path: Path, metadata: dict[str, str]) -> None:
    """Add metadata to an OpenVINO model."""
    model = openvino.Core().read_model(path)
    for name, value in metadata.items():
        model.set_rt_info(value, [SECTION, name])
    # Beside the model, which is in use until it is written.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        openvino.save_model(model, Path(folder, path.name), compress_to_fp16=False)
        for suffix in (".bin", ".xml"):
            Path(folder, path.name).with_suffix(suffix).replace(path.with_suffix(suffix))
