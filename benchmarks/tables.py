# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Every table, from the store.

    python -m benchmarks.tables pages            # benchmarks/results/*.md, the tables in README.md and docs/*.md
    python -m benchmarks.tables readme           # print the README's two tables
    python -m benchmarks.tables show FILE.jsonl  # print the rows of a file of your own

Seeds are averaged, machines never: a model has a line for each machine, set of arguments and version of the method.
What is said of cost comes from one machine per table.
"""

import json
import math
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jsonargparse
import pandas as pd

from benchmarks import plan, store
from benchmarks.speed import PEAK, TASKS, speed_file

Cell = Callable[[dict[str, Any]], str | None]
Rows = Sequence[store.Row]
ROOT = Path(__file__).parents[1]
MAIN = {"image AUROC": "image_AUROC", "pixel AUROC": "pixel_AUROC", "AUPRO": "pixel_AUPRO"}
ACCURACY = {
    "image AUROC": "image_AUROC",
    "image AUPR": "image_AUPR",
    "image F1Max": "image_F1Max",
    "good scrapped at 95 % found": "scrapped",
    "defects missed at 1 % alarms": "missed",
    "pixel AUROC": "pixel_AUROC",
    "AUPRO": "pixel_AUPRO",
    "pixel AUPR": "pixel_AUPR",
    "pixel F1Max": "pixel_F1Max",
    **{f"proxy {title}": f"proxy_{name}" for title, name in MAIN.items()},
}
# Metric, decimals, scale.
COST: dict[str, tuple[str, int, float]] = {
    "epochs": ("epochs", 0, 1),
    "fit, s": ("fit_seconds", 0, 1),
    "test, s": ("test_seconds", 0, 1),
    "peak memory, MB": ("peak_memory_bytes", 0, 1e-6),
    "exported, MB": ("model_bytes", 1, 1e-6),
}
README = {"by part": "KolektorByPart", "by tile": "MagneticTileByTile"}
README_MODELS = ("Ear", "Ear, attention's features", "PatchCore, a thousandth", "PaDiM", "STFPM")  # of its speed
MARKER = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def markdown(table: pd.DataFrame) -> str:
    """Write a table of words in Markdown."""
    escaped = table.astype(str).replace(r"\|", r"\\|", regex=True)
    align = ["left", *["right"] * (len(table.columns) - 1)]
    return str(escaped.to_markdown(index=False, disable_numparse=True, colalign=align))


def lay_out(rows: Rows, title: str, first: Callable[[store.Row], str], columns: dict[str, Cell]) -> pd.DataFrame:
    """Lay out one line per row; columns without any value are left out."""
    lines = [{title: first(row), **{name: cell(row["metrics"]) for name, cell in columns.items()}} for row in rows]
    return pd.DataFrame(lines).dropna(axis=1, how="all").fillna("–")


def number(name: str, form: str, scale: float = 1) -> Cell:
    """Return a function that writes a metric."""
    return lambda metrics: format(scale * metrics[name], form) if name in metrics else None


def rounds(name: str, scale: float = 1) -> Cell:
    """Return a function that writes the median of a metric's rounds, and in brackets the quartiles."""

    def cell(metrics: dict[str, Any]) -> str | None:
        if name not in metrics:
            return None
        low, middle, high = statistics.quantiles([scale * value for value in metrics[name]], n=4)
        return f"{middle:.1f} ({low:.1f}–{high:.1f})"

    return cell


def share(name: str, digits: int, of: float) -> Cell:
    """Return a function that writes the median of a metric's rounds as a share."""
    return lambda metrics: f"{statistics.median(metrics[name]) / of:.{digits}f}" if name in metrics else None


def spread(values: Iterable[Any], digits: int = 3, scale: float = 1) -> str:
    """Write the mean, and the standard deviation where there is more than one value."""
    known = [scale * value for value in values if not math.isnan(value)]
    if not known:
        return "–"
    text = f"{statistics.mean(known):.{digits}f}"
    equal = digits == 0 and len(set(known)) == 1  # a setting, such as the number of epochs
    return text if len(known) == 1 or equal else f"{text} ± {statistics.stdev(known):.{digits}f}"


def place(row: store.Row) -> str:
    """Return where a row's cost was measured."""
    return f"{row['machine']}, {row['threads']} thread{'' if row['threads'] == 1 else 's'}"


