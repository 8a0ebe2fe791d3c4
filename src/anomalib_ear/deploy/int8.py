# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""INT8 for deployment, without labels and without test images.

Only convolutions of several channels compute in int8. The difference between image and recovery is small, and is judged
by how it varies on defect-free images. What rounding adds to it varies too, so these statistics are taken from the
quantized network. On KolektorSDD and magnetic tiles image AUROC stays within 0.005 of float32. Thresholds are taken
anew too, from the validation images, which also tell what is lost.
"""

import copy
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import openvino
import torch
from anomalib.data import AnomalibDataModule, AnomalibDataset, ImageBatch
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_auroc

from anomalib_ear.method.model import EarModel

# Training images that give the ranges of activations, evenly spaced.
RANGE_IMAGES = 32
# Image AUROC that int8 may lose on the validation images before the user is warned.
MAX_LOSS = 0.005

# Loggers that tell of each constant of an exported graph, a thousand lines in all.
VERBOSE_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")

logger = logging.getLogger(__name__)


class CalibrationImages:
    """The training and validation images of a datamodule as the network takes them.

    As a sequence it has the training images, ``(1, 3, H, W)`` in [0, 1].

    Args:
        datamodule: Gives the images.
        pre_processor: Resizes them.

    Attributes:
        datamodule: The datamodule.
        train: Its training images.
        validated: Its validation images, if it has any.
    """

    def __init__(self, datamodule: AnomalibDataModule, pre_processor: PreProcessor) -> None:
        self._transform = cast("nn.Module", pre_processor.transform)
        # As before training, when the data take the model's resize from their trainer.
        trainer, asked = datamodule.trainer, SimpleNamespace(pre_processor=pre_processor)
        datamodule.trainer = SimpleNamespace(model=asked)  # type: ignore[assignment]
        try:
            datamodule.setup("fit")
        finally:
            datamodule.trainer = trainer
        self.datamodule = datamodule
        self.train = datamodule.train_data
        self.validated: AnomalibDataset | None = getattr(datamodule, "val_data", None)

    def __len__(self) -> int:
        return len(self.train)

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        image: Tensor = self._transform(self.train[index].image)
        return image[None].numpy()

    def validation(self) -> Iterator[ImageBatch]:
        """Yield the validation images one by one, with their labels and masks."""
        dataset = self.validated
        if dataset is None:
            return
        for index in range(len(dataset)):
            batch: ImageBatch = dataset.collate_fn([dataset[index]])
            batch.image, batch.gt_mask = self._transform(batch.image, batch.gt_mask)
            yield batch


@contextmanager
def only_warnings(*names: str, least: int = logging.WARNING) -> Iterator[None]:
    """Let loggers and those below them tell warnings and errors only, or what is of a higher level, for a while."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(max(each.level, least))
    try:
        yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


def quantize(model: openvino.Model, images: "CalibrationImages | Sequence[NDArray[np.float32]]") -> openvino.Model:
    """Let convolutions compute in int8.

    Args:
        model: Network with an input ``(N, 3, H, W)``.
        images: ``(1, 3, H, W)`` each; give the ranges of activations.
    """
    # Takes seconds, and few need it.
    import nncf  # noqa: PLC0415
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet  # noqa: PLC0415

    kinds = {operation.get_type_name() for operation in model.get_ops()}
    convolutions = [operation for operation in model.get_ops() if operation.get_type_name() == "Convolution"]
    # Those of one channel take little time. One enlarges the map, which would have steps.
    single = [each.get_friendly_name() for each in convolutions if each.input(1).get_partial_shape()[1] == 1]
    floating = nncf.IgnoredScope(names=single, types=sorted(kinds - {"Convolution"}), validate=False)
    chosen = np.linspace(0, len(images) - 1, min(RANGE_IMAGES, len(images))).astype(int)
    dataset = nncf.Dataset([images[index] for index in chosen])
    # The default, the mean over images of their extremes, would cut off defects and images under another light.
    extremes = nncf.AdvancedQuantizationParameters(
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
    )
    # Progress bars, and a line for each operation that stays in float.
    with only_warnings("nncf"), redirect_stdout(io.StringIO()):
        quantized = nncf.quantize(
            model,
            dataset,
            preset=nncf.QuantizationPreset.MIXED,  # not everything comes from a ReLU
            subset_size=len(chosen),
            ignored_scope=floating,
            advanced_parameters=extremes,
        )
    return cast("openvino.Model", quantized)


