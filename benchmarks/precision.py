# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What each precision of the exported model costs in accuracy and gains in speed.

python benchmarks/precision.py --results_file benchmarks/results/kolektor.jsonl --roots.KolektorSDD FOLDER

Takes Ear as ``run.py`` trained it, exports it in every precision, and measures each on the test images. Writes one row
of JSON per data set, model and precision, and their table beside it; what is there is not made again.
"""

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import job
import jsonargparse
import openvino
import results
import timing
import torch
from accuracy import measure
from anomalib.data import AnomalibDataModule
from anomalib.deploy import CompressionType
from scipy.stats import spearmanr
from torch import Tensor, nn
from torchvision.tv_tensors import Mask
from tqdm import tqdm

from anomalib_ear import Ear
from anomalib_ear.torch_model import EarModel

# Name: weights on disk, arithmetic.
PRECISIONS: dict[str, tuple[CompressionType | None, str]] = {
    "float32": (None, "f32"),
    "float16 weights": (CompressionType.FP16, "f32"),
    "bfloat16": (None, "bf16"),
    "int8 weights": (CompressionType.INT8, "f32"),
    "int8": (CompressionType.INT8_PTQ, "f32"),
    "int8, bfloat16": (CompressionType.INT8_PTQ, "bf16"),
}
TORCH = "torch, float32"
METRICS = {"image_AUROC": "image AUROC", "pixel_AUROC": "pixel AUROC", "pixel_AUPRO": "AUPRO"}
INTRODUCTION = """\
Ear with each precision of its OpenVINO export, on the same test images. *float16 weights* and *int8 weights* are
smaller on disk and compute in float32; *bfloat16* is the float32 export with OpenVINO's hint; *int8* is
`--compression_type INT8_PTQ`: convolutions compute with eight bits, all else in float32 or, by the hint, bfloat16;
ranges and statistics from training images. *Order*: Spearman's rank correlation of the test images' scores with
torch's. *Score*, *map*: largest difference from torch's, both normalised, over all test images; *flips*: positions of
the masks that are excised in one of the two only. Images/s: all precisions of a model in turn in one process, medians
over rounds; compare within a model.
"""


def test_images(model: Ear, datamodule: AnomalibDataModule) -> tuple[list[Tensor], Tensor, Tensor]:
    """Return every test image, ``(1, 3, H, W)``, all labels and masks, ``(N, H, W)`` bool, at the model's size."""
    images, labels, masks = [], [], []
    for index in range(len(datamodule.test_data)):
        item = datamodule.test_data[index]
        height, width = item.image.shape[-2:]
        truth = torch.zeros(height, width) if item.gt_mask is None else item.gt_mask
        image, mask = model.pre_processor.transform(item.image, Mask(truth.reshape(1, height, width)))
        images.append(image[None])
        labels.append(bool(item.gt_label))
        masks.append(mask > 0)
    return images, torch.tensor(labels), torch.cat(masks)


