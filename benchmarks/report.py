# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Write results as one self-contained HTML page and as Markdown tables.

    python benchmarks/report.py --output benchmarks/results/surface_demo.jsonl --html report.html

``run.py`` does so at its end. The page fetches nothing: figures and photographs are in it. The gallery needs the maps
that the run left behind, and the data set.
"""

import base64
import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonargparse
import matplotlib as mpl
import numpy as np
import results
from jinja2 import Environment, FileSystemLoader
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image
from sklearn.metrics import precision_recall_curve, roc_curve

HARD_IMAGES = {True: 4, False: 2}  # defective and good ones in the gallery
KIND_COLORS = {"good": "#4c9f70", "defective": "#c44e52"}
COLORS = mpl.colormaps["tab10"].colors
mpl.rcParams.update(
    {"font.size": 9, "svg.hashsalt": "anomalib-ear", "axes.spines.top": False, "axes.spines.right": False}
)


def data_uri(content: bytes, kind: str) -> str:
    """Put a picture into its address."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def svg(figure: Figure) -> str:
    """Draw a figure as an address."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return data_uri(buffer.getvalue(), "svg+xml")


def jpeg(picture: Image.Image) -> str:
    """Write a picture as an address."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, format="jpeg", quality=80)
    return data_uri(buffer.getvalue(), "jpeg")


