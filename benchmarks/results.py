# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Read results and print them as a table.

python benchmarks/results.py benchmarks/results/surface_demo.jsonl
"""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import roc_auc_score

KEY = ("dataset", "model", "seed")
Row = dict[str, Any]


def key(row: Row) -> tuple[str, str, int]:
    """Return what tells a row from the others."""
    return tuple(row[name] for name in KEY)


def name(row: Row) -> str:
    """Return the name of a row's folder."""
    return "".join(char if char.isalnum() or char in "-._" else "_" for char in "-".join(map(str, key(row))))


def append(path: Path, row: Row) -> None:
    """Append a row as one line."""
    with path.open("a+", encoding="utf-8") as stream:
        if stream.tell():
            text = path.read_text(encoding="utf-8")
            if not text.endswith("\n"):  # a killed run's last line
                stream.truncate(len(text[: text.rfind("\n") + 1].encode()))
        stream.write(json.dumps(row) + "\n")


def lines(path: Path) -> list[Row]:
    """Read every line but one that a killed run left unfinished.

    Raises:
        ValueError: If another line is not JSON.
    """
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(keepends=True), start=1):
        if line.endswith("\n"):
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError as error:
                msg = f"{path}, line {number} is not JSON: {error}. Remove it and run again."
                raise ValueError(msg) from error
    return found


def read(path: Path) -> list[Row]:
    """Read the newest row of each data set, model and seed, in the order of their first appearance."""
    newest: dict[tuple[str, str, int], Row] = {}
    for row in lines(path):
        if "seed" in row:
            newest[key(row)] = row
    return list(newest.values())


def read_list(path: Path) -> list[Row]:
    """Read the rows of a study, none where there is no file."""
    rows: list[Row] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return rows


