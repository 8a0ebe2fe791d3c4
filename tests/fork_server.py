# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Runs each line of standard input, a JSON string of code, in a fork; answers with exit status, stdout and stderr.

Starting anomalib anew takes five to ten seconds, most of it for libraries. The code under test sees a fresh process in
which those of the arguments are loaded and anomalib is not.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import tempfile
import traceback


def run(code: str) -> int:
    """Execute the code as a script would be and return its exit status."""
    try:
        exec(compile(code, "<case>", "exec"), {"__name__": "__main__"})  # noqa: S102  that is its purpose
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # noqa: BLE001  as the interpreter does
        traceback.print_exc()
        return 1
    return 0


def answer(code: str) -> tuple[int, str, str]:
    """Fork, run the code there and collect what it wrote."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            status = run(code)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        _, status = os.waitpid(child, 0)
        out.seek(0)
        err.seek(0)
        return os.waitstatus_to_exitcode(status), out.read(), err.read()


if __name__ == "__main__":
    for library in sys.argv[1:]:
        with contextlib.suppress(ImportError):  # only speed depends on them
            importlib.import_module(library)
    assert "anomalib" not in sys.modules, "a library imports anomalib, so a fork would not be a fresh process"
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()
