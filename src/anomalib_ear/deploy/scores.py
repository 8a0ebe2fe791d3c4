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

COLUMNS = ("path", "raw_score", "normalised_score", "label", "sha256")
# The line's table also says what has changed since training, as far as the photographs until then tell.
LINE_COLUMNS = (*COLUMNS, "drift")


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
        folder.mkdir(parents=True, exist_ok=True)
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
        rows: dict[str, list[str]] = {}
        if self.path.exists():
            self._check(run)
            rows = {row[0]: row for row in self._read()}
        else:
            replace(self.path.with_suffix(".json"), (json.dumps(run, indent=2) + "\n").encode())
        self._write(rows.values())

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
        """Append a row, or raise OSError and leave the table as it was."""
        data = encode([row])
        # Without a buffer a row is in the file or it is not, and nothing is left to be written later.
        with self.path.open("ab", buffering=0) as file:
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

    def _check(self, run: dict[str, Any]) -> None:
        """Raise an error if the table was begun in another way."""
        note = self.path.with_suffix(".json")
        try:
            before = json.loads(note.read_text(encoding="utf-8"))
            changed = [name for name in run if before.get(name) != run[name]]
        except (OSError, ValueError, AttributeError) as error:
            msg = f"{note} does not say how {self.path} was begun: give another --output."
            raise ValueError(msg) from error
        if changed:
            msg = f"{self.path} was begun with another {' and '.join(changed)}: give the same, or another --output."
            raise ValueError(msg)

    def _read(self) -> list[list[str]]:
        """Read the rows, without the torn one that a machine leaves when it loses power."""
        data = self.path.read_bytes()
        try:
            text = data[: data.rfind(b"\n") + 1].decode()
            header, *rows = csv.reader(io.StringIO(text, newline=""), strict=False)
        except (UnicodeDecodeError, ValueError, csv.Error) as error:
            msg = f"{self.path} is damaged ({error}): give another --output."
            raise ValueError(msg) from error
        if rows and len(rows[-1]) < len(LINE_COLUMNS):  # torn inside a name that has a line break
            del rows[-1]
        if tuple(header) != LINE_COLUMNS or any(len(row) != len(LINE_COLUMNS) for row in rows):
            msg = (
                f"{self.path} has the columns {','.join(header)}, maybe of another version; "
                f"this one writes {','.join(LINE_COLUMNS)}: give another --output."
            )
            raise ValueError(msg)
        return rows

    def _write(self, rows: Iterable[Sequence[str]]) -> None:
        """Write the table as a whole."""
        replace(self.path, (encode([row]) for row in chain([LINE_COLUMNS], rows)))


def encode(rows: Iterable[Sequence[str]]) -> bytes:
    """Write rows as CSV; Python's writer leaves a carriage return unquoted in some versions."""
    text = io.StringIO(newline="")
    for row in rows:
        quoting: Literal[0, 1] = csv.QUOTE_ALL if "\r" in row[0] else csv.QUOTE_MINIMAL
        csv.writer(text, lineterminator="\n", quoting=quoting).writerow(row)
    return text.getvalue().encode()
