# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Models × data sets × seeds, side by side.

    python -m benchmarks.run --datasets '[surface_demo]'

Each combination is a row. A row that is there is not made again, unless it was made with other arguments, of other
photographs or by another version of the method, or failed. At the end the first seed's models are timed in turn, and
the report is written.
"""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import jsonargparse
from tqdm import tqdm

from anomalib_ear.deploy.files import sha256
from benchmarks import plan, report, speed, store

FILES = "files.sha256"  # in a row's folder: what its job has read


def files_of(job: store.Row) -> str:
    """Return hashes and names of all files in a folder of photographs; named data sets are always the same."""
    root = job.get("root") or job["arguments"]["data"].get("root")
    if not root or job["arguments"]["datamodule"] != "Folder":
        return ""
    files = sorted(path for path in Path(root).rglob("*") if path.is_file())
    return "".join(f"{sha256(file)}  {file.relative_to(root).as_posix()}\n" for file in files)


def why_run(job: store.Row, rows: list[store.Row], folder: Path, *, again: bool = False) -> str | None:
    """Say why a job is run, ``None`` if its row is there. Rows whose folder is not there are taken at their word."""
    reason = plan.why_run(job, rows, again=again)
    if not reason and (folder / FILES).exists() and (folder / FILES).read_text() != files_of(job):
        return "other photographs"
    return reason


def execute(job: store.Row, folder: Path, module: str = "benchmarks.job") -> store.Row:
    """Run a job by a module in a process of its own; returns its row, with ``error`` where it failed."""
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier attempt left
    folder.mkdir(parents=True)
    payload, log, made = json.dumps(job | {"folder": str(folder)}), folder / "log.txt", folder / "row.json"
    (folder / "job.json").write_text(payload)
    command = [sys.executable, "-m", module]
    with log.open("w") as stream:
        done = subprocess.run(command, input=payload, text=True, stdout=stream, stderr=stream, check=False)  # noqa: S603
    if done.returncode == 0 and made.exists():
        (folder / FILES).write_text(files_of(job))  # not before: the job may have downloaded them
        return dict(json.loads(made.read_text()))
    lines = log.read_text().strip().splitlines() if done.returncode > 0 else []
    reason = lines[-1] if lines else f"ended with status {done.returncode}"
    return store.finish(job, store.environment(), {}) | {"error": f"{reason[:500]} (see {log})"}


def chosen(choices: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Return those that are named, in that order; ends the command if there is no such."""
    for name in names:
        if name not in choices:
            sys.exit(f"{name!r} is not one of {', '.join(map(repr, choices))}.")
    return {name: choices[name] for name in names}


def what(
    models: list[str], datasets: list[str], roots: dict[str, Path]
) -> tuple[dict[str, plan.Model], dict[str, plan.Dataset]]:
    """Read the models and data sets that are named, and say which models are left out."""
    own = [name for name in datasets if name.endswith(".yaml") and Path(name).is_file()]
    the_datasets, every = chosen(plan.datasets(own), datasets), plan.models()
    for name, root in roots.items():
        chosen(the_datasets, [name])
        if not root.is_dir():
            sys.exit(f"the folder {root} of {name} does not exist.")
    if models:
        return chosen(every, models), the_datasets
    for label, model in every.items():
        if model.on_request:
            print(f"left out: {label} ({model.on_request}); --models names it.")
    return {label: model for label, model in every.items() if not model.on_request}, the_datasets


def jobs_of(
    models: dict[str, plan.Model],
    datasets: dict[str, plan.Dataset],
    seeds: list[int],
    roots: dict[str, Path],
    trainer: dict[str, Any],
) -> list[store.Row]:
    """Return a job for each combination; ends the command if there is none."""
    wanted = [  # all of the first seed before the second, so that an interrupted run has whole seeds
        plan.job(label, model, data, seed, trainer)
        | {"root": str(roots[name]) if name in roots else None, "export": seed == seeds[0]}
        for seed in seeds
        for name, data in datasets.items()
        for label, model in models.items()
    ]
    if not wanted:
        sys.exit("seeds and datasets must name one or more.")
    return wanted


def make(
    wanted: list[store.Row], output: Path, *, again: bool, module: str = "benchmarks.job", at_once: int = 1
) -> tuple[int, int]:
    """Make the rows that are missing, ``at_once`` at a time; returns how many were due and how many failed.

    Several at a time share the CPU's cores, unless ``OMP_NUM_THREADS`` is set.
    """
    if at_once > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // at_once)))
    rows, due, failed = store.read(output), [], 0
    for job in wanted:
        name = f"{job['dataset']} / {job['model']} / seed {job['seed']}"
        if reason := why_run(job, rows, output.parent / store.folder_name(job), again=again):
            due.append(job)
        print(f"to train: {name} ({reason})" if reason else f"not trained again: {name}, its row is in {output}")
    with ThreadPoolExecutor(at_once) as pool:
        made = [pool.submit(execute, job, output.parent / store.folder_name(job), module) for job in due]
        try:
            for future in tqdm(as_completed(made), total=len(made), unit="row"):
                row = future.result()
                store.append(output, row)
                if "error" in row:
                    failed += 1
                    tqdm.write(f"failed: {row['dataset']} / {row['model']} / seed {row['seed']}: {row['error']}")
        finally:  # whoever interrupts it does not wait for the rows to come
            pool.shutdown(cancel_futures=True)
    return len(due), failed


def run(
    datasets: list[str],
    models: list[str] = [],  # noqa: B006  jsonargparse shows it
    seeds: list[int] = [0],  # noqa: B006
    roots: dict[str, Path] = {},  # noqa: B006
    trainer: dict[str, Any] = {},  # noqa: B006
    output: Path = Path("results/benchmark/rows.jsonl"),
    again: bool = False,
) -> int:
    """Make the rows that are missing, time the models, write the report; ends with 1 if a row failed.

    Args:
        datasets: Data sets: names of files in ``benchmarks/datasets``, or paths of files of your own.
        models: Models of ``benchmarks/models.yaml``; without any, all that are not made on request only.
        seeds: Seeds of training. The data set's split has its own, the datamodule's.
        roots: Folder per data set, in place of its ``root``.
        trainer: Settings of Lightning's trainer for every row.
        output: File of the rows. Logs, checkpoints, exported models and the report go beside it.
        again: Whether to make every row again.
    """
    the_models, the_datasets = what(models, datasets, roots)
    wanted = jobs_of(the_models, the_datasets, seeds, roots, trainer)
    due, failed = make(wanted, output, again=again)
    if due:
        speed.exported([job for job in wanted if job["export"]], output)
    page = report.write(wanted, output)
    print(f"Trained {due - failed} rows, {failed} failed, {len(wanted) - due} were there. Report: {page}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(jsonargparse.auto_cli(run, as_positional=False))
