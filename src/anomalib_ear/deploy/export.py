# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Export for deployment: ONNX, OpenVINO, torch.

An exported model notes the precision and the thresholds of its scores. Left to itself OpenVINO takes bfloat16 where the
CPU has it, and scores drift. Without its threshold a normalised score cannot be undone.
"""

import logging
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import openvino
import torch
from anomalib.data import AnomalibDataModule
from anomalib.deploy import CompressionType, ExportType
from anomalib.pre_processing import PreProcessor
from torch import Tensor, nn
from torchvision.transforms.v2 import CenterCrop, Resize

from anomalib_ear.deploy.drift import GOOD, QUANTITIES, SCORE, measure
from anomalib_ear.deploy.files import sha256
from anomalib_ear.deploy.graph import resize_first, vectorise_logarithms
from anomalib_ear.deploy.int8 import (
    VERBOSE_LOGGERS,
    CalibrationImages,
    only_warnings,
    quantize,
    recalibrate,
)
from anomalib_ear.deploy.model_file import LABEL_THRESHOLD, MASK_THRESHOLD, METADATA, NO_RESIZE, PART, WEIGHTS
from anomalib_ear.deploy.pre_processing import check_transform, has, is_only_resized, resized, without_resize
from anomalib_ear.deploy.resize import exportable_transform
from anomalib_ear.deploy.sizes import TRAINED_SIZES
from anomalib_ear.deploy.training_data import TrainingData
from anomalib_ear.method.model import EarModel

if TYPE_CHECKING:
    from anomalib.models.components.base.export_mixin import ExportMixin
    from lightning.pytorch import Trainer
else:  # the model that is mixed with has anomalib's; importing it here would register Ear, which needs this module
    ExportMixin = object

# Scores of good images that an exported model holds.
_MAX_SCORES = 300
# Why these are refused.
_OTHER_INT8 = {
    CompressionType.INT8: "would leave statistics and threshold as they are for other weights",
    CompressionType.INT8_ACQ: "chooses what to compress by the test images' labels",
}

logger = logging.getLogger(__name__)


class EarExportMixin(ExportMixin):
    """anomalib's exports, made to give the trained model's answers."""

    model: EarModel
    pre_processor: nn.Module | None
    post_processor: nn.Module | None
    training_data: TrainingData
    _trainer: "Trainer | None"
    _is_resized_in_front = False

    def to_onnx(
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        **kwargs: Any,  # noqa: ANN401  # the host's
    ) -> Path:
        """Export as anomalib does, by default as one file of opset 18, which needs no down-conversion.

        Without a resize in the pre-processing the exported model takes images of the training's size only.

        Raises:
            OSError: If it cannot be written; names it, and leaves a model that was there as it was.
            ValueError: If the model is not trained, or would see images of another size than in training.
        """
        self.insist_on_training()
        if not self._is_resized_in_front:  # by OpenVINO: another resize would be a large product by the identity
            self._export_with_antialias()
        if input_size is None and resized(getattr(self.pre_processor, "transform", None)) is None:
            height, width = self.model.calibration_images.shape[-2:]
            input_size = (height, width)
        defaults = {"opset_version": 18, "external_data": False, "verbose": False}
        path = _path(export_root, ExportType.ONNX, f"{model_file_name}.onnx")
        with _replacing(path) as folder:
            with only_warnings(*VERBOSE_LOGGERS):
                model = onnx.load(super().to_onnx(folder, model_file_name, input_size, **defaults | kwargs))
            for name, value in self._describe().items():
                model.metadata_props.add(key=f"{METADATA}.{name}", value=value)
            onnx.save(model, folder / path.name)
        _tell(path)
        return path

    def to_openvino(  # type: ignore[override]  # all that is missing is passed on
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        compression_type: CompressionType | None = None,
        datamodule: AnomalibDataModule | None = None,
        **kwargs: Any,  # noqa: ANN401  # the host's
    ) -> Path:
        """Export as anomalib does, with OpenVINO's own resize before a network of one size.

        Compressed to ``INT8_PTQ``, the convolutions compute in int8 and all else in float: the difference
        between image and recovery is small. Ranges and the statistics of that difference are taken from the
        datamodule's training images, thresholds from its validation images. anomalib would take ranges from validation
        images, and keep the statistics and thresholds of another precision.

        Raises:
            OSError: If it cannot be written; names it, and leaves a model that was there as it was.
            ValueError: If the model is not trained, for ``INT8_PTQ`` without a datamodule, with one that splits
                otherwise than the training's, or with a pre-processing that is not one resize, or for another int8.
        """
        self.insist_on_training()
        self._export_with_antialias()
        if compression_type in _OTHER_INT8:
            msg = f"{compression_type.value} {_OTHER_INT8[compression_type]}: use --compression_type INT8_PTQ."
            raise ValueError(msg)
        arguments = {"compression_type": compression_type, "datamodule": datamodule} | kwargs
        trained = self.model, self.post_processor
        path = _path(export_root, ExportType.OPENVINO, f"{model_file_name}.xml")
        with without_resize(self.pre_processor) as size:
            if compression_type == CompressionType.INT8_PTQ:
                if datamodule is None or size is None or not isinstance(self.pre_processor, PreProcessor):
                    msg = "INT8_PTQ needs --data, for its training images, and no pre-processing but a resize."
                    raise ValueError(msg)
                images = CalibrationImages(datamodule, self.pre_processor)
                self.training_data.insist_on(self._trainer, images.train, images.validated, datamodule)
                arguments["datamodule"] = images  # the host passes them on to `_compress_ov_model`
                self.model, self.post_processor = recalibrate(*trained, images, size)
            self._is_resized_in_front = size is not None
            try:
                with _replacing(path) as folder:
                    # The ONNX model in between is gone when this is done. OpenVINO before 2026.2 looks whether it is
                    # one of torch.export's, which says by a traceback that it is not.
                    with only_warnings(__name__), only_warnings("torch.export", least=logging.ERROR):
                        plain: Path = super().to_openvino(folder, model_file_name, size or input_size, **arguments)
                    model = openvino.Core().read_model(plain)
                    vectorise_logarithms(model)
                    if size is not None and (input_size is None or tuple(input_size) != tuple(size)):
                        model = resize_first(model, input_size)
                    sees_input = size is not None or resized(getattr(self.pre_processor, "transform", None)) is None
                    for name, value in self._describe(sees_input=sees_input).items():
                        model.set_rt_info(value, [METADATA, name])
                    for _ in range(2):  # the second time with the digest of what the first one wrote
                        openvino.save_model(model, folder / path.name, compress_to_fp16=False)
                        model.set_rt_info(sha256((folder / path.name).with_suffix(".bin")), [METADATA, WEIGHTS])
            finally:
                self.model, self.post_processor = trained
                self._is_resized_in_front = False
        _tell(path, path.with_suffix(".bin"))
        return path

    def _compress_ov_model(
        self,
        model: openvino.Model,
        compression_type: CompressionType | None = None,
        datamodule: AnomalibDataModule | CalibrationImages | None = None,
        *args: Any,  # noqa: ANN401  # the host's
    ) -> openvino.Model:
        """Compress as anomalib does, except for ``INT8_PTQ``, which has its images already."""
        if isinstance(datamodule, CalibrationImages):
            return quantize(model, datamodule)
        return super()._compress_ov_model(model, compression_type, datamodule, *args)

    def to_torch(self, *args: Any, **kwargs: Any) -> Path:  # noqa: ANN401  # the host's
        """Export as anomalib does.

        Raises:
            ValueError: If the model is not trained.
        """
        self.insist_on_training()
        self._export_with_antialias()
        path: Path = super().to_torch(*args, **kwargs)
        _tell(path)
        return path

    def _export_with_antialias(self) -> None:
        """Let exports resize as training does, also where the pre-processor was replaced since."""
        if isinstance(self.pre_processor, PreProcessor):
            check_transform(self.pre_processor.transform)
            self.pre_processor.export_transform = exportable_transform(self.pre_processor.transform)

    def insist_on_training(self) -> None:
        """Refuse a model whose scores would mean nothing.

        Raises:
            ValueError: If it is not trained, or its training was interrupted or its gates were changed since it was
                last calibrated.
        """
        if not self.model.anomaly_map.is_calibrated:
            msg = "this model is not trained, its scores would mean nothing: give the checkpoint with --ckpt_path."
            raise ValueError(msg)
        if not self.model.is_calibration_current:
            msg = "the training of this model was interrupted: give the last checkpoint that it wrote with --ckpt_path."
            raise ValueError(msg)
        gates, calibrated = self.model.unet.gates, tuple(self.model.calibrated_gates.tolist())
        if gates != calibrated:
            msg = (
                f"this model has the gates {gates} and is calibrated for {calibrated}: call its `model.calibrate()`, "
                "or load the checkpoint with skip_gates."
            )
            raise ValueError(msg)

    def _describe(self, *, sees_input: bool = True) -> dict[str, str]:
        """Return the metadata of the exported model.

        Args:
            sees_input: Whether the network sees what the line has of a photograph, as it is or resized by the line.
        """
        images = self.model.calibration_images
        if not (sees_input and is_only_resized(self.pre_processor)):
            images = images[:0]  # the line could only compare other pictures with them
        noted = describe(self.post_processor, images)
        if self.training_data.sizes is not None:
            noted[TRAINED_SIZES] = " ".join(f"{value:.6g}" for value in self.training_data.sizes)
        if not has(self.pre_processor, Resize):
            noted[NO_RESIZE] = "true"
        if has(self.pre_processor, CenterCrop):
            noted[PART] = "true"
        return noted


def _path(export_root: Path | str, kind: ExportType, name: str) -> Path:
    """Return where the host writes an export."""
    return Path(export_root, "weights", kind.value, name)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Write a model apart, and only when it is whole in the place of the one that is there, which may be in use.

    Args:
        path: The model's file.

    Yields:
        Folder on the same disk. In the end its files go where the path is, that of the path's name last; what is in
        its subfolders is gone.

    Raises:
        OSError: If the model cannot be written; names it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.part") as folder:
            yield Path(folder)
            files = [file for file in Path(folder).iterdir() if file.is_file()]
            for file in sorted(files, key=lambda file: file.name == path.name):
                file.replace(path.with_name(file.name))
    except (OSError, RuntimeError) as error:
        # Of a full disk Python says what, but not where, and OpenVINO neither.
        is_system = error.strerror is not None if isinstance(error, OSError) else "iostream" in str(error)
        if not is_system or getattr(error, "filename", None) is not None:
            raise
        msg = f"cannot write {path} ({error}): is the disk full?"
        raise OSError(msg) from error


def _tell(*files: Path) -> None:
    """Say what was written, where, and how large it is."""
    sizes = (f"{file.resolve()} ({file.stat().st_size / 1e6:.1f} MB)" for file in files)
    logger.info("Wrote %s.", " and ".join(sizes))


def describe(post_processor: nn.Module | None, good_images: Tensor) -> dict[str, str]:
    """Return the metadata of a model.

    Args:
        post_processor: Ear's, with the thresholds of the validation data, NaN where there were none, and what good
            images score; of another one, or without normalisation, only the thresholds of labels and masks are noted.
        good_images: Some of the training images, ``(K, 3, H, W)``, uint8, from which the line tells whether light or
            camera have changed.
    """
    # Validation and test run in float32 on every machine; only the U-Net's training steps do not.
    metadata = {"precision": "f32"}
    # Of Ear's own normalisation alone: by its thresholds the line undoes it.
    own = hasattr(post_processor, "good_scores") and getattr(post_processor, "enable_normalization", False)
    for kind in ("image", "pixel") if own else ():
        threshold = getattr(post_processor, f"{kind}_threshold")
        if not threshold.isnan():
            metadata[f"{kind}_threshold"] = repr(float(threshold))
    # Another sensitivity, or scores as they are: then the line's 0.5 is not what anomalib labels by.
    for name, kind in ((LABEL_THRESHOLD, "image"), (MASK_THRESHOLD, "pixel")):
        threshold = float(getattr(post_processor, f"normalized_{kind}_threshold", torch.tensor(0.5)))
        if not (math.isnan(threshold) or math.isclose(threshold, 0.5, abs_tol=1e-6)):
            metadata[name] = repr(threshold)
    good: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    # Each once: of fewer photographs than are kept, some are kept again in later epochs, and know no more.
    for image in good_images.cpu().unique(dim=0).numpy():
        for name, value in measure(image[None] / np.float32(255)).items():
            good[name].append(value)
    scores = getattr(post_processor, "good_scores", torch.empty(0)).sort().values
    chosen = torch.linspace(0, max(len(scores) - 1, 0), min(len(scores), _MAX_SCORES)).round().long()
    good[SCORE] = scores[chosen.to(scores.device)].tolist()
    noted = {GOOD + name: " ".join(f"{value:.6g}" for value in values) for name, values in good.items() if values}
    return metadata | noted
