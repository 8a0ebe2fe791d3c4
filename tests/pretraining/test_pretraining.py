# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The pre-training command on a tiny data set, and the bundled weights on MNIST where it is present."""

import errno
import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from anomalib_ear.method.attention import BUNDLED_WEIGHTS, load_attention, read_weights
from anomalib_ear.pretraining import __main__ as command
from anomalib_ear.pretraining.__main__ import main
from anomalib_ear.pretraining.canvas import Background, CanvasSettings, SurfaceCanvas, clean_canvas
from anomalib_ear.pretraining.training import DigitClassifier, accuracy, load_mnist, mnist_checksum
from conftest import SHARED_DATA

REPOSITORY = Path(__file__).parents[2]
MNIST_FILES = SHARED_DATA / "mnist" / "MNIST" / "raw"
CANVAS = CanvasSettings().size
AUROC_BOUND = 0.9  # measured 0.96 to 0.99, see the model card


def write_idx(file: Path, values: np.ndarray) -> None:
    """Write unsigned bytes as MNIST does: magic number, sizes, values."""
    header = np.array([2048 + values.ndim, *values.shape], dtype=">i4")
    file.write_bytes(header.tobytes() + values.tobytes())


@pytest.fixture(scope="module")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with 40 + 20 drawn bars in MNIST's layout."""
    root = tmp_path_factory.mktemp("tiny")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, count in (("train", 40), ("t10k", 20)):
        labels = np.arange(count, dtype=np.uint8) % 10
        digits = np.zeros((count, 28, 28), np.uint8)
        for digit, label in zip(digits, labels, strict=True):
            digit[4:24, 4 + 2 * label : 6 + 2 * label] = 255
        write_idx(raw / f"{split}-images-idx3-ubyte", digits)
        write_idx(raw / f"{split}-labels-idx1-ubyte", labels)
    return root


@pytest.fixture(scope="module")
def mnist_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the unpacked test and training files of MNIST."""
    if not MNIST_FILES.is_dir():
        pytest.skip("no MNIST: ANOMALIB_EAR_TEST_DATA names no folder with mnist/MNIST/raw")
    root = tmp_path_factory.mktemp("mnist")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for packed in MNIST_FILES.glob("*.gz"):
        (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    return root


def run_main(root: Path, output: Path, *args: str) -> Path:
    """Run the command for two steps and return the file it wrote."""
    main(["--root", str(root), "--output", str(output), "--steps", "2", "--batch_size", "16", *args])
    return output


def test_command_writes_a_loadable_file(tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file loads as attention, into a folder that did not exist, and the accuracy is printed."""
    load_attention(run_main(tiny_root, tmp_path / "new" / "weights.safetensors"))
    assert "test accuracy 0." in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["weights.safetensors"]


def test_command_records_how_the_weights_were_made(tiny_root: Path, tmp_path: Path) -> None:
    """Metadata holds the settings of this run and the checksum of its data."""
    _, metadata = read_weights(run_main(tiny_root, tmp_path / "weights.safetensors", "--seed", "7"))
    assert metadata["seed"] == "7"
    assert "--scale '[0.7,2.9]' --contrast" in metadata["command"]
    assert "--steps 2 --seed 7 --device cpu --batch_size 16" in metadata["command"]
    assert metadata["mnist_sha256"] == mnist_checksum(tiny_root)


def test_seed_fixes_the_weights(tiny_root: Path, tmp_path: Path) -> None:
    """Two runs with one seed write the same tensors and metadata, wherever they write them."""
    outputs = (tmp_path / f"{name}.safetensors" for name in ("first", "second"))
    first, second = (read_weights(run_main(tiny_root, output))[1] for output in outputs)
    assert first == second  # the digest of the tensors is part of it; the order of the entries in the file is not fixed


def test_other_seed_gives_other_weights(tiny_root: Path, tmp_path: Path) -> None:
    """The seed has an effect."""
    output = tmp_path / "weights.safetensors"
    tensors = [read_weights(run_main(tiny_root, output, "--seed", seed))[0] for seed in ("1", "2")]
    assert not torch.equal(tensors[0]["attention.filters"], tensors[1]["attention.filters"])


