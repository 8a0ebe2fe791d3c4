# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Every table, from the store.

    python -m benchmarks.tables pages            # results/*.md, the tables in README.md and docs/*.md
    python -m benchmarks.tables readme           # print the README's two tables
    python -m benchmarks.tables show FILE.jsonl  # print the rows of a file of your own

A table has the rows of one machine. Seeds are averaged; other arguments and other versions of the method are not.
"""

import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import jsonargparse
import pandas as pd

from benchmarks import results_page, robustness_page, store
from benchmarks.frames import busiest_machine, frame, last_versions
from benchmarks.speed import PEAK, TASKS, speed_file

Rows: TypeAlias = Sequence[store.Row]
Columns: TypeAlias = dict[str, tuple[str, str, float]]  # metric, format and scale, by title
Tables: TypeAlias = Iterator[tuple[str, pd.DataFrame]]
ROOT = Path(__file__).parents[1]
README = {"by part": "KolektorByPart", "by tile": "MagneticTileByTile"}
# Data sets on which settings of Ear are compared, by the name of the table, and these settings.
PARTS = {
    "moving parts": {"bracket": "SurfaceDemo, bracket", "re-cropped": "KolektorMoving"},
    "still parts": {"KolektorSDD": "KolektorSDD", "by tile": "MagneticTileByTile"},
}
SETTINGS = (
    "Ear", "Ear, every skip", "Ear, no skips", "Ear, no mask, shallowest skip off", "Ear, no mask",
    "Ear, no mask, no skips", "Ear, random masks (RIAD's)", "Ear, everything excised",
)  # fmt: skip
README_MODELS = ["Ear", "PatchCore, a thousandth", "PaDiM", "STFPM"]
MARKER = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)  # a document's place for a table

MAIN: Columns = {
    "image AUROC": ("image_AUROC", ".3f", 1), "pixel AUROC": ("pixel_AUROC", ".3f", 1),
    "AUPRO": ("pixel_AUPRO", ".3f", 1),
}  # fmt: skip
AT_ITS_THRESHOLD: Columns = {"good rejected": ("rejected", ".0%", 1), "defective found": ("found", ".0%", 1)}
ACCURACY: dict[str, Columns] = {  # parts of a width that fits on a screen
    "Images": {
        "image AUROC": ("image_AUROC", ".3f", 1), "image AUPR": ("image_AUPR", ".3f", 1),
        "image F1Max": ("image_F1Max", ".3f", 1),
    },
    "What a line asks": AT_ITS_THRESHOLD | {
        "good scrapped at 95 % found": ("scrapped", ".0%", 1), "defects missed at 1 % alarms": ("missed", ".0%", 1),
    },
    "Pixels": {
        "pixel AUROC": ("pixel_AUROC", ".3f", 1), "AUPRO": ("pixel_AUPRO", ".3f", 1),
        "pixel AUPR": ("pixel_AUPR", ".3f", 1), "pixel F1Max": ("pixel_F1Max", ".3f", 1),
    },
    "Proxy": {f"proxy {title}": (f"proxy_{name}", ".3f", 1) for title, (name, *_) in MAIN.items()},
}  # fmt: skip
COST: Columns = {
    "epochs": ("epochs", ".0f", 1), "fit, s": ("fit_seconds", ".0f", 1), "test, s": ("test_seconds", ".0f", 1),
    "peak memory, MB": ("peak_memory_bytes", ".0f", 1e-6), "exported, MB": ("model_bytes", ".1f", 1e-6),
}  # fmt: skip
SPEED: Columns = {
    "latency, ms": ("latency", ".1f", 1e3), "images/s": ("throughput", ".1f", 1),
    "of the peak": ("peak_share", ".0%", 1), "GFLOP": ("gflop", ".2f", 1),
    "exported, MB": ("model_bytes", ".0f", 1e-6), "memory, MB": ("peak_memory_bytes", ".0f", 1e-6),
}  # fmt: skip
PRECISION: Columns = {
    **{title: (name, ".4f", 1) for title, (name, *_) in MAIN.items()},
    "order": ("order", ".4f", 1), "score": ("score_difference", ".0e", 1), "map": ("map_difference", ".0e", 1),
    "images/s": ("throughput", ".1f", 1), "times f32": ("times_f32", ".2f", 1), "MB": ("model_bytes", ".0f", 1e-6),
}  # fmt: skip


def written(values: pd.Series, form: str, scale: float) -> str:
    """Write the mean ± standard deviation of seeds, or the median and the quartiles of one row's rounds."""
    known = values.dropna()
    if known.empty:
        return "–"
    if isinstance(known.iloc[0], list):
        low, middle, high = (format(scale * value, form) for value in statistics.quantiles(known.iloc[0], n=4))
        return f"{middle} ({low}–{high})"
    equal = form == ".0f" and known.nunique() == 1  # a setting, such as the number of epochs
    spread = "" if len(known) == 1 or equal else f" ± {scale * known.std():{form}}"
    return f"{scale * known.mean():{form}}{spread}"


