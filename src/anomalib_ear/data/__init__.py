# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Data sets: each file of this package that defines a datamodule or data set offers it, here and on ``anomalib.data``.

Nothing here imports ``anomalib.models``.
"""

import inspect
import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Any

from anomalib.data import AnomalibDataModule, AnomalibDataset


def _collect() -> dict[str, type]:
    """Return the public datamodules and data sets of this package's modules by name."""
    modules = [import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        # Not isinstance(value, type), which on Python 3.10 is true of NDArray[np.float64] too.
        if issubclass(type(value), type)
        and issubclass(value, AnomalibDataModule | AnomalibDataset)
        and value.__module__ == module.__name__
        and not inspect.isabstract(value)
    }


_CLASSES = _collect()
globals().update(_CLASSES)
__all__ = sorted(_CLASSES)  # noqa: PLE0605  # a list, only not a literal

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:  # noqa: ANN401  # for type checkers, which see no name that is collected
        ...