def test_command_leaves_the_random_state_alone(tiny_root: Path, tmp_path: Path) -> None:
    """A caller's own random numbers are those it would have had."""
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    run_main(tiny_root, tmp_path / "weights.safetensors")
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_missing_data_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with one error that names the folder and both options that help."""
    with pytest.raises(SystemExit):
        run_main(tmp_path / "nowhere", tmp_path / "weights.safetensors")
    error = capsys.readouterr().err
    assert all(words in error for words in ("nowhere", "--root", "--download"))


def test_module_runs_and_explains_its_options() -> None:
    """``python -m anomalib_ear.pretraining --help`` names every option with its explanation."""
    done = subprocess.run(
        [sys.executable, "-m", "anomalib_ear.pretraining", "--help"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    )
    options = [
        "--root",
        "--output",
        "--download",
        "--steps",
        "--canvas",
        "--contrast",
        "--seed",
        "--device",
        "--batch_size",
        "Canvases per step",
    ]
    assert all(words in done.stdout for words in options)


def test_folding_keeps_the_function() -> None:
    """Without batch normalisation the classifier gives the scores that it gave with it."""
    torch.manual_seed(0)
    model = DigitClassifier(normalise=True)
    canvas = torch.rand(8, 1, CANVAS, CANVAS)
    model(canvas)  # moves the running statistics away from 0 and 1
    expected, _ = model.eval()(canvas)
    scores, _ = model.folded()(canvas)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-4)


def test_closed_attention_hides_the_features() -> None:
    """In training, an attention of 0 leaves the classifier nothing but noise."""
    torch.manual_seed(0)
    model = DigitClassifier().train()
    torch.nn.init.constant_(model.attention.logit.bias, -1e4)
    scores = []
    for canvas in torch.rand(2, 1, 1, CANVAS, CANVAS):
        torch.manual_seed(1)
        scores.append(model(canvas)[0])
    torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=0)


def test_noise_stands_in_for_what_is_held_back() -> None:
    """In training the scores depend on chance, in evaluation they do not."""
    torch.manual_seed(0)
    model, canvas = DigitClassifier(), torch.rand(1, 1, CANVAS, CANVAS)
    assert not torch.equal(model(canvas)[0], model(canvas)[0])
    model.eval()
    torch.testing.assert_close(model(canvas)[0], model(canvas)[0], rtol=0, atol=0)


@pytest.mark.parametrize("background", ["noise", "demo"])
def test_canvases_are_images(background: Background) -> None:
    """Canvases have the stated size and values in [0, 1], and about a fifth are clean."""
    torch.manual_seed(0)
    digits = torch.rand(100, 1, 28, 28)
    settings = CanvasSettings(size=112, background=background)
    canvas, strokes = SurfaceCanvas(settings, count=256, device=torch.device("cpu"))(digits)
    assert canvas.shape == strokes.shape == (100, 1, 112, 112)
    assert min(canvas.min(), strokes.min()) >= 0
    assert max(canvas.max(), strokes.max()) <= 1
    clean = (canvas == clean_canvas(digits, 112)).flatten(1).all(1)
    assert 10 <= clean.sum() <= 30


def test_strokes_are_where_the_digits_are() -> None:
    """On a surface without texture, the canvas differs from its smooth light at the strokes."""
    torch.manual_seed(0)
    digits = torch.zeros(64, 1, 28, 28)
    digits[..., 6:22, 12:16] = 1
    settings = CanvasSettings(size=96, digits=1, scale=(0.7, 1.0), contrast=(0.3, 0.3), noise=1e-9)
    canvas, strokes = SurfaceCanvas(settings, count=256, device=torch.device("cpu"))(digits)
    rise = (canvas - torch.nn.functional.avg_pool2d(canvas, 31, 1, 15, count_include_pad=False)).abs()
    inside = (strokes > 0.5).float()
    far = 1 - torch.nn.functional.max_pool2d((strokes > 0).float(), 41, 1, 20)
    shown = (inside.sum((1, 2, 3)) > 20) & (far.sum((1, 2, 3)) > 20)
    means = [(rise * where).sum((1, 2, 3))[shown] / where.sum((1, 2, 3))[shown] for where in (inside, far)]
    assert shown.sum() > 32
    assert means[0].median() > 5 * means[1].median()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # The attention's scales cannot halve it four times.
        (["--canvas", "64"], "canvas must be a multiple of 16, at least 96"),
        (["--canvas", "100"], "canvas must be a multiple of 16, at least 96"),
        (["--scale", "[0.01,0.7]"], "scale must be from 0.333 to 3.43, got 0.01, 0.7"),
        (["--scale", "[0.7,.inf]"], "scale must be from 0.333 to 3.43"),
        (["--contrast", "[0.5,5]"], "contrast must be from 0 to 1, got 0.5, 5.0"),
        (["--noise", "inf"], "noise must be from 0 to 1"),
        (["--batch_size", "1"], "batch_size must be at least 2, got 1"),
        (["--seed", "99999999999999999999"], "seed must be from 0 to"),
        (["--device", "nowhere"], "device must be one that torch can use here, got 'nowhere'"),
        (["--scale", "[2.9,0.7]"], "scale must have the smaller number first, got [2.9, 0.7]"),
        (["--contrast", "[0.8,0.03]"], "contrast must have the smaller number first, got [0.8, 0.03]"),
        (["--output", "noext"], "output must be a file NAME.safetensors, got 'noext'."),
        (["--output", "weights.pt"], "output must be a file NAME.safetensors, got 'weights.pt'."),
        (["--output", "folder.safetensors"], "got 'folder.safetensors', a folder."),
        (["--output", "file/weights.safetensors"], "'file'"),
        (["--output", "/proc/weights.safetensors"], "'/proc/weights.safetensors.part'"),
    ],
)
def test_what_would_fail_after_the_training_is_refused_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, change: list[str], message: str
) -> None:
    """One error says what would be right, before MNIST is read; nothing is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        run_main(tmp_path / "nowhere", Path("weights.safetensors"), *change)
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.safetensors"]


