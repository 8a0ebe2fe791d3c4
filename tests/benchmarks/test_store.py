# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Files of rows, what is measured, and the tables made from them."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anomalib_ear.method.precision import has_bfloat16
from benchmarks import metrics, plan, report, store, tables
from benchmarks.frames import frame, last_versions
from conftest import REPOSITORY

COMMITTED = sorted(store.RESULTS.glob("*.jsonl"))


def row(model: str = "Ear", seed: int = 0, auroc: float = 0.5, **others: object) -> store.Row:
    """Return as much of a row as a table needs."""
    made: dict[str, Any] = {
        "model": model, "dataset": "D", "seed": seed, "machine": "one", "threads": 1, "fingerprint": "f",
        "versions": {}, "command": "", "date": "2026-01-01", "arguments": {"seed": seed},
        "metrics": {"image_AUROC": auroc, "fit_seconds": 10 * auroc},
    }  # fmt: skip
    return made | others


class TestFile:
    """What a killed run leaves, and what is read from it."""

    def test_a_torn_line_is_neither_read_nor_kept(self, tmp_path: Path) -> None:
        """The next row begins a line of its own."""
        path = tmp_path / "rows.jsonl"
        store.append(path, row(seed=0))
        path.write_text(path.read_text() + '{"dataset": "D", "mod')
        assert [line["seed"] for line in store.read(path)] == [0]
        store.append(path, row(seed=1))
        assert [line["seed"] for line in store.read(path)] == [0, 1]

    def test_a_damaged_line_is_named(self, tmp_path: Path) -> None:
        """A damaged line in the middle is an error, not skipped."""
        path = tmp_path / "rows.jsonl"
        path.write_text("{}\nnonsense\n{}\n")
        with pytest.raises(ValueError, match=r"rows\.jsonl, line 2"):
            store.read(path)

    @pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
    def test_committed_rows_have_one_format(self, path: Path) -> None:
        """Every file has the same fields, and none names a folder of the machine that made it."""
        rows = store.read(path)
        assert rows
        assert all(set(line) == set(store.FIELDS) for line in rows)
        assert not [line["command"] for line in rows if re.search(r"(^|[^\w.…])/\w", line["command"])]

    def test_machines_that_train_in_other_precisions_have_other_names(self) -> None:
        """A name without a word on it is that of a processor with AVX-512 BF16."""
        named = store.environment()["machine"]
        capabilities = torch.cpu.get_capabilities()
        assert ("no bfloat16" in named) is not has_bfloat16("cpu")
        assert ("AMX" in named) is bool(capabilities.get("amx_bf16"))

    def test_a_command_names_no_folder_of_the_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of an absolute path the last name stays; relative ones and all else stay as they were."""
        given = [
            "/x/benchmarks/run.py",
            "--roots",
            "{a: /mnt/my/a, b: data/b}",
            "--output=/tmp/rows.jsonl",
            "--models",
            "[A/B]",
        ]
        monkeypatch.setattr("sys.argv", given)
        expected = "python -m benchmarks.run --roots '{a: …/a, b: data/b}' --output=…/rows.jsonl --models '[A/B]'"
        assert store.command() == expected

    def test_commands_that_differ_in_one_list_are_one(self) -> None:
        """It makes the same rows: seeds of the same models, models of the same seeds, never more than were made."""
        commands = [
            "run --models '[\"A, b\"]' --seeds '[0]'", "run --models '[C]' --seeds '[0, 1]'",
            "run --models '[\"A, b\"]' --seeds '[1]'", "run --models '[D]' --seeds '[2]'",
            "run --seeds '[0]' --x '{y: []}'",
        ]  # fmt: skip
        assert store.together(commands) == [
            """run --models '["A, b", "C"]' --seeds '[0, 1]'""", """run --models '["D"]' --seeds '[2]'""",
            "run --seeds '[0]' --x '{y: []}'",
        ]  # fmt: skip


class TestMetrics:
    """The one place where a metric is computed."""

    LABELS = torch.tensor([False] * 4 + [True] * 4)
    SCORES = torch.tensor([0.1, 0.2, 0.3, 0.7, 0.4, 0.5, 0.6, 0.8]).double()

    def test_what_a_line_asks(self) -> None:
        """All defects are found from 0.4 on, where one good part of four is scrapped; without alarms, from 0.8 on."""
        good, defective = self.SCORES[:4].numpy(), self.SCORES[4:].numpy()
        assert metrics.scrapped(good, defective, found=1) == 0.25
        assert metrics.scrapped(good, defective, found=0.25) == 0
        assert metrics.missed(good, defective, alarms=0.01) == 0.75
        assert metrics.missed(good, defective, alarms=0.5) == 0

    def test_shares_above_a_models_threshold(self) -> None:
        """A score of the threshold itself is not above it; a model that has none says nothing."""
        assert metrics.shares(self.SCORES, self.LABELS, 0.5) == {"rejected": 0.25, "found": 0.5}
        assert metrics.shares(self.SCORES, self.LABELS, float("nan")) == {}

    def test_kinds_of_defects_are_their_folders(self) -> None:
        """Each kind against all good images; none where good and defective images share folders."""
        images = [f"good/{index}" for index in range(4)] + ["crack/4", "crack/5", "stain/6", "stain/7"]
        assert metrics.kinds(self.SCORES, self.LABELS, images) == {"kind_crack": 0.75, "kind_stain": 0.875}
        assert metrics.kinds(self.SCORES, self.LABELS, ["all/0"] * 8) == {}

    def test_scores_of_any_range_give_the_same(self) -> None:
        """Anomalib's metrics would flatten those beyond [0, 1] by a sigmoid."""
        maps = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        truth = torch.zeros(8, 16, 16, dtype=torch.bool)
        truth[4:, :4, :4] = True
        expected = metrics.measure(self.SCORES, self.LABELS, maps, truth)
        found = metrics.measure(100 * self.SCORES - 50, self.LABELS, 100 * maps - 50, truth)
        assert found == pytest.approx(expected, abs=1e-5)
        assert expected["image_AUROC"] == pytest.approx(13 / 16)

    def test_a_defect_that_nobody_marked_is_one(self) -> None:
        """Magnetic tiles have a few: they count as defective images, and their pixels as good ones."""
        maps = torch.zeros(4, 1, 16, 16)
        maps[2, 0, :4, :4], maps[3], maps[1] = 0.5, 0.25, 0.1
        truth = torch.zeros(4, 16, 16, dtype=torch.bool)
        truth[2, :4, :4] = True
        labels = torch.tensor([False, False, True, True])
        found = metrics.measure(maps.amax(dim=(1, 2, 3)).double(), labels, maps, truth)
        assert (found["image_AUROC"], found["pixel_AUROC"], found["pixel_AUPRO"]) == pytest.approx((1, 1, 1))

    def test_not_a_number_is_refused(self) -> None:
        """A diverged model has no metric."""
        with pytest.raises(ValueError, match="not finite"):
            metrics.measure(self.SCORES * torch.nan, self.LABELS)


