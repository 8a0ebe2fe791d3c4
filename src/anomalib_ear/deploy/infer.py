# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Score photographs with an exported model, on the line.

python -m anomalib_ear.deploy.infer --model model.xml --input FOLDER --output FOLDER

Imports neither torch nor anomalib: openvino, numpy, pillow, jsonargparse and tqdm are enough. Decoding, inference and
writing overlap; memory holds a few photographs, however many there are.
"""

import csv
import glob
import hashlib
import json
import os
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jsonargparse
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from anomalib_ear.deploy.runtime import DeployedModel

COLUMNS = ("path", "raw_score", "normalised_score", "label")
LABELS = ("good", "defective")
# Longest side in pixels of a heat map.
PICTURE_SIZE = 1024
# A heat map's colours: the photograph's greys at 0.4 of their brightness, then dark red, red, yellow and white.
_SHADES = 128
_GREYS = np.repeat(np.linspace(0, 0.4, _SHADES)[:, None], 3, axis=1)
_PALETTE = np.concatenate([_GREYS, 3 * np.linspace(0.15, 1, _SHADES)[:, None] - np.arange(3)]).clip(0, 1)
# Processes ended by Ctrl-C have this status.
_INTERRUPTED = 130


class Scores(NamedTuple):
    """What is known of one photograph.

    Attributes:
        path: As found under the input.
        raw: Score before normalisation in [0, 1), ``None`` where the model does not say its threshold.
        normalised: Score in [0, 1), where 0.5 is the trained threshold.
    """

    path: Path
    raw: float | None
    normalised: float


def find(source: str) -> dict[Path, Path]:
    """Find photographs.

    Args:
        source: Folder (searched with its subfolders), file, or pattern.

    Returns:
        Each file, sorted, by its path under the folder or under what all have in common.

    Raises:
        FileNotFoundError: If there is none.
    """
    Image.init()
    path = Path(source)
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.suffix.lower() in Image.EXTENSION and file.is_file()]
        root = path
    else:
        files = [path] if path.is_file() else [Path(name) for name in glob.glob(source, recursive=True)]  # noqa: PTH207
        files = [file for file in files if file.is_file()]
        root = Path(os.path.commonpath([file.parent for file in files])) if files else path
    if not files:
        msg = f"no photographs at {source!r}: give a folder, a file, or a pattern in quotes."
        raise FileNotFoundError(msg)
    return {file.relative_to(root): file for file in sorted(files)}


def heat_map(photograph: Image.Image, anomaly_map: NDArray[np.float32]) -> Image.Image:
    """Draw an anomaly map over its photograph, on a scale that is the same for all images.

    Args:
        photograph: The photograph.
        anomaly_map: ``(h, w)`` in [0, 1).

    Returns:
        The photograph in grey and dim; where the map is above 0.5, the threshold of pixels, red that turns yellow and
        white towards 1. Mode RGB, at most ``PICTURE_SIZE`` pixels long.
    """
    photograph = photograph.convert("L")
    photograph.thumbnail((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.BILINEAR)
    level = Image.fromarray(anomaly_map).resize(photograph.size, Image.Resampling.BILINEAR)
    heat = (np.asarray(level) * 2 * _SHADES).astype(np.uint8)  # from _SHADES on it is hot
    picture = Image.fromarray(np.where(heat >= _SHADES, heat, np.asarray(photograph) // 2))
    picture.putpalette((_PALETTE * 255).round().astype(np.uint8).tobytes())
    return picture.convert("RGB")


def save(picture: Image.Image, path: Path, **options: int) -> None:
    """Write a picture as a whole or not at all, in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    picture.save(partial, format=Image.registered_extensions()[path.suffix], **options)
    partial.replace(path)


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
        self.workers = os.cpu_count() or 1
        # Photographs between disk and disk at any time: enough that nobody waits, whatever the folder's size.
        self.most = self.model.requests + 2 * self.workers

    def run(self, files: dict[Path, Path]) -> Iterator[tuple[Path, Scores | Exception]]:
        """Yield scores in the order of the files, or why there are none."""
        pending: deque[tuple[Path, Future[Scores]]] = deque()
        with ThreadPoolExecutor(self.workers) as writers:
            try:
                with ThreadPoolExecutor(self.workers) as decoders:
                    try:
                        for name, file in files.items():
                            if len(pending) == self.most:
                                yield _result(*pending.popleft())
                            scored: Future[Scores] = Future()
                            pending.append((name, scored))
                            decoders.submit(self._start, name, file, scored, writers)
                        while pending:
                            yield _result(*pending.popleft())
                    finally:
                        for _, scored in pending:
                            scored.cancel()
            finally:
                self.model.wait()  # what was decoded is inferred and written, and only then the writers may go

    def _start(self, name: Path, file: Path, scored: "Future[Scores]", writers: ThreadPoolExecutor) -> None:
        """Decode a photograph and start inference."""
        if not scored.set_running_or_notify_cancel():
            return
        try:
            with Image.open(file) as opened:
                photograph = opened if opened.mode == "L" else opened.convert("RGB")
                image = self.model.prepare(photograph)
            inferred: Future[dict[str, NDArray[np.float32]]] = Future()
            inferred.add_done_callback(lambda done: writers.submit(self._finish, name, photograph, done, scored))
            self.model.start(image, inferred)
        except Exception as error:  # noqa: BLE001  whatever is wrong with a file, the run goes on
            scored.set_exception(error)

    def _finish(
        self,
        name: Path,
        photograph: Image.Image,
        inferred: "Future[dict[str, NDArray[np.float32]]]",
        scored: "Future[Scores]",
    ) -> None:
        """Write pictures and hand over the score, in this order: a photograph with a score has its pictures."""
        try:
            outputs = inferred.result()
            anomaly_map = outputs["anomaly_map"].squeeze()
            if self.anomaly_maps:
                levels = (anomaly_map * np.iinfo(np.uint16).max).round().astype(np.uint16)
                save(Image.fromarray(levels), self._picture("anomaly_maps", name, ".png"), compress_level=1)
            if self.heat_maps:
                # Ten times as fast as PNG.
                save(heat_map(photograph, anomaly_map), self._picture("heat_maps", name, ".jpg"), quality=90)
            score = float(outputs["pred_score"].item())
            scored.set_result(Scores(name, self.model.raw(score), score))
        except Exception as error:  # noqa: BLE001  the run reports it and goes on
            scored.set_exception(error)

    def _picture(self, folder: str, name: Path, suffix: str) -> Path:
        """Keep the photograph's suffix in the name, since there may be several of one stem."""
        return self.output / folder / name.with_name(name.name + suffix)


