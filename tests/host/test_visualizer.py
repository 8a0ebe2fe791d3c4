# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Pictures: each step of the method, at the image's own proportions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.data import Folder, ImageBatch
from anomalib.engine import Engine
from anomalib.post_processing import PostProcessor
from PIL import Image

from anomalib_ear import Ear
from anomalib_ear.host.post_processing import EarPostProcessor
from anomalib_ear.host.visualizer import PANEL_SIZE, EarVisualizer, draw, thresholds
from models import build, images

TITLES = ["Image", "Ground truth", "Excised", "Recovered", "Anomaly map", "Prediction"]


def batch(*, masks: bool = True) -> ImageBatch:
    """Return two portrait images with predictions: the left third is anomalous."""
    anomaly_map = torch.zeros(2, 1, 96, 48)
    anomaly_map[..., :16] = 0.9
    return ImageBatch(
        image=images(2, (96, 48)),
        gt_mask=torch.zeros(2, 96, 48, dtype=torch.bool) if masks else None,
        anomaly_map=anomaly_map,
        pred_score=torch.tensor([0.8, 0.4]),
        pred_label=torch.tensor([True, False]),
    )


def test_one_panel_per_step() -> None:
    """Every image has the six panels, in the order of the method."""
    assert [list(panels) for panels in draw(build().eval(), batch())] == [TITLES, TITLES]


def test_only_a_defective_image_is_outlined() -> None:
    """A label and the lines beside it agree, whatever the map."""
    defective, good = (np.asarray(panels["Prediction"]) for panels in draw(build().eval(), batch()))
    assert [outlined(panel) for panel in (defective, good)] == [True, False]


