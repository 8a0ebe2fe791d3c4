# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""A pre-processing of one's own does the same in training, test, predict and on the line, or is refused."""

import csv
from pathlib import Path

import pytest
from anomalib.data.transforms import SquarePad
from anomalib.engine import Engine
from anomalib.pre_processing import PreProcessor
from PIL import Image
from test_lightning_model import TINY, folder, train
from torchvision.transforms.v2 import (
    CenterCrop,
    Compose,
    Grayscale,
    Lambda,
    RandomHorizontalFlip,
    Resize,
    Transform,
)

from anomalib_ear import Ear
from anomalib_ear.deploy.drift import QUANTITIES
from anomalib_ear.deploy.infer import main
from anomalib_ear.deploy.runtime import DeployedModel

SIZE = (64, 96)


def deployed(surfaces: Path, root: Path, transform: Transform | None) -> Path:
    """Train with a pre-processing, and export; without masking, which takes long to export."""
    pre_processor = False if transform is None else PreProcessor(transform)
    model = train(surfaces, root, image_size=None, masking="none", pre_processor=pre_processor)
    return model.to_openvino(root)


def scores(path: Path) -> dict[str, float]:
    """Read a table of scores by the file's name."""
    with path.open(newline="") as file:
        return {Path(row["path"]).name: float(row["normalised_score"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize(
    "transforms",
    [
        [CenterCrop(60), Resize(SIZE)],
        [Compose([CenterCrop(60)]), Compose([Resize(SIZE)])],
        [CenterCrop(60)],
        [Resize(64), CenterCrop(64)],
        [Resize(SIZE), SquarePad()],
        [Resize(SIZE), RandomHorizontalFlip()],
        [Resize(SIZE), Lambda(abs)],
        [Resize(SIZE), Grayscale()],
    ],
    ids=["crop first", "nested", "crop alone", "shorter side", "pad", "random", "function", "one channel"],
)
def test_what_would_differ_between_training_and_predict_is_refused(transforms: list[Transform]) -> None:
    """The host resizes first in training and test, not in predict, and restores but a few kinds."""
    with pytest.raises(ValueError, match=r"^pre_processor has .*: (it must be one Resize|use Grayscale\(3\))"):
        Ear(pre_processor=PreProcessor(Compose(transforms)))


@pytest.mark.parametrize(
    "transforms",
    [[Resize(SIZE), CenterCrop((64, 64))], [Grayscale(3), Resize(SIZE)], [Resize(64)]],
    ids=["cropped", "grey", "shorter side"],
)
def test_predict_scores_what_test_scores(surfaces: Path, tmp_path: Path, transforms: list[Transform]) -> None:
    """Image by image, from the checkpoint."""
    data, options = folder(surfaces), {"accelerator": "cpu", "enable_progress_bar": False}
    model = Ear(**(TINY | {"image_size": None, "pre_processor": PreProcessor(Compose(transforms))}))
    engine = Engine(max_epochs=1, default_root_dir=tmp_path / "fit", **options)
    engine.fit(model, datamodule=data)
    checkpoint = engine.trainer.checkpoint_callback.best_model_path
    Engine(default_root_dir=tmp_path / "test", **options).test(Ear(), datamodule=folder(surfaces), ckpt_path=checkpoint)
    Engine(default_root_dir=tmp_path / "predict", **options).predict(
        Ear(), data_path=surfaces / "defective", ckpt_path=checkpoint
    )
    tested, predicted = (scores(next((tmp_path / kind).rglob("scores.csv"))) for kind in ("test", "predict"))
    assert len(predicted) == 6
    assert predicted == pytest.approx({name: tested[name] for name in predicted}, abs=1e-5)


def test_one_resize_among_steps_is_a_resize(surfaces: Path, tmp_path: Path) -> None:
    """The line does it itself, and compares light with that of training."""
    model = DeployedModel(deployed(surfaces, tmp_path, Compose([Resize(SIZE, antialias=True)])))
    assert model.size == SIZE
    assert model.sees_all
    assert all(model.good[name] for name in QUANTITIES)


def test_a_map_of_a_part_is_not_laid_over_the_whole(
    surfaces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures are refused, scores are not; light and place are those of another picture, and not compared."""
    exported = deployed(surfaces, tmp_path, Compose([Resize((70, 104)), CenterCrop(SIZE)]))
    model = DeployedModel(exported)
    assert not model.sees_all
    assert not any(model.good[name] for name in QUANTITIES)
    command = ["--model", str(exported), "--input", str(surfaces / "defective"), "--output", str(tmp_path / "out")]
    assert main(command) == 2
    assert "give --heat_maps false" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*command, "--heat_maps", "false"]) == 0
    assert len(scores(tmp_path / "out" / "scores.csv")) == 6


def test_without_a_resize_the_line_takes_the_training_s_size_only(
    surfaces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of another size none is squashed or enlarged."""
    exported = deployed(surfaces, tmp_path, None)
    (tmp_path / "new").mkdir()
    photograph = Image.open(surfaces / "good" / "001.png")
    photograph.save(tmp_path / "new" / "same.png")
    photograph.resize((208, 140)).save(tmp_path / "new" / "larger.png")
    photograph.crop((0, 0, 70, 70)).save(tmp_path / "new" / "other shape.png")
    command = ["--model", str(exported), "--input", str(tmp_path / "new"), "--output", str(tmp_path / "out")]
    assert main(command) == 1
    said = capsys.readouterr().err
    reason = "trained without a resize, on photographs of 70 x 104 pixels (height x width), this one has"
    assert all(f"{name}.png: the model was {reason}" in said for name in ("larger", "other shape"))
    assert list(scores(tmp_path / "out" / "scores.csv")) == ["same.png"]
