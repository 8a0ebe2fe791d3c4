# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""How fast exported models answer, and what they take.

    python -m benchmarks.speed untrained                                  # every model, beside a machine's peak
    python -m benchmarks.speed precisions --runs '[FOLDER]'                # accuracy and speed of each precision
    python -m benchmarks.speed line --runs '[FOLDER]' --photographs FOLDER # from files to heat maps

What is compared takes turns in one process, so that other work of the machine slows all of it alike. ``FOLDER`` is what
``run.py`` left of a row.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import jsonargparse
import numpy as np
import openvino
import torch
from anomalib.data import InferenceBatch
from anomalib.deploy import CompressionType
from openvino import opset13
from scipy.stats import spearmanr
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from benchmarks import ear, job, plan, store
from benchmarks.metrics import measure

# Compression of the export, and the arithmetic that OpenVINO is asked for: left to itself it takes bfloat16 where there
# is AMX, and scores drift between machines.
PRECISIONS: dict[str, tuple[CompressionType | None, str]] = {
    "f32": (None, "f32"),
    "float16 weights": (CompressionType.FP16, "f32"),
    "bf16": (None, "bf16"),
    "int8 weights": (CompressionType.INT8, "f32"),
    "int8": (CompressionType.INT8_PTQ, "f32"),
    "int8, bf16": (CompressionType.INT8_PTQ, "bf16"),
}
# What a machine can do at most, in the same rounds: a few large convolutions.
PEAK = "large convolutions"
PEAK_LAYERS, PEAK_CHANNELS, PEAK_SIDE = 4, 256, 64
WARM_UP = 2
TURN = 0.5  # seconds of a turn at throughput, as far as whole images of every request allow
TRAINING_IMAGES = 250  # KolektorSDD's, of which PatchCore keeps its share
TASKS = ("model only", "from file to score", "with heat maps")


def in_turn(tasks: Mapping[str, Callable[[], int]], rounds: int, name: str) -> dict[str, list[float]]:
    """Let each task have its turn, round after round.

    Args:
        tasks: By label; each returns how many images it did.
        rounds: How many count, after the first, slower ones.
        name: What the progress bar says.

    Returns:
        Images per second in each round, by label.
    """
    rates: dict[str, list[float]] = {label: [] for label in tasks}
    for turn in tqdm(range(WARM_UP + rounds), desc=name, unit="round"):
        for label, task in tasks.items():
            start = time.perf_counter()
            count = task()
            if turn >= WARM_UP:
                rates[label].append(count / (time.perf_counter() - start))
    return rates


