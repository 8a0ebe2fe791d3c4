# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""All that touches anomalib's modules: after ``register`` the stock command and ``get_model`` know ``Ear``.

anomalib 2.7 finds a model by walking the subclasses of ``AnomalibModule``, by looking at the attributes of
``anomalib.models``, or by a list of allowed modules, and a datamodule likewise on ``anomalib.data``. Its readers of
images are replaced, for the reasons given in :mod:`anomalib_ear.data.reading`.
"""

from __future__ import annotations

import functools
import inspect
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

MODELS = ("Ear",)
DATAMODULES = ("HeldOutFolder", "KolektorByPart", "KolektorSDD2", "SurfaceDemo")


def register() -> None:
    """Offer the models and datamodules to those of anomalib's modules that are loaded; may be called at any time.

    Call it as ``_anomalib_ear_hook.register()``, which turns a failure into a warning.
    """
    if models := _loaded("anomalib.models"):
        models.ALLOWED_MODULES.add("anomalib_ear")
        _offer(models, import_module("anomalib_ear.lightning_model"), MODELS)
    if data := _loaded("anomalib.data"):
        _offer(data, import_module("anomalib_ear.data"), DATAMODULES)
        import_module("anomalib_ear.data.reading").replace_readers()


def _loaded(name: str) -> ModuleType | None:
    """Return a host module once its own imports are done, which is when it has ``__all__``."""
    module = sys.modules.get(name)
    return module if hasattr(module, "__all__") else None


def _offer(host: ModuleType, source: ModuleType, names: tuple[str, ...]) -> None:
    """Put the classes on the host; one that does not exist yet comes when its module calls ``register`` at its end."""
    for name in names:
        if hasattr(source, name):
            setattr(host, name, getattr(source, name))
            if name not in host.__all__:
                host.__all__.append(name)


def keep_gates_in_export() -> None:
    """Let ``anomalib export`` heed ``--model.skip_gates``; may be called at any time.

    ``Engine.export`` builds the model anew from the checkpoint and forgets the one that the command line built.
    """
    from anomalib.engine import Engine  # noqa: PLC0415  # imports anomalib.models, which is not there yet at start-up

    if hasattr(Engine.export, "__wrapped__"):
        return
    signature = inspect.signature(Engine.export)

    @functools.wraps(Engine.export)
    def export(*args: Any, **kwargs: Any) -> object:  # noqa: ANN401  # the host's
        call = signature.bind(*args, **kwargs)
        model, ckpt_path = call.arguments["model"], call.arguments.get("ckpt_path")
        if ckpt_path and type(model).__name__ in MODELS and model.hparams.skip_gates is not None:
            call.arguments["model"] = model.load_from_checkpoint(ckpt_path, skip_gates=model.hparams.skip_gates)
            call.arguments["ckpt_path"] = None
        return export.__wrapped__(*call.args, **call.kwargs)

    Engine.export = export  # type: ignore[method-assign,assignment]
