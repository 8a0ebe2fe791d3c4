# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The end of a run: how many parts are defective, and where table, pictures and checkpoint are."""

import csv
import hashlib
import re
import shutil
from pathlib import Path

import pytest

from conftest import Run, cli


def said(output: str) -> dict[str, Path]:
    """Return the files and folders that a command's output names at its end."""
    return {kind: Path(path) for kind, path in re.findall(r"(Checkpoint|Scores|Pictures): (/.*?) *$", output, re.M)}


@pytest.mark.parametrize("run", ["pixels"], indirect=True)
def test_training_ends_with_where_everything_is(run: Run) -> None:
    """Training is followed by a test, whose table and pictures are named beside the checkpoint."""
    found = said(run.output)
    assert found["Checkpoint"].resolve() == run.checkpoint
    assert found["Scores"].is_file()
    assert any(found["Pictures"].rglob("*.png"))
    assert re.search(r"\d+ good, \d+ defective\.", run.output)


@pytest.mark.parametrize("run", ["pixels"], indirect=True)
@pytest.mark.parametrize("command", ["predict", "test"])
def test_a_table_of_scores_is_written(run: Run, command: str, surfaces: Path, tmp_path: Path) -> None:
    """One row per photograph in the columns of the line's, counted at the end; there are no other words for them."""
    data = ["--data", surfaces / "defective"]
    if command == "test":
        data = ["--data", "Folder", "--data.name", "surface", "--data.root", surfaces, "--data.normal_dir", "good",
                "--data.abnormal_dir", "defective", "--data.num_workers", "0"]  # fmt: skip
    done = cli(command, "--model", "Ear", *data, "--ckpt_path", run.checkpoint, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = said(done.stdout + done.stderr)
    with found["Scores"].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["path"] for row in rows}) == len(rows)
    assert rows
    for row in rows:
        assert row["sha256"] == hashlib.sha256(Path(row["path"]).read_bytes()).hexdigest()
        assert 0 <= float(row["raw_score"]) < 1
        assert row["label"] == ("defective" if float(row["normalised_score"]) > 0.5 else "good")
    defective = sum(row["label"] == "defective" for row in rows)
    assert f"{len(rows) - defective} good, {defective} defective." in done.stdout + done.stderr
    judged = re.findall(
        r"(\d+) of (\d+) defective parts are found, (\d+) of (\d+) good parts are rejected\.", done.stderr
    )
    if command == "test":
        ((found_bad, bad, rejected, good),) = {tuple(map(int, numbers)) for numbers in judged}
        of = [Path(row["path"]).parent.name for row in rows]
        called = [Path(row["path"]).parent.name for row in rows if row["label"] == "defective"]
        assert (bad, good) == (of.count("defective"), of.count("good"))
        assert (found_bad, rejected) == (called.count("defective"), called.count("good"))
    else:
        assert not judged
    assert len(list(found["Pictures"].rglob("*.png"))) == len(rows)


@pytest.mark.parametrize("run", ["pixels"], indirect=True)
def test_a_second_run_says_what_becomes_of_the_first(run: Run, surfaces: Path, tmp_path: Path) -> None:
    """The checkpoint is the one that was loaded, wherever it was written; earlier scores and pictures are told of."""
    copied = tmp_path / "copied.ckpt"
    shutil.copy(run.checkpoint, copied)
    outputs = []
    for name in ("defective", "good"):
        done = cli("predict", "--model", "Ear", "--data", surfaces / name, "--ckpt_path", copied, cwd=tmp_path)
        outputs.append(done.stdout + done.stderr)
        assert said(outputs[-1])["Checkpoint"] == copied
    found = said(outputs[0])
    assert f"Scores (earlier ones were replaced): {found['Scores']}" in outputs[1]
    assert f"Pictures (beside earlier ones): {found['Pictures']}" in outputs[1]
