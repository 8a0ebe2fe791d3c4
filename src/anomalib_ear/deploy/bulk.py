# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Score an archive of photographs on one machine or many, with Ray Data.

    python -m anomalib_ear.bulk --model model.xml --input FOLDER --output FOLDER

Ray Data hands out the work, does again what a lost worker had, and notes which photographs have a row. Decoding, resize
and scores are those of the line. Photographs and table are in :mod:`anomalib_ear.deploy.archive`; only here is ray
imported.
"""

import errno
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jsonargparse
import pyarrow as pa
import ray
import ray.data
from ray.data.checkpoint import CheckpointConfig

from anomalib_ear.deploy.archive import MODEL, Archive, Table, file_system
from anomalib_ear.deploy.command import INTERRUPTED, check_output, fail, run_command, say
from anomalib_ear.deploy.model_file import digest
from anomalib_ear.deploy.runtime import DeployedModel, Prediction
from anomalib_ear.deploy.sizes import DOUBTFUL
from anomalib_ear.deploy.threads import available_cores, in_order

# Photographs of one Parquet file: what a worker that is lost has scored for nothing, and what pays for handing it out.
_MIN_PART, _MAX_PART = 16, 1000
# Files per worker where there are enough photographs, so that all workers end at about the same time.
_PARTS_PER_WORKER = 8
# Photographs that a worker fetches at a time from a remote file system, whose answers take longer than scores.
_FETCHED_AT_A_TIME = 16
# Cores that Ray Data's own steps ask for and hardly use: listing, and leaving out what has a row.
_CLERKS = 2
# Seconds in which a Ray cluster must answer.
_PATIENCE = 10

# What the system says of one photograph; all else, as of a drive that does not answer, is of many and may pass.
_ITS_OWN = {None, errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG}
_SCORES = pa.schema(
    [
        ("raw_score", pa.float64()),
        ("normalised_score", pa.float64()),
        ("label", pa.string()),
        ("doubt", pa.string()),
        ("error", pa.string()),
    ]
)


class Scorer:
    """A worker of one core, with a model of its own.

    Args:
        output: Folder or URI of the table, with the model.
        source: Folder or URI of the photographs.
        threshold: Score above which a part is defective.
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


def bulk(
    model: Path,
    input: str,  # noqa: A002  the option's name
    output: str,
    address: str = "local",
    threshold: float | None = None,
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
        threshold: Score above which a part is defective. Defaults to the trained threshold, which is 0.5, unless the
            model was exported with another sensitivity or without normalisation.
        precision: Precision of the arithmetic. Defaults to the one that scores and thresholds were made with.

    Returns:
        Exit status: 0, or 1 if a photograph could not be scored.
    """
    check_output(output)
    if not input.strip():  # which would be the working directory
        msg = "--input is empty: give a folder, or the URI of one."
        raise ValueError(msg)
    # Says what is wrong with it before anything is begun.
    threshold = DeployedModel(model, "throughput", precision, threshold).threshold
    source, output = (place if "://" in place else str(Path(place).resolve()) for place in (input, output))
    archive = Archive(source)
    run = {"model": digest(model), "input": source, "threshold": threshold, "precision": precision}
    table = Table(output, run)
    with _cluster(address) as workers:
        ids = table.list(archive.photographs())
        table.begin(model)
        before, _ = table.counts(ids)
        if before:
            say(f"Resumed: {before.total()} of {len(ids)} photographs have a row.")
        part = max(_MIN_PART, min(_MAX_PART, len(ids) // (workers * _PARTS_PER_WORKER)))
        _run(table, part, workers, (output, source, threshold, precision))
        counts, num_doubtful = table.counts(ids)
    if counts.total() != len(ids):
        msg = f"{table.scores} has {counts.total()} rows of {len(ids)} photographs: did two commands write there?"
        raise ValueError(msg)
    say(f"{counts['good']} good, {counts['defective']} defective, {counts[None]} not scored. Scores: {table.scores}")
    if num_doubtful:
        say(f"{num_doubtful} {DOUBTFUL}")
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
    cores = available_cores() + _CLERKS if address == "local" else None
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


def _row(result: Prediction | Exception) -> dict[str, Any]:
    """Write what came out.

    Raises:
        OSError: If the system failed, and not the photograph: a row would keep it from being scored later.
        MemoryError: The same.
    """
    if isinstance(result, Exception):
        text = " ".join((str(result) or repr(result)).split())
        # No subclass: `main` finds the name in what Ray says.
        kind = MemoryError if isinstance(result, MemoryError) else OSError
        if kind is MemoryError or getattr(result, "errno", None) not in _ITS_OWN:
            raise kind(text) from result
        return {"error": text}
    scores = {"raw_score": result.raw_score, "normalised_score": result.score, "label": result.label}
    return {**scores, "doubt": result.doubt}


def main(arguments: list[str] | None = None) -> int:
    """Run the command, with errors as one line."""
    try:
        return run_command(bulk, arguments)
    except KeyboardInterrupt:
        say("Interrupted; the same command goes on.", sys.stderr)
        return INTERRUPTED
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines()
        # Of an error that was raised here Ray's last line says how often it tried.
        own = [line.partition(": ")[2] for line in lines if line.startswith(("OSError: ", "MemoryError: "))]
        reason = (own or lines)[-1].strip().rstrip(".")
        return fail(f"{reason}. Once that is mended, the same command goes on.")
    except (OSError, ValueError, jsonargparse.ArgumentError) as error:
        return fail(str(error))
