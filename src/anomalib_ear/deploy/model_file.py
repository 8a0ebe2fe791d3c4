# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""An exported model's two files: read, checked, and what they note. Needs only openvino."""

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openvino

from anomalib_ear.deploy.files import sha256

# Section of an exported model's metadata.
METADATA = "anomalib_ear"
# What it notes of the .bin: its SHA-256, hexadecimal.
WEIGHTS = "weights_sha256"
# It notes these if they hold: that its network sees a part of each image, and that nothing resizes images, which must
# have the size of those of training.
PART, NO_RESIZE = "sees_part", "has_no_resize"
# And these, if they are not 0.5: the score above which it calls a part defective, and its map's value likewise.
LABEL_THRESHOLD, MASK_THRESHOLD = "label_threshold", "mask_threshold"
# Bytes in which a model's first tag stands, after a declaration and maybe a comment.
_BEGINNING = 4096


def read_model(path: Path) -> openvino.Model:
    """Read an anomaly model; see ``DeployedModel`` for what is raised."""
    if path.is_file():
        # Left to guess the format OpenVINO prints what TensorFlow's reader thinks of it.
        is_model = path.suffix.lower() == ".xml" and b"<net" in path.read_bytes()[:_BEGINNING]
        if not is_model:
            msg = f"{path} is no OpenVINO model: give the .xml that `anomalib export --export_type openvino` writes."
            raise ValueError(msg)
    for file in (path, path.with_suffix(".bin")):
        if not file.is_file():
            msg = f"no file {file}: a model is two files, .xml and .bin, as `anomalib export` writes them."
            raise FileNotFoundError(msg)
    with one_line(f"{path} or its .bin is damaged"):
        model = openvino.Core().read_model(path)
    names = {name for output in model.outputs for name in output.get_names()}
    if not {"pred_score", "anomaly_map"} <= names:
        msg = f"{path} has outputs {', '.join(sorted(names))}, an anomaly model has pred_score and anomaly_map."
        raise ValueError(msg)
    weights = metadata(model, WEIGHTS)
    if weights is not None and weights != sha256(path.with_suffix(".bin")):
        msg = f"{path.with_suffix('.bin')} is damaged, or not the one that was exported with {path.name}: copy both."
        raise ValueError(msg)
    shapes = [str(item.partial_shape) for item in model.inputs]
    if len(shapes) != 1 or not model.input(0).partial_shape.compatible(openvino.PartialShape([-1, 3, -1, -1])):
        msg = f"{path} has inputs of shape {', '.join(shapes)}, an anomaly model has one of [N,3,H,W]."
        raise ValueError(msg)
    return model


def digest(path: Path) -> str:
    """Return the SHA-256 of a model's two files together, hexadecimal."""
    return hashlib.sha256(path.read_bytes() + path.with_suffix(".bin").read_bytes()).hexdigest()


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Turn an error of OpenVINO's into one line; what it says last is the reason."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        msg = f"{what}: {reason}"
        raise ValueError(msg) from error


def metadata(model: openvino.Model, name: str) -> str | None:
    """Return what the export noted, ``None`` for models of others."""
    return model.get_rt_info([METADATA, name]).astype(str) if model.has_rt_info([METADATA, name]) else None


def numbers(model: openvino.Model, name: str, most: float = math.inf) -> list[float]:
    """Return the numbers that the export noted, none for models of others.

    Raises:
        ValueError: If one is no finite number from 0 to the most.
    """
    text = metadata(model, name) or ""
    values = [float(number) for number in text.split()]
    if not all(0 <= number <= most and math.isfinite(number) for number in values):
        msg = f"its {name} is {text}"
        raise ValueError(msg)
    return values
