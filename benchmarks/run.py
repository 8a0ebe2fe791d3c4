# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Models × data sets × seeds, side by side.

    python benchmarks/run.py --config configs/benchmark/surface_demo.yaml

Each combination is a row, one line of JSON in the file that ``output`` names. A row that is there is not run again; a
row that fails is reported, costs no other, and is tried again by the next run. At the end the first seed's models are
timed in turn, and the report is written.
"""

import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jsonargparse
import report
import results
import timing
from tqdm import tqdm

JOB = Path(__file__).with_name("job.py")


@dataclass
class Model:
    """A model, or several variants of it.

    Attributes:
        model: Name of an anomalib model, ``Ear`` among them.
        arguments: Its constructor's arguments. ``image_size``, seed and processors are the benchmark's.
        trainer: Settings of Lightning's trainer for this model only.
        variants: Further arguments, one row each; the label names them.
    """

    model: str
    arguments: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    variants: list[dict[str, Any]] = field(default_factory=lambda: [{}])


@dataclass
class Dataset:
    """A data set.

    Attributes:
        datamodule: Name of an anomalib datamodule.
        image_size: Height and width in pixels to which every model resizes.
        arguments: The datamodule's arguments.
        proxy: Whether to report metrics on the validation images too. With ``val_split_mode: synthetic`` these are
            defect-free images held out of training, half of them with anomalib's synthetic defects: what one may choose
            settings by, without test labels.
    """

    datamodule: str
    image_size: tuple[int, int]
    arguments: dict[str, Any] = field(default_factory=dict)
    proxy: bool = False


def expand(
    models: dict[str, Model],
    datasets: dict[str, Dataset],
    seeds: list[int],
    trainer: dict[str, Any],
    roots: dict[str, Path],
) -> list[dict[str, Any]]:
    """List the jobs, all of the first seed before the second, so that an interrupted run has whole seeds."""
    jobs = []
    for seed in seeds:
        for dataset_label, dataset in datasets.items():
            root = roots.get(dataset_label, roots.get(dataset.datamodule))
            for model_label, model in models.items():
                for variant in model.variants:
                    changes = ", ".join(f"{name}={json.dumps(value)}" for name, value in variant.items())
                    spec = asdict(model) | {"arguments": model.arguments | variant}
                    del spec["variants"]
                    jobs.append(
                        {
                            "key": [dataset_label, " ".join(filter(None, [model_label, changes])), seed],
                            "spec": {"model": spec, "dataset": asdict(dataset), "trainer": trainer},
                            "root": str(root) if root else None,
                            "export": seed == seeds[0],
                        }
                    )
    return json.loads(json.dumps(jobs))  # as a row that was read, so that they compare


def select(choices: dict[str, Any], only: list[str]) -> dict[str, Any]:
    """Return those that are named, in that order; all where none is."""
    return {label: choices[label] for label in only if label in choices} or choices


def execute(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run a job in a process of its own.

    Returns:
        Its row, with ``error`` where it failed.
    """
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier attempt left
    folder.mkdir(parents=True)
    row_file, log = folder / "row.json", folder / "log.txt"
    payload = json.dumps(
        job["spec"] | {"seed": job["key"][2], "folder": str(folder), "root": job["root"], "export": job["export"]}
    )
    with log.open("w") as stream:
        done = subprocess.run(  # noqa: S603  our own script
            [sys.executable, JOB], input=payload, text=True, stdout=stream, stderr=subprocess.STDOUT, check=False
        )
    row = dict(zip(results.KEY, job["key"], strict=True)) | {"spec": job["spec"]}
    if done.returncode == 0 and row_file.exists():
        return row | json.loads(row_file.read_text())
    lines = [line for line in log.read_text().splitlines() if line.strip()]
    reason = lines[-1] if done.returncode > 0 and lines else f"ended with status {done.returncode}"
    return row | {"error": reason[:500], "log": str(log)}


def run(
    models: dict[str, Model],
    datasets: dict[str, Dataset],
    output: Path,
    seeds: list[int] = [0],  # noqa: B006  jsonargparse shows it
    trainer: dict[str, Any] = {},  # noqa: B006
    roots: dict[str, Path] = {},  # noqa: B006
    only: list[str] = [],  # noqa: B006
    folder: Path = Path("results/benchmark"),
) -> int:
    """Run the rows that are missing, time the models, write the report.

    Args:
        models: Models by label.
        datasets: Data sets by label.
        output: Results, one line of JSON per row; the report's tables are written beside it as Markdown.
        seeds: Seeds of training. The data set's split has its own, the datamodule's.
        trainer: Settings of Lightning's trainer.
        roots: Folder per data set or datamodule, in place of its ``root``.
        only: Labels of the models and data sets to run; of the kind that is not named, all.
        folder: Where logs, exported models and the report as HTML go, in a folder named after ``output``.

    Returns:
        Exit status: 1 if a row failed.
    """
    if not seeds:
        msg = "seeds must name one or more."
        raise SystemExit(msg)
    named = {*datasets, *(dataset.datamodule for dataset in datasets.values())}
    for label, known in [*((label, named) for label in roots), *((label, {**models, **datasets}) for label in only)]:
        if label not in known:
            msg = f"{label!r} is not one of {', '.join(known)}."
            raise SystemExit(msg)
    for label, root in roots.items():
        if not root.is_dir():
            msg = f"the folder {root} of {label} does not exist."
            raise SystemExit(msg)
    folder /= output.stem
    output.parent.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", *sys.argv])
    jobs = expand(select(models, only), select(datasets, only), seeds, trainer, roots)
    finished = {results.key(row): row["spec"] for row in results.read(output) if "error" not in row}
    failures: list[results.Row] = []
    fresh = False
    with tqdm(jobs, unit="row", desc=output.stem) as progress:
        for job in progress:
            progress.set_postfix_str(" ".join(map(str, job["key"])))
            if finished.get(tuple(job["key"])) == job["spec"]:
                continue
            row = execute(job, folder / results.name(dict(zip(results.KEY, job["key"], strict=True))))
            results.append(output, row | {"command": command})
            fresh = True
            if "error" in row:
                failures.append(row)
                progress.write(f"failed: {' / '.join(map(str, job['key']))}: {row['error']} (see {row['log']})")
    time_models(output, fresh=fresh)
    report.write(output, markdown=output.with_suffix(".md"), html=folder / "report.html")
    print(f"{len(jobs) - len(failures)} of {len(jobs)} rows are there. Report: {folder / 'report.html'}")
    return 1 if failures else 0


def time_models(output: Path, *, fresh: bool) -> None:
    """Append the latencies of each data set's exported models, timed in turn, if there is one that has none yet.

    All of a data set's models are timed together or not at all: times of different runs do not compare.
    """
    rows, timed = results.read(output), results.latencies(output)
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        exported = {row["model"]: row for row in rows if row["dataset"] == dataset and "exported" in row}
        if not any(fresh or (dataset, label) not in timed for label in exported):
            continue
        gone = [label for label, row in exported.items() if not Path(row["exported"]).exists()]
        if gone:
            print(
                f"{dataset} is not timed: the exported model of {', '.join(gone)} is gone, as it is in a fresh clone. "
                "Name another output to have every row made anew."
            )
        else:
            paths = {label: Path(row["exported"]) for label, row in exported.items()}
            seconds = timing.latencies(paths)
            results.append(output, {"dataset": dataset, "latencies": seconds, "settings": timing.CONFIGURATION})


if __name__ == "__main__":
    sys.exit(jsonargparse.auto_cli(run, as_positional=False))
