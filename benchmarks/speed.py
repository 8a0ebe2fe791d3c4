# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""How fast exported models answer, and what they take.

    python -m benchmarks.speed untrained                                   # every model, beside a machine's peak
    python -m benchmarks.speed precisions --runs '[FOLDER]'                # accuracy and speed of each precision
    python -m benchmarks.speed line --runs '[FOLDER]' --photographs FOLDER # from files to heat maps

What is compared takes turns in one process, so that whatever else the machine does hits all alike. ``FOLDER`` is what
``run.py`` left of a row.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice, repeat
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jsonargparse
import numpy as np
import openvino
import torch
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.deploy import CompressionType
from anomalib.models.components import MemoryBankMixin
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
    "f32": (None, "f32"), "float16 weights": (CompressionType.FP16, "f32"), "bf16": (None, "bf16"),
    "int8 weights": (CompressionType.INT8, "f32"), "int8": (CompressionType.INT8_PTQ, "f32"),
    "int8, bf16": (CompressionType.INT8_PTQ, "bf16"),
}  # fmt: skip
# What a machine can do at most, in the same rounds: a few large convolutions, of the shape that is fastest.
PEAK = "large convolutions"
PEAK_LAYERS, PEAK_SHAPES = 4, ((256, 64), (512, 32), (1024, 16))
WARM_UP = 2  # first, slower rounds, which do not count
TURN = 0.5  # seconds of a turn at throughput, as far as whole images of every request allow
TRAINING_IMAGES = 250  # KolektorSDD's, of which PatchCore keeps its share
FIT_BATCHES = 10  # of two random images, for other memories: DFKDE asks for more images than its 16 components
FOLDER, EXPORTED = Path("results/benchmark"), "weights/openvino/model.xml"  # of a row
ROUND = 100  # photographs of a turn from files; fewer are taken again and again
TASKS = ("model only", "from file to score", "with heat maps")
Untrained = tuple[Path, float, list[Any]]  # OpenVINO model, GFLOP for one image, images to quantise it by
PEAK_MEMORY = """
import sys, numpy, openvino
model = openvino.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
for _ in range(3): model({0: numpy.zeros(tuple(model.input(0).shape), numpy.float32)})
print(dict(line.split(":") for line in open("/proc/self/status"))["VmHWM"].split()[0])"""


class Network(NamedTuple):
    """An exported model of static shape, and the arithmetic that OpenVINO is asked for."""

    path: Path
    arithmetic: str = "f32"

    def compile(self, hint: str) -> tuple[openvino.CompiledModel, dict[int, Any]]:
        """Compile the model; returns a random image for it too."""
        configuration = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": self.arithmetic}
        model = openvino.Core().compile_model(self.path, "CPU", configuration)
        return model, {0: np.random.default_rng(0).random(tuple(model.input(0).shape), dtype=np.float32)}

    def one(self) -> Callable[[], int]:
        """Return the task to score one image."""
        model, image = self.compile("LATENCY")
        return lambda: len([model(image)])

    def many(self) -> Callable[[], int]:
        """Return the task to score images for about ``TURN``, as many at a time as OpenVINO finds best."""
        model, image = self.compile("THROUGHPUT")
        queue = openvino.AsyncInferQueue(model)

        def infer(turns: int) -> int:
            for _ in range(turns * len(queue)):
                queue.start_async(image)
            queue.wait_all()
            return turns * len(queue)

        infer(1)
        start = time.perf_counter()
        infer(1)
        turns = max(1, round(TURN / (time.perf_counter() - start)))
        return lambda: infer(turns)

    def ask(self) -> Callable[[Tensor], InferenceBatch]:
        """Return a function that scores one image, ``(1, 3, H, W)``."""
        model, _ = self.compile("LATENCY")
        names = [port.get_any_name() for port in model.outputs]
        return lambda image: InferenceBatch(
            **dict(zip(names, map(torch.tensor, model(image.numpy()).values()), strict=True))
        )


def in_turn(tasks: Mapping[str, Callable[[], int]], rounds: int, name: str) -> dict[str, list[float]]:
    """Let each task, which returns how many images it did, have its turn; returns images per second in each round."""
    rates: dict[str, list[float]] = {label: [] for label in tasks}
    for turn in tqdm(range(WARM_UP + rounds), desc=name, unit="round"):
        for label, task in tasks.items():
            start = time.perf_counter()
            count = task()
            if turn >= WARM_UP:
                rates[label].append(count / (time.perf_counter() - start))
    return rates


def time_models(models: Mapping[str, Network], rounds: int) -> dict[str, store.Row]:
    """Time models; returns ``latency`` in seconds and ``throughput`` in images per second, a value per round."""
    one = in_turn({label: model.one() for label, model in models.items()}, rounds, "latency")
    many = in_turn({label: model.many() for label, model in models.items()}, rounds, "throughput")
    return {label: {"latency": [1 / rate for rate in one[label]], "throughput": many[label]} for label in models}


