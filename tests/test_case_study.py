# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The case study's commands, one after the other, on generated photographs."""

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from anomalib_ear.data.surface_demo import draw
from conftest import REPOSITORY

COMMANDS = re.findall(r"```bash\n(.*?)\n```", (REPOSITORY / "docs" / "case_study.md").read_text(), re.DOTALL)
PHOTOGRAPHS = {"good": 8, "defective": 4, "new": 8}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a folder with the repository's files and photographs of parts."""
    (tmp_path / "docs").symlink_to(REPOSITORY / "docs")
    for name in ("benchmarks", "configs"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    # Shorter trainings, of smaller images: the commands are what is tried.
    config, data = tmp_path / "configs" / "folder.yaml", tmp_path / "benchmarks" / "datasets" / "folder.yaml"
    config.write_text(config.read_text().replace("[256, 256]", "[128, 128]") + "trainer: { max_epochs: 2 }\n")
    data.write_text(data.read_text().replace("[256, 256]", "[128, 128]").replace("max_epochs: 20", "max_epochs: 2"))
    for folder, count in PHOTOGRAPHS.items():
        (tmp_path / "parts" / folder).mkdir(parents=True)
        for index in range(count):
            label = "scratch" if folder == "defective" or (folder == "new" and index < 3) else "good"
            image, _ = draw("brushed_metal", "test", label, index, seed=len(folder))
            Image.fromarray(image).save(tmp_path / "parts" / folder / f"{index:03}.png")
    return tmp_path


@pytest.fixture
def environment(clone: Path, backbone: dict[str, str]) -> dict[str, str]:
    """Return one in which the checkout's package and this interpreter's programs are found."""
    programs = clone / "programs"
    programs.mkdir()
    (programs / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    # Through a shell, because the line that names an interpreter must not have a space in its path.
    command = "import anomalib_ear, anomalib.cli.cli as c; c.main()"
    (programs / "anomalib").write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{command}" "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | backbone | {"PATH": path, "PYTHONPATH": str(REPOSITORY / "src")}


def test_every_command_runs(clone: Path, environment: dict[str, str]) -> None:
    """Ten commands, none fails, and the last one tells good parts from scratched ones better than chance."""
    assert len(COMMANDS) == 10
    for command in COMMANDS:
        done = subprocess.run(
            shlex.split(command), cwd=clone, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, command + done.stdout[-2000:] + done.stderr[-2000:]
    with (clone / "inspected" / "scores.csv").open(newline="") as file:
        scores = [float(row["normalised_score"]) for row in csv.DictReader(file)]
    assert len(scores) == PHOTOGRAPHS["new"]
    assert sum(scores[:3]) / 3 > sum(scores[3:]) / 5
    assert (clone / "results" / "benchmark" / "report.html").exists()
