# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Images that occur more than once in a data set, byte for byte; ``__main__`` is the command."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from anomalib_ear.images import MASK_FOLDERS, SUFFIXES

_MASK = re.compile(r"_(label|GT|mask)$")


def images_below(root: Path) -> list[Path]:
    """List the images below a folder, without masks.

    Args:
        root: Folder of the data set.

    Returns:
        Image files, sorted.

    Raises:
        FileNotFoundError: If the folder does not exist or has no image.
    """
    if not root.is_dir():
        msg = f"'{root}' is not a folder"
        raise FileNotFoundError(msg)
    images = [
        path
        for path in sorted(root.rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and not _MASK.search(path.stem)
        and not set(MASK_FOLDERS).intersection(path.relative_to(root).parts[:-1])
        and path.is_file()
    ]
    if not images:
        msg = f"found no image below '{root}'"
        raise FileNotFoundError(msg)
    return images


def find_duplicates(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Find files of identical content.

    Args:
        paths: Files to compare.

    Returns:
        SHA-256 in hexadecimal to the files that have it, two or more each, in the given order.

    Raises:
        OSError: If a file cannot be read.
    """
    files = defaultdict(list)
    for path in paths:
        files[hashlib.sha256(path.read_bytes()).hexdigest()].append(path)
    return {checksum: same for checksum, same in files.items() if len(same) > 1}


def report(root: Path) -> tuple[str, int]:
    """Describe the duplicates below a folder.

    Args:
        root: Folder of the data set.

    Returns:
        Text, and number of images that occur more than once.
    """
    images = images_below(root)
    duplicates = find_duplicates(images)
    lines, across = [], 0
    for checksum, same in duplicates.items():
        folders = sorted({path.parent.relative_to(root).as_posix() for path in same})
        across += len(folders) > 1
        lines += [checksum, *(f"  {path.relative_to(root).as_posix()}" for path in same)]
        lines.append(f"  in {len(folders)} folders: {', '.join(folders)}" if len(folders) > 1 else "  in one folder")
    lines.append(
        f"{len(images)} image files, {len(duplicates)} images in more than one of them, {across} of these in more than "
        "one folder"
    )
    return "\n".join(lines), len(duplicates)
