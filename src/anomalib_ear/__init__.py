# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""EAR (Excision and Recovery) for anomalib: importing this package registers ``Ear`` and costs next to nothing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import _anomalib_ear_hook

if TYPE_CHECKING:
    from anomalib_ear.method.attention import SpatialAttention
    from anomalib_ear.data import HeldOutFolder, KolektorByPart, KolektorSDD2, SurfaceDemo
    from anomalib_ear.host.lightning_model import Ear
    from anomalib_ear.method.model import EarModel
    from anomalib_ear.method.unet import SkipGatedUNet

__all__ = [
    "Ear",
    "EarModel",
    "HeldOutFolder",
    "KolektorByPart",
    "KolektorSDD2",
    "SkipGatedUNet",
    "SpatialAttention",
    "SurfaceDemo",
    "__version__",
]

__version__ = "0.1.0"

_SOURCES = {
    "Ear": "anomalib_ear.host.lightning_model",
    "EarModel": "anomalib_ear.method.model",
    "HeldOutFolder": "anomalib_ear.data",
    "KolektorByPart": "anomalib_ear.data",
    "KolektorSDD2": "anomalib_ear.data",
    "SkipGatedUNet": "anomalib_ear.method.unet",
    "SpatialAttention": "anomalib_ear.method.attention",
    "SurfaceDemo": "anomalib_ear.data",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562)."""
    if name not in _SOURCES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    globals()[name] = value = getattr(import_module(_SOURCES[name]), name)
    return value


def __dir__() -> list[str]:
    """List the public names that are not imported yet too."""
    return sorted({*globals(), *__all__})


# The start-up hook did this already, except under `python -S`, `pip install --target` and in frozen applications.
_anomalib_ear_hook.install()
_anomalib_ear_hook.register()
