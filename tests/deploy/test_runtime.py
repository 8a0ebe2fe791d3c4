# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""A model file that is not what it should be is one error, and photographs are read at their full range."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import pytest
from PIL import ExifTags, Image

from anomalib_ear.deploy import bulk, infer
from anomalib_ear.deploy.runtime import DeployedModel
from brightness import brightness_model, inspect, photograph, scored


def broken(folder: Path, kind: str) -> Path:
    """Write what is no model; returns what a user gives."""
    model = brightness_model(folder, divisor=3)
    weights = model.with_suffix(".bin")
    text = model.read_bytes()
    named = {"bin": weights, "folder": folder}
    contents = {"empty": b"", "torn": text[: len(text) // 2], "text": b"hello", "html": b"<html></html>"}
    if kind in {"onnx", "ckpt"}:
        weights.unlink()
        return model.replace(folder / f"model.{kind}")
    if kind in contents:
        model.write_bytes(contents[kind])
    elif kind == "empty weights":
        weights.write_bytes(b"")
    elif kind == "torn weights":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif kind == "no weights":
        weights.unlink()
    elif kind == "grey":
        brightness_model(folder, channels=1)
    elif kind == "no anomaly model":
        brightness_model(folder, score="logits")
    return named.get(kind, model)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        *[(kind, "is no OpenVINO model: give the .xml") for kind in ("bin", "onnx", "ckpt", "empty", "text", "html")],
        *[(kind, "or its .bin is damaged") for kind in ("torn", "empty weights", "torn weights")],
        ("folder", "no file"),
        ("no weights", "model.bin: a model is two files"),
        ("grey", "an anomaly model has one of [N,3,H,W]"),
        ("no anomaly model", "an anomaly model has pred_score and anomaly_map"),
    ],
)
def test_what_is_no_model_is_one_error(
    tmp_path: Path, kind: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """It names the file, of OpenVINO's words there is one line, and nothing is written."""
    photograph(tmp_path / "in" / "1.png", 10)
    model = broken(tmp_path, kind)
    assert inspect(model, tmp_path / "in", tmp_path / "out") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert str(model.with_suffix("")) in line
    assert message in line
    assert not (tmp_path / "out").exists()


def test_a_score_that_is_no_number_is_not_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights of another model give such scores."""
    photograph(tmp_path / "in" / "1.png", 10)
    assert inspect(brightness_model(tmp_path, divisor=float("nan")), tmp_path / "in", tmp_path / "out") == 1
    said = capsys.readouterr()
    assert "0 good, 0 defective, 1 not scored" in said.out
    assert "not finite" in said.err
    assert scored(tmp_path / "out") == {}


def test_a_score_that_is_not_normalised_has_no_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Such a model, of another method exported without its post-processor, would call every part defective."""
    photograph(tmp_path / "in" / "1.png", 200)
    assert inspect(brightness_model(tmp_path, divisor=0.5), tmp_path / "in", tmp_path / "out") == 1
    said = capsys.readouterr()
    assert "0 good, 0 defective, 1 not scored" in said.out
    assert "not normalised to [0, 1]: export it with its post-processor" in said.err


def test_a_model_that_notes_no_threshold_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its scores may be raw ones."""
    photograph(tmp_path / "in" / "1.png", 200)
    assert inspect(brightness_model(tmp_path), tmp_path / "in", tmp_path / "out") == 0
    assert "notes no threshold" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_threshold", "abc"),
        ("image_threshold", "2"),
        ("image_threshold", "nan"),
        ("good_score", "0.1 inf"),
        ("trained_sizes", "1 2"),
    ],
)
def test_a_damaged_note_is_one_error(tmp_path: Path, name: str, value: str) -> None:
    """It names the model's file."""
    model = brightness_model(tmp_path)
    read = openvino.Core().read_model(model)
    read.set_rt_info(value, ["anomalib_ear", name])
    openvino.save_model(read, tmp_path / "noted.xml")
    with pytest.raises(ValueError, match=r"noted\.xml is damaged.*Export it again"):
        DeployedModel(tmp_path / "noted.xml")


@pytest.mark.parametrize("command", [infer.main, bulk.main], ids=["infer", "bulk"])
def test_an_empty_output_is_one_error(
    tmp_path: Path, command: Callable[[list[str]], int], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """That of a variable which is not set; the working directory stays empty."""
    photograph(tmp_path / "in" / "1.png", 10)
    model = brightness_model(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert command(["--model", str(model), "--input", str(tmp_path / "in"), "--output", ""]) == 2
    assert capsys.readouterr().err == "error: --output is empty: give a folder.\n"
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize(
    ("option", "value"),
    [("--threshold", "nan"), ("--threshold", "x"), ("--precision", "f8"), ("--hint", "x"), ("--unknown", "1")],
)
def test_a_bad_option_is_one_error(tmp_path: Path, option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The error comes before there is an output."""
    photograph(tmp_path / "in" / "1.png", 10)
    assert inspect(brightness_model(tmp_path), tmp_path / "in", tmp_path / "out", option, value) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert option.strip("-") in line
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file stays as it is."""
    photograph(tmp_path / "in" / "1.png", 10)
    (tmp_path / "out").write_text("mine")
    for output in (tmp_path / "out", tmp_path / "out" / "below"):
        assert inspect(brightness_model(tmp_path), tmp_path / "in", output) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(output) in line
    assert (tmp_path / "out").read_text() == "mine"


def test_photographs_are_read_upright_and_at_their_full_range(tmp_path: Path) -> None:
    """16 bits score as 8 bits do, and the heat map lies as the photograph is seen; several pages are refused."""
    levels = np.tile(np.linspace(0, 255, 30, dtype=np.uint8), (20, 1))  # dark on the left
    (tmp_path / "in").mkdir()
    Image.fromarray(levels).save(tmp_path / "in" / "8.png")
    for name in ("16.png", "16.tif", "16.pgm"):
        Image.fromarray(levels.astype(np.uint16) * 257).save(tmp_path / "in" / name)
    Image.fromarray(levels.astype(np.float32) / 255).save(tmp_path / "in" / "unit.tif")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(levels).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "in" / "lying.png", exif=exif)
    Image.fromarray(levels).save(tmp_path / "in" / "pages.tif", save_all=True, append_images=[Image.fromarray(levels)])
    assert inspect(brightness_model(tmp_path), tmp_path / "in", tmp_path / "out") == 1
    found = scored(tmp_path / "out")
    assert sorted(found) == ["16.pgm", "16.png", "16.tif", "8.png", "lying.png", "unit.tif"]
    assert set(found.values()) == {round(float(levels.mean()))}
    for name in found:
        base = name.removesuffix(".png").replace(".", "_")
        picture = np.asarray(Image.open(tmp_path / "out" / "heat_maps" / f"{base}_heat.jpg")).mean(axis=-1)
        assert picture.shape[0] < picture.shape[1]
        row = picture[picture.shape[0] // 2, 15:-15]  # within the frame
        assert row[:20].mean() < 30
        assert row[-20:].mean() > 220


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no process is forked here")
def test_a_model_of_another_process_is_an_error(tmp_path: Path) -> None:
    """OpenVINO's threads are not there after a fork, and nothing would ever answer."""
    model = DeployedModel(brightness_model(tmp_path))
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(model.predict(np.zeros((8, 8), np.uint8)).label)
        except RuntimeError as error:
            answers.put(str(error))

    process = context.Process(target=ask)
    process.start()
    process.join(60)
    process.kill()
    assert not answers.empty()
    assert "built in another process" in answers.get()
