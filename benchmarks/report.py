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
from benchmarks.frames import frame, last_versions
from benchmarks.speed import speed_file

HARD_IMAGES = {True: 4, False: 2}  # defective and good ones in the gallery


def data_uri(picture: Figure | Image.Image) -> str:
    """Put a picture into its address: figures as SVG, photographs as JPEG."""
    buffer, kind = io.BytesIO(), "svg+xml" if isinstance(picture, Figure) else "jpeg"
    if isinstance(picture, Figure):
        picture.savefig(buffer, format="svg", bbox_inches="tight")
    else:
        picture.save(buffer, format=kind, quality=80)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def colors(models: Sequence[str]) -> dict[str, str]:
    """Give each model a colour of its own, however many there are."""
    places = np.linspace(0.05, 0.95, len(models))
    return {model: to_hex(color) for model, color in zip(models, mpl.colormaps["turbo"](places), strict=True)}


def tradeoff(auroc: dict[str, float], rates: dict[str, float]) -> Figure:
    """Draw what models find against how fast they answer."""
    figure = Figure(figsize=(8, 4))
    axes = figure.subplots()
    for model, color in colors([model for model in auroc if model in rates]).items():
        axes.plot(rates[model], auroc[model], "o", color=color, label=model)
    axes.set(xscale="log", xlabel="images per second (OpenVINO, f32)", ylabel="image AUROC")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3, which="both")
    axes.legend(bbox_to_anchor=(1.02, 1), loc="upper left", frameon=False)
    return figure


def wrong_side(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return for each image the share of images of the other kind that its score does not keep apart."""
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
            photo = Image.open(Path(str(first["root"]), name)).convert("RGB").resize(first["maps"].shape[:0:-1])
            pictures = {"image": photo}
            if first["masks"].any():  # else the data set has none
                tint = Image.fromarray(np.uint8(160 * first["masks"][index]))
                pictures["ground truth"] = Image.composite(Image.new("RGB", photo.size, "red"), photo, tint)
            pictures |= {model: heat(images["maps"], index) for model, images in mapped.items()}
            addresses = {label: data_uri(picture) for label, picture in pictures.items()}
            shown.append({"name": name, "kind": "defective" if defective else "good", "pictures": addresses})
    return shown


def heat(maps: NDArray[np.float32], index: int) -> Image.Image:
    """Colour a map on the scale that all maps of its model share."""
    low, high = np.percentile(maps, (50, 99.9))
    level = ((maps[index] - low) / max(high - low, 1e-12)).clip(0, 1)
    return Image.fromarray(mpl.colormaps["inferno"](level, bytes=True)[..., :3])


def section(jobs: Sequence[store.Row], output: Path) -> dict[str, Any]:
    """Return what the page shows of the jobs of one data set: their rows, no others."""
    name, asked = jobs[0]["dataset"], {(job["model"], job["seed"]) for job in jobs}

    def rows_of(path: Path) -> list[store.Row]:
        rows = [row for row in store.newest(store.read(path)) if row["dataset"] == name]
        return [row for row in rows if (row["model"], row["seed"]) in asked]

    rows = tables.finished(rows_of(output))
    paths = {job["model"]: output.parent / store.folder_name(job) / "images.npz" for job in jobs if job["export"]}
    kept = {model: dict(np.load(path)) for model, path in paths.items() if path.exists()}
    timed = rows_of(speed_file(output))
    machine = timed[-1]["machine"] if timed else None
    rates = {
        row["model"]: statistics.median(row["metrics"]["throughput"]) for row in timed if row["machine"] == machine
    }
    grids = [*tables.results(rows), *(tables.speed(timed) if timed else ())]
    there = [row for row in rows if row["machine"] == machine]
    auroc = last_versions(frame(there)).groupby("model")["image_AUROC"].mean().to_dict() if there else {}
    return {
        "name": name,
        "failed": [row for row in rows_of(output) if "error" in row],
        "grids": [(title, grid.columns, grid.to_numpy()) for title, grid in grids],
        "tradeoff": data_uri(tradeoff(auroc, rates)) if rates else None,
        "gallery": gallery(kept),
        "commands": store.together(row["command"] for row in rows),
    }


def write(jobs: Sequence[store.Row], output: Path) -> Path:
    """Write the page of the rows of some jobs, no others, beside the file of the rows; returns the page."""
    names = dict.fromkeys(job["dataset"] for job in jobs)
    sections = [section([job for job in jobs if job["dataset"] == name], output) for name in names]
    page = output.with_name("report.html")
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    page.write_text(templates.get_template("report.html.jinja").render(sections=sections), encoding="utf-8")
    return page
