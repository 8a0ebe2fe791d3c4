# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""An exported model in a program of one's own: arrays and paths, several threads, and long iterables."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops
from PIL import Image

from anomalib_ear.deploy.threads import in_order
from anomalib_ear.runtime import DeployedModel, Prediction
from brightness import brightness_model, photograph
from conftest import REPOSITORY

LEVELS = np.tile(np.linspace(0, 255, 30, dtype=np.uint8), (20, 1))
KINDS = {
    "uint8": LEVELS,
    "colour": np.repeat(LEVELS[..., None], 3, axis=-1),
    "uint16": LEVELS * np.uint16(257),
    "uint16 colour": np.repeat(LEVELS[..., None] * np.uint16(257), 3, axis=-1),
    "big-endian": (LEVELS * np.uint16(257)).astype(">u2"),
    "float64": LEVELS / 255,
    "float32 colour": np.repeat(LEVELS[..., None] / np.float32(255), 3, axis=-1),
    "mirrored": np.ascontiguousarray(LEVELS[:, ::-1])[:, ::-1],
}


@pytest.fixture
def model(tmp_path: Path) -> DeployedModel:
    """Return a model whose score is the brightness."""
    return DeployedModel(brightness_model(tmp_path))


def grey(level: float) -> np.ndarray:
    """Return pixels of one brightness from 0 to 255."""
    return np.full((6, 8), level / 255, np.float32)


@pytest.mark.parametrize("pixels", KINDS.values(), ids=KINDS)
def test_arrays_of_every_kind_score_as_a_file_does(model: DeployedModel, pixels: np.ndarray, tmp_path: Path) -> None:
    """Grey or colour, whole numbers or floats."""
    Image.fromarray(LEVELS).save(tmp_path / "part.png")
    before = pixels.copy()
    for path in (tmp_path / "part.png", str(tmp_path / "part.png")):
        expected, found = model.predict(path), model.predict(pixels)
        assert found.score == pytest.approx(expected.score, abs=1e-6)
        np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, atol=1e-6)
    assert found.anomaly_map.shape == LEVELS.shape
    assert found.anomaly_map.dtype == np.float32
    np.testing.assert_array_equal(pixels, before)


