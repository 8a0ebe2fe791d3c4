# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Files of results and the tables made from them."""

import inspect
import json
from pathlib import Path

import anomalib.data
import anomalib.models
import detection
import end_to_end
import jsonargparse
import numpy as np
import precision
import pytest
import readme
import report
import results
import run
import torch
import tradeoff
from job import unit_range

from anomalib_ear import Ear

CONFIGS = [
    path for path in sorted((readme.ROOT / "configs" / "benchmark").rglob("*.yaml")) if path.stem != "stock"
]  # stock.yaml is anomalib's
COMMITTED = sorted((readme.ROOT / "benchmarks" / "results").rglob("*.jsonl"))


def row(model: str = "Ear", seed: int = 0, auroc: float = 0.5) -> results.Row:
    """Return as much of a row as a table needs."""
    return {"dataset": "D", "model": model, "seed": seed, "metrics": {"image_AUROC": auroc}}


class TestProduction:
    """What a line asks: how many good parts are scrapped, how many defects are missed."""

    SCORES = (0.1, 0.2, 0.3, 0.7, 0.4, 0.5, 0.6, 0.8)

    def scored(self, *, split_folders: bool = True) -> results.Row:
        """Return a row of four good and four defective images."""
        folders = ("good",) * 4 + (("crack", "crack", "stain", "stain") if split_folders else ("good",) * 4)
        images = [f"{folder}/{index}.png" for index, folder in enumerate(folders)]
        return row() | {"scores": list(self.SCORES), "labels": [False] * 4 + [True] * 4, "images": images}

    def test_good_parts_are_scrapped_to_find_defects(self) -> None:
        """All defects are found from 0.4 on, where one of four good parts is scrapped; three of them from 0.5 on."""
        assert results.scrapped(self.scored(), found=1) == 0.25
        assert results.scrapped(self.scored(), found=0.25) == 0

    def test_defects_are_missed_to_spare_good_parts(self) -> None:
        """Without any false alarm only the defect above 0.7 is found; with one in four, all are."""
        assert results.missed(self.scored(), alarms=0.01) == 0.75
        assert results.missed(self.scored(), alarms=0.5) == 0

    def test_kinds_of_defects_are_their_folders(self) -> None:
        """Each kind against all good images; none where good and defective images share folders."""
        assert results.kinds(self.scored()) == {"crack": 0.75, "stain": 0.875}
        assert results.kinds(self.scored(split_folders=False)) == {}


class TestFile:
    """What a killed run leaves, and what is read from it."""

    def test_a_torn_line_is_neither_read_nor_kept(self, tmp_path: Path) -> None:
        """The next row begins a line of its own."""
        path = tmp_path / "rows.jsonl"
        results.append(path, row(seed=0))
        path.write_text(path.read_text() + '{"dataset": "D", "mod')
        assert [line["seed"] for line in results.read(path)] == [0]
        results.append(path, row(seed=1))
        assert [line["seed"] for line in results.read(path)] == [0, 1]

    def test_a_damaged_line_is_named(self, tmp_path: Path) -> None:
        """A line in the middle is not passed over."""
        path = tmp_path / "rows.jsonl"
        path.write_text("{}\nnonsense\n{}\n")
        with pytest.raises(ValueError, match=r"rows\.jsonl, line 2"):
            results.read(path)

    def test_the_newest_row_counts(self, tmp_path: Path) -> None:
        """A row that was run again replaces its forerunner."""
        path = tmp_path / "rows.jsonl"
        for auroc in (0.1, 0.9):
            results.append(path, row(auroc=auroc))
        assert [line["metrics"]["image_AUROC"] for line in results.read(path)] == [0.9]


class TestTable:
    """Means and spreads."""

    COLUMNS = (results.Column("AUROC", results.metric("image_AUROC")), results.Column("AUPRO", results.metric("x")))

    def test_mean_and_standard_deviation_over_seeds(self) -> None:
        """One seed has no spread, a column without any value is left out, a failed row does not count."""
        rows = [row(seed=0, auroc=0.5), row(seed=1, auroc=0.7), row("Other"), row("Other", 1) | {"error": "broken"}]
        assert results.table(rows, self.COLUMNS) == [
            ["model", "seeds", "AUROC"],
            ["Ear", "2", "0.600 ± 0.141"],
            ["Other", "1", "0.500"],
        ]

    def test_markdown_keeps_a_bar_within_its_cell(self) -> None:
        """A label may hold what separates cells."""
        assert results.markdown([["model"], ["a|b"]]).splitlines()[2] == "| a\\|b |"


