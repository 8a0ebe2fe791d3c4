# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""An exported model where it is used: neither torch nor anomalib, only openvino, numpy and pillow."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import openvino
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from concurrent.futures import Future

# Section of an exported model's metadata.
METADATA = "anomalib_ear"
# Bytes in which a model's first tag stands, after a declaration and maybe a comment.
_BEGINNING = 4096


class DeployedModel:
    """An exported model, compiled.

    Args:
        path: OpenVINO model (``.xml``).
        hint: What to compile for.
        precision: Precision of the arithmetic; ``None`` for the one that scores and thresholds were made with.

    Attributes:
        num_requests: How many photographs it works on at a time.
        size: Height and width in pixels of what it looks at; ``None`` if it takes photographs of any size as they are.

    Raises:
        FileNotFoundError: If there is no such file, or its weights are missing.
        ValueError: If it is not an anomaly model.
    """

    def __init__(self, path: Path, hint: Literal["latency", "throughput"], precision: str | None = None) -> None:
        model = _read(path)
        self.threshold = float(_metadata(model, "image_threshold") or "nan")
        _take_out_resize(model)
        shape = model.input(0).partial_shape
        shape[0] = 1
        self.size = (shape[2].get_length(), shape[3].get_length()) if shape.is_static else None
        # Left to itself OpenVINO takes bfloat16 where there is AMX, and scores drift between machines.
        precision = precision or _metadata(model, "precision") or "f32"
        configuration = {"PERFORMANCE_HINT": hint.upper(), "INFERENCE_PRECISION_HINT": precision}
        with _one_line(f"{path} cannot be compiled"):
            model.reshape(shape)
            self._compiled = openvino.Core().compile_model(model, "CPU", configuration)
        computed = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if computed != precision:
            msg = f"this CPU computes {computed} where {precision} is asked for: give --precision {computed}."
            raise ValueError(msg)
        self._queue = openvino.AsyncInferQueue(self._compiled)
        self._queue.set_callback(self._done)
        self._lock = Lock()
        self.num_requests = len(self._queue)

    @staticmethod
    def digest(path: Path) -> str:
        """Return the SHA-256 of a model's two files."""
        return hashlib.sha256(path.read_bytes() + path.with_suffix(".bin").read_bytes()).hexdigest()

    def prepare(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Resize a photograph as training does, with antialias and without rounding.

        Pillow takes a sixth of the time of an exported resize, and the decoding threads do it while others infer.

        Args:
            pixels: ``(H, W)`` or ``(H, W, 3)``, as ``read_image`` gives them.

        Returns:
            ``(1, 3, *size)`` in [0, 1].
        """
        if pixels.dtype == np.uint8:  # Pillow is four times as fast as NumPy at taking colours apart
            bands = iter(Image.fromarray(pixels).split())
        else:
            bands = (Image.fromarray(band.astype(np.float32)) for band in np.moveaxis(np.atleast_3d(pixels), -1, 0))
        # One after the other: in floating point a band takes four times its memory.
        planes = np.stack([np.asarray(self._resized(band.convert("F"))) for band in bands])
        white = 1 if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max
        return np.repeat(planes[None] / np.float32(white), 3 // len(planes), axis=1)

    def _resized(self, band: Image.Image) -> Image.Image:
        return band if self.size is None else band.resize(self.size[::-1], Image.Resampling.BILINEAR)

    def start(self, image: NDArray[np.float32], result: "Future[dict[str, NDArray[np.float32]]]") -> None:
        """Start inference; waits while every request is busy. May be called from any thread.

        Args:
            image: ``(1, 3, H, W)`` in [0, 1].
            result: Gets ``pred_score`` and ``anomaly_map`` when they are there.
        """
        with self._lock:  # two threads could be given the same idle request
            self._queue.start_async({0: image}, result)

    def wait(self) -> None:
        """Wait until every request is done, its callback too: a process must not end while one returns."""
        self._queue.wait_all()

    @staticmethod
    def _done(request: openvino.InferRequest, result: "Future[dict[str, NDArray[np.float32]]]") -> None:
        # Copies, because the request's memory is used again at once.
        outputs = {name: request.get_tensor(name).data.copy() for name in ("pred_score", "anomaly_map")}
        if all(np.isfinite(output).all() for output in outputs.values()):
            result.set_result(outputs)
        else:  # no comparison with a threshold holds for it, and so it would be good
            result.set_exception(ValueError("the model's score is not finite: is its .bin the one exported with it?"))

    def raw(self, normalised: float) -> float | None:
        """Undo the normalisation, which divides a score's odds by the threshold's."""
        if np.isnan(self.threshold):
            return None
        above, below = normalised * self.threshold, (1 - normalised) * (1 - self.threshold)
        return above / (above + below)


def _read(path: Path) -> openvino.Model:
    """Read an anomaly model; see ``DeployedModel`` for what is raised."""
    if path.is_file():
        # Left to guess the format OpenVINO prints what TensorFlow's reader thinks of it.
        is_model = path.suffix.lower() == ".xml" and b"<net" in path.read_bytes()[:_BEGINNING]
        if not is_model:
            msg = f"{path} is no OpenVINO model: give the .xml that `anomalib export --export_type openvino` writes."
            raise ValueError(msg)
    for file in (path, path.with_suffix(".bin")):
        if not file.is_file():
            msg = f"no file {file}: a model is two files, .xml and .bin, as `anomalib export` writes them."
            raise FileNotFoundError(msg)
    with _one_line(f"{path} or its .bin is damaged"):
        model = openvino.Core().read_model(path)
    names = {name for output in model.outputs for name in output.get_names()}
    if not {"pred_score", "anomaly_map"} <= names:
        msg = f"{path} has outputs {', '.join(sorted(names))}, an anomaly model has pred_score and anomaly_map."
        raise ValueError(msg)
    shapes = [str(item.partial_shape) for item in model.inputs]
    if len(shapes) != 1 or not model.input(0).partial_shape.compatible(openvino.PartialShape([-1, 3, -1, -1])):
        msg = f"{path} has inputs of shape {', '.join(shapes)}, an anomaly model has one of [N,3,H,W]."
        raise ValueError(msg)
    return model


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Turn an error of OpenVINO's into one line; what it says last is the reason."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        msg = f"{what}: {reason}"
        raise ValueError(msg) from error


def _metadata(model: openvino.Model, name: str) -> str | None:
    """Return what the export noted, ``None`` for models of others."""
    return model.get_rt_info([METADATA, name]).astype(str) if model.has_rt_info([METADATA, name]) else None


def _take_out_resize(model: openvino.Model) -> None:
    """Give a model that begins with Ear's resize an input of the size behind it."""
    parameter = model.get_parameters()[0]
    first = [consumer.get_node() for consumer in parameter.output(0).get_target_inputs()]
    if len(first) == 1 and first[0].get_attributes().get("mode") == "bilinear_pillow":
        parameter.set_partial_shape(first[0].output(0).partial_shape)
        first[0].output(0).replace(parameter.output(0))
        model.validate_nodes_and_infer_types()
