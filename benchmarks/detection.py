# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Write what Ear detects beside its rivals, and against the targets that it was built for.

python benchmarks/detection.py

Reads the results that ``run.py`` wrote and writes ``benchmarks/results/detection.md``.
"""

import statistics
from pathlib import Path

import results

FOLDER = Path(__file__).with_name("results")
OUTPUT = FOLDER / "detection.md"
MODEL, OFFLINE = "Ear", "Ear, attention's features"
# Data set: its results, and the least values of Ear's metrics.
TARGETS = {
    "KolektorSDD": ("kolektor", {"image_AUROC": 0.93, "pixel_AUROC": 0.95, "pixel_AUPRO": 0.78}),
    "KolektorByPart": ("kolektor_by_part", {"image_AUROC": 0.93, "pixel_AUROC": 0.95, "pixel_AUPRO": 0.78}),
    "MagneticTile": ("magnetic_tile", {"image_AUROC": 0.90, "pixel_AUROC": 0.75}),
    "MagneticTileByTile": ("magnetic_tile_by_tile", {}),
    "SurfaceDemo": ("surface_demo", {"image_AUROC": 0.98}),
}
# Those of the space that needs no ImageNet weights.
OFFLINE_TARGETS = {"MagneticTile": {"image_AUROC": 0.80}}
NOTES = {"KolektorByPart": "Mean over the three folds, counted as seeds here: each part is tested once.\n"}
INTRODUCTION = f"""\
Metrics of raw scores on the test images; mean ± standard deviation over the seeds, one seed: no ±. Ear is the default,
with ResNet-18's ImageNet features beside the attention's; “{OFFLINE}” needs no ImageNet weights. What a
line asks: the share of good parts that is scrapped where 95 % of the defective ones are found, and of defective parts
missed where 1 % of the good ones alarms. Plain U-Net (no mask), Autoencoder (no mask, no skips) and RIAD (random masks)
are Ear with these settings, its features and calibration. PatchCore keeps a thousandth of its patches (a hundredth on
SurfaceDemo), since to choose a tenth, its default, takes hours on a CPU; a GPU did so once. Draem has 156 times Ear's
arithmetic for an image ([speed.md](speed.md)): an hour of one core is the first of its paper's 700 epochs, in bfloat16.
On SurfaceDemo it had ten minutes of two cores, which leaves it untrained. On a GPU, which six rows shared for five and
a half minutes, it came to 3 to 7 epochs. It pastes generated textures, since the paper's are a download. Its rows say
what these machines make of it, not what it can do. Rows on a GPU (one H200) saw copies of the images that were resized
beforehand, JPEG of quality 92.
"""


def text() -> str:
    """Return the page."""
    parts = [
        "<!-- Written by benchmarks/detection.py; edit nothing here. -->\n",
        "# Detection\n",
        INTRODUCTION,
    ]
    for dataset, (name, targets) in TARGETS.items():
        path = FOLDER / f"{name}.jsonl"
        rows = [row for row in results.read(path) if "error" not in row]
        parts += [f"## {dataset}\n", *([NOTES[dataset]] if dataset in NOTES else [])]
        parts += [results.markdown(results.table(rows, results.ACCURACY)) + "\n"]
        if columns := results.kind_columns(rows):
            parts += ["Image AUROC per kind of defect:\n", results.markdown(results.table(rows, columns)) + "\n"]
        lines = [
            against(rows, model, metric, least)
            for model, wanted in ((MODEL, targets), (OFFLINE, OFFLINE_TARGETS.get(dataset, {})))
            for metric, least in wanted.items()
        ]
        if lines:
            parts.append(results.markdown([["target", "at least", "reached", "difference"], *lines]) + "\n")
        commands = dict.fromkeys(row["command"] for row in rows)
        parts.append("```bash\n" + "\n".join(commands) + "\n```\n")
    return "\n".join(parts)


def against(rows: list[results.Row], model: str, metric: str, least: float) -> list[str]:
    """Return a line of the table of targets."""
    reached = statistics.mean(row["metrics"][metric] for row in rows if row["model"] == model)
    label = f"{model}: {metric.replace('_', ' ').replace('pixel AUPRO', 'AUPRO')}"
    return [label, f"{least:.2f}", f"{reached:.3f}", f"{reached - least:+.3f}"]


if __name__ == "__main__":
    OUTPUT.write_text(text(), encoding="utf-8")
