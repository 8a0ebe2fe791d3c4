# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The command of the line: ``python -m anomalib_ear.infer``; see :mod:`anomalib_ear.deploy.infer`."""

import sys

from anomalib_ear.deploy.infer import main

if __name__ == "__main__":
    sys.exit(main())
