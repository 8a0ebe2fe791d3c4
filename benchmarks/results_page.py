# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The two pictures of ``docs/results.md``: what each model finds on each data set, and how fast it is."""

from math import nan
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from benchmarks import plan
from benchmarks.frames import busiest_machine, last_versions
from benchmarks.robustness_page import STYLES, in_order, styles

TITLES = {  # of the panels, by the name that rows give a data set
    "KolektorByPart": "KolektorSDD by part", "MagneticTileByTile": "magnetic tiles by tile",
    "SurfaceDemo, bracket": "bracket, moving (drawn)", "KolektorSDD": "KolektorSDD, anomalib's split",
    "MagneticTile": "magnetic tiles at random", "SurfaceDemo": "brushed metal (drawn)",
}  # fmt: skip
REAL = ("KolektorByPart", "MagneticTileByTile")  # real photographs, no part on both sides
OWN_COLOR, RIVALS_COLOR = STYLES[0][0], "0.35"


def compared(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep Ear by its network and every rival, in their last version, on the machine that has most."""
    entries = plan.models().items()
    kept = [label for label, model in entries if model.class_ != "Ear" or not set(model.arguments) - {"space"}]
    data = frame[frame["model"].isin(kept) & frame["dataset"].isin(TITLES)]
    return last_versions(data[data["machine"] == busiest_machine(data)])


def color(model: str) -> str:
    """Return the colour of a model: one for Ear, one for all others."""
    return OWN_COLOR if model.startswith("Ear") else RIVALS_COLOR


def accuracy(frame: pd.DataFrame, path: Path) -> None:
    """Draw image AUROC: a panel for each data set, a line for each model, with the spread over seeds or folds."""
    data = compared(frame)
    models = in_order(data["model"])[::-1]
    figure = Figure(figsize=(10, 6), dpi=160, layout="constrained")
    for axes, (dataset, title) in zip(
        figure.subplots(2, 3, sharex=True, sharey=True).flat, TITLES.items(), strict=True
    ):
        seen = data[data["dataset"] == dataset].groupby("model")["image_AUROC"].agg(["mean", "std"]).fillna(0)
        for row in seen.itertuples():
            at = models.index(row.Index)
            axes.errorbar(row.mean, at, xerr=row.std, color=color(row.Index), marker="o", markersize=7, capsize=3)
        axes.set_title(title, fontsize=11.5)
        axes.set_yticks(range(len(models)), models, fontsize=10)
        dress(axes)
    figure.supxlabel("image AUROC", fontsize=12)
    figure.savefig(path)


def accuracy_over_speed(frame: pd.DataFrame, speed: pd.DataFrame, path: Path) -> None:
    """Draw image AUROC over images per second of the exported model: one point for each model that has both."""
    data, rates = compared(frame), speed.set_index("model")["rate"]
    data = data[data["dataset"].isin(REAL)]
    models = in_order(set(data["model"]) & set(rates.index))
    figure = Figure(figsize=(10, 5), dpi=160, layout=ConstrainedLayoutEngine(rect=(0, 0, 1, 0.82)))  # above: the legend
    for axes, dataset in zip(figure.subplots(1, 2, sharex=True, sharey=True), REAL, strict=True):
        seen = data[data["dataset"] == dataset].groupby("model")["image_AUROC"].mean()
        for model, (hue, marker) in styles(models).items():
            axes.plot(rates[model], seen.get(model, nan), marker, color=hue, markersize=11, label=model, clip_on=False)
        axes.set_title(TITLES[dataset], fontsize=11.5)
        axes.set_xlim(left=0)
        dress(axes)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=4, frameon=False, fontsize=11)
    figure.supxlabel("images per second", fontsize=12)
    figure.supylabel("image AUROC", fontsize=12)
    figure.savefig(path)


def dress(axes: Any) -> None:  # noqa: ANN401  # matplotlib's
    """Dress one panel."""
    axes.grid(alpha=0.25)
    axes.tick_params(labelsize=10)
    axes.spines[["top", "right"]].set_visible(False)
