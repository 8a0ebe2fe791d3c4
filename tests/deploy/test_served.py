# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""An exported model in OpenVINO Model Server: the layout of docs/line.md, and the line's scores by the network."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch

from anomalib_ear import Ear
from anomalib_ear.deploy.runtime import DeployedModel

SIZE = (64, 96)
# What the documentation has the server ask OpenVINO for.
PLUGIN = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of models as the server wants it: name, version, and the two files."""
    torch.manual_seed(0)
    ear = Ear(space="pixels", image_size=SIZE, channels=[4, 8], masking="none", visualizer=False)
    good = torch.rand(12, 3, *SIZE)
    ear.model.train()(good)
    ear.model.keep_for_calibration(good)
    ear.model.calibrate()
    exported = ear.eval().to_openvino(tmp_path_factory.mktemp("exported"))
    models = tmp_path_factory.mktemp("models")
    (models / "ear" / "1").mkdir(parents=True)
    for file in (exported, exported.with_suffix(".bin")):
        shutil.copy(file, models / "ear" / "1")
    return models


@pytest.fixture
def photograph() -> np.ndarray:
    """Return a photograph ``(H, W, 3)``, uint8, of the size at which the model looks."""
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def as_input(photograph: np.ndarray) -> np.ndarray:
    """Return what the documentation has a client send, ``(1, 3, H, W)`` in [0, 1]."""
    return (photograph.transpose(2, 0, 1)[None] / 255).astype(np.float32)


def test_openvino_reads_the_layout(repository: Path, photograph: np.ndarray) -> None:
    """With the server's settings, names of inputs and outputs, and the line's score."""
    core = openvino.Core()
    model = core.read_model(repository / "ear" / "1" / "model.xml")
    assert [item.any_name for item in model.inputs] == ["input"]
    assert model.input("input").partial_shape == openvino.PartialShape([-1, 3, -1, -1])
    outputs = core.compile_model(model, "CPU", PLUGIN)({"input": as_input(photograph)})
    expected = DeployedModel(repository / "ear" / "1" / "model.xml").predict(photograph)
    assert outputs["pred_score"].item() == pytest.approx(expected.score, abs=1e-4)
    np.testing.assert_allclose(outputs["anomaly_map"][0, 0], expected.anomaly_map, atol=1e-4)


@pytest.fixture
def server(repository: Path) -> Iterator[str]:
    """Return the address of a server that has the model."""
    if shutil.which("ovms") is None:
        pytest.skip("OpenVINO Model Server is not installed: no ovms on the PATH")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["ovms", "--model_name", "ear", "--model_path", repository / "ear", "--rest_port", port]
    command += ["--rest_bind_address", "127.0.0.1", "--plugin_config", json.dumps(PLUGIN)]
    with subprocess.Popen([*map(str, command)]) as process:
        yield f"http://127.0.0.1:{port}/v2/models/ear"
        process.terminate()


def ask(url: str, question: dict[str, Any] | None = None) -> bytes:
    """Send a request, as JSON if it asks something."""
    data = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return bytes(answer.read())


def test_the_server_gives_the_lines_score(server: str, repository: Path, photograph: np.ndarray) -> None:
    """By the protocol of KServe, which every client of the server speaks."""
    for _ in range(300):
        try:
            ask(f"{server}/ready")
            break
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    image = as_input(photograph)
    tensor = {"name": "input", "shape": image.shape, "datatype": "FP32", "data": image.flatten().tolist()}
    answer = json.loads(ask(f"{server}/infer", {"inputs": [tensor]}))
    (score,) = (output["data"][0] for output in answer["outputs"] if output["name"] == "pred_score")
    expected = DeployedModel(repository / "ear" / "1" / "model.xml").predict(photograph)
    assert score == pytest.approx(expected.score, abs=1e-4)
