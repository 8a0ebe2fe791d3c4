# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""From files to scores: how much of a model's speed is left on the line, and what memory it takes.

python benchmarks/end_to_end.py --config configs/end_to_end.yaml --input FOLDER

Models are those that ``run.py`` exported. The model alone, with scores from files, and with heat maps too take turns in
one process. Then ``python -m anomalib_ear.infer`` scores many files in a process of its own, whose memory is watched.
Writes rows as JSON, their table and the curve of memory beside it.
"""

import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import job
import jsonargparse
import matplotlib.pyplot as plt
import numpy as np
import results
from tqdm import tqdm

from anomalib_ear.deployed_model import DeployedModel
from anomalib_ear.infer import Line
from anomalib_ear.photographs import find

TASKS = ("model only", "from file to score", "with heat maps")
INTRODUCTION = """\
Images per second at throughput, medians and quartiles of rounds in turn: the model alone, on images that are there;
from files, decoded and resized; and with heat maps of the photographs' size, the default of the command. In
square brackets the share of the model's own.
"""


def seconds(model: DeployedModel, task: str, files: dict[Path, Path], folder: Path) -> float:
    """Return how long a task takes.

    Args:
        model: The model.
        task: One of ``TASKS``.
        files: Photographs by name.
        folder: Where heat maps go.
    """
    if task == TASKS[0]:
        image = np.random.default_rng(0).random((1, 3, *model.size), dtype=np.float32)
        start = time.perf_counter()
        for _ in files:
            model.start(image, Future())
        model.wait()
    else:
        line = Line(model, folder, heat_maps=task == TASKS[2], anomaly_maps=False)
        start = time.perf_counter()
        for _, scores in line.run(files):
            if isinstance(scores, Exception):
                raise scores
    return time.perf_counter() - start


def repeat(files: dict[Path, Path], count: int) -> dict[Path, Path]:
    """Return so many files, each as often as needed, under names of their own."""
    chosen = islice(cycle(files.values()), count)
    return {Path(f"{index:06d}-{file.name}"): file for index, file in enumerate(chosen)}


def watch(model: Path, files: dict[Path, Path], folder: Path) -> list[tuple[int, float]]:
    """Score files by the command and return how many are scored and the memory in MB, ten times a second."""
    photographs, output = folder / "photographs", folder / "output"
    photographs.mkdir()
    for name, file in files.items():
        (photographs / name).symlink_to(file.resolve())
    command = [sys.executable, "-m", "anomalib_ear.infer", "--model", model, "--input", photographs, "--output", output]
    curve: list[tuple[int, float]] = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        while process.poll() is None:
            table = output / "scores.csv"
            scored = table.read_bytes().count(b"\n") - 1 if table.exists() else 0
            status = Path(f"/proc/{process.pid}/status").read_text()
            resident = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
            if resident:
                curve.append((max(scored, 0), int(resident[0]) / 1e3))
            time.sleep(0.1)
    if process.returncode:
        msg = f"{command} ended with status {process.returncode}"
        raise RuntimeError(msg)
    return [*curve, (len(files), curve[-1][1])]


def run(
    models: dict[str, Path],
    input: str,  # noqa: A002  as in the command
    output: Path,
    count: int = 1000,
    rounds: int = 10,
    many: int = 10_000,
) -> None:
    """Time, watch, and write rows and tables.

    Args:
        models: Exported models (``.xml``) by label; the memory of the last is watched.
        input: Photographs: a folder, a file, or a pattern.
        output: File of the rows; table and curve go beside it.
        count: Photographs that each task takes, over all rounds.
        rounds: Turns of each task.
        many: Photographs that memory is watched over.
    """
    files = find(input).files
    rows: list[dict[str, Any]] = []
    for label, path in models.items():
        model = DeployedModel(path, "throughput")
        chosen = repeat(files, count // rounds)
        rates: dict[str, list[float]] = {task: [] for task in TASKS}
        with tempfile.TemporaryDirectory() as folder:
            for turn in tqdm(range(-1, rounds), desc=label, unit="round"):  # the first is slower
                for task in TASKS:
                    rate = len(chosen) / seconds(model, task, chosen, Path(folder))
                    if turn >= 0:
                        rates[task].append(rate)
        rows.append({"model": label, "photographs": count, "rates": rates, "environment": job.environment()})
    with tempfile.TemporaryDirectory() as folder:
        rows[-1]["memory"] = watch(path, repeat(files, many), Path(folder))
    results.write_list(output, rows)
    output.with_suffix(".md").write_text(text(rows, output.with_suffix(".png").name), encoding="utf-8")
    draw(rows[-1]["memory"], output.with_suffix(".png"))


def text(rows: list[dict[str, Any]], picture: str) -> str:
    """Return the page."""
    table = [["model", *TASKS]]
    for row in rows:
        own = np.median(row["rates"][TASKS[0]])
        shares = ["", *(f" [{np.median(row['rates'][task]) / own:.0%}]" for task in TASKS[1:])]
        rates = [results.median_and_quartiles(row["rates"][task]) for task in TASKS]
        table.append([row["model"], *(rate + share for rate, share in zip(rates, shares, strict=True))])
    first, last = middles(rows[-1]["memory"])
    memory = (
        f"Memory over {rows[-1]['memory'][-1][0]} photographs ({rows[-1]['model']}, heat maps written): {first:.0f} MB "
        f"in the second tenth, {last:.0f} MB in the last.\n"
    )
    return "\n".join(
        [
            "<!-- Written by benchmarks/end_to_end.py; edit nothing here. -->\n",
            "# End to end\n",
            INTRODUCTION,
            f"{rows[0]['photographs']} photographs per task. Machine: {rows[0]['environment']['machine']}.\n",
            results.markdown(table) + "\n",
            memory,
            f"![Resident memory over the number of photographs]({picture})\n",
        ]
    )


def middles(curve: list[tuple[int, float]]) -> tuple[float, float]:
    """Return the median memory in the second and in the last tenth of a run."""
    tenth = len(curve) // 10
    memory = [value for _, value in curve]
    return float(np.median(memory[tenth : 2 * tenth])), float(np.median(memory[-tenth:]))


def draw(curve: list[tuple[int, float]], path: Path) -> None:
    """Draw memory over the number of photographs."""
    figure, axes = plt.subplots(figsize=(6, 2.5), layout="constrained")
    axes.plot(*zip(*curve, strict=True))
    axes.set(xlabel="photographs scored", ylabel="resident memory, MB", ylim=(0, None), xlim=(0, None))
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    jsonargparse.auto_cli(run, as_positional=False)
