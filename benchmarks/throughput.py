# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Time exported models side by side.

One process holds all of them and lets each answer in turn, round after round, so that whatever else the machine does
hits all alike. Times of different runs are not comparable, their ratios within a run are.
"""

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


def latencies(models: Mapping[str, Path], image_size: tuple[int, int]) -> dict[str, list[float]]:
    """Time one image at a time.

    Args:
        models: OpenVINO model (``.xml``) per label, of static shape, one image per batch.
        image_size: Height and width in pixels of the image that all get.

    Returns:
        Seconds per round for each label.
    """
    core = openvino.Core()
    image = np.random.default_rng(0).random((1, 3, *image_size), dtype=np.float32)
    compiled = {label: core.compile_model(path, "CPU", CONFIGURATION) for label, path in models.items()}
    seconds: dict[str, list[float]] = {label: [] for label in models}
    for turn in tqdm(range(WARM_UP + ROUNDS), desc="Timing", unit="round"):
        for label, model in compiled.items():
            start = time.perf_counter()
            model(image)
            if turn >= WARM_UP:
                seconds[label].append(time.perf_counter() - start)
    return seconds
