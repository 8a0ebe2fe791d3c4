# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Photographs in, scores and pictures out: what ``infer`` does with each.

Decoding, inference and writing overlap; memory holds a few photographs, however many there are.
"""

from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from anomalib_ear.deploy.drift import measure
from anomalib_ear.deploy.files import sha256
from anomalib_ear.deploy.pictures import CannotWriteError, heat_map, is_ours, picture_path, remove, save, small_copy
from anomalib_ear.deploy.runtime import DeployedModel, Prediction
from anomalib_ear.deploy.threads import in_order
from anomalib_ear.deploy.watching import Arrival
from anomalib_ear.images import read_image

# How the names of pictures end, by their kind; JPEG is written ten times as fast as PNG.
_ENDINGS = {"heat_maps": "_heat.jpg", "anomaly_maps": ".png"}


class Scores(NamedTuple):
    """What is known of one photograph.

    Attributes:
        path: As found under the input.
        prediction: What the model says.
        digest: SHA-256 of the photograph's file, hexadecimal.
        light: What ``measure`` returns of it; ``None`` if its size is in doubt, and it tells nothing of light and
            camera.
    """

    path: Path
    prediction: Prediction
    digest: str
    light: dict[str, float] | None


class Line:
    """Photographs in, scores and pictures out, in order.

    Args:
        model: The model.
        output: Folder of the pictures.
        heat_maps: Whether to draw heat maps.
        anomaly_maps: Whether to write anomaly maps.

    Raises:
        ValueError: If heat maps are asked for, and the model's maps are not of whole photographs.
    """

    def __init__(self, model: DeployedModel, output: Path, *, heat_maps: bool, anomaly_maps: bool) -> None:
        if heat_maps and not model.sees_all:
            msg = (
                "the model's pre-processing crops photographs, and its maps do not say where: give --heat_maps "
                "false, or train on photographs that are cropped already."
            )
            raise ValueError(msg)
        self.model, self.output = model, output
        self.heat_maps = heat_maps
        self._is_on = {"heat_maps": heat_maps, "anomaly_maps": anomaly_maps}

    def run(self, files: dict[Path, Path]) -> Generator[tuple[Path, Scores | Exception]]:
        """Yield scores in the order of the files, or why there are none.

        Raises:
            CannotWriteError: If a picture cannot be written or removed.
        """
        with closing(in_order(self._score, files.items(), self.model.num_threads)) as results:
            for name, result in zip(files, results, strict=True):
                if isinstance(result, CannotWriteError):
                    raise result
                yield name, result

    def look(self, arrival: Arrival | None) -> tuple[Arrival, Scores | Exception | None] | None:
        """Score what a watch yields, unless the table has it as it is.

        Returns:
            ``None`` for ``None``; else the photograph, and its scores, the error, or ``None`` if its row still holds.
        """
        if arrival is None:
            return None
        name, file, digest = arrival
        try:
            is_known = digest is not None and sha256(file) == digest and self._has_pictures(name)
            return arrival, None if is_known else self._score((name, file))
        except Exception as error:  # noqa: BLE001  of this photograph, or raised when it is its turn
            return arrival, error

    def _score(self, named: tuple[Path, Path]) -> Scores:
        """Score a photograph and write its pictures first: one with a score has them."""
        name, file = named
        digest = sha256(file)  # before it is read, so that a later run notices a change in between
        pixels = read_image(file)
        image = self.model.prepare(pixels)
        doubt = self.model.doubt(pixels)
        photograph = small_copy(pixels) if self.heat_maps else None
        del pixels  # many times larger than what is needed of it
        prediction = self.model.infer(image, doubt)
        paths = self._pictures(name)
        for kind, path in paths.items():
            if not self._is_on[kind]:
                remove(path)  # of a run with other options: it shows what the photograph may have been
        if self._is_on["anomaly_maps"]:
            levels = (prediction.anomaly_map * np.iinfo(np.uint16).max).round().astype(np.uint16)
            save(Image.fromarray(levels), paths["anomaly_maps"])
        if photograph is not None:
            thresholds = (self.model.threshold, self.model.mask_threshold)
            picture = heat_map(photograph, prediction.anomaly_map, prediction.score, *thresholds)
            save(picture, paths["heat_maps"])
        return Scores(name, prediction, digest, measure(image) if doubt is None else None)

    def changed(self, files: dict[Path, Path], digests: Mapping[Path, str]) -> dict[Path, Exception | None]:
        """Return which of the files that were scored must be scored again.

        Args:
            files: Each file by its name.
            digests: SHA-256 of those that were scored.

        Returns:
            Names of those whose content is another now, or that have no picture, with ``None``, and of those that
            cannot be read, with the error: nobody knows whether they changed.
        """

        def is_same(name: Path) -> bool | Exception:
            try:
                digest = sha256(files[name])
            except (OSError, MemoryError) as error:
                return error
            return digest == digests[name] and self._has_pictures(name)

        with ThreadPoolExecutor(self.model.num_threads) as readers:
            same = tqdm(
                readers.map(is_same, digests), desc="compare", total=len(digests), unit="image", disable=not digests
            )
            found = zip(digests, same, strict=True)
            return {name: None if result is False else result for name, result in found if result is not True}

    def _has_pictures(self, name: Path) -> bool:
        """Return whether a photograph has the pictures that are asked for."""
        return all(is_ours(path) for kind, path in self._pictures(name).items() if self._is_on[kind])

    def remove_pictures(self, name: Path) -> None:
        """Remove a photograph's pictures, also those that a run with other options wrote.

        Raises:
            CannotWriteError: If one cannot be removed.
        """
        for path in self._pictures(name).values():
            remove(path)

    def _pictures(self, name: Path) -> dict[str, Path]:
        """Return where a photograph's pictures of each kind are, if there are any."""
        return {kind: picture_path(self.output / kind, name, ending) for kind, ending in _ENDINGS.items()}