class TestTables:
    """What is averaged, and what is not."""

    def test_seeds_are_averaged_and_machines_are_not(self) -> None:
        """Nor are other arguments and other versions of the method; one seed has no spread."""
        rows = [
            row(seed=0, auroc=0.5),
            row(seed=1, auroc=0.7),
            row(seed=2, auroc=0.9, machine="another"),
            row("Old", auroc=0.4, fingerprint="e"),
            row("Old", 1, auroc=0.3, arguments={"seed": 1, "trainer": {}}),
            row("Old", 2, auroc=0.2, arguments={"seed": 2, "data": {"fold": 2, "train_batch_size": 4}}),
            row("Old", 3, auroc=0.1, arguments={"seed": 3, "data": {"fold": 0, "train_batch_size": 4}}),
            row("Old", 4, auroc=0.1, arguments={"seed": 4, "data": {"fold": 1, "train_batch_size": 8}}),
        ]
        found = dict(tables.results(rows))
        averaged = ["0.600 ± 0.141", "0.400", "0.300", "0.150 ± 0.071", "0.100"]
        assert list(found["Images, one:"]["image AUROC"]) == averaged
        assert list(found["Images, another:"]["image AUROC"]) == ["0.900"]

    def test_a_row_made_anew_is_of_the_last_version(self) -> None:
        """Wherever the old row of the same seed stood."""
        rows = [row(seed=seed, auroc=0.5) for seed in range(3)] + [row(seed=0, auroc=0.7, fingerprint="new")]
        assert list(last_versions(frame(store.newest(rows)))["image_AUROC"]) == [0.7]

    def test_cost_is_one_machine(self) -> None:
        """Another number of threads is another machine."""
        rows = [row(), row("Other"), row("Other", 1, machine="fast"), row("Third", threads=2)]
        found = {title: list(table["model"]) for title, table in tables.results(rows) if "Cost" in title}
        assert found == {
            "Cost, one, 1 thread:": ["Ear", "Other"], "Cost, fast, 1 thread:": ["Other"],
            "Cost, one, 2 threads:": ["Third"],
        }  # fmt: skip

    def test_speed_never_mixes_precisions_or_moments(self) -> None:
        """The peak is that of the same moment and precision, or is not named."""

        def timed(model: str, precision: str, date: str, rate: float) -> store.Row:
            measured = {"latency": [1 / rate] * 3, "throughput": [rate] * 3, "gflop": 2.0}
            measured |= {"model_bytes": 1e6, "peak_memory_bytes": 1e8}
            return row(model, date=date, arguments={"precision": precision}, metrics=measured)

        rows = [
            timed(tables.PEAK, "f32", "1", 100), timed("Ear", "f32", "1", 50), timed("Ear", "bf16", "1", 80),
            timed("Ear", "f32", "2", 70),
        ]  # fmt: skip
        (_, exact), (_, coarse), (_, later) = tables.speed(rows)
        assert list(exact["of the peak"]) == ["50%"]
        assert "of the peak" not in coarse
        assert "of the peak" not in later


