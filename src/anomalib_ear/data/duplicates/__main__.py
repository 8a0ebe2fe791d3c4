# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Report images that occur more than once in a data set, byte for byte, by SHA-256.

Prints one block per such image: the checksum, then the files below ROOT, then the folders they are in. A folder is a
split, a class or a part of the product, so an image in two of them may be a leak. KolektorSDD has kos01 twice (as
kos26), and kos27 (as kos34). Masks are not looked at, since empty ones are all alike: *_label.*, *_GT.*, *_mask.*, and
whatever lies in a folder masks, mask or ground_truth, or is no JPEG and lies beside one of its name.

Links are followed, and a folder that several lead to is searched once. What is left out is named on standard error.

The exit status is 0 if no image occurs twice, 1 if some do, and 2 if ROOT, or something below it, cannot be examined.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from anomalib_ear.data.duplicates import images_below, report
from anomalib_ear.deploy.command import say_found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m anomalib_ear.data.duplicates",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("root", metavar="ROOT", type=Path, help="folder of the data set")
    root = parser.parse_args(arguments).root
    try:
        found = images_below(root)
        say_found(found)
        text, count = report(found.files)
    except OSError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(text)
    return 2 if found.unreachable else int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