@pytest.mark.parametrize(("raw", "is_outlined"), [(0.7, True), (0.75, False)])
def test_what_is_outlined_depends_on_the_thresholds_that_label(raw: float, *, is_outlined: bool) -> None:
    """Where scores are not normalised too: log-odds of 0.99 and 0.9 differ by 2.40, of 0.97 and 0.75 by 2.38."""
    post_processor = EarPostProcessor(enable_normalization=False)
    post_processor._image_threshold.fill_(raw)
    shown = batch()
    shown.anomaly_map[:] = 0.1
    shown.anomaly_map[..., :40, :] = 0.99
    shown.anomaly_map[..., 60:, :] = 0.9
    shown.pred_score[:] = 0.97
    panel = np.asarray(draw(build().eval(), shown, post_processor)[0]["Prediction"])
    assert outlined(panel[PANEL_SIZE // 2 :]) == is_outlined


def outlined(panel: np.ndarray) -> bool:
    """Return whether a panel has a line below its title."""
    return bool((panel[20:] == (255, 40, 40)).all(axis=-1).any())


def test_panels_keep_the_proportions() -> None:
    """A portrait image stays portrait."""
    sizes = {panel.size for panels in draw(build().eval(), batch()) for panel in panels.values()}
    assert sizes == {(PANEL_SIZE // 2, PANEL_SIZE)}


def test_no_ground_truth_no_panel() -> None:
    """Images of unknown label, as in ``anomalib predict``, have one panel less."""
    assert "Ground truth" not in draw(build().eval(), batch(masks=False))[0]


@pytest.mark.parametrize("level", [0.1, 0.9])
def test_the_heat_map_s_scale_is_fixed(level: float) -> None:
    """A map that is low everywhere looks low: colours are not stretched per image."""
    shown = batch()
    shown.anomaly_map = torch.full((2, 1, 96, 48), level)
    panel = np.asarray(draw(build().eval(), shown)[0]["Anomaly map"])[PANEL_SIZE // 2 :]
    red, blue = panel[..., 0].mean(), panel[..., 2].mean()
    assert (red > blue) == (level > 0.5)


@pytest.fixture(scope="module")
def model() -> Ear:
    """Return a model that is calibrated, and not trained."""
    ear = Ear(space="pixels", image_size=(32, 32), channels=[4, 8], masking="none")
    ear.model.keep_for_calibration(images(4, (32, 32)))
    ear.model.calibrate()
    return ear


@pytest.fixture
def parts(tmp_path: Path) -> dict[Path, int]:
    """Return photographs in folders of one name, with suffixes of their own, and the brightness of each."""
    names = ["a/part/001.png", "b/part/001.png", "b/part/001.bmp", "b/part/002.png", "part/001.png", "c/x/part/001.png"]
    brightness = {tmp_path / "parts" / name: 40 * index + 20 for index, name in enumerate(names)}
    for path, grey in brightness.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (grey,) * 3).save(path)
    return brightness


def shown(pictures: Path) -> dict[str, int]:
    """Return the brightness of the image in each picture."""
    found = {}
    for path in pictures.rglob("*.*"):
        with Image.open(path) as picture:
            found[path.relative_to(pictures).as_posix()] = picture.convert("L").getpixel(
                (PANEL_SIZE // 2, PANEL_SIZE - 9)
            )
    return found


def test_no_picture_of_a_run_overwrites_another(model: Ear, parts: dict[Path, int], tmp_path: Path) -> None:
    """Each photograph of a tree has a picture, named after it and its folders; a second run has the same names."""
    model.visualizer.output_dir = tmp_path / "pictures"
    for _ in range(2):
        engine = Engine(default_root_dir=tmp_path / "run", accelerator="cpu", logger=False)
        engine.predict(model, data_path=tmp_path / "parts")
        pictures = shown(tmp_path / "pictures")
        assert sorted(pictures.values()) == sorted(parts.values()), pictures
        for name, grey in pictures.items():
            (source,) = [path for path, other in parts.items() if other == grey]
            assert source.as_posix().endswith(name)


def test_a_full_disk_is_named(model: Ear, parts: dict[Path, int], tmp_path: Path) -> None:
    """By the picture that cannot be written."""
    model.visualizer.output_dir = tmp_path / "pictures"
    picture = tmp_path / "pictures" / "part" / "001.png"
    picture.parent.mkdir(parents=True)
    picture.symlink_to("/dev/full")
    engine = Engine(default_root_dir=tmp_path / "run", accelerator="cpu", logger=False)
    with pytest.raises(OSError, match=f"cannot write {picture}: No space left on device"):
        engine.predict(model, data_path=next(iter(parts)))


@pytest.mark.parametrize("threshold", [0.0, 0.999])
def test_a_glance_tells_good_from_defective(
    model: Ear, parts: dict[Path, int], tmp_path: Path, threshold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frame's colour follows the label, and the caption has the score."""
    monkeypatch.setattr(model.post_processor, "image_sensitivity", 1 - threshold)
    model.visualizer.output_dir = tmp_path / "pictures"
    engine = Engine(default_root_dir=tmp_path / "run", accelerator="cpu", logger=False)
    engine.predict(model, data_path=tmp_path / "parts")
    pictures = [Image.open(path) for path in (tmp_path / "pictures").rglob("*.*")]
    assert len(pictures) == len(parts)
    for picture in pictures:
        red, green, _ = picture.getpixel((1, picture.height - 1))
        assert (red > green) == (threshold == 0)
        assert picture.height > PANEL_SIZE + 20


@pytest.mark.parametrize("post_processor", [EarPostProcessor, PostProcessor])
@pytest.mark.parametrize("enable_normalization", [True, False])
def test_the_threshold_that_is_shown_is_the_one_that_labels(
    post_processor: type[PostProcessor], *, enable_normalization: bool
) -> None:
    """Without validation too, when there is none yet, and whether or not scores are normalised."""
    chosen = post_processor(enable_normalization=enable_normalization)
    scores = torch.linspace(0, 1, 101)
    batch = ImageBatch(image=torch.zeros(101, 3, 8, 8), pred_score=scores, anomaly_map=torch.zeros(101, 1, 8, 8))
    chosen.threshold_batch(batch)
    torch.testing.assert_close(scores > thresholds(chosen)["image"], batch.pred_label.bool())


def test_folders_of_one_name_are_tested_side_by_side(model: Ear, parts: dict[Path, int], tmp_path: Path) -> None:
    """Several folders of defective photographs may hold files of one name."""
    model.visualizer.output_dir = tmp_path / "pictures"
    root = tmp_path / "parts"
    datamodule = Folder(
        name="surface", root=root, normal_dir="part", normal_test_dir="b/part", num_workers=0,
        abnormal_dir=["a/part", "c/x/part"], val_split_mode="none",
    )  # fmt: skip
    engine = Engine(default_root_dir=tmp_path / "run", accelerator="cpu", logger=False)
    engine.test(model, datamodule=datamodule)
    expected = [grey for path, grey in parts.items() if path.relative_to(root).parts[0] != "part"]
    assert sorted(shown(tmp_path / "pictures").values()) == sorted(expected)


def test_a_folder_at_the_root_of_the_disk(tmp_path: Path) -> None:
    """A path that ends where another's begins has a number, there being no more folders to name."""
    visualizer = EarVisualizer()
    names = [
        visualizer._reserve(tmp_path / "part" / "1.png", Path(path), tmp_path)
        for path in ("/mnt/part/1.png", "/part/1.png", "/mnt/part/1.png")
    ]
    assert [name.relative_to(tmp_path).as_posix() for name in names] == ["part/1.png", "1_2.png", "part/1.png"]
