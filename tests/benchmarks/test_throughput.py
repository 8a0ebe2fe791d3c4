# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Speed and memory of exported models, on tiny images."""

import json
import subprocess
import sys
from pathlib import Path

import anomalib.models
import jsonargparse
import pytest
import throughput

from conftest import REPOSITORY

MODELS = {
    "Ear": {"model": "Ear", "arguments": {"space": "attention"}},
    "Ear, int8": {"model": "Ear", "arguments": {"space": "attention"}, "eight_bits": True},
    "PatchCore": {
        "model": "Patchcore",
        "arguments": {"backbone": "resnet18", "layers": ["layer2"], "pre_trained": False},
        "memory": 50,
    },
    "PaDiM": {
        "model": "Padim",
        "arguments": {"backbone": "resnet18", "layers": ["layer1"], "pre_trained": False, "n_features": 20},
    },
}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the rows that the command wrote."""
    output = tmp_path_factory.mktemp("throughput") / "speed.json"
    command = [sys.executable, REPOSITORY / "benchmarks" / "throughput.py", "--output", output, "--rounds", "3"]
    sizes, models = "[[64, 64], [128, 64]]", json.dumps(MODELS)
    done = subprocess.run(
        [*map(str, command), "--image_sizes", sizes, "--models", models], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return output


def test_every_model_is_timed_at_every_size(output: Path) -> None:
    """Rows hold every round, what the model takes, and where that was."""
    rows = json.loads(output.read_text())
    labels = [throughput.PEAK, *MODELS]
    assert [(row["image_size"], row["model"]) for row in rows] == [
        (size, label) for size in ([64, 64], [128, 64]) for label in labels
    ]
    for row in rows:
        assert len(row["latency"]) == len(row["throughput"]) == 3
        assert min(row["latency"] + row["throughput"]) > 0
        assert row["gflop"] > 0
        assert row["environment"]["machine"]
    ear, padim = (next(row["peak_memory_bytes"] for row in rows if row["model"] == label) for label in ("Ear", "PaDiM"))
    assert 5e7 < ear < 1e9  # neither torch nor anomalib is in it
    assert ear != padim
    for size in ([64, 64], [128, 64]):
        exact, quantised = (
            next(row["bytes"] for row in rows if (row["model"], row["image_size"]) == (label, size))
            for label in ("Ear", "Ear, int8")
        )
        assert quantised < exact


def test_tables_name_the_fastest_first(output: Path) -> None:
    """One table per size, and how cost grows over the sizes."""
    text = output.with_suffix(".md").read_text()
    assert text == throughput.text(json.loads(output.read_text()))
    for part in text.split("## ")[1:]:
        lines = [line.split("|") for line in part.splitlines() if line.startswith("| ")]
        rates = [float(line[3].split()[0]) for line in lines[2:]]
        assert rates == sorted(rates, reverse=True)
    assert "to the power of: Ear " in text


def test_growth_is_the_exponent() -> None:
    """A model whose seconds quadruple with four times the pixels grows linearly."""
    sizes, rates = ([64, 64], [128, 128]), (40.0, 10.0)
    rows = [
        {"model": "Ear", "precision": "f32", "image_size": size, "throughput": [rate] * 3}
        for size, rate in zip(sizes, rates, strict=True)
    ]
    assert throughput.growth(rows) == "Ear 1.00"


@pytest.mark.parametrize("name", ["throughput", "throughput_sizes"])
def test_configurations_name_what_exists(name: str) -> None:
    """Every model is one of anomalib's, and so are its arguments; the committed tables are those of its rows."""
    config = jsonargparse.auto_parser(throughput.run, as_positional=False).parse_args(
        [f"--config={REPOSITORY / 'configs' / name}.yaml"]
    )
    for model in config.models.values():
        assert hasattr(anomalib.models, model.model)
    rows = json.loads((REPOSITORY / config.output).read_text())
    assert {row["model"] for row in rows} == {throughput.PEAK, *config.models}
    assert (REPOSITORY / config.output.with_suffix(".md")).read_text() == throughput.text(rows)
