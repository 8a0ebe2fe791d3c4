# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The attention's report on tiny data in the layouts of KolektorSDD and of the magnetic tiles."""

import shutil
from pathlib import Path

import attention
import pytest
import torch
from PIL import Image

from anomalib_ear.data.surface_demo import draw
from anomalib_ear.method.attention import BUNDLED_WEIGHTS


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    """Return KolektorSDD's and the tiles' root, with two images of a scratch each, and one tile without a mask."""
    kolektor, tiles = tmp_path / "kolektor", tmp_path / "tiles"
    for part in range(2):
        image, mask = draw("brushed_metal", "test", "scratch", part, seed=1)
        folder = kolektor / f"kos0{part}"
        folder.mkdir(parents=True)
        Image.fromarray(image).save(folder / "Part0.jpg")
        Image.fromarray(mask).convert("1").save(folder / "Part0_label.bmp")
        for name in attention.TILE_CLASSES:
            for path, pixels in ((tiles / name, image), (tiles / "masks" / name, mask.astype("uint8") * 255)):
                path.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels if part or path.parent == tiles else pixels * 0).save(path / f"{part}.png")
    return kolektor, tiles


def test_report_ranks_scratches(
    roots: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every attention and rule has its row, the bundled one finds the scratches, and the figure is a picture."""
    output, copy = tmp_path / "attention.md", shutil.copy(BUNDLED_WEIGHTS, tmp_path / "copy.safetensors")
    monkeypatch.setattr(attention, "DEMO_IMAGES", 1)
    arguments = ["--kolektor", str(roots[0]), "--magnetic_tile", str(roots[1]), "--others", "--weights", f"copy={copy}"]
    monkeypatch.setattr("sys.argv", ["attention.py", *arguments, "--output", str(output)])
    threads = torch.get_num_threads()
    attention.main()
    torch.set_num_threads(threads)
    assert "copy" in capsys.readouterr().out
    text = output.read_text()
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in text.splitlines() if line.startswith("| ")}
    assert {"mnist", "mnist, 1 scale", "differences of Gaussians", "copy", "highest 10%", "Otsu"} <= rows.keys()
    assert rows["copy"][2:] == rows["mnist"][2:]  # but for the time
    assert float(rows["mnist"][3].split(" / ")[0]) > 0.8
    assert "`python -m anomalib_ear.pretraining" in text
    assert Image.open(output.with_name("attention_coverage.png")).size[0] > 500


def test_highest_share_excises_that_share() -> None:
    """The rules excise what they say, and a perfect attention's highest pixels are the defect."""
    ramp = torch.arange(100 * 100).reshape(100, 100) / 1e4
    defect = ramp >= 0.9
    found = {label: attention.excise([(ramp, defect)], rule) for label, rule in attention.rules()}
    assert found["highest 10%"] == pytest.approx((0.1, 1.0), abs=0.001)
    assert found["highest 5%"] == pytest.approx((0.05, 0.5), abs=0.01)
    assert found["mean + 0 σ"] == pytest.approx((0.5, 1.0), abs=0.001)
    assert found["Otsu"][0] == pytest.approx(0.5, abs=0.02)
