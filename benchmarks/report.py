# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""One HTML page of what a run made, to show around. It fetches nothing: figures and photographs are in it."""

import base64
import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jinja2 import Environment, FileSystemLoader
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from benchmarks import store, tables
from benchmarks.speed import speed_file

HARD_IMAGES = {True: 4, False: 2}  # defective and good ones in the gallery
KIND_COLORS = {"good": "#4c9f70", "defective": "#c44e52"}
mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})


def data_uri(draw: Figure | Image.Image) -> str:
    """Encode a picture as a data URI: figures as SVG, photographs as JPEG."""
    buffer = io.BytesIO()
    if isinstance(draw, Figure):
        draw.savefig(buffer, format="svg", bbox_inches="tight")
        kind = "svg+xml"
    else:
        draw.convert("RGB").save(buffer, format="jpeg", quality=80)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def colors(models: Sequence[str]) -> dict[str, str]:
    """Give each model a colour of its own, however many there are."""
    return {
        model: to_hex(mpl.colormaps["turbo"](place))
        for model, place in zip(models, np.linspace(0.05, 0.95, len(models)), strict=True)
    }


def tradeoff(auroc: dict[str, float], rates: dict[str, float]) -> Figure:
    """Draw what models find against how fast they answer."""
    figure = Figure(figsize=(8, 4))
    axes = figure.subplots()
    both = [model for model in auroc if model in rates]
    for model, color in colors(both).items():
        axes.plot(rates[model], auroc[model], "o", color=color, label=model)
    axes.set(xscale="log", xlabel="images per second (OpenVINO, f32)", ylabel="image AUROC")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3, which="both")
    axes.legend(bbox_to_anchor=(1.02, 1), loc="upper left", frameon=False)
    return figure


