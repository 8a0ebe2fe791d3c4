# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""EAR (Excision and Recovery) for anomalib: importing this package registers ``Ear`` and costs next to nothing.

``anomalib_ear.Ear``, ``anomalib_ear.EarModel`` and the data sets of ``anomalib_ear.data`` are imported on first use.
The distribution anomalib-ear-runtime has only ``anomalib_ear.infer`` and ``anomalib_ear.runtime``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

try:
    import _anomalib_ear_hook
except ModuleNotFoundError:  # anomalib-ear-runtime, which has nothing to register
    _anomalib_ear_hook = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from anomalib_ear.host.lightning_model import Ear
    from anomalib_ear.method.model import EarModel

__all__ = ["Ear", "EarModel", "__version__"]

__version__ = "0.1.0"

_SOURCES = {"Ear": "anomalib_ear.host.lightning_model", "EarModel": "anomalib_ear.method.model"}


def __getattr__(name: str) -> Any:  # noqa: ANN401  # a class
    """Import a public name on first use (PEP 562)."""
    if name not in _SOURCES and not name[:1].isupper():  # only classes, so that asking for a submodule imports no more
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    try:
        module = import_module(_SOURCES.get(name, "anomalib_ear.data"))
    except ModuleNotFoundError as error:
        if error.name not in {"anomalib_ear.data", "anomalib_ear.host", "anomalib_ear.method"}:
            raise
        msg = f"{name} comes with anomalib-ear, but anomalib-ear-runtime is installed: uninstall it, install the other."
        raise ImportError(msg) from error
    globals()[name] = value = getattr(module, name)
    return value


def __dir__() -> list[str]:
    """List the public names that are not imported yet too."""
    return sorted({*globals(), *__all__})


# The start-up hook did this already, except under `python -S`, `pip install --target` and in frozen applications.
if _anomalib_ear_hook is not None:
    _anomalib_ear_hook.install()
    _anomalib_ear_hook.register()
