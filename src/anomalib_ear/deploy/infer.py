# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Score photographs with an exported model, on the line.

python -m anomalib_ear.infer --model model.xml --input FOLDER --output FOLDER

Imports neither torch nor anomalib: openvino, numpy, pillow, jsonargparse[signatures] and tqdm are enough. Decoding,
inference and writing overlap; memory holds a few photographs, however many there are.
"""

import io
import sys
from collections import Counter
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple, TextIO

import jsonargparse
import numpy as np
from PIL import Image
from tqdm import tqdm

from anomalib_ear.deploy.photographs import as_one_line, as_text, find
from anomalib_ear.deploy.pictures import CannotWriteError, heat_map, is_ours, picture_path, save, small_copy
from anomalib_ear.deploy.runtime import DeployedModel, Label, Prediction, check_threshold, in_order
from anomalib_ear.deploy.scores import ScoreTable, sha256
from anomalib_ear.images import read_image

# Processes ended by Ctrl-C have this status.
_INTERRUPTED = 130


class Scores(NamedTuple):
    """What is known of one photograph.

    Attributes:
        path: As found under the input.
        prediction: What the model says.
        digest: SHA-256 of the photograph's file, hexadecimal.
    """

    path: Path
    prediction: Prediction
    digest: str


class Line:
    """Photographs in, scores and pictures out, in order.

    Args:
        model: The model.
        output: Folder of the pictures.
        heat_maps: Whether to draw heat maps.
        anomaly_maps: Whether to write anomaly maps.
    """

    def __init__(self, model: DeployedModel, output: Path, *, heat_maps: bool, anomaly_maps: bool) -> None:
        self.model, self.output = model, output
        self.heat_maps, self.anomaly_maps = heat_maps, anomaly_maps

    def run(self, files: dict[Path, Path]) -> Generator[tuple[Path, Scores | Exception]]:
        """Yield scores in the order of the files, or why there are none.

        Raises:
            CannotWriteError: If a picture cannot be written.
        """
        with closing(in_order(self._score, files.items(), self.model.num_threads)) as results:
            for name, result in zip(files, results, strict=True):
                if isinstance(result, CannotWriteError):
                    raise result
                yield name, result

    def _score(self, named: tuple[Path, Path]) -> Scores:
        """Score a photograph and write its pictures first: one with a score has them."""
        name, file = named
        digest = sha256(file)  # before it is read, so that a later run notices a change in between
        pixels = read_image(file)
        image = self.model.prepare(pixels)
        photograph = small_copy(pixels) if self.heat_maps else None
        del pixels  # many times larger than what is needed of it
        prediction = self.model.infer(image)
        paths = self.pictures(name)
        if self.anomaly_maps:
            levels = (prediction.anomaly_map * np.iinfo(np.uint16).max).round().astype(np.uint16)
            save(Image.fromarray(levels), paths["anomaly_maps"])
        if photograph is not None:
            picture = heat_map(photograph, prediction.anomaly_map, prediction.score, self.model.threshold)
            save(picture, paths["heat_maps"])
        return Scores(name, prediction, digest)

    def pictures(self, name: Path) -> dict[str, Path]:
        """Return where a photograph's pictures are written, by their kind."""
        endings = {"heat_maps": "_heat.jpg"} if self.heat_maps else {}  # ten times as fast as PNG
        if self.anomaly_maps:
            endings["anomaly_maps"] = ".png"
        return {kind: picture_path(self.output / kind, name, ending) for kind, ending in endings.items()}

    def changed(self, files: dict[Path, Path], digests: Mapping[Path, str]) -> set[Path]:
        """Return which of the files that were scored must be scored again.

        Args:
            files: Each file by its name.
            digests: SHA-256 of those that were scored.

        Returns:
            Names of those whose content is another now, or that have no picture.
        """

        def is_same(name: Path) -> bool:
            try:
                return sha256(files[name]) == digests[name] and all(map(is_ours, self.pictures(name).values()))
            except OSError:
                return False  # scoring it says why

        with ThreadPoolExecutor(self.model.num_threads) as readers:
            same = tqdm(
                readers.map(is_same, digests), desc="compare", total=len(digests), unit="image", disable=not digests
            )
            return {name for name, is_the_same in zip(digests, same, strict=True) if not is_the_same}