def recalibrate(
    model: EarModel, post_processor: nn.Module | None, images: CalibrationImages, size: tuple[int, int]
) -> tuple[EarModel, nn.Module | None]:
    """Copy a model and its post-processor, with the statistics and thresholds of the quantized network.

    Args:
        model: A trained model in evaluation mode.
        post_processor: Has the thresholds; they stay where there is no validation image.
        images: Give ranges, statistics and thresholds.
        size: Their height and width in pixels.
    """
    compare = _quantized_compare(model, images, size)
    copied, thresholds = copy.deepcopy(model), copy.deepcopy(post_processor)
    chosen = model.calibration_indices(len(images))
    copies = model.calibration_copies(len(chosen))
    varied = model.vary((torch.from_numpy(images[index]) for index in chosen), copies)
    scores = copied.anomaly_map.fit((compare(image.numpy()) for image in varied), copies)
    if take := getattr(thresholds, "take_training_scores", None):
        take(scores)
    exact: list[Tensor] = []
    found: list[Tensor] = []
    labels: list[Tensor] = []
    nobody: Any = None  # for hooks that take a trainer and a module, and use neither
    for batch in images.validation():
        image = cast("Tensor", batch.image)
        with torch.no_grad():
            exact.append(model(image).pred_score)
            prediction = copied.score(*compare(image.numpy()), size)
        found.append(prediction.pred_score)
        labels.append(cast("Tensor", batch.gt_label))
        if isinstance(thresholds, PostProcessor):
            thresholds.on_validation_batch_end(nobody, nobody, batch.update(**prediction._asdict()))
    if labels:
        if isinstance(thresholds, PostProcessor):
            thresholds.on_validation_epoch_end(nobody, nobody)
        _tell_loss(*(torch.cat(values) for values in (exact, found, labels)))
    return copied, thresholds


def _quantized_compare(
    model: EarModel, images: CalibrationImages, size: tuple[int, int]
) -> Callable[[NDArray[np.float32]], tuple[Tensor, Tensor]]:
    """Return what compares an image ``(1, 3, *size)`` as the quantized network does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "compare.onnx")
        network = _Compare(model).eval()
        with only_warnings(*VERBOSE_LOGGERS):
            torch.onnx.export(
                network, (torch.rand(1, 3, *size),), path, opset_version=18, external_data=False, verbose=False
            )
        quantized = quantize(openvino.convert_model(path), images)
    compiled = openvino.compile_model(quantized, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def compare(image: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        residual, detail = (torch.from_numpy(values.copy()) for values in compiled(image).to_tuple())
        return residual, detail

    return compare


def _tell_loss(exact: Tensor, found: Tensor, labels: Tensor) -> None:
    """Say what int8 loses on the validation images, if these can tell.

    Args:
        exact: Scores in float, ``(N,)``.
        found: Scores in int8, ``(N,)``.
        labels: Which images are defective, ``(N,)`` bool.
    """
    if len(labels.unique()) < 2:
        logger.info("The validation images do not tell what int8 loses: that takes good and defective ones.")
        return
    before, after = (float(binary_auroc(scores, labels.long())) for scores in (exact, found))
    level = logging.WARNING if before - after > MAX_LOSS else logging.INFO
    logger.log(level, "Image AUROC on the validation images: %.3f in float, %.3f in int8.", before, after)


class _Compare(nn.Module):
    """A model as far as residual and detail."""

    def __init__(self, model: EarModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.compare(image)
