# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Eight bits for deployment, without labels and without test images.

Only convolutions compute with eight bits. The difference between image and recovery is small, and is judged by how it
varies on defect-free images: what eight bits add to it varies too, so these statistics are taken from the quantised
network. What that is worth is in benchmarks/studies.md, section 11.
"""

import copy
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
import openvino
import torch
from anomalib.data import AnomalibDataModule
from anomalib.pre_processing import PreProcessor
from numpy.typing import NDArray
from torch import Tensor, nn

from anomalib_ear.torch_model import EarModel

# Training images that give the ranges of activations, evenly spaced.
RANGE_IMAGES = 32


class TrainingImages:
    """The training images of a datamodule as the network takes them.

    Args:
        datamodule: Has them.
        pre_processor: Resizes them.
    """

    def __init__(self, datamodule: AnomalibDataModule, pre_processor: PreProcessor) -> None:
        datamodule.setup("fit")
        self._dataset = datamodule.train_data
        self._transform = cast("nn.Module", pre_processor.transform)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """Return an image, ``(1, 3, H, W)`` in [0, 1]."""
        image: Tensor = self._transform(self._dataset[index].image)
        return image[None].numpy()


def quantise(model: openvino.Model, images: TrainingImages) -> openvino.Model:
    """Let convolutions compute with eight bits.

    Args:
        model: Network with an input ``(N, 3, H, W)``.
        images: Give the ranges of activations.
    """
    # Takes seconds, and few need it.
    import nncf  # noqa: PLC0415
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet  # noqa: PLC0415

    kinds = {operation.get_type_name() for operation in model.get_ops()}
    floating = nncf.IgnoredScope(types=sorted(kinds - {"Convolution"}), validate=False)
    chosen = np.linspace(0, len(images) - 1, min(RANGE_IMAGES, len(images))).astype(int)
    dataset = nncf.Dataset([images[index] for index in chosen])
    # By default the mean over images of their extremes: defects, and images under another light, would be cut off.
    extremes = nncf.AdvancedQuantizationParameters(
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
    )
    quantised = nncf.quantize(
        model,
        dataset,
        preset=nncf.QuantizationPreset.MIXED,  # not everything comes from a ReLU
        subset_size=len(chosen),
        ignored_scope=floating,
        advanced_parameters=extremes,
    )
    return cast("openvino.Model", quantised)


@contextmanager
def statistics_of_quantised(model: EarModel, images: TrainingImages, size: tuple[int, int]) -> Iterator[None]:
    """Give a model's anomaly map the statistics of the quantised network's residuals, for a while.

    Args:
        model: A trained model.
        images: Give ranges and statistics.
        size: Their height and width in pixels.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "residual.onnx")
        network = _Residual(model).eval()
        torch.onnx.export(
            network, (torch.rand(1, 3, *size),), path, opset_version=18, external_data=False, verbose=False
        )
        quantised = quantise(openvino.convert_model(path), images)
    compiled = openvino.compile_model(quantised, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    chosen = model.calibration_indices(len(images))
    residuals = [torch.from_numpy(compiled(images[index])[0].copy()).half() for index in chosen]
    trained = copy.deepcopy(model.anomaly_map)
    model.anomaly_map.calibrate(torch.cat(residuals))
    try:
        yield
    finally:
        model.anomaly_map = trained


class _Residual(nn.Module):
    """A model as far as the residual."""

    def __init__(self, model: EarModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        return self.model.residual(image)
