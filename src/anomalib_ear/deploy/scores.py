# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The table of scores: whole lines, and each photograph once, known by its path and its content."""

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from anomalib_ear.deploy.files import replace
from anomalib_ear.deploy.photographs import as_text

COLUMNS = ("path", "raw_score", "normalised_score", "label", "sha256")
# The line's table also says what has changed since training, as far as the photographs until then tell, and why a score
# may mean little.
LINE_COLUMNS = (*COLUMNS, "drift", "doubt")


class ScoreTable:
    """``scores.csv`` in the folder of the output, and ``scores.json``, which says what its scores depend on.

    It is open until ``close``, and nobody else can open it: two commands would both write a row for a photograph.

    Args:
        folder: Folder of the output.
        run: What scores depend on; must be the same when a table goes on.
        resume: Whether to go on with a table that is there.

    Attributes:
        path: File of the table.

    Raises:
        FileExistsError: If there is a table and ``resume`` is off.
        OSError: If it cannot be written, or another command writes it.
        ValueError: If it was made in another way, or is damaged.
    """

    def __init__(self, folder: Path, run: dict[str, Any], *, resume: bool) -> None:
        self.path = folder / "scores.csv"
        if self.path.exists() and not resume:
            msg = f"{self.path} is there already: go on with it by --resume true, or give another --output."
            raise FileExistsError(msg)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"--output {folder} cannot be made: {error.strerror}."
            raise OSError(msg) from error
        self._lock = FileLock(self.path.with_suffix(".lock"))
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            msg = f"another command writes {self.path}: end it first, or give another --output."
            raise BlockingIOError(msg) from error
        try:
            self._open(run)
        except Exception:
            self.close()
            raise

    def _open(self, run: dict[str, Any]) -> None:
        """Begin a table, or go on with the one that is there."""
        note = self.path.with_suffix(".json")
        if self.path.exists():
            check_run(note, note.read_bytes() if note.exists() else b"", run)
            self._write(self._whole_rows())
        else:
            replace(note, (json.dumps(run, indent=2) + "\n").encode())
            self._write([])

    def close(self) -> None:
        """Let others open the table."""
        self._lock.release()

    def rows(self) -> Iterator[list[str]]:
        """Read the rows one by one: there may be more than memory holds."""
        with self.path.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            next(rows)
            yield from rows

    def append(self, row: tuple[str, ...]) -> None:
        """Append a row, or raise OSError and leave the table as it was, or as somebody has moved it away."""
        data = encode([row])
        # Without a buffer a row is in the file or it is not, and nothing is left to be written later. Not made anew: it
        # would have no header.
        try:
            table = self.path.open("r+b", buffering=0)
        except FileNotFoundError as error:
            msg = f"{self.path} was moved away: move it back, or the next run begins a new one."
            raise OSError(msg) from error
        with table as file:
            end = file.seek(0, os.SEEK_END)
            try:
                while data:
                    data = data[file.write(data) :]
            except OSError as error:
                file.truncate(end)
                msg = f"cannot write {self.path}: {error.strerror}."
                raise OSError(msg) from error

    def drop(self, names: set[str]) -> None:
        """Take rows out, of photographs by their paths as text."""
        if names:
            self._write(row for row in self.rows() if row[0] not in names)

    def _whole_rows(self) -> Iterator[list[str]]:
        """Read the rows one by one, without the torn one that a machine leaves when it loses power.

        Raises:
            ValueError: If one of them is no row.
        """
        last: list[str] | None = None
        try:
            with self.path.open("rb") as file:
                rows = csv.reader(line.decode() for line in file if line.endswith(b"\n"))
                self._check_columns(next(rows, []))
                for row in rows:
                    if last is not None:
                        self._check_length(last)
                        yield last
                    last = row
        except (UnicodeDecodeError, csv.Error) as error:
            msg = f"{self.path} is damaged ({error}): give another --output."
            raise ValueError(msg) from error
        if last is not None and len(last) >= len(LINE_COLUMNS):  # else it is torn inside a name that has a line break
            self._check_length(last)
            yield last

    def _check_columns(self, header: list[str]) -> None:
        if not header:
            msg = f"{self.path} is damaged (it is empty): give another --output."
            raise ValueError(msg)
        if tuple(header) != LINE_COLUMNS:
            msg = (
                f"{self.path} has the columns {','.join(header)}, maybe of another version; "
                f"this one writes {','.join(LINE_COLUMNS)}: give another --output."
            )
            raise ValueError(msg)

    def _check_length(self, row: list[str]) -> None:
        if len(row) != len(LINE_COLUMNS):
            msg = f"{self.path} is damaged (a row has {len(row)} values): give another --output."
            raise ValueError(msg)

    def _write(self, rows: Iterable[Sequence[str]]) -> None:
        """Write the table as a whole."""
        replace(self.path, (encode([row]) for row in chain([LINE_COLUMNS], rows)))


def as_row(path: Path, raw_score: float | None, score: float, label: str, digest: str) -> tuple[str, ...]:
    """Write a row of ``COLUMNS``; a raw score that is not known stays empty."""
    return as_text(path), "" if raw_score is None else f"{raw_score:.6f}", f"{score:.6f}", label, digest


def check_run(place: object, note: bytes, run: dict[str, Any]) -> None:
    """Check that a table goes on as it was begun.

    Args:
        place: File or URI of the note, for the error.
        note: What it holds, JSON.
        run: What scores depend on now.

    Raises:
        ValueError: If the note is damaged, or says something else.
    """
    try:
        before = json.loads(note)
        changed = [name for name in run if before.get(name) != run[name]]
    except (ValueError, AttributeError) as error:
        msg = f"{place} does not say how the scores beside it were begun: give another --output."
        raise ValueError(msg) from error
    if changed:
        other = " and ".join(changed)
        msg = f"the scores beside {place} were begun with another {other}: give the same, or another --output."
        raise ValueError(msg)


def encode(rows: Iterable[Sequence[str]]) -> bytes:
    """Write rows as CSV; Python's writer leaves a carriage return unquoted in some versions."""
    text = io.StringIO(newline="")
    for row in rows:
        quoting: Literal[0, 1] = csv.QUOTE_ALL if "\r" in row[0] else csv.QUOTE_MINIMAL
        csv.writer(text, lineterminator="\n", quoting=quoting).writerow(row)
    return text.getvalue().encode()
