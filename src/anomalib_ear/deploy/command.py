# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What the line's commands have in common: how they read their arguments and what they print."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import jsonargparse

from anomalib_ear.deploy.photographs import Found, as_one_line, seeming_masks

# Status of processes that Ctrl-C ended.
INTERRUPTED = 130


def say(text: str, file: TextIO | None = None) -> None:
    """Print a line at once, whatever letters a name in it has; to standard output by default."""
    print(as_one_line(text), file=file, flush=True)


def fail(text: str) -> int:
    """Print an error as one line; returns the exit status for it."""
    say(f"error: {' '.join(text.split())}", sys.stderr)
    return 2


def say_found(found: Found) -> None:
    """Name what a search left out, where it could not search, and photographs that seem to be masks."""
    for kind, texts in (("left out", found.left_out), ("not searched", found.unreachable)):
        for text in texts:
            say(f"{kind}: {text}", sys.stderr)
    if masks := seeming_masks(found.files):
        say(f"{len(masks)} files like {masks[0]} are taken for photographs: are they masks?", sys.stderr)


def check_output(output: str) -> None:
    """Refuse an output that is no folder, or that nobody named, such as a variable of the shell that is not set.

    Raises:
        NotADirectoryError: If it is a file.
        ValueError: If it is empty, or begins with ``~``.
    """
    if not output.strip():
        msg = "--output is empty: give a folder."
        raise ValueError(msg)
    if output.startswith("~"):
        msg = f"--output {output} would be a folder named ~: write --output ~/..., with a space, or the whole path."
        raise ValueError(msg)
    if Path(output).exists() and not Path(output).is_dir():
        msg = f"--output {output} is a file: give a folder."
        raise NotADirectoryError(msg)


def run_command(function: Callable[..., int], arguments: list[str] | None = None) -> int:
    """Call a function by the arguments of the command line; returns its exit status.

    Args:
        function: Its parameters are the options.
        arguments: In place of the command line's.

    Raises:
        jsonargparse.ArgumentError: If an argument is wrong.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no terminal has all the letters of all names
    return int(jsonargparse.auto_cli(function, as_positional=False, args=arguments, exit_on_error=False))
