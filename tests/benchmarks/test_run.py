# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The benchmark's commands on tiny surfaces: rows, resuming, failures, speed and the report."""

import html.parser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.metrics import roc_auc_score

from benchmarks import failures, plan, run, speed, store, tables
from conftest import REPOSITORY, cli, use

BLOTS = {
    "label": "Blots", "datamodule": "Folder", "image_size": [64, 128], "proxy": True,
    "arguments": {
        "name": "surface", "root": "photographs", "normal_dir": "good", "abnormal_dir": "defective",
        "mask_dir": "masks",
        "train_batch_size": 4, "eval_batch_size": 3, "num_workers": 0, "normal_split_ratio": 0.3,
        "val_split_mode": "from_train", "val_split_ratio": 0.3, "seed": 0,
    },
    "trainer": {"max_epochs": 1},
}  # fmt: skip
CHROMIUM = shutil.which("chromium")
FEATURES, PADIM = "Ear, no variation", "PaDiM"


def command(module: str, *arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one of the benchmarks' modules in a process of its own."""
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "src")])
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)],
        cwd=cwd, env=os.environ | {"PYTHONPATH": path} | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


class Benchmark(NamedTuple):
    """A finished benchmark: where it ran, and the process."""

    folder: Path
    done: subprocess.CompletedProcess[str]

    @property
    def output(self) -> Path:
        """Return its rows' file."""
        return self.folder / "results" / "benchmark" / "rows.jsonl"

    def again(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run the command once more, where nothing can be trained for want of weights."""
        return command("run", "--datasets", "[blots.yaml]", *arguments, cwd=cwd or self.folder, HF_HUB_OFFLINE="1")


@pytest.fixture(scope="session")
def benchmark(surfaces: Path, backbone: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """Return a benchmark of two models, and one that fails: its textures are not there."""
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "blots.yaml").write_text(yaml.safe_dump(BLOTS))
    (folder / "photographs").symlink_to(surfaces)
    arguments = ["--datasets", "[blots.yaml]", "--models", f'["{FEATURES}", PaDiM, Draem]']
    return Benchmark(folder, command("run", *arguments, cwd=folder, **backbone))


class TestRows:
    """What a run leaves behind."""

    def test_a_failure_is_reported_and_costs_no_other(self, benchmark: Benchmark) -> None:
        """The command ends with 1 and says which row failed."""
        assert benchmark.done.returncode == 1, benchmark.done.stderr
        rows = {row["model"]: row for row in store.read(benchmark.output)}
        assert ["error" in rows[name] for name in (FEATURES, PADIM, "Draem")] == [False, False, True]
        assert "failed: Blots / Draem / seed 0" in benchmark.done.stdout + benchmark.done.stderr

    def test_other_photographs_are_another_row(
        self, benchmark: Benchmark, surfaces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A folder that was moved is the same; one photograph in another's place is not."""
        rows = store.read(benchmark.output)
        job = plan.job(PADIM, plan.models()[PADIM], plan.Dataset(**BLOTS), 0) | {"root": None}  # type: ignore[arg-type]
        folder = benchmark.output.parent / store.folder_name(job)
        shutil.copytree(surfaces, tmp_path / "photographs")
        monkeypatch.chdir(tmp_path)
        assert run.why_run(job, rows, folder) is None
        shutil.copy("photographs/good/000.png", "photographs/good/001.png")
        assert run.why_run(job, rows, folder) == "other photographs"
        assert run.why_run(job, rows, tmp_path) is None

    def test_metrics_are_those_of_raw_scores(self, benchmark: Benchmark) -> None:
        """PaDiM's scores leave [0, 1], where anomalib's metrics would flatten them by a sigmoid."""
        for row in store.read(benchmark.output)[:2]:
            assert set(row) == set(store.FIELDS)
            with np.load(benchmark.output.parent / store.folder_name(row) / "images.npz") as kept:
                expected, greatest = roc_auc_score(kept["labels"], kept["scores"]), kept["scores"].max()
            assert row["metrics"]["image_AUROC"] == pytest.approx(expected, abs=1e-5)
            assert 0 <= row["metrics"]["proxy_image_AUROC"] <= 1
            assert row["metrics"]["peak_memory_bytes"] > 1e8
        assert greatest > 1

    def test_a_second_run_says_what_it_does_not_train(self, benchmark: Benchmark) -> None:
        """It says so for each row that is there, and trains none of them."""
        before = benchmark.output.read_text()
        done = benchmark.again("--models", f'["{FEATURES}", PaDiM]')
        assert done.returncode == 0, done.stderr
        assert f"not trained again: Blots / {FEATURES} / seed 0" in done.stdout
        assert "Trained 0 rows, 0 failed, 2 were there." in done.stdout
        assert benchmark.output.read_text() == before

    def test_what_changed_is_named(self, benchmark: Benchmark, capsys: pytest.CaptureFixture[str]) -> None:
        """An argument, and the rows that only --models runs."""
        data = plan.Dataset(**BLOTS | {"trainer": {"max_epochs": 2}})  # type: ignore[arg-type]
        job = plan.job(FEATURES, plan.models()[FEATURES], data, 0)
        assert plan.why_run(job, store.read(benchmark.output)) == "other arguments: trainer"
        run.what([], ["kolektor"], {})
        assert "left out: Draem" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            ({"models": ["Nothing"]}, "Nothing"),
            ({"datasets": ["nowhere"]}, "nowhere"),
            ({"roots": {"kolektor": Path("nowhere")}}, "nowhere"),
            ({"seeds": []}, "seeds"),
        ],
        ids=["model", "data set", "folder", "no seed"],
    )
    def test_wrong_arguments_are_named_before_any_work(
        self, tmp_path: Path, arguments: dict[str, list[str]], named: str
    ) -> None:
        """One line names what is wrong, and nothing is written."""
        with pytest.raises(SystemExit, match=named):
            run.run(**{"datasets": ["kolektor"], "output": tmp_path / "rows.jsonl"} | arguments)
        assert not list(tmp_path.iterdir())