class Dataset:
    """One data set's part of the report.

    Args:
        name: The data set's label.
        rows: Its rows, failed ones among them.
        latencies: Seconds per round for each model that was timed.
    """

    def __init__(self, name: str, rows: Sequence[results.Row], latencies: dict[str, list[float]]) -> None:
        self.name = name
        self.failed = [row for row in rows if "error" in row]
        self.rows = [row for row in rows if "error" not in row]
        self.latencies = latencies
        self.first: dict[str, results.Row] = {}  # the first seed's
        for row in self.rows:
            self.first.setdefault(row["model"], row)
        self.colors = {model: to_hex(COLORS[index % len(COLORS)]) for index, model in enumerate(self.first)}

    @property
    def counts(self) -> str:
        """Say what was tested."""
        labels = next(iter(self.first.values()))["labels"]
        height, width = self.rows[0]["spec"]["dataset"]["image_size"]
        return f"{labels.count(False)} good and {labels.count(True)} defective test images at {height} × {width} pixels"

    @property
    def accuracy(self) -> list[list[str]]:
        """Return the table of metrics."""
        return results.table(self.rows, (*results.ACCURACY, *results.PROXY))

    @property
    def kinds(self) -> list[list[str]]:
        """Return the table of image AUROC per kind of defect, empty where kinds are not told apart."""
        columns = results.kind_columns(self.rows)
        return results.table(self.rows, columns) if columns else []

    @property
    def cost(self) -> list[list[str]]:
        """Return the table of times and sizes."""

        def timed(row: results.Row) -> list[float] | None:
            return self.latencies.get(row["model"]) if row is self.first[row["model"]] else None

        columns = (
            results.Column(
                "OpenVINO, ms per image", lambda row: 1e3 * statistics.median(timed(row)) if timed(row) else None, 1
            ),
            results.Column(
                "images per second", lambda row: 1 / statistics.median(timed(row)) if timed(row) else None, 1
            ),
            *results.COST,
        )
        return results.table(self.rows, columns)

    @property
    def commands(self) -> list[str]:
        """Return each command once."""
        return list(dict.fromkeys(row["command"] for row in self.rows))

    @property
    def environments(self) -> list[str]:
        """Return each machine and set of versions once."""
        return list(
            dict.fromkeys(
                f"{row['environment']['machine']}; Python {row['environment']['python']}; "
                + ", ".join(f"{name} {number}" for name, number in row["environment"]["versions"].items())
                for row in self.rows
            )
        )

    def accuracy_against_throughput(self) -> str | None:
        """Plot what a model finds against how fast it answers."""
        if not self.latencies:
            return None
        figure = Figure(figsize=(6, 3.6))
        axes = figure.subplots()
        for model, seconds in self.latencies.items():
            values = [row["metrics"]["image_AUROC"] for row in self.rows if row["model"] == model]
            if values:
                x, y = 1 / statistics.median(seconds), statistics.mean(values)
                axes.errorbar(
                    x, y, yerr=statistics.stdev(values) if len(values) > 1 else None, fmt="o", color=self.colors[model]
                )
                axes.annotate(model, (x, y), xytext=(6, 4), textcoords="offset points")
        axes.set(xscale="log", xlabel="images per second (OpenVINO, f32, one at a time)", ylabel="image AUROC")
        axes.margins(x=0.25, y=0.15)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3, which="both")
        return svg(figure)

    def curves(self) -> dict[str, str]:
        """Plot ROC and precision-recall curves of the first seed, image and pixel; by what they show."""
        grid = np.linspace(0, 1, 101)
        curves: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {
            f"{kind}: {curve}": {} for kind in ("image", "pixel") for curve in ("ROC", "precision and recall")
        }
        for model, row in self.first.items():
            false_positives, true_positives, _ = roc_curve(row["labels"], row["scores"])
            precision, recall, _ = precision_recall_curve(row["labels"], row["scores"])
            curves["image: ROC"][model] = false_positives, true_positives
            curves["image: precision and recall"][model] = recall, precision
            if row["curves"]:
                curves["pixel: ROC"][model] = grid, row["curves"]["pixel_tpr"]
                curves["pixel: precision and recall"][model] = grid, row["curves"]["pixel_precision"]
        return {title: self._curve(title, lines) for title, lines in curves.items() if lines}

    def _curve(self, title: str, lines: dict[str, tuple[np.ndarray, np.ndarray]]) -> str:
        figure = Figure(figsize=(4.2, 3.4))
        axes = figure.subplots()
        for model, line in lines.items():
            axes.plot(*line, color=self.colors[model], linewidth=2.4 if model == "Ear" else 1.2)
        is_roc = title.endswith("ROC")
        axes.set(
            title=title,
            xlabel="false positive rate" if is_roc else "recall",
            ylabel="true positive rate" if is_roc else "precision",
            xlim=(-0.02, 1.02),
            ylim=(-0.02, 1.02),
        )
        axes.grid(alpha=0.3)
        return svg(figure)

    def histograms(self) -> dict[str, str]:
        """Plot the scores of good and defective images of the first seed, by model."""
        pictures = {}
        for model, row in self.first.items():
            scores, labels = np.array(row["scores"]), np.array(row["labels"])
            figure = Figure(figsize=(3.2, 1.9))
            axes = figure.subplots()
            bins = np.linspace(scores.min(), scores.max(), 25)
            for color, chosen in zip(KIND_COLORS.values(), (~labels, labels), strict=True):
                axes.hist(scores[chosen], bins, color=color, alpha=0.7)
            axes.set(title=model, yticks=[])
            pictures[model] = svg(figure)
        return pictures

    def gallery(self) -> list[dict[str, Any]]:
        """Show the images that the models find hardest, with each model's map.

        An image is hard if many of the other kind are on the wrong side of its score, on average over the models. Each
        model's maps have one colour scale for all images.
        """
        maps = {}
        for model, row in self.first.items():
            if Path(row.get("maps", "?")).exists():
                with np.load(row["maps"]) as stored:
                    maps[model] = {name: stored[name] for name in stored.files}
        if not maps or not Path(self.rows[0]["root"]).exists():
            return []
        row = self.first[next(iter(maps))]
        labels = np.array(row["labels"])
        hardness = np.mean([wrong_side(np.array(self.first[model]["scores"]), labels) for model in maps], axis=0)
        shown = []
        for defective, count in HARD_IMAGES.items():
            candidates = np.flatnonzero(labels == defective)
            for index in candidates[np.argsort(-hardness[candidates], kind="stable")][:count]:
                any_maps = maps[next(iter(maps))]
                height, width = any_maps["maps"].shape[1:]
                photo = Image.open(Path(row["root"]) / row["images"][index]).convert("RGB").resize((width, height))
                pictures = {"image": jpeg(photo)}
                if any_maps["masks"].any():
                    pictures["ground truth"] = jpeg(outline(photo, any_maps["masks"][index]))
                pictures |= {model: jpeg(colored(stored["maps"], index)) for model, stored in maps.items()}
                shown.append(
                    {"name": row["images"][index], "kind": "defective" if defective else "good", "pictures": pictures}
                )
        return shown


