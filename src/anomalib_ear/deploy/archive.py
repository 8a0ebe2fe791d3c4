# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""An archive of photographs and the table of its scores, in any file system that pyarrow knows."""

import errno
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.dataset as arrow_dataset
from numpy.typing import NDArray
from pyarrow import fs, parquet

from anomalib_ear.deploy.command import say_found
from anomalib_ear.deploy.photographs import Found, Search, as_one_line, as_text, find
from anomalib_ear.deploy.scores import check_run
from anomalib_ear.images import SUFFIXES

# Rows that are listed or counted at a time.
_CHUNK = 100_000
# The model's files in the output, from which every worker takes it.
MODEL = ("model.xml", "model.bin")
_PHOTOGRAPHS = pa.schema(
    [("id", pa.int64()), ("path", pa.string()), ("size", pa.int64()), ("modified", pa.timestamp("us", "UTC"))]
)

# What is counted of the scores, whose folder is empty until the first part is done.
_SCORED = pa.schema([("id", pa.int64()), ("label", pa.string()), ("doubt", pa.string())])


class Entry(NamedTuple):
    """A photograph in the archive's listing.

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
        self.unreachable: list[str] = []
        self.is_local = isinstance(self._files, fs.LocalFileSystem)
        if self._files.get_file_info(self.root).type != fs.FileType.Directory:
            msg = f"--input {source} is no folder: give a folder or the URI of one."
            raise NotADirectoryError(msg)

    def photographs(self) -> Iterator[Entry]:
        """List the photographs: a folder of this machine as ``infer`` searches it, another without opening any file.

        Says what else was there.

        Raises:
            FileNotFoundError: If there is none.
            OSError: If a remote folder cannot be listed.
            ValueError: If a name in a remote folder is not UTF-8; names the folder.
        """
        if self.is_local:
            found = find(self.root)
            self.unreachable = found.unreachable
            say_found(found)
            for name, file in found.files.items():
                yield Entry(as_text(name), *_size_and_time(file))
            return
        search, folders, is_empty = Search(), [self.root], True
        while folders:
            for path, entry in self._list(folders.pop()):
                suffix = Path(path).suffix.lower()
                if entry.type == fs.FileType.Directory:
                    folders.append(path)
                elif suffix not in SUFFIXES:
                    search.others[suffix] += 1
                elif entry.type != fs.FileType.File:
                    search.unreachable[f"{as_one_line(path)} is neither file nor folder"] = None
                else:
                    is_empty = False
                    time = None if entry.mtime_ns is None else entry.mtime_ns // 1000
                    yield Entry(path.removeprefix(self.root).lstrip("/"), entry.size, time)
        self.unreachable = [*search.unreachable]
        say_found(Found({}, search.left_out(), self.unreachable))
        if is_empty:
            msg = f"no photographs ({', '.join(sorted(SUFFIXES))}) in {self.root}: give a folder with some."
            raise FileNotFoundError(msg)

    def _list(self, folder: str) -> list[tuple[str, fs.FileInfo]]:
        try:
            return [(entry.path, entry) for entry in self._files.get_file_info(fs.FileSelector(folder))]
        except UnicodeDecodeError as error:
            msg = f"folder {folder} has a name that is not UTF-8: rename that file ({error})."
            raise ValueError(msg) from error

    @contextmanager
    def file(self, path: str, folder: Path) -> Iterator[Path]:
        """Give a photograph as a file of this machine.

        Args:
            path: As :meth:`photographs` lists it.
            folder: Where it is copied to, and taken away again, if it is in a remote file system.

        Raises:
            OSError: If it cannot be fetched; names it. With the number of an input/output error where the store says
                none, as for a time-out.
        """
        if self.is_local:
            yield Path(self.root, _from_text(path))
            return
        copy = folder / f"{blake2b(path.encode(), digest_size=8).hexdigest()}{Path(path).suffix}"
        try:
            with self._files.open_input_stream(f"{self.root}/{path}") as stream:
                data = stream.read()
        except OSError as error:
            away = OSError(f"cannot fetch '{path}': {error}")
            away.errno = error.errno or errno.EIO
            raise away from error
        try:
            copy.write_bytes(data)
            yield copy
        except (OSError, ValueError) as error:
            named = type(error)(str(error).replace(str(copy), path))
            if isinstance(named, OSError) and isinstance(error, OSError):
                named.errno = error.errno
            raise named from error
        finally:
            copy.unlink(missing_ok=True)


class Table:
    """Rows of scores in Parquet files, and what they depend on.

    Args:
        output: Folder, or URI of one.
        run: What scores depend on; must be the same when a table goes on.

    Raises:
        OSError: If there is no such file system, or it cannot be written.
        ValueError: If the table was begun in another way, or pyarrow does not know the file system.
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
                raise ValueError(msg)
            return
        with self.files.open_input_stream(self._note) as stream:
            check_run(self._note, stream.read(), self._run)

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

    def list(self, photographs: Iterator[Entry]) -> NDArray[np.int64]:
        """Write down which photographs there are; returns their ids, sorted."""
        ids: list[NDArray[np.int64]] = []
        photographs = chain([next(photographs)], photographs)  # where there is none, before there is an output
        self.files.create_dir(self._root)
        with parquet.ParquetWriter(self.listing, _PHOTOGRAPHS, filesystem=self.files) as writer:
            while chunk := list(islice(photographs, _CHUNK)):
                ids.append(np.array([photograph.id for photograph in chunk]))
                columns = (ids[-1], *zip(*chunk, strict=True))
                writer.write_table(pa.table(dict(zip(_PHOTOGRAPHS.names, columns, strict=True)), _PHOTOGRAPHS))
        known = np.concatenate(ids)
        known.sort()
        return known

    def counts(self, ids: NDArray[np.int64]) -> tuple[Counter[str | None], int]:
        """Count the rows of photographs, by their sorted ids.

        Returns:
            How many have each label, ``None`` for those without a score, and how many scores are in doubt.
        """
        counts: Counter[str | None] = Counter()
        num_doubtful = 0
        if not self._exists(self.scores):
            return counts, num_doubtful
        rows = arrow_dataset.dataset(self.scores, schema=_SCORED, filesystem=self.files, format="parquet")
        for batch in rows.to_batches(columns=_SCORED.names):
            found = batch["id"].to_numpy()
            # pyarrow's own `is_in` would hash all ids anew for each batch.
            places = np.searchsorted(ids, found).clip(max=len(ids) - 1)
            ours = batch.filter(pa.array(ids[places] == found))
            counts.update({pair["values"].as_py(): pair["counts"].as_py() for pair in ours["label"].value_counts()})
            num_doubtful += len(ours) - ours["doubt"].null_count
        return counts, num_doubtful


def file_system(place: str) -> tuple[fs.FileSystem, str]:
    """Return the file system and the path in it of a folder or URI."""
    if "://" in place:
        try:
            files, path = fs.FileSystem.from_uri(place)
        except UnicodeDecodeError as error:
            msg = f"the path in {place} is not UTF-8, so that no URI names it: give the folder itself."
            raise ValueError(msg) from error
        return files, path.rstrip("/")
    return fs.LocalFileSystem(), str(Path(place).resolve())


def _size_and_time(file: Path) -> tuple[int | None, int | None]:
    try:
        known = file.stat()
    except OSError:  # scoring says why
        return None, None
    return known.st_size, known.st_mtime_ns // 1000


def _from_text(text: str) -> str:
    """Undo ``as_text``."""
    return os.fsdecode(re.sub(rb"//([0-9a-f]{2})", lambda byte: bytes.fromhex(byte[1].decode()), text.encode()))
