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
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    from anomalib.engine import Engine


def register() -> None:
    """Offer Ear and its datamodules to those of anomalib's modules that are loaded; may be called at any time.

    Call it as ``_anomalib_ear_hook.register()``, which turns a failure into a warning.
    """
    if models := _loaded("anomalib.models"):
        models.ALLOWED_MODULES.add("anomalib_ear")
        _offer(models, "anomalib_ear.host.lightning_model")
    if data := _loaded("anomalib.data"):
        _offer(data, "anomalib_ear.data")
        import_module("anomalib_ear.data.reading").replace_readers()
    if engine := _loaded("anomalib.engine"):
        _heed_arguments_in_export(engine.Engine)
        _test_what_was_trained(engine.Engine)


def _loaded(name: str) -> ModuleType | None:
    """Return a host module once its own imports are done, which is when it has ``__all__``."""
    module = sys.modules.get(name)
    return module if hasattr(module, "__all__") else None


def _offer(host: ModuleType, source: str) -> None:
    """Put the public classes of a module on the host; a module that is still being imported comes later."""
    module = import_module(source)
    for name in getattr(module, "__all__", ()):
        if hasattr(module, name):
            setattr(host, name, getattr(module, name))
            if name not in host.__all__:
                host.__all__.append(name)


def _heed_arguments_in_export(kind: type[Engine]) -> None:
    """Let ``anomalib export`` heed the arguments of an Ear, as the other subcommands do.

    ``Engine.export`` builds the model anew from the checkpoint and forgets the one that the command line built.
    """
    host = kind.export
    if hasattr(host, "heeds_arguments"):
        return

    @functools.wraps(host)
    def export(*args: Any, **kwargs: Any) -> object:  # noqa: ANN401  # the host's
        call = inspect.signature(host).bind(*args, **kwargs)
        model, ckpt_path = call.arguments["model"], call.arguments.get("ckpt_path")
        if ckpt_path and isinstance(model, import_module("anomalib_ear.host.lightning_model").Ear):
            call.arguments["model"] = model.rebuilt_from(ckpt_path)
            call.arguments["ckpt_path"] = None
        return host(*call.args, **call.kwargs)

    export.heeds_arguments = True  # type: ignore[attr-defined]
    kind.export = export  # type: ignore[method-assign,assignment]


def _test_what_was_trained(kind: type[Engine]) -> None:
    """Let a training of an Ear that goes on from a checkpoint be tested by what it gave.

    ``Engine.train`` loads the checkpoint again before it tests: figures and the model in memory are then the old one's.
    """
    host = kind.train
    if hasattr(host, "tests_what_was_trained"):
        return

    @functools.wraps(host)
    def train(*args: Any, **kwargs: Any) -> object:  # noqa: ANN401  # the host's
        call = inspect.signature(host).bind(*args, **kwargs).arguments
        model = call["model"]
        if not (call.get("ckpt_path") and isinstance(model, import_module("anomalib_ear.host.lightning_model").Ear)):
            return host(*args, **kwargs)
        engine, loaders = call.pop("self"), call.pop("test_dataloaders", None)
        engine.fit(**call)
        return engine.trainer.test(model, loaders, datamodule=call.get("datamodule"))

    train.tests_what_was_trained = True  # type: ignore[attr-defined]
    kind.train = train  # type: ignore[method-assign,assignment]


def share_run_folder() -> None:
    """Let a process that was started for another one's training write into the other's run folder.

    ``Engine`` makes a folder in each process of a training, and ``latest`` would lead to one without a checkpoint.
    """
    from anomalib.engine import engine  # noqa: PLC0415  # as above
    from anomalib.utils.path import resolve_versioned_path  # noqa: PLC0415
    from lightning.fabric.utilities.rank_zero import rank_zero_only  # noqa: PLC0415

    if getattr(rank_zero_only, "rank", 0) > 0:
        latest: Any = lambda root: resolve_versioned_path(Path(root) / "latest")  # noqa: E731
        engine.create_versioned_dir = latest  # type: ignore[attr-defined]
