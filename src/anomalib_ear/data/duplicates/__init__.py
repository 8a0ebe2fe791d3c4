# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Images that occur more than once in a data set, byte for byte; ``__main__`` is the command."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from anomalib_ear.deploy.files import sha256
from anomalib_ear.deploy.photographs import Found, Search, as_one_line, seeming_masks


def images_below(root: Path) -> Found:
    """List the images below a folder, without masks.

    Links to files and folders are followed. A folder that several links lead to is searched once.

    Args:
        root: Folder of the data set.

    Returns:
        Image files by their path under the folder, and what else was there. A broken link is not reachable.

    Raises:
        FileNotFoundError: If the folder does not exist or has no image.
    """
    if not root.is_dir():
        msg = f"'{root}' is not a folder"
        raise FileNotFoundError(msg)
    search = Search()
    files = [*search.photographs(list(search.match(root, ("**", "*")))), *search.written]
    images = {path.relative_to(root): path for path in sorted(files) if path.is_file()}
    for mask in seeming_masks(images):
        del images[mask]
    broken = [f"{as_one_line(path)} cannot be reached: a broken link" for path in files if not path.is_file()]
    found = Found(images, search.left_out(), [*search.unreachable, *broken])
    if not images:
        seen = "".join(f". {text}" for text in (*found.unreachable, *found.left_out))
        msg = f"found no image below '{root}'{seen}"
        raise FileNotFoundError(msg)
    return found


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
        files[sha256(path)].append(path)
    return {checksum: same for checksum, same in files.items() if len(same) > 1}


def report(images: Mapping[Path, Path]) -> tuple[str, int]:
    """Describe the duplicates among images.

    Args:
        images: Image files by their path under the folder of the data set.

    Returns:
        Text, and number of images that occur more than once.

    Raises:
        OSError: If a file cannot be read.
    """
    names = {file: name for name, file in images.items()}
    duplicates = find_duplicates([*names])
    lines, across = [], 0
    for checksum, same in duplicates.items():
        folders = sorted({names[path].parent.as_posix() for path in same})
        across += len(folders) > 1
        lines += [checksum, *(f"  {as_one_line(names[path].as_posix())}" for path in same)]
        where = as_one_line(", ".join(folders))
        lines.append(f"  in {len(folders)} folders: {where}" if len(folders) > 1 else "  in one folder")
    lines.append(
        f"{len(images)} image files, {len(duplicates)} images in more than one of them, {across} of these in more than "
        "one folder"
    )
    return "\n".join(lines), len(duplicates)
