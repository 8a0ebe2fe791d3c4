# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Score an archive of photographs on one machine or many, with Ray Data.

python -m anomalib_ear.bulk --model model.xml --input FOLDER --output FOLDER

Ray Data hands out the work, does again what a lost worker had, and notes which photographs have a row. Decoding, resize
and scores are those of the line. Only here is ray imported.
"""

import json
import logging
import os
import re
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jsonargparse
import numpy as np
import pyarrow as pa
import pyarrow.dataset as arrow_dataset
import ray
import ray.data
from numpy.typing import NDArray
from pyarrow import compute, fs, parquet
from ray.data.checkpoint import CheckpointConfig

from anomalib_ear.deploy.command import fail, run_command, say
from anomalib_ear.deploy.photographs import as_text, find
from anomalib_ear.deploy.runtime import DeployedModel, Prediction, in_order
from anomalib_ear.images import SUFFIXES

# Photographs of one Parquet file: what a worker that is lost has scored for nothing, and what pays for handing it out.
_MIN_PART, _MAX_PART = 16, 1000
# Files per worker where there are enough photographs, so that all workers end at about the same time.
_PARTS_PER_WORKER = 8
# Photographs that a worker fetches at a time from a remote file system, whose answers take longer than scores.
_FETCHED_AT_A_TIME = 16
# Processes ended by Ctrl-C have this status.
_INTERRUPTED = 130
# Rows that are listed or counted at a time.
_CHUNK = 100_000
# Cores that Ray Data's own steps ask for and hardly use: listing, and leaving out what has a row.
_CLERKS = 2
# Seconds in which a Ray cluster must answer.
_PATIENCE = 10

# The model's files in the output, from which every worker takes it.
MODEL = ("model.xml", "model.bin")
_PHOTOGRAPHS = pa.schema(
    [("id", pa.int64()), ("path", pa.string()), ("size", pa.int64()), ("modified", pa.timestamp("us", "UTC"))]
)
_SCORES = pa.schema(
    [("raw_score", pa.float64()), ("normalised_score", pa.float64()), ("label", pa.string()), ("error", pa.string())]
)


class Photograph(NamedTuple):
    """A photograph in the archive.

    Attributes:
        path: Path under the input, as UTF-8 (see ``as_text``).
        size: Size in bytes; ``None`` where it cannot be told.
        modified: When it was modified, in microseconds since 1970.
    """

    path: str
    size: int | None
    modified: int | None

    @property
    def id(self) -> int:
        """A number by which Ray Data knows it: another one if the photograph is replaced."""
        return int.from_bytes(blake2b(repr(tuple(self)).encode(), digest_size=8).digest(), "big", signed=True)


class Archive:
    """Where the photographs are.

    Args:
        source: Folder, or URI of a folder in a file system that pyarrow knows.

    Attributes:
        root: The folder, as other processes find it.
        unreachable: Where photographs may be that cannot be listed, in words; known once they are listed.
        is_local: Whether its files are this machine's.

    Raises:
        OSError: If there is no such folder, or its file system does not answer.
        ValueError: If pyarrow does not know the file system.
    """

    def __init__(self, source: str) -> None:
        self._files, self.root = file_system(source)
        self._is_uri = "://" in source
        self.unreachable: list[str] = []
        self.is_local = isinstance(self._files, fs.LocalFileSystem)
        if self._files.get_file_info(self.root).type != fs.FileType.Directory:
            msg = f"--input {source} is no folder: give a folder or the URI of one."
            raise NotADirectoryError(msg)

    def photographs(self) -> Iterator[Photograph]:
        """List the photographs: a folder as ``infer`` searches it, a URI without opening any file.

        Raises:
            FileNotFoundError: If there is none.
        """
        if not self._is_uri:
            found = find(self.root)
            self.unreachable = found.unreachable
            for kind, texts in (("left out", found.left_out), ("not searched", found.unreachable)):
                for text in texts:
                    say(f"{kind}: {text}", sys.stderr)
            for name, file in found.files.items():
                yield Photograph(as_text(name), *_size_and_time(file))
            return
        folders = [self.root]
        while folders:
            for entry in self._files.get_file_info(fs.FileSelector(folders.pop())):
                if entry.type == fs.FileType.Directory:
                    folders.append(entry.path)
                elif Path(entry.path).suffix.lower() in SUFFIXES:
                    time = None if entry.mtime_ns is None else entry.mtime_ns // 1000
                    yield Photograph(entry.path.removeprefix(self.root).lstrip("/"), entry.size, time)

    @contextmanager
    def file(self, path: str, folder: Path) -> Iterator[Path]:
        """Give a photograph as a file of this machine.

        Args:
            path: As :meth:`photographs` lists it.
            folder: Where it is copied to, and taken away again, if it is in a remote file system.
        """
        if self.is_local:
            yield Path(self.root, path if self._is_uri else _from_text(path))
            return
        copy = folder / f"{blake2b(path.encode(), digest_size=8).hexdigest()}{Path(path).suffix}"
        try:
            with self._files.open_input_stream(f"{self.root}/{path}") as stream:
                copy.write_bytes(stream.read())
            yield copy
        except (OSError, ValueError) as error:
            raise type(error)(str(error).replace(str(copy), path)) from error
        finally:
            copy.unlink(missing_ok=True)


class Scorer:
    """A worker of one core, with a model of its own.

    Args:
        output: Folder or URI of the table, with the model.
        source: Folder or URI of the photographs.
        threshold: Normalised score above which a part is defective.
        precision: Precision of the arithmetic.
    """

    def __init__(self, output: str, source: str, threshold: float, precision: str | None) -> None:
        self._archive = Archive(source)
        files, root = file_system(output)
        with tempfile.TemporaryDirectory() as folder:
            for name in MODEL:
                with files.open_input_stream(f"{root}/{name}") as stream:
                    Path(folder, name).write_bytes(stream.read())
            self._model = DeployedModel(Path(folder, MODEL[0]), "throughput", precision, threshold, cores=1)
        self._num_threads = self._model.num_threads if self._archive.is_local else _FETCHED_AT_A_TIME

    def __call__(self, photographs: pa.Table) -> pa.Table:
        """Score photographs, and add what came out to their rows."""
        paths = photographs["path"].to_pylist()
        with tempfile.TemporaryDirectory() as folder:
            results = in_order(partial(self._predict, folder=Path(folder)), paths, self._num_threads)
            rows = [_row(result) for result in results]
        scores = pa.Table.from_pylist(rows, _SCORES)
        for name in scores.column_names:
            photographs = photographs.append_column(name, scores[name])
        return photographs

    def _predict(self, path: str, folder: Path) -> Prediction:
        with self._archive.file(path, folder) as file:
            return self._model.predict(file)


class Table:
    """Rows of scores in Parquet files, and what they depend on.

    Args:
        output: Folder, or URI of one.
        run: What scores depend on; must be the same when a table goes on.

    Raises:
        FileExistsError: If the table was begun in another way.
        OSError: If there is no such file system, or it cannot be written.
        ValueError: If pyarrow does not know the file system.
    """

    def __init__(self, output: str, run: dict[str, Any]) -> None:
        self.files, self._root = file_system(output)
        if self.files.get_file_info(self._root).type == fs.FileType.File:
            msg = f"--output {output} is a file: give a folder."
            raise NotADirectoryError(msg)
        self.scores, self.listing = f"{self._root}/scores", f"{self._root}/photographs.parquet"
        # Ray Data's own notes of what has a row.
        self.done = f"{self._root}/done"
        self._note, self._run = f"{self._root}/run.json", run
        self._check(output)

    def _check(self, output: str) -> None:
        """Raise an error if the table was begun in another way."""
        if not self._exists(self._note):
            if self._exists(self.scores):
                msg = f"{output} has scores but no run.json, which says how they were made: give another --output."
                raise FileExistsError(msg)
            return
        with self.files.open_input_stream(self._note) as stream:
            before = json.loads(stream.read())
        changed = [name for name in self._run if before.get(name) != self._run[name]]
        if changed:
            msg = f"{output} was begun with another {' and '.join(changed)}: give the same, or another --output."
            raise FileExistsError(msg)

    def begin(self, model: Path) -> None:
        """Note how the table is begun, with the model, which every worker takes from here."""
        if self._exists(self._note):
            return
        for name in MODEL:
            with self.files.open_output_stream(f"{self._root}/{name}") as stream:
                stream.write(model.with_suffix(Path(name).suffix).read_bytes())
        with self.files.open_output_stream(f"{self._note}.part") as stream:
            stream.write(f"{json.dumps(self._run, indent=2)}\n".encode())
        self.files.move(f"{self._note}.part", self._note)

    def _exists(self, path: str) -> bool:
        return bool(self.files.get_file_info(path).type != fs.FileType.NotFound)

    def list(self, photographs: Iterator[Photograph]) -> NDArray[np.int64]:
        """Write down which photographs there are; returns their ids."""
        ids: list[NDArray[np.int64]] = []
        first = next(photographs, None)
        if first is None:
            msg = "no photographs at --input: give a folder with some."
            raise FileNotFoundError(msg)
        photographs = chain([first], photographs)
        self.files.create_dir(self._root)
        with parquet.ParquetWriter(self.listing, _PHOTOGRAPHS, filesystem=self.files) as writer:
            while chunk := list(islice(photographs, _CHUNK)):
                ids.append(np.array([photograph.id for photograph in chunk]))
                columns = (ids[-1], *zip(*chunk, strict=True))
                writer.write_table(pa.table(dict(zip(_PHOTOGRAPHS.names, columns, strict=True)), _PHOTOGRAPHS))
        return np.concatenate(ids)

    def counts(self, ids: NDArray[np.int64]) -> Counter[str | None]:
        """Count the rows of photographs by their label, ``None`` for those without a score."""
        counts: Counter[str | None] = Counter()
        if not self._exists(self.scores):
            return counts
        rows = arrow_dataset.dataset(self.scores, filesystem=self.files, format="parquet", schema=None)
        wanted = pa.array(ids)
        for batch in rows.to_batches(columns=["id", "label"]):
            labels = batch.filter(compute.is_in(batch["id"], wanted))["label"]
            counts.update({pair["values"].as_py(): pair["counts"].as_py() for pair in labels.value_counts()})
        return counts


def bulk(
    model: Path,
    input: str,  # noqa: A002  the option's name
    output: str,
    address: str = "local",
    threshold: float = 0.5,
    precision: Literal["f32", "bf16", "f16"] | None = None,
) -> int:
    """Score an archive of photographs with an exported model, on one machine or many.

    The same command goes on with what is there: a photograph that has a row is not scored again, unless its size or
    time is another now, and then it has a further row.

    Args:
        model: OpenVINO model (.xml, with its .bin beside it).
        input: Folder, which is searched with its subfolders, or URI of one, such as s3://bucket/folder.
        output: Folder, or URI of one, for scores/*.parquet. All machines must see it, and the input.
        address: Ray cluster: local starts one on this machine, auto is the one that this machine belongs to, else
            HOST:PORT.
        threshold: Normalised score above which a part is defective; 0.5 is the trained threshold.
        precision: Precision of the arithmetic. Defaults to the one that scores and thresholds were made with.

    Returns:
        Exit status: 0, or 1 if a photograph could not be scored.
    """
    DeployedModel(model, "throughput", precision, threshold)  # says what is wrong with it before anything is begun
    source, output = (place if "://" in place else str(Path(place).resolve()) for place in (input, output))
    archive = Archive(source)
    run = {"model": DeployedModel.digest(model), "input": source, "threshold": threshold, "precision": precision}
    table = Table(output, run)
    with _cluster(address) as workers:
        ids = table.list(archive.photographs())
        table.begin(model)
        before = table.counts(ids)
        if before:
            say(f"Resumed: {before.total()} of {len(ids)} photographs have a row.")
        part = max(_MIN_PART, min(_MAX_PART, len(ids) // (workers * _PARTS_PER_WORKER)))
        _run(table, part, workers, (output, source, threshold, precision))
        counts = table.counts(ids)
    if counts.total() != len(ids):
        msg = f"{table.scores} has {counts.total()} rows of {len(ids)} photographs: did two commands write there?"
        raise ValueError(msg)
    say(f"{counts['good']} good, {counts['defective']} defective, {counts[None]} not scored. Scores: {table.scores}")
    return int(counts[None] > 0 or bool(archive.unreachable))


def _run(table: Table, part: int, workers: int, arguments: tuple[Any, ...]) -> None:
    """Score what has no row yet."""
    context = ray.data.DataContext.get_current()
    context.print_on_execution_start, context.enable_progress_bars = False, sys.stderr.isatty()
    context.checkpoint_config = CheckpointConfig(
        "id", table.done, override_filesystem=table.files, delete_checkpoint_on_success=False
    )
    # Reading and writing rows takes no core from the models.
    photographs = ray.data.read_parquet(table.listing, filesystem=table.files, num_cpus=0)
    scored = photographs.repartition(target_num_rows_per_block=part).map_batches(
        Scorer,
        fn_constructor_args=arguments,
        batch_size=part,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
    )
    scored.write_parquet(table.scores, filesystem=table.files, ray_remote_args={"num_cpus": 0})


@contextmanager
def _cluster(address: str) -> Iterator[int]:
    """Connect to Ray, or start it.

    Yields:
        How many models can work at a time.
    """
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    if address not in {"auto", "local"}:
        _insist_on_answer(address)
    cores = len(os.sched_getaffinity(0)) + _CLERKS if address == "local" else None
    # For the workers: each of their threads would have up to eight heaps per core to itself, and memory would grow.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    ray.init(address, num_cpus=cores, log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what it says stands in the one line of the error too
    try:
        workers = int(ray.cluster_resources()["CPU"]) - _CLERKS
        if workers < 1:
            msg = f"the cluster at {address} needs {_CLERKS + 1} cores or more: Ray Data's own steps take {_CLERKS}."
            raise ValueError(msg)
        yield workers
    finally:
        ray.shutdown()


def _insist_on_answer(address: str) -> None:
    """Raise an error if nobody answers; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        msg = f"--address must be local, auto or HOST:PORT, got {address}."
        raise ValueError(msg)
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        msg = f"no Ray cluster answers at {address} ({error}): start it, or give another --address."
        raise ConnectionError(msg) from error


def file_system(place: str) -> tuple[fs.FileSystem, str]:
    """Return the file system and the path in it of a folder or URI."""
    if "://" in place:
        files, path = fs.FileSystem.from_uri(place)
        return files, path.rstrip("/")
    return fs.LocalFileSystem(), str(Path(place).resolve())


def _size_and_time(file: Path) -> tuple[int | None, int | None]:
    try:
        known = file.stat()
    except OSError:  # scoring says why
        return None, None
    return known.st_size, known.st_mtime_ns // 1000


def _row(result: Prediction | Exception) -> dict[str, Any]:
    if isinstance(result, Exception):
        return {"error": " ".join(str(result).split())}
    return {"raw_score": result.raw_score, "normalised_score": result.score, "label": result.label}


def _from_text(text: str) -> str:
    """Undo ``as_text``."""
    return os.fsdecode(re.sub(rb"//([0-9a-f]{2})", lambda byte: bytes.fromhex(byte[1].decode()), text.encode()))


def main(arguments: list[str] | None = None) -> int:
    """Run the command, with errors as one line."""
    try:
        return run_command(bulk, arguments)
    except KeyboardInterrupt:
        say("Interrupted; the same command goes on.", sys.stderr)
        return _INTERRUPTED
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1].strip().rstrip(".")
        return fail(f"{reason}. Once that is mended, the same command goes on.")
    except (OSError, ValueError, jsonargparse.ArgumentError) as error:
        return fail(str(error))
