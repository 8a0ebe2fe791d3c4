# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Fresh processes that do not have to import torch and the like, which takes most of a command's time."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SERVER = Path(__file__).with_name("fork_server.py")


class Result(NamedTuple):
    """How a piece of code ended."""

    returncode: int
    stdout: str
    stderr: str


class ForkServer:
    """A started interpreter that runs code in forks of itself; it ends with the process that started it.

    Args:
        python: The interpreter.
        libraries: Modules that it loads first; those that are missing are left out.
        environment: Its variables.
        cwd: Its working directory.
    """

    def __init__(self, python: str | Path, libraries: Sequence[str], environment: Mapping[str, str], cwd: Path) -> None:
        self._process = subprocess.Popen(
            [python, SERVER, *libraries],
            env=environment,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, code: str) -> Result:
        """Run code as a script in a fork."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        return Result(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End it."""
        self._process.communicate()