def write_list(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows of a study as a list, one row to a line."""
    path.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n", encoding="utf-8")


def latencies(path: Path) -> dict[tuple[str, str], list[float]]:
    """Read the newest timing of each data set: seconds per round for each data set and model.

    A model that was exported anew since then has no time: the one that is there is another model's.
    """
    newest: dict[str, dict[str, list[float]]] = {}
    for row in lines(path):
        if "latencies" in row:
            newest[row["dataset"]] = dict(row["latencies"])
        elif "exported" in row:
            newest.get(row["dataset"], {}).pop(row["model"], None)
    return {(dataset, label): seconds for dataset, models in newest.items() for label, seconds in models.items()}


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: What it shows, with its unit.
        value: Takes it from a row; ``None`` where the row has none.
        digits: Decimals.
    """

    title: str
    value: Callable[[Row], float | None]
    digits: int = 3


def metric(name: str, source: str = "metrics") -> Callable[[Row], float | None]:
    """Return what takes a metric from a row."""
    return lambda row: (row.get(source) or {}).get(name)


def scrapped(row: Row, found: float = 0.95) -> float:
    """Return the share of good parts at or above the threshold that finds this share of the defective ones."""
    good, defective = split_scores(row)
    least = math.ceil(found * len(defective))  # defective parts that must be found
    return float(np.mean(good >= np.sort(defective)[-least]))


def missed(row: Row, alarms: float = 0.01) -> float:
    """Return the share of defective parts below the threshold that this share of the good ones reaches."""
    good, defective = split_scores(row)
    most = math.floor(alarms * len(good))  # good parts that may alarm
    return float(np.mean(defective <= np.sort(good)[-1 - most]))


def split_scores(row: Row) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of the good and of the defective images."""
    scores, labels = np.array(row["scores"]), np.array(row["labels"], dtype=bool)
    return scores[~labels], scores[labels]


def kinds(row: Row) -> dict[str, float]:
    """Return the image AUROC of each kind of defect, where each has a folder of its own, else nothing."""
    folders = np.array([Path(image).parent.name for image in row["images"]])
    labels = np.array(row["labels"], dtype=bool)
    found = sorted(set(folders[labels]))
    if len(found) < 2 or set(found) & set(folders[~labels]):
        return {}
    scores = np.array(row["scores"])
    chosen = {kind: (folders == kind) | ~labels for kind in found}
    return {kind: float(roc_auc_score(labels[these], scores[these])) for kind, these in chosen.items()}


def kind_columns(rows: Sequence[Row]) -> list[Column]:
    """Return a column for each kind of defect."""

    def column(kind: str) -> Column:
        return Column(kind, lambda row: kinds(row).get(kind))

    return [column(kind) for kind in dict.fromkeys(kind for row in rows for kind in kinds(row))]


ACCURACY = (
    Column("image AUROC", metric("image_AUROC")),
    Column("image AUPR", metric("image_AUPR")),
    Column("image F1Max", metric("image_F1Max")),
    Column("good scrapped at 95 % found", scrapped),
    Column("defects missed at 1 % alarms", missed),
    Column("pixel AUROC", metric("pixel_AUROC")),
    Column("AUPRO", metric("pixel_AUPRO")),
    Column("pixel AUPR", metric("pixel_AUPR")),
    Column("pixel F1Max", metric("pixel_F1Max")),
)
PROXY = (
    Column("proxy image AUROC", metric("image_AUROC", "proxy")),
    Column("proxy pixel AUROC", metric("pixel_AUROC", "proxy")),
)
COST = (
    Column("epochs", lambda row: row["epochs"], 0),
    Column("fit, s", lambda row: row["fit_seconds"], 0),
    Column("test, s", lambda row: row["test_seconds"], 0),
    Column("peak memory, MB", lambda row: row["peak_memory_bytes"] / 1e6, 0),
    Column("exported model, MB", lambda row: row["model_bytes"] / 1e6 if "model_bytes" in row else None, 1),
    Column("torch, ms per image", lambda row: row["seconds_per_image"] * 1e3, 0),
    Column("run-to-run spread of a score", lambda row: row["score_spread"], 3),
)


def mean_and_spread(values: Sequence[float | None], digits: int) -> str:
    """Write the mean, and the standard deviation where there is more than one value."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    text = f"{statistics.mean(known):.{digits}f}"
    whole_and_equal = digits == 0 and len(set(known)) == 1  # a setting, such as the number of epochs
    return text if len(known) == 1 or whole_and_equal else f"{text} ± {statistics.stdev(known):.{digits}f}"


def median_and_quartiles(values: Sequence[float]) -> str:
    """Write the median, and in brackets the quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.1f} ({low:.1f}–{high:.1f})"


def table(rows: Sequence[Row], columns: Sequence[Column]) -> list[list[str]]:
    """Lay out one line per model, over its seeds; the first line is the header.

    Columns without any value are left out.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if "error" not in row:
            groups.setdefault(row["model"], []).append(row)
    columns = [column for column in columns if any(column.value(row) is not None for row in rows if "error" not in row)]
    return [["model", "seeds", *(column.title for column in columns)]] + [
        [
            label,
            str(len(group)),
            *(mean_and_spread([column.value(row) for row in group], column.digits) for column in columns),
        ]
        for label, group in groups.items()
    ]


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    header, *body = cells
    rule = ["---", *("---:" for _ in header[1:])]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in [header, rule, *body]
    )


def main(path: Path) -> None:
    """Print results as tables.

    Args:
        path: File of results that ``run.py`` wrote.
    """
    if not path.exists():
        msg = f"{path} does not exist; benchmarks/run.py writes such files."
        raise SystemExit(msg)
    rows = read(path)
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        chosen = [row for row in rows if row["dataset"] == dataset]
        print(f"## {dataset}\n\n{markdown(table(chosen, (*PROXY, *ACCURACY, *COST)))}\n")
        for row in chosen:
            if "error" in row:
                print(f"{row['model']}, seed {row['seed']} failed: {row['error']}")


if __name__ == "__main__":
    import jsonargparse

    jsonargparse.auto_cli(main)