def _result(name: Path, scored: "Future[Scores]") -> tuple[Path, Scores | Exception]:
    """Wait for a photograph."""
    error = scored.exception()
    return name, (error if isinstance(error, Exception) else scored.result())


def begin(table: Path, run: dict[str, Any], *, resume: bool) -> set[str]:
    """Begin a table of scores, or go on with it.

    Args:
        table: File of the scores.
        run: What scores depend on; must be the same when a table goes on.
        resume: Whether to go on.

    Returns:
        Photographs that have scores.

    Raises:
        FileExistsError: If there is a table, and it was not said to go on with it.
        ValueError: If it was made in another way.
    """
    note = table.with_suffix(".json")
    if not table.exists():
        table.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
        table.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
        return set()
    if not resume:
        msg = f"{table} is there already: go on with it by --resume, or give another --output."
        raise FileExistsError(msg)
    before = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
    changed = [name for name in run if before.get(name) != run[name]]
    if changed:
        msg = f"{table} was begun with another {' and '.join(changed)}: give the same, or another --output."
        raise ValueError(msg)
    text = table.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]  # a killed run may leave a torn line
    if whole != text:
        table.write_text(whole, encoding="utf-8")
    return {row["path"] for row in csv.DictReader(whole.splitlines())}


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
        output: Folder for scores.csv, heat_maps/ and anomaly_maps/.
        threshold: Normalised score above which a part is defective; 0.5 is the trained threshold.
        precision: Precision of the arithmetic. Defaults to the one that scores and thresholds were made with.
        hint: Whether each photograph (latency) or all together (throughput) shall be done soon.
        heat_maps: Whether to write pictures, on one scale for all.
        anomaly_maps: Whether to write normalised maps as 16-bit PNGs, 65535 for 1.
        resume: Whether to go on with a table of scores that an interrupted run left.

    Returns:
        Exit status: 0, 1 if a photograph could not be scored, or 130 after Ctrl-C.
    """
    if not 0 <= threshold <= 1:
        msg = f"threshold must lie in [0, 1], got {threshold}; 0.5 is the trained one."
        raise ValueError(msg)
    files = find(input)
    loaded = DeployedModel(model, hint, precision)
    digest = hashlib.sha256(model.read_bytes() + model.with_suffix(".bin").read_bytes()).hexdigest()
    table = output / "scores.csv"
    done = begin(table, {"model": digest, "threshold": threshold, "precision": precision}, resume=resume)
    files = {name: file for name, file in files.items() if name.as_posix() not in done}
    line = Line(loaded, output, heat_maps=heat_maps, anomaly_maps=anomaly_maps)
    failed, counts = [], dict.fromkeys(LABELS, 0)
    status = 0
    with table.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        try:
            for name, result in tqdm(line.run(files), total=len(files), unit="image"):
                if isinstance(result, Exception):
                    failed.append(f"{files[name]}: {' '.join(str(result).split())}")
                    tqdm.write(f"not scored: {failed[-1]}", file=sys.stderr)
                    continue
                label = LABELS[result.normalised > threshold]
                counts[label] += 1
                raw = "" if result.raw is None else f"{result.raw:.6f}"
                writer.writerow((name.as_posix(), raw, f"{result.normalised:.6f}", label))
                file.flush()
        except KeyboardInterrupt:
            print("Interrupted; --resume goes on.", file=sys.stderr)
            status = _INTERRUPTED
    print(f"{counts['good']} good, {counts['defective']} defective, {len(failed)} not scored. Scores: {table}")
    for text in failed:
        print(f"  {text}", file=sys.stderr)
    return status or int(bool(failed))


def main(arguments: list[str] | None = None) -> int:
    """Run the command, with errors of its arguments as one line."""
    try:
        return int(jsonargparse.auto_cli(infer, as_positional=False, args=arguments))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