def frame(rows: Rows) -> pd.DataFrame:
    """Return rows with a column per metric, and in ``group`` what may be averaged."""
    plain = []
    for row in rows:
        own = {name: value for name, value in row["arguments"].items() if name not in ("seed", "data")}
        group = json.dumps([row["model"], row["machine"], row["fingerprint"], own], sort_keys=True)
        plain.append({"model": row["model"], "machine": row["machine"], "group": group} | row["metrics"])
    return pd.DataFrame(plain)


def busiest(rows: Rows, where: Callable[[store.Row], str]) -> list[store.Row]:
    """Keep the rows of the machine that made most models; of two such machines, that with more rows."""

    def weight(name: str) -> tuple[int, int]:
        own = [row for row in rows if where(row) == name]
        return len({(row["dataset"], row["model"]) for row in own}), len(own)

    best = max(dict.fromkeys(map(where, rows)), key=weight)
    return [row for row in rows if where(row) == best]


def split(rows: Rows, *fields: Callable[[store.Row], str]) -> dict[tuple[str, ...], list[store.Row]]:
    """Group rows, in the order of their first appearance."""
    groups: dict[tuple[str, ...], list[store.Row]] = {}
    for row in rows:
        groups.setdefault(tuple(name(row) for name in fields), []).append(row)
    return groups


def shown(rows: Rows) -> list[store.Row]:
    """Keep the newest finished rows of models that were trained."""
    untrained = {label for label, model in plan.models().items() if model.untrained}
    return [row for row in store.newest(rows) if "error" not in row and row["model"] not in untrained]


def not_shown(rows: Rows) -> str:
    """Say which models are left out, and why."""
    there = {row["model"] for row in rows}
    left_out = {label: model.untrained for label, model in plan.models().items() if model.untrained and label in there}
    return "".join(f"Not shown: {label} ({reason}).\n\n" for label, reason in left_out.items())


def accuracy(rows: Rows, columns: dict[str, str] = ACCURACY) -> pd.DataFrame:
    """Lay out one line per model and machine, the best image AUROC first; machines are letters."""
    data = frame(rows)
    letters = letter(rows)
    lines = []
    for name in data.groupby("group")["image_AUROC"].mean().sort_values(ascending=False, kind="stable").index:
        some = data[data["group"] == name]
        line = {"model": some["model"].iloc[0], "seeds": str(len(some)), "machine": letters[some["machine"].iloc[0]]}
        lines.append(line | {title: spread(some[key]) for title, key in columns.items() if key in data})
    return pd.DataFrame(lines).drop(columns="machine" if len(letters) == 1 else [])


def letter(rows: Rows) -> dict[str, str]:
    """Give each machine a letter."""
    return {name: chr(ord("A") + index) for index, name in enumerate(dict.fromkeys(row["machine"] for row in rows))}


def machines(rows: Rows) -> str:
    """Say which letter is which machine."""
    letters = letter(rows)
    if len(letters) == 1:
        return f"Machine: {next(iter(letters))}."
    return "Machines: " + "; ".join(f"{short}: {name}" for name, short in letters.items()) + "."


def kinds(rows: Rows) -> pd.DataFrame | None:
    """Lay out image AUROC per kind of defect, where there are kinds."""
    names = {name.removeprefix("kind_"): name for row in rows for name in row["metrics"] if name.startswith("kind_")}
    return accuracy(rows, names) if names else None


def cost(rows: Rows) -> tuple[str, pd.DataFrame]:
    """Lay out what the models took on the machine that made most of them; returns the machine too."""
    same = busiest(rows, place)
    lines = []
    for model, some in frame(same).groupby("model", sort=False):
        columns = {title: spread(some.get(key, []), digits, scale) for title, (key, digits, scale) in COST.items()}
        lines.append({"model": str(model), "seeds": str(len(some))} | columns)
    return place(same[0]), pd.DataFrame(lines)


def results(rows: Rows) -> str:
    """Return the page of rows that run.py made."""
    parts = []
    for (dataset,), every in split(rows, lambda row: row["dataset"]).items():
        some = shown(every)
        parts.append(f"## {dataset}\n\n{machines(some)}\n\n{markdown(accuracy(some))}\n\n{not_shown(every)}")
        if (table := kinds(some)) is not None:
            parts.append(f"Image AUROC per kind of defect:\n\n{markdown(table)}\n\n")
        if all("epochs" in row["metrics"] for row in some):
            where, table = cost(some)
            parts.append(f"Cost on {where}:\n\n{markdown(table)}\n\n")
        failed = [row for row in store.newest(every) if "error" in row]
        parts += [f"{row['model']}, seed {row['seed']}, failed: {row['error']}\n\n" for row in failed]
    return "".join(parts)