def wrong_side(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return for each image the share of images of the other kind that its score does not keep apart."""
    good, defective = np.sort(scores[~labels]), np.sort(scores[labels])
    above = 1 - np.searchsorted(good, scores, side="left") / len(good)  # good ones that score as high
    below = np.searchsorted(defective, scores, side="right") / len(defective)  # defective ones that score as low
    return np.where(labels, above, below)


def outline(photo: Image.Image, mask: np.ndarray) -> Image.Image:
    """Tint the defective part of a photograph."""
    pixels = np.asarray(photo).astype(float)
    weight = 0.6 * (mask > 0)[..., None]
    return Image.fromarray((pixels * (1 - weight) + weight * np.array([255, 40, 40])).astype(np.uint8))


def colored(maps: np.ndarray, index: int) -> Image.Image:
    """Color a map on the scale that all maps of its model share."""
    low, high = np.percentile(maps, (50, 99.9))
    level = ((maps[index] - low) / max(high - low, 1e-12)).clip(0, 1)
    return Image.fromarray((mpl.colormaps["inferno"](level)[..., :3] * 255).astype(np.uint8))


def collect(output: Path) -> list[Dataset]:
    """Group results by data set.

    Raises:
        SystemExit: If there is no result.
    """
    rows, latencies = results.read(output), results.latencies(output)
    datasets = [
        Dataset(
            name,
            [row for row in rows if row["dataset"] == name],
            {model: seconds for (dataset, model), seconds in latencies.items() if dataset == name},
        )
        for name in dict.fromkeys(row["dataset"] for row in rows)
    ]
    if not any(dataset.rows for dataset in datasets):
        msg = f"{output} has no finished row to report."
        raise SystemExit(msg)
    return datasets


def as_markdown(datasets: Sequence[Dataset]) -> str:
    """Write the tables."""
    parts = ["<!-- Written by benchmarks/run.py; edit nothing here. -->\n"]
    for dataset in datasets:
        parts.append(f"# {dataset.name}\n")
        if dataset.rows:
            parts += [
                f"{dataset.counts}. Mean ± standard deviation over the seeds; one seed: no ±.\n",
                results.markdown(dataset.accuracy) + "\n",
                *(
                    ["Image AUROC per kind of defect:\n", results.markdown(dataset.kinds) + "\n"]
                    if dataset.kinds
                    else []
                ),
                results.markdown(dataset.cost) + "\n",
                "Made by\n\n```bash\n" + "\n".join(dataset.commands) + "\n```\n",
                "On " + "; ".join(dataset.environments) + ".\n",
            ]
        parts += [f"{row['model']}, seed {row['seed']}: failed, {row['error']}\n" for row in dataset.failed]
    return "\n".join(parts)


def as_html(datasets: Sequence[Dataset], title: str) -> str:
    """Write the page."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    return environment.get_template("report.html.jinja").render(datasets=datasets, title=title, kinds=KIND_COLORS)


def write(output: Path, html: Path | None = None, markdown: Path | None = None) -> None:
    """Write the report of a file of results.

    Args:
        output: Results that ``run.py`` wrote.
        html: Page to write.
        markdown: File for the tables.
    """
    datasets = collect(output)
    if markdown:
        markdown.write_text(as_markdown(datasets), encoding="utf-8")
    if html:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(as_html(datasets, output.stem.replace("_", " ")), encoding="utf-8")


if __name__ == "__main__":
    jsonargparse.auto_cli(write, as_positional=False)