def histograms(kept: dict[str, Any]) -> Figure:
    """Draw the scores of good and defective images of each model."""
    columns = 3
    figure = Figure(figsize=(10, 1.8 * -(-len(kept) // columns)), layout="constrained")
    grid = figure.subplots(-(-len(kept) // columns), columns, squeeze=False).flat
    for axes in grid:
        axes.set_axis_off()
    for axes, (model, images) in zip(grid, kept.items(), strict=False):
        axes.set_axis_on()
        for defective, (kind, color) in enumerate(KIND_COLORS.items()):
            scores = images["scores"][images["labels"] == bool(defective)]
            axes.hist(
                scores,
                np.linspace(images["scores"].min(), images["scores"].max(), 25),
                color=color,
                alpha=0.7,
                label=kind,
            )
        axes.set(title=model, yticks=[])
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure


def wrong_side(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return for each image which share of the other kind's images lies on the wrong side of its score."""
    good, defective = np.sort(scores[~labels]), np.sort(scores[labels])
    above = 1 - np.searchsorted(good, scores, side="left") / len(good)  # good ones that score as high
    below = np.searchsorted(defective, scores, side="right") / len(defective)  # defective ones that score as low
    return np.where(labels, above, below)


def gallery(kept: dict[str, Any]) -> list[dict[str, Any]]:
    """Show the images that the models find hardest, with each model's map on one scale for all images."""
    mapped = {model: images for model, images in kept.items() if "maps" in images}
    if not mapped:
        return []
    first = next(iter(mapped.values()))
    hardness = np.mean([wrong_side(images["scores"], images["labels"]) for images in mapped.values()], axis=0)
    shown = []
    for defective, count in HARD_IMAGES.items():
        candidates = np.flatnonzero(first["labels"] == defective)
        for index in candidates[np.argsort(-hardness[candidates], kind="stable")][:count]:
            name = str(first["images"][index])
            size = first["maps"].shape[:0:-1]
            photo = Image.open(Path(str(first["root"]), name)).convert("RGB").resize(size)
            pictures = {"image": photo, "ground truth": tint(photo, first["masks"][index])}
            pictures |= {model: heat(images["maps"], index) for model, images in mapped.items()}
            addresses = {label: data_uri(picture) for label, picture in pictures.items()}
            shown.append({"name": name, "kind": "defective" if defective else "good", "pictures": addresses})
    return shown


def tint(photo: Image.Image, mask: NDArray[np.bool_]) -> Image.Image:
    """Tint the defective part of a photograph."""
    weight = 0.6 * mask[..., None]
    return Image.fromarray((np.asarray(photo) * (1 - weight) + weight * np.array([255, 40, 40])).astype(np.uint8))


def heat(maps: NDArray[np.float32], index: int) -> Image.Image:
    """Colour a map on the scale that all maps of its model share."""
    low, high = np.percentile(maps, (50, 99.9))
    level = ((maps[index] - low) / max(high - low, 1e-12)).clip(0, 1)
    return Image.fromarray((mpl.colormaps["inferno"](level)[..., :3] * 255).astype(np.uint8))


def accuracy(rows: Sequence[store.Row]) -> list[tuple[str, Any]]:
    """Return the table of accuracy in parts that fit on a screen."""
    parts = {"of images": ("image", "scrapped", "missed"), "of pixels": ("pixel",), "by the proxy": ("proxy",)}
    found = []
    for title, start in parts.items():
        columns = {name: key for name, key in tables.ACCURACY.items() if key.startswith(start)}
        if any(key in row["metrics"] for row in rows for key in columns.values()):
            found.append((f"Accuracy {title}. {tables.machines(rows)}", tables.accuracy(rows, columns)))
    return found


def section(name: str, jobs: Sequence[store.Row], output: Path) -> dict[str, Any]:
    """Return what the page shows of a data set: the rows that were asked for, no others."""
    asked = [(job["dataset"], job["model"].split(": ")[0], job["seed"]) for job in jobs if job["dataset"] == name]
    every = [
        r for r in store.newest(store.read(output)) if (r["dataset"], r["model"].split(": ")[0], r["seed"]) in asked
    ]
    rows = [row for row in every if "error" not in row]
    found: dict[str, Any] = {"name": name, "failed": [row for row in every if "error" in row]}
    if not rows:
        return found
    kept = {}
    for job in jobs:
        path = output.parent / store.folder_name(job) / "images.npz"
        if job["dataset"] == name and job["export"] and path.exists():
            with np.load(path) as images:
                kept[job["model"]] = {key: images[key] for key in images.files}
    timed = [
        row
        for row in store.newest(store.read(speed_file(output)))
        if (row["dataset"], row["model"], row["seed"]) in asked
    ]
    rates = {row["model"]: statistics.median(row["metrics"]["throughput"]) for row in timed}
    auroc = tables.frame(rows).groupby("model", sort=False)["image_AUROC"].mean().to_dict()
    where, cost = tables.cost(rows)
    grids: list[tuple[str, Any]] = [
        *accuracy(rows),
        ("Image AUROC per kind of defect", tables.kinds(rows)),
        (f"Cost on {where}", cost),
        *((f"Speed, exported: {title}", table) for title, table in tables.speed(timed)),
    ]
    return found | {
        "grids": [(title, grid.columns, grid.to_numpy()) for title, grid in grids if grid is not None],
        "tradeoff": data_uri(tradeoff(auroc, rates)) if rates else None,
        "histograms": data_uri(histograms(kept)) if kept else None,
        "gallery": gallery(kept),
        "commands": dict.fromkeys(row["command"] for row in rows),
    }


def write(jobs: Sequence[store.Row], output: Path) -> Path:
    """Write the page of some rows beside their file.

    Args:
        jobs: What was asked for; the page shows no other rows.
        output: File of the rows, beside which ``run.py`` left their folders.

    Returns:
        The page.
    """
    sections = [section(name, jobs, output) for name in dict.fromkeys(job["dataset"] for job in jobs)]
    page = output.with_name("report.html")
    loader = FileSystemLoader(Path(__file__).parent)
    template = Environment(loader=loader, autoescape=True, trim_blocks=True).get_template("report.html.jinja")
    page.write_text(template.render(sections=sections), encoding="utf-8")
    return page
