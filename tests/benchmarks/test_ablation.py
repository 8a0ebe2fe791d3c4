# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The study of masks and gates, on tiny surfaces."""

import json
import subprocess
import sys
from pathlib import Path

import ablation
import jsonargparse
import pytest
import results
import torch
from accuracy import measure

from anomalib_ear import Ear
from anomalib_ear.method.masking import Masking
from anomalib_ear.method.spaces import build_space
from conftest import REPOSITORY


def command(surfaces: Path, output: Path) -> list[str]:
    """Return the command line of one seed."""
    dataset = {
        "datamodule": "Folder",
        "image_size": [64, 128],
        "arguments": {
            "name": "surface", "root": str(surfaces), "normal_dir": "good", "abnormal_dir": "defective",
            "mask_dir": "masks", "train_batch_size": 4, "num_workers": 0, "val_split_mode": "from_train",
            "val_split_ratio": 0.25, "seed": 0,
        },
    }  # fmt: skip
    return [
        sys.executable, str(REPOSITORY / "benchmarks" / "ablation.py"), "--arguments.space", "attention",
        "--seeds", "[0]", "--epochs", "1", "--output", str(output), "--datasets", json.dumps({"Surfaces": dataset}),
    ]  # fmt: skip


def test_every_combination_is_a_row_and_made_once(surfaces: Path, tmp_path: Path) -> None:
    """All gates with and without mask and gates in training; a second run adds nothing and keeps the table."""
    output = tmp_path / "rows.json"
    for _ in range(2):
        done = subprocess.run(command(surfaces, output), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        rows = results.read_list(output)
        assert len(rows) == 1 + 4 * 4 + 4 + 2
    shown = {ablation.settings(row) for row in rows}
    assert len(shown) == len(rows)
    assert ("–", "–", "no recovery", "–") in shown
    assert ("attention", "no", "attention", "··") in shown
    assert ("attention", "yes", "oracle", "·|") in shown
    assert all(0 <= value <= 1 for row in rows for part in ("metrics", "proxy") for value in row[part].values())
    table = output.with_suffix(".md").read_text()
    assert table.count("\n| ") == len(rows) + 2
    assert "rank correlation" in table


def configuration(path: Path) -> jsonargparse.Namespace:
    """Read a shipped configuration as the command does."""
    return jsonargparse.auto_parser(ablation.run, as_positional=False).parse_args([f"--config={path}"])


CONFIGS = {path.stem: path for path in sorted((REPOSITORY / "configs" / "ablation").iterdir())}
COMMITTED = sorted((REPOSITORY / "benchmarks" / "results").glob("ablation_*.json"))


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations_write_where_the_tables_are_looked_for(name: str) -> None:
    """Their arguments are Ear's, and the study of each has its own file."""
    config = configuration(CONFIGS[name])
    assert config.output == Path("benchmarks/results", f"ablation_{name}.json")
    assert Ear(**config.arguments).model.stride


@pytest.mark.parametrize("output", COMMITTED, ids=lambda path: path.stem)
def test_the_committed_tables_are_those_of_the_rows(output: Path) -> None:
    """The rows were made with their configuration, and the page beside them was written from them."""
    config = configuration(CONFIGS[output.stem.removeprefix("ablation_")])
    rows = results.read_list(output)
    assert all((row["arguments"], row["epochs"]) == (config.arguments, config.epochs) for row in rows)
    assert {row["dataset"] for row in rows} == set(config.datasets)
    assert output.with_suffix(".md").read_text() == ablation.text(rows)


def test_a_defect_that_nobody_marked_is_one() -> None:
    """Magnetic tiles have a few: they count as defective images, and their pixels as good ones."""
    maps = torch.zeros(4, 1, 16, 16)
    maps[2, 0, :4, :4] = 0.5
    maps[3] = 0.25
    maps[1] = 0.1
    truth = torch.zeros(4, 16, 16, dtype=torch.bool)
    truth[2, :4, :4] = True
    labels = torch.tensor([False, False, True, True])
    measured = measure(maps.amax(dim=(1, 2, 3)), labels, maps, truth)
    assert measured == pytest.approx({"image_AUROC": 1, "pixel_AUROC": 1, "pixel_AUPRO": 1})


@pytest.mark.parametrize("kind", ["attention", "random", "none", "oracle", "second pass"])
def test_what_is_excised_is_empty_and_the_rest_as_it_was(kind: str) -> None:
    """The mask is the last channel; each kind marks what it says."""
    torch.manual_seed(0)
    truth = torch.zeros(2, 64, 64, dtype=torch.bool)
    truth[1, :16, :32] = True
    split = ablation.Split(torch.randn(2, 120, 4, 4), torch.rand(2, 1, 4, 4), truth, truth.any(dim=(1, 2)))
    space = build_space("attention")
    excise = ablation.Excision(Masking(hint="empty", dilation=0, excised_share=0.2), space)
    second = torch.zeros(2, 1, 4, 4)
    second[..., 3, 3] = 1
    x = excise(kind, split, slice(0, 2), second)
    features, mask = x[:, :-1], x[:, -1:]
    torch.testing.assert_close(features, split.target * (1 - mask))
    count = mask.sum(dim=(1, 2, 3)).tolist()
    expected = {"none": [0, 0], "oracle": [3, 2], "second pass": [1, 1]}.get(kind, [3, 3])
    assert count == expected
    if kind == "oracle":
        assert mask[1, 0, 0, :2].tolist() == [1, 1]
    if kind == "second pass":
        assert mask[:, 0, 3, 3].tolist() == [1, 1]
