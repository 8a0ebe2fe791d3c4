# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Watch a folder for photographs.

The file system's notices only make it quick: some get lost, and network drives send none. So the folder is searched now
and then, and what counts is what a search finds. What was seen is kept in a temporary database of SQLite's, which is on
disk as soon as it grows: memory does not depend on how many photographs there are.
"""

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import NamedTuple

import watchfiles

from anomalib_ear.deploy.photographs import Search, as_one_line, as_text
from anomalib_ear.deploy.pictures import is_ours
from anomalib_ear.images import SUFFIXES

# Seconds without a change after which a file is whole.
SETTLED = 1.0
# Seconds between searches, and how many times as long as a search there is none.
_SEARCH_EVERY, _REST = 10.0, 20
# Seconds that a search takes at a time, so that results are not kept waiting.
_SEARCH_STEP = 0.1
# Files that may be waited for at once. A search goes on when there are fewer.
_MAX_WAITING = 1000
# Kinds of files that are no photographs, of which a watch says so.
_MAX_KINDS = 10
# Milliseconds: the wait for notices, and over how long they are gathered.
_PATIENCE, _GATHERED = 100, 200


class Sighting(NamedTuple):
    """A file as it was seen.

    Attributes:
        stamp: Its size in bytes and its times in nanoseconds, as text.
        since: When it was first seen so, in seconds of a monotonic clock.
    """

    stamp: str
    since: float


class Arrival(NamedTuple):
    """A photograph to look at.

    Attributes:
        name: Its path under the folder.
        file: Where it is.
        digest: SHA-256 of it in the table, ``None`` if it is not there.
    """

    name: Path
    file: Path
    digest: str | None


class Seen:
    """What was seen of each photograph, by its path as text.

    Args:
        digests: Path and SHA-256 of each photograph that has a score.
    """

    def __init__(self, digests: Iterable[tuple[str, str]]) -> None:
        self._base = sqlite3.connect("", isolation_level=None)  # the name of a temporary database
        self._base.execute("PRAGMA journal_mode = OFF")
        self._base.execute(
            "CREATE TABLE seen (name TEXT PRIMARY KEY, stamp TEXT, digest TEXT, failed INTEGER DEFAULT 0) WITHOUT ROWID"
        )
        # Of several rows of one photograph, which only others write, the last one counts.
        self._base.executemany("INSERT OR REPLACE INTO seen (name, digest) VALUES (?, ?)", digests)

    def close(self) -> None:
        """Take the database away."""
        self._base.close()

    def stamp(self, name: str) -> str | None:
        """Return how a file was when it was last looked at."""
        return self._get("stamp", name)

    def digest(self, name: str) -> str | None:
        """Return a photograph's digest in the table."""
        return self._get("digest", name)

    def look(self, name: str, stamp: str) -> None:
        """Note that a file is looked at."""
        self._base.execute(
            "INSERT INTO seen (name, stamp) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET stamp = excluded.stamp",
            (name, stamp),
        )

    def done(self, name: str, digest: str | None, *, failed: bool = False, again: bool = False) -> None:
        """Note what the table has of a file that was looked at, and whether to look again though it does not change."""
        self._base.execute("UPDATE seen SET digest = ?, failed = ? WHERE name = ?", (digest, failed, name))
        if again:
            self._base.execute("UPDATE seen SET stamp = NULL WHERE name = ?", (name,))

    @property
    def failed(self) -> int:
        """How many photographs could not be scored as they last were."""
        return int(self._base.execute("SELECT total(failed) FROM seen").fetchone()[0])

    def _get(self, column: str, name: str) -> str | None:
        row = self._base.execute(f"SELECT {column} FROM seen WHERE name = ?", (name,)).fetchone()  # noqa: S608
        return row[0] if row else None


