# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""An exported model where it is used: neither torch nor anomalib, only openvino, numpy and pillow."""

import logging
import math
import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, TypeAlias

import numpy as np
import openvino
from numpy.typing import NDArray
from PIL import Image

from anomalib_ear.deploy.drift import GOOD, QUANTITIES, SCORE, doubt_of_light
from anomalib_ear.deploy.graph import take_out_resize
from anomalib_ear.deploy.model_file import (
    LABEL_THRESHOLD,
    MASK_THRESHOLD,
    NO_RESIZE,
    PART,
    metadata,
    numbers,
    one_line,
    read_model,
)
from anomalib_ear.deploy.sizes import TRAINED_SIZES, TrainedSizes, doubt
from anomalib_ear.deploy.threads import available_cores, in_order
from anomalib_ear.deploy.threshold import check_threshold, raw_score
from anomalib_ear.images import read_image

# A file's path, or pixels (H, W) or (H, W, 3) in RGB: uint8, uint16, or floats in [0, 1].
Photograph: TypeAlias = "str | os.PathLike[str] | NDArray[Any]"
Label: TypeAlias = Literal["good", "defective"]

_PIXELS = "pixels must be (H, W) or (H, W, 3), uint8 or uint16 of full range or floats in [0, 1]"

logger = logging.getLogger(__name__)