def speed(rows: Rows, models: Sequence[str] = ()) -> list[tuple[str, pd.DataFrame]]:
    """Lay out one table, with its title, for each size, precision, machine and moment; the fastest model first.

    The peak is that of the same moment and precision; where none was measured, nothing is said of it.
    """

    def size(row: store.Row) -> str:
        return " × ".join(map(str, row["arguments"].get("image_size", ["?"])))

    def precision(row: store.Row) -> str:
        return str(row["arguments"].get("precision", "f32"))

    tables = []
    for title, some in split(
        rows, size, precision, place, lambda row: row["date"][:10], lambda row: row["date"]
    ).items():
        rate = {row["model"]: statistics.median(row["metrics"].get("throughput", [0])) for row in some}
        peak = next((rate[PEAK] * row["metrics"]["gflop"] for row in some if row["model"] == PEAK), None)

        def of_the_peak(metrics: dict[str, Any], peak: float | None = peak) -> str | None:
            return f"{statistics.median(metrics['throughput']) * metrics['gflop'] / peak:.0%}" if peak else None

        columns: dict[str, Cell] = {
            "latency, ms": rounds("latency", 1e3),
            "images/s": rounds("throughput"),
            "of the peak": of_the_peak,
            "GFLOP": number("gflop", ".2f"),
            "exported, MB": number("model_bytes", ".0f", 1e-6),
            "memory, MB": number("peak_memory_bytes", ".0f", 1e-6),
        }
        kept = [row for row in some if row["model"] != PEAK and (not models or row["model"] in models)]
        kept.sort(key=lambda row: -rate[row["model"]])
        said = f" The peak: {peak:.0f} GFLOP/s." if peak else ""
        tables.append((f"{', '.join(title[:-1])}.{said}", lay_out(kept, "model", lambda row: row["model"], columns)))
    return tables


def speeds(rows: Rows) -> str:
    """Return every table of speed."""
    return "".join(f"{title}\n\n{markdown(table)}\n\n" for title, table in speed(rows))


def precisions(rows: Rows) -> str:
    """Return a table for each trained model: what each precision finds, and how fast."""
    parts = []
    for title, some in split(
        rows, lambda r: r["dataset"], lambda r: r["model"], lambda r: str(r["seed"]), place
    ).items():
        exact = next(row["metrics"]["throughput"] for row in some if row["arguments"]["precision"] == "f32")
        columns = {
            **{title: number(name, ".4f") for title, name in MAIN.items()},
            "order": number("order", ".4f"),
            "score": number("score_difference", ".0e"),
            "map": number("map_difference", ".0e"),
            "flips": number("flips", "d"),
            "images/s": rounds("throughput"),
            "times f32": share("throughput", 2, statistics.median(exact)),
            "MB": number("model_bytes", ".0f", 1e-6),
        }
        table = lay_out(some, "precision", lambda row: row["arguments"]["precision"], columns)
        parts.append(f"{title[0]}, {title[1]}, seed {title[2]}, {title[3]}:\n\n{markdown(table)}\n\n")
    return "".join(parts)


def line(rows: Rows) -> str:
    """Return the tables of speed from file to heat map, one per machine."""
    parts = []
    for (where,), some in split(rows, place).items():
        columns: dict[str, Cell] = {
            **{f"{task}, images/s": rounds(task) for task in TASKS},
            "MB, second tenth": number("memory_second_tenth", ".0f"),
            "MB, last tenth": number("memory_last_tenth", ".0f"),
        }
        parts.append(f"{where}:\n\n{markdown(lay_out(some, 'model', lambda row: row['model'], columns))}\n\n")
    return "".join(parts)


def pivot(rows: Rows, line_of: str, column_of: str, cell: str) -> str:
    """Return a table by two fields or arguments, one down and one across; ``cell`` is a format of the metrics."""
    cells = [{**row, **row["arguments"], "cell": cell.format(**row["metrics"])} for row in rows]
    table = pd.DataFrame(cells).pivot_table(
        index=line_of, columns=column_of, values="cell", aggfunc="first", sort=False, dropna=False
    )
    return f"{machines(rows)}\n\n{markdown(table.fillna('–').reset_index())}\n\n"