def test_hard_images_are_those_on_the_wrong_side() -> None:
    """The defective image below all good ones and the good one above all defective ones are hardest."""
    scores, labels = np.array([0.1, 0.2, 0.9, 0.0, 0.5, 0.6]), np.array([False, False, False, True, True, True])
    np.testing.assert_allclose(report.wrong_side(scores, labels), [1 / 3, 1 / 3, 1, 1, 1 / 3, 1 / 3])


def test_unit_range_keeps_order_and_scale_over_all_maps() -> None:
    """All maps are brought to [0, 1] by the same line."""
    first, second = unit_range([torch.tensor([-4.0, 0.0]), torch.tensor([0.0, 4.0])])
    assert first.tolist() == [0, 0.5]
    assert second.tolist() == [0.5, 1]


class TestCommitted:
    """The results that the repository shows."""

    def test_readme_shows_them(self) -> None:
        """`python benchmarks/readme.py` writes the README's tables."""
        text = readme.README.read_text(encoding="utf-8")
        assert readme.SECTION.search(text)
        assert readme.updated(text) == text, "run `python benchmarks/readme.py`"

    @pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
    def test_markdown_shows_them(self, path: Path) -> None:
        """The tables beside them are theirs."""
        expected = report.as_markdown(report.collect(path))
        assert path.with_suffix(".md").read_text(encoding="utf-8") == expected, "run `python benchmarks/report.py`"

    def test_detection_shows_them(self) -> None:
        """`python benchmarks/detection.py` writes the page about detection."""
        assert detection.OUTPUT.read_text(encoding="utf-8") == detection.text(), "run `python benchmarks/detection.py`"

    @pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
    def test_were_made_with_the_present_defaults(self, path: Path) -> None:
        """When a default of Ear changes, its rows are run again."""
        defaults = {name: parameter.default for name, parameter in inspect.signature(Ear).parameters.items()}
        for line in results.read(path):
            if line["spec"]["model"]["model"] == "Ear":
                given = {"seed": line["seed"], **line["spec"]["model"]["arguments"]}
                for name, value in line["arguments"].items():
                    expected = given.get(name, defaults[name])
                    assert value == (list(expected) if isinstance(expected, tuple) else expected), name


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_name_what_exists(path: Path) -> None:
    """Every shipped configuration is one that the command takes, with models and data sets that anomalib knows."""
    config = jsonargparse.auto_parser(run.run, as_positional=False).parse_args([f"--config={path}"])
    for model in config.models.values():
        assert hasattr(anomalib.models, model.model)
    for dataset in config.datasets.values():
        assert hasattr(anomalib.data, dataset.datamodule)


def test_time_of_a_model_ends_with_its_next_export(tmp_path: Path) -> None:
    """Other models of that timing, and rows that export nothing, keep theirs."""
    path = tmp_path / "rows.jsonl"
    timing = {"dataset": "Blots", "latencies": {"Ear": [0.1], "PaDiM": [0.2]}}
    rows = [timing, {"dataset": "Blots", "model": "PaDiM", "seed": 1}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert results.latencies(path) == {("Blots", "Ear"): [0.1], ("Blots", "PaDiM"): [0.2]}
    results.append(path, {"dataset": "Blots", "model": "Ear", "seed": 0, "exported": "model.xml"})
    assert results.latencies(path) == {("Blots", "PaDiM"): [0.2]}


def test_committed_pages_of_deployment_are_those_of_their_rows() -> None:
    """Precisions and end to end; the page of the latter shows the curve that lies beside it."""
    folder = readme.ROOT / "benchmarks" / "results"
    rows = {name: json.loads((folder / f"{name}.json").read_text()) for name in ("precision", "end_to_end")}
    assert (folder / "precision.md").read_text() == precision.text(rows["precision"])
    assert (folder / "end_to_end.md").read_text() == end_to_end.text(rows["end_to_end"], "end_to_end.png")
    assert (folder / "end_to_end.png").exists()


def test_accuracy_against_speed_takes_what_was_measured() -> None:
    """Speed of float32 as in the table of speed, eight bits by their ratio to float32 within a run."""
    found = tradeoff.points()
    rows = results.read(readme.ROOT / "benchmarks" / "results" / "kolektor.jsonl")
    patchcore = np.mean([row["metrics"]["image_AUROC"] for row in rows if row["model"] == "PatchCore"])
    assert found["PatchCore, a thousandth"][1] == pytest.approx(patchcore)
    assert found["Ear, int8"][0] > found["Ear"][0]
