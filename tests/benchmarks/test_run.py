# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The benchmark's commands on tiny surfaces: rows, resuming, failures, studies and the report."""

import base64
import html.parser
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import end_to_end
import precision
import pytest
import results
import run
import yaml
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from conftest import REPOSITORY, cli

CONFIG = {
    "output": "tiny.jsonl",
    "seeds": [0, 1],
    "trainer": {"max_epochs": 2},
    "datasets": {
        "Blots": {
            "datamodule": "Folder",
            "image_size": [64, 96],
            "proxy": True,
            "arguments": {
                "name": "surface", "normal_dir": "good", "abnormal_dir": "defective", "mask_dir": "masks",
                "train_batch_size": 4, "eval_batch_size": 3, "num_workers": 0, "normal_split_ratio": 0.3,
                "val_split_mode": "synthetic", "val_split_ratio": 0.3, "seed": 0,
            },
        }
    },
    "models": {
        "Ear": {
            "model": "Ear",
            "arguments": {"space": "pixels", "channels": [4, 8, 8]},
            "variants": [{}, {"masking": "random"}],
        },
        "PaDiM": {
            "model": "Padim",
            "arguments": {"pre_trained": False, "layers": ["layer1"], "n_features": 20},
            "trainer": {"max_epochs": 1},
        },
        "Broken": {"model": "Ear", "arguments": {"excised_share": 3}},
    },
}  # fmt: skip
CHROMIUM = shutil.which("chromium")
LABELS = ["Ear", 'Ear masking="random"', "PaDiM"]