def test_weights_that_are_there_stay_until_the_new_ones_are_written(
    tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full at the end costs no file, and leaves no half of one."""
    output = tmp_path / "weights.safetensors"
    output.write_bytes(b"before")

    def write(_tensors: object, file: Path, _metadata: object) -> None:
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file)

    monkeypatch.setattr(command, "write_weights", write)
    with pytest.raises(SystemExit):
        run_main(tiny_root, output)
    assert [(path, path.read_bytes()) for path in tmp_path.iterdir()] == [(output, b"before")]


def load_classifier(file: Path) -> DigitClassifier:
    """Return the classifier of a weights file in evaluation mode."""
    model = DigitClassifier()
    model.load_state_dict(read_weights(file)[0])
    return model.eval()


def test_bundled_weights_name_the_digits_of_mnist(mnist_root: Path) -> None:
    """The recorded accuracy on MNIST's test split, at least 98 %, is what the bundled weights reach."""
    digits, labels = load_mnist(mnist_root, train=False)
    share = accuracy(load_classifier(BUNDLED_WEIGHTS), digits, labels)
    assert share >= 0.98
    assert share == pytest.approx(float(read_weights(BUNDLED_WEIGHTS)[1]["test_accuracy"]), abs=0.001)


def test_bundled_weights_were_trained_on_this_mnist(mnist_root: Path) -> None:
    """The recorded checksum is that of the real data."""
    assert read_weights(BUNDLED_WEIGHTS)[1]["mnist_sha256"] == mnist_checksum(mnist_root)


@pytest.mark.parametrize("polarity", [1, -1], ids=["bright", "dark"])
@pytest.mark.parametrize("brushed", [False, True], ids=["white", "brushed"])
def test_fires_on_digits_of_the_test_split(mnist_root: Path, polarity: int, *, brushed: bool) -> None:
    """Digits pasted at random onto a large noisy canvas are attended more than the noise."""
    canvas, strokes = digit_canvas(load_mnist(mnist_root, train=False)[0], polarity=polarity, brushed=brushed)
    attention = load_attention()(canvas)
    assert roc_auc_score(strokes.flatten(), attention.flatten()) > AUROC_BOUND


def digit_canvas(digits: Tensor, *, polarity: int, brushed: bool) -> tuple[Tensor, Tensor]:
    """Return a canvas ``(1, 1, 320, 640)`` of grain 0.05 with twelve digits of contrast 0.2, and where they are."""
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 1, 320, 680, generator=random)
    noise = torch.nn.functional.avg_pool2d(noise, (1, 41), 1) if brushed else noise[..., :640]
    pasted = torch.zeros_like(noise)
    for digit in digits[torch.randint(len(digits), (12,), generator=random)]:
        top, left = (int(torch.randint(high - 28, (1,), generator=random)) for high in pasted.shape[2:])
        pasted[..., top : top + 28, left : left + 28] = digit / 255
    canvas = 0.5 + 0.05 * noise / noise.std() + polarity * 0.2 * pasted
    return canvas.clamp(0, 1), pasted > 0.3
