# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""However a training ends, it has learned, and what it leaves is calibrated by all training images."""

import copy
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.callbacks import ModelCheckpoint
from anomalib.data import AnomalibDataset, Folder, PredictDataset
from anomalib.engine import Engine
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateFinder,
    StochasticWeightAveraging,
    Timer,
)
from PIL import Image
from test_lightning_model import TINY, folder
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    IterableDataset,
    SequentialSampler,
    SubsetRandomSampler,
)
from torchvision.transforms.v2 import GaussianNoise

from anomalib_ear import Ear
from anomalib_ear.host.schedule import DEFAULT_EPOCHS, one_cycle
from anomalib_ear.method import model as torch_model
from anomalib_ear.method.attention import load_attention, write_weights
from anomalib_ear.method.spaces import DEFAULT
from anomalib_ear.method.variation import DEFAULTS
from conftest import REPOSITORY, folder_arguments

FEATURES = TINY | {"space": DEFAULT}
COPIES = 4  # of an image in a full calibration; the sixteen that there would be take four times as long


@pytest.fixture(autouse=True)
def _few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep so few images that a calibration by these shows, and calibrate by fewer copies."""
    monkeypatch.setattr(torch_model, "CALIBRATION_IMAGES", 2)
    monkeypatch.setattr(torch_model, "MAX_COPIES", COPIES)


def fit(model: Ear, surfaces: Path, root: Path, **trainer: object) -> Engine:
    """Train in this process."""
    engine = Engine(default_root_dir=root, accelerator="cpu", enable_progress_bar=False, **trainer)
    engine.fit(model, datamodule=folder(surfaces))
    return engine


def new_weights(**arguments: object) -> torch.Tensor:
    """Return a weight of an untrained model."""
    return Ear(**(FEATURES | arguments)).model.unet.head.weight.detach()


def calibrated_by_all(model: Ear, surfaces: Path, copies: int = COPIES) -> bool:
    """Tell whether another calibration by as many copies of all training images changes nothing."""
    data = folder(surfaces)
    data.setup()
    again = copy.deepcopy(model.model).eval()
    resize = model.pre_processor.transform
    again.calibrate(resize(torch.stack([item.image for item in data.train_data])).split(4), copies)
    return all(
        torch.allclose(
            getattr(again.anomaly_map.residual, name), getattr(model.model.anomaly_map.residual, name), atol=1e-3
        )
        for name in ("mean", "std")
    )


def scores(model: Ear) -> torch.Tensor:
    """Return the map of one random image."""
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    return model.eval()(image).anomaly_map.detach()


class Interrupt(Callback):
    """Press Ctrl-C in the middle of the second epoch."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        """Raise what Python raises then."""
        del pl_module, args
        if trainer.global_step == 6:
            raise KeyboardInterrupt


ENDS = {
    "epochs": {"max_epochs": 2},
    "time": {"max_time": {"seconds": 3}},
    "time before epochs": {"max_time": {"seconds": 3}, "max_epochs": 100_000},
    "epochs before time": {"max_time": {"hours": 3}, "max_epochs": 2},
    "steps within an epoch": {"max_steps": 6},
    "endless, stopped early": {
        "max_epochs": -1, "callbacks": [EarlyStopping("train_loss", min_delta=10, patience=2)],
    },
    "stopped early": {"max_epochs": 50, "callbacks": [EarlyStopping("train_loss", min_delta=10, patience=2)]},
    "part of the images": {"max_epochs": 2, "limit_train_batches": 2},
    "no validation": {"max_epochs": 2, "limit_val_batches": 0},
    "rare validation": {"max_epochs": 3, "check_val_every_n_epoch": 2},
    "gradients of two batches": {"max_epochs": 2, "accumulate_grad_batches": 2},
}  # fmt: skip


class TestEnds:
    """Time, steps, early stopping, interruptions."""

    @pytest.mark.parametrize("trainer", ENDS.values(), ids=ENDS)
    def test_learns_and_is_calibrated_by_all_images(self, surfaces: Path, tmp_path: Path, trainer: dict) -> None:
        """Weights moved; the trained model and its checkpoint know all images, and score alike."""
        model = Ear(**FEATURES)
        engine = fit(model, surfaces, tmp_path, **trainer)
        restored = Ear.load_from_checkpoint(engine.best_model_path)
        assert (model.model.unet.head.weight - new_weights()).abs().mean() > 1e-4
        assert len(model.model.calibration_images) == 2
        assert calibrated_by_all(model, surfaces)
        assert calibrated_by_all(restored, surfaces)
        if trainer is not ENDS["rare validation"]:  # its checkpoint is that of the last validation
            assert torch.equal(scores(model), scores(restored))

    def test_a_checkpoint_within_an_epoch_is_calibrated_by_its_own_weights(
        self, surfaces: Path, tmp_path: Path
    ) -> None:
        """Every checkpoint is calibrated, not only the last one."""
        every = ModelCheckpoint(dirpath=tmp_path / "all", every_n_train_steps=3, save_top_k=-1)
        fit(Ear(**FEATURES), surfaces, tmp_path, max_epochs=2, callbacks=[every])
        paths = list((tmp_path / "all").iterdir())
        assert len(paths) == 2
        models = [Ear.load_from_checkpoint(path) for path in paths]
        assert all(calibrated_by_all(model, surfaces) for model in models)
        assert all(model.post_processor.image_threshold.isnan() for model in models)  # that of the last one is stale

    def test_the_best_checkpoint_is_calibrated_by_all_copies(self, surfaces: Path, tmp_path: Path) -> None:
        """Whichever epoch it is of: here the first, which has the highest loss."""
        best = ModelCheckpoint(dirpath=tmp_path / "best", filename="{epoch}", monitor="train_loss", mode="max")
        fit(Ear(**FEATURES), surfaces, tmp_path, max_epochs=2, callbacks=[best])
        assert Path(best.best_model_path).stem == "epoch=0"
        assert calibrated_by_all(Ear.load_from_checkpoint(best.best_model_path), surfaces)

    @pytest.mark.parametrize("is_stopped", [False, True], ids=["as planned", "stopped, but must go on"])
    def test_epochs_before_the_last_one_take_few_copies(
        self, surfaces: Path, tmp_path: Path, *, is_stopped: bool
    ) -> None:
        """Without validation too, where only checkpoints ask for a calibration."""
        every = ModelCheckpoint(dirpath=tmp_path / "all", filename="{epoch}", save_top_k=-1)
        callbacks, epochs = ([StopAtOnce()], 9) if is_stopped else ([], 3)
        fit(
            Ear(**FEATURES), surfaces, tmp_path,
            min_epochs=3, max_epochs=epochs, limit_val_batches=0, callbacks=[every, *callbacks],
        )  # fmt: skip
        models = [Ear.load_from_checkpoint(tmp_path / "all" / f"epoch={epoch}.ckpt") for epoch in range(3)]
        assert [calibrated_by_all(model, surfaces, 2) for model in models] == [True, True, False]
        assert calibrated_by_all(models[-1], surfaces)

    def test_checkpoints_and_validations_leave_training_as_it_is(self, surfaces: Path, tmp_path: Path) -> None:
        """The weights do not depend on how often the model was calibrated."""
        weights = []
        for steps in (1, 1000):
            model = Ear(**FEATURES)
            every = ModelCheckpoint(dirpath=tmp_path / str(steps), every_n_train_steps=steps)
            fit(model, surfaces, tmp_path, max_epochs=2, callbacks=[every])
            weights.append(model.model.unet.head.weight)
        assert torch.equal(*weights)

    def test_thresholds_belong_to_the_last_calibration(self, surfaces: Path, tmp_path: Path) -> None:
        """Steps that run out within an epoch are followed by a validation: there are thresholds."""
        model = Ear(**FEATURES)
        fit(model, surfaces, tmp_path, max_steps=3)
        assert model.post_processor.image_threshold.isfinite()

    def test_a_stop_after_the_validation_is_said(
        self, surfaces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Nobody knew before that this epoch would be the last; its threshold is that of its calibration."""
        model = Ear(**FEATURES)
        fit(model, surfaces, tmp_path, max_epochs=9, callbacks=[StopAfterValidation()])
        assert calibrated_by_all(model, surfaces, 2)
        assert model.post_processor.image_threshold.isfinite()
        assert "two copies of each photograph calibrate the model" in caplog.text

    def test_ctrl_c_saves_a_calibrated_checkpoint(self, surfaces: Path, tmp_path: Path) -> None:
        """What is written at an interruption is of that moment; the model in memory asks for it."""
        model = Ear(**FEATURES)
        saved = ModelCheckpoint(dirpath=tmp_path / "saved", save_on_exception=True)
        with pytest.raises(SystemExit):
            fit(model, surfaces, tmp_path, max_epochs=3, callbacks=[saved, Interrupt()])
        paths = list((tmp_path / "saved").rglob("*.ckpt"))
        assert len(paths) == 2
        models = [Ear.load_from_checkpoint(path) for path in paths]
        copies = sorted(next(n for n in (2, COPIES) if calibrated_by_all(model, surfaces, n)) for model in models)
        assert copies == [2, COPIES]  # of a validation before the last one, and of the interruption

    def test_an_interrupted_model_asks_for_its_checkpoint(self, surfaces: Path, tmp_path: Path) -> None:
        """An interrupted model has other weights than it was calibrated for."""
        model = Ear(**FEATURES)
        with pytest.raises(SystemExit):
            fit(model, surfaces, tmp_path, max_epochs=3, callbacks=[Interrupt()])
        with pytest.raises(ValueError, match="interrupted"):
            Engine(default_root_dir=tmp_path, accelerator="cpu").test(model, datamodule=folder(surfaces))

    @pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent otherwise there")
    def test_ctrl_c_of_the_command(self, surfaces: Path, tmp_path: Path) -> None:
        """The checkpoint of the last whole epoch is calibrated by all images."""
        script = (
            "import signal, anomalib_ear, anomalib_ear.method.model as t, anomalib.cli.cli as c\n"
            # A shell starts its background processes with this signal ignored.
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "t.CALIBRATION_IMAGES = 2\n"
            "c.main()"
        )
        arguments = ["--model", "Ear", "--model.image_size", "[64,96]"]
        arguments += ["--model.channels", "[4,8,8]", "--trainer.max_epochs", "100000", "--trainer.accelerator", "cpu"]
        process = subprocess.Popen(
            [sys.executable, "-c", script, "train", *arguments, *folder_arguments(surfaces)],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src")},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 300
            while not (paths := list(tmp_path.rglob("model.ckpt"))) and time.monotonic() < deadline:
                time.sleep(0.2)
            time.sleep(1)
            # Press it again: anomalib compares NumPy numbers with an enum for each image, where NumPy drops exceptions.
            for _ in range(3):
                process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(60)
                    break
            assert process.returncode == 1
        finally:
            process.kill()
        restored = Ear.load_from_checkpoint(paths[0])
        assert not torch.equal(restored.model.unet.head.weight, new_weights())
        assert calibrated_by_all(restored, surfaces, copies=2)  # more only at the end, which nobody could know of


class TestEpochs:
    """How long a training is that nobody limited."""

    @pytest.mark.parametrize(
        ("trainer", "epochs"),
        [
            ({}, DEFAULT_EPOCHS),
            ({"max_epochs": 1000}, 1000),
            ({"min_epochs": 30}, 30),
            ({"max_steps": 5}, -1),
            ({"max_time": {"seconds": 60}}, -1),
            ({"callbacks": [Timer()]}, DEFAULT_EPOCHS),
        ],
        ids=["nothing", "a thousand", "at least thirty", "steps", "time", "a timer without a limit"],
    )
    def test_the_default_is_for_nobody_s_word(self, surfaces: Path, tmp_path: Path, trainer: dict, epochs: int) -> None:
        """The default applies only where nobody set a limit; a thousand epochs are one."""
        callbacks = [*trainer.get("callbacks", []), StopAtOnce()]
        short = {"limit_train_batches": 1, "limit_val_batches": 0, "callbacks": callbacks}
        engine = fit(Ear(**TINY), surfaces, tmp_path, **(trainer | short))
        assert engine.trainer.max_epochs == epochs


class StopAtOnce(Callback):
    """Stop training after its first step."""

    def on_train_batch_end(self, trainer: Trainer, *args: object) -> None:
        """Ask the trainer to stop."""
        del args
        trainer.should_stop = True


class StopAfterValidation(Callback):
    """Ask for an end once an epoch is validated."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask for it."""
        del pl_module
        trainer.should_stop = True


class KeepRates(Callback):
    """Keep the learning rate of each step."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, *args: object) -> None:
        """Keep the rate that the next step has."""
        del args
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


class TestSchedule:
    """The learning rate rises and falls."""

    def test_known_end(self) -> None:
        """The learning rate rises over a tenth of the training and ends at 0."""
        rates = [one_cycle(step / 100, step) for step in range(101)]
        assert rates[0] == 0
        assert rates[10] == max(rates) == 1
        assert rates[100] == pytest.approx(0)

    def test_unknown_end(self) -> None:
        """The learning rate rises and stays."""
        assert [one_cycle(None, step) for step in (0, 50, 100, 10_000)] == [0, 0.5, 1, 1]

    def test_time(self, surfaces: Path, tmp_path: Path) -> None:
        """If time ends the training, the learning rate has fallen by then."""
        kept = KeepRates()
        fit(Ear(**FEATURES), surfaces, tmp_path, max_time=timedelta(seconds=4), callbacks=[kept])
        assert max(kept.rates) > 1e-3
        assert kept.rates[-1] < 1e-3

    def test_a_resumed_training_has_the_rate_that_it_is_given(self, surfaces: Path, tmp_path: Path) -> None:
        """Another rate than the checkpoint's is used, not the one that the checkpoint's schedule has."""
        kept = KeepRates()
        steps = ModelCheckpoint(dirpath=tmp_path / "all", filename="{step}", every_n_train_steps=4, save_top_k=-1)
        fit(Ear(**FEATURES), surfaces, tmp_path, max_epochs=2, callbacks=[steps])
        engine = Engine(max_epochs=2, default_root_dir=tmp_path, accelerator="cpu", callbacks=[kept])
        model = Ear(**FEATURES, learning_rate=1e-5)
        engine.fit(model, datamodule=folder(surfaces), ckpt_path=tmp_path / "all" / "step=4.ckpt")
        assert 0 < max(kept.rates) <= 1e-5


class TestFinders:
    """Lightning's callbacks that try out rates and batch sizes before training."""

    def test_learning_rate(self, surfaces: Path, tmp_path: Path) -> None:
        """The rate that was found is the highest that is used, and training changes the weights."""
        kept = KeepRates()
        finder = LearningRateFinder(min_lr=1e-6, max_lr=1000, num_training_steps=40, early_stop_threshold=None)
        model = Ear(**FEATURES)
        engine = fit(model, surfaces, tmp_path, max_epochs=5, callbacks=[finder, kept])
        found = finder.optimal_lr.suggestion()
        assert model.hparams["learning_rate"] == found
        assert kept.rates[0] == 0
        assert max(kept.rates) == pytest.approx(found)
        assert not torch.equal(model.model.unet.head.weight, new_weights())
        assert calibrated_by_all(model, surfaces)
        assert torch.equal(scores(model), scores(Ear.load_from_checkpoint(engine.best_model_path)))

    def test_trials_leave_nothing_behind(self, surfaces: Path, tmp_path: Path) -> None:
        """After the trials the statistics are those of a training without."""
        counts = []
        for callbacks in ([], [LearningRateFinder(num_training_steps=15)]):
            model = Ear(**FEATURES)
            fit(model, surfaces, tmp_path, max_epochs=1, callbacks=callbacks)
            counts.append(model.model.space.standardise.num_batches_tracked)
        assert counts[0] == counts[1]

    def test_batch_size(self, surfaces: Path, tmp_path: Path) -> None:
        """The size that was found is used, and the schedule ends with the steps that it leaves."""
        kept = KeepRates()
        finder = BatchSizeFinder(batch_arg_name="train_batch_size", max_trials=3)
        model = Ear(**FEATURES)
        fit(model, surfaces, tmp_path, max_epochs=10, callbacks=[finder, kept])
        assert finder.optimal_batch_size == 8
        assert len(kept.rates) == 20
        assert kept.rates[-1] < 0.1 * max(kept.rates)
        assert calibrated_by_all(model, surfaces)


class TestDivergence:
    """A training that went astray says so."""

    @pytest.mark.parametrize("arguments", [{}, {"space": "pixels"}, {"masking": "none"}], ids=str)
    def test_says_so(self, surfaces: Path, tmp_path: Path, arguments: dict) -> None:
        """One error names the cause and the argument."""
        with pytest.raises(ValueError, match=r"diverged.*learning_rate"):
            fit(Ear(**(FEATURES | {"learning_rate": 1e30} | arguments)), surfaces, tmp_path, max_epochs=3)


class TestTwice:
    """One model object is trained on two data sets."""

    def test_nothing_is_left_of_the_first(self, surfaces: Path, tmp_path: Path) -> None:
        """Images, statistics and thresholds are the second's, which has no validation images; the weights go on."""
        for kind in ("good", "defective", "masks"):
            (tmp_path / "dark" / kind).mkdir(parents=True)
            for path in (surfaces / kind).iterdir():
                image = Image.open(path)
                (image if kind == "masks" else image.point(lambda value: value // 3)).save(
                    tmp_path / "dark" / kind / path.name
                )
        model = Ear(**FEATURES)
        fit(model, surfaces, tmp_path, max_epochs=1)
        weights = model.model.unet.head.weight.detach().clone()
        fit(model, tmp_path / "dark", tmp_path, max_epochs=1, limit_val_batches=0)
        assert model.model.calibration_images.max() < 128
        assert model.model.space.standardise.num_batches_tracked == 4
        assert calibrated_by_all(model, tmp_path / "dark")
        assert model.post_processor.image_threshold.isnan()
        assert 0 < (model.model.unet.head.weight - weights).abs().mean() < (weights - new_weights()).abs().mean() * 5

    def test_a_validation_and_evaluation_mode_between_change_nothing(self, surfaces: Path, tmp_path: Path) -> None:
        """Lightning validates in inference mode, whose tensors no training can change."""
        models = [Ear(**FEATURES), Ear(**FEATURES)]
        for model in models:
            fit(model, surfaces, tmp_path, max_epochs=1)
        Engine(default_root_dir=tmp_path, accelerator="cpu").validate(models[0], datamodule=folder(surfaces))
        models[0].eval()
        for model in models:
            fit(model, surfaces, tmp_path, max_epochs=1)
        assert torch.equal(scores(models[0]), scores(models[1]))

    def test_a_second_training_that_does_not_begin_changes_nothing(self, surfaces: Path, tmp_path: Path) -> None:
        """An engine whose epochs are done leaves the model as it is."""
        model = Ear(**FEATURES)
        engine = fit(model, surfaces, tmp_path, max_epochs=1)
        before = scores(model)
        engine.fit(model, datamodule=folder(surfaces))
        assert torch.equal(scores(model), before)


class TestData:
    """What comes from elsewhere than a datamodule, or is split otherwise."""

    @pytest.fixture
    def images(self, surfaces: Path) -> AnomalibDataset:
        """Return the good training images."""
        data = folder(surfaces)
        data.setup()
        return data.train_data

    def test_a_loader_may_have_its_own_batches(self, images: AnomalibDataset, tmp_path: Path) -> None:
        """Such a loader has no batch size."""
        batches = BatchSampler(SequentialSampler(images), 4, drop_last=False)
        model = Ear(**FEATURES)
        Engine(default_root_dir=tmp_path, accelerator="cpu", max_epochs=1).fit(
            model, train_dataloaders=DataLoader(images, batch_sampler=batches, collate_fn=images.collate_fn)
        )
        assert model.model.is_calibration_current

    @pytest.mark.parametrize("is_of_batches", [False, True])
    def test_a_sampler_that_leaves_photographs_out_is_refused(
        self, images: AnomalibDataset, tmp_path: Path, *, is_of_batches: bool
    ) -> None:
        """All of the data set calibrates, and those that were left out may be defective."""
        sampler = SubsetRandomSampler([0, 1, 2, 3])
        given = {"batch_sampler": BatchSampler(sampler, 2, drop_last=False)} if is_of_batches else {"sampler": sampler}
        loader = DataLoader(images, collate_fn=images.collate_fn, **given)
        with pytest.raises(TypeError, match=r"draws by a SubsetRandomSampler.*Subset of the photographs"):
            Engine(default_root_dir=tmp_path, accelerator="cpu", max_epochs=1).fit(
                Ear(**FEATURES), train_dataloaders=loader
            )

    @pytest.mark.parametrize(("sizes", "batch_size", "is_said"), [(2, 2, True), (2, 1, False), (1, 2, False)])
    def test_sizes_that_share_a_batch_are_said(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, sizes: int, batch_size: int, *, is_said: bool
    ) -> None:
        """The host resizes such a batch to its largest, so that a score depends on the neighbours."""
        for index in range(4):
            noise = np.random.default_rng(index).integers(0, 256, (40 + 20 * (index % sizes), 60, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / f"{index}.png")
        dataset = PredictDataset(tmp_path)
        loader = DataLoader(dataset, batch_size, collate_fn=dataset.collate_fn)
        engine = Engine(default_root_dir=tmp_path / "run", accelerator="cpu", max_epochs=2, logger=False)
        engine.fit(model := Ear(**FEATURES), train_dataloaders=loader)
        engine.predict(model, dataloaders=loader)
        assert caplog.text.count("what is scored depends on the batch") == 2 * is_said

    def test_images_without_a_number_are_refused(self, images: AnomalibDataset, tmp_path: Path) -> None:
        """Before the first step, since all of them calibrate at the end."""

        class Endless(IterableDataset):
            def __iter__(self) -> Iterator[object]:
                return iter([images[0]] * 8)

        loader = DataLoader(Endless(), batch_size=4, collate_fn=images.collate_fn)
        with pytest.raises(TypeError, match=r"train_dataloaders .* with a length"):
            Engine(default_root_dir=tmp_path, accelerator="cpu", max_epochs=1).fit(
                Ear(**FEATURES), train_dataloaders=loader
            )

    @pytest.mark.parametrize("batches", [1.0, 1], ids=["trained on", "only calibrated by"])
    def test_defective_ones_are_refused(
        self, images: AnomalibDataset, surfaces: Path, tmp_path: Path, batches: float
    ) -> None:
        """What is learned from would not be found."""
        data = folder(surfaces)
        data.setup()
        loader = DataLoader(ConcatDataset([images, data.test_data]), batch_size=4, collate_fn=images.collate_fn)
        with pytest.raises(ValueError, match=r"defective/020\.png is labelled defective"):
            Engine(default_root_dir=tmp_path, accelerator="cpu", max_epochs=1, limit_train_batches=batches).fit(
                Ear(**FEATURES), train_dataloaders=loader
            )

    def test_a_datamodule_s_own_validation_images_are_used(self, surfaces: Path, tmp_path: Path) -> None:
        """It may give a loader without splitting any off."""

        class Own(Folder):
            def val_dataloader(self) -> DataLoader:
                return self.test_dataloader()

        data = Own(
            name="surface", root=surfaces, normal_dir="good", abnormal_dir="defective", val_split_mode="none",
            train_batch_size=4, num_workers=0,
        )  # fmt: skip
        model = Ear(**FEATURES)
        Engine(default_root_dir=tmp_path, accelerator="cpu", max_epochs=1).fit(model, datamodule=data)
        assert not model.post_processor.image_threshold.isnan()

    @pytest.mark.parametrize("mode", ["none", "same_as_test"])
    def test_what_a_split_means_is_said(
        self, surfaces: Path, tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Without validation images there is no threshold, and that of the test's images flatters."""
        data = Folder(
            name="surface", root=surfaces, normal_dir="good", abnormal_dir="defective", val_split_mode=mode,
            train_batch_size=4, num_workers=0,
        )  # fmt: skip
        model = Ear(**FEATURES)
        Engine(default_root_dir=tmp_path, accelerator="cpu", max_epochs=1).train(model, datamodule=data)
        assert model.post_processor.image_threshold.isnan() == (mode == "none")
        said = {"none": "Nothing was validated", "same_as_test": "flatters the model"}
        assert any(said[mode] in message for message in caplog.messages)
        if mode == "none":
            with pytest.raises(ValueError, match="no validation images"):
                Engine(default_root_dir=tmp_path, accelerator="cpu").validate(model, datamodule=data)

    def test_another_threshold_by_a_later_validation_is_said(
        self, surfaces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What is exported next would have it; the images of training give the same one."""
        model = Ear(**FEATURES)
        engine = fit(model, surfaces, tmp_path, max_epochs=2)
        engine.validate(model, datamodule=folder(surfaces))
        assert "another threshold" not in caplog.text
        engine.validate(model, datamodule=folder(surfaces, val_split_mode="same_as_test"))
        assert "This validation has given another threshold" in caplog.text


class TestResume:
    """A training goes on from a checkpoint of two epochs of four."""

    @pytest.fixture(scope="class")
    def half(self, surfaces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Return the checkpoint."""
        root = tmp_path_factory.mktemp("half")
        fit(Ear(**FEATURES), surfaces, root, max_epochs=4, callbacks=[StopAfter(2)])
        return next(root.rglob("model.ckpt"))

    @pytest.mark.parametrize(
        ("batch", "trainer"),
        [(2, {}), (8, {}), (4, {"accumulate_grad_batches": 2})],
        ids=["smaller batches", "larger batches", "accumulated"],
    )
    def test_the_learning_rate_goes_on_by_epochs(
        self, surfaces: Path, half: Path, tmp_path: Path, batch: int, trainer: dict
    ) -> None:
        """Steps of another size leave the rate of an epoch as it is: from the middle of its fall to nothing."""
        data, rates = folder(surfaces), KeepRates()
        data.train_batch_size = batch
        engine = Engine(
            default_root_dir=tmp_path, accelerator="cpu", enable_progress_bar=False, max_epochs=4, callbacks=[rates],
            **trainer,
        )  # fmt: skip
        engine.fit(Ear(**FEATURES), datamodule=data, ckpt_path=half)
        assert rates.rates[0] == pytest.approx(2e-3 * one_cycle(0.5, 0), rel=0.4)
        assert rates.rates[-1] < 2e-4

    def test_what_was_trained_is_tested(self, surfaces: Path, half: Path, tmp_path: Path) -> None:
        """Figures, scores and the model in memory are those of the new checkpoint."""
        model = Ear(**FEATURES)
        engine = Engine(default_root_dir=tmp_path, accelerator="cpu", enable_progress_bar=False, max_epochs=4)
        engine.train(model, datamodule=folder(surfaces), ckpt_path=half)
        new, old = (Ear.load_from_checkpoint(path) for path in (engine.best_model_path, half))
        assert Path(engine.best_model_path).is_relative_to(tmp_path)
        assert torch.equal(scores(model), scores(new))
        assert not torch.equal(scores(model), scores(old))

    @pytest.mark.parametrize("finder", [LearningRateFinder(), BatchSizeFinder(batch_arg_name="train_batch_size")])
    def test_finders_are_refused(self, surfaces: Path, half: Path, tmp_path: Path, finder: Callback) -> None:
        """After its trials Lightning would begin at the first epoch, without a word."""
        engine = Engine(default_root_dir=tmp_path, accelerator="cpu", max_epochs=4, callbacks=[finder])
        with pytest.raises(ValueError, match=f"{type(finder).__name__} forgets .* checkpoint"):
            engine.fit(Ear(**FEATURES), datamodule=folder(surfaces), ckpt_path=half)

    def test_a_complete_one_says_so(
        self, surfaces: Path, half: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """There is nothing to do for as many epochs as it has: the warning says how to go on."""
        Engine(default_root_dir=tmp_path, accelerator="cpu", max_epochs=2).fit(
            Ear(**FEATURES), datamodule=folder(surfaces), ckpt_path=half
        )
        assert any(re.search("complete after 2 epochs.*max_epochs", message) for message in caplog.messages)

    def test_it_may_go_on_within_an_epoch(self, surfaces: Path, tmp_path: Path) -> None:
        """With other batches than before: the rate falls to nothing at the end, and not before."""
        kept = ModelCheckpoint(dirpath=tmp_path, filename="{step}", every_n_train_steps=3, save_top_k=-1)
        data = folder(surfaces)
        data.train_batch_size = 2
        half = Engine(default_root_dir=tmp_path, accelerator="cpu", max_epochs=2, callbacks=[kept])
        half.fit(Ear(**FEATURES), datamodule=data)
        data, rates = folder(surfaces), KeepRates()
        engine = Engine(default_root_dir=tmp_path, accelerator="cpu", max_epochs=2, callbacks=[rates])
        engine.fit(Ear(**FEATURES), datamodule=data, ckpt_path=tmp_path / "step=3.ckpt")
        assert min(rates.rates[:-1]) > rates.rates[-1] >= 0
        assert rates.rates[-1] < 2e-4


class StopAfter(Callback):
    """Stop training after some epochs."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask the trainer to stop."""
        del pl_module
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


class TestPrecision:
    """The trainer's precision works or is refused by name."""

    @pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
    def test_works(self, surfaces: Path, tmp_path: Path, precision: str) -> None:
        """Scores are computed in float32, as after export, whatever training used."""
        model = Ear(**FEATURES)
        engine = fit(model, surfaces, tmp_path, max_epochs=1, precision=precision)
        assert calibrated_by_all(model, surfaces)
        path = sorted((surfaces / "defective").iterdir())[0]
        exact = Engine(default_root_dir=tmp_path, accelerator="cpu").predict(model, data_path=path)[0]
        assert torch.equal(engine.predict(model, data_path=path)[0].pred_score, exact.pred_score)

    @pytest.mark.parametrize("precision", ["64-true", "bf16-true", "16-true"])
    def test_is_refused(self, surfaces: Path, tmp_path: Path, precision: str) -> None:
        """One error at once says what to use."""
        with pytest.raises(ValueError, match=r"--trainer\.precision must be one of 32-true.*Leave it out"):
            fit(Ear(**FEATURES), surfaces, tmp_path, max_epochs=1, precision=precision)


class TestNothingLearned:
    """A training that changes no weight is no training."""

    @pytest.mark.parametrize(
        "average", [StochasticWeightAveraging(1e-3, swa_epoch_start=1), EMAWeightAveraging()], ids=["SWA", "EMA"]
    )
    def test_averages_are_refused(self, surfaces: Path, tmp_path: Path, average: Callback) -> None:
        """They would average what is known of the training images too; the error names the callback."""
        with pytest.raises(ValueError, match=f"{type(average).__name__} averages weights"):
            fit(Ear(**FEATURES), surfaces, tmp_path, max_epochs=2, callbacks=[average])

    @pytest.mark.parametrize("trainer", [{"accumulate_grad_batches": 100}, {"limit_train_batches": 0}], ids=str)
    def test_too_few_steps_are_told(
        self, surfaces: Path, tmp_path: Path, trainer: dict, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The first step's learning rate is 0."""
        fit(Ear(**FEATURES), surfaces, tmp_path, max_epochs=1, **trainer)
        assert "Nothing was learned" in caplog.text


class TestUntrained:
    """Scores of an untrained network mean nothing."""

    @pytest.mark.parametrize("stage", ["test", "validate", "predict"])
    def test_is_refused(self, surfaces: Path, tmp_path: Path, stage: str) -> None:
        """Without a checkpoint the error names the option, as that of an export does."""
        with pytest.raises(ValueError, match="--ckpt_path"):
            getattr(Engine(default_root_dir=tmp_path, accelerator="cpu"), stage)(
                Ear(**FEATURES), datamodule=folder(surfaces)
            )

    def test_is_refused_before_images_are_read(self, tmp_path: Path) -> None:
        """The error comes although the folder has no image."""
        (tmp_path / "broken.png").write_bytes(b"not an image")
        with pytest.raises(ValueError, match="--ckpt_path"):
            Engine(default_root_dir=tmp_path, accelerator="cpu").predict(
                Ear(**FEATURES), data_path=tmp_path / "broken.png"
            )

    def test_a_checkpoint_of_no_training_is_refused(self, surfaces: Path, tmp_path: Path) -> None:
        """A file alone does not make a model trained."""
        engine = fit(Ear(**FEATURES), surfaces, tmp_path, max_epochs=0)
        engine.trainer.save_checkpoint(tmp_path / "untrained.ckpt")
        with pytest.raises(ValueError, match="not trained"):
            Engine(default_root_dir=tmp_path, accelerator="cpu").test(
                Ear(**FEATURES), datamodule=folder(surfaces), ckpt_path=tmp_path / "untrained.ckpt"
            )


class TestAttention:
    """The file of the attention's weights."""

    def test_is_missed_before_data_is_prepared(self, tmp_path: Path) -> None:
        """The error comes before a data set is prepared."""

        class Untouchable(Folder):
            def prepare_data(self) -> None:
                pytest.fail("data was prepared")

        data = Untouchable(name="none", root=tmp_path, normal_dir="good", num_workers=0)
        engine = Engine(max_epochs=1, default_root_dir=tmp_path, accelerator="cpu")
        with pytest.raises(FileNotFoundError, match="nowhere"):
            engine.fit(Ear(**FEATURES, masking="nowhere.safetensors"), datamodule=data)

    @pytest.mark.parametrize("space", [DEFAULT, "pixels"])
    def test_is_used(self, surfaces: Path, tmp_path: Path, space: str) -> None:
        """Features and mask are those of the file, and a second training does not need it again."""
        weights = {name: value + 0.01 for name, value in load_attention().state_dict().items()}
        file = tmp_path / "attention.safetensors"
        write_weights({f"attention.{name}": value for name, value in weights.items()}, file, {})
        model = Ear(**(FEATURES | {"space": space}), masking=str(file))
        fit(model, surfaces, tmp_path, max_epochs=1)
        torch.testing.assert_close(dict(model.model.space.attention.state_dict()), weights)
        file.unlink()
        fit(model, surfaces, tmp_path, max_epochs=1)
        torch.testing.assert_close(dict(model.model.space.attention.state_dict()), weights)


class TestUnusedArguments:
    """What would be ignored is refused by name."""

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            ({"masking": "none", "excised_share": 0.2}, "excised_share=0.2.*masking='none'"),
            ({"masking": "random", "excised_share": 0.2}, "excised_share=0.2.*masking='random'"),
            ({"masking": "none", "mosaic_size": 4}, "mosaic_size=4.*masking='none'"),
            ({"space": "pixels", "backbone_scale": 0.5}, "backbone_scale.*space='pixels'"),
        ],
        ids=str,
    )
    def test_is_refused(self, arguments: dict, named: str) -> None:
        """The error names the argument and what makes it useless."""
        with pytest.raises(ValueError, match=named):
            Ear(**arguments)


class TestMemory:
    """Calibration on many images."""

    @pytest.mark.skipif(sys.platform == "win32", reason="the peak is measured otherwise there")
    def test_keeps_one_copy_of_the_residuals(self) -> None:
        """Residuals of 600 images of 640 x 256 pixels take 281 MiB with the detail; two copies would be 562."""
        script = (
            "import resource, torch\n"
            "from anomalib_ear.method.calibration import AnomalyMapGenerator\n"
            "noise, detail = torch.randn(30, 192, 40, 16), torch.randn(30, 12, 160, 64)\n"
            "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
            "before = peak()\n"
            "with torch.no_grad():\n"
            "    AnomalyMapGenerator(192).fit(((noise.clone(), detail.clone()) for _ in range(20)), 1)\n"
            "print(peak() - before)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src")},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert float(done.stdout) < 540


class TestLastValidation:
    """A checkpoint is written after a validation; where the last one is missing or early, somebody says so."""

    @pytest.mark.parametrize("every", [2, 10])
    def test_the_last_epoch_is_validated_whatever_the_interval(
        self, surfaces: Path, tmp_path: Path, every: int
    ) -> None:
        """The checkpoint has the trained model's weights and scores."""
        model = Ear(**FEATURES)
        engine = fit(model, surfaces, tmp_path, max_epochs=3, check_val_every_n_epoch=every)
        restored = Ear.load_from_checkpoint(engine.best_model_path)
        assert torch.equal(scores(model), scores(restored))
        assert model.post_processor.image_threshold == restored.post_processor.image_threshold
        assert engine.trainer.check_val_every_n_epoch == every

    @pytest.mark.parametrize(
        ("trainer", "said"),
        [
            ({"limit_val_batches": 0, "max_epochs": 1}, "no threshold from good images"),
            ({"max_epochs": -1, "max_steps": 5, "check_val_every_n_epoch": 9}, "no threshold from good images"),
            (
                {"val_check_interval": 3, "check_val_every_n_epoch": None, "max_epochs": 2},
                "validation was at step 6 of 8",
            ),
        ],
        ids=["none", "too rare", "early"],
    )
    def test_what_is_missing_is_said(
        self, surfaces: Path, tmp_path: Path, trainer: dict, said: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """One line says what thresholds and checkpoint are worth."""
        fit(Ear(**FEATURES), surfaces, tmp_path, **trainer)
        assert any(said in message for message in caplog.messages), caplog.messages


class TestManyPhotographs:
    """Of photographs without number a calibration holds what fits into its memory."""

    def test_those_left_out_are_counted(
        self, surfaces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The anomaly map and the threshold are of the others, each as it is and in a copy."""
        model = Ear(**(FEATURES | {"variation": True}))
        evidence = model.model.eval().compare(torch.zeros(1, 3, *FEATURES["image_size"]))
        model.model.train()
        monkeypatch.setattr(torch_model, "CALIBRATION_VALUES", 10 * sum(kind.numel() for kind in evidence))
        fit(model, surfaces, tmp_path, max_epochs=1)
        assert sum("rest on 5 of 13 training photographs" in message for message in caplog.messages) == 1


class TestFewPhotographs:
    """Too few good photographs cannot keep the promised share of false alarms."""

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            ({}, ["rests on 16 good photographs; 19 are needed for 5 % false alarms. About one in 17 "]),
            ({"abnormal_dir": None, "mask_dir": None, "test_split_mode": "none"}, []),  # none of the 20 is for testing
            ({"val_split_mode": "same_as_test"}, []),
        ],
        ids=["too few", "enough", "defective ones too"],
    )
    def test_are_said_once_by_their_number(
        self, surfaces: Path, tmp_path: Path, data: dict, said: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Both those that are trained on and those held out count; a threshold from defects needs no such number."""
        engine = Engine(default_root_dir=tmp_path, accelerator="cpu", enable_progress_bar=False, max_epochs=2)
        engine.fit(Ear(**FEATURES), datamodule=folder(surfaces, **data))
        assert "training photographs" not in caplog.text  # none is left out
        found = [message for message in caplog.messages if "good photographs" in message]
        assert len(found) == len(said)
        assert all(part in message for part, message in zip(said, found, strict=True)), found

    def test_copies_of_training_in_validation_are_counted(
        self, surfaces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Their names are no copies' names: content tells."""
        good = tmp_path / "data" / "good"
        shutil.copytree(surfaces / "good", good)
        first, *others = sorted(good.iterdir())
        for path in others:
            shutil.copy(first, path)
        engine = Engine(default_root_dir=tmp_path, accelerator="cpu", enable_progress_bar=False, max_epochs=2)
        data = folder(tmp_path / "data", abnormal_dir=None, mask_dir=None)
        engine.fit(Ear(**FEATURES), datamodule=data)
        (said,) = [message for message in caplog.messages if "copies of some for training" in message]
        assert said.startswith(f"{len(data.val_data)} of the photographs for validation")

    def test_are_named_if_those_of_training_do_not_count(
        self, surfaces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Validation images of another kind score higher, and the threshold is theirs."""
        engine = Engine(default_root_dir=tmp_path, accelerator="cpu", enable_progress_bar=False, max_epochs=2)
        model = Ear(**FEATURES)
        engine.fit(model, datamodule=folder(surfaces, val_split_ratio=0.4, val_augmentations=GaussianNoise(sigma=0.3)))
        said = [message for message in caplog.messages if "good photographs" in message]
        assert "score higher than those for training, by more than chance" in said[0]
        assert "rests on the 6 of them alone" in said[0]
        assert "rests on 6 good photographs; 19 are needed" in said[1]
        assert model.post_processor.image_threshold == max(model.post_processor._image_threshold_metric.good_scores)

    def test_nothing_is_said_of_the_threshold_of_an_earlier_training(
        self, surfaces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A training without validation has none."""
        model = Ear(**FEATURES)
        fit(model, surfaces, tmp_path, max_epochs=1)
        caplog.clear()
        fit(model, surfaces, tmp_path, max_epochs=1, limit_val_batches=0)
        assert not [message for message in caplog.messages if "good photographs" in message]

    def test_a_validation_of_the_checkpoint_finds_the_same_threshold(self, surfaces: Path, tmp_path: Path) -> None:
        """The scores of the training images travel in the checkpoint."""
        model = Ear(**FEATURES)
        engine = fit(model, surfaces, tmp_path, max_epochs=1)
        for again, path in ((Ear.load_from_checkpoint(engine.best_model_path), None), (Ear(), engine.best_model_path)):
            Engine(default_root_dir=tmp_path, accelerator="cpu").validate(
                again, datamodule=folder(surfaces), ckpt_path=path
            )
            assert again.post_processor.image_threshold == model.post_processor.image_threshold


class TestOtherData:
    """Resuming with other photographs."""

    def test_is_said_and_the_statistics_are_of_the_new_ones(
        self, surfaces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """No image of the first data is kept."""
        engine = fit(Ear(**FEATURES), surfaces, tmp_path / "first", max_epochs=1)
        others = tmp_path / "others"
        (others / "good").mkdir(parents=True)
        for index in range(8):
            Image.new("RGB", (96, 64), (index, 0, 0)).save(others / "good" / f"{index}.png")
        data = Folder(
            name="others", root=others, normal_dir="good", train_batch_size=4, num_workers=0, val_split_mode="none",
            test_split_mode="none",
        )  # fmt: skip
        model = Ear(**FEATURES)
        again = Engine(default_root_dir=tmp_path / "again", accelerator="cpu", max_epochs=2, limit_val_batches=0)
        again.fit(model, datamodule=data, ckpt_path=engine.best_model_path)
        assert any("resumed with other data" in message for message in caplog.messages)
        assert model.model.calibration_images[:, 1:].max() == 0

    def test_photographs_that_are_gone_are_told(
        self, surfaces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Somebody took out those that were mislabelled."""
        engine = fit(Ear(**FEATURES), surfaces, tmp_path / "first", max_epochs=1)
        shutil.copytree(surfaces, tmp_path / "fewer")
        for index in range(4):
            (tmp_path / "fewer" / "good" / f"{index:03}.png").unlink()
        again = Engine(default_root_dir=tmp_path / "again", accelerator="cpu", max_epochs=2)
        again.fit(Ear(**FEATURES), datamodule=folder(tmp_path / "fewer"), ckpt_path=engine.best_model_path)
        assert "that were trained on are not among the training images" in caplog.text


def test_a_checkpoint_of_another_model_is_refused(surfaces: Path, tmp_path: Path) -> None:
    """One line says so, no list of weights."""
    torch.save({"state_dict": {"model.layer": torch.zeros(1)}, "hyper_parameters": {}, "epoch": 0, "global_step": 0,
                "pytorch-lightning_version": "2.6.0"}, tmp_path / "other.ckpt")  # fmt: skip
    engine = Engine(default_root_dir=tmp_path, accelerator="cpu")
    with pytest.raises(ValueError, match="not one of Ear"):
        engine.test(Ear(**FEATURES), datamodule=folder(surfaces), ckpt_path=tmp_path / "other.ckpt")


def test_a_single_image_of_the_least_size_is_refused(surfaces: Path, tmp_path: Path) -> None:
    """The error says what to change, in words other than batch norm's."""
    data = folder(surfaces)
    data.train_batch_size = 1
    with pytest.raises(ValueError, match="batch of one image of 64 x 64"):
        Engine(default_root_dir=tmp_path, accelerator="cpu", max_epochs=1).fit(
            Ear(image_size=(64, 64), visualizer=False), datamodule=data
        )


@pytest.mark.parametrize("size", [(0, 64), (-64, 64), (64,)], ids=str)
def test_an_impossible_size_is_refused(size: tuple[int, ...]) -> None:
    """The error names the argument."""
    with pytest.raises(ValueError, match="image_size must be two positive"):
        Ear(image_size=size)


class TestVariation:
    """How far images are varied belongs to the checkpoint."""

    def test_a_checkpoint_brings_its_own(self, surfaces: Path, tmp_path: Path) -> None:
        """A given strength is kept, what was left out has its default; another one is refused."""
        engine = fit(Ear(**FEATURES, variation={"shift": 0}), surfaces, tmp_path, max_epochs=1)
        restored = Ear.load_from_checkpoint(engine.best_model_path)
        assert restored.model.variation.strengths == DEFAULTS | {"shift": 0}
        with pytest.raises(ValueError, match="trained with variation="):
            engine.test(Ear(**FEATURES, variation=False), datamodule=folder(surfaces), ckpt_path=engine.best_model_path)

    def test_a_wrong_strength_is_named(self) -> None:
        """Before anything is read."""
        with pytest.raises(ValueError, match="rotation must be from 0 to 180, got 200"):
            Ear(variation={"rotation": 200})


@pytest.mark.parametrize(("seed", "is_other"), [(0, False), (1, True)])
@pytest.mark.parametrize("stage", ["test", "validate"])
def test_figures_of_training_images_are_said(
    surfaces: Path, tmp_path: Path, stage: str, seed: int, is_other: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Another split's, with how many there are and which setting is another; those of the same split are not."""
    fit(Ear(**TINY), surfaces, tmp_path, max_epochs=1)
    checkpoint = next(tmp_path.rglob("*.ckpt"))
    caplog.clear()
    engine = Engine(default_root_dir=tmp_path / "other", accelerator="cpu", enable_progress_bar=False)
    getattr(engine, stage)(Ear(visualizer=False), datamodule=folder(surfaces, seed=seed), ckpt_path=checkpoint)
    said = [record.getMessage() for record in caplog.records if "were trained on" in record.getMessage()]
    assert bool(said) == is_other
    assert not said or re.match(r"\d of \d+ photographs were trained on \(seed is 1, was 0\)\. Figures", said[0])


def test_a_checkpoint_without_a_threshold_says_so(
    surfaces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """To everybody who predicts with it."""
    fit(Ear(**TINY), surfaces, tmp_path, max_epochs=1, limit_val_batches=0)
    caplog.clear()
    engine = Engine(default_root_dir=tmp_path / "other", accelerator="cpu", enable_progress_bar=False)
    engine.predict(Ear(visualizer=False), data_path=surfaces / "good", ckpt_path=next(tmp_path.rglob("*.ckpt")))
    assert "no threshold from good images: parts above 0.5" in caplog.text
