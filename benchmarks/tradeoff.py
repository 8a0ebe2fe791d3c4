# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Draw accuracy against speed.

python benchmarks/tradeoff.py

Reads KolektorSDD's rows of ``run.py``, what ``precision.py`` found of eight bits there and the speeds at the same size
of ``throughput.py``, and writes ``benchmarks/results/tradeoff.png``.
"""

from pathlib import Path
from statistics import mean, median

import matplotlib.pyplot as plt
import results

FOLDER = Path(__file__).with_name("results")
# Row of accuracy by row of speed, where they differ.
TESTED = {"PatchCore, a thousandth": "PatchCore", "PatchCore, a tenth": "PatchCore, a tenth, on a GPU"}


def points() -> dict[str, tuple[float, float]]:
    """Return images per second and image AUROC, the mean over seeds, of each model that has both."""
    rows = [row for row in results.read(FOLDER / "kolektor.jsonl") if "error" not in row]
    accuracy = [(row["model"], row["metrics"]["image_AUROC"]) for row in rows]
    accuracy += [
        (f"{row['model']}, int8", row["image_AUROC"])
        for row in results.read_list(FOLDER / "precision.json")
        if (row["dataset"], row["precision"]) == ("KolektorSDD", "int8")
    ]
    found = {}
    for speed in results.read_list(FOLDER / "speed.json"):
        scores = [score for label, score in accuracy if label == TESTED.get(speed["model"], speed["model"])]
        if scores and speed["precision"] == "f32":
            found[speed["model"]] = (median(speed["throughput"]), mean(scores))
    return found


def draw(path: Path) -> None:
    """Write the picture."""
    figure, axes = plt.subplots(figsize=(8, 3.8), layout="constrained")
    for label, (rate, auroc) in points().items():
        own = label.startswith("Ear")
        axes.plot(rate, auroc, "o", color="tab:red" if own else "tab:gray", markersize=8)
        place, align = (7, 2 if label.endswith("int8") else -9), "left"  # eight bits are near float32: above, below
        if label == "Ear" or label.startswith("PatchCore"):
            place, align = (0, 7), "center"
        elif not own or label.endswith("full size"):
            place, align = (-7, -4), "right"  # right of it are the others
        weight = "bold" if own else None
        axes.annotate(label, (rate, auroc), xytext=place, textcoords="offset points", ha=align, weight=weight)
    axes.set(xscale="log", xlabel="images/s on two cores, 640 × 256", ylabel="image AUROC, KolektorSDD")
    axes.margins(y=0.1)
    left, right = axes.get_xlim()
    axes.set_xlim(0.4 * left, 40 * right)
    axes.set_xticks(ticks := [0.2, 0.5, 1, 2, 5, 10, 20, 50, 100], labels=[f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(FOLDER / "tradeoff.png")
