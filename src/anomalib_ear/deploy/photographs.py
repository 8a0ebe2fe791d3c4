# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Find photographs, and say what else was there. Needs neither torch nor anomalib.

A name on disk is bytes, and most of them are allowed in it. ``as_text`` and ``as_one_line`` write any name.
"""

import fnmatch
import glob
import os
import re
import stat
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from anomalib_ear.deploy.pictures import is_ours
from anomalib_ear.images import MASK_FOLDERS, MASK_NAME, SUFFIXES

# A file of another suffix beside a JPEG of its name is likely to be its mask.
_JPEG = (".jpg", ".jpeg")
# Type bits of what cannot be reached.
_UNREACHABLE = 0


class Found(NamedTuple):
    """What a search found.

    Attributes:
        files: Each photograph by its path under the folder that was searched, sorted.
        left_out: What else was there, in words.
        unreachable: Where photographs may be that cannot be reached, and why, in words.
    """

    files: dict[Path, Path]
    left_out: list[str]
    unreachable: list[str]


def find(source: str) -> Found:
    """Find photographs.

    Links to files and folders are followed. A folder that several links lead to is searched once.

    Args:
        source: Folder (searched with its subfolders), file, or pattern.

    Returns:
        What was found. Paths are those under the source's root.

    Raises:
        FileNotFoundError: If there is no photograph.
    """
    path, root = Path(source), root_of(source)
    search = Search()
    if not source:
        matches = []
    elif path.is_dir():
        matches = list(search.match(path, ("**", "*")))
    elif os.path.lexists(path):
        matches = [path]
    else:
        pattern = path.parts[len(root.parts) :]
        matches = list(search.match(root, pattern)) if pattern else []
        if "**" not in pattern:
            search.leave_out_folders(matches)
    files = search.photographs(matches)
    left_out = search.left_out() + ([f"{len(search.written)} written by this command"] if search.written else [])
    found = Found({file.relative_to(root): file for file in sorted(files)}, left_out, [*search.unreachable])
    if not found.files:
        seen = "".join(f" Left out: {text}." for text in (*found.unreachable, *found.left_out))
        suffixes = ", ".join(sorted(SUFFIXES))
        msg = f"no photographs at {source!r}: give a folder, a file ({suffixes}), or a pattern in quotes.{seen}"
        raise FileNotFoundError(msg)
    return found


def root_of(source: str) -> Path:
    """Return the folder that is searched for photographs: of a pattern the part that has no wildcard."""
    path = Path(source)
    if path.is_dir():
        return path
    if os.path.lexists(path):
        return path.parent
    return Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))


def seeming_masks(names: Iterable[Path]) -> list[Path]:
    """Return which photographs seem to be masks by their names.

    Args:
        names: Paths of photographs under the folder that was searched.

    Returns:
        Those in a folder for masks, of a name that ends as masks' do, or beside a JPEG of their name.
    """
    names = list(names)
    photographs = {name.with_suffix("") for name in names if name.suffix.lower() in _JPEG}
    return [
        name
        for name in names
        if set(name.parts[:-1]) & set(MASK_FOLDERS)
        or MASK_NAME.search(name.stem)
        or (name.suffix.lower() not in _JPEG and name.with_suffix("") in photographs)
    ]


def doubts(folder: Path) -> list[str]:
    """Say what anomalib leaves out of a folder, and what it takes that seems to be no photograph.

    It takes files by their suffix, and follows links to files but not to folders.
    """
    search = Search()
    files = [*search.photographs(list(search.match(folder, ("**", "*")))), *search.written]
    texts = [f"In '{as_one_line(folder)}' is left out: {text}." for text in [*search.unreachable, *search.left_out()]]
    linked = [file for file in files if any(up.is_symlink() for up in file.parents if folder in up.parents)]
    taken = sorted({*files} - {*linked})
    masks = [folder / name for name in seeming_masks(file.relative_to(folder) for file in taken)]
    results = sorted({*search.written} - {*linked})
    for paths, text in (
        (linked, "are left out, for they are behind a link to a folder: give that folder instead."),
        (masks, "are taken for photographs: are they masks?"),
        (results, "are taken for photographs: they show results."),
    ):
        if paths:
            texts.append(f"{len(paths)} files like '{as_one_line(paths[0])}' {text}")
    return texts


class Search:
    """One search, and what it met.

    Attributes:
        unreachable: Folders and files that cannot be reached, in words, each once.
        written: Pictures that the line wrote.
        others: How many files there are of each other suffix, in lower case.
    """

    def __init__(self) -> None:
        self.unreachable: dict[str, None] = {}
        self.written: list[Path] = []
        self.others: Counter[str] = Counter()
        self._folders_left_out: dict[str, None] = {}

    def match(self, folder: Path, pattern: tuple[str, ...]) -> Iterator[Path]:
        """Yield what matches a pattern under a folder; ``**`` stands for any number of folders."""
        head, *rest = pattern
        if head == "**":
            for below in self.folders(folder):
                yield from self.match(below, tuple(rest) or ("*",))
            return
        for path in self.list(folder):
            if fnmatch.fnmatch(path.name, head):
                if not rest:
                    yield path
                elif self._is_folder(path):
                    yield from self.match(path, tuple(rest))

    def photographs(self, paths: list[Path]) -> list[Path]:
        """Return those that are photographs by their names, even if they cannot be read, and note the others."""
        files = []
        for path in dict.fromkeys(paths):
            if self._is_folder(path):
                continue
            kind = _kind(path)
            if path.suffix.lower() not in SUFFIXES:
                if kind != _UNREACHABLE:  # which is noted
                    self.others[path.suffix.lower()] += 1
            elif kind not in {stat.S_IFREG, _UNREACHABLE}:
                self._note(self.unreachable, path, "is neither file nor folder")
            elif is_ours(path):
                self.written.append(path)
            else:
                files.append(path)
        return files

    def leave_out_folders(self, paths: list[Path]) -> None:
        """Note folders that a pattern matches: it is searched for files, and ``**`` stands for folders."""
        for path in paths:
            if _kind(path) == stat.S_IFDIR:
                self._note(self._folders_left_out, path, "is a folder, which a pattern with ** searches")

    def left_out(self) -> list[str]:
        """Say which folders and files were left out; ``written`` has those that the line wrote."""
        kinds = sorted((suffix or "without suffix", count) for suffix, count in self.others.items())
        counted = [f"{count} {kind}" for kind, count in kinds]
        return [*self._folders_left_out, *([f"no photographs: {', '.join(counted)}"] if counted else [])]

    @staticmethod
    def _note(texts: dict[str, None], path: Path, text: str) -> None:
        """Note something about a path, once."""
        texts[f"{as_one_line(path)} {text}"] = None

    def folders(self, top: Path) -> Iterator[Path]:
        """Yield a folder and all below it, each real one once; links come last, so that real paths are preferred."""
        folders, links = deque([top]), deque[Path]()
        seen = set()
        while folders or links:
            folder = folders.popleft() if folders else links.popleft()
            real = folder.resolve()
            if real in seen or (folder != top and real in folder.parent.resolve().parents):
                text = "leads to a folder above it or to one that is searched already"
                self._note(self._folders_left_out, folder, text)
                continue
            seen.add(real)
            yield folder
            for path in self.list(folder):
                if self._is_folder(path):
                    (links if path.is_symlink() else folders).append(path)

    def _is_folder(self, path: Path) -> bool:
        """Return whether a path is a folder, and note it if it may have been one."""
        kind = _kind(path)
        if kind == _UNREACHABLE and path.suffix.lower() not in SUFFIXES:
            self._note(self.unreachable, path, "cannot be reached: a broken link, or in a folder that may not be read")
        return kind == stat.S_IFDIR

    def list(self, folder: Path) -> Iterator[Path]:
        """List a folder; names take less memory than paths."""
        try:
            names = sorted(os.listdir(folder))  # noqa: PTH208
        except OSError as error:
            self._note(self.unreachable, folder, f"cannot be searched: {error.strerror}")
            return
        yield from (folder / name for name in names)


def _kind(path: Path) -> int:
    """Return the type bits of what a path leads to."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except OSError:
        return _UNREACHABLE


def as_text(path: Path) -> str:
    r"""Write a relative path as UTF-8 that names it alone.

    It is the path with ``/`` between folders, exactly. A byte that is not UTF-8 becomes ``//`` and its two hexadecimal
    digits, which stand in no path otherwise: ``b"latin\xe4.png"`` is ``latin//e4.png``.
    """
    text = os.fsencode(path.as_posix()).decode("utf-8", "surrogateescape")
    return re.sub("[\udc80-\udcff]", lambda byte: f"//{ord(byte[0]) - 0xDC00:02x}", text)


def as_one_line(text: object) -> str:
    """Write text for people, with control characters and undecodable bytes as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(text))