class Masks(nn.Module):
    """The part of Ear that excises: ``(N, 3, H, W)`` → masks ``(N, 1, h, w)``, 1 = excised."""

    def __init__(self, model: EarModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """Return the mask."""
        return self.model.recover(image)[0].mask


def count_flips(model: EarModel, images: list[Tensor], arithmetic: str, folder: Path) -> int:
    """Count the positions that torch excises and OpenVINO does not, or the other way round."""
    masks, path = Masks(model).eval(), folder / "masks.onnx"
    torch.onnx.export(masks, (images[0],), path, opset_version=18, external_data=False, verbose=False)
    compiled = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": arithmetic})
    with torch.no_grad():
        return sum(int((masks(image).numpy() != compiled(image.numpy())[0]).sum()) for image in images)


def study(
    row: results.Row, checkpoint: Path, root: Path | None, precisions: dict[str, tuple[CompressionType | None, str]]
) -> list[dict[str, Any]]:
    """Return the rows of one trained model."""
    model, datamodule = job.build(row["spec"] | {"seed": row["seed"], "root": str(root) if root else None})
    model = Ear.load_from_checkpoint(checkpoint).eval()
    datamodule.setup()
    images, labels, truth = test_images(model, datamodule)
    with torch.no_grad():
        answers = [model.post_processor(model.model(image)) for image in tqdm(images, desc=TORCH)]
    expected = torch.cat([answer.pred_score for answer in answers])
    constants = {
        "dataset": row["dataset"],
        "model": row["model"],
        "seed": row["seed"],
        "environment": job.environment(),
    }
    expected_maps = torch.cat([answer.anomaly_map for answer in answers])
    rows: list[dict[str, Any]] = [{"precision": TORCH} | measure(expected, labels, expected_maps, truth)]
    size = tuple(row["spec"]["dataset"]["image_size"])
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for name, (compression, arithmetic) in precisions.items():
            paths[name] = model.to_openvino(
                Path(folder, name.replace(" ", "_")),
                input_size=size,
                compression_type=compression,
                datamodule=datamodule,
                onnx_kwargs={"dynamic_shapes": None},
            )
            compiled = openvino.compile_model(paths[name], "CPU", {"INFERENCE_PRECISION_HINT": arithmetic})
            found = [
                {output.get_any_name(): torch.tensor(value) for output, value in compiled(image.numpy()).items()}
                for image in tqdm(images, desc=name)
            ]
            scores = torch.cat([answer["pred_score"].reshape(1) for answer in found])
            measured = measure(scores, labels, torch.cat([answer["anomaly_map"] for answer in found]), truth)
            size_on_disk = sum(paths[name].with_suffix(suffix).stat().st_size for suffix in (".xml", ".bin"))
            order = float(spearmanr(expected, scores).statistic)
            rows.append({"precision": name, "bytes": size_on_disk, "order": order} | measured)
            if compression is None:
                maps = torch.cat([answer["anomaly_map"] for answer in found])
                rows[-1] |= {
                    "score_difference": float((scores - expected).abs().max()),
                    "map_difference": float((maps - expected_maps).abs().max()),
                    "flips": count_flips(model.model, images, arithmetic, Path(folder)),
                }
        rates = timing.throughputs(paths, {name: arithmetic for name, (_, arithmetic) in precisions.items()})
    return [constants | found | {"throughput": rates.get(found["precision"])} for found in rows]


def run(
    results_file: Path,
    output: Path = Path("benchmarks/results/precision.json"),
    folder: Path = Path("results/benchmark"),
    models: list[str] = ["Ear", "Ear, attention's features"],  # noqa: B006  jsonargparse shows it
    seed: int = 0,
    roots: dict[str, Path] = {},  # noqa: B006
) -> None:
    """Measure the models that ``run.py`` left, and write the table.

    Args:
        results_file: Results of ``run.py``.
        output: File of the rows; the table goes beside it, with ``.md``.
        folder: Where ``run.py`` left checkpoints.
        models: Labels of the models.
        seed: Seed of their training.
        roots: Folder per data set.
    """
    able = timing.precisions()
    precisions = {name: value for name, value in PRECISIONS.items() if value[1] in able}
    for row in results.read(results_file):
        made = {(found["dataset"], found["model"], found["seed"]) for found in results.read_list(output)}
        if row["model"] not in models or row["seed"] != seed or results.key(row) in made:
            continue
        name = results.name(row)
        checkpoint = next((folder / results_file.stem / name).rglob("model.ckpt"), None)
        if checkpoint is None:
            msg = f"no checkpoint under {folder / results_file.stem / name}: make the row anew with benchmarks/run.py."
            raise SystemExit(msg)
        found = study(row, checkpoint, roots.get(row["dataset"]), precisions)
        results.write_list(output, [*results.read_list(output), *found])
    output.with_suffix(".md").write_text(text(results.read_list(output)), encoding="utf-8")


def text(rows: list[dict[str, Any]]) -> str:
    """Return the page."""
    parts = ["<!-- Written by benchmarks/precision.py; edit nothing here. -->\n", "# Precision\n", INTRODUCTION]
    for dataset, model in dict.fromkeys((row["dataset"], row["model"]) for row in rows):
        chosen = [row for row in rows if (row["dataset"], row["model"]) == (dataset, model)]
        reference = next(median(row["throughput"]) for row in chosen if row["precision"] == "float32")
        differences = ("score", "map", "flips")
        table = [["precision", *METRICS.values(), "order", *differences, "images/s", "times float32", "MB"]]
        for row in chosen:
            rate, order, size = row["throughput"], row.get("order"), row.get("bytes")
            table.append(
                [
                    row["precision"],
                    *(f"{row[name]:.4f}" for name in METRICS),
                    f"{order:.4f}" if order else "–",
                    *(f"{row[key]:.0e}" if key in row else "–" for key in ("score_difference", "map_difference")),
                    str(row.get("flips", "–")),
                    f"{median(rate):.1f}" if rate else "–",
                    f"{median(rate) / reference:.2f}" if rate else "–",
                    f"{size / 1e6:.0f}" if size else "–",
                ]
            )
        parts += [f"## {dataset}: {model}, seed {chosen[0]['seed']}\n", results.markdown(table) + "\n"]
    parts.append(f"Machine: {rows[-1]['environment']['machine']}.\n")
    return "\n".join(parts)


if __name__ == "__main__":
    jsonargparse.auto_cli(run, as_positional=False)