def time_models(models: Mapping[str, tuple[Path, str]], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Time models one image at a time, and as many at a time as OpenVINO finds best.

    Args:
        models: OpenVINO model of static shape and its arithmetic, by label.
        rounds: How often each answers.

    Returns:
        ``latency`` in seconds and ``throughput`` in images per second, one value per round.
    """
    latency = in_turn({label: _one(*model) for label, model in models.items()}, rounds, "latency")
    throughput = in_turn({label: _many(*model) for label, model in models.items()}, rounds, "throughput")
    return {
        label: {"latency": [1 / rate for rate in latency[label]], "throughput": throughput[label]} for label in models
    }


def _compile(path: Path, arithmetic: str, hint: str) -> tuple[openvino.CompiledModel, dict[int, Any]]:
    """Compile a model; returns a random image for it too."""
    configuration = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": arithmetic}
    model = openvino.Core().compile_model(path, "CPU", configuration)
    return model, {0: np.random.default_rng(0).random(tuple(model.input(0).shape), dtype=np.float32)}


def _one(path: Path, arithmetic: str) -> Callable[[], int]:
    model, image = _compile(path, arithmetic, "LATENCY")

    def task() -> int:
        model(image)
        return 1

    return task


def _many(path: Path, arithmetic: str) -> Callable[[], int]:
    model, image = _compile(path, arithmetic, "THROUGHPUT")
    queue = openvino.AsyncInferQueue(model)

    def infer(count: int) -> int:
        for _ in range(count):
            queue.start_async(image)
        queue.wait_all()
        return count

    infer(len(queue))
    start = time.perf_counter()
    infer(len(queue))
    turns = max(1, round(TURN / (time.perf_counter() - start)))
    return lambda: infer(turns * len(queue))


def supported_arithmetic() -> set[str]:
    """Return the arithmetic that this CPU has."""
    return {"f32", *map(str.lower, openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))}


def peak_memory(path: Path) -> int:
    """Return the peak of memory of a process that loads a model and scores three images, in bytes."""
    # Not getrusage, which counts the process from which that one was forked.
    script = """
import sys, numpy, openvino
model = openvino.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
for _ in range(3): model({0: numpy.zeros(tuple(model.input(0).shape), numpy.float32)})
print(dict(line.split(":") for line in open("/proc/self/status"))["VmHWM"].split()[0])"""
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)  # noqa: S603
    return int(done.stdout) * 1024


def exported(jobs: list[store.Row], output: Path, rounds: int = 15) -> None:
    """Time what ``run.py`` exported, each data set's models in turn, and keep it beside the rows."""
    for dataset in dict.fromkeys(row["dataset"] for row in jobs):
        folders = {row["model"]: output.parent / store.folder_name(row) for row in jobs if row["dataset"] == dataset}
        paths = {label: folder / "weights" / "openvino" / "model.xml" for label, folder in folders.items()}
        there = {label: (path, "f32") for label, path in paths.items() if path.exists()}
        environment = store.environment()
        timed = time_models(there, rounds) if there else {}
        for row in jobs:
            if row["dataset"] == dataset and row["model"] in timed:
                kept = {name: row[name] for name in ("model", "dataset", "seed", "command", "fingerprint", "arguments")}
                store.append(speed_file(output), kept | environment | {"metrics": timed[row["model"]]})


def speed_file(output: Path) -> Path:
    """Return where the speed of the rows of a file is kept."""
    return output.with_name(f"{output.stem}_speed.jsonl")


def export_untrained(row: store.Row, folder: Path) -> tuple[Path, float, list[Any]]:
    """Export a model with what a fit would give it: weights do not change what a network costs.

    Returns:
        The OpenVINO model, its arithmetic in GFLOP, and images, ``(1, 3, H, W)``, to quantize it by.
    """
    size = tuple(row["arguments"]["image_size"])
    built = job.build_model(row)
    images = torch.rand(2, 3, *size)
    with torch.no_grad():
        if row["arguments"]["class"] == "Ear":
            ear.calibrate(built, images)
        elif row["arguments"]["class"] == "Patchcore":
            built.model.train()(images)
            patches = torch.vstack(built.model.embedding_store)
            share = row["arguments"]["model"].get("coreset_sampling_ratio", 0.1)
            count = max(round(share * TRAINING_IMAGES * len(patches) / len(images)), 1)
            built.model.memory_bank = patches[torch.randint(len(patches), (count,))]
        elif row["arguments"]["class"] == "Padim":
            built.model.train()(images)
            built.model.fit()
        built.eval()
        with FlopCounterMode(display=False) as counter:
            built.model(images[:1])
    path = built.to_openvino(folder, input_size=size, onnx_kwargs={"dynamic_shapes": None, "opset_version": 18})
    return path, counter.get_total_flops() / 1e9, list(images[:, None].numpy())


def large_convolutions(folder: Path) -> tuple[Path, float]:
    """Write a model of large convolutions alone; returns it and its arithmetic in GFLOP."""
    image = opset13.parameter([1, PEAK_CHANNELS, PEAK_SIDE, PEAK_SIDE], np.float32)
    x = image
    kernel = np.random.default_rng(0).random((PEAK_CHANNELS, PEAK_CHANNELS, 3, 3), dtype=np.float32) - 0.5
    for _ in range(PEAK_LAYERS):
        x = opset13.relu(opset13.convolution(x, kernel, [1, 1], [1, 1], [1, 1], [1, 1]))
    path = folder / "peak.xml"
    openvino.save_model(openvino.Model([x], [image]), path, compress_to_fp16=False)
    return path, PEAK_LAYERS * 2 * 9 * PEAK_CHANNELS**2 * PEAK_SIDE**2 / 1e9


def untrained(
    models: list[str] = [],  # noqa: B006  jsonargparse shows it
    image_sizes: list[tuple[int, int]] = [(640, 256)],  # noqa: B006
    precisions: list[str] = ["f32", "bf16", "int8"],  # noqa: B006
    rounds: int = 7,
    output: Path = Path("results/benchmark/speed.jsonl"),
) -> None:
    """Time every model, untrained, exported by the same anomalib, beside the machine's peak.

    Args:
        models: Models of ``benchmarks/models.yaml``; without any, those that run.py takes by default.
        image_sizes: Heights and widths in pixels.
        precisions: ``f32``, ``bf16``, ``int8`` (of Ear alone: its recipe for convolutions, all else f32), or
            ``int8, bf16``. What this CPU lacks is left out, and said so.
        rounds: How often each model has its turn.
        output: File of the rows.
    """
    every = plan.models()
    names = models or [label for label, model in every.items() if not model.on_request]
    environment = store.environment()
    for size in image_sizes:
        data = plan.Dataset("none", "", size, per_class={"Fre": {"arguments": {"input_dim": size[0] * size[1] // 4}}})
        rows = {label: plan.job(label, every[label], data, 0) for label in names}
        with tempfile.TemporaryDirectory() as folder:
            made = {label: export_untrained(row, Path(folder, str(i))) for i, (label, row) in enumerate(rows.items())}
            peak = large_convolutions(Path(folder))
            for precision in precisions:
                arithmetic = PRECISIONS[precision][1]
                if arithmetic not in supported_arithmetic():
                    print(f"this CPU has no {arithmetic}: left out.")
                    continue
                paths = {label: path for label, (path, *_) in made.items()}
                if precision.startswith("int8"):
                    own = {label: made[label] for label, row in rows.items() if row["arguments"]["class"] == "Ear"}
                    paths = {label: ear.to_int8(path, images) for label, (path, _, images) in own.items()}
                else:
                    paths[PEAK] = peak[0]
                timed = time_models({label: (path, arithmetic) for label, path in paths.items()}, rounds)
                for label, path in paths.items():
                    known = rows.get(label, {"fingerprint": "none", "arguments": {"image_size": list(size)}})
                    metrics = {
                        "gflop": made[label][1] if label in made else peak[1],
                        "model_bytes": job.size_on_disk(path),
                        "peak_memory_bytes": peak_memory(path),
                    }
                    row = {
                        "model": label, "dataset": None, "seed": None, "command": store.command(),
                        "fingerprint": known["fingerprint"],
                        "arguments": known["arguments"] | {"precision": precision},
                        "metrics": timed[label] | metrics,
                    }  # fmt: skip
                    store.append(output, row | environment)


def _ask(path: Path, arithmetic: str) -> Callable[[Tensor], InferenceBatch]:
    compiled, _ = _compile(path, arithmetic, "LATENCY")

    def ask(image: Tensor) -> InferenceBatch:
        said = {port.get_any_name(): torch.tensor(value) for port, value in compiled(image.numpy()).items()}
        return InferenceBatch(pred_score=said["pred_score"], anomaly_map=said["anomaly_map"])

    return ask


def precisions(runs: list[Path], rounds: int = 15, output: Path = Path("results/benchmark/precision.jsonl")) -> None:
    """Measure trained Ears in each precision of their export, on their test images.

    Args:
        runs: Folders of rows.
        rounds: How often each precision has its turn.
        output: File of the rows.
    """
    usable = {name: value for name, value in PRECISIONS.items() if value[1] in supported_arithmetic()}
    for run in runs:
        task = json.loads((run / "job.json").read_text())
        data = job.build_data(task)
        job.prepare(data, proxy=False)
        model: ear.Model = ear.Ear.load_from_checkpoint(checkpoint(run)).eval()
        seen = list(job.examples(model, data.test_data))
        truth = job.answers(lambda image: model.post_processor(model.model(image)), tqdm(seen, desc="torch"))  # noqa: B023
        found: dict[str, dict[str, Any]] = {"torch, f32": measure(*truth)}
        with tempfile.TemporaryDirectory() as folder:
            paths = {}
            for name, (compression, arithmetic) in usable.items():
                paths[name] = model.to_openvino(
                    Path(folder, name.replace(" ", "_")), input_size=tuple(task["arguments"]["image_size"]),
                    compression_type=compression, datamodule=data, onnx_kwargs={"dynamic_shapes": None},
                )  # fmt: skip
                said = job.answers(_ask(paths[name], arithmetic), tqdm(seen, desc=name))
                found[name] = measure(*said) | {
                    "model_bytes": job.size_on_disk(paths[name]),
                    "order": float(spearmanr(truth.scores, said.scores).statistic),
                    "score_difference": float((said.scores - truth.scores).abs().max()),
                    "map_difference": float(torch.sub(said.maps, truth.maps).abs().max()),
                }
            timed = time_models({name: (path, usable[name][1]) for name, path in paths.items()}, rounds)
        environment = store.environment()
        for name, metrics in found.items():
            row = {field: task[field] for field in ("model", "dataset", "seed", "fingerprint")} | environment
            row |= {"command": store.command(), "arguments": task["arguments"] | {"precision": name}}
            store.append(output, row | {"metrics": metrics | timed.get(name, {})})


def checkpoint(run: Path) -> Path:
    """Return what a row's training left.

    Raises:
        SystemExit: If it is gone.
    """
    found = next(run.rglob("model.ckpt"), None)
    if found is None:
        msg = f"no checkpoint in {run}: make the row with `python -m benchmarks.run`, which leaves one there."
        raise SystemExit(msg)
    return found


def line(
    runs: list[Path],
    photographs: str,
    count: int = 1000,
    rounds: int = 10,
    output: Path = Path("results/benchmark/line.jsonl"),
) -> None:
    """Time exported models alone, from file to score and with heat maps.

    Args:
        runs: Folders of rows.
        photographs: A folder, a file, or a pattern; taken again and again where they are too few.
        count: Photographs that each task takes, over all rounds.
        rounds: Turns of each task.
        output: File of the rows.
    """
    files, environment = ear.find(photographs).files, store.environment()
    for run in runs:
        task = json.loads((run / "job.json").read_text())
        path = run / "weights" / "openvino" / "model.xml"
        model, chosen = ear.DeployedModel(path, "throughput"), repeated(files, count // rounds)
        with tempfile.TemporaryDirectory() as folder:
            rates = in_turn(
                {name: _on_line(model, name, chosen, Path(folder)) for name in TASKS}, rounds, task["model"]
            )
        arguments = task["arguments"] | {"photographs": count}
        row = {field: task[field] for field in ("model", "dataset", "seed", "fingerprint")} | environment
        row |= {"command": store.command(), "arguments": arguments}
        store.append(output, row | {"metrics": rates})


def _on_line(model: ear.DeployedModel, name: str, files: dict[Path, Path], folder: Path) -> Callable[[], int]:
    def alone() -> int:
        image = np.random.default_rng(0).random((1, 3, *(model.size or (256, 256))), dtype=np.float32)
        for _ in files:
            model.start(image, Future())
        model.wait()
        return len(files)

    def from_files() -> int:
        for _, scores in ear.Line(model, folder, heat_maps=name == TASKS[2], anomaly_maps=False).run(files):
            if isinstance(scores, Exception):
                raise scores
        return len(files)

    return alone if name == TASKS[0] else from_files


def repeated(files: dict[Path, Path], count: int) -> dict[Path, Path]:
    """Return ``count`` files, repeated under new names where there are too few."""
    return {Path(f"{i:06d}-{file.name}"): file for i, file in enumerate(islice(cycle(files.values()), count))}


if __name__ == "__main__":
    jsonargparse.auto_cli([untrained, precisions, line], as_positional=False)