def infer(
    model: Path,
    input: str,  # noqa: A002  the option's name
    output: Path,
    threshold: float = 0.5,
    precision: Literal["f32", "bf16", "f16"] | None = None,
    hint: Literal["latency", "throughput"] = "throughput",
    heat_maps: bool = True,
    anomaly_maps: bool = False,
    resume: bool = False,
) -> int:
    """Score photographs with an exported model.

    Args:
        model: OpenVINO model (.xml, with its .bin beside it).
        input: Folder, which is searched with its subfolders, file, or pattern in quotes.
        output: Folder for scores.csv, heat_maps/ and anomaly_maps/. In a path of scores.csv each byte that is not UTF-8
            stands as // and two hexadecimal digits.
        threshold: Normalised score above which a part is defective; 0.5 is the trained threshold.
        precision: Precision of the arithmetic. Defaults to the one that scores and thresholds were made with.
        hint: Whether each photograph (latency) or all together (throughput) shall be done soon.
        heat_maps: Whether to write pictures, on one scale for all.
        anomaly_maps: Whether to write normalised maps as 16-bit PNGs, 65535 for 1.
        resume: Whether to go on with a table of scores. A photograph is skipped if its path and its content are those
            of a row; the row of one that changed is replaced.

    Returns:
        Exit status: 0, 1 if a photograph could not be scored, or 130 after Ctrl-C.
    """
    check_threshold(threshold)
    if output.exists() and not output.is_dir():
        msg = f"--output {output} is a file: give a folder."
        raise NotADirectoryError(msg)
    found = find(input)
    deployed = DeployedModel(model, hint, precision, threshold)
    line = Line(deployed, output, heat_maps=heat_maps, anomaly_maps=anomaly_maps)
    run = {"model": DeployedModel.digest(model), "threshold": threshold, "precision": precision}
    table = ScoreTable(output, run, resume=resume)
    for kind, texts in (("left out", found.left_out), ("not searched", found.unreachable)):
        for text in texts:
            _say(f"{kind}: {text}", sys.stderr)
    failed = [*found.unreachable]
    counts: Counter[Label] = Counter()
    status = 0
    try:
        files = _to_do(line, table, found.files) if resume else found.files
        with closing(line.run(files)) as results:
            for name, result in tqdm(results, total=len(files), unit="image"):
                if isinstance(result, Exception):
                    failed.append(f"{files[name]}: {' '.join(str(result).split())}")
                    tqdm.write(f"not scored: {as_one_line(failed[-1])}", file=sys.stderr)
                    continue
                part = result.prediction
                counts[part.label] += 1
                raw = "" if part.raw_score is None else f"{part.raw_score:.6f}"
                table.append((as_text(name), raw, f"{part.score:.6f}", part.label, result.digest))
    except KeyboardInterrupt:
        _say("Interrupted; --resume true goes on.", sys.stderr)
        status = _INTERRUPTED
    except OSError as error:
        msg = f"{error} {table.path} has the scores until then; once that is mended, --resume true goes on."
        raise OSError(msg) from error
    _say(f"{counts['good']} good, {counts['defective']} defective, {len(failed)} not scored. Scores: {table.path}")
    if heat_maps and counts:
        _say(f"Pictures: {output / 'heat_maps'}")
    for text in failed:
        _say(f"  {text}", sys.stderr)
    return status or int(bool(failed))


def _to_do(line: Line, table: ScoreTable, files: dict[Path, Path]) -> dict[Path, Path]:
    """Drop outdated rows from a table, and return the files without a score."""
    names = {as_text(name): name for name in files}
    scored = {names[text]: digest for text, digest in table.digests.items() if text in names}
    again = line.changed(files, scored)
    for name in again:
        for path in line.pictures(name).values():
            if is_ours(path):
                path.unlink()
    table.drop({as_text(name) for name in again})
    skipped, others = len(scored) - len(again), len(table.digests) - len(scored) + len(again)
    _say(f"Resumed: {skipped} skipped, scored before; {len(again)} scored again, changed or without pictures.")
    if others:
        _say(f"{table.path} has {others} more photographs, which are not in the input: their rows stay.")
    return {name: file for name, file in files.items() if name not in scored or name in again}


def _say(text: str, file: TextIO | None = None) -> None:
    print(as_one_line(text), file=file)


def main(arguments: list[str] | None = None) -> int:
    """Run the command, with errors of its arguments as one line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no terminal has all the letters of all names
    try:
        return int(jsonargparse.auto_cli(infer, as_positional=False, args=arguments, exit_on_error=False))
    except (OSError, ValueError, jsonargparse.ArgumentError) as error:
        _say(f"error: {' '.join(str(error).split())}", sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
