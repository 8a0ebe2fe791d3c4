# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Start-up hook: lets anomalib-ear register itself the moment anomalib is imported.

anomalib 2.7 has no entry point for plug-ins, so ``anomalib_ear.pth`` (Python < 3.15) or ``anomalib_ear.start``
(PEP 829) calls ``autoload`` when the interpreter starts. Nothing is imported then; all that happens is one more entry
on ``sys.meta_path``. Editable installs hold a copy of this file, so the logic lives in
``anomalib_ear.host.registration``.
"""

import os
import sys

TYPE_CHECKING = False  # importing typing would cost every interpreter start ten times more than this module
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

# Registration is tried after each of these: whichever of host and plug-in comes first, the other is not there yet.
WATCHED = frozenset(
    {"anomalib.data", "anomalib.engine", "anomalib.models", "anomalib_ear.data", "anomalib_ear.host.lightning_model"}
)
OFF_SWITCH = "ANOMALIB_EAR_AUTOLOAD"
_reported: "set[str]" = set()


def autoload() -> None:
    """Install the finder at interpreter start, unless ``ANOMALIB_EAR_AUTOLOAD=0``."""
    if os.environ.get(OFF_SWITCH) != "0":
        install()


def install() -> None:
    """Put the finder in front of the others, once."""
    if HostFinder not in sys.meta_path:
        sys.meta_path.insert(0, HostFinder)


def register() -> None:
    """Register with the parts of anomalib that are loaded; warn once, never raise: anomalib must work without Ear."""
    try:
        from anomalib_ear.host import registration

        registration.register()
    except Exception as error:  # noqa: BLE001  whatever is wrong with the plug-in, the host must go on
        import warnings

        msg = f"anomalib-ear is not registered, anomalib works without it: {error!r}. {OFF_SWITCH}=0 switches it off."
        if msg not in _reported:  # anomalib changes the warning filters, which would show it once per host
            _reported.add(msg)
            warnings.warn(msg, RuntimeWarning, stacklevel=2)


class HostFinder:
    """Meta-path finder that leaves every import alone and adds one step after those of ``WATCHED``."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        """Return None, or for a watched module the other finders' spec, set to register after execution."""
        if fullname not in WATCHED:
            return None
        for finder in sys.meta_path:
            if finder is not cls and hasattr(finder, "find_spec"):
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:
                    register_after(spec)
                    return spec
        return None


def register_after(spec: "ModuleSpec") -> None:
    """Wrap the loader's ``exec_module`` for one execution."""
    loader = spec.loader
    if loader is None:
        return
    execute = loader.exec_module

    def exec_module(module: "ModuleType") -> None:
        loader.exec_module = execute  # type: ignore[method-assign]  # first, because zip loaders are shared
        execute(module)
        register()

    loader.exec_module = exec_module  # type: ignore[method-assign]