def figures(text: str) -> dict[str, list[list[str]]]:
    """Return the body lines of each table that stands between markers."""
    found = re.findall(r"<!-- table: (.+?) -->\n(.*?)<!-- end -->", text, re.DOTALL)
    lines = {
        name: [line.strip("|").split("|") for line in part.splitlines() if line[:1] == "|"] for name, part in found
    }
    return {
        name: [[cell.strip() for cell in line] for line in body if "---" not in line[1]] for name, body in lines.items()
    }


DOCUMENTS = {path.name: path.read_text() for path in (REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md"))}
DOCUMENTS["the README's tables"] = "".join(
    f"<!-- table: {name} -->\n{tables.table(name)}\n<!-- end -->\n" for name in ("readme results", "readme speed")
)
TABLES = {
    f"{document}: {name}": (name, lines)
    for document, text in DOCUMENTS.items()
    for name, lines in figures(text).items()
}


class TestDocuments:
    """A reader relies on the figures of documents: they are looked up in the store."""

    @pytest.mark.parametrize(
        ("document", "name"), [(key, name) for key, (name, _) in TABLES.items() if "readme" in name]
    )
    def test_a_model_has_one_line_in_the_readme(self, document: str, name: str) -> None:
        """Each table has few lines, and each model one of them."""
        _, *body = TABLES[document][1]
        assert len(body) <= (8 if name == "readme results" else 5)
        assert len({line[0] for line in body}) == len(body)

    @pytest.mark.parametrize("name", [key for key, (name, _) in TABLES.items() if name == "readme results"])
    def test_results_are_those_of_one_machine(self, name: str) -> None:
        """Each mean is that of all seeds of a model and a version on one machine, the same for all."""
        header, *body = TABLES[name][1]
        rows = store.read(store.RESULTS / "detection.jsonl")
        possible = []
        for machine in {line["machine"] for line in rows}:
            wrong = 0
            for model, *cells in body:
                for title, cell in zip(header[1:], cells, strict=True):
                    part, metric = title.split(": ")
                    mine: dict[str, list[float]] = {}
                    for line in rows:
                        if (line["model"], line["dataset"], line["machine"]) == (model, tables.README[part], machine):
                            mine.setdefault(line["fingerprint"], []).append(line["metrics"][tables.MAIN[metric][0]])
                    wrong += cell.split(" ")[0] not in {f"{np.mean(some):.3f}" for some in mine.values()}
            possible += [machine] if not wrong else []
        assert len(possible) == 1
        assert possible[0] in (DOCUMENTS["README.md"] + DOCUMENTS["the README's tables"])

    @pytest.mark.parametrize("name", [key for key, (name, _) in TABLES.items() if name == "readme speed"])
    def test_speed_is_that_of_one_run_in_f32(self, name: str) -> None:
        """Each rate is the median of one row; all have one moment, size and precision, and the results' machine."""
        header, *body = TABLES[name][1]
        runs = []
        for line in body:
            shown = dict(zip(header, line, strict=True))
            runs += [
                {(made["machine"], made["date"], str(made["arguments"]["image_size"]), made["arguments"]["precision"])}
                for made in store.read(store.RESULTS / "speed.jsonl")
                if made["model"] == shown["model"]
                and f"{np.median(made['metrics']['throughput']):.1f}" == shown["images/s"].split(" ")[0]
            ]
        assert len(runs) == len(body)
        (found,) = set.union(*runs)
        assert found[-1] == "f32"
        assert f"Machine: {found[0]}." in tables.readme_results()

    @pytest.mark.parametrize("name", [key for key, (name, _) in TABLES.items() if not name.startswith("readme")])
    def test_other_tables_are_up_to_date(self, name: str) -> None:
        """They were written from the rows that are there now."""
        assert (
            TABLES[name][1]
            == figures(f"<!-- table: {TABLES[name][0]} -->\n{tables.table(TABLES[name][0])}\n<!-- end -->")[
                TABLES[name][0]
            ]
        ), "run `python -m benchmarks.tables pages`"

    @pytest.mark.parametrize("name", ["detection", "robustness"])
    def test_the_store_s_pages_are_up_to_date(self, name: str) -> None:
        """They were written from the rows that are there now."""
        page = store.RESULTS / f"{name}.md"
        assert page.read_text() == tables.page(page.with_suffix(".jsonl")), "run `python -m benchmarks.tables pages`"


class TestReport:
    """What the page shows."""

    def test_hard_images_are_those_on_the_wrong_side(self) -> None:
        """The defective image below all good ones and the good one above all defective ones are hardest."""
        scores, labels = np.array([0.1, 0.2, 0.9, 0.0, 0.5, 0.6]), np.array([False, False, False, True, True, True])
        np.testing.assert_allclose(report.wrong_side(scores, labels), [1 / 3, 1 / 3, 1, 1, 1 / 3, 1 / 3])

    def test_every_model_has_a_colour_of_its_own(self) -> None:
        """No two models share a colour, however many there are."""
        models = list(plan.models())
        assert len(set(report.colors(models).values())) == len(models) > 20


def test_rows_are_plain_json() -> None:
    """A job equals the row that is read back."""
    made = plan.job("Ear", plan.models()["Ear"], plan.datasets()["kolektor_by_part"], 1)
    assert json.loads(json.dumps(made)) == made
