# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Ear in anomalib's hands: its commands, its engine, its checkpoints, its exports."""

import logging
import re
import shutil
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from anomalib.data import Folder, ImageBatch, PredictDataset
from anomalib.deploy import OpenVINOInferencer
from anomalib.engine import Engine
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Compose, Normalize, Resize, Transform

from anomalib_ear import Ear
from anomalib_ear.deploy.runtime import DeployedModel
from anomalib_ear.host.post_processing import EarPostProcessor
from anomalib_ear.method import model as torch_model
from anomalib_ear.method.attention import load_attention
from anomalib_ear.method.pretrained import read_installed
from anomalib_ear.method.spaces import DEFAULT
from benchmarks.changes import Change, changes
from conftest import Run, cli, folder_arguments, use

# Nobody can write there, not even root; a service may be started in such a folder.
NOT_WRITABLE = Path("/proc")
CHANGES = changes((64, 96))
# Runs of the command take long, and what these tests look at has nothing to do with the space.
WHATEVER_SPACE = pytest.mark.parametrize("run", ["pixels"], indirect=True)
TINY = {"space": "pixels", "image_size": (64, 96), "channels": (4, 8, 8), "visualizer": False}


def folder(surfaces: Path, **arguments: object) -> Folder:
    """Return the tiny surfaces as a datamodule."""
    given = {
        "normal_dir": "good", "abnormal_dir": "defective", "mask_dir": "masks", "train_batch_size": 4,
        "eval_batch_size": 3, "num_workers": 0, "val_split_mode": "from_train", "val_split_ratio": 0.2, "seed": 0,
    }  # fmt: skip
    return Folder(name="surface", root=surfaces, **(given | arguments))


def train(surfaces: Path, root: Path, **arguments: object) -> Ear:
    """Train a tiny Ear in this process for two epochs."""
    model = Ear(**(TINY | arguments))
    Engine(max_epochs=2, default_root_dir=root, accelerator="cpu").fit(model, datamodule=folder(surfaces))
    return model


def restored(run: Run, **arguments: object) -> Ear:
    """Load the command's checkpoint."""
    return Ear.load_from_checkpoint(run.checkpoint, **arguments).eval()


class Plain(Ear):
    """A kind of Ear of one's own."""

    def __init__(self, **arguments: object) -> None:
        super().__init__(**arguments)

    def configure_post_processor(self) -> None:
        """Leave scores as they are."""


