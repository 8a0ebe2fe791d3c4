# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Files that are written as a whole, and what they hold."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


def replace(path: Path, data: bytes | Iterable[bytes], *, is_durable: bool = True) -> None:
    """Write a file as a whole or not at all; its parts one after the other.

    Args:
        path: The file.
        data: Its content.
        is_durable: Whether that holds if the machine loses power, too, which takes a few milliseconds.

    Raises:
        OSError: If it cannot be written; names it.
    """
    partial = path.with_name(path.name + ".part")
    try:
        with partial.open("wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            if is_durable:
                file.flush()
                os.fsync(file.fileno())  # else the new name may reach the disk before the content does
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.strerror is not None and error.filename is None:
            error.filename = str(path)  # of a full disk Python names none
        raise


def sha256(file: Path) -> str:
    """Return the digest of a file's content, hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
