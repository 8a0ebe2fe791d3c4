# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Files that are written as a whole, and what they hold."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def replace(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file as a whole or not at all; its parts one after the other."""
    partial = path.with_name(path.name + ".part")
    try:
        with partial.open("wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def sha256(file: Path) -> str:
    """Return the digest of a file's content, hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
