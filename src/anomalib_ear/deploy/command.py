# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What the line's commands have in common: how they read their arguments and what they print."""

import io
import sys
from collections.abc import Callable
from typing import TextIO

import jsonargparse

from anomalib_ear.deploy.photographs import as_one_line


def say(text: str, file: TextIO | None = None) -> None:
    """Print a line at once, whatever letters a name in it has; to standard output by default."""
    print(as_one_line(text), file=file, flush=True)


def fail(text: str) -> int:
    """Print an error as one line; returns the exit status for it."""
    say(f"error: {' '.join(text.split())}", sys.stderr)
    return 2


def check_output(output: str) -> None:
    """Refuse an output that nobody named, such as a variable of the shell that is not set.

    Raises:
        ValueError: If it is empty.
    """
    if not output:
        msg = "--output is empty: give a folder."
        raise ValueError(msg)


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