def attention(rows: Rows) -> str:
    """Return the tables of how well attentions rank defects, and what masks cover."""
    ranked = [row for row in rows if "pooled_AUROC" in row["metrics"]]
    timed = [row for row in rows if "torch_seconds" in row["metrics"]]
    masked = [row for row in rows if "rule" in row["arguments"]]
    parts = [
        "AUROC of the attention against defective pixels, pooled / mean of each image's own:\n\n",
        pivot(ranked, "model", "dataset", "{pooled_AUROC:.3f} / {per_image_AUROC:.3f}"),
        "Seconds in torch for one image of 640 × 256; dino's with random weights:\n\n",
        markdown(lay_out(timed, "model", lambda row: row["model"], {"s": number("torch_seconds", ".3f")})) + "\n\n",
        "Share of the image / of the defect that a mask rule excises, before dilation:\n\n",
        pivot(masked, "rule", "dataset", "{image_share:.0%} / {defect_share:.0%}"),
    ]
    return "".join(parts)


def memory(rows: Rows) -> str:
    """Return the table of how much memory pixel metrics take."""
    return "GiB added to a process by one metric, by the number of images:\n\n" + pivot(
        rows, "model", "images", "{added_peak_GiB:.2f}"
    )


PAGES: dict[str, Callable[[Rows], str]] = {
    "attention": attention, "line": line, "memory": memory, "precision": precisions, "speed": speeds,
    "detection_speed": speeds,
}  # fmt: skip


def readme_results() -> str:
    """Return the README's table of results: models that have rows on both splits, all from one machine."""
    wanted = [label for label, model in plan.models().items() if not model.on_request]
    rows = shown(store.read(store.RESULTS / "detection.jsonl"))
    rows = [row for row in rows if row["dataset"] in README.values() and row["model"] in wanted]
    rows = busiest(rows, lambda row: str(row["machine"]))
    lines = []
    for label in wanted:
        line = {"model": label}
        for title, dataset in README.items():
            data = frame([row for row in rows if (row["dataset"], row["model"]) == (dataset, label)])
            if len(data):
                some = data[data["group"] == data["group"].iloc[-1]]  # the newest version's
                line |= {f"{title}: {name}": spread(some[key]) for name, key in MAIN.items()}
        lines.append(line)
    return f"{markdown(pd.DataFrame(lines).dropna())}\n\n{machines(rows)}"


def readme_speed() -> str:
    """Return the README's table of speed: one size, one precision, one machine; the newest that has every model."""
    tables = speed(store.read(store.RESULTS / "speed.jsonl"), README_MODELS)
    wanted = [entry for entry in tables if ", f32, " in entry[0] and set(entry[1]["model"]) == set(README_MODELS)]
    title, table = wanted[-1]
    return f"{markdown(table.drop(columns='of the peak'))}\n\n{title.split(' The peak')[0]}"


def table(name: str) -> str:
    """Return a table by the name that documents give it: ``readme …``, a file of the store, or a data set."""
    if name.startswith("readme "):
        return readme_results() if name == "readme results" else readme_speed()
    if name in PAGES:
        return PAGES[name](store.read(store.RESULTS / f"{name}.jsonl")).strip()
    every = [row for row in store.read(store.RESULTS / "detection.jsonl") if row["dataset"] == name]
    rows = shown(every)
    return f"{machines(rows)}\n\n{markdown(accuracy(rows, MAIN))}\n\n{not_shown(every)}".strip()


def filled(text: str) -> str:
    """Renew every table of a document, from ``<!-- table: NAME -->`` to ``<!-- end -->``."""
    return MARKER.sub(lambda found: f"{found[1]}\n{table(found[2])}\n\n{found[3]}", text)


def page(path: Path) -> str:
    """Return the page of a file of rows."""
    kind = PAGES.get(path.stem, speeds if path.stem.endswith("_speed") else results)
    title = path.stem.replace("_", " ").capitalize()
    return (
        f"<!-- Written by `python -m benchmarks.tables pages`. -->\n\n# {title}\n\n{kind(store.read(path)).strip()}\n"
    )


def pages() -> None:
    """Write a page beside every file of the store, and the tables of README.md and docs/*.md."""
    for path in store.RESULTS.glob("*.jsonl"):
        path.with_suffix(".md").write_text(page(path), encoding="utf-8")
    for path in (ROOT / "README.md", *ROOT.glob("docs/*.md")):
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")


def readme() -> None:
    """Print the README's tables, between their markers."""
    for name in ("readme results", "readme speed"):
        print(filled(f"<!-- table: {name} -->\n<!-- end -->"), end="\n\n")


def show(file: Path) -> None:
    """Print the rows of a file as tables.

    Args:
        file: Rows that ``run.py`` or ``speed.py`` wrote.
    """
    for path in (file, speed_file(file)):
        if path.exists():
            print(page(path))


if __name__ == "__main__":
    jsonargparse.auto_cli([pages, readme, show])