@pytest.fixture(scope="module")
def exported(run: Run) -> Path:
    """Return the OpenVINO model that ``anomalib export`` made of the run, with a gate changed."""
    done = cli(
        "export", "--model", "Ear", "--export_type", "openvino", "--ckpt_path", run.checkpoint,
        "--export_root", run.root, "--model.skip_gates", "[false,false]",
        cwd=NOT_WRITABLE if NOT_WRITABLE.is_dir() else run.root,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return run.root / "weights" / "openvino" / "model.xml"


@pytest.fixture(scope="module")
def both(exported: Path, run: Run) -> tuple[Ear, openvino.CompiledModel]:
    """Return the model that was exported, and its export."""
    compiled = openvino.Core().compile_model(exported, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return restored(run, skip_gates=[False, False]), compiled


class TestCommands:
    """The stock command, each time in a new process."""

    def test_train_reports_metrics_and_writes_a_picture_per_test_image(self, run: Run) -> None:
        """After training, the command has tested the model and shown every step of it."""
        assert "image_AUROC" in run.output
        pictures = [Image.open(path).size for path in run.root.rglob("images/**/*.png")]
        assert len(pictures) == 6 + 4  # the defective ones, and a fifth of the good ones
        assert len(set(pictures)) == 1
        assert pictures[0][0] > 5 * 256

    @WHATEVER_SPACE
    @pytest.mark.parametrize("command", ["test", "validate"])
    def test_a_checkpoint_needs_none_of_the_training_s_arguments(
        self, run: Run, surfaces: Path, command: str, tmp_path: Path
    ) -> None:
        """Image size, channels and masking come from the checkpoint."""
        done = cli(
            command, "--model", "Ear", "--ckpt_path", run.checkpoint, "--trainer.accelerator", "cpu",
            *folder_arguments(surfaces), cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    @WHATEVER_SPACE
    def test_predict_takes_a_folder_and_other_gates(self, run: Run, surfaces: Path, tmp_path: Path) -> None:
        """Predicting on a folder writes a picture per image, with gates from the command line, and says what is odd."""
        shutil.copytree(surfaces / "defective", tmp_path / "parts")
        first = tmp_path / "parts" / "020.png"
        Image.open(first).rotate(90, expand=True).save(first)
        done = cli(
            "predict", "--model", "Ear", "--ckpt_path", run.checkpoint, "--data", tmp_path / "parts",
            "--model.skip_gates", "[true,true]", "--trainer.accelerator", "cpu", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(list((tmp_path / "results").rglob("*.png"))) == 6
        said = " ".join((done.stdout + done.stderr).split())
        assert "The threshold stays that of training" in said
        assert "1 of 6 photographs, such as" in said
        assert "104 x 70 pixels (height x width) are another shape than in training" in said


class TestEpochs:
    """How long a training is."""

    @pytest.mark.parametrize(
        ("model", "trainer", "epochs"),
        [({}, {"max_epochs": 3}, 3), ({"max_epochs": 2}, {}, 2), ({}, {"max_steps": 8}, 2)],
        ids=["trainer", "model", "steps"],
    )
    def test_as_asked_for(self, surfaces: Path, tmp_path: Path, model: dict, trainer: dict, epochs: int) -> None:
        """Whoever is told, the trainer or the model; what a training does that is told nothing: test_training.py."""
        engine = Engine(**trainer, default_root_dir=tmp_path, accelerator="cpu", limit_val_batches=0)
        engine.fit(Ear(**TINY, **model), datamodule=folder(surfaces))
        assert engine.trainer.current_epoch == epochs


class TestCheckpoints:
    """What a checkpoint brings, and what may be changed on it."""

    def test_brings_its_settings(self, run: Run) -> None:
        """A model restored without arguments has the training's."""
        model = restored(run)
        assert model.hparams["excised_share"] == 0.2
        assert model.input_size == (64, 96)

    @WHATEVER_SPACE
    def test_each_export_has_the_gates_of_its_model(self, run: Run, tmp_path: Path) -> None:
        """As the command builds and exports one, whatever else was built or exported in between."""
        wanted = [[False, False], [True, True]]
        models = [Ear(skip_gates=gates) for gates in wanted]
        for model, gates in zip(models, wanted, strict=True):
            path = Engine().export(model, "torch", export_root=tmp_path, ckpt_path=run.checkpoint)
            assert list(torch.load(path, weights_only=False)["model"].model.unet.gates) == gates

    @WHATEVER_SPACE
    @pytest.mark.parametrize("stage", ["test", "predict"])
    def test_images_are_resized_as_in_training(self, run: Run, surfaces: Path, tmp_path: Path, stage: str) -> None:
        """A model built without the training's image size scores files as one built with it, bit for bit."""
        scores = []
        for arguments in ({}, {"image_size": (64, 96)}):
            datamodule = folder(surfaces)
            kept = KeepScores()
            engine = Engine(default_root_dir=tmp_path, accelerator="cpu", callbacks=[kept])
            model = Ear(visualizer=False, **arguments)
            getattr(engine, stage)(model, datamodule=datamodule, ckpt_path=run.checkpoint)
            scores.append(torch.cat(kept.scores))
        assert torch.equal(*scores)

    def test_same_scores_after_restoring(self, surfaces: Path, tmp_path: Path) -> None:
        """The restored model gives the trained one's map bit for bit."""
        model = train(surfaces, tmp_path).eval()
        again = Ear.load_from_checkpoint(next(tmp_path.rglob("*.ckpt"))).eval()
        image = torch.rand(1, 3, 64, 96)
        assert torch.equal(model(image).anomaly_map, again(image).anomaly_map)

    def test_what_it_brings_is_said(
        self, run: Run, surfaces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Whoever spells out a default may have meant it."""
        with caplog.at_level(logging.INFO):
            Engine(default_root_dir=tmp_path, accelerator="cpu", logger=False).predict(
                Ear(excised_share=0.1, visualizer=False),
                data_path=surfaces / "good" / "000.png",
                ckpt_path=run.checkpoint,
            )
        assert re.search(r"From the checkpoint: .*excised_share=0\.2, mosaic_size=4, channels=\[4, 8, 8\]", caplog.text)

    def test_gates_that_it_was_not_calibrated_for_are_refused(self, run: Run, tmp_path: Path) -> None:
        """Set on the network itself they leave the statistics as they were."""
        model = Ear.load_from_checkpoint(run.checkpoint, map_location="cpu", visualizer=False)
        model.model.unet.gates = (True, True)
        with pytest.raises(ValueError, match=r"gates \(True, True\) and is calibrated for \(False, True\)"):
            model.to_onnx(tmp_path)
        model.model.calibrate()
        model.insist_on_training()

    @pytest.mark.parametrize(
        ("trained", "built", "named"),
        [
            ({"excised_share": 0.2}, {}, "excised_share=0.2"),
            ({"mosaic_size": 4}, {"mosaic_size": 8}, "mosaic_size=4"),
            ({"masking": "random"}, {"masking": "none"}, "masking=random"),
            ({"space": DEFAULT}, {"space": DEFAULT, "backbone_scale": 0.5}, "backbone_scale=0.75"),
            ({"space": DEFAULT}, {"space": DEFAULT.removeprefix("tf_")}, f"space={DEFAULT}"),
        ],
        ids=["share", "mosaic", "masking", "scale", "space"],
    )
    def test_weights_of_another_model_are_refused(self, trained: dict, built: dict, named: str) -> None:
        """Loaded by hand they bring no arguments, and these leave no trace in their shapes."""
        state, other = Ear(**(TINY | trained)).state_dict(), Ear(**(TINY | built))
        with pytest.raises(ValueError, match=f"^these weights were trained with {named}"):
            other.load_state_dict(state)
        Ear(**(TINY | trained)).load_state_dict(state)
        other.load_state_dict({name: value for name, value in state.items() if name != "_extra_state"})  # older ones

    def test_can_be_loaded_without_pictures(self, run: Run) -> None:
        """Processors and visualizer are the caller's choice."""
        assert restored(run, visualizer=False).visualizer is None

    @WHATEVER_SPACE
    def test_gates_can_be_changed(self, run: Run) -> None:
        """Other gates give another map, and the calibration of exactly those gates."""
        model = restored(run, skip_gates=[True, True])
        assert model.model.unet.gates == (True, True)
        assert model.model.calibrated_gates.tolist() == [True, True]
        image = torch.rand(1, 3, 64, 96)
        assert not torch.equal(model(image).anomaly_map, restored(run)(image).anomaly_map)

    @pytest.mark.parametrize("command", ["test", "export", "load"])
    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            ({"excised_share": 0.3}, r"excised_share=0\.2"),
            ({"image_size": (128, 96)}, r"pre_processor=Resize\(size=\[64, 96\].* Leave image_size out"),
            (
                {"pre_processor": PreProcessor(Resize((256, 256)))},
                r"pre_processor=Resize\(size=\[64, 96\].* Leave pre_processor",
            ),
            ({"pre_processor": False}, "pre_processor=.* but None was given"),
            ({"post_processor": EarPostProcessor(image_sensitivity=0.8)}, "post_processor=.*'image_sensitivity': 0.5"),
        ],
        ids=["method", "size", "resize", "no resize", "sensitivity"],
    )
    def test_other_settings_cannot(
        self, run: Run, surfaces: Path, tmp_path: Path, command: str, arguments: dict, named: str
    ) -> None:
        """A setting that only training can change is refused by name, not ignored."""
        engine = Engine(default_root_dir=tmp_path, accelerator="cpu")

        def load() -> None:
            if command == "load":
                Ear.load_from_checkpoint(run.checkpoint, **({"image_size": None} | arguments))
            elif command == "export":
                engine.export(Ear(**arguments), "torch", ckpt_path=run.checkpoint)
            else:
                model = Ear(**arguments, visualizer=False)
                engine.test(model, datamodule=folder(surfaces), ckpt_path=run.checkpoint)

        with pytest.raises(ValueError, match=f"^the checkpoint was trained with {named}"):
            load()
        assert not list(tmp_path.rglob("*.pt"))

    @pytest.mark.parametrize(
        ("arguments", "asked"),
        [
            ({"image_size": None, "pre_processor": False}, r"--model\.pre_processor false"),
            ({"post_processor": False, "evaluator": False}, r"--model\.post_processor false"),
            (
                {"post_processor": PostProcessor()},
                r"--model\.post_processor anomalib\..*\.PostProcessor",
            ),
        ],
        ids=["no resize", "no threshold", "another threshold"],
    )
    def test_processors_that_are_not_the_default_s_are_asked_for(
        self, surfaces: Path, tmp_path: Path, arguments: dict, asked: str
    ) -> None:
        """The host has taken the default's as callbacks before it reads the checkpoint."""
        train(surfaces, tmp_path, **arguments)
        checkpoint = next(tmp_path.rglob("*.ckpt"))
        engine = Engine(default_root_dir=tmp_path / "other", accelerator="cpu")
        with pytest.raises(ValueError, match=f"give {asked}"):
            engine.test(Ear(visualizer=False, evaluator=False), datamodule=folder(surfaces), ckpt_path=checkpoint)
        given = {name: value for name, value in arguments.items() if name != "image_size"}
        engine = Engine(default_root_dir=tmp_path / "same", accelerator="cpu")
        engine.test(Ear(visualizer=False, **given), datamodule=folder(surfaces), ckpt_path=checkpoint)
        assert engine.export(Ear(visualizer=False, **given), "torch", export_root=tmp_path, ckpt_path=checkpoint)

    def test_a_size_may_be_spelled_otherwise(self, run: Run, tmp_path: Path) -> None:
        """What counts is to which size images are resized."""
        resize = Resize((64, 96), antialias=True)
        for arguments in ({"image_size": [64, 96]}, {"pre_processor": PreProcessor(Compose([resize]))}):
            assert Engine().export(Ear(**arguments), "torch", export_root=tmp_path, ckpt_path=run.checkpoint)

    def test_a_kind_of_ear_loads_its_checkpoints(self, surfaces: Path, tmp_path: Path) -> None:
        """One that has no post-processing, and passes on its arguments."""
        Engine(max_epochs=1, default_root_dir=tmp_path, accelerator="cpu").fit(Plain(**TINY), folder(surfaces))
        checkpoint = next(tmp_path.rglob("*.ckpt"))
        assert Plain.load_from_checkpoint(checkpoint).post_processor is None
        assert Engine().export(Plain(), "torch", export_root=tmp_path, ckpt_path=checkpoint)

    def test_interrupted_training_goes_on_as_if_it_had_not_been(self, surfaces: Path, tmp_path: Path) -> None:
        """One epoch, a stop and another epoch give the weights of two epochs."""
        whole = train(surfaces, tmp_path / "whole")
        first = Ear(**TINY, max_epochs=2)
        stopped = Engine(
            max_epochs=2, default_root_dir=tmp_path / "parts", accelerator="cpu", callbacks=[StopAfterOne()]
        )
        stopped.fit(first, datamodule=folder(surfaces))
        checkpoint = next((tmp_path / "parts").rglob("*.ckpt"))
        second = Ear(**TINY)
        Engine(max_epochs=2, default_root_dir=tmp_path / "rest", accelerator="cpu").fit(
            second, datamodule=folder(surfaces), ckpt_path=checkpoint
        )
        torch.testing.assert_close(second.model.unet.state_dict(), whole.model.unet.state_dict())

    def test_same_seed_same_model(self, surfaces: Path, tmp_path: Path) -> None:
        """Two trainings with one seed agree, two with different seeds do not."""
        states = [train(surfaces, tmp_path / str(i), seed=seed).model.state_dict() for i, seed in enumerate((1, 1, 2))]
        key = "unet.head.weight"
        assert torch.equal(states[0][key], states[1][key])
        assert not torch.equal(states[0][key], states[2][key])


class TestSpaces:
    """What is recovered is a choice."""

    def test_the_default_needs_no_download(
        self, surfaces: Path, nothing: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With nothing in the cache and no network, they find the blots."""
        use(nothing, monkeypatch)
        model = train(surfaces, tmp_path, space=DEFAULT)
        engine = Engine(default_root_dir=tmp_path, accelerator="cpu")
        assert engine.test(model, datamodule=folder(surfaces))[0]["image_AUROC"] > 0.9

    def test_a_checkpoint_brings_its_features(self, surfaces: Path, tmp_path: Path) -> None:
        """A restored model has the weights that were trained with."""
        train(surfaces, tmp_path, space=DEFAULT)
        again = Ear.load_from_checkpoint(next(tmp_path.rglob("*.ckpt"))).model
        torch.testing.assert_close(dict(again.space.attention.state_dict()), dict(load_attention().state_dict()))
        weights = read_installed()
        assert torch.equal(again.space.backbone.model.conv_stem.weight, weights["_conv_stem.weight"])

    def test_missing_weights_stop_training_before_its_first_step(
        self, surfaces: Path, nothing: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The constructor needs no weights, training does; the error says what works without."""
        use(nothing, monkeypatch)
        with pytest.raises(FileNotFoundError, match=r"'tf_efficientnet_lite0' needs no download"):
            train(surfaces, tmp_path, space="resnet34")

    def test_all_training_images_calibrate_the_last_epoch(
        self, surfaces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At the end the statistics are those of every training image, not of the few that are kept."""
        monkeypatch.setattr(torch_model, "CALIBRATION_IMAGES", 2)
        model = train(surfaces, tmp_path, space=DEFAULT).model
        all_images = model.anomaly_map.residual.mean.clone()
        model.calibrate()
        assert len(model.calibration_images) == 2
        assert (model.anomaly_map.residual.mean - all_images).abs().mean() > 0.01


class StopAfterOne(Callback):
    """Stop training after its first epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask the trainer to stop."""
        del pl_module
        trainer.should_stop = True


class KeepScores(Callback):
    """Keep the scores of each batch."""

    def __init__(self) -> None:
        self.scores: list[torch.Tensor] = []

    def on_test_batch_end(self, *args: ImageBatch, **kwargs: ImageBatch) -> None:
        """Keep the scores of a test batch."""
        del kwargs
        self.scores.append(args[2].pred_score)

    on_predict_batch_end = on_test_batch_end


class TestBaselines:
    """The method's parts switched off, by configuration alone."""

    @pytest.mark.parametrize(
        "arguments",
        [
            {"masking": "none", "skip_gates": [True, True]},
            {"masking": "none", "skip_gates": [False, False]},
            {"masking": "random", "skip_gates": [True, True]},
            {"skip_gates": [True, True]},
            {"masking": "none"},
            {"mosaic_size": 8},
        ],
        ids=["plain U-Net", "autoencoder", "RIAD", "masking without gates", "gates without masking", "mosaic"],
    )
    def test_trains_and_tests(self, surfaces: Path, tmp_path: Path, arguments: dict) -> None:
        """Each baseline runs through the engine and finds the blots better than chance would."""
        model = train(surfaces, tmp_path, **arguments)
        engine = Engine(default_root_dir=tmp_path, accelerator="cpu")
        assert engine.test(model, datamodule=folder(surfaces))[0]["pixel_AUROC"] > 0.6


class TestExport:
    """OpenVINO gives the trained model's answers."""

    def test_scores_as_the_trained_model(
        self, exported: Path, run: Run, surfaces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """From a file of its native size, with the gate that the command line changed: within 1e-4."""
        monkeypatch.chdir(tmp_path)  # the inferencer puts its cache into the working directory
        model = restored(run, skip_gates=[False, False])
        inferencer = OpenVINOInferencer(exported, device="CPU", config={"INFERENCE_PRECISION_HINT": "f32"})
        path = sorted((surfaces / "defective").iterdir())[0]
        image = np.asarray(Image.open(path))
        assert DeployedModel(exported).doubt(image) is None
        assert DeployedModel(exported).doubt(image.swapaxes(0, 1)) is not None
        prediction = inferencer.predict(image)
        engine = Engine(default_root_dir=run.root, accelerator="cpu")
        expected = engine.predict(model, data_path=path)[0]
        assert prediction.pred_score.item() == pytest.approx(expected.pred_score.item(), abs=1e-4)
        np.testing.assert_allclose(prediction.anomaly_map.squeeze(), expected.anomaly_map.squeeze(), atol=1e-4)

    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
    def test_scores_as_the_trained_model_under_every_change(
        self, both: tuple[Ear, openvino.CompiledModel], surfaces: Path, change: Change
    ) -> None:
        """Scores and maps of three photographs in other light, colour, noise, focus and place: within 1e-4."""
        model, compiled = both
        for index, name in enumerate(("good/000.png", "good/001.png", "defective/020.png")):
            pixels = torch.from_numpy(np.array(Image.open(surfaces / name).convert("RGB"))).permute(2, 0, 1)
            image = change(pixels, index)[None] / 255
            with torch.no_grad():
                expected = model.post_processor(model.model(model.pre_processor.transform(image)))
            found = compiled(image.numpy())
            for output in ("pred_score", "anomaly_map"):
                np.testing.assert_allclose(found[output], getattr(expected, output), rtol=0, atol=1e-4)

    @WHATEVER_SPACE
    def test_without_a_resize_to_one_size_it_is_the_training_s(self, run: Run, tmp_path: Path) -> None:
        """Statistics of places hold for that size only: others are refused by name, trained or exported."""
        model = restored(run)
        model.pre_processor = PreProcessor(Resize(64))
        exported = model.to_openvino(tmp_path)
        compiled = openvino.Core().compile_model(exported, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        image = torch.rand(1, 3, 64, 96)
        np.testing.assert_allclose(compiled(image.numpy())["anomaly_map"], model(image).anomaly_map.detach(), atol=1e-4)
        with pytest.raises(ValueError, match=r"pixels \(height x width\), and the model was trained on 64 x 96"):
            model(torch.rand(1, 3, 128, 96))
        with pytest.raises(ValueError, match="was trained on 64 x 96"):
            model.to_openvino(tmp_path, input_size=(128, 96))
        with pytest.raises(RuntimeError, match="shape"):
            compiled(np.zeros((1, 3, 128, 96), np.float32))


class TestErrors:
    """Wrong arguments are refused before any work."""

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            ({"excised_share": 1.5}, "excised_share"),
            ({"masking": "grid"}, "masking"),
            ({"channels": [8]}, "channels"),
            ({"mosaic_size": 0}, "mosaic_size"),
            ({"image_size": [64, 64], "pre_processor": False}, "image_size"),
            ({"image_size": 256}, "image_size"),
            ({"image_size": [64.5, 64]}, "image_size"),
            ({"skip_gates": ["false", "false"]}, "skip_gates"),
            ({"skip_gates": "no"}, "skip_gates must be a list of true and false"),
            ({"masking": None}, "masking must be text"),
            ({"variation": {"blur": "3"}}, "variation's blur must be from 0"),
            ({"learning_rate": 0.0}, "learning_rate"),
            ({"learning_rate": float("nan")}, "learning_rate"),
            ({"seed": -1}, "seed"),
            ({"max_epochs": 0}, "max_epochs"),
            ({"variation": "yes"}, "variation"),
            ({"learning_rate": "0.001"}, "learning_rate must be a number"),
            ({"mosaic_size": 2.5}, "mosaic_size must be a whole number"),
            ({"channels": 8}, "channels must be a list"),
            ({"channels": [8.5, 16]}, r"channels\[0\] must be a whole number"),
            ({"seed": 1.5}, "seed must be a whole number"),
            ({"max_epochs": True}, "max_epochs must be a whole number"),
            (
                {"pre_processor": Resize((64, 96))},
                "pre_processor must be true, .* PreProcessor, got Resize: wrap it",
            ),
            (
                {"post_processor": torch.nn.Identity()},
                "post_processor must be true, .* PostProcessor, got Identity",
            ),
        ],
        ids=str,
    )
    def test_wrong_argument(self, arguments: dict, named: str) -> None:
        """The error names the argument."""
        with pytest.raises((TypeError, ValueError), match=f"^{named}"):
            Ear(**arguments)

    def test_wrong_number_of_gates(self, surfaces: Path, tmp_path: Path) -> None:
        """The error says how many there are, before the first step."""
        with pytest.raises(ValueError, match="2 skip connections"):
            train(surfaces, tmp_path, skip_gates=[True])

    def test_wrong_number_of_gates_for_a_checkpoint(self, run: Run) -> None:
        """The number is the checkpoint's, not the default network's."""
        with pytest.raises(ValueError, match="2 skip connections"):
            restored(run, skip_gates=[True, True, True, True])

    @pytest.mark.parametrize(
        "transform", [Normalize([0.5] * 3, [0.2] * 3), Normalize([0] * 3, [1 / 255] * 3)], ids=["normalised", "255"]
    )
    def test_pre_processing_beyond_black_and_white(self, surfaces: Path, tmp_path: Path, transform: Transform) -> None:
        """Most models of anomalib normalise images before the network; Ear does it itself, from [0, 1]."""
        resize = Compose([Resize((64, 96), antialias=True), transform])
        with pytest.raises(ValueError, match=r"image must lie in \[0, 1\], got .* leave Normalize"):
            train(surfaces, tmp_path, image_size=None, pre_processor=PreProcessor(transform=resize))

    def test_a_mosaic_larger_than_the_image(self, surfaces: Path, tmp_path: Path) -> None:
        """The image would be padded to one block."""
        with pytest.raises(ValueError, match=r"mosaic blocks of 100 pixels .* 64 x 96"):
            train(surfaces, tmp_path, mosaic_size=100)

    def test_a_photograph_without_content_is_found_before_the_first_is_scored(
        self, run: Run, surfaces: Path, tmp_path: Path
    ) -> None:
        """However many there are; nothing is written."""
        shutil.copytree(surfaces / "defective", tmp_path / "new")
        (tmp_path / "new" / "last.png").touch()
        engine = Engine(default_root_dir=tmp_path / "results", accelerator="cpu")
        with pytest.raises((OSError, ValueError), match=r"last\.png"):
            engine.predict(restored(run), data_path=tmp_path / "new")
        assert not list((tmp_path / "results").rglob("*.png"))

    def test_a_damaged_photograph_costs_no_score(
        self, run: Run, surfaces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its header is whole, so nobody knows before it is its turn: the scores until then are written."""
        monkeypatch.chdir(tmp_path)
        shutil.copytree(surfaces / "defective", tmp_path / "new")
        last = sorted((tmp_path / "new").iterdir())[-1]
        last.write_bytes(last.read_bytes()[:-500])
        engine = Engine(default_root_dir=tmp_path / "results", accelerator="cpu")
        loader = DataLoader(PredictDataset(tmp_path / "new"), 1, collate_fn=ImageBatch.collate)
        with pytest.raises(OSError, match=last.name):
            engine.predict(restored(run), dataloaders=loader)
        (table,) = tmp_path.rglob("scores.csv")
        assert len(table.read_text().splitlines()) == 1 + len(list((tmp_path / "new").iterdir())) - 1

    def test_missing_attention_weights(self, surfaces: Path, tmp_path: Path) -> None:
        """The error names the file, before the first step."""
        with pytest.raises(FileNotFoundError, match="nowhere"):
            train(surfaces, tmp_path, masking="nowhere.safetensors")

    def test_image_smaller_than_the_network_takes(self, surfaces: Path, tmp_path: Path) -> None:
        """The error says what the least size is."""
        with pytest.raises(ValueError, match="at least 8 x 8"):
            train(surfaces, tmp_path, image_size=(4, 64))

    def test_empty_data_folder(self, tmp_path: Path) -> None:
        """An empty folder ends in one error that names it."""
        (tmp_path / "good").mkdir()
        datamodule = Folder(name="empty", root=tmp_path, normal_dir="good", num_workers=0)
        with pytest.raises(Exception, match="good"):
            Engine(max_epochs=1, default_root_dir=tmp_path, accelerator="cpu").fit(Ear(**TINY), datamodule=datamodule)
