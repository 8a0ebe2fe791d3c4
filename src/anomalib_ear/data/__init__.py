# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Data sets of anomalib-ear; nothing here imports ``anomalib.models``."""

import _anomalib_ear_hook
from anomalib_ear.data.kolektor_by_part import KolektorByPart, KolektorByPartDataset
from anomalib_ear.data.kolektor_sdd2 import KolektorSDD2, KolektorSDD2Dataset
from anomalib_ear.data.surface_demo import SurfaceDemo, SurfaceDemoDataset
from anomalib_ear.data.synthetic import HeldOutFolder, SyntheticDefectDataset

__all__ = [
    "HeldOutFolder",
    "KolektorByPart",
    "KolektorByPartDataset",
    "KolektorSDD2",
    "KolektorSDD2Dataset",
    "SurfaceDemo",
    "SurfaceDemoDataset",
    "SyntheticDefectDataset",
]

# When this package is the first import of all, anomalib.data was done before these classes existed.
_anomalib_ear_hook.register()
