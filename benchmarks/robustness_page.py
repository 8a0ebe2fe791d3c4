# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What ``docs/robustness.md`` shows of the rows of ``robustness.py`` and ``photographs.py``: tables and a picture."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks import plan, store
from benchmarks.changes import CLEAN, changes
from benchmarks.ear import FALSE_ALARMS
from benchmarks.frames import busiest_machine, last_versions

# Okabe and Ito's colours, and a grey.
COLORS = ("#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "0.6")
# The second time each colour has another marker.
STYLES = (*zip(COLORS, "osD^vPX*", strict=True), *zip(COLORS, "^vPX*osD", strict=True))
OWN = ", own threshold"  # stands behind the name of a model
FEW = {  # columns of the table of few photographs, and their metrics
    "good parts rejected": "rejected",
    "by held-out images alone": "rejected_by_held_out_alone",
    "defective found": "found",
}
ON_OFF = {"JPEG": "quality 50", "highlights": "2 % clipped"}  # kinds of one strength, and its name


def outcomes(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a line for each row of a frame and change; of each model its last version.

    A model with the threshold that training gives it counts as a model of its own.
    """
    known = ["machine", "dataset", "seed"]
    lines = [
        {name: getattr(row, name) for name in known}
        | {"model": row.model + kind, "change": name, "AUROC": said["image_AUROC"]}
        | {"good": said["false_alarms"][1], "bad": said["found"][1]}
        | {"alarms": said["false_alarms"][0] / said["false_alarms"][1], "found": said["found"][0] / said["found"][1]}
        for row in last_versions(frame).itertuples()
        for kind, changed in {"": row.changes, OWN: getattr(row, "own", None)}.items()
        for name, said in (changed.items() if isinstance(changed, dict) else ())
    ]
    return pd.DataFrame(lines)


def in_order(models: Iterable[str]) -> list[str]:
    """Sort models as ``models.yaml`` has them, those that it has no more at the end."""
    known = [model + kind for model in plan.models() for kind in ("", OWN)]
    return sorted(set(models), key=lambda model: (known.index(model) if model in known else len(known), model))


def over_data_sets(data: pd.DataFrame) -> pd.DataFrame:
    """Return ``mean`` and ``worst`` share of false alarms over all data sets, of the models that have each."""
    whole = data.groupby("model")["dataset"].nunique() == data["dataset"].nunique()
    data = data[data["model"].isin(whole[whole].index)]
    each = data.groupby(["change", "model", "dataset"], sort=False)["alarms"].mean()
    return each.groupby(["change", "model"], sort=False).agg(mean="mean", worst="max").reset_index()


def wide(data: pd.DataFrame, cells: "pd.Series[str]") -> pd.DataFrame:
    """Lay out cells: a line for each change, a column for each model."""
    data = data.assign(cell=cells)
    table = data.pivot_table(index="change", columns="model", values="cell", aggfunc="first", sort=False)
    return table[in_order(table.columns)].fillna("–").rename_axis(columns=None).reset_index()


def overview(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Lay out, machine by machine, good parts rejected over all data sets."""
    for machine, group in outcomes(frame).groupby("machine", sort=False):
        if len(mean := over_data_sets(group)):
            cells = mean.apply(lambda row: f"{row['mean']:.0%} ({row['worst']:.0%})", axis=1)
            title = "**Good parts rejected**, mean over the data sets (worst of them):"
            yield f"{origin(frame[frame['machine'] == machine])}\n\n{title}", wide(mean, cells)


def tables(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Lay out, machine by machine, the overview, then each data set."""
    for _, rows in frame.groupby("machine", sort=False):
        yield from overview(rows)
        for dataset, part in outcomes(rows).groupby("dataset", sort=False):
            own = last_versions(rows[rows["dataset"] == dataset])
            counts = f"{most(part['good'])} good and {most(part['bad'])} defective test images per seed"
            title = f"**{dataset}**, {counts}, threshold from {most(own['held_out'])} good ones, {seeds(part)}."
            seen = part.groupby(["change", "model"], sort=False)[["alarms", "found", "AUROC"]].mean().reset_index()
            cells = seen.apply(lambda row: f"{row.alarms:.0%} · {row.found:.0%} · {row.AUROC:.3f}", axis=1)
            legend = "Good parts rejected · defective parts found · image AUROC:"
            yield f"{title}{exported(own)} {legend}", wide(seen, cells)


def few_photographs(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Lay out, machine by machine, what Ear's threshold does, and what models find; a line for a number of photographs.

    Each cell is the mean ± standard deviation over all draws.
    """
    for _, rows in last_versions(frame).groupby("machine", sort=False):
        names = rows["model"].str.rpartition(", ")[0]  # without the number of photographs
        if len(own := rows[names == "Ear"]):
            shares = {
                f"{dataset}: {column}": by_count(part, metric, ".1%")
                for dataset, part in own.groupby("dataset")
                for column, metric in FEW.items()
            }
            yield f"{origin(own)}\n\n{drawn(own)}", by_line(shares)
        if (names != "Ear").any():
            compared = rows.dropna(subset="image_AUROC")
            found = {
                f"{dataset}: {model}": by_count(part, "image_AUROC", ".3f")
                for (dataset, model), part in compared.groupby(["dataset", names], sort=False)
            }
            yield f"{origin(compared)}\n\nImage AUROC. {drawn(compared)}", by_line(found)


def drawn(rows: pd.DataFrame) -> str:
    """Say how often photographs were drawn, and how many images were scored each time."""
    draws = most(rows.explode("rejected").groupby(["dataset", "model"]).size())
    counts = [
        f"{dataset} {most(part['unseen'])} good and {most(part['defective'])} defective"
        for dataset, part in rows.groupby("dataset")
    ]
    return f"Mean ± standard deviation over {draws} draws. Images scored per draw: {', '.join(counts)}."


def by_count(rows: pd.DataFrame, metric: str, form: str) -> dict[int, str]:
    """Write what draws have on average, and how they differ, by the number of photographs."""
    values = rows.set_index("photographs")[metric].explode().astype(float).groupby(level=0)
    return {count: f"{of.mean():{form}} ± {of.std():{form}}" for count, of in values}


def by_line(cells: dict[str, dict[int, str]]) -> pd.DataFrame:
    """Lay out columns of cells by the number of photographs."""
    return pd.DataFrame(cells).sort_index().fillna("–").rename_axis("good photographs").reset_index()


def exported(rows: pd.DataFrame) -> str:
    """Say by how much exported models differ from torch's, where that was compared."""
    compared = [max(each.values()) for each in rows.get("exported_difference", ()) if isinstance(each, dict)]
    said = "scores and maps of exported models differ from torch's by at most"
    return f" Under all changes {said} {max(compared):.0e}." if compared else ""


def seeds(lines: pd.DataFrame) -> str:
    """Write the seeds that models have, and which where they differ."""
    each = lines[~lines["model"].str.endswith(OWN)].groupby("model")["seed"].agg(lambda of: tuple(sorted(set(of))))
    groups = {which: in_order(each.index[each == which]) for which in sorted(set(each), key=len, reverse=True)}
    said = {", ".join(map(str, which)): f" of {' · '.join(models)}" for which, models in groups.items()}
    return "seeds: " + "; ".join(which + (models if len(said) > 1 else "") for which, models in said.items())


def most(counts: "pd.Series[int]") -> str:
    """Write the range of counts."""
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


def origin(rows: pd.DataFrame) -> str:
    """Say where, when and by which commands rows were made."""
    versions = [f"anomalib {each['anomalib']}, torch {each['torch']}" for each in rows["versions"]]
    commands = "\n".join(store.together(rows["command"]))
    days = [min(rows["date"])[:10], max(rows["date"])[:10]]
    said = [rows["machine"].iloc[0], *dict.fromkeys(versions), " to ".join(dict.fromkeys(days))]
    folded = f"<details><summary>Commands</summary>\n\n```bash\n{commands}\n```\n\n</details>"
    return f"{'; '.join(said)}.\n\n{folded}"


def styles(models: list[str]) -> dict[str, tuple[str, str]]:
    """Return a colour and a marker for each model.

    Raises:
        ValueError: If there are more models than styles.
    """
    if len(models) > len(STYLES):
        msg = f"a picture shows {len(STYLES)} models at most, got {', '.join(models)}."
        raise ValueError(msg)
    return dict(zip(models, STYLES, strict=False))


def picture(frame: pd.DataFrame, path: Path) -> None:
    """Draw false alarms over strength: a panel for each kind of change, a line for each model."""
    data = outcomes(frame)
    alarms = over_data_sets(data[data["machine"] == busiest_machine(data)]).set_index(["change", "model"])["mean"]
    table = changes((1, 1))
    kinds = [kind for kind in dict.fromkeys(change.kind for change in table.values()) if kind]
    models = in_order(alarms.index.get_level_values("model"))
    figure = Figure(figsize=(10, 6), dpi=160, layout="constrained")
    for axes, kind in zip(figure.subplots(2, 4, sharey=True).flat, kinds, strict=True):
        names = {change.level: name for name, change in table.items() if change.kind == kind or name == CLEAN}
        levels = sorted(names)
        for model, (color, marker) in styles(models).items():
            shares = [alarms.get((names[level], model), float("nan")) for level in levels]
            axes.plot(levels, shares, color=color, marker=marker, label=model, linewidth=1.8, clip_on=False)
        panel(axes, kind, levels)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=12)
    figure.supylabel("good parts rejected", fontsize=12)
    figure.savefig(path)


def panel(axes: Any, kind: str, levels: list[float]) -> None:  # noqa: ANN401  # matplotlib's
    """Dress one panel."""
    axes.axhline(FALSE_ALARMS, color="0.5", linestyle=":", linewidth=1.2, zorder=0)
    axes.set_title(kind, fontsize=11.5)
    axes.margins(x=0.25 if kind in ON_OFF else 0.08)
    axes.set_xticks(levels, ["none", ON_OFF[kind]] if kind in ON_OFF else [f"{level:g}" for level in levels])
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.tick_params(labelsize=10)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
