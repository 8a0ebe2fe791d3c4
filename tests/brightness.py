# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The line on a model whose score is a photograph's brightness, so that a score says which photograph it is of."""

import csv
from pathlib import Path

import numpy as np
import openvino
from openvino import opset13 as ops
from PIL import Image

from anomalib_ear.deploy.infer import main


def brightness_model(
    folder: Path, *, divisor: float = 1, channels: int = 3, score: str = "pred_score", **notes: str
) -> Path:
    """Write a model with the interface of anomalib's exports, maybe with notes of training; returns its .xml."""
    image = ops.parameter([-1, channels, -1, -1], np.float32, name="input")
    grey = ops.divide(ops.reduce_mean(image, [1], keep_dims=True), np.float32(divisor))
    mean = ops.reduce_mean(grey, [1, 2, 3], keep_dims=False)
    grey.output(0).set_names({"anomaly_map"})
    mean.output(0).set_names({score})
    model = openvino.Model([mean, grey], [image])
    for name, value in notes.items():
        model.set_rt_info(value, ["anomalib_ear", name])
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return folder / "model.xml"


def photograph(path: Path | bytes, level: int) -> None:
    """Write a photograph of one brightness; all of one size and suffix have as many bytes."""
    path = Path(path.decode(errors="surrogateescape")) if isinstance(path, bytes) else path
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower().removeprefix(".")
    with path.open("wb") as file:
        kind = {"jpg": "jpeg", "tif": "tiff", "pgm": "ppm"}.get(suffix, suffix)
        options = {"compress_level": 0} if kind == "png" else {}
        Image.new("L", (20, 10), level).save(file, kind, **options)


def inspect(model: Path, source: Path | str, output: Path, *options: str) -> int:
    """Run the command; returns its status."""
    return main(["--model", str(model), "--input", str(source), "--output", str(output), *options])


def scored(output: Path) -> dict[str, float]:
    """Read the table as a user does: brightness from 0 to 255 by path, each path once."""
    with (output / "scores.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {row["path"]: round(float(row["normalised_score"]) * 255) for row in rows}
    assert len(found) == len(rows)
    return found