def test_colours_are_not_mixed_up(tmp_path: Path) -> None:
    """Channels come last, red first, as in a file."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "part.png")
    model = DeployedModel(brightness_model(tmp_path))
    for array in (pixels, pixels * np.uint16(257), pixels / 255):
        image = model.prepare(array)
        np.testing.assert_allclose(image[0].transpose(1, 2, 0), pixels / 255, atol=1e-6)
        assert model.predict(array).score == pytest.approx(model.predict(tmp_path / "part.png").score, abs=1e-6)


@pytest.mark.parametrize(
    ("pixels", "error", "message"),
    [
        (np.zeros((4, 4), np.int64), TypeError, "got int64"),
        (np.zeros((4, 4), bool), TypeError, "got bool"),
        (np.zeros((4, 4), np.uint32), TypeError, "got uint32"),
        (np.zeros((4, 4), complex), TypeError, "got complex128"),
        (np.zeros((4, 4), object), TypeError, "got object"),
        (np.ma.masked_invalid(np.full((4, 4), np.nan)), TypeError, "got a masked array"),
        ([[0.5]], TypeError, "must be a path or a NumPy array, got list"),
        (Image.new("L", (4, 4)), TypeError, "must be a path or a NumPy array, got Image"),
        (None, TypeError, "must be a path or a NumPy array, got NoneType"),
        (np.zeros((3, 4, 4), np.uint8), ValueError, r"got the shape (3, 4, 4)"),
        (np.zeros((4, 4, 4), np.uint8), ValueError, r"got the shape (4, 4, 4)"),
        (np.zeros((4, 4, 1), np.uint8), ValueError, r"got the shape (4, 4, 1)"),
        (np.zeros((1, 4, 4, 3), np.uint8), ValueError, r"got the shape (1, 4, 4, 3)"),
        (np.zeros(4, np.uint8), ValueError, r"got the shape (4,)"),
        (np.zeros((0, 4), np.uint8), ValueError, r"got the shape (0, 4)"),
        (np.full((4, 4), 128.0), ValueError, "got floats from 128.0 to 128.0"),
        (np.full((4, 4), -0.1), ValueError, "got floats from -0.1 to -0.1"),
        (np.full((4, 4), np.nan), ValueError, "got floats from nan to nan"),
        (np.full((4, 4), np.inf, np.float16), ValueError, "got floats from inf to inf"),
    ],
)
def test_what_is_no_photograph_is_one_error(model: DeployedModel, pixels: object, error: type, message: str) -> None:
    """It says what is right and what was given, in one line; nothing is guessed."""
    with pytest.raises(error) as raised:
        model.predict(pixels)
    assert message in str(raised.value)
    assert "(H, W) or (H, W, 3), uint8 or uint16 of full range or floats in [0, 1]" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_read_is_named(model: DeployedModel, tmp_path: Path) -> None:
    """Missing or torn."""
    (tmp_path / "torn.png").write_bytes(b"torn")
    for name in ("torn.png", "missing.png"):
        with pytest.raises(OSError, match=name):
            model.predict(tmp_path / name)


def test_a_size_that_the_model_cannot_take_is_one_error(tmp_path: Path) -> None:
    """OpenVINO's own words are many lines; the model works on with the next photograph."""
    image = ops.parameter([-1, 3, -1, -1], np.float32, name="input")
    grey_map = ops.reduce_mean(ops.add(image, ops.constant(np.zeros((1, 3, 7, 7), np.float32))), [1], keep_dims=True)
    score = ops.reduce_mean(grey_map, [1, 2, 3], keep_dims=False)
    grey_map.output(0).set_names({"anomaly_map"})
    score.output(0).set_names({"pred_score"})
    openvino.save_model(openvino.Model([score, grey_map], [image]), tmp_path / "model.xml", compress_to_fp16=False)
    model = DeployedModel(tmp_path / "model.xml")
    for _ in range(2 * model.num_requests):
        with pytest.raises(ValueError, match="the model cannot score 4 x 5 pixels: ") as raised:
            model.predict(np.zeros((4, 5), np.uint8))
        assert "\n" not in str(raised.value)
    assert model.predict(np.full((7, 7), 255, np.uint8)).score == 1


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        *[("threshold", value, "lie in [0, 1]") for value in (-0.1, 1.5, float("nan"), "0.5")],
        *[("hint", value, "be 'throughput' or 'latency'") for value in ("fast", "cumulative_throughput", None)],
        *[("precision", value, "be None, 'f32', 'bf16' or 'f16'") for value in ("fp32", "f64", "")],
        *[("cores", value, "be a whole number from 1 on, or None") for value in (-1, 0, 1.5, "2")],
    ],
)
def test_an_argument_that_is_not_allowed_is_refused(name: str, value: object, allowed: str) -> None:
    """The error says what was given and what is right, before there is a look at the model."""
    with pytest.raises(ValueError, match=re.escape(f"{name} must {allowed}")) as raised:
        DeployedModel("nowhere.xml", **{name: value})
    assert f"got {value!r}" in str(raised.value)


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    """Thresholds and numbers of cores are often computed."""
    model = DeployedModel(brightness_model(tmp_path), threshold=np.float32(0.25), cores=np.int64(1))
    assert model.predict(grey(128)).is_defective


def test_the_label_is_by_the_threshold(tmp_path: Path) -> None:
    """A score above it is defective, one that equals it is good."""
    path = brightness_model(tmp_path)
    for threshold, labels in ((0.5, ["good", "good", "defective"]), (0.2, ["good", "defective", "defective"])):
        model = DeployedModel(path, threshold=threshold)
        parts = [model.predict(np.full((4, 4), level, np.float32)) for level in (0.1, 0.5, 0.9)]
        assert [part.label for part in parts] == labels
        assert [part.is_defective for part in parts] == [label == "defective" for label in labels]


def test_many_threads_may_use_one_model(model: DeployedModel) -> None:
    """Each gets its own photograph's score and map, which no later one changes."""
    levels = [index % 256 for index in range(2000)]
    with ThreadPoolExecutor(16) as threads:
        parts = list(threads.map(lambda level: model.predict(grey(level)), levels))
    for level, part in zip(levels, parts, strict=True):
        assert part.score == pytest.approx(level / 255, abs=1e-6)
        np.testing.assert_allclose(part.anomaly_map, level / 255, atol=1e-6)


