# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Folders that are either there as a whole or not at all, and the download of a zipped data set into one.

anomalib's ``download_and_extract`` writes into the final folder, takes the archive that an interrupted run left behind
for a whole one, skips members that would leave the folder, and waits for ever on a connection that is lost.
"""

import logging
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen
from zipfile import BadZipFile, ZipFile

from anomalib.data.utils.download import check_hash
from anomalib.data.utils.path import is_within_directory
from tqdm import tqdm

logger = logging.getLogger(__name__)

TIMEOUT = 60  # seconds without a byte after which a connection counts as lost
PARTIAL = ".partial"  # suffix of a hidden folder in which something is prepared


def is_missing(folder: Path) -> bool:
    """Return whether there is no such folder, or nothing in it but what :func:`preparation` has or left there."""
    return not folder.exists() or (folder.is_dir() and all(path.suffix == PARTIAL for path in folder.iterdir()))


@contextmanager
def preparation(folder: Path) -> Iterator[Path]:
    """Give a hidden folder for what :func:`put_in_place` moves, and delete it afterwards.

    It is on the same disk: in the folder if that exists, for it may be a mount point, else beside it. Links are
    followed.

    Args:
        folder: Where the content will go; it must not exist or be empty.

    Yields:
        An empty folder.

    Raises:
        OSError: If it cannot be made.
    """
    folder = folder.resolve()
    partial = (folder if folder.exists() else folder.parent) / f".{folder.name}.{uuid.uuid4().hex}{PARTIAL}"
    try:
        partial.mkdir(parents=True)
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def put_in_place(content: Path, folder: Path) -> None:
    """Rename a folder in its :func:`preparation` to what it was prepared for.

    A folder that exists stays, for it may be a mount point, and gets all that is in the content.

    Raises:
        OSError: If it cannot be renamed, or the folder is no longer empty.
    """
    folder = folder.resolve()
    if not is_missing(folder):
        msg = f"'{folder}' is no longer empty"
        raise FileExistsError(msg)
    if not folder.exists():
        content.rename(folder)
        return
    for path in content.iterdir():
        path.rename(folder / path.name)


def download_archive(url: str, folder: Path, *, checksum: str | None, check: Callable[[Path], None]) -> None:
    """Download a zip archive, check it, and put its content in place.

    All of it happens in a hidden folder, see :func:`preparation`.

    Args:
        url: Address of the archive, ``http://`` or ``https://``.
        folder: Where the content goes; it must not exist or be empty.
        checksum: MD5 of the archive in hexadecimal; ``None`` skips this check.
        check: Called with the unpacked folder before it is put in place; raises if anything
            is missing.

    Raises:
        OSError: If the download is interrupted, or there is no permission or space to write it.
        ValueError: If the archive is not the one expected, not a zip archive, or a member would leave the folder.
    """
    if not url.startswith(("http://", "https://")):
        msg = f"the address of the archive must begin with http:// or https://, got {url!r}"
        raise ValueError(msg)
    by_hand = f"Try again, or unpack {url} by hand into '{folder}'"
    try:
        with preparation(folder) as partial:
            archive = partial / "archive.zip"
            logger.info("Downloading %s.", url)
            _fetch(url, archive, name=folder.name)
            if checksum is not None:
                _check_md5(archive, url, checksum)
            content = _unpack(archive, partial / "content", url)
            check(content)
            put_in_place(content, folder)
    except (OSError, HTTPException) as error:
        msg = f"could not download {url} to '{folder}': {error}. {by_hand}, or choose another root (--data.root)."
        raise OSError(msg) from error


def _fetch(url: str, archive: Path, *, name: str) -> None:
    """Write what an address gives to a file; ``urlretrieve`` would wait for ever on a connection that is lost."""
    with urlopen(url, timeout=TIMEOUT) as response, archive.open("wb") as file:  # noqa: S310  # the scheme was checked
        length = response.headers["Content-Length"]
        total = None if length is None else int(length)
        with tqdm.wrapattr(response, "read", total=total, desc=name) as stream:
            shutil.copyfileobj(stream, file)
    if total is not None and (size := archive.stat().st_size) != total:
        msg = f"the connection ended after {size} of {total} bytes"
        raise OSError(msg)


def _check_md5(archive: Path, url: str, checksum: str) -> None:
    try:
        check_hash(archive, checksum.lower(), algorithm="md5")
    except ValueError as error:
        msg = (
            f"what came from {url} is not the archive expected (MD5 {checksum}): {error} If you trust it, pass its own "
            "checksum (--data.checksum), or null to skip this check."
        )
        raise ValueError(msg) from error


def _unpack(archive: Path, content: Path, url: str) -> Path:
    """Unpack an archive and return the folder of its content, without a top folder that holds everything."""
    try:
        with ZipFile(archive) as file:
            for name in file.namelist():
                if not is_within_directory(content, content / name):
                    msg = f"the archive from {url} is refused: its member {name!r} would be written outside the folder"
                    raise ValueError(msg)
            file.extractall(content)
    except BadZipFile as error:
        msg = f"what came from {url} is not a whole zip archive: {error}"
        raise ValueError(msg) from error
    inside = list(content.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else content
