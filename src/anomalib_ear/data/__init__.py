# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Data sets of anomalib-ear; nothing here imports ``anomalib.models``."""

import _anomalib_ear_hook
from anomalib_ear.data.surface_demo import SurfaceDemo, SurfaceDemoDataset

__all__ = ["SurfaceDemo", "SurfaceDemoDataset"]

# When this package is the first import of all, anomalib.data was done before these classes existed.
_anomalib_ear_hook.register()