def test_threads_may_begin_at_once() -> None:
    """OpenVINO's first use by several threads at once, which a first photograph is, would never end in any of them."""
    program = """
import sys, threading
import openvino
import anomalib_ear.runtime

together, first_use, done = threading.Barrier(8), openvino.Type.f32.to_dtype, []

def work():
    together.wait()
    done.append(first_use())

sys.setswitchinterval(1e-7)  # so that they meet
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(done) == 8
"""
    for _ in range(3):
        environment = {"PYTHONPATH": str(REPOSITORY / "src")}
        subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)


def test_many_photographs_keep_their_order_and_errors_their_place(model: DeployedModel, tmp_path: Path) -> None:
    """Paths and arrays may be mixed; one that cannot be scored costs no other."""
    photograph(tmp_path / "part.png", 51)
    given = [grey(10), tmp_path / "part.png", tmp_path / "missing.png", np.zeros((4, 4), bool), *map(grey, range(99))]
    found = list(model.predict_many(given))
    assert len(found) == len(given)
    assert isinstance(found[2], FileNotFoundError)
    assert isinstance(found[3], TypeError)
    scores = [round(part.score * 255) for part in found if isinstance(part, Prediction)]
    assert scores == [10, 51, *range(99)]


def test_an_endless_iterable_takes_bounded_memory(model: DeployedModel) -> None:
    """Only a few photographs are taken before their predictions are, and the rest never, if somebody stops."""
    taken = 0

    def camera() -> Iterator[np.ndarray]:
        nonlocal taken
        for taken in count(1):
            yield grey(taken % 256)

    predictions = model.predict_many(camera())
    for index, part in enumerate(islice(predictions, 300), start=1):
        assert round(part.score * 255) == index % 256
        assert taken - index <= 2 * model.num_threads + 1
    predictions.close()
    assert taken <= 300 + 2 * model.num_threads + 1


def test_an_iterable_that_breaks_loses_no_score(model: DeployedModel) -> None:
    """The photographs before the error are scored, then it is raised."""

    def camera() -> Iterator[np.ndarray]:
        yield from map(grey, range(3))
        msg = "the cable is out"
        raise OSError(msg)

    found = []
    with pytest.raises(OSError, match="the cable is out"):
        found.extend(model.predict_many(camera()))
    assert [round(part.score * 255) for part in found] == [0, 1, 2]


@pytest.mark.parametrize(
    "one", ["part.png", Path("part.png"), np.zeros((4, 4, 3), np.uint8)], ids=["text", "path", "array"]
)
def test_one_photograph_is_not_taken_for_many(model: DeployedModel, one: object) -> None:
    """Neither a path's letters nor an array's rows are photographs."""
    with pytest.raises(TypeError, match="use predict"):
        model.predict_many(one)


def test_all_threads_work_at_once(model: DeployedModel) -> None:
    """There are enough for every core and every request, and each waits here until all have begun."""
    together = threading.Barrier(model.num_threads)
    found = list(
        in_order(lambda item: (together.wait(timeout=20), item)[1], range(model.num_threads), model.num_threads)
    )
    assert found == list(range(model.num_threads))


def test_the_documents_program_runs_without_torch_and_anomalib(tmp_path: Path) -> None:
    """As it stands in the page about the line."""
    page = (REPOSITORY / "docs" / "line.md").read_text().split("## In a program of your own")[1].split("\n## ")[0]
    program = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    folder = tmp_path / "line" / "weights" / "openvino"
    folder.mkdir(parents=True)
    brightness_model(folder)
    photograph(tmp_path / "part.png", 204)
    photograph(tmp_path / "parts" / "1.png", 51)
    (tmp_path / "parts" / "2.png").write_bytes(b"torn")
    check = "\nimport sys; assert not {'torch', 'anomalib', 'pandas'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program + check],
        cwd=tmp_path, env={"PYTHONPATH": str(REPOSITORY / "src")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    label, score, *_ = first.split()
    assert (label, float(score)) == ("defective", pytest.approx(0.8, abs=1e-6))  # CPUs round otherwise
    name, score, *_ = second.split()
    assert (name, float(score)) == ("parts/1.png", pytest.approx(0.2, abs=1e-6))
    assert third.startswith("parts/2.png cannot read 'parts/2.png'")