def able(precisions: Iterable[str]) -> list[str]:
    """Keep the precisions whose arithmetic this CPU has, and say which it lacks."""
    known = {"f32", *map(str.lower, openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))}
    usable = [name for name in precisions if PRECISIONS[name][1] in known]
    for name in set(precisions).difference(usable):
        print(f"left out: {name}, which this CPU cannot do.")
    return usable


def exported(jobs: list[store.Row], output: Path, rounds: int = 15) -> None:
    """Time what ``run.py`` exported, each data set's models in turn, and keep it beside the rows."""
    for dataset in dict.fromkeys(row["dataset"] for row in jobs):
        rows, environment = {row["model"]: row for row in jobs if row["dataset"] == dataset}, store.environment()
        models = {label: Network(output.parent / store.folder_name(row) / EXPORTED) for label, row in rows.items()}
        there = {label: model for label, model in models.items() if model.path.exists()}
        for label, metrics in time_models(there, rounds).items() if there else ():
            store.append(speed_file(output), store.finish(rows[label], environment, metrics))


def speed_file(output: Path) -> Path:
    """Return where the speed of the rows of a file is kept."""
    return output.with_name(f"{output.stem}_speed.jsonl")


@torch.no_grad()
def export_untrained(row: store.Row, folder: Path) -> Untrained:
    """Export a model as a fit would leave it: weights do not change what a network costs.

    Of few images DFM keeps fewer components than of a data set, which are a thousandth of its arithmetic.
    """
    size, class_ = tuple(row["arguments"]["image_size"]), row["arguments"]["class"]
    built = job.build_model(row)
    built.model.train()
    images = torch.rand(2, 3, *size)
    if class_ == "Ear":
        ear.calibrate(built, images)
    elif class_ == "Patchcore":  # its own fit takes hours where it keeps a tenth
        built.model(images)
        patches = torch.vstack(built.model.embedding_store)
        share = row["arguments"]["model"].get("coreset_sampling_ratio", 0.1)
        count = max(round(share * TRAINING_IMAGES * len(patches) / len(images)), 1)
        built.model.memory_bank = patches[torch.randint(len(patches), (count,))]
    elif issubclass(type(built), MemoryBankMixin):
        for _ in range(row["arguments"]["trainer"]["max_epochs"]):
            for _ in range(FIT_BATCHES):
                built.training_step(ImageBatch(image=torch.rand_like(images)))
            built.fit()
    built.eval()
    with FlopCounterMode(display=False) as counter:
        built.model(images[:1])
    path = built.to_openvino(folder, input_size=size, onnx_kwargs=job.ONNX)
    return path, counter.get_total_flops() / 1e9, list(images[:, None].numpy())


def large_convolutions(folder: Path, channels: int, side: int) -> Untrained:
    """Export a model that is nothing else."""
    x = image = opset13.parameter([1, channels, side, side], np.float32)
    kernel = np.random.default_rng(0).random((channels, channels, 3, 3), dtype=np.float32) - 0.5
    for _ in range(PEAK_LAYERS):
        x = opset13.relu(opset13.convolution(x, kernel, [1, 1], [1, 1], [1, 1], [1, 1]))
    path = folder / f"{channels}.xml"
    openvino.save_model(openvino.Model([x], [image]), path, compress_to_fp16=False)
    return path, PEAK_LAYERS * 2 * 9 * channels**2 * side**2 / 1e9, []


def peak_memory(path: Path) -> int:
    """Return the peak of memory of a process that loads a model and scores three images, in bytes."""
    # Not getrusage, which counts the process from which that one was forked.
    command = [sys.executable, "-c", PEAK_MEMORY, str(path)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) * 1024  # noqa: S603


