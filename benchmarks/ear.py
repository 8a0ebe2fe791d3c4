# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""All that the benchmarks know of Ear's inside."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import openvino
from torch import Tensor

import anomalib_ear
from anomalib_ear import Ear
from anomalib_ear.deploy.int8 import quantize
from anomalib_ear.deploy.line import Line
from anomalib_ear.deploy.photographs import find
from anomalib_ear.deploy.runtime import DeployedModel
from anomalib_ear.deploy.threshold import FALSE_ALARMS
from anomalib_ear.host import metrics
from anomalib_ear.host.post_processing import ENOUGH_IMAGES, conformal_quantile
from anomalib_ear.host.visualizer import TITLE_SIZE, draw

__all__ = [
    "ENOUGH_IMAGES", "FALSE_ALARMS", "TITLE_SIZE", "DeployedModel", "Ear", "Line", "conformal_quantile", "draw", "find",
    "metrics",
]  # fmt: skip

# Of anomalib or ours: mypy knows too little of their parts.
Model: TypeAlias = Any
Data: TypeAlias = Any

PACKAGE = Path(anomalib_ear.__file__).parent
# The files by which every model's photographs are read and its maps measured.
COMMON = ("decoding.py", "images.py", "masks.py", "data/reading.py", "host/metrics.py")
# The files that decide what Ear detects.
METHOD = (
    "method/**/*.py", "host/lightning_model.py", "host/post_processing.py", "host/schedule.py", "host/training.py",
    "deploy/threshold.py", "deploy/resize.py", "pretraining/*.safetensors",
)  # fmt: skip


def calibrate(model: Model, images: Tensor) -> None:
    """Give an untrained model statistics of the size that training gives it."""
    model.model(images)
    model.model.keep_for_calibration(images)
    model.model.calibrate()


def to_int8(path: Path, images: Iterable[Any]) -> Path:
    """Quantize an exported model; returns the new file beside it."""
    path_int8 = path.with_name("int8.xml")
    openvino.save_model(quantize(openvino.Core().read_model(path), list(images)), path_int8, compress_to_fp16=False)
    return path_int8
