# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""How fast exported models answer, side by side, and what they take.

python benchmarks/throughput.py --config configs/throughput.yaml

All models are exported by the same anomalib, untrained: weights do not change what a network costs. What a fit makes
(PatchCore's memory, the statistics of PaDiM and Ear) has the size that the fit gives it. They answer in turn in one
process, so that whatever else the machine does hits all alike. Writes rows as JSON and their tables beside it.
"""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import anomalib.models
import job
import jsonargparse
import numpy as np
import openvino
import results
import timing
import torch
from openvino import opset13
from torch.utils.flop_counter import FlopCounterMode

from anomalib_ear import Ear
from anomalib_ear.quantization import quantise

# What a machine can do at most, in the same rounds: a few large convolutions.
PEAK = "large convolutions"
PEAK_LAYERS, PEAK_CHANNELS, PEAK_SIDE = 4, 256, 64
INTRODUCTION = """\
Untrained models, exported by the same anomalib for one image of one size, in turn in one process: compare within a
table. Latency: one image at a time on all cores. Throughput: as many images at a time as OpenVINO finds best. Medians
over rounds, in brackets the quartiles. *Of the peak*: arithmetic per second as a share of what a few large convolutions
reached in the same rounds and the table's precision, at throughput; *int8* may exceed it. GFLOP: convolutions and
matrix products of one image, a multiplication and an addition counted as two; those of the trained network, before
OpenVINO simplifies it. Memory: the peak of a process that loads the model, scores three images, and does nothing else.
"""


@dataclass
class Model:
    """A model to time.

    Attributes:
        model: Its name in anomalib.
        arguments: Its constructor's arguments; the size of images is the benchmark's.
        memory: For PatchCore the number of patches that it keeps.
        eight_bits: Whether convolutions compute with eight bits, by Ear's recipe; for Ear only.
    """

    model: str
    arguments: dict[str, Any] = field(default_factory=dict)
    memory: int | None = None
    eight_bits: bool = False


def export(model: Model, image_size: tuple[int, int], folder: Path) -> tuple[Path, float]:
    """Export a model with what a fit would give it.

    Returns:
        The OpenVINO model, and its arithmetic in GFLOP.
    """
    torch.manual_seed(0)
    cls = getattr(anomalib.models, model.model)
    built = cls(
        **model.arguments,
        pre_processor=cls.configure_pre_processor(image_size=image_size),
        visualizer=False,
        evaluator=False,
    )
    images = torch.rand(2, 3, *image_size)
    with torch.no_grad():
        if isinstance(built, Ear):
            built.model.train()(images)
            built.model.keep_for_calibration(images)
            built.model.calibrate()
        elif model.model == "Patchcore":
            built.model.train()(images)
            patches = torch.vstack(built.model.embedding_store)
            built.model.memory_bank = patches[torch.randint(len(patches), (model.memory or 1,))]
        elif model.model == "Padim":
            built.model.train()(images)
            built.model.fit()
        built.eval()
        with FlopCounterMode(display=False) as counter:
            built.model(images[:1])
    options = {"dynamic_shapes": None, "opset_version": 18}
    path = built.to_openvino(folder, input_size=image_size, onnx_kwargs=options)
    if model.eight_bits:
        quantised = quantise(openvino.Core().read_model(path), list(images[:, None].numpy()))
        path = path.with_name("eight_bits.xml")
        openvino.save_model(quantised, path, compress_to_fp16=False)
    return path, counter.get_total_flops() / 1e9


def large_convolutions(folder: Path) -> tuple[Path, float]:
    """Write a model that is nothing else.

    Returns:
        The OpenVINO model, and its arithmetic in GFLOP.
    """
    image = opset13.parameter([1, PEAK_CHANNELS, PEAK_SIDE, PEAK_SIDE], np.float32)
    x = image
    kernel = np.random.default_rng(0).random((PEAK_CHANNELS, PEAK_CHANNELS, 3, 3), dtype=np.float32) - 0.5
    for _ in range(PEAK_LAYERS):
        x = opset13.relu(opset13.convolution(x, kernel, [1, 1], [1, 1], [1, 1], [1, 1]))
    path = folder / "peak.xml"
    openvino.save_model(openvino.Model([x], [image]), path, compress_to_fp16=False)
    return path, PEAK_LAYERS * 2 * 9 * PEAK_CHANNELS**2 * PEAK_SIDE**2 / 1e9


def run(
    models: dict[str, Model],
    image_sizes: list[tuple[int, int]],
    output: Path,
    precisions: list[str] = ["f32"],  # noqa: B006  jsonargparse shows it
    rounds: int = timing.ROUNDS,
) -> None:
    """Export, time, and write rows and tables.

    Args:
        models: Models by label.
        image_sizes: Height and width in pixels; each size has a table of its own.
        output: File of the rows; the tables go beside it, with ``.md``.
        precisions: Of the arithmetic, of OpenVINO's names; those that this CPU lacks are left out, and said so.
        rounds: How often each model has its turn.
    """
    able = timing.precisions()
    rows = []
    for size in image_sizes:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            exported = {PEAK: large_convolutions(folder)}
            for index, (label, model) in enumerate(models.items()):
                exported[label] = export(model, size, folder / str(index))
            paths = {label: path for label, (path, _) in exported.items()}
            memory = {label: timing.peak_memory(path) for label, path in paths.items()}
            for precision in precisions:
                if precision not in able:
                    print(f"this CPU has no {precision}: left out.")
                    continue
                seconds = timing.latencies(paths, precision, rounds)
                rates = timing.throughputs(paths, precision, rounds)
                rows += [
                    {
                        "model": label,
                        "image_size": list(size),
                        "precision": precision,
                        "gflop": exported[label][1],
                        "bytes": sum(file.stat().st_size for file in (path, path.with_suffix(".bin"))),
                        "peak_memory_bytes": memory[label],
                        "latency": seconds[label],
                        "throughput": rates[label],
                        "environment": job.environment(),
                    }
                    for label, path in paths.items()
                ]
    results.write_list(output, rows)
    output.with_suffix(".md").write_text(text(rows), encoding="utf-8")


def text(rows: list[dict[str, Any]]) -> str:
    """Return the tables."""
    parts = [
        "<!-- Written by benchmarks/throughput.py; edit nothing here. -->\n",
        "# Speed\n",
        INTRODUCTION,
        f"Machine: {rows[0]['environment']['machine']}.\n",
    ]
    for size, precision in dict.fromkeys((tuple(row["image_size"]), row["precision"]) for row in rows):
        chosen = [row for row in rows if (tuple(row["image_size"]), row["precision"]) == (size, precision)]
        parts.append(f"## {size[0]} × {size[1]} pixels, {precision}\n")
        parts.append(f"The peak: {peak(chosen):.0f} GFLOP/s.\n")
        parts.append(results.markdown(table(chosen)) + "\n")
    if exponents := growth(rows):
        parts.append("Seconds per image grow with the number of pixels to the power of: " + exponents + ".\n")
    else:
        parts.append("Beside accuracy:\n\n![Accuracy over images per second](tradeoff.png)\n")
    return "\n".join(parts)


def peak(rows: list[dict[str, Any]]) -> float:
    """Return what the large convolutions reached, in GFLOP per second."""
    return next(median(row["throughput"]) * row["gflop"] for row in rows if row["model"] == PEAK)


def table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return the table of one size and precision, the fastest first."""
    header = ["model", "latency, ms", "images/s", "of the peak", "GFLOP", "exported, MB", "memory, MB"]
    return [
        header,
        *(
            [
                row["model"],
                results.median_and_quartiles([1000 * value for value in row["latency"]]),
                results.median_and_quartiles(row["throughput"]),
                f"{median(row['throughput']) * row['gflop'] / peak(rows):.0%}",
                f"{row['gflop']:.2f}",
                f"{row['bytes'] / 1e6:.0f}",
                f"{row['peak_memory_bytes'] / 1e6:.0f}",
            ]
            for row in sorted(rows, key=lambda row: -median(row["throughput"]))
            if row["model"] != PEAK
        ),
    ]


def growth(rows: list[dict[str, Any]]) -> str:
    """Fit seconds per image, at throughput in f32, to a power of the number of pixels; nothing for one size."""
    fitted = []
    for label in dict.fromkeys(row["model"] for row in rows if row["model"] != PEAK):
        chosen = [row for row in rows if (row["model"], row["precision"]) == (label, "f32")]
        pixels = np.log([row["image_size"][0] * row["image_size"][1] for row in chosen])
        if len(set(pixels)) > 1:
            slope, _ = np.polyfit(pixels, -np.log([median(row["throughput"]) for row in chosen]), 1)
            fitted.append(f"{label} {slope:.2f}")
    return ", ".join(fitted)


if __name__ == "__main__":
    jsonargparse.auto_cli(run, as_positional=False)
