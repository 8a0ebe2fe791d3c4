# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The command of the archive: ``python -m anomalib_ear.bulk``; see :mod:`anomalib_ear.deploy.bulk`."""

import sys

try:
    from anomalib_ear.deploy.bulk import main
except ModuleNotFoundError as error:
    if error.name not in {"ray", "pyarrow"}:
        raise
    sys.exit(f"error: no module {error.name}: install anomalib-ear[ray].")

if __name__ == "__main__":
    sys.exit(main())
