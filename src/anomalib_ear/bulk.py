# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The command of the archive: ``python -m anomalib_ear.bulk``; see :mod:`anomalib_ear.deploy.bulk`."""

import os
import sys

# Ray reads these when it is imported. It would report its use to its makers, try for minutes to reach a cluster that
# does not answer, and print what its own files of logs have too.
_RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_NUM_REDIS_GET_RETRIES": "1", "RAY_BACKEND_LOG_LEVEL": "fatal"}


def main() -> int:
    """Run the command, if Ray is there."""
    os.environ |= _RAY | os.environ
    try:
        from anomalib_ear.deploy import bulk  # noqa: PLC0415  after the environment is set
    except ModuleNotFoundError as error:
        if error.name not in {"ray", "pyarrow"}:
            raise
        print(f"error: no module {error.name}: pip install 'ray[data]'.", file=sys.stderr)
        return 2
    return bulk.main()


if __name__ == "__main__":
    sys.exit(main())