class Watch:
    """Photographs of a folder and its subfolders: those that are there, and those that appear or change.

    Args:
        folder: The folder.
        seen: What was seen before.
        stop: Ends the watch when it is set.
        say: Takes what a person should know, as one line.

    Raises:
        FileNotFoundError: If the folder is not there.
    """

    def __init__(self, folder: Path, seen: Seen, stop: Event, say: Callable[[str], None]) -> None:
        self.folder, self.seen, self.stop, self._say = folder, seen, stop, say
        self._identity = self._identify()
        self._waiting: dict[Path, Sighting] = {}
        self._at_work: set[Path] = set()
        # Folders, by their real paths, as they are searched: by no other path, though links may lead there.
        self._folders: dict[str, Path] = {}
        self._said: set[str] = set()
        self._kinds: set[str] = set()
        self._search: Iterator[Path] | None = None
        self._took = self._rested = self._due = 0.0
        self._is_asked = False

    def __iter__(self) -> Iterator[Arrival | None]:
        """Yield whole files, none again before ``done``, and ``None`` several times a second.

        Raises:
            FileNotFoundError: If the folder is no longer there.
            OSError: If the system does not let it be watched.
        """
        try:
            for changes in watchfiles.watch(
                self.folder,
                watch_filter=None,
                stop_event=self.stop,
                rust_timeout=_PATIENCE,
                yield_on_timeout=True,
                debounce=_GATHERED,
                ignore_permission_denied=True,
            ):
                if self._identify() != self._identity:
                    raise FileNotFoundError(self._gone)
                for change, path in changes:
                    if change != watchfiles.Change.deleted:
                        self._notice(Path(path))
                self._go_on_searching()
                yield from self._whole()
                yield None
        except RuntimeError as error:  # watchfiles' own
            msg = f"{self.folder} cannot be watched: {error}."
            raise OSError(msg) from error

    def done(self, arrival: Arrival, digest: str | None, *, failed: bool = False, again: bool = False) -> None:
        """Note what came of a photograph.

        Args:
            arrival: As it was yielded.
            digest: SHA-256 of it in the table, ``None`` if it is not there.
            failed: Whether it could not be scored.
            again: Whether the next search shall yield it again though it has not changed.
        """
        self.seen.done(as_text(arrival.name), digest, failed=failed, again=again)
        self._at_work.discard(arrival.file)

    @property
    def _gone(self) -> str:
        return f"the folder {self.folder} is no longer there."

    def _identify(self) -> tuple[int, int]:
        """Tell the folder from another one in its place."""
        try:
            status = self.folder.stat()
        except OSError as error:
            raise FileNotFoundError(self._gone) from error
        return status.st_dev, status.st_ino

    def _notice(self, path: Path) -> None:
        """Look at what has changed."""
        folder = self._folders.get(os.path.realpath(path.parent))
        if folder is None or path.is_dir() or len(self._waiting) >= _MAX_WAITING:
            self._is_asked = True
        else:
            self._wait_for(folder / path.name)

    def _go_on_searching(self) -> None:
        """Search the folder, as far as there are time and room for what is found."""
        begin = now = time.monotonic()
        if self._search is None:
            if now < (self._rested if self._is_asked else self._due):
                return
            self._search, self._is_asked, self._took = self._files(), False, 0.0
        for file in self._search:
            self._wait_for(file)
            now = time.monotonic()
            if len(self._waiting) >= _MAX_WAITING or now > begin + _SEARCH_STEP:
                self._took += now - begin
                return
        now = time.monotonic()
        self._search = None
        self._rested = now + _REST * (self._took + now - begin)
        self._due = max(self._rested, now + _SEARCH_EVERY)

    def _files(self) -> Iterator[Path]:
        """Yield what is in the folder and its subfolders, by one path each."""
        search, folders = Search(), dict[str, Path]()
        for folder in search.folders(self.folder):
            real = os.path.realpath(folder)
            self._folders[real] = folders[real] = folder
            yield from search.list(folder)
        self._folders = folders
        for text in search.unreachable:
            self._say_once(f"not searched: {text}")

    def _wait_for(self, file: Path) -> None:
        """Wait until a file is whole, if it is a photograph that was not looked at as it is."""
        suffix = file.suffix.lower()
        if suffix not in SUFFIXES:
            kind = f"{suffix} files" if suffix else "files without suffix"
            # Programs that copy give their files names of any ending until they are whole.
            if kind not in self._kinds and len(self._kinds) <= _MAX_KINDS and file.is_file():
                self._kinds.add(kind)
                kind = "further kinds of files" if len(self._kinds) > _MAX_KINDS else kind
                self._say_once(f"left out: {kind}, which are no photographs")
            return
        stamp = self._stamp(file)
        waiting = self._waiting.get(file)
        if stamp is None or stamp == (waiting.stamp if waiting else self.seen.stamp(self._text(file))):
            return
        self._waiting[file] = Sighting(stamp, time.monotonic())

    def _whole(self) -> Iterator[Arrival]:
        """Yield the photographs that have not changed for a while."""
        for file, (before, since) in list(self._waiting.items()):
            if time.monotonic() < since + SETTLED or file in self._at_work:
                continue
            if self.stop.is_set():
                return
            stamp = self._stamp(file)
            if stamp is not None and stamp != before:
                self._waiting[file] = Sighting(stamp, time.monotonic())
                continue
            del self._waiting[file]
            if stamp is not None:
                text = self._text(file)
                self.seen.look(text, stamp)
                if not is_ours(file):
                    self._at_work.add(file)
                    yield Arrival(file.relative_to(self.folder), file, self.seen.digest(text))

    def _stamp(self, file: Path) -> str | None:
        """Return size and times of a file, of a broken link its own; ``None`` for what is no file.

        A copy that keeps the time of modification has another time of change, or on Windows of creation.
        """
        for follow in (True, False):
            with suppress(OSError):
                status = file.stat(follow_symlinks=follow)
                if stat.S_ISREG(status.st_mode) or not follow:
                    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
                if not stat.S_ISDIR(status.st_mode):  # to open a pipe would wait for its other end
                    self._say_once(f"not scored: {file} is neither file nor folder")
                return None
        return None

    def _text(self, file: Path) -> str:
        return as_text(file.relative_to(self.folder))

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._say(as_one_line(text))