def script(name: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run one of the benchmarks' scripts in a process of its own."""
    return subprocess.run(
        [sys.executable, REPOSITORY / "benchmarks" / name, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


class Benchmark(NamedTuple):
    """A finished benchmark.

    Attributes:
        folder: Where it ran; holds ``config.yaml`` and ``tiny.jsonl``.
        arguments: Its command's.
        done: The finished process.
    """

    folder: Path
    arguments: list[str]
    done: subprocess.CompletedProcess[str]

    def rows(self) -> list[results.Row]:
        """Return the rows that did not fail."""
        return [row for row in results.read(self.folder / "tiny.jsonl") if "error" not in row]


@pytest.fixture(scope="session")
def benchmark(surfaces: Path, tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """Return a benchmark of two models, one of them in two variants, two seeds, and one model that fails."""
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    (folder / "photographs").symlink_to(surfaces)
    arguments = ["--config", "config.yaml", "--roots.Blots", "photographs"]
    return Benchmark(folder, arguments, script("run.py", *arguments, cwd=folder))


class TestRows:
    """What a run leaves behind."""

    def test_one_for_each_combination(self, benchmark: Benchmark) -> None:
        """All of the first seed come before the second, so that an interrupted run has whole seeds."""
        keys = [(row["model"], row["seed"]) for row in benchmark.rows()]
        assert keys == [(label, seed) for seed in (0, 1) for label in LABELS], benchmark.done.stdout

    def test_a_failure_is_reported_and_costs_no_other(self, benchmark: Benchmark) -> None:
        """The command ends with 1 and says which row failed and why."""
        assert benchmark.done.returncode == 1
        assert "Broken" in benchmark.done.stdout + benchmark.done.stderr
        assert "excised_share must lie in (0, 1)" in benchmark.done.stdout + benchmark.done.stderr

    def test_metrics_are_those_of_the_raw_scores(self, benchmark: Benchmark) -> None:
        """PaDiM's scores leave [0, 1], where anomalib's metrics would flatten them by a sigmoid."""
        for row in benchmark.rows():
            assert row["metrics"]["image_AUROC"] == pytest.approx(roc_auc_score(row["labels"], row["scores"]), abs=1e-5)
            expected = average_precision_score(row["labels"], row["scores"])
            assert row["metrics"]["image_AUPR"] == pytest.approx(expected, abs=0.05)  # trapezoids against steps
        assert max(row["scores"][0] for row in benchmark.rows() if row["model"] == "PaDiM") > 1

    def test_have_accuracy_cost_and_provenance(self, benchmark: Benchmark) -> None:
        """Each row is all that the report needs."""
        for row in benchmark.rows():
            assert {f"pixel_{name}" for name in ("AUROC", "AUPRO", "AUPR", "F1Max")} < row["metrics"].keys()
            assert row["fit_seconds"] > 0
            assert row["peak_memory_bytes"] > 1e8
            assert row["environment"]["versions"]["anomalib"]
            assert row["command"].startswith("python ")
            assert {Path(image).parts[0] for image in row["images"]} <= {"good", "defective"}

    def test_seed_reaches_the_model(self, benchmark: Benchmark) -> None:
        """Ear has an argument for it; another seed gives other scores on the same images."""
        first, second = (row for row in benchmark.rows() if row["model"] == "Ear")
        assert [first["arguments"]["seed"], second["arguments"]["seed"]] == [0, 1]
        assert first["images"] == second["images"]
        assert first["scores"] != second["scores"]

    def test_random_masks_spread_the_score_of_an_image(self, benchmark: Benchmark) -> None:
        """The single deterministic mask gives the same score always."""
        spreads = {row["model"]: row["score_spread"] for row in benchmark.rows()}
        assert spreads["Ear"] == 0
        assert spreads['Ear masking="random"'] > 0

    def test_exported_models_are_timed_in_turn(self, benchmark: Benchmark) -> None:
        """Every model that exports has as many times as there were rounds."""
        latencies = results.latencies(benchmark.folder / "tiny.jsonl")
        assert {model for _, model in latencies} == set(LABELS)
        assert len({len(seconds) for seconds in latencies.values()}) == 1

    def test_proxy_has_metrics_of_its_own(self, benchmark: Benchmark) -> None:
        """Held-out good images, half of them with synthetic defects: other images, other figures."""
        for row in benchmark.rows():
            assert 0 <= row["proxy"]["image_AUROC"] <= 1
            assert row["proxy"] != row["metrics"]


def test_the_worst_failures_are_on_one_picture(benchmark: Benchmark, tmp_path: Path) -> None:
    """Left the defective images of the lowest scores, right the good ones of the highest, with five steps each."""
    arguments = ["--results_file", "tiny.jsonl", "--output", tmp_path / "sheet.png", "--count", "2"]
    done = script("failures.py", *arguments, "--dataset", "Blots", cwd=benchmark.folder)
    assert done.returncode == 0, done.stderr
    row = next(row for row in benchmark.rows() if results.key(row) == ("Blots", "Ear", 0))
    ranked = [image for _, image in sorted(zip(row["scores"], row["images"], strict=True))]
    expected = [
        *[image for image in ranked if image.startswith("defective")][:2],
        *[image for image in reversed(ranked) if image.startswith("good")][:2],
    ]
    assert [line.strip() for line in done.stdout.splitlines() if ".png" in line] == expected
    panel = (256, round(256 * 64 / 96))
    assert Image.open(tmp_path / "sheet.png").size == (10 * panel[0], 2 * panel[1])

    done = script("failures.py", *arguments, "--dataset", "Blobs", cwd=benchmark.folder)
    assert "tiny.jsonl has no finished row of Ear on Blobs with seed 0" in done.stderr


def test_precisions_are_measured_as_the_row_was(benchmark: Benchmark, tmp_path: Path) -> None:
    """Torch and float32 have the row's image AUROC; the page is that of the rows; another run adds none."""
    output = tmp_path / "precision.json"
    arguments = ["--results_file", "tiny.jsonl", "--output", output, "--roots.Blots", "photographs"]
    for _ in range(2):
        done = script("precision.py", *arguments, cwd=benchmark.folder)
        assert done.returncode == 0, done.stderr
        rows = json.loads(output.read_text())
        names = [name for name, (_, arithmetic) in precision.PRECISIONS.items() if arithmetic == "f32"]
        assert [row["precision"] for row in rows if "bfloat16" not in row["precision"]] == [precision.TORCH, *names]
    expected = next(row["metrics"] for row in benchmark.rows() if results.key(row) == ("Blots", "Ear", 0))
    for row in rows[:2]:
        for name in ("image_AUROC", "pixel_AUROC", "pixel_AUPRO"):
            assert row[name] == pytest.approx(expected[name], abs=1e-3), name
    assert rows[1]["flips"] > 0 or rows[1]["map_difference"] < 1e-4
    assert output.with_suffix(".md").read_text() == precision.text(rows)


def test_end_to_end(benchmark: Benchmark, tmp_path: Path) -> None:
    """Every task has its rates, memory is watched to the last photograph, and the page shows both."""
    exported = next(row["exported"] for row in benchmark.rows() if results.key(row) == ("Blots", "Ear", 0))
    output = tmp_path / "end.json"
    arguments = ["--models.Ear", exported, "--input", "photographs/good", "--output", output]
    counts = ["--count", "8", "--rounds", "2", "--many", "30"]
    done = script("end_to_end.py", *arguments, *counts, cwd=benchmark.folder)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(output.read_text())
    assert {task: len(rates) for task, rates in row["rates"].items()} == dict.fromkeys(end_to_end.TASKS, 2)
    assert row["memory"][-1][0] == 30
    assert row["memory"][-1][1] > 50  # MB: a process with OpenVINO
    assert output.with_suffix(".md").read_text() == end_to_end.text([row], "end.png")
    Image.open(output.with_suffix(".png")).load()


def test_a_second_run_does_only_what_is_missing(benchmark: Benchmark, tmp_path: Path) -> None:
    """After a kill: the whole rows stay, the torn last line goes, the missing and the failed are run."""
    shutil.copytree(benchmark.folder, tmp_path / "again", symlinks=True)
    output = tmp_path / "again" / "tiny.jsonl"
    whole = [line for line in output.read_text().splitlines() if "Broken" not in line and "latencies" not in line]
    assert len(whole) == 2 * len(LABELS)
    output.write_text("\n".join(whole[:-1]) + "\n" + whole[-1][:100])
    root = os.path.relpath(benchmark.folder / benchmark.arguments[-1], output.parent)
    done = script("run.py", *benchmark.arguments[:-1], root, "--only", "[PaDiM]", cwd=output.parent)
    assert done.returncode == 0, done.stderr
    lines = [line for line in output.read_text().splitlines() if "latencies" not in line]
    assert lines[:-1] == whole[:-1]
    timed = results.latencies(output)
    assert results.key(json.loads(lines[-1])) == ("Blots", "PaDiM", 1)
    assert {model for _, model in timed} == set(LABELS)

    # In a fresh clone the exported models are gone: what was timed together stays, and the command says so.
    shutil.rmtree(output.parent / "results")
    output.write_text(
        "".join(line for line in output.read_text().splitlines(keepends=True) if line != lines[-1] + "\n")
    )
    done = script("run.py", *benchmark.arguments[:-1], root, "--only", "[PaDiM]", cwd=output.parent)
    assert done.returncode == 0, done.stderr
    assert "not timed" in done.stdout
    assert results.latencies(output) == timed


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--only", "[Nothing]"], "Nothing"),
        (["--roots.Blots", "nowhere"], "nowhere"),
        (["--roots.Other", "."], "Other"),
        (["--seeds", "[]"], "seeds"),
    ],
    ids=["model", "folder", "data set", "no seed"],
)
def test_wrong_arguments_are_named_before_any_work(benchmark: Benchmark, arguments: list[str], named: str) -> None:
    """One line, no traceback."""
    done = script("run.py", "--config", "config.yaml", *arguments, cwd=benchmark.folder)
    assert done.returncode != 0
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_only_names_models_data_sets_or_both() -> None:
    """Of the kind that is not named all are run, in the order given."""
    models, datasets = {"Ear": 1, "PaDiM": 2}, {"Blots": 3, "Stripes": 4}
    assert (run.select(models, ["Stripes"]), run.select(datasets, ["Stripes"])) == (models, {"Stripes": 4})
    assert list(run.select(models, ["PaDiM", "Ear", "Blots"])) == ["PaDiM", "Ear"]


def test_only_good_photographs_are_refused_before_training(surfaces: Path, tmp_path: Path) -> None:
    """The row says what to set; nothing was trained in vain."""
    config = json.loads(json.dumps(CONFIG)) | {"seeds": [0]}
    del config["datasets"]["Blots"]["arguments"]["abnormal_dir"], config["datasets"]["Blots"]["arguments"]["mask_dir"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    done = script("run.py", "--config", "config.yaml", "--roots.Blots", surfaces, "--only", "[PaDiM]", cwd=tmp_path)
    assert done.returncode == 1
    assert "test_split_mode: synthetic" in done.stdout + done.stderr
    assert not list(tmp_path.rglob("*.ckpt"))


def test_prints_results_as_a_table(benchmark: Benchmark) -> None:
    """Mean and spread over the seeds, the proxy beside the real images."""
    done = script("results.py", "tiny.jsonl", cwd=benchmark.folder)
    lines = done.stdout.splitlines()
    header = next(line for line in lines if line.startswith("| model"))
    assert "proxy image AUROC" in header
    assert "AUPRO" in header
    assert re.search(r"\| Ear \| 2 \| \d\.\d{3} ± \d\.\d{3}", done.stdout)
    assert any("Broken" in line and "excised_share" in line for line in lines)


class Page(html.parser.HTMLParser):
    """Tables, pictures and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables = 0
        self.addresses: list[str] = []
        self.alternatives: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tables += tag == "table"
        attributes = dict(attrs)
        self.addresses += [attributes[name] or "" for name in ("src", "href", "srcset") if name in attributes]
        if tag == "img":
            self.alternatives.append(attributes["alt"] or "")


class TestReport:
    """The page, as a browser shows it."""

    # In a frame, for Chromium's own window is never narrower than 500 pixels.
    FRAME = """<iframe style="width: WIDTHpx; height: 844px; border: 0"></iframe><script>
        const frame = document.querySelector("iframe");
        frame.addEventListener("load", () => {
            const page = frame.contentDocument;
            const found = {
                width: frame.contentWindow.innerWidth,
                pictures: [...page.images].map(i => [i.alt, i.complete && i.naturalWidth > 0]),
                fetched: frame.contentWindow.performance.getEntriesByType("resource").map(e => e.name)
                    .filter(name => !name.startsWith("data:")),
                wide: page.documentElement.scrollWidth > frame.contentWindow.innerWidth,
            };
            document.body.innerHTML = "<pre id=probe>" + JSON.stringify(found) + "</pre>";
        });
        frame.srcdoc = PAGE;
    </script>"""

    @pytest.fixture
    def page(self, benchmark: Benchmark) -> Path:
        """Return the page that the run wrote."""
        return benchmark.folder / "results" / "benchmark" / "tiny" / "report.html"

    def test_fetches_nothing(self, page: Path) -> None:
        """Every address is a picture within the page, and no style or script comes from elsewhere."""
        text = page.read_text()
        assert all(address.startswith("data:") for address in Page(text).addresses)
        assert "@import" not in text
        assert "url(" not in text
        assert "<script" not in text

    def test_has_tables_figures_and_a_gallery(self, page: Path) -> None:
        """Accuracy, cost and gallery; plot, curves, histograms; one map per model and hard image."""
        parsed = Page(page.read_text())
        assert parsed.tables == 3  # accuracy, cost, gallery
        for start, count in (("Image AUROC against", 1), ("Curves of each model, ", 4), ("Histogram of ", len(LABELS))):
            assert sum(text.startswith(start) for text in parsed.alternatives) == count
        for label in LABELS:
            assert sum(text.startswith(f"{label} of ") for text in parsed.alternatives) == 6
        assert "Broken, seed 0: failed" in page.read_text()

    @pytest.mark.skipif(not CHROMIUM, reason="needs Debian's package chromium")
    @pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
    def test_shows_in_a_browser(self, page: Path, tmp_path: Path, width: int) -> None:
        """All pictures are drawn, nothing is fetched, and the page itself does not scroll sideways."""
        frame = tmp_path / "frame.html"
        content = json.dumps(page.read_text()).replace("</", "<\\/")
        frame.write_text(self.FRAME.replace("WIDTH", str(width)).replace("PAGE", content))
        done = subprocess.run(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}",
             "--window-size=1400,900", "--virtual-time-budget=10000", "--dump-dom", frame.as_uri()],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
        assert found, done.stdout[:500] + done.stderr[-500:]
        probe = json.loads(html.unescape(found[1]))
        assert probe["width"] == width
        assert probe["pictures"]
        assert all(drawn for _, drawn in probe["pictures"])
        assert probe["fetched"] == []
        assert not probe["wide"]

    def test_markdown_has_the_same_figures(self, benchmark: Benchmark, page: Path) -> None:
        """Each cell of the Markdown tables is on the page too."""
        text = (benchmark.folder / "tiny.md").read_text()
        cells = re.findall(r"\d\.\d{3} ± \d\.\d{3}", text)
        assert len(cells) > 20
        shown = html.unescape(page.read_text())
        assert all(cell in shown for cell in cells)

    def test_gallery_shows_the_photograph_of_its_name(self, benchmark: Benchmark, page: Path) -> None:
        """The hard images are those of the data set, in the maps' shape."""
        found = re.search(r'alt="image of (defective/\d+\.png)" src="data:image/jpeg;base64,([^"]+)"', page.read_text())
        assert found
        shown = Image.open(io.BytesIO(base64.b64decode(found[2])))
        root = benchmark.folder / benchmark.arguments[-1]
        original = Image.open(root / found[1]).convert("RGB").resize(shown.size)
        difference = sum(
            abs(a - b) for a, b in zip(shown.resize((8, 8)).tobytes(), original.resize((8, 8)).tobytes(), strict=True)
        )
        assert difference / 192 < 6  # JPEG's loss, in grey levels


def test_stock_benchmark_runs_ear_beside_others(surfaces: Path, backbone: dict[str, str], tmp_path: Path) -> None:
    """The stock command takes the stock configuration, here with a small data set of this machine."""
    for kind in ("good", "defective", "masks"):
        (tmp_path / kind).mkdir()
        for file in sorted((surfaces / kind).iterdir())[:8]:
            shutil.copy(file, tmp_path / kind)
    config = yaml.safe_load((REPOSITORY / "configs" / "benchmark" / "stock.yaml").read_text())
    models = config["benchmark"]["model"]["class_path"]["grid"]
    assert "Ear" in models
    config["benchmark"]["data"] = {
        "class_path": "Folder",
        "init_args": {
            "name": "surface", "root": str(tmp_path), "normal_dir": "good", "abnormal_dir": "defective",
            "mask_dir": "masks", "train_batch_size": 4, "eval_batch_size": 3, "num_workers": 0,
            "val_split_mode": "from_test", "seed": 0,
        },
    }  # fmt: skip
    (tmp_path / "stock.yaml").write_text(yaml.safe_dump(config))
    done = cli("benchmark", "--config", tmp_path / "stock.yaml", cwd=tmp_path, environment=backbone)
    assert done.returncode == 0, done.stdout + done.stderr
    table = next(tmp_path.rglob("results.csv")).read_text()
    assert all(model in table for model in models)