class Page(html.parser.HTMLParser):
    """Texts and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words, self.addresses, self.alternatives = "", [], []  # type: ignore[var-annotated]
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        del tag
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        self.alternatives += [value for name, value in attrs if name == "alt"]

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.words += data


class TestReport:
    """The page, which is for the rows that were asked for."""

    def test_shows_what_was_asked_for_and_fetches_nothing(self, benchmark: Benchmark) -> None:
        """Every model of the run, none beside; every address is a picture within the page."""
        done = benchmark.again("--models", "[PaDiM]")
        assert done.returncode == 0, done.stderr
        page = Page((benchmark.output.parent / "report.html").read_text())
        assert PADIM in page.words
        assert not any(text.startswith(f"{FEATURES} of ") for text in page.alternatives)
        done = benchmark.again("--models", f'["{FEATURES}", PaDiM]')
        page = Page((benchmark.output.parent / "report.html").read_text())
        assert FEATURES in page.words
        assert all(address.startswith("data:") for address in page.addresses)
        for label in (FEATURES, PADIM, "image", "ground truth"):
            assert sum(text.startswith(f"{label} of ") for text in page.alternatives) == 6
        assert "Accuracy against speed" in page.words

    @pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the report in")
    @pytest.mark.parametrize("width", [1280, 390])
    def test_no_screen_cuts_it(self, benchmark: Benchmark, tmp_path: Path, width: int) -> None:
        """The page itself never scrolls sideways: wide tables do so in frames of their own."""
        measure = "<script>document.title = document.documentElement.scrollWidth - innerWidth</script></body>"
        page = tmp_path / "report.html"
        page.write_text((benchmark.output.parent / "report.html").read_text().replace("</body>", measure))
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        options += [f"--window-size={width},900", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
        opened = subprocess.run([str(CHROMIUM), *options, page.as_uri()], capture_output=True, text=True, check=True)
        overhang = re.search(r"<title>(-?\d+)</title>", opened.stdout)
        assert overhang is not None
        assert int(overhang[1]) <= 0

    def test_the_terminal_shows_the_same(self, benchmark: Benchmark) -> None:
        """Rows and speed of the run."""
        text = tables.page(benchmark.output) + tables.page(speed.speed_file(benchmark.output))
        for row in store.read(benchmark.output)[:2]:
            assert f"{row['metrics']['image_AUROC']:.3f}" in text
        assert "Draem, seed 0, failed" in text
        assert "images/s" in text


class TestSpeed:
    """Speed is measured of trained and of untrained models."""

    def test_of_each_precision(self, benchmark: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """float32 finds what torch finds; the page is made of the rows."""
        monkeypatch.chdir(benchmark.folder)
        few = {name: speed.PRECISIONS[name] for name in ("f32", "float16 weights")}
        monkeypatch.setattr(speed, "PRECISIONS", few)
        row = store.read(benchmark.output)[0]
        output = tmp_path / "precision.jsonl"
        speed.precisions([benchmark.output.parent / store.folder_name(row)], rounds=2, output=output)
        found = {made["arguments"]["precision"]: made["metrics"] for made in store.read(output)}
        assert list(found) == ["torch, f32", *few]
        for name in ("torch, f32", "f32"):
            assert found[name]["pixel_AUROC"] == pytest.approx(row["metrics"]["pixel_AUROC"], abs=1e-3)
        assert found["f32"]["map_difference"] < 1e-3
        assert found["float16 weights"]["model_bytes"] < 0.7 * found["f32"]["model_bytes"]
        assert "times f32" in tables.page(output)

    def test_from_file_to_heat_map(
        self, benchmark: Benchmark, surfaces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every task has its rates."""
        row = store.read(benchmark.output)[0]
        output = tmp_path / "line.jsonl"
        run_folder = benchmark.output.parent / store.folder_name(row)
        monkeypatch.setattr(speed, "ROUND", 4)
        speed.line([run_folder], str(surfaces / "good"), rounds=2, output=output)
        (made,) = store.read(output)
        assert {task: len(rates) for task, rates in made["metrics"].items()} == dict.fromkeys(speed.TASKS, 2)
        assert "with heat maps" in tables.page(output)

    def test_of_untrained_models(
        self, backbone: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each with a peak of its own precision; PatchCore and others have the memory that a fit would give them."""
        use(backbone, monkeypatch)
        output = tmp_path / "speed.jsonl"
        models = [FEATURES, "PatchCore, a thousandth", "DFKDE"]
        speed.untrained(models, [(64, 64)], ["f32", "int8"], rounds=2, output=output)
        rows = store.read(output)
        assert [(row["model"], row["arguments"]["precision"]) for row in rows] == [
            *((model, "f32") for model in [*models, speed.PEAK]), (FEATURES, "int8")
        ]  # fmt: skip
        assert all(row["metrics"]["gflop"] > 0 and 5e7 < row["metrics"]["peak_memory_bytes"] < 2e9 for row in rows)
        (_, exact), (_, coarse) = tables.speed(rows)
        assert "of the peak" in exact
        assert "of the peak" not in coarse


@pytest.mark.parametrize("count", [2, 40], ids=["few", "more than there are"])
def test_the_worst_failures_are_on_one_picture(
    benchmark: Benchmark,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    count: int,
) -> None:
    """Left the defective images of the lowest scores, right the good ones of the highest; neither is cut short."""
    monkeypatch.chdir(benchmark.folder)
    folder = benchmark.output.parent / store.folder_name(store.read(benchmark.output)[0])
    failures.sheet(folder, tmp_path / "sheet.png", count)
    with np.load(folder / "images.npz") as kept:
        ranked = [str(image) for image in kept["images"][np.argsort(kept["scores"])]]
    misses = [image for image in ranked if image.startswith("defective")][:count]
    alarms = [image for image in reversed(ranked) if image.startswith("good")][:count]
    shown = [line.strip() for line in capsys.readouterr().out.splitlines() if ".png" in line]
    assert sorted(shown) == sorted([*misses, *alarms])
    assert Image.open(tmp_path / "sheet.png").size == (10 * 256, max(len(misses), len(alarms)) * 128)


def test_only_good_photographs_are_refused_before_training(surfaces: Path, tmp_path: Path) -> None:
    """The row says what to set; nothing was trained in vain."""
    arguments = {name: value for name, value in BLOTS["arguments"].items() if name not in ("abnormal_dir", "mask_dir")}  # type: ignore[attr-defined]
    (tmp_path / "good.yaml").write_text(yaml.safe_dump(BLOTS | {"arguments": arguments | {"root": str(surfaces)}}))
    done = command("run", "--datasets", "[good.yaml]", "--models", f'["{FEATURES}"]', cwd=tmp_path)
    assert done.returncode == 1
    assert "test_split_mode: synthetic" in done.stdout + done.stderr
    assert not list(tmp_path.rglob("*.ckpt"))


def test_stock_benchmark_runs_ear_beside_others(surfaces: Path, backbone: dict[str, str], tmp_path: Path) -> None:
    """The stock command takes the stock configuration, here with a small data set of this machine."""
    for kind in ("good", "defective", "masks"):
        (tmp_path / kind).mkdir()
        for file in sorted((surfaces / kind).iterdir())[:8]:
            shutil.copy(file, tmp_path / kind)
    config = yaml.safe_load((REPOSITORY / "configs" / "benchmark" / "stock.yaml").read_text())
    models = config["benchmark"]["model"]["class_path"]["grid"]
    assert "Ear" in models
    own = BLOTS["arguments"] | {"root": str(tmp_path), "val_split_mode": "from_test"}  # type: ignore[operator]
    config["benchmark"]["data"] = {"class_path": "Folder", "init_args": own}
    (tmp_path / "stock.yaml").write_text(yaml.safe_dump(config))
    done = cli("benchmark", "--config", tmp_path / "stock.yaml", cwd=tmp_path, environment=backbone)
    assert done.returncode == 0, done.stdout + done.stderr
    table = next(tmp_path.rglob("results.csv")).read_text()
    assert all(model in table for model in models)
