# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The command of the line: scores as the trained model's, whatever happens to it."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from anomalib.data.utils import read_image
from PIL import Image

from anomalib_ear import Ear
from brightness import brightness_model, inspect, photograph
from conftest import REPOSITORY

THRESHOLD = 0.45


def photographs(folder: Path, count: int = 6, size: tuple[int, int] = (150, 170)) -> list[Path]:
    """Write colour photographs of different sizes, some of them in a folder below; returns their paths under it."""
    names = [Path("shift 2" if index % 3 == 0 else ".", f"part{index:03}.png") for index in range(count)]
    for index, name in enumerate(names):
        rng = np.random.default_rng(index)
        pixels = rng.integers(0, 256, (size[0] + 7 * index % 50, size[1] - index % 20, 3), dtype=np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((size[1] - index % 20, size[0])).save(folder / name)
    return sorted(names)


@pytest.fixture(scope="module")
def model() -> Ear:
    """Return Ear, calibrated but hardly trained, with thresholds."""
    torch.manual_seed(0)
    ear = Ear(image_size=(64, 96), channels=[4, 8], visualizer=False)
    ear.model.space.load_pretrained()
    good = torch.rand(12, 3, 64, 96)
    ear.model.train()(good)
    ear.model.keep_for_calibration(good)
    ear.model.calibrate()
    ear.post_processor._image_threshold.fill_(THRESHOLD)
    ear.post_processor._pixel_threshold.fill_(0.5)
    return ear.eval()


@pytest.fixture(scope="module")
def exported(model: Ear, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return its OpenVINO export."""
    return model.to_openvino(tmp_path_factory.mktemp("exported"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of photographs."""
    photographs(tmp_path / "line")
    return tmp_path / "line"


def command(model: Path, source: Path | str, output: Path, *options: object) -> list[str]:
    """Return the command line."""
    arguments = ["--model", model, "--input", source, "--output", output, *options]
    return [sys.executable, "-m", "anomalib_ear.infer", *map(str, arguments)]


def infer(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False, env=environment)


def table(output: Path) -> list[dict[str, str]]:
    """Read the scores."""
    with (output / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_scores_and_maps_are_the_trained_models(model: Ear, exported: Path, folder: Path, tmp_path: Path) -> None:
    """From files of different sizes, resized with antialias as in training, before and after normalisation."""
    done = infer(exported, folder, tmp_path / "out", "--anomaly_maps", "true")
    assert done.returncode == 0, done.stderr
    rows = table(tmp_path / "out")
    assert [row["path"] for row in rows] == [path.as_posix() for path in photographs(folder)]
    for row in rows:
        image = model.pre_processor.transform(read_image(folder / row["path"], as_tensor=True))[None]
        with torch.no_grad():
            raw = model.model(image)
            normalised = model.post_processor(raw)
        assert float(row["raw_score"]) == pytest.approx(raw.pred_score.item(), abs=1e-4)
        assert float(row["normalised_score"]) == pytest.approx(normalised.pred_score.item(), abs=1e-4)
        assert row["label"] == ("defective" if normalised.pred_score > 0.5 else "good")
        written = np.asarray(Image.open(tmp_path / "out" / "anomaly_maps" / row["path"]))
        assert written.dtype == np.uint16
        np.testing.assert_allclose(written / 65535, normalised.anomaly_map[0, 0], atol=1e-4)
        assert (tmp_path / "out" / "heat_maps" / f"{row['path'].removesuffix('.png')}_heat.jpg").exists()
    assert f"{sum(row['label'] == 'good' for row in rows)} good" in done.stdout
    assert f"Pictures: {tmp_path / 'out' / 'heat_maps'}" in done.stdout


def test_a_model_for_one_size_takes_photographs_of_any(model: Ear, folder: Path, tmp_path: Path) -> None:
    """They are resized with antialias, as training does."""
    exported = model.to_openvino(tmp_path, input_size=(64, 96), onnx_kwargs={"dynamic_shapes": None})
    done = infer(exported, folder, tmp_path / "out", "--heat_maps", "false")
    assert done.returncode == 0, done.stderr
    for row in table(tmp_path / "out"):
        image = model.pre_processor.transform(read_image(folder / row["path"], as_tensor=True))[None]
        with torch.no_grad():
            assert float(row["raw_score"]) == pytest.approx(model.model(image).pred_score.item(), abs=1e-4)
    assert not (tmp_path / "out" / "heat_maps").exists()


def test_the_exported_model_says_how_it_was_made(exported: Path) -> None:
    """Precision and thresholds, from which the raw score follows."""
    read = openvino.Core().read_model(exported)
    noted = {name: read.get_rt_info(["anomalib_ear", name]).astype(str) for name in ("precision", "image_threshold")}
    assert noted["precision"] == "f32"
    assert float(noted["image_threshold"]) == pytest.approx(THRESHOLD)


def test_a_threshold_of_the_line_replaces_the_trained_one(exported: Path, folder: Path, tmp_path: Path) -> None:
    """Labels change, scores do not."""
    for name, threshold in (("strict", 0), ("lax", 1)):
        infer(exported, folder, tmp_path / name, "--threshold", threshold)
    strict, lax = table(tmp_path / "strict"), table(tmp_path / "lax")
    assert {row.pop("label") for row in strict} == {"defective"}
    assert {row.pop("label") for row in lax} == {"good"}
    assert strict == lax


def test_the_model_s_own_threshold_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It labels parts where none is given; a folder that the shell would have put elsewhere is refused."""
    monkeypatch.chdir(tmp_path)
    model = brightness_model(tmp_path, label_threshold="0.3")
    photograph(tmp_path / "in" / "1.png", 100)
    assert inspect(model, tmp_path / "in", tmp_path / "out") == 0
    assert [row["label"] for row in table(tmp_path / "out")] == ["defective"]
    assert "another threshold than 0.5: 0.3" in capsys.readouterr().out
    assert inspect(model, tmp_path / "in", Path("~/out")) == 2
    assert "would be a folder named ~" in capsys.readouterr().err
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(("notes", "spots"), [({}, 1), ({"mask_threshold": "0.4"}, 2)], ids=["0.5", "its own"])
def test_outlines_have_the_model_s_own_threshold_of_pixels(tmp_path: Path, notes: dict[str, str], spots: int) -> None:
    """As anomalib's masks have."""
    levels = np.zeros((200, 400), np.uint8)
    levels[40:160, 40:160], levels[40:160, 240:360] = 120, 150
    (tmp_path / "in").mkdir()
    Image.fromarray(levels).save(tmp_path / "in" / "1.png")
    model = brightness_model(tmp_path, **notes)
    assert inspect(model, tmp_path / "in", tmp_path / "out", "--threshold", "0.05") == 0
    picture = np.asarray(Image.open(tmp_path / "out" / "heat_maps" / "1_heat.jpg"))
    line = (picture[..., 0] > 220) & (picture[..., 1] < 80) & (picture[..., 2] < 80)
    half = line.shape[1] // 2
    assert line[40:-10, half:].any()
    assert line[40:-10, 10:half].any() == (spots == 2)


def test_no_picture_stays_of_a_photograph_without_a_row(tmp_path: Path) -> None:
    """An earlier table's pictures of the same name would be taken for its own."""
    model = brightness_model(tmp_path)
    photograph(tmp_path / "in" / "1.png", 250)
    assert inspect(model, tmp_path / "in", tmp_path / "out") == 0
    assert len(list((tmp_path / "out" / "heat_maps").iterdir())) == 1
    for table_file in (tmp_path / "out").glob("scores*"):
        table_file.unlink()
    (tmp_path / "in" / "1.png").write_bytes(b"torn")
    assert inspect(model, tmp_path / "in", tmp_path / "out") == 1
    assert not list((tmp_path / "out" / "heat_maps").iterdir())


def test_a_broken_photograph_is_named_and_the_others_are_scored(exported: Path, folder: Path, tmp_path: Path) -> None:
    """The run ends with 1, and a later run tries it again."""
    (folder / "torn.png").write_bytes((folder / "part001.png").read_bytes()[:200])
    done = infer(exported, folder, tmp_path / "out")
    assert done.returncode == 1
    assert f"{folder / 'torn.png'}: " in done.stderr
    assert "1 not scored" in done.stdout
    assert len(table(tmp_path / "out")) == 6
    (folder / "torn.png").write_bytes((folder / "part001.png").read_bytes())
    assert infer(exported, folder, tmp_path / "out", "--resume", "true").returncode == 0
    assert table(tmp_path / "out")[-1]["path"] == "torn.png"


def test_files_and_patterns_are_taken_too(exported: Path, folder: Path, tmp_path: Path) -> None:
    """A name stands for one photograph, a pattern for several."""
    infer(exported, folder / "part001.png", tmp_path / "one")
    assert [row["path"] for row in table(tmp_path / "one")] == ["part001.png"]
    infer(exported, f"{folder}/**/part00[03].png", tmp_path / "some")
    assert [row["path"] for row in table(tmp_path / "some")] == ["shift 2/part000.png", "shift 2/part003.png"]


@pytest.mark.parametrize(("how", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_interrupted_run_goes_on(exported: Path, tmp_path: Path, how: signal.Signals, status: int) -> None:
    """An interrupted run leaves whole pictures and whole lines; each photograph is scored once."""
    first, *_ = photographs(tmp_path / "line", 1, (600, 700))
    names = [first, *(Path(f"part{index:03}.png") for index in range(1, 400))]
    for name in names[1:]:
        (tmp_path / "line" / name).hardlink_to(tmp_path / "line" / first)
    output = tmp_path / "out"
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)  # as by a job in a shell's background
    process = subprocess.Popen(
        command(exported, tmp_path / "line", output),
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src")},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    signal.signal(signal.SIGINT, ignored)
    while process.poll() is None and (not (output / "scores.csv").exists() or len(table(output)) < 5):
        time.sleep(0.01)
    process.send_signal(how)
    assert process.wait() == status
    before = table(output)
    assert 5 <= len(before) < len(names)
    for row in before:
        Image.open(output / "heat_maps" / f"{row['path'].removesuffix('.png')}_heat.jpg").load()
    with (output / "scores.csv").open("a") as file:
        file.write("part0")  # as a machine leaves it that lost power
    done = infer(exported, tmp_path / "line", output, "--resume", "true")
    assert done.returncode == 0, done.stderr
    rows = table(output)
    assert rows[: len(before)] == before
    assert [row["path"] for row in rows] == [name.as_posix() for name in sorted(names)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "--resume true"),
        ({"--resume": "true", "--threshold": "0.7"}, "begun with another threshold"),
        ({"--input": "nowhere/*.png"}, "no photographs at 'nowhere/*.png'"),
        ({"--model": "nowhere.xml"}, "no file nowhere.xml"),
        ({"--threshold": "1.5"}, r"threshold must lie in [0, 1], got 1.5"),
    ],
)
def test_an_error_is_one_line_and_nothing_is_lost(
    exported: Path, folder: Path, tmp_path: Path, change: dict[str, str], message: str
) -> None:
    """The line says what is wrong and what would be right; a table that is there stays."""
    infer(exported, folder, tmp_path / "out")
    before = (tmp_path / "out" / "scores.csv").read_text()
    done = infer(exported, folder, tmp_path / "out", *[part for option in change.items() for part in option])
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert message in done.stderr.strip().splitlines()[-1]
    assert (tmp_path / "out" / "scores.csv").read_text() == before
