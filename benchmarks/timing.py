# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Time exported models side by side.

One process holds all of them and lets each answer in turn, round after round, so that whatever else the machine does
hits all alike. Times of different runs are not comparable, their ratios within a run are.
"""

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openvino
from tqdm import tqdm

# f32 on every CPU: left to itself OpenVINO takes bfloat16 where there is AMX, and scores drift between machines.
CONFIGURATION = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
ROUNDS = 15
WARM_UP = 2
# Seconds of a turn at throughput, as far as whole images of every request allow.
TURN = 0.5


def precisions() -> set[str]:
    """Return the precisions of arithmetic that this CPU has, by OpenVINO's names, such as ``"bf16"``."""
    return {"f32", *map(str.lower, openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))}


def latencies(models: Mapping[str, Path], precision: str = "f32", rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Time one image at a time.

    Args:
        models: OpenVINO model (``.xml``) per label, of static shape, one image per batch.
        precision: Of the arithmetic.
        rounds: How often each answers, after the first, slower ones.

    Returns:
        Seconds per round for each label.
    """
    core = openvino.Core()
    configuration = CONFIGURATION | {"INFERENCE_PRECISION_HINT": precision}
    compiled = {label: core.compile_model(path, "CPU", configuration) for label, path in models.items()}
    images = {label: example(model) for label, model in compiled.items()}
    seconds: dict[str, list[float]] = {label: [] for label in models}
    for turn in tqdm(range(WARM_UP + rounds), desc="Latency", unit="round"):
        for label, model in compiled.items():
            start = time.perf_counter()
            model(images[label])
            if turn >= WARM_UP:
                seconds[label].append(time.perf_counter() - start)
    return seconds


def throughputs(
    models: Mapping[str, Path], precision: str | Mapping[str, str] = "f32", rounds: int = ROUNDS
) -> dict[str, list[float]]:
    """Time as many images at a time as OpenVINO finds best.

    Args:
        models: As for :func:`latencies`.
        precision: Of the arithmetic, of all models or of each.
        rounds: How often each has its turn.

    Returns:
        Images per second in each round for each label.
    """
    core = openvino.Core()
    queues = {}
    for label, path in models.items():
        hint = precision if isinstance(precision, str) else precision[label]
        configuration = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": hint}
        queues[label] = openvino.AsyncInferQueue(core.compile_model(path, "CPU", configuration))
    images = {label: example(queue[0]) for label, queue in queues.items()}
    counts = {label: len(queue) for label, queue in queues.items()}
    rates: dict[str, list[float]] = {label: [] for label in models}
    for turn in tqdm(range(WARM_UP + rounds), desc="Throughput", unit="round"):
        for label, queue in queues.items():
            start = time.perf_counter()
            for _ in range(counts[label]):
                queue.start_async(images[label])
            queue.wait_all()
            rate = counts[label] / (time.perf_counter() - start)
            if turn >= WARM_UP:
                rates[label].append(rate)
            else:
                counts[label] = max(1, round(TURN * rate / len(queue))) * len(queue)
    return rates


def example(model: openvino.CompiledModel | openvino.InferRequest) -> dict[int, np.ndarray]:
    """Return a random input."""
    port = model.input(0) if isinstance(model, openvino.CompiledModel) else model.model_inputs[0]
    return {0: np.random.default_rng(0).random(tuple(port.shape), dtype=np.float32)}


def peak_memory(path: Path) -> int:
    """Return the peak of memory of a process that loads a model and scores three images, in bytes."""
    done = subprocess.run([sys.executable, __file__, path], capture_output=True, text=True, check=True)  # noqa: S603
    return int(done.stdout) * 1024


if __name__ == "__main__":  # the process that peak_memory starts
    the_model = openvino.Core().compile_model(sys.argv[1], "CPU", CONFIGURATION)
    for _ in range(3):
        the_model(example(the_model))
    # Not getrusage, which counts the process from which this one was forked.
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    print(status["VmHWM"].split()[0])