# OpenVINO makes its table of types at the first use, and two threads whose first use comes at once wait for each other
# forever. Nobody can be here twice at once.
openvino.Type.f32.to_dtype()


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a model says of a photograph.

    Attributes:
        score: Normalised score in [0, 1), where 0.5 is the trained threshold.
        raw_score: Score before normalisation in [0, 1), ``None`` where the model does not say its threshold.
        is_defective: Whether the score is above the threshold.
        anomaly_map: ``(h, w)`` in [0, 1), where the model's ``mask_threshold``, 0.5, is that of pixels; of the size at
            which the model looks at photographs, the whole photograph whatever its own size, or the part of it that a
            pre-processing leaves. Writable, and nobody else's.
        doubt: Why all this may mean little, in words: the photograph has another shape than those of training, lacks
            their detail, or is far darker or brighter. ``None`` if none of these, or the model does not note theirs.
    """

    score: float
    raw_score: float | None
    is_defective: bool
    anomaly_map: NDArray[np.float32]
    doubt: str | None = None

    @property
    def label(self) -> Label:
        """``"good"`` or ``"defective"``."""
        return "defective" if self.is_defective else "good"


class DeployedModel:
    """An exported model, compiled. Any number of threads may use it at once.

    Args:
        path: OpenVINO model (``.xml``, with its ``.bin`` beside it).
        hint: Whether all photographs together (``"throughput"``) or each (``"latency"``) shall be done soon.
        precision: Precision of the arithmetic, ``"f32"``, ``"bf16"`` or ``"f16"``; ``None`` for the one that scores and
            thresholds were made with.
        threshold: Score above which a part is defective. Defaults to the trained threshold, which is 0.5, unless the
            model was exported with another sensitivity or without normalisation.
        cores: How many cores it may use, at least 1, where others compute too; ``None`` for all.

    Attributes:
        threshold: As given, or the trained one.
        own_threshold: The trained one.
        mask_threshold: Trained threshold of pixels: the value of a map above which a pixel is defective.
        trained_threshold: Score before normalisation that became 0.5, in [0, 1]; NaN if the model does not note it.
        num_requests: How many photographs it works on at a time.
        num_threads: How many threads keep every core busy, with some that read while others wait for the model.
        trained_sizes: What is known of the training photographs' sizes; ``None`` where the model does not note it.
        good: Values of good images of training by the quantity's name, for the watch for drift; empty where the model
            does not note them.
        size: Height and width in pixels of what it looks at; ``None`` if it takes photographs of any size as they are.
        sees_all: Whether its maps are of the whole photograph, and not of what its pre-processing makes of it.

    Raises:
        FileNotFoundError: If there is no such file, or its weights are missing.
        ValueError: If it is not an anomaly model, or an argument is none of those allowed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        hint: Literal["latency", "throughput"] = "throughput",
        precision: str | None = None,
        threshold: float | None = None,
        cores: int | None = None,
    ) -> None:
        if threshold is not None:
            check_threshold(threshold)
        _check_choice("hint", hint, ("throughput", "latency"))
        _check_choice("precision", precision, (None, "f32", "bf16", "f16"))
        if cores is not None and not (isinstance(cores, int | np.integer) and cores >= 1):
            msg = f"cores must be a whole number from 1 on, or None for all, got {cores!r}."
            raise ValueError(msg)
        path = Path(path)
        model = read_model(path)
        try:
            self.own_threshold, *_ = numbers(model, LABEL_THRESHOLD, most=1) or [0.5]
            self.mask_threshold, *_ = numbers(model, MASK_THRESHOLD, most=1) or [0.5]
            self.trained_threshold, *_ = numbers(model, "image_threshold", most=1) or [math.nan]
            self.trained_sizes = _trained_sizes(model)
            self.good = {name: numbers(model, GOOD + name) for name in (SCORE, *QUANTITIES)}
        except ValueError as error:
            msg = f"{path} is damaged: {error}. Export it again."
            raise ValueError(msg) from error
        self.threshold = self.own_threshold if threshold is None else threshold
        take_out_resize(model)
        shape = model.input(0).partial_shape
        shape[0] = 1
        self.sees_all = metadata(model, PART) is None
        self._has_no_resize = metadata(model, NO_RESIZE) is not None
        self.size = (shape[2].get_length(), shape[3].get_length()) if shape.is_static else None
        # Left to itself OpenVINO takes bfloat16 where there is AMX, and scores drift between machines.
        precision = precision or metadata(model, "precision") or "f32"
        configuration: dict[str, Any] = {"PERFORMANCE_HINT": hint.upper(), "INFERENCE_PRECISION_HINT": precision}
        if cores is not None:  # and not tied to the first ones, where those of other processes would be too
            configuration |= {"INFERENCE_NUM_THREADS": cores, "ENABLE_CPU_PINNING": False}
        with one_line(f"{path} cannot be compiled"):
            model.reshape(shape)
            compiled = openvino.Core().compile_model(model, "CPU", configuration)
        computed = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if computed != precision:
            msg = f"this CPU computes {computed} where precision {precision} is asked for: give {computed}."
            raise ValueError(msg)
        self.num_requests: int = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self.num_threads = self.num_requests + (cores or available_cores())
        self._doubted: set[str] = set()
        self._idle: SimpleQueue[openvino.InferRequest] = SimpleQueue()
        self._process = os.getpid()
        for _ in range(self.num_requests):
            self._idle.put(compiled.create_infer_request())

    def predict(self, photograph: Photograph) -> Prediction:
        """Score a photograph.

        Args:
            photograph: Path of a file, or pixels ``(H, W)`` or ``(H, W, 3)`` in RGB: uint8 or uint16 of full range, or
                floats in [0, 1].

        Raises:
            OSError: If the file cannot be read; names it.
            TypeError: If the photograph is neither path nor array, or an array of another type.
            ValueError: If an array has another shape, or values that are not in [0, 1]; if a file holds not one
                photograph of known range, which names it; if the model was trained without a resize, on photographs of
                another size; or if the model's score is not finite, or not in [0, 1].
        """
        pixels = photograph if isinstance(photograph, np.ndarray) else _read_photograph(photograph)
        image, doubt = self.prepare(pixels), self.doubt(pixels)
        prediction, kind = self.infer(image, doubt), "light" if doubt is None else "size"
        if prediction.doubt is not None and kind not in self._doubted:
            self._doubted.add(kind)
            name = "A photograph" if isinstance(photograph, np.ndarray) else photograph
            logger.warning("%s: %s. Of later ones only `Prediction.doubt` says it.", name, prediction.doubt)
        return prediction

    def predict_many(self, photographs: Iterable[Photograph]) -> Generator[Prediction | Exception]:
        """Score photographs on all cores.

        Some photographs are taken from the iterable before the first prediction, so that no core waits: few enough
        that memory does not depend on their number. At a camera that gives one after the other use ``predict``.

        Args:
            photographs: As for ``predict``.

        Yields:
            A prediction for each photograph, in order; where there is none, the error that ``predict`` would raise.

        Raises:
            TypeError: If one photograph is given.
        """
        if isinstance(photographs, str | os.PathLike | np.ndarray):
            msg = f"photographs must be several, such as a list, got one {type(photographs).__name__}: use predict."
            raise TypeError(msg)
        return in_order(self.predict, photographs, self.num_threads)

    def prepare(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Resize a photograph as training does, with antialias and without rounding.

        Pillow takes a sixth of the time of an exported resize.

        Args:
            pixels: As for ``predict``.

        Returns:
            ``(1, 3, *size)`` in [0, 1].

        Raises:
            TypeError: If the pixels are of another type.
            ValueError: If they are of another shape, or not in [0, 1], or of another size than those of training where
                the model was trained without a resize.
        """
        pixels = _checked(pixels)
        if self._has_no_resize and pixels.shape[:2] != self.size:
            height, width = self.size or (0, 0)
            msg = (
                f"the model was trained without a resize, on photographs of {height} x {width} pixels (height x "
                f"width), this one has {pixels.shape[0]} x {pixels.shape[1]}."
            )
            raise ValueError(msg)
        if pixels.dtype == np.uint8:  # Pillow is four times as fast as NumPy at taking colours apart
            bands = iter(Image.fromarray(pixels).split())
        else:
            bands = (Image.fromarray(band.astype(np.float32)) for band in np.moveaxis(np.atleast_3d(pixels), -1, 0))
        # One after the other: in floating point a band takes four times its memory.
        planes = np.stack([np.asarray(self._resized(band.convert("F"))) for band in bands])
        white = 1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
        return np.repeat(planes[None] / np.float32(white), 3 // len(planes), axis=1)

    def _resized(self, band: Image.Image) -> Image.Image:
        return band if self.size is None else band.resize(self.size[::-1], Image.Resampling.BILINEAR)

    def doubt(self, pixels: NDArray[Any]) -> str | None:
        """Say why a photograph of this size has a score that may mean little; see ``Prediction``."""
        return doubt((pixels.shape[0], pixels.shape[1]), self.trained_sizes)

    def infer(self, image: NDArray[np.float32], doubt: str | None = None) -> Prediction:
        """Score what ``prepare`` returns; waits while every request is busy.

        Args:
            image: ``(1, 3, H, W)`` in [0, 1].
            doubt: What ``doubt`` says of the photograph's size.

        Raises:
            RuntimeError: In a process that was forked from the one that built the model, where OpenVINO hangs.
            ValueError: If the model cannot take it, or its score is not finite, or not in [0, 1].
        """
        if os.getpid() != self._process:
            msg = "this DeployedModel was built in another process: build one in each, with cores=... for its share."
            raise RuntimeError(msg)
        request = self._idle.get()
        try:
            with one_line(f"the model cannot score {image.shape[2]} x {image.shape[3]} pixels"):
                request.start_async({0: image}, share_inputs=True)
                request.wait()
            # Copies, because the request's memory is used again at once.
            score, anomaly_map = (request.get_tensor(name).data.copy() for name in ("pred_score", "anomaly_map"))
        finally:
            self._idle.put(request)
        if not (np.isfinite(score).all() and np.isfinite(anomaly_map).all()):
            # No comparison with a threshold holds for it, and so it would be good.
            msg = "the model's score is not finite: is its .bin the one exported with it?"
            raise ValueError(msg)
        if min(score.min(), anomaly_map.min()) < 0 or max(score.max(), anomaly_map.max()) > 1:
            msg = "the model's score is not normalised to [0, 1]: export it with its post-processor."
            raise ValueError(msg)
        doubts = [doubt, doubt_of_light(image, self.good["brightness"])]
        normalised = float(score.item())
        return Prediction(
            score=normalised,
            raw_score=raw_score(normalised, self.trained_threshold),
            is_defective=normalised > self.threshold,
            anomaly_map=anomaly_map.reshape(anomaly_map.shape[-2:]),
            doubt="; ".join(filter(None, doubts)) or None,
        )


def _trained_sizes(model: openvino.Model) -> TrainedSizes | None:
    """Return what the model notes of them; raises a ``ValueError`` if that is damaged."""
    values = numbers(model, TRAINED_SIZES)
    if not values:
        return None
    if len(values) != len(TrainedSizes._fields):
        msg = f"its {TRAINED_SIZES} is {metadata(model, TRAINED_SIZES)}"
        raise ValueError(msg)
    return TrainedSizes(*values)


def _check_choice(name: str, value: object, allowed: tuple[str | None, ...]) -> None:
    if value not in allowed:
        msg = f"{name} must be {', '.join(map(repr, allowed[:-1]))} or {allowed[-1]!r}, got {value!r}."
        raise ValueError(msg)


def _read_photograph(path: object) -> NDArray[Any]:
    """Read a file; see ``DeployedModel.predict`` for what is raised."""
    if not isinstance(path, str | os.PathLike):
        msg = f"a photograph must be a path or a NumPy array, got {type(path).__name__}; {_PIXELS}."
        raise TypeError(msg)
    return read_image(Path(path))


def _checked(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return pixels in this machine's byte order, floats as float32.

    Raises:
        TypeError: If they are of another type.
        ValueError: If they are of another shape, or not in [0, 1].
    """
    if isinstance(pixels, np.ma.MaskedArray):  # whose least and most are of what is not masked
        msg = f"{_PIXELS}, got a masked array: fill it."
        raise TypeError(msg)
    dtype = pixels.dtype.newbyteorder("=")
    if dtype not in {np.dtype(np.uint8), np.dtype(np.uint16)} and dtype.kind != "f":
        msg = f"{_PIXELS}, got {dtype}."
        raise TypeError(msg)
    if pixels.ndim not in {2, 3} or pixels.shape[2:] not in {(), (3,)} or not pixels.size:
        msg = f"{_PIXELS}, got the shape {pixels.shape}."
        raise ValueError(msg)
    if dtype.kind != "f":
        return pixels.astype(dtype, copy=False)
    least, most = pixels.min(), pixels.max()
    if not (least >= 0 and most <= 1):  # false for NaN
        msg = f"{_PIXELS}, got floats from {float(least)} to {float(most)}."
        raise ValueError(msg)
    return pixels.astype(np.float32, copy=False)
