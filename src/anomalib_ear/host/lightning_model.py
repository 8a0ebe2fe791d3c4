# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""EAR (Excision And Recovery) as an anomalib model.

Park et al., "Excision and Recovery: Enhancing Surface Anomaly Detection with Attention-based Single Deterministic
Masking" (arXiv 2310.04010).
"""

import copy
import inspect
import logging
from collections.abc import Iterator, Sequence, Sized
from pathlib import Path
from typing import Any, cast

import torch
from anomalib import LearningType
from anomalib.data import ImageBatch
from anomalib.metrics import AUROC, Evaluator, F1Score
from anomalib.models.components import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Subset
from torchvision.transforms.v2 import Resize

from anomalib_ear.deploy.export import EarExportMixin
from anomalib_ear.deploy.training_data import TrainingData
from anomalib_ear.host import metrics
from anomalib_ear.host.arguments import check_arguments, refuse_unused
from anomalib_ear.host.checkpoints import (
    CHANGEABLE,
    PROCESSORS,
    describe_weights,
    given_arguments,
    note,
    plain,
    refuse_other,
    refuse_other_processors,
    refuse_other_weights,
    trained_arguments,
)
from anomalib_ear.host.checks import check_datamodule
from anomalib_ear.host.distributed import compute_once, evaluate_once
from anomalib_ear.host.post_processing import EarPostProcessor, forget_thresholds
from anomalib_ear.host.registration import share_run_folder
from anomalib_ear.host.report import ReportCallback
from anomalib_ear.host.schedule import Start, limit_epochs, one_cycle, progress
from anomalib_ear.host.sizes import check_photographs, trained_sizes
from anomalib_ear.host.training import (
    TrainingCallback,
    check_trainer,
    do_without_validation,
    insist_on_good,
    may_be_kept,
    refuse_finders,
)
from anomalib_ear.host.visualizer import EarVisualizer
from anomalib_ear.method.attention import DINO, load_attention
from anomalib_ear.method.model import EarModel, build_model
from anomalib_ear.method.spaces import DEFAULT
from anomalib_ear.method.variation import Strengths

__all__ = ["Ear"]

logger = logging.getLogger(__name__)

# Arguments that the network is built from.
_METHOD = ("space", "backbone_scale", "masking", "excised_share", "mosaic_size", "channels", "variation")


class Ear(EarExportMixin, AnomalibModule):  # type: ignore[misc]  # anomalib's to_onnx is not Lightning's either
    """EAR: excise what attention marks, recover it from its surroundings, and score the difference.

    The defaults are the method. Parts switched off give its baselines, all with the same network: with
    ``masking="none"`` a plain U-Net (every gate open), an autoencoder (every gate closed) and gates without masking;
    with every gate open masking without gates, and RIAD (``masking="random"``).

    A checkpoint brings its own settings: in ``test``, ``validate``, ``predict`` and ``export`` none of the training
    command's arguments needs repeating, and only ``skip_gates`` can be changed.

    Args:
        space: What is recovered and compared: the features at strides 4, 8 and 16 of ``"tf_efficientnet_lite0"``,
            pre-trained on ImageNet, which pip installs; of another convolutional network of timm's, such as
            ``"resnet18"``, which the first training downloads; or the ``"pixels"`` themselves, as the paper has it.
        backbone_scale: Share of the image's height and width at which the network looks at it: 0.5, 0.75 or 1. Its
            time grows with the square.
        image_size: Height and width in pixels to which images are resized. Keep the aspect ratio of your images.
            Defaults to 256 x 256. Not together with ``pre_processor``.
        skip_gates: One value per skip connection of the U-Net, shallowest first: whether it is on at inference.
            Training recovers each image twice, with all on and with some off. Can be changed on a trained model.
            Defaults to the checkpoint's, or to the shallowest one off.
        masking: Whose attention makes the method's single deterministic mask: ``"mnist"`` for the network that comes
            with the package; ``"dino"`` or ``"dino8"`` for DINO, a transformer pre-trained on ImageNet without labels,
            with patches of 16 or 8 pixels (slower), which the first training downloads from Hugging Face; or the path
            of a safetensors file written by ``python -m anomalib_ear.pretraining``. For comparison ``"random"`` for
            RIAD's random disjoint masks (12 passes per image, and three times as long to train), or ``"none"``.
            Trained models carry the attention's weights.
        excised_share: Share of the image's pixels to excise, in (0, 1).
        mosaic_size: Side of the mosaic blocks in an excised region, each the mean of what was there. Counted in pixels,
            or for features in squares of 16 x 16 pixels. Defaults to none: the region is empty.
        channels: Channels of the U-Net per level, shallowest first. With ``k`` levels images must have at least
            ``2 ** k`` pixels per side, or ``2 ** (k + 3)`` for features. Defaults to 16, 32, 64, 96, 128 for pixels
            and to 64, 96, 128 for features.
        variation: How far the images of training and calibration are varied, so that a change of light, colour, noise,
            focus, place or compression up to that is no defect: ``brightness`` (relative change, 0.3), ``colour``
            (relative change of each channel, 0.06), ``noise`` (standard deviation as a share of the range from black
            to white, 0.025), ``blur`` (standard deviation in pixels of the resized image, 3), ``shift`` (share of the
            image's height and width, 0.08), ``rotation`` (degrees to either side, 8) and ``jpeg`` (what the quality of
            compression loses of 100, 75). What is left out has its default, 0 switches it off. ``True`` for all
            defaults, ``False`` for none.
        learning_rate: Peak learning rate of AdamW's one-cycle schedule.
        seed: Seed of the weights and of the order of the training images; ``None`` for a new one each time. Splits
            are the datamodule's (``--data.seed``).
        max_epochs: Number of epochs, overriding the trainer's. Only for tools that cannot set the trainer's, such as
            ``anomalib benchmark``; else use ``--trainer.max_epochs``. Without either 20, not Lightning's 1000.
        pre_processor: ``True`` for a resize to ``image_size``, ``False`` for none, or one of your own: one ``Resize``,
            which a ``CenterCrop`` may follow if it is to a height and a width. Both may be with ``Grayscale(3)``.
        post_processor: ``True`` for one that keeps the order of all scores, ``False`` for none, or one of your own.
        evaluator: ``True`` for anomalib's default metrics, ``False`` for none, or one of your own.
        visualizer: ``True`` for pictures of each step of the method, ``False`` for none, or one of your own.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If an argument is outside its range or would change nothing, or a checkpoint was trained with other
            arguments; when training starts, if a file of weights does not fit.
        FileNotFoundError: When training starts, if weights of the backbone or of the attention are missing.
    """

    model: EarModel

    def __init__(
        self,
        space: str = DEFAULT,
        backbone_scale: float = 0.75,
        image_size: tuple[int, int] | None = None,
        skip_gates: Sequence[bool] | None = None,
        masking: str = "mnist",
        excised_share: float = 0.1,
        mosaic_size: int | None = None,
        channels: Sequence[int] | None = None,
        variation: bool | Strengths = True,
        learning_rate: float = 2e-3,
        seed: int | None = 0,
        max_epochs: int | None = None,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        if image_size is not None and pre_processor is not True:
            msg = f"image_size={image_size} and pre_processor exclude each other: give the size to the latter."
            raise ValueError(msg)
        check_arguments(locals())
        refuse_unused(locals(), inspect.signature(Ear).parameters)
        given = given_arguments(locals(), inspect.signature(Ear).parameters)
        super().__init__(
            pre_processor=self.configure_pre_processor(image_size) if pre_processor is True else pre_processor,
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        self._given = given
        self.training_data = TrainingData()
        self._export_with_antialias()
        self._has_weights = False
        self._is_resumed = False
        self.is_calibration_full = True
        self._first_epoch = 0
        self.start = Start()
        self._seeded_epoch: int | None = None
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self.model = self._build()
        # Another number may suit the checkpoint that is loaded next; both configure_optimizers and on_load_checkpoint
        # check it.
        if skip_gates is None or len(skip_gates) == len(self.model.unet.gates):
            self._set_gates()
        share_run_folder()

    def _build(self) -> EarModel:
        """Build the network that the hyperparameters ask for; pre-trained weights are loaded when training begins."""
        return build_model(**{name: self.hparams[name] for name in _METHOD})

    def _set_gates(self) -> None:
        gates = self.hparams["skip_gates"]
        self.model.unet.gates = (False, *self.model.unet.gates[1:]) if gates is None else gates

    @AnomalibModule.trainer.setter  # type: ignore[attr-defined,untyped-decorator]
    def trainer(self, trainer: Trainer | None) -> None:
        """Check what can be checked before data is prepared, and set the number of epochs if there is no limit.

        Later hooks come too late: Lightning replaces the missing number of epochs by one of its own.

        Raises:
            FileNotFoundError: If the file of the attention's weights is missing.
            ValueError: For a precision that would convert the network, a callback that would average its weights, or a
                file of other weights.
        """
        AnomalibModule.trainer.fset(self, trainer)  # type: ignore[attr-defined]
        if trainer is None:
            return
        check_trainer(trainer)
        if trainer.state.fn != TrainerFn.FITTING:
            return
        if limit_epochs(trainer):
            logger.info("Training for %d epochs; --trainer.max_epochs sets another number.", trainer.max_epochs)
        self._is_resumed, self._first_epoch, self._seeded_epoch = False, trainer.current_epoch, None
        self.start = Start(trainer.global_step)
        attention = self.model.space.attention_name
        if not self._has_weights and attention is not None and attention not in DINO:
            load_attention(attention)

    def configure_callbacks(self) -> Sequence[Callback]:
        """Add what accompanies the training."""
        return [*cast("Sequence[Callback]", super().configure_callbacks()), TrainingCallback(), ReportCallback()]

    def setup(self, stage: str) -> None:
        """Check the data before any of it is worked on."""
        transform = getattr(self.pre_processor, "transform", None) if stage == "fit" else None
        datamodule = getattr(self.trainer, "datamodule", None)
        do_without_validation(datamodule, is_asked=stage == "validate")
        check_datamodule(datamodule, transform)
        if stage == "fit":
            self.train()  # somebody may have put it into evaluation mode
            self.training_data.sizes = trained_sizes(datamodule, transform)
            check_photographs(getattr(datamodule, "val_data", None), self.training_data.sizes)
        evaluate_once(self.trainer)

    def training_step(self, batch: ImageBatch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:  # noqa: ANN401  # the host's
        """Recover a batch of defect-free images and compare.

        Raises:
            ValueError: If one is labelled defective.
        """
        del args, kwargs
        insist_on_good(batch)
        image = cast("Tensor", batch.image)
        self.model.keep_for_calibration(image)
        recovery = self.model(image)
        compare = self.model.space.loss
        loss = compare(recovery.recovered, recovery.target) + compare(recovery.gated, recovery.target)
        self.log("train_loss", loss.detach(), on_epoch=True, prog_bar=True, batch_size=len(image))
        return {"loss": loss}

    def validation_step(self, batch: ImageBatch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:  # noqa: ANN401  # the host's
        """Score a batch."""
        del args, kwargs
        output: STEP_OUTPUT = batch.update(**self.model(batch.image)._asdict())
        return output

    def on_train_epoch_start(self) -> None:
        """Seed each epoch by its number, so that a resumed training goes on like an uninterrupted one."""
        self._seed(self.current_epoch)

    def _seed(self, epoch: int) -> None:
        """Seed once per epoch, before the order of its images is drawn."""
        if self.hparams["seed"] is not None and epoch != self._seeded_epoch:
            torch.manual_seed(self.hparams["seed"] + epoch)
            self._seeded_epoch = epoch

    def begin(self) -> None:
        """Forget earlier training images, and take over the learning rate that was found or given since."""
        other = self.training_data.changes(self.trainer) if self._is_resumed else ""
        if other:
            logger.warning("Training is resumed with other data: %s. The statistics are those of the new data.", other)
        if other or not self._is_resumed:
            self.model.forget()
            if isinstance(self.post_processor, PostProcessor):
                forget_thresholds(self.post_processor)
        schedule = cast("LambdaLR", self.lr_schedulers())
        schedule.base_lrs = [self.hparams["learning_rate"]]
        schedule.optimizer.param_groups[0]["lr"] = schedule.base_lrs[0] * schedule.lr_lambdas[0](schedule.last_epoch)

    def calibrate(self, *, full: bool = True) -> bool:
        """Calibrate by all training images, and tell whether it was needed.

        The order of the training images and the skips that are off do not depend on how often this is done. Thresholds
        of an earlier validation are forgotten: they are of scores by other statistics.

        Args:
            full: Whether by all copies of each image. Else it comes twice at most: copies take time.
        """
        if self.model.is_calibration_current:
            return False
        images = self._calibration_images()
        wanted = self.model.calibration_copies(len(images))
        copies = wanted if full else min(wanted, 2)
        self.is_calibration_full = copies == wanted
        with torch.random.fork_rng(devices=[]):
            scores = compute_once(
                self.trainer, self.model, lambda: self.model.calibrate(self._batches(images), copies)
            ).to(self.device)
        if isinstance(self.post_processor, PostProcessor):
            forget_thresholds(self.post_processor)
        if isinstance(self.post_processor, EarPostProcessor):
            self.post_processor.take_training_scores(scores)
        return True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Calibrate what is saved; the weights in the checkpoint were collected before this is called."""
        super().on_save_checkpoint(checkpoint)
        note(self.post_processor, checkpoint)
        self.training_data.note(self._trainer)
        self.training_data.save(checkpoint)
        if self.calibrate(full=may_be_kept(self.trainer) or not self.trainer.is_last_batch):
            checkpoint["state_dict"] = self.trainer.strategy.lightning_module_state_dict()

    def _calibration_images(self) -> "Subset[Any]":
        """Return the training images, evenly spaced where there are too many."""
        dataset = cast("DataLoader[Any]", self.trainer.train_dataloader).dataset
        return Subset(dataset, self.model.calibration_indices(len(cast("Sized", dataset))))

    def _batches(self, images: "Subset[Any]") -> Iterator[Tensor]:
        """Yield images in batches, as training sees them."""
        loader = cast("DataLoader[Any]", self.trainer.train_dataloader)
        transform = self.pre_processor.transform if isinstance(self.pre_processor, PreProcessor) else None
        for batch in DataLoader(
            images, loader.batch_size or 1, num_workers=loader.num_workers, collate_fn=loader.collate_fn
        ):
            insist_on_good(batch)  # a training of few batches may not have met it
            image = batch.image.to(self.device)
            yield transform(image) if transform else image

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Become the model that the checkpoint was made from, except for the gates that were given here.

        Raises:
            ValueError: If this model was built with other arguments than the checkpoint's, or a training that is to go
                on has a finder.
        """
        if not any(name.startswith("model.unet.") for name in checkpoint["state_dict"]):
            msg = "this checkpoint is not one of Ear: give the model's own name with --model."
            raise ValueError(msg)
        processors = {name: getattr(self, name) for name in PROCESSORS}
        refuse_other(self._given, self.hparams, processors, checkpoint)
        if self._trainer is not None:
            refuse_other_processors(processors, checkpoint)
        super().on_load_checkpoint(checkpoint)
        is_fitting = self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING
        self.training_data.load(checkpoint, is_fitting=is_fitting)
        self._export_with_antialias()
        before = self._architecture()
        self._adopt(trained_arguments(checkpoint))
        if self._architecture() != before:  # else an optimizer may hold the parameters already
            self.model = self._build().to(self.device)
        self._set_gates()
        trained = tuple(checkpoint["state_dict"]["model.calibrated_gates"].tolist())
        if trained != self.model.unet.gates and not is_fitting:
            logger.warning(
                "With other skip_gates than in training the anomaly map is calibrated anew, by %d of the training "
                "images. The threshold stays that of training, which more or fewer good parts may exceed now: judge "
                "it by good photographs, or train with these gates.",
                len(checkpoint["state_dict"]["model.calibration_images"]),
            )
        self._has_weights = True
        self._is_resumed = checkpoint["global_step"] > 0  # not what a callback saved before its trials
        self._first_epoch, self._seeded_epoch = checkpoint["epoch"] + self._is_resumed, None
        if is_fitting:
            refuse_finders(self.trainer)
            self.start = Start(checkpoint["global_step"])
        datamodule = getattr(self._trainer, "datamodule", None)
        if datamodule is not None:
            # It took over the resize of the model that the command line built, before the checkpoint was read.
            datamodule.setup(self.trainer.state.fn)

    def get_extra_state(self) -> Tensor:
        """Return the arguments that the weights depend on and do not show."""
        return describe_weights(self.hparams)

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse weights that were loaded by hand, without their arguments.

        Raises:
            ValueError: If this model was built with other arguments than theirs.
        """
        refuse_other_weights(self.hparams, state)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:  # noqa: ANN401
        state_dict.setdefault(prefix + "_extra_state", self.get_extra_state())  # older checkpoints have none
        super()._load_from_state_dict(state_dict, prefix, *args)

    def rebuilt_from(self, path: Path | str) -> "Ear":
        """Load a checkpoint as a model of its own, with the arguments that were given here.

        Raises:
            ValueError: If this model was built with other arguments than the checkpoint's.
        """
        given = {name: self.hparams[name] for name in self._given & self.hparams.keys()}
        given |= {name: copy.deepcopy(getattr(self, name)) or False for name in self._given.intersection(PROCESSORS)}
        if "pre_processor" in given:
            given["image_size"] = None  # and not the checkpoint's, which excludes it
        return cast("Ear", type(self).load_from_checkpoint(path, **given))

    def _adopt(self, trained: dict[str, Any]) -> None:
        """Take over the hyperparameters of a checkpoint, and say which: one may have been meant by its default."""
        taken = {  # not the processors, which have their own configuration
            name: trained[name]
            for name, own in self.hparams.items()
            if name in trained and name not in self._given & CHANGEABLE and plain(trained[name]) != plain(own)
        }
        self.hparams.update(taken)
        if taken:
            logger.info("From the checkpoint: %s.", ", ".join(f"{name}={value}" for name, value in taken.items()))

    def _architecture(self) -> dict[str, Any]:
        """Return the hyperparameters that decide the network."""
        return {name: plain(value) for name, value in self.hparams.items() if name not in CHANGEABLE}

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """Settings of the trainer. They override the user's, so they are few."""
        arguments: dict[str, Any] = {"num_sanity_val_steps": 0}
        if self.hparams["max_epochs"] is not None:
            arguments["max_epochs"] = self.hparams["max_epochs"]
        return arguments

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, whose learning rate rises over the first tenth of training and falls to 0 as a cosine.

        Weights are loaded here: a checkpoint to resume from has been read, and no callback has trained yet. The
        attention stays in training mode, which changes nothing in it: Lightning warns of modules in the other one.
        """
        self._set_gates()
        self._seed(self._first_epoch)  # the schedule's first step draws the first epoch's order
        optimizer = torch.optim.AdamW(self.model.unet.parameters(), lr=self.hparams["learning_rate"], weight_decay=1e-4)
        # Asked anew at each step, since a callback may change the number of steps.
        schedule = LambdaLR(optimizer, lambda step: one_cycle(progress(self.trainer, step, self.start), step))
        if not self._has_weights:
            self.model.space.load_pretrained()
            self._has_weights = True
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @property
    def learning_type(self) -> LearningType:
        """Learns from defect-free images only."""
        return LearningType.ONE_CLASS

    @staticmethod
    def configure_pre_processor(image_size: tuple[int, int] | None = None) -> PreProcessor:
        """Resize only: the model standardises by the statistics of the training images.

        Args:
            image_size: Height and width in pixels. Defaults to 256 x 256.
        """
        return PreProcessor(transform=Resize(image_size or (256, 256), antialias=True))

    def configure_post_processor(self) -> EarPostProcessor:
        """Thresholds from validation data, normalised scores without ties."""
        return EarPostProcessor()

    @staticmethod
    def configure_evaluator() -> Evaluator:
        """The host's default metrics, those of pixels in memory that does not grow with the number of images."""
        return metrics.Evaluator(
            test_metrics=[
                AUROC(fields=["pred_score", "gt_label"], prefix="image_"),
                F1Score(fields=["pred_label", "gt_label"], prefix="image_"),
                metrics.AUROC(fields=["anomaly_map", "gt_mask"], prefix="pixel_", strict=False),
                F1Score(fields=["pred_mask", "gt_mask"], prefix="pixel_", strict=False),
            ],
        )

    @classmethod
    def configure_visualizer(cls) -> EarVisualizer:
        """Pictures of each step of the method."""
        return EarVisualizer()