def lay_out(data: pd.DataFrame, by: list[str], columns: Columns) -> pd.DataFrame:
    """Lay out a line for each group of rows, in the order of their first; columns without any value are left out."""
    groups = data.groupby(by, sort=False)
    known = {title: column for title, column in columns.items() if column[0] in data and data[column[0]].notna().any()}
    cells = {title: groups[name].agg(written, form=form, scale=scale) for title, (name, form, scale) in known.items()}
    return pd.DataFrame(cells).reset_index()


def ranked(data: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Lay out a line for each model and version, the best image AUROC first."""
    groups = data.groupby(["model", "version"])
    data = data.assign(rank=-groups["image_AUROC"].transform("mean"), seeds=groups["seed"].transform("size"))
    data = data.sort_values("rank", kind="stable")
    return lay_out(data, ["model", "version", "seeds"], columns).drop(columns="version")


def finished(rows: Rows) -> list[store.Row]:
    """Keep the newest rows, without those that failed."""
    return [row for row in store.newest(rows) if "error" not in row]


def results(rows: Rows) -> Tables:
    """Lay out what the models of one data set find, machine by machine, and what they take."""
    for machine, data in frame(rows).groupby("machine", sort=False) if rows else ():
        kinds: Columns = {name.removeprefix("kind_"): (name, ".3f", 1) for name in data if name.startswith("kind_")}
        for title, columns in (ACCURACY | {"Image AUROC per kind of defect": kinds}).items():
            if data.filter([name for name, *_ in columns.values()]).notna().any(axis=None):
                yield f"{title}, {machine}:", ranked(data, columns)
    for place, data in frame(rows).groupby("place", sort=False) if rows else ():
        yield f"Cost, {place}:", ranked(data, COST)


def speed(rows: Rows) -> Tables:
    """Lay out each size, precision, machine and moment, the fastest model first, beside the peak that was measured."""
    for (*title, date), data in frame(rows).groupby(["size", "precision", "place", "date"], sort=False):
        peak, models = data[data["model"] == PEAK], data[data["model"] != PEAK]
        reached = float((peak["rate"] * peak["gflop"]).iloc[0]) if len(peak) else None
        if reached:
            models = models.assign(peak_share=models["rate"] * models["gflop"] / reached)
        said = f" The peak: {reached:.0f} GFLOP/s." if reached else ""
        table = lay_out(models.sort_values("rate", ascending=False, kind="stable"), ["model"], SPEED)
        yield f"{', '.join([*title, date[:10]])}.{said}", table


def precisions(rows: Rows) -> Tables:
    """Lay out what each trained model finds in each precision, and how fast."""
    one_run = ["dataset", "model", "seed", "place", "date"]
    for (dataset, model, seed, place, _), data in frame(rows).groupby(one_run, sort=False):
        times = data["rate"] / data.loc[data["precision"] == "f32", "rate"].iloc[0]
        data = data.assign(times_f32=times.where(times > 0))  # noqa: PLW2901
        yield f"{dataset}, {model}, seed {seed}, {place}:", lay_out(data, ["precision"], PRECISION)


def line(rows: Rows) -> Tables:
    """Lay out what is left of a model's speed from file to heat map, machine by machine."""
    columns: Columns = {f"{task}, images/s": (task, ".1f", 1) for task in TASKS}
    for place, data in frame(rows).groupby("place", sort=False):
        yield f"{place}:", lay_out(data, ["model", "dataset", "seed", "date"], columns).drop(columns=["seed", "date"])


def robustness(rows: Rows) -> Tables:
    """Lay out what models say under each change, machine by machine."""
    done = finished(rows)
    yield from robustness_page.tables(frame(done)) if done else ()


def photographs(rows: Rows) -> Tables:
    """Lay out what Ear's threshold does with few photographs, and what models find, machine by machine."""
    done = finished(rows)
    yield from robustness_page.few_photographs(frame(done)) if done else ()


PAGES: dict[str, Callable[[Rows], Tables]] = {
    "line": line, "photographs": photographs, "precision": precisions, "robustness": robustness, "speed": speed,
}  # fmt: skip


def markdown(tables: Iterable[tuple[str, pd.DataFrame]]) -> str:
    """Write tables under their titles in Markdown."""
    parts = []
    for title, table in tables:
        escaped = table.astype(str).replace(r"\|", r"\\|", regex=True)
        align = ["left"] + ["right"] * (len(table.columns) - 1)
        parts.append(f"{title}\n\n{escaped.to_markdown(index=False, disable_numparse=True, colalign=align)}")
    return "\n\n".join(parts).strip()


def readme_results() -> str:
    """Return the README's table of results: its models that have rows on both splits, from the busiest machine."""
    data = frame(finished(store.read(store.RESULTS / "detection.jsonl")))
    data = data[data["dataset"].isin(README.values()) & data["model"].isin(README_MODELS)]
    machine = busiest_machine(data)
    data = last_versions(data[data["machine"] == machine])
    splits = [
        lay_out(data[data["dataset"] == dataset], ["model"], MAIN).set_index("model").add_prefix(f"{title}: ")
        for title, dataset in README.items()
    ]
    table = pd.concat(splits, axis=1).reindex(README_MODELS).dropna().rename_axis("model").reset_index()
    return f"{markdown([('', table)])}\n\nMachine: {machine}."


def compared_speed() -> list[store.Row]:
    """Return the newest rows of speed in float32, of one size and moment, that have the README's models.

    They are of the machine on which most rows of detection were made, whose figures they stand beside.
    """
    machine = busiest_machine(frame(finished(store.read(store.RESULTS / "detection.jsonl"))))
    runs: dict[tuple[str, str], list[store.Row]] = {}
    for row in store.read(store.RESULTS / "speed.jsonl"):
        if row["arguments"]["precision"] == "f32" and row["machine"] == machine:
            runs.setdefault((row["date"], str(row["arguments"]["image_size"])), []).append(row)
    return [rows for rows in runs.values() if set(README_MODELS) <= {row["model"] for row in rows}][-1]


def readme_speed() -> str:
    """Return the README's table of speed."""
    title, table = next(speed(compared_speed()))
    table = table[table["model"].isin(README_MODELS)].drop(columns="of the peak")
    return f"{markdown([('', table)])}\n\n{title.split(' The peak')[0]}"


def settings(datasets: dict[str, str]) -> str:
    """Return what Ear's settings find on data sets, by their short names, as far as there are rows."""
    rows = finished(store.read(store.RESULTS / "detection.jsonl"))
    rows = [row for row in rows if row["dataset"] in datasets.values() and row["model"] in SETTINGS]
    parts = []
    for machine, group in last_versions(frame(rows)).groupby("machine", sort=False) if rows else ():
        here = {title: group[group["dataset"] == dataset] for title, dataset in datasets.items()}
        columns = [
            lay_out(part, ["model"], MAIN).set_index("model").add_prefix(f"{title}: ")
            for title, part in here.items()
            if len(part)
        ]
        table = pd.concat(columns, axis=1).reindex([label for label in SETTINGS if label in set(group["model"])])
        parts.append((f"{machine}:", table.fillna("–").rename_axis("setting").reset_index()))
    return markdown(parts)


def table(name: str) -> str:
    """Return a table by the name that documents give it: ``readme …``, a file of the store, or a data set."""
    if name.startswith("readme "):
        return readme_results() if name == "readme results" else readme_speed()
    if name in PARTS:
        return settings(PARTS[name])
    if name == "robustness overview":
        rows = finished(store.read(store.RESULTS / "robustness.jsonl"))
        return markdown(robustness_page.overview(frame(rows)))
    if name in PAGES:
        return markdown(PAGES[name](store.read(store.RESULTS / f"{name}.jsonl")))
    rows = [row for row in store.read(store.RESULTS / "detection.jsonl") if row["dataset"] == name]
    machines = frame(finished(rows)).groupby("machine", sort=False)
    return markdown((f"{machine}:", ranked(data, MAIN | AT_ITS_THRESHOLD)) for machine, data in machines)


def page(path: Path) -> str:
    """Return the page of a file of rows."""
    rows, kind = store.read(path), PAGES.get(path.stem.split("_")[-1])
    parts = ["<!-- Written by `python -m benchmarks.tables`. -->", f"# {path.stem.replace('_', ' ').capitalize()}"]
    for dataset in [] if kind else dict.fromkeys(row["dataset"] for row in rows):
        own = store.newest(row for row in rows if row["dataset"] == dataset)
        parts += [f"## {dataset}", markdown(results(finished(own)))]
        parts += [f"{row['model']}, seed {row['seed']}, failed: {row['error']}" for row in own if "error" in row]
    return "\n\n".join([*parts, markdown(kind(rows))] if kind else parts) + "\n"


def pages() -> None:
    """Write the store's pages, the documents' pictures, and each table that README.md or docs/*.md has a place for."""
    for name in ("detection", "robustness"):
        (store.RESULTS / f"{name}.md").write_text(page(store.RESULTS / f"{name}.jsonl"), encoding="utf-8")
    docs = ROOT / "docs"
    found = frame(finished(store.read(store.RESULTS / "detection.jsonl")))
    results_page.accuracy(found, docs / "accuracy.png")
    results_page.accuracy_over_speed(found, frame(compared_speed()), docs / "accuracy_over_speed.png")
    changed = frame(finished(store.read(store.RESULTS / "robustness.jsonl")))
    robustness_page.picture(changed, docs / "robustness.png")
    for path in (ROOT / "README.md", *docs.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        filled = MARKER.sub(lambda place: f"{place[1]}\n{table(place[2])}\n\n{place[3]}", text)
        path.write_text(filled, encoding="utf-8")


def readme() -> None:
    """Print the README's two tables."""
    print(readme_results(), readme_speed(), sep="\n\n")


def show(file: Path) -> None:
    """Print the rows of a file of ``run.py`` or ``speed.py`` as tables."""
    print(*(page(path) for path in (file, speed_file(file)) if path.exists()), sep="\n")


if __name__ == "__main__":
    jsonargparse.auto_cli([pages, readme, show])