def untrained(
    models: list[str] = [],  # noqa: B006  jsonargparse shows it
    image_sizes: list[tuple[int, int]] = [(640, 256)],  # noqa: B006
    precisions: list[str] = ["f32", "bf16", "int8"],  # noqa: B006
    rounds: int = 7,
    output: Path = FOLDER / "speed.jsonl",
) -> None:
    """Time untrained models, by default those that run.py takes, beside the machine's peak, at heights and widths.

    Of ``int8`` and ``int8, bf16`` there is Ear alone: its recipe for convolutions, all else f32.
    """
    every, environment, usable = plan.models(), store.environment(), able(precisions)
    names = models or [label for label, model in every.items() if not model.on_request]
    for size in image_sizes:
        data = plan.Dataset("none", "", size, per_class={"Fre": {"arguments": {"input_dim": size[0] * size[1] // 4}}})
        rows = {label: plan.job(label, every[label], data, 0) for label in names}
        with tempfile.TemporaryDirectory() as folder:
            made = {label: export_untrained(row, Path(folder, str(i))) for i, (label, row) in enumerate(rows.items())}
            peaks = {f"{PEAK}, {shape}": large_convolutions(Path(folder), *shape) for shape in PEAK_SHAPES}
            made |= peaks
            for precision in usable:
                paths = {label: path for label, (path, _, _) in made.items()}
                if precision.startswith("int8"):
                    own = [label for label, row in rows.items() if row["arguments"]["class"] == "Ear"]
                    paths = {label: ear.to_int8(paths[label], made[label][2]) for label in own}
                networks = {label: Network(path, PRECISIONS[precision][1]) for label, path in paths.items()}
                timed = time_models(networks, rounds)
                fastest = max(timed.keys() & peaks, key=lambda label: median(timed[label]["throughput"]), default=None)
                for label, metrics in timed.items():
                    if label in peaks and label != fastest:
                        continue
                    metrics["gflop"], path = made[label][1], paths[label]
                    metrics |= {"model_bytes": job.size_on_disk(path), "peak_memory_bytes": peak_memory(path)}
                    row = rows.get(label) or plan.job(PEAK, plan.Model("none"), data, 0)
                    row = row | {"dataset": None, "seed": None}
                    store.append(output, store.finish(row, environment, metrics, precision=precision))


def precisions(runs: list[Path], rounds: int = 15, output: Path = FOLDER / "precision.jsonl") -> None:
    """Measure trained Ears, of the folders of rows, in each precision of their export, on their test images."""
    usable = able(PRECISIONS)
    for run in runs:
        task, environment = job.read(run), store.environment()
        data = job.load_data(task)
        model: ear.Model = ear.Ear.load_from_checkpoint(task["checkpoint"]).eval()
        seen = list(job.examples(model, data.test_data))
        truth = job.answers(lambda image: model.post_processor(model.model(image)), tqdm(seen, desc="torch"))  # noqa: B023
        found: dict[str, dict[str, Any]] = {"torch, f32": measure(**truth)}
        networks, paths = {}, {}
        with tempfile.TemporaryDirectory() as folder:
            for name in usable:
                compression, precision = PRECISIONS[name]
                if compression not in paths:
                    paths[compression] = model.to_openvino(
                        Path(folder, str(compression)), input_size=tuple(task["arguments"]["image_size"]),
                        compression_type=compression, datamodule=data, onnx_kwargs=job.ONNX,
                    )  # fmt: skip
                networks[name] = Network(paths[compression], precision)
                said = job.answers(networks[name].ask(), tqdm(seen, desc=name))
                found[name] = measure(**said) | {
                    "model_bytes": job.size_on_disk(paths[compression]),
                    "order": float(spearmanr(truth["scores"], said["scores"]).statistic),
                    "score_difference": float((said["scores"] - truth["scores"]).abs().max()),
                    "map_difference": float((said["maps"] - truth["maps"]).abs().max()),
                }
            timed = time_models(networks, rounds)
        for name, metrics in found.items():
            store.append(output, store.finish(task, environment, metrics | timed.get(name, {}), precision=name))


def line(runs: list[Path], photographs: str, rounds: int = 10, output: Path = FOLDER / "line.jsonl") -> None:
    """Time exported models, of the folders of rows, alone, from file to score, and with heat maps."""
    files = islice(cycle(ear.find(photographs).files.values()), ROUND)
    chosen = {Path(f"{index:03d}-{file.name}"): file for index, file in enumerate(files)}
    for run in runs:
        row, environment = job.read(run), store.environment()
        model = ear.DeployedModel(run / EXPORTED, "throughput")
        with tempfile.TemporaryDirectory() as folder:
            tasks = {task: partial(on_line, task, model, chosen, Path(folder)) for task in TASKS}
            rates = in_turn(tasks, rounds, row["model"])
        store.append(output, store.finish(row, environment, rates, precision="f32"))


def on_line(task: str, model: ear.DeployedModel, files: dict[Path, Path], folder: Path) -> int:
    """Do a task on as many images as there are files; returns how many."""
    if task == TASKS[0]:
        image = np.random.default_rng(0).random((1, 3, *(model.size or (256, 256))), dtype=np.float32)
        with ThreadPoolExecutor(model.num_requests) as threads:
            return sum(1 for _ in threads.map(model.infer, repeat(image, len(files))))
    for _, scores in ear.Line(model, folder, heat_maps=task == TASKS[2], anomaly_maps=False).run(files):
        if isinstance(scores, Exception):
            raise scores
    return len(files)


if __name__ == "__main__":
    jsonargparse.auto_cli([untrained, precisions, line], as_positional=False)
